"""The program of one file as the interpreter sees it: its functions, classes and names, and their summaries.

Nothing is ever invalidated by hand. A summary is kept under the function's lines and the kinds of its
arguments, together with what it read (`memo.py`); before it is used again, what it read is checked. Whatever
an activation may ask of the file is asked here and noted, and nothing is told that is not noted: that is what
makes an analysis that keeps its memo say what one from scratch says.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from gradsight import model
from gradsight.interpret import contract, hooks
from gradsight.interpret.activation import OutOfBudget
from gradsight.interpret.codec import Key
from gradsight.interpret.contract import Method
from gradsight.interpret.hooks import Hook
from gradsight.interpret.index import (
    LOSS_NAME,
    ClassInfo,
    FunctionInfo,
    Index,
    Signature,
    Ties,
    hands_back,
    links,
    parsed,
)
from gradsight.interpret.memo import MOST_ENTRIES, Entry, Memo, Question, Record, Trace
from gradsight.interpret.summarize import interpret_function
from gradsight.interpret.summary import Summary
from gradsight.outline import Outline, Region
from gradsight.values import (
    Class,
    Func,
    Lib,
    Unknown,
    Value,
)

MOST_DEPTH = 24  # activations within activations
MOST_RING = 8  # functions that call each other in a ring, every way through it followed
ENTRIES_PER_FUNCTION = 6  # kept of a large file: kinds of arguments, and what was typed lately
MOST_COST = 20_000  # activations that one leads to, counted without the memo

Bugs = Callable[[str, BaseException], None]


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """An expression, target or parameter whose value somebody asks for."""

    fid: str  # the function that it stands in; "<module>" for the file's own statements
    at: int  # the line of the region
    node: ast.AST


class World:
    """One version of one file. Made anew for each analysis; cheap, since regions and summaries are kept."""

    watch: Watch | None = None  # what somebody asks about; see `watching.py`

    def __init__(
        self, outline: Outline, memo: Memo, previous: World | None = None, report_bug: Bugs | None = None
    ) -> None:
        self.outline, self.memo, self.report_bug = outline, memo, report_bug
        self.number = memo.version()
        kept = (
            previous is not None
            and previous.outline.names == outline.names
            and previous.outline.skeleton == outline.skeleton
        )
        self.index: Index = previous.index if previous is not None and kept else Index(outline)
        self.fids, self.classes, self.skeleton = self.index.fids, self.index.classes, self.index.skeleton
        self.regions: dict[str, Region] = dict(zip(self.fids, outline.functions, strict=True))
        memo.most = max(MOST_ENTRIES, ENTRIES_PER_FUNCTION * len(self.fids))
        self.changed: set[str] = set()  # the functions that are not what they were in `since`
        self.since = -1
        self.token: object = object()  # as long as it is the same, facts are
        self._stack: list[Key] = []
        self._active: set[str] = set()
        self._traces: list[Trace] = []
        self._infos: dict[str, FunctionInfo | None] = {}
        self._texts: set[str] = set()  # functions of which somebody was told what their lines say
        self._ties: dict[str, Ties] = {}
        self._declared: frozenset[str] | None = None
        self._behind: dict[str, frozenset[str]] | None = None
        self._module_names: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        self._stores: dict[tuple[str, bool], dict[str, int]] = {}
        self._cycles: dict[str, frozenset[str]] | None = None
        if previous is not None and kept:
            self._continue(previous)

    def _continue(self, previous: World) -> None:
        """What holds still, where the skeleton is what it was."""
        self.since = previous.number
        self.changed = {fid for fid, region in self.regions.items() if region != previous.regions[fid]}
        self._infos = {
            fid: info
            for fid, info in previous._infos.items()
            if info is not None and info.region.lines is self.regions[fid].lines
        }
        if all(
            links(self.regions[fid]).declared == links(previous.regions[fid]).declared for fid in self.changed
        ):
            self._declared = previous.declared
        if self.declared != previous.declared:
            return
        self._ties = {fid: ties for fid, ties in previous._ties.items() if fid not in self.changed}
        self._texts = previous._texts
        if self.changed.isdisjoint(self._texts) and all(
            self.ties(fid) == previous.ties(fid) for fid in self.changed
        ):
            self.token, self._module_names = previous.token, previous._module_names
            self._stores, self._cycles, self._behind = previous._stores, previous._cycles, previous._behind

    def move(self, outline: Outline) -> Set[str] | None:
        """Become the world of a text whose lines mean what they meant, wherever they stand.

        Returns the functions that stand in other units, or with other lines; None if something means
        something else, and nothing was done.
        """
        old = self.outline
        if not (
            old.names == outline.names
            and old.functions == outline.functions
            and old.skeleton == outline.skeleton
        ):
            return None
        pairs = zip(self.fids, outline.functions, old.functions, strict=True)
        other = {fid: region for fid, region, before in pairs if region is not before}
        self.outline = outline
        if other:
            self.regions = self.regions | other
            self._infos = {fid: info for fid, info in self._infos.items() if fid not in other}
        return other.keys()

    @property
    def declared(self) -> frozenset[str]:
        """The names that some function declares global."""
        if self._declared is None:
            self._declared = frozenset().union(*(links(region).declared for region in self.regions.values()))
        return self._declared

    def ties(self, fid: str) -> Ties:
        """What a function has to do with the others."""
        known = self._ties.get(fid)
        if known is None:
            known = self._ties[fid] = self.index.ties(self.regions[fid], self.declared)
        return known

    # -- what is asked

    def begin(self) -> Trace:
        """From here on what is asked is noted."""
        trace = Trace()
        self._traces.append(trace)
        return trace

    def end(self) -> None:
        self._traces.pop()

    def note(self, question: Question, answer: object) -> None:
        """Somebody was told this: what he makes of it holds as long as he would be told the same."""
        if self._traces:
            self._traces[-1].facts[question] = answer

    def _answer(self, question: Question) -> object:
        kind, subject = question[0], question[1]
        if kind == "name":
            return self.index.global_name(subject)
        if kind == "class":
            return self.index.lineage(subject)
        if kind == "function":
            return self._signature(subject)
        if kind == "hands back":
            return self._hands_back(subject)
        if kind == "contract":
            return self._contract(subject)
        if kind == "hook":
            return self._hook(subject, question[2], question[3])
        if kind == "names":
            return self.module_names(subject, question[2])
        if kind == "stores":
            return self.stores(subject, question[2], question[3])
        if kind == "cycle":
            return self.cycles().get(subject)
        if kind == "entries":
            return self.entries(subject)
        raise AssertionError(question)

    # -- the file's names

    def static(self, name: str) -> Value | None:
        value = self.index.global_name(name)
        self.note(("name", name), value)
        return value

    def function_value(self, at: int) -> Value | None:
        """The function whose header stands at this line of the skeleton."""
        fid = self.index.headers.get(at)
        return Func(fid) if fid is not None else None

    def class_value(self, name: str) -> Value | None:
        return Class(name) if name in self.classes else None

    # -- functions

    def _signature(self, fid: str) -> Signature | None:
        region = self.regions.get(fid)
        return self.index.signature(fid, region) if region is not None else None

    def function(self, fid: str) -> FunctionInfo | None:
        signature = self._signature(fid)
        self.note(("function", fid), signature)
        if fid not in self._infos:
            self._infos[fid] = self._read(fid, signature)
        return self._infos[fid]

    def hands_back(self, fid: str) -> bool:
        """Whether a function gives what it is given, as a decorator that only registers does."""
        answer = self._hands_back(fid)
        self.note(("hands back", fid), answer)
        return answer

    def _hands_back(self, fid: str) -> bool:
        self._texts.add(fid)
        region = self.regions.get(fid)
        return region is not None and hands_back(region.lines)

    def contract(self, fid: str) -> Method | None:
        """What the text of a method of an autograd.Function says of its contract."""
        answer = self._contract(fid)
        self.note(("contract", fid), answer)
        return answer

    def _contract(self, fid: str) -> Method | None:
        self._texts.add(fid)
        region = self.regions.get(fid)
        return contract.method(region.lines) if region is not None else None

    def hook(self, fid: str, position: int, alone: bool) -> Hook | None:
        """What the text of a function that is registered as a hook says of the value at `position`."""
        answer = self._hook(fid, position, alone)
        self.note(("hook", fid, position, alone), answer)
        return answer

    def _hook(self, fid: str, position: int, alone: bool) -> Hook | None:
        self._texts.add(fid)
        region = self.regions.get(fid)
        return hooks.of_function(region.lines, position, alone) if region is not None else None

    def _read(self, fid: str, signature: Signature | None) -> FunctionInfo | None:
        region = self.regions.get(fid)
        if region is None or signature is None:
            return None
        definition = parsed(region.lines)
        if definition is None:
            return None
        return FunctionInfo(
            fid,
            region,
            definition.node,
            definition.body,
            definition.header,
            definition.decorators,
            signature.cid,
            signature.grad,
            signature.kind,
            signature.unknown_decorator,
            definition.generator,
            definition.decorator_at,
        )

    # -- classes

    def class_info(self, cid: str) -> ClassInfo | None:
        self.note(("class", cid), self.index.lineage(cid))
        return self.classes.get(cid)

    def mro(self, cid: str) -> list[str]:
        """The classes of this file that a class is made of, itself first, depth first."""
        self.note(("class", cid), self.index.lineage(cid))
        return self.index.mro(cid)

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

    def stores(self, cid: str, name: str, anew: bool = True) -> int:
        """How many statements of the class (or one deriving from it) store or change the attribute.

        `anew`: those count, too, that run only where an object is made, the ones in an `__init__`. What only
        that one calls fills what is made there, and counts for what it makes itself, once.
        """
        known = self._stores.get((cid, anew))
        if known is None:
            known = {}
            for one, info in self.classes.items():
                if cid in self.index.mro(one) or one in self.index.mro(cid):
                    first = self.only_at_first(info.methods)
                    stored = [
                        attribute
                        for method, fid in info.methods.items()
                        if method not in first and (anew or method != "__init__")
                        for attribute in self.ties(fid).stored
                    ]
                    if first and anew:
                        filled = {name for method in first for name in self.ties(info.methods[method]).stored}
                        stored += filled.difference(self.ties(info.methods["__init__"]).stored)
                    for attribute in stored:
                        known[attribute] = known.get(attribute, 0) + 1
            for fid in self.fids:
                if fid.rpartition(".")[0] not in self.classes:
                    for attribute in self.ties(fid).stored:
                        known[attribute] = known.get(attribute, 0) + 1
            for attribute in links(self.outline.skeleton).stored:
                known[attribute] = known.get(attribute, 0) + 1
            self._stores[cid, anew] = known
        count = known.get(name, 0)
        self.note(("stores", cid, name, anew), count)
        return count

    def only_at_first(self, methods: Mapping[str, str]) -> frozenset[str]:
        """The methods that lead from `__init__` alone: they fill what is made there."""
        called = {method: self.ties(fid).called & methods.keys() for method, fid in methods.items()}
        first: set[str] = set()
        waiting = [*called.get("__init__", ())]
        while waiting:
            name = waiting.pop()
            if name not in first:
                first.add(name)
                waiting += called[name]
        while True:  # whoever is called from elsewhere, too, makes what it calls so
            later = {
                name for method in called.keys() - first - {"__init__"} for name in called[method] & first
            }
            if not later:
                return frozenset(first)
            first -= later

    def entries(self, cid: str) -> tuple[tuple[str, ...], str]:
        """The methods that nothing in the class calls, and how a class that is seen alone is to be seen."""
        names = (
            [name for name in self.classes[cid].methods if name != "__init__"] if cid in self.classes else []
        )
        inherited = [name for one in self.mro(cid)[1:] for name in self.classes[one].methods]
        names += [name for name in dict.fromkeys(inherited) if name not in names and name != "__init__"]
        ties = {name: self.ties(fid) for name in names if (fid := self.find_method(cid, name)) is not None}
        called = {other for name, one in ties.items() for other in one.called if other != name}
        entries = [
            name
            for name in names
            if name not in called or name in ("forward", "training_step", "compute_loss")
        ]
        lone = ""
        if self.is_module(cid) and "training_step" not in entries:
            loss_like = LOSS_NAME.search(cid) or any(
                "Loss" in getattr(base, "name", "") for base in self.library_bases(cid)
            )
            entries = [name for name in entries if name == "forward" or ties[name].backward]
            lone = "loss" if loss_like else "forward"
        self.note(("entries", cid), (tuple(entries), lone))
        return tuple(entries), lone

    # -- summaries

    def module_names(self, fid: str, classes: Iterable[str]) -> tuple[str, ...]:
        """Names of the module that a call may read, through everything that it may call."""
        key = (fid, tuple(dict.fromkeys(classes)))
        known = self._module_names.get(key)
        if known is None:
            known = self._module_names[key] = self._names_behind(*key)
        self.note(("names", *key), known)
        return known

    def _names_behind(self, fid: str, classes: tuple[str, ...]) -> tuple[str, ...]:
        if self._behind is None:
            self._behind = self._spread()
        owner = fid.rpartition(".")[0]
        names: set[str] = set()
        for one in (fid, *(f"class {cid}" for cid in (owner, *classes))):
            names |= self._behind.get(one, frozenset())
        return tuple(sorted(names))

    def _spread(self) -> dict[str, frozenset[str]]:
        """For each function and each class the names of the module that it leads to."""
        calls: dict[str, list[str]] = {}
        for fid in self.fids:
            ties = self.ties(fid)
            calls[fid] = [*ties.callees, *(f"class {cid}" for cid in ties.classes)]
        for cid, info in self.classes.items():
            calls[f"class {cid}"] = [
                *info.methods.values(),
                *(f"class {base.cid}" for base in info.bases if isinstance(base, Class)),
            ]
        behind: dict[str, frozenset[str]] = {}
        for ring in rings(calls):
            names: set[str] = set()
            for one in ring:
                if one in self.regions:
                    names |= self.ties(one).names
                for callee in calls[one]:
                    names |= behind.get(callee, frozenset())
            behind |= dict.fromkeys(ring, frozenset(names))
        return behind

    def cycles(self) -> dict[str, frozenset[str]]:
        """The functions in a ring of calls so large that its ways are too many to follow, by member."""
        if self._cycles is None:
            self._cycles = {}
            if len(self.fids) > MOST_RING:
                for ring in rings({fid: self._callees(fid) for fid in self.fids}):
                    if len(ring) > MOST_RING:
                        self._cycles |= dict.fromkeys(ring, ring)
        return self._cycles

    def _callees(self, fid: str) -> list[str]:
        """The functions that one may call, as far as names tell."""
        ties = self.ties(fid)
        out = [*ties.callees]
        out += [init for cid in ties.classes if (init := self.index.method(cid, "__init__")) is not None]
        # `super().__init__()` leads to no other class than its bases, whose constructors lead nowhere back.
        cid = fid.rpartition(".")[0]
        known = cid in self.classes
        for name in ties.methods if known else ties.methods | ties.own:
            out += self.index.methods[name] if name != "__init__" else ()
        for one in self.index.kin(cid) if known and ties.own else ():
            methods = self.classes[one].methods
            out += [methods[name] for name in ties.own if name != "__init__" and name in methods]
        return out

    def summary(self, key: Key) -> Summary | None:
        """The verified summary of a call; None where it would recurse or grows too large."""
        if self._is_cut(key.fid):
            return None
        entry = self._settled(key)
        if self._traces:
            trace = self._traces[-1]
            trace.add(key, entry)
            if trace.cost > MOST_COST:
                raise OutOfBudget
        return entry.summary

    def settled(self, key: Key, chain: list[Key]) -> Summary:
        """The summary that a chain of calls led to."""
        self._stack, self._active = chain, {one.fid for one in chain}
        self.begin()
        try:
            summary = self._settled(key).summary
        finally:
            self.end()
            self._stack, self._active = [], set()
        assert summary is not None
        return summary

    def _is_cut(self, fid: str) -> bool:
        """Whether a call is not followed, where the functions of the stack are active."""
        trace = self._traces[-1] if self._traces else None
        if fid in self._active:
            if trace is not None:
                trace.cut.add(fid)
            return True
        if len(self._stack) >= MOST_DEPTH:
            if trace is not None:
                trace.deep = True
            return True
        ring = self.cycles().get(fid)
        self.note(("cycle", fid), ring)
        return ring is not None and bool(self._stack) and self._stack[-1].fid in ring

    def _settled(self, key: Key) -> Entry:
        region = self.regions[key.fid]
        entries = self.memo.get(region, key)
        depth = len(self._stack)
        for entry in entries:
            if self.is_current(entry.record) and entry.record.fits(self._active, depth, MOST_DEPTH):
                return entry
        for entry in entries:
            if entry.record.number != self.number and self.holds(entry.record, key):
                return entry
        entry = self._computed(key, region)
        self.memo.put(region, entry)
        return entry

    def is_current(self, record: Record) -> bool:
        """Whether what was asked has the same answers still, as far as can be said without asking."""
        if record.number == self.number:
            return True
        if (
            record.number == self.since
            and record.token is self.token
            and record.functions.isdisjoint(self.changed)
        ):
            record.number = self.number
            return True
        return False

    def holds(self, record: Record, key: Key | None = None) -> bool:
        """Whether all that was asked has the same answers still."""
        depth = len(self._stack)
        if (
            record.number == self.since
            and record.token is self.token
            and record.fits(self._active, depth, MOST_DEPTH)
            and self._holds_still(record, key)
        ):
            return True
        if not record.cut - record.own <= self._active or (record.deep and depth + 1 < MOST_DEPTH):
            return False
        if record.token is not self.token:
            for question, answer in record.facts:
                if self._answer(question) != answer:
                    return False
        self._enter(key)
        try:
            if not all(self._still(read, structure) for read, structure in record.reads):
                return False
            if self._traces[-1].cost > MOST_COST:
                return False
            record.settle(self._traces[-1], depth, self.number, self.token)
        finally:
            self._leave(key)
        return True

    def _holds_still(self, record: Record, key: Key | None) -> bool:
        """The same where it held in the version before: only calls that lead to a change are asked."""
        self._enter(key)
        try:
            for at, (read, structure) in enumerate(record.reads):
                before = record.entries[at]
                if before.record.functions.isdisjoint(self.changed):
                    continue
                entry = self._settled(read)
                if entry.structure is not structure and entry.structure != structure:
                    return False
                if entry is not before:
                    if not entry.record.leads_as(before.record):
                        return False
                    record.entries[at] = entry
        finally:
            self._leave(key)
        record.number = self.number
        return True

    def _still(self, key: Key, structure: object) -> bool:
        if key.fid not in self.regions or self._is_cut(key.fid):
            return False
        entry = self._settled(key)
        self._traces[-1].add(key, entry)
        return entry.structure is structure or entry.structure == structure

    def _enter(self, key: Key | None) -> None:
        self.begin()
        if key is not None:
            self._stack.append(key)
            self._active.add(key.fid)

    def _leave(self, key: Key | None) -> None:
        self.end()
        if key is not None:
            self._stack.pop()
            self._active.discard(key.fid)

    def _computed(self, key: Key, region: Region) -> Entry:
        depth = len(self._stack)
        self.memo.analysed.append(key.fid)
        summary: Summary | None = None
        self._enter(key)
        trace = self._traces[-1]
        try:
            info = self.function(key.fid)
            if info is not None:
                summary = interpret_function(self, info, key)
                self.memo.unified(key, summary)
        except (OutOfBudget, RecursionError):
            pass
        except Exception as error:
            if self.report_bug is None:
                raise
            self.report_bug(f"analysis of {key.fid}", error)
        finally:
            self._leave(key)
        record = Record(trace, frozenset((key.fid,)))
        record.settle(trace, depth, self.number, self.token)
        return Entry(key, summary, record)


def rings(calls: dict[str, list[str]]) -> list[frozenset[str]]:
    """What can all reach each other, callees first: Tarjan's strongly connected components."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    out: list[frozenset[str]] = []
    for root in calls:
        if root in number:
            continue
        work: list[tuple[str, Iterator[str]]] = [(root, iter(calls[root]))]
        number[root] = low[root] = len(number)
        path.append(root)
        on_path.add(root)
        while work:
            current, rest = work[-1]
            for callee in rest:
                if callee not in number:
                    number[callee] = low[callee] = len(number)
                    path.append(callee)
                    on_path.add(callee)
                    work.append((callee, iter(calls.get(callee, ()))))
                    break
                if callee in on_path:
                    low[current] = min(low[current], number[callee])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[current])
                if low[current] == number[current]:
                    at = path.index(current)
                    out.append(frozenset(path[at:]))
                    on_path.difference_update(path[at:])
                    del path[at:]
    return out
