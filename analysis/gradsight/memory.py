"""Which values of a graph lie in the same memory, and who keeps them for backward.

Everything here is certain or not said: a `reshape` may copy, a branch may bind another tensor, and neither
is followed. A write in place makes a new node; which nodes are such, and of what, the caller says (`writes`:
from the written value's node to that of what it was before).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from gradsight.domain import Edge
from gradsight.graph import Graph
from gradsight.model import kept

WHOLE = "whole"  # the note of a tensor after a part of it was written to
VIEW = "view"  # the note of a subscript that surely gives no copy


@dataclass(frozen=True, slots=True)
class Keeper:
    """A node that keeps something for backward: `what` it is ("result" or "input"), and the operands one of
    which must require a gradient for that."""

    node: int
    what: str
    others: tuple[int, ...]


def before(graph: Graph, number: int, writes: Mapping[int, int], data: bool = False) -> int:
    """The value in whose memory another one surely lies; -1 where it has a memory of its own, or may.

    Args:
        data: also through `.data`, which has the memory and no common count of what was written to it.
    """
    old = writes.get(number)
    if old is not None:
        return old
    node = graph[number]
    if node.kind == "loop":
        return node.inputs[0] if node.inputs else -1
    if node.kind != "op" or not node.inputs:
        return -1
    if node.note in (VIEW, WHOLE):
        return node.inputs[0]
    if node.op in ("module", "torch.nn.Identity"):
        return node.inputs[0] if node.edges[0] is Edge.LIVE else -1
    name = node.op.rpartition(".")[2]
    if len(node.inputs) == 1 and node.op.startswith("torch."):
        if name in kept.VIEWS or (data and name == "data"):
            return node.inputs[0]
    return -1


def origin(graph: Graph, number: int, writes: Mapping[int, int]) -> int:
    """The value that the memory of another one was made for."""
    while (above := before(graph, number, writes)) >= 0:
        number = above
    return number


def taken(graph: Graph, number: int, writes: Mapping[int, int], names: Collection[str]) -> int:
    """The value that something without a graph, and in the same memory, was taken of by one of these
    ("detach", "data"); -1 where there is none."""
    while (above := before(graph, number, writes, data=True)) >= 0:
        if number not in writes and graph[number].op.rpartition(".")[2] in names:
            return above
        number = above
    return -1


def sharing(graph: Graph, root: int, writes: Mapping[int, int], end: int) -> set[int]:
    """All values up to a node that lie in the memory of one, and share its count of what was written."""
    out = {root}
    for number in range(root + 1, end):
        if before(graph, number, writes) in out:
            out.add(number)
    return out


def carried(graph: Graph, number: int, writes: Mapping[int, int]) -> int:
    """The loop node in whose memory a value lies, where each turn hands that memory on; else -1."""
    while number >= 0:
        node = graph[number]
        if node.kind == "loop" and len(node.inputs) == 2:
            end = node.inputs[1]
            while end >= 0 and end != number:
                end = before(graph, end, writes) if graph[end].kind != "loop" else -1
            return number if end == number else -1
        number = before(graph, number, writes)
    return -1


def keepers(graph: Graph, old: int, writes: Mapping[int, int], end: int) -> Iterator[Keeper]:
    """What was computed before node `end` and keeps the memory of a value for backward."""
    root = origin(graph, old, writes)
    shared = sharing(graph, root, writes, end)
    for number in range(root, end):
        node = graph[number]
        if node.kind != "op" or node.off:
            continue
        if number in shared or not shared.isdisjoint(node.inputs):
            yield from _kept(graph, number, shared, writes)


def _kept(graph: Graph, number: int, shared: set[int], writes: Mapping[int, int]) -> Iterator[Keeper]:
    node = graph[number]
    name = node.op.rpartition(".")[2]
    first = 0
    if number in writes:
        name = name.rstrip("_")
        if name in kept.LEFT_IN_PLACE:
            yield Keeper(number, "result", ())
        if name not in kept.OTHER | kept.DIVISION:
            return
        first = 1  # what it writes to is kept as a copy, or not at all
    if name in kept.RESULT | kept.INPUT_AND_RESULT and number in shared and not first:
        yield Keeper(number, "result", ())
    live = [i for i, edge in zip(node.inputs, node.edges, strict=False) if i >= 0 and edge is Edge.LIVE]
    for position, operand in enumerate(node.inputs[first:], first):
        if operand not in shared or node.edges[position] is not Edge.LIVE:
            continue
        others = tuple(i for i in live if i != operand)
        if name in kept.INPUT | kept.INPUT_AND_RESULT:
            if position == 0:
                yield Keeper(number, "input", ())
        elif name in kept.POWER:
            if len(live) == 1:
                yield Keeper(number, "input", ())
        elif name in kept.BOTH or (name in kept.BOTH_OF_TWO and len(node.inputs) == 2):
            yield Keeper(number, "input", ())
        elif name in kept.BY_PARAMETERS:
            weights = others if node.note == "module" else _weights(graph, number)
            if position == 0 and weights:
                yield Keeper(number, "input", weights)
        elif name in kept.OTHER:
            if len(live) == 2 and others:
                yield Keeper(number, "input", others)
            elif node.inputs[0] == node.inputs[-1] and len(node.inputs) == 2:
                yield Keeper(number, "input", (operand,))  # `x * x`
        elif name in kept.DIVISION and len(live) == 2:
            if position == 1 or others:
                yield Keeper(number, "input", () if position == 1 else others)


def _weights(graph: Graph, number: int) -> tuple[int, ...]:
    """The parameters of a recurrent layer, of what it is given; none of what no module has."""
    node, behind = graph[number], number + 1
    if behind == len(graph) or node.op.rpartition(".")[2] not in kept.RECURRENT:
        return ()
    whole = graph[behind]
    made = whole.note == "module" and whole.op == node.op and whole.inputs[:1] == (number,)
    return whole.inputs[1:] if made else ()
