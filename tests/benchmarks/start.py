"""`gradsight check` of one small file beside `python -m pyflakes` on it, process start included."""

from __future__ import annotations

import shutil
import statistics
import sys

from measuring import CACHE, ROOT, Row, by_turns, cost, tools

PAIRS = 15  # they are short


def rows() -> list[Row]:
    """CPU and wall time of ours over theirs."""
    small = CACHE / "small.py"
    shutil.copy(ROOT / "fixtures" / "corpus" / "mlp_regression.py", small)
    # Both by the same interpreter, each from where it is installed.
    check = [sys.executable, "-m", "gradsight_cli", "check", "--no-cache", small]
    pyflakes = [tools(), "-m", "pyflakes", small]
    pairs = by_turns(lambda: cost(check), lambda: cost(pyflakes), PAIRS)
    ours = statistics.median(one.cpu for one, _ in pairs)
    theirs = statistics.median(other.cpu for _, other in pairs)
    note = f"{1e3 * ours:.0f} ms of CPU beside {1e3 * theirs:.0f} ms"
    what = "check of one small file, process start included, beside `python -m pyflakes`"
    return [
        Row(f"{what}: CPU", tuple(one.cpu / other.cpu for one, other in pairs), "×", 2.0, note),
        Row(f"{what}: wall", tuple(one.wall / other.wall for one, other in pairs), "×", 2.0),
    ]


if __name__ == "__main__":
    for each in rows():
        print(each)
