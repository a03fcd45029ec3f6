"""How loud: one table from what is known about a lost gradient to what is said.

| kind | what the analysis knows | severity |
|---|---|---|
| dead | the sink has no live source, or the statement surely raises | error |
| starved | something that must learn has no live way to any sink of the program | warning |
| term | an additive term of the loss depends on something that must learn and is wholly cut | warning |
| wrong | training runs but is surely wrong | warning |
| left | on another device than the CPU it raises, and nothing says that it ever runs there | information |
| part | a part of a source is cut while another way of the same source is live | information |
| frozen | a part that looks frozen on purpose, held by a blanket `model.parameters()` only | information |
| unused | a live term of a loss that is computed and reaches none, or counts twice | information |
| unstable | right on most inputs; inf or NaN on large ones | hint |
| stopless | a target or weight that learns along; authors disagree | hint |
| wasteful | right but wasteful | hint |
"""

from __future__ import annotations

from gradsight.finding import Severity

SEVERITY = {
    "dead": Severity.ERROR,
    "raises": Severity.ERROR,
    "starved": Severity.WARNING,
    "term": Severity.WARNING,
    "wrong": Severity.WARNING,
    "left": Severity.INFORMATION,
    "part": Severity.INFORMATION,
    "frozen": Severity.INFORMATION,
    "unused": Severity.INFORMATION,
    "unstable": Severity.HINT,
    "stopless": Severity.HINT,
    "wasteful": Severity.HINT,
}
