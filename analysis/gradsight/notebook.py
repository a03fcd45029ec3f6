"""A notebook as one program: its code cells in order, joined into one `Source`, and every place back.

Rows stay rows and columns stay columns. What IPython reads before Python does (`%magic`, `!shell`, `help?`,
`%%bash` cells) is hidden: something stands there that parses and binds the same names to unknown values, and
no edit reaches it. A cell is a part of the source, so that nothing unclosed leaves it. Nothing here knows of
files, of JSON or of editors.

IPython's own grammar of magics: https://ipython.readthedocs.io/en/stable/interactive/reference.html
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from gradsight.finding import Edit, Fix
from gradsight.lines import next_line
from gradsight.syntax import UNPARSABLE, masked, parse, physical_lines
from gradsight.text import Source, Span


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
        self._parts = tuple(_part(cell.text) for cell in self.cells)
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
        after = tuple(_part(cell.text) for cell in new[first : len(new) - same])
        result._parts = (*self._parts[:first], *after, *self._parts[len(old) - same :])
        result._starts = _starts(result._parts)
        row0, row1 = self._starts[first], self._starts[len(old) - same]
        rows = [row for part in after for row in part.rows]
        if len(before) == len(after) == 1:
            changed, kept = _difference(before[0].rows, rows)
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
        """The edits in the cells, in order; None if one touches what is hidden, or more than one cell."""
        out: list[CellEdit] = []
        for edit in sorted(edits, key=lambda each: (each.where.start, each.where.end)):
            if edit.file != self.source.file:
                return None
            made = self._to_cell_edit(edit)
            if made is None:
                return None
            out.append(made)
        return tuple(out)

    def _to_cell_edit(self, edit: Edit) -> CellEdit | None:
        start, end = self.places(edit.where)
        if start.cell != end.cell:
            return None
        part, base = self._parts[start.cell], self._starts[start.cell]
        inserts = edit.where.start == edit.where.end
        if inserts and start.row < part.head:
            # Nothing may stand before a cell magic.
            if not edit.text.endswith("\n") or part.head >= len(part.rows):
                return None
            start = end = CellPlace(start.cell, part.head, part.shift(part.head))
        else:
            for row in range(start.row, end.row + 1):
                hidden = part.hidden.get(row)
                if hidden is None:
                    continue
                first = self.source.offset(base + row, hidden[0])
                last = self.source.offset(base + row, (1 << 30) if hidden[1] is None else hidden[1])
                if inserts:
                    if first < edit.where.start < last or (
                        edit.where.start == first == last or (hidden[1] is None and edit.where.start == last)
                    ):
                        return None
                elif (
                    edit.where.start <= last
                    and edit.where.end > first
                    and not (hidden[1] is not None and edit.where.start == last)
                ):
                    return None
        text = edit.text
        if part.indent:
            text = re.sub(r"(\r\n|\r|\n)", lambda found: found[0] + part.indent.lstrip("\ufeff"), text)
        return CellEdit(start, end, text)

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
                rows[start + row] = code[:column] + code[column:].replace(_UNKNOWN, "object()")
        for other in range(len(self.cells)) if cell is not None else ():
            first, stop = self.rows(other)
            if other != cell and not _parses("".join(rows[first:stop])):
                rows[first:stop] = ["\n"] * (stop - first)
        return "".join(rows)

    def to_fixes(self, fixes: Iterable[Fix]) -> tuple[Fix, ...]:
        """Those of the fixes that can be made in the cells."""
        return tuple(fix for fix in fixes if self.to_cell_edits(fix.edits) is not None)

    def applied(self, edits: Iterable[CellEdit]) -> Notebook:
        """The notebook with the edits made; none may overlap."""
        texts: dict[int, list[CellEdit]] = {}
        for edit in edits:
            texts.setdefault(edit.start.cell, []).append(edit)
        cells = list(self.cells)
        for cell, made in texts.items():
            written = self._parts[cell].written
            offsets = list(accumulate(map(len, written), initial=0))
            text = cells[cell].text
            for edit in sorted(made, key=lambda each: (each.start, each.end), reverse=True):
                start = offsets[edit.start.row] + edit.start.column
                end = offsets[edit.end.row] + edit.end.column
                text = text[:start] + edit.text + text[end:]
            cells[cell] = Cell(cells[cell].number, text)
        return self.with_cells(cells)


def _parses(text: str) -> bool:
    try:
        parse(text)
    except UNPARSABLE:
        return False
    return True


def _starts(parts: Sequence[_Part]) -> list[int]:
    """Of each cell its first row, and last the number of all rows."""
    return list(accumulate((len(part.rows) for part in parts), initial=0))


def _difference(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many rows both begin with, and how many of the others both end with."""
    shorter = min(len(old), len(new))
    first = 0
    while first < shorter and old[first] == new[first]:
        first += 1
    same = 0
    while same < shorter - first and old[-1 - same] == new[-1 - same]:
        same += 1
    return first, same


