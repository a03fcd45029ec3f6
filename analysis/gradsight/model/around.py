"""Libraries around torch: torchvision, timm, einops, and what wraps models, optimizers and loaders.

Written by hand from their documentation and sources, as none of them is installed where this is tested. Only
what is the same in all their releases of the last years stands here; what is not here is unknown.
"""

from __future__ import annotations

# ruff: noqa: SIM905 (tables of names read best as words)
from dataclasses import dataclass

# Functions: rows as in `operation.py`, by a prefix and the names under it.
_FUNCTIONS: list[tuple[str, str, str]] = [
    ("einops.", "tensors pattern | results tensor shapes | edges pattern:none", "pack"),
    ("einops.", "tensor shapes pattern | edges shapes:none pattern:none | kind tensors", "unpack"),
    (
        "torchvision.transforms.functional. torchvision.transforms.v2.functional.",
        "img | kind same",
        """adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation adjust_sharpness affine
        center_crop crop elastic_transform erase gaussian_blur horizontal_flip hflip normalize pad perspective
        resize resized_crop rgb_to_grayscale rotate vertical_flip vflip""",
    ),
    (
        "torchvision.ops. torchvision.ops.boxes.",
        "boxes scores idxs iou_threshold | other cut | dtype int | role index | cause argmax",
        "nms batched_nms",
    ),
    (
        "torchvision.ops. torchvision.ops.boxes.",
        "*boxes | saves boxes",
        """box_area box_convert box_iou clip_boxes_to_image complete_box_iou distance_box_iou
        generalized_box_iou""",
    ),
    (
        "torchvision.ops.",
        "input boxes *rest | saves input boxes",
        "deform_conv2d ps_roi_align ps_roi_pool roi_align roi_pool",
    ),
    (
        "torchvision.ops.",
        "inputs targets | saves inputs targets",
        """complete_box_iou_loss distance_box_iou_loss generalized_box_iou_loss sigmoid_focal_loss""",
    ),
    ("torchvision.ops. timm.layers. timm.models.layers.", "input | role keep | shape same", "drop_path"),
    ("torchvision.ops.", "input | role keep | shape same", "stochastic_depth drop_block2d drop_block3d"),
]
AROUND = {
    f"{prefix}{name}": row
    for prefixes, row, names in _FUNCTIONS
    for prefix in prefixes.split()
    for name in names.split()
}

# Modules: whether they own parameters, and their forward's row.
_MODULES: list[tuple[str, bool, str, str]] = [
    ("einops.layers.torch.", False, "input | kind same", "Rearrange Reduce"),
    ("einops.layers.torch.", True, "input | saves input", "EinMix"),
    (
        "torchvision.transforms. torchvision.transforms.v2.",
        False,
        "img | kind same",
        """AugMix AutoAugment CenterCrop ColorJitter Compose ConvertImageDtype ElasticTransform FiveCrop
        GaussianBlur GaussianNoise Grayscale Normalize PILToTensor Pad RandAugment RandomAdjustSharpness
        RandomAffine RandomApply RandomAutocontrast RandomChoice RandomCrop RandomEqualize RandomErasing
        RandomGrayscale RandomHorizontalFlip RandomInvert RandomOrder RandomPerspective RandomPosterize
        RandomResizedCrop RandomRotation RandomSolarize RandomVerticalFlip Resize ScaleJitter TenCrop
        ToDtype ToImage ToPILImage ToTensor TrivialAugmentWide""",
    ),
    (
        "timm.layers. timm.models.layers. torchvision.ops.",
        False,
        "input | role keep | shape same",
        "DropPath StochasticDepth DropBlock2d DropBlock3d",
    ),
    ("torchvision.ops.", False, "input boxes | saves input boxes", "RoIAlign RoIPool PSRoIAlign PSRoIPool"),
    ("torchvision.ops.", False, "input | saves input", "FrozenBatchNorm2d"),
    ("torchvision.ops. timm.layers.", True, "input | saves input", "SqueezeExcitation SqueezeExcite"),
    ("torchvision.ops.", True, "input | role logit | saves input", "MLP"),
    ("torchvision.ops.", True, "input | saves input", "Conv2dNormActivation Conv3dNormActivation"),
]
MODULES_AROUND = {
    f"{prefix}{name}": (owns, row)
    for prefixes, owns, row, names in _MODULES
    for prefix in prefixes.split()
    for name in names.split()
}

