# ruff: noqa: E501 (programs stand on one line each)
"""A statement goes before or behind another one of its block, a block gets a last one, a name is looked for."""

from __future__ import annotations

import pytest
from gradsight.finding import apply
from gradsight.surgery import (
    Refusal,
    append_to_block,
    block_under,
    is_bound_before,
    move_before,
    move_behind,
    name_there,
)
from gradsight.text import Source, Span


def at(text: str, part: str) -> Span:
    start = text.index(part)
    return Span(start, start + len(part))


@pytest.mark.parametrize(
    ("text", "moved", "anchor", "after"),
    [
        ("clip()\nx = 1\nloss.backward()\n", "clip()", "loss.backward()", "x = 1\nloss.backward()\nclip()\n"),
        ("for b in d:\n    clip()\n    loss.backward()\n    step()\n", "clip()", "loss.backward()", "for b in d:\n    loss.backward()\n    clip()\n    step()\n"),
        ("if a:\r\n\tclip(\r\n\t\tp,\r\n\t)  # why\r\n\tback()\r\n", "clip(\r\n\t\tp,\r\n\t)", "back()", "if a:\r\n\t# why\r\n\tback()\r\n\tclip(\r\n\t\tp,\r\n\t)\r\n"),
        ("norm = clip()\nback()\nprint(norm)\n", "clip()", "back()", "back()\nnorm = clip()\nprint(norm)\n"),
        ("opt = SGD(m)\nm.fc = new()\n", "SGD(m)", "m.fc", "m.fc = new()\nopt = SGD(m)\n"),
        ("clip(); back()\n", "clip()", "back()", "back(); clip()\n"),
    ],
)  # fmt: skip
def test_move_behind(text: str, moved: str, anchor: str, after: str) -> None:
    edits = move_behind(Source("a.py", text), at(text, moved), at(text, anchor))
    assert not isinstance(edits, Refusal)
    assert apply(text, edits) == after


def test_move_before() -> None:
    text = "for b in d:\n    back()\n    step()  # now\n    clip(p)\n    log()\n"
    edits = move_before(Source("a.py", text), at(text, "clip(p)"), at(text, "step()"))
    assert not isinstance(edits, Refusal)
    assert apply(text, edits) == "for b in d:\n    back()\n    clip(p)\n    step()  # now\n    log()\n"


@pytest.mark.parametrize(
    "text",
    [
        "if a:\n    clip()\nback()\n",  # another block
        "clip()\nif a:\n    back()\n",
        "def f():\n    clip()\ndef g():\n    back()\n",
        "x = clip()\nprint(x)\nback()\n",  # used between
        "return clip()\nback()\n",
    ],
)
def test_what_cannot_change_places_is_left_alone(text: str) -> None:
    assert isinstance(move_behind(Source("a.py", text), at(text, "clip()"), at(text, "back()")), Refusal)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("def f():\n    loss = 1\n", "def f():\n    loss = 1\n    return loss\n"),
        ("def f():\n    if a:\n        loss = 1\n\nx = 1\n", "def f():\n    if a:\n        loss = 1\n    return loss\n\nx = 1\n"),
        ("class A:\n\tdef f(self):\n\t\tg(\n1)", "class A:\n\tdef f(self):\n\t\tg(\n1)\n\t\treturn loss"),
        ("def f():\r\n  a = 1  # one\r\n", "def f():\r\n  a = 1  # one\r\n  return loss\r\n"),
    ],
)  # fmt: skip
def test_append_to_block(text: str, after: str) -> None:
    source = Source("a.py", text)
    header = next(number for number, line in enumerate(source.units) if line.role == "def")
    edits = append_to_block(source, header, "return loss")
    assert not isinstance(edits, Refusal)
    assert apply(text, edits) == after


def test_a_block_on_the_line_of_its_header_is_refused() -> None:
    assert isinstance(append_to_block(Source("a.py", "def f(): pass\n"), 0, "return 1"), Refusal)


def test_block_under_leaves_inner_blocks_out() -> None:
    source = Source(
        "a.py", "def f():\n    a = 1\n    if a:\n        b = 2\n    # no code\n    c = 3\nd = 4\n"
    )
    assert [source.units[number].text.strip() for number in block_under(source, 0)] == [
        "a = 1",
        "if a:",
        "c = 3",
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("opt = SGD(p)\nback()\n", "opt"),
        ("def f():\n    opt = SGD(p)\n    for b in d:\n        back()\n", "opt"),
        ("class T:\n    def __init__(self):\n        self.opt = SGD(p)\n    def fit(self):\n        back()\n", "self.opt"),
        ("opt = SGD(p)\ndef f():\n    back()\n", ""),  # a parameter may have the name there
        ("class T:\n    def __init__(self):\n        self.opt = SGD(p)\ndef fit():\n    back()\n", ""),
        ("opt, other = SGD(p), 1\nback()\n", ""),
        ("opts['a'] = SGD(p)\nback()\n", ""),
        ("opt = wrap(SGD(p))\nback()\n", ""),
    ],
)  # fmt: skip
def test_name_there(text: str, name: str) -> None:
    assert name_there(Source("a.py", text), at(text, "SGD(p)"), at(text, "back()")) == name


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("net = A()\nopt = B()\n", True),
        ("def f():\n    net = A()\n    opt = B()\n", True),
        ("def g():\n    net = A()\ndef f():\n    opt = B()\n", False),
        ("def g():\n    net = A()\nopt = B()\n", False),
        ("opt = B()\nnet = A()\n", False),
    ],
)
def test_is_bound_before(text: str, known: bool) -> None:
    assert is_bound_before(Source("a.py", text), "net", at(text, "opt = B()")) is known
