"""Runs a program under autograd's eyes, in a process of its own: spawn, feed, read, kill.

Invariants: torch is never imported here, nor is the language server's protocol; the user's code runs only in
the child, started with `-c` so that no folder of ours is on its path; whatever the child does (loops, exits,
closes its descriptors, forks), `run` returns, and kills every process that came of it. Nothing is raised for
what the user's program does: the result says it.
"""

from __future__ import annotations

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gradsight import slicing

PROBE = Path(__file__).resolve().parent.parent / "gradsight_probe"
PARAMETER = ("name", "gradient", "at_last_step", "norm", "shape", "optimizer")  # as published
DEVICES = ("auto", "cuda", "mps", "cpu")
START_LIMIT = 180.0  # seconds until torch is imported: minutes on a cold, busy disk
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


@dataclass(frozen=True)
class ProbeRequest:
    """What to run, and how. `text` is the program with the rows of `filename`; see `request`."""

    filename: str  # absolute
    text: str
    rows: tuple[int, int] | None = None  # of `filename`, 1-based, both included: what `lines` shows
    call: str | None = None  # a function to call after the file has been executed
    python: str = "python3"
    device: str = "auto"
    timeout: float = 60.0  # seconds for the program itself, after torch is imported
    allow_writes: bool = False
    output_limit: int = 100_000  # bytes of the program's own output
    argv: tuple[str, ...] = ()
    directory: str | None = None  # the program's working directory; None: this process's
    environment: Mapping[str, str] | None = None  # None: this process's


@dataclass(frozen=True)
class ProbeResult:
    """What autograd did. `to_json` gives the published form."""

    exit_code: int  # 0 it ran, 1 the program raised or did not end, 2 misuse or no torch
    problem: str | None = None  # why it could not run at all, and what to do (exit code 2)
    device: str | None = None
    torch: str | None = None
    loss: float | None = None
    parameters: tuple[dict[str, Any], ...] = ()
    steps: tuple[dict[str, Any], ...] = ()
    asked: int = 0  # how often a gradient was asked for, in vain too
    steps_taken: int = 0  # `steps` holds the first and the last hundred of them
    lines: tuple[dict[str, Any], ...] = ()
    error: dict[str, Any] | None = None
    output: str = ""  # the program's own, up to the limit
    notes: tuple[str, ...] = ()  # for people: what was stopped, cut or left out
    faults: tuple[str, ...] = ()  # mistakes of the probe itself that it survived
    seconds: float = field(default=0.0, compare=False)


