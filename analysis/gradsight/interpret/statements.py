"""Statements: names bound, branches joined, loops carried, contexts entered.

Loop bodies run at least once, `try` bodies to their end, and arms that raise do not join.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from gradsight.domain import Edge
from gradsight.graph import Here, Node
from gradsight.interpret.calls import Calls
from gradsight.interpret.expressions import OPERATORS, is_container
from gradsight.interpret.functions import grad_of
from gradsight.interpret.libraries import GRAD_OFF, GRAD_ON
from gradsight.interpret.state import State
from gradsight.outline import Block, Clause, Statement
from gradsight.values import (
    NONE,
    NOWHERE,
    Array,
    Class,
    Closure,
    Const,
    Lib,
    Number,
    Obj,
    Ref,
    Seq,
    Tensor,
    Unknown,
    Value,
    node_of,
)


class Statements(Calls):
    """Runs blocks of logical lines."""

    def prepare(self, name: str, return_sink: bool = False) -> None:
        """Set up the activation of one function."""
        self.breaks: list[list[State]] = []
        self.nonlocals: set[str] = set()
        self.globals_: set[str] = set()
        self.module_written: set[str] = set()
        self.yields = []
        self.function_name = name
        self.return_sink = return_sink

    def run_block(self, block: Block) -> None:
        for statement in block:
            if self.dead:
                return
            self.run_statement(statement)

    def run_statement(self, statement: Statement) -> None:
        first = statement[0]
        self.at = first.at
        line = first.line
        if line.error is not None:
            for name in line.binds:
                self.state.env[name] = Unknown("a line that does not parse")
            for clause in statement:
                self.run_block(clause.block)
            return
        if not line.nodes:
            for clause in statement:
                self.run_block(clause.block)
            return
        if not line.header or len(line.nodes) > 1:
            for node in line.nodes:
                if self.dead:
                    return
                self.at = first.at
                self.run_node(node, None, statement)  # type: ignore[arg-type]  # an except clause is no statement
            return
        self.run_node(line.nodes[0], first.block, statement)  # type: ignore[arg-type]

    def run_node(self, node: ast.stmt, block: Block | None, statement: Statement | None) -> None:
        """One statement; `block` holds its lines where it has a block of its own."""
        self.spend()
        self.expression = node
        method = EXECUTE.get(type(node))
        if method is not None:
            method(self, node, block, statement)

    def run_body(self, block: Block | None, nodes: list[ast.stmt]) -> None:
        """A block of lines, or (for a statement on one line) the nodes behind the colon."""
        if block is not None:
            self.run_block(block)
            return
        for node in nodes:
            if self.dead:
                return
            self.run_node(node, None, None)

    # -- simple statements

    def expression_statement(self, node: ast.Expr, block: Any, statement: Any) -> None:
        self.evaluate(node.value)

    def assignment(self, node: ast.Assign, block: Any, statement: Any) -> None:
        value = self.evaluate(node.value)
        for target in node.targets:
            self.assign(target, value, node.value)

    def annotated(self, node: ast.AnnAssign, block: Any, statement: Any) -> None:
        if node.value is not None:
            self.assign(node.target, self.evaluate(node.value), node.value)

    def augmented(self, node: ast.AugAssign, block: Any, statement: Any) -> None:
        target = node.target
        load = ast.copy_location(as_load(target), target)
        left = self.evaluate(load)
        right = self.evaluate(node.value)
        op = OPERATORS[type(node.op)]
        obj = self.obj(left)
        if obj is not None and obj.kind == "list" and op == "add" and isinstance(left, Ref):
            self.list_method(left, obj, "extend", [right], {}, ast.Call(load, [node.value], []))
            return
        if isinstance(left, Tensor) and left.origin in ("parameter", "leaf") and self.state.grad == "off":
            return  # a manual update: `w -= lr * w.grad` under no_grad
        if isinstance(left, Tensor) and left.origin == "data":
            return
        self.assign(target, self.operate(op, left, right, node), node.value)

    def assign(self, target: ast.expr, value: Value, at: ast.AST) -> None:
        if isinstance(target, ast.Name):
            for names in reversed(self.state.outer):
                if target.id in self.nonlocals and target.id in names:
                    names[target.id] = value
                    return
            if target.id in self.globals_ and self.state.module is not self.state.env:
                self.state.module[target.id] = value
                self.module_written.add(target.id)
                return
            self.state.env[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            self.unpack(target.elts, value, at)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, value, at)
        elif isinstance(target, ast.Attribute):
            self.set_attribute(target, value, at)
        elif isinstance(target, ast.Subscript):
            self.set_item(target, value, at)
        elif isinstance(target, ast.Call):
            return  # the receiver of an in-place call that has no name

    def unpack(self, targets: list[ast.expr], value: Value, at: ast.AST) -> None:
        items = self.items(value)
        obj = self.obj(value)
        starred = next((i for i, target in enumerate(targets) if isinstance(target, ast.Starred)), None)
        if items is not None and not (obj is not None and obj.many):
            if starred is None and len(items) == len(targets):
                for target, item in zip(targets, items):
                    self.assign(target, item, at)
                return
            if starred is not None and len(items) >= len(targets) - 1:
                tail = len(targets) - starred - 1
                for target, item in zip(targets[:starred], items[:starred]):
                    self.assign(target, item, at)
                middle = items[starred : len(items) - tail]
                self.assign(targets[starred], self.allocate(Obj("list", None, items=middle)), at)
                for target, item in zip(targets[starred + 1 :], items[len(items) - tail :] if tail else ()):
                    self.assign(target, item, at)
                return
        if isinstance(value, Unknown):
            for target in targets:
                node = NOWHERE
                if value.node != NOWHERE:
                    node = self.graph.add(
                        Node("op", "item", (value.node,), (Edge.LIVE,), place=self.here(at))
                    )
                self.assign(target, Unknown(value.why, node), at)
            return
        element = self.element_of(value, at)
        for target in targets:
            self.assign(target, element, at)

    def set_attribute(self, target: ast.Attribute, value: Value, at: ast.AST) -> None:
        receiver = self.evaluate(target.value)
        name = target.attr
        if name == "requires_grad":
            base = target.value
            if isinstance(receiver, Ref):
                return  # `module.requires_grad = False` sets a plain attribute
            self.require_grad(receiver, value, target, base)
            return
        if name in ("data", "grad"):
            return  # writes of values: the graph stays what it was
        if isinstance(receiver, Ref):
            obj = self.state.heap.get(receiver.oid)
            if obj is None:
                return
            if obj.kind == "instance" and isinstance(obj.cls, Class) and self.world.is_module(obj.cls.cid):
                value = self.plain_tensor(receiver, obj.cls, name, value, at)
                obj = self.state.heap[receiver.oid]
            if obj.kind in ("instance", "module", "object"):
                self.state.heap[receiver.oid] = obj.with_field(name, value)

    def plain_tensor(self, receiver: Ref, cls: Class, name: str, value: Value, at: ast.AST) -> Value:
        """A tensor that is no Parameter becomes an attribute of a module: remembered, with a node of its own."""
        if (
            not isinstance(value, Tensor)
            or value.dtype not in ("float", "")
            or value.origin in ("parameter", "buffer")
        ):
            return value
        if value.origin == "" and self.only_new_parameters(value.node):
            value = replace(
                value, origin="computed parameter"
            )  # `nn.Parameter(...) * 0.1` is no parameter any more
        elif value.origin == "" or value.origin != "leaf" and value.node != NOWHERE:
            return value
        number = value.node
        if number == NOWHERE:
            number = self.source("fresh", name, at)
        self.event(
            "attribute",
            number,
            oids=(receiver.oid,),
            facts={
                "name": name,
                "class": cls.cid,
                "origin": value.origin,
                "method": self.function_name,
                "stores": str(self.world.stores(cls.cid, name)),
            },
            value=self.here(at),
        )
        return Tensor(number, value.dtype or "float", value.shape, value.role, value.origin)

    def only_new_parameters(self, number: int) -> bool:
        """Whether a value is computed from parameters that were made in the same statement, and from nothing else."""
        if number == NOWHERE or self.graph[number].kind != "op":
            return False
        found = False
        for n in self.graph.feeding(number, (Edge.LIVE,)):
            node = self.graph[n]
            if node.kind in ("input", "loop", "join") or node.kind == "source" and node.note != "parameter":
                return False
            if node.kind == "source":
                found = True
                if not (isinstance(node.place, Here) and node.place.at == self.at):
                    return False
        return found

    def set_item(self, target: ast.Subscript, value: Value, at: ast.AST) -> None:
        receiver = self.evaluate(target.value)
        index = self.evaluate(target.slice)
        if isinstance(receiver, Ref):
            obj = self.state.heap.get(receiver.oid)
            if obj is None:
                return
            if obj.kind == "dict" or (obj.kind == "module" and is_container(obj)):
                if isinstance(index, Const):
                    self.state.heap[receiver.oid] = obj.with_field(repr(index.value), value)
                    if obj.kind == "module":
                        position = index.value if isinstance(index.value, int) else None
                        if position is not None and -len(obj.items) <= position < len(obj.items):
                            items = list(obj.items)
                            items[position] = value
                            self.state.heap[receiver.oid] = Obj(
                                obj.kind, obj.cls, obj.fields, tuple(items), obj.many
                            )
                else:
                    self.state.heap[receiver.oid] = Obj(
                        obj.kind, obj.cls, obj.fields, (*obj.items, value), True
                    )
                return
            if obj.kind == "list":
                if (
                    isinstance(index, Const)
                    and isinstance(index.value, int)
                    and not obj.many
                    and -len(obj.items) <= index.value < len(obj.items)
                ):
                    items = list(obj.items)
                    items[index.value] = value
                    self.state.heap[receiver.oid] = Obj("list", obj.cls, obj.fields, tuple(items), obj.many)
                else:
                    self.state.heap[receiver.oid] = Obj(
                        "list", obj.cls, obj.fields, (*obj.items, value), True
                    )
            return
        if isinstance(receiver, Tensor):
            parts = [(receiver.node, Edge.LIVE)]
            edge = Edge.NONE if self.state.grad == "off" else Edge.LIVE
            parts += [(n, edge) for n in self.nodes_in(value)]
            number = self.combine("torch.Tensor.__setitem__", parts, target, keep_off=True)
            role = receiver.role
            if (
                receiver.origin in ("torch.zeros", "torch.zeros_like")
                and value in (Const(1), Const(1.0))
                and picks_one(target.slice)
            ):
                role = "one-hot"
            self.assign(
                target.value,
                Tensor(
                    number,
                    receiver.dtype,
                    receiver.shape,
                    role,
                    receiver.origin if number == receiver.node else "",
                ),
                at,
            )
        elif isinstance(receiver, Array):
            parts = [
                (receiver.node, Edge.LIVE),
                *((n, Edge.CUT if isinstance(value, Tensor) else Edge.LIVE) for n in self.nodes_in(value)),
            ]
            role = "one-hot" if value in (Const(1), Const(1.0)) and picks_one(target.slice) else receiver.role
            self.assign(
                target.value,
                Array(
                    self.combine("numpy.setitem", parts, target, "numpy", keep_off=True), receiver.dtype, role
                ),
                at,
            )

    def deletion(self, node: ast.Delete, block: Any, statement: Any) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.state.env.pop(target.id, None)

    def returning(self, node: ast.Return, block: Any, statement: Any) -> None:
        value = self.evaluate(node.value)
        if self.return_sink and not self.state.outer:
            self.sink(self.returned_loss(value), node, node.value, kind="return")
        self.returns.append((value, self.state))
        self.dead = True

    def returned_loss(self, value: Value) -> Value:
        """The loss among what a training step returns: itself, `["loss"]` of a dictionary, or the first of a tuple."""
        obj = self.obj(value)
        if obj is not None and obj.kind == "dict":
            return obj.get("'loss'") or Unknown("a dictionary without a loss")
        if isinstance(value, Seq) and value.items:
            return value.items[0]
        return value

    def raising(self, node: ast.Raise, block: Any, statement: Any) -> None:
        self.dead = True

    def asserting(self, node: ast.Assert, block: Any, statement: Any) -> None:
        self.evaluate(node.test)

    def global_(self, node: ast.Global, block: Any, statement: Any) -> None:
        self.globals_ |= set(node.names)

    def nonlocal_(self, node: ast.Nonlocal, block: Any, statement: Any) -> None:
        self.nonlocals |= set(node.names)

    def importing(self, node: ast.Import, block: Any, statement: Any) -> None:
        for alias in node.names:
            if alias.asname:
                self.state.env[alias.asname] = Lib(self.world.canonical(alias.name))
            else:
                self.state.env[alias.name.partition(".")[0]] = Lib(alias.name.partition(".")[0])

    def importing_from(self, node: ast.ImportFrom, block: Any, statement: Any) -> None:
        for alias in node.names:
            if node.level or alias.name == "*":
                if alias.name != "*":
                    self.state.env[alias.asname or alias.name] = self.world.imported(node, alias.name)
                continue
            self.state.env[alias.asname or alias.name] = self.world.imported(node, alias.name)

    def break_(self, node: ast.Break, block: Any, statement: Any) -> None:
        if self.breaks:
            self.breaks[-1].append(self.state)
        self.dead = True

    def continue_(self, node: ast.Continue, block: Any, statement: Any) -> None:
        if self.breaks:
            self.breaks[-1].append(self.state)
        self.dead = True

    # -- compound statements

    def branch(self, node: ast.If, block: Block | None, statement: Statement | None) -> None:
        clauses: list[tuple[ast.expr | None, Block | None, list[ast.stmt]]] = []
        clauses.append((node.test, block, node.body))
        rest = node.orelse
        while len(rest) == 1 and isinstance(rest[0], ast.If):
            clauses.append((rest[0].test, None, rest[0].body))
            rest = rest[0].orelse
        if rest:
            clauses.append((None, None, rest))
        for clause in statement[1:] if statement is not None else ():
            test = None
            if clause.line.role == "elif" and clause.line.nodes and isinstance(clause.line.nodes[0], ast.If):
                test = clause.line.nodes[0].test
            body = [] if clause.line.header else self.inline_body(clause)
            clauses.append((test, clause.block if clause.line.header else None, body))
        before = self.state
        outer = self.context
        number = self.number()
        states: list[State] = []
        has_else = False
        at = self.at
        decided = False
        for arm, (test, lines, nodes) in enumerate(clauses):
            if decided:
                break
            if test is not None:
                self.state = before
                known = self.evaluate(test)
                if isinstance(known, Const) and self.decides(test):
                    if not known.value:
                        continue
                    if not states:
                        self.run_body(lines, nodes)
                        return
                    has_else = decided = True
            else:
                has_else = True
            self.state = before.fork()
            self.context = (*outer, ("b", number, arm))
            self.narrow(test)
            self.run_body(lines, nodes)
            self.at = at
            if not self.dead:
                states.append(self.state)
            self.dead = False
        self.context = outer
        if not has_else:
            states.append(before)
        self.state = before
        if not states:
            self.dead = True
            return
        self.state = self.joiner.states(states)

    def decides(self, test: ast.expr) -> bool:
        """Whether a test whose value is known decides: `if True:`, `if optimizer is not None:`, and a flag that the caller
        gave. A setting of the module, such as `DEBUG = False`, is somebody's switch: both ways count."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self.decides(test.operand)
        if isinstance(test, ast.Compare):
            return (
                isinstance(test.ops[0], (ast.Is, ast.IsNot, ast.Eq, ast.NotEq))
                and self.function_name != "<module>"
            )
        if isinstance(test, ast.Name):
            return self.function_name != "<module>" and test.id in self.state.env
        return isinstance(test, ast.Constant)

    def inline_body(self, clause: Clause) -> list[ast.stmt]:
        """The statements behind the colon of `else: x = 1`."""
        nodes = list(clause.line.nodes)
        if clause.line.role == "elif" and nodes and isinstance(nodes[0], ast.If):
            return nodes[0].body
        return [node for node in nodes if isinstance(node, ast.stmt)]

    def narrow(self, test: ast.expr | None) -> None:
        """Within `if isinstance(x, torch.Tensor):` and `if not torch.is_tensor(x):` we know what x is."""
        if test is None:
            return
        negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        inner = test.operand if negated else test  # type: ignore[attr-defined]
        if isinstance(inner, ast.Call) and inner.args and isinstance(inner.args[0], ast.Name) and negated:
            function = ast.unparse(inner.func)
            if function in ("isinstance", "torch.is_tensor"):
                name = inner.args[0].id
                value = self.state.env.get(name)
                if isinstance(value, (Tensor, Unknown)) and (
                    function != "isinstance" or "ensor" in ast.unparse(inner.args[1])
                ):
                    self.state.env[name] = Unknown("not a tensor here")

    def loop(
        self, node: ast.For | ast.AsyncFor | ast.While, block: Block | None, statement: Statement | None
    ) -> None:
        iterable: Value = NONE
        number = self.number()
        outer = self.context
        at = self.at
        if isinstance(node, (ast.For, ast.AsyncFor)):
            iterable = self.evaluate(node.iter)
        carried = self.carry(node, block)
        self.context = (*outer, ("l", number, 0))
        loops = self.graph.loops
        self.graph.loops = (*loops, number)
        self.breaks.append([])
        if isinstance(node, (ast.For, ast.AsyncFor)):
            items = self.items(iterable)
            obj = self.obj(iterable)
            if (
                items is not None
                and 1 < len(items) <= 8
                and not (obj is not None and obj.many)
                and self.worth_unrolling(items)
            ):
                self.unroll(node, items, block)
            else:
                self.assign(node.target, self.element_of(iterable, node.iter), node.iter)
                self.run_body(block, node.body)
        else:
            self.evaluate(node.test)
            self.run_body(block, node.body)
        ends = self.breaks.pop()
        if not self.dead:
            ends.append(self.state)
        self.dead = False
        self.at = at
        self.context = outer
        self.graph.loops = loops
        if not ends:
            self.dead = not isinstance(node, (ast.For, ast.AsyncFor))
            return
        self.state = self.joiner.states(ends)
        for name, start in carried.items():
            end = self.state.env.get(name)
            if end is not None:
                self.graph.close_loop(start, node_of(end))
        if statement is not None and block is not None:
            for clause in statement[1:]:
                self.run_body(clause.block, [])

    def worth_unrolling(self, items: tuple[Value, ...]) -> bool:
        """A list of modules or of pairs of them: each turn does something of its own."""

        def has_objects(value: Value) -> bool:
            if isinstance(value, Seq):
                return any(has_objects(item) for item in value.items)
            obj = self.obj(value)
            return obj is not None and obj.kind in ("module", "instance", "optimizer")

        return any(has_objects(item) for item in items)

    def unroll(self, node: ast.For | ast.AsyncFor, items: tuple[Value, ...], block: Block | None) -> None:
        for item in items:
            self.assign(node.target, item, node.iter)
            self.run_body(block, node.body)
            if self.dead:
                ends = self.breaks[-1]
                if not ends:
                    return
                self.state = self.joiner.states(ends)
                self.breaks[-1] = []
                self.dead = False

    def carry(self, node: ast.stmt, block: Block | None) -> dict[str, int]:
        """Names that the body rebinds and that are there before: each begins as a loop node with its first value."""
        carried: dict[str, int] = {}
        for name in stored_names(node, block):
            value = self.state.env.get(name)
            if (
                isinstance(value, Const)
                and isinstance(value.value, (int, float))
                and not isinstance(value.value, bool)
            ):
                start = self.graph.add(
                    Node("loop", "loop", (NOWHERE,), (Edge.LIVE,), place=self.here(), note=name)
                )
                self.state.env[name] = Number(start)
            elif isinstance(value, (Tensor, Number, Array)) and not (
                isinstance(value, Tensor) and value.origin in ("parameter", "leaf")
            ):
                start = self.graph.add(
                    Node("loop", "loop", (value.node,), (Edge.LIVE,), place=self.here(), note=name)
                )
                if isinstance(value, Tensor):
                    self.state.env[name] = Tensor(start, value.dtype, None, "", "")
                elif isinstance(value, Number):
                    self.state.env[name] = Number(start)
                else:
                    self.state.env[name] = Array(start, value.dtype)
            else:
                continue
            carried[name] = start
        return carried

    def with_(self, node: ast.With | ast.AsyncWith, block: Block | None, statement: Any) -> None:
        before, block_before = self.state.grad, self.block
        at = self.at
        for item in node.items:
            value = self.evaluate(item.context_expr)
            name = self.context_name(value)
            if name in GRAD_OFF:
                self.state.grad = "off"
                self.switch_off(self.here(node))
            elif name in GRAD_ON:
                self.state.grad = "on"
            elif name == "torch.set_grad_enabled":
                obj = self.obj(value)
                self.state.grad = grad_of(obj.items[0] if obj is not None and obj.items else None)
                if self.state.grad == "off":
                    self.switch_off(self.here(node))
            if item.optional_vars is not None:
                bound: Value = value if isinstance(value, Ref) else Unknown("what a context manager gives")
                self.assign(item.optional_vars, bound, item.context_expr)
        self.run_body(block, node.body)
        self.at = at
        self.state.grad = before
        self.block = block_before

    def context_name(self, value: Value) -> str:
        obj = self.obj(value)
        if obj is not None and isinstance(obj.cls, Lib):
            return obj.cls.name
        return value.name if isinstance(value, Lib) else ""

    def try_(self, node: ast.Try, block: Block | None, statement: Statement | None) -> None:
        if block is None or statement is None:
            self.run_body(None, node.body)
            self.run_body(None, node.orelse)
            self.run_body(None, node.finalbody)
            return
        before = self.state.fork()
        self.run_block(block)
        died = self.dead
        after = self.state
        handled: State | None = None
        final: list[Clause] = []
        for clause in statement[1:]:
            if clause.line.role == "finally":
                final.append(clause)
            elif clause.line.role == "else":
                if not died:
                    self.run_block(clause.block)
                    died, after = self.dead, self.state
            else:
                # A handler: read for its own findings; what it leaves counts only where the body cannot end.
                self.state, self.dead = (before.fork() if died else after.fork()), False
                outer, branch = self.context, self.number()
                self.context = (*outer, ("b", branch, 1))
                for names in clause.line.nodes:
                    if isinstance(names, ast.ExceptHandler) and names.name:
                        self.state.env[names.name] = Unknown("an exception")
                self.run_block(clause.block)
                self.context = outer
                if not self.dead and handled is None:
                    handled = self.state
                self.state, self.dead = after, died
        if died and handled is not None:
            self.state, self.dead = handled, False
        for clause in final:
            was, self.dead = self.dead, False
            self.run_block(clause.block)
            self.dead = was or self.dead

    def match(self, node: ast.Match, block: Block | None, statement: Statement | None) -> None:
        self.evaluate(node.subject)
        before, outer, number = self.state, self.context, self.number()
        states: list[State] = [before]
        bodies: list[tuple[Block | None, list[ast.stmt]]] = []
        if block is None:
            bodies = [(None, case.body) for case in node.cases]
        else:
            assert statement is not None
            bodies = [(clause.block, []) for clause in statement[1:]]
        for arm, (body, nodes) in enumerate(bodies):
            self.state = before.fork()
            self.context = (*outer, ("b", number, arm))
            self.run_body(body, nodes)
            if not self.dead:
                states.append(self.state)
            self.dead = False
        self.context = outer
        self.state = self.joiner.states(states[1:] or states)

    def function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, block: Block | None, statement: Statement | None
    ) -> None:
        known = self.world.function_value(self, node, self.at)
        if known is not None:
            self.state.env[node.name] = known
            return
        off = any(
            isinstance(value := self.evaluate(decorator), (Lib, Ref)) and self.context_name(value) in GRAD_OFF
            for decorator in decorators_of(node, statement)
        )
        self.state.env[node.name] = Closure(node.name, node, block, off)

    def class_(self, node: ast.ClassDef, block: Block | None, statement: Any) -> None:
        value = self.world.class_value(self, node, self.at)
        self.state.env[node.name] = value if value is not None else Unknown("a class inside a function")


