"""Statements put before and behind others. Works on logical lines alone; loads no libcst."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradsight.finding import Edit
from gradsight.lines import Line
from gradsight.outline import outline
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span


def insert_before(source: Source, where: Span, statement: str) -> tuple[Edit, ...] | Refusal:
    """A statement of its own before the one that holds `where`: on its line if that is not its own.

    Refuses where a header or a lambda holds it.
    """
    unit = source.unit_at(source.row_column(where.start)[0])
    simple = simple_statement(source, unit, where)
    if simple is None:
        return Refusal("this is no statement of its own")
    at = source.span_of(unit, simple).start
    indent = source.text[source.offset(source.starts[unit], 0) : at]
    if indent.strip():  # behind a colon or a semicolon
        return (Edit(source.file, Span(at, at), f"{statement}; "),)
    return (Edit(source.file, Span(at, at), f"{statement}{line_end(source)}{indent}"),)


def insert_behind(source: Source, where: Span, statement: str) -> tuple[Edit, ...] | Refusal:
    """A statement of its own behind the one at `where`.

    Refuses where `where` is a part of its statement, unless the rest of that but takes its value.
    """
    unit = source.unit_at(source.row_column(where.start)[0])
    simple = simple_statement(source, unit, where)
    value = simple.value if isinstance(simple, (ast.Expr, ast.Assign, ast.AnnAssign)) else None
    if isinstance(value, ast.Await):
        value = value.value
    if isinstance(simple, ast.AugAssign):
        value = simple.target
    if simple is None or value is None or source.span_of(unit, value) != where:
        return Refusal("this is no statement of its own")
    whole = source.span_of(unit, simple)
    row = source.starts[unit]
    indent = source.text[source.offset(row, 0) : whole.start]
    end = source.offset(row + source.units[unit].count - 1, 1 << 30)
    rest = source.text[whole.end : end]
    if indent.strip() or (rest.strip() and not rest.lstrip().startswith("#")):
        return (Edit(source.file, Span(whole.end, whole.end), f"; {statement}"),)
    return (Edit(source.file, Span(end, end), f"{line_end(source)}{indent}{statement}"),)


def insert_behind_all(
    source: Source, where: Span, marks: tuple[str, ...], statement: str
) -> tuple[Edit, ...] | Refusal:
    """As `insert_behind`, behind the calls that follow it in its block, too, if their text holds a mark: also
    under an `if`."""
    unit = source.unit_at(source.row_column(where.start)[0])
    indent, last = source.units[unit].indent, unit
    at = unit + 1
    while at < len(source.units):
        line = source.units[at]
        inner = _lines_under(source, at) if line.header else []
        called = [at] if not line.header else inner
        if line.code:
            is_call = all(_is_call(source.units[one]) for one in called)
            marked = all(any(mark in source.units[one].text for mark in marks) for one in called)
            if line.indent != indent or not called or not is_call or not marked:
                break
            last = (inner or [at])[-1]
        at = (inner or [at])[-1] + 1
    if last == unit:
        return insert_behind(source, where, statement)
    whole = insert_behind(source, where, statement)  # is it a statement of its own?
    if isinstance(whole, Refusal):
        return whole
    text = source.line_text(source.starts[unit])
    end = source.offset(source.starts[last] + source.units[last].count - 1, 1 << 30)
    blank = text[: len(text) - len(text.lstrip())]
    return (Edit(source.file, Span(end, end), f"{line_end(source)}{blank}{statement}"),)


def _is_call(line: Line) -> bool:
    node = line.nodes[0] if len(line.nodes) == 1 else None
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def insert_return(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """A function returns what it computes: `return` before an expression that is a statement, or behind the
    statement that binds the name at `where`."""
    unit = source.unit_at(source.row_column(where.start)[0])
    simple = simple_statement(source, unit, where)
    indent = source.text[source.offset(source.starts[unit], 0) : where.start]
    if simple is None or indent.strip():
        return Refusal("this is no statement on a line of its own")
    if isinstance(simple, ast.Expr):
        return (Edit(source.file, Span(where.start, where.start), "return "),)
    end = source.offset(source.starts[unit] + source.units[unit].count - 1, 1 << 30)
    statement = f"return {source.slice(where)}"
    return (Edit(source.file, Span(end, end), f"{line_end(source)}{indent}{statement}"),)


def insert_above(
    source: Source, where: Span, statement: str, loops: int, shared: int
) -> tuple[Edit, ...] | Refusal:
    """A statement before the loops and `with` blocks that hold `where`, as far out as they go.

    Args:
        loops: how many loops are around `where` in all, those around calls of its function included.
        shared: how many of these, the outermost, the statement must stay inside of.

    Branches, `try` and a function's head end the way outward.
    """
    unit = source.unit_at(source.row_column(where.start)[0])
    headers = list(_headers(source, unit))
    own = [at for at in headers if _keyword(source, at) in ("for", "while")]
    inside = max(0, shared - (loops - len(own)))
    kept = own[len(own) - inside :]
    target = None
    for at in headers:
        if at in kept or _keyword(source, at) not in ("for", "while", "with"):
            break
        target = at
    if target is None:
        return insert_before(source, where, statement)
    row = source.starts[target]
    at = source.offset(row, 0)
    text = source.text[at : source.offset(row, 1 << 30)]
    indent = text[: len(text) - len(text.lstrip())]
    at += len(indent)
    return (Edit(source.file, Span(at, at), f"{statement}{line_end(source)}{indent}"),)


def name_there(source: Source, made: Span, where: Span) -> str:
    """The name that the statement at `made` gives a value and that is known at `where`: a name of the same
    function, or of the module, or an attribute of `self` in the same class. Else nothing."""
    unit = source.unit_at(source.row_column(made.start)[0])
    simple = simple_statement(source, unit, made)
    if not isinstance(simple, ast.Assign) or len(simple.targets) != 1:
        return ""
    target = simple.targets[0]
    if source.span_of(unit, simple.value) != made or not isinstance(target, (ast.Name, ast.Attribute)):
        return ""
    name = ast.unparse(target)
    whole = outline(source.units)

    def function(span: Span) -> str:
        at = whole.around(source.unit_at(source.row_column(span.start)[0]))
        return whole.names[at] if at is not None else ""

    first, second = function(made), function(where)
    if name.startswith("self."):
        same = first.rpartition(".")[0] == second.rpartition(".")[0]
    else:
        same = first == second
    return name if same and re.fullmatch(r"[\w.]+", name) else ""


def is_bound_before(source: Source, name: str, where: Span) -> bool:
    """Whether a line above `where`, of the same function or outside all, gives a dotted name a value."""
    unit = source.unit_at(source.row_column(where.start)[0])
    head = function_around(source, where)
    for at in range(head + 1, unit):
        line = source.units[at]
        if not line.code or (head < 0 and line.indent):
            continue
        for node in line.nodes:
            targets = node.targets if isinstance(node, ast.Assign) else ()
            bound = (one for target in targets for one in getattr(target, "elts", (target,)))
            if any(ast.unparse(one) == name for one in bound):
                return True
    return False


def function_around(source: Source, where: Span) -> int:
    """The line of the function's head that holds `where`, as a number of the file's lines; -1 for none."""
    unit = source.unit_at(source.row_column(where.start)[0])
    indent = source.units[unit].indent
    for at in range(unit - 1, -1, -1):
        line = source.units[at]
        if line.code and line.indent < indent:
            indent = line.indent
            if line.role == "def":
                return at
    return -1


def in_loop(source: Source, unit: int) -> bool:
    """Whether a line stands in a loop of its own function."""
    return any(_keyword(source, at) in ("for", "while") for at in _headers(source, unit))


def _headers(source: Source, unit: int) -> Iterator[int]:
    """The headers of the blocks that a line stands in, innermost first, up to its function's."""
    indent = source.units[unit].indent
    for at in range(unit - 1, -1, -1):
        line = source.units[at]
        if not line.code or line.indent >= indent:
            continue
        if not line.header or line.role in ("def", "class"):
            return
        indent = line.indent
        yield at


