"""A spare process: torch is loaded and one whole step was taken before a program is known.

Invariants: nothing of the step is left that a program could notice (random numbers, patches, hooks on torch's
own classes, modules of the program); no device but the CPU is touched; the program's own code is not known
here, so that none of it can run.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import Any

# Two optimizers and a convolution: the first of each loads what the others need too.
STEP = """\
model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
x, y = torch.ones(4, 1, 4), torch.zeros(4, dtype=torch.long)
for kind in optimizers:
    optimizer = kind(model.parameters(), lr=0.1)
    for batch, target in DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True):
        optimizer.zero_grad()
        hidden = model(batch)
        known = hidden.detach().mean().item()
        with torch.no_grad():
            hidden.mean()
        loss = nn.functional.cross_entropy(hidden, target) + nn.functional.mse_loss(hidden, hidden * 0)
        loss.backward()
        optimizer.step()
"""


def installed() -> list[list[Any]]:
    """What was installed when this process started: a path and its time of change, each. A spare that loaded
    another torch than is there now is of no use."""
    places = [sys.executable, sys.prefix + "/pyvenv.cfg"]
    places += [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    found: list[list[Any]] = []
    for place in places:
        with contextlib.suppress(OSError):
            found.append([place, os.stat(place).st_mtime_ns])
    return found


def warm() -> None:
    """Takes one whole step of a tiny model under the probe's own hooks, and undoes what it changed."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from . import guard, report, rewrite, watch
    from .record import Recorder
    from .snapshot import Steps

    state = torch.get_rng_state()
    # Classes of our own: torch wraps an optimizer's `step` in the class that is made first.
    optimizers = [type("Spare", (kind,), {}) for kind in (torch.optim.SGD, torch.optim.Adam)]
    names: dict[str, Any] = {
        "torch": torch, "nn": torch.nn, "optimizers": optimizers, "DataLoader": DataLoader,
        "TensorDataset": TensorDataset,
    }  # fmt: skip
    sites: list[rewrite.Site] = []
    recorder = Recorder(sites)
    recorder.user_files.add("<spare>")
    patches = watch.Patches()
    steps = Steps(recorder, names, "<spare>", lambda event, **data: None)
    names.update(
        {rewrite.BIND: recorder.bind, rewrite.BIND_ALL: recorder.bind_all, rewrite.SINK: recorder.sink}
    )
    code = rewrite.compile_recording(STEP, "<spare>", sites)
    watch.install(recorder, steps, patches)
    accelerator = getattr(torch, "accelerator", None)
    if accelerator is not None and hasattr(accelerator, "current_accelerator"):
        # Adam asks whether its stream is being captured, which would make a context on the device.
        patches.set(accelerator, "current_accelerator", lambda check_available=False: None)
    if hasattr(torch.optim.Optimizer, "_cuda_graph_capture_health_check"):
        patches.set(torch.optim.Optimizer, "_cuda_graph_capture_health_check", lambda self: None)
    try:
        with watch.Watch(recorder):
            exec(code, names)
        with torch._C.DisableTorchFunction():
            steps.parameters()
            report.lines(recorder, "<spare>", None)
    finally:
        patches.undo()
        torch.set_rng_state(state)
    del recorder, steps, names, optimizers, patches, guard
    gc.collect()


def wait() -> bool:
    """Waits until the starter says "go" on standard input, which is empty afterwards; False if it is gone."""
    line = b""
    while not line.endswith(b"\n"):
        try:
            piece = os.read(0, 1)
        except OSError:
            return False
        if not piece:
            return False
        line += piece
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return True


def is_wanted() -> bool:
    """Whether a program waits already: then it is better served than warmed for."""
    import select

    try:
        return bool(select.select([0], [], [], 0)[0])
    except (OSError, ValueError):
        return False  # Windows selects sockets only
