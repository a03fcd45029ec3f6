"""Numpy arrays that begin with numbers: their dtypes and shapes, where the call says them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradsight.interpret import shapes
from gradsight.interpret.dtypes import exact_dtype, exact_of, kind_of, literal_of
from gradsight.values import MANY, NONE, Array, Const, Number, Shape, Tensor, Value

if TYPE_CHECKING:
    from gradsight.interpret.modules import Modules

# Where `size` stands among the positional arguments; what is drawn are floats, or integers.
_DRAWN = {
    **dict.fromkeys(("normal", "uniform", "laplace", "logistic", "gumbel", "beta", "gamma", "lognormal"), 2),
    **dict.fromkeys(("exponential", "chisquare", "rayleigh", "pareto", "weibull"), 1),
    **dict.fromkeys(("random", "random_sample", "standard_normal", "standard_exponential", "sample"), 0),
}
_COUNTED = {"randint": 2, "integers": 2, "binomial": 2, "poisson": 1, "geometric": 1}


def drawn(it: Modules, last: str, args: list[Value], kwargs: dict[str, Value]) -> Array:
    """What a function of `numpy.random`, or a method of a generator, draws."""
    if last in ("rand", "randn"):
        return Array(dtype="float", shape=it.size_of(args), exact="float64")
    if last == "permutation" and args and isinstance(args[0], Const):
        return Array(dtype="int", shape=it.size_of(args[:1]), exact="int64")
    at = _DRAWN.get(last, _COUNTED.get(last))
    if at is None or "dtype" in kwargs:
        return Array()
    size = kwargs.get("size", args[at] if len(args) > at else NONE)
    exact = "float64" if last in _DRAWN else "int64"
    if size == NONE:
        spread = [it.shape_of(value) for value in args]
        return Array(
            dtype=kind_of(exact), shape=() if all(one == () for one in spread) else None, exact=exact
        )
    return Array(dtype=kind_of(exact), shape=it.size_of([size]), exact=exact)


def made(it: Modules, last: str, args: list[Value], kwargs: dict[str, Value], value: Array) -> Array:
    """What numpy makes of sizes and literals; `value` is what the model says of the call."""
    first = args[0] if args else None
    explicit = kwargs.get("dtype")
    position = {"array": 1, "asarray": 1, "zeros": 1, "ones": 1, "empty": 1, "full": 2}.get(last)
    if explicit is None and position is not None and len(args) > position:
        explicit = args[position]
    exact, shape = value.exact, value.shape
    if last in ("zeros", "ones", "empty", "full"):
        size = kwargs.get("shape", first)
        shape = it.size_of([size]) if size is not None else None
        filled = kwargs.get("fill_value", args[1] if len(args) > 1 else None)
        exact = "float64" if last != "full" else literal_of(filled)
    elif last == "eye" and len(args) == 1:
        exact, shape = "float64", it.size_of([first, first])
    elif last in ("zeros_like", "ones_like", "empty_like"):
        exact, shape = exact_of(first), it.shape_of(first)
    elif last == "linspace":
        count = kwargs.get("num", args[2] if len(args) > 2 else Const(50))
        exact = "float64" if "retstep" not in kwargs else ""
        shape = (count.value if isinstance(count, Const) and isinstance(count.value, int) else MANY,)
    elif last == "arange":
        real = any(isinstance(one, Const) and isinstance(one.value, float) for one in args)
        whole = all(isinstance(one, Const) and isinstance(one.value, int) for one in args)
        ends = it.integers(args) if whole else None
        exact = "float64" if real else "int64" if whole else ""
        shape = (len(range(*ends)) if ends and len(ends) < 4 and 0 not in ends[2:] else MANY,)
    elif last in ("stack", "row_stack", "vstack") and first is not None and len(args) == 1:
        axis = kwargs.get("axis", Const(0))
        exact, shape = listed(it, first), shape_of_list(it, first) if axis == Const(0) else None
        rows = shapes.ranked(shape)
        if last != "stack" and (rows is None or len(rows) != 2):
            shape = None
    elif last in ("array", "asarray") and first is not None and not isinstance(first, (Array, Tensor)):
        exact, shape = listed(it, first), shape_of_list(it, first)
    else:
        return value
    if explicit is not None and explicit != NONE:
        exact = exact_dtype(explicit)
    return replace(value, dtype=kind_of(exact) or value.dtype, shape=shape, exact=exact)


def listed(it: Modules, value: Value | None, depth: int = 0) -> str:
    """The dtype that numpy gives to a list."""
    if isinstance(value, Array):
        return value.exact
    if isinstance(value, (Const, Number)):
        return literal_of(value)
    items = it.items(value) if value is not None else None
    if not items or depth > 4:
        return ""
    kinds = {listed(it, item, depth + 1) for item in items}
    if kinds == {"int64", "float64"}:
        return "float64"
    return kinds.pop() if len(kinds) == 1 else ""


def shape_of_list(it: Modules, value: Value | None, depth: int = 0) -> Shape:
    if isinstance(value, (Tensor, Array)):
        return value.shape
    if isinstance(value, Number):
        return ()
    if isinstance(value, Const):
        return () if isinstance(value.value, (int, float)) else None
    obj = it.obj(value)
    items = it.items(value) if value is not None else None
    if items is None or depth > 4:
        return None
    inner = shape_of_list(it, items[0], depth + 1) if items else ()
    inner = shapes.ranked(inner)
    return None if inner is None else (MANY if obj is not None and obj.many else len(items), *inner)


def array_method(
    it: Modules, receiver: Array, name: str, args: list[Value], kwargs: dict[str, Value], value: Array
) -> Array:
    """What a method of an array gives; `value` holds its node and role."""
    exact, shape = receiver.exact, receiver.shape
    if name == "astype":
        exact = exact_dtype(args[0] if args else kwargs.get("dtype"))
    elif name == "copy":
        pass
    elif name in ("reshape", "flatten", "ravel", "squeeze", "transpose"):
        if name == "transpose":
            dims = it.integers(args)
            axes = shapes.ranked(shape)
            shape = None if axes is None else shapes.permuted(shape, dims) if dims else axes[::-1]
        else:
            shape = it.moved_dimensions(name, shape, args, kwargs)
    elif name in ("sum", "mean", "std", "var", "max", "min", "prod"):
        given = kwargs.get("axis", args[0] if args else NONE)
        dims = None if given == NONE else it.integers([given])
        keep = kwargs.get("keepdims", Const(False))
        known = given == NONE or dims is not None
        shape = shapes.reduced(shape, dims, keep == Const(True)) if known else None
        exact = exact if exact == "float64" or name in ("max", "min") else ""
    elif name in ("clip", "round"):
        exact = exact if kind_of(exact) == "float" else ""
    elif name in ("argmax", "argmin", "argsort"):
        exact, shape = "int64", None
    else:
        return replace(value, dtype="" if name != "repeat" else receiver.dtype)
    return replace(value, dtype=kind_of(exact), shape=shape, exact=exact)
