"""Which configuration holds for a file: `[tool.gradsight]` of the nearest `pyproject.toml` that has one."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NamedTuple

from gradsight.configuration import BadConfiguration, Configuration, to_configuration

DEFAULT = Configuration()


class Project(NamedTuple):
    """A folder and what is asked for the files below it."""

    root: str  # absolute
    configuration: Configuration


class Projects:
    """Looks each folder up once. `isolated` reads no configuration."""

    def __init__(self, isolated: bool = False) -> None:
        self._isolated = isolated
        self._known: dict[str, Project | None] = {}
        self._roots: dict[str, str] = {}

    def of(self, folder: str) -> Project:
        """What holds for the files in `folder`.

        Raises:
            BadConfiguration: the nearest configuration cannot be meant.
        """
        folder = os.path.abspath(folder)
        found = None if self._isolated else self._nearest(folder)
        return found or Project(self.root_of(folder), DEFAULT)

    def _nearest(self, folder: str) -> Project | None:
        if folder not in self._known:
            project = _configured(folder)
            parent = os.path.dirname(folder)
            if project is None and parent != folder:
                project = self._nearest(parent)
            self._known[folder] = project
        return self._known[folder]

    def root_of(self, folder: str) -> str:
        """The nearest folder above that looks like the top of a project, else the current one."""
        if folder not in self._roots:
            parent = os.path.dirname(folder)
            if any(os.path.exists(os.path.join(folder, mark)) for mark in ("pyproject.toml", ".git")):
                self._roots[folder] = folder
            else:
                self._roots[folder] = os.getcwd() if parent == folder else self.root_of(parent)
        return self._roots[folder]


def _configured(folder: str) -> Project | None:
    path = os.path.join(folder, "pyproject.toml")
    try:
        with open(path, "rb") as stream:
            raw = stream.read()
    except OSError:
        return None
    if b"gradsight" not in raw:  # the parser takes longer to load than most checks
        return None
    # Python 3.10 has no parser of its own.
    tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        content = tomllib.loads(raw.decode("utf-8"))
    except ValueError as error:
        raise BadConfiguration(f"{path} is not valid TOML: {error}") from None
    tool = content.get("tool")
    table = tool.get("gradsight") if isinstance(tool, dict) else None
    if table is None:
        return None
    if not isinstance(table, dict):
        raise BadConfiguration(f"{path}: `gradsight` must be a table: `[tool.gradsight]`")
    try:
        return Project(folder, to_configuration(table, _codes() if table.keys() - {"exclude"} else ()))
    except BadConfiguration as error:
        raise BadConfiguration(f"{path}: [tool.gradsight]: {error}") from None


def _codes() -> list[str]:
    from gradsight.pages import PAGES  # loads the analysis

    return [page.code for page in PAGES]
