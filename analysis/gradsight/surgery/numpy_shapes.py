"""numpy calls that change shape, order or dtype, where a rename would get them wrong.

Importing this module fills `numpy_calls.FORMS`.
"""

from __future__ import annotations

from typing import Any

from gradsight.surgery.array_value import Value
from gradsight.surgery.numpy_calls import (
    FORMS,
    MISSING,
    NoEqual,
    NumpyCall,
    as_tensor,
    form,
    primary,
    primary_tensor,
    regular,
    result,
    subject_of,
)

__all__ = ["FORMS"]


@form("concatenate", "concat", "append")
def _joined(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", count=3 if call.name == "append" else 2)
    axis_at = 2 if call.name == "append" else 1
    axis = call.get("axis", axis_at)
    if call.name == "append":
        parts = [call.need("arr", 0), call.need("values", 1)]
        if axis is None or axis.text == "None":
            flat = ", ".join(f"{primary_tensor(call, part)}.reshape(-1)" for part in parts)
            return f"{call.torch}.cat([{flat}])", result(call, ndim=1)
        both = ", ".join(as_tensor(call, part) for part in parts)
        return f"{call.torch}.cat([{both}], dim={axis.text})", result(call)
    arrays = call.need("arrays", 0)
    if axis is not None and axis.text == "None":
        if arrays.value.elements is None:
            raise NoEqual("`axis=None` of `np.concatenate`")
        flat = ", ".join(f"({element.text}).reshape(-1)" if not element.text.isidentifier() else
                         f"{element.text}.reshape(-1)" for element in arrays.value.elements)  # fmt: skip
        return f"{call.torch}.cat([{flat}])", result(call, ndim=1)
    call.keyed("axis", 1, "dim")
    return call.written(f"{call.torch}.cat"), result(call)


@form("split", "array_split")
def _split(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", count=3)
    call.keyed("axis", 2, "dim")
    return call.written(f"{call.torch}.tensor_split"), Value("list", element=result(call))


@form("hsplit", "vsplit", "dsplit")
def _split_along(call: NumpyCall) -> tuple[str, Value]:
    text, value = regular(call)
    return text, Value("list", element=value)


@form("reshape")
def _reshape(call: NumpyCall) -> tuple[str, Value]:
    call.only("shape", "newshape", count=9 if call.receiver is not None else 2)
    if call.receiver is not None:
        shapes = call.arguments
        ndim = len(shapes) if len(shapes) > 1 else _shape_length(call.literal("shape", 1))
        return call.written(".reshape"), result(call, ndim=ndim)
    shape = call.get("shape", 1) or call.need("newshape", 99)
    subject = call.need("a", 0)
    ndim = _shape_length(call.literal("shape", 1))
    if isinstance(call.literal("shape", 1), tuple):
        for i in range(len(call.arguments)):
            call.keywords[i] = ""
        return call.written(f"{call.torch}.reshape"), result(call, ndim=ndim)
    return f"{primary_tensor(call, subject)}.reshape({shape.text})", result(call, ndim=ndim)


def _shape_length(shape: Any) -> int | None:
    if isinstance(shape, int):
        return 1
    return len(shape) if isinstance(shape, (tuple, list)) else None


@form("ravel", "flatten")
def _flat(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=1)
    if call.receiver is not None:
        return call.written(f".{call.name}"), result(call, ndim=1)
    return call.written(f"{call.torch}.{call.name}"), result(call, ndim=1)


@form("transpose")
def _transpose(call: NumpyCall) -> tuple[str, Value]:
    call.only("axes", count=9 if call.receiver is not None else 2)
    subject = call.need("a", 0)
    if len(call.arguments) - (call.receiver is None) == 0:
        if subject.value.ndim is not None and subject.value.ndim > 2:
            text = primary(subject)
            return f"{text}.permute(*range({text}.ndim - 1, -1, -1))", result(call, ndim=subject.value.ndim)
        return f"{primary_tensor(call, subject)}.T", result(call, ndim=subject.value.ndim)
    if call.receiver is not None:
        count = len(call.arguments)
        ndim = count if count > 1 else _shape_length(call.literal("axes", 1))
        call.keyed("axes", 1, "dims" if call.arguments[0].keyword else "")
        return call.written(".permute"), result(call, ndim=ndim)
    call.keyed("axes", 1, "dims" if call.arguments[-1].keyword else "")
    return call.written(f"{call.torch}.permute"), result(call, ndim=_shape_length(call.literal("axes", 1)))


@form("tile")
def _tile(call: NumpyCall) -> tuple[str, Value]:
    call.only("reps", count=2)
    reps = call.need("reps", 1)
    if isinstance(call.literal("reps", 1), (tuple, list)):
        text = reps.text
    elif reps.value.kind == "number" and not reps.text.startswith(("(", "[")):
        text = f"({reps.text},)"
    else:
        raise NoEqual("`np.tile` with these `reps`")
    return f"{call.torch}.tile({subject_of(call)}, {text})", result(call)


@form("repeat")
def _repeat(call: NumpyCall) -> tuple[str, Value]:
    call.only("repeats", "axis", count=3)
    repeats = call.need("repeats", 1)
    if repeats.value.kind != "number":
        at = call.index("repeats", 1)
        assert at is not None
        call.changed[at] = as_tensor(call, repeats)
    axis = call.index("axis", 2)
    if axis is not None and call.arguments[axis].text == "None":
        call.changed[axis] = None
    call.keyed("axis", 2, "dim")
    method = call.receiver is not None
    return call.written(".repeat_interleave" if method else f"{call.torch}.repeat_interleave"), result(call)


@form("flip")
def _flip(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", count=2)
    axis, subject = call.literal("axis", 1), call.need("m", 0)
    if axis is MISSING or axis is None:
        return f"{call.torch}.flip({subject.text}, dims=tuple(range({primary(subject)}.ndim)))", result(call)
    dims = axis if isinstance(axis, tuple) else None
    text = repr(dims) if dims is not None else f"({call.need('axis', 1).text},)"
    return f"{call.torch}.flip({subject.text}, dims={text})", result(call)


@form("rot90")
def _rot90(call: NumpyCall) -> tuple[str, Value]:
    call.only("k", "axes", count=3)
    k, axes = call.get("k", 1), call.get("axes", 2)
    given = f"{k.text if k else 1}, {axes.text if axes else '(0, 1)'}"
    return f"{call.torch}.rot90({subject_of(call)}, {given})", result(call)


@form("roll")
def _roll(call: NumpyCall) -> tuple[str, Value]:
    call.only("shift", "axis", count=3)
    call.keyed("axis", 2, "dims")
    at = call.index("shift", 1)
    if at is not None and call.arguments[at].keyword:
        call.keywords[at] = "shifts"
    return call.written(f"{call.torch}.roll"), result(call)


@form("pad")
def _pad(call: NumpyCall) -> tuple[str, Value]:
    call.only("pad_width", "mode", "constant_values", count=3)
    width, mode = call.literal("pad_width", 1), call.literal("mode", 2)
    subject = call.need("a", 0)
    ndim = subject.value.ndim
    modes = {"edge": "replicate", "wrap": "circular", "reflect": "reflect"}
    if isinstance(width, int) and ndim is not None:
        width = ((width, width),) * ndim
    if (
        isinstance(width, (tuple, list))
        and width
        and all(isinstance(part, int) for part in width)
        and ndim == 1
    ):
        width = (tuple(width),)
    if not isinstance(width, (tuple, list)) or not all(
        isinstance(part, (tuple, list)) and len(part) == 2 for part in width
    ):
        raise NoEqual("`np.pad` of an array of unknown dimensions")
    flat = tuple(number for part in reversed(width) for number in part)
    name = f"{call.torch}.nn.functional.pad"
    if mode in {MISSING, "constant"}:
        value = call.get("constant_values", 99)
        if value is not None and isinstance(call.literal("constant_values", 99), (tuple, list)):
            raise NoEqual("`constant_values=` of `np.pad`")
        tail = f", value={value.text}" if value is not None else ""
        return f"{name}({subject.text}, {flat}{tail})", result(call)
    if mode not in modes or len(width) > 3:
        raise NoEqual(f"`mode={mode!r}` of `np.pad`")
    # torch pads the last dimensions of a batch in these modes
    lead = "[None, None]"
    padded = f"{name}({primary(subject)}{lead}, {flat}, mode={modes[str(mode)]!r})"
    return f"{padded}[0, 0]", result(call, ndim=len(width))


@form("take")
def _take(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", count=3)
    indices, axis = call.need("indices", 1), call.get("axis", 2)
    written = call.literal("indices", 1)
    if isinstance(written, (list, tuple)):
        where = f", device={call.device}" if call.device else ""
        text = f"{call.torch}.tensor({indices.text}{where})"
    else:
        text = as_tensor(call, indices)
    if axis is None or axis.text == "None":
        return f"{call.torch}.take({subject_of(call)}, {text})", result(call)
    if not isinstance(written, (list, tuple)) and indices.value.ndim != 1:
        raise NoEqual("`np.take` along an axis with these indices")
    return f"{call.torch}.index_select({subject_of(call)}, {axis.text}, {text})", result(call)


@form("nonzero")
def _nonzero(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=1)
    call.added.append("as_tuple=True")
    text = call.written(".nonzero" if call.receiver is not None else f"{call.torch}.nonzero")
    return text, Value("list", element=result(call, "-", dtype="int"))


@form("flatnonzero")
def _flatnonzero(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=1)
    text = f"{call.torch}.nonzero({primary(call.need('a', 0))}.reshape(-1))[:, 0]"
    return text, result(call, "-", dtype="int", ndim=1)


@form("extract")
def _extract(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=2)
    mask, subject = call.need("condition", 0), call.need("arr", 1)
    value = result(call, ndim=1)
    return f"{call.torch}.masked_select({as_tensor(call, subject)}, {as_tensor(call, mask)})", value


@form("compress")
def _compress(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", count=3)
    condition, subject, axis = call.need("condition", 0), call.need("a", 1), call.literal("axis", 2)
    if axis not in {0, 1}:
        raise NoEqual("`np.compress` along this axis")
    mask = as_tensor(call, condition)
    return f"{primary(subject)}[{':, ' * axis}{mask}]", result(call)


@form("meshgrid")
def _meshgrid(call: NumpyCall) -> tuple[str, Value]:
    call.only("indexing", count=9)
    for i, argument in enumerate(call.arguments):
        if not argument.keyword:
            call.changed[i] = as_tensor(call, argument)
    if call.index("indexing", 99) is None:
        call.added.append("indexing='xy'")
    return call.written(f"{call.torch}.meshgrid"), Value("list", element=result(call))


@form("delete")
def _delete(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", count=3)
    index, axis, subject = call.literal("obj", 1), call.literal("axis", 2), call.need("arr", 0)
    if not isinstance(index, int) or index < 0 or axis not in {0, 1}:
        raise NoEqual("`np.delete` of this")
    name, lead = primary(subject), ":, " * axis
    return f"{call.torch}.cat([{name}[{lead}:{index}], {name}[{lead}{index + 1}:]], dim={axis})", result(call)


@form("copy")
def _copy(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=1)
    subject = call.need("a", 0)
    return f"{primary_tensor(call, subject)}.clone()", result(call, fresh=True, ndim=subject.value.ndim)


@form("asarray", "ascontiguousarray", "asanyarray", "array")
def _array(call: NumpyCall) -> tuple[str, Value]:
    call.only("dtype", "copy", count=2)
    subject, dtype = call.need("a", 0), call.get("dtype", 1)
    if subject.value.kind == "list":
        text = f"{call.torch}.stack({subject.text})"
        value = result(call, fresh=True)
    elif call.name == "array":
        text = f"{primary(subject)}.clone()"
        value = result(call, fresh=True, ndim=subject.value.ndim, dtype=subject.value.dtype)
    else:
        text, value = subject.text, result(call, ndim=subject.value.ndim, dtype=subject.value.dtype)
    if dtype is not None and dtype.text != "None":
        cast, integer = cast_to(call.torch, dtype.text)
        if text == subject.text:
            text = primary(subject)
        text += cast
        if integer:
            value = Value("tensor", dead_at=f"`dtype={dtype.text}`", dtype="int")
    return text, value


@form("astype")
def _astype(call: NumpyCall) -> tuple[str, Value]:
    call.only("dtype", "copy", count=2)
    dtype = call.need("dtype", 1)
    assert call.receiver is not None
    cast, kind = cast_to(call.torch, dtype.text)
    if kind:
        dead = Value("tensor", dead_at=f"`.astype({dtype.text})`", dtype=kind, ndim=call.receiver.value.ndim)
        return primary(call.receiver) + cast, dead
    return primary(call.receiver) + cast, result(call, dtype="float", ndim=call.receiver.value.ndim)


@form("float32", "float64", "float16", "double", "single")
def _scalar_type(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=1)
    return primary(call.need("x", 0)) + cast_to(call.torch, call.name)[0], result(call)


def cast_to(torch: str, dtype: str) -> tuple[str, str]:
    """The method call that casts a tensor to a numpy dtype; the kind, if it is not a floating one."""
    name = dtype.strip("\"'").rpartition(".")[2]
    floats = {
        "float": "double",
        "float32": "float",
        "single": "float",
        "float64": "double",
        "double": "double",
    }
    floats["float16"] = floats["half"] = "half"
    if name in floats:
        return f".{floats[name]}()", ""
    if name == "dtype":
        return f".to({dtype})", ""
    integers = {"int": "long", "int64": "long", "int32": "int", "int16": "short", "uint8": "byte"}
    integers["int8"] = "char"
    if name in integers:
        return f".{integers[name]}()", "int"
    if name in {"bool", "bool_"}:
        return ".bool()", "bool"
    raise NoEqual(f"the dtype `{dtype}`")
