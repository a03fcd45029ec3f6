"""What the pages say of files, modules, tests, rules and commands is so. README's examples have their own."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import ROOT, environment
from gradsight.pages import PAGES, Page
from gradsight.rule import SECTIONS, Rule
from gradsight.rules import RULES
from gradsight_cli import __version__, pages

ARCHITECTURE = ROOT / "analysis" / "README.md"
DOCUMENTS = [ARCHITECTURE, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "client/README.md"))]
PACKAGES = {
    "gradsight": ROOT / "analysis" / "gradsight",
    "gradsight_cli": ROOT / "analysis" / "gradsight_cli",
    "gradsight_server": ROOT / "server" / "gradsight_server",
    "gradsight_probe": ROOT / "server" / "gradsight_probe",
}
# Named although they are not here: a file of a user's project, and one that there must not be.
ELSEWHERE = {"train.py", "utils.py"}
# Rules whose page has no example in a code block yet.
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w./-]*\w\.(?:py|json|md|toml)|[\w.-]+(?:/[\w.-]+)*/")
_PLACEHOLDER = re.compile(r"(?:^|[/_])(?:NAME|CODE)(?:$|[/._])")
_TEST = re.compile(r"(tests/\w+\.py)::(\w+)")


def outside_fences(text: str) -> str:
    return _FENCE.sub("", text)


def words(text: str) -> Iterator[str]:
    """What stands in backticks, code blocks left out."""
    yield from _INLINE.findall(outside_fences(text))


def files_named(text: str) -> Iterator[str]:
    """Words in backticks that look like a file or a folder; patterns and placeholders left out."""
    for word in words(text):
        path = word.partition("::")[0]
        if _FILE.fullmatch(path) and not _PLACEHOLDER.search(path):
            yield path


def sections(text: str, level: str) -> dict[str, str]:
    """The text below each heading of a level, up to the next one of this level or above."""
    parts = re.split(rf"^(#{{1,{len(level)}}}) (.+)$", outside_fences(text), flags=re.MULTILINE)
    return {
        title: body
        for mark, title, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
        if mark == level
    }


def modules(folder: Path) -> set[str]:
    """The modules of a package, relative to it. What an `__init__` holds is its folder's."""
    return {
        path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if path.name != "__init__.py"
    }


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, heads and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line, below in zip(lines, [*lines[1:], ""], strict=True)
        if not set(line) <= set("|- :") and not (below and set(below) <= set("|- :"))
    ]


def file_of(rule: Rule) -> Path:
    return Path(sys.modules[rule.check.__module__].__file__ or "").resolve()


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


# -- the pages


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_files_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    bases = [ROOT, page.parent, *(folder.parent for folder in PACKAGES.values()), *PACKAGES.values()]
    bases.append(ROOT / "analysis" / "gradsight_cli" / "schema")
    ignored = (ROOT / ".gitignore").read_text("utf-8").split()
    missing = [
        name
        for name in files_named(text)
        if name not in ignored and not any((base / name).exists() for base in bases)
    ]
    assert set(missing) <= ELSEWHERE
    assert list(files_named(text)), "nothing was recognised"


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", outside_fences(page.read_text("utf-8"))):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_its_line(package: str) -> None:
    rooms = {
        title.split("`")[1]: body for title, body in sections(ARCHITECTURE.read_text("utf-8"), "###").items()
    }
    named = [cells[0].strip("`") for cells in rows(rooms[package])]
    # A rule is listed by `RULES`, its page says the rest: adding one touches no other page.
    rules = {file_of(rule).relative_to(PACKAGES["gradsight"]).as_posix() for rule in RULES}
    wanted = modules(PACKAGES[package]) - (rules if package == "gradsight" else set())
    assert sorted(named) == sorted(wanted)


def test_every_named_test_exists() -> None:
    named = [match for page in DOCUMENTS for match in _TEST.findall(page.read_text("utf-8"))]
    assert named
    known: dict[str, set[str]] = {}
    for file, test in named:
        if file not in known:
            known[file] = functions_of(ROOT / file)
        assert test in known[file], f"{file}::{test}"
        assert test.startswith("test_")


def test_every_law_names_its_test_or_says_that_there_is_none() -> None:
    (laws,) = (
        body
        for title, body in sections(ARCHITECTURE.read_text("utf-8"), "##").items()
        if title.startswith("The laws")
    )
    table = rows(laws)
    assert len(table) >= 12
    for cells in table:
        law, held = cells
        assert _TEST.search(held) or "no test yet" in held, law


