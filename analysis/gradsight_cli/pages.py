"""What a rule's page says: `gradsight explain` and `gradsight rules`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gradsight.rules import RULES

from gradsight_cli.painting import wants_colour

if TYPE_CHECKING:
    from gradsight.rule import Rule


def summary(rule: Rule) -> str:
    """The first line of a rule's page."""
    return rule.doc.strip().split("\n", 1)[0]


def explain(asked: str, colour: str) -> int:
    """Print the page of the rule with this code or name; returns the exit code."""
    for rule in RULES:
        if asked.upper() == rule.code or asked.lower() == rule.name:
            break
    else:
        import difflib

        known = [each for rule in RULES for each in (rule.code, rule.name)]
        near = difflib.get_close_matches(asked.upper(), known, cutoff=0.5) or difflib.get_close_matches(
            asked.lower(), known
        )
        hint = f"did you mean {' or '.join(near)}?" if near else "`gradsight rules` lists them"
        print(f"gradsight: there is no rule `{asked}`: {hint}", file=sys.stderr)
        return 2
    page = f"# {rule.code} {rule.name}\n\n{rule.doc.strip()}\n"
    if wants_colour(sys.stdout, colour):
        from rich.console import Console
        from rich.markdown import Markdown

        Console(force_terminal=True).print(Markdown(page))
    else:
        sys.stdout.write(page)
    return 0


def list_rules(colour: str) -> int:
    """Print one line a rule; returns the exit code."""
    if wants_colour(sys.stdout, colour):
        from rich.console import Console
        from rich.table import Table

        table = Table("Code", "Name", "What it is about", box=None)
        for rule in RULES:
            table.add_row(rule.code, rule.name, summary(rule))
        Console(force_terminal=True).print(table)
        return 0
    width = max(len(rule.name) for rule in RULES)
    for rule in RULES:
        print(f"{rule.code} {rule.name:<{width}}  {summary(rule)}")
    return 0
