"""Sources: notations of places, and edits that come to the same as a fresh text."""

from __future__ import annotations

import ast
import random
import sysconfig
from pathlib import Path

import pytest
from gradsight.outline import Outline, nest, outline
from gradsight.text import Source, Span
from hypothesis import given, settings
from hypothesis import strategies as st
from line_cases import expressions, expressions_of

PROGRAM = '''\
"""Train a net."""
import torch
from torch import (
    nn,
    optim,
)


class Net(nn.Module):
    """A net."""

    @property
    def width(self):  # of the first layer
        return self.fc.weight.shape[1]

    async def forward(self, x, *, scale=1.0):
        h = x * scale + \\
            self.bias
        match h.dim():
            case 1:
                h = h[None]
            case _ if scale:
                pass
        if h.sum() > 0: return h
        elif scale:
            note = f"{h!r} and {scale:>{self.width}}" "é" '\\u20ac'
        else:
            def inner(): return "#" + \'\'\'a
b\'\'\'
\tfor k in range(3):
\t    h = h + k; h = h.detach()
        return h

if __name__ == "__main__":
    try:
        net = Net()
    except (ValueError, TypeError) as error: raise
    finally:
        print({"a": [1, (2)]})
    def late():
        return "😀", net
# end
'''

# What hurts: quotes, brackets, line ends of all kinds, blanks that are none, what opens and closes blocks.
PIECES = [
    *"abx_ .,:=()[]{}\"'#\\\t\f\x00\r\n",
    "\u2028é\U0001f600\ud800\x0b\x1c\x85",
    "",
    "\n",
    "\n    ",
    "\r\n",
    '"""',
    "'''",
    "x = y.detach()\n",
    "else:\n",
    "    if a:\n        b\n",
    "@d\n",
    "(\n",
    "def f():\n",
    "    def g(self): pass\n",
    "class C:\n",
    "\\\n",
    " \\\r",
    "# c\n",
    "f'{x!r}'",
    'f"{x["a"]}"',
    'f"{',
    '    """Doc.\n',
    "match x:\n",
    "    case (1):\n",
    "x = [\n1,\n",
]


def state(source: Source, seen: Outline | None = None) -> tuple[object, ...]:
    """Everything that must not depend on how the text came about."""
    found = outline(source.units, seen)
    places = [found.skeleton.at, *(function.at for function in found.functions)]
    rows = [source.row_column(place) for place in range(0, len(source.text) + 1, 7)]
    return list(source.physical), list(source.units), list(source.starts), found, places, found.stops, rows


def replaced(text: str, start: int, stop: int, new: str) -> str:
    return text[:start] + new + text[max(start, stop) :]


edits = st.tuples(
    st.integers(0, 60),
    st.integers(0, 40),
    st.sampled_from((0, 0, 0, 1, 3, 70)),
    st.integers(0, 40),
    st.sampled_from(PIECES),
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from((PROGRAM, PROGRAM.replace("\n", "\r\n"), "", "x = 1")),
    st.lists(edits, min_size=1, max_size=12),
)
def test_edits_come_to_the_same_as_a_fresh_text(
    start: str, script: list[tuple[int, int, int, int, str]]
) -> None:
    source = Source("a.py", start)
    seen = outline(source.units)
    for row, column, more, column1, new in script:
        begin, end = source.offset(row, column), source.offset(row + more, column1)
        text = replaced(source.text, begin, end, new)
        source = source.edited(row, column, row + more, column1, new)
        assert source.text == text
        assert state(source, seen) == state(Source("a.py", text))
        seen = outline(source.units, seen)
        nest(source.units)


@given(st.sampled_from((PROGRAM, "a\rb\r\n\u2028c\fd")), st.lists(edits, max_size=6))
def test_an_edit_leaves_the_source_as_it_was(text: str, script: list[tuple[int, int, int, int, str]]) -> None:
    source = Source("a.py", text)
    before = state(source)
    for row, column, more, column1, new in script:
        source.edited(row, column, row + more, column1, new)
    assert state(source) == before
    assert source.text == text


