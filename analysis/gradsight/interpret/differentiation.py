"""Where a program differentiates by itself: gradients asked for as values, functions with a backward of their
own, segments that are computed again."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from gradsight.domain import Edge
from gradsight.graph import Here, Place, Within
from gradsight.interpret.contract import breaches
from gradsight.values import (
    NONE,
    NOWHERE,
    Class,
    Const,
    Lib,
    Number,
    Seq,
    Tensor,
    Value,
    is_plain,
    node_of,
)

if TYPE_CHECKING:
    from gradsight.interpret.statements import Statements


def _backward(
    it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    root = args[0] if args else kwargs.get("tensors", NONE)
    given = args[1] if len(args) > 1 else kwargs.get("grad_tensors", NONE)
    retain = args[2] if len(args) > 2 else kwargs.get("retain_graph", NONE)
    return it.sink(root, node, node.args[0] if node.args else None, retain, given)


def _grad(it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    root = args[0] if args else kwargs.get("outputs", NONE)
    inputs = args[1] if len(args) > 1 else kwargs.get("inputs", NONE)
    given = args[2] if len(args) > 2 else kwargs.get("grad_outputs", NONE)
    create = args[4] if len(args) > 4 else kwargs.get("create_graph", NONE)
    retain = args[3] if len(args) > 3 else kwargs.get("retain_graph", NONE)
    if retain == NONE and create == Const(True):
        retain = create
    it.sink(root, node, node.args[0] if node.args else None, retain, given, "grad", inputs)
    number = differentiated(it, name, [*it.nodes_in(root), *it.nodes_in(inputs)], kwargs, create, node)
    wanted = it.items(inputs)
    return Seq(tuple(Tensor(number, "float") for _ in (wanted if wanted is not None else (NONE,))))


def _functional(
    it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """`jacobian(f, x)` and its like: a graph of their own, which ends there unless one asks for it."""
    function = args[0] if args else kwargs.get("func", NONE)
    inputs = args[1] if len(args) > 1 else kwargs.get("inputs", NONE)
    given = it.items(inputs)
    value = it.call(function, list(given) if given is not None else [inputs], {}, node)
    create = kwargs.get("create_graph", NONE)
    number = differentiated(it, name, [*it.nodes_in(value), *it.nodes_in(inputs)], kwargs, create, node)
    result = Tensor(number, "float")
    return result if name.endswith(("jacobian", "hessian")) else Seq((result, result))


def differentiated(
    it: Statements, name: str, numbers: list[int], kwargs: dict[str, Value], create: Value, node: ast.Call
) -> int:
    """Gradients as values. Without `create_graph` they have no history; with it they have one whatever stands
    around the call."""
    if create in (NONE, Const(False)) and "**" not in kwargs:
        return it.combine(name, [(n, Edge.CUT) for n in numbers], node, "grad")
    edge = Edge.LIVE if create == Const(True) else Edge.UNKNOWN
    return it.combine(name, [(n, edge) for n in numbers], node, saves=edge is Edge.LIVE, keep_off=True)


OF_CHECKPOINTS = frozenset({
    "use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop",
})  # fmt: skip


def _checkpoint(
    it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """A segment that backward computes again."""
    if not args:
        return NONE
    rest = {key: value for key, value in kwargs.items() if key not in OF_CHECKPOINTS}
    return segment(it, it.call(args[0], args[1:], rest, node), args[1:], kwargs, node)


def _checkpoint_sequential(
    it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """Modules one behind the other, in so many segments: the last one is no checkpoint."""
    function = args[0] if args else kwargs.get("functions", NONE)
    number = args[1] if len(args) > 1 else kwargs.get("segments", NONE)
    value = args[2] if len(args) > 2 else kwargs.get("input", NONE)
    obj = it.obj(function)
    held = obj.held if obj is not None and not obj.many else ()
    segments = number.value if isinstance(number, Const) and isinstance(number.value, int) else 0
    if not held or not it.all_modules(held) or not 0 < segments <= len(held):
        return it.call(function, [value], {}, node)
    size = len(held) // segments
    ends = [size * part for part in range(1, segments)]
    given = value
    for position, part in enumerate(held, 1):
        value = it.call(part, [value], {}, node)
        if position in ends:
            given = value = segment(it, value, [given], kwargs, node)
    return value


def segment(
    it: Statements, value: Value, given: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """What a checkpoint gives. One that is re-entrant has a graph only if some tensor that it is given
    requires a gradient: which that are, only who calls this can know."""
    reentrant = kwargs.get("use_reentrant", NONE)
    if reentrant not in (NONE, Const(True)) or "**" in kwargs or it.state.grad != "on":
        return value
    if isinstance(value, Seq):
        return Seq(tuple(segment(it, one, given, kwargs, node) for one in value.items))
    blind = any(node_of(one) == NOWHERE and not is_known(one) for one in given)
    if not isinstance(value, Tensor) or value.node == NOWHERE or blind:
        return value
    number = it.combine("torch.utils.checkpoint.checkpoint", [(value.node, Edge.LIVE)], node)
    facts = {"given": "yes" if reentrant != NONE else ""}
    it.event(
        "checkpoint", number, [n for one in given for n in it.nodes_in(one)], facts=facts, call=it.here(node)
    )
    return replace(value, node=number)


def is_known(value: Value) -> bool:
    """Whether nothing can learn through a value of no node."""
    return isinstance(value, (Tensor, Number, Const)) or is_plain(value)


# -- functions with a backward of their own


def _function_apply(
    it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """`Function.apply`: the gradient passes to what backward gives one for.

    What backward computes is its own business: which arguments get None is all that counts here.
    """
    function, *given = args
    assert isinstance(function, Class)
    plain = not kwargs and not any(isinstance(one, ast.Starred) for one in node.args)
    none = no_gradients(it, function) if plain else {}
    parts: list[tuple[int, Edge]] = []
    for position, value in enumerate((*given, *kwargs.values())):
        for number in it.nodes_in(value):
            where = none.get(position, none.get(NOWHERE))
            if where is not None and it.state.grad == "on":
                # The graph stays whole: what comes out requires a gradient, and this gets none.
                number = it.combine("torch.autograd.Function", [(number, Edge.ZERO)], node, "backward")
                it.graph[number].place = where
            parts.append((number, Edge.LIVE))
    result = it.combine("torch.autograd.Function", parts, node, saves=True)
    declare(it, function, given if plain else None, node, result)
    return Tensor(result, "float")


def no_gradients(it: Statements, function: Class) -> dict[int, Place]:
    """The arguments for which every `return` of backward says None, and where the last of these stands."""
    fid = it.world.find_method(function.cid, "backward")
    backward = it.world.contract(fid) if fid is not None else None
    if fid is None or backward is None or strange(it, fid):
        return {}
    if backward.computed is not None:
        at, node = backward.computed
        return {NOWHERE: Within(fid, Here(at, node))}
    if not backward.returned or any(one.count is None for one in backward.returned):
        return {}
    positions = set.intersection(
        *({at for at, none in enumerate(one.nones) if none} for one in backward.returned)
    )
    last = backward.returned[-1]
    return {
        position: Within(fid, Here(last.where[0], last.parts[position] if last.parts else last.where[1]))
        for position in positions
    }


def strange(it: Statements, fid: str) -> bool:
    """Whether a method has a decorator that may change what it takes or gives."""
    info = it.world.function(fid)
    decorators = info.decorators if info is not None else ()
    calls = [one.func if isinstance(one, ast.Call) else one for one in decorators]
    named = [it.default(one) for one in calls if ast.unparse(one) != "staticmethod"]
    return any(
        not isinstance(one, Lib) or one.name.rpartition(".")[2] not in KNOWN_DECORATORS for one in named
    )


KNOWN_DECORATORS = frozenset({
    "once_differentiable", "custom_fwd", "custom_bwd", "no_grad", "enable_grad", "override",
})  # fmt: skip


def declare(
    it: Statements,
    function: Class,
    given: list[Value] | None,
    node: ast.AST | None = None,
    result: int = NOWHERE,
) -> None:
    """Leave an event for each way in which a Function breaks its contract; `given`: a call's arguments."""
    world, cid = it.world, function.cid
    if any(base != Lib("torch.autograd.Function") for base in world.library_bases(cid)):
        return  # what is not found here may stand in a base class
    fids = {name: world.find_method(cid, name) for name in ("forward", "backward", "setup_context", "vjp")}
    methods = {name: world.contract(fid) for name, fid in fids.items() if fid is not None}
    forward, backward = methods.get("forward"), methods.get("backward")
    call = it.here(node) if given is not None else None
    words = {"class": cid.rpartition(".")[2]}
    if fids["backward"] is None:
        if fids["vjp"] is None and fids["forward"] is not None and call is not None:
            it.event("contract", result, facts={"kind": "missing", **words}, call=call)
        return
    if backward is None:
        return
    decorated = any(strange(it, fid) for fid in fids.values() if fid is not None)
    count = len(given) if given is not None else None
    for breach in breaches(forward, backward, methods.get("setup_context"), count, decorated):
        fid = fids[breach.method]
        assert fid is not None
        where = Within(fid, Here(*breach.where))
        facts = {"kind": breach.kind, **words, **dict(breach.facts)}
        it.event("contract", result, facts=facts, where=where, call=call)
    if forward is not None and given is not None and not decorated and "setup_context" not in methods:
        for (at, saved), _, names in forward.saved:
            for position, name in enumerate(names):
                value = argument(forward.names[1:], given, name)
                if isinstance(value, (Number, Const)) and value != NONE:
                    word = kind_of_number(value)
                    facts = {"kind": "number", **words, "name": name, "type": word, "at": str(position)}
                    it.event(
                        "contract",
                        result,
                        facts=facts,
                        where=Within(str(fids["forward"]), Here(at, saved)),
                        call=call,
                    )


