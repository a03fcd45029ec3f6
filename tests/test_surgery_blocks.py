# ruff: noqa: E501 (programs stand on one line each)
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gradsight.surgery import Refusal, insert_ignore, move_out_of_no_grad, sum_then_backward
from gradsight.text import Source, Span
from surgery_cases import fixed, gradients, place, refusal, run


def moved(text: str, *live: str, header: str = "with torch.no_grad()") -> str:
    source = Source("program.py", text)
    return fixed(text, move_out_of_no_grad(source, place(text, header), [place(text, part) for part in live]))


MOVED = [
    # all of it
    ("with torch.no_grad():\n    a = 1\n    b = 2\nc = 3\n", (), "a = 1\nb = 2\nc = 3\n"),
    ("with torch.no_grad():\n    a = 1\n    b = 2\n", ("a = 1", "b = 2"), "a = 1\nb = 2\n"),
    ("def f():\n\twith torch.no_grad():\n\t\treturn a\n", (), "def f():\n\treturn a\n"),
    ("with torch.no_grad(): a = 1\nb = 2\n", (), "a = 1\nb = 2\n"),
    ("with torch.no_grad():  # frozen\n    # one\n    a = 1  # two\n\n    b = 2\n# three\n", (), "# frozen\n# one\na = 1  # two\n\nb = 2\n# three\n"),
    ("with torch.no_grad():\r\n    a = 1\r\n    b = 2\r\n", (), "a = 1\r\nb = 2\r\n"),
    ("with torch.no_grad():\n    a = '''\n    text\n    '''\n    b = f(\n        1,\n      2)\n", (), "a = '''\n    text\n    '''\nb = f(\n    1,\n  2)\n"),
    ("with torch.no_grad():\n    for x in y:\n        # deep\n        a = x\n    else:\n        b = 1\n", ("a = x",), "for x in y:\n    # deep\n    a = x\nelse:\n    b = 1\n"),
    ("with torch.no_grad(), open(p) as f:\n    a = f.read()\n", (), "with open(p) as f:\n    a = f.read()\n"),
    ("with open(p) as f, torch.no_grad():\n    a = f.read()\n", (), "with open(p) as f:\n    a = f.read()\n"),
    # a head, a tail, a middle
    ("with torch.no_grad():\n    a = 1\n    b = 2\n", ("a = 1",), "a = 1\nwith torch.no_grad():\n    b = 2\n"),
    ("with torch.no_grad():\n    a = 1\n    b = 2\n", ("b = 2",), "with torch.no_grad():\n    a = 1\nb = 2\n"),
    (
        "if c:\n    with torch.no_grad():  # why\n        a = 1\n        # about b\n        b = 2\n        # about d\n        d = 3\n",
        ("b = 2",),
        "if c:\n    with torch.no_grad():  # why\n        a = 1\n    # about b\n    b = 2\n    with torch.no_grad():\n        # about d\n        d = 3\n",
    ),
    (
        "with torch.no_grad():\n    if a:\n        b = 1\n    elif c:\n        b = 2\n    else:\n        b = 3\n    d = b\n",
        ("b = 2",),
        "if a:\n    b = 1\nelif c:\n    b = 2\nelse:\n    b = 3\nwith torch.no_grad():\n    d = b\n",
    ),
    ("with torch.no_grad():\n    a = 1\n    @g\n    def h():\n        pass\n", ("def h",), "with torch.no_grad():\n    a = 1\n@g\ndef h():\n    pass\n"),
    ("with torch.inference_mode():\n    a = 1\n", (), "a = 1\n"),
    ("with torch.set_grad_enabled(False):\n    a = 1\n", (), "a = 1\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "live", "after"), MOVED)
def test_move_out_of_no_grad(text: str, live: tuple[str, ...], after: str) -> None:
    header = text[text.index("with ") : text.index(":", text.index("with "))]
    assert moved(text, *live, header=header) == after


def test_a_decorator_goes() -> None:
    text = "class A:\n    @torch.no_grad()\n    def f(self): pass\n"
    assert moved(text, header="@torch.no_grad()") == "class A:\n    def f(self): pass\n"
    assert moved(text, header="torch.no_grad()") == "class A:\n    def f(self): pass\n"


def test_a_switch_goes() -> None:
    text = "torch.set_grad_enabled(False)\na = 1\n"
    assert moved(text, header="torch.set_grad_enabled(False)") == "a = 1\n"


@pytest.mark.parametrize(
    ("text", "live", "reason"),
    [
        ("with open(p) as f:\n    a = 1\n", (), "no block"),
        ("with torch.no_grad(), open(p) as f:\n    a = 1\n    b = 2\n", ("b = 2",), "something else"),
        ("with torch.no_grad(): a = 1; b = 2\n", ("b = 2",), "one line"),
        ("with torch.no_grad():\n    a = 1\nb = 2\n", ("b = 2",), "none of the statements"),
    ],
)
def test_move_out_refuses(text: str, live: tuple[str, ...], reason: str) -> None:
    answer = move_out_of_no_grad(
        Source("program.py", text), place(text, "with "), [place(text, part) for part in live]
    )
    assert isinstance(answer, Refusal)
    assert reason in answer.reason


def test_statements_moved_out_get_their_gradient() -> None:
    text = (
        "w = torch.randn(3, requires_grad=True)\nfree = torch.randn(3, requires_grad=True)\n"
        "with torch.no_grad():\n    scale = free.abs().sum()\n    h = w * 2\n    top = h.max()\n"
        "loss = (h / scale).sum() + free.sum() + top\nloss.backward()\n"
    )
    before, after = run(text), run(moved(text, "h = w * 2"))
    assert torch.allclose(before["loss"], after["loss"])
    assert gradients(before, ["w"]) == [False]
    assert gradients(after, ["w"]) == [True]
    assert not after["top"].requires_grad
    assert not after["scale"].requires_grad


def backwards(text: str) -> list[Span]:
    """The spans of the statements that end in a backward call."""
    found = re.finditer(r"[^\s;][^;\n\r]*?backward\([^)]*\)", text)
    return [Span(match.start(), match.end()) for match in found]


def summed(text: str, *calls: str, **options: bool) -> str:
    source = Source("program.py", text)
    return fixed(text, sum_then_backward(source, [place(text, call) for call in calls], **options))


SUMMED = [
    ("l1.backward(retain_graph=True)\nl2.backward()\n", "(l1 + l2).backward()\n"),
    ("def f():\n\tl1.backward(retain_graph=True)\n\t# note\n\tprint(l1)\n\tl2.backward()\n", "def f():\n\t# note\n\tprint(l1)\n\t(l1 + l2).backward()\n"),
    ("l1.backward(retain_graph=True); l2.backward()\n", "(l1 + l2).backward()\n"),
    ("l1.backward(retain_graph=True)  # first\nl2.backward()  # second\n", "# first\n(l1 + l2).backward()  # second\n"),
    ("l1.backward(retain_graph=True)\r\nl2.backward(retain_graph=True)\r\n", "(l1 + l2).backward()\r\n"),
    ("scaler.scale(l1).backward(retain_graph=True)\nscaler.scale(l2).backward()\n", "scaler.scale(l1 + l2).backward()\n"),
    ("accelerator.backward(l1, retain_graph=True)\naccelerator.backward(l2)\n", "accelerator.backward(l1 + l2)\n"),
    ("self.manual_backward(l1)\nself.manual_backward(l2, retain_graph=True)\n", "self.manual_backward(l1 + l2)\n"),
    ("l1.mean().backward()\n(a if b else c).backward()\n(x - y).backward()\n", "(l1.mean() + (a if b else c) + (x - y)).backward()\n"),
    ("loss = f(a)\nloss.backward()\nloss = g(a)\nloss.backward()\n", "loss = f(a)\nloss_1 = loss\nloss = g(a)\n(loss_1 + loss).backward()\n"),
    ("l1.backward()\nl2 = g(y)\nl2.backward()\n", "l2 = g(y)\n(l1 + l2).backward()\n"),
    ("l2.backward(\n    retain_graph=True,\n)\nl3.backward()\n", "(l2 + l3).backward()\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "after"), SUMMED)
def test_sum_then_backward(text: str, after: str) -> None:
    source = Source("program.py", text)
    assert fixed(text, sum_then_backward(source, backwards(text))) == after


def test_retain_graph_may_be_kept() -> None:
    text = "l1.backward(retain_graph=True)\nl2.backward(retain_graph=True)\n"
    after = summed(
        text, "l1.backward(retain_graph=True)", "l2.backward(retain_graph=True)", keep_retain_graph=True
    )
    assert after == "(l1 + l2).backward(retain_graph=True)\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("l1.backward()\noptimizer.step()\nl2.backward()\n", "step"),
        ("l1.backward()\noptimizer.zero_grad()\nl2.backward()\n", "zero_grad"),
        ("l1.backward()\ntorch.nn.utils.clip_grad_norm_(ps, 1)\nl2.backward()\n", "clipped"),
        ("l1.backward()\nprint(w.grad)\nl2.backward()\n", "gradient is read"),
        ("l1.backward()\nif a:\n    l2.backward()\n", "blocks"),
        ("if a:\n    l1.backward()\nelse:\n    l2.backward()\n", "blocks"),
        ("for x in y:\n    l1.backward()\nl2.backward()\n", "blocks"),
        ("l1.backward(create_graph=True)\nl2.backward()\n", "create_graph"),
        ("l1.backward(g)\nl2.backward()\n", "gradient"),
        ("l1.backward()\nscaler.scale(l2).backward()\n", "different ways"),
        ("l1.backward()\nw.data.clamp_(0, 1)\nl2.backward()\n", "in place"),
        ("def f():\n    l1.backward()\n    if a:\n        return\n    l2.backward()\n", "way may end"),
    ],
)
def test_sum_refuses(text: str, reason: str) -> None:
    answer = sum_then_backward(Source("program.py", text), backwards(text))
    assert isinstance(answer, Refusal), fixed(text, answer)
    assert reason in answer.reason


def test_the_sum_has_the_gradients_of_both() -> None:
    text = (
        "net = nn.Linear(3, 2)\nx = torch.randn(5, 3)\nh = net(x).exp()\nl1 = h.pow(2).mean()\n"
        "l1.backward(retain_graph=True)\nl2 = (h - 1).abs().mean()\nl2.backward()\n"
    )
    before = run(text)
    after = run(summed(text, "l1.backward(retain_graph=True)", "l2.backward()"))
    for name, parameter in before["net"].named_parameters():
        assert torch.allclose(parameter.grad, dict(after["net"].named_parameters())[name].grad, atol=1e-5)
    with pytest.raises(RuntimeError, match="second time"):
        run(text.replace("retain_graph=True", ""))
    run(summed(text.replace("retain_graph=True", ""), "l1.backward()", "l2.backward()"))


@pytest.mark.parametrize(
    ("text", "quoted", "after"),
    [
        ("a = x.detach()\nb = 1\n", "x.detach()", "a = x.detach()  # gradsight: ignore[GS102]\nb = 1\n"),
        ("a = x.detach()  # why \r\n", "x.detach()", "a = x.detach()  # why  # gradsight: ignore[GS102]\r\n"),
        ("a = x.detach()  # gradsight: ignore[GS101]\n", "x.detach()", "a = x.detach()  # gradsight: ignore[GS101, GS102]\n"),
        ("a = f(\n    x.detach(),\n)\n", "x.detach()", "a = f(\n    x.detach(),  # gradsight: ignore[GS102]\n)\n"),
        ("a = x.detach()", "x.detach()", "a = x.detach()  # gradsight: ignore[GS102]"),
        ("a = '#', x.detach(), ''\n", "x.detach()", "a = '#', x.detach(), ''  # gradsight: ignore[GS102]\n"),
    ],
)  # fmt: skip
def test_insert_ignore(text: str, quoted: str, after: str) -> None:
    assert fixed(text, insert_ignore(Source("program.py", text), place(text, quoted), "GS102")) == after


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a = x.detach()  # gradsight: ignore\n", "x.detach()"),
        ("a = x.detach()  # gradsight: ignore[GS102]\n", "x.detach()"),
        ("a = x.detach() + \\\n    1\n", "x.detach()"),
        ("a = x.detach(), '''b\n'''\n", "x.detach()"),
    ],
)
def test_insert_ignore_refuses(text: str, quoted: str) -> None:
    assert refusal(insert_ignore, text, quoted, "GS102")


