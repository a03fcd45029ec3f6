"""What is claimed of each parameter, and what autograd says of it.

A claim is a finding that names something that gets no gradient. It is refuted if that has a gradient that is
not zero. A parameter without a gradient that no claim covers is a silence, with what the analysis knows of its
way as the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from corpus.verdicts import RAISES_FOR_IT
from generated.edges import Traced, trace
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
    traced = trace([(f"seed_{each.seed}.py", each.text) for each in generated])
    return [_judged(each, one) for each, one in zip(generated, traced, strict=True)]


def _judged(generated: Generated, traced: Traced) -> Judged:
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


def table(judged: list[Judged]) -> str:
    """The sums."""
    fitting = [each for each in judged if not each.misfit]
    silent: Counter[str] = Counter()
    for each in fitting:
        silent.update(each.silent)
    without = sum(each.without for each in fitting)
    quiet = sum(silent.values())
    lines = [
        f"programs {len(judged)}, of which {len(judged) - len(fitting)} raise for another reason; "
        f"{sum(each.generated.cuts > 0 for each in fitting)} with a cut",
        f"parameters {sum(each.parameters for each in fitting)}, without a gradient {without}, "
        f"of these in silence {quiet} ({quiet / max(1, without):.1%})",
        *(f"  silent, {reason}: {count}" for reason, count in silent.most_common()),
        f"claims that autograd refutes {sum(len(each.refuted) for each in fitting)}, "
        f"findings that are about something else {sum(len(each.strange) for each in fitting)}",
    ]
    return "\n".join(lines)
