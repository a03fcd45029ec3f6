"""Programs where a code point is no byte, a byte no UTF-16 unit, and a line no line of `str.splitlines`."""

from __future__ import annotations

ODD = """\
import torch

π, 模型 = 3.0, torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(模型.parameters(), lr=0.1)
名 = {"😀": 模型(torch.randn(8, 4)), "é": π}
损失 = (名["😀"], "\u2028", "👩\u200d🔬")[0].detach().mean()
损失.requires_grad_().backward()
optimizer.step()
"""

# Rows that `str.splitlines` would see and no editor does.
ENDS = """\
import torch

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
\f
title = "a\u2028b\u0085c\x1cd"  # e\x1df\u2029g
loss = model(torch.randn(8, 4)).detach().mean()
loss.requires_grad_().backward()
"""
