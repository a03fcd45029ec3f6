"""Notebooks on the command line: places in cells, files of which one cell changes, probes of cells."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_line import KEPT, LOST, ROOT, findings, run
from gradsight_cli.ipynb import to_cells, to_file_rows, with_texts

SCHEMAS = ROOT / "analysis" / "gradsight_cli" / "schema"


def cell(text: str, kind: str = "code", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True)}
    if kind == "code":
        made |= {
            "execution_count": 7,
            "outputs": [{"output_type": "stream", "name": "stdout", "text": ["é\n"]}],
        }
    return made | more


def content(*cells: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    named = metadata or {"language_info": {"name": "python"}}
    return {"cells": list(cells), "metadata": named, "nbformat": 4, "nbformat_minor": 5}


def in_cells(program: str) -> tuple[dict[str, Any], ...]:
    """The program that loses a gradient, as people write it in a notebook."""
    head, _, tail = program.partition("prediction")
    return (
        cell("# Title", "markdown"),
        cell("%matplotlib inline\n!pip list\n" + head.rstrip("\n")),
        cell("", "raw"),
        cell("%%time\nprediction" + tail.rstrip("\n")),
    )


def write(path: Path, notebook: dict[str, Any], **how: Any) -> str:
    text = json.dumps(notebook, **{"indent": 1, "ensure_ascii": False, **how}) + "\n"
    path.write_text(text, encoding="utf-8")
    return text


# -- check --------------------------------------------------------------------------------------------------


def test_findings_stand_in_cells(tmp_path: Path) -> None:
    text = write(tmp_path / "nb.ipynb", content(*in_cells(LOST)))
    (found,) = findings("nb.ipynb", "--fixes", cwd=tmp_path)
    schema = json.loads((SCHEMAS / "check-1.json").read_text())
    jsonschema.validate([found], schema)
    assert (found["filename"], found["cell"], found["code"]) == ("nb.ipynb", 4, "GS102")
    assert (found["location"], found["end_location"]) == ({"row": 3, "column": 8}, {"row": 3, "column": 27})
    assert [(step["cell"], step["location"]["row"]) for step in found["path"]] == [(2, 5), (4, 3), (4, 5)]
    (edit,) = found["fixes"][0]["edits"]
    assert (edit["cell"], edit["location"]["row"], edit["content"]) == (4, 3, "")
    assert findings("-", "--stdin-filename", "nb.ipynb", cwd=tmp_path, stdin=text.encode())[0]["cell"] == 4


def test_a_file_has_no_cells(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LOST)
    (found,) = findings("a.py", "--fixes", cwd=tmp_path)
    assert found["cell"] is None
    assert not any("cell" in each for each in [*found["path"], *found["fixes"][0]["edits"]])


def test_each_format_says_the_cell(tmp_path: Path) -> None:
    text = write(tmp_path / "nb.ipynb", content(*in_cells(LOST)))
    said = {
        form: run("check", "nb.ipynb", "--output-format", form, cwd=tmp_path).stdout.decode()
        for form in ("full", "concise", "github", "sarif")
    }
    assert said["concise"].startswith("nb.ipynb:cell 4:3:8 GS102 ")
    assert said["full"].startswith("nb.ipynb:cell 4:3:8 GS102 error")
    assert "  1. nb.ipynb:cell 2:5:9 `model` should learn\n     5 | model = " in said["full"]
    row = next(number for number, line in enumerate(text.split("\n"), 1) if ".detach()" in line)
    assert f"file=nb.ipynb,line={row},endLine={row}::nb.ipynb:cell 4:3:8 GS102" in said["github"]
    (result,) = json.loads(said["sarif"])["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["region"] == {"startLine": row, "endLine": row}
    assert result["message"]["text"].startswith("cell 4, line 3: ")


def test_folders_mean_their_notebooks(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".ipynb_checkpoints").mkdir(parents=True)
    write(tmp_path / "sub" / "nb.ipynb", content(*in_cells(LOST)))
    write(tmp_path / "sub" / ".ipynb_checkpoints" / "nb.ipynb", content(*in_cells(LOST)))
    (tmp_path / "r.ipynb").write_text(json.dumps(content(cell("x <- c("), language_info={"name": "R"})))
    (tmp_path / "a.py").write_text(LOST)
    done = run("check", ".", "--output-format", "concise", cwd=tmp_path)
    assert [line.split(b":")[0] for line in done.stdout.splitlines()] == [b"a.py", b"sub/nb.ipynb"]
    assert (done.returncode, done.stderr) == (1, b"")


def test_another_language_is_said_of_a_notebook_that_is_named(tmp_path: Path) -> None:
    kernels: list[dict[str, Any]] = [
        {"language_info": {"name": "R"}},
        {"kernelspec": {"language": "julia", "name": "julia-1.9"}},
        {"kernelspec": {"name": "ir"}},
    ]
    names = [f"{number}.ipynb" for number in range(len(kernels))]
    raw = [
        write(tmp_path / name, content(cell("x <- c("), **metadata))
        for name, metadata in zip(names, kernels, strict=True)
    ]
    for verb in ("check", "fix"):
        done = run(verb, *names, cwd=tmp_path)
        assert done.returncode == 0
        said = [line for line in done.stderr.decode().splitlines() if "passed over: a notebook in " in line]
        assert [line.split(":")[1].strip() for line in said] == names
    assert [(tmp_path / name).read_text(encoding="utf-8") for name in names] == raw


def test_python_is_python_whatever_the_kernel_is_called(tmp_path: Path) -> None:
    kernels: list[dict[str, Any]] = [
        {"kernelspec": {"name": "python3"}},
        {"kernelspec": {"name": "my-env"}},
        {"language_info": {"name": "ipython"}},
        {"language_info": "python"},
        {"kernelspec": {"language": "Python"}},
    ]
    names = [f"{number}.ipynb" for number in range(len(kernels))]
    for name, metadata in zip(names, kernels, strict=True):
        write(tmp_path / name, content(*in_cells(LOST), **metadata))
    assert [(one["filename"], one["cell"]) for one in findings(*names, cwd=tmp_path)] == [
        (name, 4) for name in names
    ]


def test_cells_of_other_languages_are_passed_over(tmp_path: Path) -> None:
    sql = cell("select (", metadata={"vscode": {"languageId": "sql"}})
    write(tmp_path / "nb.ipynb", content(sql, *in_cells(LOST)))
    assert [one["cell"] for one in findings("nb.ipynb", cwd=tmp_path)] == [5]


def test_an_empty_notebook_is_fine(tmp_path: Path) -> None:
    for number, text in enumerate(["", "\n", '{"cells": []}', '{"cells": [], "metadata": 3}']):
        (tmp_path / f"{number}.ipynb").write_text(text)
    done = run("check", ".", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"4 files checked: nothing found\n", b"")


def test_comments_silence_in_their_cell(tmp_path: Path) -> None:
    silent = LOST.replace(".mean()\n", ".mean()  # gradsight: ignore[GS102]\n")
    write(tmp_path / "nb.ipynb", content(*in_cells(silent), cell("x = 1  # gradsight: ignore")))
    (found,) = findings("nb.ipynb", cwd=tmp_path)
    assert (found["code"], found["cell"], found["location"]["row"]) == ("GS003", 5, 1)


def test_syntax_errors_are_the_cells(tmp_path: Path) -> None:
    write(
        tmp_path / "nb.ipynb",
        content(cell("f(("), *in_cells(LOST), cell("else:\n    x = 1"), cell("await g()")),
    )
    found = findings("nb.ipynb", cwd=tmp_path)
    assert [(one["code"], one["cell"]) for one in found] == [("GS001", 1), ("GS102", 5)]
    write(
        tmp_path / "nb.ipynb", content(cell("x = 1"), cell("else:\n    x = 1"), cell("def f():"), cell("y"))
    )
    found = findings("nb.ipynb", cwd=tmp_path)
    assert [(one["code"], one["cell"], one["location"]["row"]) for one in found] == [
        ("GS001", 2, 1),
        ("GS001", 3, 1),
    ]


def test_the_cache_knows_notebooks(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()  # the top of a project, wherever this runs
    write(tmp_path / "nb.ipynb", content(*in_cells(LOST)))
    first = findings("nb.ipynb", cwd=tmp_path)
    (kept,) = (tmp_path / ".gradsight_cache").glob("*/*.json")
    data = json.loads(kept.read_text())
    assert data["findings"][0]["code"] == "GS102"
    data["findings"][0]["message"] = "from the cache"
    kept.write_text(json.dumps(data))
    (second,) = findings("nb.ipynb", cwd=tmp_path)
    assert second == {**first[0], "message": "from the cache"}


# -- fix ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"indent": 4},
        {"indent": None},
        {"indent": "\t"},
        {"ensure_ascii": True},
        {"separators": (",", ":")},
    ],
    ids=str,
)
def test_only_the_changed_row_changes_in_the_file(tmp_path: Path, how: dict[str, Any]) -> None:
    before = write(tmp_path / "nb.ipynb", content(*in_cells(LOST)), **how)
    done = run("fix", "--write", "nb.ipynb", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == b"nb.ipynb: GS102: Remove `.detach()`\n"
    after = (tmp_path / "nb.ipynb").read_text(encoding="utf-8")
    assert after == before.replace(".detach()", "")
    assert json.loads(after) == content(*in_cells(KEPT))


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_line_ends_and_mark_of_the_file_stay(tmp_path: Path, end: str) -> None:
    text = json.dumps(content(*in_cells(LOST)), indent=1).replace("\n", "\r\n") + end
    (tmp_path / "nb.ipynb").write_bytes(b"\xef\xbb\xbf" + text.encode())
    run("fix", "--write", "nb.ipynb", cwd=tmp_path)
    expected = b"\xef\xbb\xbf" + text.replace(".detach()", "").encode()
    assert (tmp_path / "nb.ipynb").read_bytes() == expected


def test_a_source_that_is_one_string_stays_one(tmp_path: Path) -> None:
    cells = [{**each, "source": "".join(each["source"])} for each in in_cells(LOST)]
    before = write(tmp_path / "nb.ipynb", content(*cells))
    run("fix", "--write", "nb.ipynb", cwd=tmp_path)
    assert (tmp_path / "nb.ipynb").read_text(encoding="utf-8") == before.replace(".detach()", "")


def test_a_diff_shows_the_cell(tmp_path: Path) -> None:
    before = write(tmp_path / "nb.ipynb", content(*in_cells(LOST)))
    done = run("fix", "nb.ipynb", cwd=tmp_path)
    assert done.returncode == 1
    lines = done.stdout.decode().splitlines()
    assert lines[:3] == ["--- nb.ipynb:cell 4", "+++ nb.ipynb:cell 4", "@@ -1,6 +1,6 @@"]
    assert "-loss = prediction.detach().pow(2).mean()" in lines
    assert "+loss = prediction.pow(2).mean()" in lines
    assert (tmp_path / "nb.ipynb").read_text(encoding="utf-8") == before


def test_imports_go_into_the_cell_of_the_imports(tmp_path: Path) -> None:
    numpy = """\
