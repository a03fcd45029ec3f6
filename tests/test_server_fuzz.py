"""Whatever a client sends, every request is answered, and what is published is what a fresh server says."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from protocol_fuzz import Conversation, Message

PROCESSES, CONVERSATIONS = 10, 100  # of each process; beside each runs a fresh one
PATIENCE = 30.0
WHOLE = "this file does not parse"  # found by a look at the whole file, which waits until nobody types

BUGS = ("could not be analysed", "could not be published", "check of", "analysis of", "place of", "is a bug")


class Server:
    """A server process, its messages, and what it published last."""

    def __init__(self, root: Path) -> None:
        self.log = root / "log.txt"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gradsight_cli", "server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=root,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._buffer, self._waiting = b"", b""
        self.answers: dict[Any, Message] = {}
        self.published: dict[str, Message] = {}
        capabilities = {"textDocument": {"publishDiagnostics": {"relatedInformation": True}}}
        params = {"processId": None, "rootUri": root.as_uri(), "capabilities": capabilities}
        self.send({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": params})
        self.send({"jsonrpc": "2.0", "method": "initialized", "params": {}})
        self.wait("hello")

    def send(self, message: Message) -> None:
        """Hand a message over; it is written while answers are awaited."""
        body = json.dumps(message).encode()
        self._waiting += b"Content-Length: %d\r\n\r\n%s" % (len(body), body)

    def wait(self, request: object) -> Message:
        """The answer to a request."""
        while request not in self.answers:
            self._exchange()
        return self.answers[request]

    def diagnostics(self, uri: str, version: int) -> list[Message]:
        """What was published for a version."""
        while uri not in self.published or self.published[uri].get("version") != version:
            self._exchange()
        diagnostics: list[Message] = self.published[uri]["diagnostics"]
        return diagnostics

    def sync(self, name: str) -> None:
        """Wait until everything that was sent is read."""
        self.send({"jsonrpc": "2.0", "id": name, "method": "nothing/known", "params": {}})
        self.wait(name)

    def _exchange(self) -> None:
        writers = [self._in] if self._waiting else []
        readable, writable, _ = select.select([self._out], writers, [], PATIENCE)
        assert readable or writable, "the server says nothing"
        if writable:
            self._waiting = self._waiting[os.write(self._in, self._waiting[: 1 << 16]) :]
        if readable:
            data = os.read(self._out, 1 << 20)
            assert data, f"the server has ended: {self.log.read_text()[-3000:]}"
            self._buffer += data
            for message in self._messages():
                self._take(message)

    def _messages(self) -> Iterator[Message]:
        while (at := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = int(self._buffer[:at].lower().partition(b"content-length:")[2].split()[0])
            if len(self._buffer) < at + 4 + length:
                return
            body, self._buffer = self._buffer[at + 4 : at + 4 + length], self._buffer[at + 4 + length :]
            yield json.loads(body)

    def _take(self, message: Message) -> None:
        if "method" not in message:
            assert message["id"] not in self.answers, f"answered twice: {message}"
            assert ("result" in message) != ("error" in message), message
            self.answers[message["id"]] = message
        elif "id" in message:
            self.send({"jsonrpc": "2.0", "id": message["id"], "result": None})
        elif message["method"] == "textDocument/publishDiagnostics":
            self.published[message["params"]["uri"]] = message["params"]
        elif message["method"] == "window/showMessage":
            assert "bug" not in message["params"]["message"], message

    def stop(self) -> int:
        """Leave as the protocol wants it; returns the exit code."""
        self.send({"jsonrpc": "2.0", "id": "bye", "method": "shutdown"})
        self.wait("bye")
        self.send({"jsonrpc": "2.0", "method": "exit"})
        while self._waiting:
            self._exchange()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """Whatever happened, nothing stays."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def lines_alone(diagnostics: list[Message]) -> list[Message]:
    return [each for each in diagnostics if not each["message"].startswith(WHOLE)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("process", range(PROCESSES))
def test_every_request_is_answered_and_the_last_text_counts(process: int, tmp_path: Path) -> None:
    fuzzed, fresh = Server(tmp_path), Server(tmp_path)
    try:
        conversation = Conversation(f"process {process}", tmp_path)
        for number in range(CONVERSATIONS):
            asked = conversation.requests
            messages = conversation.messages()
            where = f"process {process}, conversation {number}: {json.dumps(messages)[:4000]}"
            for message in messages:
                fuzzed.send(message)
            fuzzed.sync(f"end of {number}")
            for request in range(asked + 1, conversation.requests + 1):
                fuzzed.wait(request)
            for uri, text in conversation.texts.items():
                version = conversation.versions[uri] = 10_000 * (number + 1)
                _say_version(fuzzed, uri, version)
                said = fuzzed.diagnostics(uri, version)
                assert lines_alone(said) == lines_alone(_freshly(fresh, uri, version, text)), where
            closed = fuzzed.published.keys() - conversation.texts.keys()
            assert not any(fuzzed.published[uri]["diagnostics"] for uri in closed), where
        assert fuzzed.stop() == 0
        assert fresh.stop() == 0
        log = fuzzed.log.read_text("utf-8")
        for bug in BUGS:
            assert bug not in log, log[log.index(bug) - 500 : log.index(bug) + 3000]
    finally:
        fuzzed.kill()
        fresh.kill()


def _say_version(server: Server, uri: str, version: int) -> None:
    """An edit that changes nothing: its version tells when everything before it was taken in."""
    empty = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}}
    document = {"uri": uri, "version": version}
    params = {"textDocument": document, "contentChanges": [{"range": empty, "text": ""}]}
    server.send({"jsonrpc": "2.0", "method": "textDocument/didChange", "params": params})


def _freshly(server: Server, uri: str, version: int, text: str) -> list[Message]:
    """What a server says that was told the text and no edits."""
    server.published.pop(uri, None)
    item = {"uri": uri, "languageId": "python", "version": version, "text": text}
    opened = {"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": {"textDocument": item}}
    server.send(opened)
    diagnostics = server.diagnostics(uri, version)
    closing = {"textDocument": {"uri": uri}}
    server.send({"jsonrpc": "2.0", "method": "textDocument/didClose", "params": closing})
    return diagnostics
