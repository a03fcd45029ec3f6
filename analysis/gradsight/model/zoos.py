"""Models that libraries make: which calls give one, what calling it returns, and in which mode it is born.

Written by hand from the libraries' sources. What a model is made of stands nowhere: it is one module whose
parameters are known to be there, and that is all the analysis needs of it. What is not here is unknown.
"""

from __future__ import annotations

# ruff: noqa: SIM905 (tables of names read best as words)
import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class LibraryModel:
    """What a library's call makes.

    `output`: of its call, "logit" | "tensor" | "segmentation" (a dictionary of logits) | "fields" (an object
    with `loss` and `logits`) | "any".
    `mode`: the layer by which `train()` and `eval()` surely change what it computes: "BatchNorm" | "Dropout";
    "" where that is not sure.
    `trains`: whether it is made in training mode; what Hugging Face loads is not.
    """

    output: str
    mode: str = ""
    trains: bool = True


def library_model(name: str) -> LibraryModel | None:
    """What a canonical dotted name makes when it is called: `torchvision.models.resnet18`,
    `transformers.BertModel.from_pretrained`; None where that is not known to be a model."""
    return _library_model(name) if name.startswith(_TOPS) else None


SOME_MODEL = "torchvision.models.get_model"
"""What makes one of torchvision's models by a name that is not known."""

GETTERS = frozenset([SOME_MODEL, "timm.create_model", "timm.models.create_model"])
"""Functions that make the model whose name they are given."""

HEADS = frozenset("fc classifier head heads last_linear _fc linear".split())
"""What torchvision and timm call the part of a model that comes last."""

PLAIN = frozenset(
    """config device dtype default_cfg pretrained_cfg num_features num_classes in_features out_features
    in_channels out_channels embed_dim embedding_dim hidden_size name_or_path training kernel_size stride
    padding feature_info input_size head_hidden_size num_labels vocab_size""".split()
)
"""Attributes of library models and of their layers that are no modules."""


def by_name(model: str) -> str:
    """The `mode` of a model that timm or torchvision calls so."""
    return "BatchNorm" if _WITH_BATCH_NORM.match(model) else "Dropout" if _WITH_DROPOUT.match(model) else ""


_TOPS = ("torchvision.models.", "timm.", "transformers.", "segmentation_models_pytorch.",
         "monai.networks.nets.", "diffusers.", "efficientnet_pytorch.", "pretrainedmodels.")  # fmt: skip
_WITH_BATCH_NORM = re.compile(
    "(tv_)?(wide_)?(resnet|resnext|seresnet|densenet|mobilenet|efficientnet|tf_efficientnet|shufflenet|mnasnet"
    "|regnet|googlenet|inception|vgg\\d+_bn|resnest|xception|ecaresnet|skresnet)"
)
_WITH_DROPOUT = re.compile("(alexnet|vgg\\d+$|squeezenet)")
_CLASSIFIERS = re.compile(
    "(wide_)?(resnet|resnext|densenet|mobilenet_v|efficientnet_|shufflenet_v|squeezenet|alexnet|vgg|mnasnet"
    "|regnet_|convnext_|vit_|swin_|maxvit_)[\\w]*$"
)
_SEVERAL = re.compile("(googlenet|inception_v3)$")  # give auxiliary results beside while they are trained
_CLASSES = frozenset(
    """ResNet VGG DenseNet AlexNet SqueezeNet MobileNetV2 MobileNetV3 EfficientNet ShuffleNetV2 MNASNet RegNet
    ConvNeXt VisionTransformer SwinTransformer""".split()
)
_SEGMENTATION = re.compile("(fcn|deeplabv3|lraspp)_\\w+$")
_DETECTION = re.compile("(fasterrcnn|maskrcnn|keypointrcnn|retinanet|fcos|ssd|ssdlite)[0-9]*_\\w+$")
_VIDEO = re.compile("(r3d|mc3|r2plus1d|s3d|mvit|swin3d)(_\\w+)?$")
_TRANSFORMERS = re.compile(
    "(?!TF|Flax)[A-Z]\\w*(Model|PreTrainedModel|For[A-Z]\\w*|LMHeadModel|WithLMHead\\w*|DoubleHeadsModel)$"
)
_TEXT_MODELS = re.compile("(Bert|Roberta|DistilBert|Electra|Albert|XLMRoberta|Deberta|GPT2|T5|Bart|MPNet)")
_DIFFUSERS = re.compile("(UNet\\w+|Autoencoder\\w+|\\w+Transformer\\dDModel|VQModel|ControlNetModel)$")
_UNETS = frozenset("Unet UnetPlusPlus MAnet Linknet PSPNet DeepLabV3 DeepLabV3Plus".split())
_MASKERS = _UNETS | frozenset("FPN PAN UPerNet Segformer DPT".split())
_LOADERS = frozenset("from_pretrained from_config from_name".split())


@cache
def _library_model(name: str) -> LibraryModel | None:
    parts = name.split(".")
    top, last = parts[0], parts[-1]
    if name in GETTERS:
        return LibraryModel("tensor")
    if top == "torchvision":
        if "detection" in parts:
            return LibraryModel("any", "") if _DETECTION.match(last) else None
        if "segmentation" in parts:
            return LibraryModel("segmentation", "BatchNorm") if _SEGMENTATION.match(last) else None
        if "video" in parts:
            return LibraryModel("logit") if _VIDEO.match(last) else None
        if "quantization" in parts:
            return None
        if _SEVERAL.match(last):
            return LibraryModel("any", "BatchNorm")
        if last in _CLASSES:
            return LibraryModel("tensor")
        return LibraryModel("logit", by_name(last)) if _CLASSIFIERS.match(last) else None
    if top == "transformers":
        cls, loads = (parts[-2], True) if last in _LOADERS else (last, False)
        if not _TRANSFORMERS.match(cls) or "Trainer" in cls:
            return None
        mode = "Dropout" if _TEXT_MODELS.match(cls) else ""
        return LibraryModel("fields", mode, not loads or last == "from_config")
    if top == "diffusers":
        cls, loads = (parts[-2], True) if last == "from_pretrained" else (last, False)
        return LibraryModel("fields", "", not loads) if _DIFFUSERS.match(cls) else None
    if top == "segmentation_models_pytorch":
        if last not in _MASKERS and last != "create_model":
            return None
        return LibraryModel("logit", "BatchNorm" if last in _UNETS else "")
    if top == "monai":
        return (
            LibraryModel("any", "BatchNorm" if last.startswith("DenseNet") else "")
            if last[:1].isupper()
            else None
        )
    if top == "efficientnet_pytorch" and parts[-2] == "EfficientNet" and last in _LOADERS:
        return LibraryModel("logit", "BatchNorm")
    return None
