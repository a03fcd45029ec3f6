"""An engine that keeps its memo says after any edits what a fresh one says, and analyses what it must."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from benchmarks.script import large_script
from gradsight.engine import Engine, Findings
from gradsight.text import Source
from typist import Typist

FIXTURES = Path(__file__).parent.parent / "fixtures"
PROGRAMS = [
    path for folder in ("corpus", "seeds", "rules/*") for path in sorted(FIXTURES.glob(f"{folder}/*.py"))
]


def loud(where: str, error: BaseException) -> None:
    raise AssertionError(f"a bug inside {where}: {error!r}") from error


def told(findings: Findings) -> list[object]:
    """Findings and silences with everything that they hold."""
    return [*findings.findings, *findings.silences]


def agree(engine: Engine, source: Source, edit: str) -> None:
    """The engine that has a past says what a fresh one says, and so it does when asked again."""
    kept = told(engine.analyze(source))
    fresh = told(Engine(loud).analyze(Source(source.file, source.text)))
    assert kept == fresh, f"after {edit} of\n{source.text}"
    engine.analysed.clear()
    again = told(engine.analyze(source))
    assert again == fresh


def type_into(engine: Engine, path: Path, seed: str, edits: int) -> None:
    typist = Typist(Source("program.py", path.read_text("utf-8")), random.Random(seed))
    agree(engine, typist.source, "nothing")
    for number in range(edits):
        agree(engine, typist.edit(), f"{typist.last} ({seed}, edit {number})")


@pytest.mark.parametrize("path", PROGRAMS[::40], ids=lambda path: path.stem)
def test_from_scratch_is_after_any_edits(path: Path) -> None:
    type_into(Engine(loud), path, path.stem, 12)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(4))
def test_from_scratch_is_after_thousands_of_edits(part: int) -> None:
    # One engine for all: what it keeps of one program must not show in another.
    engine = Engine(loud)
    for path in PROGRAMS[part::4]:
        type_into(engine, path, f"long {path.stem}", 15)


TRAINER = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)
        self.calls = 0

    def encode(self, x):
        h = self.fc(x)
        return h

    def forward(self, x):
        return self.encode(x).sum()


def report(value):
    shown = round(value, 3)
    print(shown)


def train():
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        loss = net(torch.randn(3, 4))
        loss.backward()
        optimizer.step()
        report(loss.item())


train()
"""


RINGS = """\
import torch
from torch import nn

net = nn.Linear(2, 2)


def even(x, depth):
    if depth == 0:
        return x
    return odd(net(x), depth - 1) + x


def odd(x, depth):
    if depth == 0:
        return x.detach()
    return third(x, depth - 1) * 2


def third(x, depth):
    return even(x, depth) + odd(x, depth)


def first_loss(x):
    even(x, 3).sum().backward()


def second_loss(x):
    odd(net(x), 2).mean().backward()


def third_loss(x):
    third(net(x), 2).mean().backward()
"""


@pytest.mark.parametrize("seed", [0, 3, 8, 14])
def test_functions_that_call_each_other(seed: int) -> None:
    # What a call gives depends on who is active already: a summary is used again only where that is so.
    engine = Engine(loud)
    typist = Typist(Source("program.py", RINGS), random.Random(f"ring{seed}"))
    for number in range(40):
        agree(engine, typist.edit(), f"{typist.last} (ring {seed}, edit {number})")


@pytest.mark.parametrize(
    "path", [path for path in PROGRAMS if path.stem.startswith("flagged")][3::30], ids=lambda path: path.stem
)
def test_what_has_the_same_anchor_says_the_same_in_the_same_rows(path: Path) -> None:
    typist = Typist(Source("program.py", path.read_text("utf-8")), random.Random(path.stem))
    engine = Engine(loud)
    said: dict[object, object] = {}
    for _ in range(20):
        source = typist.source
        found = engine.analyze(source)
        if found.anchors is not None:
            for anchor, finding in zip(found.anchors, found.findings, strict=True):
                spans = [finding.where, *(step.where for step in finding.path)]
                places = [source.row_column(place) for each in spans for place in (each.start, each.end)]
                words = (finding.code, finding.message, *(step.message for step in finding.path), *places)
                assert said.setdefault(anchor, words) == words
        typist.edit()
    assert said


