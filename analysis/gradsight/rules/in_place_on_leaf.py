"""
A parameter or leaf that is written to in place while gradients are recorded.

## What it does
Flags in-place operations on what requires a gradient and was not computed: `weight.fill_(0)`,
`weight[0] = 1`, `w -= lr * w.grad`, `x += noise`, also through a view like `weight[0].zero_()`.

## Why is this bad?
Raises at that line "a leaf Variable that requires grad is being used in an in-place operation", through a
view "a view of a leaf Variable that requires grad is being used in an in-place operation".

## Use instead
Initialise and update under `torch.no_grad()`, where nothing is recorded. On the way to a loss compute a new
tensor.

```python
with torch.no_grad():
    w -= lr * w.grad
    layer.weight.fill_(0)
y = x + noise  # instead of x += noise
```

## When it is right
Under `torch.no_grad()`, through `.data` or `torch.nn.init`, on frozen parameters, buffers and anything that
was computed. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import Edge
from gradsight.finding import Applicability, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import branches, entry
from gradsight.queries import LEARNING, Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    said: set[int] = set()
    for position, event in q.numbered("written"):
        if not event.fact("leaf"):
            continue
        where, target = event.place("call"), event.place("target")
        if where is None or event.fact("grad") != "on" or event.fact("expected") or not recorded(q, event):
            continue
        syntax = id(q.syntax_of(where))
        if syntax in said or not surely_requires(q, position, event.nodes[0]):
            continue
        said.add(syntax)
        name = f"`{q.text_of(target)}`" if target is not None else "this"
        raised = "a leaf Variable that requires grad is being used in an in-place operation"
        what = "is a leaf that requires a gradient"
        if event.fact("leaf") == "view":
            raised, what = f"a view of {raised}", "lies in the memory of a leaf that requires a gradient"
        yield RULE.report(
            SEVERITY["raises"],
            f'{name} {what}, and is written to in place while gradients are recorded: raises "{raised}"; '
            "do it under `torch.no_grad()`",
            where,
            (("written to while gradients are recorded", where),),
        )


def recorded(q: Queries, event: Event) -> bool:
    """Whether gradients are surely recorded there: not where the caller, who is not seen, may have switched
    them off."""
    if entry(event):
        return False
    return q.program.kind == "module" or (q.program.kind == "class" and not branches(event))


def surely_requires(q: Queries, position: int, number: int) -> bool:
    """Whether some of the parameters or leaves that a value stands for surely require a gradient there."""
    sources = {n for n in q.feeding(number, (Edge.LIVE,)) if q.graph[n].kind == "source"}
    if not sources or any(q.graph[n].op not in LEARNING for n in sources):
        return False
    for event in q.events[:position]:
        if event.kind == "freeze":
            sources -= {n for one in event.nodes for n in q.feeding(one, (Edge.LIVE,))}
    return bool(sources)


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    edits = surgery.under_no_grad(source, finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Do it under `torch.no_grad()`", Applicability.SAFE, edits)


RULE = Rule("GS501", "in-place-on-leaf", check, fix)
