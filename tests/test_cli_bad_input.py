"""Whatever a file holds: a clear message, the right exit code, and no other file pays for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from command_line import LOST, codes, findings, run


def slow(*values: object) -> object:
    """A case for the whole run only."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("latin.py", "name = 'é'\n".encode("latin-1"), "is not UTF-8: byte 0xe9 in line 1"),
        ("wide.py", LOST.encode("utf-16"), "is UTF-16"),
        slow("null.py", b"x = 1\0\n", "contains null bytes"),
        slow("klingon.py", b"# coding: klingon\n", "unknown encoding: klingon"),
        slow("rot13.py", b"# coding: rot13\nx = 1\n", "encoding"),
        slow("liar.py", b"# coding: ascii\nx = '\xe9'\n", "is not ASCII"),
        slow("mark.py", b"\xef\xbb\xbf# coding: latin-1\n", "encoding"),
        slow("empty.ipynb", b"{}", "is no notebook: it has no list of cells"),
        slow("list.ipynb", b"[]", "is no notebook: its JSON is no object"),
        ("torn.ipynb", b'{\n"cells": [', "is no notebook: no valid JSON in line 2"),
        slow("deep.ipynb", b"[" * 100_000, "is no notebook: its JSON is nested too deeply"),
        slow("latin.ipynb", b'{"cells": ["\xe9"]}', "is no notebook: byte 0xe9 in line 1 is not UTF-8"),
        slow(
            "old.ipynb",
            b'{"nbformat": 3, "worksheets": []}',
            "old format: convert it with `jupyter nbconvert",
        ),
        slow("cell.ipynb", b'{"cells": [3]}', "is no notebook: cell 1 is no object"),
        slow("text.ipynb", b'{"cells": [{"cell_type": "code", "source": [1]}]}', "cell 1 has no text"),
        ("image.png", b"\x89PNG\r\n\x1a\n\0\0", "null bytes"),
    ],
)
def test_what_is_no_python_text_is_said_and_exits_with_2(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "good.py").write_text(LOST)
    for verb in (["check", "--output-format", "concise"], ["fix"]):
        done = run(*verb, name, "good.py", cwd=tmp_path)
        assert done.returncode == 2
        assert f"gradsight: {name}: " in done.stderr.decode()
        assert says in done.stderr.decode()
        assert b"good.py" in done.stdout
    if name.endswith(".py"):
        piped = run("check", "-", cwd=tmp_path, stdin=content)
        assert piped.returncode == 2
        assert says in piped.stderr.decode()


def test_a_missing_path_exits_with_2_and_the_others_are_checked(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(LOST)
    done = run("check", "missing.py", "good.py", "no/such/folder", "--output-format", "concise", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "gradsight: missing.py: no such file or folder",
        f"gradsight: {os.path.join('no', 'such', 'folder')}: no such file or folder",
    ]
    assert done.stdout.startswith(b"good.py:6:8 GS102")


def test_a_folder_without_python_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    done = run("check", "empty", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == b"gradsight: no Python files or notebooks below empty\n"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b"# nothing\n", b"\r", b"\x0c\n"])
def test_a_file_with_nothing_in_it_is_fine(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.py").write_bytes(content)
    done = run("check", "a.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: ("\ufeff" + text).encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.rstrip("\n").encode(),
        lambda text: (
            "# coding: utf-8\n" + text[text.index("\n") + 1 :].replace("model", "import torch; model", 1)
        ).encode(),
    ],
)
def test_marks_and_line_ends_move_nothing(tmp_path: Path, change: object) -> None:
    (tmp_path / "a.py").write_bytes(change(LOST))  # type: ignore[operator]
    (found,) = findings("a.py", cwd=tmp_path)
    assert (found["code"], found["location"]) == ("GS102", {"row": 6, "column": 8})


