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
    from gradsight.surgery.contract import (
        as_many_gradients,
        gradient_of_each_output,
        gradient_returned,
        number_on_context,
        unpacked_as_saved,
    )
    from gradsight.surgery.criteria import (
        cross_entropy_for_nll,
        drop_softmax,
        indices_for_one_hot,
        log_softmax_for,
    )
    from gradsight.surgery.freezes import (
        before_its_loop,
        freezing,
        line_behind,
        lines_moved_before,
        lines_moved_behind,
        lines_removed,
        thawed_parameters,
    )
    from gradsight.surgery.holding import made_again, own_parameters
    from gradsight.surgery.in_place import (
        cloned,
        copied_first,
        drawn_anew,
        out_of_place,
        seen_by_autograd,
        seen_outside,
        under_no_grad,
        written_to_copy,
    )
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
    from gradsight.surgery.registering import made_in_init
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
    from gradsight.surgery.terms import added_to_loss, not_added_again
    from gradsight.surgery.way import reopen_way
    from gradsight.surgery.weights import as_buffer, as_parameter, parameter_last, wrapped

__all__ = [
    "Refusal",
    "added_to_loss",
    "another_criterion",
    "append_to_block",
    "as_buffer",
    "as_many_gradients",
    "as_parameter",
    "before_its_loop",
    "block_under",
    "bound_instead_of_data",
    "cast_to",
    "cloned",
    "copied_first",
    "cross_entropy_for_nll",
    "detached_where_written",
    "drawn_anew",
    "drop_rounding",
    "drop_softmax",
    "exchanged",
    "freezing",
    "function_around",
    "gradient_of_each_output",
    "gradient_returned",
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
    "made_in_init",
    "mean_of_each",
    "move_before",
    "move_behind",
    "move_out_of_no_grad",
    "name_there",
    "not_added_again",
    "number_on_context",
    "out_of_branch",
    "out_of_place",
    "own_parameters",
    "parameter_last",
    "reduce_to_scalar",
    "remove_statement",
    "reopen_way",
    "seen_by_autograd",
    "seen_outside",
    "softmax_for",
    "stack_for_rewrap",
    "sum_then_backward",
    "tensor_for_number",
    "tensors_for_numpy",
    "thawed_parameters",
    "under_no_grad",
    "unpacked_as_saved",
    "unwrap_method_call",
    "with_keyword",
    "with_method",
    "wrapped",
    "written_to_copy",
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
    "contract": (
        "as_many_gradients",
        "gradient_of_each_output",
        "gradient_returned",
        "number_on_context",
        "unpacked_as_saved",
    ),
    "criteria": (
        "cross_entropy_for_nll",
        "drop_softmax",
        "indices_for_one_hot",
        "log_softmax_for",
    ),
    "freezes": (
        "before_its_loop",
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
        "copied_first",
        "drawn_anew",
        "out_of_place",
        "seen_by_autograd",
        "seen_outside",
        "under_no_grad",
        "written_to_copy",
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
    "registering": ("made_in_init",),
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
    "terms": (
        "added_to_loss",
        "not_added_again",
    ),
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
