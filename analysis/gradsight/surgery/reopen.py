"""Take away what closes the way: detach and its like, rounding, a backward of many values.

Every public function answers with small edits or a `Refusal`; none looks beyond the function around.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import libcst as cst

from gradsight.finding import Edit
from gradsight.surgery.cuts import climbed, data_of, innermost, rewraps, unwrapped
from gradsight.surgery.imports import qualified
from gradsight.surgery.order import insert_before, is_bound_before
from gradsight.surgery.piece import (
    Line,
    Piece,
    dotted,
    find,
    is_primary,
    layout,
    merged,
    parse_line,
    replaced,
)
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span


def unwrap_method_call(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`x.detach()`, `x.data`, `torch.detach(x)`, `Variable(x.data)` become `x`; `x.detach_()` goes.

    What is wrapped directly around it and would cut again (`Variable(...)`, `torch.tensor(...)`, another
    `.detach()`) goes too, and so does the statement if it would only say `x = x`.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    statement = piece.parent(node)
    if (
        isinstance(statement, cst.Expr)
        and isinstance(node, cst.Call)
        and isinstance(node.func, cst.Attribute)
        and node.func.attr.value.endswith("_")
    ):
        return remove_statement(source, piece.span(statement))
    inner = unwrapped(node)
    if inner is None:
        return Refusal(f"`{piece.text(node)}` is not a call that returns its own tensor")
    return opened(piece, node, inner)


def reduce_to_scalar(
    source: Source, where: Span, how: str = "mean", *, everywhere: bool = False
) -> tuple[Edit, ...] | Refusal:
    """`loss.backward()` becomes `loss.mean().backward()`; also `accelerator.backward(loss)`.

    With `everywhere` the loss is reduced where it gets its name, if other lines want a number of it, too.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    if not (
        isinstance(node, cst.Call)
        and isinstance(node.func, cst.Attribute)
        and node.func.attr.value.endswith("backward")
    ):
        return Refusal("no backward call stands there")
    if any(argument.keyword is not None and argument.keyword.value == "gradient" for argument in node.args):
        return Refusal("backward is given a gradient")
    receiver = node.func.value
    if (
        isinstance(receiver, cst.Call)
        and len(receiver.args) == 1
        and dotted(receiver.func).endswith(".scale")
    ):
        receiver = receiver.args[0].value
    elif len(node.args) >= 1 and node.args[0].keyword is None:
        receiver = node.args[0].value
    if everywhere and isinstance(receiver, cst.Name):
        bound = _reduced_where_bound(source, where, receiver.value, how)
        if bound is not None:
            return bound
    return with_suffix(piece, receiver, f".{how}()")


def mean_of_each(source: Source, where: Span, terms: Sequence[Span]) -> tuple[Edit, ...] | Refusal:
    """Each term of the sum that is differentiated at `where` gets its own `.mean()`.

    Refuses where one is computed in another function, or is the argument itself.
    """
    plan = layout(source.text)
    edits: list[Edit] = []
    for term in terms:
        if plan.function(plan.index(term.start)) != plan.function(plan.index(where.start)):
            return Refusal("the loss is computed in another function")
        found = find(source, term)
        if isinstance(found, Refusal):
            return found
        piece, node = found
        assigned = piece.parent(node)
        name = dotted(assigned.targets[0].target) if isinstance(assigned, cst.Assign) else ""
        if name and _is_used_by_element(plan.masked, name):
            return Refusal("something else uses one value for each element")
        edits += with_suffix(piece, node, ".mean()")
    return tuple(edits)


def _is_used_by_element(masked: str, name: str) -> bool:
    used = re.finditer(rf"(?<![\w.]){re.escape(name)}\b", masked)
    return any(_BY_ELEMENT.match(masked, match.end()) for match in used)


_BY_ELEMENT = re.compile(r"\[|\.(?!item\b|detach\b|data\b|backward\b|cpu\b)|[ \t]*[*/]")