def _blotted(row: str, code: str) -> str:
    bare = row.rstrip("\r\n")
    lead = bare[: len(bare) - len(bare.lstrip(" \t\f"))]
    return (lead + code).ljust(len(bare))[: len(bare)] + row[len(bare) :]


# -- one cell ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """A cell as a part of the program."""

    written: Sequence[str]  # its rows; all end with a line end
    rows: Sequence[str]  # the same as Python
    # Of a row that is not all Python, the columns of what is hidden; None: to its end, which is elsewhere.
    hidden: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    indent: str = ""  # white space before every row, which IPython takes away
    head: int = 0  # before this row nothing may be inserted

    def shift(self, row: int) -> int:
        """How many columns of white space were taken away."""
        if not self.indent or row >= len(self.written):
            return 0
        return len(self.indent) if self.written[row].startswith(self.indent) else 0


# Names whose bodies IPython runs as Python, in the notebook's own names.
_PYTHON = frozenset(
    ("capture", "debug", "ipytest", "memit", "prun", "pyinstrument", "scalene", "snakeviz", "time", "wandb")
)
# What people type without its `%`.
_COMMAND = r"(?:pip|conda|mamba|uv|cd|ls|ll|cat|mkdir|rmdir|rm|cp|mv|pwd)\b"
_AUTOMAGIC = re.compile(rf"{_COMMAND}(?:[ \t]+[^\s=(\[,:].*)?")
_INDENTED = re.compile(r"\s*?[ \t\ufeff]+\S")
_SUSPECT = re.compile(
    rf"(?:\A|(?<=[\r\n]))[ \t\f]*(?:[%!?,;/]|{_COMMAND})|\?[ \t]*(?:\Z|(?=[\r\n]))|=[ \t]*[%!](?!=)"
)
_UNKNOWN = "get_ipython()"
_ROW_IN_WORDS = re.compile(r"\b(?P<what>row|line) (?P<row>\d+)\b")
_CELL_MAGIC = re.compile(r"%%(?P<name>\w[\w.]*)(?P<rest>[^\r\n]*)")
_LINE_MAGIC = re.compile(
    r"%%?(?P<name>[A-Za-z_][\w.]*)(?P<rest>.*)|!.*|\?\??[ \t]*[\w%*].*|[,;/][ \t]*[A-Za-z_].*",
    re.DOTALL,
)
_HELP = re.compile(r"%{0,2}(?!\d)[\w*]+(?:\.(?!\d)[\w*]+|\[-?\d+\])*\?{1,2}[ \t]*\Z")
_ASSIGNED = re.compile(r"(?<![=<>!:+\-*/%&|^@])=[ \t]*(?P<magic>!.+|%[ \t]*\w.*)", re.DOTALL)
_TIME = re.compile(r"%time(?=[ \t]+[^\s\-])")
_STORED = re.compile(r"-r\b(?P<names>[^\r\n]*)")
_TOLD = re.compile(r"--(?:out|err|proc)[= \t]+(?P<name>[^\W\d]\w*)")
_QUERIED = re.compile(r"(?P<name>[^\W\d]\w*)[ \t]*<<")
_RUN = re.compile(r"(?:^|[\s;])(?P<name>[^\W\d]\w*)[ \t]*=(?!=)")


def _part(text: str) -> _Part:
    # With a line end each cell has as many rows as in an editor, and none is joined with the next cell's.
    written = physical_lines(text + ("\r\n" if text.endswith("\r") else "\n"))
    if not _INDENTED.match(text) and not _SUSPECT.search(text):
        return _Part(written, written)
    first = next((row for row, each in enumerate(written) if each.strip()), len(written))
    lead = written[first] if first < len(written) else ""
    indent = lead[: len(lead) - len(lead.lstrip(" \t\ufeff"))]
    rows = [each[len(indent) :] if indent and each.startswith(indent) else each for each in written]
    hidden: dict[int, tuple[int, int | None]] = {}
    head = _hide_cell_magics(rows, first, hidden)
    if head is None:
        return _Part(written, rows, hidden, indent, len(rows))
    _hide_line_magics(rows, head, hidden)
    return _Part(written, rows, hidden, indent, head if head > first else 0)


