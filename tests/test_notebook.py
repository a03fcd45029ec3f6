"""Notebooks as one program: what is hidden, where things stand, what an edit costs, what is found."""

from __future__ import annotations

import ast
import random
from collections import Counter
from pathlib import Path

import pytest
from gradsight import configuration
from gradsight.engine import Engine
from gradsight.finding import Applicability, Edit, Finding, apply
from gradsight.notebook import Cell, CellPlace, Notebook
from gradsight.rounds import fix_text
from gradsight.slicing import SelectionError
from gradsight.text import Source, Span
from gradsight_cli.ipynb import to_cells
from harness import analysis, truth, wants
from harness.markers import Markers, parse

FIXTURES = Path(__file__).parent.parent / "fixtures"
NOTEBOOKS = sorted((FIXTURES / "notebooks").glob("*.ipynb"))
PROGRAMS = sorted((FIXTURES / "rules").glob("*/*.py"))


def notebook(*texts: str) -> Notebook:
    return Notebook("nb.ipynb", [Cell(number, text) for number, text in enumerate(texts, 1)])


def read(path: Path) -> Notebook:
    return Notebook(path.name, to_cells(path.read_text(encoding="utf-8")))


def program(text: str) -> str:
    """What the analysis reads of one cell."""
    return notebook(text).source.text


# -- what is hidden -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("%matplotlib inline", "pass"),
        ("%%html\n<b>it's</b>", "pass\n"),
        ("!pip install torch", "pass"),
        ("  # indented\n  !ls", "# indented\npass"),
        ("if x:\n    !ls {x}\ny", "if x:\n    pass\ny"),
        ("!echo \\\n  'a\nx", "pass\n\nx"),
        ("x?\n?y\n??z\ntorch.nn.*?\n%time?\na[0].b??", "pass\npass\npass\npass\npass\npass"),
        ("*a*?\nlambda: x?\nf(1)??", "pass\npass\nf(1)??"),
        ("files = !ls", "files = get_ipython()"),
        ("a = b.c = %pwd", "a = b.c = get_ipython()"),
        ("d['x=!'] = !!ls", "d['x=!'] = get_ipython()"),
        ("%%capture out --no-stderr\nx", "out = get_ipython()\nx"),
        ("%%bash --out a --err b\nls", "a = b = get_ipython()\n"),
        ("%sql rows << select 1", "rows = get_ipython()"),
        ("%store -r a b", "a = b = get_ipython()"),
        ("%prun x = f()", "x = get_ipython()"),
        ("%time x = f(y)", "pass; x = f(y)"),
        ("z = %time f(y)", "z =       f(y)"),
        ("%time for x in y: f(x)", "pass"),
        ("%time f(\\\n  y)", "pass; f(\\\n  y)"),
        ("\n%%time\n%%capture\n\nx", "\npass\npass\n\nx"),
        ("%%timeit x = 1\nx + 1", "pass\n"),
        ("/f 1\n,f a b\n;f a", "pass\npass\npass"),
        ("pip install x\ncd ..\nls", "pass\npass\nls"),
        ("ls = 1\ncat(ls)\nrm: int = 2", "ls = 1\ncat(ls)\nrm: int = 2"),
        ("x = (3\n  % 4)\ny = '''\n%a\n!b\nc?\n'''", "x = (3\n  % 4)\ny = '''\n%a\n!b\nc?\n'''"),
        ("x != 1\nx = '! %'\ny = 5 % 2  # why?\n'ok?'", "x != 1\nx = '! %'\ny = 5 % 2  # why?\n'ok?'"),
        ("% x\n!= 3", "% x\npass"),
        ("await f()\nx = await g()", "await f()\nx = await g()"),
    ],
)
def test_what_ipython_reads_is_hidden(written: str, read: str) -> None:
    assert program(written) == read + "\n"


def test_names_that_magics_bind_are_unknown() -> None:
    """Were they absent, the model of the cell above would be the one that is trained."""
    before = (
        "import torch\nmodel = torch.nn.Linear(3, 1)\n"
        "opt = torch.optim.SGD(model.parameters(), 0.1)\nh = model(torch.ones(2, 3)).detach()"
    )
    after = "loss = h.sum()\nloss.backward()"
    between = {"": True, "h = !cat x": False, "%store -r h": False, "%%capture h\n": False, "h?": True}
    for text, found in between.items():
        assert bool(Engine().analyze(notebook(before, text, after).source).findings) == found, text


