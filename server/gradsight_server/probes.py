"""Probes for an event loop: one at a time, with phases, cancellation, and a spare process that waits warm.

    probes = Probes(on_state=print)  # starts nothing
    result = await probes.run(request, on_phase, on_output)
    await probes.rest()  # trust is gone, or other settings: no process is left
    await probes.close()  # the same, for good

`run` returns what `probe.run` returns, and never raises for what the program does. It raises `Replaced` if a
newer `run` took its place, `Closed` if `rest` or `close` ended it or came before (the text of each is a
sentence for the user), and `asyncio.CancelledError` if its task is cancelled, in any phase; in each of these
cases no process and no folder of that run is left when it raises. (When it returns, its process may be dying
still.) `on_phase` gets one of `PHASES`, `on_output` pieces of the program's own output; both are called on
the event loop, and never after `run` has ended. `state` is one of `STATES`; `on_state` is called on the event
loop whenever it changes.

Invariants: the event loop is never blocked; at most one program runs, and at most one spare waits; nothing is
started before the first `run`; a spare never runs two programs, and serves only the same interpreter,
environment, directory and kind of device; when this process dies, so do all that it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from gradsight_server import probe
from gradsight_server.child import PHASES, START_LIMIT, Alarm, Child, Stopped
from gradsight_server.probe import ProbeRequest, ProbeResult

__all__ = ["PHASES", "STATES", "Closed", "Probes", "Replaced"]

STATES = ("none", "starting", "running", "warming", "ready")
IDLE = 600.0  # seconds after which an unused spare ends

T = TypeVar("T")


class Replaced(Exception):
    """A newer probe took this one's place."""


class Closed(Exception):
    """The probe was stopped by `rest`, or nothing is probed any more after `close`."""


class Probes:
    """See the module. Made and used on one event loop."""

    def __init__(self, on_state: Callable[[str], None] | None = None, *, idle: float = IDLE) -> None:
        self._on_state = on_state
        self._idle = idle
        self._state = "none"
        self._closed = False
        self._newest = 0
        self._running: _Run | None = None
        self._spare: _Spare | None = None
        self._endings: set[asyncio.Future[None]] = set()

    @property
    def state(self) -> str:
        """What the user's machine does for probes: one of `STATES`."""
        return self._state

    async def run(
        self,
        request: ProbeRequest,
        on_phase: Callable[[str], None] | None = None,
        on_output: Callable[[str], None] | None = None,
    ) -> ProbeResult:
        """Runs one program; an earlier one that still runs is stopped, and its `run` raises `Replaced`."""
        self._newest += 1
        number = self._newest
        while self._running is not None:
            self._running.stop(Replaced("a newer probe took its place"))
            await self._running.ended.wait()
            if number != self._newest and not self._closed:
                raise Replaced("a newer probe took its place")
        if self._closed:
            raise Closed("the server is shutting down")
        request = dataclasses.replace(request, hurry=True)
        run = self._running = _Run(on_phase, on_output, self._set_state)
        result: ProbeResult | None = None
        try:
            result = await self._attend(run, request)
            return result
        finally:
            run.over = True
            self._running = None
            run.ended.set()
            if run.kept is not None:
                self._end(run.kept.end)
            if not self._closed and run.saw_torch and not isinstance(run.reason, Closed):
                self._start_spare(request)
            else:
                if result is not None and result.problem is not None:
                    self._drop_spare()
                self._settle()

    async def rest(self) -> None:
        """Ends the program that runs, if one does, and the spare; `run` works afterwards."""
        self._newest += 1  # who waits for its turn waits in vain
        run = self._running
        if run is not None:
            run.stop(Closed("the probe was stopped"))
        self._drop_spare()
        if run is not None:
            await run.ended.wait()
        while self._endings:
            await asyncio.wait(set(self._endings))

    async def close(self) -> None:
        """Ends everything, for good."""
        self._closed = True
        await self.rest()

    async def _attend(self, run: _Run, request: ProbeRequest) -> ProbeResult:
        spare = self._take_spare(request)

        def work() -> ProbeResult:
            child = spare.child() if spare is not None else None
            return probe.run(
                request,
                run.tell_output,
                phase=run.tell_phase,
                alarm=run.alarm,
                spare=child,
                later=run.keep,
            )

        self._set_state("starting")
        thread = _in_thread(work)
        try:
            return await asyncio.shield(thread)
        except Stopped:
            raise (run.reason or Closed("the probe was stopped")) from None
        except asyncio.CancelledError:
            run.alarm.stop()
            await _through(thread)
            thread.exception()  # it is of no interest any more
            if run.kept is not None:
                await _through(_in_thread(run.kept.end))
                run.kept = None
            raise

    # -- the spare ------------------------------------------------------------------------------------

    def _start_spare(self, request: ProbeRequest) -> None:
        self._drop_spare()
        spare = self._spare = _Spare(request, self._spare_told)
        spare.timer = asyncio.get_running_loop().call_later(START_LIMIT, self._drop_spare, spare)
        self._settle()

    def _spare_told(self, spare: _Spare) -> None:
        """It is warm, or at an end."""
        if spare is not self._spare:
            return
        if spare.failed():
            self._drop_spare(spare)
        elif spare.is_warm() and not spare.ready:
            spare.ready = True
            spare.cancel_timer()
            spare.timer = asyncio.get_running_loop().call_later(self._idle, self._drop_spare, spare)
            self._settle()

    def _take_spare(self, request: ProbeRequest) -> _Spare | None:
        spare = self._spare
        if spare is None:
            return None
        if spare.key != _key(request):
            self._drop_spare()
            return None
        self._spare = None
        spare.cancel_timer()
        return spare

    def _drop_spare(self, spare: _Spare | None = None) -> None:
        """Ends the spare (if it still is `spare`) in the background."""
        if self._spare is None or (spare is not None and spare is not self._spare):
            return
        dropped, self._spare = self._spare, None
        dropped.cancel_timer()
        self._end(dropped.end)
        self._settle()

    def _end(self, end: Callable[[], None]) -> None:
        """Ends a process in the background; `rest` and `close` wait for it."""
        ending = _in_thread(end)
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    def _settle(self) -> None:
        """The state while no program runs."""
        if self._running is None:
            self._set_state("none" if self._spare is None else "ready" if self._spare.ready else "warming")

    def _set_state(self, state: str) -> None:
        if state != self._state:
            self._state = state
            if self._on_state is not None:
                self._on_state(state)


