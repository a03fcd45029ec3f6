"""Statements: names bound, branches joined, loops carried, contexts entered.

Loop bodies run at least once, `try` bodies to their end, and arms that raise do not join.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from gradsight.graph import Here
from gradsight.interpret.conditions import conditions_of, is_emptiness, leaves
from gradsight.interpret.index import LINKED, imported
from gradsight.interpret.libraries import GRAD_OFF, GRAD_ON
from gradsight.interpret.loops import Loops, body_parts
from gradsight.interpret.state import State
from gradsight.names import canonical
from gradsight.outline import Block, Clause, Statement
from gradsight.syntax import walk, written_as
from gradsight.values import (
    NONE,
    Bound,
    Class,
    Closure,
    Const,
    Lib,
    Method,
    Number,
    Obj,
    Ref,
    Seq,
    Tensor,
    Unknown,
    Value,
)

# Methods that do something, and do nothing where they are named and not called.
ACTING = frozenset({
    "backward", "step", "zero_grad", "train", "eval", "update", "detach_", "requires_grad_", "unscale_",
    "cuda", "to", "cpu", "manual_backward",
})  # fmt: skip
# Methods of tensors that only give a new tensor, and are called for it.
DROPPED_FOR_NOTHING = frozenset({
    "detach", "to", "cuda", "float", "double", "half", "long", "int", "bool", "view", "reshape", "squeeze",
    "unsqueeze", "permute", "transpose", "contiguous", "mean", "sum", "clamp", "clip", "masked_fill", "type",
    "flatten", "add", "sub", "mul", "div", "relu", "sigmoid", "softmax", "log_softmax", "requires_grad",
    "scatter", "index_fill", "index_copy", "fill_diagonal", "expand", "repeat",
})  # fmt: skip


# Contexts in which something is run to see it raise.
EXPECTING = ("suppress", "contextlib.suppress", "pytest.raises", "self.assertRaises")


def is_literal(call: ast.expr) -> bool:
    """Whether all that a call is given stands there."""
    return isinstance(call, ast.Call) and all(
        isinstance(value, ast.Constant)
        for value in (*call.args, *(keyword.value for keyword in call.keywords))
    )


def bounded(test: ast.expr | None) -> str:
    """The name that a test wants to be no end of what it counts: `i > 0`, `i != last`, `i < steps - 1`."""
    if not isinstance(test, ast.Compare) or not isinstance(test.left, ast.Name) or len(test.ops) != 1:
        return ""
    op, bound = test.ops[0], test.comparators[0]
    before = isinstance(op, ast.Lt) and isinstance(bound, ast.BinOp) and isinstance(bound.op, ast.Sub)
    behind = isinstance(op, (ast.Gt, ast.GtE)) and isinstance(bound, ast.Constant)
    return test.left.id if before or behind or isinstance(op, ast.NotEq) else ""


def is_training(node: ast.expr) -> bool:
    """`self.training`."""
    return isinstance(node, ast.Attribute) and node.attr == "training" and isinstance(node.value, ast.Name)


def is_dotted(node: ast.expr) -> bool:
    """`x`, `self.x`, `self.x.y`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


