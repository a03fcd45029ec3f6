"""Our `dataclass` does what the standard library's does, wherever we use it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from typing import Any

import pytest
from command_line import environment
from gradsight import record
from gradsight.finding import Finding, Severity
from gradsight.text import Span


def made(module: Any) -> tuple[type, type, type]:
    """The same three classes by either module."""

    @module.dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 2
        near: tuple[int, ...] = module.field(default=(), repr=False, compare=False)
        kept: Any = module.field(default=None, hash=False)

    @module.dataclass(slots=True, eq=False)
    class Box:
        items: list[int] = module.field(default_factory=list)
        total: int = module.field(default=0, init=False)

        def __post_init__(self) -> None:
            self.total = sum(self.items)

    @module.dataclass(frozen=True, slots=True)
    class Odd:
        value: object

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    return Point, Box, Odd


def outcome(act: Any, *parts: Any) -> object:
    try:
        return repr(act(*parts))
    except (AttributeError, TypeError) as error:
        return (
            "AttributeError"
            if isinstance(error, AttributeError)
            else str(error).replace("made.<locals>.", "")
        )


ACTS = {
    "shown": lambda module, Point, Box, Odd: (Point(1), Box([1, 2]), Odd(3)),
    "by name": lambda module, Point, Box, Odd: Point(y=3, x=1, near=(1,)).near,
    "missing": lambda module, Point, Box, Odd: Point(),
    "too many": lambda module, Point, Box, Odd: Point(1, 2, (), None, 5),
    "unknown name": lambda module, Point, Box, Odd: Point(1, z=2),
    "equal": lambda module, Point, Box, Odd: (
        Point(1) == Point(1, 2, (9,)),
        Point(1) == Point(2),
        Point(1) != (1, 2),
    ),
    "equal kept": lambda module, Point, Box, Odd: Point(1, kept=[1]) == Point(1, kept=[2]),
    "hash": lambda module, Point, Box, Odd: (
        hash(Point(1, kept=[])) == hash(Point(1, kept=None)),
        hash(Odd(1)),
    ),
    "same only": lambda module, Point, Box, Odd: (Box([1]) == Box([1]), hash(Box()) == hash(Box([1]))),
    "own equality": lambda module, Point, Box, Odd: Odd(1) == 2,
    "frozen": lambda module, Point, Box, Odd: setattr(Point(1), "x", 2),
    "frozen for deletion": lambda module, Point, Box, Odd: delattr(Point(1), "x"),
    "slots": lambda module, Point, Box, Odd: setattr(Box(), "other", 2),
    "own list each": lambda module, Point, Box, Odd: (Box().items.append(1), Box().items)[1],
    "computed": lambda module, Point, Box, Odd: Box([1, 2]).total,
    "replaced": lambda module, Point, Box, Odd: module.replace(Point(1, 5), x=3),
    "replaced wrongly": lambda module, Point, Box, Odd: module.replace(Point(1, 5), z=3),
    "copied": lambda module, Point, Box, Odd: copy.deepcopy(Point(1, kept=[1])),
    "matched": lambda module, Point, Box, Odd: Point.__match_args__,
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_as_in_the_standard_library(act: Any) -> None:
    ours = outcome(act, record, *made(record))
    assert ours == outcome(act, dataclasses, *made(dataclasses))


def test_findings_travel_between_processes() -> None:
    finding = Finding(
        "GS102", "detach-in-loss", Severity.WARNING, "words", "a.py", Span(1, 2), facts=(("a", "b"),)
    )
    assert pickle.loads(pickle.dumps(finding)) == finding
    assert pickle.loads(pickle.dumps(finding)).facts == finding.facts


def test_the_analysis_does_without_the_standard_librarys() -> None:
    program = "import sys, gradsight.engine, gradsight.rules; sys.exit('dataclasses' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, env=environment()).returncode == 0
