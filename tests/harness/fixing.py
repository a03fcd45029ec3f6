"""Fixes as people apply them: the first complete one of each finding, in rounds until nothing changes."""

from __future__ import annotations

from dataclasses import dataclass

from gradsight.finding import Applicability, Edit, Finding, apply
from gradsight.text import Source

from harness import analysis

ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Fixed:
    """A program after its fixes."""

    text: str
    applied: tuple[tuple[str, Applicability], ...]  # of each fix the rule's code
    left: tuple[Finding, ...]  # findings of the result, which nothing complete mends


def fixed(source: Source) -> Fixed:
    """Apply, in rounds, the first offered fix of every finding that a person need not complete.

    Fixes whose edits overlap wait for the next round.

    Raises:
        AssertionError: the rounds don't end, or an edit leads into another file.
    """
    applied: list[tuple[str, Applicability]] = []
    for _ in range(ROUNDS):
        found, source = analysis.findings_of(source)
        edits: list[Edit] = []
        for finding in found:
            fix = next(
                (
                    each
                    for each in analysis.fixes(source, finding)
                    if each.applicability is not Applicability.DISPLAY
                ),
                None,
            )
            if fix is None or any(_overlap(new, old) for new in fix.edits for old in edits):
                continue
            assert all(edit.file == source.file for edit in fix.edits), "a fix leads into another file"
            edits += fix.edits
            applied.append((finding.code, fix.applicability))
        if not edits:
            return Fixed(source.text, tuple(applied), tuple(found))
        source = Source(source.file, apply(source.text, tuple(edits)))
    raise AssertionError(f"{source.file}: fixes do not come to an end: {applied}")


def _overlap(a: Edit, b: Edit) -> bool:
    if a == b:  # two findings that both want the same import; applied once would do, but both bring it
        return True
    return a.where.start == b.where.start or (a.where.start < b.where.end and b.where.start < a.where.end)
