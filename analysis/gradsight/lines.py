"""Logical lines: the grain of all analysis. Each is interned by its text and parsed alone.

Nothing here knows of gradients, files or positions in a file: a line's nodes are relative to the line. Lines
are frozen: whoever changes a line's nodes changes every file that has it. A line that does not parse costs
itself alone, and scanning never fails, whatever the text. Only what stands at and after a line's start
decides where it ends, and `next_line` says how far it looked: that is what makes re-scanning after an edit
exact.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
import threading
import weakref
from collections.abc import Sequence

from gradsight.newer import needed
from gradsight.syntax import (
    CLOSE,
    HARD,
    MARK,
    TOKEN,
    TOO_DEEP,
    UNPARSABLE,
    has_field,
    levels,
    masked,
    nested_line,
    parse,
    physical_lines,
    row_count,
)

# White space before the first token: a lone `\` counts as blank.
_LEAD = re.compile(r"[ \t\f]*(?:\\(?:\r\n|\r|\n)[ \t\f]*)*")
_ROLE = re.compile(r"(?:elif|else|except|finally|case|match|try|class|def|async\s+def)\b|@")
_COMPOUND = re.compile(
    r"(?:if|for|while|with|async|def|class|try|match|elif|else|except|finally|case)\b", re.DOTALL
)
_NAME = re.compile(r"(?:async\s+)?(?:def|class)\s+(\w+)")
# What makes a clause parse alone, and which part of the statement made so it is.
_BEFORE = {"elif": "if 0: pass\n", "else": "if 0: pass\n", "except": "try: pass\n", "finally": "try: pass\n"}
_PART = {"elif": "orelse", "else": "orelse", "except": "handlers", "finally": "finalbody", "case": "cases"}
CLAUSES = frozenset(_PART)
BACKWARD = "backward("  # a line with it asks for gradients, whether it parses or not


class Line:
    """One logical line: a simple statement, several of them, a header, a clause, a blank line or a comment.

    Attributes:
        text: all of it, line ends and comments too.
        count: how many physical lines it has.
        code: False for a blank line or one with nothing but a comment.
        indent: column of its first token, tabs counted to multiples of eight.
        header: a compound statement or clause whose block stands in the lines below.
        role: `elif`, `else`, `except`, `finally`, `case`, `match`, `try`, `class`, `def` (also `async def`),
            `@` or "".
        name: what a `def` or `class` line defines, else "". Known for lines that don't parse, too.
        nodes: its statements, parsed. A header's body is a `pass` that is not in the text; a `match` has one
            such case, a `try` such a `finally`, a decorator such a function. `elif`: the `If`. `else` and
            `finally`: the statements on its line, or that `pass`. `except`: the `ExceptHandler`. `case`: the
            `match_case`.
            `node.lineno - 1 - line.shift` is the physical row relative to the line's first.
        error: why it does not parse, or None. Then `nodes` is empty.
        error_at: row (relative) and column (code points) of the error.
        vague: of a statement that does not parse all that is known, else None. Lines for which it is equal
            mean the same: whoever types an unfinished line changes nothing of it with most keys.
        idle: where it is a name alone, what is known of a line that does not parse and binds nothing: so a
            statement begins. Else None.
    """

    __slots__ = (
        "__weakref__",
        "_broken",
        "code",
        "count",
        "error",
        "error_at",
        "header",
        "idle",
        "indent",
        "name",
        "nodes",
        "role",
        "shift",
        "text",
        "vague",
    )

    def __init__(self, text: str, comment: int) -> None:
        lead = _LEAD.match(text)
        start = lead.end() if lead else 0
        self.text, self.count = text, row_count(text) or 1
        self.code = text[start : start + 1] not in ("", "#", "\r", "\n")
        self.indent, blank = _indentation(text[:start])
        self.nodes: tuple[ast.AST, ...] = ()
        self.error: str | None = None
        self.error_at = (0, 0)
        self.shift, self.header, self.role, self.name = 0, False, "", ""
        self._broken: tuple[str, str] | None = None
        if self.code:
            code = text[:comment] + "\n" if comment >= 0 else text
            self._parse(code, start, blank)
        self.vague: tuple[object, ...] | None = None
        if self._broken is not None and not self.role:
            self.vague = self.indent, self.header, self.binds, BACKWARD in text
        self.idle: tuple[object, ...] | None = None
        if len(self.nodes) == 1 and isinstance(self.nodes[0], ast.Expr):
            if isinstance(self.nodes[0].value, ast.Name):
                self.idle = self.indent, False, (), BACKWARD in text

    def __repr__(self) -> str:
        return f"Line({self.text!r})"

    @property
    def binds(self) -> tuple[str, ...]:
        """If it does not parse, the names and dotted attributes that it evidently assigns: `x`, `self.x`."""
        return () if self._broken is None else _assigned(self._broken[0])

    @property
    def needs(self) -> str | None:
        """If it does not parse, the newer Python that it needs, where that is all that is wrong: "3.12"."""
        return None if self._broken is None else needed(self._broken[0], self._would_parse)

    def _parse(self, text: str, start: int, blank: str) -> None:
        code = _without_trail(text)
        found = _ROLE.match(text, start)
        role = found[0].split()[-1] if found else ""
        self.header = code.endswith(":") and bool(_COMPOUND.match(text, start))
        if role in ("case", "match") and not self.header:
            if role == "match" or not self._attempt(code, "case", blank):
                self._attempt(code, "", blank)  # `match = 1`
        else:
            self._attempt(code, role, blank)
        if role in ("def", "class") and (named := _NAME.match(text, start)):
            self.name = named[1]
        if self.error is not None:
            self._broken = code, blank

    def _would_parse(self, code: str) -> bool:
        try:
            self._statements(code, self._broken[1] if self._broken else "")
        except UNPARSABLE:
            return False
        return True

    def _statements(self, code: str, blank: str) -> tuple[ast.AST, ...]:
        role = self.role
        before = "if 1:\n" if self.indent else ""
        if role == "case":
            before = "match 0:\n"
        elif role in _BEFORE:
            before += blank + _BEFORE[role]
        after = ""
        if self.header:
            after = "\n" + " " * self.indent + " case 0: pass" if role == "match" else " pass"
        if role == "try":
            after += f"\n{blank}finally: pass"
        elif role == "@":
            after += f"\n{blank}def f(): pass"
        self.shift = before.count("\n")
        body: list[ast.stmt] = parse(before + code + after)
        if self.indent and role != "case":
            if len(body) != 1:
                raise SyntaxError("unexpected unindent")
            body = body[0].body  # type: ignore[attr-defined]
        return tuple(getattr(body[0], _PART[role]) if role in _PART else body)

    def _attempt(self, code: str, role: str, blank: str) -> bool:
        self.role = role
        try:
            self.nodes, self.error = self._statements(code, blank), None
            return True
        except SyntaxError as error:
            self.error = error.msg or "invalid syntax"
            row, column = (error.lineno or 1) - 1 - self.shift, (error.offset or 1) - 1
        except UNPARSABLE as error:
            self.error = str(error) or "too deeply nested"
            row, column = 0, 0
        lines = physical_lines(code) or [""]
        if row < 0:
            row, column = 0, len(lines[0]) - len(lines[0].lstrip(" \t\f"))
        elif row >= len(lines):
            row, column = len(lines) - 1, len(lines[-1])
        self.error_at = (row, max(0, min(column, len(lines[row].rstrip("\r\n")))))
        return False


def _without_trail(text: str) -> str:
    """The text less the blank space at its end, lone `\\` included; a last one with nothing behind stays."""
    stop = len(text.rstrip(" \t\f\r\n"))
    if text.endswith(("\\\n", "\\\r", "\\\r\n")):
        return text[:stop]
    while text[stop - 1 : stop] == "\\":
        stop -= 1
        while text[stop - 1 : stop] in (" ", "\t", "\f", "\r", "\n"):
            stop -= 1
    return text[:stop]


def _indentation(lead: str) -> tuple[int, str]:
    """The column that blank space leads to, and blank space on one line that leads there too.

    As CPython has it: the first lone `\\` behind some blank space decides, else all of the blank space.
    """
    if "\\" not in lead:
        return _column(lead), lead
    blank = ""
    for piece in re.split(r"\\(?:\r\n|\r|\n)", lead):
        column = _column(blank := blank + piece)
        if column:
            return column, " " * column
    return _column(blank), blank


def _column(blank: str) -> int:
    return len(blank.rpartition("\f")[2].expandtabs())


# An unfinished line says what it assigns near its start; longer ones are somebody's data.
_FAR = 2000
_DOTTED = re.compile(r"(?<![\w.\])])[^\W\d]\w*(?:\s*\.\s*[^\W\d]\w*)*(?![\w(])")
_LOOP = re.compile(r"\s*(?:async\s+)?for\b(.*?)\bin\b", re.DOTALL)
_IMPORT = re.compile(r"\s*(?:from\b.*?\b)?import\b(.*)", re.DOTALL)
_BOUND = re.compile(r"\bas\s+([^\W\d]\w*)|([^\W\d]\w*)\s*:=")


@functools.lru_cache(1024)
def _assigned(code: str) -> tuple[str, ...]:
    text = masked(code[:_FAR])
    targets: list[str] = []
    if found := _LOOP.match(text):
        targets.append(found[1])
    elif found := _IMPORT.match(text):
        targets += (each.split(" as ")[-1].strip(" ()\r\n\\") for each in found[1].split(","))
    elif found := _NAME.match(text.lstrip(" \t\f")):
        targets.append(found[1])
    else:
        start, colon, outside = 0, -1, ""
        for place, each, around in levels(text):
            if around:
                continue
            if each == ":" and text[place + 1 : place + 2] != "=":
                if _COMPOUND.match(text, _LEAD.match(text, start).end()):  # type: ignore[union-attr]
                    start = place + 1
                elif colon < 0:
                    colon = place  # an annotation follows
            elif (
                each == "="
                and text[place + 1 : place + 2] != "="
                and outside not in ("=", "!", "<", ">", ":")
            ):
                targets.append(text[start : colon if colon >= 0 else place])
                start, colon = place + 1, -1
            outside = each
    names = {
        re.sub(r"\s", "", found[0]): None
        for target in targets
        for found in _DOTTED.finditer(re.sub(r"\[[^\[\]]*\]", "", target).strip("+-*/%@&|^ \t"))
    }
    names.update((found[1] or found[2], None) for found in _BOUND.finditer(text))
    return tuple(names)


class _Interning:
    """Equal texts are one line as long as that line lives, and the latest live on for a while: what was typed
    a moment ago is typed again."""

    kept = 250_000  # characters; each of two generations holds so many, and a tree takes sixty times as much

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: weakref.WeakValueDictionary[tuple[str, int], Line] = weakref.WeakValueDictionary()
        self._recent: set[Line] = set()
        self._older: set[Line] = set()
        self._size = 0

    def line(self, text: str, comment: int) -> Line:
        with self._lock:
            line = self._lines.get((text, comment))
            if line is None:
                line = self._lines[text, comment] = Line(text, comment)
            if line not in self._recent:
                self._recent.add(line)
                self._size += len(text)
                if self._size > self.kept:
                    self._older, self._recent, self._size = self._recent, set(), 0
            return line


_line = _Interning().line

# The only letters that Python has right behind a string.
_AFTER_STRING = re.compile(r"(?:if|else|in|is|and|or|not|for|async|as|from)\b|[rbfutRBFUT]{1,2}[\"']")
# Nobody who closes so many brackets writes what is in them as far left as the statement. It bounds how often
# a broken text is looked at again.
_DOUBTFUL_DEPTH = 20
# From Python 3.12 on the fields of an f-string are code. No line in which that matters is longer.
_NESTS, _NESTED_ROWS = sys.version_info >= (3, 12), 500


def next_line(lines: Sequence[str], start: int, end: int | None = None) -> tuple[Line, int]:
    """The logical line that begins at physical line `start`, and the first physical line not looked at.

    The latter lies behind the line's end where recovery had to look ahead, and behind the last line if it
    came to the end of the text. The text counts as ending before physical line `end`, where one is given.
    """
    if end is None:
        end = len(lines)
    line, looked = _plain_line(lines, start, end)
    if not _NESTS or line.error is None or not has_field(line.text):
        return line, looked
    text = "".join(lines[start : min(start + _NESTED_ROWS, end)])
    nested = nested_line(text)
    count = row_count(text[: nested.stop])
    looked = max(looked, start + count + (not nested.whole or nested.stop == len(text)))
    if nested.whole:
        other = _line(text[: nested.stop], nested.comment)
        if other.error is None:
            return other, looked
    return line, looked


def _plain_line(lines: Sequence[str], start: int, end: int) -> tuple[Line, int]:
    i, n = start, end
    j, depth, quote, comment, length = i, 0, "", -1, 0
    indent = -1
    soft, opened = 0, i  # soft: the first doubtful line; opened: where a string began

    def cut(stop: int, looked: int) -> tuple[Line, int]:  # something was never closed: end before `stop`
        return _line("".join(lines[i : max(stop, i + 1)]), -1), looked

    while j < n:
        line, position, more, comment = lines[j], 0, False, -1
        if j > i and depth > 0 and not quote:
            bare = line.lstrip(" \t\f\r\n")
            if bare and bare[0] not in "#)]}":
                if HARD.match(line):
                    return cut(soft or j, j + 1)
                if not soft:
                    if indent < 0:
                        indent = _column(lines[i][: len(lines[i]) - len(lines[i].lstrip(" \t\f"))])
                    if _column(line[: len(line) - len(line.lstrip(" \t\f"))]) <= indent:
                        soft = j
        if quote:
            if closed := CLOSE[quote].match(line):
                if len(quote) == 3 and line[closed.end() : closed.end() + 1].isalpha():
                    if not _AFTER_STRING.match(line, closed.end()):
                        return cut(
                            soft or opened + 1, j + 1
                        )  # `"""Doc`: it opens, the one above never closed
                    soft = soft or opened + 1
                position, quote = closed.end(), ""
            elif len(quote) == 1 and not line.rstrip("\r\n").endswith("\\"):
                position, quote = len(line), ""  # an unclosed one-line string ends with its line
            else:
                position = len(line)
        while found := MARK.search(line, position):
            position = found.end()
            if found[0] in "([{":
                depth += 1
                continue
            if found[0] in ")]}":
                depth -= 1
                continue
            token = TOKEN.match(line, found.start())
            if token is None:
                continue  # a backslash inside of a line
            kind, text, position = token.lastgroup, token[0], token.end()
            if kind == "comment":
                comment = length + token.start()
            elif kind == "joined":
                more = True
            elif kind == "string":
                if text[-1] in "\r\n":
                    quote, opened = text[0], j
            elif not CLOSE[text[:3]].match(text, 3):
                quote, opened = text[:3], j
        j += 1
        length += len(line)
        if depth <= 0 and not quote and not more:
            break
        if depth > (_DOUBTFUL_DEPTH if soft else TOO_DEEP):
            return cut(soft or j, j)
    if depth > 0 or quote:  # the end of the text came first
        return cut(soft or (opened if quote else i) + 1, n + 1)
    whole = _line("".join(lines[i:j]), comment)
    if not soft:
        return whole, j + more  # what follows would belong to a last `\`
    return cut(soft, j + 1) if whole.error else (whole, j + 1)  # odd layout must prove itself
