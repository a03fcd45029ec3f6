"""A long training script made of the short ones under fixtures/corpus, as it grows in people's repositories.

Every program keeps its classes, under names of their own; the functions of the first ones become methods of
one large class, and what they ran at their end runs through an object of it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parents[2] / "fixtures" / "corpus"
LINES, CLASS_LINES = 1500, 400
CLASS = "Experiments"

_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Script:
    """The text, and the stretch of lines that the large class has."""

    text: str
    first: int
    last: int


def large_script() -> Script:
    """About `LINES` lines, one class of about `CLASS_LINES` among them."""
    programs = [_Program(path) for path in sorted(CORPUS.glob("*.py"))]
    imports = dict.fromkeys(line for program in programs for line in program.imports())
    methods: list[str] = []
    before: list[str] = []
    after: list[str] = []
    for program in programs:
        as_methods = sum(text.count("\n") for text in methods) < CLASS_LINES - 20
        if as_methods:
            program.into_methods()
        for kind, text in program.parts():
            if kind == "function" and as_methods:
                methods.append(text)
            elif kind != "statement":
                before.append(text)
            else:
                after.append(text)
        if sum(text.count("\n") for text in (*imports, *before, *methods, *after)) > LINES:
            break
    head = "\n".join(imports) + "\n\n\n" + "\n\n".join(before) + "\n\n"
    body = f"class {CLASS}:\n" + "\n".join(methods) + "\n\n"
    tail = f"{_OBJECT} = {CLASS}()\n" + "\n".join(after)
    first = head.count("\n")
    return Script(head + body + tail, first, first + body.count("\n"))


_OBJECT = "experiments"


class _Program:
    """One program of the corpus with the names of its module made its own."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.text = path.read_text("utf-8")
        self.tree = ast.parse(self.text)
        self._bound = self._names()
        self.functions = {node.name for node in self.tree.body if isinstance(node, ast.FunctionDef)}
        self.methods: set[str] = set()

    def into_methods(self) -> None:
        """Its functions are to be methods."""
        self.methods = self.functions

    def imports(self) -> Iterator[str]:
        for node in self.tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)) and getattr(node, "module", "") != "__future__":
                yield ast.unparse(node)

    def parts(self) -> Iterator[tuple[str, str]]:
        """Its statements as "class", "function" or "statement", in order, with the names changed."""
        for node in self.tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                continue
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            kinds = {ast.ClassDef: "class", ast.FunctionDef: "function"}
            yield kinds.get(type(node), "statement"), self._part(node)

    def _part(self, node: ast.stmt) -> str:
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        assert node.end_lineno is not None
        lines = [line.encode() for line in self.text.splitlines()[first - 1 : node.end_lineno]]
        method = isinstance(node, ast.FunctionDef) and node.name in self.methods
        edits: list[tuple[int, int, int, str]] = []
        for name in self._module_names(node):
            new = self._renamed(name.id, method)
            edits.append((name.lineno - first, name.col_offset, name.col_offset + len(name.id.encode()), new))
        for row, start, end, new in sorted(edits, reverse=True):
            # The f-strings of older Pythons misplace theirs.
            if lines[row][start:end].decode(errors="replace") in self._bound:
                lines[row] = lines[row][:start] + new.encode() + lines[row][end:]
        text = "\n".join(line.decode() for line in lines) + "\n"
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            word = "class" if isinstance(node, ast.ClassDef) else "def"
            text = text.replace(f"{word} {node.name}", f"{word} {node.name}_{self.name}", 1)
            if method:
                text = text.replace(f"def {node.name}_{self.name}(", f"def {node.name}_{self.name}(self, ", 1)
                text = "".join(
                    f"    {line}" if line.strip() else line for line in text.splitlines(keepends=True)
                )
        return text

    def _renamed(self, name: str, inside: bool) -> str:
        new = f"{name}_{self.name}"
        if name in self.methods:
            return f"self.{new}" if inside else f"{_OBJECT}.{new}"
        return new

    def _names(self) -> set[str]:
        """What the module binds itself."""
        outside = (node for node in _outside_functions(self.tree.body) if isinstance(node, ast.Name))
        names = {node.id for node in outside if isinstance(node.ctx, ast.Store)}
        return names | {
            node.name for node in self.tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }

    def _module_names(self, node: ast.AST, local: frozenset[str] = frozenset()) -> Iterator[ast.Name]:
        """Every use of a name of the module."""
        if isinstance(node, ast.Name) and node.id in self._bound and node.id not in local:
            yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            inner = local | _locals(node)
            for part in [*getattr(node, "decorator_list", []), *node.args.defaults, *node.args.kw_defaults]:
                if part is not None:
                    yield from self._module_names(part, local)
            body: Iterable[ast.AST] = node.body if isinstance(node.body, list) else [node.body]
            for part in body:
                yield from self._module_names(part, inner)
            return
        for child in ast.iter_child_nodes(node):
            yield from self._module_names(child, local)


def _outside_functions(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in nodes:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield from _outside_functions(ast.iter_child_nodes(node))


def _locals(function: _Scope) -> frozenset[str]:
    arguments = function.args
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    names = {each.arg for each in every if each is not None}
    names |= {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    names -= {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    return frozenset(names)
