"""
An optimizer that holds something else than what the loss trains.

## What it does
Flags an optimizer of whose parameters no loss of the program depends on any: another model's, those of a
model that was made anew since, or copies of them. Also one that was made before a layer was replaced whose
new parameters nothing holds, a second optimizer of the same parameters where others have none, and a model
behind the one that is trained, or one that `train()` is called on, which no optimizer was given.

## Why is this bad?
`backward()` fills the gradients of parameters that nobody steps with, and the optimizer steps with parameters
that have none. Nothing is raised, and the loss does not fall.

## Use instead
Make the optimizer last, from the model that is trained.

```python
model.fc = nn.Linear(512, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
```

Where the optimizer is made in another function than the model, no fix is offered: what it should be given
is not known there.

## When it is right
Parts that another optimizer holds, and parts that are left out on purpose. Not flagged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradsight import ownership, surgery
from gradsight.domain import DEPENDING, Edge
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import Protocol, Step, entry, protocol_of
from gradsight.queries import LEARNING, Queries, common_owner, shortened
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span
from gradsight.values import Ref


def check(q: Queries) -> Iterator[Report]:
    protocol = protocol_of(q)
    if protocol.blind() or any(event.fact("by") for event in q.all("zero")):
        return
    said: set[int] = set()
    for oid, found in copied(q, protocol):
        said.add(oid)
        yield found
    trained = free(q) if protocol.steps else frozenset()
    for step in protocol.steps:
        oid = step.event.oids[0]
        if oid in said or not trained or entry(step.optimizer) != entry(step.event):
            continue
        twin = next((one for one in protocol.steps if same_parameters(one, step)), None)
        if twin is not None and where_made(twin) < where_made(step):
            said.add(oid)
            yield from held_twice(q, step, twin, trained)
            continue
        lost = step.held - (protocol.reached - q.mistaken)
        where = step.optimizer.place("call")
        if where is None:
            continue
        if lost == step.held and not hidden(protocol, lost):
            said.add(oid)
            yield report(q, step, trained, None)
            continue
        for event in q.all("replaced"):
            later = q.events.index(event) > q.events.index(step.optimizer)
            if later and set(event.nodes) & trained and (lost or event.fact("part")):
                said.add(oid)
                yield report(q, step, frozenset(event.nodes) & trained, event)
                break
    if not said:
        yield from forgotten(q, protocol, trained)


def forgotten(q: Queries, protocol: Protocol, trained: frozenset[int]) -> Iterator[Report]:
    """A model of its own that the loss goes through, and that nobody gave to an optimizer: a head behind the
    backbone that is trained and before labels, or what is put in training mode by name. What stands before
    the backbone may be fixed, and what judges it (a critic, features to compare) may be trained elsewhere."""
    if not trained:
        return
    heap = q.program.heap
    of_program = {oid for event in q.all("module") for oid in event.oids}
    # A trainer that holds models is none itself.
    modules = [oid for oid, obj in heap.items() if obj.kind == "module" or oid in of_program]
    inner = {part for oid in modules for part in ownership.parts(heap, oid) if part != oid}
    inner |= {
        one
        for oid in modules
        for value in heap[oid].held
        for one in ownership.hidden(heap, value)
        if one in heap
    }
    models = [own for oid in modules if oid not in inner and (own := ownership.parameters(heap, oid))]
    steps = [one for one in protocol.steps if any(own <= one.held for own in models)]
    touched = {
        oid
        for event in q.all("loaded", "escape", "lent", "mode")
        if event.kind != "mode" or event.fact("to") != "train"
        for oid in event.oids
    }
    by_hand = {
        n
        for event in q.all("read", "written", "filled")
        for number in event.nodes
        for n in q.feeding(number, (Edge.LIVE,))
    }
    switched = {oid for event in q.all("mode") for oid in event.oids if event.fact("to") == "train"}
    for oid in modules:
        own = ownership.parameters(heap, oid)
        if (
            oid in inner
            or not own
            or not own <= trained
            or own & by_hand
            or touched & set(ownership.parts(heap, oid))
        ):
            continue
        if any(q.graph[n].inputs or not NAMED.fullmatch(q.name(n)) for n in own):
            continue  # a copy of another model, or made anew in each call
        step = next(
            (one for one in steps if oid in switched or (is_behind(q, own, one.held) and predicts(q, own))),
            None,
        )
        where = step.optimizer.place("call") if step is not None else None
        if where is None:
            continue
        name = next((name for name, value in q.program.env.items() if value == Ref(oid)), "")
        wanted = f"`{name}`" if name else q.names(tuple(sorted(own)))
        sink = next((one for _, one in protocol.passes(own)), None)
        end = sink.place("call") if sink is not None else None
        path = [("the optimizer takes its parameters here", where)]
        if end is not None:
            path.append((f"and this gives {wanted} gradients that nobody uses", end))
        yield RULE.report(
            SEVERITY["starved"],
            f"no optimizer holds {wanted}, which {q.sink_text(sink)} goes through: it keeps its first random "
            "weights and never learns",
            where,
            tuple(path),
            facts=(("forgotten", name),),
        )


NAMED = re.compile(r"[A-Za-z_][\w.\[\]]*")
DRAWN = ("torch.randn", "torch.rand", "torch.randint", "torch.randn_like", "torch.rand_like")


def predicts(q: Queries, own: frozenset[int]) -> bool:
    """Whether these parameters have a part in what is compared with labels, and none in the labels."""
    return any(
        ("index" in event.fact("target_wants") or event.fact("target_made") in DRAWN)
        and not own.isdisjoint(q.feeding(event.nodes[0], (Edge.LIVE,)))
        and own.isdisjoint(q.feeding(event.nodes[1], DEPENDING))
        for event in q.all("criterion")
        if event.nodes[0] >= 0
    )


def is_behind(q: Queries, own: frozenset[int], held: frozenset[int]) -> bool:
    """Whether these parameters work on what was computed from those that are held."""
    return any(
        reach.surely_live
        for node in q.graph.nodes
        if not own.isdisjoint(node.inputs)
        for i in node.inputs
        if i >= 0 and i not in own
        for source, reach in q.graph.reach(i).items()
        if source in held
    )


def same_parameters(one: Step, other: Step) -> bool:
    """Whether two optimizers step the very same parameters."""
    return one.optimizer is not other.optimizer and one.held == other.held


def where_made(step: Step) -> int:
    return step.optimizer.oids[0]


def held_twice(q: Queries, step: Step, twin: Step, trained: frozenset[int]) -> Iterator[Report]:
    """`opt_g = Adam(D.parameters())`, where `opt_d` holds these already and nobody holds the other's."""
    where, other = step.optimizer.place("call"), twin.optimizer.place("call")
    if where is None or other is None:
        return
    parameters = tuple(sorted(source for source in trained if q.graph[source].op == "parameter"))
    if not parameters:
        return  # inputs whose gradient somebody asks for
    held, wanted = q.names(tuple(sorted(step.held))), q.names(parameters)
    learn = "learn" if " and " in wanted else "learns"
    yield RULE.report(
        SEVERITY["starved"],
        f"this optimizer holds {held} as another one does, and none holds {wanted}, which never {learn}",
        where,
        (("the first optimizer of these parameters", other), ("and the second one", where)),
        (),
        (("trained", common_owner([q.name(number) for number in parameters]) or ""),),
    )


