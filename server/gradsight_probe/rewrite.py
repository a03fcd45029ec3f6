"""Rewrites a program so that every binding tells the recorder its value; nothing else about it changes.

Invariants: rows never move; a value passes through the recorder unchanged; no attribute is read that the
program itself does not read (a property may have effects), except the receiver of a mutating call. The
names of the recorder's functions have one leading underscore: two would be mangled inside a class body.
"""

from __future__ import annotations

import ast
import types
from typing import Any

BIND = "_gradsight_bind_"
BIND_ALL = "_gradsight_bind_all_"
SINK = "_gradsight_sink_"

# What gives only a shape, a type or a place: its result does not depend on the value.
METADATA = frozenset(
    [
        "shape",
        "dtype",
        "device",
        "size",
        "dim",
        "ndim",
        "numel",
        "requires_grad",
        "is_leaf",
        "grad_fn",
        "zeros_like",
        "ones_like",
        "rand_like",
        "randn_like",
        "empty_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_empty",
        "new_full",
        "parameters",
        "named_parameters",
        "state_dict",
        "len",
        "isinstance",
        "range",
        "type",
        "id",
        "is_cuda",
    ]
)
# Makes a tensor whose history is not that of its arguments, and that a function mode does not see.
REWRAPPERS = frozenset(
    [
        "Tensor",
        "FloatTensor",
        "DoubleTensor",
        "HalfTensor",
        "BFloat16Tensor",
        "LongTensor",
        "IntTensor",
        "BoolTensor",
        "Parameter",
        "Variable",
        "from_numpy",
        "asarray",
        "frombuffer",
        "from_dlpack",
        "UninitializedParameter",
    ]
)
MUTATORS = frozenset(["append", "extend", "add", "insert", "update", "setdefault", "appendleft", "push"])
SINKS = frozenset(["backward", "manual_backward"])


class Site:
    """One place of the program that tells the recorder something."""

    __slots__ = ("deps", "end_row", "file", "first_row", "key", "kind", "name", "rewraps", "row", "scope")

    def __init__(
        self,
        kind: Any,
        file: Any,
        node: Any,
        value: Any,
        name: Any,
        scope: Any,
        deps: Any = (),
        rewraps: Any = (),
        key: Any = None,
    ) -> None:
        self.kind = kind  # bind, return, argument, update, sink
        self.file = file
        self.row = node.lineno
        nodes = [node] if value is None else [node, value]
        self.first_row = min(item.lineno for item in nodes)  # of the whole expression
        self.end_row = max(getattr(item, "end_lineno", None) or item.lineno for item in nodes)
        self.name = name
        self.scope = scope
        self.key = key  # where later reads of the name look for this binding; None for a return
        self.deps = deps  # for each name read: the keys it may be found under, innermost first
        self.rewraps = rewraps  # the same for the names that a rewrapping constructor reads


