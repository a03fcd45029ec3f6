"""An engine that keeps its memo says after any edits what a fresh one says, and analyses no more than it must."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from gradsight.engine import Engine, Findings
from gradsight.text import Source
from typist import Typist

FIXTURES = Path(__file__).parent.parent / "fixtures"
PROGRAMS = [
    path
    for folder in ("corpus", "seeds", "rules/*")
    for path in sorted(FIXTURES.glob(f"{folder}/*.py"))
]


def loud(where: str, error: BaseException) -> None:
    raise AssertionError(f"a bug inside {where}: {error!r}") from error


def told(findings: Findings) -> list[object]:
    """Findings and silences with everything that they hold."""
    return [*findings.findings, *findings.silences]


def agree(engine: Engine, source: Source, edit: str) -> None:
    """The engine that has a past says what a fresh one says, and so it does when asked again."""
    kept = told(engine.analyze(source))
    fresh = told(Engine(loud).analyze(Source(source.file, source.text)))
    assert kept == fresh, f"after {edit} of\n{source.text}"
    engine.analysed.clear()
    again = told(engine.analyze(source))
    assert again == fresh


def type_into(engine: Engine, path: Path, seed: str, edits: int) -> None:
    typist = Typist(Source("program.py", path.read_text("utf-8")), random.Random(seed))
    agree(engine, typist.source, "nothing")
    for number in range(edits):
        agree(engine, typist.edit(), f"{typist.last} ({seed}, edit {number})")


@pytest.mark.parametrize("path", PROGRAMS[::20], ids=lambda path: path.stem)
def test_from_scratch_is_after_any_edits(path: Path) -> None:
    type_into(Engine(loud), path, path.stem, 12)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(4))
def test_from_scratch_is_after_thousands_of_edits(part: int) -> None:
    # One engine for all: what it keeps of one program must not show in another.
    engine = Engine(loud)
    for path in PROGRAMS[part::4]:
        type_into(engine, path, f"long {path.stem}", 15)
