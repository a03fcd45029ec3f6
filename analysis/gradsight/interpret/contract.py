"""What the text of an autograd.Function says of its contract: how many gradients its backward gives, how many
values its forward returns and saves, and where the two do not fit.

Nothing is evaluated here: a number that the text alone does not say for sure is None.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from gradsight import model
from gradsight.lines import Line
from gradsight.outline import Block, nest

Found: TypeAlias = "tuple[int, ast.AST]"  # the line of the region, and the node

NOT_ONE = frozenset({  # methods of a tensor that give no tensor
    "unbind", "split", "chunk", "tensor_split", "tolist", "size", "item", "numpy", "dim", "numel", "stride",
    "nonzero", "topk", "sort", "max", "min", "median", "mode", "kthvalue", "unique", "backward", "aminmax",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Returned:
    """One `return` of a backward or forward: how many values, which are surely None, which surely tensors."""

    where: Found
    count: int | None
    nones: tuple[bool, ...] = ()
    tensors: tuple[bool, ...] = ()
    parts: tuple[ast.AST, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """One method of an autograd.Function, as its text says.

    Attributes:
        names: its positional parameters; `defaults`: how many of them have one; `star`: `*args`.
        returned: each `return` with a value. `ends`: it has none, and does not raise either.
        computed: where `ends`, the last tensor that it computes, which was meant to be returned;
            `last`: by its last statement.
        saved: each call of `save_for_backward`, with how many values; None: not known.
        unpacked: each `a, b = ctx.saved_tensors`, with how many names.
        whole: each use as a tensor of what is all of `ctx.saved_tensors`.
        asked: each `ctx.needs_input_grad[i]`, with `i`.
        hidden: its context goes where it is not seen.
    """

    names: tuple[str, ...]
    defaults: int
    star: bool
    returned: tuple[Returned, ...]
    ends: bool
    computed: Found | None
    last: bool
    saved: tuple[tuple[Found, int | None, tuple[str, ...]], ...]
    unpacked: tuple[tuple[Found, int], ...]
    whole: tuple[tuple[Found, Found], ...]
    asked: tuple[tuple[Found, int], ...]
    hidden: bool


@functools.lru_cache(1024)
def method(lines: tuple[Line, ...]) -> Method | None:
    """A method by the lines of its region; None where they are no function that can be read."""
    statements = nest(lines)
    clause = next((one for each in statements for one in each if one.line.role == "def"), None)
    if clause is None or not clause.line.nodes or not isinstance(clause.line.nodes[0], ast.FunctionDef):
        return None
    header = clause.line.nodes[0]
    body: list[tuple[int, ast.stmt]] = list(own_statements(clause.block))
    if not clause.line.header:
        body += [(clause.at, node) for node in header.body]
    return Reader(header, body).read()


def own_statements(block: Block) -> Iterator[tuple[int, ast.stmt]]:
    """The statements of a function, those of functions nested in it left out."""
    for statement in block:
        for clause in statement:
            if clause.line.role in ("def", "class", "@"):
                continue
            for node in clause.line.nodes:
                yield clause.at, node  # type: ignore[misc]
            yield from own_statements(clause.block)


class Reader:
    """A function's own statements, and which of its expressions are surely one tensor.

    `skip`: how many of its parameters come before those that are tensors.
    """

    def __init__(
        self, header: ast.FunctionDef | ast.AsyncFunctionDef, body: list[tuple[int, ast.stmt]], skip: int = 1
    ) -> None:
        self.header, self.body = header, body
        positional = [*header.args.posonlyargs, *header.args.args]
        self.names = tuple(one.arg for one in positional)
        self.tensors = self.names[skip:]
        self.nodes = [(at, node) for at, top in body for node in ast.walk(top)]
        self.bound: dict[str, list[ast.expr | None]] = {}  # None: by something else than `name = value`
        for _, node in self.nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._bind(target, node.value)
            elif isinstance(node, ast.AnnAssign):
                self._bind(node.target, node.value)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.bound.setdefault(node.id, [])
        stored = [
            node.id
            for _, node in self.nodes
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ]
        for name, values in self.bound.items():
            in_place = sum(
                isinstance(node, ast.AugAssign)
                and isinstance(node.target, ast.Name)
                and node.target.id == name
                for _, node in self.nodes
            )
            if len(values) + in_place != stored.count(name):
                values.append(None)
        self._asking: set[str] = set()

    def _bind(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            self.bound.setdefault(target.id, []).append(value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            elements = (
                value.elts
                if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts)
                else [None] * len(target.elts)
            )
            saved = self._is_saved(value)
            for one, element in zip(target.elts, elements, strict=True):
                # What was saved are tensors, whichever.
                self._bind(one, value if saved else element)

    # -- what an expression is

    def _is_saved(self, node: ast.AST | None) -> bool:
        return (
            isinstance(node, ast.Attribute)
            and node.attr in ("saved_tensors", "saved_variables")
            and isinstance(node.value, ast.Name)
            and self.names[:1] == (node.value.id,)
        )

    def _tuple_of_saved(self, name: str) -> bool:
        """Whether a name is all of `ctx.saved_tensors`, and nothing else."""
        stores = [node for _, node in self.nodes if isinstance(node, ast.Assign) and len(node.targets) == 1]
        own = [one for one in stores if isinstance(one.targets[0], ast.Name) and one.targets[0].id == name]
        return len(own) == 1 and self._is_saved(own[0].value) and len(self.bound.get(name, ())) == 1

    def tensor(self, node: ast.AST) -> bool:
        """Whether an expression is surely one tensor."""
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.BinOp):
            return self.tensor(node.left) or self.tensor(node.right)
        if isinstance(node, ast.UnaryOp):
            return self.tensor(node.operand)
        if isinstance(node, ast.IfExp):
            return self.tensor(node.body) and self.tensor(node.orelse)
        if isinstance(node, ast.Subscript):
            return self.tensor(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            if owner in ("torch", "F", "torch.nn.functional"):
                path = "torch" if owner == "torch" else "torch.nn.functional"
                operation = model.operation(f"{path}.{node.func.attr}")
                return operation is not None and operation.kind in ("tensor", "same")
            return node.func.attr not in NOT_ONE and self.tensor(node.func.value)
        return False

    def _name(self, name: str) -> bool:
        values = self.bound.get(name)
        if values is None:
            return name in self.tensors
        if name in self._asking or self._tuple_of_saved(name):
            return False
        self._asking.add(name)
        known = bool(values) and all(
            value is not None and (self._is_saved(value) or self.tensor(value)) for value in values
        )
        known = known or (
            name in self.tensors
            and bool(values)
            and all(value is not None and self._of_itself(name, value) for value in values)
        )
        self._asking.discard(name)
        return known

    def _of_itself(self, name: str, value: ast.expr) -> bool:
        """`g = g.clone()`, where `g` is a gradient that came in."""
        first = value
        while isinstance(first, (ast.Call, ast.Attribute, ast.Subscript, ast.BinOp)):
            if isinstance(first, ast.Attribute) and first.attr in NOT_ONE:
                return False
            first = (
                first.func
                if isinstance(first, ast.Call)
                else first.left
                if isinstance(first, ast.BinOp)
                else first.value
            )
        return isinstance(first, ast.Name) and first.id == name

    def returns(self, at: int, node: ast.Return) -> Returned:
        value = node.value
        where = (at, value if value is not None else node)
        if isinstance(value, ast.Name) and len(values := self.bound.get(value.id, [])) == 1:
            value = values[0] if isinstance(values[0], ast.Tuple) else value
        if isinstance(value, ast.Tuple):
            if any(isinstance(one, ast.Starred) for one in value.elts):
                return Returned(where, None)
            nones = tuple(isinstance(one, ast.Constant) and one.value is None for one in value.elts)
            written = isinstance(node.value, ast.Tuple)
            return Returned(
                where,
                len(value.elts),
                nones,
                tuple(self.tensor(one) for one in value.elts),
                tuple(value.elts) if written else (),
            )
        if isinstance(value, ast.Constant) and value.value is None:
            return Returned(where, 1, (True,), (False,), (value,))
        if value is not None and self.tensor(value):
            return Returned(where, 1, (False,), (True,), (value,))
        return Returned(where, None)

    # -- the whole

    def read(self) -> Method:
        arguments = self.header.args
        returned = [(at, node) for at, node in self.nodes if isinstance(node, ast.Return)]
        valued = [(at, node) for at, node in returned if node.value is not None]
        raises = any(isinstance(node, (ast.Raise, ast.Yield, ast.YieldFrom)) for _, node in self.nodes)
        context = self.names[0] if self.names else ""
        attributes = {
            id(node.value)
            for _, node in self.nodes
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        hidden = any(
            isinstance(node, ast.Name) and node.id == context and id(node) not in attributes
            for _, node in self.nodes
        ) or any(isinstance(node, (ast.Lambda,)) for _, node in self.nodes)
        ends = not valued and not raises
        computed = self._computed() if ends and not returned else None
        return Method(
            self.names,
            len(arguments.defaults),
            arguments.vararg is not None,
            tuple(self.returns(at, node) for at, node in valued),
            ends,
            computed,
            computed is not None and self._result(self.body[-1][1]) is computed[1],
            tuple(self._saved(context)),
            tuple(self._unpacked()),
            tuple(self._whole()),
            tuple(self._asked(context)),
            hidden,
        )

    def _computed(self) -> Found | None:
        """The last statement that computes a tensor."""
        for at, statement in reversed(self.body):
            found = self._result(statement)
            if found is not None:
                return at, found
        return None

    def _result(self, statement: ast.stmt) -> ast.expr | None:
        """What a statement computes, where that is a tensor: itself, or the name that it binds or changes."""
        if isinstance(statement, ast.Expr):
            value = statement.value
            in_place = isinstance(value, ast.Call) and (
                isinstance(value.func, ast.Attribute) and value.func.attr.endswith("_")
            )
            return value if self.tensor(value) and not in_place and not isinstance(value, ast.Name) else None
        target: ast.expr | None = None
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        elif isinstance(statement, ast.AugAssign):
            target = statement.target
        base = target.value if isinstance(target, ast.Subscript) else target
        return base if isinstance(base, ast.Name) and self.tensor(base) else None

    def read_behind(self, number: int, name: str) -> bool:
        """Whether a name is read behind a statement of the body."""
        return any(
            isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Store)
            for _, later in self.body[number + 1 :]
            for node in ast.walk(later)
        )

    def _saved(self, context: str) -> Iterator[tuple[Found, int | None, tuple[str, ...]]]:
        for at, node in self.nodes:
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "save_for_backward"
                and isinstance(node.func.value, ast.Name)
            ):
                starred = any(isinstance(one, ast.Starred) for one in node.args)
                names = tuple(
                    one.id if isinstance(one, ast.Name) and one.id not in self.bound else ""
                    for one in node.args
                )
                yield (at, node), None if starred else len(node.args), names

    def _unpacked(self) -> Iterator[tuple[Found, int]]:
        for at, node in self.nodes:
            if isinstance(node, ast.Assign) and self._is_saved(node.value):
                for target in node.targets:
                    if isinstance(target, (ast.Tuple, ast.List)) and not any(
                        isinstance(one, ast.Starred) for one in target.elts
                    ):
                        yield (at, node.targets[0]), len(target.elts)

    def _whole(self) -> Iterator[tuple[Found, Found]]:
        """`x = ctx.saved_tensors`, and then `grad * x`."""
        for at, node in self.nodes:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                continue
            name = node.targets[0].id
            if not self._tuple_of_saved(name):
                continue
            for there, other in self.nodes:
                operands = [other.left, other.right] if isinstance(other, ast.BinOp) else []
                tensors = [one for one in operands if self.tensor(one)]
                used = [one for one in operands if isinstance(one, ast.Name) and one.id == name]
                if tensors and used:
                    yield (at, node.targets[0]), (there, other)
                    break

    def _asked(self, context: str) -> Iterator[tuple[Found, int]]:
        for at, node in self.nodes:
            if (
                isinstance(node, ast.Subscript)
                and isinstance(node.value, ast.Attribute)
                and node.value.attr == "needs_input_grad"
                and isinstance(node.value.value, ast.Name)
                and node.value.value.id == context
                and isinstance(node.slice, ast.Constant)
                and isinstance(node.slice.value, int)
            ):
                yield (at, node), node.slice.value


# -- where two methods do not fit


@dataclass(frozen=True, slots=True)
class Breach:
    """What breaks the contract: in which method, where, and what happens."""

    kind: str  # "gradients" | "outputs" | "nothing" | "saved" | "tuple" | "needs" | "number" | "missing"
    method: str
    where: Found
    facts: tuple[tuple[str, str], ...] = ()


def breaches(
    forward: Method | None,
    backward: Method,
    setup: Method | None,
    given: int | None,
    decorated: bool,
) -> Iterator[Breach]:
    """Where backward does not do what its forward, or a call with `given` arguments, makes of it.

    `decorated`: some decorator that is not seen may change what the methods take and return.
    """
    least, most = given, given
    own = None if forward is None or forward.star else len(forward.names) - (0 if setup is not None else 1)
    if given is None and forward is not None:
        least, most = len(forward.names) - (setup is None) - forward.defaults, own
    if not decorated:
        yield from _gradients(backward, least, most)
        if forward is not None:
            yield from _outputs(forward, backward)
    if backward.computed is not None:
        yield Breach("nothing", "backward", backward.computed, (("last", "yes" if backward.last else ""),))
    saving = setup if setup is not None else forward
    if saving is not None and not decorated:
        yield from _saved(saving, backward)
    for saved, used in backward.whole:
        yield Breach("tuple", "backward", saved, (("use", ast.unparse(used[1])),))
    if own is not None and not decorated:
        for where, index in backward.asked:
            if index >= own:
                yield Breach("needs", "backward", where, (("expected", str(own)),))


def _gradients(backward: Method, least: int | None, most: int | None) -> Iterator[Breach]:
    for one in backward.returned:
        if one.count is None:
            continue
        few = least is not None and one.count < least
        extra = one.tensors[most:] if most is not None else ()
        if few or any(extra):
            expected = least if few else most
            yield Breach(
                "gradients", "backward", one.where, (("expected", str(expected)), ("got", str(one.count)))
            )


def _outputs(forward: Method, backward: Method) -> Iterator[Breach]:
    if backward.star or not forward.returned or not backward.names:
        return
    counts = {one.count for one in forward.returned}
    count = counts.pop() if len(counts) == 1 else None
    takes = len(backward.names) - 1
    alone = count == 1 and any(isinstance(part, ast.Name) for one in forward.returned for part in one.parts)
    if count is None or alone or takes - backward.defaults <= count <= takes:
        return
    yield Breach(
        "outputs", "forward", forward.returned[-1].where, (("count", str(count)), ("takes", str(takes)))
    )


def _saved(forward: Method, backward: Method) -> Iterator[Breach]:
    counts = {count for _, count, _ in forward.saved}
    if None in counts or forward.hidden or backward.hidden:
        return
    for where, count in backward.unpacked:
        if count not in (counts or {0}):
            said = " or ".join(sorted(str(one) for one in counts or {0}))
            yield Breach("saved", "backward", where, (("count", str(count)), ("saved", said)))
