"""What a criterion is given: indices for one-hot targets, logits for probabilities, log-probabilities.

Only the expression that the caller points at is changed, and what becomes unused by that.
"""

from __future__ import annotations

import re

import libcst as cst

from gradsight.finding import Edit
from gradsight.surgery.cuts import last_name
from gradsight.surgery.imports import qualified, spelling
from gradsight.surgery.piece import Piece, dotted, find, is_primary, layout, merged, parse_line, replaced
from gradsight.surgery.refusal import Refusal, words
from gradsight.surgery.reopen import binds, remove_statement, with_suffix, without
from gradsight.text import Source, Span

_SOFT = frozenset({"softmax", "sigmoid", "log_softmax", "logsigmoid", "Softmax", "Sigmoid", "LogSoftmax"})
_MODULES = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "Softmax2d"})


def drop_softmax(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`F.softmax(z, dim=1)`, `z.softmax(1)` and `self.softmax(z)` become `z`; `nn.Softmax()` goes.

    An `nn.Softmax(...)` among the arguments of `nn.Sequential` or in a list is taken out of it, one that
    is kept under a name becomes `nn.Identity()`.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    if not isinstance(node, cst.Call):
        return Refusal("no call of softmax stands there")
    if last_name(node.func) in _MODULES:
        parent = piece.parent(node)
        above = piece.parent(parent) if parent is not None else None
        if isinstance(parent, cst.Call) and parent.func is node and parent.args:
            return without(piece, parent, parent.args[0].value)
        return _without_module(piece, node, parent, above)
    inner = _softened(source, node)
    if inner is None:
        return Refusal(f"`{piece.text(node)}` is no softmax of one tensor")
    return without(piece, node, inner)


def log_softmax_for(source: Source, where: Span, *, dim: str = "1") -> tuple[Edit, ...] | Refusal:
    """`F.softmax(z, dim=1)` becomes `F.log_softmax(z, dim=1)`, `nn.Softmax` becomes `nn.LogSoftmax`.

    Anything else at `where` is taken for logits and wrapped: `F.log_softmax(logits, dim=1)`.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    if isinstance(node, cst.Call):
        function = node.func
        name = last_name(function)
        if isinstance(function, cst.Call) and last_name(function.func) == "Softmax":
            function, name = function.func, "Softmax"
        if name in {"softmax", "Softmax"} and not dotted(function).startswith("self."):
            return renamed(piece, function, "log_softmax" if name == "softmax" else "LogSoftmax")
        if dotted(function).startswith("self.") and len(node.args) == 1:
            built = _built_module(source, dotted(function), "Softmax")
            if built is not None:
                return built
    return over_dimension(source, piece, node, "log_softmax", dim)


def over_dimension(
    source: Source, piece: Piece, node: cst.CSTNode, name: str, dim: str
) -> tuple[Edit, ...] | Refusal:
    """An expression becomes what one of torch's functions makes of it along a dimension."""
    written = shortest(source, f"torch.nn.functional.{name}", f"torch.{name}")
    if isinstance(written, Refusal):
        return written
    span = piece.whole(node)
    called, edits = written
    return merged(
        (
            Edit(source.file, Span(span.start, span.start), f"{called}("),
            Edit(source.file, Span(span.end, span.end), f", dim={dim})"),
        ),
        edits,
    )


def cross_entropy_for_nll(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`nn.NLLLoss(...)` becomes `nn.CrossEntropyLoss(...)`, `F.nll_loss` becomes `F.cross_entropy`."""
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    function = node.func if isinstance(node, cst.Call) else node
    target = {"NLLLoss": "CrossEntropyLoss", "nll_loss": "cross_entropy"}.get(last_name(function), "")
    if not target:
        return Refusal("no negative log-likelihood stands there")
    return renamed(piece, function, target)


def indices_for_one_hot(
    source: Source, where: Span, definition: Span | None = None
) -> tuple[Edit, ...] | Refusal:
    """The target at a criterion becomes the class indices that its one-hot was made from.

    Args:
        where: the target expression at the criterion's call.
        definition: where the name that stands there is made one-hot, if the caller knows it. A definition
            that nothing else uses goes; without a known form the answer is `target.argmax(dim=1)`.
    """
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    piece, node = found
    indices = _indices(source, piece, node)
    if indices is not None:
        return _replaced_by(piece, node, indices)
    name = dotted(node)
    core, _ = _stripped(piece, node)
    if definition is not None and isinstance(core, cst.Name):
        made = _made_from(source, core.value, definition, where)
        if made is not None:
            text, unused = made
            return merged(_replaced_by(piece, node, text), unused)
    if not name and isinstance(core, cst.Name | cst.Attribute | cst.Subscript):
        node_text = piece.text(core)
        return _replaced_by(piece, node, f"{node_text}.argmax(dim=1)")
    return with_suffix(piece, node, ".argmax(dim=1)")


def _softened(source: Source, node: cst.Call) -> cst.BaseExpression | None:
    """What a softmax call is given."""
    name = last_name(node.func)
    given = [a.value for a in node.args if a.keyword is None or a.keyword.value == "input"]
    base = node.func.value if isinstance(node.func, cst.Attribute) else None
    if isinstance(node.func, cst.Call):  # nn.Softmax(dim=1)(z)
        return given[0] if given and last_name(node.func.func) in _MODULES else None
    full = qualified(source, dotted(node.func))
    if base is None or full.startswith("torch."):
        last = full.rpartition(".")[2]
        return given[0] if given and (last in _SOFT or "soft" in last.lower()) else None
    if dotted(base).partition(".")[0] == "self" and len(given) == 1 and len(node.args) == 1:
        built = re.search(rf"self\.{name}\s*=\s*[\w.]*\b(\w+)\(", layout(source.text).masked)
        if name in _SOFT or "soft" in name.lower() or (built is not None and built.group(1) in _MODULES):
            return given[0]
    if name not in _SOFT:
        return None
    if not given or isinstance(given[0], cst.Integer | cst.UnaryOperation):
        return base
    return given[0] if len(node.args) == 1 else None


def _without_module(
    piece: Piece, node: cst.Call, parent: cst.CSTNode | None, above: cst.CSTNode | None
) -> tuple[Edit, ...] | Refusal:
    source = piece.source
    if isinstance(parent, cst.Arg) and isinstance(above, cst.Call):
        if last_name(above.func) == "Sequential":
            return _without_item(piece, [argument.value for argument in above.args], node)
        if last_name(above.func) in {"append", "add_module"} and isinstance(piece.parent(above), cst.Expr):
            return remove_statement(source, piece.span(above))
    if isinstance(parent, cst.Element) and isinstance(above, cst.List):
        return _without_item(piece, [element.value for element in above.elements], node)
    if isinstance(parent, cst.Element) and isinstance(above, cst.Tuple):
        around = piece.parent(above)
        listed = piece.parent(around) if around is not None else None
        if isinstance(listed, cst.List):
            return _without_item(piece, [element.value for element in listed.elements], above)
    identity = spelling(source, "torch.nn.Identity")
    if isinstance(identity, Refusal):
        return identity
    span = piece.span(node)
    return merged(replaced(source, span.start, span.end, f"{identity.name}()"), identity.edits)


def _without_item(
    piece: Piece, items: list[cst.BaseExpression], item: cst.BaseExpression
) -> tuple[Edit, ...]:
    """One item of a bracketed list goes, with its comma, and with its line if it is alone there."""
    source, text = piece.source, piece.source.text
    masked = layout(text).masked
    span = piece.whole(item)
    comma = re.compile(r"\s*,").match(masked, span.end)
    end = comma.end() if comma is not None else span.end
    begin = max(text.rfind("\n", 0, span.start), text.rfind("\r", 0, span.start)) + 1
    rest = re.compile(r"[ \t]*(?:\r\n|\n|\r)").match(masked, end)
    if not text[begin : span.start].strip() and rest is not None:
        return (Edit(source.file, Span(begin, rest.end()), ""),)
    index = items.index(item)
    if comma is None and index > 0:
        return (Edit(source.file, Span(piece.whole(items[index - 1]).end, span.end), ""),)
    following = re.compile(r"[ \t]*").match(masked, end)
    assert following is not None
    return (Edit(source.file, Span(span.start, following.end()), ""),)


def renamed(piece: Piece, function: cst.BaseExpression, name: str) -> tuple[Edit, ...] | Refusal:
    """The last name of a function changes; one that was imported by itself is written through its module."""
    source = piece.source
    if isinstance(function, cst.Attribute):
        span = piece.span(function.attr)
        return replaced(source, span.start, span.end, name)
    if not isinstance(function, cst.Name):
        return Refusal("the function has no name")
    full = qualified(source, function.value).rpartition(".")[0]
    written = spelling(source, f"{full}.{name}" if full else name)
    if isinstance(written, Refusal):
        return written
    span = piece.span(function)
    return merged(replaced(source, span.start, span.end, written.name), written.edits)


def _built_module(source: Source, name: str, built: str) -> tuple[Edit, ...] | Refusal | None:
    """`self.softmax = nn.Softmax(...)` renamed where it stands."""
    masked = layout(source.text).masked
    pattern = re.compile(rf"(?<![\w.]){re.escape(name)}\s*=\s*(?:[\w.]*\.)?({built})\s*\(")
    matches = list(pattern.finditer(masked))
    if len(matches) != 1:
        return None
    piece = parse_line(source, matches[0].start())
    if isinstance(piece, Refusal):
        return piece
    for call in piece.nodes(cst.Call):
        if last_name(call.func) == built:
            return renamed(piece, call.func, f"Log{built}")
    return None


def shortest(source: Source, *names: str) -> tuple[str, tuple[Edit, ...]] | Refusal:
    """The shortest of several spellings of one function."""
    written = [spelling(source, name) for name in names]
    good = [item for item in written if not isinstance(item, Refusal)]
    if not good:
        refused = written[0]
        assert isinstance(refused, Refusal)
        return refused
    best = min(good, key=lambda item: (len(item.edits), item.name.count("."), len(item.name)))
    return best.name, best.edits


_CASTS = words("float double half to type type_as permute movedim transpose contiguous long int detach")


def _stripped(piece: Piece, node: cst.BaseExpression) -> tuple[cst.BaseExpression, str]:
    """The expression below its casts and permutations, and those of them that an index needs too."""
    kept = ""
    while isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        name = node.func.attr.value
        text = ", ".join(piece.text(argument.value) for argument in node.args)
        dtype = re.search(r"\b(?:float\d*|double|half|bfloat16|long|int\d*|dtype)\b", text)
        if name in {"squeeze", "cuda"} or (name == "to" and not dtype):
            kept = f".{name}({text}){kept}"
        elif name not in _CASTS:
            break
        node = node.func.value
    return node, kept


def _indices(source: Source, piece: Piece, node: cst.BaseExpression) -> str | None:
    """The text of the indices that a one-hot expression is made from."""
    core, kept = _stripped(piece, node)
    indices: cst.BaseExpression | None = None
    if isinstance(core, cst.Call):
        name = last_name(core.func)
        if name == "one_hot" and core.args:
            indices = core.args[0].value
        elif name in {"scatter", "scatter_"} and isinstance(core.func, cst.Attribute) and len(core.args) >= 3:
            base = core.func.value
            if isinstance(base, cst.Call) and last_name(base.func) in {"zeros", "zeros_like", "new_zeros"}:
                indices = _unsqueezed(core.args[1].value)
    elif (
        isinstance(core, cst.Subscript)
        and len(core.slice) == 1
        and isinstance(core.slice[0].slice, cst.Index)
    ):
        base = core.value
        eye = isinstance(base, cst.Call) and last_name(base.func) == "eye"
        if eye and qualified(source, dotted(base.func)).startswith("torch"):  # type: ignore[attr-defined]
            indices = core.slice[0].slice.value
    elif isinstance(core, cst.Comparison) and len(core.comparisons) == 1:
        right = core.comparisons[0].comparator
        if isinstance(right, cst.Call) and last_name(right.func) == "arange":
            indices = _unsqueezed(core.left)
            if indices is core.left:
                indices = None
    if indices is None:
        return None
    text = piece.text(indices)
    return f"({text}){kept}" if kept and not is_primary(indices) else text + kept


def _unsqueezed(node: cst.BaseExpression) -> cst.BaseExpression:
    """`y` of `y.unsqueeze(1)`, `y.view(-1, 1)` or `y[:, None]`."""
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        if node.func.attr.value in {"unsqueeze", "view", "reshape", "long"}:
            return _unsqueezed(node.func.value)
    if isinstance(node, cst.Subscript) and len(node.slice) == 2:
        last = node.slice[1].slice
        if isinstance(last, cst.Index) and isinstance(last.value, cst.Name) and last.value.value == "None":
            return node.value
    return node


def _made_from(
    source: Source, name: str, definition: Span, where: Span
) -> tuple[str, tuple[Edit, ...]] | None:
    """The indices of a one-hot that was given a name above, and the edits that drop it if nothing uses it."""
    plan = layout(source.text)
    if plan.function(plan.index(definition.start)) != plan.function(plan.index(where.start)):
        return None
    piece = parse_line(source, definition.start)
    if isinstance(piece, Refusal):
        return None
    text: str | None = None
    statements: list[Span] = []
    for assignment in piece.nodes(cst.Assign):
        if len(assignment.targets) == 1 and dotted(assignment.targets[0].target) == name:
            text = _indices(source, piece, assignment.value)
            statements.append(piece.span(assignment))
    if text is None:
        scattered = _scattered(source, name, definition, where)
        if scattered is None:
            return None
        text, statements = scattered
    between = plan.masked[max(span.end for span in statements) : where.start]
    for word in set(re.findall(r"[A-Za-z_]\w*", text)):
        if re.search(rf"(?<![\w.]){word}\s*(?:,[^=\n]*)?(?:[-+*/]?=)(?!=)", between):
            return None  # bound again on the way
    word = re.compile(rf"(?<![\w.]){re.escape(name)}\b")
    inside = sum(len(word.findall(plan.masked[span.start : span.end])) for span in statements)
    used = len(word.findall(plan.masked[where.start : where.end]))
    if len(word.findall(plan.masked)) > inside + used:
        return text, ()
    unused: list[Edit] = []
    for span in statements:
        unused += remove_statement(source, span)
    return text, tuple(unused)


def _scattered(source: Source, name: str, definition: Span, where: Span) -> tuple[str, list[Span]] | None:
    """`t = torch.zeros(...)` and below it `t.scatter_(1, y.unsqueeze(1), 1)`."""
    plan = layout(source.text)
    statements: list[Span] = []
    text: str | None = None
    first = max(plan.index(definition.start) - 6, 0)
    for line in plan.lines[first : plan.index(where.start)]:
        if line.blank or name not in source.text[line.start : line.end]:
            continue
        piece = parse_line(source, line.first)
        if isinstance(piece, Refusal):
            return None
        for assignment in piece.nodes(cst.Assign):
            value = assignment.value
            if dotted(assignment.targets[0].target) == name and isinstance(value, cst.Call):
                if last_name(value.func) in {"zeros", "new_zeros"}:
                    statements = [piece.span(assignment)]
        for call in piece.nodes(cst.Call):
            if dotted(call.func) == f"{name}.scatter_" and len(call.args) >= 3 and statements:
                indices = _unsqueezed(call.args[1].value)
                text = piece.text(indices)
                statements.append(piece.span(call))
    if text is None or not statements:
        return None
    return text, statements


def _replaced_by(piece: Piece, node: cst.BaseExpression, text: str) -> tuple[Edit, ...]:
    span = piece.span(node)
    loose = not re.fullmatch(r"[\w.]+(?:\([^()]*\)|\[[^\[\]]*\])*(?:\.\w+\([^()]*\))*", text)
    if loose and binds(piece, node, text):
        text = f"({text})"
    return replaced(piece.source, span.start, span.end, text)
