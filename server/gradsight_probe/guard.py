"""Stops what the program would write outside the probe's own folder, and the processes it would start.

An audit hook sees what Python itself opens, renames and starts; torch's own writers raise no event and are
wrapped. Limits: other native writers (h5py, OpenCV, safetensors, SQLite extensions) are not
stopped. Invariant: reading is never refused.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from .watch import Patches

WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit event -> which arguments are paths, and where a descriptor of the folder may stand.
PATHS = {
    "os.remove": ((0,), 1),
    "os.rmdir": ((0,), 1),
    "os.mkdir": ((0,), 2),
    "os.rename": ((0, 1), 2),
    "os.link": ((1,), 3),
    "os.symlink": ((1,), 2),
    "os.truncate": ((0,), None),
    "os.chmod": ((0,), 2),
    "os.chown": ((0,), 3),
    "os.utime": ((0,), 3),
    "os.setxattr": ((0,), None),
    "os.removexattr": ((0,), None),
    "os.chflags": ((0,), None),
    "shutil.rmtree": ((0,), 1),
    "shutil.move": ((0, 1), None),
    "sqlite3.connect": ((0,), None),
}
PROCESSES = frozenset(
    [
        "subprocess.Popen",
        "os.system",
        "os.posix_spawn",
        "os.spawn",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "pty.spawn",
        "os.startfile",
        "_winapi.CreateProcess",
    ]
)
VERBS = {
    "open": "write",
    "os.remove": "delete",
    "shutil.rmtree": "delete",
    "os.rmdir": "delete",
    "os.rename": "rename",
    "shutil.move": "move",
    "os.mkdir": "make the folder",
}
ALLOW = "pass --allow-writes to let it"


class Stopped(PermissionError):
    """The program wanted to write, or to start a process, and may not."""


class Guard:
    """Refuses while `active`; everything that was refused is kept in `stopped`."""

    def __init__(self, folder: str, place: Callable[[], tuple[str, int] | None]) -> None:
        self.active = False
        self.stopped: list[str] = []
        self._folder = os.path.realpath(folder)
        self._place = place
        self._inside = False

    def install(self, patches: Patches) -> None:
        """Begins to refuse. The audit hook cannot be taken out again, but it rests when not `active`."""
        self.active = True
        sys.addaudithook(self._audit)
        self._wrap_torch(patches)
        self._wrap_process_start(patches)

    def allowed(self, path: Any) -> bool:
        if isinstance(path, int):
            return True  # an open descriptor: it was judged when it was opened
        try:
            name = os.fsdecode(os.fspath(path))
        except TypeError:
            return True  # no path: a file object that was judged when it was opened
        if name == os.devnull or name.lower() in ("nul", "conout$", "/dev/tty", "/dev/stdout", "/dev/stderr"):
            return True
        real = os.path.realpath(name)
        return real == self._folder or real.startswith(self._folder + os.sep)

    def refuse(self, verb: str, path: Any) -> None:
        """Raises `Stopped`, naming file, row and path."""
        full = os.path.abspath(os.fsdecode(path)) if not isinstance(path, int) else str(path)
        self._raise(f"would {verb} {full}")

    def refuse_process(self, what: str) -> None:
        self._raise(f"would start a process ({what})")

    def _raise(self, deed: str) -> None:
        where = self._place()
        by = f"{where[0]}:{where[1]}" if where is not None else "the program"
        message = f"{by} {deed}: stopped by the probe, {ALLOW}"
        if message not in self.stopped and len(self.stopped) < 20:
            self.stopped.append(message)
        raise Stopped(message)

    def _audit(self, event: str, args: Any) -> None:
        if not self.active or self._inside:
            return
        if event == "open":
            path, mode, flags = args[0], args[1], args[2]
            if isinstance(mode, str):
                writes = any(letter in mode for letter in "wax+")
            else:
                writes = isinstance(flags, int) and bool(flags & WRITING_FLAGS)
            if writes:
                self._check(event, path, None)
        elif event in PATHS:
            positions, folder_at = PATHS[event]
            if event == "sqlite3.connect" and args[0] in (":memory:", b":memory:", ""):
                return
            folder = args[folder_at] if folder_at is not None and len(args) > folder_at else None
            for position in positions:
                self._check(event, args[position], folder)
        elif event in PROCESSES:
            self.refuse_process(event)
        elif event in ("os.kill", "os.killpg"):
            if args[0] not in (0, os.getpid()):
                self.refuse_process(f"a signal to process {args[0]}")

    def _check(self, event: str, path: Any, folder: Any) -> None:
        self._inside = True
        try:
            if isinstance(folder, int) and folder >= 0 and not isinstance(path, int):
                base = os.path.realpath(f"/proc/self/fd/{folder}")
                path = os.path.join(base, os.fsdecode(path))
            fine = path is None or self.allowed(path)
        finally:
            self._inside = False
        if not fine:
            self.refuse(VERBS.get(event, "change"), path)

    def _wrap_torch(self, patches: Patches) -> None:
        import torch

        def checked(original: Any, position: int) -> Any:
            @functools.wraps(original, updated=())
            def writer(*args: Any, **kwargs: Any) -> Any:
                path = args[position] if len(args) > position else kwargs.get("f", kwargs.get("filename"))
                if self.active and path is not None and not self.allowed(path):
                    self.refuse("write", path)
                return original(*args, **kwargs)

            return writer

        patches.set(torch, "save", checked(torch.save, 1))
        patches.set(torch.serialization, "save", torch.save)
        patches.set(torch.jit, "save", checked(torch.jit.save, 1))
        patches.set(torch._C, "PyTorchFileWriter", checked(torch._C.PyTorchFileWriter, 0))
        for name in ("ScriptModule", "RecursiveScriptModule"):
            script = getattr(torch.jit, name, None)
            if script is not None and "save" in script.__dict__:
                patches.set(script, "save", checked(script.save, 1))
        original = torch.from_file

        def from_file(filename: Any, shared: Any = None, *args: Any, **kwargs: Any) -> Any:
            if self.active and shared and not self.allowed(filename):
                self.refuse("write", filename)
            return original(filename, shared, *args, **kwargs)

        patches.set(torch, "from_file", from_file)

    def _wrap_process_start(self, patches: Patches) -> None:
        """multiprocessing starts its processes below the level that raises an event."""
        try:
            import _posixsubprocess
        except ImportError:
            return
        original = _posixsubprocess.fork_exec

        def fork_exec(*args: Any) -> Any:
            if self.active:
                self.refuse_process("multiprocessing")
            return original(*args)

        patches.set(_posixsubprocess, "fork_exec", fork_exec)
