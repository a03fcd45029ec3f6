"""numpy code on a tensor's values becomes tensor code, over the statements of one function.

The function is interpreted with values that only know whether they are arrays, tensors or numbers, and
each expression is written anew as it is met. What meets a tensor must become one too, so the set of
converted expressions grows until nothing is added. The file's other functions are never looked at, and
whatever has no faithful equal makes the whole change a `Refusal`.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Sequence
from dataclasses import replace

import libcst as cst

from gradsight.finding import Edit, apply
from gradsight.surgery import numpy_forms
from gradsight.surgery.imports import imports, qualified, spelling
from gradsight.surgery.numpy_calls import Argument, NoEqual, NoGradient, NumpyCall, Value, write
from gradsight.surgery.piece import Layout, Piece, dotted, is_primary, layout, merged, parse
from gradsight.surgery.refusal import Refusal
from gradsight.surgery.reopen import MATH, alone_in_block, data_of, remove_statement, rewraps
from gradsight.text import Source, Span

__all__ = ["numpy_forms", "tensors_for_numpy"]

_ROUNDS = 12
NUMBER = Value("number")
OTHER = Value("other")


def tensors_for_numpy(
    source: Source, where: Span, function_span: Span | None = None
) -> tuple[Edit, ...] | Refusal:
    """From the conversion at `where` to where a tensor is made again, numpy becomes torch.

    Args:
        where: what leaves torch (`pred.detach()` of `pred.detach().cpu().numpy()`, `np.exp(x)`, ...).
        function_span: the function around it; without one it is looked for, else the module's own lines.
    """
    plan = layout(source.text)
    first, last = _lines_of(plan, where, function_span)
    start, end = plan.lines[first].start, plan.lines[last - 1].end
    piece = parse(source, start, end, before="if 1:\n" if plan.lines[first].indent else "")
    if isinstance(piece, Refusal):
        return piece
    torch = spelling(source, "torch")
    if isinstance(torch, Refusal):
        return torch
    rewrite = _Rewrite(piece, where, torch.name)
    try:
        edits = rewrite.edits()
    except NoEqual as error:
        return Refusal(f"{error} {error.reason}")
    if not edits:
        return Refusal("no conversion to numpy stands there")
    uses_torch = any(f"{torch.name}." in text for text in rewrite.texts.values())
    needed = torch.edits if uses_torch else ()
    return merged(edits, needed, _unused_numpy(source, edits))


def _lines_of(plan: Layout, where: Span, function: Span | None) -> tuple[int, int]:
    """The logical lines [first, last) of the function around `where`."""
    index = plan.index(where.start)
    if function is not None:
        begin = plan.index(function.start)
        return begin, max(plan.index(max(function.end - 1, function.start)) + 1, plan.end_of_block(begin))
    width = len(plan.lines[index].indent)
    for i in range(index, -1, -1):
        line = plan.lines[i]
        if line.blank or (len(line.indent) >= width and i != index):
            continue
        if re.match(r"(?:async\s+)?def\b", plan.masked[line.first : line.end]):
            return i, plan.end_of_block(i)
        width = min(width, len(line.indent))
    return 0, len(plan.lines)


def _unused_numpy(source: Source, edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """The import of numpy goes if nothing uses it after the edits."""
    after = apply(source.text, tuple(edits))
    plan = layout(after)
    gone: list[Edit] = []
    for item in imports(source.text):
        if item.target != "numpy" or not item.alone:
            continue
        word = re.compile(rf"\b{re.escape(item.bound)}\b")
        used = sum(len(word.findall(plan.masked[line.start : line.end])) for line in plan.lines)
        in_strings = re.search(rf"[fF][\"'][^\n]*\{{[^\n]*\b{re.escape(item.bound)}\.", after)
        own = len(word.findall(layout(source.text).masked[item.line.start : item.line.end]))
        if used > own or in_strings or re.search(rf"__all__.*{item.bound}", after):
            continue
        index = layout(source.text).index(item.line.start)
        if alone_in_block(source, index, index + 1):
            continue
        gone += remove_statement(source, Span(item.line.first, _code_end(source, item.line.start)))
    return tuple(gone)


def _code_end(source: Source, offset: int) -> int:
    plan = layout(source.text)
    line = plan.line(offset)
    return line.start + len(plan.masked[line.start : line.end].rstrip())


def is_primary_text(text: str) -> bool:
    """Whether the text can stand before a dot as it is."""
    if text.isidentifier() or text[:1] == "(" == text[0] and _closes(text):
        return True
    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    return isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.List | ast.ListComp)


def _closes(text: str) -> bool:
    """Whether the first parenthesis is closed by the last character."""
    depth = 0
    masked = layout(text).masked
    for i, character in enumerate(masked):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return i == len(masked) - 1
    return False


Env = dict[str, Value]

_METHODS = frozenset(
    "sum mean std var max min prod cumsum cumprod argmax argmin argsort any all dot reshape flatten ravel transpose "
    "swapaxes squeeze clip round astype copy repeat take nonzero trace diagonal conj searchsorted ptp".split()
)
_VIEWS = frozenset(
    "reshape ravel transpose swapaxes squeeze asarray moveaxis expand_dims diagonal broadcast_to split".split()
)
_CONSTANTS = {"pi": "pi", "inf": "inf", "nan": "nan", "e": "e", "newaxis": "None", "Inf": "inf", "NaN": "nan"}
_DTYPES = frozenset("float16 float32 float64 double single int8 int16 int32 int64 uint8 bool_".split())
_FRESH_ARRAYS = frozenset("zeros ones empty full eye identity arange linspace logspace".split())
_PLAIN_CALLS = frozenset("len range isinstance type hasattr str repr id bool int callable issubclass".split())
_KEEPS = frozenset("abs sum max min pow".split())


class _Rewrite:
    """One function on its way from numpy to torch."""

    def __init__(self, piece: Piece, where: Span, torch: str) -> None:
        self.piece = piece
        self.source = piece.source
        self.where = where
        self.torch = torch
        self.converted: set[cst.CSTNode] = set()
        self.grown = False
        self.touched = False
        self.sunk = False
        self.anchor = ""
        self.device = ""
        self.texts: dict[cst.CSTNode, str] = {}  # what an expression or a statement becomes
        self.removed: set[cst.CSTNode] = set()
        self.dead: list[str] = []  # what let no gradient through on the way to a result
        self.tensors: set[str] = set()  # names that hold tensors, as their uses show
        self.numbers: set[cst.CSTNode] = set()  # what takes a Python number from a converted value

    # --- driving ---------------------------------------------------------------------------------------

    def edits(self) -> tuple[Edit, ...]:
        body = self.piece.module.body
        for _ in range(_ROUNDS):
            self.grown = False
            sunk = self.sunk
            self.texts.clear()
            self.dead.clear()
            self.removed.clear()
            self.block(body, {})
            if not self.grown and self.sunk == sunk:
                break
        else:
            raise NoEqual("this web of arrays")
        if self.dead:
            raise NoGradient(self.dead[0])
        edits: list[Edit] = []
        for node, text in self.texts.items():
            edits += _difference(self.source, self.piece.whole(node), text)
        for node in self.removed:
            edits += remove_statement(self.source, self.piece.span(node))
        return merged(edits) if self.converted else ()

    def need(self, roots: frozenset[cst.CSTNode]) -> None:
        fresh = roots - self.converted
        if fresh:
            self.converted |= fresh
            self.grown = True

    def root(self, node: cst.CSTNode) -> bool:
        """Whether the expression is to be converted; those around the wanted place are from the start."""
        if node not in self.converted:
            span = self.piece.whole(node)
            if span.start <= self.where.start and self.where.end <= span.end:
                self.converted.add(node)
                self.grown = True
        return node in self.converted

    # --- statements ------------------------------------------------------------------------------------

    def block(self, statements: Sequence[cst.BaseStatement], env: Env) -> None:
        for statement in statements:
            self.statement(statement, env)

    def statement(self, node: cst.CSTNode, env: Env) -> None:
        if isinstance(node, cst.SimpleStatementLine | cst.SimpleStatementSuite):
            for part in node.body:
                self.small(part, env)
        elif isinstance(node, cst.IndentedBlock):
            self.block(node.body, env)
        elif isinstance(node, cst.FunctionDef):
            self.function(node, env)
        elif isinstance(node, cst.ClassDef):
            self.opaque(node, env)
        elif isinstance(node, cst.If):
            self.top(node.test, env)
            other = dict(env)
            self.statement(node.body, env)
            if node.orelse is not None:
                self.statement(node.orelse, other)
            self.join(env, other)
        elif isinstance(node, cst.Else | cst.Finally):
            self.statement(node.body, env)
        elif isinstance(node, cst.For | cst.While):
            for _ in range(2):
                inside = dict(env)
                if isinstance(node, cst.For):
                    value = self.top(node.iter, inside)
                    self.bind(node.target, _element(value), inside)
                else:
                    self.top(node.test, inside)
                self.statement(node.body, inside)
                self.join(env, inside)
            if node.orelse is not None:
                self.statement(node.orelse, env)
        elif isinstance(node, cst.With):
            for item in node.items:
                value = self.top(item.item, env)
                if item.asname is not None:
                    self.bind(item.asname.name, value, env)
            self.statement(node.body, env)
        elif isinstance(node, cst.Try):
            self.statement(node.body, env)
            for handler in node.handlers:
                other = dict(env)
                self.statement(handler.body, other)
                self.join(env, other)
            for part in (node.orelse, node.finalbody):
                if part is not None:
                    self.statement(part, env)
        else:
            self.opaque(node, env)

    def function(self, node: cst.FunctionDef, env: Env) -> None:
        """The function asked for is interpreted; one inside it must not use what is converted."""
        if env:
            self.opaque(node, env)
        else:
            inside: Env = {}
            parameters = node.params
            for parameter in (*parameters.posonly_params, *parameters.params, *parameters.kwonly_params):
                inside[parameter.name.value] = self.parameter(parameter)
            self.statement(node.body, inside)

    def parameter(self, parameter: cst.Param) -> Value:
        annotation = self.piece.text(parameter.annotation.annotation) if parameter.annotation else ""
        if annotation.rpartition(".")[2] == "Tensor":
            return Value("torch", live=True)
        if annotation in {"float", "int", "bool", "str"}:
            return NUMBER
        default = parameter.default
        if isinstance(default, cst.Integer | cst.Float | cst.UnaryOperation | cst.SimpleString):
            return NUMBER
        if isinstance(default, cst.Name) and default.value in {"True", "False"}:
            return NUMBER
        return OTHER

    def opaque(self, node: cst.CSTNode, env: Env) -> None:
        """Code that runs another time, or that is not understood: it must not see what is converted."""
        own = {parameter.name.value for parameter in self.piece.nodes(cst.Param, node)}
        for name in self.piece.nodes(cst.Name, node):
            if name.value not in own and env.get(name.value, OTHER).kind == "tensor":
                raise NoEqual(f"`{name.value}` in an inner function")

    def small(self, node: cst.BaseSmallStatement, env: Env) -> None:
        if isinstance(node, cst.Assign):
            self.assign(node, env)
        elif isinstance(node, cst.AnnAssign):
            if node.value is not None:
                self.bind(node.target, self.top(node.value, env), env, node.value)
        elif isinstance(node, cst.AugAssign):
            self.augmented(node, env)
        elif isinstance(node, cst.Expr):
            self.top(node.value, env)
        elif isinstance(node, cst.Return):
            if node.value is not None:
                self.returned(node.value, env)
        elif isinstance(node, cst.Assert):
            self.top(node.test, env)
        elif isinstance(node, cst.Raise):
            if node.exc is not None:
                self.top(node.exc, env)
        elif isinstance(node, cst.Del):
            for name in self.piece.nodes(cst.Name, node):
                env.pop(name.value, None)

    def assign(self, node: cst.Assign, env: Env) -> None:
        target = node.targets[0].target
        if isinstance(target, cst.Attribute) and target.attr.value == "requires_grad":
            if env.get(dotted(target.value), OTHER).reopened:
                self.removed.add(node)
                return
        value = self.top(node.value, env)
        if len(node.targets) == 1 and isinstance(target, cst.Subscript):
            if self.stored_in(node, target, value, env):
                return
        for part in node.targets:
            self.bind(part.target, value, env, node.value)
        if (
            len(node.targets) == 1
            and isinstance(target, cst.Name)
            and self.texts.get(node.value) == target.value
        ):
            self.removed.add(node)
            self.texts.pop(node.value)

    def stored_in(self, node: cst.Assign, target: cst.Subscript, value: Value, env: Env) -> bool:
        """`x[i] = value`; whether it was seen to."""
        base = self.evaluate(target.value, env)
        if base.kind == "array" and value.kind == "tensor" and base.roots:
            self.need(base.roots)
            return True
        if base.kind != "tensor":
            return False
        self.touched = True
        index = self.evaluate(target, env)
        name = dotted(target.value)
        if base.fresh:
            stored = self.tensor_of(node.value, value) if value.kind in {"array", "other"} else value.text
            self.texts[node.value] = stored
            self.texts[target] = index.text
            if name in env:
                env[name] = replace(base, live=base.live or value.live, dead_at="")
            return True
        mask = self.evaluate(target.slice[0].slice.value, env) if _single_index(target) else OTHER
        if base.shared or value.kind != "number" or mask.dtype != "bool" or not name:
            raise NoEqual(f"writing into `{name or self.piece.text(target.value)}` in place")
        self.texts.pop(node.value, None)
        self.texts[node] = f"{name} = {name}.masked_fill({mask.text}, {value.text})"
        env[name] = replace(base, text="")
        return True

    def augmented(self, node: cst.AugAssign, env: Env) -> None:
        value = self.top(node.value, env)
        name = dotted(node.target)
        old = env.get(name, OTHER) if name else self.evaluate(node.target, env)
        if value.kind != "tensor" and old.kind != "tensor":
            if name:
                env[name] = _joined(old, value)
            return
        if not name:
            if value.kind == "tensor":
                self.copied(node.value, value)
            return
        if old.kind == "array" and old.roots:
            self.need(old.roots)
        if old.taint or value.taint:
            raise NoEqual(f"{old.taint or value.taint}, which receives the array,")
        if isinstance(node.operator, cst.FloorDivideAssign):
            raise NoEqual("`//=`")
        if old.kind == "other" and name not in env:
            self.copied(node.value, value)  # kept outside this function: logging
            return
        adds = isinstance(node.operator, cst.AddAssign | cst.SubtractAssign)
        text = self.tensor_of(node.value, value) if value.kind in {"array", "other"} else value.text
        gained = Value(
            "tensor", live=old.live or value.live, fresh=adds and (old.kind == "number" or old.fresh)
        )
        if old.kind == "number" or (old.fresh and adds):
            self.texts[node.value] = text
        else:
            if old.shared:
                raise NoEqual(f"writing into `{name}` in place")
            operator = self.operator_text(node)
            if not is_primary(node.value):
                text = f"({text})" if not _closes(text) else text
            self.texts.pop(node.value, None)
            self.texts[node] = f"{name} = {name} {operator} {text}"
        env[name] = gained

    def operator_text(self, node: cst.AugAssign) -> str:
        start, end = self.piece.span(node.target).end, self.piece.whole(node.value).start
        return self.source.text[start:end].strip().removesuffix("=")

    def returned(self, node: cst.BaseExpression, env: Env) -> None:
        value = self.top(node, env)
        parts: list[tuple[cst.BaseExpression, Value]] = [(node, value)]
        if isinstance(node, cst.Tuple) and value.elements is not None:
            parts = [
                (element.value, part) for element, part in zip(node.elements, value.elements, strict=True)
            ]
        texts: dict[cst.CSTNode, str] = {}
        for expression, part in parts:
            if part.taint:
                raise NoEqual(f"{part.taint}, which receives the array,")
            if part.kind == "tensor" and self.sunk:
                texts[expression] = self.copy_text(part)
            elif part.kind == "number" and part.roots and not self.sunk:
                self.need(part.roots)
            elif part.kind == "tensor" and not part.live and part.dead_at and len(parts) == 1:
                self.dead.append(part.dead_at)
        if texts:
            whole = {
                expression: texts.get(expression, part.text)
                for expression, part in parts
                if expression is not node
            }
            self.texts[node] = texts[node] if node in texts else self.splice(node, whole)

    def bind(self, target: cst.CSTNode, value: Value, env: Env, source: cst.CSTNode | None = None) -> None:
        if isinstance(target, cst.Name):
            env[target.value] = replace(value, text="")
        elif isinstance(target, cst.Tuple | cst.List):
            for i, element in enumerate(target.elements):
                if value.elements is not None and i < len(value.elements):
                    self.bind(element.value, value.elements[i], env)
                else:
                    self.bind(element.value, _element(value), env)
        elif isinstance(target, cst.StarredElement):
            self.bind(target.value, Value("list", element=value), env)
        elif isinstance(target, cst.Attribute | cst.Subscript):
            self.kept_elsewhere(target, value, source)

    def kept_elsewhere(
        self, target: cst.Attribute | cst.Subscript, value: Value, source: cst.CSTNode | None
    ) -> None:
        """What is stored outside the function stays an array there."""
        if value.kind == "tensor" and source is not None:
            self.copied(source, value)
        elif value.kind == "list" and _deep(value).kind == "tensor":
            raise NoEqual(f"a list of arrays kept in `{self.piece.text(target)}`")

    def copied(self, node: cst.CSTNode, value: Value) -> None:
        self.texts[node] = self.copy_text(value)

    def copy_text(self, value: Value) -> str:
        """The array or number that the value was."""
        text = value.text if is_primary_text(value.text) else f"({value.text})"
        return f"{text}.item()" if value.ndim == 0 else f"{text}.detach().cpu().numpy()"

    def join(self, env: Env, other: Env) -> None:
        for name in {*env, *other}:
            one, two = env.get(name), other.get(name)
            if one is None or two is None:
                env[name] = one or two or OTHER
                continue
            for mine, theirs in ((one, two), (two, one)):
                if mine.kind == "tensor" and theirs.kind in {"array", "number"} and theirs.roots:
                    self.need(theirs.roots)
            env[name] = _joined(one, two)

    # --- expressions -----------------------------------------------------------------------------------

    def top(self, node: cst.BaseExpression, env: Env) -> Value:
        """An expression of a statement: its new text is kept if a converted value takes part in it."""
        self.touched = False
        value = self.evaluate(node, env)
        if self.touched and value.text != self.piece.text(node):
            self.texts[node] = value.text
        else:
            self.texts.pop(node, None)
        return value

    def evaluate(self, node: cst.BaseExpression, env: Env) -> Value:
        """The value of an expression; its text includes the expression's parentheses."""
        if isinstance(node, cst.Name):
            value = replace(env.get(node.value) or self.free(node.value), text=self.piece.text(node))
            if value.kind == "other" and node.value in self.tensors:
                value = Value("torch", value.text, live=True)
        elif isinstance(node, cst.Attribute):
            value = self.attribute(node, env)
        elif isinstance(node, cst.Call):
            value = self.call(node, env)
        elif isinstance(node, cst.BinaryOperation):
            value = self.binary(node, env)
        elif isinstance(node, cst.Comparison):
            value = self.comparison(node, env)
        elif isinstance(node, cst.UnaryOperation):
            inner = self.evaluate(node.expression, env)
            value = replace(inner, text=self.splice(node, {node.expression: inner.text}), fresh=False)
            if isinstance(node.operator, cst.Not):
                value = replace(NUMBER, text=value.text)
        elif isinstance(node, cst.BooleanOperation):
            left, right = self.evaluate(node.left, env), self.evaluate(node.right, env)
            value = replace(
                _joined(left, right), text=self.splice(node, {node.left: left.text, node.right: right.text})
            )
        elif isinstance(node, cst.IfExp):
            parts = {part: self.evaluate(part, env) for part in (node.body, node.test, node.orelse)}
            text = self.splice(node, {part: known.text for part, known in parts.items()})
            value = replace(_joined(parts[node.body], parts[node.orelse]), text=text)
        elif isinstance(node, cst.Subscript):
            value = self.subscript(node, env)
        elif isinstance(node, cst.Tuple | cst.List | cst.Set):
            value = self.sequence(node, env)
        elif isinstance(node, cst.ListComp | cst.GeneratorExp | cst.SetComp):
            value = self.comprehension(node, env)
        elif isinstance(node, cst.Integer | cst.Float | cst.Imaginary | cst.SimpleString):
            value = replace(NUMBER, text=self.piece.text(node))
        elif isinstance(node, cst.FormattedString):
            value = self.formatted(node, env)
        elif isinstance(node, cst.NamedExpr):
            inner = self.evaluate(node.value, env)
            self.bind(node.target, inner, env)
            value = replace(inner, text=self.splice(node, {node.value: inner.text}))
        elif isinstance(node, cst.Dict):
            value = self.dictionary(node, env)
        else:
            self.opaque(node, env)
            value = replace(OTHER, text=self.piece.text(node))
        if value.kind == "tensor":
            self.touched = True
        return value

    def splice(self, node: cst.CSTNode, parts: dict[cst.CSTNode, str]) -> str:
        """The node's text (with parentheses) with some nodes inside it replaced."""
        whole = self.piece.whole(node)
        pieces: list[str] = []
        position = whole.start
        for part, text in sorted(parts.items(), key=lambda item: self.piece.whole(item[0]).start):
            span = self.piece.whole(part)
            pieces += (self.source.text[position : span.start], text)
            position = span.end
        return "".join((*pieces, self.source.text[position : whole.end]))

    def in_parentheses(self, node: cst.BaseExpression, text: str) -> str:
        """New text for the node itself, put back into the parentheses it has."""
        whole, span = self.piece.whole(node), self.piece.span(node)
        return self.source.text[whole.start : span.start] + text + self.source.text[span.end : whole.end]

    def free(self, name: str) -> Value:
        """A name that the function does not bind: a number if the module says so."""
        if name in {"True", "False", "None"}:
            return NUMBER
        bound = re.search(
            rf"^{re.escape(name)}\s*(?::[^=\n]*)?=\s*-?[\d.][\de.+-]*\s*(?:#.*)?$", self.source.text, re.M
        )
        return NUMBER if bound else OTHER

    def tensor_of(self, node: cst.CSTNode, value: Value) -> str:
        """A foreign value made a tensor where it meets one."""
        if value.taint:
            raise NoEqual(f"{value.taint}, which receives the array,")
        device = f", device={self.device}" if self.device else ""
        text = value.text
        if text.startswith("(") and _closes(text):
            text = text[1:-1]
        return f"{self.torch}.as_tensor({text}{device})"

    def meet(self, operands: dict[cst.BaseExpression, Value]) -> dict[cst.BaseExpression, Value]:
        """Operands of one operation: where one is a tensor now, the arrays become tensors."""
        if not any(value.kind == "tensor" for value in operands.values()):
            return operands
        self.touched = True
        met: dict[cst.BaseExpression, Value] = {}
        for node, value in operands.items():
            if value.roots and value.kind in {"array", "number"}:
                self.need(value.roots)
            if value.kind == "list" and _deep(value).roots:
                self.need(_deep(value).roots)
            if value.kind in {"array", "other"} and not value.roots:
                value = replace(value, text=self.tensor_of(node, value), kind="torch", live=False)
            met[node] = value
        return met

    def binary(self, node: cst.BinaryOperation, env: Env) -> Value:
        left, right = self.evaluate(node.left, env), self.evaluate(node.right, env)
        if isinstance(node.operator, cst.Modulo) and isinstance(
            node.left, cst.SimpleString | cst.ConcatenatedString
        ):
            if right.kind == "tensor":
                right = replace(right, text=self.copy_text(right))
            elif right.elements is not None and isinstance(node.right, cst.Tuple):
                texts: dict[cst.CSTNode, str] = {
                    element.value: self.copy_text(part) if part.kind == "tensor" else part.text
                    for element, part in zip(node.right.elements, right.elements, strict=True)
                }
                right = replace(right, text=self.splice(node.right, texts))
            return replace(NUMBER, text=self.splice(node, {node.right: right.text}))
        met = self.meet({node.left: left, node.right: right})
        left, right = met[node.left], met[node.right]
        pair = (left, right)
        if any(value.kind == "tensor" for value in pair):
            if isinstance(node.operator, cst.FloorDivide):
                raise NoEqual("`//`")
            if isinstance(node.operator, cst.Subtract):
                for part, value in ((node.left, left), (node.right, right)):
                    if value.dtype == "bool":
                        name = value.text if is_primary_text(value.text) else f"({value.text})"
                        cast = f"to({self.anchor}.dtype)" if self.anchor else "float()"
                        met[part] = replace(value, text=f"{name}.{cast}")
                left, right = met[node.left], met[node.right]
        text = self.splice(node, {node.left: left.text, node.right: right.text})
        return replace(_combined(pair), text=text)

    def comparison(self, node: cst.Comparison, env: Env) -> Value:
        operands = {node.left: self.evaluate(node.left, env)}
        for target in node.comparisons:
            operands[target.comparator] = self.evaluate(target.comparator, env)
        plain = any(isinstance(t.operator, cst.Is | cst.IsNot | cst.In | cst.NotIn) for t in node.comparisons)
        if not plain:
            operands = self.meet(operands)
        text = self.splice(node, {part: value.text for part, value in operands.items()})
        if plain:
            return replace(NUMBER, text=text)
        value = _combined(tuple(operands.values()))
        if value.kind == "number":
            return replace(NUMBER, text=text)
        return replace(value, text=text, live=False, dead_at="a comparison", dtype="bool")

    def attribute(self, node: cst.Attribute, env: Env) -> Value:
        name = dotted(node)
        if name in env:
            return replace(env[name], text=self.piece.text(node))
        known = qualified(self.source, name) if name and name.partition(".")[0] not in env else ""
        if known.startswith("numpy."):
            return self.numpy_name(node, known.removeprefix("numpy."))
        base = self.evaluate(node.value, env)
        text = self.splice(node, {node.value: base.text})
        attribute = node.attr.value
        if base.kind == "tensor":
            if attribute in {"shape", "ndim"}:
                return replace(NUMBER, text=text)
            if attribute == "size":
                return replace(NUMBER, text=self.in_parentheses(node, f"{base.text}.numel()"))
            if attribute in {"T", "real", "imag", "grad_fn", "requires_grad", "device"}:
                return replace(base, text=text, fresh=False)
            if attribute == "dtype":
                return replace(OTHER, text=text)
            raise NoEqual(f"`.{attribute}` of an array")
        if base.kind == "torch" or (base.kind == "other" and attribute == "data"):
            if attribute == "data":
                if self.root(node):
                    self.anchored(node.value, base)
                    return replace(base, text=base.text, kind="torch", live=True)
                return Value("torch", text, base.roots | {node})
            plain = attribute in {"shape", "ndim", "device", "dtype", "is_cuda"}
            return replace(NUMBER if plain else base, text=text, live=base.live and not plain)
        if base.kind == "array":
            return replace(NUMBER if attribute in {"shape", "ndim", "size"} else base, text=text)
        if base.kind == "other" and attribute in {"shape", "ndim"}:
            return replace(NUMBER, text=text)
        if name.startswith("self.") and name.count(".") == 1 and self.is_number_field(attribute):
            return replace(NUMBER, text=text)
        return Value("other", text, taint=base.taint)

    def is_number_field(self, attribute: str) -> bool:
        assigned = re.search(rf"self\.{attribute}\s*=\s*(-?[\d.]+\b|\w+)", self.source.text)
        if assigned is None:
            return False
        value = assigned.group(1)
        if not value.isidentifier():
            return True
        return bool(re.search(rf"\b{value}\s*(?::\s*(?:float|int)\b|=\s*-?[\d.]+\b)", self.source.text))

    def numpy_name(self, node: cst.Attribute, name: str) -> Value:
        if name in _CONSTANTS:
            target = _CONSTANTS[name]
            text = target if target == "None" else f"{self.torch}.{target}"
            return replace(NUMBER, text=self.in_parentheses(node, text))
        return replace(OTHER, text=self.piece.text(node))

    def anchored(self, node: cst.BaseExpression, value: Value) -> None:
        """The expression is a tensor: constants made here follow the first such name."""
        name = dotted(node)
        if name and not self.anchor:
            self.anchor = name
        if value.kind == "other" and name and name not in self.tensors:
            self.tensors.add(name)
            self.grown = True

    def sequence(self, node: cst.Tuple | cst.List | cst.Set, env: Env) -> Value:
        values: list[Value] = []
        texts: dict[cst.CSTNode, str] = {}
        starred = False
        for element in node.elements:
            value = self.evaluate(element.value, env)
            starred |= isinstance(element, cst.StarredElement)
            values.append(_element(value) if isinstance(element, cst.StarredElement) else value)
            texts[element.value] = value.text
        elements = None if starred else tuple(values)
        return Value("list", self.splice(node, texts), element=_joined_all(values), elements=elements)

    def dictionary(self, node: cst.Dict, env: Env) -> Value:
        texts: dict[cst.CSTNode, str] = {}
        for element in node.elements:
            value = self.evaluate(element.value, env)
            texts[element.value] = self.copy_text(value) if value.kind == "tensor" else value.text
        return replace(OTHER, text=self.splice(node, texts))

    def comprehension(self, node: cst.ListComp | cst.GeneratorExp | cst.SetComp, env: Env) -> Value:
        inside = dict(env)
        texts: dict[cst.CSTNode, str] = {}
        loop: cst.CompFor | None = node.for_in
        while loop is not None:
            value = self.evaluate(loop.iter, inside)
            texts[loop.iter] = value.text
            self.bind(loop.target, _element(value), inside)
            for condition in loop.ifs:
                texts[condition.test] = self.evaluate(condition.test, inside).text
            loop = loop.inner_for_in
        element = self.evaluate(node.elt, inside)
        texts[node.elt] = element.text
        return Value("list", self.splice(node, texts), element=replace(element, text=""))

    def formatted(self, node: cst.FormattedString, env: Env) -> Value:
        texts: dict[cst.CSTNode, str] = {}
        for part in node.parts:
            if isinstance(part, cst.FormattedStringExpression):
                value = self.evaluate(part.expression, env)
                if value.kind == "tensor" and (part.format_spec is None or value.ndim == 0):
                    texts[part.expression] = self.copy_text(value)
                else:
                    texts[part.expression] = value.text
        return replace(NUMBER, text=self.splice(node, texts))

    def subscript(self, node: cst.Subscript, env: Env) -> Value:
        chosen = self.partitioned(node, env)
        if chosen is not None:
            return chosen
        base = self.evaluate(node.value, env)
        texts: dict[cst.CSTNode, str] = {node.value: base.text}
        flipped: list[int] = []
        indices = 0
        for i, element in enumerate(node.slice):
            part = element.slice
            if isinstance(part, cst.Slice):
                bounds = [bound for bound in (part.lower, part.upper, part.step) if bound is not None]
                for bound in bounds:
                    texts[bound] = self.evaluate(bound, env).text
                if (
                    part.step is not None
                    and texts[part.step].lstrip().startswith("-")
                    and base.kind == "tensor"
                ):
                    if texts[part.step].strip() != "-1" or part.lower or part.upper:
                        raise NoEqual("a negative step")
                    flipped.append(i)
            else:
                value = self.evaluate(part.value, env)
                if base.kind == "tensor" and value.kind == "array" and value.roots:
                    self.need(value.roots)
                if base.kind == "array" and value.kind == "tensor" and base.roots:
                    self.need(base.roots)
                texts[part.value] = value.text
                indices += 1
        text = self.splice(node, texts)
        if base.kind == "tensor":
            if flipped:
                if len(flipped) + sum(_is_full(e.slice) for e in node.slice) != len(node.slice):
                    raise NoEqual("a negative step")
                dims = f"({flipped[0]},)" if len(flipped) == 1 else f"({', '.join(map(str, flipped))})"
                text = self.in_parentheses(node, f"{self.torch}.flip({base.text}, dims={dims})")
            ndim = None
            if base.ndim is not None and all(isinstance(e.slice, cst.Slice) for e in node.slice):
                ndim = base.ndim
            elif base.ndim == 1 and indices == 1 and _is_plain_index(node):
                ndim = 0
            return replace(base, text=text, fresh=False, shared=base.shared, ndim=ndim)
        if base.kind == "list":
            if base.elements is not None and _single_index(node):
                at = texts[node.slice[0].slice.value].strip()
                if at.isdigit() and int(at) < len(base.elements):
                    return replace(base.elements[int(at)], text=text)
            return replace(_element(base), text=text)
        return replace(base, text=text, elements=None)

    def partitioned(self, node: cst.Subscript, env: Env) -> Value | None:
        """`np.partition(v, k)[k]`, of which only the k-th value is the same in torch."""
        call = node.value
        if not (
            isinstance(call, cst.Call) and qualified(self.source, dotted(call.func)) == "numpy.partition"
        ):
            return None
        value = self.evaluate(call.args[0].value, env)
        if value.kind != "tensor" or len(call.args) != 2:
            return None
        k = self.piece.text(call.args[1].value)
        if not _single_index(node) or self.piece.text(node.slice[0].slice.value) != k or not k.isdigit():
            raise NoEqual("`np.partition`")
        return replace(value, text=f"{self.torch}.kthvalue({value.text}, {int(k) + 1}).values", ndim=None)

    # --- calls -----------------------------------------------------------------------------------------

    def call(self, node: cst.Call, env: Env) -> Value:
        name = dotted(node.func)
        bound = name.partition(".")[0] in env
        known = qualified(self.source, name) if name and not bound else ""
        if rewraps(node) and not known.startswith("numpy."):
            return self.rewrapped(node, env)
        if known.startswith(("numpy.", "scipy.special.", "math.")):
            return self.numpy_call(node, known, env)
        if isinstance(node.func, cst.Attribute) and not known.startswith("torch."):
            base = self.evaluate(node.func.value, env)
            answer = self.method(node, node.func, base, env)
            if answer is not None:
                return answer
            return self.foreign(node, env, name or f".{node.func.attr.value}()", base)
        if isinstance(node.func, cst.Name) and not bound:
            answer = self.builtin(node, node.func.value, env)
            if answer is not None:
                return answer
        if known.startswith("torch."):
            values = [self.evaluate(argument.value, env) for argument in node.args]
            text = self.with_arguments(node, [value.text for value in values])
            live = any(_deep(value).live for value in values) and not known.endswith((".argmax", ".round"))
            return Value("torch", text, live=live)
        return self.foreign(node, env, name or "a call", OTHER)

    def with_arguments(self, node: cst.Call, texts: Sequence[str], base: str | None = None) -> str:
        parts: dict[cst.CSTNode, str] = {
            argument.value: text for argument, text in zip(node.args, texts, strict=True)
        }
        if base is not None and isinstance(node.func, cst.Attribute):
            parts[node.func.value] = base
        return self.splice(node, parts)

    def foreign(self, node: cst.Call, env: Env, name: str, base: Value) -> Value:
        """Code that is not seen: it gets what it always got."""
        texts: list[str] = []
        taint = base.taint
        if not isinstance(node.func, cst.Name | cst.Attribute):
            self.opaque(node.func, env)
        for argument in node.args:
            value = self.evaluate(argument.value, env)
            if value.kind == "tensor":
                self.touched = True
                texts.append(self.copy_text(value))
                taint = f"`{name}`"
            else:
                if value.kind == "list" and _deep(value).kind == "tensor":
                    raise NoEqual(f"`{name}`, which receives a list of arrays,")
                texts.append(value.text)
                taint = taint or value.taint
        return Value("other", self.with_arguments(node, texts, base.text or None), taint=taint)

    def builtin(self, node: cst.Call, name: str, env: Env) -> Value | None:
        if name not in _PLAIN_CALLS | _KEEPS | {
            "float",
            "list",
            "tuple",
            "sorted",
            "reversed",
            "enumerate",
            "zip",
        }:
            return None
        values = [self.evaluate(argument.value, env) for argument in node.args]
        text = self.with_arguments(node, [value.text for value in values])
        if not values:
            return (
                Value("list", text, element=None) if name in {"list", "tuple"} else replace(NUMBER, text=text)
            )
        first = values[0]
        if name == "float":
            if first.kind not in {"tensor", "array", "torch", "number"}:
                return Value("number", text, taint=first.taint)
            if (first.kind in {"tensor", "torch"} or first.roots) and self.root(node):
                self.need(first.roots)
                inner = first.text if is_primary_text(first.text) or node.lpar else f"({first.text})"
                return replace(first, kind="tensor", text=self.in_parentheses(node, inner))
            related = first.kind == "tensor" or bool(first.roots)
            if first.kind == "tensor":
                self.numbers.add(node)
            return Value("number", text, first.roots | {node} if related else frozenset(), taint=first.taint)
        if name in _PLAIN_CALLS:
            return replace(NUMBER, text=text)
        if name == "enumerate":
            pair = Value("list", elements=(NUMBER, _element(first)))
            return Value("list", text, element=pair)
        if name == "zip":
            return Value("list", text, element=Value("list", elements=tuple(_element(v) for v in values)))
        if name in {"list", "tuple", "reversed", "sorted"}:
            return Value("list", text, element=_element(first))
        flat = [_deep(value) for value in values]
        if any(value.kind == "tensor" for value in flat):
            for value in flat:
                if value.roots:
                    self.need(value.roots)
        combined = _combined(tuple(flat))
        return replace(combined, text=text)

    def rewrapped(self, node: cst.Call, env: Env) -> Value:
        """A tensor made anew: where it is made of a converted value it is that value."""
        values = [self.evaluate(argument.value, env) for argument in node.args]
        texts = [value.text for value in values]
        plain = Value("torch", self.with_arguments(node, texts))
        if not values:
            return plain
        first = values[0]
        deep = _deep(first)
        if deep.taint:
            raise NoEqual(f"{deep.taint}, which receives the array,")
        related = deep.kind == "tensor" or deep.reopened
        if deep.kind in {"number", "array"} and deep.roots & self.numbers:
            self.need(deep.roots)
            related = True
        if first.kind == "list" and first.elements is not None:
            related |= any(value.kind == "tensor" for value in first.elements)
        if not related:
            return plain
        self.touched = True
        data = data_of(self.source, self.piece, node)
        if isinstance(data, Refusal):
            raise NoEqual(data.reason)
        value_node, suffix = data
        if not deep.live and deep.kind == "tensor" and deep.dead_at:
            self.dead.append(deep.dead_at)
        text = first.text
        if first.kind == "list":
            text = f"{self.torch}.stack({self.stacked(value_node, first)})"
        elif suffix and not is_primary_text(text):
            text = f"({text})"
        elif not suffix and not is_primary_text(text) and self.binds(node):
            text = f"({text})"
        self.sunk = True
        return Value(
            "torch", self.in_parentheses(node, text + suffix), live=True, reopened=True, ndim=deep.ndim
        )

    def stacked(self, node: cst.BaseExpression, value: Value) -> str:
        if value.elements is None or not isinstance(node, cst.List | cst.Tuple):
            return value.text
        texts: dict[cst.CSTNode, str] = {}
        for element, part in zip(node.elements, value.elements, strict=True):
            if part.roots:
                self.need(part.roots)
            texts[element.value] = (
                f"{self.torch}.as_tensor({part.text})" if part.kind == "number" else part.text
            )
        return self.splice(node, texts)

    def binds(self, node: cst.BaseExpression) -> bool:
        parent = self.piece.parent(node)
        return not isinstance(
            parent,
            cst.Arg
            | cst.Element
            | cst.Index
            | cst.Assign
            | cst.Return
            | cst.Expr
            | cst.AnnAssign
            | cst.AugAssign,
        )

    def method(self, node: cst.Call, function: cst.Attribute, base: Value, env: Env) -> Value | None:
        name = function.attr.value
        values = [self.evaluate(argument.value, env) for argument in node.args]
        text = self.with_arguments(node, [value.text for value in values], base.text)
        if name in {"numpy", "__array__"} and base.kind in {"torch", "other"}:
            if self.root(node):
                self.need(base.roots)
                self.anchored(_chain_start(function.value), base)
                if base.taint:
                    raise NoEqual(f"{base.taint}, which receives the array,")
                return Value("tensor", self.in_parentheses(node, base.text), live=True, shared=True)
            return Value("array", text, base.roots | {node}, taint=base.taint)
        on_cpu = name == "cpu" or (name == "to" and [v.text.strip("\"'") for v in values] == ["cpu"])
        if base.kind in {"torch", "other"} and (name == "detach" or (on_cpu and base.kind)):
            if self.root(node):
                self.anchored(_chain_start(function.value), base)
                if on_cpu and self.anchor:
                    self.device = f"{self.anchor}.device"
                self.need(base.roots)
                return replace(base, kind="torch", text=self.in_parentheses(node, base.text), live=True)
            return Value("torch", text, base.roots | {node}, live=base.live and on_cpu, taint=base.taint)
        if name in {"item", "tolist"} and base.kind in {"tensor", "array", "torch", "other"}:
            related = base.kind == "tensor" or bool(base.roots) or self.contains_where(node)
            if related and self.root(node):
                self.need(base.roots)
                return replace(
                    base,
                    kind="tensor",
                    live=base.live or base.kind != "tensor",
                    text=self.in_parentheses(node, base.text),
                )
            if base.kind == "tensor":
                self.numbers.add(node)
            kind = "number" if name == "item" else "list"
            roots = base.roots | {node} if related else frozenset()
            if kind == "list":
                return Value("list", text, element=Value("number", roots=roots))
            return Value("number", text, roots, taint=base.taint)
        if base.kind == "tensor":
            if name in _METHODS:
                receiver = Argument("", base, base.text, is_primary_text(base.text))
                return self.written(node, name, values, receiver)
            if name in {
                "detach",
                "cpu",
                "numpy",
                "backward",
                "requires_grad_",
                "float",
                "double",
                "to",
                "view",
                "clone",
            }:
                return replace(base, kind="torch", text=text)
            raise NoEqual(f"`.{name}()` of an array")
        if base.kind == "torch":
            return Value("torch", text, base.roots, live=base.live, reopened=base.reopened)
        if base.kind == "array":
            tensors = [value for value in values if value.kind == "tensor"]
            if tensors and base.roots:
                self.need(base.roots)
            return Value("array", text, base.roots | frozenset().union(*(v.roots for v in values)))
        if base.kind == "list" and name in {"append", "extend", "insert"} and values:
            key = dotted(function.value)
            added = values[-1] if name != "extend" else _element(values[-1])
            if key in env:
                old = env[key].element
                for one, two in ((old, added), (added, old)):
                    if one is not None and two is not None and one.kind == "tensor" and two.roots:
                        self.need(two.roots)
                env[key] = Value("list", element=added if old is None else _joined(old, added))
                return replace(NUMBER, text=text)
        return None

    def contains_where(self, node: cst.CSTNode) -> bool:
        span = self.piece.whole(node)
        return span.start <= self.where.start and self.where.end <= span.end

    def numpy_call(self, node: cst.Call, known: str, env: Env) -> Value:
        values = [self.evaluate(argument.value, env) for argument in node.args]
        plain = self.with_arguments(node, [value.text for value in values])
        deep = [_deep(value) for value in values]
        module, _, name = known.partition(".")
        here = (self.piece.span(node).start, self.piece.span(node).end) == (self.where.start, self.where.end)
        forced = here or node in self.converted
        if any(value.kind == "torch" for value in deep):
            forced |= self.root(node)
        if forced and node not in self.converted:
            self.converted.add(node)
            self.grown = True
        if module == "math":
            return self.math_call(node, name, values, forced)
        if any(value.taint for value in deep) and any(value.kind == "tensor" for value in deep):
            taint = next(value.taint for value in deep if value.taint)
            raise NoEqual(f"{taint}, which receives the array,")
        tensors = any(value.kind == "tensor" for value in deep)
        if tensors or (forced and name not in _FRESH_ARRAYS | {"array", "asarray"}) or (
            forced and name in {"array", "asarray"} and deep and (deep[0].is_tensor or deep[0].kind == "other")
        ):  # fmt: skip
            if name.startswith("random."):
                raise NoEqual(f"`np.{name}` of an array")
            for value in deep:
                if value.roots:
                    self.need(value.roots)
            if forced:
                if node.args:
                    self.anchored(_chain_start(node.args[0].value), values[0])
                values = [
                    replace(value, kind="torch", live=True) if value.kind == "other" and i == 0 else value
                    for i, value in enumerate(values)
                ]
            if name in _FRESH_ARRAYS:
                return replace(NUMBER, text=plain)
            return self.written(node, known.removeprefix("numpy."), values, None)
        if forced:
            return self.constructed(node, name, values)
        roots: frozenset[cst.CSTNode] = frozenset().union(*(value.roots for value in deep))
        taint = next((value.taint for value in deep if value.taint), "")
        if any(value.kind == "torch" for value in deep):
            return Value("array", plain, roots | {node})
        if name in _FRESH_ARRAYS or (
            name in {"array", "asarray"} and values and values[0].kind in {"list", "number"}
        ):
            foreign = any(value.kind in {"other", "array"} for value in deep) and name in {"array", "asarray"}
            return Value("array", plain, roots if foreign else roots | {node}, fresh=True, taint=taint)
        if all(value.kind == "number" for value in deep) and not name.startswith("random."):
            return Value("number", plain, roots)
        return Value("array", plain, roots, taint=taint)

    def math_call(self, node: cst.Call, name: str, values: list[Value], forced: bool) -> Value:
        text = self.with_arguments(node, [value.text for value in values])
        if not any(value.kind == "tensor" for value in values) and not forced:
            roots: frozenset[cst.CSTNode] = frozenset().union(*(value.roots for value in values))
            return Value("number", text, roots)
        target = MATH.get(name, "")
        if not target or len(values) != 1:
            raise NoEqual(f"`math.{name}` with these arguments")
        inner = self.piece.span(node.func)
        start = self.piece.whole(node).start
        renamed = text[: inner.start - start] + f"{self.torch}.{target}" + text[inner.end - start :]
        return replace(values[0], kind="tensor", text=renamed, live=values[0].live or forced)

    def constructed(self, node: cst.Call, name: str, values: list[Value]) -> Value:
        """A constant array made here, as a tensor like the one it meets."""
        texts = [value.text for value in values]
        keywords = [argument.keyword.value if argument.keyword else "" for argument in node.args]
        whole_numbers = not any(re.search(r"\d\.|\.\d|\de-?\d", text) for text in texts)
        extra: list[str] = []
        keep: list[str] = []
        for keyword, text in zip(keywords, texts, strict=True):
            if keyword == "dtype" or (
                not keyword and qualified(self.source, text).removeprefix("numpy.") in _DTYPES | {"float"}
            ):
                kind = qualified(self.source, text).removeprefix("numpy.")
                if kind in {"int", "int64", "int32", "bool", "bool_"}:
                    extra.append(f"dtype={self.torch}.{ {'int': 'int64', 'bool_': 'bool'}.get(kind, kind) }")
                elif kind not in _DTYPES | {"float"}:
                    raise NoEqual(f"`dtype={text}`")
            elif keyword in {"", "shape", "fill_value", "object", "N", "num", "base"}:
                rename = {"num": "steps", "shape": "size", "N": "n", "object": "data"}
                keep.append(f"{rename.get(keyword, keyword)}={text}" if keyword else text)
            else:
                raise NoEqual(f"`{keyword}=` of `np.{name}`")
        target = {"identity": "eye", "array": "tensor", "asarray": "tensor"}.get(name, name)
        if name in {"linspace", "logspace"} and len(keep) == 2:
            keep.append("50")
        integer = name == "arange" and whole_numbers and not any(value.kind == "other" for value in values)
        if name in {"array", "asarray"}:
            integer = whole_numbers
        if self.anchor and not integer and not extra:
            extra.append(f"dtype={self.anchor}.dtype")
        if self.device:
            extra.append(f"device={self.device}")
        text = f"{self.torch}.{target}({', '.join([*keep, *extra])})"
        self.touched = True
        ndim = 1 if name in {"arange", "linspace", "logspace"} else None
        dtype = "int" if integer or any("int" in part for part in extra) else ""
        return Value("tensor", self.in_parentheses(node, text), fresh=True, ndim=ndim, dtype=dtype)

    def written(self, node: cst.Call, name: str, values: list[Value], receiver: Argument | None) -> Value:
        """The numpy call written in torch."""
        self.touched = True
        for value in values:
            if value.roots and value.kind in {"array", "number"}:
                self.need(value.roots)
            if value.taint:
                raise NoEqual(f"{value.taint}, which receives the array,")
        arguments = []
        texts = []
        for argument, value in zip(node.args, values, strict=True):
            if argument.star:
                raise NoEqual(f"`np.{name}` with starred arguments")
            keyword = argument.keyword.value if argument.keyword is not None else ""
            text = value.text
            if (
                value.kind == "list"
                and value.elements is not None
                and isinstance(argument.value, cst.List | cst.Tuple)
            ):
                text = self.splice(
                    argument.value,
                    {
                        element.value: self.tensor_of(element.value, part) if part.kind in {"array", "other"} and not part.roots else part.text
                        for element, part in zip(argument.value.elements, value.elements, strict=True)
                    },
                ) if any(part.kind == "tensor" for part in value.elements) else text  # fmt: skip
            arguments.append(Argument(keyword, value, text, is_primary_text(text)))
            texts.append(text)

        def lay(
            function: str, changed: dict[int, str | None], keywords: dict[int, str], added: list[str]
        ) -> str:
            return self.laid_out(node, receiver, texts, function, changed, keywords, added)

        call = NumpyCall(name, arguments, receiver, self.torch, self.anchor, self.device, lay)
        text, value = write(call)
        first = receiver.value if receiver is not None else (values[0] if values else OTHER)
        if name in _VIEWS:
            value = replace(value, shared=first.shared)
        return replace(value, text=self.in_parentheses(node, text))

    def laid_out(
        self,
        node: cst.Call,
        receiver: Argument | None,
        texts: Sequence[str],
        function: str,
        changed: dict[int, str | None],
        keywords: dict[int, str],
        added: list[str],
    ) -> str:
        """The call with the text between its arguments kept."""
        text, piece = self.source.text, self.piece
        if function.startswith(".") and receiver is not None:
            assert isinstance(node.func, cst.Attribute)
            before = piece.whole(node.func.value).end
            dot = text[before : piece.span(node.func.attr).start]
            head = receiver.text + dot + function[1:]
        else:
            head = function
        end = piece.span(node).end
        position = piece.whole(node.func).end
        spans = [piece.span(argument) for argument in node.args]
        opening = text[position : spans[0].start] if spans else text[position : end - 1]
        pieces = [head, opening]
        kept = [i for i in range(len(spans)) if i not in changed or changed[i] is not None]
        for n, i in enumerate(kept):
            if n > 0:
                pieces.append(
                    text[_argument_end(piece, node.args[kept[n - 1]]) : spans[kept[n - 1] + 1].start]
                )
            keyword = keywords.get(i, node.args[i].keyword.value if node.args[i].keyword else "")  # type: ignore[union-attr]
            written = changed.get(i) or texts[i]
            pieces.append(f"{keyword}={written}" if keyword else written)
        if added:
            pieces.append((", " if kept else "") + ", ".join(added))
        pieces.append(text[_argument_end(piece, node.args[-1]) : end] if spans else ")")
        return "".join(pieces)


