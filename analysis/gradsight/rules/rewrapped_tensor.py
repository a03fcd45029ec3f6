"""
Wrapping computed tensors in `torch.tensor(...)` again.

## What it does
Flags `torch.tensor([a, b])`, `torch.FloatTensor(list)` and `x.new_tensor(...)` over tensors that something
must learn through.

## Why is this bad?
These copy the numbers into a new tensor without a history. With `requires_grad=True` the copy is a new leaf:
`backward()` runs, and its gradient ends in the copy, where no optimizer looks.

## Use instead
`torch.stack([a, b])` keeps the graph, and so does the tensor itself.

```python
loss = torch.tensor([loss_a, loss_b]).sum()  # raises, or teaches nothing
loss = torch.stack([loss_a, loss_b]).sum()
```

## When it is right
Metrics over many batches, constants, inputs that may be numbers or tensors. None of these is flagged.
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
    edits = surgery.stack_for_rewrap(source, finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Stack the tensors instead of copying their numbers", wording.applicability(finding), edits)


RULE = Rule("GS104", "rewrapped-tensor", check, fix)
