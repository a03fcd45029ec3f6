"""What is known to be true inside a branch: its test, taken apart into words that events can keep."""

from __future__ import annotations

import ast

from gradsight.outline import Block
from gradsight.syntax import written_as


def conditions_of(test: ast.expr, holds: bool = True) -> tuple[str, ...]:
    """What is true where a test holds, or does not: each as what is tested, the constants that it is
    one of ("?" where more is asked of it), and whether it holds, in one word for a fact."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return conditions_of(test.operand, not holds)
    if isinstance(test, ast.BoolOp):
        if isinstance(test.op, ast.And) is not holds:
            return (f"{written_as(test)}\t?\t",)
        return tuple(one for part in test.values for one in conditions_of(part, holds))
    constants = ""
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        among = constants_of(test.comparators[0], isinstance(test.ops[0], (ast.In, ast.NotIn)))
        if among and isinstance(test.ops[0], (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)):
            holds = holds is isinstance(test.ops[0], (ast.Eq, ast.Is, ast.In))
            constants = "|".join(among)
            test = test.left
    if not isinstance(test, (ast.Name, ast.Attribute)):
        return (f"{written_as(test)}\t?\t",)
    return (f"{written_as(test)}\t{constants}\t{'yes' if holds else ''}",)


def constants_of(written: ast.expr, several: bool) -> list[str]:
    """The constants that a test compares with; none where it compares with anything else."""
    parts = [written]
    if several:
        parts = written.elts if isinstance(written, (ast.Tuple, ast.List, ast.Set)) else []
    constants = [repr(part.value) for part in parts if isinstance(part, ast.Constant)]
    return constants if len(constants) == len(parts) else []


def is_emptiness(test: ast.expr) -> bool:
    """Whether a test asks for a tensor that holds nothing: `x.numel() == 0`, `x.size(0) == 0`."""
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Eq):
        return False
    asked, number = test.left, test.comparators[0]
    if not isinstance(number, ast.Constant) or number.value != 0:
        return False
    if isinstance(asked, ast.Subscript):
        return isinstance(asked.value, ast.Attribute) and asked.value.attr == "shape"
    return (
        isinstance(asked, ast.Call)
        and isinstance(asked.func, ast.Attribute)
        and asked.func.attr in ("numel", "nelement", "size")
    )


def leaves(block: Block | None, nodes: list[ast.stmt]) -> bool:
    """Whether a block ends by leaving the function or the turn of a loop."""
    last = block[-1][-1].line.nodes[-1:] if block and block[-1] else nodes[-1:]
    return bool(last) and isinstance(last[0], (ast.Return, ast.Raise, ast.Continue))
