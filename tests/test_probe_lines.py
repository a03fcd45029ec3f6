"""What the probe says about each line is what autograd did, on every program of the fixtures.

For each program that loses a gradient, `lines` names the row of the cut (taken from the `# want:` markers);
what the programs are, and that torch does what they say, is tested with the rules and the seeds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradsight_server import probe
from harness import markers
from probe_driver import Driver

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
CUTS = {"GS101", "GS102", "GS103", "GS104", "GS105", "GS107"}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the driver forks a warm process"),
]


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


def run(driver: Driver, path: Path, **options: Any) -> probe.ProbeResult:
    return driver.run(probe.request(path, **options))


def states(result: probe.ProbeResult, row: int | None = None, name: str | None = None) -> list[str]:
    return [
        line["state"]
        for line in result.lines
        if (row is None or line["row"] == row) and (name is None or line["name"] == name)
    ]


def row_of(path: Path, text: str) -> int:
    rows = path.read_text(encoding="utf-8").splitlines()
    return next(number for number, row in enumerate(rows, 1) if text in row)


def losing() -> list[Path]:
    """Every program with a marker for a cut."""
    found = [*FIXTURES.glob("seeds/**/*.py"), *FIXTURES.glob("rules/GS10*/flagged_*.py")]
    return [path for path in sorted(found) if any(code in path.read_text(encoding="utf-8") for code in CUTS)]


def marked_rows(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("path", losing(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_row_of_the_cut_is_named(path: Path, driver: Driver) -> None:
    marked = markers.read(path)
    if marked.waits_for is not None:
        pytest.skip(f"waits for {marked.waits_for}")
    result = run(driver, path)
    assert result.problem is None
    assert result.faults == ()
    # A value that is written to `.data` of another tensor ends at no operation that the run could tell.
    unseen = {row for row, text in enumerate(marked_rows(path), 1) if ".data = " in text}
    wanted = {want.row for want in marked.wants if want.code in CUTS} - unseen
    named = {line["row"] for line in result.lines if line["state"] in ("cut", "zero")}
    assert wanted <= named


def test_in_place_relu(driver: Driver) -> None:
    result = run(driver, FIXTURES / "probe" / "in_place_relu.py")
    assert result.error is None
    assert {item["at_last_step"] for item in result.parameters} == {"nonzero"}
    assert {item["name"]: item["optimizer"] for item in result.parameters} == {
        "model.0.weight": "optimizer",
        "model.0.bias": "optimizer",
        "model.2.weight": "optimizer",
        "model.2.bias": "optimizer",
    }
    assert set(states(result)) == {"constant", "live"}


def test_mangled_names(driver: Driver) -> None:
    result = run(driver, FIXTURES / "probe" / "mangled_names.py")
    assert result.error is None
    assert [item["name"] for item in result.parameters] == ["net._Net__layer.weight", "net._Net__layer.bias"]
    assert states(result, name="__hidden") == ["live"]


def test_data_loader_workers(driver: Driver) -> None:
    result = run(driver, FIXTURES / "probe" / "data_loader_workers.py")
    assert result.error is None
    assert result.steps_taken == 4


def test_gan(driver: Driver) -> None:
    path = FIXTURES / "probe" / "gan.py"
    result = run(driver, path)
    assert result.error is None
    assert [step["row"] for step in result.steps] == 2 * [
        row_of(path, "d_loss.backward()"),
        row_of(path, "g_loss.backward()"),
    ]
    by_name = {item["name"]: item for item in result.parameters}
    # What each optimizer saw, although the generator's gradients were cleared afterwards.
    assert by_name["generator.0.weight"]["gradient"] == "none"
    assert by_name["generator.0.weight"]["at_last_step"] == "nonzero"
    assert by_name["generator.0.weight"]["norm"] > 0
    assert by_name["generator.0.weight"]["optimizer"] == "opt_g"
    assert by_name["discriminator.2.bias"]["optimizer"] == "opt_d"
    # The discriminator's step gives the generator nothing.
    first = {item["name"]: item["gradient"] for item in result.steps[0]["parameters"]}
    assert first["generator.0.weight"] == "none"
    assert first["discriminator.0.weight"] == "nonzero"
    assert "cut" in states(result, row_of(path, "fake.detach()"))
    assert states(result, row_of(path, "fake = generator"), "fake") == ["live"]


def test_not_a_number(driver: Driver) -> None:
    path = FIXTURES / "probe" / "not_a_number.py"
    result = run(driver, path)
    (x,) = result.parameters
    assert (x["gradient"], x["norm"]) == ("nonfinite", None)
    (line,) = [line for line in result.lines if line["name"] == "x"]
    assert line["state"] == "nonfinite"
    assert line["norm"] is None
    assert line["cause"] == {"filename": str(path), "row": row_of(path, "torch.sqrt")}
    assert states(result, name="root") == ["live"]


def test_zero_by_round(driver: Driver) -> None:
    path = FIXTURES / "probe" / "zero_by_round.py"
    result = run(driver, path)
    assert {item["gradient"] for item in result.parameters} == {"zero"}
    rounding = row_of(path, "torch.round")
    assert "zero" in states(result, rounding)
    (out,) = [line for line in result.lines if line["name"] == "out"]
    assert (out["state"], out["norm"]) == ("zero", 0.0)
    assert out["cause"]["row"] == rounding


def test_recurrent(driver: Driver) -> None:
    path = FIXTURES / "probe" / "recurrent.py"
    result = run(driver, path)
    assert result.error is None
    assert {item["at_last_step"] for item in result.parameters} == {"nonzero"}
    assert states(result, row_of(path, "h = h.detach()")) == ["cut"]
    assert states(result, row_of(path, "y += 1.0")) == ["live"]


def test_inside_a_custom_function(driver: Driver) -> None:
    path = FIXTURES / "probe" / "custom_function.py"
    result = run(driver, path)
    assert result.error is None
    assert "cut" not in states(result)
    assert states(result, name="cubed") == ["live"]
    assert result.parameters[0]["norm"] == pytest.approx((3.0**2 + 12.0**2) ** 0.5)


def test_laundering(driver: Driver) -> None:
    path = FIXTURES / "probe" / "launders.py"
    result = run(driver, path)
    assert {item["at_last_step"] for item in result.parameters if item["name"] != "loss"} == {"none"}
    assert states(result, row_of(path, ".detach()")) == ["cut"]
    (out,) = [line for line in result.lines if line["name"] == "out"]
    assert out["norm"] is None
    assert out["cause"]["row"] == row_of(path, ".detach()")


def test_a_long_loop_keeps_the_first_and_the_last_steps(driver: Driver) -> None:
    path = FIXTURES / "probe" / "long_loop.py"
    result = run(driver, path)
    assert result.error is None
    assert result.steps_taken == 3000
    assert len(result.steps) == 200
    assert any("3000 backward" in note for note in result.notes)
    assert states(result, row_of(path, "running = 0.9")) == ["constant"]
    assert states(result, row_of(path, "loss = (w")) == ["live"]


HARMLESS = """\
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 3)
x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
best = float("inf")
total = 0.0
history = []
out = model(x)
loss = nn.functional.cross_entropy(out, y)
accuracy = (out.argmax(dim=1) == y).float().mean().item()
probabilities = out.softmax(dim=1).detach().numpy()
total += loss.item()
history.append(loss.item())
best = min(best, total)
frozen = loss.detach()
with torch.no_grad():
    again = model(x).softmax(dim=1)
