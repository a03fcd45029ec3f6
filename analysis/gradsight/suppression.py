"""Comments that silence findings: `# gradsight: ignore[GS102]`, or `# gradsight: ignore` for every rule.

A comment silences the findings whose span touches its line. One that silences nothing is itself reported
(GS003), so that it cannot outlive the bug that it was written for. The text need not parse: comments are
found by a scan that knows strings, and an unclosed string hides no comment of a later line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradsight.finding import Applicability, Edit, Finding, Fix, Severity
from gradsight.text import Source, Span

CODE, NAME = "GS003", "unused-suppression"
_REMOVED = "remove"  # the place of what its fix takes out
_MARK = re.compile("gradsight:")

# Strings first, so that a `#` inside one is no comment; a triple quote that is never closed counts as itself
# alone, and any other unclosed string ends with its line.
_STRING_OR_COMMENT = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""|\'\'\'(?:[^\\]|\\.)*?\'\'\'|"""|\'\'\''''
    r"""|"(?:[^"\\\r\n]|\\(?:\r\n|[^\r\n]|\n))*"?|'(?:[^'\\\r\n]|\\(?:\r\n|[^\r\n]|\n))*'?"""
    r"""|(?P<comment>\#[^\r\n]*)""",
    re.DOTALL,
)
_IGNORE = re.compile(r"#\s*gradsight:\s*ignore\b(?:\s*\[(?P<codes>[^\]\r\n]*)\])?")
_CODE = re.compile(r"[^\s,]+")


@dataclass(frozen=True, slots=True)
class Suppression:
    """One ignore comment."""

    where: Span  # from its `#` to its last bracket
    row: int  # 0-based
    codes: tuple[tuple[str, Span], ...]  # codes or prefixes of codes, in the order written
    blanket: bool  # no brackets: every rule

    def silences(self, code: str) -> bool:
        """Whether findings of this rule fall silent on the comment's line."""
        return self.blanket or any(code.startswith(each) for each, _ in self.codes)


def suppressions(source: Source) -> tuple[Suppression, ...]:
    """Every ignore comment of the file, in order."""
    if not source.lines_with(_MARK):
        return ()
    return tuple(_scan(source))


def _scan(source: Source) -> Iterator[Suppression]:
    for part in source.parts:
        yield from _scan_part(source, part)


def _scan_part(source: Source, part: Span) -> Iterator[Suppression]:
    for comment in _STRING_OR_COMMENT.finditer(source.text, part.start, part.end):
        if comment.group("comment") is None:
            continue
        for found in _IGNORE.finditer(source.text, comment.start(), comment.end()):
            codes: tuple[tuple[str, Span], ...] = ()
            if found.group("codes") is not None:
                inside = found.start("codes"), found.end("codes")
                codes = tuple(
                    (each.group().upper(), Span(each.start(), each.end()))
                    for each in _CODE.finditer(source.text, *inside)
                )
            where = Span(found.start(), found.end())
            row = source.row_column(found.start())[0]
            yield Suppression(where, row, codes, blanket=found.group("codes") is None)


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    """Takes out what a GS003 is about."""
    removed = finding.place(_REMOVED)
    if finding.code == CODE and removed is not None:
        edit = Edit(source.file, removed, "")
        yield Fix("Remove the unused suppression", Applicability.SAFE, (edit,))


