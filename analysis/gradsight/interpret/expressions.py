"""Expressions -> values. Every node kind of an expression is either here or gives Unknown with its reason."""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable
from typing import Any

from gradsight.domain import Edge
from gradsight.interpret.attributes import Attributes
from gradsight.interpret.conditions import conditions_of
from gradsight.interpret.dtypes import exact_of, kind_of, promoted
from gradsight.interpret.shapes import blown_up, broadcast, matmul, written
from gradsight.syntax import walk
from gradsight.values import (
    NONE,
    NOWHERE,
    Array,
    Choice,
    Class,
    Closure,
    Const,
    Lib,
    Number,
    Obj,
    Params,
    Ref,
    Seq,
    Tensor,
    Unknown,
    Value,
    node_of,
)

OPERATORS = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder",
    ast.Pow: "pow",
    ast.MatMult: "matmul",
    ast.BitAnd: "bitwise_and",
    ast.BitOr: "bitwise_or",
    ast.BitXor: "bitwise_xor",
    ast.LShift: "bitwise_left_shift",
    ast.RShift: "bitwise_right_shift",
}

# Without the name: while one is typed, nothing else changes.
UNBOUND = Unknown("a name that is not bound in this file")

# The operators whose special methods are not called as the model calls the operation.
SPECIAL = {
    "div": "truediv", "floor_divide": "floordiv", "remainder": "mod", "bitwise_and": "and",
    "bitwise_or": "or", "bitwise_xor": "xor", "bitwise_left_shift": "lshift",
    "bitwise_right_shift": "rshift",
}  # fmt: skip

NUMERIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floor_divide": lambda a, b: a // b,
    "div": lambda a, b: a / b,
}


