"""Files that import each other, read as one program.

A file that asks for gradients is read together with the files that it imports from: their logical lines
stand before its own, each with the names of its own module made unmistakable (`Net` of `model.py` becomes
`Net` and the file's name, which no text can spell). So whoever reads functions, classes and names need not
know of files. Places stay exact: a line keeps its text, and a place of another file is one behind `STRIDE`.

It reads no file: `Files` gives their texts. What is not found, or stands beyond the limits, stays unknown.
"""

from __future__ import annotations

import ast
import re
import weakref
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from gradsight.importing import Files, Finder, Targets, importing, imports_of, wanted_by
from gradsight.interpret.index import line_links
from gradsight.lines import Line
from gradsight.renaming import Module, linked_line, suffix_of
from gradsight.text import Source, Span, Units

STRIDE = 1 << 40  # offsets and rows of another file are its own and a multiple of this
MOST_FILES = 24  # that one file is read together with
MOST_UNITS = 12_000  # logical lines of all of them
ASKS = re.compile(
    r"\bbackward\(|\bautograd\.grad\b|\btraining_step\b|\bmanual_backward\b|\bcompute_loss\b"
    r"|\bNeuralNet\w*\(|\bLearner\(|\bcreate_supervised_trainer\(|\bTrainer\(\s*model\b"
)


class Linked:
    """The lines of a file and of those that it imports from: what is read as one program. Frozen."""

    __slots__ = ("_parts", "file", "first", "main", "starts", "units")

    def __init__(
        self, main: Source, parts: Sequence[Part], units: Units, starts: Sequence[int], first: int
    ) -> None:
        self.file, self.main, self.units, self.starts, self.first = main.file, main, units, starts, first
        self._parts = {part.number: part for part in parts}

    @property
    def text(self) -> str:
        """The file's own."""
        return self.main.text

    def source_at(self, place: int) -> tuple[Source, int]:
        """The file that a row or an offset is in, and how much it is more than there."""
        number = place // STRIDE
        return (self._parts[number].source, number * STRIDE) if number else (self.main, 0)

    def line_offset(self, row: int) -> int:
        source, base = self.source_at(row)
        return source.line_offset(row - base) + base

    def line_offsets(self) -> None:
        """Many places will be asked for."""
        self.main.line_offsets()

    def span_of(self, at: int, node: ast.AST) -> Span:
        """As `Source.span_of`."""
        if at >= self.first:
            return self.main.span_of(at - self.first, node)
        source, base = self.source_at(self.starts[at])
        span = source.span_of(source.unit_at(self.starts[at] - base), node)
        return Span(span.start + base, span.end + base)

    def slice(self, span: Span) -> str:
        source, base = self.source_at(span.start)
        return source.slice(Span(span.start - base, span.end - base))

    def unit_at(self, row: int) -> int:
        return self.main.unit_at(row) + self.first

    def row_column(self, offset: int) -> tuple[int, int]:
        return self.main.row_column(offset)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One of the other files as it is read: each name of its module carries the file's."""

    source: Source
    number: int
    units: tuple[Line, ...]
    starts: tuple[int, ...]


