"""
A write in place over what a backward pass needs.

## What it does
Flags an in-place operation on a tensor whose old numbers some operation has kept: the result of `exp`,
`sigmoid`, `tanh`, `relu` or `softmax`; the input of `log`, `pow`, a convolution or a normalisation; a factor
whose other factor learns. Also through views, `detach()` and under `torch.no_grad()`, which share the memory.

## Why is this bad?
`backward()` raises "one of the variables needed for gradient computation has been modified by an inplace
operation", far from the line that wrote.

## Use instead
An operation that makes a new tensor, or a copy for the one who keeps.

```python
x = x + self.block(self.norm(x))  # instead of x += self.block(self.norm(x))
probabilities = torch.sigmoid(scores).clone()
probabilities[padding] = 0
```

Where a table is filled step by step, or a layer itself writes in place, or weights change between two
passes, no fix is offered: the order or the way of computing has to change.

## When it is right
Where nobody keeps the old numbers: `nn.ReLU(inplace=True)` and `out += identity` behind a convolution or a
normalisation, parts of a buffer that are written once, `masked_fill_` of scores, gradients and weights after
`backward()`. None of these is flagged. Weights that `optimizer.step()` changes too early are GS205.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.graph import Place
from gradsight.interpret.state import Event
from gradsight.memory import Keeper
from gradsight.policy import SEVERITY
from gradsight.protocol import loops
from gradsight.queries import Queries, shortened
from gradsight.rule import Report, Rule
from gradsight.rules.writes import Write, Writes, writes_of
from gradsight.text import Source

RAISED = "one of the variables needed for gradient computation has been modified by an inplace operation"


def check(q: Queries) -> Iterator[Report]:
    if not q.has("written"):
        return
    writes = writes_of(q)
    said: set[int] = set()
    for write in writes.all:
        found = overwritten(writes, write) if not write.event.fact("expected") else None
        if found is not None and (syntax := id(q.syntax_of(write.where))) not in said:
            said.add(syntax)
            yield report(writes, write, *found)


def overwritten(writes: Writes, write: Write) -> tuple[Keeper, Event, bool] | None:
    """Who needs what the write writes over, the pass that asks for it, whether that is of the turn before."""
    if write.event.fact("leaf"):
        # Where gradients are recorded the write itself raises.
        found = writes.weight_keepers(write, write.old) if write.event.fact("grad") == "off" else ()
    else:
        found = writes.keepers(write)
    for keeper in found:
        if not needs(writes, keeper):
            continue
        for sink in writes.passes(write):
            if keeper.node in writes.walked(sink) or keeper.node in walked_with(writes, sink, write, keeper):
                return keeper, sink, False
    for keeper, depth in writes.later_keepers(write) if not write.event.fact("leaf") else ():
        if not needs(writes, keeper):
            continue
        for sink in writes.passes(write):
            if len(loops(sink)) <= depth and keeper.node in writes.walked(sink):
                return keeper, sink, True
    return None


def walked_with(writes: Writes, sink: Event, write: Write, keeper: Keeper) -> set[int]:
    """What the pass goes through where the write has happened, and with it what it writes to was computed."""
    made = write.old in writes.behind(keeper.node)
    return writes.walked_with(sink, write.mark, *((keeper.node,) if made else ()))


def needs(writes: Writes, keeper: Keeper) -> bool:
    """Whether what it keeps is needed at all: a factor is where the other one learns."""
    return writes.requires(keeper.node) and (not keeper.others or any(map(writes.requires, keeper.others)))


def report(writes: Writes, write: Write, keeper: Keeper, sink: Event, later: bool) -> Report:
    q = writes.q
    place, asked = q.graph[keeper.node].place, sink.place("call")
    target = write.event.place("target")
    name = f"`{shortened(q.text_of(target))}`" if target is not None else f"the input of `{write.name}`"
    who = f"`{q.text(keeper.node)}`" if place is not None else "an operation"
    keeps = f"its {keeper.what}"
    when = " of the turn before" if later else ""
    path: list[tuple[str, Place]] = [] if place is None else [(f"this keeps {keeps} for backward", place)]
    path.append(("this writes over it", write.where))
    if asked is not None:
        path.append(("and this needs it", asked))
    backward = "the backward pass" if sink.kind == "return" else f"the backward pass of {q.sink_text(sink)}"
    return RULE.report(
        SEVERITY["raises"],
        f"{name} is written to in place, and {backward} needs it as it was: {who}{when} keeps {keeps}. "
        f'Raises "{RAISED}"',
        write.where,
        tuple(path),
        (("keeper", place),) if place is not None else (),
        (("what", keeper.what), ("recorded", "yes" if writes.recorded(write) else "")),
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    where, keeper, unsafe = finding.where, finding.place("keeper"), Applicability.UNSAFE
    ways = [
        ("Draw into a new tensor", unsafe, surgery.drawn_anew, where),
        ("Write into a copy (what else holds it stays as it is)", unsafe, surgery.copied_first, where),
    ]
    if not finding.fact("recorded"):
        # Out of place it would change nothing, or be cut.
        title = "Compute it where autograd sees it, out of `no_grad`"
        ways.insert(0, (title, unsafe, surgery.seen_outside, where))
    else:
        if keeper is not None and finding.fact("what") == "result" and keeper != where:
            ways.insert(0, ("Write to a copy", Applicability.SAFE, surgery.cloned, keeper))
        title = "Make a new tensor instead of writing in place"
        ways.insert(0, (title, unsafe, surgery.out_of_place, where))
    for title, applicability, made, place in ways:
        edits = made(source, place)
        if not isinstance(edits, surgery.Refusal):
            yield Fix(title, applicability, edits)
            return


RULE = Rule("GS502", "in-place-on-what-backward-needs", check, fix)
