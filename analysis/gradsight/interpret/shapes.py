"""Shapes of what an operation gives, from the shapes of its operands. Nothing here is more than surely known.

A shape that begins with `REST` or `SOME` has further dimensions that are not known; whoever counts dimensions
asks `ranked` first.
"""

from __future__ import annotations

from math import prod

from gradsight.values import MANY, REST, SOME, Shape, surely_many


def ranked(shape: Shape) -> tuple[int | None, ...] | None:
    """The shape, where the number of its dimensions is known."""
    return None if shape is None or (shape and shape[0] in (REST, SOME)) else shape


def joined(shapes: list[Shape]) -> Shape:
    """What holds of a value that has one of several shapes: the dimensions in which all are the same."""
    first = shapes[0]
    if all(shape == first for shape in shapes):
        return first
    known = [shape for shape in map(ranked, shapes) if shape is not None]
    if len(known) != len(shapes) or any(len(shape) != len(known[0]) for shape in known):
        return None
    return tuple(column[0] if len(set(column)) == 1 else None for column in zip(*known, strict=True))


def in_any_turn(shape: Shape) -> Shape:
    """What is supposed of the shape that a loop's turns hand on: the rows stay, their sizes may change."""
    known = ranked(shape)
    return None if known is None else (*known[:1], *(None,) * len(known[1:]))


def fits(shape: Shape, supposed: Shape) -> bool:
    """Whether a turn has left what was supposed of it."""
    return (
        supposed is None
        or shape == supposed
        or (
            shape is not None
            and len(shape) == len(supposed)
            and all(there is None or here == there for here, there in zip(shape, supposed, strict=True))
        )
    )