def run(request: ProbeRequest, output: Callable[[str], None] | None = None) -> ProbeResult:
    """Runs the probe and waits for it. `output` receives the program's own output as it comes.

    Never raises for what the request or the program does; KeyboardInterrupt passes through after the child
    and all that came of it have been killed.
    """
    began = time.monotonic()
    problem = _misuse(request)
    if problem is not None:
        return ProbeResult(2, problem)
    folder = tempfile.mkdtemp(prefix="gradsight-probe-")
    token = secrets.token_hex(16)
    try:
        with _events() as events:
            try:
                child = _start(request, folder, token, events)
            except OSError as error:
                return ProbeResult(2, _cannot_start(request.python, error))
            return _attend(child, request, folder, token, events, output, began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def request(
    path: str | os.PathLike[str],
    *,
    rows: tuple[int, int] | None = None,
    call: str | None = None,
    **options: Any,
) -> ProbeRequest:
    """The request for a file, some rows of it, or a function of it; `options` as in `ProbeRequest`.

    Raises OSError if the file cannot be read, `slicing.SelectionError` if what is asked for cannot be
    selected (its message says what to do), UnicodeError or SyntaxError if the file is no Python text.
    """
    import tokenize

    with tokenize.open(path) as file:
        text = file.read()
    return request_of(text, path, rows=rows, call=call, **options)


def request_of(
    text: str,
    path: str | os.PathLike[str],
    *,
    rows: tuple[int, int] | None = None,
    call: str | None = None,
    **options: Any,
) -> ProbeRequest:
    """The request for a text that may not be saved yet, as if `path` held it.

    Raises `slicing.SelectionError` as `request` does.
    """
    program = slicing.select(text, rows=rows, call=call)
    return ProbeRequest(
        filename=os.path.abspath(path), text=program.text, rows=program.rows, call=program.call, **options
    )


def to_json(result: ProbeResult) -> dict[str, Any]:
    """The published form (`gradsight probe --output-format json`), ready for `json.dumps`.

    Where the probe could not run at all, `error` has the type "Misuse" and the message says what to do.
    """
    error = result.error
    if error is None and result.problem is not None:
        error = {"type": "Misuse", "message": result.problem, "row": None, "explanation": None}
    return {
        "device": result.device,
        "torch": result.torch,
        "loss": result.loss,
        "parameters": [{key: item[key] for key in PARAMETER} for item in result.parameters],
        "steps": list(result.steps),
        "lines": list(result.lines),
        "error": error,
    }


# -- before the child runs ------------------------------------------------------------------------------


def _misuse(request: ProbeRequest) -> str | None:
    if request.device not in DEVICES:
        return f"no device `{request.device}`: choose one of {', '.join(DEVICES)}"
    if request.timeout <= 0:
        return f"the time limit must be above 0 seconds, not {request.timeout:g}"
    if shutil.which(request.python) is None:
        return _cannot_start(request.python, FileNotFoundError())
    return None


def _cannot_start(python: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"no interpreter `{python}`: name one that has torch with --python"
    return f"`{python}` cannot be started ({error.strerror or error}): name an interpreter with --python"


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


@contextlib.contextmanager
def _events() -> Iterator[_Pipe | _Port]:
    channel: _Pipe | _Port = _Port() if os.name == "nt" else _Pipe()
    try:
        yield channel
    finally:
        channel.close()


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


def to_wire(request: ProbeRequest, folder: str) -> dict[str, Any]:
    """What the child reads; `folder` is the one that it may write to."""
    return {
        "filename": request.filename,
        "text": request.text,
        "rows": request.rows,
        "call": request.call,
        "device": request.device,
        "timeout": request.timeout,
        "allow_writes": request.allow_writes,
        "argv": request.argv,
        "folder": folder,
    }


def _start(request: ProbeRequest, folder: str, token: str, events: _Pipe | _Port) -> subprocess.Popen[bytes]:
    described = os.path.join(folder, "request.json")
    with open(described, "w", encoding="utf-8", errors="surrogatepass") as file:
        json.dump(to_wire(request, folder), file)
    python = shutil.which(request.python) or request.python
    command = [python, "-c", BOOT, str(PROBE), described, events.address]
    options: dict[str, Any] = {}
    if os.name == "nt":
        options["creationflags"] = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    else:
        options["start_new_session"] = True
        options["pass_fds"] = events.inherited
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=request.directory,
        env=_environment(request, folder, token),
        **options,
    )
    events.started()
    return child


# -- while it runs --------------------------------------------------------------------------------------


class Output:
    """The program's own output, up to the limit; the rest is read and dropped, so that it never waits."""

    def __init__(self, limit: int, show: Callable[[str], None] | None) -> None:
        self._limit = limit
        self._show = show
        self._pieces: list[str] = []
        self._taken = 0
        self.dropped = 0

    def read(self, stream: IO[bytes]) -> None:
        import codecs

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


class Told:
    """What the child has told so far."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.done = threading.Event()
        self.torch: str | None = None
        self.device: str | None = None
        self.problem: str | None = None
        self.report: dict[str, Any] | None = None
        self.steps: list[dict[str, Any]] = []

    def read(self, lines: Iterator[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in lines:
                self.take(line)
        self.ready.set()
        self.done.set()

    def take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind = event.pop("event")
        except (ValueError, KeyError, AttributeError, TypeError):
            return  # half a line: the child was killed while it wrote
        if kind == "ready":
            self.torch, self.device = event["torch"], event["device"]
            self.ready.set()
        elif kind == "step":
            self.steps.append(event)
        elif kind == "problem":
            self.problem = event["message"]
        elif kind == "report":
            self.report = event
            self.done.set()


def _attend(
    child: subprocess.Popen[bytes],
    request: ProbeRequest,
    folder: str,
    token: str,
    events: _Pipe | _Port,
    show: Callable[[str], None] | None,
    began: float,
) -> ProbeResult:
    told = Told()
    output = Output(request.output_limit, show)
    assert child.stdout is not None
    threads = [
        threading.Thread(target=told.read, args=(events.lines(),), daemon=True),
        threading.Thread(target=_quietly, args=(output.read, child.stdout), daemon=True),
    ]
    for thread in threads:
        thread.start()
    killed: str | None = None
    try:
        killed = _wait(child, told, request)
    finally:
        kill_all(child, token)
    for thread in threads:
        thread.join(timeout=5.0)
    overflow = os.path.join(folder, "events.jsonl")
    if os.path.exists(overflow):
        with open(overflow, "rb") as rest:
            for line in rest:
                told.take(line)
    return to_result(child.returncode, request, told, output, killed, time.monotonic() - began)


def _quietly(read: Callable[[IO[bytes]], None], stream: IO[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        read(stream)


def _wait(child: subprocess.Popen[bytes], told: Told, request: ProbeRequest) -> str | None:
    """Waits for the end of the child; says at which of its limits it must be killed, or None."""
    start_end = time.monotonic() + START_LIMIT
    while child.poll() is None and not told.ready.wait(0.05):
        if time.monotonic() > start_end:
            return "start"
    end = time.monotonic() + request.timeout + GRACE
    while child.poll() is None:
        if time.monotonic() > end:
            return "time"
        if told.report is not None:
            # It has told everything; what is left are its exit handlers and threads.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=GRACE)
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.05)
    return None


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


# -- after ----------------------------------------------------------------------------------------------


def to_result(
    status: int,
    request: ProbeRequest,
    told: Told,
    output: Output,
    killed: str | None,
    seconds: float,
) -> ProbeResult:
    notes: list[str] = []
    if output.dropped:
        notes.append(
            f"the program's output was cut after {request.output_limit} bytes ({output.dropped} more)"
        )
    common: dict[str, Any] = {"torch": told.torch, "output": output.text, "seconds": seconds}
    if told.problem is not None:
        return ProbeResult(2, told.problem, notes=tuple(notes), **common)
    report = told.report
    if report is None and told.torch is None:
        return ProbeResult(2, _no_start(status, request, output, killed), notes=tuple(notes), **common)
    if report is None:
        report = {"error": _no_report(status, request, killed)}
    if report.get("problem"):
        return ProbeResult(2, report["problem"], notes=tuple(notes), **common)
    error = report.get("error")
    for stopped in report.get("stopped", ()):
        if error is None or stopped != error["message"]:
            notes.append(stopped)
    notes += report.get("hints", ())
    steps = [*told.steps, *report.get("last_steps", ())]
    taken = report.get("steps_taken", len(steps))
    if taken > len(steps):
        notes.append(
            f"{taken} backward passes; the steps between the first and the last hundred are left out"
        )
    return ProbeResult(
        exit_code=0 if error is None else 1,
        device=report.get("device") or told.device,
        loss=report.get("loss"),
        parameters=tuple(report.get("parameters", ())) or _last_known(steps),
        steps=tuple(steps),
        asked=max(report.get("asked", 0), taken),
        steps_taken=taken,
        lines=tuple(report.get("lines", ())),
        error=error,
        notes=tuple(notes),
        faults=tuple(report.get("faults", ())),
        **common,
    )


def _last_known(steps: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The parameters as the last backward left them, if the child could not tell more."""
    if not steps:
        return ()
    return tuple(
        {
            "name": item["name"],
            "gradient": item["gradient"],
            "at_last_step": item["gradient"],
            "norm": item["norm"],
            "shape": None,
            "optimizer": None,
            "frozen": False,
            "made": [],
        }
        for item in steps[-1]["parameters"]
    )


def _no_start(status: int, request: ProbeRequest, output: Output, killed: str | None) -> str:
    if killed == "start":
        return f"`{request.python}` did not import torch within {START_LIMIT:g} s"
    said = output.text.strip().splitlines()
    last = f": {said[-1]}" if said else ""
    return (
        f"`{request.python}` cannot run the probe (exit status {status}){last}. "
        "Name a Python 3.8 or newer that has torch with --python"
    )


def _no_report(status: int, request: ProbeRequest, killed: str | None) -> dict[str, Any]:
    if killed == "time":
        kind = "TimeLimit"
        message = f"still running after {request.timeout:g} s and did not answer: killed by the probe"
        explanation = "Raise the limit with --timeout, or select fewer rows."
    elif status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        kind, message = name, f"the program's process was ended by {name}"
        explanation = (
            "Often too little memory (SIGKILL) or a fault in native code (SIGSEGV): try a smaller batch, "
            "or select fewer rows."
        )
    else:
        kind = "ProcessExit"
        message = f"the program's process ended with status {status} before its last row"
        explanation = (
            "It was left in native code or by a signal handler: only the steps until then are known."
        )
    return {"type": kind, "message": message, "row": None, "explanation": explanation}
