"""Mistakes in what a loss is the sum of, in what it follows, and in what its derivative is.

As in `mutations.py`, a place fits by what the script did there. Most losses are one call of a criterion: such
a script is first given a second term, a target that is computed from the model, or a root, done right;
`Mutant.good` is then the program that the mutant is compared with.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from corpus.mutations import CLOSE, OPEN, Mutant, Mutator, Pieces, backwards, compose, last_assignments
from corpus.protocol_mutations import Step, behind_imports
from corpus.sites import Script, Site

# Terms.


def lost_term(script: Script) -> Iterator[Mutant]:
    """GS309: a term is left out, overwritten, added twice, or weighted by 0."""
    for assigned, loss in _losses(script):
        yield from _of_a_sum(script, assigned, loss)
        step = Step(script, assigned)
        for value in _computed_before(script, assigned):
            # A penalty on what the model computes, as people add it to a loss.
            term = f"0.05 * {value}.pow(2).mean()"
            lead = f"{script.source(assigned)}\n{step.indent}"
            whole = (step.start, step.end)
            good: Pieces = [(*whole, f"{lead}penalty = {term}\n{step.indent}{loss} = {loss} + penalty")]
            marked = f"{OPEN}penalty = {term}{CLOSE}"
            for style, text, least in (
                ("left out", f"{lead}{marked}", "information"),
                (
                    "overwritten",
                    f"{OPEN}{script.source(assigned)}{CLOSE}\n{step.indent}{loss} = {term}",
                    "information",
                ),
                (
                    "added twice",
                    f"{lead}penalty = {term}\n{step.indent}{OPEN}{loss} = {loss} + penalty{CLOSE}\n"
                    f"{step.indent}{OPEN}{loss} += penalty{CLOSE}",
                    "information",
                ),
                (
                    "weight 0",
                    f"{lead}penalty = {term}\n{step.indent}{loss} = {loss} + {OPEN}0.0 * penalty{CLOSE}",
                    "hint",
                ),
            ):
                yield compose(script, "GS309", style, [(*whole, text)], good=good, severity=least)


def _of_a_sum(script: Script, assigned: ast.Assign, loss: str) -> Iterator[Mutant]:
    """The script's own terms, where its loss is a sum and they have names."""
    terms = _summands(assigned.value)
    whole, text = script.span(assigned.value), script.source(assigned.value)
    for term in terms if len(terms) > 1 else ():
        name = next((each for each in ast.walk(term) if _is_loss_name(script, each)), None)
        if not isinstance(name, ast.Name):
            continue
        weighted = isinstance(term, ast.BinOp) and term.right is name and isinstance(term.op, ast.Mult)
        if term is name or weighted:
            zero = (*script.span(term), f"{OPEN}0 * {name.id}{CLOSE}")
            yield compose(script, "GS309", "own weight 0", [zero], severity="hint")
        again = f"{OPEN}{text} + {script.source(term)}{CLOSE}"
        yield compose(script, "GS309", "own added twice", [(*whole, again)], severity="information")
        rest = " + ".join(script.source(each) for each in terms if each is not term)
        for bound in last_assignments(script, name, assigned):
            first, last = script.span(bound)
            pieces = [(*whole, rest), (first, first, OPEN), (last, last, CLOSE)]
            yield compose(script, "GS309", "own left out", pieces, severity="information")


def _summands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_summands(node.left), *_summands(node.right)]
    return [node]


def _is_loss_name(script: Script, node: ast.AST) -> bool:
    site = script.site(node) if isinstance(node, ast.Name) else None
    return site is not None and {"gradient", "0d"} <= site.flags


def _losses(script: Script) -> Iterator[tuple[ast.Assign, str]]:
    """The assignments that `backward` is called on right behind, with the loss's name."""
    for call, statement in backwards(script):
        assert isinstance(call.func, ast.Attribute)
        if isinstance(call.func.value, ast.Name) and Step(script, statement).indent:
            for assigned in last_assignments(script, call.func.value, statement):
                site = script.site(assigned.value)
                if site is not None and {"gradient", "0d"} <= site.flags:
                    yield assigned, call.func.value.id


def _computed_before(script: Script, assigned: ast.Assign) -> Iterator[str]:
    """The last value with dimensions that the same block computes before a loss, by its name."""
    block = getattr(script.parents[assigned], "body", [])
    before = block[: block.index(assigned)] if assigned in block else []
    for each in reversed(before):
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
            site = script.site(each.value)
            if site is not None and "computed" in site.flags and "0d" not in site.flags:
                yield each.targets[0].id
                return


# Targets.


