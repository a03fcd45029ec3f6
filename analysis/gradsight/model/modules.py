"""The modules of torch.nn: what their call does, and whether they own parameters.

`catalogue.py` (generated) has every public module's constructor and what torch says of its parameters; the
roles, shapes and results are written here.
"""

from __future__ import annotations

# ruff: noqa: SIM905 (tables of names read best as words)
from dataclasses import dataclass, replace
from functools import cache

from gradsight.model.around import MODULES_AROUND
from gradsight.model.catalogue import MODULES
from gradsight.model.criteria import CriterionStub, criterion
from gradsight.model.operation import Operation, decode

Structure = tuple["str | Structure", ...]


@dataclass(frozen=True, slots=True, eq=False)
class ModuleStub:
    """A module's class.

    `owns_parameters`: True, False, or the name of the constructor argument that decides ("affine",
    "elementwise_affine"); `affine` says at which position it stands and what it is by default:
    `BatchNorm1d(4)` owns parameters, `InstanceNorm1d(4)` does not. `owns()` answers for both.
    `init`: the constructor's positional parameters, in order.
    `forward`: the call. Its first argument is "input"; the module's own parameters are not among its
    arguments.
    `structure`: the names of what comes back where that is not one tensor: `("output", ("h", "c"))`.
    `container`: holds modules (Sequential, ModuleList, ModuleDict) or parameters (ParameterList,
    ParameterDict);
    `calls`: and runs them in order when it is called itself.
    `mode`: the constructor argument that decides whether `train()` and `eval()` change what it computes (they
    do where it is neither 0 nor False), its position and its default; None where they never do.
    `out_features`: name and position of the constructor argument that is the size of the output's last
    dimension (or of dimension `channel_dim`), None where there is none.
    """

    name: str
    owns_parameters: bool | str
    affine: tuple[str, int, bool] | None
    init: tuple[str, ...]
    forward: Operation
    structure: Structure
    container: bool
    calls: bool
    criterion: CriterionStub | None
    mode: tuple[str, int, float | bool] | None
    out_features: tuple[str, int] | None
    channel_dim: int | None

    def owns(self, flag: bool | None = None) -> bool:
        """Whether an instance owns parameters; `flag` is the value of the argument that `affine` names, if
        given."""
        if self.affine is None:
            return bool(self.owns_parameters)
        return self.affine[2] if flag is None else flag

    @property
    def mode_dependent(self) -> bool:
        """Whether `train()` and `eval()` may change what it computes."""
        return self.mode is not None


def module(name: str) -> ModuleStub | None:
    """The module of a dotted name, `torch.nn.Linear`, `torch.nn.modules.linear.Linear` or one of a library
    around torch; None for anything else."""
    prefix, _, short = name.rpartition(".")
    if name in MODULES_AROUND:
        return _module_around(name)
    if prefix != "torch.nn" and not prefix.startswith("torch.nn.modules."):
        return None
    return _module(short)


CONTAINERS = frozenset("Container Sequential ModuleList ModuleDict ParameterList ParameterDict".split())