def test_the_kinds_of_lost_ways_are_those_of_the_policy() -> None:
    from gradsight.policy import SEVERITY

    text = ARCHITECTURE.read_text("utf-8")
    told = {cells[0]: cells[-1] for cells in rows(text) if len(cells) == 3 and cells[0] in SEVERITY}
    assert {kind: severity.split(";")[0] for kind, severity in told.items()} == {
        kind: severity.value for kind, severity in SEVERITY.items()
    }


def test_the_edges_are_those_of_the_domain() -> None:
    from gradsight.domain import Edge

    (domain,) = (
        body
        for title, body in sections(ARCHITECTURE.read_text("utf-8"), "##").items()
        if title == "The domain"
    )
    assert [cells[0].strip("`") for cells in rows(domain)] == [edge.value for edge in Edge]


# -- the rules' pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.code)
def test_a_page_has_its_sections(page: Page) -> None:
    assert page.summary.endswith(".")
    assert len(page.summary) <= 80
    found = sections(page.doc, "##")
    assert tuple(found) == SECTIONS
    for title, body in found.items():
        assert len(body.split()) >= 3, title


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rules_page_is_no_stub_and_its_example_parses(rule: Rule) -> None:
    page = next(page for page in PAGES if page.code == rule.code)
    for title, body in sections(page.doc, "##").items():
        assert len(body.split()) >= 8, title
    shown = [body for kind, body in _FENCE.findall(page.doc) if kind == "python"]
    assert shown
    for text in shown:
        ast.parse(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.code)
def test_explain_prints_the_page(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    assert pages.explain(page.code, "never") == 0
    by_code = capsys.readouterr().out
    assert by_code == f"# {page.code} {page.name}\n\n{page.doc}"
    assert pages.explain(page.name, "never") == 0
    assert capsys.readouterr().out == by_code


def test_readme_lists_every_rule() -> None:
    assert {rule.code for rule in RULES} <= {
        cells[0] for cells in rows((ROOT / "README.md").read_text("utf-8"))
    }


# -- how to contribute, and what changed


def commands(text: str) -> Iterator[list[str]]:
    """Shell commands: the lines of `sh` blocks, and what in backticks starts with a program of the clone."""
    for kind, body in _FENCE.findall(text):
        if kind == "sh":
            yield from (shlex.split(line, comments=True) for line in body.splitlines() if line.strip())
    for word in words(text):
        if word.startswith(("bash ", ".venv/bin/")):
            yield shlex.split(word)


@pytest.mark.parametrize("page", DOCUMENTS[:3], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_name_what_is_there(page: Path) -> None:
    found = list(commands(page.read_text("utf-8")))
    assert found
    for command in found:
        if command[0] == "bash":
            assert (ROOT / command[1]).is_file(), command
        else:
            # The environment is made by the set-up; here it may be another.
            assert command[0] == ".venv/bin/python", command
        for word in command[1:]:
            if word.startswith(("tests/", "analysis/", "fixtures/")):
                assert (ROOT / word).exists(), command


def test_the_command_that_checks_a_rule_finds_its_tests() -> None:
    (command,) = (
        command for command in commands((ROOT / "CONTRIBUTING.md").read_text("utf-8")) if "-k" in command
    )
    done = subprocess.run(
        [sys.executable, *command[1:], "--collect-only", "-q", "-p", "no:cacheprovider", "--update-golden"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    code = command[command.index("-k") + 1]
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    found = {line.partition("::")[2].partition("[")[0] for line in collected}
    assert found >= {"test_truth", "test_wants", "test_fix_is_golden", "test_fix_mends"}
    assert "test_a_folder_holds_enough_of_both" in found
    assert all(code in line for line in collected)


def test_contributing_shows_what_a_rule_is() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    shown = next(body for kind, body in _FENCE.findall(text) if kind == "python" and "RULE = " in body)
    tree = ast.parse(shown)
    headings = re.findall(r"^## (.+)$", ast.get_docstring(tree) or "", re.MULTILINE)
    assert tuple(headings) == SECTIONS
    for rule in RULES:
        body = ast.parse(file_of(rule).read_text("utf-8")).body
        real = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                assert ast.unparse(node.args) == ast.unparse(real[node.name].args), (rule.code, node.name)


def test_the_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[([^\]]+)\]", text, re.MULTILINE)
    assert __version__ in versions
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert len(set(versions)) == len(versions)
