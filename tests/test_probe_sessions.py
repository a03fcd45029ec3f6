"""Probes as an editor runs them: one at a time, cancelled whenever, the next one from a spare process.

Every process here is a real one. Those of a test carry a mark in their environment, so that each that is left
is found, whatever became of its parent; the folders for temporary files are the test's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from gradsight_server import probe
from gradsight_server.probes import PHASES, Closed, Probes, Replaced

PROGRAMS = Path(__file__).resolve().parent.parent / "fixtures" / "probe"
MARK = "GRADSIGHT_TEST_MARK"
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are counted in /proc")

TINY = """\
import torch
w = torch.ones(2, requires_grad=True)
(w * 2).sum().backward()
print("done", flush=True)
"""
ENDLESS = """\
import time
print("on", flush=True)
while True:
    time.sleep(0.1)
"""


class Place:
    """A folder with programs, and the processes that were started for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.temporary = folder / "tmp"
        self.folder.mkdir()
        self.temporary.mkdir()
        self.mark = uuid.uuid4().hex

    def request(self, text: str, name: str = "program.py", **options: Any) -> probe.ProbeRequest:
        path = self.folder / name
        path.write_text(text)
        environment = {**os.environ, MARK: self.mark, **options.pop("environment", {})}
        options.setdefault("python", sys.executable)
        options.setdefault("directory", str(self.folder))
        return probe.request(path, environment=environment, **options)

    def processes(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if self.mark.encode() in (entry / "environ").read_bytes() and state != "Z":
                    found.append(int(entry.name))
        return found

    def command(self, process: int) -> bytes:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{process}/cmdline").read_bytes()
        return b""

    def assert_nothing_left(self) -> None:
        assert self.processes() == []
        assert list(self.temporary.iterdir()) == []


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(place.temporary))
    return place


