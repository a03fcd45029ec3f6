"""Transformations of structure: chains split, training code moved into functions and classes, noise added."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from harness.metamorphic import AT_ARGUMENT, Work, marks

Body = list[ast.stmt]
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def reformat(work: Work) -> bool:
    """Comments and layout go."""
    return True


# Chains and nested calls.


def split_chains(work: Work) -> bool:
    """`a = f(x).g()` becomes `t0 = f(x)` and `a = t0.g()`, wherever all of it is evaluated in any case."""
    splitter = _Splitter(work)
    for node in list(ast.walk(work.tree)):
        if isinstance(node, ast.ClassDef):
            continue  # a temporary would become an attribute
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                setattr(node, name, [each for statement in body for each in splitter.split(statement)])
    return splitter.count > 0


class _Splitter:
    def __init__(self, work: Work) -> None:
        self.work = work
        self.count = 0
        self.before: Body = []

    def split(self, statement: ast.stmt) -> Body:
        """The statements that do the same."""
        self.before = []
        if isinstance(statement, (ast.Assign, ast.Return, ast.Expr)) and statement.value is not None:
            statement.value = self.parts(statement.value)
        elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            statement.value = self.parts(statement.value)
        elif isinstance(statement, ast.For):
            statement.iter = self.parts(statement.iter)
        return [*self.before, statement]

    def parts(self, node: ast.expr) -> ast.expr:
        """The expression with what is nested in it moved out."""
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id == "super":
                return node
            if isinstance(node.func, ast.Attribute):
                node.func.value = self.atom(node.func.value)
            elif not isinstance(node.func, ast.Name):
                node.func = self.atom(node.func)
            node.args = [self.argument(each) for each in node.args]
            for keyword in node.keywords:
                keyword.value = self.argument(keyword.value)
        elif isinstance(node, ast.BinOp):
            node.left, node.right = self.atom(node.left), self.atom(node.right)
        elif isinstance(node, ast.UnaryOp):
            node.operand = self.atom(node.operand)
        elif isinstance(node, (ast.Tuple, ast.List)):
            node.elts = [self.argument(each) for each in node.elts]
        elif isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
            node.value = self.atom(node.value)
        return node

    def argument(self, node: ast.expr) -> ast.expr:
        """What may stand as an argument: arithmetic without calls stays."""
        if isinstance(node, ast.Starred):
            node.value = self.atom(node.value)
            return node
        return self.atom(node) if _calls(node) else node

    def atom(self, node: ast.expr) -> ast.expr:
        """A name for the expression, if it is not as good as one."""
        if isinstance(node, (ast.Name, ast.Constant, ast.Lambda)):
            return node
        if isinstance(node, (ast.Attribute, ast.Subscript, ast.Tuple, ast.List, ast.UnaryOp)) and not _calls(
            node
        ):
            return node
        if isinstance(node, ast.Attribute):
            node.value = self.atom(node.value)
            return node
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super":
            return node
        value = self.parts(node)
        name = self.work.fresh("t")
        self.before.append(ast.Assign([ast.Name(name, ast.Store())], value))
        self.count += 1
        replacement = ast.Name(name, ast.Load())
        for number in list(marks(node)):
            if self.work.codes[number] in AT_ARGUMENT and not isinstance(node, ast.BinOp):
                marks(node).remove(number)
                marks(replacement).append(number)
        return replacement


def _calls(node: ast.AST) -> bool:
    return any(isinstance(each, (ast.Call, ast.Await, ast.Yield, ast.YieldFrom)) for each in ast.walk(node))


# Code of the module into a function or a class.


def into_main(work: Work) -> bool:
    """The training code at the module's end moves into a function, which is called."""
    head, code = _training_code(work.tree)
    if not code:
        return False
    name = work.fresh("run_all")
    shared = _globals_of(head, code)
    body: Body = [*([ast.Global(shared)] if shared else []), *code]
    work.tree.body = [*head, _function(name, [], body), ast.Expr(_call(ast.Name(name, ast.Load()), []))]
    work.locals_of = (name,)
    return True


