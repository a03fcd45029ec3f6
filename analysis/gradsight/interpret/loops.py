"""Loops: what each turn is given, what is carried from turn to turn, what is left.

A body is run once; what it rebinds begins as a `loop` node, which is given its back edge when the body has
been read. A list of modules that is known is run item by item.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from gradsight.domain import Edge
from gradsight.graph import Node
from gradsight.interpret.assignments import Assignments
from gradsight.interpret.shapes import fits, in_any_turn
from gradsight.interpret.state import State
from gradsight.outline import Block, Statement
from gradsight.syntax import walk
from gradsight.values import (
    NONE,
    NOWHERE,
    Array,
    Class,
    Const,
    Number,
    Ref,
    Seq,
    Tensor,
    Unknown,
    Value,
    node_of,
)


@dataclass(frozen=True, slots=True)
class Carried:
    """What one turn leaves for the next: under a name, in an attribute of an object, or as what it holds."""

    name: str  # as the loop's own lines may write it
    oid: int  # the object that it is a part of, or NOWHERE
    field: str
    first: Value  # before the loop
    begun: Value  # as the body finds it
    starts: tuple[int, ...]
    shared: bool = False  # under a name of the module, from within a function
    turns_read: bool = False  # one by one: nothing of it is supposed


class Loops(Assignments):
    """For and while."""

    def loop(
        self, node: ast.For | ast.AsyncFor | ast.While, block: Block | None, statement: Statement | None
    ) -> None:
        iterable: Value = NONE
        number = self.number()
        outer = self.context
        at = self.at
        if isinstance(node, (ast.For, ast.AsyncFor)):
            iterable = self.evaluate(node.iter)
        carried = self.carry(node, block)
        self.context = (*outer, ("l", number, 0))
        loops = self.graph.loops
        self.graph.loops = (*loops, number)
        self.breaks.append([])
        self.left.append([])
        continues, start, began = self.continues, len(self.events), self.state.grad
        if isinstance(node, (ast.For, ast.AsyncFor)):
            items = self.items(iterable)
            obj = self.obj(iterable)
            if (
                items is not None
                and 1 < len(items) <= 8
                and not (obj is not None and obj.many)
                and (self.worth_unrolling(items) or self.picks_objects(node, block, items))
            ):
                self.unroll(node, items, block, carried)
            else:
                self.assign(node.target, self.element_of(iterable, node.iter), node.iter)
                self.run_body(block, node.body)
        else:
            self.evaluate(node.test)
            self.run_body(block, node.body)
        if isinstance(node, ast.For):
            self.repeats(start, body_parts(node, block), [node.target])
        ends, left = self.breaks.pop(), self.left.pop()
        if not self.dead:
            self.leaves_lost(node, block)
            ends.append(self.state)
            if began == "on" and self.state.grad != "on":
                self.event("left off", facts={"binds": " ".join(self.bound_in(node, block))})
        elif self.continues == continues:
            self.context = (*outer, ("l", number, 0))
            self.event("once")
        else:
            self.ending((*outer, ("l", number, 0)))
        self.dead = False
        self.at = at
        self.context = outer
        self.graph.loops = loops
        if not ends and not left:
            self.dead = not isinstance(node, (ast.For, ast.AsyncFor))
            return
        others = self.otherwise(node, statement if block is not None else None, ends)
        if not (ends := [*left, *others]):
            self.dead = True
            return
        self.state = self.joiner.states(ends)
        if not all(self.kept_shape(one) for one in carried):
            self.forget_shapes(node, block, carried)
        for one in carried:
            self.hand_on(one, node)

    def leaves_lost(self, node: ast.stmt, block: Block | None) -> None:
        """Names of leaves that a turn has bound to what was computed from them, and left so."""
        for name, (value, leaf, facts, call, target) in list(self.rebound.items()):
            if self.bound_to(name) is not value or self.graph.loops[-1] in self.graph[leaf].loops:
                continue
            del self.rebound[name]
            if not keeps_gradients(node, block):
                self.event("rebound", nodes=(leaf,), facts=facts, call=call, target=target)

    def ending(self, within: tuple[tuple[str, int, int], ...]) -> None:
        """What happens behind the last `continue` of a body that nobody comes to the end of happens once."""
        self.context = within
        self.event("ending")
        self.events.insert(self.last_continue, self.events.pop())

    def otherwise(
        self, node: ast.For | ast.AsyncFor | ast.While, statement: Statement | None, ends: list[State]
    ) -> list[State]:
        """The states that a loop is left with which nothing broke: behind its `else`, where it has one."""
        bodies: list[tuple[Block | None, list[ast.stmt]]] = []
        bodies += [(clause.block, []) for clause in statement[1:]] if statement is not None else []
        if node.orelse:
            bodies.append((None, node.orelse))
        if not ends or not bodies:
            return ends
        self.state = self.joiner.states(ends)
        for body, nodes in bodies:
            self.run_body(body, nodes)
        died, self.dead = self.dead, False
        return [] if died else [self.state]

    def bound_in(self, node: ast.For | ast.AsyncFor | ast.While, block: Block | None) -> list[str]:
        """Names that differ from turn to turn."""
        targets = ast.walk(node.target) if isinstance(node, (ast.For, ast.AsyncFor)) else ()
        names, _, _ = stored_in(node, block)
        return [*(inner.id for inner in targets if isinstance(inner, ast.Name)), *names]

    def worth_unrolling(self, items: tuple[Value, ...]) -> bool:
        """A list of modules or of pairs of them: each turn does something of its own."""

        def has_objects(value: Value) -> bool:
            if isinstance(value, Seq):
                return any(has_objects(item) for item in value.items)
            obj = self.obj(value)
            return obj is not None and obj.kind in ("module", "instance", "optimizer")

        return any(has_objects(item) for item in items)

    def picks_objects(
        self, node: ast.For | ast.AsyncFor, block: Block | None, items: tuple[Value, ...]
    ) -> bool:
        """Whether known numbers or words pick an object each: `self.layers[i]`, `getattr(self, f"fc{i}")`."""
        target = {inner.id for inner in ast.walk(node.target) if isinstance(inner, ast.Name)}
        if not all(isinstance(part, Const) for item in items for part in first_of(item)):
            return False
        for inner in (inner for part in body_parts(node, block) for inner in picking(part)):
            if isinstance(inner, ast.Subscript) and names(inner.slice, target):
                base = inner.value
                while isinstance(base, ast.Attribute):
                    base = base.value
                if isinstance(base, ast.Name) and isinstance(inner.ctx, ast.Load):
                    obj = self.obj(self.evaluate(inner.value))
                    if obj is not None and self.worth_unrolling(obj.held):
                        return True
            elif isinstance(inner, ast.Call) and isinstance(inner.func, (ast.Name, ast.Attribute)):
                called = inner.func.id if isinstance(inner.func, ast.Name) else inner.func.attr
                if called in ("getattr", "setattr", "add_module", "register_module", "register_parameter"):
                    if any(names(argument, target) for argument in inner.args):
                        return True
        return False

    def unroll(
        self,
        node: ast.For | ast.AsyncFor,
        items: tuple[Value, ...],
        block: Block | None,
        carried: list[Carried],
    ) -> None:
        for at, one in enumerate(carried):
            # Each turn is read with what the one before has left: nothing has to be supposed.
            if one.oid == NOWHERE and isinstance(one.begun, Tensor) and isinstance(one.first, Tensor):
                names = self.state.module if one.shared else self.state.env
                begun = names[one.name] = replace(one.begun, shape=one.first.shape)
                carried[at] = replace(one, begun=begun, turns_read=True)
        for item in items:
            self.assign(node.target, item, node.iter)
            self.run_body(block, node.body)
            if self.dead:
                ends = self.breaks[-1]
                if not ends:
                    return
                self.state = self.joiner.states(ends)
                self.breaks[-1] = []
                self.dead = False
            elif ends := self.breaks[-1]:
                self.state = self.joiner.states([self.state, *ends])
                self.breaks[-1] = []

    # -- what is carried

    def carry(self, node: ast.stmt, block: Block | None) -> list[Carried]:
        """What the body rebinds or changes and a turn before may have left: it begins as loop nodes."""
        carried: list[Carried] = []
        names, attributes, items = stored_in(node, block)
        if self.at_module_level:
            names = tuple(dict.fromkeys((*names, *sorted(self.world.declared & self.state.env.keys()))))
        for name in names:
            value = self.state.env.get(name)
            if value is None:
                continue
            begun, starts = self.begin(value, name)
            if starts:
                self.state.env[name] = begun
                carried.append(Carried(name, NOWHERE, "", value, begun, starts))
        for name in () if self.at_module_level else sorted(self.world.declared & self.state.module.keys()):
            value = self.state.module[name]
            if value == NONE or isinstance(value, (Tensor, Seq)):
                begun, starts = self.begin(value, name)
                if starts:
                    self.state.module[name] = begun
                    carried.append(Carried(name, NOWHERE, "", value, begun, starts, shared=True))
        for oid, field, text in dict.fromkeys((*self.stored_fields(attributes), *self.kept_fields())):
            obj = self.state.heap[oid]
            value = obj.get(field)
            if value is None or (isinstance(value, Tensor) and value.origin == "buffer"):
                continue
            begun, starts = self.begin(value, text)
            if starts:
                self.state.heap[oid] = obj.with_field(field, begun)
                carried.append(Carried(text, oid, field, value, begun, starts))
        for name in items:
            value = self.look_up(name)
            if isinstance(value, Tensor):
                if value.origin not in ("parameter", "leaf") and self.state.env.get(name) is value:
                    if reads(name, node, block):
                        start = self.start(value.node, name)
                        begun = self.state.env[name] = replace(value, node=start)
                        carried.append(Carried(name, NOWHERE, "", value, begun, (start,)))
                continue
            begun, starts = self.begin(value, name)
            if isinstance(value, Ref) and isinstance(begun, Ref) and starts:
                self.state.heap[value.oid] = self.state.heap[begun.oid]
                carried.append(Carried(name, value.oid, "", value, value, starts))
        for base, name in collected_in(node, block):
            if (base, name) in attributes or (not base and name in names):
                continue
            value = self.state.env.get(base or name)
            if base:
                owner = self.obj(value)
                value = owner.get(name) if owner is not None and owner.kind == "instance" else None
                name = f"{base}.{name}"
            held = self.obj(value)
            if isinstance(value, Ref) and held is not None and held.kind == "list":
                if all(isinstance(item, Tensor) for item in held.items):
                    # What the turns before have put into it stands there as one item.
                    start = self.start(NOWHERE, name)
                    self.put(value, replace(held, items=(*held.items, Tensor(start)), many=True))
                    carried.append(Carried(name, value.oid, "", value, value, (start,)))
        return carried

    def stored_fields(self, attributes: Iterable[tuple[str, str]]) -> Iterator[tuple[int, str, str]]:
        """Attributes of objects that the body itself stores to: `self.state = ...`."""
        for base, field in attributes:
            receiver = self.look_up(base)
            obj = self.obj(receiver)
            if isinstance(receiver, Ref) and obj is not None and obj.kind == "instance":
                yield receiver.oid, field, f"{base}.{field}"

    def kept_fields(self) -> Iterator[tuple[int, str, str]]:
        """Tensors that an object keeps and that some method of its class replaces, called by whomever."""
        for oid, obj in self.state.heap.items():
            if obj.kind != "instance" or not isinstance(obj.cls, Class):
                continue
            for field, value in obj.fields:
                holds = value == NONE or isinstance(value, (Tensor, Seq))
                if not holds or field == "*" or self.world.stores(obj.cls.cid, field) < 2:
                    continue
                if self.world.stores(obj.cls.cid, field, anew=False):
                    yield oid, field, f"{self.path_to(oid)}.{field}"

    def path_to(self, oid: int) -> str:
        """How the loop's own names reach an object, at most through one attribute; else nothing."""
        for name, value in self.state.env.items():
            if isinstance(value, Ref) and value.oid == oid:
                return name
        for name, value in self.state.env.items():
            obj = self.obj(value)
            if obj is not None and obj.kind == "instance":
                for field, item in obj.fields:
                    if isinstance(item, Ref) and item.oid == oid:
                        return f"{name}.{field}"
        return ""

    def begin(self, value: Value, name: str, within: bool = False) -> tuple[Value, tuple[int, ...]]:
        """A value as the body finds it, its parts loop nodes that have their first value, and these nodes.

        Within a tuple or a list only tensors are carried.
        """
        if isinstance(value, Tensor):
            if value.origin in ("parameter", "leaf"):
                return value, ()
            start = self.start(value.node, name)
            shape = None if within else in_any_turn(value.shape)
            return Tensor(start, value.dtype, shape, "blank" if value.role == "blank" else ""), (start,)
        if isinstance(value, Seq) and not within:
            begun = [self.begin(item, name, True) for item in value.items]
            starts = tuple(start for _, more in begun for start in more)
            return (Seq(tuple(item for item, _ in begun)), starts) if starts else (value, ())
        obj = self.obj(value)
        if obj is not None and obj.kind in ("list", "dict") and not within:
            items = [self.begin(item, name, True) for item in obj.items]
            fields = [(key, self.begin(item, name, True)) for key, item in obj.fields]
            starts = tuple(n for _, more in (*items, *(one for _, one in fields)) for n in more)
            if not starts:
                return value, ()
            copied = tuple((key, item) for key, (item, _) in fields)
            return self.allocate(replace(obj, fields=copied, items=tuple(item for item, _ in items))), starts
        if within:
            return value, ()
        if isinstance(value, Const):
            if isinstance(value.value, (int, float)) and not isinstance(value.value, bool):
                start = self.start(NOWHERE, name)
                return Number(start), (start,)
            if value == NONE:
                # `state = None` before the loop: from the second turn on it is what the turn before left.
                start = self.start(NOWHERE, name)
                return Unknown("nothing yet in the first turn", start), (start,)
        elif isinstance(value, (Number, Array)) or (isinstance(value, Unknown) and value.node != NOWHERE):
            start = self.start(value.node, name)
            return replace(value, node=start), (start,)
        return value, ()

    def start(self, first: int, name: str) -> int:
        return self.graph.add(Node("loop", "loop", (first,), (Edge.LIVE,), place=self.here(), note=name))

    def left_by(self, carried: Carried) -> Value | None:
        """What the last turn has left."""
        if carried.shared:
            return self.state.module.get(carried.name)
        if carried.oid == NOWHERE:
            return self.state.env.get(carried.name)
        obj = self.state.heap.get(carried.oid)
        return obj.get(carried.field) if obj is not None and carried.field else None

    def kept_shape(self, carried: Carried) -> bool:
        """Whether a turn has left the shape that was supposed of it, so that all turns do."""
        if carried.turns_read or not isinstance(carried.begun, Tensor):
            return True
        left = self.left_by(carried)
        return fits(left.shape if isinstance(left, Tensor) else None, carried.begun.shape)

    def forget_shapes(self, node: ast.stmt, block: Block | None, carried: list[Carried]) -> None:
        """What was read with the shapes of the first turn is true of that turn, and not of what is left."""
        for name in stored_in(node, block)[0]:
            value = self.state.env.get(name)
            if isinstance(value, Tensor) and value.origin not in ("parameter", "leaf", "buffer"):
                self.state.env[name] = replace(value, shape=None)
        for one in carried:
            left = self.left_by(one) if one.oid != NOWHERE else None
            if isinstance(left, Tensor) and left != one.begun:
                obj = self.state.heap[one.oid]
                self.state.heap[one.oid] = obj.with_field(one.field, replace(left, shape=None))

    def hand_on(self, carried: Carried, node: ast.stmt) -> None:
        """The body has been read: what it left is what the next turn finds."""
        if carried.shared:
            left = self.state.module.get(carried.name)
            if left == carried.begun:
                self.state.module[carried.name] = carried.first
                return
        elif carried.oid == NOWHERE:
            left = self.state.env.get(carried.name)
        else:
            obj = self.state.heap.get(carried.oid)
            if carried.field:
                left = obj.get(carried.field) if obj is not None else None
                if obj is not None and left == carried.begun:
                    # Nothing has touched it.
                    self.state.heap[carried.oid] = obj.with_field(carried.field, carried.first)
                    return
            else:
                left = carried.first
                if obj is not None and obj.kind == "list":
                    items = tuple(item for item in obj.items if node_of(item) not in carried.starts)
                    if len(items) < len(obj.items):
                        self.state.heap[carried.oid] = replace(obj, items=items)
        if left is None:
            return
        self.close(carried.begun, left, carried.starts)
        if all(len(self.graph[start].inputs) == 1 for start in carried.starts):
            return
        first, last = self.kind_of(carried.first), self.kind_of(left)
        if first and last:
            facts = {"name": carried.name, "first": first, "last": last}
            self.event("carried", nodes=carried.starts, facts=facts, loop=self.here(node))

    def close(self, begun: Value, left: Value, starts: tuple[int, ...]) -> None:
        parts = [self.parts(begun), self.parts(left)]
        if len(parts[0]) == len(parts[1]) == len(starts) and begun is not left:
            for start, end in zip(starts, parts[1], strict=True):
                self.graph.close_loop(start, end)
            return
        ends = [n for n in dict.fromkeys(self.nodes_in(left)) if n not in starts]
        if not ends:
            return
        end = ends[0]
        if len(ends) > 1:
            end = self.graph.add(
                Node("join", "join", tuple(ends), (Edge.LIVE,) * len(ends), place=self.here())
            )
        for start in starts:
            self.graph.close_loop(start, end)

    def parts(self, value: Value) -> list[int]:
        """The nodes of a value, or of the tensors that a tuple, list or dictionary holds, in order."""
        if isinstance(value, Seq):
            return [node_of(item) for item in value.items if isinstance(item, Tensor)]
        obj = self.obj(value)
        if obj is not None:
            held = obj.held
            return [node_of(item) for item in held if isinstance(item, Tensor)]
        return [node_of(value)]

    def kind_of(self, value: Value) -> str:
        """What a state is made of, as far as a person would have to know to detach it."""
        if isinstance(value, Tensor):
            return "tensor"
        if value == NONE:
            return "none"
        if isinstance(value, Const):
            return "number"
        obj = self.obj(value)
        items = value.items if isinstance(value, Seq) else obj.items if obj is not None else ()
        if items and all(isinstance(item, Tensor) for item in items):
            return "tuple" if isinstance(value, Seq) else obj.kind if obj is not None else ""
        return "other" if isinstance(value, (Seq, Ref)) else ""


