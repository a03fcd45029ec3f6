"""
A backward pass where there is no graph to go back through.

## What it does
Flags a `backward()` that must raise because nothing behind the loss requires a gradient: every parameter is
frozen, or the loss was computed from data alone. Also an operation that has to keep a tensor made under
`torch.inference_mode()` for its backward pass, and cannot. A loss that was cut from its parameters is flagged
where it was cut, by the rules GS101 to GS109; so is a forward pass under `no_grad`, also where all of it is.

## Why is this bad?
`backward` raises "element 0 of tensors does not require grad and does not have a grad_fn". What has been made
under `inference_mode` has no version to be checked, and the next layer that learns raises "Inference tensors
cannot be saved for backward" when it is called.

## Use instead
Leave something to train unfrozen, compare the model's output, and compute features that something else learns
from under `no_grad`:

```python
with torch.no_grad():
    features = backbone(images)
loss = criterion(head(features), labels)
```

Where everything is frozen, or nothing learns at all, no fix is offered: what should learn is a decision.

## When it is right
Frozen parts behind which something learns, inputs that require a gradient, and features under
`inference_mode` that are cloned or only measured. Not flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight.domain import DEPENDING, Edge
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.inference import kept_for_backward
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import branches, entry
from gradsight.queries import LEARNING, Queries
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    yield from unsaved(q)
    for sink in q.all("backward"):
        where = sink.place("call")
        frozen = without_graph(q, sink) if where is not None else None
        if frozen is None or where is None:
            continue
        freezing = [event for event in q.all("freeze") if frozen & sources(q, event)]
        places = [place for event in freezing if (place := event.place("call")) is not None]
        why = (
            f"all that it is computed from is frozen ({q.names(tuple(sorted(frozen)))})"
            if frozen
            else "nothing that it is computed from requires a gradient"
        )
        yield RULE.report(
            SEVERITY["raises"],
            f'{q.sink_text(sink)} has no graph: {why}; `backward` raises "{wording.E0}"',
            where,
            (*(("its gradient is switched off here", place) for place in places[:3]), *wording.end(q, sink)),
        )


def without_graph(q: Queries, sink: Event) -> frozenset[int] | None:
    """The frozen parameters that a loss depends on, if on nothing else; None where it may have a graph."""
    if sink.fact("kind") != "tensor" or sink.fact("why") or q.is_said(sink):
        return None
    if "requires_grad" in sink.fact("when") or sink.fact("expected") or any(q.all("read", "escape")):
        return None
    if not q.roots(sink):
        return frozenset() if sink.fact("data") else None
    found: set[int] = set()
    for top in q.roots(sink):
        for number in q.feeding(top, (*DEPENDING, Edge.UNKNOWN)):
            node = q.graph[number]
            if node.kind == "input" or Edge.UNKNOWN in node.edges:
                return None
            if node.kind == "source":
                found.add(number)
    # What code that is not seen has made may be a part of any loss, but not where only frozen things train.
    trained = {s for event in q.optimizers for s in q.parameters_of(event)}
    surely = surely_frozen(q, sink)
    if not found or not trained or any(event.fact("unknown") for event in q.optimizers):
        return None
    return frozenset(found) if found | trained <= surely else None


def surely_frozen(q: Queries, sink: Event) -> set[int]:
    """Parameters that are frozen whatever branches are taken, and not as one of a list that is cut short."""
    exact: set[int] = set()
    for event in q.events[: q.events.index(sink)]:
        if event.kind != "freeze" or event.fact("some") or entry(event) != entry(sink):
            continue
        if branches(event) <= branches(sink):
            exact |= {s for s in sources(q, event) if q.graph[s].op in LEARNING}
    return exact & q.frozen_at(sink)


def sources(q: Queries, event: Event) -> set[int]:
    """The parameters that a freeze is surely about."""
    out: set[int] = set()
    for number in event.nodes:
        behind = set(q.feeding(number, (Edge.LIVE,)))
        if not any(q.graph[n].op in ("element", "item") for n in behind):
            out |= behind
    return out


def unsaved(q: Queries) -> Iterator[Report]:
    """Operations that cannot keep what was made under `inference_mode`."""
    said: set[int] = set()
    moved = {q.graph[lost.cause].block for lost in q.lost("GS105") if lost.kind != "frozen"}
    for kept in kept_for_backward(q):
        if kept.block in said or kept.block in moved:
            continue  # what is to be moved out of the block is said, and mends this too
        said.add(kept.block)
        block, text = q.block(kept.made), q.text_of(kept.where)
        path = [("what is made here cannot be kept for a backward pass", block)] if block is not None else []
        yield RULE.report(
            SEVERITY["raises"],
            f"`{text}` has to keep a tensor that was made under `inference_mode`: raises "
            '"Inference tensors cannot be saved for backward"',
            kept.where,
            (*path, ("this operation keeps it for its backward pass", kept.where)),
            (("block", block),) if block is not None else (),
        )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    block = finding.place("block")
    text = source.slice(block) if block is not None else ""
    at = text.find("torch.inference_mode()")
    if block is None or at < 0:
        return
    start = block.start + at + len("torch.")
    where = type(block)(start, start + len("inference_mode"))
    yield Fix(
        "Use `no_grad`, whose tensors may be kept", Applicability.SAFE, (Edit(source.file, where, "no_grad"),)
    )


RULE = Rule("GS207", "backward-without-graph", check, fix)
