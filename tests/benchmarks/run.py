"""Runs every benchmark and writes the table `RESULTS.md` beside it.

`python tests/benchmarks/run.py` takes some minutes. It fetches timm and torchfix once into `.cache/`. Ratios
are taken within one run, by turns, so that a busy machine slows both sides.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import cold
import edit
import probe
import start
from measuring import Row, tools

RESULTS = Path(__file__).with_name("RESULTS.md")
# Why a target is missed, by a word of its row: what the profile says. Shown only where it is.
REASONS = {
    "start": "some 20 of 70 ms go into the standard library's dataclasses (56 classes, `inspect`); with "
    "classes made without them it was 1.6 ×. See `python -X importtime -m gradsight_cli check FILE`",
    "edit": "two thirds go into interpreting the edited function (`python -m cProfile -s tottime edit.py`)",
    "cold": "most goes into interpreting functions (`python -m cProfile -m gradsight_cli check FOLDER`)",
}


def probe_rows() -> list[Row]:
    """What the probe costs. There is no target but that it be known."""
    rows = []
    for name, (ratio, without) in probe.overheads().items():
        note = f"{without * 1e6:.0f} µs without the probe"
        rows.append(Row(f"probe: a step of {name}, beside the same without it", (ratio,), "×", None, note))
    with_probe, without = probe.calls()
    note = f"{with_probe:.1f} s, of which {without:.1f} s are `python` on the same file"
    rows.append(
        Row("probe: one warm call, one tiny step, beside `python`", (with_probe / without,), "×", None, note)
    )
    return rows


def shown(row: Row) -> str:
    """One line of the table."""
    digits = 0 if not row.unit else 3 if row.median < 0.1 else 2
    median, low, high = (
        f"{figure:.{digits}f}" for figure in (row.median, min(row.figures), max(row.figures))
    )
    spread = f"{low}–{high}" if len(row.figures) > 1 else ""
    target = "" if row.target is None else f"≤ {row.target:g} {row.unit}".rstrip()
    met = "" if row.target is None else "yes" if row.met else "**no**"
    return f"| {row.what} | {median} {row.unit} | {spread} | {target} | {met} | {row.note} |"


def machine() -> str:
    """The processor, as the system names it."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {platform.system()}"


def theirs() -> str:
    """The versions of what is measured beside us."""
    code = "from importlib.metadata import version; print(version('torchfix'), version('pyflakes'))"
    done = subprocess.run([tools(), "-c", code], capture_output=True, text=True, check=True)
    return "torchfix {}, pyflakes {}".format(*done.stdout.split())


def main() -> None:
    """Measure and write."""
    groups = {"start": start.rows(), "edit": edit.rows(), "cold": [cold.row()], "probe": probe_rows()}
    lines = [
        "# What it costs",
        "",
        "Written by `python tests/benchmarks/run.py`. Ratios are of CPU time unless they say otherwise,",
        "taken by turns in one run; milliseconds are CPU time, too.",
        "",
        f"Machine: {machine()}. CPython {platform.python_version()}, torch {version('torch')}, {theirs()}.",
        "",
        "| what | median | min–max | target | met | |",
        "|---|---|---|---|---|---|",
        *(shown(row) for rows in groups.values() for row in rows),
    ]
    missed = [name for name, rows in groups.items() if not all(row.met for row in rows)]
    lines += ["", *(f"Missed ({name}): {REASONS[name]}." for name in missed if name in REASONS)]
    RESULTS.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(RESULTS.read_text("utf-8"))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
