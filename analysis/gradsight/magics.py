"""What IPython reads of a cell before Python does, and what stands for it where the cell is analysed.

`%magic`, `!shell` and `help?` are found as IPython finds them: at the beginning of a logical line, or behind
the `=` of one. In their place stands a statement that binds the same names to something unknown; rows stay
rows, and the columns of everything else stay. Never fails, whatever the text.

The grammar: https://ipython.readthedocs.io/en/stable/interactive/reference.html
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gradsight.lines import next_line
from gradsight.syntax import masked, physical_lines

Hidden = dict[int, tuple[int, int | None]]


@dataclass(frozen=True, slots=True)
class Part:
    """A cell as a part of the program.

    Attributes:
        written: its rows as they are written; all end with a line end.
        rows: the same as Python.
        hidden: of a row that is not all Python, the columns of what is hidden; None: to its end, which may be
            elsewhere in `written`.
        indent: white space before all rows, which IPython takes away.
        head: before this row nothing may be inserted, because cell magics stand there.
    """

    written: Sequence[str]
    rows: Sequence[str]
    hidden: Hidden = field(default_factory=dict)
    indent: str = ""
    head: int = 0
    _steps: Sequence[int] = ()  # rows at which logical lines begin
    _reach: Sequence[int] = ()  # of each of them the first row that was not looked at

    def shift(self, row: int) -> int:
        """How many columns of white space were taken away."""
        if not self.indent or row >= len(self.written):
            return 0
        return len(self.indent) if self.written[row].startswith(self.indent) else 0

    def hidden_texts(self) -> list[tuple[str, str]]:
        """What is hidden, in order, and what stands for it."""
        texts = []
        for row, (first, stop) in sorted(self.hidden.items()):
            written = self.written[row][self.shift(row) :].rstrip("\r\n")
            texts.append((written[first:stop], self.rows[row].rstrip("\r\n")[first:stop]))
        return texts


# Names whose bodies IPython runs as Python, in the notebook's own names.
_PYTHON = frozenset(
    ("capture", "debug", "ipytest", "memit", "prun", "pyinstrument", "scalene", "snakeviz", "time", "wandb")
)
# What people type without its `%`.
_COMMAND = r"(?:pip|conda|mamba|uv|cd|ls|ll|cat|mkdir|rmdir|rm|cp|mv|pwd)\b"
_AUTOMAGIC = re.compile(rf"{_COMMAND}(?:[ \t]+[^\s=(\[,:].*)?")
_INDENTED = re.compile(r"\s*?[ \t\ufeff]+\S")
_SUSPECT = re.compile(
    rf"(?:\A|(?<=[\r\n]))[ \t\f]*(?:[%!?,;/]|{_COMMAND})|\?[ \t]*(?:\Z|(?=[\r\n]))|=[ \t]*[%!](?!=)"
)
UNKNOWN = "get_ipython()"
_CELL_MAGIC = re.compile(r"%%(?P<name>\w[\w.]*)(?P<rest>[^\r\n]*)")
_LINE_MAGIC = re.compile(
    r"%%?(?P<name>[A-Za-z_][\w.]*)(?P<rest>.*)|!.*|\?\??[ \t]*[\w%*].*|[,;/][ \t]*[A-Za-z_].*",
    re.DOTALL,
)
_HELP = re.compile(r"%{0,2}(?!\d)[\w*]+(?:\.(?!\d)[\w*]+|\[-?\d+\])*\?{1,2}[ \t]*\Z")
_ASSIGNED = re.compile(r"(?<![=<>!:+\-*/%&|^@])=[ \t]*(?P<magic>!.+|%[ \t]*\w.*)", re.DOTALL)
_TIME = re.compile(r"%time(?=[ \t]+[^\s\-])")
_STORED = re.compile(r"-r\b(?P<names>[^\r\n]*)")
_TOLD = re.compile(r"--(?:out|err|proc)[= \t]+(?P<name>[^\W\d]\w*)")
_QUERIED = re.compile(r"(?P<name>[^\W\d]\w*)[ \t]*<<")
_RUN = re.compile(r"(?:^|[\s;])(?P<name>[^\W\d]\w*)[ \t]*=(?!=)")


def to_part(text: str, old: Part | None = None) -> Part:
    """The part that a cell's text is. `old` is what it was before, which costs less than reading all anew."""
    # With a line end each cell has as many rows as in an editor, and none is joined with the next cell's.
    written = physical_lines(text + ("\r\n" if text.endswith("\r") else "\n"))
    changed, kept = difference(old.written, written) if old is not None else (0, 0)
    plain: Sequence[str] = written
    if "\r" in text and any(row.endswith("\r") for row in written):  # alone it would join an empty row below
        plain = [row[:-1] + "\n" if row.endswith("\r") else row for row in written]
    indented = _INDENTED.match(text)
    if not indented:
        is_plain = old is not None and old.rows is old.written
        if not _SUSPECT.search("".join(written[changed : len(written) - kept]) if is_plain else text):
            return Part(written, plain)
    first = next((row for row, each in enumerate(written) if each.strip()), len(written))
    lead = written[first] if first < len(written) else ""
    indent = lead[: len(lead) - len(lead.lstrip(" \t\ufeff"))] if indented else ""
    rows = [each[len(indent) :] if indent and each.startswith(indent) else each for each in plain]
    scan = _Scan(rows, {}, [], [])
    begin = _hide_cell_magics(rows, first, scan.hidden)
    if begin is None:
        return Part(written, rows, scan.hidden, indent, len(rows))
    if old is not None and old.indent == indent and old._steps and old._steps[0] == begin < changed:
        scan.go_on(old, changed, kept)
    else:
        scan.go(begin)
    head = begin if begin > first else 0
    return Part(written, rows, scan.hidden, indent, head, scan.steps, scan.reach)


