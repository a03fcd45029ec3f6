"""The checked list of Python's node kinds and constructs, held against the running `ast` and programs.

Of each construct `fixtures/language` has a program that loses a gradient through it and one that looks alike
and learns; of each that is unknown on purpose one that loses a gradient, and of which nothing is said.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from gradsight.interpret.expressions import EVALUATE, OPERATORS
from gradsight.interpret.language import ABSTRACT, CONSTRUCTS, FOLLOWED, RETIRED, UNKNOWN, UNKNOWN_CONSTRUCTS
from gradsight.interpret.statements import EXECUTE
from harness import analysis, truth, wants
from harness.markers import read

PROGRAMS = sorted((Path(__file__).parent.parent / "fixtures" / "language").glob("*.py"))
MARKERS = {path: read(path) for path in PROGRAMS}
KINDS = {
    name: kind
    for name, kind in vars(ast).items()
    if isinstance(kind, type) and issubclass(kind, ast.AST) and name not in ABSTRACT | RETIRED
}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_each_kind_of_node_is_followed_or_unknown_on_purpose(name: str) -> None:
    assert (name in FOLLOWED) != (name in UNKNOWN)


@pytest.mark.parametrize(
    "name", sorted(name for name, kind in KINDS.items() if issubclass(kind, (ast.stmt, ast.expr)))
)
def test_what_is_followed_has_somebody_who_follows_it(name: str) -> None:
    """`pass` does nothing, and the parts of a text are read with it."""
    kind = KINDS[name]
    assert (name in FOLLOWED) == (kind in EXECUTE or kind in EVALUATE or name in ("Pass", "FormattedValue"))


def test_operators_are_followed() -> None:
    assert {kind for kind in KINDS.values() if issubclass(kind, ast.operator)} == OPERATORS.keys()


def test_the_retired_and_the_abstract_are_that() -> None:
    """A kind that the parser makes is in neither list."""
    made = {type(node).__name__ for path in PROGRAMS for node in ast.walk(ast.parse(path.read_text()))}
    assert made.isdisjoint(ABSTRACT | RETIRED)


def test_each_construct_has_its_programs() -> None:
    wanted = {f"{name}_{kind}" for name in CONSTRUCTS for kind in ("flagged", "clean")}
    wanted |= {f"{name}_unknown" for name in UNKNOWN_CONSTRUCTS}
    assert {path.stem for path in PROGRAMS} == wanted


@pytest.fixture(scope="module")
def outcomes() -> dict[Path, truth.Outcome]:
    """All programs, run."""
    runs = [truth.Run.of(path, MARKERS[path].facts()) for path in PROGRAMS]
    return dict(zip(PROGRAMS, truth.run_many(runs), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_truth(path: Path, outcomes: dict[Path, truth.Outcome]) -> None:
    assert MARKERS[path].facts(), "a fixture without a fact proves nothing"
    assert not outcomes[path].false


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_wants(path: Path) -> None:
    found, source = analysis.findings(path)
    assert bool(MARKERS[path].wants) == path.stem.endswith("_flagged")
    report = wants.check(path.stem, source.text, found, MARKERS[path].wants)
    assert report, str(report)