def into_class(work: Work) -> bool:
    """The training code becomes a class: its beginning in `__init__`, the rest in a method."""
    head, code = _training_code(work.tree)
    cut = next(
        (
            number
            for number, each in enumerate(code)
            if isinstance(each, (ast.For, ast.While, ast.With, ast.If))
        ),
        len(code) - 1,
    )
    setup, rest = code[:cut], code[cut:]
    if not setup or not rest:
        return False
    shared = _globals_of(head, code)
    fields = [
        name
        for name in _stored(setup)
        if name not in shared and name in {*_loaded(rest), *_stored(rest), *_loaded_in_facts(work)}
    ]
    if any(name in _inner_names(code) for name in fields):
        return False
    to_field = _ToField(fields)
    for statement in code:
        to_field.visit(statement)
    outside, job = work.fresh("Job"), work.fresh("job")
    declared: Body = [ast.Global(shared)] if shared else []
    this = [ast.arg("self")]
    work.used.update(node.attr for node in ast.walk(work.tree) if isinstance(node, ast.Attribute))
    start = work.fresh("start")
    made = ast.ClassDef(
        outside,
        [],
        [],
        [_function("__init__", this, [*declared, *setup]), _function(start, this, [*declared, *rest])],
        [],
    )
    started = ast.Assign([ast.Name(job, ast.Store())], _call(ast.Name(outside, ast.Load()), []))
    run = ast.Expr(_call(ast.Attribute(ast.Name(job, ast.Load()), start, ast.Load()), []))
    work.tree.body = [*head, made, started, run]
    work.locals_of = (f"{outside}.__init__", f"{outside}.{start}")
    work.rename_facts(to_field.visit)
    return True


