"""Runs one operation of torch with each argument alone requiring gradient, and says what happened.

`drive(name)` makes up arguments from the signatures (and from `model_samples.py` where they must fit each
other). What is observed never hangs on one set of numbers: an argument is live if a gradient reached it in
any of the runs, zero only if it arrived in all of them and was zero, cut if the result never required
gradient although its numbers depend on the argument, none if they do not.
"""

from __future__ import annotations

# ruff: noqa: SIM905 (tables of names read best as words)
import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from model_samples import SAMPLES
from model_signatures import Param, Signature, overloads, resolve
from torch.autograd.graph import saved_tensors_hooks

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass
class Observation:
    """`edges`: by parameter, "live", "zero", "cut", "none", "integer" (takes no floating numbers), "raises"
    (its backward does) or "refuses" (the call does, once that argument requires gradient)."""

    params: tuple[str, ...] = ()
    edges: dict[str, str] = field(default_factory=dict)
    saves: set[str] = field(default_factory=set)
    twice: set[bool] = field(default_factory=set)  # whether a second backward raised
    kinds: set[str] = field(default_factory=set)
    dtypes: set[str] = field(default_factory=set)
    shapes: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def refused(self) -> list[str]:
        return [key for key, edge in self.edges.items() if edge in ("raises", "refuses")]

    @property
    def driven(self) -> bool:
        return bool(self.kinds)


ORDER = ["integer", "none", "cut", "refuses", "raises", "zero", "live"]


# -- arguments

SHAPES: list[tuple[int, ...]] = [
    (2, 3),
    (3, 3),
    (4,),
    (2, 3, 4),
    (2, 3, 4, 4),
    (2, 3, 4, 4, 4),
    (3, 6, 6),
    (),
]
INDEXED = frozenset(
    "index indices idx offsets sorter lengths crow_indices repeats input_lengths target_lengths".split()
)
MASKS = frozenset("mask condition attn_mask".split())
TENSORS = frozenset(
    """input other x y self tensor tensor1 tensor2 mat mat1 mat2 vec vec1 vec2 batch1 batch2 weight a A B L U
    LU P Q M input1 input2 input3 x1 x2 target end src source value values boundaries sorted_sequence tau abs
    angle real imag pivots LD h anchor positive negative var hx exponent n k m condition mask index indices
    sizes_tensor grid theta offsets grad other_tensor beta start h0 tensors_ min max mean std data q zeros_
    ones_""".split()
)
NOT_TENSORS = frozenset(
    "dim dims ord n size shape kernel_size output_size num_classes groups k q min max mean std".split()
)


def values(param: Param, shape: tuple[int, ...], whole: int, style: str) -> Any:
    """A value for one parameter, or LookupError."""
    kind, name = param.type, param.name
    if not kind:
        if name in NOT_TENSORS and name not in ("q",):
            kind = "_int"
        elif name in TENSORS:
            kind = "Tensor"
        elif name in ("tensors", "matrices", "input_tensors"):
            kind = "tuple[Tensor, ...]"
        elif "dim" in name or name in ("n", "k", "chunks", "sections", "upscale_factor", "downscale_factor"):
            kind = "_int"
        else:
            raise LookupError(name)
    if "Tensor" in kind:
        if (
            "Sequence" in kind or "list" in kind or "tuple" in kind or "List" in kind
        ) and "Tensor |" not in kind:
            return [number(shape, style), number(shape, style)]
        if name in INDEXED:
            return torch.zeros(shape, dtype=torch.int64)
        if name in MASKS:
            return torch.arange(max(1, torch.Size(shape).numel())).reshape(shape) % 2 == 0
        return number(shape, style)
    if "_bool" in kind or kind == "bool":
        return False
    if "_size" in kind or "Sequence" in kind or "Tuple" in kind or "BroadcastingList" in kind:
        return (whole,) if whole != 2 else tuple(range(len(shape)))
    if "_int" in kind or "SymInt" in kind or kind == "int":
        return whole
    if "Number" in kind or "_float" in kind or "_complex" in kind or kind == "float":
        return 0.5
    if "dtype" in kind:
        return torch.float64
    raise LookupError(name)


