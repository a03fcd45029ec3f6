"""The static gradient graph of one activation: nodes, and how a value reaches its sources.

A node is an abstract value; its edges say per argument what happens to the gradient. Nodes are only ever
appended (the back edge of a loop is set once, when its body has been read), so a node's number is its
identity within the graph. `structure()` leaves places out: a summary that only moved is equal to what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gradsight.domain import PASSING, Edge, Reach, both, either


@dataclass(frozen=True, slots=True, eq=False)
class Here:
    """A place in the function itself: the position of its line in the region, and the ast node."""

    at: int
    node: Any


@dataclass(frozen=True, slots=True, eq=False)
class There:
    """A place inside a call: the call's own place, and which node of which summary."""

    call: Here | There | Within
    callee: Any  # the memo's key of the callee's summary
    node: Any  # its number, or (event, part) for a place that an event keeps


@dataclass(frozen=True, slots=True, eq=False)
class Within:
    """A place in a function that is named."""

    owner: str
    here: Here


Place = Here | There | Within


class Node:
    """One abstract value.

    kind: "op" | "join" (branches) | "loop" (initial value, then what the loop's body left) | "source" |
        "input" | "mark" (a point in time: what has a higher number came later)
    op: the operation's canonical name; for a source what it is ("parameter", "leaf", "argument", "call",
        "element", "laundered", "unknown"); for an input nothing
    cause: why its cut edges cut ("detach", "data", "numpy", "number", "rewrap", "no_grad", "integer", ...)
    saves: backward needs a value that this operation keeps
    note: further words of structure (a module's attribute, an argument's name, an element's loop)
    off: made while the gradient mode was off
    target: positions among the inputs that are a criterion's target
    loops: the numbers of the loops that it was made in, outermost first
    block: while the gradient mode was off, the block that switched it off; 0 for that of the caller
    """

    __slots__ = (
        "block",
        "cause",
        "edges",
        "inputs",
        "kind",
        "loops",
        "note",
        "off",
        "op",
        "place",
        "saves",
        "target",
    )

    def __init__(
        self,
        kind: str,
        op: str,
        inputs: tuple[int, ...] = (),
        edges: tuple[Edge, ...] = (),
        cause: str = "",
        place: Place | None = None,
        note: str = "",
        saves: bool = False,
        off: bool = False,
        target: tuple[int, ...] = (),
        loops: tuple[int, ...] = (),
        block: int = 0,
    ) -> None:
        self.kind, self.op, self.inputs, self.edges, self.cause = kind, op, inputs, edges, cause
        self.place, self.note, self.saves, self.off = place, note, saves, off
        self.target, self.loops, self.block = target, loops, block

    def structure(self) -> tuple[object, ...]:
        """Everything but the place."""
        return (
            self.kind,
            self.op,
            self.inputs,
            self.edges,
            self.cause,
            self.note,
            self.saves,
            self.off,
            self.target,
            self.loops,
            self.block,
        )

    def __repr__(self) -> str:
        edges = ", ".join(f"{i}:{e.value}" for i, e in zip(self.inputs, self.edges, strict=False))
        return f"<{self.kind} {self.op} [{edges}] {self.cause} {self.note}>"


class _Passing(dict[int, Reach]):
    """What is known about sources all of which pass on the whole gradient: most are so, and it is quick."""


