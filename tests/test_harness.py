"""The harness itself: misspelt markers, false facts and programs that hang are all seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import distribution
import pytest
from harness import renaming, restructuring, truth, wants
from harness.markers import MarkerError, Raises, Want, parse
from harness.metamorphic import Place, Transformation, Unplaced, rewrite, with_comments

ROOT = Path(__file__).resolve().parent.parent


def test_wants_are_parsed_with_brackets_and_strings_in_their_quotes() -> None:
    text = (
        "a = b[c[0]].detach()  # want: GS102 [b[c[0]].detach()] error\n"
        "d = e['k]'].item() + f(g).item()  # want: GS103 [e['k]'].item()] GS103 [f(g).item()] hint\n"
        "h(  # want: GS101 [h( …]\n)\n"
        "i = j.numpy()  # want-missing: GS101 [j.numpy()] the loop [carries] it\n"
    )
    assert parse(text).wants == (
        Want("GS102", "b[c[0]].detach()", "error", 1),
        Want("GS103", "e['k]'].item()", None, 2),
        Want("GS103", "f(g).item()", "hint", 2),
        Want("GS101", "h( …", None, 3),
        Want("GS101", "j.numpy()", None, 5, True, "the loop [carries] it"),
    )


def test_truths_are_parsed() -> None:
    markers = parse(
        "# waits-for: tensorflow\n# truth: x == 1\n# truth: raises RuntimeError: element 0: of\n"
        "# truth-fixed: raises KeyError\ns = '# truth: not a comment'\n"
    )
    assert markers.waits_for == "tensorflow"
    assert markers.facts() == ["x == 1", Raises("RuntimeError", "element 0: of")]
    assert markers.facts(fixed=True) == [Raises("KeyError", "")]


@pytest.mark.parametrize(
    "comment",
    [
        "# want: GS102",
        "# want: [x.detach()]",
        "# want: GS102 [x.detach()",
        "# want: GS102 [x.detach()] loud",
        "# want: GS102 []",
        "# wants: GS102 [x]",
        "# Want: GS102 [x]",
        "# want-missing: GS102 [x]",
        "# want_missing: GS102 [x] reason",
        "# truth:",
        "# truth: x ==",
        "# truth fixed: x",
    ],
)
def test_a_malformed_marker_names_file_and_row(comment: str) -> None:
    with pytest.raises(MarkerError, match=r"model\.py:2"):
        parse(f"x = 1\ny = 2  {comment}\n", "model.py")


def test_facts_and_exceptions() -> None:
    text = "import torch\nx = torch.ones(2, requires_grad=True)\nx.detach().sum().backward()\n"
    outcome = truth.run_truth(
        text,
        [
            "x.grad is None",
            "x.grad is not None",
            Raises("RuntimeError", "element 0"),
            Raises("ValueError", ""),
        ],
    )
    assert [fact.holds for fact in outcome.facts] == [True, False, True, False]
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.row) == ("RuntimeError", 3)
    assert truth.run_truth(text, ["x.grad is None"]).false, "an exception that nobody wants is wrong"
    assert not truth.run_truth(text, ["x.grad is None", Raises("Exception", "")]).false, (
        "a base class will do"
    )


def test_a_program_runs_as_main_in_a_folder_of_its_own() -> None:
    first = truth.run_truth(
        "import os, sys\nopen('best.pt', 'w').close()\nprint('said')\n",
        ["__name__ == '__main__'", "'best.pt' in os.listdir()"],
    )
    assert not first.false
    assert first.output == "said\n"
    assert not truth.run_truth("import os\n", ["'best.pt' not in os.listdir()"]).false


def test_programs_that_hang_or_vanish_are_told_from_those_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "SECONDS", 1.0)
    texts = ["while True: pass", "import os; os._exit(3)", "raise SystemExit", "x = 1"]
    outcomes = truth.run_many([truth.Run.of(text) for text in texts])
    assert [each.error and each.error.type for each in outcomes] == [
        "TimeoutError",
        "ProcessLookupError",
        None,
        None,
    ]


def test_locals_of_a_function_are_seen_when_asked_for() -> None:
    run = truth.Run.of(
        "def main():\n    a = 1\n    raise KeyError('b')\nmain()\n", ["a == 1"], locals_of="main"
    )
    assert [fact.holds for fact in truth.run_many([run])[0].facts] == [True]


TRAINING = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    loss = model(torch.ones(2, 3)).pow(2).mean()
    loss.backward()
    optimizer.step()
"""


def test_snapshots_tell_programs_apart() -> None:
    again = TRAINING.replace("pow(2).mean()", "square().mean()")
    frozen = TRAINING.replace("model(torch.ones(2, 3))", "model[2](model[:2](torch.ones(2, 3)).detach())")
    hidden = (
        TRAINING.replace("for _ in range(2):", "def train(model=model, optimizer=optimizer):")
        + "train(); del model"
    )
    whole, same, cut, local = truth.snapshots(
        [truth.Run.of(each) for each in (TRAINING, again, frozen, hidden)]
    )
    assert truth.compare(whole, same) == []
    assert len(whole.losses) == len(whole.steps) == 2
    assert set(whole.learnt().values()) == {"nonzero"}
    differences = truth.compare(whole, cut)
    assert any("gradient model.0.weight" in each for each in differences)
    assert cut.learnt()["model.0.weight"] == "none"
    assert cut.learnt()["model.2.weight"] == "nonzero"
    assert set(local.learnt()) == {f"<stepped {number}>" for number in range(4)}


