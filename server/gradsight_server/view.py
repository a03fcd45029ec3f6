"""What a person reads beside the lines of a probed program: labels, tooltips, one sentence.

    view = to_view(result, source, file)     # `source`: the whole text that the program was taken from
    placed = view_at(view, source_now)       # Placed(stale, rows): spans in `source_now`

    view.summary      "3 of 12 parameters get no gradient"
    view.error        Problem(message, row, explanation) | None      (row: 0-based in the text that ran)
    view.device, view.torch, view.notes, view.parameters (Reached(name, gradient, norm))
    row.span, row.label, row.state, row.tooltip

A view belongs to the text that it ran on: it is stale as soon as the code is another, and fresh again when
the code is back. Blank lines, comments and layout are no code; rows, and the lines that labels name, move
with edits around them.

Invariants: pure; all words for people are made here; labels begin with a symbol, for colour is never alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial

from gradsight.text import Source, Span

from gradsight_server.checked import of_check, verdict
from gradsight_server.moves import line_span, moves
from gradsight_server.probe import ProbeResult
from gradsight_server.wording import (
    BETWEEN,
    LABEL_LIMIT,
    RANK,
    Item,
    Words,
    count_of,
    gradient_of,
    leaves,
    of_parameters,
    of_value,
    state_of,
)


@dataclass(frozen=True, slots=True)
class Row:
    """What stands beside one physical line. `span`: its code; the label goes behind the line's end."""

    span: Span
    label: str
    state: str  # live, zero, nonfinite, cut, cut-upstream, constant, none
    tooltip: str  # Markdown


@dataclass(frozen=True, slots=True)
class Reached:
    """What arrived at one parameter: `gradient` is none, zero, nonzero or nonfinite."""

    name: str
    gradient: str
    norm: float | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the program stopped; `row` is 0-based, None where no line of this file is to blame."""

    message: str
    row: int | None
    explanation: str | None


@dataclass(frozen=True, slots=True)
class _Words:
    """A row's label and tooltip, as of the text that ran."""

    row: int
    label: Words
    state: str
    tooltip: Words


@dataclass(frozen=True, slots=True)
class View:
    """One run as it is shown beside the text that it ran on."""

    source: Source
    summary: str
    device: str | None
    torch: str | None
    error: Problem | None
    parameters: tuple[Reached, ...]
    notes: tuple[str, ...]
    words: tuple[_Words, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows in the text that ran."""
        return view_at(self, self.source).rows


def _number(beside: int, row: int) -> str:
    return str(row + 1)


class Placed:
    """A view beside a text: `stale` if its code is another than the one that ran. `rows` are made when they
    are asked for: whether it is stale costs next to nothing."""

    def __init__(self, view: View, source: Source, named: Callable[[int, int], str]) -> None:
        self._view, self._source, self._named = view, source, named
        self.stale, self._place = moves(view.source, source)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Those whose line is still there."""
        rows = []
        for words in self._view.words:
            row = self._place(words.row)
            if row is not None:
                label, tooltip = (
                    _said(each, self._place, partial(self._named, row))
                    for each in (words.label, words.tooltip)
                )
                rows.append(Row(line_span(self._source, row), label, words.state, tooltip))
        return tuple(rows)


def to_view(result: ProbeResult, source: Source, file: str) -> View:
    """The result beside the text that it ran on; `file` is the request's `filename`."""
    if result.checked is not None:  # the program was left as soon as it had shown what it gives the function
        items = of_check(result.checked, source)
    else:
        lines = [((line["row"], line["name"]), line) for line in result.lines if line["filename"] == file]
        itself = leaves(result, file)
        items = [of_value(line, file) for at, line in lines if itself[at] < 2]
        items += of_parameters(result, source, file, {at for at, _ in lines if itself[at] == 1})
    items += [item for note in result.notes if (item := _note(note, file)) is not None]
    error = _problem(result)
    if error is not None and error.row is not None:
        items.append(_error(error))
    rows: dict[int, list[Item]] = {}
    for item in items:
        if 0 <= item.row < len(source.physical):
            rows.setdefault(item.row, []).append(item)
    return View(
        source,
        _summary(result, error),
        result.device,
        result.torch,
        error,
        tuple(Reached(each["name"], gradient_of(each), each["norm"]) for each in result.parameters),
        tuple(map(in_editor, result.notes)),
        tuple(_joined(row, rows[row], source) for row in sorted(rows)),
    )


def view_at(view: View, source: Source, named: Callable[[int, int], str] = _number) -> Placed:
    """The view beside another version of its text.

    `named` says what a line is called (0-based row) beside another one's row.
    """
    return Placed(view, source, named)


def in_editor(text: str) -> str:
    """A sentence of the probe's own that names options of the command line and rows, for people who have
    settings and lines instead."""
    for pattern, words in _OPTIONS:
        text = pattern.sub(words, text)
    return text


_OPTIONS = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"[Pp]ass --allow-writes to let it", "the setting gradsight.probe.allowWrites lets it"),
        (r"use --device (\w+(?: or \w+)?)", r"set gradsight.probe.device to \1"),
        (r"--call (?:takes|runs) a function", "a probe calls a function"),
        (r"with --python|pass --python", "in the setting gradsight.probe.python"),
        (r"with --timeout", "with the setting gradsight.probe.timeout"),
        (r"--(python|timeout|device)\b", r"gradsight.probe.\1"),
        (r"--allow-writes\b", "gradsight.probe.allowWrites"),
        (r"\brow(s?)\b", r"line\1"),
    )
)


