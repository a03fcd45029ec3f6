"""What a module owns, as `parameters()` sees it: attributes and containers of modules, and no plain lists.

Asks the heap that a program leaves. Nothing here knows of a rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gradsight.values import Obj, Ref, Seq, Tensor, Value

MODULES = ("module", "instance", "object")


def parts(heap: Mapping[int, Obj], oid: int) -> Iterator[int]:
    """A module and all modules in it. A plain list hides what it holds."""
    seen: set[int] = set()
    stack: list[Value] = [Ref(oid)]
    while stack:
        value = stack.pop()
        if isinstance(value, Ref) and value.oid not in seen:
            seen.add(value.oid)
            obj = heap.get(value.oid)
            if obj is not None and obj.kind in MODULES:
                yield value.oid
                stack += obj.items
                stack += [item for name, item in obj.fields if name[:1] != "@"]


def parameters(heap: Mapping[int, Obj], oid: int) -> frozenset[int]:
    """The nodes of the parameters that `parameters()` of a module gives."""
    return frozenset(
        value.node
        for part in parts(heap, oid)
        for value in heap[part].held
        if isinstance(value, Tensor) and value.origin == "parameter"
    )


def hidden(heap: Mapping[int, Obj], value: Value | None) -> Iterator[int | Tensor]:
    """The modules, as objects, the parameters and the leaves that plain containers hold."""
    seen: set[int] = set()
    stack: list[Value | None] = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, Seq):
            stack += one.items
        elif isinstance(one, Tensor) and one.origin in ("parameter", "leaf"):
            yield one
        elif isinstance(one, Ref) and one.oid not in seen:
            seen.add(one.oid)
            obj = heap.get(one.oid)
            if obj is None:
                continue
            if obj.kind in ("list", "dict"):
                stack += obj.held
            elif obj.kind in ("module", "instance"):
                yield one.oid


def is_plain(heap: Mapping[int, Obj], value: Value | None) -> bool:
    """Whether a value is a plain list, tuple or dictionary."""
    if isinstance(value, Seq):
        return True
    obj = heap.get(value.oid) if isinstance(value, Ref) else None
    return obj is not None and obj.kind in ("list", "dict")
