"""
Gradients that are clipped too early, too late, or elsewhere.

## What it does
Flags `clip_grad_norm_` and `clip_grad_value_` before the backward pass of the same turn, behind the step, on
parameters that the backward pass does not reach, or on gradients that a GradScaler has still scaled.

## Why is this bad?
The step is taken with gradients that nothing has clipped: one bad batch can ruin the weights. With a scaler
nearly every step is clipped to the wrong size. Nothing is raised.

## Use instead
Between `backward()` and `step()`, with a scaler behind `scaler.unscale_(optimizer)`.

```python
loss.backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
optimizer.step()
```

Which network should have been clipped is a decision where the clip names another one.

## When it is right
Clipping within one of several backward passes (per sample, per task). Not flagged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import Protocol, Step, entry, loops, protocol_of, surely_with
from gradsight.queries import Queries, common_owner, shortened
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span


def check(q: Queries) -> Iterator[Report]:
    protocol = protocol_of(q)
    clips = q.numbered("clip")
    if not clips:
        return
    steps = protocol.all_steps
    for at, clip in clips:
        where = clip.place("call")
        if where is None or not loops(clip):
            continue
        clipped = protocol.parameters(clip)
        if clip.fact("unknown") and not (
            clipped and any(clipped == protocol.parameters(step.event) for step in steps)
        ):
            continue  # of a model that is not known as a whole, unless the step holds just the same
        beside = [step for step in steps if surely_with(clip, step.event) or surely_with(step.event, clip)]
        why = next(
            (found for step in beside if (found := misplaced(protocol, at, clip, clipped, step, beside))),
            None,
        )
        if why is not None:
            message, other, kind = why
            there = other.place("call")
            yield RULE.report(
                SEVERITY["wrong"],
                f"`{q.text_of(where)}` {message}",
                where,
                (("clipped here", where), *((("and this", there),) if there is not None else ())),
                (("other", there),) if there is not None else (),
                (("kind", kind), *(("owner", owner) for owner in owners(q, beside) if not kind)),
            )


def owners(q: Queries, steps: list[Step]) -> Iterator[str]:
    """Whose parameters the one step beside a clip takes."""
    if len(steps) == 1 and (owner := common_owner([q.name(n) for n in sorted(steps[0].held)])):
        yield owner


def misplaced(
    protocol: Protocol, at: int, clip: Event, clipped: frozenset[int], step: Step, beside: list[Step]
) -> tuple[str, Event, str] | None:
    """What is wrong with a clip that stands beside a step, the event that it is out of order with, and how:
    "early", "late", "scaled" (nothing takes the scale away before the step), "unscaled" (something does,
    later), or ""."""
    passes = [(n, event) for n, event in protocol.passes(step.held) if entry(event) == entry(clip)]
    turn = [(n, event) for n, event in passes if loops(event)[: len(loops(clip))] == loops(clip)]
    if not clipped & step.held:
        if len(beside) == 1 and turn and not any(True for _ in protocol.passes(clipped)):
            return (
                "clips parameters that no loss gives a gradient; the step's are not clipped",
                step.event,
                "",
            )
        if clipped and turn and turn[-1][0] < at < step.at and (wiped := cleared_next(protocol, at, clipped)):
            return "clips gradients that are cleared before anything steps with them", wiped, ""
        return None
    inner = loops(clip)
    later = [event for n, event in turn if n > at]
    empty = max((n for n, event in protocol.clears(step) if n < at and clears_for(event, clip)), default=-1)
    earlier = any(empty < n < at and not set(loops(event)) - set(inner) for n, event in passes)
    if later and not earlier and len(later) == sum(n > empty for n, _ in turn) and step.at > at:
        last = [event for n, event in turn if at < n < step.at][-1:] or later[:1]
        return "comes before the backward pass: there is nothing to clip yet", last[0], "early"
    same = [each for each in beside if each.event.oids == step.event.oids]
    behind = turn and turn[-1][0] < step.at < at
    again = any(each.kind == "step" and loops(each)[: len(inner)] == inner for each in protocol.events[at:])
    if behind and not again and all(each.at < at for each in same):
        return "comes after the step, which has used the gradients as they were", step.event, "late"
    own = [(n, event) for n, event in enumerate(protocol.events) if step.event.oids[0] in event.oids[1:]]
    stepped = next((event for _, event in own if event.kind == "scaler_step"), None)
    if stepped is not None and not any(event.kind == "unscale" and n < at for n, event in own):
        scaled = {number for event in protocol.q.all("scaled") for number in event.nodes}
        found = [event for n, event in turn if n < at][-1:]  # whose gradients the clip finds
        if any(scaled & set(protocol.q.roots(event)) for event in found):
            message = "clips gradients that are still scaled; call `unscale_` on the optimizer first"
            unscaled = next((event for n, event in own if event.kind == "unscale" and at < n < step.at), None)
            return (message, stepped, "scaled") if unscaled is None else (message, unscaled, "unscaled")
    return None


def clears_for(event: Event, clip: Event) -> bool:
    """Whether gradients are surely cleared whenever the clip is come to."""
    return surely_with(event, clip) and not event.fact("unknown") and not event.fact("by")


def cleared_next(protocol: Protocol, at: int, clipped: frozenset[int]) -> Event | None:
    """What clears the clipped gradients before the first step that could use them, in the order of a turn."""
    own = [step for step in protocol.steps if step.held & clipped]
    later = sorted(own, key=lambda step: (step.at < at, step.at))
    if not later or not clipped <= later[0].held or len({step.event.oids for step in own}) != 1:
        return None
    following = later[0].at

    def between(position: int) -> bool:
        return at < position < following if following > at else position > at or position < following

    for position, event in protocol.clears(later[0]):
        around = surely_with(event, later[0].event) and not event.fact("unknown")
        if between(position) and around and later[0].event.oids[0] in event.oids:
            return event
    return None


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    other, kind, clip = finding.place("other"), finding.fact("kind"), finding.where
    owner = finding.fact("owner")
    given = re.search(r"([\w.]+)(?=\.parameters\(\))", source.slice(clip))
    if owner and given is not None and re.fullmatch(r"[\w.]+", owner):
        if owner.startswith("self.") or surgery.is_bound_before(source, owner, clip):
            where = Span(clip.start + given.start(), clip.start + given.end())
            edit = Edit(source.file, where, owner)
            yield Fix(f"Clip what the step takes: `{owner}`", Applicability.UNSAFE, (edit,))
        return
    if other is None or not kind:
        return
    if kind == "scaled":
        stepped = re.fullmatch(r"([\w.]+)\.step\(\s*([\w.]+)\s*(?:,.*)?\)", source.slice(other), re.DOTALL)
        if stepped is None:
            return
        title = f"Unscale the gradients of `{stepped[2]}` before they are clipped"
        edits = surgery.insert_before(source, clip, f"{stepped[1]}.unscale_({stepped[2]})")
    elif kind == "late":
        title = "Clip before the step"
        edits = surgery.move_before(source, clip, other)
    else:
        title = f"Clip behind `{shortened(source.slice(other))}`"
        edits = surgery.move_behind(source, clip, other)
    if not isinstance(edits, surgery.Refusal):
        yield Fix(title, Applicability.UNSAFE, edits)


RULE = Rule("GS213", "clip-out-of-order", check, fix)
