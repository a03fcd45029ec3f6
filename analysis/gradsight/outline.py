"""Logical lines nested by indentation into statements, and gathered into functions.

Never fails: what cannot be in Python is nested as its indentation says. Blank lines and comments are in
nothing here, so that adding one changes nothing but places.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gradsight.lines import CLAUSES, Line
from gradsight.text import Units


class Clause(NamedTuple):
    """A line and the block below it."""

    at: int  # index into the lines that were nested
    line: Line
    block: list[Statement]


class Statement(list[Clause]):
    """The clauses of one statement, in order: `if`, `elif`, `else`; `match` and each `case`.

    Most have one clause. Lines deeper than a line that owns no block (a broken one, say) are in its block all
    the same. A decorator with no definition below is a statement of its own, of role `@`.
    """

    __slots__ = ("decorators",)

    def __init__(self, clause: Clause, decorators: tuple[Clause, ...] = ()) -> None:
        super().__init__((clause,))
        self.decorators = decorators  # of a `def` or `class`, outermost first


Block = list[Statement]


@dataclass(slots=True)
class _Level:
    indent: int
    block: Block
    owner: Statement | None  # the statement that the block is in
    last: Statement | None = None  # what a deeper line belongs to


def nest(lines: Sequence[Line]) -> Block:
    """The statements of some lines. Lines without code are passed over."""
    root: Block = []
    stack = [_Level(-1, root, None)]
    for at, line in enumerate(lines):
        if not line.code:
            continue
        while len(stack) > 1 and line.indent < stack[-1].indent:
            stack.pop()
        level = stack[-1]
        if line.indent > level.indent:
            last = level.last
            level = _Level(line.indent, root if last is None else last[-1].block, last)
            level.last = level.block[-1] if level.block else None
            stack.append(level)
        clause, last, owner = Clause(at, line, []), level.last, level.owner
        if line.role == "case" and owner is not None and owner[0].line.role == "match":
            owner.append(clause)
            level.last = owner
        elif line.role in CLAUSES and line.role != "case" and last is not None:
            last.append(clause)
        else:
            decorators: list[Clause] = []
            if line.role in ("def", "class"):
                while level.block and level.block[-1][0].line.role == "@" and len(level.block[-1]) == 1:
                    decorators.append(level.block.pop()[0])
            level.last = Statement(clause, tuple(reversed(decorators)))
            level.block.append(level.last)
    return root


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The code lines of a function, or of all that is outside functions. Equal if its lines mean the same."""

    lines: tuple[Line, ...]
    at: tuple[int, ...] = field(repr=False)  # of each, its index among the file's units
    _meaning: tuple[object, ...] = field(repr=False)  # of the lines
    _hash: int = field(repr=False)

    def __hash__(self) -> int:
        return self._hash

    def moved(self, delta: int, first: int = 0) -> Region:
        """The same lines, those from unit `first` on standing `delta` units further down."""
        stay = bisect_left(self.at, first)
        at = (*self.at[:stay], *map(delta.__add__, self.at[stay:]))
        return Region(self.lines, at, self._meaning, self._hash)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Region):
            return NotImplemented
        return self._meaning is other._meaning or (
            self._hash == other._hash and self._meaning == other._meaning
        )


@dataclass(frozen=True, slots=True)
class Outline:
    """A file's functions, and the skeleton that they hang in.

    A function is an outermost `def`: at the module's level, in classes, and in `if`, `try`, `with`, `for`,
    ... there. It holds its decorators, its header and its body with all that is nested there. The skeleton
    holds everything else and the decorators and headers of the functions once more, so that who reads a
    signature need not read the body.
    """

    skeleton: Region
    functions: tuple[Region, ...]
    names: tuple[str, ...]  # of each function, dotted: `train`, `Net.forward`
    headers: tuple[int, ...]  # of each function, the index of its `def` line in `skeleton.lines`
    units: Sequence[Line] = field(repr=False, compare=False)  # that it is the outline of
    stops: tuple[int, ...] = field(repr=False, compare=False)  # of each function, the first unit behind it

    def around(self, unit: int) -> int | None:
        """The number of the function that a logical line of the file belongs to; None outside of all."""
        return next((at for at, region in enumerate(self.functions) if unit in region.at), None)

    def function_at(self, index: int) -> int | None:
        """The number of the function whose `def` line is `skeleton.lines[index]`."""
        return self.headers.index(index) if index in self.headers else None


