"""
An operation without a derivative on the way to the loss.

## What it does
Flags `argmax`, comparisons, casts to integers, rounding and a distribution's `sample()` where they close the
last way from something that must learn to `backward()`.

## Why is this bad?
Indices, booleans and integers have no gradient: the graph ends, and `backward()` raises or a part of the
model never learns. Rounding keeps the graph, but its derivative is zero everywhere: every gradient before it
is exactly 0, and nothing is raised. `sample()` of a torch distribution runs under `no_grad`: what its
parameters are computed from gets no gradient through the sample.

## Use instead
A criterion that works on the scores themselves (`cross_entropy` instead of comparing `argmax`), a soft
version (`sigmoid` instead of `> 0.5`), or a straight-through estimator: `x + (x.round() - x).detach()`. Of a
distribution `rsample()`, where it has one. What should stand there instead of an index or of true and false
is a decision, and no fix is offered for it.

```python
loss = F.mse_loss(model(x).argmax(dim=1).float(), y.float())  # raises
loss = F.cross_entropy(model(x), y)
```

## When it is right
Accuracy and other metrics, masks, indices, quantisation with a straight-through estimator. None of these is
flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.text import Source, Span


def check(q: Queries) -> Iterator[Report]:
    yield from wording.reports(RULE, q)


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    if finding.fact("chain"):
        return  # something behind it has no derivative either
    if finding.fact("cause") == "draw":
        text = source.slice(finding.where)
        at = finding.where.start + text.rfind(".sample") + 1
        where = Span(at, at + len("sample"))
        if source.slice(where) == "sample":
            edit = Edit(source.file, where, "rsample")
            title = "Draw with `rsample`, which has a gradient (other numbers for the same seed)"
            yield Fix(title, Applicability.UNSAFE, (edit,))
        return
    edits = surgery.drop_rounding(source, finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Drop the operation without a derivative (changes the value)", Applicability.UNSAFE, edits)


RULE = Rule("GS107", "nondifferentiable-op", check, fix)
