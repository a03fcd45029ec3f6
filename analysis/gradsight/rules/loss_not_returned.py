"""
A training step, a loss or a model that returns nothing.

## What it does
Flags a Lightning module's `training_step` that ends without returning its loss and calls no backward pass
itself. Also a loss that is `None` where its `backward()` is called, and a prediction that is `None` where a
criterion is given it: what computes it has no `return`.

## Why is this bad?
Lightning takes a step that returns `None` for one to be skipped: nothing is differentiated, no weight moves.
Nothing is raised there; a `None` that is differentiated or compared raises.

## Use instead
Return the loss, or a dictionary that holds it under `"loss"`.

```python
def training_step(self, batch, batch_idx):
    x, y = batch
    loss = self.criterion(self(x), y)
    self.log("loss", loss)
    return loss
```

Where it is a function elsewhere that returns nothing, no fix is offered at the call.

## When it is right
Manual optimization, which calls `manual_backward` itself. Not flagged.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.interpret.index import LOSS_NAME
from gradsight.lines import Line
from gradsight.outline import outline
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    for event in q.all("unreturned"):
        where = event.place("call")
        if where is not None:
            yield RULE.report(
                SEVERITY["starved"],
                "`training_step` returns no loss: Lightning skips the step, and nothing learns",
                where,
            )

    for event in q.all("nothing"):
        where, value = event.place("call"), event.place("root")
        if where is None or value is None:
            continue
        text, of = q.text_of(value), event.fact("of")
        if of == "backward":
            raised = "`backward()` raises \"'NoneType' object has no attribute 'backward'\""
        else:
            raised = f"`{of.rpartition('.')[2]}` raises, as it wants a tensor"
        yield RULE.report(
            SEVERITY["raises"],
            f"`{text}` is None here, and {raised}: what computes it has no `return`",
            where,
        )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    header = source.unit_at(source.row_column(finding.where.start)[0])
    body = surgery.block_under(source, header)
    if not body or source.units[body[-1]].header:
        return  # what a last block leaves is not known to have a loss in each of its ways
    last = source.units[body[-1]]
    losses = [name for at in body if (name := bound_loss(source.units[at]))]
    edits: tuple[Edit, ...] | surgery.Refusal
    if not losses and (call := dropped(source, last)) is not None:
        where = source.span_of(body[-1], call)
        title = f"Return what `{ast.unparse(call.func)}` returns"
        edits = surgery.insert_return(source, where)
    elif not losses:
        return
    elif [type(node) for node in last.nodes] == [ast.Return]:
        where = source.span_of(body[-1], last.nodes[0])
        title, edits = f"Return `{losses[-1]}`", (Edit(source.file, where, f"return {losses[-1]}"),)
    else:
        title = f"Return `{losses[-1]}`"
        edits = surgery.append_to_block(source, header, f"return {losses[-1]}")
    if not isinstance(edits, surgery.Refusal):
        yield Fix(title, Applicability.UNSAFE, edits)


def dropped(source: Source, line: Line) -> ast.Call | None:
    """The call of a method of this file that a line drops what it returns of."""
    node = line.nodes[0] if len(line.nodes) == 1 else None
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    if not isinstance(call.func.value, ast.Name) or call.func.value.id != "self":
        return None
    whole = outline(source.units)
    for name, region in zip(whole.names, whole.functions, strict=True):
        if name.endswith(f".{call.func.attr}"):
            nodes = (part for own in region.lines for part in own.nodes)
            return call if any(isinstance(part, ast.Return) and part.value for part in nodes) else None
    return None


def bound_loss(line: Line) -> str:
    """The name, or attribute of `self`, that a line binds to what is called a loss; else nothing."""
    node = line.nodes[0] if len(line.nodes) == 1 else None
    target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
    if isinstance(node, (ast.AugAssign, ast.AnnAssign)):
        target = node.target
    if isinstance(target, ast.Tuple):
        named = [part.id for part in target.elts if isinstance(part, ast.Name)]
        return next((name for name in named if LOSS_NAME.search(name)), "")
    if not isinstance(target, (ast.Name, ast.Attribute)):
        return ""
    name = ast.unparse(target)
    return name if LOSS_NAME.search(name) else ""


RULE = Rule("GS210", "loss-not-returned", check, fix)
