"""Good training scripts are left alone, and the mistakes put into them are found.

`tests/corpus` says what a mutant is and how torch judges it; `tests/corpus/counts.json` says how many there
are.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from corpus import mutations, recall, sites, verdicts
from gradsight.engine import Engine
from gradsight.finding import Severity
from gradsight.text import Source
from harness import markers, truth

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "fixtures" / "corpus").glob("*.py"))
COUNTS = Path(__file__).parent / "corpus" / "counts.json"
LEAST = 0.80  # of the wanted mutants


def test_the_corpus_is_there() -> None:
    assert len(SCRIPTS) >= 12


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_good_script_is_left_alone(path: Path) -> None:
    bugs: list[str] = []
    engine = Engine(lambda where, error: bugs.append(f"{where}: {error!r}"))
    source = Source(str(path), path.read_text(encoding="utf-8"))
    findings = engine.analyze(source).findings
    assert not bugs
    shown = [f"{each.code} {each.severity.value} {source.slice(each.where)}" for each in findings]
    loud = [each for each in findings if each.severity.rank <= Severity.WARNING.rank]
    assert not loud, shown
    assert not shown


def test_good_scripts_learn() -> None:
    """Each says in its own facts that all which should learn has a gradient."""
    facts = {path: markers.read(path).facts() for path in SCRIPTS}
    assert all(facts.values())
    outcomes = truth.run_many([truth.Run.of(path, facts[path]) for path in SCRIPTS])
    wrong = {
        path.name: outcome.false for path, outcome in zip(SCRIPTS, outcomes, strict=True) if outcome.false
    }
    assert not wrong


@pytest.fixture(scope="module")
def scripts() -> list[sites.Script]:
    return sites.read(SCRIPTS)


@pytest.fixture(scope="module")
def judged(scripts: list[sites.Script]) -> list[verdicts.Verdict]:
    return verdicts.judge(scripts, [each for script in scripts for each in mutations.mutants(script)])


@pytest.mark.slow
def test_mutants_are_programs_with_one_mistake(scripts: list[sites.Script]) -> None:
    for script in scripts:
        for each in mutations.mutants(script):
            ast.parse(each.text)
            assert mutations.OPEN not in each.text
            assert mutations.CLOSE not in each.text
            assert each.at_raise or each.quote.strip(), f"{each.program} {each.rule} {each.style}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_cutting_nothing_changes_nothing(judged: list[verdicts.Verdict]) -> None:
    """Torch's judgement tells good from bad: what only a log or a metric reads is no mistake."""
    kinds = {
        (each.mutant.program, each.mutant.quote): each.kind
        for each in judged
        if each.mutant.style == "detach"
    }
    assert kinds["gcn_nodes.py", "output.detach()"] == "not confirmed"  # what the accuracy is computed from
    assert kinds["mlp_regression.py", "y_pred.detach()"] == "wanted"
    assert {each.severity for each in judged if each.kind != "wanted"} == {None}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_mistakes_are_found(judged: list[verdicts.Verdict], capsys: pytest.CaptureFixture[str]) -> None:
    seen = list(recall.look(each for each in judged if each.kind == "wanted"))
    missed = [each for each in seen if not each.found]
    with capsys.disabled():
        print("\n" + recall.table(judged, seen))
        for title, chosen in (("missed", missed), ("miscoded", [each for each in seen if each.miscoded])):
            print(f"\n{title}:" if chosen else "", *chosen, sep="\n  ")
    assert len(missed) <= (1 - LEAST) * len(seen)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_changes_nothing_is_left_alone(
    judged: list[verdicts.Verdict], capsys: pytest.CaptureFixture[str]
) -> None:
    """Loud where torch saw no difference is wrong; where only a part of a gradient is lost, it is printed."""
    seen = list(recall.look(each for each in judged if each.kind in ("not confirmed", "not wanted")))
    loud = [each for each in seen if each.loud]
    with capsys.disabled():
        print(
            "\nloud though not wanted:",
            *(each for each in loud if each.verdict.kind == "not wanted"),
            sep="\n  ",
        )
    assert not [str(each) for each in loud if each.verdict.kind == "not confirmed"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_corpus_does_not_shrink(judged: list[verdicts.Verdict], update_golden: bool) -> None:
    counts: dict[str, dict[str, int]] = {}
    for each in judged:
        of = counts.setdefault(each.mutant.rule, {"mutants": 0, "wanted": 0, "programs": 0})
        of["mutants"] += 1
        of["wanted"] += each.kind == "wanted"
    for rule, of in counts.items():
        of["programs"] = len({each.mutant.program for each in judged if each.mutant.rule == rule})
    if update_golden:
        COUNTS.write_text(json.dumps(dict(sorted(counts.items())), indent=1) + "\n", encoding="utf-8")
    known = json.loads(COUNTS.read_text(encoding="utf-8"))
    fewer = {
        (rule, what): (number, counts.get(rule, {}).get(what, 0))
        for rule, of in known.items()
        for what, number in of.items()
        if counts.get(rule, {}).get(what, 0) < number
    }
    assert not fewer, "fewer than there were (was, is)"
