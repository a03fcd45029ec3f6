"""The words for one value, one line's parameters, and all of a program's parameters.

Invariants: pure; a label begins with a symbol, for colour is never alone; no row is written as a number here,
for rows move.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradsight.text import Source

from gradsight_server.moves import unit_at
from gradsight_server.probe import ProbeResult

LABEL_LIMIT = 80  # characters of a label
BETWEEN = " · "
SYMBOLS = {
    "cut": "✂",
    "nonfinite": "⚠",
    "none": "∅",
    "zero": "○",
    "cut-upstream": "✂",
    "live": "●",
    "constant": "◌",
}
RANK = {state: rank for rank, state in enumerate(SYMBOLS)}  # what stands out stands first

# Text in which a number stands for a row of the file, to be written as a line's number where the row is then.
Words = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to say on a row: alone in `label`, or beside others in `short`."""

    row: int
    state: str
    label: Words
    short: Words
    tooltip: Words
    rank: int


def of_value(line: dict[str, Any], file: str) -> Item:
    state, reason, cause, norm = line["state"], line["reason"], line["cause"], line["norm"]
    shape = _shape(line["shape"], line["dtype"])
    if state == "live" and norm is None:
        if reason.startswith(("no gradient arrived", "requires grad, but")):
            state = "none"  # as a reader sees it: it could learn, and does not
    row, name = line["row"] - 1, line["name"]
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
        what = ("gradient is zero", *((f": {name}",) if here else (", ", *there) if there else ()))
        brief = ("zero gradient",)
    elif state == "nonfinite":
        what = ("NaN gradient", *((", from ", *there) if there and cause["row"] - 1 != row else ()))
        brief = ("NaN gradient",)
    elif state == "none":
        what = ("no gradient", *((": cut later, ", *there) if there else ()))
        brief = ("no gradient",)
    else:
        what = brief = ("constant",)
    lead = f"{symbol} {shape} " if shape else f"{symbol} "
    label: Words = (lead, *what)
    short: Words = (f"{symbol} {name} ", *((f"{shape} ",) if shape else ()), *brief)
    if state in ("cut", "zero") and f"{name}`" in reason:
        short = label  # the operation itself: its name is in the words
    return Item(row, state, label, short, _explained(line, state, there), RANK[state])


def _explained(line: dict[str, Any], state: str, there: Words) -> Words:
    """The tooltip of one value: what it is, what happened, what to do."""
    shape = _shape(line["shape"], line["dtype"])
    head = (
        f"`{line['name']}`" + (f" {shape}" if shape else "") + (f" {line['dtype']}" if line["dtype"] else "")
    )
    reason, cause = line["reason"], line["cause"]
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
        elsewhere = (*there, ": ") if there and cause["row"] != line["row"] else ()
        what = ("The gradient is **zero**: ", *elsewhere, f"{reason}.\n\n")
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
    return "×".join(map(str, shape)) if len(shape) > 1 else f"[{shape[0]}]"


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


def gradient_of(parameter: dict[str, Any]) -> str:
    return str(parameter["at_last_step"] or parameter["gradient"])


def state_of(parameter: dict[str, Any]) -> str:
    gradient = gradient_of(parameter)
    return "constant" if parameter["frozen"] and gradient == "none" else _STATE_OF[gradient]


def leaves(result: ProbeResult, file: str) -> Counter[tuple[int, str]]:
    """How many parameters each binding of this file is itself: `self.w = nn.Parameter(…)` in each layer."""
    return Counter(
        (place["row"], place["name"])
        for parameter in result.parameters
        for place in parameter["made"][:1]
        if result.asked and place["filename"] == file and not place["inner"]
    )


def of_parameters(result: ProbeResult, source: Source, file: str, told: set[tuple[int, str]]) -> list[Item]:
    """Each parameter beside the line of this file that makes it; a count beside lines that hold it later.

    `told`: row and name of values that are shown and are the parameter itself.
    """
    if not result.asked:
        return []
    made: dict[int, list[_Made]] = {}
    held: dict[int, list[_Made]] = {}
    for parameter in result.parameters:
        places = [place for place in parameter["made"] if place["filename"] == file]
        for number, place in enumerate(places):
            row, name, inner = place["row"] - 1, place["name"].removeprefix("self."), place["inner"]
            if number == 0:
                if inner or (place["row"], place["name"]) not in told:
                    row, name, inner = _maker(source, row, name, inner)
                    full = ".".join(part for part in (name, inner) if part)
                    made.setdefault(row, []).append(_Made(full, inner or full, parameter))
            elif _assigns(source, row):
                held.setdefault(row, []).append(_Made(place["inner"], place["inner"], parameter))
    items = [item for row, all_made in made.items() for item in _detail(row, all_made)]
    return items + [_count(row, all_held, row in made) for row, all_held in held.items()]


@dataclass(frozen=True, slots=True)
class _Made:
    """A parameter beside a line, by its name there: with and without what the line binds."""

    name: str
    inner: str
    parameter: dict[str, Any]


