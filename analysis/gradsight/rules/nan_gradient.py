"""
A gradient that becomes NaN or infinite.

## What it does
Flags `torch.where(x > 0, torch.sqrt(x), 0)` and its like (a root, a logarithm, a power or a quotient that is
hidden where its derivative does not exist); a root of what is exactly 0 (distances of points to themselves,
a parameter that begins as zeros); a quotient of `x - x.detach()`; and the logarithm of a softmax or sigmoid.

## Why is this bad?
`where` hides the value, not the derivative: 0 times infinity is NaN, and one NaN spoils each weight that it
reaches. The loss looks right until the step. A softmax that is taken apart from its logarithm gives 0 for
what is unlikely, and the logarithm of 0 is infinite.

## Use instead
Make the argument harmless first, and choose then; and call the functions that do both at once.

```python
safe = torch.where(x > 0, x, 1.0)
root = torch.where(x > 0, torch.sqrt(safe), 0.0)
log_probs = F.log_softmax(logits, dim=1)
```

A quotient, and a root that is asked afterwards whether it is a number, need a condition of their own: no
fix is offered.

## When it is right
`torch.norm` and `torch.cdist`, whose derivative at 0 is 0; what is clamped to a small number or has one
added; what stands behind a ReLU; what needs no gradient. None of these is flagged.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradsight.domain import DEPENDING, Edge
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.graph import Node
from gradsight.policy import SEVERITY
from gradsight.queries import KEEPING, LINEAR, SCALING, Queries
from gradsight.rule import Report, Rule
from gradsight.text import Source, Span

ROOTS = {"torch.sqrt": "root", "torch.rsqrt": "root", "torch.sqrt_": "root"}
LOGARITHMS = {"torch.log": "logarithm", "torch.log2": "logarithm", "torch.log10": "logarithm"}
INVERSES = {"torch.reciprocal": "quotient"}
SQUARES = ("torch.square", "torch.abs")
ABOVE, BELOW = (ast.Gt, ast.GtE, ast.NotEq), (ast.Lt, ast.LtE, ast.Eq)
COMPARING = {"gt": ast.Gt, "ge": ast.GtE, "ne": ast.NotEq, "lt": ast.Lt, "le": ast.LtE, "eq": ast.Eq}


def check(q: Queries) -> Iterator[Report]:
    if not q.sinks:
        return
    said: set[int] = set()
    for event in q.all("chosen"):
        for number in hidden(q, event.nodes, bool(event.fact("fill"))):
            if number not in said and matters(q, number):
                said.add(number)
                yield hiding(q, number)
    for number, node in enumerate(q.graph.nodes):
        if node.kind != "op" or number in said:
            continue
        kind = kind_of(q, node)
        if kind in ("root", "power"):
            why = zero(q, operand(node), 0)
            if why and matters(q, number):
                yield at_zero(q, number, why)
        elif kind == "logarithm" or plain(node.op) == "torch.log1p":
            instead = squashed(q, node)
            if instead and matters(q, number):
                yield unstable(q, number, instead)
        elif kind == "quotient" and is_nothing(q, node) and matters(q, number):
            where = node.place
            if where is not None:
                yield RULE.report(
                    SEVERITY["wrong"],
                    f"`{q.text_of(where)}` divides by 0: a value minus its own detached copy is 0 everywhere",
                    where,
                )


def plain(op: str) -> str:
    """The function's name of an operation that may be a method or an operator."""
    for prefix in ("torch.Tensor.", "operator."):
        if op.startswith(prefix):
            return f"torch.{op[len(prefix) :]}"
    return op


def kind_of(q: Queries, node: Node) -> str:
    """What a node is whose derivative may be infinite: "root", "logarithm", "power", "quotient"."""
    op = plain(node.op)
    if op in ROOTS or op in LOGARITHMS or op in INVERSES:
        return ROOTS.get(op) or LOGARITHMS.get(op) or INVERSES[op]
    if op == "torch.pow":
        by = exponent(q, node)
        return "power" if by is not None and by < 1 else ""
    return "quotient" if op in ("torch.div", "torch.true_divide", "torch.divide") else ""