def test_a_syntax_error_is_a_finding_beside_the_others(tmp_path: Path) -> None:
    broken = LOST.replace("optimizer.zero_grad()", "optimizer.zero_grad(]")
    (tmp_path / "a.py").write_text(broken)
    (tmp_path / "b.py").write_text("def f(:\n")
    assert codes(".", cwd=tmp_path) == [("a.py", "GS102"), ("a.py", "GS001"), ("b.py", "GS001")]
    assert run("check", "b.py", cwd=tmp_path).returncode == 1


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="this Python reads the newest syntax we know a case of"
)
def test_newer_syntax_is_one_information_that_names_the_python(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("type Pair[T] = tuple[T, T]\n" + LOST)
    found = findings("a.py", cwd=tmp_path)
    assert [(each["code"], each["severity"]) for each in found] == [
        ("GS002", "information"),
        ("GS102", "error"),
    ]
    assert "3.12" in found[0]["message"]


@pytest.mark.parametrize(
    "line",
    [
        "x = " + "(" * 2000 + ")" * 2000,
        "x = " + "[" * 2000,
        "x = " + "-" * 20_000 + "1",
        "x = " + "f(" * 90 + ")" * 90,
        "x = " + ".a".join(["y"] * 5000),
        "x = " + " + ".join(["1"] * 20_000),
        "".join("\t" * depth + "if x:\n" for depth in range(150)),
    ],
    ids=["brackets", "unclosed", "signs", "calls", "attributes", "sums", "blocks"],
)
def test_deep_nesting_costs_its_line_alone(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.py").write_text(LOST + line + "\n")
    (tmp_path / "b.py").write_text(LOST)
    done = run("check", ".", "--no-cache", "--output-format", "concise", cwd=tmp_path)
    assert done.returncode == 1, done.stderr.decode()
    assert b"a.py:6:8 GS102" in done.stdout
    assert b"b.py:6:8 GS102" in done.stdout


@pytest.mark.slow
def test_fifty_thousand_lines(tmp_path: Path) -> None:
    lines = [f"value_{number} = {number}" for number in range(50_000)]
    (tmp_path / "a.py").write_text(LOST + "\n".join(lines) + "\n" + LOST)
    assert [each["location"]["row"] for each in findings("a.py", cwd=tmp_path)] == [6, 50_000 + 9 + 6]


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text are a thing of Linux")
def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\n.py"
    with open(name, "w") as stream:
        stream.write(LOST)
    for form in ("full", "concise", "json", "github", "sarif"):
        assert run("check", ".", "--output-format", form, cwd=tmp_path).returncode == 1


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LOST)
    (tmp_path / "a.py").chmod(0)
    done = run("check", "a.py", cwd=tmp_path)
    assert done.returncode == 2
    assert b"a.py: cannot be read: permission denied" in done.stderr


def test_a_bug_of_ours_is_one_line_and_costs_one_file(tmp_path: Path) -> None:
    import subprocess

    from command_line import environment

    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / name).write_text(LOST)
    # The analysis is made to fail on one file, as a bug would.
    program = (
        "import sys\n"
        "from gradsight.engine import Engine\n"
        "analyze = Engine.analyze\n"
        "def failing(self, source, files=None, **how):\n"
        "    if source.file == 'b.py': raise KeyError('oh')\n"
        "    return analyze(self, source, files, **how)\n"
        "Engine.analyze = failing\n"
        "from gradsight_cli.__main__ import main\n"
        "sys.exit(main(['check', '.', '--no-cache', '--output-format', 'concise']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 2
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["a.py", "c.py"]
    (line,) = done.stderr.splitlines()
    assert line.startswith("gradsight: b.py: could not be checked: this is a bug in Gradsight")
    assert "KeyError" in line
    assert "report" in line


@pytest.mark.parametrize(
    ("text", "row"),
    [("import torch\nx = 1\n  y = 2\n", 3), ("import torch\nfor x in y:\n    pass\nelif z:\n    pass\n", 4)],
    ids=["indentation", "elif without if"],
)
def test_an_error_that_no_line_shows_alone(tmp_path: Path, text: str, row: int) -> None:
    (tmp_path / "train.py").write_text(text)
    done = run("check", "--output-format", "concise", "train.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith(f"train.py:{row}:".encode())
    assert b" GS001 " in done.stdout