class _ToField(ast.NodeTransformer):
    def __init__(self, names: list[str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.names:
            return node
        field = ast.Attribute(ast.Name("self", ast.Load()), node.id, node.ctx)
        marks(field).extend(marks(node))
        return field


def _training_code(tree: ast.Module) -> tuple[Body, Body]:
    """The module up to its last definition or import, and what comes behind."""
    last = max(
        (
            number
            for number, each in enumerate(tree.body)
            if isinstance(each, (*DEFINITIONS, ast.Import, ast.ImportFrom)) or _is_docstring(each, number)
        ),
        default=-1,
    )
    return tree.body[: last + 1], tree.body[last + 1 :]


def _globals_of(head: Body, code: Body) -> list[str]:
    """Names that the code binds and functions of the head read, or the head binds, too."""
    elsewhere = {
        *_stored(head),
        *(name for each in head if isinstance(each, DEFINITIONS) for name in _loaded([each])),
    }
    return sorted(name for name in _stored(code) if name in elsewhere)


def _loaded_in_facts(work: Work) -> set[str]:
    return {
        name
        for fact in work.facts
        if isinstance(fact, str)
        for name in _loaded([ast.parse(fact, mode="eval")])
    }


def _inner_names(code: Body) -> set[str]:
    """Names that comprehensions and lambdas bind for themselves."""
    found: set[str] = set()
    for statement in code:
        for node in ast.walk(statement):
            if isinstance(node, ast.comprehension):
                found.update(_stored([node.target]))
            elif isinstance(node, ast.arg):
                found.add(node.arg)
    return found


# A part of a body into a helper or a method.


def into_helper(work: Work) -> bool:
    """A stretch of statements moves into a function of the module."""
    return _extract(work, method=False)


def into_method(work: Work) -> bool:
    """A stretch of a method moves into a method of its own."""
    return _extract(work, method=True)


def _extract(work: Work, *, method: bool) -> bool:
    best: _Part | None = None
    for top in work.tree.body:
        scopes: list[tuple[ast.ClassDef | None, ast.FunctionDef | None]] = []
        if isinstance(top, ast.ClassDef):
            scopes = [(top, each) for each in top.body if isinstance(each, ast.FunctionDef)]
        elif isinstance(top, ast.FunctionDef) and not method:
            scopes = [(None, top)]
        for owner, function in scopes:
            if function and not function.decorator_list and not (method and not _takes_self(function)):
                best = _better(best, _best_part(work, owner, function, top))
    if not method:
        _, code = _training_code(work.tree)
        if code:
            best = _better(best, _best_part(work, None, None, code[0]))
    if best is None:
        return False
    best.move(work, method=method)
    return True


class _Part:
    """Statements body[first:stop] of a scope, what they need and what they leave."""

    def __init__(
        self,
        body: Body,
        first: int,
        stop: int,
        needs: list[str],
        leaves: list[str],
        owner: ast.ClassDef | None,
        function: ast.FunctionDef | None,
        top: ast.stmt,
    ) -> None:
        self.body, self.first, self.stop = body, first, stop
        self.needs, self.leaves, self.owner, self.function, self.top = needs, leaves, owner, function, top

    def weight(self) -> tuple[bool, int]:
        return len(self.body) > self.stop - self.first, self.stop - self.first

    def move(self, work: Work, *, method: bool) -> None:
        statements = self.body[self.first : self.stop]
        name = work.fresh("part")
        returns = isinstance(statements[-1], ast.Return)
        needs = [each for each in self.needs if not (method and each == "self")]
        arguments = [ast.arg(each) for each in ([*(["self"] if method else []), *needs])]
        given: list[ast.expr] = [ast.Name(each, ast.Load()) for each in needs]
        callee: ast.expr = ast.Name(name, ast.Load())
        if method:
            callee = ast.Attribute(ast.Name("self", ast.Load()), name, ast.Load())
        call = _call(callee, given)
        made: Body = list(statements)
        replacement: ast.stmt
        if returns:
            replacement = ast.Return(call)
        elif not self.leaves:
            replacement = ast.Expr(call)
        else:
            made.append(ast.Return(_names(self.leaves, ast.Load())))
            replacement = ast.Assign([_names(self.leaves, ast.Store())], call)
        self.body[self.first : self.stop] = [replacement]
        helper = _function(name, arguments, made)
        work.locals_of = (f"{self.owner.name}.{name}" if method and self.owner else name,)
        if method:
            assert self.owner
            assert self.function
            self.owner.body.insert(self.owner.body.index(self.function) + 1, helper)
        else:
            work.tree.body.insert(
                work.tree.body.index(replacement if self.top in statements else self.top), helper
            )


def _better(a: _Part | None, b: _Part | None) -> _Part | None:
    return max((each for each in (a, b) if each), key=_Part.weight, default=None)


def _best_part(
    work: Work, owner: ast.ClassDef | None, function: ast.FunctionDef | None, top: ast.stmt
) -> _Part | None:
    """The longest stretch of a scope's statements that can be moved, of those that are not all of a body."""
    whole: Body = function.body if function else _training_code(work.tree)[1]
    local = _stored(work.tree.body)
    read_by_functions = _loaded([each for each in work.tree.body if isinstance(each, DEFINITIONS)])
    if function:
        local = {*_stored(whole), *_defined(whole), *_parameters(function)}
    best: _Part | None = None
    bound = set(_parameters(function)) if function else _certain(_training_code(work.tree)[0])

    def visit(body: Body, bound: set[str], start: int, level: int) -> None:
        nonlocal best
        known = set(bound)
        for first in range(start, len(body)):
            for stop in range(len(body), first, -1):
                best = _better(best, part(body, first, stop, known, level))
            statement = body[first]
            if isinstance(statement, (ast.For, ast.With)):
                inside = known | (_stored([statement.target]) if isinstance(statement, ast.For) else set())
                visit(statement.body, inside | _certain([statement]), 0, level + 1)
            known |= _certain([statement])
            if function:
                known |= _defined([statement])

    def part(body: Body, first: int, stop: int, known: set[str], level: int) -> _Part | None:
        statements = body[first:stop]
        if any(_is_docstring(each, number) for number, each in enumerate(body) if first <= number < stop):
            return None
        if not _movable(statements, may_return=function is not None and level == 0 and stop == len(body)):
            return None
        needs = [name for name in _needed(statements) if name in local]
        outside = _loaded_outside(function or work.tree, statements)
        if not function:
            outside |= _loaded_in_facts(work)
        stored = _stored(statements)
        if function and stored & _declared_global(function):
            return None  # in a function of its own it would be bound there only
        leaves = sorted(name for name in stored if name in outside)
        if not function and stored & read_by_functions:
            return None  # they may be called before the part hands back what they read
        if isinstance(statements[-1], ast.Return):
            leaves = []
        certain = _certain(statements)
        needs += [name for name in leaves if name not in certain and name not in needs]
        if any(name not in known for name in needs):
            return None
        return _Part(body, first, stop, needs, leaves, owner, function, top)

    offset = 0 if function else len(_training_code(work.tree)[0])
    visit(whole if function else work.tree.body, bound, offset, 0)
    return best


def _movable(statements: Body, *, may_return: bool) -> bool:
    for number, statement in enumerate(statements):
        last = number == len(statements) - 1
        for node in ast.walk(statement):
            if isinstance(node, ast.Return) and may_return and last and node is statement and node.value:
                continue
            if isinstance(
                node, (*DEFINITIONS, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.Return)
            ):
                return False
            if isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr, ast.Delete)):
                return False
            if isinstance(node, (ast.Break, ast.Continue)) and not _in_own_loop(statements, node):
                return False
            if isinstance(node, ast.Name) and node.id in ("super", "locals", "globals", "__class__"):
                return False
    return True


