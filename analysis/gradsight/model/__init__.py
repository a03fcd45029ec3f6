"""What library code does to a gradient, as data: operations, modules, criteria, optimizers.

Nothing here runs or imports torch; what a row says was measured by running torch and is checked against the
installed one by the tests. The names are canonical dotted names (`torch.nn.functional.relu`, not `F.relu`).

Where a fact comes from:

- `operations.py` is generated from what torch does: parameter names, the edge of each argument that can
require
  gradient, what backward saves, dtype, and shape where it is that of the arguments. A fact that hangs on the
  values that were tried (the gradient of `relu` at negative numbers is zero) is no fact and is not written
  down.
- `judgements.py` is written by hand: roles, causes, and everything that needs a decision: that a mask is no
lost
  way, that `argmax` is a cut of its own kind. It is laid over the generated rows and wins.
- `python.py` (numpy, math, built-ins, operator), `modules.py`, `criteria.py` and `optimizers.py` are written
by
  hand over `catalogue.py`, which is generated: the signatures of numpy and of the modules of torch.nn.
- `around.py` has the libraries around torch, by hand; `zoos.py` the models that libraries make.

Rows are strings, `params | field value | field value`, and are decoded when somebody asks: the whole table is
one constant, and reading it costs a fraction of a millisecond.
"""

from __future__ import annotations

from functools import cache

from gradsight.model.around import (
    AROUND,
    ENGINE,
    LAUNCHER_RETURNS,
    STAR_NAMES,
    TRAINERS,
    WRAPPED,
    WRAPPERS,
    TrainerStub,
)
from gradsight.model.criteria import CriterionStub, criterion
from gradsight.model.judgements import ATTRIBUTES, INTEGER_DTYPES, JUDGED, JUDGED_BY_LEAF, SHARED_WITH_NUMPY
from gradsight.model.modules import ModuleStub, module
from gradsight.model.operation import Operation, decode
from gradsight.model.operations import OPERATIONS
from gradsight.model.optimizers import SCALERS, SCHEDULERS, OptimizerStub, optimizer
from gradsight.model.python import PYTHON
from gradsight.model.zoos import GETTERS, HEADS, SOME_MODEL, LibraryModel, library_model
from gradsight.model.zoos import PLAIN as PLAIN_ATTRIBUTES
from gradsight.model.zoos import by_name as mode_by_name

__all__ = [
    "ENGINE",
    "GETTERS",
    "HEADS",
    "LAUNCHER_RETURNS",
    "PLAIN_ATTRIBUTES",
    "SCALERS",
    "SCHEDULERS",
    "SOME_MODEL",
    "TRAINERS",
    "WRAPPED",
    "WRAPPERS",
    "CriterionStub",
    "LibraryModel",
    "ModuleStub",
    "Operation",
    "OptimizerStub",
    "TrainerStub",
    "attribute",
    "criterion",
    "is_integer_dtype",
    "library_model",
    "mode_by_name",
    "module",
    "operation",
    "optimizer",
    "starred",
]


def operation(name: str) -> Operation | None:
    """The operation of a canonical dotted name; None where nothing is known about it.

    Methods are asked for as `torch.Tensor.NAME`, built-in functions as `builtins.NAME`.
    """
    return _operation(name)


def attribute(name: str) -> Operation | None:
    """What reading an attribute gives: `torch.Tensor.data`, `torch.Tensor.T`; None for methods and unknown
    names."""
    return _attribute(name)


def is_integer_dtype(dotted: str) -> bool:
    """Whether this dtype, or this typed tensor class, holds integers or booleans (autograd ends there).

    >>> is_integer_dtype("torch.long"), is_integer_dtype("torch.float16"),
    is_integer_dtype("torch.LongTensor") (True, False, True)
    """
    return dotted.removeprefix("torch.cuda.").rpartition(".")[2] in INTEGER_DTYPES


def starred(package: str, name: str) -> str | None:
    """What `from PACKAGE import *` binds a name to, as a dotted name; None where that is not known.

    >>> starred("torch.nn", "Linear"), starred("torch.nn", "Lineal")
    ('torch.nn.Linear', None)
    """
    known = STAR_NAMES.get(package.partition(".")[0])
    if known is not None and name in known:
        return known[name]
    if name.startswith("_"):
        return None
    dotted = f"{package}.{name}"
    is_known = any(ask(dotted) is not None for ask in (operation, module, optimizer))
    return dotted if is_known else None


@cache
def _operation(name: str) -> Operation | None:
    if (row := PYTHON.get(name) or AROUND.get(name)) is not None:
        return decode(name, row)
    prefix, _, leaf = name.rpartition(".")
    if not prefix.startswith("torch"):
        return None
    rows = []
    if (generated := OPERATIONS.get(name)) is not None:
        rows.append(generated)
        stem = leaf[:-1] if leaf.endswith("_") and leaf not in JUDGED_BY_LEAF else leaf
        if (judged := JUDGED_BY_LEAF.get(stem)) is not None:
            rows.append(judged)
    if (judged := JUDGED.get(name)) is not None:
        rows.append(judged)
    if prefix == "torch.Tensor" and leaf in SHARED_WITH_NUMPY:
        rows.append("| kind same")
    if not rows and prefix == "torch.Tensor" and leaf.startswith("__") and leaf in JUDGED_BY_LEAF:
        rows.append("self" + JUDGED_BY_LEAF[leaf])
    return decode(name, *rows) if rows else None


@cache
def _attribute(name: str) -> Operation | None:
    row = ATTRIBUTES.get(name.removeprefix("torch.Tensor.")) if name.startswith("torch.Tensor.") else None
    return None if row is None else decode(name, row)
