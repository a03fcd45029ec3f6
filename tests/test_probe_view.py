"""What a person reads beside the lines: the words agree with what autograd did, and stay at their lines.

Programs really run (in processes forked from a warm one); what is said of them is compared with what the
probe tells, never with numbers written down here.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradsight.text import Source
from gradsight_probe.explanations import EXPLANATIONS
from gradsight_server import probe
from gradsight_server.view import Row, View, in_editor, to_view, view_at
from gradsight_server.wording import LABEL_LIMIT, SYMBOLS, to_number
from probe_driver import Driver

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
STATES = {"live", "zero", "nonfinite", "cut", "cut-upstream", "constant", "none"}
FIRST = {*SYMBOLS.values(), "✗"}
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the driver forks a warm process")


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


class Shown:
    """A program, what the probe told of it, and what is shown."""

    def __init__(self, driver: Driver, folder: Path, text: str, **options: object) -> None:
        path = folder / "program.py"
        path.write_text(text, encoding="utf-8")
        self.text = text
        self.source = Source(str(path), text)
        request = probe.request(path, **options)
        self.result = driver.run(request)
        assert self.result.problem is None
        assert self.result.faults == ()
        self.view = to_view(self.result, self.source, request.filename)

    def row(self, code: str) -> Row:
        """What stands beside the one line that holds `code`."""
        return beside(self.view.rows, self.source, code)


def number_of(text: str, code: str) -> int:
    """The line that holds `code`, counted from 1."""
    (number,) = (number for number, line in enumerate(text.split("\n"), 1) if code in line)
    return number


def beside(rows: tuple[Row, ...], source: Source, code: str) -> Row:
    number = number_of(source.text, code)
    (row,) = (row for row in rows if source.row_column(row.span.start)[0] == number - 1)
    return row


TRAINING = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(4, 8),
            nn.Tanh(),
            nn.Sequential(nn.Linear(8, 3)),
        )
        self.aux = nn.Linear(4, 1)
        self.scale = nn.Parameter(torch.ones(3))
        self.fixed = nn.Linear(1, 1).requires_grad_(False)

    def forward(self, x):
        hidden = self.body(x) * self.scale
        aux = self.aux(x).detach()
        return hidden, aux


torch.manual_seed(0)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(16, 4)
hidden, aux = model(x)
scaled = aux * 2
rounded = hidden.round()
loss = hidden.pow(2).mean() + scaled.mean() + rounded.sum()
loss.backward()
optimizer.step()
"""


