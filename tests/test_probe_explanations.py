"""Every piece of wrong code of the list runs under the probe, raises what torch raises, and is explained."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradsight_server import child, probe
from probe_driver import Driver

CASES = json.loads((Path(__file__).parent / "gradient_errors.json").read_text(encoding="utf-8"))
HEAD = (
    "import copy\nimport numpy as np\nimport torch\nfrom torch import nn\nimport torch.nn.functional as F\n"
)
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the driver forks a warm process")


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_wrong_code_is_explained(case: dict[str, Any], driver: Driver, tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text(HEAD + case["code"] + "\n", encoding="utf-8")
    result = driver.run(probe.request(program))
    assert result.problem is None
    assert result.faults == ()
    if case["type"] is not None:
        assert result.error is not None
        assert result.error["type"] == case["type"]
        assert result.error["row"] > HEAD.count("\n")
        assert case["says"] in (result.error["explanation"] or "")
    elif case["says"] is not None:  # only a warning
        assert result.error is None
        assert any(case["says"] in note for note in result.notes), result.notes
    else:  # nothing is said at all: the gradient shows it
        assert result.error is None
        assert {item["name"]: item["gradient"] for item in result.parameters} == {"x": "none"}


def test_explanations_are_wholesome() -> None:
    """Each pattern compiles, none hides a later one by being the same, each text is a sentence."""
    text = (child.PROBE / "explanations.py").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {}
    exec(compile(text, "explanations.py", "exec"), namespace)
    patterns = [pattern for pattern, _ in namespace["EXPLANATIONS"]]
    assert len(set(patterns)) == len(patterns)
    for pattern, meaning in namespace["EXPLANATIONS"]:
        re.compile(pattern)
        assert meaning[0].isupper() or meaning.split()[0].rstrip("()") in meaning
        assert meaning.endswith("."), meaning
    assert namespace["explain"]("RuntimeError", "something that nobody has seen") is None
