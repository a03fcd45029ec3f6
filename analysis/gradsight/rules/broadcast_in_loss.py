"""
Shapes that do not belong together in a loss.

## What it does
Flags a prediction of shape (N, 1) against a target of shape (N), and the reverse, in regression losses and in
differences and products that are written by hand; binary losses that refuse such a pair; a single column of
logits in cross entropy; class indices that keep a dimension of size 1. Only where both shapes are known.

## Why is this bad?
Broadcasting repeats both sides to (N, N): every prediction is compared with every target, and the best that
the model can learn is their mean. torch only warns, and says nothing for code written by hand.
`BCEWithLogitsLoss` raises. Cross entropy over one class is 0 whatever the model says, or raises "Target 1 is
out of bounds."

## Use instead
Equal shapes on both sides: `pred.squeeze(1)`, or `y.unsqueeze(1)` for the target.

```python
loss = F.mse_loss(model(x), y)  # (N, 1) against (N)
loss = F.mse_loss(model(x).squeeze(1), y)
```

## When it is right
Distances of every pair, written with `x[:, None] - y` or `unsqueeze` on the spot; weights of shape (N, 1) for
rows of shape (N, K); predictions of shape (N, 1) against targets of shape (N, 1). None of these is flagged.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import Edge
from gradsight.finding import Applicability, Finding, Fix
from gradsight.graph import Place
from gradsight.interpret.shapes import blown_up, broadcast, read
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.queries import KEEPING, LINEAR, SCALING, Queries
from gradsight.rule import Report, Rule
from gradsight.rules.loss_inputs import (
    Call,
    Sizes,
    calls,
    dropped,
    is_data,
    is_raw,
    learns,
    one_column,
    same_criterion,
    sized,
    swapped,
    turned,
)
from gradsight.text import Source
from gradsight.values import NOWHERE

SAME_SIZE = {
    "BCELoss": "Using a target size ({target}) that is different to the input size ({input}) is deprecated",
    "BCEWithLogitsLoss": "Target size ({target}) must be the same as input size ({input})",
}
SAME_SIZE["binary_cross_entropy"] = SAME_SIZE["BCELoss"]
SAME_SIZE["binary_cross_entropy_with_logits"] = SAME_SIZE["BCEWithLogitsLoss"]
CLASSES = frozenset({"CrossEntropyLoss", "cross_entropy", "NLLLoss", "nll_loss"})
# What may stand between a difference and the mean of a loss, element by element.
ELEMENTWISE = {
    *KEEPING, *LINEAR, *SCALING, "torch.pow", "torch.Tensor.pow", "torch.square", "torch.Tensor.square",
    "torch.abs", "torch.Tensor.abs", "builtins.abs", "torch.sqrt", "torch.Tensor.sqrt", "torch.log1p",
    "torch.cosh", "torch.log", "torch.Tensor.log", "torch.where", "torch.clamp", "torch.Tensor.clamp",
    "torch.nn.functional.relu", "torch.relu", "torch.sum", "torch.Tensor.sum",
}  # fmt: skip
ROWWISE = frozenset({"sum", "mean", "norm", "max", "min", "amax", "amin", "logsumexp", "diag", "diagonal"})
REDUCING = ("mean", "sum")
FLOWING = (Edge.LIVE, Edge.UNKNOWN)
VIEWS = frozenset({"squeeze", "unsqueeze", "view", "reshape", "flatten"})


def check(q: Queries) -> Iterator[Report]:
    for call in calls(q):
        if call.input is None or call.target is None or swapped(q, call):
            continue
        if call.criterion in CLASSES:
            yield from classes(q, call, call.input, call.target)
        elif call.shape is not None and call.target_shape is not None:
            yield from pairs(q, call, call.input, call.target, call.shape, call.target_shape)
    said: set[int] = set()
    for event in q.all("apart"):
        # `-(y * log(p) + (1 - y) * log(1 - p)).mean()`: one pair of shapes, however often it is written.
        mean = averaged(q, event.node)
        if mean not in said:
            found = list(by_hand(q, event)) if mean != NOWHERE else []
            said |= {mean} if found else set()
            yield from found


def pairs(
    q: Queries, call: Call, given: Place, target: Place, shape: Sizes, target_shape: Sizes
) -> Iterator[Report]:
    """A prediction and a target that are compared element by element."""
    if dropped(q, given, VIEWS) or dropped(q, target, VIEWS):
        return
    apart = blown_up(shape, target_shape)
    names = (
        f"`{q.text_of(given)}` has the shape {sized(shape)} and `{q.text_of(target)}` {sized(target_shape)}"
    )
    refused = SAME_SIZE.get(call.criterion)
    if refused is not None:
        if differ(shape, target_shape):
            text = refused.format(target=torch_size(target_shape), input=torch_size(shape))
            yield RULE.report(
                SEVERITY["raises"],
                f'{names}: `{call.criterion}` raises "{text}"',
                given,
                (("and this is the target", target),),
                squeezable(shape, target_shape, given, target),
                mending(shape, target_shape),
            )
    elif apart and call.target_wants == "same" and not call.silent:
        yield RULE.report(
            SEVERITY["wrong"],
            f"{names}: `{call.criterion}` repeats both to {sized(broadcast(shape, target_shape) or ())}, and "
            "every prediction is compared with every target",
            given,
            (("and this is the target", target),),
            squeezable(shape, target_shape, given, target),
            mending(shape, target_shape),
        )


def by_hand(q: Queries, event: Event) -> Iterator[Report]:
    """`((pred - y) ** 2).mean()`: one side learns, the other is data, and all is reduced to one number."""
    left, right, where = event.place("left"), event.place("right"), event.place("call")
    shape, other = read(event.fact("shape")), read(event.fact("target_shape"))
    if left is None or right is None or where is None or shape is None or other is None:
        return
    if len(shape) + len(other) != 3 or None in shape + other:
        return
    column, row = (shape, other) if len(shape) == 2 else (other, shape)
    if column[0] != row[0] or on_purpose(q.syntax_of(left)) or on_purpose(q.syntax_of(right)):
        return
    one, two = event.nodes
    fixed = [is_data(q, number, FLOWING) for number in (one, two)]
    if not (learns(q, one) and fixed[1]) and not (learns(q, two) and fixed[0]):
        return
    if any(number >= 0 and q.graph[number].kind == "source" for number in event.nodes):
        return  # a parameter by itself: centres, a table
    if any(number >= 0 and q.graph[number].op.rpartition(".")[2] in ROWWISE for number in event.nodes):
        return  # `(a**2).sum(1, keepdim=True)`: the distances of every pair
    names = f"`{q.text_of(left)}` has the shape {sized(shape)} and `{q.text_of(right)}` {sized(other)}"
    what = "compared" if event.fact("op") == "sub" else "multiplied"
    yield RULE.report(
        SEVERITY["wrong"],
        f"{names}: both are repeated to {sized(broadcast(shape, other) or ())}, and every element of one is "
        f"{what} with every element of the other",
        where,
        (),
        squeezable(shape, other, left, right),
        mending(shape, other),
    )


def classes(q: Queries, call: Call, given: Place, target: Place) -> Iterator[Report]:
    """What cross entropy takes for classes."""
    shape, target_shape = call.shape, call.target_shape
    if one_column(q, call):
        maker = call.made or call.event.place("call")
        alone = sum(1 for one in calls(q) if same_criterion(one, call)) == 1
        plain = call.criterion in ("CrossEntropyLoss", "cross_entropy") and not call.event.fact("weight")
        rank = len(shape or ())
        places = [("criterion", maker)] if maker is not None and alone and plain else []
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{q.text_of(given)}` has one column, and over one class `{call.criterion}` is 0 whatever the "
            'model says (class 1 raises "Target 1 is out of bounds."); one logit for two classes wants '
            "`BCEWithLogitsLoss`",
            given,
            (),
            (*((name, place) for name, place in places), ("target", target)),
            (
                ("kind", "binary"),
                ("function", "yes" if call.made is None else ""),
                ("squeeze", "yes" if target_shape is not None and rank == len(target_shape) + 1 else ""),
                ("cast", "" if call.target_exact == "float32" else "yes"),
                ("fits", "yes" if target_shape is not None and rank - len(target_shape) in (0, 1) else ""),
            ),
        )
    elif indices_in_a_column(q, call, target) and not dropped(q, target, VIEWS):
        if len(shape or ()) == 4:
            text = "only batches of spatial targets supported (3D tensors) but got targets of dimension: 4"
        else:
            text = "multi-target not supported"
        if target_shape is not None:
            what = f"has the shape {sized(target_shape)}"
        else:
            what = "has a dimension of size 1 more"
        cast = ".long()" if call.target_exact == "float32" else ""
        yield RULE.report(
            SEVERITY["raises"],
            f"`{q.text_of(target)}` {what}, and `{call.criterion}` wants class "
            f'indices without that dimension: raises "{text}"; use `.squeeze(1){cast}`',
            target,
            (),
            () if cast else (("squeeze", target),),
            (("kind", "squeeze"), ("dim", "1"), ("safe", "yes")),
        )


def indices_in_a_column(q: Queries, call: Call, target: Place) -> bool:
    """Whether indices surely have a dimension of size 1 where the scores have the classes.

    Integers of the shape of the scores are refused as probabilities, so that one class is no way out.
    """
    shape, other = call.shape, call.target_shape
    integer = call.target_exact in ("int64", "uint8")
    many = call.event.fact("last") not in ("", "None", "1")
    if other is None:
        # `y.unsqueeze(1)` has two dimensions at least, and scores of shape (N, C) want one.
        number = call.event.nodes[0]
        rows = len(shape) == 2 if shape is not None else many and is_raw(q, number) and not turned(q, number)
        return rows and grown(q.syntax_of(target))
    if len(other) not in (2, 4) or other[1] != 1:
        return False
    if shape is None:
        return len(other) == 2 and many  # neither (N, 1) nor (N, C, 1)
    if len(shape) != len(other) or (len(shape) == 4 and not integer):
        return False
    return integer or shape[1] not in (None, 1)


def grown(node: object) -> bool:
    """`y.unsqueeze(1)`"""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "unsqueeze"
        and [ast.unparse(one) for one in node.args] in (["1"], ["-1"])
    )


def differ(shape: Sizes, other: Sizes) -> bool:
    """Whether two shapes are surely not the same."""
    if len(shape) != len(other):
        return True
    return any(
        x is not None and y is not None and x != y and (min(x, y) >= 0 or 1 in (x, y))
        for x, y in zip(shape, other, strict=True)
    )


def torch_size(shape: Sizes) -> str:
    return "torch.Size([" + ", ".join("N" if dim is None or dim < 0 else str(dim) for dim in shape) + "])"


def squeezable(shape: Sizes, other: Sizes, place: Place, target: Place) -> tuple[tuple[str, Place], ...]:
    """Which of the two has one dimension of size 1 more than the other, and nothing else."""
    if extra(shape, other) is not None:
        return (("squeeze", place),)
    return (("squeeze", target),) if extra(other, shape) is not None else ()


def mending(shape: Sizes, other: Sizes) -> tuple[tuple[str, str], ...]:
    at = extra(shape, other)
    at = extra(other, shape) if at is None else at
    return (("kind", "squeeze"), ("dim", "" if at is None else str(at)))


def extra(longer: Sizes, shorter: Sizes) -> int | None:
    """The dimension of size 1 that the longer shape has more than the shorter; the last of several."""
    if len(longer) != len(shorter) + 1:
        return None
    for at in range(len(longer) - 1, 0, -1):
        rest = longer[:at] + longer[at + 1 :]
        if longer[at] == 1 and not differ(rest, shorter):
            return at
    return None


def on_purpose(node: object) -> bool:
    """Whether a dimension is added on the spot: `x[:, None]`, `x.unsqueeze(1)`, `x.view(-1, 1)`."""
    if isinstance(node, ast.Subscript):
        return "None" in ast.unparse(node.slice)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("unsqueeze", "view", "reshape", "expand_dims")
    return False


def averaged(q: Queries, number: int) -> int:
    """The first sum or mean behind a value that reaches a sink through nothing but elementwise operations;
    NOWHERE where there is none."""
    reached = {number}
    first = NOWHERE
    roots = {root for sink in q.sinks for root in q.roots(sink)}
    for at in range(number + 1, len(q.graph)):
        node = q.graph[at]
        ways = [edge for i, edge in zip(node.inputs, node.edges, strict=False) if i in reached]
        if all(edge in (Edge.NONE, Edge.CUT) for edge in ways):
            continue  # something else, or logged
        if node.kind == "op":
            if node.op not in ELEMENTWISE:
                return NOWHERE
            if first == NOWHERE and node.op.rpartition(".")[2] in REDUCING:
                first = at
        reached.add(at)
    return NOWHERE if reached.isdisjoint(roots) else first


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    if finding.fact("kind") == "binary":
        criterion, target = finding.place("criterion"), finding.place("target")
        if criterion is None or target is None or not finding.fact("fits"):
            return
        name = "binary_cross_entropy_with_logits" if finding.fact("function") else "BCEWithLogitsLoss"
        parts = [surgery.another_criterion(source, criterion, name)]
        if finding.fact("squeeze"):
            parts.append(surgery.with_method(source, finding.where, ".squeeze(1)"))
        if finding.fact("cast"):
            parts.append(surgery.cast_to(source, target, "float"))
        edits = [edit for part in parts if not isinstance(part, surgery.Refusal) for edit in part]
        if not any(isinstance(part, surgery.Refusal) for part in parts):
            yield Fix(
                f"Use `{name}`: one logit for two classes",
                Applicability.UNSAFE,
                tuple(sorted(edits, key=lambda edit: edit.where.start)),
            )
        return
    where, dim = finding.place("squeeze"), finding.fact("dim")
    if where is None or not dim:
        return
    edits_ = surgery.with_method(source, where, f".squeeze({dim})")
    if isinstance(edits_, surgery.Refusal):
        return
    if finding.severity is SEVERITY["raises"]:
        yield Fix(f"Use `.squeeze({dim})`", Applicability.SAFE, edits_)
    else:
        yield Fix(f"Use `.squeeze({dim})`: element by element", Applicability.UNSAFE, edits_)


RULE = Rule("GS306", "broadcast-in-loss", check, fix)