# Fields of the call by class, over `input | shape unknown`; see Operation.
_FORWARD: list[tuple[str, str]] = [
    ("input | role logit | shape linear | saves input", "Linear LazyLinear NonDynamicallyQuantizableLinear"),
    (
        "input | role logit | saves input",
        """Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d LazyConv1d LazyConv2d
        LazyConv3d LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d""",
    ),
    ("input1 input2 | role logit | saves input1 input2", "Bilinear"),
    ("input | edges input:none | saves input", "Embedding"),
    ("input offsets per_sample_weights | edges input:none offsets:none | saves input", "EmbeddingBag"),
    ("input | role probability | shape same | saves result", "Softmax Softmax2d Softmin Sigmoid"),
    ("input | role probability | shape same | saves input", "Hardsigmoid"),
    ("input | role log-probability | shape same | saves result", "LogSoftmax"),
    ("input | role log-probability | shape same | saves input", "LogSigmoid"),
    ("input | role keep | shape same", "Identity"),
    (
        "input | role keep | shape same | saves buffer",
        "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout",
    ),
    (
        "input | role keep | shape view",
        "Flatten Unflatten Unfold Fold PixelShuffle PixelUnshuffle ChannelShuffle",
    ),
    (
        "input | role keep | shape unknown",
        """ConstantPad1d ConstantPad2d
     ConstantPad3d ZeroPad1d ZeroPad2d ZeroPad3d""",
    ),
    (
        "input | role keep | saves input",
        """ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d
     ReplicationPad2d ReplicationPad3d""",
    ),
    ("input | role keep | saves buffer", "CircularPad1d CircularPad2d CircularPad3d"),
    ("input | role keep", "Upsample UpsamplingBilinear2d UpsamplingNearest2d"),
    (
        "input | role keep | saves input",
        "AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool2d AdaptiveAvgPool1d AdaptiveAvgPool3d",
    ),
    (
        "input | role keep | saves input buffer",
        """MaxPool1d MaxPool2d MaxPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
     AdaptiveMaxPool3d FractionalMaxPool2d FractionalMaxPool3d""",
    ),
    ("input indices | edges indices:none | saves indices", "MaxUnpool1d MaxUnpool2d MaxUnpool3d"),
    ("input | saves input result", "LPPool1d LPPool2d LPPool3d"),
    ("input | shape same | saves result", "ReLU Tanh ReLU6 Threshold"),
    (
        "input | shape same | saves input",
        "CELU ELU GELU Hardshrink Hardswish Hardtanh LeakyReLU Mish PReLU RReLU SELU SiLU Softplus "
        "Softshrink Softsign Tanhshrink",
    ),
    ("input | saves input", "GLU"),
    (
        "input | shape same | saves input",
        """BatchNorm1d BatchNorm2d BatchNorm3d LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d SyncBatchNorm
        InstanceNorm1d InstanceNorm2d InstanceNorm3d LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d
        LayerNorm RMSNorm GroupNorm LocalResponseNorm CrossMapLRN2d""",
    ),
    ("input hx | kind tensors | saves input hx", "LSTM GRU RNN LSTMCell RNNBase"),
    ("input hx | saves input hx", "GRUCell RNNCell RNNCellBase"),
    (
        "query key value key_padding_mask need_weights attn_mask "
        "| edges key_padding_mask:none attn_mask:none | kind tensors | saves query key value",
        "MultiheadAttention",
    ),
    (
        "src tgt src_mask tgt_mask memory_mask "
        "| edges src_mask:none tgt_mask:none memory_mask:none | saves src tgt",
        "Transformer",
    ),
    (
        "src mask src_key_padding_mask | edges mask:none src_key_padding_mask:none | shape same | saves src",
        "TransformerEncoder",
    ),
    (
        "src src_mask src_key_padding_mask "
        "| edges src_mask:none src_key_padding_mask:none | shape same | saves src",
        "TransformerEncoderLayer",
    ),
    (
        "tgt memory tgt_mask memory_mask | edges tgt_mask:none memory_mask:none tgt_key_padding_mask:none "
        "memory_key_padding_mask:none | shape same | saves tgt memory",
        "TransformerDecoder TransformerDecoderLayer",
    ),
    ("x1 x2 | saves x1 x2", "CosineSimilarity PairwiseDistance"),
    ("input target | edges target:none | kind tensors | saves input target", "AdaptiveLogSoftmaxWithLoss"),
]
_ROWS = {name: row for row, names in _FORWARD for name in names.split()}

