"""The shapes that others read: JSON by its schema, SARIF, annotations, and the picture that people get."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_line import LOST, ROOT, WASTEFUL, findings, run

SCHEMAS = ROOT / "analysis" / "gradsight_cli" / "schema"
PROGRAMS = sorted(ROOT.glob("fixtures/rules/*/flagged_*.py"))[::6]


def _schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["check-1", "probe-1"])
def test_the_schemas_are_valid(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(_schema(name))


def test_json_fits_its_schema_on_real_programs() -> None:
    assert PROGRAMS
    names = [program.relative_to(ROOT) for program in PROGRAMS]
    found = findings("--no-cache", "--fixes", *names, cwd=ROOT)
    jsonschema.validate(found, _schema("check-1"), jsonschema.Draft202012Validator)
    assert {each["filename"] for each in found} <= {str(name) for name in names}
    assert any(each["fixes"] for each in found)
    assert any(each["path"] for each in found)


def test_the_schema_refuses_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LOST)
    (right,) = findings("a.py", cwd=tmp_path)
    schema = _schema("check-1")
    for wrong in (
        {**right, "severity": "fatal"},
        {**right, "location": {"row": 0, "column": 1}},
        {**right, "extra": 1},
        {key: value for key, value in right.items() if key != "path"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate([wrong], schema, jsonschema.Draft202012Validator)


def test_json_names_places_in_code_points(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        LOST.replace("loss = prediction", '"日本𝄞"; loss = prediction'), encoding="utf-8"
    )
    (found,) = findings("a.py", cwd=tmp_path)
    assert (found["code"], found["name"], found["severity"]) == ("GS102", "detach-in-loss", "error")
    assert found["location"] == {"row": 6, "column": 15}
    assert found["end_location"] == {"row": 6, "column": 15 + len("prediction.detach()")}
    assert (found["cell"], found["url"]) == (None, None)
    assert "fixes" not in found
    assert [step["filename"] for step in found["path"]] == ["a.py"] * len(found["path"])


def test_the_edits_in_json_make_the_fix(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LOST)
    (found,) = findings("--fixes", "a.py", cwd=tmp_path)
    fix = found["fixes"][0]
    lines = LOST.splitlines(keepends=True)
    for edit in sorted(
        fix["edits"], key=lambda each: -each["location"]["row"] * 1000 - each["location"]["column"]
    ):
        start, end = edit["location"], edit["end_location"]
        assert start["row"] == end["row"]
        line = lines[start["row"] - 1]
        lines[start["row"] - 1] = line[: start["column"] - 1] + edit["content"] + line[end["column"] - 1 :]
    run("fix", "--write", "a.py", cwd=tmp_path)
    assert (tmp_path / "a.py").read_text() == "".join(lines)


def test_concise_is_one_line_a_finding(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(LOST + "x = (\n")
    lines = run("check", "--output-format", "concise", ".", cwd=tmp_path).stdout.decode().splitlines()
    assert [re.match(r"(\S+:\d+:\d+ GS\d{3}) \S", line)[1] for line in lines] == [  # type: ignore[index]
        "a.py:6:8 GS102",
        "a.py:10:5 GS001",
    ]


def test_sarif_has_what_code_scanning_needs(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "ä.py").write_text(LOST + WASTEFUL)
    (tmp_path / "bad.py").write_bytes(b"\xff")
    done = run("check", "--output-format", "sarif", "--fixes", ".", cwd=tmp_path)
    log = json.loads(done.stdout)
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (session,) = log["runs"]
    rules = session["tool"]["driver"]["rules"]
    assert session["columnKind"] == "unicodeCodePoints"
    results = session["results"]
    assert [each["ruleId"] for each in results] == ["GS102", "GS301"]
    assert [each["level"] for each in results] == ["error", "note"]
    for result in results:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        physical = result["locations"][0]["physicalLocation"]
        assert physical["artifactLocation"]["uri"] == "with%20space/%C3%A4.py"
        assert physical["region"]["startLine"] >= 1
    assert results[0]["locations"][0]["physicalLocation"]["region"] == {
        "startLine": 6,
        "startColumn": 8,
        "endLine": 6,
        "endColumn": 27,
    }
    stages = results[0]["codeFlows"][0]["threadFlows"][0]["locations"]
    assert all(stage["location"]["message"]["text"] for stage in stages)
    replacement = results[0]["fixes"][0]["artifactChanges"][0]["replacements"][0]
    assert set(replacement) == {"deletedRegion", "insertedContent"}
    (note,) = session["invocations"][0]["toolExecutionNotifications"]
    assert session["invocations"][0]["executionSuccessful"] is False
    assert "UTF-8" in note["message"]["text"]


def test_github_annotations_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "50%,a:b.py").write_text(LOST)
    (line,) = run("check", "--output-format", "github", ".", cwd=tmp_path).stdout.decode().splitlines()
    assert line.startswith(
        "::error title=Gradsight (GS102),file=50%25%2Ca%3Ab.py,line=6,col=8,endLine=6,endColumn=27::"
        "50%25,a:b.py:6:8 GS102 "
    )


def _full(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    done = run("check", "a.py", "--no-cache", "--fixes", cwd=tmp_path, env={"PYTHONIOENCODING": "utf-8"})
    return done.stdout.decode().splitlines()


def test_full_shows_the_line_the_way_and_the_help(tmp_path: Path) -> None:
    lines = _full(tmp_path, LOST)
    assert re.fullmatch(r"a\.py:6:8 GS102 error: .+", lines[0])
    assert lines[1:3] == [
        "6 | loss = prediction.detach().pow(2).mean()",
        "  |        ^^^^^^^^^^^^^^^^^^^",
    ]
    steps = [line for line in lines if re.match(r"  \d+\. ", line)]
    assert [line.split(". ")[0].strip() for line in steps] == [
        str(number + 1) for number in range(len(steps))
    ]
    assert len(steps) >= 2
    for number, line in enumerate(lines):
        if match := re.match(r"  \d+\. a\.py:(\d+):(\d+) \S", line):
            row, column = int(match[1]), int(match[2])
            source = LOST.splitlines()[row - 1]
            assert lines[number + 1].endswith(f"{row} | {source}")
            behind_bar = lines[number + 2].split("| ", 1)[1]
            assert behind_bar.index("^") == column - 1
            assert column - 1 + behind_bar.count("^") <= len(source)
    assert any(line.startswith("  fix: ") for line in lines)
    assert "  help: gradsight explain GS102" in lines
    assert lines[-1] == "1 file checked: 1 error"


def test_tabs_and_wide_characters_keep_the_underline_in_place(tmp_path: Path) -> None:
    program = LOST.replace("loss = prediction", 'if True:\n\tnote = "日本e\u0301"; loss = prediction')
    lines = _full(tmp_path, program)
    # A tab to column 4; two characters of two cells, one of none.
    shown = '    note = "日本e\u0301"; loss = prediction.detach().pow(2).mean()'
    assert lines[1] == "7 | " + shown
    cells = len('    note = "') + 2 * 2 + len('e"; loss = ')
    assert lines[2] == "  | " + " " * cells + "^" * len("prediction.detach()")


def test_a_span_of_several_lines_is_underlined_on_each(tmp_path: Path) -> None:
    lines = _full(tmp_path, LOST.replace("prediction.detach()", "(prediction\n    .detach(\n  ))"))
    assert lines[1:7] == [
        " 6 | loss = (prediction",
        "   |         ^^^^^^^^^^",
        " 7 |     .detach(",
        "   |     ^^^^^^^^",
        " 8 |   )).pow(2).mean()",
        "   |   ^",
    ]


def test_a_long_line_is_shown_around_the_span(tmp_path: Path) -> None:
    lines = _full(tmp_path, LOST.replace("loss = prediction", f"note = {'9' * 1000}; loss = prediction"))
    assert len(lines[1]) < 200
    column = lines[2].index("^")
    assert lines[1][column : column + 19] == "prediction.detach()"
    assert lines[2].count("^") == 19


def test_the_source_cannot_steer_the_terminal(tmp_path: Path) -> None:
    text = LOST.replace("loss = prediction", 'note = "\x1b[2J\u202e\x07"; loss = prediction')
    for line in _full(tmp_path, text):
        assert line.isprintable(), ascii(line)


def test_a_narrow_encoding_does_not_stop_the_report(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        LOST.replace("loss = prediction", '"日本"; loss = prediction'), encoding="utf-8"
    )
    for form in ("full", "concise", "json", "github", "sarif"):
        done = run(
            "check",
            "a.py",
            "--output-format",
            form,
            cwd=tmp_path,
            env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        )
        assert done.returncode == 1
        assert done.stdout.isascii()


@pytest.mark.slow
def test_every_rule_is_listed_and_explained(tmp_path: Path) -> None:
    listed = run("rules", cwd=tmp_path).stdout.decode().splitlines()
    assert len(listed) >= 3
    for line in listed[1:]:
        code, name = line.split()[:2]
        page = run("explain", code, cwd=tmp_path).stdout.decode()
        assert page.startswith(f"# {code} {name}\n")
        headings = [each for each in page.splitlines() if each.startswith("## ")]
        assert headings == ["## What it does", "## Why is this bad?", "## Use instead", "## When it is right"]
    assert (
        run("explain", "detach-in-loss", cwd=tmp_path).stdout == run("explain", "gs102", cwd=tmp_path).stdout
    )


def test_an_unknown_rule_names_the_near_ones(tmp_path: Path) -> None:
    for asked, near in (("GS12", b"GS102"), ("detach-in-los", b"detach-in-loss")):
        done = run("explain", asked, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, b"")
        assert near in done.stderr
