"""Statements put before and behind others. Works on logical lines alone; loads no libcst."""

from __future__ import annotations

from bisect import bisect_right

from gradsight.finding import Edit
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span


def insert_before(source: Source, where: Span, statement: str) -> tuple[Edit, ...] | Refusal:
    """A statement of its own before the one that begins at `where`: on its line if that is not its own."""
    unit = _unit(source, where.start)
    start = source.offset(source.starts[unit], 0)
    indent = source.text[start : where.start]
    if indent.strip():  # behind a colon or a semicolon
        return (Edit(source.file, Span(where.start, where.start), f"{statement}; "),)
    return (Edit(source.file, Span(where.start, where.start), f"{statement}{_line_end(source)}{indent}"),)


def insert_behind(source: Source, where: Span, statement: str) -> tuple[Edit, ...] | Refusal:
    """A statement of its own behind the one at `where`."""
    unit = _unit(source, where.start)
    row = source.starts[unit]
    start = source.offset(row, 0)
    indent = source.text[start : where.start]
    last = row + source.units[unit].count - 1
    end = source.offset(last, 1 << 30)
    rest = source.text[where.end : end]
    if indent.strip() or (rest.strip() and not rest.lstrip().startswith("#")):
        return (Edit(source.file, Span(where.end, where.end), f"; {statement}"),)
    return (Edit(source.file, Span(end, end), f"{_line_end(source)}{indent}{statement}"),)


def _unit(source: Source, offset: int) -> int:
    """The logical line that an offset stands in."""
    return max(bisect_right(source.starts, source.row_column(offset)[0]) - 1, 0)


def _line_end(source: Source) -> str:
    """How this file ends its lines."""
    first = source.physical[0] if source.physical else "\n"
    return "\r\n" if first.endswith("\r\n") else "\r" if first.endswith("\r") else "\n"
