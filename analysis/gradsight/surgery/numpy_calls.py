"""How one numpy call on a tensor is written in torch: by the table, or by hand where a rename would lie.

A form gets the call with its arguments already written for torch and returns the new text with what is
known of its result. Nothing here knows statements or names; what has no equal raises `NoEqual`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from gradsight.model.numpy_table import ROWS
from gradsight.surgery.array_value import Value
from gradsight.surgery.refusal import words


class NoEqual(Exception):
    """Something has no faithful equal in torch; the message names it."""

    reason = "has no faithful equal in torch"


class NoGradient(NoEqual):
    """Something has an equal in torch, but no gradient comes through it."""

    reason = "lets no gradient through"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call: its keyword (or ""), its value, and its text in torch."""

    keyword: str
    value: Value
    text: str
    primary: bool = True


@dataclass(slots=True)
class NumpyCall:
    """A numpy function or method call whose result is to be a tensor.

    `torch` is how the file writes the torch module; `wrap(text)` makes a tensor of a foreign value;
    `layout` writes the call with other names, keywords and values, keeping the text between them.
    """

    name: str
    arguments: list[Argument]
    receiver: Argument | None
    torch: str
    anchor: str
    device: str
    layout: Callable[[str, dict[int, str | None], dict[int, str], list[str]], str]
    changed: dict[int, str | None] = field(default_factory=dict)
    keywords: dict[int, str] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)

    @property
    def row(self) -> Row | None:
        return table().get(self.name)

    def index(self, name: str, position: int) -> int | None:
        """Where an argument stands in `arguments`, by keyword or by its position in the function's form."""
        for i, argument in enumerate(self.arguments):
            if argument.keyword == name:
                return i
        at = position - (self.receiver is not None)
        if 0 <= at < len(self.arguments) and not self.arguments[at].keyword:
            return at
        return None

    def get(self, name: str, position: int) -> Argument | None:
        if position == 0 and self.receiver is not None:
            return self.receiver
        at = self.index(name, position)
        return None if at is None else self.arguments[at]

    def need(self, name: str, position: int) -> Argument:
        found = self.get(name, position)
        if found is None:
            raise NoEqual(f"`np.{self.name}` without `{name}`")
        return found

    def literal(self, name: str, position: int) -> Any:
        """The Python value of an argument, `MISSING` if it is not given, `UNKNOWN` if it is no literal."""
        found = self.get(name, position)
        if found is None:
            return MISSING
        try:
            return ast.literal_eval(found.text)
        except (ValueError, SyntaxError, MemoryError):
            return UNKNOWN

    def only(self, *names: str, count: int) -> None:
        """Refuse the arguments that are not among these, or more positional ones than `count`."""
        positional = (self.receiver is not None) + sum(not a.keyword for a in self.arguments)
        for argument in self.arguments:
            if argument.keyword and argument.keyword not in names:
                raise NoEqual(f"`{argument.keyword}=` of `np.{self.name}`")
        if positional > count:
            raise NoEqual(f"`np.{self.name}` with {positional} positional arguments")

    def drop(self, name: str, position: int) -> None:
        at = self.index(name, position)
        if at is not None:
            self.changed[at] = None

    def keyed(self, name: str, position: int, keyword: str) -> bool:
        """The argument is passed by this keyword; says whether it is there."""
        at = self.index(name, position)
        if at is not None:
            self.keywords[at] = keyword
        return at is not None

    def written(self, function: str) -> str:
        """The call of `function` (a torch name, or a method's name after a dot)."""
        if self.receiver is not None and not function.startswith("."):
            return self.as_function(function)
        return self.layout(function, self.changed, self.keywords, self.added)

    def as_function(self, function: str) -> str:
        """The method call written as a function of its receiver."""
        assert self.receiver is not None
        parts = [self.receiver.text]
        for i, argument in enumerate(self.arguments):
            if i in self.changed and self.changed[i] is None:
                continue
            text = self.changed.get(i) or argument.text
            keyword = self.keywords.get(i, argument.keyword)
            parts.append(f"{keyword}={text}" if keyword else text)
        return f"{function}({', '.join((*parts, *self.added))})"


