"""Values across an activation's border: into a canonical key (objects and nodes renumbered), and back out.

Two calls that give a function the same kinds of things have equal keys, whatever the things are called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gradsight.values import (
    NOWHERE,
    Array,
    Bound,
    Choice,
    Class,
    Closure,
    Const,
    Func,
    Lib,
    Method,
    Number,
    Obj,
    Params,
    Partial,
    Ref,
    Seq,
    Super,
    Tensor,
    Unknown,
    Value,
)

if TYPE_CHECKING:
    from gradsight.interpret.activation import Activation


@dataclass(frozen=True, slots=True)
class Key:
    """What a summary depends on, but for the text of the function and of what it calls."""

    fid: str
    arguments: tuple[tuple[str, Value], ...]  # canonical
    module: tuple[tuple[str, Value], ...]  # canonical values of the module's names that it may read
    heap: tuple[Obj, ...]  # canonical: object number i
    inputs: int
    grad: str
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        known = self._hash  # computed once: whole models are in here
        if not known:
            known = hash((self.fid, self.arguments, self.module, self.heap, self.inputs, self.grad)) or 1
            object.__setattr__(self, "_hash", known)
        return known


# A value of one of these kinds with another node. `dataclasses.replace` takes thrice as long.
_PLACED: dict[type, Callable[[Any, int], Value]] = {
    Tensor: lambda value, node: Tensor(node, value.dtype, value.shape, value.role, value.origin, value.exact),
    Unknown: lambda value, node: Unknown(value.why, node),
    Number: lambda value, node: Number(node, value.kind),
    Array: lambda value, node: Array(node, value.dtype, value.role, value.shape, value.exact),
}


_FIXED = frozenset({Const, Func, Lib, Class})  # the same on either side


class Encoder:
    """Numbers nodes and objects in the order of their first appearance."""

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        self.inputs: list[int] = []
        self.oids: list[int] = []
        self._nodes: dict[int, int] = {NOWHERE: NOWHERE}
        self._oids: dict[int, int] = {}

    def key(self, fid: str, arguments: tuple[tuple[str, Value], ...], grad: str) -> Key:
        encoded = tuple((name, self.value(value)) for name, value in arguments)
        heap: list[Obj] = []
        self._drain(heap)
        classes = [obj.cls.cid for obj in heap if isinstance(obj.cls, Class)]
        names = self.activation.world.module_names(fid, classes)
        known = self.activation.state.module
        module = tuple(
            [
                (name, value if type(value) in _FIXED else self.value(value))
                for name in names
                if (value := known.get(name)) is not None
            ]
        )
        self._drain(heap)
        return Key(fid, encoded, module, tuple(heap), len(self.inputs), grad)

    def _drain(self, heap: list[Obj]) -> None:
        """The states of all objects met so far, and of those that they lead to."""
        while len(heap) < len(self.oids):
            obj = self.activation.state.heap[self.oids[len(heap)]]
            heap.append(
                Obj(
                    obj.kind,
                    obj.cls,
                    tuple(
                        [
                            (name, value if type(value) in _FIXED else self.value(value))
                            for name, value in obj.fields
                        ]
                    ),
                    tuple([self.value(value) for value in obj.items]),
                    obj.many,
                )
            )

    def node(self, number: int) -> int:
        known = self._nodes.get(number)
        if known is None:
            known = self._nodes[number] = len(self.inputs)
            self.inputs.append(number)
        return known

    def value(self, value: Value) -> Value:
        kind = type(value)
        if kind in _FIXED:
            return value
        placed = _PLACED.get(kind)
        if placed is not None:
            had: int = value.node  # type: ignore[union-attr]
            node = self.node(had)
            return value if had == node else placed(value, node)
        if isinstance(value, Ref):
            known = self._oids.get(value.oid)
            if known is None:
                if value.oid not in self.activation.state.heap:
                    return Unknown("an object that is not known here")
                known = self._oids[value.oid] = len(self.oids)
                self.oids.append(value.oid)
            return Ref(known)
        if isinstance(value, Seq):
            return Seq(tuple(self.value(item) for item in value.items))
        if isinstance(value, Params):
            return replace(value, nodes=tuple(self.node(n) for n in value.nodes))
        if isinstance(value, Choice):
            return Choice(tuple(self.value(option) for option in value.options))
        if isinstance(value, Bound):
            return Bound(self.value(value.receiver), self.value(value.function))
        if isinstance(value, Method):
            return Method(self.value(value.receiver), value.name)
        if isinstance(value, Partial):
            return Partial(
                self.value(value.function),
                tuple(self.value(item) for item in value.args),
                tuple((name, self.value(item)) for name, item in value.kwargs),
            )
        if isinstance(value, Super):
            return Super(self.value(value.receiver), value.cid)
        if isinstance(value, Closure):
            sealed = self.activation.sealed(value)
            return replace(sealed, captured=tuple((n, self.value(v)) for n, v in sealed.captured or ()))
        return value


def moved(thing: Any, nodes: dict[int, int], oids: dict[int, int]) -> Any:
    """A value or object state with its nodes and objects renumbered."""
    kind = type(thing)
    if kind in _FIXED:
        return thing
    if kind in _PLACED:
        node = nodes.get(thing.node, NOWHERE)
        return thing if thing.node == node else _PLACED[kind](thing, node)
    if kind is Ref:
        return Ref(oids[thing.oid]) if thing.oid in oids else Unknown("an object that is not known here")
    if kind is Obj:
        return Obj(
            thing.kind,
            thing.cls,
            tuple(
                [
                    (name, value if type(value) in _FIXED else moved(value, nodes, oids))
                    for name, value in thing.fields
                ]
            ),
            tuple([moved(value, nodes, oids) for value in thing.items]),
            thing.many,
        )
    if isinstance(thing, Seq):
        return Seq(tuple(moved(item, nodes, oids) for item in thing.items))
    if isinstance(thing, Params):
        return replace(thing, nodes=tuple(nodes.get(n, NOWHERE) for n in thing.nodes))
    if isinstance(thing, Choice):
        return Choice(tuple(moved(option, nodes, oids) for option in thing.options))
    if isinstance(thing, Bound):
        return Bound(moved(thing.receiver, nodes, oids), moved(thing.function, nodes, oids))
    if isinstance(thing, Method):
        return Method(moved(thing.receiver, nodes, oids), thing.name)
    if isinstance(thing, Partial):
        return Partial(
            moved(thing.function, nodes, oids),
            tuple(moved(item, nodes, oids) for item in thing.args),
            tuple((name, moved(item, nodes, oids)) for name, item in thing.kwargs),
        )
    if isinstance(thing, Super):
        return Super(moved(thing.receiver, nodes, oids), thing.cid)
    if isinstance(thing, Closure):
        if thing.captured is None:
            return Unknown(f"`{thing.name}` is defined inside another function")
        return replace(thing, captured=tuple((n, moved(value, nodes, oids)) for n, value in thing.captured))
    return thing
