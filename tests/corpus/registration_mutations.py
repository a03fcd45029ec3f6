"""Mistakes in what a module registers of its tensors.

As in `mutations.py`, a place fits by what the script did there. Most modules hold nothing but layers: the
output of one is first scaled by a parameter or a buffer, done right; `Mutant.good` is then the program that
the mutant is compared with.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from corpus.catalogue_mutations import held_model, own_attributes, own_layers, uses_of
from corpus.mutations import CLOSE, OPEN, Mutant, Mutator, Pieces, compose
from corpus.protocol_mutations import Step
from corpus.sites import Script

_SCALES = re.compile(r"\b(\w*Linear|Conv[123]d|Embedding|LayerNorm|BatchNorm[123]d)\(")


def rewrapped_parameter(script: Script) -> Iterator[Mutant]:
    """GS404: a parameter is computed with before the module holds it."""
    for _, assigned in own_attributes(script):
        call = assigned.value
        if not isinstance(call, ast.Call) or not script.source(call.func).endswith("Parameter"):
            continue
        if len(call.args) != 1 or call.keywords:
            continue
        function, value = script.source(call.func), script.source(call.args[0])
        for style, changed in (("scaled", "{} * 0.5"), ("negated", "-{}"), ("divided", "{} / 2")):
            inner = value if changed == "{}" else f"({value})"
            right = f"{function}({changed.format(inner)})"
            wrong = f"{OPEN}{changed.format(script.source(call))}{CLOSE}"
            whole = script.span(call)
            yield compose(script, "GS404", style, [(*whole, wrong)], good=[(*whole, right)])
        copied = f"{OPEN}{script.source(call)}.clone(){CLOSE}"
        yield compose(script, "GS404", "cloned", [(*script.span(call), copied)])
    for made, called in scaled_layers(script):
        step, (start, end), name = Step(script, made), called, _name(made)
        use = (start, end, f"({script.text[start:end]} * self.{name}_scale)")
        for style, wrong, right in (
            ("scaled", "torch.nn.Parameter(torch.ones(1)) * 0.5", "torch.nn.Parameter(torch.ones(1) * 0.5)"),
            ("drawn", "0.1 * torch.nn.Parameter(torch.rand(1))", "torch.nn.Parameter(0.1 * torch.rand(1))"),
            (
                "cast",
                "torch.nn.Parameter(torch.ones(1)).half()",
                "torch.nn.Parameter(torch.ones(1).half())",
            ),
        ):
            line = f"\n{step.indent}self.{name}_scale = {{}}"
            yield compose(
                script,
                "GS404",
                f"{style}, of a layer",
                [(step.end, step.end, line.format(f"{OPEN}{wrong}{CLOSE}")), use],
                good=[(step.end, step.end, line.format(right)), use],
            )


def left_behind(script: Script) -> Iterator[Mutant]:
    """GS406: a plain tensor where a buffer would move with its module."""
    moves: Pieces = []
    if ".to(device)" not in script.text and ".cuda()" not in script.text:
        for site in script.sites:
            held = held_model(script, site)
            if held is None or moves:
                continue
            model, statement, _ = held
            line = Step(script, statement)
            if line.indent or not statement.col_offset:
                device = 'device = torch.device("cuda" if torch.cuda.is_available() else "cpu")'
                text = f"{device}\n{line.indent}{model}.to(device)\n{line.indent}"
                moves = [(line.start, line.start, text)]
        if not moves:
            return
    for node in ast.walk(script.tree):
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
            continue
        call = node.value
        if not script.source(call.func).endswith("self.register_buffer") or len(call.args) < 2:
            continue
        name = call.args[0]
        if isinstance(name, ast.Constant) and _meets(script, node, name.value):
            plain = f"self.{name.value} = {OPEN}{script.source(call.args[1])}{CLOSE}"
            yield compose(
                script, "GS406", "plain attribute", [(*script.span(node), plain), *moves], good=moves
            )
    for made, (start, end) in scaled_layers(script):
        step, name = Step(script, made), _name(made)
        use = (start, end, f"({script.text[start:end]} * self.{name}_scale)")
        for style, value in (("scale", "torch.full((1,), 0.5)"), ("range", "torch.linspace(0.5, 0.5, 1)")):
            head = f"\n{step.indent}"
            wrong = f"{head}self.{name}_scale = {OPEN}{value}{CLOSE}"
            right = f'{head}self.register_buffer("{name}_scale", {value})'
            yield compose(
                script,
                "GS406",
                f"{style}, of a layer",
                [(step.end, step.end, wrong), use, *moves],
                good=[(step.end, step.end, right), use, *moves],
            )


def _meets(script: Script, node: ast.AST, name: object) -> bool:
    """Whether a class computes with its attribute and with what has a gradient."""
    while not isinstance(node, ast.ClassDef):
        node = script.parents[node]
        if isinstance(node, ast.Module):
            return False
    for each in ast.walk(node):
        outer = script.site(script.parents[each])
        if isinstance(each, ast.Attribute) and each.attr == name and outer is not None:
            if "gradient" in outer.flags and isinstance(outer.node, (ast.BinOp, ast.Call)):
                return True
    return False


def scaled_layers(script: Script) -> Iterator[tuple[ast.Assign, tuple[int, int]]]:
    """The layers of modules whose output is a tensor that is computed at one place, with that call."""
    for owner, assigned, made in own_layers(script):
        spans = uses_of(script, owner, assigned.targets[0])
        if len(spans) != 1 or not _SCALES.search(made):
            continue
        for site in script.sites:
            node = site.node
            if isinstance(node, ast.Call) and script.span(node.func) == spans[0] and "module" in site.flags:
                yield assigned, (site.start, site.end)


def _name(assigned: ast.Assign) -> str:
    return ast.unparse(assigned.targets[0]).rpartition(".")[2]


MUTATORS: tuple[Mutator, ...] = (rewrapped_parameter, left_behind)
