"""The pinned public packages, fetched once and unpacked side by side. Nothing of them is installed or run."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".cache" / "real_code"
PINS = Path(__file__).with_name("packages.txt")


def pinned() -> tuple[str, ...]:
    """`name==version` of each package."""
    lines = PINS.read_text(encoding="utf-8").splitlines()
    return tuple(line.split()[0] for line in lines if line and not line.startswith("#"))


def fetch() -> dict[str, Path]:
    """The folder of each package by its `name==version`, downloaded if it is not there.

    Raises:
        OSError: something is missing and cannot be downloaded.
    """
    folders = {name: HOME / name for name in pinned()}
    if all(folder.is_dir() for folder in folders.values()):
        return folders
    fetched = HOME / "fetched"
    fetched.mkdir(parents=True, exist_ok=True)
    download = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--quiet"]
    done = subprocess.run(
        [*download, "--dest", str(fetched), "--requirement", str(PINS)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(f"pip download ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    for name, folder in folders.items():
        if not folder.is_dir():
            _unpack(_archive(fetched, name), folder)
    return folders


def sources(folder: Path) -> list[Path]:
    """Every Python file of a package, in the order of their names."""
    return sorted(folder.rglob("*.py"))


def _archive(fetched: Path, pin: str) -> Path:
    name, _, version = pin.partition("==")
    stem = f"{name.replace('-', '_')}-{version}"
    (archive,) = [path for path in fetched.iterdir() if path.name.startswith((f"{stem}-", f"{stem}.tar"))]
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    """Whole or not at all: the folder has its name only when everything is in it."""
    part = folder.with_name(f"{folder.name}.part")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(part)
    else:
        with tarfile.open(archive) as source:
            for member in source:
                inner = member.name.partition("/")[2]
                if member.isfile() and inner.endswith(".py") and ".." not in Path(inner).parts:
                    file = source.extractfile(member)
                    assert file is not None
                    (part / inner).parent.mkdir(parents=True, exist_ok=True)
                    (part / inner).write_bytes(file.read())
    part.rename(folder)
