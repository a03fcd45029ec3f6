"""What of a file can be probed, and what a probe runs where nothing is selected.

Lines alone decide: whether a function or the script asks for gradients, by the names that do so; whether a
class is an autograd.Function, by its bases. Whether a call will work is only known by running it.

Invariant: pure, and cheap enough for every edit: no interpretation, only what each line says by itself and,
in a file that names autograd, what its imports and classes are called.
"""

from __future__ import annotations

import ast
import functools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gradsight.interpret.index import Index
from gradsight.lines import Line
from gradsight.outline import Outline, Region, outline
from gradsight.text import Source, Span
from gradsight.values import Lib

FUNCTION = "torch.autograd.Function"
SCRIPTS = ("the script", "this cell")
ASKS = frozenset({"backward", "manual_backward", "training_step", "compute_loss"})


@dataclass(frozen=True, slots=True)
class Probeable:
    """Something that a probe can run.

    `where` is the text that it is about: a function's header, or the script's first line that asks for
    gradients. `rows` are those that a probe of it shows, 1-based, both included. `call` names a function that
    has to be called for it to run, because nothing in the file calls it.
    """

    where: Span
    rows: tuple[int, int]
    call: str | None
    title: str


def probeable(source: Source) -> tuple[Probeable, ...]:
    """Each function and each stretch of the script that asks for gradients, and each `forward` beside one, in
    the order of the text. Nothing in a file that asks for none. Of a notebook each cell is a stretch."""
    whole = outline(source.units)
    regions = dict(zip(whole.names, whole.functions, strict=True))
    asking = {name for name, region in regions.items() if any(_asks(line) for line in region.lines)}
    script = [
        at
        for at, line in zip(whole.skeleton.at, whole.skeleton.lines, strict=True)
        if line.role != "def" and _asks(line)
    ]
    if not asking and not script:
        return ()
    found = [
        _function(source, whole, name, region)
        for name, region in regions.items()
        if name in asking or name.rpartition(".")[2] == "forward"
    ]
    parts: set[int] = set()
    for at in script:
        rows = _part(source, at)
        if rows[0] not in parts:
            parts.add(rows[0])
            found.append(_script(source, at))
    return tuple(sorted(found, key=lambda each: each.where.start))


@dataclass(frozen=True, slots=True)
class Checkable:
    """A class derived from torch.autograd.Function, whose backward is compared with numerical derivatives.

    `where` is its header. `call` names the function that has to be called for anything in the file to run.
    """

    where: Span
    name: str
    call: str | None


def checkable(source: Source) -> tuple[Checkable, ...]:
    """Each class outside of functions that derives from torch.autograd.Function and has a backward, its own
    or that of another class of the file, in the order of the text."""
    whole = outline(source.units)
    skeleton = whole.skeleton
    if not any("autograd" in line.text for line in skeleton.lines):
        return ()
    index = Index(whole)
    found = []
    for cid, info in index.classes.items():
        bases = {
            base.name for one in index.mro(cid) for base in index.classes[one].bases if isinstance(base, Lib)
        }
        if FUNCTION in bases and any(index.method(cid, name) is not None for name in ("backward", "vjp")):
            found.append(Checkable(_unit_span(source, skeleton.at[info.at]), cid.rpartition(".")[2], None))
    if not found:
        return ()
    call = _lone_call(source)
    return tuple(replace(each, call=call) for each in sorted(found, key=lambda each: each.where.start))


def _lone_call(source: Source) -> str | None:
    """The function that somebody calls by hand, in a file that runs nothing by itself."""
    all_of_it = probeable(source)
    script = any(each.title in SCRIPTS for each in all_of_it)
    if script or any(line.text.lstrip().startswith("if __name__") for line in source.units):
        return None
    return next((each.call for each in all_of_it if each.call is not None), None)


def probeable_at(source: Source, row: int) -> Probeable | None:
    """What a probe without a selection runs at a 0-based row: the function there, else the whole script, or
    of a notebook the cell.

    None where there is no code.
    """
    whole = outline(source.units)
    for name, region in zip(whole.names, whole.functions, strict=True):
        first, last = _rows(source, region)
        if first - 1 <= row <= last - 1:
            return _function(source, whole, name, region)
    bounds = (0, *source.bounds, len(source.physical))
    part = max(bisect_right(bounds, row, hi=len(bounds) - 1) - 1, 0)
    first = bisect_left(source.starts, bounds[part])
    last = bisect_left(source.starts, bounds[part + 1])
    at = next((at for at in range(first, last) if source.units[at].code), None)
    return _script(source, at) if at is not None else None


def _function(source: Source, whole: Outline, name: str, region: Region) -> Probeable:
    header = next(
        (at for at, line in zip(region.at, region.lines, strict=True) if line.role == "def"), region.at[0]
    )
    return Probeable(
        _unit_span(source, header), _rows(source, region), _call(whole, name, region), f"`{name}`"
    )


def _script(source: Source, at: int) -> Probeable:
    """All of the file, or of the cell around a line: what its own statements run is what shows."""
    title = SCRIPTS[bool(source.bounds)]
    return Probeable(_unit_span(source, at), _part(source, at), None, title)


def _part(source: Source, at: int) -> tuple[int, int]:
    """The rows of the file, or of the cell around a line, 1-based, both included."""
    bounds = (0, *source.bounds, len(source.physical))
    number = bisect_right(bounds, source.starts[at], hi=len(bounds) - 1) - 1
    return bounds[number] + 1, max(bounds[number] + 1, bounds[number + 1])


def _call(whole: Outline, name: str, region: Region) -> str | None:
    """The function itself, if it needs no argument and nothing else in the file names it."""
    if "." in name:
        return None
    header = next((line for line in region.lines if line.role == "def"), None)
    node = header.nodes[0] if header is not None and header.nodes else None
    if not isinstance(node, ast.FunctionDef):
        return None  # what a coroutine's call gives, nobody would await
    arguments = node.args
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    if required or any(default is None for default in arguments.kw_defaults):
        return None
    others = (
        line
        for other in (whole.skeleton, *whole.functions)
        if other is not region
        for line in other.lines
        if line is not header
    )
    return None if any(name in _names(line) for line in others) else name


def _rows(source: Source, region: Region) -> tuple[int, int]:
    """The rows of a function, 1-based, both included."""
    last = region.at[-1]
    return source.starts[region.at[0]] + 1, source.starts[last] + source.units[last].count


def _unit_span(source: Source, at: int) -> Span:
    """A logical line's first row, without the blank space around it."""
    row = source.starts[at]
    text = source.line_text(row)
    start = source.offset(row, len(text) - len(text.lstrip()))
    return Span(start, source.offset(row, len(text.rstrip())))


@functools.lru_cache(4096)
def _names(line: Line) -> frozenset[str]:
    return frozenset(_named(line))


def _named(line: Line) -> Iterator[str]:
    for part in line.nodes:
        for node in ast.walk(part):
            if isinstance(node, ast.Name):
                yield node.id


@functools.lru_cache(4096)
def _asks(line: Line) -> bool:
    """Whether a line asks for gradients itself, as far as its words say."""
    if not line.code:
        return False
    if line.role == "def":
        return line.name in ASKS
    for part in line.nodes:
        for node in ast.walk(part):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in ("backward", "manual_backward"):
                return True
            if node.func.attr == "grad" and ast.unparse(node.func) in (
                "torch.autograd.grad",
                "autograd.grad",
            ):
                return True
    return False
