"""
Computing a part of the loss in numpy.

## What it does
Flags the place where a tensor on its way to `backward()` leaves torch: `.detach().cpu().numpy()`, `.numpy()`,
`np.exp(tensor)`, in a loss, a model's `forward` or a helper of either.

## Why is this bad?
numpy records no graph. Wrapping the result in a tensor again does not bring the history back: what lies
before the conversion gets no gradient. On a tensor that requires a gradient, `.numpy()` raises "Can't call
numpy() on Tensor that requires grad", and adding `.detach()` as that message suggests only hides the problem.

## Use instead
The same operations of torch: `torch.abs` for `np.abs`, `torch.clamp` for `np.clip`, `amax` for `max(axis=…)`.

```python
error = np.abs(target.numpy() - pred.detach().numpy())
loss = torch.from_numpy(error).mean()  # nothing learns
loss = torch.abs(target - pred).mean()
```

## When it is right
Metrics, plots, matching (`linear_sum_assignment`), data loading, statistics that only weight or shift a loss.
None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Finding, Fix
from gradsight.policy import SEVERITY
from gradsight.queries import Queries, shortened
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    said: set[str] = set()
    for event in q.all("raises"):
        where = event.place("call")
        if where is not None and q.requires_gradient(event.node):
            text = q.text_of(where)
            said.add(text)
            yield RULE.report(
                SEVERITY["raises"],
                f"`{shortened(text)}` takes a tensor that requires a gradient out of torch: "
                f'raises "{event.fact("text")}"',
                where,
                facts=(("kind", "raises"), ("cause", "numpy")),
            )
    yield from wording.reports(RULE, q)


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    edits = surgery.tensors_for_numpy(source, finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Compute with torch instead of numpy", wording.applicability(finding), edits)


RULE = Rule("GS101", "numpy-in-loss", check, fix)
