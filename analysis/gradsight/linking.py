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
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, TypeVar

from gradsight.interpret.index import LINKED, line_binds, line_links
from gradsight.lines import Line
from gradsight.text import Source, Span, Units

STRIDE = 1 << 40  # offsets and rows of another file are its own and a multiple of this
MOST_FILES = 24  # that one file is read together with
MOST_UNITS = 12_000  # logical lines of all of them
MOST_UP = 6  # folders above a file in which the packages that it names may lie
ASKS = re.compile(
    r"\bbackward\(|\bautograd\.grad\b|\btraining_step\b|\bmanual_backward\b|\bcompute_loss\b"
    r"|\bNeuralNet\w*\(|\bLearner\(|\bcreate_supervised_trainer\(|\bTrainer\(\s*model\b"
)
_MAIN = re.compile(r"if\s*\(?\s*__name__\b")
_MARK = re.compile("\0[^\0]*\0")
# Modules that a project's own files are hardly ever meant by.
_LIBRARIES = frozenset(sys.stdlib_module_names) | {
    "torch", "numpy", "torchvision", "torchaudio", "scipy", "sklearn", "pandas", "matplotlib", "tqdm",
    "transformers", "lightning", "pytorch_lightning", "accelerate", "tensorboardX", "wandb", "yaml", "PIL",
    "cv2", "einops", "timm",
}  # fmt: skip


class Files(Protocol):
    """The texts around the one that is analysed: open documents over disk, or disk alone."""

    @property
    def state(self) -> object:
        """Equal as long as every answer is the same; None where nobody knows."""

    def read(self, file: str) -> Source | None:
        """A Python file, the same object as long as its text is the same; None where there is none."""


def plain(text: str) -> str:
    """A text in which names of other files' modules are spelled as there."""
    return _MARK.sub("", text) if "\0" in text else text


def is_linked(name: str) -> bool:
    """Whether a function or class is another file's."""
    return "\0" in name


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
        self._modules: dict[str, _Module] = {}
        self._parts: dict[str, tuple[_Module, tuple[object, ...], Part]] = {}
        self._before: dict[str, _Before] = {}
        self._asked: dict[str, Set[str]] = {}  # of each file the files that were asked for

    def place(self, file: str, span: Span) -> tuple[str, Span]:
        """The file that a place of a linked program stands in, and where in it; `file` is the program's."""
        number = span.start // STRIDE
        if not number:
            return file, span
        return self._files[number], Span(span.start - number * STRIDE, span.end - number * STRIDE)

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
            imports = _importing(units)
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
        finder = _Finder(files)
        order: dict[str, _Module] = {}
        targets: dict[str, _Targets] = {}
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
        finder: _Finder,
        order: dict[str, _Module],
        targets: dict[str, _Targets],
        size: list[int],
    ) -> None:
        """Whom a file imports from, those first whom these import from."""
        mine = targets[asking] = _Targets()
        for line in imports:
            for target in _wanted(line):
                for source in finder.find(asking, target):
                    file = source.file
                    if file in targets:
                        continue
                    other = self._modules.get(file)
                    if other is None or other.source is not source:
                        other = self._modules[file] = _Module(source)
                    if len(targets) > MOST_FILES or size[0] + len(source.units) > MOST_UNITS:
                        continue
                    size[0] += len(source.units)
                    self._gather(file, other.imports, finder, order, targets, size)
                    order[file] = other
        for line in imports:
            mine.add(line, asking, finder, targets)

    def _part(self, module: _Module, targets: _Targets, order: Mapping[str, _Module]) -> Part:
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
                _linked_line(
                    line, suffix, targets, order, not scope.inside, scope.function, scope.renamed(line)
                )
            )
            starts.append(module.source.starts[at] + number * STRIDE)
        part = Part(module.source, number, tuple(units), tuple(starts))
        self._parts[file] = module, key, part
        return part


def suffix_of(file: str) -> str:
    """What the names of a file's module carry."""
    return f"\0{file}\0"


