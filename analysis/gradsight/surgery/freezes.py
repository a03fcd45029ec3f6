"""Freezes and thaws as whole lines: taken away, moved, followed by a line. Works on logical lines alone."""

from __future__ import annotations

import ast

from gradsight.finding import Edit
from gradsight.surgery.order import block_under, line_end
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span


def freezing(source: Source, where: Span) -> Span | Refusal:
    """The physical lines of the statement at `where`, with the loop over parameters of which it is the body.

    Refuses where the statement shares its line, is the only one of another block, or is in a larger loop.
    """
    unit = source.unit_at(source.row_column(where.start)[0])
    line = source.units[unit]
    if len(line.nodes) != 1 or line.header or not isinstance(line.nodes[0], (ast.Expr, ast.Assign)):
        return Refusal("this is no statement of its own")
    header = next(
        (
            at
            for at in range(unit - 1, -1, -1)
            if source.units[at].code and source.units[at].indent < line.indent
        ),
        None,
    )
    if header is None or not source.units[header].header:
        return _lines(source, unit, unit)
    if _parameters_of(source, header):
        if block_under(source, header) != [unit]:
            return Refusal("the loop over the parameters does something else, too")
        return _lines(source, header, unit)
    return _lines(source, unit, unit)


def thawed_parameters(source: Source, where: Span) -> str:
    """An expression of what is thawed at `where`: `model.body.parameters()`. Nothing where none is plain."""
    unit = source.unit_at(source.row_column(where.start)[0])
    node = source.units[unit].nodes[0] if source.units[unit].nodes else None
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        owner = call.func.value
        if call.func.attr == "requires_grad_" and isinstance(owner, (ast.Name, ast.Attribute)):
            loop = _loop_above(source, unit)
            return loop or f"{ast.unparse(owner)}.parameters()"
    return _loop_above(source, unit)


def lines_removed(source: Source, lines: Span) -> tuple[Edit, ...] | Refusal:
    """Whole lines go. Refuses where their block would be left empty."""
    if _is_all(source, lines):
        return Refusal("the block would be left empty")
    return (Edit(source.file, lines, ""),)


def lines_moved_behind(source: Source, lines: Span, other: Span) -> tuple[Edit, ...] | Refusal:
    """Whole lines go behind others of the same block."""
    if not _beside(source, lines, other) or _is_all(source, lines):
        return Refusal("the two stand in different blocks")
    moved = source.slice(lines)
    if not source.slice(other).endswith(("\n", "\r")):
        moved = line_end(source) + moved.rstrip("\r\n")
    return (Edit(source.file, lines, ""), Edit(source.file, Span(other.end, other.end), moved))


def lines_moved_before(source: Source, lines: Span, anchor: Span) -> tuple[Edit, ...] | Refusal:
    """Whole lines go before the statement that holds `anchor`, in the same block."""
    unit = source.unit_at(source.row_column(anchor.start)[0])
    other = _lines(source, unit, unit)
    if source.units[unit].header or not _beside(source, other, lines) or _is_all(source, lines):
        return Refusal("the two stand in different blocks")
    moved = source.slice(lines)
    if not moved.endswith(("\n", "\r")):
        moved += line_end(source)
    return (Edit(source.file, Span(other.start, other.start), moved), Edit(source.file, lines, ""))


def before_its_loop(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """The statement at `where` goes before the loop whose first statements it is one of."""
    unit = source.unit_at(source.row_column(where.start)[0])
    line = source.units[unit]
    if len(line.nodes) != 1 or line.header or not isinstance(line.nodes[0], ast.Expr):
        return Refusal("this is no statement of its own")
    indent = line.indent
    header = next(
        (at for at in range(unit - 1, -1, -1) if source.units[at].code and source.units[at].indent < indent),
        None,
    )
    if header is None or not isinstance(next(iter(source.units[header].nodes), None), (ast.For, ast.While)):
        return Refusal("it does not stand in a loop's own block")
    lines = _lines(source, unit, unit)
    if _is_all(source, lines):
        return Refusal("the block would be left empty")
    text = source.line_text(source.starts[header])
    blank = text[: len(text) - len(text.lstrip())]
    at = source.offset(source.starts[header], 0)
    moved = f"{blank}{source.slice(lines).strip()}{line_end(source)}"
    return (Edit(source.file, Span(at, at), moved), Edit(source.file, lines, ""))


def line_behind(source: Source, lines: Span, statement: str) -> tuple[Edit, ...]:
    """A line of its own behind whole lines, indented as the first of them."""
    first = source.slice(lines)
    indent = first[: len(first) - len(first.lstrip())]
    if first.endswith(("\n", "\r")):
        return (Edit(source.file, Span(lines.end, lines.end), f"{indent}{statement}{line_end(source)}"),)
    return (Edit(source.file, Span(lines.end, lines.end), f"{line_end(source)}{indent}{statement}"),)


def _lines(source: Source, first: int, last: int) -> Span:
    start = source.offset(source.starts[first], 0)
    row = source.starts[last] + source.units[last].count
    return Span(start, source.offset(row, 0) if row < len(source.physical) else len(source.text))


def _loop_above(source: Source, unit: int) -> str:
    above = (at for at in range(unit - 1, -1, -1) if source.units[at].code)
    header = next((at for at in above if source.units[at].indent < source.units[unit].indent), None)
    return _parameters_of(source, header) if header is not None else ""


def _parameters_of(source: Source, header: int) -> str:
    """What a loop's header runs over, if that is `….parameters()`."""
    for node in source.units[header].nodes:
        if isinstance(node, ast.For) and isinstance(node.iter, ast.Call):
            called = node.iter.func
            if isinstance(called, ast.Attribute) and called.attr in ("parameters", "named_parameters"):
                return f"{ast.unparse(called.value)}.parameters()"
    return ""


def _beside(source: Source, first: Span, second: Span) -> bool:
    """Whether lines stand in one block, the first of them above."""
    if first.end > second.start:
        return False
    one, other = (source.unit_at(source.row_column(each.start)[0]) for each in (first, second))
    indent = source.units[one].indent
    between = [line for line in source.units[one : other + 1] if line.code]
    return source.units[other].indent == indent and all(line.indent >= indent for line in between)


def _is_all(source: Source, lines: Span) -> bool:
    """Whether the block of these lines holds nothing else."""
    unit = source.unit_at(source.row_column(lines.start)[0])
    indent = source.units[unit].indent
    header = next(
        (at for at in range(unit - 1, -1, -1) if source.units[at].code and source.units[at].indent < indent),
        None,
    )
    if header is None or not source.units[header].header:
        return False
    return block_under(source, header) == [unit]
