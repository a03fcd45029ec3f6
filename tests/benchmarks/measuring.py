"""How all benchmarks here measure: CPU seconds of a process, two commands by turns, medians over pairs."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "benchmarks"
CACHE.mkdir(parents=True, exist_ok=True)
PAIRS = 5
sys.path[:0] = [str(ROOT / "analysis"), str(ROOT / "server")]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    figures: tuple[float, ...]
    unit: str  # "×" or "ms" or ""
    target: float | None
    note: str = ""

    @property
    def median(self) -> float:
        """Of all figures."""
        return statistics.median(self.figures)

    @property
    def met(self) -> bool:
        """Whether the target is, if there is one."""
        return self.target is None or self.median <= self.target


@dataclass(frozen=True)
class Cost:
    """What a command took, in seconds."""

    cpu: float
    wall: float


def cost(command: Sequence[str | Path], codes: Sequence[int] = (0, 1)) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it ended with a code that says that it did not do its work.
    """
    # Compiled files are kept, as in every normal use.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        list(map(str, command)), cwd=CACHE, env=environment, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in codes:
        raise RuntimeError(f"{command} ended with {done.returncode}\n{done.stderr[-2000:]}")
    return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def by_turns(
    ours: Callable[[], Cost], theirs: Callable[[], Cost], pairs: int = PAIRS
) -> list[tuple[Cost, Cost]]:
    """Both once to warm up, then `pairs` times each, side by side."""
    ours(), theirs()
    return [(ours(), theirs()) for _ in range(pairs)]


def tools() -> Path:
    """The interpreter of an environment of its own with torchfix and pyflakes in it."""
    home = CACHE / "tools"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "torchfix==0.7.0", "pyflakes==4.1.0"], check=True
        )
        (home / "ready").touch()
    return python


def timm() -> Path:
    """The folder of timm 1.0.19 as PyPI has it, unpacked, without what it depends on."""
    home = CACHE / "timm-1.0.19"
    if not home.exists():
        fetched = CACHE / "fetched"
        wanted = ["--no-deps", "-q", "-d", str(fetched), "timm==1.0.19"]
        subprocess.run([tools(), "-m", "pip", "download", *wanted], check=True)
        (wheel,) = fetched.glob("timm-1.0.19-*.whl")
        subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, home], check=True)
    return home / "timm"