def argument(names: tuple[str, ...], given: list[Value], name: str) -> Value | None:
    """What is given for a parameter, where that is seen."""
    return given[names.index(name)] if name in names and names.index(name) < len(given) else None


def kind_of_number(value: Number | Const) -> str:
    return value.kind if isinstance(value, Number) else type(value.value).__name__


def _function_called(
    it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """`Function()(x)`, as one did before torch 0.4."""
    function, *given = args
    assert isinstance(function, Class)
    if not it.trying and it.world.find_method(function.cid, "__call__") is None:
        facts = {"kind": "called", "class": function.cid.rpartition(".")[2]}
        it.event("contract", facts=facts, call=it.here(node))
    return it.unknown_call("an autograd function is called", None, given, kwargs, node)


DIFFERENTIATION = {
    "torch.autograd.backward": _backward,
    "torch.autograd.grad": _grad,
    **dict.fromkeys(
        (f"torch.autograd.functional.{name}" for name in ("jacobian", "hessian", "vjp", "jvp", "vhp", "hvp")),
        _functional,
    ),
    "torch.utils.checkpoint.checkpoint": _checkpoint,
    "torch.utils.checkpoint.checkpoint_sequential": _checkpoint_sequential,
    "gradsight.function_apply": _function_apply,
    "gradsight.function_called": _function_called,
}
