"""The menu of fixes: from the request for code actions until they have arrived, beside `ruff server`.

Both servers are warm: they have answered such a request before, of another text. Ours is asked what can be
done about one finding of each rule, which stands behind a script of 1,500 lines, ruff about an import that
nothing uses in the same text. No answer is one that was kept: each text is asked about once. Times are of the
clock.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from keystrokes import Edit
from measuring import ROOT, Row
from training_script import training_script

from client import GRADSIGHT, RUFF, Client

SETTLED = 0.1  # seconds after opening: what a server does behind its answer is done
MOST = 50.0  # milliseconds that a person does not notice
UNUSED = "import xml.dom\n"  # ruff's: F401
FILE = "train.py"
# An editor that asks for the edits of an action when it is chosen, as they all do.
ACTIONS = {
    "codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["quickfix", "source", "source.fixAll"]}},
    "dataSupport": True,
    "resolveSupport": {"properties": ["edit"]},
}


class Took(NamedTuple):
    """Milliseconds of one answer, by the clock and of the processor."""

    clock: float
    cpu: float


def programs() -> Iterator[tuple[str, str]]:
    """A program of each rule: the rule's code and the text."""
    for folder in sorted((ROOT / "fixtures" / "rules").glob("GS[1-9]*")):
        program = sorted(folder.glob("flagged_*.py"))[0]
        yield folder.name[:5], UNUSED + program.read_text(encoding="utf-8")


def menus(ours: Client, theirs: Client, before: str) -> tuple[dict[str, Took], list[float]]:
    """What each menu took, for each program behind a text: ours by the rule's code, and ruff's clock."""
    mine, other = {}, []
    row, last = before.count("\n"), 0
    for client in (ours, theirs):
        client.open(FILE, before)
    for code, program in programs():
        for client in (ours, theirs):
            client.edit(FILE, Edit(row, 0, row + last, 0, program))
        last = program.count("\n")
        time.sleep(SETTLED)
        said = [client.diagnostics[client.uri(FILE)] for client in (ours, theirs)]
        finding = next((each for each in said[0] if each["code"] == code), None)
        unused = next(each for each in said[1] if "xml" in each["message"])
        if finding is not None:
            cpu = ours.cpu()
            clock = ours.actions(FILE, finding)
            mine[code] = Took(1e3 * clock, 1e3 * (ours.cpu() - cpu))
            other.append(1e3 * theirs.actions(FILE, unused))
    for client in (ours, theirs):
        client.close(FILE)
    return mine, other


def rows() -> list[Row]:
    """The rows of the table."""
    long = training_script().text.partition("\nif __name__")[0] + "\n\n"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with Client(GRADSIGHT, root) as ours, Client(RUFF, root) as theirs:
            for client in (ours, theirs):
                client.initialize(capabilities={"codeAction": ACTIONS})
            menus(ours, theirs, "")  # what fixes need is loaded
            mine, other = menus(ours, theirs, long)
    slowest = max(mine, key=lambda code: mine[code].clock)
    clock, cpu = zip(*mine.values(), strict=True)
    ruff = statistics.median(other)
    note = f"a finding of each of {len(mine)} rules; `ruff server` on an unused import there: {ruff:.1f} ms"
    lines = long.count("\n")
    return [
        Row(f"menu of fixes in a script of {lines:,} lines, warm", clock, "ms", MOST, note),
        Row("… the slowest of them", (mine[slowest].clock,), "ms", MOST, slowest),
        Row("… CPU of the server", cpu, "ms", None),
        Row("… beside `ruff server`", (statistics.median(clock) / ruff,), "×", None),
    ]


if __name__ == "__main__":
    for each in rows():
        print(each.what, f"{each.median:.2f}", each.unit, each.target, each.note)
