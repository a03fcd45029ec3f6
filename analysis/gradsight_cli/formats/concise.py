"""One line a finding: `FILE:ROW:COL CODE message`."""

from __future__ import annotations

from collections.abc import Iterator

from gradsight_cli.checking import Checked
from gradsight_cli.formats import Texts


def to_lines(checked: Checked, texts: Texts) -> Iterator[str]:
    """The lines of one file."""
    for finding in checked.findings:
        yield f"{texts.head(finding.file, finding.where)} {finding.code} {finding.message}"
    for silence in checked.silences:
        yield f"{texts.head(silence.file, silence.where)} silent: {silence.reason}"
