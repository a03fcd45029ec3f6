"""Idioms of public code that look like a lost gradient and are none, and real bugs of public code: for each a
program in our own words, in which its shape can be seen.

That the first stay silent, the others are found, and all are true under torch, test_fixtures.py checks.
"""

from __future__ import annotations

import re

import pytest
from command_line import ROOT
from harness import markers

RULES = ROOT / "fixtures" / "rules"

# What it is, where it was seen; the program; what must stand in it.
SILENT = [
    (
        "discriminator step on a detached batch (GANs)",
        "GS102/clean_discriminator_step",
        r"gen_imgs\.detach\(\)",
    ),
    ("target networks under no_grad (DDPG, TD3)", "GS105/clean_target_networks", r"with torch\.no_grad"),
    (
        "temperature loss of soft actor-critic",
        "GS102/clean_soft_actor_critic_update",
        r"log_alpha\.exp\(\) \* .*detach\(\)",
    ),
    (
        "the same over detached probabilities, and its leaf",
        "GS102/clean_discrete_soft_actor_critic",
        r"probs\.detach\(\) \* \(-self\.log_alpha",
    ),
    ("straight-through rounding", "GS102/clean_finite_scalar_quantizer", r"z \+ \(zhat - z\)\.detach\(\)"),
    (
        "codebook and commitment pair",
        "GS102/clean_vector_quantizer_pair",
        r"quantized\.detach\(\), inputs\)(?s:.*)quantized, inputs\.detach\(\)",
    ),
    ("teacher detached", "GS102/clean_teacher_detach", r"teacher\(img\)\.detach\(\)"),
    ("hard labels of a teacher", "GS102/clean_teacher_detach", r"argmax"),
    ("memory queue of keys", "GS102/clean_memory_queue", r"queue\.clone\(\)\.detach\(\)"),
    ("assigner and IoU targets", "GS105/clean_anchor_assigner", r"@torch\.no_grad\(\)"),
    ("IoU as a target of objectness", "GS102/clean_logging_after_and_beside", r"iou = .*detach\(\)"),
    (
        "loss beside a detached tuple for the log",
        "GS102/clean_logging_after_and_beside",
        r"torch\.cat\(.*detach",
    ),
    (
        "weights and shifts detached inside a loss",
        "GS102/clean_weights_detached_inside_metric_loss",
        r"sp\.detach\(\)(?s:.*)shift = .*detach",
    ),
    ("attack variables", "GS102/clean_attack_variable", r"w\.requires_grad = True"),
    ("attack images made leaves anew", "GS102/clean_elastic_net_attack", r"y_k\.requires_grad_\(True\)"),
    (
        "gradient penalty on a Variable",
        "GS108/clean_gradient_penalty_variable",
        r"Variable\(.*requires_grad=True\)",
    ),
    ("re-leafing for a gradient cache", "GS108/clean_gradient_cache", r"\.detach\(\)\.requires_grad_\(\)"),
    (
        "frozen encoder whose optimizer holds the rest",
        "GS105/clean_captioning_with_a_frozen_encoder",
        r"no_grad\(\):\n\s+features = self\.resnet",
    ),
    ("gradients cleared by an engine", "GS203/clean_cleared_by_the_engine", r"engine\.step\(\)"),
    ("gradients kept per context", "GS203/clean_cleared_by_the_engine", r"step\(context_id"),
    ("updates that are counted", "GS203/clean_cleared_by_the_engine", r"need_update"),
    ("two backwards on separate graphs", "GS201/clean_separate_forwards", r"backward\(\)(?s:.*)backward\(\)"),
    ("losses accumulated, one backward", "GS103/clean_accumulated_losses_one_backward", r"total\.backward"),
    ("np.arange as an index in a loss", "GS101/clean_arange_as_index_in_loss", r"\[np\.arange"),
    ("isinstance, then torch.tensor", "GS104/clean_isinstance_guard", r"isinstance(?s:.*)torch\.tensor"),
    ("a metric's tensor of losses", "GS104/clean_metric_tensor_of_losses", r"torch\.tensor\(losses\)"),
    ("in-place inside an autograd.Function", "GS102/clean_in_place_inside_a_function", r"sigmoid_\(\)\.mul_"),
    ("hidden state detached between windows", "GS102/clean_truncated_bptt", r"h\.detach\(\)"),
    ("moving average of weights", "GS105/clean_self_distillation_with_ema", r"mul_\(self\.decay\)\.add_"),
    ("manual SGD", "GS203/clean_manual_sgd", r"\.grad"),
    ("clipping weights through .data", "GS102/clean_wgan_clipping_and_manual_sgd", r"\.data\.clamp_"),
    ("mixed-up targets into cross entropy", "GS301/clean_mixup_targets", r"lam \* y_onehot"),
    ("smoothed targets into cross entropy", "GS301/clean_smoothed_targets_by_hand", r"1\.0 - smoothing"),
    ("a hook that looks", "GS102/clean_hooks_that_look_and_hooks_that_go", r"output\.detach\(\)\.mean\(\)"),
]
FOUND = [
    (
        "softmax head into cross entropy (class-conditional GANs)",
        "GS302/flagged_acgan_auxiliary_head",
        "GS302",
    ),
    (
        "steps, then differentiates an older graph (softmax GAN)",
        "GS205/flagged_partition_function_of_both",
        "GS205",
    ),
    ("the generator steps, the critic's graph is older", "GS205/flagged_painter_steps_then_critic", "GS205"),
    ("softmax into NLLLoss (text CNN)", "GS303/flagged_text_cnn_trainer", "GS303"),
    ("softmax at the end of nested blocks (character CNN)", "GS302/flagged_character_cnn_blocks", "GS302"),
    ("an epoch's sum of losses keeps its graphs", "GS208/flagged_epoch_sums_of_two_loops", "GS208"),
    ("a demonstration that never clears (tensor parallelism)", "GS203/flagged_seeded_demo_loop", "GS203"),
    ("cleared between backward and step (BYOL)", "GS204/flagged_self_supervised_trainer", "GS204"),
    ("features detached in a hook (an extractor)", "GS102/flagged_features_taken_by_a_hook", "GS102"),
    ("a rollout kept with its graph (PPO)", "GS201/flagged_rollout_kept_with_its_graph", "GS201"),
]


def program(name: str) -> str:
    """The text of the one program of this rule and name."""
    code, _, stem = name.partition("/")
    (path,) = RULES.glob(f"{code}_*/{stem}.py")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "shape"), [each[1:] for each in SILENT], ids=[each[0] for each in SILENT])
def test_an_idiom_has_a_program_that_stays_silent(name: str, shape: str) -> None:
    text = program(name)
    assert re.search(shape, text), f"{shape} is not in {name}"
    told = markers.parse(text)
    assert not told.wants
    assert told.truths


@pytest.mark.parametrize(("name", "code"), [each[1:] for each in FOUND], ids=[each[0] for each in FOUND])
def test_a_real_bug_has_a_program_in_which_it_is_found(name: str, code: str) -> None:
    told = markers.parse(program(name))
    assert [want.code for want in told.wants if not want.missing] == [code] * len(told.wants)
    assert told.wants
    assert told.truths
