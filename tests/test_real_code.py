"""What is said of public packages is what somebody judged by reading them, and little of it is false."""

from __future__ import annotations

from dataclasses import replace

import pytest
from real_code.check import Judged, check, differences, judged, passed_limits
from real_code.packages import fetch, pinned

# Which packages CI reads; all of them: `python tests/real_code/check.py`, whose log is real_code/RESULTS.md.
SLICE = ("timm", "torchattacks", "torchgan", "pytorch-metric-learning", "normflows", "byol-pytorch")
FOUND = Judged("p==1", "a.py", 3, "GS102", "warning", "x.detach()", "`x` is lost", "true", "it is")


def test_every_finding_of_the_table_is_judged() -> None:
    known = judged()
    assert not list(differences(known, known))
    assert {one.package for one in known} <= set(pinned())


def test_what_differs_is_told() -> None:
    """The comparison sees a finding that is new, one that is gone, and one that nobody judged."""
    assert not list(differences([FOUND], [FOUND]))
    assert [each[:4] for each in differences([FOUND], [])] == ["new:"]
    assert [each[:5] for each in differences([], [FOUND])] == ["gone:"]
    assert [each[:4] for each in differences([replace(FOUND, line=4)], [FOUND])] == ["new:", "gone"]
    assert [each[:4] for each in differences([FOUND], [replace(FOUND, reason="")])] == ["not "]
    unjudged = replace(FOUND, verdict="unjudged")
    assert [each[:4] for each in differences([FOUND], [unjudged])] == ["not "]


def test_limits_are_limits() -> None:
    wrong = replace(FOUND, verdict="false")
    assert not list(passed_limits([wrong, FOUND], 50_000))
    assert list(passed_limits([wrong, FOUND], 49_999))
    assert list(passed_limits([wrong, replace(wrong, severity="error", verdict="debatable")], 99_999))
    assert list(passed_limits([replace(wrong, severity="information")], 9_999))
    assert list(passed_limits([replace(FOUND, severity="hint")], 4_999))  # right ones, too
    assert not list(passed_limits([FOUND] * 9, 1))


@pytest.mark.slow
def test_public_packages_have_the_judged_findings() -> None:
    try:
        folders = fetch()
    except OSError as error:
        pytest.skip(f"public packages cannot be downloaded: {error}")
    chosen = {name: folder for name, folder in folders.items() if name.startswith(SLICE)}
    assert len(chosen) == len(SLICE)
    figures = check(chosen)
    known = [one for one in judged() if one.package in chosen]
    assert figures.lines > 100_000
    assert not figures.bugs
    assert not list(differences(figures.findings, known))
    assert not list(passed_limits(known, figures.lines))
