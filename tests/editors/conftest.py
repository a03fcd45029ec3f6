"""The extension as people get it, for all tests in editors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from installed import NODE, ROOT


def packed(*arguments: str) -> Path:
    """What `client/package.py` makes of this checkout, on the Node.js that the editors run on."""
    environment = {**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "client" / "package.py"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def vsix() -> Path:
    """The VSIX, packed from this checkout."""
    return packed()


@pytest.fixture(scope="session")
def extension() -> Path:
    """The same, as the folder that a VSIX unpacks to."""
    return packed("--stage-only")