def number(shape: tuple[int, ...], style: str) -> torch.Tensor:
    if style == "integer":
        return torch.randint(0, 3, shape)
    if style == "bool":
        return torch.rand(shape) > 0.5
    value = torch.rand(shape, dtype=torch.float64) * 0.6 + 0.2
    if style == "matrix" and len(shape) >= 2 and shape[-1] == shape[-2]:
        return value @ value.mT + torch.eye(shape[-1], dtype=torch.float64)
    if style == "complex":
        return torch.complex(value, value.flip(0) if shape else value)
    if style == "wide":
        return torch.randn(shape, dtype=torch.float64) * 2
    return value


def attempts(signature: Signature) -> Iterator[Callable[[], Arguments]]:
    """Ways to call a signature: smallest first."""
    given = [p for p in signature if (p.required or p.star) and p.name != "out"]
    tensors = [
        p for p in signature if not p.required and not p.star and p.name != "out" and "Tensor" in p.type
    ]
    for style, whole, shape, chosen in itertools.product(
        ("", "matrix", "integer", "bool", "complex"), (1, 0, 2), SHAPES, (given + tensors, given)
    ):
        if style == "matrix" and (len(shape) < 2 or shape[-1] != shape[-2]):
            continue

        def make(
            style: str = style,
            whole: int = whole,
            shape: tuple[int, ...] = shape,
            chosen: list[Param] = chosen,
        ) -> Arguments:
            args: list[Any] = []
            kwargs: dict[str, Any] = {}
            skipped = False
            for param in signature:
                if param not in chosen:
                    skipped = skipped or not param.keyword_only
                    continue
                value = values(param, shape, whole, style)
                if param.star:
                    args += [value, value] if isinstance(value, torch.Tensor) else [value]
                elif param.keyword_only or skipped:
                    kwargs[param.name] = value
                else:
                    args.append(value)
            return tuple(args), kwargs

        yield make


# -- runs


def tensors_of(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_of(item)]
    return []


def replaced(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list):
        return [replaced(item, change) for item in value]
    if isinstance(value, tuple):
        return tuple(replaced(item, change) for item in value)
    return value


def is_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def bound(params: tuple[str, ...], arguments: Arguments) -> dict[str, Any]:
    """Values by parameter name."""
    args, kwargs = arguments
    out: dict[str, Any] = {}
    for position, value in enumerate(args):
        name = params[min(position, len(params) - 1)] if params else "?"
        if position >= len(params) and not (params and params[-1].startswith("*")):
            name = "?"
        out.setdefault(name.lstrip("*"), []).append(value)
    return {key: tuple(value) if len(value) > 1 else value[0] for key, value in out.items()} | kwargs


def call(
    function: Any, arguments: Arguments, change: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[Any, Arguments]:
    """Calls over changed copies; returns the result and what was given."""
    args, kwargs = arguments
    given = (
        tuple(replaced(value, change) for value in args),
        {k: replaced(v, change) for k, v in kwargs.items()},
    )
    # torch.manual_seed would note down the whole call stack each time
    torch.default_generator.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*given[0], **given[1]), given


def kind_of(result: Any) -> str:
    if isinstance(result, torch.Tensor):
        return "tensor"
    if (
        isinstance(result, (list, tuple))
        and result
        and all(isinstance(item, torch.Tensor) for item in result)
    ):
        return "tensors"
    if result is None:
        return "none"
    if isinstance(result, (bool, int, float, complex)):
        return "number"
    if isinstance(result, list):
        return "numbers"
    if type(result).__module__ == "numpy":
        return "array"
    return "unknown"


def dtype_of(result: Any) -> str:
    first = next(iter(tensors_of(result)), None)
    if first is None:
        return ""
    return "float" if is_float(first) else "bool" if first.dtype is torch.bool else "int"


