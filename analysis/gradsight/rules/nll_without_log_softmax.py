"""
NLLLoss on something that is no log-probability.

## What it does
Flags probabilities (a softmax output) or raw scores (a linear layer's output) given to `NLLLoss` or
`F.nll_loss`.

## Why is this bad?
`NLLLoss` only picks an entry and negates it. On probabilities the loss is negative and its gradient ignores
how wrong the model is; on raw scores it falls without bound. Nothing is raised.

## Use instead
`F.log_softmax(scores, dim=1)` before it, or `CrossEntropyLoss` on the raw scores.

```python
loss = F.nll_loss(F.softmax(scores, dim=1), y)  # negative
loss = F.nll_loss(F.log_softmax(scores, dim=1), y)
```

Where the logarithm is taken back in another function, no fix is offered.

## When it is right
`log_softmax`, the logarithm of a softmax, scores normalised by `logsumexp`, `nll_loss(p, y) + 1`, which is
the expected error. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules.softmax_before_cross_entropy import origin, way
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    for event in q.all("criterion"):
        if (
            event.fact("wants") != "log-probability"
            or "index" not in event.fact("target_wants")
            or event.fact("off")
        ):
            continue
        role = event.fact("input")
        if role not in ("probability", "logit"):
            continue
        where = event.place("input")
        if where is None or shifted(q, event.node):
            continue
        criterion = event.fact("criterion").rpartition(".")[2]
        made = origin(q, event.nodes[0]) if role == "probability" else None
        kind = "probabilities" if role == "probability" else "raw scores"
        consequence = "the loss is negative" if role == "probability" else "the loss falls without bound"
        path, places = way(made, (f"`{criterion}` takes them for log-probabilities", where), "softmax")
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{q.text_of(where)}` holds {kind}, and `{criterion}` wants log-probabilities: {consequence}; "
            "use `log_softmax`",
            where,
            path,
            places,
            (("role", role),),
        )


def shifted(q: Queries, loss: int) -> bool:
    """`nll_loss(p, y) + 1`: one minus the probability of the right class."""
    return any(
        node.op in ("torch.add", "torch.Tensor.add") and node.inputs == (loss,) and node.note == "constant"
        for node in q.graph.nodes
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    softmax = finding.place("softmax")
    if softmax is None and finding.fact("role") == "probability":
        return  # probabilities of unknown making
    edits = surgery.log_softmax_for(source, softmax if softmax is not None else finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Use `log_softmax`", Applicability.UNSAFE, edits)


RULE = Rule("GS303", "nll-without-log-softmax", check, fix)
