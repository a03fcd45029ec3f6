"""All fixes of a file at once: in rounds until nothing changes.

Pure. The command line writes the result, the language server sends it as one edit; both get the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from gradsight import configuration
from gradsight.engine import Engine
from gradsight.finding import Applicability, Edit, Finding, Fix, apply
from gradsight.syntax import UNPARSABLE, parse
from gradsight.text import Source, Span

# Overlapping fixes wait for the next round; more rounds than this are two rules that undo each other's work.
ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Fixed:
    """A file's text after the fixes, how many were made, and what is still found in it."""

    text: str
    made: tuple[str, ...]
    left: tuple[Finding, ...]


def fix_text(
    engine: Engine,
    source: Source,
    wanted: Collection[Applicability],
    settings: configuration.Configuration,
    breaks: Callable[[Finding, Fix], None] = lambda finding, fix: None,
) -> Fixed:
    """Apply the first wanted fix of each finding, in rounds until nothing changes.

    `breaks` is told of a fix after which the file would parse no more; it is not made.
    """
    made: list[str] = []
    seen = {source.text}
    findings = configuration.apply(settings, engine.analyze(source).findings)
    for _ in range(ROUNDS):
        chosen = []
        for finding in findings:
            fixes = (each for each in engine.fixes(source, finding) if each.applicability in wanted)
            chosen += [
                (finding, each) for each in fixes if all(edit.file == source.file for edit in each.edits)
            ][:1]
        text, titles = _apply_together(source.text, chosen, breaks)
        if text in seen:
            break
        seen.add(text)
        made += titles
        source = Source(source.file, text)
        findings = configuration.apply(settings, engine.analyze(source).findings)
    return Fixed(source.text, tuple(made), findings)


def with_line_ends(text: str, edit: Edit) -> Edit:
    """The edit with the line ends of the text that it goes into."""
    if "\r\n" not in text or "\n" not in edit.text:
        return edit
    return replace(edit, text=edit.text.replace("\r\n", "\n").replace("\n", "\r\n"))


def _apply_together(
    text: str, chosen: list[tuple[Finding, Fix]], breaks: Callable[[Finding, Fix], None]
) -> tuple[str, list[str]]:
    """The text after all fixes that touch no place of an earlier one, and their titles."""
    parses = _parses(text)
    edits: tuple[Edit, ...] = ()
    titles = []
    result = text
    for finding, each in chosen:
        own = tuple(with_line_ends(text, edit) for edit in each.edits)
        if not own or any(_touch(a.where, b.where) for a in own for b in edits):
            continue
        changed = apply(text, edits + own)
        if parses and not _parses(changed):
            breaks(finding, each)
            continue
        edits += own
        result = changed
        titles.append(f"{finding.code}: {each.title}")
    return result, titles


def _parses(text: str) -> bool:
    try:
        parse(text)
    except UNPARSABLE:
        return False
    return True


def _touch(a: Span, b: Span) -> bool:
    return a.start <= b.end and b.start <= a.end
