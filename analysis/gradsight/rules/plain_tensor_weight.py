"""
A weight that is a plain tensor.

## What it does
Flags a tensor kept on a module that stands where a weight or bias stands but is no `nn.Parameter`: an
optimizer takes the `parameters()` of a module that owns none, a random (or `requires_grad=True`) attribute
that nothing writes again is multiplied with the input, or a loss gives a `requires_grad=True` attribute a
gradient while every optimizer is known and none holds it.

## Why is this bad?
A plain tensor is in neither `parameters()` nor `state_dict()`, and `.to(device)` leaves it behind. The
optimizer never sees it: at best it raises "optimizer got an empty parameter list", at worst everything else
trains and this weight never moves. `requires_grad=True` alone does not help.

## Use instead
`nn.Parameter(torch.randn(3, 4))` if it should learn, `self.register_buffer("name", …)` if it should not.

```python
self.weight = torch.randn(3, 4, requires_grad=True)  # no optimizer ever sees it
self.weight = nn.Parameter(torch.randn(3, 4))
```

## When it is right
Constants, masks, noise, running statistics, attributes handed to the optimizer by name. None of these is
flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import Edge, Tri
from gradsight.finding import Applicability, Finding, Fix, Severity
from gradsight.graph import Node, Place
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.queries import KEEPING, Queries
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.text import Source

PRODUCTS = ("matmul", "mm", "bmm", "linear", "einsum", "conv1d", "conv2d", "conv3d", "addmm", "mv", "dot",
            "bilinear", "baddbmm", "tensordot", "inner", "embedding",
            "conv_transpose2d", "conv_transpose1d")  # fmt: skip
THROUGH = ("t", "T", "mT", "transpose", "permute", "unsqueeze", "squeeze", "view", "reshape", "expand",
           "normalize", "__getitem__", "H", "contiguous", "expand_as", "repeat", "index_select",
           "data")  # fmt: skip


USES = ("forward", "__call__", "training_step")  # what is kept there is a result, no weight


def check(q: Queries) -> Iterator[Report]:
    empty = owners_of_nothing(q)
    held = {n for event in q.all("optimizer") for n in event.nodes}
    hopeless = {
        n
        for sink in q.sinks
        for root in q.roots(sink)
        if sink.kind == "backward" and sink.fact("kind") == "tensor" and not q.is_live(root, sink)
        for n in q.feeding(root, (Edge.LIVE,))
    }
    forgotten = missed(q)
    weights: dict[int, Event] = {}
    beside: list[Event] = []
    for event in q.all("attribute"):
        if event.place("value") is None or event.node in held or event.fact("stores") not in ("0", "1"):
            continue
        if event.fact("origin") == "constant":
            continue
        owner = event.oids[0] if event.oids else -1
        position = weight_position(q, event.node)
        learns = event.fact("origin") in ("leaf", "computed parameter")
        random = learns or "rand" in event.fact("origin") or "normal" in event.fact("origin")
        if owner in empty and (position or random):
            weights.setdefault(event.node, event)
        elif (
            not event.fact("method").endswith(USES)
            and (random or event.fact("origin") == "torch.empty")
            and position == "product"
        ):
            weights.setdefault(event.node, event)
        elif learns and (position == "sum" or event.node in forgotten):
            beside.append(event)
    modules = {event.oids[0] for event in weights.values() if event.oids}
    for event in beside:  # a bias beside a weight, or a leaf that only its module knows
        if event.oids and (event.oids[0] in modules or event.node in forgotten):
            weights.setdefault(event.node, event)
    for event in weights.values():
        where = event.place("value")
        assert where is not None
        if event.fact("origin") == "computed parameter":
            continue  # a parameter until something was computed with it: said by GS404
        if event.oids and event.oids[0] in empty:
            yield report(
                event,
                where,
                SEVERITY["raises"],
                "the module owns no parameter, so the optimizer raises "
                '"optimizer got an empty parameter list"',
            )
        elif event.node in hopeless:
            yield report(
                event,
                where,
                SEVERITY["raises"],
                f'nothing that the loss depends on requires a gradient, so `backward` raises "{wording.E0}"',
            )
        elif event.fact("origin") == "leaf":
            yield report(
                event,
                where,
                SEVERITY["wrong"],
                "`requires_grad=True` gives it a gradient, but `parameters()` does not list it, "
                "so no optimizer moves it",
            )
        else:
            yield report(
                event,
                where,
                SEVERITY["wrong"],
                "it is not in `parameters()` and requires no gradient, so it keeps its first random values",
            )


def owners_of_nothing(q: Queries) -> frozenset[int]:
    """Modules without any parameter that an optimizer takes its parameters from."""
    return frozenset(
        oid
        for event in q.all("optimizer")
        if not event.nodes and not event.fact("unknown")
        for oid in event.oids[1:]
    )


def missed(q: Queries) -> frozenset[int]:
    """Leaves that a loss surely gives a gradient, where every optimizer is known and none holds them."""
    if not q.optimizers or any(event.fact("unknown") for event in (*q.optimizers, *q.all("step"))):
        return frozenset()
    by_hand = {n for event in q.all("read") for m in event.nodes for n in q.feeding(m, (Edge.LIVE,))}
    return frozenset(
        source
        for sink in q.sinks
        if sink.kind == "backward"
        for root in q.roots(sink)
        for source, reach in q.graph.reach(root).items()
        if reach.live is Tri.MUST
        and not reach.unknown
        and q.graph[source].op == "leaf"
        and source not in q.held
        and source not in by_hand
    )


def weight_position(q: Queries, number: int) -> str:
    """How it is used.

    "product": it meets something else in a matrix product, a convolution or the like (a gathered row in an
    elementwise one); "sum": it is added or multiplied elementwise; "" where it is not used.
    """
    best = ""
    frontier = {number}
    for user, node in enumerate(q.graph.nodes):
        used = [i for i in node.inputs if i in frontier]
        if not used or node.kind != "op":
            continue
        last = node.op.rpartition(".")[2]
        if last in PRODUCTS:
            return "product"
        if last in THROUGH or node.op in KEEPING or node.op == "module":
            frontier.add(user)
            if last in ("__getitem__", "index_select"):
                best = "product" if gathered(q, user) else best or "sum"
            continue
        if last in ("mul", "add", "sub", "div"):
            best = best or "sum"
            if last == "mul" and leaf(q, number) and len(node.inputs) > 1:
                best = "product"
        elif len([edge for edge in node.edges if edge is Edge.LIVE]) > 1:
            best = best or "sum"
    return best


def gathered(q: Queries, row: int) -> bool:
    """Rows of a table that meet something else in a product: an embedding by hand."""
    return any(
        row in node.inputs and node.op.rpartition(".")[2] in ("mul", *PRODUCTS)
        for node in q.graph.nodes
        if node.kind == "op"
    )


def leaf(q: Queries, number: int) -> bool:
    node: Node = q.graph[number]
    return node.op == "leaf"


def report(event: Event, where: Place, severity: Severity, consequence: str) -> Report:
    name = f"self.{event.fact('name')}"
    return RULE.report(
        severity,
        f"`{name}` is a plain tensor where a weight stands: {consequence}",
        where,
        ((f"`{name}` is made here", where),),
        (("value", where),),
        (("name", event.fact("name")),),
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    parameter = surgery.as_parameter(source, finding.where)
    if not isinstance(parameter, surgery.Refusal):
        yield Fix("Make it an `nn.Parameter` (it learns)", Applicability.UNSAFE, parameter)
    buffer = surgery.as_buffer(source, finding.where)
    if not isinstance(buffer, surgery.Refusal):
        yield Fix(
            "Register it as a buffer (it stays fixed, but moves and is saved with the module)",
            Applicability.UNSAFE,
            buffer,
        )


RULE = Rule("GS401", "plain-tensor-weight", check, fix)
