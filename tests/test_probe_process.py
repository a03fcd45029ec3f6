"""The probe's process: whatever a program does, a clear answer comes back and no process is left behind.

Each program really runs in an interpreter of its own. Their copies lie in a temporary folder, so that what
they write (or must not write) can be seen.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradsight_server import child, probe

PROGRAMS = Path(__file__).resolve().parent.parent / "fixtures" / "probe"
POSIX = pytest.mark.skipif(os.name == "nt", reason="forks and signals are POSIX")


MARK = f"GRADSIGHT_TEST_MARK={uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is started here can be told from what other tests start at the same time."""
    monkeypatch.setenv(*MARK.split("="))


class Ran:
    """A program's result, and the folder that it ran in."""

    def __init__(self, folder: Path, name: str, **options: Any) -> None:
        self.folder = folder
        shutil.copy(PROGRAMS / name, folder / name)
        options.setdefault("python", sys.executable)
        options.setdefault("timeout", 60.0)
        self.before = _tagged()
        self.request = probe.request(folder / name, directory=str(folder), **options)
        self.pieces: list[str] = []
        self.result = probe.run(self.request, self.pieces.append)
        self.after = _tagged()

    @property
    def error(self) -> dict[str, Any]:
        assert self.result.error is not None, self.result
        return self.result.error


