"""Names of libraries' functions, sorted by what the interpreter does with their calls."""

from __future__ import annotations

import sys

# What these return is never a tensor that requires gradient.
# Distributions with `has_rsample`, as torch 2.13 says.
REPARAMETRIZED = frozenset({
    "Beta", "Cauchy", "Chi2", "ContinuousBernoulli", "Dirichlet", "Exponential", "FisherSnedecor", "Gamma",
    "GeneralizedPareto", "HalfCauchy", "HalfNormal", "InverseGamma", "Kumaraswamy", "Laplace", "LogNormal",
    "LogisticNormal", "LowRankMultivariateNormal", "MultivariateNormal", "Normal",
    "OneHotCategoricalStraightThrough", "RelaxedBernoulli", "RelaxedOneHotCategorical", "StudentT", "Uniform",
    "Wishart",
})  # fmt: skip
PLAIN_LIBRARIES = frozenset(sys.stdlib_module_names) - {
    "copy", "functools", "itertools", "operator", "collections", "contextlib", "dataclasses", "typing",
    "math", "builtins", "multiprocessing",
    # These give back what they were given, or call it.
    "asyncio", "concurrent", "contextvars", "heapq", "importlib", "inspect", "marshal", "pickle", "queue",
    "runpy", "shelve", "threading", "types", "unittest", "weakref",
} | {
    "yaml", "pandas", "sklearn", "cv2", "PIL", "matplotlib", "wandb", "omegaconf", "hydra", "scipy",
    "skimage", "gym", "gymnasium", "tensorboardX", "seaborn", "absl", "h5py", "requests", "tokenizers",
    "nltk", "numpy.random", "tyro", "click", "fire", "rich", "loguru", "tensorboard", "mlflow", "comet_ml",
    "neptune", "visdom", "psutil", "boto3", "sacremoses", "sentencepiece", "spacy", "librosa", "soundfile",
    "albumentations", "imageio", "networkx", "torchsummary", "torchinfo", "thop", "fvcore", "tabulate",
    "colorama", "termcolor", "prettytable", "pycocotools", "evaluate", "sacrebleu", "rouge_score",
    "procgen", "minigrid", "ale_py", "pettingzoo", "supersuit", "envpool", "minari",
}  # fmt: skip

FACTORIES = {
    "zeros", "ones", "rand", "randn", "randint", "empty", "full", "eye", "arange", "linspace", "logspace",
    "randperm", "zeros_like", "ones_like", "rand_like", "randn_like", "empty_like", "full_like",
    "randint_like", "normal", "new_zeros", "new_ones", "new_full", "new_empty", "tril_indices",
    "triu_indices", "hann_window", "kaiser_window",
}  # fmt: skip

REWRAPS = {
    "tensor", "as_tensor", "FloatTensor", "DoubleTensor", "LongTensor", "HalfTensor", "IntTensor", "Tensor",
    "new_tensor", "asarray", "BoolTensor", "ByteTensor", "scalar_tensor",
}  # fmt: skip

INTEGER_FACTORIES = {
    "randint",
    "arange",
    "randperm",
    "LongTensor",
    "IntTensor",
    "ByteTensor",
    "tril_indices",
    "triu_indices",
}

# Functions of torch that give no tensor.
NO_TENSORS = (
    "torch.cuda.", "torch.backends.", "torch.accelerator.", "torch.nn.modules.utils.", "torch.version.",
    "stable_baselines3.common.", "torchvision.datasets.", "torchvision.utils.", "torchvision.io.",
    "torch.utils.cpp_extension.", "torch.set_", "torch.is_", "torch.get_", "torch.random.",
    "torch.multiprocessing.", "torch.profiler.", "torch.utils.tensorboard.",
    "torch.distributed.device_mesh.", "torch.distributed.checkpoint.", "torch.autograd.set_detect",
    "torch.mps.", "torch.autograd.profiler", "torch.onnx.", "torch.use_deterministic", "torch.utils.data.",
    "torch.optim.lr_scheduler.", "transformers.get_", "transformers.optimization.get_",
    "diffusers.optimization.get_", "timm.scheduler.",
)  # fmt: skip

