"""The rim between spans and the protocol: the only module that builds ranges for an editor.

Inside, a place is an offset in code points; an editor counts rows, and within a row UTF-16 units, UTF-8 bytes
or code points, as was agreed. A byte order mark is in no span and counts for the editor. Diagnostics are made
as JSON text, because most of them are the same after an edit as before it.
"""

from __future__ import annotations

import enum
import itertools
import json
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from gradsight.finding import Edit, Finding, Severity, Step
from gradsight.text import Source, Span
from lsprotocol import types as lsp

from gradsight_server import messages, uris

if TYPE_CHECKING:
    from gradsight.engine import Findings
    from gradsight.notebook import CellEdit, CellPlace, Notebook

    from gradsight_server.documents import Part, Snapshot

MARK = "\ufeff"
SEVERITIES = {Severity.ERROR: 1, Severity.WARNING: 2, Severity.INFORMATION: 3, Severity.HINT: 4}
FEW = 8  # new diagnostics, up to which each is found by itself: a line that is typed is one of a hundred
UNNECESSARY = frozenset({"GS003"})  # what an editor may show faded


class Encoding(enum.Enum):
    """What the editor counts within a row."""

    UTF8 = "utf-8"
    UTF16 = "utf-16"
    UTF32 = "utf-32"


# -- rows and units


def mark_units(source: Source, encoding: Encoding) -> int:
    """How many units the byte order mark takes at the beginning of the first row."""
    return 0 if not source.bom else 3 if encoding is Encoding.UTF8 else 1


def to_units(source: Source, row: int, column: int, encoding: Encoding) -> int:
    """The editor's column of one of ours."""
    before = mark_units(source, encoding) if row == 0 else 0
    if encoding is Encoding.UTF16:
        return before + source.utf16_column(row, column)
    if encoding is Encoding.UTF8:
        return before + source.utf8_column(row, column)
    return before + max(0, min(column, len(source.line_text(row))))


def from_units(source: Source, row: int, units: int, encoding: Encoding) -> int:
    """Our column of one of the editor's; behind the line's end it means the end."""
    if row == 0:
        units = max(0, units - mark_units(source, encoding))
    if encoding is Encoding.UTF16:
        return source.from_utf16(row, units)
    if encoding is Encoding.UTF8:
        return source.from_utf8(row, units)
    return max(0, min(units, len(source.line_text(row))))


# -- places


def to_range(snapshot: Snapshot, span: Span) -> messages.Range:
    """Where a span stands, in the rows of the document that holds its beginning (see `to_uri`)."""
    start, end = (_place(snapshot, offset) for offset in (span.start, span.end))
    first, stop = snapshot.rows_of(snapshot.part_at(start[0]))
    if snapshot.notebook is not None and end[0] >= stop:  # a cell has no row behind its last one
        end = _row_end(snapshot, stop - 1)
    return messages.Range(
        messages.Position(start[0] - first, start[1]), messages.Position(end[0] - first, end[1])
    )


def to_row_range(snapshot: Snapshot, uri: str, first: int, last: int) -> messages.Range:
    """Whole rows of the source, 1-based and both included, as far as they are in one document."""
    begin, stop = snapshot.rows_of(snapshot.part_of(uri) or snapshot.parts[0])
    end, units = min(last, stop) - begin, 0
    if end == stop - begin and end > 0:  # no line may follow
        row, units = _row_end(snapshot, stop - 1)
        end = row - begin
    return messages.Range(messages.Position(max(0, first - 1 - begin), 0), messages.Position(end, units))


def to_line_name(snapshot: Snapshot, beside: int, row: int) -> str:
    """What the line at a row of the source is called beside another row: its number in its document, and
    where that is another one, which cell it is."""
    part = snapshot.part_at(row)
    number = str(row - part.row + 1)
    if part == snapshot.part_at(beside):
        return number
    return f"{number} of cell {snapshot.parts.index(part) + 1}"


def to_uri(snapshot: Snapshot, span: Span) -> str:
    """The document that holds the beginning of a span."""
    if len(snapshot.parts) == 1:
        return snapshot.parts[0].uri
    return snapshot.part_at(snapshot.source.row_column(span.start)[0]).uri


def to_lsp_range(where: messages.Range) -> lsp.Range:
    """The same in the protocol's own types."""
    return lsp.Range(
        lsp.Position(where.start.line, where.start.character),
        lsp.Position(where.end.line, where.end.character),
    )


