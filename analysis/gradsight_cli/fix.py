"""`gradsight fix`: shows what would change, or changes it.

A file is written whole or not at all, and not if it changed while we looked at it. What no fix touches
stays the same byte for byte; `--diff` shows exactly what `--write` writes: of a notebook the text of each
cell that changes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator

from gradsight import configuration
from gradsight.engine import Engine
from gradsight.finding import Applicability, Finding, Fix, Severity
from gradsight.notebook import Cell, Notebook
from gradsight.pages import PAGES
from gradsight.rounds import fix_text, program_of
from gradsight.text import Source

from gradsight_cli.checking import to_document, to_report
from gradsight_cli.discovery import files
from gradsight_cli.painting import Line, counted, printer, wants_colour
from gradsight_cli.probing import compare
from gradsight_cli.projects import Projects
from gradsight_cli.reading import File, OtherLanguage, Unreadable, display, read


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
    trouble = False
    made = changed = left = 0
    for path in _paths(options.paths, projects):
        name = display(path)
        try:
            file = read(path)
            document = to_document(name, file.text)
            fixed = fix_text(
                engine,
                document,
                wanted,
                projects.of(os.path.dirname(path)).configuration,
                _tell,
                only,
            )
            raw = _encode(file, _to_text(file, document, fixed.document))
            if raw != file.raw:
                compared = compare(path, document, fixed.document, options) if options.probe else None
                if not options.write:
                    for head, old, new in _changes(name, file.raw, raw, document, fixed.document):
                        _print_diff(head, old, new, options.color)
                elif compared is not None and compared.is_worse:
                    raise Unreadable(f"not changed: {compared.summary}")
                else:
                    write(path, file.raw, raw)
                    for title in fixed.made:
                        print(f"{name}: {title}")
                if compared is not None:
                    print(f"{name}: {compared.summary}", flush=True)
                changed += 1
                made += len(fixed.made)
            left += sum(finding.severity.rank <= Severity.WARNING.rank for finding in fixed.left)
        except Unreadable as error:
            print(f"gradsight: {name}: {error}", file=sys.stderr)
            trouble = True
        except OtherLanguage as error:
            if path in options.paths:
                print(f"gradsight: {name}: passed over: {error}", file=sys.stderr)
        except configuration.BadConfiguration:
            raise
        except Exception as error:
            print(f"gradsight: {name}: {to_report(error)}", file=sys.stderr)
            trouble = True
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


def write(path: str, before: bytes, after: bytes) -> None:
    """Replace the content of a file, if it still is `before`.

    Raises:
        Unreadable: it is not, or it cannot be written. The file is then as it was.
    """
    import tempfile

    target = os.path.realpath(path)  # a link stays a link

    if not os.access(target, os.W_OK):
        raise Unreadable("is read-only and was not changed")
    try:
        descriptor, temporary = tempfile.mkstemp(
            prefix=".gradsight-", suffix=".tmp", dir=os.path.dirname(target)
        )
    except OSError as error:
        raise Unreadable(f"cannot be written: {(error.strerror or str(error)).lower()}") from None
    try:
        with open(descriptor, "wb") as stream:
            stream.write(after)
            stream.flush()
            os.fsync(stream.fileno())
        status = os.stat(target)
        os.chmod(temporary, status.st_mode & 0o7777)
        if hasattr(os, "chown") and (status.st_uid, status.st_gid) != (os.getuid(), os.getgid()):
            os.chown(temporary, status.st_uid, status.st_gid)
        with open(target, "rb") as stream:
            now = stream.read()
        if now != before:
            raise Unreadable("changed while it was being checked, and was left alone: run it again")
        os.replace(temporary, target)
    except OSError as error:
        raise Unreadable(f"cannot be written: {(error.strerror or str(error)).lower()}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


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
