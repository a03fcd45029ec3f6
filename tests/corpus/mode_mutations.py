"""Mistakes in the mode that a module runs in.

As in `mutations.py`, a place fits by what the script did there. In most scripts no layer depends on the mode,
and many measure nothing: such a script is first given a dropout or a measurement, done right; `Mutant.good`
is then the program that the mutant is compared with.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from corpus.mutations import CLOSE, OPEN, Mutant, Mutator, Pieces, compose, last_assignments
from corpus.protocol_mutations import Step, behind_imports, model_of, statements_of
from corpus.registration_mutations import scaled_layers
from corpus.sites import Script, Site


def _droppings(script: Script) -> Iterator[tuple[str, Pieces]]:
    """The script as it is, and with dropout behind one of its layers: as a layer, or as a function."""
    if re.search("dropout|BatchNorm", script.text, re.IGNORECASE):
        yield "", []
    for made, (start, end) in scaled_layers(script):
        step, name = Step(script, made), ast.unparse(made.targets[0]).rpartition(".")[2]
        layer = (step.end, step.end, f"\n{step.indent}self.{name}_drop = torch.nn.Dropout(0.4)")
        call = script.text[start:end]
        yield ", with a layer", [layer, (start, end, f"self.{name}_drop({call})")]
        return
    for site in script.sites:
        node = site.node
        if isinstance(node, ast.Call) and script.source(node.func).rpartition(".")[2] == "Sequential":
            if len(node.args) > 1 and not any(isinstance(each, ast.Starred) for each in node.args):
                last = script.span(node.args[-1])[0]
                yield ", with a layer", [(last, last, "torch.nn.Dropout(0.4), ")]
                return


def evaluation_left_on(script: Script) -> Iterator[Mutant]:
    """GS601: nothing switches back to training."""
    evals = list(statements_of(script, "eval call"))
    trains = list(statements_of(script, "train call"))
    for of, given in _droppings(script):
        if evals and trains:
            marks = [mark for each in evals for mark in each.marks()]
            everywhere = [piece for each in trains for piece in each.removed()]
            yield compose(script, "GS601", f"no train{of}", [*everywhere, *marks, *given], good=given)
            for each in trains:
                gone = [*each.removed(), *marks]
                yield compose(script, "GS601", f"train removed{of}", [*gone, *given], good=given)
                if each.loop is not None and each.function is Step(script, each.loop).function:
                    loop = Step(script, each.loop)
                    moved = (loop.start, loop.start, f"{each.source}\n{loop.indent}")
                    yield compose(
                        script, "GS601", f"train before the loop{of}", [*gone, moved, *given], good=given
                    )
        for step in statements_of(script, "optimizer step"):
            model = model_of(script, step)
            if not model or step.loop is None or not step.indent or "." in model.removeprefix("self."):
                continue  # a part may be kept in evaluation mode on purpose
            loop = Step(script, step.loop)
            if step.function is loop.function:
                off = f"{OPEN}{model}.eval(){CLOSE}\n{loop.indent}"
                gone = [piece for each in trains for piece in each.removed()]
                before = [(loop.start, loop.start, off), *gone, *given]
                yield compose(script, "GS601", f"eval before the loop{of}", before, good=given)
            if any(each.loop is step.loop for each in trains):
                continue
            validated = f"\n{step.indent}{{}}{model}.eval(){{}}"
            wrong = (step.end, step.end, validated.format(OPEN, CLOSE))
            back = f"{validated.format('', '')}\n{step.indent}{model}.train()"
            yield compose(
                script,
                "GS601",
                f"eval in the turn{of}",
                [wrong, *given],
                good=[(step.end, step.end, back), *given],
            )
            helper = (
                "\n\ndef size_of(network):\n    {0}network.eval(){1}\n    with torch.no_grad():\n"
                "        total = sum(each.abs().sum().item() for each in network.parameters())\n{2}"
                "    return total\n\n\n"
            )
            at = behind_imports(script)
            call = (step.end, step.end, f"\n{step.indent}{OPEN}size_of({model}){CLOSE}")
            bare = (step.end, step.end, f"\n{step.indent}size_of({model})")
            yield compose(
                script,
                "GS601",
                f"a helper that switches{of}",
                [(at, at, helper.format(OPEN, CLOSE, "")), call, *given],
                good=[(at, at, helper.format("", "", "    network.train()\n")), bare, *given],
            )


def evaluated_in_training(script: Script) -> Iterator[Mutant]:
    """GS602: measured in training mode; functional dropout that is not told the mode."""
    calls = [
        site
        for site in script.sites
        if "module without gradient" in site.flags and isinstance(site.node, ast.Call)
    ]
    marks: Pieces = []
    for site in calls:
        if not any(
            other is not site and other.start <= site.start and site.end <= other.end for other in calls
        ):
            marks += [(site.start, site.start, OPEN), (site.end, site.end, CLOSE)]
    evals = list(statements_of(script, "eval call"))
    for of, given in _droppings(script):
        within = any(start <= mark[0] <= end for mark in marks for start, end, _ in given)
        for each in evals if marks and not within else ():
            yield compose(script, "GS602", f"eval removed{of}", [*each.removed(), *marks, *given], good=given)
        if not evals:
            yield from _measured(script, of, given)
    yield from _not_told(script)


def _measured(script: Script, of: str, given: Pieces) -> Iterator[Mutant]:
    """A measurement behind the training loop."""
    for step in statements_of(script, "optimizer step"):
        model = model_of(script, step)
        if not model or step.loop is None or not step.indent:
            continue
        loop = Step(script, step.loop)
        if step.function is not loop.function:
            continue
        while loop.loop is not None and Step(script, loop.loop).function is loop.function:
            loop = Step(script, loop.loop)
        inside = [site for site in script.sites if loop.start <= site.start < loop.end]
        measured = next((each for site in inside if (each := _loss_of(script, model, site))), None)
        if measured is None:
            continue
        call, name, loss = measured
        indent = f"\n{loop.indent}"
        head = (behind_imports(script), behind_imports(script), "measured = torch.zeros(1)\n")
        off = f"{indent}with torch.no_grad():{indent}    {name} = {{}}{indent}    test_loss = {loss}"
        shown = f"{indent}measured.fill_(test_loss.sum().item())"
        wrong = f"{off.format(f'{OPEN}{call}{CLOSE}')}{shown}"
        right = f"{indent}{model}.eval(){off.format(call)}{shown}"
        yield compose(
            script,
            "GS602",
            f"never switched{of}",
            [(loop.end, loop.end, wrong), head, *given],
            good=[(loop.end, loop.end, right), head, *given],
        )


def _loss_of(script: Script, model: str, site: Site) -> tuple[str, str, str] | None:
    """Of a criterion's call: the call of the model that it measures, the name in between, the loss."""
    criteria = {"cross entropy", "nll", "bce", "bce logits", "regression"}
    if not isinstance(site.node, ast.Call) or not site.flags & criteria or len(site.node.args) != 2:
        return None
    given = site.node.args[0]
    statement = script.parents[site.node]
    if not isinstance(given, ast.Name) or not isinstance(statement, ast.stmt):
        return None
    for bound in last_assignments(script, given, statement):
        call = bound.value
        if isinstance(call, ast.Call) and script.source(call.func) == model:
            return script.source(call), given.id, script.source(site.node)
    return None


def _not_told(script: Script) -> Iterator[Mutant]:
    for node in ast.walk(script.tree):
        if isinstance(node, ast.Call) and "dropout" in script.source(node.func):
            told = next((each for each in node.keywords if each.arg == "training"), None)
            if told is None or script.source(told.value) != "self.training":
                continue
            value = script.span(told.value)
            start = script.text.rindex(",", 0, script.text.rindex("training", 0, value[0]))
            own = script.span(node)
            pieces = [(start, value[1], ""), (own[0], own[0], OPEN), (own[1], own[1], CLOSE)]
            yield compose(script, "GS602", "dropout not told", pieces)
    if not any(True for _ in statements_of(script, "eval call")):
        return
    for _, (start, end) in scaled_layers(script):
        call = f"torch.nn.functional.dropout({script.text[start:end]}, 0.4{{}})"
        yield compose(
            script,
            "GS602",
            "dropout behind a layer not told",
            [(start, end, f"{OPEN}{call.format('')}{CLOSE}")],
            good=[(start, end, call.format(", training=self.training"))],
        )


MUTATORS: tuple[Mutator, ...] = (evaluation_left_on, evaluated_in_training)
