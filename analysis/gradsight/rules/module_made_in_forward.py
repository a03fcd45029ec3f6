"""
A learnable layer that is made anew in each forward.

## What it does
Flags a module that owns parameters, is made inside of `forward`, is used there for what the loss depends on,
and is kept nowhere.

## Why is this bad?
Each call draws new random weights and forgets them. No optimizer can hold them, `state_dict()` does not know
them, and what goes through them is scrambled in another way each time. Nothing is raised.

## Use instead
Make it once, in `__init__`, and call it in `forward`.

```python
def __init__(self):
    super().__init__()
    self.projection = nn.Linear(16, 4)
```

A layer whose size only the call knows needs its size in `__init__`, and no fix is offered.

## When it is right
Modules that own nothing (`nn.ReLU()(x)`), layers that are made at the first call and kept, layers whose
weights are given. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import ownership, surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.policy import SEVERITY
from gradsight.queries import Queries, shortened
from gradsight.rule import Report, Rule
from gradsight.text import Source
from gradsight.values import Obj, Ref, Seq, Value


def check(q: Queries) -> Iterator[Report]:
    made = {
        event.oids[0]: event
        for event in q.all("made")
        if event.fact("forward") and event.oids and event.oids[0] in q.program.heap
    }
    if not made:
        return
    heap = q.program.heap
    kept = {oid for owner, obj in heap.items() if owner not in made for oid in held_by(obj)}
    within = {oid for owner in made for oid in ownership.parts(heap, owner) if oid != owner}
    given = {node for event in q.all("filled") for node in event.nodes}
    live = {
        source
        for sink in q.sinks
        if not sink.fact("off")
        for top in q.roots(sink)
        for source, reach in q.graph.reach(top).items()
        if reach.surely_live
    }
    stepped = {source for event in (*q.optimizers, *q.all("step")) for source in q.parameters_of(event)}
    for oid, event in made.items():
        own = ownership.parameters(heap, oid)
        where = event.place("call")
        if (
            where is None
            or oid in kept
            or oid in within
            or not own & live
            or own & (given | stepped | q.frozen)
        ):
            continue
        text = shortened(q.text_of(where))
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{text}` draws new random weights in each call of `forward`: no optimizer holds them, so they "
            "never learn; make it once, in `__init__`",
            where,
            ((f"`{text}` is made here, and forgotten when the call is over", where),),
        )


def held_by(obj: Obj) -> Iterator[int]:
    """The objects that an object holds itself."""
    stack: list[Value] = [*obj.held]
    while stack:
        value = stack.pop()
        if isinstance(value, Ref):
            yield value.oid
        elif isinstance(value, Seq):
            stack += value.items


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    edits = surgery.made_in_init(source, finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Make it once, in `__init__`", Applicability.UNSAFE, edits)


RULE = Rule("GS405", "learnable-module-made-in-forward", check, fix)