MISSING = object()
UNKNOWN = object()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    torch: str
    gradient: str
    parameters: tuple[tuple[str, str], ...]


@lru_cache(maxsize=1)
def table() -> Mapping[str, Row]:
    rows: dict[str, Row] = {}
    for line in ROWS.strip().splitlines():
        name, target, gradient, *words = line.split()
        pairs = [word.partition("=") for word in words]
        rows[name] = Row(target, gradient, tuple((mine, theirs or mine) for mine, _, theirs in pairs))
    return rows


def primary(argument: Argument) -> str:
    """The argument's text, fit to stand before a dot."""
    return argument.text if argument.primary else f"({argument.text})"


def as_tensor(call: NumpyCall, argument: Argument) -> str:
    """The argument as a tensor, whatever it is."""
    if argument.value.is_tensor:
        return argument.text
    device = f", device={call.device}" if call.device and argument.value.kind != "number" else ""
    return f"{call.torch}.as_tensor({argument.text}{device})"


def of_list(call: NumpyCall, argument: Argument) -> str:
    """The first argument as one tensor: a list of arrays is stacked."""
    if argument.value.kind == "list":
        return f"{call.torch}.stack({argument.text})"
    return as_tensor(call, argument)


def subject_of(call: NumpyCall, name: str = "a") -> str:
    return of_list(call, call.need(name, 0))


def primary_tensor(call: NumpyCall, argument: Argument) -> str:
    return primary(argument) if argument.value.is_tensor else as_tensor(call, argument)


def as_float(call: NumpyCall, argument: Argument) -> str:
    """The argument with a floating dtype, where its own is known to be none."""
    if argument.value.dtype in {"bool", "int"}:
        return f"{primary(argument)}.{to_anchor_dtype(call)}"
    return argument.text


def to_anchor_dtype(call: NumpyCall) -> str:
    return f"to({call.anchor}.dtype)" if call.anchor else "float()"


Form = Callable[[NumpyCall], "tuple[str, Value]"]
FORMS: dict[str, Form] = {}


def form(*names: str) -> Callable[[Form], Form]:
    def register(function: Form) -> Form:
        for name in names:
            FORMS[name] = function
        return function

    return register


def operands(call: NumpyCall) -> list[Argument]:
    found = [argument for argument in call.arguments if not argument.keyword]
    return ([call.receiver] if call.receiver is not None else []) + found


def result(call: NumpyCall, gradient: str = "+", **known: Any) -> Value:
    """The value of a call: live if an operand is and the operation lets a gradient through."""
    parts = [*operands(call), *(argument for argument in call.arguments if argument.keyword)]
    flat: list[Value] = []
    for part in parts:
        value = part.value
        while value.kind == "list" and value.element is not None:
            value = value.element
        flat.append(value)
    live = any(value.live for value in flat)
    dead_at = next((value.dead_at for value in flat if value.dead_at), "")
    if gradient != "+":
        dead_at = f"`np.{call.name}`" if live or not dead_at else dead_at
        live = False
    known.setdefault("dtype", "bool" if gradient == "-" and call.name in _BOOLEAN else "")
    return Value("tensor", live=live, dead_at="" if live else dead_at, **known)


_BOOLEAN = words(
    "isnan isinf isfinite signbit logical_not logical_and logical_or logical_xor greater greater_equal "
    "less less_equal equal not_equal isclose isin all any"
)
_NEED_FLOAT = words("mean std var quantile nanmean linalg.norm softmax log_softmax")
_BOTH_TENSORS = words(
    "maximum minimum fmax fmin arctan2 atan2 hypot logaddexp logaddexp2 copysign matmul inner kron "
    "fmod scipy.special.xlogy logical_and logical_or logical_xor greater greater_equal less less_equal "
    "equal not_equal isclose bitwise_and bitwise_or bitwise_xor"
)
_SECOND_MAY_BE_NUMBER = words("fmod greater greater_equal less less_equal equal not_equal")


