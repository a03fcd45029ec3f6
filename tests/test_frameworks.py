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
    ],
    ids=[
        "transformers",
        "transformers, right",
        "accelerate",
        "accelerate, right",
        "lightning",
        "lightning, right",
        "cache",
    ],
)
def test_what_is_said(text: str, wanted: list[tuple[str, str, str]]) -> None:
    source = Source("train.py", text)
    found = Engine().analyze(source).findings
    assert [(one.code, source.slice(one.where), one.severity.value) for one in found] == wanted