_ORDER: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class Expressions(Attributes):
    """Evaluation of expressions; calls are in the subclasses."""

    def parameter_groups(self, given: Value, depth: int = 0) -> Params:
        raise NotImplementedError

    # -- entry

    def evaluate(self, node: ast.expr | None) -> Value:
        if node is None:
            return NONE
        self.spend()
        before = self.expression
        self.expression = node
        method = EVALUATE.get(type(node))
        value = (
            method(self, node) if method is not None else Unknown(f"{type(node).__name__} is not followed")
        )
        self.expression = before
        if node is self.watched:
            self.seen(node, value)
        return value

    # -- names and constants

    def name_(self, node: ast.Name) -> Value:
        return self.look_up(node.id)

    def look_up(self, name: str) -> Value:
        value = self.state.env.get(name)
        if value is not None:
            return value
        for names in reversed(self.state.outer):
            value = names.get(name)
            if value is not None:
                return value
        value = self.state.module.get(name)
        if value is not None:
            return value
        value = self.world.static(name)
        if value is not None:
            return value
        return Lib(f"builtins.{name}") if hasattr(builtins, name) else UNBOUND

    def constant(self, node: ast.Constant) -> Value:
        return Const(node.value)

    def joined_string(self, node: ast.JoinedStr) -> Value:
        text: str | None = ""
        for part in node.values:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            value = self.evaluate(inner)
            plain = inner is part or (part.conversion < 0 and part.format_spec is None)  # type: ignore[attr-defined]
            known = plain and isinstance(value, Const) and isinstance(value.value, (str, int))
            text = f"{text}{value.value}" if known and text is not None else None  # type: ignore[union-attr]
        return Const(text) if text is not None else Unknown("a string")

    # -- operators

    def binary(self, node: ast.BinOp) -> Value:
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        return self.operate(OPERATORS[type(node.op)], left, right, node)

    def operate(self, op: str, left: Value, right: Value, at: ast.AST) -> Value:
        if isinstance(left, Choice):
            left = self.widen(left)
        if isinstance(right, Choice):
            right = self.widen(right)
        if isinstance(left, Const) and isinstance(left.value, (str, bytes)):
            return Unknown("a string")  # `"loss %.3f" % loss`
        if isinstance(left, Const) and isinstance(right, Const):
            return self.fold(op, left, right)
        if isinstance(left, Params) or isinstance(right, Params):
            first, second = self.parameter_groups(left), self.parameter_groups(right)
            merged = tuple(dict.fromkeys((*first.nodes, *second.nodes)))
            return Params(merged, first.blanket and second.blanket, first.unknown or second.unknown)
        if isinstance(left, Ref) or isinstance(right, Ref):
            own = self.own_operator(op, left, right, at)
            if own is not None:
                return own
        if isinstance(left, (Seq, Ref)) or isinstance(right, (Seq, Ref)):
            sequence = self.sequences(op, left, right)
            if sequence is not None:
                return sequence
        pair = (left, right)
        if any(isinstance(value, Tensor) for value in pair):
            return self.tensor_operator(op, left, right, at)
        if any(isinstance(value, Unknown) for value in pair):
            nodes = [(n, Edge.LIVE) for value in pair for n in self.nodes_in(value)]
            return Unknown("computed from something unknown", self.combine(f"operator.{op}", nodes, at))
        if any(isinstance(value, Array) for value in pair):
            nodes = [(n, Edge.LIVE) for value in pair for n in self.nodes_in(value)]
            exact = promoted(left, right, op)
            shape = (
                broadcast(self.shape_of(left), self.shape_of(right))
                if op != "matmul"
                else matmul(self.shape_of(left), self.shape_of(right))
            )
            number = self.combine(f"numpy.{op}", nodes, at, keep_off=True)
            return Array(number, kind_of(exact), "", shape, exact)
        nodes = [(n, Edge.LIVE) for value in pair for n in self.nodes_in(value)]
        return Number(self.combine(f"operator.{op}", nodes, at, keep_off=True))

    def own_operator(self, op: str, left: Value, right: Value, at: ast.AST) -> Value | None:
        """An operator that a class of the program defines, and `|` of two dictionaries."""
        short = SPECIAL.get(op, op)
        value = self.special(left, f"__{short}__", [right], at)
        if value is None:
            value = self.special(right, f"__r{short}__", [left], at)
        first, second = self.obj(left), self.obj(right)
        if value is None and op == "bitwise_or" and first is not None and second is not None:
            if first.kind == second.kind == "dict":
                for key, item in second.fields:
                    first = first.with_field(key, item)
                many = first.many or second.many
                return self.allocate(Obj("dict", None, first.fields, (*first.items, *second.items), many))
        return value

    def fold(self, op: str, left: Const, right: Const) -> Value:
        if isinstance(left.value, (int, float)) and isinstance(right.value, (int, float)) and op in NUMERIC:
            try:
                return Const(NUMERIC[op](left.value, right.value))
            except (ArithmeticError, ValueError):
                return Number()
        if isinstance(left.value, (int, float)) and isinstance(right.value, (int, float)):
            return Number()
        return Unknown("a string")

    def tensor_operator(self, op: str, left: Value, right: Value, at: ast.AST) -> Value:
        edge, saves, role, dtype = Edge.LIVE, False, "", "float"
        kinds = [value.dtype for value in (left, right) if isinstance(value, Tensor)]
        if kinds and all(kind in ("int", "bool") for kind in kinds) and op != "div":
            dtype = "int" if not any(isinstance(v, (Number, Unknown)) for v in (left, right)) else ""
        elif "float" not in kinds:
            dtype = ""
        cause = ""
        if op.startswith("bitwise"):
            edge, cause = Edge.CUT, "comparison"
            # Of integers they are integers; with something unknown beside a mask it is taken for another.
            dtype = "bool" if all(kind == "bool" for kind in kinds) else dtype or "bool"
        elif op == "floor_divide":
            edge, cause = Edge.ZERO, "round"
        saves = op in ("mul", "div", "pow", "matmul", "remainder")
        if op == "matmul":
            role = "logit"
        elif op in ("add", "sub"):
            # Adding a bias keeps raw scores raw; anything else makes a value of its own.
            roles = (
                [
                    value.role
                    for value in (left, right)
                    if isinstance(value, (Tensor, Unknown))
                    and getattr(value, "origin", "") not in ("parameter", "leaf", "buffer")
                ]
                if not isinstance(left, Unknown) and not isinstance(right, Unknown)
                else []
            )
            role = "logit" if roles in (["logit"], ["logit", "logit"]) else ""
        elif op in ("mul", "div") and (
            isinstance(right, (Const, Number)) or isinstance(left, (Const, Number))
        ):
            roles = [value.role for value in (left, right) if isinstance(value, Tensor)]
            role = "logit" if roles == ["logit"] else ""
        if op != "matmul" and "unreduced" in (getattr(left, "role", ""), getattr(right, "role", "")):
            role = "unreduced"  # one value for each element stays one for each element
        parts = [(n, Edge.LIVE if isinstance(left, Array) else edge) for n in self.nodes_in(left)]
        ours = len(parts)
        parts += [(n, Edge.LIVE if isinstance(right, Array) else edge) for n in self.nodes_in(right)]
        note = "" if 0 < ours < len(parts) else "constant"  # scaling, not combining
        shape = (
            broadcast(self.shape_of(left), self.shape_of(right))
            if op != "matmul"
            else matmul(self.shape_of(left), self.shape_of(right))
        )
        node = self.combine(f"torch.{op}", parts, at, cause, saves, note)
        if node != NOWHERE and saves:
            self.keeps_constants(op, (left, right), node)
        if op in ("sub", "mul") and node != NOWHERE and isinstance(at, ast.BinOp):
            first, second = self.shape_of(left), self.shape_of(right)
            if blown_up(first, second):
                self.event(
                    "apart",
                    node,
                    nodes=(node_of(left), node_of(right)),
                    facts={"shape": written(first), "target_shape": written(second), "op": op},
                    call=self.here(at),
                    left=self.here(at.left),
                    right=self.here(at.right),
                )
        origin = ""
        if node == NOWHERE:
            fresh = [
                v.origin for v in (left, right) if isinstance(v, Tensor) and v.origin.startswith("torch.")
            ]
            origin = next(
                (one for one in fresh if "rand" in one or "normal" in one), fresh[0] if fresh else ""
            )
            if any(v.origin == "" for v in (left, right) if isinstance(v, Tensor)):
                origin = ""
        exact = promoted(left, right, op) if op != "matmul" or exact_of(left) == exact_of(right) else ""
        if op.startswith("bitwise") and exact_of(left) == exact_of(right):
            exact = exact_of(left)
        elif op.startswith("bitwise") or op == "floor_divide":
            exact = ""
        if exact:
            dtype = kind_of(exact)
        return Tensor(node, dtype, shape, role, origin, exact)

    def sequences(self, op: str, left: Value, right: Value) -> Value | None:
        """`[a] + [b]`, `(1,) * 3`, list concatenation; None where it is no sequence arithmetic."""
        first, second = self.items(left), self.items(right)
        if op == "add" and first is not None and second is not None:
            if isinstance(left, Seq) and isinstance(right, Seq):
                return Seq((*first, *second))
            many = any(obj is not None and obj.many for obj in (self.obj(left), self.obj(right)))
            return self.allocate(Obj("list", None, items=(*first, *second), many=many))
        if op == "mul" and first is not None:
            if (
                isinstance(right, Const)
                and isinstance(right.value, int)
                and 0 < right.value * len(first) <= 64
            ):
                return self.allocate(Obj("list", None, items=first * right.value))
            return self.allocate(Obj("list", None, items=first, many=True))
        return None

    def widen(self, value: Value) -> Value:
        """A Choice as one piece of data."""
        if isinstance(value, Choice):
            nodes = [n for option in value.options for n in self.nodes_in(option)]
            return Unknown(
                "one of several things", self.combine("choice", [(n, Edge.LIVE) for n in nodes], None)
            )
        return value

    def unary(self, node: ast.UnaryOp) -> Value:
        value = self.evaluate(node.operand)
        if isinstance(node.op, ast.Not):
            return Const(not value.value) if isinstance(value, Const) else Number()
        if (
            isinstance(value, Const)
            and isinstance(value.value, (int, float))
            and isinstance(node.op, ast.USub)
        ):
            return Const(-value.value)
        if isinstance(value, Tensor):
            if isinstance(node.op, ast.Invert):
                cut = self.combine("torch.bitwise_not", [(value.node, Edge.CUT)], node, "comparison")
                return Tensor(cut, value.dtype, value.shape, exact=value.exact)
            role = "logit" if value.role == "logit" else ""
            number = self.combine("torch.neg", [(value.node, Edge.LIVE)], node)
            return Tensor(number, value.dtype, value.shape, role, exact=value.exact)
        parts = [(n, Edge.LIVE) for n in self.nodes_in(value)]
        if isinstance(value, Array):
            number = self.combine("numpy.negative", parts, node, keep_off=True)
            return Array(number, value.dtype, "", value.shape, value.exact)
        if isinstance(value, (Number, Const)):
            return Number(self.combine("operator.neg", parts, node, keep_off=True))
        return Unknown("computed from something unknown", self.combine("operator.neg", parts, node))

    def boolean(self, node: ast.BoolOp) -> Value:
        first, *rest = node.values
        values = [self.evaluate(first)]
        outer = self.context
        if any(isinstance(part, ast.Call) for value in rest for part in walk(value)):
            # `x.requires_grad and x.register_hook(f)`: what is called behind the first may not be.
            self.context = (*outer, ("b", self.number(), 0))
        values += [self.evaluate(value) for value in rest]
        self.context = outer
        return self.joiner.values(values)

    def compare(self, node: ast.Compare) -> Value:
        values = [self.evaluate(node.left), *(self.evaluate(other) for other in node.comparators)]
        if any(isinstance(op, (ast.Is, ast.IsNot, ast.In, ast.NotIn)) for op in node.ops):
            if len(values) == 2 and values[1] == NONE and not isinstance(values[0], (Unknown, Choice)):
                return Const((values[0] == NONE) is isinstance(node.ops[0], ast.Is))
            left, right = values[:2]
            known = self.obj(right)
            listed = self.items(right)
            if len(values) == 2 and isinstance(left, Const) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
                exact = known is None or (known.kind == "list" and not known.many)
                if listed and exact and all(isinstance(each, Const) for each in listed):
                    return Const((left in listed) is isinstance(node.ops[0], ast.In))
            if len(values) == 2 and isinstance(left, Const) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
                if (
                    known is not None
                    and known.kind == "dict"
                    and known.fields
                    and not (known.items or known.many)
                ):
                    has = known.get(repr(left.value)) is not None
                    return Const(has is isinstance(node.ops[0], ast.In))
            if len(values) == 2 and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
                if isinstance(left, Const) and isinstance(right, Const) and isinstance(right.value, bool):
                    return Const((left.value is right.value) is isinstance(node.ops[0], ast.Is))
            return Number()
        if (
            len(values) == 2
            and all(isinstance(value, Const) for value in values)
            and isinstance(node.ops[0], (ast.Eq, ast.NotEq))
        ):
            return Const((values[0] == values[1]) is isinstance(node.ops[0], ast.Eq))
        if len(values) == 2 and type(node.ops[0]) in _ORDER:
            first, second = (
                self.fixed(*each) for each in zip((node.left, *node.comparators), values, strict=True)
            )
            if first is not None and second is not None:
                return Const(_ORDER[type(node.ops[0])](first, second))
        if any(isinstance(value, Tensor) for value in values):
            parts = [(n, Edge.CUT) for value in values for n in self.nodes_in(value)]
            shape = broadcast(self.shape_of(values[0]), self.shape_of(values[1]))
            role = ""
            if isinstance(node.ops[0], ast.Eq) and "arange" in ast.dump(node):
                role = "one-hot"  # `labels[:, None] == torch.arange(classes)`
            number = self.combine("torch.compare", parts, node, "comparison")
            return Tensor(number, "bool", shape, role, exact="bool")
        parts = [(n, Edge.LIVE) for value in values for n in self.nodes_in(value)]
        if any(isinstance(value, Array) for value in values):
            shape = broadcast(self.shape_of(values[0]), self.shape_of(values[1]))
            number = self.combine("numpy.compare", parts, node, keep_off=True)
            return Array(number, "bool", "", shape, "bool")
        if any(isinstance(value, Unknown) for value in values):
            parts = [(n, Edge.CUT) for value in values for n in self.nodes_in(value)]
            return Unknown("a comparison", self.combine("torch.compare", parts, node, "comparison"))
        return Number()

    def fixed(self, node: ast.expr, value: Value) -> int | float | None:
        """The number that an expression is in every turn: a literal, an argument, or an attribute that only
        a constructor stores. What counts steps is none."""
        if not isinstance(value, Const) or type(value.value) not in (int, float):
            return None
        if isinstance(node, ast.Name):
            bound = self.nonlocals | self.globals_
            if self.at_module_level or self.closures or node.id in bound or node.id not in self.state.env:
                return None
        elif isinstance(node, ast.Attribute):
            obj = self.obj(self.look_up(node.value.id)) if isinstance(node.value, ast.Name) else None
            if obj is None or not isinstance(obj.cls, Class):
                return None
            if self.world.stores(obj.cls.cid, node.attr, anew=False):
                return None
        elif not isinstance(node, ast.Constant):
            return None
        return value.value  # type: ignore[return-value]

    def conditional(self, node: ast.IfExp) -> Value:
        test = self.evaluate(node.test)
        if isinstance(test, Const):
            return self.evaluate(node.body if test.value else node.orelse)
        tests = self.tests
        self.tests = (*tests, *conditions_of(node.test))
        body = self.evaluate(node.body)
        self.tests = (*tests, *conditions_of(node.test, False))
        other = self.evaluate(node.orelse)
        self.tests = tests
        return self.joiner.values([body, other])

    # -- the rest

    def named(self, node: ast.NamedExpr) -> Value:
        value = self.evaluate(node.value)
        self.assign(node.target, value, node.value)
        return value

    def starred(self, node: ast.Starred) -> Value:
        return self.evaluate(node.value)

    def awaited(self, node: ast.Await) -> Value:
        return self.evaluate(node.value)

    def lambda_(self, node: ast.Lambda) -> Value:
        self.closures = True
        return Closure("<lambda>", node, owner=self.owner or self.function_name, at=self.at)

    def yielded(self, node: ast.Yield | ast.YieldFrom) -> Value:
        value = self.evaluate(node.value)
        self.yields.append(value)
        self.mode_at_yield = self.state.grad
        return Unknown("what is sent to a generator")

    def callee(self, node: ast.expr) -> Value:
        """What is called: an attribute that is called is a method, one that is only read is a value."""
        if not isinstance(node, ast.Attribute):
            return self.evaluate(node)
        receiver = self.evaluate(node.value)
        before, self.expression = self.expression, node
        function = self.get_attribute(receiver, node.attr, node)
        self.expression = before
        return function

    def called(self, node: ast.Call) -> Value:
        function = self.callee(node.func)
        args: list[Value] = []
        kwargs: dict[str, Value] = {}
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                value = self.evaluate(argument.value)
                known = self.items(value)
                obj = self.obj(value)
                if known is not None and obj is not None and obj.many and self.all_modules(known):
                    args += known
                    self.starred_many = True
                elif known is not None and not (obj is not None and obj.many):
                    args += known
                else:
                    learning = [n for item in known or () for n in self.parameters_of(item)[0]]
                    args.append(
                        Unknown(
                            "starred arguments",
                            self.combine(
                                "starred",
                                [(n, Edge.LIVE) for n in (*self.nodes_in(value), *learning)],
                                argument,
                                keep_off=True,
                            ),
                        )
                    )
            else:
                args.append(self.evaluate(argument))
        for keyword in node.keywords:
            value = self.evaluate(keyword.value)
            if keyword.arg is not None:
                kwargs[keyword.arg] = value
            else:
                obj = self.obj(value)
                if obj is not None and obj.kind == "dict":
                    kwargs.update({key.strip("'\""): item for key, item in obj.fields})
                else:
                    kwargs["**"] = value
        return self.call(function, args, kwargs, node)


