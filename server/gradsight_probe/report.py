"""What was recorded -> one entry per binding and per cut: its state, the row that is to blame, the reason.

Pure functions of the recorder's records. A state is what autograd itself said: `live`, `zero` and `nonfinite`
by the gradient that a hook received, `cut` where the graph ended on the way to something that a gradient was
asked of, `cut-upstream` for what descends from such a cut only, `constant` for what never depended on
anything that learns, or whose cut is not on the way to any backward.
"""

from __future__ import annotations

import math
from typing import Any

from .nodes import Cut, Node
from .record import Recorder


def lines(recorder: Recorder, file: str, rows: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Entries in the order of file and row; of `file` only those in `rows`."""
    anything = recorder.sinks == 0  # nobody asked for a gradient: then every cut counts
    entries: list[dict[str, Any]] = []
    cut_places: set[tuple[str, int]] = set()
    nodes = [recorder.confirmed.get(key, last) for key, last in list(recorder.last.items())]
    for node in nodes:
        if node.requires_grad and node.behind is not None and node.gradient is not None:
            if node.gradient.read() is None:
                node.behind.counts = True  # autograd reached it by no other way
                recorder.count(node.behind)
    for node in nodes:
        entry = _entry(recorder, node, anything)
        entries.append(entry)
        if entry["state"] == "cut":
            cut_places.add((node.site.file, node.site.row))
    for cut in list((recorder.seen_cuts if anything else recorder.cuts).values()):
        if cut.zero:
            entries.append(_cut_entry(cut, "zero"))
        elif (cut.counts or anything) and (cut.file, cut.row) not in cut_places:
            entries.append(_cut_entry(cut, "cut"))
    entries.sort(key=lambda entry: (entry["filename"] != file, entry["filename"], entry["row"]))
    if rows is not None:
        entries = [
            entry for entry in entries if entry["filename"] != file or rows[0] <= entry["row"] <= rows[1]
        ]
    return entries


def _place(file: str, row: int) -> dict[str, Any]:
    return {"filename": file, "row": row}


def _cut_entry(cut: Cut, state: str) -> dict[str, Any]:
    return {
        "filename": cut.file,
        "row": cut.row,
        "name": cut.op,
        "state": state,
        "cause": _place(cut.file, cut.row),
        "reason": cut.reason,
        "shape": list(cut.shape) if cut.shape is not None else None,
        "dtype": cut.dtype,
        "norm": None,
    }


def _entry(recorder: Recorder, node: Node, anything: bool) -> dict[str, Any]:
    norm = node.gradient.read() if node.gradient is not None else None
    state, cause, reason = _state(recorder, node, norm, anything)
    if state in ("cut", "cut-upstream"):
        norm = None
    return {
        "filename": node.site.file,
        "row": node.site.row,
        "name": node.name,
        "state": state,
        "cause": cause,
        "reason": reason,
        "shape": list(node.shape),
        "dtype": node.dtype,
        "norm": norm if norm is not None and math.isfinite(norm) else None,
    }


def _state(
    recorder: Recorder, node: Node, norm: float | None, anything: bool
) -> tuple[str, dict[str, Any] | None, str]:
    site = node.site
    if node.cuts:
        here = [cut for cut in node.cuts if (cut.file, cut.row) == (site.file, site.row)]
        cut = here[0] if here else node.cuts[0]
        cause = _place(cut.file, cut.row)
        if not node.fed and not anything:
            return "constant", cause, f"no backward depends on it ({cut.reason})"
        if not node.floating and not cut.counts and not anything:
            return "constant", cause, f"an index or a mask: {cut.reason}, and none is needed"
        if here:
            reason = cut.reason
            if node.requires_grad:
                reason += "; requires_grad on the copy does not bring the history back"
            return "cut", cause, reason
        return "cut-upstream", cause, f"cut at row {cut.row}: {cut.reason}"
    if not node.requires_grad:
        if node.tensor and node.floating and node.name.startswith("self.") and site.kind == "bind":
            return "constant", None, "a plain tensor that does not require grad: nothing learns it"
        return "constant", None, "does not depend on anything that requires grad"
    if norm is None:
        if node.behind is not None:
            cut = node.behind
            return (
                "live",
                _place(cut.file, cut.row),
                f"no gradient arrived: cut behind it, at row {cut.row}: {cut.reason}",
            )
        if recorder.sinks == 0:
            return "live", None, "requires grad; no backward ran"
        return "live", None, "requires grad, but no gradient arrived"
    if not math.isfinite(norm):
        return _nonfinite(recorder, node)
    if node.gradient is not None and node.gradient.zero:
        if node.behind_zero is not None:
            cut = node.behind_zero
            return "zero", _place(cut.file, cut.row), cut.reason
        return "zero", None, "a gradient arrived and is exactly zero"
    return "live", None, "a gradient arrived"


def _nonfinite(recorder: Recorder, node: Node) -> tuple[str, dict[str, Any] | None, str]:
    """To blame is what used the first value that got such a gradient: the last finite one before it."""
    for culprit in reversed(recorder.culprits):
        finite = [
            consumer
            for consumer in culprit.consumers
            if consumer.gradient is not None and _is_finite(consumer.gradient.read())
        ]
        last = max(
            finite, key=lambda consumer: consumer.gradient.order if consumer.gradient else 0, default=None
        )
        blamed = last or culprit
        place = _place(blamed.site.file, blamed.site.row)
        return "nonfinite", place, f"the gradient is not finite from row {blamed.site.row} on"
    return "nonfinite", None, "the gradient that arrived is not finite"


def _is_finite(norm: float | None) -> bool:
    return norm is not None and math.isfinite(norm)
