"""A language client for tests: plain JSON-RPC over the pipes of a real server process.

It shares no code with the server, so that a mistake about the protocol is not made twice.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from command_line import environment

PATIENCE = 60.0  # seconds until a test gives up: what a loaded machine may need

# What VS Code and Neovim can do, as far as a server asks.
CAPABILITIES: dict[str, Any] = {
    "general": {"positionEncodings": ["utf-16"]},
    "textDocument": {
        "codeAction": {
            "codeActionLiteralSupport": {
                "codeActionKind": {"valueSet": ["quickfix", "source", "source.fixAll"]}
            },
            "isPreferredSupport": True,
            "disabledSupport": True,
            "dataSupport": True,
            "resolveSupport": {"properties": ["edit"]},
        },
        "publishDiagnostics": {
            "relatedInformation": True,
            "versionSupport": True,
            "codeDescriptionSupport": True,
            "dataSupport": True,
        },
        "hover": {"contentFormat": ["markdown", "plaintext"]},
    },
    "workspace": {
        "configuration": True,
        "workspaceEdit": {"documentChanges": True},
        "applyEdit": True,
        "didChangeConfiguration": {"dynamicRegistration": True},
        "didChangeWatchedFiles": {"dynamicRegistration": True},
        "inlayHint": {"refreshSupport": True},
        "codeLens": {"refreshSupport": True},
    },
    "window": {"workDoneProgress": True},
}


class Failed(Exception):
    """The server answered with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: int = error["code"]
        self.message: str = error["message"]


