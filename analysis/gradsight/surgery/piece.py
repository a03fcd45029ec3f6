"""A part of a file taken apart with libcst, its nodes known by their offsets in the whole file.

Only the logical lines that an edit touches are ever parsed, so a file that is broken elsewhere can still
be mended here. Nothing in this package reads a file, prints, or guesses: what cannot be parsed is a
`Refusal`. Spans of nodes exclude their own parentheses, as in `ast`; `Piece.whole` includes them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TypeVar

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, CodeSpan

from gradsight.finding import Edit
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span

Node = TypeVar("Node", bound=cst.CSTNode)

PRIMARIES = (
    cst.Name,
    cst.Attribute,
    cst.Call,
    cst.Subscript,
    cst.Integer,
    cst.Float,
    cst.SimpleString,
    cst.FormattedString,
    cst.List,
    cst.ListComp,
    cst.Dict,
    cst.DictComp,
    cst.Set,
    cst.SetComp,
)


@dataclass(frozen=True, slots=True)
class Line:
    """One logical line; `start` is where its first physical line begins, `end` is after its newline."""

    start: int
    end: int
    indent: str
    blank: bool  # nothing but whitespace and comments

    @property
    def first(self) -> int:
        """The offset of the first character behind the indentation."""
        return self.start + len(self.indent)


@dataclass(frozen=True, slots=True)
class Layout:
    """A text's logical lines, and the text with comments blanked and strings' characters quoted out."""

    masked: str
    lines: tuple[Line, ...]
    starts: tuple[int, ...]

    def index(self, offset: int) -> int:
        """The index of the logical line that holds `offset`."""
        return max(bisect_right(self.starts, offset) - 1, 0)

    def line(self, offset: int) -> Line:
        """The logical line that holds `offset`."""
        return self.lines[self.index(offset)]

    def function(self, index: int) -> int | None:
        """The index of the nearest `def` line around the line at `index`."""
        width = len(self.lines[index].indent.expandtabs())
        for i in range(index, -1, -1):
            line = self.lines[i]
            own = len(line.indent.expandtabs())
            if line.blank or (own >= width and i != index):
                continue
            if _DEFINITION.match(self.masked, line.first):
                return i
            width = min(width, own)
        return None

    def end_of_block(self, index: int) -> int:
        """One past the index of the last line of the block that the header at `index` opens."""
        width = len(self.lines[index].indent.expandtabs())
        last = index + 1
        for i in range(index + 1, len(self.lines)):
            if not self.lines[i].blank:
                if len(self.lines[i].indent.expandtabs()) <= width:
                    break
                last = i + 1
        return last


_DEFINITION = re.compile(r"(?:async[ \t]+)?def\b")
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""'
    r"|'''(?:[^\\]|\\.)*?'''"
    r'|"(?:[^"\\\r\n]|\\(?:\r\n|.))*"'
    r"|'(?:[^'\\\r\n]|\\(?:\r\n|.))*'"
    r"|\#[^\r\n]*|[()\[\]{}]|\\(?:\r\n|\r|\n)|\r\n|\r|\n",
    re.DOTALL,
)
_NOT_LINE_ENDS = re.compile(r"[^\r\n]")
# These never begin a physical line inside brackets: an unclosed bracket above ends here.
_NEW_STATEMENT = re.compile(
    r"[ \t\f]*(?:(?:def|class|return|import|while|with|try|raise|del|assert|pass|break|continue)\b|\w+ *= )"
)
_INDENT = re.compile(r"[ \t\f]*")


@lru_cache(maxsize=4)
def layout(text: str) -> Layout:
    """The logical lines of `text`; never fails, whatever the text is."""
    pieces: list[str] = []
    lines: list[Line] = []
    position = start = depth = done = 0

    def close(end: int) -> None:
        nonlocal start, done
        code = "".join(pieces[done:])
        indent = _INDENT.match(text, start)
        assert indent is not None
        blank = not code.strip(" \t\f\r\n")
        lines.append(Line(start, end, indent.group(), blank))
        start, done = end, len(pieces)

    for token in _TOKEN.finditer(text, position):
        first = text[token.start()]
        pieces.append(text[position : token.start()])
        position = token.end()
        if first in "\"'":
            pieces.append(_NOT_LINE_ENDS.sub('"', token.group()))
        elif first == "#":
            pieces.append(" " * (position - token.start()))
        else:
            pieces.append(token.group())
            if first in "([{":
                depth += 1
            elif first in ")]}":
                depth = max(depth - 1, 0)
            elif first in "\r\n" and (depth == 0 or _statement_begins(text, position)):
                depth = 0
                close(position)
    pieces.append(text[position:])
    if start < len(text) or not lines:
        close(len(text))
    return Layout("".join(pieces), tuple(lines), tuple(line.start for line in lines))


def _statement_begins(text: str, position: int) -> bool:
    match = _NEW_STATEMENT.match(text, position)
    # `name = ` with spaces is how people write statements, not keyword arguments.
    return match is not None and ("=" not in match.group() or not match.group()[:1].isspace())


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A parsed part of `source`. `spans` and `parents` know every node of `module`."""

    source: Source
    module: cst.Module
    spans: Mapping[cst.CSTNode, Span]
    parents: Mapping[cst.CSTNode, cst.CSTNode]

    def span(self, node: cst.CSTNode) -> Span:
        """Where the node stands, without its parentheses."""
        return self.spans[node]

    def whole(self, node: cst.CSTNode) -> Span:
        """Where the node stands, with its parentheses."""
        span = self.spans[node]
        left: Sequence[cst.LeftParen] = getattr(node, "lpar", ())
        right: Sequence[cst.RightParen] = getattr(node, "rpar", ())
        if left and right:
            return Span(self.spans[left[0]].start, self.spans[right[-1]].end)
        return span

    def text(self, node: cst.CSTNode) -> str:
        """The node's text with its parentheses."""
        span = self.whole(node)
        return self.source.text[span.start : span.end]

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        return self.parents.get(node)

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The nodes above `node`, nearest first."""
        above = self.parents.get(node)
        while above is not None:
            yield above
            above = self.parents.get(above)

    def expression(self, where: Span) -> cst.BaseExpression | None:
        """The outermost expression that stands exactly at `where` (with or without parentheses)."""
        start, end = trim(self.source.text, where)
        for node, span in self.spans.items():
            if isinstance(node, cst.BaseExpression):
                if (span.start, span.end) == (start, end):
                    return node
                if span.start >= start and span.end <= end:
                    whole = self.whole(node)
                    if (whole.start, whole.end) == (start, end):
                        return node
        return None

    def statement(self, node: cst.CSTNode) -> cst.SimpleStatementLine | cst.BaseCompoundStatement | None:
        """The smallest statement line or compound statement around `node`."""
        for above in (node, *self.ancestors(node)):
            if isinstance(above, (cst.SimpleStatementLine, cst.BaseCompoundStatement)):
                return above
        return None

    def nodes(self, kind: type[Node], inside: cst.CSTNode | None = None) -> Iterator[Node]:
        """All nodes of a kind in source order, within `inside` if given."""
        found = [node for node in self.spans if isinstance(node, kind)]
        found.sort(key=lambda node: (self.spans[node].start, -self.spans[node].end))
        for node in found:
            if inside is None or node is inside or inside in self.ancestors(node):
                yield node


class _Spans(ByteSpanPositionProvider):
    """The positions without a MetadataWrapper, whose own walk over the tree costs as much again."""

    def of(self, module: cst.Module) -> Mapping[cst.CSTNode, CodeSpan]:
        self._gen_impl(module)
        return {node: span for node, span in self._computed.items() if isinstance(span, CodeSpan)}


@lru_cache(maxsize=256)
def _fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _children(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The nodes directly below; `CSTNode.children` says the same by a slower walk."""
    for name in _fields(type(node)):
        value = getattr(node, name)
        if isinstance(value, cst.CSTNode):
            yield value
        elif isinstance(value, (list, tuple)):
            for item in value:
                if isinstance(item, cst.CSTNode):
                    yield item


