"""What a `case` binds: the names of its pattern, to parts of the subject."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradsight.domain import Edge
from gradsight.interpret.calls import Calls
from gradsight.values import Choice, Class, Const, Obj, Ref, Unknown, Value

Binding = tuple[str, Value]


def bindings(it: Calls, pattern: ast.pattern, value: Value) -> Iterator[Binding]:
    """The names that a pattern binds where it matches, each with what it stands for.

    A part that cannot be told apart is an item of the whole, which may be any of its items.
    """
    if isinstance(pattern, ast.MatchAs):
        if pattern.pattern is not None:
            yield from bindings(it, pattern.pattern, value)
        if pattern.name is not None:
            yield pattern.name, value
    elif isinstance(pattern, ast.MatchOr):
        several: dict[str, list[Value]] = {}
        for one in pattern.patterns:
            for name, bound in bindings(it, one, value):
                several.setdefault(name, []).append(bound)
        for name, values in several.items():
            yield name, it.joiner.values(values)
    elif isinstance(pattern, ast.MatchSequence):
        yield from _sequence(it, pattern, value)
    elif isinstance(pattern, ast.MatchMapping):
        for key, one in zip(pattern.keys, pattern.patterns, strict=True):
            yield from bindings(it, one, it.item(value, it.evaluate(key), key))
        if pattern.rest is not None:
            yield pattern.rest, value
    elif isinstance(pattern, ast.MatchClass):
        yield from _class(it, pattern, value)
    elif isinstance(pattern, ast.MatchStar) and pattern.name is not None:
        yield pattern.name, value


def _sequence(it: Calls, pattern: ast.MatchSequence, value: Value) -> Iterator[Binding]:
    parts = pattern.patterns
    items = it.items(value)
    obj = it.obj(value)
    star = next((at for at, part in enumerate(parts) if isinstance(part, ast.MatchStar)), None)
    if items is None or (obj is not None and obj.many) or len(items) < len(parts) - (star is not None):
        for at, part in enumerate(parts):
            whole = isinstance(part, ast.MatchStar)
            yield from bindings(it, part, value if whole else it.item(value, Const(at), pattern))
        return
    behind = len(parts) - star - 1 if star is not None else 0
    for at, part in enumerate(parts):
        if star is None or at < star:
            yield from bindings(it, part, items[at])
        elif at == star:
            rest = it.allocate(Obj("list", None, items=tuple(items[at : len(items) - behind])))
            yield from bindings(it, part, rest)
        else:
            yield from bindings(it, part, items[at - len(parts)])


def _class(it: Calls, pattern: ast.MatchClass, value: Value) -> Iterator[Binding]:
    if len(pattern.patterns) == 1 and not pattern.kwd_patterns and not isinstance(value, (Ref, Choice)):
        yield from bindings(it, pattern.patterns[0], value)  # `case float(x)`
        return
    cls = it.evaluate(pattern.cls)
    info = it.world.class_info(cls.cid) if isinstance(cls, Class) else None
    names = [name for name, _ in info.fields] if info is not None else []
    for at, part in enumerate(pattern.patterns):
        known = at < len(names)
        item = (
            it.get_attribute(value, names[at], pattern)
            if known
            else Unknown(
                "a part of what is matched",
                it.combine("item", [(n, Edge.LIVE) for n in it.nodes_in(value)], pattern),
            )
        )
        yield from bindings(it, part, item)
    for name, part in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
        yield from bindings(it, part, it.get_attribute(value, name, pattern))


def pattern_of(nodes: tuple[ast.AST, ...]) -> ast.match_case | None:
    """The `match_case` of a clause's line."""
    return next((node for node in nodes if isinstance(node, ast.match_case)), None)
