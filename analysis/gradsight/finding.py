"""What the analysis says: findings with the way they took, and fixes made of small edits.

Everything here is frozen data. Spans are code-point offsets into the text of the file they name;
rows, columns and UTF-16 exist only in `text.py` and at the rim (the server's `convert.py`, the command
line's formats).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from gradsight.text import Span


class Severity(enum.Enum):
    """How loud, loudest first."""

    ERROR = "error"
    WARNING = "warning"
    INFORMATION = "information"
    HINT = "hint"

    @property
    def rank(self) -> int:
        """0 for the loudest."""
        return list(Severity).index(self)


class Applicability(enum.Enum):
    """What may be done with a fix, in Ruff's words."""

    SAFE = "safe"  # forward values stay equal and no live term changes its gradient
    UNSAFE = "unsafe"  # complete, but something changes: the title says what
    DISPLAY = "display"  # a person must complete it


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the way from what must learn to the sink."""

    message: str
    file: str
    where: Span


@dataclass(frozen=True, slots=True)
class Abroad:
    """A place of a finding whose places stand in several files."""

    name: str
    file: str
    where: Span
    text: int | None  # the hash of the file's text that it was found in; None: of the text that was analysed


@dataclass(frozen=True, slots=True)
class Finding:
    """One root cause, placed where it can be mended."""

    code: str  # "GS102"
    name: str  # "detach-in-loss"
    severity: Severity
    message: str
    file: str
    where: Span
    path: tuple[Step, ...] = ()
    # Further places that the rule's fix needs (the sink, the other backward, ...), by name. Never shown.
    places: tuple[tuple[str, Span], ...] = field(default=(), repr=False)
    # Further facts that the rule's fix needs, by name. Never shown.
    facts: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    # Where that stands in several files: first what it is about, then the `places`, which are empty.
    abroad: tuple[Abroad, ...] = field(default=(), repr=False)

    @property
    def files(self) -> tuple[str, ...]:
        """Those that it stands in, and those on its way."""
        own = [each.file for each in self.abroad] or [self.file]
        return tuple(dict.fromkeys([*own, *(step.file for step in self.path)]))

    def place(self, name: str) -> Span | None:
        """The first place kept for the fix under `name`."""
        return next((span for key, span in self.places if key == name), None)

    def all_places(self, name: str) -> tuple[Span, ...]:
        """Every place kept for the fix under `name`, in order."""
        return tuple(span for key, span in self.places if key == name)

    def fact(self, name: str) -> str | None:
        """The first fact kept for the fix under `name`."""
        return next((value for key, value in self.facts if key == name), None)


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the text at `where` of `file` by `text`."""

    file: str
    where: Span
    text: str


@dataclass(frozen=True, slots=True)
class Fix:
    """A titled set of edits, applied all together or not at all."""

    title: str
    applicability: Applicability
    edits: tuple[Edit, ...]


def apply(text: str, edits: tuple[Edit, ...]) -> str:
    """The text with all edits applied.

    Raises:
        ValueError: two edits overlap or one lies outside the text.
    """
    ordered = sorted(edits, key=lambda edit: (edit.where.start, edit.where.end))
    pieces: list[str] = []
    position = 0
    for edit in ordered:
        if edit.where.start < position or edit.where.end > len(text):
            raise ValueError(f"edits overlap or leave the text at {edit.where}")
        pieces += (text[position : edit.where.start], edit.text)
        position = edit.where.end
    return "".join((*pieces, text[position:]))