Stored = tuple[tuple[str, ...], tuple[tuple[str, str], ...], tuple[str, ...]]


def stored_in(node: ast.stmt, block: Block | None) -> Stored:
    """What a loop's body binds, in order: names, attributes as (x, name), items of names."""
    each = [stores(part) for part in body_parts(node, block)]
    targets = (
        {inner.id for inner in ast.walk(node.target) if isinstance(inner, ast.Name)}
        if isinstance(node, (ast.For, ast.AsyncFor))
        else set()
    )
    names = dict.fromkeys(name for one in each for name in one[0])
    return (
        tuple(name for name in names if name not in targets),
        tuple(dict.fromkeys(attribute for one in each for attribute in one[1])),
        tuple(dict.fromkeys(name for one in each for name in one[2] if name not in names)),
    )


def reads(name: str, node: ast.stmt, block: Block | None) -> bool:
    """Whether a loop's body takes items of a name, or all of it, besides those that it stores."""
    loads = 0
    for inner in (inner for part in body_parts(node, block) for inner in ast.walk(part)):
        if isinstance(inner, ast.Name) and inner.id == name and isinstance(inner.ctx, ast.Load):
            loads += 1
        elif isinstance(inner, ast.Subscript) and isinstance(inner.ctx, ast.Store):
            loads -= isinstance(inner.value, ast.Name) and inner.value.id == name
    return loads > 0


