"""What a probe executes for a selection: the whole file, some of its rows, or a function of it.

Rows of the text that comes out are the rows of the file: what is left out becomes blank.

- Rows at the top level (also inside `if __name__ == "__main__":`): the statements that the rows touch, whole,
  and what they need of the statements above: those that bind a name that is needed, those that may change the
  value of such a name (a call that mentions it, a loop, an assignment to an attribute), and so on for the
  names that these need. `print` and `torch.save` are not taken along.
  When in doubt a statement is taken along.
- Rows inside a function or a class: the whole file runs, for only its own calls say with what arguments; the
  rows are what is shown.
- A function: the whole file runs as a module (so `if __name__ == "__main__":` does not), then the function is
  called without arguments. Rows beside it restrict what is shown.

Invariant: pure; nothing is read but the text.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Calls that only tell somebody something: nothing below can need them.
OUTPUT_ONLY = frozenset({"print", "pprint", "pprint.pprint", "torch.save", "warnings.warn"})


class SelectionError(ValueError):
    """The selection cannot be run; the message says what to select instead."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to execute. `taken` are the first rows of the statements above that were taken along."""

    text: str
    rows: tuple[int, int] | None = None
    call: str | None = None
    taken: tuple[int, ...] = ()


def select(text: str, rows: tuple[int, int] | None = None, call: str | None = None) -> Program:
    """The program for a selection of `text`; `rows` are 1-based, both included.

    Raises SelectionError if the rows do not exist or hold no statement, or if the file does not parse
    although a part of it is asked for.
    """
    if rows is None:
        return Program(text, None, call)
    first, last = rows
    count = len(_split(text))
    if first < 1 or last < first:
        raise SelectionError(f"rows {first}-{last} are no range: write FILE:A-B with 1 <= A <= B")
    if first > count:
        raise SelectionError(f"row {first} does not exist: the file has {count}")
    if call is not None:
        return Program(text, rows, call)
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise SelectionError(
            f"row {error.lineno} does not parse ({error.msg}): rows can be selected once it does"
        ) from error
    units = list(_units(tree.body))
    chosen = [unit for unit in units if unit.first <= last and unit.last >= first]
    if not chosen:
        raise SelectionError(f"rows {first}-{last} hold no statement: select the statements to run")
    if len(chosen) == 1 and isinstance(chosen[0].node, _DEFINITIONS):
        return Program(text, rows, None)
    above = units[: units.index(chosen[0])]
    taken = _needed(above, chosen)
    kept = [*taken, *chosen]
    return Program(_blank(text, kept), rows, None, tuple(unit.first for unit in taken))


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A statement of the top level, or of the body of `if __name__ == "__main__":`."""

    node: ast.stmt
    first: int
    last: int
    header: tuple[int, int] | None = None  # rows of the `if` around it


def _units(body: list[ast.stmt], header: tuple[int, int] | None = None) -> Iterator[_Unit]:
    for node in body:
        first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", ()))])
        last = node.end_lineno or node.lineno
        if (
            header is None
            and isinstance(node, ast.If)
            and _is_main(node)
            and node.body[0].lineno > node.lineno
        ):
            yield from _units(node.body, (node.lineno, node.test.end_lineno or node.lineno))
        else:
            yield _Unit(node, first, last, header)


def _is_main(node: ast.If) -> bool:
    test = node.test
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Name)
        and test.left.id == "__name__"
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.Eq)
        and not node.orelse
    )


def _needed(above: list[_Unit], chosen: list[_Unit]) -> list[_Unit]:
    """The units of `above` that the chosen ones need, in order."""
    wanted = set().union(*(_reads(unit.node) for unit in chosen))
    taken: set[int] = set()
    changed = True
    while changed:
        changed = False
        for index in range(len(above) - 1, -1, -1):
            if index in taken:
                continue
            node = above[index].node
            if _is_future(node) or _imports_everything(node) or (_effects(node) & wanted):
                taken.add(index)
                wanted |= _reads(node)
                changed = True
    return [unit for index, unit in enumerate(above) if index in taken]


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _imports_everything(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)


def _reads(node: ast.AST) -> set[str]:
    """Every name that a statement may read, those inside its functions included."""
    return {
        item.id
        for item in ast.walk(node)
        if isinstance(item, ast.Name) and not isinstance(item.ctx, ast.Store)
    } | {name for item in ast.walk(node) if isinstance(item, ast.Global) for name in item.names}


def _effects(node: ast.stmt) -> set[str]:
    """Names that a statement binds, or whose values it may change."""
    if isinstance(node, _DEFINITIONS):
        return {node.name} | _names_in(node.decorator_list)
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    found: set[str] = set()
    for item in _without_definitions(node):
        if isinstance(item, ast.Name) and isinstance(item.ctx, (ast.Store, ast.Del)):
            found.add(item.id)
        elif isinstance(item, (ast.Attribute, ast.Subscript)) and isinstance(item.ctx, (ast.Store, ast.Del)):
            found |= _names_in([item])
        elif isinstance(item, _DEFINITIONS):
            found.add(item.name)
        elif isinstance(item, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in item.names}
        elif isinstance(item, ast.Expr) and not _only_tells(item.value):
            # a bare call may change whatever it can reach
            found |= _names_in([item.value])
        elif isinstance(item, ast.ExceptHandler) and item.name:
            found.add(item.name)
    return found


def _only_tells(value: ast.expr) -> bool:
    if isinstance(value, ast.Constant):
        return True
    return isinstance(value, ast.Call) and ast.unparse(value.func) in OUTPUT_ONLY


def _names_in(nodes: Iterable[ast.AST]) -> set[str]:
    return {item.id for node in nodes for item in ast.walk(node) if isinstance(item, ast.Name)}


def _without_definitions(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement, without the insides of functions and classes that it defines."""
    stack = [node]
    while stack:
        item = stack.pop()
        yield item
        if not isinstance(item, _DEFINITIONS):
            stack.extend(ast.iter_child_nodes(item))


def _split(text: str) -> list[str]:
    """Rows as Python counts them: form feeds and Unicode separators do not end one."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _blank(text: str, kept: list[_Unit]) -> str:
    rows = _split(text)
    keep: set[int] = set()
    for unit in kept:
        keep.update(range(unit.first, unit.last + 1))
        if unit.header is not None:
            keep.update(range(unit.header[0], unit.header[1] + 1))
    # A row that a kept statement shares with one that is not (`a = 1; b = 2`) is kept whole.
    return "\n".join(row if number in keep else "" for number, row in enumerate(rows, 1))
