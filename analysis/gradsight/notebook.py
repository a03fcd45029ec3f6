"""A notebook as one program: its code cells in order, joined into one `Source`, and every place back.

Rows stay rows and columns stay columns. What IPython reads before Python does (`%magic`, `!shell`, `help?`,
`%%bash` cells) is hidden: something stands there that parses and binds the same names to unknown values, and
no edit reaches it (`magics.py`). A cell is a part of the source, so that nothing unclosed leaves it. Nothing
here knows of files, of JSON or of editors.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

from gradsight.finding import Edit, Fix
from gradsight.magics import UNKNOWN, Part, difference, to_part
from gradsight.slicing import Program, SelectionError, select
from gradsight.syntax import UNPARSABLE, parse, parses
from gradsight.text import Source, Span

_ROW_IN_WORDS = re.compile(r"\b(?P<what>row|line) (?P<row>\d+)\b")


@dataclass(frozen=True, slots=True)
class Cell:
    """A code cell: its number over all cells of the notebook, 1-based, and its text as it is written."""

    number: int
    text: str


@dataclass(frozen=True, slots=True, order=True)
class CellPlace:
    """A place: the cell's index in `Notebook.cells`, and row and column in its text, 0-based code points."""

    cell: int
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class CellEdit:
    """Replace what stands between two places of one cell by the text."""

    start: CellPlace
    end: CellPlace
    text: str


