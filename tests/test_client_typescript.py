"""The extension's own checks: its types, and its tests that need no editor."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from command_line import ROOT
from test_vsix import load, needs_node

pytestmark = [needs_node, pytest.mark.slow]
CLIENT = ROOT / "client"


@pytest.fixture(scope="module", autouse=True)
def node_modules() -> None:
    load(CLIENT / "package.py").install_node_modules()


@pytest.mark.parametrize("script", ["check", "test", "build:host"])
def test_script(script: str) -> None:
    done = subprocess.run(
        [shutil.which("npm") or "npm", "run", "--silent", script],
        cwd=CLIENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
