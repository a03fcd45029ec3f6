"""The numerical check of an autograd.Function: for which classes, what it says, where it is shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradsight.probing import checkable
from gradsight.text import Source
from gradsight_server import probe
from gradsight_server.view import View, to_view
from harness.client import Client, Failed
from probe_driver import Driver

# -- which classes


def names(text: str) -> list[tuple[str, str | None]]:
    return [(each.name, each.call) for each in checkable(Source("a.py", text))]


METHODS = """\
    @staticmethod
    def forward(ctx, x): return x
    @staticmethod
    def backward(ctx, g): return g
"""


@pytest.mark.parametrize(
    ("head", "base"),
    [
        ("import torch", "torch.autograd.Function"),
        ("from torch import autograd", "autograd.Function"),
        ("from torch.autograd import Function", "Function"),
        ("import torch.autograd.function as f", "f.Function"),
        ("from torch.autograd import Function as Base\nclass Common(Base): pass", "Common"),
    ],
)
def test_classes_by_whatever_name_their_base_has(head: str, base: str) -> None:
    source = Source("a.py", f"{head}\n\nclass Double({base}):\n{METHODS}")
    [only] = checkable(source)
    assert only.name == "Double"
    assert source.text[only.where.start : only.where.end] == f"class Double({base}):"


@pytest.mark.parametrize(
    "text",
    [
        f"import torch\nclass Function: pass\nclass Double(Function):\n{METHODS}",
        f"from torch.autograd import Variable\nfrom mine import Function\nclass Double(Function):\n{METHODS}",
        "import torch.autograd\nclass Forward(torch.autograd.Function):\n    pass\n",
        "class Double(torch.autograd.Function:\n",
    ],
)
def test_no_other_class(text: str) -> None:
    assert names(text) == []


def test_a_function_that_nobody_calls_is_called_where_nothing_else_runs() -> None:
    text = f"import torch\nclass Double(torch.autograd.Function):\n{METHODS}\n"
    train = "def train():\n    Double.apply(torch.ones(2, requires_grad=True)).sum().backward()\n"
    assert names(text + train) == [("Double", "train")]
    assert names(text + train + 'if __name__ == "__main__":\n    train()\n') == [("Double", None)]
    assert names(text + train.replace("()", "(x)", 1)) == [("Double", None)]


# -- what it says

PROGRAM = """\
import torch


class Checked(torch.autograd.Function):
    @staticmethod
{forward}
    @staticmethod
{backward}

