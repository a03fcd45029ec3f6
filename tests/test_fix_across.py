"""Fixes that lie in another file than the mistake shows in, or in several: all are changed or none is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT, run
from gradsight.crossing import fixes_across
from gradsight.engine import Engine
from gradsight.finding import Abroad, Applicability, Edit, Finding, Fix, Severity, apply
from gradsight.text import Source, Span
from gradsight_cli.fix import write_together
from gradsight_cli.reading import Unreadable
from harness.client import Client, edit
from test_server_features import actions, applied, patched

PROJECTS = ROOT / "fixtures" / "projects"
# The project, the file that is run, the files that change, and what must hold of the program then.
MENDED = [
    ("softmax_head", "train.py", ("model.py",), "abs(model(x).sum(dim=1) - 1).max() > 1e-3"),
    ("head_class", "train.py", ("heads.py",), "True"),
    ("item_in_helper", "run.py", ("run.py", "utils.py"), "model.weight.grad is not None"),
]


def copied(name: str, to: Path) -> Path:
    shutil.copytree(PROJECTS / name, to / name)
    (to / name / "pyproject.toml").write_text("[tool.gradsight]\n")
    return to / name


def texts(folder: Path) -> dict[str, str]:
    return {each.name: each.read_text(encoding="utf-8") for each in folder.glob("*.py")}


@pytest.mark.parametrize(("name", "main", "changed", "holds"), MENDED, ids=[each[0] for each in MENDED])
def test_a_diff_is_what_is_written(
    name: str, main: str, changed: tuple[str, ...], holds: str, tmp_path: Path
) -> None:
    folder = copied(name, tmp_path)
    before = texts(folder)
    diff = run("fix", "--unsafe", "--diff", ".", cwd=folder)
    assert diff.returncode == 1
    assert texts(folder) == before
    written = run("fix", "--unsafe", "--write", ".", cwd=folder)
    assert written.returncode == 0, written.stderr.decode()
    after = texts(folder)
    assert {file for file in after if after[file] != before[file]} == set(changed)
    shown = {
        part.split("\n", 1)[0].strip(): ("--- " + part).encode()
        for part in diff.stdout.decode().split("--- ")
        if part
    }
    assert {file: patched(before[file], shown[file]) for file in shown} == {
        file: after[file] for file in changed
    }
    assert run("check", ".", cwd=folder).returncode == 0
    again = run("fix", "--unsafe", "--write", ".", cwd=folder)
    assert (again.returncode, again.stdout, texts(folder)) == (0, b"", after)


@pytest.mark.slow  # imports torch
@pytest.mark.parametrize(("name", "main", "changed", "holds"), MENDED, ids=[each[0] for each in MENDED])
def test_the_program_is_mended(
    name: str, main: str, changed: tuple[str, ...], holds: str, tmp_path: Path
) -> None:
    folder = copied(name, tmp_path)
    run("fix", "--unsafe", "--write", ".", cwd=folder)
    ask = f"import runpy; assert eval({holds!r}, runpy.run_path({main!r}))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); {ask}"], cwd=folder, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_file_that_nobody_named_is_not_changed(tmp_path: Path) -> None:
    folder = copied("softmax_head", tmp_path)
    before = texts(folder)
    done = run("fix", "--unsafe", "--write", "train.py", cwd=folder)
    assert done.returncode == 1  # something is left
    assert texts(folder) == before


def test_all_are_written_or_none(tmp_path: Path) -> None:
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_bytes(b"a = 1\n")
    second.write_bytes(b"b = 2  # saved meanwhile\n")
    changes = [(str(first), b"a = 1\n", b"a = 10\n"), (str(second), b"b = 2\n", b"b = 20\n")]
    with pytest.raises(Unreadable, match=r"b\.py changed while it was being checked"):
        write_together(changes)
    assert (first.read_bytes(), second.read_bytes()) == (b"a = 1\n", b"b = 2  # saved meanwhile\n")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.py", "b.py"]
    second.write_bytes(b"b = 2\n")
    write_together(changes)
    assert (first.read_bytes(), second.read_bytes()) == (b"a = 10\n", b"b = 20\n")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.py", "b.py"]


# -- the editor


def menu(client: Client, uri: str, code: str) -> list[Any]:
    """The fixes of the first finding of a rule; none while there is no such finding."""
    found = next((each for each in client.diagnostics(uri) if each["code"] == code), None)
    if found is None:
        return []
    offered = actions(client, uri, found["range"], only=["quickfix"])
    return [each for each in offered if each["data"]["offer"].startswith("fix")]


def until(look: Callable[[], Any]) -> Any:
    """What `look` gives once it is something: users of a file that changed are looked at when it is quiet."""
    for _ in range(300):
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def test_an_editor_gets_edits_of_the_other_document_for_its_version(tmp_path: Path) -> None:
    folder = copied("softmax_head", tmp_path)
    before = texts(folder)
    with Client(folder) as client:
        train, model = client.uri("train.py"), client.uri("model.py")
        client.open(train, before["train.py"])
        # It lies on disk alone.
        (action,) = menu(client, train, "GS302")
        assert action["title"] == "Drop the softmax: pass the logits (changes model.py) (unsafe)"
        (change,) = client.request("codeAction/resolve", action)["edit"]["documentChanges"]
        assert change["textDocument"] == {"uri": model, "version": None}
        # It is open, and has moved on.
        text = "# mine\n" + before["model.py"]
        client.open(model, before["model.py"], 5)
        client.change(model, edit(0, 0, 0, 0, "# mine\n"))
        again = until(lambda: menu(client, train, "GS302"))
        (change,) = client.request("codeAction/resolve", again[0])["edit"]["documentChanges"]
        assert change["textDocument"] == {"uri": model, "version": 6}
        mended = applied(text, change["edits"], "utf-16")
        assert mended == text.replace(
            "F.softmax(self.head(self.block(x)), dim=1)", "self.head(self.block(x))"
        )
        client.change(model, {"text": mended})
        until(lambda: not client.diagnostics(train))


def test_an_editor_changes_both_or_none(tmp_path: Path) -> None:
    folder = copied("item_in_helper", tmp_path)
    before = texts(folder)
    run("fix", "--unsafe", "--write", ".", cwd=folder)
    with Client(folder) as client:
        for name, text in before.items():
            (folder / name).write_text(text, encoding="utf-8")
            client.open(client.uri(name), text, 3)
        (action,) = menu(client, client.uri("run.py"), "GS103")
        changes = client.request("codeAction/resolve", action)["edit"]["documentChanges"]
        assert {each["textDocument"]["uri"] for each in changes} <= {client.uri(name) for name in before}
        assert all(each["textDocument"]["version"] == 3 for each in changes)


# -- the way there and back


def finding(*places: tuple[str, str, Span]) -> Finding:
    where = places[0]
    abroad = tuple(Abroad(name, file, span, None) for name, file, span in places)
    return Finding("GS102", "n", Severity.WARNING, "m", where[1], where[2], abroad=abroad)


A = Source("/p/a.py", "import torch\nx = f(1)\n")
B = Source("/p/b.py", "from torch import nn\r\ny = g(2)\r\n")


def mended(text: str, edits: Any, *places: tuple[str, str, Span]) -> tuple[Fix, ...]:
    """What comes back where a rule makes these edits of the text of both."""

    def mend(source: Source, one: Finding) -> list[Fix]:
        return [Fix("Mend", Applicability.SAFE, tuple(edits(source, one)))]

    return fixes_across(mend, finding(*places), {A.file: A, B.file: B}.get)


IN_A, IN_B = Span(17, 21), Span(26, 30)


def test_each_edit_comes_back_to_its_file() -> None:
    assert (A.slice(IN_A), B.slice(IN_B)) == ("f(1)", "g(2)")

    def edits(source: Source, one: Finding) -> list[Edit]:
        other = one.place("other")
        assert other is not None
        assert (source.slice(one.where), source.slice(other)) == ("f(1)", "g(2)")
        return [Edit(source.file, one.where, "1"), Edit(source.file, other, "(2,\n  3)")]

    (fix,) = mended("", edits, ("", A.file, IN_A), ("other", B.file, IN_B))
    assert fix.title == "Mend (changes b.py)"
    assert {each.file: apply({A.file: A, B.file: B}[each.file].text, (each,)) for each in fix.edits} == {
        A.file: "import torch\nx = 1\n",
        B.file: "from torch import nn\r\ny = (2,\r\n  3)\r\n",
    }


@pytest.mark.parametrize(
    ("text", "offered"), [("torch.ones(1)", False), ("nn.Identity()", True), ("len('')", True), ("(", False)]
)
def test_a_name_that_the_file_does_not_know_is_not_written_into_it(text: str, offered: bool) -> None:
    """`torch` is known in the other file alone."""

    def edits(source: Source, one: Finding) -> list[Edit]:
        other = one.place("other")
        assert other is not None
        return [Edit(source.file, other, text)]

    assert bool(mended("", edits, ("", A.file, IN_A), ("other", B.file, IN_B))) == offered


def test_an_import_goes_to_the_file_that_needs_it() -> None:
    def edits(source: Source, one: Finding) -> list[Edit]:
        other = one.place("other")
        assert other is not None
        return [Edit(source.file, Span(0, 0), "import math\n"), Edit(source.file, other, "math.pi")]

    (fix,) = mended("", edits, ("", A.file, IN_A), ("other", B.file, IN_B))
    assert {each.file for each in fix.edits} == {B.file}


def test_no_edit_leaves_its_file() -> None:
    def edits(source: Source, one: Finding) -> list[Edit]:
        return [Edit(source.file, Span(0, len(source.text)), "")]

    assert mended("", edits, ("", A.file, IN_A), ("other", B.file, IN_B)) == ()


def test_a_bug_in_a_fix_costs_the_fix_alone() -> None:
    bugs: list[str] = []
    engine = Engine(lambda where, error: bugs.append(where))
    broken = finding(("", A.file, Span(900, 901)), ("other", "/p/gone.py", IN_B))
    assert engine.fixes(A, broken) == ()
    assert bugs == []
