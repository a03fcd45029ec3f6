"""Canonical names: what users import under many paths, under the one path that the model knows."""

from __future__ import annotations

import functools

PREFIXES = (
    ("torch.nn.modules.loss.", "torch.nn."),
    ("torch.nn.modules.container.", "torch.nn."),
    ("torch.optim.lr_scheduler.", "torch.optim.lr_scheduler."),
    ("torch.cuda.amp.", "torch.cuda.amp."),
    ("torch.utils.data.dataloader.", "torch.utils.data."),
    ("torch.utils.data.dataset.", "torch.utils.data."),
    ("torch.autograd.variable.", "torch.autograd."),
    ("torch.autograd.grad_mode.", "torch."),
    ("torch.autograd.set_grad_enabled", "torch.set_grad_enabled"),
    ("torch.autograd.function.", "torch.autograd."),
    ("torch.nn.parameter.", "torch.nn."),
    ("torch.functional.", "torch."),
    ("torch.special.", "torch.special."),
)


@functools.lru_cache(8192)
def canonical(name: str) -> str:
    """`torch.nn.modules.linear.Linear` -> `torch.nn.Linear`; names of other libraries stay."""
    if name.startswith("torch.nn.modules.") and name.rpartition(".")[2][:1].isupper():
        return f"torch.nn.{name.rpartition('.')[2]}"
    for prefix, short in PREFIXES:
        if name.startswith(prefix):
            return short + name[len(prefix) :]
    if name.startswith("torch.optim.") and name.count(".") == 3 and name.rpartition(".")[2][:1].isupper():
        if not name.startswith(("torch.optim.lr_scheduler", "torch.optim.swa_utils")):
            return f"torch.optim.{name.rpartition('.')[2]}"
    return name