# -- the whole --------------------------------------------------------------------------------------------


def _problem(result: ProbeResult) -> Problem | None:
    error = result.error
    if error is None:
        return None
    message = f"{error['type']}: {error['message']}" if error["message"] else error["type"]
    explanation = in_editor(error["explanation"]) if error["explanation"] else None
    row = error["row"] - 1 if error["row"] else None
    if error["type"] == "Stopped":  # the probe's own; all others are the program's
        message = in_editor(message)
    return Problem(message, row, explanation)


def _error(error: Problem) -> Item:
    first = error.message.split("\n", 1)[0]
    label = (_shortened(f"✗ {first}", LABEL_LIMIT),)
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", error.message)), default=0))
    tooltip = f"{fence}text\n{error.message}\n{fence}\n\n{error.explanation or ''}"
    assert error.row is not None
    kind = first.partition(":")[0]  # beside others there is no room for more
    return Item(error.row, "cut", label, (f"✗ {kind}",), (tooltip.strip(),), -1)


def _note(note: str, file: str) -> Item | None:
    """A warning, or something that was stopped, if a row of the file is named."""
    found = re.match(re.escape(file) + r":(\d+):? (.*)", note, re.DOTALL)
    if found is None:
        return None
    words = in_editor(found[2])
    label = (_shortened(f"⚠ {words.splitlines()[0]}", LABEL_LIMIT),)
    return Item(int(found[1]) - 1, "zero", label, label, (words,), RANK["cut-upstream"])


def _summary(result: ProbeResult, error: Problem | None) -> str:
    if result.checked is not None:
        return f"`{result.checked['name']}`: {verdict(result.checked)}"
    learning = [each for each in result.parameters if state_of(each) != "constant"]
    if result.asked:
        said = count_of(learning) if result.parameters else "nothing here learns: no parameter was found"
    else:
        said = "no backward ran"
    if error is None:
        return said
    kind = error.message.partition(":")[0]
    place = f" in line {error.row + 1}" if error.row is not None else ""
    return f"{kind}{place}; {said}"


def _joined(row: int, items: list[Item], source: Source) -> _Words:
    """All that is to be said on one row, what stands out first."""
    ordered = sorted(items, key=lambda item: item.rank)
    label: Words = ordered[0].label
    if len(ordered) > 1:
        label = ordered[0].short
        for number, item in enumerate(ordered[1:], 1):
            rest: Words = (f"{BETWEEN}+{len(ordered) - number} more",)
            longer = (*label, BETWEEN, *item.short)
            if _length(longer) + (len(str(rest[0])) if number + 1 < len(ordered) else 0) > LABEL_LIMIT:
                label = (*label, *rest)
                break
            label = longer
    tooltip: Words = ()
    for item in ordered:
        if item.tooltip:
            tooltip += (("\n\n---\n\n",) if tooltip else ()) + item.tooltip
    return _Words(row, _quoted(label, source, False), ordered[0].state, _quoted(tooltip, source, True))


def _quoted(words: Words, source: Source, quote: bool) -> Words:
    """In tooltips, the first time that a line is named, its text behind it."""
    if not quote:
        return words
    said: list[str | int] = []
    for word in words:
        said.append(word)
        if isinstance(word, int):
            text = source.line_text(word).strip()
            if text and word not in said[:-1]:
                said.append(f" (`{_shortened(text, 60)}`)" if "`" not in text else "")
    return tuple(said)


def _length(words: Words) -> int:
    return sum(len(word) if isinstance(word, str) else len(str(word + 1)) for word in words)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _line(row: int, place: Callable[[int], int | None]) -> int:
    """The row of a line where it is now; of one that is gone, where it was."""
    now = place(row)
    return row if now is None else now


def _said(words: Iterable[str | int], place: Callable[[int], int | None], named: Callable[[int], str]) -> str:
    return "".join(word if isinstance(word, str) else named(_line(word, place)) for word in words)
