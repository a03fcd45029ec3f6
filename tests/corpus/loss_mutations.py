"""Mistakes in what a loss is given: a sigmoid, a softmax, a dtype, a shape too many or too few.

As in `mutations.py`, a place fits by what the script did there. A regression, which most scripts have, is
first given a loss for which the mistake can be made: `Mutant.good` is then the program that the mutant is
compared with.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from corpus.mutations import CLOSE, OPEN, Mutant, Mutator, Pieces, compose
from corpus.sites import Script, Site

_F = "torch.nn.functional"


def sigmoid(script: Script) -> Iterator[Mutant]:
    """GS304: a sigmoid before a loss that has its own, and none before one that has not."""
    for site, given, _ in _losses(script, "bce logits"):
        start, end = script.span(given)
        text = f"{OPEN}torch.sigmoid({script.source(given)}){CLOSE}"
        yield compose(script, "GS304", "one too many", [(start, end, text)])
        yield from _before(script, site, (start, end), "GS304", "torch.sigmoid({})", "Sigmoid()")
    for _, given, _ in _losses(script, "bce"):
        if isinstance(given, ast.Call) and "sigmoid" in script.source(given.func) and given.args:
            inner = f"{OPEN}{script.source(given.args[0])}{CLOSE}"
            yield compose(script, "GS304", "none", [(*script.span(given), inner)])
    for site, given, target in _losses(script, "regression"):
        scores, wanted = script.source(given), f"(({script.source(target)}) > 0).float()"
        whole = script.span(site.node)

        def loss(name: str, prediction: str, wanted: str = wanted, whole: tuple[int, int] = whole) -> Pieces:
            return [(*whole, f"{_F}.{name}({prediction}, {wanted})")]

        logits = "binary_cross_entropy_with_logits"
        marked = f"{OPEN}torch.sigmoid({scores}){CLOSE}"
        yield compose(script, "GS304", "two sigmoids", loss(logits, marked), good=loss(logits, scores))
        made: Pieces = [(*whole, f"torch.nn.BCEWithLogitsLoss()({OPEN}{scores}{CLOSE}, {wanted})")]
        yield from _before(script, site, whole, "GS304", "torch.sigmoid({})", "Sigmoid()", made)
        if "raw" in site.flags:
            right = loss("binary_cross_entropy", f"torch.sigmoid({scores})")
            bare = loss("binary_cross_entropy", f"{OPEN}{scores}{CLOSE}")
            yield compose(script, "GS304", "no sigmoid", bare, good=right)


def softmax(script: Script) -> Iterator[Mutant]:
    """GS302: a softmax before a cross entropy that a regression has become."""
    for whole, scores, classes, site in _as_classes(script):
        form = f"{_F}.cross_entropy({{}}, {classes})"
        good: Pieces = [(*whole, form.format(scores))]
        for style, text in (
            ("function", "torch.softmax({}, dim=1)"),
            ("module", "torch.nn.Softmax(dim=1)({})"),
        ):
            bad: Pieces = [(*whole, form.format(f"{OPEN}{text.format(scores)}{CLOSE}"))]
            yield compose(script, "GS302", f"regression: {style}", bad, good=good)
        made: Pieces = [(*whole, f"torch.nn.CrossEntropyLoss()({OPEN}{scores}{CLOSE}, {classes})")]
        yield from _before(script, site, whole, "GS302", "torch.softmax({}, dim=1)", "Softmax(dim=1)", made)


def one_hot(script: Script) -> Iterator[Mutant]:
    """GS301: one-hot targets, of a cross entropy that a regression has become."""
    for whole, scores, classes, _ in _as_classes(script):
        for style, name, prediction in (
            ("cross entropy", "cross_entropy", scores),
            ("nll", "nll_loss", f"{_F}.log_softmax({scores}, dim=1)"),
        ):
            form = f"{_F}.{name}({prediction}, {{}})"
            good: Pieces = [(*whole, form.format(classes))]
            bad: Pieces = [(*whole, form.format(f"{OPEN}{_F}.one_hot({classes}){CLOSE}"))]
            yield compose(script, "GS301", f"regression: {style}", bad, good=good)


def target_dtype(script: Script) -> Iterator[Mutant]:
    """GS305: a target of a dtype that the loss refuses."""
    for site, _, target in (*_losses(script, "cross entropy"), *_losses(script, "nll")):
        if "indices" in site.flags:
            for cast in ("float()", "int()"):
                marked = f"{OPEN}{_receiver(script, target)}.{cast}{CLOSE}"
                yield compose(script, "GS305", cast, [(*script.span(target), marked)])
    for kind in ("bce", "bce logits"):
        for _, _, target in _losses(script, kind):
            marked = f"{OPEN}{_receiver(script, target)}.long(){CLOSE}"
            yield compose(script, "GS305", "long()", [(*script.span(target), marked)])
    for site, given, target in _losses(script, "regression"):
        scores, wanted = script.source(given), f"(({script.source(target)}) > 0)"
        for style, name in (
            ("binary", "binary_cross_entropy_with_logits"),
            ("huber", "huber_loss"),
        ):
            text = f"{_F}.{name}({scores}, {{}})"
            marked = text.format(f"{OPEN}{wanted}.long(){CLOSE}")
            right = text.format(f"{wanted}.float()")
            yield compose(
                script,
                "GS305",
                style,
                [(*script.span(site.node), marked)],
                good=[(*script.span(site.node), right)],
            )


def broadcast(script: Script) -> Iterator[Mutant]:
    """GS306: one side of a loss has a dimension of size 1 more than the other."""
    for site, given, target in _losses(script, "regression"):
        marks: Pieces = [(site.start, site.start, OPEN), (site.end, site.end, CLOSE)]
        for side, one in (("prediction", given), ("target", target)):
            written, span = script.source(one), script.span(one)
            receiver = _receiver(script, one)
            squeezed = re.search(r"\.(squeeze|flatten|view|reshape)\((-1|1|)\)$", written)
            grown = re.search(r"\.unsqueeze\((-1|1)\)$", written)
            if squeezed and "flat" in site.flags:
                dropped = (*span, written[: squeezed.start()])
                yield compose(script, "GS306", f"squeeze dropped: {side}", [dropped, *marks])
            elif "flat" in site.flags:
                for more in ("unsqueeze(1)", "view(-1, 1)"):
                    text = (*span, f"{receiver}.{more}")
                    yield compose(script, "GS306", f"{more}: {side}", [text, *marks])
            if grown and "column" in site.flags:
                dropped = (*span, written[: grown.start()])
                yield compose(script, "GS306", f"unsqueeze dropped: {side}", [dropped, *marks])
            elif "column" in site.flags:
                for less in (".squeeze(1)", ".view(-1)", "[:, 0]"):
                    text = (*span, f"{receiver}{less}")
                    yield compose(script, "GS306", f"{less}: {side}", [text, *marks])
        if site.flags & {"rows", "more"}:
            yield from _reduced(script, site, given, target)
    for site, given, target in (*_losses(script, "bce"), *_losses(script, "bce logits")):
        if site.flags & {"flat", "column"}:
            less = ".unsqueeze(1)" if "flat" in site.flags else ".squeeze(1)"
            span = script.span(given)
            edits: Pieces = [
                (*script.span(target), f"{_receiver(script, target)}{less}"),
                (span[0], span[0], OPEN),
                (span[1], span[1], CLOSE),
            ]
            yield compose(script, "GS306", "of a binary target", edits)
    for site, given, target in (*_losses(script, "cross entropy"), *_losses(script, "nll")):
        if "indices" in site.flags:
            grown_target = f"{OPEN}{_receiver(script, target)}.unsqueeze(1){CLOSE}"
            yield compose(script, "GS306", "indices in a column", [(*script.span(target), grown_target)])
            yield from _one_output(script, site, given)


def _reduced(script: Script, site: Site, given: ast.expr, target: ast.expr) -> Iterator[Mutant]:
    """Rows made to one number each, on one side with the dimension kept; by a loss, and by hand.

    A difference by hand of sums over rows is how the distances of every pair are written: no mistake is seen
    in that, and none is put in.
    """
    whole = script.span(site.node)
    rows = "" if "rows" in site.flags else ".flatten(1)"
    one, two = (f"{_receiver(script, side)}{rows}" for side in (given, target))
    own = script.source(site.node.func) + "({}, {})"  # type: ignore[attr-defined]
    for style, form, kept, dropped in (
        ("mean", own, ".mean(dim=1, keepdim=True)", ".mean(dim=1)"),
        ("part", own, "[:, :1]", "[:, 0]"),
        ("part by hand", "(({} - {}) ** 2).mean()", "[:, :1]", "[:, 0]"),
        (
            "part, binary",
            f"{_F}.binary_cross_entropy_with_logits({{}}, ({{}} > 0).float())",
            "[:, :1]",
            "[:, 0]",
        ),
    ):
        good: Pieces = [(*whole, form.format(one + kept, two + kept))]
        for which, sides in (
            ("target", (one + kept, two + dropped)),
            ("prediction", (one + dropped, two + kept)),
        ):
            bad: Pieces = [(*whole, f"{OPEN}{form.format(*sides)}{CLOSE}")]
            yield compose(script, "GS306", f"{style}: {which}", bad, good=good)


def _one_output(script: Script, site: Site, given: ast.expr) -> Iterator[Mutant]:
    """The layer that gives the scores of the classes has one output."""
    start, end = script.span(given)
    for call in script.sites:
        if call.number not in site.arrived or "module" not in call.flags:
            continue
        layer = script.source(call.node.func) if isinstance(call.node, ast.Call) else ""
        for node in ast.walk(script.tree):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Call)
                and ast.unparse(node.targets[0]) == layer
                and script.source(node.value.func).rpartition(".")[2] in ("Linear", "Conv2d")
                and len(node.value.args) >= 2
            ):
                pieces: Pieces = [
                    (*script.span(node.value.args[1]), "1"),
                    (start, start, OPEN),
                    (end, end, CLOSE),
                ]
                yield compose(script, "GS306", "one output", pieces)


def other_criterion(script: Script) -> Iterator[Mutant]:
    """GS308: sides exchanged, a divergence of what is no log-probability."""
    for site, given, target in (
        each
        for kind in ("cross entropy", "nll", "bce", "bce logits", "kl div")
        for each in _losses(script, kind)
    ):
        first = (*script.span(given), f"{OPEN}{script.source(target)}{CLOSE}")
        second = (*script.span(target), script.source(given))
        yield compose(script, "GS308", "exchanged", [first, second])
        if "kl div" in site.flags and "log_softmax" in script.source(given):
            dropped = script.source(given).replace("log_softmax", "softmax")
            yield compose(script, "GS308", "no logarithm", [(*script.span(given), f"{OPEN}{dropped}{CLOSE}")])
        moved = re.search(r"\.(transpose\(1, 2\)|permute\(0, 2, 1\))$", script.source(given))
        if moved and "cross entropy" in site.flags:
            bare = script.source(given)[: moved.start()]
            yield compose(script, "GS308", "classes last", [(*script.span(given), f"{OPEN}{bare}{CLOSE}")])
    for site, given, target in _losses(script, "regression"):
        if not site.flags & {"rows", "more"}:
            continue
        whole, scores, wanted = script.span(site.node), script.source(given), script.source(target)
        log = f"{_F}.log_softmax({{}}, dim=-1)"
        plain = f"{_F}.softmax({{}}, dim=-1)"
        text = f'{_F}.kl_div({OPEN}{{}}{CLOSE}, {{}}, reduction="batchmean")'
        right = (log.format(scores), plain.format(wanted))
        good: Pieces = [(*whole, text.format(*right).replace(OPEN, "").replace(CLOSE, ""))]
        for style, sides in (
            ("divergence of probabilities", (plain.format(scores), right[1])),
            ("divergence of scores", (scores, right[1])),
            ("divergence exchanged", (right[1], right[0])),
        ):
            if style == "divergence of scores" and "raw" not in site.flags:
                continue
            yield compose(script, "GS308", style, [(*whole, text.format(*sides))], good=good)


MUTATORS: tuple[Mutator, ...] = (sigmoid, softmax, one_hot, target_dtype, broadcast, other_criterion)


# Where things stand.


def _losses(script: Script, kind: str) -> Iterator[tuple[Site, ast.expr, ast.expr]]:
    """The calls of a kind of criterion, with both sides."""
    for site in script.sites:
        if kind in site.flags and isinstance(site.node, ast.Call) and len(site.node.args) >= 2:
            yield site, site.node.args[0], site.node.args[1]


def _as_classes(script: Script) -> Iterator[tuple[tuple[int, int], str, str, Site]]:
    """Regressions on (N, K) and more, that a cross entropy over K classes can stand for: the span, the scores
    and the indices of the classes."""
    for site, given, target in _losses(script, "regression"):
        if site.flags & {"rows", "more"}:
            classes = f"{_receiver(script, target)}.argmax(dim=1)"
            yield script.span(site.node), script.source(given), classes, site


def _before(
    script: Script,
    loss: Site,
    place: tuple[int, int],
    rule: str,
    function: str,
    layer: str,
    instead: Pieces | None = None,
) -> Iterator[Mutant]:
    """What comes into a loss goes through a function where it is returned, or one layer more.

    `instead`: the loss that stands there, with its own mark; else the `place` in it is marked.
    """
    marks: Pieces = instead or [(place[0], place[0], OPEN), (place[1], place[1], CLOSE)]
    good: Pieces | None = [(*place, instead[0][2].replace(OPEN, "").replace(CLOSE, ""))] if instead else None
    for site in script.sites:
        if site.number not in loss.arrived or (site.start < place[1] and place[0] < site.end):
            continue
        if isinstance(script.parents[site.node], ast.Return):
            inner = (site.start, site.end, function.format(script.source(site.node)))
            yield compose(script, rule, "returned", [inner, *marks], good=good)
        if isinstance(site.node, ast.Call) and script.source(site.node.func).endswith("Sequential"):
            if site.node.args and not site.node.keywords:
                prefix = script.source(site.node.func).removesuffix("Sequential")
                last = script.span(site.node.args[-1])[1]
                yield compose(script, rule, "layer", [(last, last, f", {prefix}{layer}"), *marks], good=good)


def _receiver(script: Script, node: ast.expr) -> str:
    source = script.source(node)
    return f"({source})" if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Compare)) else source
