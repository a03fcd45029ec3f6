"""The vocabulary of gradient flow: edges, three-valued reaches, and how they combine.

A value's gradient is traced along edges. An edge says what one operation does to the gradient of one of its
arguments. Never-depended (`NONE`) is not cut: `x / x.size(0)` loses nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace


class Edge(enum.Enum):
    """What an operation does to the gradient of one argument."""

    NONE = "none"  # only shape, dtype or device is used: no dependency at all
    LIVE = "live"  # the gradient passes
    ZERO = "zero"  # the graph stays whole, the gradient is identically zero (round, floor, sign)
    CUT = "cut"  # the numbers pass, the graph ends
    UNKNOWN = "unknown"  # code that cannot be seen: anything may happen


# Every edge but NONE: along these a value depends on another, whatever is left of the gradient.
DEPENDING = (Edge.LIVE, Edge.CUT, Edge.ZERO, Edge.UNKNOWN)


class Tri(enum.IntEnum):
    """Three truth values; branches that disagree give `MAY`."""

    NO = 0
    MAY = 1
    MUST = 2


MOST_CAUSES = 8


@dataclass(frozen=True, slots=True)
class Reach:
    """What a value knows about one source.

    `live`: a way is left; `cut`: a way ends in an operation that autograd does not follow; `zero`: a way
    carries a gradient that is identically zero. `causes` are the graph nodes where ways were lost, most
    upstream first.
    """

    live: Tri = Tri.NO
    cut: Tri = Tri.NO
    zero: Tri = Tri.NO
    causes: tuple[int, ...] = ()
    unknown: bool = False

    @property
    def lost(self) -> Tri:
        """Cut or zero, as one field."""
        return max(self.cut, self.zero)

    @property
    def surely_live(self) -> bool:
        """A way is live whatever happens, and none is unknown."""
        return self.live is Tri.MUST and not self.unknown

    @property
    def dead(self) -> bool:
        """No way is left and one was surely lost."""
        return self.live is Tri.NO and self.lost is Tri.MUST and not self.unknown

    def along(self, edge: Edge, node: int) -> Reach | None:
        """This reach seen behind one more edge, that of `node`; None where there is no dependency."""
        if edge is Edge.LIVE:
            return self
        if edge is Edge.NONE:
            return None
        if edge is Edge.CUT:
            causes = self.causes if self.live is Tri.NO else (*self.causes, node)[:MOST_CAUSES]
            # All ways end here, also those that came through code that is not seen: nothing stays unknown.
            return Reach(Tri.NO, max(self.live, self.lost), Tri.NO, causes)
        if edge is Edge.ZERO:
            causes = self.causes if self.live is Tri.NO else (*self.causes, node)[:MOST_CAUSES]
            return Reach(Tri.NO, self.cut, max(self.live, self.zero), causes)
        may = min(Tri.MAY, max(self.live, self.lost))
        # Code that is not seen may pass on what is left or lose it; it brings nothing back.
        return Reach(min(may, self.live), may, Tri.NO, self.causes, self.unknown or self.live is not Tri.NO)


PASSING = Reach(live=Tri.MUST)


def both(a: Reach, b: Reach) -> Reach:
    """Two operands of one operation: the higher of each field."""
    if a is b:
        return a
    return Reach(
        max(a.live, b.live),
        max(a.cut, b.cut),
        max(a.zero, b.zero),
        _merge(a.causes, b.causes),
        a.unknown or b.unknown,
    )


def either(a: Reach | None, b: Reach | None) -> Reach:
    """Two branches: what is equal stays, else it may be. None: that branch does not depend on the source."""
    if a is None or b is None:
        one = a or b or Reach()
        return Reach(
            min(Tri.MAY, one.live), min(Tri.MAY, one.cut), min(Tri.MAY, one.zero), one.causes, one.unknown
        )
    if a == b:
        return a
    return replace(
        a,
        live=a.live if a.live is b.live else Tri.MAY,
        cut=a.cut if a.cut is b.cut else Tri.MAY,
        zero=a.zero if a.zero is b.zero else Tri.MAY,
        causes=_merge(a.causes, b.causes),
        unknown=a.unknown or b.unknown,
    )


def _merge(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if not b or a == b:
        return a
    return (*a, *(cause for cause in b if cause not in a))[:MOST_CAUSES]