class _Run:
    """What one `run` shares with its thread."""

    def __init__(
        self,
        on_phase: Callable[[str], None] | None,
        on_output: Callable[[str], None] | None,
        set_state: Callable[[str], None],
    ) -> None:
        self.alarm = Alarm()
        self.ended = asyncio.Event()
        self.over = False  # nothing more is told
        self.saw_torch = False
        self.reason: Exception | None = None
        self.kept: Child | None = None  # its process, which has told all
        self._loop = asyncio.get_running_loop()
        self._on_phase = on_phase
        self._on_output = on_output
        self._set_state = set_state

    def stop(self, reason: Exception) -> None:
        if self.reason is None or isinstance(reason, Closed):  # after which no spare may start
            self.reason = reason
        self.alarm.stop()

    def keep(self, child: Child) -> None:
        self.kept = child

    def tell_phase(self, phase: str) -> None:
        self._tell(self._phase, phase)

    def tell_output(self, text: str) -> None:
        if self._on_output is not None:
            self._tell(self._on_output, text)

    def _phase(self, phase: str) -> None:
        if phase in ("running", "reporting"):
            self.saw_torch = True
            self._set_state("running")
        if self._on_phase is not None:
            self._on_phase(phase)

    def _tell(self, listener: Callable[[str], None], text: str) -> None:
        def tell() -> None:
            if not self.over:
                listener(text)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(tell)


class _Spare:
    """A process that was started for requests like one that was answered. Starting it happens in a thread."""

    def __init__(self, request: ProbeRequest, told: Callable[[_Spare], None]) -> None:
        self.key = _key(request)
        self.ready = False
        self.timer: asyncio.TimerHandle | None = None
        self._bell = _Bell(asyncio.get_running_loop(), lambda: told(self))
        self._child: Child | None = None
        self._started = threading.Event()
        threading.Thread(target=self._start, args=(request,), daemon=True).start()

    def _start(self, request: ProbeRequest) -> None:
        try:
            with contextlib.suppress(OSError):
                self._child = Child(request, self._bell, spare=True)
        finally:
            self._started.set()
            self._bell.ring()

    def child(self) -> Child | None:
        """Waits until the process is started. Not for the event loop."""
        self._started.wait()
        return self._child

    def is_warm(self) -> bool:
        return self._child is not None and self._child.told.installed is not None

    def failed(self) -> bool:
        """Whether it could not be started, or has come to its end."""
        if not self._started.is_set():
            return False
        return self._child is None or self._child.told.done or self._child.told.problem is not None

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def end(self) -> None:
        child = self.child()
        if child is not None:
            child.end()


class _Bell(Alarm):
    """An alarm that is heard on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, heard: Callable[[], None]) -> None:
        super().__init__()
        self._loop = loop
        self._heard = heard

    def ring(self) -> None:
        super().ring()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._heard)


def _key(request: ProbeRequest) -> tuple[Any, ...]:
    """What a spare must have been started with."""
    environment = os.environ if request.environment is None else request.environment
    directory = os.path.abspath(request.directory or os.curdir)
    python = shutil.which(request.python) or request.python
    return python, directory, request.device == "cpu", tuple(sorted(environment.items()))


def _in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """The result of `work`, which runs in a thread of its own: a daemon, for a program that hangs must not
    keep this process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def body() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=body, name="gradsight-probe", daemon=True).start()
    return future


async def _through(future: asyncio.Future[Any]) -> None:
    """Waits for a future, whoever cancels meanwhile."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({future})
