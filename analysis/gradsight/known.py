"""What is known of one name: what it is, what it is live from, what asks for its gradient, and why not.

It is asked on demand, of the graph of each program that leads to the name. Nothing that is asked here changes
what is found: see `interpret/watching.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from gradsight.domain import DEPENDING, Edge, Tri
from gradsight.finding import Step
from gradsight.graph import Graph, Place
from gradsight.interpret.activation import OutOfBudget
from gradsight.interpret.state import Event
from gradsight.interpret.watching import Watching
from gradsight.interpret.world import Watch, World
from gradsight.linking import STRIDE, Linked
from gradsight.outline import Region
from gradsight.places import Bugs, Places
from gradsight.queries import LEARNING, Program, Queries
from gradsight.renaming import plain
from gradsight.roots import class_root, function_root, module_root
from gradsight.rules.wording import ending
from gradsight.text import Source, Span
from gradsight.values import NOWHERE, Value

MOST_STEPS = 6
MOST_LIT = 200  # spans of one highlight
GRADIENT = ("tensor", "number", "array", "unknown")  # kinds that say what they are live from
PARTS = ("module", "instance")
KINDS = {
    "number": "a Python number",
    "array": "a numpy array",
    "list": "a list",
    "dict": "a dictionary",
    "params": "parameters",
    "seq": "a tuple",
    "choice": "one of several things, by the branch that is taken",
}
ROLES = {
    "probability": "probabilities",
    "log-probability": "log-probabilities",
    "index": "class indices",
    "one-hot": "one-hot rows",
}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a name. `words` are sentences without line numbers; `steps` say where."""

    name: str
    where: Span
    words: tuple[str, ...]
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Root:
    """One program of the file: what `engine.py` starts with."""

    name: str  # "<module>", "class Net", "train"
    functions: frozenset[str]  # that it leads to


@dataclass(frozen=True, slots=True)
class File:
    """One analysed version of a file."""

    source: Source | Linked
    world: World
    roots: tuple[Root, ...]
    opened: dict[str, Value]  # what a function that is seen alone knows of the module's names
    report_bug: Bugs


@dataclass(slots=True)
class _Look:
    """What all programs together say of a name; names in the order in which they were met."""

    facts: dict[str, str] = field(default_factory=dict)
    call: bool = False  # it names what is called, and the rest is said of the result
    live: dict[str, None] = field(default_factory=dict)
    cut: dict[str, None] = field(default_factory=dict)
    zero: dict[str, None] = field(default_factory=dict)  # what only ever gets a gradient of 0 from it
    may: dict[str, None] = field(default_factory=dict)
    blind: dict[str, None] = field(default_factory=dict)  # reasons why something is not known
    reached: dict[str, None] = field(default_factory=dict)  # losses that give it a gradient
    blocked: dict[str, None] = field(default_factory=dict)  # losses that depend on it and give it none
    perhaps: dict[str, None] = field(default_factory=dict)
    steps: dict[tuple[str, Span], None] = field(default_factory=dict)
    held: set[bool] = field(default_factory=set)
    several: bool = False  # it stands for several parameters
    times: int = 0  # that it is evaluated, on different ways
    off: int = 0  # of these, with gradients switched off
    frozen: bool = False
    asked: bool = False  # some program asks for a gradient
    itself: bool = False  # it is what the gradient is asked for
    getting: dict[str, None] = field(default_factory=dict)  # of what a module or optimizer holds
    lacking: dict[str, None] = field(default_factory=dict)


def known(file: File, offset: int) -> Known | None:
    """What is known of the name at an offset; None where there is none, or nothing to say of it."""
    for watch, where in watches(file, offset):
        look = _Look(call=isinstance(watch.node, ast.Call))
        met = False
        for name, program, places in programs(file, watch):
            queries = _queries(program, places, name)
            for event in queries.all("seen"):
                met = True
                _look(look, queries, event, places, name)
        if met and (words := tuple(plain(word[:1].upper() + word[1:]) for word in _words(look))):
            steps = [Step(text, file.source.file, span) for text, span in look.steps if span.start < STRIDE]
            steps.sort(key=lambda step: step.where.start)
            text = file.source.slice(where)
            return Known(text, where, words, tuple(steps[:MOST_STEPS]))
    return None


def feeds(file: File, offset: int) -> tuple[Span, ...]:
    """Where in this file stands what a gradient of the name at an offset flows to, itself first.

    Empty where the name carries no gradient. Of expressions within each other the outermost.
    """
    for watch, where in watches(file, offset):
        spans: dict[Span, None] = {}
        for name, program, places in programs(file, watch):
            for event in program.events:
                if event.kind == "seen" and event.node != NOWHERE:
                    spans |= dict.fromkeys(_lit(program, event.node, places, name))
        if spans:
            return (where, *_outermost(span for span in spans if span != where and span.start < STRIDE))
    return ()


