"""Why somebody may mean what a rule speaks of, in the words of the comment that silences it.

A reason is what a reader of the code needs to know, not what the rule says. Rules that speak only where the
program raises have none: nobody means that.
"""

from __future__ import annotations

from gradsight.finding import Finding, Severity

_NO_GRADIENT = "what is computed from it needs no gradient"
_CHANGED = "autograd does not need the old numbers"
_ELSEWHERE = "other code takes care of it"

REASONS: dict[str, str] = {
    "GS101": _NO_GRADIENT,
    "GS102": _NO_GRADIENT,
    "GS103": "this is a number, not a part of what is learnt",
    "GS104": _NO_GRADIENT,
    "GS105": "this part stays frozen",
    "GS107": "the gradient ends here",
    "GS108": "a new leaf, whose own gradient is wanted",
    "GS109": "nothing behind this trains",
    "GS110": "both sides learn",
    "GS201": "each backward pass adds its own gradients",
    "GS203": "gradients of several steps are added up",
    "GS204": "these gradients are not stepped with",
    "GS205": f"the gradients are there already, {_ELSEWHERE}",
    "GS206": "the method itself is meant, not its result",
    "GS208": "the graph of earlier steps is needed",
    "GS209": "gradients flow through all steps",
    "GS210": _ELSEWHERE,
    "GS211": "these parameters stay as they are",
    "GS212": f"another optimizer's step is meant, {_ELSEWHERE}",
    "GS213": "the gradients are clipped for what reads them here",
    "GS214": "the scaled gradients are meant",
    "GS301": "the target is a distribution",
    "GS302": "the loss is meant on probabilities",
    "GS303": "the expected error is meant, not the likelihood",
    "GS304": "the scores are squashed twice",
    "GS305": "the target's dtype is right for what runs here",
    "GS306": "every pair is compared",
    "GS307": "the input never gets there",
    "GS308": "the arguments are in the order that is meant",
    "GS309": "this is measured, not learnt from",
    "GS401": "a constant, which neither learns nor moves",
    "GS402": "these modules stay as they are",
    "GS403": "these parameters stay as they are",
    "GS404": "the value is meant, not the parameter",
    "GS405": "a fixed random projection",
    "GS406": "the module stays on its device",
    "GS407": _ELSEWHERE,
    "GS501": _CHANGED,
    "GS502": _CHANGED,
    "GS503": "the gradient passes as if nothing had been written",
    "GS601": "the layers keep their statistics",
    "GS602": "dropout and batch statistics are wanted here",
    "GS701": "the gradient is meant to be another function's",
    "GS702": "the hook only looks",
    "GS703": "the gradient is used as a number",
    "GS704": "the segment has nothing that learns",
}


def reason(finding: Finding) -> str | None:
    """Why it may be meant; None where it surely raises, or the finding is no rule's."""
    return None if finding.severity is Severity.ERROR else REASONS.get(finding.code)
