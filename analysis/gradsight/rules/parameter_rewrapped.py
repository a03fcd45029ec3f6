"""
A parameter that is computed with before anybody holds it.

## What it does
Flags `nn.Parameter(...)` that is multiplied, reshaped, cast or moved before it is stored or given to an
optimizer: what is stored is the result, which is no parameter. A move to a device is flagged only where the
device may be another one than that of the tensor inside. Flags the same of a tensor that was made with
`requires_grad=True`, where an optimizer or the next turn of a loop is given the result:
`w = w - lr * w.grad`.

## Why is this bad?
The result of an operation is no leaf. A module that gets it as an attribute keeps it as a plain tensor: it is
in neither `parameters()` nor `state_dict()`, and no optimizer moves it. An optimizer that is given it raises
"can't optimize a non-leaf Tensor". `nn.Parameter(...).to(device)` works on the CPU, where it changes nothing,
and is lost on a GPU. A weight that is bound to its own update is another tensor from the second turn on:
`backward()` raises, or `w.grad` is None.

## Use instead
Compute first, and make the parameter last; the module's own `to()` moves it.

```python
self.scale = nn.Parameter(torch.randn(4)) * 0.1  # a plain tensor
self.scale = nn.Parameter(torch.randn(4) * 0.1)

with torch.no_grad():
    w -= lr * w.grad  # the same tensor as before
```

## When it is right
Values that are computed from parameters which the module does hold, parameters that need no gradient, and
casts that change nothing. None of these is flagged.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradsight import surgery
from gradsight.domain import Edge
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import loops
from gradsight.queries import Queries, shortened
from gradsight.rule import Report, Rule
from gradsight.rules.plain_tensor_weight import owners_of_nothing
from gradsight.text import Source, Span


def check(q: Queries) -> Iterator[Report]:
    said: set[int] = set()
    empty: frozenset[int] | None = None
    for event in q.all("attribute"):
        where = event.place("value")
        if event.fact("origin") != "computed parameter" or where is None:
            continue
        change = changed(q, event.node)
        if not change or event.node in said or (change == "may" and "device=" in event.fact("devices")):
            continue
        said.add(event.node)
        empty = owners_of_nothing(q) if empty is None else empty
        raises = bool(event.oids) and event.oids[0] in empty
        name = f"self.{event.fact('name')}"
        end = (
            'the module owns no parameter, so the optimizer raises "optimizer got an empty parameter list"'
            if raises and change == "surely"
            else "`parameters()` does not list it, and no optimizer moves it"
        )
        yield RULE.report(
            SEVERITY["raises" if raises and change == "surely" else "wrong"],
            f"`{name}` is {made(change)} of an `nn.Parameter`, and none itself: {end}",
            where,
            ((f"`{name}` becomes a plain tensor here", where),),
            (("value", where),),
        )
    for event in q.optimizers:
        yield from given(q, event, said)
    for event in q.all("rebound"):
        yield from rebound(q, event)


def rebound(q: Queries, event: Event) -> Iterator[Report]:
    """A weight whose name is bound to its own update, in a loop that goes back to it in each turn."""
    where, target, loop = event.place("call"), event.place("target"), loops(event)[-1:]
    if where is None or target is None or any(loops(one)[-1:] == loop for one in q.all("once")):
        return
    if any(kind == "b" for kind, _, _ in event.context[event.context.index(("l", *loop, 0)) :]):
        return
    passes = [
        one
        for one in q.all("backward")
        if loop[0] in loops(one)
        and any(
            reach.surely_live for top in q.roots(one) if (reach := q.graph.reach(top).get(event.nodes[0]))
        )
    ]
    if not passes:
        return
    name, text = event.fact("name"), shortened(q.text_of(where))
    what = "is no leaf" if event.fact("recorded") else "requires no gradient"
    loss = q.sink_text(passes[0])
    yield RULE.report(
        SEVERITY["raises"],
        f"from the second turn on `{name}` is the result of `{text}`, which {what}: {loss} gives "
        f"`{name}.grad` nothing, and it raises; change `{name}` in place under `torch.no_grad()`",
        where,
        ((f"`{name}` becomes another tensor here", where),),
        (("target", target),),
        (("name", name), ("outside", "" if event.fact("grad") == "off" else "yes")),
    )


def given(q: Queries, event: Event, said: set[int]) -> Iterator[Report]:
    """Optimizers that are given what was computed from a new parameter."""
    call = event.place("call")
    for number in event.nodes if call is not None else ():
        where = q.graph[number].place
        if number in said or where is None or not is_of_new_parameters(q, number):
            continue
        if changed(q, number) != "surely":
            continue
        said.add(number)
        text = shortened(q.text_of(where))
        assert call is not None
        leaf = any(q.graph[n].op == "leaf" for n in q.feeding(number, (Edge.LIVE,)))
        of = "is computed from a leaf" if leaf else "is the result of an `nn.Parameter`"
        yield RULE.report(
            SEVERITY["raises"],
            f'`{text}` {of}, and none itself: the optimizer raises "can\'t optimize a non-leaf Tensor"',
            where,
            (("what is computed here is no leaf", where), ("and this optimizer is given it", call)),
            (("value", where),),
        )


def made(change: str) -> str:
    return "the result" if change == "surely" else "on any device but the CPU the result"


def is_of_new_parameters(q: Queries, number: int) -> bool:
    """Whether a value is computed from new parameters, and from nothing else that learns."""
    if q.graph[number].kind != "op":
        return False
    sources = [q.graph[n] for n in q.feeding(number, (Edge.LIVE,)) if q.graph[n].kind != "op"]
    return bool(sources) and all(
        node.kind == "source" and ((node.op == "parameter" and node.note == "parameter") or node.op == "leaf")
        for node in sources
    )


# -- what an operation changes


SAME = frozenset({"cpu", "float", "contiguous", "requires_grad_"})
CASTS = frozenset({"double", "half", "bfloat16", "cuda", "clone"})


def changed(q: Queries, number: int) -> str:
    """Whether what is computed from a new parameter is another tensor: "surely", "may" on a device that is
    not known, "" where the parameter itself comes back."""
    said = ""
    for n in q.feeding(number, (Edge.LIVE,)):
        node = q.graph[n]
        if node.kind == "source" and n in q.frozen:
            return ""
        if node.kind != "op":
            continue
        call = q.syntax_of(node.place) if node.place is not None else None
        last = node.op.rpartition(".")[2]
        if last in SAME or last == "parameters" or node.op in ("join", "item"):
            continue
        how = "surely"
        if last in ("to", "type", "type_as"):
            how = moves(call) if isinstance(call, ast.Call) else ""
        if how == "surely":
            return how
        said = said or how
    return said


def moves(call: ast.Call) -> str:
    """What `.to(...)` does to a new parameter: "surely" another tensor, "may" be one, ""."""
    if isinstance(call.func, ast.Attribute) and is_placed(call.func.value):
        return ""
    found = ""
    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
        text = ast.unparse(argument)
        if text.rpartition(".")[2] in ("float64", "double", "float16", "half", "bfloat16"):
            return "surely"
        if isinstance(argument, ast.Constant) and str(argument.value).startswith(("cuda", "mps")):
            return "surely"
        elsewhere = text.endswith((".device", ".dtype")) and text != "self.device"
        if "float32" in text or elsewhere or not isinstance(argument, (ast.Name, ast.Attribute, ast.IfExp)):
            continue
        found = "may"
    return found


def is_placed(made: ast.expr) -> bool:
    """Whether a parameter is made of a tensor that was put on some device already."""
    return any(
        (isinstance(node, ast.keyword) and node.arg == "device")
        or (isinstance(node, ast.Attribute) and node.attr in ("to", "cuda", "type_as"))
        for node in ast.walk(made)
    )


def in_place(source: Source, finding: Finding, target: Span) -> Iterator[Fix]:
    """`w = w - step` becomes `w -= step`."""
    name = re.escape(finding.fact("name") or "")
    text = source.slice(Span(target.start, finding.where.end))
    old = re.match(rf"({name})\s*=\s*{name}(?:\.data|\.detach\(\))?\s*([-+])\s*(?=[^-+()]+$)", text)
    if old is None:
        return
    edit = Edit(source.file, Span(target.start, target.start + old.end()), f"{old[1]} {old[2]}= ")
    grad = surgery.under_no_grad(source, finding.where) if finding.fact("outside") else ()
    if not isinstance(grad, surgery.Refusal):
        yield Fix(f"Change `{old[1]}` in place under `torch.no_grad()`", Applicability.UNSAFE, (*grad, edit))


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    target = finding.place("target")
    if target is not None:
        yield from in_place(source, finding, target)
        return
    edits = surgery.parameter_last(source, finding.where)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Make the parameter last", Applicability.UNSAFE, edits)


RULE = Rule("GS404", "parameter-rewrapped", check, fix)
