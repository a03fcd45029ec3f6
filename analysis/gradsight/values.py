"""The abstract values that the interpreter computes with: frozen, small, comparable.

A value that can carry a gradient holds the number of its node in the static gradient graph (`graph.py`), or
`NOWHERE` where it depends on nothing that could learn. Mutable things (lists, modules, optimizers, instances)
are a `Ref` into the heap, whose `Obj` states are frozen as well and replaced when they change, so that a
branch is a copy of two dictionaries. Nothing here knows of text or places.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

NOWHERE = -1
MANY = -1  # a dimension known to be larger than one, whatever it is (a batch)
REST = -2  # at the front of a shape: any number of further dimensions
SOME = -3  # the same, and surely more than one element in all

Shape = tuple[int | None, ...] | None  # None: unknown; a dimension is a number, MANY or None


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that we cannot see into. `why` is shown to people who ask why nothing is said."""

    why: str
    node: int = NOWHERE


@dataclass(frozen=True, slots=True)
class Tensor:
    """A torch tensor.

    `origin`: "" computed, "parameter", "leaf" (requires_grad=True), or the name of the factory that made it
    ("torch.randn"): such a tensor requires no gradient.
    `exact`: the dtype's own name ("float64", "int32") where it is known for sure; whoever makes a tensor of
    another dtype leaves it out.
    """

    node: int = NOWHERE
    dtype: str = ""  # "float" | "int" | "bool" | "" unknown
    shape: Shape = None
    # "logit" | "probability" | "log-probability" | "index" | "one-hot" | "packed" (a PackedSequence)
    # | "blank" (zeros, to be filled) | ""
    role: str = ""
    origin: str = ""
    exact: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """A Python number (computed, its value unknown). The node follows what it was computed from.

    `kind`: "int" | "float" | "bool" where that is sure, and then no scalar of numpy; "many" for an int
    that is surely larger than one, the size of a batch.
    """

    node: int = NOWHERE
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Array:
    """A numpy array, and what it was computed from. `exact`: as of a tensor."""

    node: int = NOWHERE
    dtype: str = ""
    role: str = ""
    shape: Shape = None
    exact: str = ""


@dataclass(frozen=True, slots=True)
class Const:
    """A known Python constant."""

    value: object

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Const) and type(other.value) is type(self.value) and other.value == self.value
        )

    def __hash__(self) -> int:
        return hash((type(self.value).__name__, self.value))


NONE = Const(None)


@dataclass(frozen=True, slots=True)
class Seq:
    """A tuple of known length (or any immutable sequence that we know element by element)."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Ref:
    """A place in the heap."""

    oid: int


@dataclass(frozen=True, slots=True)
class Lib:
    """A name of a library, by its canonical dotted path."""

    name: str


@dataclass(frozen=True, slots=True)
class Func:
    """A function or method of the program; `fid` is its region's dotted name."""

    fid: str


@dataclass(frozen=True, slots=True)
class Class:
    """A class of the program, by its dotted name."""

    cid: str


@dataclass(frozen=True, slots=True)
class Closure:
    """A lambda or a nested function.

    `captured`: what its free names stand for; None as long as it is where it was made, and reads them there.
    """

    name: str
    node: Any = field(hash=False)  # ast.Lambda | ast.FunctionDef
    block: Any = field(default=None, hash=False)  # the nested function's block, None for a lambda
    grad_off: bool = False
    owner: str = ""  # the function whose lines it stands in
    at: int = 0  # its line there
    captured: tuple[tuple[str, Value], ...] | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """A method of the program together with its object."""

    receiver: Value
    function: Value


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a library value: `x.detach` before it is called.

    `base`: the node ast of `x`, for in-place calls.
    """

    receiver: Value
    name: str
    base: Any = field(default=None, hash=False, compare=False)


@dataclass(frozen=True, slots=True)
class Partial:
    """functools.partial and its like."""

    function: Value
    args: tuple[Value, ...]
    kwargs: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Super:
    """super() within a method of `cid`."""

    receiver: Value
    cid: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values, by the branch that was taken."""

    options: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Params:
    """An iterable of parameters: what an optimizer is given.

    `blanket`: `model.parameters()` of a whole model. `filtered`: only those that require a gradient there.
    """

    nodes: tuple[int, ...]
    blanket: bool = False
    unknown: bool = False
    named: bool = False
    filtered: bool = False


Value = (
    Unknown
    | Tensor
    | Number
    | Array
    | Const
    | Seq
    | Ref
    | Lib
    | Func
    | Class
    | Closure
    | Bound
    | Method
    | Partial
    | Super
    | Choice
    | Params
)


@dataclass(frozen=True, slots=True)
class Obj:
    """The state of one object.

    `kind`: "list" | "dict" | "instance" | "module" (a library module) | "optimizer" | "object" (of a library
    class). `cls`: Class or Lib. `many`: a list filled in a loop, or of unknown length.
    """

    kind: str
    cls: Value | None
    fields: tuple[tuple[str, Value], ...] = ()
    items: tuple[Value, ...] = ()
    many: bool = False

    @property
    def held(self) -> tuple[Value, ...]:
        """All that it holds: its items, then what its fields are."""
        return (*self.items, *(value for _, value in self.fields))

    def get(self, name: str) -> Value | None:
        for key, value in self.fields:
            if key == name:
                return value
        return None

    def with_field(self, name: str, value: Value) -> Obj:
        fields = self.fields
        for position, (key, old) in enumerate(fields):
            if key == name:
                if old is value or old == value:
                    return self
                return replace(self, fields=(*fields[:position], (name, value), *fields[position + 1 :]))
        return replace(self, fields=(*fields, (name, value)))


NODED = frozenset({Tensor, Number, Array, Unknown})
"""The kinds of value that have a graph node of their own, or NOWHERE."""


def node_of(value: Value | None) -> int:
    """The graph node of a value that has one, else NOWHERE."""
    return value.node if value.__class__ in NODED else NOWHERE  # type: ignore[union-attr]


PLAIN = frozenset({"a setting", "a string", "a shape", "metadata", "a key", "a name"})
"""Reasons of values that are data of Python's, whatever they are."""


ACCELERATED = ("cuda", "mps", "xpu")


def may_be_accelerated(value: Value | None) -> bool:
    """Whether a value names a device that is, or on some machines is, another than the CPU."""
    if isinstance(value, Const):
        return isinstance(value.value, str) and value.value.startswith(ACCELERATED)
    return isinstance(value, Unknown) and value.node == NOWHERE and "an accelerator" in value.why


def is_plain(value: Value | None) -> bool:
    """Nothing can learn through it, whatever is asked of it: a string, a setting, what comes of a library
    that makes no tensors."""
    return (
        isinstance(value, Unknown)
        and value.node == NOWHERE
        and (value.why in PLAIN or value.why.endswith("gives no tensor"))
    )


def surely_many(shape: Shape) -> bool:
    """Surely more than one element."""
    if shape is None:
        return False
    return any(dim in (MANY, SOME) or (dim is not None and dim > 1) for dim in shape) and 0 not in shape
