"""The names and classes of a file, as its skeleton says: all that lies outside the functions' bodies.

It depends on nothing but the skeleton's lines, so that it is kept while somebody types inside a function.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from gradsight import model
from gradsight.interpret.libraries import GRAD_OFF, GRAD_ON
from gradsight.lines import BACKWARD, Line
from gradsight.names import canonical
from gradsight.outline import Block, Clause, Outline, Region, Statement, nest
from gradsight.syntax import walk
from gradsight.values import Class, Func, Lib, Unknown, Value

LINKED = "\0"  # the module that a name of another file is imported from, where both are read as one program
LOSS_NAME = re.compile(
    r"loss|criterion|objective|penalty|nll|regulari[sz]er|smooth_l1|huber|hinge|cross_entropy|contrastive|triplet"
    r"|focal|info_?nce|nt_?xent",
    re.IGNORECASE,
)


@dataclass(slots=True, eq=False)
class ClassInfo:
    """One class of the file."""

    cid: str
    bases: tuple[Value, ...] = ()
    methods: dict[str, str] = field(default_factory=dict)  # name -> fid
    attributes: dict[str, ast.expr] = field(default_factory=dict)
    fields: tuple[tuple[str, ast.expr | None], ...] = ()  # of a dataclass or named tuple
    token: tuple[object, ...] = ()  # equal if all of this is
    at: int = 0
    node: ast.ClassDef | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """What calling a function depends on, but for its body. Equal if the lines are."""

    lines: tuple[Line, ...]  # its decorators and header
    cid: str | None
    grad: str = ""  # "off" | "on" | "" by a decorator
    kind: str = ""  # "property" | "static" | "class" | ""
    unknown_decorator: str = ""


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


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """A function's region, nested."""

    node: ast.FunctionDef | ast.AsyncFunctionDef
    body: Block | None
    header: int
    decorators: tuple[ast.expr, ...]
    generator: bool
    decorator_at: int


def hands_back(lines: Iterable[Line]) -> bool:
    """Whether each function among the lines returns its first argument, or one defined within that does.

    So decorators are written that only take down what they decorate.
    """
    functions: list[str] = []
    firsts: set[str] = set()
    returned: set[str] = set()
    for line in lines:
        for node in line.nodes:
            for part in ast.walk(node):
                if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) and line.role == "def":
                    functions.append(part.name)
                    firsts |= {each.arg for each in part.args.args[:1]}
                elif isinstance(part, ast.Return):
                    if not isinstance(part.value, ast.Name):
                        return False
                    returned.add(part.value.id)
                elif isinstance(part, (ast.Yield, ast.YieldFrom, ast.Lambda)):
                    return False
    stored = {
        part.id
        for line in lines
        for node in line.nodes
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }
    given = returned & firsts
    return (
        bool(given)
        and not given & stored
        and returned <= firsts | set(functions)
        and len(returned) == len(functions)
    )


@functools.lru_cache(2048)
def parsed(lines: tuple[Line, ...]) -> Parsed | None:
    """The definition that a region's lines hold; None where its header does not parse."""
    for statement in nest(lines):
        for clause in statement:
            line = clause.line
            if (
                line.role == "def"
                and line.nodes
                and isinstance(line.nodes[0], (ast.FunctionDef, ast.AsyncFunctionDef))
            ):
                decorators = tuple(
                    one
                    for leading in statement.decorators
                    for part in leading.line.nodes
                    for one in getattr(part, "decorator_list", [])
                )
                body = clause.block if line.header else None
                first = statement.decorators[0].at if statement.decorators else 0
                yields = any(line_links(line).yields for line in lines)
                return Parsed(line.nodes[0], body, clause.at, decorators, yields, first)
    return None