torch.manual_seed(0)
{use}
"""
SQUARE = """\
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
"""
USE = "x = torch.randn(3, 4, requires_grad=True)\nChecked.apply(x).sum().backward()"
WIDE = "x = torch.randn(64, 50, requires_grad=True)\nChecked.apply(x).sum().backward()"
RIGHT = "    def backward(ctx, g): return 2 * g * ctx.saved_tensors[0]\n"
WRONG = "    def backward(ctx, g): return g * ctx.saved_tensors[0]\n"


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


def checked(driver: Driver, folder: Path, forward: str, backward: str, use: str, **options: Any) -> View:
    text = PROGRAM.format(forward=forward, backward=backward, use=use)
    request = probe.request_of(text, folder / "program.py", check="Checked", directory=str(folder), **options)
    result = driver.run(request)
    assert result.faults == ()
    return to_view(result, Source("program.py", text), request.filename)


def said(view: View) -> tuple[int, str, str]:
    [row] = view.rows
    line = row.span
    assert view.source.text[line.start : line.end].startswith("class Checked")
    return view.source.row_column(line.start)[0], row.state, row.label


@pytest.mark.slow
@pytest.mark.parametrize("use", [USE, WIDE])
def test_gradients_that_agree(driver: Driver, tmp_path: Path, use: str) -> None:
    view = checked(driver, tmp_path, SQUARE, RIGHT, use)
    assert said(view) == (3, "live", "● gradients agree for input 0 `x`")
    assert view.error is None


@pytest.mark.parametrize("use", [USE, WIDE])
def test_gradients_that_differ_say_where_and_by_what(driver: Driver, tmp_path: Path, use: str) -> None:
    row, state, label = said(checked(driver, tmp_path, SQUARE, WRONG, use))
    assert (row, state) == (3, "cut")
    assert label.startswith("✗ gradients differ: analytic ")
    assert label.endswith(" for input 0 `x`")
    analytic, numeric = (float(word.rstrip(",")) for word in label.split()[4:7:2])
    assert numeric == pytest.approx(2 * analytic, rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "backward", "use"),
    [
        (  # where it bends there is no derivative to compare with
            "    def forward(ctx, x):\n        ctx.save_for_backward(x)\n        return x.clamp(min=0)\n",
            "    def backward(ctx, g): return g * (ctx.saved_tensors[0] > 0)\n",
            USE.replace("torch.randn(3, 4", "torch.zeros(3, 4"),
        ),
        (  # no part of the inputs has heads that fit
            "    def forward(ctx, x, rows, heads):\n        ctx.save_for_backward(rows)\n"
            "        ctx.heads, ctx.shape = heads, x.shape\n"
            "        return x.view(x.shape[0], heads, -1).mean(1)[rows]\n",
            "    def backward(ctx, g):\n        (rows,) = ctx.saved_tensors\n"
            "        full = torch.zeros(ctx.shape[0], g.shape[1], dtype=g.dtype).index_add(0, rows, g)\n"
            "        return full.repeat(1, ctx.heads) / ctx.heads, None, None\n",
            "x = torch.randn(40, 48, requires_grad=True)\n"
            "Checked.apply(x, torch.arange(30, 40), 6).sum().backward()",
        ),
        (  # it writes over what it is given
            "    def forward(ctx, x):\n        ctx.mark_dirty(x)\n        return x.mul_(2)\n",
            "    def backward(ctx, g): return 2 * g\n",
            "w = torch.ones(3, requires_grad=True)\nx = w * 1\nChecked.apply(x).sum().backward()",
        ),
        (  # the same random numbers each time
            "    def forward(ctx, x):\n        ctx.mask = (torch.rand_like(x) > 0.5).to(x)\n"
            "        return x * ctx.mask\n",
            "    def backward(ctx, g): return g * ctx.mask\n",
            USE,
        ),
        (  # forward without a context; the program fails before anything is differentiated
            "    def forward(x): return x + 1\n"
            "    @staticmethod\n    def setup_context(ctx, inputs, output): pass\n",
            "    def backward(ctx, g): return g\n",
            USE.replace(".sum().backward()", ".backward()"),
        ),
    ],
    ids=["bends", "heads", "in place", "random", "separate context"],
)
def test_right_functions_of_all_kinds_agree(
    driver: Driver, tmp_path: Path, forward: str, backward: str, use: str
) -> None:
    view = checked(driver, tmp_path, forward, backward, use)
    assert view.summary == "`Checked`: gradients agree for input 0 `x`"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "backward", "use", "words"),
    [
        (
            SQUARE,
            RIGHT,
            "x = torch.ones(2)",
            "not checked: `Checked.apply` is not called when this file runs",
        ),
        (SQUARE, RIGHT, "Checked.apply(torch.ones(2))", "not checked: no input of `Checked.apply` requires"),
        (
            SQUARE,
            "    def backward(ctx, g): return g, g\n",
            USE,
            "backward raises RuntimeError: function Checked",
        ),
        (
            "    def forward(ctx, x, w):\n        ctx.save_for_backward(w)\n        return x * w\n",
            "    def backward(ctx, g): return g * ctx.saved_tensors[0], None\n",
            "x, w = (torch.ones(2, requires_grad=True) for _ in range(2))\n"
            "Checked.apply(x, w).sum().backward()",
            "gradients differ: analytic 0, numeric 1 for input 1 `w`",
        ),
        (
            SQUARE.replace("x * x", "(x.float() ** 2).to(x)"),
            RIGHT,
            USE,
            "not checked: the numerical gradient hangs on the size of its step",
        ),
        (
            "    def forward(ctx, x):\n        assert x.dtype == torch.float32, 'single precision only'\n"
            "        return x * 1\n",
            "    def backward(ctx, g): return g\n",
            USE,
            "not checked: forward in double precision: AssertionError: single precision only",
        ),
        (
            "    def forward(ctx, x): return x.round()\n",
            "    def backward(ctx, g): return g\n",
            USE,
            "gradients differ: analytic 1, numeric 0 for input 0 `x`",
        ),
    ],
    ids=["no call", "no gradient", "raises", "none", "coarse", "single", "straight through"],
)
def test_what_is_wrong_or_missing_is_said(
    driver: Driver, tmp_path: Path, forward: str, backward: str, use: str, words: str
) -> None:
    assert words in checked(driver, tmp_path, forward, backward, use).summary


@pytest.mark.slow
def test_a_training_is_left_after_a_whole_step(driver: Driver, tmp_path: Path) -> None:
    use = "w = torch.ones(2, requires_grad=True)\nwhile True:\n    Checked.apply(w).sum().backward()"
    view = checked(driver, tmp_path, SQUARE, WRONG, use)
    assert "analytic 1, numeric 2" in view.summary
    assert view.error is None


@pytest.mark.slow
def test_what_a_function_writes_is_stopped_in_the_check_too(driver: Driver, tmp_path: Path) -> None:
    forward = SQUARE.replace("return", "if x.dtype == torch.float64: open('written', 'w')\n        return")
    assert "stopped by the probe" in checked(driver, tmp_path, forward, RIGHT, USE).summary
    assert not (tmp_path / "written").exists()


# -- in an editor

PROGRAM_IN_EDITOR = PROGRAM.format(forward=SQUARE, backward=WRONG, use=USE)


def lens(client: Client, uri: str) -> dict[str, Any]:
    lenses = client.request("textDocument/codeLens", {"textDocument": {"uri": uri}})
    (command,) = [
        each["command"] for each in lenses if each["command"]["title"] == "Check gradient numerically"
    ]
    found: dict[str, Any] = command
    return found


def run(client: Client, command: dict[str, Any]) -> Any:
    (argument,) = command["arguments"]
    asked = {"command": command["command"], "arguments": [{**argument, "python": sys.executable}]}
    return client.request("workspace/executeCommand", asked)


@pytest.mark.slow
def test_from_the_lens_to_the_hint_at_the_class(tmp_path: Path) -> None:
    with Client(tmp_path) as client:
        uri = client.uri("checked.py")
        client.open(uri, PROGRAM_IN_EDITOR)
        view = run(client, lens(client, uri))
        [row] = view["rows"]
        assert row["range"]["start"] == {"line": 3, "character": 0}
        assert row["label"].startswith("✗ gradients differ: analytic ")
        assert "Mend `backward`" in row["tooltip"]
        end = {"line": 999, "character": 0}
        where = {"start": {"line": 0, "character": 0}, "end": end}
        [hint] = client.request("textDocument/inlayHint", {"textDocument": {"uri": uri}, "range": where})
        assert hint["label"] == row["label"]


def test_nothing_is_checked_in_a_workspace_that_is_not_trusted(tmp_path: Path) -> None:
    with Client(tmp_path, options={"trusted": False, "decorations": True}) as client:
        uri = client.uri("checked.py")
        client.open(uri, PROGRAM_IN_EDITOR + f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        with pytest.raises(Failed, match="not trusted"):
            run(client, lens(client, uri))
    assert not (tmp_path / "ran").exists()
