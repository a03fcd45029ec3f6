"""
Layers in a plain list.

## What it does
Flags a plain list, tuple or dictionary on a module that holds layers which own parameters and which the
forward goes through, where nothing else registers them.

## Why is this bad?
A module knows the modules that are its attributes, and looks into no plain list. `parameters()` leaves these
layers out: the optimizer never moves them, `state_dict()` does not save them, `.to(device)` and `train()` do
not reach them. Nothing is raised as long as the module owns any other parameter.

## Use instead
`nn.ModuleList` for a list, `nn.ModuleDict` for a dictionary, `nn.Sequential` where each feeds the next.

```python
self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])
```

Lists of lists of layers need a container in each row, and no fix is offered.

## When it is right
Lists that are registered besides (`add_module`, `nn.Sequential(*layers)`) or handed to the optimizer by name,
layers that own nothing, and modules that are hidden so that they do not learn. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gradsight import ownership, surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source
from gradsight.values import Obj, Ref, Seq, Value

WORDS = {"list": "list", "tuple": "tuple", "dict": "dictionary"}


def check(q: Queries) -> Iterator[Report]:
    heap = q.program.heap
    for event, value in kept(q):
        layers = [one for one in ownership.hidden(heap, value) if isinstance(one, int)]
        own = [oid for oid in layers if oid > event.oids[0]]  # made by the module itself
        lost = frozenset(node for oid in own for node in ownership.parameters(heap, oid))
        yield from unlisted(q, RULE, event, lost, "layers", nested(heap, value))


def kept(q: Queries) -> Iterator[tuple[Event, Value]]:
    """Plain containers that still are attributes of their module at the end, the last of each name: where
    they became one, and what they are."""
    last = {(event.oids[0], event.fact("name")): event for event in q.all("container")}
    for (oid, name), event in last.items():
        obj = q.program.heap.get(oid)
        value = obj.get(name) if obj is not None else None
        if value is not None and ownership.is_plain(q.program.heap, value):
            yield event, value


def nested(heap: Mapping[int, Obj], value: Value) -> bool:
    """Whether a container holds containers, or keys that no `ModuleDict` takes: to wrap it would not do."""
    obj = heap.get(value.oid) if isinstance(value, Ref) else None
    items = value.items if isinstance(value, Seq) else obj.held if obj is not None else ()
    if any(ownership.is_plain(heap, item) for item in items):
        return True
    return (
        obj is not None
        and obj.kind == "dict"
        and (bool(obj.items) or any(not key.startswith(("'", '"')) for key, _ in obj.fields))
    )


def unlisted(
    q: Queries, rule: Rule, event: Event, lost: frozenset[int], what: str, refuses: bool
) -> Iterator[Report]:
    """A report where parameters that should learn are in no `parameters()`, and in no optimizer."""
    where, owner = event.place("value"), event.oids[0]
    lost -= registered(q)
    if where is None or not lost or any(event.fact("unknown") for event in q.optimizers):
        return
    if q.program.kind != "class" and not q.optimizers:
        return
    held = {source for one in q.all("optimizer", "step") for source in q.parameters_of(one)}
    used = {
        source
        for sink in q.sinks
        if not sink.fact("off")
        for top in q.roots(sink)
        for source, reach in q.graph.reach(top).items()
        if source in lost and reach.live and not reach.unknown
    }
    if lost & held or not used or used <= q.frozen:
        return
    empty = any(owner in one.oids[1:] for one in q.optimizers)
    name, kind = event.fact("name"), WORDS[event.fact("kind")]
    if empty:
        consequence = (
            'the module owns no parameter, so the optimizer raises "optimizer got an empty parameter list"'
        )
    elif q.optimizers:
        consequence = f"no optimizer holds the {what} in it, so they never learn"
    else:
        consequence = f"an optimizer that is given `parameters()` never moves the {what} in it"
    yield rule.report(
        SEVERITY["raises" if empty else "wrong"],
        f"`self.{name}` is a plain {kind}, which `parameters()` does not look into: {consequence}",
        where,
        ((f"the {what} are kept here", where),),
        (("value", where),),
        (("kind", event.fact("kind")), ("refuses", "yes" if refuses else ""), ("empty", event.fact("empty"))),
    )


def registered(q: Queries) -> frozenset[int]:
    """The parameters that some module that was made here has registered, but for those within lists."""
    heap = q.program.heap
    owners = {oid for event in q.all("module") for oid in event.oids}
    if q.program.self_oid >= 0:
        owners.add(q.program.self_oid)
    inside = {
        one
        for event in q.all("container")
        for one in ownership.hidden(heap, heap[event.oids[0]].get(event.fact("name")))
        if isinstance(one, int) and event.oids[0] in heap
    }
    return frozenset(
        node for oid in owners - inside if oid in heap for node in ownership.parameters(heap, oid)
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    kind = finding.fact("kind")
    if finding.fact("refuses"):
        return
    wrapper = "ModuleDict" if kind == "dict" else "ModuleList"
    edits = surgery.wrapped(source, finding.where, f"torch.nn.{wrapper}")
    if not isinstance(edits, surgery.Refusal):
        yield Fix(f"Make it an `nn.{wrapper}` (its layers learn)", Applicability.UNSAFE, edits)


RULE = Rule("GS402", "modules-in-list", check, fix)
