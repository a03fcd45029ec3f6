"""Methods of values: tensors, arrays, numbers, and what is not known."""

from __future__ import annotations

import ast

from gradsight import model
from gradsight.domain import Edge
from gradsight.interpret.arrays import array_method
from gradsight.interpret.frameworks import Frameworks
from gradsight.interpret.hooks import HOOKS, register
from gradsight.interpret.libraries import AMBIGUOUS, NEVER_A_TENSOR, RANDOM_FILLS
from gradsight.interpret.writing import written_in_place
from gradsight.values import (
    NONE,
    NOWHERE,
    Array,
    Bound,
    Choice,
    Closure,
    Const,
    Func,
    Lib,
    Number,
    Obj,
    Params,
    Partial,
    Ref,
    Seq,
    Tensor,
    Unknown,
    Value,
    is_plain,
)

# Methods of a string that are worth knowing: it is a key, or says which of several layers is made.
OF_A_NAME = frozenset({"lower", "upper", "strip", "startswith", "endswith"})
WRITES_GRAD = frozenset({"zero_", "detach_", "fill_", "copy_", "mul_", "requires_grad_"})


def owner_of_gradient(node: ast.expr) -> ast.expr | None:
    """Whose gradient a chain of attributes leads to: `p` of `p.grad.data`."""
    while isinstance(node, ast.Attribute):
        if node.attr == "grad":
            return node.value
        node = node.value
    return None