class Editing:
    """A program in an engine, changed by replacing text."""

    def __init__(self, text: str) -> None:
        self.engine = Engine(loud)
        self.source = Source("program.py", text)
        self.found = self.engine.analyze(self.source)

    def replace(self, old: str, new: str) -> list[str]:
        """The functions that were analysed when the only `old` became `new`."""
        assert self.source.text.count(old) == 1, old
        start = self.source.text.index(old)
        return self.edit(start, start + len(old), new)

    def edit(self, start: int, end: int, new: str) -> list[str]:
        row0, column0 = self.source.row_column(start)
        row1, column1 = self.source.row_column(end)
        self.source = self.source.edited(row0, column0, row1, column1, new)
        self.engine.analysed.clear()
        self.found = self.engine.analyze(self.source)
        fresh = Engine(loud).analyze(Source("program.py", self.source.text))
        assert told(self.found) == told(fresh)
        return sorted(self.engine.analysed)

    @property
    def codes(self) -> list[str]:
        return [finding.code for finding in self.found.findings]


def test_what_does_not_change_is_not_analysed_again() -> None:
    editing = Editing(TRAINER)
    assert editing.edit(0, 0, "") == []
    assert editing.edit(0, 0, "\n") == []
    assert editing.edit(0, 0, "# a comment\n") == []
    assert editing.replace("    h = self.fc(x)\n", "    h = self.fc(x)\n\n    # the features\n") == []
    assert editing.replace("return h", "return h  # of each row") == ["Net.encode"], "its lines are others"


def test_an_edit_that_nobody_sees_costs_one_function() -> None:
    editing = Editing(TRAINER)
    assert editing.replace("round(value, 3)", "round(value, 4)") == ["report"]
    assert editing.replace("return h", "width = h.shape[1]\n        return h") == ["Net.encode"]
    assert editing.replace("width = h.shape[1]", "width = h.shape[") == ["Net.encode"]
    assert editing.replace("width = h.shape[", "width = h.shape[0]") == ["Net.encode"]


def test_unfinished_lines_that_bind_the_same_are_the_same() -> None:
    editing = Editing(TRAINER)
    assert "Net.encode" in editing.replace("h = self.fc(x)", "h = self.fc(x")
    assert editing.replace("h = self.fc(x", "h = self.fc((x") == []
    assert editing.replace("h = self.fc((x", "h = ") == []
    assert "Net.encode" in editing.replace("h = \n", "\n        hid\n")
    assert editing.replace("        hid\n", "        hidden\n") == [], "a name alone does nothing"
    assert editing.replace("        hidden\n", "        hidden = \n        h = \n")
    assert "Net.encode" in editing.replace("h = \n", "k = \n"), "it binds another name"
    assert "Net.encode" in editing.replace("k = \n", "if k = :\n"), "it has a block"


def test_an_edit_that_readers_see_costs_them() -> None:
    editing = Editing(TRAINER)
    assert editing.codes == []
    analysed = editing.replace("h = self.fc(x)", "h = self.fc(x).detach()")
    assert analysed == ["<module>", "Net.encode", "Net.forward", "train"]
    assert editing.codes == ["GS102"]
    assert editing.replace("round(value, 3)", "round(value, 4)") == ["report"]
    assert editing.codes == ["GS102"]
    assert editing.replace("self.fc(x).detach()", "self.fc(x)") == [], "it was like that before"
    assert editing.codes == []


def test_a_place_moves_with_its_line_without_analysis() -> None:
    editing = Editing(TRAINER.replace("h = self.fc(x)", "h = self.fc(x).detach()"))
    before = editing.found.findings[0]
    assert editing.edit(0, 0, "\n\n") == []
    after = editing.found.findings[0]
    assert after.where.start == before.where.start + 2
    assert [step.where.start for step in after.path] == [step.where.start + 2 for step in before.path]
    assert editing.source.slice(after.where) == "self.fc(x).detach()"


def test_what_a_finding_quotes_is_what_stands_there() -> None:
    editing = Editing(TRAINER.replace("h = self.fc(x)", "h = self.fc(x).detach()"))
    assert "`self.fc(x).detach()`" in editing.found.findings[0].message
    assert editing.replace("self.fc(x).detach()", "self.fc( x ).detach()") == ["Net.encode"]
    assert "`self.fc( x ).detach()`" in editing.found.findings[0].message