def exponent(q: Queries, node: Node) -> float | None:
    """The literal exponent of a power."""
    written = q.syntax_of(node.place) if node.place is not None else None
    by: ast.expr | None = None
    if isinstance(written, ast.BinOp) and isinstance(written.op, ast.Pow):
        by = written.right
    elif isinstance(written, ast.Call) and written.args:
        by = written.args[-1]
    sign = 1.0
    if isinstance(by, ast.UnaryOp) and isinstance(by.op, ast.USub):
        sign, by = -1.0, by.operand
    if isinstance(by, ast.Constant) and isinstance(by.value, (int, float)):
        return sign * by.value
    if isinstance(by, ast.BinOp) and isinstance(by.op, ast.Div):
        left, right = by.left, by.right
        if isinstance(left, ast.Constant) and isinstance(right, ast.Constant):
            if isinstance(left.value, (int, float)) and isinstance(right.value, (int, float)) and right.value:
                return sign * left.value / right.value
    return None


def operand(node: Node) -> int:
    """What an operation of one value is about; -1 where it is not known."""
    return node.inputs[0] if node.inputs and node.edges[0] is Edge.LIVE else -1


def denominator(q: Queries, node: Node) -> int:
    """What a quotient divides by, where it has a history."""
    if plain(node.op) in INVERSES:
        return operand(node)
    if len(node.inputs) == 2:
        return node.inputs[1]
    written = q.syntax_of(node.place) if node.place is not None else None
    over = isinstance(written, ast.BinOp) and isinstance(written.left, ast.Constant)
    return operand(node) if over else -1


def matters(q: Queries, number: int) -> bool:
    """Whether something that may learn gets its gradient through a node."""
    for sink in q.sinks:
        if sink.fact("off"):
            continue
        for root in q.roots(sink):
            if number in q.feeding(root, (Edge.LIVE,)) and q.is_live(number, sink):
                return True
    return False


# -- hidden, not harmless


def hidden(q: Queries, nodes: tuple[int, ...], fill: bool) -> Iterator[int]:
    """Operations that a condition keeps from being seen where their derivative is infinite."""
    if len(nodes) < 2 or nodes[0] < 0:
        return
    where_true, where_false = guarded(q, nodes[0])
    arms = (-1, nodes[1]) if fill else (nodes[1], nodes[2] if len(nodes) > 2 else -1)
    for arm, guards in zip(arms, (where_true, where_false), strict=True):
        seen: set[int] = set()
        stack = [arm] if guards else []
        while stack and len(seen) < 16:
            number = stack.pop()
            if number < 0 or number in seen:
                continue
            seen.add(number)
            node = q.graph[number]
            kind = kind_of(q, node) if node.kind == "op" else ""
            if kind:
                about = denominator(q, node) if kind == "quotient" else operand(node)
                if bare(q, number) in guards:
                    yield number  # what is no number is told by itself
                    continue
                if about >= 0 and bare(q, about) in guards and not masks(q, bare(q, about)):
                    yield number
                    continue
            if node.op in KEEPING or node.op in LINEAR or node.op in SCALING or kind:
                stack.extend(i for i, edge in zip(node.inputs, node.edges, strict=False) if edge is Edge.LIVE)


def bare(q: Queries, number: int) -> int:
    """A value without what keeps it what it is, and without its sign."""
    while number >= 0:
        node = q.graph[number]
        if not ((node.op in KEEPING or plain(node.op) == "torch.abs") and len(node.inputs) == 1):
            break
        number = node.inputs[0]
    return number


def masks(q: Queries, number: int) -> bool:
    """Whether a value's own backward gives 0 to what is 0, whatever comes: a ReLU's does."""
    while number >= 0 and (q.graph[number].op == "module" or q.graph[number].op in KEEPING):
        number = operand(q.graph[number])
    last = q.graph[number].op.rpartition(".")[2].lower() if number >= 0 else ""
    return last in ("relu", "relu_", "relu6", "threshold")