@functools.lru_cache(16384)
def line_binds(line: Line) -> frozenset[str]:
    """Every name that a line may bind where it stands."""
    if line.role == "@":
        return frozenset()  # the function below it in its `nodes` is not in the text
    names = {name.partition(".")[0] for name in line.binds}
    names.add(line.name)
    for part in line.nodes:
        inner: set[ast.AST] = set()  # what a comprehension binds is its own
        for node in walk(part):
            if isinstance(node, ast.Name):
                if not isinstance(node.ctx, ast.Load) and node not in inner:
                    names.add(node.id)
            elif isinstance(node, ast.comprehension):
                inner.update(walk(node.target))
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)):
                names.add(node.name or "")
            elif isinstance(node, (ast.MatchAs, ast.MatchStar)):
                names.add(node.name or "")
            elif isinstance(node, ast.MatchMapping):
                names.add(node.rest or "")
            elif isinstance(node, ast.alias):
                names.add(node.asname or node.name.partition(".")[0])
    return frozenset(names)


@dataclass(frozen=True, slots=True)
class Links:
    """What some lines have to do with what is defined elsewhere."""

    names: frozenset[str]  # every name that they read or bind
    attributes: frozenset[tuple[str, str]]  # every attribute, with the name that it is of, if that is all
    called: frozenset[str]  # every `self.x(...)`
    stored: tuple[str, ...]  # `self.x` wherever they store it or change it in place, once for each time
    declared: frozenset[str]  # names that they declare global
    yields: bool
    backward: bool  # they ask for gradients themselves, as far as their text says


_LINKING = frozenset({ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Yield, ast.YieldFrom, ast.Global})


@functools.lru_cache(16384)
def line_links(line: Line) -> Links:
    """The links of one line."""
    names: set[str] = set()
    attributes: set[tuple[str, str]] = set()
    called: set[str] = set()
    stored: list[str] = []
    declared: set[str] = set()
    yields = False
    for part in line.nodes if line.idle is None else ():
        for node in walk(part):
            kind = node.__class__
            if kind not in _LINKING:
                continue
            if isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.Attribute):
                attributes.add((owner_of(node), node.attr))
                if isinstance(node.value, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
                    stored.append(node.attr)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                inner = node.func.value
                if isinstance(inner, ast.Name) and inner.id == "self":
                    called.add(node.func.attr)
                while isinstance(inner, ast.Attribute) and inner.attr == "data":
                    inner = inner.value
                if (
                    node.func.attr.endswith("_")
                    and not node.func.attr.startswith("_")
                    and isinstance(inner, ast.Attribute)
                ):
                    stored.append(inner.attr)
            elif (
                isinstance(node, ast.Subscript)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Attribute)
            ):
                stored.append(node.value.attr)
            elif isinstance(node, (ast.Yield, ast.YieldFrom)):
                yields = True
            elif isinstance(node, ast.Global):
                declared.update(node.names)
    return Links(
        frozenset(names),
        frozenset(attributes),
        frozenset(called),
        tuple(stored),
        frozenset(declared),
        yields,
        BACKWARD in line.text,
    )


def owner_of(node: ast.Attribute) -> str:
    """The name whose attribute it is, `self` also for `super()`; else nothing."""
    base = node.value
    if isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and base.func.id == "super":
        return "self"
    return base.id if isinstance(base, ast.Name) else ""


@functools.lru_cache(2048)
def links(region: Region) -> Links:
    """The links of all lines of a region."""
    each = [line_links(line) for line in region.lines]
    return Links(
        frozenset().union(*[one.names for one in each]),
        frozenset().union(*[one.attributes for one in each]),
        frozenset().union(*[one.called for one in each]),
        tuple(name for one in each for name in one.stored),
        frozenset().union(*[one.declared for one in each]),
        any(one.yields for one in each),
        any(one.backward for one in each),
    )


@dataclass(frozen=True, slots=True)
class Ties:
    """The links of a function to this file: all that other functions' facts can depend on."""

    names: frozenset[str]  # those that the module may bind
    callees: frozenset[str]  # functions of the module by such a name
    classes: frozenset[str]
    methods: frozenset[str]  # attributes that are methods of some class, but for those of `self`
    own: frozenset[str]  # and these
    called: frozenset[str]  # of these, what is called of `self`
    stored: tuple[str, ...]
    backward: bool


def unique(names: tuple[str, ...]) -> tuple[str, ...]:
    """A second `f` is `f#2`: both are functions of the file."""
    seen: dict[str, int] = {}
    out: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(out)


def accessor(name: str, statement: Statement) -> str:
    """`.setter` or `.deleter` behind a property's name, where a decorator says that a method is that."""
    for clause in statement.decorators:
        text = clause.line.text.strip()
        if text.startswith((f"@{name}.setter", f"@{name}.deleter")):
            return text[len(name) + 1 :].split("#")[0].strip()
    return ""


