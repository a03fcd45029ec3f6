"""Projects of several files: what one file's training shows about the files that it imports from."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from gradsight.engine import Engine, Findings
from gradsight.finding import Finding
from gradsight.text import Source
from harness import truth, wants
from harness.markers import read

PROJECTS = sorted(
    path for path in (Path(__file__).parent.parent / "fixtures" / "projects").iterdir() if path.is_dir()
)


class Folder:
    """The files of one project as they are, or as somebody has edited them."""

    def __init__(self, root: Path) -> None:
        self.sources = {
            str(path): Source(str(path), path.read_text(encoding="utf-8"))
            for path in sorted(root.rglob("*.py"))
        }

        self.asked: set[str] = set()

    @property
    def state(self) -> object:
        return {file: self.sources[file].text for file in self.asked & self.sources.keys()}

    def read(self, file: str) -> Source | None:
        self.asked.add(file)
        return self.sources.get(file)


def fail(where: str, error: BaseException) -> None:
    raise AssertionError(f"a bug inside {where}: {error!r}") from error


def found_in(folder: Folder, engine: Engine | None = None) -> dict[str, list[Finding]]:
    """What all files together show, by the file in which it stands; each thing once."""
    engine = engine or Engine(fail)
    out: dict[str, dict[tuple[object, ...], Finding]] = {file: {} for file in folder.sources}
    for source in folder.sources.values():
        result = engine.analyze(source, folder)
        for one in (*result.findings, *result.elsewhere):
            out[one.file].setdefault((one.code, one.where), one)
    return {file: list(found.values()) for file, found in out.items()}


@pytest.mark.parametrize("root", PROJECTS, ids=lambda path: path.name)
def test_wants(root: Path) -> None:
    folder = Folder(root)
    found = found_in(folder)
    reports = [
        wants.check(file, source.text, found[file], read(Path(file)).wants)
        for file, source in folder.sources.items()
    ]
    assert all(reports), "\n".join(str(report) for report in reports if not report)


def test_truth() -> None:
    runs = []
    for root in PROJECTS:
        for path in sorted(root.rglob("*.py")):
            facts = read(path).facts()
            if facts:
                text = path.read_text(encoding="utf-8")
                head = f"import sys; sys.path.insert(0, {str(path.parent)!r}); __file__ = {str(path)!r}\n"
                runs.append(truth.Run(head + text, facts, str(path)))
    assert len(runs) >= len(PROJECTS)
    outcomes = truth.run_many(runs)
    wrong = {run.file: outcome.false for run, outcome in zip(runs, outcomes, strict=True) if outcome.false}
    assert not wrong, wrong


@pytest.mark.parametrize("root", PROJECTS, ids=lambda path: path.name)
def test_edits_in_any_file(root: Path) -> None:
    """Whatever is typed in whichever file: an engine that keeps its memo says what one from scratch says."""
    rng = random.Random(root.name)
    folder, engine = Folder(root), Engine(fail)
    found_in(folder, engine)
    for _ in range(12):
        file = rng.choice(sorted(folder.sources))
        source = folder.sources[file]
        row = rng.randrange(len(source.physical) + 1)
        line = source.line_text(row)
        texts = [
            "",
            "\n",
            "x = 1\n",
            "import torch\n",
            f"{line}\n",
            "# a word\n",
            line.replace("detach", "clone"),
        ]
        new, end = rng.choice(texts), row + rng.choice([0, 1])
        folder.sources[file] = source.edited(row, 0, end, 0, new)
        again = Folder(root)
        again.sources = {name: Source(name, one.text) for name, one in folder.sources.items()}
        assert said(found_in(folder, engine)) == said(found_in(again)), f"{file}:{row + 1} {new!r}"


def said(found: dict[str, list[Finding]]) -> dict[str, list[tuple[object, ...]]]:
    return {
        file: sorted(
            (one.code, one.where.start, one.where.end, one.message, one.severity.value) for one in each
        )
        for file, each in found.items()
    }


def test_a_finding_comes_home() -> None:
    """Who shows one file at a time shows it where that file's way meets it, and says where it stands."""
    root = next(path for path in PROJECTS if path.name == "detached_encoder")
    folder = Folder(root)
    train = folder.sources[str(root / "scripts" / "train.py")]
    result = Engine(fail).analyze(train, folder, at_home=True)
    assert not result.elsewhere
    (one,) = result.findings
    assert train.slice(one.where) == "loss.backward()"
    assert one.message.endswith("(modules.py, line 23)")
    assert {Path(step.file).name for step in one.path} == {"modules.py", "train.py"}
    assert Engine(fail).fixes(train, one) == ()  # without the other file
    (fix,) = Engine(fail).fixes(train, one, folder)
    assert {Path(edit.file).name for edit in fix.edits} == {"modules.py"}
    assert fix.title.endswith(" (changes modules.py)")
    # Of a text that is another now, nobody knows where to change it.
    (modules,) = {edit.file for edit in fix.edits}
    folder.sources[modules] = Source(modules, "\n" + folder.sources[modules].text)
    assert Engine(fail).fixes(train, one, folder) == ()


def test_nothing_is_read_for_a_file_that_trains_nothing() -> None:
    asked: list[str] = []

    class Asking:
        state = None

        def read(self, file: str) -> Source | None:
            asked.append(file)
            return None

    text = "import torch\nfrom model import Net\n\n\ndef show(x):\n    return Net()(x).detach()\n"
    Engine(fail).analyze(Source("show.py", text), Asking())
    assert not asked
    Engine(fail).analyze(Source("show.py", text + "\n\nshow(1).backward()\n"), Asking())
    assert {"model.py", "src/model.py", "../model.py"} <= set(asked)


@pytest.mark.parametrize(
    ("asking", "line", "called", "wanted"),
    [
        ("a/b/train.py", "from .model import cut", "cut", "a/b/model.py"),
        ("a/b/train.py", "from ..model import cut", "cut", "a/model.py"),
        ("a/b/train.py", "from . import model", "model.cut", "a/b/model.py"),
        ("a/b/train.py", "import model", "model.cut", "a/b/model.py"),
        ("a/b/train.py", "import b.model", "b.model.cut", "a/b/model.py"),
        ("a/b/train.py", "from b.model import cut as c", "c", "a/b/model.py"),
        ("a/b/train.py", "from a.b import model as m", "m.cut", "a/b/model.py"),
        ("a/b/train.py", "from b.model import *", "cut", "a/b/model.py"),
        ("scripts/train.py", "from pkg.model import cut", "cut", "src/pkg/model.py"),
        ("train.py", "from pkg import cut", "cut", "pkg/__init__.py"),
        ("train.py", "from above.model import cut", "cut", "../above/model.py"),
        ("/p/q/train.py", "from q.model import cut", "cut", "/p/q/model.py"),
        ("C:\\p\\train.py", "import model", "model.cut", "C:\\p\\model.py"),
    ],
)
def test_where_modules_lie(asking: str, line: str, called: str, wanted: str) -> None:
    other = "import torch\n\n\ndef cut(x):\n    return x.detach()\n"

    class One:
        state = None

        def read(self, file: str) -> Source | None:
            return Source(file, other) if file == wanted else None

    text = f"import torch\n{line}\nw = torch.ones(2, requires_grad=True)\n{called}(w).sum().backward()\n"
    found = Engine(fail).analyze(Source(asking, text), One())
    assert [(one.file, one.code) for one in found.elsewhere] == [(wanted, "GS102")], list(all_of(found))


def all_of(found: Findings) -> Iterable[object]:
    return (*found.findings, *found.elsewhere, *found.silences)