def from_position(snapshot: Snapshot, uri: str, where: lsp.Position | messages.Position) -> int:
    """The offset that a position in one of the snapshot's documents means; outside the text its end."""
    part = snapshot.part_of(uri) or snapshot.parts[0]
    row = part.row + where.line
    if snapshot.notebook is not None:
        return snapshot.notebook.offset(_in_cell(snapshot, part, where))
    column = from_units(snapshot.source, row, where.character, snapshot.encoding)
    return snapshot.source.offset(row, column)


def is_hidden(snapshot: Snapshot, uri: str, where: lsp.Position) -> bool:
    """Whether what stands at a position of a notebook is no Python."""
    part, notebook = snapshot.part_of(uri), snapshot.notebook
    return part is not None and notebook is not None and notebook.is_hidden(_in_cell(snapshot, part, where))


def _in_cell(snapshot: Snapshot, part: Part, where: lsp.Position | messages.Position) -> CellPlace:
    from gradsight.notebook import CellPlace

    assert snapshot.notebook is not None
    first, stop = snapshot.rows_of(part)
    if where.line >= stop - first:
        return CellPlace(snapshot.parts.index(part), stop - first, 0)
    written = Source("", snapshot.notebook.written(first + where.line))
    column = from_units(written, 0, where.character, snapshot.encoding)
    return CellPlace(snapshot.parts.index(part), where.line, column)


def from_range(snapshot: Snapshot, uri: str, where: lsp.Range | messages.Range) -> Span:
    """The span that a range means."""
    start = from_position(snapshot, uri, where.start)
    end = from_position(snapshot, uri, where.end)
    return Span(min(start, end), max(start, end))


def _place(snapshot: Snapshot, offset: int) -> tuple[int, int]:
    row, column = snapshot.source.row_column(offset)
    notebook = snapshot.notebook
    if notebook is None or notebook.is_plain:
        return row, to_units(snapshot.source, row, column, snapshot.encoding)
    place = notebook.place(offset)
    row = notebook.rows(place.cell)[0] + place.row
    return row, to_units(Source("", notebook.written(row)), 0, place.column, snapshot.encoding)


def _row_end(snapshot: Snapshot, row: int) -> tuple[int, int]:
    """Where a row of the source ends for the editor."""
    source, at = snapshot.source, row
    if snapshot.notebook is not None:
        source, at = Source("", snapshot.notebook.written(row)), 0
    return row, to_units(source, at, len(source.line_text(at)), snapshot.encoding)


def to_hover(snapshot: Snapshot, where: Span, texts: list[str], markdown: bool) -> lsp.Hover:
    """A hover over a span, one text below the other."""
    text = "\n\n---\n\n".join(texts)
    if markdown:
        content = lsp.MarkupContent(lsp.MarkupKind.Markdown, text)
    else:
        content = lsp.MarkupContent(lsp.MarkupKind.PlainText, text.replace("**", "").replace("  \n", "\n"))
    return lsp.Hover(content, to_lsp_range(to_range(snapshot, where)))


def to_highlights(snapshot: Snapshot, uri: str, spans: Iterable[Span]) -> list[lsp.DocumentHighlight]:
    """Spans that light up in one document; the first is the name that was asked about."""
    kinds = itertools.chain(
        (lsp.DocumentHighlightKind.Write,), itertools.repeat(lsp.DocumentHighlightKind.Read)
    )
    return [
        lsp.DocumentHighlight(to_lsp_range(to_range(snapshot, span)), kind)
        for span, kind in zip(spans, kinds, strict=False)
        if to_uri(snapshot, span) == uri
    ]


def with_token(diagnostics: Iterable[lsp.Diagnostic], token: str) -> list[lsp.Diagnostic]:
    """The diagnostics, as an editor gives them back, that speak of this finding."""
    return [each for each in diagnostics if isinstance(each.data, dict) and each.data.get("token") == token]