class Methods(Frameworks):
    """What a method does, whatever it is called on."""

    def call_method_of(
        self,
        receiver: Value,
        name: str,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call,
        base: ast.expr | None,
    ) -> Value:
        if name in HOOKS:
            register(self, receiver, name, args, kwargs, node)
        if isinstance(receiver, Choice):
            return self.joiner.values(
                [self.call_method_of(option, name, args, kwargs, node, base) for option in receiver.options]
            )
        if isinstance(receiver, Ref):
            return self.object_method(receiver, name, args, kwargs, node)
        if isinstance(receiver, Params):
            return receiver
        if is_plain(receiver):
            return receiver
        if name in WRITES_GRAD and base is not None and (owner := owner_of_gradient(base)) is not None:
            whose = self.evaluate(owner)
            facts = {"by": "hand"} if isinstance(whose, Tensor) else {"by": "hand", "unknown": "yes"}
            self.event("zero", nodes=self.nodes_in(whose), facts=facts, call=self.here(node))
        if isinstance(receiver, (Tensor, Unknown)):
            special = self.tensor_method(receiver, name, args, kwargs, node, base)
            if special is not None:
                return special
        if name == "backward" and receiver == NONE:
            root = self.here(base) if base is not None else None
            self.event("nothing", facts={"of": "backward"}, call=self.here(node), root=root)
        if name == "backward" and isinstance(receiver, (Number, Array)):
            return self.sink(receiver, node, base)
        if isinstance(receiver, Array):
            operation = model.operation(f"numpy.{name}") or model.operation(f"torch.Tensor.{name}")
            parts = [(n, Edge.LIVE) for value in (receiver, *args) for n in self.nodes_in(value)]
            number = self.combine(f"numpy.ndarray.{name}", parts, node, keep_off=True)
            if name in ("item", "tolist"):
                return Number(number)
            role = (
                receiver.role
                if name in ("astype", "copy", "reshape", "squeeze")
                or (operation is not None and operation.role == "keep")
                else ""
            )
            return array_method(self, receiver, name, args, kwargs, Array(number, receiver.dtype, role))
        if isinstance(receiver, Seq):
            return Number() if name in ("index", "count") else Unknown("a method of a tuple")
        if isinstance(receiver, Const) and isinstance(receiver.value, str) and name in OF_A_NAME:
            texts = [each.value for each in args if isinstance(each, Const) and isinstance(each.value, str)]
            return Const(getattr(receiver.value, name)(*texts)) if len(texts) == len(args) else Number()
        if isinstance(receiver, (Number, Const)):
            parts = [(n, Edge.LIVE) for n in self.nodes_in(receiver)]
            if name in ("item", "mean", "sum", "detach", "cpu", "numpy"):
                return Number(self.combine(f"operator.{name}", parts, node, keep_off=True))
            return Unknown("a method of a plain value")
        return self.unknown_call(f"`.{name}()` is not known", receiver, args, kwargs, node)

    def tensor_method(
        self,
        receiver: Tensor | Unknown,
        name: str,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call,
        base: ast.expr | None,
    ) -> Value | None:
        if name == "backward":
            return self.backward(receiver, args, kwargs, node, base)
        if name == "type" and not args and not kwargs:
            return Unknown("the name of a dtype")
        if isinstance(receiver, Unknown):
            if name in ("parameters", "named_parameters"):
                nodes = (receiver.node,) if receiver.node != NOWHERE else ()
                return Params(nodes, True, True, name == "named_parameters")
            if name == "step" and "lr_scheduler" in receiver.why:
                return NONE
            if name in ("step", "zero_grad"):
                if name == "step" and args and not isinstance(args[0], (Closure, Partial)):
                    optimizer = self.obj(args[0])
                    if optimizer is not None and optimizer.kind == "optimizer":
                        self.step(args[0])
                        return NONE
                self.event(
                    "step" if name == "step" else "zero",
                    node=receiver.node,
                    facts={"unknown": "yes", "given": "yes" if args else ""},
                    call=self.here(node),
                )
                for value in args:
                    if isinstance(value, (Closure, Func, Bound, Partial)):
                        self.call(value, [], {}, node)
                return NONE
            if name in (
                "train",
                "eval",
                "cuda",
                "cpu",
                "to",
                "half",
                "double",
                "apply",
                "items",
                "values",
            ) and not (
                name == "to"
                and any(
                    isinstance(v, Lib) and model.is_integer_dtype(v.name) for v in (*args, *kwargs.values())
                )
            ):
                if name in ("train", "eval"):
                    self.event("mode", facts={"to": "unknown"}, call=self.here(node))
                if name in ("items", "values"):
                    element = self.element_of(receiver, node)
                    return self.allocate(
                        Obj(
                            "list",
                            None,
                            items=(Seq((Unknown("a key"), element)) if name == "items" else element,),
                            many=True,
                        )
                    )
                return receiver
            if name == "scale" and args:
                return args[0]
            if name in ("manual_backward",) and args:
                return self.sink(args[0], node, node.args[0])
        if name in NEVER_A_TENSOR:
            if name == "size" and isinstance(receiver, Tensor):
                sizes = self.get_attribute(receiver, "shape", node)
                dim = args[0] if args else kwargs.get("dim")
                if dim is None:
                    return sizes
                return self.item(sizes, dim, node) if isinstance(sizes, Seq) else Number()
            return Number()
        if name == "requires_grad_":
            return self.require_grad(
                receiver, args[0] if args else kwargs.get("requires_grad", Const(True)), node, base
            )
        if name in ("new_zeros", "new_ones", "new_full", "new_empty"):
            return self.factory(name, [receiver, *args], kwargs, node)
        if name == "new_tensor":
            return self.rewrap(name, args, kwargs, node)
        operation = model.operation(f"torch.Tensor.{name}")
        if operation is None:
            return None
        if isinstance(receiver, Unknown) and receiver.node == NOWHERE:
            if operation.name.rpartition(".")[2] in AMBIGUOUS or not any(
                True for value in args for _ in self.nodes_in(value)
            ):
                return Unknown(receiver.why)
        value = self.apply(operation, args, kwargs, node, receiver)
        if operation.in_place and base is not None:
            if isinstance(value, Tensor) and isinstance(receiver, Tensor):
                if receiver.origin in ("parameter", "leaf", "data"):
                    self.event("initialized", nodes=self.nodes_in(receiver))
                origin = (
                    receiver.origin
                    if value.node == NOWHERE or receiver.origin in ("parameter", "leaf")
                    else ""
                )
                if name in RANDOM_FILLS and origin.startswith("torch."):
                    origin = "torch.randn"
                number = value.node if receiver.origin not in ("parameter", "leaf") else receiver.node
                value = Tensor(
                    number,
                    receiver.dtype,
                    receiver.shape,
                    value.role if name.startswith("scatter") else receiver.role,
                    origin,
                    receiver.exact,
                )
            given = args[-1] if args else None
            written_in_place(self, receiver, value, name, node, base, given)
            self.changed_in_place(base, receiver, value, node)
        return value
