"""What a person reads beside the lines of a probed program: labels, tooltips, one sentence.

    view = to_view(result, source, file)     # `source`: the whole text that the program was taken from
    placed = view_at(view, source_now)       # Placed(stale, rows): spans in `source_now`

    view.summary      "3 of 12 parameters get no gradient"
    view.error        Problem(message, row) | None      (row: 0-based in the text that ran)
    view.device, view.torch, view.parameters (Reached(name, gradient, norm))
    row.span, row.label, row.state, row.tooltip

Invariants: pure; all words for people are made here; labels begin with a symbol, for colour is never alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradsight.text import Source, Span

from gradsight_server.probe import ProbeResult


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


@dataclass(frozen=True, slots=True)
class View:
    """One run as it is shown beside the text that it ran on."""

    source: Source
    summary: str
    device: str | None
    torch: str | None
    error: Problem | None
    rows: tuple[Row, ...]
    parameters: tuple[Reached, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """A view beside a later text: `stale` if its code is another, rows that moved with it."""

    stale: bool
    rows: tuple[Row, ...]


def to_view(result: ProbeResult, source: Source, file: str) -> View:
    """`file`: the request's `filename`."""
    return View(source, "", result.device, result.torch, None, (), ())


def view_at(view: View, source: Source) -> Placed:
    """The view's rows in a later text."""
    return Placed(view.source.text != source.text, view.rows)
