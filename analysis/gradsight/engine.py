"""From text to findings, with a memo.

The analysis cannot fail: a bug inside a rule is reported through `report_bug` and costs that rule alone. It reads
no file; `Files` gives it the text of others. Only this module turns places into spans.
"""

from __future__ import annotations

import ast
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from gradsight import suppression
from gradsight.domain import Edge
from gradsight.finding import Finding, Fix, Severity, Step
from gradsight.graph import Here, Node, Place, There, Within
from gradsight.interpret.activation import OutOfBudget
from gradsight.interpret.codec import Encoder
from gradsight.interpret.state import Event
from gradsight.interpret.statements import Statements
from gradsight.interpret.world import Memo, World
from gradsight.outline import Outline, Region, outline
from gradsight.queries import TARGETS, Program, Queries
from gradsight.rule import Report
from gradsight.text import Source, Span
from gradsight.values import NOWHERE, Class, Const, Number, Obj, Ref, Tensor, Unknown, Value

FRAMEWORKS = re.compile(r"\btorch\b|\blightning\b|\baccelerate\b")
LOSS_NAME = re.compile(r"loss|criterion|objective|penalty|nll|regulari[sz]er", re.IGNORECASE)
NOT_A_LOSS = re.compile(
    r"metric|accuracy|eval|valid|scor|estimate|plot|log_|print|make|build|get_loss_fn|create|register|init|test",
    re.IGNORECASE,
)
METRIC_NAME = re.compile(
    r"acc|iou|score|precision|recall|psnr|ssim|f1|rmse|mae|mape|error|correct|coef|corr|dist|count|stat", re.I
)
MOST_DOCUMENTS = 64


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


Bugs = Callable[[str, BaseException], None]


def ignore_bug(where: str, error: BaseException) -> None:
    """The default: a bug costs its rule and nothing else. The tests pass something louder."""


class Engine:
    """Analyses files, keeping what did not change. One for a process; not for several threads at once.

    `analysed` names the functions that were interpreted since it was last cleared: what tests of incrementality read.
    """

    def __init__(self, report_bug: Bugs = ignore_bug) -> None:
        self.memo = Memo()
        self.report_bug = report_bug
        self._outlines: OrderedDict[str, Outline] = OrderedDict()
        self._roots: OrderedDict[tuple[str, str], _Root] = OrderedDict()

    @property
    def analysed(self) -> list[str]:
        return self.memo.analysed

    def analyze(self, source: Source, files: Files | None = None) -> Findings:
        """Every finding of the file, suppressions applied."""
        found: list[Finding] = []
        silences: list[Silence] = []
        found += unparsable(source)
        if FRAMEWORKS.search(source.text):
            whole = outline(source.units, self._outlines.get(source.file))
            self._outlines[source.file] = whole
            self._outlines.move_to_end(source.file)
            if len(self._outlines) > MOST_DOCUMENTS:
                self._outlines.popitem(last=False)
            analysis = _Analysis(self, source, whole)
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


@dataclass(slots=True, eq=False)
class _Root:
    """One analysed root, kept until something that it read changes."""

    region: Region
    program: Program
    reads: tuple[tuple[Any, object], ...]
    functions: frozenset[str]
    texts: tuple[Region, ...]  # the regions of `functions` as they were
    reports: tuple[Report, ...] = ()


