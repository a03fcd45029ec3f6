"""Tensors that are written to in place: what autograd sees of that, and who keeps what was there before."""

from __future__ import annotations

import ast
from typing import Any

from gradsight import memory
from gradsight.graph import Node
from gradsight.interpret.activation import Activation
from gradsight.values import NOWHERE, Const, Number, Tensor, Unknown, Value, node_of

LEAVES = ("parameter", "leaf")
KEEP_NUMBERS = frozenset(
    {"detach_", "requires_grad_", "squeeze_", "unsqueeze_", "t_", "transpose_", "swapaxes_", "swapdims_"}
)
LARGE = 1e3  # what is written to hide a score from a softmax is at least as far below zero
MOST_KEEPERS = 4  # that one write names


def written_in_place(
    it: Activation,
    old: Value,
    new: Value,
    name: str,
    at: Any,
    base: ast.expr | None,
    given: Value | None = None,
) -> None:
    """A tensor was written to in place: an event, where a gradient may have to do with it.

    Args:
        name: the operation's own name, "[]" for a part that is set.
        given: what is written, where that is one value.
    """
    if name in KEEP_NUMBERS or (isinstance(old, Unknown) and (name in ("[]", "") or old.node == NOWHERE)):
        return
    if not isinstance(old, (Tensor, Unknown)) or it.state.grad == "may":
        return
    leaf = ""
    if isinstance(old, Tensor):
        if old.origin in LEAVES:
            leaf = "leaf"
        else:
            whole = it.whole(old)
            leaf = "view" if whole is not None and whole.origin in LEAVES else ""
    number = old.node
    if number == NOWHERE:
        constant_written(it, old, name, at, base)
        return
    written = node_of(new)
    if written in (NOWHERE, number):
        # A leaf keeps its node: what was computed before and after is told apart by a point in time.
        written = it.graph.add(Node("mark", "write", place=it.here(at)))
    writes = {event.node: event.nodes[0] for event in it.events if event.kind == "written"}
    found = [] if leaf else list(memory.keepers(it.graph, number, writes, written))[-MOST_KEEPERS:]
    it.event(
        "written",
        written,
        (number, *(n for keeper in found for n in (keeper.node, *keeper.others[:1]))),
        facts={
            "name": name,
            "grad": it.state.grad,
            "leaf": leaf,
            "expected": "yes" if it.trying or any(asks(test) for test in it.tests) else "",
            "kept": " ".join(f"{keeper.what}:{len(keeper.others[:1])}" for keeper in found),
            "given": "hidden" if hides(given) else "",
        },
        call=it.here(at),
        target=it.here(base) if base is not None else None,
    )


def constant_written(it: Activation, old: Value, name: str, at: Any, base: ast.expr | None) -> None:
    """A tensor without a gradient was written to: an event, where it was kept for the gradient of others."""
    parts = [old]
    if isinstance(old, Tensor) and (whole := it.whole(old)) is not None:
        parts.append(whole)
    found = [
        (node, others[:1])
        for value, node, others in it.kept_constants
        if any(value is one or it.whole(value) is one for one in parts) and not it.graph[node].off
    ][-MOST_KEEPERS:]
    if found:
        it.event(
            "written",
            it.graph.add(Node("mark", "write", place=it.here(at))),
            (NOWHERE, *(number for keeper, others in found for number in (keeper, *others))),
            facts={
                "name": name,
                "grad": it.state.grad,
                "leaf": "",
                "expected": "yes" if it.trying or any(asks(test) for test in it.tests) else "",
                "kept": " ".join(f"input:{len(others)}" for _, others in found),
                "given": "",
            },
            call=it.here(at),
            target=it.here(base) if base is not None else None,
        )


def asks(test: str) -> bool:
    """Whether a condition asks what may be written to."""
    return any(word in test for word in ("requires_grad", "is_leaf", "grad_enabled", "grad_fn", "training"))


def hides(given: Value | None) -> bool:
    """Whether a number is written that a softmax makes zero of, or one that is not known."""
    if isinstance(given, Const) and isinstance(given.value, (int, float)):
        return given.value <= -LARGE
    return isinstance(given, (Unknown, Number))
