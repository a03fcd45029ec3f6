"""The model of library code against the libraries themselves: every row that can be run is run."""

from __future__ import annotations

import inspect
import math
import operator
import warnings
from collections.abc import Callable
from typing import Any

import model_driver
import numpy as np
import pytest
import torch
from model_modules import constructed
from model_signatures import names, resolve

from gradsight import model
from gradsight.domain import Edge
from gradsight.model.catalogue import MODULES
from gradsight.model.judgements import ATTRIBUTES, JUDGED, JUDGED_BY_LEAF, NEVER_A_WAY
from gradsight.model.operations import OPERATIONS
from gradsight.model.optimizers import TORCH
from gradsight.model.python import PYTHON

EDGE = {"live": Edge.LIVE, "zero": Edge.ZERO, "cut": Edge.CUT, "none": Edge.NONE}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def known(name: str) -> model.Operation:
    operation = model.operation(name)
    assert operation is not None, name
    return operation


# -- torch's operations


def test_every_row_is_what_torch_does_to_each_argument_alone(capsys: pytest.CaptureFixture[str]) -> None:
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
    with capsys.disabled():
        print(
            f"\n{len(OPERATIONS) - len(silent)} operations checked, {arguments} arguments; not drivable: {silent}"
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
# What people write, and what becomes of the gradient of x: "live", "zero", "cut", "raises". Truth is torch; the rows
# that the expression goes through are named beside it.
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
    ("torch.nn.functional.one_hot(x.argmax(), 3)", "torch.nn.functional.one_hot", "tensor", "none-or-cut"),
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
        arguments = {"topk": (2,), "kthvalue": (2,)}.get(name.rpartition(".")[2], (1,))
        pair = call(x) if operation.results_when == "" and name.endswith("aminmax") else call(x, *arguments)
        assert len(pair) == len(operation.results), name
        for position, field in enumerate(operation.results):
            assert getattr(pair, field) is pair[position] or torch.equal(getattr(pair, field), pair[position])
            assert getattr(pair, field).requires_grad == (field != "indices")
        if operation.results_when == "dim":
            assert isinstance(call(x), torch.Tensor)
        checked += 1
    assert checked >= 10


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


# -- numpy, math, built-ins


A = np.array([[0.3, 0.6], [0.4, 0.2]])
I = np.array([0, 1])
NUMPY_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "numpy.einsum": ("ij,jk->ik", A, A),
    "numpy.where": (A > 0.3, A, A),
    "numpy.clip": (A, 0.1, 0.5),
    "numpy.select": ([A > 0.3], [A]),
    "numpy.compress": (I > 0, A, 0),
    "numpy.extract": (A > 0.3, A),
    "numpy.choose": (I, [A[0], A[1]]),
    "numpy.piecewise": (A, [A > 0.3], [1.0]),
    "numpy.append": (A, A),
    "numpy.take": (A, I),
    "numpy.take_along_axis": (A, I[:, None], 1),
    "numpy.delete": (A, 0),
    "numpy.insert": (A, 0, 0.5),
    "numpy.reshape": (A, (4,)),
    "numpy.swapaxes": (A, 0, 1),
    "numpy.moveaxis": (A, 0, 1),
    "numpy.rollaxis": (A, 1),
    "numpy.expand_dims": (A, 0),
    "numpy.permute_dims": (A, (1, 0)),
    "numpy.broadcast_to": (A, (2, 2, 2)),
    "numpy.tile": (A, 2),
    "numpy.repeat": (A, 2),
    "numpy.pad": (A, 1),
    "numpy.resize": (A, (4,)),
    "numpy.trim_zeros": (A[0],),
    "numpy.roll": (A, 1),
    "numpy.partition": (A, 1),
    "numpy.argpartition": (A, 1),
    "numpy.lexsort": (A,),
    "numpy.quantile": (A, 0.5),
    "numpy.percentile": (A, 50),
    "numpy.nanquantile": (A, 0.5),
    "numpy.nanpercentile": (A, 50),
    "numpy.split": (A, 2),
    "numpy.array_split": (A, 2),
    "numpy.hsplit": (A, 2),
    "numpy.vsplit": (A, 2),
    "numpy.dsplit": (A[:, :, None].repeat(2, 2), 2),
    "numpy.polyval": (A[0], A),
    "numpy.interp": (A, A[0], A[1]),
    "numpy.polyfit": (A[0], A[1], 1),
    "numpy.searchsorted": (A[0], A),
    "numpy.digitize": (A, np.array([0.1, 0.5])),
    "numpy.bincount": (I,),
    "numpy.histogram2d": (A[0], A[1]),
    "numpy.isin": (A, A),
    "numpy.union1d": (A, A),
    "numpy.intersect1d": (A, A),
    "numpy.setdiff1d": (A, A),
    "numpy.setxor1d": (A, A),
    "numpy.full_like": (A, 0.5),
    "numpy.full": ((2,), 0.5),
    "numpy.zeros": ((2,),),
    "numpy.ones": ((2,),),
    "numpy.empty": ((2,),),
    "numpy.eye": (2,),
    "numpy.identity": (2,),
    "numpy.tri": (2,),
    "numpy.arange": (0.0, 1.0, 0.25),
    "numpy.linspace": (0.0, 1.0, 3),
    "numpy.logspace": (0.0, 1.0, 3),
    "numpy.geomspace": (0.1, 1.0, 3),
    "numpy.ldexp": (A, I),
    "numpy.gcd": (I, I),
    "numpy.lcm": (I, I),
    "numpy.left_shift": (I, I),
    "numpy.right_shift": (I, I),
    "numpy.bitwise_left_shift": (I, I),
    "numpy.bitwise_right_shift": (I, I),
    "numpy.bitwise_and": (I, I),
    "numpy.bitwise_or": (I, I),
    "numpy.bitwise_xor": (I, I),
    "numpy.bitwise_not": (I,),
    "numpy.invert": (I,),
    "numpy.unwrap": (A,),
    "numpy.convolve": (A[0], A[1]),
    "numpy.correlate": (A[0], A[1]),
    "numpy.vander": (A[0],),
    "numpy.cross": (np.array([1.0, 2, 3]), np.array([3.0, 2, 1])),
    "numpy.can_cast": (np.int64, np.float64),
    "numpy.linalg.eigvalsh": (A + A.T,),
    "numpy.linalg.cholesky": (A @ A.T,),
    "numpy.linalg.eigh": (A + A.T,),
    "numpy.linalg.solve": (A, A),
    "numpy.linalg.lstsq": (A, A),
    "numpy.linalg.matrix_power": (A, 2),
    "numpy.linalg.multi_dot": ([A, A],),
    "numpy.linalg.tensorsolve": (A, A[0]),
    "numpy.linalg.tensorinv": (A, 1),
    "numpy.fft.fftfreq": (4,),
    "numpy.fft.rfftfreq": (4,),
}  # fmt: skip
LISTS = frozenset("concatenate concat hstack vstack dstack column_stack stack block".split())
SCALARS = frozenset("float16 float32 float64 double single half longdouble".split()) | frozenset(
    "int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool_ intp".split()
)


