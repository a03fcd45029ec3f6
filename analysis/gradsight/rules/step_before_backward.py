"""
A step that is taken before there are gradients.

## What it does
Flags a `step()` in a loop in which the only `backward()` for what the optimizer holds comes later in the same
turn, or never comes at all. Also a `backward()` behind the step of another optimizer, through weights that
this step has changed.

## Why is this bad?
The first turn steps with nothing. Every later one steps with the gradients of the turn before, which belong
to other data and older weights, or, if they are cleared in between, with nothing at all. A loss that nobody
calls `backward()` of gives no gradient at all: `step()` passes over every parameter. Nothing is raised.
A pass through weights that were changed since they were used raises "one of the variables needed for gradient
computation has been modified by an inplace operation".

## Use instead
Call `backward()` first and `step()` behind it, in the same turn.

```python
optimizer.zero_grad()
loss.backward()
optimizer.step()
```

Where what is computed too early is spread over several statements, no fix is offered.

## When it is right
Gradients that are computed before the loop, in another method, by code that is not seen, or written to
`.grad` by hand. Not flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import Edge
from gradsight.finding import Applicability, Finding, Fix
from gradsight.graph import Place
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import Protocol, Step, entry, loops, protocol_of, surely_with
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source

# What is done to gradients between the backward pass and the step.
GRADIENTS = ("clip_grad_norm_(", "clip_grad_value_(", "unscale_(", ".clip_gradients(", "all_reduce(")

# Whoever does one of these may get gradients from there.
ASKING = ("backward", "grad", "read", "escape", "lent", "return")


def check(q: Queries) -> Iterator[Report]:
    protocol = protocol_of(q)
    said: set[int] = set()
    if protocol.names_only("backward"):
        return
    if q.has("nothing"):
        return  # what should have been differentiated is None
    if not q.has(*ASKING):
        yield from never(q, protocol)
        return
    for step in protocol.steps:
        around = loops(step.event)
        passes = protocol.passes(step.held)
        cleared_at = max((at for at, clear in protocol.clears(step) if clears(clear, at, step)), default=-1)
        if not around or any(
            at < step.at and (at > cleared_at or around[-1] in loops(event)) for at, event in passes
        ):
            continue
        later = [event for _, event in passes if surely_with(step.event, event)]
        where = step.event.place("call")
        if not later or where is None or id(step.event) in said or protocol.by_hand(step.event, step.held):
            continue
        said.add(id(step.event))
        cleared = any(
            loops(event) == around and (at < step.at or at > protocol.events.index(later[0]))
            for at, event in protocol.clears(step)
        )
        cleared_last = max((at for at, _ in protocol.clears(step)), default=-1)
        own = [event for at, event in passes if at > cleared_last and event in later]
        yield report(q, step, (own or later)[0], cleared)
    yield from outdated(q, protocol, said)


def never(q: Queries, protocol: Protocol) -> Iterator[Report]:
    """Steps of a program that computes a loss of what they step, and nowhere asks for its gradient."""
    losses = [event for event in q.all("criterion") if event.node >= 0 and not event.fact("off")]
    given = {
        i
        for node in q.graph.nodes
        if node.kind == "source" and node.op == "call"
        for number in node.inputs
        if number >= 0
        for i in q.feeding(number, (Edge.LIVE, Edge.UNKNOWN))
    }
    said: set[int] = set()
    for step in protocol.steps:
        where = step.event.place("call")
        if where is None or step.optimizer.oids[0] in said or protocol.by_hand(step.event, step.held):
            continue
        for loss in losses:
            place = loss.place("call")
            if place is None or loss.node in given or entry(loss) != entry(step.event):
                continue  # code that is not seen has it, and may ask for its gradient
            if not protocol.gives(loss.node, step.held) or loops(loss) != loops(step.event):
                continue
            said.add(step.optimizer.oids[0])
            text = q.text_of(where)
            yield RULE.report(
                SEVERITY["wrong"],
                f"`{text}` has nothing to step with: nobody calls `backward()` of this loss, so that no "
                "parameter has a gradient and nothing is learned",
                where,
                (("a loss of what it steps", place), ("this step passes over every parameter", where)),
                (("loss", place),),
                (("kind", "never"),),
            )
            break


def clears(event: Event, at: int, step: Step) -> bool:
    """Whether each such step comes behind this clearing of all gradients."""
    return (
        at < step.at
        and not event.fact("unknown")
        and not event.fact("by")
        and step.event.oids[0] in event.oids
        and surely_with(event, step.event)
    )


def outdated(q: Queries, protocol: Protocol, early: set[int]) -> Iterator[Report]:
    """Backward passes through weights that a step of the same turn has changed since they were used. What is
    wrong with the `early` steps is said."""
    said: set[int] = set()
    for step in protocol.steps:
        if id(step.event) in early:
            continue
        for at, event in q.numbered("backward"):
            where = event.place("call")
            if at < step.at or id(event) in said or where is None:
                continue
            if event.fact("off") or not surely_with(step.event, event):
                continue
            used = next((number for top in q.roots(event) for number in stale(q, top, step)), None)
            if used is not None:
                said.add(id(event))
                yield outdated_report(q, step, event, used, where)


def stale(q: Queries, top: int, step: Step) -> Iterator[int]:
    """What the pass walks that needs weights as they were before the step, to hand a gradient on."""
    inside = set(loops(step.event))
    stack, seen = [top], {top}
    while stack:
        number = stack.pop()
        node = q.graph[number]
        if node.kind in ("join", "loop") or any(edge is Edge.UNKNOWN for edge in node.edges):
            continue
        live = [i for i, edge in zip(node.inputs, node.edges, strict=False) if edge is Edge.LIVE and i >= 0]
        if number < step.event.node and node.saves and inside <= set(node.loops):
            changed = [i for i in live if i in step.held]
            if changed and any(i not in changed and q.requires_gradient(i) for i in live):
                yield number
        for i in live:
            if i not in seen:
                seen.add(i)
                stack.append(i)


def outdated_report(q: Queries, step: Step, backward: Event, used: int, where: Place) -> Report:
    changed = next(i for i in q.graph[used].inputs if i in step.held)
    name = q.names((changed,))
    stepped, place = step.event.place("call"), q.graph[used].place
    path = [
        *([(f"{name} is used here", place)] if place is not None else []),
        *([(f"this step changes {name}", stepped)] if stepped is not None else []),
        ("and this goes back through it", where),
    ]
    text = q.text_of(stepped) if stepped is not None else "the step"
    return RULE.report(
        SEVERITY["raises"],
        f"{q.sink_text(backward)} was computed with {name} as it was before `{text}`: raises "
        '"one of the variables needed for gradient computation has been modified by an inplace operation"',
        where,
        tuple(path),
        (
            *((("used", place),) if place is not None else ()),
            *((("stepped", stepped),) if stepped is not None else ()),
        ),
        (("kind", "outdated"),),
    )


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
    if finding.fact("kind") == "never":
        yield from computed(source, finding)
        return
    used, stepped = finding.place("used"), finding.place("stepped")
    if used is not None and stepped is not None:
        behind = surgery.move_behind(source, used, stepped)
        if not isinstance(behind, surgery.Refusal):
            yield Fix("Compute it behind the step, with the new weights", Applicability.UNSAFE, behind)
        return
    step, backward = finding.place("step"), finding.place("backward")
    if step is None or backward is None:
        return
    behind = surgery.insert_behind_all(source, backward, GRADIENTS, source.slice(step))
    if not isinstance(behind, surgery.Refusal):
        edits = (*surgery.remove_statement(source, step), *behind)
        yield Fix("Step behind the backward pass", Applicability.UNSAFE, edits)


def computed(source: Source, finding: Finding) -> Iterator[Fix]:
    """The backward pass that nobody calls, before the step."""
    made = finding.place("loss")
    name = surgery.name_there(source, made, finding.where) if made is not None else ""
    edits = surgery.insert_before(source, finding.where, f"{name}.backward()")
    if name and not isinstance(edits, surgery.Refusal):
        title = f"Compute the gradients before the step: `{name}.backward()`"
        yield Fix(title, Applicability.UNSAFE, edits)


RULE = Rule("GS205", "step-before-backward", check, fix)