def _argument_end(piece: Piece, argument: cst.Arg) -> int:
    return piece.whole(argument.value).end


def _chain_start(node: cst.BaseExpression) -> cst.BaseExpression:
    """`pred` of `pred.detach().cpu()`."""
    while True:
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
            if node.func.attr.value not in {"detach", "cpu", "to", "clone", "contiguous", "float"}:
                return node
            node = node.func.value
        elif isinstance(node, cst.Attribute) and node.attr.value == "data":
            node = node.value
        else:
            return node


def _single_index(node: cst.Subscript) -> bool:
    return len(node.slice) == 1 and isinstance(node.slice[0].slice, cst.Index)


def _is_plain_index(node: cst.Subscript) -> bool:
    part = node.slice[0].slice
    return isinstance(part, cst.Index) and isinstance(part.value, cst.Integer)


def _is_full(part: cst.BaseSlice) -> bool:
    return isinstance(part, cst.Slice) and part.lower is None and part.upper is None and part.step is None


def _element(value: Value) -> Value:
    if value.kind == "list":
        if value.element is not None:
            return value.element
        return _joined_all(list(value.elements)) or OTHER if value.elements else OTHER
    if value.kind in {"tensor", "array", "torch"}:
        ndim = value.ndim - 1 if value.ndim else None
        return replace(value, text="", ndim=ndim, fresh=False)
    return replace(value, text="", elements=None)


