"""A Python number taken from a tensor becomes the tensor again, with what is computed from it."""

from __future__ import annotations

import libcst as cst

from gradsight.finding import Edit, apply
from gradsight.surgery.cuts import MATH, climbed, unwrapped
from gradsight.surgery.imports import qualified, spelling
from gradsight.surgery.piece import Piece, dotted, find, merged, replaced
from gradsight.surgery.refusal import Refusal
from gradsight.surgery.reopen import drop_cuts, opened, put_inner
from gradsight.surgery.tensors import tensors_for_numpy
from gradsight.text import Source, Span

_STEPS = frozenset({"floor", "ceil", "trunc", "round", "int"})


def tensor_for_number(
    source: Source, where: Span, function_span: Span | None = None
) -> tuple[Edit, ...] | Refusal:
    """`loss.item()`, `float(loss)`, `x.tolist()` become the tensor; `math.f` around it becomes `torch.f`.

    Where the number is kept under a name, what is done with it in the same function follows: `math.log`
    of it, `torch.tensor` of it or of a list of it. Where that cannot be followed the number alone is mended.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    alone = _in_expression(source, piece, node)
    if isinstance(alone, Refusal) or not _is_kept(piece, node):
        return alone
    followed = tensors_for_numpy(source, where, function_span, numbers=True)
    if isinstance(followed, Refusal):
        return alone
    quoted = source.text[where.start : where.end]
    if apply(source.text, followed).count(quoted) >= source.text.count(quoted):
        return alone
    return followed


def _is_kept(piece: Piece, node: cst.BaseExpression) -> bool:
    """Whether the value is bound to a name or put into a list."""
    for above in piece.ancestors(node):
        if isinstance(above, cst.Assign | cst.AnnAssign | cst.AugAssign | cst.For | cst.NamedExpr):
            return True
        if isinstance(above, cst.Call) and dotted(above.func).rpartition(".")[2] == "append":
            return True
        if isinstance(above, cst.Return | cst.Dict):
            return False
    return False


def _in_expression(source: Source, piece: Piece, node: cst.BaseExpression) -> tuple[Edit, ...] | Refusal:
    """The number made a tensor, and the calls that its own expression computes from it."""
    inner = unwrapped(node)
    edits: list[Edit] = []
    top: cst.BaseExpression = node
    if inner is None:
        if not (isinstance(node, cst.Call) and qualified(source, dotted(node.func)).startswith("math.")):
            return Refusal(f"`{piece.text(node)}` does not make a number of one tensor")
        renamed = _as_torch_function(piece, node)
        if isinstance(renamed, Refusal):
            return renamed
        edits += renamed
        for argument in node.args:
            edits += drop_cuts(piece, argument.value)
    else:
        top = climbed(piece, node)
        reopened = opened(piece, node, inner)
        if isinstance(reopened, Refusal):
            return reopened
        edits += reopened
    for above in _computed_with(piece, top):
        name = qualified(source, dotted(above.func))
        if name.startswith("math."):
            renamed = _as_torch_function(piece, above)
            if isinstance(renamed, Refusal):
                return renamed
            edits += renamed
        elif name in _STEPS:
            return Refusal(f"`{name}()` around it has no gradient")
        elif name == "float":
            edits += put_inner(piece, above, above.args[0].value)
    return merged(edits)


def _computed_with(piece: Piece, node: cst.BaseExpression) -> list[cst.Call]:
    """The calls whose argument is computed from `node` by operators alone, innermost first."""
    calls: list[cst.Call] = []
    below: cst.CSTNode = node
    for above in piece.ancestors(node):
        if isinstance(above, cst.BinaryOperation | cst.UnaryOperation | cst.IfExp | cst.Arg):
            below = above
        elif isinstance(above, cst.Call) and isinstance(below, cst.Arg):
            calls.append(above)
            below = above
        else:
            break
    return calls


def _as_torch_function(piece: Piece, call: cst.Call) -> tuple[Edit, ...] | Refusal:
    """`math.exp(...)` renamed to `torch.exp(...)`."""
    source = piece.source
    name = qualified(source, dotted(call.func)).partition(".")[2]
    target = MATH.get(name, "")
    if not target or (len(call.args) != 1 and target != "pow"):
        return Refusal(f"`math.{name}` with these arguments has no equal in torch")
    spelled = spelling(source, f"torch.{target}")
    if isinstance(spelled, Refusal):
        return spelled
    function = piece.span(call.func)
    return (*replaced(source, function.start, function.end, spelled.name), *spelled.edits)
