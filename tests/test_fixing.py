"""Fixes are offered, and what they do is what the right program does.

`tests/corpus/fixing.py` makes the table for all; here a slice is taken, and `tests/corpus/FIXES.md` says what
came of the long run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from corpus import fixing, measure
from corpus.fixing import Bug, Proof
from gradsight.rules import RULES
from harness import analysis, markers

LEAST_OFFERED = 0.90  # of what the fixtures of all rules hold
LEAST_OFFERED_BY_RULE = 0.90
LEAST_PROVED = 0.95  # of the fixes that nobody has to complete
NTH, PER_PROGRAM, SEED = 9, 8, 7
DRAWN = 120


@pytest.fixture(scope="module")
def of_fixtures() -> list[Proof]:
    return list(fixing.fixtures())


@pytest.mark.slow
def test_fixtures_are_offered_fixes(of_fixtures: list[Proof]) -> None:
    offerable, offered, *_ = fixing.counted(of_fixtures)
    assert offered >= LEAST_OFFERED * offerable, fixing.table(of_fixtures)
    few = {}
    for rule in RULES:
        offerable, offered, *_ = fixing.counted(each for each in of_fixtures if each.bug.rule == rule.code)
        if offered < LEAST_OFFERED_BY_RULE * offerable:
            few[rule.code] = f"{offered} of {offerable}"
    assert not few


@pytest.mark.slow
def test_fixes_of_fixtures_apply(of_fixtures: list[Proof]) -> None:
    """The finding is gone, and none is new."""
    assert not [str(each) for each in of_fixtures if each.complete and not each.applied]


def test_what_nothing_mends_is_said_on_the_page() -> None:
    pages = fixing.pages()
    for path in sorted((fixing.ROOT / "fixtures" / "rules").glob("*/*.py")):
        why = markers.read(path).no_fix
        assert why is None or why in pages[path.parent.name[:5]], f"{path.name}: {why}"
    for (rule, style), why in fixing.NO_FIX.items():
        assert why in pages[rule], (rule, style)


def test_a_program_that_is_said_to_have_no_fix_has_none() -> None:
    for path in sorted((fixing.ROOT / "fixtures" / "rules").glob("*/*.py")):
        if markers.read(path).no_fix:
            found, source = analysis.findings(path)
            assert not all(analysis.fixes(source, each) for each in found), (
                f"{path.name}: there is one by now"
            )


RIGHT = """\
import torch
from torch import nn

torch.manual_seed(0)
encoder, head = nn.Linear(4, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
for _ in range(2):
    hidden = encoder(torch.randn(5, 4))
    loss = head(hidden).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
CUT = RIGHT.replace("head(hidden)", "head(hidden.detach())")


@pytest.mark.parametrize("right", [RIGHT, RIGHT.replace("head(hidden)", "head(2 * hidden)")])
def test_a_fix_is_proved_by_the_right_program_alone(right: str) -> None:
    found, _ = analysis.findings(CUT)
    known = Counter(each.code for each in found)
    proof = fixing.mended(Bug("mutant", "program", "GS102", "detach", CUT, tuple(found), known, right))
    fixing.prove([proof])
    assert proof.applied
    assert proof.proved is (right == RIGHT)
    assert bool(proof.wrong) is (right != RIGHT)


def test_a_drawn_program_without_its_cut_differs_there_alone() -> None:
    bugs = list(fixing.drawn(40, ("",)))
    assert len(bugs) >= 5
    for bug in bugs:
        cut, right = (set(text.splitlines()) for text in (bug.text, bug.right))
        assert 1 <= len(right - cut) <= 2
        assert not analysis.findings(bug.right)[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fixes_are_proved(of_fixtures: list[Proof], tell: Callable[[str], None]) -> None:
    programs = [*measure.own(), *measure.public()[0]][::NTH]
    bugs = list(fixing.drawn(DRAWN, ("",)))
    bugs += fixing.mutants_in(programs, PER_PROGRAM, SEED)
    proofs = [fixing.mended(bug) for bug in bugs if not fixing.why_not(bug)]
    proofs += of_fixtures
    fixing.prove(proofs)
    tell("\n" + fixing.table(proofs))
    wrong = [each for each in proofs if each.complete and not each.proved]
    offerable, offered, complete, _, proved = fixing.counted(proofs)
    assert offerable >= 500
    assert offered >= LEAST_OFFERED * offerable
    assert proved >= LEAST_PROVED * complete, [str(each) for each in wrong]
    assert not [str(each) for each in wrong if each.safe and not each.wrong.startswith("!")]
