"""Every fixture of every rule: its truth under torch, its wants, and its fix, analysed and run again.

`--update-golden` writes the `.fixed` files anew.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from pathlib import Path

import pytest
from gradsight.finding import Applicability
from gradsight.rules import RULES
from harness import analysis, truth, wants
from harness.fixing import Fixed, fixed
from harness.markers import read

FOLDERS = sorted(
    path for path in (Path(__file__).parent.parent / "fixtures" / "rules").iterdir() if path.is_dir()
)
FLAGGED = [path for folder in FOLDERS for path in sorted(folder.glob("flagged_*.py"))]
CLEAN = [path for folder in FOLDERS for path in sorted(folder.glob("clean_*.py"))]
PROGRAMS = [*FLAGGED, *CLEAN]
MARKERS = {path: read(path) for path in PROGRAMS}


def named(path: Path) -> str:
    return f"{path.parent.name[:5]}-{path.stem}"


@pytest.fixture(scope="module")
def asked(request: pytest.FixtureRequest) -> list[Path]:
    """The fixtures that this session tests, which `-k` makes few."""
    wanted = {
        item.callspec.params.get("path")
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == Path(__file__) and hasattr(item, "callspec")
    }
    return [path for path in PROGRAMS if path in wanted]


@pytest.fixture(scope="module")
def outcomes(asked: list[Path]) -> dict[Path, truth.Outcome]:
    """Those, run."""
    runs = [truth.Run.of(path, MARKERS[path].facts()) for path in asked]
    return dict(zip(asked, truth.run_many(runs), strict=True))


@functools.cache
def result_of(path: Path) -> Fixed | AssertionError:
    """A flagged fixture, fixed; an error where fixing failed."""
    try:
        return fixed(analysis.source(path))
    except (AssertionError, ValueError) as error:
        return AssertionError(str(error))


@pytest.fixture(scope="module")
def results(asked: list[Path]) -> dict[Path, Fixed | AssertionError]:
    """The flagged ones, fixed."""
    return {path: result_of(path) for path in FLAGGED if path in asked}


@pytest.fixture(scope="module")
def outcomes_fixed(results: dict[Path, Fixed | AssertionError]) -> dict[Path, truth.Outcome]:
    """All fixed texts, run."""
    chosen = {
        path: result for path, result in results.items() if isinstance(result, Fixed) and result.applied
    }
    runs = [
        truth.Run(result.text, tuple(MARKERS[path].facts(fixed=True)), str(path))
        for path, result in chosen.items()
    ]
    return dict(zip(chosen, truth.run_many(runs), strict=True))


@pytest.fixture(scope="module")
def snapshots(
    results: dict[Path, Fixed | AssertionError],
) -> dict[Path, tuple[truth.Snapshot, truth.Snapshot]]:
    """Of each flagged fixture whose fixes all claim to be safe: before and after."""
    chosen = {
        path: result
        for path, result in results.items()
        if isinstance(result, Fixed)
        and result.applied
        and all(applicability is Applicability.SAFE for _, applicability in result.applied)
    }
    before = truth.snapshots([truth.Run.of(path) for path in chosen])
    after = truth.snapshots([truth.Run(result.text, file=str(path)) for path, result in chosen.items()])
    return dict(zip(chosen, zip(before, after, strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("path", PROGRAMS, ids=named)
def test_truth(path: Path, outcomes: dict[Path, truth.Outcome]) -> None:
    assert MARKERS[path].facts(), "a fixture without a fact proves nothing"
    assert not outcomes[path].false


@pytest.mark.parametrize("path", PROGRAMS, ids=named)
def test_wants(path: Path) -> None:
    found, source = analysis.findings(path)
    report = wants.check(named(path), source.text, found, MARKERS[path].wants)
    assert report, str(report)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (at % 3 > 0)) for at, path in enumerate(FLAGGED)],
    ids=named,
)
def test_fix_is_golden(path: Path, update_golden: bool) -> None:
    """The fixed text is the golden one, to the byte."""
    result = the(result_of(path))
    golden = path.with_suffix(".fixed")
    if update_golden:
        if result.applied:
            golden.write_bytes(result.text.encode())
        else:
            golden.unlink(missing_ok=True)
    if not result.applied:
        assert not golden.exists(), "no fix is offered any more"
        return
    assert golden.exists(), "no golden file yet: read the fix, then run with --update-golden"
    assert result.text == golden.read_bytes().decode()


@pytest.mark.slow
@pytest.mark.parametrize("path", FLAGGED, ids=named)
def test_fix_mends(
    path: Path,
    results: dict[Path, Fixed | AssertionError],
    outcomes_fixed: dict[Path, truth.Outcome],
) -> None:
    """Nothing new is found in the fixed text, what was mended is gone, and it runs and its facts hold."""
    result = the(results[path])
    if not result.applied:
        assert not MARKERS[path].facts(fixed=True), "`# truth-fixed:` speaks of a fix, but none is offered"
        return
    known = Counter((want.code, want.quote) for want in MARKERS[path].wants)
    left = Counter(
        (one.code, wants.quoted(result.text, one.where.start, one.where.end)) for one in result.left
    )
    assert not left - known, "the fixed text has a finding that the program did not have"
    assert left.total() < known.total(), f"{result.applied} were applied, and as much is found as before"
    assert not outcomes_fixed[path].false


def the(result: Fixed | AssertionError) -> Fixed:
    if isinstance(result, AssertionError):
        raise result
    return result


@pytest.mark.slow
@pytest.mark.parametrize("path", FLAGGED, ids=named)
def test_a_safe_fix_keeps_the_forward_values(
    path: Path, snapshots: dict[Path, tuple[truth.Snapshot, truth.Snapshot]]
) -> None:
    """To 1e-5, by the first loss that backward saw, unless the program raised."""
    if path not in snapshots:
        return  # its fixes claim something else, or there is none
    before, after = snapshots[path]
    if before.error or not before.losses:
        return
    assert after.losses, "the fixed program calls no backward"
    assert math.isclose(before.losses[0], after.losses[0], rel_tol=1e-5, abs_tol=1e-7)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_holds_enough_of_both(folder: Path) -> None:
    flagged, clean = list(folder.glob("flagged_*.py")), list(folder.glob("clean_*.py"))
    assert len(flagged) >= 6
    assert len(clean) >= 6
    code, _, name = folder.name.partition("_")
    assert (code, name.replace("_", "-")) in {(rule.code, rule.name) for rule in RULES}
    for path in flagged:
        assert code in {want.code for want in MARKERS[path].wants}, path.name
    for path in clean:
        assert not MARKERS[path].wants, path.name
    goldens = {path.stem for path in folder.glob("*.fixed")}
    assert goldens <= {path.stem for path in flagged}, "a golden file without its program"
    assert {path.name for path in folder.iterdir()} == {path.name for path in [*flagged, *clean]} | {
        f"{stem}.fixed" for stem in goldens
    }


def test_every_rule_has_its_folder() -> None:
    assert {rule.code for rule in RULES} == {folder.name[:5] for folder in FOLDERS}


def test_few_wants_are_missing() -> None:
    every = [want for markers in MARKERS.values() for want in markers.wants]
    missing = [want for want in every if want.missing]
    assert len(missing) <= 0.05 * len(every), f"{len(missing)} of {len(every)} wants are missing"
