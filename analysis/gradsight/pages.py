"""The page of every code that a finding can have: those of the rules, and of the three that no rule makes."""

from __future__ import annotations

from typing import NamedTuple

from gradsight.rules import RULES


class Page(NamedTuple):
    """What `gradsight explain` and an editor show for a code."""

    code: str  # "GS102"
    name: str  # "detach-in-loss"
    doc: str  # markdown: a line of summary, then sections under the headings of `gradsight.rule.SECTIONS`

    @property
    def summary(self) -> str:
        """Its first sentence, on one line."""
        return " ".join(self.doc.split("\n\n", 1)[0].split())


_SYNTAX_ERROR = """\
A line that does not parse.

## What it does
Reports each logical line that is no Python, with what the parser says about it. What the line assigns is
unknown from there on; the lines around it are analysed all the same.

## Why is this bad?
The program cannot run. Findings may be missing, because what the line means is not known.

## Use instead
Mend the line.

## When it is right
Templates are no Python: list them under `exclude` in `[tool.gradsight]`.
"""

_NEWER_PYTHON = """\
A line that needs a newer Python than the one that runs Gradsight.

## What it does
Reports lines whose syntax is newer than the Python that Gradsight runs on, and names the Python that reads
them.

## Why is this bad?
Gradsight parses with the Python that it runs on. What such a line does is unknown to it, and findings may
be missing.

## Use instead
Run Gradsight on the Python that the program is written for.

## When it is right
The program itself is right. Only the analysis sees less.
"""

_UNUSED_SUPPRESSION = """\
An ignore comment that silences nothing.

## What it does
Reports `# gradsight: ignore` where its line has no finding, and each code in its brackets that silences
none.

## Why is this bad?
It was written for a finding that is gone. It would hide the next one.

## Use instead
Remove the comment, or the code from its brackets. A comment counts on the lines of the finding, not above
them.

## When it is right
Where the finding depends on the version of Gradsight: `# gradsight: ignore[GS102, GS003]` silences this
report too.
"""

PAGES: tuple[Page, ...] = (
    Page("GS001", "syntax-error", _SYNTAX_ERROR),
    Page("GS002", "newer-python", _NEWER_PYTHON),
    Page("GS003", "unused-suppression", _UNUSED_SUPPRESSION),
    *(Page(rule.code, rule.name, rule.doc.strip() + "\n") for rule in RULES),
)
