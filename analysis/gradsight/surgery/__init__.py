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
    from gradsight.surgery.blocks import (
        in_no_grad_block,
        insert_ignore,
        move_out_of_no_grad,
        out_of_branch,
        sum_then_backward,
    )
    from gradsight.surgery.carrying import detached_where_written
    from gradsight.surgery.criteria import (
        cross_entropy_for_nll,
        drop_softmax,
        indices_for_one_hot,
        log_softmax_for,
    )
    from gradsight.surgery.freezes import (
        freezing,
        line_behind,
        lines_moved_before,
        lines_moved_behind,
        lines_removed,
        thawed_parameters,
    )
    from gradsight.surgery.holding import made_again, own_parameters
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
        insert_behind_all,
        insert_return,
        is_bound_before,
        is_inside,
        name_there,
    )
    from gradsight.surgery.reopen import (
        bound_instead_of_data,
        drop_rounding,
        mean_of_each,
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
    "bound_instead_of_data",
    "cast_to",
    "cloned",
    "cross_entropy_for_nll",
    "detached_where_written",
    "drop_rounding",
    "drop_softmax",
    "exchanged",
    "freezing",
    "function_around",
    "in_no_grad_block",
    "indices_for_one_hot",
    "insert_above",
    "insert_at_head",
    "insert_before",
    "insert_behind",
    "insert_behind_all",
    "insert_ignore",
    "insert_return",
    "is_bound_before",
    "is_inside",
    "line_behind",
    "lines_moved_before",
    "lines_moved_behind",
    "lines_removed",
    "log_softmax_for",
    "made_again",
    "mean_of_each",
    "move_before",
    "move_behind",
    "move_out_of_no_grad",
    "name_there",
    "out_of_branch",
    "out_of_place",
    "own_parameters",
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
    "thawed_parameters",
    "under_no_grad",
    "unwrap_method_call",
    "with_keyword",
    "with_method",
    "wrapped",
]

_ROOMS = {
    "blocks": (
        "in_no_grad_block",
        "insert_ignore",
        "move_out_of_no_grad",
        "out_of_branch",
        "sum_then_backward",
    ),
    "carrying": ("detached_where_written",),
    "criteria": (
        "cross_entropy_for_nll",
        "drop_softmax",
        "indices_for_one_hot",
        "log_softmax_for",
    ),
    "freezes": (
        "freezing",
        "line_behind",
        "lines_moved_before",
        "lines_moved_behind",
        "lines_removed",
        "thawed_parameters",
    ),
    "holding": (
        "made_again",
        "own_parameters",
    ),
    "in_place": (
        "cloned",
        "out_of_place",
        "seen_by_autograd",
        "under_no_grad",
    ),
    "inputs": (
        "another_criterion",
        "cast_to",
        "exchanged",
        "softmax_for",
        "with_keyword",
        "with_method",
    ),
    "moving": (
        "move_before",
        "move_behind",
    ),
    "order": (
        "append_to_block",
        "block_under",
        "function_around",
        "insert_above",
        "insert_at_head",
        "insert_before",
        "insert_behind",
        "insert_behind_all",
        "is_bound_before",
        "insert_return",
        "is_inside",
        "name_there",
    ),
    "reopen": (
        "bound_instead_of_data",
        "drop_rounding",
        "mean_of_each",
        "reduce_to_scalar",
        "remove_statement",
        "unwrap_method_call",
    ),
    "scalars": ("tensor_for_number",),
    "stacking": ("stack_for_rewrap",),
    "tensors": ("tensors_for_numpy",),
    "way": ("reopen_way",),
    "weights": (
        "as_buffer",
        "as_parameter",
        "parameter_last",
        "wrapped",
    ),
}
_ROOM = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    room = _ROOM.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{room}"), name)
