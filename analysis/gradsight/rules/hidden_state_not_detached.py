"""
A state that goes on into the next turn of a training loop with its graph.

## What it does
Flags a `backward()` in a loop that goes back through what the turn before has left: the hidden state of a
recurrent network, a memory on `self`, a cache of keys, a loss that is smoothed over turns.

## Why is this bad?
The backward pass of the turn before has freed that graph. The second turn raises "Trying to backward through
the graph a second time". With `retain_graph=True` each turn would go through all turns before it, slower and
larger each time.

## Use instead
Carry the value without its graph: truncated backpropagation through time.

```python
for x, y in windows:
    logits, hidden = model(x, hidden)
    loss = criterion(logits, y)
    loss.backward()
    hidden = hidden.detach()  # of an LSTM: tuple(s.detach() for s in hidden)
```

Where nothing steps within the loop, the losses can as well be added and differentiated once, behind it.

A state that is no name of the loop's own function is left to people.

## When it is right
States that are detached or begun anew in each turn, states without gradients, one `backward()` behind the
loop, states that are made behind the backward pass and used once. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import Edge
from gradsight.finding import Applicability, Finding, Fix
from gradsight.graph import Place
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import loops
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules import repeated_backward
from gradsight.rules.repeated_backward import saving
from gradsight.text import Source

STATEMENTS = {
    "tensor": "{0} = {0}.detach()",
    "tuple": "{0} = tuple(s.detach() for s in {0})",
    "list": "{0} = [s.detach() for s in {0}]",
    "dict": "{0} = {{k: s.detach() for k, s in {0}.items()}}",
}


def check(q: Queries) -> Iterator[Report]:
    states = {start: event for event in q.all("carried") for start in event.nodes}
    if not states:
        return
    last = {(event.context, position) for position, event in q.numbered("ending")}
    every = {event.context[-1] for event in q.all("every")}
    said: set[int] = set()
    for position, event in q.numbered("backward"):
        if event.fact("off") or event.fact("retain") or event.place("call") is None:
            continue
        for loop in reversed(loops(event)):
            depth = event.context.index(("l", loop, 0)) + 1
            if any(context == event.context[:depth] and at < position for context, at in last):
                continue  # whatever it does, there is no turn behind it
            inside = event.context[depth:]
            if any(arm[0] == "b" and arm not in every for arm in inside):
                break  # taken once, for all that is known
            starts = [start for start in carried(q, event, loop) if start in states]
            if not starts:
                continue
            if said.isdisjoint(starts) and not is_said(q, event):
                turn = kind_of_turn(q, event, loop)
                here = {id(states[start]) for start in starts}
                yield report(q, event, [one for one in q.all("carried") if id(one) in here], turn)
            said.update(starts)
            break


def is_said(q: Queries, event: Event) -> bool:
    """Whether the pass raises in its first turn already."""
    return any(one.where is event.place("call") for one in repeated_backward.check(q))


def carried(q: Queries, event: Event, loop: int) -> list[int]:
    """The loop's states through which a pass walks on into the turn before, where it was walked already."""
    walked: set[int] | None = None
    seen: set[int] = set()
    stack = list(q.roots(event))
    out: list[int] = []
    while stack:
        number = stack.pop()
        if number in seen:
            continue
        seen.add(number)
        node = q.graph[number]
        edges = zip(node.inputs, node.edges, strict=False)
        if node.kind == "op":
            stack.extend(i for i, edge in edges if i >= 0 and edge is Edge.LIVE)
        elif node.kind == "join":
            # `if state is None: state = zeros`: from the second turn on it is what is carried.
            if all(i < 0 or q.graph[i].kind == "loop" for i in node.inputs):
                stack.extend(i for i in node.inputs if i >= 0)
        elif node.kind == "loop":
            backs = [b for b in node.inputs[1:] if loop not in node.loops and is_made_in(q, b, loop)]
            for back in backs:
                if not q.requires_gradient(back):
                    continue
                walked = saving(q, event) if walked is None else walked
                if walked & set(q.feeding(back, (Edge.LIVE,))):
                    out.append(number)
            if not backs and loop in node.loops:
                stack.extend(i for i in node.inputs[:1] if i >= 0)  # a loop within: where it begins
    return out


