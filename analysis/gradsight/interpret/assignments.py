"""Assignments: names bound, tuples unpacked, attributes and items stored, things deleted."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import Any

from gradsight import model
from gradsight.domain import DEPENDING, Edge
from gradsight.graph import Node
from gradsight.interpret.calls import Calls
from gradsight.interpret.containers import is_container
from gradsight.interpret.expressions import OPERATORS
from gradsight.interpret.fates import fates, like_a_term
from gradsight.interpret.writing import LEAVES, written_in_place
from gradsight.interpret.zoos import ANY, is_library_model, put_into, whole
from gradsight.syntax import written_as
from gradsight.values import (
    NOWHERE,
    REST,
    Array,
    Choice,
    Class,
    Const,
    Obj,
    Params,
    Ref,
    Seq,
    Tensor,
    Unknown,
    Value,
    node_of,
)

OWN_VALUES = ("parameter", "leaf", "data", "buffer")  # of what an optimizer or a person sets the numbers of


class Assignments(Calls):
    """What binds a name or changes an object."""

    def assignment(self, node: ast.Assign, block: Any, statement: Any) -> None:
        value = self.evaluate(node.value)
        written = node.value
        if (
            isinstance(written, ast.BinOp)
            and isinstance(written.op, ast.Add)
            and isinstance(written.left, (ast.Name, ast.Attribute))
            and written_as(written.left) == written_as(node.targets[0])
            and isinstance(value, Tensor)
            and value.node != NOWHERE
        ):
            # `total = total + loss`; the sum's operands are its node's inputs.
            inputs = self.graph[value.node].inputs
            left = Tensor(inputs[0] if len(inputs) == 2 else NOWHERE)
            if len(inputs) in (1, 2):
                self.accumulates(node.targets[0], left, Tensor(inputs[-1]), value, node, written.right)
        if self.graph.loops:
            self.rebinds(node.targets[0], value, node.value)
        for target in node.targets:
            self.assign(target, value, node.value)
        self.binds_term(node.targets[0], value, node.value)

    def rebinds(self, target: ast.expr, value: Value, at: ast.expr) -> None:
        """`w = w - lr * w.grad`: unless it is made a leaf again, the next turn finds none under the name."""
        if isinstance(target, ast.Tuple) and isinstance(at, ast.Tuple):
            items = self.items(value)
            if items is not None and len(items) == len(target.elts) == len(at.elts):
                for part, item, written in zip(target.elts, items, at.elts, strict=True):
                    self.rebinds(part, item, written)
            return
        if not isinstance(target, (ast.Name, ast.Attribute)) or not isinstance(value, Tensor):
            return
        name = written_as(target)
        old = self.bound_to(name)
        if not isinstance(old, Tensor) or old.origin not in LEAVES:
            return
        if value.origin not in LEAVES and self.is_update_of(old.node, value):
            if value.node != NOWHERE and "requires_grad" in self.graph[value.node].op + ast.unparse(at):
                return  # a leaf again
            recorded = self.state.grad == "on" and any(
                self.graph[n].kind == "source" for n in self.graph.feeding(value.node, (Edge.LIVE,))
            )
            facts = {"name": name, "grad": self.state.grad, "recorded": "yes" if recorded else ""}
            self.rebound[name] = value, old.node, facts, self.here(at), self.here(target)

    def bound_to(self, name: str) -> Value | None:
        """What a name or an attribute of a name, `self.w`, holds now."""
        owner, _, attribute = name.partition(".")
        value = self.state.env.get(owner)
        if not attribute:
            return value
        obj = self.obj(value)
        return obj.get(attribute) if obj is not None else None

    def is_update_of(self, leaf: int, value: Tensor) -> bool:
        """Whether a value is computed from a leaf whose gradient was read in this loop."""
        loops = self.graph.loops
        read = any(
            event.kind == "read"
            and leaf in event.nodes
            and ("l", loops[-1]) in [(kind, number) for kind, number, _ in event.context]
            for event in self.events
        )
        return read and leaf in self.graph.feeding(value.node, DEPENDING)

    def annotated(self, node: ast.AnnAssign, block: Any, statement: Any) -> None:
        if node.value is not None:
            value = self.evaluate(node.value)
            self.assign(node.target, value, node.value)
            self.binds_term(node.target, value, node.value)

    def binds_term(self, target: ast.expr, value: Value, at: ast.expr) -> None:
        """A name is given what looks like a loss: what the function goes on to do with it may be nothing."""
        if isinstance(target, ast.Tuple) and (items := self.items(value)) is not None:
            if len(items) == len(target.elts) > 1:
                for part, item in zip(target.elts, items, strict=True):
                    self.binds_term(part, item, part)
            return
        if not isinstance(target, ast.Name) or target.id.startswith("_"):
            return
        if not isinstance(value, Tensor) or value.node == NOWHERE:
            return
        if self.state.grad != "on":
            return
        criterion = model.criterion(self.graph[value.node].op)
        if value.shape != () and not criterion and not like_a_term(target.id):
            return
        outline, region = self.world.outline, self.world.regions.get(self.function_name)
        if self.owner or (region is None and not self.at_module_level):
            return  # these lines are another function's
        found = fates((outline.skeleton if region is None else region).lines, region is not None)
        kind = "lost" if self.at in found.lost and target is not at else found.of(target.id)
        again = self.at in found.lost.values()
        if kind or again:
            self.event(
                "term",
                value.node,
                facts={"name": target.id, "fate": kind, "again": "yes" if again else ""},
                call=self.here(at),
                target=self.here(target),
            )

    def augmented(self, node: ast.AugAssign, block: Any, statement: Any) -> None:
        target = node.target
        load = ast.copy_location(as_load(target), target)
        left = self.evaluate(load)
        right = self.evaluate(node.value)
        op = OPERATORS[type(node.op)]
        obj = self.obj(left)
        if obj is not None and obj.kind == "list" and op == "add" and isinstance(left, Ref):
            self.list_method(left, obj, "extend", [right], ast.Call(load, [node.value], []))
            return
        if obj is not None and op == "add" and isinstance(left, Ref) and is_container(obj):
            self.module_method(left, obj, "extend", [right], {}, ast.Call(load, [node.value], []))
            return
        if isinstance(left, Tensor) and left.origin in LEAVES:
            written_in_place(self, left, left, f"{op}_", target, target, right)
            return  # a manual update: `w -= lr * w.grad`, which stays the leaf that it was
        if isinstance(left, Tensor) and left.origin == "data":
            written_in_place(self, left, left, f"{op}_", target, target, right)
            return
        value = self.operate(op, left, right, node)
        if op == "add":
            self.accumulates(target, left, right, value, node, node.value)
        if isinstance(left, Tensor):
            written_in_place(self, left, value, f"{op}_", target, target, right)
        self.changed_in_place(target, left, value, node.value)

    def accumulates(
        self, target: ast.expr, left: Value, right: Value, value: Value, at: ast.AST, added: ast.AST
    ) -> None:
        """`total += loss` in a loop."""
        within = self.graph.loops or not self.at_module_level  # a helper may be called in a loop
        if isinstance(target, ast.Name) and node_of(left) == NOWHERE:
            return  # it was set in this turn
        if isinstance(value, Tensor) and within and node_of(right) != NOWHERE:
            if self.state.grad != "off":
                self.event(
                    "accumulate",
                    value.node,
                    (node_of(left), node_of(right)),
                    facts={"name": written_as(target)},
                    call=self.here(at),
                    value=self.here(added),
                )

    def assign(self, target: ast.expr, value: Value, at: ast.AST) -> None:
        if target is self.watched:
            self.seen(target, value)
        if isinstance(target, ast.Name):
            for names in reversed(self.state.outer):
                if target.id in self.nonlocals and target.id in names:
                    names[target.id] = value
                    return
            if target.id in self.globals_ and self.state.module is not self.state.env:
                self.state.module[target.id] = value
                self.module_written.add(target.id)
                return
            self.state.env[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            self.unpack(target.elts, value, at)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, value, at)
        elif isinstance(target, ast.Attribute):
            self.set_attribute(target, value, at)
        elif isinstance(target, ast.Subscript):
            self.set_item(target, value, at)
        elif isinstance(target, ast.Call):
            return  # the receiver of an in-place call that has no name

    def unpack(self, targets: list[ast.expr], value: Value, at: ast.AST) -> None:
        items = self.items(value)
        obj = self.obj(value)
        starred = next((i for i, target in enumerate(targets) if isinstance(target, ast.Starred)), None)
        if items is not None and not (obj is not None and obj.many):
            if starred is None and len(items) == len(targets):
                for target, item in zip(targets, items, strict=False):
                    self.assign(target, item, at)
                return
            if starred is not None and len(items) >= len(targets) - 1:
                tail = len(targets) - starred - 1
                for target, item in zip(targets[:starred], items[:starred], strict=False):
                    self.assign(target, item, at)
                middle = items[starred : len(items) - tail]
                self.assign(targets[starred], self.allocate(Obj("list", None, items=middle)), at)
                for target, item in zip(
                    targets[starred + 1 :], items[len(items) - tail :] if tail else (), strict=False
                ):
                    self.assign(target, item, at)
                return
        if isinstance(value, Unknown):
            for target in targets:
                node = NOWHERE
                if value.node != NOWHERE:
                    node = self.graph.add(
                        Node("op", "item", (value.node,), (Edge.LIVE,), place=self.here(at))
                    )
                self.assign(target, Unknown(value.why, node), at)
            return
        element = self.element_of(value, at)
        for target in targets:
            one = replace(element) if isinstance(element, Tensor) else element  # each is one of its own
            if target is self.watched and isinstance(one, Tensor):
                # What is asked about is this one, not its neighbours.
                one = replace(one, node=self.combine("item", [(one.node, Edge.LIVE)], at))
            self.assign(target, one, at)

    def set_attribute(self, target: ast.Attribute, value: Value, at: ast.AST) -> None:
        receiver = self.evaluate(target.value)
        name = target.attr
        if name == "requires_grad":
            base = target.value
            options = receiver.options if isinstance(receiver, Choice) else (receiver,)
            modules = [one for one in options if isinstance(one, Ref)]
            if any(is_some_part(self, one) for one in modules):
                self.freeze(
                    Unknown("a part"), [n for one in modules for n in self.parameters_of(one)[0]], target
                )
                return
            if (
                isinstance(receiver, Unknown)
                and isinstance(value, Const)
                and is_seen_as_module(receiver, base)
            ):
                self.event(
                    "flag", nodes=(receiver.node,), facts={"to": str(value.value)}, call=self.here(target)
                )
                return
            if modules or isinstance(receiver, Params):
                # On a module this sets a plain attribute, and a generator takes none.
                plain = all(self.sets_plainly(one, name) for one in modules)
                given = isinstance(base, ast.Call) and isinstance(base.func, ast.Attribute)
                if isinstance(value, Const) and (plain if modules else given):
                    nodes = (
                        receiver.nodes
                        if isinstance(receiver, Params)
                        else [n for one in modules for n in self.parameters_of(one)[0]]
                    )
                    facts = {"to": str(value.value), "of": "" if modules else "generator"}
                    set_on = [one.oid for one in modules]
                    self.event("flag", nodes=nodes, oids=set_on, facts=facts, call=self.here(target))
                return
            self.require_grad(receiver, value, target, base)
            return
        if (
            MISSPELT.fullmatch(name)
            and isinstance(value, Const)
            and isinstance(value.value, bool)
            and (isinstance(receiver, Tensor) or self.sets_plainly_from_outside(receiver, target))
        ):
            self.event("misspelt", facts={"to": str(value.value)}, call=self.here(target))
            return
        if name == "training" and not isinstance(receiver, (Tensor, Array)):
            oids = (receiver.oid,) if isinstance(receiver, Ref) else ()
            self.event("mode", oids=oids, facts={"to": "unknown"}, call=self.here(target))
        if name in ("grad", "_grad"):
            facts = {"by": "hand", **({"unknown": "yes"} if isinstance(receiver, Unknown) else {})}
            self.event("zero", nodes=self.nodes_in(receiver), facts=facts, call=self.here(target))
        if name == "data" and self.in_method:
            self.event("filled", nodes=self.nodes_in(receiver), call=self.here(target))
        if name == "data" and isinstance(receiver, Tensor) and receiver.origin not in OWN_VALUES:
            # The numbers are another's, the graph stays what it was.
            parts = [(receiver.node, Edge.LIVE), *((n, Edge.CUT) for n in self.nodes_in(value))]
            number = self.combine("torch.Tensor.data", parts, target, "data", keep_off=True)
            self.assign(target.value, replace(receiver, node=number), at)
            return
        if name in ("data", "grad", "_grad"):
            return  # writes of values: the graph stays what it was
        if isinstance(receiver, Ref):
            obj = self.state.heap.get(receiver.oid)
            if obj is None:
                return
            if self.special(receiver, f"{name}.setter", [value], target) is not None:
                return
            if is_library_model(obj):
                put_into(self, receiver, name, value, target)
                return
            if obj.kind == "instance" and isinstance(obj.cls, Class) and self.world.is_module(obj.cls.cid):
                value = self.plain_tensor(receiver, obj.cls, name, value, at)
                self.plain_container(receiver, obj.cls, name, value, at)
                obj = self.state.heap[receiver.oid]
            self.replaced(obj.get(name), value, name, target)
            if obj.kind == "module" and name == "weight" and isinstance(obj.get("*"), Tensor):
                obj = obj.with_field("*", value)  # tied: it computes with this one
            if obj.kind in ("instance", "module", "object"):
                self.state.heap[receiver.oid] = obj.with_field(name, value)

    def sets_plainly_from_outside(self, receiver: Value, target: ast.Attribute) -> bool:
        """Whether an attribute of a module is set by code that is no method of it."""
        inside = isinstance(target.value, ast.Name) and target.value.id == "self"
        return isinstance(receiver, Ref) and not inside and self.sets_plainly(receiver, target.attr)

    def sets_plainly(self, module: Ref, name: str) -> bool:
        """Whether to store to an attribute of a module is nothing but that."""
        obj = self.obj(module)
        if obj is None or not self.is_module(module):
            return False
        return not isinstance(obj.cls, Class) or self.world.find_method(obj.cls.cid, name) is None

    def replaced(self, old: Value | None, new: Value, name: str, target: ast.AST) -> None:
        """Another part stands where one stood: optimizers that were made before hold the old one."""
        if isinstance(old, Ref) and isinstance(new, Ref) and old.oid != new.oid:
            nodes = self.parameters_of(new)[0]
            self.event(
                "replaced", nodes=nodes, oids=(old.oid, new.oid), facts={"name": name}, call=self.here(target)
            )

    def plain_tensor(self, receiver: Ref, cls: Class, name: str, value: Value, at: ast.AST) -> Value:
        """A tensor that is no Parameter becomes an attribute of a module: it gets a node of its own."""
        if (
            not isinstance(value, Tensor)
            or value.dtype not in ("float", "")
            or value.origin in ("parameter", "buffer")
        ):
            return value
        if value.origin == "" and self.only_new_parameters(value.node):
            value = replace(
                value, origin="computed parameter"
            )  # `nn.Parameter(...) * 0.1` is no parameter any more
        elif value.origin == "" and value.node == NOWHERE and not self.in_forward:
            value = replace(value, origin="constant")
        elif value.origin == "" or (value.origin != "leaf" and value.node != NOWHERE):
            return value
        number = value.node
        if number == NOWHERE:
            number = self.source("fresh", name, at)
        self.event(
            "attribute",
            number,
            oids=(receiver.oid,),
            facts={
                "name": name,
                "class": cls.cid,
                "origin": value.origin,
                "method": self.function_name,
                "stores": str(self.world.stores(cls.cid, name)),
                "ranked": "yes" if value.shape and (value.shape[0] != REST or value.shape[1:]) else "",
                "moves": "yes" if self.moves_itself(cls) else "",
                "devices": " ".join(self.devices_named()),
            },
            value=self.here(at),
        )
        origin = "" if value.origin == "constant" else value.origin
        return Tensor(number, value.dtype or "float", value.shape, value.role, origin)

    def devices_named(self) -> list[str]:
        """What says, where this is made, on which device something is."""
        info = self.world.function(self.function_name)
        texts = [line.text for line in info.region.lines if line.idle is None] if info is not None else []
        return [
            word for word in ("device=", "device", ".to(", ".cuda(") if any(word in each for each in texts)
        ]

    def moves_itself(self, cls: Class) -> bool:
        """Whether a class says itself what is moved with it."""
        return any(self.world.find_method(cls.cid, name) is not None for name in ("to", "cuda", "_apply"))

    def plain_container(self, receiver: Ref, cls: Class, name: str, value: Value, at: ast.AST) -> None:
        """A list that holds modules or parameters, or nothing yet, becomes an attribute of a module."""
        obj = self.obj(value)
        kind = "tuple" if isinstance(value, Seq) else obj.kind if obj is not None else ""
        if kind not in ("list", "dict", "tuple") or self.world.find_method(cls.cid, "parameters") is not None:
            return
        held = value.items if isinstance(value, Seq) else obj.held if obj is not None else ()
        made = self.function_name.endswith(".__init__")
        leaves = made and any(isinstance(item, Tensor) and item.origin == "leaf" for item in held)
        if not held or leaves or any(self.registers(item) for item in held):
            self.event(
                "container",
                oids=(receiver.oid,),
                facts={"name": name, "kind": kind, "empty": "" if held else "yes"},
                value=self.here(at),
            )

    def only_new_parameters(self, number: int) -> bool:
        """Whether a value is computed from new parameters that nothing holds, and from nothing else."""
        if number == NOWHERE or self.graph[number].kind != "op":
            return False
        sources: set[int] = set()
        for n in self.graph.feeding(number, (Edge.LIVE,)):
            node = self.graph[n]
            if node.kind in ("input", "loop", "join") or (node.kind == "source" and node.note != "parameter"):
                return False
            if node.kind == "source":
                sources.add(n)
        # The heap is looked through last: most values have ended the question before.
        held = (node_of(one) for obj in self.state.heap.values() for _, one in obj.fields)
        return bool(sources) and sources.isdisjoint(held)

    def set_item(self, target: ast.Subscript, value: Value, at: ast.AST) -> None:
        receiver = self.evaluate(target.value)
        index = self.evaluate(target.slice)
        if isinstance(receiver, Ref):
            obj = self.state.heap.get(receiver.oid)
            if obj is None:
                return
            if is_library_model(obj):
                put_into(self, receiver, str(index.value) if isinstance(index, Const) else ANY, value, target)
                return
            if obj.kind == "dict" or (obj.kind == "module" and is_container(obj)):
                if isinstance(index, Const):
                    self.state.heap[receiver.oid] = obj.with_field(repr(index.value), value)
                    if obj.kind == "module":
                        position = index.value if isinstance(index.value, int) else None
                        if position is not None and -len(obj.items) <= position < len(obj.items):
                            items = list(obj.items)
                            self.replaced(items[position], value, f"[{position}]", target)
                            items[position] = value
                            self.state.heap[receiver.oid] = Obj(
                                obj.kind, obj.cls, obj.fields, tuple(items), obj.many
                            )
                else:
                    self.state.heap[receiver.oid] = Obj(
                        obj.kind, obj.cls, obj.fields, (*obj.items, value), True
                    )
                return
            if obj.kind == "list":
                if (
                    isinstance(index, Const)
                    and isinstance(index.value, int)
                    and not obj.many
                    and -len(obj.items) <= index.value < len(obj.items)
                ):
                    items = list(obj.items)
                    items[index.value] = value
                    self.state.heap[receiver.oid] = Obj("list", obj.cls, obj.fields, tuple(items), obj.many)
                else:
                    self.state.heap[receiver.oid] = Obj(
                        "list", obj.cls, obj.fields, (*obj.items, value), True
                    )
            return
        if isinstance(receiver, Tensor):
            parts = [(receiver.node, Edge.LIVE)]
            # Zeros are there to be filled; whatever else is changed without gradients stays what it was.
            blank = receiver.role == "blank"
            edge = Edge.NONE if self.state.grad == "off" and not blank else Edge.LIVE
            parts += [(n, edge) for n in self.nodes_in(value)]
            number = self.combine("torch.Tensor.__setitem__", parts, target, keep_off=not blank)
            role = receiver.role
            if role in CLASSES or role == "blank":
                # What is put together row by row is what its rows are.
                filled = value.role if isinstance(value, Tensor) and keeps_rows(target.slice) else ""
                role = filled if filled in CLASSES and role in (filled, "blank") else ""
            if (
                receiver.origin in ("torch.zeros", "torch.zeros_like")
                and value in (Const(1), Const(1.0))
                and picks_one(target.slice)
            ):
                role = "one-hot"
            origin = receiver.origin if number == receiver.node else ""
            new = Tensor(number, receiver.dtype, receiver.shape, role, origin, receiver.exact)
            if not self.putting_back:
                written_in_place(self, receiver, new, "[]", target, target.value, value)
            if receiver.origin in LEAVES:
                return
            self.changed_in_place(target.value, receiver, new, at)
        elif isinstance(receiver, Array):
            parts = [
                (receiver.node, Edge.LIVE),
                *((n, Edge.CUT if isinstance(value, Tensor) else Edge.LIVE) for n in self.nodes_in(value)),
            ]
            role = "one-hot" if value in (Const(1), Const(1.0)) and picks_one(target.slice) else receiver.role
            self.assign(
                target.value,
                Array(
                    self.combine("numpy.setitem", parts, target, "numpy", keep_off=True),
                    receiver.dtype,
                    role,
                    receiver.shape,
                    receiver.exact,
                ),
                at,
            )

    def deletion(self, node: ast.Delete, block: Any, statement: Any) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.state.env.pop(target.id, None)
            elif isinstance(target, ast.Attribute) and target.attr == "grad":
                cleared = self.evaluate(target.value)
                self.event("zero", nodes=self.nodes_in(cleared), facts={"by": "hand"}, call=self.here(target))


def is_some_part(it: Assignments, part: Ref) -> bool:
    """Whether a part of a library's model may as well be a parameter as a module."""
    obj = it.obj(part)
    if not is_library_model(obj) or whole(it, part)[0] == part:
        return False
    last = whole(it, part)[1].rpartition(".")[2]
    return last not in PARTS and not last.lstrip("-").isdigit()


