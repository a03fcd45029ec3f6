"""Statements of one function in numpy code on a tensor's values, interpreted in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import libcst as cst

from gradsight.surgery.array_expressions import Expressions
from gradsight.surgery.array_state import closes, single_index
from gradsight.surgery.array_value import NUMBER, OTHER, Env, Value, element_of, innermost_element, joined
from gradsight.surgery.numpy_calls import NoEqual
from gradsight.surgery.piece import dotted, is_primary


class Statements(Expressions):
    """What statements bind, and which of them change."""

    def block(self, statements: Sequence[cst.BaseStatement], env: Env) -> None:
        for statement in statements:
            self.statement(statement, env)

    def statement(self, node: cst.CSTNode, env: Env) -> None:
        if isinstance(node, cst.SimpleStatementLine | cst.SimpleStatementSuite):
            for part in node.body:
                self.small(part, env)
        elif isinstance(node, cst.IndentedBlock):
            self.block(node.body, env)
        elif isinstance(node, cst.FunctionDef):
            self.function(node, env)
        elif isinstance(node, cst.ClassDef):
            self.opaque(node, env)
        elif isinstance(node, cst.If):
            self.top(node.test, env)
            other = dict(env)
            self.statement(node.body, env)
            if node.orelse is not None:
                self.statement(node.orelse, other)
            self.join(env, other)
        elif isinstance(node, cst.Else | cst.Finally):
            self.statement(node.body, env)
        elif isinstance(node, cst.For | cst.While):
            for _ in range(2):
                inside = dict(env)
                if isinstance(node, cst.For):
                    value = self.top(node.iter, inside)
                    self.bind(node.target, element_of(value), inside)
                else:
                    self.top(node.test, inside)
                self.statement(node.body, inside)
                self.join(env, inside)
            if node.orelse is not None:
                self.statement(node.orelse, env)
        elif isinstance(node, cst.With):
            for item in node.items:
                value = self.top(item.item, env)
                if item.asname is not None:
                    self.bind(item.asname.name, value, env)
            self.statement(node.body, env)
        elif isinstance(node, cst.Try):
            self.statement(node.body, env)
            for handler in node.handlers:
                other = dict(env)
                self.statement(handler.body, other)
                self.join(env, other)
            for clause in (node.orelse, node.finalbody):
                if clause is not None:
                    self.statement(clause, env)
        else:
            self.opaque(node, env)

    def function(self, node: cst.FunctionDef, env: Env) -> None:
        """The function asked for is interpreted; one inside it must not use what is converted."""
        if env:
            self.opaque(node, env)
        else:
            inside: Env = {}
            parameters = node.params
            for parameter in (*parameters.posonly_params, *parameters.params, *parameters.kwonly_params):
                inside[parameter.name.value] = self.parameter(parameter)
            self.statement(node.body, inside)

    def parameter(self, parameter: cst.Param) -> Value:
        annotation = self.piece.text(parameter.annotation.annotation) if parameter.annotation else ""
        if annotation.rpartition(".")[2] == "Tensor":
            return Value("torch", live=True)
        if annotation in {"float", "int", "bool", "str"}:
            return NUMBER
        default = parameter.default
        if isinstance(default, cst.Integer | cst.Float | cst.UnaryOperation | cst.SimpleString):
            return NUMBER
        if isinstance(default, cst.Name) and default.value in {"True", "False"}:
            return NUMBER
        return OTHER

    def small(self, node: cst.BaseSmallStatement, env: Env) -> None:
        if isinstance(node, cst.Assign):
            self.assign(node, env)
        elif isinstance(node, cst.AnnAssign):
            if node.value is not None:
                self.bind(node.target, self.top(node.value, env), env, node.value)
        elif isinstance(node, cst.AugAssign):
            self.augmented(node, env)
        elif isinstance(node, cst.Expr):
            self.top(node.value, env)
        elif isinstance(node, cst.Return):
            if node.value is not None:
                self.returned(node.value, env)
        elif isinstance(node, cst.Assert):
            self.top(node.test, env)
        elif isinstance(node, cst.Raise):
            if node.exc is not None:
                self.top(node.exc, env)
        elif isinstance(node, cst.Del):
            for name in self.piece.nodes(cst.Name, node):
                env.pop(name.value, None)

    def assign(self, node: cst.Assign, env: Env) -> None:
        target = node.targets[0].target
        if isinstance(target, cst.Attribute) and target.attr.value == "requires_grad":
            if env.get(dotted(target.value), OTHER).reopened:
                self.removed.add(node)
                return
        value = self.top(node.value, env)
        if len(node.targets) == 1 and isinstance(target, cst.Subscript):
            if self.stored_in(node, target, value, env):
                return
        for part in node.targets:
            self.bind(part.target, value, env, node.value)
        if (
            len(node.targets) == 1
            and isinstance(target, cst.Name)
            and self.texts.get(node.value) == target.value
        ):
            self.removed.add(node)
            self.texts.pop(node.value)

    def stored_in(self, node: cst.Assign, target: cst.Subscript, value: Value, env: Env) -> bool:
        """`x[i] = value`; whether it was seen to."""
        base = self.evaluate(target.value, env)
        if base.kind == "array" and value.kind == "tensor" and base.roots:
            self.need(base.roots)
            return True
        if base.kind != "tensor":
            return False
        self.touched = True
        index = self.evaluate(target, env)
        name = dotted(target.value)
        if base.fresh:
            stored = self.tensor_of(value) if value.kind in {"array", "other"} else value.text
            self.texts[node.value] = stored
            self.texts[target] = index.text
            if name in env:
                env[name] = replace(base, live=base.live or value.live, dead_at="")
            return True
        chosen = single_index(target)
        mask = self.evaluate(chosen, env) if chosen is not None else OTHER
        if base.shared or value.kind != "number" or mask.dtype != "bool" or not name:
            raise NoEqual(f"writing into `{name or self.piece.text(target.value)}` in place")
        self.texts.pop(node.value, None)
        self.texts[node] = f"{name} = {name}.masked_fill({mask.text}, {value.text})"
        env[name] = replace(base, text="")
        return True

    def augmented(self, node: cst.AugAssign, env: Env) -> None:
        value = self.top(node.value, env)
        name = dotted(node.target)
        old = env.get(name, OTHER) if name else self.evaluate(node.target, env)
        if value.kind != "tensor" and old.kind != "tensor":
            if name:
                env[name] = joined(old, value)
            return
        if not name:
            if value.kind == "tensor":
                self.copied(node.value, value)
            return
        if old.kind == "array" and old.roots:
            self.need(old.roots)
        if old.taint or value.taint:
            raise NoEqual(f"{old.taint or value.taint}, which receives the array,")
        if isinstance(node.operator, cst.FloorDivideAssign):
            raise NoEqual("`//=`")
        if old.kind == "other" and name not in env:
            self.copied(node.value, value)  # kept outside this function: logging
            return
        adds = isinstance(node.operator, cst.AddAssign | cst.SubtractAssign)
        text = self.tensor_of(value) if value.kind in {"array", "other"} else value.text
        gained = Value(
            "tensor", live=old.live or value.live, fresh=adds and (old.kind == "number" or old.fresh)
        )
        if old.kind in {"number", "torch"} or (old.fresh and adds):
            self.texts[node.value] = text
        else:
            if old.shared:
                raise NoEqual(f"writing into `{name}` in place")
            operator = self.operator_text(node)
            sum_of_terms = operator == "+" and isinstance(node.value, cst.BinaryOperation)
            if not is_primary(node.value) and not sum_of_terms:
                text = f"({text})" if not closes(text) else text
            self.texts.pop(node.value, None)
            self.texts[node] = f"{name} = {name} {operator} {text}"
        env[name] = gained

    def operator_text(self, node: cst.AugAssign) -> str:
        start, end = self.piece.span(node.target).end, self.piece.whole(node.value).start
        return self.source.text[start:end].strip().removesuffix("=")

    def returned(self, node: cst.BaseExpression, env: Env) -> None:
        value = self.top(node, env)
        parts: list[tuple[cst.BaseExpression, Value]] = [(node, value)]
        if isinstance(node, cst.Tuple) and value.elements is not None:
            parts = [
                (element.value, part) for element, part in zip(node.elements, value.elements, strict=True)
            ]
        texts: dict[cst.CSTNode, str] = {}
        for expression, part in parts:
            if part.taint:
                raise NoEqual(f"{part.taint}, which receives the array,")
            if part.kind == "tensor" and self.sunk:
                texts[expression] = self.copy_text(part)
            elif part.kind == "number" and part.roots and not self.sunk:
                self.need(part.roots)
            elif part.kind == "tensor" and not part.live and part.dead_at and len(parts) == 1:
                self.dead.append(part.dead_at)
        if texts:
            whole: dict[cst.CSTNode, str] = {
                expression: texts.get(expression, part.text)
                for expression, part in parts
                if expression is not node
            }
            self.texts[node] = texts[node] if node in texts else self.splice(node, whole)

    def bind(self, target: cst.CSTNode, value: Value, env: Env, source: cst.CSTNode | None = None) -> None:
        if isinstance(target, cst.Name):
            env[target.value] = replace(value, text="")
        elif isinstance(target, cst.Tuple | cst.List):
            for i, element in enumerate(target.elements):
                if value.elements is not None and i < len(value.elements):
                    self.bind(element.value, value.elements[i], env)
                else:
                    self.bind(element.value, element_of(value), env)
        elif isinstance(target, cst.StarredElement):
            self.bind(target.value, Value("list", element=value), env)
        elif isinstance(target, cst.Attribute | cst.Subscript):
            self.kept_elsewhere(target, value, source)

    def kept_elsewhere(
        self, target: cst.Attribute | cst.Subscript, value: Value, source: cst.CSTNode | None
    ) -> None:
        """What is stored outside the function stays an array there."""
        if value.kind == "tensor" and source is not None:
            self.copied(source, value)
        elif value.kind == "list" and innermost_element(value).kind == "tensor":
            raise NoEqual(f"a list of arrays kept in `{self.piece.text(target)}`")

    def join(self, env: Env, other: Env) -> None:
        for name in {*env, *other}:
            one, two = env.get(name), other.get(name)
            if one is None or two is None:
                env[name] = one or two or OTHER
                continue
            for mine, theirs in ((one, two), (two, one)):
                if mine.kind == "tensor" and theirs.kind in {"array", "number"} and theirs.roots:
                    self.need(theirs.roots)
            env[name] = joined(one, two)

    def top(self, node: cst.BaseExpression, env: Env) -> Value:
        """An expression of a statement: its new text is kept if a converted value takes part in it."""
        self.touched = False
        value = self.evaluate(node, env)
        if isinstance(node, cst.Call) and not node.lpar and value.text[:1] == "(" and closes(value.text):
            value = replace(value, text=value.text[1:-1])  # nothing stands around it here
        if self.touched and value.text != self.piece.text(node):
            self.texts[node] = value.text
        else:
            self.texts.pop(node, None)
        return value
