"""Applying an operation of the model: its node, and the dtype, role and shape of what comes out.

What an operation does to a gradient is said by `gradsight.model` alone; nothing here is written for one
operation where the model has a word for it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import replace

from gradsight import model
from gradsight.domain import Edge
from gradsight.graph import Node
from gradsight.interpret import shapes
from gradsight.interpret.dtypes import exact_dtype, exact_of, kind_of, method_dtype
from gradsight.interpret.expressions import Expressions
from gradsight.interpret.libraries import AMBIGUOUS, INDICES, RANDOM_FILLS
from gradsight.interpret.shapes import broadcast
from gradsight.interpret.writing import LEAVES, written_in_place
from gradsight.model import kept
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
    node_of,
)

# Operations that take a value where a condition holds, and another one where it does not.
# Functions that slide a window over the last dimensions: over how many.
OVER_AREAS = {
    f"{name}{space}d": space
    for name in ("conv", "max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool")
    for space in (1, 2, 3)
}
CHOOSING = frozenset({"torch.where", "torch.Tensor.where", "torch.masked_fill", "torch.Tensor.masked_fill"})


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
        exact = self.exact_after(operation, args, kwargs)
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
        if saves and len(args) == 2 and out_number != NOWHERE:
            self.keeps_constants(operation.name.rpartition(".")[2], (args[0], args[1]), out_number)
        if kind in ("opaque", "unknown"):
            why = first.why if isinstance(first, Unknown) else f"what `{operation.name}` gives is not known"
            return Unknown(why, out_number)
        if kind == "none":
            return NONE
        if kind == "number":
            last = operation.name.rpartition(".")[2] if operation.name.startswith("builtins.") else ""
            return Number(
                out_number, {"int": "int", "len": "int", "float": "float", "bool": "bool"}.get(last, "")
            )
        if kind == "numbers":
            return self.allocate(Obj("list", None, items=(Number(out_number),), many=True))
        if kind == "array":
            role = first.role if isinstance(first, (Tensor, Array)) and operation.role == "keep" else ""
            if operation.name.endswith((".numpy", ".asarray", ".array")):
                shape = self.shape_of(first)
            else:
                shape = self.shape_after(operation, args, kwargs)
            if operation.name in ("numpy.eye", "numpy.identity"):
                role = "identity"
            return Array(out_number, kind_of(exact) or dtype, role, shape, exact)
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
            exact if kind_of(exact) == dtype or not dtype else "",
        )
        if not dtype and exact:
            result = replace(result, dtype=kind_of(exact))
        if operation.name in CHOOSING and out_number != NOWHERE and len(args) > 1:
            own, other = args[:2], args[2:3]
            condition = own[operation.name != "torch.where"]
            fill = operation.name.endswith("masked_fill")
            arms = own[1:] + other if operation.name == "torch.where" else own[:1] + other
            nodes = [node_of(condition), *(node_of(arm) for arm in arms)]
            self.event("chosen", out_number, nodes=nodes, facts={"fill": "yes" if fill else ""})
        if operation.results and (not operation.results_when or gives_dimension(operation, args, kwargs)):
            return Seq(tuple(self.part_of(result, name, parts, node) for name in operation.results))
        if operation.shape == "view" and isinstance(first, Tensor) and kind in ("tensor", "same"):
            if operation.name.rpartition(".")[2] in kept.VIEWS:
                self.views[id(result)] = result, first
        if kind == "tensors":
            return self.several(operation, result, args, kwargs)
        return result

    def written_over(self, old: Value, new: Value, name: str, node: ast.AST, base: ast.expr | None) -> None:
        """A function or module wrote its result over the tensor that it was given."""
        if not isinstance(old, Tensor) or not isinstance(new, Tensor):
            return
        written_in_place(self, old, new, name, node, base)
        if old.origin in LEAVES or new.node == NOWHERE:
            return
        if isinstance(base, (ast.Name, ast.Attribute, ast.Subscript)):
            self.changed_in_place(base, old, new, node)
        else:
            self.replace_everywhere(old, new, node)

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
        return Tensor(number, "int", result.shape, "index", exact="int64")

    def raising_conversion(self, operation: model.Operation, value: Value, node: ast.AST) -> None:
        """numpy refuses a tensor that requires a gradient; whether it does is asked of the graph later, if
        the program does not ask itself."""
        if any("requires_grad" in test for test in self.tests):
            return
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
        if is_cast_unseen(operation, args):
            return ""
        if operation.dtype in ("same", "argument") and isinstance(first, (Tensor, Array)):
            return first.dtype
        kinds = {value.dtype for value in self.tensors_in(Seq(tuple(args)))}
        if operation.dtype == "same" and len(kinds) == 1:
            return kinds.pop()
        return ""

    def exact_after(self, operation: model.Operation, args: list[Value], kwargs: dict[str, Value]) -> str:
        """The dtype's own name, where operands and arguments say it for sure."""
        last = operation.name.rpartition(".")[2]
        explicit = kwargs.get("dtype")
        first = args[0] if args else None
        if is_cast_unseen(operation, args):
            return ""
        if explicit is None and operation.dtype == "argument":
            explicit = next((value for value in args[1:] if exact_dtype(value)), None)
        if explicit is not None and explicit != NONE:
            return exact_dtype(explicit)
        if operation.name.startswith("torch.Tensor.") and (cast := method_dtype(last)):
            return cast
        if last == "type_as" or (last == "to" and len(args) > 1 and isinstance(args[1], Tensor)):
            return exact_of(args[1]) if len(args) > 1 else ""
        if last == "to" and any(isinstance(value, (Unknown, Number)) for value in args[1:]):
            # `.to(device)`: what is not known here is a device, or nothing is known of the dtype.
            return exact_of(first) if all(device_like(value) for value in args[1:]) else ""
        if last == "from_numpy":
            return exact_of(first)
        if operation.dtype in ("bool", "int"):
            return "bool" if operation.dtype == "bool" else "int64"
        kinds = {exact_of(value) for value in args if isinstance(value, (Tensor, Array))}
        if len(kinds) != 1 or any(isinstance(value, (Unknown, Ref, Seq)) for value in args[:1]):
            return ""
        exact = kinds.pop()
        shifted = operation.role in ("keep", "one-hot") or operation.shape == "view"
        if kind_of(exact) == "float":
            return exact if operation.dtype in ("same", "argument", "float") else ""
        return exact if shifted and operation.dtype != "float" and last != "mean" else ""

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
            if last in ("to", "type", "cuda", "cpu", "clone", "contiguous", "pin_memory"):
                return shape  # whatever else is said of devices, dtypes and memory
            for value in args[1:]:
                if isinstance(value, (Tensor, Array)):
                    shape = broadcast(shape, self.shape_of(value))
                elif isinstance(value, Unknown):
                    return None
            return shape
        if operation.shape == "scalar":
            return ()
        if operation.shape == "reduce":
            given = next(
                (kwargs[key] for key in ("dim", "axis") if key in kwargs), args[1] if len(args) > 1 else None
            )
            dims = None if given is None or given == NONE else self.integers([given])
            keep = kwargs.get("keepdim", kwargs.get("keepdims", args[2] if len(args) > 2 else Const(False)))
            if (dims is None and given is not None and given != NONE) or not isinstance(keep, Const):
                return None
            return shapes.reduced(first, dims, keep.value is True)
        if last == "one_hot":
            classes = self.integers([kwargs.get("num_classes", args[1] if len(args) > 1 else Const(-1))])
            known = shapes.ranked(first)
            return None if known is None else (*known, classes[0] if classes and classes[0] > 0 else None)
        if last == "multinomial":
            count = self.integers([kwargs.get("num_samples", args[1] if len(args) > 1 else NONE)])
            return shapes.linear(first, count[0] if count else None)
        if last == "gather":
            return self.shape_of(args[2] if len(args) > 2 else kwargs.get("index"))
        if operation.shape == "matmul" and len(args) > 1:
            return shapes.matmul(first, self.shape_of(args[1]))
        if operation.shape == "linear" and len(args) > 1:
            weight = shapes.ranked(self.shape_of(args[1]))
            return shapes.linear(first, weight[0] if weight else None)
        if last in OVER_AREAS:
            weight = self.shape_of(args[1]) if last.startswith("conv") and len(args) > 1 else first
            return shapes.over_areas(first, weight, OVER_AREAS[last], convolved=last.startswith("conv"))
        return self.moved_dimensions(last, first, args[1:], kwargs)

    def moved_dimensions(self, last: str, first: Shape, args: list[Value], kwargs: dict[str, Value]) -> Shape:
        """The shape behind a view: the same numbers in other dimensions."""
        if last in ("view", "reshape"):
            given = args or [kwargs[key] for key in ("shape", "size") if key in kwargs]
            if len(given) == 1 and self.items(given[0]) is None and not is_size(given[0]):
                return None  # a dtype, or a size made elsewhere
            sizes = self.size_of(given)
            if sizes is None:
                return None
            asked = self.items(given[0]) if len(given) == 1 else tuple(given)
            batch = [isinstance(one, Number) and one.kind == "many" for one in asked or ()]
            return shapes.viewed(first, sizes, batch if len(batch) == len(sizes) else [False] * len(sizes))
        if last in ("expand", "broadcast_to"):
            sizes = self.size_of(args)
            known = shapes.ranked(first)
            if sizes is None or known is None or len(sizes) < len(known):
                return None
            known = (1,) * (len(sizes) - len(known)) + known
            return tuple(old if new == -1 else new for new, old in zip(sizes, known, strict=True))
        if last in ("view_as", "reshape_as", "expand_as", "type_as"):
            return self.shape_of(args[0] if args else kwargs.get("other"))
        if last in ("flatten", "ravel"):
            start = kwargs.get("start_dim", args[0] if args else Const(0))
            end = kwargs.get("end_dim", args[1] if len(args) > 1 else Const(-1))
            ends = self.integers([start, end])
            return None if ends is None or len(ends) != 2 else shapes.flattened(first, *ends)
        dims = self.integers(args or [kwargs[key] for key in ("dim", "dims", "axis") if key in kwargs])
        if last == "squeeze":
            return shapes.squeezed(first, dims or None) if dims is not None else None
        if dims is None:
            return None
        if last == "unsqueeze" and len(dims) == 1:
            return shapes.unsqueezed(first, dims[0])
        if last == "permute":
            return shapes.permuted(first, dims)
        if last in ("transpose", "swapaxes", "swapdims"):
            dims = dims or tuple(self.integers([v for k, v in kwargs.items() if k.startswith("dim")]) or ())
            return shapes.transposed(first, *dims) if len(dims) == 2 else None
        if last == "t":
            known = shapes.ranked(first)
            return None if known is None or len(known) > 2 else known[::-1]
        return None

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
                else MANY
                if isinstance(size, Number) and size.kind == "many"
                else None
            )
        return tuple(out)

    def integers(self, values: list[Value]) -> tuple[int, ...] | None:
        """Known integers, given one by one or as one sequence; None where one of them is not known."""
        if len(values) == 1 and (items := self.items(values[0])) is not None:
            values = list(items)
        out = [value.value for value in values if isinstance(value, Const) and is_size(value)]
        return tuple(out) if len(out) == len(values) else None  # type: ignore[arg-type]

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


def device_like(value: Value) -> bool:
    """Whether an argument of `.to` is surely no dtype."""
    return isinstance(value, (Const, Number)) or (
        isinstance(value, Unknown)
        and value.node == NOWHERE
        and value.why.startswith(("`torch.device`", "one of several constants"))
    )


def is_cast_unseen(operation: model.Operation, args: list[Value]) -> bool:
    """Whether this is `x.type(...)` with a dtype that is not known."""
    return operation.name == "torch.Tensor.type" and any(isinstance(value, Unknown) for value in args[1:])


def is_size(value: Value) -> bool:
    """Whether a value is a known integer."""
    return (
        isinstance(value, Const) and isinstance(value.value, int) and not isinstance(value.value, bool)
    ) or isinstance(value, Number)


def gives_dimension(operation: model.Operation, args: list[Value], kwargs: dict[str, Value]) -> bool:
    """Whether the argument is given that makes max and min return two things; a tensor there compares."""
    if operation.results_when in kwargs or "axis" in kwargs:
        return True
    at = operation.params.index(operation.results_when) if operation.results_when in operation.params else -1
    return 0 <= at < len(args) and not isinstance(args[at], (Tensor, Array))
