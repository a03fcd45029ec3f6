"""For people: the source line with the span underlined, the way of the gradient as numbered steps, the fixes.

Yields lines of styled pieces; `painting` decides whether the styles show. No character of the user's source
can steer the terminal: what does not print is replaced.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from gradsight.finding import Applicability, Finding, Fix
from gradsight.text import Source, Span

from gradsight_cli.checking import Checked
from gradsight_cli.formats import Texts
from gradsight_cli.painting import Line

_TAB = 4
_ROWS = 6  # of a long span, at most
_WIDTH = 160  # of a source line; longer ones are shown around the span

_APPLICABILITY = {
    Applicability.SAFE: "fix",
    Applicability.UNSAFE: "unsafe fix",
    Applicability.DISPLAY: "fix to complete by hand",
}


def to_lines(checked: Checked, texts: Texts) -> Iterator[Line]:
    """The lines of one file, a blank one behind each finding."""
    for number, finding in enumerate(checked.findings):
        yield from _finding(finding, checked.fixes[number] if checked.fixes else (), texts)
        yield []
    for silence in checked.silences:
        yield _head(
            silence.file, silence.where, texts, [("silent", "hint"), (f": {printable(silence.reason)}", "")]
        )
        yield from _excerpt(*texts.shown(silence.file, silence.where), "hint", "", 1)
        yield []


def _head(file: str, where: Span, texts: Texts, rest: Line) -> Line:
    return [(printable(texts.head(file, where)), "file"), (" ", ""), *rest]


def _finding(finding: Finding, fixes: tuple[Fix, ...], texts: Texts) -> Iterator[Line]:
    loud = finding.severity.value
    rest = [(finding.code, loud), (" ", ""), (loud, loud), (f": {printable(finding.message)}", "message")]
    yield _head(finding.file, finding.where, texts, rest)
    places = ((finding.file, finding.where), *((step.file, step.where) for step in finding.path))
    gutter = max(len(str(texts.place(*place).end_row)) for place in places)
    yield from _excerpt(*texts.shown(finding.file, finding.where), loud, "", gutter)
    if finding.path:
        yield [("  the way of the gradient:", "help")]
    digits = len(str(len(finding.path)))
    for number, step in enumerate(finding.path, 1):
        yield [
            (f"  {number:>{digits}}. ", "gutter"),
            *_head(step.file, step.where, texts, [(printable(step.message), "")]),
        ]
        mark = loud if step.where == finding.where and step.file == finding.file else "way"
        yield from _excerpt(*texts.shown(step.file, step.where), mark, " " * (digits + 4), gutter)
    for fix in fixes:
        yield [(f"  {_APPLICABILITY[fix.applicability]}: ", "help"), (printable(fix.title), "")]
    yield [("  help: ", "help"), (f"gradsight explain {finding.code}", "")]


def _excerpt(source: Source, where: Span, style: str, indent: str, gutter: int) -> Iterator[Line]:
    """The lines that a span touches, numbered, each underlined where the span is."""
    (first, start), (last, end) = source.row_column(where.start), source.row_column(where.end)
    if last > first and end == 0:  # ends with a line's end: nothing of the next line is meant
        last -= 1
        end = len(source.line_text(last))
    rows: list[int | None] = list(range(first, last + 1))
    if len(rows) > _ROWS:
        rows[_ROWS - 2 : -1] = [None]
    gutter = max(gutter, len(str(last + 1)))
    for row in rows:
        if row is None:
            yield [(f"{indent}{'…':>{gutter}}", "gutter")]
            continue
        text = source.line_text(row)
        left = start if row == first else len(text) - len(text.lstrip())
        right = end if row == last else len(text.rstrip())
        shown, before, width = _show(text, left, max(left, right))
        yield [(f"{indent}{row + 1:>{gutter}} | ", "gutter"), (shown, "source")]
        yield [(f"{indent}{'':>{gutter}} | ", "gutter"), (" " * before, ""), ("^" * max(1, width), style)]


def _show(text: str, left: int, right: int) -> tuple[str, int, int]:
    """What to print of a line; the cells before the span's columns left:right, and those it covers."""
    head = cut = ""
    if len(text) > _WIDTH:
        begin = max(0, min(left - 20, len(text) - _WIDTH))
        head = "…" if begin else ""
        cut = "…" if begin + _WIDTH < len(text) else ""
        text, left, right = text[begin : begin + _WIDTH], left - begin, min(right - begin, _WIDTH)
    out = head
    cells = before = len(head)
    behind = before
    for column, character in enumerate(text):
        if column == left:
            before = cells
        if column == right:
            behind = cells
        piece = " " * (_TAB - (cells - len(head)) % _TAB) if character == "\t" else _printable(character)
        out += piece
        cells += sum(map(_cells, piece))
    if left >= len(text):
        before = cells
    if right >= len(text):
        behind = cells
    return out + cut, before, behind - before


def printable(text: str) -> str:
    """The text on one line, without characters that steer a terminal."""
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"


def _cells(character: str) -> int:
    """How many cells of a terminal a character takes."""
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
