"""
One-hot targets where class indices are wanted.

## What it does
Flags a one-hot encoded target given to `CrossEntropyLoss` or `NLLLoss`.

## Why is this bad?
An integer one-hot raises "Expected floating point type for target with class probabilities, got Long";
`NLLLoss` raises "0D or 1D target tensor expected, multi-target not supported". A float one-hot gives the same
loss as the indices, for more memory and time, and `ignore_index` does not work with it.

## Use instead
The class indices themselves: `criterion(logits, y)` instead of `criterion(logits, F.one_hot(y, 10).float())`.

```python
loss = criterion(logits, F.one_hot(y, 10))  # raises
loss = criterion(logits, y)
```

## When it is right
Smoothed, mixed-up or distilled targets are probabilities and belong there. MSE, BCE and dice want the
one-hot. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix, Severity
from gradsight.interpret.shapes import read
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules.loss_inputs import Sizes
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    for event in q.all("criterion"):
        if event.fact("target") != "one-hot" or "index" not in event.fact("target_wants"):
            continue
        where = event.place("target")
        if where is None:
            continue
        criterion = event.fact("criterion").rpartition(".")[2]
        target = q.text_of(where)
        nll = "nll" in criterion.lower()
        integer = event.fact("target_dtype") in ("int", "bool")
        if nll:
            severity, what = (
                SEVERITY["raises"],
                'raises "0D or 1D target tensor expected, multi-target not supported"',
            )
        elif integer:
            severity, what = (
                SEVERITY["raises"],
                'raises "Expected floating point type for target with class probabilities, got Long"',
            )
        elif classes_elsewhere(read(event.fact("shape")), read(event.fact("target_shape"))):
            severity, what = SEVERITY["raises"], "raises, for its classes are in the last dimension"
        else:
            severity, what = SEVERITY["wasteful"], "the class indices give the same loss for less"
        yield RULE.report(
            severity,
            f"`{target}` is one-hot, and `{criterion}` wants class indices: {what}",
            where,
            facts=(("weight", event.fact("weight")), ("reduction", event.fact("reduction"))),
        )


def classes_elsewhere(shape: Sizes | None, target: Sizes | None) -> bool:
    """(N, H, W, C) beside (N, C, H, W): surely not the input's own shape, and with the classes at its end."""
    if shape is None or target is None or len(shape) != len(target) or len(shape) < 3:
        return False
    sizes = [(x, y) for x, y in zip(shape, target, strict=True) if x is not None and y is not None]
    return any(x != y and min(x, y) > 0 for x, y in sizes) and target[-1] == shape[1]


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    edits = surgery.indices_for_one_hot(source, finding.where)
    if isinstance(edits, surgery.Refusal):
        return
    if finding.fact("weight") and finding.fact("reduction") == "mean":
        if finding.severity is Severity.HINT:
            # A weighted mean divides by the weights of the indices, but by the batch size for probabilities.
            yield Fix("Pass class indices (a weighted mean gives another loss)", Applicability.UNSAFE, edits)
            return
    yield Fix("Pass class indices", Applicability.SAFE, edits)


RULE = Rule("GS301", "one-hot-target", check, fix)
