"""
A loss that is given something else than it takes.

## What it does
Flags a target and a prediction in exchanged places, `KLDivLoss` on probabilities or raw scores instead of
log-probabilities, log-probabilities as its target without `log_target=True`, classes in the last
dimension where cross entropy looks for them in the second, and a prediction and a target that are given to
the class where its settings stand: `nn.MSELoss(pred, y)`.

## Why is this bad?
Most of it runs. Exchanged arguments give another function with other gradients, `KLDivLoss` on probabilities
is no divergence (it is negative, or NaN), and with as many classes as steps or pixels cross entropy takes one
for the other. Where sizes differ it raises "Expected target size [N, C], got [N, T]".

## Use instead
The prediction first, the target second; `log_softmax` for the student and `softmax` for the teacher; classes
in dimension 1.

```python
loss = F.kl_div(F.softmax(student, dim=1), F.softmax(teacher, dim=1), reduction="batchmean")  # negative
loss = F.kl_div(F.log_softmax(student, dim=1), F.softmax(teacher, dim=1), reduction="batchmean")
loss = F.cross_entropy(logits.transpose(1, 2), tokens)  # (N, T, C) becomes (N, C, T)
```

## When it is right
`MSELoss` and `L1Loss` are symmetric. A divergence may learn through its target. `log_target=True` with a
teacher's log-probabilities. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Edit, Finding, Fix, Severity
from gradsight.graph import Place
from gradsight.interpret.dtypes import kind_of
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules import nll_without_log_softmax
from gradsight.rules.loss_inputs import Call, Sizes, calls, is_raw, making, sized, swapped, turned
from gradsight.rules.softmax_before_cross_entropy import origin
from gradsight.text import Source, Span

DIVERGENCE = frozenset({"KLDivLoss", "kl_div"})
CLASSES = frozenset({"CrossEntropyLoss", "cross_entropy", "NLLLoss", "nll_loss"})


def check(q: Queries) -> Iterator[Report]:
    for event in q.all("as settings"):
        yield from as_settings(q, event)
    for call in calls(q):
        if call.input is None or call.target is None:
            continue
        if swapped(q, call):
            yield exchanged(q, call, call.input, call.target)
        elif call.criterion in DIVERGENCE:
            yield from divergence(q, call, call.input, call.target)
        elif call.criterion in CLASSES:
            yield from classes_last(q, call, call.input)


def as_settings(q: Queries, event: Event) -> Iterator[Report]:
    """`nn.CrossEntropyLoss(pred, y)` makes a criterion and computes nothing."""
    where, called = event.place("call"), event.place("made")
    if where is None or called is None:
        return
    name = q.text_of(called)
    yield RULE.report(
        SEVERITY["raises"],
        f"`{q.text_of(where)}` makes the loss function and computes no loss: the tensors stand where its "
        f"settings belong, and it raises; make it first and call it then, `{name}()(…)`",
        where,
        places=(("made", called),),
        facts=(("kind", "settings"),),
    )


def exchanged(q: Queries, call: Call, given: Place, target: Place) -> Report:
    integer = kind_of(call.exact) in ("int", "bool")
    index = "index" in call.target_wants
    raises = index or integer
    if integer and index:
        end = ": raises \"not implemented for 'Long'\""
    elif raises:
        end = ": it raises"
    elif call.wants == "probability":
        end = ": its gradient is another function's, and infinite where a label is 0 or 1"
    else:
        end = ": nothing is raised, and the gradients are those of another function"
    return RULE.report(
        SEVERITY["raises" if raises else "wrong"],
        f"`{call.criterion}` is given the target `{q.text_of(given)}` first and the prediction "
        f"`{q.text_of(target)}` second{end}; exchange them",
        given,
        (("and this is the prediction", target),),
        (("other", target),),
        (("kind", "exchange"),),
    )


def divergence(q: Queries, call: Call, given: Place, target: Place) -> Iterator[Report]:
    role, other = call.event.fact("input"), call.event.fact("target")
    if call.silent:
        return
    first, second = call.event.nodes[:2]
    if role == "probability" or (role == "logit" and is_raw(q, first)):
        made = origin(q, first) if role == "probability" else None
        kind = "probabilities" if role == "probability" else "raw scores"
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{q.text_of(given)}` holds {kind}, and `{call.criterion}` wants log-probabilities: what it "
            "computes is no divergence; use `log_softmax`",
            given,
            ((f"these are {kind}", made),) if made is not None else (),
            (("softmax", made),) if made is not None else (),
            (("kind", "log"), ("role", role)),
        )
    elif other == "log-probability" and not call.event.fact("log_target"):
        call_place = call.made or call.event.place("call")
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{q.text_of(target)}` holds log-probabilities, and `{call.criterion}` takes the logarithm "
            "of its target itself: the loss is NaN; say `log_target=True`",
            target,
            (),
            (("call", call_place),) if call_place is not None else (),
            (("kind", "log_target"),),
        )
    elif other == "logit" and is_raw(q, second) and not call.event.fact("log_target"):
        yield RULE.report(
            SEVERITY["wrong"],
            f"`{q.text_of(target)}` holds raw scores, and `{call.criterion}` wants probabilities: the "
            "logarithm of a negative score makes the loss NaN; take their softmax",
            target,
            (),
            (),
            (("kind", "softmax"),),
        )


def classes_last(q: Queries, call: Call, given: Place) -> Iterator[Report]:
    """(N, T, C) against (N, T), (N, H, W, C) against (N, H, W)."""
    shape, target = call.shape, call.target_shape
    if shape is None or target is None or len(shape) < 3 or len(target) != len(shape) - 1:
        return
    if kind_of(call.target_exact) != "int" or not fits(shape[:-1], target):
        return
    certain = not fits(shape[2:], target[1:], strict=True)
    if not certain and not is_raw_linear(q, call.event.nodes[0]):
        return
    dims = len(shape)
    right = (
        ".transpose(1, 2)"
        if dims == 3
        else f".permute(0, {dims - 1}, {', '.join(map(str, range(1, dims - 1)))})"
    )
    text = "Expected target size [N, C], got [N, T]" if dims == 3 else "size mismatch"
    says = f'raises "{text}"' if certain and dims < 5 else "it takes one for the other"
    yield RULE.report(
        SEVERITY["raises" if certain else "wrong"],
        f"`{q.text_of(given)}` of shape {sized(shape)} has its classes in the last dimension, and "
        f"`{call.criterion}` looks for them in dimension 1: {says}; use `{right}`",
        given,
        facts=(("kind", "turn"), ("method", right)),
    )


def fits(one: Sizes, other: Sizes, *, strict: bool = False) -> bool:
    """Whether two shapes agree in every dimension; `strict`: nothing is known that says otherwise."""
    for x, y in zip(one, other, strict=True):
        if x is None or y is None or x == y:
            if not strict and (x is None or y is None):
                return False
            continue
        if min(x, y) < 0 and 1 not in (x, y):
            continue
        return False
    return True


def is_raw_linear(q: Queries, number: int) -> bool:
    """Whether the last dimension is what a linear layer gave, and no dimension was moved since."""
    return is_raw(q, number) and not turned(q, number) and "linear" in made_by(q, number)


def made_by(q: Queries, number: int) -> str:
    at = making(q, number)
    return q.graph[at].op.rpartition(".")[2].lower() if at >= 0 else ""


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    kind = finding.fact("kind")
    raised = finding.severity is Severity.ERROR
    safety = Applicability.SAFE if raised else Applicability.UNSAFE
    if kind == "settings":
        made = finding.place("made")
        if made is not None:
            edit = Edit(source.file, Span(made.end, made.end), "()")
            yield Fix(f"Make it first: `{source.slice(made)}()`", Applicability.SAFE, (edit,))
    elif kind == "exchange":
        other = finding.place("other")
        if other is not None:
            edits = surgery.exchanged(source, finding.where, other)
            if not isinstance(edits, surgery.Refusal):
                yield Fix("Exchange the two", safety, edits)
    elif kind == "turn":
        method = finding.fact("method") or ""
        edits = surgery.with_method(source, finding.where, method)
        if not isinstance(edits, surgery.Refusal):
            yield Fix(f"Use `{method}`", safety, edits)
    elif kind == "log":
        yield from nll_without_log_softmax.fix(source, finding)
    elif kind == "log_target":
        call = finding.place("call")
        if call is not None:
            edits = surgery.with_keyword(source, call, "log_target", "True")
            if not isinstance(edits, surgery.Refusal):
                yield Fix("Say `log_target=True`", Applicability.UNSAFE, edits)
    elif kind == "softmax":
        edits = surgery.softmax_for(source, finding.where)
        if not isinstance(edits, surgery.Refusal):
            yield Fix("Take the softmax of the target", Applicability.UNSAFE, edits)


RULE = Rule("GS308", "criterion-mismatch", check, fix)
