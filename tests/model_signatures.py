"""Names and signatures of torch's public functions and methods, from its stubs and docstrings.

Used by `regenerate_model.py` and by the tests of the model; imports torch, changes nothing.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional
from torch.overrides import get_testing_overrides


@dataclass(frozen=True)
class Param:
    name: str
    type: str = ""  # as the stub writes it; "" where only a docstring or a lambda knows the parameter
    required: bool = True
    keyword_only: bool = False
    star: bool = False


Signature = tuple[Param, ...]

# Not operations on tensors: state of the library, private leftovers of other backends.
SKIPPED = re.compile(
    r"(cudnn|miopen|mkldnn|fbgemm|quantized|sym_|set_(?!$)|get_(?!device$)|init_|import_ir|fork$|wait$|merge_|parse_"
    r"|autocast|clear_|is_autocast|is_grad|is_inference_mode|is_anomaly|is_vulkan_av|is_determ|is_warn|vitals|read_|unify|choose_qparams|fused_moving"
    r"|fake_quantize|from_file|q_|hspmm|hsmm|sspaddmm|smm|native_|segment_reduce|thread_|typename|use_|manual_seed"
    r"|save$|load$|seed$|initial_seed|are_|compiled|prepare_|profiler|while_loop|cond$|vmap|compile$|assert|handle_torch"
    r"|has_torch|boolean_dispatch|classproperty|grouped_mm|scaled_mm|scaled_grouped|ccol|crow|col_ind|row_ind|sparse_"
    r"|to_mkldnn|to_padded|broadcast_shapes|module_load|reinforce|eig$|lstsq$|solve$|symeig$|matrix_rank$|lu_solve$"
    r"|has_names|align_|refine_|rename|names$|int_repr|values$|indices$|record_stream|coalesce|is_set|ctypes|error_if"
    r"|result_type|promote_types|batch_norm_|empty_quantized|quantize_per|indices_copy|values_copy|saddmm"
    r"|resize_as_sparse_|qscheme|const_data_ptr|to_sparse_bs|to_sparse_cs)"
)


@cache
def stubs(name: str) -> dict[str, list[Signature]]:
    """Overloads by function name: of `_VariableFunctions.pyi`, `_nn.pyi`, or of TensorBase for "Tensor"."""
    folder = Path(torch.__file__).parent / "_C"
    path = folder / ("__init__.pyi" if name == "Tensor" else f"{name}.pyi")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = tree.body
    if name == "Tensor":
        body = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "TensorBase").body
    out: dict[str, list[Signature]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            out.setdefault(node.name, []).append(_from_ast(node.args))
    return out


def _from_ast(args: ast.arguments) -> Signature:
    params: list[Param] = []
    first_default = len(args.args) - len(args.defaults)
    positional = [*args.posonlyargs, *args.args]
    for position, arg in enumerate(positional):
        text = ast.unparse(arg.annotation) if arg.annotation is not None else ""
        params.append(Param(arg.arg, text, position < first_default))
    if args.vararg is not None:
        text = ast.unparse(args.vararg.annotation) if args.vararg.annotation is not None else ""
        params.append(Param(args.vararg.arg, text, False, star=True))
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        text = ast.unparse(arg.annotation) if arg.annotation is not None else ""
        params.append(Param(arg.arg, text, default is None, keyword_only=True))
    return tuple(params)


def _from_callable(function: Any) -> Signature:
    params = []
    for param in inspect.signature(function).parameters.values():
        if param.kind is param.VAR_KEYWORD:
            continue
        text = (
            param.annotation
            if isinstance(param.annotation, str)
            else getattr(param.annotation, "__name__", "")
        )
        if param.annotation is param.empty:
            text = ""
        params.append(
            Param(
                param.name,
                text,
                param.default is param.empty and param.kind is not param.VAR_POSITIONAL,
                param.kind is param.KEYWORD_ONLY,
                param.kind is param.VAR_POSITIONAL,
            )
        )
    return tuple(params)


def _from_docstring(name: str, function: Any) -> Signature | None:
    """`linalg.det(A, *, out=None) -> Tensor`: the first line of a built-in's documentation."""
    text = (function.__doc__ or "").strip()
    match = re.match(rf"(?:torch\.)?[\w.]*{re.escape(name)}\((.*?)\)\s*->", text, re.DOTALL)
    if match is None:
        return None
    try:
        node = ast.parse(f"def f({match.group(1)}): ...").body[0]
    except SyntaxError:
        return None
    assert isinstance(node, ast.FunctionDef)
    return _from_ast(node.args)


@cache
def overloads(name: str) -> tuple[Signature, ...]:
    """The signatures of a dotted name, most telling first; empty where none is known."""
    prefix, _, leaf = name.rpartition(".")
    function = resolve(name)
    found: list[Signature] = []
    if prefix == "torch.Tensor":
        found = list(stubs("Tensor").get(leaf, ()))
    elif prefix in ("torch", "torch.nn.functional") and not inspect.isfunction(function):
        found = list(stubs("_VariableFunctions").get(leaf, ())) or list(stubs("_nn").get(leaf, ()))
    if found:
        return tuple(found)
    if inspect.isfunction(function):
        signature = _from_callable(function)
        if not (len(signature) and signature[0].star and signature[0].name == "args"):
            return (signature,)
    documented = _from_docstring(leaf, function)
    if documented is not None:
        return (documented,)
    override = get_testing_overrides().get(function)
    if override is not None:
        return (tuple(p for p in _from_callable(override) if p.name != "out"),)
    return ()


def resolve(name: str) -> Any:
    """The object of a dotted name in torch."""
    value: Any = torch
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    return value


PLACES = {
    "torch": torch,
    "torch.nn.functional": torch.nn.functional,
    "torch.linalg": torch.linalg,
    "torch.special": torch.special,
    "torch.fft": torch.fft,
    "torch.Tensor": torch.Tensor,
}


def names() -> Iterator[str]:
    """Every public function and method that may be an operation, as dotted names."""
    for place, where in PLACES.items():
        for leaf in sorted(dir(where)):
            if leaf.startswith("_") or SKIPPED.match(leaf):
                continue
            value = getattr(where, leaf)
            if not callable(value) or inspect.isclass(value) or inspect.ismodule(value):
                continue
            if getattr(value, "__module__", "") in ("typing", "importlib"):
                continue
            yield f"{place}.{leaf}"
