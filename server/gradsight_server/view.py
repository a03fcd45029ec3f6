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

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gradsight.text import Source, Span

from gradsight_server.moves import line_span, moves, unit_at
from gradsight_server.probe import ProbeResult

LABEL_LIMIT = 80  # characters of a label
SYMBOLS = {
    "cut": "✂",
    "nonfinite": "⚠",
    "none": "∅",
    "zero": "○",
    "cut-upstream": "✂",
    "live": "●",
    "constant": "◌",
}
_RANK = {state: rank for rank, state in enumerate(SYMBOLS)}  # what stands out stands first


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


# Text in which a number stands for a row of the file, to be written as a line's number where the row is then.
Words = tuple[str | int, ...]


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


@dataclass(frozen=True, slots=True)
class Placed:
    """A view beside a text: `stale` if its code is another than the one that ran."""

    stale: bool
    rows: tuple[Row, ...]


def to_view(result: ProbeResult, source: Source, file: str) -> View:
    """The result beside the text that it ran on; `file` is the request's `filename`."""
    leaves = {
        (place["filename"], place["row"], place["name"])
        for each in result.parameters
        for place in each["made"]
        if result.asked and not place["inner"]
    }
    items = [
        _value(line, file)
        for line in result.lines
        if line["filename"] == file and (file, line["row"], line["name"]) not in leaves
    ]
    items += _parameters(result, source, file)
    error = _problem(result)
    if error is not None and error.row is not None:
        items.append(_error(error))
    rows: dict[int, list[_Item]] = {}
    for item in items:
        if 0 <= item.row < len(source.physical):
            rows.setdefault(item.row, []).append(item)
    return View(
        source,
        _summary(result, error),
        result.device,
        result.torch,
        error,
        tuple(Reached(each["name"], _gradient(each), each["norm"]) for each in result.parameters),
        tuple(map(in_editor, result.notes)),
        tuple(_joined(row, rows[row], source) for row in sorted(rows)),
    )


def view_at(view: View, source: Source) -> Placed:
    """The view beside another version of its text. Rows whose line is gone are left out."""
    stale, place = moves(view.source, source)
    rows = []
    for words in view.words:
        row = place(words.row)
        if row is not None:
            label, tooltip = (_said(each, place) for each in (words.label, words.tooltip))
            rows.append(Row(line_span(source, row), label, words.state, tooltip))
    return Placed(stale, tuple(rows))


def in_editor(text: str) -> str:
    """A sentence that names options of the command line, for people who have settings instead."""
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
    )
)


# -- one value --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Item:
    """One thing to say on a row: alone in `label`, or beside others in `short`."""

    row: int
    state: str
    label: Words
    short: Words
    tooltip: Words
    rank: int


def _value(line: dict[str, Any], file: str) -> _Item:
    state, reason, cause, norm = line["state"], line["reason"], line["cause"], line["norm"]
    shape = _shape(line["shape"], line["dtype"])
    if state == "live" and norm is None:
        if reason.startswith(("no gradient arrived", "requires grad, but")):
            state = "none"  # as a reader sees it: it could learn, and does not
    row = line["row"] - 1
    there = _where(cause, file)
    symbol = SYMBOLS[state]
    what: Words
    brief: Words
    if state == "live":
        what = (f"live, ‖grad‖ {to_number(norm)}",) if norm is not None else ("live, no backward ran",)
        brief = (to_number(norm),) if norm is not None else ("no backward ran",)
        if norm is None and "no backward" not in reason:
            what, brief = ("live",), ("live",)
    elif state == "cut":
        what = ("cut here: ", _brief(reason))
        brief = what
    elif state == "cut-upstream":
        what = brief = ("cut upstream, ", *there)
    elif state == "zero":
        here = bool(cause) and cause == {"filename": file, "row": line["row"]}
        what = ("gradient is zero", *((": ", _brief(reason)) if here else (", ", *there) if there else ()))
        brief = ("zero gradient",)
    elif state == "nonfinite":
        what = ("NaN gradient", *((", from ", *there) if there and cause["row"] - 1 != row else ()))
        brief = ("NaN gradient",)
    elif state == "none":
        what = ("no gradient", *((": cut later, ", *there) if there else ()))
        brief = ("no gradient",)
    else:
        what = brief = ("constant",)
    is_cut_itself = cause is not None and line["dtype"] is None and state in ("cut", "zero")
    name = line["name"]
    lead = f"{symbol} {shape} " if shape else f"{symbol} "
    return _Item(
        row,
        state,
        (lead, *what),
        (f"{symbol} {name} ", *((f"{shape} ",) if shape and not is_cut_itself else ()), *brief),
        _explained(line, state, there),
        _RANK[state],
    )


