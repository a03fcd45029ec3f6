"""What an operation keeps for backward is what torch refuses to have written over, and nothing else is.

Each row of `model/kept.py` is run: its result, or an operand, is written to behind the operation.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from gradsight.model import kept
from torch import Tensor, nn

REFUSED = "modified by an inplace operation"
Calls = dict[str, Callable[..., Tensor]]

UNARY: Calls = {
    "softplus": F.softplus, "gelu": F.gelu, "silu": F.silu, "elu": F.elu, "selu": F.selu, "celu": F.celu,
    "mish": F.mish, "leaky_relu": F.leaky_relu, "relu6": F.relu6, "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish, "logsigmoid": F.logsigmoid,
    "softsign": F.softsign, "softshrink": lambda x: F.softshrink(x, 0.1),
    "threshold": lambda x: F.threshold(x, 0.2, 0.3), "clamp": lambda x: x.clamp(0.2, 0.7),
    "clip": lambda x: x.clip(0.2, 0.7), "clamp_min": lambda x: x.clamp_min(0.2),
    "clamp_max": lambda x: x.clamp_max(0.7), "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1), "softmin": lambda x: F.softmin(x, -1),
    "cumprod": lambda x: x.cumprod(-1), "logsumexp": lambda x: x.logsumexp(-1),
    "logcumsumexp": lambda x: x.logcumsumexp(-1), "amax": lambda x: x.amax(-1), "amin": lambda x: x.amin(-1),
    "normalize": lambda x: F.normalize(x, dim=-1), "layer_norm": lambda x: F.layer_norm(x, (4,)),
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
    "group_norm": lambda x: F.group_norm(x, 2), "instance_norm": lambda x: F.instance_norm(x[None]),
    "gather": lambda x: x.gather(1, torch.zeros(4, 1, dtype=torch.long)),
    "avg_pool2d": lambda x: F.avg_pool2d(x[None], 2), "max_pool2d": lambda x: F.max_pool2d(x[None], 2),
    "nll_loss": lambda x: F.nll_loss(x, torch.zeros(4, dtype=torch.long)),
    "vector_norm": torch.linalg.vector_norm,
}  # fmt: skip
PLAIN: Calls = {
    "add": lambda x: x + 1, "mul by a number": lambda x: x * 2, "sum": torch.sum, "mean": torch.mean,
    "view": lambda x: x.view(-1), "cat": lambda x: torch.cat([x, x]), "flip": lambda x: x.flip(0),
    "neg": torch.neg, "cumsum": lambda x: x.cumsum(0), "dropout": lambda x: F.dropout(x, 0.5),
    "masked_fill": lambda x: x.masked_fill(x.detach() > 0.5, 0.0), "clone": torch.clone,
    "cross_entropy": lambda x: F.cross_entropy(x, torch.zeros(4, dtype=torch.long)),
}  # fmt: skip
BINARY: Calls = {
    "mul": torch.mul, "matmul": torch.matmul, "mm": torch.mm, "bmm": lambda a, b: torch.bmm(a[None], b[None]),
    "mv": lambda a, b: torch.mv(a, b[0]), "dot": lambda a, b: torch.dot(a[0], b[0]), "linear": F.linear,
    "div": torch.div, "truediv": lambda a, b: a / b, "mse_loss": F.mse_loss,
    "smooth_l1_loss": F.smooth_l1_loss,
    "huber_loss": F.huber_loss, "binary_cross_entropy": F.binary_cross_entropy,
    "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits,
    "MSELoss": nn.MSELoss(), "SmoothL1Loss": nn.SmoothL1Loss(), "HuberLoss": nn.HuberLoss(),
    "BCELoss": nn.BCELoss(), "BCEWithLogitsLoss": nn.BCEWithLogitsLoss(),
    "maximum": torch.maximum, "minimum": torch.minimum, "max": torch.max, "min": torch.min,
    "atan2": torch.atan2,
}  # fmt: skip
MODULES: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "Conv1d": lambda: nn.Conv1d(4, 4, 1), "Conv2d": lambda: nn.Conv2d(1, 2, 2),
    "Conv3d": lambda: nn.Conv3d(1, 2, 1), "ConvTranspose1d": lambda: nn.ConvTranspose1d(4, 4, 1),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(1, 2, 2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(1, 1, 1),
    "BatchNorm1d": lambda: nn.BatchNorm1d(4), "BatchNorm2d": lambda: nn.BatchNorm2d(1),
    "BatchNorm3d": lambda: nn.BatchNorm3d(1), "LayerNorm": lambda: nn.LayerNorm(4),
    "GroupNorm": lambda: nn.GroupNorm(2, 4), "InstanceNorm1d": lambda: nn.InstanceNorm1d(4),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(1), "InstanceNorm3d": lambda: nn.InstanceNorm3d(1),
    "MaxPool2d": lambda: nn.MaxPool2d(2), "AvgPool2d": lambda: nn.AvgPool2d(2),
    "Linear": lambda: nn.Linear(4, 4),
    "LSTM": lambda: nn.LSTM(4, 4), "GRU": lambda: nn.GRU(4, 4), "RNN": lambda: nn.RNN(4, 4),
    "LSTMCell": lambda: nn.LSTMCell(4, 4), "GRUCell": lambda: nn.GRUCell(4, 4),
    "RNNCell": lambda: nn.RNNCell(4, 4), "Softmax": lambda: nn.Softmax(-1), "Softmin": lambda: nn.Softmin(-1),
    "LogSoftmax": lambda: nn.LogSoftmax(-1), "Softmax2d": nn.Softmax2d,
    "Softshrink": lambda: nn.Softshrink(0.1),
    "Categorical": lambda: lambda x: torch.distributions.Categorical(logits=x).logits,
}  # fmt: skip
SHAPES = {
    **dict.fromkeys(["Conv1d", "ConvTranspose1d", "InstanceNorm1d", "Softmax2d"], (2, 4, 4)),
    **dict.fromkeys(
        ["Conv2d", "ConvTranspose2d", "BatchNorm2d", "InstanceNorm2d", "MaxPool2d", "AvgPool2d"], (2, 1, 4, 4)
    ),
    **dict.fromkeys(["Conv3d", "ConvTranspose3d", "BatchNorm3d", "InstanceNorm3d"], (2, 1, 4, 4, 4)),
    **dict.fromkeys(["LSTM", "GRU", "RNN"], (3, 2, 4)),
}
CLASSES = sorted(
    n for n in kept.RESULT | kept.INPUT | kept.BY_PARAMETERS if n[0].isupper() and n != "NLLLoss"
)
NAMES = sorted(n for n in kept.RESULT | kept.INPUT | kept.INPUT_AND_RESULT if n[0].islower())


def numbers(*shape: int, learns: bool = True) -> Tensor:
    """Numbers between 0.1 and 0.9 that were computed, from a leaf where they learn."""
    drawn = torch.rand(*shape) * 0.8 + 0.1
    return drawn.requires_grad_() * 1.0 if learns else drawn


def refused(result: Tensor, written: Tensor) -> bool:
    """Whether a backward pass from the result is refused after a write."""
    with torch.no_grad():
        written.mul_(0.99)
    try:
        result.sum().backward()
    except RuntimeError as error:
        if REFUSED not in str(error):
            raise
        return True
    return False


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", NAMES)
def test_functions_of_one_tensor(name: str) -> None:
    call = UNARY.get(name) or getattr(torch, name)
    x = numbers(4, 4)
    assert refused(call(x), x) == (name in kept.INPUT | kept.INPUT_AND_RESULT)
    result = call(numbers(4, 4))
    assert refused(result, result) == (name in kept.RESULT | kept.INPUT_AND_RESULT)


@pytest.mark.parametrize("name", PLAIN)
def test_what_keeps_nothing(name: str) -> None:
    x = numbers(4, 4)
    assert not refused(PLAIN[name](x), x)


@pytest.mark.parametrize("name", sorted(kept.OTHER | kept.DIVISION | kept.BOTH | kept.BOTH_OF_TWO))
@pytest.mark.parametrize("learns", [(True, True), (True, False), (False, True)])
def test_functions_of_two_tensors(name: str, learns: tuple[bool, bool]) -> None:
    for position in (0, 1):
        pair = [numbers(4, 4, learns=one) for one in learns]
        always = name in kept.BOTH | kept.BOTH_OF_TWO or (name in kept.DIVISION and position == 1)
        expected = always or learns[1 - position]
        assert refused(BINARY[name](*pair), pair[position]) == expected


@pytest.mark.parametrize("name", CLASSES)
def test_modules(name: str) -> None:
    module = (MODULES.get(name) or getattr(nn, name))()
    shape = SHAPES.get(name, (4, 4))

    def called(x: Tensor) -> Tensor:
        result = module(x)
        return result[0] if isinstance(result, tuple) else result

    x = numbers(*shape)
    assert refused(called(x), x) == (name in kept.INPUT | kept.BY_PARAMETERS)
    if name not in ("LSTM",):  # keeps its output, which is not told from its state
        result = called(numbers(*shape))
        assert refused(result, result) == (name in kept.RESULT)


@pytest.mark.parametrize("name", sorted(kept.LEFT_IN_PLACE))
def test_what_is_left_in_place(name: str) -> None:
    x = numbers(4, 4)
    if name[0].isupper():
        result = getattr(nn, name)(inplace=True)(x)
    else:
        result = getattr(torch, f"{name}_", None) or getattr(F, f"{name}_")
        result = result(x)
    assert refused(result, result)


@pytest.mark.parametrize("name", ["mul_", "add_", "sub_", "clamp_", "pow_", "neg_", "abs_", "log_", "sin_"])
def test_what_is_not_left_in_place(name: str) -> None:
    arguments = {"clamp_": (0.2, 0.7), "pow_": (2,), "neg_": (), "abs_": (), "log_": (), "sin_": ()}.get(
        name, (2.0,)
    )
    result = getattr(numbers(4, 4), name)(*arguments)
    assert not refused(result, result)


def test_views_have_the_memory_of_what_they_show() -> None:
    shown = {
        "view": (-1,), "view_as": (torch.zeros(16),), "transpose": (0, 1), "permute": (1, 0),
        "unsqueeze": (0,),
        "expand": (1, 4, 4), "narrow": (0, 0, 1), "select": (0, 0), "swapaxes": (0, 1), "swapdims": (0, 1),
        "movedim": (0, 1), "moveaxis": (0, 1), "expand_as": (torch.zeros(1, 4, 4),),
    }  # fmt: skip
    for name in kept.VIEWS:
        x = numbers(4, 4)
        view = getattr(x, name)
        view = view(*shown.get(name, ())) if callable(view) else view
        assert view.untyped_storage().data_ptr() == x.untyped_storage().data_ptr(), name
        result = x.sin()
        with torch.no_grad():
            view[0].mul_(2)
        assert refused(result, torch.zeros(1)), name