def test_an_edit_shares_what_it_does_not_touch() -> None:
    source = Source("a.py", PROGRAM)
    after = source.edited(12, 8, 12, 8, "x")
    changed = [
        k for k, (old, new) in enumerate(zip(source.units, after.units, strict=True)) if old is not new
    ]
    assert [source.starts[k] for k in changed] == [12]


def test_edits_before_and_after_the_units_were_asked_for_are_the_same() -> None:
    lazy = Source("a.py", PROGRAM).edited(0, 0, 1, 0, "x = (\n")
    eager = Source("a.py", PROGRAM)
    assert len(eager.units) > 1
    assert state(lazy) == state(eager.edited(0, 0, 1, 0, "x = (\n"))


def test_lines_end_as_in_editors_and_nowhere_else() -> None:
    source = Source("a.py", "a\rb\r\nc\nd\fe\u2028f\x0bg\x1ch\x85i\u2029j")
    assert list(source.physical) == ["a\r", "b\r\n", "c\n", "d\fe\u2028f\x0bg\x1ch\x85i\u2029j"]
    assert Source("a.py", "").physical == []
    assert source.line_text(1) == "b"
    assert source.line_text(9) == ""


def test_line_feeds_that_meet_a_carriage_return_join_it() -> None:
    source = Source("a.py", "a\rb\n")
    assert len(source.units) == 2
    assert list(source.edited(1, 0, 1, 1, "").physical) == ["a\r\n"]
    assert list(source.edited(1, 0, 1, 0, "\n").physical) == ["a\r\n", "b\n"]
    split = Source("a.py", "a\r\nb").edited(0, 1, 0, 1, "\r")
    assert list(split.physical) == ["a\r", "\r\n", "b"]


def test_a_byte_order_mark_is_remembered_and_in_no_place() -> None:
    source = Source("a.py", "\ufeffx = y\n")
    assert source.bom
    assert source.text == "x = y\n"
    assert source.slice(source.span_of(0, source.units[0].nodes[0].value)) == "y"  # type: ignore[attr-defined]
    assert source.edited(0, 0, 0, 0, "z").bom
    assert not Source("a.py", "x").bom


@given(st.text(st.sampled_from("ab \r\n\té€😀\u2028\ud800"), max_size=30), st.integers(-2, 40))
def test_offsets_and_places_are_inverse(text: str, offset: int) -> None:
    source = Source("a.py", text)
    row, column = source.row_column(offset)
    within = max(0, min(offset, len(source.text)))
    inside = source.line_text(row)
    assert source.offset(row, column) == (
        within if column <= len(inside) else within - (column - len(inside))
    )
    assert (
        "".join(source.physical[:row]) + "".join(source.physical[row : row + 1])[:column]
        == source.text[:within]
    )


def test_places_outside_the_text_count_as_its_nearest() -> None:
    source = Source("a.py", "ab\ncd\n")
    assert source.offset(0, 99) == 2
    assert source.offset(99, 0) == 6
    assert source.offset(-1, 5) == 0
    assert source.offset(1, -5) == 3
    assert source.row_column(6) == (2, 0)
    assert Source("a.py", "ab\ncd").row_column(5) == (1, 2)
    assert Source("a.py", "").row_column(3) == (0, 0)
    assert source.edited(99, 0, 99, 9, "e").text == "ab\ncd\ne"
    assert source.edited(1, 1, 0, 0, "x").text == "ab\ncxd\n"


@given(st.text(st.sampled_from("aé€😀\u2028\t\ud800"), max_size=12), st.integers(-1, 14))
def test_columns_of_other_notations(line: str, column: int) -> None:
    source = Source("a.py", "x\n" + line + "\r\n")
    head = line[: max(0, column)]
    units = len(head.encode("utf-16-le", "surrogatepass")) // 2
    count = len(head.encode("utf-8", "surrogatepass"))
    assert source.utf16_column(1, column) == units
    assert source.utf8_column(1, column) == count
    assert source.from_utf16(1, units) == source.from_utf8(1, count) == len(head)


