"""Runs every benchmark and writes the table `RESULTS.md` beside it.

`python tests/benchmarks/run.py` takes half an hour; `run.py editor start` measures these groups alone and
keeps what the tables say of the others. It fetches timm and torchfix once into `.cache/`. Ratios are taken
within one run, by turns, so that a busy machine slows both sides.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import answering
import cold
import edit
import editor
import menu
import probe
import start
from measuring import Row, tools

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADER = "| what | median | min–max | target | met | |"
# Why a target is missed, by a word of its row: what the profile says. Shown only where it is.
REASONS = {
    "start": "some 20 of 70 ms go into the standard library's dataclasses (56 classes, `inspect`); with "
    "classes made without them it was 1.6 ×. See `python -X importtime -m gradsight_cli check FILE`",
    "edit": "two thirds go into interpreting the edited function (`python -m cProfile -s tottime edit.py`)",
    "editor": "four keys in a hundred change what a function does for its callers: it, they, the module and "
    "what fifty rules ask of the whole program are made anew, some 80 ms of it; the 95th percentile stands "
    "outside of them and reads one long function anew. The flip reads 300 statements anew, at some 7 µs a "
    "node of syntax, and asks every rule about 150 terms of one loss "
    "(`python -m cProfile -s tottime edit.py` shows the analysis alone)",
    "cold": "most goes into interpreting functions (`python -m cProfile -m gradsight_cli check FOLDER`)",
}


def probe_rows() -> list[Row]:
    """What the probe costs. For most of it there is no target but that it be known."""
    rows = []
    for name, (ratio, without) in probe.overheads().items():
        note = f"{without * 1e6:.0f} µs without the probe"
        rows.append(Row(f"probe: a step of {name}, beside the same without it", (ratio,), "×", None, note))
    with_probe, without = probe.calls()
    note = f"{with_probe:.1f} s, of which {without:.1f} s are `python` on the same file"
    rows.append(
        Row("probe: one warm call, one tiny step, beside `python`", (with_probe / without,), "×", None, note)
    )
    rows.append(answering.row())
    return rows


GROUPS: dict[str, Callable[[], list[Row]]] = {
    "start": start.rows,
    "edit": edit.rows,
    "editor": editor.rows,
    "menu": menu.rows,
    "memory": editor.memory_rows,
    "cold": lambda: [cold.row()],
    "probe": probe_rows,
}


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


def kept() -> dict[str, list[str]]:
    """The lines that the table holds now, by group."""
    groups: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in RESULTS.read_text("utf-8").splitlines() if RESULTS.exists() else ():
        if line.startswith("## "):
            lines = groups.setdefault(line[3:], [])
        elif line.startswith(("| ", "Missed")) and line != HEADER:
            lines.append(line)
    return groups


def measured(name: str) -> list[str]:
    """The lines of a group, as it is now."""
    rows = GROUPS[name]()
    lines = [shown(row) for row in rows]
    if not all(row.met for row in rows) and name in REASONS:
        lines.append(f"Missed: {REASONS[name]}.")
    return lines


def main(names: Sequence[str]) -> None:
    """Measure and write."""
    groups = kept()
    for name in names or GROUPS:
        groups[name] = measured(name)
    lines = [
        "# What it costs",
        "",
        "Written by `python tests/benchmarks/run.py`. Ratios are of CPU time unless they say otherwise,",
        "taken by turns in one run; milliseconds are CPU time, too. Those of the editor and of menus",
        "are of the clock.",
        "",
        f"Machine: {machine()}. CPython {platform.python_version()}, torch {version('torch')}, {theirs()}.",
    ]
    for name in GROUPS:
        rows = [line for line in groups.get(name, ()) if line.startswith("|")]
        notes = [line for line in groups.get(name, ()) if not line.startswith("|")]
        if not rows:
            continue
        lines += ["", f"## {name}", "", HEADER, "|---|---|---|---|---|---|", *rows]
        lines += [part for note in notes for part in ("", note)]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(RESULTS.read_text("utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:])
