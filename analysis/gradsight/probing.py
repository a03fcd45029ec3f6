"""What of a file can be probed, and what a probe runs where nothing is selected.

Lines alone decide: whether a function or the script asks for gradients, by the names that do so. Whether its
call will work is only known by running it.

Invariant: pure, and cheap enough for every edit: no interpretation, only what each line says by itself.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from gradsight.lines import Line
from gradsight.outline import Outline, Region, outline
from gradsight.text import Source, Span

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
    the order of the text. Nothing in a file that asks for none."""
    whole = outline(source.units)
    regions = dict(zip(whole.names, whole.functions, strict=True))
    asking = {name for name, region in regions.items() if any(_asks(line) for line in region.lines)}
    script = [at for at, line in zip(whole.skeleton.at, whole.skeleton.lines, strict=True) if _asks(line)]
    if not asking and not script:
        return ()
    found = [
        _function(source, whole, name, region)
        for name, region in regions.items()
        if name in asking or name.rpartition(".")[2] == "forward"
    ]
    if script:
        found.append(_script(source, whole, script[0]))
    return tuple(sorted(found, key=lambda each: each.where.start))


def probeable_at(source: Source, row: int) -> Probeable | None:
    """What a probe without a selection runs at a 0-based row: the function there, else the whole script.

    None where the file holds no code.
    """
    whole = outline(source.units)
    for name, region in zip(whole.names, whole.functions, strict=True):
        first, last = _rows(source, region)
        if first - 1 <= row <= last - 1:
            return _function(source, whole, name, region)
    at = next((at for at, line in enumerate(source.units) if line.code), None)
    return _script(source, whole, at) if at is not None else None


def _function(source: Source, whole: Outline, name: str, region: Region) -> Probeable:
    header = next(
        (at for at, line in zip(region.at, region.lines, strict=True) if line.role == "def"), region.at[0]
    )
    return Probeable(
        _unit_span(source, header), _rows(source, region), _call(whole, name, region), f"`{name}`"
    )


def _script(source: Source, whole: Outline, at: int) -> Probeable:
    """All of the file: what its own statements run is what shows."""
    return Probeable(_unit_span(source, at), (1, max(1, len(source.physical))), None, "the script")


def _call(whole: Outline, name: str, region: Region) -> str | None:
    """The function itself, if it needs no argument and nothing else in the file names it."""
    if "." in name:
        return None
    header = next((line for line in region.lines if line.role == "def"), None)
    node = header.nodes[0] if header is not None and header.nodes else None
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
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


@functools.lru_cache(65536)
def _names(line: Line) -> frozenset[str]:
    return frozenset(_named(line))


def _named(line: Line) -> Iterator[str]:
    for part in line.nodes:
        for node in ast.walk(part):
            if isinstance(node, ast.Name):
                yield node.id


@functools.lru_cache(65536)
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
