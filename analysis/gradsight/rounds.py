"""All fixes of a file at once: in rounds until nothing changes.

Pure. The command line writes the result, the language server sends it as one edit; both get the same text. A
notebook is fixed like a file: what cannot be made in its cells is not made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from gradsight import configuration
from gradsight.engine import Engine
from gradsight.finding import Applicability, Edit, Finding, Fix, apply
from gradsight.importing import Files
from gradsight.linking import ASKS
from gradsight.notebook import Notebook
from gradsight.syntax import parses
from gradsight.text import Source, Span

# Overlapping fixes wait for the next round; more rounds than this are two rules that undo each other's work.
ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Fixed:
    """A file after the fixes, which were made, and what is still found in it."""

    document: Source | Notebook
    made: tuple[str, ...]
    left: tuple[Finding, ...]

    @property
    def text(self) -> str:
        """The file's text; a notebook's program."""
        return program_of(self.document).text


def program_of(document: Source | Notebook) -> Source:
    """What is analysed of a file."""
    return document if isinstance(document, Source) else document.source


def fixes_of(
    engine: Engine, document: Source | Notebook, finding: Finding, files: Files | None = None
) -> tuple[Fix, ...]:
    """What mends a finding and can be made in the file, best first; in others, too, if `files` has these.
    Loads libcst."""
    if isinstance(document, Source):
        return engine.fixes(document, finding, files)
    return document.to_fixes(engine.fixes(document.mendable(), finding))


def fix_text(
    engine: Engine,
    document: Source | Notebook,
    wanted: Collection[Applicability],
    settings: configuration.Configuration,
    breaks: Callable[[Finding, Fix], None] = lambda finding, fix: None,
    only: Collection[str] = (),
    files: Files | None = None,
) -> Fixed:
    """Apply the first wanted fix of each finding, in rounds until nothing changes.

    `breaks` is told of a fix after which the file would parse no more; it is not made. `only` names the rules
    whose findings are asked for, by code; without it all are. With `files` the text is read together with
    those that it imports from; these are not changed.
    """

    def found(source: Source) -> tuple[Finding, ...]:
        findings = configuration.apply(settings, engine.analyze(source, files).findings)
        return tuple(each for each in findings if not only or each.code in only)

    made: list[str] = []
    source = program_of(document)
    seen = {source.text}
    findings = found(source)
    for _ in range(ROUNDS):
        chosen = []
        for finding in findings:
            fixes = (each for each in fixes_of(engine, document, finding) if each.applicability in wanted)
            chosen += [
                (finding, each) for each in fixes if all(edit.file == source.file for edit in each.edits)
            ][:1]
        changed, titles = _apply_together(document, chosen, breaks)
        if program_of(changed).text in seen:
            break
        document, source = changed, program_of(changed)
        seen.add(source.text)
        made += titles
        findings = found(source)
    return Fixed(document, tuple(made), findings)


@dataclass(frozen=True, slots=True)
class Crossing:
    """One fix that changes several files together, or another one than that which shows the mistake."""

    finding: Finding
    fix: Fix
    sources: tuple[Source, ...]  # the files that it changes, as they are with it


def abroad(
    engine: Engine,
    source: Source,
    files: Files,
    settings: Callable[[str], configuration.Configuration],
    only: Collection[str] = (),
) -> Iterator[Finding]:
    """What a file shows to be wrong in several files, as the settings of each file want it."""
    if not source.lines_with(ASKS):
        return
    found = engine.analyze(source, files)
    for finding in (*found.findings, *found.elsewhere):
        if finding.abroad and (not only or finding.code in only):
            yield from configuration.apply(settings(finding.file), (finding,))


def crossings(
    engine: Engine,
    source: Source,
    files: Files,
    wanted: Collection[Applicability],
    settings: Callable[[str], configuration.Configuration],
    only: Collection[str] = (),
) -> Iterator[Crossing]:
    """The first wanted fix of each finding that this file shows in several files, each for itself.

    `settings` are those of a file. A fix after which a file would parse no more is not among them.
    """
    for finding in abroad(engine, source, files, settings, only):
        fixes = engine.fixes(source, finding, files)
        fix = next((each for each in fixes if each.applicability in wanted), None)
        if fix is None:
            continue
        changed = []
        for file in dict.fromkeys(edit.file for edit in fix.edits):
            before = source if file == source.file else files.read(file)
            assert before is not None  # the fix was made of it
            after = apply(before.text, tuple(edit for edit in fix.edits if edit.file == file))
            changed.append(Source(file, after))
        yield Crossing(finding, fix, tuple(changed))


def with_line_ends(text: str, edit: Edit) -> Edit:
    """The edit with the line ends of the text that it goes into."""
    if "\r\n" not in text or "\n" not in edit.text:
        return edit
    return replace(edit, text=edit.text.replace("\r\n", "\n").replace("\n", "\r\n"))


def _apply_together(
    document: Source | Notebook, chosen: list[tuple[Finding, Fix]], breaks: Callable[[Finding, Fix], None]
) -> tuple[Source | Notebook, list[str]]:
    """The file after all fixes that touch no place of an earlier one, and their titles."""
    text, broken = program_of(document).text, _broken(document)
    edits: tuple[Edit, ...] = ()
    titles = []
    result = document
    for finding, each in chosen:
        own = tuple(with_line_ends(text, edit) for edit in each.edits)
        if not own or any(_touch(a.where, b.where) for a in own for b in edits):
            continue
        changed = _applied(document, edits + own)
        if changed is None:
            continue
        if _broken(changed) - broken:
            breaks(finding, each)
            continue
        edits += own
        result = changed
        titles.append(f"{finding.code}: {each.title}")
    return result, titles


def _applied(document: Source | Notebook, edits: tuple[Edit, ...]) -> Source | Notebook | None:
    if isinstance(document, Source):
        return Source(document.file, apply(document.text, edits))
    in_cells = document.to_cell_edits(edits)
    return None if in_cells is None else document.applied(in_cells)


def _broken(document: Source | Notebook) -> frozenset[int]:
    """The parts of a file that do not parse, counted from 0: a notebook's cells."""
    source = program_of(document)
    return frozenset(number for number, part in enumerate(source.parts) if not parses(source.slice(part)))


def _touch(a: Span, b: Span) -> bool:
    return a.start <= b.end and b.start <= a.end
