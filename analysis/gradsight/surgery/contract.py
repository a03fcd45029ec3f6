"""An autograd.Function's methods are made to fit each other. Works on logical lines alone."""

from __future__ import annotations

import ast

from gradsight.finding import Edit
from gradsight.surgery.order import block_end, insert_return, line_end
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span


def gradient_returned(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`backward` returns what it computes at `where`, and None for every further argument of `forward`."""
    edits = insert_return(source, where)
    count = _arguments(source, where)
    if isinstance(edits, Refusal) or count is None or count < 2:
        return edits
    rest = ", None" * (count - 1)
    if edits[0].where.start == where.start and edits[0].text == "return ":
        return (*edits, Edit(source.file, Span(where.end, where.end), rest))
    return (Edit(source.file, edits[0].where, edits[0].text + rest), *edits[1:])


def as_many_gradients(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """What `backward` returns at `where` gets a None for each argument that it leaves out, or loses what is
    too much at its end."""
    count = _arguments(source, where)
    unit = source.unit_at(source.row_column(where.start)[0])
    node = next((each for each in source.units[unit].nodes if isinstance(each, ast.Return)), None)
    value = node.value if node is not None else None
    if count is None or value is None or source.span_of(unit, value) != where:
        return Refusal("what is returned, or what `forward` takes, is not plain to see")
    if not isinstance(value, ast.Tuple):
        if count < 2:
            return Refusal("`forward` takes one argument")
        return (Edit(source.file, Span(where.end, where.end), ", None" * (count - 1)),)
    if any(isinstance(each, ast.Starred) for each in value.elts) or not value.elts:
        return Refusal("what is returned is not plain to see")
    last = source.span_of(unit, value.elts[-1]).end
    if len(value.elts) < count:
        return (Edit(source.file, Span(last, last), ", None" * (count - len(value.elts))),)
    if count < 1:
        return Refusal("`forward` takes nothing")
    kept = source.span_of(unit, value.elts[count - 1]).end
    return (Edit(source.file, Span(kept, last), "," if count == 1 else ""),)


def unpacked_as_saved(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """Names at the end of what is unpacked at `where` go, if nothing below reads them."""
    unit = source.unit_at(source.row_column(where.start)[0])
    node = source.units[unit].nodes[0] if source.units[unit].nodes else None
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    forward = _method(source, unit, "forward")
    if not isinstance(target, ast.Tuple) or forward is None:
        return Refusal("what is unpacked is not plain to see")
    saved = [
        call
        for at in range(forward + 1, block_end(source, forward))
        for part in source.units[at].nodes
        for call in ast.walk(part)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(".save_for_backward")
    ]
    if len(saved) != 1 or any(isinstance(each, ast.Starred) for each in (*saved[0].args, *target.elts)):
        return Refusal("what is saved is not plain to see")
    count = len(saved[0].args)
    if not 0 < count < len(target.elts):
        return Refusal("what is unpacked last is not saved")
    names = {ast.unparse(each) for each in target.elts[count:]}
    backward = _method(source, unit, "backward")
    below = range(unit + 1, block_end(source, backward)) if backward is not None else range(0)
    read = {
        one.id
        for at in below
        for part in source.units[at].nodes
        for one in ast.walk(part)
        if isinstance(one, ast.Name)
    }
    if names & read:
        return Refusal("what was not saved is used")
    kept = source.span_of(unit, target.elts[count - 1]).end
    last = source.span_of(unit, target.elts[-1]).end
    return (Edit(source.file, Span(kept, last), "," if count == 1 else ""),)


def number_on_context(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`ctx.save_for_backward(x, alpha)` of a number becomes `ctx.alpha = alpha`, which `backward` reads.

    The number is the last of what is saved, a name.
    """
    unit = source.unit_at(source.row_column(where.start)[0])
    statement = source.units[unit].nodes[0] if len(source.units[unit].nodes) == 1 else None
    call = statement.value if isinstance(statement, ast.Expr) else None
    backward = _method(source, unit, "backward")
    if not isinstance(call, ast.Call) or len(call.args) < 2 or call.keywords or backward is None:
        return Refusal("what is saved is not plain to see")
    number, before = call.args[-1], call.args[-2]
    context = ast.unparse(call.func).partition(".")[0]
    if not isinstance(number, ast.Name):
        return Refusal("the number has no name")
    text = source.line_text(source.starts[unit])
    indent = text[: len(text) - len(text.lstrip())]
    end = source.offset(source.starts[unit] + source.units[unit].count - 1, 1 << 30)
    edits = [
        Edit(
            source.file,
            Span(source.span_of(unit, before).end, source.span_of(unit, number).end),
            "",
        ),
        Edit(source.file, Span(end, end), f"{line_end(source)}{indent}{context}.{number.id} = {number.id}"),
    ]
    found = False
    own = _first_parameter(source, backward)
    for at in range(backward + 1, block_end(source, backward)):
        for part in source.units[at].nodes:
            if isinstance(part, ast.Assign) and ast.unparse(part.value) == f"{own}.saved_tensors":
                target = part.targets[0]
                if not isinstance(target, ast.Tuple) or len(target.elts) != len(call.args):
                    return Refusal("what is unpacked is not plain to see")
                last, kept = target.elts[-1], target.elts[-2]
                if ast.unparse(last) != number.id:
                    return Refusal("the number has another name in `backward`")
                start, stop = source.span_of(at, kept).end, source.span_of(at, last).end
                edits.append(Edit(source.file, Span(start, stop), "," if len(target.elts) == 2 else ""))
                found = True
                continue
            for node in ast.walk(part):
                if isinstance(node, ast.Name) and node.id == number.id:
                    span = source.span_of(at, node)
                    edits.append(Edit(source.file, Span(span.start, span.start), f"{own}."))
    return tuple(edits) if found else Refusal("`backward` does not unpack it")


def gradient_of_each_output(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`def backward(ctx, grad)` takes the gradients of the further outputs, too."""
    unit = source.unit_at(source.row_column(where.start)[0])
    backward = _method(source, unit, "backward")
    if backward is None:
        return Refusal("there is no `backward`")
    node = next((each for each in source.units[backward].nodes if isinstance(each, ast.FunctionDef)), None)
    if node is None or node.args.vararg or node.args.kwonlyargs or len(node.args.args) != 2:
        return Refusal("what `backward` takes is not plain to see")
    end = source.span_of(backward, node.args.args[-1]).end
    return (Edit(source.file, Span(end, end), ", *_"),)


def _arguments(source: Source, where: Span) -> int | None:
    """How many arguments `forward` of the class around has, its context left out."""
    unit = source.unit_at(source.row_column(where.start)[0])
    forward = _method(source, unit, "forward")
    if forward is None:
        return None
    node = next((each for each in source.units[forward].nodes if isinstance(each, ast.FunctionDef)), None)
    if node is None or node.args.vararg or node.args.kwarg or node.args.kwonlyargs:
        return None
    return len(node.args.posonlyargs) + len(node.args.args) - 1


def _first_parameter(source: Source, header: int) -> str:
    node = next((each for each in source.units[header].nodes if isinstance(each, ast.FunctionDef)), None)
    return node.args.args[0].arg if node is not None and node.args.args else "ctx"


def _method(source: Source, unit: int, name: str) -> int | None:
    """The line of a method's head, of the class around a line."""
    indent = source.units[unit].indent
    for at in range(unit - 1, -1, -1):
        line = source.units[at]
        if line.code and line.indent < indent:
            indent = line.indent
            if line.role == "class":
                break
    else:
        return None
    for inner in range(at + 1, block_end(source, at)):
        for node in source.units[inner].nodes:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return inner
    return None
