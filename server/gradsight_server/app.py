"""The language server: which message goes to which room.

A handler takes a snapshot, asks, and converts. Nothing is computed here.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer

from gradsight_server import convert, stdio
from gradsight_server.analyses import ANYWAY, Analyses, Analysis
from gradsight_server.convert import Encoding
from gradsight_server.documents import Documents, Found
from gradsight_server.pages import Pages
from gradsight_server.protocol import Protocol

logger = logging.getLogger(__name__)

USAGE = """\
usage: gradsight server [--stdio]

The language server, for editors. It speaks over standard input and output."""
PARENT_LOOKS = 3.0  # seconds between two looks at whether the editor still lives


class Server(LanguageServer):
    """The rooms, and what one tells the other."""

    protocol: Protocol

    def __init__(self) -> None:
        from gradsight_cli import __version__

        super().__init__("gradsight", __version__, protocol_cls=Protocol)
        self.documents = Documents()
        self.pages = Pages()
        self.analyses = Analyses(self._publish, self._ready)
        self.protocol.raw = {
            lsp.TEXT_DOCUMENT_DID_OPEN: self._open,
            lsp.TEXT_DOCUMENT_DID_CHANGE: self._change,
            lsp.TEXT_DOCUMENT_DID_CLOSE: self._close,
        }
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- documents, on the loop

    def _open(self, params: Mapping[str, Any]) -> None:
        self.analyses.want(self.documents.open(params).snapshot(), edited=False)

    def _change(self, params: Mapping[str, Any]) -> None:
        unit = self.documents.change(params)
        if unit is None:
            logger.warning("a change of a document that is not open: %s", params["textDocument"].get("uri"))
            return
        self.analyses.want(unit.snapshot(), edited=True)

    def _close(self, params: Mapping[str, Any]) -> None:
        uri = params["textDocument"]["uri"]
        self.analyses.forget(uri)
        output = self.protocol.output
        assert output is not None
        with output.lock:
            if self.documents.close(uri) is not None:
                output.send(convert.no_diagnostics(uri))

    # -- findings, on the analysing thread

    def _ready(self) -> None:
        self.pages.write()

    def _publish(self, analysis: Analysis, outdated: bool) -> None:
        snapshot, findings = analysis.snapshot, analysis.findings
        unit = self.documents.get(snapshot.uri)
        now = time.monotonic()
        if unit is None or (outdated and now - unit.published < ANYWAY):
            return
        shown = findings.findings
        output = self.protocol.output
        assert output is not None
        with output.lock:  # a document that is closed must not be published after that
            if self.documents.get(snapshot.uri) is not unit:
                return
            for body in convert.to_notifications(snapshot, shown, self.pages.uri, unit.fragments):
                output.send(body)
            unit.found, unit.published = Found(snapshot.edition, findings, shown), now

    # -- the process

    async def serve(self) -> int:
        """Talk to the client until it leaves; returns the exit code."""
        self._loop = loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()

        def finish(code: int) -> None:
            if not done.done():
                done.set_result(code)

        def lost() -> None:
            loop.call_soon_threadsafe(finish, 1)

        reader, writer = stdio.private_streams()
        self.protocol.output = stdio.Output(writer, lost)
        self.protocol.exited = finish
        await stdio.read(reader, self.protocol.receive, lambda: finish(1))
        try:
            return await done
        finally:
            self.analyses.close()

    def report_server_error(self, error: Exception, source: object) -> None:
        """Errors are for the log: a popup helps nobody."""
        logger.error("%s: %s", getattr(source, "__name__", source), error)


def create() -> Server:
    """The server with its handlers."""
    server = Server()

    @server.feature(lsp.INITIALIZE)
    def initialize(params: lsp.InitializeParams) -> None:
        encoding = server.protocol.workspace.position_encoding
        server.documents.encoding = Encoding(str(getattr(encoding, "value", encoding)))

    @server.feature(lsp.INITIALIZED)
    def initialized(params: lsp.InitializedParams) -> None:
        server.analyses.start()

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
    return asyncio.run(create().serve())
