"""Statements put before and behind others. Works on logical lines alone; loads no libcst."""

from __future__ import annotations

import ast

from gradsight.finding import Edit
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span


def insert_before(source: Source, where: Span, statement: str) -> tuple[Edit, ...] | Refusal:
    """A statement of its own before the one that holds `where`: on its line if that is not its own.

    Refuses where a header or a lambda holds it.
    """
    unit = source.unit_at(source.row_column(where.start)[0])
    simple = _simple_statement(source, unit, where)
    if simple is None:
        return Refusal("this is no statement of its own")
    at = source.span_of(unit, simple).start
    indent = source.text[source.offset(source.starts[unit], 0) : at]
    if indent.strip():  # behind a colon or a semicolon
        return (Edit(source.file, Span(at, at), f"{statement}; "),)
    return (Edit(source.file, Span(at, at), f"{statement}{_line_end(source)}{indent}"),)


def insert_behind(source: Source, where: Span, statement: str) -> tuple[Edit, ...] | Refusal:
    """A statement of its own behind the one at `where`.

    Refuses where `where` is a part of its statement, unless the rest of that but takes its value.
    """
    unit = source.unit_at(source.row_column(where.start)[0])
    simple = _simple_statement(source, unit, where)
    value = simple.value if isinstance(simple, (ast.Expr, ast.Assign, ast.AnnAssign)) else None
    if isinstance(value, ast.Await):
        value = value.value
    if simple is None or value is None or source.span_of(unit, value) != where:
        return Refusal("this is no statement of its own")
    whole = source.span_of(unit, simple)
    row = source.starts[unit]
    indent = source.text[source.offset(row, 0) : whole.start]
    end = source.offset(row + source.units[unit].count - 1, 1 << 30)
    rest = source.text[whole.end : end]
    if indent.strip() or (rest.strip() and not rest.lstrip().startswith("#")):
        return (Edit(source.file, Span(whole.end, whole.end), f"; {statement}"),)
    return (Edit(source.file, Span(end, end), f"{_line_end(source)}{indent}{statement}"),)


def insert_at_head(source: Source, header: Span, statement: str) -> tuple[Edit, ...] | Refusal:
    """A statement of its own before all others of the block under the header at `header`."""
    unit = source.unit_at(source.row_column(header.start)[0])
    if not source.units[unit].header:
        return Refusal("the block stands on the line of its header")
    for inner in range(unit + 1, len(source.units)):
        line = source.units[inner]
        if line.code:
            if line.indent <= source.units[unit].indent:
                break
            row = source.starts[inner]
            start = source.offset(row, 0)
            text = source.line_text(row)
            indent = text[: len(text) - len(text.lstrip())]
            return (Edit(source.file, Span(start, start), f"{indent}{statement}{_line_end(source)}"),)
    return Refusal("there is no block under this header")


def is_inside(source: Source, header: Span, where: Span) -> bool:
    """Whether `where` stands in the block under a header, and in no function of its own there."""
    first = source.unit_at(source.row_column(header.start)[0])
    last = source.unit_at(source.row_column(where.start)[0])
    between = [line for line in source.units[first + 1 : last + 1] if line.code]
    deep = all(line.indent > source.units[first].indent for line in between)
    return bool(between) and deep and not any(line.role in ("def", "class") for line in between)


def _simple_statement(source: Source, unit: int, where: Span) -> ast.stmt | None:
    """The simple statement that runs what stands at `where`; None for a header, or a lambda inside it."""
    inner: ast.stmt | None = None
    stack: list[ast.AST] = list(source.units[unit].nodes)
    while stack:
        node = stack.pop()
        if hasattr(node, "lineno"):
            span = source.span_of(unit, node)
            if not span.start <= where.start <= where.end <= span.end:
                continue
        if isinstance(node, ast.Lambda):
            return None
        if isinstance(node, ast.stmt):
            inner = node
        stack += ast.iter_child_nodes(node)
    return None if inner is None or hasattr(inner, "body") or isinstance(inner, ast.Match) else inner


def _line_end(source: Source) -> str:
    """How this file ends its lines."""
    first = source.physical[0] if source.physical else "\n"
    return "\r\n" if first.endswith("\r\n") else "\r" if first.endswith("\r") else "\n"
