"""What a rule's page says: `gradsight explain` and `gradsight rules`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from gradsight.pages import PAGES

from gradsight_cli.painting import wants_colour


def explain(asked: str, colour: str) -> int:
    """Print the page of the rule with this code or name; returns the exit code."""
    for page in PAGES:
        if asked.upper() == page.code or asked.lower() == page.name:
            break
    else:
        import difflib

        known = [each for page in PAGES for each in (page.code, page.name)]
        near = difflib.get_close_matches(asked.upper(), known, cutoff=0.5) or difflib.get_close_matches(
            asked.lower(), known
        )
        hint = f"did you mean {' or '.join(near)}?" if near else "`gradsight rules` lists them"
        print(f"gradsight: there is no rule `{asked}`: {hint}", file=sys.stderr)
        return 2
    text = f"# {page.code} {page.name}\n\n{page.doc}"
    if wants_colour(sys.stdout, colour):
        from rich.console import Console
        from rich.markdown import Markdown

        Console(force_terminal=True).print(Markdown(text))
    else:
        sys.stdout.write(text)
    return 0


class Known(NamedTuple):
    """What is known of a rule: numbers of programs, mistakes and findings."""

    flagged: int  # programs that must be found
    clean: int  # look-alikes that must not
    found: int  # of the mistakes
    confirmed: int  # that were put into good programs, and that torch says are some
    public: int  # findings in public packages
    disputed: int  # of these the false ones, and those that somebody may have meant

    def cells(self) -> tuple[str, str, str]:
        """Programs, recall and findings in public code, for people."""
        recall = f"{self.found / self.confirmed:.0%} of {self.confirmed}" if self.confirmed else "-"
        return (
            f"{self.flagged}+{self.clean}",
            recall,
            f"{self.public} ({self.disputed})" if self.public else "0",
        )


def catalogue() -> dict[str, Known]:
    """What is known of each rule, by its code: written by tests/catalogue.py."""
    import json

    text = Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8")
    return {code: Known(**one) for code, one in json.loads(text).items()}


def list_rules(colour: str) -> int:
    """Print one line a rule; returns the exit code."""
    known = catalogue()
    head = ("Code", "Name", "Programs", "Recall", "Public code", "What it is about")
    rows = [
        (
            page.code,
            page.name,
            *(known[page.code].cells() if page.code in known else ("", "", "")),
            page.summary,
        )
        for page in PAGES
    ]
    if wants_colour(sys.stdout, colour):
        from rich.console import Console
        from rich.table import Table

        table = Table(*head, box=None)
        for row in rows:
            table.add_row(*row)
        Console(force_terminal=True).print(table)
        return 0
    code, name, *figures, _ = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = "  ".join(f"{cell:>{width}}" for cell, width in zip(row[2:-1], figures, strict=True))
        print(f"{row[0]:<{code}} {row[1]:<{name}}  {cells}  {row[-1]}")
    return 0
