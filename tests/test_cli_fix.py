"""What `gradsight fix` promises: whole or not at all, byte for byte, never over somebody else's change."""

from __future__ import annotations

import codecs
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import KEPT, LOST, WASTEFUL, findings, run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[tool.gradsight]\n")
    return tmp_path


def test_write_makes_the_fix_and_says_so(project: Path) -> None:
    file = project / "a.py"
    file.write_text(LOST)
    done = run("fix", "--write", "a.py", cwd=project)
    assert (done.returncode, file.read_text()) == (0, KEPT)
    assert done.stdout.decode().startswith("a.py: GS102: ")
    again = run("fix", "--write", "a.py", cwd=project)
    assert (again.returncode, again.stdout, file.read_text()) == (0, b"", KEPT)


@pytest.mark.parametrize("arguments", [[], ["--diff"]])
def test_a_diff_changes_nothing(project: Path, arguments: list[str]) -> None:
    file = project / "a.py"
    file.write_text(LOST)
    done = run("fix", *arguments, "a.py", cwd=project)
    assert done.returncode == 1
    assert done.stdout.decode().splitlines()[:2] == ["--- a.py", "+++ a.py"]
    assert file.read_text() == LOST
    file.write_text(KEPT)
    clean = run("fix", *arguments, "a.py", cwd=project)
    assert (clean.returncode, clean.stdout) == (0, b"")


_SHAPES = {
    "unix": LOST.encode(),
    "dos": LOST.replace("\n", "\r\n").encode(),
    "mark": codecs.BOM_UTF8 + LOST.encode(),
    "mark and dos": codecs.BOM_UTF8 + LOST.replace("\n", "\r\n").encode(),
    "latin-1": ("# coding: latin-1\nname = 'café'\n" + LOST).encode("latin-1"),
    "mixed ends": LOST.replace("\n", "\r\n", 3).encode(),
    "no last end": LOST.rstrip("\n").encode(),
    "separators": LOST.replace("optimizer.step()", "x = '\x0c \x1c \u2028 \x85'").encode(),
    "last line": (LOST.split("optimizer.zero", 1)[0] + "loss.backward(); loss2 = loss").encode(),
}


@pytest.mark.parametrize("shape", _SHAPES)
def test_all_else_stays_byte_for_byte(project: Path, shape: str) -> None:
    before = _SHAPES[shape]
    (project / "a.py").write_bytes(before)
    run("fix", "--write", "a.py", cwd=project)
    assert (project / "a.py").read_bytes() == before.replace(b".detach()", b"")


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.slow
def test_the_diff_is_what_write_writes(project: Path, shape: str) -> None:
    if shutil.which("patch") is None:
        pytest.skip("needs the program `patch`")
    (project / "a.py").write_bytes(_SHAPES[shape])
    diff = run("fix", "--diff", "a.py", cwd=project).stdout
    run("fix", "--write", "a.py", cwd=project)
    written = (project / "a.py").read_bytes()
    (project / "a.py").write_bytes(_SHAPES[shape])
    subprocess.run(["patch", "-p0", "--binary", "-s"], input=diff, cwd=project, check=True)
    assert (project / "a.py").read_bytes() == written


def test_only_safe_fixes_are_made_unless_asked(project: Path) -> None:
    # Chosen by what the fixes say of themselves, so that it holds for whatever rules there are.
    (project / "a.py").write_text(WASTEFUL + LOST)
    offered = {
        fix["applicability"] for each in findings("--fixes", "a.py", cwd=project) for fix in each["fixes"]
    }
    assert "safe" in offered
    run("fix", "--write", "a.py", cwd=project)
    left = {
        fix["applicability"] for each in findings("--fixes", "a.py", cwd=project) for fix in each["fixes"]
    }
    assert "safe" not in left
    run("fix", "--write", "--unsafe", "a.py", cwd=project)
    left = {
        fix["applicability"] for each in findings("--fixes", "a.py", cwd=project) for fix in each["fixes"]
    }
    assert left <= {"display"}


