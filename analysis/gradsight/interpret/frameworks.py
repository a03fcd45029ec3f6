"""What other libraries do to models, losses and optimizers: engines, launchers, and trainers that train by
themselves.

Their names stand in `model/around.py`; here stands what such a call does to graph and events.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

from gradsight import model
from gradsight.domain import Edge
from gradsight.interpret.objects import Objects
from gradsight.values import (
    NONE,
    Bound,
    Class,
    Closure,
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
)

if TYPE_CHECKING:
    from gradsight.model import TrainerStub

BATCH = Unknown("a batch of data")
MOST_INPUTS = 8  # of a model's forward


class Frameworks(Objects):
    """Calls of libraries around torch."""

    def call(self, function: Value, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        raise NotImplementedError

    def instantiate(self, cls: Class, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        raise NotImplementedError

    def call_framework(
        self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value | None:
        """A function of such a library; None where nothing is known of it."""
        if name == "deepspeed.initialize":
            return self.engine(args, kwargs, node)
        if name == "apex.amp.initialize":
            given = [value for value in (*args[:2], *map(kwargs.get, ("models", "optimizers"))) if value]
            return Seq(tuple(given)) if len(given) > 1 else given[0] if given else None
        if name == "apex.amp.scale_loss":
            return args[0] if args else kwargs.get("loss")
        if name == "torch_xla.core.xla_model.optimizer_step" and args:
            self.step(args[0])
            return NONE
        if name == "torch.distributed.autograd.backward" and len(args) > 1:
            return self.sink(args[1], node, node.args[1] if len(node.args) > 1 else None)
        if name in ("ignite.engine.Engine", "ignite.engine.engine.Engine") and args:
            # The engine calls it with each batch.
            if isinstance(args[0], (Func, Bound, Closure, Partial)):
                self.in_each_turn(lambda: self.call(args[0], [Unknown("an engine"), BATCH], {}, node))
            return self.allocate(Obj("object", Lib(name)))
        stub = model.TRAINERS.get(name)
        if stub is not None:
            trainer = Obj("object", Lib(name), tuple(kwargs.items()), tuple(args))
            if not stub.trains:
                self.train(stub, trainer, node)
            return self.allocate(trainer)
        return None

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
        if cls == model.ENGINE:
            return self.engine_method(obj, name, args, kwargs, node)
        short = cls.rpartition(".")[2]
        if short in ("Accelerator", "Fabric"):
            return self.launcher_method(short, name, args, kwargs, node)
        stub = model.TRAINERS.get(cls)
        if stub is not None and name in stub.trains:
            self.train(stub, obj, node)
            return Unknown(f"`{short}.{name}` gives no tensor")
        return super().library_object_method(receiver, obj, cls, name, args, kwargs, node)

    def in_each_turn(self, turn: Callable[[], object]) -> None:
        """Run once what a library runs in a loop of its own."""
        outer, loops, number = self.context, self.graph.loops, self.number()
        self.context, self.graph.loops = (*outer, ("l", number, 0)), (*loops, number)
        turn()
        self.context, self.graph.loops = outer, loops

    # -- engines

    def engine(self, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """deepspeed.initialize: engine, optimizer, loader, scheduler."""
        given = {
            **dict(zip(("args", "model", "optimizer", "model_parameters"), args, strict=False)),
            **kwargs,
        }
        module = given.get("model", NONE)
        optimizer = given.get("optimizer", NONE)
        if not isinstance(optimizer, Ref):
            held = given.get("model_parameters")
            if held is None or held == NONE:
                nodes, unknown = self.parameters_of(module)
                held = Params(tuple(nodes), True, unknown)
            optimizer = self.make_optimizer("deepspeed.initialize", [held], {}, node)
        made = self.allocate(Obj("object", Lib(model.ENGINE), (("module", module), ("optimizer", optimizer))))
        loader, scheduler = Unknown("a loader of data"), Unknown("a scheduler gives no tensor")
        return Seq((made, optimizer, loader, scheduler))

    def engine_method(
        self, obj: Obj, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        optimizer, module = obj.get("optimizer"), obj.get("module")
        if name == "backward" and (args or "loss" in kwargs):
            return self.sink(args[0] if args else kwargs["loss"], node, node.args[0] if node.args else None)
        if name in ("step", "zero_grad") and optimizer is not None:
            if name == "step":
                self.step(optimizer)
            nodes = self.parameters_of(module)[0] if module is not None else []
            oids = (optimizer.oid,) if isinstance(optimizer, Ref) else ()
            self.event("zero", nodes=nodes, oids=oids, call=self.here(node))
            return NONE
        if isinstance(module, Ref):
            return self.object_method(module, name, args, kwargs, node)
        return self.unknown_call(f"`.{name}()` is not known", module, args, kwargs, node)

    def launcher_method(
        self, short: str, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        """A method of an Accelerator or of Fabric."""
        if name == "backward" and args:
            return self.sink(args[0], node, node.args[0] if node.args else None)
        if name in model.LAUNCHER_RETURNS:
            return Seq(tuple(args)) if len(args) > 1 else args[0] if args else NONE
        if name in ("clip_grad_norm_", "clip_grad_value_", "clip_gradients") and args:
            nodes, unknown = self.parameters_of(args[0])
            params = self.parameter_groups(args[0]) if not nodes else Params(tuple(nodes), True, unknown)
            facts = {"unknown": "yes" if params.unknown else ""}
            self.event("clip", nodes=params.nodes, facts=facts, call=self.here(node))
        return Unknown(f"`{short}.{name}` gives no tensor")

    # -- what trains by itself

    def train(self, stub: TrainerStub, trainer: Obj, node: ast.Call) -> None:
        """A model is trained: forward, loss, backward and step, in a loop that stands in the library."""

        def given(what: tuple[str, int]) -> Value | None:
            name, position = what
            return trainer.get(name) or (
                trainer.items[position] if 0 <= position < len(trainer.items) else None
            )

        module, criterion, optimizer = map(given, (stub.model, stub.criterion, stub.optimizer))
        if isinstance(module, Class):
            settings = {
                key.partition("__")[2]: value for key, value in trainer.fields if key.startswith("module__")
            }
            module = self.instantiate(module, [], settings, node)
        obj = self.obj(module)
        if not isinstance(module, Ref) or obj is None or obj.kind not in ("module", "instance"):
            return
        nodes, unknown = self.parameters_of(module)
        if not isinstance(optimizer, Ref):
            held = Params(tuple(nodes), True, unknown)
            optimizer = self.make_optimizer("a trainer's optimizer", [held], {}, node)

        def turn() -> None:
            assert isinstance(module, Ref)
            value = self.call(module, [BATCH] * self.inputs_of(obj, not stub.criterion[0]), {}, node)
            loss = self.criterion_of(criterion, value, node) if stub.criterion[0] else own_loss(self, value)
            oids = (optimizer.oid,) if isinstance(optimizer, Ref) else ()
            self.event("zero", nodes=nodes, oids=oids, call=self.here(node))
            self.sink(loss, node, None, kind="return")
            self.step(optimizer)

        self.in_each_turn(turn)

    def criterion_of(self, criterion: Value | None, value: Value, node: ast.Call) -> Value:
        """The loss that a trainer makes of what its model gives. Without a criterion that can be seen it
        hangs on all of that."""
        if isinstance(criterion, Lib):
            criterion = self.call(criterion, [], {}, node)
        obj = self.obj(criterion)
        if isinstance(criterion, Class):
            criterion = self.instantiate(criterion, [], {}, node)
        elif obj is not None and isinstance(obj.cls, Lib) and obj.cls.name.endswith("NLLLoss"):
            criterion = None  # skorch takes the logarithm first
        if isinstance(criterion, (Ref, Func, Bound, Closure, Partial)):
            return self.call(criterion, [value, BATCH], {}, node)
        if isinstance(value, Seq):
            parts = [(n, Edge.LIVE) for item in value.items for n in self.nodes_in(item)]
            return Tensor(self.combine("a trainer's loss", parts, node), "float")
        return value

    def inputs_of(self, obj: Obj, optional: bool) -> int:
        """How many inputs a model's forward is given: those that it must have, or also the optional ones."""
        fid = self.world.find_method(obj.cls.cid, "forward") if isinstance(obj.cls, Class) else None
        info = self.world.function(fid) if fid is not None else None
        if info is None:
            return 1
        arguments = info.node.args
        taken = len(arguments.posonlyargs) + len(arguments.args) - 1
        return max(1, min(taken if optional else taken - len(arguments.defaults), MOST_INPUTS))


def own_loss(it: Frameworks, value: Value) -> Value:
    """The loss in what a model gives that computes it: `"loss"` of a dictionary or record, else the first."""
    obj = it.obj(value)
    if obj is not None and obj.kind in ("dict", "record"):
        return obj.get("'loss'") or obj.get("loss") or Unknown("a loss that is not found")
    return value.items[0] if isinstance(value, Seq) and value.items else value
