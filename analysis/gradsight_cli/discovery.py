"""Which files a path means. A file that is named is checked whatever it is called and whoever ignores it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gradsight.configuration import BadConfiguration

from gradsight_cli.projects import Project, Projects

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

# Ruff's list, and our own cache.
EXCLUDED = frozenset(
    (
        ".bzr",
        ".direnv",
        ".eggs",
        ".git",
        ".git-rewrite",
        ".gradsight_cache",
        ".hg",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".nox",
        ".pants.d",
        ".pyenv",
        ".pytest_cache",
        ".pytype",
        ".ruff_cache",
        ".svn",
        ".tox",
        ".venv",
        ".vscode",
        "__pypackages__",
        "_build",
        "buck-out",
        "build",
        "dist",
        "node_modules",
        "site-packages",
        "venv",
    )
)


def files(path: str, projects: Projects) -> Iterator[str]:
    """The Python files and notebooks at or below `path`, in the order of their names.

    A file or folder that is named is looked into whoever ignores it.

    Raises:
        BadConfiguration: the configuration of a folder cannot be meant.
    """
    if not os.path.isdir(path):
        yield path
        return
    ignores, excludes = _outer_ignores(path), _excludes(projects.of(path))
    yield from _walk(
        path,
        () if _ignored(path, True, ignores) else ignores,
        None if excludes is not None and excludes.says(path, True) else excludes,
        projects,
    )


def _walk(
    folder: str, ignores: tuple[_Ignore, ...], excludes: _Ignore | None, projects: Projects
) -> Iterator[str]:
    ignores = (*ignores, *_ignores_in(folder))
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:  # not ours to read
        return
    for entry in entries:
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in EXCLUDED or not (is_folder or entry.name.endswith((".py", ".pyw", ".ipynb"))):
            continue
        if excludes is not None and excludes.says(entry.path, is_folder):
            continue
        if _ignored(entry.path, is_folder, ignores):
            continue
        if is_folder:
            inner = projects.of(entry.path)
            own = excludes if inner == projects.of(folder) else _excludes(inner)
            yield from _walk(entry.path, ignores, own, projects)
        elif entry.is_file():
            yield entry.path


def is_excluded(path: str, project: Project) -> bool:
    """Whether the project's `exclude` covers a file.

    Raises:
        BadConfiguration: its patterns cannot be meant.
    """
    excludes = _excludes(project)
    return excludes is not None and bool(excludes.says(path, False))


def _excludes(project: Project) -> _Ignore | None:
    if not project.configuration.exclude:
        return None
    try:
        return _Ignore(project.root, project.configuration.exclude)
    except ValueError as error:
        raise BadConfiguration(f"{project.root}: [tool.gradsight]: `exclude`: {error}") from None


class _Ignore:
    """Patterns as in a `.gitignore`, and the folder that they are relative to."""

    __slots__ = ("_folder", "_spec")

    def __init__(self, folder: str, lines: Iterable[str]) -> None:
        from pathspec import GitIgnoreSpec  # most runs meet no pattern at all

        self._folder = os.path.abspath(folder)
        self._spec: GitIgnoreSpec = GitIgnoreSpec.from_lines(lines)

    def says(self, path: str, is_folder: bool) -> bool | None:
        """Whether the path is ignored; None where no pattern matches."""
        relative = os.path.relpath(os.path.abspath(path), self._folder).replace(os.sep, "/")
        return self._spec.check_file(relative + "/" * is_folder).include


def _ignored(path: str, is_folder: bool, ignores: tuple[_Ignore, ...]) -> bool:
    for ignore in reversed(ignores):  # the nearest file that has something to say decides
        said = ignore.says(path, is_folder)
        if said is not None:
            return said
    return False


def _read_ignore(file: str, folder: str) -> tuple[_Ignore, ...]:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            lines = [line for line in stream.read().splitlines() if line.strip() and not line.startswith("#")]
    except OSError:
        return ()
    if not lines:
        return ()
    try:
        return (_Ignore(folder, lines),)
    except ValueError:  # one bad pattern, which git passes over
        return (_Ignore(folder, [line for line in lines if _is_pattern(line)]),)


def _is_pattern(line: str) -> bool:
    try:
        _Ignore(".", [line])
    except ValueError:
        return False
    return True


def _ignores_in(folder: str) -> tuple[_Ignore, ...]:
    return _read_ignore(os.path.join(folder, ".gitignore"), folder)


def _outer_ignores(path: str) -> tuple[_Ignore, ...]:
    """The ignore files from the top of the repository down to `path`; none outside of a repository."""
    folder = os.path.abspath(path)
    above: list[str] = []
    while not os.path.exists(os.path.join(folder, ".git")):
        if os.path.dirname(folder) == folder:
            return ()
        folder = os.path.dirname(folder)
        above.append(folder)
    nested = (each for one in reversed(above) for each in _ignores_in(one))
    return (*_read_ignore(os.path.join(folder, ".git", "info", "exclude"), folder), *nested)
