"""What stands where in a good program, found out by running it: the places at which a mistake can be put in.

A program is never imported; its instrumented copy runs as every program of the tests does.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from harness import truth

HERE = Path(__file__).resolve().parent
_MARK = "sites: "
_SEEN = (ast.Name, ast.Attribute, ast.Call, ast.BinOp, ast.UnaryOp, ast.Subscript)
_NOT_TENSORS = {"data", "grad", "requires_grad", "shape", "dtype", "device", "ndim", "is_leaf", "grad_fn"}


@dataclass(frozen=True)
class Program:
    """A good program."""

    name: str  # of a file in fixtures/corpus, or "timm/layers/eca.py EcaModule"
    text: str
    file: str  # runs as
    package: str = ""  # "timm 1.0.19"; the text up to `driver` is that package's
    driver: int = 0  # where the text begins that was written around it

    @classmethod
    def of(cls, path: Path) -> Program:
        """A script of our own."""
        return cls(path.name, path.read_text(encoding="utf-8"), str(path))


@dataclass(frozen=True, eq=False)
class Site:
    """An expression that was evaluated.

    `flags`: gradient, leaf, computed, 0d to 4d, holds gradient (a container), module (the call of one that
    learns; "4 parameters" says how many tensors do), module without gradient (called so), shared (called
    elsewhere, too), term (without it a term of the loss is a constant), optimizer (made here), optimizer
    step, zero_grad, backward, clip, train call, eval call, loss module, reduces. The call of a criterion:
    cross entropy, nll, bce, bce logits, kl div, regression; indices (the target is); where both sides have
    one shape flat (N), column (N, 1), rows (N, K) or more; raw (straight from a linear layer).
    """

    node: ast.expr
    start: int
    end: int
    flags: frozenset[str]
    arrived: frozenset[int]  # at the call of a criterion: numbers of the sites that its input came through
    number: int


@dataclass(frozen=True, eq=False)
class Script:
    """A good program with all that was seen of it."""

    program: Program
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


def read(programs: Sequence[Program]) -> list[Script]:
    """Run programs, plain and instrumented, and take down what stands where.

    Raises:
        RuntimeError: a program fails, or its instrumented copy does something else than the program.
    """
    scripts, refused = read_those_that_can(programs)
    if refused:
        raise RuntimeError("\n".join(f"{name}: {why}" for name, why in refused.items()))
    return scripts


def read_those_that_can(programs: Sequence[Program]) -> tuple[list[Script], dict[str, str]]:
    """The same, with the programs that cannot be watched apart, by name, with the reason."""
    prepared = [_Instrumented(each.text) for each in programs]
    facts = (f"print({_MARK!r} + __import__('json').dumps(_watcher.report())) is None",)
    copies = [truth.Run(each.text, (), of.file) for each, of in zip(prepared, programs, strict=True)]
    outcomes = truth.run_many([replace(copy, facts=facts) for copy in copies])
    plain = truth.snapshots([truth.Run(each.text, (), each.file) for each in programs])
    watched = truth.snapshots(copies)
    scripts: list[Script] = []
    refused: dict[str, str] = {}
    for program, each, outcome, good, copy in zip(programs, prepared, outcomes, plain, watched, strict=True):
        if good.error or outcome.error:
            refused[program.name] = f"{good.error or outcome.error}\n{outcome.output[-2000:]}"
            continue
        if different := truth.compare(good, copy):
            refused[program.name] = f"watched, it does something else: {different[:3]}"
            continue
        line = next(line for line in reversed(outcome.output.splitlines()) if line.startswith(_MARK))
        report = json.loads(line[len(_MARK) :])
        sites = tuple(
            Site(
                node,
                *_span(program.text, node),
                frozenset(report["flags"].get(str(number), ())),
                frozenset(report["arrived"].get(str(number), ())),
                number,
            )
            for number, node in enumerate(each.nodes)
        )
        by_node: dict[ast.AST, Site] = {site.node: site for site in sites}
        scripts.append(Script(program, program.text, each.tree, sites, by_node, each.parents, good))
    return scripts, refused


def _offset(text: str, row: int, column: int) -> int:
    starts, lines = _lines(text)
    return starts[row - 1] + len(lines[row - 1].encode()[:column].decode())


@lru_cache(maxsize=8)
def _lines(text: str) -> tuple[list[int], list[str]]:
    lines = text.splitlines(keepends=True)
    return [0, *accumulate(map(len, lines))], lines


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
            is_doc = statement is self.tree.body[0] and isinstance(statement, ast.Expr)
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
