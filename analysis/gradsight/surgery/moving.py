"""A statement goes before or behind another one of its block."""

from __future__ import annotations

import ast

from gradsight.finding import Edit
from gradsight.surgery.order import insert_before, insert_behind, simple_statement
from gradsight.surgery.refusal import Refusal
from gradsight.surgery.reopen import remove_statement
from gradsight.text import Source, Span


def move_before(source: Source, moved: Span, anchor: Span) -> tuple[Edit, ...] | Refusal:
    """The statement that `moved` stands in goes before that of `anchor`, in the same block.

    Refuses where either is no statement of its own, or something between them reads what the statement binds.
    """
    whole = _movable(source, moved, anchor)
    if isinstance(whole, Refusal):
        return whole
    added = insert_before(source, anchor, source.slice(whole))
    return added if isinstance(added, Refusal) else (*remove_statement(source, whole), *added)


def move_behind(source: Source, moved: Span, anchor: Span) -> tuple[Edit, ...] | Refusal:
    """As `move_before`, behind the statement of `anchor`."""
    whole = _movable(source, moved, anchor)
    if isinstance(whole, Refusal):
        return whole
    unit = source.unit_at(source.row_column(anchor.start)[0])
    simple = simple_statement(source, unit, anchor)
    if isinstance(simple, ast.Assign):
        anchor = source.span_of(unit, simple.value)
    added = insert_behind(source, anchor, source.slice(whole))
    return added if isinstance(added, Refusal) else (*remove_statement(source, whole), *added)


def _movable(source: Source, moved: Span, anchor: Span) -> Span | Refusal:
    """The whole statement that `moved` stands in, if it may change places with that of `anchor`."""
    first, last = sorted(source.unit_at(source.row_column(each.start)[0]) for each in (moved, anchor))
    unit = source.unit_at(source.row_column(moved.start)[0])
    simple = simple_statement(source, unit, moved)
    if not isinstance(simple, (ast.Expr, ast.Assign)):
        return Refusal("this is no statement of its own")
    between = [line for line in source.units[first : last + 1] if line.code]
    if between[0].indent != between[-1].indent or any(line.indent < between[0].indent for line in between):
        return Refusal("the two stand in different blocks")
    targets = simple.targets if isinstance(simple, ast.Assign) else []
    bound = {node.id for one in targets for node in ast.walk(one) if isinstance(node, ast.Name)}
    others = [node for line in between[1:-1] for part in line.nodes for node in ast.walk(part)]
    if any(isinstance(node, ast.Name) and node.id in bound for node in others):
        return Refusal("something between them uses what it binds")
    return source.span_of(unit, simple)
