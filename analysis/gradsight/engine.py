"""From text to findings, with a memo.

The analysis cannot fail: a bug inside a rule is reported through `report_bug` and costs that rule alone. It
reads no file; `Files` gives it the text of others. Only this module turns places into spans.
"""

from __future__ import annotations

import ast
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from gradsight import suppression
from gradsight.domain import Edge
from gradsight.finding import Finding, Fix, Severity, Step
from gradsight.graph import Here, Node, Place, There, Within
from gradsight.interpret.activation import OutOfBudget
from gradsight.interpret.codec import Encoder, Key
from gradsight.interpret.index import LOSS_NAME
from gradsight.interpret.memo import MOST_VERSIONS, Memo, Record
from gradsight.interpret.state import Event
from gradsight.interpret.statements import Statements
from gradsight.interpret.world import World
from gradsight.outline import Region, outline
from gradsight.queries import TARGETS, Program, Queries
from gradsight.rule import Report
from gradsight.text import Source, Span
from gradsight.values import NOWHERE, Class, Const, Number, Obj, Ref, Tensor, Unknown, Value

FRAMEWORKS = re.compile(r"\btorch\b|\blightning\b|\baccelerate\b")
NOT_A_LOSS = re.compile(
    r"metric|accuracy|eval|valid|scor|estimate|plot|log_|print|make|build|get_loss_fn|create|register|init|test",
    re.IGNORECASE,
)
METRIC_NAME = re.compile(
    r"acc|iou|score|precision|recall|psnr|ssim|f1|rmse|mae|mape|error|correct|coef|corr|dist|count|stat", re.I
)
MOST_DOCUMENTS = 64
MOST_ROOTS = 2048


class Files(Protocol):
    """The texts around the one that is analysed: open documents over disk, or disk alone."""

    def read(self, file: str) -> str | None:
        """The text of a file, None where there is none."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Where nothing is said although something happens, and why."""

    file: str
    where: Span
    reason: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What the analysis says about one file, in the order of the text."""

    findings: tuple[Finding, ...]
    silences: tuple[Silence, ...] = ()


Telling = Callable[["_Analysis", Place, str], object]
Bugs = Callable[[str, BaseException], None]


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
        self._worlds: OrderedDict[str, World] = OrderedDict()  # of each file the latest
        self._roots: OrderedDict[tuple[str, str], list[_Root]] = OrderedDict()

    @property
    def analysed(self) -> list[str]:
        return self.memo.analysed

    def analyze(self, source: Source, files: Files | None = None) -> Findings:
        """Every finding of the file, suppressions applied."""
        found: list[Finding] = []
        silences: list[Silence] = []
        found += unparsable(source)
        if FRAMEWORKS.search(source.text):
            before = self._worlds.get(source.file)
            whole = outline(source.units, before.outline if before is not None else None)
            world = self._worlds[source.file] = World(whole, self.memo, before)
            self._worlds.move_to_end(source.file)
            if len(self._worlds) > MOST_DOCUMENTS:
                self._worlds.popitem(last=False)
            analysis = _Analysis(self, source, world)
            found += analysis.findings()
            silences += analysis.silences()
        found = deduplicated(found)
        kept = suppression.suppress(source, tuple(found))
        ordered = sorted(kept, key=lambda one: (one.where.start, one.where.end, one.code))
        return Findings(
            tuple(ordered), tuple(sorted(silences, key=lambda one: (one.where.start, one.reason)))
        )

    def fixes(self, source: Source, finding: Finding) -> tuple[Fix, ...]:
        """What mends a finding, best first. Loads libcst. A bug here costs the fix alone."""
        from gradsight.rules import RULES

        for rule in RULES:
            if rule.code == finding.code:
                try:
                    return tuple(rule.fix(source, finding))
                except Exception as error:
                    self.report_bug(f"fix of {rule.code}", error)
        return ()


def analyze(source: Source, files: Files | None = None) -> Findings:
    """Every finding of one file, from scratch."""
    return Engine().analyze(source, files)


def deduplicated(findings: list[Finding]) -> list[Finding]:
    """One root cause is one finding: the loudest of those with the same code and place."""
    best: dict[tuple[str, Span], Finding] = {}
    for one in findings:
        key = (one.code, one.where)
        old = best.get(key)
        if old is None or one.severity.rank < old.severity.rank:
            best[key] = one
    return list(best.values())


def unparsable(source: Source) -> Iterator[Finding]:
    """Lines that do not parse: findings of their own, beside the others."""
    for at, line in enumerate(source.units):
        if line.error is None:
            continue
        row, column = line.error_at
        start = source.offset(source.starts[at] + row, column)
        end = source.offset(source.starts[at] + row, 1 << 30)
        where = Span(start, max(start, end))
        if line.needs is not None:
            message = (
                f"this line needs Python {line.needs} or newer to be read; what it binds is unknown here"
            )
            yield Finding("GS002", "newer-python", Severity.INFORMATION, message, source.file, where)
        else:
            message = f"this line does not parse: {line.error}"
            yield Finding("GS001", "syntax-error", Severity.ERROR, message, source.file, where)


@dataclass(eq=False)
class _Root:
    """One analysed root and what it was made from. `program` is None where it grew too large."""

    region: Region
    program: Program | None
    record: Record
    opened: dict[str, Value] | None  # the module's names as it found them
    reports: tuple[Report, ...] = ()
    told: tuple[tuple[Telling, Place, object], ...] = ()  # what the rules asked of the text, and the answers

    @cached_property
    def names(self) -> dict[str, Value]:
        """What a function seen without its caller knows of the module's names."""
        env = self.program.env if self.program is not None else {}
        return {name: plain(value) for name, value in env.items()}


