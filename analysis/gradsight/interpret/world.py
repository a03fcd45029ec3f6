"""The program of one file as the interpreter sees it: its functions, classes and names, and their summaries.

Nothing is ever invalidated by hand. A summary is kept under the function's lines and the kinds of its arguments,
together with what it read (the summaries of its callees); before it is used again, what it read is checked.
"""

from __future__ import annotations

import ast
import builtins
import functools
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from gradsight import model
from gradsight.domain import Edge
from gradsight.graph import Graph, Node
from gradsight.interpret.activation import Activation, OutOfBudget
from gradsight.interpret.codec import Key, moved
from gradsight.interpret.library import GRAD_OFF, GRAD_ON
from gradsight.interpret.statements import Statements
from gradsight.interpret.summary import Summary
from gradsight.names import canonical
from gradsight.outline import Block, Outline, Region, nest
from gradsight.values import (
    NONE,
    NOWHERE,
    Bound,
    Choice,
    Class,
    Const,
    Func,
    Lib,
    Obj,
    Params,
    Partial,
    Ref,
    Seq,
    Super,
    Unknown,
    Value,
    node_of,
)

MOST_DEPTH = 24  # activations within activations
MOST_NODES = 4000  # of one summary
LARGE = 120  # nodes of a summary from which on it is collapsed
MOST_ENTRIES = 4096  # summaries kept

TRANSPARENT = {
    "staticmethod",
    "classmethod",
    "property",
    "abstractmethod",
    "override",
    "final",
    "lru_cache",
    "cache",
    "wraps",
}


@dataclass(frozen=True, slots=True, eq=False)
class FunctionInfo:
    """One function region, read."""

    fid: str
    region: Region
    node: ast.FunctionDef | ast.AsyncFunctionDef
    body: Block | None  # None: `def f(x): return x`, whose body is the node's
    header: int  # position of the header line in the region
    decorators: tuple[ast.expr, ...]
    cid: str | None
    grad: str  # "off" | "on" | "" by a decorator
    kind: str  # "property" | "static" | "class" | ""
    unknown_decorator: str
    generator: bool
    decorator_at: int = 0  # position of the first decorator's line in the region


@dataclass(slots=True, eq=False)
class ClassInfo:
    """One class of the file."""

    cid: str
    bases: tuple[Value, ...] = ()
    methods: dict[str, str] = field(default_factory=dict)  # name -> fid
    attributes: dict[str, ast.expr] = field(default_factory=dict)
    fields: tuple[tuple[str, ast.expr | None], ...] = ()  # of a dataclass or named tuple
    token: tuple[object, ...] = ()
    at: int = 0
    node: ast.ClassDef | None = None


@dataclass(slots=True, eq=False)
class Entry:
    """A summary and what it read."""

    reads: tuple[tuple[Key, object], ...]
    summary: Summary
    functions: frozenset[str]


class Memo:
    """Summaries of all files, bounded, the least recently used first to go. `analysed` counts for tests."""

    def __init__(self) -> None:
        self.entries: OrderedDict[tuple[Region, Key], list[Entry]] = OrderedDict()
        self.analysed: list[str] = []

    def get(self, region: Region, key: Key) -> list[Entry]:
        found = self.entries.get((region, key))
        if found is None:
            return []
        self.entries.move_to_end((region, key))
        return found

    def put(self, region: Region, key: Key, entry: Entry) -> None:
        entries = self.entries.setdefault((region, key), [])
        entries.insert(0, entry)
        del entries[4:]
        if len(self.entries) > MOST_ENTRIES:
            self.entries.popitem(last=False)


@functools.lru_cache(16384)
def referenced(region: Region) -> frozenset[str]:
    """Every name that a region's lines read."""
    return frozenset(
        node.id
        for line in region.lines
        for part in line.nodes
        for node in ast.walk(part)
        if isinstance(node, ast.Name)
    )


