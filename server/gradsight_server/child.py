"""One process of the probe: started, fed, listened to and killed, with all that came of it.

Invariants: the program's code runs only there, started with `-c` so that no folder of ours is on its path;
whatever it does (loops, exits, closes its descriptors, forks), waiting for it ends, and `Child.end` leaves no
process and no folder.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradsight_server.probe import ProbeRequest

PROBE = Path(__file__).resolve().parent.parent / "gradsight_probe"
PHASES = ("starting", "importing torch", "running", "reporting")
START_LIMIT = 180.0  # seconds until torch is imported: minutes on a cold, busy disk
ANSWER_LIMIT = 5.0  # seconds until a spare that is warm takes its request: else it was stopped or swapped out
GRACE = 10.0  # seconds between the child's own time limit and the kill
TOKEN = "GRADSIGHT_PROBE_TOKEN"

# Loads the package by its path under its own name; the working directory, which `-c` puts first on the path,
# goes.
BOOT = """\
import sys
if sys.path and sys.path[0] == '': del sys.path[0]
import importlib.util as u
d = sys.argv[1]
s = u.spec_from_file_location('gradsight_probe', d + '/__init__.py', submodule_search_locations=[d])
m = u.module_from_spec(s); sys.modules['gradsight_probe'] = m; s.loader.exec_module(m); m.main(sys.argv[2:])
"""


class Stopped(Exception):
    """Whoever started the probe did not want it any more."""


class Alarm:
    """Wakes whoever attends a child: it has told something, or it shall be stopped."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.stopped = False

    def ring(self) -> None:
        self._event.set()

    def stop(self) -> None:
        self.stopped = True
        self._event.set()

    def wait(self, seconds: float) -> None:
        self._event.wait(seconds)
        self._event.clear()


class Child:
    """One process of the probe and all that belongs to it: a folder, descriptors, threads that read them.

    Started for a request, or as a spare that is warmed for any like request and `take`s one. Raises OSError
    if it cannot be started. Whoever made it calls `end`, which may be called again.
    """

    def __init__(
        self,
        request: ProbeRequest,
        alarm: Alarm,
        output: Callable[[str], None] | None = None,
        phase: Callable[[str], None] | None = None,
        *,
        spare: bool = False,
    ) -> None:
        self._token = secrets.token_hex(16)
        self._ended = False
        self._ending = threading.Lock()
        self._folder = tempfile.mkdtemp(prefix="gradsight-probe-")
        self._events: _Pipe | _Port = _Port() if os.name == "nt" else _Pipe()
        self.told = Told(alarm, phase)
        self.output = Output(request.output_limit, output)
        try:
            if not spare:
                self._write(request)
            self._process = self._start(request, spare)
        except BaseException:
            self._events.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        assert self._process.stdout is not None
        self._threads = [
            threading.Thread(target=self.told.read, args=(self._events.lines(),), daemon=True),
            threading.Thread(target=_quietly, args=(self.output.read, self._process.stdout), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, request: ProbeRequest) -> None:
        described = os.path.join(self._folder, "request.json")
        with open(described, "w", encoding="utf-8", errors="surrogatepass") as file:
            json.dump(to_wire(request, self._folder), file)

    def _start(self, request: ProbeRequest, spare: bool) -> subprocess.Popen[bytes]:
        python = shutil.which(request.python) or request.python
        command = [python, "-c", BOOT, str(PROBE), self._folder, self._events.address]
        options: dict[str, Any] = {}
        if os.name == "nt":
            flags = ("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW")
            options["creationflags"] = sum(getattr(subprocess, flag, 0) for flag in flags)
        else:
            options["start_new_session"] = True
            options["pass_fds"] = self._events.inherited
        process = subprocess.Popen(
            [*command, "spare"] if spare else command,
            stdin=subprocess.PIPE if spare else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=request.directory,
            env=_environment(request, self._folder, self._token),
            **options,
        )
        self._events.started()
        return process

    def take(
        self,
        request: ProbeRequest,
        alarm: Alarm,
        output: Callable[[str], None] | None,
        phase: Callable[[str], None],
    ) -> bool:
        """Hands a request to a spare. False if it is not fit for one: then no line of the program has run."""
        self.told.alarm, self.told.phase = alarm, phase
        self.output.show_to(request.output_limit, output)
        if self.told.installed is None:
            phase("importing torch")
        end = time.monotonic() + START_LIMIT
        try:
            self._write(request)
            assert self._process.stdin is not None
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            return False
        answer_end = 0.0
        while not self.told.taken:
            if alarm.stopped:
                raise Stopped
            if self.told.done or self._process.poll() is not None or time.monotonic() > end:
                return False
            if self.told.installed is not None:
                answer_end = answer_end or time.monotonic() + ANSWER_LIMIT
                if not _as_installed(self.told.installed) or time.monotonic() > answer_end:
                    return False
            alarm.wait(0.05)
        return True

    def attend(self, request: ProbeRequest) -> str | None:
        """Waits for the end of the program; says at which of its limits it must be killed, or None.

        The end of a program in a hurry that may not write is its report: its process may still live.
        Raises `Stopped` if the alarm says so.
        """
        told, alarm, process = self.told, self.told.alarm, self._process
        end = time.monotonic() + START_LIMIT
        started = False
        while process.poll() is None:
            if alarm.stopped:
                raise Stopped
            if told.report is not None or told.problem is not None:
                if told.report is not None and request.hurry and not request.allow_writes:
                    self._threads[1].join(timeout=0.2)  # its output has ended, if no child of it holds it
                    return None
                # It has told everything; what is left are its exit handlers and threads.
                rest = time.monotonic() + GRACE
                while process.poll() is None and time.monotonic() < rest and not alarm.stopped:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=0.1)
                return None
            if not started and told.torch is not None:
                started, end = True, time.monotonic() + request.timeout + GRACE
            if time.monotonic() > end:
                return "time" if started else "start"
            alarm.wait(0.05)
        return None

    def end(self) -> None:
        """Kills the process and all that came of it, and removes its folder, after the last words were
        read."""
        with self._ending:
            if self._ended:
                return
            kill_all(self._process, self._token)
            self._ended = True  # only now: what interrupts the hunt is followed by another
            for thread in self._threads:
                thread.join(timeout=5.0)
            overflow = os.path.join(self._folder, "events.jsonl")
            if os.path.exists(overflow):
                with open(overflow, "rb") as rest:
                    for line in rest:
                        self.told.take(line)
            self._events.close()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError, ValueError):
                        stream.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def status(self) -> int:
        """What the process ended with; 0 while it lives."""
        return self._process.returncode or 0


