"""
A hook that changes nothing, or whose result torch refuses.

## What it does
Flags a hook that computes a new gradient or output and does not return it; one that returns a number or a
scalar where a gradient is wanted; one that is registered on a tensor that requires no gradient, on a tensor
that no backward pass comes through, or behind the last backward pass.

## Why is this bad?
What a hook returns replaces what it was given; `None` leaves it as it was. A hook without a `return` looks
and changes nothing, and nothing is raised. What is no tensor of the same size raises in the backward pass.

## Use instead
Return the new value: a gradient of the same shape, or the new output.

```python
def clip(grad):
    return grad.clamp(-1, 1)


weight.register_hook(clip)
```

What a hook should give instead of another shape or a number, and where it should be registered instead, is
left to people.

## When it is right
Hooks that print, count or keep what they see, and such as change it in place. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import DEPENDING
from gradsight.finding import Applicability, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import entry, loops, protocol_of
from gradsight.queries import LEARNING, Queries, shortened
from gradsight.rule import Report, Rule
from gradsight.text import Source

REPLACES = {
    "register_hook": "gradient",
    "register_full_backward_hook": "gradient of its input",
    "register_full_backward_pre_hook": "gradient of its output",
    "register_backward_hook": "gradient of its input",
    "register_forward_hook": "output",
    "register_forward_pre_hook": "input",
}


def check(q: Queries) -> Iterator[Report]:
    for at, event in q.numbered("hook"):
        call = event.place("call")
        if call is not None:
            yield from about(q, at, event)


def about(q: Queries, at: int, event: Event) -> Iterator[Report]:
    call = event.place("call")
    assert call is not None
    name, method = event.fact("name"), event.fact("method")
    registered = (("the hook is registered here", call),)
    lost, number, scalar = (event.place(kind) for kind in ("lost", "number", "scalar"))
    if lost is not None:
        what = REPLACES[method]
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{name}` computes a new {what} here and does not return it: the {what} stays what it was",
            lost,
            (("what is computed here is dropped", lost), *registered),
            (),
            (("kind", "lost"), ("last", event.fact("last"))),
        )
    elif number is not None and method == "register_hook":
        yield RULE.report(
            SEVERITY["raises"],
            f'`{name}` returns something that is no tensor: the backward pass raises "expected Variable, but '
            'hook returned …"; a hook that only looks returns None',
            number,
            (("what is returned here replaces the gradient", number), *registered),
        )
    elif scalar is not None and method == "register_hook" and event.fact("many"):
        yield RULE.report(
            SEVERITY["raises"],
            f"`{name}` returns a scalar in place of the gradient: the backward pass raises \"hook '{name}' "
            'has changed the size of value"; a hook that only looks returns None',
            scalar,
            (("what is returned here replaces the gradient", scalar), *registered),
        )
    elif method == "register_hook":
        yield from never_called(q, at, event)


def never_called(q: Queries, at: int, event: Event) -> Iterator[Report]:
    """Hooks of tensors that no gradient comes to."""
    call = event.place("call")
    assert call is not None
    text = shortened(q.text_of(call).partition(".register_hook")[0])
    guarded = any(kind in ("b", "g") for kind, _, _ in event.context)
    if not guarded and (event.fact("data") or surely_without(q, event)):
        yield RULE.report(
            SEVERITY["raises"],
            f"`{text}` requires no gradient here: raises \"cannot register a hook on a tensor that doesn't "
            'require gradient"',
            call,
        )
        return
    if guarded or q.program.kind != "module" or entry(event) or protocol_of(q).blind():
        return
    alike = [
        other
        for other in q.all("hook")
        if (place := other.place("call")) is not None and q.syntax_of(place) is q.syntax_of(call)
    ]
    if len(alike) > 1 or not is_computed(q, event.node):
        return  # it may be another turn's tensor that is differentiated
    passes = [
        (position, sink)
        for position, sink in enumerate(q.events)
        if sink.kind in ("backward", "grad") and not sink.fact("off")
    ]
    own = {n for n in q.feeding(event.node, DEPENDING) if q.graph[n].op in LEARNING} - {event.node}
    concerned = [(position, sink) for position, sink in passes if feeds(q, sink, own)]
    if not concerned or not own or goes_on(q, event.node):
        return
    used = [(position, sink) for position, sink in concerned if feeds(q, sink, {event.node})]
    if not used:
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{text}` is a tensor of its own that nothing is computed from: no backward pass comes through "
            "it, and the hook is never called",
            call,
        )
    elif all(position < at for position, _ in used) and not any(
        set(loops(sink)) & set(loops(event)) or entry(sink) for _, sink in used
    ):
        end = used[-1][1].place("call")
        yield RULE.report(
            SEVERITY["wrong"],
            f"the hook of `{text}` is registered behind the last backward pass: it is never called",
            call,
            ((f"{q.sink_text(used[-1][1])} is differentiated here", end), ("and this comes later", call))
            if end is not None
            else (),
        )


def is_computed(q: Queries, number: int) -> bool:
    """Whether a tensor is computed from what learns by operations that are all known."""
    return number >= 0 and all(
        node.kind == "source" or node.op == "module" or node.op.startswith("torch.")
        for node in (q.graph[n] for n in q.feeding(number, DEPENDING))
    )


def surely_without(q: Queries, event: Event) -> bool:
    """Whether all ways from the tensor to anything that learns are cut."""
    reaches = q.graph.reach(event.node)
    return bool(reaches) and all(
        reach.dead and reach.cut and q.graph[source].op in LEARNING for source, reach in reaches.items()
    )


def feeds(q: Queries, sink: Event, numbers: set[int]) -> bool:
    return any(not numbers.isdisjoint(q.feeding(top, DEPENDING)) for top in q.roots(sink))


def goes_on(q: Queries, number: int) -> bool:
    """Whether code that is not seen is given the tensor or what is made of it."""
    behind = {number, *q.graph.fed((number,))}
    return any(
        node.kind == "source" and not behind.isdisjoint(node.inputs) for node in q.graph.nodes[number:]
    ) or q.has("escape", "lent")


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    if finding.fact("kind") != "lost" or not finding.fact("last"):
        return
    edits = surgery.insert_return(source, finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Return what the hook computes", Applicability.UNSAFE, edits)


RULE = Rule("GS702", "hook-without-effect", check, fix)
