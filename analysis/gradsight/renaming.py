"""A module's lines with its own names made unmistakable, so that they can stand beside those of others.

`Net` of `model.py` becomes `Net` and the file's name, which no text can spell. A line keeps its text and its
places; only what its names mean is another.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from gradsight.importing import Targets, importing, imports_of
from gradsight.interpret.index import LINKED, line_binds, line_links
from gradsight.lines import Line
from gradsight.text import Source

_MAIN = re.compile(r"if\s*\(?\s*__name__\b")
_MARK = re.compile("\0[^\0]*\0")


def suffix_of(file: str) -> str:
    """What the names of a file's module carry."""
    return f"\0{file}\0"


def plain(text: str) -> str:
    """A text in which names of other files' modules are spelled as there."""
    return _MARK.sub("", text) if "\0" in text else text


def is_linked(name: str) -> bool:
    """Whether a function or class is another file's."""
    return "\0" in name


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


class Module:
    """One file's imports, names and scopes. Frozen; what is dear is computed when first asked for."""

    __slots__ = ("_bound", "_scoped", "imports", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.imports = importing(source.units)
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


def linked_line(
    line: Line,
    suffix: str,
    targets: Targets,
    order: Mapping[str, Module],
    defines: bool,
    function: bool,
    renamed: tuple[str, ...],
) -> Line:
    """A line of a module, its names those of the linked program."""
    resolved: list[tuple[int, int, str, tuple[str, ...]]] = []
    for at, node in enumerate(imports_of(line)):
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
    if targets.spaces and not imports_of(line):
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
    imports = {id(node): at for at, node in enumerate(imports_of(line))}
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


CACHES = (_parameters_of, _rewritten)
