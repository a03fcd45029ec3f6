"""Hooks, as their text says: one that computes a new value and returns nothing, one that returns a number.

A hook is read, not run: when it is called, and with what, autograd decides.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradsight.graph import Here, Place, Within
from gradsight.interpret.contract import Found, Reader, own_statements
from gradsight.lines import Line
from gradsight.outline import nest
from gradsight.values import Bound, Closure, Func, Partial, Tensor, Value, node_of, surely_many

if TYPE_CHECKING:
    from gradsight.interpret.methods import Methods

# Methods that register a hook, with the position of the value that the hook may replace.
HOOKS = {
    "register_hook": 0,
    "register_full_backward_hook": 1,
    "register_full_backward_pre_hook": 1,
    "register_backward_hook": 1,
    "register_forward_hook": 2,
    "register_forward_pre_hook": 1,
}

ELEMENTWISE = frozenset({
    "clamp", "clip", "mul", "div", "add", "sub", "neg", "where", "nan_to_num", "masked_fill", "normalize",
    "clamp_min", "clamp_max", "zeros_like", "sign", "multiply", "divide", "hardtanh", "tanh",
})  # fmt: skip
NUMBERS = frozenset({"item", "tolist", "numpy"})
SCALARS = frozenset({"norm", "mean", "sum", "std", "var"})


@dataclass(frozen=True, slots=True)
class Hook:
    """What a hook's text says of the value that it may replace.

    lost: where it computes a new one that nobody takes; `last`: nothing stands behind that.
    number: where it returns something that is surely no tensor. scalar: where it returns its norm, its mean.
    requires: it asks for the value's gradient, which holds without being returned.
    """

    name: str
    lost: Found | None = None
    last: bool = False
    number: Found | None = None
    scalar: Found | None = None
    requires: bool = False


def register(
    it: Methods, receiver: Value, method: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> None:
    """A hook is registered: what its text says is left as an event."""
    if not args or "with_kwargs" in kwargs or it.trying:
        return
    owner, hook = read(it, args[0], HOOKS[method], method == "register_hook")
    facts = {"method": method, "name": hook.name if hook is not None else ""}
    found: dict[str, Place | None] = dict.fromkeys(("lost", "number", "scalar"))
    if hook is not None:
        for kind in found:
            place: Found | None = getattr(hook, kind)
            if place is not None:
                found[kind] = Within(owner, Here(*place)) if owner else Here(*place)
                facts[kind] = "yes"  # places are no part of what a summary is compared by
        facts["last"] = "yes" if hook.last else ""
    if method == "register_hook":
        shape = receiver.shape if isinstance(receiver, Tensor) else None
        facts["many"] = "yes" if surely_many(shape) else ""
        fresh = isinstance(receiver, Tensor) and receiver.node < 0 and receiver.origin.startswith("torch.")
        facts["data"] = "yes" if fresh else ""
    it.event(
        "hook",
        node_of(receiver),
        facts=facts,
        call=it.here(node),
        lost=found["lost"],
        number=found["number"],
        scalar=found["scalar"],
    )


def read(it: Methods, value: Value, position: int, alone: bool) -> tuple[str, Hook | None]:
    """The function that a hook's lines stand in, and what they say; `position`: of what it may replace.

    `alone`: a hook of a tensor, which is given the gradient and nothing else.
    """
    if isinstance(value, Partial):
        return read(it, value.function, position + len(value.args), alone)
    if isinstance(value, Bound):
        return read(it, value.function, position + 1, alone)
    if isinstance(value, Func):
        return value.fid, it.world.hook(value.fid, position, alone)
    if isinstance(value, Closure):
        owner = value.owner or it.owner or it.function_name
        if owner == "<module>" or (owner == it.function_name and not it.owner):
            owner = ""
        if isinstance(value.node, ast.Lambda):
            return owner, of_lambda(value.node, value.at, position, alone)
        if isinstance(value.node, ast.FunctionDef) and value.block is not None:
            return owner, of(Reader(value.node, list(own_statements(value.block)), position), position, alone)
    return "", None


@functools.lru_cache(256)
def of_function(lines: tuple[Line, ...], position: int, alone: bool) -> Hook | None:
    """What a function's lines say."""
    clause = next((one for each in nest(lines) for one in each if one.line.role == "def"), None)
    if clause is None or not clause.line.nodes or not isinstance(clause.line.nodes[0], ast.FunctionDef):
        return None
    return of(Reader(clause.line.nodes[0], list(own_statements(clause.block)), position), position, alone)


