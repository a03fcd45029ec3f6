"""A long training script as research code has them: encoders with long forwards, losses, loops, metrics.

It is written from one section's text, once for each stream of data, and it runs (`main()` trains every stream
for a step or two). Most of its statements stand on the way to some loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

STREAMS = ("image", "audio", "text", "depth", "pose", "touch", "radar", "sonar", "event", "graph")
GROUP = 4  # streams that one function trains

HEAD = '''\
"""Trains one encoder for each stream of data, jointly weighted."""

from __future__ import annotations

import math
import time

import torch
import torch.nn.functional as F
from torch import nn

WIDTH = 32
HEADS = 4
STEPS = 2
BATCH = 8


def seed_everything(seed):
    torch.manual_seed(seed)


def make_batch(channels, length=12, classes=6):
    features = torch.randn(BATCH, length, channels)
    target = torch.randint(0, classes, (BATCH,))
    quality = torch.rand(BATCH, 1)
    return features, target, quality


def cosine_schedule(step, steps):
    return 0.5 * (1.0 + math.cos(math.pi * step / max(1, steps)))

'''

SECTION = '''

class {N}Attention(nn.Module):
    """Scores every position of a {n} sequence against all others."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)

    def split(self, x):
        batch, length, width = x.shape
        return x.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, x, bias=None):
        batch, length, width = x.shape
        query = self.split(self.query(x)) * self.scale
        key = self.split(self.key(x))
        value = self.split(self.value(x))
        scores = query @ key.transpose(-2, -1)
        if bias is not None:
            scores = scores + bias
        weights = torch.softmax(scores, dim=-1)
        weights = self.dropout(weights)
        mixed = weights @ value
        mixed = mixed.transpose(1, 2).reshape(batch, length, width)
        return self.out(mixed)


class {N}Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attention = {N}Attention(width, heads)
        self.norm_in = nn.LayerNorm(width)
        self.norm_out = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x, bias=None):
        normed = self.norm_in(x)
        attended = self.attention(normed, bias)
        x = x + torch.sigmoid(self.gate) * attended
        hidden = self.widen(self.norm_out(x))
        hidden = F.gelu(hidden)
        return x + self.narrow(hidden)


class {N}Model(nn.Module):
    """Encodes {n} features, classifies them, and says how sure it is."""

    def __init__(self, channels, width=WIDTH, classes=6):
        super().__init__()
        self.embed = nn.Linear(channels, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, 12, width))
        self.first = {N}Block(width, HEADS)
        self.second = {N}Block(width, HEADS)
        self.third = {N}Block(width, HEADS)
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Linear(width, 1)
        self.smooth = nn.Conv1d(width, width, 3, padding=1)
        self.skip = nn.Linear(channels, width)
        self.mix = nn.Linear(2 * width, width)
        self.classify = nn.Linear(width, classes)
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width // 2))
        self.sureness = nn.Linear(width, 1)
        self.rebuild = nn.Linear(width, channels)

    def encode(self, features):
        skipped = self.skip(features)
        x = self.embed(features)
        x = x + self.position
        x = self.first(x)
        early = x.mean(dim=1)
        x = self.second(x)
        middle = x.mean(dim=1)
        x = self.third(x)
        late = x.mean(dim=1)
        x = self.norm(x)
        smoothed = self.smooth(x.transpose(1, 2))
        smoothed = smoothed.transpose(1, 2)
        smoothed = F.gelu(smoothed)
        x = x + 0.5 * smoothed
        x = self.mix(torch.cat([x, skipped], dim=-1))
        spread = x.std(dim=1)
        steady = torch.exp(-spread)
        levels = torch.stack([early, middle, late], dim=1)
        levels = levels * torch.softmax(levels.mean(dim=-1, keepdim=True), dim=1)
        level = levels.sum(dim=1)
        return x, level * steady

    def pooled(self, x, level):
        scores = self.pool(x).squeeze(-1)
        scores = scores - scores.logsumexp(dim=1, keepdim=True)
        weights = scores.exp().unsqueeze(-1)
        summary = (weights * x).sum(dim=1)
        centre = x.mean(dim=1)
        summary = summary + 0.1 * (summary - centre)
        return summary + 0.1 * level

    def forward(self, features):
        x, level = self.encode(features)
        summary = self.pooled(x, level)
        summary = F.dropout(summary, 0.1, self.training)
        logits = self.classify(summary)
        embedding = F.normalize(self.project(summary), dim=-1)
        sure = torch.sigmoid(self.sureness(summary))
        rebuilt = self.rebuild(x)
        peaks = x.max(dim=1).values
        troughs = x.min(dim=1).values
        contrast = peaks - troughs
        energy = contrast.pow(2).mean(dim=-1)
        tempered = logits / (1.0 + 0.1 * energy.unsqueeze(-1))
        return tempered, embedding, sure, rebuilt


