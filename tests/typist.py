"""Somebody who edits programs at random, as people do: half a bracket, a line twice, `.detach()` and away.

Every edit is made through `Source.edited`, so that what is edited is what an editor would hold. All of it
follows from the seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from gradsight.text import Source

PIECES = (
    "(", ")", "[", "]", "{", "}", '"', "'", '"""', "'''", "\n", "\n\n", "\r\n", "\\\n", ":", ",", ".", "=",
    "#", " ", "    ", "\t", "\x0c", "é", "😀", "x", "_", "0", "1e-3", "lambda: ", "*", "**", "->", "@", ";",
    "if ", "else:", "not ", "await ", ".detach()", ".data", ".item()", ".numpy()", ".clone()", ".mean()",
    ".backward()", "[0]", ".cpu()", "float(", "torch.no_grad()", "\n    pass", "\n    return x",
    "\nimport numpy as np", "self.", "self.scale = 1.0\n", "retain_graph=True", "torch.tensor(",
    "  # gradsight: ignore", "  # gradsight: ignore[GS102]", "  # note", "requires_grad=True",
    "global step\n",
)  # fmt: skip
TOPS = (
    "\n", "# a comment\n", "import torch\n", "import torch as t\n", "from torch import nn\n",
    '"""Words."""\n', "import math\n", "x = 3\n", "def helper(x):\n    return x.detach()\n",
    "class Net:\n    pass\n", "@torch.no_grad()\n", "scale = 0.5\n",
)  # fmt: skip
DECORATORS = ("@torch.no_grad()", "@property", "@staticmethod", "@classmethod", "@wrapped")
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
_DEFINED = re.compile(r"^[ \t]*(?:async )?(?:def|class) (\w+)", re.MULTILINE)
_RECEIVER = re.compile(r"(?<=[\w)\]])(?=\.\w|\)|,|$| [-+*/])", re.MULTILINE)
_CALL = re.compile(r"\.(?:detach|item|clone|float|mean|sum|cpu|numpy|data|long|backward)(?:\(\))?")
_HEADER = re.compile(r"^([ \t]*)(?:async )?def \w+\(", re.MULTILINE)
_PARAMETERS = re.compile(r"def \w+\((self, )?(\w+), (\w+)([,)=:])")