def _touches_imports(units: Units, old: Units) -> bool:
    """Whether an edit took or gave a line that imports something."""
    last = len(units) - (len(old) - units.last)
    return any(map(_imports, old[units.first : units.last])) or any(map(_imports, units[units.first : last]))


class _Plan:
    """The files that one is read together with, and what its own lines mean beside them."""

    def __init__(self, parts: tuple[Part, ...], own: _Targets, order: Mapping[str, _Module]) -> None:
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
        if not _imports(line) and (not self._spaces or line_links(line).names.isdisjoint(self._spaces)):
            return line
        return _linked_line(line, "", self._own, self._order, False, False, ())


@dataclass(frozen=True, slots=True)
class _Before:
    """What was made of a file last."""

    units: Units
    imports: list[Line]
    state: object
    plan: _Plan | None
    linked: Linked | None


# -- what is imported from where


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A module that an import statement names: `dots` of a relative import, its path, the names out of it."""

    dots: int
    path: tuple[str, ...]
    names: tuple[str, ...] = ()


def _wanted(line: Line) -> Iterator[_Wanted]:
    for node in _imports(line):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _Wanted(0, tuple(alias.name.split(".")))
        else:
            yield _Wanted(node.level, _path(node), tuple(alias.name for alias in node.names))


def _path(node: ast.ImportFrom) -> tuple[str, ...]:
    return tuple(node.module.split(".")) if node.module else ()


def _importing(units: Sequence[Line]) -> list[Line]:
    """The lines that import something."""
    return [line for line in units if line.code and _imports(line)]


def _imports(line: Line) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return _import_nodes(line) if "import" in line.text else ()


@lru_cache(4096)
def _import_nodes(line: Line) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(
        node
        for part in line.nodes
        for node in ast.walk(part)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    )


class _Finder:
    """Where the modules that a file names lie, during one link."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: dict[str, Source | None] = {}

    @property
    def asked(self) -> Set[str]:
        """The files that were wanted, whether they are there or not."""
        return self._known.keys()

    def _read(self, file: str) -> Source | None:
        if file not in self._known:
            self._known[file] = self._files.read(file)
        return self._known[file]

    def find(self, file: str, wanted: _Wanted) -> list[Source]:
        """The files that an import reads, as far as they are ours: the module, and submodules by name."""
        paths = [wanted.path, *((*wanted.path, name) for name in wanted.names if name != "*")]
        found = (self.module(file, wanted.dots, path) for path in paths)
        return [source for source in found if source is not None]

    def module(self, file: str, dots: int, path: tuple[str, ...]) -> Source | None:
        """The file of a module, named from within another."""
        separator = "\\" if "\\" in file and "/" not in file else "/"
        folder = file.rpartition(separator)[0]
        if dots:
            for _ in range(dots - 1):
                folder = _above(folder, separator) or ""
            return self._in(folder, separator, path, file)
        if not path or path[0] in _LIBRARIES:
            return None
        for _ in range(MOST_UP):
            for base in (folder, f"{folder}{separator}src" if folder else "src"):
                found = self._in(base, separator, path, file)
                if found is not None:
                    return found
            above = _above(folder, separator)
            if above is None:
                break
            folder = above
        return None

    def _in(self, folder: str, separator: str, path: tuple[str, ...], asking: str) -> Source | None:
        base = separator.join((folder, *path)) if folder else separator.join(path)
        for file in (f"{base}.py", f"{base}{separator}__init__.py"):
            if base and file != asking:
                found = self._read(file)
                if found is not None:
                    return found
        return None


def _above(folder: str, separator: str) -> str | None:
    """The folder that another one lies in, which may be named from within; None above the topmost."""
    before, _, last = folder.rpartition(separator)
    if last in ("", ".."):
        return None if folder.startswith(separator) else f"..{separator}{folder}".rstrip(separator)
    if not before and folder.startswith(separator):
        return None
    return None if last.endswith(":") else before


