"""numpy, math, einops, built-in functions and the operators: written by hand, checked by running them.

`LIVE` between arrays and numbers means that the result depends on the argument: there is no gradient there
any more, it ended where the tensor was converted. `kind` says what comes back. `raises` says what a function
of numpy does with a tensor that requires gradient; where it is empty, the tensor comes back as a tensor and
stays in its graph (kind "same": numpy calls the method of that name).
"""

from __future__ import annotations

# ruff: noqa: SIM905 (tables of names read best as words)

# What numpy says of a tensor that requires gradient.
_REFUSED = "raises raises: RuntimeError: Can't call numpy() on Tensor that requires grad."
_MISUSED = "raises raises: TypeError"

GROUPS: list[tuple[str, str, str]] = [
    # (prefix, row, names)
    (
        "numpy.",
        f"x | kind array | cause numpy | shape same | {_REFUSED}",
        """exp exp2 expm1 log log2 log10 log1p sqrt cbrt square reciprocal negative positive absolute abs fabs
        sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh asin acos atan asinh acosh
        atanh deg2rad rad2deg degrees radians conjugate conj nan_to_num i0 sinc imag angle spacing unwrap""",
    ),
    (
        "numpy.",
        f"x | kind array | cause numpy | shape same | role keep | {_REFUSED}",
        "rint floor ceil trunc fix sign",
    ),
    (
        "numpy.",
        f"x | kind array | dtype bool | cause numpy | shape same | {_REFUSED}",
        "isnan isinf isfinite isposinf isneginf isreal iscomplex signbit logical_not",
    ),
    (
        "numpy.",
        f"x1 x2 | kind array | cause numpy | shape same | {_REFUSED}",
        """add subtract multiply divide true_divide power pow float_power maximum minimum fmax fmin arctan2
        atan2 hypot logaddexp logaddexp2 copysign mod remainder fmod floor_divide nextafter heaviside ldexp
        gcd lcm left_shift right_shift bitwise_left_shift bitwise_right_shift""",
    ),
    (
        "numpy.",
        f"x1 x2 | kind array | dtype bool | cause numpy | shape same | {_REFUSED}",
        """greater greater_equal less less_equal equal not_equal logical_and logical_or logical_xor
        isclose""",
    ),
    (
        "numpy.",
        f"x1 x2 | kind array | cause numpy | shape same | {_REFUSED}",
        "bitwise_and bitwise_or bitwise_xor",
    ),
    ("numpy.", f"x | kind array | cause numpy | shape same | {_REFUSED}", "bitwise_not invert"),
    ("numpy.", f"x1 x2 | kind array | cause numpy | {_REFUSED}", "divmod"),
    ("numpy.", f"x | kind array | cause numpy | {_REFUSED}", "modf frexp"),
    ("numpy.", f"a b | kind number | dtype bool | cause number | {_REFUSED}", "allclose"),
    # These two catch the refusal and answer False.
    ("numpy.", "a b | kind number | dtype bool | cause number", "array_equal array_equiv"),
    ("numpy.", "a | kind same | role keep | shape same", "real"),
    (
        "numpy.",
        f"a axis | kind array | cause numpy | shape reduce | {_MISUSED}",
        "sum prod mean std var max min amax amin any all",
    ),
    (
        "numpy.",
        f"a axis | kind array | cause numpy | shape reduce | {_REFUSED}",
        """ptp median nansum nanmean nanmedian nanmax nanmin nanstd nanvar nanprod average count_nonzero
     quantile percentile nanquantile nanpercentile""",
    ),
    (
        "numpy.",
        f"a axis | kind array | dtype int | role index | cause argmax | shape reduce | {_REFUSED}",
        "argmax argmin",
    ),
    (
        "numpy.",
        f"a axis | kind array | dtype int | role index | cause argmax | shape reduce | {_REFUSED}",
        "nanargmax nanargmin",
    ),
    (
        "numpy.",
        f"a axis | kind array | dtype int | cause argmax | {_REFUSED}",
        "argsort flatnonzero argpartition",
    ),
    ("numpy.", f"keys axis | kind array | dtype int | cause argmax | {_MISUSED}", "lexsort"),
    ("numpy.", "a | kind same | other cut | dtype int | cause argmax", "nonzero argwhere"),
    (
        "numpy.",
        f"a axis | kind array | cause numpy | shape same | {_REFUSED}",
        "sort partition cumsum cumprod nancumsum nancumprod fliplr flipud roll rot90 tril triu round around",
    ),
    (
        "numpy.",
        "m axis | kind array | cause numpy | shape same | role keep | raises raises: ValueError",
        "flip",
    ),
    (
        "numpy.",
        f"a | kind array | cause numpy | {_REFUSED}",
        "diff ediff1d gradient trapezoid convolve correlate",
    ),
    ("numpy.", f"a b | kind array | cause numpy | shape matmul | {_REFUSED}", "dot matmul inner vdot"),
    ("numpy.", f"a b | kind array | cause numpy | {_REFUSED}", "outer cross tensordot kron"),
    (
        "numpy.",
        f"subscripts *operands | edges subscripts:none | kind array | cause numpy | {_REFUSED}",
        "einsum",
    ),
    (
        "numpy.",
        f"condition x y | edges condition:none | kind array | cause numpy | shape same | {_REFUSED}",
        "where",
    ),
    ("numpy.", f"a a_min a_max | kind array | cause numpy | shape same | role keep | {_REFUSED}", "clip"),
    (
        "numpy.",
        f"condlist choicelist default | edges condlist:none | kind array | cause numpy | {_REFUSED}",
        "select",
    ),
    (
        "numpy.",
        f"condition a | edges condition:none | kind array | cause numpy | {_REFUSED}",
        "compress extract",
    ),
    ("numpy.", f"a choices | edges a:none | kind array | cause numpy | {_REFUSED}", "choose"),
    (
        "numpy.",
        f"x condlist funclist | edges condlist:none | kind array | cause numpy | {_REFUSED}",
        "piecewise",
    ),
    (
        "numpy.",
        f"arrays axis | kind array | cause numpy | role keep | shape cat | {_REFUSED}",
        "concatenate concat hstack vstack dstack column_stack append",
    ),
    (
        "numpy.",
        f"arrays axis | kind array | cause numpy | role keep | shape stack | {_REFUSED}",
        "stack block",
    ),
    (
        "numpy.",
        "ary indices_or_sections axis | kind same | role keep",
        "split array_split hsplit vsplit dsplit",
    ),
    ("numpy.", "a | kind same | role keep | shape view", "squeeze swapaxes"),
    (
        "numpy.",
        f"a | kind array | cause numpy | role keep | shape view | {_REFUSED}",
        """reshape ravel transpose expand_dims broadcast_to broadcast_arrays atleast_1d atleast_2d
     atleast_3d tile repeat pad delete insert resize trim_zeros permute_dims matrix_transpose""",
    ),
    (
        "numpy.",
        f"a | kind array | cause numpy | role keep | shape view | {_MISUSED}",
        "moveaxis rollaxis unstack",
    ),
    (
        "numpy.",
        f"a indices axis | edges indices:none | kind array | cause numpy | role keep | {_REFUSED}",
        "take",
    ),
    ("numpy.", "a indices axis | edges indices:none | kind same | role keep", "take_along_axis"),
    (
        "numpy.",
        f"a | kind array | cause numpy | {_REFUSED}",
        "diag diagonal trace cov corrcoef polyval vander unique",
    ),
    (
        "numpy.",
        f"object dtype | kind array | cause numpy | role keep | shape same | dtype argument | {_REFUSED}",
        "array asarray asanyarray ascontiguousarray asfortranarray asarray_chkfinite copy",
    ),
    (
        "numpy.",
        f"x | kind array | other cut | cause numpy | dtype int | {_REFUSED}",
        "searchsorted digitize bincount histogram",
    ),
    (
        "numpy.",
        f"x | kind array | other cut | cause numpy | {_REFUSED}",
        "histogram2d isin intersect1d setdiff1d union1d setxor1d",
    ),
    ("numpy.", f"x xp fp | kind array | cause numpy | {_REFUSED}", "interp polyfit"),
    ("numpy.", f"a | other none | kind array | shape same | {_REFUSED}", "zeros_like ones_like empty_like"),
    (
        "numpy.",
        f"a fill_value | edges a:none | kind array | shape same | cause numpy | {_REFUSED}",
        "full_like",
    ),
    ("numpy.", "shape dtype | other none | kind array | dtype float", "zeros ones empty eye identity tri"),
    ("numpy.", "shape fill_value | edges shape:none | kind array | dtype float | cause numpy", "full"),
    (
        "numpy.",
        "start stop step | kind array | dtype float | cause numpy",
        "arange linspace logspace geomspace",
    ),
    ("numpy.", f"*xi | kind array | cause numpy | {_REFUSED}", "meshgrid"),
    (
        "numpy.",
        f"x | kind number | cause number | {_REFUSED}",
        "float32 float64 float16 double single half longdouble",
    ),
    (
        "numpy.",
        f"x | kind number | dtype int | cause number | {_REFUSED}",
        "int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool_ intp",
    ),
    ("numpy.", "a | other none | kind number", "shape ndim size isscalar iterable can_cast"),
    (
        "numpy.linalg.",
        f"a | kind array | cause numpy | {_REFUSED}",
        """norm inv det eigvalsh eigvals pinv matrix_rank cond slogdet solve cholesky eigh eig svd qr lstsq
     matrix_power multi_dot svdvals vector_norm matrix_norm tensorsolve tensorinv""",
    ),
    (
        "numpy.fft.",
        f"a | kind array | cause numpy | {_REFUSED}",
        "fft ifft rfft irfft fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn fftshift ifftshift hfft ihfft",
    ),
    ("numpy.fft.", "n d | other none | kind array | dtype float", "fftfreq rfftfreq"),
    (
        "scipy.special.",
        f"x | kind array | cause numpy | shape same | {_REFUSED}",
        "expit logit softmax log_softmax logsumexp erf erfc gammaln digamma xlogy entr gamma expm1 log1p",
    ),
    (
        "numpy.",
        f"array axis | kind array | cause numpy | {_REFUSED}",
        """add.reduce add.accumulate multiply.reduce multiply.accumulate maximum.reduce maximum.accumulate
        minimum.reduce minimum.accumulate logaddexp.reduce cumulative_sum cumulative_prod""",
    ),
    (
        "numpy.",
        f"a b | kind array | cause numpy | {_REFUSED}",
        "vecdot matvec vecmat add.outer multiply.outer",
    ),
    ("numpy.", f"x dtype | kind array | cause numpy | dtype argument | role keep | {_REFUSED}", "require"),
    ("numpy.", "n | other none | kind array | dtype int", "tril_indices triu_indices diag_indices indices"),
    ("numpy.", "M | other none | kind array | dtype float", "hamming hanning blackman bartlett"),
    ("numpy.", "file | other none | kind array", "load loadtxt genfromtxt fromfile"),
    ("numpy.", "file arr | other none | kind none", "save savez savez_compressed savetxt"),
    (
        "einops.",
        "tensor pattern reduction | edges pattern:none reduction:none | role keep",
        "rearrange repeat reduce",
    ),
    ("einops.", "*tensors_and_pattern | role logit | saves tensors_and_pattern", "einsum"),
    (
        "math.",
        "x y | kind number | cause number",
        """exp exp2 expm1 log log2 log10 log1p sqrt cbrt pow sin cos tan asin acos atan atan2 sinh cosh tanh
        asinh acosh atanh fabs floor ceil trunc fmod hypot degrees radians erf erfc gamma lgamma copysign
        ldexp frexp modf fsum prod dist isclose isnan isinf isfinite remainder gcd lcm factorial comb perm
        isqrt nextafter ulp fma""",
    ),
]

