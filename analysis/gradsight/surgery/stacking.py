"""A tensor made anew from tensors becomes a stack of them, or the tensor itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

import libcst as cst

from gradsight.finding import Edit
from gradsight.surgery.cuts import POINTED_AT, climbed, data_of, innermost, last_name, rewraps
from gradsight.surgery.imports import spelling
from gradsight.surgery.piece import Piece, dotted, find, layout, merged, parse_line, replaced
from gradsight.surgery.refusal import Refusal
from gradsight.surgery.reopen import drop_cuts, laundering_after, opened
from gradsight.text import Source, Span


def stack_for_rewrap(
    source: Source, where: Span, *, kind: str | None = None, numbers: Sequence[Span] = ()
) -> tuple[Edit, ...] | Refusal:
    """`torch.tensor([a, b])` becomes `torch.stack([a, b])`, `torch.tensor(x)` of one tensor becomes `x`.

    Args:
        where: the rewrapping call, or a cut directly inside it.
        kind: "list" or "tensor" where the caller knows what a name holds that is rewrapped.
        numbers: elements that are known to be Python numbers (literals are seen here).
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    call: cst.Call | None = None
    if isinstance(node, cst.Call) and (rewraps(node) or last_name(node.func) in POINTED_AT):
        call = node
    if call is None:
        for above in piece.ancestors(node):
            if isinstance(above, cst.Call) and rewraps(above):
                call = above
                break
            if isinstance(above, cst.BaseSmallStatement):
                break
    if call is None:
        return Refusal("no call that makes a tensor anew stands there")
    data = data_of(source, piece, call)
    if isinstance(data, Refusal):
        return data
    value, suffix = data
    outer = climbed(piece, call)
    inner = innermost(value)
    if isinstance(inner, cst.Name | cst.Attribute) and kind is None:
        kind = "list" if _is_list(source, piece, inner) else "tensor"
    listed = _listed(source, inner)
    if not listed and kind != "list":
        return opened(piece, call, value, suffix=suffix)
    edits: list[Edit] = []
    if isinstance(inner, cst.List | cst.Tuple):
        elements = _stacked_elements(source, piece, inner, numbers)
        if isinstance(elements, Refusal):
            return elements
        edits += elements
    elif isinstance(inner, cst.ListComp):
        rows = _stacked_rows(source, piece, inner)
        if isinstance(rows, Refusal):
            return rows
        edits += rows
    elif isinstance(inner, cst.Name | cst.Attribute):
        edits += _cuts_of_list(source, piece, dotted(inner))
    stack = spelling(source, "torch.stack")
    if isinstance(stack, Refusal):
        return stack
    whole, argument = piece.span(outer), piece.whole(inner)
    opening = f"{stack.name}("
    head = source.text[whole.start : argument.start]
    function = piece.span(call.func)
    if outer is call and inner is value and head == source.text[whole.start : function.end] + "(":
        edits += replaced(source, function.start, function.end, stack.name)
    else:
        edits += replaced(source, whole.start, argument.start, opening)
    edits += replaced(source, argument.end, whole.end, f"){suffix}")
    return merged(edits, stack.edits, laundering_after(source, piece, outer))


def _listed(source: Source, node: cst.BaseExpression) -> bool:
    """Whether the expression is a list or a tuple as it stands."""
    if isinstance(node, cst.List | cst.Tuple | cst.ListComp):
        return True
    return isinstance(node, cst.Call) and dotted(node.func) in {"list", "tuple", "sorted"}


def _is_number(node: cst.BaseExpression) -> bool:
    if isinstance(node, cst.UnaryOperation):
        return _is_number(node.expression)
    return isinstance(node, cst.Integer | cst.Float)


