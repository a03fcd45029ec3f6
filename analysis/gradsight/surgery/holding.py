"""What an optimizer is given becomes the model's own parameters. Works on logical lines alone."""

from __future__ import annotations

import ast

from gradsight.finding import Edit
from gradsight.surgery.order import block_end, call_at, function_around, insert_behind, simple_statement
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span

_COPIES = ("clone", "detach", "requires_grad_", "copy", "deepcopy", "Parameter", "float", "to")


def own_parameters(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """The optimizer made at `where` is given parameters instead of copies of them.

    `[p.clone() for p in net.parameters()]` becomes `net.parameters()`, also where a name is bound to it;
    `copy.deepcopy(net).parameters()` becomes `net.parameters()`.
    """
    unit = source.unit_at(source.row_column(where.start)[0])
    call = call_at(source, unit, where)
    if call is None:
        return Refusal("no call that makes an optimizer stands there")
    given = next((each.value for each in call.keywords if each.arg == "params"), None)
    given = given or (call.args[0] if call.args else None)
    if isinstance(given, ast.Name):
        head = function_around(source, where)
        for at in range(unit - 1, head, -1):
            node = source.units[at].nodes[0] if len(source.units[at].nodes) == 1 else None
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.Assign) and [ast.unparse(one) for one in targets] == [given.id]:
                text = _own(source, at, node.value)
                if not text:
                    return Refusal("what the name holds are no plain copies")
                return (Edit(source.file, source.span_of(at, node.value), f"list({text})"),)
        return Refusal("where the name is bound is not plain to see")
    text = _own(source, unit, given) if given is not None else ""
    if given is None or not text:
        return Refusal("what the optimizer is given are no plain copies")
    return (Edit(source.file, source.span_of(unit, given), text),)


def made_again(source: Source, where: Span, name: str) -> tuple[Edit, ...] | Refusal:
    """The optimizer made at `where` is made once more behind the line below that makes `name` anew.

    Refuses where the statement needs a name that is not known there.
    """
    unit = source.unit_at(source.row_column(where.start)[0])
    simple = simple_statement(source, unit, where)
    if not isinstance(simple, ast.Assign) or len(simple.targets) != 1:
        return Refusal("this is no statement of its own")
    head = function_around(source, where)
    for at in range(unit + 1, len(source.units)):
        node = source.units[at].nodes[0] if len(source.units[at].nodes) == 1 else None
        if not isinstance(node, ast.Assign) or [ast.unparse(one) for one in node.targets] != [name]:
            continue
        anchor = source.span_of(at, node.value)
        if function_around(source, anchor) != head:
            bound = _bound(source, head)
            local = {one.id for one in ast.walk(simple.value) if isinstance(one, ast.Name)} & bound - {"self"}
            if local or not all(
                ast.unparse(each).startswith("self.") for each in (simple.targets[0], node.targets[0])
            ):
                return Refusal("the statement needs names that are not known there")
        return insert_behind(source, anchor, source.slice(source.span_of(unit, simple)))
    return Refusal("nothing below makes it anew")


def _own(source: Source, unit: int, node: ast.expr) -> str:
    """The parameters that an expression copies, as they are written; nothing if it does something else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("list", "tuple"):
        return _own(source, unit, node.args[0]) if len(node.args) == 1 else ""
    if isinstance(node, (ast.ListComp, ast.GeneratorExp)) and len(node.generators) == 1:
        loop = node.generators[0]
        if loop.ifs or not _is_parameters(loop.iter) or not isinstance(loop.target, ast.Name):
            return ""
        return source.slice(source.span_of(unit, loop.iter)) if _is_copy(node.elt, loop.target.id) else ""
    if _is_parameters(node) and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        made = node.func.value
        if isinstance(made, ast.Call) and len(made.args) == 1 and not made.keywords:
            if ast.unparse(made.func).rpartition(".")[2] in ("deepcopy", "copy"):
                return f"{source.slice(source.span_of(unit, made.args[0]))}.parameters()"
    return ""


def _is_parameters(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "parameters"
        and not node.args
    )


def _is_copy(node: ast.expr, name: str) -> bool:
    """Whether an expression is a copy of what a name holds: `p.detach().clone()`, `nn.Parameter(p.data)`."""
    copied = False
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute):
            if node.attr != "data":
                return False
            node, copied = node.value, True
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _COPIES
        ):
            on_itself = not node.args or node.func.attr in ("to", "requires_grad_")
            node, copied = (node.func.value if on_itself else node.args[0]), True
        else:
            return False
    return copied and node.id == name


def _bound(source: Source, head: int) -> set[str]:
    """The names of a function: what it is given, and what its lines bind."""
    if head < 0:
        return set()
    out: set[str] = set()
    for node in (each for part in source.units[head].nodes for each in ast.walk(part)):
        if isinstance(node, ast.arg):
            out.add(node.arg)
    for line in source.units[head + 1 : block_end(source, head)]:
        for node in (each for part in line.nodes for each in ast.walk(part)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                out.add(node.id)
    return out
