"""Who runs what when pytest has several workers (`-n 2`): whole files, the longest first.

A file's fixtures and what its module remembers are made by one worker only. What drives editors or builds
the extension shares `client/` and is sensitive to load: all of it is one worker's, one after the other. The
longest come first, so that no worker is left alone with one at the end.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

EDITORS = "editors"
OF_EDITORS = ("tests/editors/", "tests/test_vsix.py", "tests/test_client_typescript.py")
# What takes more than half a minute. What runs programs two at once comes when the editors are nearly done.
LONG = (
    EDITORS,
    "tests/test_robustness.py",
    "tests/test_incremental.py",
    "tests/test_text.py",
    "tests/test_lines.py",
    "tests/test_real_code.py",
    "tests/test_metamorphic.py",
    "tests/test_mutations.py",
    "tests/test_fixtures.py",
    "tests/test_probe_sessions.py",
    "tests/test_generated.py",
)


def scope(nodeid: str) -> str:
    """What a test belongs to that one worker runs."""
    file = nodeid.partition("::")[0]
    return EDITORS if file.startswith(OF_EDITORS) else file


def order(items: list[pytest.Item]) -> None:
    """The longest first, the others as they were collected. The same in all workers, as xdist demands."""
    rank = {name: at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(scope(item.nodeid), len(LONG)))


class Files(LoadScopeScheduling):
    """Gives the scopes out in the order that the workers collected them in."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
