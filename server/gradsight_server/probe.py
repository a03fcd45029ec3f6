"""Runs a program under autograd's eyes, in a process of its own: what is asked, and what came of it.

Invariants: torch is never imported here, nor is the language server's protocol; whatever the program does,
`run` returns, and no process is left. Nothing is raised for what the user's program does: the result says it.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradsight import slicing

from gradsight_server.child import PHASES, START_LIMIT, Alarm, Child, Output, Stopped, Told

__all__ = ["PHASES", "ProbeRequest", "ProbeResult", "Stopped", "request", "request_of", "run", "to_json"]

DEVICES = ("auto", "cuda", "mps", "cpu")
PARAMETER = ("name", "gradient", "at_last_step", "norm", "shape", "optimizer")  # as published


@dataclass(frozen=True)
class ProbeRequest:
    """What to run, and how. `text` is the program with the rows of `filename`; see `request`."""

    filename: str  # absolute
    text: str
    rows: tuple[int, int] | None = None  # of `filename`, 1-based, both included: what `lines` shows
    call: str | None = None  # a function to call after the file has been executed
    check: str | None = None  # a class of the file: its backward is compared with numerical derivatives
    python: str = "python3"
    device: str = "auto"
    timeout: float = 60.0  # seconds for the program itself, after torch is imported
    allow_writes: bool = False
    output_limit: int = 100_000  # bytes of the program's own output
    argv: tuple[str, ...] = ()
    directory: str | None = None  # the program's working directory; None: this process's
    environment: Mapping[str, str] | None = None  # None: this process's
    hurry: bool = False  # end once all is told; exit handlers run only if the program may write


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
    checked: dict[str, Any] | None = (
        None  # what came of `ProbeRequest.check`: see `gradsight_probe.numerical`
    )
    output: str = ""  # the program's own, up to the limit
    notes: tuple[str, ...] = ()  # for people: what was stopped, cut or left out
    faults: tuple[str, ...] = ()  # mistakes of the probe itself that it survived
    seconds: float = field(default=0.0, compare=False)


def run(
    request: ProbeRequest,
    output: Callable[[str], None] | None = None,
    *,
    phase: Callable[[str], None] | None = None,
    alarm: Alarm | None = None,
    spare: Child | None = None,
    later: Callable[[Child], None] | None = None,
) -> ProbeResult:
    """Runs the probe and waits for it. `output` receives the program's own output as it comes, `phase` each
    of `PHASES` as it begins; both may be called from other threads. A `spare` was started for a like request
    and is used up, if only by being found unfit. `later` gets the process of a program that has told all and
    must end it: whoever needs the result at once has it before.

    Never raises for what the request or the program does. `Stopped`, if `alarm` says so, and
    KeyboardInterrupt pass through after the child and all that came of it have been killed.
    """
    began = time.monotonic()
    alarm = alarm or Alarm()
    phase = phase or (lambda name: None)
    problem = _misuse(request)
    child = spare
    try:
        if problem is not None:
            return ProbeResult(2, problem)
        if child is not None and not child.take(request, alarm, output, phase):
            child.end()
            child = None
        if child is None:
            phase("starting")
            try:
                child = Child(request, alarm, output, phase)
            except OSError as error:
                return ProbeResult(2, _cannot_start(request.python, error))
        killed = child.attend(request)
        told, said = child.told, child.output
        if later is None or told.report is None:
            child.end()
        result = to_result(child.status, request, told, said, killed, time.monotonic() - began)
        if later is not None and told.report is not None:
            ended, child = child, None
            later(ended)
        return result
    finally:
        if child is not None:
            child.end()


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
    if request.directory is not None and not os.path.isdir(request.directory):
        return f"the working directory is gone: {request.directory}"
    return None


def _cannot_start(python: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"no interpreter `{python}`: name one that has torch with --python"
    return f"`{python}` cannot be started ({error.strerror or error}): name an interpreter with --python"


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
        checked=report.get("checked"),
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
