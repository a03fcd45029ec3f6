"""
Gradients that are cleared before they are used.

## What it does
Flags a `zero_grad()` between `backward()` and the `step()` that wants its gradients, one in an inner loop
whose gradients only the loop around it steps with, and one in each turn where only every fourth, say, steps.

## Why is this bad?
The optimizer steps with gradients of `None` or zero: nothing moves (with momentum or weight decay: not by
what the loss says). In an inner loop only the last turn counts. Nothing is raised.

## Use instead
Clear before `backward()` or behind `step()`, and nowhere in between.

```python
optimizer.zero_grad()
loss.backward()
optimizer.step()
```

A clearing that a helper or a branch does is left to people: others may call it.

## When it is right
A second `backward()` between the clearing and the step, as in sharpness-aware steps or an attack's inner
loop. Not flagged."""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.outline import outline
from gradsight.policy import SEVERITY
from gradsight.protocol import Step, branches, entry, loops, protocol_of, surely_with
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span


def check(q: Queries) -> Iterator[Report]:
    protocol = protocol_of(q)
    said: set[int] = set()
    for step in protocol.all_steps:
        passes = [(at, event) for at, event in protocol.passes(step.held) if at < step.at]
        clears = [
            (at, event)
            for at, event in protocol.clears(step)
            if not event.fact("unknown") and not event.fact("by")
        ]
        if not passes:
            continue
        at, backward = passes[-1]
        if entry(backward) != entry(step.event) or protocol.by_hand(backward, step.held):
            continue
        for position, clear in clears:
            if id(clear) in said or not together(clear, backward, step):
                continue
            kind = ""
            used = any(
                at < other.at < position and other.event.oids == step.event.oids
                for other in protocol.all_steps
            )
            if used:
                continue  # what this one clears has had its step
            if at < position < step.at and surely_with(clear, backward) and loops(clear) == loops(step.event):
                kind = "between"
            elif position < at and is_inner(clear, backward, step):
                kind = "inner"
            elif position < at and is_rarer(q, clear, backward, step):
                kind = "rarer"
            where = clear.place("call")
            if kind and where is not None:
                said.add(id(clear))
                yield report(q, step, backward, clear, kind)


def together(clear: Event, backward: Event, step: Step) -> bool:
    """Whether the three surely happen together, as far as branches go."""
    return entry(clear) == entry(backward) and branches(clear) <= branches(step.event) | branches(backward)


def is_inner(clear: Event, backward: Event, step: Step) -> bool:
    """Whether each turn of a loop clears what the turn before gave, and the step stands behind that loop."""
    around, inner = loops(step.event), loops(backward)
    return (
        len(inner) == len(around) + 1
        and inner[: len(around)] == around
        and loops(clear) == inner
        and not branches(clear, inner[-1])
        and not branches(backward, inner[-1])
    )


def is_rarer(q: Queries, clear: Event, backward: Event, step: Step) -> bool:
    """Whether each turn clears and computes gradients, and only every so many turns take a step."""
    around = loops(clear)
    if not around or loops(backward) != around or loops(step.event) != around:
        return False
    if branches(clear, around[-1]) or branches(backward, around[-1]):
        return False
    own = branches(step.event, around[-1])
    rare = {(number, arm) for event in q.all("every") for _, number, arm in event.context[-1:]}
    return bool(own & rare)


def in_one_function(source: Source, one: Span, other: Span) -> bool:
    """Whether two places stand in one function, or both in none, and so may change places."""
    first, second = (source.unit_at(source.row_column(span.start)[0]) for span in (one, other))
    whole = outline(source.units)
    return whole.around(first) == whole.around(second)


def report(q: Queries, step: Step, backward: Event, clear: Event, kind: str) -> Report:
    where, given, stepped = clear.place("call"), backward.place("call"), step.event.place("call")
    assert where is not None
    text = q.text_of(where)
    loss = q.sink_text(backward)
    used = f"`{q.text_of(stepped)}`" if stepped is not None else "the step"
    if kind == "between":
        message = f"`{text}` clears the gradients of {loss} before {used} has used them: nothing is learned"
    elif kind == "rarer":
        message = (
            f"`{text}` clears the gradients in each turn, and {used} is not taken in each: "
            f"what the other turns' {loss} gave is lost"
        )
    else:
        message = (
            f"`{text}` clears the gradients in each turn, and {used} stands behind the loop: "
            f"only the last turn's {loss} counts"
        )
    path = [
        *([("here the gradients are computed", given)] if given is not None else []),
        ("here they are cleared", where),
        *([("here they would be used", stepped)] if stepped is not None else []),
    ]
    if kind != "between":
        path = [path[1], path[0], *path[2:]]
    places = (
        ("clear", where),
        *((("backward", given),) if given is not None else ()),
        *((("step", stepped),) if stepped is not None else ()),
    )
    return RULE.report(SEVERITY["wrong"], message, where, tuple(path), places, (("kind", kind),))


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    clear, backward = finding.place("clear"), finding.place("backward")
    if clear is not None and finding.fact("kind") == "inner":
        above = surgery.before_its_loop(source, clear)
        if not isinstance(above, surgery.Refusal):
            yield Fix("Clear the gradients before the inner loop", Applicability.UNSAFE, above)
        return
    if clear is None or backward is None or finding.fact("kind") != "between":
        return
    if not in_one_function(source, clear, backward):
        step = finding.place("step")
        if step is not None and in_one_function(source, clear, step):
            behind = surgery.move_behind(source, clear, step)
            if not isinstance(behind, surgery.Refusal):
                yield Fix("Clear the gradients behind the step", Applicability.UNSAFE, behind)
        return  # others may call the function that clears
    before = surgery.insert_before(source, backward, source.slice(clear))
    if not isinstance(before, surgery.Refusal):
        edits = (*surgery.remove_statement(source, clear), *before)
        yield Fix("Clear the gradients before the backward pass", Applicability.UNSAFE, edits)


RULE = Rule("GS204", "zero-grad-before-step", check, fix)