def _explained(line: dict[str, Any], state: str, there: Words) -> Words:
    """The tooltip of one value: what it is, what happened, what to do."""
    shape = _shape(line["shape"], line["dtype"])
    head = (
        f"`{line['name']}`" + (f" {shape}" if shape else "") + (f" {line['dtype']}" if line["dtype"] else "")
    )
    reason = line["reason"]
    what: Words
    if state == "live":
        what = (f"A gradient arrives; its norm is {to_number(line['norm'])}.",)
        if line["norm"] is None:
            what = (f"Live: {reason}.",)
    elif state == "cut":
        what = (
            f"The gradient is **cut here**: {reason}.\n\nIf what stands before should learn through this, ",
        )
        what += ("compute it without the cut; if not, all is well.",)
    elif state == "cut-upstream":
        what = ("The gradient is **cut upstream**, ", *there, f": {_after_colon(reason)}.\n\nMend that line.")
    elif state == "zero":
        what = (f"The gradient is **zero**: {reason}", *((" (", *there, ")") if there else ()), ".\n\n")
        what += ("Use an operation that has a gradient, if what stands before should learn.",)
    elif state == "nonfinite":
        what = ("The gradient is **NaN or infinite**", *((" from ", *there, " on") if there else ()), ".\n\n")
        what += (
            "Usual causes: sqrt or a norm at 0, log(0), 0/0, or `torch.where` over such a value. Clamp the "
            "input before.",
        )
    elif state == "none" and there:
        what = ("It requires grad, but **no gradient arrives**: the way to the loss is cut ", "at ", *there)
        what += (f": {_after_colon(_after_colon(reason))}.\n\nMend that line.",)
    elif state == "none":
        what = (
            "It requires grad, but **no gradient arrives**: no `backward()` was called on anything that ",
        )
        what += ("depends on it.",)
    else:
        what = (f"No gradient is asked of it: {reason}.",)
    return (head, "\n\n", *what)


def _where(cause: dict[str, Any] | None, file: str) -> Words:
    if cause is None:
        return ()
    if cause["filename"] == file:
        return ("line ", cause["row"] - 1)
    name = cause["filename"].replace("\\", "/").rpartition("/")[2]
    return (f"line {cause['row']} of {name}",)


def _brief(reason: str) -> str:
    """The first clause of a reason, without its marks."""
    return re.split(r"[:;,]| \(", reason.replace("`", ""))[0].strip().removesuffix(" here")


def _after_colon(reason: str) -> str:
    return reason.partition(": ")[2] or reason


def _shape(shape: Sequence[int] | None, dtype: str | None) -> str:
    if shape is None:
        return ""
    if not shape:
        return "number" if dtype in ("float", "complex") else "scalar"
    return "×".join(map(str, shape))


def to_number(value: float | None) -> str:
    """Two digits that count, without the zeros of an exponent: `0.31`, `250`, `3e-9`."""
    if value is None:
        return "not finite"
    if 100 <= value < 100_000:
        return f"{value:.0f}"
    return re.sub(r"e([+-])0*", lambda found: "e" + found[1].strip("+"), f"{value:.2g}")


# -- parameters -------------------------------------------------------------------------------------------

_STATE_OF = {"none": "none", "zero": "zero", "nonzero": "live", "nonfinite": "nonfinite"}
_SAID_OF = {"none": "no gradient", "zero": "zero gradient", "nonfinite": "NaN gradient", "constant": "frozen"}


def _gradient(parameter: dict[str, Any]) -> str:
    return str(parameter["at_last_step"] or parameter["gradient"])


def _state(parameter: dict[str, Any]) -> str:
    gradient = _gradient(parameter)
    return "constant" if parameter["frozen"] and gradient == "none" else _STATE_OF[gradient]


def _parameters(result: ProbeResult, source: Source, file: str) -> list[_Item]:
    """Each parameter beside the line of this file that makes it; a count beside lines that hold it later."""
    if not result.asked:
        return []
    made: dict[int, list[tuple[str, dict[str, Any]]]] = {}
    held: dict[int, list[tuple[str, dict[str, Any]]]] = {}
    for parameter in result.parameters:
        places = [place for place in parameter["made"] if place["filename"] == file]
        for number, place in enumerate(places):
            row = place["row"] - 1
            if number == 0:
                row, name = _maker(source, row, place["name"].removeprefix("self."), place["inner"])
                made.setdefault(row, []).append((name or parameter["name"], parameter))
            elif _assigns(source, row):
                held.setdefault(row, []).append((place["inner"], parameter))
    optimized = any(parameter["optimizer"] for parameter in result.parameters)
    items = [item for row, named in made.items() for item in _detail(row, named, optimized)]
    return items + [_count(row, named, row in made) for row, named in held.items()]


