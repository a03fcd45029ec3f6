"""What the probe says of programs on a CUDA device; skipped where there is none."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from gradsight_server import probe


def _has_cuda() -> bool:
    if not list(Path("/dev").glob("nvidia*")) and shutil.which("nvidia-smi") is None:
        return False  # without paying for torch
    torch = pytest.importorskip("torch")
    return bool(torch.cuda.is_available())


pytestmark = pytest.mark.skipif(not _has_cuda(), reason="torch sees no CUDA device here")

CHOOSES = """\
import torch
from torch import nn
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 1)).to(device)
optimizer = torch.optim.Adam(model.parameters())
x = torch.randn(16, 4, device=device)
for step in range(3):
    optimizer.zero_grad()
    hidden = model(x)
    logged = hidden.detach().cpu().numpy().mean()
    loss = hidden.pow(2).mean()
    loss.backward()
    optimizer.step()
"""
CUT = CHOOSES.replace("hidden.pow(2)", "hidden.detach().pow(2)")
PLAIN = """\
import torch
from torch.utils.data import DataLoader, TensorDataset
model = torch.nn.Linear(2, 1)
data = DataLoader(TensorDataset(torch.ones(8, 2), torch.zeros(8, 1)), batch_size=4, shuffle=True)
for x, y in data:
    loss = torch.nn.functional.mse_loss(model(x), y)
    loss.backward()
"""


def run(folder: Path, text: str, **options: Any) -> probe.ProbeResult:
    path = folder / "program.py"
    path.write_text(text)
    return probe.run(probe.request(path, python=sys.executable, **options))


@pytest.mark.parametrize(("device", "expected"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cpu", "cpu")])
def test_the_program_chooses_among_what_it_is_shown(tmp_path: Path, device: str, expected: str) -> None:
    result = run(tmp_path, CHOOSES, device=device)
    assert result.error is None, result
    assert result.faults == ()
    assert result.device == expected
    assert {item["at_last_step"] for item in result.parameters} == {"nonzero"}
    (loss,) = [line for line in result.lines if line["name"] == "loss"]
    assert (loss["state"], loss["norm"]) == ("live", 1.0)
    assert [line["state"] for line in result.lines if line["name"] == "logged"] == ["constant"]


def test_gradients_agree_with_the_cpu(tmp_path: Path) -> None:
    on_gpu, on_cpu = (run(tmp_path, CHOOSES, device=device) for device in ("cuda", "cpu"))
    # The inputs differ by device (its own random stream), the shapes and states do not.
    for one, other in zip(on_gpu.parameters, on_cpu.parameters, strict=True):
        assert {key: one[key] for key in ("name", "gradient", "at_last_step", "shape", "optimizer")} == {
            key: other[key] for key in ("name", "gradient", "at_last_step", "shape", "optimizer")
        }


def test_a_cut_on_the_device(tmp_path: Path) -> None:
    result = run(tmp_path, CUT)
    assert result.exit_code == 1
    assert result.error is not None
    assert result.error["row"] == 13
    assert 12 in {line["row"] for line in result.lines if line["state"] == "cut"}


def test_a_program_that_names_no_device_runs_on_the_chosen_one(tmp_path: Path) -> None:
    result = run(tmp_path, PLAIN, device="cuda")
    assert result.error is None, result
    assert result.device == "cuda:0"
    assert result.steps_taken == 2
    result = run(tmp_path, PLAIN, device="auto")
    assert result.device == "cpu"


def test_nonfinite_and_zero_on_the_device(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        "import torch\n"
        "x = torch.tensor([0.0, 4.0], device='cuda', requires_grad=True)\n"
        "y = torch.sqrt(x)\n(y * 2).sum().backward()\n"
        "z = torch.ones(2, device='cuda', requires_grad=True)\n"
        "r = torch.round(z)\nr.sum().backward()\n",
    )
    assert result.error is None
    assert {item["name"]: item["gradient"] for item in result.parameters} == {"x": "nonfinite", "z": "zero"}
    by_name = {line["name"]: line for line in result.lines}
    assert by_name["x"]["state"] == "nonfinite"
    assert by_name["x"]["norm"] is None
    assert (by_name["z"]["state"], by_name["z"]["cause"]["row"]) == ("zero", 6)