@functools.lru_cache(16384)
def stored_attributes(region: Region) -> tuple[str, ...]:
    """`self.x` wherever a region's lines store it or change it in place, once for each time."""
    out: list[str] = []
    for line in region.lines:
        for part in line.nodes:
            for node in ast.walk(part):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    if isinstance(node.ctx, (ast.Store, ast.Del)):
                        out.append(node.attr)
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    inner = node.func.value
                    while isinstance(inner, ast.Attribute) and inner.attr == "data":
                        inner = inner.value
                    if (
                        node.func.attr.endswith("_")
                        and not node.func.attr.startswith("_")
                        and isinstance(inner, ast.Attribute)
                    ):
                        out.append(inner.attr)
                elif (
                    isinstance(node, ast.Subscript)
                    and isinstance(node.ctx, ast.Store)
                    and isinstance(node.value, ast.Attribute)
                ):
                    out.append(node.value.attr)
    return tuple(out)


def unique(names: tuple[str, ...]) -> tuple[str, ...]:
    """A second `f` is `f#2`: both are functions of the file."""
    seen: dict[str, int] = {}
    out: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(out)


class World:
    """One version of one file. Made anew for each analysis; cheap, since regions and summaries are kept."""

    def __init__(self, outline: Outline, memo: Memo) -> None:
        self.outline, self.memo = outline, memo
        self.fids = unique(outline.names)
        self.regions: dict[str, Region] = dict(zip(self.fids, outline.functions))
        self.headers = dict(zip(outline.headers, self.fids))  # position of a header in the skeleton -> fid
        self.names: dict[str, Value] = {}
        self.classes: dict[str, ClassInfo] = {}
        self.current: dict[Key, Summary] = {}
        self.entered: dict[Key, frozenset[str]] = {}
        self._stack: list[Key] = []
        self._reads: list[dict[Key, object]] = []
        self._functions: list[set[str]] = []
        self._cutoffs: set[str] = set()
        self._module_names: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        self._infos: dict[str, FunctionInfo | None] = {}
        self._stores: dict[str, dict[str, int]] = {}
        self.skeleton: Block = nest(outline.skeleton.lines)
        self._index()

    # -- the file's names

    def _index(self) -> None:
        self._scan(self.skeleton, "")

    def _scan(self, block: Block, prefix: str) -> None:
        for statement in block:
            for clause in statement:
                for node in clause.line.nodes:
                    if isinstance(node, (ast.Import, ast.ImportFrom)) and not prefix:
                        self._import(node)
                    elif isinstance(node, ast.ClassDef):
                        self._class(node, clause.block, prefix, clause.at, statement.decorators)
                    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not prefix:
                        fid = self.headers.get(clause.at)
                        if fid is not None:
                            self.names[node.name] = Func(fid)
                    elif isinstance(node, (ast.If, ast.Try, ast.With)) and not prefix:
                        for inner in ast.walk(node):
                            if isinstance(inner, (ast.Import, ast.ImportFrom)):
                                self._import(inner)
                if clause.line.role != "class" and clause.block:
                    self._scan(clause.block, prefix)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.Import):
                if alias.asname:
                    self.names.setdefault(alias.asname, Lib(canonical(alias.name)))
                else:
                    top = alias.name.partition(".")[0]
                    self.names.setdefault(top, Lib(top))
            elif alias.name != "*":
                self.names.setdefault(alias.asname or alias.name, self.imported(node, alias.name))

    def imported(self, node: ast.ImportFrom, name: str) -> Value:
        if node.level:
            return Unknown(f"`{name}` is imported from another file of the project")
        return Lib(canonical(f"{node.module}.{name}"))

    def _class(
        self, node: ast.ClassDef, block: Block, prefix: str, at: int, decorators: Iterable[object]
    ) -> None:
        cid = f"{prefix}{node.name}"
        info = ClassInfo(cid, at=at, node=node)
        info.bases = tuple(self._base(base) for base in node.bases)
        fields: list[tuple[str, ast.expr | None]] = []
        self._members(info, block, cid, fields)
        for part in node.body:  # a class on one line
            if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
                info.attributes[part.targets[0].id] = part.value
        is_dataclass = any("dataclass" in clause.line.text for clause in decorators)  # type: ignore[attr-defined]
        named = any(
            isinstance(base, Lib) and base.name in ("typing.NamedTuple", "typing.TypedDict")
            for base in info.bases
        )
        if is_dataclass or named:
            info.fields = tuple(fields)
        info.token = (
            info.bases,
            tuple(info.methods.items()),
            tuple((name, ast.dump(value)) for name, value in info.attributes.items()),
            tuple(name for name, _ in info.fields),
        )
        self.classes[cid] = info
        if not prefix:
            self.names[node.name] = Class(cid)

    def _members(
        self, info: ClassInfo, block: Block, cid: str, fields: list[tuple[str, ast.expr | None]]
    ) -> None:
        for statement in block:
            for clause in statement:
                for node in clause.line.nodes:
                    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                        fid = self.headers.get(clause.at)
                        if fid is not None:
                            info.methods[node.name] = fid
                    elif isinstance(node, ast.ClassDef):
                        self._class(node, clause.block, f"{cid}.", clause.at, statement.decorators)
                    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                        info.attributes[node.targets[0].id] = node.value
                    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                        fields.append((node.target.id, node.value))
                        if node.value is not None:
                            info.attributes[node.target.id] = node.value
                if clause.line.role not in ("class", "def") and clause.block:
                    self._members(info, clause.block, cid, fields)

    def _base(self, node: ast.expr) -> Value:
        if isinstance(node, ast.Name):
            return self.names.get(node.id) or Unknown(f"`{node.id}` is not bound in this file")
        if isinstance(node, ast.Attribute):
            inner = self._base(node.value)
            if isinstance(inner, Lib):
                return Lib(canonical(f"{inner.name}.{node.attr}"))
            if isinstance(inner, Class) and f"{inner.cid}.{node.attr}" in self.classes:
                return Class(f"{inner.cid}.{node.attr}")
        if isinstance(node, ast.Subscript):
            return self._base(node.value)
        return Unknown("a base class that is computed")

    def static(self, name: str) -> Value | None:
        return self.names.get(name)

    def is_builtin(self, name: str) -> bool:
        return hasattr(builtins, name)

    def canonical(self, name: str) -> str:
        return canonical(name)

    def at_module_level(self, activation: Activation) -> bool:
        return isinstance(activation, Statements) and activation.function_name == "<module>"

    def function_value(self, activation: Activation, node: ast.AST, at: int) -> Value | None:
        if not self.at_module_level(activation):
            return None
        fid = self.headers.get(at)
        return Func(fid) if fid is not None else None

    def class_value(self, activation: Activation, node: ast.ClassDef, at: int) -> Value | None:
        if not self.at_module_level(activation):
            return None
        return Class(node.name) if node.name in self.classes else None

    # -- functions

    def function(self, fid: str) -> FunctionInfo | None:
        if fid not in self._infos:
            self._infos[fid] = self._read(fid)
        return self._infos[fid]

    def _read(self, fid: str) -> FunctionInfo | None:
        region = self.regions.get(fid)
        if region is None:
            return None
        block = nest(region.lines)
        for statement in block:
            for clause in statement:
                if (
                    clause.line.role == "def"
                    and clause.line.nodes
                    and isinstance(clause.line.nodes[0], (ast.FunctionDef, ast.AsyncFunctionDef))
                ):
                    node = clause.line.nodes[0]
                    body = clause.block if clause.line.header else None
                    decorators = [
                        one
                        for leading in statement.decorators
                        for part in leading.line.nodes
                        for one in getattr(part, "decorator_list", [])
                    ]
                    first = statement.decorators[0].at if statement.decorators else 0
                    return self._described(fid, region, node, body, clause.at, tuple(decorators), first)
        return None

    def _described(
        self,
        fid: str,
        region: Region,
        node: ast.FunctionDef | ast.AsyncFunctionDef,
        body: Block | None,
        header: int,
        decorators: tuple[ast.expr, ...],
        first: int,
    ) -> FunctionInfo:
        grad = kind = unknown = ""
        for decorator in decorators:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            value = self._base(call)
            name = value.name if isinstance(value, Lib) else ""
            if name in GRAD_OFF:
                grad = "off"
            elif name in GRAD_ON:
                grad = "on"
            elif name == "torch.set_grad_enabled" and isinstance(decorator, ast.Call) and decorator.args:
                flag = decorator.args[0]
                grad = "off" if isinstance(flag, ast.Constant) and not flag.value else ""
            elif isinstance(call, ast.Name) and call.id in ("property", "cached_property"):
                kind = "property"
            elif isinstance(call, ast.Name) and call.id == "staticmethod":
                kind = "static"
            elif isinstance(call, ast.Name) and call.id == "classmethod":
                kind = "class"
            elif isinstance(value, Func):
                unknown = value.fid
            elif name.endswith("cached_property"):
                kind = "property"
        cid = fid.rpartition(".")[0] or None
        cid = cid if cid in self.classes else None
        generator = any(
            isinstance(inner, (ast.Yield, ast.YieldFrom))
            for line in region.lines
            for part in line.nodes
            for inner in ast.walk(part)
        )
        return FunctionInfo(
            fid, region, node, body, header, decorators, cid, grad, kind, unknown, generator, first
        )

    # -- classes

    def class_info(self, cid: str) -> ClassInfo | None:
        return self.classes.get(cid)

    def mro(self, cid: str) -> list[str]:
        """The classes of this file that a class is made of, itself first, depth first."""
        out: list[str] = []
        stack = [cid]
        while stack and len(out) < 32:
            current = stack.pop(0)
            if current in out or current not in self.classes:
                continue
            out.append(current)
            stack = [base.cid for base in self.classes[current].bases if isinstance(base, Class)] + stack
        return out

    def find_method(self, cid: str, name: str, after: str | None = None) -> str | None:
        order = self.mro(cid)
        if after is not None and after in order:
            order = order[order.index(after) + 1 :]
        for one in order:
            fid = self.classes[one].methods.get(name)
            if fid is not None:
                return fid
        return None

    def library_bases(self, cid: str) -> list[Value]:
        return [
            base for one in self.mro(cid) for base in self.classes[one].bases if not isinstance(base, Class)
        ]

    def library_base(self, cid: str) -> str:
        return next((base.name for base in self.library_bases(cid) if isinstance(base, Lib)), "")

    def derives(self, cid: str, name: str) -> bool:
        return any(isinstance(base, Lib) and base.name == name for base in self.library_bases(cid))

    def is_module(self, cid: str) -> bool:
        """Whether the class is an nn.Module, as far as can be seen."""
        for base in self.library_bases(cid):
            if isinstance(base, Lib) and (
                model.module(base.name) is not None
                or base.name.endswith(
                    ("LightningModule", ".Module", "PreTrainedModel", "_Loss", "_WeightedLoss")
                )
            ):
                return True
        return False

    def is_opaque(self, cls: Class) -> bool:
        """Whether a base class cannot be seen: what is not found here may stand there."""
        for base in self.library_bases(cls.cid):
            if isinstance(base, Unknown):
                return True
            if isinstance(base, Lib):
                top = base.name.partition(".")[0]
                if top not in (
                    "torch",
                    "builtins",
                    "abc",
                    "typing",
                    "enum",
                    "collections",
                    "dataclasses",
                    "lightning",
                    "pytorch_lightning",
                ):
                    return True
        return False

    def stores(self, cid: str, name: str) -> int:
        """How many statements of the class (or one deriving from it) store or change the attribute."""
        known = self._stores.get(cid)
        if known is None:
            known = {}
            for one, info in self.classes.items():
                if cid in self.mro(one) or one in self.mro(cid):
                    for fid in info.methods.values():
                        for attribute in stored_attributes(self.regions[fid]):
                            known[attribute] = known.get(attribute, 0) + 1
            for attribute in stored_attributes(self.outline.skeleton):
                known[attribute] = known.get(attribute, 0) + 1
            self._stores[cid] = known
        return known.get(name, 0)

    def instance_attribute(self, it: Activation, receiver: Ref, cls: Class, name: str) -> Value | None:
        """A method bound to the object, a property's value, or a class attribute."""
        fid = self.find_method(cls.cid, name)
        if fid is not None:
            info = self.function(fid)
            if info is None:
                return Unknown(f"`{name}` cannot be read")
            if info.kind == "property":
                assert isinstance(it, Statements)
                node = it.expression if it.expression is not None else info.node
                return it.call_function(fid, [receiver], {}, node)
            if info.kind == "static":
                return Func(fid)
            if info.kind == "class":
                return Bound(cls, Func(fid))
            return Bound(receiver, Func(fid))
        for one in self.mro(cls.cid):
            value = self.classes[one].attributes.get(name)
            if value is not None:
                assert isinstance(it, Statements)
                return it.default(value)
        return None

    def class_attribute(self, it: Activation, cls: Class, name: str) -> Value:
        fid = self.find_method(cls.cid, name)
        if fid is not None:
            info = self.function(fid)
            return Bound(cls, Func(fid)) if info is not None and info.kind == "class" else Func(fid)
        if f"{cls.cid}.{name}" in self.classes:
            return Class(f"{cls.cid}.{name}")
        for one in self.mro(cls.cid):
            value = self.classes[one].attributes.get(name)
            if value is not None:
                assert isinstance(it, Statements)
                return it.default(value)
        if name == "apply" and self.derives(cls.cid, "torch.autograd.Function"):
            return Lib("gradsight.function_apply")
        return Unknown(f"`{cls.cid}.{name}` comes from code that is not seen")

    def super_attribute(self, it: Activation, receiver: Super, name: str) -> Value:
        if isinstance(receiver.receiver, Ref):
            obj = it.state.heap.get(receiver.receiver.oid)
            cid = obj.cls.cid if obj is not None and isinstance(obj.cls, Class) else receiver.cid
            fid = self.find_method(cid, name, after=receiver.cid)
            if fid is not None:
                return Bound(receiver.receiver, Func(fid))
        if name == "__init__":
            return Lib("gradsight.nothing")
        from gradsight.values import Method

        if name == "forward" and isinstance(receiver.receiver, Ref):
            stub = model.module(self.library_base(receiver.cid))
            if stub is not None and self.library_base(receiver.cid) != "torch.nn.Module":
                return Partial(
                    Lib("gradsight.module_forward"),
                    (Const(self.library_base(receiver.cid)), receiver.receiver),
                    (),
                )
        return Method(receiver.receiver, name)

    # -- summaries

    def module_names(self, fid: str, classes: Iterable[str]) -> tuple[str, ...]:
        """Names of the module that a call may read, through everything that it may call."""
        key = (fid, tuple(dict.fromkeys(classes)))
        known = self._module_names.get(key)
        if known is not None:
            return known
        out: set[str] = set()
        regions: list[Region] = [self.regions[fid]] if fid in self.regions else []
        waiting = list(key[1])
        owner = fid.rpartition(".")[0]
        if owner in self.classes:
            waiting.append(owner)
        done: set[str] = set()
        while regions or waiting:
            if waiting:
                cid = waiting.pop()
                if cid in done or cid not in self.classes:
                    continue
                done.add(cid)
                info = self.classes[cid]
                regions += [self.regions[method] for method in info.methods.values()]
                waiting += [base.cid for base in info.bases if isinstance(base, Class)]
                continue
            region = regions.pop()
            for name in referenced(region):
                if name in out:
                    continue
                out.add(name)
                value = self.names.get(name)
                if isinstance(value, Func) and value.fid in self.regions:
                    regions.append(self.regions[value.fid])
                elif isinstance(value, Class):
                    waiting.append(value.cid)
        result = tuple(sorted(out))
        self._module_names[key] = result
        return result

    def class_tokens(self, key: Key) -> tuple[object, ...]:
        """The structure of every class that a summary may have looked into."""
        cids = {obj.cls.cid for obj in key.heap if isinstance(obj.cls, Class)}
        cids |= {value.cid for _, value in (*key.module, *key.arguments) if isinstance(value, Class)}
        out: list[object] = []
        for cid in sorted(cids):
            for one in self.mro(cid):
                out.append((one, self.classes[one].token))
        return tuple(out)

    def summary(self, key: Key, caller: Activation | None = None) -> Summary | None:
        """The verified summary of a call; None where it would recurse or grows too large."""
        found = self.current.get(key)
        if found is None:
            if any(active.fid == key.fid for active in self._stack) or len(self._stack) >= MOST_DEPTH:
                self._cutoffs.add(
                    key.fid if any(active.fid == key.fid for active in self._stack) else "<depth>"
                )
                return None
            found = self._verified(key) or self._computed(key)
            if found is None:
                return None
        if self._reads:
            self._reads[-1][key] = found.structure
            self._functions[-1] |= self.entered.get(key, frozenset()) | {key.fid}
        return found

    def _verified(self, key: Key) -> Summary | None:
        region = self.regions[key.fid]
        for entry in self.memo.get(region, key):
            if all(self._still(read, structure) for read, structure in entry.reads):
                self.current[key] = entry.summary
                self.entered[key] = entry.functions
                return entry.summary
        return None

    def _still(self, key: Key, structure: object) -> bool:
        if key.fid == "<classes>":
            return self.class_tokens(replace_fid(key)) == structure
        if key.fid not in self.regions:
            return False
        self._reads.append({})
        self._functions.append(set())
        summary = self.summary(key)
        self._reads.pop()
        self._functions.pop()
        return summary is not None and (summary.structure is structure or summary.structure == structure)

    def _computed(self, key: Key) -> Summary | None:
        info = self.function(key.fid)
        if info is None:
            return None
        self._stack.append(key)
        self._reads.append({})
        self._functions.append(set())
        outside = self._cutoffs
        self._cutoffs = set()
        self.memo.analysed.append(key.fid)
        try:
            summary = interpret_function(self, info, key)
        except (OutOfBudget, RecursionError):
            summary = None
        finally:
            self._stack.pop()
            reads = self._reads.pop()
            functions = frozenset(self._functions.pop())
        tainted = self._cutoffs - {key.fid}
        self._cutoffs = outside | tainted
        if summary is None:
            return None
        self.entered[key] = functions
        if not tainted:
            self.current[key] = summary
            region = self.regions[key.fid]
            tokens = self.class_tokens(key)
            everything = list(reads.items())
            if tokens:
                everything.insert(0, (mark_classes(key), tokens))
            self.memo.put(region, key, Entry(tuple(everything), summary, functions | {key.fid}))
        return summary


