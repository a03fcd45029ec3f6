"""Runs inside an instrumented program: compares what its expressions are to autograd with what is expected.

An expression is known by its *chain*: the sites of the calls that lead to it from the module's own
statements, and its own site last. Nothing that the program computes is changed: what is looked at is handed
on as it is.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections import deque
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.optim.optimizer import register_optimizer_step_pre_hook

Chain = tuple[int, ...]
MOST_LOOKS = 4  # at each edge; later turns of a loop look the same
MOST_TURNS = 64  # of a loop that a list may hold the results of
MOST_DEPTH = 3  # of containers within containers
OPAQUE = (zip, map, filter, enumerate, reversed)  # looking into one would use it up
STATES = ("none", "zero", "nonfinite", "nonzero")
SUSPENDING = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


Nodes = tuple[Any, ...]  # of autograd's graph


class _Edge:
    """One edge that is expected, and what was seen of it."""

    def __init__(self, number: int, before: list[int]) -> None:
        self.number, self.before = number, before
        self.mixed = False  # an end of it is several results at once, of which only some have a graph
        self.written = False  # an end of it is a view that was written into
        self.connected = self.late = self.apart = self.still = self.looks = 0


_anchored: dict[Chain, int] = {}  # whole chains
_floating: dict[Chain, int] = {}  # how chains end
_matches: dict[Chain, tuple[int, ...]] = {}
_edges: dict[int, list[_Edge]] = {}  # by the key of what the edge leads to
_last: dict[int, deque[Nodes]] = {}  # what an expression was when it was evaluated, lately
_mixed: set[int] = set()  # keys of several results at once, of which only some have a graph
_written: set[int] = set()  # keys of views that were written into: autograd computes their base anew
_held: dict[int, dict[int, torch.Tensor]] = {}  # by key: parameters and leaves that were made there
_made: dict[int, Chain] = {}  # of each parameter and leaf the chain where it was first met
_learning: dict[int, torch.Tensor] = {}  # what optimizers hold
_best: dict[int, str] = {}
_pending: Chain = ()
_suspended: dict[int, tuple[Any, Chain]] = {}


def expect(
    anchored: list[list[int]], floating: list[list[int]], edges: list[tuple[int, int, list[int]]]
) -> None:
    """Keys are numbered through the anchored chains and then the floating ones.

    An edge is its number, the key that it leads to, and the keys that it may come from.
    """
    for number, chain in enumerate((*anchored, *floating)):
        (_anchored if number < len(anchored) else _floating)[tuple(chain)] = number
    for number, after, before in edges:
        _edges.setdefault(after, []).append(_Edge(number, before))
    register_optimizer_step_pre_hook(_before_step)


def entered() -> Chain:
    """The chain of the calls that led into the function which asks."""
    frame = sys._getframe(1)
    if frame.f_code.co_flags & SUSPENDING:
        kept = _suspended.pop(id(frame), None)
        if kept is not None:
            return kept[1]
    return _pending


def see(site: int, chain: Chain, value: Any) -> Any:
    """The value of an expression."""
    whole = (*chain, site)
    keys = _matches.get(whole)
    if keys is None:
        keys = _matches[whole] = tuple(_keys(whole))
    if isinstance(value, (torch.Tensor, nn.Module, torch.optim.Optimizer)):
        _meet(whole, value)
    if keys and not isinstance(value, OPAQUE):
        now = _look(value)
        mixed = _is_mixed(value)
        for key in keys:
            _hold(key, value)
            if mixed:
                _mixed.add(key)
            if _is_written_view(value):
                _written.add(key)
            for edge in _edges.get(key, ()):
                _compare(edge, now)
                edge.mixed = edge.mixed or mixed or not _mixed.isdisjoint(edge.before)
                edge.written = edge.written or not _written.isdisjoint((key, *edge.before))
        for key in keys:
            _last.setdefault(key, deque(maxlen=MOST_TURNS)).append(now)
    return value


def call(site: int, chain: Chain, function: Any, *args: Any, **kwargs: Any) -> Any:
    """A call."""
    global _pending
    before = _pending
    _pending = (*chain, site)
    try:
        value = function(*args, **kwargs)
    finally:
        _pending = before
    frame = None
    if inspect.isgenerator(value) and inspect.getgeneratorstate(value) == inspect.GEN_CREATED:
        frame = value.gi_frame
    elif inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
        frame = value.cr_frame
    if frame is not None:
        _suspended.setdefault(id(frame), (frame, (*chain, site)))
    return see(site, chain, value)


def attribute(site: int, chain: Chain, owner: Any, name: str) -> Any:
    """An attribute that is read; a property's function is entered by it."""
    global _pending
    before = _pending
    _pending = (*chain, site)
    try:
        value = getattr(owner, name)
    finally:
        _pending = before
    return see(site, chain, value)


