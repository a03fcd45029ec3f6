"""
Turning a tensor into a Python number on its way to the loss.

## What it does
Flags `.item()`, `.tolist()`, `float(tensor)` and `math.f(tensor)` where the number, and nothing else, carries
something that must learn to `backward()` or into a term of the loss.

## Why is this bad?
A Python number has no history. `loss.item().backward()` raises "'float' object has no attribute 'backward'";
a term added as a number changes the printed loss but no gradient.

## Use instead
Keep the tensor, and take `.item()` only for what is printed or stored.

```python
loss = bce + beta * float(kld)  # the KL term teaches nothing
loss = bce + beta * kld
```

## When it is right
Logging, early stopping, schedules, weights that balance terms of a loss. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Finding, Fix
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    yield from wording.reports(RULE, q)


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    edits = surgery.tensor_for_number(source, finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Keep the tensor instead of the number", wording.applicability(finding), edits)


RULE = Rule("GS103", "scalar-in-loss", check, fix)
