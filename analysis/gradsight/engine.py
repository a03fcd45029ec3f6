"""From text to findings, with a memo.

The analysis cannot fail: a bug inside a rule is reported through `report_bug` and costs that rule alone. It
reads no file; `Files` gives it the text of others.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from gradsight import importing, renaming, suppression, syntax
from gradsight.broken import Standing, unparsable, unparsable_whole
from gradsight.crossing import fixes_across
from gradsight.domain import Edge
from gradsight.finding import Abroad, Finding, Fix, Severity, Step, apply
from gradsight.graph import Place, Within
from gradsight.importing import Files
from gradsight.interpret import fates
from gradsight.interpret.activation import OutOfBudget
from gradsight.interpret.index import line_binds, line_links, links, parsed
from gradsight.interpret.loops import picking, stores
from gradsight.interpret.memo import MOST_VERSIONS, Memo, Record
from gradsight.interpret.world import World
from gradsight.lines import Line
from gradsight.linking import STRIDE, Linked, Linker
from gradsight.outline import Outline, Region, outline
from gradsight.places import Bugs, Placed, Places, Spot
from gradsight.queries import Program, Queries
from gradsight.renaming import is_linked, plain
from gradsight.roots import class_root, function_root, is_lone_loss, module_root
from gradsight.roots import plain as plain_value
from gradsight.rule import Report
from gradsight.text import Source, Span
from gradsight.values import NOWHERE, Value

if TYPE_CHECKING:
    from gradsight.known import File, Known

FRAMEWORKS = re.compile(r"\btorch\b|\blightning\b|\baccelerate\b")
MOST_DOCUMENTS = 8
MOST_ROOTS = 192
FORGOTTEN = 32  # files, after which what is kept of their lines goes, too
CACHES = (
    parsed,
    line_binds,
    line_links,
    links,
    picking,
    stores,
    *fates.CACHES,
    *syntax.CACHES,
    *importing.CACHES,
    *renaming.CACHES,
)


@dataclass(frozen=True, slots=True)
class Silence:
    """Where nothing is said although something happens, and why."""

    file: str
    where: Span
    reason: str


Everything = tuple[tuple[Finding, ...], tuple[Silence, ...], tuple[Finding, ...]]  # those elsewhere, too


class Findings:
    """What the analysis says about one file, in the order of the text. Frozen; made when first asked for.

    `anchors` holds for each finding something hashable that another version of the file has as well if the
    finding says the same there, in the same rows: what is made of a finding can be kept by it. None where
    that is not known.
    """

    __slots__ = ("_later", "_one", "_told", "anchors")

    def __init__(
        self,
        findings: tuple[Finding, ...] = (),
        silences: tuple[Silence, ...] = (),
        *,
        later: Callable[[], Everything] | None = None,
        one: Callable[[int], Finding] | None = None,
        anchors: tuple[Hashable, ...] | None = None,
    ) -> None:
        self.anchors = anchors
        self._told: Everything = findings, silences, ()
        self._later, self._one = later, one

    def _all(self) -> Everything:
        later = self._later
        if later is not None:
            self._told = later()
            self._later = self._one = None
        return self._told

    def one(self, number: int) -> Finding:
        """`findings[number]`, the others not made for it."""
        one = self._one
        return one(number) if one is not None else self.findings[number]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self._all()[0]

    @property
    def silences(self) -> tuple[Silence, ...]:
        return self._all()[1]

    @property
    def elsewhere(self) -> tuple[Finding, ...]:
        """What this file shows to be wrong in files that it imports from: a cut in a model that it trains."""
        return self._all()[2]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Findings) and self._all() == other._all()

    def __repr__(self) -> str:
        return f"Findings({self.findings!r}, {self.silences!r})"


Telling = Callable[[Places, Place, str], object]


@dataclass(slots=True, eq=False)
class Told:
    """What a rule asked of the text at a place, and the answer. It is the same as long as the lines of the
    functions `through` which the place was found are, and the summaries that lead to it."""

    telling: Telling
    place: Place
    answer: object
    through: frozenset[str]
    node: object  # the syntax that stood there


Entry = tuple[Severity, Hashable, Finding | Placed[Finding]]  # what stands there, with its anchor


def ignore_bug(where: str, error: BaseException) -> None:
    """The default: a bug costs its rule and nothing else. The tests pass something louder."""


class Engine:
    """Analyses files, keeping what did not change. One for a process; not for several threads at once.

    `analysed` names the functions that were interpreted since it was last cleared: what tests of
    incrementality read.
    """

    def __init__(self, report_bug: Bugs = ignore_bug) -> None:
        self.memo = Memo()
        self.report_bug = report_bug
        self.linker = Linker()
        self._files: Files | None = None  # what was given last
        self._analyses: OrderedDict[str, _Analysis] = OrderedDict()  # of each file the latest
        self._roots: OrderedDict[tuple[str, str], list[_Root]] = OrderedDict()
        self._names: dict[str, dict[str, Value]] = {}  # what modules of these files bind, lately
        self._forgotten = 0

    @property
    def analysed(self) -> list[str]:
        return self.memo.analysed

    def analyze(
        self, source: Source, files: Files | None = None, *, at_once: bool = False, at_home: bool = False
    ) -> Findings:
        """Every finding of the file, suppressions applied.

        A file that asks for gradients is read together with those that it imports from, as far as `files` has
        them. What it shows to be wrong in these is `elsewhere`; `at_home` puts that where this file's way
        meets it, for who shows one file at a time.

        Lines are parsed one by one. `at_once` parses the file at once as well, which takes longer and sees
        what no line shows alone: an `else` without its `if`, an indentation that fits nothing.
        """
        broken = list(unparsable(source))
        said = [finding for _, finding, _ in broken]
        if at_once and not said:
            said = list(unparsable_whole(source))
        told: list[Placed[Finding]] = []
        silent: list[Placed[Silence]] = []
        first = None
        if source.lines_with(FRAMEWORKS):
            self._files = files
            analysis = self._analysis(source)
            told, silent, first = analysis.findings(), analysis.silences(), analysis.firsts()

        def later() -> Everything:
            source.line_offsets()  # at once: many will be asked for
            found = [*said, *(placed.made(first) for placed in told if first is not None)]
            own = [one for one in found if one.file == source.file]
            elsewhere = self._elsewhere([one for one in found if one.file != source.file], files)
            if at_home:
                own += [home for one in elsewhere if (home := brought_home(one, source, files)) is not None]
                elsewhere = ()
            # A sink that a finding speaks about is not silent.
            spoken = {step.where for one in found for step in one.path if step.file == source.file}
            silences = (placed.made(first) for placed in silent if first is not None)
            return (
                in_order(suppression.suppress(source, deduplicated(own))),
                tuple(
                    sorted(
                        (one for one in silences if one.where not in spoken and one.where.start < STRIDE),
                        key=lambda one: (one.where.start, one.reason),
                    )
                ),
                elsewhere,
            )

        if first is None or len(said) > len(broken) or suppression.suppressions(source):
            return Findings(later=later)
        if at_home and analysis.speaks_elsewhere():
            return Findings(later=later)
        anchored = analysis.anchored(broken)

        def one(number: int) -> Finding:
            it = anchored[number][1]
            return it.made(first) if isinstance(it, Placed) else it

        return Findings(later=later, one=one, anchors=tuple([anchor for anchor, _ in anchored]))

    def _elsewhere(self, found: Sequence[Finding], files: Files | None) -> tuple[Finding, ...]:
        """What is found in other files, less what these suppress."""
        out: list[Finding] = []
        for file in dict.fromkeys(one.file for one in found):
            other = files.read(file) if files is not None else None
            if other is not None:
                here = deduplicated(one for one in found if one.file == file)
                kept = suppression.suppress(other, here)
                out += in_order(one for one in kept if one.code != suppression.CODE)
        return tuple(out)

    def _analysis(self, source: Source) -> _Analysis:
        before = self._analyses.get(source.file)
        program = (self.linker.link(source, self._files) if self._files is not None else None) or source
        whole = outline(program.units, before.outline if before is not None else None)
        if before is None or not before.move(program, whole):
            world = World(whole, self.memo, before.world if before is not None else None, self.report_bug)
            before = self._analyses[source.file] = _Analysis(self, program, world)
        self._analyses.move_to_end(source.file)
        if len(self._analyses) > MOST_DOCUMENTS:
            self._names.pop(self._analyses.popitem(last=False)[0], None)
        return before

    def unseen(self, file: str) -> Iterator[str]:
        """Why something in a file that was analysed is not known: the reason of each value whose origin
        cannot be seen, once for each time that it is made or asked for."""
        analysis = self._analyses.get(file)
        for _, root in analysis.roots if analysis is not None else ():
            for node in root.program.graph.nodes if root.program is not None else ():
                if node.kind == "source" and node.op == "call":
                    yield node.note

    def forget(self, file: str) -> None:
        """Keep nothing of a file: its graphs take much memory. It is analysed from scratch the next time."""
        analysis = self._analyses.pop(file, None)
        self.linker.forget(file)
        self._names.pop(file, None)
        for key in [key for key in self._roots if key[0] == file]:
            del self._roots[key]
        if analysis is not None:
            self.memo.forget(analysis.world.token)
            self._forgotten += 1
            if self._forgotten % FORGOTTEN == 0:
                for cache in CACHES:  # they hold lines, which are as large as what was forgotten
                    cache.cache_clear()

    def fixes(self, source: Source, finding: Finding, files: Files | None = None) -> tuple[Fix, ...]:
        """What mends a finding, best first. Loads libcst. A bug here costs the fix alone.

        `files` has the other files of a finding that is `abroad`; without it that has no fixes.
        """
        from gradsight.rules import RULES

        if finding.code == suppression.CODE:
            return tuple(suppression.fix(source, finding))
        for rule in RULES:
            if rule.code == finding.code:
                try:
                    if finding.abroad:
                        return fixes_across(rule.fix, finding, partial(_read, source, files))
                    fixes = tuple(rule.fix(source, finding))
                    # Where two backward passes share what a fix reopens, the second may raise for it.
                    return tuple(
                        fix for fix in fixes if finding.fact("shared") != "yes" or not breaks(source, fix)
                    )
                except Exception as error:
                    self.report_bug(f"fix of {rule.code}", error)
        return ()

    def known(self, source: Source, offset: int) -> Known | None:
        """What is known of the name at an offset: what it is live from, what asks for its gradient, and why
        nothing is said. None where no name stands or gradients have nothing to do with it."""
        from gradsight.known import known

        file = self._file(source)
        return known(file, offset) if file is not None else None

    def feeds(self, source: Source, offset: int) -> tuple[Span, ...]:
        """Where in this file stands what a gradient of the name at an offset flows to, the name first; empty
        where it carries none."""
        from gradsight.known import feeds

        file = self._file(source)
        return feeds(file, offset) if file is not None else ()

    def _file(self, source: Source) -> File | None:
        """The analysis of this version of a file, done now if it was not; None where there is nothing."""
        from gradsight.known import File, Root

        analysis = self._analyses.get(source.file)
        if analysis is None or analysis.source.text != source.text:
            self.analyze(source, self._files)
            analysis = self._analyses.get(source.file)
        if analysis is None or analysis.source.text != source.text:
            return None
        roots = tuple(
            Root(name, frozenset(root.record.functions))
            for name, root in analysis.roots
            if root.program is not None
        )
        return File(analysis.source, analysis.world, roots, analysis._opened(), self.report_bug)


def _read(source: Source, files: Files | None, file: str) -> Source | None:
    """A file of a finding in `source`."""
    if file == source.file:
        return source
    return files.read(file) if files is not None else None


def analyze(source: Source, files: Files | None = None) -> Findings:
    """Every finding of one file, from scratch."""
    return Engine().analyze(source, files)


def breaks(source: Source, fix: Fix) -> bool:
    """Whether a program would raise with a fix where it does not without."""
    fixed = Source(source.file, apply(source.text, fix.edits))
    before, after = (analyze(each).findings for each in (source, fixed))
    raised = {one.code for one in before if one.severity is Severity.ERROR}
    return any(one.severity is Severity.ERROR and one.code not in raised for one in after)


def deduplicated(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One root cause is one finding: the loudest of those with the same code and place."""
    best: dict[tuple[str, Span], Finding] = {}
    for one in findings:
        old = best.setdefault((one.code, one.where), one)
        if one.severity.rank < old.severity.rank:
            best[one.code, one.where] = one
    return tuple(best.values())


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By place."""
    return tuple(sorted(findings, key=lambda one: (one.where.start, one.where.end, one.code)))


@dataclass(eq=False)
class _Root:
    """One analysed root and what it was made from. `program` is None where it grew too large."""

    region: Region
    program: Program | None
    record: Record
    opened: dict[str, Value] | None  # the module's names as it found them
    reports: tuple[Report, ...] = ()
    told: tuple[Told, ...] = ()  # what the rules asked of the text
    lines: dict[str, tuple[Line, ...]] = field(default_factory=dict)  # of the functions that lead there
    findings: list[Placed[Finding]] | None = None  # None: where they stand has to be found out anew
    silences: list[Placed[Silence]] | None = None

    @cached_property
    def names(self) -> dict[str, Value]:
        """What a function seen without its caller knows of the module's names."""
        env = self.program.env if self.program is not None else {}
        return {name: plain_value(value) for name, value in env.items()}


