"""One line a finding: `FILE:ROW:COL CODE message`."""

from __future__ import annotations

from collections.abc import Iterator

from gradsight_cli.checking import Checked
from gradsight_cli.formats import Texts, head


def to_lines(checked: Checked, texts: Texts) -> Iterator[str]:
    """The lines of one file."""
    for finding in checked.findings:
        yield f"{head(finding, texts.place(finding.file, finding.where))} {finding.message}"
    for silence in checked.silences:
        place = texts.place(silence.file, silence.where)
        yield f"{silence.file}:{place.row}:{place.column} silent: {silence.reason}"
