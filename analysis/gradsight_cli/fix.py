"""`gradsight fix`: shows what would change, or changes it.

A file is written whole or not at all, and not if it changed while we looked at it; so are all files together
that one fix changes. What no fix touches
stays the same byte for byte; `--diff` shows exactly what `--write` writes: of a notebook the text of each
cell that changes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gradsight import configuration
from gradsight.engine import Engine
from gradsight.finding import Applicability, Finding, Fix, Severity
from gradsight.importing import Files
from gradsight.linking import ASKS
from gradsight.notebook import Cell, Notebook
from gradsight.pages import PAGES
from gradsight.rounds import ROUNDS, abroad, crossings, fix_text, program_of
from gradsight.syntax import parses
from gradsight.text import Source

from gradsight_cli.checking import to_document, to_report
from gradsight_cli.discovery import files
from gradsight_cli.painting import Line, counted, printer, wants_colour
from gradsight_cli.probing import compare
from gradsight_cli.projects import Projects
from gradsight_cli.reading import File, OtherLanguage, Unreadable, display, read
from gradsight_cli.surroundings import Surroundings, top_of


def fix(options: argparse.Namespace) -> int:
    """Fix the paths; returns the exit code.

    Without `--write`: 1 if anything would change. With it: 1 if something at `warning` or above is left.
    """
    projects = Projects(options.isolated)
    engine = Engine(
        lambda where, error: print(f"gradsight: {where} failed: {to_report(error)}", file=sys.stderr)
    )
    wanted = {Applicability.SAFE, Applicability.UNSAFE} if options.unsafe else {Applicability.SAFE}
    only = frozenset(code.upper() for code in options.only or ())
    if unknown := sorted(only - {page.code for page in PAGES}):
        print(f"gradsight: `{unknown[0]}` is no rule: `gradsight rules` lists them", file=sys.stderr)
        return 2
    if not options.probe and (options.python, options.call, options.timeout) != (None, None, None):
        print(
            "gradsight: --python, --call and --timeout say how to run it: give --probe too", file=sys.stderr
        )
        return 2
    plans, trouble = [], False
    around: dict[str, Surroundings] = {}
    for path in _paths(options.paths, projects):
        settings = projects.of(os.path.dirname(path)).configuration
        with _told(display(path), options.paths, path) as done:
            root = top_of(path, projects.of(os.path.dirname(path)).root)
            files = around.setdefault(root, Surroundings(root))
            plans.append(_planned(engine, path, wanted, settings, only, files))
        trouble = trouble or not done
    groups = [[plan] for plan in plans]
    if not options.probe:  # what is run is one file
        groups = _crossed(engine, plans, wanted, projects, only)
    loud = [finding for plan in plans for finding in plan.left if _is_loud(finding)]
    left = len({(finding.code, finding.file, finding.where) for finding in loud})
    made = changed = 0
    for group in groups:
        with _told(group[0].name, options.paths, group[0].path) as done:
            count = _carried_out(group, options)
            changed += count
            made += sum(len(plan.made) for plan in group) if count else 0
        trouble = trouble or not done
    verb = "made" if options.write else "would be made"
    hint = "" if options.write or not made else f"; `--write` makes {'it' if made == 1 else 'them'}"
    more = f"; {left} at warning or above left" if left else ""
    if left and not options.unsafe:
        more += " (`--unsafe` also makes fixes that change what is computed)"
    print(
        f"gradsight: {counted(made, 'fix')} {verb} in {counted(changed, 'file')}{hint}{more}", file=sys.stderr
    )
    if trouble:
        return 2
    return int(left > 0 if options.write else changed > 0)


@dataclass(slots=True)
class _Plan:
    """One file, and what becomes of it."""

    path: str
    name: str
    file: File
    document: Source | Notebook
    fixed: Source | Notebook
    made: list[str]
    left: tuple[Finding, ...]


@contextmanager
def _told(name: str, asked: Iterable[str], path: str) -> Iterator[list[None]]:
    """What goes wrong with one file is told and costs that file alone; in the end the list is empty then."""
    done: list[None] = []
    try:
        yield done
        done.append(None)
    except Unreadable as error:
        print(f"gradsight: {name}: {error}", file=sys.stderr)
    except OtherLanguage as error:
        done.append(None)
        if path in asked:
            print(f"gradsight: {name}: passed over: {error}", file=sys.stderr)
    except configuration.BadConfiguration:
        raise
    except Exception as error:
        print(f"gradsight: {name}: {to_report(error)}", file=sys.stderr)


def _planned(
    engine: Engine,
    path: str,
    wanted: Collection[Applicability],
    settings: configuration.Configuration,
    only: Collection[str],
    files: Files,
) -> _Plan:
    """The fixes that one file needs in itself."""
    name, file = display(path), read(path)
    document = to_document(name, file.text)
    fixed = fix_text(engine, document, wanted, settings, _tell, only, files)
    return _Plan(path, name, file, document, fixed.document, list(fixed.made), fixed.left)


def _crossed(
    engine: Engine,
    plans: Sequence[_Plan],
    wanted: Collection[Applicability],
    projects: Projects,
    only: Collection[str],
) -> list[list[_Plan]]:
    """Make the fixes that change several of the files, or another one than that which shows the mistake.

    Returns the files that have to be written together. A fix that would change a file that nobody named is
    not made.
    """
    by_name = {plan.name: plan for plan in plans if isinstance(plan.fixed, Source)}
    groups = {plan.name: [plan] for plan in plans}
    around: dict[str, _Around] = {}

    def settings(file: str) -> configuration.Configuration:
        return projects.of(os.path.dirname(os.path.abspath(file))).configuration

    def surroundings(plan: _Plan) -> _Around:
        root = top_of(plan.path, projects.of(os.path.dirname(plan.path)).root)
        return around.setdefault(root, _Around(root, by_name))

    seen = {(plan.name, program_of(plan.fixed).text) for plan in plans}

    def one(plan: _Plan) -> bool:
        """Make one of the fixes that a file shows; False where there is none."""
        source = program_of(plan.fixed)
        for crossing in crossings(engine, source, surroundings(plan), wanted, settings, only):
            changed = crossing.sources
            if not all(each.file in by_name for each in changed):
                continue
            if all((each.file, each.text) in seen for each in changed):
                continue
            if not all(parses(each.text) for each in changed):
                _tell(crossing.finding, crossing.fix)
                continue
            together: list[_Plan] = []
            for each in changed:
                by_name[each.file].fixed = each
                seen.add((each.file, each.text))
            by_name[changed[0].file].made.append(f"{crossing.finding.code}: {crossing.fix.title}")
            for name in (plan.name, *(each.file for each in changed)):
                together += [other for other in groups[name] if other not in together]
            for other in together:
                groups[other.name] = together
            return True
        return False

    asking = {plan.name: plan for plan in by_name.values() if program_of(plan.fixed).lines_with(ASKS)}
    for _ in range(ROUNDS):
        crossed = [plan for plan in asking.values() if one(plan)]
        if not crossed:
            break
        # What these files show is another thing now, and may be mended in one of them alone.
        affected = {other.name: other for each in crossed for other in groups[each.name]}
        for plan in {**asking, **affected}.values():
            own = settings(plan.name)
            fixed = fix_text(engine, plan.fixed, wanted, own, _tell, only, surroundings(plan))
            plan.fixed, plan.left = fixed.document, fixed.left
            plan.made += fixed.made
            seen.add((plan.name, fixed.text))
    for plan in asking.values():
        elsewhere = abroad(engine, program_of(plan.fixed), surroundings(plan), settings, only)
        plan.left = (*(each for each in plan.left if not each.abroad), *elsewhere)
    return list({id(group): group for group in groups.values()}.values())


class _Around:
    """The files of a project as they are with the fixes made so far."""

    state = None

    def __init__(self, root: str, plans: Mapping[str, _Plan]) -> None:
        self._disk, self._plans = Surroundings(root), plans

    def read(self, file: str) -> Source | None:
        """One of them; None where there is none."""
        plan = self._plans.get(display(file))
        return program_of(plan.fixed) if plan is not None else self._disk.read(file)


def _carried_out(group: Sequence[_Plan], options: argparse.Namespace) -> int:
    """Show or write what becomes of files that change together; how many do.

    Raises:
        Unreadable: one of them cannot be written. None of them is then.
    """
    changes = []
    for plan in group:
        raw = _encode(plan.file, _to_text(plan.file, plan.document, plan.fixed))
        if raw != plan.file.raw:
            changes.append((plan, raw))
    compared = None
    if changes and options.probe:
        plan = changes[0][0]
        compared = compare(plan.path, plan.document, plan.fixed, options)
    if not options.write:
        for plan, raw in changes:
            for head, old, new in _changes(plan.name, plan.file.raw, raw, plan.document, plan.fixed):
                _print_diff(head, old, new, options.color)
    elif compared is not None and compared.is_worse:
        raise Unreadable(f"not changed: {compared.summary}")
    else:
        write_together([(plan.path, plan.file.raw, raw) for plan, raw in changes])
        for plan, _ in changes:
            for title in plan.made:
                print(f"{plan.name}: {title}")
    if compared is not None:
        print(f"{group[0].name}: {compared.summary}", flush=True)
    return len(changes)


def _is_loud(finding: Finding) -> bool:
    return finding.severity.rank <= Severity.WARNING.rank


def _paths(given: Iterable[str], projects: Projects) -> Iterator[str]:
    seen: set[str] = set()
    for path in given:
        for file in files(path, projects):
            key = os.path.realpath(file)
            if key in seen:
                continue
            seen.add(key)
            yield file


def _tell(finding: Finding, broken: Fix) -> None:
    print(
        f"gradsight: {finding.file}: the fix `{broken.title}` of {finding.code} would break the file and was "
        "not made: this is a bug in Gradsight; please report it with the file",
        file=sys.stderr,
    )


def _to_text(file: File, before: Source | Notebook, after: Source | Notebook) -> str:
    """The text of the file after the fixes."""
    if isinstance(before, Source) or isinstance(after, Source):
        return program_of(after).text
    from gradsight_cli.ipynb import with_texts

    texts = {new.number: new.text for _, new in _changed_cells(before, after)}
    return with_texts(file.text, texts) if texts else file.text


def _changes(
    name: str, raw: bytes, new_raw: bytes, before: Source | Notebook, after: Source | Notebook
) -> Iterator[tuple[str, bytes, bytes]]:
    """What a diff shows, by name, before and after: the file, or each cell that changes."""
    if isinstance(before, Source) or isinstance(after, Source):
        yield name, raw, new_raw
        return
    for old, new in _changed_cells(before, after):
        # Hardly a cell ends its last line, and saying so each time would help nobody.
        was, will_be = (
            (each.text if each.text.endswith("\n") else each.text + "\n").encode("utf-8", "surrogatepass")
            for each in (old, new)
        )
        yield f"{name}:cell {old.number}", was, will_be


def _changed_cells(before: Notebook, after: Notebook) -> Iterator[tuple[Cell, Cell]]:
    for old, new in zip(before.cells, after.cells, strict=True):
        if old.text != new.text:
            yield old, new


def _encode(file: File, text: str) -> bytes:
    if text == file.text:
        return file.raw
    if file.encode(file.text) != file.raw:
        raise Unreadable(
            f"cannot be written back in {file.encoding} without changing other bytes: save it as UTF-8"
        )
    try:
        return file.encode(text)
    except UnicodeEncodeError:
        raise Unreadable(
            f"the fix needs a character that {file.encoding} does not have: save it as UTF-8"
        ) from None


def write_together(changes: Sequence[tuple[str, bytes, bytes]]) -> None:
    """Replace the contents of files (path, what it is, what it becomes), if each still is what it was.

    Raises:
        Unreadable: one is not, or cannot be written. All are then as they were.
    """
    staged: list[tuple[str, str, bytes]] = []
    written: list[tuple[str, bytes]] = []
    try:
        for path, before, after in changes:
            with _named(path, len(changes)):
                staged.append((path, _staged(path, after), before))
        for path, temporary, before in staged:
            with _named(path, len(changes)):
                target = os.path.realpath(path)
                with open(target, "rb") as stream:
                    now = stream.read()
                if now != before:
                    raise Unreadable("changed while it was being checked, and was left alone: run it again")
                os.replace(temporary, target)
                written.append((target, before))
    except Unreadable:
        for target, before in written:
            os.replace(_staged(target, before), target)
        raise
    finally:
        for _, temporary, _ in staged:
            if os.path.exists(temporary):
                os.unlink(temporary)


@contextmanager
def _named(path: str, files: int) -> Iterator[None]:
    """What the system refuses, as a sentence; of several files it names the one."""
    try:
        yield
    except (OSError, Unreadable) as error:
        why = str(error)
        if isinstance(error, OSError):
            why = f"cannot be written: {(error.strerror or str(error)).lower()}"
        raise Unreadable(f"{display(path)} {why}, and nothing was changed" if files > 1 else why) from None


def _staged(path: str, content: bytes) -> str:
    """A new file beside another one, which can take its place: its path."""
    import tempfile

    target = os.path.realpath(path)  # a link stays a link
    if not os.access(target, os.W_OK):
        raise Unreadable("is read-only and was not changed")
    descriptor, temporary = tempfile.mkstemp(prefix=".gradsight-", suffix=".tmp", dir=os.path.dirname(target))
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        status = os.stat(target)
        os.chmod(temporary, status.st_mode & 0o7777)
        if hasattr(os, "chown") and (status.st_uid, status.st_gid) != (os.getuid(), os.getgid()):
            os.chown(temporary, status.st_uid, status.st_gid)
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def _print_diff(name: str, before: bytes, after: bytes, colour: str) -> None:
    """A unified diff, byte for byte: neither encodings nor line ends get in between."""
    from difflib import unified_diff

    old, new = (_lines(raw.decode("latin-1")) for raw in (before, after))
    head = name.encode(errors="surrogateescape").decode("latin-1")
    lines = unified_diff(old, new, head, head)
    text = "".join(
        line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines
    )
    raw = text.encode("latin-1")
    if wants_colour(sys.stdout, colour):
        shown = raw.decode("utf-8", errors="replace").split("\n")[:-1]
        printer(sys.stdout, colour).print(map(_paint, shown))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(raw)
    sys.stdout.buffer.flush()


def _lines(text: str) -> list[str]:
    pieces = text.split("\n")
    return [piece + "\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def _paint(line: str) -> Line:
    if line.startswith(("---", "+++")):
        return [(line, "file")]
    return [(line, {"+": "added", "-": "removed", "@": "hunk"}.get(line[:1], ""))]
