"""The analysis as tests call it: from scratch, a path or a text in. A bug inside a rule fails the test."""

from __future__ import annotations

from pathlib import Path

from gradsight.engine import Engine
from gradsight.finding import Finding, Fix
from gradsight.text import Source


def source(program: Path | str, file: str = "program.py") -> Source:
    """A program by its path or its text."""
    if isinstance(program, Path):
        return Source(str(program), program.read_text(encoding="utf-8"))
    return Source(file, program)


def findings(program: Path | str) -> tuple[list[Finding], Source]:
    """What the analysis says about a program, from scratch, and the source into which its spans point."""
    return findings_of(source(program))


def findings_of(analyzed: Source) -> tuple[list[Finding], Source]:
    """What the analysis says about a source."""
    return list(Engine(_raise).analyze(analyzed).findings), analyzed


def fixes(analyzed: Source, finding: Finding) -> list[Fix]:
    """The fixes that the analysis offers for a finding, best first."""
    return list(Engine(_raise).fixes(analyzed, finding))


def _raise(where: str, error: BaseException) -> None:
    raise AssertionError(f"a bug inside {where}: {error!r}") from error
