"""A list of objects, one a finding, in Ruff's field names; `schema/check-1.json` says the shape."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gradsight.finding import Finding, Fix
from gradsight.text import Span

from gradsight_cli.checking import Checked
from gradsight_cli.formats import Texts


def to_objects(checked: Checked, texts: Texts, with_fixes: bool) -> Iterable[dict[str, Any]]:
    """The objects of one file."""
    for number, finding in enumerate(checked.findings):
        data = _to_object(finding, texts)
        if with_fixes:
            data["fixes"] = [_to_fix(fix, texts) for fix in checked.fixes[number]]
        yield data


def to_text(objects: list[dict[str, Any]]) -> str:
    """The whole output. ASCII, so that no terminal's or pipe's encoding can spoil it."""
    return json.dumps(objects, indent=2)


def _to_object(finding: Finding, texts: Texts) -> dict[str, Any]:
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "message": finding.message,
        "filename": finding.file,
        "cell": None,
        **_to_locations(finding.file, finding.where, texts),  # a notebook's with its cell
        "url": None,
        "path": [
            {"message": step.message, "filename": step.file, **_to_locations(step.file, step.where, texts)}
            for step in finding.path
        ],
    }


def _to_locations(file: str, where: Span, texts: Texts) -> dict[str, Any]:
    place = texts.place(file, where)
    return {
        **({} if place.cell is None else {"cell": place.cell}),
        "location": {"row": place.row, "column": place.column},
        "end_location": {"row": place.end_row, "column": place.end_column},
    }


def _to_fix(fix: Fix, texts: Texts) -> dict[str, Any]:
    return {
        "title": fix.title,
        "applicability": fix.applicability.value,
        "edits": [
            {"filename": edit.file, **_to_locations(edit.file, edit.where, texts), "content": edit.text}
            for edit in fix.edits
        ],
    }
