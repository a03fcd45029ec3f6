"""What is claimed of each parameter, and what autograd says of it.

A claim is a finding that names something that gets no gradient. It is refuted if that has a gradient that
is not zero. A parameter without a gradient that no claim covers is a silence, with what the analysis knows of
its way as the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from corpus.verdicts import RAISES_FOR_IT

from generated import edges
from generated.edges import Traced
from generated.grammar import Generated

WITHOUT = ("none", "zero")
ON_PURPOSE = re.compile(
    r"GS10\d|GS30\d"
)  # what a drawn program may be told: cuts, and a loss of squashed values
WRITTEN_OVER = "modified by an inplace operation"  # it raises for what autograd keeps, not for what is cut


@dataclass
class Judged:
    """A generated program after its run."""

    generated: Generated
    traced: Traced
    misfit: str = ""  # why it does not count: it raises, and for no gradient's sake
    refuted: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)  # findings that are about no lost way
    parameters: int = 0
    without: int = 0  # of them without a gradient
    silent: Counter[str] = field(default_factory=Counter)

    @property
    def disagreements(self) -> list[str]:
        """What autograd refutes."""
        return [*self.refuted, *self.traced.contradicted, *self.strange]


def judge(programs: Iterable[Generated]) -> list[Judged]:
    """Analyse and run programs."""
    generated = list(programs)
    traced = edges.trace([(f"seed_{each.seed}.py", each.text) for each in generated])
    return [judged(each, one) for each, one in zip(generated, traced, strict=True)]


def judged(generated: Generated, traced: Traced) -> Judged:
    """What autograd says of a program that ran."""
    out = Judged(generated, traced)
    error = traced.error
    gradients = error is None or (RAISES_FOR_IT.search(error.text) and WRITTEN_OVER not in error.text)
    if traced.seen is None or not gradients:
        out.misfit = str(error)
        return out
    held = {int(key): states for key, states in traced.seen["held"].items()}
    out.strange = [
        f"{code} where the order of training is right" for code in traced.codes if not ON_PURPOSE.match(code)
    ]
    covered: set[int] = set()
    altogether = False
    for lost, sources in traced.lost:
        if lost.kind == "part":
            continue  # the rest has a gradient
        covered.update(sources)
        altogether = altogether or lost.kind == "dead"  # everything behind the sink gets nothing
        if lost.kind == "term":
            continue  # another term may give it one
        for key, claimed in Counter(sources).items():
            # One line may make several layers, of which only some are meant.
            states = held.get(key, [])
            without = sum(state in WITHOUT for state in states)
            if without * max(1, traced.made[key]) < len(states) * claimed:
                out.refuted.append(f"{lost.code} {lost.kind}: {states} where none is claimed")
    for _, keys, state in traced.seen["learning"]:
        out.parameters += 1
        if state not in WITHOUT:
            continue
        out.without += 1
        if altogether or covered & set(keys):
            continue
        known = [traced.learning[key] for key in keys if key in traced.learning]
        reason = known[0] if known else "not known as a parameter"
        if error is not None and reason == "live":
            reason = f"raised before: {error.type}"
        if reason == "the way is unknown" or not known:
            reason += f" ({', '.join(sorted(set(traced.silences))) or 'no reason'})"
        out.silent[reason] += 1
    return out


class Figures:
    """Sums over programs; what a program holds in memory is let go."""

    def __init__(self) -> None:
        self.programs = self.misfits = self.cut = self.parameters = self.without = 0
        self.refuted = self.strange = 0
        self.silent: Counter[str] = Counter()
        self.edges = edges.Figures()

    def add(self, judged: Judged) -> None:
        self.programs += 1
        if judged.misfit:
            self.misfits += 1
            return
        self.cut += judged.generated.cuts > 0
        self.parameters += judged.parameters
        self.without += judged.without
        self.refuted += len(judged.refuted)
        self.strange += len(judged.strange)
        self.silent.update(judged.silent)
        self.edges.add(judged.traced)

    @property
    def silence(self) -> float:
        """The share of silences among the parameters without a gradient."""
        return sum(self.silent.values()) / max(1, self.without)

    def __str__(self) -> str:
        lines = [
            f"programs {self.programs}, of which {self.misfits} raise for another reason; "
            f"{self.cut} with a cut",
            f"claims that autograd refutes {self.refuted}, findings about something else {self.strange}",
            f"parameters {self.parameters}, without a gradient {self.without}, "
            f"of these in silence {sum(self.silent.values())} ({self.silence:.1%})",
            *(f"  silent, {reason}: {count}" for reason, count in self.silent.most_common()),
            f"edges: {self.edges}",
        ]
        return "\n".join(lines)