# -- places -------------------------------------------------------------------------------------------------


CELLS = (
    "%matplotlib inline\nimport torch",
    "",
    "  a = 1\n  b = '''\nraw'''\n\n  c = 2",
    "%%time\n\nx = !ls -la\ny = 3  # é😀",
    "%%bash\nls",
    "last",
)


def test_places_lead_there_and_back() -> None:
    nb = notebook(*CELLS)
    for index, cell in enumerate(nb.cells):
        rows = Source("", cell.text + "\n").physical
        first, stop = nb.rows(index)
        assert stop - first == len(rows)
        for row, text in enumerate(rows):
            for column in range(len(text)):
                place = CellPlace(index, row, column)
                there = nb.place(nb.offset(place))
                if nb.is_hidden(place):
                    assert (there.cell, there.row) == (index, row)
                elif column >= 2 or not text.startswith("  "):  # behind what IPython takes away
                    assert there == place
                    if column < len(text) - 1:
                        assert nb.source.text[nb.offset(place)] == text[column]


def test_what_is_asked_of_no_place_is_answered_by_the_nearest() -> None:
    nb = notebook(*CELLS)
    assert nb.offset(CellPlace(5, 9, 9)) == len(nb.source.text) - 1
    assert nb.place(1 << 30) == CellPlace(5, 0, 4)
    assert nb.place(-3) == CellPlace(0, 0, 0)


def test_a_span_to_the_next_cell_ends_in_its_own() -> None:
    nb = notebook("x = 1\ny = 2", "z = 3")
    assert nb.places(Span(6, 12)) == (CellPlace(0, 1, 0), CellPlace(0, 1, 5))
    assert nb.places(Span(12, 12)) == (CellPlace(1, 0, 0), CellPlace(1, 0, 0))


# -- nothing unclosed leaves its cell -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken", ["f((", "s = '''a", 's = f"{x', "z = 1 + \\", "def f(:", "if z:", "@d", "z = 'a\\"]
)
def test_a_broken_cell_costs_itself(broken: str) -> None:
    whole = ["import torch\nx = torch.ones(3, requires_grad=True)", "y = x.detach()\ny.sum().backward()"]
    nb = notebook(whole[0], broken, whole[1])
    found = Engine().analyze(nb.source, at_once=True).findings
    assert {nb.place(one.where.start).cell for one in found if one.code == "GS001"} == {1}
    (lost,) = (one for one in found if one.code != "GS001")
    assert nb.source.slice(lost.where) == "x.detach()"
    (mended,) = nb.to_fixes(Engine().fixes(nb.mendable(), lost))
    edits = nb.to_cell_edits(mended.edits)
    assert edits is not None
    after = nb.applied(edits)
    assert [cell.text for cell in after.cells] == [whole[0], broken, whole[1].replace(".detach()", "")]


def test_a_comment_counts_behind_a_broken_cell() -> None:
    first = "import torch\nx = torch.ones(3, requires_grad=True)"
    last = 'y = x.detach()  # gradsight: ignore\ny.sum().backward()  # """'
    found = Engine().analyze(notebook(first, 's = """', last).source).findings
    assert [one.code for one in found] == ["GS001"]


def test_a_cell_may_await() -> None:
    nb = notebook(
        "import torch\nmodel = torch.nn.Linear(3, 1)\nx = torch.ones(2, 3)",
        "async def loss_of(x):\n    return model(x).detach().sum()",
        "loss = await loss_of(x)\nloss.backward()",
    )
    (found,) = Engine().analyze(nb.source, at_once=True).findings
    assert nb.place(found.where.start) == CellPlace(1, 1, 11)
    with pytest.raises(SelectionError, match="line 6 awaits outside"):
        nb.selected(2, (6, 7))
    assert "Linear" in nb.selected(0, (1, 3)).text


# -- edits of the notebook ----------------------------------------------------------------------------------