def _detail(row: int, made: list[_Made]) -> list[Item]:
    """One item for each state that parameters of this line are in."""
    tooltip = (_table([each.parameter for each in made]),)
    items: list[Item] = []
    full, inner = (_grouped(made, by) for by in ("name", "inner"))
    for state in sorted(full, key=RANK.__getitem__):
        lead = f"{SYMBOLS[state]} {_SAID_OF[state]}: " if state in _SAID_OF else f"{SYMBOLS[state]} "
        between = ", " if state in _SAID_OF else BETWEEN
        words = full[state] if len(lead + between.join(full[state])) <= LABEL_LIMIT else inner[state]
        label = (lead + _listed(words, LABEL_LIMIT - len(lead), between),)
        items.append(Item(row, state, label, label, () if items else tooltip, RANK[state]))
    return items


def _grouped(made: list[_Made], by: str) -> dict[str, list[str]]:
    """For each state the words of the parameters that are in it. A line that ran several times made several
    of a name."""
    names: dict[str, list[dict[str, Any]]] = {}
    for each in made:
        names.setdefault(getattr(each, by), []).append(each.parameter)
    groups: dict[str, list[str]] = {}
    for name, parameters in names.items():
        by_state: dict[str, list[dict[str, Any]]] = {}
        for parameter in parameters:
            by_state.setdefault(state_of(parameter), []).append(parameter)
        for state, same in by_state.items():
            words = name
            if len(by_state) > 1:
                words += f" ({len(same)} of {len(parameters)})"
            elif len(same) > 1:
                words += f" ×{len(same)}"
            norms = [parameter["norm"] for parameter in same if parameter["norm"] is not None]
            if state == "live" and norms:
                low, high = to_number(min(norms)), to_number(max(norms))
                words += f" {low}" if low == high else f" {low}–{high}"
            groups.setdefault(state, []).append(words)
    return groups


def _count(row: int, held: list[_Made], beside: bool) -> Item:
    """What arrived at all that a line holds: `model = Net()`."""
    parameters = [each.parameter for each in held]
    learning = [each for each in parameters if state_of(each) != "constant"]
    worst = min((state_of(each) for each in learning), key=RANK.__getitem__, default="constant")
    sentence, names = count_of(learning), [each.inner for each in held if state_of(each.parameter) == worst]
    lead = f"{SYMBOLS[worst]} {sentence}"
    if worst != "live" and names:
        lead += ": "
        lead += _listed(names, LABEL_LIMIT - len(lead), ", ")
    return Item(row, worst, (lead,), (lead,), (_table(parameters),) if not beside else (), RANK[worst])


def _table(parameters: list[dict[str, Any]]) -> str:
    ordered = sorted(parameters, key=lambda parameter: RANK[state_of(parameter)])
    lines = []
    for parameter in ordered[:12]:
        state = state_of(parameter)
        said = f"‖grad‖ {to_number(parameter['norm'])}" if state == "live" else f"**{_SAID_OF[state]}**"
        shape = f" {_shape(parameter['shape'], None)}" if parameter["shape"] is not None else ""
        lines.append(f"- {SYMBOLS[state]} `{parameter['name']}`{shape}: {said}")
        of_module = any(place["inner"] for place in parameter["made"])
        if of_module and state != "constant" and not parameter["optimizer"]:
            lines[-1] += ", in no optimizer: it never changes"
    if len(ordered) > 12:
        lines.append(f"- and {len(ordered) - 12} more")
    if any(state_of(parameter) == "none" for parameter in parameters):
        lines.append("\nWithout a gradient it does not learn: look for a ✂ between here and the loss.")
    return "\n".join(lines)


def _listed(words: Sequence[str], room: int, between: str) -> str:
    """As many as there is room for, and how many more there are; at least one."""
    said = words[0]
    for number, word in enumerate(words[1:], 1):
        rest = f"{between}+{len(words) - number} more"
        if len(said) + len(between) + len(word) + (len(rest) if number + 1 < len(words) else 0) > room:
            return said + rest
        said += between + word
    return said


def _assigns(source: Source, row: int) -> bool:
    return any(
        isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)) for node in unit_at(source, row)[0].nodes
    )


def _maker(source: Source, row: int, name: str, inner: str) -> tuple[int, str, str]:
    """The row that makes a parameter, and its names there: in a `Sequential` of several lines the element's.

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
    return row, name, inner


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


def count_of(learning: list[dict[str, Any]]) -> str:
    """How many get what they need: "3 of 12 parameters get no gradient"."""
    count = len(learning)
    if not count:
        return "every parameter is frozen"
    of = "1 parameter" if count == 1 else f"{count} parameters"
    said: list[str] = []
    for state in ("none", "nonfinite", "zero"):
        number = sum(state_of(each) == state for each in learning)
        if number:
            what = {"none": "no gradient", "zero": "a zero gradient", "nonfinite": "a NaN gradient"}[state]
            subject = f"{number} of {of}" if not said else str(number)
            said.append(f"{subject} {'gets' if number == 1 else 'get'} {what}")
    if said:
        return ", ".join(said)
    return "the parameter gets a gradient" if count == 1 else f"all {count} parameters get gradients"