LOOPS = [
    ("for l in losses:\n    l.backward(retain_graph=True)\nx = 1\n", "sum(losses).backward()\nx = 1\n"),
    ("def f():\n    for l in (a, b):\n        # each\n        l.backward()\n", "def f():\n    # each\n    sum((a, b)).backward()\n"),
    (
        "def f():\n    for x in xs:\n        l = g(x)\n        l.backward(retain_graph=True)\n        seen.append(l.item())\n    return 1\n",
        "def f():\n    total_loss = 0\n    for x in xs:\n        l = g(x)\n        total_loss = total_loss + l\n        seen.append(l.item())\n    total_loss.backward()\n    return 1\n",
    ),
    ("for x in xs:\n    scaler.scale(g(x)).backward()\n", "total_loss = 0\nfor x in xs:\n    total_loss = total_loss + g(x)\nscaler.scale(total_loss).backward()\n"),
    ("for x in xs:\n    accelerator.backward(g(x))", "total_loss = 0\nfor x in xs:\n    total_loss = total_loss + g(x)\naccelerator.backward(total_loss)\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "after"), LOOPS)
def test_one_backward_behind_the_loop(text: str, after: str) -> None:
    assert fixed(text, sum_then_backward(Source("program.py", text), backwards(text))) == after


@pytest.mark.parametrize(
    "text",
    [
        "l.backward()\n",
        "for x in xs:\n    l = g(x)\n    l.backward()\n    optimizer.step()\n",
        "for x in xs:\n    optimizer.zero_grad()\n    l = g(x)\n    l.backward()\n",
    ],
)
def test_a_training_loop_is_left_alone(text: str) -> None:
    spans = [span for span in backwards(text) if "l.backward" in text[span.start : span.end]]
    assert isinstance(sum_then_backward(Source("program.py", text), spans), Refusal)


def test_the_sum_over_a_loop_has_the_same_gradient() -> None:
    text = (
        "net = nn.Linear(3, 3)\nh = net(torch.ones(2, 3)).exp()\nfor i in range(3):\n    l = h[:, i].pow(2).mean()\n"
        "    l.backward(retain_graph=True)\n"
    )
    before, after = run(text), run(summed(text, "l.backward(retain_graph=True)"))
    assert torch.allclose(before["net"].weight.grad, after["net"].weight.grad, atol=1e-5)


def test_what_reads_a_live_name_follows_if_asked() -> None:
    text = "with torch.no_grad():\n    a = f(x)\n    b = g(y)\n    c = a + b\n    d = g(b)\n    e = c * 2\n"
    after = "a = f(x)\nwith torch.no_grad():\n    b = g(y)\nc = a + b\nwith torch.no_grad():\n    d = g(b)\ne = c * 2\n"
    answer = move_out_of_no_grad(
        Source("program.py", text), place(text, "with torch.no_grad()"), [place(text, "f(x)")], follow=True
    )
    assert fixed(text, answer) == after


def test_importing_the_package_loads_no_libcst() -> None:
    program = (
        "import sys, gradsight.surgery as s; s.Refusal; assert 'libcst' not in sys.modules; "
        "s.insert_ignore; assert 'libcst' in sys.modules; assert 'torch' not in sys.modules"
    )
    root = Path(__file__).parent.parent / "analysis"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