def _in_own_loop(statements: Body, node: ast.AST) -> bool:
    return any(
        isinstance(loop, (ast.For, ast.While)) and any(each is node for each in ast.walk(loop))
        for statement in statements
        for loop in ast.walk(statement)
    )


def _needed(statements: Body) -> list[str]:
    """Names that are read before the statements have bound them for certain."""
    found: dict[str, None] = {}
    bound: set[str] = set()
    for statement in statements:
        loads = _loaded([statement])
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            loads = {*loads, statement.target.id}
        elif not isinstance(statement, (ast.Assign, ast.Expr, ast.Return, ast.AnnAssign)):
            loads = loads | {
                each.target.id
                for each in ast.walk(statement)
                if isinstance(each, ast.AugAssign) and isinstance(each.target, ast.Name)
            }
            loads -= _bound_first(statement)
        found.update(dict.fromkeys(sorted(name for name in loads if name not in bound)))
        bound |= _certain([statement])
    return list(found)


def _bound_first(statement: ast.stmt) -> set[str]:
    """Names that a loop or block binds before it reads them, for certain."""
    if isinstance(statement, ast.For):
        first = _stored([statement.target]) - _loaded([statement.iter])
        return first | (_bound_by(statement.body, first) - _loaded([statement.iter]))
    if isinstance(statement, ast.With):
        first = {
            name for item in statement.items if item.optional_vars for name in _stored([item.optional_vars])
        }
        read = {name for item in statement.items for name in _loaded([item.context_expr])}
        return (first | _bound_by(statement.body, first)) - read
    return set()


def _bound_by(body: Body, known: set[str]) -> set[str]:
    return _certain(body) - (set(_needed(body)) - known)


def _certain(statements: Body) -> set[str]:
    """Names that are bound whichever way the statements take."""
    found: set[str] = set()
    for statement in statements:
        if isinstance(statement, ast.Assign):
            found |= {name for target in statement.targets for name in _stored([target])}
        elif isinstance(statement, (ast.AugAssign, ast.AnnAssign)) and statement.value is not None:
            found |= _stored([statement.target])
        elif isinstance(statement, ast.With):
            found |= {
                name
                for item in statement.items
                if item.optional_vars
                for name in _stored([item.optional_vars])
            }
            found |= _certain(statement.body)
        elif isinstance(statement, ast.For) and isinstance(statement.iter, ast.Call):
            # `for step in range(3)` runs: what a loop over data binds is read behind it in good faith
            found |= _stored([statement.target]) | _certain(statement.body)
    return found


def _declared_global(function: ast.FunctionDef) -> set[str]:
    return {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}


