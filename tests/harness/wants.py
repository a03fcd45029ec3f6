"""Findings against wants: what was said and not wanted apart from what was wanted and not said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from harness.markers import GOES_ON, Want


class _Span(Protocol):
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


class _Severity(Protocol):
    @property
    def value(self) -> str: ...


class FindingLike(Protocol):
    """As much of a finding as is compared."""

    @property
    def code(self) -> str: ...
    @property
    def severity(self) -> _Severity: ...
    @property
    def message(self) -> str: ...
    @property
    def where(self) -> _Span: ...


@dataclass(frozen=True, slots=True)
class Report:
    """How findings and wants of one file differ. True if they don't."""

    file: str
    false_positives: tuple[str, ...]
    false_negatives: tuple[str, ...]
    found: tuple[str, ...] = ()  # `want-missing` markers that are out of date: the finding is there now

    def __bool__(self) -> bool:
        return not (self.false_positives or self.false_negatives or self.found)

    def __str__(self) -> str:
        lines = [self.file]
        for title, entries in (
            ("false positives (found, not wanted)", self.false_positives),
            ("false negatives (wanted, not found)", self.false_negatives),
            ("marked want-missing, but found: make it a want", self.found),
        ):
            if entries:
                lines += [f"  {title}:", *(f"    {entry}" for entry in entries)]
        return "\n".join(lines)


def check(file: str, text: str, findings: Iterable[FindingLike], wants: Iterable[Want]) -> Report:
    """Match findings with wants by row, code, quoted text and, where a want names one, severity.

    A finding whose severity alone is wrong counts on both sides.
    """
    wanted = list(wants)
    unmatched: list[FindingLike] = []
    found: list[str] = []
    for finding in sorted(findings, key=lambda each: (each.where.start, each.code)):
        match = next((want for want in wanted if _matches(want, finding, text)), None)
        if match is None:
            unmatched.append(finding)
            continue
        wanted.remove(match)
        if match.missing:
            found.append(_shown(match))
    return Report(
        file,
        tuple(
            f"row {_row(text, each.where.start)}: {each.code} "
            f"[{quoted(text, each.where.start, each.where.end)}] {each.severity.value}: {each.message}"
            for each in unmatched
        ),
        tuple(_shown(want) for want in wanted if not want.missing),
        tuple(found),
    )


def quoted(text: str, start: int, end: int) -> str:
    """The text of a span as a want quotes it: its first line, and ` …` if there are more."""
    first, newline, _ = text[start:end].partition("\n")
    return first.rstrip() + GOES_ON if newline else first


def _matches(want: Want, finding: FindingLike, text: str) -> bool:
    return (
        want.code == finding.code
        and want.row == _row(text, finding.where.start)
        and want.quote == quoted(text, finding.where.start, finding.where.end)
        and want.severity in (None, finding.severity.value)
    )


def _row(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _shown(want: Want) -> str:
    return f"row {want.row}: {want.code} [{want.quote}]{f' {want.severity}' if want.severity else ''}"