def difference(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many rows both begin with, and how many of the others both end with."""
    shorter = min(len(old), len(new))
    first = 0
    while first < shorter and old[first] == new[first]:
        first += 1
    same = 0
    while same < shorter - first and old[-1 - same] == new[-1 - same]:
        same += 1
    return first, same


def _hide_cell_magics(rows: list[str], row: int, hidden: Hidden) -> int | None:
    """The first row of the Python that a cell holds; None if it holds none."""
    while (
        row < len(rows) and (found := _CELL_MAGIC.match(rows[row])) and not rows[row].rstrip().endswith("?")
    ):
        name, rest = found["name"], found["rest"]
        names = [each["name"] for each in _TOLD.finditer(rest)] + [
            each["name"] for each in _QUERIED.finditer(rest)
        ]
        if name == "capture":
            names += [word for word in rest.split()[:1] if word.isidentifier()]
        _hide(rows, row, 0, _binding(names), hidden)
        row += 1
        if name not in _PYTHON:
            for other in range(row, len(rows)):
                _hide(rows, other, 0, "", hidden)
            return None
        while row < len(rows) and not rows[row].strip():
            row += 1
    return row


@dataclass(slots=True)
class _Scan:
    """Goes through the logical lines of a cell and hides what is no Python."""

    rows: list[str]
    hidden: Hidden
    steps: list[int]
    reach: list[int]

    def go(self, row: int) -> None:
        """Read all from a row on."""
        while row < len(self.rows):
            row = self._step(row)

    def go_on(self, old: Part, changed: int, kept: int) -> None:
        """Read what can be another than it was: row `changed` is, and the last `kept` rows are not."""
        delta = len(self.rows) - len(old.rows)
        at = next((at for at, reach in enumerate(old._reach) if reach > changed), len(old._steps))
        row = old._steps[at] if at < len(old._steps) else len(old.rows)
        self._copy(old, 0, at, 0)
        while row < len(self.rows):
            if row >= len(self.rows) - kept:
                at = bisect_left(old._steps, row - delta)
                if at < len(old._steps) and old._steps[at] == row - delta:
                    self._copy(old, at, len(old._steps), delta)
                    return
            row = self._step(row)

    def _copy(self, old: Part, first: int, stop: int, delta: int) -> None:
        """Take over steps of `old`, moved by so many rows."""
        if first == stop:
            return
        begin = old._steps[first]
        end = old._steps[stop] if stop < len(old._steps) else len(old.rows)
        self.rows[begin + delta : end + delta] = old.rows[begin:end]
        self.hidden.update((row + delta, each) for row, each in old.hidden.items() if begin <= row < end)
        self.steps += [row + delta for row in old._steps[first:stop]]
        self.reach += [row + delta for row in old._reach[first:stop]]

    def _step(self, row: int) -> int:
        """Read one logical line; the row behind it."""
        rows = self.rows
        bare = rows[row].rstrip("\r\n")
        code = bare.lstrip(" \t\f")
        lead = len(bare) - len(code)
        self.steps.append(row)
        looked = 0
        if code and (timed := self._timed(row, lead)) is not None:
            stop, looked = timed
            if stop:
                self.reach.append(looked)
                return stop
        at, instead = _hidden_from(code)
        if at >= 0:
            stop = row + 1
            while stop < len(rows) and rows[stop - 1].rstrip("\r\n").endswith("\\"):
                stop += 1
            _hide(rows, row, lead + at, instead, self.hidden)
            for other in range(row + 1, stop):
                _hide(rows, other, 0, "", self.hidden)
            # What follows a last `\` would belong to it.
            self.reach.append(max(looked, stop + (stop == len(rows))))
            return stop
        unit, looked = next_line(rows, row)
        if unit.error is not None and unit.count == 1 and _AUTOMAGIC.fullmatch(code):
            _hide(rows, row, lead, "pass", self.hidden)
        self.reach.append(looked)
        return row + unit.count

    def _timed(self, row: int, lead: int) -> tuple[int, int] | None:
        """Hides the `%time` before a statement that it runs: the row behind that, or 0 if it is none; and the
        first row that was not looked at. None: no `%time` stands here."""
        rows, whole = self.rows, self.rows[row]
        found = _TIME.match(whole, lead)
        instead = "pass;"
        if found is None and "%" in whole and (assigned := _ASSIGNED.search(masked(whole))):
            found = _TIME.match(whole, assigned.start("magic"))
            instead = "     "
        if found is None:
            return None
        rows[row] = whole[: found.start()] + instead + whole[found.end() :]
        unit, looked = next_line(rows, row)
        if unit.error is not None:
            rows[row] = whole
            return 0, looked
        self.hidden[row] = found.start(), found.end()
        return row + unit.count, looked


def _hidden_from(code: str) -> tuple[int, str]:
    """The column from which a row is no Python, and what stands for it; -1 if it may be Python."""
    found = _LINE_MAGIC.match(code)
    if found is not None:
        name, rest = found["name"] or "", found["rest"] or ""
        names: list[str] = []
        if name == "store" and (stored := _STORED.search(rest)):
            names = [word for word in stored["names"].split() if word.isidentifier()]
        elif name == "capture":
            names = [word for word in rest.split()[:1] if word.isidentifier()]
        elif name in _PYTHON:
            names = [each["name"] for each in _RUN.finditer(masked(rest))]
        elif name:
            names = [each["name"] for each in _QUERIED.finditer(rest)]
        return 0, _binding(names)
    if "?" in code and _HELP.search(masked(code)):
        return 0, "pass"
    if "=" in code and (assigned := _ASSIGNED.search(masked(code))):
        return assigned.start("magic"), UNKNOWN
    return -1, ""


def _binding(names: Iterable[str]) -> str:
    """A statement that binds the names to something unknown."""
    return "".join(f"{name} = " for name in dict.fromkeys(names)) + UNKNOWN if names else "pass"


def _hide(rows: list[str], row: int, column: int, instead: str, hidden: Hidden) -> None:
    bare = rows[row].rstrip("\r\n")
    end = rows[row][len(bare) :]
    hidden[row] = (column, None)
    rows[row] = bare[:column] + instead + end
