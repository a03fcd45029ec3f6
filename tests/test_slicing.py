"""What is taken along for a selection: rows stay, needs come, the rest is blank."""

from __future__ import annotations

import ast

import pytest
from gradsight import slicing
from hypothesis import given, settings
from hypothesis import strategies as st

SCRIPT = '''\
"""A training script."""
from __future__ import annotations

import os
import torch
from torch import nn
import numpy as np

torch.manual_seed(0)
np.random.seed(1)


def helper(x):
    return x * FACTOR


def unused(x):
    return os.path.join(x)


class Net(nn.Module):
    def forward(self, x):
        return helper(x)


FACTOR = 2
OTHER = 3
net = Net()
net.eval()
print(net)
torch.save(net.state_dict(), "net.pt")
values = np.ones(3)
values[0] = 5
text = "a"; more = "b"
for epoch in range(3):
    net.step = epoch

x = torch.ones(3, requires_grad=True)
out = net(x)
loss = out.sum()
loss.backward()

if __name__ == "__main__":
    torch.manual_seed(1)
    y = torch.ones(3)
    z = y * FACTOR
    os.getcwd()
'''


def rows_of(text: str) -> set[int]:
    return {number for number, row in enumerate(text.split("\n"), 1) if row.strip()}


def row(text: str) -> int:
    return next(number for number, line in enumerate(SCRIPT.split("\n"), 1) if text in line)


def test_the_whole_file() -> None:
    assert slicing.select(SCRIPT) == slicing.Program(SCRIPT)
    assert slicing.select(SCRIPT, call="main") == slicing.Program(SCRIPT, None, "main")


def test_what_rows_need_is_taken_along() -> None:
    program = slicing.select(SCRIPT, rows=(row("out = net"), row("loss = out")))
    kept = program.text.split("\n")
    original = SCRIPT.split("\n")
    assert all(line in ("", original[number]) for number, line in enumerate(kept))
    assert len(kept) == len(original)
    present = rows_of(program.text)
    for needed in (
        "__future__", "import torch", "from torch", "torch.manual_seed(0)", "def helper", "return x * FACTOR",
        "class Net", "FACTOR = 2", "net = Net()", "net.eval()", "for epoch", "net.step", "x = torch.ones",
        "out = net", "loss = out",
    ):  # fmt: skip
        assert row(needed) in present, needed
    for left in (
        "def unused", "OTHER = 3", "print(net)", "torch.save", "values", "loss.backward", "import os",
        "y = torch",
    ):  # fmt: skip
        assert row(left) not in present, left
    assert program.rows == (row("out = net"), row("loss = out"))
    assert row("net = Net()") in program.taken


def test_what_changes_a_needed_value_is_taken_along() -> None:
    program = slicing.select(SCRIPT, rows=(row("values[0]"), row("values[0]")))
    assert {row("import numpy"), row("np.random.seed"), row("values = np")} <= rows_of(program.text)
    assert row("class Net") not in rows_of(program.text)


def test_a_row_of_two_statements_is_kept_whole() -> None:
    program = slicing.select(SCRIPT, rows=(row("more ="), row("more =")))
    assert 'text = "a"; more = "b"' in program.text


def test_rows_of_the_main_part() -> None:
    program = slicing.select(SCRIPT, rows=(row("z = y"), row("z = y")))
    present = rows_of(program.text)
    assert {
        row("if __name__"),
        row("y = torch"),
        row("z = y"),
        row("FACTOR = 2"),
        row("manual_seed(1)"),
    } <= present
    assert row("os.getcwd") not in present
    ast.parse(program.text)


@pytest.mark.parametrize("text", ["return helper", "return x * FACTOR"])
def test_rows_of_a_function_run_the_whole_file(text: str) -> None:
    program = slicing.select(SCRIPT, rows=(row(text), row(text)))
    assert program == slicing.Program(SCRIPT, (row(text), row(text)), None)


def test_rows_beside_a_call() -> None:
    assert slicing.select(SCRIPT, rows=(3, 4), call="helper") == slicing.Program(SCRIPT, (3, 4), "helper")


@pytest.mark.parametrize(
    ("text", "rows", "why"),
    [
        ("x = 1\n", (0, 1), "no range"),
        ("x = 1\n", (2, 1), "no range"),
        ("x = 1\n", (9, 9), "does not exist"),
        ("x = 1\n\n# nothing\ny = 2\n", (2, 3), "no statement"),
        ("x = 1\ny = = 2\n", (1, 1), "row 2 does not parse"),
        ("x = 1\0\n", (1, 1), "does not parse"),
        ("x = " + "(" * 3000 + ")" * 3000, (1, 1), "does not parse"),
    ],
)
def test_what_cannot_be_selected(text: str, rows: tuple[int, int], why: str) -> None:
    with pytest.raises(slicing.SelectionError, match=why):
        slicing.select(text, rows=rows)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_slice_parses_and_keeps_its_rows(data: st.DataObject) -> None:
    """Any rows of a script: what is kept stands where it stood, parses, and binds what it reads."""
    count = len(SCRIPT.split("\n")) - 1
    first = data.draw(st.integers(1, count))
    last = data.draw(st.integers(first, count))
    try:
        program = slicing.select(SCRIPT, rows=(first, last))
    except slicing.SelectionError:
        return  # blank rows
    original = SCRIPT.split("\n")
    kept = program.text.split("\n")
    assert all(line in ("", original[number]) for number, line in enumerate(kept))
    below = {"FACTOR"} if last < row("FACTOR = 2") else set()  # not there in the file either when it runs
    assert _read(program.text) - _bound(program.text) <= {"range", "print", "__name__"} | below


def _read(text: str) -> set[str]:
    return {
        item.id
        for item in ast.walk(ast.parse(text))
        if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Load)
    }


def _bound(text: str) -> set[str]:
    found = set()
    for item in ast.walk(ast.parse(text)):
        if isinstance(item, ast.Name) and not isinstance(item.ctx, ast.Load):
            found.add(item.id)
        elif isinstance(item, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in item.names}
        elif isinstance(item, (ast.FunctionDef, ast.ClassDef)):
            found.add(item.name)
        elif isinstance(item, ast.arg):
            found.add(item.arg)
    return found
