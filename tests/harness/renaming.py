"""Transformations of names: every variable and attribute renamed, every import aliased."""

from __future__ import annotations

import ast
import builtins
import functools
import json
import re
from collections.abc import Mapping

from harness import truth
from harness.markers import Raises
from harness.metamorphic import Work, names_in

# Methods that frameworks around torch call by name.
HOOKS = {"training_step", "validation_step", "test_step", "configure_optimizers", "prepare_data", "setup"}

_LIBRARY = """
import argparse, collections, dataclasses, inspect, json, logging, math, numpy, pathlib, random, torch
import torch.nn.functional, torch.nn.utils, torch.distributions, torch.optim.lr_scheduler
import torch.utils.data, torch.amp, torch.cuda.amp, torch.utils.checkpoint

names = set()
spaces = [torch, torch.nn, torch.nn.functional, torch.nn.init, torch.nn.utils, torch.optim, torch.autograd,
          torch.optim.lr_scheduler, torch.utils.data, torch.distributions, torch.amp, torch.cuda.amp, numpy,
          numpy.linalg, numpy.random, argparse, collections, dataclasses, logging, math, pathlib, random]
for space in spaces:
    names.update(dir(space))
    for each in vars(space).values():
        if inspect.isclass(each):
            names.update(dir(each))
            names.update(getattr(each, "__annotations__", ()))
            try:
                names.update(inspect.signature(each).parameters)
            except (TypeError, ValueError):
                pass
for each in (str, int, float, list, dict, set, tuple, bytes, object, type, property):
    names.update(dir(each))
# What objects have and classes do not say.
layer = torch.nn.Linear(1, 1)
for each in (layer, torch.optim.SGD(layer.parameters(), lr=0.1)):
    names.update(vars(each))
print(json.dumps(sorted(names)))
"""


@functools.cache
def library_names() -> frozenset[str]:
    """What attributes are called in torch, numpy and the standard library's most used modules."""
    return frozenset(json.loads(truth.run_truth(_LIBRARY).output))