def of_lambda(node: ast.Lambda, at: int, position: int, alone: bool) -> Hook:
    names = [one.arg for one in node.args.args]
    function = ast.FunctionDef("<lambda>", node.args, [], [])
    reader = Reader(function, [], position)
    if not alone or len(names) != position + 1:
        return Hook("<lambda>")
    number, scalar = _kind(reader, node.body)
    return Hook(
        "<lambda>",
        number=(at, node.body) if number else None,
        scalar=(at, node.body) if scalar else None,
    )


def of(reader: Reader, position: int, alone: bool) -> Hook | None:
    name = reader.header.name
    if len(reader.names) <= position or reader.header.args.vararg is not None:
        return None
    replaced = reader.names[position]
    valued = [
        (at, node)
        for at, node in reader.nodes
        if isinstance(node, ast.Return) and not (isinstance(node.value, ast.Constant) or node.value is None)
    ]
    if any(
        isinstance(node, (ast.Yield, ast.YieldFrom, ast.Global, ast.Nonlocal)) for _, node in reader.nodes
    ):
        return Hook(name)
    if valued:
        if not alone or len(valued) > 1 or valued[0][1] is not reader.body[-1][1]:
            return Hook(name)
        at, returned = valued[0]
        if not isinstance(returned, ast.Return) or returned.value is None:
            return Hook(name)
        number, scalar = _kind(reader, returned.value)
        found: Found = (at, returned.value)
        return Hook(name, number=found if number else None, scalar=found if scalar else None)
    requires = any(_asks_for_gradient(node, replaced) for _, node in reader.nodes)
    lost = next(_dead(reader, replaced, alone), None)
    if lost is None:
        return Hook(name, requires=requires)
    statement, found = lost
    return Hook(name, found, statement is reader.body[-1][1], requires=requires)


def _asks_for_gradient(node: ast.AST, name: str) -> bool:
    """`output.requires_grad_()`, `output.requires_grad = True`."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value is True:
        owner, asked = node.targets[0], "requires_grad"
    elif isinstance(node, ast.Call) and not any(
        isinstance(each, ast.Constant) and each.value is False for each in node.args
    ):
        owner, asked = node.func, "requires_grad_"
    else:
        return False
    return (
        isinstance(owner, ast.Attribute)
        and owner.attr == asked
        and isinstance(owner.value, ast.Name)
        and owner.value.id == name
    )


def _kind(reader: Reader, node: ast.expr) -> tuple[bool, bool]:
    """Whether a value is surely no tensor; whether it is surely a scalar."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and reader.tensor(node.func.value):
        if node.func.attr in NUMBERS:
            return True, False
        return False, node.func.attr in SCALARS and not node.args and not node.keywords
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("float", "int"):
        return True, False
    return False, False


def _dead(reader: Reader, replaced: str, alone: bool) -> Iterator[tuple[ast.stmt, Found]]:
    """Where a new value of what the hook may replace is computed, and nobody takes it; where it is given
    `alone`, under whatever name."""
    loops = any(isinstance(node, (ast.For, ast.While, ast.AsyncFor)) for _, node in reader.body)
    inner = any(isinstance(node, (ast.Lambda, ast.FunctionDef)) for _, node in reader.nodes)
    if inner:
        return
    for number, (at, statement) in enumerate(reader.body):
        if loops and number != len(reader.body) - 1:
            continue
        if isinstance(statement, ast.Expr) and alone and reader.tensor(statement.value):
            if _is_new(statement.value) and _mentions(reader, statement.value, replaced):
                yield statement, (at, statement.value)
            continue
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            continue
        target, value = statement.targets[0], written(reader, statement.value)
        if not isinstance(target, ast.Name) or not _mentions(reader, value, replaced):
            continue
        if target.id != replaced and not (alone and _is_new(value)):
            continue
        if isinstance(value, (ast.Subscript, ast.Name)):
            continue  # `output = output[0]`: what follows looks at a part
        if not reader.read_behind(number, target.id):
            yield statement, (at, target)


def written(reader: Reader, node: ast.expr) -> ast.expr:
    """What a name was bound to, where it was bound once."""
    while isinstance(node, ast.Name) and len(values := reader.bound.get(node.id, [])) == 1:
        if values[0] is None or values[0] is node:
            break
        node = values[0]
    return node


def _mentions(reader: Reader, node: ast.AST, name: str, depth: int = 0) -> bool:
    """Whether a value is computed from what a name stands for, names in between looked through."""
    return any(
        part.id == name
        or (
            depth < 4
            and len(values := reader.bound.get(part.id, [])) == 1
            and values[0] is not None
            and _mentions(reader, values[0], name, depth + 1)
        )
        for part in ast.walk(node)
        if isinstance(part, ast.Name)
    )


def _is_new(node: ast.expr) -> bool:
    """Whether an expression is another value of the same shape, and nothing that is looked at."""
    if isinstance(node, ast.BinOp):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ELEMENTWISE
    return False