def _hide_cell_magics(rows: list[str], row: int, hidden: dict[int, tuple[int, int | None]]) -> int | None:
    """The first row of the Python that a cell holds; None if it holds none."""
    while (
        row < len(rows) and (found := _CELL_MAGIC.match(rows[row])) and not rows[row].rstrip().endswith("?")
    ):
        name, rest = found["name"], found["rest"]
        names = [each["name"] for each in _TOLD.finditer(rest)] + [
            each["name"] for each in _QUERIED.finditer(rest)
        ]
        if name == "capture":
            names += [word for word in rest.split()[:1] if word.isidentifier()]
        _hide(rows, row, 0, _binding(names), hidden)
        row += 1
        if name not in _PYTHON:
            for other in range(row, len(rows)):
                _hide(rows, other, 0, "", hidden)
            return None
        while row < len(rows) and not rows[row].strip():
            row += 1
    return row


def _hide_line_magics(rows: list[str], row: int, hidden: dict[int, tuple[int, int | None]]) -> None:
    while row < len(rows):
        bare = rows[row].rstrip("\r\n")
        code = bare.lstrip(" \t\f")
        lead = len(bare) - len(code)
        if code and (count := _hide_timed(rows, row, lead, hidden)):
            row += count
            continue
        at, instead = _hidden_from(code)
        if at >= 0:
            stop = row + 1
            while stop < len(rows) and rows[stop - 1].rstrip("\r\n").endswith("\\"):
                stop += 1
            _hide(rows, row, lead + at, instead, hidden)
            for other in range(row + 1, stop):
                _hide(rows, other, 0, "", hidden)
            row = stop
            continue
        unit, _ = next_line(rows, row)
        if unit.error is not None and unit.count == 1 and _AUTOMAGIC.fullmatch(code):
            _hide(rows, row, lead, "pass", hidden)
        row += unit.count


def _hide_timed(rows: list[str], row: int, lead: int, hidden: dict[int, tuple[int, int | None]]) -> int:
    """Hides the `%time` before a statement that it runs; how many rows that has, or 0."""
    whole = rows[row]
    found = _TIME.match(whole, lead)
    instead = "pass;"
    if found is None and (assigned := _ASSIGNED.search(masked(whole))):
        found = _TIME.match(whole, assigned.start("magic"))
        instead = "     "
    if found is None:
        return 0
    rows[row] = whole[: found.start()] + instead + whole[found.end() :]
    unit, _ = next_line(rows, row)
    if unit.error is not None:
        rows[row] = whole
        return 0
    hidden[row] = (found.start(), found.end())
    return unit.count


def _hidden_from(code: str) -> tuple[int, str]:
    """The column from which a row is no Python, and what stands for it; -1 if it may be Python."""
    found = _LINE_MAGIC.match(code)
    if found is not None:
        name, rest = found["name"] or "", found["rest"] or ""
        names: list[str] = []
        if name == "store" and (stored := _STORED.search(rest)):
            names = [word for word in stored["names"].split() if word.isidentifier()]
        elif name == "capture":
            names = [word for word in rest.split()[:1] if word.isidentifier()]
        elif name in _PYTHON:
            names = [each["name"] for each in _RUN.finditer(masked(rest))]
        elif name:
            names = [each["name"] for each in _QUERIED.finditer(rest)]
        return 0, _binding(names)
    if "?" in code and _HELP.search(masked(code)):
        return 0, "pass"
    if "=" in code and (assigned := _ASSIGNED.search(masked(code))):
        return assigned.start("magic"), _UNKNOWN
    return -1, ""


def _binding(names: Iterable[str]) -> str:
    """A statement that binds the names to something unknown."""
    return "".join(f"{name} = " for name in dict.fromkeys(names)) + _UNKNOWN if names else "pass"


def _hide(
    rows: list[str], row: int, column: int, instead: str, hidden: dict[int, tuple[int, int | None]]
) -> None:
    bare = rows[row].rstrip("\r\n")
    end = rows[row][len(bare) :]
    if end == "\r":  # would join an empty row below
        end = "\n"
    hidden[row] = (column, None)
    rows[row] = bare[:column] + instead + end
