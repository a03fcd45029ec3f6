"""
A method that is named and not called, or whose result is dropped.

## What it does
Flags `optimizer.step`, `loss.backward`, `optimizer.zero_grad` and their like as statements without
parentheses, and statements such as `x.detach()` or `x.to(device)` on a tensor, whose result nobody takes.

## Why is this bad?
Naming a method does not call it: the gradients are not computed, the weights do not move. Methods without a
trailing underscore give a new tensor and leave the old one as it was. Python says nothing about either.

## Use instead
Call the method, and give the result a name, which may be the old one.

```python
optimizer.step()
x = x.to(device)
```

## When it is right
Methods that change in place (`detach_()`), modules (`model.to(device)` moves the module itself), and the last
line of a notebook's cell, which shows its value. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span

EFFECTS = {
    "backward": "no gradient is computed",
    "manual_backward": "no gradient is computed",
    "step": "nothing is updated",
    "zero_grad": "the gradients are not cleared",
    "unscale_": "the gradients stay scaled",
    "update": "nothing is updated",
    "train": "the mode does not change",
    "eval": "the mode does not change",
}


def check(q: Queries) -> Iterator[Report]:
    for event in q.all("uncalled", "dropped"):
        where = event.place("call")
        if where is None:
            continue
        text, name = q.text_of(where), event.fact("name")
        if event.kind == "uncalled":
            effect = EFFECTS.get(name, "nothing happens")
            message = f"`{text}` is named here and not called: {effect}"
        else:
            message = f"`{text}` gives a new tensor, which is dropped: `{event.fact('of')}` stays what it was"
        yield RULE.report(
            SEVERITY["wrong"], message, where, (), (), (("kind", event.kind), ("of", event.fact("of")))
        )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    where = finding.where
    if finding.fact("kind") == "uncalled":
        if source.slice(where).endswith(".step") and "LBFGS" in source.text:
            return  # that one wants the closure, and which is not written
        edit = Edit(source.file, Span(where.end, where.end), "()")
        yield Fix(f"Call it: `{source.slice(where)}()`", Applicability.UNSAFE, (edit,))
        return
    name = finding.fact("of")
    edit = Edit(source.file, Span(where.start, where.start), f"{name} = ")
    yield Fix(f"Bind the result: `{name} = {source.slice(where)}`", Applicability.UNSAFE, (edit,))


RULE = Rule("GS206", "uncalled-method", check, fix)
