"""Notebook files (`.ipynb`, nbformat 4): JSON to code cells and back.

Only the `source` of a cell whose text changes is written anew, in the style that it had; every other byte,
outputs and metadata and indentation included, stays as it is.

The format: https://nbformat.readthedocs.io/en/latest/format_description.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gradsight.notebook import Cell

from gradsight_cli.reading import OtherLanguage, Unreadable

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
# Kernels that older files name without a language.
_KERNELS = {
    "ir": "R",
    "julia": "Julia",
    "bash": "Bash",
    "iruby": "Ruby",
    "octave": "Octave",
    "scala": "Scala",
}


def to_cells(text: str) -> tuple[Cell, ...]:
    """The code cells of a notebook that are in Python, numbered over all cells. An empty file has none.

    Raises:
        Unreadable: it is no notebook that can be read.
        OtherLanguage: its kernel is not Python's.
    """
    if not text.strip():
        return ()
    try:
        content = json.loads(text)
    except ValueError as error:
        at = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise Unreadable(f"is no notebook: no valid JSON{at}") from None
    except RecursionError:
        raise Unreadable("is no notebook: its JSON is nested too deeply") from None
    if not isinstance(content, dict):
        raise Unreadable("is no notebook: its JSON is no object")
    cells = content.get("cells")
    if not isinstance(cells, list):
        if "worksheets" in content or content.get("nbformat") in (1, 2, 3):
            raise Unreadable(
                "is a notebook of an old format: convert it with `jupyter nbconvert --to notebook --inplace`"
            )
        raise Unreadable("is no notebook: it has no list of cells")
    language = _language(content.get("metadata"))
    if language is not None:
        raise OtherLanguage(f"a notebook in {language}; only Python is checked")
    return tuple(_to_cells(cells))


def _to_cells(cells: list[Any]) -> Iterator[Cell]:
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict):
            raise Unreadable(f"is no notebook: cell {number} is no object")
        if cell.get("cell_type") != "code" or _other_cell(cell.get("metadata")):
            continue
        source = cell.get("source")
        if isinstance(source, list) and all(isinstance(each, str) for each in source):
            source = "".join(source)
        if not isinstance(source, str):
            raise Unreadable(f"is no notebook: cell {number} has no text as its `source`")
        yield Cell(number, source)


def _language(metadata: object) -> str | None:
    """The language of the kernel, if one is named that is not Python."""
    if not isinstance(metadata, dict):
        return None
    for key, name in (("language_info", "name"), ("kernelspec", "language")):
        table = metadata.get(key)
        found = table.get(name) if isinstance(table, dict) else None
        if isinstance(found, str) and found:
            return None if "python" in found.lower() else found
    kernel = metadata.get("kernelspec")
    found = kernel.get("name") if isinstance(kernel, dict) else None
    return _KERNELS.get(found.partition("-")[0].lower()) if isinstance(found, str) else None


def _other_cell(metadata: object) -> bool:
    """Whether VS Code has noted another language for a cell."""
    noted = metadata.get("vscode") if isinstance(metadata, dict) else None
    language = noted.get("languageId") if isinstance(noted, dict) else None
    return isinstance(language, str) and "python" not in language.lower()


# -- places in the JSON -----------------------------------------------------------------------------------


class _Located(NamedTuple):
    """A cell's `source` in the file: one string, or a list of strings."""

    start: int
    end: int
    pieces: tuple[tuple[int, int], ...]
    is_list: bool


def to_file_rows(text: str, number: int) -> tuple[int, ...]:
    """Of each row of a cell's text, the row of the file that it stands in, both counted from 1."""
    found = _locate(text).get(number)
    if found is None:
        return ()
    rows: list[int] = []
    begins = True  # whether the next string begins a row of the text
    for start, end in found.pieces:
        row = text.count("\n", 0, start) + 1
        piece = json.loads(text[start:end])
        rows += [row] * (piece.count("\n") + begins - piece.endswith("\n"))
        begins = piece.endswith("\n")
    if begins:  # an empty row behind the last line end
        rows.append(text.count("\n", 0, found.end) + 1)
    return tuple(rows)


def with_texts(text: str, texts: Mapping[int, str]) -> str:
    """The file with other texts in some cells, named by their numbers."""
    located = _locate(text)
    plain = not text.isascii() or "\\u" not in text
    for number in sorted(texts, reverse=True):
        found = located[number]
        new = _to_source(text, found, texts[number], plain)
        text = text[: found.start] + new + text[found.end :]
    return text


def _to_source(text: str, found: _Located, new: str, plain: bool) -> str:
    literals = [text[start:end] for start, end in found.pieces]
    old = [json.loads(each) for each in literals]
    if "".join(old) == new:
        return text[found.start : found.end]
    if not found.is_list:
        return _quoted(new, plain)
    first = start = 0
    while first < len(old) and old[first].endswith("\n") and new.startswith(old[first], start):
        start += len(old[first])
        first += 1
    last, end = len(old), len(new)
    while (
        last > first
        and end - len(old[last - 1]) >= start
        and new.endswith(old[last - 1], start, end)
        and (last == 1 or old[last - 2].endswith("\n"))
        and (end - len(old[last - 1]) in (0, start) or new[end - len(old[last - 1]) - 1] == "\n")
    ):
        last -= 1
        end -= len(old[last])
    fresh = re.findall(r"[^\n]*\n|[^\n]+\Z", new[start:end])
    made = [*literals[:first], *(_quoted(each, plain) for each in fresh), *literals[last:]]
    if not found.pieces:
        return "[" + ", ".join(made) + "]"
    opening = text[found.start + 1 : found.pieces[0][0]]
    closing = text[found.pieces[-1][1] : found.end - 1]
    between = "," + (opening or " ")
    if len(found.pieces) > 1:
        between = text[found.pieces[0][1] : found.pieces[1][0]]
    return "[" + opening + between.join(made) + closing + "]" if made else "[]"


def _quoted(text: str, plain: bool) -> str:
    quoted = json.dumps(text, ensure_ascii=not plain)
    try:
        quoted.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(text)
    return quoted


def _locate(text: str) -> dict[int, _Located]:
    """Where the `source` of each cell stands, by the cell's number. For a text that is a notebook."""
    found: dict[int, _Located] = {}
    cells = _members(text, _skip(text, 0)).get("cells")
    for number, (start, _) in enumerate(_elements(text, cells[0]) if cells else (), 1):
        source = _members(text, start).get("source")
        if source is None:
            continue
        is_list = text[source[0]] == "["
        pieces = tuple(_elements(text, source[0])) if is_list else (source,)
        found[number] = _Located(source[0], source[1], pieces, is_list)
    return found


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _members(text: str, at: int) -> dict[str, tuple[int, int]]:
    """Where the value of each key of the object at `at` stands. Of equal keys the last counts, as ever."""
    members: dict[str, tuple[int, int]] = {}
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, start)
        members[key] = start, end
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return members


def _elements(text: str, at: int) -> Iterator[tuple[int, int]]:
    """Where each element of the list at `at` stands."""
    at = _skip(text, at + 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        yield at, end
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
