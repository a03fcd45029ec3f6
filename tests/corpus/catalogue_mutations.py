"""Mistakes in what a module registers.

As in `mutations.py`, a place fits by what the script did there. Where a script has nothing that could be done
wrong (no frozen part), it is first given it, done right: `Mutant.good` is then the program that the mutant is
compared with.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from corpus.mutations import CLOSE, OPEN, Mutant, Mutator, Pieces, compose, edited
from corpus.protocol_mutations import Step, statements_of
from corpus.sites import Script, Site

_NORMALIZED = re.compile(
    r"\b(\w*Linear|Conv[123]d|Embedding|LSTM|GRU|RNN|Sequential|LayerNorm|BatchNorm[123]d)\("
)


# Registration.


def plain_list(script: Script) -> Iterator[Mutant]:
    """GS402: layers in a plain list or dictionary."""
    for node in ast.walk(script.tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        call = node.value
        name = script.source(call.func).rpartition(".")[2]
        if name not in ("ModuleList", "ModuleDict") or not is_own(script, node.targets[0]):
            continue
        plain = "list" if name == "ModuleList" else "dict"
        empty = "[]" if name == "ModuleList" else "{}"
        inner = script.source(call.args[0]) if call.args else empty
        written = isinstance(call.args[0], (ast.List, ast.ListComp, ast.Dict)) if call.args else True
        if not call.keywords and len(call.args) < 2:
            text = inner if written else f"{plain}({inner})"
            yield compose(script, "GS402", plain, [(*script.span(call), f"{OPEN}{text}{CLOSE}")])
    for owner, assigned, made in own_layers(script):
        uses = uses_of(script, owner, assigned.targets[0])
        target = ast.unparse(assigned.targets[0])
        name = target.partition(".")[2]
        for style, holder, key in (
            ("layer in a list", f"[{made}]", "0"),
            ("layer in a dictionary", f'{{"{name}": {made}}}', f'"{name}"'),
        ):
            if uses:
                held = (*script.span(assigned.value), f"{OPEN}{holder}{CLOSE}")
                pieces: Pieces = [held, *((at, at, f"[{key}]") for _, at in uses)]
                yield compose(script, "GS402", style, pieces)


def parameter_in_list(script: Script) -> Iterator[Mutant]:
    """GS403: parameters in a plain list or dictionary."""
    for owner, assigned in own_attributes(script):
        call = assigned.value
        if not isinstance(call, ast.Call) or not script.source(call.func).endswith("Parameter"):
            continue
        made, uses = script.source(call), uses_of(script, owner, assigned.targets[0])
        name = ast.unparse(assigned.targets[0]).partition(".")[2]
        for style, holder, key in (
            ("list", f"[{made}]", "0"),
            ("tuple", f"({made},)", "0"),
            ("dictionary", f'{{"{name}": {made}}}', f'"{name}"'),
        ):
            if uses:
                held = (*script.span(call), f"{OPEN}{holder}{CLOSE}")
                yield compose(script, "GS403", style, [held, *((at, at, f"[{key}]") for _, at in uses)])


def made_in_forward(script: Script) -> Iterator[Mutant]:
    """GS405: a layer is made where it is called; what the constructor knew is kept for that."""
    learning = {
        script.source(site.node.func)
        for site in script.sites
        if "module" in site.flags and isinstance(site.node, ast.Call)
    }
    for owner, assigned in own_attributes(script):
        uses = uses_of(script, owner, assigned.targets[0])
        target = ast.unparse(assigned.targets[0])
        init = _function(script, assigned)
        methods = {
            _function(script, node)
            for node in ast.walk(owner)
            if isinstance(node, ast.Attribute) and script.span(node) in uses
        }
        if target not in learning or not isinstance(assigned.value, ast.Call) or len(methods) != 1:
            continue
        (method,) = methods
        if method is None or method is init or init is None:
            continue
        made, removed = _kept_for_later(script, owner, init, assigned)
        if made is None:
            continue
        if len(uses) == 1:
            ((start, end),) = uses
            yield compose(script, "GS405", "at the call", [(start, end, f"{OPEN}{made}{CLOSE}"), *removed])
        statement = _statement_at(script, uses[0][0])
        first = Step(script, method.body[0])
        if statement is None or not statement.indent or not first.indent:
            continue
        name = f"{target.partition('.')[2]}_now"
        begin = statement if len(uses) == 1 else first
        line = (begin.start, begin.start, f"{name} = {OPEN}{made}{CLOSE}\n{begin.indent}")
        pieces: Pieces = [line, *((*use, name) for use in uses), *removed]
        yield compose(script, "GS405", "before the call", pieces)


def _kept_for_later(
    script: Script, owner: ast.ClassDef, init: ast.FunctionDef, assigned: ast.Assign
) -> tuple[str | None, Pieces]:
    """What a constructor makes, written so that another method can; and the constructor without it."""
    taken = {each.attr for each in ast.walk(owner) if isinstance(each, ast.Attribute)}
    names = [each for each in ast.walk(assigned.value) if isinstance(each, ast.Name)]
    inner = {each.id for each in names if isinstance(each.ctx, ast.Store)}
    arguments = (
        *init.args.posonlyargs,
        *init.args.args,
        *init.args.kwonlyargs,
        init.args.vararg,
        init.args.kwarg,
    )
    local = {each.arg for each in arguments if each is not None} | {
        each.id for each in ast.walk(init) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }
    start, end = script.span(assigned.value)
    step = Step(script, assigned)
    if not step.indent or "super()" in script.text[start:end]:
        return None, []
    moved: Pieces = []
    kept = []
    for each in names:
        if each.id in local - inner - {"self"}:
            name = each.id if each.id not in taken else f"{each.id}_given"
            begin, stop = script.span(each)
            moved.append((begin - start, stop - start, f"self.{name}"))
            kept.append(f"self.{name} = {each.id}")
    lines = f"\n{step.indent}".join(dict.fromkeys(kept))
    removed: Pieces = [(step.start, step.end, lines)] if kept else list(step.removed())
    return edited(script.text[start:end], moved), removed


def plain_matrix(script: Script) -> Iterator[Mutant]:
    """GS401: a layer as a matrix of its own, which is a plain tensor."""
    for owner, assigned in own_attributes(script):
        call = assigned.value
        if not isinstance(call, ast.Call) or len(call.args) != 2:
            continue
        kind = script.source(call.func).rpartition(".")[2]
        bias = all(each.arg == "bias" for each in call.keywords)
        uses = uses_of(script, owner, assigned.targets[0])
        if kind not in ("Linear", "Embedding") or not bias or not uses:
            continue
        calls = [
            node
            for node in ast.walk(owner)
            if isinstance(node, ast.Call) and script.span(node.func) in uses and len(node.args) == 1
        ]
        if len(calls) != len(uses) or any(isinstance(node.args[0], ast.Starred) for node in calls):
            continue
        sizes = [script.source(each) for each in call.args]
        name = ast.unparse(assigned.targets[0])
        function = f"torch.nn.functional.{kind.lower()}"
        weight = f"torch.randn({', '.join(reversed(sizes) if kind == 'Linear' else sizes)})"
        used: Pieces = []
        for node in calls:
            begin, end = script.span(node.args[0])
            used += [(script.span(node.func)[0], begin, f"{function}("), (end, end, f", {name}")]
        if any(one is not other and one.lineno == other.lineno for one in calls for other in calls):
            continue  # one call in the other
        good: Pieces = [(*script.span(call), f"torch.nn.Parameter(0.1 * {weight})"), *used]
        leaf = f"{weight[:-1]}, requires_grad=True)"
        for style, text in (("matrix", f"0.1 * {weight}"), ("matrix that is a leaf", leaf)):
            bad: Pieces = [(*script.span(call), f"{OPEN}{text}{CLOSE}"), *used]
            yield compose(script, "GS401", style, bad, good=good)


def freeze(script: Script) -> Iterator[Mutant]:
    """GS407: a part is frozen by an attribute of the module, thawed again, or with all that is trained."""
    for site in script.sites:
        held = held_model(script, site)
        if held is None:
            continue
        model, statement, call = held
        line = Step(script, statement)
        if not line.indent and statement.col_offset:
            continue
        for part in _parts(script, model):
            first = f"{model}.{part}"
            good: Pieces = [(line.start, line.start, f"{first}.requires_grad_(False)\n{line.indent}")]
            attribute = f"{OPEN}{first}.requires_grad{CLOSE} = False\n{line.indent}"
            yield compose(script, "GS407", "attribute", [(line.start, line.start, attribute)], good=good)
            again = (
                f"{OPEN}{first}.requires_grad_(False){CLOSE}\n{line.indent}"
                f"{OPEN}{model}.requires_grad_(True){CLOSE}\n{line.indent}"
            )
            yield compose(script, "GS407", "taken back", [(line.start, line.start, again)], good=good)
            own = (*script.span(call), f"{first}.parameters()")
            frozen = f"{OPEN}{first}.requires_grad_(False){CLOSE}\n{line.indent}"
            marks: Pieces = [(site.start, site.start, OPEN), (site.end, site.end, CLOSE)]
            passes = [mark for each in statements_of(script, "backward") for mark in each.marks()]
            yield compose(
                script,
                "GS407",
                "all that is trained",
                [(line.start, line.start, frozen), own, *marks, *passes],
                good=[own],
                also=("GS207",),
            )
            learning = (*script.span(call), f"[p for p in {model}.parameters() if p.requires_grad]")
            thawed = f"\n{line.indent}{OPEN}{first}.requires_grad_(True){CLOSE}"
            late: Pieces = [*good, learning, (line.end, line.end, thawed), *marks]
            yield compose(script, "GS407", "thawed too late", late, good=[])


MUTATORS: tuple[Mutator, ...] = (
    plain_list,
    parameter_in_list,
    made_in_forward,
    plain_matrix,
    freeze,
)


# Where things stand.


def is_own(script: Script, target: ast.expr) -> bool:
    return isinstance(target, ast.Attribute) and script.source(target.value) == "self"


def _function(script: Script, node: ast.AST) -> ast.FunctionDef | None:
    while node is not None and not isinstance(node, ast.FunctionDef):
        node = script.parents.get(node)  # type: ignore[assignment]
    return node


def own_attributes(script: Script) -> Iterator[tuple[ast.ClassDef, ast.Assign]]:
    """`self.name = ...` in constructors, where it is the only assignment to that name."""
    for owner in ast.walk(script.tree):
        if not isinstance(owner, ast.ClassDef):
            continue
        stored = [
            each.attr
            for each in ast.walk(owner)
            if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
        ]
        for method in owner.body:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                for node in ast.walk(method):
                    if isinstance(node, ast.Assign) and len(node.targets) == 1:
                        target = node.targets[0]
                        if is_own(script, target) and stored.count(target.attr) == 1:  # type: ignore[attr-defined]
                            yield owner, node


def own_layers(script: Script) -> Iterator[tuple[ast.ClassDef, ast.Assign, str]]:
    """Those that are layers which learn, with the text that makes them."""
    for owner, assigned in own_attributes(script):
        made = script.source(assigned.value)
        if isinstance(assigned.value, ast.Call) and _NORMALIZED.match(made.rpartition("nn.")[2] or made):
            yield owner, assigned, made


def uses_of(script: Script, owner: ast.ClassDef, target: ast.expr) -> list[tuple[int, int]]:
    """Where a class reads its attribute; empty if anybody else seems to."""
    assert isinstance(target, ast.Attribute)
    inside = {id(each) for each in ast.walk(owner)}
    spans = []
    for node in ast.walk(script.tree):
        if isinstance(node, ast.Attribute) and node.attr == target.attr and isinstance(node.ctx, ast.Load):
            if id(node) not in inside or script.source(node.value) != "self":
                return []
            spans.append(script.span(node))
    return spans


def _statement_at(script: Script, offset: int) -> Step | None:
    """The innermost statement around an offset that is a simple one."""
    found = None
    for node in ast.walk(script.tree):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.Expr, ast.Return)):
            start, end = script.span(node)
            if start <= offset < end:
                found = Step(script, node)
    return found


def held_model(script: Script, site: Site) -> tuple[str, ast.stmt, ast.expr] | None:
    """The model whose `parameters()` an optimizer is made of, the statement, and that call."""
    if "optimizer" not in site.flags or not isinstance(site.node, ast.Call) or not site.node.args:
        return None
    call = site.node.args[0]
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and not call.args):
        return None
    if call.func.attr != "parameters" or not isinstance(call.func.value, (ast.Name, ast.Attribute)):
        return None
    node: ast.AST = site.node
    while not isinstance(node, ast.stmt):
        node = script.parents[node]
    return script.source(call.func.value), node, call


def _parts(script: Script, model: str) -> Iterator[str]:
    """At most two attributes of a model that look like layers, by the class that it was made of."""
    made = next(
        (
            script.source(node.value.func)
            for node in ast.walk(script.tree)
            if isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == model
            and isinstance(node.value, ast.Call)
        ),
        "",
    )
    number = 0
    for owner, assigned in own_attributes(script):
        value = assigned.value
        if owner.name == made and isinstance(value, ast.Call) and number < 2:
            if script.source(value.func).rpartition(".")[2][:1].isupper():
                number += 1
                yield ast.unparse(assigned.targets[0]).partition(".")[2]
