"""Where the analysis begins: the module as it runs, and what it never calls, with unknown arguments.

A root is interpreted for itself; it ends in a `Program`, which the rules ask.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from gradsight.interpret.differentiation import declare
from gradsight.interpret.index import LOSS_NAME, FunctionInfo
from gradsight.interpret.statements import Statements
from gradsight.interpret.summarize import nodes_of, objects_in
from gradsight.interpret.world import World
from gradsight.outline import Region
from gradsight.queries import TARGETS, Program
from gradsight.syntax import walk
from gradsight.values import (
    NODED,
    NONE,
    NOWHERE,
    Class,
    Const,
    Func,
    Lib,
    Number,
    Obj,
    Params,
    Ref,
    Seq,
    Tensor,
    Unknown,
    Value,
    is_plain,
    node_of,
)

NOT_A_LOSS = re.compile(
    r"metric|accuracy|eval|valid|scor|estimate|plot|log_|print|make|build|get_loss_fn|create|register|init|test"
    r"|indices|indexes|_idx|mining|miner",
    re.IGNORECASE,
)
METRIC_NAME = re.compile(
    r"acc|iou|score|precision|recall|psnr|ssim|f1|rmse|mae|mape|error|correct|coef|corr|dist|count|stat", re.I
)
OPTIMIZER_NAME = re.compile(r"optim|^opt$|^opt_|_opt$", re.IGNORECASE)
STEPS_PER_LINE = 60  # of a module: what follows a long script is not given up


def module_root(world: World) -> Program:
    """The file as it is run."""
    it = Statements(world, "<module>")
    it.state.module = it.state.env
    it.budget += STEPS_PER_LINE * len(world.outline.skeleton.lines)
    it.run_block(world.skeleton)
    del it.joiner  # it knows the activation: without it nothing is left for the collector to find
    return Program("module", "<module>", it.graph, tuple(it.events), it.state.env, it.state.heap)


def function_root(world: World, opened: Mapping[str, Value], fid: str) -> Program:
    """A function called with arguments that nothing is known about; `opened` are the module's names to it."""
    info = world.function(fid)
    assert info is not None
    it = opened_activation(world, opened)
    it.owner = fid
    args, kwargs, env = unknown_arguments(it, info.node, info.header, skip=0)
    optimizer, owners = given_optimizer(it, info.node, world.regions[fid])
    if optimizer:
        own = env[optimizer]
        nodes = tuple(node_of(env[name]) for name in owners if node_of(env[name]) >= 0)
        known = it.make_optimizer("torch.optim.Optimizer", [Params(nodes, True, True)], {}, info.node)
        args = [known if value is own else value for value in args]
        kwargs = {name: known if value is own else value for name, value in kwargs.items()}
    lone = "loss" if is_lone_loss(info.node, world.regions[fid]) else ""
    value = it.call_function(fid, args, kwargs, info.node)
    if lone and not asks(it):
        it.sink(it.returned_loss(value), info.node, None, kind="return")
    else:
        lone = ""
    del it.joiner  # as above
    return Program("function", fid, it.graph, tuple(it.events), env, it.state.heap, lone=lone)


def class_root(world: World, opened: Mapping[str, Value], cid: str) -> Program:
    """An object of the class, made with unknown arguments; then what its methods do to it."""
    it = opened_activation(world, opened)
    if world.derives(cid, "torch.autograd.Function"):
        declare(it, Class(cid), None)
    reference = it.allocate(Obj("instance", Class(cid)))
    init = world.find_method(cid, "__init__")
    if init is not None and (info := world.function(init)) is not None:
        it.owner = init
        args, kwargs, _ = unknown_arguments(it, info.node, info.header, skip=1)
        it.call_function(init, [reference, *args], kwargs, info.node)
    entries, lone = world.entries(cid)
    for name in entries:
        fid = world.find_method(cid, name)
        info = world.function(fid) if fid is not None else None
        if info is None or fid is None or info.kind in ("property",):
            continue
        skip = 0 if info.kind == "static" else 1
        it.owner = fid
        args, kwargs, _ = unknown_arguments(it, info.node, info.header, skip)
        in_trainer = name == "compute_loss" and derives_trainer(world, cid)
        if in_trainer:  # what training asks for: the loss alone
            kwargs["return_outputs"] = Const(False)
            args = args[:2]
        before = it.state.fork()
        it.context = (("m", it.number(), 0),)
        it.state.grad = "on"
        value = it.call_function(fid, [reference, *args] if skip else args, kwargs, info.node)
        if name == "training_step" and value == NONE and skips(it, info, cid):
            it.at = info.header
            it.event("unreturned", call=it.here(header_name(info)))
        if name == "training_step" or in_trainer:
            it.sink(it.returned_loss(value), info.node, None, kind="return")
        elif name == "forward" and lone:
            for one in returned_values(it, value):
                it.sink(one, info.node, None, kind="return")
        it.context = ()
        it.state = it.joiner.states([before, it.state])
    if lone and asks(it):
        # It differentiates by itself: what it returns is a value, and nobody's loss.
        it.events = [event for event in it.events if event.kind != "return"]
        lone = ""
    del it.joiner  # as above
    return Program("class", cid, it.graph, tuple(it.events), {}, it.state.heap, reference.oid, lone)