def together(test: Callable[[Probes], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Runs a test on an event loop, with probes that are closed behind it."""

    async def main() -> None:
        probes = Probes(**options)
        try:
            await test(probes)
        finally:
            await probes.close()

    asyncio.run(main())


async def until(probes: Probes, state: str) -> None:
    while probes.state != state:
        await asyncio.sleep(0.01)


async def until_ready(probes: Probes, request: probe.ProbeRequest) -> None:
    """A spare for requests like this one waits afterwards."""
    result = await probes.run(request)
    assert result.problem is None
    while probes.state != "ready":
        assert probes.state == "warming"
        await asyncio.sleep(0.01)


@LINUX
def test_nothing_starts_before_the_first_request(place: Place) -> None:
    states: list[str] = []

    async def test(probes: Probes) -> None:
        await asyncio.sleep(0)
        assert probes.state == "none"
        place.assert_nothing_left()
        await probes.rest()
        # An interpreter that vanished: a sentence, and no spare.
        result = await probes.run(place.request(TINY, python=str(place.folder / "gone" / "python")))
        assert result.exit_code == 2
        assert result.problem is not None
        assert "no interpreter" in result.problem
        folder = str(place.folder / "no such folder")
        result = await probes.run(place.request(TINY, directory=folder))
        assert result.problem == f"the working directory is gone: {folder}"
        assert probes.state == "none"

    together(test, on_state=states.append)
    assert set(states) <= {"starting", "none"}
    place.assert_nothing_left()


@LINUX
def test_a_cancelled_start_leaves_nothing(place: Place) -> None:
    async def test(probes: Probes) -> None:
        task = asyncio.ensure_future(probes.run(place.request(TINY)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        place.assert_nothing_left()
        assert probes.state == "none"

    together(test)
    place.assert_nothing_left()


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_cancelled_in_each_phase(place: Place, phase: str) -> None:
    phases: list[str] = []

    async def test(probes: Probes) -> None:
        def on_phase(name: str) -> None:
            phases.append(name)
            if name == phase:
                task.cancel()

        # With the last phase the program has ended; only then it is not the endless one.
        text = TINY if phase == "reporting" else ENDLESS
        task = asyncio.ensure_future(probes.run(place.request(text), on_phase))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert phases[-1] == phase
        assert len(place.processes()) <= (probes.state == "warming")
        # A spare is there only if torch was seen to be.
        assert probes.state == ("warming" if phase in ("running", "reporting") else "none")
        await probes.rest()
        place.assert_nothing_left()
        result = await probes.run(place.request(TINY), None, None)
        assert (result.exit_code, result.output) == (0, "done\n")

    together(test)
    place.assert_nothing_left()


@LINUX
@pytest.mark.slow
def test_the_next_run_is_served_by_the_spare(place: Place) -> None:
    states: list[str] = []
    phases: list[list[str]] = [[], []]
    pieces: list[str] = []

    async def test(probes: Probes) -> None:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.01)

        heart = asyncio.ensure_future(beat())
        first = await probes.run(place.request(TINY), phases[0].append, pieces.append)
        heart.cancel()
        assert beats > 20  # the loop went on while interpreter and torch were loaded
        while probes.state != "ready":
            await asyncio.sleep(0.01)
        (spare,) = place.processes()
        second = await probes.run(place.request(TINY), phases[1].append, pieces.append)
        assert (first.exit_code, second.exit_code) == (0, 0)
        assert first.parameters == second.parameters
        assert first.lines == second.lines
        assert first.torch == second.torch
        await until(probes, "ready")
        (other,) = place.processes()
        assert other != spare  # a process runs one program

    together(test, on_state=states.append)
    assert phases == [list(PHASES), ["running", "reporting"]]
    assert "".join(pieces) == "done\ndone\n"
    assert states == ["starting", "running", "warming", "ready"] * 2 + ["none"]
    place.assert_nothing_left()


WORLD = """\
import sys
before = set(sys.modules)
import builtins, gc, json, locale, os, random, signal, tempfile, threading, warnings
import torch

def known(value):
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__

torch.manual_seed(0)
numbers = {
    "rand": torch.rand(3).tolist(),
    "seed": torch.initial_seed(),
    "state": torch.get_rng_state().sum().item(),
    "shuffled": torch.randperm(8).tolist(),
    "grad": [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()],
    "dtype": str(torch.get_default_dtype()),
    "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
    "deterministic": torch.are_deterministic_algorithms_enabled(),
    "autocast": torch.is_autocast_enabled("cpu"),
    "function modes": torch._C._len_torch_function_stack(),
    "step": torch.optim.SGD.step.__qualname__,
    "hooked": [hasattr(kind.step, "hooked") for kind in (torch.optim.SGD, torch.optim.Adam)],
}
torch.set_num_interop_threads(2)
w = torch.nn.Parameter(torch.zeros(2))
optimizer = torch.optim.Adam([w], lr=0.1)
w.sum().backward()
optimizer.step()
python = {
    "path": sys.path,
    "argv": sys.argv,
    "directory": os.getcwd(),
    "name": __name__,
    "main": sorted(sys.modules["__main__"].__dict__),
    "file": __file__,
    "filters": [str(item) for item in warnings.filters],
    "threads": sorted(thread.name.rstrip("0123456789") for thread in threading.enumerate()),
    "signals": {name: known(signal.getsignal(getattr(signal, name))) for name in ("SIGINT", "SIGTERM")},
    "stdin": sys.stdin.read(),
    "tty": sys.stdin.isatty(),
    "builtins": sorted(name for name in vars(builtins)),
    "hooks": [known(sys.excepthook), known(sys.displayhook), known(sys.gettrace()), known(sys.getprofile())],
    "meta": [getattr(item, "__name__", type(item).__name__) for item in sys.meta_path],
    "recursion": sys.getrecursionlimit(),
    "collector": [gc.isenabled(), gc.get_threshold()],
    "encoding": [sys.stdout.encoding, sys.stdout.errors, locale.getlocale()],
    "flags": str(sys.flags),
    "environment": sorted(name for name in os.environ),
    "bytecode": sys.dont_write_bytecode,
    "ours": sorted(name for name in sys.modules if name.startswith("gradsight")),
    "temporary": os.path.basename(tempfile.gettempdir()),
}
extra = sorted({name.partition(".")[0] for name in before})
print(json.dumps({"torch": numbers, "python": python, "modules": extra}))
"""


@LINUX
@pytest.mark.slow
def test_a_program_does_not_notice_that_it_runs_in_a_spare(place: Place) -> None:
    # A module of the program's that has the name of one of ours, or of one that the warming uses.
    (place.folder / "warm.py").write_text("own = 1\n")
    text = WORLD + "import warm\nassert warm.own == 1\n"
    worlds: list[dict[str, Any]] = []
    phases: list[str] = []

    async def test(probes: Probes) -> None:
        for _ in range(2):
            result = await probes.run(place.request(text, argv=("a", "b")), phases.append)
            assert result.error is None, result
            assert result.faults == ()
            assert result.notes == ()
            worlds.append(json.loads(result.output))
            await until(probes, "ready")

    together(test)
    assert phases.count("starting") == 1  # the second was the spare's
    fresh, spare = worlds
    assert fresh["torch"] == spare["torch"]
    modules = set(spare["python"].pop("ours"))
    assert modules - set(fresh["python"].pop("ours")) <= {
        "gradsight_probe.warm",
        "gradsight_probe.report",
    }
    assert fresh["python"] == spare["python"]
    # What is loaded already is torch's and what torch uses.
    code = "import sys, torch, torch._dynamo\nprint(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(spare["modules"]) <= {*loaded.stdout.split(), "gradsight_probe", *sys.stdlib_module_names}


@LINUX
@pytest.mark.slow
def test_a_newer_probe_takes_the_place_of_an_older(place: Place) -> None:
    async def test(probes: Probes) -> None:
        running = asyncio.Event()
        oldest = asyncio.ensure_future(
            probes.run(place.request(ENDLESS, "endless.py"), None, lambda text: running.set())
        )
        await running.wait()
        middle = asyncio.ensure_future(probes.run(place.request(ENDLESS, "endless.py")))
        await asyncio.sleep(0)
        newest = asyncio.ensure_future(probes.run(place.request(TINY)))
        for task in (oldest, middle):
            with pytest.raises(Replaced, match="newer probe"):
                await task
        result = await newest
        assert result.output == "done\n"

    together(test)
    place.assert_nothing_left()


@LINUX
@pytest.mark.slow
def test_rest_and_close_end_what_runs_and_what_waits(place: Place) -> None:
    async def test(probes: Probes) -> None:
        await until_ready(probes, place.request(TINY))
        assert len(place.processes()) == 1
        await probes.rest()
        place.assert_nothing_left()
        assert probes.state == "none"
        running = asyncio.Event()
        task = asyncio.ensure_future(probes.run(place.request(ENDLESS), None, lambda text: running.set()))
        await running.wait()
        await probes.rest()
        with pytest.raises(Closed, match="was stopped"):
            await task
        place.assert_nothing_left()
        # Stopped while it makes room for another, which has seen torch.
        running.clear()
        endless = place.request("import torch\n" + ENDLESS)
        first = asyncio.ensure_future(probes.run(endless, None, lambda text: running.set()))
        await running.wait()
        second = asyncio.ensure_future(probes.run(place.request(TINY)))
        await asyncio.sleep(0)
        await probes.rest()
        for each in (first, second):
            with pytest.raises((Closed, Replaced)):
                await each
        place.assert_nothing_left()
        assert probes.state == "none"
        # Closed while the spare is being warmed.
        await probes.run(place.request(TINY))
        assert probes.state == "warming"
        await probes.close()
        place.assert_nothing_left()
        with pytest.raises(Closed):
            await probes.run(place.request(TINY))

    together(test)
    place.assert_nothing_left()


@LINUX
@pytest.mark.slow
def test_an_unused_spare_ends(place: Place) -> None:
    states: list[str] = []

    async def test(probes: Probes) -> None:
        await probes.run(place.request(TINY))
        await until(probes, "none")
        await probes.rest()
        place.assert_nothing_left()

    together(test, idle=0.05, on_state=states.append)
    assert states == ["starting", "running", "warming", "ready", "none"]


@LINUX
@pytest.mark.slow
def test_a_spare_that_does_not_fit_is_not_used(place: Place) -> None:
    packages = place.folder / "site-packages"
    packages.mkdir()
    shows = "import os\nprint(os.environ.get('SHOWN'), os.getcwd())\n"
    environment = {"PYTHONPATH": str(packages)}

    async def test(probes: Probes) -> None:
        async def phases_of(request: probe.ProbeRequest, output: str) -> list[str]:
            phases: list[str] = []
            result = await probes.run(request, phases.append)
            assert (result.problem, result.output) == (None, output)
            await until(probes, "ready")
            assert len(place.processes()) == 1
            return phases

        here = str(place.folder)
        plain = place.request(shows, environment=environment)
        assert "starting" in await phases_of(plain, f"None {here}\n")
        assert "starting" not in await phases_of(plain, f"None {here}\n")
        # Another environment, another directory, another kind of device.
        shown = place.request(shows, environment={**environment, "SHOWN": "yes"})
        assert "starting" in await phases_of(shown, f"yes {here}\n")
        moved = place.request(shows, environment=environment, directory=str(packages))
        assert "starting" in await phases_of(moved, f"None {packages}\n")
        hidden = place.request(shows, environment=environment, device="cpu")
        assert "starting" in await phases_of(hidden, f"None {here}\n")
        # Something was installed since.
        (packages / "fresh.py").write_text("value = 3\n")
        fresh = place.request("import fresh\nprint(fresh.value)\n", environment=environment, device="cpu")
        assert "starting" in await phases_of(fresh, "3\n")

    together(test)
    place.assert_nothing_left()


@LINUX
@pytest.mark.slow
def test_a_spare_that_died_or_hangs_is_replaced(place: Place) -> None:
    async def test(probes: Probes) -> None:
        request = place.request(TINY)
        await until_ready(probes, request)
        (spare,) = place.processes()
        os.kill(spare, signal.SIGSTOP)  # as if it were swapped out for good
        phases: list[str] = []
        result = await probes.run(request, phases.append)
        assert result.output == "done\n"
        assert phases[-4:] == list(PHASES)
        assert spare not in place.processes()
        await until(probes, "ready")
        (spare,) = place.processes()
        os.kill(spare, signal.SIGKILL)
        await until(probes, "none")  # it is noticed
        result = await probes.run(request)
        assert result.output == "done\n"

    together(test)
    place.assert_nothing_left()


@LINUX
@pytest.mark.slow
def test_an_interpreter_that_vanishes_while_its_spare_waits(place: Place) -> None:
    python = place.folder / "python"
    python.symlink_to(sys.executable)
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    async def test(probes: Probes) -> None:
        request = place.request(TINY, python=str(python), environment=environment)
        await until_ready(probes, request)
        python.unlink()
        result = await probes.run(request)
        assert result.exit_code == 2
        assert result.problem is not None
        assert f"no interpreter `{python}`" in result.problem
        await probes.rest()
        place.assert_nothing_left()
        result = await probes.run(place.request(TINY))
        assert result.output == "done\n"

    together(test)
    place.assert_nothing_left()


@LINUX
@pytest.mark.slow
def test_bad_programs_in_a_spare_leave_no_process(place: Place) -> None:
    """As for fresh processes in the tests of the probe's process: what comes back, and what is left."""

    async def test(probes: Probes) -> None:
        async def in_spare(name: str, **options: Any) -> probe.ProbeResult:
            await until(probes, "ready")
            phases: list[str] = []
            request = place.request((PROGRAMS / name).read_text(), name, **options)
            result = await probes.run(request, phases.append)
            assert "starting" not in phases
            return result

        await probes.run(place.request(TINY))
        result = await in_spare("closes_every_descriptor.py", allow_writes=True)
        assert [item["gradient"] for item in result.parameters] == ["nonzero"], result
        result = await in_spare("closes_every_descriptor.py")
        assert [item["gradient"] for item in result.parameters] == ["nonzero"], result
        result = await in_spare("forks.py", allow_writes=True)
        assert "parent done" in result.output
        result = await in_spare("leaves_by_os_exit.py")
        assert result.error is not None
        assert "os._exit(0)" in result.error["message"]
        assert result.output == "bye\n"
        result = await in_spare("loops_forever.py", timeout=0.5)
        assert result.error is not None
        assert result.error["type"] == "TimeLimit"
        result = await in_spare("killed_by_signal.py")
        assert result.error is not None
        assert result.error["type"] == "SIGKILL"
        result = await in_spare("prints_a_million_lines.py", output_limit=10_000)
        assert len(result.output) == 10_000
        result = await in_spare("saves_best.py")
        assert result.error is not None
        assert "stopped by the probe" in result.error["message"]
        await probes.rest()
        place.assert_nothing_left()

    together(test)
    assert {path.suffix for path in place.folder.iterdir()} == {".py"}


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("state", ["running", "warming", "ready"])
def test_all_ends_when_the_server_is_killed(place: Place, state: str) -> None:
    path = place.folder / "program.py"
    path.write_text(ENDLESS if state == "running" else TINY)
    server = f"""
import asyncio, sys
from gradsight_server import probe
from gradsight_server.probes import Probes

async def main():
    probes = Probes(lambda state: print(state, flush=True))
    request = probe.request({str(path)!r}, python=sys.executable)
    await probes.run(request)
    await asyncio.sleep(1000)

asyncio.run(main())
"""
    roots = [str(PROGRAMS.parents[1] / part) for part in ("analysis", "server")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(roots),
        "TMPDIR": str(place.temporary),
        MARK: place.mark,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", server], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == state:
            break
    while state != "running" and not any(b"spare" in place.command(each) for each in place.processes()):
        time.sleep(0.01)
    while len(list(place.temporary.iterdir())) > 1:  # what the first program leaves is the server's to remove
        time.sleep(0.01)
    assert len(place.processes()) >= 2
    process.kill()
    process.wait()
    process.stdout.close()
    while place.processes():
        time.sleep(0.05)
    place.assert_nothing_left()
