"""What one activation of a function holds, and the few operations on it that everything else is made of."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradsight.domain import Edge
from gradsight.graph import Graph, Here, Node, Place, Within
from gradsight.interpret.state import Event, Joiner, State
from gradsight.syntax import walk
from gradsight.values import (
    NODED,
    NOWHERE,
    Array,
    Choice,
    Class,
    Closure,
    Const,
    Lib,
    Number,
    Obj,
    Params,
    Partial,
    Ref,
    Seq,
    Shape,
    Tensor,
    Unknown,
    Value,
    node_of,
)

if TYPE_CHECKING:
    from gradsight.interpret.world import World
    from gradsight.outline import Block

MOST_STEPS = 60_000  # expressions and calls that one activation reads
MOST_DEPTH = 4  # of containers within containers that are looked into


class OutOfBudget(Exception):
    """The activation has grown past its bound; the function's result is Unknown."""


class Activation:
    """State, graph and events of one function's interpretation."""

    def __init__(self, world: World, function_name: str) -> None:
        self.world = world
        self.function_name = function_name  # "<module>" where the file itself is read
        self.graph = Graph()
        self.state = State({}, {})
        self.dead = False  # this point of the program cannot be reached
        self.at = 0  # the line of the region that is being read
        self.events: list[Event] = []
        self.context: tuple[tuple[str, int, int], ...] = ()
        self.waiting: dict[int, Closure] = {}  # nested functions that differentiate, not called so far
        self.starred_many = False  # the call's arguments hold a list of unknown length
        self.owner = ""  # the function that places stand in, where that is not the activation's own
        self.block = 0  # the block that switched gradients off
        self.counter = 0  # numbers loops and branches
        self.next_oid = 0
        self.budget = MOST_STEPS
        self.expression: ast.AST | None = None
        # What `parameters_of` said of an object: what it saw, the nodes, whether some are not seen.
        self._parameters: dict[int, tuple[dict[int, Obj | None], tuple[int, ...], bool]] = {}
        self.joiner = Joiner(self.graph, self.here)
        self.self_value: Value | None = None
        self.cid: str | None = None  # the class whose method this is
        self.returns: list[tuple[Value, State]] = []
        self.yields: list[Value] = []
        self.mode_at_yield = ""  # the gradient mode that a generator's user finds
        # For each loop around this point the states that end a turn early, and those that leave the loop.
        self.breaks: list[list[State]] = []
        # Leaves whose name a turn binds to their own update: it, the leaf, and what an event says of it.
        self.rebound: dict[str, tuple[Value, int, dict[str, str], Place, Place]] = {}
        self.left: list[list[State]] = []
        self.continues = 0  # that were met
        self.last_continue = 0  # how many events stood before the last one
        self.tests: tuple[str, ...] = ()  # the conditions of the branches around this point
        self.trying = 0  # blocks around this point whose errors somebody expects
        self.born: dict[int, tuple[int, ...]] = {}  # of objects made here, the loops around that
        # Tensors that are a part of another one, with that: what is written to the part is written to both.
        self.views: dict[int, tuple[Tensor, Tensor]] = {}
        # Tensors without a node that an operation has kept, with its node and whose gradient wants them.
        self.kept_constants: list[tuple[Tensor, int, tuple[int, ...]]] = []
        self.putting_back = False  # what was changed in place is stored where it came from
        self.closures = False  # some were made
        self.sealing: set[int] = set()  # the definitions of those whose free names are being looked up
        self.nonlocals: set[str] = set()
        self.globals_: set[str] = set()
        self.module_written: set[str] = set()  # names of the module that were rebound
        watch = world.watch
        self.watched = watch.node if watch is not None and watch.fid == function_name else None

    @property
    def at_module_level(self) -> bool:
        return self.function_name == "<module>"

    # -- places, nodes, events

    def here(self, node: Any = None) -> Place:
        here = Here(self.at, node if node is not None else self.expression)
        return Within(self.owner, here) if self.owner else here

    def number(self) -> int:
        self.counter += 1
        return self.counter

    def switch_off(self, place: Place, facts: dict[str, str] | None = None) -> None:
        """Gradients are switched off here: a block of its own, which an event remembers."""
        self.block = self.number()
        before = self.context
        self.context = (*before, ("o", self.block, 0))
        self.event("off", facts=facts, block=place)
        self.context = before

    def switch_mode(self, grad: str, place: Place, facts: dict[str, str] | None = None) -> None:
        """The gradient mode is switched until somebody switches it again."""
        self.state.grad = grad
        if grad == "off":
            self.switch_off(place, {"switch": "yes"})
        # A node of its own says what was computed before the switch, and what behind it.
        mark = self.graph.add(Node("mark", "mode", place=place))
        facts = {"grad": grad, "when": "\n".join(self.tests), **(facts or {})}
        self.event("grad mode", mark, facts=facts, call=place)

    def restore_mode(self, grad: str, first: int) -> None:
        """A block ends that gives the mode back: what was switched in it, since event `first`, is undone."""
        self.state.grad = grad
        if any(event.kind == "grad mode" for event in self.events[first:]):
            mark = self.graph.add(Node("mark", "mode", place=self.here()))
            self.event("grad mode", mark, facts={"grad": "given back"})

    def event(
        self,
        kind: str,
        node: int = NOWHERE,
        nodes: Iterable[int] = (),
        oids: Iterable[int] = (),
        facts: dict[str, str] | None = None,
        **places: Place | None,
    ) -> None:
        self.events.append(
            Event(
                kind,
                node,
                tuple(nodes),
                tuple(oids),
                self.context,
                tuple((facts or {}).items()),
                tuple((name.rstrip("_"), place) for name, place in places.items() if place is not None),
            )
        )

    def repeats(self, start: int, used: Iterable[ast.AST], targets: Iterable[ast.AST]) -> None:
        """A loop is over whose events begin at `start`. Where it uses nothing of what it runs over and learns
        nothing, modules are called again and again for the sake of it.
        """
        since = self.events[start:]
        if not any(event.kind == "called" for event in since) or any(e.kind == "backward" for e in since):
            return
        names = {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        used = list(used)
        if goes_on(used):
            return
        if not any(isinstance(n, ast.Name) and n.id in names for part in used for n in ast.walk(part)):
            self.events[start:] = [
                replace(event, facts=(*event.facts, ("idle", "yes"))) if event.kind == "called" else event
                for event in since
            ]

    def source(self, op: str, note: str = "", at: Any = None, inputs: tuple[int, ...] = ()) -> int:
        return self.graph.add(
            Node("source", op, inputs, (Edge.LIVE,) * len(inputs), place=self.here(at), note=note)
        )

    def combine(
        self,
        op: str,
        parts: list[tuple[int, Edge]],
        at: Any,
        cause: str = "",
        saves: bool = False,
        note: str = "",
        target: tuple[int, ...] = (),
        keep_off: bool = False,
    ) -> int:
        """A node for one operation over the given inputs; NOWHERE where nothing is depended on."""
        off = self.state.grad == "off" and not keep_off
        inputs: list[int] = []
        edges: list[Edge] = []
        targets: list[int] = []
        for position, (node, edge) in enumerate(parts):
            if node == NOWHERE or edge is Edge.NONE:
                continue
            if off and edge in (Edge.LIVE, Edge.ZERO, Edge.UNKNOWN):
                edge = Edge.CUT
                cause = cause or "no_grad"
            if position in target:
                targets.append(len(inputs))
            inputs.append(node)
            edges.append(edge)
        if not inputs:
            return NOWHERE
        return self.graph.add(
            Node(
                "op",
                op,
                tuple(inputs),
                tuple(edges),
                cause,
                self.here(at),
                note,
                saves and not off,
                off,
                tuple(targets),
                block=self.block if off else 0,
            )
        )

    def seen(self, node: ast.AST, value: Value) -> None:
        """Somebody asked for the value of this node; it is kept as an event."""
        watch = self.world.watch
        if watch is None or node is not self.watched or self.at != watch.at:
            return
        obj = self.obj(value)
        params = obj.get("params") if obj is not None else None
        held = value if params is None else params
        nodes = list(self.nodes_in(held)) or self.parameters_of(held)[0]
        self.event("seen", node_of(value), nodes, facts=described(value, obj), at=self.here(node))

    # -- the heap

    def allocate(self, obj: Obj) -> Ref:
        oid = self.next_oid
        self.next_oid += 1
        self.state.heap[oid] = obj
        if self.graph.loops:
            self.born[oid] = self.graph.loops
        return Ref(oid)

    def obj(self, value: Value | None) -> Obj | None:
        if isinstance(value, Ref):
            return self.state.heap.get(value.oid)
        return None

    def is_new(self, oid: int | None) -> bool:
        """Whether an object was made in this turn of the innermost loop around this point."""
        loops = self.graph.loops
        return bool(loops) and oid is not None and self.born.get(oid, ())[-1:] == loops[-1:]

    def is_module(self, value: Value | None) -> bool:
        """Whether a value is a module, of a library or of the program."""
        obj = self.obj(value)
        if obj is None or obj.kind != "instance":
            return obj is not None and obj.kind == "module"
        return isinstance(obj.cls, Class) and self.world.is_module(obj.cls.cid)

    def registers(self, value: Value, depth: int = 0) -> bool:
        """Whether a module that has a value as its attribute, or in a list, should know its parameters."""
        if isinstance(value, Tensor):
            return value.origin == "parameter"
        obj = self.obj(value)
        if obj is not None and obj.kind in ("list", "dict") and depth < MOST_DEPTH:
            return any(self.registers(item, depth + 1) for item in obj.held)
        if isinstance(value, Seq) and depth < MOST_DEPTH:
            return any(self.registers(item, depth + 1) for item in value.items)
        return self.is_module(value)

    def put(self, ref: Ref, obj: Obj) -> None:
        self.state.heap[ref.oid] = obj

    def whole(self, part: Tensor) -> Tensor | None:
        """The tensor that another one is a part of, as far out as is known."""
        view, base = self.views.get(id(part), (None, None))
        if view is not part or base is None:
            return None
        return self.whole(base) or base

    # -- closures

    def sealed(self, closure: Closure) -> Closure:
        """A closure with what its free names stand for: it can be called where these are not known."""
        if closure.captured is not None:
            return closure
        captured: list[tuple[str, Value]] = []
        self.sealing.add(id(closure.node))
        for name in free_names(closure):
            value = next(
                (names[name] for names in (self.state.env, *reversed(self.state.outer)) if name in names),
                self.state.module.get(name),
            )
            if isinstance(value, Closure) and id(value.node) in self.sealing:
                continue  # it calls itself
            if value is not None:
                captured.append((name, self._leaving(value)))
        self.sealing.discard(id(closure.node))
        return replace(closure, captured=tuple(captured))

    def leaving(self, value: Value) -> Value:
        """A value that leaves where it was made, its closures sealed, and those that objects hold."""
        if not self.closures:
            return value
        for oid, obj in self.state.heap.items():
            if any(isinstance(item, _CALLABLE) for item in obj.held):
                fields = tuple((name, self._leaving(item)) for name, item in obj.fields)
                items = tuple(self._leaving(item) for item in obj.items)
                self.state.heap[oid] = replace(obj, fields=fields, items=items)
        return self._leaving(value)

    def _leaving(self, value: Value) -> Value:
        if isinstance(value, Closure):
            return self.sealed(value)
        if isinstance(value, Seq):
            return Seq(tuple(self._leaving(item) for item in value.items))
        if isinstance(value, Choice):
            return Choice(tuple(self._leaving(option) for option in value.options))
        if isinstance(value, Partial):
            kwargs = tuple((name, self._leaving(item)) for name, item in value.kwargs)
            args = tuple(self._leaving(item) for item in value.args)
            return Partial(self._leaving(value.function), args, kwargs)
        return value

    # -- what a value is made of

    def nodes_in(self, value: Value | None, depth: int = 0) -> Iterator[int]:
        """Every graph node that a value holds, containers looked into."""
        if value is None or depth > MOST_DEPTH:
            return
        if value.__class__ in NODED:
            node = node_of(value)
            if node != NOWHERE:
                yield node
        elif isinstance(value, Seq):
            for item in value.items:
                yield from self.nodes_in(item, depth + 1)
        elif isinstance(value, Choice):
            for option in value.options:
                yield from self.nodes_in(option, depth + 1)
        elif isinstance(value, Params):
            yield from value.nodes
        elif isinstance(value, Ref):
            obj = self.state.heap.get(value.oid)
            if obj is not None and obj.kind in ("list", "dict", "record"):
                for item in obj.items:
                    yield from self.nodes_in(item, depth + 1)
                for _, item in obj.fields:
                    yield from self.nodes_in(item, depth + 1)

    def tensors_in(self, value: Value | None, depth: int = 0) -> Iterator[Tensor]:
        """Every tensor that a container holds."""
        if value is None or depth > MOST_DEPTH:
            return
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Seq):
            for item in value.items:
                yield from self.tensors_in(item, depth + 1)
        elif isinstance(value, Choice):
            for option in value.options:
                yield from self.tensors_in(option, depth + 1)
        elif isinstance(value, Ref):
            obj = self.state.heap.get(value.oid)
            if obj is not None and obj.kind in ("list", "dict", "record"):
                for item in obj.held:
                    yield from self.tensors_in(item, depth + 1)

    def parameters_of(self, value: Value) -> tuple[list[int], bool]:
        """The parameter nodes that `value.parameters()` would give, and whether some cannot be seen."""
        heap = self.state.heap
        if not isinstance(value, Ref) or ((obj := heap.get(value.oid)) is not None and obj.get("@of")):
            return self._parameters_of(value, {})
        known = self._parameters.get(value.oid)
        if known is not None:
            seen, nodes, unknown = known
            if all(heap.get(oid) is obj for oid, obj in seen.items()):
                return list(nodes), unknown
        seen = {}
        found, unknown = self._parameters_of(value, seen)
        self._parameters[value.oid] = seen, tuple(found), unknown
        return found, unknown

    def _parameters_of(self, value: Value, seen: dict[int, Obj | None]) -> tuple[list[int], bool]:
        """The same; `seen` are the objects that were looked into."""
        nodes: list[int] = []
        unknown = False
        if isinstance(value, Tensor) and value.origin == "parameter":
            return [value.node], False
        if isinstance(value, Unknown):
            return ([value.node], True) if value.node != NOWHERE else ([], True)
        if isinstance(value, Choice):
            # One of them is there, and nothing says which.
            for option in value.options:
                more, blind = self._parameters_of(option, seen)
                nodes += more
                unknown = unknown or blind
            return list(dict.fromkeys(nodes)), unknown or bool(nodes)
        if not isinstance(value, Ref) or value.oid in seen:
            return [], False
        obj = seen[value.oid] = self.state.heap.get(value.oid)
        if obj is None or obj.kind not in ("module", "instance"):
            return [], False
        for name, item in obj.fields:
            if name[:1] == "@":
                continue
            if name == "*":
                if node_of(item) != NOWHERE:
                    nodes.append(node_of(item))
                if isinstance(item, Unknown):
                    unknown = True
                continue
            if isinstance(item, Unknown):
                # An attribute that may be a module; a hyperparameter has no node and counts for nothing.
                if item.node != NOWHERE and self.graph[item.node].kind == "source":
                    nodes.append(item.node)
                    unknown = True
                continue
            more, blind = self._parameters_of(item, seen)
            nodes += more
            unknown = unknown or blind
        within: list[Value] = []
        path = obj.get("@path")
        if isinstance(path, Const) and (owner := self.obj(obj.get("@of"))) is not None:
            # A part of a library's model, and what the program has put into it.
            within = [item for name, item in owner.fields if name.startswith(f"{path.value}.")]
        for item in (*obj.items, *within):
            more, blind = self._parameters_of(item, seen)
            nodes += more
            unknown = unknown or blind
        return list(dict.fromkeys(nodes)), unknown

    def shape_of(self, value: Value | None) -> Shape:
        if isinstance(value, (Tensor, Array)):
            return value.shape
        if isinstance(value, (Number, Const)):
            return ()
        return None

    def spend(self) -> None:
        self.budget -= 1
        if self.budget < 0:
            raise OutOfBudget


