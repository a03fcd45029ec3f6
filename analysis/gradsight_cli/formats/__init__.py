"""How findings are printed. Rows and columns are 1-based and count code points."""

from __future__ import annotations

from typing import NamedTuple

from gradsight.finding import Finding
from gradsight.text import Source, Span

from gradsight_cli.checking import Checked
from gradsight_cli.reading import Unreadable, read


class Place(NamedTuple):
    """A span in rows and columns, 1-based, code points; the end is behind the last character."""

    row: int
    column: int
    end_row: int
    end_column: int


class Texts:
    """The text of each file that a result speaks of: paths and edits can lead into other files."""

    def __init__(self) -> None:
        self._known: dict[str, Source] = {}

    def add(self, checked: Checked) -> None:
        """Keep the text of a checked file, in place of the one before it."""
        self._known = {checked.file: Source(checked.file, checked.text)}

    def source(self, file: str) -> Source:
        """The text of a file, read now if it has not been; empty if it is gone."""
        if file not in self._known:
            try:
                self._known[file] = Source(file, read(file).text)
            except Unreadable:
                self._known[file] = Source(file, "")
        return self._known[file]

    def place(self, file: str, where: Span) -> Place:
        """Rows and columns of a span."""
        source = self.source(file)
        row, column = source.row_column(where.start)
        end_row, end_column = source.row_column(where.end)
        return Place(row + 1, column + 1, end_row + 1, end_column + 1)


def head(finding: Finding, place: Place) -> str:
    """`FILE:ROW:COL CODE`, with which the formats for people begin."""
    return f"{finding.file}:{place.row}:{place.column} {finding.code}"
