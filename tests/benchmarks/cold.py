"""A cold check of all of timm in one process, beside torchfix on three of its files: CPU seconds per line."""

from __future__ import annotations

import sys
from pathlib import Path

from measuring import Row, by_turns, cost, timm, tools

THREE = ("models/vision_transformer.py", "models/resnet.py", "models/efficientnet.py")


def lines(paths: list[Path]) -> int:
    return sum(len(path.read_text("utf-8").splitlines()) for path in paths)


def row() -> Row:
    """CPU per line of ours over CPU per line of torchfix, process start included in both."""
    folder = timm()
    all_files, three = sorted(folder.rglob("*.py")), [folder / name for name in THREE]
    check = [
        sys.executable,
        "-m",
        "gradsight_cli",
        "check",
        "--isolated",
        "--no-cache",
        "--jobs",
        "1",
        folder,
    ]
    torchfix = [tools(), "-m", "torchfix", "--select=ALL", *three]
    pairs = by_turns(lambda: cost(check), lambda: cost(torchfix))
    our_lines, their_lines = lines(all_files), lines(three)
    figures = tuple((ours.cpu / our_lines) / (theirs.cpu / their_lines) for ours, theirs in pairs)
    ours, theirs = pairs[len(pairs) // 2]
    note = (
        f"{our_lines:,} lines in {ours.cpu:.1f} s ({1e6 * ours.cpu / our_lines:.0f} µs a line) beside "
        f"{their_lines:,} lines in {theirs.cpu:.1f} s ({1e6 * theirs.cpu / their_lines:.0f} µs a line)"
    )
    return Row(
        "cold check of timm 1.0.19, CPU per line, beside `torchfix --select=ALL`", figures, "×", 0.05, note
    )


if __name__ == "__main__":
    print(row())
