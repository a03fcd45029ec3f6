"""What the tests of the fixes share: places by their text, edits applied, programs run before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from gradsight.finding import Edit, apply
from gradsight.surgery import Refusal
from gradsight.text import Source, Span

Fixer = Callable[..., "tuple[Edit, ...] | Refusal"]


def place(text: str, quoted: str, nth: int = 0) -> Span:
    """The span of the nth occurrence of `quoted` in the text."""
    start = -1
    for _ in range(nth + 1):
        start = text.index(quoted, start + 1)
    return Span(start, start + len(quoted))


def fixed(text: str, answer: tuple[Edit, ...] | Refusal) -> str:
    assert not isinstance(answer, Refusal), answer.reason
    assert all(edit.file == "program.py" for edit in answer)
    return apply(Source("program.py", text).text, answer)


def fix(fixer: Fixer, text: str, quoted: str, *more: Any, nth: int = 0, **options: Any) -> str:
    """The text after the fixer's edits for the place that is quoted."""
    return fixed(text, fixer(Source("program.py", text), place(text, quoted, nth), *more, **options))


def refusal(fixer: Fixer, text: str, quoted: str, *more: Any, nth: int = 0, **options: Any) -> str:
    """The reason for which the fixer refuses."""
    answer = fixer(Source("program.py", text), place(text, quoted, nth), *more, **options)
    assert isinstance(answer, Refusal), apply(text, answer)
    return answer.reason


PREAMBLE = """\
import math
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Variable
torch.manual_seed(0)
"""


def run(text: str, *, preamble: str = PREAMBLE) -> dict[str, Any]:
    """The namespace of the program, run with one seed and one thread in this process."""
    torch.set_num_threads(1)
    space: dict[str, Any] = {"__name__": "program"}
    exec(compile(preamble + text, "program.py", "exec"), space)
    return space


def gradients(space: dict[str, Any], names: Sequence[str]) -> list[bool]:
    """Whether each named tensor got a gradient that is not zero everywhere."""
    return [space[name].grad is not None and bool(space[name].grad.abs().sum() > 0) for name in names]
