"""The probe's overhead per step, as a ratio, and the time of one call.

`python tests/benchmarks/probe.py` prints the table. Runs with and without the probe alternate, medians over
five pairs. Steps are measured in CPU time on one thread, for the clock of a busy machine is noise. A step is
forward, backward and optimizer step; the program under the probe is the very text that runs without it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "analysis"), str(ROOT / "server")]

from gradsight_server import probe  # noqa: E402

PAIRS = 5
MODELS = {
    "MLP 32": (
        "nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))",
        "torch.randn(32, 32)",
    ),
    "MLP 256": (
        "nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))",
        "torch.randn(128, 256)",
    ),
    "CNN": (
        "nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), "
        "nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), "
        "nn.Flatten(), nn.Linear(32, 10))",
        "torch.randn(16, 3, 32, 32)",
    ),
}
PROGRAM = """\
import json
import statistics
import time

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = {model}

    def forward(self, x):
        hidden = x
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()
x = {x}
y = torch.randint(0, 10, (x.shape[0],))
durations = []
for step in range({steps}):
    start = time.process_time()
    optimizer.zero_grad()
    out = model(x)
    loss = criterion(out, y)
    loss.backward()
    optimizer.step()
    durations.append(time.process_time() - start)
print(json.dumps(statistics.median(durations[len(durations) // 4:])))
"""


def plain(path: Path) -> float:
    """Seconds per step without the probe."""
    ran = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
    return float(json.loads(ran.stdout))


def probed(path: Path) -> float:
    """Seconds per step under the probe."""
    result = probe.run(probe.request(path, python=sys.executable))
    assert result.exit_code == 0, result
    assert result.faults == ()
    return float(json.loads(result.output))


def overheads(pairs: int = PAIRS, steps: int = 200) -> dict[str, tuple[float, float]]:
    """For each model the ratio of a step with the probe to one without, and the plain step in seconds."""
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (model, x) in MODELS.items():
            path = Path(folder) / "program.py"
            path.write_text(PROGRAM.format(model=model, x=x, steps=steps))
            both = [(plain(path), probed(path)) for _ in range(pairs)]
            ratio = statistics.median(with_probe / without for without, with_probe in both)
            result[name] = (ratio, statistics.median(without for without, _ in both))
    return result


def calls(pairs: int = PAIRS) -> tuple[float, float]:
    """Seconds for one probe of one tiny step, and for `python` on the same file, from a warm disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.py"
        model, x = MODELS["MLP 32"]
        path.write_text(PROGRAM.format(model=model, x=x, steps=1))
        both = []
        for _ in range(pairs + 1):
            start = time.perf_counter()
            plain(path)
            middle = time.perf_counter()
            probed(path)
            both.append((time.perf_counter() - middle, middle - start))
        both = both[1:]  # the first has warmed the disk's cache
    return statistics.median(one for one, _ in both), statistics.median(other for _, other in both)


def main() -> None:
    print("| what | ratio | without the probe |")
    print("|---|---|---|")
    for name, (ratio, without) in overheads().items():
        print(f"| a step of {name} | {ratio:.2f} | {without * 1e6:.0f} µs |")
    with_probe, without = calls()
    print(f"| one call, one tiny step ({with_probe:.1f} s) | {with_probe / without:.2f} | {without:.1f} s |")


if __name__ == "__main__":
    main()
