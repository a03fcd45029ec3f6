"""A layer that `forward` makes is made in `__init__` and kept. Works on logical lines alone."""

from __future__ import annotations

import ast
import re

from gradsight.finding import Edit
from gradsight.surgery.order import block_end, call_at, function_around, line_end, simple_statement
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span


def made_in_init(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`layer = nn.Linear(4, 2)` in a method becomes `self.layer = nn.Linear(4, 2)` in `__init__`, and
    `nn.Linear(4, 2)(x)` becomes `self.linear(x)`.

    It stands there before the first layer that is used behind it, or last. Refuses where it is made from what
    only the method knows.
    """
    head = function_around(source, where)
    init = _init_of(source, head)
    if init is None:
        return Refusal("the class has no `__init__`")
    unit = source.unit_at(source.row_column(where.start)[0])
    call = call_at(source, unit, where)
    statement = simple_statement(source, unit, where)
    if call is None or statement is None:
        return Refusal("this is no call of its own")
    local = _names(source, head)
    read = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)} - {"self"}
    owned = {
        node.attr
        for node in ast.walk(call)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    set_at = _set_in(source, init)
    if read & local or not owned <= set_at.keys():
        return Refusal("it is made from what only this method knows")
    written = source.slice(where)
    if "\n" in written:
        return Refusal("it is written over several lines")
    name = _name_of(source, unit, statement, where)
    if name and name not in set_at and _is_plain(source, head, unit, name):
        used = _uses(source, head, unit, name)
        start = source.offset(source.starts[unit], 0)
        row = source.starts[unit] + source.units[unit].count
        edits = [Edit(source.file, Span(start, source.offset(row, 0)), "")]
        edits += [Edit(source.file, Span(at, at), "self.") for at in used]
    elif not name:
        kind = ast.unparse(call.func).rpartition(".")[2]
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()
        if name in set_at:
            return Refusal("another layer has its name")
        edits = [Edit(source.file, where, f"self.{name}")]
    else:
        return Refusal("its name means something else, too")
    behind = _first_used_behind(source, head, unit, set_at)
    last = max((set_at[attribute] for attribute in owned), default=init)
    anchor = set_at[behind] if behind and set_at[behind] > last else None
    lines = [at for at in range(init + 1, block_end(source, init)) if source.units[at].code]
    if not lines:
        return Refusal("`__init__` stands on one line")
    text = source.line_text(source.starts[lines[0]])
    indent = text[: len(text) - len(text.lstrip())]
    whole = source.text[source.span_of(unit, statement).end : source.offset(source.starts[unit], 1 << 30)]
    comment = f"  {whole.strip()}" if whole.strip().startswith("#") and edits[0].text == "" else ""
    made = f"{indent}self.{name} = {written}{comment}"
    if anchor is not None:
        at = source.offset(source.starts[anchor], 0)
        edits.append(Edit(source.file, Span(at, at), f"{made}{line_end(source)}"))
    else:
        end = source.offset(source.starts[lines[-1]] + source.units[lines[-1]].count - 1, 1 << 30)
        edits.append(Edit(source.file, Span(end, end), f"{line_end(source)}{made}"))
    return tuple(edits)


def _init_of(source: Source, head: int) -> int | None:
    """The line of `__init__` in the class of a method."""
    if head < 0:
        return None
    indent = source.units[head].indent
    at = next(
        (i for i in range(head - 1, -1, -1) if source.units[i].code and source.units[i].indent < indent), -1
    )
    if at < 0 or source.units[at].role != "class":
        return None
    for inner in range(at + 1, block_end(source, at)):
        line = source.units[inner]
        if line.indent == indent and any(
            isinstance(node, ast.FunctionDef) and node.name == "__init__" for node in line.nodes
        ):
            return inner
    return None


def _set_in(source: Source, init: int) -> dict[str, int]:
    """The attributes that `__init__` sets in its own block, by the lines that do."""
    first = next((at for at in range(init + 1, block_end(source, init)) if source.units[at].code), None)
    out: dict[str, int] = {}
    for at in range(init + 1, block_end(source, init)):
        line = source.units[at]
        if first is None or line.indent != source.units[first].indent:
            continue
        for node in line.nodes:
            for target in node.targets if isinstance(node, ast.Assign) else ():
                for part in ast.walk(target):
                    if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self":
                        out.setdefault(part.attr, at)
    return out


def _name_of(source: Source, unit: int, statement: ast.stmt, where: Span) -> str:
    """The name that the statement gives what is made, moved to a device or not; nothing for another use."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return ""
    target, value = statement.targets[0], statement.value
    while source.span_of(unit, value) != where:
        moved = isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)
        if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute) or not moved:
            return ""
        if value.func.attr not in ("to", "cuda", "cpu"):
            return ""
        value = value.func.value
    return target.id if isinstance(target, ast.Name) else ""


def _is_plain(source: Source, head: int, unit: int, name: str) -> bool:
    """Whether a method binds a name in one line alone, which is not the only one of a block."""
    if len(source.units[unit].nodes) != 1:
        return False
    beside = [at for at in (unit - 1, unit + 1) if 0 <= at < len(source.units)]
    if not any(source.units[at].indent == source.units[unit].indent for at in beside):
        return False
    stored = [
        at
        for at in range(head, block_end(source, head))
        for part in source.units[at].nodes
        for node in ast.walk(part)
        if (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, (ast.Store, ast.Del)))
        or (isinstance(node, ast.arg) and node.arg == name)
    ]
    return stored == [unit]


def _uses(source: Source, head: int, unit: int, name: str) -> list[int]:
    return [
        source.span_of(at, node).start
        for at in range(head + 1, block_end(source, head))
        if at != unit
        for part in source.units[at].nodes
        for node in ast.walk(part)
        if isinstance(node, ast.Name) and node.id == name
    ]


def _names(source: Source, head: int) -> set[str]:
    """What a function is given and binds."""
    out: set[str] = set()
    for at in range(head, block_end(source, head)):
        for node in (each for part in source.units[at].nodes for each in ast.walk(part)):
            if isinstance(node, ast.arg):
                out.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                out.add(node.id)
    return out


def _first_used_behind(source: Source, head: int, unit: int, set_at: dict[str, int]) -> str:
    """The first attribute that the method reads behind a line, or outside of the call on it."""
    for at in range(unit + 1, block_end(source, head)):
        for part in source.units[at].nodes:
            read = [
                node
                for node in ast.walk(part)
                if isinstance(node, ast.Attribute)
                and ast.unparse(node.value) == "self"
                and node.attr in set_at
            ]
            read.sort(key=lambda node: source.span_of(at, node).start)
            if read:
                return read[0].attr
    return ""
