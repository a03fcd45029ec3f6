r"""The text of one file: the only module that knows offsets, rows, columns and their notations.

Four notations meet here and nowhere else. Inside, a place is a code-point offset (`Span`) into the text
without its byte order mark; rows and columns are 0-based code points; `ast` counts columns in UTF-8 bytes,
editors in UTF-16 units. Lines end with `\n`, `\r\n` and `\r` alone, as in editors and in `ast`; not where
`str.splitlines` ends them. A `Source` never changes, and an edited one shares all that the edit did not
touch. It may be made of parts (a notebook's cells): no logical line leaves the part that it begins in.
"""

from __future__ import annotations

import ast
import re
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from gradsight.lines import Line, next_line
from gradsight.syntax import physical_lines


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a file's text, in code points from its start."""

    start: int
    end: int


class Units(list[Line]):
    """The logical lines of a text, never changed. Where they came about by one edit they know which: the list
    of before, as long as somebody has it, and the stretch of it that was replaced.
    """

    __slots__ = ("__weakref__", "first", "last", "origin")

    def __init__(self, lines: Iterable[Line] = (), first: int = 0, last: int = 0) -> None:
        super().__init__(lines)
        self.first, self.last = first, last
        self.origin: weakref.ref[Units] | None = None


class _Split(NamedTuple):
    units: Units
    starts: list[int]  # of each unit its first physical row
    reach: dict[
        int, int
    ]  # by such a row the first row not looked at, where it took a look behind the unit's end
    broken: list[int]  # the units that do not parse


_BLOCK = 256  # physical lines whose length is kept as one sum
MANY_PLACES = 64  # looked for one by one, from which on the offsets of all lines are worth their while


