"""
Losses that are kept with their graphs.

## What it does
Flags `running += loss` and `losses.append(loss)` in a loop that also calls `backward()` on that loss, where
the sum or the list is never differentiated itself.

## Why is this bad?
Each turn's graph stays in memory as long as the sum or the list does: memory grows from turn to turn, until
training ends with "out of memory". The numbers are right.

## Use instead
Keep the number: `running += loss.item()`. It waits for the device; `loss.detach()` does not.

## When it is right
Sums and lists that are differentiated later, and what is computed without gradients. Not flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight.domain import Edge
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.policy import SEVERITY
from gradsight.protocol import ANY, loops, protocol_of
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span


def check(q: Queries) -> Iterator[Report]:
    reached = protocol_of(q).reached
    for event in q.all("accumulate", "append"):
        where, value = event.place("call"), event.place("value")
        kept = event.nodes[1] if event.kind == "accumulate" else event.node
        if where is None or value is None or kept in (-1,) or not q.requires_gradient(kept):
            continue
        if event.kind == "accumulate" and (event.node in reached or carried(q, event.nodes[0])):
            continue
        backward = next(
            (
                sink
                for sink in q.all("backward")
                if not sink.fact("off")
                and loops(event)
                and loops(event)[-1] in loops(sink)
                and any(kept in q.graph.feeding(top, (Edge.LIVE,)) for top in q.roots(sink))
            ),
            None,
        )
        if backward is None:
            continue
        if event.kind == "append" and later(q, kept, backward.node):
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
        )


def carried(q: Queries, number: int) -> bool:
    """Whether what is added to is no plain accumulator: something else than the sum itself is behind it."""
    return number >= 0 and q.graph[number].kind not in ("loop", "op")


def later(q: Queries, kept: int, own: int) -> bool:
    """Whether another sink than its own depends on what is collected."""
    return any(kept in q.graph.feeding(top, ANY) for sink in q.sinks for top in q.roots(sink) if top != own)


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    where = finding.place("value")
    if where is None:
        return
    text = source.slice(where)
    simple = text.replace(".", "").replace("_", "").isalnum()
    edits = (
        (Edit(source.file, Span(where.end, where.end), ".item()"),)
        if simple
        else (
            Edit(source.file, Span(where.start, where.start), "("),
            Edit(source.file, Span(where.end, where.end), ").item()"),
        )
    )
    yield Fix("Keep the number: `.item()`", Applicability.SAFE, edits)


RULE = Rule("GS208", "graph-retained", check, fix)
