"""The rows of numpy, math and the operators against what they do, with arrays and with tensors."""

from __future__ import annotations

# ruff: noqa: SIM905 (tables of names read best as words)
import math
import operator
import warnings
from collections.abc import Callable
from typing import Any

import model_driver
import numpy as np
import pytest
import torch
from gradsight import model
from gradsight.domain import Edge
from gradsight.model.python import PYTHON


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def known(name: str) -> model.Operation:
    operation = model.operation(name)
    assert operation is not None, name
    return operation


A = np.array([[0.3, 0.6], [0.4, 0.2]])
INDEX = np.array([0, 1])
NUMPY_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "numpy.einsum": ("ij,jk->ik", A, A),
    "numpy.where": (A > 0.3, A, A),
    "numpy.clip": (A, 0.1, 0.5),
    "numpy.select": ([A > 0.3], [A]),
    "numpy.compress": (INDEX > 0, A, 0),
    "numpy.extract": (A > 0.3, A),
    "numpy.choose": (INDEX, [A[0], A[1]]),
    "numpy.piecewise": (A, [A > 0.3], [1.0]),
    "numpy.append": (A, A),
    "numpy.take": (A, INDEX),
    "numpy.take_along_axis": (A, INDEX[:, None], 1),
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
    "numpy.bincount": (INDEX,),
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
    "numpy.ldexp": (A, INDEX),
    "numpy.gcd": (INDEX, INDEX),
    "numpy.lcm": (INDEX, INDEX),
    "numpy.left_shift": (INDEX, INDEX),
    "numpy.right_shift": (INDEX, INDEX),
    "numpy.bitwise_left_shift": (INDEX, INDEX),
    "numpy.bitwise_right_shift": (INDEX, INDEX),
    "numpy.bitwise_and": (INDEX, INDEX),
    "numpy.bitwise_or": (INDEX, INDEX),
    "numpy.bitwise_xor": (INDEX, INDEX),
    "numpy.bitwise_not": (INDEX,),
    "numpy.invert": (INDEX,),
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
    "numpy.matvec": (A, A),
    "numpy.vecmat": (A, A),
    "numpy.cumulative_sum": (A[0],),
    "numpy.cumulative_prod": (A[0],),
    "numpy.tril_indices": (2,),
    "numpy.triu_indices": (2,),
    "numpy.diag_indices": (2,),
    "numpy.indices": ((2,),),
    "numpy.hamming": (4,),
    "numpy.hanning": (4,),
    "numpy.blackman": (4,),
    "numpy.bartlett": (4,),
    "numpy.fft.fftfreq": (4,),
    "numpy.fft.rfftfreq": (4,),
}  # fmt: skip
WITH_FILES = frozenset("load loadtxt genfromtxt fromfile save savez savez_compressed savetxt".split())
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
    pair = operation.params[:2] in (("x1", "x2"), ("a", "b")) or leaf == "outer"
    return (A, A) if pair else (A,)


def numpy_rows() -> list[str]:
    return [
        name
        for name in PYTHON
        if name.startswith("numpy.") and hasattr_path(name) and name.rpartition(".")[2] not in WITH_FILES
    ]


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
        if (operation.kind in ("array", "same") and not arrays) or (operation.kind == "number" and not plain):
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


def test_einops_keeps_the_graph() -> None:
    einops = pytest.importorskip("einops", reason="einops is not installed")
    x = torch.rand(2, 3, requires_grad=True)
    results = {
        "rearrange": einops.rearrange(x, "a b -> b a"),
        "repeat": einops.repeat(x, "a b -> a b c", c=2),
        "reduce": einops.reduce(x, "a b -> a", "sum"),
        "einsum": einops.einsum(x, x, "a b, c b -> a c"),
    }
    assert set(results) == {name.partition(".")[2] for name in PYTHON if name.startswith("einops.")}
    for name, result in results.items():
        assert result.requires_grad
        assert known(f"einops.{name}").other is Edge.LIVE


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
