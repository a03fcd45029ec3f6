"""Messages over standard input and output: bytes in, bodies out, and back.

Invariants: nothing but messages is ever written to the client (`print` and children get standard error);
`Output.send` may be called from any thread and writes each message whole; a lost client raises nothing, it is
told once.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections.abc import Callable

_LENGTH = re.compile(rb"content-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_PIECE = 1 << 16  # bytes to read at once; more would be mapped memory, new for every message
_MOST_HEADER = 65536  # bytes without a header's end: no client of ours


class Frames:
    """Cuts a stream of bytes into bodies. Headers that say no length are passed over."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of a message that is not complete
        self._missing = 0  # bytes that it lacks at least

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are complete with this piece."""
        if self._pieces:
            self._pieces.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = b"".join(self._pieces)
            self._pieces = []
        bodies = []
        at = 0
        while at < len(data):
            end = data.find(b"\r\n\r\n", at)
            if end < 0:
                self._keep(data[max(at, len(data) - _MOST_HEADER) :], 1)
                break
            length = _LENGTH.search(data, at, end + 2)
            stop = end + 4 + (int(length[1]) if length is not None else 0)
            if stop > len(data):
                self._keep(data[at:], stop - len(data))
                break
            if length is not None:
                bodies.append(data[end + 4 : stop])
            at = stop
        return bodies

    def _keep(self, data: bytes, missing: int) -> None:
        self._pieces, self._missing = [data], missing


class Output:
    """Where messages go."""

    def __init__(self, descriptor: int, lost: Callable[[], None]) -> None:
        self.lock = (
            threading.RLock()
        )  # held while a message is written; who must not be overtaken holds it too
        self._descriptor = descriptor
        self._lost = lost
        self._closed = False

    def send(self, body: bytes) -> None:
        """Write one message."""
        data = memoryview(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        with self.lock:
            if self._closed:
                return
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                self._closed = True
                self._lost()


def private_streams() -> tuple[int, int]:
    """Descriptors of the client's two pipes, which from now on nobody else in this process can reach."""
    reader, writer = os.dup(0), os.dup(1)
    sys.stdout.flush()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if os.name == "nt":
        import msvcrt

        for descriptor in (reader, writer):
            msvcrt.setmode(descriptor, os.O_BINARY)  # type: ignore[attr-defined,unused-ignore]
    return reader, writer


async def read(descriptor: int, receive: Callable[[bytes], None], ended: Callable[[], None]) -> None:
    """From now on hand each body to `receive`, on the loop's thread, and tell when there are no more."""
    loop = asyncio.get_running_loop()
    frames = Frames()

    def feed(data: bytes) -> None:
        for body in frames.feed(data):
            receive(body)

    if os.name != "nt":
        try:
            stream = os.fdopen(descriptor, "rb", 0)
            transport, _ = await loop.connect_read_pipe(lambda: _Pipe(feed, ended), stream)
            transport.max_size = _PIECE  # type: ignore[attr-defined]
            return
        except (OSError, ValueError):  # a file, or something else that cannot be waited for
            pass

    def pump() -> None:
        try:
            while data := os.read(descriptor, _PIECE):
                loop.call_soon_threadsafe(feed, data)
        except OSError:
            pass
        except RuntimeError:  # the loop is closed
            return
        loop.call_soon_threadsafe(ended)

    threading.Thread(target=pump, name="gradsight-input", daemon=True).start()


class _Pipe(asyncio.Protocol):
    """Bytes as they come, with no task between the pipe and whoever handles the message."""

    def __init__(self, feed: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self.data_received = feed  # type: ignore[method-assign,assignment]
        self._ended = ended

    def connection_lost(self, error: Exception | None) -> None:
        self._ended()