def watches(file: File, offset: int) -> Iterator[tuple[Watch, Span]]:
    """The nodes that a name at an offset may mean, nearest first: itself, then the call of what it names."""
    source, outline = file.source, file.world.outline
    row, _ = source.row_column(offset)
    unit = _unit_at(source, row)
    if unit is None or source.units[unit].error is not None:
        return
    regions: list[tuple[str, Region]] = [
        *zip(file.world.fids, outline.functions, strict=True),
        ("<module>", outline.skeleton),
    ]
    for fid, region in regions:
        if unit not in region.at:
            continue
        at = region.at.index(unit)
        found: list[tuple[int, ast.AST, Span]] = []
        for part in region.lines[at].nodes:
            for node in ast.walk(part):
                span = _named(source, unit, node)
                if span is not None and span.start <= offset <= span.end:
                    found.append((span.end - span.start, node, span))
        if not found:
            continue
        _, node, span = min(found, key=lambda each: each[0])
        if isinstance(node, ast.Attribute) and node.attr == "grad":
            return  # what has arrived, not what can
        yield Watch(fid, at, node), span
        for part in region.lines[at].nodes:
            for call in ast.walk(part):
                if isinstance(call, ast.Call) and call.func is node:
                    yield Watch(fid, at, call), span
        return


def _named(source: Source | Linked, unit: int, node: ast.AST) -> Span | None:
    """The name that a node shows: for an attribute what stands behind its last point."""
    if isinstance(node, (ast.Name, ast.Attribute)):
        span = source.span_of(unit, node)
        return (
            Span(max(span.start, span.end - len(node.attr)), span.end)
            if isinstance(node, ast.Attribute)
            else span
        )
    if isinstance(node, ast.arg):
        span = source.span_of(unit, node)
        return Span(span.start, span.start + len(node.arg))
    return None


def _unit_at(source: Source | Linked, row: int) -> int | None:
    unit = source.unit_at(row)
    return unit if unit < len(source.units) and source.units[unit].code else None


def programs(file: File, watch: Watch) -> Iterator[tuple[str, Program, Places]]:
    """Each program that leads to a watched node, read anew with an eye on it."""
    for root in file.roots:
        if watch.fid not in root.functions and watch.fid != root.name:
            continue
        world = Watching(file.world, watch)
        if root.name == "<module>":
            compute = partial(module_root, world)
        elif root.name.startswith("class "):
            compute = partial(class_root, world, file.opened, root.name.removeprefix("class "))
        else:
            compute = partial(function_root, world, file.opened, root.name)
        world.begin()
        try:
            program = compute()
        except (OutOfBudget, RecursionError):
            continue
        except Exception as error:
            file.report_bug(f"what is known in {root.name}", error)
            continue
        finally:
            world.end()
        yield root.name, program, Places(file.source, world, file.report_bug)


def _queries(program: Program, places: Places, name: str) -> Queries:
    return Queries(
        program,
        lambda place: places.text(place, name),
        lambda place: places.call_off(place, name),
        lambda place: places.syntax(place, name),
        lambda place: places.function(place, name),
    )


# -- looking


def _look(look: _Look, queries: Queries, event: Event, places: Places, root: str) -> None:
    """Adds what one program says of one evaluation of the name."""
    graph = queries.graph
    facts = dict(event.facts)
    if not look.facts or look.facts["kind"] == "unknown":
        look.facts = facts
    numbers = [n for n in dict.fromkeys((event.node, *event.nodes)) if n != NOWHERE]
    if facts.get("why") and numbers:
        look.blind[facts["why"].removesuffix(" here")] = None
    parts = facts["kind"] in (*PARTS, "optimizer", "params")
    whole = parts or (facts.get("origin") in LEARNING)
    if whole:
        # `for p in model.parameters()`: an element of what it stands for
        numbers = list(dict.fromkeys(s for n in numbers for s in _learning(graph, n)))
    look.times += 1
    look.off += not whole and any(graph[number].off for number in numbers)
    for number in numbers:
        if whole:
            look.held.update(
                source in queries.held for source in graph.reach(number) if graph[source].op in LEARNING
            )
            look.frozen = look.frozen or number in queries.frozen
            continue
        for source, reach in graph.reach(number).items():
            origin = graph[source]
            if origin.kind != "source" or origin.op == "fresh":
                continue
            name = queries.names((source,))
            if origin.op not in LEARNING:
                look.blind[_blind(origin.op, origin.note, name)] = None
            elif reach.unknown:
                look.may[name] = None
            elif reach.dead:
                (look.cut if reach.cut else look.zero)[name] = None
                for cause in reach.causes:
                    _step(look, queries, cause, places, root)
            elif reach.live is Tri.MUST:
                look.live[name] = None
            else:
                look.may[name] = None
    look.several = look.several or (whole and len(numbers) > 1)
    if whole:
        _gradients_of(look, queries, numbers)
    _downstream(look, queries, numbers, places, root)


