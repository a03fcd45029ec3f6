"""What each of the four fixes may and may not do: tensors for numpy, no detach, one sum, indices."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autograd_facts import E0, SECOND, gradient, leaf
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# numpy -> tensor operations.


CUTS: dict[str, Callable[[Tensor], object]] = {
    "detach numpy": lambda x: x.detach().numpy(),
    "data cpu numpy": lambda x: x.data.cpu().numpy(),
    "cpu detach numpy": lambda x: x.cpu().detach().numpy(),
    "numpy(force=True)": lambda x: x.numpy(force=True),
    "np.exp(detach)": lambda x: np.exp(x.detach()),
    "np.array(tolist)": lambda x: np.array(x.tolist()),
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x[0]),
    "math": lambda x: math.exp(x[0]),
    "torch.tensor": lambda x: torch.tensor([x[0], x[1]]),
    "torch.as_tensor of scalars": lambda x: torch.as_tensor([x[0], x[1]]),
    "FloatTensor": lambda x: torch.FloatTensor([x[0], x[1]]),
    "new_tensor": lambda x: x.new_tensor([x[0], x[1]]),
    "linspace": lambda x: torch.linspace(x[0], x[1], 3),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.filterwarnings("ignore")
def test_cuts(cut: Callable[[Tensor], object]) -> None:
    result = torch.as_tensor(cut(leaf(1.0, 2.0)))
    assert not result.requires_grad


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda x: x.numpy(), RuntimeError),
        (lambda x: np.exp(x), RuntimeError),
        (lambda x: np.abs(x), RuntimeError),
        (lambda x: np.stack([x, x]), RuntimeError),
        (lambda x: x + np.ones(2), RuntimeError),
        (lambda x: np.sum(x), TypeError),
        (lambda x: np.mean(x), TypeError),
        (lambda x: np.max(x), TypeError),
        (lambda x: np.std(x), TypeError),
    ],
)
def test_what_raises_on_a_tensor_that_requires_grad(
    f: Callable[[Tensor], object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        f(leaf(1.0, 2.0))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.float32(2) * x,
        lambda x: np.squeeze(x),
        lambda x: torch.as_tensor(x),
        lambda x: torch.Tensor(x),
        lambda x: torch.asarray(x),
    ],
)
def test_what_does_not_cut(f: Callable[[Tensor], Tensor]) -> None:
    x = leaf(1.0, 2.0)
    f(x).sum().backward()
    assert x.grad.abs().sum() > 0


X = torch.tensor([[3.0, 1.0, 2.0, 4.0], [1.0, 5.0, 2.5, 0.5], [6.0, 8.0, 7.0, 1.0]], dtype=torch.float64)
N = X.numpy()

# numpy's result, torch's under the same name (or what people write first), torch's that is right
RENAMED: dict[str, tuple[Callable[[], object], Callable[[], object] | None, Callable[[], object]]] = {
    "std": (lambda: N.std(), lambda: X.std(), lambda: X.std(correction=0)),
    "var": (lambda: N.var(), lambda: X.var(), lambda: X.var(correction=0)),
    "median": (lambda: np.median(N), lambda: X.median(), lambda: X.quantile(0.5)),
    "max": (lambda: N.max(axis=1), lambda: X.max(dim=1), lambda: X.amax(dim=1)),
    "min": (lambda: N.min(axis=1), lambda: X.min(dim=1), lambda: X.amin(dim=1)),
    "sort": (lambda: np.sort(N), lambda: X.sort(), lambda: X.sort().values),
    "mod": (lambda: np.mod(-N, 3), lambda: torch.fmod(-X, 3), lambda: torch.remainder(-X, 3)),
    "equal": (
        lambda: np.equal(N, N.T[:3, :3].sum()),
        lambda: torch.equal(X, X),
        lambda: torch.eq(X, X.T[:3, :3].sum()),
    ),
    "dot": (lambda: np.dot(N, N.T), lambda: torch.dot(X, X.T), lambda: torch.tensordot(X, X.T, dims=1)),
    "split": (
        lambda: np.split(N, 2, axis=1)[0],
        lambda: torch.split(X, 2, dim=0)[0],
        lambda: torch.tensor_split(X, 2, dim=1)[0],
    ),
    "repeat": (lambda: np.repeat(N, 2), lambda: X.repeat(2, 2), lambda: torch.repeat_interleave(X, 2)),
    "nonzero": (
        lambda: np.nonzero(N > 2)[0],
        lambda: (X > 2).nonzero()[0],
        lambda: (X > 2).nonzero(as_tuple=True)[0],
    ),
    "meshgrid": (
        lambda: np.meshgrid(N[0], N[1, :2])[0],
        lambda: torch.meshgrid(X[0], X[1, :2], indexing="ij")[0],
        lambda: torch.meshgrid(X[0], X[1, :2], indexing="xy")[0],
    ),
    "digitize": (
        lambda: np.digitize(N, np.array([1.0, 2.0, 3.0])),
        lambda: torch.bucketize(X, torch.tensor([1.0, 2.0, 3.0]).double(), right=False),
        lambda: torch.bucketize(X, torch.tensor([1.0, 2.0, 3.0]).double(), right=True),
    ),
    "norm(1)": (lambda: np.linalg.norm(N, 1), lambda: torch.norm(X, 1), lambda: torch.linalg.norm(X, 1)),
    "size": (lambda: N.size, lambda: X.size(), lambda: X.numel()),
}


def same(a: object, b: object) -> bool:
    return np.shape(a) == np.shape(b) and np.allclose(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("name", RENAMED)
def test_numpy_functions_that_a_new_name_alone_makes_wrong(name: str) -> None:
    numpy, renamed, right = RENAMED[name]
    assert same(numpy(), right())
    try:
        wrong = renamed()
    except (RuntimeError, TypeError):
        return
    assert not (isinstance(wrong, (Tensor, float, int, torch.Size)) and same(numpy(), wrong))


def test_axis_and_keepdims_work_on_most_but_not_all() -> None:
    for f in (torch.sum, torch.mean, torch.amax, torch.std, torch.cumsum, torch.cat):
        f([X, X] if f is torch.cat else X, axis=0)
    assert torch.sum(X, axis=1, keepdims=True).shape == (3, 1)
    for wrong in (
        lambda: torch.norm(X, axis=0),
        lambda: torch.flip(X, axis=0),
        lambda: torch.roll(X, 1, axis=0),
        lambda: torch.split(X, 1, axis=0),
        lambda: F.softmax(X, axis=0),
        lambda: F.normalize(X, axis=0),
    ):
        with pytest.raises(TypeError):
            wrong()


@pytest.mark.parametrize(
    "f", [torch.mean, torch.std, torch.linalg.norm, lambda x: x.quantile(0.5), lambda x: x.softmax(0)]
)
def test_integers_raise(f: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        f(torch.tensor([1, 2]))


def test_dtypes_that_meet() -> None:
    a, b = torch.ones(2, 2), torch.ones(2, 2, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="dtype"):
        a @ b
    for promoted in (a * b, torch.cat([a, b]), torch.where(a > 0, a, b)):
        assert promoted.dtype == torch.float64


def test_at_ties_amax_spreads_and_max_picks() -> None:
    x = leaf(2.0, 2.0)
    assert torch.equal(gradient(x.amax(0), x), torch.tensor([0.5, 0.5]))
    assert sorted(gradient(x.max(0).values, x).tolist()) == [0, 1]


# Removing a detach.


def test_where_a_detach_is_the_only_way_removing_it_is_right() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=E0):
        x.detach().pow(2).sum().backward()
    x.pow(2).sum().backward()
    data = torch.ones(2)
    assert torch.equal(gradient((x * data.detach()).sum(), x), gradient((x * data).sum(), x))


def test_a_target_of_the_same_net_keeps_the_loss_and_changes_the_gradient() -> None:
    net = nn.Linear(2, 1)
    state, following = torch.randn(4, 2), torch.randn(4, 2)
    cut = F.mse_loss(net(state), 0.9 * net(following).detach())
    open_ = F.mse_loss(net(state), 0.9 * net(following))
    assert torch.equal(cut, open_)
    assert not torch.allclose(gradient(cut, net.weight), gradient(open_, net.weight))


def test_simsiam_keeps_the_loss_and_changes_the_gradient() -> None:
    encoder, predictor = nn.Linear(3, 2), nn.Linear(2, 2)
    z1, z2 = encoder(torch.randn(4, 3)), encoder(torch.randn(4, 3))
    cut = -F.cosine_similarity(predictor(z1), z2.detach()).mean()
    open_ = -F.cosine_similarity(predictor(z1), z2).mean()
    assert torch.equal(cut, open_)
    assert not torch.allclose(gradient(cut, encoder.weight), gradient(open_, encoder.weight))


def test_a_separate_target_net_receives_gradients() -> None:
    net, target = nn.Linear(2, 1), nn.Linear(2, 1)
    x = torch.ones(1, 2)
    F.mse_loss(net(x), target(x).detach()).backward()
    assert target.weight.grad is None
    F.mse_loss(net(x), target(x)).backward()
    assert target.weight.grad is not None


def test_the_generator_receives_the_discriminators_gradients_and_a_reused_fake_raises() -> None:
    generator, discriminator = nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Linear(2, 1)
    fake = generator(torch.randn(3, 2))
    discriminator(fake.detach()).mean().backward()
    assert generator[0].weight.grad is None
    discriminator(fake).mean().backward()
    assert generator[0].weight.grad is not None
    with pytest.raises(RuntimeError, match=SECOND):
        discriminator(fake).mean().backward()


def test_truncated_backpropagation_and_running_statistics_raise_without_detach() -> None:
    cell = nn.RNNCell(2, 2)
    h = torch.zeros(1, 2)
    for _ in range(2):
        h = cell(torch.ones(1, 2), h.detach())
        h.sum().backward()
    h = cell(torch.ones(1, 2), torch.zeros(1, 2))
    h.sum().backward()
    with pytest.raises(RuntimeError, match=SECOND):
        cell(torch.ones(1, 2), h).sum().backward()
    x, mean = leaf(1.0), torch.zeros(1)
    mean = 0.9 * mean + 0.1 * x.exp()
    (x - mean).pow(2).sum().backward()
    mean = 0.9 * mean + 0.1 * x.exp()
    with pytest.raises(RuntimeError, match=SECOND):
        (x - mean).pow(2).sum().backward()


IDIOMS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "straight-through": (lambda x: x + (x.round() - x).detach(), lambda x: x + (x.round() - x)),
    "Gumbel-hard": (
        lambda x: (x > 0.5).float() - x.softmax(0).detach() + x.softmax(0),
        lambda x: (x > 0.5).float() - x.softmax(0) + x.softmax(0),
    ),
    "PPO ratio": (lambda x: (x - x.detach()).exp(), lambda x: (x - x).exp()),
    "loss over itself": (lambda x: x / x.detach(), lambda x: x / x),
}


@pytest.mark.parametrize("name", IDIOMS)
def test_idioms_whose_gradient_becomes_zero_without_the_detach(name: str) -> None:
    cut, open_ = IDIOMS[name]
    x, weights = leaf(0.3, 0.8, 1.4), torch.tensor([1.0, -2.0, 3.0])
    assert torch.allclose(cut(x), open_(x))
    assert gradient((weights * cut(x)).sum(), x).abs().sum() > 0.1
    # exactly 0 but for the rounding of two paths that cancel
    assert gradient((weights * open_(x)).sum(), x).abs().max() < 1e-6


def test_vector_quantization_and_advantage_send_gradients_elsewhere() -> None:
    z, code = leaf(0.3, 0.8), leaf(0.0, 1.0)
    codebook = F.mse_loss(code, z.detach())
    assert torch.autograd.grad(codebook, z, allow_unused=True)[0] is None
    assert gradient(F.mse_loss(code, z), z).abs().sum() > 0
    log_prob, value = leaf(-1.0), leaf(0.5)
    policy = -(log_prob * (1.0 - value).detach()).sum()
    assert torch.autograd.grad(policy, value, allow_unused=True)[0] is None
    assert gradient(-(log_prob * (1.0 - value)).sum(), value) != 0


def test_old_log_probabilities_of_ppo_raise_without_detach() -> None:
    policy = nn.Sequential(nn.Linear(2, 2), nn.LogSoftmax(dim=1))
    states = torch.randn(3, 2)
    kept, open_ = policy(states).detach(), policy(states)
    for _ in range(2):
        (policy(states) - kept).exp().mean().backward()
    (policy(states) - open_).exp().mean().backward()
    with pytest.raises(RuntimeError, match=SECOND):
        (policy(states) - open_).exp().mean().backward()


def test_no_look_at_one_leaf_tells_the_ratio_from_the_idioms() -> None:
    x = torch.tensor([[2.0, 1.0], [4.0, 2.0]], requires_grad=True)
    ratio = (x[:, 0] / x[:, 1].detach()).pow(2).sum()
    through = (x + (x.round() - x).detach()).pow(2).sum()
    over_itself = (x / x.detach()).sum()
    net = nn.Linear(2, 2)
    siamese = -F.cosine_similarity(net(x), (2 * net(x).flip(0)).detach()).sum()
    assert all(gradient(loss, x).norm() > 0 for loss in (ratio, through, over_itself, siamese))


# Summing the losses.


def both(first: Callable[[], tuple[Tensor, Tensor]], parameters: list[Tensor]) -> float:
    """The largest difference between the gradients of two backwards and of one backward of the sum."""
    for p in parameters:
        p.grad = None
    loss1, loss2 = first()
    loss1.backward(retain_graph=True)
    loss2.backward()
    separate = [p.grad.clone() for p in parameters]
    for p in parameters:
        p.grad = None
    loss1, loss2 = first()
    (loss1 + loss2).backward()
    return max(float((a - p.grad).abs().max()) for a, p in zip(separate, parameters, strict=True))


def test_sums_that_equal_two_backwards() -> None:
    trunk, head1, head2 = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
    x = torch.randn(5, 3)

    def shared() -> tuple[Tensor, Tensor]:
        h = trunk(x).tanh()
        return head1(h).pow(2).mean(), head2(h).abs().mean()

    def separate() -> tuple[Tensor, Tensor]:
        return head1(trunk(x).tanh()).pow(2).mean(), head2(trunk(x).tanh()).abs().mean()

    def penalty() -> tuple[Tensor, Tensor]:
        points = x.clone().requires_grad_()
        out = head1(trunk(points).tanh()) + head2(trunk(points).tanh())
        slope = torch.autograd.grad(out.sum(), points, create_graph=True)[0]
        return out.pow(2).mean(), (slope.norm(dim=1) - 1).pow(2).mean()

    parameters = [*trunk.parameters(), *head1.parameters(), *head2.parameters()]
    assert both(shared, parameters) <= 3e-8
    assert both(separate, parameters) <= 3e-8
    weights = [
        trunk.weight,
        head1.weight,
        head2.weight,
        trunk.bias,
    ]  # the heads' biases are not in the penalty
    assert both(penalty, weights) <= 6e-8
    a, b = nn.Linear(3, 1), nn.Linear(3, 1)
    disjoint = [*a.parameters(), *b.parameters()]
    assert both(lambda: (a(x).pow(2).mean(), b(x).abs().mean()), disjoint) <= 3e-8


def test_autograd_backward_and_a_grad_scaler_sum() -> None:
    x = leaf(1.0, 2.0)
    h = x.exp()
    torch.autograd.backward([h.sum(), h.pow(2).sum()])
    assert torch.allclose(x.grad, gradient(x.exp().sum() + x.exp().pow(2).sum(), x))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    x.grad = None
    scaler.scale(x.exp().sum() + x.pow(2).sum()).backward()
    summed = x.grad.clone()
    x.grad = None
    scaler.scale(x.exp().sum()).backward()
    scaler.scale(x.pow(2).sum()).backward()
    assert torch.allclose(summed, x.grad)


def test_a_step_or_zero_grad_or_clipping_between_changes_what_is_learnt() -> None:
    def learnt(between: Callable[[Tensor, torch.optim.Optimizer], object], *, summed: bool = False) -> float:
        x = torch.tensor([1.0], requires_grad=True)
        optimizer = torch.optim.SGD([x], lr=0.1)
        if summed:
            (x.pow(2) + x.pow(3)).sum().backward()
        else:
            x.pow(2).sum().backward()
            between(x, optimizer)
            x.pow(3).sum().backward()
        optimizer.step()
        return float(x)

    one = learnt(lambda *_: None, summed=True)
    assert learnt(lambda *_: None) == one
    assert learnt(lambda _, optimizer: optimizer.zero_grad()) != one
    assert learnt(lambda x, _: nn.utils.clip_grad_norm_([x], 0.5)) != one
    in_place = "modified by an inplace operation"
    x = torch.tensor([1.0], requires_grad=True)
    first, second = x.pow(2).sum(), x.pow(3).sum()
    first.backward()
    torch.optim.SGD([x], lr=0.1).step()
    with pytest.raises(RuntimeError, match=in_place):
        second.backward()


def test_hooks_count_and_need_not_be_linear() -> None:
    x, calls = leaf(1.0), []
    handle = x.register_hook(lambda gradient: calls.append(1) or gradient.clamp(max=1.5))
    x.pow(2).sum().backward()
    x.pow(2).sum().backward()
    apart = x.grad.clone()
    x.grad = None
    (x.pow(2) + x.pow(2)).sum().backward()
    handle.remove()
    assert len(calls) == 3
    assert apart == 3.0
    assert x.grad == 1.5


def test_backward_of_chosen_inputs_is_not_a_sum() -> None:
    a, b = leaf(1.0), leaf(2.0)
    (a * b).sum().backward(inputs=[a])
    (a * b).pow(2).sum().backward(inputs=[b])
    assert (a.grad, b.grad) == (2, 4)
    a.grad = b.grad = None
    ((a * b) + (a * b).pow(2)).sum().backward()
    assert (a.grad, b.grad) != (2, 4)


def test_a_sum_hides_a_loss_without_gradient() -> None:
    x = leaf(1.0)
    dead = x.detach().pow(2).sum()
    with pytest.raises(RuntimeError, match=E0):
        dead.backward()
    (x.sum() + dead).backward()
    assert x.grad == 1


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    if not torch.distributed.is_available():
        pytest.skip("this torch has no distributed package")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", world_size=1, rank=0)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_under_ddp_two_backwards_on_one_forward_raise_and_the_sum_is_right() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.trunk(x).exp()
            return self.first(h).sum(), self.second(h).sum()

    model = nn.parallel.DistributedDataParallel(TwoHeads())
    loss1, loss2 = model(torch.ones(1, 2))
    loss1.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="Expected to mark a variable ready only once"):
        loss2.backward()
    model = nn.parallel.DistributedDataParallel(TwoHeads())
    loss1, loss2 = model(torch.ones(1, 2))
    (loss1 + loss2).backward()
    assert model.module.trunk.weight.grad is not None


# One-hot -> indices.


TARGET = torch.tensor([0, 1, 2, 0])
ONE_HOT: dict[str, Callable[[], Tensor]] = {
    "one_hot": lambda: F.one_hot(TARGET, 3).float(),
    "eye": lambda: torch.eye(3)[TARGET],
    "scatter": lambda: torch.zeros(4, 3).scatter_(1, TARGET[:, None], 1.0),
    "arange": lambda: (TARGET[:, None] == torch.arange(3)).float(),
    "np.eye": lambda: torch.from_numpy(np.eye(3, dtype=np.float32)[TARGET.numpy()]),
}


@pytest.mark.parametrize("form", ONE_HOT.values(), ids=ONE_HOT)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reduction": "sum"},
        {"label_smoothing": 0.1},
        {"weight": torch.tensor([1.0, 5.0, 0.5]), "reduction": "sum"},
        {"weight": torch.tensor([1.0, 5.0, 0.5]), "reduction": "none"},
    ],
    ids=["mean", "sum", "label_smoothing", "weight sum", "weight none"],
)
def test_indices_equal_the_one_hot(form: Callable[[], Tensor], settings: dict[str, object]) -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    assert torch.equal(form().argmax(dim=1), TARGET)
    by_index = F.cross_entropy(logits, TARGET, **settings)
    one_hot = F.cross_entropy(logits, form(), **settings)
    assert torch.allclose(by_index, one_hot)
    assert torch.allclose(gradient(by_index.sum(), logits), gradient(one_hot.sum(), logits), atol=1e-7)


def test_weight_with_mean_divides_differently() -> None:
    # By indices the weights of the targets divide (1 + 5 + 0.5 + 1), by one-hot the number of samples.
    logits, weight = torch.randn(4, 3), torch.tensor([1.0, 5.0, 0.5])
    by_index = F.cross_entropy(logits, TARGET, weight=weight)
    one_hot = F.cross_entropy(logits, ONE_HOT["one_hot"](), weight=weight)
    assert torch.allclose(one_hot, by_index * weight[TARGET].sum() / len(TARGET))
    assert abs(float(one_hot / by_index) - 1.875) < 1e-3


def test_zero_rows_are_not_ignore_index() -> None:
    logits, one_hot = torch.randn(4, 3), ONE_HOT["one_hot"]()
    one_hot[3] = 0
    ignored = torch.tensor([0, 1, 2, -100])
    zeroed, left_out = F.cross_entropy(logits, one_hot), F.cross_entropy(logits, ignored)
    assert torch.allclose(left_out * 3, zeroed * 4)
    assert not torch.allclose(left_out, zeroed)
    with pytest.raises(RuntimeError, match="ignore_index is not supported for floating point target"):
        F.cross_entropy(logits, one_hot, ignore_index=0)


@pytest.mark.parametrize(
    "soften",
    [
        lambda one_hot: 0.7 * one_hot + 0.3 * one_hot.flip(0),
        lambda one_hot: 0.9 * one_hot + 0.1 / 3,
        lambda one_hot: (one_hot + one_hot.roll(1, 1)) / 2,
        lambda one_hot: (3 * one_hot).softmax(1),
    ],
    ids=["mixup", "smoothed", "multi-hot", "distillation"],
)
def test_distributions_are_no_indices(soften: Callable[[Tensor], Tensor]) -> None:
    logits, soft = torch.randn(4, 3), soften(ONE_HOT["one_hot"]())
    assert not torch.allclose(F.cross_entropy(logits, soft), F.cross_entropy(logits, soft.argmax(1)))


def test_indices_into_mse_are_silent_where_samples_equal_classes() -> None:
    target = torch.tensor([0, 1, 2])
    logits = torch.randn(3, 3)
    with pytest.warns(UserWarning, match="target size"):
        wrong = F.mse_loss(logits, target.float())
    assert wrong.isfinite()
    with pytest.raises(RuntimeError), pytest.warns(UserWarning, match="target size"):
        F.mse_loss(torch.randn(4, 3), TARGET.float())


def test_traps_beside_it() -> None:
    square = torch.randn(2, 3, 3, 3, requires_grad=True)  # N H W C where C == H == W
    F.cross_entropy(square, torch.randint(0, 3, (2, 3, 3)))
    with pytest.raises((RuntimeError, ValueError)):
        F.cross_entropy(torch.randn(2, 5, 4, 3), torch.randint(0, 3, (2, 5, 4)))
    column = torch.randn(4, 1, requires_grad=True)
    loss = F.cross_entropy(column, torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert loss == 0
    assert (column.grad == 0).all()
