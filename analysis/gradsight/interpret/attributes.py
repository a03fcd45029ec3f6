"""Attributes: of tensors, modules, classes of the program and their objects, and `super()`."""

from __future__ import annotations

import ast
from dataclasses import replace

from gradsight import model
from gradsight.domain import Edge
from gradsight.interpret.containers import Containers, is_container
from gradsight.interpret.shapes import ranked
from gradsight.interpret.zoos import FIELDS, is_library_model, part_named
from gradsight.names import canonical
from gradsight.values import (
    MANY,
    NOWHERE,
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
    Partial,
    Ref,
    Seq,
    Super,
    Tensor,
    Unknown,
    Value,
    node_of,
)

# Names that torch gives to what an operation returns beside each other.
RESULTS = {
    "values": 0, "indices": 1, "eigenvalues": 0, "eigenvectors": 1, "sign": 0, "logabsdet": 1,
    "Q": 0, "R": 1, "U": 0, "S": 1, "Vh": 2, "V": 2,
}  # fmt: skip
PACKED_INDICES = frozenset({"batch_sizes", "sorted_indices", "unsorted_indices"})


def is_distribution(obj: Obj) -> bool:
    return isinstance(obj.cls, Lib) and obj.cls.name.startswith("torch.distributions.")


class Attributes(Containers):
    """What `x.name` is. Calls are in the subclasses: a property's value is one."""

    def call_function(
        self, fid: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST, raw: bool = False
    ) -> Value:
        raise NotImplementedError

    def default(self, node: ast.expr) -> Value:
        raise NotImplementedError

    def attribute_(self, node: ast.Attribute) -> Value:
        """An attribute that is read, not called: of what is unknown, a part that passes its gradient on."""
        receiver = self.evaluate(node.value)
        value = self.get_attribute(receiver, node.attr, node)
        if isinstance(value, Method) and isinstance(value.receiver, Seq):
            parts = [(n, Edge.LIVE) for n in self.nodes_in(value.receiver)]
            return Unknown("a field of a tuple", self.combine("item", parts, node, keep_off=True))
        distribution = self.obj(value.receiver) if isinstance(value, Method) else None
        if distribution is not None and is_distribution(distribution):
            # `mean`, `probs`, `scale`: what it was made with, or computed from it; a mode may be chosen.
            edge = Edge.UNKNOWN if node.attr == "mode" else Edge.LIVE
            parts = [(n, edge) for n in self.nodes_in(distribution.get("*"))]
            return Tensor(self.combine(f"torch.distributions.{node.attr}", parts, node), "float")
        if isinstance(value, Method) and isinstance(value.receiver, Ref):
            if is_library_model(self.obj(value.receiver)):
                return part_named(self, value.receiver, node.attr, node)  # type: ignore[arg-type]
        if isinstance(value, Method) and isinstance(value.receiver, Unknown):
            parts = [(n, Edge.LIVE) for n in self.nodes_in(value.receiver)]
            number = self.combine("attribute", parts, node, keep_off=True)
            if node.attr in ("loss", "logits") and self.is_model_output(value.receiver):
                one = node.attr == "loss"
                return Tensor(number, "float", () if one else None, "" if one else "logit")
            return Unknown(value.receiver.why, number)
        return value

    def is_model_output(self, value: Unknown) -> bool:
        """Whether a value is what a model gives that names its loss and logits."""
        return value.node >= 0 and self.graph[value.node].op == FIELDS

    def get_attribute(self, receiver: Value, name: str, node: ast.AST) -> Value:
        if isinstance(receiver, Choice):
            return self.joiner.values([self.get_attribute(option, name, node) for option in receiver.options])
        if isinstance(receiver, Lib):
            return Lib(canonical(f"{receiver.name}.{name}"))
        if isinstance(receiver, Ref):
            return self.field(receiver, name, node)
        if isinstance(receiver, Super):
            return self.super_attribute(receiver, name)
        if isinstance(receiver, Seq) and RESULTS.get(name, len(receiver.items)) < len(receiver.items):
            return receiver.items[RESULTS[name]]
        if isinstance(receiver, Class):
            return self.class_attribute(receiver, name)
        base = node.value if isinstance(node, ast.Attribute) else None
        if isinstance(receiver, Tensor) or (
            isinstance(receiver, Unknown) and model.attribute(f"torch.Tensor.{name}")
        ):
            return self.tensor_attribute(receiver, name, node, base)
        return Method(receiver, name, base)

    def tensor_attribute(self, receiver: Value, name: str, node: ast.AST, base: ast.expr | None) -> Value:
        if isinstance(receiver, Tensor) and receiver.role == "packed":
            if name == "data":  # the field of a named tuple: nothing is detached
                return replace(
                    receiver, node=self.combine("item", [(receiver.node, Edge.LIVE)], node), role=""
                )
            if name in PACKED_INDICES:
                return Tensor(NOWHERE, "int")
        operation = model.attribute(f"torch.Tensor.{name}")
        if operation is None:
            return Method(receiver, name, base)
        origin = receiver.origin if isinstance(receiver, Tensor) else ""
        edge = operation.edges.get("self", operation.other)
        shape = self.shape_of(receiver)
        if name == "shape":
            if ranked(shape) is not None and shape is not None:
                return Seq(
                    tuple(
                        Number(kind="many")
                        if dim == MANY
                        else Number(kind="int")
                        if dim is None
                        else Const(dim)
                        for dim in shape
                    )
                )
            return Unknown("a shape")
        if name == "grad":
            self.event("read", nodes=self.nodes_in(receiver))
            return Tensor(NOWHERE, "float", shape)
        if operation.kind not in ("tensor", "same", "tensors"):
            return (
                Number()
                if name in ("ndim", "requires_grad", "is_leaf", "itemsize", "nbytes")
                else Unknown("metadata")
            )
        if (
            isinstance(receiver, Unknown)
            and receiver.node >= 0
            and self.graph[receiver.node].op.startswith("operator.")
        ):
            edge = Edge.UNKNOWN if edge is Edge.CUT else edge  # `.data` of who knows what
        cause = operation.cause if edge is Edge.CUT else ""
        value = self.combine(f"torch.Tensor.{name}", [(node_of(receiver), edge)], node, cause)
        if isinstance(receiver, Unknown) and name not in ("data",):
            return Unknown(receiver.why, value)
        role = receiver.role if isinstance(receiver, Tensor) else ""
        dtype = receiver.dtype if isinstance(receiver, Tensor) else ""
        out_shape = shape if name in ("data", "real", "imag") else None
        return Tensor(
            value, dtype, out_shape, role, "data" if origin == "parameter" and name == "data" else ""
        )

    def field(self, receiver: Ref, name: str, node: ast.AST) -> Value:
        obj = self.state.heap.get(receiver.oid)
        base = node.value if isinstance(node, ast.Attribute) else None
        if obj is None:
            return Unknown("an object that is not known here")
        value = obj.get(name)
        if value is None and is_container(obj):
            value = obj.get(repr(name))  # `blocks.head` of a ModuleDict is `blocks["head"]`
        if value is not None and name != "*":
            return value
        if obj.kind == "optimizer" and name == "param_groups":
            return self.parameter_group_list(obj)
        if obj.kind == "instance" and isinstance(obj.cls, Class):
            found = self.instance_attribute(receiver, obj.cls, name)
            if found is not None:
                return found
        if name in ("training", "module") and self.is_module(receiver):
            if name == "module":
                return receiver  # what a wrapper wraps: wrapping gives the module itself here
            if receiver == self.self_value:
                self.event("layer", oids=(receiver.oid,))
            return Number()
        if name in ("weight", "bias") and isinstance(obj.get("*"), Tensor):
            return Tensor(node_of(obj.get("*")), "float", None, "", "parameter")
        return Method(receiver, name, base)

    def parameter_group_list(self, optimizer: Obj) -> Value:
        """`optimizer.param_groups`: which holds what is known where there is one group."""
        held = optimizer.get("params")
        if not isinstance(held, Params):
            return Unknown("an optimizer's state")
        alone = held.blanket or optimizer.get("one group") == Const(True)
        params = Params(held.nodes, held.blanket, held.unknown or not alone)
        group = self.allocate(Obj("dict", None, (("'params'", params),), many=True))
        return self.allocate(Obj("list", None, items=(group,), many=True))

    def instance_attribute(self, receiver: Ref, cls: Class, name: str) -> Value | None:
        """A method bound to the object, a property's value, or a class attribute."""
        fid = self.world.find_method(cls.cid, name)
        if fid is not None:
            info = self.world.function(fid)
            if info is None:
                return Unknown(f"`{name}` cannot be read")
            if info.kind == "property":
                node = self.expression if self.expression is not None else info.node
                return self.call_function(fid, [receiver], {}, node)
            if info.kind == "static":
                return Func(fid)
            if info.kind == "class":
                return Bound(cls, Func(fid))
            return Bound(receiver, Func(fid))
        for one in self.world.mro(cls.cid):
            if self.world.class_info(f"{one}.{name}") is not None:
                return Class(f"{one}.{name}")
            value = self.world.classes[one].attributes.get(name)
            if value is not None:
                return self.default(value)
        if name == "apply" and self.world.derives(cls.cid, "torch.autograd.Function"):
            return self.class_attribute(cls, name)
        return None

    def class_attribute(self, cls: Class, name: str) -> Value:
        fid = self.world.find_method(cls.cid, name)
        if fid is not None:
            info = self.world.function(fid)
            return Bound(cls, Func(fid)) if info is not None and info.kind == "class" else Func(fid)
        if self.world.class_info(f"{cls.cid}.{name}") is not None:
            return Class(f"{cls.cid}.{name}")
        for one in self.world.mro(cls.cid):
            value = self.world.classes[one].attributes.get(name)
            if value is not None:
                return self.default(value)
        if name == "apply" and self.world.derives(cls.cid, "torch.autograd.Function"):
            return Partial(Lib("gradsight.function_apply"), (cls,), ())
        return Unknown(f"`{cls.cid}.{name}` comes from code that is not seen")

    def super_attribute(self, receiver: Super, name: str) -> Value:
        if isinstance(receiver.receiver, Ref):
            obj = self.state.heap.get(receiver.receiver.oid)
            cid = obj.cls.cid if obj is not None and isinstance(obj.cls, Class) else receiver.cid
            fid = self.world.find_method(cid, name, after=receiver.cid)
            if fid is not None:
                return Bound(receiver.receiver, Func(fid))
        if name == "__init__":
            stub = model.module(self.world.library_base(receiver.cid))
            if stub is not None and stub.name == "torch.nn.Sequential":
                return Partial(Lib("gradsight.container_init"), (receiver.receiver,), ())
            return Lib("gradsight.nothing")
        if name == "forward" and isinstance(receiver.receiver, Ref):
            stub = model.module(self.world.library_base(receiver.cid))
            if stub is not None and self.world.library_base(receiver.cid) != "torch.nn.Module":
                return Partial(
                    Lib("gradsight.module_forward"),
                    (Const(self.world.library_base(receiver.cid)), receiver.receiver),
                    (),
                )
        return Method(receiver.receiver, name)
