"""What the tests of autograd's behaviour share: its two commonest errors, leaves and gradients."""

from __future__ import annotations

import torch
from torch import Tensor

E0 = "element 0 of tensors does not require grad and does not have a grad_fn"
SECOND = "Trying to backward through the graph a second time"


def leaf(*values: float) -> Tensor:
    """A one-dimensional tensor that learns."""
    return torch.tensor(values, requires_grad=True)


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    """The gradient of a scalar; the graph stays."""
    return torch.autograd.grad(loss, of, retain_graph=True)[0]
