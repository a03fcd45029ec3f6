"""Writes in place, and the backward passes behind them.

Says what surely happens: a write and a pass of which one may do without the other are not brought together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from gradsight import memory
from gradsight.domain import Edge
from gradsight.graph import Place
from gradsight.interpret.state import Event
from gradsight.memory import Keeper
from gradsight.model import kept
from gradsight.protocol import branches, entry, loops
from gradsight.queries import LEARNING, Queries

# Layers whose weight is needed for the gradient of their input.
WEIGHING = frozenset(
    {"Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "GRUCell"}
)
MOST_JOINS = 64  # that one question looks through


@dataclass(frozen=True, slots=True)
class Write:
    """A write in place. `mark`: what has a higher number came later; `old`: what was written to."""

    at: int
    event: Event
    mark: int
    old: int
    where: Place

    @property
    def name(self) -> str:
        return self.event.fact("name")


def writes_of(queries: Queries) -> Writes:
    """The writes of a program, found once for all rules."""
    if queries.writes is None:
        queries.writes = Writes(queries)
    return queries.writes


class Writes:
    """The writes of one program."""

    def __init__(self, q: Queries) -> None:
        self.q, self.graph = q, q.graph
        self.all = tuple(self._find())
        # What a write left lies in the memory of what it found; a mark is no value.
        self.before = {
            one.mark: one.old for one in self.all if one.mark >= 0 and self.graph[one.mark].kind != "mark"
        }
        self._walked: dict[int, set[int]] = {}
        self._behind: dict[int, set[int]] = {}

    def _find(self) -> Iterator[Write]:
        for at, event in self.q.numbered("written"):
            where = event.place("call")
            if where is not None and event.nodes:
                yield Write(at, event, event.node, event.nodes[0], where)

    def recorded(self, write: Write) -> bool:
        """Whether autograd sees a write."""
        if write.old < 0:
            return write.event.fact("grad") == "on"
        hidden = memory.taken(self.graph, write.old, self.before, ("data", "detach"))
        return write.event.fact("grad") == "on" and hidden < 0

    def keepers(self, write: Write) -> Iterator[Keeper]:
        """Who has kept what a write writes over: found in the whole program, or known where it stands."""
        found = (
            {k.node: k for k in memory.keepers(self.graph, write.old, self.before, write.mark)}
            if write.old >= 0
            else {}
        )
        numbers = iter(write.event.nodes[1:])
        for word in write.event.fact("kept").split():
            what, _, count = word.partition(":")
            node = next(numbers)
            others = tuple(next(numbers) for _ in range(int(count)))
            found.setdefault(node, Keeper(node, what, others))
        for keeper in self._of_arms(write.old) if write.old >= 0 else ():
            found.setdefault(keeper.node, keeper)
        yield from found.values()

    def keepers_of(self, write: Write, value: int) -> Iterator[Keeper]:
        """Who has kept a value before a write, found in the whole program."""
        yield from memory.keepers(self.graph, value, self.before, write.mark)
        yield from self._of_arms(value)

    def _of_arms(self, value: int) -> Iterator[Keeper]:
        """Who keeps what one arm of a branch has bound: only what that arm's value was made with or from."""
        top = memory.origin(self.graph, value, self.before)
        for number in set(self.graph[top].inputs) if self.graph[top].kind == "join" else ():
            if number >= 0 and self.graph[number].kind == "op":
                for keeper in memory.keepers(self.graph, number, self.before, top):
                    if number in self.behind(keeper.node):
                        yield keeper

    def later_keepers(self, write: Write) -> Iterator[tuple[Keeper, int]]:
        """Who keeps what the next turn of a loop writes over, and how deep in loops that loop stands."""
        loop = memory.carried(self.graph, write.old, self.before)  # -1 of a tensor without a node
        if loop < 0:
            return
        depth = len(self.graph[loop].loops)
        inside = loops(write.event)[: depth + 1]
        if len(inside) <= depth:
            return
        for keeper in memory.keepers(self.graph, loop, self.before, len(self.graph)):
            node = self.graph[keeper.node]
            if keeper.node > write.mark and node.loops[: depth + 1] == inside:
                yield keeper, depth

    def weight_keepers(self, write: Write, weights: int) -> Iterator[Keeper]:
        """Who has kept weights that a write changes: layers and products whose other operand learns."""
        sources = {n for n in self.graph.feeding(weights, (Edge.LIVE,)) if self.graph[n].kind == "source"}
        target = write.event.place("target")
        bias = target is not None and "bias" in self.q.text_of(target)
        for number in range(min(sources, default=write.mark), write.mark):
            node = self.graph[number]
            name = node.op.rpartition(".")[2]
            if node.off or not node.saves or (node.note == "module" and bias):
                continue
            if name not in kept.OTHER and not (node.note == "module" and name in WEIGHING):
                continue
            live = [i for i, edge in zip(node.inputs, node.edges, strict=False) if edge is Edge.LIVE]
            others = tuple(i for i in live if i not in sources)
            if len(others) < len(live) and others:
                yield Keeper(number, "weight", others)

    def passes(self, write: Write) -> Iterator[Event]:
        """The backward passes that come behind a write, if it happens: surely, or with what it has left."""
        own = write.event
        for event in self.q.events[write.at + 1 :]:
            if event.kind not in ("backward", "grad", "return") or event.fact("off"):
                continue
            if entry(event) != entry(own):
                continue
            if not branches(own) <= branches(event):
                if write.mark < 0 or self.behind(write.mark).isdisjoint(self.q.roots(event)):
                    continue
            around, behind = loops(own), loops(event)
            if around[: len(behind)] == behind or behind[: len(around)] == around:
                yield event

    def behind(self, number: int) -> set[int]:
        """What a value was computed into: these nodes are there only if it was."""
        known = self._behind.get(number)
        if known is None:
            known = self._behind[number] = {number}
            for at in range(number + 1, len(self.graph)):
                if not known.isdisjoint(self.graph[at].inputs):
                    known.add(at)
        return known

    def walked(self, sink: Event) -> set[int]:
        """The operations that surely lie between a backward pass and its sources: it goes through those that
        require a gradient."""
        known = self._walked.get(id(sink))
        if known is None:
            known = self._walked[id(sink)] = self._walk(self.q.roots(sink), {}, frozenset())
        return known

    def walked_with(self, sink: Event, *happened: int) -> set[int]:
        """The same if some nodes were computed: where branches come together, the arms that such a node went
        into were taken."""
        arms = frozenset().union(*(self.behind(number) for number in happened if number >= 0))
        if not any(self.graph[number].kind == "join" for number in arms):
            return self.walked(sink)
        return self._walk(self.q.roots(sink), {}, arms)

    def used_behind(self, write: Write, shared: set[int]) -> dict[int, int]:
        """What surely computes with the numbers that a write left, on the way to each node that has such a
        way: in every arm where branches come together, whichever operation it is there.

        Args:
            shared: the nodes in the written memory.
        """
        behind = self.behind(write.mark)
        holding = {write.mark, *shared}
        found: dict[int, int] = {}
        for number in sorted(behind):
            node = self.graph[number]
            if node.kind in ("join", "loop"):
                if not holding.isdisjoint(node.inputs):
                    holding.add(number)
                taken = [i for i in node.inputs if i in behind and i not in self._unseen]
                taken = taken[:1] if node.kind == "loop" else taken
                if taken and all(i in found for i in taken):
                    found[number] = found[taken[0]]
                continue
            live = [i for i, edge in zip(node.inputs, node.edges, strict=False) if edge is Edge.LIVE]
            if number not in holding and any(i in holding and self.requires(i) for i in live):
                found[number] = number
            elif ways := [found[i] for i in live if i in found]:
                found[number] = ways[0]
        return found

    def _walk(self, tops: tuple[int, ...], joins: dict[int, set[int]], arms: frozenset[int]) -> set[int]:
        out: set[int] = set()
        stack = list(tops)
        while stack:
            number = stack.pop()
            if number in out or number < 0:
                continue
            node = self.graph[number]
            if node.kind == "join":
                taken = [i for i in node.inputs if i in arms] or node.inputs
                taken = [i for i in taken if i not in self._unseen] or taken
                if number not in joins and len(joins) < MOST_JOINS and all(i >= 0 for i in taken):
                    joins[number] = set()
                    joins[number] = set.intersection(*(self._walk((i,), joins, arms) for i in taken))
                out |= joins.get(number, set())
                continue
            if node.kind == "loop":
                stack += node.inputs[:1]  # what the first turn found
                continue
            if node.kind != "op":
                continue
            out.add(number)
            stack += [i for i, edge in zip(node.inputs, node.edges, strict=False) if edge is Edge.LIVE]
        return out

    def requires(self, number: int) -> bool:
        """Whether a value surely requires a gradient, be it for one reason or, by branch, for another."""
        return number in self._requiring

    @property
    def _requiring(self) -> frozenset[int]:
        return self._learning[0]

    @property
    def _unseen(self) -> frozenset[int]:
        """What code that is not seen makes of values that require a gradient: nothing is known of it."""
        return self._learning[1]

    @cached_property
    def _learning(self) -> tuple[frozenset[int], frozenset[int]]:
        out: set[int] = set()
        unseen: set[int] = set()
        frozen = self.q.frozen
        for number, node in enumerate(self.graph.nodes):
            if node.kind == "source":
                learns = node.op in LEARNING and number not in frozen
            elif node.kind == "join":
                seen = [i for i in node.inputs if i not in unseen]
                learns = bool(seen) and all(i in out for i in seen)
            elif node.kind == "loop":
                learns = node.inputs[:1] != () and node.inputs[0] in out
            else:
                learns = any(
                    i in out and edge is Edge.LIVE for i, edge in zip(node.inputs, node.edges, strict=False)
                )
            if learns:
                out.add(number)
            elif Edge.UNKNOWN in node.edges and not node.off and not out.isdisjoint(node.inputs):
                unseen.add(number)
        return frozenset(out), frozenset(unseen)