_STRUCTURES: dict[str, Structure] = {
    "LSTM": ("output", ("h", "c")),
    "GRU": ("output", "h"),
    "RNN": ("output", "h"),
    "LSTMCell": ("h", "c"),
    "MultiheadAttention": ("output", "weights"),
    "AdaptiveLogSoftmaxWithLoss": ("output", "loss"),
}
# Constructor argument with the size of the output's last dimension, or of `_CHANNEL_DIM`.
_OUT = {
    "Linear": "out_features",
    "LazyLinear": "out_features",
    "Bilinear": "out_features",
    "Embedding": "embedding_dim",
    "EmbeddingBag": "embedding_dim",
    "LSTM": "hidden_size",
    "GRU": "hidden_size",
    "RNN": "hidden_size",
    "LSTMCell": "hidden_size",
    "GRUCell": "hidden_size",
    "RNNCell": "hidden_size",
    "MultiheadAttention": "embed_dim",
    **{
        f"{lazy}Conv{kind}{n}d": "out_channels"
        for lazy in ("", "Lazy")
        for kind in ("", "Transpose")
        for n in "123"
    },
}
# Constructors that take anything and hand it on.
_RECURRENT = {
    "LSTM": "input_size hidden_size num_layers bias batch_first dropout bidirectional proj_size",
    "GRU": "input_size hidden_size num_layers bias batch_first dropout bidirectional",
    "RNN": "input_size hidden_size num_layers nonlinearity bias batch_first dropout bidirectional",
}
_AFFINE = {
    "BatchNorm1d": "affine",
    "BatchNorm2d": "affine",
    "BatchNorm3d": "affine",
    "LazyBatchNorm1d": "affine",
    "LazyBatchNorm2d": "affine",
    "LazyBatchNorm3d": "affine",
    "SyncBatchNorm": "affine",
    "InstanceNorm1d": "affine",
    "InstanceNorm2d": "affine",
    "InstanceNorm3d": "affine",
    "LazyInstanceNorm1d": "affine",
    "LazyInstanceNorm2d": "affine",
    "LazyInstanceNorm3d": "affine",
    "GroupNorm": "affine",
    "LayerNorm": "elementwise_affine",
    "RMSNorm": "elementwise_affine",
}
# What decides whether a module's mode changes anything: a constructor argument, its position, its default.
_MODES: dict[str, tuple[str, int, float | bool]] = {
    **dict.fromkeys("Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout".split(),
                    ("p", 0, 0.5)),
    **{f"{lazy}BatchNorm{n}d": ("track_running_stats", 3 if lazy else 4, True)
       for lazy in ("", "Lazy") for n in "123"},
    **{f"{lazy}InstanceNorm{n}d": ("track_running_stats", 3 if lazy else 4, False)
       for lazy in ("", "Lazy") for n in "123"},
    "SyncBatchNorm": ("track_running_stats", 4, True),
    "RReLU": ("lower", 0, True),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), ("dropout", 5, 0.0)),
    "MultiheadAttention": ("dropout", 2, 0.0),
    "Transformer": ("dropout", 5, 0.1),
    "TransformerEncoderLayer": ("dropout", 3, 0.1),
    "TransformerDecoderLayer": ("dropout", 3, 0.1),
    "TransformerEncoder": ("encoder_layer", 0, True),
    "TransformerDecoder": ("decoder_layer", 0, True),
}  # fmt: skip


@cache
def _module_around(name: str) -> ModuleStub | None:
    owns, row = MODULES_AROUND[name]
    plain = _module("Identity")
    assert plain is not None
    return replace(plain, name=name, owns_parameters=owns, init=(), forward=decode(name, row))


@cache
def _module(short: str) -> ModuleStub | None:
    row = MODULES.get(short)
    if row is None:
        return None
    name = f"torch.nn.{short}"
    owns, _, arguments = row.partition(" | ")
    # `name=True` keeps a default that decides something
    init = tuple(argument.partition("=")[0] for argument in (arguments or _RECURRENT.get(short, "")).split())
    flag = _AFFINE.get(short)
    default = f"{flag}=True" in arguments.split()
    out = _OUT.get(short)
    loss = criterion(name)
    forward = _ROWS.get(short, "input | saves input")
    if loss is not None and short not in _ROWS:
        forward = " ".join(loss.params) + " | shape scalar | dtype float | saves input target"
        if loss.target and loss.target_wants in ("index", "sign") and not loss.soft_target:
            forward += f" | edges {loss.target}:none"
    return ModuleStub(
        name,
        flag or owns == "owns",
        (flag, init.index(flag), default) if flag else None,
        init,
        decode(name, forward),
        _STRUCTURES.get(short, ()),
        short in CONTAINERS,
        short == "Sequential",
        loss,
        _MODES.get(short),
        (out, init.index(out)) if out and out in init else None,
        1 if "Conv" in short else -1 if out else None,
    )