EVALUATE: dict[type[ast.expr], Callable[[Any, Any], Value]] = {
    ast.Name: Expressions.name_,
    ast.Constant: Expressions.constant,
    ast.JoinedStr: Expressions.joined_string,
    ast.BinOp: Expressions.binary,
    ast.UnaryOp: Expressions.unary,
    ast.BoolOp: Expressions.boolean,
    ast.Compare: Expressions.compare,
    ast.IfExp: Expressions.conditional,
    ast.Tuple: Expressions.tuple_,
    ast.List: Expressions.list_,
    ast.Set: Expressions.set_,
    ast.Dict: Expressions.dictionary,
    ast.ListComp: Expressions.comprehension,
    ast.SetComp: Expressions.comprehension,
    ast.GeneratorExp: Expressions.comprehension,
    ast.DictComp: Expressions.dictionary_comprehension,
    ast.Attribute: Expressions.attribute_,
    ast.Subscript: Expressions.subscript,
    ast.Slice: Expressions.slice_,
    ast.NamedExpr: Expressions.named,
    ast.Starred: Expressions.starred,
    ast.Await: Expressions.awaited,
    ast.Lambda: Expressions.lambda_,
    ast.Yield: Expressions.yielded,
    ast.YieldFrom: Expressions.yielded,
    ast.Call: Expressions.called,
}
