"""Take away what closes the way: detach and its like, Python numbers, tensors made anew from tensors.

Every public function answers with small edits or a `Refusal`; none looks beyond the function around.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import libcst as cst

from gradsight.finding import Edit
from gradsight.surgery.imports import qualified, spelling
from gradsight.surgery.piece import (
    Line,
    Piece,
    dotted,
    find,
    is_primary,
    layout,
    merged,
    parse_line,
    replaced,
)
from gradsight.surgery.refusal import Refusal, words
from gradsight.text import Source, Span

# What a method that cuts returns is its receiver's value.
CUT_METHODS = frozenset({"detach", "detach_", "item", "tolist", "numpy"})
_CLIMBED_METHODS = frozenset({"detach", "item", "tolist", "numpy", "requires_grad_", "detach_"})
# What makes a tensor anew from data, and what the result's dtype becomes.
REWRAPS = {
    "tensor": "",
    "as_tensor": "",
    "asarray": "",
    "from_numpy": "",
    "new_tensor": "",
    "Variable": "",
    "Tensor": "",
    "FloatTensor": "",
    "DoubleTensor": ".double()",
    "HalfTensor": ".half()",
    "BFloat16Tensor": ".bfloat16()",
}
# Also made anew, but right where a module is built: only seen where the caller points at it.
_POINTED_AT = frozenset({"Parameter"})
_INTEGER_TYPES = frozenset({"int", "long", "short", "bool", "uint8", "int8", "int16", "int32", "int64"})
_INTEGER_TENSORS = frozenset(
    {"LongTensor", "IntTensor", "ShortTensor", "ByteTensor", "CharTensor", "BoolTensor"}
)
# math functions that torch has for tensors, with torch's name.
MATH = {
    **{
        name: name
        for name in words(
            "exp expm1 exp2 log log2 log10 log1p sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh "
            "atanh erf erfc lgamma pow"
        )
    },
    "fabs": "abs",
    "radians": "deg2rad",
    "degrees": "rad2deg",
    "gamma": "",
}
_STEPS = frozenset({"floor", "ceil", "trunc", "round", "int"})


def unwrap_method_call(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`x.detach()`, `x.data`, `torch.detach(x)`, `Variable(x.data)` become `x`; `x.detach_()` goes.

    What is wrapped directly around it and would cut again (`Variable(...)`, `torch.tensor(...)`, another
    `.detach()`) goes too, and so does the statement if it would only say `x = x`.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    statement = piece.parent(node)
    if (
        isinstance(statement, cst.Expr)
        and isinstance(node, cst.Call)
        and isinstance(node.func, cst.Attribute)
        and node.func.attr.value.endswith("_")
    ):
        return remove_statement(source, piece.span(statement))
    inner = _unwrapped(node)
    if inner is None:
        return Refusal(f"`{piece.text(node)}` is not a call that returns its own tensor")
    return _opened(piece, node, inner)


def tensor_for_number(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`loss.item()`, `float(loss)`, `x.tolist()` become the tensor; `math.f` around it becomes `torch.f`."""
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    inner = _unwrapped(node)
    edits: list[Edit] = []
    top: cst.BaseExpression = node
    if inner is None:
        if not (isinstance(node, cst.Call) and qualified(source, dotted(node.func)).startswith("math.")):
            return Refusal(f"`{piece.text(node)}` does not make a number of one tensor")
        renamed = _as_torch_function(piece, node)
        if isinstance(renamed, Refusal):
            return renamed
        edits += renamed
        for argument in node.args:
            edits += drop_cuts(piece, argument.value)
    else:
        top = _climbed(piece, node)
        opened = _opened(piece, node, inner)
        if isinstance(opened, Refusal):
            return opened
        edits += opened
    for above in _computed_with(piece, top):
        name = qualified(source, dotted(above.func))
        if name.startswith("math."):
            renamed = _as_torch_function(piece, above)
            if isinstance(renamed, Refusal):
                return renamed
            edits += renamed
        elif name in _STEPS:
            return Refusal(f"`{name}()` around it has no gradient")
        elif name == "float":
            edits += put_inner(piece, above, above.args[0].value)
    return merged(edits)


