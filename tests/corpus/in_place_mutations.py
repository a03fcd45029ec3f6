"""Mistakes with writes in place: on leaves, over what backward needs, past autograd.

As in `mutations.py`, a place fits by what the script did there. The right program writes the same numbers to
a new tensor, or under `no_grad`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from corpus.mutations import CLOSE, OPEN, Mutant, Mutator, compose
from corpus.protocol_mutations import Step
from corpus.sites import Script

_LAYER = re.compile(r"(?:^|\.)(?:Linear|Conv[123]d|Embedding)$")


def on_a_leaf(script: Script) -> Iterator[Mutant]:
    """GS501: `.data` or `no_grad` is forgotten, or a fresh layer is scaled while gradients are recorded."""
    for node in ast.walk(script.tree):
        if not isinstance(node, ast.stmt):
            continue
        target = _written(node)
        if isinstance(target, ast.Attribute) and target.attr == "data":
            start, end = script.span(target.value)[1], script.span(target)[1]
            yield compose(script, "GS501", "data forgotten", [(start, end, ""), *_marked(script, node)])
        if isinstance(node, ast.With) and script.source(node.items[0].context_expr) == "torch.no_grad()":
            inside = [one for one in node.body if _written(one) is not None]
            if inside:
                head = (*_whole(script, node), "if True")
                marks = [mark for one in inside for mark in _marked(script, one)]
                yield compose(script, "GS501", "no_grad forgotten", [head, *marks])
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and len(node.targets) == 1:
            if _LAYER.search(script.source(node.value.func)) and not isinstance(node.targets[0], ast.Tuple):
                step = Step(script, node)
                weight = f"{script.source(node.targets[0])}.weight"
                if step.indent or not script.text[: step.start].rpartition("\n")[2]:
                    right = f"\n{step.indent}with torch.no_grad():\n{step.indent}    {weight}.mul_(0.5)"
                    wrong = f"\n{step.indent}{OPEN}{weight}.mul_(0.5){CLOSE}"
                    yield compose(
                        script,
                        "GS501",
                        "fresh layer",
                        [(step.end, step.end, wrong)],
                        good=[(step.end, step.end, right)],
                    )


def over_what_is_kept(script: Script) -> Iterator[Mutant]:
    """GS502: a value on the way is scaled in place behind what uses it, or at once."""
    for step, name, later in _values(script):
        for behind, how in ((step, "at once"), (later, "behind its use")):
            if behind is None:
                continue
            right = f"\n{behind.indent}{name} = {name} * 0.5"
            for style, wrong in (("mul_", f"{name}.mul_(0.5)"), ("*=", f"{name} *= 0.5")):
                yield compose(
                    script,
                    "GS502",
                    f"{style} {how}",
                    [(behind.end, behind.end, f"\n{behind.indent}{OPEN}{wrong}{CLOSE}")],
                    good=[(behind.end, behind.end, right)],
                    also=("GS501",),  # of a part of a parameter
                )


def past_autograd(script: Script) -> Iterator[Mutant]:
    """GS503: a value on the way is scaled through `.data`, or under `no_grad`."""
    for step, name, _ in _values(script):
        right = [(step.end, step.end, f"\n{step.indent}{name} = {name} * 0.5")]
        data = f"\n{step.indent}{OPEN}{name}.data.mul_(0.5){CLOSE}"
        yield compose(script, "GS503", "data", [(step.end, step.end, data)], good=right)
        off = f"\n{step.indent}with torch.no_grad():\n{step.indent}    {OPEN}{name}.mul_(0.5){CLOSE}"
        yield compose(script, "GS503", "no_grad", [(step.end, step.end, off)], also=("GS502",), good=right)


def _values(script: Script) -> Iterator[tuple[Step, str, Step | None]]:
    """Names that a tensor with a gradient is bound to, with the next statement of the block that reads it."""
    for node in ast.walk(script.tree):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        site, target = script.site(node.value), node.targets[0]
        if not isinstance(target, ast.Name) or site is None or not {"gradient", "computed"} <= site.flags:
            continue
        if "0d" in site.flags or "leaf" in site.flags:
            continue
        step = Step(script, node)
        if not step.indent and script.text[: step.start].rpartition("\n")[2]:
            continue
        block = getattr(script.parents[node], "body", [])
        behind = block[block.index(node) + 1 :] if node in block else []
        later = next((one for one in behind if _reads(one, target.id)), None)
        simple = isinstance(later, (ast.Assign, ast.AugAssign, ast.Expr))
        yield step, target.id, Step(script, later) if later is not None and simple else None


def _reads(node: ast.stmt, name: str) -> bool:
    return any(
        isinstance(one, ast.Name) and one.id == name and isinstance(one.ctx, ast.Load)
        for one in ast.walk(node)
    )


def _written(node: ast.stmt) -> ast.expr | None:
    """What a statement writes to in place."""
    if isinstance(node, ast.AugAssign):
        return node.target
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        func = node.value.func
        if isinstance(func, ast.Attribute) and func.attr.endswith("_") and not func.attr.endswith("__"):
            return func.value
    return None


def _marked(script: Script, node: ast.stmt) -> list[tuple[int, int, str]]:
    start, end = script.span(node)
    return [(start, start, OPEN), (end, end, CLOSE)]


def _whole(script: Script, node: ast.With) -> tuple[int, int]:
    """From `with` to the end of what it enters."""
    return script.span(node)[0], script.span(node.items[-1].context_expr)[1]


MUTATORS: tuple[Mutator, ...] = (on_a_leaf, over_what_is_kept, past_autograd)
