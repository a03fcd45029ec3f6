# ruff: noqa: E501 (programs stand on one line each)
from __future__ import annotations

import pytest
import torch
from gradsight.surgery import (
    drop_rounding,
    reduce_to_scalar,
    remove_statement,
    reopen_way,
    stack_for_rewrap,
    tensor_for_number,
    unwrap_method_call,
)
from gradsight.text import Source
from surgery_cases import fix, fixed, gradients, place, refusal, run

UNWRAPPED = [
    ("h = x.detach()\n", "x.detach()", "h = x\n"),
    ("h = x.data\n", "x.data", "h = x\n"),
    ("h = x.detach().clone()\n", "x.detach()", "h = x.clone()\n"),
    ("h = -x.detach() ** 2\n", "x.detach()", "h = -x ** 2\n"),
    ("h = (a + b).detach() * 2\n", "(a + b).detach()", "h = (a + b) * 2\n"),
    ("h = Variable(x.data) * 2\n", "x.data", "h = x * 2\n"),
    ("h = Variable(x.data)\n", "Variable(x.data)", "h = x\n"),
    ("h = Variable(a + b) * 2\n", "Variable(a + b)", "h = (a + b) * 2\n"),
    ("h = Variable(a + b)\n", "Variable(a + b)", "h = a + b\n"),
    ("h = torch.autograd.Variable(x.data, requires_grad=True)\n", "x.data", "h = x\n"),
    ("h = torch.detach(x)\n", "torch.detach(x)", "h = x\n"),
    ("h = f(x.detach(), y)  # kept\n", "x.detach()", "h = f(x, y)  # kept\n"),
    ("h = torch.tensor(x.detach())\n", "x.detach()", "h = x\n"),
    ("h = torch.tensor(x.data, device=dev)\n", "x.data", "h = x.to(dev)\n"),
    ("h = x.detach().requires_grad_()\n", "x.detach()", "h = x\n"),
    ("x = x.detach()\ny = x\n", "x.detach()", "y = x\n"),
    ("def f(x):\n    x = x.detach()\n", "x.detach()", "def f(x):\n    pass\n"),
    ("x.detach_()\ny = x\n", "x.detach_()", "y = x\n"),
    ("if c:\n    x.detach_()\ny = x\n", "x.detach_()", "if c:\n    pass\ny = x\n"),
    ("if c: x.detach_()\n", "x.detach_()", "if c: pass\n"),
    ("a = 1; x.detach_()\n", "x.detach_()", "a = 1\n"),
    ("x.detach_(); a = 1\n", "x.detach_()", "a = 1\n"),
    ("x.detach_()  # why\ny = x\n", "x.detach_()", "# why\ny = x\n"),
    ("h = x.detach_()\n", "x.detach_()", "h = x\n"),
    (
        "h = (net(x)  # logits\n     .detach())\n",
        "net(x)  # logits\n     .detach()",
        "h = (net(x)  # logits\n     )\n",
    ),
    ("h = net(x) \\\n    .detach()\n", "net(x) \\\n    .detach()", "h = net(x)\n"),
    ("h = net(\r\n\tx.detach(),\r\n)\r\n", "x.detach()", "h = net(\r\n\tx,\r\n)\r\n"),
    ("größe = 'ä'; h = größe + ñ.detach()  # é\n", "ñ.detach()", "größe = 'ä'; h = größe + ñ  # é\n"),
    ("if x.detach() > 0:\n    pass\n", "x.detach()", "if x > 0:\n    pass\n"),
    (
        "if a:\n    pass\nelif x.detach() > 0:  # b\n    pass\n",
        "x.detach()",
        "if a:\n    pass\nelif x > 0:  # b\n    pass\n",
    ),
    ("for a in x.detach():\n    pass\n", "x.detach()", "for a in x:\n    pass\n"),
    ("@f(x.detach())\ndef g(): pass\n", "x.detach()", "@f(x)\ndef g(): pass\n"),
    (
        "broken = (1,\ndef f(x):\n    return x.detach()\n",
        "x.detach()",
        "broken = (1,\ndef f(x):\n    return x\n",
    ),
    ("a = 'unclosed\nh = x.detach()\n", "x.detach()", "a = 'unclosed\nh = x\n"),
    ("y = f'{x.detach()}'\n", "x.detach()", "y = f'{x}'\n"),
    ("loss = x.detach()\nloss.requires_grad = True\nz = 1\n", "x.detach()", "loss = x\nz = 1\n"),
    ("loss = x.detach()\nloss.requires_grad_(True)\n", "x.detach()", "loss = x\n"),
    ("h = (await g()).detach()\n", "(await g()).detach()", "h = (await g())\n"),
    (
        "with open(p) as f, y.detach() as g:\n    pass\n",
        "y.detach()",
        "with open(p) as f, y as g:\n    pass\n",
    ),
]


