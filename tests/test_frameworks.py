"""Code on frameworks that are not installed here: what the analysis says of it from their stubs alone.

These programs cannot be run here; what is asserted follows from rules of autograd that the fixtures prove.
"""

from __future__ import annotations

import pytest
from gradsight.engine import Engine
from gradsight.text import Source

TRANSFORMERS = """\
from transformers import AutoModelForSequenceClassification
import torch

model = AutoModelForSequenceClassification.from_pretrained("some/model")
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
for batch in train_dataloader:
    outputs = model(**batch)
    loss = outputs.loss{end}
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""
ACCELERATE = """\
import contextlib
import torch
from accelerate import Accelerator


def main(model, optimizer, loader):
    accelerator = Accelerator()
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch in loader:
        with {context}():
            outputs = model(**batch)
        accelerator.backward(outputs.loss)
        optimizer.step()
        optimizer.zero_grad()
"""
LIGHTNING = """\
import lightning as L
import torch
import torch.nn.functional as F


class Classifier(L.LightningModule):
    def __init__(self, hidden=64):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(10, hidden), torch.nn.Linear(hidden, 2))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits{end}, y)
        self.log("loss", loss.detach())
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())
"""
CACHE = """\
import torch


class CachedLoss(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, features, labels):
        with torch.no_grad():
            cached = self.model(features)
        cached = cached.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(cached, labels)
        loss.backward()
        return loss.detach().requires_grad_()
"""

NET = """\
import torch
from torch import nn
{imports}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        hidden = torch.relu(self.encoder(x))
        used = hidden{end}
        return self.head(used)

"""
# Of each framework: what it imports, and how it trains a Net.
TRAINED = {
    "accelerate": (
        "from accelerate import Accelerator",
        """\
def main(loader):
    accelerator = Accelerator()
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters())
    net, optimizer, loader = accelerator.prepare(net, optimizer, loader)
    for x, y in loader:
        optimizer.zero_grad()
        accelerator.backward(nn.functional.cross_entropy(net(x), y))
        accelerator.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
""",
    ),
    "fabric": (
        "import lightning as L",
        """\
fabric = L.Fabric()
net, optimizer = fabric.setup(*(lambda net: (net, torch.optim.SGD(net.parameters(), lr=0.1)))(Net()))
for x, y in fabric.setup_dataloaders(loader):
    loss = nn.functional.cross_entropy(net(x), y)
    optimizer.zero_grad()
    fabric.backward(loss)
    optimizer.step()
""",
    ),
    "deepspeed": (
        "import deepspeed",
        """\
net = Net()
engine, optimizer, _, _ = deepspeed.initialize(model=net, model_parameters=net.parameters(), config=config)
for x, y in loader:
    loss = nn.functional.cross_entropy(engine(x), y)
    engine.backward(loss)
    engine.step()
""",
    ),
    "distributed": (
        """\
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.distributed.fsdp import fully_shard""",
        """\
net = DDP(fully_shard(module=Net().cuda()), device_ids=[0])
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for x, y in loader:
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
""",
    ),
    "ignite": (
        "from ignite.engine import Engine",
        """\
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)


def update(engine, batch):
    x, y = batch
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()


Engine(update).run(loader)
""",
    ),
    "ignite, its own step": (
        "from ignite.engine import create_supervised_trainer",
        """\
net = Net()
trainer = create_supervised_trainer(net, torch.optim.SGD(net.parameters(), lr=0.1), nn.CrossEntropyLoss())
trainer.run(loader)
""",
    ),
    "skorch": (
        "from skorch import NeuralNetClassifier",
        "NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, lr=0.1).fit(x, y)\n",
    ),
    "fastai": (
        "from fastai.vision.all import *",
        "learn = Learner(dls, Net(), loss_func=nn.CrossEntropyLoss())\nlearn.fit_one_cycle(2)\n",
    ),
    "poutyne": (
        "import poutyne",
        "poutyne.Model(Net(), 'sgd', nn.CrossEntropyLoss()).fit(x, y)\n",
    ),
}
COMPUTE_LOSS = """\
import torch.nn.functional as F
from transformers import Trainer


class WeightedTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits{end}, inputs["labels"])
        return (loss, outputs) if return_outputs else loss
"""
HELD_BY_TRANSFORMERS = """\
from torch import nn
from transformers import Trainer


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, features, labels=None):
        hidden = self.encoder(features)
        used = hidden{end}
        logits = self.head(used)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
        return {{"loss": loss, "logits": logits}}


trainer = Trainer(model=Classifier(), args=arguments, train_dataset=data)
trainer.train()
"""
NEVER_CLEARED = """\
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

mesh = init_device_mesh("cuda", (2,))
model = parallelize_module(
    module=torch.nn.Sequential(torch.nn.Linear(10, 5)),
    device_mesh=mesh,
    parallelize_plan={{"0": ColwiseParallel()}},
)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.25)
for i in range(10):
    {clear}output = model(torch.rand(20, 10))
    output.sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize("name", TRAINED)
def test_what_trains_a_model_is_seen(name: str) -> None:
    """A cut that costs a layer its gradient is found in each framework, and without it nothing is said."""
    imports, trains = TRAINED[name]
    for end, wanted in ((".detach()", ["hidden.detach()"]), ("", []), (" * 1.0", [])):
        source = Source("train.py", NET.format(imports=imports, end=end) + trains)
        found = Engine().analyze(source).findings
        assert [source.slice(one.where) for one in found] == wanted, end
        assert {one.code for one in found} <= {"GS102"}
        assert {one.severity.value for one in found} <= {"warning"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (TRANSFORMERS.format(end=".detach()"), [("GS102", "outputs.loss.detach()", "error")]),
        (TRANSFORMERS.format(end=""), []),
        (ACCELERATE.format(context="torch.no_grad"), [("GS105", "model(**batch)", "error")]),
        (ACCELERATE.format(context="contextlib.nullcontext"), []),
        (LIGHTNING.format(end=".detach()"), [("GS102", "logits.detach()", "error")]),
        (LIGHTNING.format(end=""), []),
        (CACHE, []),
        (COMPUTE_LOSS.format(end=".detach()"), [("GS102", "outputs.logits.detach()", "error")]),
        (COMPUTE_LOSS.format(end=""), []),
        (HELD_BY_TRANSFORMERS.format(end=".detach()"), [("GS102", "hidden.detach()", "warning")]),
        (HELD_BY_TRANSFORMERS.format(end=""), []),
        (NEVER_CLEARED.format(clear=""), [("GS203", "output.sum().backward()", "warning")]),
        (NEVER_CLEARED.format(clear="optimizer.zero_grad()\n    "), []),
    ],
    ids=[
        "transformers",
        "transformers, right",
        "accelerate",
        "accelerate, right",
        "lightning",
        "lightning, right",
        "cache",
        "a trainer's own loss",
        "a trainer's own loss, right",
        "a model that gives its loss",
        "a model that gives its loss, right",
        "sharded, never cleared",
        "sharded, cleared",
    ],
)
def test_what_is_said(text: str, wanted: list[tuple[str, str, str]]) -> None:
    source = Source("train.py", text)
    found = Engine().analyze(source).findings
    assert [(one.code, source.slice(one.where), one.severity.value) for one in found] == wanted
