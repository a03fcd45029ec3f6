"""Runs inside an instrumented script and takes down, for each of its expressions, what value it had.

Every use of a tensor that requires gradient is made a node of its own in autograd's graph (a copy), so
that it can be asked what is left of the loss without that one use. Values, gradients and random numbers
stay what they were.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.nn.modules.loss import _Loss

SHAPE_ONLY = {
    "view",
    "view_as",
    "reshape",
    "flatten",
    "squeeze",
    "unsqueeze",
    "transpose",
    "permute",
    "contiguous",
    "float",
}
MOST_BACKWARDS = 3  # of each call; later iterations look the same

flags: defaultdict[int, set[str]] = defaultdict(set)
arrived: defaultdict[int, set[int]] = defaultdict(
    set
)  # at a criterion's call: the sites its input came through
_tags: defaultdict[int, set[int]] = defaultdict(set)
_nodes: defaultdict[int, list[Any]] = defaultdict(list)  # of each site its nodes since the last backward
_backwards: defaultdict[int, int] = defaultdict(int)
_modules: defaultdict[int, set[int]] = defaultdict(set)  # of each module the sites that call it
_learning: defaultdict[int, dict[int, int]] = defaultdict(dict)  # of each site the modules that it calls
_kept: list[Any] = []  # what has an id in use


def see(site: int, value: Any, base: int = -1) -> Any:
    """An expression that is no call; `base` is the site of what is indexed."""
    return _seen(site, value, _tags.get(base, set()), leaf=False)


def use(site: int, value: Any) -> Any:
    """An operand of an operation: here a parameter, too, may become a copy."""
    return _seen(site, value, set(), leaf=True)


def call(site: int, function: Any, *args: Any, **kwargs: Any) -> Any:
    """A call."""
    marks = flags[site]
    tags: set[int] = set()
    if isinstance(function, nn.Module):
        tags = {function.__dict__["_site"]} if "_site" in function.__dict__ else tags
        learns = sum(each.requires_grad for each in function.parameters())
        if learns:
            marks.add("module")
            _learning[site][id(function)] = learns
            if not torch.is_grad_enabled():
                marks.add("module without gradient")
            _modules[id(function)].add(site)
            _kept.append(function)
    kind = _criterion(function)
    both = len(args) >= 2 and isinstance(args[0], torch.Tensor) and isinstance(args[1], torch.Tensor)
    if kind and both and torch.is_grad_enabled():
        marks |= {kind, *_shapes(args[0], args[1]), *(("raw",) if _is_raw(args[0]) else ())}
        arrived[site] |= getattr(args[0], "_sites", set())
        if not args[1].is_floating_point() and args[1].ndim < args[0].ndim:
            marks.add("indices")
    receiver = getattr(function, "__self__", None)
    if isinstance(receiver, torch.Tensor):
        if function.__name__ in SHAPE_ONLY:
            tags = getattr(receiver, "_sites", set())
        if function.__name__ == "backward":
            marks.add("backward")
            _look_back(site, receiver)
    marks |= _protocol(function, receiver)
    if function is torch.autograd.grad:  # asks for the things themselves
        args = (*args[:1], *(_original(each) for each in args[1:2]), *args[2:])
        kwargs = {name: _original(each) if name == "inputs" else each for name, each in kwargs.items()}
    result = function(*args, **kwargs)
    if isinstance(result, nn.Sequential) and isinstance(function, type):
        result.__dict__["_site"] = site
    if isinstance(result, _Loss) and isinstance(function, type):
        marks.add("loss module")
    if inspect.isfunction(function) and function.__module__ == "torch.nn.functional":
        if "reduction" in inspect.signature(function).parameters:
            marks.add("reduces")
    if isinstance(result, torch.optim.Optimizer) and isinstance(function, type):
        marks.add("optimizer")
    return _seen(site, result, tags, leaf=False)


def report() -> dict[str, Any]:
    """What was seen, by site."""
    for site, called in _learning.items():
        flags[site].add(f"{sum(called.values())} parameters")
    for sites in _modules.values():
        for site in sites:
            if len(sites) > 1:
                flags[site].add("shared")
    return {
        "flags": {site: sorted(marks) for site, marks in flags.items() if marks},
        "arrived": {site: sorted(tags) for site, tags in arrived.items()},
    }


def _protocol(function: Any, receiver: Any) -> set[str]:
    name = getattr(function, "__name__", "")
    if isinstance(receiver, torch.optim.Optimizer) and name in ("step", "zero_grad"):
        return {"optimizer step" if name == "step" else name}
    if isinstance(receiver, nn.Module) and name == "zero_grad":
        return {name}
    if isinstance(receiver, nn.Module) and name in ("train", "eval"):
        return {f"{name} call"}
    if function is nn.utils.clip_grad_norm_ or function is nn.utils.clip_grad_value_:
        return {"clip"}
    return set()


_CRITERIA: dict[str, tuple[Any, ...]] = {
    "cross entropy": (nn.functional.cross_entropy, nn.CrossEntropyLoss),
    "nll": (nn.functional.nll_loss, nn.NLLLoss),
    "bce": (nn.functional.binary_cross_entropy, nn.BCELoss),
    "bce logits": (nn.functional.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss),
    "kl div": (nn.functional.kl_div, nn.KLDivLoss),
    "regression": (
        nn.functional.mse_loss,
        nn.functional.l1_loss,
        nn.functional.smooth_l1_loss,
        nn.functional.huber_loss,
        nn.MSELoss,
        nn.L1Loss,
        nn.SmoothL1Loss,
        nn.HuberLoss,
    ),
}
_KINDS = {each: kind for kind, functions in _CRITERIA.items() for each in functions}


def _criterion(function: Any) -> str:
    return _KINDS.get(function if inspect.isfunction(function) else type(function), "")


_SAME_NUMBERS = re.compile(
    r"(Clone|View|UnsafeView|Reshape\w*|Squeeze|Unsqueeze|Permute|Transpose|T)Backward\d"
)
_PRODUCTS = re.compile(r"(Addmm|Mm|Bmm|Baddbmm|Convolution\w*)Backward\d")


def _is_raw(given: torch.Tensor) -> bool:
    """Whether it comes straight from a linear layer or a convolution: scores of any size."""
    node = given.grad_fn
    while node is not None and _SAME_NUMBERS.fullmatch(type(node).__name__):
        node = node.next_functions[0][0]
    return node is not None and _PRODUCTS.fullmatch(type(node).__name__) is not None


def _shapes(given: torch.Tensor, target: torch.Tensor) -> set[str]:
    if given.shape != target.shape or given.shape[:1] < (2,):
        return set()
    if given.ndim == 2:
        return {"column" if given.shape[1] == 1 else "rows"}
    return {"flat" if given.ndim == 1 else "more"}


def _requires_grad(value: Any, depth: int = 0) -> bool:
    if isinstance(value, torch.Tensor):
        return value.requires_grad
    if isinstance(value, dict):
        value = list(value.values())
    return (
        depth < 3
        and isinstance(value, (list, tuple))
        and any(_requires_grad(each, depth + 1) for each in value)
    )


def _seen(site: int, value: Any, tags: set[int], leaf: bool) -> Any:
    if not torch.is_grad_enabled() or not _requires_grad(value):
        return value
    if not isinstance(value, torch.Tensor):
        flags[site].add("holds gradient")
        return value
    marks = flags[site]
    marks |= {"gradient", "leaf" if value.is_leaf else "computed", f"{min(value.ndim, 4)}d"}
    if value.is_leaf and not leaf:
        return value
    copy = value.clone()  # no view: what is written into it later must not look like a write to both
    copy._original = value
    copy._sites = getattr(value, "_sites", set()) | tags | {site}
    _tags[site] = copy._sites
    _nodes[site].append(copy.grad_fn)
    return copy


def _original(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_original(each) for each in value]
    while hasattr(value, "_original"):
        value = value._original
    return value


# What is left of a loss without one use.


def _look_back(site: int, loss: torch.Tensor) -> None:
    _backwards[site] += 1
    if loss.grad_fn is not None and _backwards[site] <= MOST_BACKWARDS:
        below: dict[Any, list[Any]] = {}
        waiting = [loss.grad_fn]
        while waiting:
            node = waiting.pop()
            if node not in below:
                below[node] = [each for each, _ in node.next_functions if each is not None]
                waiting += below[node]
        whole = _live_terms(loss.grad_fn, below, set())
        for other, nodes in _nodes.items():
            removed = {node for node in nodes if node in below}
            if removed and whole - _live_terms(loss.grad_fn, below, removed):
                flags[other].add("term")
    _nodes.clear()


def _live_terms(root: Any, below: dict[Any, list[Any]], removed: set[Any]) -> set[Any]:
    """The additive terms of a loss that a parameter's gradient still comes from."""
    live: dict[Any, bool] = {}

    def is_live(node: Any) -> bool:
        stack = [node]
        while stack:
            current = stack[-1]
            if current in live:
                stack.pop()
            elif current in removed:
                live[current] = False
            elif hasattr(current, "variable"):
                live[current] = isinstance(current.variable, nn.Parameter)
            else:
                todo = [each for each in below[current] if each not in live]
                if todo:
                    stack += todo
                else:
                    live[current] = any(live[each] for each in below[current])
        return live[node]

    terms: set[Any] = set()
    waiting, visited = [root], set()
    while waiting:
        node = waiting.pop()
        if node in visited or node in removed:
            continue
        visited.add(node)
        if _is_linear(node, below[node]):
            waiting += below[node]
        elif is_live(node):
            terms.add(node)
    return terms


LINEAR = re.compile(
    r"(Add|Sub|Rsub|Neg|Sum|Mean|Stack|Cat|Clone|View|UnsafeView|Reshape|ReshapeAlias|Squeeze|Unsqueeze)Backward\d"
)
SCALED = re.compile(r"(Mul|Div)Backward\d")  # by a constant if one way is left


def _is_linear(node: Any, below: list[Any]) -> bool:
    name = type(node).__name__
    return bool(LINEAR.fullmatch(name) and below) or bool(SCALED.fullmatch(name) and len(below) == 1)