def _loaded_outside(scope: ast.AST, statements: Body) -> set[str]:
    """Names that are read in a scope elsewhere; where the statements stand in a loop, within them, too."""
    inside = {id(node) for statement in statements for node in ast.walk(statement)}
    found = {
        node.id
        for node in ast.walk(scope)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in inside
    }
    found |= {
        node.target.id
        for node in ast.walk(scope)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and id(node) not in inside
    }
    for loop in ast.walk(scope):
        if isinstance(loop, (ast.For, ast.While)) and any(each in loop.body for each in statements):
            found |= set(_needed(statements))
    loops = [node for node in ast.walk(scope) if isinstance(node, (ast.For, ast.While))]
    if any(id(statements[0]) in {id(each) for each in ast.walk(loop)} - {id(loop)} for loop in loops):
        found |= set(_needed(statements))
    return found


# Noise.


def add_unrelated(work: Work) -> bool:
    """Counters, prints of nothing, definitions that nobody uses; comments come with `with_comments`."""
    counter = work.fresh("ticks")
    for node in ast.walk(work.tree):
        if isinstance(node, (ast.FunctionDef, ast.For, ast.With, ast.While)):
            at = 1 if _is_docstring(node.body[0], 0) else 0
            node.body[at:at] = ast.parse(f"{counter}.append(len({counter}))").body
            if not isinstance(node.body[-1], (ast.Return, ast.Break, ast.Continue, ast.Raise)):
                node.body += ast.parse("print(end='')").body
    shout, shelf = work.fresh("shout"), work.fresh("Shelf")
    unused = ast.parse(
        f"{counter} = []\n"
        f"def {shout}(text, times=2):\n    text = text.upper()\n    return ' '.join([text] * times)\n"
        f"class {shelf}:\n    size = 3\n    def full(self, books):\n        return len(books) >= self.size\n"
    ).body
    at = 0
    for number, each in enumerate(work.tree.body):
        if isinstance(each, (ast.Import, ast.ImportFrom)) or _is_docstring(each, number):
            at = number + 1
        else:
            break
    work.tree.body[at:at] = unused
    return True


# Small trees.


def _function(name: str, arguments: list[ast.arg], body: Body) -> ast.FunctionDef:
    parameters = ast.arguments(posonlyargs=[], args=arguments, kwonlyargs=[], kw_defaults=[], defaults=[])
    made = ast.FunctionDef(name, parameters, body, [])
    made.type_params = []  # type: ignore[attr-defined]
    return made


def _call(function: ast.expr, arguments: list[ast.expr]) -> ast.Call:
    return ast.Call(function, arguments, [])


def _names(names: list[str], context: ast.expr_context) -> ast.expr:
    each: list[ast.expr] = [ast.Name(name, context) for name in names]
    return each[0] if len(each) == 1 else ast.Tuple(each, context)


def _is_docstring(statement: ast.stmt, at: int) -> bool:
    return (
        at == 0
        and isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _takes_self(function: ast.FunctionDef) -> bool:
    return bool(function.args.args) and function.args.args[0].arg == "self"


def _parameters(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    return [each.arg for each in every if each]


def _stored(nodes: Sequence[ast.AST]) -> set[str]:
    """Names bound, but for those that comprehensions, lambdas and definitions bind for themselves."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
        if not isinstance(
            node, (*DEFINITIONS, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
        ):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def _defined(body: Body) -> set[str]:
    """Names bound by definitions and imports."""
    found: set[str] = set()
    for statement in body:
        if isinstance(statement, DEFINITIONS):
            found.add(statement.name)
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            found.update(alias.asname or alias.name.split(".")[0] for alias in statement.names)
    return found


def _loaded(nodes: Sequence[ast.AST]) -> set[str]:
    """Names read that are not bound by the comprehension, lambda or definition that reads them."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                found.add(node.id)
            continue
        own: set[str] = set()
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            own = {name for each in node.generators for name in _stored([each.target])}
        elif isinstance(node, (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef)):
            own = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
            if not isinstance(node, ast.Lambda):
                own |= _stored(node.body) | _defined(node.body)
        found |= _loaded(list(ast.iter_child_nodes(node))) - own
    return found
