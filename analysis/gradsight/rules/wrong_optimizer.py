"""
Gradients that no step uses.

## What it does
Flags an optimizer that never steps although a loss gives what it holds a gradient: the `step()` is missing,
or it is another optimizer's.

## Why is this bad?
The gradients are computed, and the parameters stay what they were. Nothing is raised, and the loss does not
fall.

## Use instead
Step with the optimizer that holds what the loss trains.

```python
g_loss.backward()
optimizer_g.step()
```

## When it is right
Optimizers that are handed to other code, which steps. Not flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight.finding import Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import loops, protocol_of
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    protocol = protocol_of(q)
    if protocol.names_only("step"):
        return
    # `env.step(action)` is no optimizer's, and one that is not seen has no way to one that is.
    steps = [event for event in q.all("step") if not event.fact("given")]
    if any(event.fact("unknown") or len(event.oids) != 1 for event in steps):
        return
    stepped = {event.oids[0] for event in steps}
    moved = {source for event in steps for source in q.parameters_of(event)}
    for oid, optimizer in protocol.optimizers.items():
        where = optimizer.place("call")
        if oid in stepped or where is None or optimizer.fact("unknown") or protocol.escapes(oid):
            continue
        held = frozenset(q.parameters_of(optimizer)) - moved - q.frozen
        passes = [event for _, event in protocol.passes(held) if not protocol.by_hand(event, held)]
        if passes and ((stepped and q.program.kind == "module") or trains(q, oid, held, passes)):
            yield report(q, optimizer, passes[0], bool(stepped))


def trains(q: Queries, oid: int, held: frozenset[int], passes: list[Event]) -> bool:
    """Whether a loop computes and clears these gradients again and again; a script may only look at them."""
    around = {loop for event in passes for loop in loops(event)}
    return any(
        (oid in event.oids or not held.isdisjoint(event.nodes)) and around & set(loops(event))
        for event in q.all("zero")
    )


def report(q: Queries, optimizer: Event, backward: Event, others: bool) -> Report:
    where, given = optimizer.place("call"), backward.place("call")
    assert where is not None
    assert given is not None
    names = q.names(tuple(sorted(q.parameters_of(optimizer))))
    learn, them = ("learn", "them") if " and " in names else ("learns", "it")
    why = "every step is another optimizer's" if others else "nothing ever steps"
    return RULE.report(
        SEVERITY["starved"],
        f"{names} never {learn}: {q.sink_text(backward)} gives {them} a gradient, and {why}",
        given,
        (("the optimizer that holds it", where), ("here its gradients are computed", given)),
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    yield from ()


RULE = Rule("GS212", "wrong-optimizer", check, fix)