positive = out > 0
picked = out[torch.arange(8), y]
final = loss + 0.1 * torch.where(positive, out, torch.zeros_like(out)).mean() + picked.mean()
final.backward()
print(f"{loss.item():.3f}")
"""


def test_harmless_cuts_are_no_cuts(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "harmless.py"
    path.write_text(HARMLESS)
    result = run(driver, path)
    assert result.error is None
    assert [line for line in result.lines if line["state"] in ("cut", "cut-upstream")] == []
    for name in ("accuracy", "probabilities", "total", "best", "frozen", "again", "positive"):
        assert states(result, name=name)[-1:] == ["constant"], name


@pytest.mark.parametrize(
    "way", ["loss + 0.1 * frozen", "loss * frozen", "nn.functional.mse_loss(out, again)"]
)
def test_the_same_cuts_on_the_way_to_the_loss_are_cuts(driver: Driver, tmp_path: Path, way: str) -> None:
    path = tmp_path / "harmful.py"
    path.write_text(HARMLESS.replace("final = loss", f"final = {way}"))
    result = run(driver, path)
    name = "again" if "again" in way else "frozen"
    assert states(result, name=name) == ["cut"]
    assert states(result, name="accuracy") == ["constant"]


NEIGHBOURS = {
    "main.py": (
        "import torch\nfrom layers import Net\ntorch.manual_seed(0)\nnet = Net()\n"
        "loss = net(torch.ones(2, 3)).sum()\nloss.backward()\n"
    ),
    "layers.py": (
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 1)\n\n"
        "    def forward(self, x):\n        h = self.a(x)\n        h = h.detach()\n        return self.b(h)\n"
    ),
}


def test_modules_beside_the_program_are_seen(driver: Driver, tmp_path: Path) -> None:
    for name, text in NEIGHBOURS.items():
        (tmp_path / name).write_text(text)
    result = run(driver, tmp_path / "main.py")
    assert result.error is None
    cut = [(line["filename"], line["row"]) for line in result.lines if line["state"] == "cut"]
    assert cut == [(str(tmp_path / "layers.py"), 12)]


PASSING = """\
import torch
from torch import nn
torch.manual_seed(0)
w = nn.Parameter(torch.ones(3))
h = w * 2
cut = {cut}
loss = (cut * w.new_ones(3)).sum() + w.sum() * 0
loss.backward()
"""


@pytest.mark.parametrize(
    "cut",
    [
        "h.detach()",
        "h.data",
        "torch.tensor(h.tolist())",
        "torch.Tensor(h.tolist())",
        "torch.FloatTensor([float(v) for v in h])",
        "torch.from_numpy(h.detach().numpy())",
        "torch.tensor([v.item() for v in h])",
        "torch.autograd.Variable(h.detach())",
        "nn.Parameter(h)",
        "torch.tensor(h, requires_grad=True)",
        "h.clone().detach().requires_grad_()",
        "torch.as_tensor(h.detach().cpu().numpy() * 2.0)",
        "torch.no_grad()(lambda: h * 2)()",
        "torch.inference_mode()(lambda: h * 2)().clone()",
        "h.argmax().float()",
        "(h > 1).float() + 1",
        "h.long().float()",
        "h.new_tensor([v.item() for v in h])",
    ],
)
def test_every_kind_of_cut(driver: Driver, tmp_path: Path, cut: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(PASSING.format(cut=cut))
    result = run(driver, path)
    assert result.faults == ()
    assert "cut" in states(result, row=6), [line for line in result.lines if line["row"] == 6]
    (line,) = [line for line in result.lines if line["name"] == "h"]
    assert line["norm"] is None


@pytest.mark.parametrize(
    "kept",
    [
        "h.clone()", "h.to('cpu')", "h.cpu()", "h.half().float()", "h.double().float()",
        "torch.stack(list(h))", "torch.as_tensor(h)", "torch.Tensor(h)", "torch.where(h > 0, h, -h)",
        "h[[0, 1, 2]]", "h.clone().mul_(2)",
        "torch.asarray(h)", "2 * h", "h.view(3)", "sum([h, h])", "torch.relu(h)", "h.sort().values",
    ],
)  # fmt: skip
def test_what_does_not_cut(driver: Driver, tmp_path: Path, kept: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(PASSING.format(cut=kept))
    result = run(driver, path)
    assert result.faults == ()
    assert "cut" not in states(result)
    assert "cut-upstream" not in states(result)
    assert states(result, row=6, name="cut") == ["live"]


def test_where_the_grad_mode_was_switched_off_is_named(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        "import torch\nfrom torch import nn\ntorch.manual_seed(0)\n\n\n"
        "class Encoder(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.fc = nn.Linear(2, 2)\n\n    def forward(self, x):\n"
        "        return torch.relu(self.fc(x))\n\n\n"
        "encoder, head = Encoder(), nn.Linear(2, 1)\nx = torch.ones(1, 2)\nwith torch.no_grad():\n"
        "    features = encoder(x)\nloss = head(features).sum()\nloss.backward()\n"
    )
    result = run(driver, path)
    cut = [(line["row"], line["name"]) for line in result.lines if line["state"] == "cut"]
    assert cut == [(18, "features")]
    assert {item["name"]: item["gradient"] for item in result.parameters} == {
        "encoder.fc.weight": "none",
        "encoder.fc.bias": "none",
        "head.weight": "nonzero",
        "head.bias": "nonzero",
    }


def test_training_is_shown_although_an_evaluation_came_after(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        "import torch\nfrom torch import nn\n\n\n"
        "def forward(model, x):\n    h = model(x)\n    return h.pow(2)\n\n\n"
        "model = nn.Linear(2, 1)\nfor epoch in range(2):\n"
        "    loss = forward(model, torch.ones(3, 2)).mean()\n"
        "    model.zero_grad()\n    loss.backward()\n    with torch.no_grad():\n"
        "        value = forward(model, torch.ones(1, 2)).mean()\n"
    )
    result = run(driver, path)
    assert states(result, name="h") == ["live"]
    assert states(result, name="value") == ["constant"]
    assert "cut" not in states(result)


def test_rows_and_calls(driver: Driver) -> None:
    path = FIXTURES / "probe" / "called.py"
    main = run(driver, path)
    assert main.error is not None
    assert main.error["type"] == "SystemExit"
    called = run(driver, path, call="run")
    assert called.error is None
    assert called.steps_taken == 1
    assert [item["name"] for item in called.parameters] == ["weights"]
    twice = run(driver, path, call="main")
    assert twice.steps_taken == 2
    rows = (row_of(path, "def run"), row_of(path, "def run") + 2)
    only = run(driver, path, call="run", rows=rows)
    assert {line["row"] for line in only.lines} == {rows[0] + 1}
    for name, why in (("train", "needs arguments"), ("missing", "defines no"), ("answer", "not a function")):
        refused = run(driver, path, call=name)
        assert refused.exit_code == 2
        assert refused.problem is not None
        assert why in refused.problem


def test_syntax_error(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text("import torch\nx = = 1\n")
    result = run(driver, path)
    assert result.exit_code == 1
    assert result.error is not None
    assert (result.error["type"], result.error["row"]) == ("SyntaxError", 2)


def test_what_autograd_grad_gives_is_seen(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        "import torch\n"
        "def update(layer, rate):\n"
        "    loss = layer(torch.ones(3, 2)).pow(2).mean() + 0 * idle.sum()\n"
        "    gradients = torch.autograd.grad(loss, [*layer.parameters(), idle])\n"
        "    return layer\n"
        "idle = torch.ones(2, requires_grad=True)\n"
        "trained = update(torch.nn.Linear(2, 1), 0.1)\n"
    )
    result = run(driver, path)
    states = {item["name"]: (item["gradient"], item["at_last_step"]) for item in result.parameters}
    assert states == {
        "idle": ("none", "zero"),
        "trained.weight": ("none", "nonzero"),
        "trained.bias": ("none", "nonzero"),
    }
    # A layer that is made where it is passed is first known to the function.
    rows = {item["name"]: [place["row"] for place in item["made"]] for item in result.parameters}
    assert rows["trained.weight"][0] == row_of(path, "def update")
    assert row_of(path, "trained = update") in rows["trained.weight"]
