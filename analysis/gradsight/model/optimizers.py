"""Optimizers, schedulers, gradient scalers and data loaders, as far as the order of a training step needs
them."""

from __future__ import annotations

# ruff: noqa: SIM905 (tables of names read best as words)
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class OptimizerStub:
    """An optimizer's class.

    `params`: the name of the constructor's argument that holds the parameters; it is the first one in all of
    them.
    `closure`: `step` must be given a closure that zeroes, computes the loss and calls backward.
    `wraps`: the constructor takes another optimizer first, whose parameters it steps.
    """

    name: str
    params: str = "params"
    closure: bool = False
    wraps: bool = False


def optimizer(name: str) -> OptimizerStub | None:
    """The optimizer of a dotted name; None for anything else."""
    prefix, _, short = name.rpartition(".")
    if prefix.startswith("torch.optim"):
        # torch.optim.Adam and torch.optim.adam.Adam
        if short in TORCH and prefix.count(".") < 3:
            return OptimizerStub(name, closure=short == "LBFGS")
        if prefix in ("torch.optim.swa_utils",) or short in SCHEDULERS:
            return None
    if name in OTHERS:
        return OptimizerStub(name, wraps=name in WRAPPING)
    return None


TORCH = frozenset(
    """ASGD Adadelta Adafactor Adagrad Adam AdamW Adamax LBFGS Muon NAdam Optimizer RAdam RMSprop Rprop SGD
    SparseAdam""".split()
)

# Not torch's own; all of them take the parameters first.
OTHERS = frozenset(
    """transformers.AdamW transformers.optimization.AdamW transformers.Adafactor
    transformers.optimization.Adafactor bitsandbytes.optim.Adam8bit bitsandbytes.optim.AdamW8bit
    bitsandbytes.optim.AdamW bitsandbytes.optim.PagedAdamW8bit bitsandbytes.optim.Lion
    bitsandbytes.optim.SGD8bit apex.optimizers.FusedAdam apex.optimizers.FusedLAMB apex.optimizers.FusedSGD
    deepspeed.ops.adam.FusedAdam deepspeed.ops.adam.DeepSpeedCPUAdam lion_pytorch.Lion torch_optimizer.RAdam
    torch_optimizer.Lamb torch_optimizer.AdaBound torch_optimizer.Lookahead adabelief_pytorch.AdaBelief
    timm.optim.AdamP timm.optim.Lamb timm.optim.Lookahead timm.optim.RAdam timm.optim.NAdamW timm.optim.Adan
    timm.optim.create_optimizer_v2 prodigyopt.Prodigy dadaptation.DAdaptAdam schedulefree.AdamWScheduleFree
    schedulefree.SGDScheduleFree torch.distributed.optim.ZeroRedundancyOptimizer""".split()
)
WRAPPING = frozenset({"torch_optimizer.Lookahead", "timm.optim.Lookahead"})

SCHEDULERS = frozenset(
    """ChainedScheduler ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR
    LRScheduler LambdaLR LinearLR MultiStepLR MultiplicativeLR OneCycleLR PolynomialLR ReduceLROnPlateau
    SequentialLR StepLR _LRScheduler SWALR""".split()
)
"""Names in torch.optim.lr_scheduler (and torch.optim.swa_utils)."""

SCALERS = frozenset(
    """torch.amp.GradScaler torch.cuda.amp.GradScaler torch.cpu.amp.GradScaler
    torch.amp.grad_scaler.GradScaler torch.cuda.amp.grad_scaler.GradScaler
    torch.distributed.fsdp.sharded_grad_scaler.ShardedGradScaler""".split()
)