class Client:
    """A server process and what it said. Requests of the server are answered as `settings` say."""

    def __init__(
        self,
        folder: Path,
        *,
        encodings: tuple[str, ...] = ("utf-16",),
        capabilities: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        python: str = sys.executable,
        initialize: bool = True,
        process_id: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.versions: dict[str, int] = {}
        self.published: dict[str, list[dict[str, Any]]] = {}  # every publication of a document, in order
        self.received: list[dict[str, Any]] = []  # everything else that was not asked for
        self.edits: Callable[[Any], Any] = lambda edit: {
            "applied": True
        }  # what becomes of `workspace/applyEdit`
        self._numbers = iter(range(1, 1 << 60))
        self._answers: dict[int | str, dict[str, Any]] = {}
        self._news = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [python, "-m", "gradsight_cli", "server", "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment(), "XDG_CACHE_HOME": str(folder / ".test-cache"), **(env or {})},
            cwd=folder,
        )
        self._errors: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()
        self.capabilities: dict[str, Any] = {}
        if initialize:
            wanted = {**(capabilities if capabilities is not None else CAPABILITIES)}
            wanted["general"] = {"positionEncodings": list(encodings)}
            result = self.request(
                "initialize",
                {
                    "processId": process_id,
                    "rootUri": folder.as_uri(),
                    "workspaceFolders": [{"uri": folder.as_uri(), "name": folder.name}],
                    "capabilities": wanted,
                    "initializationOptions": options,
                },
            )
            self.capabilities = result["capabilities"]
            self.notify("initialized", {})

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> int:
        """Leave as the protocol says; the process's exit code."""
        if self.process.poll() is None:
            try:
                self.request("shutdown", None)
                self.notify("exit", None)
                self.process.wait(10)
            except (OSError, AssertionError, Failed, subprocess.TimeoutExpired):
                self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        return self.process.wait(10)

    @property
    def log(self) -> str:
        """What the server wrote to standard error so far."""
        lines = []
        with contextlib.suppress(queue.Empty):
            while True:
                lines.append(self._errors.get_nowait())
        for line in lines:
            self._errors.put(line)
        return b"".join(lines).decode(errors="replace")

    # -- messages

    def send(self, message: Any) -> None:
        """Any JSON, as one message."""
        self.send_body(json.dumps(message).encode())

    def send_body(self, body: bytes) -> None:
        """Any bytes, as one message."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.process.stdin.flush()

    def notify(self, method: str, params: Any) -> None:
        """Send a notification."""
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def ask(self, method: str, params: Any) -> int:
        """Send a request; `answer` waits for what comes back."""
        number = next(self._numbers)
        self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return number

    def answer(self, number: int | str | None) -> Any:
        """The result of a request.

        Raises:
            Failed: the server answered with an error.
        """
        answer = self.wait(lambda: self._answers.pop(number, None), f"the answer to request {number}")  # type: ignore[arg-type]
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["result"]

    def request(self, method: str, params: Any) -> Any:
        """Ask, and wait for the answer."""
        return self.answer(self.ask(method, params))

    def wait(self, look: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """What `look` returns as soon as it is not None."""
        deadline = time.monotonic() + patience
        with self._news:
            while (found := look()) is None:
                left = deadline - time.monotonic()
                assert left > 0, f"waited in vain for {what}; the server's log:\n{self.log}"
                assert not self._ended, f"the server ended before {what}; its log:\n{self.log}"
                self._news.wait(left)
        return found

    def notification(self, method: str, where: Callable[[Any], bool] = lambda params: True) -> Any:
        """The first notification of this kind that was not taken yet; its parameters."""

        def look() -> Any:
            for number, each in enumerate(self.received):
                if each["method"] == method and where(each.get("params")):
                    return self.received.pop(number).get("params") or {}
            return None

        return self.wait(look, method)

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        with contextlib.suppress(ValueError, OSError):
            while line := stream.readline():
                length = int(line.split(b":")[1])
                while stream.readline().strip():
                    pass
                self._take(json.loads(stream.read(length)))
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        with self._news:
            if "method" not in message:
                self._answers[message["id"]] = message
            elif message["method"] == "textDocument/publishDiagnostics":
                params = message["params"]
                self.published.setdefault(params["uri"], []).append(params)
            else:
                self.received.append(message)
            self._news.notify_all()
        if "method" in message and "id" in message:
            result: Any = None
            if message["method"] == "workspace/configuration":
                result = [self.settings for _ in message["params"]["items"]]
            if message["method"] == "workspace/applyEdit":
                result = self.edits(message["params"]["edit"])
            with contextlib.suppress(OSError, ValueError):
                self.send({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self.process.stderr:
                self._errors.put(line)

    # -- documents

    def uri(self, name: str) -> str:
        """The URI of a file in the folder."""
        return (self.folder / name).as_uri()

    def open(self, uri: str, text: str, version: int = 1) -> None:
        """Open a document."""
        self.versions[uri] = version
        item = {"uri": uri, "languageId": "python", "version": version, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def change(self, uri: str, *changes: Mapping[str, Any]) -> int:
        """Change a document; the new version."""
        self.versions[uri] += 1
        self.notify(
            "textDocument/didChange",
            {
                "textDocument": {"uri": uri, "version": self.versions[uri]},
                "contentChanges": list(changes),
            },
        )
        return self.versions[uri]

    def shut(self, uri: str) -> None:
        """Close a document."""
        self.notify("textDocument/didClose", {"textDocument": {"uri": uri}})

    def diagnostics(self, uri: str, version: int | None = None) -> list[dict[str, Any]]:
        """What was published for a version of a document, by default its latest; waits for it."""
        wanted = self.versions[uri] if version is None else version

        def look() -> list[dict[str, Any]] | None:
            for each in reversed(self.published.get(uri, [])):
                if each.get("version") == wanted:
                    found: list[dict[str, Any]] = each["diagnostics"]
                    return found
            return None

        found: list[dict[str, Any]] = self.wait(look, f"diagnostics of {uri} {wanted}")
        return found


def edit(row0: int, column0: int, row1: int, column1: int, text: str) -> dict[str, Any]:
    """A change of a range."""
    return {
        "range": {
            "start": {"line": row0, "character": column0},
            "end": {"line": row1, "character": column1},
        },
        "text": text,
    }
