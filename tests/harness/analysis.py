"""The analysis as tests call it: a path or a text in, findings and fixes out."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gradsight.finding import Finding, Fix
    from gradsight.text import Source


def _missing() -> str | None:
    if importlib.util.find_spec("gradsight.engine") is None:
        return "engine not there yet"
    return None


# Only as long as there is no engine; one that fails to import fails the tests.
needs_engine = pytest.mark.skipif(_missing() is not None, reason=_missing() or "")


def source(program: Path | str, file: str = "program.py") -> Source:
    """A program by its path or its text."""
    from gradsight.text import Source

    if isinstance(program, Path):
        return Source(str(program), program.read_text(encoding="utf-8"))
    return Source(file, program)


def findings(program: Path | str) -> tuple[list[Finding], Source]:
    """What the analysis says about a program, and the source into which its spans point."""
    from gradsight import engine

    analyzed = source(program)
    return list(engine.analyze(analyzed)), analyzed


def fixes(analyzed: Source, finding: Finding) -> list[Fix]:
    """The fixes that the analysis offers for a finding, best first."""
    from gradsight import engine

    return list(engine.fixes(analyzed, finding))
