"""
A target or a weight that learns along with what it is for.

## What it does
Flags a temporal-difference target (`reward + gamma * value`) that is computed with a gradient, where the step
moves the very network that it comes from; and an advantage that is not detached in a policy's loss, where the
same step moves the critic.

## Why is this bad?
A target should stand still while the value moves towards it. With a gradient through both, the target moves
towards the value as well, and learning is slow or wrong. A critic that gets the policy's gradient learns to
make the policy's loss small instead of being right. Nothing is raised, and every gradient is there.

## Use instead
Compute the target without gradients, and detach the advantage.

```python
with torch.no_grad():
    target = reward + gamma * value_net(next_state).squeeze(1)
value_loss = F.mse_loss(value_net(state).squeeze(1), target)
policy_loss = -(log_prob * advantage.detach()).mean()
```

Where no part of the target is surely meant to stay fixed, which is a hint, no fix is offered.

## When it is right
Residual gradients, which follow both sides on purpose. Targets of a network that no optimizer here holds, and
all that is detached, are not flagged.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradsight import model
from gradsight.domain import Edge
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.queries import KEEPING, LINEAR, Queries, shortened
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span

OF_TIME = re.compile(r"gamma|discount|reward|done|terminal|not_final|next", re.IGNORECASE)
CHOOSING = ("max", "amax", "min", "amin", "gather", "minimum")
DENSITY = "torch.distributions.log_prob"
DIRECT = ("exp", "neg", "clamp", "clip", "min", "minimum", "log", "gather", "select")


def check(q: Queries) -> Iterator[Report]:
    if not q.optimizers or q.has("grad"):
        return  # where gradients are asked for by themselves, both sides of an equation may be meant
    said: set[int] = set()
    for sink in q.all("backward"):
        stepped = q.stepped_after(sink) if not sink.fact("off") else None
        if not stepped:
            continue
        alive = {n for root in q.roots(sink) for n in q.feeding(root, (Edge.LIVE,))}
        terms = {n for root in q.roots(sink) for n in direct(q, root)}  # of a sum nothing is a target
        for number in sorted(alive):
            node = q.graph[number]
            if len(node.inputs) != 2 or node.edges != (Edge.LIVE, Edge.LIVE):
                continue
            name = called(node.op)
            if name == "mul":
                if number not in said and (side := advantage(q, number, stepped)) >= 0:
                    said.add(number)
                    yield from taught(q, sink, number, side, stepped)
            elif (name == "sub" and number not in terms) or model.criterion(node.op) is not None:
                for value, other in (node.inputs, node.inputs[::-1]):
                    moving = target(q, value, other, stepped)
                    if moving >= 0 and moving not in said:
                        said.add(moving)
                        yield from moved(q, sink, moving, other, stepped)


def called(op: str) -> str:
    """The last part of an operation's name."""
    return op.rpartition(".")[2]


def learning(q: Queries, number: int, stepped: frozenset[int]) -> set[int]:
    """What the step moves and surely has a live way to a value."""
    return {s for s, reach in q.graph.reach(number).items() if s in stepped and reach.surely_live}


def kept(q: Queries, number: int) -> int:
    """A value, behind what only changes its form."""
    while number >= 0:
        node = q.graph[number]
        if not (node.op in KEEPING or node.op == "module") or not node.inputs:
            break
        number = node.inputs[0]
    return number


# -- a target that moves


def target(q: Queries, value: int, other: int, stepped: frozenset[int]) -> int:
    """The sum in a temporal-difference target: data, and a scaled value of what the step moves; else -1."""
    total = kept(q, value)
    node = q.graph[total] if total >= 0 else None
    if node is None or called(node.op) != "add" or node.kind != "op":
        return -1
    live = [i for i in node.inputs if learning(q, i, stepped)]
    if len(live) != 1 or not learning(q, other, stepped):
        return -1
    scaled, factors = kept(q, live[0]), 0
    words = q.text_of(node.place) if node.place is not None else ""
    while called(q.graph[scaled].op) == "mul":
        below = [i for i in q.graph[scaled].inputs if learning(q, i, stepped)]
        if len(below) != 1:
            return -1
        place = q.graph[scaled].place
        words += f" {q.text_of(place)}" if place is not None else ""
        scaled, factors = kept(q, below[0]), factors + 1
    if not factors or node.place is None or q.graph[scaled].kind != "op":
        return -1
    chosen = any(chooses(q, number) for number in (scaled, kept(q, other)))
    return total if factors > 1 or chosen or OF_TIME.search(words) else -1


def chooses(q: Queries, number: int) -> bool:
    """Whether a value is that of one of several actions."""
    return number >= 0 and called(q.graph[number].op) in CHOOSING


