"""
A training step that returns nothing.

## What it does
Flags a Lightning module's `training_step` that ends without returning its loss and calls no backward pass
itself.

## Why is this bad?
Lightning takes a step that returns `None` for one to be skipped: nothing is differentiated, no weight moves.
Nothing is raised.

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


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    yield from ()


RULE = Rule("GS210", "loss-not-returned", check, fix)
