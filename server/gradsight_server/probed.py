"""What was probed in the editor: one run at a time, and of each document the last view of it.

Invariants: nothing is started before the user asks, and never in a workspace that is not trusted; what a row
says is made by `view.py`; a view is shown by decorations or by inlay hints, never by both.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcRequestCancelled

from gradsight_server import convert, messages, uris
from gradsight_server.documents import Part, Snapshot, Unit
from gradsight_server.protocol import Refused
from gradsight_server.settings import Settings

if TYPE_CHECKING:
    from gradsight_server.probe import ProbeRequest, ProbeResult
    from gradsight_server.probes import Probes
    from gradsight_server.view import View

logger = logging.getLogger(__name__)

UNTRUSTED = "Gradsight runs no code of a workspace that is not trusted. Trust it, and run the probe again."
SHOWN_EVERY = 0.1  # seconds
LONGEST_LINE = 120  # characters of the program's output that progress shows
_PHASES = {"importing torch": "importing torch", "running": "running", "reporting": "reading the gradients"}


@dataclass(slots=True)
class _Shown:
    """The view of one unit, and what its editor was last told of it."""

    view: View
    uris: tuple[str, ...]
    stale: bool = False


class Probed:
    """The probe, for the loop's thread; `moved` alone is called by the thread that publishes."""

    def __init__(
        self,
        tell: Callable[[messages.ProbeView], None],
        state: Callable[[str, str | None], None],
        aside: Callable[..., Awaitable[Any]],
    ) -> None:
        """`tell` shows a view, `state` how the probe's process does and which device it used last; `aside`
        calls a function beside the loop."""
        self._tell, self._state, self._aside = tell, state, aside
        self._probes: Probes | None = None
        self._shown: dict[str, _Shown] = {}
        self._device: str | None = None
        self.trusted = True

    async def run(
        self,
        unit: Unit,
        wanted: messages.RunProbe,
        settings: Settings,
        folders: list[str],
        progress: Progress,
    ) -> messages.ProbeView:
        """Probe a selection, and show what came of it.

        Raises:
            Refused: it cannot be run; JsonRpcRequestCancelled: the user stopped it.
        """
        snapshot = unit.snapshot()
        try:
            result = await self.watch(snapshot, wanted, settings, folders, progress)
        finally:
            progress.end()
        await self.put(unit, snapshot, result)
        return self.view(unit, wanted.uri)

    async def watch(
        self,
        snapshot: Snapshot,
        wanted: messages.RunProbe,
        settings: Settings,
        folders: list[str],
        progress: Progress,
    ) -> ProbeResult:
        """Run what is wanted of a text, which may be none of the editor's, and show nothing. Whoever calls it
        ends the progress.

        Raises:
            Refused: it cannot be run; JsonRpcRequestCancelled: the user stopped it.
        """
        if not self.trusted:
            raise Refused(UNTRUSTED)
        from gradsight.slicing import SelectionError

        from gradsight_server.probes import Closed, Replaced
        from gradsight_server.view import in_editor

        try:
            request = to_request(snapshot, wanted, settings, folders)
        except SelectionError as error:
            words = in_editor(str(error))
            if snapshot.notebook is not None:
                words = snapshot.notebook.in_words(words)
            raise Refused(words) from None
        run = asyncio.ensure_future(self._ready().run(request, progress.phase, progress.output))
        progress.on_cancel(run.cancel)
        try:
            await progress.begin("Gradsight probe", f"starting {os.path.basename(request.python)}")
            result = await run
        except (Replaced, Closed) as error:
            raise Refused(str(error)) from None
        except asyncio.CancelledError:
            if progress.cancelled:
                raise JsonRpcRequestCancelled("the probe was cancelled") from None
            raise
        finally:
            if not run.done():
                run.cancel()
                await asyncio.wait([run])
        if result.problem is not None:
            raise Refused(in_editor(result.problem))
        return result

    async def put(self, unit: Unit, snapshot: Snapshot, result: ProbeResult) -> None:
        """Show what came of running a text beside the lines of a document."""
        from gradsight_server.view import to_view

        view = await self._aside(to_view, result, snapshot.source, uris.to_file(snapshot.uri))
        if view.device is not None:
            self._device = view.device
            self._state(self._ready().state, self._device)
        parts = tuple(part.uri for part in snapshot.parts)
        shown = self._shown[unit.uri] = _Shown(view, parts)
        for each in self._views(unit, unit.snapshot(), shown):
            self._tell(each)

    def view(self, unit: Unit, uri: str) -> messages.ProbeView:
        """What a document shows of the last probe, as its text is now."""
        snapshot, shown = unit.snapshot(), self._shown.get(unit.uri)
        views = self._views(unit, snapshot, shown) if shown is not None else []
        part = snapshot.part_of(uri) or snapshot.parts[0]
        return next((each for each in views if each.uri == part.uri), _nothing(part.uri, part.version))

    def _views(self, unit: Unit, snapshot: Snapshot, shown: _Shown) -> list[messages.ProbeView]:
        """One view for each document of a unit."""
        from gradsight_server.view import view_at

        placed = view_at(shown.view, snapshot.source, partial(convert.to_line_name, snapshot))
        shown.stale = placed.stale
        view = shown.view
        summary = view.summary if snapshot.notebook is None else snapshot.notebook.in_words(view.summary)
        rows: dict[str, list[messages.ProbeRow]] = {}
        for row in placed.rows:
            where = convert.to_range(snapshot, row.span)
            rows.setdefault(convert.to_uri(snapshot, row.span), []).append(
                messages.ProbeRow(where, row.label, row.state, row.tooltip)
            )
        parameters = tuple(
            messages.ProbeParameter(each.name, each.gradient, each.norm) for each in view.parameters
        )
        return [
            messages.ProbeView(
                part.uri,
                part.version,
                placed.stale,
                view.device,
                view.torch,
                summary,
                _error(view, snapshot, part),
                tuple(rows.get(part.uri, ())),
                parameters,
            )
            for part in snapshot.parts
        ]

    def moved(self, unit: Unit, snapshot: Snapshot) -> None:
        """Its text changed: tell if what is shown went stale, or fresh again."""
        shown = self._shown.get(unit.uri)
        if shown is None:
            return
        before = shown.stale
        views = self._views(unit, snapshot, shown)
        if shown.stale != before:
            for each in views:
                self._tell(each)

    def clear(self, unit: Unit | None = None) -> None:
        """Show nothing more, of one unit or of all."""
        for uri in [unit.uri] if unit is not None else list(self._shown):
            if (shown := self._shown.pop(uri, None)) is not None:
                for part in shown.uris:
                    self._tell(_nothing(part, None))

    async def trust(self, trusted: bool) -> None:
        """The user trusts the workspace now, or no longer: then no process of it stays."""
        self.trusted = trusted
        if not trusted and self._probes is not None:
            await self._probes.rest()

    async def close(self) -> None:
        """End every process, for good."""
        if self._probes is not None:
            await self._probes.close()

    def _ready(self) -> Probes:
        if self._probes is None:
            from gradsight_server.probes import Probes

            self._probes = Probes(lambda state: self._state(state, self._device))
        return self._probes


