"""The edges of a program's static graph, and what autograd says of them when the program runs.

An edge leads from one expression to another that is computed from it. It is compared where both were
evaluated on the way of calls that the analysis means:

- the analysis says that the gradient passes (`live`, `zero`), and the earlier value requires one: the later
  value's graph must reach it. Where branches or turns of a loop meet, one of them in one turn is enough.
- the analysis says that it is cut, and no other way is left between the two: the later must not reach it.
- the earlier value requires no gradient: the analysis must not say that something surely learns behind it.

Where autograd had nothing to carry and the analysis does not know whether there is something, or where a cut
lies beside a live way, nothing can be compared; such edges are counted by their reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gradsight.domain import Edge, Reach, Tri
from gradsight.engine import Engine
from gradsight.graph import Place, There, Within
from gradsight.places import Places
from gradsight.queries import LEARNING, Lost, Program, Queries
from gradsight.text import Source
from harness import truth

from generated.instrument import Instrumented

MARK = "traced: "
Chain = tuple[int, ...]
CODES = ("GS101", "GS102", "GS103", "GS104", "GS105", "GS107")


@dataclass(frozen=True)
class Drawn:
    """An edge as the analysis draws it, between keys of expressions."""

    after: int
    before: tuple[int, ...]  # more than one where branches or turns of a loop meet
    passes: bool
    several: bool
    surely: bool  # something surely learns behind the earlier value
    unsure: bool  # something may learn behind it
    beside: bool  # there is another way between the two that is not cut
    words: str


@dataclass
class Traced:
    """A program, what the analysis says of it, and what its run said. `seen` is None where it did not run."""

    source: Source
    drawn: list[Drawn]
    uncompared: Counter[str]  # edges that no run can say anything of, by the reason
    lost: list[tuple[Lost, tuple[int, ...]]]  # what the rules claim, with the keys of its sources
    codes: list[str]  # of the findings
    learning: dict[
        int, str
    ]  # of each parameter that the analysis knows, by its key, what it knows of its way
    made: Counter[int]  # by key, how many of them the analysis knows
    silences: list[str]
    copy: truth.Run
    seen: dict[str, Any] | None = None
    error: truth.Failure | None = None
    contradicted: list[str] = field(default_factory=list)
    compared: int = 0

    @property
    def static(self) -> int:
        """All edges that the analysis draws."""
        return self.compared + sum(self.uncompared.values())


def trace(programs: Iterable[tuple[str, str]]) -> list[Traced]:
    """Analyse and run programs, given by file and text, and compare each edge."""
    traced = [prepared(file, text) for file, text in programs]
    for each, outcome in zip(traced, truth.run_many([one.copy for one in traced]), strict=True):
        each.error = outcome.error
        line = next((line for line in reversed(outcome.output.splitlines()) if line.startswith(MARK)), None)
        if line is not None:
            each.seen = json.loads(line[len(MARK) :])
        compare(each)
    return traced


def prepared(file: str, text: str) -> Traced:
    """A program with all that the analysis draws and claims, and the copy that is to be run."""
    source = Source(file, text)
    instrumented = Instrumented(source)
    engine = Engine(_raised)
    found = engine.analyze(source)
    analysis = engine._analyses.get(file)
    keys = _Keys()
    drawn: list[Drawn] = []
    uncompared: Counter[str] = Counter()
    lost: list[tuple[Lost, tuple[int, ...]]] = []
    learning: dict[int, str] = {}
    made: Counter[int] = Counter()
    for name, root in analysis.roots if analysis is not None else ():
        if root.program is None:
            continue
        chains = _Chains(
            root.program, Places(source, analysis.world, _raised), name, instrumented.sites, keys
        )  # type: ignore[union-attr]
        drawn += chains.edges(uncompared)
        lost += chains.claims()
        for key, words in chains.learning():
            learning[key] = words
            made[key] += 1
    edges = [(number, each.after, list(each.before)) for number, each in enumerate(drawn)]
    setup, final = keys.numbering()
    setup_line = (
        f"_tracer.expect({setup!r}, {[(n, final[a], [final[b] for b in bs]) for n, a, bs in edges]!r})"
    )
    setup_line = setup_line.replace("_tracer.expect((", "_tracer.expect(*(", 1)
    fact = f"print({MARK!r} + __import__('json').dumps(_tracer.report())) is None"
    copy = truth.Run(instrumented.text(setup_line), (fact,), file)
    return Traced(
        source,
        drawn,
        uncompared,
        [(one, tuple(final[key] for key in sources)) for one, sources in lost],
        [each.code for each in found.findings],
        {final[key]: words for key, words in learning.items()},
        Counter({final[key]: count for key, count in made.items()}),
        [each.reason for each in found.silences],
        copy,
    )


def compare(traced: Traced) -> None:
    """Say of each edge whether what was seen fits it."""
    seen = traced.seen["edges"] if traced.seen is not None else {}
    mixed = set(traced.seen["mixed"]) if traced.seen is not None else set()
    written = set(traced.seen["written"]) if traced.seen is not None else set()
    for number, edge in enumerate(traced.drawn):
        connected, late, apart, still = seen.get(str(number), (0, 0, 0, 0))
        verdict = judge(edge, connected, late, apart, still)
        if verdict == "contradicted" and number in mixed:
            verdict = "one of several results"
        if verdict == "contradicted" and number in written:
            verdict = "a view that is written into"
        if verdict in ("fits", "contradicted"):
            traced.compared += 1
            if verdict == "contradicted":
                row = traced.source.file
                traced.contradicted.append(
                    f"{row}: {edge.words} (connected {connected}, late {late}, apart {apart}, still {still})"
                )
        else:
            traced.uncompared[verdict] += 1


def judge(edge: Drawn, connected: int, late: int, apart: int, still: int) -> str:
    """fits, contradicted, or why it is not compared.

    The numbers are looks at the edge: `connected` to what the earlier expression was last, `late` to what it
    was in an earlier turn only, `apart` from both, `still` where it required no gradient.
    """
    if not connected + late + apart + still:
        return "not evaluated"
    if connected + late + apart == 0:
        if edge.surely:
            return "contradicted"
        return "whether it carries anything is not known" if edge.unsure else "fits"
    if not edge.passes:
        if connected and edge.beside:
            return "a cut beside a live way"
        return "contradicted" if connected else "fits"
    if edge.several:
        return "fits" if connected + late else "contradicted"
    return "contradicted" if apart else "fits"


class Figures:
    """Sums over programs; what a program holds in memory is let go."""

    def __init__(self) -> None:
        self.programs = self.compared = self.contradicted = 0
        self.uncompared: Counter[str] = Counter()

    @property
    def static(self) -> int:
        """All edges that the analysis draws."""
        return self.compared + sum(self.uncompared.values())

    def add(self, traced: Traced) -> None:
        self.programs += 1
        self.compared += traced.compared
        self.contradicted += len(traced.contradicted)
        self.uncompared.update(traced.uncompared)

    def __str__(self) -> str:
        share = self.compared / max(1, self.static)
        lines = [
            f"programs {self.programs}, static edges {self.static}, compared {self.compared} ({share:.1%}), "
            f"contradicted {self.contradicted}",
            *(f"  not compared, {reason}: {count}" for reason, count in self.uncompared.most_common()),
        ]
        return "\n".join(lines)


def _of_way(reaches: list[Reach], frozen: bool) -> str:
    if frozen:
        return "frozen"
    if not reaches:
        return "no sink depends on it"
    if any(reach.unknown for reach in reaches):
        return "the way is unknown"
    if any(reach.live is Tri.MUST for reach in reaches):
        return "live"
    if any(reach.live is Tri.MAY for reach in reaches):
        return "live on some ways"
    return "cut"


def worst(one: Edge, other: Edge) -> Edge:
    """What is left of a gradient behind two edges: LIVE where autograd's graph stays whole."""
    if Edge.CUT in (one, other):
        return Edge.CUT
    return Edge.UNKNOWN if Edge.UNKNOWN in (one, other) else Edge.LIVE


