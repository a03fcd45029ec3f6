"""The comments by which a fixture says what is wanted of the analysis and what is true under torch.

    h = x.detach()  # want: GS102 [x.detach()] warning
    y = h.numpy()  # want-missing: GS101 [h.numpy()] carried by the loop
    # truth: model.weight.grad is None
    # truth: raises RuntimeError: element 0 of tensors
    # truth-fixed: model.weight.grad is not None
    # waits-for: tensorflow
    # no-fix: what shape was meant, nobody can tell

Several wants of one line stand behind one `want:`. A span of several lines is quoted by its first line
and ` …`. `no-fix` says in words of the rule's page why what is wanted has no right fix. Invariant: a comment
that begins like a marker is a marker or an error; none is passed over.
"""

from __future__ import annotations

import functools
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

SEVERITIES = ("error", "warning", "information", "hint")
GOES_ON = " …"  # behind the quote's first line: the span has further lines

_MARKER = re.compile(r"#\s*(want|want-missing|truth|truth-fixed|waits-for|no-fix)\s*:\s*(.*)", re.DOTALL)
# What somebody who misspelt a marker probably wrote.
_LIKE_MARKER = re.compile(
    r"#\s*(wants?|want[ _-]?missing|truths?|truth[ _-]?fixed|waits?[ _-]?for|no[ _-]fix(?:es)?)\s*[:=]",
    re.IGNORECASE,
)
_CODE = re.compile(r"\s*(GS\d{3})\s+\[")
_RAISES = re.compile(r"raises\s+([A-Za-z_][\w.]*)\s*(?::\s*(.*))?$", re.DOTALL)


class MarkerError(ValueError):
    """A malformed marker. Its text names file and row."""


@dataclass(frozen=True, slots=True)
class Want:
    """A finding that is wanted, or with `missing` one that is known not to be found."""

    code: str
    quote: str
    severity: str | None
    row: int  # 1-based
    missing: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Raises:
    """The program raises this type with this text inside its message."""

    type: str
    text: str

    def __str__(self) -> str:
        return f"raises {self.type}: {self.text}"


@dataclass(frozen=True, slots=True)
class Truth:
    """What torch does: an expression over the program's namespace, or an exception."""

    fact: str | Raises
    row: int  # 1-based
    fixed: bool = False  # holds for the program after the fix, not for the program


@dataclass(frozen=True, slots=True)
class Markers:
    """All markers of one program, in order."""

    wants: tuple[Want, ...] = ()
    truths: tuple[Truth, ...] = ()
    waits_for: str | None = None  # the framework without which the program can't run
    no_fix: str | None = None  # why no fix is offered

    def facts(self, *, fixed: bool = False) -> list[str | Raises]:
        """What is true of the program as it stands, or after its fix."""
        return [each.fact for each in self.truths if each.fixed is fixed]


@functools.lru_cache(4096)  # several test modules ask for all programs
def parse(text: str, file: str = "<program>") -> Markers:
    """The markers of a program.

    Raises:
        MarkerError: a comment that looks like a marker is none; or the text can't be split into tokens.
    """
    wants: list[Want] = []
    truths: list[Truth] = []
    waits_for: str | None = None
    no_fix: str | None = None
    try:
        comments = [
            (token.string, token.start[0])
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type == tokenize.COMMENT
        ]
    except (tokenize.TokenError, SyntaxError) as error:
        raise MarkerError(f"{file}: {error}") from error
    for comment, row in comments:
        where = f"{file}:{row}"
        match = _MARKER.match(comment)
        if match is None:
            if _LIKE_MARKER.match(comment):
                raise MarkerError(f"{where}: not a marker: {comment}")
            continue
        kind, rest = match[1], match[2].strip()
        if not rest:
            raise MarkerError(f"{where}: an empty marker: {comment}")
        if kind.startswith("want"):
            wants += _wants(rest, row, kind == "want-missing", where)
        elif kind == "waits-for":
            waits_for = rest
        elif kind == "no-fix":
            no_fix = rest
        else:
            truths.append(Truth(_fact(rest, where), row, kind == "truth-fixed"))
    return Markers(tuple(wants), tuple(truths), waits_for, no_fix)


def read(path: Path) -> Markers:
    """The markers of a file. Raises what `parse` raises."""
    return parse(path.read_text(encoding="utf-8"), str(path))


def _wants(text: str, row: int, missing: bool, where: str) -> list[Want]:
    found: list[Want] = []
    position = 0
    while position < len(text):
        match = _CODE.match(text, position)
        if match is None:
            raise MarkerError(f"{where}: expected `GS… [quote]` at: {text[position:]}")
        end = _closing(text, match.end(), where)
        quote, position = text[match.end() : end], end + 1
        if not quote.strip():
            raise MarkerError(f"{where}: an empty quote")
        if missing:
            reason = text[position:].strip()
            if not reason:
                raise MarkerError(f"{where}: a want-missing without its reason")
            return [*found, Want(match[1], quote, None, row, True, reason)]
        severity = None
        word = re.compile(r"\s+(\w+)").match(text, position)
        if word and not re.fullmatch(r"GS\d{3}", word[1]):
            if word[1] not in SEVERITIES:
                raise MarkerError(f"{where}: {word[1]} is no severity")
            severity, position = word[1], word.end()
        found.append(Want(match[1], quote, severity, row))
        position += len(text[position:]) - len(text[position:].lstrip())
    return found


def _closing(text: str, start: int, where: str) -> int:
    """The index of the bracket that closes the quote: brackets balance, those in strings don't count."""
    depth, position, string = 0, start, ""
    while position < len(text):
        char = text[position]
        if string:
            if char == "\\":
                position += 1
            elif text.startswith(string, position):
                position += len(string) - 1
                string = ""
        elif char in "'\"":
            string = char * 3 if text.startswith(char * 3, position) else char
            position += len(string) - 1
        elif char in "([{":
            depth += 1
        elif char == "]" and depth == 0:
            return position
        elif char in ")]}":
            # A first line that goes on may close fewer brackets than it opens.
            if char == "]" and text[:position].endswith(GOES_ON):
                return position
            depth -= 1
        position += 1
    raise MarkerError(f"{where}: the quote is not closed: {text[start:]}")


def _fact(text: str, where: str) -> str | Raises:
    match = _RAISES.match(text)
    if match:
        return Raises(match[1], (match[2] or "").strip())
    try:
        compile(text, where, "eval")
    except SyntaxError as error:
        raise MarkerError(f"{where}: not an expression: {text} ({error.msg})") from error
    return text