def to_dotted(node: Any) -> str | None:
    """`a.b.c` for a chain of attributes of a name, else None."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    parts.append(node.id)
    return ".".join(reversed(parts))


def _last_name(func: Any) -> Any:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def names_read(expression: ast.AST) -> tuple[str, ...]:
    """The dotted names whose values `expression` may depend on, without those read for metadata only."""
    found = []
    skipped: set[int] = set()
    for node in ast.walk(expression):
        if isinstance(node, ast.Attribute) and node.attr in METADATA:
            skipped.update(id(inner) for inner in ast.walk(node.value))
        elif isinstance(node, ast.Call) and _last_name(node.func) in METADATA:
            for argument in node.args:
                skipped.update(id(inner) for inner in ast.walk(argument))
    for node in ast.walk(expression):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.append(node.id)
        elif isinstance(node, ast.Attribute):
            dotted = to_dotted(node)
            if dotted:
                found.append(dotted)
    return tuple(dict.fromkeys(found))


def _rewrapped_names(expression: Any) -> Any:
    found: list[str] = []
    for node in ast.walk(expression):
        if isinstance(node, ast.Call) and _last_name(node.func) in REWRAPPERS:
            for argument in node.args:
                found.extend(names_read(argument))
    return tuple(dict.fromkeys(found))


def _to_name(target: Any) -> Any:
    """The name under which a target is shown and found again; None for what has none."""
    if isinstance(target, (ast.Name, ast.Attribute)):
        return to_dotted(target)
    if isinstance(target, ast.Subscript):
        return _to_name(target.value)
    if isinstance(target, ast.Starred):
        return _to_name(target.value)
    return None


def _plain_names(target: Any) -> Any:
    """The plain names that a target of several binds, in order."""
    if isinstance(target, ast.Name):
        return [target]
    if isinstance(target, ast.Starred):
        return _plain_names(target.value)
    if isinstance(target, (ast.Tuple, ast.List)):
        return [name for element in target.elts for name in _plain_names(element)]
    return []


class Rewriter(ast.NodeTransformer):
    """Turns a module's tree into one that records; `sites` grows by what it puts in."""

    def __init__(self, file: Any, sites: Any) -> None:
        self.file = file
        self.sites = sites
        self.scopes = [("",)]  # function scopes, each a path; class bodies are not seen from methods
        self.classes: list[tuple[str, ...]] = []
        self.outer_names: list[dict[str, Any]] = [
            {}
        ]  # per function: names declared global or nonlocal -> their scope

    # -- keys ---------------------------------------------------------------------------------------

    def _key(self, name: Any, reading: Any = False) -> Any:
        head = name.partition(".")[0]
        if head in ("self", "cls") and self.classes and len(self.scopes) > 1:
            return (self.file, ("class",) + self.classes[-1], name)
        declared = self.outer_names[-1].get(head)
        if declared is not None:
            return (self.file, declared, name)
        return (self.file, self.scopes[-1], name)

    def _candidates(self, name: Any) -> Any:
        keys = [self._key(name)]
        for scope in reversed(self.scopes[:-1]):
            keys.append((self.file, scope, name))
        return tuple(dict.fromkeys(keys))

    def _deps(self, names: Any) -> Any:
        return tuple(self._candidates(name) for name in names)

    def _site(self, kind: Any, node: Any, name: Any, value: Any, extra: Any = (), key: Any = True) -> Any:
        names = (names_read(value) if value is not None else ()) + tuple(extra)
        site = Site(
            kind,
            self.file,
            node,
            value,
            name,
            self.scopes[-1],
            self._deps(dict.fromkeys(names)),
            self._deps(_rewrapped_names(value)) if value is not None else (),
            self._key(name) if key else None,
        )
        self.sites.append(site)
        return len(self.sites) - 1

    # -- pieces of code -----------------------------------------------------------------------------

    @staticmethod
    def _call(at: Any, function: Any, *arguments: Any) -> Any:
        call = ast.Call(ast.Name(function, ast.Load()), list(arguments), [])
        return ast.fix_missing_locations(ast.copy_location(call, at))

    def _wrapped(self, at: Any, index: Any, value: Any) -> Any:
        call = ast.Call(ast.Name(BIND, ast.Load()), [ast.Constant(index), value], [])
        ast.copy_location(call, value)
        for inner in (call.func, call.args[0]):
            ast.copy_location(inner, value)
        return call

    def _bind_all(self, at: Any, pairs: Any) -> Any:
        """A statement that records several names after they were bound together."""
        if not pairs:
            return []
        indices = ast.Tuple([ast.Constant(index) for index, _ in pairs], ast.Load())
        values = ast.Tuple([value for _, value in pairs], ast.Load())
        statement = ast.Expr(self._call(at, BIND_ALL, indices, values))
        return [ast.fix_missing_locations(ast.copy_location(statement, at))]

    def _bind_names(self, at: Any, kind: Any, target: Any, value: Any) -> Any:
        names = _plain_names(target)
        return self._bind_all(
            at,
            [
                (
                    self._site(kind, target, name.id, value),
                    ast.copy_location(ast.Name(name.id, ast.Load()), at),
                )
                for name in names
            ],
        )

    def _before(self, node: Any, expression: Any) -> Any:
        """The statement that tells which values are about to be asked for a gradient, if any are."""
        if expression is None:
            return []
        names: list[str] = []
        for call in ast.walk(expression):
            if isinstance(call, ast.Call):
                name = _last_name(call.func)
                if name in SINKS or (name == "grad" and call.args):
                    if isinstance(call.func, ast.Attribute) and name in SINKS:
                        names.extend(names_read(call.func.value))
                    for argument in call.args[:1]:
                        names.extend(names_read(argument))
        if not names:
            return []
        self.sites.append(
            Site("sink", self.file, node, None, "", self.scopes[-1], self._deps(dict.fromkeys(names)))
        )
        statement = ast.Expr(self._call(node, SINK, ast.Constant(len(self.sites) - 1)))
        return [ast.fix_missing_locations(ast.copy_location(statement, node))]

    # -- statements ---------------------------------------------------------------------------------

    def visit_Assign(self, node: Any) -> Any:
        before = self._before(node, node.value)
        value = node.value
        after = []
        original = value
        node = self.generic_visit(node)
        for target in node.targets:
            name = _to_name(target)
            if isinstance(target, ast.Subscript) and name is not None:
                # the container is what later reads find; reading a plain name has no effect
                site = self._site("update", target, name, original, (name,))
                if isinstance(target.value, ast.Name):
                    after += self._bind_all(
                        node, [(site, ast.copy_location(ast.Name(name, ast.Load()), node))]
                    )
                else:
                    node.value = self._wrapped(node, site, node.value)
            elif name is not None:
                node.value = self._wrapped(node, self._site("bind", target, name, original), node.value)
            else:
                after += self._bind_names(node, "bind", target, original)
        return [*before, node, *after]

    def visit_AnnAssign(self, node: Any) -> Any:
        original = node.value
        node = self.generic_visit(node)
        name = _to_name(node.target)
        if original is None or name is None:
            return node
        node.value = self._wrapped(node, self._site("bind", node.target, name, original), node.value)
        return node

    def visit_AugAssign(self, node: Any) -> Any:
        original = node.value
        node = self.generic_visit(node)
        name = _to_name(node.target)
        if name is None:
            return node
        index = self._site("update", node.target, name, original, (name,))
        base = node.target.value if isinstance(node.target, ast.Subscript) else node.target
        if not isinstance(base, (ast.Name, ast.Attribute)):
            return node
        return [node, *self._bind_all(node, [(index, _loaded(base))])]

    def visit_NamedExpr(self, node: Any) -> Any:
        original = node.value
        node = self.generic_visit(node)
        node.value = self._wrapped(node, self._site("bind", node, node.target.id, original), node.value)
        return node

    def visit_Return(self, node: Any) -> Any:
        original = node.value
        if original is None:
            return node
        before = self._before(node, original)
        node = self.generic_visit(node)
        node.value = self._wrapped(
            node, self._site("return", node, "return", original, key=False), node.value
        )
        return [*before, node]

    def visit_Expr(self, node: Any) -> Any:
        original = node.value
        before = self._before(node, original)
        node = self.generic_visit(node)
        after = []
        if isinstance(original, ast.Call) and isinstance(original.func, ast.Attribute):
            method = original.func.attr
            receiver = original.func.value
            mutates = method in MUTATORS or (method.endswith("_") and not method.endswith("__"))
            if mutates and isinstance(receiver, (ast.Name, ast.Attribute)) and to_dotted(receiver):
                name = to_dotted(receiver)
                index = self._site("update", node, name, original, (name,))
                after = self._bind_all(node, [(index, _loaded(receiver))])
        return [*before, node, *after]

    def visit_For(self, node: Any) -> Any:
        original = node.iter
        node = self.generic_visit(node)
        node.body[:0] = self._bind_names(node.body[0], "bind", node.target, original)
        return node

    visit_AsyncFor = visit_For

    def visit_With(self, node: Any) -> Any:
        originals = [(item.context_expr, item.optional_vars) for item in node.items]
        node = self.generic_visit(node)
        inserted = []
        for expression, target in originals:
            if target is not None:
                inserted += self._bind_names(node.body[0], "bind", target, expression)
        node.body[:0] = inserted
        return node

    visit_AsyncWith = visit_With

    # -- scopes -------------------------------------------------------------------------------------

    def visit_ClassDef(self, node: Any) -> Any:
        self.classes.append(self.scopes[-1] + (node.name,))
        node = self.generic_visit(node)
        self.classes.pop()
        return node

    def visit_FunctionDef(self, node: Any) -> Any:
        node.decorator_list = [self.visit(item) for item in node.decorator_list]
        node.args = self.visit(node.args)
        inner = (self.classes[-1] if self.classes else self.scopes[-1]) + (node.name,)
        declared = {}
        for statement in _own_statements(node):
            if isinstance(statement, ast.Global):
                declared.update(dict.fromkeys(statement.names, self.scopes[0]))
            elif isinstance(statement, ast.Nonlocal):
                declared.update(dict.fromkeys(statement.names, self.scopes[-1]))
        self.scopes.append(inner)
        self.outer_names.append(declared)
        arguments = node.args
        every = getattr(arguments, "posonlyargs", []) + arguments.args + arguments.kwonlyargs
        every += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
        pairs = []
        for argument in every:
            if argument.arg not in ("self", "cls"):
                index = self._site("argument", argument, argument.arg, None)
                pairs.append((index, ast.copy_location(ast.Name(argument.arg, ast.Load()), argument)))
        body = []
        for statement in node.body:
            result = self.visit(statement)
            body.extend(result if isinstance(result, list) else [result])
        first = body[0]
        has_doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        has_doc = has_doc and isinstance(first.value.value, str)
        body[1 if has_doc else 0 : 1 if has_doc else 0] = self._bind_all(node, pairs)
        node.body = body
        self.outer_names.pop()
        self.scopes.pop()
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: Any) -> Any:
        return self.generic_visit(node)


def _loaded(node: Any) -> Any:
    """A copy of a name or a chain of attributes, read instead of written."""
    if isinstance(node, ast.Name):
        return ast.copy_location(ast.Name(node.id, ast.Load()), node)
    if isinstance(node, ast.Attribute):
        return ast.copy_location(ast.Attribute(_loaded(node.value), node.attr, ast.Load()), node)
    return node


def _own_statements(function: Any) -> Any:
    """The statements of a function without those of functions inside it."""
    stack = list(function.body)
    while stack:
        statement = stack.pop()
        yield statement
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for child in ast.iter_child_nodes(statement):
                if isinstance(child, ast.stmt):
                    stack.append(child)
                elif isinstance(child, ast.ExceptHandler):
                    stack.extend(child.body)


def compile_recording(text: Any, file: str, sites: list[Site]) -> types.CodeType:
    """Code of the program `text` that records; `sites` grows by its places. Raises SyntaxError.

    `text` is str or bytes (with a coding line or a byte order mark, as the compiler takes it).
    """
    tree = compile(text, file, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    tree = Rewriter(file, sites).visit(tree)
    return compile(tree, file, "exec", dont_inherit=True)
