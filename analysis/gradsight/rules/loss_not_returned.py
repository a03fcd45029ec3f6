"""
A training step, a loss or a model that returns nothing.

## What it does
Flags a Lightning module's `training_step` that ends without returning its loss and calls no backward pass
itself. Also a loss that is `None` where its `backward()` is called, and a prediction that is `None` where a
criterion is given it: what computes it has no `return`.

## Why is this bad?
Lightning takes a step that returns `None` for one to be skipped: nothing is differentiated, no weight moves.
Nothing is raised there; a `None` that is differentiated or compared raises.

## Use instead
Return the loss, or a dictionary that holds it under `"loss"`.

```python
def training_step(self, batch, batch_idx):
    x, y = batch
    loss = self.criterion(self(x), y)
    self.log("loss", loss)
    return loss
```

## When it is right
Manual optimization, which calls `manual_backward` itself. Not flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight.finding import Finding, Fix
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    for event in q.all("unreturned"):
        where = event.place("call")
        if where is not None:
            yield RULE.report(
                SEVERITY["starved"],
                "`training_step` returns no loss: Lightning skips the step, and nothing learns",
                where,
            )

    for event in q.all("nothing"):
        where, value = event.place("call"), event.place("root")
        if where is None or value is None:
            continue
        text, of = q.text_of(value), event.fact("of")
        if of == "backward":
            raised = "`backward()` raises \"'NoneType' object has no attribute 'backward'\""
        else:
            raised = f"`{of.rpartition('.')[2]}` raises, as it wants a tensor"
        yield RULE.report(
            SEVERITY["raises"],
            f"`{text}` is None here, and {raised}: what computes it has no `return`",
            where,
        )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    yield from ()


RULE = Rule("GS210", "loss-not-returned", check, fix)
