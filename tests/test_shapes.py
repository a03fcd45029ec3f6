"""What is inferred of shapes and dtypes is what torch and numpy make of the same program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gradsight.engine import Engine
from gradsight.interpret.shapes import blown_up, broadcast, concatenated, flattened, viewed
from gradsight.text import Source
from gradsight.values import MANY, REST, SOME, Array, Shape, Tensor

HEAD = """\
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split
"""

# Each names what it binds; all of those must be right, and those behind the bar surely known.
PROGRAMS = {
    "factories | a b c d e f g h": """\
a = torch.randn(4, 3); b = torch.zeros((2, 5), dtype=torch.float64); c = torch.randint(0, 7, (6,))
d = torch.arange(10); e = torch.full((3,), 1); f = torch.zeros_like(c); g = torch.arange(0, 1, 0.25)
h = torch.linspace(0, 1, 9)
""",
    "literals | a b c d e f": """\
a = torch.tensor([0, 1, 1]); b = torch.tensor([[0.0, 1.0], [1.0, 2.0]]); c = torch.tensor([True, False])
d = torch.LongTensor([1, 2]); e = torch.Tensor([0, 1, 2]); f = torch.tensor([1, 2.5])
""",
    "casts | a b c d e f g": """\
y = torch.tensor([0, 1, 1])
a = y.float(); b = y.double(); c = b.long(); d = a.to(torch.int32); e = a.type(torch.float64); f = y.to("cpu")
g = torch.randn(3).type_as(b)
""",
    "arithmetic | a b c d e f g": """\
x, y, z = torch.randn(4, 1), torch.randn(4), torch.tensor([[1], [2], [3], [4]])
a = x - y; b = x * 2; c = z / 2; d = z + 1; e = (x > 0) & (y > 0); f = -x; g = z * 0.5 + x
""",
    "views | a b c d e f g h i j k l m": """\
x = torch.randn(4, 1, 6)
a = x.squeeze(1); b = x.view(-1, 3); c = x.flatten(1); d = x.permute(2, 0, 1); e = x.transpose(0, 2)
f = x.unsqueeze(-1); g = x.reshape(4, -1); h = x.view(x.size(0), -1); i = x.squeeze(); j = x.mean(dim=(1, 2))
k = x.sum(1, keepdim=True); l = a.t(); m = x.expand(4, 5, 6)
""",
    "indices | a b c d e f g h i": """\
x = torch.randn(10, 4, 3)
a = x[0]; b = x[:, 1]; c = x[..., 0]; d = x[2:5]; e = x[:, None]; f = x[:, -1, :]
g = x[torch.randperm(10)[:6]]
h = x[:-1, 1:]; i = x[0, 1, 2]
""",
    "together | a b c d": """\
x, y = torch.randn(3, 4), torch.randn(3, 4)
a = torch.stack([x, y]); b = torch.stack((x, y), dim=1); c = torch.cat([x, y]); d = torch.cat([x, y], dim=1)
""",
    "layers | a b c d e f g h": """\
images = torch.randn(2, 3, 16, 16)
a = nn.Conv2d(3, 8, 3, padding=1)(images); b = nn.MaxPool2d(2)(a); c = nn.AdaptiveAvgPool2d(1)(b)
d = nn.Flatten()(c); e = nn.Linear(8, 5)(d); f = nn.Conv2d(3, 4, 5, stride=2)(images)
g = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Dropout(0.1), nn.Linear(6, 1))(d)
h = F.linear(d, torch.randn(7, 8))
""",
    "recurrent | words vectors out h c last both": """\
words = torch.randint(0, 9, (5, 7))
vectors = nn.Embedding(9, 4)(words)
out, (h, c) = nn.LSTM(4, 6, 2, batch_first=True)(vectors)
last = h[-1]
both, _ = nn.GRU(4, 3, bidirectional=True)(vectors)
""",
    "numpy | a b c d e f g h i": """\
rng = np.random.default_rng(0)
a = rng.normal(size=(6, 2)); b = a.astype(np.float32); c = rng.integers(0, 3, size=6); d = np.zeros((2, 3))
e = (a[:, 0] > 0).astype(int); f = np.array([[1, 2], [3, 4]]); g = np.random.rand(5, 2); h = np.arange(4)
i = a @ np.ones(2)
""",
    "from numpy | a b c d": """\