def mark_classes(key: Key) -> Key:
    """A read of class structures, kept among the reads of summaries."""
    return Key("<classes>", key.arguments, key.module, key.heap, key.inputs, key.grad)


def replace_fid(key: Key) -> Key:
    return key


def interpret_function(world: World, info: FunctionInfo, key: Key) -> Summary:
    """One activation, and what it leaves."""
    it = Statements(world)
    it.prepare(info.fid)
    for _ in range(key.inputs):
        it.graph.add(Node("input", ""))
    it.next_oid = len(key.heap)
    it.state.heap = dict(enumerate(key.heap))
    it.state.env = dict(key.arguments)
    it.state.module = dict(key.module)
    it.state.grad = key.grad
    it.cid = info.cid
    positional = [*info.node.args.posonlyargs, *info.node.args.args]
    if positional and info.cid is not None:
        it.self_value = it.state.env.get(positional[0].arg)
    it.at = info.header
    it.run_body(info.body, info.node.body)
    if not it.dead:
        it.returns.append((NONE, it.state))
    if not it.returns:
        return summarize(it, key, Unknown(f"`{info.fid}` always raises"))
    it.state = it.joiner.states([state for _, state in it.returns])
    value = it.joiner.values([value for value, _ in it.returns])
    if info.generator:
        items = tuple(it.yields)
        value = it.allocate(Obj("list", None, items=items, many=True))
    return summarize(it, key, value)


