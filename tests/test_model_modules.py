"""Modules, criteria and optimizers of the model against those of torch."""

from __future__ import annotations

import inspect
import warnings

import model_driver
import pytest
import torch
from gradsight import model
from gradsight.domain import Edge
from gradsight.model.catalogue import MODULES
from gradsight.model.operations import OPERATIONS
from gradsight.model.optimizers import TORCH
from model_modules import constructed
from model_signatures import resolve

pytestmark = pytest.mark.filterwarnings("ignore:Implicit dimension choice")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def known(name: str) -> model.Operation:
    operation = model.operation(name)
    assert operation is not None, name
    return operation


def test_every_public_module_has_a_stub_and_owns_what_torch_says() -> None:
    public = {
        n
        for n in dir(torch.nn)
        if inspect.isclass(getattr(torch.nn, n)) and issubclass(getattr(torch.nn, n), torch.nn.Module)
    }
    assert public - {"Module"} == set(MODULES)
    for short in sorted(MODULES):
        stub = model.module(f"torch.nn.{short}")
        assert stub is not None
        assert (
            model.module(f"{getattr(torch.nn, short).__module__}.{short}") is stub
            or "torch.nn.parallel" in getattr(torch.nn, short).__module__
        )
        instance = constructed(short)
        if instance is None:
            continue
        if short != "DataParallel":
            assert stub.owns() == any(True for _ in instance.parameters()), short
        if stub.affine is not None:
            name, position, default = stub.affine
            assert stub.owns_parameters == name
            parameters = list(inspect.signature(type(instance).__init__).parameters.values())[1:]
            assert parameters[position].name == name
            assert parameters[position].default is default
            assert not stub.owns(False)
        changed = constructed(short)
        assert changed is not None


def module_input(short: str) -> tuple[torch.Tensor, ...]:
    """Arguments for the call of `constructed(short)`."""
    r = torch.rand
    if short in ("CosineSimilarity", "PairwiseDistance", "Bilinear"):
        return (r(4, 3), r(4, 3))
    if short.startswith(("LSTM", "GRU", "RNN")) and not short.endswith("Base"):
        return (r(5, 2 if short.endswith("Cell") else 3),)
    if short in ("Linear", "LazyLinear"):
        return (r(3, 2),)
    if short in ("Embedding", "EmbeddingBag"):
        return (torch.tensor([[0, 1], [1, 0]]),)
    if short == "MultiheadAttention":
        return (r(3, 2, 4), r(3, 2, 4), r(3, 2, 4))
    if short in ("Transformer", "TransformerDecoder", "TransformerDecoderLayer"):
        return (r(3, 2, 4), r(3, 2, 4))
    if short.startswith("Transformer"):
        return (r(3, 2, 4),)
    if short.startswith("MaxUnpool"):
        n = int(short[-2])
        pool = getattr(torch.nn.functional, f"max_pool{n}d")
        return pool(r(2, 2, *[4] * n), 2, return_indices=True)  # type: ignore[no-any-return]
    if short == "Fold":
        return (r(2, 8, 9),)
    if short in ("LayerNorm", "RMSNorm"):
        return (r(3, 2),)
    if short in ("GLU", "Unflatten", "Flatten", "Softmax", "LogSoftmax"):
        return (r(3, 4),)
    if short == "GroupNorm":
        return (r(3, 4, 5),)
    if short == "BatchNorm1d":
        return (r(3, 4),)
    for n in "123":
        if f"{n}d" in short:
            channels = 4 if "Norm" in short else 4 if "Shuffle" in short else 2
            return (r(3, channels, *[6] * int(n)),)
    if short in (
        "PixelShuffle",
        "ChannelShuffle",
        "PixelUnshuffle",
        "Unfold",
        "Upsample",
        "Softmax2d",
        "CrossMapLRN2d",
        "LocalResponseNorm",
    ):
        return (r(3, 4, 6, 6),)
    if short.startswith("Upsampling"):
        return (r(3, 2, 2, 2),)
    return ((r(3, 4) - 0.5) * 4,)


