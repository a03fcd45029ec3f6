"""Good training scripts are left alone, and the mistakes put into them are found.

`tests/corpus` says what a mutant is and how torch judges it. Here a slice is taken; `tests/corpus/measure.py`
takes all of them, and `tests/corpus/RESULTS.md` says what came of it.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from corpus import measure, mutations, recall, sites, verdicts
from gradsight.engine import Engine
from gradsight.finding import Severity
from gradsight.rules import RULES
from gradsight.text import Source
from harness import markers, truth

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "fixtures" / "corpus").glob("*.py"))
LEAST = 0.80  # of the wanted mutants
NTH, PER_PROGRAM, SEED = 5, 12, 5
LOUD = {"functional_ensemble_func.py"}  # known: `.detach()` in what `torch.func` differentiates is no cut
REAL = {("timm/layers/pos_embed_rel.py RelPosMlp", "GS206")}  # the package itself drops a result there

Measured: TypeAlias = "tuple[sites.Script, list[verdicts.Verdict], list[recall.Seen]]"


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


@pytest.mark.slow
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
def measured() -> list[Measured]:
    """A slice: of each program some mutants, by the same chance every time."""
    programs = [*measure.own(), *measure.public()[0]]
    return list(measure.measure(programs[::NTH], PER_PROGRAM, SEED))


@pytest.mark.slow
def test_public_packages_take_part() -> None:
    """Not to be mistaken for a pass: where they cannot be had, half of the corpus is missing."""
    programs, why = measure.public()
    if why:
        pytest.skip(f"no public packages: {why}")
    assert len(programs) >= 60
    loud = [
        f"{program.name}: {finding.code} {finding.message}"
        for program, finding in measure.unmutated(programs)
        if finding.severity.rank <= Severity.WARNING.rank and (program.name, finding.code) not in REAL
    ]
    assert not loud


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_mutant_is_a_program_with_one_mistake(measured: list[Measured]) -> None:
    for script, judged, _ in measured:
        for mutant in (each.mutant for each in judged):
            ast.parse(mutant.text)
            assert mutations.OPEN not in mutant.text
            assert mutations.CLOSE not in mutant.text
            assert mutations.edited(mutant.good or script.text, []) != mutant.text
            assert mutants_edits_make_it(script, mutant)
            assert mutant.at_raise or mutant.quote.strip(), f"{mutant.program} {mutant.rule} {mutant.style}"


def mutants_edits_make_it(script: sites.Script, mutant: mutations.Mutant) -> bool:
    """The record of what was changed is whole."""
    return mutations.edited(script.text, list(mutant.edits)) == mutant.text


@pytest.mark.slow
def test_cutting_nothing_changes_nothing() -> None:
    """Torch's judgement tells good from bad: what only a log or a metric reads is no mistake."""
    kinds: dict[tuple[str, str], str] = {}
    for name in ("gcn_nodes.py", "mlp_regression.py"):
        (script,) = sites.read([sites.Program.of(ROOT / "fixtures" / "corpus" / name)])
        cuts = [each for each in mutations.mutants(script) if each.style == "detach"]
        kinds |= {(name, each.mutant.quote): each.kind for each in verdicts.judge(script, cuts)}
    assert kinds["gcn_nodes.py", "output.detach()"] == "not confirmed"  # what the accuracy is computed from
    assert kinds["mlp_regression.py", "y_pred.detach()"] == "wanted"


@pytest.mark.slow
def test_every_rule_has_its_mistakes() -> None:
    """The mistake of each rule can be put into some program."""
    scripts = sites.read([sites.Program.of(path) for path in SCRIPTS])
    made = Counter(each.rule for script in scripts for each in mutations.mutants(script))
    rules = {
        each.code for each in RULES if each.code[:3] in ("GS1", "GS2", "GS3", "GS4", "GS5", "GS6", "GS7")
    }
    assert rules <= {*made}, rules - {*made}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_mistakes_are_found(measured: list[Measured], tell: Callable[[str], None]) -> None:
    judged = [each for _, some, _ in measured for each in some]
    seen = [each for _, _, some in measured for each in some]
    reasons = [f"{number:6} {reason}" for reason, number in measure.reasons(seen)[:20]]
    tell("\n".join(["", recall.table(judged, seen), *reasons]))
    assert len(seen) >= 200
    found = sum(each.found for each in seen)
    assert found >= LEAST * len(seen)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_changes_nothing_is_left_alone(measured: list[Measured]) -> None:
    """Loud where torch saw no difference is wrong."""
    calm = [
        each
        for _, judged, _ in measured
        for each in judged
        if each.kind == "not confirmed" and each.mutant.rule not in verdicts.PROTOCOL
    ]
    loud = [each for each in recall.look(calm) if each.loud]
    assert not [str(each) for each in loud if each.verdict.mutant.program not in LOUD]
