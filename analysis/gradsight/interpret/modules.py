"""Modules of libraries: made, called, copied; containers call what they hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from gradsight import model
from gradsight.domain import Edge
from gradsight.graph import Node
from gradsight.interpret.dtypes import exact_dtype
from gradsight.interpret.shapes import flattened, linear, ranked
from gradsight.interpret.training import Training
from gradsight.interpret.zoos import call_library_model, is_library_model, whole
from gradsight.model import kept
from gradsight.outline import Block
from gradsight.values import (
    NONE,
    NOWHERE,
    Closure,
    Const,
    Func,
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

MOST_PARAMETERS = 64  # of a module that are noted with each of its calls

COPYING = ("torch.nn.TransformerEncoder", "torch.nn.TransformerDecoder")  # what they are given is a pattern


class Modules(Training):
    """Library modules as objects of the heap."""

    def make_module(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        module = self.library_module(name, args, kwargs, node)
        if self.in_method and self.parameters_of(module)[0]:
            self.event("made", oids=(module.oid,), call=self.here(node))
        return module

    def library_module(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Ref:
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
                            obj.held,
                            bool(obj.items),
                        )
                    )
                if isinstance(args[0], Unknown):
                    return self.allocate(Obj("module", Lib(name), (("*", args[0]),), (), True))
            return self.allocate(Obj("module", Lib(name), tuple(fields.items()), tuple(items)))
        if stub.criterion is not None or stub.forward.role in ("probability", "log-probability"):
            fields["@"] = Number(self.source("made", name, node))
        if stub.criterion is not None and len(args) > 1 and all(isinstance(one, Tensor) for one in args[:2]):
            made = node.func if isinstance(node, ast.Call) else node
            self.event("as settings", call=self.here(node), made=self.here(made))
        for key, value in kwargs.items():
            fields[key] = self.copied(value, node, {}) if name in COPYING else value
        for position, value in enumerate(args):
            value = self.copied(value, node, {}) if name in COPYING else value
            fields[stub.init[position] if position < len(stub.init) else f"#{position}"] = value
        return self.allocate(Obj("module", Lib(name), tuple(fields.items())))

    # -- modes

    def switch(
        self, receiver: Ref, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> None:
        """`train()`, `eval()`, `train(flag)`, and a function that is applied to all parts."""
        if name == "apply":
            if not args or not self.may_switch(args[0]):
                return
            to = "unknown"
        elif name == "train":
            flag = args[0] if args else kwargs.get("mode", Const(True))
            to = ("train" if flag.value else "eval") if isinstance(flag, Const) else "unknown"
        else:
            to = "eval"
        if is_library_model(self.obj(receiver)) and (owner := whole(self, receiver)[0]) != receiver:
            # Some layers of the model are switched, nobody knows which.
            self.event("mode", oids=(owner.oid,), facts={"to": "unknown"}, call=self.here(node))
            return
        nodes, _ = self.parameters_of(receiver)
        self.event("mode", nodes=nodes, oids=(receiver.oid,), facts={"to": to}, call=self.here(node))

    def may_switch(self, function: Value) -> bool:
        """Whether a function may switch the mode of what it is given."""
        if isinstance(function, Func):
            info = self.world.function(function.fid)
            texts = [line.text for line in info.region.lines] if info is not None else [".eval"]
        elif isinstance(function, Closure):
            texts = list(written(function.block)) if function.block else [ast.unparse(function.node)]
        else:
            return not isinstance(function, Lib)
        return any(".eval" in text or ".train" in text for text in texts)

    @property
    def in_method(self) -> bool:
        """Whether what is read is a method of a module, other than the one that makes it."""
        made = self.function_name.endswith(".__init__")
        return self.cid is not None and not made and self.world.is_module(self.cid)

    @property
    def in_forward(self) -> bool:
        """Whether what is read is the forward of a module."""
        last = self.function_name.rpartition(".")[2]
        return last in ("forward", "__call__") and self.cid is not None and self.world.is_module(self.cid)

    def changes_by_mode(self, obj: Obj, depth: int = 0) -> bool:
        """Whether `train()` and `eval()` change what a library module computes."""
        stub = model.module(obj.cls.name) if isinstance(obj.cls, Lib) else None
        if stub is None or stub.mode is None or depth > 1:
            return False
        argument, position, default = stub.mode
        given = obj.get(argument) or obj.get(f"#{position}")
        layer = self.obj(given)
        if layer is not None:
            return self.changes_by_mode(layer, depth + 1)
        return bool(given.value) if isinstance(given, Const) else bool(default) if given is None else True

    def note_call(self, start: int, module: Ref, value: Value, node: ast.AST) -> Value:
        """The call of a module is done: whose mode counted in it becomes one event, instead of one a layer.

        Inside of a forward it is a part of the call around it.
        """
        parts = [event for event in self.events[start:] if event.kind in ("layer", "called")]
        if not parts:
            return value
        layers = dict.fromkeys(
            oid for event in parts for oid in event.oids[1 if event.kind == "called" else 0 :]
        )
        self.events[start:] = [
            event for event in self.events[start:] if event.kind not in ("layer", "called")
        ]
        if self.in_forward:
            self.event("layer", oids=layers)
            return value
        nodes = list(self.nodes_in(value))
        self.event(
            "called",
            nodes[0] if nodes else NOWHERE,
            nodes,
            (module.oid, *layers),
            {"off": "yes" if self.state.grad == "off" else ""},
            call=self.here(node),
        )
        return value

    inside_container = False

    def call_module(
        self, ref: Ref, obj: Obj, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """The call of a library module."""
        assert isinstance(obj.cls, Lib)
        name = obj.cls.name
        if is_library_model(obj):
            return call_library_model(self, ref, obj, args, kwargs, node)
        stub = model.module(name)
        if stub is None:
            return self.unknown_call(f"`{name}` is not known", obj.get("*"), args, kwargs, node)
        if stub.criterion is not None:
            return self.apply_criterion(name, dict(obj.fields), args, kwargs, node)
        if stub.container:
            seen = [item for item in obj.items if not isinstance(item, Unknown)]
            if not args or not seen or not self.all_modules(tuple(seen)):
                parameters, blind = self.parameters_of(ref)
                if blind and not parameters:
                    return self.unknown_call("the parts of a container", None, args, kwargs, node)
                parts = [(n, Edge.LIVE) for n in parameters]
                parts += [(n, Edge.LIVE) for value in args for n in self.nodes_in(value)]
                role = self.last_role(obj)
                return Tensor(self.combine(name, parts, node, saves=True, note="module"), "float", None, role)
            value = args[0]
            within, self.inside_container = self.inside_container, True
            for item in obj.items:
                value = self.call(item, [value], {}, node)  # type: ignore[arg-type]
            self.inside_container = within
            return self.through_module(value, node, ref)
        own = node_of(obj.get("*"))
        if stub.mode is not None and self.changes_by_mode(obj):
            self.event("layer", oids=(ref.oid,))
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
                if args and isinstance(args[0], Tensor) and args[0].node == NOWHERE and value.node != NOWHERE:
                    if name.rpartition(".")[2] in kept.BY_PARAMETERS | kept.INPUT:
                        self.kept_constants.append((args[0], value.node, (own,)))
            shape = self.module_shape(stub, obj, args)
            exact = (exact_dtype(obj.get("dtype")) or "float32") if own != NOWHERE else value.exact
            dtype = "float" if own != NOWHERE else value.dtype
            value = Tensor(value.node, dtype, shape, value.role, "", exact)
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
                self.module_shape(stub, obj, args),
                exact=exact_dtype(obj.get("dtype")) or "float32",
            )
            value = base
        short = name.rpartition(".")[2]
        if args and obj.get("inplace") == Const(True):
            written = node.args[0] if node.args and not self.inside_container else None  # type: ignore[attr-defined]
            self.written_over(args[0], value, f"{short}(inplace=True)", node, written)
        if short in ("LSTM", "GRU", "RNN") and isinstance(value, Tensor):
            given = args[0] if args else None
            packed = isinstance(given, Tensor) and given.role == "packed"
            output = replace(value, role="packed") if packed else value
            shape = self.state_shape(obj, value.shape)
            state = Tensor(value.node, value.dtype, shape, value.role, "", value.exact)
            return Seq((output, Seq((state, state)) if short == "LSTM" else state))
        if short in ("LSTMCell", "MultiheadAttention"):
            return Seq((value, value))
        return value

    def state_shape(self, obj: Obj, output: Shape) -> Shape:
        """The shape of a recurrent layer's last state, from that of its output."""
        known = ranked(output)
        if known is None or len(known) != 3 or obj.get("proj_size") is not None:
            return None
        if (obj.get("bidirectional") or Const(False)) != Const(False):
            return None
        layers = self.integers([obj.get("num_layers") or Const(1)])
        first = obj.get("batch_first") or Const(False)
        if layers is None or first not in (Const(True), Const(False)):
            return None
        return (layers[0], known[0 if first == Const(True) else 1], known[2])

    def through_module(self, value: Value, node: ast.AST, module: Value) -> Value:
        """A node of its own for what a module's call returns: rules ask whether a cut stands right behind
        one, and whose parameters are the module's. They hang on it by edges that mean nothing to the
        gradient.
        """
        if isinstance(value, Seq):
            return Seq(tuple(self.through_module(item, node, module) for item in value.items))
        if isinstance(value, Tensor) and value.node != NOWHERE:
            number = self.combine("module", [(value.node, Edge.LIVE)], node, note="module")
            own, _ = self.parameters_of(module)
            if len(own) <= MOST_PARAMETERS:
                made = self.graph[number]
                made.inputs = (*made.inputs, *own)
                made.edges = (*made.edges, *(Edge.NONE,) * len(own))
            return Tensor(number, value.dtype, value.shape, value.role, "", value.exact)
        return value

    def copied(self, value: Value, node: ast.AST, seen: dict[int, Ref]) -> Value:
        """copy.deepcopy: new objects, new parameters that begin with the same numbers."""
        if isinstance(value, Tensor):
            if value.origin == "parameter":
                number = self.graph.add(
                    Node("source", "parameter", (value.node,), (Edge.CUT,), "copy", self.here(node), "copy")
                )
                return Tensor(number, value.dtype, value.shape, value.role, value.origin)
            return value
        if isinstance(value, Unknown) and value.node != NOWHERE:
            return Unknown(
                value.why,
                self.graph.add(
                    Node("source", "call", (value.node,), (Edge.CUT,), "copy", self.here(node), "copy")
                ),
            )
        if not isinstance(value, Ref):
            return value
        if value.oid in seen:
            return seen[value.oid]
        obj = self.state.heap.get(value.oid)
        if obj is None:
            return value
        reference = self.allocate(obj)
        seen[value.oid] = reference
        fields = tuple((name, self.copied(item, node, seen)) for name, item in obj.fields)
        items = tuple(self.copied(item, node, seen) for item in obj.items)
        self.put(reference, Obj(obj.kind, obj.cls, fields, items, obj.many))
        return reference

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
        return Tensor(number, value.dtype, value.shape, value.role, "", value.exact)

    def module_shape(self, stub: model.ModuleStub, obj: Obj, args: list[Value]) -> Shape:
        shape = self.shape_of(args[0]) if args else None
        if stub.forward.shape == "same":
            return shape
        short = stub.name.rpartition(".")[2]
        known = ranked(shape)
        if short in ("Flatten", "Unflatten"):
            ends = self.integers([obj.get("start_dim") or Const(1), obj.get("end_dim") or Const(-1)])
            return flattened(shape, *ends) if short == "Flatten" and ends is not None else None
        if stub.out_features is not None and "Conv" not in short:
            width = self.integers([obj.get(stub.out_features[0]) or NONE])
            size = width[0] if width else None
            if short in ("Linear", "LazyLinear"):
                return linear(shape, size)
            if short == "Embedding":
                return None if known is None else (*known, size)
            if short in ("LSTM", "GRU", "RNN") and known is not None and len(known) in (2, 3):
                both = obj.get("bidirectional") or Const(False)
                return (
                    *known[:-1],
                    size * 2 if size and both == Const(True) else size if both == Const(False) else None,
                )
            return None
        if known is None or not short.endswith(("1d", "2d", "3d")):
            return None
        space = int(short[-2])
        if len(known) not in (space + 1, space + 2):
            return None
        channels = known[-space - 1]
        if "Conv" in short:
            width = self.integers([obj.get("out_channels") or NONE])
            channels = width[0] if width else None
        elif not short.startswith(("MaxPool", "AvgPool", "Adaptive", "LPPool")):
            return None
        area: list[int | None] = [None] * space
        if short.startswith("Adaptive"):
            size_ = obj.get("output_size") or NONE
            wanted = self.integers([size_])
            if wanted and len(wanted) in (1, space):
                area = [*wanted] * space if len(wanted) == 1 else [*wanted]
        elif (
            stub.name.rpartition(".")[2].startswith(("Conv", "MaxPool", "AvgPool"))
            and "Transpose" not in short
        ):
            area = self.windowed(obj, known[-space:], pooled="Pool" in short)
        return (*known[: -space - 1], channels, *area)

    def windowed(self, obj: Obj, sizes: tuple[int | None, ...], *, pooled: bool) -> list[int | None]:
        """The extent behind a window that slides over these sizes."""
        unknown: list[int | None] = [None] * len(sizes)
        numbers: dict[str, tuple[int, ...]] = {}
        defaults: dict[str, Value | None] = {"stride": Const(1), "padding": Const(0), "dilation": Const(1)}
        if pooled:
            defaults["stride"] = obj.get("kernel_size")
        for name, default in (("kernel_size", None), *defaults.items()):
            value = obj.get(name)
            if name == "stride" and value == NONE:
                value = None
            if name == "padding" and value == Const("same"):
                return list(sizes)
            found = self.integers([value if value is not None else default or NONE])
            if not found or len(found) not in (1, len(sizes)):
                return unknown
            numbers[name] = found * len(sizes) if len(found) == 1 else found
        if obj.get("ceil_mode") not in (None, Const(False)):
            return unknown
        out: list[int | None] = []
        for i, size in enumerate(sizes):
            kernel, stride, padding, dilation = (numbers[name][i] for name in ("kernel_size", *defaults))
            reach = dilation * (kernel - 1) + 1
            if size is not None and size >= 0:
                out.append((size + 2 * padding - reach) // stride + 1)
            else:
                out.append(size if stride == 1 and 2 * padding == reach - 1 else None)
        return out


def written(block: Block) -> Iterator[str]:
    """The text of every line of a block."""
    for statement in block:
        for clause in statement:
            yield clause.line.text
            yield from written(clause.block)


def is_module_value(it: Modules, value: Value) -> bool:
    obj = it.obj(value)
    return obj is not None and obj.kind in ("module", "instance")