def _keyword(source: Source, unit: int) -> str:
    """The word that a header begins with, `async` left out."""
    words = source.units[unit].text.split(None, 2)
    return words[1] if words[0] == "async" else words[0].rstrip(":(")


def insert_at_head(source: Source, header: Span, statement: str) -> tuple[Edit, ...] | Refusal:
    """A statement of its own before all others of the block under the header at `header`."""
    unit = source.unit_at(source.row_column(header.start)[0])
    if not source.units[unit].header:
        return Refusal("the block stands on the line of its header")
    for inner in range(unit + 1, len(source.units)):
        line = source.units[inner]
        if line.code:
            if line.indent <= source.units[unit].indent:
                break
            row = source.starts[inner]
            start = source.offset(row, 0)
            text = source.line_text(row)
            indent = text[: len(text) - len(text.lstrip())]
            return (Edit(source.file, Span(start, start), f"{indent}{statement}{line_end(source)}"),)
    return Refusal("there is no block under this header")


def block_under(source: Source, header: int) -> list[int]:
    """The lines of a block, those of blocks within it left out, as numbers of the file's lines."""
    lines = _lines_under(source, header)
    return [at for at in lines if source.units[at].indent <= source.units[lines[0]].indent]


def append_to_block(source: Source, header: int, statement: str) -> tuple[Edit, ...] | Refusal:
    """A statement of its own behind all others of the block under a header."""
    lines = _lines_under(source, header)
    if not lines:
        return Refusal("there is no block under this header")
    text = source.line_text(source.starts[lines[0]])
    indent = text[: len(text) - len(text.lstrip())]
    end = source.offset(source.starts[lines[-1]] + source.units[lines[-1]].count - 1, 1 << 30)
    return (Edit(source.file, Span(end, end), f"{line_end(source)}{indent}{statement}"),)


