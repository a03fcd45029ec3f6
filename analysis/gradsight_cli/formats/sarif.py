"""SARIF 2.1.0, which code scanning services read. The way of the gradient is a code flow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from gradsight.finding import Applicability, Finding, Fix, Severity
from gradsight.pages import PAGES
from gradsight.text import Span

from gradsight_cli import __version__
from gradsight_cli.checking import Checked
from gradsight_cli.formats import Texts
from gradsight_cli.reading import is_notebook

_LEVELS = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.INFORMATION: "note",
    Severity.HINT: "note",
}


def to_results(checked: Checked, texts: Texts) -> Iterator[dict[str, Any]]:
    """The results of one file."""
    numbers = {page.code: number for number, page in enumerate(PAGES)}
    for number, finding in enumerate(checked.findings):
        result = _to_result(finding, texts)
        if finding.code in numbers:
            result["ruleIndex"] = numbers[finding.code]
        fixes = checked.fixes[number] if checked.fixes else ()
        # A fix that a person has to complete is no fix in SARIF's sense: it may be applied as it stands.
        # Nor is one of a notebook: its edits are none of the file's own text.
        complete = [
            _to_fix(fix, texts)
            for fix in fixes
            if fix.applicability is not Applicability.DISPLAY
            and not any(is_notebook(edit.file) for edit in fix.edits)
        ]
        if complete:
            result["fixes"] = complete
        yield result


def to_text(results: list[dict[str, Any]], problems: Iterable[Checked]) -> str:
    """The whole log. A file that could not be checked is a notification of the run."""
    notes = [
        {
            "level": "error",
            "message": {"text": problem.problem},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": _to_uri(problem.file)}}}],
        }
        for problem in problems
    ]
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Gradsight",
                        "version": __version__,
                        "rules": [
                            {
                                "id": page.code,
                                "name": page.name,
                                "shortDescription": {"text": page.summary},
                                "help": {"text": page.doc, "markdown": page.doc},
                            }
                            for page in PAGES
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "invocations": [{"executionSuccessful": not notes, "toolExecutionNotifications": notes}],
                "results": results,
            }
        ],
    }
    return json.dumps(log, indent=2)


def _to_result(finding: Finding, texts: Texts) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": _LEVELS[finding.severity],
        "message": {"text": _in_cell(finding.file, finding.where, texts) + finding.message},
        "locations": [_to_location(finding.file, finding.where, texts)],
    }
    if finding.path:
        stages = [
            {
                "location": {
                    **_to_location(step.file, step.where, texts),
                    "message": {"text": _in_cell(step.file, step.where, texts) + step.message},
                }
            }
            for step in finding.path
        ]
        result["codeFlows"] = [{"threadFlows": [{"locations": stages}]}]
    return result


def _in_cell(file: str, where: Span, texts: Texts) -> str:
    place = texts.place(file, where)
    return "" if place.cell is None else f"cell {place.cell}, line {place.row}: "


def _to_location(file: str, where: Span, texts: Texts) -> dict[str, Any]:
    physical = {"artifactLocation": {"uri": _to_uri(file)}, "region": _to_region(file, where, texts)}
    return {"physicalLocation": physical}


def _to_region(file: str, where: Span, texts: Texts) -> dict[str, int]:
    place = texts.place(file, where)
    if place.cell is not None:  # columns of the cell's text are none of the JSON around it
        row, end_row = texts.file_rows(file, place)
        return {"startLine": row, "endLine": end_row}
    return {
        "startLine": place.row,
        "startColumn": place.column,
        "endLine": place.end_row,
        "endColumn": place.end_column,
    }


def _to_fix(fix: Fix, texts: Texts) -> dict[str, Any]:
    changes: dict[str, list[dict[str, Any]]] = {}
    for edit in fix.edits:
        replacement = {
            "deletedRegion": _to_region(edit.file, edit.where, texts),
            "insertedContent": {"text": edit.text},
        }
        changes.setdefault(edit.file, []).append(replacement)
    return {
        "description": {"text": fix.title},
        "artifactChanges": [
            {"artifactLocation": {"uri": _to_uri(file)}, "replacements": replacements}
            for file, replacements in changes.items()
        ],
    }


def _to_uri(file: str) -> str:
    path = quote(os.fsencode(file.replace(os.sep, "/")))
    if os.path.isabs(file):
        return "file://" + (path if path.startswith("/") else "/" + path)
    return path