def ignore(source: Source, finding: Finding, reason: str = "") -> Fix | None:
    """Writes the comment that silences a finding, or adds its code to the one that stands on the line; with a
    `reason`, that it is intended and why.

    None where no comment can stand: the line goes on behind a `\\` or inside a string of several lines.
    """
    title = (
        f"This is intended: ignore {finding.code} and say why" if reason else f"Ignore {finding.code} here"
    )
    said = f" intended: {reason}" if reason else ""
    row = source.row_column(finding.where.end)[0]
    for comment in suppressions(source):
        if comment.row == row and comment.codes:
            last = comment.codes[-1][1].end
            edits = [Edit(source.file, Span(last, last), f", {finding.code}")]
            if said:
                end = _whole(source, comment.where).end
                between = ";" if end > comment.where.end else ""
                edits.append(Edit(source.file, Span(end, end), f"{between}{said}"))
            return Fix(title, Applicability.SAFE, tuple(edits))
    text = source.line_text(row)
    column = len(text.rstrip())
    end = source.offset(row, column)
    mark = f"  # gradsight: ignore[{finding.code}]{said}"
    edit = Edit(source.file, Span(end, source.offset(row, len(text))), mark)
    after = source.edited(row, column, row, len(text), mark)
    if not _breaks_nothing(source, after):
        return None
    written = any(comment.row == row and comment.where.start >= end for comment in _at(after, row))
    return Fix(title, Applicability.SAFE, (edit,)) if written else None


def _at(source: Source, row: int) -> Iterator[Suppression]:
    """The ignore comments of a row, and others."""
    if source.broken:  # an unclosed string may begin anywhere
        yield from suppressions(source)
        return
    number = source.unit_at(row)
    first = source.starts[number]
    stop = first + source.units[number].count
    yield from _scan_part(source, Span(source.line_offset(first), source.line_offset(stop)))


def _breaks_nothing(before: Source, after: Source) -> bool:
    """Whether every line that could be read still can: behind a `\\` a comment may not stand."""
    return len(before.units) == len(after.units) and all(
        new.error is None or old.error is not None for old, new in zip(before.units, after.units, strict=True)
    )


def suppress(source: Source, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings that no comment silences, and a GS003 for each comment (or code in one) without any."""
    comments = suppressions(source)
    if not comments:
        return tuple(findings)
    by_row: dict[int, list[Suppression]] = {}
    for comment in comments:
        by_row.setdefault(comment.row, []).append(comment)
    used: set[Span] = set()
    kept: list[Finding] = []
    for finding in findings:
        first, last = (source.row_column(offset)[0] for offset in (finding.where.start, finding.where.end))
        at = [comment for row in range(first, last + 1) for comment in by_row.get(row, ())]
        silencing = [
            comment for comment in at if finding.file == source.file and comment.silences(finding.code)
        ]
        for comment in silencing:
            used.add(comment.where)
            used.update(span for code, span in comment.codes if finding.code.startswith(code))
        if not silencing:
            kept.append(finding)
    for comment in comments:
        if not any(CODE.startswith(code) for code, _ in comment.codes):
            kept.extend(_unused(source, comment, used))
    return tuple(sorted(kept, key=lambda finding: (finding.where.start, finding.where.end, finding.code)))


def _unused(source: Source, comment: Suppression, used: set[Span]) -> Iterator[Finding]:
    if comment.where not in used:
        listed = " and ".join(f"`{code}`" for code, _ in comment.codes)
        what = f"finding of {listed}" if listed else "finding"
        alone = not source.line_text(comment.row).split("#", 1)[0].strip()
        why = "; it counts on the line of the finding only" if alone else ""
        message = f"this comment silences no {what} on its line{why}"
        yield _finding(source, comment.where, message, _whole(source, comment.where))
        return
    for number, (code, span) in enumerate(comment.codes):
        if span in used:
            continue
        # With its comma: the one before it, or for the first code the one behind it.
        if number:
            removed = Span(comment.codes[number - 1][1].end, span.end)
        else:
            removed = Span(span.start, comment.codes[1][1].start)
        yield _finding(source, span, f"`{code}` silences nothing on this line", removed)


def _whole(source: Source, where: Span) -> Span:
    """The comment with the space before it and the reason behind it, up to the next comment on its line."""
    text = source.text
    start, end = where.start, where.end
    while start and text[start - 1] in " \t":
        start -= 1
    while end < len(text) and text[end] not in "#\r\n":
        end += 1
    while text[end - 1] in " \t":
        end -= 1
    return Span(start, end)


def _finding(source: Source, where: Span, message: str, removed: Span) -> Finding:
    places = ((_REMOVED, removed),)
    return Finding(CODE, NAME, Severity.INFORMATION, message, source.file, where, places=places)
