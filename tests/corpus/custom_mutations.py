"""Mistakes in gradients of one's own: autograd.Functions, hooks, gradients as values, checkpoints.

Few scripts have any of these. So a script is first given one, done right, at a place where it fits by what
the script did there; `Mutant.good` is then the program that the mutant is compared with.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import islice

from corpus.mutations import CLOSE, OPEN, Mutant, Mutator, Pieces, compose, last_assignments
from corpus.protocol_mutations import statements_of
from corpus.sites import Script, Site

MOST = 4  # places of one script for each kind of mistake

_FUNCTION = """class ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, factor):
        ctx.factor = factor
        ctx.save_for_backward({saved})
        return value * 1.0

    @staticmethod
    def backward(ctx, grad):
        {unpacked}
{rest}

"""
_RIGHT = {
    "saved": "value",
    "unpacked": "(value,) = ctx.saved_tensors",
    "rest": "        return grad * ctx.factor, None\n",
}
_BROKEN = {
    "too few": {"rest": f"        return {OPEN}grad * ctx.factor{CLOSE}\n"},
    "named and too few": {
        "rest": f"        scaled = grad * ctx.factor\n        return {OPEN}scaled{CLOSE}\n",
    },
    "nothing returned": {"rest": f"        {OPEN}scaled{CLOSE} = grad * ctx.factor\n"},
    "an expression": {"rest": f"        {OPEN}grad.mul(ctx.factor){CLOSE}\n"},
    "unpacks too many": {"unpacked": f"{OPEN}value, factor{CLOSE} = ctx.saved_tensors"},
    "a number saved": {"saved": "value, factor", "unpacked": "value, factor = ctx.saved_tensors"},
}


def function_contract(script: Script) -> Iterator[Mutant]:
    """GS701: a Function that scales a gradient on the way, with a backward that does not fit."""
    start = _top_level(script)
    for site in islice(_values(script), MOST):
        applied = (site.start, site.end, f"ScaledGradient.apply({script.source(site.node)}, 0.5)")
        good: Pieces = [(start, start, _FUNCTION.format(**_RIGHT)), applied]
        for style, parts in _BROKEN.items():
            text = _FUNCTION.format(**{**_RIGHT, **parts})
            if style == "a number saved":
                call = "ctx.save_for_backward(value, factor)"
                text = text.replace(call, f"{OPEN}{call}{CLOSE}")
            yield compose(script, "GS701", style, [(start, start, text), applied], good=good)
        instance = f"{OPEN}ScaledGradient()({script.source(site.node)}, 0.5){CLOSE}"
        yield compose(
            script,
            "GS701",
            "called",
            [(start, start, _FUNCTION.format(**_RIGHT)), (site.start, site.end, instance)],
            good=good,
        )


_HOOK = """def scale_gradient(grad):
    {body}


