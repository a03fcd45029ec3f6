"""Places -> spans of text: the only room that turns what the interpreter noted into where it stands.

A place inside a call is looked up in the callee's summary, so that it is exact however the lines moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from gradsight.graph import Here, Place, There, Within
from gradsight.interpret.codec import Key
from gradsight.interpret.summary import Summary
from gradsight.interpret.world import World
from gradsight.linking import Linked
from gradsight.rule import Report
from gradsight.text import Source, Span

Bugs = Callable[[str, BaseException], None]
Said = TypeVar("Said")


class Spot(NamedTuple):
    """Where a place stands as long as nothing changes in what its root leads to, wherever the lines move."""

    owner: str  # the function that it stands in, or whatever else the root is called
    at: int  # the line, by its position in the function's region
    start: int  # offsets from the line's first character
    end: int


class Places:
    """The places of one version of one file. A place was met while reading a root."""

    def __init__(self, source: Source | Linked, world: World, report_bug: Bugs) -> None:
        self.source, self.world, self.report_bug = source, world, report_bug
        self._summaries: dict[tuple[Key, ...], Summary] = {}  # by the calls that lead to them

    def locate(self, place: Place, root: str) -> tuple[str, Here]:
        """The function that a place stands in, and where in it."""
        owner, place = self._inmost(place, root, [])
        assert not isinstance(place, There)
        return (place.owner, place.here) if isinstance(place, Within) else (owner, place)

    def _inmost(self, place: Place, owner: str, chain: list[Key]) -> tuple[str, Place]:
        """A place of `owner` with the calls that it lies in entered; `chain`, empty at first, holds them."""
        while isinstance(place, There):
            inner = self._inside(place, chain)
            owner = place.callee.fid
            assert inner is not None
            place = inner
        return owner, place

    def _inside(self, place: There, chain: list[Key]) -> Place | None:
        """Where a place inside a call stands in the callee; `chain` holds the calls before it, and grows."""
        way = (*chain, place.callee)
        summary = self._summaries.get(way)
        if summary is None:
            summary = self._summaries[way] = self.world.settled(place.callee, chain)
        chain.append(place.callee)
        if isinstance(place.node, tuple):
            number, part = place.node
            return summary.events[number].place(part)
        return summary.graph[place.node].place

    def through(self, place: Place, root: str) -> tuple[frozenset[str], object]:
        """The functions that a place is found through, and the ast node there."""
        chain: list[Key] = []
        owner, inmost = self._inmost(place, root, chain)
        owners = {root, owner, *(key.fid for key in chain)}
        if isinstance(inmost, Within):
            owners.add(inmost.owner)
            inmost = inmost.here
        assert isinstance(inmost, Here)
        return frozenset(owners), inmost.node

    def syntax(self, place: Place, root: str) -> object:
        """The ast node at a place."""
        return self.locate(place, root)[1].node

    def function(self, place: Place, root: str) -> str:
        """The function that a place stands in, by name, or the root itself."""
        return self.locate(place, root)[0]

    def span(self, place: Place, root: str) -> Span:
        owner, here = self.locate(place, root)
        region = self.world.regions.get(owner, self.world.outline.skeleton)
        return self.source.span_of(region.at[here.at], here.node)

    def spot(self, place: Place, root: str) -> Spot:
        owner, here = self.locate(place, root)
        unit = self.world.regions.get(owner, self.world.outline.skeleton).at[here.at]
        span = self.source.span_of(unit, here.node)
        self.source.line_offsets()  # at once: many will be asked for
        first = self.source.line_offset(self.source.starts[unit])
        return Spot(owner, here.at, span.start - first, span.end - first)

    def text(self, place: Place, root: str) -> str:
        try:
            return self.source.slice(self.span(place, root))
        except (AttributeError, KeyError, IndexError) as error:
            self.report_bug("text of a place", error)
            return "this"

    def call_off(self, place: Place, root: str) -> Place | None:
        """The outermost call on the way to a place that stands where the gradient mode is off already."""
        calls: list[tuple[str, There]] = []
        owner = root
        chain: list[Key] = []
        while isinstance(place, There):
            calls.append((owner, place))
            owner = place.callee.fid
            inner = self._inside(place, chain) if not isinstance(place.node, tuple) else None
            if inner is None:
                break
            place = inner
        for owner, there in calls:
            info = self.world.function(there.callee.fid)
            if there.callee.grad == "off" and info is not None and info.grad != "off":
                return Within(owner, there.call) if isinstance(there.call, Here) else there.call
        return None


class Placed(Generic[Said]):
    """What is said, for each version of the text made of the same spots; where nothing moved, the same."""

    __slots__ = ("_last", "_make", "identity", "lines", "report", "spots")

    def __init__(
        self, spots: Sequence[Spot], make: Callable[[list[Span]], Said], report: Report | None = None
    ) -> None:
        self.spots, self.report = spots, report
        self.lines = tuple(dict.fromkeys((spot.owner, spot.at) for spot in spots))
        self.identity = object()  # what is kept by it does not keep what it was made from
        self._make: Callable[[list[Span]], Said] = make
        self._last: tuple[list[int], Said] | None = None

    def made(self, first: Callable[[Spot], int]) -> Said:
        """It, where `first` says how far from the text's beginning a spot's line begins."""
        firsts = list(map(first, self.spots))
        last = self._last
        if last is not None and last[0] == firsts:
            return last[1]
        spots = zip(firsts, self.spots, strict=True)
        said = self._make([Span(line + start, line + end) for line, (_, _, start, end) in spots])
        self._last = firsts, said  # at once: whoever asks from another thread gets a pair that fits
        return said
