"""What `gradsight check` promises: exit codes, standard input, the cache, many files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from command_line import KEPT, LOST, ROOT, WASTEFUL, codes, environment, findings, run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[tool.gradsight]\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        (KEPT, [], 0),
        (LOST, [], 1),
        (LOST, ["--fail-on", "error"], 1),
        (WASTEFUL, [], 0),
        (WASTEFUL, ["--fail-on", "information"], 0),
        (WASTEFUL, ["--fail-on", "hint"], 1),
        ("x = (\n", [], 1),
        ("", [], 0),
        (LOST, ["--fail-on", "loudly"], 2),
        (LOST, ["--jobs", "0"], 2),
        (LOST, ["--no-such-option"], 2),
        (LOST, ["missing.py"], 2),
        (LOST, ["-"], 2),
    ],
)
def test_the_exit_code_tells_what_was_found(
    project: Path, text: str, arguments: list[str], code: int
) -> None:
    (project / "train.py").write_text(text)
    assert run("check", "train.py", *arguments, cwd=project).returncode == code


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["check", "--color", "pink"], ["explain"], ["fix"]])
def test_misuse_exits_with_2_and_says_how_to_use_it(project: Path, arguments: list[str]) -> None:
    done = run(*arguments, cwd=project)
    assert done.returncode == 2
    assert b"usage: gradsight" in done.stderr
    assert done.stdout == b""


def test_the_version_is_the_projects(project: Path) -> None:
    version = f'version = "{run("--version", cwd=project).stdout.decode().split()[1]}"'
    assert version in (ROOT / "pyproject.toml").read_text().splitlines()


def test_findings_stand_in_the_order_of_files_and_places(project: Path) -> None:
    (project / "b.py").write_text(LOST)
    (project / "a.py").write_text(LOST + "\nx = (\n")
    found = findings("b.py", ".", cwd=project)
    assert [(each["filename"], each["location"]["row"]) for each in found] == [
        ("b.py", 6),
        ("a.py", 6),
        ("a.py", 11),
    ]


def test_a_file_is_checked_once_however_often_it_is_named(project: Path) -> None:
    (project / "a.py").write_text(LOST)
    once = codes("a.py", cwd=project)
    assert once == codes("a.py", "./a.py", ".", project / "a.py", cwd=project)


def test_standard_input_is_named_and_configured_by_stdin_filename(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.gradsight]\nignore = ["GS1"]\n')
    plain = run("check", "-", "--isolated", "--output-format", "concise", cwd=project, stdin=LOST.encode())
    assert plain.returncode == 1
    assert plain.stdout.startswith(b"-:6:8 GS102 ")
    named = ["check", "-", "--stdin-filename", "src/train.py", "--output-format", "concise"]
    assert run(*named, "--isolated", cwd=project, stdin=LOST.encode()).stdout.startswith(
        f"src{os.sep}train.py:6:8 GS102 ".encode()
    )
    assert run(*named, cwd=project, stdin=LOST.encode()).stdout == b""


def test_silence_is_explained_on_request_only(project: Path) -> None:
    (project / "a.py").write_text(
        LOST.replace("import torch\n", "import torch\nimport elsewhere\n", 1).replace(
            "prediction.detach()", "elsewhere.transform(prediction)"
        )
    )
    assert b"silent" not in run("check", "a.py", cwd=project).stdout
    for form in ("full", "concise"):
        asked = run("check", "a.py", "--explain-silence", "--output-format", form, cwd=project)
        assert b"a.py:" in asked.stdout
        assert b" silent: " in asked.stdout
    machine = run("check", "a.py", "--explain-silence", "--output-format", "json", cwd=project)
    assert json.loads(machine.stdout) == []
    assert b" silent: " in machine.stderr


def _cached(project: Path) -> list[Path]:
    return sorted(project.glob(".gradsight_cache/*/*.json"))


@pytest.mark.slow
def test_a_kept_result_equals_a_new_one_in_every_format(project: Path) -> None:
    (project / "a.py").write_text(LOST + WASTEFUL + "x = (\n")
    for form in ("full", "concise", "json", "github", "sarif"):
        arguments = ["check", "a.py", "--explain-silence", "--output-format", form]
        new = run(*arguments, "--no-cache", cwd=project)
        assert not _cached(project)
        first = run(*arguments, cwd=project)
        assert len(_cached(project)) == 1
        again = run(*arguments, cwd=project)
        assert (new.stdout, new.stderr) == (first.stdout, first.stderr) == (again.stdout, again.stderr)
        for file in _cached(project):
            file.unlink()


def test_the_cache_is_read_and_hides_itself(project: Path) -> None:
    (project / "a.py").write_text(LOST)
    assert codes("a.py", cwd=project)
    (kept,) = _cached(project)
    content = json.loads(kept.read_text())
    kept.write_text(json.dumps({**content, "findings": []}))
    assert codes("a.py", cwd=project) == []
    assert codes("a.py", "--no-cache", cwd=project)
    assert (project / ".gradsight_cache" / ".gitignore").read_text().splitlines()[-1] == "*"
    (project / "a.py").write_text(LOST + "# changed\n")
    assert codes("a.py", cwd=project)


@pytest.mark.slow
def test_a_spoilt_cache_is_no_cache(project: Path) -> None:
    (project / "a.py").write_text(LOST)
    expected = findings("a.py", cwd=project)
    (kept,) = _cached(project)
    whole = kept.read_text()
    content = json.loads(whole)
    spoilt = [
        "",
        "[" * 100_000,
        whole[: len(whole) // 2],
        "null",
        json.dumps({**content, "findings": [{"code": 1}]}),
        json.dumps({**content, "findings": [{**content["findings"][0], "where": ["x", None]}]}),
        json.dumps({**content, "silences": 7}),
    ]
    for text in spoilt:
        kept.write_text(text)
        assert findings("a.py", cwd=project) == expected, text[:80]
        assert kept.read_text() == whole


def test_a_changed_configuration_holds_for_kept_results(project: Path) -> None:
    (project / "a.py").write_text(LOST)
    assert codes("a.py", cwd=project) == [("a.py", "GS102")]
    (project / "pyproject.toml").write_text('[tool.gradsight]\nselect = ["GS2"]\n')
    assert codes("a.py", cwd=project) == []
    (project / "pyproject.toml").write_text('[tool.gradsight]\nseverity = {GS102 = "hint"}\n')
    assert [each["severity"] for each in findings("a.py", cwd=project)] == ["hint"]


def test_a_folder_that_cannot_be_written_is_checked_all_the_same(project: Path) -> None:
    (project / "a.py").write_text(LOST)
    (project / ".gradsight_cache").write_text("in the way")
    assert codes("a.py", cwd=project) == [("a.py", "GS102")]


def test_many_processes_say_what_one_says(project: Path) -> None:
    # Enough text that a pool is worth starting.
    padding = "# " + "x" * 98 + "\n"
    for number in range(12):
        text = (LOST if number % 3 else KEPT) + padding * 500
        (project / f"train_{number:02}.py").write_text(text)
    (project / "broken.py").write_bytes(b"\xff\n")
    arguments = ["check", ".", "--no-cache", "--output-format", "json"]
    one = run(*arguments, "--jobs", "1", cwd=project)
    many = run(*arguments, "--jobs", "3", cwd=project)
    assert (one.returncode, one.stdout, one.stderr) == (many.returncode, many.stdout, many.stderr)
    assert len(json.loads(one.stdout)) == 8
    assert one.returncode == 2


def test_colour_needs_a_terminal(project: Path) -> None:
    (project / "a.py").write_text(LOST)
    assert b"\x1b" not in run("check", "a.py", cwd=project).stdout
    assert b"\x1b" in run("check", "a.py", "--color", "always", cwd=project).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
@pytest.mark.parametrize(
    ("settings", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_has_colour_unless_it_is_unwanted(
    project: Path, settings: dict[str, str], coloured: bool
) -> None:
    import pty
    import subprocess

    (project / "a.py").write_text(LOST)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gradsight_cli", "check", "a.py"],
        cwd=project,
        stdout=slave,
        stderr=slave,
        stdin=subprocess.DEVNULL,
        env={**environment(), **settings},
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    assert process.wait(60) == 1
    assert b"GS102" in seen
    assert (b"\x1b[" in seen) is coloured


def test_nobody_listening_is_no_trouble(project: Path) -> None:
    import subprocess

    for number in range(200):
        (project / f"a{number}.py").write_text(LOST)
    process = subprocess.Popen(
        [sys.executable, "-m", "gradsight_cli", "check", "."],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 141
    process.stderr.close()
