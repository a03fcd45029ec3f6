"""How findings are printed. Rows and columns are 1-based and count code points."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradsight.text import Source, Span

from gradsight_cli.checking import Checked, to_document
from gradsight_cli.reading import OtherLanguage, Unreadable, read

if TYPE_CHECKING:
    from gradsight.notebook import Notebook


class Place(NamedTuple):
    """A span in rows and columns, 1-based, code points; the end is behind the last character.

    In a notebook `cell` is the cell's number over all cells, and rows count within it.
    """

    row: int
    column: int
    end_row: int
    end_column: int
    cell: int | None = None


class Texts:
    """The text of each file that a result speaks of: paths and edits can lead into other files."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Source | Notebook, str]] = {}

    def add(self, checked: Checked) -> None:
        """Keep the text of a checked file, in place of the one before it."""
        self._known = {checked.file: (to_document(checked.file, checked.text), checked.text)}

    def _document(self, file: str) -> tuple[Source | Notebook, str]:
        """A file and its text, read now if it has not been; empty if it is gone."""
        if file not in self._known:
            try:
                text = read(file).text
                self._known[file] = to_document(file, text), text
            except (Unreadable, OtherLanguage):
                self._known[file] = Source(file, ""), ""
        return self._known[file]

    def shown(self, file: str, where: Span) -> tuple[Source, Span]:
        """The text that people see at a span, and the span in it: the file, or a notebook's cell."""
        document, _ = self._document(file)
        if isinstance(document, Source):
            return document, where
        if not document.cells:
            return document.source, where
        start, end = document.places(where)
        source = Source(file, document.cells[start.cell].text)
        if end.cell != start.cell:
            return source, Span(source.offset(start.row, start.column), len(source.text))
        return source, Span(source.offset(start.row, start.column), source.offset(end.row, end.column))

    def place(self, file: str, where: Span) -> Place:
        """Rows and columns of a span."""
        document, _ = self._document(file)
        source, shown = self.shown(file, where)
        row, column = source.row_column(shown.start)
        end_row, end_column = source.row_column(shown.end)
        cell = None
        if not isinstance(document, Source) and document.cells:
            cell = document.cells[document.place(where.start).cell].number
        return Place(row + 1, column + 1, end_row + 1, end_column + 1, cell)

    def file_rows(self, file: str, place: Place) -> tuple[int, int]:
        """The rows of the file itself, 1-based: of a notebook those of its JSON."""
        if place.cell is None:
            return place.row, place.end_row
        from gradsight_cli.ipynb import to_file_rows

        rows = to_file_rows(self._document(file)[1], place.cell) or (1,)
        return rows[min(place.row, len(rows)) - 1], rows[min(place.end_row, len(rows)) - 1]

    def head(self, file: str, where: Span) -> str:
        """`FILE:ROW:COL`, or `FILE:cell N:ROW:COL`, with which the formats for people begin."""
        place = self.place(file, where)
        cell = "" if place.cell is None else f"cell {place.cell}:"
        return f"{file}:{cell}{place.row}:{place.column}"