def is_made_in(q: Queries, number: int, loop: int) -> bool:
    """Whether a turn of the loop makes the value, by whatever way through its body."""
    node = q.graph[number]
    if node.kind == "join" and loop not in node.loops:
        return any(i >= 0 and is_made_in(q, i, loop) for i in node.inputs)
    return loop in node.loops


def kind_of_turn(q: Queries, event: Event, loop: int) -> str:
    """What becomes of the gradients of a pass: "summed" over all turns, used in "each" or in "some"."""
    used = any(("l", loop, 0) in other.context for other in q.all("step", "zero", "scaler_step"))
    if not used and event.context[-1] == ("l", loop, 0):
        return "summed"
    return "some" if any(kind == "b" for kind, _, _ in event.context) else "each"


def report(q: Queries, event: Event, states: list[Event], turn: str) -> Report:
    where = event.place("call")
    assert where is not None
    names = [state.fact("name") for state in states]
    text = " and ".join(f"`{name.lstrip('.')}`" for name in names)
    goes, its = ("goes", "its graph") if len(names) == 1 else ("go", "their graphs")
    path: list[tuple[str, Place]] = []
    places: list[tuple[str, Place]] = [("backward", where)]
    loop = states[0].place("loop")
    if loop is not None:
        path.append((f"each turn begins with the {text} that the turn before has left", loop))
        places.append(("loop", loop))
    path.append(("and goes back through both turns", where))
    facts = tuple(
        (f"state{n}", " ".join((state.fact("first"), state.fact("last"), state.fact("name"))))
        for n, state in enumerate(states)
    )
    return RULE.report(
        SEVERITY["raises"],
        f"{text} {goes} into the next turn with {its}, which this backward pass frees: "
        'the second turn raises "Trying to backward through the graph a second time"',
        where,
        tuple(path),
        tuple(places),
        (*facts, ("turn", turn)),
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    loop = finding.place("loop")
    states = [value.split(" ", 2) for key, value in finding.facts if key.startswith("state")]
    if loop is None or any(name.startswith(".") for *_, name in states):
        return
    title = "Detach " + " and ".join(f"`{name}`" for *_, name in states)
    inside = surgery.is_inside(source, loop, finding.where)
    if inside:
        # What is written into it behind the pass comes later than anything that is put right behind that.
        written = [surgery.detached_where_written(source, loop, finding.where, name) for *_, name in states]
        if any(each is not None for each in written):
            if not any(each is None or isinstance(each, surgery.Refusal) for each in written):
                every = tuple(edit for each in written if isinstance(each, tuple) for edit in each)
                yield Fix(f"{title} where it is kept for the next turn", Applicability.SAFE, every)
            return
    if finding.fact("turn") == "summed":
        total = surgery.sum_then_backward(source, finding.all_places("backward"))
        if not isinstance(total, surgery.Refusal):
            yield Fix("Add the losses and call `backward()` once, behind the loop", Applicability.SAFE, total)
            return
    if all(last in STATEMENTS for _, last, _ in states) and inside:
        # Behind the pass nothing needs the graph any more, whatever the state was before the first turn.
        statement = together([STATEMENTS[last].format(name) for _, last, name in states])
        edits = surgery.insert_behind(source, finding.where, statement)
        if not isinstance(edits, surgery.Refusal):
            yield Fix(f"{title} behind the backward pass", Applicability.SAFE, edits)
            return
    if finding.fact("turn") == "some":
        return  # the turns between two passes belong together
    statements = [at_the_head(first, last, name) for first, last, name in states]
    if all(statements):
        edits = surgery.insert_at_head(source, loop, together(statements))
        if not isinstance(edits, surgery.Refusal):
            yield Fix(f"{title} at the head of the loop", Applicability.SAFE, edits)


def together(assignments: list[str]) -> str:
    """`a = x` and `b = y` as `a, b = x, y`."""
    pairs = [one.partition(" = ")[::2] for one in assignments]
    return " = ".join(", ".join(side) for side in zip(*pairs, strict=True))


def at_the_head(first: str, last: str, name: str) -> str:
    """A statement that detaches a state before it is used; nothing where it is not known how."""
    if first == "none" and last in STATEMENTS:
        bare, _, value = STATEMENTS[last].format(name).partition(" = ")
        return f"{bare} = None if {name} is None else {value}"
    return STATEMENTS[first].format(name) if first in STATEMENTS and last in ("other", first) else ""


RULE = Rule("GS209", "hidden-state-not-detached", check, fix)
