"""`gradsight fix`: shows what would change, or changes it.

A file is written whole or not at all, and not if it changed while we looked at it. What no fix touches
stays the same byte for byte; `--diff` shows exactly the bytes that `--write` writes.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from gradsight import configuration
from gradsight.engine import Engine
from gradsight.finding import Applicability, Edit, Finding, Fix, Severity, apply
from gradsight.text import Source, Span

from gradsight_cli.checking import to_report
from gradsight_cli.discovery import files
from gradsight_cli.painting import Line, counted, printer, wants_colour
from gradsight_cli.projects import Projects
from gradsight_cli.reading import File, Unreadable, display, read

# Rounds until nothing changes. Overlapping fixes wait for the next one; more rounds than this are two rules
# that undo each other's work.
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Fixed:
    """A file's text after the fixes, how many were made, and what is still found in it."""

    text: str
    made: tuple[str, ...]
    left: tuple[Finding, ...]


def fix(options: argparse.Namespace) -> int:
    """Fix the paths; returns the exit code.

    Without `--write`: 1 if anything would change. With it: 1 if something at `warning` or above is left.
    """
    projects = Projects(options.isolated)
    engine = Engine(
        lambda where, error: print(f"gradsight: {where} failed: {to_report(error)}", file=sys.stderr)
    )
    wanted = {Applicability.SAFE, Applicability.UNSAFE} if options.unsafe else {Applicability.SAFE}
    trouble = False
    made = changed = left = 0
    for path in _paths(options.paths, projects):
        name = display(path)
        try:
            file = read(path)
            fixed = fix_text(
                engine, Source(name, file.text), wanted, projects.of(os.path.dirname(path)).configuration
            )
            raw = _encode(file, fixed.text)
            if raw != file.raw:
                if options.write:
                    write(path, file.raw, raw)
                    for title in fixed.made:
                        print(f"{name}: {title}")
                else:
                    _print_diff(name, file.raw, raw, options.color)
                changed += 1
                made += len(fixed.made)
            left += sum(finding.severity.rank <= Severity.WARNING.rank for finding in fixed.left)
        except Unreadable as error:
            print(f"gradsight: {name}: {error}", file=sys.stderr)
            trouble = True
        except configuration.BadConfiguration:
            raise
        except Exception as error:
            print(f"gradsight: {name}: {to_report(error)}", file=sys.stderr)
            trouble = True
    verb = "made" if options.write else "would be made"
    hint = "" if options.write or not made else f"; `--write` makes {'it' if made == 1 else 'them'}"
    more = f"; {left} at warning or above left" if left else ""
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
            if key in seen or (file.endswith(".ipynb") and file != path):
                continue
            seen.add(key)
            yield file


def fix_text(
    engine: Engine, source: Source, wanted: set[Applicability], settings: configuration.Configuration
) -> Fixed:
    """Apply the first wanted fix of each finding, in rounds until nothing changes."""
    made: list[str] = []
    seen = {source.text}
    findings = configuration.apply(settings, engine.analyze(source).findings)
    for _ in range(_ROUNDS):
        chosen = []
        for finding in findings:
            fixes = (each for each in engine.fixes(source, finding) if each.applicability in wanted)
            chosen += [
                (finding, each) for each in fixes if all(edit.file == source.file for edit in each.edits)
            ][:1]
        text, titles = _apply_together(source.text, chosen)
        if text in seen:
            break
        seen.add(text)
        made += titles
        source = Source(source.file, text)
        findings = configuration.apply(settings, engine.analyze(source).findings)
    return Fixed(source.text, tuple(made), findings)


def _apply_together(text: str, chosen: list[tuple[Finding, Fix]]) -> tuple[str, list[str]]:
    """The text after all fixes that touch no place of an earlier one, and their titles."""
    parses = _parses(text)
    edits: tuple[Edit, ...] = ()
    titles = []
    result = text
    for finding, each in chosen:
        own = tuple(_with_line_ends(text, edit) for edit in each.edits)
        if not own or any(_touch(a.where, b.where) for a in own for b in edits):
            continue
        changed = apply(text, edits + own)
        if parses and not _parses(changed):
            print(
                f"gradsight: {finding.file}: the fix `{each.title}` of {finding.code} would break the file "
                "and was not made: this is a bug in Gradsight; please report it with the file",
                file=sys.stderr,
            )
            continue
        edits += own
        result = changed
        titles.append(f"{finding.code}: {each.title}")
    return result, titles


def _parses(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a user's invalid escapes are not our report
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


def _touch(a: Span, b: Span) -> bool:
    return a.start <= b.end and b.start <= a.end


def _with_line_ends(text: str, edit: Edit) -> Edit:
    """The edit with the line ends of the text that it goes into."""
    if "\r\n" not in text or "\n" not in edit.text:
        return edit
    return replace(edit, text=edit.text.replace("\r\n", "\n").replace("\n", "\r\n"))


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