# Edits that change what some function reads but does not hold: the text, what is replaced, and by what.
ELSEWHERE = {
    "what a function binds globally": (
        """
def setup():
    global NET, DETACH
    NET = nn.Linear(1, 1)

def g(x):
    h = NET(x)
    (DETACH(h) if DETACH else h.detach()).sum().backward()

setup()
g(torch.ones(1))
""",
        "global NET, DETACH\n    NET = nn.Linear(1, 1)",
        "global NET\n    NET, DETACH = nn.Linear(1, 1), torch.relu",
    ),
    "parameters exchanged": (
        """
def f(a, b):
    return a.detach() + b

def g(x):
    y = nn.Linear(1, 1)(x)
    f(y, 1.0).sum().backward()
""",
        "f(a, b)",
        "f(b, a)",
    ),
    "a value of the module": (
        """
def f(a):
    return a * SCALE

def g(x):
    f(nn.Linear(1, 1)(x)).sum().backward()

SCALE = torch.zeros(1)
""",
        "torch.zeros(1)",
        "nn.Parameter(torch.zeros(1)).detach()",
    ),
    "what a function of the module returned": (
        """
def make():
    return nn.Linear(1, 1)

NET = make()

def g(x):
    NET(x).detach().sum().backward()
""",
        "return nn.Linear(1, 1)",
        "return 3",
    ),
    "a base class": (
        """
class A:
    def f(self, x):
        return x.detach()

class B(A):
    pass

def g(x):
    B().f(nn.Linear(1, 1)(x)).sum().backward()
""",
        "class B(A)",
        "class B(object)",
    ),
    "a kind of method": (
        """
class A:
    def f(self, x):
        return x.detach()

def g(x):
    A().f(nn.Linear(1, 1)(x)).sum().backward()
""",
        "    def f",
        "    @staticmethod\n    def f",
    ),
    "how often an attribute is stored": (
        """
class N(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.randn(2)

    def forward(self, x):
        return (x * self.w).sum()

    def reset(self):
        pass
""",
        "pass",
        "self.w = None",
    ),
    "what a loss without a caller finds": (
        """
def pick():
    return torch.relu

ACT = pick()

def loss(pred, target):
    return ((ACT(pred) - target) ** 2).mean()
""",
        "torch.relu",
        "torch.round",
    ),
    "a function of a ring": (
        """
def even(x, n):
    return x if n == 0 else odd(x, n - 1)

def odd(x, n):
    return even(x, n - 1)

def g(x):
    even(nn.Linear(1, 1)(x), 3).sum().backward()
""",
        "return even(x, n - 1)",
        "return even(x.detach(), n - 1)",
    ),
}


@pytest.mark.parametrize(("text", "old", "new"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_facts_read_from_elsewhere_are_checked(text: str, old: str, new: str) -> None:
    editing = Editing("import torch\nfrom torch import nn\n" + text)
    editing.replace(old, new)
    editing.replace(new, old)


def test_typing_in_a_long_script_costs_one_function() -> None:
    script = large_script()
    assert script.text.count("\n") >= 1500
    assert script.last - script.first >= 400
    engine = Engine(loud)
    source = Source("script.py", script.text)
    engine.analyze(source)
    rows = script.text.split("\n")
    row = next(n for n in range(script.first, script.last) if ".backward()" in rows[n])
    indent = len(rows[row]) - len(rows[row].lstrip())
    source = source.edited(row, 0, row, 0, " " * indent + "\n")
    for at, key in enumerate("started = time.time() - float('3')"):
        source = source.edited(row, indent + at, row, indent + at, key)
        engine.analysed.clear()
        engine.analyze(source)
        assert len(engine.analysed) <= 1, (key, engine.analysed)
    engine.analysed.clear()
    engine.analyze(source.edited(0, 0, 0, 0, "\n"))
    assert engine.analysed == []


READ_AS_TEXT = (
    "GS701_function_contract/flagged_prints_instead.py",
    "GS702_hook_without_effect/flagged_mask_for_pruning.py",
)


@pytest.mark.parametrize("program", READ_AS_TEXT)
def test_what_only_the_lines_of_a_function_say_moves_with_them(program: str) -> None:
    """Nothing calls a backward or a hook: their text alone is asked, and has changed."""
    text = (FIXTURES / "rules" / program).read_text("utf-8")
    row = next(line for line in text.splitlines(keepends=True) if "# want:" in line)
    indent = row[: len(row) - len(row.lstrip())]
    engine = Engine(loud)
    agree(engine, Source("program.py", text), "nothing")
    agree(engine, Source("program.py", text.replace(row, f"{indent}print('here')\n{row}")), "one line more")
    agree(engine, Source("program.py", text.replace(row, f"{row}{indent}return None\n")), "a return")
    assert not told(engine.analyze(Source("program.py", text.replace(row, f"{indent}pass\n"))))


UNUSED_TERM = """\
import torch
from torch import nn

model, head = nn.Linear(4, 3), nn.Linear(4, 2)
optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.1)
criterion = nn.CrossEntropyLoss()


def train(x, y, z):
    loss = criterion(model(x), y)
    aux_loss = criterion(head(x), z)
    {name}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


train(torch.randn(5, 4), torch.randint(0, 3, (5,)), torch.randint(0, 2, (5,)))
"""


def test_a_name_alone_in_a_function_is_no_use_of_it() -> None:
    """While it is typed it is one name after the other, and the function means what it meant."""
    engine = Engine(loud)
    for name in ("aux_", "aux_loss", "loss"):
        source = Source("a.py", UNUSED_TERM.format(name=name))
        agree(engine, source, name)
        assert [one.code for one in engine.analyze(source).findings] == ["GS309"]
