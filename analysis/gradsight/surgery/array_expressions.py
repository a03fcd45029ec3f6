"""Expressions in numpy code on a tensor's values, each written anew as it is met."""

from __future__ import annotations

import re
from dataclasses import replace

import libcst as cst

from gradsight.surgery.array_calls import Calls
from gradsight.surgery.array_state import is_primary_text, single_index
from gradsight.surgery.array_value import (
    NUMBER,
    OTHER,
    Env,
    Value,
    combined,
    element_of,
    innermost_element,
    joined,
    joined_all,
)
from gradsight.surgery.imports import qualified
from gradsight.surgery.numpy_calls import NoEqual
from gradsight.surgery.piece import dotted

_CONSTANTS = {"pi": "pi", "inf": "inf", "nan": "nan", "e": "e", "newaxis": "None", "Inf": "inf", "NaN": "nan"}


class Expressions(Calls):
    """What an expression is worth and what it becomes."""

    def evaluate(self, node: cst.BaseExpression, env: Env) -> Value:
        """The value of an expression; its text includes the expression's parentheses."""
        if isinstance(node, cst.Name):
            value = replace(env.get(node.value) or self.free(node.value), text=self.piece.text(node))
            if value.kind == "other" and node.value in self.tensors:
                value = Value("torch", value.text, live=True)
        elif isinstance(node, cst.Attribute):
            value = self.attribute(node, env)
        elif isinstance(node, cst.Call):
            value = self.call(node, env)
        elif isinstance(node, cst.BinaryOperation):
            value = self.binary(node, env)
        elif isinstance(node, cst.Comparison):
            value = self.comparison(node, env)
        elif isinstance(node, cst.UnaryOperation):
            inner = self.evaluate(node.expression, env)
            value = replace(inner, text=self.splice(node, {node.expression: inner.text}), fresh=False)
            if isinstance(node.operator, cst.Not):
                value = replace(NUMBER, text=value.text)
        elif isinstance(node, cst.BooleanOperation):
            left, right = self.evaluate(node.left, env), self.evaluate(node.right, env)
            value = replace(
                joined(left, right), text=self.splice(node, {node.left: left.text, node.right: right.text})
            )
        elif isinstance(node, cst.IfExp):
            parts = {part: self.evaluate(part, env) for part in (node.body, node.test, node.orelse)}
            text = self.splice(node, {part: known.text for part, known in parts.items()})
            value = replace(joined(parts[node.body], parts[node.orelse]), text=text)
        elif isinstance(node, cst.Subscript):
            value = self.subscript(node, env)
        elif isinstance(node, cst.Tuple | cst.List | cst.Set):
            value = self.sequence(node, env)
        elif isinstance(node, cst.ListComp | cst.GeneratorExp | cst.SetComp):
            value = self.comprehension(node, env)
        elif isinstance(node, cst.Integer | cst.Float | cst.Imaginary | cst.SimpleString):
            value = replace(NUMBER, text=self.piece.text(node))
        elif isinstance(node, cst.FormattedString):
            value = self.formatted(node, env)
        elif isinstance(node, cst.NamedExpr):
            inner = self.evaluate(node.value, env)
            self.bind(node.target, inner, env)
            value = replace(inner, text=self.splice(node, {node.value: inner.text}))
        elif isinstance(node, cst.Dict):
            value = self.dictionary(node, env)
        else:
            self.opaque(node, env)
            value = replace(OTHER, text=self.piece.text(node))
        if value.kind == "tensor":
            self.touched = True
        return value

    def free(self, name: str) -> Value:
        """A name that the function does not bind: a number if the module says so."""
        if name in {"True", "False", "None"}:
            return NUMBER
        bound = re.search(
            rf"^{re.escape(name)}\s*(?::[^=\n]*)?=\s*-?[\d.][\de.+-]*\s*(?:#.*)?$", self.source.text, re.M
        )
        return NUMBER if bound else OTHER

    def meet(self, operands: dict[cst.BaseExpression, Value]) -> dict[cst.BaseExpression, Value]:
        """Operands of one operation: where one is a tensor now, the arrays become tensors."""
        if not any(value.kind == "tensor" for value in operands.values()):
            return operands
        self.touched = True
        met: dict[cst.BaseExpression, Value] = {}
        for node, value in operands.items():
            if value.roots and value.kind in {"array", "number"}:
                self.need(value.roots)
            if value.kind == "list" and innermost_element(value).roots:
                self.need(innermost_element(value).roots)
            if value.kind in {"array", "other"} and not value.roots:
                value = replace(value, text=self.tensor_of(value), kind="torch", live=False)
            met[node] = value
        return met

    def binary(self, node: cst.BinaryOperation, env: Env) -> Value:
        left, right = self.evaluate(node.left, env), self.evaluate(node.right, env)
        if isinstance(node.operator, cst.Modulo) and isinstance(
            node.left, cst.SimpleString | cst.ConcatenatedString
        ):
            if right.kind == "tensor":
                right = replace(right, text=self.copy_text(right))
            elif right.elements is not None and isinstance(node.right, cst.Tuple):
                texts: dict[cst.CSTNode, str] = {
                    element.value: self.copy_text(part) if part.kind == "tensor" else part.text
                    for element, part in zip(node.right.elements, right.elements, strict=True)
                }
                right = replace(right, text=self.splice(node.right, texts))
            return replace(NUMBER, text=self.splice(node, {node.right: right.text}))
        met = self.meet({node.left: left, node.right: right})
        left, right = met[node.left], met[node.right]
        pair = (left, right)
        if any(value.kind == "tensor" for value in pair):
            if isinstance(node.operator, cst.FloorDivide):
                raise NoEqual("`//`")
            if isinstance(node.operator, cst.Subtract):
                for part, value in ((node.left, left), (node.right, right)):
                    if value.dtype == "bool":
                        name = value.text if is_primary_text(value.text) else f"({value.text})"
                        cast = f"to({self.anchor}.dtype)" if self.anchor else "float()"
                        met[part] = replace(value, text=f"{name}.{cast}")
                left, right = met[node.left], met[node.right]
        text = self.splice(node, {node.left: left.text, node.right: right.text})
        return replace(combined(pair), text=text)

    def comparison(self, node: cst.Comparison, env: Env) -> Value:
        operands = {node.left: self.evaluate(node.left, env)}
        for target in node.comparisons:
            operands[target.comparator] = self.evaluate(target.comparator, env)
        plain = any(isinstance(t.operator, cst.Is | cst.IsNot | cst.In | cst.NotIn) for t in node.comparisons)
        if not plain:
            operands = self.meet(operands)
        text = self.splice(node, {part: value.text for part, value in operands.items()})
        if plain:
            return replace(NUMBER, text=text)
        value = combined(tuple(operands.values()))
        if value.kind == "number":
            return replace(NUMBER, text=text)
        return replace(value, text=text, live=False, dead_at="a comparison", dtype="bool")

    def attribute(self, node: cst.Attribute, env: Env) -> Value:
        name = dotted(node)
        if name in env:
            return replace(env[name], text=self.piece.text(node))
        if name in self.tensors or self.is_parameter(name):
            return Value("torch", self.piece.text(node), live=True)
        known = qualified(self.source, name) if name and name.partition(".")[0] not in env else ""
        if known.startswith("numpy."):
            return self.numpy_name(node, known.removeprefix("numpy."))
        base = self.evaluate(node.value, env)
        text = self.splice(node, {node.value: base.text})
        attribute = node.attr.value
        if base.kind == "tensor":
            if attribute in {"shape", "ndim"}:
                return replace(NUMBER, text=text)
            if attribute == "size":
                return replace(NUMBER, text=self.in_parentheses(node, f"{base.text}.numel()"))
            if attribute in {"T", "real", "imag", "grad_fn", "requires_grad", "device"}:
                return replace(base, text=text, fresh=False)
            if attribute == "dtype":
                return replace(OTHER, text=text)
            raise NoEqual(f"`.{attribute}` of an array")
        if base.kind == "torch" or (base.kind == "other" and attribute == "data"):
            if attribute == "data":
                if self.root(node):
                    self.anchored(node.value, base)
                    return replace(base, text=base.text, kind="torch", live=True)
                return Value("torch", text, base.roots | {node})
            plain = attribute in {"shape", "ndim", "device", "dtype", "is_cuda"}
            return replace(NUMBER if plain else base, text=text, live=base.live and not plain)
        if base.kind == "array":
            return replace(NUMBER if attribute in {"shape", "ndim", "size"} else base, text=text)
        if base.kind == "number" or (base.kind == "other" and attribute in {"shape", "ndim"}):
            return replace(NUMBER, text=text)
        if name.startswith("self.") and name.count(".") == 1 and self.is_number_field(attribute):
            return replace(NUMBER, text=text)
        return Value("other", text, taint=base.taint)

    def is_parameter(self, name: str) -> bool:
        """Whether the file makes the attribute a parameter."""
        field = re.escape(name)
        return name.startswith("self.") and bool(
            re.search(rf"(?<![\w.]){field}\s*=\s*[\w.]*\bParameter\(", self.source.text)
        )

    def is_number_field(self, attribute: str) -> bool:
        assigned = re.search(rf"self\.{attribute}\s*=\s*(-?[\d.]+\b|\w+)", self.source.text)
        if assigned is None:
            return False
        value = assigned.group(1)
        if not value.isidentifier():
            return True
        return bool(re.search(rf"\b{value}\s*(?::\s*(?:float|int)\b|=\s*-?[\d.]+\b)", self.source.text))

    def numpy_name(self, node: cst.Attribute, name: str) -> Value:
        if name in _CONSTANTS:
            target = _CONSTANTS[name]
            text = target if target == "None" else f"{self.torch}.{target}"
            return replace(NUMBER, text=self.in_parentheses(node, text))
        return replace(OTHER, text=self.piece.text(node))

    def sequence(self, node: cst.Tuple | cst.List | cst.Set, env: Env) -> Value:
        values: list[Value] = []
        texts: dict[cst.CSTNode, str] = {}
        starred = False
        for element in node.elements:
            value = self.evaluate(element.value, env)
            starred |= isinstance(element, cst.StarredElement)
            values.append(element_of(value) if isinstance(element, cst.StarredElement) else value)
            texts[element.value] = value.text
        elements = None if starred else tuple(values)
        return Value("list", self.splice(node, texts), element=joined_all(values), elements=elements)

    def dictionary(self, node: cst.Dict, env: Env) -> Value:
        texts: dict[cst.CSTNode, str] = {}
        for element in node.elements:
            value = self.evaluate(element.value, env)
            texts[element.value] = self.copy_text(value) if value.kind == "tensor" else value.text
        return replace(OTHER, text=self.splice(node, texts))

    def comprehension(self, node: cst.ListComp | cst.GeneratorExp | cst.SetComp, env: Env) -> Value:
        inside = dict(env)
        texts: dict[cst.CSTNode, str] = {}
        loop: cst.CompFor | None = node.for_in
        while loop is not None:
            value = self.evaluate(loop.iter, inside)
            texts[loop.iter] = value.text
            self.bind(loop.target, element_of(value), inside)
            for condition in loop.ifs:
                texts[condition.test] = self.evaluate(condition.test, inside).text
            loop = loop.inner_for_in
        element = self.evaluate(node.elt, inside)
        texts[node.elt] = element.text
        return Value("list", self.splice(node, texts), element=replace(element, text=""))

    def formatted(self, node: cst.FormattedString, env: Env) -> Value:
        texts: dict[cst.CSTNode, str] = {}
        for part in node.parts:
            if isinstance(part, cst.FormattedStringExpression):
                value = self.evaluate(part.expression, env)
                if value.kind == "tensor" and (part.format_spec is None or value.ndim == 0):
                    texts[part.expression] = self.copy_text(value)
                else:
                    texts[part.expression] = value.text
        return replace(NUMBER, text=self.splice(node, texts))

    def subscript(self, node: cst.Subscript, env: Env) -> Value:
        chosen = self.partitioned(node, env)
        if chosen is not None:
            return chosen
        base = self.evaluate(node.value, env)
        texts: dict[cst.CSTNode, str] = {node.value: base.text}
        flipped: list[int] = []
        for i, element in enumerate(node.slice):
            part = element.slice
            if isinstance(part, cst.Slice):
                bounds = [bound for bound in (part.lower, part.upper, part.step) if bound is not None]
                for bound in bounds:
                    texts[bound] = self.evaluate(bound, env).text
                if (
                    part.step is not None
                    and texts[part.step].lstrip().startswith("-")
                    and base.kind == "tensor"
                ):
                    if texts[part.step].strip() != "-1" or part.lower or part.upper:
                        raise NoEqual("a negative step")
                    flipped.append(i)
            elif isinstance(part, cst.Index):
                value = self.evaluate(part.value, env)
                if base.kind == "tensor" and value.kind == "array" and value.roots:
                    self.need(value.roots)
                if base.kind == "array" and value.kind == "tensor" and base.roots:
                    self.need(base.roots)
                texts[part.value] = value.text
        text = self.splice(node, texts)
        if base.kind == "tensor":
            if flipped:
                if len(flipped) + sum(_is_full(e.slice) for e in node.slice) != len(node.slice):
                    raise NoEqual("a negative step")
                if _is_ellipsis(node.slice[0].slice):
                    flipped = [i - len(node.slice) for i in flipped]
                dims = f"({flipped[0]},)" if len(flipped) == 1 else f"({', '.join(map(str, flipped))})"
                text = self.in_parentheses(node, f"{self.torch}.flip({base.text}, dims={dims})")
            ndim = None
            if base.ndim is not None and all(isinstance(e.slice, cst.Slice) for e in node.slice):
                ndim = base.ndim
            elif base.ndim == 1 and isinstance(single_index(node), cst.Integer):
                ndim = 0
            return replace(base, text=text, fresh=False, shared=base.shared, ndim=ndim)
        if base.kind == "list":
            index = single_index(node)
            if base.elements is not None and index is not None:
                at = texts[index].strip()
                if at.isdigit() and int(at) < len(base.elements):
                    return replace(base.elements[int(at)], text=text)
            return replace(element_of(base), text=text)
        return replace(base, text=text, elements=None)

    def partitioned(self, node: cst.Subscript, env: Env) -> Value | None:
        """`np.partition(v, k)[k]`, of which only the k-th value is the same in torch."""
        call = node.value
        if not (
            isinstance(call, cst.Call) and qualified(self.source, dotted(call.func)) == "numpy.partition"
        ):
            return None
        value = self.evaluate(call.args[0].value, env)
        if value.kind != "tensor" or len(call.args) != 2:
            return None
        k = self.piece.text(call.args[1].value)
        index = single_index(node)
        if index is None or self.piece.text(index) != k or not k.isdigit():
            raise NoEqual("`np.partition`")
        return replace(value, text=f"{self.torch}.kthvalue({value.text}, {int(k) + 1}).values", ndim=None)


def _is_full(part: cst.BaseSlice) -> bool:
    if isinstance(part, cst.Slice):
        return part.lower is None and part.upper is None and part.step is None
    return _is_ellipsis(part)


def _is_ellipsis(part: cst.BaseSlice) -> bool:
    return isinstance(part, cst.Index) and isinstance(part.value, cst.Ellipsis)