SAME = ("parameters", "join", "loop", "torch.Tensor.requires_grad_")
COPIES = (
    "torch.Tensor.clone", "torch.clone", "torch.Tensor.detach", "torch.detach", "torch.Tensor.data",
    "copy.copy",
)  # fmt: skip


def copied(q: Queries, protocol: Protocol) -> Iterator[tuple[int, Report]]:
    """Optimizers that were given copies of parameters, one by one, which no loss is computed from."""
    for oid, event in protocol.optimizers.items():
        where = event.place("call")
        if where is None or event.fact("unknown") or protocol.escapes(oid) or not event.nodes:
            continue
        if protocol.reached.intersection(event.nodes):
            continue
        found = [copy_of(q, number) for number in event.nodes]
        parameters = frozenset(n for one in found for n in one)
        if not all(found) or not parameters & protocol.reached:
            continue
        names = q.names(tuple(sorted(parameters)))
        if all(q.graph[n].kind == "op" and is_computed(q, n) for n in event.nodes):
            yield (
                oid,
                RULE.report(
                    SEVERITY["raises"],
                    f"this optimizer is given copies of {names}, which are computed: raises "
                    '"can\'t optimize a non-leaf Tensor"',
                    where,
                    (("the optimizer takes copies here", where),),
                ),
            )
        elif not any(q.parameters_of(other) & parameters for other in q.optimizers if other is not event):
            yield (
                oid,
                RULE.report(
                    SEVERITY["starved"],
                    f"this optimizer holds copies of {names}: the model's own never learn",
                    where,
                    (("the optimizer takes copies here", where),),
                ),
            )


def copy_of(q: Queries, number: int) -> frozenset[int]:
    """The parameters that a tensor is a copy of; none if it may be something else, too."""
    found: set[int] = set()
    copies = False
    waiting, seen = [number], {number}
    while waiting:
        node = q.graph[waiting.pop()]
        copies = copies or node.op in COPIES
        for n in node.inputs:
            behind = q.graph[n]
            if behind.kind == "source":
                if behind.op == "parameter":
                    found.add(n)
                elif behind.op != "laundered":
                    return frozenset()
            elif behind.op not in (*SAME, *COPIES):
                return frozenset()
            elif n not in seen:
                seen.add(n)
                waiting.append(n)
    return frozenset(found) if copies and q.graph[number].op in (*SAME, *COPIES) else frozenset()