def shape_of(result: Any, arguments: Arguments) -> str:
    tensors = tensors_of(list(arguments[0]) + list(arguments[1].values()))
    if not isinstance(result, torch.Tensor) or not tensors:
        return ""
    if result.dim() == 0 and any(tensor.dim() for tensor in tensors):
        return "scalar"
    tensors = [tensor for tensor in tensors if is_float(tensor)] or tensors
    try:
        whole = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    except RuntimeError:
        return "other"
    if len(whole) == 0 or 0 in whole:
        return ""
    if result.shape == whole:
        return "square" if len(set(whole)) < len(whole) else "same"
    return "other"


def same(a: Any, b: Any) -> bool:
    left, right = tensors_of(a), tensors_of(b)
    if left or right:
        return len(left) == len(right) and all(
            x.shape == y.shape and torch.equal(torch.nan_to_num(x), torch.nan_to_num(y))
            for x, y in zip(left, right, strict=True)
        )
    if type(a).__module__ == "numpy":
        return bool((a == b).all())
    return bool(a == b) or type(a).__name__.endswith("Storage")


def observe(name: str, params: tuple[str, ...], make: Callable[[], Arguments], into: Observation) -> None:
    """One call, measured for each floating argument alone; raises what the plain call raises."""
    function = resolve(name)
    torch.default_generator.manual_seed(1)
    arguments = make()
    result, _ = call(function, arguments, torch.clone)
    in_place = name.endswith("_") and not name.endswith("__")
    into.kinds.add(kind_of(result))
    into.dtypes.add(dtype_of(arguments[0]) + ">" + dtype_of(result))
    into.shapes.add(shape_of(result, arguments))
    for key, value in bound(params, arguments).items():
        floats = [tensor for tensor in tensors_of(value) if is_float(tensor)]
        if not tensors_of(value):
            continue
        verdict = "integer" if not floats else alone(function, arguments, floats[0], in_place, into, key)
        before = into.edges.get(key)
        if before is None or ORDER.index(verdict) > ORDER.index(before):
            into.edges[key] = verdict
    saved(function, arguments, params, in_place, into)


def alone(
    function: Any, arguments: Arguments, chosen: torch.Tensor, in_place: bool, into: Observation, key: str
) -> str:
    leaf = chosen.clone().requires_grad_()

    def change(tensor: torch.Tensor) -> torch.Tensor:
        return leaf * 1 if tensor is chosen else tensor.clone()

    try:
        result, given = call(function, arguments, change)
    except Exception as error:
        into.errors[key] = f"{type(error).__name__}: {error}".partition("\n")[0]
        return "refuses"
    if result is None and in_place:
        result = given[0][0]
    if result is None:
        result = tensors_of(given[0][0])
    outputs = [tensor for tensor in tensors_of(result) if tensor.requires_grad]
    if outputs:
        total = sum((tensor * weights(tensor)).sum() for tensor in outputs)
        assert isinstance(total, torch.Tensor)
        try:
            (gradient,) = torch.autograd.grad(
                total.real + total.imag if total.is_complex() else total, leaf, allow_unused=True
            )
        except Exception as error:
            into.errors[key] = f"{type(error).__name__}: {error}".partition("\n")[0]
            return "raises"
        if gradient is None:
            return "none"
        if torch.count_nonzero(torch.abs(gradient) > 1e-9) > 0 or gradient.isnan().any():
            return "live"
    if not depends(function, arguments, chosen):
        return "none"
    return "zero" if outputs else "cut"


def depends(function: Any, arguments: Arguments, chosen: torch.Tensor) -> bool:
    """Whether the numbers of the result change with those of one argument."""
    twins = [
        t
        for t in tensors_of([*arguments[0], *arguments[1].values()])
        if t is not chosen and t.shape == chosen.shape
    ]
    others = [
        torch.randn_like(chosen) * 3,
        torch.zeros_like(chosen),
        torch.full_like(chosen, math.nan),
        *twins,
    ]
    others += [
        torch.full_like(chosen, math.inf),
        torch.full_like(chosen, -math.inf),
        torch.rand_like(chosen) ** 9,
    ]
    try:
        plain, _ = call(function, arguments, torch.clone)
    except Exception:
        return True
    for other in others:
        try:
            moved, _ = call(
                function,
                arguments,
                lambda tensor, other=other: (other if tensor is chosen else tensor).clone(),
            )
        except Exception:
            continue
        if not same(plain, moved):
            return True
    return False


