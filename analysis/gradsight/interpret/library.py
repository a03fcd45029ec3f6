"""Calls of library code: operations, fresh tensors, modules, criteria, optimizers, sinks.

What an operation does comes from `gradsight.model`; only what changes the interpreter's own state (gradient mode,
heap, events) is written out here.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from gradsight import model
from gradsight.domain import Edge
from gradsight.graph import Node
from gradsight.interpret.expressions import Expressions, broadcast, is_container, matmul_shape
from gradsight.values import (
    MANY,
    NONE,
    NOWHERE,
    Array,
    Choice,
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
    surely_many,
)

# What these return is never a tensor that requires gradient.
PLAIN_LIBRARIES = frozenset(sys.stdlib_module_names) - {
    "copy", "functools", "itertools", "operator", "collections", "contextlib", "dataclasses", "typing", "math",
    "builtins", "multiprocessing",
} | {"yaml", "pandas", "sklearn", "cv2", "PIL", "matplotlib", "wandb", "omegaconf", "hydra", "scipy", "skimage", "gym",
     "gymnasium", "tensorboardX", "seaborn", "absl", "h5py", "requests", "tokenizers", "nltk", "numpy.random"}  # fmt: skip

FACTORIES = {
    "zeros", "ones", "rand", "randn", "randint", "empty", "full", "eye", "arange", "linspace", "logspace", "randperm",
    "zeros_like", "ones_like", "rand_like", "randn_like", "empty_like", "full_like", "randint_like", "normal",
    "new_zeros", "new_ones", "new_full", "new_empty", "tril_indices", "triu_indices", "hann_window", "kaiser_window",
}  # fmt: skip
REWRAPS = {"tensor", "as_tensor", "FloatTensor", "DoubleTensor", "LongTensor", "HalfTensor", "IntTensor", "Tensor",
           "new_tensor", "asarray", "BoolTensor", "ByteTensor", "scalar_tensor"}  # fmt: skip
INTEGER_FACTORIES = {
    "randint",
    "arange",
    "randperm",
    "LongTensor",
    "IntTensor",
    "ByteTensor",
    "tril_indices",
    "triu_indices",
}
RANDOM = {"rand", "randn", "rand_like", "randn_like", "normal", "empty"}

# Functions of torch that give no tensor.
NO_TENSORS = ("torch.cuda.", "torch.backends.", "torch.set_", "torch.is_", "torch.get_", "torch.random.", "torch.multiprocessing.",
              "torch.profiler.", "torch.utils.tensorboard.", "torch.distributed.", "torch.autograd.set_detect", "torch.mps.",
              "torch.autograd.profiler", "torch.onnx.", "torch.use_deterministic", "torch.utils.data.", "torch.optim.lr_scheduler.")  # fmt: skip
NO_TENSOR_NAMES = {"torch.manual_seed", "torch.seed", "torch.initial_seed", "torch.device", "torch.save", "torch.Size", "torch.Generator",
                   "torch.finfo", "torch.iinfo", "torch.autocast", "torch.compiled_with_cxx11_abi", "torch.numel",
                   "torch.autograd.detect_anomaly", "torch.nn.utils.clip_grad_norm_", "torch.nn.utils.clip_grad_value_",
                   "torch.nn.utils.clip_grad_norm"}  # fmt: skip

MODULE_SELF = {
    "train", "eval", "to", "cuda", "cpu", "float", "half", "double", "bfloat16", "apply", "share_memory", "to_empty", "type",
    "requires_grad_", "compile", "xpu", "ipu",
}  # fmt: skip
WRAPPERS = {
    "torch.nn.DataParallel", "torch.nn.parallel.DistributedDataParallel", "torch.compile", "torch.jit.script",
    "torch.distributed.fsdp.FullyShardedDataParallel", "torch.nn.SyncBatchNorm.convert_sync_batchnorm",
    "torch.nn.utils.spectral_norm", "torch.nn.utils.weight_norm", "torch.nn.utils.parametrizations.spectral_norm",
    "torch.nn.utils.parametrizations.weight_norm", "torch.jit.ignore", "torch.jit.export", "torch.nn.parallel.DataParallel",
}  # fmt: skip
PASS_THROUGH = {"tqdm.tqdm", "tqdm.auto.tqdm", "tqdm.notebook.tqdm", "tqdm.trange", "builtins.list", "builtins.tuple",
                "builtins.iter", "builtins.reversed", "builtins.sorted", "builtins.set", "copy.copy", "rich.progress.track",
                "typing.cast"}  # fmt: skip
GRAD_OFF = {"torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad", "torch.autograd.grad_mode.no_grad",
            "torch.autograd.inference_mode"}  # fmt: skip
GRAD_ON = {"torch.enable_grad", "torch.autograd.enable_grad", "torch.autograd.grad_mode.enable_grad"}
NEVER_A_TENSOR = {"size", "dim", "ndimension", "numel", "nelement", "element_size", "is_floating_point", "is_contiguous",
                  "data_ptr", "get_device", "stride", "is_cuda", "storage", "untyped_storage", "register_hook",
                  "retain_grad", "is_complex", "storage_offset", "register_post_accumulate_grad_hook"}  # fmt: skip


class Library(Expressions):
    """What library functions, methods and modules do."""

    # -- functions of libraries

    def call_library(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        handler = HANDLERS.get(name)
        if handler is not None:
            return handler(self, name, args, kwargs, node)
        last = name.rpartition(".")[2]
        if name in WRAPPERS:
            return args[0] if args else next(iter(kwargs.values()), Unknown("a wrapper without a module"))
        if name in PASS_THROUGH:
            return self.pass_through(name, args, kwargs, node)
        if name in GRAD_OFF or name in GRAD_ON or name.startswith("torch.set_grad_enabled"):
            if name == "torch.set_grad_enabled":
                self.state.grad = grad_of(args[0] if args else kwargs.get("mode"))
                if self.state.grad == "off":
                    self.switch_off(self.here(node))
            return self.allocate(Obj("object", Lib(name), tuple(kwargs.items()), tuple(args)))
        if name.startswith("torch.") and last in FACTORIES and name.count(".") == 1:
            return self.factory(last, args, kwargs, node)
        if (
            name.startswith("torch.")
            and last in REWRAPS
            and name.rpartition(".")[0] in ("torch", "torch.cuda")
        ):
            return self.rewrap(last, args, kwargs, node)
        if model.optimizer(name) is not None:
            return self.make_optimizer(name, args, kwargs, node)
        if model.criterion(name) is not None and name.startswith("torch.nn.functional."):
            return self.apply_criterion(name, {}, args, kwargs, node)
        if model.module(name) is not None:
            return self.make_module(name, args, kwargs, node)
        if name.startswith(NO_TENSORS) or name in NO_TENSOR_NAMES:
            return Unknown(f"`{name}` gives no tensor")
        if name.startswith("torch.nn.init."):
            return self.initialized(last, args, kwargs)
        if name.startswith("torch.distributions."):
            return self.distribution(name, args, kwargs, node)
        operation = model.operation(name)
        if operation is not None:
            return self.apply(operation, args, kwargs, node)
        top = name.partition(".")[0]
        if top in PLAIN_LIBRARIES or name.startswith("numpy.random"):
            if name.startswith("numpy.random"):
                return Array()
            for value in (*args, *kwargs.values()):
                self.run_callback(value)
            return Unknown(f"`{name}` gives no tensor")
        if last[:1].isupper() and not any(
            True for value in (*args, *kwargs.values()) for _ in self.nodes_in(value)
        ):
            fields = {key: value for key, value in kwargs.items()}
            origin = self.source("call", name, node)
            return self.allocate(
                Obj(
                    "object",
                    Lib(name),
                    (("*", Unknown(f"`{name}` is not seen", origin)), *fields.items()),
                    tuple(args),
                )
            )
        return self.unknown_call(f"`{name}` is not known", None, args, kwargs, node)

    def initialized(self, last: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """torch.nn.init writes its argument in place and returns it."""
        value = args[0] if args else kwargs.get("tensor", NONE)
        if isinstance(value, Tensor) and value.origin.startswith("torch."):
            return replace(value, origin="torch.randn" if last in RANDOM_FILLS else "torch.full")
        return value

    def distribution(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        """A distribution depends on its parameters; what it draws by `sample` does not."""
        parts: list[tuple[int, Edge]] = []
        for value in (*args, *kwargs.values()):
            obj = self.obj(value)
            numbers = (
                [node_of(obj.get("*"))]
                if obj is not None and obj.kind == "object"
                else list(self.nodes_in(value))
            )
            parts += [(n, Edge.LIVE) for n in numbers if n != NOWHERE]
        number = self.combine(name, parts, node, saves=True)
        if name.rpartition(".")[2][:1].islower():
            return Tensor(number, "float")
        return self.allocate(Obj("object", Lib(name), (("*", Tensor(number, "float")),)))

    def distribution_method(self, own: Value | None, name: str, args: list[Value], node: ast.AST) -> Value:
        parts = [(n, Edge.LIVE) for value in (own, *args) for n in self.nodes_in(value)]
        if name in ("sample", "sample_n"):
            return Tensor(
                self.combine("torch.distributions.sample", [(n, Edge.CUT) for n, _ in parts], node, "sample")
            )
        if name == "expand":
            return Unknown("a distribution", self.combine("torch.distributions.expand", parts, node))
        return Tensor(self.combine(f"torch.distributions.{name}", parts, node, saves=True), "float")

    def run_callback(self, value: Value) -> None:
        """A function handed to code that is not seen: nothing is assumed."""

    def unknown_call(
        self, why: str, function: Value | None, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """The result of code that cannot be seen: a source of its own, which may also pass what it was given."""
        parts = [(n, Edge.LIVE) for n in self.nodes_in(function)] if function is not None else []
        parts += [(n, Edge.UNKNOWN) for value in (*args, *kwargs.values()) for n in self.nodes_in(value)]
        inputs = tuple(n for n, _ in parts)
        edges = tuple(e for _, e in parts)
        off = self.state.grad == "off"
        if off:
            edges = tuple(Edge.CUT for _ in edges)
        kind, op = ("source", "call") if not off else ("op", "call")
        number = self.graph.add(
            Node(kind, op, inputs, edges, "no_grad" if off else "", self.here(node), why, off=off)
        )
        return Unknown(why, number)

    def pass_through(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        if not args:
            values = [value for key, value in kwargs.items() if key in ("iterable", "sequence")]
            if values:
                return values[0]
            return self.allocate(
                Obj("list", None, many=name not in ("builtins.list", "builtins.tuple", "builtins.set"))
            )
        value = args[-1] if name == "typing.cast" else args[0]
        if name in (
            "builtins.list",
            "builtins.tuple",
            "builtins.set",
            "builtins.sorted",
            "builtins.reversed",
        ):
            obj = self.obj(value)
            if isinstance(value, Params):
                return value
            if isinstance(value, Seq):
                items = value.items if name != "builtins.reversed" else value.items[::-1]
                return self.allocate(Obj("list", None, items=items))
            if obj is not None and obj.kind == "list":
                return self.allocate(Obj("list", None, items=obj.items, many=obj.many))
            if isinstance(value, Tensor):
                return self.allocate(Obj("list", None, items=(self.element_of(value, node),), many=True))
        return value

    # -- operations

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
        bound: dict[str, Value] = {}
        cause = operation.cause
        to_numpy = operation.name.startswith("numpy.")
        to_number = operation.kind == "number" and not to_numpy
        saves = bool(operation.saves)
        dtype = self.dtype_of(operation, args, kwargs)
        integer = dtype in ("int", "bool") and operation.dtype == "argument"
        index_only = False
        for position, (name, value) in enumerate(self.bind(operation.params, args, kwargs)):
            bound.setdefault(name, value)
            edge = operation.edges.get(name, operation.other)
            if to_numpy and edge is Edge.LIVE:
                if isinstance(value, Tensor) or any(True for _ in self.tensors_in(value)):
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
            if operation.zero_when and operation.zero_when in kwargs and kwargs[operation.zero_when] != NONE and edge is Edge.LIVE:
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
            self.note_of(operation, bound, parts),
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
            if origin and last_name(operation.name) in RANDOM_FILLS:
                origin = "torch.randn"
        result = Tensor(
            out_number,
            dtype,
            self.shape_after(operation, args, kwargs),
            self.role_after(operation, first, args),
            origin,
        )
        if operation.results and (not operation.results_when or gives_dimension(operation, args, kwargs)):
            return Seq(tuple(self.part_of(result, name, parts, node) for name in operation.results))
        if kind == "tensors":
            return self.several(operation, result, args, kwargs)
        return result

    def part_of(self, result: Tensor, name: str, parts: list[tuple[int, Edge]], node: ast.AST) -> Tensor:
        """One of the results of an operation that gives (values, indices): indices have no gradient."""
        if name not in ("indices", "inverse_indices", "counts", "inverse", "lengths", "exponent"):
            return result
        number = self.combine("torch.argmax", [(n, Edge.CUT) for n, _ in parts], node, "argmax")
        return Tensor(number, "int", result.shape, "index")

    def raising_conversion(self, operation: model.Operation, value: Value, node: ast.AST) -> None:
        """numpy refuses a tensor that requires a gradient: remembered, whether it does is asked of the graph later."""
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
        if last_name(operation.name) == "chunk":
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

    def note_of(
        self, operation: model.Operation, bound: dict[str, Value], parts: list[tuple[int, Edge]]
    ) -> str:
        """`constant` where a product has one dependent factor only: scaling, not combining."""
        return "constant" if len(parts) == 1 else ""

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

    def role_after(self, operation: model.Operation, first: Value | None, args: list[Value]) -> str:
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

    # -- fresh tensors

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

    # -- modules, criteria, optimizers

    def make_module(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        stub = model.module(name)
        assert stub is not None
        fields: dict[str, Value] = {}
        given = None
        if stub.affine is not None:
            argument, position, _ = stub.affine
            flag = kwargs.get(argument, args[position] if len(args) > position else None)
            given = bool(flag.value) if isinstance(flag, Const) else None if flag is None else True
        if stub.owns(given):
            fields["*"] = Tensor(self.source("parameter", name, node), "float", None, "", "parameter")
        if stub.container:
            items: list[Value] = list(args)
            if self.starred_many:
                self.starred_many = False
                return self.allocate(Obj("module", Lib(name), tuple(fields.items()), tuple(items), True))
            if len(args) == 1:
                known = self.items(args[0])
                obj = self.obj(args[0])
                if known is not None and (name.endswith("List") or obj is None or obj.kind == "list"):
                    items = list(known)
                    many = obj.many if obj is not None else False
                    if not is_module_value(self, args[0]):
                        return self.allocate(
                            Obj("module", Lib(name), tuple(fields.items()), tuple(items), many)
                        )
                if obj is not None and obj.kind == "dict":
                    fields.update(obj.fields)
                    return self.allocate(
                        Obj(
                            "module",
                            Lib(name),
                            tuple(fields.items()),
                            tuple(v for _, v in obj.fields),
                            bool(obj.items),
                        )
                    )
                if isinstance(args[0], Unknown):
                    return self.allocate(Obj("module", Lib(name), (("*", args[0]),), (), True))
            return self.allocate(Obj("module", Lib(name), tuple(fields.items()), tuple(items)))
        if stub.forward.role in ("probability", "log-probability"):
            fields["@"] = Number(self.source("made", name, node))
        for key, value in kwargs.items():
            fields[key] = value
        for position, value in enumerate(args):
            fields[stub.init[position] if position < len(stub.init) else f"#{position}"] = value
        return self.allocate(Obj("module", Lib(name), tuple(fields.items())))

    inside_container = False

    def copied(self, value: Value, node: ast.AST, seen: dict[int, Ref]) -> Value:
        raise NotImplementedError

    def call_module(
        self, ref: Ref, obj: Obj, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """The call of a library module."""
        assert isinstance(obj.cls, Lib)
        name = obj.cls.name
        stub = model.module(name)
        if stub is None:
            return self.unknown_call(f"`{name}` is not known", obj.get("*"), args, kwargs, node)
        if stub.criterion is not None:
            return self.apply_criterion(name, dict(obj.fields), args, kwargs, node)
        if stub.container:
            if not args or not obj.items or not self.all_modules(obj.items):
                parameters, _ = self.parameters_of(ref)
                parts = [(n, Edge.LIVE) for n in parameters]
                parts += [(n, Edge.LIVE) for value in args for n in self.nodes_in(value)]
                role = self.last_role(obj)
                return Tensor(self.combine(name, parts, node, saves=True, note="module"), "float", None, role)
            value = args[0]
            within, self.inside_container = self.inside_container, True
            for item in obj.items:
                value = self.call(item, [value], {}, node)  # type: ignore[arg-type]
            self.inside_container = within
            return self.through_module(value, node)
        own = node_of(obj.get("*"))
        value = self.apply(stub.forward, args, kwargs, node)
        made = node_of(obj.get("@"))
        if made != NOWHERE and isinstance(value, Tensor) and value.node >= 0 and self.inside_container:
            # Where the layer was made, for the fix; no gradient has to do with it.
            last = self.graph[value.node]
            last.inputs, last.edges = (*last.inputs, made), (*last.edges, Edge.NONE)
        if isinstance(value, Tensor):
            # One node for the whole call: the input and the module's own parameters side by side.
            if own != NOWHERE:
                value = self.with_parameters(value, own, node, name)
            value = Tensor(value.node, value.dtype, self.module_shape(stub, obj, args), value.role, "")
        elif own != NOWHERE:
            base = Tensor(
                self.combine(
                    name,
                    [*[(n, Edge.LIVE) for n in self.nodes_in(value)], (own, Edge.LIVE)],
                    node,
                    saves=True,
                    note="module",
                ),
                "float",
            )
            value = base
        short = name.rpartition(".")[2]
        if short == "LSTM":
            return Seq((value, Seq((value, value))))
        if short in ("GRU", "RNN"):
            return Seq((value, value))
        if short == "LSTMCell":
            return Seq((value, value))
        if short == "MultiheadAttention":
            return Seq((value, value))
        return value

    def through_module(self, value: Value, node: ast.AST) -> Value:
        """A node of its own for what a module's call returns: rules ask whether a cut stands right behind one."""
        if isinstance(value, Seq):
            return Seq(tuple(self.through_module(item, node) for item in value.items))
        if isinstance(value, Tensor) and value.node != NOWHERE:
            number = self.combine("module", [(value.node, Edge.LIVE)], node, note="module")
            return Tensor(number, value.dtype, value.shape, value.role, "")
        return value

    def last_role(self, obj: Obj) -> str:
        """What the last module of a container makes of its input, e.g. a softmax head."""
        last = self.obj(obj.items[-1]) if obj.items else None
        if last is None or not isinstance(last.cls, Lib):
            return ""
        stub = model.module(last.cls.name)
        return (
            stub.forward.role
            if stub is not None and stub.forward.role in ("logit", "probability", "log-probability")
            else ""
        )

    def with_parameters(self, value: Tensor, own: int, node: ast.AST, name: str) -> Tensor:
        last = self.graph.nodes[-1] if self.graph.nodes else None
        if value.node == len(self.graph) - 1 and last is not None and last.kind == "op":
            off = last.off
            last.inputs = (*last.inputs, own)
            last.edges = (*last.edges, Edge.CUT if off else Edge.LIVE)
            last.op, last.note, last.saves = name, "module", not off
            if off:
                last.cause = last.cause or "no_grad"
            return value
        number = self.combine(
            name, [(value.node, Edge.LIVE), (own, Edge.LIVE)], node, saves=True, note="module"
        )
        return Tensor(number, value.dtype, value.shape, value.role)

    def module_shape(self, stub: model.ModuleStub, obj: Obj, args: list[Value]) -> Shape:
        shape = self.shape_of(args[0]) if args else None
        operation = stub.forward
        if operation.shape == "same":
            return shape
        short = stub.name.rpartition(".")[2]
        if short == "Linear":
            out = obj.get("out_features")
            width = out.value if isinstance(out, Const) and isinstance(out.value, int) else None
            if shape is None:
                return None
            return (*shape[:-1], width)
        if short == "Flatten" and shape is not None and len(shape) == 2:
            return shape
        return None

    def apply_criterion(
        self,
        name: str,
        settings: dict[str, Value],
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.AST,
    ) -> Value:
        """A criterion's call: the loss, and the event that the rules on loss inputs ask about."""
        stub = model.criterion(name)
        assert stub is not None
        given = {**settings, **kwargs}
        names = stub.params if stub.params else ("input", "target")
        bound = dict(zip(names, args))
        for key, value in kwargs.items():
            if key in names:
                bound[key] = value
        parts: list[tuple[int, Edge]] = []
        targets: list[int] = []
        for key in names:
            given_value = bound.get(key)
            for number in self.nodes_in(given_value):
                if key == "target" or (len(names) > 1 and key == names[-1] and "target" not in names):
                    if "index" in stub.target_wants and not (
                        isinstance(given_value, Tensor) and given_value.dtype == "float"
                    ):
                        continue
                    targets.append(len(parts))
                parts.append((number, Edge.LIVE))
        reduction = given.get("reduction")
        word = reduction.value if isinstance(reduction, Const) else "mean" if reduction is None else "?"
        if given.get("reduce") == Const(False):
            word = "none"
        position_offset = 0
        loss = self.combine(name, parts, node, saves=True, target=tuple(t - position_offset for t in targets))
        first = bound.get(names[0])
        target = bound.get("target", bound.get(names[1]) if len(names) > 1 else None)
        shape: Shape = () if word in ("mean", "sum", "batchmean") else None
        if word == "none":
            shape = self.shape_of(target) if "index" in stub.target_wants else self.shape_of(first)
        facts = {
            "criterion": name,
            "reduction": str(word),
            "input": first.role if isinstance(first, Tensor) else "",
            "target": target.role if isinstance(target, (Tensor, Array)) else "",
            "target_dtype": target.dtype if isinstance(target, (Tensor, Array)) else "",
            "weight": "yes" if given.get("weight", NONE) != NONE else "",
            "wants": stub.input_wants,
            "off": "yes" if self.state.grad == "off" else "",
            "target_wants": stub.target_wants,
        }
        call = node if isinstance(node, ast.Call) else None
        self.event(
            "criterion",
            loss,
            nodes=(node_of(first), node_of(target)),
            facts=facts,
            call=self.here(node),
            input_=self.here(argument_ast(call, names[0], 0))
            if call is not None and argument_ast(call, names[0], 0) is not None
            else None,
            target=self.here(argument_ast(call, "target", 1))
            if call is not None and argument_ast(call, "target", 1) is not None
            else None,
        )
        single = (
            isinstance(first, Tensor)
            and first.node >= 0
            and self.graph[first.node].op.endswith("__getitem__")
        )
        role = "unreduced" if word == "none" and not single else ""
        return Tensor(loss, "float", shape, role)

    def make_optimizer(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        given = args[0] if args else kwargs.get("params", kwargs.get("parameters", NONE))
        params = self.parameter_groups(given)
        reference = self.allocate(Obj("optimizer", Lib(name), (("params", params),)))
        call = node if isinstance(node, ast.Call) else None
        owner: list[int] = []
        if call is not None and call.args and isinstance(call.args[0], ast.Call):
            inner = call.args[0].func
            if isinstance(inner, ast.Attribute) and inner.attr in ("parameters", "named_parameters"):
                receiver = self.evaluate(inner.value)
                if isinstance(receiver, Ref):
                    owner.append(receiver.oid)
        self.event(
            "optimizer",
            nodes=params.nodes,
            oids=(reference.oid, *owner),
            facts={
                "name": name,
                "blanket": "yes" if params.blanket else "",
                "unknown": "yes" if params.unknown else "",
            },
            call=self.here(node),
        )
        return reference

    def parameter_groups(self, given: Value, depth: int = 0) -> Params:
        """What an optimizer is given, flattened: parameters(), lists of tensors, lists of groups, chains."""
        if isinstance(given, Params):
            return given
        if depth > 4:
            return Params((), False, True)
        if isinstance(given, Tensor):
            return Params((given.node,) if given.node != NOWHERE else ())
        obj = self.obj(given)
        if obj is not None and obj.kind == "dict":
            value = obj.get("'params'")
            return self.parameter_groups(value, depth + 1) if value is not None else Params((), False, True)
        items = self.items(given)
        if items is not None:
            nodes: list[int] = []
            unknown = False
            for item in items:
                group = self.parameter_groups(item, depth + 1)
                nodes += group.nodes
                unknown = unknown or group.unknown
            if obj is not None and obj.many and not nodes:
                unknown = True
            return Params(tuple(dict.fromkeys(nodes)), False, unknown)
        if isinstance(given, Choice):
            groups = [self.parameter_groups(option, depth + 1) for option in given.options]
            return Params(tuple(dict.fromkeys(n for group in groups for n in group.nodes)), False, True)
        if isinstance(given, Unknown) and given.node != NOWHERE:
            return Params((given.node,), False, True)
        return Params((), False, True)

    # -- methods of library values

    def call_method_of(
        self,
        receiver: Value,
        name: str,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call,
        base: ast.expr | None,
    ) -> Value:
        if isinstance(receiver, Choice):
            return self.joiner.values(
                [self.call_method_of(option, name, args, kwargs, node, base) for option in receiver.options]
            )
        if isinstance(receiver, Ref):
            return self.object_method(receiver, name, args, kwargs, node)
        if isinstance(receiver, Params):
            return receiver
        if isinstance(receiver, (Tensor, Unknown)):
            special = self.tensor_method(receiver, name, args, kwargs, node, base)
            if special is not None:
                return special
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
            return Array(number, receiver.dtype, role)
        if isinstance(receiver, Seq):
            return Number() if name in ("index", "count") else Unknown("a method of a tuple")
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
        if isinstance(receiver, Unknown):
            if name in ("parameters", "named_parameters"):
                nodes = (receiver.node,) if receiver.node != NOWHERE else ()
                return Params(nodes, True, True, name == "named_parameters")
            if name in ("step", "zero_grad"):
                if name == "step" and args and not isinstance(args[0], (Closure, Partial)):
                    optimizer = self.obj(args[0])
                    if optimizer is not None and optimizer.kind == "optimizer":
                        self.step(args[0])
                        return NONE
                self.event(
                    "step" if name == "step" else "zero",
                    node=receiver.node,
                    facts={"unknown": "yes"},
                    call=self.here(node),
                )
                for value in args:
                    if isinstance(value, Closure):
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
                "requires_grad_",
                "apply",
                "items",
                "values",
            ) and not (
                name == "to"
                and any(
                    isinstance(v, Lib) and model.is_integer_dtype(v.name) for v in (*args, *kwargs.values())
                )
            ):
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
                return self.get_attribute(receiver, "shape", node) if not args else Number()
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
        if isinstance(receiver, Unknown) and not (receiver.node != NOWHERE):
            if operation.name.rpartition(".")[2] in AMBIGUOUS or not any(
                True for value in args for _ in self.nodes_in(value)
            ):
                return Unknown(receiver.why)
        value = self.apply(operation, args, kwargs, node, receiver)
        if operation.in_place and base is not None:
            if isinstance(value, Tensor) and isinstance(receiver, Tensor):
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
                )
            self.assign(base, value, node)
        return value

    def has_history(self, number: int) -> bool:
        """Whether a value was computed from anything that may learn."""
        if number == NOWHERE:
            return False
        return any(
            self.graph[n].kind == "input" or self.graph[n].kind == "source" and self.graph[n].op != "fresh"
            for n in self.graph.feeding(number, (Edge.LIVE, Edge.CUT, Edge.ZERO, Edge.UNKNOWN))
        )

    def require_grad(self, receiver: Value, flag: Value | None, at: ast.AST, base: ast.expr | None) -> Value:
        """`x.requires_grad_()` and `x.requires_grad = True`: harmless on a connected tensor, a new leaf elsewhere."""
        nodes = list(self.nodes_in(receiver))
        if isinstance(flag, Const) and flag.value is False:
            self.event("freeze", nodes=nodes, call=self.here(at))
            return receiver
        if isinstance(flag, Const) and flag.value is True:
            if isinstance(receiver, Tensor) and receiver.origin == "parameter":
                self.event("thaw", nodes=nodes, call=self.here(at))
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
            if isinstance(receiver, Unknown):
                return receiver
        return receiver

    def backward(
        self,
        receiver: Value,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call,
        base: ast.expr | None,
    ) -> Value:
        if args and not isinstance(receiver, Tensor) and isinstance(args[0], Tensor):
            # engine.backward(loss), accelerator.backward(loss)
            return self.sink(args[0], node, node.args[0])
        retain = kwargs.get("retain_graph", args[1] if len(args) > 1 else NONE)
        given = kwargs.get("gradient", args[0] if args else NONE)
        return self.sink(receiver, node, base, retain, given, inputs=kwargs.get("inputs"))

    def sink(
        self,
        root: Value,
        node: ast.AST,
        root_ast: ast.AST | None,
        retain: Value = NONE,
        given: Value = NONE,
        kind: str = "backward",
        inputs: Value | None = None,
    ) -> Value:
        retained = "" if retain in (NONE, Const(False)) else "yes" if retain == Const(True) else "may"
        shape = root.shape if isinstance(root, Tensor) else None
        nodes = list(self.nodes_in(root))
        self.event(
            kind,
            nodes[0] if nodes else NOWHERE,
            nodes=nodes,
            facts={
                "retain": retained,
                "gradient": "" if given == NONE else "yes",
                "shape": "unknown" if shape is None else ",".join(str(dim) for dim in shape) or "scalar",
                "unreduced": "yes" if isinstance(root, Tensor) and root.role == "unreduced" else "",
                "kind": type(root).__name__.lower(),
                "off": "yes" if self.state.grad == "off" else "",
                "why": root.why if isinstance(root, Unknown) else "",
                "inputs": "yes" if inputs is not None else "",
                "many": "yes" if surely_many(shape) else "",
            },
            call=self.here(node),
            root=self.here(root_ast) if root_ast is not None else None,
        )
        return NONE

    def step(self, optimizer: Value) -> None:
        obj = self.obj(optimizer)
        if obj is not None:
            params = obj.get("params")
            if isinstance(params, Params):
                reference = (optimizer.oid,) if isinstance(optimizer, Ref) else ()
                self.event(
                    "step",
                    nodes=params.nodes,
                    oids=reference,
                    facts={"unknown": "yes" if params.unknown else ""},
                    call=self.here(),
                )

    def object_method(
        self, receiver: Ref, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        obj = self.state.heap[receiver.oid]
        if obj.kind == "list":
            return self.list_method(receiver, obj, name, args, kwargs, node)
        if obj.kind == "dict":
            return self.dict_method(receiver, obj, name, args, node)
        if obj.kind == "optimizer":
            if name == "step":
                for value in (*args, *kwargs.values()):
                    if isinstance(value, Closure):
                        self.call(value, [], {}, node)
                self.step(receiver)
            elif name == "zero_grad":
                params = obj.get("params")
                nodes = params.nodes if isinstance(params, Params) else ()
                self.event("zero", nodes=nodes, oids=(receiver.oid,), call=self.here(node))
            elif name == "add_param_group":
                old = obj.get("params")
                new = self.parameter_groups(args[0]) if args else Params((), False, True)
                if isinstance(old, Params):
                    merged = Params((*old.nodes, *new.nodes), False, old.unknown or new.unknown)
                    self.put(receiver, obj.with_field("params", merged))
            return NONE if name in ("step", "zero_grad") else Unknown("an optimizer's state")
        if obj.kind in ("module", "instance"):
            return self.module_method(receiver, obj, name, args, kwargs, node)
        if isinstance(obj.cls, Lib):
            return self.library_object_method(receiver, obj, obj.cls.name, name, args, kwargs, node)
        return self.unknown_call(f"`.{name}()` is not known", None, args, kwargs, node)

    def module_method(
        self, receiver: Ref, obj: Obj, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        if name in ("parameters", "named_parameters"):
            nodes, unknown = self.parameters_of(receiver)
            return Params(tuple(nodes), True, unknown, name == "named_parameters")
        if name == "requires_grad_":
            nodes, _ = self.parameters_of(receiver)
            flag = args[0] if args else kwargs.get("requires_grad", Const(True))
            self.event(
                "freeze" if flag == Const(False) else "thaw" if flag == Const(True) else "freeze",
                nodes=nodes,
                call=self.here(node),
            )
            return receiver
        if name in MODULE_SELF:
            if name == "train" and not args:
                nodes, _ = self.parameters_of(receiver)
                self.event("train", nodes=nodes, oids=(receiver.oid,), call=self.here(node))
            return receiver
        if name == "zero_grad":
            nodes, _ = self.parameters_of(receiver)
            self.event("zero", nodes=nodes, oids=(receiver.oid,), call=self.here(node))
            return NONE
        if name == "register_buffer" and args:
            value = args[1] if len(args) > 1 else kwargs.get("tensor", NONE)
            if isinstance(args[0], Const):
                stored = (
                    Tensor(NOWHERE, value.dtype, value.shape, value.role, "buffer")
                    if isinstance(value, Tensor)
                    else Unknown("a buffer")
                )
                self.put(receiver, self.state.heap[receiver.oid].with_field(str(args[0].value), stored))
            return NONE
        if name in ("register_parameter", "add_module", "register_module") and len(args) > 1:
            if isinstance(args[0], Const):
                self.put(receiver, self.state.heap[receiver.oid].with_field(str(args[0].value), args[1]))
            else:
                current = self.state.heap[receiver.oid]
                self.put(
                    receiver, Obj(current.kind, current.cls, current.fields, (*current.items, args[1]), True)
                )
            return NONE
        if name in ("append", "extend", "insert") and is_container(obj) and args:
            added = (
                (args[-1],)
                if name != "extend"
                else (self.items(args[0]) or (self.element_of(args[0], node),))
            )
            self.put(
                receiver, Obj(obj.kind, obj.cls, obj.fields, (*obj.items, *added), obj.many or self.in_loop())
            )
            return receiver
        if name in ("children", "modules", "named_children", "named_modules"):
            items = tuple(value for key, value in obj.fields if isinstance(value, Ref)) + obj.items
            return self.allocate(
                Obj(
                    "list",
                    None,
                    items=tuple(
                        Seq((Unknown("a name"), i)) if name.startswith("named") else i for i in items
                    ),
                    many=True,
                )
            )
        if name in ("items", "values", "keys"):
            items = obj.items
            return self.allocate(
                Obj(
                    "list",
                    None,
                    items=tuple(Seq((Unknown("a key"), i)) if name == "items" else i for i in items),
                    many=True,
                )
            )
        if name in (
            "state_dict",
            "load_state_dict",
            "register_forward_hook",
            "register_forward_pre_hook",
            "extra_repr",
            "buffers",
            "named_buffers",
            "register_full_backward_hook",
            "log",
            "log_dict",
            "save_hyperparameters",
        ):
            return Unknown("a module's state")
        if name == "forward" and obj.kind == "module":
            return self.call_module(receiver, obj, args, kwargs, node)
        if name in ("manual_backward",) and args:
            return self.sink(args[0], node, node.args[0])
        if name == "optimizers":
            return Unknown("an optimizer of the trainer", self.source("call", "optimizers", node))
        return self.unknown_call(
            f"`.{name}()` comes from code that is not seen", obj.get("*"), args, kwargs, node
        )

    def in_loop(self) -> bool:
        return any(kind == "l" for kind, _, _ in self.context)

    def list_method(
        self, receiver: Ref, obj: Obj, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        if name in ("append", "add", "appendleft", "put") and args:
            if self.in_loop() and obj.many and len(obj.items) >= 8:
                items: tuple[Value, ...] = (self.joiner.values([*obj.items, args[0]]),)
            else:
                items = (*obj.items, args[0])
            self.put(receiver, Obj("list", obj.cls, obj.fields, items, obj.many or self.in_loop()))
            return NONE
        if name == "insert" and len(args) > 1:
            self.put(
                receiver, Obj("list", obj.cls, obj.fields, (args[1], *obj.items), obj.many or self.in_loop())
            )
            return NONE
        if name in ("extend", "update") and args:
            more = self.items(args[0])
            other = self.obj(args[0])
            items = (*obj.items, *(more if more is not None else (self.element_of(args[0], node),)))
            many = obj.many or self.in_loop() or more is None or (other is not None and other.many)
            self.put(receiver, Obj("list", obj.cls, obj.fields, items[:64], many))
            return NONE
        if name in ("pop", "popleft", "get") and obj.items:
            return self.joiner.values(obj.items)
        if name == "copy":
            return self.allocate(Obj("list", obj.cls, obj.fields, obj.items, obj.many))
        if name == "clear":
            self.put(receiver, Obj("list", obj.cls))
            return NONE
        return Unknown("a method of a list")

    def dict_method(self, receiver: Ref, obj: Obj, name: str, args: list[Value], node: ast.Call) -> Value:
        values = (*obj.items, *(value for _, value in obj.fields))
        if name == "items":
            pairs = tuple(Seq((Unknown("a key"), value)) for value in values)
            return self.allocate(Obj("list", None, items=pairs, many=obj.many))
        if name == "values":
            return self.allocate(Obj("list", None, items=values, many=obj.many))
        if name in ("get", "pop", "setdefault") and args:
            if isinstance(args[0], Const):
                found = obj.get(repr(args[0].value))
                if found is not None:
                    return found
            return (
                self.joiner.values([*values, *args[1:2]])
                if values or len(args) > 1
                else Unknown("a key that is not known")
            )
        if name == "update" and args:
            other = self.obj(args[0])
            if other is not None and other.kind == "dict":
                for key, value in other.fields:
                    obj = obj.with_field(key, value)
                self.put(
                    receiver,
                    Obj("dict", obj.cls, obj.fields, (*obj.items, *other.items), obj.many or other.many),
                )
            return NONE
        if name == "copy":
            return self.allocate(obj)
        return Unknown("a method of a dictionary")

    def library_object_method(
        self,
        receiver: Ref,
        obj: Obj,
        cls: str,
        name: str,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.Call,
    ) -> Value:
        short = cls.rpartition(".")[2]
        if short == "GradScaler":
            if name == "scale" and args:
                return args[0]
            if name == "step" and args:
                self.step(args[0])
            return NONE
        if short in ("Accelerator", "Fabric"):
            if name == "backward" and args:
                return self.sink(args[0], node, node.args[0] if node.args else None)
            if name in ("prepare", "setup"):
                return Seq(tuple(args)) if len(args) > 1 else args[0] if args else NONE
            if name in ("gather", "gather_for_metrics", "reduce", "unwrap_model"):
                return args[0] if args else NONE
            return Unknown(f"`{short}.{name}`")
        if short.endswith(("LR", "Scheduler")) or "lr_scheduler" in cls or name in ("add_scalar", "log"):
            return NONE
        if cls in ("torch.Generator", "torch.device", "torch.cuda.Stream"):
            return receiver
        own = obj.get("*")
        if cls.startswith("torch.distributions."):
            return self.distribution_method(own, name, args, node)
        if name in ("parameters", "named_parameters"):
            return Params(
                (node_of(own),) if node_of(own) != NOWHERE else (), True, True, name.startswith("named")
            )
        if name in MODULE_SELF:
            return receiver
        if name in ("step", "zero_grad"):
            self.event(
                "step" if name == "step" else "zero",
                node=node_of(own),
                nodes=(),
                facts={"unknown": "yes"},
                call=self.here(node),
            )
            return NONE
        if name == "backward" and args:
            return self.sink(args[0], node, node.args[0] if node.args else None)
        return self.unknown_call(f"`{short}.{name}` is not known", own, args, kwargs, node)


# Methods that numpy arrays, modules or containers have too: on an unknown receiver the result stays unknown.
AMBIGUOUS = frozenset(
    {
        "mean", "sum", "max", "min", "std", "var", "reshape", "view", "float", "double", "half", "to", "cpu", "cuda", "squeeze",
        "transpose", "permute", "flatten", "clip", "round", "copy", "prod", "cumsum", "sort", "repeat", "dot", "abs", "pow", "exp",
        "log", "type", "contiguous", "unsqueeze", "expand", "clone", "split", "chunk", "index_select", "mul", "add", "div", "sub",
        "item", "tolist", "numpy", "detach", "argmax", "argmin", "long", "int", "bool",
    }
) - {"item", "tolist", "numpy"}  # fmt: skip


INDICES = frozenset({"index", "indices", "idx"})
RANDOM_FILLS = frozenset({"uniform_", "normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_",
                          "trunc_normal_", "orthogonal_", "exponential_", "random_", "sparse_", "bernoulli_"})  # fmt: skip


def gives_dimension(operation: model.Operation, args: list[Value], kwargs: dict[str, Value]) -> bool:
    """Whether the argument is given that makes max and min return two things; a tensor there compares instead."""
    if operation.results_when in kwargs or "axis" in kwargs:
        return True
    at = operation.params.index(operation.results_when) if operation.results_when in operation.params else -1
    return 0 <= at < len(args) and not isinstance(args[at], (Tensor, Array))


def last_name(name: str) -> str:
    return name.rpartition(".")[2]


def grad_of(flag: Value | None) -> str:
    if isinstance(flag, Const):
        return "on" if flag.value else "off"
    return "on"  # `set_grad_enabled(phase == "train")`: what counts is the training phase


def argument_ast(call: ast.Call, name: str, position: int) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position < len(call.args):
        return call.args[position]
    return None


def is_module_value(it: Library, value: Value) -> bool:
    obj = it.obj(value)
    return obj is not None and obj.kind in ("module", "instance")


def literal_shape(it: Library, value: Value | None, depth: int = 0) -> Shape:
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


def literal_dtype(it: Library, value: Value | None, depth: int = 0) -> str:
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


# -- functions that need more than the model says

Handler = Callable[[Any, str, list[Value], dict[str, Value], ast.Call], Value]


def _backward(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    root = args[0] if args else kwargs.get("tensors", NONE)
    given = args[1] if len(args) > 1 else kwargs.get("grad_tensors", NONE)
    retain = args[2] if len(args) > 2 else kwargs.get("retain_graph", NONE)
    return it.sink(root, node, node.args[0] if node.args else None, retain, given)


def _grad(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    root = args[0] if args else kwargs.get("outputs", NONE)
    inputs = args[1] if len(args) > 1 else kwargs.get("inputs", NONE)
    given = args[2] if len(args) > 2 else kwargs.get("grad_outputs", NONE)
    create = kwargs.get("create_graph")
    retain = kwargs.get("retain_graph", Const(True) if create == Const(True) else NONE)
    it.sink(root, node, node.args[0] if node.args else None, retain, given, "grad", inputs)
    live = create == Const(True)
    parts = [(n, Edge.LIVE if live else Edge.CUT) for value in (root, inputs) for n in it.nodes_in(value)]
    number = it.combine("torch.autograd.grad", parts, node, "" if live else "grad", saves=live)
    return (
        Seq((Tensor(number, "float"),))
        if it.items(inputs) is None
        else Seq(tuple(Tensor(number, "float") for _ in (it.items(inputs) or ())))
    )


def _isinstance(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    return Number()


def _enumerate(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    items = it.items(args[0]) if args else None
    obj = it.obj(args[0]) if args else None
    if items is not None and not (obj is not None and obj.many):
        return it.allocate(
            Obj("list", None, items=tuple(Seq((Const(i), item)) for i, item in enumerate(items)))
        )
    if not args:
        return Unknown("enumerate of nothing")
    return it.allocate(Obj("list", None, items=(Seq((Number(), it.element_of(args[0], node))),), many=True))


def _zip(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    if args and all(isinstance(value, Params) for value in args):
        return it.allocate(
            Obj("list", None, items=(Seq(tuple(it.element_of(value, node) for value in args)),), many=True)
        )
    columns = [it.items(value) for value in args]
    if (
        columns
        and all(column is not None for column in columns)
        and not any((o := it.obj(v)) is not None and o.many for v in args)
    ):
        return it.allocate(Obj("list", None, items=tuple(Seq(row) for row in zip(*(column or () for column in columns)))))
    return it.allocate(
        Obj("list", None, items=(Seq(tuple(it.element_of(value, node) for value in args)),), many=True)
    )


def _range(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    if (
        len(args) == 1
        and isinstance(args[0], Const)
        and isinstance(args[0].value, int)
        and 0 < args[0].value <= 8
    ):
        return it.allocate(
            Obj("list", Lib("builtins.range"), items=tuple(Const(i) for i in range(args[0].value)))
        )
    return it.allocate(Obj("list", Lib("builtins.range"), items=(Number(),), many=True))


def _sum(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """The built-in sum: one additive term for each item."""
    items = it.items(args[0]) if args else None
    if items is None:
        if args and isinstance(args[0], (Array, Unknown, Tensor)):
            element = it.element_of(args[0], node)
            items = (element,)
        else:
            return Number()
    total: Value = args[1] if len(args) > 1 else items[0] if items else Const(0)
    rest = items if len(args) > 1 else items[1:]
    for item in rest:
        total = it.operate("add", total, item, node)
    return total


def _map(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    if len(args) < 2:
        return Unknown("map")
    rows = it.items(args[1])
    if rows is not None and len(args) == 2 and 0 < len(rows) <= 16:
        return it.allocate(
            Obj(
                "list",
                None,
                items=tuple(it.call(args[0], [row], {}, node) for row in rows),
                many=bool((o := it.obj(args[1])) and o.many),
            )
        )
    return it.allocate(
        Obj(
            "list",
            None,
            items=(it.call(args[0], [it.element_of(value, node) for value in args[1:]], {}, node),),
            many=True,
        )
    )


def _filter(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    if len(args) > 1 and isinstance(args[1], Params):
        return Params(args[1].nodes, False, True)
    return args[1] if len(args) > 1 else Unknown("filter")


def _chain(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    groups = [it.parameter_groups(value) for value in args if isinstance(value, Params)]
    if groups and len(groups) == len(args):
        return Params(
            tuple(dict.fromkeys(n for group in groups for n in group.nodes)),
            True,
            any(g.unknown for g in groups),
        )
    items = tuple(item for value in args for item in (it.items(value) or (it.element_of(value, node),)))
    return it.allocate(Obj("list", None, items=items, many=True))


def _dict(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    source = it.obj(args[0]) if args else None
    if args and (source is None or source.kind != "dict"):
        return it.allocate(
            Obj(
                "dict",
                None,
                tuple((repr(k), v) for k, v in kwargs.items()),
                (Unknown("items of a mapping"),),
                True,
            )
        )
    base = source or Obj("dict", None)
    for key, value in kwargs.items():
        base = base.with_field(repr(key), value)
    return it.allocate(base)


def _deepcopy(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """A copied module has parameters of its own."""
    return it.copied(args[0], node, {}) if args else NONE


def _loader(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    dataset = args[0] if args else kwargs.get("dataset", NONE)
    return it.allocate(Obj("object", Lib(name), (("dataset", dataset),)))


def _tensor_dataset(
    it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    return it.allocate(Obj("object", Lib(name), (), tuple(args)))


def _partial(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    return Partial(args[0], tuple(args[1:]), tuple(kwargs.items())) if args else Unknown("partial")


def _getattr(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    if len(args) > 1 and isinstance(args[1], Const) and isinstance(args[1].value, str):
        return it.get_attribute(args[0], args[1].value, node)
    nodes = [(n, Edge.UNKNOWN) for n in it.nodes_in(args[0])] if args else []
    return Unknown("getattr with a computed name", it.combine("getattr", nodes, node))


def _checkpoint(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    rest = {key: value for key, value in kwargs.items() if key not in ("use_reentrant", "preserve_rng_state")}
    return it.call(args[0], args[1:], rest, node) if args else NONE


def _data_parallel(
    it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    return (
        it.call(args[0], args[1:2], {}, node) if len(args) > 1 else Unknown("data_parallel without a module")
    )


def _function_apply(
    it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """An autograd.Function of the program: its backward is its own business, so the gradient passes."""
    parts = [(n, Edge.LIVE) for value in args for n in it.nodes_in(value)]
    return Tensor(it.combine("torch.autograd.Function", parts, node, saves=True), "float")


def _nothing(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    return NONE


def _module_forward(
    it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """`super().forward(x)` of a class that derives from a module of torch."""
    stub = model.module(str(args[0].value)) if isinstance(args[0], Const) else None
    if stub is None:
        return Unknown("a base class that is not seen")
    return it.apply(stub.forward, args[2:], kwargs, node)


def _stack(it: Library, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    operation = model.operation(name)
    assert operation is not None
    value = it.apply(operation, args, kwargs, node)
    if isinstance(value, Tensor):
        shapes = {tensor.shape for tensor in it.tensors_in(args[0])} if args else set()
        items = it.items(args[0]) if args else None
        shape: Shape = None
        if (
            len(shapes) == 1
            and name.endswith("stack")
            and (known := shapes.pop()) is not None
            and items is not None
        ):
            obj = it.obj(args[0])
            shape = (MANY if obj is not None and obj.many else len(items), *known)
        value = Tensor(value.node, value.dtype, shape, value.role)
        if value.node >= 0:
            it.graph[value.node].note = "items"
    return value


HANDLERS: dict[str, Handler] = {
    "torch.autograd.backward": _backward,
    "torch.autograd.grad": _grad,
    "torch.nn.Parameter": Library.parameter,
    "torch.nn.parameter.Parameter": Library.parameter,
    "torch.autograd.Variable": Library.variable,
    "builtins.isinstance": _isinstance,
    "builtins.issubclass": _isinstance,
    "builtins.hasattr": _isinstance,
    "builtins.callable": _isinstance,
    "builtins.len": _isinstance,
    "torch.is_tensor": _isinstance,
    "builtins.enumerate": _enumerate,
    "builtins.zip": _zip,
    "builtins.range": _range,
    "tqdm.trange": _range,
    "builtins.sum": _sum,
    "builtins.map": _map,
    "builtins.filter": _filter,
    "itertools.chain": _chain,
    "builtins.dict": _dict,
    "collections.OrderedDict": _dict,
    "copy.deepcopy": _deepcopy,
    "torch.utils.data.DataLoader": _loader,
    "torch.utils.data.TensorDataset": _tensor_dataset,
    "functools.partial": _partial,
    "builtins.getattr": _getattr,
    "torch.utils.checkpoint.checkpoint": _checkpoint,
    "torch.nn.parallel.data_parallel": _data_parallel,
    "gradsight.function_apply": _function_apply,
    "gradsight.nothing": _nothing,
    "gradsight.module_forward": _module_forward,
    "torch.stack": _stack,
    "torch.cat": _stack,
    "torch.concat": _stack,
    "torch.concatenate": _stack,
    "torch.hstack": _stack,
    "torch.vstack": _stack,
}
