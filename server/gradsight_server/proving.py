"""Fix and probe: what a fix does to the gradients, seen by running the program without it and with it.

Invariants: both runs are of one version of the text, in the probe's process and nowhere else; the edit is
made after them, for that version alone, and not at all if the program raises with it and did not without.
Whatever fails on the way, the document is as it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradsight.finding import Edit, apply
from gradsight.text import Source, Span
from lsprotocol import types as lsp

from gradsight_server import convert, messages
from gradsight_server.documents import Snapshot, Unit
from gradsight_server.probed import Probed, Progress
from gradsight_server.protocol import Outdated, Refused
from gradsight_server.settings import Settings

if TYPE_CHECKING:
    from gradsight.finding import Finding

    from gradsight_server.actions import Offer

CHANGED = "The document has changed meanwhile. Nothing was changed; fix it again."


@dataclass(frozen=True, slots=True)
class Wanted:
    """A fix of one version of a document, and how to run its program."""

    unit: Unit
    snapshot: Snapshot
    finding: Finding
    offer: Offer
    python: str | None


async def fix_and_probe(
    wanted: Wanted,
    probed: Probed,
    settings: Settings,
    folders: list[str],
    progress: Progress,
    make: Callable[[lsp.WorkspaceEdit], Awaitable[lsp.ApplyWorkspaceEditResult]],
) -> messages.FixProbed:
    """Probe, probe with the fix, then `make` the edit and show what the second probe saw.

    Raises:
        Refused: it cannot be run, or the editor does not make the edit; Outdated: the document is another
        now; JsonRpcRequestCancelled: the user stopped it. Nothing was changed then.
    """
    from gradsight_server.comparison import compare

    before = wanted.snapshot
    after = with_edits(before, wanted.offer.edits)
    if after is None:
        raise Refused("the fix reaches beyond this document, so that it cannot be probed from here")
    at = wanted.finding.where.start
    moved = at + sum(
        len(each.text) - (each.where.end - each.where.start)
        for each in wanted.offer.edits
        if each.where.end <= at and each.where.start < at
    )
    try:
        first = await probed.watch(before, _run_at(before, at, wanted.python), settings, folders, progress)
        second = await probed.watch(after, _run_at(after, moved, wanted.python), settings, folders, progress)
    finally:
        progress.end()
    said = compare(first, second)
    changes = [
        tuple(messages.GradientChange(each.name, each.before, each.after) for each in some)
        for some in (said.restored, said.lost)
    ]
    summary = said.summary if after.notebook is None else after.notebook.in_words(said.summary)
    uri = convert.to_uri(before, wanted.finding.where)
    if said.is_worse:
        return messages.FixProbed(uri, False, f"The fix was not made: {summary}", *changes)
    if wanted.unit.edition != before.edition:
        raise Outdated(CHANGED)
    made = await make(convert.to_workspace_edit(before, wanted.offer.edits, versioned=True))
    if not made.applied:
        raise Refused(
            f"the editor did not make the edit{f': {made.failure_reason}' if made.failure_reason else ''}"
        )
    await probed.put(wanted.unit, after, second)
    return messages.FixProbed(uri, True, summary, *changes)


def with_edits(snapshot: Snapshot, edits: Iterable[Edit]) -> Snapshot | None:
    """The snapshot as it is after the edits, which no editor has seen; None if they reach beyond it."""
    edits = tuple(edits)
    source, notebook = snapshot.source, snapshot.notebook
    if notebook is None:
        if any(edit.file != source.file for edit in edits):
            return None
        return replace(snapshot, source=Source(source.file, apply(source.text, edits)))
    in_cells = notebook.to_cell_edits(edits)
    if in_cells is None:
        return None
    after = notebook.applied(in_cells)
    parts = tuple(replace(part, row=after.rows(number)[0]) for number, part in enumerate(snapshot.parts))
    return replace(snapshot, source=after.source, notebook=after, parts=parts)


def _run_at(snapshot: Snapshot, offset: int, python: str | None) -> messages.RunProbe:
    """What a lens over that place would run."""
    at = Span(offset, offset)
    return messages.RunProbe(convert.to_uri(snapshot, at), convert.to_range(snapshot, at), None, python)
