"""What a rule is: data and two pure functions over queries that all rules share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradsight.finding import Finding, Fix, Severity
from gradsight.graph import Place

if TYPE_CHECKING:
    from gradsight.queries import Queries
    from gradsight.text import Source


@dataclass(frozen=True, slots=True)
class Report:
    """What a rule says, its places not yet turned into spans: that is done for each version of the text."""

    rule: Rule
    severity: Severity
    message: str
    where: Place
    path: tuple[tuple[str, Place], ...] = ()
    places: tuple[tuple[str, Place], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


Check = Callable[["Queries"], Iterator[Report]]
Mend = Callable[["Source", Finding], Iterable[Fix]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Its page is the docstring of the module that makes it."""

    code: str
    name: str
    check: Check
    fix: Mend

    @property
    def doc(self) -> str:
        """The rule's page: markdown under the headings of `SECTIONS`."""
        return sys.modules[self.check.__module__].__doc__ or ""

    def report(
        self,
        severity: Severity,
        message: str,
        where: Place,
        path: tuple[tuple[str, Place], ...] = (),
        places: tuple[tuple[str, Place], ...] = (),
        facts: tuple[tuple[str, str], ...] = (),
    ) -> Report:
        """Something to say about this rule."""
        return Report(self, severity, message, where, path, places, facts)


SECTIONS = ("What it does", "Why is this bad?", "Use instead", "When it is right")
