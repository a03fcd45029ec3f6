"""What is said of a name, and that autograd says so too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradsight.engine import Engine
from gradsight.known import Known
from gradsight.text import Source
from gradsight_server import probe
from probe_driver import Driver

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """\
import torch
from torch import nn
from somewhere import backbone


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(8, 4)
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        h = torch.relu(self.encoder(x)).detach()
        return self.head(h)


model = Net()
optimizer = torch.optim.Adam(model.parameters())
x, y = torch.randn(32, 8), torch.randn(32, 1)
for epoch in range(10):
    pred = model(x)
    seen = backbone(x)
    loss = nn.functional.mse_loss(pred, y)
    hits = (pred > 0).float().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(pred.grad)
"""


def raised(where: str, error: BaseException) -> None:
    raise AssertionError(where) from error


def asked(text: str, quoted: str, count: int = 0) -> Known | None:
    """What is known where `quoted` stands for the `count`-th time, its `|` being the cursor."""
    source = Source("a.py", text)
    before, _, after = quoted.partition("|")
    at = -1
    for _ in range(count + 1):
        at = source.text.index(before + after, at + 1)
    return Engine(raised).known(source, at + len(before))


def said(quoted: str, count: int = 0) -> str:
    found = asked(PROGRAM, quoted, count)
    assert found is not None
    return " ".join(found.words)


def steps(quoted: str) -> list[tuple[int, str]]:
    found = asked(PROGRAM, quoted)
    assert found is not None
    return [(PROGRAM.count("\n", 0, step.where.start) + 1, step.message) for step in found.steps]


CUT = "cut here: `torch.relu(self.encoder(x)).detach()` is detached"
ASKED = "here the gradient of `loss` is asked for"


def test_a_loss_is_live_from_one_part_and_cut_from_another() -> None:
    assert said("l|oss = nn") == (
        "A float tensor, scalar. Live from `model.head`; cut from `model.encoder`. Its gradient is asked for."
    )
    assert steps("l|oss = nn") == [(13, CUT), (26, ASKED)]


def test_a_value_before_a_cut_gets_no_gradient_back() -> None:
    words = said("self.enc|oder = ")
    assert words == (
        "A module, `nn.Linear`. An optimizer holds its parameters. No gradient comes to `model.encoder`."
    )
    assert steps("torch.re|lu(") == [(13, CUT)]
    assert "No gradient comes back to it from `loss`." in said("torch.re|lu(")


def test_a_value_behind_a_cut_is_said_to_be_cut_and_no_more() -> None:
    assert said("h| = torch") == "A float tensor, 32×4. Cut from `model.encoder`."


def test_a_metric_says_why_nothing_is_said_about_it() -> None:
    words = said("hi|ts")
    assert words.endswith("No loss of this file depends on it.")
    assert "`pred > 0` gives true or false" in str(steps("hi|ts"))


def test_a_model_names_what_learns_and_what_does_not() -> None:
    words = "`loss` gives `model.head` a gradient. No gradient comes to `model.encoder`."
    assert said("mo|del = Net()").endswith(words)
    assert said("optimi|zer.step").endswith(words)


def test_data_is_data() -> None:
    assert said("x|, y = ") == "A float tensor, 32×8. Data: nothing that learns is behind it."


def test_what_cannot_be_seen_says_why() -> None:
    assert "Not known" in said("se|en = ")


@pytest.mark.parametrize(
    "quoted", ["im|port torch", "rang|e(10)", "10|)", "epo|ch in", "pred.gra|d", "class N|et"]
)
def test_nothing_is_said_where_gradients_have_no_part(quoted: str) -> None:
    assert asked(PROGRAM, quoted) is None


def test_a_line_that_does_not_parse_says_nothing_and_costs_no_other() -> None:
    text = PROGRAM.replace("hits = (pred > 0)", "hits = (pred > ")
    assert asked(text, "hi|ts") is None
    assert asked(text, "l|oss = nn") is not None


def test_asking_changes_no_finding_and_costs_no_edit_anything() -> None:
    engine, source = Engine(raised), Source("a.py", PROGRAM)
    before = engine.analyze(source)
    engine.analysed.clear()
    for offset in range(0, len(PROGRAM), 3):
        engine.known(source, offset)
        engine.feeds(source, offset)
    assert engine.analyze(source) == before
    assert engine.analysed == []


def lit(quoted: str) -> list[str]:
    source = Source("a.py", PROGRAM)
    before, _, after = quoted.partition("|")
    offset = source.text.index(before + after) + len(before)
    return [source.slice(span) for span in Engine(raised).feeds(source, offset)]


def test_a_loss_lights_what_gives_it_its_gradient() -> None:
    assert lit("l|oss = nn") == [
        "loss",
        "nn.Linear(4, 1)",
        "self.head(h)",
        "model(x)",
        "nn.functional.mse_loss(pred, y)",
    ]
    assert lit("h| = torch") == []


# -- autograd's word for it

PROGRAMS = sorted(
    path
    for folder in ("corpus", "seeds")
    for path in (ROOT / "fixtures" / folder).glob("*.py")
    if "# truth: raises" not in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


def bound(text: str) -> dict[tuple[int, str], int]:
    """Of each name that is bound once on a row, its offset."""
    source = Source("a.py", text)
    out: dict[tuple[int, str], list[int]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            key = (node.lineno, node.id)
            out.setdefault(key, []).append(source.offset(node.lineno - 1, node.col_offset))
    return {key: offsets[0] for key, offsets in out.items() if len(offsets) == 1}


def contradicts(line: dict[str, Any], words: str) -> bool:
    """Whether what is said surely cannot be what autograd saw."""
    if "some calls" in words or "parameter" in words:
        return False  # parameters are seen by the probe where they are bound, not where they learn
    gets = "gives it a gradient" in words or "Its gradient is asked for" in words
    if line["state"] == "live" and "no gradient arrived" not in line["reason"]:
        nothing = "Data:" in words or ("Cut from" in words and "Live" not in words)
        return nothing or ("No gradient comes back" in words and not gets)
    return line["state"] in ("live", "cut", "constant") and gets


# Names of which something is said that a run does not show, and why.
OTHERWISE = {
    "gradient_checkpoint_lstm": {"h": "arguments given by a star to a checkpointed step are not followed"},
    "mixture_of_experts": {"load": "what the way in evaluation cuts is said as if it held in training"},
    "spectral_hinge_gan": {"fake": "one name for what is made with and without gradients; the run saw one"},
    "wgan_gp": {"points": "the run's last word is on the critic's turn, ours on the generator's"},
}


@pytest.mark.slow
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_what_is_said_is_what_autograd_saw(path: Path, driver: Driver) -> None:
    text = path.read_text(encoding="utf-8")
    result = driver.run(probe.request(path))
    offsets = bound(text)
    engine, source = Engine(raised), Source(str(path), text)
    wrong = []
    for line in result.lines:
        offset = offsets.get((line["row"], line["name"]))
        known = engine.known(source, offset) if offset is not None else None
        if known is not None and contradicts(line, " ".join(known.words)):
            wrong.append((line["row"], line["name"], line["state"], line["reason"], known.words))
    assert {name for _, name, *_ in wrong} == set(OTHERWISE.get(path.stem, ())), wrong
