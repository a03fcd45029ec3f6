"""Which files are looked at, and by whose settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import LOST, WASTEFUL, codes, findings, run


def _write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(LOST)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / ".git" / "info").mkdir(parents=True)
    return tmp_path


def _files(*paths: str, cwd: Path) -> list[str]:
    return [file for file, _ in codes("--no-cache", *paths, cwd=cwd)]


def test_the_current_folder_is_the_default(repository: Path) -> None:
    _write(repository, "b.py", "a/c.py", "a/b.pyw", "notes.txt", "a/script")
    assert _files(cwd=repository) == ["a/b.pyw", "a/c.py", "b.py"]


def test_usual_folders_are_passed_over_unless_named(repository: Path) -> None:
    _write(
        repository,
        "a.py",
        ".venv/x.py",
        "sub/node_modules/x.py",
        "build/x.py",
        "site-packages/y/x.py",
        "builder/x.py",
    )
    assert _files(".", cwd=repository) == ["a.py", "builder/x.py"]
    assert _files("build", ".venv/x.py", cwd=repository) == ["build/x.py", ".venv/x.py"]


def test_gitignore_is_respected_at_every_level(repository: Path) -> None:
    _write(
        repository,
        "a.py",
        "gen_a.py",
        "sub/gen_b.py",
        "sub/keep.py",
        "sub/deep/gen_keep.py",
        "out/x.py",
        "sub/out/x.py",
    )
    _write(repository, "private.py")
    (repository / ".gitignore").write_text("# generated\ngen_*.py\n/out/\n")
    (repository / "sub" / "deep" / ".gitignore").write_text("!gen_keep.py\n")
    (repository / ".git" / "info" / "exclude").write_text("private.py\n")
    assert _files(".", cwd=repository) == ["a.py", "sub/deep/gen_keep.py", "sub/keep.py", "sub/out/x.py"]
    # From below, and by an absolute path: the rules above hold as well.
    assert _files(".", cwd=repository / "sub") == ["deep/gen_keep.py", "keep.py", "out/x.py"]
    assert _files(str(repository / "sub" / "out"), cwd=repository / "sub") == [
        str(repository / "sub" / "out" / "x.py")
    ]
    # What is named is looked at.
    assert _files("gen_a.py", "out", cwd=repository) == ["gen_a.py", "out/x.py"]


def test_a_bad_pattern_spoils_only_itself(repository: Path) -> None:
    _write(repository, "a.py", "b.py")
    (repository / ".gitignore").write_text("!\nb.py\n")
    assert _files(".", cwd=repository) == ["a.py"]


def test_links_to_folders_are_not_followed(repository: Path) -> None:
    _write(repository, "a/x.py")
    (repository / "a" / "round").symlink_to(repository, target_is_directory=True)
    assert _files(".", cwd=repository) == ["a/x.py"]


def test_exclude_is_relative_to_its_file(repository: Path) -> None:
    _write(repository, "a.py", "legacy/a.py", "sub/legacy/a.py", "sub/b_test.py")
    (repository / "pyproject.toml").write_text('[tool.gradsight]\nexclude = ["/legacy", "*_test.py"]\n')
    assert _files(".", cwd=repository) == ["a.py", "sub/legacy/a.py"]
    assert _files(".", cwd=repository / "sub") == ["legacy/a.py"]
    assert _files("legacy", "sub/b_test.py", cwd=repository) == ["legacy/a.py", "sub/b_test.py"]
    assert len(_files("--isolated", ".", cwd=repository)) == 4


def test_the_nearest_configuration_holds(repository: Path) -> None:
    _write(repository, "a.py", "sub/a.py", "sub/deep/a.py", "other/a.py")
    (repository / "pyproject.toml").write_text('[tool.gradsight]\nignore = ["GS102"]\n')
    (repository / "sub" / "pyproject.toml").write_text("[tool.gradsight]\n")
    (repository / "other" / "pyproject.toml").write_text("[tool.other]\nname = 'gradsight'\n")
    assert _files(".", cwd=repository) == ["sub/a.py", "sub/deep/a.py"]
    assert _files(os.path.join("..", "a.py"), "a.py", cwd=repository / "sub") == ["a.py"]


@pytest.mark.parametrize(
    ("select", "ignore", "expected"),
    [
        (None, None, {"GS102", "GS301"}),
        (["ALL"], ["GS3"], {"GS102"}),
        (["GS1"], None, {"GS102"}),
        (["GS3"], None, {"GS301"}),
        (["gs301"], ["GS3"], {"GS301"}),  # the longer one wins
        (["GS3"], ["GS301"], set()),
        (["GS301"], ["GS301"], set()),
        ([], None, set()),
    ],
)
def test_rules_are_selected_by_code_or_prefix(
    repository: Path, select: list[str] | None, ignore: list[str] | None, expected: set[str]
) -> None:
    (repository / "a.py").write_text(LOST + WASTEFUL)
    lines = ["[tool.gradsight]"]
    lines += [
        f"{key} = {value}" for key, value in (("select", select), ("ignore", ignore)) if value is not None
    ]
    (repository / "pyproject.toml").write_text("\n".join(lines))
    assert {code for _, code in codes("a.py", cwd=repository)} == expected


def test_severity_is_set_by_the_most_exact_selector(repository: Path) -> None:
    (repository / "a.py").write_text(LOST + WASTEFUL)
    (repository / "pyproject.toml").write_text(
        "[tool.gradsight.severity]\nALL = 'information'\nGS3 = 'hint'\nGS301 = 'warning'\n"
    )
    assert [(each["code"], each["severity"]) for each in findings("a.py", cwd=repository)] == [
        ("GS102", "information"),
        ("GS301", "warning"),
    ]
    assert run("check", "a.py", cwd=repository).returncode == 1


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('select = ["GS12"]', "GS12"),
        ('select = ["GS999"]', "is no rule"),
        ('ignore = ["GS10x"]', "did you mean"),
        ('selct = ["GS1"]', "did you mean `select`?"),
        ('select = "GS1"', "must be a list of strings"),
        ("ignore = [1]", "must be a list of strings"),
        ('severity = "error"', "must be a table"),
        ('severity = {GS102 = "loud"}', "must be one of error, warning"),
        ('severity = {GS102 = "eror"}', "did you mean `error`?"),
        ('severity = {GS777 = "error"}', "is no rule"),
        ('exclude = ["!"]', "exclude"),
        ("select = [", "not valid TOML"),
    ],
)
@pytest.mark.slow
def test_a_bad_setting_is_misuse_and_says_what_is_meant(repository: Path, table: str, says: str) -> None:
    _write(repository, "a.py")
    (repository / "pyproject.toml").write_text(f"[tool.gradsight]\n{table}\n")
    for verb in ("check", "fix"):
        done = run(verb, ".", cwd=repository)
        assert (done.returncode, done.stdout) == (2, b""), done
        message = done.stderr.decode()
        assert says in message
        assert "pyproject.toml" in message or str(repository) in message
    assert run("check", "--isolated", ".", cwd=repository).returncode == 1


def test_another_tools_configuration_may_be_broken(repository: Path) -> None:
    _write(repository, "a.py")
    (repository / "pyproject.toml").write_text("[tool.other\n")
    assert _files(".", cwd=repository) == ["a.py"]


def test_the_cache_stands_at_the_top_of_the_project(repository: Path) -> None:
    _write(repository, "sub/deep/a.py")
    assert codes("a.py", cwd=repository / "sub" / "deep")
    assert [str(each.relative_to(repository)) for each in repository.rglob(".gradsight_cache")] == [
        ".gradsight_cache"
    ]
