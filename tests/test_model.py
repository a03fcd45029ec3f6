"""The model of library code against the libraries themselves: every row that can be run is run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import model_driver
import numpy as np
import pytest
import torch
from gradsight import model
from gradsight.domain import Edge
from gradsight.model.judgements import ATTRIBUTES, JUDGED, JUDGED_BY_LEAF, NEVER_A_WAY
from gradsight.model.operations import OPERATIONS
from model_signatures import names, resolve

EDGE = {"live": Edge.LIVE, "zero": Edge.ZERO, "cut": Edge.CUT, "none": Edge.NONE}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def known(name: str) -> model.Operation:
    operation = model.operation(name)
    assert operation is not None, name
    return operation


# -- torch's operations


def test_every_row_is_what_torch_does_to_each_argument_alone(tell: Callable[[str], None]) -> None:
    wrong: list[str] = []
    arguments, silent = 0, []
    for name in OPERATIONS:
        operation, seen = known(name), model_driver.drive(name)
        if not seen.driven:
            silent.append(name)
            continue
        for param, edge in seen.edges.items():
            if (
                edge == "integer" or param == "?" or "empty" in name or name.endswith("data_ptr")
            ):  # different every time
                continue
            arguments += 1
            said = operation.edge(param)
            if edge in ("raises", "refuses"):
                if not operation.raises and said is not Edge.NONE:
                    wrong.append(
                        f"{name}({param}): torch raises {seen.errors[param]}, the row does not say so"
                    )
            elif said is not EDGE[edge] and not (
                said is Edge.NONE and edge == "cut" and param in NEVER_A_WAY
            ):
                wrong.append(f"{name}({param}): {edge} in torch, {said.value} in the model")
    tell(
        f"{len(OPERATIONS) - len(silent)} operations checked, {arguments} arguments alone; "
        f"not drivable: {silent}"
    )
    assert not wrong, "\n".join(wrong)
    assert len(silent) < 0.02 * len(OPERATIONS)


def test_what_is_saved_decides_whether_backward_runs_twice() -> None:
    wrong = []
    for name in OPERATIONS:
        operation, seen = known(name), model_driver.drive(name)
        if not seen.twice or name in TWICE:
            continue
        if bool(operation.saves) != (True in seen.twice):
            wrong.append(
                f"{name}: saves {sorted(operation.saves)}, a second backward raised: {sorted(seen.twice)}"
            )
    assert not wrong, "\n".join(wrong)


# `fill_diagonal_` writes through a view that its own backward cannot follow twice; nothing is saved.
TWICE = {"torch.Tensor.fill_diagonal_"}


def test_kinds_dtypes_and_shapes_are_those_of_torch() -> None:
    wrong = []
    for name in OPERATIONS:
        operation, seen = known(name), model_driver.drive(name)
        if not seen.driven:
            continue
        kind = "tensor" if operation.kind == "same" else operation.kind
        if (
            kind not in seen.kinds
            and kind != "unknown"
            and not (kind == "number" and "unknown" in seen.kinds)
        ):
            wrong.append(f"{name}: kind {sorted(seen.kinds)}, not {operation.kind}")
        floats = {pair.partition(">")[2] for pair in seen.dtypes if pair.startswith("float>")} - {""}
        if floats and operation.dtype in ("float", "int", "bool") and operation.dtype not in floats:
            wrong.append(f"{name}: dtype {floats}, not {operation.dtype}")
        if floats and operation.dtype == "same" and "float" not in floats:
            wrong.append(f"{name}: dtype {floats}, not that of the arguments")
        shapes = seen.shapes - {"", "square"}
        if operation.shape == "same" and shapes and "same" not in shapes and kind == "tensor":
            wrong.append(f"{name}: shape {shapes}, not that of the arguments")
        if operation.shape == "scalar" and shapes and "scalar" not in shapes and kind == "tensor":
            wrong.append(f"{name}: shape {shapes}, not scalar")
    assert not wrong, "\n".join(wrong)


def test_every_public_operation_has_a_row_and_every_judgement_an_operation() -> None:
    assert not set(names()) - set(OPERATIONS) - {"torch.Tensor.index"}
    leaves = {name.rpartition(".")[2] for name in OPERATIONS}
    leaves |= {leaf.removesuffix("_") for leaf in leaves} | set(dir(torch.Tensor)) | set(dir(torch))
    unused = {leaf for leaf in JUDGED_BY_LEAF if not leaf.startswith("__")} - leaves
    assert not unused
    for name in JUDGED:
        assert resolve(name) is not None


def test_in_place_operations_are_those_with_an_underscore() -> None:
    for name in OPERATIONS:
        assert known(name).in_place == (name.endswith("_") and not name.endswith("__")), name


X = [0.3, 0.6, 0.4]
# What people write, and what becomes of the gradient of x: "live", "zero", "cut", "raises". Truth is torch;
# the rows that the expression goes through are named beside it.
WRITTEN: list[tuple[str, str, str, str]] = [
    ("torch.round(x)", "torch.round", "input", "zero"),
    ("x.floor()", "torch.Tensor.floor", "self", "zero"),
    ("abs(x)", "builtins.abs", "x", "live"),
    ("sum([x, x])", "builtins.sum", "iterable", "live"),
    ("max(x.sum(), x.mean())", "builtins.max", "args", "live"),
    ("min(x.sum(), x.mean())", "builtins.min", "args", "live"),
    ("pow(x, 2)", "builtins.pow", "base", "live"),
    ("x ** 2", "operator.pow", "a", "live"),
    ("2 ** x", "operator.pow", "b", "live"),
    ("x + 1", "operator.add", "a", "live"),
    ("1 - x", "operator.sub", "b", "live"),
    ("x / 2", "operator.truediv", "a", "live"),
    ("x % 0.25", "operator.mod", "a", "live"),
    ("x // 0.25", "operator.floordiv", "a", "raises"),
    ("x @ x", "operator.matmul", "a", "live"),
    ("-x", "operator.neg", "a", "live"),
    ("x[0]", "operator.getitem", "a", "live"),
    ("x[[0, 2]]", "torch.Tensor.__getitem__", "self", "live"),
    ("x > 0.5", "operator.gt", "a", "cut"),
    ("(x > 0.5).float()", "torch.Tensor.gt", "self", "cut"),
    ("float(x.sum())", "builtins.float", "x", "cut"),
    ("int(x.sum())", "builtins.int", "x", "cut"),
    ("x.sum().item()", "torch.Tensor.item", "self", "cut"),
    ("x.tolist()", "torch.Tensor.tolist", "self", "cut"),
    ("math.exp(x.sum())", "math.exp", "x", "cut"),
    ("np.float32(x.sum().detach())", "torch.Tensor.detach", "self", "cut"),
    ("x.detach()", "torch.Tensor.detach", "self", "cut"),
    ("x.data", "torch.Tensor.data", "self", "cut"),
    ("x.T", "torch.Tensor.T", "self", "live"),
    ("x.real", "torch.Tensor.real", "self", "live"),
    ("x.long()", "torch.Tensor.long", "self", "cut"),
    ("x.bool()", "torch.Tensor.bool", "self", "cut"),
    ("x.half()", "torch.Tensor.half", "self", "live"),
    ("x.to(torch.float64)", "torch.Tensor.to", "self", "live"),
    ("x.cpu()", "torch.Tensor.cpu", "self", "live"),
    ("x.argmax()", "torch.Tensor.argmax", "self", "cut"),
    ("x.max(dim=0).values", "torch.Tensor.max", "self", "live"),
    ("x.sort().values", "torch.Tensor.sort", "self", "live"),
    ("torch.relu(-x)", "torch.relu", "input", "zero-here"),
    ("torch.tensor(x)", "torch.tensor", "data", "cut"),
    ("torch.tensor([x[0], x[1]])", "torch.tensor", "data", "cut"),
    ("torch.as_tensor(x)", "torch.as_tensor", "data", "live"),
    ("torch.asarray(x)", "torch.asarray", "obj", "live"),
    ("torch.Tensor(x)", "torch.Tensor", "data", "live"),
    ("torch.FloatTensor([x[0], x[1]])", "torch.FloatTensor", "data", "cut"),
    ("x.new_tensor([x[0], x[1]])", "torch.Tensor.new_tensor", "data", "cut"),
    ("torch.linspace(x[0], x[1], 3)", "torch.linspace", "start", "cut"),
    ("torch.full((2,), x[0].item())", "torch.full", "fill_value", "cut"),
    ("torch.autograd.Variable(x)", "torch.autograd.Variable", "data", "cut"),
    ("torch.where(x > 0.5, x, 0.0)", "torch.where", "input", "live"),
    ("torch.where(x > 0.5, 1.0, 0.0)", "torch.where", "condition", "none-or-cut"),
    ("torch.zeros(3).masked_fill(x > 0.5, 1.0)", "torch.Tensor.masked_fill", "mask", "none-or-cut"),
    ("torch.div(x, 0.25)", "torch.div", "input", "live"),
    ("torch.normal(x, 1.0)", "torch.normal", "mean", "zero"),
    ("torch.bernoulli(x)", "torch.bernoulli", "input", "zero"),
    ("x.unique()", "torch.Tensor.unique", "self", "raises"),
    ("torch.floor_divide(x, 0.25)", "torch.floor_divide", "input", "raises"),
    ("torch.stack([x, x])", "torch.stack", "tensors", "live"),
    ("torch.cat([x, x])", "torch.cat", "tensors", "live"),
    ("torch.einsum('i,i->', x, x)", "torch.einsum", "operands", "live"),
    ("torch.zeros(3).copy_(x)", "torch.Tensor.copy_", "other", "live"),
    ("(x * 1).copy_(torch.zeros(3))", "torch.Tensor.copy_", "self", "zero-here"),
    ("torch.zeros_like(x)", "torch.zeros_like", "input", "none-or-cut"),
    ("torch.softmax(x, 0)", "torch.softmax", "input", "live"),
    ("torch.nn.functional.one_hot(x.argmax(), 3)", "torch.nn.functional.one_hot", "tensor", "cut"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "name", "param", "truth"), WRITTEN)
def test_what_people_write(expression: str, name: str, param: str, truth: str) -> None:
    x = torch.tensor(X, requires_grad=True)
    scope = {"x": x, "torch": torch, "math": math, "np": np}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = eval(expression, scope)
    operation = model.attribute(name) or known(name)
    edge = operation.edge(param)
    if not isinstance(value, torch.Tensor) or not value.requires_grad:
        assert truth in ("cut", "none-or-cut")
        assert operation.kind == "number" or edge is (Edge.CUT if truth == "cut" else Edge.NONE)
        return
    weights = torch.arange(1, value.numel() + 1).reshape(value.shape)
    if truth == "raises":
        with pytest.raises((RuntimeError, NotImplementedError), match="derivative"):
            (value * weights).sum().backward()
        assert operation.raises == "backward raises"
        return
    (value * weights).sum().backward()
    assert x.grad is not None
    if torch.count_nonzero(x.grad):
        assert (truth, edge) == ("live", Edge.LIVE)
    else:
        assert truth in ("zero", "zero-here")
        assert edge is Edge.ZERO or truth == "zero-here"


def test_rounding_mode_makes_a_division_a_staircase() -> None:
    for name in ("torch.div", "torch.divide"):
        x = torch.tensor(X, requires_grad=True)
        resolve(name)(x, 0.25, rounding_mode="floor").sum().backward()
        assert x.grad is not None
        assert not torch.count_nonzero(x.grad)
        assert known(name).zero_when == "rounding_mode"


def test_pairs_say_what_comes_back() -> None:
    x = torch.rand(3, 4, requires_grad=True)
    checked = 0
    for name in OPERATIONS:
        operation = known(name)
        if not name.startswith("torch.Tensor.") or not operation.results:
            continue
        call = resolve(name)
        given = {"topk": (2,), "kthvalue": (2,), "frexp": (), "aminmax": ()}
        arguments = given.get(name.rpartition(".")[2], (1,))
        pair = call(x, *arguments)
        assert len(pair) == len(operation.results), name
        for position, field in enumerate(operation.results):
            assert getattr(pair, field) is pair[position] or torch.equal(getattr(pair, field), pair[position])
            assert getattr(pair, field).requires_grad == (field not in ("indices", "exponent"))
        if operation.results_when == "dim":
            assert isinstance(call(x), torch.Tensor)
            assert isinstance(call(x, dim=1), tuple)
        checked += 1
    assert checked >= 10


def test_pooling_gives_a_pair_only_if_it_is_asked_for() -> None:
    x = torch.rand(2, 3, 6, 6, requires_grad=True)
    for name, arguments in (
        ("max_pool2d", (2,)),
        ("adaptive_max_pool2d", (2,)),
        ("fractional_max_pool2d", (2, 3)),
    ):
        operation = known(f"torch.nn.functional.{name}")
        call = resolve(f"torch.nn.functional.{name}")
        assert isinstance(call(x, *arguments), torch.Tensor)
        assert operation.results_when == "return_indices"
        pair = call(x, *arguments, return_indices=True)
        assert [tensor.requires_grad for tensor in pair] == [
            field != "indices" for field in operation.results
        ]


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_helpers_of_torch_nn() -> None:
    sequence = torch.nn.utils.rnn
    x, lengths = torch.rand(2, 3, requires_grad=True), torch.tensor([3, 2])
    packed = sequence.pack_padded_sequence(x, lengths, batch_first=True)
    live = {
        "torch.nn.utils.parameters_to_vector": torch.nn.utils.parameters_to_vector([x]),
        "torch.nn.utils.rnn.pad_sequence": sequence.pad_sequence([x, x]),
        "torch.nn.utils.rnn.pack_padded_sequence": packed.data,
        "torch.nn.utils.rnn.pack_sequence": sequence.pack_sequence([x, x]).data,
        "torch.nn.utils.rnn.pad_packed_sequence": sequence.pad_packed_sequence(packed)[0],
        "torch.nn.utils.rnn.unpad_sequence": sequence.unpad_sequence(x, lengths, batch_first=True)[0],
        "torch.nn.utils.rnn.unpack_sequence": sequence.unpack_sequence(packed)[0],
        "torch.sparse_coo_tensor": torch.sparse_coo_tensor(torch.tensor([[0, 1]]), x, (2, 3)),
        "torch.sparse.softmax": torch.sparse.softmax((x * 1).to_sparse(), 1),
        "torch.sparse.log_softmax": torch.sparse.log_softmax((x * 1).to_sparse(), 1),
        "torch.sparse.mm": torch.sparse.mm((x * 1).to_sparse(), x.T),
    }
    for name, value in live.items():
        assert value.requires_grad, name
        assert known(name).edge(known(name).params[0]) is Edge.LIVE or name == "torch.sparse_coo_tensor"
    for name in JUDGED:
        if name.startswith("torch.nn.init."):
            weight = torch.rand(2, 2, 3) if "dirac" in name else torch.rand(2, 2)
            arguments = {"constant_": (0.5,), "sparse_": (0.5,)}.get(name.rpartition(".")[2], ())
            written = (x.sum() * weight).detach().requires_grad_()
            assert resolve(name)(written, *arguments) is written
            assert written.grad_fn is None
            assert known(name).other is Edge.NONE
    for name in ("torch.nn.Parameter", "torch.nn.Buffer"):
        assert resolve(name)(x * 1).is_leaf
        assert known(name).other is Edge.CUT


def test_integer_dtypes() -> None:
    for name in dir(torch):
        value = getattr(torch, name)
        if isinstance(value, torch.dtype) and not name.startswith(
            ("bit", "quint4", "quint2", "int1", "uint1")
        ):
            if name[-1].isdigit() and name.startswith(("int", "uint")) and int(name.strip("uint")) < 8:
                continue
            differentiable = value.is_floating_point or value.is_complex
            assert model.is_integer_dtype(f"torch.{name}") == (not differentiable), name
        elif (
            name.endswith("Tensor")
            and name != "Tensor"
            and isinstance(getattr(value, "dtype", None), torch.dtype)
        ):
            assert model.is_integer_dtype(f"torch.{name}") == (not value.dtype.is_floating_point), name
            assert model.is_integer_dtype(f"torch.cuda.{name}") == (not value.dtype.is_floating_point), name


def test_attributes() -> None:
    properties = {
        name
        for name in dir(torch.Tensor)
        if not name.startswith("_") and not callable(getattr(torch.Tensor, name))
    }
    assert not properties - set(ATTRIBUTES)
    for name in sorted(properties & set(ATTRIBUTES)):
        stub = model.attribute(f"torch.Tensor.{name}")
        assert stub is not None
        x = (
            torch.rand(2, 2, dtype=torch.complex64 if name == "imag" else torch.float32, requires_grad=True)
            * 1
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                value = getattr(x, name)
            except RuntimeError:
                continue
        if isinstance(value, torch.Tensor):
            assert value.requires_grad == (stub.edge("self") is Edge.LIVE), name
            assert stub.edge("self") is not Edge.NONE, name
        else:
            assert stub.edge("self") is Edge.NONE, name
    assert model.attribute("torch.Tensor.sum") is None


def test_unknown_names_are_unknown() -> None:
    for name in ("torch.no_such_thing", "timm.create_model", "torch.Tensor.no_such_thing", "exp", ""):
        assert model.operation(name) is None
        assert model.module(name) is None
        assert model.criterion(name) is None
