"""In which mode each call of a module runs: `train()` and `eval()` replayed over a program's events.

A mode is known by the calls that may have set it last. A loop's body is gone through twice, so that what one
turn leaves is what the next one finds; arms of a branch are joined, those that leave are not. Code that is
not seen leaves any mode. Nothing here reads a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from gradsight import ownership
from gradsight.domain import DEPENDING, Edge
from gradsight.interpret.state import Event
from gradsight.interpret.summarize import measured
from gradsight.protocol import Step, loops, protocol_of
from gradsight.queries import Queries
from gradsight.values import Class, Const, Lib, node_of

MADE = -1  # a module is made in training mode
ANYBODY = -2  # somebody who is not seen may have set any mode

Setters = frozenset[int]  # positions of events, MADE, ANYBODY


def modes_of(queries: Queries) -> Modes:
    """The modes of a program, replayed once for all rules."""
    if queries.modes is None:
        queries.modes = Modes(queries)
    return queries.modes


@dataclass(slots=True)
class _State:
    """Who may have set the mode of each object last; `rest` for those that are not named."""

    rest: Setters = frozenset((MADE,))
    of: dict[int, Setters] = field(default_factory=dict)

    def fork(self) -> _State:
        return _State(self.rest, dict(self.of))

    def get(self, oid: int) -> Setters:
        return self.of.get(oid, self.rest)

    def join(self, other: _State) -> None:
        for oid in {*self.of, *other.of}:
            self.of[oid] = self.get(oid) | other.get(oid)
        self.rest |= other.rest


class Modes:
    """One program's events, seen as switches and calls of modules."""

    def __init__(self, queries: Queries) -> None:
        self.q = queries
        self.events = queries.events
        self.protocol = protocol_of(queries)
        self._parts: dict[int, frozenset[int]] = {}
        self._live: dict[int, frozenset[int]] = {}  # of each root, what it depends on with a gradient
        # Of each call, by position: in each turn that was gone through, who may have set each layer's mode.
        self.seen: dict[int, list[dict[int, Setters]]] = {}
        self._early: tuple[list[_State], list[_State]] = [], []  # what ends this turn, what ends its loop
        self._switches = [position for position, _ in queries.numbered("mode", "lent")]
        if queries.has("called"):
            self._run(0, len(self.events), 0, _State())

    # -- what there is

    @property
    def calls(self) -> Iterator[tuple[int, Event]]:
        """Calls of modules in which some layer's mode counts, with their positions."""
        return ((at, self.events[at]) for at in sorted(self.seen))

    def to(self, setter: int) -> str:
        """What a setter sets: "train", "eval" or "unknown"."""
        return (
            "train" if setter == MADE else "unknown" if setter == ANYBODY else self.events[setter].fact("to")
        )

    def all_to(self, setters: Setters, mode: str) -> bool:
        return bool(setters) and all(self.to(setter) == mode for setter in setters)

    def parts(self, oid: int) -> frozenset[int]:
        """A module and all that it holds."""
        known = self._parts.get(oid)
        if known is None:
            known = self._parts[oid] = frozenset(ownership.parts(self.q.program.heap, oid))
        return known

    def parameters(self, oid: int) -> frozenset[int]:
        """The parameters of a module."""
        return ownership.parameters(self.q.program.heap, oid)

    def kind(self, oid: int) -> str:
        """What a layer is: `Dropout`, also one in a library's model, or the class of the program whose own
        code asks for its mode."""
        cls = self.q.program.heap[oid].cls
        inside = self.q.program.heap[oid].get("@mode")
        if isinstance(inside, Const):
            return str(inside.value)
        return (
            cls.name.rpartition(".")[2] if isinstance(cls, Lib) else cls.cid if isinstance(cls, Class) else ""
        )

    def switched_in(self, loop: int, oid: int) -> Iterator[tuple[int, Event]]:
        """The switches within a loop that may concern an object, with their positions."""
        for at, event in enumerate(self.events):
            if event.kind in ("mode", "lent") and loop in loops(event):
                if not event.oids or any(oid in self.parts(one) for one in event.oids):
                    yield at, event

    # -- training and measuring

    @cached_property
    def trainings(self) -> tuple[tuple[int, Step], ...]:
        """The backward passes and the steps that take their gradients."""
        return tuple(self._find_trainings())

    def _find_trainings(self) -> Iterator[tuple[int, Step]]:
        for step in self.protocol.steps:
            clears = [at for at, _ in self.protocol.clears(step)]
            for at, _ in self.protocol.passes(step.held):
                if at < step.at and not any(at < clear < step.at for clear in clears):
                    yield at, step

    def trained_by(self, call: Event) -> Iterator[tuple[int, Step]]:
        """The passes that go back through a call."""
        for at, step in self.trainings:
            tops = self.q.roots(self.events[at])
            if any(n in self._alive(top) for top in tops for n in call.nodes):
                yield at, step

    def _alive(self, top: int) -> frozenset[int]:
        known = self._live.get(top)
        if known is None:
            known = self._live[top] = frozenset(self.q.feeding(top, (Edge.LIVE,)))
        return known

    def learns(self, oid: int, at: int, step: Step) -> bool:
        """Whether a backward pass surely gives parameters of a module a gradient that the step takes."""
        own = self.parameters(oid) & step.held
        return any(self.protocol.gives(top, own) for top in self.q.roots(self.events[at]))

    def is_measured(self, at: int, call: Event) -> bool:
        """Whether what a call gave is compared with something or becomes a number, and nothing learns by it.

        With gradients on, only what stands apart from the training is known to be meant so.
        """
        graph = self.q.graph
        how = call.fact("measured") or measured(graph, call.nodes)
        if not how or (not call.fact("off") and (how != "compared" or not self._stands_apart(at, call))):
            return False
        if how != "compared" and self._is_judged(call):
            return False
        tops = [top for sink in self.q.sinks for top in self.q.roots(sink)]
        # An index that is a criterion's target is no part of its graph.
        tops += [event.nodes[1] for event in self.q.all("criterion") if not event.fact("off")]
        given = frozenset(call.nodes)
        return not any(given & set(graph.feeding(top, DEPENDING)) for top in tops)

    def _is_judged(self, call: Event) -> bool:
        """Whether a loss judges what the model gives by parameters of another optimizer, a discriminator's:
        generators are sampled from in the mode that they were trained in."""
        mine = self.parameters(call.oids[0])
        held = [frozenset(self.q.parameters_of(event)) for event in self.q.optimizers]
        others = {source for each in held if not mine & each for source in each}
        given = {n for _, other in self.calls if other.oids[0] == call.oids[0] for n in other.nodes}
        for sink in self.q.sinks:
            for top in self.q.roots(sink) if others else ():
                behind = set(self.q.feeding(top, DEPENDING))
                if behind & given and behind & others:
                    return True
        return False

    def _stands_apart(self, at: int, call: Event) -> bool:
        """Whether a call is in a loop without any training, or behind all of it."""
        around = loops(call)
        backs = [(position, self.events[position]) for position, _ in self.trainings]
        if around:
            return all(around[-1] not in loops(back) for _, back in backs)
        return all(position < at for position, _ in backs)

    # -- the replay

    def _run(self, low: int, high: int, depth: int, state: _State) -> None:
        at = low
        while at < high:
            context = self.events[at].context
            if len(context) <= depth:
                self._apply(at, state)
                at += 1
                continue
            kind, number, _ = context[depth]
            end = at + 1
            while end < high and self._within(end, depth, kind, number):
                end += 1
            if kind == "l":
                self._loop(at, end, depth, state)
            elif kind == "b":
                self._branch(at, end, depth, state)
            elif kind == "m":
                # Nobody says when it runs: what is switched elsewhere may be switched before or after it.
                alone = all(at <= one < end for one in self._switches)
                self._run(at, end, depth + 1, state.fork() if alone else _State(frozenset((ANYBODY,))))
                for position in range(at, end):
                    self._set(self.events[position], ANYBODY, state)
            else:
                self._run(at, end, depth + 1, state)
            at = end

    def _within(self, at: int, depth: int, kind: str, number: int) -> bool:
        context = self.events[at].context
        return len(context) > depth and context[depth][:2] == (kind, number)

    def _loop(self, low: int, high: int, depth: int, state: _State) -> None:
        outer, self._early = self._early, ([], [])
        switches = any(event.kind in ("mode", "lent") for event in self.events[low:high])
        for _ in range(2 if switches else 1):
            self._run(low, high, depth + 1, state)
            while self._early[0]:
                state.join(self._early[0].pop())
        for early in self._early[1]:
            state.join(early)
        self._early = outer

    def _branch(self, low: int, high: int, depth: int, state: _State) -> None:
        before = state.fork()
        told = next(
            (
                event
                for event in self.events[low:high]
                if event.kind == "arms" and len(event.context) == depth + 1
            ),
            None,
        )
        ends: list[_State] = []
        arms: set[int] = set()
        at = low
        while at < high:
            arm = self.events[at].context[depth][2]
            end = at + 1
            while end < high and self.events[end].context[depth][2] == arm:
                end += 1
            fork = before.fork()
            self._run(at, end, depth + 1, fork)
            arms.add(arm)
            how = told.fact(str(arm)) if told is not None else ""
            if how in ("continue", "break"):
                self._early[how == "break"].append(fork)
            elif not how:
                ends.append(fork)
            at = end
        whole = told is not None and told.fact("else") and arms >= set(range(int(told.fact("arms"))))
        if not whole or not ends:
            ends.append(before)
        state.rest, state.of = ends[0].rest, ends[0].of
        for other in ends[1:]:
            state.join(other)

    def _apply(self, at: int, state: _State) -> None:
        event = self.events[at]
        if event.kind == "called":
            somebody = frozenset((ANYBODY,))
            given = {oid: somebody if self._is_kept(oid) else state.get(oid) for oid in event.oids[1:]}
            self.seen.setdefault(at, []).append(given)
        elif event.kind == "mode":
            self._set(event, at if event.oids else ANYBODY, state)
        elif event.kind == "lent":
            self._set(event, ANYBODY, state)

    def _is_kept(self, oid: int) -> bool:
        """Whether a layer is that of a library's model some of which is frozen: it may be kept as it is."""
        obj = self.q.program.heap[oid]
        return obj.get("@mode") is not None and node_of(obj.get("*")) in self.q.frozen

    def _set(self, event: Event, setter: int, state: _State) -> None:
        if event.kind not in ("mode", "lent"):
            return
        if not event.oids:
            state.rest, state.of = frozenset((ANYBODY,)), {}
        for oid in event.oids:
            for part in self.parts(oid):
                state.of[part] = frozenset((setter,))


def common(one: Event, other: Event) -> tuple[int, ...]:
    """The loops that two events share."""
    shared: list[int] = []
    for mine, yours in zip(loops(one), loops(other), strict=False):
        if mine != yours:
            break
        shared.append(mine)
    return tuple(shared)