def report() -> dict[str, Any]:
    """What was seen: each edge, what was made at each key, and what of all that is held got a gradient."""
    for optimizer_held in _learning.values():
        _best.setdefault(id(optimizer_held), _state(optimizer_held.grad))
    return {
        "edges": {
            edge.number: (edge.connected, edge.late, edge.apart, edge.still)
            for edges in _edges.values()
            for edge in edges
        },
        "mixed": [edge.number for edges in _edges.values() for edge in edges if edge.mixed],
        "written": [edge.number for edges in _edges.values() for edge in edges if edge.written],
        "held": {
            key: [_best.get(id(one), _state(one.grad)) for one in held.values()]
            for key, held in _held.items()
        },
        "learning": [
            (_made.get(number, ()), tuple(_matches.get(_made.get(number, ()), ())), _best[number])
            for number in _learning
        ],
    }


def _keys(whole: Chain) -> Any:
    if whole in _anchored:
        yield _anchored[whole]
    for start in range(len(whole)):
        if whole[start:] in _floating:
            yield _floating[whole[start:]]


def _look(value: Any) -> Nodes:
    return tuple(node for one in _tensors(value, 0) if (node := _node(one)) is not None)


def _is_mixed(value: Any) -> bool:
    if not isinstance(value, (tuple, list, dict)):
        return False
    return len({one.requires_grad for one in _tensors(value, 0)}) > 1


def _is_written_view(value: Any) -> bool:
    base = value._base if isinstance(value, torch.Tensor) and value._is_view() else None
    try:
        return base is not None and base.grad_fn is not None and base.grad_fn.name().endswith("CopySlices")
    except RuntimeError:
        return False


def _node(tensor: torch.Tensor) -> Any:
    """Its node in autograd's graph, if there is one.

    What is viewed in `no_grad` may require a gradient, and be neither a leaf nor computed.
    """
    try:
        if not tensor.requires_grad:
            return None
        if tensor.grad_fn is None and tensor._is_view() and tensor._base.requires_grad:
            return None
        with torch.inference_mode(False):
            return get_gradient_edge(tensor).node
    except RuntimeError:  # a view from `no_grad` of what was written over meanwhile
        return None


def _tensors(value: Any, depth: int) -> Any:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters() if "_modules" in vars(value) else ()
    elif inspect.isgenerator(value) and value.gi_code.co_name in ("parameters", "named_parameters"):
        yield from _tensors(value.gi_frame.f_locals.get("self") if value.gi_frame else None, depth)
    elif isinstance(value, dict) and depth < MOST_DEPTH:
        for one in list(value.values()):
            yield from _tensors(one, depth + 1)
    elif isinstance(value, (list, tuple)) and depth < MOST_DEPTH:
        for one in value:
            yield from _tensors(one, depth + 1)
    elif isinstance(value, torch.distributions.Distribution):
        yield from _tensors(vars(value), depth + 1)


def _meet(chain: Chain, value: Any) -> None:
    if isinstance(value, torch.optim.Optimizer):
        for group in value.param_groups:
            _learning.update((id(one), one) for one in group["params"])
        return
    for one in _tensors(value, 0):
        if one.is_leaf and one.requires_grad and id(one) not in _made:
            _made[id(one)] = chain
            _kept.append(one)  # lest its id be given to another


_kept: list[Any] = []


def _hold(key: int, value: Any) -> None:
    if isinstance(value, (torch.Tensor, nn.Module)):
        for one in _tensors(value, 0):
            if one.is_leaf and one.requires_grad:
                _held.setdefault(key, {})[id(one)] = one


def _compare(edge: _Edge, now: Nodes) -> None:
    if edge.looks >= MOST_LOOKS:
        return
    latest: set[Any] = set()
    earlier: set[Any] = set()
    met = False
    for key in edge.before:
        if key not in _last:
            continue
        met = True
        held = _held.get(key)
        if held:  # one line may make several layers, and they may be frozen meanwhile
            latest.update(_node(one) for one in held.values() if one.requires_grad)
        else:
            latest.update(_last[key][-1])
            earlier.update(node for nodes in _last[key] for node in nodes)
    if not met:
        return
    edge.looks += 1
    if not latest:
        edge.still += 1
    elif _reaches(now, latest):
        edge.connected += 1
    elif _reaches(now, earlier):
        edge.late += 1
    elif edge.connected and not torch.is_grad_enabled():
        edge.connected += 1  # one line, in one turn with gradients and in another without
    elif edge.connected and any(
        not one.requires_grad for key in edge.before for one in _held.get(key, {}).values()
    ):
        edge.still += 1  # one line makes several layers, of which this one is frozen
    else:
        edge.apart += 1


def _reaches(roots: Nodes, wanted: set[Any]) -> bool:
    seen: set[Any] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node in wanted:
            return True
        if node not in seen:
            seen.add(node)
            waiting += [each for each, _ in node.next_functions if each is not None]
    return False


def _before_step(optimizer: Any, *_: object) -> None:
    for group in optimizer.param_groups:
        for one in group["params"]:
            _learning[id(one)] = one
            _best[id(one)] = max(_best.get(id(one), "none"), _state(one.grad), key=STATES.index)


def _state(gradient: torch.Tensor | None) -> str:
    if gradient is None:
        return "none"
    norm = (
        float(gradient.detach().to_dense().double().norm())
        if gradient.layout != torch.strided
        else float(gradient.detach().double().norm())
    )
    return ("nonzero" if norm else "zero") if math.isfinite(norm) else "nonfinite"
