"""Fixes as an editor offers them: quick fixes, "ignore here", "this is intended", and many at once.

Invariants: all of it runs beside the loop and beside the analysing thread, because libcst takes half a second
to load; what is offered for one version of a text is worked out once. A fix that changes more than the
gradient says so in its title, and is never preferred.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING

from gradsight.configuration import Configuration
from gradsight.finding import Applicability, Edit, Finding, Fix, Severity
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
    applicability: Applicability | None = None  # of a rule's fix; None: it silences


# Files as snapshots: of open documents with their versions, of others as they are on disk.
Others = Mapping[str, Snapshot]
NONE: Others = MappingProxyType({})


class Offers:
    """What can be offered for findings. For threads beside the loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, tuple[Offer, ...]] = OrderedDict()
        self._lock = Lock()  # held while fixes are made: two requests for one finding are one work

    def of(
        self, snapshot: Snapshot, finding: Finding, token: str, others: Others = NONE
    ) -> tuple[Offer, ...]:
        """Everything that can be done about a finding, best first. `others`: the files besides its own that
        it stands in; without them nothing is offered that would change these."""
        at = tuple((file, hash(each.source.text)) for file, each in others.items())
        key = (snapshot.uri, snapshot.edition, token, at, finding.abroad)
        with self._lock:
            if key not in self._kept:
                document = snapshot.notebook or snapshot.source
                self._kept[key] = tuple(_offers(document, finding, Frozen(others)))
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
            return self._kept[key]


class Frozen:
    """Files as they were once, for threads beside the analysing one."""

    state = None

    def __init__(self, files: Others) -> None:
        self._files = files

    def read(self, file: str) -> Source | None:
        """One of them."""
        found = self._files.get(file)
        return found.source if found is not None else None


def _offers(document: Source | Notebook, finding: Finding, files: Frozen) -> Iterator[Offer]:
    from gradsight.engine import Engine
    from gradsight.intentions import reason
    from gradsight.rounds import fixes_of, program_of, with_line_ends
    from gradsight.suppression import CODE, ignore

    engine = Engine(lambda where, error: logger.error("%s failed", where, exc_info=error))
    source, fixes = program_of(document), fixes_of(engine, document, finding, files)
    preferred = next((each for each in fixes if each.applicability is Applicability.SAFE), None)
    for number, fix in enumerate(fixes):
        edits = tuple(
            with_line_ends(source.text, edit) if edit.file == source.file else edit for edit in fix.edits
        )
        yield Offer(
            f"fix{number}", fix.title + _MARKS[fix.applicability], fix is preferred, edits, fix.applicability
        )
    if finding.code in ("GS001", CODE):
        return  # nothing to silence
    for name, why in (("ignore", ""), ("intended", reason(finding))):
        ignoring: Fix | None = ignore(source, finding, why) if why is not None else None
        if ignoring is not None and (isinstance(document, Source) or document.to_fixes([ignoring])):
            yield Offer(name, ignoring.title, False, ignoring.edits)


def best_of(offers: Sequence[Offer]) -> Offer | None:
    """The fix that a person would take first; None where none is complete."""
    complete = (each for each in offers if each.applicability in (Applicability.SAFE, Applicability.UNSAFE))
    return min(complete, key=lambda each: not each.preferred, default=None)


def of_kind(finding: Finding, offers: Sequence[Offer]) -> tuple[str, Applicability] | None:
    """What fixes all findings of this one's kind in its file: the title, and which fixes are made.

    None where this one has no fix that is complete. What only may be a mistake is never mended in bulk.
    """
    best = best_of(offers)
    if best is None or best.applicability is None:
        return None
    if best.applicability is not Applicability.SAFE and finding.severity is Severity.INFORMATION:
        return None
    return f"Fix all {finding.code} in this file{_MARKS[best.applicability]}", best.applicability


def fix_all(
    document: Source | Notebook,
    settings: Configuration,
    code: str | None = None,
    applicability: Applicability = Applicability.SAFE,
    others: Others = NONE,
) -> tuple[Edit, ...] | tuple[CellEdit, ...]:
    """The edits that make the text what `gradsight fix` makes of it; of a notebook those of its cells.

    With a `code` only that rule's, as `gradsight fix --only CODE` does, and with `--unsafe` where the
    applicability says so. `others` are the files that it is read together with.
    """
    from gradsight.engine import Engine
    from gradsight.rounds import fix_text

    engine = Engine(lambda where, error: logger.error("%s failed", where, exc_info=error))
    fixed = fix_text(
        engine,
        document,
        {Applicability.SAFE, applicability},
        settings,
        lambda finding, fix: logger.error("the fix `%s` of %s would break the file", fix.title, finding.code),
        () if code is None else (code,),
        Frozen(others),
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
