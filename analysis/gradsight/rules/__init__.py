"""Every rule, in the order of their codes.

A rule is one file beside this one, listed here and nowhere else.
"""

from __future__ import annotations

from gradsight.rule import Rule
from gradsight.rules import (
    clip_out_of_order,
    detach_in_loss,
    eval_left_on,
    graph_retained,
    hidden_state_not_detached,
    loss_not_returned,
    missing_zero_grad,
    nll_without_log_softmax,
    no_grad_in_loss,
    non_scalar_backward,
    nondifferentiable_op,
    numpy_in_loss,
    one_hot_target,
    optimizer_misses_parameters,
    plain_tensor_weight,
    repeated_backward,
    rewrapped_tensor,
    scalar_in_loss,
    scaler_protocol,
    softmax_before_cross_entropy,
    step_before_backward,
    train_mode_in_evaluation,
    uncalled_method,
    wrong_optimizer,
    zero_grad_before_step,
)

RULES: tuple[Rule, ...] = (
    numpy_in_loss.RULE,
    detach_in_loss.RULE,
    scalar_in_loss.RULE,
    rewrapped_tensor.RULE,
    no_grad_in_loss.RULE,
    nondifferentiable_op.RULE,
    repeated_backward.RULE,
    non_scalar_backward.RULE,
    missing_zero_grad.RULE,
    zero_grad_before_step.RULE,
    step_before_backward.RULE,
    uncalled_method.RULE,
    graph_retained.RULE,
    hidden_state_not_detached.RULE,
    loss_not_returned.RULE,
    optimizer_misses_parameters.RULE,
    wrong_optimizer.RULE,
    clip_out_of_order.RULE,
    scaler_protocol.RULE,
    one_hot_target.RULE,
    softmax_before_cross_entropy.RULE,
    nll_without_log_softmax.RULE,
    plain_tensor_weight.RULE,
    eval_left_on.RULE,
    train_mode_in_evaluation.RULE,
)
