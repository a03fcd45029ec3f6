"""What an operation keeps of its operands for backward, so that writing over it raises there.

Names are the last parts of dotted names, as in `judgements.py`. Only what was seen to raise, on tensors and
whichever operand requires a gradient, stands here: tests/test_model_kept.py overwrites each. `saves` of a row
says whether backward may run twice; what it names may be a copy, or a size, and is no proof of this.
"""

from __future__ import annotations

# ruff: noqa: SIM905 (tables of names read best as words)

RESULT = frozenset(
    """exp sigmoid tanh sqrt rsqrt reciprocal relu expm1 tan softmax log_softmax softmin Softmax Softmax2d
    Softmin Sigmoid LogSoftmax ReLU Tanh RNNCell""".split()
)
INPUT = frozenset(
    """log log2 log10 log1p sin cos asin acos atan sinh cosh erf abs square lgamma digamma logit softplus gelu
    silu elu selu celu mish leaky_relu relu6 hardtanh hardsigmoid hardswish logsigmoid softsign softshrink
    threshold clamp clamp_min clamp_max clip var normalize layer_norm batch_norm group_norm instance_norm
    gather nan_to_num avg_pool2d max_pool2d nll_loss
    Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d BatchNorm1d BatchNorm2d BatchNorm3d
    LayerNorm GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d PReLU GELU SiLU ELU SELU CELU Mish
    LeakyReLU ReLU6 Hardtanh Hardsigmoid Hardswish LogSigmoid Softplus Softsign Softshrink MaxPool2d AvgPool2d
    NLLLoss Categorical""".split()
)
INPUT_AND_RESULT = frozenset("cumprod logsumexp prod norm std amax amin vector_norm logcumsumexp".split())
# Each operand where the other one requires a gradient.
OTHER = frozenset("mul matmul mm bmm mv dot linear".split())
# The divisor always, the dividend where the divisor requires a gradient.
DIVISION = frozenset("div truediv".split())
# Both operands, whichever requires a gradient.
BOTH = frozenset(
    """mse_loss smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits MSELoss
    SmoothL1Loss HuberLoss BCELoss BCEWithLogitsLoss maximum minimum atan2""".split()
)
# The same where they are given two tensors: with one they keep where they found the number.
BOTH_OF_TWO = frozenset("max min".split())
# The input where the module's own parameters require a gradient.
BY_PARAMETERS = frozenset("Linear LSTM GRU RNN LSTMCell GRUCell RNNCell".split())
# In place: what they leave in the tensor is what backward needs.
LEFT_IN_PLACE = frozenset(
    "exp sigmoid tanh sqrt rsqrt reciprocal relu expm1 tan elu leaky_relu ReLU ELU LeakyReLU".split()
)
# The base where the exponent is a number.
POWER = frozenset({"pow"})

# Layers that are one node for what they are given and one for that with their parameters.
RECURRENT = frozenset("LSTM GRU RNN".split())

# Operations whose result lies in the memory of their first operand, whatever that looks like, and that count
# together with it what is written there.
VIEWS = frozenset(
    """view view_as squeeze unsqueeze transpose permute swapaxes swapdims movedim moveaxis t expand expand_as
    narrow select diagonal T mT H mH real detach""".split()
)
