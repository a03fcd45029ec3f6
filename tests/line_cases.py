"""What tests of lines compare: the expressions of a file and their places."""

from __future__ import annotations

import ast

from gradsight.text import Source

Expression = tuple[str, int, int, int, int]


def expressions(*trees: ast.AST, by: int = 0) -> list[Expression]:
    return sorted(
        (type(node).__name__, node.lineno + by, node.col_offset, node.end_lineno + by, node.end_col_offset)
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.expr) and node.end_lineno is not None and node.end_col_offset is not None
    )


def expressions_of(source: Source) -> list[Expression]:
    """Every expression of the units that stands in the text, with the rows of the file."""
    return sorted(
        each
        for start, unit in zip(source.starts, source.units, strict=True)
        for each in expressions(*unit.nodes, by=start - unit.shift)
        if start < each[1] <= start + unit.count
    )
