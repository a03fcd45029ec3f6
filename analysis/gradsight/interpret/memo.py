"""What is kept of earlier analyses: summaries, each with a record of everything that it was made from.

Nothing is ever invalidated by hand. A record holds the questions that an activation asked (facts of the file,
and the summaries of what it called) together with the answers; before what was kept is used again, the same
questions must have the same answers. What is found therefore never depends on what was analysed before.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from gradsight.interpret.codec import Key
from gradsight.interpret.summary import Summary
from gradsight.outline import Region

MOST_ENTRIES = 500  # functions, as they are called, whose summaries are kept: some 60 kB each
MOST_VERSIONS = 6  # of one of them

Question = tuple[Any, ...]


class Trace:
    """What one activation asks while it runs."""

    __slots__ = ("cost", "cut", "cuts", "deep", "entries", "facts", "functions", "height", "low", "reads")

    def __init__(self) -> None:
        self.facts: dict[Question, object] = {}
        self.reads: dict[Key, object] = {}  # structures of summaries, None where there is none
        self.entries: list[Entry] = []  # of each
        self.cut: set[str] = set()  # functions that it called although they were active
        self.deep = False  # it called something too deep
        # The same of everything that it leads to.
        self.functions: set[str] = set()
        self.cuts: set[str] = set()
        self.height = 0
        self.low = False
        self.cost = 1

    def add(self, key: Key, entry: Entry) -> None:
        """A call, and what it leads to."""
        record = entry.record
        if key not in self.reads:
            self.reads[key] = entry.structure
            self.entries.append(entry)
            self.cost += record.cost
        self.functions |= record.functions
        self.cuts |= record.cuts
        self.height = max(self.height, record.height + 1)
        self.low = self.low or record.low


class Record:
    """A trace that ended, kept with its result."""

    __slots__ = (
        "cost", "cut", "cuts", "deep", "depth", "entries", "facts", "functions",
        "height", "low", "number", "own", "reads", "token",
    )  # fmt: skip

    def __init__(self, trace: Trace, own: frozenset[str]) -> None:
        self.facts = tuple(trace.facts.items())
        self.reads = tuple(trace.reads.items())
        self.cut, self.deep, self.own = frozenset(trace.cut), trace.deep, own

    def settle(self, trace: Trace, depth: int, number: int, token: object) -> None:
        """It holds in version `number` of the file, where it leads to what `trace` says."""
        self.functions = self.own | trace.functions
        self.cuts = (trace.cuts | self.cut) - self.own
        self.height, self.low, self.cost, self.depth = trace.height, trace.low or self.deep, trace.cost, depth
        self.number, self.token = number, token
        self.entries = trace.entries

    def leads_as(self, other: Record) -> bool:
        """Whether both lead to the same functions, as far as who leads to them is concerned."""
        return (
            self.functions == other.functions
            and self.cuts == other.cuts
            and (self.height, self.low, self.cost) == (other.height, other.low, other.cost)
        )

    def fits(self, active: set[str], depth: int, most: int) -> bool:
        """Whether what it leads to would be cut at the same calls where these functions are active."""
        if self.low:
            if self.depth != depth:
                return False
        elif depth + self.height >= most:
            return False
        return self.cuts <= active and self.functions.isdisjoint(active)


@dataclass(slots=True, eq=False)
class Entry:
    """A summary, None where there can be none, and what it was made from."""

    key: Key
    summary: Summary | None
    record: Record

    @property
    def structure(self) -> object:
        return None if self.summary is None else self.summary.structure


class Memo:
    """Summaries of all files, bounded, the least recently used first to go. `analysed` counts for tests."""

    def __init__(self) -> None:
        self.entries: OrderedDict[tuple[Region, Key], list[Entry]] = OrderedDict()
        self.structures: dict[Key, tuple[Any, ...]] = {}  # the latest, so that equal ones are one
        self.analysed: list[str] = []
        self.versions = 0
        self.most = MOST_ENTRIES  # more for a file that has more functions

    def version(self) -> int:
        """A number for one more version of a file."""
        self.versions += 1
        return self.versions

    def get(self, region: Region, key: Key) -> list[Entry]:
        """The summaries kept for a function that is called so, the latest first."""
        found = self.entries.get((region, key))
        if found is None:
            return []
        self.entries.move_to_end((region, key))
        return found

    def put(self, region: Region, entry: Entry) -> None:
        """Keep a summary."""
        key = entry.key
        entries = self.entries.setdefault((region, key), [])
        entries.insert(0, entry)
        del entries[MOST_VERSIONS:]
        # What the version at hand was told stays, however much it is.
        while len(self.entries) > self.most and self._oldest() < self.versions:
            self.entries.popitem(last=False)

    def forget(self, token: object) -> None:
        """Keep nothing that only a file with these facts was told last."""
        for key in [
            key for key, kept in self.entries.items() if all(entry.record.token is token for entry in kept)
        ]:
            del self.entries[key]
        self.structures.clear()

    def _oldest(self) -> int:
        """The version that last used what was not used for the longest time."""
        return max(entry.record.number for entry in next(iter(self.entries.values())))

    def unified(self, key: Key, summary: Summary) -> None:
        """Give a summary the structure of the one before it where they are equal: comparing is cheap then."""
        if self.structures.get(key) == summary.structure:
            summary.structure = self.structures[key]
            return
        if len(self.structures) > self.most:
            self.structures.clear()
        self.structures[key] = summary.structure
