"""The programs that the editors open, and what must be seen in them.

Places come from the `# want:` comments of the programs, texts after a fix from the analysis called
directly, so that what an editor shows is compared with something that went another way. Columns are code
points here and are converted once, for the encoding that an editor speaks.

Invariant: no expectation is written down for a program by name. The program of each text is the first that
has a fix, whichever that is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gradsight import configuration
from gradsight.engine import Engine
from gradsight.finding import Applicability, Finding, apply
from gradsight.text import Source
from gradsight_cli.fix import fix_text
from harness import analysis
from harness.markers import read

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = sorted((ROOT / "fixtures" / "seeds").glob("*.py"))
TEXTS = sorted({path.name.split("_")[0] for path in SEEDS})


@dataclass(frozen=True, slots=True)
class Place:
    """A span within one document, as editors say it: 0-based rows, columns in units of an encoding."""

    row: int
    start: int
    end_row: int
    end: int


@dataclass(frozen=True, slots=True)
class Offered:
    """A fix, and the document's text once it is applied."""

    title: str
    applicability: str
    text: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A finding as an editor must show it."""

    code: str
    severity: str
    message: str
    quote: str
    place: Place
    fixes: tuple[Offered, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A program and all that must be seen in it. No findings: silence."""

    name: str
    text: str
    findings: tuple[Shown, ...]
    fixed: str  # after all safe fixes

    def to_json(self) -> dict[str, Any]:
        """For the drivers of the editors, which are not written in Python."""
        return asdict(self)


@cache
def example(path: Path, encoding: str) -> Example:
    """What an editor that counts columns in `encoding` ("utf-8", "utf-16") must show of a program.

    Raises:
        AssertionError: the analysis does not say what the program's comments want.
    """
    source = analysis.source(path)
    return of_source(path.name, source, encoding, {(want.row - 1, want.quote) for want in read(path).wants})


def of_source(
    name: str, source: Source, encoding: str, wanted: set[tuple[int, str]] | None = None
) -> Example:
    """What an editor must show of a source; `wanted`: the 0-based rows and the quotes of what is found."""
    found, _ = analysis.findings_of(source)
    shown = tuple(_shown(source, finding, encoding) for finding in found)
    if wanted is not None:
        assert {(each.place.row, each.quote) for each in shown} == wanted, f"{name}: not what it wants"
    fixed = fix_text(Engine(), source, {Applicability.SAFE}, configuration.Configuration())
    return Example(name, source.text, shown, fixed.text)


def _shown(source: Source, finding: Finding, encoding: str) -> Shown:
    return Shown(
        finding.code,
        finding.severity.value,
        finding.message,
        source.text[finding.where.start : finding.where.end],
        _place(source.text, finding.where.start, finding.where.end, encoding),
        tuple(
            Offered(fix.title, fix.applicability.value, apply(source.text, fix.edits))
            for fix in analysis.fixes(source, finding)
        ),
    )


def _place(text: str, start: int, end: int, encoding: str) -> Place:
    first, last = text[:start].split("\n"), text[:end].split("\n")
    return Place(len(first) - 1, _units(first[-1], encoding), len(last) - 1, _units(last[-1], encoding))


def _units(text: str, encoding: str) -> int:
    return len(text.encode("utf-16-le")) // 2 if encoding == "utf-16" else len(text.encode(encoding))


@cache
def one_of_each_text(encoding: str) -> dict[str, Example]:
    """Of each of the five texts the first program with a fix, by the text's number. Safe fixes come first."""
    chosen: dict[str, Example] = {}
    for applicability in ("safe", "unsafe"):
        for path in SEEDS:
            program = example(path, encoding)
            if any(fix.applicability == applicability for each in program.findings for fix in each.fixes):
                chosen.setdefault(path.name.split("_")[0], program)
    assert sorted(chosen) == TEXTS
    return dict(sorted(chosen.items()))


@cache
def probed(text: str) -> list[dict[str, Any]]:
    """What the command line's probe of a program says about its lines."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.py"
        path.write_text(text, encoding="utf-8")
        gradsight = Path(sys.executable).with_name("gradsight")
        command = [str(gradsight), "probe", "--output-format", "json", "--python", sys.executable, str(path)]
        done = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True, timeout=120)
        assert done.returncode in (0, 1), done.stderr
        assert done.stdout, done.stderr
        lines: list[dict[str, Any]] = json.loads(done.stdout)["lines"]
        return [line for line in lines if line["filename"] == str(path)]


def probed_both(program: Example) -> dict[str, list[dict[str, Any]]]:
    """The same of a program as it is and after its first finding's first fix."""
    texts = (program.text, program.findings[0].fixes[0].text)
    with ThreadPoolExecutor(len(texts)) as pool:
        return dict(zip(("probed", "probed_fixed"), pool.map(probed, texts), strict=True))
