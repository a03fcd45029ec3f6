"""Programs that nobody wrote: what is claimed of each parameter and each edge, and autograd's word for it.

`tests/generated` writes them, runs them and compares; its `long_run.py` does so with ten thousand.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from generated import edges, grammar, judging
from generated.writing import CUTS

ROOT = Path(__file__).resolve().parent.parent
SLICE = range(200)
SAMPLE = range(200, 212)  # of the fast run
MOST_SILENT = 0.10  # of the parameters without a gradient
LEAST_COMPARED = 0.90  # of the static edges
RULES = sorted((ROOT / "fixtures" / "rules").glob("*/*.py"))
CORPUS = sorted((ROOT / "fixtures" / "corpus").glob("*.py"))


def test_every_construct_is_drawn(tell: Callable[[str], None]) -> None:
    emitted: Counter[str] = Counter()
    for seed in range(1000):
        emitted += grammar.program(seed).emitted
    wanted = {*grammar.CONSTRUCTS, *(f"cut: {kind}" for kind in CUTS)}
    tell(", ".join(f"{name} {emitted[name]}" for name in sorted(wanted)))
    assert not {name for name in wanted if not emitted[name]}
    assert not set(emitted) - wanted, "constructs that are not in the list"


def test_a_seed_is_a_program() -> None:
    for seed in (1, 17, 300):
        assert grammar.program(seed) == grammar.program(seed)
    for seed in range(100):
        ast.parse(grammar.program(seed).text)


def check(figures: judging.Figures, disagreements: list[str]) -> None:
    assert not disagreements
    assert figures.misfits <= figures.programs / 50
    assert figures.silence <= MOST_SILENT
    assert figures.edges.compared >= LEAST_COMPARED * figures.edges.static


def judged(seeds: range) -> tuple[judging.Figures, list[str]]:
    figures, disagreements = judging.Figures(), []
    for each in judging.judge(map(grammar.program, seeds)):
        figures.add(each)
        disagreements += [f"seed {each.generated.seed}: {what}" for what in each.disagreements]
    return figures, disagreements


def test_autograd_refutes_nothing_in_a_sample() -> None:
    _, disagreements = judged(SAMPLE)
    assert not disagreements


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_autograd_refutes_nothing(tell: Callable[[str], None]) -> None:
    figures, disagreements = judged(SLICE)
    tell(str(figures))
    check(figures, disagreements)


# -- edges of programs that people write


def compared(paths: list[Path]) -> tuple[edges.Figures, list[str]]:
    figures, contradicted = edges.Figures(), []
    for path in paths:
        for each in edges.trace([(path.name, path.read_text(encoding="utf-8"))]):
            figures.add(each)
            contradicted += each.contradicted
    return figures, contradicted


# Programs of which some edge is known to be drawn otherwise than autograd sees it, and why.
OTHERWISE = {
    "clean_elastic_net_attack.py": "a leaf that is made anew in each turn",
    "clean_hooks_that_look_and_hooks_that_go.py": "a hook replaces what the module gives",
    "clean_reptile_and_lookahead.py": "copies into parameters where gradients are off",
    "clean_functional_parameters.py": "copies into parameters where gradients are off",
    "clean_attributes_of_others.py": "parameters that another object is told not to learn",
    "clean_meters_and_dictionaries.py": "a tensor or a number, by a test of its type",
    "clean_shadow_and_average.py": "an average updates itself without gradients",
    "cyclegan_mini.py": "one line makes the layers of several models, of which some are frozen in turn",
    "flagged_optional_check_before_training.py": "gradients are off in one arm: drawn is the other",
    "flagged_phase_the_wrong_way_round.py": "a mode that hangs on the phase: drawn is the one that trains",
    "deep_ensemble.py": "a value that a loop over unrolled layers carries",
    "detection_anchor_free.py": "one function is given what learns and what does not by the same line",
    "energy_model.py": "one function is given what learns and what does not by the same line",
    "registry_config_trainer.py": "one line makes several layers",
}
# The same of all programs of a rule.
RULES_OTHERWISE = {
    "GS503": "a write through `.data` is drawn as a new version of the tensor, at the place of the `.data`",
    "GS704": "a re-entrant checkpoint runs its segment without a graph, and once more inside of `backward`",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("paths", "least"), [(CORPUS, LEAST_COMPARED), (RULES[::6], 0.85)], ids=["corpus", "rules"]
)
def test_edges_are_what_autograd_saw(paths: list[Path], least: float, tell: Callable[[str], None]) -> None:
    """Programs of the rules also hold functions that nothing calls, and raise halfway."""
    figures, contradicted = compared(paths)
    tell(str(figures))
    known = OTHERWISE.keys() | {path.name for path in paths if path.parent.name[:5] in RULES_OTHERWISE}
    assert not [each for each in contradicted if each.split(":")[0] not in known]
    assert figures.compared >= least * figures.static


PROGRAM = """\
import torch
from torch import nn

torch.manual_seed(0)
encoder, head = nn.Linear(4, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
for _ in range(2):
    hidden = encoder(torch.randn(5, 4))
    {statement}
    loss = head(kept).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("statement", ["kept = torch.tanh(hidden)", "kept = hidden.detach()"])
def test_an_edge_that_is_drawn_wrongly_is_contradicted(statement: str) -> None:
    [traced] = edges.trace([("program.py", PROGRAM.format(statement=statement))])
    assert traced.seen is not None
    assert not traced.contradicted
    turned = 0
    for number, edge in enumerate(traced.drawn):
        looks = traced.seen["edges"][str(number)]
        connected, late, apart, _ = looks
        if connected + late + apart:
            turned += 1
            assert edges.judge(edge, *looks) == "fits"
            assert edges.judge(replace(edge, passes=not edge.passes, beside=False), *looks) == "contradicted"
    assert turned >= 4


def test_a_claim_that_autograd_refutes_is_noticed() -> None:
    """The findings of a program with a cut, held against the run of the same program without it."""
    [cut] = edges.trace([("program.py", PROGRAM.format(statement="kept = hidden.detach()"))])
    [whole] = edges.trace([("program.py", PROGRAM.format(statement="kept = hidden * 1.0000"))])
    generated = grammar.Generated(0, cut.source.text, Counter(), 1)
    assert not judging.judged(generated, cut).refuted
    assert cut.seen is not None
    assert whole.seen is not None
    assert judging.judged(generated, cut).without == 2
    assert judging.judged(generated, replace(cut, seen={**whole.seen, "edges": {}})).refuted
