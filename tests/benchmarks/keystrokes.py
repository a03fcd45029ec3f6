"""What somebody types into a long training script, key by key, and nothing of it pasted.

Every sequence ends with the text that it began with. Lines are typed inside functions on the way to a loss,
with all the unfinished states that lie between; a `.detach()` comes and goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from training_script import TrainingScript


class Edit(NamedTuple):
    """The text between two places, rows and columns from 0, becomes another. The script is ASCII."""

    row0: int
    column0: int
    row1: int
    column1: int
    text: str


# For each place: the line below which is typed, what is typed there (a new value, something that looks at it,
# and its way into the loss), and the beginning of the last of it, behind which a `.detach()` is put.
PLACES = (
    (
        "x = x + 0.5 * smoothed",
        (
            "gain = torch.sigmoid(spread.mean(dim=-1, keepdim=True))",
            'assert gain.shape[1] == 1, f"gain has {gain.shape}"',
            "x = x * gain.unsqueeze(1)",
        ),
        "x = x * gain",
    ),
    (
        "loss = loss + 1e-6 * decay",
        (
            "sparse = sum(weight.abs().mean() for weight in model.parameters())",
            'print(f"step {step}: sparse {sparse.item():.3f} at {rate:.2f}")',
            "loss = loss + 1e-7 * sparse",
        ),
        "loss = loss + 1e-7 * sparse",
    ),
    (
        "weighted = blended * quality",
        (
            "# Curvature, over two steps: the ends count half.",
            "curve = (rebuilt[:, 2:] - rebuilt[:, :-2]).pow(2)",
            "weighted = weighted + 0.01 * curve.mean(dim=(1, 2)).unsqueeze(1)",
        ),
        "weighted = weighted + 0.01 * curve",
    ),
)
CUT = ".detach()"


def keystrokes(script: TrainingScript, streams: int = 2) -> Iterator[Edit]:
    """All edits, for so many of its streams."""
    rows = script.text.split("\n")
    for stream in range(streams):
        for above, typed, cut in PLACES:
            row = [at for at, text in enumerate(rows) if text.strip() == above][stream]
            indent = " " * (len(rows[row]) - len(rows[row].lstrip()))
            yield from _typed(row, len(rows[row]), indent, typed, cut)


def _typed(row: int, column: int, indent: str, typed: tuple[str, ...], cut: str) -> Iterator[Edit]:
    first, begun = row, column
    for line in typed:
        yield Edit(row, column, row, column, "\n" + indent)
        row, column = row + 1, len(indent)
        for key in line:
            yield Edit(row, column, row, column, key)
            column += 1
    at = len(indent) + len(cut)
    for number, key in enumerate(CUT):
        yield Edit(row, at + number, row, at + number, key)
    for number in reversed(range(len(CUT))):
        yield Edit(row, at + number, row, at + number + 1, "")
    while row > first:  # the lines are deleted again
        above = begun if row == first + 1 else len(indent) + len(typed[row - first - 2])
        yield Edit(row - 1, above, row, len(indent) + len(typed[row - first - 1]), "")
        row -= 1


def flips(script: TrainingScript, count: int) -> Iterator[tuple[Edit, bool]]:
    """A value that hundreds of lines read is cut from its source and given back, and whether an edit is such.

    Between two of them a number further down changes, so that no flip leads to a text that there was before.
    """
    text = "shared = encoder(x)"
    row, other = script.row(text), script.row("part_0 = ")
    column = 4 + len(text)
    start = 4 + len("part_0 = shared * ")
    before = script.text.split("\n")[other][start:].partition(" ")[0]
    for number in range(count):
        yield Edit(row, column, row, column, CUT), True
        after = f"{number + 2}.5"
        yield Edit(other, start, other, start + len(before), after), False
        before = after
        yield Edit(row, column, row, column + len(CUT), ""), True
        after = f"{number + 2}.75"
        yield Edit(other, start, other, start + len(before), after), False
        before = after
