"""Whether a mutant is a mistake, by torch, and how loud the analysis should be about it, by the policy.

A mutant is *confirmed* if it raises for the gradient's sake, or some gradient, loss or parameter differs
from the good script's by more than 1e-3. It is *wanted* if the policy speaks: what raises is an error; what
takes the gradient from a parameter that had one, a softmax or a missing logarithm before a loss, and a term
of the loss that became a constant are warnings; a part that looks frozen on purpose is an information. What
is done in the wrong order, given to the wrong loss, not registered or run in the wrong mode is a warning
(`PROTOCOL`), whatever it changes. A cut that leaves every parameter some gradient is not wanted. Nor is one
in a branch of a setting, where the other branch computes the same without it: `if self.freeze:` before a
detached call reads just so, and the policy is silent. A mutant that raises for another reason (a shape, a
type) never fitted: it is a *misfit* and counts nowhere.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness import truth

from corpus.mutations import Mutant
from corpus.sites import Script

DIFFERS = 1e-3
NOTHING = 1e-6  # of the gradient's norm in the good script

RAISES_FOR_IT = re.compile(
    r"does not require grad|element 0 of tensors|backward through the graph a second time|"
    r"implicitly created only for scalar|Can't call numpy\(\)|object has no attribute 'backward'|"
    r"modified by an inplace operation|a leaf Variable that requires grad|"
    r"appears to not have been used in the graph|multi-target not supported|"
    r"target with class probabilities|only batches of spatial targets|empty parameter list|"
    r"(sum|mean|std)\(\) got an unexpected keyword argument 'axis'|"  # numpy's function on a tensor
    r"can't optimize a non-leaf Tensor|already been called since the last update|No inf checks were recorded"
)

# How torch refuses what a loss is given: dtypes, shapes, values out of range.
REFUSES = re.compile(
    r"elements of (input|target) should be between 0 and 1|[Ff]ound dtype|but got (Float|Int|Double|Long)|"
    r"can't be cast to the desired output type|must be the same as input size|Expected target size|"
    r"Integral inputs not supported|not implemented for|with two bool tensors|size mismatch|"
    r"Expected floating point type|expected scalar type|Expected input batch_size|0D or 1D target|"
    r"is different to the input size|out of bounds|not support|multi-target"
)

# How loud, at least, where it is enough that something changes; what surely raises is an error.
PROTOCOL = {
    "GS108": "warning",
    "GS109": "warning",
    "GS110": "hint",
    "GS203": "warning",
    "GS204": "warning",
    "GS205": "warning",
    "GS206": "warning",
    "GS207": "error",
    "GS208": "hint",
    "GS209": "warning",
    "GS210": "warning",
    "GS211": "warning",
    "GS212": "warning",
    "GS213": "warning",
    "GS214": "warning",
    "GS304": "warning",
    "GS305": "error",
    "GS306": "warning",
    "GS307": "warning",
    "GS308": "warning",
    "GS309": "information",
    "GS402": "warning",
    "GS403": "warning",
    "GS404": "warning",
    "GS405": "warning",
    "GS406": "information",
    "GS407": "warning",
    "GS501": "error",
    "GS502": "error",
    "GS503": "warning",
    "GS601": "warning",
    "GS602": "warning",
    "GS701": "warning",
    "GS702": "warning",
}

# How torch refuses an autograd.Function whose backward does not fit.
UNFIT = re.compile(
    r"incorrect number of gradients|not enough values to unpack|can only save variables|"
    r"Legacy autograd function"
)

CUTS = frozenset({"GS101", "GS102", "GS103", "GS104", "GS105", "GS107"})

# What a state that is carried on with its graph leads to.
STATE_RAISES = re.compile(r"backward through the graph a second time|modified by an inplace operation")

# Backward ran, and then there was nothing to clip.
NOTHING_TO_CLIP = "nested_tensorlist[0].empty()"

Kind = Literal["wanted", "memory", "not wanted", "not confirmed", "misfit"]


@dataclass(frozen=True)
class Verdict:
    """What torch says about a mutant."""

    mutant: Mutant
    kind: Kind
    severity: str | None  # wanted
    said: str


def judge(script: Script, mutants: Sequence[Mutant]) -> list[Verdict]:
    """Run a script's mutants and say what they are, in their order."""
    file = script.program.file
    rights = list(dict.fromkeys(each.good for each in mutants if each.good))
    judged = [each for each in mutants if each.rule != "GS208"]
    texts = [*rights, *(each.text for each in judged)]
    shots = truth.snapshots([truth.Run(text, (), file) for text in texts])
    good = {"": script.snapshot, **dict(zip(rights, shots, strict=False))}
    verdicts = {
        mutant.text: _verdict(mutant, good[mutant.good], shot)
        for mutant, shot in zip(judged, shots[len(rights) :], strict=True)
    }
    verdicts |= _memory(file, [each for each in mutants if each.rule == "GS208"])
    cuts = {each.mutant.place: each for each in verdicts.values() if each.mutant.style == "detach"}
    judged_ = [_as_the_cut(verdicts[each.text], cuts.get(each.place)) for each in mutants]
    return [_by_a_setting(script, each) if each.mutant.rule in CUTS else each for each in judged_]


