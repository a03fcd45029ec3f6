"""What a rule's page says: `gradsight explain` and `gradsight rules`."""

from __future__ import annotations

import sys

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


def list_rules(colour: str) -> int:
    """Print one line a rule; returns the exit code."""
    if wants_colour(sys.stdout, colour):
        from rich.console import Console
        from rich.table import Table

        table = Table("Code", "Name", "What it is about", box=None)
        for page in PAGES:
            table.add_row(page.code, page.name, page.summary)
        Console(force_terminal=True).print(table)
        return 0
    width = max(len(page.name) for page in PAGES)
    for page in PAGES:
        print(f"{page.code} {page.name:<{width}}  {page.summary}")
    return 0
