"""
Gradients that are never cleared.

## What it does
Flags a `backward()` in a loop whose optimizer steps in every turn, where nothing in that loop clears the
gradients: no `zero_grad()` at all, one before the loop only, or one in a branch that not every turn takes.
The same where no optimizer steps, and the weights are updated by hand: `w -= lr * w.grad`.

## Why is this bad?
`backward()` adds to `.grad`. Each step is then taken with the sum of the gradients of all turns so far: the
direction is stale, its size grows, and training stalls or diverges. Nothing is raised.

## Use instead
Clear the gradients in each turn, before `backward()`.

```python
optimizer.zero_grad()
loss.backward()
optimizer.step()
```

Where each loss has a pass of its own in a loop, no fix is offered: where a turn begins is not known.

## When it is right
Gradients that are accumulated on purpose, with the step and the clearing in one branch. Optimizers that are
made anew in each turn, or whose gradients other code clears. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import DEPENDING, Edge
from gradsight.finding import Applicability, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import Step, branches, loops, protocol_of
from gradsight.queries import Queries, shortened
from gradsight.rule import Report, Rule
from gradsight.syntax import is_dotted
from gradsight.text import Source
from gradsight.values import node_of


def check(q: Queries) -> Iterator[Report]:
    protocol = protocol_of(q)
    said: set[int] = set()
    if protocol.names_only("zero_grad"):
        return
    once = {event.context[-1][1] for event in q.all("once")}
    for step in protocol.all_steps:
        around = loops(step.event)
        if not around or around[-1] in once or around[-1] in loops(step.optimizer):
            continue
        loop = around[-1]
        passes = [event for _, event in protocol.passes(step.held) if loop in loops(event)]
        if not passes or id(passes[0]) in said:
            continue
        clears = [event for _, event in protocol.clears(step)]
        inside = [event for event in clears if loop in loops(event) or in_a_generator(event, step.event)]
        if any(event.fact("by") for event in inside) or any(event.fact("unknown") for event in clears):
            continue  # by hand, or by somebody: which gradients is not known
        why = unclear(q, step, inside, loop)
        if why is None or may_be_helped(q, step, loop):
            continue
        said.add(id(passes[0]))
        yield from report(q, step, passes[0], why, clears)
    if not protocol.optimizers:
        yield from updated_by_hand(q, said)


UPDATES = ("sub_", "add_", "isub_", "iadd_")


def updated_by_hand(q: Queries, said: set[int]) -> Iterator[Report]:
    """`w -= lr * w.grad` in a loop that clears no gradient of anything."""
    before: Event | None = None
    others = list(q.all("zero", "escape", "lent", "once"))
    for event in q.events:
        if event.kind == "read":
            before = event
        if event.kind != "written" or before is None or event.fact("name") not in UPDATES:
            continue
        around = loops(event)
        leaves = {n for one in event.nodes[:1] for n in q.feeding(one, DEPENDING)} & set(q.must_learn)
        where = event.place("call")
        if before.context[: len(around)] != event.context[: len(around)] or where is None or not leaves:
            continue
        read = {n for one in before.nodes for n in q.feeding(one, DEPENDING)}
        if not leaves <= read or any(not set(around).isdisjoint(loops(one)) for one in others):
            continue
        for backward in q.all("backward"):
            shared = [loop for loop in loops(backward) if loop in around]
            gives = any(
                reach.surely_live
                for top in q.roots(backward)
                for n, reach in q.graph.reach(top).items()
                if n in leaves
            )
            made_before = not any(set(shared) & set(q.graph[n].loops) for n in leaves)
            passed = backward.place("call")
            if not shared or not gives or not made_before or passed is None or id(backward) in said:
                continue
            said.add(id(backward))
            target = event.place("target")
            weight = q.text_of(target).removesuffix(".data") if target is not None else ""
            name = f"`{weight}` is" if is_dotted(weight) else "the weights are"
            yield RULE.report(
                SEVERITY["wrong"],
                f"the gradients of {q.sink_text(backward)} are never cleared: {name} updated with the sum "
                "over all turns so far; clear them in each turn, behind the update",
                passed,
                (
                    ("each turn adds its gradients here", passed),
                    ("and the weights are updated with their sum here", where),
                ),
                (("update", where),),
                (("weight", weight if is_dotted(weight) else ""),),
            )


def unclear(q: Queries, step: Step, inside: list[Event], loop: int) -> str | None:
    """Why the gradients are not cleared in each turn: "nowhere", "branch"; None where they may be."""
    if not inside:
        return "nowhere"
    if any(in_a_generator(event, step.event) for event in inside):
        return None  # it runs whenever something is asked of it
    own = branches(step.event, loop)
    if own:
        return None  # a step that not every turn takes: gradients are accumulated
    if any(function(q, event) != function(q, step.event) for event in inside):
        return None  # a switch of somebody else: `if self.training` where the module clears itself
    most = {event.context[-1][1:] for event in q.all("most")}
    arms = [branches(event, loop) - most for event in inside]
    if any(not arm for arm in arms):
        return None
    numbers = [number for arm in arms for number, _ in arm]
    if len(numbers) != len(set(numbers)):
        return None  # both arms of a branch
    return "branch"


def may_be_helped(q: Queries, step: Step, loop: int) -> bool:
    """Whether code that is not seen is given what the optimizer holds in each turn, and may clear it."""
    protocol = protocol_of(q)
    for event in q.all("lent", "escape"):
        if loop in loops(event) and any(protocol.holds(oid, step.held) for oid in event.oids):
            return True
    calls = {n: node for n, node in enumerate(q.graph.nodes) if node.op == "call" and loop in node.loops}
    if not calls:
        return False
    used = {i for node in q.graph.nodes for i in node.inputs}
    used.update(root for sink in q.sinks for root in q.roots(sink))
    owners = {
        node_of(obj.get("*"))
        for oid, obj in q.program.heap.items()
        if obj.kind == "object" and protocol.leads_to(oid, step.event.oids[0])
    }
    for number, node in calls.items():
        for i, edge in zip(node.inputs, node.edges, strict=True):
            # A method of the model, or of what has the optimizer, that is called for its own sake; or a
            # function that is given the parameters.
            if i in step.held | owners and (edge is Edge.UNKNOWN or number not in used):
                return True
    return False


def in_a_generator(event: Event, step: Event) -> bool:
    """Whether an event is one of a generator that the step is not in."""
    return any(kind == "m" and (kind, number, arm) not in step.context for kind, number, arm in event.context)


def function(q: Queries, event: Event) -> str | None:
    """The function whose own lines an event stands in, by whatever calls it was come to."""
    place = event.place("call")
    return q.function_of(place) if place is not None else None


def report(q: Queries, step: Step, backward: Event, why: str, clears: list[Event]) -> Iterator[Report]:
    where = backward.place("call")
    stepped = step.event.place("call")
    if where is None or stepped is None:
        return
    name = optimizer_name(q, step)
    loss = q.sink_text(backward)
    accumulated = bool(branches(step.event, loops(step.event)[-1]))
    path = [("each turn adds its gradients here", where), ("and steps with their sum here", stepped)]
    if why == "branch":
        message = f"the gradients of {loss} are cleared in a branch that not every turn takes"
    elif clears:
        message = f"the gradients of {loss} are cleared before the loop only"
    else:
        message = f"the gradients of {loss} are never cleared"
    cleared_in = None
    for event in clears[:1]:
        cleared = event.place("call")
        if cleared is not None:
            path.insert(0, ("they are cleared here only", cleared))
            cleared_in = cleared
    # Before a backward pass in a loop of its own, each turn of that would clear what the one before gave.
    inner = loops(backward) != loops(step.event) and not accumulated
    places = (("step", stepped),) if inner else (("backward", where), ("step", stepped))
    if why == "branch" and cleared_in is not None:
        places = (*places, ("clear", cleared_in))
    yield RULE.report(
        SEVERITY["wrong"],
        f"{message}: `{name}` steps with the sum over all turns so far; clear them in each turn",
        where,
        tuple(path),
        places,
        (("optimizer", name), ("why", why), ("accumulated", "yes" if accumulated else "")),
    )


def optimizer_name(q: Queries, step: Step) -> str:
    """How the program calls an optimizer where it steps."""
    place = step.event.place("call")
    text = q.text_of(place) if place is not None else ""
    before, _, given = text.partition(".step(")
    by_scaler = any(step.event.oids[0] in event.oids for event in q.all("scaler_step"))
    name = given.rpartition(")")[0] if by_scaler else before if given else ""
    return shortened(name) if is_dotted(name) else "optimizer"


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    update, weight = finding.place("update"), finding.fact("weight")
    if update is not None and weight:
        edits = surgery.insert_behind(source, update, f"{weight}.grad.zero_()")
        if not isinstance(edits, surgery.Refusal):
            yield Fix(f"Clear them behind the update: `{weight}.grad.zero_()`", Applicability.UNSAFE, edits)
        return
    where, name = finding.place("backward"), finding.fact("optimizer")
    if where is None or not name:
        return
    cleared = finding.place("clear")
    if finding.fact("why") == "branch" and cleared is not None:
        always = surgery.out_of_branch(source, cleared)
        if not isinstance(always, surgery.Refusal):
            title = f"Clear the gradients in each turn: `{source.slice(cleared)}`"
            yield Fix(title, Applicability.UNSAFE, always)
            return
    step = finding.place("step")
    if finding.fact("accumulated") and step is not None:
        edits = surgery.insert_behind(source, step, f"{name}.zero_grad()")
        if not isinstance(edits, surgery.Refusal):
            yield Fix(f"Clear them behind the step: `{name}.zero_grad()`", Applicability.UNSAFE, edits)
        return
    edits = surgery.insert_before(source, where, f"{name}.zero_grad()")
    if not isinstance(edits, surgery.Refusal):
        yield Fix(f"Clear the gradients first: `{name}.zero_grad()`", Applicability.UNSAFE, edits)


RULE = Rule("GS203", "missing-zero-grad", check, fix)
