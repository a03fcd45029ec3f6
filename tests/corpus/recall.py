"""What the analysis finds of the mutants that it should find."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gradsight.engine import Engine
from gradsight.finding import Finding, Severity
from gradsight.text import Source

from corpus.mutations import Mutant
from corpus.verdicts import Verdict


@dataclass(frozen=True)
class Seen:
    """A mutant and what the analysis says at its place."""

    verdict: Verdict
    there: tuple[Finding, ...]  # of the right family, touching the place
    elsewhere: tuple[Finding, ...]
    unknown: tuple[str, ...] = ()  # why the analysis knows no more

    @property
    def loud(self) -> tuple[Finding, ...]:
        """What is as loud as it should be, or a warning at least where nothing should be said."""
        rank = Severity(self.verdict.severity or "warning").rank
        return tuple(each for each in self.there if each.severity.rank <= rank)

    @property
    def found(self) -> bool:
        """Whether somebody is told, loudly enough, at the right place."""
        return bool(self.loud)

    @property
    def miscoded(self) -> bool:
        """Found, but as another loss of the gradient."""
        return self.found and all(each.code != self.verdict.mutant.rule for each in self.loud)

    @property
    def moved(self) -> bool:
        """Found, but the expression is not exactly the one that was changed (a block has no exact one)."""
        mutant = self.verdict.mutant
        exact = (mutant.start, mutant.end)
        return (
            self.found
            and mutant.rule != "GS105"
            and all((each.where.start, each.where.end) != exact for each in self.loud)
        )

    def __str__(self) -> str:
        mutant = self.verdict.mutant
        quote = " ".join(mutant.quote.split())
        quote = quote if len(quote) <= 70 else quote[:69] + "…"
        said = ", ".join(f"{each.code} {each.severity.value}" for each in self.there) or (
            "elsewhere " + ", ".join(each.code for each in self.elsewhere) if self.elsewhere else "silent"
        )
        where = f"{mutant.program}:{mutant.row} {mutant.rule} [{quote}] {self.verdict.severity}"
        return f"{where} ({mutant.style}; {self.verdict.said[:60]}): {said}"


def look(verdicts: Iterable[Verdict]) -> Iterator[Seen]:
    """Analyse mutants from scratch. A bug of a rule is raised."""
    for verdict in verdicts:
        mutant = verdict.mutant
        source = Source("program.py", mutant.text)
        findings = Engine(_raise).analyze(source)
        there = tuple(
            each for each in findings.findings if _is_of(mutant, each) and _is_at(mutant, each, source)
        )
        elsewhere = tuple(each for each in findings.findings if each not in there)
        yield Seen(verdict, there, elsewhere, tuple(str(each.reason) for each in findings.silences))


def _raise(where: str, error: BaseException) -> None:
    raise AssertionError(f"a bug in {where}") from error


def _is_of(mutant: Mutant, finding: Finding) -> bool:
    """The same code; a lost gradient counts by whichever code of a lost gradient."""
    return (
        finding.code == mutant.rule
        or finding.code in mutant.also
        or (finding.code.startswith("GS1") and mutant.rule.startswith("GS1"))
    )


def _is_at(mutant: Mutant, finding: Finding, source: Source) -> bool:
    """Touching one of the places, or beginning on one of their lines."""
    row = source.row_column(finding.where.start)[0]
    return any(
        (finding.where.start < end and start < finding.where.end) or row == source.row_column(start)[0]
        for start, end in ((mutant.start, mutant.end), *mutant.others)
    )


def table(verdicts: list[Verdict], seen: list[Seen]) -> str:
    """Recall for each rule and in all."""
    lines = [
        f"{'rule':8}{'mutants':>9}{'confirmed':>11}{'programs':>10}{'found':>7}{'recall':>8}{'miscoded':>10}"
        f"{'too quiet':>11}{'not wanted':>12}{'no change':>11}{'misfit':>8}"
    ]
    rules = sorted({each.mutant.rule for each in verdicts})
    for rule in [*rules, "all", "public"]:
        of = [each for each in verdicts if _counts(each, rule)]
        looked = [each for each in seen if _counts(each.verdict, rule)]
        found = [each for each in looked if each.found]
        kinds = [sum(each.kind == kind for each in of) for kind in ("not wanted", "not confirmed", "misfit")]
        lines.append(
            f"{rule:8}{len(of):9}{len(looked):11}{len({each.verdict.mutant.program for each in looked}):10}"
            f"{len(found):7}{len(found) / max(1, len(looked)):8.1%}{sum(each.miscoded for each in looked):10}"
            f"{sum(bool(each.there) and not each.found for each in looked):11}"
            f"{kinds[0]:12}{kinds[1]:11}{kinds[2]:8}"
        )
    return "\n".join(lines)


def _counts(verdict: Verdict, rule: str) -> bool:
    """Whether a verdict is counted in a row; what only memory shows is in no sum."""
    if rule == "all":
        return verdict.kind != "memory"
    if rule == "public":
        return verdict.kind != "memory" and verdict.mutant.in_package
    return verdict.mutant.rule == rule
