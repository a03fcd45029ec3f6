"""What a training step is made of: criteria, optimizers, and the calls that differentiate.

Each leaves an event, which the rules ask about.
"""

from __future__ import annotations

import ast

from gradsight import model
from gradsight.domain import Edge
from gradsight.graph import Node
from gradsight.interpret.dtypes import exact_of
from gradsight.interpret.factories import Factories
from gradsight.interpret.shapes import last_of, written
from gradsight.model import kept
from gradsight.values import (
    NONE,
    NOWHERE,
    Array,
    Choice,
    Const,
    Lib,
    Obj,
    Params,
    Ref,
    Shape,
    Tensor,
    Unknown,
    Value,
    node_of,
    surely_many,
)

OF_DATA = "torch.loss"  # the origin of a loss that was computed from tensors without any history


class Training(Factories):
    """Criteria, optimizers and sinks."""

    # -- criteria

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
        bound = dict(zip(names, args, strict=False))
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
        loss = self.combine(name, parts, node, saves=True, target=tuple(targets))
        if loss != NOWHERE and name.rpartition(".")[2] in kept.BOTH:
            for value in bound.values():
                if isinstance(value, Tensor) and value.node == NOWHERE:
                    self.kept_constants.append((value, loss, ()))
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
            "target_made": target.origin if isinstance(target, Tensor) else "",
            "target_dtype": target.dtype if isinstance(target, (Tensor, Array)) else "",
            "exact": exact_of(first),
            "target_exact": exact_of(target),
            "shape": written(self.shape_of(first)),
            "target_shape": written(self.shape_of(target)),
            "last": str(last_of(self.shape_of(first))),
            "log_target": "" if given.get("log_target", Const(False)) == Const(False) else "yes",
            "weight": "yes" if given.get("weight", NONE) != NONE else "",
            "wants": stub.input_wants,
            "off": "yes" if self.state.grad == "off" else "",
            "target_wants": stub.target_wants,
        }
        call = node if isinstance(node, ast.Call) else None
        if first == NONE and call is not None and (given_as := argument_ast(call, names[0], 0)) is not None:
            self.event("nothing", facts={"of": name}, call=self.here(node), root=self.here(given_as))
        self.event(
            "criterion",
            loss,
            nodes=(node_of(first), node_of(target), node_of(settings.get("@"))),
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
        of_data = loss == NOWHERE and all(
            isinstance(value, Tensor) and value.origin.startswith("torch.") for value in (first, target)
        )
        return Tensor(loss, "float", shape, role, OF_DATA if of_data else "")

    # -- optimizers

    def make_optimizer(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        given = args[0] if args else kwargs.get("params", kwargs.get("parameters", NONE))
        params = self.parameter_groups(given)
        groups = (self.obj(item) for item in self.items(given) or ())
        alone = not any(group is not None and group.kind == "dict" for group in groups)
        reference = self.allocate(
            Obj("optimizer", Lib(name), (("params", params), ("one group", Const(alone))))
        )
        owner: list[int] = []
        if params.blanket and not params.nodes and not params.unknown:
            # An empty `model.parameters()`: it can only have come from a module that owns none.
            instances = [oid for oid, obj in self.state.heap.items() if obj.kind == "instance"]
            owner = [oid for oid in instances if not self.parameters_of(Ref(oid))[0]]
        self.event(
            "optimizer",
            nodes=params.nodes,
            oids=(reference.oid, *owner),
            facts={
                "name": name,
                "blanket": "yes" if params.blanket else "",
                "unknown": "yes" if params.unknown else "",
                "filtered": "yes" if params.filtered else "",
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

    def step(self, optimizer: Value) -> None:
        obj = self.obj(optimizer)
        if obj is not None:
            params = obj.get("params")
            if isinstance(params, Params):
                reference = (optimizer.oid,) if isinstance(optimizer, Ref) else ()
                # A node of its own says what was computed before the step, and what behind it.
                mark = self.graph.add(Node("mark", "step", place=self.here()))
                self.event(
                    "step",
                    mark,
                    nodes=params.nodes,
                    oids=reference,
                    facts={"unknown": "yes" if params.unknown else ""},
                    call=self.here(),
                )

    # -- sinks

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
        unreduced = isinstance(root, Tensor) and root.role == "unreduced"
        nodes = list(self.nodes_in(root))
        self.event(
            kind,
            nodes[0] if nodes else NOWHERE,
            nodes=nodes,
            facts={
                "retain": retained,
                "gradient": "" if given == NONE else "yes",
                "shape": written(shape) if unreduced else "",
                "unreduced": "yes" if unreduced else "",
                "kind": type(root).__name__.lower(),
                "off": "yes" if self.state.grad == "off" else "",
                "why": root.why if isinstance(root, Unknown) else "",
                "inputs": "yes" if inputs is not None else "",
                "many": "yes" if surely_many(shape) else "",
                **({"mode": "may"} if self.state.grad == "may" else {}),
                **({"data": "yes"} if isinstance(root, Tensor) and root.origin == OF_DATA else {}),
                **({"expected": "yes"} if self.trying else {}),
                **({"when": "\n".join(self.tests)} if self.tests else {}),
            },
            call=self.here(node),
            root=self.here(root_ast) if root_ast is not None else None,
        )
        return NONE


def argument_ast(call: ast.Call, name: str, position: int) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position < len(call.args):
        return call.args[position]
    return None