def test_calls_of_modules_do_what_their_stubs_say() -> None:
    wrong, checked = [], 0
    for short in sorted(MODULES):
        stub = model.module(f"torch.nn.{short}")
        assert stub is not None
        if (
            stub.container
            or stub.criterion is not None
            or short in ("SyncBatchNorm", "RNNBase", "RNNCellBase", "DataParallel")
        ):
            continue
        instance = constructed(short)
        assert instance is not None, short
        torch.manual_seed(1)
        arguments = module_input(short)
        result = instance(*arguments)
        outputs = [t for t in model_driver.tensors_of(result) if t.is_floating_point()]
        for position, argument in enumerate(arguments):
            if not argument.is_floating_point():
                assert stub.forward.edge(stub.forward.params[position]) is Edge.NONE, short
                continue
            leaf = argument.clone().requires_grad_()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = instance(*arguments[:position], leaf * 1, *arguments[position + 1 :])
            outputs = [t for t in model_driver.tensors_of(result) if t.is_floating_point()]
            (gradient,) = torch.autograd.grad(
                sum((t * torch.rand_like(t)).sum() for t in outputs), leaf, allow_unused=True
            )
            live = gradient is not None and bool(torch.count_nonzero(gradient))
            if live != (stub.forward.edge(stub.forward.params[position]) is Edge.LIVE):
                wrong.append(f"{short} {stub.forward.params[position]}: live {live}")
        kind = model_driver.kind_of(result)
        structure = "tensor" if isinstance(result, torch.Tensor) else "tensors"
        if structure != stub.forward.kind:
            wrong.append(f"{short}: gives {kind}, not {stub.forward.kind}")
        if stub.structure and len(result) != len(stub.structure):
            wrong.append(f"{short}: {len(result)} results, not {stub.structure}")
        first = outputs[0]
        if (
            stub.forward.shape == "same"
            and isinstance(result, torch.Tensor)
            and result.shape != arguments[0].shape
        ):
            wrong.append(f"{short}: shape {tuple(result.shape)} of {tuple(arguments[0].shape)}")
        if stub.out_features is not None and not short.startswith("Lazy"):
            wanted = getattr(instance, stub.out_features[0])
            assert stub.channel_dim is not None
            assert first.shape[stub.channel_dim] == wanted, short
        frozen = instance.requires_grad_(False)
        if arguments[0].is_floating_point():
            leaf = arguments[0].clone().requires_grad_()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcome = model_driver.tensors_of(frozen(leaf + 0, *arguments[1:]))
            total = sum((t.sum() for t in outcome if t.requires_grad), torch.zeros(()))
            if second_backward_raises(total) and not stub.forward.saves:
                wrong.append(f"{short}: saves something")
        train, evaluated = module_results(short)
        if train != evaluated and not stub.mode_dependent:
            wrong.append(f"{short}: depends on the mode")
        checked += 1
    assert not wrong, "\n".join(wrong)
    assert checked > 100


def second_backward_raises(total: torch.Tensor) -> bool:
    if not total.requires_grad:
        return False
    total.backward(retain_graph=False)
    try:
        total.backward()
    except RuntimeError:
        return True
    return False


def module_results(short: str) -> tuple[bool, bool]:
    """Whether two calls give the same numbers, in training and in evaluation."""
    out = []
    for train in (True, False):
        instance = constructed(short)
        assert instance is not None
        instance.train(train)
        torch.manual_seed(3)
        arguments = module_input(short)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            a = model_driver.tensors_of(instance(*arguments))
            b = model_driver.tensors_of(instance(*arguments))
        out.append(all(torch.equal(x, y) for x, y in zip(a, b, strict=True)))
    return out[0], out[1]


def test_criteria_take_the_arguments_that_they_say() -> None:
    classes = {n for n in dir(torch.nn) if n.endswith(("Loss", "Loss2d", "WithLoss"))}
    for short in classes:
        stub = model.criterion(f"torch.nn.{short}")
        assert stub is not None, short
        assert model.module(f"torch.nn.{short}").criterion is stub  # type: ignore[union-attr]
        names_ = list(inspect.signature(getattr(torch.nn, short).__init__).parameters)[1:]
        if names_ != ["args", "kwargs"]:
            names_ = [name for name in names_ if name not in ("device", "dtype")]
            assert list(stub.arguments) == names_, short
        called = list(inspect.signature(getattr(torch.nn, short).forward).parameters)[1:]
        assert list(stub.params) == [name.removesuffix("_") for name in called], short
        assert set(stub.settings) <= set(stub.arguments)
    functions = {n for n in dir(torch.nn.functional) if n.endswith("_loss") or "cross_entropy" in n}
    for short in functions:
        stub = model.criterion(f"torch.nn.functional.{short}")
        assert stub is not None, short
        names_ = list(inspect.signature(getattr(torch.nn.functional, short)).parameters)
        given = [name for name in names_ if name in stub.arguments]
        assert list(stub.arguments) == given, short