def parse(source: Source, start: int, end: int, *, before: str = "", after: str = "") -> Piece | Refusal:
    """The text from `start` to `end` parsed with `before` and `after` around it, which have no place."""
    text = before + source.text[start:end] + after
    try:
        module = cst.parse_module(text)
    except (cst.ParserSyntaxError, RecursionError, ValueError):
        return Refusal("the lines around it do not parse")
    code_spans = _Spans().of(module)
    shift = start - len(before)
    # libcst counts a newline at the end even where there is none, hence the bounds.
    if text.isascii():
        points: Sequence[int] = range(shift, shift + len(text) + 1)
    else:
        points = [
            i + shift for i, character in enumerate(text) for _ in character.encode("utf-8", "surrogatepass")
        ]
        points.append(len(text) + shift)
    last = len(points) - 1
    spans = {
        node: Span(points[min(span.start, last)], points[min(span.start + span.length, last)])
        for node, span in code_spans.items()
    }
    parents: dict[cst.CSTNode, cst.CSTNode] = {}
    pending: list[cst.CSTNode] = [module]
    while pending:
        node = pending.pop()
        for child in _children(node):
            parents[child] = node
            pending.append(child)
    return Piece(source, module, spans, parents)


def parses(text: str) -> bool:
    """Whether whole lines parse, whatever their first indentation."""
    try:
        cst.parse_module(f"if 1:\n{text}" if text[:1] in {" ", "\t"} else text)
    except (cst.ParserSyntaxError, RecursionError, ValueError):
        return False
    return True


