"""What of the public packages is driven, and the drivers that are written around it.

A driver is ordinary training code in one of several styles: a script, a function, a trainer in a class, a
miniature Lightning. What it computes is the same in all.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

STYLES = ("script", "function", "trainer", "lightning")


@dataclass(frozen=True)
class Driven:
    """A class or a function of a package's file.

    `loss` is an expression over `model`, `x` and `y`, or the empty text: then the output should become `y`.
    A driven loss is given what a small linear model makes of `x`.
    """

    file: str
    title: str
    make: str  # the module, an expression
    x: str
    y: str = ""
    loss: str = ""
    output: str = "model(x)"
    criterion: str = ""  # the driven loss, an expression
    rate: float = 0.05

    def text(self, style: str) -> str:
        """The driver."""
        return _TEMPLATES[style](self)

    @property
    def target(self) -> str:
        """An expression."""
        return self.y or "torch.randn_like(model(inputs[0]).detach())"

    @property
    def value(self) -> str:
        """The loss, an expression over `model`, `x`, `y` and perhaps `criterion`."""
        return self.loss or "torch.nn.functional.mse_loss(output, y)"


def _script(driven: Driven) -> str:
    return f"""\
torch.manual_seed(0)
model = {driven.make}
{_criterion(driven)}inputs = [{driven.x} for _ in range(3)]
targets = [{driven.target} for _ in range(3)]
optimizer = torch.optim.SGD(model.parameters(), lr={driven.rate})
running = 0.0
for epoch in range(1):
    for i, (x, y) in enumerate(zip(inputs, targets)):
        optimizer.zero_grad()
        output = {driven.output}
        loss = {driven.value}
        loss.backward()
        optimizer.step()
        running += loss.item()
print("mean loss", running / len(inputs))
"""


def _function(driven: Driven) -> str:
    extra = ", criterion" if driven.criterion else ""
    return f"""\
def train_one_epoch(model, batches, optimizer{extra}, max_norm=0.2):
    losses = []
    model.train()
    for step, (x, y) in enumerate(batches):
        output = {driven.output}
        loss = {driven.value}
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def evaluate(model, batches{extra}):
    total = 0.0
    model.eval()
    with torch.no_grad():
        for x, y in batches:
            output = {driven.output}
            loss = {driven.value}
            total += loss.item()
    return total / len(batches)


def main():
    torch.manual_seed(0)
    model = {driven.make}
{textwrap.indent(_criterion(driven), "    ")}    inputs = [{driven.x} for _ in range(2)]
    batches = [(x, {driven.target}) for x in inputs]
    optimizer = torch.optim.SGD(model.parameters(), lr={driven.rate}, momentum=0.9)
    for epoch in range(2):
        train_loss = train_one_epoch(model, batches, optimizer{extra})
        valid_loss = evaluate(model, batches{extra})
        print(epoch, round(train_loss, 4), round(valid_loss, 4))


if __name__ == "__main__":
    main()
"""


def _trainer(driven: Driven) -> str:
    output = driven.output.replace("model", "self.model")
    value = driven.value.replace("criterion(", "self.criterion(")
    keep = "\n        self.criterion = criterion" if driven.criterion else ""
    extra = ", criterion" if driven.criterion else ""
    return f"""\
class Fitter:
    def __init__(self, model{extra}, lr={driven.rate}):
        self.model = model{keep}
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)
        self.history = []

    def compute_loss(self, x, y):
        output = {output}
        loss = {value}
        return loss

    def train_step(self, x, y):
        self.model.train()
        self.optimizer.zero_grad()
        loss = self.compute_loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def fit(self, inputs, targets, epochs=2):
        for epoch in range(epochs):
            for x, y in zip(inputs, targets):
                value = self.train_step(x, y)
                self.history.append(value)
        return self


torch.manual_seed(0)
model = {driven.make}
{_criterion(driven)}inputs = [{driven.x} for _ in range(2)]
targets = [{driven.target} for _ in range(2)]
fitter = Fitter(model{extra}).fit(inputs, targets)
"""


def _lightning(driven: Driven) -> str:
    keep = "\n        self.criterion = criterion" if driven.criterion else ""
    extra = ", criterion" if driven.criterion else ""
    output = re.sub(r"\bmodel\b", "self.net", driven.output.replace("model(x", "self(x"))
    value = driven.value.replace("criterion(", "self.criterion(")
    return f"""\
class LightningModule(torch.nn.Module):
    def log(self, name, value):
        self.logged = {{**getattr(self, "logged", {{}}), name: float(value)}}