def skips(it: Statements, info: FunctionInfo, cid: str) -> bool:
    """Whether a training step without a result is one that Lightning skips, and no interface."""
    nodes = [part for line in info.region.lines[info.header + 1 :] for part in line.nodes]
    does = any(
        not isinstance(part, ast.Pass)
        and not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        for part in nodes
    )
    return does and is_lightning(it.world, cid) and not asks(it)


def is_lightning(world: World, cid: str) -> bool:
    """Whether Lightning trains objects of the class, as far as its bases say."""
    names = [base.name for base in world.library_bases(cid) if isinstance(base, Lib)]
    return any(name.endswith("LightningModule") for name in (*names, *world.mro(cid)[1:]))


def derives_trainer(world: World, cid: str) -> bool:
    """Whether the class derives from a trainer of Hugging Face, which differentiates what `compute_loss`
    returns."""
    names = [base.name for base in world.library_bases(cid) if isinstance(base, Lib)]
    return any(
        name.endswith("Trainer") and name.partition(".")[0] in ("transformers", "trl") for name in names
    )


def header_name(info: FunctionInfo) -> ast.Name:
    """The name in a function's header, as a node that has its place."""
    name, text = info.node.name, info.region.lines[info.header].text
    start = len(text[: text.index(name, text.index("def") + 3)].encode())
    row, end = info.node.lineno, start + len(name)
    return ast.Name(name, ast.Load(), lineno=row, col_offset=start, end_lineno=row, end_col_offset=end)


def asks(it: Statements) -> bool:
    """Whether gradients are asked for, be it without parentheses."""
    return any(
        event.kind in ("backward", "grad") or (event.kind == "uncalled" and event.fact("name") == "backward")
        for event in it.events
    )


def opened_activation(world: World, opened: Mapping[str, Value]) -> Statements:
    """An activation whose module names are those that the module left."""
    it = Statements(world, "<open>")
    it.state.module.update(opened)
    return it


def unknown_arguments(
    it: Statements, node: ast.FunctionDef | ast.AsyncFunctionDef, at: int, skip: int
) -> tuple[list[Value], dict[str, Value], dict[str, Value]]:
    """Arguments that nothing is known about, but for what annotations and defaults say."""
    it.at = at
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults: dict[str, ast.expr] = dict(
        zip(
            [p.arg for p in positional[len(positional) - len(node.args.defaults) :]],
            node.args.defaults,
            strict=True,
        )
    )
    defaults |= {
        p.arg: d for p, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is not None
    }
    args: list[Value] = []
    kwargs: dict[str, Value] = {}
    env: dict[str, Value] = {}
    for position, parameter in enumerate([*positional, *node.args.kwonlyargs]):
        if position < skip:
            continue
        value = unknown_argument(it, parameter, defaults.get(parameter.arg))
        env[parameter.arg] = value
        if position < len(positional):
            args.append(value)
        else:
            kwargs[parameter.arg] = value
    return args, kwargs, env


