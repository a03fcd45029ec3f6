"""What a hover says. Pure: findings and facts to markdown."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gradsight.finding import Finding, Step

from gradsight_server import convert
from gradsight_server.documents import Snapshot

if TYPE_CHECKING:
    from gradsight.known import Known


def finding_at(findings: Iterable[Finding], offset: int) -> list[Finding]:
    """The findings that stand at an offset, the smallest first."""
    at = [each for each in findings if each.where.start <= offset <= each.where.end]
    return sorted(at, key=lambda each: each.where.end - each.where.start)


def explain(snapshot: Snapshot, finding: Finding, page: str | None) -> str:
    """A finding, the way it took step by step, and where its rule is explained."""
    lines = [f"**{finding.code}** {finding.name}, {finding.severity.value}", "", finding.message]
    if finding.path:
        lines += ["", *steps(snapshot, finding.path, numbered=True)]
    if page is not None:
        lines += ["", f"[About {finding.code}]({page})"]
    return "\n".join(lines)


def advise(finding: Finding) -> str:
    """What to do about a finding, for editors that show its message and its path by themselves."""
    from gradsight.pages import PAGES  # with all rules: not before `initialize` is answered

    page = next((each.doc for each in PAGES if each.code == finding.code), "")
    advice = page.partition("\n## Use instead\n")[2].strip().partition("\n\n")[0]
    return f"**{finding.code}** {finding.name}: {' '.join(advice.split())}" if advice else ""


def tell(snapshot: Snapshot, known: Known) -> str:
    """What is known of a name."""
    lines = [f"**{known.name}**", "", *("  \n".join(known.words).split("\n"))]
    if known.steps:
        lines += ["", *steps(snapshot, known.steps, numbered=False)]
    return "\n".join(lines)


def steps(snapshot: Snapshot, path: Sequence[Step], numbered: bool) -> list[str]:
    """A way, one line a stage."""
    return [
        f"{f'{number}.' if numbered else '-'} {_where(snapshot, step)}: {step.message}"
        for number, step in enumerate(path, 1)
    ]


def _where(snapshot: Snapshot, step: Step) -> str:
    if step.file != snapshot.source.file:
        return os.path.basename(step.file)
    row = convert.to_range(snapshot, step.where).start.line + 1
    if len(snapshot.parts) == 1:
        return f"line {row}"
    uris = [part.uri for part in snapshot.parts]
    return f"cell {uris.index(convert.to_uri(snapshot, step.where)) + 1}, line {row}"