def _detail(row: int, named: list[tuple[str, dict[str, Any]]], optimized: bool) -> list[_Item]:
    """One item for each state that parameters of this line are in."""
    names: dict[str, list[dict[str, Any]]] = {}  # a line that runs several times makes several of a name
    for name, parameter in named:
        names.setdefault(name, []).append(parameter)
    groups: dict[str, list[str]] = {}
    for name, parameters in names.items():
        by_state: dict[str, list[dict[str, Any]]] = {}
        for parameter in parameters:
            by_state.setdefault(_state(parameter), []).append(parameter)
        for state, same in by_state.items():
            times = "" if len(parameters) == 1 else f" ×{len(same)}"
            if len(by_state) > 1:
                times = f" ({len(same)} of {len(parameters)})"
            norms = [each["norm"] for each in same if each["norm"] is not None]
            words = name + times
            if state == "live" and norms:
                low, high = to_number(min(norms)), to_number(max(norms))
                words += f" {low}" if low == high else f" {low}–{high}"
            groups.setdefault(state, []).append(words)
    tooltip = (_table([parameter for _, parameter in named], optimized),)
    items: list[_Item] = []
    for state, words_of in sorted(groups.items(), key=lambda group: _RANK[group[0]]):
        lead = f"{SYMBOLS[state]} {_SAID_OF[state]}: " if state in _SAID_OF else f"{SYMBOLS[state]} "
        label = (lead + _listed(words_of, LABEL_LIMIT - len(lead), ", " if state in _SAID_OF else "  "),)
        items.append(_Item(row, state, label, label, () if items else tooltip, _RANK[state]))
    return items


def _count(row: int, named: list[tuple[str, dict[str, Any]]], beside: bool) -> _Item:
    """What arrived at all that a line holds: `model = Net()`."""
    parameters = [each for _, each in named]
    learning = [each for each in parameters if _state(each) != "constant"]
    worst = min((_state(each) for each in learning), key=_RANK.__getitem__, default="constant")
    sentence, names = _count_of(learning), [name for name, each in named if _state(each) == worst]
    lead = f"{SYMBOLS[worst]} {sentence}"
    if worst != "live" and names:
        lead += ": "
        lead += _listed(names, LABEL_LIMIT - len(lead), ", ")
    return _Item(
        row, worst, (lead,), (lead,), (_table(parameters, False),) if not beside else (), _RANK[worst]
    )


def _table(parameters: list[dict[str, Any]], optimized: bool) -> str:
    ordered = sorted(parameters, key=lambda parameter: _RANK[_state(parameter)])
    lines = []
    for parameter in ordered[:12]:
        state = _state(parameter)
        said = f"‖grad‖ {to_number(parameter['norm'])}" if state == "live" else f"**{_SAID_OF[state]}**"
        shape = f" {_shape(parameter['shape'], None)}" if parameter["shape"] is not None else ""
        lines.append(f"- {SYMBOLS[state]} `{parameter['name']}`{shape}: {said}")
        if optimized and state != "constant" and not parameter["optimizer"]:
            lines[-1] += ", in no optimizer: it never changes"
    if len(ordered) > 12:
        lines.append(f"- and {len(ordered) - 12} more")
    if any(_state(parameter) == "none" for parameter in parameters):
        lines.append("\nWithout a gradient it does not learn: look for a ✂ between here and the loss.")
    return "\n".join(lines)


def _listed(words: Sequence[str], room: int, between: str) -> str:
    """As many as there is room for, and how many more there are; at least one."""
    said = words[0]
    for number, word in enumerate(words[1:], 1):
        rest = f"{between}{len(words) - number} more"
        if len(said) + len(between) + len(word) + (len(rest) if number + 1 < len(words) else 0) > room:
            return said + rest
        said += between + word
    return said


def _assigns(source: Source, row: int) -> bool:
    return any(
        isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)) for node in unit_at(source, row)[0].nodes
    )


