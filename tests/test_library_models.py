"""Models that libraries make, and models that come from outside: what is said of programs that train them.

The libraries are not installed here; what is asserted follows from rules of autograd that the fixtures prove.
"""

from __future__ import annotations

import pytest
from gradsight.engine import Engine
from gradsight.text import Source

HEAD = """\
import torch
import torchvision
import timm
import segmentation_models_pytorch as smp
from torch import nn
import torch.nn.functional as F
from torchvision import models
from transformers import AutoModelForSequenceClassification, BertModel, get_linear_schedule_with_warmup
from peft import LoraConfig, get_peft_model

"""
LOOP = """\
criterion = nn.CrossEntropyLoss()
for images, labels in loader:
    optimizer.zero_grad()
    outputs = model(images)
    loss = criterion(outputs, labels)
    loss.backward()
    optimizer.step()
"""
NEVER_CLEARED = LOOP.replace("    optimizer.zero_grad()\n", "")
MADE = "torch.optim.SGD(model.parameters(), lr=0.1)"
OPTIMIZER = f"optimizer = {MADE}\n"
RESNET = "model = models.resnet18(weights='DEFAULT')\n"
BERT = "model = AutoModelForSequenceClassification.from_pretrained('bert-base-uncased', num_labels=2)\n"
TRAINED = """\
for batch in loader:
    outputs = model(**batch)
    loss = outputs.loss
    loss.backward()
    optimizer.step()
    scheduler.step()
"""
SCHEDULE = "scheduler = get_linear_schedule_with_warmup(optimizer, 0, 100)\n"
FROZEN = "for parameter in model.parameters():\n    parameter.requires_grad = False\n"
MEASURED = """\
correct = 0
with torch.no_grad():
    for images, labels in held_out:
        correct += (model(images).argmax(1) == labels).sum().item()
print(correct)
"""
TEACHER = """\
teacher = models.resnet50(weights="DEFAULT")
teacher.eval()
model = models.resnet18()
optimizer = torch.optim.Adam(model.parameters())
for images, labels in loader:
    with torch.no_grad():
        wanted = F.softmax(teacher(images), dim=1)
    optimizer.zero_grad()
    loss = F.kl_div(F.log_softmax(model(images), dim=1), wanted, reduction="batchmean")
    loss.backward()
    optimizer.step()
"""
INSIDE = """\
class Classifier(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.bert = BertModel.from_pretrained("bert-base-uncased")
        self.out = nn.Linear(self.bert.config.hidden_size, classes)

    def forward(self, ids):
        return self.out(self.bert(ids).pooler_output{end})


model = Classifier(3)
"""
EXTRACTOR = """\
backbone = models.resnet18(weights="DEFAULT")
backbone.fc = nn.Identity()
backbone.eval()
model = nn.Linear(512, 10)
optimizer = torch.optim.Adam(model.parameters())
for images, labels in loader:
    optimizer.zero_grad()
    with torch.no_grad():
        features = backbone(images)
    F.cross_entropy(model(features), labels).backward()
    optimizer.step()
"""
GROUPS = """\
groups = [
    {"params": [p for n, p in model.named_parameters() if "bias" not in n], "weight_decay": 0.01},
    {"params": [p for n, p in model.named_parameters() if "bias" in n], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=5e-5)
"""
DETECTION = """\
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
model = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights="DEFAULT")
model.roi_heads.box_predictor = FastRCNNPredictor(1024, 2)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.005)
model.train()
for images, targets in loader:
    losses = sum(loss for loss in model(images, targets).values())
    {clear}losses.backward()
    optimizer.step()
"""
TRAINER = """\
class Trainer:
    def __init__(self, model, loader, lr=1e-3):
        self.model = model
        self.loader = loader
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr)

    def train_step(self, x, y):
        loss = F.mse_loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def fit(self, epochs):
        for epoch in range(epochs):
            total = 0.0
            for x, y in self.loader:
                {clear}total += self.train_step(x, y)
            print(total)
"""
LAYERS = """\
from torch_geometric.nn import GCNConv


class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = GCNConv(16, 32)
        self.second = GCNConv(32, 7)

    def forward(self, data):
        return self.second(F.relu(self.first(data.x, data.edge_index)), data.edge_index)


model = Graph()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
{clear}"""
GIVEN = """\
def train(model, loader, epochs, lr=1e-3):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        for x, y in loader:
            {first}loss = F.mse_loss(model(x), y)
            loss.backward()
            {then}optimizer.step()
"""
WRONG = {
    "never cleared": (RESNET + OPTIMIZER + NEVER_CLEARED, "GS203", "loss.backward()"),
    "its head, never cleared": (
        RESNET + "model.fc = nn.Linear(model.fc.in_features, 2)\n"
        "optimizer = torch.optim.Adam(model.fc.parameters())\n" + NEVER_CLEARED,
        "GS203",
        "loss.backward()",
    ),
    "of a name that is not known, never cleared": (
        "model = models.__dict__[arguments.arch](weights=None)\n" + OPTIMIZER + NEVER_CLEARED,
        "GS203",
        "loss.backward()",
    ),
    "an attribute of that name, never cleared": (
        "model = getattr(models, arguments.arch)()\n" + OPTIMIZER + NEVER_CLEARED,
        "GS203",
        "loss.backward()",
    ),
    "timm, never cleared": (
        "model = timm.create_model('resnet18', num_classes=10)\n" + OPTIMIZER + NEVER_CLEARED,
        "GS203",
        "loss.backward()",
    ),
    "a language model, never cleared": (BERT + OPTIMIZER + SCHEDULE + TRAINED, "GS203", "loss.backward()"),
    "groups, never cleared": (BERT + GROUPS + SCHEDULE + TRAINED, "GS203", "loss.backward()"),
    "inside of a class, never cleared": (
        INSIDE.format(end="") + OPTIMIZER + NEVER_CLEARED,
        "GS203",
        "loss.backward()",
    ),
    "detection, never cleared": (DETECTION.format(clear=""), "GS203", "losses.backward()"),
    "one of several, never cleared": (
        "if arguments.small:\n    model = models.resnet18()\nelse:\n    model = models.vgg16()\n"
        + OPTIMIZER
        + NEVER_CLEARED,
        "GS203",
        "loss.backward()",
    ),
    "chosen parameters, never cleared": (
        "from mine import Net\nmodel = Net()\n"
        "optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)\n"
        + NEVER_CLEARED,
        "GS203",
        "loss.backward()",
    ),
    "layers of a library, never cleared": (
        LAYERS.format(clear="") + NEVER_CLEARED,
        "GS203",
        "loss.backward()",
    ),
    "a trainer of a model from outside": (TRAINER.format(clear=""), "GS203", "loss.backward()"),
    "a function of a model from outside": (GIVEN.format(first="", then=""), "GS203", "loss.backward()"),
    "of a class from elsewhere": (
        "from mine import Net\nmodel = Net(10).cuda()\n" + OPTIMIZER + NEVER_CLEARED,
        "GS203",
        "loss.backward()",
    ),
    "cleared before the step": (
        RESNET + OPTIMIZER + NEVER_CLEARED.replace("    optim", "    optimizer.zero_grad()\n    optim"),
        "GS204",
        "optimizer.zero_grad()",
    ),
    "cleared before the step, from outside": (
        GIVEN.format(first="", then="optimizer.zero_grad()\n            "),
        "GS204",
        "optimizer.zero_grad()",
    ),
    "a step before the backward pass": (
        RESNET + OPTIMIZER + LOOP.replace("    loss.backward()\n", "") + "    loss.backward()\n",
        "GS205",
        "optimizer.step()",
    ),
    "a head that is made too late": (
        RESNET + OPTIMIZER + "model.fc = nn.Linear(512, 10)\n" + LOOP,
        "GS211",
        MADE,
    ),
    "a head in a part that is made too late": (
        "model = models.vgg16()\n" + OPTIMIZER + "model.classifier[6] = nn.Linear(4096, 10)\n" + LOOP,
        "GS211",
        MADE,
    ),
    "frozen after its head was made": (
        RESNET + "model.fc = nn.Linear(512, 10)\n" + FROZEN + OPTIMIZER + LOOP,
        "GS207",
        "loss.backward()",
    ),
    "clipped too early": (
        RESNET
        + OPTIMIZER
        + LOOP.replace(
            "    loss.backward", "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    loss.backward"
        ),
        "GS213",
        "nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
    ),
    "a softmax head": (
        RESNET + "model.fc = nn.Sequential(nn.Linear(512, 10), nn.Softmax(dim=1))\n" + OPTIMIZER + LOOP,
        "GS302",
        "outputs",
    ),
    "logits into NLLLoss": (
        RESNET + OPTIMIZER + LOOP.replace("CrossEntropyLoss", "NLLLoss"),
        "GS303",
        "outputs",
    ),
    "masks that are activated": (
        "model = smp.Unet('resnet34', classes=1, activation='sigmoid')\n"
        + OPTIMIZER
        + LOOP.replace("CrossEntropyLoss", "BCEWithLogitsLoss"),
        "GS304",
        "outputs",
    ),
    "evaluation mode from the start": (RESNET + "model.eval()\n" + OPTIMIZER + LOOP, "GS601", "model.eval()"),
    "measured in training mode": (RESNET + OPTIMIZER + LOOP + MEASURED, "GS602", "model(images)"),
    "detached": (
        RESNET + OPTIMIZER + LOOP.replace("criterion(outputs", "criterion(outputs.detach()"),
        "GS102",
        "outputs.detach()",
    ),
    "a part that is detached": (
        INSIDE.format(end=".detach()") + OPTIMIZER + LOOP,
        "GS102",
        "self.bert(ids).pooler_output.detach()",
    ),
}
RIGHT = {
    "trained": RESNET + "model.fc = nn.Linear(model.fc.in_features, 10)\n" + OPTIMIZER + LOOP,
    "its head alone": RESNET
    + FROZEN
    + "model.fc = nn.Linear(512, 10)\noptimizer = torch.optim.Adam(model.fc.parameters())\n"
    + LOOP,
    "its head alone, the rest in evaluation mode": RESNET
    + FROZEN
    + "model.fc = nn.Linear(512, 10)\nmodel.eval()\noptimizer = torch.optim.Adam(model.fc.parameters())\n"
    + LOOP,
    "all frozen, a part thawed": RESNET
    + FROZEN
    + "for p in model.layer4.parameters():\n    p.requires_grad = True\n"
    + OPTIMIZER
    + LOOP,
    "all frozen, what a method gives thawed": "model = timm.create_model('resnet50d', num_classes=5)\n"
    + FROZEN
    + "for p in model.get_classifier().parameters():\n    p.requires_grad = True\n"
    + OPTIMIZER
    + LOOP,
    "a part frozen": "model = models.vgg16()\nmodel.features.requires_grad_(False)\n"
    "model.classifier[6] = nn.Linear(4096, 10)\n" + OPTIMIZER + LOOP,
    "children frozen": RESNET
    + "for child in list(model.children())[:-2]:\n    child.requires_grad_(False)\n"
    + OPTIMIZER
    + LOOP,
    "names frozen": RESNET
    + "for name, p in model.named_parameters():\n    if 'fc' not in name:\n        p.requires_grad = False\n"
    + OPTIMIZER
    + LOOP,
    "a parameter inside frozen": "from monai.networks.nets import TopologySearch\nmodel = TopologySearch()\n"
    "model.log_alpha.requires_grad = False\n" + OPTIMIZER + LOOP,
    "layers of batch norm kept": RESNET
    + "model.train()\nfor m in model.modules():\n    if isinstance(m, nn.BatchNorm2d):\n        m.eval()\n"
    + OPTIMIZER
    + LOOP,
    "measured in evaluation mode": RESNET + OPTIMIZER + LOOP + "model.eval()\n" + MEASURED,
    "a teacher": TEACHER,
    "features": EXTRACTOR,
    "a language model": BERT + OPTIMIZER + SCHEDULE + TRAINED + "    optimizer.zero_grad()\n",
    "adapters": BERT
    + FROZEN
    + "model = get_peft_model(model, LoraConfig(r=8))\n"
    + OPTIMIZER
    + SCHEDULE
    + TRAINED
    + "    model.zero_grad()\n",
    "detection": DETECTION.format(clear="optimizer.zero_grad()\n    "),
    "a trainer of a model from outside": TRAINER.format(clear="self.optimizer.zero_grad()\n                "),
    "a function of a model from outside": GIVEN.format(first="model.zero_grad()\n            ", then=""),
    "layers of a library": LAYERS.format(clear="") + LOOP,
    "cleared by a helper": RESNET
    + "from mine import clear\n"
    + OPTIMIZER
    + NEVER_CLEARED.replace("    outputs", "    clear(model)\n    outputs"),
    "cleared by a helper that is given the parameters": RESNET
    + "from mine import clear\n"
    + OPTIMIZER
    + NEVER_CLEARED.replace("    outputs", "    clear(model.parameters())\n    outputs"),
    "cleared by a method": "from mine import Net\nmodel = Net()\n"
    + OPTIMIZER
    + NEVER_CLEARED.replace("    outputs", "    model.reset()\n    outputs"),
    "trained by an engine": "from mine import Net, Engine\nmodel = Net()\n"
    + OPTIMIZER
    + "engine = Engine(model, optimizer)\n"
    + NEVER_CLEARED.replace("    outputs", "    engine.begin()\n    outputs"),
    "inside of a class": INSIDE.format(end="") + OPTIMIZER + LOOP,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_found(name: str) -> None:
    text, code, quoted = WRONG[name]
    source = Source("train.py", HEAD + text)
    found = Engine().analyze(source).findings
    assert [(one.code, source.slice(one.where)) for one in found] == [(code, quoted)]


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_is_said(name: str) -> None:
    found = Engine().analyze(Source("train.py", HEAD + RIGHT[name])).findings
    assert [(one.code, one.message) for one in found] == []
