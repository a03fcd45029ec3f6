"""What a loss is given: casts and dimensions, the order of the arguments, and which criterion it is."""

from __future__ import annotations

import libcst as cst

from gradsight.finding import Edit
from gradsight.surgery.criteria import over_dimension, renamed
from gradsight.surgery.cuts import last_name
from gradsight.surgery.piece import find, merged, replaced
from gradsight.surgery.refusal import Refusal
from gradsight.surgery.reopen import with_suffix
from gradsight.text import Source, Span

_CASTS = frozenset({"float", "double", "half", "bfloat16", "long", "int", "short", "char", "byte", "bool"})


def cast_to(source: Source, where: Span, dtype: str) -> tuple[Edit, ...] | Refusal:
    """`y` becomes `y.long()`; a cast at its end, `y.float()` or `y.int()`, becomes the right one.

    A cast to booleans stays: what is true becomes 1.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    if (
        isinstance(node, cst.Call)
        and not node.args
        and isinstance(node.func, cst.Attribute)
        and node.func.attr.value in _CASTS - {"bool"}
    ):
        span = piece.span(node.func.attr)
        return replaced(source, span.start, span.end, dtype)
    return with_suffix(piece, node, f".{dtype}()")


def with_method(source: Source, where: Span, suffix: str) -> tuple[Edit, ...] | Refusal:
    """`pred` becomes `pred.squeeze(1)`, `a + b` becomes `(a + b).squeeze(1)`."""
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    return with_suffix(*found, suffix)


def another_criterion(source: Source, where: Span, name: str) -> tuple[Edit, ...] | Refusal:
    """The criterion that is made or called at `where` becomes another of torch's; its arguments stay."""
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    if not isinstance(node, cst.Call):
        return Refusal("no call of a criterion stands there")
    function = node.func
    if isinstance(function, cst.Call):  # nn.BCELoss()(p, y)
        function = function.func
    if last_name(function).lower().replace("_", "") in ("", name.lower().replace("_", "")):
        return Refusal("it is that criterion already")
    return renamed(piece, function, name)


def exchanged(source: Source, one: Span, other: Span) -> tuple[Edit, ...] | Refusal:
    """Two arguments of one call in each other's place."""
    first, second = find(source, one), find(source, other)
    if isinstance(first, Refusal):
        return first
    if isinstance(second, Refusal):
        return second
    spans = [piece.whole(node) for piece, node in (first, second)]
    texts = [piece.text(node) for piece, node in (first, second)]
    wholes = [source.text[span.start : span.end] for span in spans]
    if any("\n" in text for text in texts):
        return Refusal("an argument over several lines")
    return merged(
        replaced(source, spans[0].start, spans[0].end, wholes[1]),
        replaced(source, spans[1].start, spans[1].end, wholes[0]),
    )


def with_keyword(source: Source, where: Span, name: str, value: str) -> tuple[Edit, ...] | Refusal:
    """A call gets one more keyword argument at its end."""
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    if not isinstance(node, cst.Call):
        return Refusal("no call stands there")
    if isinstance(node.func, cst.Call):  # nn.KLDivLoss()(p, q)
        node = node.func
    if any(argument.keyword is not None and argument.keyword.value == name for argument in node.args):
        return Refusal(f"`{name}` is given already")
    if not node.args:
        end = piece.whole(node).end - 1
        return (Edit(source.file, Span(end, end), f"{name}={value}"),)
    end = piece.whole(node.args[-1].value).end
    return (Edit(source.file, Span(end, end), f", {name}={value}"),)


def softmax_for(source: Source, where: Span, *, dim: str = "1") -> tuple[Edit, ...] | Refusal:
    """Raw scores become probabilities: `F.softmax(scores, dim=1)`."""
    found = find(source, where)
    return found if isinstance(found, Refusal) else over_dimension(source, *found, "softmax", dim)
