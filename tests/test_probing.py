"""What can be probed: every function and script that asks for gradients, and what it takes to run it."""

from __future__ import annotations

import pytest
from gradsight.probing import probeable, probeable_at
from gradsight.text import Source

SCRIPT = """\
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        return x * 2

def train():
    loss = Net()(torch.ones(1, requires_grad=True)).sum()
    loss.backward()

def helper(x):
    return x

if __name__ == "__main__":
    {main}
"""


def titles(text: str) -> list[tuple[str, tuple[int, int], str | None]]:
    return [(each.title, each.rows, each.call) for each in probeable(Source("a.py", text))]


def test_functions_that_ask_and_forwards_beside_them() -> None:
    assert titles(SCRIPT.format(main="train()")) == [
        ("`Net.forward`", (4, 5), None),
        ("`train`", (7, 9), None),
    ]


def test_a_function_that_nothing_calls_is_called() -> None:
    assert ("`train`", (7, 9), "train") in titles(SCRIPT.format(main="pass"))


def test_one_that_needs_arguments_is_not_called() -> None:
    text = "import torch\ndef step(x):\n    x.sum().backward()\n"
    assert titles(text) == [("`step`", (2, 3), None)]


def test_a_script_shows_all_of_itself() -> None:
    text = "import torch\nx = torch.ones(2, requires_grad=True)\n(x * 2).sum().backward()\n"
    [only] = probeable(Source("a.py", text))
    assert (only.rows, only.call, only.title) == ((1, 3), None, "the script")
    assert text[only.where.start : only.where.end] == "(x * 2).sum().backward()"


def test_nothing_where_nobody_asks_for_gradients() -> None:
    text = "class Net:\n    def forward(self, x):\n        return x.backward\n"
    assert titles(text) == []


@pytest.mark.parametrize(("row", "title"), [(3, "`Net.forward`"), (7, "`train`"), (0, "the script")])
def test_without_a_selection_the_function_under_the_cursor(row: int, title: str) -> None:
    found = probeable_at(Source("a.py", SCRIPT.format(main="train()")), row)
    assert found is not None
    assert found.title == title


def test_an_empty_file_holds_nothing_to_probe() -> None:
    assert probeable_at(Source("a.py", "\n# nothing\n"), 0) is None


def test_lines_that_do_not_parse_cost_themselves() -> None:
    assert titles("def train(:\n    loss = (\n    loss.backward()\n") == [("`train`", (1, 3), None)]
