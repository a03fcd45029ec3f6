"""One probe: reads its request, runs the program, tells what autograd did.

Invariants: the program runs as `python FILE` would run it (its folder first on `sys.path`, `__main__`, its
own `argv`), stdin is empty, and whatever the program does (raises, exits, loops, closes descriptors) one
report with all that was seen until then is sent, unless the process itself is killed.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import importlib.machinery
import inspect
import json
import os
import shutil
import sys
import threading
import time
import types
from typing import Any

from .channel import Channel
from .explanations import explain

MESSAGE_LIMIT = 4000


def main(arguments: list[str]) -> None:
    """`arguments`: the folder with the request, the channel's address, and "spare" if the request will be in
    the folder only once "go" comes on standard input."""
    folder = arguments[0]
    channel = Channel(arguments[1], os.path.join(folder, "events.jsonl"))
    parent = os.getppid() if hasattr(os, "getppid") else None
    channel.send("started")
    started = time.time()
    if not _load_torch(channel):
        return
    if "spare" in arguments[2:] and not _become_spare(channel):
        shutil.rmtree(folder, ignore_errors=True)  # the starter is gone
        return
    with open(os.path.join(folder, "request.json"), encoding="utf-8") as file:
        request = json.load(file)
    if request["directory"] is not None:
        try:
            os.chdir(request["directory"])  # a spare's may have been made anew
        except OSError as error:
            channel.send("problem", kind="misuse", message=f"the working directory is gone: {error}")
            return
    Probe(request, channel, started, parent).run()


def _become_spare(channel: Channel) -> bool:
    """Waits, warmed, for a request; False if nobody will send one any more."""
    from . import warm

    installed = warm.installed()
    if not warm.is_wanted():
        try:
            warm.warm()
        except Exception as error:  # of this torch: it is loaded, which is most of what takes time
            channel.send("fault", message=f"{type(error).__name__}: {error}")
    channel.send("warm", installed=installed)
    if not warm.wait():
        return False
    importlib.invalidate_caches()
    channel.send("taken")
    return True


def _load_torch(channel: Channel) -> bool:
    try:
        import torch
    except ImportError as error:
        channel.send("problem", kind="no-torch", message=_no_torch(error))
        return False
    except Exception as error:
        channel.send("problem", kind="no-torch", message=f"import torch fails: {error}")
        return False
    if not hasattr(torch, "Tensor"):
        message = "`torch` is {}, not PyTorch: rename it".format(getattr(torch, "__path__", torch))
        channel.send("problem", kind="no-torch", message=message)
        return False
    return True


def _no_torch(error: ImportError) -> str:
    if getattr(error, "name", None) == "torch":
        return (
            f"{sys.executable} has no torch: install it there "
            f"(`{sys.executable} -m pip install torch`), or name an interpreter that has it "
            "with --python"
        )
    return f"import torch fails in {sys.executable}: {error}"


class Misuse(Exception):
    """The request cannot be carried out; its message says what to do."""


class Probe:
    """The state of one run. `request`: see `gradsight_server.probe`, which writes it."""

    def __init__(self, request: dict[str, Any], channel: Channel, started: float, parent: Any) -> None:
        from .guard import Guard
        from .record import Recorder
        from .rewrite import Site
        from .watch import Patches

        self.request = request
        self.channel = channel
        self.started = started
        self._parent = parent
        self.file: str = request["filename"]
        self.sites: list[Site] = []
        self.recorder = Recorder(self.sites)
        self.patches = Patches()
        self.steps: Any = None
        self.error: dict[str, Any] | None = None
        self.problem: str | None = None
        self.guard = Guard(request["folder"], self._place)
        self.hints: list[str] = []
        self._reported = threading.Lock()
        self._pid = os.getpid()
        self._main_thread = threading.get_ident()
        self._module = types.ModuleType("__main__")
        self._calls: Any = None  # of the autograd.Function that is to be checked
        self._checked: dict[str, Any] | None = None

    def run(self) -> None:
        import torch

        from .numerical import Enough

        try:
            device = self._choose_device()
        except Misuse as error:
            self.channel.send("problem", kind="misuse", message=str(error))
            return
        self._prepare()
        self.channel.send("ready", torch=torch.__version__, device=device, seconds=time.time() - self.started)
        if self.request["timeout"]:
            threading.Thread(target=self._watch_time, daemon=True).start()
        try:
            self._execute()
        except Enough:
            pass
        except Misuse as error:
            self.problem = str(error)
        except SystemExit as error:
            if error.code not in (None, 0):
                self._keep_error(error)
        except BaseException as error:
            self._keep_error(error)
        if self._calls is not None and os.getpid() == self._pid:
            self._check()
        self._finish()
        if os.getpid() != self._pid:
            os._exit(0)  # a forked child of the program: it has nothing to tell
        if self.request["hurry"]:
            if self._is_alone() or not self.channel.overflowed:
                self._clean()
            os._exit(0)  # of a program that may not write nothing is lost

    def _is_alone(self) -> bool:
        """Whether whoever started this process is gone."""
        return self._parent is not None and os.getppid() != self._parent

    def _clean(self) -> None:
        """Removes the folder, as the starter does if it lives."""
        self.guard.active = False
        shutil.rmtree(self.request["folder"], ignore_errors=True)

    # -- before ---------------------------------------------------------------------------------------

    def _choose_device(self) -> str:
        """`auto` and `cpu` leave the program's own choice alone (`cpu` has hidden the others before torch was
        loaded); `cuda` and `mps` must be there, and become the device of new tensors."""
        import torch

        wanted = self.request["device"]
        mps = getattr(torch.backends, "mps", None)
        has_mps = mps is not None and mps.is_available()
        if wanted == "cpu" and has_mps:
            self.patches.set(mps, "is_available", lambda: False)
        if wanted == "cuda" and not torch.cuda.is_available():
            raise Misuse(
                f"no CUDA device is usable from {sys.executable} (torch {torch.__version__}): "
                "use --device auto or cpu"
            )
        if wanted == "mps" and not has_mps:
            raise Misuse(f"no MPS device is usable from {sys.executable}: use --device auto or cpu")
        if wanted in ("cuda", "mps"):
            torch.set_default_device(wanted)
            self._shuffle_on_cpu()
            return str(wanted)
        if wanted == "auto":
            return "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
        return "cpu"

    def _shuffle_on_cpu(self) -> None:
        """Samplers make their generators on the CPU, whatever the default device."""
        import torch
        from torch.utils.data import RandomSampler

        original = RandomSampler.__iter__

        def iterate(sampler: Any) -> Any:
            with torch.device("cpu"):
                order = list(original(sampler))
            return iter(order)

        self.patches.set(RandomSampler, "__iter__", iterate)

    def _prepare(self) -> None:
        from . import rewrite, watch
        from .snapshot import Steps

        module = self._module
        call = self.request["call"]
        if call:
            name = os.path.splitext(os.path.basename(self.file))[0]
            module.__name__ = name if name not in sys.modules else "__gradsight_called__"
        module.__file__ = self.file
        module.__dict__["__builtins__"] = builtins
        sys.modules[module.__name__] = module
        sys.argv = [self.file, *list(self.request["argv"])]
        sys.path.insert(0, os.path.dirname(self.file))
        sys.dont_write_bytecode = True
        self.recorder.user_files.add(self.file)
        self.steps = Steps(self.recorder, module.__dict__, self.file, self.channel.send)
        setattr(builtins, rewrite.BIND, self.recorder.bind)
        setattr(builtins, rewrite.BIND_ALL, self.recorder.bind_all)
        setattr(builtins, rewrite.SINK, self.recorder.sink)
        watch.install(self.recorder, self.steps, self.patches)
        if self.request["check"]:
            from .numerical import Calls

            self._calls = Calls(self.request["check"], module.__name__, self.recorder)
            self._calls.install(self.patches)
        self._record_neighbours()
        self._keep_exit()
        self._keep_warnings()
        if not self.request["allow_writes"]:
            self.guard.install(self.patches)

    def _record_neighbours(self) -> None:
        """Modules that the program imports from its own folder are recorded too."""
        from . import rewrite

        loader = importlib.machinery.SourceFileLoader
        original = loader.get_code
        folder = os.path.realpath(os.path.dirname(self.file)) + os.sep
        recorder = self.recorder

        def get_code(self: Any, fullname: str) -> Any:
            path = os.path.realpath(self.get_filename(fullname))
            inner = path[len(folder) :] if path.startswith(folder) else None
            if inner is None or "site-packages" in inner or inner.startswith((".", "lib" + os.sep)):
                return original(self, fullname)
            try:
                code = rewrite.compile_recording(self.get_data(path), path, recorder.sites)
            except (SyntaxError, RecursionError):
                return original(self, fullname)
            recorder.user_files.add(path)
            return code

        self.patches.set(loader, "get_code", get_code) if "get_code" in loader.__dict__ else setattr(
            loader, "get_code", get_code
        )

    def _keep_exit(self) -> None:
        """`os._exit` would lose everything that was seen: tell it first."""
        original = os._exit

        def leave(code: int = 0) -> None:
            if os.getpid() == self._pid and threading.get_ident() == self._main_thread:
                place = self._place()
                message = f"the program ended its process by os._exit({code!r})"
                self.error = self._describe("os._exit", message, place[1] if place else None)
                self._finish()
            original(code)

        os._exit = leave  # type: ignore[assignment]

    def _keep_warnings(self) -> None:
        """Torch's warnings about gradients are explained like its errors."""
        import warnings

        original = warnings.showwarning
        ours = os.path.dirname(os.path.abspath(__file__)) + os.sep

        def show(message: Any, category: Any, filename: str, lineno: int, *rest: Any, **named: Any) -> None:
            text = str(message)
            if filename.startswith(ours):  # torch names the innermost row of Python, which is ours
                filename, lineno = self._place() or (filename, lineno)
            meaning = explain(category.__name__, text)
            if meaning is not None and len(self.hints) < 20:
                hint = f"{filename}:{lineno}: {category.__name__}: {meaning}"
                if hint not in self.hints:
                    self.hints.append(hint)
            original(message, category, filename, lineno, *rest, **named)

        self.patches.set(warnings, "showwarning", show)

    # -- the program ----------------------------------------------------------------------------------

    def _execute(self) -> None:
        from . import rewrite
        from .watch import Watch

        text = self.request["text"]
        try:
            code = rewrite.compile_recording(text, self.file, self.sites)
        except RecursionError:
            code = compile(text, self.file, "exec", dont_inherit=True)
        with Watch(self.recorder):
            exec(code, self._module.__dict__)
            if self.request["call"]:
                self._call(self.request["call"])

    def _call(self, name: str) -> None:
        value: Any = self._module
        for part in name.split("."):
            try:
                value = getattr(value, part)
            except AttributeError:
                raise Misuse(
                    f"{self.file} defines no `{name}` at its top level: "
                    "--call takes a function that the file defines"
                ) from None
        if not callable(value):
            raise Misuse(f"`{name}` is a {type(value).__name__}, not a function")
        try:
            inspect.signature(value).bind()
        except TypeError as error:
            raise Misuse(
                f"`{name}` needs arguments ({error}): "
                "--call runs a function without any; write one that calls it"
            ) from None
        except ValueError:
            pass  # no signature to be had: try
        value()

    # -- after ----------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Compares the gradients of the function that was asked for. Its code is the program's: what it
        writes is refused, and the time limit holds."""
        self.recorder.paused += 1
        self._checked = self._calls.outcome("time")  # until it is done
        try:
            self._checked = self._calls.check()
        except BaseException as error:  # `exit()` in a backward, say
            self._checked = self._calls.outcome(f"{type(error).__name__}: {error}"[:MESSAGE_LIMIT])

    def _place(self) -> tuple[str, int] | None:
        rows = self.recorder.user_rows(sys._getframe(1))
        return rows[0] if rows else None

    def _keep_error(self, error: BaseException) -> None:
        row = None
        if isinstance(error, SyntaxError) and error.filename == self.file:
            row = error.lineno
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.file:
                row = trace.tb_lineno
            trace = trace.tb_next
        try:
            message = str(error)
        except Exception:
            message = ""
        if isinstance(error, SyntaxError):
            message = error.msg
        self.error = self._describe(type(error).__name__, message, row)

    def _describe(self, kind: str, message: str, row: int | None) -> dict[str, Any]:
        explanation = explain(kind, message)
        return {"type": kind, "message": message[:MESSAGE_LIMIT], "row": row, "explanation": explanation}

    def _watch_time(self) -> None:
        """Ends the run at its time limit, or when whoever started it is gone."""
        end = time.monotonic() + self.request["timeout"]
        pause = threading.Event()
        while time.monotonic() < end:
            pause.wait(min(0.5, max(0.01, end - time.monotonic())))
            if self._is_alone():
                self._clean()
                self._leave(1)
        frame = sys._current_frames().get(self._main_thread)
        rows = self.recorder.user_rows(frame)
        row = self.steps.row_of(rows)
        message = "still running after {:g} s: stopped by the probe".format(self.request["timeout"])
        self.error = self._describe("TimeLimit", message, row)
        self._finish()
        self._leave(1)

    def _leave(self, code: int) -> None:
        import signal

        if hasattr(signal, "SIGKILL"):
            os.kill(os.getpid(), signal.SIGKILL)
        os.abort()

    def _finish(self) -> None:
        """Sends the report, once."""
        if os.getpid() != self._pid or not self._reported.acquire(blocking=False):
            return
        self.guard.active = False
        self.recorder.paused += 1
        self.channel.send("reporting")
        import torch

        with torch._C.DisableTorchFunction():
            try:
                data = self._report()
            except Exception as error:
                if os.environ.get("GRADSIGHT_PROBE_STRICT"):
                    raise
                data = {"error": self.error, "faults": [f"{type(error).__name__}: {error}"]}
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the program may have closed it
                stream.flush()
        if self.request["hurry"]:
            self._close_output()
        self.channel.send("report", problem=self.problem, **data)

    def _close_output(self) -> None:
        """Nothing more will be said: whoever reads need not wait until this process is gone."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)

    def _report(self) -> dict[str, Any]:
        from . import report

        rows = self.request["rows"]
        parameters = self.steps.parameters()
        lines = report.lines(self.recorder, self.file, tuple(rows) if rows else None)
        if self.error is not None:
            self._add_cut(self.error)
        devices = [device for device in self.steps.devices() if device != "cpu"]
        return {
            "device": devices[0] if devices else self.steps.device,
            "loss": self.steps.loss_value(),
            "parameters": parameters,
            "last_steps": list(self.steps.rest),
            "steps_taken": self.steps.count,
            "asked": self.recorder.sinks,
            "lines": lines,
            "error": self.error,
            "stopped": self.guard.stopped,
            "hints": self.hints,
            "checked": self._checked or (self._calls and self._calls.unfinished()),
            "faults": self.recorder.faults,
        }

    def _add_cut(self, error: dict[str, Any]) -> None:
        """Says where the graph ended, next to the error that it led to."""
        if (
            "does not require grad" not in error["message"]
            and "has no attribute 'backward'" not in error["message"]
        ):
            return
        cuts = [cut for cut in self.recorder.cuts.values() if cut.counts and not cut.zero]
        if cuts and error["explanation"]:
            places = ", ".join(f"row {cut.row} ({cut.reason})" for cut in cuts[:3])
            error["explanation"] += f" Here the graph ends at {places}."
