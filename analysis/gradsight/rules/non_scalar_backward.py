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
from gradsight.interpret.shapes import read
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source


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
            (("backward", where),),
        )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    for how, applicability in (("mean", Applicability.SAFE), ("sum", Applicability.UNSAFE)):
        edits = surgery.reduce_to_scalar(source, finding.where, how)
        if not isinstance(edits, surgery.Refusal):
            scale = "" if how == "mean" else " (the gradient grows with the batch)"
            yield Fix(f"Reduce the loss with `.{how}()`{scale}", applicability, edits)


RULE = Rule("GS202", "non-scalar-backward", check, fix)