def decorators_of(
    node: ast.FunctionDef | ast.AsyncFunctionDef, statement: Statement | None
) -> list[ast.expr]:
    """The decorator expressions, which stand on lines of their own."""
    out = list(node.decorator_list)
    if statement is not None:
        for clause in statement.decorators:
            for one in clause.line.nodes:
                out += getattr(one, "decorator_list", [])
    return out


def picks_one(index: ast.expr) -> bool:
    """`t[torch.arange(n), y] = 1` and `t[i, y[i]] = 1`: one entry of each row."""
    if not isinstance(index, ast.Tuple) or len(index.elts) != 2:
        return False
    return all(isinstance(part, (ast.Name, ast.Subscript, ast.Call, ast.Attribute)) for part in index.elts)


def as_load(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    if isinstance(target, ast.Attribute):
        return ast.Attribute(target.value, target.attr, ast.Load())
    if isinstance(target, ast.Subscript):
        return ast.Subscript(target.value, target.slice, ast.Load())
    return target


def stored_names(node: ast.stmt, block: Block | None) -> list[str]:
    """Names that a loop's body binds, in order of appearance."""
    out: dict[str, None] = {}

    def visit(part: ast.AST) -> None:
        for inner in ast.walk(part):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                out[inner.id] = None

    def visit_block(lines: Iterable[Statement]) -> None:
        for statement in lines:
            for clause in statement:
                for part in clause.line.nodes:
                    visit(part)
                visit_block(clause.block)

    if block is not None:
        visit_block(block)
    else:
        for part in getattr(node, "body", []):
            visit(part)
    targets = (
        {inner.id for inner in ast.walk(node.target) if isinstance(inner, ast.Name)}
        if isinstance(node, (ast.For, ast.AsyncFor))
        else set()
    )
    return [name for name in out if name not in targets]


EXECUTE: dict[type[ast.stmt], Callable[[Any, Any, Any, Any], None]] = {
    ast.Expr: Statements.expression_statement,
    ast.Assign: Statements.assignment,
    ast.AnnAssign: Statements.annotated,
    ast.AugAssign: Statements.augmented,
    ast.Delete: Statements.deletion,
    ast.Return: Statements.returning,
    ast.Raise: Statements.raising,
    ast.Assert: Statements.asserting,
    ast.Global: Statements.global_,
    ast.Nonlocal: Statements.nonlocal_,
    ast.Import: Statements.importing,
    ast.ImportFrom: Statements.importing_from,
    ast.Break: Statements.break_,
    ast.Continue: Statements.continue_,
    ast.If: Statements.branch,
    ast.For: Statements.loop,
    ast.AsyncFor: Statements.loop,
    ast.While: Statements.loop,
    ast.With: Statements.with_,
    ast.AsyncWith: Statements.with_,
    ast.Try: Statements.try_,
    ast.Match: Statements.match,
    ast.FunctionDef: Statements.function,
    ast.AsyncFunctionDef: Statements.function,
    ast.ClassDef: Statements.class_,
}
if hasattr(ast, "TryStar"):
    EXECUTE[ast.TryStar] = Statements.try_
