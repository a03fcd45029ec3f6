"""What README shows is what happens: its commands, its example, its table of rules, its settings."""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path

import pytest
from command_line import ROOT, run
from gradsight.pages import PAGES

README = ROOT / "README.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return [text for kind, text in _BLOCK.findall(README.read_text(encoding="utf-8")) if kind == language]


def _put(old: str, language: str, number: int, new: str) -> str:
    """The page with the block of this language and number replaced."""
    found = [match for match in _BLOCK.finditer(old) if match[1] == language][number]
    return old[: found.start(2)] + new + old[found.end(2) :]


def test_the_first_two_commands_are_one_line_each() -> None:
    assert blocks("sh")[:2] == ["bash .ci/demo\n", "bash .ci/test\n"]
    for name in ("demo", "test", "setup", "run"):
        assert (ROOT / ".ci" / name).stat().st_mode & stat.S_IXUSR
    assert "bash .ci/test" in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_example_prints_what_is_shown(tmp_path: Path, update_golden: bool) -> None:
    (tmp_path / "train.py").write_text(blocks("python")[0])
    utf8 = {"PYTHONIOENCODING": "utf-8"}
    checked = run("check", "train.py", cwd=tmp_path, env=utf8).stdout.decode()
    fixed = run("fix", "train.py", cwd=tmp_path, env=utf8).stdout.decode()
    if update_golden:
        page = _put(_put(README.read_text("utf-8"), "text", 0, checked), "diff", 0, fixed)
        README.write_text(page, encoding="utf-8")
    assert blocks("text")[0] == checked
    assert blocks("diff")[0] == fixed
    assert fixed


@pytest.mark.slow  # imports torch
def test_the_probe_sees_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(blocks("python")[0])
    done = run("probe", "train.py", "--python", sys.executable, "--device", "cpu", cwd=tmp_path)
    # The norms are those of one machine and one version of torch.
    shown = [line.split()[:3] for line in blocks("text")[1].splitlines()]
    assert len(shown) == 5
    seen = [line.split()[:3] for line in done.stdout.decode().splitlines()]
    assert [line for line in seen if line in shown] == shown


def test_the_table_lists_every_code(update_golden: bool) -> None:
    rows = [f"| {page.code} | {page.name} | {page.summary} |" for page in PAGES]
    text = README.read_text(encoding="utf-8")
    shown = [row for row in text.splitlines() if re.match(r"\| GS\d{3} \|", row)]
    if update_golden:
        README.write_text(text.replace("\n".join(shown), "\n".join(rows)), encoding="utf-8")
        shown = rows
    assert shown == rows


def test_the_settings_shown_are_understood(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(blocks("toml")[0])
    (tmp_path / "a.py").write_text("x = 1\n")
    assert run("check", ".", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target
