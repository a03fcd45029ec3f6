"""
A term of the loss that changes nothing.

## What it does
Flags a live term that reaches no loss: computed and never used, or only shown; bound anew before anything
uses it (`loss = ce`, then `loss = penalty` where `+=` was meant), also in each turn of a loop; and terms that
count twice, or zero times.

## Why is this bad?
What is left out of the sum gives no gradient. The number may still be printed in each epoch, so that training
looks as if it had the term; a part of the model that only this term trains stays as it was.

## Use instead
Add every term to what is differentiated, each of them once.

```python
loss = F.cross_entropy(logits, y)
loss += 1e-3 * penalty
loss.backward()
```

Terms of the turns of a loop, and a weight of 0, are left to people: what should be added up, or how much of
it, is not known.

## When it is right
Metrics, what is measured without gradients or behind the backward pass, a second criterion on the same
prediction that is only shown, terms that another backward pass takes, weights that a setting holds. None of
these is flagged.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradsight import model, surgery
from gradsight.domain import DEPENDING, Edge
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.graph import Place
from gradsight.interpret.fates import like_a_term
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import loops, protocol_of, surely_with
from gradsight.queries import KEEPING, LEARNING, SCALING, Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span

MEASURING = re.compile(
    r"(^|_)(val|valid\w*|test|eval\w*|dev|best|running|epoch|prev|old|held)(_|\d|$)", re.IGNORECASE
)
"""Words in the name of a loss that is none of training."""

WATCHED = re.compile(
    r"metric|acc|avg|mean|base|log|monitor|rmse|mae|mape|psnr|ssim|perplex|ppl|score|dist|norm|approx|entropy|track"
    r"|hist",
    re.IGNORECASE,
)
"""Words in the name of what is measured, and no term."""

ADDING = ("torch.add", "operator.add", "torch.Tensor.add", "torch.Tensor.add_")


def check(q: Queries) -> Iterator[Report]:
    said: set[int] = set()
    left: set[tuple[tuple[str, int, int], ...]] = set()  # where a term is left out
    terms = [event for event in q.all("term") if event.node >= 0]
    for event in terms:
        one = without_use(q, event, terms)
        if one is not None and event.node not in said:
            said.add(event.node)
            left.add(event.context)
            yield one
    for sink in q.sinks:
        if not sink.fact("off"):
            yield from last_turn(q, sink, said)
            if sink.context not in left:  # `a + a` where `a + b` was meant is one mistake
                yield from counted_wrong(q, sink, said)


def without_use(q: Queries, event: Event, terms: list[Event]) -> Report | None:
    """A term that reaches no loss although one is differentiated right behind it."""
    name, fate, where = event.fact("name"), event.fact("fate"), event.place("target")
    if where is None or fate in ("", "handed") or protocol_of(q).reached.issuperset(q.terms(event.node)):
        return None
    sink = next((one for one in q.sinks if sums(q, event, one)), None)
    if sink is None:
        return None
    again = next((one for one in terms if overwrites(q, event, one)), None)
    if fate == "lost":
        if again is None:
            return None
        return lost(q, event, again, sink, where)
    alone = only_through(q, event.node)
    if not alone and not is_meant(q, event, sink):
        return None
    loss = q.sink_text(sink)
    # Where it was computed, if a function has handed it on since.
    where = next((place for one in terms if one.node == event.node and (place := one.place("target"))), where)
    how = "never used" if fate == "unread" else "only shown"
    end = sink.place("call") or sink.place("root")
    path = (
        ("the term is computed here", where),
        *(((f"{loss} is differentiated without it", end),) if end else ()),
    )
    if alone:
        learns = "learn" if " and " in q.names(alone) else "learns"
        message = (
            f"`{name}` is {how} and no part of {loss}, so {q.names(alone)} never {learns}: add it to the loss"
        )
        return RULE.report(
            SEVERITY["starved"], message, where, path, added_at(sink, "sink"), (("name", name),)
        )
    message = (
        f"`{name}` is {how}: {loss} is differentiated without it, "
        "and nothing learns from it; add it, or drop it"
    )
    return RULE.report(SEVERITY["unused"], message, where, path, added_at(sink, "sink"), (("name", name),))


def added_at(sink: Event, name: str) -> tuple[tuple[str, Place], ...]:
    """Where the sum is differentiated."""
    place = sink.place("call")
    return ((name, place),) if place is not None else ()


def is_meant(q: Queries, event: Event, sink: Event) -> bool:
    """Whether a value that reaches no loss was surely to be a term of one.

    What is shown may be there to be seen: it must be the loss of another prediction, or be called a term.
    """
    name = event.fact("name")
    if WATCHED.search(name) and "loss" not in name.lower():
        return False
    if event.fact("fate") == "unread":
        return not MEASURING.search(name)
    known = like_a_term(name) or any(model.criterion(q.graph[n].op) for n in q.terms(event.node))
    return bool(known) and not MEASURING.search(name) and not measures(q, event.node, sink)


def left_out(q: Queries) -> set[int]:
    """What an optimizer holds and only terms would train that reach no loss."""
    terms = [event for event in q.all("term") if event.node >= 0]
    return {
        source for event in terms if without_use(q, event, terms) for source in only_through(q, event.node)
    }


def overwrites(q: Queries, event: Event, other: Event) -> bool:
    """Whether another binding of the name makes this one void."""
    return (
        bool(other.fact("again"))
        and other.fact("name") == event.fact("name")
        and other.context == event.context
        and q.events.index(other) > q.events.index(event)
    )


def lost(q: Queries, event: Event, again: Event, sink: Event, where: Place) -> Report | None:
    name = event.fact("name")
    value, later = event.place("call"), again.place("target")
    if value is None or later is None or event.node in q.feeding(again.node, DEPENDING):
        return None
    same = measures(q, event.node, sink)
    message = (
        f"`{q.text_of(value)}` is lost: `{name}` is bound anew before anything uses it, "
        f"and {q.sink_text(sink)} is differentiated without it; `+=` adds to it"
    )
    return RULE.report(
        SEVERITY["unused" if same else "wrong"],
        message,
        value,
        (("the term is computed here", value), (f"and `{name}` is bound anew here", later)),
        (("again", later),),
    )


def sums(q: Queries, event: Event, sink: Event) -> bool:
    """Whether a sink in the same turn, behind the term, gives gradients to what the term depends on."""
    if sink.kind == "grad" or sink.fact("off") or not surely_with(event, sink):
        return False
    at = q.events.index(sink)
    if at < q.events.index(event):
        # It was given its name later, by who called: it must have been computed before the step.
        step = next((one.node for one in q.events[at:] if one.kind == "step"), -1)
        if event.node > step:
            return False
    mine = learning(q, event.node)
    for root in q.roots(sink):
        theirs = learning(q, root)
        if mine & theirs or (mine & q.held and theirs & q.held):
            return True
        if q.program.lone == "loss" and mine and theirs:
            return True
    return False


def learning(q: Queries, number: int) -> set[int]:
    """What may learn and surely has a live way to a value."""
    kinds = (*LEARNING, "call", *(("argument",) if q.program.lone == "loss" else ()))
    reaches = q.graph.reach(number)
    return {source for source, reach in reaches.items() if reach.surely_live and q.graph[source].op in kinds}


def only_through(q: Queries, term: int) -> tuple[int, ...]:
    """What an optimizer holds and only this term would train."""
    if any(event.fact("unknown") for event in q.optimizers):
        return ()
    mine = {s for s, reach in q.graph.reach(term).items() if reach.surely_live}
    return tuple(sorted(mine & q.held - q.alive))


def measures(q: Queries, term: int, sink: Event) -> bool:
    """Whether the term only looks at the very predictions that the loss is made of, to measure them."""
    graph = q.graph
    tops = [top for root in q.roots(sink) for top in q.terms(root)]
    inside = {n for top in tops for n in graph.feeding(top, (Edge.LIVE,))}
    predictions = {kept(q, i) for top in tops for i in graph[top].inputs if i >= 0}
    seen: set[int] = set()
    stack = list(graph[term].inputs)
    while stack:
        number = stack.pop()
        if number in seen or number < 0:
            continue
        seen.add(number)
        node = graph[number]
        if number in predictions or kept(q, number) in predictions:
            continue
        if node.kind == "source":
            if node.op in LEARNING:
                return False
            continue
        if number in inside and any(graph[s].op in LEARNING for s in graph.reach(number)):
            return False
        stack.extend(i for i, edge in zip(node.inputs, node.edges, strict=False) if edge is Edge.LIVE)
    return True


def kept(q: Queries, number: int) -> int:
    """A value, looked for through what only changes its form."""
    while number >= 0 and q.graph[number].op in KEEPING and len(q.graph[number].inputs) == 1:
        number = q.graph[number].inputs[0]
    return number


# -- of a loop, the last turn alone


def last_turn(q: Queries, sink: Event, said: set[int]) -> Iterator[Report]:
    """A loss that each turn of a loop binds anew, differentiated behind the loop."""
    graph, around = q.graph, loops(sink)
    if sink.kind != "backward":
        return
    single = {number for event in q.all("once", "each") for number in loops(event)[-1:]}
    # Turns that use nothing of what they run over may be trials, whose last one is taken.
    single |= {number for event in q.all("called") if event.fact("idle") for number in loops(event)}
    for root in q.roots(sink):
        node = graph[root]
        inner = node.loops[len(around) :]
        if node.loops[: len(around)] != around or len(inner) != 1 or inner[0] in single or root in said:
            continue
        where, end = node.place, sink.place("call")
        if node.kind != "op" or where is None or end is None or not q.requires_gradient(root):
            continue
        cone = set(graph.feeding(root, DEPENDING))
        if any(graph[n].kind == "loop" for n in cone) or q.text_of(where) == q.text_of(end):
            continue  # each turn goes on with what the one before has left: the last one is the result
        others = [top for one in q.sinks if one is not sink for top in q.roots(one)]
        if any(root in graph.feeding(top, DEPENDING) for top in others):
            continue
        said.add(root)
        loss = q.sink_text(sink)
        yield RULE.report(
            SEVERITY["wrong"],
            f"only the last turn's `{q.text(root)}` is differentiated: "
            f"each turn of the loop binds {loss} anew, and "
            f"`{q.text_of(end)}` stands behind it; add the turns up, or differentiate inside",
            where,
            (("each turn computes it anew", where), ("and here it is differentiated, behind the loop", end)),
        )


# -- counted twice, or not at all


def counted_wrong(q: Queries, sink: Event, said: set[int]) -> Iterator[Report]:
    """Terms that a sum holds twice, or with the weight 0 written beside them."""
    graph = q.graph
    for root in q.roots(sink):
        added: dict[int, list[int]] = {}
        stack = [root]
        while stack and len(added) < 200:
            number = stack.pop()
            node = graph[number]
            if node.kind != "op":
                continue
            if node.op in SCALING and node.note == "constant" and number not in said:
                yield from no_weight(q, sink, number, said)
            if node.op in ADDING or (node.op in KEEPING and len(node.inputs) == 1):
                for i in node.inputs:
                    added.setdefault(i, []).append(number)
                    if i >= 0 and len(added[i]) == 1:
                        stack.append(i)
        twice = {number: sums for number, sums in added.items() if number >= 0 and len(sums) > 1}
        for number, sums in twice.items():
            where = where_added(q, max(sums))
            if number in said or where is None or not q.requires_gradient(number):
                continue
            said.add(number)
            what = next((f"`{name}`" for name in names_of(q, number)), f"`{q.text(number)}`")
            yield RULE.report(
                SEVERITY["unused"],
                f"{what} is added a second time: {q.sink_text(sink)} holds it twice, "
                "and its gradient counts double",
                where,
                places=(("twice", where),),
            )


def where_added(q: Queries, number: int) -> Place | None:
    """Where a sum is written: of a statement that adds, what it adds."""
    added = next((event for event in q.all("accumulate") if event.node == number), None)
    if added is not None and (value := added.place("value")) is not None:
        return value
    where = q.graph[number].place
    return where if where is not None and isinstance(q.syntax_of(where), ast.expr) else None


def names_of(q: Queries, number: int) -> Iterator[str]:
    """The names that a value is known under where it was computed."""
    return (event.fact("name") for event in q.all("term") if event.node == number)


def no_weight(q: Queries, sink: Event, number: int, said: set[int]) -> Iterator[Report]:
    """`0 * aux_loss`. The sum of parameters times 0 keeps them in the graph, and is meant."""
    where = q.graph[number].place
    written = q.syntax_of(where) if where is not None else None
    if where is None or not isinstance(written, ast.BinOp) or not isinstance(written.op, ast.Mult):
        return
    for weight, term in ((written.left, written.right), (written.right, written.left)):
        if not isinstance(weight, ast.Constant) or weight.value != 0:
            continue
        parts = [i for i in q.graph[number].inputs if i >= 0 and q.requires_gradient(i)]
        named = isinstance(term, ast.Name) and like_a_term(term.id)
        if parts and (named or any(model.criterion(q.graph[i].op) for i in parts)):
            said.add(number)
            yield RULE.report(
                SEVERITY["wasteful"],
                f"`{q.text_of(where)}` is 0 whatever the term is: {q.sink_text(sink)} gets nothing from it",
                where,
            )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    sink, twice, again = finding.place("sink"), finding.place("twice"), finding.place("again")
    name = finding.fact("name") or ""
    if sink is not None and name:
        edits = surgery.added_to_loss(source, finding.where, sink, name)
        if not isinstance(edits, surgery.Refusal):
            yield Fix(f"Add `{name}` to the loss", Applicability.UNSAFE, edits)
        return
    if twice is not None:
        once = surgery.not_added_again(source, twice)
        if not isinstance(once, surgery.Refusal):
            yield Fix("Add it once", Applicability.UNSAFE, once)
        return
    if again is None:
        return
    written = re.compile(r"[ \t]*=(?!=)[ \t]*\+?[ \t]*").match(source.text, again.end)
    if written is not None:
        edit = Edit(source.file, Span(again.end, written.end()), " += ")
        name = source.slice(again)
        yield Fix(f"Add to it: `{name} += …`", Applicability.UNSAFE, (edit,))


RULE = Rule("GS309", "loss-term-without-effect", check, fix)
