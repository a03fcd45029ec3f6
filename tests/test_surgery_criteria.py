# ruff: noqa: E501 (programs stand on one line each)
from __future__ import annotations

import pytest
import torch
from gradsight.surgery import (
    another_criterion,
    as_buffer,
    as_parameter,
    cast_to,
    cross_entropy_for_nll,
    drop_softmax,
    exchanged,
    indices_for_one_hot,
    log_softmax_for,
    softmax_for,
    with_keyword,
    with_method,
)
from surgery_cases import Fixer, fix, gradients, place, refusal, run

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"

CHANGED: list[tuple[Fixer, str, str, str]] = [
    (drop_softmax, "p = F.softmax(z, dim=1)\n", "F.softmax(z, dim=1)", "p = z\n"),
    (drop_softmax, "p = torch.softmax(input=a + b, dim=1) * 2\n", "torch.softmax(input=a + b, dim=1)", "p = (a + b) * 2\n"),
    (drop_softmax, "p = z.softmax(1)\n", "z.softmax(1)", "p = z\n"),
    (drop_softmax, "p = self.fc(x).softmax(dim=-1)\n", "self.fc(x).softmax(dim=-1)", "p = self.fc(x)\n"),
    (drop_softmax, "def f(self, x):\n    return self.softmax(x)\n", "self.softmax(x)", "def f(self, x):\n    return x\n"),
    (drop_softmax, "def f(self, x):\n    return F.softmax(self.fc(x), dim=1)\n", "F.softmax(self.fc(x), dim=1)", "def f(self, x):\n    return self.fc(x)\n"),
    (drop_softmax, "def f(self, x):\n    x = self.fc(x)\n    x = F.softmax(x, dim=1)\n    return x\n", "F.softmax(x, dim=1)", "def f(self, x):\n    x = self.fc(x)\n    return x\n"),
    (drop_softmax, "p = nn.Softmax(dim=1)(z)\n", "nn.Softmax(dim=1)(z)", "p = z\n"),
    (drop_softmax, "loss = ce(nn.Softmax(dim=1)(z), y)\n", "nn.Softmax(dim=1)", "loss = ce(z, y)\n"),
    (drop_softmax, "m = nn.Sequential(nn.Linear(2, 3), nn.Softmax(dim=1))\n", "nn.Softmax(dim=1)", "m = nn.Sequential(nn.Linear(2, 3))\n"),
    (drop_softmax, "m = nn.Sequential(\n    nn.Linear(2, 3),  # head\n    nn.Softmax(dim=1),  # probabilities\n)\n", "nn.Softmax(dim=1)", "m = nn.Sequential(\n    nn.Linear(2, 3),  # head\n)\n"),
    (drop_softmax, "m = nn.Sequential(\n    nn.Linear(2, 3),  # head\n    nn.Softmax(dim=1)\n)\n", "nn.Softmax(dim=1)", "m = nn.Sequential(\n    nn.Linear(2, 3),  # head\n)\n"),
    (drop_softmax, "m = nn.Sequential(nn.Softmax(dim=1), nn.Linear(2, 3))\n", "nn.Softmax(dim=1)", "m = nn.Sequential(nn.Linear(2, 3))\n"),
    (drop_softmax, "layers = [nn.Linear(2, 3), nn.Softmax(dim=1)]\n", "nn.Softmax(dim=1)", "layers = [nn.Linear(2, 3)]\n"),
    (drop_softmax, "m = nn.Sequential(OrderedDict([('fc', nn.Linear(2, 3)), ('softmax', nn.Softmax(dim=1))]))\n", "nn.Softmax(dim=1)", "m = nn.Sequential(OrderedDict([('fc', nn.Linear(2, 3))]))\n"),
    (drop_softmax, "layers.append(nn.Softmax(dim=1))\nx = 1\n", "nn.Softmax(dim=1)", "x = 1\n"),
    (drop_softmax, "m.add_module('s', nn.Softmax(dim=1))\nx = 1\n", "nn.Softmax(dim=1)", "x = 1\n"),
    (drop_softmax, "self.softmax = nn.Softmax(dim=1)\n", "nn.Softmax(dim=1)", "self.softmax = nn.Identity()\n"),
    (log_softmax_for, "loss = F.nll_loss(F.softmax(z, dim=1), y)\n", "F.softmax(z, dim=1)", "loss = F.nll_loss(F.log_softmax(z, dim=1), y)\n"),
    (log_softmax_for, "p = z.softmax(1)\n", "z.softmax(1)", "p = z.log_softmax(1)\n"),
    (log_softmax_for, "p = torch.softmax(z, 1)\n", "torch.softmax(z, 1)", "p = torch.log_softmax(z, 1)\n"),
    (log_softmax_for, "self.s = nn.Softmax(dim=1)\n", "nn.Softmax(dim=1)", "self.s = nn.LogSoftmax(dim=1)\n"),
    (log_softmax_for, "p = nn.Softmax(dim=1)(z)\n", "nn.Softmax(dim=1)(z)", "p = nn.LogSoftmax(dim=1)(z)\n"),
    (log_softmax_for, "self.s = nn.Softmax(dim=1)\np = self.s(x)\n", "self.s(x)", "self.s = nn.LogSoftmax(dim=1)\np = self.s(x)\n"),
    (log_softmax_for, "loss = F.nll_loss(net(x), y)\n", "net(x)", "loss = F.nll_loss(F.log_softmax(net(x), dim=1), y)\n"),
    (log_softmax_for, "loss = F.nll_loss(a + b, y)\n", "a + b", "loss = F.nll_loss(F.log_softmax(a + b, dim=1), y)\n"),
    (cross_entropy_for_nll, "c = nn.NLLLoss(weight=w)\n", "nn.NLLLoss(weight=w)", "c = nn.CrossEntropyLoss(weight=w)\n"),
    (cross_entropy_for_nll, "l = F.nll_loss(z, y)\n", "F.nll_loss(z, y)", "l = F.cross_entropy(z, y)\n"),
    (indices_for_one_hot, "l = ce(z, F.one_hot(y, 3))\n", "F.one_hot(y, 3)", "l = ce(z, y)\n"),
    (indices_for_one_hot, "l = ce(z, F.one_hot(y - 1, 3).float())\n", "F.one_hot(y - 1, 3).float()", "l = ce(z, y - 1)\n"),
    (indices_for_one_hot, "l = ce(z, F.one_hot(y, 3).to(dev))\n", "F.one_hot(y, 3).to(dev)", "l = ce(z, y.to(dev))\n"),
    (indices_for_one_hot, "l = ce(z, F.one_hot(y, 3).permute(0, 3, 1, 2).float())\n", "F.one_hot(y, 3).permute(0, 3, 1, 2).float()", "l = ce(z, y)\n"),
    (indices_for_one_hot, "l = ce(z, torch.eye(3)[y])\n", "torch.eye(3)[y]", "l = ce(z, y)\n"),
    (indices_for_one_hot, "l = ce(z, torch.zeros(4, 3).scatter_(1, y.unsqueeze(1), 1))\n", "torch.zeros(4, 3).scatter_(1, y.unsqueeze(1), 1)", "l = ce(z, y)\n"),
    (indices_for_one_hot, "l = ce(z, (y[:, None] == torch.arange(3)).float())\n", "(y[:, None] == torch.arange(3)).float()", "l = ce(z, y)\n"),
    (indices_for_one_hot, "l = ce(z, t)\n", "t", "l = ce(z, t.argmax(dim=1))\n"),
    (indices_for_one_hot, "l = ce(z, t.long())\n", "t.long()", "l = ce(z, t.argmax(dim=1))\n"),
    (indices_for_one_hot, "l = ce(z, t[i])\n", "t[i]", "l = ce(z, t[i].argmax(dim=1))\n"),
    (indices_for_one_hot, "l = ce(z, 1 - t)\n", "1 - t", "l = ce(z, (1 - t).argmax(dim=1))\n"),
    (as_parameter, "self.w = torch.randn(3, 4, requires_grad=True)\n", "torch.randn(3, 4, requires_grad=True)", "self.w = nn.Parameter(torch.randn(3, 4))\n"),
    (as_parameter, "self.w = torch.randn(3, 4) * 0.1\n", "torch.randn(3, 4) * 0.1", "self.w = nn.Parameter(torch.randn(3, 4) * 0.1)\n"),
    (as_parameter, "self.w = torch.ones(3, requires_grad=True) * r\n", "torch.ones(3, requires_grad=True) * r", "self.w = nn.Parameter(torch.ones(3) * r)\n"),
    (as_parameter, "self.w = torch.randn(3).requires_grad_()\n", "torch.randn(3).requires_grad_()", "self.w = nn.Parameter(torch.randn(3))\n"),
    (as_parameter, "self.w = Variable(torch.randn(3), requires_grad=True)  # w\n", "Variable(torch.randn(3), requires_grad=True)", "self.w = nn.Parameter(torch.randn(3))  # w\n"),
    (as_parameter, "self.w = torch.randn(\n    3,\n    requires_grad=True,\n)\n", "torch.randn(\n    3,\n    requires_grad=True,\n)", "self.w = nn.Parameter(torch.randn(\n    3,\n))\n"),
    (as_buffer, "self.w = torch.randn(3, 4)\n", "torch.randn(3, 4)", 'self.register_buffer("w", torch.randn(3, 4))\n'),
    (as_buffer, "self.w = torch.randn(3, 4)  # fixed\n", "self.w = torch.randn(3, 4)", 'self.register_buffer("w", torch.randn(3, 4))  # fixed\n'),
    (as_buffer, "self.w: torch.Tensor = torch.randn(3, requires_grad=True)\n", "torch.randn(3, requires_grad=True)", 'self.register_buffer("w", torch.randn(3))\n'),
]  # fmt: skip


