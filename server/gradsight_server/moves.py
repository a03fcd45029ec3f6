"""Where the rows of a text are in a later version of it, and whether its code is another.

Invariants: pure; blank lines, comments and the layout inside a line are no code. What an edit leaves alone
costs no look: equal lines are one object.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable

from gradsight.lines import Line
from gradsight.outline import common
from gradsight.text import Source, Span

LONGEST_DIFFERENCE = 1_000_000  # lines before times lines after: more are not matched with each other


def moves(old: Source, new: Source) -> tuple[bool, Callable[[int], int | None]]:
    """Whether the code is another, and where in the new text a physical row of the old one is.

    Only what lies between the lines that both begin with and the lines that both end with is looked at.
    """
    if new is old:
        return False, lambda row: row
    before, after = old.units, new.units
    head = common(before, after)
    tail = common(before[head:][::-1], after[head:][::-1])
    middle = [at for at in range(head, len(before) - tail) if before[at].code]
    fresh = [at for at in range(head, len(after) - tail) if after[at].code]
    stale = len(middle) != len(fresh) or not all(
        _same_code(before[one], after[other]) for one, other in zip(middle, fresh, strict=True)
    )
    met: dict[int, int] = {}
    if len(middle) == len(fresh):
        met = dict(zip(middle, fresh, strict=True))
    elif len(middle) * len(fresh) <= LONGEST_DIFFERENCE:
        matcher = difflib.SequenceMatcher(
            None, [before[at] for at in middle], [after[at] for at in fresh], autojunk=False
        )
        for block in matcher.get_matching_blocks():
            for number in range(block.size):
                met[middle[block.a + number]] = fresh[block.b + number]

    def place(row: int) -> int | None:
        at = old.unit_at(row)
        if at < head:
            then = at
        elif at >= len(before) - tail:
            then = at + len(after) - len(before)
        elif at in met:
            then = met[at]
        else:
            return None
        return new.starts[then] + min(row - old.starts[at], after[then].count - 1)

    return stale, place


def unit_at(source: Source, row: int) -> tuple[Line, int]:
    """The logical line at a physical row, and the row that it begins at."""
    at = source.unit_at(row)
    return source.units[at], source.starts[at]


def line_span(source: Source, row: int) -> Span:
    text = source.line_text(row)
    start = source.offset(row, len(text) - len(text.lstrip()))
    return Span(start, max(start, source.offset(row, len(text.rstrip()))))


def _same_code(one: Line, other: Line) -> bool:
    if one is other:
        return True
    if one.error is not None or other.error is not None:
        return False
    same = (one.indent, one.role, one.header) == (other.indent, other.role, other.header)
    return same and list(map(ast.dump, one.nodes)) == list(map(ast.dump, other.nodes))
