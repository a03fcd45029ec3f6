"""Draw, run and judge many programs, and compare the edges of all: what CI does with a slice.

    python tests/generated/long_run.py 10000 [FIRST_SEED]

Also compares the edges of every program of fixtures/corpus, fixtures/rules and fixtures/seeds. Prints what
disagrees as it goes, and writes the figures with the commit into RESULTS.md beside this file. An interrupt
ends the run, and the figures say how many programs there were.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests")]

from generated import edges, grammar, judging  # noqa: E402

AT_ONCE = 50
RESULTS = HERE / "RESULTS.md"


def main() -> None:
    """Run, and write the results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("programs", type=int)
    arguments.add_argument("first", type=int, nargs="?", default=0)
    given = arguments.parse_args()
    start = time.monotonic()
    figures, emitted = judging.Figures(), Counter[str]()
    seeds = range(given.first, given.first + given.programs)
    with contextlib.suppress(KeyboardInterrupt):
        for at in range(0, len(seeds), AT_ONCE):
            judged = judging.judge([grammar.program(seed) for seed in seeds[at : at + AT_ONCE]])
            for each in judged:
                figures.add(each)
                emitted += each.generated.emitted
                for what in each.disagreements:
                    print(f"seed {each.generated.seed}: {what}", flush=True)
            if at % (20 * AT_ONCE) == 0:
                print(f"{figures.programs} programs, {time.monotonic() - start:.0f} s", flush=True)
    minutes = (time.monotonic() - start) / 60
    fixtures = edges.Figures()
    paths = [
        path
        for folder in ("corpus", "rules/*", "seeds")
        for path in (ROOT / "fixtures").glob(f"{folder}/*.py")
    ]
    for path in sorted(paths):
        for traced in edges.trace([(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))]):
            fixtures.add(traced)
            for what in traced.contradicted:
                print(what, flush=True)
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    lines = [
        "# The long run",
        "",
        f"`python tests/generated/long_run.py {given.programs} {given.first}` at {commit}: "
        f"seeds from {given.first} on, {figures.programs} programs in {minutes:.0f} minutes.",
        "",
        "## Generated programs",
        "",
        "```text",
        str(figures),
        "```",
        "",
        "## Programs of fixtures/",
        "",
        "```text",
        str(fixtures),
        "```",
        "",
        "## How often each construct was drawn",
        "",
        "```text",
        *(f"{count:6} {name}" for name, count in sorted(emitted.items())),
        "```",
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