def last_of(shape: Shape) -> int | None:
    """The size of the last dimension, None where it is not known."""
    return shape[-1] if shape and shape[-1] not in (REST, SOME) else None


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of an elementwise operation; None where it cannot be known."""
    if a == () or b == ():
        return b if a == () else a
    first, second = ranked(a), ranked(b)
    if first is None or second is None:
        # Broadcasting never makes fewer elements.
        return (SOME,) if surely_many(a) or surely_many(b) else None
    if len(first) < len(second):
        first, second = second, first
    second = (1,) * (len(first) - len(second)) + second
    out: list[int | None] = []
    for x, y in zip(first, second, strict=False):
        if x == 1:
            out.append(y)
        elif y == 1 or x == y:
            out.append(x)
        elif x == MANY or y == MANY:
            out.append(MANY)
        else:
            out.append(x if y is None and x is not None else y if x is None else None)
    return tuple(out)


def blown_up(a: Shape, b: Shape) -> bool:
    """Whether both are repeated to fit the other, because one has a dimension more: (N, 1) beside (N)."""
    first, second = ranked(a), ranked(b)
    if first is None or second is None or len(first) == len(second):
        return False
    size = max(len(first), len(second))
    pairs = list(zip((1,) * (size - len(first)) + first, (1,) * (size - len(second)) + second, strict=True))
    return any(x == 1 and surely_many((y,)) for x, y in pairs) and any(
        y == 1 and surely_many((x,)) for x, y in pairs
    )


def written(shape: Shape) -> str:
    """A shape as a fact: "scalar", "unknown", or its dimensions."""
    known = ranked(shape)
    return "unknown" if known is None else ",".join(str(dim) for dim in known) or "scalar"


def read(fact: str) -> tuple[int | None, ...] | None:
    """The shape that was written; None for one that is not known."""
    if fact in ("unknown", ""):
        return None
    return () if fact == "scalar" else tuple(None if dim == "None" else int(dim) for dim in fact.split(","))


def matmul(a: Shape, b: Shape) -> Shape:
    left, right = ranked(a), ranked(b)
    if not left or not right:
        return None
    if len(left) == 1 and len(right) == 1:
        return ()
    if len(right) == 1:
        return left[:-1]
    if len(left) == 1:
        return (*right[:-2], right[-1])
    if len(left) < len(right):
        return (*right[:-2], left[-2], right[-1])
    return (*left[:-1], right[-1])


def linear(shape: Shape, width: int | None) -> Shape:
    """The last dimension becomes another."""
    known = ranked(shape)
    if known is None:
        return None if width is None else (REST, width)
    return (*known[:-1], width) if known else None


def reduced(shape: Shape, dims: tuple[int, ...] | None, keep: bool) -> Shape:
    """Without these dimensions, all of them for None."""
    known = ranked(shape)
    if dims is None and not keep:
        return ()
    if known is None:
        return None
    at = {dim % len(known) for dim in dims if -len(known) <= dim < len(known)} if dims is not None else None
    if at is None or len(at) != len(dims or ()):
        return (1,) * len(known) if dims is None else None
    if keep:
        return tuple(1 if i in at else dim for i, dim in enumerate(known))
    return tuple(dim for i, dim in enumerate(known) if i not in at)


def product(dims: tuple[int | None, ...]) -> int | None:
    """The number of elements of these dimensions: a number, MANY, or None."""
    if len(dims) == 1:
        return dims[0]
    if all(dim is not None and dim >= 0 for dim in dims):
        return prod(dim for dim in dims if dim is not None)
    return MANY if surely_many(dims) else None


def over_areas(shape: Shape, weight: Shape, space: int, *, convolved: bool) -> Shape:
    """What a window leaves that slides over the last dimensions: (N, C, ..), sizes there not worked out."""
    known, kernel = ranked(shape), ranked(weight)
    if known is None or len(known) not in (space + 1, space + 2):
        return None
    channels = (kernel[0] if kernel else None) if convolved else known[-space - 1]
    return (*known[: -space - 1], channels, *(None,) * space)


def viewed(shape: Shape, sizes: tuple[int | None, ...], batch: list[bool]) -> Shape:
    """`view` and `reshape`; a size of -1 is worked out where all others are known. `batch` says which of the
    sizes are no -1, but MANY."""
    known = ranked(shape)
    if any(batch):
        rest = tuple(size for size, many in zip(sizes, batch, strict=True) if not many)
        inner = viewed(known[1:], rest, [False] * len(rest)) if known and known[0] == MANY else None
        if batch.count(True) != 1 or not batch[0] or inner is None:
            pairs = zip(sizes, batch, strict=True)
            return tuple(MANY if many else None if size == -1 else size for size, many in pairs)
        return (MANY, *inner)
    if sizes.count(-1) != 1:
        return sizes
    others = 1
    for size in sizes:
        if size is None:
            others = 0
        elif size != -1:
            others *= size
    left: int | None = None
    total = product(known) if known is not None else None
    if known == ():
        total = 1
    if total is not None and total >= 0 and others > 0:
        left = total // others
    elif others == 1:
        left = total
    elif total == MANY and others > 0 and known is not None:
        # A batch whose rows are as long as the sizes say.
        left = MANY if product(known[1:] or (1,)) == others else None
    return tuple(left if size == -1 else size for size in sizes)


def flattened(shape: Shape, start: int, end: int) -> Shape:
    known = ranked(shape)
    if known is None:
        return None
    if not known:
        return (1,)
    if not (-len(known) <= start < len(known) and -len(known) <= end < len(known)):
        return None
    first, last = start % len(known), end % len(known)
    return (*known[:first], product(known[first : last + 1]), *known[last + 1 :]) if first <= last else None


def permuted(shape: Shape, dims: tuple[int, ...]) -> Shape:
    known = ranked(shape)
    if known is None or len(known) != len(dims):
        return None
    at = [dim % len(known) for dim in dims if -len(known) <= dim < len(known)]
    return tuple(known[i] for i in at) if sorted(at) == list(range(len(known))) else None


def transposed(shape: Shape, one: int, other: int) -> Shape:
    known = ranked(shape)
    if known is None or not all(-len(known) <= dim < len(known) for dim in (one, other)):
        return None
    out = list(known)
    out[one], out[other] = out[other], out[one]
    return tuple(out)


def squeezed(shape: Shape, dims: tuple[int, ...] | None) -> Shape:
    """Without the dimensions of size 1, or of those named the ones that are."""
    known = ranked(shape)
    if known is None or (dims is None and None in known):
        return None
    if dims is None:
        return tuple(dim for dim in known if dim != 1)
    at = {dim % len(known) for dim in dims if known and -len(known) <= dim < len(known)}
    if any(known[i] is None for i in at):
        return None
    return tuple(dim for i, dim in enumerate(known) if i not in at or dim != 1)


def unsqueezed(shape: Shape, dim: int) -> Shape:
    known = ranked(shape)
    if known is None or not -len(known) - 1 <= dim <= len(known):
        return None
    at = dim % (len(known) + 1)
    return (*known[:at], 1, *known[at:])


def stacked(shapes: list[Shape], dim: int, count: int) -> Shape:
    """Equal shapes put along a new dimension."""
    first = ranked(shapes[0]) if shapes else None
    if first is None or any(shape != first for shape in shapes) or not -len(first) - 1 <= dim <= len(first):
        return None
    at = dim % (len(first) + 1)
    return (*first[:at], count, *first[at:])


def concatenated(shapes: list[Shape], dim: int, many: bool) -> Shape:
    known = [shape for shape in map(ranked, shapes) if shape]
    if not known or len(known) != len(shapes):
        return None
    rank = len(known[0])
    if any(len(shape) != rank for shape in known) or not -rank <= dim < rank:
        return None
    at = dim % rank
    out: list[int | None] = []
    for i in range(rank):
        column = [shape[i] for shape in known]
        if i != at:
            out.append(column[0] if all(size == column[0] for size in column) else None)
        elif not many and all(size is not None and size >= 0 for size in column):
            out.append(sum(size for size in column if size is not None))
        else:
            out.append(MANY if MANY in column or len(column) > 1 else None)
    return tuple(out)
