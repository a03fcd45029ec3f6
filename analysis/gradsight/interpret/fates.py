"""What becomes of the names that a function binds: never read, only looked at, or bound anew before that.

Read off the function's own lines and of nothing else. Whatever is in doubt counts as used: a name in another
scope of the same function, a value that is handed on, a condition.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gradsight.lines import Line
from gradsight.outline import Block, Statement, nest
from gradsight.syntax import walk

_LIKE_A_TERM = re.compile(
    r"loss|penalt|regulari[sz]|(^|_)(l1|l2|kl|kld|kl_?div\w*|reg|gp|tv|commit\w*|bce|mse|ce|nll|dice|adv|recon\w*"
    r"|consistency|ortho\w*|sparsity|aux|ponder|smoothness|cycle|identity)(_|\d|$)",
    re.IGNORECASE,
)
NUMBERS = frozenset(
    {"item", "detach", "tolist", "numpy", "data", "requires_grad", "grad_fn", "shape", "size"}
)
SHOWING = frozenset({
    "print", "log", "info", "debug", "warning", "write", "format", "add_scalar", "add_scalars", "set_postfix",
    "set_postfix_str", "set_description", "log_dict", "log_metrics", "log_metric", "float", "str", "repr",
    "tqdm", "pprint",
})  # fmt: skip
OPAQUE = frozenset({"locals", "vars", "globals", "eval", "exec"})


@functools.lru_cache(4096)
def like_a_term(name: str) -> bool:
    """Whether a name is what people call a term of a loss."""
    return _LIKE_A_TERM.search(name) is not None


@dataclass(slots=True)
class Fates:
    """The names and bindings of one function.

    `unread` and `shown`: names that no line reads, and those that lines only show (print, log, take the
    number of). `handed`: those that, beside that, are only returned. `lost`: from a line that binds a name to
    the one beside it that binds it anew, where nothing between them computes with it.
    """

    unread: frozenset[str] = frozenset()
    shown: frozenset[str] = frozenset()
    handed: frozenset[str] = frozenset()
    lost: dict[int, int] = field(default_factory=dict)

    def of(self, name: str) -> str:
        """ "unread", "shown", "handed", or nothing."""
        if name in self.unread:
            return "unread"
        return "shown" if name in self.shown else "handed" if name in self.handed else ""


@functools.lru_cache(256)
def fates(lines: tuple[Line, ...], inside: bool) -> Fates:
    """The fates of all names that a function's lines bind.

    `inside` a function a name alone is nothing; outside it is what a notebook's cell shows.
    """
    used: set[str] = set()
    shown: set[str] = set()
    handed: set[str] = set()
    bound: set[str] = set()
    for line in lines:
        if line.vague is not None or (line.code and line.error is not None):
            return Fates()
        for node in nodes_in(line, inside):
            part = names_in(node)
            if part.opaque:
                return Fates()
            used |= part.used
            shown |= part.shown
            handed |= part.handed
            bound |= part.bound
    out = Fates(
        frozenset(bound - used - shown - handed),
        frozenset(bound & shown - used - handed),
        frozenset(bound & handed - used),
    )
    rebound(nest(lines), inside, out.lost)
    return out


@dataclass(frozen=True, slots=True)
class Names:
    """What one line does with names. `opaque`: nobody knows, it reads or runs whatever there is."""

    used: frozenset[str]  # what is declared global or nonlocal is used elsewhere
    shown: frozenset[str]
    handed: frozenset[str]
    bound: frozenset[str]
    opaque: bool


@functools.lru_cache(16384)
def names_in(node: ast.AST) -> Names:
    """The names in a line's syntax: lines are kept, and so is what is read off them."""
    used: set[str] = set()
    bound: set[str] = set()
    opaque = False
    for part in walk(node):
        if isinstance(part, (ast.Global, ast.Nonlocal)):
            used.update(part.names)
        elif isinstance(part, ast.Name):
            opaque = opaque or part.id in OPAQUE
            if not isinstance(part.ctx, ast.Load):
                bound.add(part.id)
    handed: set[str] = set()
    if isinstance(node, ast.Return) and isinstance(node.value, (ast.Name, ast.Tuple)):
        parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        handed.update(part.id for part in parts if isinstance(part, ast.Name))
        node = ast.Tuple([part for part in parts if not isinstance(part, ast.Name)], ast.Load())
    # `loss + penalty` as a statement computes with neither.
    dropped = isinstance(node, ast.Expr) and isinstance(node.value, ast.BinOp)
    read = list(reads(node, dropped))
    used.update(name for name, only_shown in read if not only_shown)
    shown = frozenset(name for name, only_shown in read if only_shown)
    return Names(frozenset(used), shown, frozenset(handed), frozenset(bound), opaque)


def reads(node: ast.AST, showing: bool = False, deciding: bool = False) -> Iterator[tuple[str, bool]]:
    """Each name that is read, and whether it is only looked at there."""
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load):
            yield node.id, showing and not deciding
        return
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        yield node.target.id, False
    if isinstance(node, (ast.If, ast.While, ast.IfExp, ast.Assert)):
        yield from reads(node.test, False, True)
        rest: Iterable[ast.AST] = (part for part in ast.iter_child_nodes(node) if part is not node.test)
    else:
        rest = ast.iter_child_nodes(node)
    if isinstance(node, ast.Compare):
        deciding = True
    elif isinstance(node, ast.Attribute):
        showing = showing or node.attr in NUMBERS
    elif isinstance(node, ast.FormattedValue):
        showing = True
    elif isinstance(node, ast.Call):
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        yield from reads(called, showing, deciding)
        for part in (*node.args, *node.keywords):
            # A scheduler goes by the number that it is given.
            yield from reads(part, showing or name in SHOWING, deciding or name == "step")
        return
    for part in rest:
        yield from reads(part, showing, deciding)


def rebound(block: Block, inside: bool, out: dict[int, int]) -> None:
    """In each block, the bindings that a later statement of the same block makes void."""
    standing: dict[str, int] = {}
    for statement in block:
        used: set[str] = set()
        stored: set[str] = set()
        for node in nodes_of(statement, inside):
            part = names_in(node)
            used |= part.used | part.handed
            stored |= part.bound
        for name in used:
            standing.pop(name, None)
        first = statement[0]
        name = bound_name(first.line.nodes[0]) if len(first.line.nodes) == 1 else ""
        if name and not first.line.header:
            if name in standing:
                out[standing[name]] = first.at
            standing[name] = first.at
            continue
        for one in stored:
            standing.pop(one, None)
        for clause in statement:
            rebound(clause.block, inside, out)


def nodes_in(line: Line, inside: bool) -> tuple[ast.AST, ...]:
    """What a line does something with."""
    return () if inside and line.idle is not None else line.nodes


def nodes_of(statement: Statement, inside: bool) -> Iterator[ast.AST]:
    """The same of a statement, the lines of its blocks too."""
    for clause in statement:
        yield from nodes_in(clause.line, inside)
        for inner in clause.block:
            yield from nodes_of(inner, inside)


def bound_name(node: ast.AST) -> str:
    """The one name that a statement binds."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    if isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
        return node.target.id
    return ""


CACHES = (fates, names_in)