def test_what_criteria_want() -> None:
    """Each criterion, fed what its stub wants, is the cross entropy that it is a form of."""
    F = torch.nn.functional
    torch.manual_seed(0)
    x, y = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    feed = {"logit": x, "probability": x.softmax(1), "log-probability": x.log_softmax(1)}
    whole = F.cross_entropy(x, y)
    for name in ("cross_entropy", "nll_loss"):
        stub = model.criterion(f"torch.nn.functional.{name}")
        assert stub is not None
        assert stub.target_wants == "index"
        assert torch.allclose(getattr(F, name)(feed[stub.input_wants], y), whole)
    one_hot = F.one_hot(y, 3).float()
    assert model.criterion("torch.nn.CrossEntropyLoss").soft_target  # type: ignore[union-attr]
    assert torch.allclose(F.cross_entropy(x, one_hot), whole)
    stub = model.criterion("torch.nn.functional.kl_div")
    assert stub is not None
    assert torch.allclose(F.kl_div(feed[stub.input_wants], one_hot, reduction="batchmean"), whole)
    feed = {"logit": x, "probability": x.sigmoid()}
    losses = []
    for name in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        stub = model.criterion(f"torch.nn.functional.{name}")
        assert stub is not None
        losses.append(getattr(F, name)(feed[stub.input_wants], one_hot))
    assert torch.allclose(*losses)


def test_roles_of_activations() -> None:
    x = torch.randn(4, 3)
    for name in (*OPERATIONS, *(f"torch.nn.{short}" for short in MODULES)):
        stub = model.module(name)
        role = stub.forward.role if stub is not None else known(name).role
        if role not in ("probability", "log-probability") or ".sparse." in name or name.endswith("_"):
            continue
        if stub is not None:
            instance = constructed(name.rpartition(".")[2])
            assert instance is not None
            value = instance(x[None, :, :, None] if name.endswith("2d") else x)
        else:
            leaf = name.rpartition(".")[2]
            value = resolve(name)(x, 1) if "softm" in leaf and "gumbel" not in leaf else resolve(name)(x)
        value = value.exp() if role == "log-probability" else value
        assert value.min() >= 0, name
        assert value.max() <= 1 + 1e-6, name


def test_optimizers_take_parameters_first() -> None:
    public = {n for n in dir(torch.optim) if inspect.isclass(getattr(torch.optim, n))}
    assert public == set(TORCH)
    for short in sorted(public):
        cls = getattr(torch.optim, short)
        stub = model.optimizer(f"torch.optim.{short}")
        assert stub is not None
        assert model.optimizer(f"{cls.__module__}.{short}") is not None, cls.__module__
        assert list(inspect.signature(cls.__init__).parameters)[1] == stub.params
        required = inspect.signature(cls.step).parameters.get("closure")
        needs = required is not None and required.default is inspect.Parameter.empty
        assert needs == stub.closure or short == "Optimizer"
    scheduler = torch.optim.lr_scheduler
    public = {
        n for n in dir(scheduler)
        if inspect.isclass(getattr(scheduler, n)) and issubclass(getattr(scheduler, n), scheduler.LRScheduler)
    }  # fmt: skip
    assert public <= model.SCHEDULERS
    assert model.optimizer("torch.optim.lr_scheduler.StepLR") is None
    assert model.optimizer("torch.nn.Linear") is None


def test_which_distributions_draw_with_a_gradient() -> None:
    import torch.distributions as known
    from gradsight.interpret.libraries import REPARAMETRIZED

    classes = {name: getattr(known, name) for name in known.__all__ if isinstance(getattr(known, name), type)}
    wanted = {name for name, one in classes.items() if getattr(one, "has_rsample", False) is True}
    assert wanted == REPARAMETRIZED
