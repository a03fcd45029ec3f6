"""Meaning, not spelling: programs that are rewritten without a change of meaning keep their findings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from harness import analysis, renaming, restructuring, truth
from harness.markers import read
from harness.metamorphic import Place, Rewritten, Unplaced, rewrite, with_comments

FIXTURES = Path(__file__).parent.parent / "fixtures"
PROGRAMS = [
    path
    for path in sorted([*FIXTURES.glob("seeds/*.py"), *FIXTURES.glob("rules/*/*.py")])
    if read(path).waits_for is None
]

TRANSFORMATIONS = {
    "written anew": restructuring.reformat,
    "everything renamed": renaming.rename_all,
    "imports aliased": renaming.alias_imports,
    "chains split": restructuring.split_chains,
    "moved into a function": restructuring.into_main,
    "moved into a class": restructuring.into_class,
    "a part moved into a helper": restructuring.into_helper,
    "a part moved into a method": restructuring.into_method,
    "unrelated statements added": restructuring.add_unrelated,
}


def named(path: Path) -> str:
    return f"{path.parent.name[:5]}-{path.stem}"


@functools.cache
def before(path: Path) -> tuple[tuple[Place, ...], tuple[str, ...]]:
    """The findings of a program as it stands: their places and severities."""
    found, _ = analysis.findings(path)
    return (
        tuple(Place(one.code, one.where.start, one.where.end) for one in found),
        tuple(one.severity.value for one in found),
    )


def rewritten(path: Path, name: str, places: Sequence[Place] = ()) -> Rewritten | None:
    """A program transformed, or None."""
    result = rewrite(path.read_text(encoding="utf-8"), places, read(path).facts(), TRANSFORMATIONS[name])
    return with_comments(result) if result and name == "unrelated statements added" else result


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_same_findings(name: str, tell: Callable[[str], None]) -> None:
    check(name, PROGRAMS, tell)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_same_findings_in_a_sample(name: str, tell: Callable[[str], None]) -> None:
    """Every thirtieth program, others for each transformation."""
    check(name, PROGRAMS[list(TRANSFORMATIONS).index(name) * 3 :: 30], tell, least=0.25)


def check(name: str, programs: Sequence[Path], tell: Callable[[str], None], *, least: float = 0.5) -> None:
    applied, wrong = 0, []
    for path in programs:
        places, severities = before(path)
        try:
            result = rewritten(path, name, places)
        except Unplaced as error:
            wrong.append(f"{named(path)}: a finding that is no expression: {error}")
            continue
        if result is None:
            continue
        applied += 1
        wanted = {
            (each.code, severity, each.start, each.end)
            for each, severity in zip(result.places, severities, strict=True)
        }
        found = {
            (each.code, each.severity.value, each.where.start, each.where.end)
            for each in analysis.findings(result.text)[0]
        }
        if name == "chains split":
            wanted = {louder if (louder := as_split(each)) in found else each for each in wanted}
        for title, entries in (("new", found - wanted), ("lost", wanted - found)):
            wrong += [
                f"{named(path)}: {title}: {code} {severity} [{result.text[start:end]}]"
                for code, severity, start, end in sorted(entries)
            ]
    tell(f"{name}: applied to {applied} of {len(programs)} programs, {len(wrong)} differences")
    assert not wrong, "\n".join(wrong)
    assert applied >= len(programs) * least


def as_split(finding: tuple[str, str, int, int]) -> tuple[str, str, int, int]:
    """What a detached part is when its chain is split.

    `self.encoder(x).detach()` in one piece is how one freezes a part on purpose: the one severity that the
    policy reads from how a program is written.
    """
    code, severity, start, end = finding
    return (code, "warning" if (code, severity) == ("GS102", "information") else severity, start, end)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_same_truth(name: str) -> None:
    """The rewritten programs do what the programs did: every third, another third for each transformation."""
    runs = {}
    for path in PROGRAMS[list(TRANSFORMATIONS).index(name) % 3 :: 3]:
        if result := rewritten(path, name):
            runs[path] = truth.Run(result.text, result.facts, path.name, result.locals_of)
    outcomes = truth.run_many(list(runs.values()))
    wrong = {
        named(path): outcome.false for path, outcome in zip(runs, outcomes, strict=True) if outcome.false
    }
    assert not wrong, "\n".join(f"{name}: {'; '.join(each)}" for name, each in wrong.items())