def keeps_gradients(node: ast.stmt, block: Block | None) -> bool:
    """Whether a loop's body asks for gradients of tensors that are no leaves."""
    inner = (inner for part in body_parts(node, block) for inner in ast.walk(part))
    return any(isinstance(one, ast.Attribute) and one.attr == "retain_grad" for one in inner)


def first_of(item: Value) -> tuple[Value, ...]:
    """What a turn is told apart by: the first of a pair, as `enumerate` gives them."""
    return item.items[:1] if isinstance(item, Seq) else (item,)


def names(node: ast.expr, known: set[str]) -> bool:
    """Whether an expression is one of these names, or a text with one in it."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) and names(part.value, known) for part in node.values)
    if isinstance(node, ast.Call):
        return (
            isinstance(node.func, ast.Name)
            and node.func.id == "str"
            and any(names(a, known) for a in node.args)
        )
    return isinstance(node, ast.Name) and node.id in known


COMBINING = frozenset({"stack", "cat", "concat", "hstack", "vstack", "sum", "mean"})


def collected_in(node: ast.stmt, block: Block | None) -> tuple[tuple[str, str], ...]:
    """Lists that a loop's body appends to and puts together as well: `torch.stack(bank)`.

    Each as ("", name), or (x, name) for an attribute of a name.
    """
    appended: dict[tuple[str, str], None] = {}
    used: set[tuple[str, str]] = set()
    for inner in (inner for part in body_parts(node, block) for inner in picking(part)):
        if not isinstance(inner, ast.Call):
            continue
        if isinstance(inner.func, ast.Attribute) and inner.func.attr == "append" and inner.args:
            collection = reached_by(inner.func.value)
            if collection is not None and not isinstance(inner.args[0], (ast.Tuple, ast.Dict)):
                appended[collection] = None
        called = getattr(inner.func, "attr", getattr(inner.func, "id", ""))
        if called in COMBINING and inner.args:
            used |= {one for part in walk(inner.args[0]) if (one := reached_by(part)) is not None}
    return tuple(one for one in appended if one in used)


def reached_by(node: ast.AST) -> tuple[str, str] | None:
    """A name as ("", name), an attribute of a name as (x, name)."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id, node.attr
    return ("", node.id) if isinstance(node, ast.Name) else None


