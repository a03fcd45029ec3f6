"""What is made under `torch.inference_mode()` and then given to an operation that must keep it.

Such tensors are kept for no backward pass: an operation that records raises if it has to. Only operations are
named here of which that is known, for operands of which it is known; whatever copies first is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gradsight.domain import DEPENDING, Edge
from gradsight.graph import Place, There
from gradsight.queries import Queries

# Operations that keep one operand where the other requires a gradient.
KEEPING_OPERANDS = frozenset({
    "torch.nn.Linear", "torch.nn.Conv1d", "torch.nn.Conv2d", "torch.nn.Conv3d", "torch.nn.ConvTranspose2d",
    "torch.nn.LayerNorm", "torch.nn.functional.linear", "torch.nn.functional.conv2d", "torch.matmul",
    "torch.Tensor.matmul", "torch.mm", "torch.Tensor.mm", "torch.bmm", "torch.Tensor.bmm", "operator.matmul",
    "torch.mul", "torch.Tensor.mul", "operator.mul", "torch.div", "torch.Tensor.div", "operator.div",
    "torch.nn.MSELoss", "torch.nn.functional.mse_loss", "torch.nn.SmoothL1Loss",
    "torch.nn.functional.smooth_l1_loss", "torch.nn.KLDivLoss", "torch.nn.functional.kl_div",
})  # fmt: skip
# Operations whose result is the same storage, and as little to be kept.
VIEWS = frozenset({
    "torch.Tensor.detach", "torch.Tensor.data", "torch.Tensor.squeeze", "torch.squeeze",
    "torch.Tensor.unsqueeze", "torch.unsqueeze", "torch.Tensor.view", "torch.Tensor.permute",
    "torch.Tensor.transpose", "torch.Tensor.t", "module",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kept:
    """A tensor of inference mode that an operation has to keep."""

    made: int  # the node that made it
    block: int  # the block that it was made in
    where: Place  # the operation that keeps it


def kept_for_backward(q: Queries) -> Iterator[Kept]:
    """Every such operation on the way to a sink."""
    if not any("inference_mode" in q.text_of(place) for e in q.all("off") if (place := e.place("block"))):
        return
    tops = [top for sink in q.sinks for top in q.roots(sink)]
    for number in sorted({n for top in tops for n in q.feeding(top, DEPENDING)}):
        node = q.graph[number]
        if node.op not in KEEPING_OPERANDS or node.off or node.kind != "op" or node.place is None:
            continue
        operands = [i for i, edge in zip(node.inputs, node.edges, strict=False) if edge is Edge.LIVE]
        for operand in operands:
            made = made_by(q, operand)
            if made is None or not any(q.requires_gradient(i) for i in operands if i != operand):
                continue
            yield Kept(made, q.graph[made].block, seen_from(q.block(made), node.place))
            break


def made_by(q: Queries, number: int) -> int | None:
    """The operation under inference mode whose result, or a view of it, a value surely is."""
    while True:
        node = q.graph[number]
        if node.kind != "op" or not node.inputs:
            return None
        if node.op in VIEWS:
            number = node.inputs[0]
            continue
        block = q.block(number) if node.off else None
        return number if block is not None and "inference_mode" in q.text_of(block) else None


def seen_from(block: Place | None, place: Place) -> Place:
    """Where an operation is called, for whoever looks at the block."""
    if isinstance(place, There) and not (isinstance(block, There) and block.call is place.call):
        return place.call
    return place
