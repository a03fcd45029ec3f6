"""
A step that is taken before there are gradients.

## What it does
Flags a `step()` in a loop in which the only `backward()` for what the optimizer holds comes later in the same
turn.

## Why is this bad?
The first turn steps with nothing. Every later one steps with the gradients of the turn before, which belong
to other data and older weights, or, if they are cleared in between, with nothing at all. Nothing is raised.

## Use instead
`backward()` first, then `step()`.

```python
optimizer.zero_grad()
loss.backward()
optimizer.step()
```

## When it is right
Gradients that are computed before the loop or in another method. Not flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import Protocol, Step, loops, surely_with
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    protocol = Protocol(q)
    said: set[int] = set()
    for step in protocol.steps():
        around = loops(step.event)
        passes = list(protocol.passes(step.held))
        if not around or any(at < step.at for at, _ in passes):
            continue
        later = [event for _, event in passes if surely_with(step.event, event)]
        where = step.event.place("call")
        if not later or where is None or id(step.event) in said:
            continue
        said.add(id(step.event))
        cleared = any(
            loops(event) == around and (at < step.at or at > protocol.events.index(later[0]))
            for at, event in protocol.clears(step)
        )
        yield report(q, step, later[0], cleared)


def report(q: Queries, step: Step, backward: Event, cleared: bool) -> Report:
    where, given = step.event.place("call"), backward.place("call")
    assert where is not None
    text, loss = q.text_of(where), q.sink_text(backward)
    with_what = (
        "the gradients are cleared by then, and nothing is learned"
        if cleared
        else "it steps with the gradients of the turn before"
    )
    path = [("the step", where), *([("the gradients that it wants", given)] if given is not None else [])]
    places = (("step", where), *((("backward", given),) if given is not None else ()))
    return RULE.report(
        SEVERITY["wrong"],
        f"`{text}` comes before the backward pass of {loss}: {with_what}",
        where,
        tuple(path),
        places,
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    step, backward = finding.place("step"), finding.place("backward")
    if step is None or backward is None:
        return
    behind = surgery.insert_behind(source, backward, source.slice(step))
    if not isinstance(behind, surgery.Refusal):
        edits = (*surgery.remove_statement(source, step), *behind)
        yield Fix("Step behind the backward pass", Applicability.UNSAFE, edits)


RULE = Rule("GS205", "step-before-backward", check, fix)