def moved(q: Queries, sink: Event, number: int, other: int, stepped: frozenset[int]) -> Iterator[Report]:
    where = q.graph[number].place
    if where is None or not isinstance(q.syntax_of(where), ast.expr):
        return
    names = q.names(tuple(sorted(learning(q, number, stepped))))
    own = learning(q, number, stepped) - learning(q, other, stepped)
    learn = "learn" if " and " in names else "learns"
    yield RULE.report(
        SEVERITY["stopless"],
        f"{q.sink_text(sink)} also has a gradient through its target `{q.text_of(where)}`: "
        f"{names} {learn} to move the target to the value; compute it under `no_grad` or detach it",
        where,
        (),
        (),
        # A network of its own that only this target moves belongs into no optimizer: to detach is half of it.
        (("kind", "target"), ("own", "yes" if own else "")),
    )


# -- a weight that learns


def advantage(q: Queries, number: int, stepped: frozenset[int]) -> int:
    """Which factor of a policy's loss is an advantage through which the step moves a critic; else -1."""
    first, second = q.graph[number].inputs
    for side, (score, weight) in enumerate(((second, first), (first, second))):
        if not is_density(q, score) or is_density(q, weight):
            continue
        if learning(q, weight, stepped) - learning(q, score, stepped) and learning(q, score, stepped):
            if any(is_difference(q, n, stepped) for n in direct(q, weight)):
                return side
    return -1


def direct(q: Queries, number: int) -> Iterator[int]:
    """A value and what it is made of by sums, scaling, signs and bounds."""
    seen: set[int] = set()
    stack = [number]
    while stack and len(seen) < 24:
        at = stack.pop()
        if at < 0 or at in seen:
            continue
        seen.add(at)
        yield at
        node = q.graph[at]
        name = called(node.op)
        if node.op in KEEPING or node.op in LINEAR or name in DIRECT or name in ("mul", "div"):
            stack.extend(i for i, edge in zip(node.inputs, node.edges, strict=False) if edge is Edge.LIVE)


def is_density(q: Queries, number: int) -> bool:
    """Whether a value is a log-probability, or a ratio of such."""
    return any(q.graph[n].op == DENSITY or called(q.graph[n].op) == "log_softmax" for n in direct(q, number))


def is_difference(q: Queries, number: int, stepped: frozenset[int]) -> bool:
    """Whether a value is what came out minus what a critic said."""
    node = q.graph[number]
    return called(node.op) == "sub" and bool(learning(q, node.inputs[-1], stepped))


def taught(q: Queries, sink: Event, number: int, side: int, stepped: frozenset[int]) -> Iterator[Report]:
    where = q.graph[number].place
    written = q.syntax_of(where) if where is not None else None
    if where is None or not isinstance(written, ast.BinOp):
        return
    first, second = q.graph[number].inputs
    weight, score = (first, second) if side == 0 else (second, first)
    own = learning(q, weight, stepped) - learning(q, score, stepped)
    text = ast.unparse(written.left if side == 0 else written.right)
    names = q.names(tuple(sorted(own)))
    learn = "learn" if " and " in names else "learns"
    yield RULE.report(
        SEVERITY["stopless"],
        f"`{shortened(text)}` is not detached: {names} {learn} from the policy's loss too, to make it small "
        "instead of being right; detach it here",
        where,
        (),
        (),
        (("kind", "weight"), ("side", "left" if side == 0 else "right")),
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    text = source.slice(finding.where)
    if not text.isascii() or finding.fact("own"):
        return
    try:
        written = ast.parse(f"({text})", mode="eval").body
    except SyntaxError:
        return
    start, end = finding.where.start, finding.where.end
    if finding.fact("kind") == "weight":
        if not isinstance(written, ast.BinOp) or "\n" in text:
            return
        part = written.left if finding.fact("side") == "left" else written.right
        start, end = start + part.col_offset - 1, start + (part.end_col_offset or 0) - 1
        if source.text[start - 1 : start] == "(" and source.text[end : end + 1] == ")":
            start, end = start - 1, end + 1  # it stands in parentheses
        written = part
    covered = source.text[start] == "(" and source.text[end - 1] == ")" and finding.fact("kind") == "weight"
    simple = isinstance(written, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)) or covered
    edits: tuple[Edit, ...] = (Edit(source.file, Span(end, end), ".detach()"),)
    if not simple:
        opened = Edit(source.file, Span(start, start), "(")
        edits = (opened, Edit(source.file, Span(end, end), ").detach()"))
    yield Fix("Detach it: what it is computed from learns no more from here", Applicability.UNSAFE, edits)


RULE = Rule("GS110", "missing-stop-gradient", check, fix)
