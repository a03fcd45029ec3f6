"""Methods of objects: lists, dictionaries, optimizers, modules, distributions, other libraries' objects."""

from __future__ import annotations

import ast

from gradsight.domain import Edge
from gradsight.interpret.arrays import drawn
from gradsight.interpret.containers import is_container
from gradsight.interpret.dtypes import exact_dtype, method_dtype
from gradsight.interpret.libraries import GRAD_OFF, GRAD_ON, MODULE_SELF, REPARAMETRIZED
from gradsight.interpret.modules import Modules
from gradsight.interpret.zoos import ANY, is_library_model, part_named
from gradsight.values import (
    NONE,
    NOWHERE,
    Bound,
    Class,
    Closure,
    Const,
    Func,
    Lib,
    Obj,
    Params,
    Partial,
    Ref,
    Seq,
    Tensor,
    Unknown,
    Value,
    may_be_accelerated,
    node_of,
)

HOOK_HANDLE = "torch.utils.hooks.RemovableHandle"


class Objects(Modules):
    """What a method does that is called on an object of the heap."""

    def object_method(
        self, receiver: Ref, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        obj = self.state.heap[receiver.oid]
        if obj.kind == "list":
            return self.list_method(receiver, obj, name, args, node)
        if obj.kind == "dict":
            return self.dict_method(receiver, obj, name, args, kwargs)
        if name == "_replace" and obj.kind in ("record", "instance"):
            for key, value in kwargs.items():
                obj = obj.with_field(key, value)
            return self.allocate(obj)
        if name == "_asdict" and obj.kind in ("record", "instance"):
            return self.allocate(Obj("dict", None, tuple((repr(key), one) for key, one in obj.fields)))
        if obj.kind == "optimizer":
            if name == "step":
                for value in (*args, *kwargs.values()):
                    if isinstance(value, (Closure, Func, Bound, Partial)):
                        self.call(value, [], {}, node)
                self.step(receiver)
            elif name == "zero_grad":
                params = obj.get("params")
                nodes = params.nodes if isinstance(params, Params) else ()
                self.event("zero", nodes=nodes, oids=(receiver.oid,), call=self.here(node))
            elif name == "add_param_group":
                old = obj.get("params")
                new = self.parameter_groups(args[0]) if args else Params((), False, True)
                self.event("group", nodes=new.nodes, oids=(receiver.oid,), call=self.here(node))
                if isinstance(old, Params):
                    merged = Params((*old.nodes, *new.nodes), False, old.unknown or new.unknown)
                    obj = obj.with_field("params", merged).with_field("one group", Const(False))
                    self.put(receiver, obj)
            elif name not in ("state_dict", "load_state_dict", "train", "eval"):
                self.event("escape", oids=(receiver.oid,), call=self.here(node))  # hooks, and who knows what
            return NONE if name in ("step", "zero_grad") else Unknown("an optimizer's state")
        if obj.kind in ("module", "instance"):
            return self.module_method(receiver, obj, name, args, kwargs, node)
        if isinstance(obj.cls, Lib):
            return self.library_object_method(receiver, obj, obj.cls.name, name, args, kwargs, node)
        return self.unknown_call(f"`.{name}()` is not known", None, args, kwargs, node)

    def enter(self, value: Value, written: ast.expr, at: ast.AST) -> Value:
        raise NotImplementedError

    # -- lists and dictionaries

    def list_method(self, receiver: Ref, obj: Obj, name: str, args: list[Value], node: ast.Call) -> Value:
        if name in ("append", "add", "appendleft", "put") and args:
            if isinstance(args[0], Tensor) and args[0].node != NOWHERE and not self.is_new(receiver.oid):
                self.event(
                    "append",
                    args[0].node,
                    oids=(receiver.oid,),
                    call=self.here(node),
                    value=self.here(node.args[0]) if node.args else None,
                )
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

    def in_loop(self) -> bool:
        return any(kind == "l" for kind, _, _ in self.context)

    def dict_method(
        self, receiver: Ref, obj: Obj, name: str, args: list[Value], kwargs: dict[str, Value]
    ) -> Value:
        values = obj.held
        if name == "items":
            pairs = (*named_pairs(obj), *(Seq((Unknown("a key"), value)) for value in obj.items))
            return self.allocate(Obj("list", None, items=pairs, many=obj.many))
        if name == "values":
            return self.allocate(Obj("list", None, items=values, many=obj.many))
        if name == "setdefault" and args and isinstance(args[0], Const):
            found = obj.get(repr(args[0].value))
            if found is None and not obj.items:
                found = args[1] if len(args) > 1 else NONE
                self.put(receiver, obj.with_field(repr(args[0].value), found))
                return found
        if name in ("get", "pop", "setdefault") and args:
            if isinstance(args[0], Const):
                found = obj.get(repr(args[0].value))
                if found is not None:
                    return found
                if name == "setdefault" and not obj.items and not obj.many:
                    self.put(receiver, obj.with_field(repr(args[0].value), args[1] if args[1:] else NONE))
            return (
                self.joiner.values([*values, *args[1:2]])
                if values or len(args) > 1
                else Unknown("a key that is not known")
            )
        if name == "update":
            for key, value in kwargs.items():
                obj = obj.with_field(repr(key), value)
            self.put(receiver, obj)
            other = self.obj(args[0]) if args else None
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

    # -- modules

    def module_method(
        self, receiver: Ref, obj: Obj, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        if name in ("parameters", "named_parameters"):
            nodes, unknown = self.parameters_of(receiver)
            if not nodes and not unknown:
                nodes = self.unseen_parts(receiver)
                unknown = bool(nodes)
            return Params(tuple(nodes), True, unknown, name == "named_parameters")
        if name == "requires_grad_":
            nodes, _ = self.parameters_of(receiver)
            flag = args[0] if args else kwargs.get("requires_grad", Const(True))
            self.freeze(flag, nodes, node)
            return receiver
        if name in MODULE_SELF:
            if name == "apply" and args and isinstance(args[0], Closure):
                self.call(args[0], [receiver], {}, node)
            asked = [exact_dtype(value) for value in (*args, *kwargs.values())]
            exact = method_dtype(name) or next((one for one in asked if one), "")
            if exact and exact != "float32":
                self.event("cast", oids=(receiver.oid,), facts={"dtype": exact}, call=self.here(node))
            if name == "cuda" or (name == "to" and any(map(may_be_accelerated, (*args, *kwargs.values())))):
                self.event("moved", oids=(receiver.oid,), call=self.here(node))
            if name in ("train", "eval", "apply"):
                self.switch(receiver, name, args, kwargs, node)
            return receiver
        if name == "zero_grad":
            nodes, _ = self.parameters_of(receiver)
            inherited = isinstance(obj.cls, Class) and not self.world.is_module(obj.cls.cid)
            facts = {"unknown": "yes"} if inherited else {}  # an optimizer's, say: of whatever it was given
            self.event("zero", nodes=nodes, oids=(receiver.oid,), facts=facts, call=self.here(node))
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
            current = self.state.heap[receiver.oid]
            if isinstance(args[0], Const):
                current = current.with_field(str(args[0].value), args[1])
            if is_container(obj) or not isinstance(args[0], Const):
                many = current.many or not is_container(obj) or self.in_loop()
                current = Obj(current.kind, current.cls, current.fields, (*current.items, args[1]), many)
            self.put(receiver, current)
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
            if is_library_model(obj):
                return self.parts_of(receiver, obj, name, node)
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
        if name == "items" and (pairs := named_pairs(obj)) and len(pairs) == len(obj.items):
            return self.allocate(Obj("list", None, items=pairs, many=obj.many))
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
        if name == "register_forward_hook" and args and isinstance(args[0], (Func, Bound, Closure, Partial)):
            held = self.state.heap[receiver.oid]
            earlier = held.get("@hooks")
            hooks = (*(earlier.items if isinstance(earlier, Seq) else ()), args[0])
            self.put(receiver, held.with_field("@hooks", Seq(hooks)))
            return self.allocate(Obj("object", Lib(HOOK_HANDLE), (("module", receiver), ("hook", args[0]))))
        if name == "load_state_dict":
            self.event("loaded", oids=(receiver.oid,))
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

    def unseen_parts(self, module: Ref) -> list[int]:
        """What a module of the program is made of that comes from code which is not seen: layers, perhaps."""
        parts = (self.obj(value) for value in self.state.heap[module.oid].held)
        own = (node_of(part.get("*")) for part in parts if part is not None and part.kind == "object")
        return [node for node in own if node != NOWHERE]

    def parts_of(self, receiver: Ref, obj: Obj, name: str, node: ast.Call) -> Value:
        """What running over the parts of a library's model gives."""
        put = [value for key, value in obj.fields if key[:1] != "@" and isinstance(value, Ref)]
        items = (part_named(self, receiver, ANY, node), *put)
        if name.startswith("named"):
            items = tuple(Seq((Unknown("a name"), item)) for item in items)
        return self.allocate(Obj("list", None, items=items, many=True))

    # -- objects of libraries

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
            self.scaler_method(receiver, name, args, node)
            return args[0] if name == "scale" and args else NONE
        if short.endswith(("LR", "Scheduler")) or "lr_scheduler" in cls or name in ("add_scalar", "log"):
            return NONE
        if cls.endswith("ExitStack"):
            if name in ("enter_context", "enter_async_context") and args:
                return self.enter(args[0], node.args[0], node)
            return NONE
        if name in ("__enter__", "__exit__") and (cls in GRAD_OFF or cls in GRAD_ON):
            self.enter_or_exit(receiver, cls, name, node)
            return NONE
        if cls == HOOK_HANDLE:
            hooked, hook = obj.get("module"), obj.get("hook")
            held = self.obj(hooked)
            hooks = held.get("@hooks") if held is not None else None
            if name == "remove" and isinstance(hooked, Ref) and held is not None and isinstance(hooks, Seq):
                left = tuple(each for each in hooks.items if each != hook)
                self.put(hooked, held.with_field("@hooks", Seq(left)))
            return NONE
        if cls in ("torch.Generator", "torch.device", "torch.cuda.Stream"):
            return receiver
        if cls == "numpy.random.Generator":
            return drawn(self, name, args, kwargs)
        own = obj.get("*")
        if cls.startswith("torch.distributions."):
            return self.distribution_method(cls, own, name, args, node)
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

    def enter_or_exit(self, receiver: Ref, cls: str, name: str, node: ast.Call) -> None:
        """`torch.no_grad().__enter__()`: a switch, until somebody leaves the context."""
        held = isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Call)
        if name == "__exit__" or cls in GRAD_ON:
            self.switch_mode("on", self.here(node))
        elif self.switches_off(receiver) and (held or not cls.endswith("inference_mode")):
            # What holds the mode of `inference_mode` ends with the object, that of `no_grad` does not.
            self.switch_mode("off", self.here(node))

    def switches_off(self, value: Value) -> bool:
        """Whether a context does what its name says: `inference_mode(False)` does not."""
        obj = self.obj(value)
        flag = (obj.get("mode") or next(iter(obj.items), None)) if obj is not None else None
        return flag is None or (isinstance(flag, Const) and bool(flag.value))

    def scaler_method(self, receiver: Ref, name: str, args: list[Value], node: ast.AST) -> None:
        """What a GradScaler does to losses and optimizers."""
        optimizers = [value.oid for value in args[:1] if isinstance(value, Ref)]
        here = self.here(node)
        if name == "scale" and args:
            self.event("scaled", nodes=self.nodes_in(args[0]), oids=(receiver.oid,), call=here)
        elif name == "step" and args:
            self.event("scaler_step", oids=(receiver.oid, *optimizers), call=here)
            self.step(args[0])
        elif name in ("unscale_", "update"):
            self.event(name.rstrip("_"), oids=(receiver.oid, *optimizers), call=here)

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

    def distribution_method(
        self, cls: str, own: Value | None, name: str, args: list[Value], node: ast.AST
    ) -> Value:
        parts = [(n, Edge.LIVE) for value in (own, *args) for n in self.nodes_in(value)]
        if name in ("sample", "sample_n"):
            cause = "draw" if cls.rpartition(".")[2] in REPARAMETRIZED and name == "sample" else "sample"
            return Tensor(
                self.combine("torch.distributions.sample", [(n, Edge.CUT) for n, _ in parts], node, cause)
            )
        if name == "expand":
            return Unknown("a distribution", self.combine("torch.distributions.expand", parts, node))
        return Tensor(self.combine(f"torch.distributions.{name}", parts, node, saves=True), "float")


def named_pairs(obj: Obj) -> tuple[Seq, ...]:
    """Each key that is known, with what is held under it; keys are kept as they are written."""
    return tuple(Seq((Const(ast.literal_eval(key)), value)) for key, value in obj.fields if key[:1] in "'\"")
