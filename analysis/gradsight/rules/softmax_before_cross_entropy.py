"""
Probabilities where cross entropy wants logits.

## What it does
Flags a softmax or sigmoid output given to `CrossEntropyLoss` or `F.cross_entropy`, through layers, functions
and methods.

## Why is this bad?
Cross entropy applies a log-softmax of its own. On probabilities it runs without a word, but the gradient all
but vanishes exactly where the model is confidently wrong (measured: 1.41 becomes 3e-9), and the loss cannot
fall below a floor.

## Use instead
Give it the raw scores, and take the softmax only where probabilities are shown.

```python
loss = F.cross_entropy(F.softmax(scores, dim=1), y)  # learns hardly anything from its worst mistakes
loss = F.cross_entropy(scores, y)
```

Scores that are laid out anew on their way to the loss are left to people.

## When it is right
Log-probabilities into cross entropy are redundant but harmless. A softmax inside attention, or for accuracy,
is none of this rule's business. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import Edge
from gradsight.finding import Applicability, Finding, Fix
from gradsight.graph import Place
from gradsight.policy import SEVERITY
from gradsight.queries import KEEPING, Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    for event in q.all("criterion"):
        if event.fact("wants") != "logit" or event.fact("input") != "probability" or event.fact("off"):
            continue
        if "index" not in event.fact("target_wants"):
            continue  # binary criteria have a rule of their own
        where = event.place("input")
        if where is None:
            continue
        criterion = event.fact("criterion").rpartition(".")[2]
        taken = f"`{criterion}` takes the softmax of it once more", where
        path, places = way(origin(q, event.nodes[0]), taken, "softmax")
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{q.text_of(where)}` holds probabilities, and `{criterion}` applies softmax itself: "
            "gradients all but vanish on confident mistakes; pass the logits",
            where,
            path,
            places,
        )


def way(
    made: Place | None, taken: tuple[str, Place], name: str
) -> tuple[tuple[tuple[str, Place], ...], tuple[tuple[str, Place], ...]]:
    """The path of probabilities to the criterion that takes them, and by `name` the place that made them."""
    if made is None:
        return (taken,), ()
    return (("these are probabilities", made), taken), ((name, made),)


def origin(q: Queries, number: int) -> Place | None:
    """Where the softmax stands, looked for through what keeps it."""
    while number >= 0:
        node = q.graph[number]
        last = node.op.rpartition(".")[2].lower()
        if "softmax" in last or "sigmoid" in last:
            made = next(
                (
                    i
                    for i, edge in zip(node.inputs, node.edges, strict=False)
                    if edge is Edge.NONE and q.graph[i].op == "made"
                ),
                None,
            )
            return q.graph[made].place if made is not None else node.place
        if not node.inputs or node.edges[0] is not Edge.LIVE:
            return None
        if node.op not in KEEPING and node.op not in (
            "module",
            "torch.Tensor.__getitem__",
            "torch.cat",
            "torch.stack",
        ):
            return None
        number = node.inputs[0]
    return None


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    softmax = finding.place("softmax")
    edits = surgery.drop_softmax(source, softmax if softmax is not None else finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Drop the softmax: pass the logits", Applicability.UNSAFE, edits)


RULE = Rule("GS302", "softmax-before-cross-entropy", check, fix)