class _Analysis:
    """One version of one file."""

    def __init__(self, engine: Engine, source: Source | Linked, world: World) -> None:
        self.engine, self.source, self.world = engine, source, world
        self.outline = world.outline
        self.places = Places(source, world, engine.report_bug)
        self.module: _Root | None = None
        self.roots: list[tuple[str, _Root]] = []
        self._standing: list[tuple[Standing, Entry]] | None = None
        self._owners: set[str] = set()  # the functions that these stand in
        self._run()

    def move(self, source: Source | Linked, outline: Outline) -> bool:
        """Become the analysis of a text whose lines mean what they meant. False: they do not."""
        before = self.source.starts, self.outline.skeleton
        others = self.world.move(outline)
        if others is None:
            return False
        self.source, self.outline = source, outline
        if before[0] is not source.starts or before[1] is not outline.skeleton:
            self._standing = None
        elif not self._owners.isdisjoint(others):
            self._standing = None
        self.places = Places(source, self.world, self.engine.report_bug)
        return True

    # -- the roots

    def _run(self) -> None:
        entered: set[str] = set()
        quiet: set[str] = set()  # seen on a way that asks for no gradient: lone losses are asked once more
        module = self.module = self._root("<module>", self.outline.skeleton, partial(module_root, self.world))
        if module is not None:
            known = self.engine._names.get(self.source.file)
            if known is not module.names and known == module.names:
                module.names = known  # equal ones are one: whoever compares them later is quick
            self.engine._names[self.source.file] = module.names
        if module is not None and module.program is not None:
            if any(event.kind in ("backward", "grad") for event in module.program.events):
                entered |= module.record.functions
            else:
                quiet |= module.record.functions
        # Those that are made of others stand behind them, and lead to all that these do.
        for cid, info in reversed(self.world.classes.items()):
            if is_linked(cid):
                continue  # seen where its own file is analysed
            forward = info.methods.get("forward")
            seen = (fid in entered for fid in ((forward,) if forward else info.methods.values()))
            if any(seen) or not info.methods:
                continue
            if cid in self.world.index.derived_from:
                continue  # seen through the classes that derive from it
            root = self._root(
                f"class {cid}", self.outline.skeleton, partial(class_root, self.world, self._opened(), cid)
            )
            if root is not None and root.program is not None:
                sinks = any(event.kind in ("backward", "grad", "return") for event in root.program.events)
                (entered if sinks else quiet).update(root.record.functions)
        for fid in self.world.fids:
            if fid in entered or is_linked(fid) or self.world.function(fid) is None:
                continue
            if fid.rpartition(".")[0] in self.world.classes:
                continue
            if fid in quiet and not is_lone_loss(self.world.function(fid).node, self.world.regions[fid]):  # type: ignore[union-attr]
                continue
            self._root(fid, self.world.regions[fid], partial(function_root, self.world, self._opened(), fid))

    def _root(self, name: str, region: Region, compute: Callable[[], Program]) -> _Root | None:
        """The root as it is now; None where it grew too large."""
        key = (self.source.file, name)
        kept = self.engine._roots.setdefault(key, [])
        root = next((root for root in kept if self._is_current(root, region)), None)
        if root is None:
            root = next((root for root in kept if self._holds(root, region)), None)
            if root is not None:
                root.findings = root.silences = None
            if root is None:
                root = self._computed(name, region, compute)
            elif root.program is not None and self._tells_else(root, name):
                self._check(root, root.program, name)
        if kept[:1] != [root]:
            kept[:] = [root, *(other for other in kept if other is not root)][:MOST_VERSIONS]
        self.engine._roots.move_to_end(key)
        if len(self.engine._roots) > max(MOST_ROOTS, 2 * len(self.roots)):
            self.engine._roots.popitem(last=False)
        if root.program is None:
            return None
        self.roots.append((name, root))
        return root

    def _is_current(self, root: _Root, region: Region) -> bool:
        """Whether nothing that the root leads to has changed, its text included."""
        return self._opens(root, region) and self.world.is_current(root.record)

    def _holds(self, root: _Root, region: Region) -> bool:
        """Whether the root would be computed as it is; its text may be another."""
        return self._opens(root, region) and self.world.holds(root.record)

    def _opens(self, root: _Root, region: Region) -> bool:
        if root.region != region:
            return False
        opened = self._opened()
        if root.opened is None or root.opened is opened:
            return True
        if root.opened != opened:
            return False
        root.opened = opened  # the next comparison is cheap
        return True

    def _tells_else(self, root: _Root, name: str) -> bool:
        """Whether the text would give the rules other answers now."""
        changed = {fid for fid, lines in root.lines.items() if self._lines(fid) != lines}
        for told in root.told:
            if told.through.isdisjoint(changed):
                continue
            node = self.places.syntax(told.place, name)
            if node is told.node and told.telling is not Places.call_off:
                continue  # lines are interned: they say the same
            if comparable(told.telling(self.places, told.place, name)) != told.answer:
                return True
            told.node = node
        for fid in changed:
            root.lines[fid] = self._lines(fid)
        return False

    def _lines(self, fid: str) -> tuple[Line, ...]:
        """The lines of a function, or those outside all functions."""
        return self.world.regions.get(fid, self.outline.skeleton).lines

    def _computed(self, name: str, region: Region, compute: Callable[[], Program]) -> _Root:
        self.engine.memo.analysed.append(name)
        trace = self.world.begin()
        program: Program | None = None
        try:
            program = compute()
        except (OutOfBudget, RecursionError):
            pass
        except Exception as error:
            self.engine.report_bug(f"analysis of {name}", error)
        finally:
            self.world.end()
        record = Record(trace, frozenset())
        record.settle(trace, 0, self.world.number, self.world.token)
        root = _Root(region, program, record, None if name == "<module>" else self._opened())
        if program is not None:
            program.silences = list(silent_sinks(program))
            self._check(root, program, name)
        return root

    def _opened(self) -> dict[str, Value]:
        return self.module.names if self.module is not None else {}

    # -- findings

    def _check(self, root: _Root, program: Program, name: str) -> None:
        """Ask the rules, and note all that they ask of the text."""
        from gradsight.rules import RULES

        told: list[Told] = []

        def noted(telling: Telling) -> Any:
            known: dict[int, object] = {}  # by the place's identity: `told` keeps it

            def ask(place: Place) -> object:
                if id(place) not in known:
                    known[id(place)] = answer = telling(self.places, place, name)
                    through, node = self.places.through(place, name)
                    told.append(Told(telling, place, comparable(answer), through, node))
                return known[id(place)]

            return ask

        queries = Queries(
            program,
            noted(Places.text),
            noted(Places.call_off),
            noted(Places.syntax),
            noted(Places.function),
        )
        out: list[Report] = []
        for rule in RULES if program.events else ():  # where nothing happens, nothing goes wrong
            try:
                out += rule.check(queries)
            except Exception as error:
                self.engine.report_bug(f"check of {rule.code}", error)
        root.reports, root.told = tuple(out), tuple(told)
        root.lines = {fid: self._lines(fid) for each in told for fid in each.through}

    def findings(self) -> list[Placed[Finding]]:
        out: list[Placed[Finding]] = []
        for name, root in self.roots:
            if root.findings is None:
                root.findings = list(self._placed(root.reports, name))
            out += root.findings
        return out

    def _placed(self, reports: Iterable[Report], name: str) -> Iterator[Placed[Finding]]:
        for report in reports:
            places = [report.where]
            places += [place for _, place in report.path]
            places += [place for _, place in report.places]
            try:
                spots = [self.places.spot(place, name) for place in places]
            except (AttributeError, KeyError, IndexError) as error:
                self.engine.report_bug(f"place of {report.rule.code}", error)
                continue
            yield Placed(spots, partial(finding, report, self.source.file, self.engine.linker), report)

    def silences(self) -> list[Placed[Silence]]:
        out: list[Placed[Silence]] = []
        for name, root in self.roots:
            if root.silences is None:
                root.silences = list(self._silent(root, name))
            out += root.silences
        return out

    def _silent(self, root: _Root, name: str) -> Iterator[Placed[Silence]]:
        for reason, place in root.program.silences if root.program is not None else ():
            try:
                spot = self.places.spot(place, name)
            except (AttributeError, KeyError, IndexError) as error:
                self.engine.report_bug("place of a silence", error)
                continue
            yield Placed([spot], partial(silence, reason, self.source.file))

    def anchored(
        self, broken: Sequence[tuple[Standing, Finding, Hashable]]
    ) -> list[tuple[Hashable, Finding | Placed[Finding]]]:
        """Each finding with its anchor, in their order: as `deduplicated` and `in_order` would have them."""
        if self._standing is None:
            self._standing = self._stand()
        if not broken:
            return [entry[1:] for _, entry in self._standing]
        best = dict(self._standing)
        for standing, one, anchor in broken:
            best[standing] = one.severity, anchor, one
        return [best[standing][1:] for standing in sorted(best)]

    def _stand(self) -> list[tuple[Standing, Entry]]:
        """The findings about gradients for `anchored`."""
        starts = self.source.starts
        regions, skeleton = self.world.regions, self.outline.skeleton
        best: dict[Standing, Entry] = {}
        own = self.source.first if isinstance(self.source, Linked) else 0
        for placed in self.findings():
            report = placed.report
            assert report is not None
            where, severity = placed.spots[0], report.severity
            units = [regions.get(owner, skeleton).at[at] for owner, at in placed.lines]
            if units[0] < own:
                continue  # stands in another file
            standing = units[0], where.start, where.end, report.rule.code
            old = best.get(standing)
            if old is None or severity.rank < old[0].rank:
                best[standing] = severity, (placed.identity, tuple([starts[unit] for unit in units])), placed
            self._owners.update([owner for owner, _ in placed.lines])
        return sorted(best.items(), key=lambda item: item[0])

    def speaks_elsewhere(self) -> bool:
        """Whether some finding stands in another file."""
        if not isinstance(self.source, Linked):
            return False
        regions, skeleton, own = self.world.regions, self.outline.skeleton, self.source.first
        return any(
            regions.get(placed.spots[0].owner, skeleton).at[placed.spots[0].at] < own
            for placed in self.findings()
        )

    def firsts(self) -> Callable[[Spot], int]:
        """How far from the text's beginning the line of a spot begins."""
        offset, starts = self.source.line_offset, self.source.starts
        regions, skeleton = self.world.regions, self.outline.skeleton

        def first(spot: Spot) -> int:
            return offset(starts[regions.get(spot[0], skeleton).at[spot[1]]])

        return first


