"""Files to findings: read, look into the cache, analyse; on all cores where that pays.

One file's trouble (not text, a bug of ours) is a `problem` of its result and costs no other file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gradsight.finding import Finding, Fix
from gradsight.text import Source

from gradsight_cli import __version__
from gradsight_cli.cache import Cache
from gradsight_cli.reading import File, OtherLanguage, Unreadable, display, is_notebook, read
from gradsight_cli.surroundings import Surroundings

if TYPE_CHECKING:
    from gradsight.engine import Engine, Silence
    from gradsight.notebook import Notebook

# Below this much text one process is done before others have started.
_WORTH_A_POOL = 400_000  # bytes


class Checked(NamedTuple):
    """What one file came to. `text` is all of it, empty where nothing has to be shown."""

    file: str
    text: str = ""
    findings: tuple[Finding, ...] = ()
    silences: tuple[Silence, ...] = ()
    fixes: tuple[tuple[Fix, ...], ...] = ()  # one tuple a finding, where fixes were asked for
    elsewhere: tuple[Finding, ...] = ()  # what it shows to be wrong in other files
    problem: str | None = None  # why it could not be checked
    passed_over: str | None = None  # why there is nothing to check
    bugs: tuple[str, ...] = ()  # what single rules could not do, though the file was checked


class Task(NamedTuple):
    """One file to check."""

    path: str
    cache_root: str | None = None
    with_fixes: bool = False
    with_silences: bool = False
    root: str | None = None  # the top of its project; without one no other file is looked into


def check_all(tasks: Sequence[Task], jobs: int) -> Iterator[Checked]:
    """The result of each task, in their order."""
    if jobs > 1 and len(tasks) > 1 and _size(tasks) > _WORTH_A_POOL:
        yield from _in_parallel(tasks, min(jobs, len(tasks)))
    else:
        yield from map(check_file, tasks)


def _size(tasks: Iterable[Task]) -> int:
    total = 0
    for task in tasks:
        try:
            total += os.path.getsize(task.path)
        except OSError:
            continue
    return total


def _in_parallel(tasks: Sequence[Task], jobs: int) -> Iterator[Checked]:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    import gradsight.engine  # noqa: F401  once, before forking: the others inherit it

    done = 0
    with ProcessPoolExecutor(jobs, initializer=_leave_interrupts_to_the_parent) as pool:
        try:
            for result in pool.map(check_file, tasks, chunksize=max(1, min(16, len(tasks) // (4 * jobs)))):
                done += 1
                yield result
        except BrokenProcessPool:
            for task in tasks[done:]:
                yield Checked(
                    display(task.path), problem="a worker process was killed; try again with `--jobs 1`"
                )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _leave_interrupts_to_the_parent() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def check_file(task: Task) -> Checked:
    """Read and analyse one file."""
    try:
        file = read(task.path)
    except Unreadable as error:
        return Checked(display(task.path), problem=str(error))
    return check_text(display(task.path), file, task)


def check_text(name: str, file: File, task: Task) -> Checked:
    """Analyse what was read from a file."""
    cache = Cache(task.cache_root) if task.cache_root is not None and not task.with_fixes else None
    found = cache.get(task.path, name, file.raw) if cache is not None else None
    fixes: tuple[tuple[Fix, ...], ...] = ()
    elsewhere: tuple[Finding, ...] = ()
    if found is None:
        _BUGS.clear()
        try:
            document = to_document(name, file.text)
            engine = _engine()
            source = document if isinstance(document, Source) else document.source
            around = _surroundings(task.root) if task.root is not None else None
            result = engine.analyze(source, around, at_once=True)
            found = result.findings, result.silences
            elsewhere = result.elsewhere
            if task.with_fixes:
                from gradsight.rounds import fixes_of

                fixes = tuple(fixes_of(engine, document, finding) for finding in result.findings)
        except Unreadable as error:
            return Checked(name, problem=str(error))
        except OtherLanguage as error:
            return Checked(name, passed_over=str(error))
        except Exception as error:
            return Checked(name, problem=f"could not be checked: {to_report(error)}")
        if cache is not None and not _BUGS and not (around is not None and around.asked):
            cache.put(task.path, name, file.raw, *found)
    findings, silences = found
    if not task.with_silences:
        silences = ()
    bugs = tuple(_BUGS)
    _BUGS.clear()
    text = file.text if findings or silences else ""
    return Checked(name, text, findings, silences, fixes, elsewhere, bugs=bugs)


def to_document(name: str, text: str) -> Source | Notebook:
    """The program that a file is.

    Raises:
        Unreadable: it should be a notebook and is none.
        OtherLanguage: it is a notebook that is not in Python.
    """
    if not is_notebook(name):
        return Source(name, text)
    from gradsight.notebook import Notebook  # most runs meet none

    from gradsight_cli.ipynb import to_cells

    return Notebook(name, to_cells(text))


_ENGINE: Engine | None = None
_AROUND: dict[str, Surroundings] = {}  # by the project's top folder
_BUGS: list[str] = []  # of the file that is being checked


def _engine() -> Engine:
    """The engine of this process: its memo is shared by all files."""
    global _ENGINE
    if _ENGINE is None:
        from gradsight.engine import Engine  # not needed where the cache knows the answer

        _ENGINE = Engine(lambda where, error: _BUGS.append(f"{where} failed: {to_report(error)}"))
    return _ENGINE


def _surroundings(root: str) -> Surroundings:
    """The files around those of a project, nothing asked of them yet."""
    if root not in _AROUND:
        _AROUND[root] = Surroundings(root)
    _AROUND[root].asked = False
    return _AROUND[root]


def to_report(error: BaseException) -> str:
    """A bug of ours in one line, with all that its report needs."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        place = f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    text = f": {error}" if str(error) else ""
    return (
        f"this is a bug in Gradsight {__version__} ({type(error).__name__}{place}{text}); "
        "please report it with the file"
    )
