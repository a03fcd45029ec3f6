"""A probe through the server, request to answer, where the status says that a warm process waits."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import Row

from client import GRADSIGHT, Client

ROUNDS = 12
FILE = "train.py"
PROGRAM = """\
import torch
from torch import nn

model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x, y = torch.randn(16, 32), torch.randint(0, 10, (16,))
loss = nn.functional.cross_entropy(model(x), y)
optimizer.zero_grad()
loss.backward()
optimizer.step()
"""
# The same program in a process that has loaded torch and taken a step: what the user's own code takes.
OWN = """\
import statistics, sys, time
code = compile(sys.argv[1], "train.py", "exec")
times = []
for _ in range(20):
    began = time.perf_counter()
    exec(code, {"__name__": "__main__"})
    times.append(time.perf_counter() - began)
print(statistics.median(times[5:]))
"""


def own() -> float:
    """Seconds that the program takes by itself."""
    done = subprocess.run([sys.executable, "-c", OWN, PROGRAM], capture_output=True, text=True, check=True)
    return float(done.stdout)


def warm() -> list[float]:
    """Seconds of each probe that a waiting process answers; the first, which starts everything, left out.

    Raises:
        AssertionError: a probe did not show what autograd did.
    """
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Client(GRADSIGHT, Path(folder)) as client:
        client.initialize({"decorations": True, "trusted": True})
        (Path(folder) / FILE).write_text(PROGRAM)
        client.open(FILE, PROGRAM)
        for number in range(ROUNDS + 1):
            seconds, view = client.probe(FILE, sys.executable)
            assert view["error"] is None, view
            assert any(row["state"] == "live" for row in view["rows"]), view
            if number:
                times.append(seconds)
            client.receive(
                lambda message: (
                    message.get("method") == "gradsight/status" and message["params"]["probe"] == "ready"
                )
            )
    return times


def row() -> Row:
    """Milliseconds by the clock, less what the program itself takes."""
    mine = own()
    times = warm()
    note = f"{1e3 * statistics.median(times):.0f} ms, of which {1e3 * mine:.1f} ms are the program's own"
    figures = tuple(1e3 * (each - mine) for each in times)
    return Row("probe: answered by the process that waits, one tiny step", figures, "ms", 100, note)


if __name__ == "__main__":
    print(row())