class Trainer:
    def __init__(self, max_epochs):
        self.max_epochs = max_epochs

    def fit(self, module, batches):
        optimizer = module.configure_optimizers()
        for epoch in range(self.max_epochs):
            for batch_idx, batch in enumerate(batches):
                loss = module.training_step(batch, batch_idx)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


class Task(LightningModule):
    def __init__(self, net{extra}, lr={driven.rate}):
        super().__init__()
        self.net = net{keep}
        self.lr = lr

    def forward(self, *inputs):
        return self.net(*inputs)

    def training_step(self, batch, batch_idx):
        x, y = batch
        output = {output}
        loss = {value}
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


torch.manual_seed(0)
model = {driven.make}
{_criterion(driven)}inputs = [{driven.x} for _ in range(2)]
task = Task(model{extra})
trainer = Trainer(max_epochs=2)
trainer.fit(task, [(x, {driven.target}) for x in inputs])
"""


_TEMPLATES = {"script": _script, "function": _function, "trainer": _trainer, "lightning": _lightning}


def _criterion(driven: Driven) -> str:
    return f"criterion = {driven.criterion}\n" if driven.criterion else ""


def _layer(file: str, make: str, shape: str, **more: object) -> Driven:
    title = make.partition("(")[0].rpartition(".")[2]
    return Driven(file, title, make, f"torch.randn({shape})", **more)  # type: ignore[arg-type]


def _criterion_of(
    file: str, make: str, x: str, y: str, net: str, call: str = "criterion(output, y)"
) -> Driven:
    title = make.partition("(")[0].rpartition(".")[2]
    return Driven(file, title, net, x, y, loss=call, criterion=make)


_LAYERS = "timm/layers/"
_SEGMENT = "segmentation_models_pytorch/losses/"
_METRIC = "pytorch_metric_learning/losses/"
_GAN = "torchgan/losses/"
_IMAGE = "2, 8, 6, 6"
_RGB = "torch.randn(2, 3, 4, 4)"
_PIXELS = "torch.randint(0, 3, (2, 4, 4))"
_MASK = "torch.randint(0, 2, (2, 4, 4)).float()"
_MASKS = "torch.randint(0, 2, (2, 3, 4, 4)).float()"
_TO_3, _TO_1 = "torch.nn.Conv2d(3, 3, 1)", "torch.nn.Conv2d(3, 1, 1)"
_ROWS, _CLASSES, _LOGITS = "torch.randn(6, 5)", "torch.randint(0, 3, (6,))", "nn.Linear(5, 3)"
_MANY, _LABELS, _EMBED = "torch.randn(8, 5)", "torch.randint(0, 3, (8,))", "torch.nn.Linear(5, 4)"
_FLOW = "(output[0] ** 2).mean() - output[1].mean()"

DRIVEN: tuple[Driven, ...] = (
    _layer(_LAYERS + "attention.py", "Attention(8, num_heads=2, qkv_bias=True)", "2, 5, 8"),
    _layer(_LAYERS + "squeeze_excite.py", "SEModule(8, rd_channels=4, add_maxpool=True)", _IMAGE),
    _layer(_LAYERS + "squeeze_excite.py", "EffectiveSEModule(8)", _IMAGE),
    _layer(_LAYERS + "eca.py", "EcaModule(8, rd_ratio=0.25, use_mlp=True)", _IMAGE),
    _layer(_LAYERS + "eca.py", "CecaModule(8)", _IMAGE),
    _layer(_LAYERS + "global_context.py", "GlobalContext(8, fuse_add=True, rd_channels=4)", _IMAGE),
    _layer(_LAYERS + "gather_excite.py", "GatherExcite(8, rd_channels=4)", _IMAGE),
    _layer(_LAYERS + "lambda_layer.py", "LambdaLayer(8, feat_size=(6, 6), num_heads=2, dim_head=4)", _IMAGE),
    _layer(
        _LAYERS + "halo_attn.py", "HaloAttn(8, num_heads=2, dim_head=4, block_size=2, halo_size=1)", _IMAGE
    ),
    _layer(_LAYERS + "bottleneck_attn.py", "BottleneckAttn(8, feat_size=(6, 6), num_heads=2)", _IMAGE),
    _layer(_LAYERS + "mlp.py", "Mlp(8, 12)", "2, 5, 8"),
    _layer(_LAYERS + "mlp.py", "SwiGLU(8, 12, norm_layer=nn.LayerNorm)", "2, 5, 8"),
    _layer(_LAYERS + "mlp.py", "GluMlp(8, 12)", "2, 5, 8"),
    _layer(_LAYERS + "mlp.py", "ConvMlp(8, 12)", _IMAGE),
    _layer(_LAYERS + "mlp.py", "GlobalResponseNormMlp(8, 12)", "2, 5, 5, 8"),
    _layer(_LAYERS + "split_attn.py", "SplitAttn(8, rd_channels=4)", _IMAGE),
    _layer(
        _LAYERS + "attention_pool.py",
        "AttentionPoolLatent(8, num_heads=2, feat_size=5, pos_embed='abs')",
        "2, 5, 8",
    ),
    _layer(_LAYERS + "attention_pool2d.py", "AttentionPool2d(8, feat_size=6, num_heads=2)", _IMAGE),
    _layer(_LAYERS + "attention_pool2d.py", "RotAttentionPool2d(8, ref_feat_size=6, num_heads=2)", _IMAGE),
    _layer(_LAYERS + "attention2d.py", "MultiQueryAttention2d(8, num_heads=2)", _IMAGE),
    _layer(_LAYERS + "attention2d.py", "Attention2d(8, num_heads=2)", _IMAGE),
    _layer(_LAYERS + "evo_norm.py", "EvoNorm2dB0(8)", _IMAGE),
    _layer(_LAYERS + "evo_norm.py", "EvoNorm2dS0(8, groups=2)", _IMAGE),
    _layer(_LAYERS + "filter_response_norm.py", "FilterResponseNormTlu2d(8)", _IMAGE),
    _layer(_LAYERS + "grn.py", "GlobalResponseNorm(8)", "2, 5, 5, 8"),
    _layer(_LAYERS + "std_conv.py", "StdConv2d(8, 6, 3, padding=1)", _IMAGE),
    _layer(_LAYERS + "std_conv.py", "ScaledStdConv2d(8, 6, 3, padding=1)", _IMAGE),
    _layer(_LAYERS + "mixed_conv2d.py", "MixedConv2d(8, 8)", _IMAGE),
    _layer(
        _LAYERS + "pos_embed_rel.py", "RelPosMlp(window_size=(2, 2), num_heads=2, hidden_dim=8)", "2, 2, 4, 4"
    ),
    _layer(_LAYERS + "split_batchnorm.py", "SplitBatchNorm2d(8)", "4, 8, 3, 3"),
    _layer(
        _LAYERS + "adaptive_avgmax_pool.py",
        "nn.Sequential(nn.Conv2d(8, 6, 1), SelectAdaptivePool2d(pool_type='catavgmax', flatten=True))",
        _IMAGE,
    ),
    _layer(
        _LAYERS + "activations.py",
        "nn.Sequential(nn.Linear(8, 8), HardSwish(), nn.Linear(8, 8), Mish(), "
        "nn.Linear(8, 4), HardSigmoid())",
        "4, 8",
    ),
    _criterion_of("timm/loss/cross_entropy.py", "LabelSmoothingCrossEntropy()", _ROWS, _CLASSES, _LOGITS),
    _criterion_of(
        "timm/loss/cross_entropy.py",
        "SoftTargetCrossEntropy()",
        _ROWS,
        "torch.rand(6, 3).softmax(1)",
        _LOGITS,
    ),
    _criterion_of(
        "timm/loss/asymmetric_loss.py",
        "AsymmetricLossMultiLabel()",
        _ROWS,
        "torch.randint(0, 2, (6, 3)).float()",
        _LOGITS,
    ),
    _criterion_of("timm/loss/asymmetric_loss.py", "AsymmetricLossSingleLabel()", _ROWS, _CLASSES, _LOGITS),
    _criterion_of("timm/loss/binary_cross_entropy.py", "BinaryCrossEntropy()", _ROWS, _CLASSES, _LOGITS),
    _layer("torchgan/layers/residual.py", "ResidualBlock2d([8, 6, 8], [3, 3], paddings=[1, 1])", _IMAGE),
    _layer("torchgan/layers/selfattention.py", "SelfAttention2d(8)", _IMAGE),
    _layer("torchgan/layers/minibatchdiscrimination.py", "MinibatchDiscrimination1d(8, 4, 3)", "5, 8"),
    _layer("torchgan/layers/denseblock.py", "DenseBlock2d(2, 8, 4, BasicBlock2d, 3, padding=1)", _IMAGE),
    _criterion_of(
        _GAN + "functional.py",
        "least_squares_generator_loss",
        _ROWS,
        "torch.rand(6, 1)",
        "torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))",
        "criterion(output) + least_squares_discriminator_loss(output, y)",
    ),
    _criterion_of(
        _GAN + "functional.py",
        "minimax_generator_loss",
        _ROWS,
        "torch.rand(6, 1)",
        "torch.nn.Linear(5, 1)",
        "criterion(output, nonsaturating=False) + minimax_discriminator_loss(output, y)",
    ),
    _criterion_of(_SEGMENT + "dice.py", "DiceLoss('multiclass')", _RGB, _PIXELS, _TO_3),
    _criterion_of(_SEGMENT + "jaccard.py", "JaccardLoss('multiclass')", _RGB, _PIXELS, _TO_3),
    _criterion_of(_SEGMENT + "focal.py", "FocalLoss('multiclass')", _RGB, _PIXELS, _TO_3),
    _criterion_of(_SEGMENT + "lovasz.py", "LovaszLoss('multiclass')", _RGB, _PIXELS, _TO_3),
    _criterion_of(
        _SEGMENT + "lovasz.py", "_lovasz_hinge", _RGB, _MASK, _TO_1, "criterion(output.squeeze(1), y)"
    ),
    _criterion_of(
        _SEGMENT + "mcc.py",
        "MCCLoss()",
        _RGB,
        _MASK,
        "torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.Sigmoid())",
    ),
    _criterion_of(
        _SEGMENT + "soft_bce.py",
        "SoftBCEWithLogitsLoss(smooth_factor=0.1)",
        _RGB,
        "torch.randint(0, 2, (2, 1, 4, 4)).float()",
        _TO_1,
    ),
    _criterion_of(_SEGMENT + "soft_ce.py", "SoftCrossEntropyLoss(smooth_factor=0.1)", _RGB, _PIXELS, _TO_3),
    _criterion_of(
        _SEGMENT + "_functional.py",
        "soft_dice_score",
        _RGB,
        _MASKS,
        _TO_3,
        "1 - criterion(output.sigmoid(), y)",
    ),
    _criterion_of(_SEGMENT + "_functional.py", "focal_loss_with_logits", _RGB, _MASKS, _TO_3),
    _criterion_of(
        _SEGMENT + "_functional.py",
        "soft_tversky_score",
        _RGB,
        _MASKS,
        _TO_3,
        "1 - criterion(output.sigmoid(), y, alpha=0.3, beta=0.7)",
    ),
    _layer("normflows/flows/planar.py", "Planar((4,))", "6, 4", loss=_FLOW, y="torch.zeros(1)"),
    _layer("normflows/flows/radial.py", "Radial((4,))", "6, 4", loss=_FLOW, y="torch.zeros(1)"),
    _layer(
        "normflows/flows/affine/coupling.py",
        "MaskedAffineFlow(torch.tensor([1.0, 0.0, 1.0, 0.0]), nn.Linear(4, 4), nn.Linear(4, 4))",
        "6, 4",
        loss=_FLOW,
        y="torch.zeros(1)",
    ),
    _layer(
        "normflows/flows/affine/coupling.py", "AffineConstFlow((4,))", "6, 4", loss=_FLOW, y="torch.zeros(1)"
    ),
    _layer("normflows/flows/mixing.py", "InvertibleAffine(4)", "6, 4", loss=_FLOW, y="torch.zeros(1)"),
    _layer("normflows/nets/mlp.py", "MLP([4, 8, 4])", "6, 4"),
    _layer("normflows/nets/resnet.py", "ResidualNet(4, 4, 8)", "6, 4"),
    _layer("normflows/nets/made.py", "MADE(4, 8, num_blocks=1)", "6, 4"),
    _layer(
        "normflows/distributions/base.py",
        "DiagGaussian(4)",
        "6, 4",
        loss="-output.mean()",
        output="model.log_prob(x)",
        y="torch.zeros(1)",
    ),
    _layer(
        "normflows/distributions/base.py",
        "GaussianMixture(3, 4)",
        "6, 4",
        loss="-output.mean()",
        output="model.log_prob(x)",
        y="torch.zeros(1)",
    ),
    _layer(
        "snntorch/_neurons/leaky.py",
        "nn.Sequential(nn.Linear(4, 6), Leaky(beta=0.8, learn_beta=True))",
        "3, 4",
        output="model[1](model[0](x), torch.full((3, 6), 0.5))[1]",
        y="torch.randn(3, 6)",
    ),
    _layer(
        "byol_pytorch/byol_pytorch.py",
        "BYOL(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), "
        "nn.Flatten()), 8, hidden_layer=-1, projection_size=6, "
        "projection_hidden_size=8, augment_fn=nn.Identity(), "
        "augment_fn2=nn.Identity())",
        "4, 3, 8, 8",
        loss="output",
        y="torch.zeros(1)",
    ),
    _criterion_of(_METRIC + "ntxent_loss.py", "NTXentLoss()", _MANY, _LABELS, _EMBED),
    _criterion_of(_METRIC + "contrastive_loss.py", "ContrastiveLoss()", _MANY, _LABELS, _EMBED),
    _criterion_of(_METRIC + "proxy_anchor_loss.py", "ProxyAnchorLoss(3, 4)", _MANY, _LABELS, _EMBED),
)
