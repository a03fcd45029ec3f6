"""What holds for a document: the project's `[tool.gradsight]`, and over it what the user set in the editor.

An editor's setting wins where it is set, key by key. A setting that cannot be meant costs itself alone: it is
told once, and what would hold without it holds.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gradsight.configuration import BadConfiguration, Configuration, apply, to_configuration
from gradsight.finding import Finding, Severity
from gradsight_cli.discovery import is_excluded
from gradsight_cli.projects import DEFAULT, Projects

from gradsight_server import uris

logger = logging.getLogger(__name__)

SECTION = "gradsight"
DEVICES = ("auto", "cuda", "mps", "cpu")


@dataclass(frozen=True, slots=True)
class Settings:
    """The section `gradsight` of an editor's settings, as far as the server reads it; None: not set."""

    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    severity: tuple[tuple[str, Severity], ...] | None = None
    python: str | None = None  # probe.python
    device: str = "auto"  # probe.device
    timeout: float = 60.0  # probe.timeout, in seconds
    allow_writes: bool = False  # probe.allowWrites
    lenses: bool = True  # lens.enable
    hover: bool = True  # hover.enable


def to_settings(section: object, codes: Callable[[], list[str]]) -> tuple[Settings, list[str]]:
    """The settings that a section means, and a sentence for each one that cannot be meant.

    Keys may be nested (`{"probe": {"device": "cpu"}}`) or dotted (`{"probe.device": "cpu"}`); those that
    are not the server's are passed over. `codes` gives those of all rules.
    """
    if section is None:
        return Settings(), []
    if not isinstance(section, Mapping):
        return Settings(), [f"`{SECTION}` must be an object with settings, not {section!r:.60}"]
    given: dict[str, Any] = {key: value for key, value in _flat(section) if value is not None}
    settings, problems = Settings(), []
    for key in ("select", "ignore", "severity"):
        if key not in given or (key == "severity" and given[key] == {}):
            continue
        try:
            made = to_configuration({key: given[key]}, codes())
        except BadConfiguration as error:
            problems.append(f"{SECTION}.{key}: {error}")
            continue
        value: Any = getattr(made, key)
        settings = replace(settings, **{key: value})
    for key, (name, fits, what) in _OTHERS.items():
        value = given.get(key)
        if value is None or value == "":
            continue
        if not fits(value):
            problems.append(f"{SECTION}.{key} must be {what}, not {value!r:.60}")
            continue
        settings = replace(settings, **{name: value})
    return settings, problems


def _is_truth(value: object) -> bool:
    return isinstance(value, bool)


_OTHERS: dict[str, tuple[str, Callable[[object], bool], str]] = {
    "probe.python": ("python", lambda value: isinstance(value, str), "the path of a Python interpreter"),
    "probe.device": ("device", lambda value: value in DEVICES, f"one of {', '.join(DEVICES)}"),
    "probe.timeout": (
        "timeout",
        lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e7,
        "a number of seconds above 0",
    ),
    "probe.allowWrites": ("allow_writes", _is_truth, "true or false"),
    "lens.enable": ("lenses", _is_truth, "true or false"),
    "hover.enable": ("hover", _is_truth, "true or false"),
}


def _flat(section: Mapping[object, object], before: str = "") -> list[tuple[str, object]]:
    out: list[tuple[str, object]] = []
    for key, value in section.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and name != "severity":
            out += _flat(value, f"{name}.")
        else:
            out.append((name, value))
    return out


class Configurations:
    """Which configuration holds for which document. Thrown away and made anew when any setting changes.

    Reads the folders above a document, each of them once. Not for the loop's thread; where two others ask at
    the same time, both read, and what they come to is the same.
    """

    def __init__(self, settings: Settings, tell: Callable[[str], None]) -> None:
        self._settings, self._tell = settings, tell
        self._projects = Projects()
        self._known: dict[str, Configuration | None] = {}  # by URI

    def of(self, uri: str) -> Configuration | None:
        """What holds for a document; None if the project excludes it."""
        if uri not in self._known:
            self._known[uri] = self._look(uri)
        return self._known[uri]

    def wanted(self, uri: str) -> Callable[[Finding], Finding | None]:
        """As what a finding in a document is shown; None: not at all."""
        configuration = self.of(uri)
        if configuration is None:
            return lambda finding: None
        if configuration == DEFAULT:
            return lambda finding: finding
        return lambda finding: next(iter(apply(configuration, [finding])), None)

    def _look(self, uri: str) -> Configuration | None:
        folder, found = uris.folder_of(uri), DEFAULT
        if folder is not None:
            try:
                project = self._projects.of(folder)
                if is_excluded(uris.to_file(uri), project):
                    return None
                found = project.configuration
            except BadConfiguration as error:
                self._tell(f"{error}. Until that is mended, the defaults hold.")
            except OSError as error:  # the folder is gone, with all that stood in it
                logger.warning("%s cannot be looked into: %s", folder, error)
        settings = self._settings
        if settings.select is not None:
            found = replace(found, select=settings.select)
        if settings.ignore is not None:
            found = replace(found, ignore=settings.ignore)
        if settings.severity is not None:
            found = replace(found, severity=settings.severity)
        return found


def looks_like_ours(path: str) -> bool:
    """Whether a changed file can change a configuration."""
    return os.path.basename(path) == "pyproject.toml"
