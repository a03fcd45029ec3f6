"""Events for whoever started the probe: JSON lines over a descriptor of their own.

Invariants: the program's own prints never mix with events, and what the program does to descriptors does no
harm: before each line it is checked that the descriptor still is the one that was given, and once it is not,
events go to a file in the probe's own folder, which the starter reads too.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
from typing import Any


def to_json_value(value: Any) -> Any:
    """The value with every number that JSON does not know (NaN, infinities) as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: to_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(item) for item in value]
    return value


class Channel:
    """Where events go: `address` is "fd:N" or "port:N:TOKEN" (where descriptors are not inherited)."""

    def __init__(self, address: str, overflow: str) -> None:
        self._overflow = overflow
        self.overflowed = False
        self._lock = threading.Lock()
        self._pid = os.getpid()
        kind, _, rest = address.partition(":")
        if kind == "fd":
            self._fd = int(rest)
            os.set_inheritable(self._fd, False)
        else:
            port, _, token = rest.partition(":")
            self._socket = socket.create_connection(("127.0.0.1", int(port)))
            self._socket.sendall(token.encode() + b"\n")
            self._fd = -1
        self._identity = self._identify()

    def _identify(self) -> Any:
        if self._fd < 0:
            return None
        status = os.fstat(self._fd)
        return (status.st_dev, status.st_ino)

    def send(self, event: str, **data: Any) -> None:
        """Sends one event; a forked child sends none."""
        if os.getpid() != self._pid:
            return
        data["event"] = event
        line = (json.dumps(to_json_value(data), default=str) + "\n").encode("utf-8", "replace")
        with self._lock:
            try:
                if self._fd < 0:
                    self._socket.sendall(line)
                    return
                if self._identify() != self._identity:
                    raise OSError("the program closed the descriptor")
                while line:
                    line = line[os.write(self._fd, line) :]
            except OSError:
                self.overflowed = True
                with open(self._overflow, "ab") as rest:
                    rest.write(line)