@dataclass(slots=True)
class _Targets:
    """What a module's imports mean: files, by the import and alias they stand in."""

    aliases: dict[tuple[Line, int, int], str] = field(default_factory=dict)  # `from FILE import ...`
    spaces: dict[str, str] = field(default_factory=dict)  # name, dotted too -> the file that it stands for

    def files(self) -> Iterable[str]:
        return (*self.aliases.values(), *self.spaces.values())

    def add(self, line: Line, file: str, finder: _Finder, known: Mapping[str, object]) -> None:
        """Note what a line imports from the files that are read."""
        for at, node in enumerate(_imports(line)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found = finder.module(file, 0, tuple(alias.name.split(".")))
                    if found is not None and found.file in known:
                        self.spaces[alias.asname or alias.name] = found.file
                continue
            path = _path(node)
            module = finder.module(file, node.level, path)
            for number, alias in enumerate(node.names):
                inner = finder.module(file, node.level, (*path, alias.name)) if alias.name != "*" else None
                if module is not None and module.file in known:
                    self.aliases[line, at, number] = module.file
                if inner is not None and inner.file in known:
                    self.spaces.setdefault(alias.asname or alias.name, inner.file)


# -- a module's lines, each with what its names mean there


@dataclass(slots=True, eq=False)
class _Scope:
    """Where a line stands: which of the module's names it can mean."""

    bound: frozenset[str]
    inside: bool = False  # of a class or function
    function: bool = False
    hidden: frozenset[str] = frozenset()  # names that are a function's or a class's own

    def renamed(self, line: Line) -> tuple[str, ...]:
        """The module's names in a line, in a fixed order."""
        names = line_links(line).names
        if not self.inside:
            names = names | line_binds(line) | {line.name}
        names = names | _declared(line)
        return tuple(sorted((names & self.bound) - self.hidden))


class _Module:
    """One file's imports, names and scopes. Frozen; what is dear is computed when first asked for."""

    __slots__ = ("_bound", "_scoped", "imports", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.imports = _importing(source.units)
        self._scoped: list[tuple[int, Line, _Scope]] | None = None
        self._bound: frozenset[str] | None = None

    @property
    def bound(self) -> frozenset[str]:
        """The names that the module binds."""
        if self._bound is None:
            names: set[str] = set()
            for _, line, kinds, _ in self._walk():
                if not kinds:
                    names |= line_binds(line)
                elif "def" in kinds:
                    names |= _declared(line)
            self._bound = frozenset(names - {""})
        return self._bound

    def scoped(self) -> list[tuple[int, Line, _Scope]]:
        """The lines that are executed when the module is imported, by the numbers of their units."""
        if self._scoped is None:
            self._scoped = list(self._scopes())
        return self._scoped

    def _walk(self) -> Iterator[tuple[int, Line, tuple[str, ...], int]]:
        """Each line that is read, the kinds of definitions around it, and the outermost function's unit."""
        stack: list[tuple[int, str, int]] = []
        skipping = -1
        for at, line in enumerate(self.source.units):
            if not line.code or (line.error is not None and not line.header):
                continue
            if skipping >= 0:
                if line.indent > skipping:
                    continue
                skipping = -1
            while stack and line.indent <= stack[-1][0]:
                stack.pop()
            if not stack and line.header and _MAIN.match(line.text.lstrip()):
                skipping = line.indent
                continue
            function = next((unit for _, kind, unit in stack if kind == "def"), -1)
            yield at, line, tuple(kind for _, kind, _ in stack), function
            if line.role in ("def", "class"):
                stack.append((line.indent, line.role, at))

    def _scopes(self) -> Iterator[tuple[int, Line, _Scope]]:
        lines = list(self._walk())
        functions: dict[int, set[str]] = {}
        declared: dict[int, set[str]] = {}
        for at, line, _, function in lines:
            if function >= 0:
                functions.setdefault(function, set()).update(line_binds(line), _parameters(line))
                declared.setdefault(function, set()).update(_declared(line))
            elif line.role == "def":
                functions.setdefault(at, set()).update(_parameters(line))
        bound = self.bound
        module = _Scope(bound)
        own = {
            unit: _Scope(bound, True, True, frozenset(names) - frozenset(declared.get(unit, ())))
            for unit, names in functions.items()
        }
        for at, line, kinds, function in lines:
            if function >= 0:
                yield at, line, own[function]
            elif kinds:
                # What a class's body binds is an attribute.
                yield at, line, _Scope(bound, True, False, line_binds(line) | _one_line(line))
            elif line.role == "def" and not line.header:
                yield at, line, _Scope(bound, False, False, _one_line(line))
            else:
                yield at, line, module


def _one_line(line: Line) -> frozenset[str]:
    return _parameters(line) if line.role == "def" and not line.header else frozenset()


def _declared(line: Line) -> frozenset[str]:
    return line_links(line).declared if "global" in line.text else frozenset()


def _parameters(line: Line) -> frozenset[str]:
    return _parameters_of(line) if line.role == "def" else frozenset()


@lru_cache(4096)
def _parameters_of(line: Line) -> frozenset[str]:
    return frozenset(one.arg for part in line.nodes for one in ast.walk(part) if isinstance(one, ast.arg))


# -- a line that means the same in the linked program


def _linked_line(
    line: Line,
    suffix: str,
    targets: _Targets,
    order: Mapping[str, _Module],
    defines: bool,
    function: bool,
    renamed: tuple[str, ...],
) -> Line:
    """A line of a module, its names those of the linked program."""
    resolved: list[tuple[int, int, str, tuple[str, ...]]] = []
    for at, node in enumerate(_imports(line)):
        for number, alias in enumerate(node.names):
            file = targets.aliases.get((line, at, number))
            if file is None or file not in order:
                continue
            bound = order[file].bound
            names = (
                tuple(sorted(one for one in bound if not one.startswith("_"))) if alias.name == "*" else ()
            )
            if names or alias.name in bound:
                resolved.append((at, number, suffix_of(file), names))
    spaces: list[tuple[str, str, frozenset[str]]] = []
    if targets.spaces and not _imports(line):
        names_here = line_links(line).names
        spaces = [
            (dotted, suffix_of(file), order[file].bound)
            for dotted, file in targets.spaces.items()
            if dotted.partition(".")[0] in names_here and file in order
        ]
    if not resolved and not spaces and not renamed:
        return line
    return _rewritten(line, suffix, tuple(resolved), tuple(spaces), defines, function, renamed)


@lru_cache(16384)
def _rewritten(
    line: Line,
    suffix: str,
    resolved: tuple[tuple[int, int, str, tuple[str, ...]], ...],
    spaces: tuple[tuple[str, str, frozenset[str]], ...],
    defines: bool,
    function: bool,
    renamed: tuple[str, ...],
) -> Line:
    copy = Line.__new__(Line)
    for slot in Line.__slots__:
        if slot != "__weakref__":
            setattr(copy, slot, getattr(line, slot))
    imports = {id(node): at for at, node in enumerate(_imports(line))}
    rewriter = _Rewriter(suffix, frozenset(renamed), spaces, defines, function, imports, resolved)
    copy.nodes = tuple(one for node in line.nodes for one in rewriter.statements(node))
    if defines and line.name in renamed:
        copy.name = line.name + suffix
    copy.idle = None
    return copy


class _Rewriter:
    """Copies syntax with other names in it, at the same places."""

    def __init__(
        self,
        suffix: str,
        names: frozenset[str],
        spaces: Sequence[tuple[str, str, frozenset[str]]],
        defines: bool,
        function: bool,
        imports: Mapping[int, int],
        resolved: Sequence[tuple[int, int, str, tuple[str, ...]]],
    ) -> None:
        self.suffix, self.names, self.defines, self.function = suffix, names, defines, function
        self.spaces = {dotted: (other, bound) for dotted, other, bound in spaces}
        self.imports = imports
        self.resolved = {(at, number): (other, stars) for at, number, other, stars in resolved}

    def statements(self, node: ast.AST) -> list[ast.AST]:
        """What stands for one statement or part of one."""
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return list(self._import(node))
        return [self.copied(node)]

    def copied(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Name):
            return self._named(node, node.id + self.suffix) if node.id in self.names else node
        if isinstance(node, ast.Attribute) and self.spaces:
            dotted = _dotted(node.value)
            space = self.spaces.get(dotted) if dotted else None
            if space is not None and node.attr in space[1]:
                return self._named(node, node.attr + space[0])
        copy = _bare(node)
        names = self.names
        if isinstance(node, ast.Lambda):
            self.names = names - {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
        for field_name, value in ast.iter_fields(node):
            if isinstance(value, ast.AST):
                setattr(copy, field_name, self.copied(value))
            elif isinstance(value, list):
                setattr(copy, field_name, self._copied_list(value))
        self.names = names
        if isinstance(copy, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if self.defines and copy.name in names:
                copy.name += self.suffix
        elif isinstance(copy, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
            if copy.name in names:
                copy.name = f"{copy.name}{self.suffix}"
        elif isinstance(copy, ast.Global):
            copy.names = [name + self.suffix if name in names else name for name in copy.names]
        return copy

    def _copied_list(self, values: list[object]) -> list[object]:
        out: list[object] = []
        for value in values:
            if isinstance(value, ast.stmt):
                out += self.statements(value)
            else:
                out.append(self.copied(value) if isinstance(value, ast.AST) else value)
        return out

    def _named(self, node: ast.expr, name: str) -> ast.Name:
        context = node.ctx if isinstance(node, (ast.Name, ast.Attribute)) else ast.Load()
        return _placed(ast.Name(id=name, ctx=context), node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[ast.AST]:
        at = self.imports.get(id(node), -1)
        left: list[ast.alias] = []
        for number, alias in enumerate(node.names):
            target = self.resolved.get((at, number))
            local = alias.asname or alias.name
            if target is None:
                left.append(self._alias(alias, isinstance(node, ast.Import)))
                continue
            other, stars = target
            for name in stars or (alias.name,):
                yield self._binding(name if stars else local, name + other, alias)
        if left:
            copy = _bare(node)
            copy.names = left
            yield copy

    def _binding(self, local: str, name: str, alias: ast.alias) -> ast.AST:
        if local in self.names:
            local += self.suffix
        if self.function:  # what a function reads of the module are names
            target, value = ast.Name(id=local, ctx=ast.Store()), ast.Name(id=name, ctx=ast.Load())
            return _placed(ast.Assign(targets=[_placed(target, alias)], value=_placed(value, alias)), alias)
        linked = ast.ImportFrom(
            module=LINKED, names=[_placed(ast.alias(name=name, asname=local), alias)], level=0
        )
        return _placed(linked, alias)

    def _alias(self, alias: ast.alias, whole: bool) -> ast.alias:
        local = alias.asname or (alias.name.partition(".")[0] if whole else alias.name)
        if local not in self.names:
            return alias
        name = alias.name if alias.asname or not whole else local
        return _placed(ast.alias(name=name, asname=local + self.suffix), alias)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


_Node = TypeVar("_Node", bound=ast.AST)


def _bare(node: _Node) -> _Node:
    """A copy that shares all parts."""
    copy = type(node).__new__(type(node))
    copy.__dict__.update(node.__dict__)
    return copy


def _placed(node: _Node, at: ast.expr | ast.alias) -> _Node:
    """A new node where another one stands."""
    for name in ("lineno", "col_offset", "end_lineno", "end_col_offset"):
        setattr(node, name, getattr(at, name))
    return node


CACHES = (_import_nodes, _parameters_of, _rewritten)