def _deep(value: Value) -> Value:
    while value.kind == "list" and value.element is not None:
        value = value.element
    return value


_RANK = {"tensor": 5, "torch": 4, "array": 3, "list": 2, "other": 1, "number": 0}


def _joined(one: Value, two: Value) -> Value:
    high, low = (one, two) if _RANK[one.kind] >= _RANK[two.kind] else (two, one)
    element = high.element
    if one.kind == two.kind == "list":
        if one.element is not None and two.element is not None:
            element = _joined(one.element, two.element)
        else:
            element = one.element or two.element
    return replace(
        high,
        text="",
        roots=one.roots | two.roots,
        live=one.live or two.live,
        taint=one.taint or two.taint,
        dtype=one.dtype if one.dtype == two.dtype else "",
        ndim=one.ndim if one.ndim == two.ndim else None,
        fresh=(one.fresh or one.kind == "number") and (two.fresh or two.kind == "number"),
        shared=one.shared or two.shared,
        reopened=one.reopened or two.reopened,
        element=element,
        elements=one.elements if one.elements == two.elements else None,
    )


def _joined_all(values: Sequence[Value]) -> Value | None:
    joined: Value | None = None
    for value in values:
        joined = replace(value, text="") if joined is None else _joined(joined, value)
    return joined


