"""Decorators of the file's own: whether what they make of a function is that function, called once more."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator

from gradsight.interpret.index import parsed
from gradsight.lines import Line
from gradsight.outline import Block, Clause

# What a wrapper may do beside calling that says something about gradients.
ACTS = re.compile(
    r"\b(no_grad|enable_grad|set_grad_enabled|inference_mode)\b"
    r"|\.(step|zero_grad|backward|detach_?|train|eval|requires_grad_?|update|unscale_|data|grad)\b"
)


@functools.lru_cache(4096)
def passes_on(lines: tuple[Line, ...]) -> bool:
    """Whether a decorator, or a function that makes one, changes nothing of what flows: the wrapper hands all
    its arguments to the decorated function and gives back its result. It logs, it times, it counts."""
    definition = parsed(lines)
    if definition is None or definition.body is None or any(ACTS.search(line.text) for line in lines):
        return False
    return _decorates(definition.node, definition.body) or any(
        _decorates(inner, clause.block) and _gives(definition.body, inner.name)
        for inner, clause in _functions(definition.body)
    )


def _decorates(node: ast.FunctionDef | ast.AsyncFunctionDef, body: Block) -> bool:
    if len(node.args.args) != 1:
        return False
    function = node.args.args[0].arg
    return any(
        _gives(body, wrapper.name) and _hands_on(wrapper, clause.block, function)
        for wrapper, clause in _functions(body)
    )


def _functions(block: Block) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, Clause]]:
    for statement in block:
        for clause in statement:
            for node in clause.line.nodes:
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and clause.block:
                    yield node, clause


def _gives(block: Block, name: str) -> bool:
    """Whether all that a body itself returns is one name."""
    returned = [
        node.value
        for statement in block
        for clause in statement
        for node in clause.line.nodes
        if isinstance(node, ast.Return)
    ]
    return bool(returned) and all(isinstance(one, ast.Name) and one.id == name for one in returned)


def _hands_on(wrapper: ast.FunctionDef | ast.AsyncFunctionDef, block: Block, function: str) -> bool:
    """Whether a wrapper returns what the function gives to its own `*args` and `**kwargs`."""
    given = [one.arg for one in (*wrapper.args.posonlyargs, *wrapper.args.args)]
    if wrapper.args.vararg is not None:
        given.append(f"*{wrapper.args.vararg.arg}")
    if wrapper.args.kwarg is not None:
        given.append(f"**{wrapper.args.kwarg.arg}")
    if not any(one.startswith("*") for one in given):
        return False

    def is_it(node: ast.expr | None) -> bool:
        if isinstance(node, ast.Await):
            node = node.value
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != function:
            return False
        handed = [ast.unparse(one) for one in node.args]
        handed += [f"**{ast.unparse(one.value)}" for one in node.keywords if one.arg is None]
        return handed == given and all(one.arg is None for one in node.keywords)

    nodes = [node for part in _parts(block) for node in ast.walk(part)]
    bound: dict[str, list[ast.expr | None]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            bound.setdefault(node.targets[0].id, []).append(node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            bound.setdefault(node.target.id, []).append(None)
    returned = [node.value for node in nodes if isinstance(node, ast.Return)]
    return bool(returned) and all(
        is_it(one) or (isinstance(one, ast.Name) and one.id in bound and all(map(is_it, bound[one.id])))
        for one in returned
    )


def _parts(block: Block) -> Iterator[ast.AST]:
    for statement in block:
        for clause in statement:
            yield from clause.line.nodes
            if clause.block:
                yield from _parts(clause.block)
