"""
A write in place that autograd does not see.

## What it does
Flags arithmetic in place on a computed tensor through `.data` or `.detach()`, or under `torch.no_grad()`,
where a loss is computed with the changed numbers, or where `.data` changes what an operation has kept for
backward.

## Why is this bad?
The numbers change and the graph does not know: the gradients are those of the numbers before. A mask that was
multiplied in through `.data` lets the gradient of what it hides pass. Nothing is raised.

## Use instead
The operation itself, on the tensor itself, where gradients are recorded.

```python
hidden = hidden * mask  # instead of hidden.data.mul_(mask)
```

A view that has lost its graph is left to people: whether the original was meant to change is not known.

## When it is right
Weights between a backward pass and the next forward pass: `w.data.clamp_()` behind `optimizer.step()`, moving
averages, initialisation. Scores that are set to minus infinity before a softmax, whose gradient is zero
there anyway. Numbers that are copied in on purpose while the gradient passes as if nothing had been, as in
straight-through estimators. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import memory, surgery
from gradsight.domain import Edge
from gradsight.finding import Applicability, Finding, Fix
from gradsight.graph import Place
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.queries import LEARNING, Queries, shortened
from gradsight.rule import Report, Rule
from gradsight.rules.writes import Write, Writes, writes_of
from gradsight.text import Source

# What is computed from the numbers that stand there. Copies, draws and rounding are not among these: who
# writes them past autograd most often means that.
ARITHMETIC = frozenset({
    "add_", "sub_", "mul_", "div_", "pow_", "clamp_", "clip_", "clamp_min_", "clamp_max_", "neg_", "abs_",
    "exp_", "log_", "sqrt_", "square_", "relu_", "sigmoid_", "tanh_", "masked_fill_", "[]", "zero_", "fill_",
    "addcmul_", "addcdiv_", "multiply_", "divide_", "subtract_", "true_divide_", "tril_", "triu_",
})  # fmt: skip
TWINS = ARITHMETIC - {"[]", "zero_", "fill_"}  # that are there as operations that make a new tensor


def check(q: Queries) -> Iterator[Report]:
    if not q.has("written"):
        return
    writes = writes_of(q)
    said: set[int] = set()
    for write in writes.all:
        if write.name not in ARITHMETIC or write.event.fact("given") == "hidden":
            continue
        if write.event.fact("expected") or write.old < 0:
            continue
        found = unseen(writes, write)
        if found is not None and (syntax := id(q.syntax_of(write.where))) not in said:
            said.add(syntax)
            yield report(q, write, *found)


def unseen(writes: Writes, write: Write) -> tuple[str, int, Event] | None:
    """By what the write is hidden, what computes with its numbers, and the pass that goes back through it."""
    graph = writes.graph
    data = memory.taken(graph, write.old, writes.before, ("data",))
    value = data if data >= 0 else memory.taken(graph, write.old, writes.before, ("detach",))
    by = "data" if data >= 0 else "detach" if value >= 0 else ""
    if write.event.fact("grad") == "off":
        value, by = (value, by) if value >= 0 else (write.old, "no_grad")
    if value >= 0 and by == "data" and are_weights(writes, value):
        return changed_weights(writes, write, value)
    if value < 0 or write.event.fact("leaf") or not computed(writes, value):
        return None
    kept = [k for k in writes.keepers_of(write, value) if writes.requires(k.node)]
    if by != "data" and kept:
        return None  # then it raises
    if by == "data" and follows(writes, write, value):
        return None
    root = memory.origin(graph, value, writes.before)
    shared = memory.sharing(graph, root, writes.before, len(graph))
    for sink in writes.passes(write):
        walked = writes.walked_with(sink, write.mark)
        for number in sorted(walked):
            if number > write.mark and number not in shared and uses(writes, number, shared):
                return by, number, sink
        for keeper in kept:
            if keeper.node in walked and all(map(writes.requires, keeper.others)):
                return by, keeper.node, sink
    used = writes.used_behind(write, shared)
    for sink in writes.passes(write) if used else ():
        for root in writes.q.roots(sink):
            if root in used:
                return by, used[root], sink
    return None


def follows(writes: Writes, write: Write, value: int) -> bool:
    """Whether the gradient follows a write after all: that of `exp` is its result, whatever scales it."""
    root = writes.graph[memory.origin(writes.graph, value, writes.before)]
    scaled = write.name in ("mul_", "div_", "zero_", "masked_fill_", "[]")
    return scaled and root.op.rpartition(".")[2] in ("exp", "exp_")


def are_weights(writes: Writes, value: int) -> bool:
    """A parameter or leaf, or one of those that a loop runs over."""
    graph = writes.graph
    if graph[value].kind != "source" and graph[value].op != "parameters":
        return False
    sources = [n for n in graph.feeding(value, (Edge.LIVE,)) if graph[n].kind == "source"]
    return bool(sources) and all(graph[n].op in LEARNING for n in sources)


def changed_weights(writes: Writes, write: Write, weights: int) -> tuple[str, int, Event] | None:
    """Weights that are changed through `.data` between the forward pass and its backward pass."""
    keepers = list(writes.weight_keepers(write, weights))
    for sink in writes.passes(write) if keepers else ():
        walked = writes.walked(sink)
        for keeper in keepers:
            if keeper.node in walked and any(map(writes.requires, keeper.others)):
                return "data", keeper.node, sink
    return None


def uses(writes: Writes, number: int, shared: set[int]) -> bool:
    node = writes.graph[number]
    return any(
        i in shared and edge is Edge.LIVE and writes.requires(i)
        for i, edge in zip(node.inputs, node.edges, strict=False)
    )


def computed(writes: Writes, value: int) -> bool:
    """Whether a value has a graph of its own: a parameter or leaf may be set to whatever somebody wants."""
    kind = writes.graph[memory.origin(writes.graph, value, writes.before)].kind
    return kind in ("op", "join") and writes.requires(value)


def report(q: Queries, write: Write, by: str, used: int, sink: Event) -> Report:
    target = write.event.place("target")
    name = f"`{shortened(q.text_of(target))}`" if target is not None else "this"
    hidden = {"data": "through `.data`", "detach": "through `.detach()`", "no_grad": "without gradients"}[by]
    place, asked = q.graph[used].place, sink.place("call")
    late = used < write.mark
    path: list[tuple[str, Place]] = [("autograd does not see this write", write.where)]
    if place is not None:
        path.insert(
            0 if late else 1, ("this has kept its numbers" if late else "this computes with it", place)
        )
    if asked is not None:
        path.append(("and this goes back through it", asked))
    loss = "the backward pass" if sink.kind == "return" else f"the backward pass of {q.sink_text(sink)}"
    return RULE.report(
        SEVERITY["wrong"],
        f"{name} is changed in place {hidden}, and autograd does not see it: {loss} "
        "gives the gradients of other numbers than the loss was computed with",
        write.where,
        tuple(path),
        (("target", target),) if target is not None else (),
        (("by", by), ("name", write.name)),
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    """`h.data.mul_(mask)` becomes `h = h * mask`: the same operation, seen."""
    if finding.fact("by") == "no_grad":
        moved = surgery.seen_outside(source, finding.where)
        if not isinstance(moved, surgery.Refusal):
            yield Fix("Compute it where autograd sees it, out of `no_grad`", Applicability.UNSAFE, moved)
        return
    part = surgery.written_to_copy(source, finding.where)
    if not isinstance(part, surgery.Refusal):
        yield Fix("Write into a copy that autograd sees", Applicability.UNSAFE, part)
        return
    if finding.fact("name") not in TWINS:
        return
    edits = surgery.seen_by_autograd(source, finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Compute it where autograd sees it", Applicability.UNSAFE, edits)


RULE = Rule("GS503", "write-that-autograd-does-not-see", check, fix)