def to_workspace_edit(
    snapshot: Snapshot,
    edits: Iterable[Edit | CellEdit],
    versioned: bool,
    others: Mapping[str, Snapshot] = MappingProxyType({}),
) -> lsp.WorkspaceEdit:
    """Edits of the snapshot's documents; `versioned` if the editor knows which version they are for.

    Those of a notebook are edits of its cells, or can be made in them. Those of further files are made in
    `others`, all together.
    """
    edits = tuple(edits)
    changed = {file: each for file, each in others.items() if any(_is_in(edit, file) for edit in edits)}
    if changed:
        whole = [snapshot, *changed.values()]
        each_of = [to_workspace_edit(each, edits, versioned) for each in whole]
        if not versioned:
            return lsp.WorkspaceEdit(
                changes={uri: made for each in each_of for uri, made in (each.changes or {}).items()}
            )
        return lsp.WorkspaceEdit(
            document_changes=[change for each in each_of for change in each.document_changes or ()]
        )
    by_part: dict[str, list[lsp.TextEdit]] = {}
    if snapshot.notebook is not None:
        for made in _in_cells(snapshot.notebook, edits):
            part = snapshot.parts[made.start.cell]
            places = (_cell_position(snapshot, part, place) for place in (made.start, made.end))
            by_part.setdefault(part.uri, []).append(lsp.TextEdit(lsp.Range(*places), made.text))
    else:
        plain = [each for each in edits if isinstance(each, Edit)]
        for edit in sorted(plain, key=lambda each: (each.where.start, each.where.end)):
            if edit.file == snapshot.source.file:
                where = to_lsp_range(to_range(snapshot, edit.where))
                by_part.setdefault(to_uri(snapshot, edit.where), []).append(lsp.TextEdit(where, edit.text))
    if not versioned:
        return lsp.WorkspaceEdit(changes=by_part)
    return lsp.WorkspaceEdit(
        document_changes=[
            lsp.TextDocumentEdit(
                lsp.OptionalVersionedTextDocumentIdentifier(part.uri, part.version), by_part[part.uri]
            )
            for part in snapshot.parts
            if part.uri in by_part
        ]
    )


def _is_in(edit: Edit | CellEdit, file: str) -> bool:
    return isinstance(edit, Edit) and edit.file == file


def _in_cells(notebook: Notebook, edits: Iterable[Edit | CellEdit]) -> list[CellEdit]:
    """The edits in a notebook's cells, in their order."""
    made: list[CellEdit] = []
    plain: list[Edit] = []
    for edit in edits:
        if isinstance(edit, Edit):
            plain.append(edit)
        else:
            made.append(edit)
    return sorted([*made, *(notebook.to_cell_edits(plain) or ())], key=lambda each: (each.start, each.end))


def _cell_position(snapshot: Snapshot, part: Part, place: CellPlace) -> lsp.Position:
    assert snapshot.notebook is not None
    written = Source("", snapshot.notebook.written(part.row + place.row))
    return lsp.Position(place.row, to_units(written, 0, place.column, snapshot.encoding))


# -- diagnostics


def to_notifications(
    snapshot: Snapshot,
    findings: Findings,
    wanted: Callable[[Finding], Finding | None],
    href: Callable[[str], str | None],
    fragments: dict[Hashable, str],
    others: Callable[[str], Source | None] = lambda file: None,
) -> list[bytes]:
    """The body of `textDocument/publishDiagnostics` for each part of the snapshot, in their order.

    `wanted` says as what a finding is shown, if it is. `fragments` holds the diagnostics of the last time by
    all that is in them, and afterwards those of now; it is for one `wanted` and one `href`. `others` gives
    the files that a way leads into.
    """
    if findings.anchors is not None and snapshot.notebook is None:
        texts = [fragments.get(anchor) for anchor in findings.anchors]
        if None in texts:  # else nobody has to look at the findings
            new = [at for at, text in enumerate(texts) if text is None]
            place = _placing(snapshot) if len(new) > FEW else partial(_place, snapshot)
            for at in new:
                shown = wanted(findings.one(at) if len(new) <= FEW else findings.findings[at])
                texts[at] = _to_diagnostic(snapshot, shown, place, href, others) if shown is not None else ""
        fragments.clear()
        fragments.update((anchor, text or "") for anchor, text in zip(findings.anchors, texts, strict=True))
        return [_published(snapshot.uri, snapshot.version, ",".join(filter(None, texts)))]
    place = _placing(snapshot)
    kept: dict[Hashable, str] = {}
    said: dict[str, list[str]] = {part.uri: [] for part in snapshot.parts}
    where = tuple((part.uri, part.row) for part in snapshot.parts) if snapshot.notebook is not None else ()
    for finding in findings.findings:
        start = place(finding.where.start)
        way = tuple(
            [
                (step.message, place(step.where.start), place(step.where.end))
                if step.file == finding.file
                else step
                for step in finding.path
            ]
        )
        key = finding.code, finding.message, finding.severity, start, place(finding.where.end), way, where
        text = fragments.get(key)
        if text is None:
            shown = wanted(finding)
            text = _to_diagnostic(snapshot, shown, place, href, others) if shown is not None else ""
        kept[key] = text
        if text:
            said[snapshot.part_at(start[0]).uri].append(text)
    fragments.clear()
    fragments.update(kept)
    return [_published(part.uri, part.version, ",".join(said[part.uri])) for part in snapshot.parts]


