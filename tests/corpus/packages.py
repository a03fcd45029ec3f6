"""Good programs from public packages: a module's or a loss's file as PyPI has it, and a driver behind it.

Nothing of the packages is kept in this repository: `real_code/packages.py` downloads them once, each pinned;
where that is not possible there are none of these programs, and `Unavailable` says why.

A program is one file: the package's text, with the text of what it imports of its own package before it, then
a driver that makes the module with a seed, feeds it random inputs, and takes some steps. What a package's
`__init__` imports for its users is not loaded; what it needs beside torch and numpy is an empty stand-in.
"""

from __future__ import annotations

import ast
import re
import shutil
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path

from real_code import packages

from corpus.drivers import DRIVEN, STYLES, Driven
from corpus.sites import Program

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".cache" / "corpus"

DRIVEN_PACKAGES = (
    "byol_pytorch",
    "normflows",
    "pytorch_metric_learning",
    "segmentation_models_pytorch",
    "snntorch",
    "timm",
    "torchgan",
)

# Whose `__init__` loads more than the files that are driven, and what those import and never use.
_NOT_LOADED = (
    "byol_pytorch",
    "normflows",
    "normflows/flows",
    "segmentation_models_pytorch",
    "snntorch",
    "snntorch/_neurons",
    "timm",
    "timm/layers",
    "timm/loss",
    "torchgan",
    "torchgan/layers",
    "torchgan/losses",
)
_STAND_INS = (
    "scipy",
    "scipy.stats",
    "scipy.special",
    "torchvision",
    "torchvision.ops",
    "torchvision.ops.misc",
    "torchvision.transforms",
    "tqdm",
)
_STAND_IN = """\
from importlib.util import find_spec

from torch import nn


class StandIn(nn.Module):
    def __init__(self, *arguments, **keywords):
        super().__init__()


def __getattr__(name):
    if name.startswith("__") or find_spec(f"{__name__}.{name}"):
        raise AttributeError(name)
    return StandIn
"""


class Unavailable(Exception):
    """The packages cannot be had here."""


@dataclass(frozen=True)
class Fetched:
    """The packages in a folder, each under its import name, all importable beside torch and numpy alone."""

    folder: Path

    def programs(self) -> list[Program]:
        """All driven programs, in the order of their table."""
        styles = cycle(STYLES)
        return [self._program(each, next(styles)) for each in DRIVEN]

    def _program(self, driven: Driven, style: str) -> Program:
        package = driven.file.partition("/")[0]
        text = bundled(self.folder, driven.file, set(), {})
        needed = [each for each in ("import torch", "from torch import nn") if not _imports(text, each)]
        return Program(
            f"{driven.file} {driven.title}",
            text + "".join(f"{each}\n" for each in needed) + driven.text(style),
            str(self.folder / f"{driven.title}.py"),
            _pins()[package].replace("==", " "),
            len(text),
        )


@cache
def fetch() -> Fetched:
    """Download what is not there yet, and lay it out so that it can be run.

    Raises:
        Unavailable: no network, or no such release for this Python.
    """
    stamp = HOME / "ready"
    wanted = "\n".join([*_pins().values(), *_NOT_LOADED, *_STAND_INS, _STAND_IN])
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        try:
            folders = packages.fetch()
        except OSError as why:
            raise Unavailable(str(why)) from why
        shutil.rmtree(HOME, ignore_errors=True)
        for name, pin in _pins().items():
            shutil.copytree(folders[pin] / name, HOME / name)
        for name in _NOT_LOADED:
            (HOME / name / "__init__.py").write_text("", encoding="utf-8")
        for name in _STAND_INS:
            folder = HOME / name.replace(".", "/")
            folder.mkdir()
            (folder / "__init__.py").write_text(_STAND_IN, encoding="utf-8")
        stamp.write_text(wanted, encoding="utf-8")
    return Fetched(HOME)


def _pins() -> dict[str, str]:
    """`name==version` of each driven package by its import name."""
    by_name = {pin.partition("==")[0].replace("-", "_"): pin for pin in packages.pinned()}
    return {name: by_name[name] for name in DRIVEN_PACKAGES}


def _imports(text: str, line: str) -> bool:
    return re.search(rf"^{line}( as nn)?$", text, re.MULTILINE) is not None


def bundled(folder: Path, file: str, seen: set[str], names: dict[str, str]) -> str:
    """A file's text with what it imports of its own package before it, each file once.

    An import stays, written out, where it names a module, where it is no statement of its own at the top,
    or where the files give one name two meanings.
    """
    if file in seen:
        return ""
    seen.add(file)
    text = (folder / file).read_text(encoding="utf-8")
    tree = ast.parse(text)
    names |= _bound(tree)
    parts = file.split("/")[:-1]
    root = parts[0]
    lines = text.splitlines(keepends=True)
    before = ""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = parts[: len(parts) - node.level + 1] if node.level else []
        path = [*base, *filter(None, (node.module or "").split("."))]
        if node.module == "__future__":
            lines[node.lineno - 1] = "\n"
        if path[0] != root:
            continue
        wanted = "/".join(path) + ".py"
        aliases = [f"{each.name} as {each.asname}" if each.asname else each.name for each in node.names]
        written = f"from {'.'.join(path)} import {', '.join(aliases)}\n"
        if node in tree.body and (folder / wanted).is_file():
            theirs = _bound(ast.parse((folder / wanted).read_text(encoding="utf-8")))
            if wanted in seen or not _clash(names, theirs):
                before += bundled(folder, wanted, seen, names)
                renamed = [each for each in node.names if each.asname and each.asname != each.name]
                written = "".join(f"{each.asname} = {each.name}\n" for each in renamed)
        lines[node.lineno - 1] = " " * node.col_offset + written if written else "\n"
        for row in range(node.lineno, node.end_lineno or node.lineno):
            lines[row] = ""
    return before + "".join(lines).rstrip("\n") + "\n\n\n"


_OF_EACH_FILE = ("__all__", "_logger", "logger")


def _bound(tree: ast.Module) -> dict[str, str]:
    """What a file's names are bound to, in a form that is the same in two files for the same thing."""
    bound: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound[node.name] = ast.dump(node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    bound[target.id] = ast.dump(node.value)
        elif isinstance(node, ast.Import):
            for each in node.names:
                bound[each.asname or each.name] = each.name
        elif isinstance(node, ast.ImportFrom):
            for each in node.names:
                if not node.level:
                    bound[each.asname or each.name] = f"{node.module}.{each.name}"
    return {name: to for name, to in bound.items() if name not in _OF_EACH_FILE}


def _clash(ours: dict[str, str], theirs: dict[str, str]) -> bool:
    return any(ours.get(name, to) != to for name, to in theirs.items())