def _reduced_where_bound(
    source: Source, where: Span, name: str, how: str
) -> tuple[Edit, ...] | Refusal | None:
    """`loss = ….mean()`, where the same function uses the loss once more, as one number for all it shows."""
    plan = layout(source.text)
    index = plan.index(where.start)
    head = plan.function(index)
    first, last = (0, len(plan.lines)) if head is None else (head, plan.end_of_block(head))
    start = plan.lines[first].start
    used = rf"(?<![\w.]){re.escape(name)}\b(?![ \t]*(?::[^=\n]*)?[-+*/]?=(?!=))"
    others = [
        match
        for match in re.finditer(used, plan.masked[start : plan.lines[last - 1].end])
        if not where.start <= start + match.start() < where.end
    ]
    bound = [
        line
        for line in plan.lines[first:last]
        if re.match(rf"\s*{re.escape(name)}\s*[-+*/]?=(?!=)", plan.masked[line.start : line.end])
    ]
    own = Span(bound[0].start, bound[0].end) if len(bound) == 1 else where
    others = [match for match in others if not own.start <= start + match.start() < own.end]
    if not others or any(_BY_ELEMENT.match(plan.masked, start + match.end()) for match in others):
        return None
    if len(bound) != 1 or own.start > where.start:
        return insert_before(source, where, f"{name} = {name}.{how}()")
    above = parse_line(source, bound[0].first)
    if isinstance(above, Refusal):
        return above
    assigned = next(above.nodes(cst.Assign), None)
    if assigned is None or len(assigned.targets) != 1:
        return None
    return with_suffix(above, assigned.value, f".{how}()")


def bound_instead_of_data(source: Source, where: Span) -> tuple[Edit, ...] | Refusal | None:
    """`kept.data = h.data` becomes `kept = h`, whichever side is at `where`; None for all else.

    Refuses where `kept` is no name that a line above has made.
    """
    piece = parse_line(source, where.start)
    if isinstance(piece, Refusal):
        return None
    for assigned in piece.nodes(cst.Assign):
        target = assigned.targets[0].target
        if not isinstance(target, cst.Attribute) or target.attr.value != "data":
            continue
        if piece.span(target) != where and innermost(assigned.value) is assigned.value:
            continue
        name = dotted(target.value)
        if len(assigned.targets) > 1 or "." in name or not is_bound_before(source, name, where):
            return Refusal("what is written to may be known by another name")
        span = piece.span(target)
        edits = Edit(source.file, Span(piece.span(target.value).end, span.end), "")
        return merged((edits,), drop_cuts(piece, assigned.value))
    return None


