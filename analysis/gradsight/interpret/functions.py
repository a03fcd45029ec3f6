"""Functions of libraries: what a call of one by its dotted name does.

What is an operation is left to the model; here stands what changes the interpreter's own state (gradient
mode, heap, events), and how Python's own functions take containers apart and put them together.
"""

from __future__ import annotations

import ast
from collections import abc
from collections.abc import Callable
from typing import Any

from gradsight import model
from gradsight.domain import Edge
from gradsight.interpret import shapes
from gradsight.interpret.arrays import drawn, made
from gradsight.interpret.conditions import conditions_of
from gradsight.interpret.differentiation import DIFFERENTIATION
from gradsight.interpret.dtypes import kind_of
from gradsight.interpret.libraries import (
    DROPOUTS,
    FACTORIES,
    GRAD_OFF,
    GRAD_ON,
    METRIC,
    METRICS,
    NO_TENSOR_NAMES,
    NO_TENSORS,
    PASS_THROUGH,
    PLAIN_LIBRARIES,
    REWRAPS,
)
from gradsight.interpret.methods import Methods
from gradsight.interpret.python import PYTHON
from gradsight.interpret.shapes import ranked
from gradsight.interpret.training import argument_ast
from gradsight.interpret.zoos import make_library_model
from gradsight.values import (
    MANY,
    NONE,
    NOWHERE,
    Array,
    Class,
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
    Shape,
    Super,
    Tensor,
    Unknown,
    Value,
    is_plain,
    may_be_accelerated,
    node_of,
)


