"""All cuts on one way at once: each by the fix that fits its form."""

from __future__ import annotations

import re
from collections.abc import Sequence

import libcst as cst

from gradsight.finding import Edit
from gradsight.surgery.cuts import last_name, rewraps
from gradsight.surgery.piece import find, layout, merged
from gradsight.surgery.refusal import Refusal
from gradsight.surgery.reopen import remove_statement, unwrap_method_call
from gradsight.surgery.scalars import tensor_for_number
from gradsight.surgery.stacking import stack_for_rewrap
from gradsight.text import Source, Span

_LAUNDERED = re.compile(r"\s*[\w.]+\s*\.\s*requires_grad(?:\s*=\s*True|_\s*\([^()]*\))\s*;?\s*$")


def reopen_way(source: Source, cuts: Sequence[Span]) -> tuple[Edit, ...] | Refusal:
    """Every cut of a way taken away: `.detach()`, `.item()`, `torch.tensor(x)`, `x.requires_grad = True`.

    Args:
        cuts: the expressions, or for a tensor that is only told to require a gradient its statement.
    """
    groups: list[tuple[Edit, ...]] = []
    for where in cuts:
        edits = _reopened(source, where)
        if isinstance(edits, Refusal):
            return edits
        groups.append(edits)
    try:
        return merged(*groups)
    except ValueError:
        return Refusal("the cuts stand inside each other")


def _reopened(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    if _LAUNDERED.match(layout(source.text).masked[where.start : where.end]):
        return remove_statement(source, where)
    found = find(source, where)
    if isinstance(found, Refusal):
        return found
    _, node = found
    if isinstance(node, cst.Call):
        if rewraps(node):
            return stack_for_rewrap(source, where)
        if last_name(node.func) in {"item", "tolist", "float"}:
            return tensor_for_number(source, where)
    return unwrap_method_call(source, where)
