"""Dtypes by their own names: what an argument asks for, and what operands are promoted to.

Only what is sure has a name here; "" stands for everything else. The default floating dtype is taken to be
float32: a program that changes it leaves a `cast` event, and whoever relies on float32 asks for those.
"""

from __future__ import annotations

from gradsight.values import Array, Const, Lib, Number, Tensor, Value

# torch's names, numpy's names and the typed constructors, by their last part.
_NAMES = {
    **{one: one for one in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8")},
    "uint8": "uint8",
    "bool": "bool",
    "bool_": "bool",
    "long": "int64",
    "short": "int16",
    "half": "float16",
    "double": "float64",
    "single": "float32",
    "intc": "int32",
    "float_": "float64",
    "longlong": "int64",
    "FloatTensor": "float32",
    "DoubleTensor": "float64",
    "HalfTensor": "float16",
    "LongTensor": "int64",
    "IntTensor": "int32",
    "ByteTensor": "uint8",
    "BoolTensor": "bool",
    "ShortTensor": "int16",
    "byte": "uint8",
    "char": "int8",
    "CharTensor": "int8",
    "Tensor": "float32",
}
# What means one thing to torch and another to numpy and Python.
_TORCH = {"float": "float32", "int": "int32"}
_PLAIN = {"float": "float64", "int": "int64", "int_": "int64"}

_ORDER = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def exact_dtype(value: Value | None) -> str:
    """The dtype that an argument names: `torch.float64`, `np.float32`, `float`, `"int32"`; else ""."""
    if isinstance(value, Const) and isinstance(value.value, str):
        last = value.value.rpartition(".")[2]
        return _NAMES.get(last, _PLAIN.get(last, ""))
    if not isinstance(value, Lib):
        return ""
    top, _, last = value.name.rpartition(".")
    if top.startswith("torch"):
        return _NAMES.get(last, _TORCH.get(last, ""))
    return _NAMES.get(last, _PLAIN.get(last, "")) if top in ("numpy", "builtins") else ""


def method_dtype(name: str) -> str:
    """The dtype that a tensor's cast gives by its own name: `x.double()`; else ""."""
    return _TORCH.get(name, _NAMES.get(name, ""))


def kind_of(exact: str) -> str:
    """ "float" | "int" | "bool" | "": the coarse dtype of a name."""
    if exact.startswith(("float", "bfloat")):
        return "float"
    return "bool" if exact == "bool" else "int" if exact else ""


def exact_of(value: Value | None) -> str:
    """The exact dtype of a tensor or an array."""
    return value.exact if isinstance(value, (Tensor, Array)) else ""


def literal(value: object, *, numpy: bool = False) -> str:
    """The dtype of an array that is made of Python numbers like this one."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64"
    return ("float64" if numpy else "float32") if isinstance(value, float) else ""


def literal_of(value: Value | None) -> str:
    """The dtype of an array that numpy makes of a number."""
    if isinstance(value, Number):
        return {"int": "int64", "many": "int64", "float": "float64", "bool": "bool"}.get(value.kind, "")
    return literal(value.value, numpy=True) if isinstance(value, Const) else ""


def promoted(left: Value, right: Value, op: str) -> str:
    """What an operator gives between tensors, or arrays, and Python numbers.

    Tensors of no dimension weigh less than others in torch; two different dtypes are therefore only promoted
    where both shapes are known to have dimensions.
    """
    sides = (left, right)
    if not all(isinstance(one, (Tensor, Array, Const)) for one in sides):
        if any(isinstance(one, Number) for one in sides):
            known = exact_of(left) or exact_of(right)
            # A number may be a scalar of numpy, which weighs as much as an array.
            arrays = any(isinstance(one, Array) for one in sides)
            return known if known == "float64" or (known == "float32" and not arrays) else ""
        return ""
    kinds = [exact_of(one) for one in sides if isinstance(one, (Tensor, Array))]
    if "" in kinds or not kinds:
        return ""
    arrays = all(isinstance(one, Array) for one in sides if not isinstance(one, Const))
    if len(kinds) == 1:
        number = next((one.value for one in sides if isinstance(one, Const)), None)
        known = kinds[0]
        if kind_of(known) == "int" and (isinstance(number, float) or op == "div"):
            return "float64" if arrays else "float32"
        if kind_of(known) == "bool":
            return ""
        return known if isinstance(number, (int, float)) else ""
    if kinds[0] == kinds[1]:
        if kind_of(kinds[0]) != "float" and op == "div":
            return "float64" if arrays else "float32"
        return kinds[0] if kind_of(kinds[0]) != "bool" else ""
    if not all(isinstance(one, (Tensor, Array)) and one.shape for one in sides):
        return ""
    if all(one in _ORDER for one in kinds) and any(kind_of(one) == "float" for one in kinds):
        if arrays:
            return "float64" if "float64" in kinds else ""
        floats = [one for one in kinds if kind_of(one) == "float"]
        return max(floats, key=_ORDER.index)
    return ""
