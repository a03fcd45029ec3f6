"""The questions that all rules ask of one analysed program.

A program is what one root leads to: the module's own statements, a function that nothing in the file calls,
or a class that nothing in the file makes. Nothing here looks at names to decide who must learn, with one
exception that is written out: which argument of a lone loss function is the target.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from operator import itemgetter
from typing import TYPE_CHECKING

from gradsight.domain import DEPENDING, Edge, Reach, Tri
from gradsight.finding import Severity
from gradsight.graph import Graph, Node, Place
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.values import NOWHERE, Obj, Ref, Seq, Tensor, Unknown, Value, node_of

if TYPE_CHECKING:
    from gradsight.modes import Modes
    from gradsight.protocol import Protocol
    from gradsight.rules.writes import Writes

LEARNING = ("parameter", "leaf")  # sources that hold a gradient
POSSIBLE = (*LEARNING, "call", "argument", "element")  # sources that may require one

TARGETS = frozenset({
    "target", "targets", "label", "labels", "y", "y_true", "true", "truth", "gt", "ground_truth",
    "groundtruth", "tgt", "trg", "targ", "ys", "y_batch", "yb", "yt", "labels_batch", "expected", "real",
    "actual", "gold", "reference", "ref", "mask", "masks", "lengths", "length",
})  # fmt: skip

LINEAR = {
    "torch.add", "torch.sub", "torch.neg", "torch.Tensor.add", "torch.Tensor.sub", "torch.Tensor.add_",
    "torch.Tensor.sub_", "torch.sum", "torch.mean", "torch.Tensor.sum", "torch.Tensor.mean",
    "torch.Tensor.neg", "torch.stack", "torch.cat", "operator.add", "operator.sub", "torch.nansum",
    "torch.nanmean", "torch.subtract", "module", "operator.neg",
}  # fmt: skip
SCALING = {
    "torch.mul", "torch.div", "torch.Tensor.mul", "torch.Tensor.div", "torch.Tensor.mul_",
    "torch.Tensor.div_", "operator.mul", "operator.div", "torch.multiply", "torch.divide",
    "torch.true_divide",
}  # fmt: skip
KEEPING = {
    "torch.Tensor.to", "torch.Tensor.float", "torch.Tensor.double", "torch.Tensor.half", "torch.Tensor.cuda",
    "torch.Tensor.cpu", "torch.Tensor.squeeze", "torch.squeeze", "torch.Tensor.view", "torch.Tensor.reshape",
    "torch.Tensor.clone", "torch.Tensor.contiguous", "torch.Tensor.type", "torch.clone",
    "torch.Tensor.flatten", "torch.flatten", "torch.Tensor.unsqueeze", "torch.unsqueeze",
    "torch.Tensor.requires_grad_",
}  # fmt: skip

DETACHING = ("detach", "data")
NO_DERIVATIVE = ("argmax", "integer", "comparison", "round", "random")
WHOLE = ("starved", "frozen")  # kinds that say of their sources that they learn nothing
NOT_FINDINGS = ("copy", "sample")


MEANT = ("GS102", "GS105")  # cuts that people make on purpose, too


@dataclass(frozen=True, slots=True)
class Lost:
    """One place where gradient is lost on its way to a sink, and what that costs."""

    code: str
    severity: Severity
    kind: str  # "dead" (the sink has no live source) | "starved" | "term" | "part" | "frozen"
    cause: int
    sources: tuple[int, ...]
    sink: Event | None
    chain: tuple[int, ...]  # further lossy nodes behind the cause, in graph order
    where: Place
    parallel: bool = False  # another cut lies beside it: to mend both may be one too many


@dataclass(slots=True, eq=False)
class Program:
    """What one root leads to."""

    kind: str  # "module" | "function" | "class"
    name: str
    graph: Graph
    events: tuple[Event, ...]
    env: dict[str, Value]
    heap: dict[int, Obj]
    self_oid: int = NOWHERE
    lone: str = ""  # "loss" | "forward" where a return stands for the sink
    silences: list[tuple[str, Place]] = field(default_factory=list)


class Queries:
    """One program and the text around it."""

    def __init__(
        self,
        program: Program,
        text_of: Callable[[Place], str],
        call_off: Callable[[Place], Place | None],
        syntax_of: Callable[[Place], object],
        function_of: Callable[[Place], str],
    ) -> None:
        self.program = program
        self.graph = program.graph
        self.events = program.events
        self.text_of = text_of
        self.call_off = call_off  # the outermost call that stands in a no_grad block, for a place inside it
        self.syntax_of = syntax_of  # the ast node of a place
        self.function_of = function_of  # the innermost function that a place stands in
        self._feeding: dict[tuple[int, tuple[Edge, ...]], tuple[int, ...]] = {}
        self._frozen: dict[int, frozenset[int]] = {}
        self._requiring: dict[int, bool] = {}
        self._chains: dict[tuple[int, int], tuple[int, ...]] = {}
        self._lost: tuple[Lost, ...] | None = None
        self.protocol: Protocol | None = None  # see `protocol_of`
        self.modes: Modes | None = None  # see `modes_of`
        self.writes: Writes | None = None  # see `writes_of`

    # -- events

    def all(self, *kinds: str) -> Iterator[Event]:
        return (event for _, event in self.numbered(*kinds))

    def numbered(self, *kinds: str) -> Sequence[tuple[int, Event]]:
        """The events of some kinds in their order, each with its position among all."""
        found = [self._by_kind[kind] for kind in kinds if kind in self._by_kind]
        if len(found) <= 1:
            return found[0] if found else ()
        return sorted((pair for pairs in found for pair in pairs), key=itemgetter(0))

    def has(self, *kinds: str) -> bool:
        """Whether there is any event of these kinds: what most rules ask first."""
        return not self._by_kind.keys().isdisjoint(kinds)

    @cached_property
    def _by_kind(self) -> dict[str, list[tuple[int, Event]]]:
        out: dict[str, list[tuple[int, Event]]] = {}
        for pair in enumerate(self.events):
            out.setdefault(pair[1].kind, []).append(pair)
        return out

    @cached_property
    def sinks(self) -> tuple[Event, ...]:
        return tuple(self.all("backward", "grad", "return"))

    def feeding(self, number: int, edges: tuple[Edge, ...]) -> tuple[int, ...]:
        """As the graph's own; many rules ask it of the same few values."""
        known = self._feeding.get((number, edges))
        if known is None:
            known = self._feeding[number, edges] = tuple(self.graph.feeding(number, edges))
        return known

    def roots(self, sink: Event) -> tuple[int, ...]:
        return tuple(dict.fromkeys(n for n in (sink.node, *sink.nodes) if n != NOWHERE))

    # -- who must learn

    @cached_property
    def frozen(self) -> frozenset[int]:
        """Parameters that are frozen at every sink."""
        at_sinks = [self.frozen_at(sink) for sink in self.sinks]
        return frozenset.intersection(*at_sinks) if at_sinks else self._frozen_before(len(self.events))

    def frozen_at(self, sink: Event) -> frozenset[int]:
        """Parameters that some statement before a sink froze, and none thawed again."""
        return self._frozen_before(self._positions.get(id(sink), len(self.events)))

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {id(event): position for position, event in enumerate(self.events)}

    def _frozen_before(self, position: int) -> frozenset[int]:
        known = self._frozen.get(position)
        if known is not None:
            return known
        out: set[int] = set()
        for event in self.events[:position]:
            if event.kind in ("freeze", "thaw"):
                nodes = {n for number in event.nodes for n in self.feeding(number, (Edge.LIVE,))}
                out = out | nodes if event.kind == "freeze" else out - nodes
        self._frozen[position] = frozenset(out)
        return self._frozen[position]

    @cached_property
    def optimizers(self) -> tuple[Event, ...]:
        return tuple(self.all("optimizer"))

    @cached_property
    def held(self) -> frozenset[int]:
        """The parameters that optimizers hold."""
        out: set[int] = set()
        for event in self.optimizers:
            out |= self.parameters_of(event)
        return frozenset(out - self.frozen)

    def parameters_of(self, event: Event) -> set[int]:
        """What an optimizer was given, as sources."""
        return {source for number in event.nodes for source in self._parameters(number)}

    def _parameters(self, number: int) -> set[int]:
        """The sources behind one thing that an optimizer was given."""
        return {
            n
            for n in self.feeding(number, (Edge.LIVE,))
            if self.graph[n].kind == "source"
            and self.graph[n].op in (*LEARNING, "call", "argument", "laundered")
        }

    @cached_property
    def must_learn(self) -> frozenset[int]:
        """What an optimizer holds; without any optimizer every parameter and leaf that a sink depends on."""
        if self.optimizers:
            return self.held - self.mistaken
        if any(event.fact("unknown") for event in self.all("step")):
            return frozenset()
        if self.program.lone == "loss":
            return frozenset()
        out: set[int] = set()
        for sink in self.sinks:
            for root in self.roots(sink):
                out |= {
                    s
                    for s in self.graph.reach(root)
                    if self.graph[s].op in LEARNING and self.graph[s].kind == "source"
                }
        return frozenset(out - self.frozen)

    @cached_property
    def mistaken(self) -> frozenset[int]:
        """What an optimizer holds by mistake: it is used without gradients only, and no optimizer holds what
        the losses do give a gradient. A teacher, say, where the student was meant."""
        if any(event.fact("unknown") for event in self.optimizers):
            return frozenset()
        free = any(
            reach.surely_live and s not in self.held
            for sink in self.sinks
            for root in self.roots(sink)
            for s, reach in self.graph.reach(root).items()
            if self.graph[s].op in LEARNING
        )
        out: set[int] = set()
        for event in self.optimizers if free else ():
            held = self.parameters_of(event)
            if held and held.isdisjoint(self.alive) and held <= self._switched_off:
                out |= held
        return frozenset(out)

    @cached_property
    def _switched_off(self) -> frozenset[int]:
        """Sources that sinks depend on, and on all ways through a block without gradients only."""
        causes: dict[int, set[str]] = {}
        for sink in self.sinks:
            for root in self.roots(sink):
                for source, reach in self.graph.reach(root).items():
                    causes.setdefault(source, set()).update(self.graph[n].cause for n in reach.causes)
        return frozenset(source for source, found in causes.items() if found == {"no_grad"})

    @cached_property
    def blanket(self) -> frozenset[int]:
        """Held by a blanket `model.parameters()` only."""
        own: set[int] = set()
        wide: set[int] = set()
        for event in self.optimizers:
            (wide if event.fact("blanket") else own).update(
                n for number in event.nodes for n in self._parameters(number)
            )
        return frozenset(wide - own)

    @cached_property
    def perhaps_nothing(self) -> frozenset[int]:
        """What code that is not seen has made for a part of a model that is held as a whole: it may be an
        activation or another function, which owns nothing."""
        unseen = {s for s in self.blanket if self.graph[s].op == "call"} - self.trained_by_name
        return frozenset(unseen) if any(self.graph[s].op in LEARNING for s in self.blanket) else frozenset()

    @cached_property
    def trained_by_name(self) -> frozenset[int]:
        """Parameters of a part that `.train()` or `requires_grad_(True)` was called on by name."""
        out: set[int] = set()
        switched = [event for event in self.all("mode") if event.fact("to") == "train"]
        whole = max((len(event.nodes) for event in switched), default=0)
        for event in switched:
            if len(event.nodes) < whole or not self._is_whole(event):
                out.update(event.nodes)
        for event in self.all("thaw"):
            out.update(event.nodes)
        return frozenset(out)

    def _is_whole(self, event: Event) -> bool:
        """Whether `.train()` was called on everything that some optimizer holds."""
        return (
            any(set(optimizer.nodes) <= set(event.nodes) for optimizer in self.optimizers)
            or not self.optimizers
        )

    # -- liveness

    def source(self, number: int) -> Node:
        return self.graph[number]

    def is_data(self, number: int, sink: Event) -> bool:
        """An element of what the sink's own loop runs over: a batch."""
        node = self.graph[number]
        return node.op == "element" and any(
            kind == "l" and str(loop) == node.note for kind, loop, _ in sink.context
        )

    def live_sources(self, root: int, sink: Event) -> set[int]:
        """Sources that the root may have a live way to; a target is data unless something learns in it."""
        return set(self._live_sources(root, sink))

    def is_live(self, root: int, sink: Event) -> bool:
        """Whether there are such sources."""
        return next(self._live_sources(root, sink), None) is not None

    def _live_sources(self, root: int, sink: Event) -> Iterator[int]:
        nodes = self.graph.nodes
        seen: set[int] = set()
        stack = [root]
        while stack:
            current = stack.pop()
            if current in seen or current < 0:
                continue
            seen.add(current)
            node = nodes[current]
            if node.kind == "source" and node.op in (*POSSIBLE, "laundered"):
                if self.is_data(current, sink):
                    continue
                yield current
            for position, (i, edge) in enumerate(zip(node.inputs, node.edges, strict=False)):
                if i < 0 or i in seen or (edge is not Edge.LIVE and edge is not Edge.UNKNOWN):
                    continue
                if position in node.target and not self._learns_behind(i):
                    continue
                stack.append(i)

    def _learns_behind(self, number: int) -> bool:
        return any(
            self.graph[n].kind == "source" and self.graph[n].op in LEARNING
            for n in self.feeding(number, (Edge.LIVE, Edge.UNKNOWN))
        )

    @cached_property
    def _differentiates(self) -> bool:
        """Whether the program itself asks for gradients somewhere."""
        return self.has("backward", "grad")

    def requires_gradient(self, number: int) -> bool:
        """Whether a value surely requires a gradient."""
        known = self._requiring.get(number)
        if known is None:
            known = self._requiring[number] = self._requires(number)
        return known

    def _requires(self, number: int) -> bool:
        nodes, frozen = self.graph.nodes, self.frozen
        for source, reach in self.graph.reach(number).items():
            if reach.surely_live:
                node = nodes[source]
                if node.kind == "source" and node.op in LEARNING and source not in frozen:
                    return True
        return False

    # -- lost ways

    def lost(self, code: str) -> Iterator[Lost]:
        """The lost ways that a rule speaks about."""
        if self._lost is None:
            self._lost = tuple(self._all_lost())
        return (lost for lost in self._lost if lost.code == code)

    def is_said(self, sink: Event) -> bool:
        """Whether some lost way to the sink is known."""
        if self._lost is None:
            self._lost = tuple(self._all_lost())
        return any(lost.sink is sink for lost in self._lost)

    def _all_lost(self) -> Iterator[Lost]:
        said: dict[tuple[int, str], Lost] = {}
        for one in self._candidates():
            key = (one.cause, one.code)
            old = said.get(key)
            if old is None:
                said[key] = one
            elif old.kind in WHOLE and one.kind in WHOLE and old.sink is one.sink:
                louder = one if one.severity.rank < old.severity.rank else old
                sources = dict.fromkeys((*old.sources, *one.sources))
                said[key] = replace(louder, sources=tuple(sorted(sources)))
            elif one.severity.rank < old.severity.rank:
                said[key] = one
        yield from said.values()

    def _candidates(self) -> Iterator[Lost]:
        lossy = [(sink, root) for sink in self.sinks for root in self.roots(sink) if self._loses(root)]
        if not lossy:
            return
        if self.program.lone == "forward":
            yield from self._forward()
            return
        for sink, root in lossy:
            if not (sink.fact("off") and self._passed_over(sink)):
                yield from self._of_sink(sink, root, self.alive)

    def _passed_over(self, off: Event) -> bool:
        """Whether a branch may spare the pass where gradients are off, and it works in another call:
        `if model.training:` or `if not self.training: return` in what both training and validation run.
        """
        where = off.place("call")
        for sink in self.sinks:
            other = sink.place("call")
            if sink.fact("off") or where is None or other is None:
                continue
            alike = takewhile(lambda pair: pair[0] == pair[1], zip(off.context, sink.context, strict=False))
            inside = off.context[len(list(alike)) :]
            if any(kind in ("b", "g") for kind, _, _ in inside) and self.syntax_of(where) is self.syntax_of(
                other
            ):
                return True
        return False

    def _loses(self, root: int) -> bool:
        """Whether anything is cut on any way to the root: most programs need no further question."""
        return any(
            edge in (Edge.CUT, Edge.ZERO)
            for number in self.feeding(root, DEPENDING)
            for edge in self.graph[number].edges
        )

    @cached_property
    def alive(self) -> frozenset[int]:
        """Sources with some live way to some sink of the program."""
        return frozenset(s for sink in self.sinks for s in self._alive_at(sink))

    @cached_property
    def given(self) -> frozenset[int]:
        """Those of them that some sink leaves a gradient with: not what it only asks for, an attack's."""
        return frozenset(
            s
            for sink in self.sinks
            if sink.kind != "grad"
            for s in self._alive_at(sink) - self.frozen_at(sink)
        )

    def _alive_at(self, sink: Event) -> set[int]:
        return {
            s
            for root in (() if sink.fact("off") else self.roots(sink))
            for s, reach in self.graph.reach(root).items()
            if reach.live or reach.unknown
        }

    def _of_sink(self, sink: Event, root: int, alive: frozenset[int]) -> Iterator[Lost]:
        reaches = self.graph.reach(root)
        number_sink = sink.fact("kind") in ("number", "array")
        if number_sink and self.program.lone:
            return  # a helper that reports a number
        live = self.live_sources(root, sink)
        if number_sink:
            live = set()
        laundered = self.laundered(root, sink)
        live -= laundered
        dead = {
            s: reach
            for s, reach in reaches.items()
            if reach.lost  # on whatever branch: none keeps it alive
            and reach.live is Tri.NO
            and self.graph[s].kind == "source"
            and (self.graph[s].op in POSSIBLE or s in self.held)
            and not self.is_data(s, sink)
        }
        stepped = self.stepped_after(sink)
        if number_sink and not dead:
            dead = {s: reach for s, reach in reaches.items() if reach.lost and self.graph[s].op in POSSIBLE}
        if self.program.kind != "module" and live and all(self.graph[s].op == "argument" for s in live):
            # One floating argument left: only its name can say that it is the target.
            left = {self.graph[s].note for s in live}
            if left <= TARGETS and not {self.graph[s].note for s in dead} <= TARGETS:
                live = set()
        if not live and dead:
            wanted = {s for s in dead if s in self.must_learn and s not in self.frozen_at(sink)}
            if stepped is not None:
                wanted = wanted & stepped or wanted
            wanted = (
                wanted
                or {s for s in dead if not (self.graph[s].op == "argument" and self.graph[s].note in TARGETS)}
                or set(dead)
            )
            learning = {s for s in wanted if self.graph[s].op in LEARNING}
            if self.program.kind == "module" and learning:
                wanted = (
                    learning
                    if not any(self.graph[s].op in ("call", "argument") for s in wanted & self.must_learn)
                    else wanted
                )
            if self._silent_without_learning(wanted):
                return
            if laundered:
                # It runs, on a new leaf. What should learn may do so through another sink: a gradient cache.
                wanted = {
                    s
                    for s in wanted
                    if s not in self.given
                    and (s in self.must_learn or self.graph[s].op in ("call", "argument"))
                }
                at_the_loss = any(laundered & set(self.graph[term].inputs) for term in self.terms(root))
                if not self.optimizers and (
                    not at_the_loss or (self._differentiates and sink.kind == "return")
                ):
                    return  # a new leaf whose gradient somebody reads: a gradient cache
            severity = SEVERITY["starved" if laundered else "dead"]
            yield from self._by_cause("dead", severity, sink, root, {s: dead[s] for s in wanted})
            return
        if not live:
            return
        if sink.kind == "grad" and any(self.graph[s].op == "laundered" for s in live):
            return  # the gradient of new leaves is what is asked for: an attack, an inner loop
        parts = {
            s: reach
            for s, reach in dead.items()
            if s in self.must_learn
            and s not in self.perhaps_nothing
            and s not in self.frozen_at(sink)
            and s not in alive
            and (stepped is None or s in stepped)
            and (self.graph[s].op in LEARNING or reach.lost is Tri.MUST)  # a part of unknown making
        }
        if parts:
            yield from self._starved(sink, root, parts)
        yield from self._terms(sink, root, set(parts))
        yield from self._partial(sink, root, reaches)

    def _silent_without_learning(self, wanted: set[int]) -> bool:
        """A sink whose only cut sources are data of unknown making: nothing there is known to learn."""
        return all(self.graph[s].op == "element" for s in wanted)

    def _by_cause(
        self, kind: str, severity: Severity, sink: Event | None, root: int, reaches: dict[int, Reach]
    ) -> Iterator[Lost]:
        causes: dict[int, list[int]] = {}
        untargeted = self._without_targets(root)
        everything = {cause for reach in reaches.values() for cause in reach.causes}
        parallel: set[int] = set()
        for s, reach in reaches.items():
            own = [cause for cause in reach.causes if cause in untargeted] or list(reach.causes)
            own = self._deciding(own, everything, root)
            if len(own) > 1:
                own = [cause for cause in own if not self._is_by_the_way(cause)] or own
            if sink is not None and len(own) > 1:
                own = self._culprits(own, sink, root)
            if len(own) > 1:
                parallel.update(own)
            for cause in own:
                causes.setdefault(cause, []).append(s)
        for cause, sources in self._one_for_each_block(causes, root).items():
            if self.graph[cause].cause in NOT_FINDINGS:
                continue
            switched = self._only_switched_off(cause, root)
            # Where one way is lost to this cut alone, what other ways lose behind it is another matter.
            chain = () if not switched and self._alone(cause, root) else self._chain(cause, root)
            if self.graph[cause].cause == "grad":  # what an earlier turn carries over is cut on purpose
                chain = tuple(n for n in chain if root == n or root in self.graph.fed((n,)))
            code = "GS109" if switched else self._code(cause, chain)
            where = self.block(cause) if code == "GS109" else self._where(cause)
            if where is None or not code:
                continue
            beside = cause in parallel and len(causes) > 1
            yield Lost(code, severity, kind, cause, tuple(sources), sink, chain, where, beside)

    def _culprits(self, causes: list[int], sink: Event, root: int) -> list[int]:
        """Of cuts beside each other, those in terms where nothing else is live, and of these the ones of the
        sink's own turn: a weight detached beside a live factor and a constant from before are rightly cut."""
        hopeless: set[int] = set()
        for term in self.terms(root):
            if not self.is_live(term, sink):
                hopeless |= {cause for reach in self.graph.reach(term).values() for cause in reach.causes}
        causes = [cause for cause in causes if cause in hopeless] or causes
        loops = [number for kind, number, _ in sink.context if kind == "l"]
        if loops:
            causes = [cause for cause in causes if loops[-1] in self.graph[cause].loops] or causes
        return causes

    def _is_by_the_way(self, cause: int) -> bool:
        """Whether a cut is the indices of a call that gives values as well: `values, order = x.sort()`."""
        node = self.graph[cause]
        if node.cause != "argmax" or cause < 1 or node.place is None:
            return False
        values = self.graph[cause - 1]
        return (
            values.inputs == node.inputs
            and values.edges != node.edges
            and values.place is not None
            and self.syntax_of(values.place) is self.syntax_of(node.place)
        )

    def _without_targets(self, root: int) -> set[int]:
        """What the root depends on otherwise than as a criterion's target: a target is rightly cut."""
        seen: set[int] = set()
        stack = [root]
        while stack:
            number = stack.pop()
            if number in seen or number < 0:
                continue
            seen.add(number)
            node = self.graph[number]
            stack.extend(
                i
                for position, i in enumerate(node.inputs)
                if position not in node.target and node.edges[position] is not Edge.NONE
            )
        return seen

    def _deciding(self, causes: list[int], everything: set[int], root: int) -> list[int]:
        """Of several cuts, those that no other one stands behind: to mend an earlier one would not help."""
        if len(causes) < 2:
            return causes
        blocks = {cause: self.graph[cause].block for cause in causes if self.graph[cause].cause == "no_grad"}
        out: list[int] = []
        for cause in causes:
            behind = set(self._chain(cause, root)) - {cause}
            later = [
                other
                for other in everything
                if other in behind and not (other in blocks and blocks.get(cause) == blocks[other])
            ]
            if not later:
                out.append(cause)
        return out or causes[:1]

    def _one_for_each_block(self, causes: dict[int, list[int]], root: int) -> dict[int, list[int]]:
        """A block without gradients is one root cause, placed at its first operation that loses something."""
        out: dict[int, list[int]] = {}
        first: dict[int, int] = {}
        for cause in sorted(
            causes,
            key=lambda cause: (self.graph[cause].cause != "no_grad" or not self._alone(cause, root), cause),
        ):
            node = self.graph[cause]
            if node.cause == "no_grad" and node.block:
                cause_kept = first.setdefault(node.block, cause)
                out.setdefault(cause_kept, []).extend(
                    s for s in causes[cause] if s not in out.get(cause_kept, [])
                )
            else:
                out[cause] = causes[cause]
        return out

    def _where(self, cause: int) -> Place | None:
        """Where the cut stands: for what is called inside a no_grad block, the call."""
        node = self.graph[cause]
        if node.place is not None and node.off and node.cause == "no_grad":
            return self.call_off(node.place) or node.place
        return node.place

    def _chain(self, cause: int, root: int) -> tuple[int, ...]:
        """Lossy nodes behind the cause, on any way to the root."""
        if root < 0:
            return ()
        known = self._chains.get((cause, root))
        if known is not None:
            return known
        cone = set(self.feeding(root, DEPENDING))
        behind = {cause}
        out: list[int] = []
        for number in sorted(cone):
            node = self.graph[number]
            lossy = False
            for i, edge in zip(node.inputs, node.edges, strict=False):
                if i in behind and number != cause:
                    behind.add(number)
                    lossy = lossy or edge in (Edge.CUT, Edge.ZERO)
            if lossy:
                out.append(number)
        self._chains[cause, root] = tuple(out)
        return self._chains[cause, root]

    def _only_switched_off(self, cause: int, root: int) -> bool:
        """Whether some way from a cause to the root is lost to one switch of the gradient mode alone."""
        return self.graph[cause].cause == "no_grad" and self.is_switch(cause) and self._alone(cause, root)

    def _alone(self, cause: int, root: int) -> bool:
        """Whether some way from a cut to the root loses nothing behind it, but to the same block."""
        nodes, block = self.graph.nodes, self.graph[cause].block
        reached = {cause}
        for number in range(cause + 1, root + 1):
            node = nodes[number]
            own = node.off and node.block == block and node.cause in ("no_grad", "index")
            if any(
                i in reached and (edge is Edge.LIVE or (own and edge is Edge.CUT))
                for i, edge in zip(node.inputs, node.edges, strict=False)
            ):
                reached.add(number)
        return root in reached

    def _code(self, cause: int, chain: tuple[int, ...]) -> str:
        causes = [self.graph[cause].cause, *(self.graph[n].cause for n in chain)]
        if causes[0] == "backward":
            return "GS701"
        if causes[0] == "grad":
            # What leaves torch behind it was meant as a number.
            return "GS703" if set(causes[1:]) <= {"grad"} else ""
        if any(one in NO_DERIVATIVE for one in causes):
            return "GS107"
        if causes[0] == "draw":
            return "GS107"
        if "numpy" in causes:
            return "GS101"
        if "number" in causes:
            return "GS103"
        if self.launders(cause):
            return "GS108"
        laundering = [n for n in chain if self.launders(n)]
        if (
            any(self.graph[n].cause == "rewrap" for n in chain if n not in laundering)
            or causes[0] == "rewrap"
        ):
            return "GS104"
        if any(self._holds(n, cause) for n in laundering):
            return "GS108"  # `Variable(loss.data, requires_grad=True)`: to take one away mends nothing
        return "GS105" if causes[0] == "no_grad" else "GS102"

    def launders(self, number: int) -> bool:
        """Whether a new leaf is made of a value that was computed."""
        node = self.graph[number]
        return node.note == "laundered" or (node.op == "parameter" and bool(node.inputs))

    def _holds(self, number: int, inner: int) -> bool:
        """Whether one operation is written inside the call of another."""
        outer, place = self.graph[number].place, self.graph[inner].place
        if outer is None or place is None:
            return False
        written, part = self.syntax_of(outer), self.syntax_of(place)
        return isinstance(written, ast.AST) and any(one is part for one in ast.walk(written))

    def laundered(self, root: int, sink: Event) -> set[int]:
        """New leaves that were made of computed values, where no optimizer holds them and nobody looks at
        their gradient: it ends there."""
        if sink.kind == "grad" or sink.fact("inputs"):
            return set()
        live = set(self._live_sources(root, sink))
        made = {s for s in live if self.graph[s].op == "laundered" or self.launders(s)} - self.held
        if made:
            reads = [n for event in self.all("read") for n in event.nodes]
            made -= {n for number in reads for n in self.feeding(number, (Edge.LIVE,))}
        return made

    def _learns(self, root: int, sink: Event) -> bool:
        """Whether something is live behind a value that is no laundered leaf."""
        own = (s for s in self._live_sources(root, sink) if self.graph[s].op != "laundered")
        if any(not self.launders(s) for s in own):
            return True  # most do: the first source says so
        return bool(self.live_sources(root, sink) - self.laundered(root, sink))

    # -- parts that learn nothing

    def _starved(self, sink: Event, root: int, parts: dict[int, Reach]) -> Iterator[Lost]:
        frozen = {s: reach for s, reach in parts.items() if self._looks_frozen(s)}
        loud = {s: reach for s, reach in parts.items() if s not in frozen}
        yield from self._by_cause("starved", SEVERITY["starved"], sink, root, loud)
        frozen = {s: reach for s, reach in frozen.items() if reach.lost is Tri.MUST}
        for lost in self._by_cause("frozen", SEVERITY["frozen"], sink, root, frozen):
            # On purpose one detaches a part or switches its gradients off; one does not take it to numpy.
            meant = lost.code in MEANT
            yield lost if meant else replace(lost, severity=SEVERITY["starved"], kind="starved")

    def _looks_frozen(self, source: int) -> bool:
        """Every call of the part stands itself in a no_grad block, or is itself the receiver of `.detach()`,
        and only a blanket `model.parameters()` holds it.
        """
        if self.optimizers and (source not in self.blanket or not self._part_of_something_alive(source)):
            return False
        if source in self.trained_by_name or self.graph[source].op != "parameter":
            return False
        causes: set[int] = set()
        for sink in self.sinks:
            for root in self.roots(sink):
                reach = self.graph.reach(root).get(source)
                if reach is not None:
                    causes.update(reach.causes)
        return bool(causes) and all(self._is_part_boundary(source, cause) for cause in causes)

    def _part_of_something_alive(self, source: int) -> bool:
        """Whether an optimizer holds the source together with something that does learn."""
        alive = self.alive
        for event in self.optimizers:
            nodes = {n for number in event.nodes for n in self._parameters(number)}
            if source in nodes and nodes & alive:
                return True
        return False

    def _is_part_boundary(self, source: int, cause: int) -> bool:
        node = self.graph[cause]
        if node.cause == "no_grad":
            # The part's own call stands in the block: what happens first to its parameter is cut already.
            if source not in node.inputs:
                return False
            block = self.block(cause)
            if block is None or not isinstance(self.syntax_of(block), (ast.With, ast.AsyncWith)):
                return False  # a decorator
            if node.place is None or self.call_off(node.place) is None:
                return self.graph[source].note != "parameter"  # a bare nn.Parameter is no part by itself
            # Called by something that the block calls: a part only if that is a module which owns it.
            return any(
                one.op == "module" and one.off and source in one.inputs and one.block == node.block
                for one in self.graph.nodes
            )
        if node.cause in DETACHING and node.inputs and node.place is not None:
            before = self.graph[node.inputs[0]]
            cut = self.syntax_of(node.place)
            written = cut.func if isinstance(cut, ast.Call) else cut
            itself = isinstance(written, ast.Attribute) and isinstance(written.value, ast.Call)
            return itself and before.note == "module" and source in before.inputs
        return False

    # -- terms of a loss

    def terms(self, root: int) -> list[int]:
        """The additive terms of a loss, up to where something other than adding and scaling happens."""
        out: list[int] = []
        stack = [(root, 0)]
        while stack:
            number, depth = stack.pop()
            node = self.graph[number]
            if (
                depth < 24
                and node.kind == "op"
                and all(edge in (Edge.LIVE, Edge.NONE) for edge in node.edges)
            ):
                if node.op in LINEAR or (node.op in KEEPING and len(node.inputs) == 1):
                    operands = [
                        i
                        for i, edge in zip(node.inputs, node.edges, strict=False)
                        if i >= 0 and edge is Edge.LIVE
                    ]
                    stack.extend((i, depth + 1) for i in operands)
                    continue
                if node.op in SCALING and node.note == "constant":
                    stack.extend((i, depth + 1) for i in node.inputs if i >= 0)
                    continue
            if node.kind == "loop":
                stack.extend((i, depth + 1) for i in node.inputs[:1] if i >= 0)
                continue
            if node.kind == "join" and depth < 24:
                # Each branch adds its own: a constant term is one in whatever setting takes that branch.
                stack.extend((i, depth + 1) for i in node.inputs if i >= 0)
                continue
            out.append(number)
        return list(dict.fromkeys(out))

    def _terms(self, sink: Event, root: int, starved: set[int]) -> Iterator[Lost]:
        terms = self.terms(root)
        if len(terms) < 2:
            return
        stepped = self.stepped_after(sink)
        told = {s for s in starved if not self._looks_frozen(s)}
        live_terms = {term for term in terms if self._learns(term, sink)}
        for term in terms:
            if term in live_terms:
                continue
            reaches = self.graph.reach(term)
            lost = {
                s: reach
                for s, reach in reaches.items()
                if reach.dead
                and s in self.must_learn
                and s not in self.frozen_at(sink)
                and (stepped is None or s in stepped)
                and s not in starved
            }
            if not lost:
                continue
            if self._summands(term) & live_terms:
                continue  # shifted by its own detached copy: straight-through
            causes = {cause for s in told if s in reaches for cause in reaches[s].causes}
            found = list(self._by_cause("term", SEVERITY["term"], sink, term, lost))
            if not all(one.code in MEANT for one in found):
                found = [one for one in found if one.code not in MEANT]  # the one that nobody means to make
            for one in found:
                # A factor that is rightly cut beside one that is wrongly cut is no mistake of its own.
                if all(cause == one.cause or one.cause in self._chain(cause, term) for cause in causes):
                    yield one

    def _summands(self, term: int) -> set[int]:
        """What a cut term is the sum of, seen through the cut: `a` and `b` of `(a - b).detach()`."""
        out: set[int] = set()
        stack = [term]
        while stack:
            number = stack.pop()
            if number in out:
                continue
            out.add(number)
            node = self.graph[number]
            linear = (
                node.op in LINEAR or node.op in KEEPING or (node.op in SCALING and node.note == "constant")
            )
            if linear or node.cause in DETACHING:
                stack.extend(
                    i
                    for i, edge in zip(node.inputs, node.edges, strict=False)
                    if i >= 0 and edge is not Edge.NONE
                )
        return out

    def stepped_after(self, sink: Event) -> frozenset[int] | None:
        """What the optimizers that step on this gradient hold, up to the next gradient; None: not known."""
        position = self._positions.get(id(sink))
        if position is None:
            return None
        stepped: set[int] = set()
        for event in self.events[position + 1 :]:
            if event.kind == "step":
                if event.fact("unknown") or not event.nodes:
                    return None
                stepped.update(n for number in event.nodes for n in self._parameters(number))
            elif stepped and event.kind in ("backward", "grad"):
                break
        return frozenset(stepped) or None

    # -- partial cuts

    def _partial(self, sink: Event, root: int, reaches: dict[int, Reach]) -> Iterator[Lost]:
        """A part of a source (an index, a slice) that is cut while the rest of the source is live."""
        live = set(self.feeding(root, (Edge.LIVE, Edge.ZERO)))
        seen: set[int] = set()
        for s, reach in reaches.items():
            if reach.live is not Tri.MUST or reach.cut is not Tri.MUST or self.graph[s].kind != "source":
                continue
            if s not in self.must_learn and self.graph[s].op not in ("argument", "leaf"):
                continue
            for cause in reach.causes:
                node = self.graph[cause]
                if cause in seen or node.cause not in DETACHING or not node.inputs:
                    continue
                seen.add(cause)
                part = self._part(node.inputs[0])
                if part is None or part in live:
                    continue
                if node.place is None or not self._divides(cause, live):
                    continue
                yield Lost("GS102", SEVERITY["part"], "part", cause, (s,), sink, (), node.place)

    def _part(self, number: int) -> int | None:
        """The index or slice that a value is, looked for through what keeps it."""
        while True:
            node = self.graph[number]
            if node.op in (
                "torch.Tensor.__getitem__",
                "torch.Tensor.unbind",
                "torch.select",
                "torch.Tensor.select",
                "torch.narrow",
                "torch.Tensor.narrow",
            ):
                return number if node.edges and node.edges[0] is Edge.LIVE else None
            if node.op in KEEPING and len(node.inputs) == 1:
                number = node.inputs[0]
                continue
            return None

    def _divides(self, cause: int, live: set[int]) -> bool:
        """The detached part meets another part of the same source in one operation on the way to the loss."""
        for number in live:
            node = self.graph[number]
            if cause in node.inputs and len(node.inputs) > 1:
                return True
        frontier = {cause}
        for number in sorted(live):
            node = self.graph[number]
            if frontier & set(node.inputs):
                if len(node.inputs) > 1:
                    return True
                frontier.add(number)
        return False

    # -- a module seen without its training

    def _forward(self) -> Iterator[Lost]:
        own = self._own_parameters()
        alive = self.alive
        for sink in self.sinks:
            for root in self.roots(sink):
                reaches = self.graph.reach(root)
                parts = {
                    s: reach
                    for s, reach in reaches.items()
                    if s in own
                    and s not in alive
                    and reach.dead
                    and s not in self.frozen
                    and not self._looks_frozen(s)
                }
                yield from self._by_cause("starved", SEVERITY["starved"], sink, root, parts)

    def _own_parameters(self) -> frozenset[int]:
        out: set[int] = set()
        seen: set[int] = set()

        def visit(value: Value) -> None:
            if isinstance(value, Tensor) and value.origin == "parameter":
                out.add(value.node)
            elif isinstance(value, Ref) and value.oid not in seen:
                seen.add(value.oid)
                obj = self.program.heap.get(value.oid)
                if obj is not None and obj.kind in ("module", "instance"):
                    if obj.get("@output") is not None:
                        return  # a library's model: it may be loaded, and meant to stay as it is
                    for _, item in obj.fields:
                        visit(item)
                    for item in obj.items:
                        visit(item)

        visit(Ref(self.program.self_oid))
        return frozenset(out)

    def block(self, number: int) -> Place | None:
        """The statement, decorator or switch that switched gradients off for a node."""
        event = self._off(number)
        return event.place("block") if event is not None else None

    def is_switch(self, number: int) -> bool:
        """Whether gradients were switched off for a node by a call that holds until the next one."""
        event = self._off(number)
        return event is not None and event.fact("switch") == "yes"

    def _off(self, number: int) -> Event | None:
        wanted = self.graph[number].block
        for event in self.all("off"):
            if event.context and event.context[-1][:2] == ("o", wanted):
                return event
        return None

    # -- names and words

    @cached_property
    def _names(self) -> dict[int, str]:
        """The user's name of each source: the path through attributes by which the program reaches it."""
        out: dict[int, str] = {}
        seen: set[int] = set()
        queue: list[tuple[str, Value]] = []
        if self.program.self_oid != NOWHERE:
            queue.append(("self", Ref(self.program.self_oid)))
        queue += [(name, value) for name, value in self.program.env.items() if name != "self" or not queue]
        queue += [
            (event.fact("class"), Ref(oid))
            for event in self.all("module")
            for oid in event.oids
            if oid != self.program.self_oid
        ]
        for path, value in queue:
            number = node_of(value)
            if number != NOWHERE and isinstance(value, (Tensor, Unknown)):
                if self.graph[number].kind == "source":
                    out.setdefault(number, path)
            if isinstance(value, Seq):
                queue += [(f"{path}[{i}]", item) for i, item in enumerate(value.items)]
            if isinstance(value, Ref) and value.oid not in seen:
                seen.add(value.oid)
                obj = self.program.heap.get(value.oid)
                if obj is None or len(queue) > 5000:
                    continue
                if obj.kind in ("module", "instance", "list", "dict", "object"):
                    for name, item in obj.fields:
                        if name == "*":
                            if node_of(item) != NOWHERE:
                                out.setdefault(node_of(item), path)
                        elif not name.startswith(("#", "@")):
                            queue.append(
                                (
                                    f"{path}[{name}]"
                                    if name[:1] in "'\"" or obj.kind == "dict"
                                    else f"{path}.{name}",
                                    item,
                                )
                            )
                    queue += [(f"{path}[{i}]", item) for i, item in enumerate(obj.items)]
        return out

    def name(self, number: int) -> str:
        """How the program calls a source."""
        known = self._names.get(number)
        if known is not None:
            return known
        node = self.graph[number]
        if node.op == "argument":
            return node.note
        return self.text_of(node.place) if node.place is not None else "a value"

    def names(self, numbers: tuple[int, ...]) -> str:
        """A few sources in words: `model.fc1` and `model.fc2`."""
        known = list(dict.fromkeys(shortened(self.name(number)) for number in numbers))
        if not known:
            return "the model"
        prefix = common_owner(known)
        if (
            prefix is not None
            and len(known) > (1 if prefix != "self" else 2)
            and not self._owns_more(prefix, numbers)
        ):
            return f"`{prefix}`"
        if len(known) > 3:
            return ", ".join(f"`{one}`" for one in known[:2]) + f" and {len(known) - 2} more"
        quoted = [f"`{one}`" for one in known]
        return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)

    def _owns_more(self, prefix: str, numbers: tuple[int, ...]) -> bool:
        """Whether there are parameters under a name besides these: it may not stand for them."""
        return any(
            name.startswith((f"{prefix}.", f"{prefix}["))
            for number, name in self._names.items()
            if number not in numbers and self.graph[number].op in LEARNING
        )

    def sink_text(self, sink: Event | None) -> str:
        """The loss in the user's words, quoted."""
        place = sink.place("root") if sink is not None else None
        return f"`{shortened(self.text_of(place))}`" if place is not None else "the returned loss"

    def text(self, number: int) -> str:
        place = self._where(number)
        return shortened(self.text_of(place)) if place is not None else "this"


def shortened(text: str, most: int = 48) -> str:
    """Source text on one line, short enough for a message."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


def common_owner(names: list[str]) -> str | None:
    """`model.encoder` for `model.encoder.a`, `model.encoder.b`."""
    parts = [name.replace("[", ".[").split(".") for name in names]
    prefix: list[str] = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        prefix.append(column[0])
    joined = ".".join(prefix).replace(".[", "[")
    return joined or None
