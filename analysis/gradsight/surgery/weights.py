"""A plain tensor attribute of a module becomes a parameter or a buffer."""

from __future__ import annotations

import libcst as cst

from gradsight.finding import Edit
from gradsight.surgery.cuts import last_name
from gradsight.surgery.imports import spelling
from gradsight.surgery.piece import Piece, dotted, find, merged, parse_line
from gradsight.surgery.refusal import Refusal
from gradsight.surgery.reopen import put_inner
from gradsight.text import Source, Span


def as_parameter(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`self.w = torch.randn(3, 4, requires_grad=True)` gets `nn.Parameter(torch.randn(3, 4))`.

    Args:
        where: the value expression.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    if isinstance(node, cst.List | cst.ListComp | cst.Tuple | cst.Dict):
        return Refusal("several tensors need a `ParameterList`")
    parameter = spelling(source, "torch.nn.Parameter")
    if isinstance(parameter, Refusal):
        return parameter
    inner, edits = _plain(piece, node)
    if inner is not node:
        edits = (*edits, *put_inner(piece, node, inner))
    return merged(
        _around(source, piece.span(node), f"{parameter.name}(", ")", edits),
        parameter.edits,
    )


def parameter_last(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`nn.Parameter(torch.randn(4)) * 0.1` becomes `nn.Parameter(torch.randn(4) * 0.1)`.

    Args:
        where: the expression with one call of `Parameter` in it, which is given one tensor.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    calls = [call for call in piece.nodes(cst.Call, node) if last_name(call.func) == "Parameter"]
    if len(calls) != 1 or len(calls[0].args) != 1 or calls[0].args[0].keyword is not None:
        return Refusal("the parameter is made elsewhere")
    name = source.slice(piece.span(calls[0].func))
    edits = put_inner(piece, calls[0], calls[0].args[0].value)
    return merged(_around(source, piece.span(node), f"{name}(", ")", edits))


def wrapped(source: Source, where: Span, name: str) -> tuple[Edit, ...] | Refusal:
    """An expression as the only argument of a call: `[a, b]` becomes `nn.ModuleList([a, b])`.

    Args:
        where: the expression; an empty list or dictionary is left out.
        name: what is called, `torch.nn.ModuleList`.
    """
    callee = spelling(source, name)
    if isinstance(callee, Refusal):
        return callee
    if source.slice(where) in ("[]", "{}", "()", "list()", "dict()"):
        return merged((Edit(source.file, where, f"{callee.name}()"),), callee.edits)
    return merged(_around(source, where, f"{callee.name}(", ")", ()), callee.edits)


def as_buffer(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`self.w = torch.randn(3, 4)` becomes `self.register_buffer("w", torch.randn(3, 4))`.

    Args:
        where: the assignment or its value.
    """
    piece = parse_line(source, where.start)
    if isinstance(piece, Refusal):
        return piece
    assignments: list[cst.Assign | cst.AnnAssign] = [*piece.nodes(cst.Assign), *piece.nodes(cst.AnnAssign)]
    for assignment in assignments:
        span = piece.span(assignment)
        value = assignment.value
        if not (span.start <= where.start and where.end <= span.end) or value is None:
            continue
        if isinstance(assignment, cst.Assign):
            target = assignment.targets[0].target
            several = len(assignment.targets) > 1
        else:
            target, several = assignment.target, False
        if several or not isinstance(target, cst.Attribute) or not dotted(target.value):
            break
        inner, edits = _plain(piece, value)
        if inner is not value:
            edits = (*edits, *put_inner(piece, value, inner))
        begin = piece.whole(value).start
        opening = f'{dotted(target.value)}.register_buffer("{target.attr.value}", '
        head = Edit(source.file, Span(span.start, begin), opening)
        end = piece.whole(value).end
        return merged((head,), _closed(source, edits, end, ")"))
    return Refusal("no attribute is assigned there")


def _plain(piece: Piece, node: cst.BaseExpression) -> tuple[cst.BaseExpression, tuple[Edit, ...]]:
    """The value without what only says that it requires a gradient: the expression and the edits in it."""
    inner = node
    while isinstance(inner, cst.Call):
        if isinstance(inner.func, cst.Attribute) and inner.func.attr.value == "requires_grad_":
            inner = inner.func.value
        elif last_name(inner.func) == "Variable" and inner.args:
            inner = inner.args[0].value
        else:
            break
    edits: list[Edit] = []
    for argument in piece.nodes(cst.Arg, inner):
        if argument.keyword is not None and argument.keyword.value == "requires_grad":
            call = piece.parent(argument)
            if isinstance(call, cst.Call):
                edits += _without_argument(piece, call, argument)
    return inner, tuple(edits)


def _without_argument(piece: Piece, call: cst.Call, argument: cst.Arg) -> tuple[Edit, ...]:
    index = list(call.args).index(argument)
    end = piece.whole(argument.value).end
    if index > 0:
        return (Edit(piece.source.file, Span(piece.whole(call.args[index - 1].value).end, end), ""),)
    start = piece.span(argument).start
    if len(call.args) > 1:
        end = piece.span(call.args[1]).start
    return (Edit(piece.source.file, Span(start, end), ""),)


def _around(
    source: Source, span: Span, opening: str, closing: str, edits: tuple[Edit, ...]
) -> tuple[Edit, ...]:
    """Text put around a span whose inside is edited too; what meets at one place becomes one edit."""
    return _closed(source, _opened(source, edits, span.start, opening), span.end, closing)


def _opened(source: Source, edits: tuple[Edit, ...], at: int, text: str) -> tuple[Edit, ...]:
    for i, edit in enumerate(edits):
        if edit.where.start == at:
            return (*edits[:i], Edit(edit.file, edit.where, text + edit.text), *edits[i + 1 :])
    return (Edit(source.file, Span(at, at), text), *edits)


def _closed(source: Source, edits: tuple[Edit, ...], at: int, text: str) -> tuple[Edit, ...]:
    for i, edit in enumerate(edits):
        if edit.where.end == at:
            return (*edits[:i], Edit(edit.file, edit.where, edit.text + text), *edits[i + 1 :])
    return (*edits, Edit(source.file, Span(at, at), text))