def test_a_column_within_a_character_is_before_it() -> None:
    source = Source("a.py", "a😀€b")
    assert [source.from_utf16(0, units) for units in range(-1, 7)] == [0, 0, 1, 1, 2, 3, 4, 4]
    assert [source.from_utf8(0, count) for count in range(-1, 11)] == [0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 4, 4]


def test_a_node_is_where_its_text_is() -> None:
    source = Source("a.py", PROGRAM.replace("\n", "\r\n"))
    found = {}
    for at, unit in enumerate(source.units):
        for node in (each for statement in unit.nodes for each in ast.walk(statement)):
            if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
                found[source.slice(source.span_of(at, node))] = ast.unparse(node)
    assert found["self.fc.weight.shape"] == "self.fc.weight.shape"
    assert "net" in found  # behind an astral character
    assert all(text == unparsed for text, unparsed in found.items())


def test_spans_never_leave_the_text() -> None:
    source = Source("a.py", "if x: y\n")
    node = ast.parse("\n\n\n(zzzzzzzzzzzzzzzzzzz)").body[0]
    span = source.span_of(0, node)
    assert span == Span(8, 8)


def stdlib_files(seed: int, count: int) -> list[Path]:
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    return random.Random(seed).sample(files, count)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize("path", stdlib_files(11, 12), ids=lambda path: path.name)
def test_long_sessions_of_edits_in_real_files(path: Path) -> None:
    """Anything anywhere, and edits that keep the text valid: there the lines must say what `ast` says."""
    rng = random.Random(path.name)
    original = path.read_bytes().decode()
    source, seen, valid, states = Source("a.py", original), None, Source("a.py", original), 0
    for k in range(240):
        current = valid if k % 2 else source
        if len(source.physical) > 2 * len(valid.physical) or k % 60 == 0:
            source = Source("a.py", original)
        row, column = rng.randrange(len(current.physical) + 1), rng.randrange(60)
        row1, column1 = (
            (row + rng.choice((0, 0, 1, 3)), rng.randrange(60)) if rng.random() < 0.35 else (row, column)
        )
        new = rng.choice(PIECES)
        text = replaced(current.text, current.offset(row, column), current.offset(row1, column1), new)
        after = current.edited(row, column, row1, column1, new)
        assert state(after, seen) == state(Source("a.py", text))
        seen = outline(after.units)
        if not k % 2:
            source = after
            continue
        try:
            expected = expressions(ast.parse(text))
        except (SyntaxError, ValueError):
            continue
        states, valid = states + 1, after
        assert expressions_of(after) == expected
    print(f"{path.name}: {states} valid states")
    assert states >= 10


def test_offsets_of_few_places_are_those_of_all() -> None:
    # Few are found from sums over many lines, which edits carry over.
    rng = random.Random(7)
    for count in (0, 1, 255, 256, 257, 511, 512, 600):
        lines = ["x" * rng.randint(0, 9) + rng.choice(["\n", "\r\n", "\r"]) for _ in range(count)]
        few = Source("program.py", "".join(lines) + "y" * rng.randint(0, 3))
        for _ in range(12):
            few.row_column(3)
            row, column = rng.randint(0, count + 1), rng.randint(0, 5)
            stop = row + rng.choice([0, 0, 0, 1, 2])
            few = few.edited(
                row, column, stop, column + rng.randint(0, 3), rng.choice(["z", "", "zz\n", "\r"])
            )
            every = Source("program.py", few.text)
            offsets = every.line_offsets()
            for _ in range(8):
                place = rng.randint(-2, len(every.text) + 3)
                assert few.row_column(place) == every.row_column(place)
                assert few.line_offset(row % len(offsets)) == offsets[row % len(offsets)]
                assert few.offset(row, column) == every.offset(row, column)