@pytest.mark.parametrize(("text", "quoted", "after"), UNWRAPPED)
def test_unwrap_method_call(text: str, quoted: str, after: str) -> None:
    assert fix(unwrap_method_call, text, quoted) == after


def test_unwrap_refuses_what_is_no_cut() -> None:
    assert "x.view(2, 3)" in refusal(unwrap_method_call, "h = x.view(2, 3)\n", "x.view(2, 3)")


NUMBERS = [
    ("loss = loss.item()\n", "loss.item()", ""),
    ("total = a + loss.item() * 2\n", "loss.item()", "total = a + loss * 2\n"),
    ("total = float(loss)\n", "float(loss)", "total = loss\n"),
    ("total = float(a - b) * 2\n", "float(a - b)", "total = (a - b) * 2\n"),
    ("v = x.tolist()\n", "x.tolist()", "v = x\n"),
    ("v = math.exp(x.item())\n", "x.item()", "v = torch.exp(x)\n"),
    ("v = math.exp(-x.item() / 2)\n", "x.item()", "v = torch.exp(-x / 2)\n"),
    ("v = math.log(float(x))\n", "float(x)", "v = torch.log(x)\n"),
    ("v = math.log(float(x))\n", "math.log(float(x))", "v = torch.log(x)\n"),
    ("v = math.sqrt(x)\n", "math.sqrt(x)", "v = torch.sqrt(x)\n"),
    (
        "from math import log\nimport torch\nv = log(x.item())\n",
        "x.item()",
        "from math import log\nimport torch\nv = torch.log(x)\n",
    ),
    (
        "import math\nimport torch as th\nv = math.fabs(x)\n",
        "math.fabs(x)",
        "import math\nimport torch as th\nv = th.abs(x)\n",
    ),
    (
        "import math\nfrom torch import nn\nv = math.exp(x)\n",
        "math.exp(x)",
        "import math\nimport torch\nfrom torch import nn\nv = torch.exp(x)\n",
    ),
    ("l = torch.tensor(loss.item(), requires_grad=True)\n", "loss.item()", "l = loss\n"),
    ("l = float(loss.detach().cpu().item())\n", "float(loss.detach().cpu().item())", "l = loss\n"),
    ("l = float(math.exp(x.item()))\n", "x.item()", "l = torch.exp(x)\n"),
]


@pytest.mark.parametrize(("text", "quoted", "after"), NUMBERS)
def test_tensor_for_number(text: str, quoted: str, after: str) -> None:
    assert fix(tensor_for_number, text, quoted) == after


@pytest.mark.parametrize(
    ("text", "quoted", "reason"),
    [
        ("v = math.floor(x.item())\n", "x.item()", "math.floor"),
        ("v = math.log(x.item(), 2)\n", "x.item()", "math.log"),
        ("v = round(x.item())\n", "x.item()", "round"),
        ("v = x.view(2)\n", "x.view(2)", "x.view(2)"),
    ],
)
def test_tensor_for_number_refuses(text: str, quoted: str, reason: str) -> None:
    assert reason in refusal(tensor_for_number, text, quoted)


