"""
A target of a dtype that the loss refuses.

## What it does
Flags floating-point or 32-bit class indices in `CrossEntropyLoss` and `NLLLoss`, integer targets in
`BCELoss`, `BCEWithLogitsLoss`, `HuberLoss` and `KLDivLoss`, and float64 targets beside float32 predictions
where torch refuses those. Only where the target's dtype is known for sure.

## Why is this bad?
It raises: "expected target dtype to be Long or Byte, but got Float", "Found dtype Long but expected Float",
"result type Float can't be cast to the desired output type Long". With `HuberLoss` the error comes as late as
`backward()`.

## Use instead
`.long()` for class indices, `.float()` for everything that is compared with the prediction.

```python
y = torch.from_numpy(labels)  # an int64 array
loss = F.binary_cross_entropy_with_logits(logits, y)  # raises
loss = F.binary_cross_entropy_with_logits(logits, y.float())
```

## When it is right
`MSELoss`, `L1Loss` and `SmoothL1Loss` take integers and float64; cross entropy takes class probabilities of
the input's own shape. None of these is flagged.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradsight import surgery
from gradsight.finding import Applicability, Finding, Fix
from gradsight.interpret.dtypes import kind_of
from gradsight.policy import SEVERITY
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules.loss_inputs import Call, calls, differentiated, dropped, one_column, swapped, torch_name
from gradsight.text import Source

CLASSES = frozenset({"CrossEntropyLoss", "cross_entropy", "NLLLoss", "NLLLoss2d", "nll_loss"})
MARGINS = frozenset({"MultiMarginLoss", "multi_margin_loss"})
PROBABILITIES = frozenset({"BCELoss", "binary_cross_entropy"})
LOGITS = frozenset({"BCEWithLogitsLoss", "binary_cross_entropy_with_logits"})
HUBER = frozenset({"HuberLoss", "huber_loss"})
DIVERGENCE = frozenset({"KLDivLoss", "kl_div"})
CASTS = frozenset({"float", "double", "long", "int", "to", "type", "type_as"})
DIFFERENCE = frozenset({"L1Loss", "l1_loss", "MultiLabelSoftMarginLoss", "multilabel_soft_margin_loss"})


def check(q: Queries) -> Iterator[Report]:
    recast = q.has("cast")  # what is float32 by default may be something else
    for call in calls(q):
        if call.target is None or not call.target_exact or call.event.fact("target") == "one-hot":
            continue
        if swapped(q, call) or one_column(q, call) or dropped(q, call.target, CASTS):
            continue
        text = refusal(call, recast)
        if not text or (call.criterion in HUBER and not differentiated(q, call.event.node)):
            continue
        cast = "long" if call.criterion in CLASSES | MARGINS else "float"
        named = q.text_of(call.target)
        late = " in `backward`" if call.criterion in HUBER else ""
        kind = "class indices" if cast == "long" else "floats"
        yield RULE.report(
            SEVERITY["raises"],
            f'`{named}` is {call.target_exact}, and `{call.criterion}` wants {kind}: raises "{text}"{late}; '
            f"use `.{cast}()`",
            call.target,
            facts=(("cast", cast),),
        )


def refusal(call: Call, recast: bool) -> str:
    """What torch says of the target's dtype; "" where it takes it."""
    exact, name = call.target_exact, torch_name(call.target_exact)
    kind = kind_of(exact)
    wide = exact == "float64" and call.exact == "float32" and not recast
    if call.criterion in CLASSES:
        return refused_classes(call, name, kind)
    if call.criterion in MARGINS:
        return f"expected scalar type Long but found {name}" if exact != "int64" else ""
    if call.criterion in PROBABILITIES | HUBER:
        expected = torch_name(call.exact) if kind_of(call.exact) == "float" and not recast else "Float"
        return f"Found dtype {name} but expected {expected}" if kind != "float" or wide else ""
    if exact == "bool" and call.criterion in LOGITS:
        return "Subtraction, the `-` operator, with two bool tensors is not supported"
    if exact == "bool" and call.criterion in DIFFERENCE:
        return "Subtraction, the `-` operator, with a bool tensor is not supported"
    if call.criterion in LOGITS:
        return f"result type Float can't be cast to the desired output type {name}" if kind != "float" else ""
    if call.criterion in DIVERGENCE:
        return "kl_div: Integral inputs not supported." if kind != "float" else ""
    return ""


def refused_classes(call: Call, name: str, kind: str) -> str:
    if call.target_exact in ("int64", "uint8"):
        return ""
    if kind != "float":
        return f"expected target dtype to be Long or Byte, but got {name}"
    # Floating targets of the input's own shape are class probabilities.
    if call.shape is None or call.target_shape is None or len(call.target_shape) != len(call.shape) - 1:
        return ""
    return f"expected target dtype to be Long or Byte, but got {name}"


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    cast = finding.fact("cast") or ""
    edits = surgery.cast_to(source, finding.where, cast)
    if not isinstance(edits, surgery.Refusal):
        yield Fix(f"Use `.{cast}()`", Applicability.SAFE, edits)


RULE = Rule("GS305", "target-dtype", check, fix)
