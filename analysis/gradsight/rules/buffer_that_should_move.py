"""
A tensor that stays on the CPU when its module moves.

## What it does
Flags a plain tensor that a module keeps and meets with what its parameters gave, where the module is moved to
what may be a GPU.

## Why is this bad?
`to(device)` and `cuda()` move parameters and buffers, and no plain attributes. On a GPU the operation raises
"Expected all tensors to be on the same device"; on the CPU, where the code was tried, it does not. The tensor
is also missing in `state_dict()`.

## Use instead
`register_buffer` makes it a part of the module that moves and is saved with it, and is not trained.

```python
self.pe = positions(length, width)  # stays on the CPU
self.register_buffer("pe", positions(length, width))
```

## When it is right
Tensors that are moved where they are used, numbers without dimensions, indices, modules that stay on the CPU.
None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import DEPENDING
from gradsight.finding import Applicability, Finding, Fix
from gradsight.graph import Node
from gradsight.interpret.state import Event
from gradsight.ownership import parameters, parts
from gradsight.policy import SEVERITY
from gradsight.queries import Queries, shortened
from gradsight.rule import Report, Rule
from gradsight.rules.plain_tensor_weight import USES
from gradsight.text import Source
from gradsight.values import node_of

# Operations of two tensors that have to be on one device.
MEETING = frozenset(
    ["add", "sub", "mul", "div", "matmul", "mm", "bmm", "addmm", "mv", "dot", "pow", "maximum", "minimum",
     "einsum", "linear", "conv1d", "conv2d", "conv3d", "cat", "stack", "baddbmm", "lerp", "dist", "cdist"]
)  # fmt: skip
# What gives a part or another shape of a tensor, on the same device.
STAYING = frozenset(
    ["__getitem__", "view", "reshape", "unsqueeze", "squeeze", "expand", "expand_as", "repeat", "t", "T",
     "mT", "transpose", "permute", "clone", "detach", "contiguous", "float", "narrow", "flatten", "module",
     "neg"]
)  # fmt: skip


def check(q: Queries) -> Iterator[Report]:
    moved = list(q.all("moved"))
    if not moved or any(not event.oids for event in moved):
        return
    heap = q.program.heap
    owners = {part: event for event in reversed(moved) for part in parts(heap, event.oids[0])}
    for event in q.all("attribute"):
        where = event.place("value")
        owner = event.oids[0] if event.oids else -1
        if owner not in owners or where is None or not is_left_behind(q, event):
            continue
        place = owners[owner].place("call")
        learning = parameters(heap, owners[owner].oids[0])
        met = next((node for node in meetings(q, event.node) if learns(q, node, learning)), None)
        if met is None or met.place is None or place is None:
            continue
        name = f"self.{event.fact('name')}"
        text, move = shortened(q.text_of(met.place)), shortened(q.text_of(place))
        yield RULE.report(
            SEVERITY["left"],
            f"`{name}` is a plain tensor, which `{move}` leaves on the CPU: on a GPU `{text}` raises "
            '"Expected all tensors to be on the same device"; register it as a buffer',
            where,
            (
                (f"`{name}` is made on the CPU here", where),
                ("the module moves without it here", place),
                ("and there it meets what has moved", met.place),
            ),
            (("value", where),),
        )


def is_left_behind(q: Queries, event: Event) -> bool:
    """Whether an attribute is a tensor made on the CPU, with dimensions, that is stored once."""
    origin = event.fact("origin")
    if not (origin == "constant" or origin.startswith("torch.")) or not event.fact("ranked"):
        return False
    if event.fact("stores") != "1" or event.fact("moves") or event.fact("devices"):
        return False
    if event.fact("method").endswith(USES):
        return False
    kept = q.program.heap[event.oids[0]].get(event.fact("name"))
    return node_of(kept) == event.node


def meetings(q: Queries, number: int) -> Iterator[Node]:
    """The operations in which a tensor, or a part of it, meets others that have to be on its device."""
    frontier = {number}
    for user, node in enumerate(q.graph.nodes):
        if node.kind != "op" or frontier.isdisjoint(node.inputs):
            continue
        last = node.op.rpartition(".")[2]
        if last in MEETING:
            yield node
        elif last in STAYING and node.inputs[0] in frontier:
            frontier.add(user)


def learns(q: Queries, node: Node, learning: frozenset[int]) -> bool:
    """Whether an operation surely computes with what a moved parameter gave."""
    return any(not learning.isdisjoint(q.feeding(number, DEPENDING)) for number in node.inputs if number >= 0)


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    edits = surgery.as_buffer(source, finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix(
            "Register it as a buffer, which moves and is saved with the module", Applicability.UNSAFE, edits
        )


RULE = Rule("GS406", "buffer-that-should-move", check, fix)
