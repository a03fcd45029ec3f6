"""What is known to be true inside a branch: its test, taken apart into words that events can keep."""

from __future__ import annotations

import ast


def conditions_of(test: ast.expr, holds: bool = True) -> tuple[str, ...]:
    """What is true where a test holds, or does not: each as what is tested, the constant that it is compared
    with ("?" where more is asked of it), and whether it holds, in one word for a fact."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return conditions_of(test.operand, not holds)
    if isinstance(test, ast.BoolOp):
        if isinstance(test.op, ast.And) is not holds:
            return (f"{ast.unparse(test)}\t?\t",)
        return tuple(one for part in test.values for one in conditions_of(part, holds))
    constant = ""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.comparators[0], ast.Constant):
        if isinstance(test.ops[0], (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)):
            holds = holds is isinstance(test.ops[0], (ast.Eq, ast.Is))
            constant = repr(test.comparators[0].value)
            test = test.left
    if not isinstance(test, (ast.Name, ast.Attribute)):
        return (f"{ast.unparse(test)}\t?\t",)
    return (f"{ast.unparse(test)}\t{constant}\t{'yes' if holds else ''}",)