def finding(report: Report, file: str, linker: Linker, spans: Sequence[Span]) -> Finding:
    """A report at the spans of its places: where, its path's, its others'.

    Where they are not all in one file, they are `abroad`.
    """
    located = [linker.place(file, span) for span in spans]
    across = any(one != file for one, _ in located)
    (where_file, where), *rest = located
    path, places = rest[: len(report.path)], rest[len(report.path) :]
    steps = zip(report.path, path, strict=True)
    return Finding(
        report.rule.code,
        report.rule.name,
        report.severity,
        plain(report.message),
        where_file,
        where,
        tuple([Step(plain(message), one, span) for (message, _), (one, span) in steps]),
        ()
        if across
        else tuple([(key, span) for (key, _), (_, span) in zip(report.places, places, strict=True)]),
        report.facts,
        tuple(
            [
                Abroad(name, one, span, linker.text_of(one) if one != file else None)
                for name, (one, span) in zip(
                    ("", *[key for key, _ in report.places]), (located[0], *places), strict=True
                )
            ]
        )
        if across
        else (),
    )


def brought_home(found: Finding, source: Source, files: Files | None) -> Finding | None:
    """A finding in another file, where the way that this one takes through it was last in this one."""
    steps = [step for step in found.path if step.file == source.file]
    other = files.read(found.file) if files is not None else None
    if not steps or other is None:
        return None
    name = re.split(r"[\\/]", found.file)[-1]
    row = other.row_column(found.where.start)[0] + 1
    message = f"{found.message} ({name}, line {row})"
    return replace(found, file=source.file, where=steps[-1].where, message=message)