STACKED = [
    ("t = torch.tensor([a, b])\n", "torch.tensor([a, b])", "t = torch.stack([a, b])\n"),
    ("t = torch.tensor([a, b], requires_grad=True).sum()\n", "torch.tensor([a, b], requires_grad=True)", "t = torch.stack([a, b]).sum()\n"),
    ("t = torch.tensor((a, b), dtype=torch.float64)\n", "torch.tensor((a, b), dtype=torch.float64)", "t = torch.stack((a, b)).to(torch.float64)\n"),
    ("t = torch.tensor([a, b], device=d, dtype=e)\n", "torch.tensor([a, b], device=d, dtype=e)", "t = torch.stack([a, b]).to(d, e)\n"),
    ("t = torch.FloatTensor([a, b])\n", "torch.FloatTensor([a, b])", "t = torch.stack([a, b])\n"),
    ("t = torch.DoubleTensor([a, b])\n", "torch.DoubleTensor([a, b])", "t = torch.stack([a, b]).double()\n"),
    ("t = x.new_tensor([a, b])\n", "x.new_tensor([a, b])", "t = torch.stack([a, b])\n"),
    ("t = torch.tensor([a.item(), float(b)])\n", "torch.tensor([a.item(), float(b)])", "t = torch.stack([a, b])\n"),
    ("t = torch.tensor([a, 0.5])\n", "torch.tensor([a, 0.5])", "t = torch.stack([a, a.new_tensor(0.5)])\n"),
    ("t = torch.tensor([f(x), -1])\n", "torch.tensor([f(x), -1])", "t = torch.stack([f(x), torch.as_tensor(-1)])\n"),
    ("t = torch.tensor([[a, b], [c, d]])\n", "torch.tensor([[a, b], [c, d]])", "t = torch.stack([torch.stack([a, b]), torch.stack([c, d])])\n"),
    ("t = torch.tensor([f(v).item() for v in vs])\n", "torch.tensor([f(v).item() for v in vs])", "t = torch.stack([f(v) for v in vs])\n"),
    ("losses = []\nfor x in xs:\n    losses.append(f(x).item())\nt = torch.tensor(losses)\n", "torch.tensor(losses)", "losses = []\nfor x in xs:\n    losses.append(f(x))\nt = torch.stack(losses)\n"),
    ("losses = [a.item(), b.item()]\nt = torch.tensor(losses)\n", "torch.tensor(losses)", "losses = [a, b]\nt = torch.stack(losses)\n"),
    ("t = torch.tensor(list(d.values()))\n", "torch.tensor(list(d.values()))", "t = torch.stack(list(d.values()))\n"),
    ("t = torch.tensor(x)\n", "torch.tensor(x)", "t = x\n"),
    ("t = torch.tensor(a + b) * 2\n", "torch.tensor(a + b)", "t = (a + b) * 2\n"),
    ("t = torch.tensor(a + b, dtype=torch.float32)\n", "torch.tensor(a + b, dtype=torch.float32)", "t = (a + b).to(torch.float32)\n"),
    ("loss = torch.tensor(loss, requires_grad=True)\nloss.backward()\n", "torch.tensor(loss, requires_grad=True)", "loss.backward()\n"),
    ("loss = Variable(loss, requires_grad=True)\nloss.backward()\n", "Variable(loss, requires_grad=True)", "loss.backward()\n"),
    ("t = Variable(torch.tensor([a, b]), requires_grad=True)\n", "torch.tensor([a, b])", "t = torch.stack([a, b])\n"),
    ("t = torch.tensor([a, b])\nt.requires_grad = True\n", "torch.tensor([a, b])", "t = torch.stack([a, b])\n"),
    ("t = torch.tensor([a, b]).requires_grad_()\n", "torch.tensor([a, b])", "t = torch.stack([a, b])\n"),
    ("t = torch.tensor([\n    a,  # first\n    b,\n])\n", "torch.tensor([\n    a,  # first\n    b,\n])", "t = torch.stack([\n    a,  # first\n    b,\n])\n"),
    ("from torch import tensor\nt = tensor([a, b])\n", "tensor([a, b])", "import torch\nfrom torch import tensor\nt = torch.stack([a, b])\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "quoted", "after"), STACKED)
def test_stack_for_rewrap(text: str, quoted: str, after: str) -> None:
    assert fix(stack_for_rewrap, text, quoted) == after


@pytest.mark.parametrize(
    ("text", "quoted", "reason"),
    [
        ("t = torch.LongTensor([a, b])\n", "torch.LongTensor([a, b])", "LongTensor"),
        ("t = torch.tensor([a, b], dtype=torch.int64)\n", "torch.tensor([a, b], dtype=torch.int64)", "int64"),
        ("t = torch.tensor([*a, b])\n", "torch.tensor([*a, b])", "elements"),
        ("t = torch.tensor([1, 2.0])\n", "torch.tensor([1, 2.0])", "numbers"),
        (
            "t = torch.tensor([a, b], pin_memory=True)\n",
            "torch.tensor([a, b], pin_memory=True)",
            "pin_memory",
        ),
        ("t = f(x)\n", "f(x)", "no call"),
    ],
)
def test_stack_for_rewrap_refuses(text: str, quoted: str, reason: str) -> None:
    assert reason in refusal(stack_for_rewrap, text, quoted)


@pytest.mark.parametrize(
    ("text", "quoted", "after"),
    [
        ("loss.backward()\n", "loss.backward()", "loss.mean().backward()\n"),
        ("(a - b).backward()\n", "(a - b).backward()", "(a - b).mean().backward()\n"),
        ("accelerator.backward(a - b)\n", "accelerator.backward(a - b)", "accelerator.backward((a - b).mean())\n"),
        ("scaler.scale(loss).backward()\n", "scaler.scale(loss).backward()", "scaler.scale(loss.mean()).backward()\n"),
        ("loss.backward(retain_graph=True)\n", "loss.backward(retain_graph=True)", "loss.mean().backward(retain_graph=True)\n"),
    ],
)  # fmt: skip
def test_reduce_to_scalar(text: str, quoted: str, after: str) -> None:
    assert fix(reduce_to_scalar, text, quoted) == after


def test_reduce_refuses_a_given_gradient() -> None:
    text = "loss.backward(gradient=g)\n"
    assert "gradient" in refusal(reduce_to_scalar, text, text.strip())


@pytest.mark.parametrize(
    ("text", "quoted", "after"),
    [
        ("h = torch.round(p)\n", "torch.round(p)", "h = p\n"),
        ("h = torch.round(a + b) * 2\n", "torch.round(a + b)", "h = (a + b) * 2\n"),
        ("h = p.round()\n", "p.round()", "h = p\n"),
        ("h = p.long() * 2\n", "p.long()", "h = p * 2\n"),
        ("h = p.to(torch.int64)\n", "p.to(torch.int64)", "h = p\n"),
        ("h = torch.floor(p, )\n", "torch.floor(p, )", "h = p\n"),
    ],
)
def test_drop_rounding(text: str, quoted: str, after: str) -> None:
    assert fix(drop_rounding, text, quoted) == after


@pytest.mark.parametrize("text", ["x.argmax(dim=1)\n", "x > 0.5\n", "torch.argmax(x, 1)\n"])
def test_drop_rounding_refuses(text: str) -> None:
    assert refusal(drop_rounding, text, text.strip())


@pytest.mark.parametrize(
    ("text", "quoted", "after"),
    [
        ("a = 1\nb = 2\nc = 3\n", "b = 2", "a = 1\nc = 3\n"),
        ("class A:\n\tdef f(self):\n\t\tx = 1\n\n\ty = 2\n", "x = 1", "class A:\n\tdef f(self):\n\t\tpass\n\n\ty = 2\n"),
        ("def f():\n    '''x:'''\n    x = 1\n", "x = 1", "def f():\n    '''x:'''\n"),
        ("a = 1\r\nb = 2", "b = 2", "a = 1\r\n"),
    ],
)  # fmt: skip
def test_remove_statement(text: str, quoted: str, after: str) -> None:
    assert fix(remove_statement, text, quoted) == after


# Whole programs: `loss` keeps its value, `w` gets a gradient only afterwards.
PROVEN = [
    (unwrap_method_call, "h = (w * 2).detach()", "(w * 2).detach()", "loss = (h ** 2).sum() + free.sum()"),
    (unwrap_method_call, "h = Variable((w * 2).data)", "(w * 2).data", "loss = (h ** 2).sum() + free.sum()"),
    (unwrap_method_call, "h = w * 2\nh = h.clone()\nh.detach_()", "h.detach_()", "loss = h.sum() + free.sum()"),
    (tensor_for_number, "h = (w.sum()).item()", "(w.sum()).item()", "loss = h * free.sum()"),
    (tensor_for_number, "h = math.exp(w.sum().item())", "w.sum().item()", "loss = h * free.sum()"),
    (tensor_for_number, "h = math.exp(float(-w.sum()))", "float(-w.sum())", "loss = h * free.sum()"),
    (stack_for_rewrap, "a, b = w.sum(), w.prod()\nh = torch.tensor([a, b, 2.0])", "torch.tensor([a, b, 2.0])", "loss = h.sum() + free.sum()"),
    (stack_for_rewrap, "a = w.sum()\nh = torch.tensor(a * 2, dtype=torch.float64)", "torch.tensor(a * 2, dtype=torch.float64)", "loss = h + free.sum()"),
    (stack_for_rewrap, "hs = []\nfor v in w:\n    hs.append(v.exp().item())\nh = torch.FloatTensor(hs)", "torch.FloatTensor(hs)", "loss = h.mean() + free.sum()"),
]  # fmt: skip


@pytest.mark.parametrize(("fixer", "lines", "quoted", "loss"), PROVEN)
def test_gradient_flows_afterwards(fixer, lines: str, quoted: str, loss: str) -> None:
    text = (
        "w = torch.randn(3, requires_grad=True)\nfree = torch.randn(3, requires_grad=True)\n"
        f"{lines}\n{loss}\nloss.backward()\n"
    )
    before = run(text)
    after = run(fix(fixer, text, quoted))
    assert torch.allclose(before["loss"], after["loss"], rtol=1e-5, atol=1e-6)
    assert gradients(before, ["w", "free"]) == [False, True]
    assert gradients(after, ["w", "free"]) == [True, True]


def test_all_cuts_of_a_way_at_once() -> None:
    text = (
        "w = torch.randn(3, requires_grad=True)\nh = (w * 2).detach()\na = h.sum()\nb = h.prod().item()\n"
        "loss = torch.tensor([a, b])\nloss = Variable(loss, requires_grad=True)\nloss = loss.sum()\nloss.requires_grad = True\n"
        "loss.backward()\n"
    )
    cuts = [
        "(w * 2).detach()",
        "h.prod().item()",
        "torch.tensor([a, b])",
        "Variable(loss, requires_grad=True)",
        "loss.requires_grad = True",
    ]
    answer = reopen_way(Source("program.py", text), [place(text, cut) for cut in cuts])
    after = fixed(text, answer)
    assert after == (
        "w = torch.randn(3, requires_grad=True)\nh = (w * 2)\na = h.sum()\nb = h.prod()\n"
        "loss = torch.stack([a, b])\nloss = loss.sum()\nloss.backward()\n"
    )
    assert gradients(run(after), ["w"]) == [True]