_CLAUSE_OPENERS = (
    (re.compile(r"(?:elif|else)\b"), "if 1: pass\n"),
    (re.compile(r"(?:except|finally)\b"), "try: pass\n"),
    (re.compile(r"case\b[^=]*:\s*$", re.DOTALL), "match 0:\n "),
)


def parse_line(source: Source, offset: int) -> Piece | Refusal:
    """The logical line around `offset`, completed where it is a header, a clause or a decorator."""
    plan = layout(source.text)
    line = plan.line(offset)
    masked = plan.masked[line.first : line.end].rstrip()
    before = next((opener for start, opener in _CLAUSE_OPENERS if start.match(masked)), "")
    after = ""
    if masked.endswith(":"):
        after = " pass"
    elif masked.startswith("@"):
        after = "\ndef _(): pass"
    return parse(source, line.first, line.first + len(masked), before=before, after=after)


def find(source: Source, where: Span) -> tuple[Piece, cst.BaseExpression] | Refusal:
    """The expression at `where` within its logical line."""
    piece = parse_line(source, where.start)
    if isinstance(piece, Refusal):
        return piece
    node = piece.expression(where)
    if node is None:
        return Refusal("no expression stands exactly there")
    part: cst.CSTNode = node
    above = piece.parent(part)
    while isinstance(above, (cst.Element, cst.StarredElement, cst.Tuple, cst.List)):
        part, above = above, piece.parent(above)
    if isinstance(above, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.For)) and part is above.target:
        return Refusal("it is assigned to, not used")
    return piece, node


def trim(text: str, where: Span) -> tuple[int, int]:
    """The start and end of `where` without the whitespace at its ends."""
    part = text[where.start : where.end]
    return where.start + len(part) - len(part.lstrip()), where.end - (len(part) - len(part.rstrip()))


def is_primary(node: cst.BaseExpression) -> bool:
    """Whether the node's text can stand before a dot or after any operator as it is."""
    if getattr(node, "lpar", ()):
        return True
    return isinstance(node, PRIMARIES)


def dotted(node: cst.CSTNode) -> str:
    """`torch.nn.functional` for a chain of names, else an empty string."""
    names: list[str] = []
    while isinstance(node, cst.Attribute):
        names.append(node.attr.value)
        node = node.value
    if not isinstance(node, cst.Name):
        return ""
    return ".".join([node.value, *reversed(names)])


def replaced(source: Source, start: int, end: int, text: str) -> tuple[Edit, ...]:
    """The edit that puts `text` at a place, without what both have in common at their ends."""
    old = source.text[start:end]
    if old == text:
        return ()
    head = 0
    while head < min(len(old), len(text)) and old[head] == text[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(text)) - head and old[-1 - tail] == text[-1 - tail]:
        tail += 1
    return (Edit(source.file, Span(start + head, end - tail), text[head : len(text) - tail]),)


def merged(*groups: Sequence[Edit]) -> tuple[Edit, ...]:
    """All edits in order; one that lies inside another, larger one is dropped with it.

    Raises:
        ValueError: two edits overlap only partly.
    """
    ordered = sorted(
        {edit for group in groups for edit in group}, key=lambda e: (e.where.start, -e.where.end)
    )
    kept: list[Edit] = []
    for edit in ordered:
        if kept and edit.where.start < kept[-1].where.end:
            if edit.where.end > kept[-1].where.end:
                raise ValueError(f"edits overlap: {kept[-1]} and {edit}")
            continue
        kept.append(edit)
    return tuple(kept)


def newline(text: str) -> str:
    """The line end that the text uses."""
    match = re.search(r"\r\n|\r|\n", text)
    return match.group() if match else "\n"