def guarded(q: Queries, condition: int) -> tuple[set[int], set[int]]:
    """The values that a condition compares with 0 or next to it: where it holds they are far from 0, or where
    it does not hold."""
    true: set[int] = set()
    false: set[int] = set()
    node = q.graph[condition]
    if node.op == "torch.bitwise_and":
        for i in node.inputs:
            true |= guarded(q, i)[0]
        return true, false
    written = q.syntax_of(node.place) if node.place is not None else None
    if node.cause != "comparison" or len(node.inputs) != 1:
        return true, false
    about = {bare(q, node.inputs[0])}
    told = node.op.rpartition(".")[2]
    if told in ("isnan", "isinf", "isfinite"):
        return (about, false) if told == "isfinite" else (true, about)
    op: type[ast.AST] | None = None
    if isinstance(written, ast.Compare) and len(written.ops) == 1:
        left, right = written.left, written.comparators[0]
        if is_tiny(right):
            op = type(written.ops[0])
        elif is_tiny(left):
            turned: dict[type[ast.AST], type[ast.AST]] = {
                ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE,
            }  # fmt: skip
            op = turned.get(type(written.ops[0]), type(written.ops[0]))
    elif isinstance(written, ast.Call) and written.args and is_tiny(written.args[-1]):
        op = COMPARING.get(node.op.rpartition(".")[2])
    if op in ABOVE:
        true = about
    elif op in BELOW:
        false = about
    return true, false


def is_tiny(written: ast.expr) -> bool:
    """0, or a number next to it."""
    if isinstance(written, ast.Constant):
        return isinstance(written.value, (int, float)) and abs(written.value) <= 1e-3
    return isinstance(written, ast.Name) and "eps" in written.id.lower()


def hiding(q: Queries, number: int) -> Report:
    where = q.graph[number].place
    assert where is not None
    return RULE.report(
        SEVERITY["wrong"],
        f"the condition hides `{q.text(number)}` where its derivative is infinite, and hides no gradient: "
        "0 times infinity is NaN there; make its argument harmless before, by a `where` of its own",
        where,
        (),
        (),
        (("kind", "hidden"),),
    )


# -- exactly 0


def zero(q: Queries, number: int, depth: int) -> str:
    """Why a value is surely 0 somewhere: "itself" (a distance to itself), "zeros" (a parameter), or ""."""
    if number < 0 or depth > 12:
        return ""
    node = q.graph[number]
    op = plain(node.op)
    if node.kind == "source":
        return "zeros" if begins_as_zeros(q, number) else ""
    if node.kind != "op" or not node.inputs:
        return ""
    if op in SQUARES or node.op in KEEPING or is_axis_added(q, node):
        return zero(q, operand(node), depth + 1)
    if op == "torch.pow":
        by = exponent(q, node)
        return zero(q, operand(node), depth + 1) if by is not None and by > 0 else ""
    if op == "torch.mul":
        return zero(q, node.inputs[0], depth + 1) if len(set(node.inputs)) == 1 else ""
    if op in ("torch.sum", "torch.mean"):
        why = zero(q, operand(node), depth + 1)
        return why if why != "itself" or along(q, node) else ""
    if op in ("torch.clamp", "torch.clip", "torch.clamp_min"):
        return zero(q, operand(node), depth + 1) if to_zero(q, node) else ""
    if op == "torch.sub" and len(node.inputs) == 2:
        first, second = (spread(q, i) for i in node.inputs)
        return "itself" if first[0] == second[0] >= 0 and first[1] != second[1] else ""
    return ""


def begins_as_zeros(q: Queries, number: int) -> bool:
    """Whether a source is a parameter that is made of zeros and filled by nobody."""
    return any(number == event.node for event in q.all("zeros")) and not any(
        not event.nodes or any(number in q.feeding(n, DEPENDING) for n in event.nodes)
        for event in q.all("filled", "initialized")
    )


def along(q: Queries, node: Node) -> bool:
    """Whether a sum keeps some dimensions."""
    written = q.syntax_of(node.place) if node.place is not None else None
    if not isinstance(written, ast.Call):
        return False
    function = isinstance(written.func, ast.Attribute) and ast.unparse(written.func.value) == "torch"
    return bool(written.keywords) or len(written.args) > int(function)


def to_zero(q: Queries, node: Node) -> bool:
    """Whether a clamp lets 0 be 0."""
    written = q.syntax_of(node.place) if node.place is not None else None
    if not isinstance(written, ast.Call):
        return False
    given = [
        one for one in (*written.args, *(k.value for k in written.keywords)) if isinstance(one, ast.Constant)
    ]
    return bool(given) and all(one.value in (0, None) for one in given[:1])


