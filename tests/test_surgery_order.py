# ruff: noqa: E501 (programs stand on one line each)
"""Statements put before and behind others: where they stand, what they leave alone, and that they run there."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

import pytest
from gradsight.finding import Edit, apply
from gradsight.surgery import Refusal, insert_above, insert_before, insert_behind, remove_statement
from gradsight.text import Source, Span
from surgery_cases import run

BEFORE = [
    # its own line
    ("loss.backward()\n", "opt.zero_grad()\nloss.backward()\n"),
    ("for b in d:\n    x = b\n    loss.backward()\n    y = b\n", "for b in d:\n    x = b\n    opt.zero_grad()\n    loss.backward()\n    y = b\n"),
    ("for b in d:\n\tif b:\n\t\tloss.backward()\n", "for b in d:\n\tif b:\n\t\topt.zero_grad()\n\t\tloss.backward()\n"),
    ("for b in d:\n  \tloss.backward()\n", "for b in d:\n  \topt.zero_grad()\n  \tloss.backward()\n"),
    # what stands around it stays
    ("# why\nloss.backward()  # how\n", "# why\nopt.zero_grad()\nloss.backward()  # how\n"),
    ("x = 1\n\nloss.backward()", "x = 1\n\nopt.zero_grad()\nloss.backward()"),
    ("x = '''\n  a\n'''\nloss.backward()\n", "x = '''\n  a\n'''\nopt.zero_grad()\nloss.backward()\n"),
    ("x = f(\n    1,\n)\nloss.backward(\n    retain_graph=True,\n)\n", "x = f(\n    1,\n)\nopt.zero_grad()\nloss.backward(\n    retain_graph=True,\n)\n"),
    # line ends as in the file
    ("if a:\r\n    loss.backward()\r\n", "if a:\r\n    opt.zero_grad()\r\n    loss.backward()\r\n"),
    ("x = 1\r\nloss.backward()", "x = 1\r\nopt.zero_grad()\r\nloss.backward()"),
    ("x = 1\rloss.backward()\r", "x = 1\ropt.zero_grad()\rloss.backward()\r"),
    # behind a semicolon, behind a colon
    ("x = 1; loss.backward()\n", "x = 1; opt.zero_grad(); loss.backward()\n"),
    ("loss.backward(); y = 1\n", "opt.zero_grad()\nloss.backward(); y = 1\n"),
    ("for b in d: loss.backward()\n", "for b in d: opt.zero_grad(); loss.backward()\n"),
    ("if a:\n    x = 1\nelse: loss.backward(); y = 2\n", "if a:\n    x = 1\nelse: opt.zero_grad(); loss.backward(); y = 2\n"),
    ("for b in d[\n    1:\n]: loss.backward()\n", "for b in d[\n    1:\n]: opt.zero_grad(); loss.backward()\n"),
    # columns are code points
    ("s = '\N{GRINNING FACE}é'; loss.backward()\n", "s = '\N{GRINNING FACE}é'; opt.zero_grad(); loss.backward()\n"),
    ("\ufeffloss.backward()\n", "opt.zero_grad()\nloss.backward()\n"),
]  # fmt: skip

BEHIND = [
    ("opt.step()\n", "opt.step()\nopt.zero_grad()\n"),
    ("for b in d:\n    opt.step()\n    x = b\n", "for b in d:\n    opt.step()\n    opt.zero_grad()\n    x = b\n"),
    ("for b in d:\n    opt.step()\nx = 1\n", "for b in d:\n    opt.step()\n    opt.zero_grad()\nx = 1\n"),
    ("for b in d:\n\topt.step()\n", "for b in d:\n\topt.step()\n\topt.zero_grad()\n"),
    # a comment behind it is its own
    ("if a:\n    opt.step()  # now\n# later\nx = 1\n", "if a:\n    opt.step()  # now\n    opt.zero_grad()\n# later\nx = 1\n"),
    ("opt.step()# now", "opt.step()# now\nopt.zero_grad()"),
    # the end of the file, and white space
    ("if a:\n    opt.step()", "if a:\n    opt.step()\n    opt.zero_grad()"),
    ("if a:\n    opt.step()  \n", "if a:\n    opt.step()  \n    opt.zero_grad()\n"),
    ("if a:\n    opt.step()\n\n\nx = 1\n", "if a:\n    opt.step()\n    opt.zero_grad()\n\n\nx = 1\n"),
    # several lines
    ("if a:\n    opt.step(\n        closure,\n    )  # all of it\nx = 1\n", "if a:\n    opt.step(\n        closure,\n    )  # all of it\n    opt.zero_grad()\nx = 1\n"),
    ("if a:\n    opt \\\n      .step()\nx = 1\n", "if a:\n    opt \\\n      .step()\n    opt.zero_grad()\nx = 1\n"),
    # line ends as in the file
    ("if a:\r\n    opt.step()\r\nx = 1\r\n", "if a:\r\n    opt.step()\r\n    opt.zero_grad()\r\nx = 1\r\n"),
    ("if a:\r\n    opt.step()", "if a:\r\n    opt.step()\r\n    opt.zero_grad()"),
    ("x = 1\ropt.step()\r", "x = 1\ropt.step()\ropt.zero_grad()\r"),
    # semicolons and one-line headers
    ("x = 1; opt.step()\n", "x = 1; opt.step(); opt.zero_grad()\n"),
    ("opt.step(); x = 1\n", "opt.step(); opt.zero_grad(); x = 1\n"),
    ("opt.step();\n", "opt.step(); opt.zero_grad();\n"),
    ("opt.step();  # now\n", "opt.step(); opt.zero_grad();  # now\n"),
    ("if a: opt.step()  # now\n", "if a: opt.step(); opt.zero_grad()  # now\n"),
    ("if a: x = 1; opt.step(); y = 1\nz = 1\n", "if a: x = 1; opt.step(); opt.zero_grad(); y = 1\nz = 1\n"),
    ("with a: opt.step(\n    closure\n)\nz = 1\n", "with a: opt.step(\n    closure\n); opt.zero_grad()\nz = 1\n"),
]  # fmt: skip


def call(source: Source, name: str) -> Span:
    """Where the method of that name is called, from its object to the closing bracket."""
    found = re.search(rf"\w+[\s\\]*\.{name}\([^)]*\)", source.text)
    assert found is not None
    return Span(*found.span())


@pytest.mark.parametrize(("text", "after"), BEFORE)
def test_insert_before(text: str, after: str) -> None:
    source = Source("program.py", text)
    answer = insert_before(source, call(source, "backward"), "opt.zero_grad()")
    assert not isinstance(answer, Refusal)
    assert apply(source.text, answer) == after
    ast.parse(after)


@pytest.mark.parametrize(("text", "after"), BEHIND)
def test_insert_behind(text: str, after: str) -> None:
    source = Source("program.py", text)
    answer = insert_behind(source, call(source, "step"), "opt.zero_grad()")
    assert not isinstance(answer, Refusal)
    assert apply(source.text, answer) == after
    ast.parse(after)


MOVED = [
    ("opt.zero_grad()\nopt.step()\n", "opt.step()\nopt.zero_grad()\n"),
    ("if a:\n    opt.zero_grad()\n    opt.step()", "if a:\n    opt.step()\n    opt.zero_grad()"),
    ("if a:\r\n\topt.zero_grad()\r\n\topt.step()\r\n", "if a:\r\n\topt.step()\r\n\topt.zero_grad()\r\n"),
    ("opt.zero_grad(); opt.step()\n", "opt.step(); opt.zero_grad()\n"),
    ("for b in d: opt.zero_grad(); x = b; opt.step()\n", "for b in d: x = b; opt.step(); opt.zero_grad()\n"),
    ("if a:\n    opt.zero_grad()\nopt.step()\n", "if a:\n    pass\nopt.step()\nopt.zero_grad()\n"),
    ("opt.step()\nx = 1\nopt.zero_grad()\n", "opt.step()\nopt.zero_grad()\nx = 1\n"),
    ("x = 1; opt.zero_grad()\nopt.step()  # now", "x = 1\nopt.step()  # now\nopt.zero_grad()"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "after"), MOVED)
def test_a_statement_is_moved_behind_another(text: str, after: str) -> None:
    """Taken away and put behind in one go: the two edits never meet."""
    source = Source("program.py", text)
    behind = insert_behind(source, call(source, "step"), "opt.zero_grad()")
    assert not isinstance(behind, Refusal)
    assert apply(text, (*remove_statement(source, call(source, "zero_grad")), *behind)) == after
    ast.parse(after)


PARTS = [
    "x = opt.step()\n",
    "return opt.step()\n",
    "[opt.step() for opt in opts]\n",
    "[each.x() for each in opt.step()]\n",
    "ok and opt.step()\n",
    "opt.step() if ok else None\n",
    "f(opt.step())\n",
    "later = lambda: opt.step()\n",
    "later(lambda: opt.step())\n",
    "d = {1: opt.step()}\n",
    "if opt.step() is None: x = 1\n",
    "with f(lambda: opt.step()): x = 1\n",
    "x = \\\n  opt.step()\n",
    "if a: x = opt.step()\n",
    "if a: later = lambda: opt.step()\n",
    "x = [\n    opt.step(),\n]\n",
    "await opt.step()\n",
    "assert opt.step()\n",
]  # fmt: skip


@pytest.mark.parametrize("text", PARTS)
@pytest.mark.parametrize("insert", [insert_before, insert_behind])
def test_what_is_a_part_of_a_statement_is_left_alone(
    insert: Callable[[Source, Span, str], tuple[Edit, ...] | Refusal], text: str
) -> None:
    source = Source("program.py", text)
    answer = insert(source, call(source, "step"), "opt.zero_grad()")
    if isinstance(answer, Refusal):
        return
    # It may stand beside the whole statement, where that is reached.
    rows = ast.unparse(ast.parse(apply(text, answer))).splitlines()
    assert "\n".join(row for row in rows if row.strip() != "opt.zero_grad()") == ast.unparse(ast.parse(text))
    assert insert is insert_before or not text.startswith(("return", "if opt", "ok and", "[", "f("))


@pytest.mark.parametrize("insert", [insert_before, insert_behind])
def test_in_a_notebook_a_statement_stays_in_its_cell(
    insert: Callable[[Source, Span, str], tuple[Edit, ...] | Refusal],
) -> None:
    text = "x = 1\nfor b in d:\n    opt.step()\ny = 2\n"
    source = Source("program.ipynb", text, (1, 3))
    answer = insert(source, call(source, "step"), "opt.zero_grad()")
    assert not isinstance(answer, Refusal)
    first, second, third = source.parts
    (edit,) = answer
    assert second.start < edit.where.start <= edit.where.end < second.end
    assert first.end == second.start
    assert second.end == third.start


def test_the_cleared_program_learns_as_the_right_one_does() -> None:
    wrong = (
        "w = torch.nn.Parameter(torch.ones(1))\nopt = torch.optim.SGD([w], lr=0.1)\n"
        "for _ in range(4): (w * w).sum().backward(); opt.step()\n"
    )
    source = Source("program.py", wrong)
    at = wrong.index("(w * w)")
    answer = insert_before(source, Span(at, wrong.index("; opt")), "opt.zero_grad()")
    assert not isinstance(answer, Refusal)
    assert run(apply(wrong, answer))["w"].item() == pytest.approx(0.8**4)
    assert run(wrong)["w"].item() != pytest.approx(0.8**4)


@pytest.mark.parametrize(
    ("shared", "wanted"),
    [
        (0, "def fit():\n    m.train()\n    for e in d:\n        with t:\n            for b in e:\n                m.step()\n"),
        (1, "def fit():\n    for e in d:\n        m.train()\n        with t:\n            for b in e:\n                m.step()\n"),
        (2, "def fit():\n    for e in d:\n        with t:\n            for b in e:\n                m.train()\n                m.step()\n"),
    ],
)  # fmt: skip
def test_above_the_loops_that_are_not_shared(shared: int, wanted: str) -> None:
    text = "".join(row for row in wanted.splitlines(keepends=True) if row.strip() != "m.train()")
    source = Source("program.py", text)
    answer = insert_above(source, call(source, "step"), "m.train()", 2, shared)
    assert not isinstance(answer, Refusal)
    assert apply(text, answer) == wanted


def test_loops_around_the_function_count_as_well() -> None:
    text = "def turn(e):\n    for b in e:\n        m.step()\n"
    source = Source("program.py", text)
    answer = insert_above(source, call(source, "step"), "m.train()", 2, 1)  # `for e in d: turn(e)`
    assert not isinstance(answer, Refusal)
    assert apply(text, answer) == "def turn(e):\n    m.train()\n    for b in e:\n        m.step()\n"


def test_a_branch_is_not_left() -> None:
    text = "for e in d:\n    if e:\n        for b in e: m.step()\n"
    source = Source("program.py", text)
    answer = insert_above(source, call(source, "step"), "m.train()", 2, 0)
    assert not isinstance(answer, Refusal)
    assert "if e:\n        for b in e: m.train(); m.step()" in apply(text, answer)