def moving_target(script: Script) -> Iterator[Mutant]:
    """GS110: a target is computed with a gradient, an advantage is not detached."""
    for site in script.sites:
        if not isinstance(site.node, ast.Call) or len(site.node.args) < 2 or "regression" not in site.flags:
            continue
        given, target = site.node.args[:2]
        if not site.flags & {"column", "rows", "flat"} or not isinstance(given, ast.Name):
            continue
        scores, wanted = script.source(given), script.source(target)
        # What is predicted for one row is bootstrapped from what is predicted for the next.
        value = f"torch.roll({scores}, -1, dims=0)"
        right: Pieces = [(*script.span(target), f"{wanted} + 0.9 * {value}.detach()")]
        for style, text in (
            ("next value", f"{wanted} + 0.9 * (1.0 - done) * {value}"),
            ("discounted", f"{wanted} + gamma * {value}"),
        ):
            setting = "gamma = 0.9\n" if "gamma" in text else "done = 0.0\n"
            head = (behind_imports(script), behind_imports(script), setting)
            bad: Pieces = [(*script.span(target), f"{OPEN}{text}{CLOSE}"), head]
            good: Pieces = [(*right[0][:2], text.replace(value, f"{value}.detach()")), head]
            yield compose(script, "GS110", style, bad, good=good, severity="hint")
    for node in ast.walk(script.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "detach":
            parent = script.parents[node]
            factor = isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Mult)
            text = script.source(node.func.value)
            if factor and re.search(r"adv|delta|td_error", text):
                assert isinstance(parent, ast.expr)
                start, end = script.span(parent)
                undone: Pieces = [(*script.span(node), text), (start, start, OPEN), (end, end, CLOSE)]
                yield compose(script, "GS110", "advantage", undone, severity="hint")


# Derivatives.


def infinite_derivative(script: Script) -> Iterator[Mutant]:
    """GS307: a root hidden by `where`, a root of 0, the logarithm of a softmax."""
    for site in _activations(script):
        value, start, end = script.source(site.node), site.start, site.end
        for style, bad, right in (
            ("hidden root", "torch.sqrt({0})", "torch.sqrt(torch.where({0} > 0, {0}, 1.0))"),
            ("hidden power", "{0} ** 0.5", "torch.where({0} > 0, {0}, 1.0) ** 0.5"),
        ):
            chosen = "({0} + torch.where({0} > 0, {1}, 0.0))"
            wrong = chosen.format(value, f"{OPEN}{bad.format(value)}{CLOSE}")
            good = chosen.format(value, right.format(value))
            yield compose(script, "GS307", style, [(start, end, wrong)], good=[(start, end, good)])
        root = f"{OPEN}torch.sqrt({value}){CLOSE}"
        filled = f"({value} + {root}.masked_fill({value} <= 0, 0.0))"
        safe = (
            f"({value} + torch.sqrt({value}.masked_fill({value} <= 0, 1.0)).masked_fill({value} <= 0, 0.0))"
        )
        yield compose(script, "GS307", "filled behind", [(start, end, filled)], good=[(start, end, safe)])
        if "2d" in site.flags:
            pairs = f"({value}.unsqueeze(1) - {value}.unsqueeze(0)).pow(2).sum(dim=-1)"
            wrong = f"({value} + 0.01 * {OPEN}torch.sqrt({pairs}){CLOSE}.mean())"
            right = f"({value} + 0.01 * torch.sqrt({pairs} + 1e-8).mean())"
            yield compose(
                script, "GS307", "distances to itself", [(start, end, wrong)], good=[(start, end, right)]
            )
    for site in script.sites:
        if "cross entropy" not in site.flags or not isinstance(site.node, ast.Call):
            continue
        if "indices" not in site.flags or len(site.node.args) != 2 or site.node.keywords:
            continue
        scores, target = (script.source(each) for each in site.node.args)
        text = f"torch.nn.functional.nll_loss({{}}, {target})"
        sharp = f"({scores}) / 1e-4"  # a low temperature: what is unlikely has probability 0
        marked = f"{OPEN}torch.log(torch.softmax({sharp}, dim=1)){CLOSE}"
        whole = script.span(site.node)
        right = f"torch.log_softmax({sharp}, dim=1)"
        yield compose(
            script, "GS307", "logarithm of softmax", [(*whole, text.format(marked))],
            good=[(*whole, text.format(right))], severity="hint",
        )  # fmt: skip


def _activations(script: Script) -> Iterator[Site]:
    """Names of computed values that are given to something, each once in a statement."""
    seen: set[tuple[str, int]] = set()
    for site in script.sites:
        parent = script.parents[site.node]
        if (
            {"gradient", "computed"} <= site.flags
            and site.flags & {"2d", "3d", "4d"}
            and isinstance(site.node, ast.Name)
            and isinstance(parent, ast.Call)
            and site.node in parent.args
        ):
            key = (site.node.id, site.node.lineno)
            if key not in seen:
                seen.add(key)
                yield site


MUTATORS: tuple[Mutator, ...] = (lost_term, moving_target, infinite_derivative)