def is_axis_added(q: Queries, node: Node) -> bool:
    """`x[:, None]`, `x.unsqueeze(1)`, `x.expand(n, n, d)`."""
    if plain(node.op) in ("torch.unsqueeze", "torch.expand", "torch.repeat"):
        return True
    written = q.syntax_of(node.place) if node.place is not None else None
    if not node.op.endswith("__getitem__") or not isinstance(written, ast.Subscript):
        return False
    index = written.slice
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    return any(isinstance(part, ast.Constant) and part.value is None for part in parts) and all(
        (isinstance(part, ast.Constant) and part.value in (None, ...))
        or (isinstance(part, ast.Slice) and part.lower is part.upper is part.step is None)
        for part in parts
    )


def spread(q: Queries, number: int) -> tuple[int, str]:
    """A value without the axes that were added to it, and how these were written."""
    how = ""
    while number >= 0 and q.graph[number].kind == "op" and is_axis_added(q, q.graph[number]):
        node = q.graph[number]
        written = q.syntax_of(node.place) if node.place is not None else None
        if isinstance(written, ast.Subscript):
            how += ast.unparse(written.slice).rstrip(":, ")
        elif isinstance(written, ast.Call) and plain(node.op) == "torch.unsqueeze":
            how += ast.unparse(written.args[-1]) if written.args else ""
        number = operand(node)
    return number, how


def at_zero(q: Queries, number: int, why: str) -> Report:
    where = q.graph[number].place
    assert where is not None
    what = "where each row meets itself" if why == "itself" else "as long as the parameter is as it was made"
    infinite = "the derivative of a root at 0 is infinite, and the gradient is NaN from the first step on"
    return RULE.report(
        SEVERITY["wrong"],
        f"`{q.text(number)}` is exactly 0 {what}: {infinite}; add a small number under the root",
        where,
        (),
        (),
        (("kind", "zero"),),
    )


def is_nothing(q: Queries, node: Node) -> bool:
    """Whether a quotient divides by a value minus its own detached copy."""
    below = denominator(q, node)
    difference = q.graph[below] if below >= 0 else None
    if difference is None or plain(difference.op) != "torch.sub" or len(difference.inputs) != 2:
        return False
    first, second = difference.inputs
    cut = q.graph[second]
    return cut.cause in ("detach", "data") and cut.inputs == (first,)


# -- a logarithm of what was squashed


def squashed(q: Queries, node: Node) -> str:
    """What does a logarithm and the softmax, sigmoid or exponential behind it at once, or ""."""
    inner = kept(q, operand(node))
    if inner is None:
        return ""
    if plain(node.op) == "torch.log1p":
        return "softplus" if plain(inner.op) == "torch.exp" else ""
    if plain(node.op) != "torch.log":
        return ""
    last = inner.op.rpartition(".")[2].lower()
    if last in ("softmax", "sigmoid"):
        return "log_softmax" if last == "softmax" else "logsigmoid"
    below = kept(q, operand(inner)) if len(inner.inputs) == 1 else None
    written = q.syntax_of(inner.place) if inner.place is not None else None
    if below is None or not isinstance(written, ast.BinOp):
        return ""
    first, second = (
        isinstance(side, ast.Constant) and side.value == 1 for side in (written.left, written.right)
    )
    if plain(inner.op) == "torch.add" and (first or second):
        return "softplus" if plain(below.op) == "torch.exp" else ""
    flipped = plain(inner.op) in ("torch.sub", "torch.rsub") and first
    return "logsigmoid" if flipped and below.op.rpartition(".")[2].lower() == "sigmoid" else ""


def kept(q: Queries, number: int) -> Node | None:
    """The node of a value, behind what only changes its form."""
    while number >= 0 and q.graph[number].op in KEEPING:
        number = operand(q.graph[number])
    return q.graph[number] if number >= 0 else None