def rename_all(work: Work) -> bool:
    """Every variable, function, class, attribute and method gets a name that means nothing.

    Kept: names that strings speak of; parameters that callers name; whatever nothing in the file refers to,
    which is for others to call, and its parameters; `self`; what a library's objects have, too. In a program
    that never calls for a gradient, functions and their parameters are kept: only their names tell a loss and
    which of its arguments is the prediction.
    """
    tree = work.tree
    if any(
        isinstance(node, ast.Name) and node.id in ("globals", "locals", "vars") for node in ast.walk(tree)
    ):
        return False
    kept = {*dir(builtins), "self", "cls", "_", *_imported(tree), *_in_strings(work)}
    keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}
    loaded = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    reached = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    trains = bool(reached & {"backward", "grad", "manual_backward"}) or "training_step" in names_in(tree)
    variables: dict[str, None] = {}
    attributes: dict[str, None] = {}
    methods = _methods(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            variables[node.id] = None
        elif isinstance(node, ast.ExceptHandler) and node.name:
            variables[node.name] = None
        elif isinstance(node, ast.ClassDef):
            if node.name in loaded and trains:
                variables[node.name] = None
            kept.update(_class_fields(node))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            called = trains and (node.name in loaded or node.name in reached or _dunder(node.name))
            if node in methods:
                if node.name in reached and node.name not in HOOKS:
                    attributes[node.name] = None
                called = (called or (trains and node.name == "forward")) and methods[node] in loaded
            elif called:
                variables[node.name] = None
            parameters = _parameters(node.args)
            if called:
                variables.update(dict.fromkeys(each for each in parameters if each not in keywords))
            kept.update(each for each in parameters if not called or each in keywords)
        elif isinstance(node, ast.Lambda):
            parameters = _parameters(node.args)
            variables.update(dict.fromkeys(parameters))
            kept.update(each for each in parameters if each in keywords)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                attributes[node.attr] = None
    own = {
        name for name in attributes if name not in library_names() and name not in kept and not _dunder(name)
    }
    names = {
        name: work.fresh("C" if name[0].isupper() else "q")
        for name in variables
        if name not in kept and not _dunder(name)
    }
    fields = {name: work.fresh("a") for name in own}
    if not names:
        return False
    renamer = _Renamer(names, fields, methods)
    renamer.visit(tree)
    work.rename_facts(renamer.visit)
    return True


def alias_imports(work: Work) -> bool:
    """`import torch` becomes `import torch as _m0`, and so on."""
    tree = work.tree
    bound = _imported(tree)
    names = {
        name: work.fresh("_m")
        for name, things in bound.items()
        if len(things) == 1 and not _rebound(tree, name)
    }
    for name, things in bound.items():  # import torch and import torch.nn both bind `torch`
        if (
            name not in names
            and not _rebound(tree, name)
            and all(each.split(".")[0] == name for each in things)
        ):
            names[name] = work.fresh("_m")
    if not names:
        return False
    for node in ast.walk(tree):
        for _, body in ast.iter_fields(node):
            if isinstance(body, list):
                _alias_in(body, names)
    renamer = _Renamer(names, {}, _methods(tree))
    renamer.visit(tree)
    work.rename_facts(renamer.visit)
    return True


def _alias_in(body: list[ast.AST], names: Mapping[str, str]) -> None:
    for statement in [each for each in body if isinstance(each, (ast.Import, ast.ImportFrom))]:
        if isinstance(statement, ast.ImportFrom):
            if statement.module == "__future__":
                continue
            for alias in statement.names:
                alias.asname = names.get(alias.asname or alias.name, alias.asname)
            continue
        roots: list[str] = []
        for alias in statement.names:
            if alias.asname:
                alias.asname = names.get(alias.asname, alias.asname)
            elif "." not in alias.name:
                alias.asname = names.get(alias.name)
            elif (root := alias.name.split(".")[0]) in names:
                roots.append(root)  # a bare `import torch.nn` stays, and its root gets its name beside it
        for root in roots:
            body.insert(body.index(statement) + 1, ast.Import([ast.alias(root, names[root])]))


class _Renamer(ast.NodeTransformer):
    def __init__(
        self, names: Mapping[str, str], attributes: Mapping[str, str], methods: Mapping[ast.AST, str]
    ) -> None:
        self.names, self.attributes, self.methods = names, attributes, methods

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.Name):
            node.id = self.names.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = self.names.get(node.arg, node.arg)
        elif isinstance(node, ast.Attribute):
            node.attr = self.attributes.get(node.attr, node.attr)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            node.name = self.names.get(node.name, node.name)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            node.names = [self.names.get(name, name) for name in node.names]
        elif isinstance(node, ast.ClassDef):
            node.name = self.names.get(node.name, node.name)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            known = self.attributes if node in self.methods else self.names
            node.name = known.get(node.name, node.name)
        return node


def _imported(tree: ast.AST) -> dict[str, set[str]]:
    """The names that imports bind, and to what."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.setdefault(alias.asname or alias.name.split(".")[0], set()).add(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for alias in node.names:
                found.setdefault(alias.asname or alias.name, set()).add(f"{node.module}.{alias.name}")
    return found


def _rebound(tree: ast.AST, name: str) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store))
        or (isinstance(node, ast.arg) and node.arg == name)
        or (isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name)
        for node in ast.walk(tree)
    )


def _in_strings(work: Work) -> set[str]:
    """Identifiers that strings of the program or its facts name, alone or dotted: `getattr(self, "fc")`."""
    trees: list[ast.AST] = [work.tree]
    trees += [ast.parse(fact, mode="eval") for fact in work.facts if isinstance(fact, str)]
    found: set[str] = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                found.update(re.findall(r"[A-Za-z_]\w*", node.value))
    for fact in work.facts:
        if isinstance(fact, Raises):
            found.update(re.findall(r"[A-Za-z_]\w*", fact.text))
    return found


def _methods(tree: ast.AST) -> dict[ast.AST, str]:
    """Of each method the name of its class."""
    return {
        each: node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for each in node.body
    }


def _class_fields(node: ast.ClassDef) -> set[str]:
    """Names bound in a class's body: attributes, and of a dataclass keywords."""
    return {
        each.id
        for statement in node.body
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        for each in ast.walk(statement)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }


def _parameters(arguments: ast.arguments) -> list[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [each.arg for each in [*every, arguments.vararg, arguments.kwarg] if each]


def _dunder(name: str) -> bool:
    return name.startswith("__")
