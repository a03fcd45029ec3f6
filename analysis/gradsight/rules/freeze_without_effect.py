"""
A freeze or a thaw that does not do what it says.

## What it does
Flags `module.requires_grad = False` and `p.require_grad = False`, which set attributes that nobody asks for;
a freeze that a later line takes back before anything was computed; an optimizer all of whose parameters are
frozen; parameters that are thawed after the optimizer was built from those that required a gradient.

## Why is this bad?
Only parameters have a `requires_grad` that counts. What should stay as it is learns, or what should learn
stays as it is. Nothing is raised.

## Use instead
`requires_grad_()` of a module, which goes to all of its parameters; then the optimizer.

```python
model.backbone.requires_grad_(False)
optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
```

## When it is right
Everything frozen and then the head thawed, parts that are frozen for one step and thawed for the next, groups
that are added to the optimizer when they are thawed. None of these is flagged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import DEPENDING, Tri
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.graph import Place
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import branches, entry, loops, protocol_of
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span


def check(q: Queries) -> Iterator[Report]:
    yield from plain_flags(q)
    yield from misspelt(q)
    if q.has("freeze"):
        said: set[int] = set()
        yield from all_frozen(q, said)
        yield from taken_back(q, said)
        if q.has("thaw"):
            yield from thawed_too_late(q)


def about(q: Queries, event: Event) -> frozenset[int]:
    """The parameters that an event is about."""
    return protocol_of(q).parameters(event)


# -- a plain attribute


def plain_flags(q: Queries) -> Iterator[Report]:
    for at, event in q.numbered("flag"):
        where = event.place("call")
        if where is None:
            continue
        text = q.text_of(where)
        owner = text.rpartition(".")[0]
        if event.fact("of"):
            yield RULE.report(
                SEVERITY["raises"],
                f"`{owner}` gives a generator, which has no such attribute: raises "
                "\"'generator' object has no attribute 'requires_grad'\"",
                where,
                (),
                (("target", where),),
                (("owner", owner), ("to", event.fact("to"))),
            )
            continue
        own = frozenset(q.parameters_of(event))
        freezes = event.fact("to") == "False"
        held = {source for one in q.optimizers for source in q.parameters_of(one)}
        blind = any(one.fact("unknown") for one in q.optimizers)
        if not own or (freezes and (own <= q.frozen or (q.optimizers and not blind and not own & held))):
            continue
        if not freezes and not own & q.frozen & surely_frozen(q, at, event):
            continue
        stays = "and they go on learning" if freezes else "which stay frozen"
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{text} = {event.fact('to')}` sets an attribute of the module that nobody asks for, not that "
            f"of its parameters, {stays}: call `{owner}.requires_grad_({event.fact('to')})`",
            where,
            (),
            (("target", where),),
            (("owner", owner), ("to", event.fact("to"))),
        )


def misspelt(q: Queries) -> Iterator[Report]:
    for event in q.all("misspelt"):
        where = event.place("call")
        if where is None:
            continue
        text = q.text_of(where)
        owner, _, name = text.rpartition(".")
        stays = "go on learning" if event.fact("to") == "False" else "stay frozen"
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{text} = {event.fact('to')}` only adds an attribute `{name}` that nobody asks for, and the "
            f"parameters {stays}: it is called `requires_grad`",
            where,
            (),
            (("target", where),),
            (("owner", owner), ("to", event.fact("to")), ("name", name)),
        )


def surely_frozen(q: Queries, position: int, event: Event) -> frozenset[int]:
    """The parameters that are frozen at a point of the program, whichever way it came there."""
    out: frozenset[int] = frozenset()
    for other in q.events[:position]:
        if other.kind == "thaw" or (other.kind == "freeze" and other.fact("some")):
            out -= about(q, other)
        elif (
            other.kind == "freeze"
            and branches(other) <= branches(event)
            and entry(other) in ((), entry(event))
        ):
            out |= about(q, other)
    return out


# -- an optimizer with nothing to do


def all_frozen(q: Queries, said: set[int]) -> Iterator[Report]:
    protocol = protocol_of(q)
    for step in protocol.steps:
        frozen = surely_frozen(q, step.at, step.event)
        passes = [event for _, event in protocol.passes(step.held)]
        if not step.held <= frozen or not passes:
            continue
        freeze = next(
            (
                one
                for one in reversed(q.events[: step.at])
                if one.kind == "freeze" and about(q, one) & step.held
            ),
            None,
        )
        where = freeze.place("call") if freeze is not None else None
        end = passes[0].place("call")
        if freeze is None or where is None or end is None or id(freeze) in said:
            continue
        live = {
            source
            for top in q.roots(passes[0])
            for source, reach in q.graph.reach(top).items()
            if reach.live is not Tri.NO
        }
        if live <= frozen:
            continue  # then `backward` raises
        said.add(id(freeze))
        names = q.names(tuple(sorted(step.held)))
        yield RULE.report(
            SEVERITY["starved"],
            f"all that the optimizer holds is frozen, {names}, so its steps change nothing",
            where,
            (("frozen here", where), (f"and {q.sink_text(passes[0])} should train it here", end)),
            (("freeze", where),),
        )


# -- taken back


def taken_back(q: Queries, said: set[int]) -> Iterator[Report]:
    for at, freeze in q.numbered("freeze"):
        frozen = about(q, freeze)
        if not frozen or freeze.fact("some") or id(freeze) in said:
            continue
        thaw = next((one for one in q.events[at + 1 :] if undoes(q, one, freeze, frozen)), None)
        where = freeze.place("call")
        again = thaw.place("call") if thaw is not None else None
        if thaw is None or where is None or again is None or used_between(q, frozen, freeze, thaw):
            continue
        if {last_name(q, where), last_name(q, again)} == {"weight", "bias"}:
            continue  # one source for both of a layer of torch
        if any(one.kind == "freeze" and frozen <= about(q, one) for one in q.events[q.events.index(thaw) :]):
            continue
        said.add(id(freeze))
        everything = any(step.held <= frozen for step in protocol_of(q).steps)
        yield RULE.report(
            SEVERITY["wrong"],
            f"this freezes {q.names(tuple(sorted(frozen)))} for nothing: `{q.text_of(again)}` thaws it again "
            "before anything is computed with it",
            where,
            (("frozen here", where), ("and thawed again here", again)),
            # Frozen for good, an optimizer would have nothing to do: which of both is meant is not known.
            () if everything else (("freeze", where), ("thaw", again)),
        )


def last_name(q: Queries, place: Place) -> str:
    """Whose `requires_grad` is set there, by its last name."""
    return q.text_of(place).rpartition(".")[0].rpartition(".")[2]


def undoes(q: Queries, thaw: Event, freeze: Event, frozen: frozenset[int]) -> bool:
    return (
        thaw.kind == "thaw"
        and frozen <= about(q, thaw)
        and branches(thaw) <= branches(freeze)
        and not thaw.fact("some")
        and entry(thaw) == entry(freeze)
        and turns(q, thaw) == turns(q, freeze)
    )


def turns(q: Queries, event: Event) -> tuple[int, ...]:
    """The loops around a freeze, but for one that only runs over the parameters."""
    over = any(q.graph[number].op == "parameters" for number in event.nodes)
    return loops(event)[:-1] if over else loops(event)


def used_between(q: Queries, frozen: frozenset[int], freeze: Event, thaw: Event) -> bool:
    """Whether anything was computed with the parameters between two points, they were written to, which
    nobody may do to a leaf that requires a gradient, or an optimizer chose by them."""
    nodes = range(freeze.node + 1, thaw.node)
    if any(
        q.graph[n].kind == "op" and frozen & set(q.feeding(n, DEPENDING))
        for n in nodes
        if q.graph[n].op != "parameters"
    ):
        return True
    first, last = q.events.index(freeze), q.events.index(thaw)
    return any(
        event.kind in ("optimizer", "lent", "escape")
        or (event.kind == "written" and not frozen.isdisjoint(event.nodes))
        for event in q.events[first:last]
    )


# -- too late for the optimizer


def thawed_too_late(q: Queries) -> Iterator[Report]:
    protocol = protocol_of(q)
    for at, event in q.numbered("optimizer"):
        if not event.fact("filtered"):
            continue
        left_out = surely_frozen(q, at, event) & about(q, event)
        for thaw in q.events[at + 1 :] if left_out else ():
            late = about(q, thaw) & left_out if thaw.kind == "thaw" else frozenset()
            where, built = thaw.place("call"), event.place("call")
            if not late or where is None or built is None or taken_in(q, at, late):
                continue
            after = q.events[q.events.index(thaw) :]
            if not any(
                one.kind == "backward"
                and any(protocol.gives(top, late) for top in q.roots(one))
                and (one in after or set(loops(one)) & set(turns(q, thaw)))
                for one in q.events
            ):
                continue
            names = q.names(tuple(sorted(late)))
            be, learn = ("are", "learn") if " and " in names else ("is", "learns")
            yield RULE.report(
                SEVERITY["starved"],
                f"{names} {be} thawed, and still never {learn}: "
                "the optimizer was built before, from what required a gradient then",
                where,
                (("the optimizer leaves out what is frozen", built), ("and this is thawed later", where)),
                (("built", built), ("thaw", where), *freeze_of(q, at, late)),
                (("used", "yes" if is_used(q, late, event, thaw) else ""),),
            )
            break


def taken_in(q: Queries, at: int, late: frozenset[int]) -> bool:
    """Whether an optimizer holds the parameters that were thawed after all."""
    return any(
        (event.kind == "group" or position != at) and (event.fact("unknown") or late & q.parameters_of(event))
        for position, event in q.numbered("group", "optimizer")
    )


def freeze_of(q: Queries, at: int, late: frozenset[int]) -> tuple[tuple[str, Place], ...]:
    """The one freeze before an optimizer that is about these parameters, and no others."""
    found = [one for one in q.events[:at] if one.kind == "freeze" and about(q, one) & late]
    place = found[0].place("call") if len(found) == 1 and about(q, found[0]) <= late else None
    return (("freeze", place),) if place is not None else ()


def is_used(q: Queries, late: frozenset[int], built: Event, thaw: Event) -> bool:
    """Whether anything is computed with them, or a loop lies, between the optimizer and the thaw."""
    between = range(built.node + 1, thaw.node)
    return turns(q, thaw) != loops(built) or any(
        q.graph[n].kind == "op" and q.graph[n].op != "parameters" and late & set(q.feeding(n, DEPENDING))
        for n in between
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    freeze, thaw, built = finding.place("freeze"), finding.place("thaw"), finding.place("built")
    if built is not None and thaw is not None:
        yield from told(source, finding, built, thaw, freeze)
        return
    if freeze is not None:
        one = surgery.freezing(source, freeze)
        other = surgery.freezing(source, thaw) if thaw is not None else None
        if isinstance(one, surgery.Refusal) or isinstance(other, surgery.Refusal):
            return
        if other is None:
            edits: tuple[Edit, ...] | surgery.Refusal = surgery.lines_removed(source, one)
            title = "Do not freeze it: all that the optimizer holds is there"
        else:
            edits = surgery.lines_moved_behind(source, one, other)
            title = "Freeze it behind what thaws everything"
        if not isinstance(edits, surgery.Refusal):
            yield Fix(title, Applicability.UNSAFE, edits)
        return
    target, to = finding.place("target"), finding.fact("to")
    if target is None:
        return
    if wrong := finding.fact("name"):
        edit = Edit(source.file, Span(target.end - len(wrong), target.end), "requires_grad")
        yield Fix("Call it `requires_grad`", Applicability.UNSAFE, (edit,))
        return
    value = re.compile(r"[ \t]*=[ \t]*(?:True|False)(?![\w.])").match(source.text, target.end)
    owner = re.compile(r"\.(?:named_)?parameters\(\)\s*$")
    text = source.slice(target).rpartition(".")[0]
    if value is None:
        return
    if (call := owner.search(text)) is not None:
        start = target.start + call.start()
        edit = Edit(source.file, Span(start, value.end()), f".requires_grad_({to})")
    else:
        edit = Edit(source.file, Span(target.end, value.end()), f"_({to})")
    yield Fix(f"Set it of the parameters: `requires_grad_({to})`", Applicability.UNSAFE, (edit,))


def told(source: Source, finding: Finding, built: Span, thaw: Span, freeze: Span | None) -> Iterator[Fix]:
    """The optimizer learns of what is thawed: nothing is frozen before, or it is given a group."""
    lines = surgery.freezing(source, thaw)
    if isinstance(lines, surgery.Refusal):
        return
    frozen = surgery.freezing(source, freeze) if freeze is not None else surgery.Refusal("frozen elsewhere")
    if not finding.fact("used") and not isinstance(frozen, surgery.Refusal):
        one, other = (surgery.lines_removed(source, each) for each in (frozen, lines))
        if not isinstance(one, surgery.Refusal) and not isinstance(other, surgery.Refusal):
            title = "Neither freeze nor thaw it: nothing is computed in between"
            yield Fix(title, Applicability.UNSAFE, (*one, *other))
            return
    name = surgery.name_there(source, built, thaw)
    parameters = surgery.thawed_parameters(source, thaw)
    if not name or not parameters:
        return
    statement = f'{name}.add_param_group({{"params": {parameters}}})'
    added = surgery.line_behind(source, lines, statement)
    if not isinstance(added, surgery.Refusal):
        yield Fix(f"Tell the optimizer: `{statement}`", Applicability.UNSAFE, added)


RULE = Rule("GS407", "freeze-without-effect", check, fix)