def goes_on(body: list[ast.AST]) -> bool:
    """Whether each turn goes on from what the one before has made: a text that is generated word by word.

    What is only collected, turn by turn, is made of nothing that was collected before.
    """
    bound: list[tuple[set[str], set[str]]] = []
    for part in body:
        if isinstance(part, ast.Assign):
            names = [{n.id for n in ast.walk(one) if isinstance(n, ast.Name)} for one in part.targets]
            read = {n.id for n in ast.walk(part.value) if isinstance(n, ast.Name)}
            bound.append((set().union(*names), read))
    for mine, read in bound:
        derived: set[str] = set(mine & read)
        for targets, sources in bound if derived else ():
            if sources & derived:
                derived |= targets
        if derived & read - mine:
            return True
    return False


def as_call(node: ast.AST) -> ast.Call:
    """What stands where something is called: the call, or a decorator or an operator in its place."""
    if isinstance(node, ast.Call):
        return node
    return ast.copy_location(ast.Call(node, [], []), node)  # type: ignore[arg-type]


_CALLABLE = (Closure, Partial, Choice, Seq)


def free_names(closure: Closure) -> list[str]:
    """The names that a closure reads and does not bind itself, in order."""
    parts: list[ast.AST] = [closure.node, *(lines_of(closure.block) if closure.block else ())]
    read: dict[str, None] = {}
    bound: set[str] = set()
    rebound: set[str] = set()
    for inner in (inner for part in parts for inner in walk(part)):
        if isinstance(inner, ast.Name):
            if isinstance(inner.ctx, ast.Load):
                read[inner.id] = None
            else:
                bound.add(inner.id)
        elif isinstance(inner, ast.arg):
            bound.add(inner.arg)
        elif isinstance(inner, ast.Nonlocal):
            rebound.update(inner.names)
    return [name for name in read if name not in bound or name in rebound]


def lines_of(block: Block) -> Iterator[ast.AST]:
    """Every statement of a block, those of blocks within it too."""
    for statement in block:
        for clause in (*statement.decorators, *statement):
            yield from clause.line.nodes
            if clause.block:
                yield from lines_of(clause.block)


def described(value: Value, obj: Obj | None) -> dict[str, str]:
    """What a value is, in words of structure."""
    kind = obj.kind if obj is not None else type(value).__name__.lower()
    facts = {"kind": kind}
    if isinstance(value, (Tensor, Array)):
        facts |= {"dtype": value.dtype, "role": value.role}
        if value.shape is not None:
            facts["shape"] = " ".join(str(one) for one in value.shape) or "scalar"
    if isinstance(value, Tensor):
        facts["origin"] = value.origin
    if isinstance(value, Unknown):
        facts["why"] = value.why
    if obj is not None and isinstance(obj.cls, (Lib, Class)):
        facts["class"] = obj.cls.name if isinstance(obj.cls, Lib) else obj.cls.cid
    return facts
