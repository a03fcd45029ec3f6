"""Applying an operation of the model: its node, and the dtype, role and shape of what comes out.

What an operation does to a gradient is said by `gradsight.model` alone; nothing here is written for one
operation where the model has a word for it.
"""

from __future__ import annotations

import ast
from dataclasses import replace

from gradsight import model
from gradsight.domain import Edge
from gradsight.graph import Node
from gradsight.interpret.expressions import Expressions
from gradsight.interpret.libraries import AMBIGUOUS, INDICES, RANDOM_FILLS
from gradsight.interpret.shapes import broadcast, matmul_shape
from gradsight.values import (
    MANY,
    NONE,
    NOWHERE,
    Array,
    Const,
    Lib,
    Number,
    Obj,
    Ref,
    Seq,
    Shape,
    Tensor,
    Unknown,
    Value,
)


class Operations(Expressions):
    """Operations of the model over the values they are given."""

    def apply(
        self,
        operation: model.Operation,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.AST,
        receiver: Value | None = None,
    ) -> Value:
        """One operation of the model, over bound arguments."""
        if receiver is not None:
            args = [receiver, *args]
        parts: list[tuple[int, Edge]] = []
        cause = operation.cause
        to_numpy = operation.name.startswith("numpy.")
        to_number = operation.kind == "number" and not to_numpy
        saves = bool(operation.saves)
        dtype = self.dtype_of(operation, args, kwargs)
        integer = dtype in ("int", "bool") and operation.dtype == "argument"
        index_only = False
        for position, (name, value) in enumerate(self.bind(operation.params, args, kwargs)):
            edge = operation.edges.get(name, operation.other)
            if to_numpy and edge is Edge.LIVE:
                # np.squeeze and its like call the tensor's own method.
                foreign = operation.kind != "same" and any(True for _ in self.tensors_in(value))
                if foreign:
                    edge, cause = Edge.CUT, "numpy"
                    self.raising_conversion(operation, value, node)
            elif (
                operation.name == "torch.Tensor.numpy"
                and position == 0
                and kwargs.get("force") != Const(True)
            ):
                self.raising_conversion(operation, value, node)
            if (
                to_number
                and edge is Edge.LIVE
                and (isinstance(value, Tensor) or any(True for _ in self.tensors_in(value)))
            ):
                edge, cause = Edge.CUT, "number"
            if integer and edge is Edge.LIVE and position == 0:
                edge, cause = Edge.CUT, "integer"
            if (
                operation.zero_when
                and operation.zero_when in kwargs
                and kwargs[operation.zero_when] != NONE
                and edge is Edge.LIVE
            ):
                edge, cause = Edge.ZERO, "round"
            if edge is Edge.NONE:
                if name not in INDICES and not operation.name.startswith("torch.nn.Embedding"):
                    continue
                # What is chosen depends on the index, though no gradient was ever to be had through it.
                edge = Edge.CUT
                index_only = True
            for number in self.nodes_in(value):
                parts.append((number, edge))
        first = args[0] if args else next(iter(kwargs.values()), None)
        kind = operation.kind
        if operation.name == "torch.from_numpy" and isinstance(first, Array):
            dtype = first.dtype
        if kind == "same":
            kind = {Array: "array", Number: "number", Const: "number", Unknown: "unknown"}.get(
                type(first), "tensor"
            )
            if kind == "unknown" and operation.name.startswith("torch.Tensor."):
                kind = "opaque"
        out_number = self.combine(
            operation.name,
            parts,
            node,
            (cause or ("index" if index_only else ""))
            if any(edge in (Edge.CUT, Edge.ZERO) for _, edge in parts)
            else "",
            saves,
            "constant" if len(parts) == 1 else "",  # scaling, not combining
            keep_off=kind in ("number", "array", "numbers") or operation.in_place,
        )
        if kind in ("opaque", "unknown"):
            why = first.why if isinstance(first, Unknown) else f"what `{operation.name}` gives is not known"
            return Unknown(why, out_number)
        if kind == "none":
            return NONE
        if kind == "number":
            return Number(out_number)
        if kind == "numbers":
            return self.allocate(Obj("list", None, items=(Number(out_number),), many=True))
        if kind == "array":
            role = first.role if isinstance(first, (Tensor, Array)) and operation.role == "keep" else ""
            shape = (
                self.shape_of(first) if operation.name.endswith((".numpy", ".asarray", ".array")) else None
            )
            if operation.name in ("numpy.eye", "numpy.identity"):
                role = "identity"
            return Array(out_number, dtype, role, shape)
        if (
            isinstance(first, Unknown)
            and operation.name.startswith("torch.Tensor.")
            and operation.name.rpartition(".")[2] in AMBIGUOUS
        ):
            return Unknown(first.why, out_number)
        origin = ""
        if out_number == NOWHERE:
            # What is made of fresh tensors alone is fresh: `nn.init.xavier_(torch.empty(3, 4))`.
            origin = next(
                (
                    tensor.origin
                    for tensor in self.tensors_in(Seq(tuple(args)))
                    if tensor.origin.startswith("torch.")
                ),
                "",
            )
            if origin and operation.name.rpartition(".")[2] in RANDOM_FILLS:
                origin = "torch.randn"
        result = Tensor(
            out_number,
            dtype,
            self.shape_after(operation, args, kwargs),
            self.role_after(operation, first, args, kwargs),
            origin,
        )
        if operation.results and (not operation.results_when or gives_dimension(operation, args, kwargs)):
            return Seq(tuple(self.part_of(result, name, parts, node) for name in operation.results))
        if kind == "tensors":
            return self.several(operation, result, args, kwargs)
        return result

    def bind(
        self, params: tuple[str, ...], args: list[Value], kwargs: dict[str, Value]
    ) -> list[tuple[str, Value]]:
        out: list[tuple[str, Value]] = []
        for position, value in enumerate(args):
            if position < len(params):
                name = params[position]
                if name.startswith("*"):
                    params = (*params[: position + 1], name)
                out.append((name.lstrip("*"), value))
            else:
                name = params[-1] if params and params[-1].startswith("*") else "?"
                out.append((name.lstrip("*"), value))
        out += kwargs.items()
        return out

    def part_of(self, result: Tensor, name: str, parts: list[tuple[int, Edge]], node: ast.AST) -> Tensor:
        """One of the results of an operation that gives (values, indices): indices have no gradient."""
        if name not in ("indices", "inverse_indices", "counts", "inverse", "lengths", "exponent"):
            return result
        number = self.combine("torch.argmax", [(n, Edge.CUT) for n, _ in parts], node, "argmax")
        return Tensor(number, "int", result.shape, "index")

    def raising_conversion(self, operation: model.Operation, value: Value, node: ast.AST) -> None:
        """numpy refuses a tensor that requires a gradient; whether it does is asked of the graph later."""
        for number in self.nodes_in(value):
            self.event(
                "raises",
                number,
                facts={"text": operation.raises.partition(": ")[2] or operation.raises},
                call=self.here(node),
            )

    def several(
        self, operation: model.Operation, result: Tensor, args: list[Value], kwargs: dict[str, Value]
    ) -> Value:
        """Operations that give a tuple of equal things: chunks, splits, a mesh."""
        if operation.name.rpartition(".")[2] == "chunk":
            count = args[1] if len(args) > 1 else kwargs.get("chunks")
            if isinstance(count, Const) and isinstance(count.value, int) and 0 < count.value <= 16:
                dim = args[2] if len(args) > 2 else kwargs.get("dim", Const(0))
                shape = self.shape_of(args[0])
                if (
                    shape is not None
                    and isinstance(dim, Const)
                    and isinstance(dim.value, int)
                    and -len(shape) <= dim.value < len(shape)
                ):
                    at = dim.value % len(shape)
                    size = shape[at]
                    part = size // count.value if size is not None and size > 0 else None
                    result = replace(result, shape=(*shape[:at], part, *shape[at + 1 :]))
                return Seq((result,) * count.value)
        return self.allocate(Obj("list", None, items=(result,), many=True))

    def dtype_of(self, operation: model.Operation, args: list[Value], kwargs: dict[str, Value]) -> str:
        if operation.dtype in ("float", "int", "bool"):
            explicit = kwargs.get("dtype")
            if isinstance(explicit, Lib):
                return "int" if model.is_integer_dtype(explicit.name) else "float"
            return operation.dtype
        if operation.dtype == "argument":
            for value in (*args[1:], *kwargs.values()):
                if isinstance(value, Lib) and value.name.startswith(("torch.", "numpy.")):
                    if model.is_integer_dtype(value.name):
                        return "bool" if value.name.endswith("bool") else "int"
                    if value.name not in ("torch.device", "torch.contiguous_format", "torch.channels_last"):
                        return "float"
                if isinstance(value, Const) and isinstance(value.value, str) and "Tensor" in value.value:
                    return "int" if "Long" in value.value or "Int" in value.value else "float"
        first = args[0] if args else None
        if operation.dtype in ("same", "argument") and isinstance(first, (Tensor, Array)):
            return first.dtype
        kinds = {value.dtype for value in self.tensors_in(Seq(tuple(args)))}
        if operation.dtype == "same" and len(kinds) == 1:
            return kinds.pop()
        return ""

    def role_after(
        self, operation: model.Operation, first: Value | None, args: list[Value], kwargs: dict[str, Value]
    ) -> str:
        before = ""
        if isinstance(first, (Tensor, Array)):
            before = first.role
        elif first is not None:
            roles = {tensor.role for tensor in self.tensors_in(first)}
            before = roles.pop() if len(roles) == 1 else ""
        last = operation.name.rpartition(".")[2]
        if (
            last in ("scatter_", "scatter")
            and isinstance(first, Tensor)
            and first.origin in ("torch.zeros", "torch.zeros_like")
        ):
            value = args[3] if len(args) > 3 else None
            if value is None or isinstance(value, Const):
                return "one-hot"
        if last == "exp" and before == "log-probability":
            return "probability"
        if before == "unreduced":
            # One loss for each element, until something reduces it.
            dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))
            rows = (
                operation.shape == "reduce"
                and isinstance(dim, Const)
                and isinstance(dim.value, int)
                and dim.value > 0
            )
            return before if operation.shape in ("same", "view") or rows else ""
        if operation.role == "keep":
            return before
        if operation.role == "log":
            return "log-probability" if before == "probability" else ""
        return operation.role

    def shape_after(self, operation: model.Operation, args: list[Value], kwargs: dict[str, Value]) -> Shape:
        first = self.shape_of(args[0]) if args else None
        last = operation.name.rpartition(".")[2]
        if operation.shape == "same":
            shape: Shape = first
            for value in args[1:]:
                if isinstance(value, (Tensor, Array)):
                    shape = broadcast(shape, self.shape_of(value))
                elif isinstance(value, Unknown):
                    return None
            return shape
        if operation.shape == "scalar":
            return ()
        if operation.shape == "reduce":
            dim = next(
                (kwargs[key] for key in ("dim", "axis") if key in kwargs), args[1] if len(args) > 1 else None
            )
            if dim is None or dim == NONE:
                return ()
            keep = kwargs.get("keepdim", kwargs.get("keepdims"))
            if (
                first is not None
                and isinstance(dim, Const)
                and isinstance(dim.value, int)
                and -len(first) <= dim.value < len(first)
            ):
                at = dim.value % len(first)
                if isinstance(keep, Const) and keep.value is True:
                    return (*first[:at], 1, *first[at + 1 :])
                if keep is None and len(args) < 3:
                    return (*first[:at], *first[at + 1 :])
            return None
        if last == "gather":
            return self.shape_of(args[2] if len(args) > 2 else kwargs.get("index"))
        if operation.shape == "matmul" and len(args) > 1:
            return matmul_shape(first, self.shape_of(args[1]))
        if last in ("view", "reshape") and len(args) > 1:
            sizes = [
                value.value if isinstance(value, Const) and isinstance(value.value, int) else None
                for value in args[1:]
            ]
            return tuple(
                MANY if size == -1 and first is not None and MANY in first else None if size == -1 else size
                for size in sizes
            )
        if last == "squeeze" and first is not None and None not in first:
            if len(args) == 1:
                return tuple(dim for dim in first if dim != 1)
            dim = args[1]
            if (
                isinstance(dim, Const)
                and isinstance(dim.value, int)
                and -len(first) <= dim.value < len(first)
            ):
                at = dim.value % len(first)
                return (*first[:at], *first[at + 1 :]) if first[at] == 1 else first
        if last == "unsqueeze" and first is not None and len(args) > 1:
            dim = args[1]
            if (
                isinstance(dim, Const)
                and isinstance(dim.value, int)
                and -len(first) - 1 <= dim.value <= len(first)
            ):
                at = dim.value % (len(first) + 1)
                return (*first[:at], 1, *first[at:])
        return None

    # -- code that is not seen

    def unknown_call(
        self, why: str, function: Value | None, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """The result of code that is not seen: a source of its own, which may also pass what it was given."""
        parts = [(n, Edge.LIVE) for n in self.nodes_in(function)] if function is not None else []
        parts += [(n, Edge.UNKNOWN) for value in (*args, *kwargs.values()) for n in self.nodes_in(value)]
        inputs = tuple(n for n, _ in parts)
        edges = tuple(e for _, e in parts)
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Ref)]
        if given and any(obj.kind == "optimizer" for obj in self.state.heap.values()):
            self.event("escape", oids=[value.oid for value in given], call=self.here(node))
        lent = [value.oid for value in given if self.is_module(value)]
        if lent:
            self.event("lent", oids=lent, call=self.here(node))
        off = self.state.grad == "off"
        if off:
            edges = tuple(Edge.CUT for _ in edges)
        kind, op = ("source", "call") if not off else ("op", "call")
        number = self.graph.add(
            Node(kind, op, inputs, edges, "no_grad" if off else "", self.here(node), why, off=off)
        )
        return Unknown(why, number)


def gives_dimension(operation: model.Operation, args: list[Value], kwargs: dict[str, Value]) -> bool:
    """Whether the argument is given that makes max and min return two things; a tensor there compares."""
    if operation.results_when in kwargs or "axis" in kwargs:
        return True
    at = operation.params.index(operation.results_when) if operation.results_when in operation.params else -1
    return 0 <= at < len(args) and not isinstance(args[at], (Tensor, Array))
