"""One activation of a function, and the summary that is left of it."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from gradsight import model
from gradsight.domain import Edge
from gradsight.graph import Graph, Node
from gradsight.interpret.activation import OutOfBudget
from gradsight.interpret.codec import Key, moved
from gradsight.interpret.libraries import METRIC
from gradsight.interpret.state import Event
from gradsight.interpret.statements import Statements
from gradsight.interpret.summary import Summary
from gradsight.values import (
    NODED,
    NONE,
    NOWHERE,
    Bound,
    Choice,
    Class,
    Closure,
    Const,
    Func,
    Lib,
    Obj,
    Params,
    Partial,
    Ref,
    Seq,
    Unknown,
    Value,
    node_of,
)

if TYPE_CHECKING:
    from gradsight.interpret.index import FunctionInfo
    from gradsight.interpret.world import World

MOST_NODES = 4000  # of one summary
LARGE = 120  # nodes of a summary from which on it is collapsed


def interpret_function(world: World, info: FunctionInfo, key: Key) -> Summary:
    """One activation, and what it leaves."""
    it = Statements(world, info.fid)
    for _ in range(key.inputs):
        it.graph.add(Node("input", ""))
    it.next_oid = len(key.heap)
    it.state.heap = dict(enumerate(key.heap))
    it.state.env = dict(key.arguments)
    it.state.module = dict(key.module)
    it.state.grad = key.grad
    it.cid = info.cid
    positional = [*info.node.args.posonlyargs, *info.node.args.args]
    if positional and info.cid is not None:
        it.self_value = it.state.env.get(positional[0].arg)
    it.at = info.header
    for parameter in ast.walk(info.node.args) if it.watched is not None else ():
        if isinstance(parameter, ast.arg) and parameter.arg in it.state.env:
            it.seen(parameter, it.state.env[parameter.arg])
    it.run_body(info.body, info.node.body)
    if not it.dead:
        it.returns.append((NONE, it.state))
    value: Value
    if it.returns:
        it.state = it.joiner.states([state for _, state in it.returns])
        value = it.joiner.values([value for value, _ in it.returns])
        if info.generator:
            mode = it.mode_at_yield if it.mode_at_yield != key.grad else ""
            fields = (("#grad", Const(mode)),) if mode else ()
            value = it.allocate(Obj("list", None, fields, tuple(it.yields), True))
    else:
        value = Unknown(f"`{info.fid}` always raises")
    value = it.leaving(value)
    for closure in closures_in(value):
        it.waiting.pop(id(closure.node), None)  # whoever gets it calls it
    it.dead = False
    it.enter_waiting()
    del it.joiner  # it knows the activation: without it nothing is left for the collector to find
    return summarize(it, key, value)


def closures_in(value: Value) -> list[Closure]:
    if isinstance(value, Seq):
        return [closure for item in value.items for closure in closures_in(item)]
    return [value] if isinstance(value, Closure) else []


_OF_NOTHING = frozenset({Const, Func, Lib, Class, type(None)})  # they hold neither nodes nor objects


def objects_in(value: Value | None) -> list[int]:
    if isinstance(value, Ref):
        return [value.oid]
    if value.__class__ in _OF_NOTHING or value.__class__ in NODED:
        return []
    if isinstance(value, Seq):
        return [oid for item in value.items for oid in objects_in(item)]
    if isinstance(value, Choice):
        return [oid for item in value.options for oid in objects_in(item)]
    if isinstance(value, Bound):
        return objects_in(value.receiver)
    if isinstance(value, Closure):
        return [oid for _, item in value.captured or () for oid in objects_in(item)]
    if isinstance(value, Partial):
        return [
            oid
            for item in (value.function, *value.args, *(v for _, v in value.kwargs))
            for oid in objects_in(item)
        ]
    return []


def nodes_of(value: Value | None) -> list[int]:
    if value.__class__ in _OF_NOTHING:
        return []
    if value.__class__ in NODED:
        node = node_of(value)
        return [node] if node != NOWHERE else []
    if isinstance(value, Seq):
        return [n for item in value.items for n in nodes_of(item)]
    if isinstance(value, Choice):
        return [n for item in value.options for n in nodes_of(item)]
    if isinstance(value, Params):
        return list(value.nodes)
    if isinstance(value, Bound):
        return nodes_of(value.receiver)
    if isinstance(value, Closure):
        return [n for _, item in value.captured or () for n in nodes_of(item)]
    if isinstance(value, Partial):
        return [
            n for item in (value.function, *value.args, *(v for _, v in value.kwargs)) for n in nodes_of(item)
        ]
    return []


def summarize(it: Statements, key: Key, value: Value) -> Summary:
    """Keep what can be seen from outside: what is returned or changed, events, and the nodes they need."""
    forward = it.in_forward
    measuring = Measuring(it.graph)
    it.events = [told(measuring, event, forward) for event in it.events]
    heap = it.state.heap
    changed = [oid for oid in range(len(key.heap)) if oid in heap and heap[oid] != key.heap[oid]]
    written = tuple(
        (name, it.state.module[name]) for name in sorted(it.module_written) if name in it.state.module
    )
    waiting = [*objects_in(value), *changed]
    waiting += [oid for _, one in written for oid in objects_in(one)]
    waiting += [oid for event in it.events for oid in event.oids]
    reached: dict[int, None] = {}
    while waiting:
        oid = waiting.pop(0)
        if oid in reached or oid not in heap:
            continue
        if oid < len(key.heap) and oid not in changed:
            continue
        reached[oid] = None
        obj = heap[oid]
        for _, one in obj.fields:
            waiting += objects_in(one)
        for one in obj.items:
            waiting += objects_in(one)
    created = sorted(oid for oid in reached if oid >= len(key.heap))
    kept = [*changed, *created]
    oids = {oid: oid for oid in range(len(key.heap))}
    oids |= {oid: len(key.heap) + position for position, oid in enumerate(created)}
    roots = [*nodes_of(value), *(n for _, one in written for n in nodes_of(one))]
    for oid in kept:
        obj = heap[oid]
        for one in (*(v for _, v in obj.fields), *obj.items):
            roots += nodes_of(one)
    for event in it.events:
        roots += [event.node, *event.nodes]
    marked = reachable(it.graph, roots)
    if len(marked) > LARGE and not any(event.kind in ("backward", "grad") for event in it.events):
        collapse(it.graph, marked, set(roots))
        marked = reachable(it.graph, roots)
    keep = [*range(key.inputs), *sorted(n for n in marked if n >= key.inputs)]
    if len(keep) > MOST_NODES:
        raise OutOfBudget
    graph = Graph()
    renumbered = {NOWHERE: NOWHERE}
    nodes = it.graph.nodes
    graph.nodes = [nodes[number] for number in keep]
    renumbered.update(zip(keep, range(len(keep)), strict=True))
    find = renumbered.get
    for node in graph.nodes:
        if node.inputs:
            node.inputs = tuple([find(i, NOWHERE) for i in node.inputs])
    return Summary(
        inputs=key.inputs,
        graph=graph,
        returned=moved(value, renumbered, oids),
        created=tuple(range(len(key.heap), len(key.heap) + len(created))),
        heap=tuple([(oids[oid], moved(heap[oid], renumbered, oids)) for oid in kept]),
        module=tuple([(name, moved(one, renumbered, oids)) for name, one in written]),
        events=tuple(
            [
                type(event)(
                    event.kind,
                    find(event.node, NOWHERE),
                    tuple([find(n, NOWHERE) for n in event.nodes]),
                    tuple([oids.get(oid, NOWHERE) for oid in event.oids]),
                    event.context,
                    event.facts,
                    event.places,
                )
                for event in it.events
            ]
        ),
        grad=it.state.grad if it.state.grad != key.grad else "",
        counter=it.counter,
    )


def told(measuring: Measuring, event: Event, forward: bool) -> Event:
    """An event that says of what a module gave whether it is measured: what that hangs on does not leave.
    One that says of a module that was made that it was in a forward.
    """
    if event.kind == "made" and forward and not event.fact("forward"):
        return replace(event, facts=(*event.facts, ("forward", "yes")))
    if event.kind != "called" or event.fact("measured"):
        return event
    how = measuring.how(event.nodes)
    return replace(event, facts=(*event.facts, ("measured", how))) if how else event


class Measuring:
    """How values of one graph are measured, for many of them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @cached_property
    def _compared(self) -> set[int]:
        """What something that compares depends on."""
        return self._behind(at for at, node in enumerate(self.graph.nodes) if _compares(node))

    @cached_property
    def _counted(self) -> set[int]:
        """What a number depends on."""
        return self._behind(at for at, node in enumerate(self.graph.nodes) if node.cause == "number")

    def _behind(self, ends: Iterable[int]) -> set[int]:
        nodes = self.graph.nodes
        marked: set[int] = set()
        stack = list(ends)
        while stack:
            node = nodes[stack.pop()]
            for i, edge in zip(node.inputs, node.edges, strict=False) if node.kind != "loop" else ():
                if i >= 0 and i not in marked and edge is not Edge.NONE:
                    marked.add(i)
                    stack.append(i)
        return marked

    def how(self, numbers: tuple[int, ...]) -> str:
        """As `measured` says."""
        if not self._compared.isdisjoint(numbers):
            return "compared"
        return measured(self.graph, numbers) if not self._counted.isdisjoint(numbers) else ""