def _error(view: View, snapshot: Snapshot, part: Part) -> messages.ProbeError | None:
    if view.error is None:
        return None
    row = view.error.row
    if row is not None and snapshot.part_at(row) != part:
        row = None  # another cell's
    return messages.ProbeError(view.error.message, row - part.row if row is not None else None)


def _nothing(uri: str, version: int | None) -> messages.ProbeView:
    return messages.ProbeView(uri, version, False, None, None, "")


def to_request(
    snapshot: Snapshot, wanted: messages.RunProbe, settings: Settings, folders: list[str]
) -> ProbeRequest:
    """What to run for a selection, or without one for the function around the cursor.

    Raises:
        SelectionError: nothing there can be run; its text says what to do.
    """
    from gradsight.probing import probeable_at
    from gradsight.slicing import SelectionError, select

    from gradsight_server.lenses import rows_of
    from gradsight_server.probe import ProbeRequest

    rows, call = None, wanted.call
    if wanted.range is not None:
        where = convert.from_range(snapshot, wanted.uri, wanted.range)
        rows = rows_of(snapshot, where)
        if where.start == where.end and call is None:
            around = probeable_at(snapshot.source, rows[0] - 1)
            if around is None:
                raise SelectionError("there is no code here that could be run")
            rows, call = around.rows if snapshot.notebook is not None else None, around.call
    if snapshot.notebook is None:
        program = select(snapshot.source.text, rows=rows, call=call)
    else:
        part = snapshot.part_of(wanted.uri) or snapshot.parts[0]
        # What is checked is often called in a later cell.
        cell = None if wanted.check is not None else snapshot.parts.index(part)
        program = snapshot.notebook.selected(cell, rows, call)
    file = uris.to_file(snapshot.uri)
    return ProbeRequest(
        filename=file,
        text=program.text,
        rows=program.rows,
        call=program.call,
        check=wanted.check,
        python=wanted.python or settings.python or "python3",
        device=settings.device,
        timeout=settings.timeout,
        allow_writes=settings.allow_writes,
        directory=_directory(file, folders),
    )


