"""Annotations of GitHub Actions: workflow commands, one line a finding."""

from __future__ import annotations

from collections.abc import Iterator

from gradsight.finding import Severity

from gradsight_cli.checking import Checked
from gradsight_cli.formats import Texts

_COMMANDS = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.INFORMATION: "notice",
    Severity.HINT: "notice",
}


def to_lines(checked: Checked, texts: Texts) -> Iterator[str]:
    """The lines of one file."""
    for finding in checked.findings:
        place = texts.place(finding.file, finding.where)
        row, end_row = texts.file_rows(finding.file, place)
        properties = {
            "title": f"Gradsight ({finding.code})",
            "file": finding.file,
            "line": str(row),
            "col": str(place.column),
            "endLine": str(end_row),
            "endColumn": str(place.end_column),
        }
        if place.cell is not None:  # columns of the cell's text are none of the JSON around it
            del properties["col"], properties["endColumn"]
        listed = ",".join(f"{key}={_escape_property(value)}" for key, value in properties.items())
        message = f"{texts.head(finding.file, finding.where)} {finding.code} {finding.message}"
        yield f"::{_COMMANDS[finding.severity]} {listed}::{_escape(message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