class Source:
    """A file's name and text. Frozen; what is dear to compute is computed when first asked for.

    `bounds` are the rows at which its second part and each later one begin; none for a text of one piece.
    """

    __slots__ = (
        "_asked", "_blocks", "_counts", "_offsets", "_split", "_text", "bom", "bounds", "file", "physical",
    )  # fmt: skip

    def __init__(self, file: str, text: str, bounds: Sequence[int] = ()) -> None:
        self.file, self.bounds = file, bounds
        self.bom = text.startswith("\ufeff")  # it is in no text, span or column
        self._text: str | None = text[1:] if self.bom else text
        self.physical: Sequence[str] = physical_lines(self._text)
        self._offsets: list[int] | None = None
        self._blocks: list[int] | None = None
        self._asked = 0  # places that were looked for without the offsets of all lines
        self._counts: dict[re.Pattern[str], int] = {}
        self._split: _Split | None = None

    @property
    def text(self) -> str:
        """All of it but the byte order mark."""
        if self._text is None:
            self._text = "".join(self.physical)
        return self._text

    @property
    def units(self) -> Sequence[Line]:
        """Its logical lines, blank ones and comments too: together they are the text."""
        return self._logical().units

    @property
    def starts(self) -> Sequence[int]:
        """Of each unit, its first physical row."""
        return self._logical().starts

    @property
    def broken(self) -> Sequence[int]:
        """The numbers of the units that do not parse."""
        return self._logical().broken

    def unit_at(self, row: int) -> int:
        """The number of the unit that a physical row is in; 0 where there is none."""
        return max(bisect_right(self.starts, row) - 1, 0)

    def _logical(self) -> _Split:
        if self._split is None:
            nothing = _Split(Units(), [], {}, [])
            self._split = _resplit(self.physical, self.bounds, nothing, 0, len(self.physical), 0)
        return self._split

    def lines_with(self, pattern: re.Pattern[str]) -> int:
        """In how many physical lines a pattern is found. Once asked, edited texts know it, too."""
        known = self._counts.get(pattern)
        if known is None:
            known = self._counts[pattern] = _count(pattern, self.physical)
        return known

    def line_offsets(self) -> list[int]:
        """Of each physical line its offset, and last the length of the text."""
        if self._offsets is None:
            self._offsets = list(accumulate(map(len, self.physical), initial=0))
        return self._offsets

    def line_offset(self, row: int) -> int:
        """The offset of one of its physical lines, or for the number of lines the length of the text."""
        if self._offsets is not None:
            return self._offsets[row]
        lines = self.physical
        if self._blocks is None:
            sums = (sum(map(len, lines[at : at + _BLOCK])) for at in range(0, len(lines), _BLOCK))
            self._blocks = list(accumulate(sums, initial=0))
        return self._blocks[row // _BLOCK] + sum(map(len, lines[row - row % _BLOCK : row]))

    @property
    def parts(self) -> Sequence[Span]:
        """What no logical line leaves: all of the text, or of a notebook each cell."""
        offsets = self.line_offsets()
        edges = [0, *(offsets[row] for row in self.bounds), offsets[-1]]
        return [Span(start, end) for start, end in pairwise(edges)]

    def slice(self, span: Span) -> str:
        """The text at a span."""
        return self.text[span.start : span.end]

    def line_text(self, row: int) -> str:
        """A physical line without its end; "" where there is no such line."""
        return self.physical[row].rstrip("\r\n") if 0 <= row < len(self.physical) else ""

    def row_column(self, offset: int) -> tuple[int, int]:
        """Row and column of an offset. One outside the text counts as the text's nearer end."""
        lines = self.physical
        offset = max(0, min(offset, self.line_offset(len(lines))))
        self._asked += 1
        if self._asked > MANY_PLACES:
            self.line_offsets()  # that is quicker now
        if self._offsets is not None:
            row = bisect_right(self._offsets, offset) - 1
            start = self._offsets[row]
        else:
            assert self._blocks is not None
            block = min(bisect_right(self._blocks, offset) - 1, len(lines) // _BLOCK)
            row, start = block * _BLOCK, self._blocks[block]
            while row < len(lines) and start + len(lines[row]) <= offset:
                start += len(lines[row])
                row += 1
        if row == len(lines) and row and lines[-1][-1] not in "\r\n":
            row, start = row - 1, start - len(lines[-1])  # no line end, no further line
        return row, offset - start

    def offset(self, row: int, column: int) -> int:
        """The offset of a place. A column behind its line's end counts as that, a row too far as the end."""
        if row < 0:
            return 0
        if row >= len(self.physical):
            return self.line_offset(len(self.physical))
        return self.line_offset(row) + max(0, min(column, len(self.line_text(row))))

    def span_of(self, at: int, node: ast.AST) -> Span:
        """Where a node of the unit number `at` stands. For nodes that have a place in `ast`.

        Raises:
            AttributeError: this kind of node has none (`arguments`, `match_case`, ...).
        """
        units, starts, _, _ = self._logical()
        base = starts[at] - 1 - units[at].shift
        row, end_row = base + node.lineno, base + node.end_lineno  # type: ignore[attr-defined]
        start = self.offset(row, self.from_utf8(row, node.col_offset))  # type: ignore[attr-defined]
        end = self.offset(end_row, self.from_utf8(end_row, node.end_col_offset))  # type: ignore[attr-defined]
        return Span(start, max(start, end))

    def utf16_column(self, row: int, column: int) -> int:
        """UTF-16 units before a column. A column behind the line's end counts as its end."""
        line = self.line_text(row)[: max(0, column)]
        return len(line) if line.isascii() else len(line) + sum(each > "\uffff" for each in line)

    def from_utf16(self, row: int, units: int) -> int:
        """The column behind so many UTF-16 units. Inside a surrogate pair: before the character."""
        line = self.line_text(row)
        if line.isascii():
            return max(0, min(units, len(line)))
        for column, each in enumerate(line):
            units -= 1 + (each > "\uffff")
            if units < 0:
                return column
        return len(line)

    def utf8_column(self, row: int, column: int) -> int:
        """UTF-8 bytes before a column. A column behind the line's end counts as its end."""
        return len(self.line_text(row)[: max(0, column)].encode("utf-8", "surrogatepass"))

    def from_utf8(self, row: int, count: int) -> int:
        """The column that stands behind so many UTF-8 bytes. Inside a character: before it."""
        line = self.line_text(row)
        if line.isascii():
            return max(0, min(count, len(line)))
        encoded = line.encode("utf-8", "surrogatepass")[: max(0, count)]
        while encoded:
            try:
                return len(encoded.decode("utf-8", "surrogatepass"))
            except UnicodeDecodeError:
                encoded = encoded[:-1]
        return 0

    def edited(
        self, row0: int, column0: int, row1: int, column1: int, new: str, bounds: Sequence[int] | None = None
    ) -> Source:
        """This source with the text between two places replaced. Places outside it count as for `offset`.

        `bounds` are those of the new text, which may differ from the old ones between the two places alone;
        without them the text's parts keep their rows, and those whose beginning is replaced go.
        """
        lines = self.physical
        row0, column0 = self._clamped(row0, column0)
        row1, column1 = max((row0, column0), self._clamped(row1, column1))
        stop = min(row1 + 1, len(lines))
        tail = new + lines[row1][column1:] if row1 < len(lines) else new
        head = lines[row0][:column0] if row0 < len(lines) else ""
        if row0 and not column0:
            above = lines[row0 - 1]  # it may go on: \r and \n come together, or it is the last and has no end
            if (above[-1] == "\r" and tail[:1] == "\n") or above[-1] not in "\r\n":
                row0, head = row0 - 1, above
        fresh = physical_lines(head + tail)
        result = Source.__new__(Source)
        result.file, result.bom = self.file, self.bom
        result.physical = physical = list(lines)
        physical[row0:stop] = fresh
        result._text = result._offsets = result._split = result._blocks = None
        result._asked = 0
        gone = lines[row0:stop]
        result._counts = {
            pattern: known - _count(pattern, gone) + _count(pattern, fresh)
            for pattern, known in self._counts.items()
        }
        block = row0 // _BLOCK + 1
        if self._blocks is not None and len(gone) == len(fresh) and stop <= block * _BLOCK:
            longer = sum(map(len, fresh)) - sum(map(len, gone))
            result._blocks = self._blocks[:block] + [each + longer for each in self._blocks[block:]]
        delta = len(physical) - len(lines)
        if bounds is None:
            bounds = self.bounds and [
                row + delta * (row > row0)
                for row in self.bounds
                if row <= row0 or row > row1 or (row == row1 and not column1)
            ]
        result.bounds = bounds
        if self._split is not None:
            result._split = _resplit(physical, bounds, self._split, row0, row0 + len(fresh), delta)
        return result

    def _clamped(self, row: int, column: int) -> tuple[int, int]:
        if row < 0:
            return 0, 0
        if row >= len(self.physical):
            return len(self.physical), 0
        return row, max(0, min(column, len(self.line_text(row))))


def _resplit(
    lines: Sequence[str], bounds: Sequence[int], before: _Split, first: int, stop: int, delta: int
) -> _Split:
    """The split of a text whose physical lines [first, stop) are new, and whose later ones moved by `delta`.

    Scans from the unit in which the change begins, or from an earlier one that looked as far, until old and
    new beginnings meet.
    """
    old_units, old_starts, old_reach, old_broken = before
    seen = (bisect_left(old_starts, start) for start, reach in old_reach.items() if start < first <= reach)
    begin = min([max(bisect_right(old_starts, first) - 1, 0), *seen])
    row = origin = old_starts[begin] if old_starts else 0
    fresh: list[Line] = []
    at: list[int] = []
    reach: dict[int, int] = {}
    end = begin
    while row < len(lines):
        if row >= stop:
            end = bisect_left(old_starts, row - delta, end)
            if end < len(old_starts) and old_starts[end] == row - delta:
                break
        at_bound = bisect_right(bounds, row)
        unit, looked = next_line(lines, row, bounds[at_bound] if at_bound < len(bounds) else None)
        fresh.append(unit)
        at.append(row)
        if looked > row + unit.count:
            reach[row] = looked
        row += unit.count
    else:
        end = len(old_units)
    for start, far in old_reach.items():
        if start < origin:
            reach[start] = far
        elif start >= row - delta:
            reach[start + delta] = far + delta
    units = Units(old_units, begin, end)
    units[begin:end] = fresh
    units.origin = weakref.ref(old_units)
    starts = old_starts
    if delta or at != old_starts[begin:end]:
        starts = old_starts[:begin] + at
        starts += [start + delta for start in old_starts[end:]] if delta else old_starts[end:]
    more = len(units) - len(old_units)
    broken = [
        *(number for number in old_broken if number < begin),
        *(number for number, unit in enumerate(fresh, begin) if unit.error is not None),
        *(number + more for number in old_broken if number >= end),
    ]
    return _Split(units, starts, reach, broken)


def _count(pattern: re.Pattern[str], lines: Sequence[str]) -> int:
    return sum(1 for line in lines if pattern.search(line))
