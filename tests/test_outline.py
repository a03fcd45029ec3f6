"""Statements nested from lines, and functions gathered from them."""

from __future__ import annotations

from gradsight.outline import Block, Outline, nest, outline
from gradsight.text import Source


def shape(block: Block) -> list[object]:
    """Each statement's clauses as (first words, block)."""
    return [
        [(clause.line.text.split("#")[0].strip(), shape(clause.block)) for clause in statement]
        for statement in block
    ]


def nested(text: str) -> list[object]:
    return shape(nest(Source("a.py", text).units))


def test_clauses_belong_to_their_statement() -> None:
    assert nested("if a:\n    b\nelif c:\n\n    # d\n    e\nelse:\n    f\ng\n") == [
        [("if a:", [[("b", [])]]), ("elif c:", [[("e", [])]]), ("else:", [[("f", [])]])],
        [("g", [])],
    ]
    assert nested("try:\n  a\nexcept B:\n  c\nexcept D: e\nfinally:\n  f\n") == [
        [
            ("try:", [[("a", [])]]),
            ("except B:", [[("c", [])]]),
            ("except D: e", []),
            ("finally:", [[("f", [])]]),
        ]
    ]
    assert nested("match x:\n    case 1:\n        a\n        b\n    case _: c\nd\n") == [
        [("match x:", []), ("case 1:", [[("a", [])], [("b", [])]]), ("case _: c", [])],
        [("d", [])],
    ]
    assert nested("    a\n  b\nc\n") == [[("a", [])], [("b", [])], [("c", [])]]
    assert nested("c\n    d\n  e\nf\n") == [[("c", [[("d", [])], [("e", [])]])], [("f", [])]]
    assert nested("else:\n    a\n") == [[("else:", [[("a", [])]])]]
    assert nested("x = (\n    y = 1\n    z = 2\nw = 3\n")[-1] == [("w = 3", [])]
    assert nested("@a\nx = 1\n") == [[("@a", [])], [("x = 1", [])]]
    assert nested("case 1:\n    x\n") == [[("case 1:", [[("x", [])]])]]
    assert nested("match x:\n    y = 1\n    case 1:\n        z\n") == [
        [("match x:", [[("y = 1", [])]]), ("case 1:", [[("z", [])]])]
    ]


PROGRAM = '''\
import torch

@first
# a comment
@second
def train(x):
    """Docs."""

    def inner():
        return 1
    return inner

class Net(Base):
    size = 3

    class Part:
        def run(self): return 1

    @property
    def width(self):
        return 2
    async def forward(self, x):
        return x

    other = 4

try:
    import numpy
except ImportError:
    def array(x):
        return x
if x:
    for y in z:
        def late(
            y,
        ):
            pass
train()
'''


def outlined(text: str) -> Outline:
    return outline(Source("a.py", text).units)


def test_functions_and_skeleton() -> None:
    found = outlined(PROGRAM)
    assert found.names == ("train", "Net.Part.run", "Net.width", "Net.forward", "array", "late")
    assert [each.text for each in found.functions[0].lines] == [
        "@first\n",
        "@second\n",
        "def train(x):\n",
        '    """Docs."""\n',
        "    def inner():\n",
        "        return 1\n",
        "    return inner\n",
    ]
    skeleton = [each.text.strip() for each in found.skeleton.lines]
    assert skeleton[:7] == [
        "import torch",
        "@first",
        "@second",
        "def train(x):",
        "class Net(Base):",
        "size = 3",
        "class Part:",
    ]
    assert skeleton[-2:] == ["def late(\n            y,\n        ):", "train()"]
    assert [found.skeleton.lines[header].name for header in found.headers] == [
        name.rpartition(".")[2] for name in found.names
    ]
    assert [found.function_at(k) for k in found.headers] == list(range(6))
    assert found.function_at(0) is None


def test_regions_say_where_their_lines_are() -> None:
    units = Source("a.py", PROGRAM).units
    found = outline(units)
    for region in (found.skeleton, *found.functions):
        assert tuple(units[at] for at in region.at) == region.lines
        assert all(each.code for each in region.lines)


def changed(before: Outline, after: Outline) -> list[str]:
    names = [
        name for name, a, b in zip(before.names, before.functions, after.functions, strict=True) if a != b
    ]
    return names + ["skeleton"] * (before.skeleton != after.skeleton)


def test_what_an_edit_changes() -> None:
    before = outlined(PROGRAM)
    assert changed(before, outlined(PROGRAM.replace("return 2", "return 3"))) == ["Net.width"]
    assert changed(before, outlined(PROGRAM.replace("def width(self)", "def width(self, a)"))) == [
        "Net.width",
        "skeleton",
    ]
    assert changed(before, outlined(PROGRAM.replace("@second", "@third"))) == ["train", "skeleton"]
    assert changed(before, outlined(PROGRAM.replace("size = 3", "size = 4"))) == ["skeleton"]
    assert (
        changed(
            before,
            outlined("\n\n# above\n" + PROGRAM.replace("    return inner", "    # c\n\n    return inner")),
        )
        == []
    )


def test_equal_regions_are_equal_keys() -> None:
    one, other = outlined(PROGRAM), outlined("\n" + PROGRAM)
    assert one.functions[0].at != other.functions[0].at
    assert {one.functions[0]: 1}[other.functions[0]] == 1
    assert one.functions[0] != one.functions[1]
    assert one == other


def test_broken_definitions_are_functions_all_the_same() -> None:
    found = outlined("def f(x:\n    a\n\nclass C(:\n    def g(self, =1):\n        b\n")
    assert found.names == ("f", "C.g")
    assert [each.text for each in found.functions[1].lines] == ["    def g(self, =1):\n", "        b\n"]


def test_an_outline_keeps_what_an_edit_did_not_touch() -> None:
    source = Source("a.py", PROGRAM)
    before = outline(source.units)
    after = outline(source.edited(20, 15, 20, 16, "7").units, before)
    same = [
        name for name, a, b in zip(before.names, before.functions, after.functions, strict=True) if a is b
    ]
    assert set(before.names) - set(same) <= {"Net.width", "Net.forward"}
    assert len(same) >= 4