_METER = f"import sys; sys.path.append({str(Path(__file__).parent)!r}); import graph_meter; sys.path.pop()\n"


def _memory(file: str, mutants: Sequence[Mutant]) -> dict[str, Verdict]:
    """What only memory shows: from step to step more of the graph stays alive than in the right program."""
    fact = "sys.modules['graph_meter'].grows()"
    runs = []
    for each in mutants:
        # Behind the docstring and `from __future__`, which must come first.
        future = max(
            (
                node.lineno
                for node in ast.parse(each.text).body
                if isinstance(node, ast.ImportFrom) and node.module == "__future__"
            ),
            default=0,
        )
        lines = each.text.splitlines(keepends=True)
        runs.append(truth.Run("".join([*lines[:future], _METER, *lines[future:]]), (fact,), file))
    found: dict[str, Verdict] = {}
    for mutant, outcome in zip(mutants, truth.run_many(runs), strict=True):
        grows = any(each.holds for each in outcome.facts)
        if outcome.error:
            found[mutant.text] = Verdict(mutant, "misfit", None, f"raises {outcome.error}")
        else:
            said = "the graph stays alive" if grows else "nothing stays alive"
            found[mutant.text] = Verdict(
                mutant, "memory" if grows else "not confirmed", PROTOCOL["GS208"] if grows else None, said
            )
    return found


def _as_the_cut(verdict: Verdict, cut: Verdict | None) -> Verdict:
    """What has no derivative loses what `.detach()` loses in the same place.

    That its values are other ones, often all zero, may take the gradient from what comes behind, too, or
    raise there: that is no fault of the way.
    """
    if verdict.mutant.rule != "GS107" or cut is None or verdict.kind == "not confirmed":
        return verdict
    said = f"{verdict.said}; detached: {cut.said}"
    # Only a receiver of `.detach()` looks frozen on purpose.
    severity = "warning" if cut.severity == "information" else cut.severity
    return replace(verdict, kind=cut.kind, severity=severity, said=said)


def _by_a_setting(script: Script, verdict: Verdict) -> Verdict:
    """A cut that one branch of a setting makes, where the other branch binds the same name without it."""
    if verdict.kind != "wanted" or not verdict.mutant.edits:
        return verdict
    offset = max(start for start, _, _ in verdict.mutant.edits)
    offset += len(script.text[offset:]) - len(script.text[offset:].lstrip())  # a whole line is replaced
    around = [
        node
        for node in ast.walk(script.tree)
        if isinstance(node, ast.stmt) and script.span(node)[0] <= offset <= script.span(node)[1]
    ]
    statement = max(around, key=lambda node: script.span(node)[0], default=None)
    if not isinstance(statement, (ast.Assign, ast.AugAssign)):
        return verdict
    names = _bound([statement])
    node: ast.AST = statement
    while not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
        inner, node = node, script.parents[node]
        if isinstance(node, ast.If) and _is_setting(node.test):
            other = node.orelse if inner in node.body else node.body
            if names <= _bound(other):
                return replace(verdict, kind="not wanted", severity=None, said=f"a setting: {verdict.said}")
    return verdict