def is_seen_as_module(value: Unknown, written: ast.expr) -> bool:
    """`resnet` and `resnet.layer1` of torchvision's models: modules, although nothing of them is seen."""
    if not value.why.startswith("`torchvision.models.") or value.node == NOWHERE:
        return False
    return isinstance(written, ast.Name) or (isinstance(written, ast.Attribute) and written.attr in PARTS)


# Parts of torchvision's models that are modules.
PARTS = frozenset({
    "fc", "features", "classifier", "layer1", "layer2", "layer3", "layer4", "conv1", "bn1", "backbone",
    "encoder", "heads", "head", "stages", "AuxLogits",
})  # fmt: skip


MISSPELT = re.compile(r"(?!requires_grad$)(?:req\w*_grad(?:_|s|ients?)?|requires?grad(?:ient)?)")
CLASSES = frozenset({"logit", "probability", "log-probability"})


def keeps_rows(index: ast.expr) -> bool:
    """`out[t] = y`, `out[:, t] = y`, `out[4:8] = y`: whole rows are put in."""
    parts = index.elts[1:] if isinstance(index, ast.Tuple) else []
    return not any(isinstance(part, ast.Slice) and (part.lower or part.upper) for part in parts)


def picks_one(index: ast.expr) -> bool:
    """`t[torch.arange(n), y] = 1` and `t[i, y[i]] = 1`: one entry of each row."""
    if not isinstance(index, ast.Tuple) or len(index.elts) != 2:
        return False
    return all(isinstance(part, (ast.Name, ast.Subscript, ast.Call, ast.Attribute)) for part in index.elts)


def as_load(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    if isinstance(target, ast.Attribute):
        return ast.Attribute(target.value, target.attr, ast.Load())
    if isinstance(target, ast.Subscript):
        return ast.Subscript(target.value, target.slice, ast.Load())
    return target
