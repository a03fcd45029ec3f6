"""Operations that do not simply pass the gradient on: zeros, raises, and values that backward needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from autograd_facts import gradient, leaf
from torch import Tensor


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


ZERO_GRADIENT: dict[str, Callable[[Tensor], Tensor]] = {
    "round": torch.round,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "trunc": torch.trunc,
    "sign": torch.sign,
    "div rounding": lambda x: torch.div(x, 2, rounding_mode="floor"),
    "bernoulli": lambda x: torch.bernoulli(x),
    "normal": lambda x: torch.normal(x, 1.0),
    "poisson": torch.poisson,
}


@pytest.mark.parametrize("f", ZERO_GRADIENT.values(), ids=ZERO_GRADIENT)
def test_zero_gradient(f: Callable[[Tensor], Tensor]) -> None:
    x = leaf(0.2, 0.7, 0.9)
    out = f(x)
    assert out.requires_grad
    out.sum().backward()
    assert (x.grad == 0).all()


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x // 2,
        lambda x: torch.heaviside(x, torch.ones(1)),
        lambda x: torch.unique(x),
        lambda x: torch.histogram(x, 2).hist,
        lambda x: torch.bincount(torch.tensor([0, 1, 1]), weights=x),
    ],
    ids=["//", "heaviside", "unique", "histogram", "bincount"],
)
def test_backward_raises(f: Callable[[Tensor], Tensor]) -> None:
    x = leaf(0.2, 0.7, 0.9)
    if f(torch.ones(3)).grad_fn is None and not f(x).requires_grad:
        pytest.fail("it cuts, it does not raise in backward")
    with pytest.raises((RuntimeError, NotImplementedError)):
        f(x).sum().backward()


def test_the_gradient_of_summed_probabilities_is_noise() -> None:
    x = torch.randn(1000, requires_grad=True)
    assert gradient(x.softmax(0).sum(), x).abs().max() < 1e-6


SAVED_OUTPUT: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sqrt": torch.sqrt,
    "relu": torch.relu,
    "softmax": lambda x: x.softmax(0),
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "pow(tensor)": lambda x: torch.pow(x, (2 * x).detach().requires_grad_()),
    "std": lambda x: x.std(0),
}
SAVED_INPUT: dict[str, Callable[[Tensor], Tensor]] = {
    "log": torch.log,
    "sin": torch.sin,
    "abs": torch.abs,
    "square": torch.square,
    "var": lambda x: x.var(0),
    "mul": lambda x: x * torch.ones(2, requires_grad=True),
    "div": lambda x: torch.ones(2, requires_grad=True) / x,
    "matmul": lambda x: x @ torch.ones(2, 2, requires_grad=True),
    "conv": lambda x: F.conv1d(x[None, None], torch.ones(1, 1, 2, requires_grad=True)),
    "gelu": F.gelu,
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
    "clamp": lambda x: x.clamp(0, 1),
    "linear": lambda x: F.linear(x[None], torch.ones(2, 2, requires_grad=True)),
    "mse": lambda x: F.mse_loss(x, torch.zeros(2)),
}
SAVED_NOTHING: dict[str, Callable[[Tensor], Tensor]] = {
    "add": lambda x: x + 1,
    "sub": lambda x: x - 1,
    "neg": torch.neg,
    "sum": lambda x: x.sum(0),
    "mean": lambda x: x.mean(0),
    "cat": lambda x: torch.cat([x, x]),
    "where": lambda x: torch.where(torch.tensor([True, False]), x, 0 * x.detach()),
    "masked_fill": lambda x: x.masked_fill(torch.tensor([True, False]), 0.0),
    "dropout": lambda x: F.dropout(x, 0.5),
    "cumsum": lambda x: x.cumsum(0),
    "mul by a constant": lambda x: x * torch.ones(2),
}


def raises_in_backward(f: Callable[[Tensor], Tensor], *, write_output: bool) -> bool:
    x = leaf(0.6, 0.9)
    h = x.clone()
    out = f(h)
    with torch.no_grad():  # the version counter moves as it does outside
        (out if write_output else h).add_(1.0)
    try:
        out.sum().backward()
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        return True
    return False


@pytest.mark.parametrize("name", [*SAVED_OUTPUT, *SAVED_INPUT, *SAVED_NOTHING])
def test_in_place_writes(name: str) -> None:
    f = {**SAVED_OUTPUT, **SAVED_INPUT, **SAVED_NOTHING}[name]
    output = raises_in_backward(f, write_output=True)
    input_ = raises_in_backward(f, write_output=False)
    if name in SAVED_OUTPUT:
        assert output
    elif name in SAVED_INPUT:
        assert input_
        assert not output
    else:
        assert not output
        assert not input_