class _Keys:
    """Numbers for expressions: whole chains of the module's own statements, and ends of chains."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[bool, Chain], int] = {}

    def key(self, floating: bool, chain: Chain) -> int:
        return self._numbers.setdefault((floating, chain), len(self._numbers))

    def numbering(self) -> tuple[tuple[list[list[int]], list[list[int]]], dict[int, int]]:
        """The chains as the tracer wants them, and for each key its number there."""
        ordered = sorted(self._numbers.items(), key=lambda item: item[0][0])
        anchored = [list(chain) for (floating, chain), _ in ordered if not floating]
        floating_ = [list(chain) for (floating, chain), _ in ordered if floating]
        return (anchored, floating_), {key: position for position, (_, key) in enumerate(ordered)}


class _Chains:
    """One root's graph, each node with the chain of its expression."""

    def __init__(
        self, program: Program, places: Places, root: str, sites: dict[tuple[int, int], int], keys: _Keys
    ) -> None:
        self.program, self.graph, self.places, self.root = program, program.graph, places, root
        self.sites, self.keys = sites, keys
        self.queries = Queries(
            program,
            lambda place: places.text(place, root),
            lambda place: places.call_off(place, root),
            lambda place: places.syntax(place, root),
            lambda place: places.function(place, root),
        )
        self._chains: dict[int, Chain | None] = {}
        self._times = Counter((self.chain(n), self.graph[n].op) for n in range(len(self.graph)))

    def claims(self) -> Iterator[tuple[Lost, tuple[int, ...]]]:
        """What the rules on lost ways say, with the keys of those that are said to learn nothing."""
        for code in CODES:
            for one in self.queries.lost(code):
                yield one, tuple(key for s in one.sources if (key := self.key(s)) is not None)

    def learning(self) -> Iterator[tuple[int, str]]:
        """What the analysis knows of the way of each parameter and leaf to what asks for gradients."""
        for number in range(len(self.graph)):
            node = self.graph[number]
            key = self.key(number) if node.kind == "source" and node.op in LEARNING else None
            if key is not None:
                reaches = [
                    reach
                    for sink in self.queries.sinks
                    for top in self.queries.roots(sink)
                    if (reach := self.graph.reach(top).get(number)) is not None
                ]
                held = "" if number in self.queries.must_learn else "nobody holds it, "
                yield key, held + _of_way(reaches, number in self.queries.frozen)

    def key(self, number: int) -> int | None:
        """The key of a node's expression; None where no expression stands for it."""
        chain = self.chain(number)
        return self.keys.key(self.root != "<module>", chain) if chain else None

    def chain(self, number: int) -> Chain | None:
        if number not in self._chains:
            place = self.graph[number].place
            self._chains[number] = self._chain(place) if place is not None else None
        return self._chains[number]

    def _chain(self, place: Place) -> Chain | None:
        owner, inside = self.root, []
        out: list[int] = []
        while isinstance(place, There):
            out.append(self._site(place.call, owner))
            inner = self.places._inside(place, inside)
            owner = place.callee.fid
            assert inner is not None
            place = inner
        out.append(self._site(place, owner))
        if self.root != "<module>" and out[0] == -1 and len(out) > 1:
            out = out[1:]  # entered by nobody
        return tuple(out) if -1 not in out else None

    def _site(self, place: Place, owner: str) -> int:
        assert not isinstance(place, There)
        owner, here = (place.owner, place.here) if isinstance(place, Within) else (owner, place)
        region = self.places.world.regions.get(owner, self.places.world.outline.skeleton)
        try:
            span = self.places.source.span_of(region.at[here.at], here.node)
        except (AttributeError, KeyError, IndexError):
            return -1
        return self.sites.get((span.start, span.end), -1)

    # -- edges

    def edges(self, uncompared: Counter[str]) -> Iterator[Drawn]:
        for number in range(len(self.graph)):
            node = self.graph[number]
            if node.kind in ("join", "loop"):
                continue  # they are looked through
            own = self.chain(number)
            after = self.key(number)
            for position, (i, edge) in enumerate(zip(node.inputs, node.edges, strict=False)):
                if i < 0 or edge is Edge.NONE:
                    continue
                ends, several = self._before(i, own)
                # What is read several times, a loop over known modules, looks alike to whoever watches.
                several = several or self._is_unrolled(number) or self._is_unrolled(i)
                several = several or node.op == "parameters"  # each that is iterated over is one of them
                for kind in (Edge.UNKNOWN, Edge.CUT, Edge.LIVE):
                    keys = {key for key, passing in ends if worst(passing, edge) is kind}
                    if not keys - {None}:
                        uncompared["no expression stands for it"] += bool(keys)
                    elif kind is Edge.UNKNOWN:
                        uncompared["unknown to the analysis"] += 1
                    elif self._computed_apart(node.place):
                        uncompared["what an autograd function computes has no graph"] += 1
                    elif node.op == "torch.autograd.grad":
                        uncompared["a derivative's graph is its own"] += 1
                    elif after is None:
                        uncompared["no expression stands for it"] += 1
                    else:
                        before = tuple(sorted(key for key in keys if key is not None))
                        yield self._drawn(number, position, i, kind, after, before, several)

    def _computed_apart(self, place: Place | None) -> bool:
        """Whether a node is of a method of an autograd function."""
        owner, inside = self.root, []
        while isinstance(place, There):
            owner, place = place.callee.fid, self.places._inside(place, inside)
        if isinstance(place, Within):
            owner = place.owner
        return self.places.world.derives(owner.rpartition(".")[0], "torch.autograd.Function")

    def _drawn(
        self,
        number: int,
        position: int,
        i: int,
        edge: Edge,
        after: int,
        before: tuple[int, ...],
        several: bool,
    ) -> Drawn:
        reaches = self.graph.reach(i)
        learning = {
            s: reach for s, reach in reaches.items() if self.graph[s].op in LEARNING and s not in self.frozen
        }
        surely = any(reach.live is Tri.MUST and not reach.unknown for reach in learning.values())
        may = any(reach.live is not Tri.NO or reach.unknown for reach in reaches.values())
        passes = edge is not Edge.CUT
        words = f"`{self._text(i)}` -> `{self._text(number)}` {edge.value} {self.graph[number].op}"
        return Drawn(
            after,
            before,
            passes,
            several,
            surely and passes,
            may,
            not passes and self._beside(number, position, i),
            words,
        )

    @property
    def frozen(self) -> set[int]:
        """What some statement freezes, wherever it stands."""
        return {
            n
            for event in self.program.events
            if event.kind == "freeze"
            for number in event.nodes
            for n in self.graph.feeding(number, (Edge.LIVE,))
        }

    def _is_unrolled(self, number: int) -> bool:
        return self._times[self.chain(number), self.graph[number].op] > 1

    def _before(self, i: int, own: Chain | None) -> tuple[set[tuple[int | None, Edge]], bool]:
        """The expressions that an input may be, with what is left on the way from there.

        Looked through are joins and loops, and what an expression computes before it is done: other nodes of
        the same expression or of a call that the expression stands in.
        """
        out: set[tuple[int | None, Edge]] = set()
        several = False
        seen: set[tuple[int, Edge]] = set()
        waiting = [(i, Edge.LIVE)]
        while waiting:
            number, passing = waiting.pop()
            if (number, passing) in seen or number < 0:
                continue
            seen.add((number, passing))
            node = self.graph[number]
            chain = self.chain(number)
            meeting = node.kind in ("join", "loop")
            if meeting or (chain is not None and own is not None and own[: len(chain)] == chain):
                several = several or (meeting and len(node.inputs) > 1) or node.kind == "loop"
                waiting += [
                    (n, worst(passing, edge))
                    for n, edge in zip(node.inputs, node.edges, strict=False)
                    if edge is not Edge.NONE
                ]
                continue
            out.add((self.key(number), passing))
        return out, several

    def _beside(self, number: int, position: int, i: int) -> bool:
        """Whether a way from one node to the other is left besides one edge."""
        node = self.graph[number]
        open_ = (Edge.LIVE, Edge.ZERO, Edge.UNKNOWN)
        others = [
            n
            for at, (n, edge) in enumerate(zip(node.inputs, node.edges, strict=False))
            if at != position and n >= 0 and edge in open_
        ]
        starts = set(self._leaves(i))
        return any(starts & set(self.graph.feeding(other, open_)) for other in others)

    def _leaves(self, i: int) -> Iterator[int]:
        seen: set[int] = set()
        waiting = [i]
        while waiting:
            number = waiting.pop()
            if number in seen or number < 0:
                continue
            seen.add(number)
            node = self.graph[number]
            if node.kind in ("join", "loop"):
                waiting += node.inputs
            yield number

    def _text(self, number: int) -> str:
        place = self.graph[number].place
        if place is None:
            return self.graph[number].op
        try:
            span = self.places.span(place, self.root)
        except (AttributeError, KeyError, IndexError):
            return self.graph[number].op
        row = self.places.source.row_column(span.start)[0] + 1
        return f"{row}: {' '.join(self.places.source.slice(span).split())[:60]}"


def _raised(where: str, error: BaseException) -> None:
    raise AssertionError(f"a bug in {where}") from error