def criterion(pred, target):
    return torch.tensor(np.abs(pred.detach().numpy() - target.numpy()).mean(), requires_grad=True)"""
    train = """\
model = nn.Linear(3, 1)
optimizer = SGD(model.parameters(), lr=0.1)
x, y = ones(4, 3), ones(4, 1)
loss = criterion(model(x), y)
loss.backward()
optimizer.step()"""
    imports = (
        "%load_ext autoreload\nimport numpy as np\nfrom torch import nn, ones\nfrom torch.optim import SGD"
    )
    write(tmp_path / "nb.ipynb", content(cell(imports), cell("import torch\n" + numpy), cell(train)))
    assert {one["code"] for one in findings("nb.ipynb", cwd=tmp_path)} == {"GS101"}
    run("fix", "--write", "--unsafe", "nb.ipynb", cwd=tmp_path)
    texts = [each.text for each in to_cells((tmp_path / "nb.ipynb").read_text(encoding="utf-8"))]
    assert texts[0].startswith("%load_ext autoreload\n")
    assert texts[2] == train
    assert "np." not in texts[1]
    assert findings("nb.ipynb", cwd=tmp_path) == []


def test_rows_of_the_file() -> None:
    text = json.dumps(content(cell("a\nb\n\nc"), cell("one row")), indent=1)
    lines = text.split("\n")
    assert [lines[row - 1].strip().strip(",") for row in to_file_rows(text, 1)] == [
        '"a\\n"',
        '"b\\n"',
        '"\\n"',
        '"c"',
    ]
    odd = '{"cells": [\n{"cell_type": "code", "source": ["a\\nb",\n"c\\nd"\n]}]}'
    assert to_file_rows(odd, 1) == (2, 2, 3)


@pytest.mark.parametrize("seed", range(20))
def test_any_text_is_written_and_read_again(seed: int) -> None:
    rng = random.Random(seed)
    rows = ["a", "", "é", "😀", '"\\', "\t", "%x", "\u2028", "\x0c", "\ud83d", "b\r"]

    def text() -> str:
        return "\n".join(rng.choices(rows, k=rng.randint(0, 6)))

    cells = [cell(text(), rng.choice(["code", "markdown"])) for _ in range(5)]
    for each in cells:
        if rng.random() < 0.3:
            each["source"] = "".join(each["source"])
    before = json.dumps(content(*cells), indent=rng.choice([None, 0, 1, 2]), ensure_ascii=rng.random() < 0.5)
    known = {each.number: each.text for each in to_cells(before)}
    new = {number: text() for number in known if rng.random() < 0.6}
    after = with_texts(before, new)
    assert {each.number: each.text for each in to_cells(after)} == known | new
    kept, made = json.loads(before), json.loads(after)
    for number in new:
        assert isinstance(made["cells"][number - 1]["source"], type(kept["cells"][number - 1]["source"]))
        made["cells"][number - 1]["source"] = kept["cells"][number - 1]["source"]
    assert made == kept
    assert with_texts(before, known) == before


# -- probe --------------------------------------------------------------------------------------------------


def probe(target: str, cwd: Path) -> dict[str, Any]:
    done = run("probe", target, "--python", sys.executable, "--output-format", "json", cwd=cwd)
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    jsonschema.validate(result, json.loads((SCHEMAS / "probe-1.json").read_text()))
    return result


@pytest.mark.slow
def test_a_probe_speaks_of_cells(tmp_path: Path) -> None:
    write(tmp_path / "nb.ipynb", content(*in_cells(LOST)))
    result = probe("nb.ipynb", tmp_path)
    lines = {line["name"]: line for line in result["lines"]}
    assert (lines["prediction"]["cell"], lines["prediction"]["row"]) == (4, 2)
    assert lines["loss"]["state"] == "cut"
    assert (result["error"]["cell"], result["error"]["row"]) == (4, 5)
    assert "cell 4, row 3" in result["error"]["explanation"]


@pytest.mark.slow
def test_a_probe_of_a_cell_takes_what_it_needs(tmp_path: Path) -> None:
    other = cell("raise RuntimeError('not needed')")
    title, first, raw, last = in_cells(KEPT)
    write(tmp_path / "nb.ipynb", content(title, first, other, raw, last))
    result = probe("nb.ipynb:cell 5", tmp_path)
    assert result["error"] is None
    assert {(line["cell"], line["name"]) for line in result["lines"]} == {(5, "prediction"), (5, "loss")}
    assert {each["gradient"] for each in result["parameters"]} == {"nonzero"}
    assert {line["name"] for line in probe("nb.ipynb:cell 5:2-3", tmp_path)["lines"]} == {
        "prediction",
        "loss",
    }


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nb.ipynb:cell 1", "cell 1 is no code cell"),
        ("nb.ipynb:cell 9", "cell 9 is no code cell"),
        ("nb.ipynb:cell 2:90-91", "cell 2 has no rows 90-91"),
        ("nb.ipynb:2-3", "rows of a notebook are a cell's"),
        ("a.py:cell 2", "only a notebook has cells"),
        ("r.ipynb", "a notebook in R"),
    ],
)
def test_what_cannot_be_probed_is_said(tmp_path: Path, target: str, says: str) -> None:
    write(tmp_path / "nb.ipynb", content(*in_cells(LOST)))
    write(tmp_path / "r.ipynb", content(cell("x <- 1"), language_info={"name": "R"}))
    (tmp_path / "a.py").write_text(LOST)
    done = run("probe", target, "--python", sys.executable, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert says in done.stderr.decode()
