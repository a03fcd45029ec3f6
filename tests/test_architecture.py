"""The laws of the house: who may import what, what stays out of which process, and what a file may not hold.

Each law has its counterexample beside it, so that a law which sees nothing fails.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import LOST, ROOT, environment

STANDARD = set(sys.stdlib_module_names) | {"__future__"}
PACKAGES = {
    "gradsight": ROOT / "analysis" / "gradsight",
    "gradsight_cli": ROOT / "analysis" / "gradsight_cli",
    "gradsight_server": ROOT / "server" / "gradsight_server",
    "gradsight_probe": ROOT / "server" / "gradsight_probe",
}
OURS = set(PACKAGES) | {"analysis", "server"}
# What a package may import, wherever in its files, beside the standard library and itself.
ALLOWED = {
    "gradsight": set(),
    "gradsight_cli": {"gradsight", "rich", "pathspec", "tomli", "tomllib"},
    "gradsight_server": {"gradsight", "pygls", "lsprotocol", "tomli"},
    "gradsight_probe": {"torch"},
}
# What single rooms may have beyond that.
EXTRA = {
    "analysis/gradsight/surgery": {"libcst"},
    "analysis/gradsight_cli/__main__.py": {"gradsight_server"},
    "analysis/gradsight_cli/probing.py": {"gradsight_server"},
    "server/gradsight_server/app.py": {"gradsight_cli"},
    "server/gradsight_server/settings.py": {"gradsight_cli"},
    "server/gradsight_server/surroundings.py": {"gradsight_cli"},
}


def _tree(text: str) -> ast.Module:
    return ast.parse(text)


@functools.cache
def _tree_of(file: Path) -> ast.Module:
    return _tree(file.read_text("utf-8"))


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Each imported module, dotted, and whether its import runs when the file itself is imported.

    `import_module("name")` counts as an import; relative imports are the package itself and don't.
    """
    lazy: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            lazy.update(ast.walk(node))
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for each in node.body:
                lazy.update(ast.walk(each))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node not in lazy
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node not in lazy
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            for each in ast.walk(node):
                if (
                    isinstance(each, ast.Constant)
                    and isinstance(each.value, str)
                    and each.value[:1].isalpha()
                ):
                    yield each.value, node not in lazy


def _foreign(package: str, path: Path, tree: ast.Module) -> list[str]:
    allowed = STANDARD | ALLOWED[package] | {package}
    for room, extra in EXTRA.items():
        if (ROOT / room) == path or (ROOT / room) in path.parents:
            allowed |= extra
    return [name for name, _ in imports(tree) if name.split(".")[0] not in allowed]


