"""What a run is remembered by: executions of bindings, cuts between them, gradients, living objects."""

from __future__ import annotations

from typing import Any

import torch

from .rewrite import Site

NoTorchFunction = torch._C.DisableTorchFunction


class Cut:
    """An operation that gave a value without the history of its input (or with a gradient of zero)."""

    __slots__ = (
        "counts",
        "dtype",
        "fed",
        "file",
        "integer",
        "op",
        "parents",
        "reason",
        "row",
        "shape",
        "zero",
    )

    def __init__(
        self, file: str, row: int, op: str, reason: str, parents: tuple[Node, ...], zero: bool = False
    ) -> None:
        self.file = file
        self.row = row
        self.op = op
        self.reason = reason
        self.parents = parents
        self.zero = zero
        # An index or a mask has no gradient, and none is needed: a cut counts only if its numbers enter a
        # value that a gradient is asked of, or if something learns by no other way (see `report`).
        self.counts = False
        self.integer = False
        self.fed = False
        self.shape: Any = None
        self.dtype: str | None = None


class Gradient:
    """What backward brought to one version of one tensor; shared by the bindings that hold it."""

    __slots__ = ("creator", "leaf", "nodes", "norm", "order", "version", "zero")

    def __init__(self, version: int, leaf: bool, creator: Node | None) -> None:
        self.version = version
        self.leaf = leaf
        self.creator = creator  # the binding that made a leaf: it shows the last gradient, others their own
        self.order = 0  # when it arrived
        self.norm: Any = None  # a number, or a tensor of one on the device until somebody reads it
        self.zero = False
        self.nodes: list[Node] = []

    def read(self) -> float | None:
        if isinstance(self.norm, torch.Tensor):
            with NoTorchFunction(), torch.no_grad():
                self.norm = float(self.norm.item())
            self.zero = self.norm == 0.0
        return None if self.norm is None else float(self.norm)


class Node:
    """One execution of one binding."""

    __slots__ = (
        "behind", "behind_zero", "consumers", "cuts", "depth", "dtype", "fed", "floating", "gradient", "leaf",
        "name", "parents", "requires_grad", "seen_events", "shape", "shown", "site", "tensor",
    )  # fmt: skip

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.name = name
        self.parents: tuple[Node, ...] = ()
        self.cuts: tuple[Cut, ...] = ()  # those that this value descends from, without a live way
        self.seen_events: tuple[Cut, ...] = ()  # those that happened while the value was computed
        self.gradient: Gradient | None = None
        self.requires_grad = False
        self.tensor = False
        self.leaf = False
        self.shown = False
        self.floating = False
        self.shape: tuple[int, ...] = ()
        self.dtype = ""
        self.fed = False
        self.behind: Cut | None = None
        self.behind_zero: Cut | None = None
        self.consumers: list[Node] = []
        self.depth = 0


class Fact:
    """What is known of one living object."""

    __slots__ = ("cuts", "gradient", "node", "ref")

    def __init__(self, ref: Any) -> None:
        self.ref = ref
        self.cuts: tuple[Cut, ...] = ()
        self.gradient: Gradient | None = None
        self.node: Node | None = None
