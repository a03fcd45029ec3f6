"""
An evaluation that runs in training mode.

## What it does
Flags a call of a trained model that measures without gradients while layers of it are still in training mode:
nothing has called `eval()` since the training. Also functional dropout that is not told the mode.

## Why is this bad?
Dropout goes on dropping values at random and batch norm normalizes by whatever is in the batch, and learns
from it: the same input gives another result each time, the numbers are worse than the model is, and data that
is only measured changes its statistics. `no_grad` does not switch any of this off. Nothing is raised.

## Use instead
`eval()` before measuring and `train()` before training; functional dropout needs to be told.

```python
model.eval()
with torch.no_grad():
    accuracy = measure(model, test_loader)

x = F.dropout(x, p=0.5, training=self.training)
```

## When it is right
Monte Carlo dropout: the same input several times, a `train()` right before, `training=True`. Predictions that
become targets of the training, samples that nobody measures, models without dropout and batch norm. None of
these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.modes import MADE, Modes, Setters, common, modes_of
from gradsight.policy import SEVERITY
from gradsight.protocol import entry, loops
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.syntax import is_dotted
from gradsight.text import Source, Span


def check(q: Queries) -> Iterator[Report]:
    if q.has("dropout"):
        yield from functional(q)
    if q.has("called") and q.has("backward"):
        yield from never_switched(q)


# -- functional dropout


def functional(q: Queries) -> Iterator[Report]:
    modes = modes_of(q)
    for event in q.all("dropout"):
        where = event.place("call")
        if where is None or not is_evaluated(q, modes, event.oids[0]):
            continue
        call = event.fact("function")
        if event.fact("argument") == "dropout_p":
            message = (
                f"`{call}` drops values in evaluation too: it is not told the mode, and `eval()` is not asked"
            )
        else:
            message = (
                f"`{call}` drops values in evaluation too: without `training=self.training` "
                "it does not ask for the mode"
            )
        yield RULE.report(
            SEVERITY["wrong"],
            message,
            where,
            ((f"`{call}` is on in either mode", where),),
            (("call", where), *((("value", value),) if (value := event.place("value")) is not None else ())),
            (("argument", event.fact("argument")), ("self", event.fact("self"))),
        )


def is_evaluated(q: Queries, modes: Modes, oid: int) -> bool:
    """Whether a module is evaluated, or is only defined here, and never in order to sample."""
    sampled = any(
        event.kind == "called" and event.fact("idle") and oid in modes.parts(event.oids[0])
        for event in q.events
    )
    if sampled:
        return False
    if q.program.kind == "class":
        return True
    return any(
        (event.kind == "mode" and event.fact("to") == "eval")
        or (event.kind == "called" and event.fact("off"))
        for event in q.events
        if event.oids and oid in modes.parts(event.oids[0])
    )


# -- no `eval()` before measuring


def never_switched(q: Queries) -> Iterator[Report]:
    modes = modes_of(q)
    if modes.protocol.names_only("eval"):
        return
    said: dict[int, None] = {}
    for at, call in modes.calls:
        if call.fact("idle") or call.oids[0] in said:
            continue
        layers = [
            layer
            for layer in call.oids[1:]
            if layer in modes.parts(call.oids[0])  # `eval()` does not come to what a plain list holds
            and any(modes.all_to(seen[layer], "train") for seen in modes.seen[at])
            and all(forgotten(modes, at, call, seen[layer]) for seen in modes.seen[at])
        ]
        trained = next(trainings(modes, at, call), None) if layers else None
        if trained is None or not modes.is_measured(at, call):
            continue
        said[call.oids[0]] = None
        yield from report(q, modes, call, trained, layers)


def trainings(modes: Modes, at: int, call: Event) -> Iterator[tuple[int, Event]]:
    """The calls by which the model was trained before this one, in program order or in an earlier turn."""
    for other_at, other in modes.calls:
        if other is call or other.fact("off") or entry(other) != entry(call):
            continue
        if other_at > at and not common(other, call):
            continue
        for back, step in modes.trained_by(other):
            if modes.learns(call.oids[0], back, step):
                yield other_at, other
                break


def forgotten(modes: Modes, at: int, call: Event, setters: Setters) -> bool:
    """Whether training mode was left on, and not switched on for this very call."""
    backs = [position for position, _ in modes.trainings]
    for setter in setters:
        if setter == MADE:
            continue
        if modes.to(setter) != "train":
            return False
        if setter < at:
            if not any(setter < back < at for back in backs):
                return False
        elif not any((back > setter or back < at) and common(modes.events[back], call) for back in backs):
            return False
    return True


def report(
    q: Queries, modes: Modes, call: Event, trained: tuple[int, Event], layers: list[int]
) -> Iterator[Report]:
    where, place = call.place("call"), trained[1].place("call")
    if where is None or place is None:
        return
    name = function_of(q.text_of(where))
    who = f"`{name}`" if name else "the model"
    again = common(trained[1], call)
    switched = any(
        event.fact("to") == "train" for loop in again for _, event in modes.switched_in(loop, call.oids[0])
    )
    training = function_of(q.text_of(place)) if trained[1].oids[0] == call.oids[0] else ""
    yield RULE.report(
        SEVERITY["wrong"],
        f"{who} is measured in training mode: nothing calls `eval()` before, so "
        + wording.by_mode([modes.kind(oid) for oid in layers], "train"),
        where,
        (("the model is trained here", place), ("and measured here, still in training mode", where)),
        (("trained", place),),
        (
            ("name", name),
            ("loops", str(len(loops(call)))),
            ("shared", str(len(again))),
            ("training", "" if switched or not again else training or "?"),
            ("training loops", str(len(loops(trained[1])))),
        ),
    )


def function_of(text: str) -> str:
    """`model` of `model(x)`, where that is a plain name."""
    name = text.partition("(")[0]
    return name if is_dotted(name) else ""


# -- fixes


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    call = finding.place("call")
    if call is not None:
        yield from told(source, finding, call)
        return
    name, training = finding.fact("name"), finding.fact("training")
    trained = finding.place("trained")
    if not name or trained is None or training == "?":
        return
    loops_around, shared = int(finding.fact("loops") or 0), int(finding.fact("shared") or 0)
    edits = surgery.insert_above(source, finding.where, f"{name}.eval()", loops_around, shared)
    if isinstance(edits, surgery.Refusal):
        return
    title = f"Switch before measuring: `{name}.eval()`"
    if training:
        around = int(finding.fact("training loops") or 0)
        back = surgery.insert_above(source, trained, f"{training}.train()", around, shared)
        if isinstance(back, surgery.Refusal):
            return
        edits = (*edits, *back)
        title += f", and back before training: `{training}.train()`"
    yield Fix(title, Applicability.UNSAFE, edits)


def told(source: Source, finding: Finding, call: Span) -> Iterator[Fix]:
    """Functional dropout is told the mode."""
    me = finding.fact("self")
    value = finding.place("value")
    if not me:
        return
    if finding.fact("argument") == "dropout_p":
        if value is not None:
            end = Span(value.end, value.end)
            edits = (Edit(source.file, end, f" if {me}.training else 0.0"),)
            yield Fix("Drop nothing in evaluation", Applicability.UNSAFE, edits)
        return
    inside = source.text[call.start : call.end - 1].rstrip()
    at = Span(call.start + len(inside), call.start + len(inside))
    between = " " if inside.endswith(",") else ", "
    edits = (Edit(source.file, at, f"{between}training={me}.training"),)
    yield Fix(f"Tell it the mode: `training={me}.training`", Applicability.UNSAFE, edits)


RULE = Rule("GS602", "train-mode-in-evaluation", check, fix)
