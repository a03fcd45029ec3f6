"""The rules' pages as files that an editor can open, without a network.

They are written once for each version of their text into the user's cache folder. Where that cannot be
written, there are none, and nothing else is lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path

from gradsight_server import uris

logger = logging.getLogger(__name__)


class Pages:
    """Where the page of each code lies. Empty until `write` was called."""

    def __init__(self) -> None:
        self._uris: dict[str, str] = {}

    def uri(self, code: str) -> str | None:
        """The page of a code."""
        return self._uris.get(code)

    def write(self) -> None:
        """Write those that are missing. Loads the rules."""
        import hashlib

        from gradsight.pages import PAGES

        texts = {page.code: f"# {page.code} {page.name}\n\n{page.doc}" for page in PAGES}
        digest = hashlib.sha256("\0".join(texts.values()).encode()).hexdigest()[:12]
        try:
            folder = _cache() / f"pages-{digest}"
            folder.mkdir(parents=True, exist_ok=True)
            for code, text in texts.items():
                path = folder / f"{code}.md"
                if not path.exists():
                    _write(path, text)
                self._uris[code] = uris.from_file(str(path))
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
            logger.warning("the rules' pages cannot be written: %s", error)


def _cache() -> Path:
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).absolute() / "gradsight"


def _write(path: Path, text: str) -> None:
    import tempfile

    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        os.replace(name, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)
