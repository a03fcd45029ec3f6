"""Typing inside one method of a large class of a long script: the analysis alone, and how much runs again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from measuring import Row  # makes our packages known
from script import Script, large_script

# isort: split
from gradsight.engine import Engine
from gradsight.text import Source

PASSES = 5
# Typed before the line that differentiates the loss, a key at a time. They leave what the method does for its
# callers as it was; most of the states between are broken lines.
SILENT = (
    "started = time.time() - 3.0",
    "print('step', len(str(12)), flush=True)",
    "shown = sum(each for each in range(3))",
)
BLANK = 50


def raise_bug(where: str, error: BaseException) -> None:
    raise AssertionError(where) from error


def places(script: Script) -> Iterator[tuple[int, int]]:
    """Rows within the large class before which is typed, and their indentation."""
    rows = script.text.split("\n")
    for row in range(script.first, script.last):
        if ".backward()" in rows[row]:
            yield row, len(rows[row]) - len(rows[row].lstrip())


def typed(
    engine: Engine, source: Source, row: int, column: int, statement: str
) -> Iterator[tuple[float, int, Source]]:
    """For each key the seconds it took, how many functions were analysed, and the text after it."""
    for at, key in enumerate(statement):
        engine.analysed.clear()
        began = time.process_time()
        source = source.edited(row, column + at, row, column + at, key)
        engine.analyze(source)
        yield time.process_time() - began, len(engine.analysed), source


def rows() -> list[Row]:
    """Median milliseconds of a key, functions analysed for it, and the same of a blank line on top."""
    script = large_script()
    medians: list[float] = []
    counts: list[float] = []
    worst = 0.0
    keys = 0
    for _ in range(PASSES):
        engine = Engine(raise_bug)  # one that has seen nothing, for what was typed once is remembered
        times: list[float] = []
        for row, column in places(script):
            source = Source("script.py", script.text)
            engine.analyze(source)
            for statement in SILENT:
                source = source.edited(row, 0, row, 0, " " * column + "\n")
                engine.analyze(source)
                for seconds, count, after in typed(engine, source, row, column, statement):
                    times.append(1e3 * seconds)
                    counts.append(count)
                    source = after
        medians.append(statistics.median(times))
        worst, keys = max(worst, *times), keys + len(times)
    blank: list[float] = []
    analysed = 0
    engine = Engine(raise_bug)
    source = Source("script.py", script.text)
    engine.analyze(source)
    for _ in range(BLANK):
        engine.analysed.clear()
        began = time.process_time()
        source = source.edited(0, 0, 0, 0, "\n")
        engine.analyze(source)
        blank.append(1e3 * (time.process_time() - began))
        analysed += len(engine.analysed)
    lines, height = script.text.count("\n"), script.last - script.first
    note = (
        f"{keys} keys in a class of {height} lines in a script of {lines:,}; the slowest took {worst:.0f} ms"
    )
    return [
        Row("an edit inside one method, analysis alone", tuple(medians), "ms", 2.0, note),
        Row("… functions analysed for it", tuple(counts), "", 1),
        Row("a blank line on top, analysis alone", tuple(blank), "ms", None),
        Row("… functions analysed for it", (float(analysed),), "", 0),
    ]


if __name__ == "__main__":
    for each in rows():
        print(each.what, each.median, min(each.figures), max(each.figures), each.note)