class Told:
    """What the child has told so far."""

    def __init__(self, alarm: Alarm | None = None, phase: Callable[[str], None] | None = None) -> None:
        self.alarm = alarm or Alarm()
        self.phase = phase or (lambda name: None)
        self.done = False  # no more will come
        self.installed: list[list[Any]] | None = None  # of a spare that is warm
        self.taken = False  # a spare has got its request
        self.torch: str | None = None
        self.device: str | None = None
        self.problem: str | None = None
        self.report: dict[str, Any] | None = None
        self.steps: list[dict[str, Any]] = []

    def read(self, lines: Iterator[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in lines:
                self.take(line)
        self.done = True
        self.alarm.ring()

    def take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind = event.pop("event")
        except (ValueError, KeyError, AttributeError, TypeError):
            return  # half a line: the child was killed while it wrote
        if kind == "step":
            self.steps.append(event)
            return
        if kind == "started":
            self.phase("importing torch")
        elif kind == "warm":
            self.installed = event["installed"]
        elif kind == "taken":
            self.taken = True
        elif kind == "ready":
            self.torch, self.device = event["torch"], event["device"]
            self.phase("running")
        elif kind == "reporting":
            self.phase("reporting")
        elif kind == "problem":
            self.problem = event["message"]
        elif kind == "report":
            self.report = event
        self.alarm.ring()


class Output:
    """The program's own output, up to the limit; the rest is read and dropped, so that it never waits."""

    def __init__(self, limit: int, show: Callable[[str], None] | None) -> None:
        self._limit = limit
        self._show = show
        self._pieces: list[str] = []
        self._taken = 0
        self.dropped = 0

    def show_to(self, limit: int, show: Callable[[str], None] | None) -> None:
        """From now on; what was read before, while a spare was warmed, is shown first."""
        if show is not None and self._pieces:
            show(self.text)
        self._limit, self._show = limit, show

    def read(self, stream: IO[bytes]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while chunk := os.read(stream.fileno(), 65536):
            room = self._limit - self._taken
            kept = chunk[: max(room, 0)]
            self.dropped += len(chunk) - len(kept)
            self._taken += len(kept)
            if kept:
                text = decoder.decode(kept)
                self._pieces.append(text)
                if self._show is not None:
                    self._show(text)

    @property
    def text(self) -> str:
        return "".join(self._pieces)


def _as_installed(places: list[list[Any]]) -> bool:
    """Whether nothing was installed, upgraded or removed since a spare loaded its torch."""
    with contextlib.suppress(OSError):
        return all(os.stat(place).st_mtime_ns == changed for place, changed in places)
    return False


def _quietly(read: Callable[[IO[bytes]], None], stream: IO[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        read(stream)


def kill_all(child: subprocess.Popen[bytes], token: str) -> None:
    """Kills the child, its group, and (where the system lets us see them) all that carry its token."""
    if os.name == "nt":
        if child.poll() is None:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(child.pid)], capture_output=True, check=False)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    if child.poll() is None:
        with contextlib.suppress(OSError):
            child.kill()
    child.wait()
    for _ in range(50):  # what forks while it is hunted is caught on the next round
        left = _marked(token)
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        time.sleep(0.01)


def _marked(token: str) -> list[int]:
    """Processes whose environment carries the token: those that left the group by a session of their own."""
    if not sys.platform.startswith("linux"):
        return []
    found = []
    wanted = f"{TOKEN}={token}".encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    marked = wanted in file.read().split(b"\0")
                with open(f"/proc/{entry}/stat", "rb") as file:
                    state = file.read().rpartition(b")")[2].split()[0]
            except OSError:
                continue
            if marked and state != b"Z":
                found.append(int(entry))
    return found


# -- before it runs --------------------------------------------------------------------------------------


def to_wire(request: ProbeRequest, folder: str) -> dict[str, Any]:
    """What the child reads; `folder` is the one that it may write to."""
    return {
        "filename": request.filename,
        "text": request.text,
        "rows": request.rows,
        "call": request.call,
        "check": request.check,
        "device": request.device,
        "timeout": request.timeout,
        "allow_writes": request.allow_writes,
        "argv": request.argv,
        "directory": request.directory,
        "hurry": request.hurry and not request.allow_writes,
        "folder": folder,
    }


class _Pipe:
    """Events over an inherited descriptor."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        self.address = f"fd:{self._writer}"
        self.inherited = (self._writer,)

    def started(self) -> None:
        os.close(self._writer)
        self._writer = -1

    def lines(self) -> Iterator[bytes]:
        with os.fdopen(self.reader, "rb", closefd=False) as stream:
            yield from stream

    def close(self) -> None:
        for descriptor in (self.reader, self._writer):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)


class _Port:
    """Events over a local socket, where descriptors are not inherited (Windows)."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(16)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(1.0)
        self._closed = False
        self.address = f"port:{self._server.getsockname()[1]}:{self._token}"
        self.inherited: tuple[int, ...] = ()

    def started(self) -> None:
        pass

    def lines(self) -> Iterator[bytes]:
        while not self._closed:
            try:
                connection, _ = self._server.accept()
            except (TimeoutError, OSError):
                continue
            with connection, connection.makefile("rb") as stream:
                if stream.readline().strip() != self._token.encode():
                    continue  # somebody else
                with contextlib.suppress(OSError):
                    yield from stream
                return

    def close(self) -> None:
        self._closed = True
        self._server.close()


def _environment(request: ProbeRequest, folder: str, token: str) -> dict[str, str]:
    scratch = os.path.join(folder, "tmp")
    os.mkdir(scratch)
    environment = dict(os.environ if request.environment is None else request.environment)
    environment[TOKEN] = token
    environment["TORCH_COMPILE_DISABLE"] = "1"  # eager: hooks and modes see every operation
    for name in ("TMPDIR", "TEMP", "TMP", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TRITON_CACHE_DIR"):
        environment[name] = scratch
    environment["TORCHINDUCTOR_CACHE_DIR"] = scratch
    environment["WANDB_MODE"] = "disabled"
    environment.setdefault("MPLBACKEND", "Agg")  # a window would wait for a click
    environment["PYTHONIOENCODING"] = "utf-8:replace"
    environment.pop("PYTHONSTARTUP", None)
    if request.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
        environment["HIP_VISIBLE_DEVICES"] = ""
    return environment
