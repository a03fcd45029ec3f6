"""The order of things in training: gradients cleared, computed, stepped with, per optimizer.

Events stand in the order in which the program comes to them, each with the loops and branches around it.
Nothing here speaks of an optimizer that cannot be seen to be torch's own, or that code which is not seen may
have used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from gradsight.domain import DEPENDING, Edge, Tri
from gradsight.interpret.state import Event
from gradsight.queries import LEARNING, Queries
from gradsight.values import Ref, Seq, Value, node_of

MOST_NODES = 300  # of a graph that one question looks through
HELD = (*LEARNING, "call", "argument")  # what an optimizer may hold, models that are not seen among it


@dataclass(frozen=True, slots=True)
class Step:
    """One `step()` of an optimizer that is known; places are positions among the program's events."""

    at: int
    event: Event
    optimizer: Event
    held: frozenset[int]  # the parameters that it holds


def protocol_of(queries: Queries) -> Protocol:
    """The protocol of a program, made once for all rules."""
    if queries.protocol is None:
        queries.protocol = Protocol(queries)
    return queries.protocol


class Protocol:
    """One program's events, seen as a protocol."""

    def __init__(self, queries: Queries) -> None:
        self.q = queries
        self.events = queries.events
        self._passes: dict[frozenset[int], tuple[tuple[int, Event], ...]] = {}

    @cached_property
    def optimizers(self) -> dict[int, Event]:
        """Torch's own optimizers, by their object."""
        return {
            event.oids[0]: event
            for event in self.q.optimizers
            if event.oids and event.fact("name").startswith("torch.optim")
        }

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The steps of optimizers whose parameters are all known and that nobody else can have used."""
        known = (step for step in self.all_steps if not is_blind(step.event) and not is_blind(step.optimizer))
        return tuple(replace(step, held=held) for step in known if (held := self.parameters(step.event)))

    @cached_property
    def all_steps(self) -> tuple[Step, ...]:
        """The steps of optimizers that nobody else can have used. Some may hold more than is known, and some
        what a model is made of that is not seen: one source for all of its parameters."""
        return tuple(self._find_steps()) if self.optimizers else ()

    def _find_steps(self) -> Iterator[Step]:
        nodes = self.q.graph.nodes
        for at, event in self.q.numbered("step"):
            if len(event.oids) != 1:
                continue
            optimizer = self.optimizers.get(event.oids[0])
            if optimizer is None or self.escapes(event.oids[0]):
                continue
            held = frozenset(
                n for n in self._sources(event) if nodes[n].kind == "source" and nodes[n].op in HELD
            )
            if held:
                yield Step(at, event, optimizer, held)

    def parameters(self, event: Event) -> frozenset[int]:
        """The parameters and leaves that an event is about."""
        graph = self.q.graph
        return frozenset(
            n for n in self._sources(event) if graph[n].kind == "source" and graph[n].op in LEARNING
        )

    def escapes(self, oid: int) -> bool:
        """Whether code that is not seen has been given the object, or one that holds it."""
        return any(oid in self._behind(other) for event in self.q.all("escape") for other in event.oids)

    def leads_to(self, oid: int, other: int) -> bool:
        """Whether an object holds another one."""
        return other in self._behind(oid)

    def holds(self, oid: int, held: frozenset[int]) -> bool:
        """Whether an object holds some of these parameters."""
        heap = self.q.program.heap
        objects = (heap[one] for one in self._behind(oid) if one in heap)
        return any(node_of(value) in held for obj in objects for value in obj.held)

    def _behind(self, oid: int) -> set[int]:
        """An object and all that it holds."""
        seen: set[int] = set()
        stack: list[Value] = [Ref(oid)]
        while stack:
            value = stack.pop()
            if isinstance(value, Seq):
                stack += value.items
            if not isinstance(value, Ref) or value.oid in seen:
                continue
            seen.add(value.oid)
            obj = self.q.program.heap.get(value.oid)
            if obj is not None:
                stack += obj.held
        return seen

    def passes(self, held: frozenset[int]) -> tuple[tuple[int, Event], ...]:
        """The backward passes that surely give some of these parameters a gradient, with their positions."""
        known = self._passes.get(held)
        if known is None:
            known = self._passes[held] = tuple(self._find_passes(held))
        return known

    def _find_passes(self, held: frozenset[int]) -> Iterator[tuple[int, Event]]:
        for at, event in self.q.numbered("backward"):
            if event.fact("off") or event.fact("inputs"):
                continue
            if any(self.gives(top, held) for top in self.q.roots(event)):
                yield at, event

    def gives(self, top: int, held: frozenset[int]) -> bool:
        """Whether a gradient of this value surely reaches some of these parameters."""
        reaches = self.q.graph.reach(top)
        if any(source in held and reach.surely_live for source, reach in reaches.items()):
            return True
        maybe = sum(1 for source, reach in reaches.items() if source in held and reach.live is not Tri.NO)
        return maybe > 1 and self._gives_some(top, held, {})

    def _gives_some(self, number: int, held: frozenset[int], known: dict[int, bool]) -> bool:
        """Whether the gradient surely reaches one or the other: each branch has a model of its own."""
        if number < 0 or number in held or len(known) > MOST_NODES:
            return number in held
        if number not in known:
            known[number] = True  # what a loop carries over is given where it begins
            node = self.q.graph[number]
            behind = (
                self._gives_some(i, held, known)
                for i, edge in zip(node.inputs, node.edges, strict=False)
                if edge is Edge.LIVE
            )
            known[number] = all(behind) if node.kind in ("join", "loop") and node.inputs else any(behind)
        return known[number]

    def clears(self, step: Step) -> Iterator[tuple[int, Event]]:
        """What clears gradients of the step's optimizer, or may."""
        for at, event in self.q.numbered("zero"):
            if (
                event.fact("unknown")
                or step.event.oids[0] in event.oids
                or not step.held.isdisjoint(self._sources(event))
            ):
                yield at, event

    def _sources(self, event: Event) -> set[int]:
        return {n for number in event.nodes for n in self.q.feeding(number, (Edge.LIVE,))}

    def by_hand(self, event: Event, held: frozenset[int]) -> bool:
        """Whether the program reads or writes `.grad` of one of these parameters itself, or of what is not
        known to be another, in the loops that the event stands in.
        """
        around = loops(event)
        return any(
            loops(other)[: len(around)] == around and self._may_concern(other, held)
            for other in self.q.all("read", "zero")
            if other.kind == "read" or other.fact("by")
        )

    def _may_concern(self, event: Event, held: frozenset[int]) -> bool:
        graph = self.q.graph
        sources = [n for n in self._sources(event) if graph[n].kind == "source"]
        others = all(graph[n].op in LEARNING and n not in held for n in sources)
        return not sources or not others

    def names_only(self, *names: str) -> bool:
        """Whether one of these methods stands somewhere without being called: that is said already."""
        return any(event.fact("name") in names for event in self.q.all("uncalled"))

    @cached_property
    def reached(self) -> frozenset[int]:
        """All that any sink depends on, by whatever way."""
        tops = [top for sink in self.q.sinks for top in self.q.roots(sink)]
        return frozenset(number for top in tops for number in self.q.feeding(top, DEPENDING))

    def blind(self) -> bool:
        """Whether some sink may depend on what cannot be seen."""
        return any(sink.node < 0 for sink in self.q.sinks)


def is_blind(event: Event) -> bool:
    """Whether an optimizer may hold parameters that are not known."""
    return bool(event.fact("unknown"))


def loops(event: Event) -> tuple[int, ...]:
    """The loops that an event stands in, outermost first."""
    return tuple(number for kind, number, _ in event.context if kind == "l")


def entry(event: Event) -> tuple[int, ...]:
    """The methods and generators that an event happens in, of which nobody says when they run."""
    return tuple(number for kind, number, _ in event.context if kind == "m")


def branches(event: Event, loop: int | None = None) -> frozenset[tuple[int, int]]:
    """The arms of branches that an event stands in; within a loop, where one is given."""
    inside = loop is None
    found = set()
    for kind, number, arm in event.context:
        if kind == "l" and number == loop:
            inside = True
        elif kind == "b" and inside:
            found.add((number, arm))
    return frozenset(found)


def surely_with(event: Event, other: Event) -> bool:
    """Whether the event happens whenever the other does, in the same turn of every loop."""
    return (
        entry(event) == entry(other) and loops(event) == loops(other) and branches(event) <= branches(other)
    )
