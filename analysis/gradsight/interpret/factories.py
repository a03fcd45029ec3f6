"""Tensors that begin a graph: fresh ones, rewrapped data, parameters, variables, `requires_grad_()`."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import replace

from gradsight import model
from gradsight.domain import DEPENDING, Edge
from gradsight.graph import Node
from gradsight.interpret.dtypes import exact_dtype, exact_of, kind_of, literal, method_dtype
from gradsight.interpret.libraries import INTEGER_FACTORIES, RANDOM_FILLS
from gradsight.interpret.operations import Operations, is_size
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
        elif last in ("linspace", "logspace"):
            steps = kwargs.get("steps", args[2] if len(args) > 2 else None)
            shape = (steps.value if isinstance(steps, Const) and isinstance(steps.value, int) else MANY,)
        elif last in ("arange", "randperm"):
            ends = self.integers(args) if all(isinstance(value, Const) for value in args) else None
            shape = (len(range(*ends)) if ends and len(ends) < 4 and 0 not in ends[2:] else MANY,)
        elif last == "eye":
            shape = self.size_of(args[:1] * 2)
        elif last == "full":
            shape = self.size_of(args[:1])
        else:
            sizes = args[1:] if last.startswith("new_") else args
            if "size" in kwargs:
                sizes = [kwargs["size"]]
            shape = self.size_of(sizes) if last != "normal" else None
        dtype, exact = self.made_dtype(last, args, kwargs)
        blank = last.removeprefix("new_").removesuffix("_like") in ("zeros", "empty") and origin != "leaf"
        role = "identity" if last == "eye" else "blank" if blank else ""
        return Tensor(number, dtype, shape, role, origin, exact)

    def made_dtype(self, last: str, args: list[Value], kwargs: dict[str, Value]) -> tuple[str, str]:
        """The dtype of a fresh tensor, and its own name where it is sure."""
        explicit = kwargs.get("dtype")
        if isinstance(explicit, Lib):
            exact = exact_dtype(explicit)
            integer = model.is_integer_dtype(explicit.name)
            return kind_of(exact) or ("int" if integer else "float"), exact
        if explicit is not None and explicit != NONE:
            return "", ""
        if last.endswith("_like") or (last.startswith("new_") and last != "new_tensor"):
            first = args[0] if args else None
            if isinstance(first, Tensor):
                return first.dtype, first.exact
            return "float" if last in ("randn_like", "rand_like") else "", ""
        if last == "full":
            fill = kwargs.get("fill_value", args[1] if len(args) > 1 else None)
            exact = literal(fill.value) if isinstance(fill, Const) else ""
            return kind_of(exact) or ("" if isinstance(fill, Const) else "float"), exact
        if last == "arange" and not all(isinstance(v, Const) and isinstance(v.value, int) for v in args):
            real = any(isinstance(v, Const) and isinstance(v.value, float) for v in args)
            return ("float", "float32") if real else ("int", "")
        return ("int", "int64") if last in INTEGER_FACTORIES else ("float", "float32")

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
            and all(is_size(value) for value in args)
        ):
            return Tensor(
                NOWHERE,
                "int" if last in INTEGER_FACTORIES else "float",
                self.size_of(args),
                "",
                "torch.empty",
                method_dtype(last),
            )
        parts = [(n, Edge.LIVE if keeps else Edge.CUT) for n in self.nodes_in(data)]
        requires = kwargs.get("requires_grad")
        wants = isinstance(requires, Const) and requires.value is True
        shape, dtype, exact = literal_shape(self, data), literal_dtype(self, data), literal_exact(self, data)
        if last in INTEGER_FACTORIES:
            dtype, exact = "int", method_dtype(last)
        elif last.endswith("Tensor"):
            exact = method_dtype(last)
            dtype = kind_of(exact) or "float"
        explicit = kwargs.get("dtype", args[1] if len(args) > 1 and isinstance(args[1], Lib) else None)
        if isinstance(explicit, Lib) and explicit.name != "torch.device":
            exact = exact_dtype(explicit)
            dtype = kind_of(exact) or ("int" if model.is_integer_dtype(explicit.name) else "float")
        elif explicit is not None and explicit != NONE:
            exact = ""
        role = data.role if isinstance(data, (Tensor, Array)) else ""
        if wants:
            leaf = self.source("laundered" if parts else "leaf", last, node)
            note = "leaf" if self.items(data) is not None else "laundered"
            number = (
                self.combine(
                    f"torch.{last}", [*parts, (leaf, Edge.LIVE)], node, "rewrap", note=note, keep_off=True
                )
                if parts
                else leaf
            )
            return Tensor(number, dtype, shape, role, "leaf", exact)
        if isinstance(data, Unknown) and data.node != NOWHERE and not keeps:
            parts = [(data.node, Edge.CUT)]
        return Tensor(
            self.combine(f"torch.{last}", parts, node, "rewrap"),
            dtype,
            shape,
            role,
            f"torch.{last}" if not parts else "",
            exact,
        )

    def parameter(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        data = args[0] if args else kwargs.get("data", NONE)
        requires = kwargs.get("requires_grad", args[1] if len(args) > 1 else None)
        shape = self.shape_of(data) if not isinstance(data, Const) else None
        if isinstance(requires, Const) and requires.value is False:
            return Tensor(NOWHERE, "float", shape, "", "torch.nn.Parameter", exact_of(data))
        parts = tuple(n for n in self.nodes_in(data))
        number = self.graph.add(
            Node(
                "source", "parameter", parts, (Edge.CUT,) * len(parts), "rewrap", self.here(node), "parameter"
            )
        )
        if isinstance(data, Tensor) and data.origin in ("torch.zeros", "torch.zeros_like"):
            self.event("zeros", number)
        return Tensor(number, "float", shape, "", "parameter", exact_of(data))

    def variable(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        """torch.autograd.Variable: a new leaf over the same numbers, whatever it is given."""
        data = args[0] if args else NONE
        requires = kwargs.get("requires_grad", args[1] if len(args) > 1 else None)
        parts = [(n, Edge.CUT) for n in self.nodes_in(data)]
        wants = isinstance(requires, Const) and requires.value is True
        if wants:
            leaf = self.source("laundered" if parts else "leaf", "Variable", node)
            parts.append((leaf, Edge.LIVE))
        number = self.combine(name, parts, node, "rewrap", note="laundered", keep_off=True)
        if isinstance(data, Tensor):
            origin = "leaf" if wants else ""
            return Tensor(number, data.dtype, data.shape, data.role, origin, data.exact)
        return Unknown(data.why, number) if isinstance(data, Unknown) else Tensor(number)

    def initialized(self, last: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """torch.nn.init writes its argument in place and returns it."""
        value = args[0] if args else kwargs.get("tensor", NONE)
        if isinstance(value, Tensor) and value.origin in ("parameter", "leaf", "data"):
            self.event("initialized", nodes=self.nodes_in(value))
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
            if isinstance(at, ast.Attribute) and isinstance(self.expression, ast.Assign):
                # An assignment; the method of the same name does no harm to what has a graph.
                flagged, at = at, self.expression
                if not self.trying and not any("requires_grad" in test for test in self.tests):
                    self.event("require", nodes=nodes, call=self.here(flagged), statement=self.here(at))
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
                value = replace(receiver, node=number, origin="leaf" if number == leaf else "")
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

    def is_part(self, number: int) -> bool:
        """Whether something is a part of a library's model, or what a method of it has given: some of its
        parameters, nobody knows which."""
        behind = (self.graph[n] for n in self.graph.feeding(number, (Edge.LIVE,)))
        return any(node.op == "part" or (node.op == "call" and node.inputs) for node in behind)

    def freeze(self, flag: Value, nodes: Iterable[int], at: ast.AST) -> None:
        """Parameters are frozen or thawed. A node of its own says what was computed before."""
        nodes = tuple(nodes)
        kind = "thaw" if flag == Const(True) else "freeze"
        # Now it freezes, now it does not; and turns of the loop that have ended before freeze nothing.
        ended = kind == "freeze" and bool(self.breaks and self.breaks[-1])
        some = ended or not isinstance(flag, Const) or any(self.is_part(number) for number in nodes)
        facts = {"some": "yes"} if some else {}
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
    if isinstance(value, Number):
        return "int" if value.kind == "many" else value.kind
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


def literal_exact(it: Factories, value: Value | None, depth: int = 0) -> str:
    """The same by its own name: Python's floats become float32, arrays keep their dtype."""
    if isinstance(value, (Tensor, Array)):
        return value.exact
    if isinstance(value, Number):
        return {"int": "int64", "many": "int64", "float": "float32", "bool": "bool"}.get(value.kind, "")
    if isinstance(value, Const):
        return literal(value.value)
    items = it.items(value) if value is not None else None
    if not items or depth > 4:
        return ""
    kinds = {literal_exact(it, item, depth + 1) for item in items}
    return kinds.pop() if len(kinds) == 1 else "float32" if kinds == {"int64", "float32"} else ""
