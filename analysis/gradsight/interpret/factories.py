"""Tensors that begin a graph: fresh ones, rewrapped data, parameters, variables, `requires_grad_()`."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import replace

from gradsight import model
from gradsight.domain import DEPENDING, Edge
from gradsight.graph import Node
from gradsight.interpret.libraries import INTEGER_FACTORIES, RANDOM_FILLS
from gradsight.interpret.operations import Operations
from gradsight.values import MANY, NONE, NOWHERE, Array, Const, Lib, Number, Shape, Tensor, Unknown, Value


class Factories(Operations):
    """What makes a tensor that did not come out of an operation."""

    def factory(self, last: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        requires = kwargs.get("requires_grad")
        number = NOWHERE
        origin = f"torch.{last}"
        if isinstance(requires, Const) and requires.value is True:
            number = self.source("leaf", last, node)
            origin = "leaf"
        elif last == "normal" and any(True for value in args for _ in self.nodes_in(value)):
            number = self.combine(
                "torch.normal",
                [(n, Edge.ZERO) for value in args for n in self.nodes_in(value)],
                node,
                "round",
            )
            origin = ""
        shape: Shape = None
        if last.endswith("_like"):
            shape = self.shape_of(args[0]) if args else None
        elif last == "randint":
            size = kwargs.get("size", args[-1] if len(args) > 1 else None)
            shape = self.size_of([size]) if size is not None else None
        elif last in ("arange", "randperm", "linspace", "logspace"):
            shape = (MANY,)
        elif last == "eye":
            shape = self.size_of(args[:1] * 2)
        elif last == "full":
            shape = self.size_of(args[:1])
        else:
            sizes = args[1:] if last.startswith("new_") else args
            if "size" in kwargs:
                sizes = [kwargs["size"]]
            shape = self.size_of(sizes) if last != "normal" else None
        dtype = "int" if last in INTEGER_FACTORIES else "float"
        if last == "arange" and any(isinstance(v, Const) and isinstance(v.value, float) for v in args):
            dtype = "float"
        explicit = kwargs.get("dtype")
        if isinstance(explicit, Lib):
            dtype = "int" if model.is_integer_dtype(explicit.name) else "float"
        role = "identity" if last == "eye" else ""
        return Tensor(number, dtype, shape, role, origin)

    def size_of(self, sizes: Iterable[Value | None]) -> Shape:
        """The shape that size arguments give: `2, 3` or `(2, 3)`."""
        out: list[int | None] = []
        sizes = list(sizes)
        if len(sizes) == 1 and sizes[0] is not None:
            items = self.items(sizes[0])
            obj = self.obj(sizes[0])
            if items is not None:
                if obj is not None and obj.many:
                    return None
                sizes = list(items)
            elif isinstance(sizes[0], Unknown):
                return None
        for size in sizes:
            out.append(
                size.value
                if isinstance(size, Const)
                and isinstance(size.value, int)
                and not isinstance(size.value, bool)
                else None
            )
        return tuple(out)

    def rewrap(self, last: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        """torch.tensor and its like. One tensor given to as_tensor, asarray or Tensor keeps its graph."""
        data = args[0] if args else kwargs.get("data", NONE)
        keeps = last in ("as_tensor", "asarray", "Tensor") and isinstance(data, Tensor)
        if (
            last
            in (
                "Tensor",
                "FloatTensor",
                "LongTensor",
                "DoubleTensor",
                "IntTensor",
                "ByteTensor",
                "BoolTensor",
                "HalfTensor",
            )
            and args
            and all(isinstance(value, Const) and isinstance(value.value, int) for value in args)
        ):
            return Tensor(
                NOWHERE,
                "int" if last in INTEGER_FACTORIES else "float",
                self.size_of(args),
                "",
                "torch.empty",
            )
        parts = [(n, Edge.LIVE if keeps else Edge.CUT) for n in self.nodes_in(data)]
        requires = kwargs.get("requires_grad")
        wants = isinstance(requires, Const) and requires.value is True
        shape, dtype = literal_shape(self, data), literal_dtype(self, data)
        if last in INTEGER_FACTORIES:
            dtype = "int"
        elif last.endswith("Tensor"):
            dtype = "float"
        explicit = kwargs.get("dtype")
        if isinstance(explicit, Lib):
            dtype = "int" if model.is_integer_dtype(explicit.name) else "float"
        role = data.role if isinstance(data, (Tensor, Array)) else ""
        if wants:
            leaf = self.source("laundered" if parts else "leaf", last, node)
            number = (
                self.combine(
                    f"torch.{last}", [*parts, (leaf, Edge.LIVE)], node, "rewrap", note="leaf", keep_off=True
                )
                if parts
                else leaf
            )
            return Tensor(number, dtype, shape, role, "leaf")
        if isinstance(data, Unknown) and data.node != NOWHERE and not keeps:
            parts = [(data.node, Edge.CUT)]
        return Tensor(
            self.combine(f"torch.{last}", parts, node, "rewrap"),
            dtype,
            shape,
            role,
            f"torch.{last}" if not parts else "",
        )

    def parameter(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        data = args[0] if args else kwargs.get("data", NONE)
        requires = kwargs.get("requires_grad", args[1] if len(args) > 1 else None)
        shape = self.shape_of(data) if not isinstance(data, Const) else None
        if isinstance(requires, Const) and requires.value is False:
            return Tensor(NOWHERE, "float", shape, "", "torch.nn.Parameter")
        parts = tuple(n for n in self.nodes_in(data))
        number = self.graph.add(
            Node(
                "source", "parameter", parts, (Edge.CUT,) * len(parts), "rewrap", self.here(node), "parameter"
            )
        )
        return Tensor(number, "float", shape, "", "parameter")

    def variable(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        """torch.autograd.Variable: a new leaf over the same numbers, whatever it is given."""
        data = args[0] if args else NONE
        requires = kwargs.get("requires_grad")
        parts = [(n, Edge.CUT) for n in self.nodes_in(data)]
        wants = isinstance(requires, Const) and requires.value is True
        if wants:
            leaf = self.source("laundered" if parts else "leaf", "Variable", node)
            parts.append((leaf, Edge.LIVE))
        number = self.combine(name, parts, node, "rewrap", note="leaf" if wants else "", keep_off=True)
        if isinstance(data, Tensor):
            return Tensor(number, data.dtype, data.shape, data.role, "leaf" if wants else "")
        return Unknown(data.why, number) if isinstance(data, Unknown) else Tensor(number)

    def initialized(self, last: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """torch.nn.init writes its argument in place and returns it."""
        value = args[0] if args else kwargs.get("tensor", NONE)
        if isinstance(value, Tensor) and value.origin.startswith("torch."):
            return replace(value, origin="torch.randn" if last in RANDOM_FILLS else "torch.full")
        return value

    def require_grad(self, receiver: Value, flag: Value | None, at: ast.AST, base: ast.expr | None) -> Value:
        """`x.requires_grad_()`, `x.requires_grad = True`: harmless on a connected tensor, else a new leaf."""
        nodes = list(self.nodes_in(receiver))
        if isinstance(flag, Const) and flag.value is False:
            self.freeze(flag, nodes, at)
            return receiver
        if isinstance(flag, Const) and flag.value is True:
            if isinstance(receiver, Tensor) and receiver.origin == "parameter":
                self.freeze(flag, nodes, at)
                return receiver
            if isinstance(receiver, Tensor):
                if receiver.origin == "leaf":
                    return receiver
                leaf = self.source(
                    "laundered" if self.has_history(receiver.node) else "leaf", "requires_grad", at
                )
                number = leaf
                if receiver.node != NOWHERE:
                    number = self.combine(
                        "torch.Tensor.requires_grad_",
                        [(receiver.node, Edge.LIVE), (leaf, Edge.LIVE)],
                        at,
                        keep_off=True,
                    )
                value = Tensor(
                    number, receiver.dtype, receiver.shape, receiver.role, "leaf" if number == leaf else ""
                )
                if base is not None:
                    self.assign(base, value, at)
                return value
            if (
                isinstance(receiver, Unknown)
                and receiver.node != NOWHERE
                and self.graph[receiver.node].kind != "source"
            ):
                leaf = self.source(
                    "laundered" if self.has_history(receiver.node) else "leaf", "requires_grad", at
                )
                number = self.combine(
                    "torch.Tensor.requires_grad_",
                    [(receiver.node, Edge.LIVE), (leaf, Edge.LIVE)],
                    at,
                    keep_off=True,
                )
                if base is not None:
                    self.assign(base, Unknown(receiver.why, number), at)
                return Unknown(receiver.why, number)
        return receiver

    def freeze(self, flag: Value, nodes: Iterable[int], at: ast.AST) -> None:
        """Parameters are frozen or thawed. A node of its own says what was computed before."""
        kind = "thaw" if flag == Const(True) else "freeze"
        facts = {} if isinstance(flag, Const) else {"unknown": "yes"}
        mark = self.graph.add(Node("mark", kind, place=self.here(at)))
        self.event(kind, mark, nodes, facts=facts, call=self.here(at))

    def has_history(self, number: int) -> bool:
        """Whether a value was computed from anything that may learn."""
        if number == NOWHERE:
            return False
        return any(
            self.graph[n].kind == "input" or (self.graph[n].kind == "source" and self.graph[n].op != "fresh")
            for n in self.graph.feeding(number, DEPENDING)
        )


def literal_shape(it: Factories, value: Value | None, depth: int = 0) -> Shape:
    """The shape that `torch.tensor(value)` would have."""
    if isinstance(value, (Tensor, Array)):
        return value.shape
    if isinstance(value, (Const, Number)):
        return ()
    obj = it.obj(value)
    items = it.items(value) if value is not None else None
    if items is None or depth > 4:
        return None
    inner = literal_shape(it, items[0], depth + 1) if items else ()
    size = MANY if obj is not None and obj.many else len(items)
    return None if inner is None else (size, *inner)


def literal_dtype(it: Factories, value: Value | None, depth: int = 0) -> str:
    if isinstance(value, (Tensor, Array)):
        return value.dtype
    if isinstance(value, Const):
        return (
            "bool"
            if isinstance(value.value, bool)
            else "int"
            if isinstance(value.value, int)
            else "float"
            if isinstance(value.value, float)
            else ""
        )
    items = it.items(value) if value is not None else None
    if not items or depth > 4:
        return ""
    kinds = {literal_dtype(it, item, depth + 1) for item in items}
    return kinds.pop() if len(kinds) == 1 else "float" if kinds == {"int", "float"} else ""
