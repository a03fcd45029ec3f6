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

import re
from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.graph import Place
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import entry, loops, protocol_of
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span


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
            yield report(q, optimizer, passes[0], steps)


def trains(q: Queries, oid: int, held: frozenset[int], passes: list[Event]) -> bool:
    """Whether a loop computes and clears these gradients again and again; a script may only look at them."""
    around = {loop for event in passes for loop in loops(event)}
    return any(
        (oid in event.oids or not held.isdisjoint(event.nodes)) and around & set(loops(event))
        for event in q.all("zero")
    )


def report(q: Queries, optimizer: Event, backward: Event, steps: list[Event]) -> Report:
    where, given = optimizer.place("call"), backward.place("call")
    assert where is not None
    assert given is not None
    names = q.names(tuple(sorted(q.parameters_of(optimizer))))
    learn, them = ("learn", "them") if " and " in names else ("learns", "it")
    why = "every step is another optimizer's" if steps else "nothing ever steps"
    kind, anchor = mend(q, backward, steps)
    places = (("optimizer", where), ("anchor", anchor)) if anchor is not None else ()
    name = ""
    for zero in q.all("zero"):
        cleared = zero.place("call")
        if cleared is None or entry(zero) != entry(backward) or zero.oids != optimizer.oids:
            continue
        text = q.text_of(cleared)
        name = text.partition(".zero_grad(")[0] if q.function_of(cleared) == q.function_of(given) else name
        later = q.events.index(zero) > q.events.index(backward)
        if kind == "behind" and later and len(loops(zero)) < len(loops(backward)):
            # The loop around the backward pass adds gradients up, and this clears their sum.
            kind, places = "before", (("optimizer", where), ("anchor", cleared))
    return RULE.report(
        SEVERITY["starved"],
        f"{names} never {learn}: {q.sink_text(backward)} gives {them} a gradient, and {why}",
        given,
        (("the optimizer that holds it", where), ("here its gradients are computed", given)),
        places,
        (("kind", kind), ("name", name)),
    )


def mend(q: Queries, backward: Event, steps: list[Event]) -> tuple[str, Place | None]:
    """How a step of the right optimizer would come in: in the "place" of a step that another one takes twice
    in a turn, or "behind" what stands last between the backward pass and where a step belongs."""
    at = q.events.index(backward)
    beside = [event for event in steps if event.context == backward.context]
    following = next((event for event in beside if q.events.index(event) > at), None)
    if following is not None and any(
        event.kind in ("backward", "zero") and event.context == backward.context
        for event in q.events[at + 1 : q.events.index(following)]
    ):
        following = None  # what is done by then belongs to another pass
    if following is not None:
        twice = sum(event.oids == following.oids for event in beside) > 1
        return "place" if twice else "behind", following.place("call")
    end = next(
        (n for n, event in enumerate(q.events) if n > at and event.kind in ("backward", "zero")),
        len(q.events),
    )
    clips = [
        event
        for event in q.events[at:end]
        if event.kind in ("clip", "unscale") and event.context == backward.context
    ]
    return "behind", (clips[-1] if clips else backward).place("call")


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    optimizer, anchor = finding.place("optimizer"), finding.place("anchor")
    name = (
        surgery.name_there(source, optimizer, anchor) if optimizer is not None and anchor is not None else ""
    )
    name = name or finding.fact("name") or ""
    if not re.fullmatch(r"[\w.]+", name) or anchor is None:
        return
    text = source.slice(anchor)
    if finding.fact("kind") == "place":
        other = re.match(r"[\w.]+(?=\.step\()", text)
        if other is not None:
            where = Span(anchor.start, anchor.start + other.end())
            edit = Edit(source.file, where, name)
            yield Fix(f"Step `{name}` instead of `{other[0]}`", Applicability.UNSAFE, (edit,))
        return
    scaler = re.match(r"([\w.]+)\.scale\(", source.slice(finding.where))
    statement = f"{scaler[1]}.step({name})" if scaler is not None else f"{name}.step()"
    insert = surgery.insert_before if finding.fact("kind") == "before" else surgery.insert_behind
    edits = insert(source, anchor, statement)
    if not isinstance(edits, surgery.Refusal):
        yield Fix(f"Add `{statement}`", Applicability.UNSAFE, edits)


RULE = Rule("GS212", "wrong-optimizer", check, fix)