class _Analysis:
    """One version of one file."""

    def __init__(self, engine: Engine, source: Source, world: World) -> None:
        self.engine, self.source, self.world = engine, source, world
        self.outline = world.outline
        self.module: _Root | None = None
        self.roots: list[tuple[str, _Root]] = []
        self._run()

    # -- the roots

    def _run(self) -> None:
        entered: set[str] = set()
        module = self.module = self._root("<module>", self.outline.skeleton, self._module)
        if module is not None and module.program is not None:
            if any(event.kind in ("backward", "grad") for event in module.program.events):
                entered |= module.record.functions
        for cid, info in self.world.classes.items():
            if any(fid in entered for fid in info.methods.values()) or not info.methods:
                continue
            if cid in self.world.index.derived_from:
                continue  # seen through the classes that derive from it
            root = self._root(f"class {cid}", self.outline.skeleton, lambda cid=cid: self._class(cid))  # type: ignore[misc]
            if root is not None:
                entered |= root.record.functions
                if module is not None:
                    entered |= module.record.functions
        for fid in self.world.fids:
            if fid in entered or self.world.function(fid) is None:
                continue
            if fid.rpartition(".")[0] in self.world.classes:
                continue
            self._root(fid, self.world.regions[fid], lambda fid=fid: self._function(fid))  # type: ignore[misc]

    def _root(self, name: str, region: Region, compute: Callable[[], Program]) -> _Root | None:
        """The root as it is now; None where it grew too large."""
        key = (self.source.file, name)
        kept = self.engine._roots.setdefault(key, [])
        root = next((root for root in kept if self._holds(root, region)), None)
        if root is None:
            root = self._computed(name, region, compute)
        elif root.program is not None and any(
            comparable(telling(self, place, name)) != answer for telling, place, answer in root.told
        ):
            root.reports, root.told = self._check(root.program, name)
        if kept[:1] != [root]:
            kept[:] = [root, *(other for other in kept if other is not root)][:MOST_VERSIONS]
        self.engine._roots.move_to_end(key)
        if len(self.engine._roots) > max(MOST_ROOTS, 2 * len(self.roots)):
            self.engine._roots.popitem(last=False)
        if root.program is None:
            return None
        self.roots.append((name, root))
        return root

    def _holds(self, root: _Root, region: Region) -> bool:
        if root.region != region:
            return False
        if root.opened is not None and root.opened is not self._opened() and root.opened != self._opened():
            return False
        return self.world.is_current(root.record) or self.world.holds(root.record)

    def _computed(self, name: str, region: Region, compute: Callable[[], Program]) -> _Root:
        self.engine.memo.analysed.append(name)
        trace = self.world.begin()
        program: Program | None = None
        try:
            program = compute()
        except (OutOfBudget, RecursionError):
            pass
        finally:
            self.world.end()
        record = Record(trace, frozenset())
        record.settle(trace, 0, self.world.number, self.world.token)
        root = _Root(region, program, record, None if name == "<module>" else self._opened())
        if program is not None:
            program.silences = list(silent_sinks(program))
            root.reports, root.told = self._check(program, name)
        return root

    def _opened(self) -> dict[str, Value]:
        return self.module.names if self.module is not None else {}

    def _module(self) -> Program:
        it = Statements(self.world, "<module>")
        it.state.module = it.state.env
        it.run_block(self.world.skeleton)
        return Program("module", "<module>", it.graph, tuple(it.events), it.state.env, it.state.heap)

    def _open(self) -> Statements:
        """An activation whose module names are those that the module left."""
        it = Statements(self.world, "<open>")
        it.state.module.update(self._opened())
        return it

    def _function(self, fid: str) -> Program:
        info = self.world.function(fid)
        assert info is not None
        it = self._open()
        args, kwargs, env = self._arguments(it, info.node, info.header, skip=0)
        lone = "loss" if is_lone_loss(info.node, self.world.regions[fid]) else ""
        value = it.call_function(fid, args, kwargs, info.node)
        if lone and not any(event.kind in ("backward", "grad") for event in it.events):
            it.sink(it.returned_loss(value), info.node, None, kind="return")
        else:
            lone = ""
        return Program("function", fid, it.graph, tuple(it.events), env, it.state.heap, lone=lone)

    def _arguments(
        self, it: Statements, node: ast.FunctionDef | ast.AsyncFunctionDef, at: int, skip: int
    ) -> tuple[list[Value], dict[str, Value], dict[str, Value]]:
        """Arguments that nothing is known about, but for what annotations and defaults say."""
        it.at = at
        positional = [*node.args.posonlyargs, *node.args.args]
        defaults: dict[str, ast.expr] = dict(
            zip(
                [p.arg for p in positional[len(positional) - len(node.args.defaults) :]],
                node.args.defaults,
                strict=True,
            )
        )
        defaults |= {
            p.arg: d
            for p, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            if d is not None
        }
        args: list[Value] = []
        kwargs: dict[str, Value] = {}
        env: dict[str, Value] = {}
        for position, parameter in enumerate([*positional, *node.args.kwonlyargs]):
            if position < skip:
                continue
            value = self._argument(it, parameter, defaults.get(parameter.arg))
            env[parameter.arg] = value
            if position < len(positional):
                args.append(value)
            else:
                kwargs[parameter.arg] = value
        return args, kwargs, env

    def _argument(self, it: Statements, parameter: ast.arg, default: ast.expr | None) -> Value:
        annotation = ast.unparse(parameter.annotation) if parameter.annotation is not None else ""
        if annotation in (
            "int",
            "float",
            "bool",
            "Optional[int]",
            "Optional[float]",
            "int | None",
            "float | None",
        ):
            return Number()
        if annotation in ("str", "Path", "Optional[str]", "str | None", "argparse.Namespace", "Namespace"):
            return Unknown("a setting")
        if (
            isinstance(default, ast.Constant)
            and isinstance(default.value, (int, float))
            and not isinstance(default.value, bool)
        ):
            return Number()
        if isinstance(default, ast.UnaryOp):
            return Number()
        if isinstance(default, ast.Constant) and isinstance(default.value, (str, bool)):
            return Unknown("a setting")
        node = it.source("argument", parameter.arg, parameter)
        if annotation.endswith("LongTensor"):
            return Tensor(NOWHERE, "int")
        if annotation in ("torch.Tensor", "Tensor", "torch.FloatTensor"):
            return Tensor(node)
        return Unknown(f"the argument `{parameter.arg}` is not known here", node)

    def _class(self, cid: str) -> Program:
        """An object of the class, made with unknown arguments; then what its methods do to it."""
        world = self.world
        it = self._open()
        reference = it.allocate(Obj("instance", Class(cid)))
        init = world.find_method(cid, "__init__")
        if init is not None and (info := world.function(init)) is not None:
            args, kwargs, _ = self._arguments(it, info.node, info.header, skip=1)
            it.at = 0
            it.call_function(init, [reference, *args], kwargs, info.node)
        entries, lone = world.entries(cid)
        for name in entries:
            fid = world.find_method(cid, name)
            info = world.function(fid) if fid is not None else None
            if info is None or fid is None or info.kind in ("property",):
                continue
            skip = 0 if info.kind == "static" else 1
            args, kwargs, _ = self._arguments(it, info.node, info.header, skip)
            before = it.state.fork()
            it.at = 0
            it.state.grad = "on"
            value = it.call_function(fid, [reference, *args] if skip else args, kwargs, info.node)
            if name == "training_step":
                it.sink(it.returned_loss(value), info.node, None, kind="return")
            elif name == "forward" and lone:
                for one in returned_values(it, value):
                    it.sink(one, info.node, None, kind="return")
            it.state = it.joiner.states([before, it.state])
        if lone and any(event.kind in ("backward", "grad") for event in it.events):
            lone = ""
        return Program("class", cid, it.graph, tuple(it.events), {}, it.state.heap, reference.oid, lone)

    # -- findings

    def _check(
        self, program: Program, name: str
    ) -> tuple[tuple[Report, ...], tuple[tuple[Telling, Place, object], ...]]:
        """What the rules say, and all that they asked of the text."""
        from gradsight.rules import RULES

        told: list[tuple[Telling, Place, object]] = []

        def noted(telling: Telling) -> Any:
            def ask(place: Place) -> object:
                answer = telling(self, place, name)
                told.append((telling, place, comparable(answer)))
                return answer

            return ask

        queries = Queries(program, noted(_Analysis.text), noted(_Analysis.call_off), noted(_Analysis.syntax))
        out: list[Report] = []
        for rule in RULES:
            try:
                out += rule.check(queries)
            except Exception as error:
                self.engine.report_bug(f"check of {rule.code}", error)
        return tuple(out), tuple(told)

    def findings(self) -> Iterator[Finding]:
        for name, root in self.roots:
            for report in root.reports:
                try:
                    yield self._finding(report, name)
                except (AttributeError, KeyError, IndexError) as error:
                    self.engine.report_bug(f"place of {report.rule.code}", error)

    def _finding(self, report: Report, name: str) -> Finding:
        return Finding(
            report.rule.code,
            report.rule.name,
            report.severity,
            report.message,
            self.source.file,
            self.span(report.where, name),
            tuple(Step(message, self.source.file, self.span(place, name)) for message, place in report.path),
            tuple((key, self.span(place, name)) for key, place in report.places),
            report.facts,
        )

    def silences(self) -> Iterator[Silence]:
        for name, root in self.roots:
            for reason, place in root.program.silences if root.program is not None else ():
                yield Silence(self.source.file, self.span(place, name), reason)

    # -- places

    def locate(self, place: Place, root: str) -> tuple[str, Here]:
        """The function that a place stands in, and where in it."""
        owner, place = self._inmost(place, root)
        assert not isinstance(place, There)
        return (place.owner, place.here) if isinstance(place, Within) else (owner, place)

    def _inmost(self, place: Place, owner: str) -> tuple[str, Place]:
        """A place of `owner` with the calls that it lies in entered."""
        chain: list[Key] = []
        while isinstance(place, There):
            inner = self._inside(place, chain)
            owner = place.callee.fid
            assert inner is not None
            place = inner
        return owner, place

    def _inside(self, place: There, chain: list[Key]) -> Place | None:
        """Where a place inside a call stands in the callee; `chain` holds the calls before it, and grows."""
        summary = self.world.settled(place.callee, chain)
        chain.append(place.callee)
        if isinstance(place.node, tuple):
            number, part = place.node
            return summary.events[number].place(part)
        return summary.graph[place.node].place

    def syntax(self, place: Place, root: str) -> object:
        """The ast node at a place."""
        return self.locate(place, root)[1].node

    def span(self, place: Place, root: str) -> Span:
        owner, here = self.locate(place, root)
        region = self.world.regions.get(owner, self.outline.skeleton)
        return self.source.span_of(region.at[here.at], here.node)

    def text(self, place: Place, root: str) -> str:
        try:
            return self.source.slice(self.span(place, root))
        except (AttributeError, KeyError, IndexError) as error:
            self.engine.report_bug("text of a place", error)
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