def objects_in(value: Value | None) -> list[int]:
    if isinstance(value, Ref):
        return [value.oid]
    if isinstance(value, Seq):
        return [oid for item in value.items for oid in objects_in(item)]
    if isinstance(value, Choice):
        return [oid for item in value.options for oid in objects_in(item)]
    if isinstance(value, Bound):
        return objects_in(value.receiver)
    if isinstance(value, Partial):
        return [
            oid
            for item in (value.function, *value.args, *(v for _, v in value.kwargs))
            for oid in objects_in(item)
        ]
    return []


def nodes_of(value: Value | None) -> list[int]:
    if isinstance(value, Seq):
        return [n for item in value.items for n in nodes_of(item)]
    if isinstance(value, Choice):
        return [n for item in value.options for n in nodes_of(item)]
    if isinstance(value, Params):
        return list(value.nodes)
    if isinstance(value, Bound):
        return nodes_of(value.receiver)
    if isinstance(value, Partial):
        return [
            n for item in (value.function, *value.args, *(v for _, v in value.kwargs)) for n in nodes_of(item)
        ]
    node = node_of(value)
    return [node] if node != NOWHERE else []


def summarize(it: Statements, key: Key, value: Value) -> Summary:
    """Keep what can be seen from outside: returned values, changed objects, events, and the nodes they need."""
    heap = it.state.heap
    changed = [oid for oid in range(len(key.heap)) if oid in heap and heap[oid] != key.heap[oid]]
    written = tuple(
        (name, it.state.module[name]) for name in sorted(it.module_written) if name in it.state.module
    )
    waiting = [*objects_in(value), *changed]
    waiting += [oid for _, one in written for oid in objects_in(one)]
    waiting += [oid for event in it.events for oid in event.oids]
    reached: dict[int, None] = {}
    while waiting:
        oid = waiting.pop(0)
        if oid in reached or oid not in heap:
            continue
        if oid < len(key.heap) and oid not in changed:
            continue
        reached[oid] = None
        obj = heap[oid]
        for _, one in obj.fields:
            waiting += objects_in(one)
        for one in obj.items:
            waiting += objects_in(one)
    created = sorted(oid for oid in reached if oid >= len(key.heap))
    kept = [*changed, *created]
    oids = {oid: oid for oid in range(len(key.heap))}
    oids |= {oid: len(key.heap) + position for position, oid in enumerate(created)}
    roots = [*nodes_of(value), *(n for _, one in written for n in nodes_of(one))]
    for oid in kept:
        obj = heap[oid]
        for one in (*(v for _, v in obj.fields), *obj.items):
            roots += nodes_of(one)
    for event in it.events:
        roots += [event.node, *event.nodes]
    marked = reachable(it.graph, roots)
    if len(marked) > LARGE:
        collapse(it.graph, marked, set(roots))
        marked = reachable(it.graph, roots)
    keep = [*range(key.inputs), *sorted(n for n in marked if n >= key.inputs)]
    if len(keep) > MOST_NODES:
        raise OutOfBudget
    graph = Graph()
    renumbered = {NOWHERE: NOWHERE}
    for number in keep:
        renumbered[number] = len(graph.nodes)
        graph.nodes.append(it.graph[number])
    for number in keep:
        node = it.graph[number]
        node.inputs = tuple(renumbered.get(i, NOWHERE) for i in node.inputs)
    return Summary(
        inputs=key.inputs,
        graph=graph,
        returned=moved(value, renumbered, oids),
        created=tuple(range(len(key.heap), len(key.heap) + len(created))),
        heap=tuple((oids[oid], moved(heap[oid], renumbered, oids)) for oid in kept),
        module=tuple((name, moved(one, renumbered, oids)) for name, one in written),
        events=tuple(
            type(event)(
                event.kind,
                renumbered.get(event.node, NOWHERE),
                tuple(renumbered.get(n, NOWHERE) for n in event.nodes),
                tuple(oids.get(oid, NOWHERE) for oid in event.oids),
                event.context,
                event.facts,
                event.places,
            )
            for event in it.events
        ),
        counter=it.counter,
    )


