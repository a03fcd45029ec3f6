"""Probes for an event loop: one at a time, with phases, cancellation, and a spare process that waits warm.

    probes = Probes(on_state=print)  # starts nothing
    result = await probes.run(request, on_phase, on_output)
    await probes.rest()  # trust is gone, or other settings: no process is left
    await probes.close()  # the same, for good

`run` returns what `probe.run` returns, and never raises for what the program does. It raises `Replaced` if a
newer `run` took its place (its text is a sentence for the user), `Closed` after `close`, and
`asyncio.CancelledError` if its task is cancelled, in any phase; in each of these cases no process and no
folder of that run is left when it raises. `on_phase` gets one of `PHASES`, `on_output` pieces of the
program's own output; both are called on the event loop, and never after `run` has returned. `state` is one of
`STATES`; `on_state` is called on the event loop whenever it changes.

Invariants: the event loop is never blocked; at most one program runs, and at most one spare waits; nothing is
started before the first `run`; a spare never runs two programs, and serves only the same interpreter,
environment, directory and kind of device; when this process dies, so do all that it started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gradsight_server import probe
from gradsight_server.probe import ProbeRequest, ProbeResult

PHASES = ("starting", "importing torch", "running", "reporting")
STATES = ("none", "starting", "running", "warming", "ready")


class Replaced(Exception):
    """A newer probe took this one's place."""


class Closed(Exception):
    """The server is shutting down: nothing is probed any more."""


class Probes:
    """See the module. `idle`: seconds after which an unused spare ends."""

    def __init__(self, on_state: Callable[[str], None] | None = None, *, idle: float = 600.0) -> None:
        self._on_state = on_state
        self._idle = idle
        self.state = "none"

    async def run(
        self,
        request: ProbeRequest,
        on_phase: Callable[[str], None] | None = None,
        on_output: Callable[[str], None] | None = None,
    ) -> ProbeResult:
        """Runs one program; an earlier one that still runs is cancelled."""
        return await asyncio.to_thread(probe.run, request)

    async def rest(self) -> None:
        """Ends the program that runs, if one does, and the spare; `run` works afterwards."""

    async def close(self) -> None:
        """Ends everything, for good."""