def _tagged() -> set[int]:
    """Every process of a probe that was started here."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*") if sys.platform.startswith("linux") else ():
        try:
            environment = (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if child.TOKEN.encode() in environment and MARK.encode() in environment and state != "Z":
            found.add(int(entry.name))
    return found


def assert_nothing_left(ran: Ran) -> None:
    assert not ran.after - ran.before
    leftovers = [path for path in Path(ran.folder).iterdir() if path.name != Path(ran.request.filename).name]
    assert leftovers == []


def test_the_best_weights_stay_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"the old ones")
    ran = Ran(tmp_path, "saves_best.py")
    assert (tmp_path / "best.pt").read_bytes() == b"the old ones"
    assert ran.result.exit_code == 1
    row = _row(ran, "torch.save")
    assert ran.error["row"] == row
    path = tmp_path / "saves_best.py"
    assert ran.error["message"] == (
        f"{path}:{row} would write {tmp_path / 'best.pt'}: stopped by the probe, "
        "pass --allow-writes to let it"
    )
    # What was seen until then is told.
    states = {item["name"]: item["at_last_step"] for item in ran.result.parameters}
    assert states == {"model.weight": "nonzero", "model.bias": "nonzero"}
    assert [step["row"] for step in ran.result.steps] == [_row(ran, "loss.backward()")]


@pytest.mark.slow
def test_writes_can_be_allowed(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"the old ones")
    ran = Ran(tmp_path, "saves_best.py", allow_writes=True)
    assert ran.result.exit_code == 0
    assert (tmp_path / "best.pt").read_bytes() != b"the old ones"
    assert ran.result.steps_taken == 3


@pytest.mark.slow
def test_every_way_to_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / "folder").mkdir()
    ran = Ran(tmp_path, "writes_everywhere.py")
    text = (PROGRAMS / "writes_everywhere.py").read_text()
    names = [line.split('"')[1] for line in text.splitlines() if line.startswith("attempt(")]
    assert ran.result.output.split("\n")[-2].split() == " ".join(names).split()
    assert (tmp_path / "old.txt").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"old.txt", "folder", "writes_everywhere.py"}
    assert ran.result.exit_code == 0
    # The program caught them all, and they are told all the same, with row and path.
    assert any(f"writes_everywhere.py:{_row(ran, 'os.remove')}" in note for note in ran.result.notes)


@pytest.mark.slow
def test_a_program_that_raises(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "raises.py")
    assert ran.result.exit_code == 1
    assert (ran.error["type"], ran.error["message"]) == ("ZeroDivisionError", "division by zero")
    assert ran.error["row"] == _row(ran, "1 / steps")
    assert [item["gradient"] for item in ran.result.parameters] == ["nonzero"]
    assert "Traceback" not in ran.result.output
    assert_nothing_left(ran)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loops_forever.py", "sleeps_forever.py"])
def test_a_program_that_does_not_end(tmp_path: Path, name: str) -> None:
    ran = Ran(tmp_path, name, timeout=2.0)
    assert ran.result.exit_code == 1
    assert ran.error["type"] == "TimeLimit"
    assert "2 s" in ran.error["message"]
    assert "--timeout" in ran.error["explanation"]
    assert ran.error["row"] >= _row(ran, "while ")
    assert [item["gradient"] for item in ran.result.parameters] == ["nonzero"]
    assert_nothing_left(ran)


@pytest.mark.slow
def test_os_exit(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "leaves_by_os_exit.py")
    assert ran.result.exit_code == 1
    assert "os._exit(0)" in ran.error["message"]
    assert ran.error["row"] == _row(ran, "os._exit")
    assert ran.error["explanation"]
    assert ran.result.output == "bye\n"
    assert [item["gradient"] for item in ran.result.parameters] == ["nonzero"]
    assert_nothing_left(ran)


@POSIX
@pytest.mark.slow
def test_a_process_that_is_killed(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "killed_by_signal.py")
    assert ran.result.exit_code == 1
    assert ran.error["type"] == "SIGKILL"
    assert "memory" in ran.error["explanation"]
    # The steps came while it ran.
    assert [step["parameters"][0]["gradient"] for step in ran.result.steps] == ["nonzero"]
    assert_nothing_left(ran)


@pytest.mark.slow
def test_a_million_lines(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "prints_a_million_lines.py", output_limit=10_000)
    assert ran.result.exit_code == 0
    assert len(ran.result.output) == 10_000
    assert "".join(ran.pieces) == ran.result.output
    assert any("10000 bytes" in note for note in ran.result.notes)
    assert ran.result.steps_taken == 1


@pytest.mark.slow
def test_a_program_that_asks_for_input(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "asks_for_input.py")
    assert ran.result.exit_code == 1
    assert ran.error["type"] == "EOFError"
    assert "keyboard" in ran.error["explanation"]
    assert ran.error["row"] == _row(ran, "input(")


@POSIX
@pytest.mark.slow
def test_a_program_that_closes_every_descriptor(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "closes_every_descriptor.py", allow_writes=True)
    assert ran.result.exit_code == 0, ran.result
    assert [item["gradient"] for item in ran.result.parameters] == ["nonzero"]
    assert [line["name"] for line in ran.result.lines if line["state"] == "live"]
    assert_nothing_left(ran)


@POSIX
@pytest.mark.slow
def test_forks_are_refused_or_hunted_down(tmp_path: Path) -> None:
    refused = Ran(tmp_path, "forks.py")
    assert refused.result.exit_code == 1
    assert "would start a process (os.fork)" in refused.error["message"]
    assert_nothing_left(refused)
    ran = Ran(tmp_path, "forks.py", allow_writes=True)
    assert ran.result.exit_code == 0, ran.result
    assert "parent done" in ran.result.output
    assert_nothing_left(ran)


@POSIX
@pytest.mark.slow
def test_a_forked_child_tells_nothing(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "forked_child_goes_on.py", allow_writes=True)
    assert ran.result.exit_code == 0
    assert ran.result.steps_taken == len(ran.result.steps) == 1


@pytest.mark.slow
def test_processes_are_refused(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "starts_a_process.py")
    assert ran.result.exit_code == 1
    assert "subprocess.Popen" in ran.error["message"]
    assert ran.error["row"] == _row(ran, "check_output")


def test_no_such_interpreter(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "raises.py", python=str(tmp_path / "no" / "python"))
    assert ran.result.exit_code == 2
    assert ran.result.problem is not None
    assert "no interpreter" in ran.result.problem
    assert "--python" in ran.result.problem
    assert probe.to_json(ran.result)["error"]["message"] == ran.result.problem


def test_an_interpreter_that_is_none(tmp_path: Path) -> None:
    fake = tmp_path / "fake"
    fake.write_text("#!/bin/sh\necho this is no python >&2\nexit 3\n")
    fake.chmod(0o755)
    result = probe.run(_request(tmp_path, "raises.py", python=str(fake)))
    assert result.exit_code == 2
    assert result.problem is not None
    assert "this is no python" in result.problem


@pytest.mark.slow
def test_an_interpreter_without_torch(tmp_path: Path) -> None:
    # -I -S of the same interpreter: nothing but the standard library.
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    result = probe.run(_request(tmp_path, "raises.py", python=str(bare)))
    assert result.exit_code == 2
    assert result.problem is not None
    assert "has no torch" in result.problem
    assert "pip install torch" in result.problem


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"device": "tpu"}, "no device `tpu`"),
        ({"timeout": 0.0}, "time limit"),
        ({"timeout": -1.0}, "time limit"),
    ],
)
def test_misuse(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    result = probe.run(_request(tmp_path, "raises.py", **options))
    assert result.exit_code == 2
    assert result.problem is not None
    assert expected in result.problem


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As at a terminal: what a shell starts with `&` ignores interrupts, and all that it starts with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_an_interrupt_leaves_no_process(tmp_path: Path, interruptible: None) -> None:
    program = tmp_path / "loops.py"
    program.write_text("import time\nprint('on', flush=True)\nwhile True: time.sleep(1)\n")
    before = _tagged()

    def interrupt(text: str) -> None:
        # As Ctrl-C does, once the program runs.
        import _thread

        _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        probe.run(probe.request(program, python=sys.executable), interrupt)
    assert not _tagged() - before


@POSIX
def test_what_interrupts_the_end_is_followed_by_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ctrl-C again, while the first is obeyed: whoever ends it once more still finds what is left."""
    before = _tagged()
    started = child.Child(_request(tmp_path, "sleeps_forever.py"), child.Alarm())
    hunted = child.kill_all

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(child, "kill_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        started.end()
    assert _tagged() - before
    monkeypatch.setattr(child, "kill_all", hunted)
    started.end()
    assert not _tagged() - before


@POSIX
@pytest.mark.slow
def test_the_probe_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "loops.py"
    program.write_text("import time\nprint('on', flush=True)\nwhile True: time.sleep(1)\n")
    code = (
        "import sys; from gradsight_server import probe; "
        f"probe.run(probe.request({str(program)!r}, python=sys.executable), print)"
    )
    before = _tagged()
    roots = [str(PROGRAMS.parents[1] / part) for part in ("analysis", "server")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*roots, os.environ.get("PYTHONPATH", "")])}
    starter = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert starter.stdout is not None
    assert starter.stdout.readline().strip() == "on"
    starter.kill()
    starter.wait()
    starter.stdout.close()
    end = time.monotonic() + 30
    while _tagged() - before and time.monotonic() < end:
        time.sleep(0.1)
    assert not _tagged() - before


