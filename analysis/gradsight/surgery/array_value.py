"""What is known of an expression of numpy code while it is written for torch, and how that joins.

Values are frozen and know no syntax: `roots` are whatever the caller uses to name an expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of an expression once it is written for torch.

    `kind` is tensor (was an array, is a tensor after the fix), array (stays numpy's), torch (was a tensor
    before), number (Python's), list (of `element`), other. `roots` are the expressions that would have to
    change to make an array a tensor. `taint` names foreign code that the value went through.
    """

    kind: str
    text: str = ""
    roots: frozenset[Any] = frozenset()
    live: bool = False
    dead_at: str = ""
    dtype: str = ""  # float, int, bool; empty: not known
    ndim: int | None = None
    fresh: bool = False  # made here: may be written in place
    shared: bool = False  # the memory of a tensor that existed before
    taint: str = ""
    element: Value | None = None
    elements: tuple[Value, ...] | None = None
    reopened: bool = False  # made a tensor again by a call that is now gone

    @property
    def is_tensor(self) -> bool:
        return self.kind in {"tensor", "torch"}


NUMBER = Value("number")
OTHER = Value("other")
Env = dict[str, Value]
_RANK = {"tensor": 5, "torch": 4, "array": 3, "list": 2, "other": 1, "number": 0}


def element_of(value: Value) -> Value:
    if value.kind == "list":
        if value.element is not None:
            return value.element
        return joined_all(list(value.elements)) or OTHER if value.elements else OTHER
    if value.kind in {"tensor", "array", "torch"}:
        ndim = value.ndim - 1 if value.ndim else None
        return replace(value, text="", ndim=ndim, fresh=False)
    return replace(value, text="", elements=None)


def innermost_element(value: Value) -> Value:
    while value.kind == "list" and value.element is not None:
        value = value.element
    return value


def joined(one: Value, two: Value) -> Value:
    high, _low = (one, two) if _RANK[one.kind] >= _RANK[two.kind] else (two, one)
    element = high.element
    if one.kind == two.kind == "list":
        if one.element is not None and two.element is not None:
            element = joined(one.element, two.element)
        else:
            element = one.element or two.element
    return replace(
        high,
        text="",
        roots=one.roots | two.roots,
        live=one.live or two.live,
        taint=one.taint or two.taint,
        dtype=one.dtype if one.dtype == two.dtype else "",
        ndim=one.ndim if one.ndim == two.ndim else None,
        fresh=(one.fresh or one.kind == "number") and (two.fresh or two.kind == "number"),
        shared=one.shared or two.shared,
        reopened=one.reopened or two.reopened,
        element=element,
        elements=one.elements if one.elements == two.elements else None,
    )


def joined_all(values: Sequence[Value]) -> Value | None:
    so_far: Value | None = None
    for value in values:
        so_far = replace(value, text="") if so_far is None else joined(so_far, value)
    return so_far


def combined(values: Sequence[Value]) -> Value:
    """The result of an arithmetic operation on the values."""
    value = joined_all(values) or OTHER
    ndims = [part.ndim for part in values if part.kind not in {"number"}]
    ndim = max(n for n in ndims if n is not None) if ndims and None not in ndims else None
    dead = "" if value.live else next((part.dead_at for part in values if part.dead_at), "")
    kind = "array" if value.kind == "list" else value.kind
    dtype = "float" if any(part.dtype == "float" for part in values) else ""
    return replace(
        value, kind=kind, ndim=ndim, dead_at=dead, dtype=dtype, fresh=False, shared=False, elements=None
    )