_BUILT_IN: list[tuple[str, str]] = [
    ("x | kind number | cause number | dtype float", "float complex"),
    ("x | kind number | cause number | dtype int", "int hash ord"),
    ("x | kind number | other none", "bool len isinstance issubclass callable hasattr id type"),
    ("x | kind none | other none", "print setattr delattr"),
    ("x | kind unknown | other none", "repr str format input open range"),
    (
        "number ndigits | kind same | other zero | cause round | role keep | shape same "
        "| raises raises: TypeError",
        "round",
    ),
    ("x | kind same | shape same | saves x", "abs"),
    ("iterable start | kind same | shape unknown", "sum"),
    ("*args | kind same | shape unknown", "max min"),
    ("base exp mod | kind same | shape same | saves base exp", "pow"),
    ("x y | kind same | shape same | raises backward raises", "divmod"),
    ("iterable | kind tensors | role keep", "list tuple set frozenset sorted reversed iter"),
    ("*iterables | kind tensors | role keep", "zip enumerate"),
    ("iterator default | kind unknown", "next"),
    ("iterable | kind number | other none", "any all"),
]

_COMPARED = "a b | kind same | other cut | cause comparison | dtype bool | shape same"
_OPERATOR: list[tuple[str, str]] = [
    ("a b | kind same | shape same", "add sub iadd isub"),
    ("a b | kind same | shape same | saves a b", "mul truediv pow mod imul itruediv ipow imod"),
    ("a b | kind same | shape same | cause round | raises backward raises", "floordiv ifloordiv"),
    ("a b | kind same | shape matmul | role logit | saves a b", "matmul imatmul"),
    ("a | kind same | shape same", "neg pos"),
    ("a | kind same | shape same | saves a", "abs"),
    (_COMPARED, "lt le gt ge eq ne and_ or_ xor iand ior ixor"),
    ("a | kind same | other cut | cause comparison | dtype bool | shape same", "invert inv"),
    ("a | kind number | other none", "not_ truth is_ is_not contains index"),
    ("a b | edges b:none | kind same | role keep | shape view", "getitem"),
    ("a b c | edges b:none | kind none | in_place", "setitem"),
]

PYTHON: dict[str, str] = {}
for _prefix, _row, _names in GROUPS:
    PYTHON.update(dict.fromkeys([_prefix + name for name in _names.split()], _row))
for _row, _names in _BUILT_IN:
    PYTHON.update(dict.fromkeys(["builtins." + name for name in _names.split()], _row))
for _row, _names in _OPERATOR:
    PYTHON.update(dict.fromkeys(["operator." + name for name in _names.split()], _row))
for (
    _name
) in """add sub mul truediv pow mod floordiv matmul neg pos abs lt le gt ge eq ne and or xor invert getitem
        setitem iadd isub imul itruediv ipow imod ifloordiv""".split():
    _row = PYTHON["operator." + (_name + "_" if _name in ("and", "or") else _name)]
    PYTHON[f"torch.Tensor.__{_name}__"] = _row + (
        " | in_place" if _name.startswith("i") and _name != "invert" else ""
    )
for _name in "add sub mul truediv pow mod floordiv matmul".split():
    PYTHON[f"torch.Tensor.__r{_name}__"] = PYTHON["operator." + _name]
