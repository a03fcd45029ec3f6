"""Writes in place: not recorded, or made a new tensor; and a copy where somebody keeps the old one.

Works on logical lines alone; loads no libcst unless a name has to be looked up.
"""

from __future__ import annotations

import ast

from gradsight.finding import Edit
from gradsight.surgery.imports import spelling
from gradsight.surgery.order import in_loop, line_end, simple_statement
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span

_SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.MatMult: "@", ast.Mod: "%",
}  # fmt: skip
_TIGHT = (ast.Name, ast.Constant, ast.Attribute, ast.Subscript, ast.Call)


def under_no_grad(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """The statement that holds `where` moves into a `with torch.no_grad():` of its own."""
    found = _alone(source, where)
    if isinstance(found, Refusal):
        return found
    _, span, indent = found
    if "\n" in source.slice(span) and ('"""' in source.slice(span) or "'''" in source.slice(span)):
        return Refusal("a text of several lines would change")
    name = spelling(source, "torch.no_grad")
    if isinstance(name, Refusal):
        return name
    step = "\t" if "\t" in indent else "    "
    head = f"with {name.name}():{line_end(source)}{indent}{step}"
    return (*name.edits, Edit(source.file, Span(span.start, span.start), head))


def out_of_place(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`x += y` becomes `x = x + y`, `x.mul_(2)` as a statement `x = x.mul(2)`, and `f(x, inplace=True)` is
    told not to. Only names and attributes are bound anew.
    """
    unit = source.unit_at(source.row_column(where.start)[0])
    statement = simple_statement(source, unit, where)
    if statement is None:
        return Refusal("this is no statement of its own")
    if isinstance(statement, ast.AugAssign):
        return _augmented(source, unit, statement)
    call = next(
        (
            node
            for node in ast.walk(statement)
            if isinstance(node, ast.Call) and source.span_of(unit, node) == where
        ),
        None,
    )
    if call is None:
        return Refusal("this is no call")
    flag = next((word for word in call.keywords if word.arg == "inplace"), None)
    if flag is not None:
        return (Edit(source.file, source.span_of(unit, flag.value), "False"),)
    method = call.func
    if not isinstance(method, ast.Attribute) or not method.attr.endswith("_") or method.attr in _NO_TWIN:
        return Refusal("there is no such operation that makes a new tensor")
    end = source.span_of(unit, method).end
    twin = Edit(source.file, Span(end - 1, end), "")
    if isinstance(statement, ast.Expr) and statement.value is call:
        if not _bindable(method.value):
            return Refusal("what is written to has no name")
        name = source.slice(source.span_of(unit, method.value))
        start = source.span_of(unit, statement).start
        return (Edit(source.file, Span(start, start), f"{name} = "), twin)
    if (
        isinstance(statement, ast.Assign)
        and statement.value is call
        and len(statement.targets) == 1
        and ast.dump(as_load(statement.targets[0])) == ast.dump(method.value)
    ):
        return (twin,)  # `x = x.mul_(2)`
    return Refusal("others may have the tensor that is written to")


def seen_by_autograd(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`x.data.mul_(y)` and `x.detach().mul_(y)` as statements become `x = x.mul(y)`."""
    unit = source.unit_at(source.row_column(where.start)[0])
    statement = simple_statement(source, unit, where)
    if isinstance(statement, ast.AugAssign):
        target, sign = statement.target, _SIGNS.get(type(statement.op))
        if sign is None or not (isinstance(target, ast.Attribute) and target.attr == "data"):
            return Refusal("this is no write through `.data`")
        return _augmented(source, unit, statement, target.value)
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return Refusal("this is no statement of its own")
    method = statement.value.func
    if not isinstance(method, ast.Attribute) or not method.attr.endswith("_") or method.attr in _NO_TWIN:
        return Refusal("there is no such operation that makes a new tensor")
    cut = method.value
    if isinstance(cut, ast.Call) and not cut.args and not cut.keywords:
        cut = cut.func
    if not isinstance(cut, ast.Attribute) or cut.attr not in ("data", "detach") or not _bindable(cut.value):
        return Refusal("what is written to has no name")
    name = source.span_of(unit, cut.value)
    start = source.span_of(unit, statement).start
    end = source.span_of(unit, method).end
    return (
        Edit(source.file, Span(start, start), f"{source.slice(name)} = "),
        Edit(source.file, Span(name.end, source.span_of(unit, method.value).end), ""),
        Edit(source.file, Span(end - 1, end), ""),
    )


def written_to_copy(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`x.data[mask] = 0` becomes `x = x.clone()` and `x[mask] = 0`."""
    found = _part_written(source, where)
    if isinstance(found, Refusal):
        return found
    target, span, indent, _ = found
    unit = source.unit_at(source.row_column(where.start)[0])
    cut = target.value
    if not isinstance(cut, ast.Attribute) or cut.attr != "data" or not isinstance(cut.value, ast.Name):
        return Refusal("what is written to has no name")
    name = cut.value.id
    copied = f"{name} = {name}.clone()" + line_end(source) + indent
    return (
        Edit(source.file, Span(span.start, span.start), copied),
        Edit(source.file, Span(source.span_of(unit, cut.value).end, source.span_of(unit, cut).end), ""),
    )


def copied_first(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`x[0] = y` gets a line `x = x.clone()` before it."""
    found = _part_written(source, where)
    if isinstance(found, Refusal):
        return found
    target, span, indent, several = found
    if several:
        return Refusal("no part of a tensor is written to")
    if not _bindable(target.value):
        return Refusal("what is written to has no name")
    if in_loop(source, source.unit_at(source.row_column(where.start)[0])):
        return Refusal("each turn of a loop would copy the whole")
    name = ast.unparse(target.value)
    copied = f"{name} = {name}.clone()" + line_end(source) + indent
    return (Edit(source.file, Span(span.start, span.start), copied),)


def _part_written(source: Source, where: Span) -> tuple[ast.Subscript, Span, str, bool] | Refusal:
    """The target `x[0]` at `where`, its statement's span and indentation, and whether it has others."""
    found = _alone(source, where)
    if isinstance(found, Refusal):
        return found
    statement, span, indent = found
    unit = source.unit_at(source.row_column(where.start)[0])
    targets: list[ast.expr] = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AugAssign):
        targets = [statement.target]
    target = targets[0] if targets else None
    if not isinstance(target, ast.Subscript) or source.span_of(unit, target) != where:
        return Refusal("no part of a tensor is written to")
    return target, span, indent, len(targets) > 1


def drawn_anew(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`noise.normal_()` as a statement becomes `noise = torch.randn_like(noise)`."""
    found = _alone(source, where)
    if isinstance(found, Refusal):
        return found
    statement, span, _ = found
    call = statement.value if isinstance(statement, ast.Expr) else None
    if (
        not isinstance(call, ast.Call)
        or call.args
        or call.keywords
        or not isinstance(call.func, ast.Attribute)
    ):
        return Refusal("this is no draw of its own")
    drawn = {"normal_": "randn_like", "uniform_": "rand_like"}.get(call.func.attr)
    if drawn is None or not _bindable(call.func.value):
        return Refusal("this is no draw of its own")
    function = spelling(source, f"torch.{drawn}")
    if isinstance(function, Refusal):
        return function
    name = ast.unparse(call.func.value)
    return (*function.edits, Edit(source.file, span, f"{name} = {function.name}({name})"))


def seen_outside(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`x.mul_(y)` in a `with torch.no_grad():` becomes `x = x.mul(y)` outside of it."""
    unit = source.unit_at(source.row_column(where.start)[0])
    moved = _out_of_block(source, where)
    if isinstance(moved, Refusal):
        return moved
    if ".grad" in source.units[unit].text:
        return Refusal("weights are updated by hand there")
    changed = out_of_place(source, where)
    return changed if isinstance(changed, Refusal) else (*moved, *changed)


def _out_of_block(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    from gradsight.surgery.blocks import move_out_of_no_grad

    unit = source.unit_at(source.row_column(where.start)[0])
    indent = source.units[unit].indent
    for at in range(unit, -1, -1):
        line = source.units[at]
        if line.code and (at == unit or line.indent < indent):
            indent = min(indent, line.indent)
            if line.role == "def":
                break
            text = line.text.lstrip()
            if text.startswith("with ") and ("no_grad" in text or "inference_mode" in text):
                start = source.offset(source.starts[at], 0) + len(line.text) - len(text)
                return move_out_of_no_grad(source, Span(start, start + 4), (where,))
    return Refusal("no block that switches gradients off holds it")


def cloned(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """An expression becomes a copy of itself: `x` becomes `x.clone()`."""
    unit = source.unit_at(source.row_column(where.start)[0])
    for root in source.units[unit].nodes:
        for node in ast.walk(root):
            if isinstance(node, ast.expr) and source.span_of(unit, node) == where:
                if isinstance(getattr(node, "ctx", None), ast.Store):
                    return Refusal("this is where it is stored")
                if isinstance(node, _TIGHT):
                    return (Edit(source.file, Span(where.end, where.end), ".clone()"),)
                return (
                    Edit(source.file, Span(where.start, where.start), "("),
                    Edit(source.file, Span(where.end, where.end), ").clone()"),
                )
    return Refusal("this is no expression")


# Methods whose names without the underscore mean something else, or nothing.
_NO_TWIN = frozenset({
    "zero_", "copy_", "fill_", "uniform_", "normal_", "random_", "bernoulli_", "exponential_", "set_",
    "resize_", "apply_", "map_", "__setitem__", "log_normal_", "cauchy_", "geometric_",
})  # fmt: skip


def _augmented(
    source: Source, unit: int, statement: ast.AugAssign, owner: ast.expr | None = None
) -> tuple[Edit, ...] | Refusal:
    """`x += y` as `x = x + y`; `owner`: what stands for the target on both sides, in place of it."""
    sign = _SIGNS.get(type(statement.op))
    written = owner if owner is not None else statement.target
    if sign is None or not _bindable(written):
        return Refusal("a part is written to")
    whole = source.span_of(unit, statement.target)
    target = source.span_of(unit, written)
    value = source.span_of(unit, statement.value)
    between = Span(target.end, value.start)
    signs = Span(whole.end, value.start)
    if source.slice(signs).strip().rstrip("(").rstrip() != f"{sign}=" or "\n" in source.slice(signs):
        return Refusal("something stands between the parts")
    name = source.slice(target)
    edits = [Edit(source.file, between, f" = {name} {sign} ")]
    opened = source.slice(signs).count("(")
    closed = source.slice(Span(value.end, source.span_of(unit, statement).end))
    if opened or not isinstance(statement.value, _TIGHT):
        if opened:
            edits[0] = Edit(source.file, between, f" = {name} {sign} {'(' * opened}")
        elif closed.strip() == "":
            edits[0] = Edit(source.file, between, f" = {name} {sign} (")
            edits.append(Edit(source.file, Span(value.end, value.end), ")"))
        else:
            return Refusal("something stands behind the value")
    return tuple(edits)


def _bindable(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _bindable(node.value))


def as_load(node: ast.expr) -> ast.expr:
    """A target as the expression that reads it."""
    text = ast.unparse(node)
    return ast.parse(text, mode="eval").body


def _alone(source: Source, where: Span) -> tuple[ast.stmt, Span, str] | Refusal:
    """The statement that holds `where`, its span and its indentation, where it has its lines for itself."""
    unit = source.unit_at(source.row_column(where.start)[0])
    statement = simple_statement(source, unit, where)
    if statement is None:
        return Refusal("this is no statement of its own")
    span = source.span_of(unit, statement)
    row = source.starts[unit]
    indent = source.text[source.offset(row, 0) : span.start]
    end = source.offset(row + source.units[unit].count - 1, 1 << 30)
    rest = source.text[span.end : end].strip()
    if indent.strip() or (rest and not rest.startswith("#")):
        return Refusal("another statement stands on the line")
    return statement, span, indent
