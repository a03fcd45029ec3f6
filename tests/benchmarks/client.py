"""A language client as thin as can be: bytes over pipes, so that what is measured is the server.

It speaks JSON-RPC by itself and knows no more of the protocol than the benchmarks need.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from keystrokes import Edit
from measuring import ROOT

GRADSIGHT = (str(ROOT / ".venv" / "bin" / "gradsight"), "server")
RUFF = (str(ROOT / ".venv" / "bin" / "ruff"), "server")
PATIENCE = 60.0
Message = dict[str, Any]


class Client:
    """One server process, and the documents that are open in it."""

    def __init__(self, command: Sequence[str], root: Path) -> None:
        self.root = root
        self.process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._buffer = b""
        self._requests = 0
        self.versions: dict[str, int] = {}
        self.diagnostics: dict[str, list[Message]] = {}  # of each document the latest

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    # -- messages

    def send(self, method: str, params: object, request: int | None = None) -> None:
        """Write one message."""
        message: Message = {"jsonrpc": "2.0", "method": method, "params": params}
        if request is not None:
            message["id"] = request
        self._write(message)

    def _write(self, message: Message) -> None:
        body = json.dumps(message).encode()
        data = b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        while data:
            data = data[os.write(self._in, data) :]

    def receive(self, wanted: Callable[[Message], bool]) -> Message:
        """The next message that is wanted; the server's own requests are answered with null on the way.

        Raises:
            RuntimeError: the server has ended.
            TimeoutError: it said nothing for a minute.
        """
        while True:
            message = self._message()
            if "id" in message and "method" in message:
                self._write({"jsonrpc": "2.0", "id": message["id"], "result": None})
            if message.get("method") == "textDocument/publishDiagnostics":
                self.diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]
            if wanted(message):
                return message

    def _message(self) -> Message:
        while (at := self._buffer.find(b"\r\n\r\n")) < 0:
            self._read()
        headers = self._buffer[:at].lower()
        length = int(headers.partition(b"content-length:")[2].split()[0])
        while len(self._buffer) < at + 4 + length:
            self._read()
        body, self._buffer = self._buffer[at + 4 : at + 4 + length], self._buffer[at + 4 + length :]
        self._arrived = time.perf_counter()
        message: Message = json.loads(body)
        return message

    def _read(self) -> None:
        if not select.select([self._out], [], [], PATIENCE)[0]:
            raise TimeoutError("the server says nothing")
        data = os.read(self._out, 1 << 20)
        if not data:
            raise RuntimeError(f"the server has ended: {self.process.wait()}")
        self._buffer += data

    def request(self, method: str, params: object) -> Message:
        """Ask, and wait for the answer."""
        self._requests += 1
        number = self._requests
        self.send(method, params, number)
        return self.receive(lambda message: message.get("id") == number and "method" not in message)

    # -- what editors do

    def initialize(self, options: object = None, capabilities: Message | None = None) -> Message:
        """The server's answer to it; `capabilities` of the editor's documents beside those needed here."""
        document = {
            "publishDiagnostics": {"versionSupport": True, "relatedInformation": True, "dataSupport": True},
            **(capabilities or {}),
        }
        answer = self.request(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": self.root.as_uri(),
                "workspaceFolders": [{"uri": self.root.as_uri(), "name": self.root.name}],
                "capabilities": {"textDocument": document, "workspace": {"workspaceFolders": True}},
                "initializationOptions": options,
            },
        )
        self.send("initialized", {})
        return answer

    def uri(self, file: str) -> str:
        """Of a file in the root."""
        return (self.root / file).as_uri()

    def open(self, file: str, text: str) -> list[Message]:
        """Open a document and wait for its diagnostics."""
        uri = self.uri(file)
        self.versions[uri] = 1
        document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        self.send("textDocument/didOpen", {"textDocument": document})
        return self._published(uri, 1)

    def edit(self, file: str, edit: Edit) -> float:
        """Seconds from writing the change to the arrival of its diagnostics, whole and not yet decoded."""
        uri = self.uri(file)
        version = self.versions[uri] = self.versions[uri] + 1
        change = {
            "range": {
                "start": {"line": edit.row0, "character": edit.column0},
                "end": {"line": edit.row1, "character": edit.column1},
            },
            "text": edit.text,
        }
        document = {"uri": uri, "version": version}
        began = time.perf_counter()
        self.send("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})
        self._published(uri, version)
        return self._arrived - began

    def _published(self, uri: str, version: int) -> list[Message]:
        message = self.receive(
            lambda message: (
                message.get("method") == "textDocument/publishDiagnostics"
                and message["params"]["uri"] == uri
                and message["params"].get("version", version) == version
            )
        )
        diagnostics: list[Message] = message["params"]["diagnostics"]
        return diagnostics

    def actions(self, file: str, diagnostic: Message) -> float:
        """Seconds from the request for what can be done about a diagnostic to the answer."""
        params = {
            "textDocument": {"uri": self.uri(file)},
            "range": diagnostic["range"],
            "context": {"diagnostics": [diagnostic], "triggerKind": 1},
        }
        began = time.perf_counter()
        answer = self.request("textDocument/codeAction", params)
        if not answer["result"]:
            raise RuntimeError(f"nothing can be done about {diagnostic['code']}: {answer}")
        return self._arrived - began

    def probe(self, file: str, python: str) -> tuple[float, Message]:
        """Seconds from the request for a probe of a document to the answer, and the answer."""
        argument = {"uri": self.uri(file), "python": python}
        params = {"command": "gradsight.runProbe", "arguments": [argument]}
        began = time.perf_counter()
        answer = self.request("workspace/executeCommand", params)
        if "error" in answer:
            raise RuntimeError(f"the server says: {answer['error']}")
        view: Message = answer["result"]
        return self._arrived - began, view

    def close(self, file: str) -> None:
        """Close a document."""
        self.send("textDocument/didClose", {"textDocument": {"uri": self.uri(file)}})

    def cpu(self) -> float:
        """Seconds that all of its threads have computed. Linux."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in threads) / 1e9

    def memory(self) -> float:
        """Resident MiB of the process. Linux."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