class Statements(Loops):
    """Runs blocks of logical lines."""

    def run_block(self, block: Block) -> None:
        for statement in block:
            if self.dead:
                return
            kept = self.context, self.graph.loops, self.nesting, self.tests
            depths = len(self.breaks), len(self.left)
            try:
                self.run_statement(statement)
            except RecursionError:
                # One statement nested too deeply to be followed costs itself.
                self.context, self.graph.loops, self.nesting, self.tests = kept
                del self.breaks[depths[0] :], self.left[depths[1] :]
                for clause in statement:
                    for part in clause.line.nodes:
                        for inner in ast.walk(part):
                            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                                self.state.env[inner.id] = Unknown("a statement that is nested too deeply")

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
        value = self.evaluate(node.value)
        written = node.value
        if isinstance(written, ast.Attribute):
            if written.attr in ACTING and isinstance(value, (Method, Bound, Unknown)) and not self.trying:
                self.event("uncalled", facts={"name": written.attr}, call=self.here(written))
        elif isinstance(written, ast.Call) and self.events and self.events[-1].kind == "grad":
            asked = self.events[-1].place("call")
            if isinstance(asked, Here) and asked.node is written and not self.trying:
                self.event("ungiven", self.events[-1].node, call=asked)
        elif (
            isinstance(written, ast.Call)
            and isinstance(written.func, ast.Attribute)
            and written.func.attr in DROPPED_FOR_NOTHING
            and not (self.at_module_level and not self.context)  # the last line of a cell shows its value
            and not self.trying  # whether it raises
        ):
            base = written.func.value
            receiver = self.evaluate(base) if is_dotted(base) else NONE
            if isinstance(receiver, Tensor):
                self.event(
                    "dropped",
                    receiver.node,
                    facts={"name": written.func.attr, "of": ast.unparse(base)},
                    call=self.here(written),
                )

    def returning(self, node: ast.Return, block: Any, statement: Any) -> None:
        value = self.evaluate(node.value)
        self.returns.append((value, self.state))
        self.dead = True

    def returned_loss(self, value: Value) -> Value:
        """The loss in what a training step returns: it, a dictionary's `["loss"]`, the first of a tuple."""
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
                self.state.env[alias.asname] = Lib(canonical(alias.name))
            else:
                self.state.env[alias.name.partition(".")[0]] = Lib(alias.name.partition(".")[0])

    def importing_from(self, node: ast.ImportFrom, block: Any, statement: Any) -> None:
        for alias in node.names:
            if node.module == LINKED:
                self.state.env[alias.asname or alias.name] = self.look_up(alias.name)
                continue
            if node.level or alias.name == "*":
                if alias.name != "*":
                    self.state.env[alias.asname or alias.name] = imported(node, alias.name)
                continue
            self.state.env[alias.asname or alias.name] = imported(node, alias.name)

    def break_(self, node: ast.Break, block: Any, statement: Any) -> None:
        if self.left:
            self.left[-1].append(self.state)
        self.dead = True

    def continue_(self, node: ast.Continue, block: Any, statement: Any) -> None:
        self.continues += 1
        self.last_continue = len(self.events)
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
        outer, tests = self.context, self.tests
        number = self.number()
        states: list[State] = []
        has_else = False
        at = self.at
        decided = False
        start = len(self.events)
        left: dict[str, str] = {}  # the arms that do not come to what follows
        for arm, (test, lines, nodes) in enumerate(clauses):
            if decided:
                break
            if test is not None:
                self.state = before
                known = self.evaluate(test)
                if is_emptiness(test) and leaves(lines, nodes):
                    continue  # what is given back for nothing at all says nothing of the rest
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
            self.tests = (*tests, *conditions_of(test or node.test, test is not None))
            if test is not None and self.in_loop() and any(isinstance(n, ast.Mod) for n in ast.walk(test)):
                self.event("every")
            if self.in_loop() and (counter := bounded(test)) and isinstance(self.look_up(counter), Number):
                self.event("most")
            self.narrow(test)
            early, turns = len(self.breaks[-1]) if self.breaks else 0, self.continues
            begun = len(self.events)
            self.run_body(lines, nodes)
            self.at = at
            if not self.dead:
                states.append(self.state)
            elif self.continues > turns:
                left[str(arm)] = "continue"
            else:
                left[str(arm)] = "break" if self.breaks and len(self.breaks[-1]) > early else "leave"
            if self.checkpoints(test, begun):
                states, has_else = [] if self.dead else [self.state], True
                break
            self.dead = False
        arms = len(clauses)
        if any(event.kind == "mode" for event in self.events[start:]):
            self.event("arms", facts={"else": "yes" if has_else else "", "arms": str(arms), **left})
        guarded = left and (outer or not self.at_module_level)
        self.context = (*outer, ("g", number, 0)) if guarded else outer
        asked = conditions_of(node.test, False) if left.get("0") == "leave" and len(clauses) == 1 else ()
        # Behind `if x.requires_grad: return` it does not.
        self.tests = (*tests, *(one for one in asked if "requires_grad" in one))
        if not has_else:
            states.append(before)
        self.state = before
        if not states:
            self.dead = True
            return
        self.state = self.joiner.states(states)

    def decides(self, test: ast.expr) -> bool:
        """Whether a test whose value is known decides: `if True:`, a flag that the caller gave.

        A setting of the module, such as `DEBUG = False`, is somebody's switch: both ways count.
        """
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self.decides(test.operand)
        if isinstance(test, ast.Compare):
            return not self.at_module_level
        if isinstance(test, ast.Attribute):
            return isinstance(test.value, ast.Name) and test.value.id == "self"
        if isinstance(test, ast.Name):
            return not self.at_module_level and test.id in self.state.env
        if isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.args:
            if test.func.id in ("any", "all"):
                return not self.at_module_level
            return test.func.id == "isinstance" and self.decides(test.args[0])
        if isinstance(test, ast.Call) and isinstance(test.func, ast.Attribute):
            return self.decides(test.func.value)  # of a text
        if isinstance(test, ast.BoolOp):
            return all(self.decides(each) for each in test.values)
        return isinstance(test, ast.Constant)

    def checkpoints(self, test: ast.expr | None, begun: int) -> bool:
        """Whether an arm is the way of all training, by its test: it saves memory by a checkpoint, which asks
        only whether this is training, beside switches that are known to be on."""
        if test is None or not any(event.kind == "checkpoint" for event in self.events[begun:]):
            return False
        asked = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
        switches = [each for each in asked if not is_training(each)]
        return len(switches) < len(asked) and all(
            self.decides(each) and self.evaluate(each) == Const(True) for each in switches
        )

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
            function = written_as(inner.func)
            if function in ("isinstance", "torch.is_tensor"):
                name = inner.args[0].id
                value = self.state.env.get(name)
                if isinstance(value, (Tensor, Unknown)) and (
                    function != "isinstance" or "ensor" in written_as(inner.args[1])
                ):
                    self.state.env[name] = Unknown("not a tensor here")

    def with_(self, node: ast.With | ast.AsyncWith, block: Block | None, statement: Any) -> None:
        before, block_before = self.state.grad, self.block
        at = self.at
        first = len(self.events)
        for item in node.items:
            given = self.enter(self.evaluate(item.context_expr), item.context_expr, node)
            if item.optional_vars is not None:
                self.assign(item.optional_vars, given, item.context_expr)
        expected = any(written_as(item.context_expr).startswith(EXPECTING) for item in node.items)
        self.trying += expected
        self.run_body(block, node.body)
        self.trying -= expected
        self.at = at
        self.restore_mode(before, first)
        self.block = block_before

    def enter(self, value: Value, written: ast.expr, at: ast.AST) -> Value:
        """A context is entered: the gradient mode that it sets, and what `as` binds."""
        name = self.context_name(value)
        obj = self.obj(value)
        inside = obj.get("#grad") if obj is not None else None
        if name in GRAD_OFF and self.switches_off(value):
            self.state.grad = "off"
            self.switch_off(self.here(at))
        elif name in GRAD_ON:
            self.switch_mode("on", self.here(written))
        elif name == "torch.set_grad_enabled" and self.state.grad == "off" and is_literal(written):
            self.switch_off(self.here(at))  # a block as good as `no_grad`
        elif isinstance(inside, Const):
            self.state.grad = str(inside.value)
            if self.state.grad == "off":
                self.switch_off(self.here(at))
        if obj is not None and obj.kind == "list":
            return self.element_of(value, at)  # a generator's, under `contextmanager`: what it yields
        given = self.special(value, "__enter__", [], at)
        if given is None:
            given = self.special(value, "__aenter__", [], at)
        if given is not None:
            return given
        return value if isinstance(value, Ref) else Unknown("what a context manager gives")

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
        self.trying += 1
        self.run_block(block)
        self.trying -= 1
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
        subject = self.evaluate(node.subject)
        before, outer, number = self.state, self.context, self.number()
        states: list[State] = [before]
        bodies: list[tuple[int, ast.match_case | None, Block | None, list[ast.stmt]]] = []
        at = self.at
        if block is None:
            bodies = [(at, case, None, case.body) for case in node.cases]
        else:
            assert statement is not None
            for clause in statement[1:]:
                case = next((one for one in clause.line.nodes if isinstance(one, ast.match_case)), None)
                inline = list(case.body) if case is not None and not clause.line.header else []
                bodies.append((clause.at, case, clause.block if not inline else None, inline))
        for arm, (line, case, body, nodes) in enumerate(bodies):
            self.state = before.fork()
            self.context = (*outer, ("b", number, arm))
            self.at = line
            if case is not None:
                self.capture(case.pattern, subject)
                self.evaluate(case.guard)
            self.run_body(body, nodes)
            self.at = at
            if not self.dead:
                states.append(self.state)
            self.dead = False
        self.context = outer
        self.state = self.joiner.states(states[1:] or states)

    def capture(self, pattern: ast.pattern, subject: Value) -> None:
        """The names that a pattern binds where it fits."""
        if isinstance(pattern, ast.MatchAs):
            if pattern.pattern is not None:
                self.capture(pattern.pattern, subject)
            self.bind_name(pattern.name, subject)
        elif isinstance(pattern, ast.MatchOr):
            for one in pattern.patterns:
                self.capture(one, subject)
        elif isinstance(pattern, ast.MatchStar):
            self.bind_name(pattern.name, subject)
        elif isinstance(pattern, ast.MatchSequence):
            targets = pattern.patterns
            stars = [i for i, one in enumerate(targets) if isinstance(one, ast.MatchStar)]
            items = self.items(subject)
            obj = self.obj(subject)
            if items is None or (obj is not None and obj.many) or (not stars and len(items) != len(targets)):
                for one in targets:
                    self.capture(one, self.element_of(subject, pattern))
                return
            tail = len(targets) - stars[0] - 1 if stars else 0
            for i, one in enumerate(targets):
                if stars and i == stars[0]:
                    middle = items[i : len(items) - tail]
                    self.capture(one, self.allocate(Obj("list", None, items=middle)))
                elif i < len(items):
                    self.capture(one, items[i - len(targets) if stars and i > stars[0] else i])
        elif isinstance(pattern, ast.MatchMapping):
            for key, one in zip(pattern.keys, pattern.patterns, strict=True):
                self.capture(one, self.item(subject, self.evaluate(key), key))
            self.bind_name(pattern.rest, subject)
        elif isinstance(pattern, ast.MatchClass):
            obj = self.obj(subject)
            info = (
                self.world.class_info(obj.cls.cid) if obj is not None and isinstance(obj.cls, Class) else None
            )
            named = [name for name, _ in info.fields] if info is not None else []
            if not named and len(pattern.patterns) == 1:
                self.capture(pattern.patterns[0], subject)  # `float(x)`
            for name, one in zip(named, pattern.patterns, strict=False):
                self.capture(one, self.get_attribute(subject, name, pattern))
            for name, one in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
                self.capture(one, self.get_attribute(subject, name, pattern))

    def bind_name(self, name: str | None, value: Value) -> None:
        if name is not None:
            self.state.env[name] = value

    def function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, block: Block | None, statement: Statement | None
    ) -> None:
        known = self.world.function_value(self.at) if self.at_module_level else None
        if known is not None:
            self.state.env[node.name] = known
            return
        off = any(
            isinstance(value := self.evaluate(decorator), (Lib, Ref)) and self.context_name(value) in GRAD_OFF
            for decorator in decorators_of(node, statement)
        )
        self.closures = True
        owner = self.owner or self.function_name
        closure = Closure(node.name, node, block, off, owner, self.at)
        self.state.env[node.name] = closure
        parts = (n for part in body_parts(node, block) for n in walk(part))
        if any(isinstance(part, ast.Attribute) and part.attr == "backward" for part in parts):
            self.waiting[id(node)] = closure

    def enter_waiting(self) -> None:
        """Call what differentiates in nested functions not called so far: an engine does, later."""
        before, context = self.state, self.context
        for closure in tuple(self.waiting.values()):
            given = closure.node.args
            bare = [*given.posonlyargs, *given.args]
            bare = bare[: len(bare) - len(given.defaults)]
            self.state, self.context = before.fork(), (*context, ("m", self.number(), 0))
            args: list[Value] = []
            for parameter in bare:
                origin = self.source("argument", parameter.arg, closure.node)
                args.append(Unknown(f"the argument `{parameter.arg}` is not known here", origin))
            self.call_closure(closure, args, {}, closure.node)
        self.state, self.context = before, context

    def class_(self, node: ast.ClassDef, block: Block | None, statement: Any) -> None:
        value = self.world.class_value(node.name) if self.at_module_level else None
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