# What is called with a module, an optimizer or a loader, and gives it back, wrapped or changed: to gradients
# it is the same one.
WRAPPERS = frozenset(
    """torch.nn.DataParallel torch.nn.parallel.DistributedDataParallel torch.nn.parallel.DataParallel
    torch.nn.parallel.distributed.DistributedDataParallel
    torch.compile torch.jit.script torch.jit.trace torch.jit.ignore torch.jit.export torch.fx.symbolic_trace
    torch.nn.SyncBatchNorm.convert_sync_batchnorm
    torch.nn.utils.spectral_norm torch.nn.utils.weight_norm torch.nn.utils.parametrizations.spectral_norm
    torch.nn.utils.parametrizations.weight_norm torch.nn.utils.parametrizations.orthogonal
    torch.nn.utils.parametrize.register_parametrization torch.nn.utils.remove_spectral_norm
    torch.nn.utils.remove_weight_norm torch.nn.utils.prune.l1_unstructured
    torch.nn.utils.prune.random_unstructured torch.nn.utils.prune.ln_structured
    torch.nn.utils.prune.random_structured torch.nn.utils.prune.custom_from_mask
    torch.nn.utils.prune.identity torch.nn.utils.prune.remove
    torch.distributed.fsdp.FullyShardedDataParallel torch.distributed.fsdp.fully_shard
    torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel
    torch.distributed.fsdp.wrap.wrap torch.distributed._composable.fsdp.fully_shard
    torch.distributed._composable.replicate torch.distributed._composable.checkpoint
    torch.distributed.tensor.parallel.parallelize_module torch.distributed.tensor.distribute_module
    torch.distributed.algorithms._checkpoint.checkpoint_wrapper.checkpoint_wrapper
    apex.parallel.DistributedDataParallel apex.parallel.convert_syncbn_model
    fairscale.nn.FullyShardedDataParallel fairscale.nn.checkpoint_wrapper
    horovod.torch.DistributedOptimizer torch_xla.distributed.parallel_loader.MpDeviceLoader
    ignite.distributed.auto_model ignite.distributed.auto_optim ignite.distributed.auto_dataloader
    timm.utils.unwrap_model timm.utils.model.unwrap_model""".split()
)
WRAPPED = ("module", "model", "net", "root_module", "optimizer", "func", "obj", "loader")
"""Under which names a wrapper may be given what it wraps."""

ENGINE = "deepspeed.DeepSpeedEngine"
"""What `deepspeed.initialize` makes: called as the model, it differentiates, steps and clears by itself."""

LAUNCHER_RETURNS = frozenset(
    """prepare prepare_model prepare_optimizer prepare_data_loader prepare_scheduler setup setup_module
    setup_optimizers setup_dataloaders gather gather_for_metrics reduce unwrap_model all_gather all_reduce
    broadcast to_device""".split()
)
"""Methods of an Accelerator and of Fabric that give back what they are given."""


@dataclass(frozen=True, slots=True)
class TrainerStub:
    """What trains a model by itself.

    `model`, `criterion`, `optimizer`: under which names it is given these, with their positions; "" where it
    takes none, and then the model returns its loss. `trains`: the methods that train; empty: it trains what
    it is made with, as all that it is there for.
    """

    model: tuple[str, int]
    criterion: tuple[str, int]
    optimizer: tuple[str, int]
    trains: frozenset[str]


def _trainer(model: str, criterion: str, optimizer: str, trains: str) -> TrainerStub:
    def place(text: str) -> tuple[str, int]:
        name, _, position = text.partition(":")
        return name, int(position or -1)

    return TrainerStub(place(model), place(criterion), place(optimizer), frozenset(trains.split()))


_SKORCH = _trainer("module:0", "criterion:1", "", "fit partial_fit fit_loop")
_FASTAI = _trainer("model:1", "loss_func:2", "", "fit fit_one_cycle fine_tune fit_flat_cos fit_sgdr")
_IGNITE = _trainer("model:0", "loss_fn:2", "optimizer:1", "")
_POUTYNE = _trainer(
    "network:0", "loss_function:2", "optimizer:1", "fit fit_generator fit_dataset train_on_batch"
)
_HUGGING_FACE = _trainer("model:0", "", "", "train")
TRAINERS: dict[str, TrainerStub] = {
    "skorch.NeuralNet": _SKORCH,
    "skorch.NeuralNetClassifier": _SKORCH,
    "skorch.NeuralNetBinaryClassifier": _SKORCH,
    "skorch.NeuralNetRegressor": _SKORCH,
    "skorch.classifier.NeuralNetClassifier": _SKORCH,
    "skorch.regressor.NeuralNetRegressor": _SKORCH,
    "fastai.learner.Learner": _FASTAI,
    "fastai.basics.Learner": _FASTAI,
    "fastai.vision.all.Learner": _FASTAI,
    "fastai.text.all.Learner": _FASTAI,
    "fastai.tabular.all.Learner": _FASTAI,
    "ignite.engine.create_supervised_trainer": _IGNITE,
    "poutyne.Model": _POUTYNE,
    "transformers.Trainer": _HUGGING_FACE,
    "transformers.Seq2SeqTrainer": _HUGGING_FACE,
    "transformers.trainer.Trainer": _HUGGING_FACE,
}

STAR_NAMES: dict[str, dict[str, str]] = {
    "fastai": {
        "torch": "torch",
        "nn": "torch.nn",
        "F": "torch.nn.functional",
        "np": "numpy",
        "pd": "pandas",
        "plt": "matplotlib.pyplot",
        "Path": "pathlib.Path",
        "partial": "functools.partial",
        "Tensor": "torch.Tensor",
        "Learner": "fastai.learner.Learner",
    }
}
"""What `from LIBRARY.anything import *` binds beside the library's own names."""
