"""Criteria: what each wants of its inputs, the same for the module and for the function."""

from __future__ import annotations

# ruff: noqa: SIM905 (tables of names read best as words)
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True, eq=False)
class CriterionStub:
    """What a criterion wants.

    `params`: the tensors of its call, in order; `target`: which of them is the target, "" for none.
    `arguments`: every positional parameter of the function, in order; of the module, of its constructor.
    `input_wants`: "logit", "probability", "log-probability" or "" (anything).
    `target_wants`: "index" (class numbers, `int64`), "probability" (floating, as the input; of KLDivLoss a
    log-probability with `log_target=True`), "same" (floating, the input's shape), "sign" (1 and -1), "".
    `soft_target`: class probabilities of the input's shape are taken too, if they are floating.
    `settings`: those of `arguments` that change the loss's value, shape or wants.
    `class_dim`: the dimension of the input that holds the classes, None where there is none.
    """

    name: str
    params: tuple[str, ...]
    target: str
    arguments: tuple[str, ...]
    input_wants: str
    target_wants: str
    settings: tuple[str, ...]
    class_dim: int | None
    soft_target: bool


def criterion(name: str) -> CriterionStub | None:
    """The criterion of a dotted name, `torch.nn.CrossEntropyLoss` or `torch.nn.functional.cross_entropy`."""
    return _criterion(name)


# module | function | tensors of the call | input wants | target wants | what the function takes besides
# (the constructor takes the same without the tensors). The order is that of torch's signatures.
_ROWS = """
CrossEntropyLoss | cross_entropy | input target | logit | index | weight size_average ignore_index reduce reduction label_smoothing
NLLLoss | nll_loss | input target | log-probability | index | weight size_average ignore_index reduce reduction
BCELoss | binary_cross_entropy | input target | probability | probability | weight size_average reduce reduction
BCEWithLogitsLoss | binary_cross_entropy_with_logits | input target | logit | probability | weight size_average reduce reduction pos_weight
KLDivLoss | kl_div | input target | log-probability | probability | size_average reduce reduction log_target
MSELoss | mse_loss | input target | | same | size_average reduce reduction
L1Loss | l1_loss | input target | | same | size_average reduce reduction
SmoothL1Loss | smooth_l1_loss | input target | | same | size_average reduce reduction beta
HuberLoss | huber_loss | input target | | same | reduction delta
PoissonNLLLoss | poisson_nll_loss | input target | | same | log_input full size_average eps reduce reduction
GaussianNLLLoss | gaussian_nll_loss | input target var | | same | full eps reduction
HingeEmbeddingLoss | hinge_embedding_loss | input target | | sign | margin size_average reduce reduction
SoftMarginLoss | soft_margin_loss | input target | logit | sign | size_average reduce reduction
MultiMarginLoss | multi_margin_loss | input target | logit | index | p margin weight size_average reduce reduction
MultiLabelMarginLoss | multilabel_margin_loss | input target | logit | index | size_average reduce reduction
MultiLabelSoftMarginLoss | multilabel_soft_margin_loss | input target | logit | probability | weight size_average reduce reduction
CosineEmbeddingLoss | cosine_embedding_loss | input1 input2 target | | sign | margin size_average reduce reduction
MarginRankingLoss | margin_ranking_loss | input1 input2 target | | sign | margin size_average reduce reduction
TripletMarginLoss | triplet_margin_loss | anchor positive negative | | | margin p eps swap size_average reduce reduction
TripletMarginWithDistanceLoss | triplet_margin_with_distance_loss | anchor positive negative | | | distance_function margin swap reduction
CTCLoss | ctc_loss | log_probs targets input_lengths target_lengths | log-probability | index | blank reduction zero_infinity
AdaptiveLogSoftmaxWithLoss | | input target | | index | in_features n_classes cutoffs div_value head_bias
LinearCrossEntropyLoss | linear_cross_entropy | input linear_weight target | | index | linear_bias weight reduction ignore_index label_smoothing options
"""  # noqa: E501

# Constructors whose positional order is not that of the function's other arguments.
_CONSTRUCTORS = {
    "MultiMarginLoss": "p margin weight size_average reduce reduction",
    "BCEWithLogitsLoss": "weight size_average reduce reduction pos_weight",
    "SmoothL1Loss": "size_average reduce reduction beta",
    "LinearCrossEntropyLoss": (
        "in_features num_classes out_features bias reduction weight ignore_index label_smoothing options"
    ),
}
# The call of the module, where it is not that of the function.
_CALLS = {"LinearCrossEntropyLoss": ("input", "target"), "PoissonNLLLoss": ("log_input", "target")}
_OTHER_NAMES = {"NLLLoss2d": "NLLLoss"}
_SETTINGS = frozenset(
    "weight ignore_index reduction label_smoothing reduce size_average log_target pos_weight".split()
)


@cache
def _by_name() -> dict[str, CriterionStub]:
    out: dict[str, CriterionStub] = {}
    for line in _ROWS.strip().splitlines():
        module, function, tensors, wants, target_wants, rest = (cell.strip() for cell in line.split("|"))
        params, arguments = tuple(tensors.split()), tuple(rest.split())
        target = next((param for param in params if param in ("target", "targets")), "")
        settings = tuple(argument for argument in arguments if argument in _SETTINGS)
        class_dim = 1 if target_wants == "index" else None
        soft = module == "CrossEntropyLoss"
        constructor = tuple(_CONSTRUCTORS.get(module, rest).split())
        if module:
            name = f"torch.nn.{module}"
            out[name] = CriterionStub(
                name,
                _CALLS.get(module, params),
                target,
                constructor,
                wants,
                target_wants,
                settings,
                class_dim,
                soft,
            )
        if function:
            name = f"torch.nn.functional.{function}"
            arguments = (*params, *arguments)
            out[name] = CriterionStub(
                name, params, target, arguments, wants, target_wants, settings, class_dim, soft
            )
    for other, name in _OTHER_NAMES.items():
        out[f"torch.nn.{other}"] = out[f"torch.nn.{name}"]
    return out


def _criterion(name: str) -> CriterionStub | None:
    if name.startswith("torch.nn.modules.loss."):
        name = "torch.nn." + name.rpartition(".")[2]
    return _by_name().get(name)