"""
_HOOKS = {
    "assigned": f"{OPEN}grad{CLOSE} = grad * 0.5",
    "an expression": f"{OPEN}grad.mul(0.5){CLOSE}",
    "another name": f"{OPEN}scaled{CLOSE} = grad * 0.5",
}


def hook(script: Script) -> Iterator[Mutant]:
    """GS702: a hook that scales a gradient on the way, and does not return it."""
    start = _top_level(script)
    for site in islice(_values(script), MOST):
        statement = script.parents[site.node]
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        begin, end = script.span(statement)
        indent = script.text[:begin].rpartition("\n")[2]
        if indent.strip() or script.text[end : script.text.find("\n", end)].strip():
            continue
        guard = f"{statement.targets[0].id}.requires_grad and "
        register = f"\n{indent}_ = {guard}{statement.targets[0].id}.register_hook(scale_gradient)"
        good: Pieces = [
            (start, start, _HOOK.format(body="return grad * 0.5")),
            (end, end, register),
        ]
        for style, body in _HOOKS.items():
            pieces = [(start, start, _HOOK.format(body=body)), (end, end, register)]
            yield compose(script, "GS702", style, pieces, good=good)


def create_graph(script: Script) -> Iterator[Mutant]:
    """GS703: a penalty on a gradient, without a graph of that gradient; `create_graph=True` taken away."""
    for node in ast.walk(script.tree):
        if not isinstance(node, ast.Call) or not script.source(node.func).endswith("grad"):
            continue
        for keyword in node.keywords:
            if (
                keyword.arg == "create_graph"
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value
            ):
                begin, end = script.span(node)
                value = script.span(keyword.value)
                pieces: Pieces = [(begin, begin, OPEN), (*value, "False"), (end, end, CLOSE)]
                yield compose(script, "GS703", "taken away", pieces)
    for step in islice(statements_of(script, "backward"), MOST):
        call = step.node.value if isinstance(step.node, ast.Expr) else None
        loss = (
            call.func.value if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else None
        )
        if not isinstance(loss, ast.Name) or not step.indent:
            continue
        given = next(
            (
                one
                for assigned in last_assignments(script, loss, step.node)
                for one in ast.walk(assigned.value)
                if isinstance(one, ast.Name)
                and (site := script.site(one)) is not None
                and "gradient" in site.flags
                and "0d" not in site.flags
            ),
            None,
        )
        if given is None:
            continue
        for style, keep in (
            ("nothing", "retain_graph=True"),
            ("False", "retain_graph=True, create_graph=False"),
        ):
            added = (
                f"slope = {{}}torch.autograd.grad({given.id}.pow(2).sum(), {given.id}, {{}}){{}}[0]\n"
                f"{step.indent}{loss.id} = {loss.id} + slope.pow(2).mean()\n{step.indent}"
            )
            good = [(step.start, step.start, added.format("", "create_graph=True", ""))]
            bad = [(step.start, step.start, added.format(OPEN, keep, CLOSE))]
            yield compose(script, "GS703", style, bad, good=good, term=True)


def checkpoint(script: Script) -> Iterator[Mutant]:
    """GS704: a module's call as a checkpoint that re-enters."""
    first = next(
        node
        for node in script.tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and getattr(node, "module", "") != "__future__"
    )
    start = script.span(first)[0]
    calls = [
        site
        for site in script.sites
        if "module" in site.flags
        and isinstance(site.node, ast.Call)
        and site.node.args
        and not site.node.keywords
        and not any(isinstance(one, ast.Starred) for one in site.node.args)
    ]
    for site in calls:
        assert isinstance(site.node, ast.Call)
        arguments = ", ".join(script.source(one) for one in site.node.args)
        module = script.source(site.node.func)
        call = f"torch.utils.checkpoint.checkpoint({module}, {arguments}, use_reentrant={{}})"
        library = (start, start, "import torch.utils.checkpoint\n")
        yield compose(
            script,
            "GS704",
            "re-entrant",
            [library, (site.start, site.end, f"{OPEN}{call.format(True)}{CLOSE}")],
            good=[library, (site.start, site.end, call.format(False))],
        )


def _values(script: Script) -> Iterator[Site]:
    """What is assigned, was computed and requires a gradient, and is no scalar."""
    for site in script.sites:
        parent = script.parents[site.node]
        if (
            {"gradient", "computed"} <= site.flags
            and "0d" not in site.flags
            and isinstance(parent, ast.Assign)
            and parent.value is site.node
            and isinstance(site.node, (ast.Call, ast.BinOp))
        ):
            yield site


def _top_level(script: Script) -> int:
    """Before the first class, function or statement that is no import, no docstring."""
    for node in script.tree.body:
        is_doc = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not isinstance(node, (ast.Import, ast.ImportFrom)) and not is_doc:
            decorators = node.decorator_list if isinstance(node, (ast.ClassDef, ast.FunctionDef)) else []
            return min([script.span(node)[0], *(script.span(one)[0] - 1 for one in decorators)])
    return len(script.text)


MUTATORS: tuple[Mutator, ...] = (function_contract, hook, create_graph, checkpoint)