def _combined(values: Sequence[Value]) -> Value:
    """The result of an arithmetic operation on the values."""
    joined = _joined_all(values) or OTHER
    ndims = [value.ndim for value in values if value.kind not in {"number"}]
    ndim = max(n for n in ndims if n is not None) if ndims and None not in ndims else None
    dead = "" if joined.live else next((value.dead_at for value in values if value.dead_at), "")
    kind = "array" if joined.kind == "list" else joined.kind
    dtype = "float" if any(value.dtype == "float" for value in values) else ""
    return replace(
        joined, kind=kind, ndim=ndim, dead_at=dead, dtype=dtype, fresh=False, shared=False, elements=None
    )


_TOKENS = re.compile(r"\w+|\s+|[^\w\s]")


def _difference(source: Source, where: Span, text: str) -> tuple[Edit, ...]:
    """The smallest runs of tokens whose replacement makes `text` of what stands at `where`."""
    old = _TOKENS.findall(source.text[where.start : where.end])
    new = _TOKENS.findall(text)
    edits: list[Edit] = []
    offsets = [where.start]
    for token in old:
        offsets.append(offsets[-1] + len(token))
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            edits.append(Edit(source.file, Span(offsets[a], offsets[b]), "".join(new[c:d])))
    return tuple(edits)
