"""VS Code's workbench, one window for all: what a person sees and does, from the VSIX on a clean profile.

The cases themselves are in workbench/drive.mjs. Whoever runs them has torch and nothing of ours.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import examples
import pytest
from examples import SEEDS
from harness import analysis
from installed import FAILURES, MARKS, NODE, WORKBENCH, clean, users_environment
from other_alphabets import ODD

HERE = Path(__file__).resolve().parent / "workbench"
CASES = re.findall(
    r"^await scenario\('([^']+)'", (HERE / "drive.mjs").read_text(encoding="utf-8"), re.MULTILINE
)
SECONDS = 540
# What the new user's case counted: this time, and as the documentation quotes it.
MEASURED = FAILURES.with_name("first_gradient.json")
QUOTED = Path(__file__).resolve().parent / "first_gradient.json"

pytestmark = MARKS


@pytest.fixture(scope="module")
def results(
    vsix: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Mapping[str, Mapping[str, Any]]:
    """All cases that are asked for, run."""
    assert NODE.exists(), "the workbench is not installed: run `bash .ci/setup-editors`"
    folder = tmp_path_factory.mktemp("workbench")
    environment = users_environment(folder / "python")
    workspace = folder / "workspace"
    workspace.mkdir()
    for path in SEEDS:
        shutil.copy(path, workspace)
    description, written = folder / "given.json", folder / "results.json"
    description.write_text(json.dumps(given(folder, workspace, vsix)), encoding="utf-8")
    done = subprocess.run(
        [str(NODE), str(HERE / "drive.mjs"), str(description), str(written), asked(request.session.items)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert written.exists(), f"no case ran\n{done.stdout}\n{done.stderr}"
    found: dict[str, dict[str, Any]] = json.loads(written.read_text(encoding="utf-8"))
    assert "" in found, f"the window was lost\n{done.stdout}\n{done.stderr}"
    return found


def asked(items: list[pytest.Item]) -> str:
    """A pattern of the cases that are to run in this session."""
    names = {
        re.escape(item.callspec.params["name"])
        for item in items
        if isinstance(item, pytest.Function) and item.path == Path(__file__) and hasattr(item, "callspec")
    }
    if any(item.name == test_a_new_user_needs_no_more_clicks_than_we_say.__name__ for item in items):
        names.add("a new user")
    return f"^({'|'.join(sorted(names))})$"


def given(folder: Path, workspace: Path, vsix: Path) -> dict[str, Any]:
    """What drive.mjs is told."""
    chosen = {}
    for text, example in examples.one_of_each_text("utf-16").items():
        after = example.findings[0].fixes[0].text
        chosen[text] = {
            **example.to_json(),
            "after_fix": findings_of(after),
            "after_all": findings_of(example.fixed),
            **examples.probed_both(example),
        }
    return {
        "editors": str(WORKBENCH),
        "folder": str(folder / "editor"),
        "workspace": str(workspace),
        "failures": str(clean(FAILURES)),
        "figures": str(MEASURED),
        "vsix": str(vsix),
        "examples": chosen,
        "programs": [examples.example(path, "utf-16").to_json() for path in SEEDS],
        "odd": examples.of_source("odd.py", analysis.source(ODD), "utf-16").to_json(),
    }


def findings_of(text: str) -> list[dict[str, Any]]:
    """What is still found in a program after a fix."""
    found: list[dict[str, Any]] = examples.of_source("fixed.py", analysis.source(text), "utf-16").to_json()[
        "findings"
    ]
    return found


@pytest.mark.parametrize("name", [*CASES, *(f"text {text}" for text in examples.TEXTS)])
def test_case(name: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    assert name in results, "did not run"
    assert results[name]["problem"] is None, f"{results[name]['problem']}\nsee {FAILURES}"


def test_a_new_user_needs_no_more_clicks_than_we_say(
    results: Mapping[str, Mapping[str, Any]], update_golden: bool
) -> None:
    """From the VSIX on a clean profile to the first gradient restored. The seconds are one machine's."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    if update_golden:
        shutil.copy(MEASURED, QUOTED)
    quoted = json.loads(QUOTED.read_text(encoding="utf-8"))
    assert measured["steps"] == quoted["steps"]
    assert measured["clicks"] == quoted["clicks"] == len(quoted["steps"])
    assert measured["seconds"]["restored"] > measured["seconds"]["found"] > 0
