"""
Detaching a tensor that a loss is computed from.

## What it does
Flags `.detach()`, `.detach_()` and `.data` where they close the last way from something that must learn to
`backward()`, or make a whole term of the loss a constant.

## Why is this bad?
The graph ends there. What lies before it keeps a gradient of `None`: either `backward()` raises "element 0 of
tensors does not require grad", or, worse, nothing is raised and that part of the model silently never learns.

## Use instead
Drop the call. To log or plot a value, detach a copy of it and leave the one in the loss alone.

```python
loss = criterion(output.data, target)  # the model never learns
loss = criterion(output, target)
history.append(loss.detach())
```

Where both networks step on what is cut once, no fix is offered: which of the two should get its gradient is
not known.

## When it is right
Targets, straight-through estimators, a discriminator's fake batch, a teacher, truncated backpropagation
through time, weights computed from a loss: wherever another way to what must learn stays open, or nothing
behind the cut should learn. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules import loss_term_without_effect, wording
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    left_out = loss_term_without_effect.left_out(q)
    # What a term was to train that is left out of the loss needs that term, and no way through here.
    yield from wording.reports(RULE, q, lambda lost: lost.kind == "starved" and left_out >= {*lost.sources})


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    written = surgery.bound_instead_of_data(source, finding.where)
    if written is not None:
        if not isinstance(written, surgery.Refusal):
            yield Fix("Bind the name itself, with its graph", Applicability.UNSAFE, written)
        return
    edits = surgery.unwrap_method_call(source, finding.where)
    if isinstance(edits, surgery.Refusal):
        return
    kind = finding.fact("kind")
    text = source.slice(finding.where)
    call = ".data" if text.endswith(".data") else ".detach_()" if text.endswith(".detach_()") else ".detach()"
    if kind in ("part", "frozen"):
        yield Fix(
            f"Remove `{call}` if it was not intended (changes what learns)", Applicability.UNSAFE, edits
        )
    else:
        yield Fix(f"Remove `{call}`", wording.applicability(finding), edits)


RULE = Rule("GS102", "detach-in-loss", check, fix)
