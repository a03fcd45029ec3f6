"""The warm process behind `truth.py`: imports torch once and runs each program in a child that it forks.

Started as a script by `truth.py` alone. Requests and answers are JSON lines over descriptors of its own.
`torch.set_num_threads(1)` stands before torch's first operation: a child of a parent that ran OpenMP work
on several threads hangs at its first parallel operation. One optimizer and one step run before the first
fork, since they are what imports the slow rest of torch.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import json
import linecache
import math
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

torch.set_num_threads(1)

AT_ONCE = 2
OWN_BUG = 70  # exit status of a child that failed outside the program
TAIL = 400_000  # characters of a program's output that come back
WHOLE = 10_000  # elements up to which a tensor comes back whole
PROJECTIONS = 16  # numbers that stand for a larger one


def main() -> None:
    """Serve until the requests end."""
    requests, answers = os.dup(0), os.dup(1)
    os.set_inheritable(requests, False)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # nothing that torch prints may get among the answers
    _warm()
    _serve(requests, answers)


def _warm() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    optimizer = torch.optim.Adam(model.parameters())
    torch.nn.functional.mse_loss(model(torch.ones(1, 2)), torch.zeros(1, 1)).backward()
    optimizer.step()
    numpy.linalg.norm(numpy.ones(3))
    gc.collect()
    gc.freeze()


@dataclass
class _Child:
    request: dict[str, Any]
    pid: int
    pipe: int
    folder: str
    started: float
    received: bytes = b""


def _serve(requests: int, answers: int) -> None:
    waiting: deque[dict[str, Any]] = deque()
    running: dict[int, _Child] = {}
    unread, open_ = b"", True
    while open_ or waiting or running:
        while waiting and len(running) < AT_ONCE:
            child = _start(waiting.popleft(), requests, answers)
            running[child.pipe] = child
        now = time.monotonic()
        left = [child.started + child.request["seconds"] - now for child in running.values()]
        ready, _, _ = select.select(
            [*running, *([requests] if open_ else [])], [], [], max(0.0, min(left)) if left else None
        )
        for descriptor in ready:
            chunk = os.read(descriptor, 1 << 20)
            if descriptor == requests:
                open_ = bool(chunk)
                *lines, unread = (unread + chunk).split(b"\n")
                waiting.extend(json.loads(line) for line in lines)
            elif chunk:
                running[descriptor].received += chunk
            else:
                _finish(running.pop(descriptor), answers, timed_out=False)
        now = time.monotonic()
        for child in [each for each in running.values() if now - each.started >= each.request["seconds"]]:
            _finish(running.pop(child.pipe), answers, timed_out=True)


def _start(request: dict[str, Any], *parents: int) -> _Child:
    folder = tempfile.mkdtemp(prefix="truth-")
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.close(receive)
            for descriptor in parents:
                os.close(descriptor)
            _child(request, folder, send)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(OWN_BUG)
    os.close(send)
    return _Child(request, pid, receive, folder, time.monotonic())


def _finish(child: _Child, answers: int, *, timed_out: bool) -> None:
    """End the child with all that it started, and answer."""
    seconds = time.monotonic() - child.started
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    os.close(child.pipe)
    try:
        answer = json.loads(child.received)
    except ValueError:
        kind, text = "ProcessLookupError", f"the process ended with status {status}"
        if timed_out:
            kind, text = "TimeoutError", f"no end within {child.request['seconds']} s"
        answer = {"error": {"type": kind, "text": text, "row": None}}
    with contextlib.suppress(OSError), open(os.path.join(child.folder, ".output"), "rb") as output:
        answer["output"] = output.read()[-TAIL:].decode("utf-8", "replace")
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == OWN_BUG:
        answer["bug"] = answer.get("output", "")
    shutil.rmtree(child.folder, ignore_errors=True)
    answer |= {"id": child.request["id"], "seconds": seconds}
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(answers, data) :]


# In the child.


def _child(request: dict[str, Any], folder: str, send: int) -> None:
    output = os.open(os.path.join(folder, ".output"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    os.environ["TMPDIR"] = folder
    tempfile.tempdir = folder
    warnings.simplefilter("ignore")
    file, text = request["file"], request["text"]
    sys.argv = [file]
    sys.path[0] = os.path.dirname(os.path.abspath(file))
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=file, __builtins__=builtins)
    sys.modules["__main__"] = module
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    local: dict[str, Any] = {}
    recorder = _Recorder() if request["snapshot"] else None
    if request["locals_of"]:
        sys.setprofile(_keep_locals(request["locals_of"], file, local))
    answer: dict[str, Any] = {"error": None}
    try:
        exec(compile(text, file, "exec"), module.__dict__)
    except BaseException as error:
        if not (isinstance(error, SystemExit) and error.code in (None, 0)):
            answer["error"] = _to_failure(error, file)
    sys.setprofile(None)
    # Locals that were never handed back are the newer ones only where the function did not come to its end.
    held = {**module.__dict__, **local} if answer["error"] else {**local, **module.__dict__}
    namespace = {"torch": torch, "np": numpy, **held}
    answer["facts"] = [_evaluate(fact, namespace) for fact in request["facts"]]
    if recorder:
        answer["snapshot"] = recorder.snapshot(namespace)
    sys.stdout.flush()
    sys.stderr.flush()
    with os.fdopen(send, "w") as channel:
        json.dump(answer, channel)


def _keep_locals(functions: list[str], file: str, into: dict[str, Any]) -> Any:
    def profile(frame: types.FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_filename == file:
            name = frame.f_code.co_name
            if "self" in frame.f_locals:
                name = f"{type(frame.f_locals['self']).__name__}.{name}"
            if name in functions:
                into.update(frame.f_locals)

    return profile


def _to_failure(error: BaseException, file: str) -> dict[str, Any]:
    rows = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        rows = [error.lineno]
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return {"type": kinds[0], "kinds": kinds, "text": str(error), "row": rows[-1] if rows else None}


def _evaluate(fact: str, namespace: dict[str, Any]) -> dict[str, Any]:
    try:
        value = eval(fact, namespace)
        return {"holds": bool(value), "shown": repr(value)[:300]}
    except BaseException as error:
        return {"holds": False, "shown": f"{type(error).__name__}: {error}"[:300]}


class _Recorder:
    """Watches backward and the optimizers' steps while a program runs; never changes what it computes."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        # The parameters themselves, lest one be freed and its id given to another.
        self.stepped: dict[int, torch.Tensor] = {}
        self.steps: list[dict[int, Any]] = []
        backward = torch.autograd.backward

        def recording(tensors: Any, *arguments: Any, **keywords: Any) -> Any:
            for each in tensors if isinstance(tensors, (tuple, list)) else (tensors,):
                self.losses.append(float(each.detach().double().sum()))
            return backward(tensors, *arguments, **keywords)

        torch.autograd.backward = recording
        register_optimizer_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: Any, *_: object) -> None:
        seen: dict[int, Any] = {}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self.stepped.setdefault(id(parameter), parameter)
                seen[id(parameter)] = _to_record(parameter.grad, whole=False)
        self.steps.append(seen)

    def snapshot(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Everything that two programs are compared by."""
        torch.set_grad_enabled(True)  # the program may have left it off
        leaves = _leaves(namespace)
        names = {id(leaf): name for name, leaf in reversed(list(leaves.items()))}
        for number, (key, parameter) in enumerate(self.stepped.items()):
            if key not in names:  # lives in a function's frame only
                names[key] = f"<stepped {number}>"
                leaves[names[key]] = parameter
        return {
            "gradients": {name: _to_record(leaf.grad) for name, leaf in leaves.items()},
            "parameters": {name: _to_record(leaf) for name, leaf in leaves.items()},
            "losses": self.losses,
            "steps": [{names[key]: record for key, record in step.items()} for step in self.steps],
            "numbers": dict(_numbers(namespace)),
        }


def _leaves(namespace: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What may learn, as the program reaches it: `model.fc.weight`. An object reached twice has one name."""
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()

    def visit(name: str, value: Any, depth: int) -> None:
        if id(value) in seen or depth > 3:
            return
        if isinstance(value, torch.Tensor):
            if value.is_leaf and value.requires_grad:
                seen.add(id(value))
                found[name] = value
        elif isinstance(value, torch.nn.Module):
            seen.add(id(value))
            for path, parameter in value.named_parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    found[f"{name}.{path}"] = parameter
            for key, each in vars(value).items():  # plain tensors and lists, which torch does not register
                if not key.startswith("_"):
                    visit(f"{name}.{key}", each, depth + 1)
        elif isinstance(value, (list, tuple)):
            for index, each in enumerate(value[:100]):
                visit(f"{name}[{index}]", each, depth + 1)
        elif isinstance(value, dict):
            for key, each in list(value.items())[:100]:
                visit(f"{name}[{key!r}]", each, depth + 1)
        elif type(value).__module__ == "__main__" and hasattr(value, "__dict__"):
            seen.add(id(value))
            for key, each in vars(value).items():
                visit(f"{name}.{key}", each, depth + 1)

    for name, value in list(namespace.items()):
        if not name.startswith("_"):
            visit(name, value, 0)
    return found


def _numbers(namespace: dict[str, Any]) -> Any:
    for name, value in namespace.items():
        if isinstance(value, float):
            yield name, value
        elif isinstance(value, torch.Tensor) and value.numel() == 1 and value.dtype.is_floating_point:
            yield name, float(value.detach())


def _to_record(tensor: torch.Tensor | None, *, whole: bool = True) -> dict[str, Any] | None:
    """Shape, norm and values; values only where it is asked for the whole."""
    if tensor is None:
        return None
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    if dense.is_complex():
        dense = torch.view_as_real(dense)
    flat = dense.double().flatten()
    norm = float(flat.norm())
    if not whole:
        values = []
    elif flat.numel() > WHOLE:  # equal tensors have equal projections, unequal ones almost surely not
        random = torch.Generator().manual_seed(flat.numel())
        directions = [torch.randn(flat.numel(), generator=random).double() for _ in range(PROJECTIONS)]
        values = [float(flat @ direction) / math.sqrt(flat.numel()) for direction in directions]
    else:
        values = flat.tolist()
    return {"shape": list(tensor.shape), "norm": norm, "values": values}


if __name__ == "__main__":
    main()
