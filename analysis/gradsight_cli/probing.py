"""`gradsight probe`: hands the request over, and prints what autograd did.

The program's own output goes where the report does not: to standard error, so that `--output-format json`
prints JSON alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradsight import slicing
from gradsight.slicing import SelectionError
from gradsight.text import Source

from gradsight_cli.checking import to_document
from gradsight_cli.formats.full import printable
from gradsight_cli.painting import Line, counted, printer
from gradsight_cli.reading import OtherLanguage, Unreadable, display, read

if TYPE_CHECKING:
    from gradsight.notebook import Notebook
    from gradsight_server.comparison import Comparison
    from gradsight_server.probe import ProbeResult

_ROWS = re.compile(r"(?P<file>.+?)(?::cell (?P<cell>\d+))?(?::(?P<first>\d+)(?:-(?P<last>\d+))?)?")
_STYLES = {
    "nonzero": "added",
    "live": "added",
    "none": "error",
    "nonfinite": "error",
    "cut": "error",
    "zero": "warning",
    "cut-upstream": "warning",
}


def probe(options: argparse.Namespace) -> int:
    """Run the probe; returns the exit code: 0 it ran, 1 the program raised, 2 misuse or no torch."""
    from gradsight_server import probe as server

    path, cell, rows = _target(options.target)
    settings = _settings(options)
    try:
        if os.path.isdir(path):
            raise Unreadable("is a folder: name one file")
        document = to_document(path, read(path).text)
        if isinstance(document, Source):
            if cell is not None:
                raise SelectionError("only a notebook has cells")
            request = server.request(path, rows=rows, call=options.call, **settings)
        else:
            index = _index_of(document, cell)
            program = document.selected(index, _rows_of(document, index, rows), options.call)
            request = server.ProbeRequest(
                filename=os.path.abspath(path),
                text=program.text,
                rows=program.rows,
                call=program.call,
                **settings,
            )
    except (Unreadable, OtherLanguage) as error:
        return _misuse(f"{display(path)}: {error}")
    except SelectionError as error:
        words = str(error) if isinstance(document, Source) else document.in_words(str(error))
        return _misuse(f"{display(path)}: {words}")
    except SyntaxError as error:
        return _misuse(f"{display(path)}:{error.lineno}: does not parse: {error.msg}")
    result = _in_cells(server.run(request, output=_pass_on), document, request.filename)
    if options.output_format == "json":
        print(json.dumps(server.to_json(result), indent=2, allow_nan=False))
        for note in result.notes:
            print(f"gradsight: {note}", file=sys.stderr)
    elif result.problem is None:
        printer(sys.stdout, options.color).print(to_lines(result, display(path)))
    if result.problem is not None:
        print(f"gradsight: {result.problem}", file=sys.stderr)
    for fault in result.faults:
        print(
            f"gradsight: a mistake of the probe, which it survived; please report it: {fault}",
            file=sys.stderr,
        )
    return result.exit_code


def compare(
    path: str, before: Source | Notebook, after: Source | Notebook, options: argparse.Namespace
) -> Comparison:
    """What a file's program does to its gradients as it is, and with fixes.

    Raises:
        Unreadable: it cannot be run; the text says what to do.
    """
    from gradsight_server import probe as server
    from gradsight_server.comparison import compare as side_by_side

    results = []
    for document in (before, after):
        try:
            if isinstance(document, Source):
                program = slicing.select(document.text, call=options.call)
            else:
                program = document.selected(call=options.call)
        except SelectionError as error:
            raise Unreadable(
                str(error) if isinstance(document, Source) else document.in_words(str(error))
            ) from None
        request = server.ProbeRequest(
            os.path.abspath(path), program.text, program.rows, program.call, **_settings(options)
        )
        result = _in_cells(server.run(request, output=_pass_on), document, request.filename)
        if result.problem is not None:
            raise Unreadable(result.problem)
        results.append(result)
    return side_by_side(*results)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    settings: dict[str, Any] = {"device": options.device, "allow_writes": options.allow_writes}
    if options.python is not None:
        settings["python"] = options.python
    if options.timeout is not None:
        settings["timeout"] = options.timeout
    return settings


def _target(text: str) -> tuple[str, int | None, tuple[int, int] | None]:
    """The file, the number of a notebook's cell, and rows, 1-based, of what was written as one word."""
    found = None if os.path.exists(text) else _ROWS.fullmatch(text)
    if found is None:
        return text, None, None
    cell = int(found["cell"]) if found["cell"] else None
    if not found["first"]:
        return found["file"], cell, None
    first = int(found["first"])
    return found["file"], cell, (first, int(found["last"] or first))


