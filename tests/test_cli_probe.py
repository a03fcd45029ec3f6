"""`gradsight probe`: one real run on each way out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_line import KEPT, LOST, ROOT, run

SCHEMA = json.loads((ROOT / "analysis/gradsight_cli/schema/probe-1.json").read_text(encoding="utf-8"))
PROGRAM = KEPT.replace("optimizer.step()\n", "optimizer.step()\nprint('printed by the program')\n")


def _probed(*arguments: str, cwd: Path, code: int) -> dict[str, Any]:
    done = run(
        "probe", "--python", sys.executable, "--output-format", "json", "--device", "cpu", *arguments, cwd=cwd
    )
    assert done.returncode == code, done.stderr.decode()
    result = json.loads(done.stdout)
    jsonschema.validate(result, SCHEMA, jsonschema.Draft202012Validator)
    assert isinstance(result, dict)
    return result


@pytest.mark.slow  # imports torch
def test_a_run_is_told_in_json_and_nothing_else_is_printed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(PROGRAM)
    result = _probed("a.py", cwd=tmp_path, code=0)
    assert result["error"] is None
    assert {each["name"]: each["at_last_step"] for each in result["parameters"]} == {
        "model.weight": "nonzero",
        "model.bias": "nonzero",
    }
    assert [step["row"] for step in result["steps"]] == [8]


@pytest.mark.slow  # imports torch
def test_a_program_that_raises_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LOST)
    result = _probed("a.py", cwd=tmp_path, code=1)
    assert (result["error"]["type"], result["error"]["row"]) == ("RuntimeError", 8)
    cut = [each for each in result["lines"] if each["state"] == "cut"]
    assert [each["row"] for each in cut] == [6]


@pytest.mark.slow  # imports torch
def test_people_get_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(PROGRAM)
    done = run("probe", "a.py:1-9", "--python", sys.executable, "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("a.py: 1 backward on cpu, torch ")
    assert any(line.split()[:3] == ["model.weight", "1×3", "nonzero"] for line in lines)
    assert all(line == line.rstrip() for line in lines)
    assert b"printed by the program" not in done.stdout  # row 10 was not asked for


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.py"], "missing.py: no such file"),
        (["."], "is a folder"),
        (["bad.py"], "is not UTF-8"),
        (["a.py:100-200"], "row 100 does not exist"),
        (["a.py", "--python", "no-such-python"], "no interpreter `no-such-python`"),
        (["a.py", "--timeout", "0"], "above 0"),
        (["a.py", "--timeout", "soon"], "above 0"),
        (["a.py", "--device", "abacus"], "invalid choice"),
        (["a.ipynb"], "is no notebook: it has no list of cells"),
    ],
)
def test_misuse_exits_with_2_and_says_what_to_do(tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "a.py").write_text(PROGRAM)
    (tmp_path / "a.ipynb").write_text("{}")
    (tmp_path / "bad.py").write_bytes(b"\xff")
    done = run("probe", "--python", sys.executable, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert says in done.stderr.decode()


def test_the_server_says_when_it_comes(tmp_path: Path) -> None:
    if (ROOT / "server" / "gradsight_server" / "app.py").exists():
        pytest.skip("the server is here")
    done = run("server", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().splitlines() == [
        "gradsight: the language server comes with the editor release"
    ]
