"""
A sigmoid too many, or one too few, before a binary loss.

## What it does
Flags probabilities given to `BCEWithLogitsLoss`, raw scores given to `BCELoss`, and a sigmoid of a sigmoid
given to either; through layers, functions and methods.

## Why is this bad?
`BCEWithLogitsLoss` applies a sigmoid of its own. The sigmoid of a probability lies between 0.5 and 0.73, so
that no example can ever be called negative, the loss stops far above zero and gradients shrink. Nothing is
raised. `BCELoss` on raw scores raises "all elements of input should be between 0 and 1".

## Use instead
Raw scores with `BCEWithLogitsLoss`, which is also the stable form; a sigmoid only where probabilities are
shown.

```python
loss = F.binary_cross_entropy_with_logits(torch.sigmoid(scores), y)  # two sigmoids
loss = F.binary_cross_entropy_with_logits(scores, y)
```

## When it is right
`BCELoss` on a sigmoid or a softmax. A sigmoid for the accuracy, for a dice term or for the weights of a focal
loss beside the logits. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.graph import Place
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules.loss_inputs import Call, calls, is_raw, same_criterion, squashing
from gradsight.rules.softmax_before_cross_entropy import origin, way
from gradsight.text import Source

WITH_LOGITS = {
    "BCELoss": "BCEWithLogitsLoss",
    "binary_cross_entropy": "binary_cross_entropy_with_logits",
}


def check(q: Queries) -> Iterator[Report]:
    for call in calls(q):
        if "index" in call.target_wants or call.input is None:
            continue
        number = call.event.nodes[0]
        if call.wants == "logit":
            if not call.silent and (call.event.fact("input") == "probability" or squashing(q, number) >= 0):
                yield too_many(q, call, call.input, number)
        elif call.wants == "probability" and call.criterion in WITH_LOGITS:
            if is_raw(q, number):
                yield too_few(q, call, call.input)
            elif not call.silent and (outer := squashing(q, number)) >= 0:
                inner = q.graph[outer].inputs[0]
                if squashing(q, inner) >= 0:
                    yield twice(q, call, call.input, number, inner)


def too_many(q: Queries, call: Call, where: Place, number: int) -> Report:
    taken = f"`{call.criterion}` takes the sigmoid of it once more", where
    path, places = way(origin(q, number), taken, "drop")
    return RULE.report(
        SEVERITY["wrong"],
        f"`{q.text_of(where)}` holds probabilities, and `{call.criterion}` applies a sigmoid itself: "
        "it sees nothing but values from 0.5 to 0.73, and the loss stays high; pass the logits",
        where,
        path,
        places,
        (("kind", "drop"),),
    )


def too_few(q: Queries, call: Call, where: Place) -> Report:
    better = WITH_LOGITS[call.criterion]
    maker = call.made or call.event.place("call")
    others = [one for one in calls(q) if same_criterion(one, call)]
    swap = maker is not None and all(is_raw(q, one.event.nodes[0]) for one in others)
    return RULE.report(
        SEVERITY["raises"],
        f"`{q.text_of(where)}` holds raw scores, and `{call.criterion}` wants probabilities: raises "
        f'"all elements of input should be between 0 and 1"; use `{better}`',
        where,
        ((f"`{call.criterion}` takes them for probabilities", where),),
        (("criterion", maker),) if maker is not None and swap else (),
        (("kind", "swap"), ("name", better)),
    )


def twice(q: Queries, call: Call, where: Place, number: int, inner: int) -> Report:
    first, second = origin(q, inner), origin(q, number)
    path = [("these are probabilities", first), ("and this is the sigmoid of them", second)]
    return RULE.report(
        SEVERITY["wrong"],
        f"`{q.text_of(where)}` is the sigmoid of a sigmoid: `{call.criterion}` sees nothing but values from "
        "0.5 to 0.73, and the loss stays high; apply it once",
        where,
        (*((text, place) for text, place in path if place is not None), ("the loss takes it here", where)),
        (("drop", second),) if second is not None else (),
        (("kind", "drop"),),
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    if finding.fact("kind") == "swap":
        criterion = finding.place("criterion")
        if criterion is None:
            return
        name = finding.fact("name") or ""
        edits = surgery.another_criterion(source, criterion, name)
        if not isinstance(edits, surgery.Refusal):
            yield Fix(f"Use `{name}`", Applicability.SAFE, edits)
        return
    where = finding.place("drop")
    edits = surgery.drop_softmax(source, where if where is not None else finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Drop the sigmoid: pass the logits", Applicability.UNSAFE, edits)


RULE = Rule("GS304", "sigmoid-and-logits", check, fix)