def _index_of(notebook: Notebook, number: int | None) -> int | None:
    """The index of the cell of a number."""
    if number is None:
        return None
    for index, each in enumerate(notebook.cells):
        if each.number == number:
            return index
    raise SelectionError(f"cell {number} is no code cell: cells are counted from 1, text cells too")


def _rows_of(notebook: Notebook, index: int | None, rows: tuple[int, int] | None) -> tuple[int, int] | None:
    """The rows of the program for some rows of a cell, or all of them."""
    if index is None:
        if rows is not None:
            raise SelectionError("rows of a notebook are a cell's: write FILE:'cell N':A-B")
        return None
    first, stop = notebook.rows(index)
    if rows is None:
        return first + 1, stop
    if not 1 <= rows[0] <= rows[1] <= stop - first:
        number = notebook.cells[index].number
        raise SelectionError(f"cell {number} has no rows {rows[0]}-{rows[1]}: it has {stop - first}")
    return first + rows[0], first + rows[1]


def _in_cells(result: ProbeResult, document: Source | Notebook, file: str) -> ProbeResult:
    """The result with the cells of a notebook and their rows in place of the program's rows."""
    if isinstance(document, Source):
        return result

    def placed(each: dict[str, Any]) -> dict[str, Any]:
        changed = {key: placed(value) if isinstance(value, dict) else value for key, value in each.items()}
        for key in ("reason", "explanation"):
            if isinstance(each.get(key), str):
                changed[key] = document.in_words(each[key])
        if isinstance(each.get("row"), int) and each.get("filename", file) == file:
            changed["cell"], changed["row"] = _cell_and_row(document, each["row"])
        return changed

    error = result.error
    if error is not None and error["type"] in ("SyntaxError", "IndentationError", "TabError"):
        error = {**error, "message": re.sub(r" \([^()]*, line \d+\)$", "", error["message"])}
    return replace(
        result,
        steps=tuple(map(placed, result.steps)),
        lines=tuple(map(placed, result.lines)),
        error=None if error is None else placed(error),
        notes=tuple(document.in_words(note) for note in result.notes),
    )


def _cell_and_row(notebook: Notebook, row: int) -> tuple[int, int]:
    place = notebook.place(notebook.source.offset(row - 1, 0))
    return notebook.cells[place.cell].number, place.row + 1


def _misuse(message: str) -> int:
    print(f"gradsight: {message}", file=sys.stderr)
    return 2


def _pass_on(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def to_lines(result: ProbeResult, file: str) -> Iterator[Line]:
    """The report for people: what arrived at each parameter, and what each line did."""
    yield [
        (f"{file}: {counted(result.steps_taken, 'backward')}", "message"),
        (f" on {result.device}, torch {result.torch}", ""),
        (f", loss {_number(result.loss)}" if result.loss is not None else "", ""),
    ]
    if result.parameters:
        yield []
        yield from _table(
            ("parameter", "shape", "gradient", "norm", "optimizer"),
            [
                (
                    each["name"],
                    _shape(each["shape"]),
                    each["at_last_step"] or each["gradient"],
                    _number(each["norm"]),
                    each["optimizer"] or "",
                )
                for each in result.parameters
            ],
        )
    elif not result.steps:
        yield [("nothing here learns: no parameter, and no backward", "help")]
    if result.lines:
        yield []
        yield from _table(
            ("line", "name", "state", "norm", ""),
            [
                (
                    _row(each),
                    each["name"],
                    each["state"],
                    _number(each["norm"]),
                    each["reason"] or "",
                )
                for each in result.lines
            ],
        )
    if result.error is not None:
        row = f" in {_row(result.error, 'line ')}" if result.error["row"] else ""
        yield []
        yield [
            (f"{result.error['type']}{row}: ", "error"),
            (printable(result.error["message"]), "message"),
        ]
        if result.error["explanation"]:
            yield [("  help: ", "help"), (printable(result.error["explanation"]), "")]
    for note in result.notes:
        yield [("note: ", "help"), (printable(note), "")]


def _row(each: dict[str, Any], line: str = "") -> str:
    return f"cell {each['cell']}:{each['row']}" if "cell" in each else f"{line}{each['row']}"


def _table(head: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Iterator[Line]:
    cells = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    for row, style in ((tuple(head), "gutter"), *((row, "") for row in cells)):
        filled = max((number for number, text in enumerate(row, 1) if text), default=0)
        yield [
            (f"  {text:<{width if number < filled else 0}}", style or _STYLES.get(text, ""))
            for number, (text, width) in enumerate(zip(row[:filled], widths, strict=False), 1)
        ]


def _shape(shape: Sequence[int] | None) -> str:
    return "" if shape is None else "×".join(map(str, shape)) or "scalar"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
