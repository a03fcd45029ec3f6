"""
A loss that is computed from gradients which have no graph of their own.

## What it does
Flags `torch.autograd.grad(...)`, `torch.autograd.functional.jacobian(...)` and their like without
`create_graph=True` where a whole term of a loss, or all of it, is computed from what they return. Also
gradients that are computed and taken by nobody, before a step that should use them.

## Why is this bad?
Gradients are plain numbers unless a graph of them is asked for. A gradient penalty made of them is a
constant: it is added to the loss and shown in the log, and changes nothing. A loss made of nothing else, like
the residual of a differential equation or a force, raises "element 0 of tensors does not require grad".
`retain_graph=True` keeps the graph of the values, not that of the gradients.

## Use instead
Ask for a graph of the gradients where a loss is made of them.

```python
(gradient,) = torch.autograd.grad(score.sum(), x, create_graph=True)
penalty = ((gradient.norm(2, dim=1) - 1) ** 2).mean()
```

Gradients that nobody takes have no fix: what they were for is not known.

## When it is right
Attacks, saliency maps, influence and weights of losses that are computed from gradients: a gradient that is
used as a number, beside or inside of what learns by another way. None of these is flagged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.policy import SEVERITY
from gradsight.protocol import protocol_of, surely_with
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.text import Source, Span

SWITCHED_OFF = re.compile(r"\bcreate_graph\s*=\s*(False|None)\b")


def check(q: Queries) -> Iterator[Report]:
    yield from wording.reports(RULE, q)
    if q.has("ungiven"):
        yield from ungiven(q)


def ungiven(q: Queries) -> Iterator[Report]:
    """Gradients that nobody takes, where a step should be taken with them."""
    protocol = protocol_of(q)
    said: set[int] = set()
    for at, event in q.numbered("ungiven"):
        where = event.place("call")
        if where is None:
            continue
        for step in protocol.steps:
            stepped = step.event.place("call")
            if (
                step.at < at
                or id(event) in said
                or stepped is None
                or not protocol.gives(event.node, step.held)
            ):
                continue
            if protocol.by_hand(step.event, step.held) or not surely_with(event, step.event):
                continue
            if any(sink.kind == "backward" for _, sink in protocol.passes(step.held)):
                continue
            said.add(id(event))
            yield RULE.report(
                SEVERITY["wrong"],
                f"`{q.text_of(where).partition('(')[0]}(…)` gives the gradients and leaves `.grad` as it is, "
                f"and nobody takes them: `{q.text_of(stepped)}` steps with nothing",
                where,
                (("gradients that nobody takes", where), ("and a step without any", stepped)),
                (),
                (("kind", "ungiven"),),
            )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    where = finding.where
    if finding.fact("kind") == "ungiven":
        return  # whether `backward()` was meant is not known
    title = "Keep a graph of the gradients: `create_graph=True`"
    off = SWITCHED_OFF.search(source.slice(where))
    if off is not None:
        span = Span(where.start + off.start(1), where.start + off.end(1))
        yield Fix(title, Applicability.UNSAFE, (Edit(source.file, span, "True"),))
        return
    edits = surgery.with_keyword(source, where, "create_graph", "True")
    if not isinstance(edits, surgery.Refusal):
        yield Fix(title, Applicability.UNSAFE, edits)


RULE = Rule("GS703", "missing-create-graph", check, fix)
