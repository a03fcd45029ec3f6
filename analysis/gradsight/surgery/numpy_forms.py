"""The numpy calls that a rename would get wrong, each written by hand: defaults, order, what comes back.

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
    as_float,
    as_tensor,
    form,
    of_list,
    primary,
    primary_tensor,
    regular,
    result,
    subject_of,
    to_anchor_dtype,
)

__all__ = ["FORMS"]


def _axis(call: NumpyCall, position: int = 1) -> str | None:
    """The text of `axis`, None where it is not given or None."""
    found = call.get("axis", position)
    return None if found is None or found.text == "None" else found.text


def _keepdim(call: NumpyCall, position: int = 99) -> str:
    found = call.get("keepdims", position)
    return f", keepdim={found.text}" if found is not None and found.text != "False" else ""


def _tail(call: NumpyCall, position: int = 1) -> str:
    axis = _axis(call, position)
    return (f", dim={axis}" if axis is not None else "") + _keepdim(call)


@form("std", "var")
def _spread(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", "ddof", "keepdims", count=2)
    if call.index("ddof", 99) is None:
        call.added.append("correction=0")
    return regular(call)


@form("max", "min", "amax", "amin")
def _extreme(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", "keepdims", count=2)
    short = call.name[-3:]
    if _axis(call) is None and not _keepdim(call):
        axis = call.index("axis", 1)
        if axis is not None:
            call.changed[axis] = None
        subject = call.need("a", 0)
        if call.receiver is None and subject.value.kind == "list":
            call.changed[0] = of_list(call, subject)
        text = call.written(f".{short}" if call.receiver is not None else f"{call.torch}.{short}")
        return text, result(call, ndim=0)
    call.keyed("axis", 1, "dim")
    call.keyed("keepdims", 99, "keepdim")
    if call.receiver is None and call.arguments[0].value.kind == "list":
        call.changed[0] = of_list(call, call.arguments[0])
    text = call.written(f".a{short}" if call.receiver is not None else f"{call.torch}.a{short}")
    return text, result(call)


@form("sum", "mean")
def _total(call: NumpyCall) -> tuple[str, Value]:
    mask = call.get("where", 99)
    if mask is None:
        return regular(call)
    call.only("axis", "where", "keepdims", count=2)
    subject, tail = subject_of(call), _tail(call)
    kept = f"{call.torch}.where({as_tensor(call, mask)}, {subject}, 0.0)"
    if call.name == "sum":
        return f"{call.torch}.sum({kept}{tail})", result(call)
    count = f"{primary(mask)}.sum({tail.removeprefix(', ')})"
    return f"({call.torch}.sum({kept}{tail}) / {count})", result(call)


@form("prod")
def _product(call: NumpyCall) -> tuple[str, Value]:
    axis = call.literal("axis", 1)
    if not isinstance(axis, tuple):
        return regular(call)
    call.only("axis", count=2)
    subject = call.need("a", 0)
    chain = "".join(f".prod(dim={dim})" for dim in sorted((d for d in axis), reverse=True))
    if any(dim < 0 for dim in axis) and any(dim >= 0 for dim in axis):
        raise NoEqual("`np.prod` over axes counted from both ends")
    if axis[0] < 0:
        chain = "".join(f".prod(dim={dim})" for dim in sorted(axis))
    return primary(subject) + chain, result(call)


@form("ptp")
def _range(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", "keepdims", count=2)
    subject, tail = subject_of(call), _tail(call)
    return f"({call.torch}.amax({subject}{tail}) - {call.torch}.amin({subject}{tail}))", result(call)


@form("median", "nanmedian")
def _median(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", "keepdims", count=2)
    nan = "nan" if call.name.startswith("nan") else ""
    subject = as_float(call, call.need("a", 0))
    if call.need("a", 0).value.kind == "list":
        subject = subject_of(call)
    known: dict[str, Any] = {} if _tail(call) else {"ndim": 0}
    return f"{call.torch}.{nan}quantile({subject}, 0.5{_tail(call)})", result(call, **known)


@form("percentile", "nanpercentile", "quantile", "nanquantile")
def _quantile(call: NumpyCall) -> tuple[str, Value]:
    call.only("q", "axis", "keepdims", "method", count=3)
    nan = "nan" if call.name.startswith("nan") else ""
    share, q = call.literal("q", 1), call.need("q", 1)
    hundred = call.name.endswith("percentile")
    if isinstance(share, (list, tuple)):
        shares = [part / 100 if hundred else part for part in share]
        text = (
            f"{call.torch}.tensor({shares}, dtype={call.anchor}.dtype{_device(call)})" if call.anchor else ""
        )
        if not text:
            raise NoEqual(f"`np.{call.name}` of several shares")
    elif isinstance(share, (int, float)):
        text = repr(share / 100) if hundred else q.text
    else:
        text = f"{primary(q)} / 100" if hundred else q.text
    method = call.get("method", 99)
    tail = _tail(call, 2) + (f", interpolation={method.text}" if method is not None else "")
    subject = as_float(call, call.need("a", 0))
    known: dict[str, Any] = {} if tail else {"ndim": 0}
    return f"{call.torch}.{nan}quantile({subject}, {text}{tail})", result(call, **known)


def _device(call: NumpyCall) -> str:
    return f", device={call.device}" if call.device else ""


@form("nanmax", "nanmin", "nanargmax", "nanargmin")
def _extreme_of_known(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", "keepdims", count=2)
    sign = "-" if call.name.endswith("max") else ""
    infinity = 'float("inf")'
    filled = f"nan={sign}{infinity}, posinf={infinity}, neginf=-{infinity}"
    function = call.name.removeprefix("nan")
    function = function if function.startswith("arg") else f"a{function}"
    text = f"{call.torch}.{function}({call.torch}.nan_to_num({subject_of(call)}, {filled}){_tail(call)})"
    return text, result(call, "-" if "arg" in function else "+")


@form("nanstd", "nanvar")
def _spread_of_known(call: NumpyCall) -> tuple[str, Value]:
    call.only("ddof", count=1)
    subject = call.need("a", 0)
    ddof = call.get("ddof", 99)
    correction = "0" if ddof is None else ddof.text
    function = call.name.removeprefix("nan")
    known = f"{primary(subject)}[~{call.torch}.isnan({subject.text})]"
    return f"{call.torch}.{function}({known}, correction={correction})", result(call, ndim=0)


@form("average")
def _average(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", "weights", "keepdims", count=2)
    weights = call.get("weights", 99)
    if weights is None or weights.text == "None":
        call.drop("weights", 99)
        return regular(call)
    subject, axis = call.need("a", 0), _axis(call)
    if _keepdim(call):
        raise NoEqual("`keepdims=` of `np.average`")
    factor = as_tensor(call, weights)
    if not weights.primary and weights.value.is_tensor:
        factor = f"({factor})"
    product = f"({primary(subject)} * {factor})"
    if axis is None:
        return f"({product}.sum() / {factor}.sum())", result(call, ndim=0)
    if axis.lstrip("-") in {"1", "-1"} or weights.value.ndim == 1:
        if weights.value.ndim not in {None, 1} or axis == "0":
            raise NoEqual("`weights=` of `np.average`")
        return f"({product}.sum(dim={axis}) / {factor}.sum())", result(call)
    raise NoEqual("`weights=` of `np.average` along this axis")


@form("maximum", "minimum")
def _bound(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=2)
    first, second = call.need("x1", 0), call.need("x2", 1)
    side = "min" if call.name == "maximum" else "max"
    for subject, bound in ((first, second), (second, first)):
        if bound.value.kind == "number" and subject.value.is_tensor:
            if subject.value.dtype in {"int", "bool"}:
                break
            return f"{call.torch}.clamp({subject.text}, {side}={bound.text})", result(call)
    return regular(call)


@form("clip")
def _clip(call: NumpyCall) -> tuple[str, Value]:
    call.only("a_min", "a_max", "min", "max", count=3)
    low = call.get("a_min", 1) or call.get("min", 99)
    high = call.get("a_max", 2) or call.get("max", 99)
    bounds = {"min": low, "max": high}
    bounds = {name: bound for name, bound in bounds.items() if bound is not None and bound.text != "None"}
    if not bounds:
        raise NoEqual("`np.clip` without bounds")
    texts = {name: bound.text for name, bound in bounds.items() if bound is not None}
    if any(bound is not None and bound.value.kind != "number" for bound in bounds.values()):
        for name, bound in bounds.items():
            assert bound is not None
            if bound.value.kind == "number":
                subject = call.need("a", 0).text
                texts[name] = f"{call.torch}.full_like({subject}, {bound.text})"
            else:
                texts[name] = as_tensor(call, bound)
    plain = len(texts) == 2 and not any(a.keyword for a in call.arguments)
    if plain and all(text == bounds[name].text for name, text in texts.items()):  # type: ignore[union-attr]
        return call.written(".clamp" if call.receiver is not None else f"{call.torch}.clamp"), result(call)
    given = ", ".join(text if plain else f"{name}={text}" for name, text in texts.items())
    if call.receiver is not None:
        return f"{primary(call.receiver)}.clamp({given})", result(call)
    return f"{call.torch}.clamp({subject_of(call)}, {given})", result(call)


@form("where")
def _where(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=3)
    condition = call.need("condition", 0)
    call.changed[0] = as_tensor(call, condition)
    if len(call.arguments) == 1:
        value = Value("tensor", dead_at="`np.where` of a condition alone", dtype="int")
        return call.written(f"{call.torch}.where"), Value("list", element=value)
    chosen = call.arguments[1:]
    for i, argument in enumerate(chosen, 1):
        if argument.value.kind in {"array", "other"}:
            call.changed[i] = as_tensor(call, argument)
    live = any(argument.value.live for argument in chosen)
    dead_at = next((a.value.dead_at for a in chosen if a.value.dead_at), condition.value.dead_at)
    text = call.written(f"{call.torch}.where")
    if all(argument.value.kind == "number" for argument in chosen):
        text += f".{to_anchor_dtype(call)}"
    return text, Value("tensor", live=live, dead_at="" if live else dead_at)


@form("select")
def _select(call: NumpyCall) -> tuple[str, Value]:
    call.only("default", count=3)
    conditions, choices = call.need("condlist", 0).value, call.need("choicelist", 1).value
    default = call.get("default", 2)
    if conditions.elements is None or choices.elements is None:
        raise NoEqual("`np.select` of lists that are not written out")
    text = default.text if default is not None else "0.0"
    pairs = list(zip(conditions.elements, choices.elements, strict=False))
    for condition, choice in reversed(pairs):
        text = f"{call.torch}.where({condition.text}, {choice.text}, {text})"
    return text, _live_of([choice for _, choice in pairs] + ([default.value] if default else []))


def _live_of(values: list[Value]) -> Value:
    live = any(value.live for value in values)
    return Value(
        "tensor", live=live, dead_at="" if live else next((v.dead_at for v in values if v.dead_at), "")
    )


@form("choose")
def _choose(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=2)
    index, choices = call.need("a", 0), call.need("choices", 1).value.elements
    if choices is None or len(choices) < 2:
        raise NoEqual("`np.choose` of choices that are not written out")
    text = choices[-1].text
    for i in range(len(choices) - 2, -1, -1):
        text = f"{call.torch}.where({primary(index)} == {i}, {choices[i].text}, {text})"
    return text, _live_of(list(choices))


@form("sort", "argsort")
def _sorted(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", "kind", "stable", count=2)
    axis = call.get("axis", 1)
    if axis is not None and axis.text == "None":
        raise NoEqual(f"`axis=None` of `np.{call.name}`")
    at = call.index("kind", 2)
    if at is not None:
        call.changed[at] = "True"
        call.keywords[at] = "stable"
    call.keyed("axis", 1, "dim")
    method = call.receiver is not None
    if call.name == "argsort":
        return call.written(".argsort" if method else f"{call.torch}.argsort"), result(call, "-", dtype="int")
    if method:
        raise NoEqual("`.sort()` in place")
    return call.written(f"{call.torch}.sort") + ".values", result(call)


@form("cumsum", "cumprod")
def _running(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", count=2)
    if _axis(call) is not None:
        call.keyed("axis", 1, "dim")
        return call.written(f".{call.name}" if call.receiver else f"{call.torch}.{call.name}"), result(call)
    subject = primary(call.need("a", 0))
    return f"{call.torch}.{call.name}({subject}.reshape(-1), dim=0)", result(call, ndim=1)


@form("maximum.accumulate", "minimum.accumulate")
def _running_extreme(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", count=2)
    function = "cummax" if call.name.startswith("max") else "cummin"
    return f"{call.torch}.{function}({subject_of(call)}, dim={_axis(call) or 0}).values", result(call)


@form("add.reduce", "maximum.reduce", "minimum.reduce", "logaddexp.reduce", "multiply.reduce")
def _reduced(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", count=2)
    functions = {
        "add": "sum",
        "maximum": "amax",
        "minimum": "amin",
        "logaddexp": "logsumexp",
        "multiply": "prod",
    }
    if not call.keyed("axis", 1, "dim"):
        call.added.append("dim=0")
    return call.written(f"{call.torch}.{functions[call.name.partition('.')[0]]}"), result(call)


@form("gradient")
def _slope(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", count=1)
    axis = call.literal("axis", 99)
    if isinstance(axis, int):
        return f"{call.torch}.gradient({subject_of(call)}, dim={axis})[0]", result(call)
    if axis is MISSING and call.need("a", 0).value.ndim == 1:
        return call.written(f"{call.torch}.gradient") + "[0]", result(call, ndim=1)
    raise NoEqual("`np.gradient` of an array of unknown dimensions")


@form("dot")
def _dot(call: NumpyCall) -> tuple[str, Value]:
    # matmul is dot for operands of one and two dimensions, which is all that `np.dot` is used for in losses
    call.only(count=2)
    first, second = call.need("a", 0), call.need("b", 1)
    for one, other in ((first, second), (second, first)):
        if other.value.kind == "number":
            return f"({one.text if one.primary else primary(one)} * {primary(other)})", result(call)
    if max(first.value.ndim or 0, second.value.ndim or 0) > 2:
        dims = "dims=([-1], [-2])"
        return f"{call.torch}.tensordot({as_tensor(call, first)}, {as_tensor(call, second)}, {dims})", result(
            call
        )
    for i, argument in enumerate(call.arguments):
        call.changed[i] = as_tensor(call, argument)
    method = call.receiver is not None and call.receiver.value.is_tensor
    return call.written(".matmul" if method else f"{call.torch}.matmul"), result(call)


@form("outer", "vdot")
def _flat_product(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=2)
    parts = [
        argument.text if argument.value.ndim == 1 else f"{primary_tensor(call, argument)}.reshape(-1)"
        for argument in (call.need("a", 0), call.need("b", 1))
    ]
    ndim = 2 if call.name == "outer" else 0
    return f"{call.torch}.{call.name}({', '.join(parts)})", result(call, ndim=ndim)


@form("trace")
def _trace(call: NumpyCall) -> tuple[str, Value]:
    call.only("offset", count=2)
    if call.index("offset", 1) is None:
        return regular(call)
    call.keyed("offset", 1, "offset")
    return call.written(f"{call.torch}.diagonal") + ".sum()", result(call, ndim=0)


@form("diagonal")
def _diagonal(call: NumpyCall) -> tuple[str, Value]:
    call.only("offset", "axis1", "axis2", count=2)
    call.keyed("axis1", 99, "dim1")
    call.keyed("axis2", 99, "dim2")
    return call.written(".diagonal" if call.receiver else f"{call.torch}.diagonal"), result(call)


@form("linalg.svd")
def _svd(call: NumpyCall) -> tuple[str, Value]:
    call.only("compute_uv", "full_matrices", count=1)
    if call.literal("compute_uv", 99) is False:
        return f"{call.torch}.linalg.svdvals({subject_of(call)})", result(call)
    if call.literal("compute_uv", 99) is not MISSING:
        raise NoEqual("`compute_uv=` of `np.linalg.svd`")
    return call.written(f"{call.torch}.linalg.svd"), Value("list", element=result(call))


@form("linalg.eigh", "linalg.slogdet", "linalg.qr")
def _several(call: NumpyCall) -> tuple[str, Value]:
    text, value = regular(call)
    return text, Value("list", element=value)


@form("linalg.lstsq")
def _least_squares(call: NumpyCall) -> tuple[str, Value]:
    raise NoEqual("`np.linalg.lstsq`")


@form("convolve", "correlate")
def _convolved(call: NumpyCall) -> tuple[str, Value]:
    call.only("mode", count=3)
    signal, kernel = call.need("a", 0), call.need("v", 1)
    mode = call.literal("mode", 2)
    if mode is MISSING:
        mode = "full" if call.name == "convolve" else "valid"
    if (
        not kernel.text.isidentifier()
        or mode not in {"full", "same", "valid"}
        or not signal.text.isidentifier()
    ):
        raise NoEqual(f"`np.{call.name}` of these")
    k = kernel.text
    turned = f"{k}.flip(0)" if call.name == "convolve" else k
    padding = "" if mode == "valid" else f", padding={k}.numel() - 1"
    text = (
        f"{call.torch}.nn.functional.conv1d({signal.text}[None, None], {turned}[None, None]{padding})[0, 0]"
    )
    if mode == "same":
        text += f"[({k}.numel() - 1) // 2 :][: {signal.text}.numel()]"
    return text, result(call, ndim=1)


@form("digitize")
def _digitize(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=2)
    call.added.append("right=True")
    for i, argument in enumerate(call.arguments):
        call.changed[i] = as_tensor(call, argument)
    return call.written(f"{call.torch}.bucketize"), result(call, "-", dtype="int")


@form("searchsorted")
def _searchsorted(call: NumpyCall) -> tuple[str, Value]:
    call.only("side", count=2)
    if call.receiver is None:
        call.changed[0] = as_tensor(call, call.arguments[0])
    return call.written(f"{call.torch}.searchsorted"), result(call, "-", dtype="int")


@form("isin")
def _isin(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=2)
    values = call.need("test_elements", 1)
    made = (
        f"{call.torch}.tensor({values.text})"
        if values.value.kind in {"list", "number"}
        else as_tensor(call, values)
    )
    return f"{call.torch}.isin({subject_of(call)}, {made})", result(call, "-")


@form("gcd", "lcm")
def _common(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=2)
    for i, argument in enumerate(call.arguments):
        call.changed[i] = as_tensor(call, argument)
    return call.written(f"{call.torch}.{call.name}"), result(call, "-", dtype="int")


@form("cbrt")
def _cbrt(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=1)
    subject = subject_of(call)
    return f"({call.torch}.sign({subject}) * {call.torch}.abs({subject}).pow(1 / 3))", result(call)


@form("divmod")
def _divmod(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=2)
    both = f"{call.need('x1', 0).text}, {call.need('x2', 1).text}"
    floor = f'{call.torch}.div({both}, rounding_mode="floor")'
    return f"({floor}, {call.torch}.remainder({both}))", Value("list", element=result(call))


@form("floor_divide")
def _floor_divide(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=2)
    call.added.append('rounding_mode="floor"')
    return call.written(f"{call.torch}.div"), result(call, "0")


@form("around", "round")
def _round(call: NumpyCall) -> tuple[str, Value]:
    call.only("decimals", count=2)
    call.keyed("decimals", 1, "decimals")
    return call.written(".round" if call.receiver is not None else f"{call.torch}.round"), result(call, "0")


@form("polyval")
def _polyval(call: NumpyCall) -> tuple[str, Value]:
    call.only(count=2)
    coefficients, x = call.literal("p", 0), call.need("x", 1)
    if not isinstance(coefficients, (list, tuple)) or not coefficients:
        raise NoEqual("`np.polyval` of coefficients that are not written out")
    name = primary(x)
    text = repr(coefficients[0])
    if len(coefficients) == 1:
        raise NoEqual("`np.polyval` of one coefficient")
    for coefficient in coefficients[1:]:
        text = f"({text} * {name} + {coefficient!r})"
    return text, result(call)


@form("vander")
def _vander(call: NumpyCall) -> tuple[str, Value]:
    call.only("N", count=2)
    count, x = call.literal("N", 1), call.need("x", 0)
    if not isinstance(count, int) or not 1 <= count <= 8:
        raise NoEqual("`np.vander` of this many columns")
    name = primary(x)
    powers = [f"{name}**{n}" if n > 1 else name for n in range(count - 1, 0, -1)]
    columns = ", ".join([*powers, f"{call.torch}.ones_like({x.text})"])
    return f"{call.torch}.stack([{columns}], dim=1)", result(call, ndim=2)


@form("scipy.special.softmax", "scipy.special.log_softmax")
def _softmax(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", count=2)
    if _axis(call) is not None:
        return regular(call)
    name, subject = call.name.rpartition(".")[2], primary(call.need("x", 0))
    return f"{call.torch}.{name}({subject}.reshape(-1), dim=0).reshape({subject}.shape)", result(call)


@form("scipy.special.logsumexp")
def _logsumexp(call: NumpyCall) -> tuple[str, Value]:
    call.only("axis", "keepdims", count=2)
    if _axis(call) is not None:
        call.keyed("axis", 1, "dim")
        call.keyed("keepdims", 99, "keepdim")
        return call.written(f"{call.torch}.logsumexp"), result(call)
    if _keepdim(call):
        raise NoEqual("`keepdims=` of `scipy.special.logsumexp`")
    return f"{call.torch}.logsumexp({primary(call.need('a', 0))}.reshape(-1), dim=0)", result(call, ndim=0)