class Functions(Methods):
    """Calls of a function of a library by its name."""

    def call_library(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        handler = HANDLERS.get(name)
        if handler is not None:
            return handler(self, name, args, kwargs, node)
        last = name.rpartition(".")[2]
        if name.startswith(("torch.nn.utils.clip_grad_", "torch.nn.utils.clip_grad.clip_grad_")):
            given = args[0] if args else kwargs.get("parameters", NONE)
            params = self.parameter_groups(given)
            self.event(
                "clip",
                nodes=params.nodes,
                facts={"unknown": "yes" if params.unknown else ""},
                call=self.here(node),
            )
        if name in DROPOUTS:
            self.functional_dropout(name, args, kwargs, node)
        value = self.call_framework(name, args, kwargs, node)
        if value is not None:
            return value
        if name in model.WRAPPERS:
            named = (kwargs[key] for key in model.WRAPPED if key in kwargs)
            return args[0] if args else next(named, Unknown("a wrapper without a module"))
        if name in PASS_THROUGH:
            return self.pass_through(name, args, kwargs, node)
        if name in GRAD_OFF or name in GRAD_ON or name.startswith("torch.set_grad_enabled"):
            if name == "torch.set_grad_enabled":
                self.set_grad_enabled(args[0] if args else kwargs.get("mode"), node)
            return self.allocate(Obj("object", Lib(name), tuple(kwargs.items()), tuple(args)))
        if name.startswith("torch.") and last in FACTORIES and name.count(".") == 1:
            return self.factory(last, args, kwargs, node)
        if (
            name.startswith("torch.")
            and last in REWRAPS
            and name.rpartition(".")[0] in ("torch", "torch.cuda")
        ):
            return self.rewrap(last, args, kwargs, node)
        if (made_here := model.library_model(name)) is not None:
            return make_library_model(self, made_here, name, args, kwargs, node)
        if model.optimizer(name) is not None:
            return self.make_optimizer(name, args, kwargs, node)
        if model.criterion(name) is not None and name.startswith("torch.nn.functional."):
            return self.apply_criterion(name, {}, args, kwargs, node)
        if model.module(name) is not None:
            return self.make_module(name, args, kwargs, node)
        if name in ("torch.set_default_dtype", "torch.set_default_tensor_type"):
            self.event("cast", call=self.here(node))
        if name == "torch.set_default_device":
            self.event("moved", call=self.here(node))
        if name == "torch.device" and any(map(may_be_accelerated, args)):
            return Unknown("`torch.device` of an accelerator gives no tensor")
        if (
            name.startswith(NO_TENSORS)
            or name in NO_TENSOR_NAMES
            or (name.startswith("torch.distributed.") and name.count(".") == 2 and last.islower())
        ) and last != "GradScaler":
            return Unknown(f"`{name}` gives no tensor")
        if name.startswith("torch.nn.init."):
            return self.initialized(last, args, kwargs)
        if name.startswith("torch.distributions."):
            return self.distribution(name, args, kwargs, node)
        operation = model.operation(name)
        if operation is not None:
            value = self.apply(operation, args, kwargs, node)
            if isinstance(value, Array) and name.startswith("numpy."):
                return made(self, last, args, kwargs, value)
            if args and writes_first(operation, args, kwargs):
                self.written_over(args[0], value, last.rstrip("_") + "_", node, node.args[0])
            return value
        if name in ("numpy.random.default_rng", "numpy.random.RandomState"):
            return self.allocate(Obj("object", Lib("numpy.random.Generator")))
        if name.startswith("numpy.random."):
            return drawn(self, last, args, kwargs)
        top = name.partition(".")[0]
        values = (*args, *kwargs.values())
        if top == "numpy" and not any(True for value in values for _ in self.nodes_in(value)):
            return (
                Array()
                if last.islower() and last not in ("finfo", "iinfo")
                else Unknown(f"`{name}` gives no tensor")
            )
        if name.startswith(METRICS):
            self.combine(METRIC, [(n, Edge.CUT) for value in values for n in self.nodes_in(value)], node)
            return Unknown(f"`{name}` gives no tensor")
        if top in PLAIN_LIBRARIES:
            return Unknown(f"`{name}` gives no tensor")
        if last[:1].isupper() and not any(
            True for value in (*args, *kwargs.values()) for _ in self.nodes_in(value)
        ):
            origin = self.source("call", name, node)
            return self.allocate(
                Obj(
                    "object",
                    Lib(name),
                    (("*", Unknown(f"`{name}` is not seen", origin)), *kwargs.items()),
                    tuple(args),
                )
            )
        return self.unknown_call(f"`{name}` is not known", None, args, kwargs, node)

    def set_grad_enabled(self, flag: Value | None, node: ast.Call) -> None:
        """A condition that is not known counts as true: `phase == "train"` is there for the training phase.
        It is kept, for it may be asked the wrong way round."""
        written = argument_ast(node, "mode", 0)
        if isinstance(flag, Const) or written is None:
            self.switch_mode(grad_of(flag), self.here(node))
            return
        conditions = conditions_of(written)
        facts = {"if": conditions[0]} if len(conditions) == 1 else {}
        self.switch_mode("on", self.here(node), facts)

    def functional_dropout(
        self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> None:
        """Dropout as a function, in a method of a module: on in either mode where it is not told which."""
        argument, position, chance = DROPOUTS[name]
        if not isinstance(self.self_value, Ref) or not self.is_module(self.self_value) or "**" in kwargs:
            return
        if argument == "training" and (argument in kwargs or len(args) > position):
            return
        given = kwargs.get(chance[0], args[chance[1]] if len(args) > chance[1] else None)
        written = argument_ast(node, *chance)
        if given is not None and isinstance(given, Const) and not given.value:
            return
        if argument != "training" and not isinstance(written, (ast.Constant, ast.Attribute)):
            return  # a name may hold what was computed from the mode
        info = self.world.function(self.function_name)
        first = [*info.node.args.posonlyargs, *info.node.args.args][:1] if info is not None else []
        self.event(
            "dropout",
            oids=(self.self_value.oid,),
            facts={
                "function": ast.unparse(node.func),
                "argument": argument,
                "self": first[0].arg if first else "",
            },
            call=self.here(node),
            value=self.here(written) if written is not None else None,
        )

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


def writes_first(operation: model.Operation, args: list[Value], kwargs: dict[str, Value]) -> bool:
    """Whether a function writes its result over its first argument: `torch.relu_(x)`, `inplace=True`."""
    if operation.in_place or "inplace" not in operation.params:
        return operation.in_place
    position = operation.params.index("inplace")
    return kwargs.get("inplace", args[position] if len(args) > position else None) == Const(True)


def grad_of(flag: Value | None) -> str:
    if isinstance(flag, Const):
        return "on" if flag.value else "off"
    return "on"  # `set_grad_enabled(phase == "train")`: what counts is the training phase


# -- functions that need more than the model says

Handler = Callable[[Any, str, list[Value], dict[str, Value], ast.Call], Value]


def _isinstance(
    it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    if len(args) != 2:
        return Number()
    value, wanted = args
    kinds = [
        each.name
        for each in (wanted.items if isinstance(wanted, Seq) else (wanted,))
        if isinstance(each, Lib)
    ]
    types = [_PLAIN[kind] for kind in kinds if kind in _PLAIN]
    if not kinds or len(kinds) != (len(wanted.items) if isinstance(wanted, Seq) else 1):
        return Number()
    if isinstance(value, Const) and len(types) == len(kinds):
        return Const(isinstance(value.value, tuple(types)))
    if isinstance(value, Seq) and any(issubclass(tuple, one) for one in types):
        return Const(True)
    if isinstance(value, Number) and len(types) == len(kinds) and not {int, float, bool} & set(types):
        return Const(False)
    if isinstance(value, (Class, Func, Lib, Tensor)) and len(types) == len(kinds):
        return Const(False)
    return Number()


def _len(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    shape = ranked(it.shape_of(args[0])) if args and isinstance(args[0], (Tensor, Array)) else None
    if shape and shape[0] is not None:
        return Number(kind="many") if shape[0] == MANY else Const(shape[0])
    obj = it.obj(args[0]) if args else None
    if obj is not None and not obj.many and obj.items and it.all_modules(obj.items):
        return Const(len(obj.items))
    return Number(kind="int")


_PLAIN: dict[str, type] = {
    f"builtins.{each.__name__}": each for each in (str, int, float, bool, bytes, tuple, list, dict)
} | {
    f"{module}.{each.__name__}": each
    for module in ("collections.abc", "typing")
    for each in (abc.Iterable, abc.Sequence, abc.Mapping)
}


def _any(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    items = it.items(args[0]) if len(args) == 1 else None
    told = [bool(item.value) for item in items or () if isinstance(item, Const)]
    if items is None or len(told) < len(items):
        return Number()
    decides = name == "builtins.any"
    obj = it.obj(args[0])
    if decides not in told:
        return Const(not decides)  # however many there are
    return Number() if obj is not None and obj.many else Const(decides)


def _enumerate(
    it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    items = it.items(args[0]) if args else None
    obj = it.obj(args[0]) if args else None
    if items is not None and not (obj is not None and obj.many):
        return it.allocate(
            Obj("list", None, items=tuple(Seq((Const(i), item)) for i, item in enumerate(items)))
        )
    if not args:
        return Unknown("enumerate of nothing")
    return it.allocate(Obj("list", None, items=(Seq((Number(), it.element_of(args[0], node))),), many=True))


def _zip(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    if args and all(isinstance(value, Params) for value in args):
        return it.allocate(
            Obj("list", None, items=(Seq(tuple(it.element_of(value, node) for value in args)),), many=True)
        )
    columns = [None if (o := it.obj(value)) is not None and o.many else it.items(value) for value in args]
    known = [column for column in columns if column is not None]
    # Layers one by one, with as many of whatever stands beside them.
    if known and (len(known) == len(columns) or any(it.all_modules(column) for column in known)):
        rows = [
            Seq(
                tuple(
                    it.element_of(value, node) if column is None else column[at]
                    for value, column in zip(args, columns, strict=True)
                )
            )
            for at in range(min(map(len, known)))
        ]
        return it.allocate(Obj("list", None, items=tuple(rows)))
    return it.allocate(
        Obj("list", None, items=(Seq(tuple(it.element_of(value, node) for value in args)),), many=True)
    )


def _range(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    ends = it.integers(args)
    if ends is not None and 0 < len(ends) < 4 and 0 not in ends[2:] and 0 < len(range(*ends)) <= 8:
        return it.allocate(Obj("list", Lib("builtins.range"), items=tuple(map(Const, range(*ends)))))
    return it.allocate(Obj("list", Lib("builtins.range"), items=(Number(),), many=True))


def _sum(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
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


def _map(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
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


def _filter(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    if len(args) > 1 and isinstance(args[1], Params):
        return Params(args[1].nodes, False, True, False, is_requiring(args[0]))
    return args[1] if len(args) > 1 else Unknown("filter")


def is_requiring(function: Value) -> bool:
    """`lambda p: p.requires_grad`."""
    body = function.node.body if isinstance(function, Closure) else None
    return isinstance(body, ast.Attribute) and body.attr == "requires_grad"


def _chain(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    groups = [it.parameter_groups(value) for value in args if isinstance(value, Params)]
    if groups and len(groups) == len(args):
        return Params(
            tuple(dict.fromkeys(n for group in groups for n in group.nodes)),
            True,
            any(g.unknown for g in groups),
        )
    items = tuple(item for value in args for item in (it.items(value) or (it.element_of(value, node),)))
    return it.allocate(Obj("list", None, items=items, many=True))


def _repeat(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    times = args[1].value if len(args) == 2 and isinstance(args[1], Const) else None
    if isinstance(times, int) and 0 < times <= 8:
        return it.allocate(Obj("list", None, items=(args[0],) * times))
    return it.allocate(Obj("list", None, items=tuple(args[:1]), many=True))


def _dict(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
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


def _namedtuple(
    it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """collections.namedtuple: what it gives makes records."""
    given = args[1] if len(args) > 1 else kwargs.get("field_names", NONE)
    items = it.items(given)
    if isinstance(given, Const) and isinstance(given.value, str):
        names = tuple(given.value.replace(",", " ").split())
    elif items is not None and all(isinstance(item, Const) and isinstance(item.value, str) for item in items):
        names = tuple(str(item.value) for item in items if isinstance(item, Const))
    else:
        return Unknown("a named tuple of unknown fields")
    return Partial(Lib("gradsight.record"), (Const(names),), ())


def _record(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """One record of a named tuple."""
    names = args[0].value if isinstance(args[0], Const) and isinstance(args[0].value, tuple) else ()
    given = {**dict(zip(names, args[1:], strict=False)), **kwargs}
    missing = Unknown("a field that is not given")
    return it.allocate(Obj("record", None, tuple((field, given.get(field, missing)) for field in names)))


def _deepcopy(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """A copied module has parameters of its own."""
    return it.copied(args[0], node, {}) if args else NONE


def _loader(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    dataset = args[0] if args else kwargs.get("dataset", NONE)
    batch = args[1] if len(args) > 1 else kwargs.get("batch_size", Const(1))
    fields = [("dataset", dataset), ("batch_size", batch)]
    fields += [(key, kwargs[key]) for key in ("batch_sampler", "collate_fn") if key in kwargs]
    return it.allocate(Obj("object", Lib(name), tuple(fields)))


def _tensor_dataset(
    it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    return it.allocate(Obj("object", Lib(name), (), tuple(args)))


def _subset(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """A part of a data set holds what the whole holds."""
    return args[0] if args else kwargs.get("dataset", NONE)


def _random_split(
    it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    parts = it.items(args[1] if len(args) > 1 else kwargs.get("lengths", NONE))
    if not args or parts is None:
        return Unknown("parts of a data set")
    return Seq((args[0],) * len(parts))


def _partial(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    return Partial(args[0], tuple(args[1:]), tuple(kwargs.items())) if args else Unknown("partial")


def _cleared_together(
    it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """`torch._foreach_zero_([p.grad for p in ...])`: which gradients these are is not followed."""
    it.event("zero", facts={"by": "hand", "unknown": "yes"}, call=it.here(node))
    return NONE


def _getattr(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    if len(args) > 1 and isinstance(args[1], Const) and isinstance(args[1].value, str):
        return it.get_attribute(args[0], args[1].value, node)
    if args and args[0] == Lib("torchvision.models"):
        return Lib(model.SOME_MODEL)
    nodes = [(n, Edge.UNKNOWN) for n in it.nodes_in(args[0])] if args else []
    nodes += [(n, Edge.UNKNOWN) for n in it.parameters_of(args[0])[0]] if args else []
    return Unknown("getattr with a computed name", it.combine("getattr", nodes, node))


def _vars(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """The attributes of an object by their names."""
    if args and is_plain(args[0]):
        return args[0]
    obj = it.obj(args[0]) if args else None
    if obj is None or obj.kind not in ("instance", "object") or obj.get("*") is not None:
        return it.unknown_call("`vars` of something unknown", None, args, kwargs, node)
    return it.allocate(Obj("dict", None, tuple((repr(key), value) for key, value in obj.fields)))


def _data_parallel(
    it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    return (
        it.call(args[0], args[1:2], {}, node) if len(args) > 1 else Unknown("data_parallel without a module")
    )


def _undecorated(
    it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """What a decorator of the file is given: the function itself."""
    function = args[0]
    assert isinstance(function, Func)
    return it.call_function(function.fid, args[1:], kwargs, node, raw=True)


def _nothing(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    return NONE


def _container_init(
    it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """`super().__init__(conv, norm)` in a class derived from nn.Sequential: its parts, in their order."""
    owner, *parts = args
    obj = it.obj(owner)
    if isinstance(owner, Ref) and obj is not None and parts:
        if it.all_modules(tuple(parts)) and not it.starred_many:
            for position, part in enumerate(parts):
                obj = obj.with_field(repr(position), part)
        else:
            own = it.source("call", "the parts of a container", node)
            obj = obj.with_field("*", Unknown("the parts of a container", own))
        it.put(owner, obj)
    it.starred_many = False
    return NONE


def _module_forward(
    it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """`super().forward(x)` of a class that derives from a module of torch."""
    stub = model.module(str(args[0].value)) if isinstance(args[0], Const) else None
    if stub is None:
        return Unknown("a base class that is not seen")
    value = it.apply(stub.forward, args[2:], kwargs, node)
    obj = it.obj(args[1])
    own = node_of(obj.get("*")) if obj is not None else NOWHERE
    if isinstance(value, Tensor) and own != NOWHERE:
        return it.with_parameters(value, own, node, stub.name)
    return value


def _stack(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    operation = model.operation(name)
    assert operation is not None
    value = it.apply(operation, args, kwargs, node)
    if isinstance(value, Tensor):
        tensors = list(it.tensors_in(args[0])) if args else []
        items = it.items(args[0]) if args else None
        shape: Shape = None
        if items is not None and len(items) == len(tensors) and all(isinstance(i, Tensor) for i in items):
            obj = it.obj(args[0])
            many = obj is not None and obj.many
            dims = it.integers(
                [kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else Const(0)))]
            )
            known = [tensor.shape for tensor in tensors]
            if dims is not None and name.endswith(".stack"):
                shape = shapes.stacked(known, dims[0], MANY if many else len(items))
            elif dims is not None and not name.endswith("stack"):
                shape = shapes.concatenated(known, dims[0], many)
        exacts = {tensor.exact for tensor in tensors}
        exact = exacts.pop() if len(exacts) == 1 else ""
        value = Tensor(value.node, kind_of(exact) or value.dtype, shape, value.role, value.origin, exact)
        if value.node >= 0:
            it.graph[value.node].note = "items"
    return value


def _super(it: Functions, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    receiver = args[1] if len(args) > 1 else it.self_value
    if receiver is None or it.cid is None:
        return it.unknown_call("`super()` outside a method", None, args, kwargs, node)
    return Super(receiver, it.cid)


HANDLERS: dict[str, Handler] = {
    **PYTHON,
    **DIFFERENTIATION,
    "torch.nn.Parameter": Functions.parameter,
    "torch.nn.parameter.Parameter": Functions.parameter,
    "torch.autograd.Variable": Functions.variable,
    "builtins.isinstance": _isinstance,
    "builtins.issubclass": _isinstance,
    "builtins.hasattr": _isinstance,
    "builtins.callable": _isinstance,
    "builtins.len": _len,
    "torch.is_tensor": _isinstance,
    "builtins.any": _any,
    "builtins.all": _any,
    "builtins.enumerate": _enumerate,
    "builtins.zip": _zip,
    "builtins.range": _range,
    "tqdm.trange": _range,
    "builtins.sum": _sum,
    "builtins.super": _super,
    "builtins.map": _map,
    "builtins.filter": _filter,
    "itertools.chain": _chain,
    "itertools.repeat": _repeat,
    "builtins.dict": _dict,
    "collections.OrderedDict": _dict,
    "collections.namedtuple": _namedtuple,
    "gradsight.record": _record,
    "copy.deepcopy": _deepcopy,
    "torch.utils.data.DataLoader": _loader,
    "torch.utils.data.TensorDataset": _tensor_dataset,
    "torch.utils.data.Subset": _subset,
    "torch.utils.data.random_split": _random_split,
    "functools.partial": _partial,
    "builtins.getattr": _getattr,
    "torch._foreach_zero_": _cleared_together,
    "builtins.vars": _vars,
    "torch.nn.parallel.data_parallel": _data_parallel,
    "gradsight.nothing": _nothing,
    "gradsight.container_init": _container_init,
    "gradsight.undecorated": _undecorated,
    "gradsight.module_forward": _module_forward,
    "torch.stack": _stack,
    "torch.cat": _stack,
    "torch.concat": _stack,
    "torch.concatenate": _stack,
    "torch.hstack": _stack,
    "torch.vstack": _stack,
}
