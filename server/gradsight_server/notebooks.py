"""Open notebooks: their cells as the editor has them, analysed together as one program.

Invariants: a cell's text lives here and nowhere else; a change is applied whole or not at all; cells that the
editor syncs are Python's (it was asked for those alone, and others that it sends all the same are left out).
What a cell showed when it was run is of no interest: running one changes no text and costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradsight.text import Source

from gradsight_server import uris
from gradsight_server.convert import Encoding
from gradsight_server.documents import Part, Snapshot, Unit, changed

if TYPE_CHECKING:
    from gradsight.notebook import Notebook


@dataclass(frozen=True, slots=True)
class _Open:
    """The text of a cell."""

    version: int | None
    source: Source
    is_python: bool


class NotebookUnit(Unit):
    """An open notebook."""

    def __init__(self, params: Mapping[str, Any], encoding: Encoding) -> None:
        """From `notebookDocument/didOpen`.

        Raises:
            KeyError, TypeError: malformed.
        """
        document = params["notebookDocument"]
        if not isinstance(document["uri"], str):
            raise TypeError("a notebook needs a name")
        super().__init__(document["uri"], encoding)
        self.version = _version(document)
        self._open = _opened(params.get("cellTextDocuments") or ())
        self._order = _order(document["cells"])
        self._notebook: Notebook | None = None
        self._snapshot: Snapshot | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The names of its code cells in Python, in their order."""
        return tuple(uri for uri in self._order if (cell := self._open.get(uri)) and cell.is_python)

    def snapshot(self) -> Snapshot:
        if self._snapshot is None:
            from gradsight.notebook import (
                Cell,
                Notebook,
            )  # most sessions open none, and all would wait for it

            names = self.cells
            cells = [Cell(number, self._open[uri].source.text) for number, uri in enumerate(names, 1)]
            if self._notebook is None:
                self._notebook = Notebook(uris.to_file(self.uri), cells)
            else:
                self._notebook = self._notebook.with_cells(cells)
            parts = tuple(
                Part(uri, self._open[uri].version, self._notebook.rows(number)[0])
                for number, uri in enumerate(names)
            )
            self._snapshot = Snapshot(
                self.uri,
                self.version,
                self._notebook.source,
                self.encoding,
                parts or (Part(self.uri, self.version),),
                self.edition,
                self._notebook,
            )
        return self._snapshot

    def release(self) -> None:
        super().release()
        self._notebook = self._snapshot = None

    def change(self, params: Mapping[str, Any]) -> bool:
        """Apply `notebookDocument/didChange`, all of it or nothing. Whether the program may be another.

        Raises:
            KeyError, TypeError, IndexError: malformed.
        """
        version = _version(params["notebookDocument"])
        change = params["change"].get("cells") or {}
        opened, order = dict(self._open), list(self._order)
        if (structure := change.get("structure")) is not None:
            array = structure["array"]
            start, count = array["start"], array["deleteCount"]
            if not isinstance(start, int) or not isinstance(count, int) or start < 0 or count < 0:
                raise TypeError("cells are counted in whole numbers")
            opened |= _opened(structure.get("didOpen") or ())
            order[start : start + count] = _order(array.get("cells") or ())
            for each in structure.get("didClose") or ():
                opened.pop(each["uri"], None)
        for each in change.get("textContent") or ():
            document = each["document"]
            cell = opened.get(document["uri"])
            if cell is None:
                continue
            source = cell.source
            for edit in each["changes"]:
                source = changed(source, edit, self.encoding)
            opened[document["uri"]] = replace(cell, version=_version(document), source=source)
        same = order == self._order and opened == self._open
        self._open, self._order = opened, order
        self.version = version if version is not None else self.version
        if not same:
            self._snapshot = None
            self.renew()
        return not same


def _version(document: Mapping[str, Any]) -> int | None:
    version = document.get("version")
    return version if isinstance(version, int) else None


def _order(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    return [each["document"] for each in cells]


def _opened(items: Iterable[Mapping[str, Any]]) -> dict[str, _Open]:
    opened = {}
    for item in items:
        uri, text = item["uri"], item["text"]
        if not isinstance(uri, str) or not isinstance(text, str):
            raise TypeError("a cell needs a name and a text")
        is_python = item.get("languageId", "python") == "python"
        opened[uri] = _Open(_version(item), Source(uri, text), is_python)
    return opened
