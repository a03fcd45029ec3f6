"""Mistakes in the order of things: clearing, backward, clipping, scaling, stepping, and what is kept.

As in `mutations.py`, a place fits by what the script did there. Where a script has nothing that could be
done wrong (no clipping, no scaler), it is first given it, done right: `Mutant.good` is then the program that
the mutant is compared with.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from corpus.mutations import CLOSE, OPEN, Mutant, Mutator, Pieces, compose
from corpus.sites import Script

_LOOPS = (ast.For, ast.While)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def missing_zero_grad(script: Script) -> Iterator[Mutant]:
    """GS203: `zero_grad` is gone, in a branch, or before the loop."""
    for clear in statements_of(script, "zero_grad"):
        near = _near(script, clear, "backward")
        if not near or clear.loop is None:
            continue
        marks = [mark for each in near for mark in each.marks()]
        yield compose(script, "GS203", "removed", [*clear.removed(), *marks])
        inner = clear.loop
        index = _index(inner)
        if index and clear.indent:
            body = f"if {index} % 2 == 0:\n{clear.indent}    {clear.source}"
            yield compose(script, "GS203", "in a branch", [(clear.start, clear.end, body), *marks])
        loop = Step(script, inner)
        if not any(isinstance(each, _FUNCTIONS) for each in _between(script, clear.node, inner)):
            moved = (loop.start, loop.start, f"{clear.source}\n{loop.indent}")
            yield compose(script, "GS203", "before the loop", [*clear.removed(), moved, *marks])


def zero_grad_before_step(script: Script) -> Iterator[Mutant]:
    """GS204: `zero_grad` between backward and step."""
    for back in statements_of(script, "backward"):
        for step in _same_block(script, back, "optimizer step"):
            if step.start < back.start:
                continue
            for clear in _same_function(script, back, "zero_grad"):
                if _receiver(clear.node) != _receiver(step.node) and "." not in clear.source:
                    continue
                again = (step.start, step.start, f"{OPEN}{clear.source}{CLOSE}\n{step.indent}")
                yield compose(script, "GS204", "moved", [*clear.removed(), again])
                yield compose(script, "GS204", "once more", [again])


def step_before_backward(script: Script) -> Iterator[Mutant]:
    """GS205: the step comes before the backward pass."""
    for back in statements_of(script, "backward"):
        if back.loop is None:
            continue
        for step in _same_block(script, back, "optimizer step"):
            if step.start < back.start:
                continue
            moved = (back.start, back.start, f"{OPEN}{step.source}{CLOSE}\n{back.indent}")
            yield compose(script, "GS205", "swapped", [*step.removed(), moved, *back.marks()])
            for clear in _same_block(script, back, "zero_grad"):
                if clear.end < back.start:
                    first = (clear.end, clear.end, f"\n{clear.indent}{OPEN}{step.source}{CLOSE}")
                    yield compose(
                        script, "GS205", "behind zero_grad", [*step.removed(), first, *back.marks()]
                    )


def uncalled(script: Script) -> Iterator[Mutant]:
    """GS206: the parentheses are missing, or a result is dropped."""
    for kind in ("zero_grad", "backward", "optimizer step"):
        for each in statements_of(script, kind):
            call = each.node.value  # type: ignore[attr-defined]
            name = f"{OPEN}{script.source(call.func)}{CLOSE}"
            yield compose(script, "GS206", f"{kind} not called", [(each.start, each.end, name)])
    for node in ast.walk(script.tree):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.value, ast.Call):
            continue
        func = node.value.func
        site = script.site(node.value)
        if (
            isinstance(func, ast.Attribute)
            and isinstance(node.targets[0], ast.Name)
            and ast.unparse(func.value) == node.targets[0].id
            and site is not None
            and site.flags & {"gradient", "0d", "tensor"}
        ):
            statement = Step(script, node)
            dropped = f"{OPEN}{script.source(node.value)}{CLOSE}"
            yield compose(script, "GS206", "result dropped", [(statement.start, statement.end, dropped)])


def backward_without_graph(script: Script) -> Iterator[Mutant]:
    """GS207: the loss is computed, or the whole step taken, while gradients are off."""
    also = ("GS105", "GS109")
    for back in statements_of(script, "backward"):
        block = _block(script, back.node)
        here = block.index(back.node)
        if here and back.indent:
            begin = 0
            for number, each in enumerate(block[:here]):
                if isinstance(each, (ast.Import, ast.FunctionDef, ast.ClassDef, *_LOOPS)):
                    begin = number + 1
            if begin < here:
                first = Step(script, block[begin])
                for context in ("no_grad", "inference_mode"):
                    head = f"with torch.{context}():\n{back.indent}    "
                    body = _indented(script.text[first.start : back.end])
                    yield compose(
                        script,
                        "GS207",
                        context,
                        [(first.start, back.end, f"{OPEN}{head}{body}{CLOSE}")],
                        also=also,
                    )
        function = back.function
        if function is not None:
            head_ = min([function.lineno, *(each.lineno for each in function.decorator_list)])
            start = script.offset(head_, 0)
            pieces = [(start, start, " " * function.col_offset + f"{OPEN}@torch.no_grad(){CLOSE}\n")]
            body = [(script.span(function)[0],) * 2 + (OPEN,), (script.span(function)[1],) * 2 + (CLOSE,)]
            yield compose(script, "GS207", "decorator", [*pieces, *body], also=also)


def graph_retained(script: Script) -> Iterator[Mutant]:
    """GS208: what was a number is kept with its graph."""
    for node in ast.walk(script.tree):
        value: ast.expr | None = None
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            value = node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and len(node.value.args) == 1:
            func = node.value.func
            if isinstance(func, ast.Attribute) and func.attr == "append":
                value = node.value.args[0]
        if value is None:
            continue
        for each in ast.walk(value):
            kept = _number_of(each)
            site = script.site(kept)
            if kept is None or site is None or not {"gradient", "0d"} <= site.flags:
                continue
            source = script.source(kept)
            statement = Step(script, node)
            piece = (*script.span(each), source)  # type: ignore[arg-type]
            yield compose(script, "GS208", "item dropped", [piece, *statement.marks()])
    for back in statements_of(script, "backward"):
        call = back.node.value  # type: ignore[attr-defined]
        if back.loop is None or not back.indent or not isinstance(call.func.value, ast.Name):
            continue
        loop = Step(script, back.loop)
        if back.function is not loop.function:
            continue
        loss = call.func.value.id
        for name, before, kept in (
            ("total_so_far", "0.0", "total_so_far += {}"),
            ("all_losses", "[]", "all_losses.append({})"),
        ):
            start = (loop.start, loop.start, f"{name} = {before}\n{loop.indent}")
            lines = [f"\n{back.indent}{kept.format(each)}" for each in (f"{loss}.item()", loss)]
            yield compose(
                script,
                "GS208",
                "sum" if before == "0.0" else "list",
                [start, (back.end, back.end, OPEN + lines[1] + CLOSE)],
                good=[start, (back.end, back.end, lines[0])],
            )


def hidden_state(script: Script) -> Iterator[Mutant]:
    """GS209: the detach that ends one window's graph is gone."""
    marks = [mark for each in statements_of(script, "backward") for mark in each.marks()]
    for node in ast.walk(script.tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.args:
            continue
        if node.func.attr not in ("detach", "detach_", "data"):
            continue
        site = script.site(node)
        statement = node
        while not isinstance(statement, ast.stmt):
            statement = script.parents[statement]  # type: ignore[assignment]
        start, end = script.span(node)
        source = script.source(node.func.value)
        where = script.span(statement)
        if site is not None and where[0] <= start and not isinstance(statement, _FUNCTIONS):
            pieces = [(where[0], where[0], OPEN), (start, end, source), (where[1], where[1], CLOSE), *marks]
            yield compose(script, "GS209", "detach dropped", pieces, also=("GS201",))


def carried_graph(script: Script) -> Iterator[Mutant]:
    """GS209: what is carried from turn to turn keeps its graph."""
    for back in statements_of(script, "backward"):
        call = back.node.value  # type: ignore[attr-defined]
        if back.loop is None or not back.indent or not isinstance(call.func.value, ast.Name):
            continue
        loop = Step(script, back.loop)
        if back.function is not loop.function or call.args or call.keywords:
            continue
        loss = call.func.value.id
        for style, before, joined, kept in (
            ("memory", "memory = 0.0", "{0} = {0} + 0.1 * memory", "memory = {0}{1}"),
            ("smoothed", "smooth = torch.zeros(())", "{0} = 0.9 * {0} + 0.1 * smooth", "smooth = {0}{1}"),
            ("list", "recent = []", "{0} = {0} + 0.1 * sum(recent[-2:])", "recent.append({0}{1})"),
        ):
            head: Pieces = [
                (loop.start, loop.start, f"{before}\n{loop.indent}"),
                (back.start, back.start, f"{joined.format(loss)}\n{back.indent}"),
            ]
            wrong, right = (
                (back.end, back.end, f"\n{back.indent}{kept.format(loss, cut)}") for cut in ("", ".detach()")
            )
            yield compose(
                script, "GS209", style, [*head, *back.marks(), wrong], also=("GS201",), good=[*head, right]
            )


def loss_not_returned(script: Script) -> Iterator[Mutant]:
    """GS210: a training step gives nothing back."""
    for function in ast.walk(script.tree):
        if not isinstance(function, ast.FunctionDef) or function.name != "training_step":
            continue
        for node in ast.walk(function):
            if (
                isinstance(node, ast.Return)
                and node.value is not None
                and script.site(node.value) is not None
            ):
                statement = Step(script, node)
                start = script.text.index(function.name, script.span(function)[0])
                marks = [(start, start, OPEN), (start + len(function.name),) * 2 + (CLOSE,)]
                yield compose(script, "GS210", "removed", [*statement.removed(), *marks])
                yield compose(script, "GS210", "bare", [(statement.start, statement.end, "return"), *marks])
                bare = script.source(node.value)
                if bare.isidentifier():
                    yield compose(
                        script, "GS210", "named only", [(statement.start, statement.end, bare), *marks]
                    )


def other_parameters(script: Script) -> Iterator[Mutant]:
    """GS211: the optimizer holds copies, another model's parameters, or those from before a replacement."""
    makers = [site for site in script.sites if "optimizer" in site.flags and isinstance(site.node, ast.Call)]
    models: list[str] = []
    for site in makers:
        held = _held(script, site.node)
        if held is not None:
            models.append(script.source(held.func.value))  # type: ignore[attr-defined]
    for site in makers:
        call = _held(script, site.node)
        if call is None:
            continue
        statement = site.node
        while not isinstance(statement, ast.stmt):
            statement = script.parents[statement]  # type: ignore[assignment]
        marks: Pieces = [(site.start, site.start, OPEN), (site.end, site.end, CLOSE)]
        start, end = script.span(call)
        model = script.source(call.func.value)  # type: ignore[attr-defined]
        copied: Pieces = [(start, end, f"copy.deepcopy({model}).parameters()")]
        if not _imports_copy(script):
            first = _first_import(script)
            copied.append((first, first, "import copy\n"))
        yield compose(script, "GS211", "deep copy", [*marks, *copied])
        source = script.source(call)
        for style, listed in (
            ("clones", f"[p.clone() for p in {source}]"),
            ("detached", f"[p.detach() for p in {source}]"),
            ("detached leaves", f"[p.detach().requires_grad_() for p in {source}]"),
        ):
            yield compose(script, "GS211", style, [*marks, (start, end, listed)])
        for other in dict.fromkeys(models):
            if other != model and (_root(other) == _root(model) or "." not in other + model):
                yield compose(script, "GS211", "other model", [*marks, (start, end, f"{other}.parameters()")])
        line = Step(script, statement)  # type: ignore[arg-type]
        made = _made(script, model, statement)  # type: ignore[arg-type]
        if made is not None and not isinstance(statement, ast.Return):
            anew = f"\n{line.indent}{model} = {made}"
            good: Pieces = [(line.start, line.start, f"{anew.strip()}\n{line.indent}")]
            yield compose(script, "GS211", "made anew", [*marks, (line.end, line.end, anew)], good=good)
            for attribute, layer in _layers(script, made):
                replaced = f"\n{line.indent}{model}.{attribute} = {layer}"
                good = [(line.start, line.start, f"{replaced.strip()}\n{line.indent}")]
                pieces = [*marks, (line.end, line.end, replaced)]
                yield compose(script, "GS211", "layer replaced", pieces, good=good)


def other_optimizer(script: Script) -> Iterator[Mutant]:
    """GS212: no step, or another optimizer's."""
    steps = list(statements_of(script, "optimizer step"))
    for step in steps:
        near = _near(script, step, "backward")
        marks = [mark for each in near for mark in each.marks()]
        if not near:
            continue
        yield compose(script, "GS212", "no step", [*step.removed(), *marks])
        for other in steps:
            if other.source != step.source and _root(other.source) == _root(step.source):
                swapped = (step.start, step.end, OPEN + other.source + CLOSE)
                yield compose(script, "GS212", "other step", [swapped, *marks])
            elif other.source != step.source and other.function is step.function:
                swapped = (step.start, step.end, OPEN + other.source + CLOSE)
                yield compose(script, "GS212", "other step", [swapped, *marks])


def clip(script: Script) -> Iterator[Mutant]:
    """GS213: clipped before backward, behind the step, or another network."""
    for back in statements_of(script, "backward"):
        for step in _same_block(script, back, "optimizer step"):
            if step.start < back.start or back.loop is None:
                continue
            clips = [
                each for each in _same_block(script, back, "clip") if back.start < each.start < step.start
            ]
            if any(
                back.start < each.start < step.start for each in _same_block(script, back, "optimizer step")
            ):
                continue
            good: Pieces | None = None
            gone: Pieces = []
            if clips:
                source, gone = clips[0].source, clips[0].removed()
                holder = clips[0].node.value.args[0]  # type: ignore[attr-defined]
                model = script.source(holder.func.value) if _is_parameters(holder) else ""
            else:
                model = model_of(script, step)
                held = f"{model}.parameters()"
                if not model:
                    held = f'{_receiver(step.node)}.param_groups[0]["params"]'
                source = f"torch.nn.utils.clip_grad_norm_({held}, 0.01)"
                good = [(step.start, step.start, f"{source}\n{step.indent}")]
            marked = f"{OPEN}{source}{CLOSE}"
            before = (back.start, back.start, f"{marked}\n{back.indent}")
            yield compose(script, "GS213", "before backward", [*gone, before], good=good)
            behind = (step.end, step.end, f"\n{step.indent}{marked}")
            yield compose(script, "GS213", "behind the step", [*gone, behind], good=good)
            for other in _other_models(script, model):
                wrong = OPEN + source.replace(f"{model}.parameters()", f"{other}.parameters()") + CLOSE
                at = clips[0] if clips else step
                piece = (at.start, at.end, wrong) if clips else (at.start, at.start, f"{wrong}\n{at.indent}")
                yield compose(script, "GS213", "another network", [piece], good=good)


def scaler(script: Script) -> Iterator[Mutant]:
    """GS214 (and GS213 with a scaler): a GradScaler that is used by half."""
    for back in statements_of(script, "backward"):
        call = back.node.value  # type: ignore[attr-defined]
        if back.loop is None or call.args or call.keywords:
            continue
        steps = [each for each in _same_block(script, back, "optimizer step") if each.start > back.start]
        if len(steps) != 1 or len(_near(script, steps[0], "backward")) != 1:
            continue
        step = steps[0]
        optimizer = _receiver(step.node)
        loss = script.source(call.func.value)
        made = behind_imports(script)
        head = (made, made, 'grad_scaler = torch.amp.GradScaler("cpu")\n\n')
        scaled = (back.start, back.end, f"grad_scaler.scale({loss}).backward()")
        stepped = f"grad_scaler.step({optimizer})"
        updated = f"\n{step.indent}grad_scaler.update()"
        clips = [each for each in _same_block(script, back, "clip") if back.start < each.start < step.start]
        unscaled: Pieces = (
            [(clips[0].start, clips[0].start, f"grad_scaler.unscale_({optimizer})\n{clips[0].indent}")]
            if clips
            else []
        )
        good = [head, scaled, *unscaled, (step.start, step.end, stepped + updated)]
        marked = f"{OPEN}{stepped}{CLOSE}"

        plain = f"{OPEN}{step.source}{CLOSE}"
        wrong: list[tuple[str, Pieces]] = [
            ("no update", [scaled, *unscaled, (step.start, step.end, marked)]),
            (
                "not scaled",
                [
                    (back.start, back.end, OPEN + back.source + CLOSE),
                    *unscaled,
                    (step.start, step.end, marked + updated),
                ],
            ),
        ]
        if clips:
            other = (clips[0].start, clips[0].end, OPEN + clips[0].source + CLOSE)
            pieces: Pieces = [head, scaled, other, (step.start, step.end, stepped + updated)]
            yield compose(script, "GS213", "clip before unscale_", pieces, good=good)
        else:
            both = f"{stepped}\n{step.indent}{plain}{updated}"
            wrong += [
                ("plain step", [scaled, (step.start, step.end, plain + updated)]),
                ("both steps", [scaled, (step.start, step.end, both)]),
                ("only scaled", [scaled, (step.start, step.end, plain)]),
            ]
        for style, pieces in wrong:
            yield compose(script, "GS214", style, [head, *pieces], good=good)


def parameter_laundered(script: Script) -> Iterator[Mutant]:
    """GS108: the loss becomes a leaf by force."""
    for back in statements_of(script, "backward"):
        call = back.node.value  # type: ignore[attr-defined]
        if not isinstance(call.func.value, ast.Name) or not back.indent:
            continue
        loss = call.func.value.id
        for style, text in (
            ("Variable", f"{loss} = {OPEN}torch.autograd.Variable({loss}.data, requires_grad=True){CLOSE}"),
            ("Parameter", f"{loss} = {OPEN}torch.nn.Parameter({loss}){CLOSE}"),
            ("tensor", f"{loss} = {OPEN}torch.tensor({loss}, requires_grad=True){CLOSE}"),
            ("item", f"{loss} = {OPEN}torch.tensor({loss}.item(), requires_grad=True){CLOSE}"),
            ("detach", f"{OPEN}{loss} = {loss}.detach().requires_grad_(){CLOSE}"),
            (
                "by attribute",
                f"{OPEN}{loss} = {loss}.detach()\n{back.indent}{loss}.requires_grad = True{CLOSE}",
            ),
        ):
            yield compose(
                script, "GS108", style, [(back.start, back.start, f"{text}\n{back.indent}"), *back.marks()]
            )


def mode_left_off(script: Script) -> Iterator[Mutant]:
    """GS109: gradients are switched off for an evaluation and never on again."""
    also = ("GS105", "GS207")
    marks = [mark for each in statements_of(script, "backward") for mark in each.marks()]
    for node in ast.walk(script.tree):
        if not isinstance(node, ast.With) or len(node.items) != 1:
            continue
        if ast.unparse(node.items[0].context_expr) not in ("torch.no_grad()", "torch.inference_mode()"):
            continue
        block = Step(script, node)
        first = Step(script, node.body[0])
        if not block.indent and node.col_offset:
            continue
        body = _dedented(script.text[first.start : block.end], first.node.col_offset - node.col_offset)
        off = f"{OPEN}torch.set_grad_enabled(False){CLOSE}\n{block.indent}"
        on = f"\n{block.indent}torch.set_grad_enabled(True)"
        inside = [mark for mark in marks if not block.start <= mark[0] <= block.end]
        restored: Pieces = [(block.start, block.end, _unmarked(off) + body + on)]
        for style, good in (("switch", None), ("not on again", restored)):
            yield compose(
                script, "GS109", style, [(block.start, block.end, off + body), *inside], also=also, good=good
            )
    for back in statements_of(script, "backward"):
        if back.loop is None:
            continue
        loop = Step(script, back.loop)
        off = f"{OPEN}torch.set_grad_enabled(False){CLOSE}\n{loop.indent}"
        yield compose(
            script, "GS109", "before the loop", [(loop.start, loop.start, off), *loop.marks()], also=also
        )


MUTATORS: tuple[Mutator, ...] = (
    missing_zero_grad,
    zero_grad_before_step,
    step_before_backward,
    uncalled,
    backward_without_graph,
    graph_retained,
    hidden_state,
    carried_graph,
    loss_not_returned,
    other_parameters,
    other_optimizer,
    clip,
    scaler,
    parameter_laundered,
    mode_left_off,
)


# Statements.


@dataclass(frozen=True, eq=False)
class Step:
    """A statement."""

    script: Script
    node: ast.stmt

    @property
    def start(self) -> int:
        return self.script.span(self.node)[0]

    @property
    def end(self) -> int:
        return self.script.span(self.node)[1]

    @property
    def source(self) -> str:
        return self.script.text[self.start : self.end]

    @property
    def indent(self) -> str:
        """What stands before it on its line; empty where that is not only blanks."""
        before = self.script.text[: self.start].rpartition("\n")[2]
        return before if not before.strip() else ""

    @property
    def loop(self) -> ast.stmt | None:
        """The innermost loop around it, or around a call of its function in the same file."""
        node: ast.AST | None = self.script.parents.get(self.node)
        while node is not None and not isinstance(node, (*_LOOPS, *_FUNCTIONS)):
            node = self.script.parents.get(node)
        if isinstance(node, _LOOPS):
            return node
        return None

    @property
    def function(self) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        node: ast.AST | None = self.script.parents.get(self.node)
        while node is not None and not isinstance(node, _FUNCTIONS):
            node = self.script.parents.get(node)
        return node

    def marks(self) -> Pieces:
        """What marks it as a place of the finding."""
        return [(self.start, self.start, OPEN), (self.end, self.end, CLOSE)]

    def removed(self) -> Pieces:
        """What takes it away."""
        if len(_block(self.script, self.node)) == 1:
            return [(self.start, self.end, "pass")]
        text = self.script.text
        begin = self.start - len(text[: self.start].rpartition("\n")[2])
        end = text.find("\n", self.end)
        rest = text[self.end : end if end >= 0 else len(text)].strip()
        if text[begin : self.start].strip() or (rest and not rest.startswith("#")):
            return [(self.start, self.end, "pass")]
        return [(begin, end + 1 if end >= 0 else len(text), "")]


def statements_of(script: Script, flag: str) -> Iterator[Step]:
    """The statements that are a call of this kind."""
    for site in script.sites:
        if flag in site.flags and isinstance(script.parents[site.node], ast.Expr):
            yield Step(script, script.parents[site.node])  # type: ignore[arg-type]


def _block(script: Script, node: ast.stmt) -> list[ast.stmt]:
    parent = script.parents[node]
    for name in ("body", "orelse", "finalbody"):
        block = getattr(parent, name, None)
        if isinstance(block, list) and node in block:
            return block
    return [node]


def _same_block(script: Script, step: Step, flag: str) -> list[Step]:
    block = _block(script, step.node)
    return [each for each in statements_of(script, flag) if each.node in block]


def _same_function(script: Script, step: Step, flag: str) -> list[Step]:
    return [each for each in statements_of(script, flag) if each.function is step.function]


def _near(script: Script, step: Step, flag: str) -> list[Step]:
    """Those in the same block, else in the same function, else all."""
    return (
        _same_block(script, step, flag)
        or _same_function(script, step, flag)
        or list(statements_of(script, flag))
    )


def _between(script: Script, node: ast.AST, outer: ast.AST) -> Iterator[ast.AST]:
    parent = script.parents[node]
    while parent is not outer:
        yield parent
        parent = script.parents[parent]


def _index(loop: ast.stmt) -> str:
    """The name that counts a loop's turns, if it has one."""
    if not isinstance(loop, ast.For) or not isinstance(loop.iter, ast.Call):
        return ""
    name = loop.iter.func.id if isinstance(loop.iter.func, ast.Name) else ""
    target = loop.target
    if name == "enumerate" and isinstance(target, ast.Tuple):
        target = target.elts[0]
    elif name != "range":
        return ""
    return target.id if isinstance(target, ast.Name) else ""


def _indented(text: str) -> str:
    first, *rest = text.splitlines(keepends=True)
    return "".join([first, *("    " + line if line.strip() else line for line in rest)])


def _dedented(text: str, by: int) -> str:
    first, *rest = text.splitlines(keepends=True)
    return "".join([first, *(line[by:] if not line[:by].strip() else line for line in rest)])


# Names.


def _receiver(node: ast.stmt) -> str:
    """Of a call that is a statement."""
    assert isinstance(node, ast.Expr)
    assert isinstance(node.value, ast.Call)
    func = node.value.func
    return ast.unparse(func.value) if isinstance(func, ast.Attribute) else ""


def _root(source: str) -> str:
    return source.partition(".")[0]


def _number_of(node: ast.AST) -> ast.expr | None:
    """What `x.item()`, `float(x)` and `x.detach()` are made of."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("item", "detach") and not node.args:
        inner = node.func.value
        return _number_of(inner) or inner
    if isinstance(node.func, ast.Name) and node.func.id == "float" and len(node.args) == 1:
        return node.args[0]
    return None


def _is_parameters(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "parameters"
        and not node.args
    )


def _held(script: Script, call: ast.expr) -> ast.Call | None:
    """`model.parameters()` as what an optimizer is made of."""
    assert isinstance(call, ast.Call)
    named = [each.value for each in call.keywords if each.arg == "params"]
    held = next(iter([*call.args, *named]), None)
    return held if isinstance(held, ast.Call) and _is_parameters(held) else None


def _imports_copy(script: Script) -> bool:
    return any(
        isinstance(node, ast.Import) and any(each.name == "copy" and not each.asname for each in node.names)
        for node in script.tree.body
    )


def _first_import(script: Script) -> int:
    """Where a line can be put before the imports."""
    return next(
        script.offset(node.lineno, 0)
        for node in script.tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and getattr(node, "module", "") != "__future__"
    )


def behind_imports(script: Script) -> int:
    """Where a statement can be put behind all of a file's imports."""
    last = [node for node in script.tree.body if isinstance(node, (ast.Import, ast.ImportFrom))][-1]
    end = script.text.find("\n", script.span(last)[1])
    return end + 1


def _made(script: Script, model: str, before: ast.stmt) -> str | None:
    """The text that makes a model, where it stands in the same block."""
    block = _block(script, before)
    if before not in block:
        return None
    for node in block[: block.index(before)]:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == model:
            if isinstance(node.value, ast.Call) and isinstance(node.value.func, (ast.Name, ast.Attribute)):
                return script.source(node.value)
    return None


def _layers(script: Script, made: str) -> Iterator[tuple[str, str]]:
    """Attributes of the class that is made which are layers of known size: at most two of them."""
    name = made.partition("(")[0]
    number = 0
    for node in script.tree.body:
        if not isinstance(node, ast.ClassDef) or node.name != name:
            continue
        for each in ast.walk(node):
            if not isinstance(each, ast.Assign) or not isinstance(each.targets[0], ast.Attribute):
                continue
            value = each.value
            if (
                isinstance(value, ast.Call)
                and value.args
                and ast.unparse(value.func).split(".")[-1] in ("Linear", "Conv1d", "Conv2d", "Embedding")
                and all(isinstance(arg, ast.Constant) for arg in value.args)
                and number < 2
            ):
                number += 1
                yield each.targets[0].attr, script.source(value)


def model_of(script: Script, step: Step) -> str:
    """The model that an optimizer was made for, if the place of the step can see it."""
    optimizer = _receiver(step.node)
    for site in script.sites:
        parent = script.parents[site.node]
        if "optimizer" not in site.flags or not isinstance(parent, ast.Assign):
            continue
        held = _held(script, site.node)
        if ast.unparse(parent.targets[0]) != optimizer or held is None:
            continue
        model = script.source(held.func.value)  # type: ignore[attr-defined]
        function, here = Step(script, parent).function, step.function
        if function is None or function is here or _root(model) == "self" == _root(optimizer):
            return model
        if here is not None and _root(model) in {each.arg for each in here.args.args}:
            return model
    return ""


def _other_models(script: Script, model: str) -> list[str]:
    """What other optimizers were made for."""
    if not model:
        return []
    found = []
    for site in script.sites:
        if "optimizer" in site.flags and (held := _held(script, site.node)) is not None:
            other = script.source(held.func.value)  # type: ignore[attr-defined]
            if other != model and (_root(other) == _root(model) or "." not in other + model):
                found.append(other)
    return list(dict.fromkeys(found))


def _unmarked(text: str) -> str:
    return text.replace(OPEN, "").replace(CLOSE, "")
