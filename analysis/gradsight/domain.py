"""The vocabulary of gradient flow: edges, three-valued reaches, and how they join.

A value's gradient is traced along edges. An edge says what one operation does to the gradient of one of its
arguments. Never-depended (`NONE`) is not cut: `x / x.size(0)` loses nothing.
"""

from __future__ import annotations

import enum


class Edge(enum.Enum):
    """What an operation does to the gradient of one argument."""

    NONE = "none"  # only shape, dtype or device is used: no dependency at all
    LIVE = "live"  # the gradient passes
    ZERO = "zero"  # the graph stays whole, the gradient is identically zero (round, floor, sign)
    CUT = "cut"  # the numbers pass, the graph ends
    UNKNOWN = "unknown"  # code that cannot be seen: anything may happen
