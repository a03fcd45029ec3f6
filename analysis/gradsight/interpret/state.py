"""What an activation carries from statement to statement, and how branches of it join.

A state is two dictionaries of frozen values (names, heap) and the gradient mode. A branch copies the
dictionaries; a join makes `join` nodes in the graph where the branches disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gradsight.domain import Edge
from gradsight.graph import Graph, Node, Place
from gradsight.interpret.shapes import joined
from gradsight.values import (
    NONE,
    NOWHERE,
    Array,
    Bound,
    Choice,
    Class,
    Const,
    Func,
    Lib,
    Method,
    Number,
    Obj,
    Params,
    Ref,
    Seq,
    Tensor,
    Unknown,
    Value,
    may_be_accelerated,
    node_of,
)

MOST_OPTIONS = 4


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in program order and that rules ask about.

    kind: "backward" | "grad" | "return" (a returned loss) | "optimizer" | "step" | "zero" | "freeze" |
          "thaw" | "criterion" | "as settings" (tensors, where a criterion is made) |
          "attribute" (a plain tensor kept on a module) |
          "module" (one of the program was made) | "uncalled" and "dropped" (statements without effect) |
          "escape" (an object is given to code that is not seen) | "replaced" (a part of a module) |
          "read" (a `.grad`) | "clip" | "scaled", "unscale", "scaler_step" and "update" (of a GradScaler) |
          "accumulate" and "append" (what a loop adds up or collects) | "unreturned" |
          "every" (its branch is taken every so many turns) | "once" (its loop has one turn) |
          "most" (its branch is left out in a few turns at an end: `if i > 0`) |
          "loaded" (the state of a module) |
          "rebound" (the name of a leaf, to its own update, when its turn ends) |
          "carried" (what a turn of the loop leaves for the next) |
          "ending" (from here on a turn of its loop is the last one) |
          "each" (its loop is a comprehension) | "idle" (its loop uses nothing of what it runs over) |
          "flag" (`requires_grad` set on what is no tensor) | "group" (given to an optimizer later) |
          "container" (a plain list, tuple or dictionary becomes an attribute of a module) |
          "made" (a module with parameters, in a method of one) | "filled" (a weight, there) |
          "mode" (`train()`, `eval()` and the like of a module; without an object: of whichever) |
          "layer" (inside of a forward: whose mode counts there) |
          "called" (a module, then all whose mode counts in that call) | "lent" (modules, to code not seen) |
          "dropout" (as a function that is not told the mode, in a method of the object) |
          "arms" (how the arms of its branch end, where modes are switched in them) |
          "apart" (two tensors that broadcasting repeats both: (N, 1) beside (N)) |
          "cast" (a module, or what floats are by default, becomes another dtype) |
          "moved" (a module, to what may be another device; without an object what is made from here on) |
          "off" (gradients are switched off: a block, a decorator, a switch) |
          "grad mode" (a switch, or the end of a block that undoes one) |
          "require" (`x.requires_grad = True`) | "misspelt" (an attribute that was to be that one) |
          "nothing" (None, where a loss or a prediction is wanted) |
          "term" (a name is given what looks like a loss, and nothing is computed with it) |
          "zeros" (a parameter is made of them) |
          "initialized" (the numbers of a parameter are set in place) |
          "chosen" (by a condition: that, then what is taken where it holds, and where not) |
          "left off" (a turn of its loop ends with gradients switched off) |
          "checkpoint" (a segment that re-enters, of what it was given) |
          "ungiven" (gradients that are computed and that nobody takes) |
          "hook" (registered on a tensor or a module) |
          "contract" (what an autograd.Function does not keep to)
    node: the value that it happened to; nodes: further values (an optimizer's parameters); oids: objects
    context: the loops ("l", number), branches ("b", number, arm), guards ("g", number, 0) and entries ("m",
        number, 0) that it stands in or behind, outermost first; a guard is a branch that may leave before it;
        an entry is a method or generator of which nothing in the file says when it runs
    facts: words of structure; places: where its parts stand (never part of a summary's structure)
    """

    kind: str
    node: int = NOWHERE
    nodes: tuple[int, ...] = ()
    oids: tuple[int, ...] = ()
    context: tuple[tuple[str, int, int], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    places: tuple[tuple[str, Place], ...] = ()

    # Plain loops: these two are asked more often than anything else.

    def fact(self, name: str) -> str:
        for key, value in self.facts:
            if key == name:
                return value
        return ""

    def place(self, name: str = "") -> Place | None:
        for key, place in self.places:
            if key == name:
                return place
        return None

    def structure(self) -> tuple[object, ...]:
        return self.kind, self.node, self.nodes, self.oids, self.context, self.facts


@dataclass(slots=True)
class State:
    """Names and heap at one point. `outer`: the names of enclosing functions, innermost last."""

    env: dict[str, Value]
    heap: dict[int, Obj]
    outer: list[dict[str, Value]] = field(default_factory=list)
    module: dict[str, Value] = field(
        default_factory=dict
    )  # the module's own names, as far as they are computed
    grad: str = "on"  # "on" | "off" | "may"

    def fork(self) -> State:
        module = self.env if self.module is self.env else dict(self.module)
        fork = State(
            dict(self.env), dict(self.heap), [dict(names) for names in self.outer], module, self.grad
        )
        if self.module is self.env:
            fork.module = fork.env
        return fork


class Joiner:
    """Joins values and states of branches, adding nodes to one graph."""

    def __init__(self, graph: Graph, place: Callable[[], Place]) -> None:
        self.graph, self.place = graph, place
        self._heaps: list[dict[int, Obj]] = []  # of the states that are being joined

    def states(self, states: list[State]) -> State:
        """The state after branches: names bound in some only keep what they have (elsewhere a NameError)."""
        first, *rest = states
        if not rest:
            return first
        out = first.fork()
        self._heaps = [state.heap for state in states]
        out.grad = first.grad if all(other.grad == first.grad for other in rest) else "may"
        self._names(out.env, [state.env for state in states])
        if out.module is not out.env:
            self._names(out.module, [state.module for state in states])
        for depth, names in enumerate(out.outer):
            self._names(names, [state.outer[depth] for state in states])
        for state in rest:
            for oid, obj in state.heap.items():
                mine = out.heap.get(oid)
                if mine is None:
                    out.heap[oid] = obj
                elif mine is not obj and mine != obj:
                    out.heap[oid] = self._objects(mine, obj)
        self._heaps = []
        return out

    def _names(self, out: dict[str, Value], branches: list[dict[str, Value]]) -> None:
        """`out` is what the first of them binds."""
        first, *rest = branches
        differing = {name for one in rest for name, value in one.items() if first.get(name) is not value}
        for name in {key: None for one in branches for key in one} if differing else ():
            if name in differing:
                out[name] = self.values([one[name] for one in branches if name in one])

    def values(self, values: Iterable[Value]) -> Value:
        """One value standing for any of them."""
        distinct: list[Value] = []
        for value in values:
            for other in distinct:
                if value is other or value == other:
                    break
            else:
                distinct.append(value)
        if len(distinct) > 1:
            # `x = None` before a branch that binds it: used as None it would raise.
            distinct = [value for value in distinct if value != NONE] or distinct[:1]
        if len(distinct) == 1:
            return distinct[0]
        flat: list[Value] = []
        for value in distinct:
            flat += value.options if isinstance(value, Choice) else (value,)
        if all(isinstance(value, (Ref, Func, Lib, Class, Bound, Method)) for value in flat):
            unique = list(dict.fromkeys(flat))
            if len(unique) <= MOST_OPTIONS:
                return Choice(tuple(unique))
            return Unknown("one of many objects")
        if all(isinstance(value, Seq) for value in distinct):
            sizes = {len(value.items) for value in distinct if isinstance(value, Seq)}
            if len(sizes) == 1:
                rows = [value.items for value in distinct if isinstance(value, Seq)]
                return Seq(tuple(self.values(column) for column in zip(*rows, strict=False)))
        return self._data(distinct)

    def _data(self, values: list[Value]) -> Value:
        nodes = [n for value in values for n in self._nodes(value)]
        node = NOWHERE
        if any(n != NOWHERE for n in nodes):
            if all(n == nodes[0] for n in nodes):
                node = nodes[0]
            elif (filtered := self._accumulated(nodes)) is not None:
                node = filtered
            else:
                node = self.graph.add(
                    Node("join", "join", tuple(nodes), (Edge.LIVE,) * len(nodes), place=self.place())
                )
        tensors = [value for value in values if isinstance(value, Tensor)]
        if tensors and all(isinstance(value, (Tensor, Number, Const)) for value in values):
            first = tensors[0]
            same = list(tensors[1:])
            return Tensor(
                node,
                first.dtype if all(t.dtype == first.dtype for t in same) else "",
                joined([tensor.shape for tensor in tensors]) if len(tensors) == len(values) else None,
                first.role if len(tensors) == len(values) and all(t.role == first.role for t in same) else "",
                first.origin
                if len(tensors) == len(values) and all(t.origin == first.origin for t in same)
                else "",
                first.exact
                if len(tensors) == len(values) and all(t.exact == first.exact for t in same)
                else "",
            )
        if all(isinstance(value, (Number, Const)) for value in values):
            if all(isinstance(value, Number) or isinstance(value.value, (int, float)) for value in values):  # type: ignore[union-attr]
                kinds = {
                    value.kind if isinstance(value, Number) else type(value.value).__name__  # type: ignore[union-attr]
                    for value in values
                }
                return Number(node, kinds.pop() if len(kinds) == 1 else "")
            among = ", an accelerator among them" if any(map(may_be_accelerated, values)) else ""
            return Unknown(f"one of several constants{among}", node)
        if all(isinstance(value, (Array, Number, Const)) for value in values):
            return Array(node)
        if any(isinstance(value, Params) for value in values):
            params = [value for value in values if isinstance(value, Params)]
            if len(params) == len(values):
                nodes_of = tuple(dict.fromkeys(n for value in params for n in value.nodes))
                return Params(nodes_of, False, any(value.unknown for value in params))
            return Params(tuple(n for value in params for n in value.nodes), False, True)
        refs = [value for value in values if isinstance(value, Ref)]
        if len(refs) == 1 and all(isinstance(value, (Const, Ref)) for value in values):
            return refs[0]
        return Unknown("different things by branch", node)

    def _nodes(self, value: Value, depth: int = 0) -> list[int]:
        """The nodes of a value, of a tuple, list or dictionary those that it holds; NOWHERE for none."""
        held: tuple[Value, ...] = ()
        if isinstance(value, Seq):
            held = value.items
        elif isinstance(value, Ref):
            obj = next((heap[value.oid] for heap in self._heaps if value.oid in heap), None)
            if obj is not None and obj.kind in ("list", "dict"):
                held = (*obj.items, *(item for _, item in obj.fields))
        if depth > 2 or not held:
            return [node_of(value)]
        inner = dict.fromkeys(n for item in held for n in self._nodes(item, depth + 1) if n != NOWHERE)
        return list(inner) or [NOWHERE]

    def _accumulated(self, nodes: list[int]) -> int | None:
        """`if name.endswith("weight"): total = total + x` in a loop: over all turns something is added."""
        if len(nodes) != 2 or not self.graph.loops:
            return None
        for old, new in (nodes, nodes[::-1]):
            if (
                new >= 0
                and self.graph[new].op in ("torch.add", "operator.add")
                and old in self.graph[new].inputs
            ):
                return new
        return None

    def _objects(self, a: Obj, b: Obj) -> Obj:
        names = dict.fromkeys([key for key, _ in a.fields] + [key for key, _ in b.fields])
        fields: list[tuple[str, Value]] = []
        for name in names:
            values = [value for value in (a.get(name), b.get(name)) if value is not None]
            fields.append((name, self.values(values)))
        many = a.many or b.many or len(a.items) != len(b.items)
        if len(a.items) == len(b.items):
            items = tuple(self.values(pair) for pair in zip(a.items, b.items, strict=False))
        else:
            # Branches that appended different things: the longer list holds them all.
            items = a.items if len(a.items) > len(b.items) else b.items
        return Obj(a.kind, a.cls, tuple(fields), items, many)