def is_lone_loss(node: ast.FunctionDef | ast.AsyncFunctionDef, region: Region) -> bool:
    """Whether a function that nothing calls is a loss.

    Its name says so, or it reduces an expression over a prediction and a target. A metric does that too, so
    there the arguments' names must tell which is which.
    """
    name = node.name
    if NOT_A_LOSS.search(name):
        return False
    if LOSS_NAME.search(name):
        return True
    names = [parameter.arg for parameter in (*node.args.posonlyargs, *node.args.args)]
    if (
        METRIC_NAME.search(name)
        or not any(one in TARGETS for one in names)
        or all(one in TARGETS for one in names)
    ):
        return False
    returned = [part for line in region.lines for part in line.nodes if isinstance(part, ast.Return)]
    return bool(returned) and all(is_reduction(part.value) for part in returned)


def is_reduction(node: ast.expr | None) -> bool:
    """`x.mean()`, `torch.sum(x)`, also scaled, negated or subtracted from a number."""
    if isinstance(node, ast.UnaryOp):
        return is_reduction(node.operand)
    if isinstance(node, ast.BinOp):
        return is_reduction(node.left) or is_reduction(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("mean", "sum") or is_reduction(node.func.value)
    return False


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


def returned_values(it: Statements, value: Value) -> list[Value]:
    """What a module returns, taken apart."""
    items = it.items(value)
    if items is not None:
        return [one for item in items for one in returned_values(it, item)]
    obj = it.obj(value)
    if obj is not None and obj.kind == "dict":
        return [one for _, item in obj.fields for one in returned_values(it, item)]
    return [value]


def plain(value: Value) -> Value:
    """A value of the module for a function that is seen without its caller: no nodes, no objects."""
    if isinstance(value, (Const, Number)):
        return value if isinstance(value, Const) else Number()
    if isinstance(value, Ref):
        return Unknown("an object of the module")
    if isinstance(value, (Tensor, Unknown)) or (not isinstance(value, (Class,)) and hasattr(value, "node")):
        return Unknown("a value of the module")
    return value


__all__ = ["Encoder", "Engine", "Event", "Files", "Findings", "Node", "Silence", "analyze"]