def body_parts(node: ast.stmt, block: Block | None) -> Iterator[ast.AST]:
    """Every statement of a loop's body."""
    if block is None:
        yield from getattr(node, "body", [])
        return
    for statement in block:
        for clause in statement:
            yield from clause.line.nodes
            if clause.block:
                yield from body_parts(node, clause.block)


@functools.lru_cache(16384)
def picking(part: ast.AST) -> tuple[ast.Call | ast.Subscript, ...]:
    """The calls and subscripts in a statement of one line."""
    return tuple([inner for inner in walk(part) if isinstance(inner, (ast.Call, ast.Subscript))])


@functools.lru_cache(16384)
def stores(part: ast.AST) -> Stored:
    """The names that a statement of one line binds, and the attributes and items of names that it stores."""
    names: dict[str, None] = {}
    attributes: dict[tuple[str, str], None] = {}
    items: dict[str, None] = {}
    for inner in walk(part):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            names[inner.id] = None
        elif isinstance(inner, (ast.Attribute, ast.Subscript)) and isinstance(inner.ctx, ast.Store):
            if isinstance(inner.value, ast.Name):
                if isinstance(inner, ast.Attribute):
                    attributes[inner.value.id, inner.attr] = None
                else:
                    items[inner.value.id] = None
    return tuple(names), tuple(attributes), tuple(items)
