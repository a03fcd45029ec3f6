"""
A re-entrant checkpoint none of whose inputs requires a gradient.

## What it does
Flags `torch.utils.checkpoint.checkpoint(f, x)` with `use_reentrant=True`, or without the argument, which
still means that, where nothing that is passed requires a gradient: a batch, what frozen layers give. So does
a checkpoint that a method such as `gradient_checkpointing_enable()` switches on, above frozen embeddings.

## Why is this bad?
A re-entrant checkpoint sees only the tensors that it is given. If none of them requires a gradient, what it
returns has no graph, and the parameters of the segment never learn. torch warns once "None of the inputs have
requires_grad=True. Gradients will be None" and goes on.

## Use instead
The way that does not re-enter: it sees what the segment itself uses.

```python
x = checkpoint(self.block, x, use_reentrant=False)
```

## When it is right
`use_reentrant=False`; an input that some layer which learns has computed, or that `requires_grad_()` was
called on, as `enable_input_require_grads()` does by a hook. Not flagged. Neither is a segment whose inputs
are not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import Edge
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.queries import LEARNING, POSSIBLE, Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span

WITH_A_GRADIENT = (Edge.LIVE, Edge.UNKNOWN, Edge.ZERO)
SWITCH = re.compile(r"\buse_reentrant\s*=\s*(True)\b")


def check(q: Queries) -> Iterator[Report]:
    segments = without_graph(q)
    if not segments:
        return
    dead = {event.node for event in segments}
    live = {
        number
        for sink in q.sinks
        if not sink.fact("off")
        for top in q.roots(sink)
        for number in without(q, top, dead)
    }
    said: set[int] = set()  # a segment that gives several values is one
    for event in segments:
        where = event.place("call")
        if where is None or id(q.syntax_of(where)) in said:
            continue
        alike = [other for other in segments if same(q, other, event)]
        inside = {
            n for other in alike for n in q.feeding(other.node, (Edge.LIVE,)) if q.graph[n].op in LEARNING
        }
        lost = tuple(sorted((inside & q.must_learn) - q.frozen - live))
        for sink in q.sinks:
            if not lost or sink.fact("off"):
                continue
            if not any(event.node in q.feeding(top, (Edge.LIVE,)) for top in q.roots(sink)):
                continue
            said.add(id(q.syntax_of(where)))
            yield report(q, event, sink, lost, live, dead)
            break


def same(q: Queries, one: Event, other: Event) -> bool:
    """Whether two values come from one call."""
    places = one.place("call"), other.place("call")
    return (
        places[0] is not None and places[1] is not None and q.syntax_of(places[0]) is q.syntax_of(places[1])
    )


def without_graph(q: Queries) -> list[Event]:
    """The segments whose results have no graph: what one of these gives requires no gradient, be it passed on
    to the next."""
    segments = list(q.all("checkpoint"))
    while True:
        dead = {event.node for event in segments}
        left = [event for event in segments if not may_require(q, event, dead)]
        if len(left) == len(segments):
            return left
        segments = left


def may_require(q: Queries, event: Event, dead: set[int]) -> bool:
    """Whether some tensor that the segment is given may require a gradient, if some nodes require none."""
    return any(
        q.graph[n].kind == "input"
        or (q.graph[n].kind == "source" and q.graph[n].op in (*POSSIBLE, "laundered") and not is_data(q, n))
        for number in event.nodes
        for n in without(q, number, dead)
        if n not in q.frozen
    )


def is_data(q: Queries, number: int) -> bool:
    """An element of what a loop runs over that nobody asks a gradient for."""
    return q.graph[number].op == "element" and not any(
        number in q.feeding(n, WITH_A_GRADIENT)
        for event in q.all("require")
        for n in (event.node, *event.nodes)
    )


def without(q: Queries, top: int, dead: set[int]) -> Iterator[int]:
    """What a value may get its gradient from if some nodes pass none."""
    stack, seen = [top], {*dead}
    while stack:
        number = stack.pop()
        if number in seen or number < 0:
            continue
        seen.add(number)
        yield number
        node = q.graph[number]
        stack += [i for i, edge in zip(node.inputs, node.edges, strict=False) if edge in WITH_A_GRADIENT]


def report(
    q: Queries, event: Event, sink: Event, lost: tuple[int, ...], live: set[int], dead: set[int]
) -> Report:
    where = event.place("call")
    assert where is not None
    names = q.names(lost)
    learn = "learn" if " and " in names else "learns"
    own = {n for top in q.roots(sink) for n in without(q, top, dead)}
    raises = not any(
        q.graph[n].kind == "source" and q.graph[n].op in POSSIBLE and not is_data(q, n) for n in own
    )
    implied = "" if event.fact("given") else " (`use_reentrant` is not given, which still means True)"
    reason = f"nothing that this checkpoint is given requires a gradient, and it is re-entrant{implied}"
    then = (
        f'{q.sink_text(sink)} has no graph: raises "element 0 of tensors does not require grad"'
        if raises
        else f"{names} never {learn}"
    )
    end = sink.place("call")
    return RULE.report(
        SEVERITY["dead" if raises else "starved"],
        f"{then}: {reason}",
        where,
        (
            ("the graph of this segment is thrown away", where),
            *([("and here its gradient is asked for", end)] if end is not None else []),
        ),
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    where = finding.where
    title = "Compute the segment again without re-entering: `use_reentrant=False`"
    given = SWITCH.search(source.slice(where))
    if given is not None:
        span = Span(where.start + given.start(1), where.start + given.end(1))
        yield Fix(title, Applicability.UNSAFE, (Edit(source.file, span, "False"),))
        return
    edits = surgery.with_keyword(source, where, "use_reentrant", "False")
    if not isinstance(edits, surgery.Refusal):
        yield Fix(title, Applicability.UNSAFE, edits)


RULE = Rule("GS704", "checkpoint-with-frozen-input", check, fix)
