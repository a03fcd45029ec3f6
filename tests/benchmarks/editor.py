"""Our language server beside `ruff server`, as an editor sees them: the same edits to both, by turns.

A time is from the moment that an edit is written to the server's pipe until its diagnostics have arrived,
as bytes: what a client makes of them is no server's. Times are of the clock: the client's waiting counts,
whoever works meanwhile. What the servers compute for it, in all their threads, stands beside it: a busy
machine changes that less.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keystrokes import Edit, flips, keystrokes
from measuring import Row
from training_script import TrainingScript, training_script

from client import GRADSIGHT, RUFF, Client

BARE = (sys.executable, str(Path(__file__).with_name("bare_server.py")))
FILE = "train.py"
ROUNDS, LONG_ROUNDS, STARTS = 2, 1, 7
FLIPS = 15  # there and back
DOCUMENTS, EDITS = 1000, 10_000
SETTLED = 4.0  # seconds after opening: what a server does when nobody types is done then


def percentile(times: Sequence[float], share: float) -> float:
    """The time that so great a share of them stays below."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


@dataclass
class Times:
    """Milliseconds of each edit, by the clock and of the processor."""

    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def beside(script: TrainingScript, edits: Iterable[tuple[Edit, bool]]) -> tuple[Times, Times]:
    """What ours and ruff took for each edit that counts.

    Raises:
        AssertionError: in the end our server says something else than one that knows no more than the text.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with Client(GRADSIGHT, root) as ours, Client(RUFF, root) as theirs:
            for client in (ours, theirs):
                client.initialize()
                client.open(FILE, script.text)
            time.sleep(SETTLED)
            rows = script.text.split("\n")
            mine, other = Times(), Times()
            for number, (edit, counts) in enumerate(edits):
                rows[edit.row0 : edit.row1 + 1] = _edited(rows, edit)
                pair = ((ours, mine), (theirs, other))
                for client, times in pair if number % 2 else reversed(pair):
                    before = client.cpu()
                    seconds = client.edit(FILE, edit)
                    if counts:
                        times.clock.append(1e3 * seconds)
                        times.cpu.append(1e3 * (client.cpu() - before))
            said = ours.diagnostics[ours.uri(FILE)]
        with Client(GRADSIGHT, root) as fresh:
            fresh.initialize()
            assert fresh.open(FILE, "\n".join(rows)) == said
    return mine, other


def _edited(rows: list[str], edit: Edit) -> list[str]:
    return (rows[edit.row0][: edit.column0] + edit.text + rows[edit.row1][edit.column1 :]).split("\n")


def typing(script: TrainingScript, rounds: int = ROUNDS) -> list[tuple[Times, Times]]:
    """Each round's times of typing into a script."""
    return [beside(script, ((edit, True) for edit in keystrokes(script))) for _ in range(rounds)]


def compared(what: str, rounds: list[tuple[Times, Times]], most: float, most_95: float | None) -> list[Row]:
    """The rows of one comparison: ratios of medians and of 95th percentiles."""
    rows: list[Row] = []
    for kind, target, target_95 in (("clock", most, most_95), ("cpu", None, None)):
        pairs = [(getattr(ours, kind), getattr(theirs, kind)) for ours, theirs in rounds]
        ours, theirs = ([each for times in side for each in times] for side in zip(*pairs, strict=True))
        note = (
            f"{len(ours)} edits: {statistics.median(ours):.2f} ms beside {statistics.median(theirs):.2f} ms; "
            f"the slowest took {max(ours):.0f} ms beside {max(theirs):.0f} ms"
        )
        note_95 = f"{percentile(ours, 0.95):.1f} ms beside {percentile(theirs, 0.95):.1f} ms"
        medians = tuple(statistics.median(mine) / statistics.median(other) for mine, other in pairs)
        tails = tuple(percentile(mine, 0.95) / percentile(other, 0.95) for mine, other in pairs)
        name = f"{what}, beside `ruff server`" if kind == "clock" else "… CPU of the servers"
        rows.append(Row(f"{name}: median", medians, "×", target, note))
        rows.append(Row("… 95th percentile", tails, "×", target_95, note_95))
    return rows


def initialized(command: Sequence[str], root: Path) -> float:
    """Seconds from starting a server to its answer to `initialize`."""
    began = time.perf_counter()
    with Client(command, root) as client:
        client.initialize()
        return time.perf_counter() - began


def starting() -> Row:
    """Ours beside one that does nothing."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        initialized(GRADSIGHT, root), initialized(BARE, root)
        pairs = [(initialized(GRADSIGHT, root), initialized(BARE, root)) for _ in range(STARTS)]
    ours, bare = (1e3 * statistics.median(each) for each in zip(*pairs, strict=True))
    note = f"{ours:.0f} ms beside {bare:.0f} ms"
    ratios = tuple(one / other for one, other in pairs)
    return Row("server start to `initialize` answered, beside a bare pygls server", ratios, "×", 1.1, note)


def memory_rows() -> list[Row]:
    """Memory with many documents open, and after many edits of them."""
    with tempfile.TemporaryDirectory() as folder, Client(GRADSIGHT, Path(folder)) as client:
        client.initialize()
        empty = client.memory()
        scripts = [training_script(450, own=f"_{number}") for number in range(DOCUMENTS)]
        for number, script in enumerate(scripts):
            client.open(f"{number}.py", script.text)
        time.sleep(SETTLED)
        opened = client.memory()
        edits = 0
        while edits < EDITS:
            number = edits % 97
            for edit in keystrokes(scripts[number], 1):
                client.edit(f"{number}.py", edit)
                edits += 1
        time.sleep(SETTLED)
        edited = client.memory()
    lines = statistics.mean(script.text.count("\n") for script in scripts)
    note = f"{lines:.0f} lines each; {empty:.0f} MiB with none"
    return [
        Row(f"memory with {DOCUMENTS:,} documents open", (opened,), "MiB", 300, note),
        Row(f"… after {EDITS:,} edits", (edited,), "MiB", 300),
    ]


def rows() -> list[Row]:
    """Times of all kinds."""
    usual = typing(training_script())
    long = typing(training_script(10_000), LONG_ROUNDS)
    shared = training_script(readers=300)
    own = tuple(
        statistics.median(ours.clock) / statistics.median(usually.clock)
        for (ours, _), (usually, _) in zip(long, usual[:LONG_ROUNDS], strict=True)
    )
    note = f"{statistics.median(each for ours, _ in long for each in ours.clock):.2f} ms"
    lines = training_script().text.count("\n")
    return [
        *compared(f"typing into a script of {lines:,} lines", usual, 1.0, 1.5),
        *compared("… with 100 findings", typing(training_script(findings=100)), 1.0, 1.5),
        *compared(
            "a value that 300 lines read, cut and given back",
            [beside(shared, flips(shared, FLIPS)) for _ in range(ROUNDS)],
            2.0,
            None,
        ),
        Row("typing into 10,000 lines, beside ours into 1,500: median", own, "×", 2.0, note),
        *compared("typing into a script of 10,000 lines", long, 1.0, 1.5),
        starting(),
    ]


if __name__ == "__main__":
    for each in (*rows(), *memory_rows()):
        print(each.what, f"{each.median:.2f}", each.unit, each.target, each.note)