NO_TENSOR_NAMES = {
    "torch.manual_seed", "torch.seed", "torch.initial_seed", "torch.device", "torch.save", "torch.Size",
    "torch.Generator", "torch.finfo", "torch.iinfo", "torch.autocast", "torch.compiled_with_cxx11_abi",
    "torch.numel", "torch.autograd.detect_anomaly", "torch.nn.utils.clip_grad_norm_",
    "torch.nn.utils.clip_grad_value_", "torch.nn.utils.clip_grad_norm", "builtins.slice", "builtins.dir",
    "builtins.chr", "builtins.bin", "builtins.hex", "builtins.bytes", "builtins.bytearray",
    "typing.TypeVar", "typing.NamedTuple",
}  # fmt: skip

MODULE_SELF = {
    "train", "eval", "to", "cuda", "cpu", "float", "half", "double", "bfloat16", "apply", "share_memory",
    "to_empty", "type", "requires_grad_", "compile", "xpu", "ipu",
}  # fmt: skip

PASS_THROUGH = {
    "tqdm.tqdm", "tqdm.auto.tqdm", "tqdm.notebook.tqdm", "tqdm.trange", "builtins.list", "builtins.tuple",
    "builtins.iter", "builtins.reversed", "builtins.sorted", "builtins.set", "copy.copy",
    "rich.progress.track", "typing.cast",
}  # fmt: skip

# Where predictions and labels are compared by code that is not seen.
METRICS = ("sklearn.metrics.", "torchmetrics.functional.")
METRIC = "metric"  # the operation of a node that stands for that

# Functions that drop values unless they are told not to: the argument that tells, its position, and that of
# the chance with its position.
DROPOUTS: dict[str, tuple[str, int, tuple[str, int]]] = {
    "torch.nn.functional.dropout": ("training", 2, ("p", 1)),
    "torch.nn.functional.dropout1d": ("training", 2, ("p", 1)),
    "torch.nn.functional.dropout2d": ("training", 2, ("p", 1)),
    "torch.nn.functional.dropout3d": ("training", 2, ("p", 1)),
    "torch.nn.functional.scaled_dot_product_attention": ("dropout_p", 4, ("dropout_p", 4)),
}

GRAD_OFF = {
    "torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad", "torch.autograd.grad_mode.no_grad",
    "torch.autograd.inference_mode",
}  # fmt: skip

GRAD_ON = {"torch.enable_grad", "torch.autograd.enable_grad", "torch.autograd.grad_mode.enable_grad"}

NEVER_A_TENSOR = {
    "size", "dim", "ndimension", "numel", "nelement", "element_size", "is_floating_point", "is_contiguous",
    "data_ptr", "get_device", "stride", "is_cuda", "storage", "untyped_storage", "register_hook",
    "retain_grad", "is_complex", "storage_offset", "register_post_accumulate_grad_hook",
}  # fmt: skip

# Methods that numpy arrays, modules or containers have too: on an unknown receiver the result stays unknown.
AMBIGUOUS = frozenset({
    "mean", "sum", "max", "min", "std", "var", "reshape", "view", "float", "double", "half", "to", "cpu",
    "cuda", "squeeze", "transpose", "permute", "flatten", "clip", "round", "copy", "prod", "cumsum", "sort",
    "repeat", "dot", "abs", "pow", "exp", "log", "type", "contiguous", "unsqueeze", "expand", "clone",
    "split", "chunk", "index_select", "mul", "add", "div", "sub", "item", "tolist", "numpy", "detach",
    "argmax", "argmin", "long", "int", "bool",
}) - {
    "item", "tolist", "numpy",
}  # fmt: skip

INDICES = frozenset({"index", "indices", "idx"})

RANDOM_FILLS = frozenset({
    "uniform_", "normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_",
    "trunc_normal_", "orthogonal_", "exponential_", "random_", "sparse_", "bernoulli_",
})  # fmt: skip
