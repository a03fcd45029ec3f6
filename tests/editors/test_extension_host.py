"""The client's own logic, tested where it runs: mocha inside VS Code's extension host.

The tests themselves are client/test/host, and pass or fail together, once in a folder that the user trusts
and once in one that he does not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from installed import FAILURES, MARKS, NODE, ROOT, WORKBENCH, users_environment

HOST = Path(__file__).resolve().parent / "workbench" / "host.mjs"
CLIENT = ROOT / "client"
SECONDS = 200

pytestmark = MARKS


@pytest.fixture(scope="module")
def bundle(extension: Path) -> Path:
    """The tests in one file. What they are built with came when the extension was packed."""
    environment = {**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [shutil.which("npm") or "npm", "run", "--silent", "build:host"]
    done = subprocess.run(command, cwd=CLIENT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return CLIENT / "out-test" / "host" / "index.js"


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "not trusted"])
def test_in_the_host(trusted: bool, extension: Path, bundle: Path, tmp_path: Path) -> None:
    assert NODE.exists(), "the workbench is not installed: run `bash .ci/setup-editors`"
    FAILURES.mkdir(parents=True, exist_ok=True)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    environment = users_environment(tmp_path / "python")
    description = tmp_path / "given.json"
    given = {
        "editors": str(WORKBENCH),
        "folder": str(tmp_path / "editor"),
        "workspace": str(workspace),
        "trusted": trusted,
        "extension": str(extension),
        "tests": str(bundle),
        "failures": str(FAILURES),
    }
    description.write_text(json.dumps(given), encoding="utf-8")
    done = subprocess.run(
        [str(NODE), str(HOST), str(description)],
        env={**environment, "GRADSIGHT_TEST_PYTHON": str(tmp_path / "python" / "bin" / "python3")},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.search(r"\b[1-9]\d* passing\b", said), said
