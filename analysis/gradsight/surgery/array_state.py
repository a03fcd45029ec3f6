"""The state of one function on its way from numpy to torch, and the text of its expressions.

Nothing here decides what an expression means; that is `array_expressions` and `array_calls`.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

import libcst as cst

from gradsight.surgery.array_value import OTHER, Env, Value
from gradsight.surgery.numpy_calls import NoEqual
from gradsight.surgery.piece import Piece, dotted, layout
from gradsight.text import Span


def is_primary_text(text: str) -> bool:
    """Whether the text can stand before a dot as it is."""
    if text.isidentifier() or (text[:1] == "(" == text[0] and closes(text)):
        return True
    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    return isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.List | ast.ListComp)


def closes(text: str) -> bool:
    """Whether the first parenthesis is closed by the last character."""
    depth = 0
    masked = layout(text).masked
    for i, character in enumerate(masked):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return i == len(masked) - 1
    return False


def chain_start(node: cst.BaseExpression) -> cst.BaseExpression:
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


def single_index(node: cst.Subscript) -> cst.BaseExpression | None:
    """The index of `x[index]`, None for slices and several indices."""
    part = node.slice[0].slice
    return part.value if len(node.slice) == 1 and isinstance(part, cst.Index) else None


class State:
    """What is converted so far, and what each expression becomes."""

    def __init__(self, piece: Piece, where: Span, torch: str, from_numbers: bool) -> None:
        self.piece = piece
        self.source = piece.source
        self.where = where
        self.torch = torch
        self.from_numbers = from_numbers
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

    def evaluate(self, node: cst.BaseExpression, env: Env) -> Value:
        """The value of an expression; its text includes the expression's parentheses."""
        raise NotImplementedError

    def bind(self, target: cst.CSTNode, value: Value, env: Env, source: cst.CSTNode | None = None) -> None:
        """The target holds the value from here on."""
        raise NotImplementedError

    def need(self, roots: frozenset[cst.CSTNode]) -> None:
        fresh = roots - self.converted
        if fresh:
            self.converted |= fresh
            self.grown = True

    def root(self, node: cst.CSTNode) -> bool:
        """Whether the expression is to be converted; those at the wanted place are from the start."""
        if node not in self.converted and self.is_wanted(node):
            self.converted.add(node)
            self.grown = True
        return node in self.converted

    def is_wanted(self, node: cst.CSTNode) -> bool:
        """Whether the expression stands around the wanted place, or makes a number inside it."""
        span = self.piece.whole(node)
        if span.start <= self.where.start and self.where.end <= span.end:
            return True
        return self.from_numbers and self.where.start <= span.start and span.end <= self.where.end

    def anchored(self, node: cst.BaseExpression, value: Value) -> None:
        """The expression is a tensor: constants made here follow the first such name."""
        name = dotted(node)
        if name and not self.anchor:
            self.anchor = name
        if value.kind == "other" and name and name not in self.tensors:
            self.tensors.add(name)
            self.grown = True

    def opaque(self, node: cst.CSTNode, env: Env) -> None:
        """Code that runs another time, or that is not understood: it must not see what is converted."""
        own = {parameter.name.value for parameter in self.piece.nodes(cst.Param, node)}
        for name in self.piece.nodes(cst.Name, node):
            if name.value not in own and env.get(name.value, OTHER).kind == "tensor":
                raise NoEqual(f"`{name.value}` in an inner function")

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

    def with_arguments(self, node: cst.Call, texts: Sequence[str], base: str | None = None) -> str:
        parts: dict[cst.CSTNode, str] = {
            argument.value: text for argument, text in zip(node.args, texts, strict=True)
        }
        if base is not None and isinstance(node.func, cst.Attribute):
            parts[node.func.value] = base
        return self.splice(node, parts)

    def tensor_of(self, value: Value) -> str:
        """A foreign value made a tensor where it meets one."""
        if value.taint:
            raise NoEqual(f"{value.taint}, which receives the array,")
        if self.from_numbers and value.kind == "other":
            return value.text
        device = f", device={self.device}" if self.device else ""
        text = value.text
        if text.startswith("(") and closes(text):
            text = text[1:-1]
        return f"{self.torch}.as_tensor({text}{device})"

    def copied(self, node: cst.CSTNode, value: Value) -> None:
        self.texts[node] = self.copy_text(value)

    def copy_text(self, value: Value) -> str:
        """The array or number that the value was."""
        text = value.text if is_primary_text(value.text) else f"({value.text})"
        if value.ndim == 0:
            return f"{text}.item()"
        return f"{text}.tolist()" if self.from_numbers else f"{text}.detach().cpu().numpy()"
