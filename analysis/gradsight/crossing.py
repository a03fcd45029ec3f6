"""Fixes of findings whose places stand in several files.

A rule's fix knows one text. It is given the files of its finding one behind the other, and what it would
change is taken back to each file. Pure, and careful: where a file was edited since the finding was made, or
an edit would leave its file, or use a name that its file does not know, there is no such fix.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gradsight.finding import Edit, Finding, Fix, apply
from gradsight.rule import Mend
from gradsight.text import Source, Span

_TOGETHER = "several files"  # what the text of all is called
_BETWEEN = "\n\n"
_KNOWN = frozenset(dir(builtins)) | {"__file__", "__name__", "__class__", "__doc__", "__path__"}


def fixes_across(mend: Mend, finding: Finding, read: Callable[[str], Source | None]) -> tuple[Fix, ...]:
    """The fixes of a finding in the files that it is about; each `Edit` names its own.

    `read` gives these files. None is offered that would change a file which is not there, is another one now,
    or does not parse.
    """
    sources: dict[str, Source] = {}
    for file in finding.files:
        source = read(file)
        if source is None or source.bounds:
            return ()
        sources[file] = source
    for each in finding.abroad:
        if each.text is not None and each.text != hash(sources[each.file].text):
            return ()
    bound = {file: _unbound(source.text) for file, source in sources.items()}
    if None in bound.values():
        return ()
    for first in sources:  # an import that a fix needs goes to the top of the text
        order = [first, *(file for file in sources if file != first)]
        fixes = [_taken_back(fix, order, sources, bound) for fix in _together(mend, finding, order, sources)]
        made = tuple([_named(fix, finding.file) for fix in fixes if fix is not None])
        if made:
            return made
    return ()


def _together(mend: Mend, finding: Finding, order: Sequence[str], sources: Mapping[str, Source]) -> list[Fix]:
    """What the rule would change in the text of all files."""
    begins = _begins(order, sources)

    def moved(file: str, where: Span) -> Span:
        return Span(where.start + begins[file], where.end + begins[file])

    (_, at), *places = [(each.name, moved(each.file, each.where)) for each in finding.abroad]
    as_one = replace(
        finding,
        file=_TOGETHER,
        where=at,
        path=tuple(
            [replace(step, file=_TOGETHER, where=moved(step.file, step.where)) for step in finding.path]
        ),
        places=tuple(places),
        abroad=(),
    )
    text = _BETWEEN.join([sources[file].text for file in order])
    return list(mend(Source(_TOGETHER, text), as_one))


def _begins(order: Sequence[str], sources: Mapping[str, Source]) -> dict[str, int]:
    """Where each file begins in the text of all."""
    begins, at = {}, 0
    for file in order:
        begins[file] = at
        at += len(sources[file].text) + len(_BETWEEN)
    return begins


def _taken_back(
    fix: Fix,
    order: Sequence[str],
    sources: Mapping[str, Source],
    unbound: Mapping[str, frozenset[str] | None],
) -> Fix | None:
    """The fix with each edit in its file; None where one would leave it, or break it."""
    begins = _begins(order, sources)
    edits: dict[str, list[Edit]] = {}
    for edit in fix.edits:
        file = next((file for file in reversed(order) if begins[file] <= edit.where.start), order[0])
        where = Span(edit.where.start - begins[file], edit.where.end - begins[file])
        if where.end > len(sources[file].text):
            return None
        text = edit.text
        if "\r\n" in sources[file].text:
            text = text.replace("\r\n", "\n").replace("\n", "\r\n")
        edits.setdefault(file, []).append(Edit(file, where, text))
    for file, made in edits.items():
        before, after = unbound[file], _unbound(apply(sources[file].text, tuple(made)))
        if before is None or after is None or after - before:
            return None
    return replace(fix, edits=tuple([edit for file in sources for edit in edits.get(file, ())]))


def _unbound(text: str) -> frozenset[str] | None:
    """The names that a file uses and nowhere binds; None where it does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    used: set[str] = set()
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
        elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.add(node.rest)
    return frozenset() if "*" in bound else frozenset(used - bound - _KNOWN)


def _named(fix: Fix, home: str) -> Fix:
    """The fix, whose title says which other files it changes."""
    others = [file for file in dict.fromkeys(edit.file for edit in fix.edits) if file != home]
    if not others:
        return fix
    names = " and ".join(file.replace("\\", "/").rpartition("/")[2] for file in others)
    return replace(fix, title=f"{fix.title} (changes {names})")