class Notebook:
    """Code cells in order. Frozen; one that differs in some cells shares with it all that they do not touch.

    Attributes:
        cells: the code cells, those included that hold no Python.
        source: the program. Each cell's rows follow those of the cell before it.
    """

    __slots__ = ("_parts", "_starts", "cells", "source")

    def __init__(self, file: str, cells: Iterable[Cell]) -> None:
        self.cells = tuple(cells)
        self._parts = tuple(to_part(cell.text) for cell in self.cells)
        self._starts = _starts(self._parts)
        text = "".join(row for part in self._parts for row in part.rows)
        self.source = Source(file, text, self._starts[1:-1])

    def with_cells(self, cells: Iterable[Cell]) -> Notebook:
        """The notebook with other cells: edited, added, removed, moved."""
        result = Notebook.__new__(Notebook)
        result.cells = tuple(cells)
        old, new = self.cells, result.cells
        shorter = min(len(old), len(new))
        first = 0
        while first < shorter and old[first].text == new[first].text:
            first += 1
        same = 0
        while same < shorter - first and old[-1 - same].text == new[-1 - same].text:
            same += 1
        before = self._parts[first : len(old) - same]
        fresh = new[first : len(new) - same]
        if len(before) == len(fresh) == 1:
            after: tuple[Part, ...] = (to_part(fresh[0].text, before[0]),)
        else:
            after = tuple(to_part(cell.text) for cell in fresh)
        result._parts = (*self._parts[:first], *after, *self._parts[len(old) - same :])
        result._starts = _starts(result._parts)
        row0, row1 = self._starts[first], self._starts[len(old) - same]
        rows = [row for part in after for row in part.rows]
        if len(before) == len(after) == 1:
            changed, kept = difference(before[0].rows, rows)
            row0, row1, rows = row0 + changed, row1 - kept, rows[changed : len(rows) - kept]
        if row0 == row1 and not rows and self._starts == result._starts:
            result.source = self.source
        else:
            result.source = self.source.edited(row0, 0, row1, 0, "".join(rows), result._starts[1:-1])
        return result

    def with_text(self, cell: int, text: str) -> Notebook:
        """The notebook with another text in one cell, named by its index."""
        cells = list(self.cells)
        cells[cell] = Cell(cells[cell].number, text)
        return self.with_cells(cells)

    def rows(self, cell: int) -> tuple[int, int]:
        """The rows of the program that are a cell's: the first, and the first behind it."""
        return self._starts[cell], self._starts[cell + 1]

    @property
    def is_plain(self) -> bool:
        """Whether the program is the cells' texts and nothing else: places are the same in both."""
        return not any(part.hidden or part.indent for part in self._parts)

    def written(self, row: int) -> str:
        """A row of the program as it is written in its cell, with its line end."""
        cell = max(0, bisect_right(self._starts, row, hi=len(self.cells)) - 1)
        return self._parts[cell].written[row - self._starts[cell]]

    def in_words(self, text: str) -> str:
        """A sentence with the rows of cells where it names rows of the program: `line 12`, `row 12`."""

        def said(found: re.Match[str]) -> str:
            place = self.place(self.source.offset(int(found["row"]) - 1, 0))
            return f"cell {self.cells[place.cell].number}, {found['what']} {place.row + 1}"

        return _ROW_IN_WORDS.sub(said, text) if self.cells else text

    def place(self, offset: int) -> CellPlace:
        """Where an offset of the program stands. The end of a cell is in that cell; a cell must be there.

        Inside what is hidden, all places are its beginning or its end.
        """
        row, column = self.source.row_column(offset)
        cell = max(0, min(bisect_right(self._starts, row), len(self.cells)) - 1)
        return self._in_cell(cell, row, column)

    def places(self, where: Span) -> tuple[CellPlace, CellPlace]:
        """Where a span begins and ends. An end behind its cell's last row counts as that cell's end."""
        start, end = self.place(where.start), self.place(where.end)
        if end.cell > start.cell and where.end > where.start:
            last = self.place(max(where.start, where.end - 1))
            if last.cell < end.cell and (end.row, end.column) == (0, self._parts[end.cell].shift(0)):
                end = self._end(last.cell)
        return start, end

    def _in_cell(self, cell: int, row: int, column: int) -> CellPlace:
        part = self._parts[cell]
        row -= self._starts[cell]
        if row >= len(part.rows):
            return self._end(cell)
        hidden = part.hidden.get(row)
        if hidden is not None and column > hidden[0]:
            if hidden[1] is None:
                return CellPlace(cell, row, len(part.written[row].rstrip("\r\n")))
            column = max(column, hidden[1])
        return CellPlace(cell, row, min(column + part.shift(row), len(part.written[row].rstrip("\r\n"))))

    def _end(self, cell: int) -> CellPlace:
        written = self._parts[cell].written
        return CellPlace(cell, len(written) - 1, len(written[-1].rstrip("\r\n")))

    def offset(self, place: CellPlace) -> int:
        """The offset of a place. A column behind its row's end counts as that, a row too far as the end.

        All places inside what is hidden are its beginning.
        """
        part = self._parts[place.cell]
        row = max(0, min(place.row, len(part.rows) - 1))
        column = (1 << 30) if place.row > row else max(0, place.column - part.shift(row))
        hidden = part.hidden.get(row)
        if hidden is not None and column > hidden[0] and (hidden[1] is None or column < hidden[1]):
            column = hidden[0]
        return self.source.offset(self._starts[place.cell] + row, column)

    def is_hidden(self, place: CellPlace) -> bool:
        """Whether something stands at a place that IPython reads, and not Python."""
        part = self._parts[place.cell]
        hidden = part.hidden.get(place.row)
        column = place.column - part.shift(place.row)
        return hidden is not None and column >= hidden[0] and (hidden[1] is None or column < hidden[1])

    def to_cell_edits(self, edits: Iterable[Edit]) -> tuple[CellEdit, ...] | None:
        """The edits in the cells, in order; None if they would touch what is hidden or does not parse, or one
        of them more than one cell."""
        out: list[CellEdit] = []
        for edit in sorted(edits, key=lambda each: (each.where.start, each.where.end)):
            made = self._to_cell_edit(edit) if edit.file == self.source.file else None
            if made is None:
                return None
            out.append(made)
        for cell, text in self._edited(out).items():
            before = self._parts[cell]
            if before.hidden_texts() != to_part(text, before).hidden_texts():
                return None
        return tuple(out)

    def _to_cell_edit(self, edit: Edit) -> CellEdit | None:
        start, end = self.places(edit.where)
        if start.cell != end.cell or self._touches_broken(edit.where):
            return None
        part, base = self._parts[start.cell], self._starts[start.cell]
        if edit.where.start == edit.where.end and start.row < part.head:
            # Nothing may stand before a cell magic.
            if not edit.text.endswith("\n") or part.head >= len(part.rows):
                return None
            start = end = CellPlace(start.cell, part.head, part.shift(part.head))
        else:
            for row in range(start.row, end.row + 1):
                if row in part.hidden:
                    column, stop = part.hidden[row]
                    first = self.source.offset(base + row, column)
                    last = self.source.offset(base + row, (1 << 30) if stop is None else stop)
                    if first < edit.where.end and edit.where.start < last:
                        return None
        text = edit.text
        row, column = self.source.row_column(edit.where.end)
        if row >= self.rows(end.cell)[1] and not column:  # behind the line end that every cell is given
            text = re.sub(r"(\r\n|\r|\n)\Z", "", text)
            if edit.where.start == edit.where.end and edit.text:
                text = "\n" + text
        if part.indent:
            text = re.sub(r"(\r\n|\r|\n)", lambda found: found[0] + part.indent.lstrip("\ufeff"), text)
        return CellEdit(start, end, text)

    def _touches_broken(self, where: Span) -> bool:
        """Whether a span reaches into a line that does not parse, which `mendable` shows as another."""
        source = self.source
        at = source.unit_at(source.row_column(where.start)[0])
        last = source.row_column(where.end)[0]
        while at < len(source.units) and source.starts[at] <= last:
            unit = source.units[at]
            if unit.error is not None:
                first = source.offset(source.starts[at], 0)
                if first < where.end and where.start < first + len(unit.text):
                    return True
            at += 1
        return False

    def mendable(self) -> Source:
        """The program for whoever makes fixes: lines that do not parse are blotted out, place for place."""
        source = self.source
        broken = [at for at, unit in enumerate(source.units) if unit.error is not None]
        if not broken:
            return source
        rows = list(source.physical)
        for at in broken:
            unit, row = source.units[at], source.starts[at]
            following = next((each for each in source.units[at + 1 :] if each.code), None)
            opens = following is not None and following.indent > unit.indent
            for number in range(row, row + unit.count):
                rows[number] = _blotted(rows[number], ("if 1:" if opens else "0") if number == row else "")
        return Source(source.file, ("\ufeff" if source.bom else "") + "".join(rows), source.bounds)

    def runnable(self, cell: int | None = None) -> str:
        """The program for whoever runs it: what a magic would bind is an object that knows nothing.

        Whoever runs one cell runs none that does not parse, as in a notebook, unless it is that one.
        """
        rows = list(self.source.physical)
        for part, start in zip(self._parts, self._starts, strict=False):
            for row, (column, _) in part.hidden.items():
                code = rows[start + row]
                rows[start + row] = code[:column] + code[column:].replace(UNKNOWN, "object()")
        for other in range(len(self.cells)) if cell is not None else ():
            first, stop = self.rows(other)
            if other != cell and not parses("".join(rows[first:stop])):
                rows[first:stop] = ["\n"] * (stop - first)
        return "".join(rows)

    def selected(
        self, cell: int | None = None, rows: tuple[int, int] | None = None, call: str | None = None
    ) -> Program:
        """What a probe executes: all cells, or some rows of one (of the program, 1-based, both included).

        Who asks for a whole cell is also shown what runs of the cells above.

        Raises:
            SelectionError: they cannot be run; its text says why, with rows of the program.
        """
        text = self.runnable(cell)
        program = select(text, rows=rows, call=call)
        if (row := _awaiting(program.text)) is not None:
            raise SelectionError(f"line {row} awaits outside of any function, which a probe cannot do")
        if cell is None or rows is None or program.text is text:
            return program
        first, stop = self.rows(cell)
        around = (*range(first, rows[0] - 1), *range(rows[1], stop))
        if any(self.source.line_text(row).strip() for row in around):
            return program
        return replace(program, rows=None)

    def to_fixes(self, fixes: Iterable[Fix]) -> tuple[Fix, ...]:
        """Those of the fixes that can be made in the cells."""
        return tuple(fix for fix in fixes if self.to_cell_edits(fix.edits) is not None)

    def applied(self, edits: Iterable[CellEdit]) -> Notebook:
        """The notebook with the edits made; none may overlap."""
        cells = list(self.cells)
        for cell, text in self._edited(edits).items():
            cells[cell] = Cell(cells[cell].number, text)
        return self.with_cells(cells)

    def _edited(self, edits: Iterable[CellEdit]) -> dict[int, str]:
        """The texts of the cells that change, with the edits made."""
        texts: dict[int, str] = {}
        for cell, made in groupby(sorted(edits, key=lambda each: (each.start, each.end)), _cell_of):
            offsets = list(accumulate(map(len, self._parts[cell].written), initial=0))
            text, at, pieces = self.cells[cell].text, 0, []
            for edit in made:
                pieces += [text[at : offsets[edit.start.row] + edit.start.column], edit.text]
                at = offsets[edit.end.row] + edit.end.column
            texts[cell] = "".join([*pieces, text[at:]])
        return texts


def _cell_of(edit: CellEdit) -> int:
    return edit.start.cell


def _awaiting(text: str) -> int | None:
    """The row, 1-based, of an `await` that only a notebook runs."""
    if "await" not in text and "async" not in text:
        return None
    try:
        left: list[ast.AST] = [*parse(text)]
    except UNPARSABLE:
        return None
    while left:
        node = left.pop()
        if isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
            return node.lineno
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            left += ast.iter_child_nodes(node)
    return None


def _starts(parts: Sequence[Part]) -> list[int]:
    """Of each cell its first row, and last the number of all rows."""
    return list(accumulate((len(part.rows) for part in parts), initial=0))


def _blotted(row: str, code: str) -> str:
    bare = row.rstrip("\r\n")
    lead = bare[: len(bare) - len(bare.lstrip(" \t\f"))]
    return (lead + code).ljust(len(bare))[: len(bare)] + row[len(bare) :]