def block_end(source: Source, header: int) -> int:
    """One past the last line of the block under a header."""
    for at in range(header + 1, len(source.units)):
        if source.units[at].code and source.units[at].indent <= source.units[header].indent:
            return at
    return len(source.units)


def _lines_under(source: Source, header: int) -> list[int]:
    """The lines below a header that are deeper than it."""
    return [at for at in range(header + 1, block_end(source, header)) if source.units[at].code]


def call_at(source: Source, unit: int, where: Span) -> ast.Call | None:
    """The call on a line that is just what stands at `where`."""
    for part in source.units[unit].nodes:
        for node in ast.walk(part):
            if isinstance(node, ast.Call) and source.span_of(unit, node) == where:
                return node
    return None


def is_inside(source: Source, header: Span, where: Span) -> bool:
    """Whether `where` stands in the block under a header, and in no function of its own there."""
    first = source.unit_at(source.row_column(header.start)[0])
    last = source.unit_at(source.row_column(where.start)[0])
    between = [line for line in source.units[first + 1 : last + 1] if line.code]
    deep = all(line.indent > source.units[first].indent for line in between)
    return bool(between) and deep and not any(line.role in ("def", "class") for line in between)


def simple_statement(source: Source, unit: int, where: Span) -> ast.stmt | None:
    """The simple statement that runs what stands at `where`; None for a header, or a lambda inside it."""
    inner: ast.stmt | None = None
    stack: list[ast.AST] = list(source.units[unit].nodes)
    while stack:
        node = stack.pop()
        if hasattr(node, "lineno"):
            span = source.span_of(unit, node)
            if not span.start <= where.start <= where.end <= span.end:
                continue
        if isinstance(node, ast.Lambda):
            return None
        if isinstance(node, ast.stmt):
            inner = node
        stack += ast.iter_child_nodes(node)
    return None if inner is None or hasattr(inner, "body") or isinstance(inner, ast.Match) else inner


def line_end(source: Source) -> str:
    """How this file ends its lines."""
    first = source.physical[0] if source.physical else "\n"
    return "\r\n" if first.endswith("\r\n") else "\r" if first.endswith("\r") else "\n"