def _maker(source: Source, row: int, name: str, inner: str) -> tuple[int, str]:
    """The row that makes a parameter, and its name there: in a `Sequential` of several lines the element's.

    `row`: the statement's; `name`: what it binds; `inner`: the parameter's name within that.
    """
    unit, start = unit_at(source, row)
    base = start - 1 - unit.shift
    for node in unit.nodes:
        value = getattr(node, "value", None)
        while isinstance(value, ast.Call):
            found = _element(value, inner)
            if found is None or base + found[1].lineno == row:
                break
            value, inner = found[1], found[2]
            row, name = base + value.lineno, ""
    return row, ".".join(part for part in (name, inner) if part)


def _element(call: ast.Call, inner: str) -> tuple[str, ast.expr, str] | None:
    """The element of a container's call that holds the parameter, and the parameter's name within it."""
    kind = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if kind not in ("Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"):
        return None
    head, _, rest = inner.partition(".")
    elements: dict[str, ast.expr] = {}
    arguments: list[ast.expr] = list(call.args)
    if len(arguments) == 1 and isinstance(arguments[0], ast.Call) and arguments[0].args:
        ordered = arguments[0]
        if ast.unparse(ordered.func).endswith("OrderedDict"):
            arguments = [ordered.args[0]]
    if len(arguments) == 1 and isinstance(arguments[0], (ast.List, ast.Tuple)):
        arguments = list(arguments[0].elts)
    if len(arguments) == 1 and isinstance(arguments[0], ast.Dict):
        pairs = list(zip(arguments[0].keys, arguments[0].values, strict=True))
    else:
        pairs = []
        for number, element in enumerate(arguments):
            if isinstance(element, ast.Starred):
                break
            if isinstance(element, ast.Tuple) and len(element.elts) == 2:
                pairs.append((element.elts[0], element.elts[1]))
            else:
                elements[str(number)] = element
    elements.update(
        (key.value, value)
        for key, value in pairs
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    )
    return (head, elements[head], rest) if head in elements else None


# -- the whole --------------------------------------------------------------------------------------------


def _problem(result: ProbeResult) -> Problem | None:
    error = result.error
    if error is None:
        return None
    message = f"{error['type']}: {error['message']}" if error["message"] else error["type"]
    explanation = in_editor(error["explanation"]) if error["explanation"] else None
    row = error["row"] - 1 if error["row"] else None
    return Problem(in_editor(message), row, explanation)


def _error(error: Problem) -> _Item:
    first = error.message.split("\n", 1)[0]
    label = (_shortened(f"✗ {first}", LABEL_LIMIT),)
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", error.message)), default=0))
    tooltip = f"{fence}text\n{error.message}\n{fence}\n\n{error.explanation or ''}"
    assert error.row is not None
    return _Item(error.row, "cut", label, label, (tooltip.strip(),), -1)


def _summary(result: ProbeResult, error: Problem | None) -> str:
    learning = [each for each in result.parameters if _state(each) != "constant"]
    if result.asked:
        said = _count_of(learning) if result.parameters else "nothing here learns: no parameter was found"
    else:
        said = "no backward ran"
    if error is None:
        return said
    kind = error.message.partition(":")[0]
    place = f" in line {error.row + 1}" if error.row is not None else ""
    return f"{kind}{place}; {said}"


def _count_of(learning: list[dict[str, Any]]) -> str:
    """How many get what they need: "3 of 12 parameters get no gradient"."""
    count = len(learning)
    if not count:
        return "every parameter is frozen"
    of = "1 parameter" if count == 1 else f"{count} parameters"
    said: list[str] = []
    for state in ("none", "nonfinite", "zero"):
        number = sum(_state(each) == state for each in learning)
        if number:
            what = {"none": "no gradient", "zero": "a zero gradient", "nonfinite": "a NaN gradient"}[state]
            subject = f"{number} of {of}" if not said else str(number)
            said.append(f"{subject} {'gets' if number == 1 else 'get'} {what}")
    if said:
        return ", ".join(said)
    return "the parameter gets a gradient" if count == 1 else f"all {count} parameters get gradients"


def _joined(row: int, items: list[_Item], source: Source) -> _Words:
    """All that is to be said on one row, what stands out first."""
    ordered = sorted(items, key=lambda item: item.rank)
    label: Words = ordered[0].label
    if len(ordered) > 1:
        label = ordered[0].short
        for number, item in enumerate(ordered[1:], 1):
            rest: Words = (f"  +{len(ordered) - number} more",)
            longer = (*label, "  ", *item.short)
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
    """The number of a row's line where it is now; of one that is gone, where it was."""
    now = place(row)
    return (row if now is None else now) + 1


def _said(words: Iterable[str | int], place: Callable[[int], int | None]) -> str:
    return "".join(word if isinstance(word, str) else str(_line(word, place)) for word in words)
