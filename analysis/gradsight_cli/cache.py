"""Results of earlier runs: `.gradsight_cache/` at the top of the project, a small file for each source file.

A result is kept as the analysis gave it, before any configuration, so that changing the configuration needs
no new analysis. It is found again only for the same bytes at the same path under the same Gradsight and
Python. A cache that cannot be read or written is a cache that is not there. It is plain JSON: a folder that
somebody else filled can hide a finding, but it runs nothing.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import gradsight
from gradsight.finding import Finding, Severity, Step
from gradsight.text import Span

from gradsight_cli import __version__

if TYPE_CHECKING:
    from gradsight.engine import Silence

try:
    from _blake2 import blake2b  # hashlib loads all of OpenSSL for it
except ImportError:
    from hashlib import blake2b

FOLDER = ".gradsight_cache"
_OURS = re.compile(r"\d[\w.+]*-py\d+-[0-9a-f]{16}")
_Result = tuple[tuple[Finding, ...], "tuple[Silence, ...]"]


class Cache:
    """The cache of the project whose top folder is `root`."""

    __slots__ = ("_folder", "_top")

    def __init__(self, root: str) -> None:
        self._top = os.path.join(root, FOLDER)
        self._folder = os.path.join(self._top, _version())

    def get(self, path: str, name: str, raw: bytes) -> _Result | None:
        """The kept result for a file of these bytes, its findings named by `name`; None if there is none."""
        try:
            with open(self._entry(path), encoding="utf-8") as stream:
                text = stream.read()
            import json  # not for a run without a cache

            kept = json.loads(text)
            if kept["hash"] != _hash(raw):
                return None
            findings = tuple(_to_finding(each, name) for each in kept["findings"])
            if not kept["silences"]:
                return findings, ()
            from gradsight.engine import Silence

            return findings, tuple(
                Silence(name, Span(int(a), int(b)), str(why)) for a, b, why in kept["silences"]
            )
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def put(
        self, path: str, name: str, raw: bytes, findings: tuple[Finding, ...], silences: tuple[Silence, ...]
    ) -> None:
        """Keep a result, unless it speaks of other files, whose changes would not be noticed."""
        if any(step.file != name for finding in findings for step in finding.path):
            return
        kept = {
            "hash": _hash(raw),
            "findings": [_to_data(finding) for finding in findings],
            "silences": [(each.where.start, each.where.end, each.reason) for each in silences],
        }
        import json

        entry = self._entry(path)
        try:
            if not os.path.isdir(self._folder):
                self._create()
            temporary = f"{entry}.{os.getpid()}"
            with open(temporary, "w", encoding="utf-8") as stream:
                stream.write(json.dumps(kept))
            os.replace(temporary, entry)
        except OSError:
            return

    def _entry(self, path: str) -> str:
        return os.path.join(
            self._folder, _hash(os.path.abspath(path).encode(errors="surrogateescape")) + ".json"
        )

    def _create(self) -> None:
        """Make the folder, which no version control sees, and drop what other versions left."""
        os.makedirs(self._folder, exist_ok=True)
        with open(os.path.join(self._top, ".gitignore"), "w", encoding="utf-8") as stream:
            stream.write("# Made by gradsight.\n*\n")
        with open(os.path.join(self._top, "CACHEDIR.TAG"), "w", encoding="utf-8") as stream:
            stream.write("Signature: 8a477f597d28d172789f06886806bc55\n")
        for entry in os.scandir(self._top):
            if (
                entry.path != self._folder
                and _OURS.fullmatch(entry.name)
                and entry.is_dir(follow_symlinks=False)
            ):
                import shutil

                shutil.rmtree(entry.path, ignore_errors=True)


def _hash(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


_KNOWN_VERSION: list[str] = []


def _version() -> str:
    """Names the analysis that ran: its version and its files' sizes and times, for those who change it."""
    if not _KNOWN_VERSION:
        seen: list[str] = []
        folders = list(gradsight.__path__)
        for folder in folders:
            for entry in os.scandir(folder):
                if entry.name.endswith(".py"):
                    stat = entry.stat()
                    seen.append(f"{entry.path}:{stat.st_size}:{stat.st_mtime_ns}")
                elif entry.is_dir() and entry.name != "__pycache__":
                    folders.append(entry.path)
        digest = _hash("\n".join(sorted(seen)).encode(errors="surrogateescape"))[:16]
        _KNOWN_VERSION.append(f"{__version__}-py{sys.version_info[0]}{sys.version_info[1]}-{digest}")
    return _KNOWN_VERSION[0]


def _to_data(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "message": finding.message,
        "where": (finding.where.start, finding.where.end),
        "path": [(step.message, step.where.start, step.where.end) for step in finding.path],
    }


def _to_finding(data: dict[str, Any], file: str) -> Finding:
    start, end = data["where"]
    return Finding(
        str(data["code"]),
        str(data["name"]),
        Severity(data["severity"]),
        str(data["message"]),
        file,
        Span(int(start), int(end)),
        tuple(Step(str(message), file, Span(int(a), int(b))) for message, a, b in data["path"]),
    )