def _learning(graph: Graph, number: int) -> list[int]:
    """The parameters and leaves that a value stands for; itself where it is none."""
    feeding = graph.feeding(number, (Edge.LIVE,))
    return [n for n in feeding if graph[n].kind == "source" and graph[n].op in LEARNING] or [number]


def _gradients_of(look: _Look, queries: Queries, numbers: list[int]) -> None:
    """Of what is held, what some loss gives a gradient and what none does although it depends on it."""
    tops = [top for sink in queries.sinks if not sink.fact("off") for top in queries.roots(sink)]
    live = {n for top in tops for n in queries.graph.feeding(top, (Edge.LIVE, Edge.UNKNOWN))}
    behind = {n for top in tops for n in queries.graph.feeding(top, DEPENDING)}
    for number in numbers:
        if number in live:
            look.getting[queries.names((number,))] = None
        elif number in behind and number not in queries.frozen:
            look.lacking[queries.names((number,))] = None


def _downstream(look: _Look, queries: Queries, numbers: list[int], places: Places, root: str) -> None:
    """Which losses give the value a gradient, and which depend on it and do not."""
    graph, wanted = queries.graph, set(numbers)
    for sink in queries.sinks:
        look.asked = True
        for top in queries.roots(sink):
            if wanted.isdisjoint(graph.feeding(top, DEPENDING)):
                continue
            name = queries.sink_text(sink) if sink.kind != "return" else "a loss of what is returned"
            look.itself = look.itself or top in wanted
            end = sink.place("call") or sink.place("root")
            if not sink.fact("off") and not wanted.isdisjoint(graph.feeding(top, (Edge.LIVE,))):
                look.reached[name] = None
                if end is not None and sink.kind != "return":
                    _note(look, f"here the gradient of {name} is asked for", end, places, root)
            elif not wanted.isdisjoint(graph.feeding(top, (Edge.LIVE, Edge.UNKNOWN))):
                look.perhaps[name] = None
            else:
                look.blocked[name] = None
                for number in numbers:
                    way = graph.way(number, top)
                    for before, after in pairwise(way):
                        node = graph[after]
                        lossy = any(
                            i == before and edge in (Edge.CUT, Edge.ZERO)
                            for i, edge in zip(node.inputs, node.edges, strict=False)
                        )
                        if lossy:
                            _step(look, queries, after, places, root)
                            break


def _blind(op: str, note: str, name: str) -> str:
    if op == "argument":
        return f"the argument `{note}` is not known"
    if op == "element":
        return "it iterates over something unknown"
    return note or f"what {name} gives is not known"


def _step(look: _Look, queries: Queries, cause: int, places: Places, root: str) -> None:
    place = queries.graph[cause].place
    if place is not None:
        _note(look, f"cut here: {ending(queries, cause)}", place, places, root)


def _note(look: _Look, text: str, place: Place, places: Places, root: str) -> None:
    try:
        look.steps[(text, places.span(place, root))] = None
    except (AttributeError, KeyError, IndexError) as error:
        places.report_bug("step of what is known", error)


# -- words


def _words(look: _Look) -> Iterator[str]:
    """Sentences, the most useful first; none where the name has nothing to do with gradients."""
    kind = look.facts.get("kind", "")
    if kind in PARTS or kind == "optimizer" or look.several:
        if not look.call:
            yield from _of_holder(look, kind)
        return
    flows = bool(look.live or look.cut or look.may or look.zero)
    if kind not in GRADIENT and not flows:
        return
    if kind == "unknown" and not flows and not (look.reached or look.blocked or look.perhaps):
        if look.blind and look.asked:
            yield f"Not known: {_list(look.blind)}. Gradsight is silent about what hangs on it alone."
        return
    if kind in ("number", "array") and not flows:
        return
    what = _what(look)
    if what:
        yield f"{what}."
    if look.off:
        where = "Computed" if look.off == look.times else "In some calls computed"
        yield f"{where} where gradients are switched off."
    learns = look.facts.get("origin") in LEARNING
    by_call = [name for name in look.live if name in look.cut]
    live = [name for name in look.live if name not in look.cut]
    cut = [name for name in look.cut if name not in look.live]
    flow = [
        *([f"live from {_list(live)}"] if live else []),
        *([f"live in some calls and cut in others from {_list(by_call)}"] if by_call else []),
        *([f"cut from {_list(cut)}"] if cut else []),
        *([f"only a gradient of 0 flows back to {_list(look.zero)}"] if look.zero else []),
        *([f"live or cut from {_list(look.may)}, by the way that is taken"] if look.may else []),
    ]
    if flow:
        yield f"{'; '.join(flow)}."
    elif not learns and not look.blind:
        yield "Data: nothing that learns is behind it."
        return
    if learns:
        yield from _held(look)
    if look.live or look.may or look.zero or look.blind or learns:
        yield from _asked(look)
    elif look.asked and not (look.reached or look.blocked or look.perhaps):
        yield "No loss of this file depends on it."
    if look.blind:
        yield f"Not known: {_list(look.blind)}."


