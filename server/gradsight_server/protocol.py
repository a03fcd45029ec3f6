"""The protocol's rules on top of pygls: what is answered when, and the short way for edits.

Invariants: every request gets an answer, malformed ones too; nothing that a client sends ends the server or
raises a popup (errors are logged); edits go from the pipe to the documents as they were parsed from JSON,
with no types in between; pygls' own documents are never used, since their lines end elsewhere.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException, JsonRpcRequestCancelled
from pygls.protocol import LanguageServerProtocol, lsp_method

if TYPE_CHECKING:
    from gradsight_server.stdio import Output

logger = logging.getLogger(__name__)

PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS = -32700, -32600, -32602
NOT_INITIALIZED, REQUEST_FAILED, CONTENT_MODIFIED = -32002, -32803, -32801


class Refused(JsonRpcException):
    """A request that cannot be done now; the message is a sentence for the user."""

    CODE = REQUEST_FAILED
    MESSAGE = "Request failed"


class Outdated(JsonRpcException):
    """A request about a text that has changed since."""

    CODE = CONTENT_MODIFIED
    MESSAGE = "Content modified"


class Protocol(LanguageServerProtocol):
    """Reads bodies, writes bodies. `raw` holds the notifications that are handled as parsed JSON."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.raw: dict[str, Callable[[Mapping[str, Any]], object]] = {}
        self.output: Output | None = None
        self.exited: Callable[[int], None] = lambda code: None
        self.initialized = False

    # -- in

    def receive(self, body: bytes) -> None:
        """One message from the client. Never raises."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError) as error:
            logger.error("a message that is no JSON: %s", error)
            self.answer_error(None, PARSE_ERROR, f"this is no JSON: {error}")
            return
        try:
            method = data.get("method") if isinstance(data, dict) else None
            hook = self.raw.get(method) if isinstance(method, str) else None
            if hook is not None and "id" not in data and self.initialized and not self._shutdown:
                hook(data["params"])
            else:
                self._dispatch(data, method)
        except Exception:
            logger.exception("a message could not be handled: %.200r", data)

    def _dispatch(self, data: object, method: object) -> None:
        if not isinstance(data, dict) or data.get("jsonrpc") != "2.0":
            self.answer_error(None, INVALID_REQUEST, "this is no JSON-RPC 2.0 message")
            return
        number = data.get("id")
        is_request = isinstance(method, str) and "id" in data
        if is_request and (not isinstance(number, (int, str)) or isinstance(number, bool)):
            self.answer_error(None, INVALID_REQUEST, "an id must be a number or a text")
            return
        refusal = self._refusal(method) if isinstance(method, str) else None
        if refusal is not None:
            if is_request:
                self.answer_error(number, *refusal)
            return
        try:
            message = self.structure_message(data)
        except JsonRpcException as error:
            if is_request:
                self.answer_error(number, INVALID_PARAMS, f"malformed parameters of {method}")
            elif "id" in data and isinstance(number, (int, str)):
                future = self._request_futures.pop(number, None)
                if future is not None and not future.done():
                    future.set_exception(error)
            return
        self.handle_message(message)

    def _refusal(self, method: str) -> tuple[int, str] | None:
        if method == lsp.EXIT:
            return None
        if self._shutdown:
            return INVALID_REQUEST, "the server is shutting down"
        if method == lsp.INITIALIZE:
            return (INVALID_REQUEST, "the server is initialized already") if self.initialized else None
        return None if self.initialized else (NOT_INITIALIZED, "the server waits for `initialize`")

    # -- out

    def answer_error(self, number: int | str | None, code: int, message: str) -> None:
        """Answer a request that reached no handler."""
        error = {"code": code, "message": message}
        self.send(json.dumps({"jsonrpc": "2.0", "id": number, "error": error}).encode("ascii"))

    def send(self, body: bytes) -> None:
        """Write a message that is text already. From any thread."""
        if self.output is not None:
            self.output.send(body)

    def _send_data(self, data: Any) -> None:
        try:
            body = json.dumps(data, default=self._serialize_message, separators=(",", ":"))
        except (TypeError, ValueError):
            logger.exception("a message that cannot be written")
            if (number := getattr(data, "id", None)) is not None:
                self.answer_error(
                    number, -32603, "the answer could not be written: this is a bug in Gradsight"
                )
            return
        self.send(body.encode("ascii"))

    def _send_handler_result(self, future: Any, *, msg_id: int | str) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, (Refused, Outdated, JsonRpcRequestCancelled)):  # nothing went wrong here
            self._request_futures.pop(msg_id, None)
            self._send_response(msg_id, error=error.to_response_error())
            return
        super()._send_handler_result(future, msg_id=msg_id)

    # -- what pygls would do otherwise

    @lsp_method(lsp.INITIALIZE)
    def lsp_initialize(self, params: lsp.InitializeParams) -> Any:
        self.initialized = True
        return (yield from super().lsp_initialize(params))

    @lsp_method(lsp.EXIT)
    def lsp_exit(self, *arguments: object) -> None:  # type: ignore[override]
        self.exited(0 if self._shutdown else 1)

    @lsp_method(lsp.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: lsp.DidOpenTextDocumentParams) -> None:
        """Handled by `raw`; here so that the capability is announced."""

    @lsp_method(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: lsp.DidChangeTextDocumentParams) -> None:
        """As above."""

    @lsp_method(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: lsp.DidCloseTextDocumentParams) -> None:
        """As above."""

    @lsp_method(lsp.NOTEBOOK_DOCUMENT_DID_OPEN)
    def lsp_notebook_document__did_open(self, params: lsp.DidOpenNotebookDocumentParams) -> None:
        """As above."""

    @lsp_method(lsp.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def lsp_notebook_document__did_change(self, params: lsp.DidChangeNotebookDocumentParams) -> None:
        """As above."""

    @lsp_method(lsp.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def lsp_notebook_document__did_close(self, params: lsp.DidCloseNotebookDocumentParams) -> None:
        """As above."""

    @lsp_method(lsp.WORKSPACE_EXECUTE_COMMAND)
    async def lsp_workspace__execute_command(  # type: ignore[override]
        self, params: lsp.ExecuteCommandParams
    ) -> Any:
        """Unlike pygls: the command's parameters arrive whole, with the token for its progress."""
        handler = self.fm.commands.get(params.command)
        if handler is None:
            raise Refused(f"Gradsight has no command `{params.command}`")
        return await handler(params)
