"""
Losses that are kept with their graphs.

## What it does
Flags `running += loss` and `losses.append(loss)` in a loop that also calls `backward()` on that loss, where
the sum or the list is never differentiated itself.

## Why is this bad?
Each turn's graph stays in memory as long as the sum or the list does: memory grows from turn to turn, until
training ends with "out of memory". The numbers are right.

## Use instead
Keep the value without its graph, or the number, which waits for the device.

```python
running += loss.detach()
losses.append(loss.item())
```

## When it is right
Sums and lists that are differentiated later, and what is computed without gradients. Not flagged.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradsight.domain import DEPENDING, Edge
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import loops, protocol_of, surely_with
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span


def check(q: Queries) -> Iterator[Report]:
    reached = protocol_of(q).reached
    for event in q.all("accumulate", "append"):
        where, value = event.place("call"), event.place("value")
        kept = event.nodes[1] if event.kind == "accumulate" else event.node
        if where is None or value is None or kept < 0 or not loops(event) or not q.requires_gradient(kept):
            continue
        if event.kind == "accumulate" and (event.node in reached or carried(q, event.nodes[0])):
            continue
        backward = next((sink for sink in q.all("backward") if keeps(q, event, kept, sink)), None)
        if backward is None or (event.kind == "append" and later(q, kept, backward.node)):
            continue
        text = q.text_of(value)
        into = f"`{event.fact('name')}`" if event.kind == "accumulate" else "the list"
        given = backward.place("call")
        yield RULE.report(
            SEVERITY["wasteful"],
            f"`{text}` is kept with its graph: memory grows with each turn; {into} wants the number alone",
            value,
            (
                *((("its gradients are computed here", given),) if given is not None else ()),
                ("and it is kept here", where),
            ),
            (("value", value),),
            (("kind", event.kind), ("retained", "yes" if backward.fact("retain") else "")),
        )


def keeps(q: Queries, event: Event, kept: int, sink: Event) -> bool:
    """Whether what is kept is a loss that this turn differentiates, a part of it, or made of it.

    What a list collects may be differentiated as a whole: there it must be the very loss.
    """
    if sink.fact("off") or loops(event)[-1] not in loops(sink):
        return False
    tops = q.roots(sink)
    if event.kind == "append":
        return kept in tops and surely_with(event, sink) and surely_with(sink, event)
    made_of = set(q.feeding(kept, (Edge.LIVE,)))
    return any(top in made_of or kept in q.feeding(top, (Edge.LIVE,)) for top in tops)


def carried(q: Queries, number: int) -> bool:
    """Whether what is added to is no plain accumulator: something else than the sum itself is behind it."""
    return number >= 0 and q.graph[number].kind not in ("loop", "op")


def later(q: Queries, kept: int, own: int) -> bool:
    """Whether another sink than its own depends on what is collected."""
    return any(kept in q.feeding(top, DEPENDING) for sink in q.sinks for top in q.roots(sink) if top != own)


def is_primary(text: str) -> bool:
    """Whether a method can be called on the expression as it is written."""
    try:
        written = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return False
    return isinstance(written, (ast.Name, ast.Attribute, ast.Call, ast.Subscript))


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    where = finding.place("value")
    if where is None:
        return
    text = source.slice(where)
    edits: tuple[Edit, ...] = (Edit(source.file, Span(where.end, where.end), ".detach()"),)
    if not is_primary(text):
        start = Edit(source.file, Span(where.start, where.start), "(")
        edits = (start, Edit(source.file, Span(where.end, where.end), ").detach()"))
    # A sum whose graphs are freed cannot be differentiated any more, by whoever gets it.
    is_safe = finding.fact("kind") == "accumulate" and not finding.fact("retained")
    applicability = Applicability.SAFE if is_safe else Applicability.UNSAFE
    yield Fix("Keep it without its graph: `.detach()`", applicability, edits)


RULE = Rule("GS208", "graph-retained", check, fix)