def drop_rounding(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`torch.round(p)`, `p.round()`, `p.int()`, `p.to(torch.int64)` become `p`: the values change.

    Comparisons, `argmax` and their like are refused: nothing simpler says what was meant.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    if not isinstance(node, cst.Call):
        return Refusal("a comparison has no gradient and nothing to put in its place")
    name = dotted(node.func) or (node.func.attr.value if isinstance(node.func, cst.Attribute) else "")
    last = name.rpartition(".")[2]
    functional = qualified(source, name).startswith("torch.")
    simple = {
        "round",
        "floor",
        "ceil",
        "trunc",
        "fix",
        "frac",
        "sign",
        "int",
        "long",
        "short",
        "bool",
        "byte",
    }
    if last in simple:
        if functional or not isinstance(node.func, cst.Attribute):
            inner = node.args[0].value if node.args else None
        else:
            inner = node.func.value
        if inner is not None:
            return without(piece, node, inner)
    if last in {"to", "type"} and isinstance(node.func, cst.Attribute) and len(node.args) == 1:
        return without(piece, node, node.func.value)
    return Refusal(f"`{last}` has no gradient and nothing to put in its place")


def drop_cuts(piece: Piece, node: cst.BaseExpression) -> tuple[Edit, ...]:
    """The edits that free the value of `node`, and the operands it is computed from, of cuts."""
    inner = innermost(node)
    if inner is not node:
        return (*put_inner(piece, node, inner), *drop_cuts(piece, inner))
    edits: list[Edit] = []
    if isinstance(node, cst.BinaryOperation):
        edits += (*drop_cuts(piece, node.left), *drop_cuts(piece, node.right))
    elif isinstance(node, cst.UnaryOperation):
        edits += drop_cuts(piece, node.expression)
    elif isinstance(node, cst.IfExp):
        edits += (*drop_cuts(piece, node.body), *drop_cuts(piece, node.orelse))
    elif isinstance(node, cst.List | cst.Tuple):
        for element in node.elements:
            edits += drop_cuts(piece, element.value)
    elif isinstance(node, cst.ListComp | cst.GeneratorExp):
        edits += drop_cuts(piece, node.elt)
    elif isinstance(node, cst.Call) and dotted(node.func) in {"sum", "max", "min", "abs"}:
        for argument in node.args:
            edits += drop_cuts(piece, argument.value)
    return tuple(edits)


def remove_statement(source: Source, where: Span) -> tuple[Edit, ...]:
    """The small statement at `where` goes: with its line if it is alone there, leaving `pass` if needed."""
    text = source.text
    plan = layout(text)
    index = plan.index(where.start)
    line = plan.lines[index]
    masked = plan.masked
    before = masked[line.first : where.start]
    after = masked[where.end : line.end]
    if after.lstrip().startswith(";") and after.lstrip("; \t\r\n\f"):
        following = where.end + len(after) - len(after.lstrip("; \t\f"))
        return (Edit(source.file, Span(where.start, following), ""),)
    if before.rstrip().endswith(";"):
        start = line.first + len(before.rstrip(" \t;"))
        end = where.end + (len(after) - len(after.lstrip("; \t")) if after.lstrip().startswith(";") else 0)
        return (Edit(source.file, Span(start, end), ""),)
    if before.strip():  # the only statement behind a header on its line
        return (Edit(source.file, where, "pass"),)
    if alone_in_block(source, index, index + 1):
        return (Edit(source.file, where, "pass"),)
    if "#" in text[where.end : line.end]:
        start = text.index("#", where.end)
        return (Edit(source.file, Span(line.first, start), ""),)
    return (Edit(source.file, Span(line.start, line.end), ""),)


def alone_in_block(source: Source, first: int, last: int) -> bool:
    """Whether the block of the logical lines [first, last) holds no other code."""
    lines = layout(source.text).lines
    masked = layout(source.text).masked

    def width(line: Line) -> int:
        return len(line.indent.expandtabs())

    own = width(lines[first])
    above = next((line for line in reversed(lines[:first]) if not line.blank), None)
    below = next((line for line in lines[last:] if not line.blank), None)
    if above is None or width(above) >= own or not masked[above.start : above.end].rstrip().endswith(":"):
        return False
    return below is None or width(below) < own


def opened(
    piece: Piece, node: cst.BaseExpression, inner: cst.BaseExpression, *, suffix: str = ""
) -> tuple[Edit, ...] | Refusal:
    """The cut `node` around `inner` goes with all that wraps it directly and cuts again."""
    source = piece.source
    inner = innermost(inner)
    outer = climbed(piece, node)
    parent = piece.parent(outer)
    above = piece.parent(parent) if parent is not None else None
    while (
        isinstance(parent, cst.Arg)
        and isinstance(above, cst.Call)
        and parent is above.args[0]
        and rewraps(above)
    ):
        data = data_of(source, piece, above)
        if isinstance(data, Refusal):
            return data
        suffix += data[1]
        outer = climbed(piece, above)
        parent = piece.parent(outer)
        above = piece.parent(parent) if parent is not None else None
    kept = put_inner(piece, outer, inner, suffix) if suffix else without(piece, outer, inner)
    return merged(kept, laundering_after(source, piece, outer))


def without(piece: Piece, outer: cst.BaseExpression, inner: cst.BaseExpression) -> tuple[Edit, ...]:
    """What stands around `inner` goes, and the statement too if it would only say `x = x`."""
    assigned = piece.parent(outer)
    if isinstance(assigned, cst.Assign) and len(assigned.targets) == 1 and dotted(inner):
        if piece.text(assigned.targets[0].target) == piece.text(inner):
            return remove_statement(piece.source, piece.span(assigned))
    return put_inner(piece, outer, inner)


def put_inner(
    piece: Piece, outer: cst.BaseExpression, inner: cst.BaseExpression, suffix: str = ""
) -> tuple[Edit, ...]:
    """Delete what stands around `inner` up to the ends of `outer`; `inner` is kept as it is written."""
    source = piece.source
    span, kept = piece.span(outer), piece.whole(inner)
    opening, closing = "", suffix
    if not is_primary(inner) and (suffix or binds(piece, outer, source.text[kept.start : kept.end])):
        opening, closing = "(", f"){suffix}"
    masked = layout(source.text).masked
    tail = kept.end
    if "#" in source.text[kept.end : span.end]:  # a comment on the way to the dot stays
        tail += len(masked[kept.end : span.end]) - len(masked[kept.end : span.end].lstrip())
    return (
        *replaced(source, span.start, kept.start, opening),
        *replaced(source, tail, span.end, closing),
    )


def binds(piece: Piece, node: cst.BaseExpression, text: str) -> bool:
    """Whether what stands around `node` would pull apart an operator expression put in its place."""
    if node.lpar:
        return False
    parent = piece.parent(node)
    if isinstance(parent, cst.Arg):
        return bool(parent.star)
    if isinstance(parent, cst.Element | cst.Index | cst.Parameters):
        return False
    loose = (cst.Assign, cst.AnnAssign, cst.AugAssign, cst.Return, cst.Expr, cst.FormattedStringExpression)
    return not isinstance(parent, loose) or "\n" in text


def with_suffix(piece: Piece, node: cst.BaseExpression, suffix: str) -> tuple[Edit, ...]:
    span = piece.whole(node)
    file = piece.source.file
    if is_primary(node):
        return (Edit(file, Span(span.end, span.end), suffix),)
    return (
        Edit(file, Span(span.start, span.start), "("),
        Edit(file, Span(span.end, span.end), f"){suffix}"),
    )


_LAUNDERED = (
    r"\s*{name}\s*\.\s*requires_grad(?:\s*=\s*True|_\s*\(\s*(?:True|requires_grad\s*=\s*True)?\s*\))\s*$"
)


def laundering_after(source: Source, piece: Piece, node: cst.BaseExpression) -> tuple[Edit, ...]:
    """`NAME.requires_grad = True` after the statement goes: on a tensor with a graph it raises."""
    assigned = piece.parent(node)
    if not (isinstance(assigned, cst.Assign) and len(assigned.targets) == 1):
        return ()
    name = dotted(assigned.targets[0].target)
    if not name:
        return ()
    plan = layout(source.text)
    first = plan.index(piece.span(assigned).start)
    width = len(plan.lines[first].indent)
    laundered = re.compile(_LAUNDERED.format(name=re.escape(name)))
    rebound = re.compile(rf"\s*{re.escape(name)}\s*=(?!=)")
    edits: list[Edit] = []
    for line in plan.lines[first + 1 :]:
        if line.blank:
            continue
        if len(line.indent) < width:
            break
        code = plan.masked[line.start : line.end]
        if laundered.match(code.rstrip()):
            end = line.start + len(code.rstrip())
            edits += remove_statement(source, Span(line.first, end))
        elif rebound.match(code):
            break
    return tuple(edits)