def outline(units: Sequence[Line], previous: Outline | None = None) -> Outline:
    """The functions of a file. `previous`, of an earlier state, changes nothing but the time it takes."""
    old = _Old(units, previous) if previous is not None else None
    if old is not None and (inside := old.inside_one()) is not None:
        return inside
    skeleton: list[int] = []
    functions: list[Region] = []
    names: list[str] = []
    headers: list[int] = []
    stops: list[int] = []
    classes: list[tuple[int, str]] = []
    decorators = 0  # how many lines at the skeleton's end wait for their definition
    at, end = 0, len(units)
    while at < end:
        line = units[at]
        at += 1
        if not line.code:
            continue
        indent, role = line.indent, line.role
        while classes and indent <= classes[-1][0]:
            classes.pop()
        skeleton.append(at - 1)
        if role == "@":
            decorators += 1
            continue
        if role == "def":
            body = skeleton[-1 - decorators :]
            reused = old.function(body[0], at - 1) if old is not None else None
            if reused is not None:
                region, at = reused
            else:
                while at < end and not ((line := units[at]).code and line.indent <= indent):
                    if line.code:
                        body.append(at)
                    at += 1
                region = _function(units, body)
            functions.append(region)
            names.append(".".join([name for _, name in classes] + [units[skeleton[-1]].name]))
            headers.append(len(skeleton) - 1)
            stops.append(at)
        elif role == "class":
            classes.append((indent, line.name))
        decorators = 0
    whole = _skeleton(units, skeleton)
    return Outline(whole, tuple(functions), tuple(names), tuple(headers), units, tuple(stops))


def _function(units: Sequence[Line], at: list[int]) -> Region:
    lines = tuple(map(units.__getitem__, at))
    meaning = tuple([line.vague or line.idle or line for line in lines])
    return Region(lines, tuple(at), meaning, hash(meaning))


def _skeleton(units: Sequence[Line], at: list[int]) -> Region:
    # A name alone is what a notebook's cell shows.
    lines = tuple(map(units.__getitem__, at))
    meaning = tuple([line.vague or line for line in lines])
    return Region(lines, tuple(at), meaning, hash(meaning))


class _Old:
    """An earlier outline's functions, found by where they stand now."""

    def __init__(self, units: Sequence[Line], outline: Outline) -> None:
        old = outline.units
        self._outline, self._units = outline, units
        # units[:first] are as they were, and from old[last:] on they have only moved.
        self._delta = len(units) - len(old)
        if isinstance(units, Units) and units.origin is not None and units.origin() is old:
            self._first, self._last = units.first, units.last
        else:
            self._first = common(units, old)
            same_end = min(common(units[::-1], old[::-1]), len(old) - self._first, len(units) - self._first)
            self._last = len(old) - same_end
        self._next = 0

    def inside_one(self) -> Outline | None:
        """The whole outline, where all that changed are lines within the body of one function."""
        outline, units, delta = self._outline, self._units, self._delta
        first, last = self._first, self._last + delta  # what is new of `units`
        # The function that the change lies in, up to the line that ends it.
        at = bisect_right(outline.stops, self._first)
        if at == len(outline.stops) or self._last > outline.stops[at]:
            return None
        header = outline.skeleton.at[outline.headers[at]]
        indent = units[header].indent if header < first else -1
        if header >= first or any(line.code and line.indent <= indent for line in units[first:last]):
            return None
        stop = outline.stops[at] + delta
        region = outline.functions[at]
        decorators = bisect_right(region.at, header) - 1
        body = [*region.at[: decorators + 1], *(n for n in range(header + 1, stop) if units[n].code)]
        changed = _function(units, body)
        if not delta:
            functions = (*outline.functions[:at], changed, *outline.functions[at + 1 :])
            return Outline(outline.skeleton, functions, outline.names, outline.headers, units, outline.stops)
        later = [region.moved(delta) for region in outline.functions[at + 1 :]]
        skeleton = outline.skeleton.moved(delta, first)
        stops = (*outline.stops[:at], *(each + delta for each in outline.stops[at:]))
        return Outline(
            skeleton, (*outline.functions[:at], changed, *later), outline.names, outline.headers, units, stops
        )

    def function(self, first: int, header: int) -> tuple[Region, int] | None:
        """The function that begins at unit `first`, its `def` at unit `header`, and where it stops."""
        outline = self._outline
        moved = 0 if header < self._first else self._delta
        while self._next < len(outline.headers):
            k = self._next
            was = outline.skeleton.at[outline.headers[k]]
            if was + moved > header:
                break
            self._next += 1
            region, stop = outline.functions[k], outline.stops[k]
            if was + moved == header and region.at[0] + moved == first:
                if stop < self._first:
                    return region, stop
                if region.at[0] >= self._last:
                    if moved:
                        region = region.moved(moved)
                    return region, stop + moved
                break
        return None


def common(one: Sequence[Line], other: Sequence[Line]) -> int:
    """How many lines both begin with. Equal lines are one object, so that comparing lists is comparing
    addresses; each step compares half of what is left."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