def reachable(graph: Graph, roots: Iterable[int]) -> set[int]:
    """The nodes that some roots depend on, themselves included."""
    marked: set[int] = set()
    stack = [n for n in roots if n >= 0]
    while stack:
        number = stack.pop()
        if number in marked:
            continue
        marked.add(number)
        stack.extend(i for i in graph[number].inputs if i >= 0)
    return marked


def collapse(graph: Graph, marked: set[int], roots: set[int]) -> None:
    """In a large function, let each node that matters hang directly on those that matter to it: what lies between passes
    every gradient. Otherwise a deep network would be copied node by node for each of its calls."""
    plain = {
        number
        for number in marked
        if number not in roots
        and graph[number].kind == "op"
        and not graph[number].off
        and not graph[number].target
        and all(edge is Edge.LIVE for edge in graph[number].edges)
    }
    behind: dict[int, tuple[tuple[int, ...], bool]] = {}
    for number in sorted(marked):
        node = graph[number]
        if node.kind == "loop" or not any(i in plain for i in node.inputs):
            if number in plain:
                behind[number] = (tuple(i for i in node.inputs if i >= 0), node.saves)
            continue
        inputs: dict[int, Edge] = {}
        saves = node.saves
        exact = node.kind == "op" and all(edge is Edge.LIVE for edge in node.edges)
        if not exact:
            continue  # a join or a cut keeps its own operands
        for i in node.inputs:
            if i in behind:
                more, saved = behind[i]
                saves = saves or saved
                inputs.update((j, Edge.LIVE) for j in more)
            elif i >= 0:
                inputs[i] = Edge.LIVE
        if number in plain:
            behind[number] = (tuple(inputs), saves)
        else:
            node.inputs, node.edges, node.saves = tuple(inputs), (Edge.LIVE,) * len(inputs), saves


__all__ = ["Edge", "Memo", "World"]