@pytest.mark.parametrize(("fixer", "text", "quoted", "after"), CHANGED)
def test_changes(fixer: Fixer, text: str, quoted: str, after: str) -> None:
    nth = 1 if fixer is indices_for_one_hot and quoted == "t" and text.startswith("t") else 0
    marked = HEAD + text
    head = marked.index(text)
    nth += marked[:head].count(quoted) if quoted in marked[:head] else 0
    assert fix(fixer, marked, quoted, nth=nth) == HEAD + after


@pytest.mark.parametrize(
    ("imports", "written"),
    [
        ("import torch\n", "torch.nn.Parameter"),
        ("from torch import nn\n", "nn.Parameter"),
        ("import torch.nn as nn\n", "nn.Parameter"),
        ("from torch.nn import Parameter\n", "Parameter"),
        ("from torch.nn.parameter import Parameter\nimport torch\n", "torch.nn.Parameter"),
    ],
)
def test_parameter_is_written_as_the_file_reaches_it(imports: str, written: str) -> None:
    text = f"{imports}self.w = randn(3)\n"
    assert fix(as_parameter, text, "randn(3)") == f"{imports}self.w = {written}(randn(3))\n"


DEFINED = [
    ("t = F.one_hot(y, 3).float()\nl = ce(z, t)\n", "t = F.one_hot(y, 3).float()", "l = ce(z, y)\n"),
    ("t = F.one_hot(y, 3).float()\nl = ce(z, t)\nprint(t)\n", "t = F.one_hot(y, 3).float()", "t = F.one_hot(y, 3).float()\nl = ce(z, y)\nprint(t)\n"),
    ("t = torch.zeros(4, 3)\nt.scatter_(1, y.view(-1, 1), 1)\nl = ce(z, t)\n", "t.scatter_(1, y.view(-1, 1), 1)", "l = ce(z, y)\n"),
    ("t = F.one_hot(y, 3)\ny = other(y)\nl = ce(z, t)\n", "t = F.one_hot(y, 3)", "t = F.one_hot(y, 3)\ny = other(y)\nl = ce(z, t.argmax(dim=1))\n"),
    ("t = make(y)\nl = ce(z, t)\n", "t = make(y)", "t = make(y)\nl = ce(z, t.argmax(dim=1))\n"),
    ("t = F.one_hot(y, 3)\nl = ce(z, t.float())\n", "t = F.one_hot(y, 3)", "l = ce(z, y)\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "definition", "after"), DEFINED)
def test_a_named_one_hot(text: str, definition: str, after: str) -> None:
    from gradsight.text import Source
    from surgery_cases import fixed, place

    start = text.index("ce(z, ") + 6
    quoted = text[start : text.index(")\n", start)]
    where = type(place(text, "l"))(start, start + len(quoted))
    answer = indices_for_one_hot(Source("program.py", text), where, place(text, definition))
    assert fixed(text, answer) == after


@pytest.mark.parametrize(
    ("fixer", "text"),
    [
        (drop_softmax, "p = z\n"),
        (drop_softmax, "p = z + 1\n"),
        (cross_entropy_for_nll, "p = f(z)\n"),
        (as_parameter, "p = [torch.randn(3)]\n"),
        (as_buffer, "p = torch.randn(3)\n"),
    ],
)
def test_refusals(fixer: Fixer, text: str) -> None:
    assert refusal(fixer, text, text[4:-1])


def test_the_logits_train_and_the_softmax_did_not() -> None:
    text = (
        "z = torch.tensor([[12.0, -12.0]], requires_grad=True)\ny = torch.tensor([1])\n"
        "loss = F.cross_entropy(F.softmax(z * 2, dim=1), y)\nloss.backward()\n"
    )
    before, after = run(text), run(fix(drop_softmax, text, "F.softmax(z * 2, dim=1)"))
    assert before["z"].grad.abs().sum() < 1e-6
    assert after["z"].grad.abs().sum() > 0.1


def test_log_probabilities_make_the_loss_positive() -> None:
    text = (
        "z = torch.randn(4, 3, requires_grad=True)\ny = torch.tensor([0, 1, 2, 0])\n"
        "loss = F.nll_loss(F.softmax(z, dim=1), y)\nloss.backward()\n"
    )
    before, after = run(text), run(fix(log_softmax_for, text, "F.softmax(z, dim=1)"))
    assert before["loss"] < 0 < after["loss"]
    assert torch.allclose(after["loss"], torch.nn.functional.cross_entropy(after["z"], after["y"]))


@pytest.mark.parametrize(
    "target",
    [
        "F.one_hot(y, 3).float()",
        "torch.eye(3)[y]",
        "torch.zeros(4, 3).scatter_(1, y.unsqueeze(1), 1)",
        "(y[:, None] == torch.arange(3)).float()",
        "dense",
    ],
)
def test_indices_give_the_same_loss_and_gradient(target: str) -> None:
    text = (
        "z = torch.randn(4, 3, requires_grad=True)\ny = torch.tensor([0, 1, 2, 0])\n"
        f"dense = F.one_hot(y, 3).float()\nloss = F.cross_entropy(z, {target})\nloss.backward()\n"
    )
    before = run(text)
    after = run(fix(indices_for_one_hot, text, target, nth=text.count(target) - 1))
    assert torch.allclose(before["loss"], after["loss"], rtol=1e-5)
    assert torch.allclose(before["z"].grad, after["z"].grad, atol=1e-6)


def test_a_parameter_is_owned_and_learns() -> None:
    text = (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.w = torch.randn(3, requires_grad=True)\n    def forward(self, x):\n        return x * self.w\n"
        "net = Net()\nout = net(torch.ones(3)).sum()\nout.backward()\nw = net.w\n"
    )
    before = run(text)
    after = run(fix(as_parameter, text, "torch.randn(3, requires_grad=True)"))
    kept = run(fix(as_buffer, text, "torch.randn(3, requires_grad=True)").replace("out.backward()", ""))
    assert torch.allclose(before["out"], after["out"])
    assert [name for name, _ in before["net"].named_parameters()] == []
    assert [name for name, _ in after["net"].named_parameters()] == ["w"]
    assert gradients(after, ["w"]) == [True]
    assert list(kept["net"].state_dict()) == ["w"]


GIVEN: list[tuple[Fixer, str, str, tuple[object, ...], str]] = [
    (cast_to, "loss = ce(z, y)\n", "y", ("long",), "loss = ce(z, y.long())\n"),
    (cast_to, "loss = ce(z, y.float())\n", "y.float()", ("long",), "loss = ce(z, y.long())\n"),
    (cast_to, "loss = ce(z, a > b)\n", "a > b", ("float",), "loss = ce(z, (a > b).float())\n"),
    (cast_to, "loss = ce(z, y.bool())\n", "y.bool()", ("float",), "loss = ce(z, y.bool().float())\n"),
    (
        cast_to,
        "loss = ce(input=z, target=y[0])\n",
        "y[0]",
        ("long",),
        "loss = ce(input=z, target=y[0].long())\n",
    ),
    (
        with_method,
        "loss = mse(net(x), y)\n",
        "net(x)",
        (".squeeze(1)",),
        "loss = mse(net(x).squeeze(1), y)\n",
    ),
    (
        with_method,
        "loss = mse(x @ w + b, y)\n",
        "x @ w + b",
        (".squeeze(1)",),
        "loss = mse((x @ w + b).squeeze(1), y)\n",
    ),
    (
        another_criterion,
        HEAD + "c = nn.BCELoss(reduction='sum')\n",
        "nn.BCELoss(reduction='sum')",
        ("BCEWithLogitsLoss",),
        HEAD + "c = nn.BCEWithLogitsLoss(reduction='sum')\n",
    ),
    (
        another_criterion,
        HEAD + "l = nn.BCELoss()(p, y)\n",
        "nn.BCELoss()(p, y)",
        ("BCEWithLogitsLoss",),
        HEAD + "l = nn.BCEWithLogitsLoss()(p, y)\n",
    ),
    (
        another_criterion,
        "from torch.nn import BCELoss\nc = BCELoss()\n",
        "BCELoss()",
        ("BCEWithLogitsLoss",),
        "import torch\nfrom torch.nn import BCELoss\nc = torch.nn.BCEWithLogitsLoss()\n",
    ),
    (
        with_keyword,
        "c = KLDivLoss()\n",
        "KLDivLoss()",
        ("log_target", "True"),
        "c = KLDivLoss(log_target=True)\n",
    ),
    (
        with_keyword,
        "l = kl_div(p, q,)\n",
        "kl_div(p, q,)",
        ("log_target", "True"),
        "l = kl_div(p, q, log_target=True,)\n",
    ),
    (
        softmax_for,
        HEAD + "l = kl(p, net(x) / 2)\n",
        "net(x) / 2",
        (),
        HEAD + "l = kl(p, F.softmax(net(x) / 2, dim=1))\n",
    ),
]


@pytest.mark.parametrize(("fixer", "text", "quoted", "more", "wanted"), GIVEN)
def test_what_a_loss_is_given(
    fixer: Fixer, text: str, quoted: str, more: tuple[object, ...], wanted: str
) -> None:
    assert fix(fixer, text, quoted, *more) == wanted


def test_arguments_are_exchanged() -> None:
    text = "loss = bce(y.float(), model(x)[:, 0])  # in sklearn's order\n"
    other = place(text, "model(x)[:, 0]")
    assert (
        fix(exchanged, text, "y.float()", other)
        == "loss = bce(model(x)[:, 0], y.float())  # in sklearn's order\n"
    )
    assert refusal(
        exchanged,
        "l = f(\n    a(\n        1),\n    b)\n",
        "a(\n        1)",
        place("l = f(\n    a(\n        1),\n    b)\n", "b"),
    )


def test_what_is_given_already_is_not_given_again() -> None:
    assert refusal(
        with_keyword, "c = KLDivLoss(log_target=False)\n", "KLDivLoss(log_target=False)", "log_target", "True"
    )
    assert refusal(
        another_criterion,
        HEAD + "c = nn.BCEWithLogitsLoss()\n",
        "nn.BCEWithLogitsLoss()",
        "BCEWithLogitsLoss",
    )
