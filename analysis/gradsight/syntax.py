r"""Just enough of Python's lexical grammar to tell where a logical line ends, in text that may be broken.

Nothing here knows of indentation or statements. Two readings of f-strings stand side by side. The plain one
takes them for ordinary strings, as Python did before 3.12; it is what recovers best while one is typed. The
nested one reads replacement fields as code, so that quotes may be used again inside them; it gives up at the
first thing that cannot be.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

# What `parse` raises. Null bytes are a ValueError before Python 3.12.
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)

# While CPython makes an `ast`, the collector may call back and so let another thread run; a second `ast` made
# then breaks the count of the first one's depth (SystemError). The filters of warnings are shared as well.
_ONE_AT_A_TIME = threading.Lock()

# What the tokenizer warns about: `"\d"`, `1if x else 2`. To silence it takes a third as long as to parse.
_MAY_WARN = re.compile(r"[0-9\\](?:(?<=\\)|[A-Za-z])")
_AS_IT_IS = contextlib.nullcontext()

_END = r"(?:\r\n|\r|\n)"
TOKEN = re.compile(
    rf"""(?P<comment>\#[^\r\n]*)
    |(?P<triple>\"{{3}}(?:[^\\]|\\.)*?(?:\"{{3}}|\Z)|'{{3}}(?:[^\\]|\\.)*?(?:'{{3}}|\Z))
    |(?P<string>"(?:[^"\\\r\n]|\\(?:\r\n|.))*"?|'(?:[^'\\\r\n]|\\(?:\r\n|.))*'?)
    |(?P<open>[(\[{{])
    |(?P<close>[)\]}}])
    |(?P<joined>\\{_END})""",
    re.VERBOSE | re.DOTALL,
)
MARK = re.compile(r"[#\"'(\[{)\]}\\]")  # what such a token begins with: to search for it is much quicker
# The rest of a string, by its quote.
CLOSE = {quote: re.compile(rf"(?:[^\\]|\\.)*?{quote}", re.DOTALL) for quote in ('"""', "'''")} | {
    quote: re.compile(rf"(?:[^{quote}\\\r\n]|\\(?:\r\n|.))*{quote}", re.DOTALL) for quote in ('"', "'")
}
# Lines that cannot stand inside brackets: a bracket above was never closed.
HARD = re.compile(
    r"[ \t\f]*(?:(?:def|class|return|import|while|with|try|except|finally|raise|pass|break|continue|del"
    r"|global|nonlocal|assert|elif|async\s+(?:def|with))\b|from\s+[\w.]+\s+import\b|else\s*:|[\w.]+\.\w+\s*=[^=])"
)
# CPython refuses deeper nesting of brackets.
TOO_DEEP = 200

_PHYSICAL = re.compile(rf"[^\r\n]*{_END}|[^\r\n]+\Z")
_FORMAT = r"(?<!\w)(?:[fFtT][rR]?|[rR][fFtT])"
_NESTED = re.compile(
    rf"""(?P<comment>\#[^\r\n]*)
    |(?P<format>{_FORMAT})(?P<quote>\"{{3}}|'{{3}}|"|')
    |(?P<string>\"{{3}}(?:[^\\]|\\.)*?\"{{3}}|'{{3}}(?:[^\\]|\\.)*?'{{3}}
        |"(?:[^"\\\r\n]|\\(?:\r\n|.))*"|'(?:[^'\\\r\n]|\\(?:\r\n|.))*')
    |(?P<open>[(\[{{])
    |(?P<close>[)\]}}])
    |(?P<joined>\\{_END})
    |(?P<end>{_END})
    |(?P<colon>:)
    |(?P<conversion>!(?!=))
    |(?P<broken>["'])""",
    re.VERBOSE | re.DOTALL,
)
_HAS_FIELD = re.compile(rf"{_FORMAT}[\"'].*?\{{", re.DOTALL)


def physical_lines(text: str) -> list[str]:
    r"""The text cut behind each `\n`, `\r\n` and `\r`, as editors and `ast` do; not `str.splitlines`."""
    if "\r" in text:
        return _PHYSICAL.findall(text)
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def row_count(text: str) -> int:
    """How many physical lines a text has."""
    if "\r" in text:
        return len(_PHYSICAL.findall(text))
    return text.count("\n") + (text[-1:] not in ("\n", ""))


