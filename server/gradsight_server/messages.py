"""What client and server say to each other beyond the protocol's own words: each message typed once.

`client/src/messages.ts` mirrors the records of this module field by field, and a test compares the two. What
comes in is checked here and nowhere else; `BadMessage` says in a sentence what is wrong with it.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

RUN_PROBE = "gradsight.runProbe"
CLEAR_PROBE = "gradsight.clearProbe"
FIX_AND_PROBE = "gradsight.fixAndProbe"
PROBE = "gradsight/probe"
STATUS = "gradsight/status"
TRUSTED = "gradsight/trusted"

STATES = ("live", "zero", "nonfinite", "cut", "cut-upstream", "constant", "none")


@dataclass(frozen=True, slots=True)
class Position:
    """As in the protocol: 0-based, the character in units of the encoding that was agreed on."""

    line: int
    character: int


@dataclass(frozen=True, slots=True)
class Range:
    """As in the protocol. Only `convert.py` makes one of a place in a text."""

    start: Position
    end: Position


@dataclass(frozen=True, slots=True)
class InitializationOptions:
    """What a client may say at `initialize`."""

    decorations: bool = False  # it draws `ProbeView`s itself, so that inlay hints are not needed
    trusted: bool = True  # the workspace's code may be run when the user asks
    settings: Any = None  # the section `gradsight`, for clients that cannot be asked for it


@dataclass(frozen=True, slots=True)
class Trusted:
    """Client to server, `gradsight/trusted`: the user trusts the workspace now, or no longer."""

    trusted: bool


@dataclass(frozen=True, slots=True)
class RunProbe:
    """The argument of `gradsight.runProbe`."""

    uri: str
    range: Range | None = None  # the selected lines; None: what can be probed around nothing, the whole file
    call: str | None = None  # a function to call after the file has been executed
    python: str | None = None  # the interpreter that the client found
    check: str | None = None  # an autograd.Function whose gradients are compared with numerical ones


@dataclass(frozen=True, slots=True)
class ClearProbe:
    """The argument of `gradsight.clearProbe`; without `uri` it means all documents."""

    uri: str | None = None


@dataclass(frozen=True, slots=True)
class FixAndProbe:
    """The argument of `gradsight.fixAndProbe`. No `token` and `offer`: the best fix at `range`."""

    uri: str
    token: str | None = None  # the finding, as its diagnostic's `data` calls it
    offer: str | None = None  # one of its fixes
    version: int | None = None  # of the document that these are about; None: as it is now
    range: Range | None = None
    python: str | None = None  # the interpreter that the client found


@dataclass(frozen=True, slots=True)
class GradientChange:
    """The gradient of one parameter without a fix and with it: its norm, or in a word why it has none."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class FixProbed:
    """The result of `gradsight.fixAndProbe`. `applied`: whether the document was changed."""

    uri: str
    applied: bool
    summary: str  # a sentence for people
    restored: tuple[GradientChange, ...] = ()
    lost: tuple[GradientChange, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """What stands beside one expression of a probed program."""

    range: Range
    label: str  # short; begins with a symbol, so that colour is never alone
    state: str  # one of STATES
    tooltip: str  # markdown


@dataclass(frozen=True, slots=True)
class ProbeParameter:
    """What arrived at one parameter."""

    name: str
    gradient: str | None  # none, zero, nonzero, nonfinite
    norm: float | None  # None where it is not finite


@dataclass(frozen=True, slots=True)
class ProbeError:
    """Why a probed program stopped."""

    message: str
    row: int | None  # 0-based


@dataclass(frozen=True, slots=True)
class ProbeView:
    """Server to client, `gradsight/probe`, and the result of `gradsight.runProbe`: all that one document (of
    a notebook: one cell) shows of a probe. No rows: it was cleared."""

    uri: str
    version: int | None
    stale: bool
    device: str | None
    torch: str | None
    summary: str
    error: ProbeError | None = None
    rows: tuple[ProbeRow, ...] = ()
    parameters: tuple[ProbeParameter, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """Server to client, `gradsight/status`: what the status bar shows."""

    phase: str  # starting, ready
    probe: str  # none, starting, running, warming, ready
    device: str | None = None
    message: str = ""


class BadMessage(ValueError):
    """A message that cannot be meant; its text is a sentence for people."""


Message = TypeVar("Message")


def to_json(message: Any) -> dict[str, Any]:
    """A message as the objects that `json.dumps` takes."""
    return asdict(message)


def from_json(kind: type[Message], value: object) -> Message:
    """A message from what `json.loads` gave. Unknown keys are passed over: they are a newer client's.

    Raises:
        BadMessage: a key is missing or has a value of another type.
    """
    made: Message = _read(kind, value, kind.__name__)
    return made


@lru_cache
def _types(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: object, name: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, value, name)
    if kind is Any:
        return value
    if get_origin(kind) in (Union, types.UnionType):
        inner = [each for each in get_args(kind) if each is not type(None)]
        return None if value is None else _read(inner[0], value, name)
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise BadMessage(f"`{name}` must be a list")
        return tuple(_read(get_args(kind)[0], each, name) for each in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadMessage(f"`{name}` must be {_WORDS.get(kind, kind.__name__)}, not {value!r:.60}")
    return value


_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _record(kind: type, value: object, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise BadMessage(f"`{name}` must be an object")
    given = {}
    for each in fields(kind):
        if each.name in value:
            given[each.name] = _read(_types(kind)[each.name], value[each.name], each.name)
        elif each.default is MISSING and each.default_factory is MISSING:
            raise BadMessage(f"`{name}` has no `{each.name}`")
    return kind(**given)
