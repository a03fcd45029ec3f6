"""The terms of a sum that is differentiated: one more, or not twice. Works on logical lines alone."""

from __future__ import annotations

import ast
import re

from gradsight.finding import Edit
from gradsight.surgery.order import call_at, function_around, simple_statement
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span


def added_to_loss(source: Source, term: Span, sink: Span, name: str) -> tuple[Edit, ...] | Refusal:
    """The value that `name` gets at `term` is added where the loss is differentiated, `loss.backward()`.

    `loss + name` as a statement of its own becomes `loss = loss + name`. In a helper that returns one loss,
    it is added to that. Refuses where the two are known in different functions, or turns of a loop.
    """
    head = function_around(source, term)
    statement = _sum_alone(source, term, head, name)
    if statement is not None:
        return statement
    if function_around(source, sink) != head:
        return _added_to_return(source, term, head, name)
    unit = source.unit_at(source.row_column(sink.start)[0])
    made = source.unit_at(source.row_column(term.start)[0])
    between = [line for line in source.units[made : unit + 1] if line.code]
    if made >= unit or any(line.indent < source.units[made].indent for line in between):
        return Refusal("the term is computed in another block")
    if any(re.search(rf"(?<![\w.]){re.escape(name)}[ \t]*=(?!=)", line.text) for line in between[1:]):
        return Refusal("the name is bound again in between")
    call = call_at(source, unit, sink)
    if call is None or not isinstance(call.func, ast.Attribute) or not call.func.attr.endswith("backward"):
        return Refusal("no backward call stands there")
    loss: ast.expr = call.func.value
    if isinstance(loss, ast.Call) and len(loss.args) == 1 and ast.unparse(loss.func).endswith(".scale"):
        loss = loss.args[0]
    elif call.args:
        loss = call.args[0]
    span = source.span_of(unit, loss)
    if source.text[span.start - 1 : span.start] == "(" and source.text[span.end : span.end + 1] == ")":
        return (Edit(source.file, Span(span.end, span.end), f" + {name}"),)
    if not isinstance(loss, (ast.Name, ast.Attribute)):
        return Refusal("what is differentiated is no plain name")
    return (
        Edit(source.file, Span(span.start, span.start), "("),
        Edit(source.file, Span(span.end, span.end), f" + {name})"),
    )


def not_added_again(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """A term that is added once more is not: `loss += loss` goes, `a + b + a` loses its last.

    `where`: the sum, or what a statement adds.
    """
    unit = source.unit_at(source.row_column(where.start)[0])
    simple = simple_statement(source, unit, where)
    line = source.units[unit]
    alone = simple is not None and len(line.nodes) == 1 and line.nodes[0] is simple
    if isinstance(simple, ast.AugAssign) and isinstance(simple.op, ast.Add) and alone:
        if source.span_of(unit, simple.value) == where:
            return _line_removed(source, unit)
    if not isinstance(simple, ast.Assign) or len(simple.targets) != 1:
        return Refusal("this is no statement that adds")
    value, target = simple.value, ast.unparse(simple.targets[0])
    added = isinstance(value, ast.BinOp) and source.span_of(unit, value.right) == where
    if isinstance(value, ast.BinOp) and added and alone and ast.unparse(value.left) == target:
        return _line_removed(source, unit)
    if source.span_of(unit, value) != where or not isinstance(value, ast.BinOp):
        return Refusal("the sum is a part of something else")
    if not isinstance(value.op, ast.Add):
        return Refusal("this is no sum")
    if ast.unparse(value.left) == target and alone and source.span_of(unit, value) == where:
        return _line_removed(source, unit)
    left, right = source.span_of(unit, value.left), source.span_of(unit, value.right)
    terms = _terms(value.left)
    if ast.unparse(value.right) in terms and source.slice(Span(left.end, right.start)).strip() == "+":
        return (Edit(source.file, Span(left.end, right.end), ""),)
    return Refusal("which of the terms is the second one is not plain to see")


def _terms(node: ast.expr) -> list[str]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_terms(node.left), *_terms(node.right)]
    return [ast.unparse(node)]


def _sum_alone(source: Source, term: Span, head: int, name: str) -> tuple[Edit, ...] | None:
    """`loss + name` as a statement below, bound to the loss."""
    first = source.unit_at(source.row_column(term.start)[0])
    for unit in range(first + 1, len(source.units)):
        line = source.units[unit]
        node = line.nodes[0] if len(line.nodes) == 1 else None
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.BinOp):
            continue
        added = node.value
        span = source.span_of(unit, added)
        if not isinstance(added.op, ast.Add) or function_around(source, span) != head:
            continue
        if isinstance(added.left, ast.Name) and ast.unparse(added.right) == name:
            return (Edit(source.file, Span(span.start, span.start), f"{added.left.id} = "),)
    return None


def _added_to_return(source: Source, term: Span, head: int, name: str) -> tuple[Edit, ...] | Refusal:
    first = source.unit_at(source.row_column(term.start)[0])
    found: list[Edit] = []
    for unit in range(first + 1, len(source.units)):
        line = source.units[unit]
        if head < 0 or (line.code and line.indent <= source.units[head].indent):
            break
        for node in line.nodes:
            if isinstance(node, ast.Return):
                if line.indent != source.units[first].indent or not isinstance(node.value, ast.Name):
                    return Refusal("the function returns more than a loss")
                end = source.span_of(unit, node.value).end
                found.append(Edit(source.file, Span(end, end), f" + {name}"))
    if len(found) != 1 or "loss" not in source.units[head].text:
        return Refusal("the loss is differentiated elsewhere")
    return tuple(found)


def _line_removed(source: Source, unit: int) -> tuple[Edit, ...] | Refusal:
    start = source.offset(source.starts[unit], 0)
    row = source.starts[unit] + source.units[unit].count
    if row >= len(source.physical):
        return Refusal("the file ends there")
    above = next((line for line in reversed(source.units[:unit]) if line.code), None)
    if above is None or above.indent < source.units[unit].indent:
        return Refusal("the block might be left empty")
    return (Edit(source.file, Span(start, source.offset(row, 0)), ""),)
