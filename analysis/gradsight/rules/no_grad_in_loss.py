"""
Computing a part of the loss where gradients are switched off.

## What it does
Flags the first operation inside `torch.no_grad()`, `torch.inference_mode()` or a function decorated with one
of them, where it closes the last way from something that must learn to `backward()`.

## Why is this bad?
Nothing inside is recorded, also not what is done to values that were computed outside. What lies before gets
no gradient, and nothing is raised as long as one layer behind the block still learns.

## Use instead
Move the statements that the loss needs out of the block; leave in it what only measures.

```python
with torch.no_grad():
    scaled = hidden * 2  # everything before it stops learning
scaled = hidden * 2
```

## When it is right
Targets, evaluation, frozen encoders, exponential moving averages, updates by hand. None of these is flagged;
a part that looks frozen but is held by the optimizer is mentioned as information.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.inference import kept_for_backward
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    # Where a part is frozen on purpose and the program raises for it, that is what has to be said.
    refused = {kept.block for kept in kept_for_backward(q)}
    yield from wording.reports(
        RULE, q, lambda lost: lost.kind == "frozen" and q.graph[lost.cause].block in refused
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    block = finding.place("block")
    if block is None:
        return
    live = finding.all_places("no_grad")
    asked = finding.place("sink.call")
    if asked is not None and surgery.is_inside(source, block, asked):
        live = ()  # a block that asks for a gradient was never meant to hold none
    edits = surgery.move_out_of_no_grad(source, block, live, follow=True)
    if isinstance(edits, surgery.Refusal):
        return
    if finding.fact("kind") == "frozen":
        yield Fix(
            "Record its gradient if it should learn (moves it out of `no_grad`)", Applicability.UNSAFE, edits
        )
    else:
        decorated = source.slice(block).lstrip("@").startswith(("torch.", "no_grad", "inference_mode"))
        title = (
            "Remove the decorator"
            if decorated and "with" not in source.slice(block)[:6]
            else "Move it out of `no_grad`"
        )
        yield Fix(title, wording.applicability(finding), edits)


RULE = Rule("GS105", "no-grad-in-loss", check, fix)