def _directory(file: str, folders: list[str]) -> str | None:
    """Where the program runs: the workspace folder that holds it, as editors do it, else beside it."""
    around = [each for each in folders if file.startswith(os.path.join(each, ""))]
    for each in (*sorted(around, key=len, reverse=True), os.path.dirname(file), *folders):
        if os.path.isabs(each) and os.path.isdir(each):
            return each
    return None


class Progress:
    """Work that the user sees and can stop. Silent where the editor shows none."""

    def __init__(self, server: Any, token: lsp.ProgressToken | None, can_create: bool) -> None:
        self._progress = server.work_done_progress
        self._token, self._can_create = token, can_create
        self._shows = False
        self._cancel: Callable[[], object] = lambda: None
        self._phase = ""
        self._line = self._said = ""  # what the program printed last
        self._timer: asyncio.TimerHandle | None = None
        self.cancelled = False

    def on_cancel(self, cancel: Callable[[], object]) -> None:
        """What to call when the user stops it."""
        self._cancel = cancel

    async def begin(self, title: str, message: str) -> None:
        """Show that it began."""
        if self._shows:  # a second part of the same work
            self._report(message)
            return
        if self._token is None:
            if not self._can_create:
                return
            import uuid

            self._token = str(uuid.uuid4())
            try:
                await self._progress.create_async(self._token)
            except Exception as error:  # the editor does not want to show any
                logger.info("no progress: %s", error)
                return
        self._shows = True
        self._progress.begin(
            self._token, lsp.WorkDoneProgressBegin(title=title, message=message, cancellable=True)
        )
        self._progress.tokens[self._token].add_done_callback(self._stopped)

    def phase(self, name: str) -> None:
        """Another phase."""
        self._phase = _PHASES.get(name, "")
        if self._phase:
            self._report(self._phase)

    def output(self, text: str) -> None:
        """The program printed something."""
        lines = (self._line + text).replace("\r", "\n").split("\n")
        self._line = lines[-1][:LONGEST_LINE]  # it may go on
        said = [line.strip() for line in lines if line.strip()]
        if said:
            self._said = said[-1][:LONGEST_LINE]
            if self._timer is None:  # a program may print faster than an editor shows
                self._timer = asyncio.get_running_loop().call_later(SHOWN_EVERY, self._tell_output)

    def _tell_output(self) -> None:
        self._timer = None
        self._report(f"{self._phase}: {self._said}")

    def end(self) -> None:
        """Show it no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._shows:
            self._shows = False
            self._progress.end(self._token, lsp.WorkDoneProgressEnd())
            self._progress.tokens.pop(self._token, None)

    def _report(self, message: str) -> None:
        if self._shows:
            self._progress.report(self._token, lsp.WorkDoneProgressReport(message=message, cancellable=True))

    def _stopped(self, token: Any) -> None:
        if token.cancelled():
            self.cancelled = True
            self._cancel()
