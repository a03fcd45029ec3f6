"""Neovim, headless, with the real server: the same engine through the protocol's standard requests.

It counts columns in UTF-8, as few clients do. The cases themselves are Lua, one process for a file of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import examples
import pytest
from examples import SEEDS
from harness import analysis
from installed import MARKS, NEOVIM
from other_alphabets import ENDS, ODD

HERE = Path(__file__).resolve().parent / "neovim"
SECONDS = 240

LIT = """\
import torch

model = torch.nn.Linear(4, 4)
loss_of = torch.nn.MSELoss()
target = torch.zeros(8, 4)
h = model(torch.randn(8, 4))
shown = h.detach()
loss = loss_of(h, target)
loss.backward()
"""

pytestmark = MARKS


def run(script: str, folder: Path, given: Mapping[str, Any]) -> dict[str, str | None]:
    """The problems of a file's cases by the case's name; None: there is none."""
    assert NEOVIM.exists(), "Neovim is not installed: run `bash .ci/setup-editors`"
    work = folder / "work"
    work.mkdir()
    results, description = folder / "results.json", folder / "given.json"
    results.write_text("{}", encoding="utf-8")
    description.write_text(
        json.dumps(
            {
                **given,
                "server": [str(Path(sys.executable).with_name("gradsight")), "server"],
                "python": sys.executable,
                "folder": str(work),
            }
        ),
        encoding="utf-8",
    )
    environment = {
        **os.environ,
        "GRADSIGHT_GIVEN": str(description),
        "GRADSIGHT_RESULTS": str(results),
        **{f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CONFIG", "DATA", "STATE", "CACHE")},
    }
    done = subprocess.run(
        [str(NEOVIM), "--headless", "-u", "NONE", "-n", "-l", str(HERE / script)],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    found: dict[str, str | None] = json.loads(results.read_text(encoding="utf-8"))
    found[""] = None if done.returncode == 0 else f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    log = folder / "state" / "nvim" / "lsp.log"
    if log.exists() and any(found.values()):
        print(log.read_text(encoding="utf-8")[-4000:])
    return found


def cases(script: str) -> list[str]:
    """The names of a file's cases, which pytest wants to know before they run."""
    return re.findall(r"^case\('([^']+)'", (HERE / script).read_text(encoding="utf-8"), re.MULTILINE)


def check(results: Mapping[str, str | None], name: str) -> None:
    """A case passes if it ran and found nothing wrong."""
    assert name in results, f"did not run: {results['']}"
    assert results[name] is None, results[name]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """All programs, opened and mended one after the other."""
    programs = [examples.example(path, "utf-8").to_json() for path in SEEDS]
    return run("documents.lua", tmp_path_factory.mktemp("documents"), {"examples": programs})


@pytest.mark.parametrize("name", [path.name for path in SEEDS])
def test_program(name: str, documents: dict[str, str | None]) -> None:
    check(documents, name)


def test_documents_ended_well(documents: dict[str, str | None]) -> None:
    assert documents[""] is None


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """The cases of work.lua."""
    first, *_ = examples.one_of_each_text("utf-8").values()
    odd = examples.of_source("odd.py", analysis.source(ODD), "utf-8")
    ends = examples.of_source("ends.py", analysis.source(ENDS), "utf-8")
    assert [len(each.findings) for each in (odd, ends)] == [1, 1]
    lines = LIT.split("\n")
    lit = {
        "text": LIT,
        "row": lines.index("loss = loss_of(h, target)"),
        "column": 0,
        "feeds": [row for row, line in enumerate(lines) if line.startswith(("h =", "output ="))],
        "idle": lines.index("shown = h.detach()"),
    }
    given = {"examples": [first.to_json()], "odd": odd.to_json(), "ends": ends.to_json(), "lit": lit}
    return run("work.lua", tmp_path_factory.mktemp("work"), given)


@pytest.mark.parametrize("name", cases("work.lua"))
def test_work(name: str, work: dict[str, str | None]) -> None:
    check(work, name)


def test_work_ended_well(work: dict[str, str | None]) -> None:
    assert work[""] is None


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """One program of each text, probed as it is and after its fix, beside what the command line says."""
    chosen = examples.one_of_each_text("utf-8").values()
    given = [{**each.to_json(), **examples.probed_both(each)} for each in chosen]
    return run("probes.lua", tmp_path_factory.mktemp("probes"), {"examples": given})


@pytest.mark.parametrize("text", examples.TEXTS)
def test_probe(text: str, probes: dict[str, str | None]) -> None:
    check(probes, examples.one_of_each_text("utf-8")[text].name)


def test_probes_ended_well(probes: dict[str, str | None]) -> None:
    assert probes[""] is None
