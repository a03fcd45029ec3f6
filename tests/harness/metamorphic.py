"""Programs rewritten without a change of meaning, with the places of interest found again in the new text.

A place is marked on its syntax node, the tree is transformed, written out and parsed again; the node at
the same position of the new tree has the new span. Comments and layout are lost on the way, as by any
reformatting.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from harness.markers import Raises

# Rules whose finding stands at an argument of a call: it stays there when the expression moves out. One at an
# operator, a difference that is written by hand, moves with it.
AT_ARGUMENT = ("GS301", "GS302", "GS303", "GS304", "GS305", "GS306", "GS308")


# What a finding can stand at: an expression, or the name of a function.
PLACED = (ast.expr, ast.FunctionDef, ast.AsyncFunctionDef)


class Unplaced(ValueError):
    """A span that is neither an expression of the program nor a function's name."""


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of the text that is of interest, and what it is known by."""

    code: str
    start: int  # code points
    end: int


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A program after a transformation."""

    text: str
    places: tuple[Place, ...]  # of each given place the new one, in order
    facts: tuple[str | Raises, ...]  # said in the program's new names
    locals_of: tuple[str, ...]  # functions that now hold the variables of which the facts speak


@dataclass(slots=True)
class Work:
    """A tree that is being transformed."""

    tree: ast.Module
    facts: list[str | Raises]
    codes: list[str]  # of each mark its rule's code
    locals_of: tuple[str, ...] = ()
    counter: int = 0
    used: set[str] = field(default_factory=set)

    def fresh(self, stem: str) -> str:
        """A name that the program does not have."""
        while True:
            name = f"{stem}{self.counter}"
            self.counter += 1
            if name not in self.used:
                self.used.add(name)
                return name

    def rename_facts(self, rename: Callable[[ast.Expression], ast.AST]) -> None:
        """Say the facts in new names."""
        self.facts = [
            fact if isinstance(fact, Raises) else ast.unparse(rename(ast.parse(fact, mode="eval")))
            for fact in self.facts
        ]


# Transforms the tree in place; False where it does not apply.
Transformation = Callable[[Work], bool]


def rewrite(
    text: str, places: Iterable[Place], facts: Iterable[str | Raises], transformation: Transformation
) -> Rewritten | None:
    """The program transformed; None where the transformation does not apply.

    Raises:
        Unplaced: a place is no expression of the program.
    """
    places = list(places)
    tree = ast.parse(text)
    _mark(tree, text, places)
    work = Work(tree, list(facts), [place.code for place in places], used=names_in(tree))
    if not transformation(work):
        return None
    ast.fix_missing_locations(work.tree)
    new = ast.unparse(work.tree) + "\n"
    found = _marked(work.tree, ast.parse(new), new, len(places))
    moved = tuple(Place(place.code, *found[number]) for number, place in enumerate(places))
    return Rewritten(new, moved, tuple(work.facts), work.locals_of)


def with_comments(rewritten: Rewritten) -> Rewritten:
    """A comment and a blank line before every statement that stands on lines of its own."""
    starts = {
        node.lineno
        for node in ast.walk(ast.parse(rewritten.text))
        if isinstance(node, ast.stmt) and not getattr(node, "decorator_list", None)
    }
    decorated = {
        row
        for node in ast.walk(ast.parse(rewritten.text))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))
        for row in range(
            min((each.lineno for each in node.decorator_list), default=node.lineno) + 1, node.lineno + 1
        )
    }
    offsets = [place.start for place in rewritten.places], [place.end for place in rewritten.places]
    pieces: list[str] = []
    position, shift = 0, 0
    shifts: list[tuple[int, int]] = []
    for row, line in enumerate(rewritten.text.splitlines(keepends=True), 1):
        if (
            row in starts
            and row not in decorated
            and not line.lstrip().startswith(("elif", "else", "except"))
        ):
            indent = line[: len(line) - len(line.lstrip())]
            pieces.append(f"\n{indent}# note: loss, .detach() and torch.no_grad() are only spoken of here\n")
            shift += len(pieces[-1])
        shifts.append((position, shift))
        pieces.append(line)
        position += len(line)

    def moved(offset: int) -> int:
        return offset + next(by for start, by in reversed(shifts) if start <= offset)

    places = tuple(
        Place(place.code, moved(start), moved(end - 1) + 1)
        for place, start, end in zip(rewritten.places, *offsets, strict=True)
    )
    return Rewritten("".join(pieces), places, rewritten.facts, rewritten.locals_of)


def marks(node: ast.AST) -> list[int]:
    """The numbers of the places that a node stands for."""
    return node.__dict__.setdefault("_marks", [])


def all_marks(node: ast.AST) -> list[int]:
    """Those of a node and all within it."""
    return [number for each in ast.walk(node) for number in each.__dict__.get("_marks", ())]


def names_in(tree: ast.AST) -> set[str]:
    """Every identifier of a program, of whatever kind."""
    found: set[str] = set()
    for node in ast.walk(tree):
        for _, value in ast.iter_fields(node):
            if isinstance(value, str):
                found.add(value)
            elif isinstance(value, list):
                found.update(each for each in value if isinstance(each, str))
    return found


def span(text: str, node: ast.expr | ast.stmt) -> tuple[int, int]:
    """Where a node stands, in code points."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def offset(row: int, column: int) -> int:
        return starts[row - 1] + len(lines[row - 1].encode()[:column].decode())

    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        start = text.index(node.name, text.index("def", offset(node.lineno, node.col_offset)) + 3)
        return start, start + len(node.name)
    return offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)


def _mark(tree: ast.Module, text: str, places: list[Place]) -> None:
    for number, place in enumerate(places):
        rows = text.count("\n", 0, place.start) + 1
        node = next(
            (
                each
                for each in ast.walk(tree)  # outer nodes come first
                if isinstance(each, PLACED)
                and each.lineno == rows
                and span(text, each) == (place.start, place.end)
            ),
            None,
        )
        if node is None:
            raise Unplaced(f"{place.code} at row {rows}: {text[place.start : place.end]!r}")
        marks(node).append(number)


def _marked(tree: ast.AST, parsed: ast.AST, text: str, count: int) -> Mapping[int, tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    for old, new in _pairs(tree, parsed):
        for number in old.__dict__.get("_marks", ()):
            assert isinstance(new, PLACED)
            assert number not in found, "a place was copied"
            found[number] = span(text, new)
    assert len(found) == count, "a place was lost"
    return found


def _pairs(a: ast.AST, b: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """The nodes of two trees of one shape."""
    assert type(a) is type(b), f"{ast.dump(a)[:80]} was written out as {ast.dump(b)[:80]}"
    yield a, b
    for name in a._fields:
        left, right = getattr(a, name, None), getattr(b, name, None)
        if isinstance(left, ast.AST):
            yield from _pairs(left, right)
        elif isinstance(left, list):
            nodes = [each for each in left if isinstance(each, ast.AST)]
            for one, other in zip(nodes, [each for each in right if isinstance(each, ast.AST)], strict=True):
                yield from _pairs(one, other)