def given_optimizer(
    it: Statements, node: ast.FunctionDef | ast.AsyncFunctionDef, region: Region
) -> tuple[str, tuple[str, ...]]:
    """The argument that is the optimizer of a training function which nothing calls, and those that it may
    hold parameters of: what is called, or asked for its parameters. "" where there is none, or several.

    What steps, or is handed on to what may, is called an optimizer by its annotation or by its name; who
    learns is not decided by that.
    """
    parameters = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    given = [
        each.arg
        for each in parameters
        if OPTIMIZER_NAME.search(each.arg) or is_optimizer(it, each.annotation)
    ]
    if len(given) != 1:
        return "", ()
    steps, owners = False, set()
    for call in (part for line in region.lines for top in line.nodes for part in walk(top)):
        if not isinstance(call, ast.Call):
            continue
        if isinstance(call.func, ast.Name):
            owners.add(call.func.id)
            handed = {each.id for each in call.args if isinstance(each, ast.Name)}
            if given[0] in handed and isinstance(it.look_up(call.func.id), Func):
                steps = True
                owners |= handed - {given[0]}
        elif isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            owner, name = call.func.value.id, call.func.attr
            if name in ("parameters", "train"):
                owners.add(owner)
            elif name == "step" and not call.args and "sched" not in owner.lower():
                if owner != given[0]:
                    return "", ()
                steps = True
    return (given[0], tuple(each.arg for each in parameters if each.arg in owners)) if steps else ("", ())


def is_optimizer(it: Statements, annotation: ast.expr | None) -> bool:
    """Whether an argument is said to be one of torch's optimizers."""
    value = it.evaluate(annotation) if isinstance(annotation, (ast.Name, ast.Attribute)) else None
    return isinstance(value, Lib) and value.name.startswith("torch.optim.") and value.name.count(".") == 2


def unknown_argument(it: Statements, parameter: ast.arg, default: ast.expr | None) -> Value:
    annotation = ast.unparse(parameter.annotation) if parameter.annotation is not None else ""
    if annotation in (
        "int",
        "float",
        "bool",
        "Optional[int]",
        "Optional[float]",
        "int | None",
        "float | None",
    ):
        return Number()
    if annotation in ("str", "Path", "Optional[str]", "str | None", "argparse.Namespace", "Namespace"):
        return Unknown("a setting")
    if (
        isinstance(default, ast.Constant)
        and isinstance(default.value, (int, float))
        and not isinstance(default.value, bool)
    ):
        return Number()
    if isinstance(default, ast.UnaryOp):
        return Number()
    if isinstance(default, ast.Constant) and isinstance(default.value, (str, bool)):
        return Unknown("a setting")
    node = it.source("argument", parameter.arg, parameter)
    if annotation.endswith("LongTensor"):
        return Tensor(NOWHERE, "int")
    if annotation in ("torch.Tensor", "Tensor", "torch.FloatTensor"):
        return Tensor(node)
    return Unknown(f"the argument `{parameter.arg}` is not known here", node)


def plain(value: Value) -> Value:
    """A value of the module for a function that is seen without its caller: no nodes, no objects."""
    if isinstance(value, (Const, Number)):
        return value if isinstance(value, Const) else Number()
    if isinstance(value, Ref):
        return Unknown("an object of the module")
    if isinstance(value, Seq):
        return Seq(tuple([plain(item) for item in value.items]))
    if node_of(value) == NOWHERE and is_plain(value):
        return value
    if value.__class__ in NODED or nodes_of(value) or objects_in(value):
        return Unknown("a value of the module")
    return value


def is_lone_loss(node: ast.FunctionDef | ast.AsyncFunctionDef, region: Region) -> bool:
    """Whether a function that nothing calls is a loss.

    Its name says so, or it reduces an expression over a prediction and a target. A metric does that too, so
    there the arguments' names must tell which is which.
    """
    name = node.name
    if NOT_A_LOSS.search(name):
        return False
    if LOSS_NAME.search(name):
        return True
    names = [parameter.arg for parameter in (*node.args.posonlyargs, *node.args.args)]
    if (
        METRIC_NAME.search(name)
        or not any(one in TARGETS for one in names)
        or all(one in TARGETS for one in names)
    ):
        return False
    returned = [part for line in region.lines for part in line.nodes if isinstance(part, ast.Return)]
    return bool(returned) and all(is_reduction(part.value) for part in returned)


def is_reduction(node: ast.expr | None) -> bool:
    """`x.mean()`, `torch.sum(x)`, also scaled, negated or subtracted from a number."""
    if isinstance(node, ast.UnaryOp):
        return is_reduction(node.operand)
    if isinstance(node, ast.BinOp):
        return is_reduction(node.left) or is_reduction(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("mean", "sum") or is_reduction(node.func.value)
    return False


def returned_values(it: Statements, value: Value) -> list[Value]:
    """What a module returns, taken apart."""
    items = it.items(value)
    if items is not None:
        return [one for item in items for one in returned_values(it, item)]
    obj = it.obj(value)
    if obj is not None and obj.kind == "dict":
        return [one for _, item in obj.fields for one in returned_values(it, item)]
    return [value]