@pytest.fixture(scope="module")
def training(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return Shown(driver, tmp_path_factory.mktemp("training"), TRAINING)


def norm_of(shown: Shown, name: str) -> str:
    (norm,) = (item["norm"] for item in shown.result.parameters if item["name"] == name)
    assert norm is not None
    return to_number(norm)


def test_a_value_has_its_shape_and_its_norm(training: Shown) -> None:
    (line,) = (line for line in training.result.lines if line["name"] == "loss")
    row = training.row("loss = ")
    assert row.state == "live"
    assert row.label == f"● scalar live, ‖grad‖ {to_number(line['norm'])}"
    assert "`loss` scalar float32" in row.tooltip


def test_a_cut_says_why_and_what_follows_says_where(training: Shown) -> None:
    here = training.row("aux = self.aux(x).detach()")
    assert (here.state, here.label) == ("cut", "✂ 16×1 cut here: .detach() ends the graph")
    assert "`.detach()` ends the graph" in here.tooltip
    number = number_of(TRAINING, ".detach()")
    later = training.row("scaled = ")
    assert (later.state, later.label) == ("cut-upstream", f"✂ 16×1 cut upstream, line {number}")
    assert f"line {number} (`aux = self.aux(x).detach()`)" in later.tooltip
    # Two values on one line: the one that stands out first, each with its name.
    both = training.row("hidden, aux = model(x)")
    assert both.state == "cut-upstream"
    assert re.fullmatch(rf"✂ aux 16×1 cut upstream, line {number} · ● hidden 16×3 \S+", both.label)


def test_a_zero_gradient(training: Shown) -> None:
    row = training.row("rounded = ")
    assert row.state == "zero"
    assert row.label.startswith("○ 16×3 gradient is zero: round")


def test_each_parameter_stands_beside_the_line_that_makes_it(training: Shown) -> None:
    first = training.row("nn.Linear(4, 8)")
    weight, bias = (norm_of(training, f"model.body.0.{name}") for name in ("weight", "bias"))
    assert (first.state, first.label) == ("live", f"● weight {weight} · bias {bias}")
    assert "`model.body.0.weight` 8×4" in first.tooltip
    nested = training.row("nn.Linear(8, 3)")
    weight, bias = (norm_of(training, f"model.body.2.0.{name}") for name in ("weight", "bias"))
    assert nested.label == f"● 0.weight {weight} · 0.bias {bias}"
    lost = training.row("self.aux = ")
    assert (lost.state, lost.label) == ("none", "∅ no gradient: aux.weight, aux.bias")
    scale = training.row("self.scale = ")
    assert (scale.state, scale.label) == ("live", f"● [3] live, ‖grad‖ {norm_of(training, 'model.scale')}")
    assert training.row("self.fixed = ").label == "◌ frozen: fixed.weight, fixed.bias"
    # Where the whole is made: how many, and which are lost. Frozen ones are meant to get none.
    whole = training.row("model = Net()")
    assert (whole.state, whole.label) == (
        "none",
        "∅ 2 of 7 parameters get no gradient: aux.weight, aux.bias",
    )
    assert training.view.summary == "2 of 7 parameters get no gradient"
    assert training.view.error is None


def test_layers_made_in_a_loop_are_counted(driver: Driver, tmp_path: Path) -> None:
    shown = Shown(
        driver,
        tmp_path,
        "import torch\n"
        "from torch import nn\n"
        "class Block(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.lin = nn.Linear(2, 2, bias=False)\n"
        "        self.gate = nn.Parameter(torch.ones(2))\n"
        "    def forward(self, x):\n"
        "        return self.lin(x) * self.gate\n"
        "blocks = nn.ModuleList()\n"
        "for _ in range(3):\n"
        "    blocks.append(Block())\n"
        "x = torch.ones(1, 2)\n"
        "blocks[1](blocks[0](x)).sum().backward()\n",
    )
    lin = shown.row("self.lin = ")
    assert lin.state == "none"
    assert re.fullmatch(r"∅ no gradient: lin.weight \(1 of 3\) · ● lin.weight \(2 of 3\) .*", lin.label)
    gate = shown.row("self.gate = ")
    assert re.fullmatch(r"∅ no gradient: gate \(1 of 3\) · ● gate \(2 of 3\) .*", gate.label)
    grown = shown.row("blocks.append")
    assert grown.label == "∅ 2 of 6 parameters get no gradient: 2.gate, 2.lin.weight"


def test_the_error_stands_at_its_row(driver: Driver, tmp_path: Path) -> None:
    shown = Shown(
        driver,
        tmp_path,
        "import torch\n"
        "w = torch.ones(3, requires_grad=True)\n"
        "kept = (w > 0.5).float()\n"
        "loss = kept.mean()\n"
        "loss.backward()\n",
    )
    error = shown.view.error
    assert error is not None
    assert error.row == 4
    assert error.message.startswith("RuntimeError: element 0 of tensors does not require grad")
    row = shown.row("loss.backward()")
    assert row.label.startswith("✗ RuntimeError: element 0 of tensors")
    assert error.explanation is not None
    assert error.explanation in row.tooltip
    assert "the graph ends at line 3 (" in error.explanation
    assert shown.row("kept = ").label == "✂ [3] cut here: > gives truth values"
    assert shown.row("w = ").label == "∅ [3] no gradient: cut later, line 3"
    assert shown.view.summary == "RuntimeError in line 5; 1 of 1 parameter gets no gradient"


def test_an_error_hides_no_cut_on_its_row(driver: Driver, tmp_path: Path) -> None:
    shown = Shown(
        driver,
        tmp_path,
        "import torch\nw = torch.ones(2, requires_grad=True)\n(w * 2).detach().sum().backward()\n",
    )
    row = shown.row(".backward()")
    assert re.match(r"✗ RuntimeError · ✂ \[2\] cut here: .detach\(\) ends the graph", row.label)
    assert "element 0 of tensors" in row.tooltip


def test_not_a_number_names_the_line_it_comes_from(driver: Driver) -> None:
    path = FIXTURES / "probe" / "not_a_number.py"
    text = path.read_text(encoding="utf-8")
    view = to_view(driver.run(probe.request(path)), Source(str(path), text), str(path))
    row = beside(view.rows, view.source, "x = torch.tensor")
    assert row.state == "nonfinite"
    assert row.label == f"⚠ [2] NaN gradient, from line {number_of(text, 'torch.sqrt(x)')}"
    assert view.summary == "1 of 1 parameter gets a NaN gradient"


def test_nothing_was_asked_for_a_gradient(driver: Driver, tmp_path: Path) -> None:
    shown = Shown(driver, tmp_path, "import torch\nm = torch.nn.Linear(2, 1)\nout = m(torch.ones(1, 2))\n")
    assert shown.view.summary == "no backward ran"
    assert shown.row("out = ").label == "● 1×1 live, no backward ran"
    assert [row.label for row in shown.view.rows] == [shown.row("out = ").label]


def test_what_was_stopped_stands_at_its_row(driver: Driver, tmp_path: Path) -> None:
    shown = Shown(
        driver,
        tmp_path,
        "try:\n    open('never.txt', 'w')\nexcept OSError:\n    pass\n",
    )
    row = shown.row("open(")
    assert row.label.startswith("⚠ would write ")
    assert "gradsight.probe.allowWrites" in row.tooltip
    assert not (tmp_path / "never.txt").exists()


def programs() -> list[Path]:
    """Programs that end by themselves and leave nothing to kill."""
    bad = ("closes", "fork", "killed", "exit", "million", "forever", "starts", "writes", "long_loop")
    found = [path for path in FIXTURES.glob("probe/*.py") if not any(word in path.name for word in bad)]
    found += FIXTURES.glob("seeds/*.py")
    return sorted(found)


@pytest.mark.slow
@pytest.mark.parametrize("path", programs(), ids=lambda path: path.stem)
def test_what_is_shown_of_any_program(path: Path, driver: Driver) -> None:
    text = path.read_text(encoding="utf-8")
    result = driver.run(probe.request(path))
    source = Source(str(path), text)
    view = to_view(result, source, str(path))
    rows = view.rows
    told = {line["row"] for line in result.lines if line["filename"] == str(path)}
    shown = [source.row_column(row.span.start)[0] for row in rows]
    assert told <= {row + 1 for row in shown}  # nothing that was seen is left out
    assert len(set(shown)) == len(shown)  # one label a line
    for row, at in zip(rows, shown, strict=True):
        assert row.state in STATES
        assert row.label[0] in FIRST
        assert len(row.label) <= LABEL_LIMIT + len(" · +9 more") + 40  # one name may be long
        assert "\n" not in row.label
        assert row.tooltip
        assert source.slice(row.span) == source.line_text(at).strip()
    states = [item["at_last_step"] for item in result.parameters if not item["frozen"]]
    for gradient, words in (("none", "no gradient"), ("zero", "a zero gradient"), ("nonfinite", "NaN")):
        if result.asked:
            assert (states.count(gradient) > 0) == (words in view.summary)
            assert not states.count(gradient) or str(states.count(gradient)) in view.summary
    assert len(view.parameters) == len(result.parameters)


# -- later texts ------------------------------------------------------------------------------------------


def typed(source: Source, row: int, new: str) -> Source:
    return source.edited(row, 0, row, 0, new)


def test_blank_lines_and_comments_move_the_rows(training: Shown) -> None:
    view = training.view
    above = typed(training.source, 0, "# a comment\n\n\n")
    inside = typed(above, number_of(above.text, "hidden = self.body") - 1, "        # why\n\n")
    behind = inside.edited(*2 * (number_of(inside.text, "loss = ") - 1, 200), "  # the sum")
    laid_out = Source(behind.file, behind.text.replace("scaled = aux * 2", "scaled = (aux\n    * 2)"))
    for source in (above, inside, behind, laid_out):
        placed = view_at(view, source)
        assert not placed.stale
        assert len(placed.rows) == len(view.rows)
        for before, now in zip(view.rows, placed.rows, strict=True):
            old, new = view.source.slice(before.span), source.slice(now.span)
            assert new.startswith(old) or (source is laid_out and new == "scaled = (aux")
        # The lines that labels name moved too.
        cut = number_of(source.text, ".detach()")
        assert f"line {cut}" in beside(placed.rows, source, "scaled = ").label
        assert f"line {cut} " in beside(placed.rows, source, "scaled = ").tooltip


def test_other_code_makes_it_stale_until_it_is_back(training: Shown) -> None:
    view, source = training.view, training.source
    at = number_of(source.text, "scaled = ") - 1
    edited = source.edited(at, 0, at, len("scaled"), "other")
    placed = view_at(view, edited)
    assert placed.stale
    # Every line is still told of, the one that was edited too.
    assert [edited.row_column(row.span.start)[0] for row in placed.rows] == [
        source.row_column(row.span.start)[0] for row in view.rows
    ]
    back = edited.edited(at, 0, at, len("other"), "scaled")
    assert view_at(view, back).rows == view.rows
    assert not view_at(view, back).stale
    assert not view_at(view, Source("another object.py", source.text)).stale
    # An unfinished line, and a block further in.
    assert view_at(view, typed(source, at, "if x:\n")).stale
    assert view_at(view, typed(source, at, "    ")).stale


def test_lines_that_are_gone_take_their_rows_along(training: Shown) -> None:
    view, source = training.view, training.source
    at = number_of(source.text, "rounded = ") - 1
    without = source.edited(at, 0, at + 1, 0, "")
    placed = view_at(view, without)
    assert placed.stale
    assert len(placed.rows) == len(view.rows) - 1
    assert beside(placed.rows, without, "loss = ").label == training.row("loss = ").label
    assert view_at(view, Source("empty.py", "")).rows == ()
    assert view_at(view, Source("empty.py", "")).stale


def test_random_edits_never_lose_the_place(training: Shown) -> None:
    """However it was edited: nothing raises, rows are whole lines, and a text that is back is fresh."""
    chance = random.Random(7)
    pieces = [
        "\n",
        "# c\n",
        "x = 1\n",
        "    ",
        "(",
        '"""',
        "\\\n",
        "if x:\n",
        "\f",
        "\r\n",
        "é\u2028",
        "loss",
    ]
    view = training.view
    for _ in range(60):
        source = view.source
        for _ in range(chance.randrange(1, 6)):
            row, column = chance.randrange(len(source.physical) + 1), chance.randrange(30)
            end = (
                (row, column) if chance.random() < 0.6 else (row + chance.randrange(3), chance.randrange(30))
            )
            source = source.edited(row, column, *end, chance.choice(pieces))
            placed = view_at(view, source)
            for shown in placed.rows:
                assert 0 <= shown.span.start <= shown.span.end <= len(source.text)
            lines = {source.slice(shown.span) for shown in placed.rows}
            if not placed.stale:
                assert len(placed.rows) == len(view.rows)
            assert lines <= {line.strip() for line in (*map(source.line_text, range(len(source.physical))),)}
        back = view_at(view, Source("back.py", view.source.text))
        assert (back.stale, back.rows) == (False, view.rows)


def test_a_row_follows_its_line_through_a_move(driver: Driver, tmp_path: Path) -> None:
    shown = Shown(driver, tmp_path, TRAINING)
    lines = TRAINING.split("\n")
    new = "\n".join([*lines[:4], "def helper():", "    return 1", "", "", *lines[4:]])
    source = Source("program.py", new)
    placed = view_at(shown.view, source)
    assert placed.stale
    assert {source.slice(row.span) for row in placed.rows} == {
        shown.source.slice(row.span) for row in shown.view.rows
    }


def test_people_in_an_editor_read_of_settings() -> None:
    sentences = [
        *(text for _, text in EXPLANATIONS),
        "no interpreter `x`: name one that has torch with --python",
        "`x` cannot be started (y): name an interpreter with --python",
        "program.py:3 would write x: stopped by the probe, pass --allow-writes to let it",
        "use --device auto or cpu",
        "--call runs a function without any; write one that calls it",
        "the file defines no `f` at its top level: --call takes a function that the file defines",
    ]
    options = [sentence for sentence in sentences if "--" in sentence]
    assert len(options) > 6
    for sentence in options:
        assert "--" not in in_editor(sentence), sentence
        assert not re.search(r"\brows?\b", in_editor(sentence)), sentence
    assert "in the setting gradsight.probe.python" in in_editor(sentences[-6])


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.3141, "0.31"), (1.0, "1"), (123.4, "123"), (3e-9, "3e-9"), (1.25e7, "1.2e7"), (None, "not finite")],
)
def test_numbers_are_short(value: float | None, words: str) -> None:
    assert to_number(value) == words


def test_a_view_of_an_unusable_result_says_nothing(tmp_path: Path) -> None:
    view: View = to_view(probe.ProbeResult(1), Source("x.py", ""), "x.py")
    assert (view.rows, view.summary, view.error) == ((), "no backward ran", None)
