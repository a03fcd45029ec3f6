"""
Two backward passes over one graph.

## What it does
Flags a `backward()` that goes through a part of the graph which an earlier `backward()` of the same iteration
has freed, and one inside a loop over a graph that was built before the loop.

## Why is this bad?
`backward()` frees what the graph saved as it goes. The second pass raises "Trying to backward through the
graph a second time".

## Use instead
Add the losses and call `backward()` once: the gradients are the same, and the graph is walked once. In a
loop, compute the loss anew in each turn.

```python
loss_a.backward()
loss_b.backward()  # raises: both came from `features`
(loss_a + loss_b).backward()
```

Where what is differentiated again has to be computed again, or detached where it is first used, no fix is
offered: what belongs into the loop is a decision.

## When it is right
Losses of different models, separate forward passes, `retain_graph=True`, parts that save nothing. None of
these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gradsight import surgery
from gradsight.domain import Edge
from gradsight.finding import Applicability, Finding, Fix
from gradsight.graph import Place
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source

MOST_JOINS = 64  # that one question looks through


def check(q: Queries) -> Iterator[Report]:
    passes = [event for event in q.all("backward", "grad") if not event.fact("off")]
    own = {
        event.context[-1][1] for event in q.all("each")
    }  # each element of a list may have a graph of its own
    said: set[int] = set()
    walked = {id(event): saving(q, event) for event in passes}
    for position, second in enumerate(passes):
        if second.kind != "backward":
            continue
        for first in passes[:position]:
            if first.fact("retain") or not together(first, second):
                continue
            shared = walked[id(first)] & walked[id(second)]
            where = second.place("call")
            if shared and where is not None and id(second) not in said:
                said.add(id(second))
                yield report(q, first, second, min(shared), where)
        if id(second) in said or second.fact("retain"):
            continue
        loop = next((number for kind, number, _ in reversed(second.context) if kind == "l"), None)
        where = second.place("call")
        if (
            loop is None
            or where is None
            or any(kind == "b" for kind, _, _ in second.context[inner_loop(second) :])
        ):
            continue
        old = {
            n for n in walked[id(second)] if own.isdisjoint(loops := q.graph[n].loops) and loop not in loops
        }
        if old := old - rewrapped(q):
            said.add(id(second))
            yield again(q, min(old), where)


def rewrapped(q: Queries) -> set[int]:
    """What is computed of new parameters and kept as if it were one, which GS404 says."""
    kept = [n for event in q.optimizers for n in event.nodes if q.graph[n].kind == "op"]
    kept += [event.node for event in q.all("attribute") if event.fact("origin") == "computed parameter"]
    return {n for number in kept for n in q.feeding(number, (Edge.LIVE,))}


def inner_loop(event: Event) -> int:
    """The position of the innermost loop in an event's context."""
    return max(position for position, (kind, _, _) in enumerate(event.context) if kind == "l")


def together(first: Event, second: Event) -> bool:
    """Whether both surely happen in one run: no branch takes the one and not the other."""
    arms = {(kind, number): arm for kind, number, arm in first.context if kind == "b"}
    for kind, number, arm in second.context:
        if kind == "b" and arms.get((kind, number), arm) != arm:
            return False
    # One in a branch of its own may not happen: only where the other stands in the same branch is it sure.
    own = {(k, n) for k, n, _ in first.context if k == "b"}
    other = {(k, n) for k, n, _ in second.context if k == "b"}
    return own <= other


def saving(q: Queries, event: Event) -> set[int]:
    """Nodes that a backward pass surely walks and that saved something: what is freed by it."""
    return walk(q, q.roots(event), {})


def walk(q: Queries, tops: Iterable[int], known: dict[int, set[int]]) -> set[int]:
    """The same, from some nodes on. Of several alternatives what all of them walk."""
    out: set[int] = set()
    seen: set[int] = set()
    stack = list(tops)
    while stack:
        number = stack.pop()
        if number in seen:
            continue
        seen.add(number)
        node = q.graph[number]
        if node.kind == "join" and len(known) < MOST_JOINS and all(i >= 0 for i in node.inputs):
            if number not in known:
                known[number] = set()
                known[number] = set.intersection(*(walk(q, (i,), known) for i in node.inputs))
            out |= known[number]
            continue
        if node.kind in ("join", "loop") or node.kind == "source":
            continue
        if Edge.UNKNOWN in node.edges:
            continue
        operands = [i for i, edge in zip(node.inputs, node.edges, strict=False) if edge is Edge.LIVE]
        if node.saves and any(map(q.requires_gradient, operands)):
            out.add(number)
        stack.extend([i for i in operands if i >= 0])
    return out


def report(q: Queries, first: Event, second: Event, shared: int, where: Place) -> Report:
    place = q.graph[shared].place
    a, b = q.sink_text(first), q.sink_text(second)
    what = f"`{q.text(shared)}`" if place is not None else "one graph"
    path: list[tuple[str, Place]] = []
    if place is not None:
        path.append(("both losses go back through this", place))
    earlier = first.place("call")
    if earlier is not None:
        path.append(("this backward pass frees it", earlier))
    path.append(("this one needs it again", where))
    same = a == b
    message = (
        f"{b} was differentiated already, and its graph is freed"
        if same
        else f"{b} and {a} share {what}, whose graph the backward pass of {a} has freed"
    )
    places = [("backward", where)]
    if earlier is not None:
        places.insert(0, ("backward", earlier))
    return RULE.report(
        SEVERITY["raises"],
        f'{message}: raises "Trying to backward through the graph a second time"',
        where,
        tuple(path),
        tuple(places),
        (("kind", "same" if same else "pair"),),
    )


def again(q: Queries, old: int, where: Place) -> Report:
    place = q.graph[old].place
    path: list[tuple[str, Place]] = []
    if place is not None:
        path.append(("computed once, before the loop", place))
    path.append(("each turn of the loop goes back through it", where))
    return RULE.report(
        SEVERITY["raises"],
        f"`{q.text(old)}` is computed before the loop, and the first turn frees its graph: "
        'the second turn raises "Trying to backward through the graph a second time"',
        where,
        tuple(path),
        (("backward", where),),
        (("kind", "loop"),),
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    if finding.fact("kind") == "same":
        yield Fix(
            "Remove the second backward pass",
            Applicability.SAFE,
            surgery.remove_statement(source, finding.where),
        )
        return
    edits = surgery.sum_then_backward(source, finding.all_places("backward"))
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Add the losses and call `backward()` once", Applicability.SAFE, edits)


RULE = Rule("GS201", "repeated-backward", check, fix)
