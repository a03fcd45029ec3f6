"""What the five texts claim that the project began with, row by row, against what torch does."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autograd_facts import E0, SECOND, gradient, leaf
from torch import Tensor, nn
from torch.autograd import Variable


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# 000


def test_no_loss_found_is_not_in_torch() -> None:
    root = Path(torch.__file__).parent
    for folder in ("autograd", "optim", "nn"):
        for path in (root / folder).rglob("*.py"):
            assert "no loss found" not in path.read_text(encoding="utf-8").lower(), path


@pytest.mark.parametrize("to_number", [Tensor.item, float, lambda loss: math.sqrt(loss)])
def test_a_float_loss_has_no_backward(to_number: Callable[[Tensor], float]) -> None:
    loss = to_number(leaf(2.0).sum())
    with pytest.raises(AttributeError, match="'float' object has no attribute 'backward'"):
        loss.backward()  # type: ignore[attr-defined]


def test_the_name_of_the_loss_means_nothing() -> None:
    x = leaf(1.0, 2.0)
    loss_value = nn.MSELoss()(x, torch.zeros(2))
    loss_value.backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_a_scalar_loss_is_required_but_one_element_and_a_given_gradient_will_do() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        (x * 2).backward()
    (x * 2).sum().reshape(1, 1).backward()
    (x * 2).backward(torch.ones(2))
    assert torch.equal(x.grad, torch.full((2,), 4.0))
    for reduced in ((x * 2).mean(), (x * 2).sum()):
        reduced.backward()


def two_heads() -> tuple[nn.Module, Tensor, Tensor]:
    trunk, first, second = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 1), nn.Linear(4, 1)
    hidden = trunk(torch.randn(5, 3))
    return trunk, first(hidden).pow(2).mean(), second(hidden).abs().mean()


def test_two_backwards_on_a_shared_trunk_raise() -> None:
    _, loss1, loss2 = two_heads()
    loss1.backward()
    with pytest.raises(RuntimeError, match=SECOND):
        loss2.backward()


def test_retain_graph_equals_the_sum_to_1e_8() -> None:
    trunk, loss1, loss2 = two_heads()
    loss1.backward(retain_graph=True)
    loss2.backward(retain_graph=True)
    separate = trunk[0].weight.grad.clone()
    trunk.zero_grad()
    (loss1 + loss2).backward()
    assert torch.allclose(separate, trunk[0].weight.grad, rtol=0, atol=1e-8)


def test_two_backwards_on_disjoint_nets_are_right() -> None:
    a, b = nn.Linear(2, 1), nn.Linear(2, 1)
    x = torch.ones(1, 2)
    a(x).pow(2).sum().backward()
    b(x).pow(2).sum().backward()
    assert a.weight.grad is not None
    assert b.weight.grad is not None


@pytest.mark.parametrize(
    "shared", [lambda x: x + 1, lambda x: -x, lambda x: x.view(2), lambda x: x[None], torch.cumsum]
)
def test_two_backwards_on_a_shared_part_that_saves_nothing_are_right(shared: Callable[..., Tensor]) -> None:
    x = leaf(1.0, 2.0)
    h = shared(x, 0) if shared is torch.cumsum else shared(x)
    h.pow(2).sum().backward()
    h.exp().sum().backward()
    assert x.grad is not None


def test_logging_before_backward_changes_nothing() -> None:
    x = leaf(1.0, 2.0)
    loss = x.pow(2).sum()
    log = loss.item()
    str(loss)
    loss.backward()
    assert log == 5.0
    assert torch.equal(x.grad, torch.tensor([2.0, 4.0]))


def test_a_total_without_item_keeps_the_graph() -> None:
    x = leaf(1.0)
    total: Tensor | float = 0.0
    for _ in range(3):
        loss = x.pow(2).sum()
        loss.backward()
        total += loss
    assert isinstance(total, Tensor)
    assert total.grad_fn is not None
    assert total.grad_fn.next_functions[0][0] is not None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_grad_in_the_loop_raises_in_backward(mode: Callable[[], torch.no_grad]) -> None:
    model = nn.Linear(2, 1)
    with mode():
        loss = model(torch.ones(1, 2)).sum()
    with pytest.raises(RuntimeError, match=E0):
        loss.backward()


PREDICTION = torch.tensor([0.2, 0.7, 0.4])


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_mse_and_l1_take_integer_and_double_targets(loss: Callable[..., Tensor], dtype: torch.dtype) -> None:
    x = PREDICTION.clone().requires_grad_()
    loss(x, torch.tensor([0, 1, 1], dtype=dtype)).backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("loss", "dtype", "text"),
    [
        (F.binary_cross_entropy, torch.int64, "Found dtype Long but expected Float"),
        (F.binary_cross_entropy, torch.float64, "Found dtype Double but expected Float"),
        (F.huber_loss, torch.float64, "Found dtype Double but expected Float"),
        (
            F.binary_cross_entropy_with_logits,
            torch.int64,
            "result type Float can't be cast to the desired output type Long",
        ),
    ],
)
def test_where_a_targets_dtype_raises(loss: Callable[..., Tensor], dtype: torch.dtype, text: str) -> None:
    x = PREDICTION.clone().requires_grad_()
    target = torch.tensor([0, 1, 1], dtype=dtype)
    with pytest.raises(RuntimeError, match=text):
        loss(x, target).backward()
    for mended in (target.float(), target.to(x.dtype)):
        loss(x, mended).backward()


def test_bce_with_logits_takes_a_double_target() -> None:
    x = PREDICTION.clone().requires_grad_()
    F.binary_cross_entropy_with_logits(x, torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)).backward()
    assert x.grad.dtype == torch.float32


# 001


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x.to("cpu", copy=True),
        lambda x: x.cpu(),
        lambda x: x.half(),
        lambda x: x.bfloat16(),
        lambda x: x.double(),
        lambda x: x.type(torch.float64),
        lambda x: x.to(torch.float16),
    ],
)
def test_moves_and_floating_casts_keep_the_graph(move: Callable[[Tensor], Tensor]) -> None:
    x = leaf(1.0, 2.0)
    move(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(2))


@pytest.mark.parametrize(
    "cast", [Tensor.long, Tensor.int, Tensor.bool, lambda x: x.to(torch.uint8), lambda x: x.type(torch.int32)]
)
def test_integer_and_bool_casts_cut(cast: Callable[[Tensor], Tensor]) -> None:
    x = cast(leaf(1.0, 2.0))
    assert not x.requires_grad
    with pytest.raises(RuntimeError, match=E0):
        x.float().sum().backward()


def test_a_detached_divisor_leaves_its_column_exactly_zero() -> None:
    x = torch.tensor([[2.0, 1.0], [4.0, 2.0], [6.0, 3.0]], requires_grad=True)
    ratio = x[:, 0] / x[:, 1].detach()
    ((ratio - torch.tensor([1.8, 2.1, 1.9])) ** 2).mean().backward()
    assert (x.grad[:, 0] != 0).all()
    assert (x.grad[:, 1] == 0).all()


def test_indexing_with_lists_and_arrays_keeps_the_graph() -> None:
    x = leaf(1.0, 2.0, 3.0)
    for index in ([0, 2], np.array([0, 2]), torch.tensor([0, 2])):
        x.grad = None
        picked = x[index]
        assert "IndexBackward0" in str(picked.grad_fn)
        picked.sum().backward()
        assert torch.equal(x.grad, torch.tensor([1.0, 0.0, 1.0]))


def test_a_comparison_cuts_and_where_passes() -> None:
    x = leaf(0.2, 0.7)
    assert not (x > 0.5).requires_grad
    with pytest.raises(RuntimeError, match=E0):
        (x > 0.5).float().sum().backward()
    torch.where(x > 0.5, x, 2 * x).sum().backward()
    assert torch.equal(x.grad, torch.tensor([2.0, 1.0]))


def test_the_mean_of_integers_raises_and_that_of_their_floats_leaves_nothing_to_differentiate() -> None:
    predictions = torch.tensor([[0.1, 0.9], [0.8, 0.2]], requires_grad=True)
    predicted = torch.argmax(predictions, dim=1)
    assert predicted.dtype == torch.int64
    assert not predicted.requires_grad
    with pytest.raises(RuntimeError, match=r"mean\(\): could not infer output dtype.*Long"):
        torch.mean(torch.tensor([value**2 for value in predicted]))
    with pytest.raises(RuntimeError, match=E0):
        torch.mean(torch.tensor([value**2 for value in predicted]).float()).backward()


def test_append_keeps_the_graph_with_stack_and_loses_it_with_tensor() -> None:
    x = leaf(1.0, 2.0)
    values = []
    for each in x:
        if each > 0:
            values.append(each**2)
    torch.stack(values).mean().backward()
    assert torch.equal(x.grad, torch.tensor([1.0, 2.0]))
    with pytest.raises(RuntimeError, match=E0):
        torch.tensor(values).mean().backward()


def test_in_place_on_a_clone_gives_the_same_gradient() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    target = torch.tensor([[3.0, 5.0], [7.0, 9.0]])
    in_place = gradient(((x.clone().mul_(2.0) - target) ** 2).mean(), x)
    assert torch.equal(in_place, gradient(((x * 2.0 - target) ** 2).mean(), x))
    saved = x.exp()
    saved.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.sum().backward()


# 002


def test_nll_on_probabilities_is_negative_and_raises_nothing() -> None:
    logits = torch.randn(8, 3, requires_grad=True)
    target = torch.randint(0, 3, (8,))
    loss = F.nll_loss(logits.softmax(1), target)
    loss.backward()
    assert loss < 0
    assert logits.grad.abs().sum() > 0
    right = F.nll_loss(logits.log_softmax(1), target)
    assert torch.allclose(right, F.cross_entropy(logits, target))


def test_softmax_before_cross_entropy_kills_the_gradient_of_a_confident_mistake() -> None:
    logits, target = torch.tensor([[20.0, 0.0, 0.0]], requires_grad=True), torch.tensor([1])
    right = gradient(F.cross_entropy(logits, target), logits).norm()
    wrong = gradient(F.cross_entropy(logits.softmax(1), target), logits).norm()
    assert abs(right - 1.414) < 1e-3
    assert 2e-9 < wrong < 4e-9


def test_one_hot_into_mse_is_right() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    F.mse_loss(logits.softmax(1), F.one_hot(torch.tensor([0, 1, 2, 0]), 3).float()).backward()
    assert logits.grad.abs().sum() > 0


def test_a_float_one_hot_gives_the_loss_and_gradient_of_the_indices() -> None:
    logits, target = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 2, 0])
    by_index = F.cross_entropy(logits, target)
    one_hot = F.cross_entropy(logits, F.one_hot(target, 3).float())
    assert torch.allclose(by_index, one_hot)
    assert torch.allclose(gradient(by_index, logits), gradient(one_hot, logits), rtol=0, atol=1e-8)


def test_an_integer_one_hot_raises_and_so_does_long() -> None:
    logits, target = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 2, 0])
    text = "Expected floating point type for target with class probabilities, got Long"
    for one_hot in (F.one_hot(target, 3), F.one_hot(target, 3).float().long()):
        with pytest.raises(RuntimeError, match=text):
            F.cross_entropy(logits, one_hot)
        assert torch.equal(one_hot.argmax(dim=1), target)


def test_nll_takes_no_one_hot() -> None:
    one_hot = F.one_hot(torch.tensor([0, 1, 2, 0]), 3)
    with pytest.raises(RuntimeError, match="0D or 1D target tensor expected, multi-target not supported"):
        F.nll_loss(torch.randn(4, 3).log_softmax(1), one_hot)


# 003


class Plain(nn.Module):
    """Holds what `make` makes of a weight, plain or not."""

    def __init__(self, make: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.weight = make(torch.randn(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


@pytest.mark.parametrize(
    "make",
    [
        lambda weight: weight,
        lambda weight: weight.requires_grad_(),
        lambda weight: nn.Parameter(weight) * 0.1,
        lambda weight: nn.Parameter(weight).to(torch.float64),
        lambda weight: [nn.Parameter(weight)],
        lambda weight: [nn.Linear(3, 2)],
    ],
    ids=["plain", "requires_grad", "times a number", "moved", "list of parameters", "list of modules"],
)
def test_what_is_not_registered(make: Callable[[Tensor], object]) -> None:
    module = Plain(make)
    assert list(module.parameters()) == []
    assert module.state_dict() == {}
    with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
        torch.optim.SGD(module.parameters(), lr=0.1)
    assert torch.optim.SGD(Plain(nn.Parameter).parameters(), lr=0.1)


def test_a_plain_weight_leaves_nothing_to_differentiate() -> None:
    with pytest.raises(RuntimeError, match=E0):
        Plain(lambda weight: weight)(torch.ones(1, 3)).sum().backward()


def test_a_plain_weight_is_left_behind() -> None:
    module = Plain(lambda weight: weight.requires_grad_()).double()
    assert module.weight.dtype == torch.float32
    assert Plain(nn.Parameter).double().weight.dtype == torch.float64
    module.register_buffer("scale", torch.ones(1))
    assert module.double().scale.dtype == torch.float64


def test_no_grad_in_forward_stops_the_layer_before_it() -> None:
    first, second = nn.Linear(3, 4), nn.Linear(4, 1)
    h = torch.relu(first(torch.ones(1, 3)))
    with torch.no_grad():
        h = h * 2
    second(h).sum().backward()
    assert first.weight.grad is None
    assert second.weight.grad is not None


def test_a_slice_of_a_parameter_keeps_the_graph() -> None:
    weight = nn.Parameter(torch.randn(5, 5))
    weight[0:2, 0:2].sum().backward()
    assert torch.equal(weight.grad.nonzero(), torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]))


# 004


def test_backward_raises_and_a_step_without_gradients_does_nothing() -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters())
    before = model.weight.detach().clone()
    loss = torch.from_numpy(np.abs(model(torch.ones(2, 1)).detach().numpy())).mean()
    with pytest.raises(RuntimeError, match=E0):
        loss.backward()
    optimizer.step()
    assert model.weight.grad is None
    assert torch.equal(before, model.weight)


def test_division_by_zero() -> None:
    one, zero, root, trap = leaf(1.0), leaf(0.0), leaf(0.0), leaf(0.0)
    assert (one / 0).isinf().all()
    assert gradient(one / 0, one).isinf().all()
    assert (zero / zero).isnan().all()
    assert gradient(zero / zero, zero).isnan().all()
    assert gradient(root.sqrt(), root).isinf().all()
    chosen = torch.where(trap > 0, trap.sqrt(), 0.0)
    assert chosen == 0
    assert gradient(chosen, trap).isnan().all()


def test_closures_and_globals_receive_gradient() -> None:
    outside = leaf(2.0)

    def loss(x: Tensor) -> Tensor:
        return (x * outside).sum()

    loss(torch.ones(3)).backward()
    assert outside.grad == 3


# Silent disasters that the texts miss.


@pytest.mark.parametrize(
    "launder",
    [
        lambda loss: loss.requires_grad_(True),
        lambda loss: setattr(loss, "requires_grad", True) or loss,
        lambda loss: Variable(loss, requires_grad=True),
        lambda loss: torch.tensor(float(loss), requires_grad=True),
    ],
    ids=["requires_grad_", "requires_grad", "Variable", "torch.tensor"],
)
def test_a_laundered_loss_raises_nothing_and_trains_nothing(launder: Callable[[Tensor], Tensor]) -> None:
    model = nn.Linear(2, 1)
    launder(model(torch.ones(1, 2)).sum().detach()).backward()
    assert model.weight.grad is None


def step_with(model: nn.Module, optimizer: torch.optim.Optimizer, between: Callable[[], object]) -> None:
    model(torch.ones(1, 2)).pow(2).sum().backward()
    between()
    optimizer.step()


def test_zero_grad_between_backward_and_step_and_a_model_made_anew() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.weight.detach().clone()
    step_with(model, optimizer, optimizer.zero_grad)
    step_with(nn.Linear(2, 1), optimizer, lambda: None)
    assert torch.equal(before, model.weight)
    step_with(model, optimizer, lambda: None)
    assert not torch.equal(before, model.weight)


def test_without_zero_grad_gradients_add_up() -> None:
    x = leaf(1.0)
    x.pow(2).sum().backward()
    x.pow(2).sum().backward()
    assert x.grad == 4


def test_a_rewrapped_term_is_a_constant() -> None:
    a, b = leaf(1.0), leaf(2.0)
    (a.sum() + torch.tensor([b.pow(2).sum()]).sum()).backward()
    assert a.grad == 1
    assert b.grad is None
