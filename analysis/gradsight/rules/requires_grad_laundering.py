"""
A loss that is made to require a gradient again after its graph is gone.

## What it does
Flags `Variable(loss, requires_grad=True)`, `torch.tensor(loss, requires_grad=True)` and `nn.Parameter(loss)`
over what something must learn through, and `loss.requires_grad = True` on what has been computed. Where
something else cut the loss before, that cut is flagged by its own rule, and this line is a step on its way.

## Why is this bad?
It silences "element 0 of tensors does not require grad" and mends nothing: the loss becomes a new leaf, its
`backward()` runs, the gradient ends in that leaf, and every parameter keeps a gradient of `None`.
`Variable(x)` cuts even without the flag. On a tensor that still has its graph, `loss.requires_grad = True`
raises "you can only change requires_grad flags of leaf variables".

## Use instead
The loss itself; if it does not require a gradient, look for the operation that lost it.

```python
loss = Variable(criterion(model(x), y), requires_grad=True)  # trains nothing
loss = criterion(model(x), y)
```

Where a loss is chosen by its name, no fix is offered: what it should be called with is not plain to see.

## When it is right
A leaf that an optimizer holds or whose gradient is read: inputs that are optimized or attacked, points of a
gradient penalty, a gradient cache. `x.requires_grad_()` on a tensor with a graph changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.text import Source

LEAF_ONLY = "you can only change requires_grad flags of leaf variables"


def check(q: Queries) -> Iterator[Report]:
    yield from wording.reports(RULE, q)
    for event in q.all("require"):
        where, line = event.place("call"), event.place("statement")
        if where is None or line is None or len(event.nodes) != 1:
            continue
        number = event.nodes[0]
        if q.graph[number].kind not in ("source", "loop", "join") and q.requires_gradient(number):
            yield RULE.report(
                SEVERITY["raises"],
                f'`{q.text(number)}` has its graph, and `{q.text_of(line)}` raises "{LEAF_ONLY}"',
                where,
                (("this line raises", where),),
                (("set", line),),
                (("kind", "raises"),),
            )
            continue
        sink = asked_for(q, number)
        if sink is not None:
            yield RULE.report(
                SEVERITY["wrong"],
                f"nothing learns from {q.sink_text(sink)}: where `{q.text_of(line)}` does not raise, "
                "its graph was lost before, and the gradient ends in a new leaf",
                where,
                (("it becomes a leaf here", where), *wording.end(q, sink)),
                (),
                (("kind", "unknown"),),
            )


def asked_for(q: Queries, number: int) -> Event | None:
    """The backward pass that begins at a value which code that is not seen has computed."""
    if q.graph[number].op != "call" or not q.graph[number].inputs:
        return None
    for sink in q.sinks:
        if sink.kind == "backward" and not sink.fact("inputs") and sink.node == number:
            return sink
    return None


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    if finding.fact("kind") == "unknown":
        return
    line = finding.place("set")
    if line is not None:
        removed = surgery.remove_statement(source, line)
        if not isinstance(removed, surgery.Refusal):
            yield Fix("Remove it: the loss has its graph", Applicability.SAFE, removed)
        return
    edits = surgery.stack_for_rewrap(source, finding.where)
    if not isinstance(edits, surgery.Refusal):
        # A flag that is handed on: for somebody else the line may make a leaf that is wanted.
        handed_on = re.search(r"requires_grad\s*=(?!\s*True\b)", source.slice(finding.where))
        careful = Applicability.UNSAFE if handed_on else wording.applicability(finding)
        yield Fix("Use the tensor itself, with its graph", careful, edits)


RULE = Rule("GS108", "requires-grad-laundering", check, fix)
