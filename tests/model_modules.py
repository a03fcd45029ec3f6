"""Instances of every public module of torch.nn, for asking torch what they own."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import nn

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "AdaptiveLogSoftmaxWithLoss": (4, 10, [3, 6]),
    "Bilinear": (3, 3, 2),
    "ChannelShuffle": (2,),
    "Fold": ((4, 4), 2),
    "FractionalMaxPool2d": (2, 3),
    "FractionalMaxPool3d": (2, 3),
    "GroupNorm": (2, 4),
    "LinearCrossEntropyLoss": (4, 3),
    "MultiheadAttention": (4, 2),
    "RNNBase": ("LSTM", 3, 2),
    "RNNCellBase": (3, 2, True, 4),
    "Sequential": (),
    "ModuleList": (),
    "ModuleDict": (),
    "ParameterList": (),
    "ParameterDict": (),
    "Transformer": (4, 2, 1, 1, 8),
    "TransformerDecoderLayer": (4, 2, 8),
    "TransformerEncoderLayer": (4, 2, 8),
    "Threshold": (0.1, 0.2),
    "Upsample": (None, 2),
    "Unflatten": (1, (2, 2)),
    "UpsamplingBilinear2d": ((4, 4),),
    "UpsamplingNearest2d": ((4, 4),),
    "LSTM": (3, 2),
    "GRU": (3, 2),
    "RNN": (3, 2),
}


def constructed(name: str) -> nn.Module | None:
    """An instance, or None where it needs what a processor does not have."""
    cls = getattr(nn, name)
    if name in ("TransformerEncoder", "TransformerDecoder"):
        layer = getattr(nn, name + "Layer")(4, 2, 8, batch_first=True)
        return cls(layer, 1)  # type: ignore[no-any-return]
    if name == "DataParallel":
        return cls(nn.Linear(2, 2))  # type: ignore[no-any-return]
    arguments = ARGUMENTS.get(name)
    if arguments is None:
        required = [
            p
            for p in list(inspect.signature(cls.__init__).parameters.values())[1:]
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        arguments = tuple(4 if "hidden" in p.name or "num_features" in p.name else 2 for p in required)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return cls(*arguments)  # type: ignore[no-any-return]
        except Exception as error:
            print(f"torch.nn.{name} cannot be made: {type(error).__name__}: {error}")
            return None
