"""Runs inside a program and takes down, at each optimizer step, how much of autograd's graph is alive."""

from __future__ import annotations

import gc
from itertools import pairwise
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

MOST_STEPS = 12

_alive: list[int] = []


def grows() -> bool:
    """Whether it became more with every step but the first."""
    later = _alive[1:]
    return len(later) > 1 and all(a < b for a, b in pairwise(later))


def _count(*_: object) -> None:
    if len(_alive) >= MOST_STEPS:
        return
    waiting: list[Any] = [
        each.grad_fn
        for each in gc.get_objects()
        if isinstance(each, torch.Tensor) and each.grad_fn is not None
    ]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += [each for each, _ in node.next_functions if each is not None]
    _alive.append(len(seen))


register_optimizer_step_pre_hook(_count)
