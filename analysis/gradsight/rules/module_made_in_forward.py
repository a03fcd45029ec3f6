"""
A learnable layer that is made anew in each forward.

## What it does
Flags a module that owns parameters, is made inside of `forward` or of another method that the training loop
calls, is used there for what the loss depends on, and is kept nowhere.

## Why is this bad?
Each call makes new weights and forgets them. No optimizer can hold them, `state_dict()` does not know
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
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import loops
from gradsight.queries import Queries, shortened
from gradsight.rule import Report, Rule
from gradsight.text import Source
from gradsight.values import Class, Obj, Ref, Seq, Value


def check(q: Queries) -> Iterator[Report]:
    heap = q.program.heap
    made = {
        event.oids[0]: event
        for event in q.all("made")
        if event.oids and event.oids[0] in heap and (event.fact("forward") or in_the_turn_of_a_loss(q, event))
    }
    if not made:
        return
    kept = {oid for owner, obj in heap.items() if owner not in made for oid in held_by(obj)}
    within = {oid for owner in made for oid in ownership.parts(heap, owner) if oid != owner}
    live = {
        source
        for sink in q.sinks
        if not sink.fact("off")
        for top in q.roots(sink)
        for source, reach in q.graph.reach(top).items()
        if reach.surely_live
    }
    stepped = {source for event in (*q.optimizers, *q.all("step")) for source in q.parameters_of(event)}
    by_hand = {node for event in q.all("grad", "read", "zero", "written") for node in event.nodes}
    for oid, event in made.items():
        own = ownership.parameters(heap, oid)
        where = event.place("call")
        taken = stepped | q.frozen | given(q, heap[oid])
        if not event.fact("forward"):
            taken |= by_hand
        if where is None or oid in kept or oid in within or not own & live or own & taken:
            continue
        text = shortened(q.text_of(where))
        method = q.function_of(where).rpartition(".")[2] or "forward"
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{text}` makes new weights in each call of `{method}`: no optimizer holds them, so they "
            "never learn; make it once, in `__init__`",
            where,
            ((f"`{text}` is made here, and forgotten when the call is over", where),),
        )


def in_the_turn_of_a_loss(q: Queries, made: Event) -> bool:
    """Whether a method makes it anew for each backward pass of a loop."""
    around = loops(made)
    passes = [loops(sink) for sink in q.all("backward")]
    return any(turn and around[: len(turn)] == turn for turn in passes)


def given(q: Queries, module: Obj) -> set[int]:
    """The weights that were given their numbers, but for what the module's own class draws for them."""
    own = f"{module.cls.cid}." if isinstance(module.cls, Class) else ""
    return {
        node
        for event in q.all("filled")
        for node in event.nodes
        if not own or (place := event.place("call")) is None or not q.function_of(place).startswith(own)
    }


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
