"""What a loop hands on to its next turn is written down without its graph. Works on logical lines alone."""

from __future__ import annotations

import ast

from gradsight.finding import Edit
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span

_PRIMARY = (ast.Name, ast.Attribute, ast.Call, ast.Subscript)
_WITHOUT_GRAPH = (".detach()", ".item()", ".data", ".numpy()", ".tolist()")
_FILLS = ("append", "appendleft", "add")
_CHANGES = ("extend", "extendleft", "insert", "update", "setdefault", "copy_")


def detached_where_written(
    source: Source, loop: Span, behind: Span, name: str
) -> tuple[Edit, ...] | Refusal | None:
    """`name = loss` and `name.append(loss)` behind a place in the loop's block get a `.detach()`.

    None where nothing behind it writes to the name. Refuses where what is written is no tensor's expression.
    """
    header = source.unit_at(source.row_column(loop.start)[0])
    first = source.unit_at(source.row_column(behind.start)[0])
    edits: list[Edit] = []
    written = False
    for unit in range(first + 1, len(source.units)):
        line = source.units[unit]
        if not line.code:
            continue
        if line.indent <= source.units[header].indent:
            break
        for node in (each for part in line.nodes for each in ast.walk(part)):
            value = _written(node, name)
            if value is None:
                continue
            written = True
            if isinstance(value, Refusal):
                return value
            edit = _detached(source, unit, value)
            if isinstance(edit, Refusal):
                return edit
            edits += edit
    return tuple(edits) if written else None


def _written(node: ast.AST, name: str) -> ast.expr | Refusal | None:
    """What a node puts under a name, or into what the name holds."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == name:
                return node.value
            if isinstance(target, ast.Subscript) and _is(target.value, name):
                return node.value
            if any(_is(part, name) for part in ast.walk(target)):
                return Refusal("several names are bound there at once")
    if isinstance(node, (ast.AugAssign, ast.AnnAssign)) and _is(node.target, name):
        return Refusal("it is added to")
    if isinstance(node, (ast.For, ast.AsyncFor)) and any(_is(part, name) for part in ast.walk(node.target)):
        return Refusal("a loop binds it")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is(node.func.value, name):
        if node.func.attr in _FILLS and len(node.args) == 1:
            return node.args[0]
        if node.func.attr in _CHANGES:
            return Refusal(f"`{node.func.attr}` puts several values into it")
    return None


def _is(node: ast.expr | ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _detached(source: Source, unit: int, value: ast.expr) -> list[Edit] | Refusal:
    span = source.span_of(unit, value)
    if isinstance(value, ast.Constant) or source.slice(span).endswith(_WITHOUT_GRAPH):
        return []
    if isinstance(value, _PRIMARY):
        return [Edit(source.file, Span(span.end, span.end), ".detach()")]
    if isinstance(value, (ast.BinOp, ast.UnaryOp)):
        return [
            Edit(source.file, Span(span.start, span.start), "("),
            Edit(source.file, Span(span.end, span.end), ").detach()"),
        ]
    return Refusal("what is written there is no tensor's expression")