def has_field(text: str) -> bool:
    """Whether an f-string with replacement fields may be in the text."""
    return "{" in text and _HAS_FIELD.search(text) is not None


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse(text: str) -> list[ast.stmt]:
    """The statements of a text, without a word about its escapes.

    Raises:
        one of UNPARSABLE: it does not parse.
    """
    with _ONE_AT_A_TIME, _without_warnings() if _MAY_WARN.search(text) else _AS_IT_IS:
        module = compile(text, "<line>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    assert isinstance(module, ast.Module)
    return module.body


def is_dotted(text: str) -> bool:
    """Whether a text looks like a name, or names with points between them: `self.model`."""
    return text.replace(".", "").replace("_", "").isalnum()


def parses(text: str) -> bool:
    """Whether a text parses."""
    try:
        parse(text)
    except UNPARSABLE:
        return False
    return True


def masked(code: str) -> str:
    """The code with its strings' and comments' text blotted out, place for place."""

    def blot(token: re.Match[str]) -> str:
        if token.lastgroup not in ("comment", "string", "triple"):
            return token[0]
        return re.sub(r"[^\r\n\"']", "_", token[0])

    return TOKEN.sub(blot, code)


def levels(text: str) -> Iterator[tuple[int, str, str]]:
    """Each character's place, itself, and the brackets that stand open around it. For masked text."""
    stack = ""
    for place, each in enumerate(text):
        if each in ")]}":
            stack = stack[:-1]
        yield place, each, stack
        if each in "([{":
            stack += each


@dataclass(slots=True)
class FormatString:
    """An f-string or t-string that is in no other one, with its prefix and quotes."""

    start: int
    stop: int
    fields: list[tuple[int, int]]  # expressions of replacement fields, those of nested strings not counted


@dataclass(slots=True)
class NestedLine:
    """What the nested reading makes of the beginning of a text."""

    stop: int  # where the logical line ends, or where reading gave up
    whole: bool  # False: it gave up
    comment: int  # of the comment at the line's end, or -1
    strings: list[FormatString]


class _Frame:
    """An f-string that is open."""

    __slots__ = ("code", "expressions", "levels", "quote", "raw", "start")

    def __init__(self, start: int, prefix: str, quote: str) -> None:
        self.start, self.quote, self.raw = start, quote, "r" in prefix.lower()
        self.levels: list[tuple[int, int]] = []  # of each open field, its depth and where it starts
        self.code = False  # inside a field's expression, else in text or in a format specification
        self.expressions: list[tuple[int, int]] = []


@functools.cache
def _text_of(quote: str, raw: bool, specification: bool) -> re.Pattern[str]:
    """The next thing that counts in an f-string's text."""
    named = "" if raw else r"\\N\{[^}\r\n]*\}|"
    doubled = "" if specification else r"|\{\{|\}\}"
    return re.compile(
        rf"{named}\\(?:\r\n|[^{{}}]){doubled}|(?P<field>\{{)|(?P<back>\}})|(?P<quote>{quote})|(?P<end>{_END})",
        re.DOTALL,
    )


def nested_line(text: str) -> NestedLine:
    """Where the logical line ends that the text begins with, where fields of f-strings are code."""
    position, depth, comment = 0, 0, -1
    frames: list[_Frame] = []
    strings: list[FormatString] = []
    while True:
        frame = frames[-1] if frames else None
        if frame is not None and not frame.code:
            found = _text_of(frame.quote, frame.raw, bool(frame.levels)).search(text, position)
            if found is None:
                return NestedLine(len(text), False, -1, strings)
            position = found.end()
            kind = found.lastgroup
            if kind == "field":
                depth += 1
                frame.levels.append((depth, position))
                frame.code = True
            elif kind == "back" and frame.levels:
                frame.levels.pop()
                depth -= 1
            elif kind == "quote":
                if frame.levels:
                    return NestedLine(position, False, -1, strings)
                frames.pop()
                if not frames:
                    strings.append(FormatString(frame.start, position, frame.expressions))
            elif kind == "back" or (kind == "end" and len(frame.quote) == 1):
                return NestedLine(position, False, -1, strings)
            continue
        found = _NESTED.search(text, position)
        if found is None:
            return NestedLine(len(text), depth <= 0 and frame is None, comment, strings)
        position = found.end()
        kind = found.lastgroup
        at_level = frame is not None and depth == frame.levels[-1][0]
        if kind == "open":
            depth += 1
            if depth > TOO_DEEP:
                return NestedLine(position, False, -1, strings)
        elif frame is not None and at_level and (kind in ("colon", "conversion") or found[0] == "}"):
            begin = frame.levels[-1][1]
            if begin >= 0:  # not behind a conversion
                frame.expressions.append((begin, found.start()))
                frame.levels[-1] = depth, -1
            if kind == "colon":
                frame.code = False
            elif found[0] == "}":
                frame.levels.pop()
                frame.code = False
                depth -= 1
        elif kind == "close":
            depth -= 1
            if frame is not None and depth < frame.levels[-1][0]:
                return NestedLine(position, False, -1, strings)
        elif kind == "quote":
            frames.append(_Frame(found.start(), found["format"], found["quote"]))
        elif kind == "comment" and frame is None:
            comment = found.start()
        elif kind == "end":
            if depth <= 0 and frame is None:
                return NestedLine(position, True, comment, strings)
            comment = -1
            if HARD.match(text, position):
                return NestedLine(position, False, -1, strings)
        elif kind == "joined":
            comment = -1
        elif kind == "broken":
            return NestedLine(position, False, -1, strings)


def written_as(node: ast.AST) -> str:
    """The text of an expression."""
    return node.id if isinstance(node, ast.Name) else _unparsed(node)


@functools.lru_cache(16384)
def _unparsed(node: ast.AST) -> str:
    return ast.unparse(node)


class _Children(dict[type, tuple[str, ...]]):
    """For each class of syntax the fields that may hold more of it."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        found = self[kind] = tuple([name for name in kind._fields if name not in _LEAVES])
        return found


_LEAVES = frozenset({
    "arg", "asname", "attr", "conversion", "ctx", "id", "is_async", "kind", "kwd_attrs", "level", "module",
    "op", "ops", "rest", "simple", "str", "type_comment", "type_ignores",
})  # fmt: skip
_CHILDREN = _Children()


def walk(node: ast.AST) -> list[ast.AST]:
    """The node and all below it, contexts and operators left out. `ast.walk` takes five times as long."""
    out = [node]
    for one in out:  # it grows meanwhile
        kind = one.__class__
        if kind is ast.Name or kind is ast.Constant:
            continue  # most are
        for name in _CHILDREN[kind]:
            value = getattr(one, name, None)
            if value.__class__ is list:
                # `None` is the key of `**rest`; the names of `global` and of a handler are text.
                out += [item for item in value if item.__class__ is not str and item is not None]
            elif isinstance(value, ast.AST):
                out.append(value)
    return out


CACHES = (_unparsed,)