def silence(reason: str, file: str, spans: Sequence[Span]) -> Silence:
    """A silence at the span of its place."""
    return Silence(file, spans[0], reason)


def comparable(answer: object) -> object:
    """Equal if the answers are."""
    return (answer.owner, answer.here) if isinstance(answer, Within) else answer


def silent_sinks(program: Program) -> Iterator[tuple[str, Place]]:
    """Why nothing can be said of a sink: what it hangs on that cannot be seen into."""
    for event in program.events:
        if event.kind not in ("backward", "grad", "return"):
            continue
        place = event.place("call")
        if place is None:
            continue
        if event.node == NOWHERE:
            why = event.fact("why") or "nothing that it is computed from is known"
            yield f"nothing is known of what is differentiated here: {why}", place
            continue
        reasons: dict[str, None] = {}
        for number in program.graph.feeding(event.node, (Edge.LIVE, Edge.UNKNOWN)):
            node = program.graph[number]
            if node.kind == "source" and node.op in ("call", "argument", "element"):
                what = {
                    "argument": f"the argument `{node.note}` is not known",
                    "element": "it iterates over something unknown",
                }
                reasons[what.get(node.op, node.note)] = None
        for reason in list(reasons)[:3]:
            yield f"a way to it may be live or not: {reason}", place
