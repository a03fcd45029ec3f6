"""The documents room: every open text as the editor has it, and frozen snapshots of it.

Invariants: texts are kept in our own `Source`, whose lines end where editors end them (`str.splitlines` would
break at form feeds and U+2028); a change never fails for a position outside the text, it means the nearest
place; only the loop's thread changes a document, and what other threads get is a `Snapshot`. Few documents
keep their parsed lines: the others are text alone until somebody asks.
"""

from __future__ import annotations

import itertools
from asyncio import Future
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gradsight.finding import Finding
from gradsight.text import Source

from gradsight_server import convert, uris
from gradsight_server.convert import Encoding

if TYPE_CHECKING:
    from gradsight.engine import Findings
    from gradsight.notebook import Notebook

_EDITIONS = itertools.count(1)
MOST_PARSED = 8  # documents whose parsed lines are kept: those that were edited or asked for last


@dataclass(frozen=True, slots=True)
class Part:
    """One document of the editor as a part of what is analysed together, beginning at a row of it."""

    uri: str
    version: int | None
    row: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One version of what is analysed together. A text document has one part, itself."""

    uri: str
    version: int | None
    source: Source
    encoding: Encoding
    parts: tuple[Part, ...]
    edition: int = 0  # no other text has it: versions are the editor's, and stand still, jump and begin anew
    notebook: Notebook | None = None  # whose cells the parts are

    def part_at(self, row: int) -> Part:
        """The part that holds a row of the source."""
        if len(self.parts) == 1:
            return self.parts[0]
        return self.parts[max(0, bisect_right([part.row for part in self.parts], row) - 1)]

    def rows_of(self, part: Part) -> tuple[int, int]:
        """The rows of the source that are a part's: the first, and the first behind it."""
        at = self.parts.index(part)
        last = at + 1 == len(self.parts)
        return part.row, len(self.source.physical) if last else self.parts[at + 1].row

    def part_of(self, uri: str) -> Part | None:
        """The part that the editor knows by this name."""
        return next((part for part in self.parts if part.uri == uri), None)


class Found:
    """What was found in one edition: `findings` as the engine says it, `shown` as the settings want it.

    Both are made when they are asked for, which is seldom: an editor is sent what is left from before.
    """

    def __init__(self, edition: int, findings: Findings, wanted: Callable[[Finding], Finding | None]) -> None:
        self.edition, self.findings, self.wanted = edition, findings, wanted

    @cached_property
    def shown(self) -> tuple[Finding, ...]:
        return tuple(filter(None, map(self.wanted, self.findings.findings)))

    def settle(self) -> None:
        """Keep the findings and nothing that they are made of."""
        self.findings = type(self.findings)(self.findings.findings, self.findings.silences)


class Unit:
    """What is analysed together. The loop's thread changes it; the analysing thread sets `found` alone."""

    def __init__(self, uri: str, encoding: Encoding) -> None:
        self.uri = uri
        self.encoding = encoding
        self.first = self.edition = next(_EDITIONS)  # since it was opened, and now
        self.found: Found | None = None
        self.waiters: list[Future[None]] = []  # of the loop, for the latest edition to be analysed
        self.fragments: dict[Hashable, str] = {}  # see `convert.to_notifications`
        self.styled: object = None  # the settings that they were made by
        self.published = 0.0  # when diagnostics were sent, by `time.monotonic`
        self.sent: dict[str, bytes] = {}  # of each cell of a notebook, what was sent last

    def renew(self) -> None:
        """Its text is another now."""
        self.edition = next(_EDITIONS)

    def snapshot(self) -> Snapshot:
        """What it is now, frozen. The same one until it changes."""
        raise NotImplementedError

    def later(self) -> Callable[[], Snapshot]:
        """What makes the snapshot of now, on any thread and whenever it is called."""
        snapshot = self.snapshot()
        return lambda: snapshot

    def release(self) -> None:
        """Keep the text alone, and what was found; the next use builds the rest again."""
        if self.found is not None:
            self.found.settle()
        self.fragments = {}

    @property
    def current(self) -> Found | None:
        """What was found in the text as it is now; None while that is not known."""
        found = self.found
        return found if found is not None and found.edition == self.edition else None


class Document(Unit):
    """An open text document."""

    def __init__(self, uri: str, version: int | None, text: str, encoding: Encoding) -> None:
        super().__init__(uri, encoding)
        self.version = version
        self._text: str | None = text
        self._source: Source | None = None
        self._snapshot: Snapshot | None = None

    @property
    def source(self) -> Source:
        """Its text as it is now."""
        if self._source is None:
            self._source = Source(uris.to_file(self.uri), self._text or "")
            self._text = None
        return self._source

    @property
    def text(self) -> str:
        """All of its text as the editor has it."""
        return self._text if self._source is None and self._text is not None else whole_text(self.source)

    def snapshot(self) -> Snapshot:
        if self._snapshot is None:
            part = Part(self.uri, self.version)
            self._snapshot = Snapshot(
                self.uri, self.version, self.source, self.encoding, (part,), self.edition
            )
        return self._snapshot

    def later(self) -> Callable[[], Snapshot]:
        if self._source is not None or self._text is None:
            return super().later()
        name, version, text, encoding, edition = (
            self.uri,
            self.version,
            self._text,
            self.encoding,
            self.edition,
        )

        def make() -> Snapshot:  # of a thousand that wait to be analysed only the text is kept
            source = Source(uris.to_file(name), text)
            return Snapshot(name, version, source, encoding, (Part(name, version),), edition)

        return make

    def change(self, version: int | None, changes: list[Mapping[str, Any]]) -> None:
        """Apply what `textDocument/didChange` says; all of it or nothing.

        Raises:
            KeyError, TypeError: a change is malformed.
        """
        source = self.source
        for each in changes:
            source = changed(source, each, self.encoding)
        self._source, self._snapshot = source, None
        self.renew()
        self.version = version if version is not None else self.version

    def release(self) -> None:
        super().release()
        if self._source is not None:
            self._text = whole_text(self._source)
            self._source = self._snapshot = None


