"""What stands between the selection and the child, and the rules that the child's code obeys."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from gradsight import slicing
from gradsight_server import child, probe

FILES = sorted(child.PROBE.glob("*.py"))
# What Python 3.8 lacks, beside its syntax: names that are easily written by mistake.
NEWER = {
    "unparse",
    "removeprefix",
    "removesuffix",
    "pairwise",
    "waitstatus_to_exitcode",
    "is_relative_to",
    "cache",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_probe_is_written_for_python_3_8(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    future = [item.module for item in ast.walk(tree) if isinstance(item, ast.ImportFrom)]
    assert "__future__" in future  # annotations are then never evaluated
    used = {item.attr for item in ast.walk(tree) if isinstance(item, ast.Attribute)}
    assert not used & NEWER
    for item in ast.walk(tree):
        if isinstance(item, ast.Call):
            name = item.func.attr if isinstance(item.func, ast.Attribute) else getattr(item.func, "id", "")
            assert not (name == "zip" and any(keyword.arg == "strict" for keyword in item.keywords)), path
            assert not (name == "dataclass" and item.keywords), path
            union = name == "isinstance" and isinstance(item.args[1], ast.BinOp)
            assert not (union and isinstance(item.args[1].op, ast.BitOr)), path  # it is evaluated there


def test_starting_and_reading_load_no_torch_and_no_protocol() -> None:
    code = (
        "import sys, gradsight_server.probe\n"
        "print([name for name in sys.modules if name.split('.')[0] in "
        "('torch', 'pygls', 'lsprotocol', 'libcst', 'gradsight_probe', 'attrs')])"
    )
    roots = [str(child.PROBE.parent), str(child.PROBE.parents[1] / "analysis")]
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {roots!r}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "[]"


def test_a_request_slices(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text("import torch\nunused = 1\nx = torch.ones(1)\ny = x + 1\n")
    request = probe.request(path, rows=(4, 4), timeout=5.0)
    assert request.text == "import torch\n\nx = torch.ones(1)\ny = x + 1\n"
    assert request.rows == (4, 4)
    assert request.filename == str(path)
    assert request.timeout == 5.0
    with pytest.raises(slicing.SelectionError):
        probe.request(path, rows=(40, 41))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"x = '\xff'\n", SyntaxError),
        (b"# coding: nonsense\n", SyntaxError),
        (b"\xff\xfex", (SyntaxError, UnicodeError)),
    ],
)
def test_a_file_that_is_no_text(tmp_path: Path, content: bytes, error: type[Exception]) -> None:
    path = tmp_path / "program.py"
    path.write_bytes(content)
    with pytest.raises(error):
        probe.request(path)


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_bytes(b"\xef\xbb\xbfx = 1\r\ny = 2\r\n")
    assert probe.request(path).text == "x = 1\ny = 2\n"


def test_half_a_line_of_events_does_no_harm() -> None:
    told = child.Told()
    for line in (
        b'{"event": "ready", "torch": "2", "device": "cpu"}\n',
        b'{"event": "st',
        b"[]",
        b"3",
        b"\xff",
    ):
        told.take(line)
    assert (told.torch, told.report) == ("2", None)
