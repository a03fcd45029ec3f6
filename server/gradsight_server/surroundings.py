"""The files around the documents, as the analysis asks for them: open documents over disk.

Only files below the editor's workspace folders are read. For the analysing thread alone; the disk is looked
at again after a while, or when the editor says that a file changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from gradsight.text import Source
from gradsight_cli.reading import Unreadable, read
from gradsight_cli.surroundings import MOST_BYTES

LOOKS = 3.0  # seconds between two looks at whether a file on disk changed


class Surroundings:
    """Reads for the analysis. `opened` gives the text of an open document, `folders` the workspace's."""

    def __init__(self, opened: Callable[[str], Source | None], folders: Callable[[], Iterable[str]]) -> None:
        self._opened, self._folders = opened, folders
        self._known: dict[str, tuple[float, tuple[int, int] | None, Source | None]] = {}
        self._asked: set[str] = set()
        self._changes = 0  # of files that were asked for
        self._changed = 0.0  # when one did on disk; what was seen before does not count

    @property
    def state(self) -> object:
        """Equal as long as every answer is the same, as far as is known without looking."""
        return self._changes, int(time.monotonic() / LOOKS)

    def read(self, file: str) -> Source | None:
        """A file of the workspace as it is now; None where there is none."""
        self._asked.add(file)
        source = self._opened(file)
        if source is not None:
            return source
        now = time.monotonic()
        known = self._known.get(file)
        if known is not None and known[0] >= self._changed and now - known[0] < LOOKS:
            return known[2]
        state = self._state(file)
        if known is not None and known[1] == state:
            found = known[2]
        else:
            found = _read(file) if state is not None else None
        self._known[file] = now, state, found
        return found

    def changed(self, file: str) -> bool:
        """An open file is another now, or opened or closed. Whether anybody ever asked for it."""
        asked = file in self._asked
        self._changes += asked
        return asked

    def look_again(self) -> None:
        """Files have changed on disk."""
        self._changes += 1
        self._changed = time.monotonic()

    def _state(self, file: str) -> tuple[int, int] | None:
        """What says whether a file is another one now; None where there is none to read."""
        path = os.path.normcase(os.path.normpath(file))
        folders = (os.path.join(os.path.normcase(os.path.normpath(each)), "") for each in self._folders())
        if not any(path.startswith(folder) for folder in folders):
            return None
        try:
            found = os.stat(file)
        except (OSError, ValueError):
            return None
        return (found.st_mtime_ns, found.st_size) if found.st_size <= MOST_BYTES else None


def _read(file: str) -> Source | None:
    try:
        return Source(file, read(file).text)
    except Unreadable:
        return None
