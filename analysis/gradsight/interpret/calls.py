"""Calls of the program's own code: functions through their summaries, classes, closures, callable objects."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradsight import model
from gradsight.domain import Edge
from gradsight.graph import Here, There, Within
from gradsight.interpret import hooks
from gradsight.interpret.activation import as_call
from gradsight.interpret.codec import Encoder, moved
from gradsight.interpret.functions import Functions
from gradsight.interpret.state import Event, State
from gradsight.interpret.summary import Summary
from gradsight.values import (
    NONE,
    NOWHERE,
    Bound,
    Choice,
    Class,
    Closure,
    Const,
    Func,
    Lib,
    Method,
    Number,
    Obj,
    Partial,
    Ref,
    Seq,
    Tensor,
    Unknown,
    Value,
    is_plain,
)

if TYPE_CHECKING:
    from gradsight.interpret.index import FunctionInfo

MOST_NESTING = 12  # closures within closures


class Calls(Functions):
    """Everything that is called."""

    nesting = 0

    def call(self, function: Value, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        self.spend()
        if isinstance(function, Lib):
            return self.call_library(function.name, args, kwargs, node)
        if isinstance(function, Method):
            return self.call_method_of(function.receiver, function.name, args, kwargs, node, function.base)
        if isinstance(function, Bound):
            if isinstance(function.function, Func):
                return self.call_function(function.function.fid, [function.receiver, *args], kwargs, node)
            return self.call(function.function, [function.receiver, *args], kwargs, node)
        if isinstance(function, Func):
            return self.call_function(function.fid, args, kwargs, node)
        if isinstance(function, Ref):
            return self.call_object(function, args, kwargs, node)
        if isinstance(function, Class):
            return self.instantiate(function, args, kwargs, node)
        if isinstance(function, Closure):
            return self.call_closure(function, args, kwargs, node)
        if isinstance(function, Partial):
            return self.call(
                function.function, [*function.args, *args], {**dict(function.kwargs), **kwargs}, node
            )
        if isinstance(function, Choice):
            return self.call_choice(function, args, kwargs, node)
        if is_plain(function):
            return function
        why = (
            function.why
            if isinstance(function, Unknown)
            else f"a {type(function).__name__.lower()} is called"
        )
        if isinstance(function, (Unknown, Tensor)):
            return self.unknown_call(why, function, args, kwargs, node)
        return self.unknown_call(why, None, args, kwargs, node)

    def call_choice(
        self, choice: Choice, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        before = self.state
        outer = self.context
        branch = self.number()
        values: list[Value] = []
        states: list[State] = []
        for arm, option in enumerate(choice.options):
            self.state = before.fork()
            self.context = (*outer, ("b", branch, arm))
            values.append(self.call(option, args, kwargs, node))
            states.append(self.state)
        self.context = outer
        self.state = self.joiner.states(states)
        return self.joiner.values(values)

    # -- functions of the program

    def call_function(
        self, fid: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST, raw: bool = False
    ) -> Value:
        """`raw`: as it is written, without its decorators."""
        info = self.world.function(fid)
        if info is None:
            return self.unknown_call(f"`{fid}` cannot be read", None, args, kwargs, node)
        if info.unknown_decorator and not raw and not self.world.hands_back(info.unknown_decorator):
            function = self.decorated(info)
            if function is not None:
                return self.call(function, args, kwargs, as_call(node))
            return self.unknown_call(
                f"`{fid}` is wrapped by `{info.unknown_decorator}`", None, args, kwargs, node
            )
        bound = self.bind_arguments(info.node.args, args, kwargs)
        encoder = Encoder(self)
        grad = "off" if info.grad == "off" else "on" if info.grad == "on" else self.state.grad
        key = encoder.key(fid, bound, grad)
        summary = self.world.summary(key)
        if summary is None:
            return self.unknown_call(f"`{fid}` calls itself or is too large", None, args, kwargs, node)
        return self.apply_summary(summary, encoder, node, key)

    def decorated(self, info: FunctionInfo) -> Value | None:
        """What the file's own decorators make of a function; None where that is nothing to be called."""
        value: Value = Partial(Lib("gradsight.undecorated"), (Func(info.fid),), ())
        env, outer, owner, at = self.state.env, self.state.outer, self.owner, self.at
        for decorator in reversed(info.decorators):
            self.state.env, self.state.outer = {}, []
            self.owner, self.at = info.fid, info.decorator_at
            function = self.evaluate(decorator)
            if isinstance(function, (Func, Closure, Partial)):
                value = self.call(function, [value], {}, as_call(decorator))
            self.state.env, self.state.outer, self.owner, self.at = env, outer, owner, at
            if isinstance(value, Unknown):
                return None
        return value if isinstance(value, (Func, Closure, Partial, Ref)) else None

    def bind_arguments(
        self, arguments: ast.arguments, args: list[Value], kwargs: dict[str, Value]
    ) -> tuple[tuple[str, Value], ...]:
        """The callee's parameters with what the call gives them, defaults included."""
        positional = [*arguments.posonlyargs, *arguments.args]
        bound: dict[str, Value] = {}
        for parameter, value in zip(positional, args, strict=False):
            bound[parameter.arg] = value
        if arguments.vararg is not None:
            bound[arguments.vararg.arg] = Seq(tuple(args[len(positional) :]))
        rest: dict[str, Value] = {}
        names = {parameter.arg for parameter in (*positional, *arguments.kwonlyargs)}
        for name, value in kwargs.items():
            if name in names:
                bound[name] = value
            else:
                rest[name] = value
        defaults = dict(
            zip(
                [p.arg for p in positional[len(positional) - len(arguments.defaults) :]],
                arguments.defaults,
                strict=True,
            )
        )
        defaults |= {
            p.arg: d
            for p, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if d is not None
        }
        for parameter in (*positional, *arguments.kwonlyargs):
            if parameter.arg not in bound:
                default = defaults.get(parameter.arg)
                bound[parameter.arg] = (
                    self.default(default) if default is not None else Unknown("an argument that is not given")
                )
        if arguments.kwarg is not None:
            bound[arguments.kwarg.arg] = self.allocate(
                Obj("dict", None, tuple((repr(name), value) for name, value in rest.items()))
            )
        return tuple(bound.items())

    def default(self, node: ast.expr) -> Value:
        """A default's value: constants and names of the module; anything else is made on loading the file."""
        if isinstance(node, ast.Constant):
            return Const(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
            return Number()
        if isinstance(node, (ast.Name, ast.Attribute)):
            before, outer = self.state.env, self.state.outer
            self.state.env, self.state.outer = {}, []
            value = self.evaluate(node)
            self.state.env, self.state.outer = before, outer
            return value
        if isinstance(node, (ast.Tuple, ast.List)) and all(
            isinstance(item, ast.Constant) for item in node.elts
        ):
            return Seq(tuple(Const(item.value) for item in node.elts if isinstance(item, ast.Constant)))
        return Unknown("a default that is computed")

    def apply_summary(self, summary: Summary, encoder: Encoder, node: ast.AST, key: Any) -> Value:
        """Bring the callee's nodes, objects and events into this activation."""
        here = self.here(node)
        info = self.world.function(key.fid)
        block, first, before = self.block, len(self.events), self.state.grad
        if info is not None and info.grad == "on":
            self.switch_mode("on", here)
        if info is not None and info.grad == "off":
            self.switch_off(Within(key.fid, Here(info.decorator_at, info.decorators[0])))
            block, self.block = self.block, block
        inputs = dict(enumerate(encoder.inputs))
        offset = self.counter
        self.counter += summary.counter
        nodes = summary.graph.copy_into(
            self.graph,
            range(summary.inputs, len(summary.graph)),
            lambda number: There(here, key, number),
            inputs,
            self.graph.loops,
            offset,
            block,
        )
        oids = dict(enumerate(encoder.oids))
        for oid in summary.created:
            oids[oid] = self.next_oid
            if self.graph.loops:
                self.born[self.next_oid] = self.graph.loops
            self.next_oid += 1
        for oid, obj in summary.heap:
            self.state.heap[oids[oid]] = moved(obj, nodes, oids)
        for name, value in summary.module:
            self.state.module[name] = moved(value, nodes, oids)
            if not self.at_module_level:
                self.module_written.add(name)  # whoever calls this function finds it rebound, too
        if summary.grad and not (info is not None and info.grad):
            self.state.grad = summary.grad  # the function leaves the mode switched
            switches = [event for event in summary.events if event.kind == "off"]
            if summary.grad == "off" and switches:
                self.block = switches[-1].context[-1][1] + offset
        context = self.context
        if info is not None and info.generator:
            context = (*context, ("m", self.number(), 0))  # it runs when what it yields is asked for
        for number, event in enumerate(summary.events):
            if event.kind == "append" and self.is_new(oids.get(event.oids[0])):
                continue
            self.events.append(
                Event(
                    event.kind,
                    nodes.get(event.node, NOWHERE),
                    tuple(nodes.get(n, NOWHERE) for n in event.nodes),
                    tuple(oids[oid] for oid in event.oids if oid in oids),
                    (*context, *((kind, loop + offset, arm) for kind, loop, arm in event.context)),
                    event.facts,
                    tuple((name, There(here, key, (number, name))) for name, _ in event.places),
                )
            )
        if info is not None and info.grad:
            self.restore_mode(before, first)
        returned: Value = moved(summary.returned, nodes, oids)
        # Each call gives a tensor of its own, even where nothing else tells them apart.
        return replace(returned) if isinstance(returned, Tensor) else returned

    # -- closures

    def call_closure(
        self, closure: Closure, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        if self.nesting >= MOST_NESTING:
            return self.unknown_call(f"`{closure.name}` calls itself", None, args, kwargs, node)
        self.nesting += 1
        owner, nonlocals = self.owner, self.nonlocals
        self.waiting.pop(id(closure.node), None)
        # A fork: whoever holds the state of before keeps the names that it had.
        state = self.state = self.state.fork()
        at, returns, grad, context = self.at, self.returns, state.grad, self.context
        bound = dict(self.bind_arguments(closure.node.args, args, kwargs))
        outer_env = state.env
        outer = state.outer
        if closure.captured is None:
            state.outer = [*outer, outer_env]
        else:
            state.outer, self.nonlocals = [dict(closure.captured)], set()
        state.env = bound
        self.owner = closure.owner if closure.owner != self.function_name else ""
        self.at = closure.at
        block, first = self.block, len(self.events)
        if closure.grad_off:
            state.grad = "off"
            self.block = self.number()
        self.returns = []
        if isinstance(closure.node, ast.Lambda):
            value = self.evaluate(closure.node.body)
        else:
            self.run_body(closure.block, closure.node.body)
            if not self.dead:
                self.returns.append((NONE, self.state))
            self.dead = False
            if self.returns:
                value = self.joiner.values([one for one, _ in self.returns])
                self.state = self.joiner.states([one for _, one in self.returns])
            else:
                self.state = state
                value = Unknown(f"`{closure.name}` always raises")
        value = self.leaving(value)
        if closure.captured is None:
            self.state.env = self.state.outer[-1]
            self.state.outer = self.state.outer[:-1]
        else:
            # What it ran on were copies: nothing has rebound a name that is known here.
            self.state.env, self.state.outer = outer_env, outer
        if self.at_module_level:
            self.state.module = self.state.env if not self.state.outer else self.state.outer[0]
        self.owner, self.nonlocals = owner, nonlocals
        if closure.grad_off:
            self.restore_mode(grad, first)
            self.block = block
        self.at, self.returns, self.context = at, returns, context
        self.nesting -= 1
        return value

    def run_body(self, block: Any, nodes: list[ast.stmt]) -> None:
        raise NotImplementedError

    # -- objects

    def instantiate(self, cls: Class, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        info = self.world.class_info(cls.cid)
        if info is None:
            return self.unknown_call(f"`{cls.cid}` cannot be read", None, args, kwargs, node)
        if self.world.derives(cls.cid, "torch.autograd.Function"):
            if args or kwargs:
                return self.unknown_call("an autograd function", None, args, kwargs, node)
            return self.allocate(Obj("instance", cls))
        if self.world.derives(cls.cid, "typing.TypedDict"):
            return self.call_library("builtins.dict", args, kwargs, node)
        fields: tuple[tuple[str, Value], ...] = ()
        if self.world.is_opaque(cls):
            origin = self.source("call", f"a base class of `{cls.cid}`", node)
            fields = (("*", Unknown(f"a base class of `{cls.cid}` is not seen", origin)),)
        library = model.module(self.world.library_base(cls.cid))
        if library is not None and not library.container and library.owns():
            own = self.source("parameter", library.name, node)
            fields = (("*", Tensor(own, "float", None, "", "parameter")),)
        reference = self.allocate(Obj("instance", cls, fields))
        if self.world.is_module(cls.cid):
            self.event("module", oids=(reference.oid,), facts={"class": cls.cid}, call=self.here(node))
            if self.in_method:
                self.event("made", oids=(reference.oid,), call=self.here(node))
        init = self.world.find_method(cls.cid, "__init__")
        if init is not None:
            self.call_function(init, [reference, *args], kwargs, node)
        elif info.fields:
            for (name, default), value in zip(
                info.fields, [*args, *(None,) * len(info.fields)], strict=False
            ):
                given = value if value is not None else kwargs.get(name)
                if given is None:
                    given = (
                        self.default(default) if default is not None else Unknown("a field that is not given")
                    )
                self.put(reference, self.state.heap[reference.oid].with_field(name, given))
        elif args or kwargs:
            obj = self.state.heap[reference.oid]
            self.put(reference, Obj(obj.kind, obj.cls, obj.fields, tuple(args)))
        if self.world.derives(cls.cid, "torch.utils.data.Dataset"):
            sample = self.world.find_method(cls.cid, "__getitem__")
            if sample is not None:
                value = self.call_function(sample, [reference, Number()], {}, node)
                obj = self.state.heap[reference.oid]
                self.put(reference, obj.with_field("@sample", self.collated(value)))
        return reference

    def call_object(
        self, reference: Ref, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        obj = self.state.heap.get(reference.oid)
        if obj is None:
            return self.unknown_call("an object that is not known here", None, args, kwargs, node)
        start = len(self.events)
        if obj.kind == "module":
            value = self.call_module(reference, obj, args, kwargs, node)
            return self.note_call(start, reference, self.through_hooks(reference, args, value, node), node)
        if obj.kind == "instance" and isinstance(obj.cls, Class):
            if self.world.derives(obj.cls.cid, "torch.autograd.Function"):
                return self.call_library("gradsight.function_called", [obj.cls, *args], kwargs, node)
            for name in ("__call__", "forward"):
                found = self.world.find_method(obj.cls.cid, name)
                if found is not None:
                    value = self.call_function(found, [reference, *args], kwargs, node)
                    if not self.world.is_module(obj.cls.cid):
                        return value
                    value = self.through_module(value, node, reference)
                    return self.note_call(
                        start, reference, self.through_hooks(reference, args, value, node), node
                    )
            library = self.world.library_base(obj.cls.cid)
            stub = model.module(library) if library else None
            if stub is not None and library != "torch.nn.Module":
                if stub.container:
                    value = args[0] if args else NONE
                    if isinstance(hidden := obj.get("*"), Unknown):
                        return self.unknown_call(hidden.why, hidden, args, kwargs, node)
                    for _, item in obj.fields:
                        if self.all_modules((item,)):
                            value = self.call(item, [value], {}, node)
                    return self.note_call(start, reference, value, node)
                return self.apply(stub.forward, args, kwargs, node)
            parameters, _ = self.parameters_of(reference)
            parts = [(n, Edge.LIVE) for n in parameters]
            owner = Unknown("a model that is not seen", self.combine("call", parts, node, keep_off=True))
            return self.unknown_call(
                f"`{obj.cls.cid}` is called by code that is not seen", owner, args, kwargs, node
            )
        if isinstance(obj.cls, Lib):
            module = obj.get("module")
            if obj.cls.name == model.ENGINE and module is not None:
                return self.call(module, args, kwargs, node)
            short = obj.cls.name.rpartition(".")[2]
            return self.unknown_call(f"`{short}` is not known", obj.get("*"), args, kwargs, node)
        return self.unknown_call("an object is called", None, args, kwargs, node)

    def through_hooks(self, module: Ref, args: list[Value], value: Value, node: ast.Call) -> Value:
        """What a module's call gives behind its forward hooks, each of which may see it or replace it."""
        held = self.state.heap[module.oid].get("@hooks")
        for hook in held.items if isinstance(held, Seq) else ():
            if isinstance(hook, (Func, Bound, Closure, Partial)):  # not one that is lost on the way here
                given = self.call(hook, [module, Seq(tuple(args)), value], {}, node)
                text = hooks.read(self, hook, 2, False)[1] if given == NONE else None
                if text is not None and text.requires:
                    given = self.require_grad(value, Const(True), node, None)
                value = value if given == NONE else given
        return value
