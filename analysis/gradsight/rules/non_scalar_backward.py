"""
`backward()` on something that is not a scalar.

## What it does
Flags `backward()` without a gradient argument on a value that surely has more than one element: a criterion
with `reduction='none'`, an elementwise error that nobody reduced.

## Why is this bad?
It raises "grad can be implicitly created only for scalar outputs".

## Use instead
Reduce the loss with `.mean()` or `.sum()`; the mean keeps the learning rate independent of the batch size.

```python
criterion = nn.MSELoss(reduction="none")
criterion(pred, y).backward()  # raises
criterion(pred, y).mean().backward()
```

## When it is right
With a gradient argument, or where the value has one element. Neither is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.graph import Place
from gradsight.interpret.shapes import read
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source

SUMS = ("add", "sub", "__add__", "__radd__", "__sub__", "__rsub__", "__iadd__")


def check(q: Queries) -> Iterator[Report]:
    for event in q.all("backward"):
        if event.fact("gradient") or event.fact("kind") != "tensor":
            continue
        where = event.place("call")
        # Of what is not reduced at all one element would be luck.
        shape = read(event.fact("shape"))
        of_any_size = event.fact("unreduced") and (shape is None or None in shape)
        if where is None or not (event.fact("many") or of_any_size):
            continue
        loss = q.sink_text(event)
        why = (
            "`reduction='none'` keeps one loss for each element"
            if event.fact("unreduced")
            else "nothing reduces it"
        )
        root = event.place("root")
        yield RULE.report(
            SEVERITY["raises"],
            f"{loss} has more than one element ({why}): raises "
            '"grad can be implicitly created only for scalar outputs"',
            where,
            ((f"{loss} has more than one element", root or where),),
            (("backward", where), *(("term", place) for place in terms(q, event))),
        )


def terms(q: Queries, backward: Event) -> Iterator[Place]:
    """The criteria that keep one loss for each element, of which the loss is a sum."""
    unreduced = {
        event.node: event
        for event in q.all("criterion")
        if event.node >= 0 and event.fact("reduction") == "none"
    }
    stack, seen = list(q.roots(backward)) if unreduced else [], set[int]()
    while stack:
        number = stack.pop()
        if number < 0 or number in seen:
            continue
        seen.add(number)
        place = unreduced[number].place("call") if number in unreduced else None
        if place is not None:
            yield place
        elif q.graph[number].op.rpartition(".")[2] in SUMS:
            stack += q.graph[number].inputs


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    terms = finding.all_places("term")
    if terms:
        edits = surgery.mean_of_each(source, finding.where, terms)
        if not isinstance(edits, surgery.Refusal):
            yield Fix("Reduce the loss with `.mean()`", Applicability.SAFE, edits)
            return
    for how, applicability in (("mean", Applicability.SAFE), ("sum", Applicability.UNSAFE)):
        edits = surgery.reduce_to_scalar(source, finding.where, how, everywhere=True)
        if not isinstance(edits, surgery.Refusal):
            scale = "" if how == "mean" else " (the gradient grows with the batch)"
            yield Fix(f"Reduce the loss with `.{how}()`{scale}", applicability, edits)


RULE = Rule("GS202", "non-scalar-backward", check, fix)