def unstable(q: Queries, number: int, instead: str) -> Report:
    where = q.graph[number].place
    assert where is not None
    what = {
        "softplus": "`exp` overflows, and infinity over infinity is none",
        "log_softmax": "what is unlikely is rounded to 0, whose logarithm is infinite",
        "logsigmoid": "the sigmoid is rounded to 0 or 1, and the logarithm of 0 is infinite",
    }[instead]
    return RULE.report(
        SEVERITY["unstable"],
        f"`{q.text(number)}` gives NaN gradients on large inputs: {what}; `F.{instead}` does not",
        where,
        (),
        (),
        (("kind", "squashed"), ("instead", instead)),
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    text = source.slice(finding.where)
    try:
        written = ast.parse(f"({text})", mode="eval").body
    except SyntaxError:
        return
    if not text.isascii():
        return
    lines = text.splitlines(keepends=True)
    starts = [sum(len(line) for line in lines[:row]) for row in range(len(lines))]

    def span(part: ast.expr) -> Span:
        def offset(row: int, column: int) -> int:
            return starts[row - 1] + column - (1 if row == 1 else 0)

        first = offset(part.lineno, part.col_offset)
        last = offset(part.end_lineno or part.lineno, part.end_col_offset or part.col_offset)
        return Span(finding.where.start + first, finding.where.start + last)

    kind = finding.fact("kind")
    if (
        kind == "hidden"
        and not isinstance(written, ast.BinOp)
        and not any("isnan" in line.text for line in source.units if line.code)
    ):
        kind = "zero"  # what is asked whether it is a number would be one now
    if kind == "zero":
        inside = under(written)
        if inside is not None:
            at = span(inside)
            primary = isinstance(inside, (ast.Name, ast.Attribute, ast.Call, ast.Subscript))
            covered = source.text[at.start - 1 : at.start] == "(" and source.text[at.end : at.end + 1] == ")"
            called = isinstance(written, ast.Call) and inside in written.args
            end = at.end + (not primary and covered and not called)
            edits = [Edit(source.file, Span(end, end), ".clamp(min=1e-12)")]
            if not primary and (called or not covered):
                edits = [
                    Edit(source.file, Span(at.start, at.start), "("),
                    Edit(source.file, Span(at.end, at.end), ").clamp(min=1e-12)"),
                ]
            yield Fix("Keep it above 0: `.clamp(min=1e-12)`", Applicability.UNSAFE, tuple(edits))
    elif finding.fact("kind") == "squashed":
        new = together(written, finding.fact("instead") or "")
        if new:
            name = new.partition("(")[0].rpartition(".")[2]
            edit = Edit(source.file, finding.where, new)
            yield Fix(f"Do both at once: `{name}`", Applicability.UNSAFE, (edit,))


def under(written: ast.expr) -> ast.expr | None:
    """What stands under a root."""
    if isinstance(written, ast.BinOp):
        return written.left
    if isinstance(written, ast.Call) and isinstance(written.func, ast.Attribute):
        return (
            written.args[0]
            if ast.unparse(written.func.value) == "torch" and written.args
            else written.func.value
        )
    return None


def together(written: ast.expr, instead: str) -> str:
    """`torch.log(torch.softmax(x, 1))` as one call, where it is written as one expression."""
    inner = under(written) if isinstance(written, ast.Call) else None
    flipped = False
    if isinstance(inner, ast.BinOp):
        flipped = isinstance(inner.op, ast.Sub)
        inner = inner.right if isinstance(inner.left, ast.Constant) else inner.left
    if not isinstance(inner, ast.Call) or not isinstance(inner.func, ast.Attribute) or not instead:
        return ""
    owner = ast.unparse(inner.func.value)
    library = owner in ("torch", "F", "torch.nn.functional", "nn.functional")
    if not library and inner.func.attr not in ("softmax", "sigmoid", "exp"):
        return ""
    if not library and not isinstance(written.func, ast.Attribute):  # type: ignore[attr-defined]
        return ""
    about = ast.unparse(inner.args[0]) if library and inner.args else "" if library else owner
    rest = [ast.unparse(one) for one in (inner.args[1:] if library else inner.args)]
    rest += [ast.unparse(one) for one in inner.keywords]
    space = owner if owner in ("F", "torch.nn.functional", "nn.functional") else "torch.nn.functional"
    if not about or (instead != "log_softmax" and rest):
        return ""
    if flipped:
        simple = isinstance(
            ast.parse(about, mode="eval").body, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)
        )
        about = f"-{about}" if simple else f"-({about})"
    if instead == "log_softmax" and space == "torch.nn.functional":
        space = "torch"
    return f"{space}.{instead}({', '.join((about, *rest))})"


RULE = Rule("GS307", "nan-gradient", check, fix)