def _files(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


def tracked(*patterns: str) -> list[Path]:
    """The files of the repository, as git knows them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, check=True, text=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_law_of_imports_sees_every_kind_of_import() -> None:
    text = (
        "import torch.nn\nfrom libcst import parse_module\nfrom . import other\n"
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n"
        "def f():\n    import rich\n    import_module('pygls')\n"
    )
    assert dict(imports(_tree(text))) == {
        "torch.nn": True,
        "libcst": True,
        "typing": True,
        "numpy": False,
        "rich": False,
        "pygls": False,
    }
    assert _foreign("gradsight", PACKAGES["gradsight"] / "engine.py", _tree(text)) == [
        "torch.nn",
        "libcst",
        "numpy",
        "rich",
        "pygls",
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    files = _files(package)
    assert files
    foreign = {str(file.relative_to(ROOT)): _foreign(package, file, _tree_of(file)) for file in files}
    assert {file: names for file, names in foreign.items() if names} == {}


def test_the_command_line_reaches_server_and_probe_only_when_asked() -> None:
    for file in _files("gradsight_cli"):
        eager = {name.split(".")[0] for name, at_once in imports(_tree_of(file)) if at_once}
        assert not eager & {"gradsight_server", "gradsight_probe", "rich", "pathspec", "multiprocessing"}, (
            file
        )


@pytest.mark.parametrize("folder", ["analysis", "server", "tests", "fixtures"])
def test_nothing_imports_the_source_roots(folder: str) -> None:
    for file in (ROOT / folder).rglob("*.py"):
        if file.name.startswith("flagged_broken"):
            continue
        try:
            names = {name.split(".")[0] for name, _ in imports(_tree(file.read_text("utf-8")))}
        except (SyntaxError, UnicodeDecodeError):  # fixtures of bad input
            assert folder == "fixtures", file
            continue
        assert not names & {"analysis", "server"}, file
        if folder == "fixtures":
            assert not names & OURS, file


_RANGES = {"Range", "Position"}


def _built_ranges(tree: ast.Module) -> list[str]:
    """The editor's ranges and positions that a module builds, by the protocol's types or as JSON."""
    found = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, (ast.Name, ast.Attribute))
        and ast.unparse(node.func).rpartition(".")[2] in _RANGES
    ]
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return found + [repr(node.value) for node in texts if node.value in ("character", '"character":')]


def test_only_one_room_builds_the_editors_ranges() -> None:
    assert _built_ranges(_tree("lsp.Range(lsp.Position(1, 2), end)\nx = {'character': 1}")) == [
        "lsp.Range(lsp.Position(1, 2), end)",
        "lsp.Position(1, 2)",
        "'character'",
    ]
    built = {file.name: _built_ranges(_tree_of(file)) for file in _files("gradsight_server")}
    assert len(built.pop("convert.py")) > 3
    built["documents.py"] = [each for each in built["documents.py"] if each != "'character'"]  # reads one
    assert {name: found for name, found in built.items() if found} == {}


def test_the_server_starts_without_what_only_fixes_and_probes_need() -> None:
    program = "import sys, gradsight_server.app as app; app.create(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "lsprotocol" in loaded
    assert not loaded & {"libcst", "torch", "rich", "pathspec", "multiprocessing"}
    assert "gradsight.engine" not in done.stdout.split()


def test_the_probe_runs_on_python_3_8() -> None:
    for file in _files("gradsight_probe"):
        ast.parse(file.read_text("utf-8"), str(file), feature_version=(3, 8))
    with pytest.raises(SyntaxError):
        ast.parse("match x:\n    case 1: pass\n", feature_version=(3, 8))


_READERS = re.compile(
    r"(?<![\w.])open\(|\bread_text\(|\bread_bytes\(|\bos\.(open|listdir|scandir|walk|stat)\b"
)


def test_the_analysis_reads_no_file() -> None:
    assert _READERS.search("with open(path) as file:")
    for file in _files("gradsight"):
        tree = _tree_of(file)
        modules = {name.split(".")[0] for name, _ in imports(tree)}
        assert not modules & {"pathlib", "io", "os", "subprocess", "socket", "tempfile", "shutil", "glob"}, (
            file
        )
        calls = [ast.unparse(node.func) + "(" for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert [call for call in calls if _READERS.search(call)] == [], file


_HEAVY = (
    "libcst",
    "lsprotocol",
    "pygls",
    "rich",
    "torch",
    "pathspec",
    "multiprocessing",
    "asyncio",
    "gradsight_server",
)


def test_a_check_loads_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LOST)
    for arguments in (
        ["check", "a.py"],
        ["check", ".", "--no-cache"],
        ["check", "a.py", "--output-format", "json"],
    ):
        program = (
            "import sys, json\n"
            "from gradsight_cli.__main__ import main\n"
            f"code = main({arguments!r})\n"
            "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=environment(),
            check=True,
        )
        code, loaded = json.loads(done.stderr)
        assert code == 1
        # A .gitignore above the folder is read with pathspec; a single file asks for none.
        heavy = set(_HEAVY) - {"pathspec"} if "." in arguments else set(_HEAVY)
        assert not {name.split(".")[0] for name in loaded} & heavy, arguments


def test_the_library_alone_loads_nothing_heavy() -> None:
    program = "import sys, gradsight.engine, gradsight.rules; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    assert not {name.split(".")[0] for name in done.stdout.split()} & set(_HEAVY)


# A home or a place that only one machine has.
_MACHINE = re.compile(rb"(?<![\w.])/(?:home|Users|root|work|mnt|private/var)/[\w.-]+")


def test_no_file_names_a_path_of_one_machine() -> None:
    assert _MACHINE.search(b"see /home/somebody/project")
    assert not _MACHINE.search(b"fixtures/work/x")
    found = {
        str(file.relative_to(ROOT)): match.group().decode()
        for file in tracked()
        if (match := _MACHINE.search(file.read_bytes())) and file != Path(__file__)
    }
    assert found == {}


def test_every_module_of_ours_says_what_it_is() -> None:
    for package in PACKAGES:
        for file in _files(package):
            tree = _tree_of(file)
            assert ast.get_docstring(tree), f"{file} has no head"


def test_the_wheel_holds_the_packages_and_the_schemas(tmp_path: Path) -> None:
    configured = (ROOT / "pyproject.toml").read_text("utf-8")
    for folder in PACKAGES.values():
        assert f'"{folder.relative_to(ROOT).as_posix()}"' in configured
    assert (PACKAGES["gradsight_cli"] / "schema" / "check-1.json") in tracked("analysis")
