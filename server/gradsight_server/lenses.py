"""What stands between and beside the lines: code lenses, and a probe's rows for editors that cannot draw.

Pure: a snapshot and a view in, the protocol's own types out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradsight.text import Span
from lsprotocol import types as lsp

from gradsight_server import convert, messages
from gradsight_server.documents import Snapshot

if TYPE_CHECKING:
    from gradsight.probing import Checkable, Probeable

TITLE = "Run probe"
CHECK_TITLE = "Check gradient numerically"
STALE = "(stale) "


def to_lenses(snapshot: Snapshot, uri: str) -> list[lsp.CodeLens]:
    """A lens over everything in a document that can be probed, and over each autograd.Function."""
    from gradsight.probing import checkable, probeable

    return [
        *(
            _lens(snapshot, uri, each)
            for each in probeable(snapshot.source)
            if convert.to_uri(snapshot, each.where) == uri
        ),
        *(
            _check_lens(snapshot, uri, each)
            for each in checkable(snapshot.source)
            if convert.to_uri(snapshot, each.where) == uri
        ),
    ]


def _lens(snapshot: Snapshot, uri: str, what: Probeable) -> lsp.CodeLens:
    where = convert.to_lsp_range(convert.to_range(snapshot, what.where))
    # The file runs whole: what is cut in one function matters to another.
    rows = convert.to_row_range(snapshot, uri, *what.rows) if snapshot.notebook is not None else None
    run = messages.RunProbe(uri, rows, what.call)
    return lsp.CodeLens(where, lsp.Command(TITLE, messages.RUN_PROBE, arguments=[messages.to_json(run)]))


def _check_lens(snapshot: Snapshot, uri: str, what: Checkable) -> lsp.CodeLens:
    where = convert.to_lsp_range(convert.to_range(snapshot, what.where))
    run = messages.RunProbe(uri, call=what.call, check=what.name)
    return lsp.CodeLens(
        where, lsp.Command(CHECK_TITLE, messages.RUN_PROBE, arguments=[messages.to_json(run)])
    )


def to_hints(view: messages.ProbeView, first: int, last: int) -> list[lsp.InlayHint]:
    """A probe's rows as hints, between two rows of the editor."""
    return [
        lsp.InlayHint(
            position=convert.to_lsp_range(row.range).end,
            label=(STALE if view.stale else "") + row.label,
            padding_left=True,
            tooltip=lsp.MarkupContent(lsp.MarkupKind.Markdown, row.tooltip),
        )
        for row in view.rows
        if first <= row.range.end.line <= last
    ]


def rows_of(snapshot: Snapshot, where: Span) -> tuple[int, int]:
    """The rows of a selection, 1-based; a last row of which nothing is selected does not count."""
    first, _ = snapshot.source.row_column(where.start)
    last, column = snapshot.source.row_column(where.end)
    if last > first and column == 0:
        last -= 1
    return first + 1, last + 1
