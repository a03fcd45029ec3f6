"""The Python files around one that is checked, as the library asks for them: read from disk, once each.

Nothing outside the project is read, and nothing that is too large to be anybody's own code.
"""

from __future__ import annotations

import os

from gradsight.text import Source

from gradsight_cli.reading import Unreadable, display, read

MOST_BYTES = 1_000_000  # of a file


def top_of(path: str, root: str) -> str:
    """The folder below which a file's imports are looked for: its project's, or for a file outside of that
    the one that its package lies in."""
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.join(folder, "").startswith(os.path.join(os.path.realpath(root), "")):
        return root
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder = os.path.dirname(folder)
    return folder


class Surroundings:
    """The files below a project's top folder, under names like those of the files that are checked.

    `asked` says whether anybody wanted a file since it was last set to False: what he made of it does not
    hold when another file changes.
    """

    state = None  # each file is checked once

    def __init__(self, root: str) -> None:
        self.root = os.path.join(os.path.realpath(root), "")
        self.asked = False
        self._known: dict[str, Source | None] = {}

    def read(self, file: str) -> Source | None:
        """A file of the project; None where there is none."""
        self.asked = True
        name = display(file)
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> Source | None:
        path = os.path.realpath(name)
        if not path.startswith(self.root):
            return None
        if not os.path.isabs(name):
            named = display(os.path.relpath(path))
            if named != name:  # one file has one name
                return self.read(named)
        try:
            if not os.path.isfile(path) or os.path.getsize(path) > MOST_BYTES:
                return None
            return Source(name, read(path).text)
        except (OSError, Unreadable):
            return None