def whole_text(source: Source) -> str:
    """The text as the editor has it, with its byte order mark."""
    return "\ufeff" + source.text if source.bom else source.text


def changed(source: Source, change: Mapping[str, Any], encoding: Encoding) -> Source:
    """A text after one change of `didChange`.

    Raises:
        KeyError, TypeError: the change is malformed.
    """
    new = change["text"]
    if not isinstance(new, str):
        raise TypeError(f"a change's text must be a string, not {new!r:.40}")
    where = change.get("range")
    if where is None:
        return Source(source.file, new)
    row0, units0 = _position(where["start"])
    row1, units1 = _position(where["end"])
    mark = convert.mark_units(source, encoding)
    if mark and row0 <= 0 and units0 < mark:  # the byte order mark itself, which no `Source` has in its text
        text = whole_text(source)
        end = source.offset(row1, convert.from_units(source, row1, units1, encoding))
        if (row1, units1) >= (0, mark):
            return Source(source.file, new + text[end + 1 :])
        return Source(source.file, new + text)
    column0 = convert.from_units(source, row0, units0, encoding)
    column1 = convert.from_units(source, row1, units1, encoding)
    edited = source.edited(row0, column0, row1, column1, new)
    if edited.physical and edited.physical[0].startswith("\ufeff"):
        return Source(source.file, whole_text(edited))
    return edited


def _position(where: Mapping[str, Any]) -> tuple[int, int]:
    line, character = where["line"], where["character"]
    if not isinstance(line, int) or not isinstance(character, int):
        raise TypeError(f"no position: {where!r:.60}")
    return line, character


class Documents:
    """All open documents, by the URI that the editor gave."""

    def __init__(self, released: Callable[[Unit], None] = lambda unit: None) -> None:
        """`released` is told of one whose lines are not kept any longer."""
        self._released = released
        self.encoding = Encoding.UTF16
        self._units: dict[str, Unit] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()  # those whose lines are kept, oldest first

    def __iter__(self) -> Iterator[Unit]:
        return iter(list(dict.fromkeys(self._units.values())))

    def get(self, uri: str) -> Unit | None:
        """What the open document of that name belongs to; None where none is open."""
        return self._units.get(uri)

    def open(self, params: Mapping[str, Any]) -> Unit:
        """`textDocument/didOpen`. One that was open already begins anew.

        Raises:
            KeyError, TypeError: malformed.
        """
        item = params["textDocument"]
        uri, text, version = item["uri"], item["text"], item.get("version")
        if not isinstance(uri, str) or not isinstance(text, str):
            raise TypeError("a document needs a name and a text")
        unit = Document(uri, version if isinstance(version, int) else None, text, self.encoding)
        self._units[uri] = unit
        self.touch(unit)
        return unit

    def change(self, params: Mapping[str, Any]) -> Unit | None:
        """`textDocument/didChange`. None where no such document is open.

        Raises:
            KeyError, TypeError: malformed; the document is as it was.
        """
        item, changes = params["textDocument"], params["contentChanges"]
        unit = self._units.get(item["uri"])
        if not isinstance(unit, Document):
            return None
        if not isinstance(changes, list):
            raise TypeError("the changes must be a list")
        version = item.get("version")
        unit.change(version if isinstance(version, int) else None, changes)
        self.touch(unit)
        return unit

    def close(self, uri: str) -> Unit | None:
        """`textDocument/didClose`. None where no such document is open."""
        self._recent.pop(uri, None)
        return self._units.pop(uri, None)

    def put(self, unit: Unit, uris: Iterable[str]) -> None:
        """These names are one unit's, and no others are: a notebook's own, and its cells'."""
        wanted = set(uris)
        for uri in [uri for uri, each in self._units.items() if each is unit and uri not in wanted]:
            del self._units[uri]
        self._units.update(dict.fromkeys(wanted, unit))
        if not wanted:
            self._recent.pop(unit.uri, None)

    def touch(self, unit: Unit) -> None:
        """Keep this one's lines, and let go those of the one that was not used for longest."""
        self._recent[unit.uri] = None
        self._recent.move_to_end(unit.uri)
        while len(self._recent) > MOST_PARSED:
            oldest, _ = self._recent.popitem(last=False)
            if (other := self._units.get(oldest)) is not None:
                other.release()
                self._released(other)

    def is_recent(self, uri: str) -> bool:
        """Whether its lines are kept."""
        return uri in self._recent
