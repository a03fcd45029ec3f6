"""The language server: which message goes to which room.

A handler takes a snapshot, asks, and converts. Nothing is computed here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from gradsight.text import Source
from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer

from gradsight_server import convert, messages, stdio, uris
from gradsight_server.actions import Offers
from gradsight_server.analyses import ANYWAY, Analyses, Analysis
from gradsight_server.documents import Documents, Found, Snapshot, Unit
from gradsight_server.editor import Editor
from gradsight_server.pages import Pages
from gradsight_server.probed import Probed
from gradsight_server.protocol import Protocol
from gradsight_server.settings import SECTION, Configurations, Settings, to_settings
from gradsight_server.surroundings import Surroundings

if TYPE_CHECKING:
    from gradsight_server.notebooks import NotebookUnit

logger = logging.getLogger(__name__)

USAGE = """\
usage: gradsight server [--stdio]

The language server, for editors. It speaks over standard input and output."""
PARENT_LOOKS = 3.0  # seconds between two looks at whether the editor still lives
SETTINGS_WAIT = 2.0  # seconds that an editor may take to say its settings before we go on without

# What of a notebook the editor shows us.
NOTEBOOKS = lsp.NotebookDocumentSyncOptions(
    [
        lsp.NotebookDocumentFilterWithNotebook(
            notebook="jupyter-notebook", cells=[lsp.NotebookCellLanguage("python")]
        )
    ],
    save=False,
)

Answer = TypeVar("Answer")


class Server(LanguageServer):
    """The rooms, and what one tells the other."""

    protocol: Protocol

    def __init__(self) -> None:
        from gradsight_cli import __version__

        super().__init__("gradsight", __version__, notebook_document_sync=NOTEBOOKS, protocol_cls=Protocol)
        self.documents = Documents(self._released)
        self.pages = Pages()
        self.editor = Editor()
        self.given_settings: object = None  # those of `initialize`
        self.settings = Settings()
        self.configurations = Configurations(self.settings, self.warn)
        self.surroundings = Surroundings(self._opened, self._folders)
        self.analyses = Analyses(
            self._publish, self._ready, self.documents.is_recent, self.surroundings, self._users
        )
        self.offers = Offers()
        self.probed = Probed(self._show, self._probe_state, self.aside)
        self.protocol.raw = {
            lsp.TEXT_DOCUMENT_DID_OPEN: self._open,
            lsp.TEXT_DOCUMENT_DID_CHANGE: self._change,
            lsp.TEXT_DOCUMENT_DID_CLOSE: self._close,
            lsp.NOTEBOOK_DOCUMENT_DID_OPEN: self._open_notebook,
            lsp.NOTEBOOK_DOCUMENT_DID_CHANGE: self._change_notebook,
            lsp.NOTEBOOK_DOCUMENT_DID_CLOSE: self._close_notebook,
            messages.TRUSTED: self._trust,
        }
        self._texts: dict[str, tuple[int, Source]] = {}  # of open documents that others import from
        self._aside = ThreadPoolExecutor(2, "gradsight-aside")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._warned: set[str] = set()
        self._tasks: set[asyncio.Future[None]] = set()  # a loop alone would forget them

    # -- documents, on the loop

    def _open(self, params: Mapping[str, Any]) -> None:
        before = self.documents.get(params["textDocument"]["uri"])
        unit = self.documents.open(params)
        if before is not None:  # opened twice: who waits for the text that was, waits for nothing
            self._wake(before)
        self.analyses.want(unit.uri, unit.later(), edited=False)
        self._moved(unit.uri)

    def _change(self, params: Mapping[str, Any]) -> None:
        unit = self.documents.change(params)
        if unit is None:
            logger.warning("a change of a document that is not open: %s", params["textDocument"].get("uri"))
            return
        self.analyses.want(unit.uri, unit.later(), edited=True)
        self._moved(unit.uri)

    def _close(self, params: Mapping[str, Any]) -> None:
        uri = params["textDocument"]["uri"]
        with self.output.lock:  # after this the analysing thread publishes nothing of it
            unit = self.documents.close(uri)
        if unit is None:
            logger.warning("a document is closed that is not open: %s", uri)
            return
        self.analyses.forget(uri)
        self._released(unit)
        self.probed.clear(unit)
        self._wake(unit)
        self.output.send(convert.no_diagnostics(uri))
        self._moved(uri)  # what is on disk counts now

    def _open_notebook(self, params: Mapping[str, Any]) -> None:
        from gradsight_server.notebooks import NotebookUnit

        unit = NotebookUnit(params, self.documents.encoding)
        if (before := self.documents.get(unit.uri)) is not None:  # as above
            self.documents.put(before, ())
            self._wake(before)
        self.documents.put(unit, (unit.uri, *unit.cells))
        self.documents.touch(unit)
        self.analyses.want(unit.uri, unit.later(), edited=False)

    def _change_notebook(self, params: Mapping[str, Any]) -> None:
        from gradsight_server.notebooks import NotebookUnit

        unit = self.documents.get(params["notebookDocument"]["uri"])
        if not isinstance(unit, NotebookUnit):
            logger.warning("a change of a notebook that is not open: %s", params["notebookDocument"]["uri"])
            return
        before = unit.cells
        if not unit.change(params):
            return
        if unit.cells != before:
            self._put_cells(unit, before, (unit.uri, *unit.cells))
        self.documents.touch(unit)
        self.analyses.want(unit.uri, unit.later(), edited=True)

    def _close_notebook(self, params: Mapping[str, Any]) -> None:
        from gradsight_server.notebooks import NotebookUnit

        uri = params["notebookDocument"]["uri"]
        unit = self.documents.get(uri)
        if not isinstance(unit, NotebookUnit):
            logger.warning("a notebook is closed that is not open: %s", uri)
            return
        self._put_cells(unit, unit.cells, ())
        self.analyses.forget(uri)
        self._released(unit)
        self.probed.clear(unit)
        self._wake(unit)

    def _put_cells(self, unit: NotebookUnit, before: Iterable[str], names: Iterable[str]) -> None:
        """These names are the notebook's now; nothing is shown of the cells that it had before."""
        kept = set(names)
        with self.output.lock:  # after this the analysing thread publishes nothing of them
            self.documents.put(unit, kept)
            for uri in before:
                if uri not in kept:
                    unit.sent.pop(uri, None)
                    self.output.send(convert.no_diagnostics(uri))

    def _trust(self, params: object) -> None:
        trusted = messages.from_json(messages.Trusted, params).trusted
        self._tasks.add(task := asyncio.ensure_future(self.probed.trust(trusted)))
        task.add_done_callback(self._tasks.discard)

    def republish(self) -> None:
        """The settings are others: look at every document again."""
        self.configurations = Configurations(self.settings, self.warn)
        for unit in self.documents:
            self.analyses.want(unit.uri, unit.later(), edited=False)

    def _released(self, unit: Unit) -> None:
        self.analyses.drop(unit.uri, uris.to_file(unit.uri))

    async def found(self, uri: str) -> tuple[Unit, Snapshot, Found] | None:
        """A document and what was found in its latest version, as soon as that is known; None where no such
        document is open, or it is closed meanwhile."""
        unit = self.documents.get(uri)
        while unit is not None and self.documents.get(uri) is unit:
            if (found := unit.current) is not None:
                self.documents.touch(unit)
                return unit, unit.snapshot(), found
            assert self._loop is not None
            waiter: asyncio.Future[None] = self._loop.create_future()
            unit.waiters.append(waiter)
            if unit.current is None:  # it may have come between the two looks
                await waiter
        return None

    def _moved(self, uri: str) -> None:
        """Whoever reads this document's file has to be looked at again."""
        file = uris.to_file(uri)
        if self.surroundings.changed(file):
            self.analyses.changed(file)

    def files_changed(self, files: Iterable[str]) -> None:
        """Files have changed on disk."""
        self.surroundings.look_again()
        for file in files:
            self.analyses.changed(file)

    # -- what the analysis reads, on the analysing thread

    def _opened(self, file: str) -> Source | None:
        unit = self.documents.get(uris.from_file(file))
        if unit is None or not unit.uri.endswith(".py"):
            self._texts.pop(file, None)
            return None
        known = self._texts.get(file)
        if known is None or known[0] != unit.edition:
            snapshot = unit.later()()
            known = self._texts[file] = snapshot.edition, snapshot.source
        return known[1]

    def _folders(self) -> Iterable[str]:
        return [uris.to_file(each) for each in self.protocol.workspace.folders]

    def _users(self, files: set[str]) -> Iterable[tuple[str, Callable[[], Snapshot]]]:
        return [(unit.uri, unit.later()) for unit in self.documents if uris.to_file(unit.uri) in files]

    # -- findings, on the analysing thread

    def _ready(self) -> None:
        self.pages.write()
        self.editor.configured.wait(SETTINGS_WAIT)

    def _publish(self, analysis: Analysis, outdated: bool) -> None:
        snapshot, findings = analysis.snapshot, analysis.findings
        unit = self.documents.get(snapshot.uri)
        now = time.monotonic()
        if unit is None or snapshot.edition < unit.first:  # it was closed, and may have been opened again
            return
        if outdated and now - unit.published < ANYWAY:
            return
        configurations = self.configurations
        wanted = configurations.wanted(snapshot.uri)
        if unit.styled is not configurations:
            unit.fragments, unit.styled = {}, configurations
        with self.output.lock:
            if self.documents.get(snapshot.uri) is not unit:
                return
            bodies = convert.to_notifications(
                snapshot, findings, wanted, self.pages.uri, unit.fragments, self.surroundings.read
            )
            for part, body in zip(snapshot.parts, bodies, strict=True):
                if snapshot.notebook is not None:  # what changed, in cells that are there
                    if unit.sent.get(part.uri) == body or self.documents.get(part.uri) is not unit:
                        continue
                    unit.sent[part.uri] = body
                self.output.send(body)
            unit.found, unit.published = Found(snapshot.edition, findings, wanted), now
        if not self.documents.is_recent(unit.uri):
            unit.found.settle()
            unit.fragments = {}
        self.probed.moved(unit, snapshot)
        if unit.waiters:
            self.soon(self._wake, unit)
        if not self.editor.is_served:
            self.editor.is_served = True
            self.soon(self.tell_status)

    # -- back on the loop

    def soon(self, call: Callable[..., object], *arguments: Any) -> None:
        """Call something on the loop; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    def _wake(self, unit: Unit) -> None:
        waiters, unit.waiters = unit.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def aside(self, call: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call something that takes long, beside the loop and the analysing thread."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, call, *arguments)

    # -- to the client

    @property
    def output(self) -> stdio.Output:
        """Where messages go."""
        assert self.protocol.output is not None
        return self.protocol.output

    def warn(self, message: str) -> None:
        """Tell the user, once; from any thread."""
        if message not in self._warned:
            self._warned.add(message)
            self._notify("window/showMessage", {"type": 2, "message": f"Gradsight: {message}"})

    def _show(self, view: messages.ProbeView) -> None:
        if self.editor.decorations:
            self._notify(messages.PROBE, messages.to_json(view))
        elif self.editor.refreshes_hints:
            self.soon(self.protocol.send_request, lsp.WORKSPACE_INLAY_HINT_REFRESH)

    def _probe_state(self, state: str, device: str | None) -> None:
        self.editor.probe, self.editor.device = state, device
        self.tell_status()

    def tell_status(self) -> None:
        """What the status bar shows, to clients that asked for it."""
        if self.editor.wants_status:
            self._notify(messages.STATUS, messages.to_json(self.editor.status()))

    def _notify(self, method: str, params: Mapping[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params}, separators=(",", ":"))
        self.protocol.send(body.encode("ascii"))

    # -- settings

    async def configure(self, given: object = None) -> None:
        """Take the client's settings, `given` or as it answers when asked."""
        section: object = given
        if self.editor.can_be_asked:
            item = lsp.ConfigurationItem(section=SECTION)
            try:
                answer = await self.workspace_configuration_async(lsp.ConfigurationParams([item]))
                section = answer[0] if answer else None
            except Exception as error:
                logger.warning("the client does not say its settings: %s", error)
                return
        lenses = self.settings.lenses
        self.settings, problems = to_settings(section, _codes)
        for problem in problems:
            self.warn(problem)
        self.republish()
        if self.settings.lenses != lenses and self.editor.refreshes_lenses:
            self.soon(self.protocol.send_request, lsp.WORKSPACE_CODE_LENS_REFRESH)

    # -- the process

    async def serve(self) -> int:
        """Talk to the client until it leaves; returns the exit code."""
        self._loop = loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()

        def finish(code: int) -> None:
            if not done.done():
                done.set_result(code)

        def lost() -> None:
            self.soon(finish, 1)

        reader, writer = stdio.private_streams()
        self.protocol.output = stdio.Output(writer, lost)
        self.protocol.exited = finish
        await stdio.read(reader, self.protocol.receive, lambda: finish(1))
        watch = asyncio.ensure_future(self._watch_parent(finish))
        try:
            return await done
        finally:
            watch.cancel()
            self.analyses.close()
            await self.probed.close()

    async def _watch_parent(self, finish: Callable[[int], None]) -> None:
        """End when the editor's process is gone, even if something still holds its end of the pipes."""
        while self.process_id is None or not is_alive(self.process_id):
            await asyncio.sleep(PARENT_LOOKS)  # one that is not seen at first (another container) never is
            if self.process_id is not None and not is_alive(self.process_id):
                return
        while is_alive(self.process_id):
            await asyncio.sleep(PARENT_LOOKS)
        logger.warning("the editor's process %d is gone", self.process_id)
        finish(1)

    def report_server_error(self, error: Exception, source: object) -> None:
        """Errors are for the log: a popup helps nobody."""
        logger.error("%s: %s", getattr(source, "__name__", source), error)


def is_alive(process: int) -> bool:
    """Whether a process is there, as far as we may know."""
    if os.name == "nt":
        import ctypes

        kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
        handle = kernel.OpenProcess(0x00100000, False, process)  # SYNCHRONIZE
        if not handle:
            return False
        waits = kernel.WaitForSingleObject(handle, 0) == 0x102  # WAIT_TIMEOUT
        kernel.CloseHandle(handle)
        return bool(waits)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _codes() -> list[str]:
    from gradsight.pages import PAGES

    return [page.code for page in PAGES]


def create() -> Server:
    """The server with its handlers."""
    from gradsight_server.handlers import register

    server = Server()
    register(server)
    return server


def main(arguments: Sequence[str]) -> int:
    """`gradsight server`; returns the exit code."""
    if "--help" in arguments or "-h" in arguments:
        print(USAGE)
        return 0
    unknown = [each for each in arguments if each != "--stdio"]
    if unknown:
        print(f"gradsight server: `{unknown[0]}` is no option of it\n{USAGE}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    warnings.simplefilter("ignore")  # of the programs that are read: nobody sees them here
    return asyncio.run(create().serve())
