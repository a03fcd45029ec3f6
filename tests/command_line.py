"""Runs the command line as people do: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

# One mistake, of which nothing can be saved: the loss reaches no parameter, so `backward` raises.
LOST = """\
import torch

model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
prediction = model(torch.ones(4, 3))
loss = prediction.detach().pow(2).mean()
optimizer.zero_grad()
loss.backward()
optimizer.step()
"""
KEPT = LOST.replace(".detach()", "")
assert KEPT != LOST
# Right but wasteful, which is a hint.
WASTEFUL = """\
import torch
import torch.nn.functional as F

model = torch.nn.Linear(3, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
labels = torch.tensor([0, 1, 2])
loss = F.cross_entropy(model(torch.ones(3, 3)), F.one_hot(labels, 4).float())
optimizer.zero_grad()
loss.backward()
optimizer.step()
"""


def environment() -> dict[str, str]:
    """A plain environment, in which our packages are found whether they are installed or not."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in ("NO_COLOR", "TERM", "PYTHONIOENCODING", "FORCE_COLOR")
    }
    roots = [str(ROOT / "analysis"), str(ROOT / "server")]
    kept["PYTHONPATH"] = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), *roots])
    return kept


def run(
    *arguments: str | Path,
    cwd: Path,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `gradsight` with these arguments; no traceback of ours may ever show."""
    done = subprocess.run(
        [sys.executable, "-m", "gradsight_cli", *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        env={**environment(), **(env or {})},
        timeout=120,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done


def findings(*arguments: str | Path, cwd: Path, stdin: bytes = b"") -> list[dict[str, Any]]:
    """What `check` says, as JSON."""
    done = run("check", "--output-format", "json", *arguments, cwd=cwd, stdin=stdin)
    assert done.stdout, done.stderr.decode()
    result = json.loads(done.stdout)
    assert isinstance(result, list)
    return result


def codes(*arguments: str | Path, cwd: Path) -> list[tuple[str, str]]:
    """File and code of each finding, in order."""
    return [(each["filename"].replace(os.sep, "/"), each["code"]) for each in findings(*arguments, cwd=cwd)]
