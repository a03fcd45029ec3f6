"""
A `torch.autograd.Function` whose backward does not fit its forward.

## What it does
Flags a `backward` that returns too few or too many gradients, takes another number than `forward` returns,
returns nothing, returns `None` for something that must learn, or unpacks another number of tensors than were
saved; a Function without a `backward`, and one that is called instead of applied.

## Why is this bad?
Nothing of this is looked at before the backward pass comes there. Most of it raises then, in a line that says
nothing of the cause. A `backward` that returns nothing raises nothing: what lies before it never learns.

## Use instead
One gradient for each argument of `forward` but for `ctx`, `None` for what has none.

```python
class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x * factor

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


y = Scale.apply(x, 2.0)
```

`torch.autograd.gradcheck(Scale.apply, (x.double().requires_grad_(), 2.0))` compares it with numbers.

A derivative that is not written is not invented: a missing `backward`, a None where a gradient belongs, and
an index that is one too high are left to people.

## When it is right
`None` for settings, masks and indices, more of them than there are arguments, estimators whose backward is
another function's on purpose. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import Edge
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.text import Source, Span


def check(q: Queries) -> Iterator[Report]:
    events = list(q.all("contract"))
    silent = {event.place("where") for event in events if event.fact("kind") == "nothing"}
    yield from wording.reports(RULE, q, lambda lost: bool(silent))
    for event in events:
        where = event.place("where") or event.place("call")
        if where is None or (event.fact("kind") == "missing" and not is_asked(q, event)):
            continue
        message = said(q, event)
        call = event.place("call")
        steps = [("and this is where it is used", call)] if call is not None and call is not where else []
        yield RULE.report(
            SEVERITY["wrong" if event.fact("kind") == "nothing" else "raises"],
            message,
            where,
            (("the contract is broken here", where), *steps) if steps else (),
            (),
            (("kind", event.fact("kind")), ("class", event.fact("class")), ("last", event.fact("last"))),
        )


def is_asked(q: Queries, event: Event) -> bool:
    """Whether a backward pass surely comes to a Function."""
    if event.node < 0 or not q.requires_gradient(event.node):
        return False
    return any(
        event.node in q.feeding(top, (Edge.LIVE,))
        for sink in q.sinks
        if sink.kind in ("backward", "grad") and not sink.fact("off")
        for top in q.roots(sink)
    )


def said(q: Queries, event: Event) -> str:
    name, kind = event.fact("class"), event.fact("kind")
    if kind == "gradients":
        expected, got = event.fact("expected"), event.fact("got")
        few = int(got) < int(expected)
        do = "return None for an argument that has none" if few else "return one for each argument"
        return (
            f'`{name}.backward` raises "function {name}Backward returned an incorrect number of gradients '
            f'(expected {expected}, got {got})": {do}'
        )
    if kind == "outputs":
        count, takes = event.fact("count"), event.fact("takes")
        values, them = ("values", "as many gradients") if count != "1" else ("value", "one gradient")
        return (
            f"`{name}.forward` returns {count} {values}, so `backward` is given {them}, and takes {takes}: "
            "the backward pass raises a TypeError"
        )
    if kind == "nothing":
        return (
            f"`{name}.backward` computes a gradient and returns nothing: no gradient goes on from here, and "
            "nothing is raised"
        )
    if kind == "saved":
        return (
            f"`{name}.backward` unpacks {event.fact('count')} tensors where {event.fact('saved')} "
            f"{'was' if event.fact('saved') == '1' else 'were'} saved: the backward pass raises a ValueError"
        )
    if kind == "tuple":
        return (
            f"`ctx.saved_tensors` is a tuple, be it of one tensor: `{event.fact('use')}` raises a TypeError "
            "in the backward pass"
        )
    if kind == "needs":
        expected = event.fact("expected")
        things = "argument" if expected == "1" else "arguments"
        return f'`{name}` has {expected} {things}: this raises "IndexError: tuple index out of range"'
    if kind == "number":
        argument = event.fact("name")
        return (
            f'`{argument}` is a number here: raises "save_for_backward can only save variables, but argument '
            f'{event.fact("at")} is of type {event.fact("type")}"; keep it as `ctx.{argument}`'
        )
    if kind == "missing":
        return (
            f'`{name}` has no `backward`: the pass raises "You must implement either the backward or '
            'vjp method for your custom autograd.Function"'
        )
    return (
        'raises "Legacy autograd function with non-static forward method is deprecated": call '
        f"`{name}.apply(…)`"
    )


FITTING = {
    "gradients": "Return one value for each argument (None has no gradient)",
    "saved": "Unpack what was saved",
    "number": "Keep the number on `ctx`",
    "outputs": "Take a gradient for each output, and use the first alone",
}


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    where, kind = finding.where, finding.fact("kind")
    if kind in ("gradients", "saved", "number", "outputs"):
        by = {
            "gradients": surgery.as_many_gradients,
            "saved": surgery.unpacked_as_saved,
            "number": surgery.number_on_context,
            "outputs": surgery.gradient_of_each_output,
        }[kind]
        fitting = by(source, where)
        if not isinstance(fitting, surgery.Refusal):
            yield Fix(FITTING[kind], Applicability.UNSAFE, fitting)
        return
    text = source.slice(where)
    if kind == "nothing" and finding.fact("last"):
        edits = surgery.gradient_returned(source, where)
        if not isinstance(edits, surgery.Refusal):
            title = "Return the gradient (whether it is the one that is meant is not checked)"
            yield Fix(title, Applicability.UNSAFE, edits)
    elif kind == "tuple" and text.isidentifier():
        yield Fix(
            f"Take the one tensor out: `({text},)`",
            Applicability.UNSAFE,
            (Edit(source.file, where, f"({text},)"),),
        )
    elif kind == "called" and (made := text.find("()(")) > 0:
        span = Span(where.start + made, where.start + made + 2)
        yield Fix("Apply it", Applicability.UNSAFE, (Edit(source.file, span, ".apply"),))


RULE = Rule("GS701", "function-contract", check, fix)