class Linker:
    """Links the files of one engine. Files keep their numbers, so that what is kept of one stays right."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._files: list[str] = [""]
        self._modules: dict[str, Module] = {}
        self._parts: dict[str, tuple[Module, tuple[object, ...], Part]] = {}
        self._before: dict[str, _Before] = {}
        self._asked: dict[str, Set[str]] = {}  # of each file the files that were asked for

    def place(self, file: str, span: Span) -> tuple[str, Span]:
        """The file that a place of a linked program stands in, and where in it; `file` is the program's."""
        number = span.start // STRIDE
        if not number:
            return file, span
        return self._files[number], Span(span.start - number * STRIDE, span.end - number * STRIDE)

    def asked(self, file: str) -> Set[str]:
        """The files that were asked for when this one was last read together with others."""
        return self._asked.get(file, frozenset())

    def text_of(self, file: str) -> int | None:
        """The hash of a file's text as it was last read together with another."""
        module = self._modules.get(file)
        return None if module is None else hash(module.source.text)

    def users(self, files: set[str]) -> set[str]:
        """The files that were last read together with one of these, or asked for one that is not there."""
        return {file for file, asked in self._asked.items() if not files.isdisjoint(asked)}

    def forget(self, file: str) -> None:
        """Keep nothing of this file."""
        self._modules.pop(file, None)
        self._parts.pop(file, None)
        self._before.pop(file, None)
        self._asked.pop(file, None)

    def link(self, source: Source, files: Files) -> Linked | None:
        """The file and all that it imports from; None where it asks for no gradient, or imports nothing."""
        if not source.lines_with(ASKS):
            return None
        before = self._before.get(source.file)
        units = source.units
        assert isinstance(units, Units)
        edited = before is not None and units.origin is not None and units.origin() is before.units
        if before is not None and edited and not _touches_imports(units, before.units):
            imports = before.imports
        else:
            imports = importing(units)
        if not imports:
            self._before.pop(source.file, None)
            return None
        state = files.state
        if before is None or state is None or (before.state, before.imports) != (state, imports):
            plan = self._plan(source.file, imports, files)
        else:
            plan = before.plan
        linked = None
        if plan is not None:
            same = before if edited and before is not None and before.plan is plan else None
            linked = plan.linked(source, units, same)
        self._before[source.file] = _Before(units, imports, state, plan, linked)
        return linked

    def _plan(self, file: str, imports: Sequence[Line], files: Files) -> _Plan | None:
        """What a file is read together with; None where nothing that it imports is there."""
        finder = Finder(files)
        order: dict[str, Module] = {}
        targets: dict[str, Targets] = {}
        self._gather(file, imports, finder, order, targets, [0])
        self._asked[file] = finder.asked
        if not order:
            return None
        parts = tuple(self._part(module, targets[other], order) for other, module in order.items())
        return _Plan(parts, targets[file], order)

    def _gather(
        self,
        asking: str,
        imports: Sequence[Line],
        finder: Finder,
        order: dict[str, Module],
        targets: dict[str, Targets],
        size: list[int],
    ) -> None:
        """Whom a file imports from, those first whom these import from."""
        mine = targets[asking] = Targets()
        for line in imports:
            for target in wanted_by(line):
                for source in finder.find(asking, target):
                    file = source.file
                    if file in targets:
                        continue
                    other = self._modules.get(file)
                    if other is None or other.source is not source:
                        other = self._modules[file] = Module(source)
                    if len(targets) > MOST_FILES or size[0] + len(source.units) > MOST_UNITS:
                        continue
                    size[0] += len(source.units)
                    self._gather(file, other.imports, finder, order, targets, size)
                    order[file] = other
        for line in imports:
            mine.add(line, asking, finder, targets)

    def _part(self, module: Module, targets: Targets, order: Mapping[str, Module]) -> Part:
        file = module.source.file
        names = tuple(
            (other, order[other].bound) for other in dict.fromkeys(targets.files()) if other in order
        )
        key = (tuple(targets.aliases.items()), tuple(targets.spaces.items()), names)
        kept = self._parts.get(file)
        if kept is not None and kept[0] is module and kept[1] == key:
            return kept[2]
        number = self._numbers.get(file)
        if number is None:
            number = self._numbers[file] = len(self._files)
            self._files.append(file)
        units: list[Line] = []
        starts: list[int] = []
        suffix = suffix_of(file)
        for at, line, scope in module.scoped():
            units.append(
                linked_line(
                    line, suffix, targets, order, not scope.inside, scope.function, scope.renamed(line)
                )
            )
            starts.append(module.source.starts[at] + number * STRIDE)
        part = Part(module.source, number, tuple(units), tuple(starts))
        self._parts[file] = module, key, part
        return part


def _touches_imports(units: Units, old: Units) -> bool:
    """Whether an edit took or gave a line that imports something."""
    last = len(units) - (len(old) - units.last)
    return any(map(imports_of, (*old[units.first : units.last], *units[units.first : last])))


class _Plan:
    """The files that one is read together with, and what its own lines mean beside them."""

    def __init__(self, parts: tuple[Part, ...], own: Targets, order: Mapping[str, Module]) -> None:
        self._parts, self._own, self._order = parts, own, order
        self._spaces = frozenset(dotted.partition(".")[0] for dotted in own.spaces)
        self._units = [line for part in parts for line in part.units]
        self._starts = [start for part in parts for start in part.starts]

    def linked(self, source: Source, units: Units, before: _Before | None) -> Linked:
        """The file among the others; `before` of one edit ago, where only its own lines changed since."""
        first = len(self._units)
        starts = self._starts + list(source.starts)
        if before is None or before.linked is None:
            return Linked(
                source, self._parts, Units(self._units + list(map(self._line, units))), starts, first
            )
        old = before.linked.units
        last = len(units) - (len(before.units) - units.last)
        whole = Units(old, first + units.first, first + units.last)
        whole[first + units.first : first + units.last] = map(self._line, units[units.first : last])
        whole.origin = weakref.ref(old)
        return Linked(source, self._parts, whole, starts, first)

    def _line(self, line: Line) -> Line:
        if not imports_of(line) and (not self._spaces or line_links(line).names.isdisjoint(self._spaces)):
            return line
        return linked_line(line, "", self._own, self._order, False, False, ())


@dataclass(frozen=True, slots=True)
class _Before:
    """What was made of a file last."""

    units: Units
    imports: list[Line]
    state: object
    plan: _Plan | None
    linked: Linked | None
