"""Which files of the project an import statement reads, as far as they are there.

It reads no file: `Files` gives their texts. A module is looked for beside the file that names it, in
the folders above it and in their `src`; what is a library's is not looked for.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from gradsight.lines import Line
from gradsight.text import Source

MOST_UP = 6  # folders above a file in which the packages that it names may lie
# Modules that a project's own files are hardly ever meant by.
_LIBRARIES = frozenset(sys.stdlib_module_names) | {
    "torch", "numpy", "torchvision", "torchaudio", "scipy", "sklearn", "pandas", "matplotlib", "tqdm",
    "transformers", "lightning", "pytorch_lightning", "accelerate", "tensorboardX", "wandb", "yaml", "PIL",
    "cv2", "einops", "timm",
}  # fmt: skip


class Files(Protocol):
    """The texts around the one that is analysed: open documents over disk, or disk alone."""

    @property
    def state(self) -> object:
        """Equal as long as every answer is the same; None where nobody knows."""

    def read(self, file: str) -> Source | None:
        """A Python file, the same object as long as its text is the same; None where there is none."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A module that an import statement names: `dots` of a relative import, its path, the names out of it."""

    dots: int
    path: tuple[str, ...]
    names: tuple[str, ...] = ()


def wanted_by(line: Line) -> Iterator[Wanted]:
    for node in imports_of(line):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Wanted(0, tuple(alias.name.split(".")))
        else:
            yield Wanted(node.level, path_of(node), tuple(alias.name for alias in node.names))


def path_of(node: ast.ImportFrom) -> tuple[str, ...]:
    return tuple(node.module.split(".")) if node.module else ()


def importing(units: Sequence[Line]) -> list[Line]:
    """The lines that import something."""
    return [line for line in units if line.code and imports_of(line)]


def imports_of(line: Line) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return _import_nodes(line) if "import" in line.text else ()


@lru_cache(4096)
def _import_nodes(line: Line) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(
        node
        for part in line.nodes
        for node in ast.walk(part)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    )


class Finder:
    """Where the modules that a file names lie, during one link."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: dict[str, Source | None] = {}

    @property
    def asked(self) -> Set[str]:
        """The files that were wanted, whether they are there or not."""
        return self._known.keys()

    def _read(self, file: str) -> Source | None:
        if file not in self._known:
            self._known[file] = self._files.read(file)
        return self._known[file]

    def find(self, file: str, wanted: Wanted) -> list[Source]:
        """The files that an import reads, as far as they are ours: the module, and submodules by name."""
        paths = [wanted.path, *((*wanted.path, name) for name in wanted.names if name != "*")]
        found = (self.module(file, wanted.dots, path) for path in paths)
        return [source for source in found if source is not None]

    def module(self, file: str, dots: int, path: tuple[str, ...]) -> Source | None:
        """The file of a module, named from within another."""
        separator = "\\" if "\\" in file and "/" not in file else "/"
        folder = file.rpartition(separator)[0]
        if dots:
            for _ in range(dots - 1):
                folder = _above(folder, separator) or ""
            return self._in(folder, separator, path, file)
        if not path or path[0] in _LIBRARIES:
            return None
        for _ in range(MOST_UP):
            for base in (folder, f"{folder}{separator}src" if folder else "src"):
                found = self._in(base, separator, path, file)
                if found is not None:
                    return found
            above = _above(folder, separator)
            if above is None:
                break
            folder = above
        return None

    def _in(self, folder: str, separator: str, path: tuple[str, ...], asking: str) -> Source | None:
        base = separator.join((folder, *path)) if folder else separator.join(path)
        for file in (f"{base}.py", f"{base}{separator}__init__.py"):
            if base and file != asking:
                found = self._read(file)
                if found is not None:
                    return found
        return None


def _above(folder: str, separator: str) -> str | None:
    """The folder that another one lies in, which may be named from within; None above the topmost."""
    before, _, last = folder.rpartition(separator)
    if last in ("", ".."):
        return None if folder.startswith(separator) else f"..{separator}{folder}".rstrip(separator)
    if not before and folder.startswith(separator):
        return None
    return None if last.endswith(":") else before


@dataclass(slots=True)
class Targets:
    """What a module's imports mean: files, by the import and alias they stand in."""

    aliases: dict[tuple[Line, int, int], str] = field(default_factory=dict)  # `from FILE import ...`
    spaces: dict[str, str] = field(default_factory=dict)  # name, dotted too -> the file that it stands for

    def files(self) -> Iterable[str]:
        return (*self.aliases.values(), *self.spaces.values())

    def add(self, line: Line, file: str, finder: Finder, known: Mapping[str, object]) -> None:
        """Note what a line imports from the files that are read."""
        for at, node in enumerate(imports_of(line)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found = finder.module(file, 0, tuple(alias.name.split(".")))
                    if found is not None and found.file in known:
                        self.spaces[alias.asname or alias.name] = found.file
                continue
            path = path_of(node)
            module = finder.module(file, node.level, path)
            for number, alias in enumerate(node.names):
                inner = finder.module(file, node.level, (*path, alias.name)) if alias.name != "*" else None
                if module is not None and module.file in known:
                    self.aliases[line, at, number] = module.file
                if inner is not None and inner.file in known:
                    self.spaces.setdefault(alias.asname or alias.name, inner.file)


CACHES = (_import_nodes,)