def {n}_contrastive_loss(one, other, temperature=0.2):
    similarity = one @ other.t()
    similarity = similarity / temperature
    target = torch.arange(one.shape[0])
    forward = F.cross_entropy(similarity, target)
    backward = F.cross_entropy(similarity.t(), target)
    return 0.5 * (forward + backward)


def {n}_rebuilding_loss(rebuilt, features, quality):
    distance = (rebuilt - features).pow(2)
    distance = distance.mean(dim=-1)
    sharp = F.smooth_l1_loss(rebuilt, features, reduction="none").mean(dim=-1)
    blended = 0.7 * distance + 0.3 * sharp
    weighted = blended * quality
    slope = rebuilt[:, 1:] - rebuilt[:, :-1]
    wanted = features[:, 1:] - features[:, :-1]
    drift = (slope - wanted).abs().mean(dim=-1)
    return weighted.mean() + 0.1 * drift.mean()


def {n}_confidence_loss(sure, logits, target):
    with torch.no_grad():
        right = (logits.argmax(dim=1) == target).float().unsqueeze(1)
    error = F.binary_cross_entropy(sure, right)
    spread = (sure - sure.mean()).pow(2).mean()
    return error + 0.01 * spread


def {n}_accuracy(logits, target):
    with torch.no_grad():
        return (logits.argmax(dim=1) == target).float().mean().item()


def augment_{n}(features, strength=0.1):
    noise = strength * torch.randn_like(features)
    keep = (torch.rand(features.shape[:2]) > strength).float()
    shifted = torch.roll(features, shifts=1, dims=1)
    blended = (1.0 - strength) * features + strength * shifted
    return blended * keep.unsqueeze(-1) + noise