x, y = np.random.randn(8, 3).astype("float32"), np.random.randint(0, 2, 8)
a = torch.from_numpy(x); b = torch.tensor(y); c = torch.FloatTensor(y)
d = torch.from_numpy(np.random.rand(8))
""",
    "loaders | x y z k v": """\
class Own(Dataset):
    def __init__(self, count):
        self.x = np.random.rand(count, 3).astype(np.float32)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return torch.tensor(self.x[i]), int(self.x[i].sum() > 1), float(self.x[i].sum())


table = TensorDataset(torch.randn(12, 4), torch.randint(0, 2, (12,)))
for x, y in DataLoader(table, batch_size=4):
    pass
part, rest = random_split(Own(10), [6, 4])
for z, k, v in DataLoader(Subset(part, [0, 1, 2, 3]), 2):
    pass
""",
    "modules of one's own | out": """\
class Net(nn.Module):
    def __init__(self, width, hidden=8):
        super().__init__()
        self.one, self.two = nn.Linear(width, hidden), nn.Linear(hidden, 1)

    def forward(self, x):
        x = torch.relu(self.one(x.view(x.shape[0], -1)))
        return self.two(x)


for batch, in DataLoader(TensorDataset(torch.randn(9, 2, 3)), batch_size=3):
    out = Net(6)(batch)
""",
}


@pytest.mark.parametrize("title", PROGRAMS)
def test_what_is_inferred_is_true(title: str) -> None:
    """Every shape and dtype that is claimed is the real one, and those that are named are claimed."""
    text = HEAD + PROGRAMS[title]
    torch.manual_seed(0)
    real: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "program.py", "exec"), real)
    known = inferred(text)
    for name, value in known.items():
        if isinstance(value, (Tensor, Array)) and isinstance(real.get(name), (torch.Tensor, np.ndarray)):
            shape, dtype = tuple(real[name].shape), str(real[name].dtype).removeprefix("torch.")
            assert fits(value.shape, shape), f"{name}: {value.shape}, but it is {shape}"
            assert value.exact in ("", dtype), f"{name}: {value.exact}, but it is {dtype}"
    for name in title.partition(" | ")[2].split():
        value = known[name]
        assert isinstance(value, (Tensor, Array)), name
        assert value.shape is not None, f"{name}: nothing is known of its shape"
        assert value.exact, f"{name}: nothing is known of its dtype"


def inferred(text: str) -> dict[str, Any]:
    engine = Engine()
    engine.analyze(Source("program.py", text))
    for _, root in engine._analyses["program.py"].roots:
        if root.program.kind == "module":
            return root.program.env
    raise AssertionError("no module was analysed")


def fits(claimed: Shape, real: tuple[int, ...]) -> bool:
    if claimed is None or (claimed and claimed[0] in (REST, SOME)):
        return True
    return len(claimed) == len(real) and all(
        dim is None or dim == size or (dim == MANY and size > 1)
        for dim, size in zip(claimed, real, strict=True)
    )


@pytest.mark.parametrize(
    ("function", "given", "wanted"),
    [
        (broadcast, ((4, 1), (4,)), (4, 4)),
        (broadcast, ((MANY, 1), (MANY,)), (MANY, MANY)),
        (broadcast, ((REST, 1), (4,)), (SOME,)),
        (blown_up, ((4, 1), (4,)), True),
        (blown_up, ((4, 1), (4, 1)), False),
        (blown_up, ((4, 1), (4, 3)), False),
        (blown_up, ((2, 1, 5, 5), (2, 5, 5)), True),
        (blown_up, ((None, 1), (MANY,)), False),
        (blown_up, ((1, 1), (4,)), False),
        (viewed, ((MANY, 6), (-1, 6), [False, False]), (MANY, 6)),
        (viewed, ((MANY, 2, 3), (MANY, -1), [True, False]), (MANY, 6)),
        (viewed, ((None, 6), (-1, 2), [False, False]), (None, 2)),
        (flattened, ((MANY, 2, 3), 1, -1), (MANY, 6)),
        (flattened, ((MANY, None), 0, -1), (MANY,)),
        (concatenated, ([(2, 3), (4, 3)], 0, False), (6, 3)),
        (concatenated, ([(2, 3)], 0, True), (None, 3)),
    ],
)
def test_shapes_of_shapes(function: Callable[..., object], given: tuple[object, ...], wanted: object) -> None:
    assert function(*given) == wanted
