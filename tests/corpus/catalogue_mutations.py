"""Mistakes in what a loss is given and in what a module registers.

As in `mutations.py`, a place fits by what the script did there. Where a script has nothing that could be done
wrong (no binary loss, no frozen part), it is first given it, done right: `Mutant.good` is then
the program that the mutant is compared with.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from corpus.mutations import CLOSE, OPEN, Mutant, Mutator, Pieces, compose
from corpus.protocol_mutations import Step, statements_of
from corpus.sites import Script, Site

_F = "torch.nn.functional"
_NORMALIZED = re.compile(
    r"\b(\w*Linear|Conv[123]d|Embedding|LSTM|GRU|RNN|Sequential|LayerNorm|BatchNorm[123]d)\("
)


# Losses.


def sigmoid(script: Script) -> Iterator[Mutant]:
    """GS304: a sigmoid before a loss that has its own, and none before one that has not."""
    for site, given, _ in _losses(script, "bce logits"):
        start, end = script.span(given)
        text = f"{OPEN}torch.sigmoid({script.source(given)}){CLOSE}"
        yield compose(script, "GS304", "one too many", [(start, end, text)])
        yield from _returned(script, site, given, "GS304", "torch.sigmoid")
    for _, given, _ in _losses(script, "bce"):
        if isinstance(given, ast.Call) and "sigmoid" in script.source(given.func) and given.args:
            inner = f"{OPEN}{script.source(given.args[0])}{CLOSE}"
            yield compose(script, "GS304", "none", [(*script.span(given), inner)])
    for site, given, target in _losses(script, "regression"):
        scores, wanted = script.source(given), f"(({script.source(target)}) > 0).float()"
        whole = script.span(site.node)

        def loss(name: str, prediction: str, wanted: str = wanted, whole: tuple[int, int] = whole) -> Pieces:
            return [(*whole, f"{_F}.{name}({prediction}, {wanted})")]

        logits = "binary_cross_entropy_with_logits"
        marked = f"{OPEN}torch.sigmoid({scores}){CLOSE}"
        yield compose(script, "GS304", "two sigmoids", loss(logits, marked), good=loss(logits, scores))
        if "raw" in site.flags:
            right = loss("binary_cross_entropy", f"torch.sigmoid({scores})")
            bare = loss("binary_cross_entropy", f"{OPEN}{scores}{CLOSE}")
            yield compose(script, "GS304", "no sigmoid", bare, good=right)


def target_dtype(script: Script) -> Iterator[Mutant]:
    """GS305: a target of a dtype that the loss refuses."""
    for site, _, target in (*_losses(script, "cross entropy"), *_losses(script, "nll")):
        if "indices" in site.flags:
            for cast in ("float()", "int()"):
                marked = f"{OPEN}{_receiver(script, target)}.{cast}{CLOSE}"
                yield compose(script, "GS305", cast, [(*script.span(target), marked)])
    for kind in ("bce", "bce logits"):
        for _, _, target in _losses(script, kind):
            marked = f"{OPEN}{_receiver(script, target)}.long(){CLOSE}"
            yield compose(script, "GS305", "long()", [(*script.span(target), marked)])
    for site, given, target in _losses(script, "regression"):
        scores, wanted = script.source(given), f"(({script.source(target)}) > 0)"
        for style, name in (
            ("binary", "binary_cross_entropy_with_logits"),
            ("huber", "huber_loss"),
        ):
            text = f"{_F}.{name}({scores}, {{}})"
            marked = text.format(f"{OPEN}{wanted}.long(){CLOSE}")
            right = text.format(f"{wanted}.float()")
            yield compose(
                script,
                "GS305",
                style,
                [(*script.span(site.node), marked)],
                good=[(*script.span(site.node), right)],
            )


def broadcast(script: Script) -> Iterator[Mutant]:
    """GS306: one side of a regression loss has a dimension of size 1 more than the other."""
    for site, given, target in _losses(script, "regression"):
        marks: Pieces = [(site.start, site.start, OPEN), (site.end, site.end, CLOSE)]
        for one in (given, target):
            written = script.source(one)
            squeezed = re.search(r"\.(squeeze|flatten|view|reshape)\((-1|1|)\)$", written)
            if squeezed and "flat" in site.flags:
                dropped = (*script.span(one), written[: squeezed.start()])
                yield compose(script, "GS306", "squeeze dropped", [dropped, *marks])
            grown = re.search(r"\.unsqueeze\((-1|1)\)$", written)
            if grown and "column" in site.flags:
                dropped = (*script.span(one), written[: grown.start()])
                yield compose(script, "GS306", "unsqueeze dropped", [dropped, *marks])
        if "column" in site.flags:
            flat = (*script.span(target), f"{_receiver(script, target)}.squeeze(1)")
            yield compose(script, "GS306", "target squeezed", [flat, *marks])
        if "rows" in site.flags:
            mean = {side: f"{_receiver(script, side)}.mean(dim=1" for side in (given, target)}
            right: Pieces = [(*script.span(side), f"{text}, keepdim=True)") for side, text in mean.items()]
            for style, dropped in (("target", target), ("prediction", given)):
                flat = (*script.span(dropped), f"{mean[dropped]})")
                kept = right[0] if dropped is target else right[1]
                pieces: Pieces = [flat, kept]
                yield compose(script, "GS306", f"keepdim dropped: {style}", [*pieces, *marks], good=right)


def other_criterion(script: Script) -> Iterator[Mutant]:
    """GS308: sides exchanged, a divergence of what is no log-probability."""
    for site, given, target in (
        each
        for kind in ("cross entropy", "nll", "bce", "bce logits", "kl div")
        for each in _losses(script, kind)
    ):
        first = (*script.span(given), f"{OPEN}{script.source(target)}{CLOSE}")
        second = (*script.span(target), script.source(given))
        yield compose(script, "GS308", "exchanged", [first, second])
        if "kl div" in site.flags and "log_softmax" in script.source(given):
            dropped = script.source(given).replace("log_softmax", "softmax")
            yield compose(script, "GS308", "no logarithm", [(*script.span(given), f"{OPEN}{dropped}{CLOSE}")])
        moved = re.search(r"\.(transpose\(1, 2\)|permute\(0, 2, 1\))$", script.source(given))
        if moved and "cross entropy" in site.flags:
            bare = script.source(given)[: moved.start()]
            yield compose(script, "GS308", "classes last", [(*script.span(given), f"{OPEN}{bare}{CLOSE}")])
    for site, given, target in _losses(script, "regression"):
        if not site.flags & {"rows", "more"}:
            continue
        whole, scores, wanted = script.span(site.node), script.source(given), script.source(target)
        log = f"{_F}.log_softmax({{}}, dim=-1)"
        plain = f"{_F}.softmax({{}}, dim=-1)"
        text = f'{_F}.kl_div({OPEN}{{}}{CLOSE}, {{}}, reduction="batchmean")'
        right = (log.format(scores), plain.format(wanted))
        good: Pieces = [(*whole, text.format(*right).replace(OPEN, "").replace(CLOSE, ""))]
        for style, sides in (
            ("divergence of probabilities", (plain.format(scores), right[1])),
            ("divergence of scores", (scores, right[1])),
            ("divergence exchanged", (right[1], right[0])),
        ):
            if style == "divergence of scores" and "raw" not in site.flags:
                continue
            yield compose(script, "GS308", style, [(*whole, text.format(*sides))], good=good)


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
    """GS405: a layer is made where it is called."""
    for owner, assigned, made in own_layers(script):
        init = _function(script, assigned)
        local = {each.arg for each in init.args.args} if init is not None else set()
        names = {each.id for each in ast.walk(assigned.value) if isinstance(each, ast.Name)}
        uses = uses_of(script, owner, assigned.targets[0])
        if names & (local - {"self"}) or "self." in made or len(uses) != 1:
            continue
        ((start, end),) = uses
        fresh = (start, end, f"{OPEN}{made}{CLOSE}")
        yield compose(script, "GS405", "at the call", [fresh, *Step(script, assigned).removed()])
        statement = _statement_at(script, start)
        if statement is not None and statement.indent and not isinstance(statement.node, ast.Return):
            name = ast.unparse(assigned.targets[0]).partition(".")[2]
            line = (statement.start, statement.start, f"{name} = {OPEN}{made}{CLOSE}\n{statement.indent}")
            pieces = [line, (start, end, name), *Step(script, assigned).removed()]
            yield compose(script, "GS405", "before the call", pieces)


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
    sigmoid,
    target_dtype,
    broadcast,
    other_criterion,
    plain_list,
    parameter_in_list,
    made_in_forward,
    freeze,
)


# Where things stand.


def _losses(script: Script, kind: str) -> Iterator[tuple[Site, ast.expr, ast.expr]]:
    """The calls of a kind of criterion, with both sides."""
    for site in script.sites:
        if kind in site.flags and isinstance(site.node, ast.Call) and len(site.node.args) >= 2:
            yield site, site.node.args[0], site.node.args[1]


def _returned(script: Script, loss: Site, given: ast.expr, rule: str, function: str) -> Iterator[Mutant]:
    """What comes into a loss goes through a function where it is returned."""
    start, end = script.span(given)
    for site in script.sites:
        if site.number in loss.arrived and isinstance(script.parents[site.node], ast.Return):
            inner = (site.start, site.end, f"{function}({script.source(site.node)})")
            yield compose(script, rule, "returned", [inner, (start, start, OPEN), (end, end, CLOSE)])


def _receiver(script: Script, node: ast.expr) -> str:
    source = script.source(node)
    return f"({source})" if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Compare)) else source


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
