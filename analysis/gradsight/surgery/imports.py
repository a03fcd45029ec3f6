"""Under which names a file reaches what it imports, and what a new use needs.

Reads the import lines alone; names bound in other ways are unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from gradsight.finding import Edit
from gradsight.surgery.piece import Line, layout, newline
from gradsight.surgery.refusal import Refusal
from gradsight.text import Source, Span

# Names by which everybody means the same module, where no import line is in sight (a pasted function).
_CUSTOMARY = {"torch": "torch", "np": "numpy", "F": "torch.nn.functional", "nn": "torch.nn", "math": "math"}


@dataclass(frozen=True, slots=True)
class Spelling:
    """How the file writes a name, with the import that this takes if there is none yet."""

    name: str
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True, slots=True)
class Import:
    """One name that an import line binds."""

    bound: str  # np
    target: str  # numpy
    line: Line
    alone: bool  # nothing else is bound by the line


_FROM = re.compile(r"\s*from\s+([\w.]+)\s+import\s+(.*)", re.DOTALL)
_IMPORT = re.compile(r"\s*import\s+(.*)", re.DOTALL)
_BOUND = re.compile(r"([\w.*]+)(?:\s+as\s+(\w+))?")


@lru_cache(maxsize=4)
def imports(text: str) -> tuple[Import, ...]:
    """All names that the text's import lines bind, in order."""
    if "import" not in text:
        return ()
    plan = layout(text)
    found: list[Import] = []
    for line in plan.lines:
        if not text.startswith(("import", "from"), line.first):
            continue
        code = plan.masked[line.first : line.end].strip()
        if origin := _FROM.match(code):
            names = origin.group(2).strip("() \t\r\n")
            prefix = origin.group(1) + "."
        elif plain := _IMPORT.match(code):
            names, prefix = plain.group(1), ""
        else:
            continue
        parts = [part.strip(" \t\r\n\\") for part in names.split(",")]
        parts = [part for part in parts if part]
        for part in parts:
            match = _BOUND.match(part)
            if match is None:
                continue
            target = prefix + match.group(1)
            bound = match.group(2) or (match.group(1) if prefix else match.group(1).partition(".")[0])
            if not prefix and match.group(2) is None:
                target = bound
            found.append(Import(bound, target, line, len(parts) == 1))
    return tuple(found)


@lru_cache(maxsize=4)
def bindings(text: str) -> Mapping[str, str]:
    """Bound name -> what it means, for all import lines of the text."""
    return {item.bound: item.target for item in imports(text)}


def qualified(source: Source, name: str) -> str:
    """`torch.nn.functional.relu` for `F.relu`, as the file's imports say; the name itself if unknown."""
    first, dot, rest = name.partition(".")
    known = bindings(source.text)
    target = known.get(first)
    if target is None:
        target = _CUSTOMARY.get(first, first)
    return target + dot + rest


def spelling(source: Source, name: str) -> Spelling | Refusal:
    """The shortest way to write a full name such as `torch.stack` in this file.

    Where the file does not reach it, the answer carries the edit that adds `import torch`.
    """
    best = ""
    for bound, target in bindings(source.text).items():
        if name == target:
            written = bound
        elif name.startswith(target + "."):
            written = bound + name[len(target) :]
        else:
            continue
        # A plain `torch.x` is preferred over `F.x` only if it is shorter.
        if not best or (written.count("."), len(written)) < (best.count("."), len(best)):
            best = written
    if best:
        return Spelling(best)
    module = name.partition(".")[0]
    if module in bindings(source.text):
        return Refusal(f"`{module}` means something else here")
    found = [
        item
        for item in imports(source.text)
        if not item.line.indent and not item.target.startswith("__future__")
    ]
    if not found:
        return Spelling(name)
    near = next((item for item in found if item.target.partition(".")[0] == module), found[-1])
    line = near.line
    addition = f"{line.indent}import {module}{newline(source.text)}"
    return Spelling(name, (Edit(source.file, Span(line.start, line.start), addition),))
