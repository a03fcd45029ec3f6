"""
A GradScaler that is used by half.

## What it does
Flags `scaler.step(optimizer)` without any `scaler.update()`, and `optimizer.step()` on the gradients of a
loss that the scaler has scaled.

## Why is this bad?
Without `update()` the second step raises "step() has already been called since the last update()". A plain
`optimizer.step()` takes gradients that are some 65536 times too large, and steps even where they overflowed.

## Use instead
Let the scaler do all three: scale the loss, step, and adapt the scale.

```python
scaler.scale(loss).backward()
scaler.step(optimizer)
scaler.update()
```

## When it is right
Gradients that `scaler.unscale_(optimizer)` has divided before. Not flagged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import loops, protocol_of, surely_with
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span


def check(q: Queries) -> Iterator[Report]:
    protocol = protocol_of(q)
    if protocol.names_only("step", "update"):
        return
    updated = {event.oids[0] for event in q.all("update") if event.oids}
    said: set[int] = set()
    for event in q.all("scaler_step"):
        where = event.place("call")
        scaler = event.oids[0] if event.oids else -1
        if where is None or scaler in updated | said or not loops(event) or protocol.escapes(scaler):
            continue
        said.add(scaler)
        unscaled = any(scaler in other.oids[:1] for other in q.all("unscale"))
        raised = "unscale_() is being called after step()" if unscaled else "step() has already been called"
        yield RULE.report(
            SEVERITY["wrong"],
            f'nothing calls `update()` after `{q.text_of(where)}`: the second turn raises "{raised}"',
            where,
            (),
            (("step", where),),
            (("kind", "update"),),
        )
    scaled = {number for event in q.all("scaled") for number in event.nodes}
    through = {oid for event in q.all("scaler_step", "unscale") for oid in event.oids[1:]}
    own = dict(q.numbered("scaler_step"))
    for step in protocol.all_steps:
        where = step.event.place("call")
        oid = step.event.oids[0]
        if where is None or oid in said or step.at - 1 in own:  # that is its own step
            continue
        passes = protocol.passes(step.held)
        twice = next(
            (
                one
                for at, one in own.items()
                if oid in one.oids[1:]
                and surely_with(one, step.event)
                and last(passes, at) is last(passes, step.at) is not None
            ),
            None,
        )
        if twice is not None:
            said.add(oid)
            other = twice.place("call")
            yield RULE.report(
                SEVERITY["wrong"],
                f"`{q.text_of(where)}` steps once more with the gradients that the scaler has stepped with, "
                "and also where they overflowed",
                where,
                ((("the scaler's step", other),) if other is not None else ()),
                (("step", where),),
                (("kind", "twice"),),
            )
        if oid in through or oid in said:
            continue
        if passes and all(set(q.roots(event)) & scaled for _, event in passes):
            said.add(oid)
            given = passes[0][1].place("call")
            yield RULE.report(
                SEVERITY["wrong"],
                f"`{q.text_of(where)}` steps with gradients that the scaler has scaled: "
                "they are many thousand times too large; step with the scaler",
                where,
                ((("the scaled loss", given),) if given is not None else ()),
                (("step", where), *((("scaled", given),) if given is not None else ())),
                (("kind", "step"), ("updated", "yes" if updated else "")),
            )


def last(passes: tuple[tuple[int, Event], ...], before: int) -> Event | None:
    """The last backward pass before a position."""
    return next((event for at, event in reversed(passes) if at < before), None)


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    step = finding.place("step")
    if step is None:
        return
    kind, text = finding.fact("kind"), source.slice(step)
    receiver = text.partition(".step(")[0]
    if kind == "update":
        title = f"Update the scaler: `{receiver}.update()`"
        edits = surgery.insert_behind(source, step, f"{receiver}.update()")
    elif kind == "twice":
        title = f"Remove `{text}`: the scaler has stepped"
        edits = surgery.remove_statement(source, step)
    else:
        title, edits = through_scaler(source, step, finding)
    if not isinstance(edits, surgery.Refusal):
        yield Fix(title, Applicability.UNSAFE, edits)


def through_scaler(
    source: Source, step: Span, finding: Finding
) -> tuple[str, tuple[Edit, ...] | surgery.Refusal]:
    """`optimizer.step()` becomes the scaler's, which is updated behind it if nothing else does that."""
    scaled, plain = finding.place("scaled"), re.fullmatch(r"([\w.]+)\.step\(\s*\)", source.slice(step))
    given = re.match(r"([\w.]+)\.scale\(", source.slice(scaled)) if scaled is not None else None
    if plain is None or given is None:
        return "", surgery.Refusal("the scaler's name does not stand beside the loss")
    statement = f"{given[1]}.step({plain[1]})"
    edits: tuple[Edit, ...] = (Edit(source.file, step, statement),)
    if not finding.fact("updated"):
        behind = surgery.insert_behind(source, step, f"{given[1]}.update()")
        if isinstance(behind, surgery.Refusal):
            return "", behind
        edits += behind
    return f"Step with the scaler: `{statement}`", edits


RULE = Rule("GS214", "scaler-protocol", check, fix)
