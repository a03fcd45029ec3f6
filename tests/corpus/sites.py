"""What stands where in a script, found out by running it: the places at which a mistake can be put in.

A script is never imported; its instrumented copy runs as every program of the tests does.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass, replace
from pathlib import Path

from harness import truth

HERE = Path(__file__).resolve().parent
_MARK = "sites: "
_SEEN = (ast.Name, ast.Attribute, ast.Call, ast.BinOp, ast.UnaryOp, ast.Subscript)
_NOT_TENSORS = {"data", "grad", "requires_grad", "shape", "dtype", "device", "ndim", "is_leaf", "grad_fn"}


@dataclass(frozen=True, eq=False)
class Site:
    """An expression that was evaluated.

    `flags`: gradient, leaf, computed, 0d to 4d, holds gradient (a container), module (the call of one that
    learns; "4 parameters" says how many tensors do), shared (called elsewhere, too), cross entropy, nll,
    indices (the target is), loss module, reduces, term (without it a term of the loss is a constant).
    """

    node: ast.expr
    start: int
    end: int
    flags: frozenset[str]
    arrived: frozenset[int]  # at the call of a criterion: numbers of the sites that its input came through
    number: int


@dataclass(frozen=True, eq=False)
class Script:
    """A good script with all that was seen of it."""

    path: Path
    text: str
    tree: ast.Module
    sites: tuple[Site, ...]
    by_node: dict[ast.AST, Site]
    parents: dict[ast.AST, ast.AST]
    snapshot: truth.Snapshot

    def site(self, node: ast.AST | None) -> Site | None:
        """The site of an expression, if it has one."""
        return self.by_node.get(node) if node is not None else None

    def offset(self, row: int, column: int) -> int:
        """The offset of ast's row and UTF-8 column."""
        return _offset(self.text, row, column)

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Start and end of a node, without brackets around it."""
        return _span(self.text, node)

    def source(self, node: ast.expr | ast.stmt) -> str:
        """The text of a node."""
        start, end = self.span(node)
        return self.text[start:end]


def read(paths: list[Path]) -> list[Script]:
    """Run scripts, plain and instrumented, and take down what stands where.

    Raises:
        RuntimeError: a script fails, or its instrumented copy does something else than the script.
    """
    texts = [path.read_text(encoding="utf-8") for path in paths]
    prepared = [_Instrumented(text) for text in texts]
    facts = (f"print({_MARK!r} + __import__('json').dumps(_watcher.report())) is None",)
    copies = [truth.Run(each.text, (), str(path)) for each, path in zip(prepared, paths, strict=True)]
    outcomes = truth.run_many([replace(copy, facts=facts) for copy in copies])
    plain = truth.snapshots([truth.Run(text, (), str(path)) for text, path in zip(texts, paths, strict=True)])
    watched = truth.snapshots(copies)
    scripts = []
    for path, text, each, outcome, good, copy in zip(
        paths, texts, prepared, outcomes, plain, watched, strict=True
    ):
        if good.error or outcome.error:
            raise RuntimeError(f"{path.name}: {good.error or outcome.error}\n{outcome.output[-2000:]}")
        if different := truth.compare(good, copy):
            raise RuntimeError(f"{path.name}: watched, it does something else: {different[:3]}")
        line = next(line for line in reversed(outcome.output.splitlines()) if line.startswith(_MARK))
        report = json.loads(line[len(_MARK) :])
        sites = tuple(
            Site(
                node,
                *_span(text, node),
                frozenset(report["flags"].get(str(number), ())),
                frozenset(report["arrived"].get(str(number), ())),
                number,
            )
            for number, node in enumerate(each.nodes)
        )
        by_node: dict[ast.AST, Site] = {site.node: site for site in sites}
        scripts.append(Script(path, text, each.tree, sites, by_node, each.parents, good))
    return scripts


def _offset(text: str, row: int, column: int) -> int:
    lines = text.splitlines(keepends=True)
    return sum(map(len, lines[: row - 1])) + len(lines[row - 1].encode()[:column].decode())


def _span(text: str, node: ast.expr | ast.stmt) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return _offset(text, node.lineno, node.col_offset), _offset(text, node.end_lineno, node.end_col_offset)


class _Instrumented:
    """The copy of a script in which every expression goes through the watcher."""

    def __init__(self, text: str) -> None:
        self.tree = ast.parse(text)
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        self.nodes: list[ast.expr] = [node for node in _in_order(self.tree) if self._is_seen(node)]
        numbers = {node: number for number, node in enumerate(self.nodes)}
        # Insertions by (offset, closing before opening, and among themselves inner or outer first).
        pieces: list[tuple[int, int, int, str, int]] = []
        for node, number in numbers.items():
            start, end = _span(text, node)
            opening = f"_watcher.see({number}, "
            closing = ")"
            if isinstance(node, ast.Call):
                bracket = _span(text, node.func)[1]
                opening = f"_watcher.call({number}, "
                pieces.append((bracket, 0, 1 << 30, ", ", 1))
                closing = ""
            elif isinstance(node, ast.Subscript):
                closing = f", {numbers.get(node.value, -1)})"
            elif self._is_operand(node):
                opening = f"_watcher.use({number}, "
            pieces.append((start, 1, -end, opening, 0))
            pieces.append((end, 0, -start, closing, 0))
        out, position = [], 0
        for offset, _, _, piece, dropped in sorted(pieces, key=lambda each: each[:3]):
            out += (text[position:offset], piece)
            position = offset + dropped
        whole = "".join((*out, text[position:]))
        head = 0
        for statement in self.tree.body:
            is_future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
            is_doc = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if is_future or is_doc:
                head = statement.end_lineno or head
        lines = whole.splitlines(keepends=True)
        start_ = f"import sys; sys.path.append({str(HERE)!r}); import watcher as _watcher; sys.path.pop()\n"
        self.text = "".join((*lines[:head], start_, *lines[head:]))

    def _is_seen(self, node: ast.AST) -> bool:
        if not isinstance(node, _SEEN) or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return False
        parent = self.parents[node]
        if isinstance(parent, ast.Call) and parent.func is node:
            return False
        if isinstance(parent, ast.Attribute) and (
            parent.attr in _NOT_TENSORS or not isinstance(parent.ctx, ast.Load)
        ):
            return False
        if (
            isinstance(parent, ast.Subscript)
            and parent.value is node
            and not isinstance(parent.ctx, ast.Load)
        ):
            return False
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id == "super":
                return False
            if len(node.args) == 1 and isinstance(node.args[0], ast.GeneratorExp):
                return False
        while parent is not None:
            if isinstance(parent, (ast.JoinedStr, ast.arguments, ast.arg)):
                return False
            if isinstance(parent, ast.Attribute) and not isinstance(parent.ctx, ast.Load):
                return False
            if isinstance(parent, ast.AnnAssign) and node in ast.walk(parent.annotation):
                return False
            if isinstance(parent, (ast.FunctionDef, ast.ClassDef)):
                heads: list[ast.expr] = [*parent.decorator_list]
                heads += (
                    parent.bases
                    if isinstance(parent, ast.ClassDef)
                    else [parent.returns]
                    if parent.returns
                    else []
                )
                return not any(node is each for head in heads for each in ast.walk(head))
            parent = self.parents.get(parent)  # type: ignore[assignment]
        return True

    def _is_operand(self, node: ast.expr) -> bool:
        """Whether a parameter may be replaced by a copy here: where only its value counts."""
        parent = self.parents[node]
        if isinstance(parent, (ast.BinOp, ast.UnaryOp)):
            return True
        if isinstance(parent, ast.Attribute):  # the receiver of a method
            outer = self.parents[parent]
            return isinstance(outer, ast.Call) and outer.func is parent and not parent.attr.endswith("_")
        if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute):
            of = parent.func.value
            return isinstance(of, ast.Name) and of.id in ("torch", "F")
        return False


def _in_order(node: ast.AST) -> list[ast.AST]:
    found = [node]
    for child in ast.iter_child_nodes(node):
        found += _in_order(child)
    return found