def _is_setting(test: ast.expr) -> bool:
    """Whether a test reads one setting: `self.fused`, `not use_lu`, `kind == "max"`; no `is None`."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _is_setting(test.operand)
    if isinstance(test, ast.Compare):
        texts = all(
            isinstance(each, ast.Constant) and isinstance(each.value, str) for each in test.comparators
        )
        return texts and _is_setting(test.left)
    return isinstance(test, (ast.Name, ast.Attribute))


def _bound(statements: Sequence[ast.stmt]) -> set[str]:
    """The names and attributes that statements assign to."""
    return {
        ast.unparse(part)
        for statement in statements
        for node in ast.walk(statement)
        for target in (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AugAssign)
            else []
        )
        for part in (target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target])
    }


def _verdict(mutant: Mutant, good: truth.Snapshot, bad: truth.Snapshot) -> Verdict:
    error = bad.error
    if good.error is not None:
        return Verdict(mutant, "misfit", None, f"the right program raises {good.error}")
    if mutant.rule in PROTOCOL:
        return _protocol_verdict(mutant, good, bad)
    if error is not None and RAISES_FOR_IT.search(error.text):
        if mutant.at_raise:
            placed = _backward_at(mutant, error.row)
            if placed is None:
                return Verdict(mutant, "misfit", None, f"raises elsewhere: {error}")
            mutant = placed
        return Verdict(mutant, "wanted", "error", f"raises {error}")
    if mutant.at_raise:
        return Verdict(
            mutant, "misfit" if error else "not confirmed", None, f"raises {error}" if error else "runs"
        )
    lost = _lost(good, bad)
    if error is not None and not ((bad.steps and lost) or NOTHING_TO_CLIP in error.text):
        return Verdict(mutant, "misfit", None, f"raises {error}")
    differences = truth.compare(good, bad, DIFFERS)
    if not differences:
        return Verdict(mutant, "not confirmed", None, "same gradients, losses and parameters")
    if lost:
        names = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        return Verdict(
            mutant,
            "wanted",
            "information" if len(lost) <= mutant.frozen else "warning",
            f"no gradient: {names}",
        )
    if mutant.rule in ("GS302", "GS303"):
        return Verdict(mutant, "wanted", "warning", differences[0])
    if mutant.term:
        return Verdict(mutant, "wanted", "warning", f"a term is a constant: {differences[0]}")
    return Verdict(mutant, "not wanted", None, f"every parameter has a gradient: {differences[0]}")


def _protocol_verdict(mutant: Mutant, good: truth.Snapshot, bad: truth.Snapshot) -> Verdict:
    words = {"GS3": REFUSES, "GS701": UNFIT}
    refuses = words.get(mutant.rule[:3]) or words.get(mutant.rule)
    refused = refuses is not None and bad.error is not None and refuses.search(bad.error.text)
    if bad.error is not None and not refused and not RAISES_FOR_IT.search(bad.error.text):
        return Verdict(mutant, "misfit", None, f"raises {bad.error}")
    if mutant.rule in ("GS207", "GS209", "GS109") and bad.error is None:
        return Verdict(mutant, "not confirmed", None, "runs")
    if mutant.rule == "GS502" and bad.error is None and truth.compare(good, bad, DIFFERS):
        # Another name of the same memory has other numbers now: no gradient is asked of the old ones.
        return Verdict(mutant, "not wanted", None, "another name of it has changed, too")
    if mutant.rule == "GS209" and bad.error is not None and not STATE_RAISES.search(bad.error.text):
        return Verdict(mutant, "misfit", None, f"that was no state: raises {bad.error}")
    differences = truth.compare(good, bad, DIFFERS)
    if mutant.rule == "GS406" and not differences:
        return Verdict(mutant, "memory", PROTOCOL["GS406"], "the same on a CPU")
    if mutant.rule == "GS602":
        differences += _other_numbers(good, bad)
    if not differences:
        return Verdict(mutant, "not confirmed", None, "same gradients, losses and parameters")
    said = f"raises {bad.error}" if bad.error else differences[0]
    least = mutant.severity or PROTOCOL[mutant.rule]
    if mutant.rule == "GS309" and least == "information" and _lost(good, bad):
        least = "warning"  # a part that only this term trains
    return Verdict(mutant, "wanted", least, said)


def _other_numbers(good: truth.Snapshot, bad: truth.Snapshot) -> list[str]:
    """Numbers that the two programs end with, where they differ: a measure, a loss on held-out data."""
    return [
        f"{name}: {value} | {bad.numbers[name]}"
        for name, value in good.numbers.items()
        if name in bad.numbers and not math.isclose(value, bad.numbers[name], rel_tol=DIFFERS, abs_tol=1e-9)
    ]


def _lost(good: truth.Snapshot, bad: truth.Snapshot) -> list[str]:
    """Parameters of which no step of an optimizer saw a gradient, although a step of the good script did."""
    before, after = _best(good), _best(bad)
    return [name for name, norm in before.items() if norm > 0 and after.get(name, 0.0) <= NOTHING * norm]


def _best(snapshot: truth.Snapshot) -> dict[str, float]:
    best: dict[str, float] = {}
    for step in snapshot.steps:
        for name, gradient in step.items():
            norm = gradient.norm if gradient is not None else 0.0
            best[name] = max(best.get(name, 0.0), norm if math.isfinite(norm) else math.inf)
    return best


def _backward_at(mutant: Mutant, row: int | None) -> Mutant | None:
    """The mutant with its place at the call of `backward` in a row."""
    lines = mutant.text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(mutant.text)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "backward"
        ):
            if node.lineno == row and node.end_col_offset is not None:
                offset = sum(map(len, lines[: row - 1]))
                line = lines[row - 1].encode()
                start = offset + len(line[: node.col_offset].decode())
                end = offset + len(line[: node.end_col_offset].decode())
                return replace(mutant, start=start, end=end)
    return None