@pytest.mark.slow
def test_the_users_modules_are_the_users(tmp_path: Path) -> None:
    """Modules named as ours, or as those that the probe itself uses, are found beside the program."""
    for name in ("record", "run", "server", "analysis", "channel", "report"):
        (tmp_path / f"{name}.py").write_text(f"own = {name!r}\n")
    program = tmp_path / "main.py"
    program.write_text(
        "import sys, record, run, server, analysis, channel, report, torch\n"
        "print(record.own, run.own, server.own, analysis.own, channel.own, report.own)\n"
        "print(__name__, __file__ == sys.argv[0], sys.modules['__main__'].__dict__ is globals())\n"
        "print([name for name in sys.modules if name.startswith('gradsight') and 'probe' not in name])\n"
    )
    result = probe.run(probe.request(program, python=sys.executable, argv=("a", "b")))
    assert result.exit_code == 0, result
    assert result.output.splitlines() == [
        "record run server analysis channel report",
        "__main__ True True",
        "[]",
    ]


@pytest.mark.slow
def test_to_json_is_json(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "not_a_number.py")
    data = probe.to_json(ran.result)
    assert list(data) == ["device", "torch", "loss", "parameters", "steps", "lines", "error"]
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert list(data["parameters"][0]) == ["name", "gradient", "at_last_step", "norm", "shape", "optimizer"]
    assert list(data["steps"][0]) == ["row", "parameters"]
    assert set(data["lines"][0]) == {
        "filename", "row", "name", "state", "cause", "reason", "shape", "dtype", "norm",
    }  # fmt: skip


def _request(folder: Path, name: str, **options: Any) -> probe.ProbeRequest:
    shutil.copy(PROGRAMS / name, folder / name)
    options.setdefault("python", sys.executable)
    return probe.request(folder / name, directory=str(folder), **options)


def _row(ran: Ran, text: str) -> int:
    rows = Path(ran.request.filename).read_text().splitlines()
    return next(number for number, row in enumerate(rows, 1) if text in row)
