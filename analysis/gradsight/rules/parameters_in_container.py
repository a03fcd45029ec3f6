"""
Parameters in a plain list or dictionary.

## What it does
Flags a plain list, tuple or dictionary on a module that holds `nn.Parameter`s which the forward uses, where
nothing else registers them.

## Why is this bad?
A module knows the parameters that are its attributes, and looks into no plain list. `parameters()` leaves
these out: the optimizer never moves them, `state_dict()` does not save them, `.to(device)` leaves them where
they are. Nothing is raised as long as the module owns any other parameter.

## Use instead
`nn.ParameterList` for a list and `nn.ParameterDict` for a dictionary.

```python
self.scales = nn.ParameterList([nn.Parameter(torch.ones(8)) for _ in range(3)])
```

An `nn.ParameterDict` wants strings for keys: one with numbers is left to people.

## When it is right
Parameters that are registered besides (`register_parameter`), or handed to the optimizer by name: none of
these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import ownership, surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules.modules_in_list import kept, nested, unlisted
from gradsight.text import Source
from gradsight.values import Tensor


def check(q: Queries) -> Iterator[Report]:
    heap = q.program.heap
    for event, value in kept(q):
        held = (one for one in ownership.hidden(heap, value) if isinstance(one, Tensor))
        lost = frozenset(one.node for one in held if one.origin == "parameter" or is_made(q, one.node))
        yield from unlisted(q, RULE, event, lost, "parameters", nested(heap, value))


def is_made(q: Queries, number: int) -> bool:
    """Whether a leaf was made as one, `torch.zeros(1, requires_grad=True)`, and is nobody's input."""
    node = q.graph[number]
    return node.op == "leaf" and node.note not in ("requires_grad", "Variable")


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    if finding.fact("refuses"):
        return
    wrapper = "ParameterDict" if finding.fact("kind") == "dict" else "ParameterList"
    edits = surgery.wrapped(source, finding.where, f"torch.nn.{wrapper}")
    if not isinstance(edits, surgery.Refusal):
        yield Fix(f"Make it an `nn.{wrapper}` (its parameters learn)", Applicability.UNSAFE, edits)


RULE = Rule("GS403", "parameters-in-list-or-dict", check, fix)