class Graph:
    """Nodes of one activation, with the queries that the rules share."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.loops: tuple[int, ...] = ()  # the loops that what is added now stands in
        self._reach: dict[int, dict[int, Reach]] = {}
        self._first: dict[int, dict[int, Reach]] = {}

    def add(self, node: Node) -> int:
        if not node.loops:
            node.loops = self.loops
        self.nodes.append(node)
        return len(self.nodes) - 1

    def __getitem__(self, number: int) -> Node:
        return self.nodes[number]

    def __len__(self) -> int:
        return len(self.nodes)

    def close_loop(self, loop: int, back: int) -> None:
        """Give a loop node its back edge. Nothing may have been asked of the graph before."""
        node = self.nodes[loop]
        if back >= 0 and back != loop:
            node.inputs = (*node.inputs, back)
            node.edges = (*node.edges, Edge.LIVE)

    def reach(self, number: int) -> dict[int, Reach]:
        """Every source that the value depends on, with what is left of the way to it."""
        if number < 0:
            return {}
        known = self._reach.get(number)
        return known if known is not None else self._solve(number, self._reach, self._turn)

    def _turn(self, number: int) -> dict[int, Reach]:
        """The reach of a value within one turn of its loops, what is carried over left out."""
        known = self._first.get(number)
        return known if known is not None else self._solve(number, self._first, None)

    def _solve(
        self,
        number: int,
        memo: dict[int, dict[int, Reach]],
        carried: Callable[[int], dict[int, Reach]] | None,
    ) -> dict[int, Reach]:
        # Without the back edges of loops the graph has no cycle. Iterative: nested training loops are deep.
        stack: list[tuple[int, bool]] = [(number, False)]
        while stack:
            current, done = stack.pop()
            if current in memo:
                continue
            node = self.nodes[current]
            if done:
                memo[current] = self._combine(current, memo, carried)
                continue
            stack.append((current, True))
            inputs = node.inputs[:1] if node.kind == "loop" else node.inputs
            stack.extend((i, False) for i in inputs if i >= 0 and i not in memo)
        return memo[number]

    def _combine(
        self,
        number: int,
        memo: dict[int, dict[int, Reach]],
        carried: Callable[[int], dict[int, Reach]] | None,
    ) -> dict[int, Reach]:
        node = self.nodes[number]
        own: dict[int, Reach] = {}
        if node.kind in ("source", "input"):
            own = _Passing({number: PASSING})
            if not node.inputs:
                return own
        if node.kind == "join":
            maps = [memo.get(i, {}) if i >= 0 else {} for i in node.inputs]
            if maps and all(
                one is maps[0] or (type(one) is _Passing is type(maps[0]) and one.keys() == maps[0].keys())
                for one in maps
            ):
                return maps[0]
            out: dict[int, Reach] = {}
            for source in {key: None for one in maps for key in one}:
                reach: Reach | None = maps[0].get(source)
                for other in maps[1:]:
                    reach = either(reach, other.get(source))
                if reach is not None:
                    out[source] = reach
            return out
        if node.kind == "loop":
            out = dict(memo.get(node.inputs[0], {})) if node.inputs and node.inputs[0] >= 0 else {}
            for i in node.inputs[1:] if carried is not None else ():
                for source, kept in carried(i).items():  # type: ignore[misc]
                    # What earlier iterations lost is no finding of this one; what they kept alive is.
                    if kept.live and source not in out:
                        out[source] = either(Reach(live=kept.live, unknown=kept.unknown), None)
            return out
        out = own
        shared = False  # whether it is another node's
        for i, edge in zip(node.inputs, node.edges, strict=False):
            if i < 0 or edge is Edge.NONE:
                continue
            reaches = memo.get(i)
            if not reaches or reaches is out:
                continue
            if edge is Edge.LIVE:
                if not out:
                    out, shared = reaches, True  # most operations have one operand that learns
                    continue
                if type(out) is _Passing is type(reaches):
                    if not out.keys() >= reaches.keys():
                        out, shared = _Passing(out) if shared else out, False
                        out.update(reaches)
                    continue
                if shared or type(out) is _Passing:
                    out, shared = dict(out), False
                for source, seen in reaches.items():
                    had = out.setdefault(source, seen)
                    if had is not seen:
                        out[source] = both(had, seen)
                continue
            if shared or type(out) is _Passing:
                out, shared = dict(out), False
            for source, seen in reaches.items():
                behind = seen.along(edge, number)
                if behind is not None:
                    old = out.get(source)
                    out[source] = behind if old is None else both(old, behind)
        return out

    def feeding(self, number: int, edges: Iterable[Edge]) -> Iterator[int]:
        """Every node that the value depends on along the given kinds of edge, itself first."""
        allowed = tuple(edges)  # hashing an Enum takes longer than comparing it with all others
        nodes = self.nodes
        seen: set[int] = set()
        stack = [number] if number >= 0 else []
        while stack:
            current = stack.pop()
            if current in seen:
                continue
            seen.add(current)
            yield current
            node = nodes[current]
            for i, edge in zip(node.inputs, node.edges, strict=False):
                if i >= 0 and i not in seen and edge in allowed:
                    stack.append(i)

    def fed(self, numbers: Iterable[int]) -> Iterator[int]:
        """Every node that depends on one of the given ones, these left out; what loops carry over is not
        followed."""
        behind = {number for number in numbers if number >= 0}
        for number in range(min(behind, default=len(self.nodes)) + 1, len(self.nodes)):
            node = self.nodes[number]
            if node.kind != "loop" and not behind.isdisjoint(node.inputs) and number not in behind:
                if any(
                    i in behind and edge is not Edge.NONE
                    for i, edge in zip(node.inputs, node.edges, strict=False)
                ):
                    behind.add(number)
                    yield number

    def way(self, source: int, sink: int) -> tuple[int, ...]:
        """A shortest way from the source to the sink along any dependency, both included; () for none."""
        previous: dict[int, int] = {sink: sink}
        queue = [sink]
        for current in queue:
            if current == source:
                out = [current]
                while previous[out[-1]] != out[-1]:
                    out.append(previous[out[-1]])
                return tuple(out)
            node = self.nodes[current]
            for i, edge in zip(node.inputs, node.edges, strict=False):
                if i >= 0 and edge is not Edge.NONE and i not in previous:
                    previous[i] = current
                    queue.append(i)
        return ()

    def copy_into(
        self,
        target: Graph,
        keep: Iterable[int],
        place: Callable[[int], Place],
        inputs: dict[int, int],
        loops: tuple[int, ...] = (),
        offset: int = 0,
        block: int = 0,
    ) -> dict[int, int]:
        """Append the kept nodes to another graph; returns where each went.

        `inputs` says what stands for an input; the copies stand in `loops`, and their own loops are numbered
        from `offset` on.
        """
        moved = dict(inputs)
        moved[-1] = -1
        find, nodes, added = moved.get, self.nodes, target.nodes
        later: list[tuple[Node, Node]] = []
        for number in keep:
            if number in moved:
                continue
            node = nodes[number]
            note = str(int(node.note) + offset) if node.op == "element" and node.note else node.note
            own = (*loops, *[loop + offset for loop in node.loops]) if node.loops else loops
            inner = node.block + offset if node.block else block if node.off else 0
            copy = Node(
                node.kind,
                node.op,
                tuple([find(i, -1) for i in node.inputs]),
                node.edges,
                node.cause,
                place(number),
                note,
                node.saves,
                node.off,
                node.target,
                own or target.loops,
                inner,
            )
            moved[number] = len(added)
            added.append(copy)
            if node.kind == "loop":
                later.append((node, copy))  # its back edge comes from further down
        for node, copy in later:
            copy.inputs = tuple([find(i, -1) for i in node.inputs])
        return moved