def weights(tensor: torch.Tensor) -> torch.Tensor:
    count = max(1, tensor.numel())
    return (torch.arange(count, dtype=torch.float64).reshape(tensor.shape) * 0.7 + 0.3).to(tensor.device)


def saved(
    function: Any, arguments: Arguments, params: tuple[str, ...], in_place: bool, into: Observation
) -> None:
    """What backward needs when every floating argument requires gradient."""
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    def change(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone().requires_grad_() + 0 if is_float(tensor) else tensor.clone()

    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            result, given = call(function, arguments, change)
    except Exception:
        return
    outputs = [tensor for tensor in tensors_of(result) if tensor.requires_grad]
    if not outputs:
        return
    own = {key: {storage(t) for t in tensors_of(value)} for key, value in bound(params, given).items()}
    made = {storage(t) for t in tensors_of(result)}
    for tensor in kept:
        places = [key for key, storages in own.items() if storage(tensor) in storages]
        if places and not in_place:
            into.saves.add(places[0])
        elif storage(tensor) in made:
            into.saves.add("result")
        else:
            into.saves.add(places[0] if places else "buffer")
    total = sum(tensor.real.sum() if tensor.is_complex() else tensor.sum() for tensor in outputs)
    assert isinstance(total, torch.Tensor)
    try:
        total.backward(retain_graph=False)
    except Exception:
        return
    try:
        total.backward()
        into.twice.add(False)
    except RuntimeError:
        into.twice.add(True)


def storage(tensor: torch.Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return id(tensor)


@cache
def drive(name: str) -> Observation:
    """What torch does with the operation of this dotted name; not driven where no arguments were found."""
    out = Observation()
    leaf = name.rpartition(".")[2]
    ways = SAMPLES.get(name) or SAMPLES.get(leaf) or SAMPLES.get(leaf.removesuffix("_"))
    signatures = overloads(name)
    out.params = parameters(name)
    if ways:
        for make in ways:
            try:
                observe(name, out.params, make, out)
            except Exception as error:
                out.errors["sample"] = f"{type(error).__name__}: {error}"
        return out
    for signature in signatures[:8]:
        params = tuple(("*" if p.star else "") + p.name for p in signature if not p.keyword_only)
        runs = 0
        for make in attempts(signature):
            try:
                observe(name, params, make, out)
            except LookupError:
                break
            except Exception:
                continue
            runs += 1
            if runs == 3:
                break
    return out


PREFERRED = dict.fromkeys(
    "max min median nanmedian std var argmax argmin all any sum mean prod norm".split(), "dim"
)
PREFERRED["to"] = "dtype"


@cache
def parameters(name: str) -> tuple[str, ...]:
    """The positional parameters that describe all overloads best: those with most tensors, then the
    longest."""
    best: tuple[tuple[int, int, int, int], tuple[str, ...]] = ((-1, -1, -1, -1), ())
    wanted = PREFERRED.get(name.rpartition(".")[2], "")
    for signature in overloads(name):
        positional = [p for p in signature if not p.keyword_only and p.name != "out"]
        first = positional[0].name if positional else ""
        names = tuple(("*" if p.star else "") + p.name for p in positional)
        # deprecated overloads, which put the factors of a sum first
        legacy = (first == "self" and not name.startswith("torch.Tensor.")) or bool(
            {"alpha", "beta"} & set(names[:3])
        )
        tensors = sum("Tensor" in p.type or p.name in TENSORS for p in positional)
        score = (
            0 if legacy else 1,
            int(wanted in names),
            tensors + any(p.star for p in positional),
            len(positional),
        )
        if score > best[0]:
            best = (score, names)
    return best[1]