PIECES = [
    *CELLS,
    "x = foo((",
    's = """open',
    '"""',
    "y = 1 + \\",
    "def f(a):\n    return a.detach()",
    "loss = f(torch.ones(2, requires_grad=True)).sum()\nloss.backward()",
    "if True:\n    !ls\nelse:\n    pass",
    ")",
    "\r\nz = 1\r",
    "%time w = (1,\n",
]


def typed(rng: random.Random, nb: Notebook) -> Notebook:
    """One thing that people do to a notebook."""
    cells = list(nb.cells)
    at = rng.randrange(len(cells)) if cells else 0
    what = rng.choice(["type", "type", "delete", "insert", "remove", "move", "merge", "split", "renumber"])
    if what == "insert" or not cells:
        cells.insert(at, Cell(0, rng.choice(PIECES)))
    elif what == "remove":
        del cells[at]
    elif what == "move":
        cells.insert(rng.randrange(len(cells)), cells.pop(at))
    elif what == "merge" and at + 1 < len(cells):
        cells[at : at + 2] = [Cell(0, cells[at].text + "\n" + cells[at + 1].text)]
    elif what == "split" and "\n" in cells[at].text:
        above, _, below = cells[at].text.partition("\n")
        cells[at : at + 1] = [Cell(0, above), Cell(0, below)]
    elif what in ("type", "delete"):
        text = cells[at].text
        place = rng.randint(0, len(text))
        new = rng.choice(["(", ")", '"""', "\n", "%", "x", " ", "\\\n", "!", "\r"]) if what == "type" else ""
        cells[at] = Cell(0, text[:place] + new + text[place + (what == "delete") :])
    return nb.with_cells(Cell(number, cell.text) for number, cell in enumerate(cells, 1))


@pytest.mark.parametrize(
    "seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(10, 60))]
)
def test_from_scratch_is_after_any_edits(seed: int) -> None:
    rng = random.Random(seed)
    nb = notebook(*rng.sample(PIECES, 6))
    engine = Engine()
    for _ in range(40):
        _ = nb.source.units if rng.random() < 0.8 else None
        nb = typed(rng, nb)
        fresh = Notebook("nb.ipynb", nb.cells)
        assert nb.source.text == fresh.source.text
        assert list(nb.source.bounds) == list(fresh.source.bounds)
        assert list(nb.source.units) == list(fresh.source.units)
        assert list(nb.source.starts) == list(fresh.source.starts)
        assert [cell.text for cell in nb.cells] == [cell.text for cell in fresh.cells]
        if rng.random() < 0.3:
            assert engine.analyze(nb.source) == Engine().analyze(fresh.source)


def test_an_edit_costs_its_cell() -> None:
    nb = notebook(
        "%matplotlib inline\nimport torch",
        "def f(a):\n    return a * 2",
        "def g(a):\n    return f(a)",
        "g(torch.ones(2, requires_grad=True)).sum().backward()",
    )
    units = list(nb.source.units)
    engine = Engine()
    engine.analyze(nb.source)
    engine.analysed.clear()
    engine.analyze(nb.with_cells([*nb.cells[:2], Cell(9, "# only words"), *nb.cells[2:]]).source)
    assert engine.analysed == []
    after = nb.with_text(2, "def g(a):\n    return f(a) + 1")
    assert [old is new for old, new in zip(units, after.source.units, strict=True)].count(False) == 1
    engine.analyze(after.source)
    assert "f" not in engine.analysed
    assert "g" in engine.analysed


# -- edits of fixes -----------------------------------------------------------------------------------------


def edited(nb: Notebook, start: int, end: int, text: str) -> list[str] | None:
    edits = nb.to_cell_edits([Edit("nb.ipynb", Span(start, end), text)])
    return None if edits is None else [cell.text for cell in nb.applied(edits).cells]