def train_{n}(channels={c}, steps=STEPS):
    model = {N}Model(channels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    history = []
    running = 0.0
    started = time.perf_counter()
    model.train()
    for step in range(steps):
        features, target, quality = make_batch(channels)
        rate = cosine_schedule(step, steps)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * rate
        one = augment_{n}(features)
        other = augment_{n}(features, 0.2)
        logits, embedding, sure, rebuilt = model(one)
        other_logits, other_embedding, other_sure, other_rebuilt = model(other)
        class_loss = F.cross_entropy(logits, target, label_smoothing=0.1)
        other_class_loss = F.cross_entropy(other_logits, target)
        contrastive = {n}_contrastive_loss(embedding, other_embedding)
        rebuilding = {n}_rebuilding_loss(rebuilt, features, quality)
        other_rebuilding = {n}_rebuilding_loss(other_rebuilt, features, quality)
        confidence = {n}_confidence_loss(sure, logits, target)
        other_confidence = {n}_confidence_loss(other_sure, other_logits, target)
        agreement = F.kl_div(
            F.log_softmax(logits, dim=-1),
            F.softmax(other_logits, dim=-1),
            reduction="batchmean",
        )
        entropy = -(F.softmax(logits, dim=-1) * F.log_softmax(logits, dim=-1)).sum(dim=-1).mean()
        decay = sum(weight.pow(2).sum() for weight in model.parameters())
        closeness = (embedding * other_embedding).sum(dim=-1).mean()
        calm = (sure - other_sure).abs().mean()
        both_classes = 0.5 * (class_loss + other_class_loss)
        both_rebuilding = 0.5 * (rebuilding + other_rebuilding)
        both_confidence = 0.5 * (confidence + other_confidence)
        loss = both_classes + 0.5 * contrastive
        loss = loss + 0.2 * both_rebuilding
        loss = loss + 0.1 * both_confidence
        loss = loss + 0.1 * agreement - 0.01 * entropy
        loss = loss + 0.05 * calm - 0.05 * closeness
        loss = loss + 1e-6 * decay
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running = 0.9 * running + 0.1 * loss.item()
        accuracy = {n}_accuracy(logits, target)
        history.append({{"loss": loss.item(), "accuracy": accuracy, "rate": rate}})
    elapsed = time.perf_counter() - started
    print(f"{n}: {{running:.3f}} after {{elapsed:.1f}} s")
    return model, history


@torch.no_grad()
def evaluate_{n}(model, channels={c}):
    model.eval()
    total = 0.0
    for _ in range(2):
        features, target, quality = make_batch(channels)
        logits, embedding, sure, rebuilt = model(features)
        total += {n}_accuracy(logits, target)
        total += rebuilt.std().item() * float(quality.mean())
    return total / 2
'''

LOST = """

def calibrate_{n}_{k}(model, features, target):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    logits = model(features)
    scaled = logits.detach() / 1.5
    loss = F.cross_entropy(scaled, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

FLIP = """

class SharedEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return torch.tanh(self.inner(x))


def train_shared(steps=1):
    encoder = SharedEncoder()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.01)
    x = torch.randn(BATCH, WIDTH)
    shared = encoder(x)
    loss = shared.mean()
{readers}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
READERS = (
    "part_{i} = shared * {k}.0 + x",
    "loss = loss + part_{i}.pow(2).mean()",
    "gap_{i} = (shared - part_{i}).abs().sum(dim=-1)",
    "loss = loss + 0.1 * gap_{i}.mean()",
)


@dataclass(frozen=True)
class TrainingScript:
    """The text, and the streams that it has a section for."""

    text: str
    streams: tuple[str, ...]

    def row(self, line: str) -> int:
        """The row of the first line that begins so, indentation apart."""
        return next(row for row, text in enumerate(self.text.split("\n")) if text.strip().startswith(line))


def training_script(lines: int = 1500, findings: int = 0, readers: int = 0, own: str = "") -> TrainingScript:
    """At least `lines` lines.

    With `findings`, so many losses that reach nothing; with `readers`, a function in which so many lines read
    one value. `own` is a part of its names, so that scripts differ.
    """
    streams: list[str] = []
    text = HEAD
    tail = ""
    for number in range(findings):
        tail += LOST.format(n=STREAMS[number % len(STREAMS)], k=number)
    if readers:
        body = (READERS[i % len(READERS)].format(i=i // len(READERS), k=i) for i in range(readers))
        tail += FLIP.format(readers="\n".join(f"    {line}" for line in body))
    for name in (name + own for name in _names()):
        if text.count("\n") + tail.count("\n") + 8 * len(streams) >= lines:
            break
        title = "".join(part.title() for part in name.split("_"))
        text += SECTION.format(n=name, N=title, c=8 + len(streams) % 3)
        streams.append(name)
    mains = ""
    groups = [streams[at : at + GROUP] for at in range(0, len(streams), GROUP)]
    for number, group in enumerate(groups):
        calls = "".join(f"    model, _ = train_{name}()\n    evaluate_{name}(model)\n" for name in group)
        mains += f"\n\ndef main_{number}():\n    seed_everything({number})\n{calls}"
    calls = "".join(f"    main_{number}()\n" for number in range(len(groups)))
    calls += "    train_shared()\n" if readers else ""
    main = f'{mains}\n\nif __name__ == "__main__":\n{calls}'
    return TrainingScript(text + tail + main, tuple(streams))


def _names() -> Iterator[str]:
    yield from STREAMS
    yield from (f"{one}_{other}" for one in STREAMS for other in STREAMS)
