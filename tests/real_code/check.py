"""Checks public packages and compares all findings with the judged ones of `findings.json`.

    python tests/real_code/check.py           everything; ends with 1 if anything differs or a limit is passed
    python tests/real_code/check.py timm      packages whose name begins so
    python tests/real_code/check.py --write   writes findings.json and RESULTS.md: new findings are `unjudged`

A finding is judged by reading the code around it: `true` (what the message says happens), `false` (it does
not), `debatable` (it happens, and somebody may have meant it). A debatable one counts as false.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(ROOT / "analysis"), str(ROOT / "tests")]

from gradsight.engine import Engine
from gradsight.finding import Severity
from gradsight.text import Source
from gradsight_cli.reading import display, read
from gradsight_cli.surroundings import Surroundings

from real_code.packages import fetch, sources

HERE = Path(__file__).resolve().parent
TABLE = HERE / "findings.json"
LOG = HERE / "RESULTS.md"
VERDICTS = ("true", "false", "debatable", "unjudged")
# At most one false finding in so many lines; for hints at most one finding.
LINES_FOR_ONE = {"warning": 50_000, "information": 10_000, "hint": 5_000}
QUOTED = re.compile(r"`[^`]*`")
MOST_REASONS = 40


@dataclass(frozen=True)
class Judged:
    """A finding in public code, and what a person thinks of it. `line` is 1-based."""

    package: str
    file: str
    line: int
    code: str
    severity: str
    quote: str
    message: str
    verdict: str = "unjudged"
    reason: str = ""

    @property
    def key(self) -> tuple[str, str, int, str, str, str, str]:
        """All but the judgement."""
        return self.package, self.file, self.line, self.code, self.severity, self.quote, self.message


@dataclass(frozen=True)
class Figures:
    """What some packages came to. `silences`: why nothing is said of a sink; `unseen`: why a value is not
    known; both by how often."""

    findings: tuple[Judged, ...]
    files: int
    lines: int
    silences: Counter[str]
    unseen: Counter[str]
    bugs: tuple[str, ...]
    seconds: float


def check(folders: dict[str, Path], jobs: int = 1) -> Figures:
    """Check all files of these packages. `seconds` is wall time."""
    began = time.perf_counter()
    tasks = [(name, folder, path) for name, folder in folders.items() for path in sources(folder)]
    if jobs > 1:
        with ProcessPoolExecutor(jobs) as pool:
            parts = list(pool.map(_file, tasks, chunksize=8))
    else:
        parts = [_file(task) for task in tasks]
    silences: Counter[str] = Counter()
    unseen: Counter[str] = Counter()
    for part in parts:
        silences += part.silences
        unseen += part.unseen
    return Figures(
        once(one for part in parts for one in part.findings),
        len(parts),
        sum(part.lines for part in parts),
        silences,
        unseen,
        tuple(bug for part in parts for bug in part.bugs),
        time.perf_counter() - began,
    )


def once(findings: Iterable[Judged]) -> tuple[Judged, ...]:
    """Each finding once, by file and line: several files may show the same one."""
    return tuple(sorted({one.key: one for one in findings}.values(), key=lambda one: one.key))


def _file(task: tuple[str, Path, Path]) -> Figures:
    package, folder, path = task
    bugs: list[str] = []
    engine = Engine(lambda where, error: bugs.append(f"{package} {path}: {where}: {error!r}"))
    source = Source(display(str(path)), read(str(path)).text)
    around = _around(str(folder))
    result = engine.analyze(source, around)
    findings = []
    for one in (*result.findings, *result.elsewhere):
        at = source if one.file == source.file else around.read(one.file)
        assert at is not None
        findings.append(
            Judged(
                package,
                Path(one.file).resolve().relative_to(folder).as_posix(),
                at.row_column(one.where.start)[0] + 1,
                one.code,
                one.severity.value,
                at.slice(one.where).split("\n")[0],
                one.message,
            )
        )
    silences = Counter(one.reason for one in result.silences)
    unseen = Counter(engine.unseen(source.file))
    return Figures(tuple(findings), 1, source.text.count("\n"), silences, unseen, tuple(bugs), 0.0)


@lru_cache(1)
def _around(folder: str) -> Surroundings:
    return Surroundings(folder)


def judged(table: Path = TABLE) -> tuple[Judged, ...]:
    """The checked-in findings with their verdicts."""
    return tuple(Judged(**row) for row in json.loads(table.read_text(encoding="utf-8")))


def differences(found: Sequence[Judged], known: Sequence[Judged]) -> Iterator[str]:
    """Every finding that only one of the two has, and each that nobody judged."""
    ours, theirs = {one.key for one in found}, {one.key for one in known}
    for one in found:
        if one.key not in theirs:
            yield f"new: {_line(one)}"
    for one in known:
        if one.key not in ours:
            yield f"gone: {_line(one)}"
        elif one.verdict not in VERDICTS[:3] or not one.reason:
            yield f"not judged: {_line(one)}"


def _line(one: Judged) -> str:
    return f"{one.package} {one.file}:{one.line} {one.code} {one.severity} [{one.quote}] {one.message}"


def level(severity: str) -> str:
    """The row of the limits that a severity belongs to."""
    return "warning" if severity == Severity.ERROR.value else severity


def counted(known: Iterable[Judged]) -> Counter[str]:
    """Of each level what counts against its limit: false and debatable findings; all hints."""
    return Counter(
        level(one.severity) for one in known if one.verdict != "true" or level(one.severity) == "hint"
    )


def passed_limits(known: Sequence[Judged], lines: int) -> Iterator[str]:
    """Each limit that more findings count against than so many lines may have."""
    against = counted(known)
    for severity, each in LINES_FOR_ONE.items():
        if against[severity] * each > lines:
            yield f"{against[severity]} at {severity} in {lines} lines: at most one in {each}"


def kinds(reasons: Counter[str]) -> Counter[str]:
    """Reasons without the names in them."""
    out: Counter[str] = Counter()
    for reason, number in reasons.items():
        out[QUOTED.sub("`…`", reason)] += number
    return out


def report(figures: Figures, known: Sequence[Judged]) -> Iterator[str]:
    """The log, line by line, as Markdown."""
    lines, against = figures.lines, counted(known)
    found = len(figures.findings)
    yield f"{figures.files:,} files, {lines:,} lines, {figures.seconds:.0f} s; {found} findings."
    yield ""
    yield "| level | findings | true | false | debatable | against the limit | per lines | at most one in |"
    yield "|---|---|---|---|---|---|---|---|"
    for severity, each in LINES_FOR_ONE.items():
        here = [one for one in known if level(one.severity) == severity]
        of = Counter(one.verdict for one in here)
        rate = f"{against[severity] * each / lines:.2f} in {each:,}" if lines else "-"
        name = "warning and error" if severity == "warning" else severity
        yield (
            f"| {name} | {len(here)} | {of['true']} | {of['false']} | {of['debatable']} "
            f"| {against[severity]} | {rate} | {each:,} |"
        )
    for title, reasons in (
        ("Why nothing is said of a sink", figures.silences),
        ("Why a value is not known", figures.unseen),
    ):
        yield ""
        yield f"## {title}: {sum(reasons.values()):,}"
        for heading, counts in (("kind", kinds(reasons)), ("reason", reasons)):
            yield ""
            yield f"| times | {heading} |"
            yield "|---|---|"
            for reason, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_REASONS]:
                yield f"| {number} | {reason} |"


def _write(figures: Figures) -> tuple[Judged, ...]:
    old = {one.key: one for one in judged()} if TABLE.exists() else {}
    rows = tuple(
        replace(one, verdict=old[one.key].verdict, reason=old[one.key].reason) if one.key in old else one
        for one in figures.findings
    )
    text = json.dumps([asdict(one) for one in rows], indent=1, ensure_ascii=False)
    TABLE.write_text(text + "\n", encoding="utf-8")
    head = [
        "# What is said of public packages",
        "",
        "Written by `python tests/real_code/check.py --write`. The packages stand in `packages.txt`, each",
        "finding with its verdict in `findings.json`.",
        "",
        f"Commit {_commit()}, Python {sys.version_info.major}.{sys.version_info.minor}.",
        "",
    ]
    LOG.write_text("\n".join([*head, *report(figures, rows)]) + "\n", encoding="utf-8")
    return rows


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True).stdout

    changed = " with changes" if git("status", "--porcelain", "--", "../../analysis").strip() else ""
    return git("rev-parse", "--short=12", "HEAD").strip() + changed


def main() -> int:
    """0 where every finding is a judged one and no limit is passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("packages", nargs="*", help="beginnings of names; none: all of them")
    parser.add_argument("--write", action="store_true", help="write the table and the log")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if given.write and given.packages:
        parser.error("the table is written of all packages")
    folders = {
        name: folder
        for name, folder in fetch().items()
        if not given.packages or name.startswith(tuple(given.packages))
    }
    figures = check(folders, given.jobs)
    known = _write(figures) if given.write else judged()
    known = tuple(one for one in known if one.package in folders)
    print(*report(figures, known), sep="\n")
    wrong = [
        *differences(figures.findings, known),
        *passed_limits(known, figures.lines),
        *(f"a bug of ours: {bug}" for bug in figures.bugs),
    ]
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