def test_edits_stay_in_their_cell_and_off_what_is_hidden() -> None:
    nb = notebook("%time x = 1\ny = !ls", "z = 2")
    joined = nb.source.text
    assert joined == "pass; x = 1\ny = get_ipython()\nz = 2\n"
    x, y, z = joined.index("x"), joined.index("y ="), joined.index("z")
    assert edited(nb, x, x + 1, "w") == ["%time w = 1\ny = !ls", "z = 2"]
    assert edited(nb, y, y + 1, "w") == ["%time x = 1\nw = !ls", "z = 2"]
    assert edited(nb, z, z, "a\n") == ["%time x = 1\ny = !ls", "a\nz = 2"]
    assert edited(nb, 0, 0, "a\n") == ["a\n%time x = 1\ny = !ls", "z = 2"]
    assert edited(nb, len(joined) - 2, len(joined), "3\n") == ["%time x = 1\ny = !ls", "z = 3"]
    assert edited(nb, len(joined), len(joined), "a\n") == ["%time x = 1\ny = !ls", "z = 2\na"]
    assert edited(nb, 2, x + 1, "") is None
    assert edited(nb, y + 4, y + 6, "") is None
    assert edited(nb, y, z, "") is None  # the whole line
    assert edited(nb, y + 1, z + 1, "") is None
    assert edited(nb, y + 4, y + 4, "w") is None
    assert edited(nb, 0, 0, "w") is None  # `w%time`
    two = nb.to_cell_edits([Edit("nb.ipynb", Span(z, z), "a\n"), Edit("nb.ipynb", Span(z, z), "b\n")])
    assert two is not None
    assert nb.applied(two).cells[1].text == "a\nb\nz = 2"
    assert nb.to_cell_edits([Edit("other.py", Span(0, 0), "a")]) is None


def test_nothing_is_put_before_a_cell_magic() -> None:
    nb = notebook("%%time\n\nx = 1", "%%bash\nls")
    assert edited(nb, 0, 0, "import a\n") == ["%%time\n\nimport a\nx = 1", "%%bash\nls"]
    assert edited(nb, 0, 0, "a") is None
    start = nb.offset(CellPlace(1, 0, 0))
    assert edited(nb, start, start, "import a\n") is None


def test_edits_of_an_indented_cell_are_indented() -> None:
    nb = notebook("  x = 1\n  y = 2")
    assert edited(nb, 6, 6, "a\nb\n") == ["  x = 1\n  a\n  b\n  y = 2"]
    assert edited(nb, 4, 5, "3") == ["  x = 3\n  y = 2"]


def bare(text: str) -> list[str]:
    return [row.lstrip() for row in text.removesuffix("\n").split("\n")]


@pytest.mark.parametrize("seed", range(20))
def test_an_edit_in_the_cells_is_that_edit_of_the_program(seed: int) -> None:
    """Whatever the span, unless it is refused; and what is hidden is as it was."""
    rng = random.Random(seed)
    made = 0
    for _ in range(60):
        nb = notebook(*rng.sample([each for each in PIECES if "\r" not in each], 4))
        text = nb.source.text
        start = rng.randint(0, len(text))
        end = min(len(text), start + rng.choice([0, 0, 1, 3, 8]))
        edit = Edit("nb.ipynb", Span(start, end), rng.choice(["", "a", "b = 1\n", "c\nd"]))
        in_cells = nb.to_cell_edits([edit])
        if in_cells is None:
            continue
        after = nb.applied(in_cells)
        (where,) = in_cells
        assert where.start.cell == where.end.cell
        assert [cell.text for cell in after.cells if cell.number != where.start.cell + 1] == [
            cell.text for cell in nb.cells if cell.number != where.start.cell + 1
        ]
        hidden = [
            row for row in nb.cells[where.start.cell].text.split("\n") if row.lstrip()[:1] in ("%", "!")
        ]
        assert all(row.lstrip() in after.cells[where.start.cell].text for row in hidden)
        if nb.place(start).cell == where.start.cell and "\n" not in text[start:end]:
            moved = where.start != nb.place(start)  # behind a cell magic
            wanted = apply(text, (edit,))
            # An indentation that is now before all rows of the cell means nothing.
            assert moved or bare(after.source.text) == bare(wanted)
            made += 1
    assert made > 10


# -- the programs of the fixtures, as notebooks -------------------------------------------------------------

BETWEEN = [
    "%matplotlib inline",
    "!pip install torch",
    "%%bash\nls (",
    "",
    "# words",
    "?torch",
    "f((",
    "n = !ls",
]


