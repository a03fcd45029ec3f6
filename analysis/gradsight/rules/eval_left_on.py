"""
Training that goes on in evaluation mode.

## What it does
Flags an `eval()` after which nothing calls `train()` before the model is trained again: a validation inside
of the epoch, a helper that switches and never switches back, an `eval()` once before the loop. Only where a
layer that the training goes through depends on the mode.

## Why is this bad?
`eval()` stays on until somebody calls `train()`. Dropout then drops nothing, batch norm normalizes with its
running statistics and no longer updates them: from the second epoch on another model is trained than was
meant. Nothing is raised.

## Use instead
Switch at the head of each phase: `train()` before training, `eval()` before measuring.

```python
for epoch in range(epochs):
    model.train()
    for x, y in loader:
        ...
    model.eval()
    with torch.no_grad():
        ...
```

## When it is right
Layers that are kept in evaluation mode on purpose: a frozen backbone, the batch norms of a model that is
fine-tuned, a teacher or target network. Helpers that put the mode back. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.modes import Modes, Setters, common, modes_of
from gradsight.policy import SEVERITY
from gradsight.protocol import entry, loops
from gradsight.queries import Queries, shortened
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.syntax import is_dotted
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    if not any(event.fact("to") == "eval" for event in q.all("mode")):
        return
    modes = modes_of(q)
    if modes.protocol.names_only("train"):
        return
    left: dict[int, tuple[Event, Event, dict[int, None], bool]] = {}
    for position, call in modes.calls:
        if call.fact("off"):
            continue
        for setter, layer, late in lasting(modes, position, call):
            switched = modes.events[setter].oids[0]
            for at, step in modes.trained_by(call):
                if modes.learns(switched, at, step):
                    left.setdefault(setter, (call, modes.events[at], {}, late))[2][layer] = None
                    break
    for setter, (call, backward, layers, late) in left.items():
        yield from report(q, modes, modes.events[setter], (call, backward), tuple(layers), late)


def lasting(modes: Modes, at: int, call: Event) -> Iterator[tuple[int, int, bool]]:
    """The `eval()`s that a call's layers are still in, with the layer, and whether from the second turn."""
    for turn, seen in enumerate(modes.seen[at]):
        for layer, setters in seen.items():
            evals = [one for one in setters if one >= 0 and modes.to(one) == "eval"]
            if not evals:
                continue
            last = max(evals)
            surely = len(evals) == len(setters)
            if (surely or taken_some_time(modes, call, layer, last, setters)) and meant_whole(
                modes, call, last
            ):
                yield last, layer, turn > 0


def taken_some_time(modes: Modes, call: Event, layer: int, switch: int, setters: Setters) -> bool:
    """Whether an `eval()` in a branch of the training loop is, once taken, never taken back in that loop."""
    shared = common(modes.events[switch], call)
    if not shared:
        return False
    loop = shared[-1]
    if any(modes.to(one) not in ("train", "eval") for one in setters):
        return False
    return all(event.fact("to") == "eval" for _, event in modes.switched_in(loop, layer))


def meant_whole(modes: Modes, call: Event, switch: int) -> bool:
    """Whether what was switched is the model that is trained, and no part of it that is kept so."""
    event = modes.events[switch]
    switched, called = event.oids[0], call.oids[0]
    if switched != called and switched in modes.parts(called):
        return False
    if entry(event) != entry(call):
        return False
    own = modes.parts(switched)
    return not any(
        other.kind == "mode"
        and other.fact("to") != "eval"
        and other.oids
        and other.oids[0] != switched
        and other.oids[0] in own
        and called not in modes.parts(other.oids[0])
        for other in modes.events
    )


def report(
    q: Queries,
    modes: Modes,
    switch: Event,
    training: tuple[Event, Event],
    layers: tuple[int, ...],
    late: bool,
) -> Iterator[Report]:
    call, backward = training
    where, trained, back = switch.place("call"), call.place("call"), backward.place("call")
    if where is None or trained is None or back is None:
        return
    name = receiver(q.text_of(where))
    shared = len(common(switch, call))
    when = "from the second turn on" if late and shared else "from here on"
    model = f"`{name}`" if name else "the model"
    called = q.text_of(trained).partition("(")[0] if call.oids[0] == switch.oids[0] else ""
    yield RULE.report(
        SEVERITY["wrong"],
        f"{model} is trained in evaluation mode {when}: nothing calls `train()` again after this, so "
        + wording.by_mode([modes.kind(oid) for oid in layers], "eval"),
        where,
        (
            ("evaluation mode begins here", where),
            ("and this call is still in it when it is trained", trained),
        ),
        (("trained", trained), ("backward", back)),
        (
            ("called", called if is_dotted(called) else ""),
            ("switched", name if is_dotted(name) else ""),
            ("loops", str(len(loops(call)))),
            ("shared", str(shared)),
            ("backward loops", str(len(loops(backward)))),
            ("backward shared", str(len(common(switch, backward)))),
        ),
    )


def receiver(text: str) -> str:
    """`model` of `model.eval()`."""
    before = text.rpartition(".")[0]
    return shortened(before) if before and "\n" not in before else ""


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    trained, backward = finding.place("trained"), finding.place("backward")
    if trained is None or backward is None:
        return
    function = surgery.function_around(source, backward)
    if surgery.function_around(source, trained) == function:
        name, at, which = finding.fact("called"), trained, ""
    elif surgery.function_around(source, finding.where) == function:
        # A helper calls the model, in training and in evaluation: it is no place to switch.
        name, at, which = finding.fact("switched"), backward, "backward "
    else:
        return
    around, shared = (int(finding.fact(which + fact) or 0) for fact in ("loops", "shared"))
    if not name:
        return
    edits = surgery.insert_above(source, at, f"{name}.train()", around, shared)
    if not isinstance(edits, surgery.Refusal):
        yield Fix(f"Switch back before training: `{name}.train()`", Applicability.UNSAFE, edits)


RULE = Rule("GS601", "eval-left-on", check, fix)