def _of_holder(look: _Look, kind: str) -> Iterator[str]:
    """A module or an optimizer: which of its parameters learn."""
    if not (look.getting or look.lacking or True in look.held):
        return
    cls = look.facts.get("class", "").removeprefix("torch.")
    if kind == "optimizer" or kind in PARTS:
        yield f"{'An optimizer' if kind == 'optimizer' else 'A module'}, `{cls}`."
    else:
        yield "One parameter of several."
    if kind != "optimizer":
        if look.frozen:
            yield "Frozen: its parameters require no gradient."
        elif look.held == {True}:
            yield "An optimizer holds its parameters." if kind in PARTS else "An optimizer holds them."
    if look.getting:
        yield f"{_list(look.reached or look.perhaps or ['a loss'])} gives {_list(look.getting)} a gradient."
    if look.lacking:
        yield f"No gradient comes to {_list(look.lacking)}."
    elif look.asked and not look.getting:
        yield "No loss of this file depends on its parameters."


def _held(look: _Look) -> Iterator[str]:
    if look.frozen:
        yield "Frozen: it requires no gradient."
    elif look.held == {True}:
        yield "An optimizer holds it."


def _asked(look: _Look) -> Iterator[str]:
    surely = bool(look.live or look.zero or look.facts.get("origin") in LEARNING)
    if look.itself:
        yield "Its gradient is asked for."
    elif look.reached and surely:
        where = "In some calls " if look.off else ""
        yield f"{where}{_list(look.reached)} gives it a gradient."
    elif look.reached:
        yield f"If it requires a gradient, {_list(look.reached)} gives it one."
    blocked = [name for name in look.blocked if name not in look.reached]
    if blocked:
        yield f"No gradient comes back to it from {_list(blocked)}."
    if look.perhaps and not look.reached:
        yield f"Whether {_list(look.perhaps)} gives it a gradient cannot be seen."
    if look.asked and not (look.reached or look.blocked or look.perhaps):
        yield "No loss of this file depends on it."


def _what(look: _Look) -> str:
    """The kind of the value: "a float tensor, 32×4, logits"."""
    kind = look.facts.get("kind", "")
    if kind != "tensor":
        return KINDS.get(kind, "")
    origin, dtype = look.facts.get("origin", ""), look.facts.get("dtype", "")
    parts = [f"{dtype} tensor" if dtype else "tensor"]
    if origin == "parameter":
        parts = ["parameter"]
    elif origin == "leaf":
        parts = ["leaf tensor that requires a gradient"]
    article = "an" if parts[0][0] in "aeiou" else "a"
    shape = look.facts.get("shape")
    if shape:
        parts.append(
            "×".join(
                "…" if one in ("-2", "-3") else "?" if one in ("None", "-1") else one for one in shape.split()
            )
        )
    if look.facts.get("role") in ROLES:
        parts.append(ROLES[look.facts["role"]])
    return f"{article} {', '.join(parts)}"


def _list(words: Iterable[str]) -> str:
    """A few things in a row: a, b and c; at most four are named."""
    each = list(words)
    if len(each) > 4:
        each = [*each[:3], f"{len(each) - 3} more"]
    return each[0] if len(each) == 1 else f"{', '.join(each[:-1])} and {each[-1]}"


# -- highlights


def _lit(program: Program, number: int, places: Places, root: str) -> Iterator[Span]:
    """The spans of what the value is live from, as far as something that may learn is behind it."""
    graph = program.graph
    for feeding in graph.feeding(number, (Edge.LIVE,)):
        node = graph[feeding]
        learns = any(reach.live and graph[s].op in LEARNING for s, reach in graph.reach(feeding).items())
        if node.place is None or not learns:
            continue
        try:
            yield places.span(node.place, root)
        except (AttributeError, KeyError, IndexError) as error:
            places.report_bug("span of a highlight", error)


def _outermost(spans: Iterable[Span]) -> Iterator[Span]:
    """Of spans within each other the outer ones, in the order of the text."""
    end = -1
    for count, span in enumerate(sorted(spans, key=lambda each: (each.start, -each.end))):
        if span.end > end and count < MOST_LIT:
            end = span.end
            yield span