def imported(node: ast.ImportFrom, name: str) -> Value:
    """What `from x import name` binds."""
    if node.level:
        return Unknown(f"`{name}` is imported from another file of the project")
    return Lib(canonical(f"{node.module}.{name}"))


class Index:
    """What a file's skeleton defines."""

    def __init__(self, outline: Outline) -> None:
        self.fids = unique(outline.names)
        self.headers = dict(
            zip(outline.headers, self.fids, strict=True)
        )  # position of a header in the skeleton -> fid
        self.names: dict[str, Value] = {}
        self.stars: list[str] = []  # modules of which all names are imported
        self.classes: dict[str, ClassInfo] = {}
        self.skeleton: Block = nest(outline.skeleton.lines)
        self._lines = outline.skeleton.lines
        self._signatures: dict[str, Signature] = {}
        self._mros: dict[str, list[str]] = {}
        self._lineages: dict[str, tuple[object, ...]] = {}
        self._kin: dict[str, frozenset[str]] = {}
        self._scan(self.skeleton, "")
        self.bound = frozenset(name for line in self._lines for name in line_binds(line))
        self.derived_from = frozenset(one for cid in self.classes for one in self.mro(cid)[1:])
        self.methods: dict[str, list[str]] = {}  # name -> every method so called
        for info in self.classes.values():
            for name, fid in info.methods.items():
                self.methods.setdefault(name, []).append(fid)

    def _scan(self, block: Block, prefix: str) -> None:
        for statement in block:
            for clause in statement:
                for node in clause.line.nodes:
                    if isinstance(node, (ast.Import, ast.ImportFrom)) and not prefix:
                        self._import(node)
                    elif isinstance(node, ast.ClassDef):
                        self._class(node, clause.line, clause.block, prefix, clause.at, statement.decorators)
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

    def global_name(self, name: str) -> Value | None:
        """What a name of the module is, by its skeleton: bound by a statement, or by a star of a library."""
        value = self.names.get(name)
        if value is None:
            found = (model.starred(module, name) for module in reversed(self.stars))
            value = next((Lib(canonical(dotted)) for dotted in found if dotted is not None), None)
        return value

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.Import):
                if alias.asname:
                    self.names.setdefault(alias.asname, Lib(canonical(alias.name)))
                else:
                    top = alias.name.partition(".")[0]
                    self.names.setdefault(top, Lib(top))
            elif node.module == LINKED:
                # Without a value where that file imports this one in its turn.
                if (linked := self.names.get(alias.name)) is not None:
                    self.names.setdefault(alias.asname or alias.name, linked)
            elif alias.name == "*":
                if not node.level and node.module:
                    self.stars.append(node.module)
            else:
                self.names.setdefault(alias.asname or alias.name, imported(node, alias.name))

    def _class(
        self, node: ast.ClassDef, line: Line, block: Block, prefix: str, at: int, decorators: Iterable[Clause]
    ) -> None:
        cid = f"{prefix}{node.name}"
        info = ClassInfo(cid, at=at, node=node)
        info.bases = tuple(self.base(base) for base in node.bases)
        fields: list[tuple[str, ast.expr | None]] = []
        lines: list[Line] = [line]
        self._members(info, block, cid, fields, lines)
        for part in node.body:  # a class on one line
            if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
                info.attributes[part.targets[0].id] = part.value
        is_dataclass = any("dataclass" in clause.line.text for clause in decorators)
        named = any(
            isinstance(base, Lib) and base.name in ("typing.NamedTuple", "typing.TypedDict")
            for base in info.bases
        )
        if is_dataclass or named:
            info.fields = tuple(fields)
        info.token = (info.bases, tuple(info.methods.items()), tuple(lines), is_dataclass or named)
        self.classes[cid] = info
        if not prefix:
            self.names[node.name] = Class(cid)

    def _members(
        self,
        info: ClassInfo,
        block: Block,
        cid: str,
        fields: list[tuple[str, ast.expr | None]],
        lines: list[Line],
    ) -> None:
        for statement in block:
            for clause in statement:
                for node in clause.line.nodes:
                    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                        fid = self.headers.get(clause.at)
                        if fid is not None:
                            info.methods[node.name + accessor(node.name, statement)] = fid
                    elif isinstance(node, ast.ClassDef):
                        self._class(
                            node, clause.line, clause.block, f"{cid}.", clause.at, statement.decorators
                        )
                    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                        info.attributes[node.targets[0].id] = node.value
                        lines.append(clause.line)
                    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                        fields.append((node.target.id, node.value))
                        lines.append(clause.line)
                        if node.value is not None:
                            info.attributes[node.target.id] = node.value
                if clause.line.role not in ("class", "def") and clause.block:
                    self._members(info, clause.block, cid, fields, lines)

    def base(self, node: ast.expr) -> Value:
        """What a base class or a decorator is."""
        if isinstance(node, ast.Name):
            return self.global_name(node.id) or Unknown(f"`{node.id}` is not bound in this file")
        if isinstance(node, ast.Attribute):
            inner = self.base(node.value)
            if isinstance(inner, Lib):
                return Lib(canonical(f"{inner.name}.{node.attr}"))
            if isinstance(inner, Class) and f"{inner.cid}.{node.attr}" in self.classes:
                return Class(f"{inner.cid}.{node.attr}")
        if isinstance(node, ast.Subscript):
            return self.base(node.value)
        return Unknown("a base class that is computed")

    def mro(self, cid: str) -> list[str]:
        """The classes of this file that a class is made of, itself first, depth first."""
        known = self._mros.get(cid)
        if known is not None:
            return known
        out: list[str] = []
        stack = [cid]
        while stack and len(out) < 32:
            current = stack.pop(0)
            if current in out or current not in self.classes:
                continue
            out.append(current)
            stack = [base.cid for base in self.classes[current].bases if isinstance(base, Class)] + stack
        self._mros[cid] = out
        return out

    def kin(self, cid: str) -> frozenset[str]:
        """The classes that `self` in a method of this one may be of, with all that these are made of."""
        known = self._kin.get(cid)
        if known is None:
            lines = map(self.mro, self.classes)
            known = self._kin[cid] = frozenset(one for line in lines if cid in line for one in line)
        return known

    def ties(self, region: Region, declared: frozenset[str]) -> Ties:
        """What a function's lines have to do with the file, whose functions declare these names global."""
        own = links(region)
        names = own.names & (self.bound | declared if declared else self.bound)
        values = [self.names[name] for name in names if name in self.names]
        methods = self.methods.keys()
        attributes = {
            (owner, name)
            for owner, name in own.attributes
            if name in methods and not isinstance(self.names.get(owner), Lib)
        }
        return Ties(
            names,
            frozenset(value.fid for value in values if isinstance(value, Func)),
            frozenset(value.cid for value in values if isinstance(value, Class)),
            frozenset(name for owner, name in attributes if owner != "self"),
            frozenset(name for owner, name in attributes if owner == "self"),
            own.called & methods,
            own.stored,
            own.backward,
        )

    def method(self, cid: str, name: str) -> str | None:
        """The function that a class has under a name, inherited ones too."""
        return next(
            (fid for one in self.mro(cid) if (fid := self.classes[one].methods.get(name)) is not None), None
        )

    def lineage(self, cid: str) -> tuple[object, ...]:
        """Equal if the class and those that it is made of are; () where there is no such class."""
        known = self._lineages.get(cid)
        if known is None:
            known = self._lineages[cid] = tuple((one, self.classes[one].token) for one in self.mro(cid))
        return known

    def signature(self, fid: str, region: Region) -> Signature:
        """What calling a function of the file depends on, but for its body."""
        known = self._signatures.get(fid)
        if known is None:
            known = self._signatures[fid] = self._signed(fid, region)
        return known

    def _signed(self, fid: str, region: Region) -> Signature:
        header = next((at for at, line in enumerate(region.lines) if line.role == "def"), 0)
        grad = kind = unknown = ""
        definition = parsed(region.lines)
        for decorator in definition.decorators if definition is not None else ():
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            value = self.base(call)
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
        return Signature(
            region.lines[: header + 1], cid if cid in self.classes else None, grad, kind, unknown
        )
