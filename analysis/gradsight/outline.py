"""Logical lines nested by indentation into statements, and gathered into functions.

Never fails: what cannot be in Python is nested as its indentation says. Blank lines and comments are in nothing here,
so that adding one changes nothing but places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gradsight.lines import CLAUSES, Line


class Clause(NamedTuple):
    """A line and the block below it."""

    at: int  # index into the lines that were nested
    line: Line
    block: list[Statement]


class Statement(list[Clause]):
    """The clauses of one statement, in order: `if`, `elif`, `else`; `match` and each `case`.

    Most have one clause. Lines deeper than a line that owns no block (a broken one, say) are in its block all the same.
    A decorator with no definition below is a statement of its own, of role `@`.
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
    """The code lines of a function, or of all that stands outside functions. Equal if its lines are the same."""

    lines: tuple[Line, ...]
    at: tuple[int, ...] = field(repr=False)  # of each, its index among the file's units
    _hash: int = field(repr=False)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Region):
            return NotImplemented
        return self._hash == other._hash and self.lines == other.lines


@dataclass(frozen=True, slots=True)
class Outline:
    """A file's functions, and the skeleton that they hang in.

    A function is an outermost `def`: at the module's level, in classes, and in `if`, `try`, `with`, `for`, ... there.
    It holds its decorators, its header and its body with all that is nested there. The skeleton holds everything else and
    the decorators and headers of the functions once more, so that who reads a signature need not read the body.
    """

    skeleton: Region
    functions: tuple[Region, ...]
    names: tuple[str, ...]  # of each function, dotted: `train`, `Net.forward`
    headers: tuple[int, ...]  # of each function, the index of its `def` line in `skeleton.lines`

    def function_at(self, index: int) -> int | None:
        """The number of the function whose `def` line is `skeleton.lines[index]`."""
        return self.headers.index(index) if index in self.headers else None


def outline(units: Sequence[Line], previous: Outline | None = None) -> Outline:
    """The functions of a file. `previous` changes nothing but the time it takes."""
    skeleton: list[int] = []
    functions: list[list[int]] = []
    names: list[str] = []
    headers: list[int] = []
    classes: list[tuple[int, str]] = []
    decorators = 0  # how many lines at the skeleton's end wait for their definition
    body: list[int] | None = None
    limit = 0
    for at, line in enumerate(units):
        if not line.code:
            continue
        if body is not None:
            if line.indent > limit:
                body.append(at)
                continue
            body = None
        role = line.role
        while classes and line.indent <= classes[-1][0]:
            classes.pop()
        skeleton.append(at)
        if role == "@":
            decorators += 1
            continue
        if role == "def":
            body, limit = skeleton[-1 - decorators :], line.indent
            functions.append(body)
            names.append(".".join([name for _, name in classes] + [line.name]))
            headers.append(len(skeleton) - 1)
        elif role == "class":
            classes.append((line.indent, line.name))
        decorators = 0
    before = iter(previous.functions if previous is not None else ())
    regions = tuple(_region(units, at, next(before, None)) for at in functions)
    whole = _region(units, skeleton, previous.skeleton if previous is not None else None)
    return Outline(whole, regions, tuple(names), tuple(headers))


def _region(units: Sequence[Line], at: list[int], before: Region | None) -> Region:
    lines = tuple(map(units.__getitem__, at))
    if before is not None and before.lines == lines:
        return Region(before.lines, tuple(at), before._hash)
    return Region(lines, tuple(at), hash(lines))
