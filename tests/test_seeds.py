"""Every example of the five texts the project began with: what torch does, what the analysis says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from harness import analysis, truth, wants
from harness.markers import Markers, read

SEEDS = sorted((Path(__file__).parent.parent / "fixtures" / "seeds").glob("*.py"))
MARKERS = {path: read(path) for path in SEEDS}


def named(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="module")
def outcomes() -> dict[Path, truth.Outcome]:
    """All seeds, run."""
    can_run = [path for path in SEEDS if _waits_for(MARKERS[path]) is None]
    runs = [truth.Run.of(path, MARKERS[path].facts()) for path in can_run]
    return dict(zip(can_run, truth.run_many(runs), strict=True))


def _waits_for(markers: Markers) -> str | None:
    framework = markers.waits_for
    return framework if framework and importlib.util.find_spec(framework) is None else None


@pytest.mark.slow
@pytest.mark.parametrize("path", SEEDS, ids=named)
def test_truth(path: Path, outcomes: dict[Path, truth.Outcome]) -> None:
    if framework := _waits_for(MARKERS[path]):
        pytest.skip(f"{framework} is not installed")
    assert MARKERS[path].facts(), "a seed without a fact proves nothing"
    assert not outcomes[path].false


@pytest.mark.parametrize("path", SEEDS, ids=named)
def test_wants(path: Path) -> None:
    found, source = analysis.findings(path)
    report = wants.check(path.name, source.text, found, MARKERS[path].wants)
    assert report, str(report)


def test_every_text_has_its_seeds() -> None:
    assert {path.name[:3] for path in SEEDS} == {"000", "001", "002", "003", "004"}


def test_only_the_tensorflow_seeds_wait() -> None:
    assert {markers.waits_for for markers in MARKERS.values()} == {None, "tensorflow"}
