"""What cannot be read, as findings: lines that do not parse, and files whose lines do and which do not.

Nothing here knows of gradients.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import pairwise

from gradsight.finding import Finding, Severity
from gradsight.syntax import UNPARSABLE, parse
from gradsight.text import Source, Span

# Where a finding stands, by its unit and the offsets within it, and its code.
Standing = tuple[int, int, int, str]


def unparsable(source: Source) -> Iterator[tuple[Standing, Finding, Hashable]]:
    """Lines that do not parse: findings of their own, beside the others, with what anchors them."""
    starts = source.starts
    for at in source.broken:
        line = source.units[at]
        row, column = line.error_at
        first = source.offset(starts[at], 0)
        start = source.offset(starts[at] + row, column)
        end = max(start, source.offset(starts[at] + row, 1 << 30))
        where = Span(start, end)
        if line.needs is not None:
            message = (
                f"this line needs Python {line.needs} or newer to be read; what it binds is unknown here"
            )
            finding = Finding("GS002", "newer-python", Severity.INFORMATION, message, source.file, where)
        else:
            message = f"this line does not parse: {line.error}"
            finding = Finding("GS001", "syntax-error", Severity.ERROR, message, source.file, where)
        yield (at, start - first, end - first, finding.code), finding, (line, starts[at])


def unparsable_whole(source: Source) -> Iterator[Finding]:
    """The syntax error of a file, or of each cell of a notebook, whose lines each parse."""
    edges = (0, *source.bounds, len(source.physical))
    for (first, stop), part in zip(pairwise(edges), source.parts, strict=True):
        try:
            parse(source.slice(part))
        except SyntaxError as error:
            row = min(first + (error.lineno or 1), stop) - 1
            start = source.offset(row, max((error.offset or 1) - 1, 0))
            where = Span(start, max(start, source.offset(row, 1 << 30)))
            message = f"this {'cell' if source.bounds else 'file'} does not parse: {error.msg}"
            yield Finding("GS001", "syntax-error", Severity.ERROR, message, source.file, where)
        except UNPARSABLE:
            continue  # too deep for one parse, though each line is not