class _Severity(Enum):
    ERROR = "error"


@dataclass(frozen=True)
class _Span:
    start: int
    end: int


@dataclass(frozen=True)
class _Finding:
    code: str
    where: _Span
    severity: _Severity = _Severity.ERROR
    message: str = "said"


def test_false_positives_and_false_negatives_are_apart() -> None:
    text = "a = b.detach()\nc = d.item()\n"
    finding = _Finding("GS102", _Span(4, 14))
    assert wants.check("f.py", text, [finding], [Want("GS102", "b.detach()", "error", 1)])
    report = wants.check("f.py", text, [finding], [Want("GS103", "d.item()", None, 2)])
    assert not report
    assert report.false_positives == ("row 1: GS102 [b.detach()] error: said",)
    assert report.false_negatives == ("row 2: GS103 [d.item()]",)
    loud = wants.check("f.py", text, [finding], [Want("GS102", "b.detach()", "hint", 1)])
    assert len(loud.false_positives) == len(loud.false_negatives) == 1
    missing = Want("GS102", "b.detach()", None, 1, True, "reason")
    assert wants.check("f.py", text, [], [missing])
    assert not wants.check("f.py", text, [finding], [missing]), "a want-missing that is found is out of date"


CHAIN = """
import torch
import torch.nn as nn

def fit(model, batches):
    for x, y in batches:
        loss = nn.functional.mse_loss(model(x).detach().exp(), y)
        print(float(loss))
    return loss

net = nn.Linear(2, 1)
last = fit(net, [(torch.ones(1, 2), torch.ones(1, 1))])
"""
QUOTE = "model(x).detach()"
START = CHAIN.index(QUOTE)
FACTS = ["not last.requires_grad", "net.weight.grad is None"]


@pytest.mark.parametrize(
    ("transformation", "moved", "fact"),
    [
        (restructuring.reformat, QUOTE, FACTS[0]),
        (restructuring.split_chains, "t.detach()", FACTS[0]),
        (renaming.alias_imports, QUOTE, FACTS[0]),
        (restructuring.into_main, QUOTE, FACTS[0]),
        (restructuring.into_helper, QUOTE, FACTS[0]),
        (restructuring.add_unrelated, QUOTE, FACTS[0]),
    ],
)
def test_a_rewritten_program_keeps_its_places_and_facts(
    transformation: Transformation, moved: str, fact: str
) -> None:
    result = rewrite(CHAIN, [Place("GS102", START, START + len(QUOTE))], FACTS, transformation)
    assert result is not None
    for each in (result, with_comments(result)):
        place = each.places[0]
        assert re.sub(r"\bt\d+", "t", each.text[place.start : place.end]) == moved
        assert each.facts[0] == fact
        run = truth.Run(each.text, each.facts, locals_of=each.locals_of)
        assert not truth.run_many([run])[0].false


def test_renaming_spares_nothing_but_what_others_know_by_name() -> None:
    trained = CHAIN + "last.requires_grad_().backward()\n"
    result = rewrite(trained, [Place("GS102", START, START + len(QUOTE))], FACTS, renaming.rename_all)
    assert result is not None
    for name in ("fit", "model", "batches", "loss", "net", "last"):
        assert not re.search(rf"\b{name}\b", result.text), name
    assert "mse_loss" in result.text
    assert result.text[result.places[0].start : result.places[0].end].endswith(".detach()")


def test_at_an_argument_the_place_stays_when_its_expression_moves() -> None:
    text = "import torch\nloss = torch.nn.functional.nll_loss(torch.ones(2, 3).exp(), torch.tensor([0, 1]))\n"
    quote = "torch.ones(2, 3).exp()"
    start = text.index(quote)
    for code, moved in (("GS303", "t1"), ("GS102", "t0.exp()")):
        place = Place(code, start, start + len(quote))
        result = rewrite(text, [place], [], restructuring.split_chains)
        assert result is not None
        assert result.text[result.places[0].start : result.places[0].end] == moved


def test_a_place_that_is_no_expression_is_refused() -> None:
    with pytest.raises(Unplaced):
        rewrite("x = 1\n", [Place("GS102", 0, 3)], [], restructuring.reformat)


def test_what_is_given_out_together_or_first_is_there() -> None:
    assert all((ROOT / name).exists() for name in (*distribution.OF_EDITORS, *distribution.LONG[1:]))
    assert distribution.scope("tests/editors/test_neovim.py::test_work[a]") == distribution.EDITORS
    assert distribution.scope("tests/test_known.py::test_data[a::b]") == "tests/test_known.py"