class _Analysis:
    """One version of one file."""

    def __init__(self, engine: Engine, source: Source, whole: Outline) -> None:
        self.engine, self.source, self.outline = engine, source, whole
        self.world = World(whole, engine.memo)
        self.roots: list[tuple[str, _Root]] = []
        self._run()

    # -- the roots

    def _run(self) -> None:
        entered: set[str] = set()
        module = self._root("<module>", self.outline.skeleton, self._module)
        if module is not None:
            self.roots.append(("<module>", module))
            if any(event.kind in ("backward", "grad") for event in module.program.events):
                entered |= module.functions
        for cid, info in self.world.classes.items():
            if any(fid in entered for fid in info.methods.values()) or not info.methods:
                continue
            if any(cid in self.world.mro(other)[1:] for other in self.world.classes):
                continue  # seen through the classes that derive from it
            root = self._root(f"class {cid}", self.outline.skeleton, lambda cid=cid: self._class(cid))  # type: ignore[misc]
            if root is not None:
                self.roots.append((f"class {cid}", root))
                entered |= root.functions
        for fid in self.world.fids:
            if fid in entered or self.world.function(fid) is None:
                continue
            if fid.rpartition(".")[0] in self.world.classes:
                continue
            root = self._root(fid, self.world.regions[fid], lambda fid=fid: self._function(fid))  # type: ignore[misc]
            if root is not None:
                self.roots.append((fid, root))

    def _root(self, name: str, region: Region, compute: Callable[[], Program]) -> _Root | None:
        key = (self.source.file, name)
        old = self.engine._roots.get(key)
        if (
            old is not None
            and old.region == region
            and all(self.world._still(read, structure) for read, structure in old.reads)
        ):
            texts = tuple(
                self.world.regions[fid] for fid in sorted(old.functions) if fid in self.world.regions
            )
            if texts != old.texts:
                old.reports = self._check(old.program, region, name)
                old.texts = texts
            return old
        self.world._reads.append({})
        self.world._functions.append(set())
        self.engine.memo.analysed.append(name)
        try:
            program = compute()
        except (OutOfBudget, RecursionError):
            return None
        finally:
            reads = self.world._reads.pop()
            functions = frozenset(self.world._functions.pop())
        texts = tuple(self.world.regions[fid] for fid in sorted(functions) if fid in self.world.regions)
        program.silences = list(silent_sinks(program))
        root = _Root(region, program, tuple(reads.items()), functions, texts)
        root.reports = self._check(program, region, name)
        self.engine._roots[key] = root
        if len(self.engine._roots) > 2048:
            self.engine._roots.popitem(last=False)
        return root

    def _module(self) -> Program:
        it = Statements(self.world)
        it.prepare("<module>")
        it.state.module = it.state.env
        it.run_block(self.world.skeleton)
        return Program("module", "<module>", it.graph, tuple(it.events), it.state.env, it.state.heap)

    def _open(self) -> Statements:
        """An activation whose module names are those that the module left."""
        it = Statements(self.world)
        it.prepare("<open>")
        module = next((root for name, root in self.roots if name == "<module>"), None)
        if module is not None:
            self.world._functions[-1] |= module.functions
            for name, value in module.program.env.items():
                it.state.module[name] = plain(value)
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
            zip([p.arg for p in positional[len(positional) - len(node.args.defaults) :]], node.args.defaults)
        )
        defaults |= {p.arg: d for p, d in zip(node.args.kwonlyargs, node.args.kw_defaults) if d is not None}
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
        is_module = world.is_module(cid)
        reference = it.allocate(Obj("instance", Class(cid)))
        init = world.find_method(cid, "__init__")
        if init is not None and (info := world.function(init)) is not None:
            args, kwargs, _ = self._arguments(it, info.node, info.header, skip=1)
            it.at = 0
            it.call_function(init, [reference, *args], kwargs, info.node)
        lone = ""
        names = [name for name in world.classes[cid].methods if name != "__init__"]
        inherited = [name for one in world.mro(cid)[1:] for name in world.classes[one].methods]
        names += [name for name in dict.fromkeys(inherited) if name not in names and name != "__init__"]
        called = {node.attr for name in names for node in attributes_called(world, cid, name)}
        entries = [name for name in names if name not in called or name in ("forward", "training_step")]
        steps = [name for name in entries if name in ("training_step",)]
        if is_module and not steps:
            loss_like = LOSS_NAME.search(cid) or any(
                isinstance(base, (type(None),)) or "Loss" in getattr(base, "name", "")
                for base in world.library_bases(cid)
            )
            entries = [
                name for name in entries if name == "forward" or "backward(" in method_text(world, cid, name)
            ]
            lone = "loss" if loss_like else "forward"
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

    def _check(self, program: Program, region: Region, name: str) -> tuple[Report, ...]:
        from gradsight.rules import RULES

        queries = Queries(
            program,
            lambda place: self.text(place, name),
            lambda place: self.call_off(place, name),
            lambda place: self.locate(place, name)[1].node,
        )
        out: list[Report] = []
        for rule in RULES:
            try:
                out += rule.check(queries)
            except Exception as error:
                self.engine.report_bug(f"check of {rule.code}", error)
        return tuple(out)

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
            for reason, place in root.program.silences:
                yield Silence(self.source.file, self.span(place, name), reason)

    # -- places

    def locate(self, place: Place, root: str) -> tuple[str, Here]:
        """The function that a place stands in, and where in it."""
        owner = root
        while isinstance(place, There):
            summary = self.world.current[place.callee]
            owner = place.callee.fid
            if isinstance(place.node, tuple):
                number, part = place.node
                inner = summary.events[number].place(part)
            else:
                inner = summary.graph[place.node].place
            assert inner is not None
            place = inner
        return (place.owner, place.here) if isinstance(place, Within) else (owner, place)

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
        while isinstance(place, There):
            calls.append((owner, place))
            owner = place.callee.fid
            summary = self.world.current[place.callee]
            inner = summary.graph[place.node].place if not isinstance(place.node, tuple) else None
            if inner is None:
                break
            place = inner
        for owner, there in calls:
            info = self.world.function(there.callee.fid)
            if there.callee.grad == "off" and info is not None and info.grad != "off":
                return Within(owner, there.call) if isinstance(there.call, Here) else there.call
        return None


def is_lone_loss(node: ast.FunctionDef | ast.AsyncFunctionDef, region: Region) -> bool:
    """Whether a function that nothing calls is a loss: its name says so, or it reduces an expression over a prediction
    and a target. A metric does that too, so there the arguments' names must tell which is which."""
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
                what = {"argument": f"the argument `{node.note}` is not known", "element": "it iterates over something unknown"}
                reasons[what.get(node.op, node.note)] = None
        for reason in list(reasons)[:3]:
            yield f"a way to it may be live or not: {reason}", place


def attributes_called(world: World, cid: str, name: str) -> Iterator[ast.Attribute]:
    """`self.x(...)` within a method."""
    fid = world.find_method(cid, name)
    if fid is None:
        return
    for line in world.regions[fid].lines:
        for part in line.nodes:
            for node in ast.walk(part):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and isinstance(node.func.value, ast.Name)
                ):
                    if node.func.value.id == "self" and node.func.attr != name:
                        yield node.func


def method_text(world: World, cid: str, name: str) -> str:
    fid = world.find_method(cid, name)
    return "".join(line.text for line in world.regions[fid].lines) if fid is not None else ""


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
    if isinstance(value, (Tensor, Unknown)) or not isinstance(value, (Class,)) and hasattr(value, "node"):
        return Unknown("a value of the module")
    return value


__all__ = ["Encoder", "Engine", "Event", "Files", "Findings", "Node", "Silence", "analyze"]