def _compares(node: Node) -> bool:
    if node.cause == "comparison" or node.op in ("torch.compare", METRIC):
        return True
    return node.kind == "op" and model.criterion(node.op) is not None


def measured(graph: Graph, numbers: Iterable[int]) -> str:
    """How a value is measured: "compared" with something, or a "number" that is no pick, like an action."""
    picked: set[int] = set()
    number = ""
    for at in graph.fed(numbers):
        node = graph[at]
        if _compares(node):
            return "compared"
        if node.cause == "argmax" or not picked.isdisjoint(node.inputs):
            picked.add(at)
        elif node.cause == "number":
            number = "number"
    return number


def reachable(graph: Graph, roots: Iterable[int]) -> set[int]:
    """The nodes that some roots depend on, themselves included."""
    nodes = graph.nodes
    marked = {n for n in roots if n >= 0}
    stack = list(marked)
    while stack:
        for i in nodes[stack.pop()].inputs:
            if i >= 0 and i not in marked:
                marked.add(i)
                stack.append(i)
    return marked


def collapse(graph: Graph, marked: set[int], roots: set[int]) -> None:
    """In a large function, let each node that matters hang directly on those that matter to it.

    What lies between passes every gradient. Otherwise a deep network would be copied node by node for each of
    its calls."""
    # For each node that passes every gradient what stands for it: its live operands, and whether it saves.
    behind: dict[int, tuple[tuple[int, ...], bool]] = {}
    for number in sorted(marked):
        node = graph.nodes[number]
        exact = node.kind == "op" and _passes_all(node.edges)
        plain = exact and number not in roots and not node.off and not node.target
        if behind.keys().isdisjoint(node.inputs) or node.kind == "loop":
            if plain:
                behind[number] = (
                    tuple(
                        [
                            i
                            for i, edge in zip(node.inputs, node.edges, strict=False)
                            if i >= 0 and edge is Edge.LIVE
                        ]
                    ),
                    node.saves,
                )
            continue
        if not exact:
            continue  # a join or a cut keeps its own operands
        inputs: dict[int, Edge] = {}
        saves = node.saves
        for i, edge in zip(node.inputs, node.edges, strict=False):
            if edge is Edge.NONE:
                inputs.setdefault(i, edge)
            elif i in behind:
                more, saved = behind[i]
                saves = saves or saved
                for j in more:
                    inputs[j] = Edge.LIVE
            elif i >= 0:
                inputs[i] = Edge.LIVE
        if plain:
            behind[number] = (tuple([i for i, edge in inputs.items() if edge is Edge.LIVE]), saves)
        else:
            node.inputs, node.edges, node.saves = tuple(inputs), tuple(inputs.values()), saves
            # Sums and products are one now: it must not be read as a sum of terms.
            node.op = "collapsed"


def _passes_all(edges: tuple[Edge, ...]) -> bool:
    return edges.count(Edge.LIVE) + edges.count(Edge.NONE) == len(edges)
