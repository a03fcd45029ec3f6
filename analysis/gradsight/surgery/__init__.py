"""Fixes as pure functions from a source and spans to small edits; the only room where libcst lives.

The rules decide when a fix is right, this package how the text changes. Every function returns the
edits of one fix, or a `Refusal` that names what could not be changed faithfully. libcst is loaded by the
first function that is asked for, never by importing this package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gradsight.surgery.refusal import Refusal

if TYPE_CHECKING:
    from gradsight.surgery.blocks import insert_ignore, move_out_of_no_grad, sum_then_backward
    from gradsight.surgery.criteria import (
        cross_entropy_for_nll,
        drop_softmax,
        indices_for_one_hot,
        log_softmax_for,
    )
    from gradsight.surgery.in_place import cloned, out_of_place, seen_by_autograd, under_no_grad
    from gradsight.surgery.inputs import (
        another_criterion,
        cast_to,
        exchanged,
        softmax_for,
        with_keyword,
        with_method,
    )
    from gradsight.surgery.moving import move_before, move_behind
    from gradsight.surgery.order import (
        append_to_block,
        block_under,
        function_around,
        insert_above,
        insert_at_head,
        insert_before,
        insert_behind,
        insert_return,
        is_bound_before,
        is_inside,
        name_there,
    )
    from gradsight.surgery.reopen import (
        drop_rounding,
        reduce_to_scalar,
        remove_statement,
        unwrap_method_call,
    )
    from gradsight.surgery.scalars import tensor_for_number
    from gradsight.surgery.stacking import stack_for_rewrap
    from gradsight.surgery.tensors import tensors_for_numpy
    from gradsight.surgery.way import reopen_way
    from gradsight.surgery.weights import as_buffer, as_parameter, parameter_last, wrapped

__all__ = [
    "Refusal",
    "another_criterion",
    "append_to_block",
    "as_buffer",
    "as_parameter",
    "block_under",
    "cast_to",
    "cloned",
    "cross_entropy_for_nll",
    "drop_rounding",
    "drop_softmax",
    "exchanged",
    "function_around",
    "indices_for_one_hot",
    "insert_above",
    "insert_at_head",
    "insert_before",
    "insert_behind",
    "insert_ignore",
    "insert_return",
    "is_bound_before",
    "is_inside",
    "log_softmax_for",
    "move_before",
    "move_behind",
    "move_out_of_no_grad",
    "name_there",
    "out_of_place",
    "parameter_last",
    "reduce_to_scalar",
    "remove_statement",
    "reopen_way",
    "seen_by_autograd",
    "softmax_for",
    "stack_for_rewrap",
    "sum_then_backward",
    "tensor_for_number",
    "tensors_for_numpy",
    "under_no_grad",
    "unwrap_method_call",
    "with_keyword",
    "with_method",
    "wrapped",
]

_ROOMS = {
    "blocks": ("insert_ignore", "move_out_of_no_grad", "sum_then_backward"),
    "criteria": ("cross_entropy_for_nll", "drop_softmax", "indices_for_one_hot", "log_softmax_for"),
    "in_place": ("cloned", "out_of_place", "seen_by_autograd", "under_no_grad"),
    "inputs": (
        "another_criterion",
        "cast_to",
        "exchanged",
        "softmax_for",
        "with_keyword",
        "with_method",
    ),
    "moving": ("move_before", "move_behind"),
    "order": (
        "append_to_block",
        "block_under",
        "function_around",
        "insert_above",
        "insert_at_head",
        "insert_before",
        "insert_behind",
        "is_bound_before",
        "insert_return",
        "is_inside",
        "name_there",
    ),
    "reopen": (
        "drop_rounding",
        "reduce_to_scalar",
        "remove_statement",
        "unwrap_method_call",
    ),
    "scalars": ("tensor_for_number",),
    "stacking": ("stack_for_rewrap",),
    "tensors": ("tensors_for_numpy",),
    "way": ("reopen_way",),
    "weights": ("as_buffer", "as_parameter", "parameter_last", "wrapped"),
}
_ROOM = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    room = _ROOM.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{room}"), name)
