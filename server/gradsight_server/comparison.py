"""What a fix did, as autograd saw it: one program probed before and after.

    said = compare(before, after)
    said.summary      "gradient restored: conv1.weight none → 0.31"
    said.restored, said.lost      Change(name, before, after)
    said.is_worse     it raises now, and did not before

Invariant: pure. It says what two runs saw and never that they would see it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradsight_server.probe import ProbeResult
from gradsight_server.wording import count_of, gradient_of, state_of, to_number

MOST_NAMED = 3  # parameters that one sentence names


@dataclass(frozen=True, slots=True)
class Change:
    """The gradient of one parameter in both runs: its norm, or in a word why it has none."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs side by side."""

    summary: str
    restored: tuple[Change, ...]  # those that get a gradient now
    lost: tuple[Change, ...]  # those that got one before
    is_worse: bool


def compare(before: ProbeResult, after: ProbeResult) -> Comparison:
    """Both runs got as far as running (`problem` is None)."""
    old = {each["name"]: each for each in before.parameters}
    new = {each["name"]: each for each in after.parameters}
    restored, lost = [], []
    for name, parameter in new.items():
        change = Change(name, _said(old.get(name)), _said(parameter))
        if _learns(parameter) and not _learns(old.get(name)):
            restored.append(change)
        elif _learns(old.get(name)) and not _learns(parameter):
            lost.append(change)
    lost += [
        Change(name, _said(each), "gone") for name, each in old.items() if name not in new and _learns(each)
    ]
    said = [_errors(before, after)]
    said += [_listed("gradient restored", restored), _listed("gradient lost", lost)]
    if not restored and not lost:
        learning = [each for each in after.parameters if state_of(each) != "constant"]
        said.append(
            f"no gradient came or went: {count_of(learning)}" if after.parameters else "nothing here learns"
        )
    worse = after.error is not None and before.error is None
    return Comparison("; ".join(filter(None, said)), tuple(restored), tuple(lost), worse)


def _learns(parameter: Mapping[str, Any] | None) -> bool:
    return parameter is not None and gradient_of(dict(parameter)) == "nonzero"


def _said(parameter: Mapping[str, Any] | None) -> str:
    """A gradient in a word: its norm, or why there is none."""
    if parameter is None:
        return "none"
    gradient = gradient_of(dict(parameter))
    return {"none": "none", "zero": "0", "nonfinite": "not finite"}.get(gradient) or to_number(
        parameter["norm"]
    )


def _errors(before: ProbeResult, after: ProbeResult) -> str:
    if after.error is None:
        return "" if before.error is None else f"it no longer raises {before.error['type']}"
    row = f" in line {after.error['row']}" if after.error["row"] else ""
    first = str(after.error["message"]).split("\n", 1)[0]
    what = f"{after.error['type']}{row}{': ' if first else ''}{first}"
    if before.error is None:
        return f"with the fix it raises {what}"
    if before.error["type"] == after.error["type"]:
        return f"it still raises {what}"
    return f"it raises {what} instead of {before.error['type']}"


def _listed(what: str, changes: Sequence[Change]) -> str:
    if not changes:
        return ""
    named = ", ".join(f"{each.name} {each.before} → {each.after}" for each in changes[:MOST_NAMED])
    more = len(changes) - MOST_NAMED
    return f"{what}: {named}{f' and {more} more' if more > 0 else ''}"
