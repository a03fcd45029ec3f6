"""The words for a numerical check of an autograd.Function: beside its class, and in one sentence.

Invariants: pure; a label begins with a symbol, for colour is never alone.
"""

from __future__ import annotations

from typing import Any

from gradsight.probing import checkable
from gradsight.text import Source

from gradsight_server.wording import LABEL_LIMIT, RANK, SYMBOLS, Item

_STATES = {"agree": ("●", "live"), "differ": ("✗", "cut"), "unknown": (SYMBOLS["constant"], "constant")}


def of_check(checked: dict[str, Any], source: Source) -> list[Item]:
    """What is shown at the class; `checked` is what the probe reports. Nothing where the class is gone."""
    at = next((each.where for each in checkable(source) if each.name == checked["name"]), None)
    if at is None:
        return []
    symbol, state = _STATES[checked["state"]]
    said = f"{symbol} {verdict(checked)}"
    label = (said if len(said) <= LABEL_LIMIT else said[: LABEL_LIMIT - 1].rstrip() + "…",)
    return [Item(source.row_column(at.start)[0], state, label, label, (_explained(checked),), RANK[state])]


def verdict(checked: dict[str, Any]) -> str:
    """One line: whether the gradients agree, where they differ most, or why nobody knows."""
    worst = checked["worst"]
    if checked["state"] == "agree":
        return f"gradients agree for {', '.join(map(_input, checked['inputs']))}"
    if checked["state"] == "unknown":
        return f"gradients not checked: {_why(checked)[0]}"
    if worst is None:
        return f"gradients differ: {checked['reason']}"
    analytic, numeric = (_number(worst[kind]) for kind in ("analytic", "numeric"))
    where = _input({"index": worst["input"], "name": worst["name"]})
    return f"gradients differ: analytic {analytic}, numeric {numeric} for {where}"


def _explained(checked: dict[str, Any]) -> str:
    """The tooltip: what was compared, what to do."""
    name, worst = checked["name"], checked["worst"]
    if checked["state"] == "unknown":
        return "\n\n".join((f"`{name}`: {_why(checked)[0]}.", _why(checked)[1]))
    how = (
        f"`torch.autograd.gradcheck` ran `{name}` in double precision on inputs that this program gives "
        f"`{name}.apply`, and compared what `backward` returns with differences of `forward`."
    )
    if checked["state"] == "agree":
        return f"`{name}.backward` is the derivative of its `forward`.\n\n{how}"
    mend = (
        "Mend `backward`, unless it is meant to be another function's derivative, as in a straight-through "
        "estimator or a gradient reversal."
    )
    if worst is None:
        return f"{checked['reason']}\n\n{how}\n\n{mend}"
    of = "a weighted sum of the outputs" if worst["weighted"] else "the sum of the outputs"
    element = f"{worst['name'] or 'input'}[{', '.join(map(str, worst['element']))}]"
    gives = "returns None, which counts as 0" if worst["none"] else f"says {_number(worst['analytic'])}"
    where = f"Of {of} by `{element if worst['element'] else worst['name'] or 'input'}`, `backward` {gives}"
    return f"{where}; the numerical derivative is {_number(worst['numeric'])}.\n\n{mend}\n\n{how}"


def _why(checked: dict[str, Any]) -> tuple[str, str]:
    """Why nothing was compared, and what to do."""
    name, reason = checked["name"], checked["reason"]
    if reason == "no call":
        return (
            f"`{name}.apply` is not called when this file runs",
            "Its inputs are taken from a call: let the file call it once, with tensors that require a "
            'gradient, in a script or under `if __name__ == "__main__":`, and check again.',
        )
    if reason == "no gradient":
        return (
            f"no input of `{name}.apply` requires a gradient",
            "Only inputs that the program differentiates are compared: give it one that requires a gradient.",
        )
    if reason == "time":
        return (
            "the time limit was over",
            "Raise the setting gradsight.probe.timeout, or let the file call it on smaller inputs.",
        )
    return str(reason), "The comparison needs double precision: float32 is too coarse for differences."


def _input(each: dict[str, Any]) -> str:
    return f"input {each['index']}" + (f" `{each['name']}`" if each["name"] else "")


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