def stack_for_rewrap(
    source: Source, where: Span, *, kind: str | None = None, numbers: Sequence[Span] = ()
) -> tuple[Edit, ...] | Refusal:
    """`torch.tensor([a, b])` becomes `torch.stack([a, b])`, `torch.tensor(x)` of one tensor becomes `x`.

    Args:
        where: the rewrapping call, or a cut directly inside it.
        kind: "list" or "tensor" where the caller knows what a name holds that is rewrapped.
        numbers: elements that are known to be Python numbers (literals are seen here).
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    call: cst.Call | None = None
    if isinstance(node, cst.Call) and (rewraps(node) or last_name(node.func) in _POINTED_AT):
        call = node
    if call is None:
        for above in piece.ancestors(node):
            if isinstance(above, cst.Call) and rewraps(above):
                call = above
                break
            if isinstance(above, cst.BaseSmallStatement):
                break
    if call is None:
        return Refusal("no call that makes a tensor anew stands there")
    data = data_of(source, piece, call)
    if isinstance(data, Refusal):
        return data
    value, suffix = data
    outer = _climbed(piece, call)
    inner = _innermost(value)
    if isinstance(inner, cst.Name | cst.Attribute) and kind is None:
        kind = "list" if _is_list(source, piece, inner) else "tensor"
    listed = _listed(source, inner)
    if not listed and kind != "list":
        return _opened(piece, call, value, suffix=suffix)
    edits: list[Edit] = []
    if isinstance(inner, cst.List | cst.Tuple):
        elements = _stacked_elements(source, piece, inner, numbers)
        if isinstance(elements, Refusal):
            return elements
        edits += elements
    elif isinstance(inner, cst.ListComp):
        edits += drop_cuts(piece, inner.elt)
    elif isinstance(inner, cst.Name | cst.Attribute):
        edits += _cuts_of_list(source, piece, dotted(inner))
    stack = spelling(source, "torch.stack")
    if isinstance(stack, Refusal):
        return stack
    whole, argument = piece.span(outer), piece.whole(inner)
    opening = f"{stack.name}("
    head = source.text[whole.start : argument.start]
    function = piece.span(call.func)
    if outer is call and inner is value and head == source.text[whole.start : function.end] + "(":
        edits += replaced(source, function.start, function.end, stack.name)
    else:
        edits += replaced(source, whole.start, argument.start, opening)
    edits += replaced(source, argument.end, whole.end, f"){suffix}")
    return merged(edits, stack.edits, _laundering_after(source, piece, outer))


def reduce_to_scalar(source: Source, where: Span, how: str = "mean") -> tuple[Edit, ...] | Refusal:
    """`loss.backward()` becomes `loss.mean().backward()`; also `accelerator.backward(loss)`."""
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    if not (isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute)):
        return Refusal("no backward call stands there")
    if any(argument.keyword is not None and argument.keyword.value == "gradient" for argument in node.args):
        return Refusal("backward is given a gradient")
    receiver = node.func.value
    if (
        isinstance(receiver, cst.Call)
        and len(receiver.args) == 1
        and dotted(receiver.func).endswith(".scale")
    ):
        receiver = receiver.args[0].value
    elif len(node.args) >= 1 and node.args[0].keyword is None:
        receiver = node.args[0].value
    return with_suffix(piece, receiver, f".{how}()")


def drop_rounding(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`torch.round(p)`, `p.round()`, `p.int()`, `p.to(torch.int64)` become `p`: the values change.

    Comparisons, `argmax` and their like are refused: nothing simpler says what was meant.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    if not isinstance(node, cst.Call):
        return Refusal("a comparison has no gradient and nothing to put in its place")
    name = dotted(node.func) or (node.func.attr.value if isinstance(node.func, cst.Attribute) else "")
    last = name.rpartition(".")[2]
    functional = qualified(source, name).startswith("torch.")
    simple = {
        "round",
        "floor",
        "ceil",
        "trunc",
        "fix",
        "frac",
        "sign",
        "int",
        "long",
        "short",
        "bool",
        "byte",
    }
    if last in simple:
        if functional or not isinstance(node.func, cst.Attribute):
            inner = node.args[0].value if node.args else None
        else:
            inner = node.func.value
        if inner is not None:
            return put_inner(piece, node, inner)
    if last in {"to", "type"} and isinstance(node.func, cst.Attribute) and len(node.args) == 1:
        return put_inner(piece, node, node.func.value)
    return Refusal(f"`{last}` has no gradient and nothing to put in its place")


def drop_cuts(piece: Piece, node: cst.BaseExpression) -> tuple[Edit, ...]:
    """The edits that free the value of `node`, and the operands it is computed from, of cuts."""
    inner = _innermost(node)
    if inner is not node:
        return (*put_inner(piece, node, inner), *drop_cuts(piece, inner))
    edits: list[Edit] = []
    if isinstance(node, cst.BinaryOperation):
        edits += (*drop_cuts(piece, node.left), *drop_cuts(piece, node.right))
    elif isinstance(node, cst.UnaryOperation):
        edits += drop_cuts(piece, node.expression)
    elif isinstance(node, cst.IfExp):
        edits += (*drop_cuts(piece, node.body), *drop_cuts(piece, node.orelse))
    elif isinstance(node, cst.List | cst.Tuple):
        for element in node.elements:
            edits += drop_cuts(piece, element.value)
    elif isinstance(node, cst.ListComp | cst.GeneratorExp):
        edits += drop_cuts(piece, node.elt)
    elif isinstance(node, cst.Call) and dotted(node.func) in {"sum", "max", "min", "abs"}:
        for argument in node.args:
            edits += drop_cuts(piece, argument.value)
    return tuple(edits)


def remove_statement(source: Source, where: Span) -> tuple[Edit, ...]:
    """The small statement at `where` goes: with its line if it is alone there, leaving `pass` if needed."""
    text = source.text
    plan = layout(text)
    index = plan.index(where.start)
    line = plan.lines[index]
    masked = plan.masked
    before = masked[line.first : where.start]
    after = masked[where.end : line.end]
    if after.lstrip().startswith(";") and after.lstrip("; \t\r\n\f"):
        following = where.end + len(after) - len(after.lstrip("; \t\f"))
        return (Edit(source.file, Span(where.start, following), ""),)
    if before.rstrip().endswith(";"):
        start = line.first + len(before.rstrip(" \t;"))
        end = where.end + (len(after) - len(after.lstrip("; \t")) if after.lstrip().startswith(";") else 0)
        return (Edit(source.file, Span(start, end), ""),)
    if before.strip():  # the only statement behind a header on its line
        return (Edit(source.file, where, "pass"),)
    if alone_in_block(source, index, index + 1):
        return (Edit(source.file, where, "pass"),)
    if "#" in text[where.end : line.end]:
        start = text.index("#", where.end)
        return (Edit(source.file, Span(line.first, start), ""),)
    return (Edit(source.file, Span(line.start, line.end), ""),)


def alone_in_block(source: Source, first: int, last: int) -> bool:
    """Whether the block of the logical lines [first, last) holds no other code."""
    lines = layout(source.text).lines
    masked = layout(source.text).masked

    def width(line: Line) -> int:
        return len(line.indent.expandtabs())

    own = width(lines[first])
    above = next((line for line in reversed(lines[:first]) if not line.blank), None)
    below = next((line for line in lines[last:] if not line.blank), None)
    if above is None or width(above) >= own or not masked[above.start : above.end].rstrip().endswith(":"):
        return False
    return below is None or width(below) < own


def rewraps(call: cst.Call) -> bool:
    """Whether the call is one that makes a tensor anew from data."""
    return last_name(call.func) in REWRAPS or last_name(call.func) in _INTEGER_TENSORS


def last_name(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.Name):
        return node.value
    return node.attr.value if isinstance(node, cst.Attribute) else ""


def _unwrapped(node: cst.BaseExpression) -> cst.BaseExpression | None:
    """What one cut was put around, else None."""
    if isinstance(node, cst.Attribute):
        return node.value if node.attr.value == "data" else None
    if not isinstance(node, cst.Call):
        return None
    name = last_name(node.func)
    plain = [argument.value for argument in node.args if argument.keyword is None and not argument.star]
    if isinstance(node.func, cst.Attribute) and name in CUT_METHODS:
        if not plain:
            return node.func.value
        return plain[0] if len(plain) == 1 else None  # torch.detach(x)
    if isinstance(node.func, cst.Name) and name == "float" and len(plain) == 1:
        return plain[0]
    if name == "Variable" and plain:
        return plain[0]
    return None


def _innermost(node: cst.BaseExpression) -> cst.BaseExpression:
    """The value below every cut that is wrapped directly around it."""
    while True:
        inner = _unwrapped(node)
        if inner is None:
            # x.detach().cpu().numpy(): the copy to the CPU goes only with a cut around it
            return node
        below = inner
        while (
            isinstance(below, cst.Call)
            and isinstance(below.func, cst.Attribute)
            and below.func.attr.value == "cpu"
            and _unwrapped(below.func.value) is not None
        ):
            below = below.func.value
        node = below


def _climbed(piece: Piece, node: cst.BaseExpression) -> cst.BaseExpression:
    """The outermost expression that only wraps `node` and cuts (again)."""
    top = node
    while True:
        parent = piece.parent(top)
        above = piece.parent(parent) if parent is not None else None
        if isinstance(parent, cst.Attribute) and parent.value is top:
            name = parent.attr.value
            if name == "data":
                top = parent
                continue
            if isinstance(above, cst.Call) and above.func is parent and name in _CLIMBED_METHODS:
                top = above
                continue
        if isinstance(parent, cst.Arg) and isinstance(above, cst.Call) and parent is above.args[0]:
            if last_name(above.func) == "Variable":
                top = above
                continue
            if isinstance(above.func, cst.Name) and above.func.value == "float":
                top = above
                continue
        return top


def _opened(
    piece: Piece, node: cst.BaseExpression, inner: cst.BaseExpression, *, suffix: str = ""
) -> tuple[Edit, ...] | Refusal:
    """The cut `node` around `inner` goes with all that wraps it directly and cuts again."""
    source = piece.source
    inner = _innermost(inner)
    outer = _climbed(piece, node)
    parent = piece.parent(outer)
    above = piece.parent(parent) if parent is not None else None
    while (
        isinstance(parent, cst.Arg)
        and isinstance(above, cst.Call)
        and parent is above.args[0]
        and rewraps(above)
    ):
        data = data_of(source, piece, above)
        if isinstance(data, Refusal):
            return data
        suffix += data[1]
        outer = _climbed(piece, above)
        parent = piece.parent(outer)
        above = piece.parent(parent) if parent is not None else None
    if not suffix:
        assigned = piece.parent(outer)
        if (
            isinstance(assigned, cst.Assign)
            and len(assigned.targets) == 1
            and piece.text(assigned.targets[0].target) == piece.text(inner)
            and dotted(inner)
        ):
            return merged(
                remove_statement(source, piece.span(assigned)), _laundering_after(source, piece, outer)
            )
    return merged(put_inner(piece, outer, inner, suffix), _laundering_after(source, piece, outer))


def put_inner(
    piece: Piece, outer: cst.BaseExpression, inner: cst.BaseExpression, suffix: str = ""
) -> tuple[Edit, ...]:
    """Delete what stands around `inner` up to the ends of `outer`; `inner` is kept as it is written."""
    source = piece.source
    span, kept = piece.span(outer), piece.whole(inner)
    opening, closing = "", suffix
    if not is_primary(inner) and (suffix or binds(piece, outer, source.text[kept.start : kept.end])):
        opening, closing = "(", f"){suffix}"
    masked = layout(source.text).masked
    tail = kept.end
    if "#" in source.text[kept.end : span.end]:  # a comment on the way to the dot stays
        tail += len(masked[kept.end : span.end]) - len(masked[kept.end : span.end].lstrip())
    return (
        *replaced(source, span.start, kept.start, opening),
        *replaced(source, tail, span.end, closing),
    )


def binds(piece: Piece, node: cst.BaseExpression, text: str) -> bool:
    """Whether what stands around `node` would pull apart an operator expression put in its place."""
    if node.lpar:
        return False
    parent = piece.parent(node)
    if isinstance(parent, cst.Arg):
        return bool(parent.star)
    if isinstance(parent, cst.Element | cst.Index | cst.Parameters):
        return False
    loose = (cst.Assign, cst.AnnAssign, cst.AugAssign, cst.Return, cst.Expr, cst.FormattedStringExpression)
    return not isinstance(parent, loose) or "\n" in text


def with_suffix(piece: Piece, node: cst.BaseExpression, suffix: str) -> tuple[Edit, ...]:
    span = piece.whole(node)
    file = piece.source.file
    if is_primary(node):
        return (Edit(file, Span(span.end, span.end), suffix),)
    return (
        Edit(file, Span(span.start, span.start), "("),
        Edit(file, Span(span.end, span.end), f"){suffix}"),
    )


def _computed_with(piece: Piece, node: cst.BaseExpression) -> list[cst.Call]:
    """The calls whose argument is computed from `node` by operators alone, innermost first."""
    calls: list[cst.Call] = []
    below: cst.CSTNode = node
    for above in piece.ancestors(node):
        if isinstance(above, cst.BinaryOperation | cst.UnaryOperation | cst.IfExp | cst.Arg):
            below = above
        elif isinstance(above, cst.Call) and isinstance(below, cst.Arg):
            calls.append(above)
            below = above
        else:
            break
    return calls


def _as_torch_function(piece: Piece, call: cst.Call) -> tuple[Edit, ...] | Refusal:
    """`math.exp(...)` renamed to `torch.exp(...)`."""
    source = piece.source
    name = qualified(source, dotted(call.func)).partition(".")[2]
    target = MATH.get(name, "")
    if not target or (len(call.args) != 1 and target != "pow"):
        return Refusal(f"`math.{name}` with these arguments has no equal in torch")
    spelled = spelling(source, f"torch.{target}")
    if isinstance(spelled, Refusal):
        return spelled
    function = piece.span(call.func)
    return (*replaced(source, function.start, function.end, spelled.name), *spelled.edits)


def data_of(source: Source, piece: Piece, call: cst.Call) -> tuple[cst.BaseExpression, str] | Refusal:
    """What a rewrapping call is given, and what must follow it to keep dtype and device."""
    name = last_name(call.func)
    if name in _INTEGER_TENSORS:
        return Refusal(f"`{name}` holds integers, which have no gradient")
    if not call.args or call.args[0].star:
        return Refusal(f"what `{name}` is given is not plain to see")
    value: cst.BaseExpression | None = None
    dtype = device = ""
    for i, argument in enumerate(call.args):
        keyword = argument.keyword.value if argument.keyword is not None else ""
        if argument.star:
            return Refusal(f"what `{name}` is given is not plain to see")
        text = piece.text(argument.value)
        if keyword in {"requires_grad", "volatile", "copy"} or (name == "Variable" and i == 1):
            continue
        if keyword in {"data", "obj"} or (not keyword and i == 0):
            value = argument.value
        elif keyword == "dtype" or (not keyword and i == 1 and name in {"as_tensor", "new_tensor"}):
            dtype = text
        elif keyword == "device" or (not keyword and i == 2 and name in {"as_tensor", "new_tensor"}):
            device = text
        else:
            return Refusal(f"`{name}` is given `{source.text[slice(*_ends(piece, argument))]}`")
    if value is None:
        return Refusal(f"what `{name}` is given is not plain to see")
    if dtype.rpartition(".")[2] in _INTEGER_TYPES:
        return Refusal(f"`{dtype}` has no gradient")
    if dtype == "None":
        dtype = ""
    if device == "None":
        device = ""
    given = ", ".join(part for part in (device, dtype) if part)
    suffix = REWRAPS.get(name, "") + (f".to({given})" if given else "")
    if dotted(call.func).endswith("cuda." + name):
        suffix = ".cuda()" + suffix
    return value, suffix


def _ends(piece: Piece, node: cst.CSTNode) -> tuple[int, int]:
    span = piece.span(node)
    return span.start, span.end


def _listed(source: Source, node: cst.BaseExpression) -> bool:
    """Whether the expression is a list or a tuple as it stands."""
    if isinstance(node, cst.List | cst.Tuple | cst.ListComp):
        return True
    return isinstance(node, cst.Call) and dotted(node.func) in {"list", "tuple", "sorted"}


def _is_number(node: cst.BaseExpression) -> bool:
    if isinstance(node, cst.UnaryOperation):
        return _is_number(node.expression)
    return isinstance(node, cst.Integer | cst.Float)


def _stacked_elements(
    source: Source, piece: Piece, node: cst.List | cst.Tuple, numbers: Sequence[Span]
) -> tuple[Edit, ...] | Refusal:
    """The elements of a list that is to be stacked: inner lists stacked, cuts dropped, numbers wrapped."""
    values = [element.value for element in node.elements]
    if not values or any(isinstance(element, cst.StarredElement) for element in node.elements):
        return Refusal("the list's elements are not plain to see")
    known = {(span.start, span.end) for span in numbers}
    plain = [
        value
        for value in values
        if not _is_number(value) and (piece.span(value).start, piece.span(value).end) not in known
    ]
    if not plain:
        return Refusal("the list holds numbers alone")
    edits: list[Edit] = []
    model = next((dotted(_innermost(value)) for value in plain if dotted(_innermost(value))), "")
    for value in values:
        if isinstance(value, cst.List | cst.Tuple):
            inner = _stacked_elements(source, piece, value, numbers)
            stack = spelling(source, "torch.stack")
            if isinstance(inner, Refusal):
                return inner
            if isinstance(stack, Refusal):
                return stack
            span = piece.whole(value)
            edits += (
                *inner,
                Edit(source.file, Span(span.start, span.start), f"{stack.name}("),
                Edit(source.file, Span(span.end, span.end), ")"),
            )
        elif value not in plain:
            wrapped = f"{model}.new_tensor" if model else None
            if wrapped is None:
                as_tensor = spelling(source, "torch.as_tensor")
                if isinstance(as_tensor, Refusal):
                    return as_tensor
                wrapped = as_tensor.name
            span = piece.whole(value)
            edits += (
                Edit(source.file, Span(span.start, span.start), f"{wrapped}("),
                Edit(source.file, Span(span.end, span.end), ")"),
            )
        else:
            edits += drop_cuts(piece, value)
    return tuple(edits)


def _is_list(source: Source, piece: Piece, node: cst.BaseExpression) -> bool:
    """Whether the nearest binding above says that the name holds a list."""
    name = re.escape(dotted(node))
    masked = layout(source.text).masked[: piece.span(node).start]
    appended = re.search(rf"(?<![\w.]){name}\s*\.\s*(?:append|extend)\s*\(", masked)
    bound = list(re.finditer(rf"(?<![\w.]){name}(?:\s*:[^=\n]*)?\s*=(?!=)\s*(list\b|tuple\b|[\[(])?", masked))
    if bound:
        opening = bound[-1].group(1)
        return opening in {"[", "list", "tuple"} or (opening == "(" and appended is not None)
    return appended is not None


def _cuts_of_list(source: Source, piece: Piece, name: str) -> tuple[Edit, ...]:
    """The cuts at `NAME.append(x.item())` and `NAME = [x.item(), ...]` above, in the same function."""
    plan = layout(source.text)
    last = plan.index(next(iter(piece.spans.values())).start)
    edits: list[Edit] = []
    pattern = re.compile(rf"(?<![\w.]){re.escape(name)}\s*(?:\.\s*append\s*\(|=(?!=)|\+=)")
    for index in range(last, -1, -1):
        line = plan.lines[index]
        code = plan.masked[line.start : line.end]
        if re.match(r"\s*(?:async\s+)?def\b|\s*class\b", code):
            if len(line.indent) < len(plan.lines[last].indent):
                break
            continue
        if index == last or not pattern.search(code):
            continue
        above = parse_line(source, line.first)
        if isinstance(above, Refusal):
            continue
        for call in above.nodes(cst.Call):
            if dotted(call.func) == f"{name}.append" and len(call.args) == 1:
                edits += drop_cuts(above, call.args[0].value)
        for assignment in above.nodes(cst.Assign):
            if piece.source.text and above.text(assignment.targets[0].target) == name:
                edits += drop_cuts(above, assignment.value)
                return tuple(edits)
    return tuple(edits)


_LAUNDERED = (
    r"\s*{name}\s*\.\s*requires_grad(?:\s*=\s*True|_\s*\(\s*(?:True|requires_grad\s*=\s*True)?\s*\))\s*$"
)


def _laundering_after(source: Source, piece: Piece, node: cst.BaseExpression) -> tuple[Edit, ...]:
    """`NAME.requires_grad = True` after the statement goes: on a tensor with a graph it raises."""
    assigned = piece.parent(node)
    if not (isinstance(assigned, cst.Assign) and len(assigned.targets) == 1):
        return ()
    name = dotted(assigned.targets[0].target)
    if not name:
        return ()
    plan = layout(source.text)
    first = plan.index(piece.span(assigned).start)
    width = len(plan.lines[first].indent)
    laundered = re.compile(_LAUNDERED.format(name=re.escape(name)))
    rebound = re.compile(rf"\s*{re.escape(name)}\s*=(?!=)")
    edits: list[Edit] = []
    for line in plan.lines[first + 1 :]:
        if line.blank:
            continue
        if len(line.indent) < width:
            break
        code = plan.masked[line.start : line.end]
        if laundered.match(code.rstrip()):
            end = line.start + len(code.rstrip())
            edits += remove_statement(source, Span(line.first, end))
        elif rebound.match(code):
            break
    return tuple(edits)