def in_cells(text: str, rng: random.Random) -> Notebook:
    """A program cut into cells between statements of its top level, with other cells between them."""
    rows = text.splitlines(keepends=True)
    texts: list[str] = []
    first = 0
    starts = [
        min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        for node in ast.parse(text).body
    ]
    for start in starts[1:]:
        if rng.random() < 0.5 and rows[start - 2].rstrip("\n")[-1:] != "\\":
            texts.append("".join(rows[first : start - 1]).removesuffix("\n"))
            first = start - 1
            if rng.random() < 0.4:
                texts.append(rng.choice(BETWEEN))
    texts.append("".join(rows[first:]).removesuffix("\n"))
    return notebook(*texts)


def told(finding: Finding, source: Source) -> tuple[object, ...]:
    """What a finding says, whatever stands around it."""
    steps = tuple((step.message, source.slice(step.where)) for step in finding.path)
    return finding.code, finding.severity, finding.message, source.slice(finding.where), steps


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (number % 5 > 0)) for number, path in enumerate(PROGRAMS)],
    ids=lambda path: f"{path.parent.name[:5]}-{path.stem}",
)
def test_cells_change_no_finding(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if any(";" in row and not row.lstrip().startswith("#") for row in text.splitlines()):
        text = ast.unparse(ast.parse(text))  # two statements of a line cannot be in two cells
    plain = Source("nb.ipynb", text)
    nb = in_cells(text, random.Random(path.stem))
    expected = Counter(told(one, plain) for one in Engine().analyze(plain).findings)
    found = Counter(
        told(one, nb.source) for one in Engine().analyze(nb.source).findings if one.code != "GS001"
    )
    assert found == expected


# -- the notebooks of the fixtures --------------------------------------------------------------------------


def running(nb: Notebook) -> str:
    """The cells that run, one behind the other: one that is no Python raises, and the next one is run."""
    rows = Source("", nb.runnable()).physical
    kept = ["".join(rows[slice(*nb.rows(index))]) for index in range(len(nb.cells))]
    return "".join(text if _parses(text) else "\n" * text.count("\n") for text in kept)


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def markers(nb: Notebook) -> Markers:
    return parse(running(nb))


def facts(nb: Notebook, fixed: bool = False) -> truth.Run:
    return truth.Run(running(nb), tuple(markers(nb).facts(fixed=fixed)))


@pytest.fixture(scope="module")
def outcomes() -> dict[Path, truth.Outcome]:
    return dict(zip(NOTEBOOKS, truth.run_many([facts(read(path)) for path in NOTEBOOKS]), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_truth(path: Path, outcomes: dict[Path, truth.Outcome]) -> None:
    assert markers(read(path)).facts(), "a fixture without a fact proves nothing"
    assert not outcomes[path].false


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_wants(path: Path) -> None:
    nb = read(path)
    found, source = analysis.findings_of(nb.source)
    broken = {nb.place(one.where.start).cell for one in found if one.code == "GS001"}
    parts = [source.slice(part) for part in source.parts]
    assert broken == {index for index, text in enumerate(parts) if not _parses(text)}
    rest = [one for one in found if one.code != "GS001"]
    report = wants.check(path.stem, source.text, rest, markers(nb).wants)
    assert report, str(report)
    assert path.stem.startswith("clean_") == (not markers(nb).wants)


@pytest.mark.parametrize(
    "path", [each for each in NOTEBOOKS if "flagged" in each.stem], ids=lambda path: path.stem
)
def test_fixes_mend(path: Path) -> None:
    nb = read(path)
    fixed = fix_text(
        Engine(), nb, set(Applicability) - {Applicability.DISPLAY}, configuration.Configuration()
    )
    after = fixed.document
    assert isinstance(after, Notebook)
    facts_after = markers(after).facts(fixed=True)
    if not fixed.made:
        assert not facts_after
        return
    assert not [one for one in fixed.left if one.code != "GS001"]
    changed = [old.number for old, new in zip(nb.cells, after.cells, strict=True) if old.text != new.text]
    assert changed
    (outcome,) = truth.run_many([facts(after, fixed=True)])
    assert not outcome.false