def is_computed(q: Queries, number: int) -> bool:
    """Whether it surely requires a gradient without being a leaf."""
    return any(
        reach.surely_live and q.graph[source].op == "parameter"
        for source, reach in q.graph.reach(number).items()
    )


def free(q: Queries) -> frozenset[int]:
    """What some loss surely gives a gradient and no optimizer holds, nothing about those being unknown."""
    if any(event.fact("unknown") for event in q.optimizers):
        return frozenset()
    stepped = {source for event in q.all("step") for source in q.parameters_of(event)}  # groups may be added
    return frozenset(
        source
        for sink in q.sinks
        if not sink.fact("off")
        for top in q.roots(sink)
        for source, reach in q.graph.reach(top).items()
        if reach.surely_live
        and q.graph[source].op in LEARNING
        and source not in q.held
        and source not in stepped
        and source not in q.frozen
    )


def hidden(protocol: Protocol, parameters: frozenset[int]) -> bool:
    """Whether code that is not seen may use the parameters."""
    return any(parameters & set(event.nodes) for event in protocol.q.all("escape"))


def report(q: Queries, step: Step, trained: frozenset[int], replaced: Event | None) -> Report:
    where = step.optimizer.place("call")
    assert where is not None
    held, wanted = q.names(tuple(sorted(step.held))), q.names(tuple(sorted(trained)))
    several = " and " in wanted
    learn, them = ("learn", "them") if several else ("learns", "it")
    path = [("the optimizer takes its parameters here", where)]
    sink = next((one for one in q.sinks if one.place("call") is not None), None)
    loss = q.sink_text(sink)
    if replaced is not None:
        place = replaced.place("call")
        if place is not None:
            path.append(("and this replaces a part of the model later", place))
        message = f"{wanted} never {learn}: made after this optimizer, which does not hold {them}"
    else:
        message = (
            f"no loss gives {held} a gradient, which is all that this optimizer holds; {wanted} never {learn}"
        )
    end = sink.place("call") if sink is not None else None
    if end is not None:
        path.append((f"{loss} trains {wanted}", end))
    places = [("replaced", there)] if replaced is not None and (there := replaced.place("call")) else []
    owner = common_owner([q.name(number) for number in sorted(trained)]) if replaced is None else None
    facts = [("trained", owner)] if owner is not None else []
    return RULE.report(SEVERITY["starved"], message, where, tuple(path), tuple(places), tuple(facts))


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    replaced, where = finding.place("replaced"), finding.where
    if replaced is not None and where.start < replaced.start:
        edits = surgery.move_behind(source, where, replaced)
        if not isinstance(edits, surgery.Refusal):
            part = shortened(source.slice(replaced))
            yield Fix(f"Make the optimizer behind `{part}`", Applicability.UNSAFE, edits)
        return
    own = surgery.own_parameters(source, where)
    if not isinstance(own, surgery.Refusal):
        yield Fix("Give it the parameters themselves, no copies", Applicability.UNSAFE, own)
        return
    trained = finding.fact("trained") or finding.fact("forgotten") or ""
    given = re.match(r"[\w.]+\(\s*(?:params\s*=\s*)?([\w.]+)(?=\.parameters\(\))", source.slice(where))
    if given is None or not re.fullmatch(r"[\w.]+", trained):
        return
    if given[1] == trained:
        again = surgery.made_again(source, where, trained)
        if not isinstance(again, surgery.Refusal):
            title = f"Make the optimizer again behind the new `{trained}`"
            yield Fix(title, Applicability.UNSAFE, again)
        return
    if surgery.is_bound_before(source, trained, where) and finding.fact("forgotten"):
        start = where.start + given.start(1)
        call = Span(start, where.start + given.end() + len(".parameters()"))
        both = f"[*{source.slice(call)}, *{trained}.parameters()]"
        yield Fix(
            f"Give it the parameters of `{trained}`, too",
            Applicability.UNSAFE,
            (Edit(source.file, call, both),),
        )
    elif surgery.is_bound_before(source, trained, where):
        edit = Edit(source.file, Span(where.start + given.start(1), where.start + given.end(1)), trained)
        title = f"Give it the parameters of `{trained}` instead of `{given[1]}`"
        yield Fix(title, Applicability.UNSAFE, (edit,))


RULE = Rule("GS211", "optimizer-misses-parameters", check, fix)
