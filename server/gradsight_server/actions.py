"""Fixes as an editor offers them: quick fixes, "ignore here", and all safe ones at once.

Invariants: all of it runs beside the loop and beside the analysing thread, because libcst takes half a second
to load; what is offered for one version of a text is worked out once. A fix that changes more than the
gradient says so in its title, and is never preferred.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from gradsight.configuration import Configuration
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.text import Source, Span

from gradsight_server.documents import Snapshot

if TYPE_CHECKING:
    from gradsight.notebook import CellEdit, Notebook

logger = logging.getLogger(__name__)

FIX_ALL = "source.fixAll.gradsight"
FIX_ALL_TITLE = "Fix all that Gradsight can fix safely"
MOST_KEPT = 64  # findings whose fixes are kept

_MARKS = {Applicability.SAFE: "", Applicability.UNSAFE: " (unsafe)", Applicability.DISPLAY: " (to complete)"}


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that an editor can do about a finding. Its `name` finds it again."""

    name: str
    title: str
    preferred: bool
    edits: tuple[Edit, ...]


class Offers:
    """What can be offered for findings. For threads beside the loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int, str], tuple[Offer, ...]] = OrderedDict()
        self._lock = Lock()  # held while fixes are made: two requests for one finding are one work

    def of(self, snapshot: Snapshot, finding: Finding, token: str) -> tuple[Offer, ...]:
        """Everything that can be done about a finding, best first."""
        key = (snapshot.uri, snapshot.edition, token)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = tuple(_offers(snapshot.notebook or snapshot.source, finding))
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
            return self._kept[key]


def _offers(document: Source | Notebook, finding: Finding) -> Iterator[Offer]:
    from gradsight.engine import Engine
    from gradsight.rounds import fixes_of, program_of, with_line_ends
    from gradsight.suppression import CODE, ignore

    engine = Engine(lambda where, error: logger.error("%s failed", where, exc_info=error))
    source, fixes = program_of(document), fixes_of(engine, document, finding)
    preferred = next((each for each in fixes if each.applicability is Applicability.SAFE), None)
    for number, fix in enumerate(fixes):
        edits = tuple(with_line_ends(source.text, edit) for edit in fix.edits)
        yield Offer(f"fix{number}", fix.title + _MARKS[fix.applicability], fix is preferred, edits)
    if finding.code in ("GS001", CODE):
        return  # nothing to silence
    ignoring: Fix | None = ignore(source, finding)
    if ignoring is not None and (isinstance(document, Source) or document.to_fixes([ignoring])):
        yield Offer("ignore", f"Ignore {finding.code} here", False, ignoring.edits)


def fix_all(document: Source | Notebook, settings: Configuration) -> tuple[Edit, ...] | tuple[CellEdit, ...]:
    """The edits that make the text what `gradsight fix` makes of it; of a notebook those of its cells."""
    from gradsight.engine import Engine
    from gradsight.rounds import fix_text

    engine = Engine(lambda where, error: logger.error("%s failed", where, exc_info=error))
    fixed = fix_text(
        engine,
        document,
        (Applicability.SAFE,),
        settings,
        lambda finding, fix: logger.error("the fix `%s` of %s would break the file", fix.title, finding.code),
    )
    if isinstance(document, Source):
        return difference(document, Source(document.file, fixed.text))
    assert not isinstance(fixed.document, Source)
    return tuple(
        edit
        for number, (old, new) in enumerate(zip(document.cells, fixed.document.cells, strict=True))
        for edit in cell_difference(number, Source("", old.text), Source("", new.text))
    )


def cell_difference(cell: int, before: Source, after: Source) -> Iterator[CellEdit]:
    """Edits by whole lines that make one text of a cell the other."""
    from gradsight.notebook import CellEdit, CellPlace

    for edit in difference(before, after):
        start, end = (CellPlace(cell, *before.row_column(at)) for at in (edit.where.start, edit.where.end))
        yield CellEdit(start, end, edit.text)


def difference(before: Source, after: Source) -> tuple[Edit, ...]:
    """Edits by whole lines that make one text of the other."""
    import difflib

    old, new = before.physical, after.physical
    offsets = before.line_offsets()
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return tuple(
        Edit(before.file, Span(offsets[start], offsets[end]), "".join(new[first:last]))
        for kind, start, end, first, last in matcher.get_opcodes()
        if kind != "equal"
    )


def is_wanted(kind: str, only: Sequence[str] | None) -> bool:
    """Whether an editor that asks for these kinds, and those below them, wants this one."""
    return not only or any(kind == each or kind.startswith(f"{each}.") or not each for each in only)
