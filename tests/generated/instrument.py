"""A program's copy in which every expression tells what it is: see `tracer.py`."""

from __future__ import annotations

import ast
from pathlib import Path

from gradsight.text import Source

HERE = Path(__file__).resolve().parent
SEEN = (
    ast.Name,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Subscript,
    ast.Await,
    ast.NamedExpr,
    ast.ListComp,
    ast.DictComp,
    ast.List,
    ast.Tuple,
    ast.Dict,
)
LEFT_ALONE = {"super", "locals", "globals", "vars", "exec", "eval", "dir", "__import__"}  # they see the frame
Span = tuple[int, int]


class Instrumented:
    """`text` is the copy; `sites` are the numbers of the expressions, by their spans in the program.

    `setup` stands in the copy before the program's own first statement.
    """

    def __init__(self, source: Source) -> None:
        self.sites: dict[Span, int] = {}
        self._source = source
        tree = ast.parse(source.text)
        offsets = _Offsets(source.text)
        for node in ast.walk(tree):
            if isinstance(node, (ast.expr, ast.AugAssign)):
                self.sites.setdefault(offsets.span(node), len(self.sites))
        self._tree = _Rewriter(offsets, self.sites).visit(tree)

    def text(self, setup: str) -> str:
        """The copy."""
        body = self._tree.body
        head = 0
        for count, statement in enumerate(body):
            future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
            if future or (
                count == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            ):
                head = count + 1
        start = ast.parse(
            f"import sys; sys.path.append({str(HERE)!r}); import tracer as _tracer; sys.path.pop()\n"
            f"_chain = ()\n{setup}\n"
        ).body
        whole = ast.Module([*body[:head], *start, *body[head:]], [])
        return ast.unparse(ast.fix_missing_locations(whole))


class _Offsets:
    """ast's rows and UTF-8 columns as offsets."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)

    def span(self, node: ast.expr | ast.stmt) -> Span:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, row: int, column: int) -> int:
        return self._starts[row - 1] + len(self._lines[row - 1].encode()[:column].decode())


class _Rewriter(ast.NodeTransformer):
    """Wraps each expression that is read; what is bound, annotated or matched stays as it is."""

    def __init__(self, offsets: _Offsets, sites: dict[Span, int]) -> None:
        self._offsets, self._sites = offsets, sites
        self._depth = 0  # of functions

    # -- statements

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.args.defaults = [self.visit(each) for each in node.args.defaults]
        node.args.kw_defaults = [
            self.visit(each) if each is not None else None for each in node.args.kw_defaults
        ]
        self._depth += 1
        node.body = self._block(node.body)
        self._depth -= 1
        if self._depth == 0:
            head = (
                1
                if isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
                else 0
            )
            node.body.insert(head, ast.parse("_chain = _tracer.entered()").body[0])
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = self._block(node.body)
        return node

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for statement in statements:
            new = self.visit(statement)
            out += new if isinstance(new, list) else [new]
        return out

    def visit_Assign(self, node: ast.Assign) -> object:
        after = [self._told(target) for target in node.targets]
        self.generic_visit(node)
        return [node, *(each for each in after if each is not None)]

    def visit_AugAssign(self, node: ast.AugAssign) -> object:
        site = self._site(node)
        target = node.target.value if isinstance(node.target, ast.Subscript) else node.target
        after = self._reading(site, target)
        self.generic_visit(node)
        return [node, after] if after is not None else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def _told(self, target: ast.expr) -> ast.stmt | None:
        """What is written into tells what it is now."""
        return self._reading(self._site(target), target.value) if isinstance(target, ast.Subscript) else None

    def _reading(self, site: int, target: ast.expr) -> ast.stmt | None:
        written = ast.unparse(target)
        return ast.parse(f"_tracer.see({site}, _chain, {written})").body[0] if _plain(target) else None

    # -- what is left alone

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        node.guard = self.visit(node.guard) if node.guard is not None else None
        node.body = self._block(node.body)
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.defaults = [self.visit(each) for each in node.defaults]
        node.kw_defaults = [self.visit(each) if each is not None else None for each in node.kw_defaults]
        return node

    def visit_Delete(self, node: ast.Delete) -> ast.AST:
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Its parts joined by hand: what is nested in a string's text cannot always be written down."""
        parts: list[ast.expr] = []
        for each in node.values:
            if isinstance(each, ast.FormattedValue):
                converted = {-1: "", 115: "str", 114: "repr", 97: "ascii"}[each.conversion]
                value = self.visit(each.value)
                if converted:
                    value = ast.Call(ast.Name(converted, ast.Load()), [value], [])
                form = [self.visit(each.format_spec)] if each.format_spec is not None else []
                parts.append(ast.Call(ast.Name("format", ast.Load()), [value, *form], []))
            else:
                parts.append(each)
        joined = ast.Attribute(ast.Constant(""), "join", ast.Load())
        return ast.Call(joined, [ast.Tuple(parts, ast.Load())], [])

    # -- expressions

    def visit(self, node: ast.AST) -> ast.AST:
        sliced = isinstance(node, ast.Tuple) and any(isinstance(each, ast.Slice) for each in node.elts)
        if isinstance(node, SEEN) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load) and not sliced:
            site = self._site(node)
            new = self.generic_visit(node)
            return self._wrap("see", site, new)
        return super().visit(node)  # type: ignore[no-any-return]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        site = self._site(node)
        alone = isinstance(node.func, ast.Name) and node.func.id in LEFT_ALONE
        if isinstance(node.func, ast.Attribute):
            node.func.value = self.visit(node.func.value)
        elif not isinstance(node.func, ast.Name):
            node.func = self.visit(node.func)
        node.args = [self.visit(each) for each in node.args]
        node.keywords = [self.visit(each) for each in node.keywords]
        if alone:
            return node
        return ast.Call(
            _of_tracer("call"),
            [ast.Constant(site), ast.Name("_chain", ast.Load()), node.func, *node.args],
            node.keywords,
        )

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        site = self._site(node)
        new = self.generic_visit(node)
        assert isinstance(new, ast.Attribute)
        if not isinstance(node.ctx, ast.Load) or (new.attr.startswith("__") and not new.attr.endswith("__")):
            return new
        return ast.Call(
            _of_tracer("attribute"),
            [ast.Constant(site), ast.Name("_chain", ast.Load()), new.value, ast.Constant(new.attr)],
            [],
        )

    def _site(self, node: ast.expr | ast.AugAssign) -> int:
        return self._sites[self._offsets.span(node)]

    @staticmethod
    def _wrap(name: str, site: int, value: ast.AST) -> ast.AST:
        assert isinstance(value, ast.expr)
        return ast.Call(_of_tracer(name), [ast.Constant(site), ast.Name("_chain", ast.Load()), value], [])


def _of_tracer(name: str) -> ast.expr:
    return ast.Attribute(ast.Name("_tracer", ast.Load()), name, ast.Load())


def _plain(target: ast.expr) -> bool:
    while isinstance(target, ast.Attribute):
        target = target.value
    return isinstance(target, ast.Name)