class Typist:
    """Makes one edit after another. `history` holds what there was, for undoing."""

    def __init__(self, source: Source, rng: random.Random) -> None:
        self.source, self.rng = source, rng
        self.history: list[Source] = [source]
        self.last = ""  # the name of the edit that was made

    def edit(self) -> Source:
        """The text after one more edit."""
        for _ in range(20):
            act = self.rng.choices(ACTS, weights=WEIGHTS)[0]
            edited = act(self)
            if edited is not None and edited.text != self.source.text:
                self.last = act.__name__
                self.source = edited
                self.history.append(edited)
                break
        return self.source

    # -- where

    def row(self) -> int:
        return self.rng.randrange(max(1, len(self.source.physical)))

    def replaced(self, start: int, end: int, new: str) -> Source:
        row0, column0 = self.source.row_column(start)
        row1, column1 = self.source.row_column(end)
        return self.source.edited(row0, column0, row1, column1, new)

    def found(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found: Sequence[re.Match[str]] = list(pattern.finditer(self.source.text))
        return self.rng.choice(found) if found else None

    # -- what

    def insert_piece(self) -> Source:
        row = self.row()
        column = self.rng.randint(0, len(self.source.line_text(row)))
        return self.source.edited(row, column, row, column, self.rng.choice(PIECES))

    def append_piece(self) -> Source:
        row = self.row()
        column = len(self.source.line_text(row))
        return self.source.edited(row, column, row, column, self.rng.choice(PIECES))

    def delete_characters(self) -> Source:
        row = self.row()
        column = self.rng.randint(0, len(self.source.line_text(row)))
        return self.source.edited(row, column, row, column + self.rng.randint(1, 6), "")

    def delete_stretch(self) -> Source:
        row = self.row()
        column = self.rng.randint(0, len(self.source.line_text(row)))
        last = row + self.rng.randint(1, 8)
        return self.source.edited(row, column, last, self.rng.randint(0, 20), "")

    def delete_line(self) -> Source:
        row = self.row()
        return self.source.edited(row, 0, row + 1, 0, "")

    def duplicate_line(self) -> Source:
        row = self.row()
        return self.source.edited(row, 0, row, 0, self.source.line_text(row) + "\n")

    def move_lines(self) -> Source:
        row, count = self.row(), self.rng.randint(1, 4)
        taken = "".join(self.source.line_text(each) + "\n" for each in range(row, row + count))
        left = self.source.edited(row, 0, row + count, 0, "")
        target = self.rng.randrange(max(1, len(left.physical)))
        return left.edited(target, 0, target, 0, taken)

    def join_lines(self) -> Source:
        row = self.row()
        return self.source.edited(row, len(self.source.line_text(row)), row + 1, 0, "")

    def change_indentation(self) -> Source:
        first, edited = self.row(), self.source
        deeper = self.rng.random() < 0.5
        for row in range(first, min(first + self.rng.randint(1, 6), len(edited.physical))):
            if deeper:
                edited = edited.edited(row, 0, row, 0, "    ")
            elif edited.line_text(row).startswith("    "):
                edited = edited.edited(row, 0, row, 4, "")
        return edited

    def comment_out(self) -> Source:
        row = self.row()
        text = self.source.line_text(row)
        bare = text.lstrip()
        column = len(text) - len(bare)
        if bare.startswith("# "):
            return self.source.edited(row, column, row, column + 2, "")
        return self.source.edited(row, column, row, column, "# ")

    def toggle_method(self) -> Source | None:
        if self.rng.random() < 0.5 and (call := self.found(_CALL)):
            return self.replaced(call.start(), call.end(), "")
        if place := self.found(_RECEIVER):
            new = self.rng.choice((".detach()", ".item()", ".detach().cpu().numpy()", ".data", ".mean()"))
            return self.replaced(place.start(), place.start(), new)
        return None

    def rename_everywhere(self) -> Source | None:
        if name := self.found(_DEFINED):
            new = self.rng.choice((name[1] + "2", "f", "forward", "loss", "train"))
            edited = self.source
            for use in reversed(list(re.finditer(rf"\b{name[1]}\b", edited.text))):
                row, column = edited.row_column(use.start())
                edited = edited.edited(row, column, row, column + len(name[1]), new)
            return edited
        return None

    def rename_definition(self) -> Source | None:
        if name := self.found(_DEFINED):
            new = self.rng.choice((name[1] + "_", "helper", "forward", "step"))
            return self.replaced(name.start(1), name.end(1), new)
        return None

    def exchange_name(self) -> Source | None:
        one, other = self.found(_NAME), self.found(_NAME)
        return self.replaced(one.start(), one.end(), other[0]) if one and other else None

    def exchange_parameters(self) -> Source | None:
        if found := self.found(_PARAMETERS):
            return self.replaced(found.start(2), found.end(3), f"{found[3]}, {found[2]}")
        return None

    def decorate(self) -> Source | None:
        if header := self.found(_HEADER):
            new = f"{header[1]}{self.rng.choice(DECORATORS)}\n"
            return self.replaced(header.start(), header.start(), new)
        return None

    def top(self) -> Source:
        return self.source.edited(0, 0, 0, 0, self.rng.choice(TOPS))

    def undo(self) -> Source:
        return self.history[-self.rng.randint(1, min(6, len(self.history)))]

    def redo(self) -> Source:
        return self.rng.choice(self.history)

    def begin_again(self) -> Source:
        return self.history[0]


_ACTS: dict[Callable[[Typist], Source | None], int] = {
    Typist.insert_piece: 6,
    Typist.append_piece: 3,
    Typist.delete_characters: 4,
    Typist.delete_stretch: 1,
    Typist.delete_line: 4,
    Typist.duplicate_line: 3,
    Typist.move_lines: 3,
    Typist.join_lines: 1,
    Typist.change_indentation: 3,
    Typist.comment_out: 3,
    Typist.toggle_method: 8,
    Typist.rename_everywhere: 1,
    Typist.rename_definition: 2,
    Typist.exchange_name: 6,
    Typist.exchange_parameters: 3,
    Typist.decorate: 2,
    Typist.top: 2,
    Typist.undo: 6,
    Typist.redo: 2,
    Typist.begin_again: 2,
}
ACTS, WEIGHTS = list(_ACTS), list(_ACTS.values())