def _to_diagnostic(
    snapshot: Snapshot,
    finding: Finding,
    place: Callable[[int], tuple[int, int]],
    href: Callable[[str], str | None],
    others: Callable[[str], Source | None],
) -> str:
    # Put together by hand: an edit above them moves all findings, and `json.dumps` of each takes longer than
    # the analysis.
    start, end = place(finding.where.start), place(finding.where.end)
    first = snapshot.part_at(start[0]).row
    page = href(finding.code)
    about = "" if page is None else f',"codeDescription":{{"href":{_quoted(page)}}}'
    tags = f',"tags":[{int(lsp.DiagnosticTag.Unnecessary)}]' if finding.code in UNNECESSARY else ""
    steps = ",".join(
        [
            f'{{"location":{{"uri":{_quoted(uri)},"range":{where}}},"message":{_quoted(step.message)}}}'
            for step in finding.path
            for uri, where in _located(snapshot, step, finding.file, place, others)
        ]
    )
    return (
        f'{{"range":{_json_range(start, end, first)},"severity":{SEVERITIES[finding.severity]},'
        f'"code":"{finding.code}","source":"gradsight","message":{_quoted(finding.message)},'
        f'"data":{{"token":"{_token(finding.code, start, end)}"}}{about}{tags}'
        + (f',"relatedInformation":[{steps}]}}' if steps else "}")
    )


def _located(
    snapshot: Snapshot,
    step: Step,
    file: str,
    place: Callable[[int], tuple[int, int]],
    others: Callable[[str], Source | None],
) -> Iterator[tuple[str, str]]:
    """The document that a step stands in, and where in it; nothing where that cannot be read any more."""
    if step.file == file:
        start = place(step.where.start)
        part = snapshot.part_at(start[0])
        yield part.uri, _json_range(start, place(step.where.end), part.row)
    elif (other := others(step.file)) is not None:
        ends = [other.row_column(offset) for offset in (step.where.start, step.where.end)]
        start, end = ((row, to_units(other, row, column, snapshot.encoding)) for row, column in ends)
        yield uris.from_file(step.file), _json_range(start, end, 0)


_quoted = lru_cache(8192)(json.dumps)


def no_diagnostics(uri: str) -> bytes:
    """What takes away all diagnostics of a document."""
    return _published(uri, None, "")


def to_token(snapshot: Snapshot, finding: Finding) -> str:
    """The name by which a diagnostic's `data` calls its finding, within one version of a document."""
    start, end = _place(snapshot, finding.where.start), _place(snapshot, finding.where.end)
    return _token(finding.code, start, end)


def _token(code: str, start: tuple[int, int], end: tuple[int, int]) -> str:
    return f"{code}@{start[0]}:{start[1]}-{end[0]}:{end[1]}"


def _published(uri: str, version: int | None, diagnostics: str) -> bytes:
    number = "" if version is None else f',"version":{version}'
    return (
        '{"jsonrpc":"2.0","method":"textDocument/publishDiagnostics","params":{"uri":'
        f'{_quoted(uri)}{number},"diagnostics":[{diagnostics}]}}}}'
    ).encode("ascii")


def _json_range(start: tuple[int, int], end: tuple[int, int], first: int) -> str:
    return (
        f'{{"start":{{"line":{start[0] - first},"character":{start[1]}}},'
        f'"end":{{"line":{end[0] - first},"character":{end[1]}}}}}'
    )


def _placing(snapshot: Snapshot) -> Callable[[int], tuple[int, int]]:
    """`_place` for many offsets of one text."""
    source = snapshot.source
    lines, offsets = source.physical, source.line_offsets()
    if source.bom or not (snapshot.notebook is None or snapshot.notebook.is_plain):
        return lambda offset: _place(snapshot, offset)

    def place(offset: int) -> tuple[int, int]:
        row = bisect_right(offsets, offset) - 1
        if 0 <= row < len(lines) and lines[row].isascii():
            return row, offset - offsets[row]
        return _place(snapshot, offset)

    return place