def numpy_arguments(name: str, operation: model.Operation) -> tuple[Any, ...]:
    leaf = name.rpartition(".")[2]
    if name in NUMPY_ARGUMENTS:
        return NUMPY_ARGUMENTS[name]
    if leaf in LISTS:
        return ([A, A],)
    if leaf in SCALARS:
        return (0.5,)
    pair = operation.params[:2] in (("x1", "x2"), ("a", "b"))
    return (A, A) if pair else (A,)


def numpy_rows() -> list[str]:
    return [name for name in PYTHON if name.startswith("numpy.") and hasattr_path(name)]


def hasattr_path(name: str) -> bool:
    value: Any = np
    for part in name.split(".")[1:]:
        value = getattr(value, part, None)
    return value is not None


def numpy_function(name: str) -> Callable[..., Any]:
    value: Any = np
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    return value  # type: ignore[no-any-return]


def test_numpy_rows_give_what_they_say() -> None:
    wrong = []
    for name in numpy_rows():
        operation = known(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = numpy_function(name)(*numpy_arguments(name, operation))
        parts = result if isinstance(result, (tuple, list)) else [result]
        arrays = bool(parts) and all(isinstance(part, (np.ndarray, np.generic, int)) for part in parts)
        plain = isinstance(result, (bool, int, float, np.generic, tuple, np.dtype))
        if operation.kind in ("array", "same") and not arrays or operation.kind == "number" and not plain:
            wrong.append(f"{name}: {type(result).__name__}, not {operation.kind}")
        first = parts[0] if parts else None
        if isinstance(first, (np.ndarray, np.generic)) and operation.dtype in ("float", "int", "bool"):
            kinds = {"float": "fc", "int": "iu", "bool": "b"}[operation.dtype]
            if first.dtype.kind not in kinds and operation.kind == "array":
                wrong.append(f"{name}: dtype {first.dtype}, not {operation.dtype}")
    assert not wrong, "\n".join(wrong)


def test_numpy_refuses_tensors_that_require_gradient_as_the_rows_say() -> None:
    wrong = []
    checked = 0
    for name in numpy_rows():
        operation = known(name)
        arguments = numpy_arguments(name, operation)
        if not any(isinstance(value, np.ndarray) and value.dtype.kind == "f" for value in arguments):
            continue
        at = next(i for i, v in enumerate(arguments) if isinstance(v, np.ndarray) and v.dtype.kind == "f")
        x = torch.tensor(arguments[at], requires_grad=True)
        checked += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = numpy_function(name)(*arguments[:at], x, *arguments[at + 1 :])
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            said = operation.raises.removeprefix("raises: ").partition(":")[0]
            if type(error).__name__ != said:
                wrong.append(
                    f"{name}: {type(error).__name__}: {str(error)[:60]}, the row says {operation.raises!r}"
                )
            continue
        live = any(tensor.requires_grad for tensor in model_driver.tensors_of(result))
        if operation.raises or live != (operation.kind == "same" and operation.other is Edge.LIVE):
            wrong.append(
                f"{name}: gave {type(result).__name__}, live {live}; the row says {operation.raises!r}"
            )
    assert not wrong, "\n".join(wrong)
    assert checked > 200


def test_math_gives_numbers() -> None:
    for name in PYTHON:
        if name.startswith("math.") and hasattr(math, name.partition(".")[2]):
            assert known(name).kind == "number"
            assert known(name).cause == "number"


def test_operators_are_those_of_python() -> None:
    for name in PYTHON:
        module, _, leaf = name.rpartition(".")
        if module == "operator":
            assert callable(getattr(operator, leaf)), name


# -- modules, criteria, optimizers


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
        out.append(all(torch.equal(x, y) for x, y in zip(a, b)))
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


def test_unknown_names_are_unknown() -> None:
    for name in ("torch.no_such_thing", "timm.create_model", "torch.Tensor.no_such_thing", "exp", ""):
        assert model.operation(name) is None
        assert model.module(name) is None
        assert model.criterion(name) is None
