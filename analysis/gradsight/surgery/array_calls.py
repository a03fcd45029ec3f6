"""Calls in numpy code on a tensor's values: conversions, numpy's functions and methods, foreign code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import libcst as cst

from gradsight.surgery import numpy_forms, numpy_shapes
from gradsight.surgery.array_state import State, chain_start, is_primary_text
from gradsight.surgery.array_value import (
    NUMBER,
    OTHER,
    Env,
    Value,
    combined,
    element_of,
    innermost_element,
    joined,
)
from gradsight.surgery.cuts import MATH, data_of, rewraps
from gradsight.surgery.imports import qualified
from gradsight.surgery.numpy_calls import Argument, NoEqual, NumpyCall, write
from gradsight.surgery.piece import Piece, dotted
from gradsight.surgery.refusal import Refusal, words

__all__ = ["Calls", "numpy_forms", "numpy_shapes"]

_METHODS = words(
    "sum mean std var max min prod cumsum cumprod argmax argmin argsort any all dot reshape flatten "
    "ravel transpose swapaxes squeeze clip round astype copy repeat take nonzero trace diagonal conj "
    "searchsorted ptp"
)
# Of tensors alone: such a call shows that the value was meant to be one.
_TENSOR_METHODS = words("detach cpu numpy backward requires_grad_ float double to view clone")
_VIEWS = words(
    "reshape ravel transpose swapaxes squeeze asarray moveaxis expand_dims diagonal broadcast_to split"
)
_DTYPES = words("float16 float32 float64 double single int8 int16 int32 int64 uint8 bool_")
_FRESH_ARRAYS = words("zeros ones empty full eye identity arange linspace logspace")
_PLAIN_CALLS = words("len range isinstance type hasattr str repr id bool int callable issubclass")
_KEEPS = words("abs sum max min pow")


class Calls(State):
    """How each kind of call is written in torch."""

    def call(self, node: cst.Call, env: Env) -> Value:
        name = dotted(node.func)
        bound = name.partition(".")[0] in env
        known = qualified(self.source, name) if name and not bound else ""
        if rewraps(node) and not known.startswith("numpy."):
            return self.rewrapped(node, env)
        if known.startswith(("numpy.", "scipy.special.", "math.")):
            return self.numpy_call(node, known, env)
        if isinstance(node.func, cst.Attribute) and not known.startswith("torch."):
            base = self.evaluate(node.func.value, env)
            answer = self.method(node, node.func, base, env)
            if answer is not None:
                return answer
            return self.foreign(node, env, name or f".{node.func.attr.value}()", base)
        if isinstance(node.func, cst.Name) and not bound:
            answer = self.builtin(node, node.func.value, env)
            if answer is not None:
                return answer
        if known.startswith("torch."):
            values = [self.evaluate(argument.value, env) for argument in node.args]
            text = self.with_arguments(node, [value.text for value in values])
            live = any(innermost_element(value).live for value in values) and not known.endswith(
                (".argmax", ".round")
            )
            return Value("torch", text, live=live)
        return self.foreign(node, env, name or "a call", OTHER)

    def foreign(self, node: cst.Call, env: Env, name: str, base: Value) -> Value:
        """Code that is not seen: it gets what it always got."""
        texts: list[str] = []
        taint = base.taint
        if name.rpartition(".")[2] in {"backward", "manual_backward", "scale"}:
            return self.given_on(node, env, name, base)
        if not isinstance(node.func, cst.Name | cst.Attribute):
            self.opaque(node.func, env)
        for argument in node.args:
            value = self.evaluate(argument.value, env)
            if value.kind == "tensor":
                self.touched = True
                texts.append(self.copy_text(value))
                taint = f"`{name}`"
            else:
                if value.kind == "list" and innermost_element(value).kind == "tensor":
                    raise NoEqual(f"`{name}`, which receives a list of arrays,")
                texts.append(value.text)
                taint = taint or value.taint
        return Value("other", self.with_arguments(node, texts, base.text or None), taint=taint)

    def given_on(self, node: cst.Call, env: Env, name: str, base: Value) -> Value:
        """`accelerator.backward(loss)` and `scaler.scale(loss)` take the loss itself."""
        values = [self.evaluate(argument.value, env) for argument in node.args]
        if any(value.kind == "tensor" or value.reopened for value in values) and not name.endswith("scale"):
            self.sunk = True
        text = self.with_arguments(node, [value.text for value in values], base.text or None)
        return Value("torch", text, live=any(value.live for value in values), reopened=True)

    def builtin(self, node: cst.Call, name: str, env: Env) -> Value | None:
        if name not in _PLAIN_CALLS | _KEEPS | {
            "float",
            "list",
            "tuple",
            "sorted",
            "reversed",
            "enumerate",
            "zip",
        }:
            return None
        values = [self.evaluate(argument.value, env) for argument in node.args]
        text = self.with_arguments(node, [value.text for value in values])
        if not values:
            return (
                Value("list", text, element=None) if name in {"list", "tuple"} else replace(NUMBER, text=text)
            )
        first = values[0]
        if name == "float":
            if first.kind == "other" and not first.taint and self.is_wanted(node):
                first = replace(first, kind="torch", live=True)
            if first.kind not in {"tensor", "array", "torch", "number"}:
                return Value("number", text, taint=first.taint)
            if (first.kind in {"tensor", "torch"} or first.roots) and self.root(node):
                self.need(first.roots)
                inner = first.text if is_primary_text(first.text) or node.lpar else f"({first.text})"
                return replace(first, kind="tensor", text=self.in_parentheses(node, inner), ndim=0)
            related = first.kind == "tensor" or bool(first.roots)
            if first.kind == "tensor":
                self.numbers.add(node)
            return Value("number", text, first.roots | {node} if related else frozenset(), taint=first.taint)
        if name in _PLAIN_CALLS:
            return replace(NUMBER, text=text)
        if name == "enumerate":
            pair = Value("list", elements=(NUMBER, element_of(first)))
            return Value("list", text, element=pair)
        if name == "zip":
            return Value("list", text, element=Value("list", elements=tuple(element_of(v) for v in values)))
        if name in {"list", "tuple", "reversed", "sorted"}:
            return Value("list", text, element=element_of(first))
        flat = [innermost_element(value) for value in values]
        if any(value.kind == "tensor" for value in flat):
            for value in flat:
                if value.roots:
                    self.need(value.roots)
        return replace(combined(tuple(flat)), text=text)

    def rewrapped(self, node: cst.Call, env: Env) -> Value:
        """A tensor made anew: where it is made of a converted value it is that value."""
        values = [self.evaluate(argument.value, env) for argument in node.args]
        texts = [value.text for value in values]
        plain = Value("torch", self.with_arguments(node, texts))
        if not values:
            return plain
        first = values[0]
        deep = innermost_element(first)
        if deep.taint:
            raise NoEqual(f"{deep.taint}, which receives the array,")
        related = deep.kind == "tensor" or deep.reopened
        if deep.kind in {"number", "array"} and deep.roots & self.numbers:
            self.need(deep.roots)
            related = True
        if first.kind == "list" and first.elements is not None:
            related |= any(value.kind == "tensor" for value in first.elements)
        if not related:
            return plain
        self.touched = True
        data = data_of(self.source, self.piece, node)
        if isinstance(data, Refusal):
            raise NoEqual(data.reason)
        value_node, suffix = data
        if not deep.live and deep.kind == "tensor" and deep.dead_at:
            self.dead.append(deep.dead_at)
        text = first.text
        if first.kind == "list":
            text = f"{self.torch}.stack({self.stacked(value_node, first)})"
        elif suffix and not is_primary_text(text):
            text = f"({text})"
        elif not suffix and not is_primary_text(text) and self.binds(node):
            text = f"({text})"
        self.sunk = True
        return Value(
            "torch", self.in_parentheses(node, text + suffix), live=True, reopened=True, ndim=deep.ndim
        )

    def stacked(self, node: cst.BaseExpression, value: Value) -> str:
        if value.elements is None or not isinstance(node, cst.List | cst.Tuple):
            return value.text
        texts: dict[cst.CSTNode, str] = {}
        for element, part in zip(node.elements, value.elements, strict=True):
            if part.roots:
                self.need(part.roots)
            texts[element.value] = (
                f"{self.torch}.as_tensor({part.text})" if part.kind == "number" else part.text
            )
        return self.splice(node, texts)

    def binds(self, node: cst.BaseExpression) -> bool:
        parent = self.piece.parent(node)
        return not isinstance(
            parent,
            cst.Arg
            | cst.Element
            | cst.Index
            | cst.Assign
            | cst.Return
            | cst.Expr
            | cst.AnnAssign
            | cst.AugAssign,
        )

    def method(self, node: cst.Call, function: cst.Attribute, base: Value, env: Env) -> Value | None:
        name = function.attr.value
        values = [self.evaluate(argument.value, env) for argument in node.args]
        text = self.with_arguments(node, [value.text for value in values], base.text)
        if name in {"numpy", "__array__"} and base.kind in {"torch", "other"}:
            if self.root(node):
                self.need(base.roots)
                self.anchored(chain_start(function.value), base)
                if base.taint:
                    raise NoEqual(f"{base.taint}, which receives the array,")
                return Value("tensor", self.in_parentheses(node, base.text), live=True, shared=True)
            return Value("array", text, base.roots | {node}, taint=base.taint)
        on_cpu = name == "cpu" or (name == "to" and [v.text.strip("\"'") for v in values] == ["cpu"])
        if base.kind in {"torch", "other"} and (name == "detach" or (on_cpu and base.kind)):
            if self.root(node):
                self.anchored(chain_start(function.value), base)
                if on_cpu and self.anchor:
                    self.device = f"{self.anchor}.device"
                self.need(base.roots)
                return replace(base, kind="torch", text=self.in_parentheses(node, base.text), live=True)
            return Value("torch", text, base.roots | {node}, live=base.live and on_cpu, taint=base.taint)
        if name in {"item", "tolist"} and base.kind in {"tensor", "array", "torch", "other"}:
            related = base.kind == "tensor" or bool(base.roots) or self.is_wanted(node)
            if related and self.root(node):
                self.need(base.roots)
                return replace(
                    base,
                    kind="tensor",
                    live=base.live or base.kind != "tensor",
                    ndim=0 if name == "item" else base.ndim,
                    text=self.in_parentheses(node, base.text),
                )
            if base.kind == "tensor":
                self.numbers.add(node)
            kind = "number" if name == "item" else "list"
            roots = base.roots | {node} if related else frozenset()
            if kind == "list":
                return Value("list", text, element=Value("number", roots=roots))
            return Value("number", text, roots, taint=base.taint)
        if base.kind == "tensor":
            if name in _METHODS:
                receiver = Argument("", base, base.text, is_primary_text(base.text))
                return self.written(node, name, values, receiver)
            if name == "backward":
                self.sunk = True
            if name in _TENSOR_METHODS:
                return replace(base, kind="torch", text=text)
            raise NoEqual(f"`.{name}()` of an array")
        if base.kind == "torch":
            self.sunk |= name == "backward" and base.reopened
            return Value("torch", text, base.roots, live=base.live, reopened=base.reopened)
        if base.kind == "array":
            tensors = [value for value in values if value.kind == "tensor"]
            if tensors and base.roots:
                self.need(base.roots)
            return Value("array", text, base.roots | frozenset().union(*(v.roots for v in values)))
        if base.kind == "list" and name in {"append", "extend", "insert"} and values:
            key = dotted(function.value)
            added = values[-1] if name != "extend" else element_of(values[-1])
            if key in env:
                old = env[key].element
                for one, two in ((old, added), (added, old)):
                    if one is not None and two is not None and one.kind == "tensor" and two.roots:
                        self.need(two.roots)
                env[key] = Value("list", element=added if old is None else joined(old, added))
                return replace(NUMBER, text=text)
        return None

    def numpy_call(self, node: cst.Call, known: str, env: Env) -> Value:
        values = [self.evaluate(argument.value, env) for argument in node.args]
        plain = self.with_arguments(node, [value.text for value in values])
        deep = [innermost_element(value) for value in values]
        module, _, name = known.partition(".")
        here = (self.piece.span(node).start, self.piece.span(node).end) == (self.where.start, self.where.end)
        forced = here or node in self.converted
        if any(value.kind == "torch" for value in deep):
            forced |= self.root(node)
        if forced and node not in self.converted:
            self.converted.add(node)
            self.grown = True
        if module == "math":
            return self.math_call(node, name, values, forced)
        if any(value.taint for value in deep) and any(value.kind == "tensor" for value in deep):
            taint = next(value.taint for value in deep if value.taint)
            raise NoEqual(f"{taint}, which receives the array,")
        of_data = name in {"array", "asarray"}
        makes_constant = name in _FRESH_ARRAYS or (
            of_data and not (deep and (deep[0].is_tensor or deep[0].kind == "other"))
        )
        if any(value.kind == "tensor" for value in deep) or (forced and not makes_constant):
            if name.startswith("random."):
                raise NoEqual(f"`np.{name}` of an array")
            for value in deep:
                if value.roots:
                    self.need(value.roots)
            if forced:
                if node.args:
                    self.anchored(_only_name(node.args[0].value), values[0])
                values = [
                    replace(value, kind="torch", live=True) if value.kind == "other" and i == 0 else value
                    for i, value in enumerate(values)
                ]
            if name in _FRESH_ARRAYS:
                return replace(NUMBER, text=plain)
            return self.written(node, known.removeprefix("numpy."), values, None)
        if forced:
            return self.constructed(node, name, values)
        roots: frozenset[cst.CSTNode] = frozenset().union(*(value.roots for value in deep))
        taint = next((value.taint for value in deep if value.taint), "")
        if any(value.kind == "torch" for value in deep):
            return Value("array", plain, roots | {node})
        if name in _FRESH_ARRAYS or (
            name in {"array", "asarray"} and values and values[0].kind in {"list", "number"}
        ):
            foreign = any(value.kind in {"other", "array"} for value in deep) and name in {"array", "asarray"}
            return Value("array", plain, roots if foreign else roots | {node}, fresh=True, taint=taint)
        if name in {"finfo", "iinfo"}:
            return Value("number", plain)
        if all(value.kind == "number" for value in deep) and not name.startswith("random."):
            return Value("number", plain, roots)
        return Value("array", plain, roots, taint=taint)

    def math_call(self, node: cst.Call, name: str, values: list[Value], forced: bool) -> Value:
        text = self.with_arguments(node, [value.text for value in values])
        if not any(value.kind == "tensor" for value in values) and not forced:
            roots: frozenset[cst.CSTNode] = frozenset().union(*(value.roots for value in values))
            return Value("number", text, roots)
        target = MATH.get(name, "")
        if not target or len(values) != 1:
            raise NoEqual(f"`math.{name}` with these arguments")
        inner = self.piece.span(node.func)
        start = self.piece.whole(node).start
        renamed = text[: inner.start - start] + f"{self.torch}.{target}" + text[inner.end - start :]
        return replace(values[0], kind="tensor", text=renamed, live=values[0].live or forced)

    def constructed(self, node: cst.Call, name: str, values: list[Value]) -> Value:
        """A constant array made here, as a tensor like the one it meets."""
        texts = [value.text for value in values]
        keywords = [argument.keyword.value if argument.keyword else "" for argument in node.args]
        whole_numbers = not any(re.search(r"\d\.|\.\d|\de-?\d", text) for text in texts)
        extra: list[str] = []
        keep: list[str] = []
        for keyword, text in zip(keywords, texts, strict=True):
            if keyword == "dtype" or (
                not keyword and qualified(self.source, text).removeprefix("numpy.") in _DTYPES | {"float"}
            ):
                kind = qualified(self.source, text).removeprefix("numpy.")
                if kind in {"int", "int64", "int32", "bool", "bool_"}:
                    extra.append(f"dtype={self.torch}.{ {'int': 'int64', 'bool_': 'bool'}.get(kind, kind) }")
                elif kind not in _DTYPES | {"float"}:
                    raise NoEqual(f"`dtype={text}`")
            elif keyword in {"", "shape", "fill_value", "object", "N", "num", "base"}:
                rename = {"num": "steps", "shape": "size", "N": "n", "object": "data"}
                keep.append(f"{rename.get(keyword, keyword)}={text}" if keyword else text)
            else:
                raise NoEqual(f"`{keyword}=` of `np.{name}`")
        target = {"identity": "eye", "array": "tensor", "asarray": "tensor"}.get(name, name)
        if name in {"linspace", "logspace"} and len(keep) == 2:
            keep.append("50")
        integer = name == "arange" and whole_numbers and not any(value.kind == "other" for value in values)
        if name in {"array", "asarray"}:
            integer = whole_numbers
        if self.anchor and not integer and not extra:
            extra.append(f"dtype={self.anchor}.dtype")
        if self.device:
            extra.append(f"device={self.device}")
        text = f"{self.torch}.{target}({', '.join([*keep, *extra])})"
        self.touched = True
        ndim = 1 if name in {"arange", "linspace", "logspace"} else None
        dtype = "int" if integer or any("int" in part for part in extra) else ""
        return Value("tensor", self.in_parentheses(node, text), fresh=True, ndim=ndim, dtype=dtype)

    def written(self, node: cst.Call, name: str, values: list[Value], receiver: Argument | None) -> Value:
        """The numpy call written in torch."""
        self.touched = True
        for value in values:
            if value.roots and value.kind in {"array", "number"}:
                self.need(value.roots)
            if value.taint:
                raise NoEqual(f"{value.taint}, which receives the array,")
        arguments = []
        texts = []
        for argument, value in zip(node.args, values, strict=True):
            if argument.star:
                raise NoEqual(f"`np.{name}` with starred arguments")
            keyword = argument.keyword.value if argument.keyword is not None else ""
            text = value.text
            if isinstance(argument.value, cst.List | cst.Tuple):
                text = self.written_list(argument.value, value)
            arguments.append(Argument(keyword, value, text, is_primary_text(text)))
            texts.append(text)

        def lay(
            function: str, changed: dict[int, str | None], keywords: dict[int, str], added: list[str]
        ) -> str:
            return self.laid_out(node, receiver, texts, function, changed, keywords, added)

        call = NumpyCall(name, arguments, receiver, self.torch, self.anchor, self.device, lay)
        text, value = write(call)
        first = receiver.value if receiver is not None else (values[0] if values else OTHER)
        if name in _VIEWS:
            value = replace(value, shared=first.shared)
        return replace(value, text=self.in_parentheses(node, text))

    def written_list(self, node: cst.List | cst.Tuple, value: Value) -> str:
        """A list that a numpy call is given: where one element is a tensor, foreign ones become tensors."""
        if value.elements is None or not any(part.kind == "tensor" for part in value.elements):
            return value.text
        texts: dict[cst.CSTNode, str] = {}
        for element, part in zip(node.elements, value.elements, strict=True):
            foreign = part.kind in {"array", "other"} and not part.roots
            texts[element.value] = self.tensor_of(part) if foreign else part.text
        return self.splice(node, texts)

    def laid_out(
        self,
        node: cst.Call,
        receiver: Argument | None,
        texts: Sequence[str],
        function: str,
        changed: dict[int, str | None],
        keywords: dict[int, str],
        added: list[str],
    ) -> str:
        """The call with the text between its arguments kept."""
        text, piece = self.source.text, self.piece
        if function.startswith(".") and receiver is not None:
            assert isinstance(node.func, cst.Attribute)
            before = piece.whole(node.func.value).end
            dot = text[before : piece.span(node.func.attr).start]
            head = receiver.text + dot + function[1:]
        else:
            head = function
        end = piece.span(node).end
        position = piece.whole(node.func).end
        spans = [piece.span(argument) for argument in node.args]
        opening = text[position : spans[0].start] if spans else text[position : end - 1]
        pieces = [head, opening]
        kept = [i for i in range(len(spans)) if i not in changed or changed[i] is not None]
        for n, i in enumerate(kept):
            if n > 0:
                pieces.append(
                    text[_argument_end(piece, node.args[kept[n - 1]]) : spans[kept[n - 1] + 1].start]
                )
            keyword = keywords.get(i, node.args[i].keyword.value if node.args[i].keyword else "")  # type: ignore[union-attr]
            written = changed.get(i) or texts[i]
            pieces.append(f"{keyword}={written}" if keyword else written)
        if added:
            pieces.append((", " if kept else "") + ", ".join(added))
        pieces.append(text[_argument_end(piece, node.args[-1]) : end] if spans else ")")
        return "".join(pieces)


def _argument_end(piece: Piece, argument: cst.Arg) -> int:
    return piece.whole(argument.value).end


def _only_name(node: cst.BaseExpression) -> cst.BaseExpression:
    """`x` of `-x` or `x * 2`: what an expression is computed from, if that is one thing."""
    while True:
        if isinstance(node, cst.UnaryOperation):
            node = node.expression
        elif isinstance(node, cst.BinaryOperation) and isinstance(node.right, cst.Integer | cst.Float):
            node = node.left
        elif isinstance(node, cst.BinaryOperation) and isinstance(node.left, cst.Integer | cst.Float):
            node = node.right
        else:
            return chain_start(node)