def _stacked_elements(
    source: Source, piece: Piece, node: cst.List | cst.Tuple, numbers: Sequence[Span]
) -> tuple[Edit, ...] | Refusal:
    """The elements of a list that is to be stacked: inner lists stacked, cuts dropped, numbers wrapped."""
    values = [element.value for element in node.elements]
    if not values or any(isinstance(element, cst.StarredElement) for element in node.elements):
        return Refusal("the list's elements are not plain to see")
    known = {(span.start, span.end) for span in numbers}
    plain = [
        value
        for value in values
        if not _is_number(value) and (piece.span(value).start, piece.span(value).end) not in known
    ]
    if not plain:
        return Refusal("the list holds numbers alone")
    edits: list[Edit] = []
    model = next((dotted(innermost(value)) for value in plain if dotted(innermost(value))), "")
    for value in values:
        if isinstance(value, cst.List | cst.Tuple):
            inner = _stacked_elements(source, piece, value, numbers)
            stack = spelling(source, "torch.stack")
            if isinstance(inner, Refusal):
                return inner
            if isinstance(stack, Refusal):
                return stack
            span = piece.whole(value)
            edits += (
                *inner,
                Edit(source.file, Span(span.start, span.start), f"{stack.name}("),
                Edit(source.file, Span(span.end, span.end), ")"),
            )
        elif value not in plain:
            wrapped = f"{model}.new_tensor" if model else None
            if wrapped is None:
                as_tensor = spelling(source, "torch.as_tensor")
                if isinstance(as_tensor, Refusal):
                    return as_tensor
                wrapped = as_tensor.name
            span = piece.whole(value)
            edits += (
                Edit(source.file, Span(span.start, span.start), f"{wrapped}("),
                Edit(source.file, Span(span.end, span.end), ")"),
            )
        else:
            edits += drop_cuts(piece, value)
    return tuple(edits)


def _stacked_rows(source: Source, piece: Piece, node: cst.ListComp) -> tuple[Edit, ...] | Refusal:
    """The element of a comprehension that is to be stacked: a list is a stack, cuts are dropped."""
    row = node.elt
    if not isinstance(row, cst.ListComp | cst.List):
        return drop_cuts(piece, row)
    if isinstance(row, cst.List):
        inner = _stacked_elements(source, piece, row, ())
    else:
        inner = _stacked_rows(source, piece, row)
    stack = spelling(source, "torch.stack")
    if isinstance(inner, Refusal):
        return inner
    if isinstance(stack, Refusal):
        return stack
    span = piece.whole(row)
    opening = Edit(source.file, Span(span.start, span.start), f"{stack.name}(")
    return (*inner, opening, Edit(source.file, Span(span.end, span.end), ")"))


def _is_list(source: Source, piece: Piece, node: cst.BaseExpression) -> bool:
    """Whether the nearest binding above says that the name holds a list."""
    name = re.escape(dotted(node))
    masked = layout(source.text).masked[: piece.span(node).start]
    appended = re.search(rf"(?<![\w.]){name}\s*\.\s*(?:append|extend)\s*\(", masked)
    bound = list(re.finditer(rf"(?<![\w.]){name}(?:\s*:[^=\n]*)?\s*=(?!=)\s*(list\b|tuple\b|[\[(])?", masked))
    if bound and masked[: bound[-1].start()].rstrip(" \t")[-1:] not in {",", ")"}:
        opening = bound[-1].group(1)
        if opening is None and (appended is None or bound[-1].start() > appended.start()):
            return False
        return opening in {"[", "list", "tuple"} or appended is not None
    return appended is not None


def _cuts_of_list(source: Source, piece: Piece, name: str) -> tuple[Edit, ...]:
    """The cuts at `NAME.append(x.item())` and `NAME = [x.item(), ...]` above, in the same function."""
    plan = layout(source.text)
    last = plan.index(next(iter(piece.spans.values())).start)
    edits: list[Edit] = []
    pattern = re.compile(rf"(?<![\w.]){re.escape(name)}\s*(?:\.\s*append\s*\(|=(?!=)|\+=)")
    for index in range(last, -1, -1):
        line = plan.lines[index]
        code = plan.masked[line.start : line.end]
        if re.match(r"\s*(?:async\s+)?def\b|\s*class\b", code):
            if len(line.indent) < len(plan.lines[last].indent):
                break
            continue
        if index == last or not pattern.search(code):
            continue
        above = parse_line(source, line.first)
        if isinstance(above, Refusal):
            continue
        for call in above.nodes(cst.Call):
            if dotted(call.func) == f"{name}.append" and len(call.args) == 1:
                edits += drop_cuts(above, call.args[0].value)
        for assignment in above.nodes(cst.Assign):
            if piece.source.text and above.text(assignment.targets[0].target) == name:
                edits += drop_cuts(above, assignment.value)
                return tuple(edits)
    return tuple(edits)
