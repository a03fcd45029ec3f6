"""Shapes of what an operation gives, from the shapes of its operands."""

from __future__ import annotations

from gradsight.values import MANY, Shape, surely_many


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of an elementwise operation; None where it cannot be known."""
    if a is None or b is None:
        # Broadcasting never makes fewer elements.
        known = a if b is None else b
        return (MANY,) if surely_many(known) else None
    if len(a) < len(b):
        a, b = b, a
    b = (1,) * (len(a) - len(b)) + b
    out: list[int | None] = []
    for x, y in zip(a, b, strict=False):
        if x == 1:
            out.append(y)
        elif y == 1 or x == y:
            out.append(x)
        elif x == MANY or y == MANY:
            out.append(MANY)
        else:
            out.append(None)
    return tuple(out)


def matmul_shape(a: Shape, b: Shape) -> Shape:
    if a is None or b is None or not a or not b:
        return None
    if len(a) == 1 and len(b) == 1:
        return ()
    if len(b) == 1:
        return a[:-1]
    if len(a) == 1:
        return (*b[:-2], b[-1])
    return (*a[:-1], b[-1])