def write(call: NumpyCall) -> tuple[str, Value]:
    """The call in torch and what it gives.

    Raises:
        NoEqual: it has no faithful equal.
    """
    for argument in call.arguments:
        if argument.keyword in {"out", "where", "dtype", "order", "casting"} and call.name not in {
            "sum",
            "mean",
        }:
            if argument.keyword == "dtype" and call.name in {"zeros_like", "ones_like", "array", "asarray"}:
                continue
            raise NoEqual(f"`{argument.keyword}=` of `np.{call.name}`")
    special = FORMS.get(call.name)
    if special is not None:
        return special(call)
    return regular(call)


def regular(call: NumpyCall, target: str = "", **known: Any) -> tuple[str, Value]:
    """The call renamed by the table."""
    row = call.row
    if row is None:
        raise NoEqual(f"`np.{call.name}`" if not call.name.startswith("scipy.") else f"`{call.name}`")
    if row.gradient == "!":
        raise NoEqual(f"`np.{call.name}`, whose backward raises,")
    names = [mine for mine, _ in row.parameters]
    renamed = dict(row.parameters)
    position = 1 if call.receiver is not None else 0
    target = target or row.torch
    axis: Any = MISSING
    for i, argument in enumerate(call.arguments):
        if argument.keyword:
            if argument.keyword not in renamed and argument.keyword not in {"axis"} & set(names):
                raise NoEqual(f"`{argument.keyword}=` of `np.{call.name}`")
            name = argument.keyword
            call.keywords[i] = renamed[name]
        else:
            if call.name == "einsum":
                name = "operands"
            elif position >= len(names):
                raise NoEqual(f"`np.{call.name}` with {position + 1} positional arguments")
            else:
                name = names[position]
            if position > 0 and name in {"axis", "keepdims", "ddof", "n"}:
                call.keywords[i] = renamed[name]
            position += 1
        if name == "axis":
            axis = argument.text
            if axis == "None":
                call.changed[i] = None
                axis = MISSING
        elif argument.value.kind in {"array", "other"} and not argument.keyword and name not in _PLAIN:
            call.changed[i] = as_tensor(call, argument)
        elif argument.value.dtype in {"bool", "int"} and i == 0 and call.name in _NEED_FLOAT:
            call.changed[i] = as_float(call, argument)
        elif argument.value.kind == "list" and name in {"a", "x", "m"}:
            call.changed[i] = f"{call.torch}.stack({argument.text})"
    if call.name in _BOTH_TENSORS:
        for i, argument in enumerate(call.arguments):
            if argument.value.kind == "number" and not (i == 1 and call.name in _SECOND_MAY_BE_NUMBER):
                call.changed[i] = as_tensor(call, argument)
    if (
        call.receiver is not None
        and call.receiver.value.dtype in {"bool", "int"}
        and call.name in _NEED_FLOAT
    ):
        call.receiver = replace(call.receiver, text=as_float(call, call.receiver), primary=True)
        text = call.as_function(call.torch + target.removeprefix("torch"))
    else:
        text = call.written(
            f".{target.rpartition('.')[2]}"
            if call.receiver is not None and target.count(".") == 1
            else call.torch + target.removeprefix("torch")
        )
    if call.name.endswith("_like"):
        known.setdefault("fresh", True)
    if "axis" in names and "keepdims" in names and "ndim" not in known:
        known["ndim"] = 0 if axis is MISSING and "keepdim" not in text else None
    return text, result(call, row.gradient, **known)


_PLAIN = words(
    "axis keepdims axes shape reps shift k ddof repeats n ord indices_or_sections source destination "
    "axis1 axis2 fill_value nan minlength mode s norm subscripts"
)