def test_several_fixes_in_one_file(project: Path) -> None:
    (project / "a.py").write_text(LOST + LOST + LOST)
    done = run("fix", "--write", "a.py", cwd=project)
    assert (project / "a.py").read_text() == KEPT + KEPT + KEPT
    assert done.stdout.count(b"GS102") == 3


def test_cuts_behind_each_other_go_in_rounds(project: Path) -> None:
    (project / "a.py").write_text(LOST.replace("prediction.detach()", "prediction.detach().exp().detach()"))
    run("fix", "--write", "a.py", cwd=project)
    assert (project / "a.py").read_text() == LOST.replace("prediction.detach()", "prediction.exp()")


def test_ignored_and_unselected_findings_are_not_fixed(project: Path) -> None:
    ignored = LOST.replace(".mean()", ".mean()  # gradsight: ignore[GS102]")
    (project / "a.py").write_text(ignored)
    (project / "sub").mkdir()
    (project / "sub" / "pyproject.toml").write_text('[tool.gradsight]\nignore = ["GS102"]\n')
    (project / "sub" / "b.py").write_text(LOST)
    assert run("fix", "--write", ".", cwd=project).returncode == 0
    assert (project / "a.py").read_text() == ignored
    assert (project / "sub" / "b.py").read_text() == LOST
    run("fix", "--write", "--isolated", ".", cwd=project)
    assert (project / "sub" / "b.py").read_text() == KEPT


def test_the_mode_and_a_link_are_kept(project: Path) -> None:
    real = project / "real.py"
    real.write_text(LOST)
    real.chmod(0o750)
    link = project / "link.py"
    link.symlink_to(real)
    run("fix", "--write", "link.py", cwd=project)
    assert link.is_symlink()
    assert real.read_text() == KEPT
    assert stat.S_IMODE(real.stat().st_mode) == 0o750
    assert sorted(each.name for each in project.iterdir()) == ["link.py", "pyproject.toml", "real.py"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_file_is_left_alone(project: Path) -> None:
    (project / "a.py").write_text(LOST)
    (project / "a.py").chmod(0o444)
    done = run("fix", "--write", "a.py", cwd=project)
    assert done.returncode == 2
    assert b"read-only" in done.stderr
    assert (project / "a.py").read_text() == LOST


def test_a_file_that_changed_meanwhile_is_left_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gradsight_cli import fix as verb
    from gradsight_cli.arguments import parse

    file = project / "a.py"
    file.write_text(LOST)
    fix_text = verb.fix_text

    def while_somebody_saves(*arguments: object) -> object:
        result = fix_text(*arguments)  # type: ignore[arg-type]
        file.write_text(LOST + "# saved meanwhile\n")
        return result

    monkeypatch.setattr(verb, "fix_text", while_somebody_saves)
    assert verb.fix(parse(["fix", "--isolated", "--write", str(file)])) == 2
    assert "changed while" in capsys.readouterr().err
    assert file.read_text() == LOST + "# saved meanwhile\n"
    assert [each.name for each in project.iterdir() if each.name.startswith(".")] == []


def test_a_failed_write_leaves_the_file_and_nothing_else(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradsight_cli import fix as verb
    from gradsight_cli.reading import Unreadable

    file = project / "a.py"
    file.write_text(LOST)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(verb.os, "replace", full)
    with pytest.raises(Unreadable, match="no space left"):
        verb.write_together([(str(file), LOST.encode(), KEPT.encode())])
    assert file.read_text() == LOST
    assert sorted(each.name for each in project.iterdir()) == ["a.py", "pyproject.toml"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"\xff\n", b"is not UTF-8"), (b"x\0", b"null bytes"), (b"# coding: klingon\n", b"encoding")],
)
def test_what_cannot_be_read_is_not_written(project: Path, content: bytes, says: bytes) -> None:
    (project / "a.py").write_bytes(content)
    (project / "b.py").write_text(LOST)
    done = run("fix", "--write", "a.py", "missing.py", "b.py", cwd=project)
    assert done.returncode == 2
    assert says in done.stderr
    assert b"missing.py: no such file" in done.stderr
    assert (project / "a.py").read_bytes() == content
    assert (project / "b.py").read_text() == KEPT
