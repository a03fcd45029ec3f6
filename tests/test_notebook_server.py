"""Notebooks in the editor: cells come and go, and what is said of them lands in the right one.

A real server process, and a client that keeps cells as editors do.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import KEPT, LOST, findings, run
from harness.client import CAPABILITIES, Client, Failed, edit

HEAD, _, TAIL = LOST.partition("prediction")
CELLS = ("%matplotlib inline\n!pip list\n" + HEAD.rstrip("\n"), "%%time\nprediction" + TAIL.rstrip("\n"))
# Where `.detach()` stands.
AT = {"start": {"line": 2, "character": 7}, "end": {"line": 2, "character": 26}}


CAN = {**CAPABILITIES, "notebookDocument": {"synchronization": {"executionSummarySupport": True}}}


class Notebook:
    """A notebook as an editor has it: every text is applied here too."""

    names = iter(range(1 << 30))

    def __init__(self, client: Client, *texts: str, name: str | None = None) -> None:
        self.client = client
        self.path = name or f"nb{next(self.names)}.ipynb"
        self.uri = client.uri(self.path)
        self.version = 1
        self.cells: list[str] = []
        self.texts: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        items = [self._item(text) for text in texts]
        self.cells = [item["uri"] for item in items]
        client.notify(
            "notebookDocument/didOpen",
            {
                "notebookDocument": {
                    "uri": self.uri,
                    "notebookType": "jupyter-notebook",
                    "version": 1,
                    "cells": [{"kind": 2, "document": uri} for uri in self.cells],
                },
                "cellTextDocuments": items,
            },
        )

    def _item(self, text: str) -> dict[str, Any]:
        uri = f"vscode-notebook-cell:{self.uri.removeprefix('file://')}#W{next(self.names)}sZmlsZQ%3D%3D"
        self.texts[uri], self.versions[uri] = text, 1
        return {"uri": uri, "languageId": "python", "version": 1, "text": text}

    def change(self, **cells: Any) -> None:
        self.version += 1
        self.client.notify(
            "notebookDocument/didChange",
            {"notebookDocument": {"uri": self.uri, "version": self.version}, "change": {"cells": cells}},
        )

    def insert(self, at: int, *texts: str) -> None:
        items = [self._item(text) for text in texts]
        new = [item["uri"] for item in items]
        self.cells[at:at] = new
        array = {"start": at, "deleteCount": 0, "cells": [{"kind": 2, "document": uri} for uri in new]}
        self.change(structure={"array": array, "didOpen": items})

    def remove(self, at: int) -> str:
        uri = self.cells.pop(at)
        del self.texts[uri]
        array = {"start": at, "deleteCount": 1}
        self.change(structure={"array": array, "didClose": [{"uri": uri}]})
        return uri

    def move(self, start: int, end: int) -> None:
        """As VS Code tells it: what stands between is replaced, and nothing opens or closes."""
        first, last = min(start, end), max(start, end)
        self.cells.insert(end, self.cells.pop(start))
        cells = [{"kind": 2, "document": uri} for uri in self.cells[first : last + 1]]
        self.change(structure={"array": {"start": first, "deleteCount": last - first + 1, "cells": cells}})

    def type(self, at: int, row0: int, column0: int, row1: int, column1: int, text: str) -> None:
        uri = self.cells[at]
        lines = self.texts[uri].split("\n")
        tail = text + lines[row1][column1:]
        self.texts[uri] = "\n".join([*lines[:row0], lines[row0][:column0] + tail, *lines[row1 + 1 :]])
        self.versions[uri] += 1
        document = {"uri": uri, "version": self.versions[uri]}
        self.change(
            textContent=[{"document": document, "changes": [edit(row0, column0, row1, column1, text)]}]
        )

    def write(self, at: int, text: str) -> None:
        lines = self.texts[self.cells[at]].split("\n")
        self.type(at, 0, 0, len(lines) - 1, len(lines[-1]), text)

    def close(self) -> None:
        documents = [{"uri": uri} for uri in self.cells]
        params = {"notebookDocument": {"uri": self.uri}, "cellTextDocuments": documents}
        self.client.notify("notebookDocument/didClose", params)

    def diagnostics(self, at: int) -> list[dict[str, Any]]:
        """What an editor shows of a cell now, once the server has looked at everything."""
        if self.cells:  # an answer to this one waits for the latest version
            self.actions(at)
        return shown(self.client, self.cells[at])

    def all(self) -> list[tuple[int, str, dict[str, Any]]]:
        self.diagnostics(0)
        return [
            (number, each["code"], each["range"])
            for number, uri in enumerate(self.cells)
            for each in shown(self.client, uri)
        ]

    def actions(self, at: int, where: Any = None) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = self.client.request(
            "textDocument/codeAction",
            {
                "textDocument": {"uri": self.cells[at]},
                "range": where or {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}},
                "context": {"diagnostics": shown(self.client, self.cells[at]) if where else []},
            },
        )
        return asked

    def apply(self, action: dict[str, Any]) -> list[str]:
        """Does what an action says; the cells that it changed."""
        resolved = action if "edit" in action else self.client.request("codeAction/resolve", action)
        touched = []
        for change in resolved["edit"]["documentChanges"]:
            uri = change["textDocument"]["uri"]
            assert change["textDocument"]["version"] == self.versions[uri]
            touched.append(uri)
            for each in sorted(
                change["edits"], key=lambda one: list(one["range"]["start"].values()), reverse=True
            ):
                start, end = each["range"]["start"], each["range"]["end"]
                self.type(
                    self.cells.index(uri),
                    start["line"],
                    start["character"],
                    end["line"],
                    end["character"],
                    each["newText"],
                )
        return touched


def shown(client: Client, uri: str) -> list[dict[str, Any]]:
    said = client.published.get(uri, [])
    return said[-1]["diagnostics"] if said else []


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client(tmp_path_factory.mktemp("notebooks"), capabilities=CAN) as made:
        yield made


def test_the_server_asks_for_python_cells(client: Client) -> None:
    (selector,) = client.capabilities["notebookDocumentSync"]["notebookSelector"]
    assert selector == {"notebook": "jupyter-notebook", "cells": [{"language": "python"}]}


def test_diagnostics_stand_in_their_cell(client: Client) -> None:
    nb = Notebook(client, *CELLS)
    (found,) = nb.diagnostics(1)
    assert (found["code"], found["range"]) == ("GS102", AT)
    assert nb.diagnostics(0) == []
    places = [
        (each["location"]["uri"], each["location"]["range"]["start"]["line"])
        for each in found["relatedInformation"]
    ]
    assert places == [(nb.cells[0], 4), (nb.cells[1], 2), (nb.cells[1], 4)]
    assert client.published[nb.cells[1]][-1]["version"] == 1
    nb.type(1, 2, len("loss = prediction"), 2, len("loss = prediction.detach()"), "")
    assert nb.all() == []
    assert client.published[nb.cells[1]][-1]["version"] == 2
    nb.close()


def test_cells_come_go_and_move(client: Client) -> None:
    nb = Notebook(client, *CELLS)
    assert nb.all() == [(1, "GS102", AT)]
    nb.insert(1, "f((", "# words")
    assert [each[:2] for each in nb.all()] == [(1, "GS001"), (3, "GS102")]
    gone = nb.remove(1)
    assert nb.all() == [(2, "GS102", AT)]
    assert shown(client, gone) == []
    nb.move(2, 0)  # the loss is computed before there is a model
    assert nb.all() == [(0, "GS102", AT)]
    assert "model" not in str(shown(client, nb.cells[0])[0].get("relatedInformation"))
    nb.move(0, 2)
    assert nb.all() == [(2, "GS102", AT)]
    loss = nb.remove(2)
    nb.diagnostics(0)
    assert shown(client, loss) == []
    nb.insert(2, CELLS[1])
    assert nb.all() == [(2, "GS102", AT)]
    nb.close()
    client.request("workspace/executeCommand", {"command": "gradsight.clearProbe", "arguments": [{}]})
    assert all(not shown(client, uri) for uri in nb.cells)


def test_running_a_cell_costs_nothing(client: Client) -> None:
    nb = Notebook(client, *CELLS)
    nb.all()
    before = {uri: len(client.published[uri]) for uri in nb.cells}
    nb.change(data=[{"kind": 2, "document": nb.cells[1], "executionSummary": {"executionOrder": 3}}])
    nb.all()
    assert {uri: len(client.published[uri]) for uri in nb.cells} == before
    nb.close()


def test_an_edit_tells_of_its_cell_alone(client: Client) -> None:
    nb = Notebook(client, *CELLS, "x = 1")
    nb.all()
    before = {uri: len(client.published[uri]) for uri in nb.cells}
    nb.type(2, 0, 5, 0, 5, "0")
    nb.all()
    assert [len(client.published[uri]) - before[uri] for uri in nb.cells] == [0, 0, 1]
    nb.close()


@pytest.mark.parametrize(
    "encoding",
    [pytest.param("utf-8", marks=pytest.mark.slow), "utf-16", pytest.param("utf-32", marks=pytest.mark.slow)],
)
def test_columns_are_the_editors(tmp_path: Path, encoding: str) -> None:
    """Beside characters of all widths, in a cell that is indented, behind a magic."""
    width = {"utf-8": len("é😀".encode()), "utf-16": 3, "utf-32": 2}[encoding]
    texts = (
        CELLS[0],
        "  %time s = 'é😀'; prediction = model(torch.ones(4, 3)).detach()\n  prediction.sum().backward()",
    )
    with Client(tmp_path, encodings=(encoding,), capabilities=CAN) as client:
        nb = Notebook(client, *texts)
        (found,) = nb.diagnostics(1)
        start = len("  %time s = '") + width + len("'; prediction = ")
        assert found["range"]["start"] == {"line": 0, "character": start}
        where = {"start": found["range"]["start"], "end": found["range"]["start"]}
        action = next(each for each in nb.actions(1, where) if each.get("isPreferred"))
        resolved = client.request("codeAction/resolve", action)
        (change,) = resolved["edit"]["documentChanges"]
        (made,) = change["edits"]
        end = start + len("model(torch.ones(4, 3))")
        assert made["newText"] == ""
        assert made["range"]["start"] == {"line": 0, "character": end}


def test_fixes_land_in_their_cell(client: Client) -> None:
    nb = Notebook(client, "x = 1", *CELLS, "y = 2")
    nb.all()
    action = next(each for each in nb.actions(2, AT) if each.get("isPreferred"))
    assert action["diagnostics"] == shown(client, nb.cells[2])
    assert nb.apply(action) == [nb.cells[2]]
    assert nb.texts[nb.cells[2]] == CELLS[1].replace(".detach()", "")
    assert nb.all() == []
    nb.close()


def test_equal_cells_are_told_apart(client: Client) -> None:
    body = "p = torch.nn.Linear(2, 1)\np(torch.ones(1, 2)).detach().sum().backward()"
    nb = Notebook(client, "import torch", body, body)
    found = nb.all()
    assert [each[0] for each in found] == [1, 2]
    action = next(each for each in nb.actions(2, found[1][2]) if each.get("isPreferred"))
    assert nb.apply(action) == [nb.cells[2]]
    assert [each[0] for each in nb.all()] == [1]
    nb.close()


def test_ignore_here_silences_in_its_cell(client: Client) -> None:
    nb = Notebook(client, *CELLS)
    nb.all()
    action = next(each for each in nb.actions(1, AT) if each["title"].startswith("Ignore"))
    assert nb.apply(action) == [nb.cells[1]]
    assert "# gradsight: ignore[GS102]" in nb.texts[nb.cells[1]].split("\n")[2]
    assert nb.all() == []
    nb.close()


def test_fix_all_is_what_the_command_line_writes(client: Client, tmp_path: Path) -> None:
    other = CELLS[1].replace("loss", "risk").replace("prediction", "output")
    texts = (*CELLS, "%%bash\nls (", other, "f((")
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": text} for text in texts]
    (tmp_path / "nb.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    run("fix", "--write", "nb.ipynb", cwd=tmp_path)
    written = [each["source"] for each in json.loads((tmp_path / "nb.ipynb").read_text())["cells"]]
    assert sum(old != new for old, new in zip(texts, written, strict=True)) == 2
    nb = Notebook(client, *texts)
    nb.all()
    action = next(each for each in nb.actions(1, AT) if each["kind"] == "source.fixAll.gradsight")
    assert nb.apply(action) == [nb.cells[1], nb.cells[3]]
    assert [nb.texts[uri] for uri in nb.cells] == written
    nb.close()


def test_hover_highlight_and_lenses(client: Client) -> None:
    nb = Notebook(client, *CELLS)
    nb.all()

    def ask(method: str, at: int, row: int, column: int) -> Any:
        place = {"line": row, "character": column}
        return client.request(
            f"textDocument/{method}", {"textDocument": {"uri": nb.cells[at]}, "position": place}
        )

    said = ask("hover", 1, 2, 10)
    assert said["range"] == AT
    assert "1. cell 1, line 5: `model` should learn" in said["contents"]["value"]
    assert ask("hover", 0, 0, 3) is None  # a magic
    assert ask("hover", 0, 4, 1)["range"]["start"] == {"line": 4, "character": 0}
    assert client.request("textDocument/codeLens", {"textDocument": {"uri": nb.cells[0]}}) == []
    (lens,) = client.request("textDocument/codeLens", {"textDocument": {"uri": nb.cells[1]}})
    assert lens["range"]["start"]["line"] == 4
    (argument,) = lens["command"]["arguments"]
    assert argument["uri"] == nb.cells[1]
    last = CELLS[1].split("\n")
    assert argument["range"] == {
        "start": {"line": 0, "character": 0},
        "end": {"line": len(last) - 1, "character": len(last[-1])},
    }
    nb.write(1, CELLS[1].replace(".detach()", ""))
    nb.all()
    lit = ask("documentHighlight", 1, 4, 1)
    assert {each["range"]["start"]["line"] for each in lit} >= {1, 2}  # and nothing of the other cell
    assert max(each["range"]["start"]["line"] for each in lit) <= 4
    nb.close()


# -- probe --------------------------------------------------------------------------------------------------


def probe(nb: Notebook, at: int, where: Any = None) -> Any:
    argument = {"uri": nb.cells[at], "range": where, "python": sys.executable}
    command = {"command": "gradsight.runProbe", "arguments": [argument]}
    return nb.client.request("workspace/executeCommand", command)


@pytest.mark.slow
def test_a_probe_of_a_cell(client: Client) -> None:
    here = {"start": {"line": 3, "character": 0}, "end": {"line": 3, "character": 0}}
    kept = CELLS[1].replace(".detach()", "")
    nb = Notebook(client, CELLS[0], "raise RuntimeError('not needed')", "f((", kept)
    view = probe(nb, 3, here)
    assert (view["uri"], view["stale"], view["error"]) == (nb.cells[3], False, None)
    assert {row["range"]["start"]["line"] for row in view["rows"]} >= {1, 2}
    hints = client.request(
        "textDocument/inlayHint",
        {
            "textDocument": {"uri": nb.cells[3]},
            "range": {"start": {"line": 0, "character": 0}, "end": {"line": 99, "character": 0}},
        },
    )
    assert [hint["position"]["line"] for hint in hints] == [
        row["range"]["start"]["line"] for row in view["rows"]
    ]
    assert all(not hint["label"].startswith("(stale)") for hint in hints)
    nb.write(3, kept + "\nx = 1")
    (first, *_) = client.request(
        "textDocument/inlayHint",
        {
            "textDocument": {"uri": nb.cells[3]},
            "range": {"start": {"line": 0, "character": 0}, "end": {"line": 99, "character": 0}},
        },
    )
    assert first["label"].startswith("(stale)")
    nb.close()


@pytest.mark.slow
def test_a_probe_shows_what_ran_in_other_cells_and_names_its_lines(tmp_path: Path) -> None:
    with Client(tmp_path, capabilities=CAN, options={"decorations": True}) as client:
        cut = "h = model(torch.ones(4, 3)).detach()\n"
        nb = Notebook(client, CELLS[0], cut, "\nloss = h.sum()\nloss.backward()")
        here = {"start": {"line": 0, "character": 0}, "end": {"line": 2, "character": 3}}
        view = probe(nb, 2, here)
        assert view["error"]["row"] == 2
        assert "in cell 3, line 3" in view["summary"]
        above = client.notification("gradsight/probe", lambda view: view["uri"] == nb.cells[1])
        assert [(row["range"]["start"]["line"], row["state"]) for row in above["rows"]] == [(0, "cut")]
        upstream = next(row for row in view["rows"] if row["state"] == "cut-upstream")
        assert "line 1 of cell 2" in upstream["label"]


@pytest.mark.slow
def test_what_cannot_be_probed_is_said_in_cells(client: Client) -> None:
    nb = Notebook(client, "x = 1", "f((")
    with pytest.raises(Failed, match="cell 2, line 1 does not parse"):
        probe(nb, 1, {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 3}})
    nb.close()


# -- bad input, and everything at random --------------------------------------------------------------------


def test_malformed_notebooks_cost_themselves(client: Client) -> None:
    nb = Notebook(client, *CELLS)
    nb.all()
    for params in (
        {},
        {"notebookDocument": {"uri": 3}, "cells": []},
        {"notebookDocument": {"uri": nb.uri, "version": 9}, "change": {"cells": {"structure": {}}}},
        {
            "notebookDocument": {"uri": nb.uri},
            "change": {"cells": {"structure": {"array": {"start": -1, "deleteCount": 1}}}},
        },
        {
            "notebookDocument": {"uri": nb.uri},
            "change": {"cells": {"textContent": [{"document": {"uri": nb.cells[1]}, "changes": [{}]}]}},
        },
        {
            "notebookDocument": {"uri": nb.uri},
            "change": {"cells": {"textContent": [{"document": {"uri": "x:y"}, "changes": []}]}},
        },
        {"notebookDocument": {"uri": "file:///nowhere.ipynb"}, "change": {}},
        {"notebookDocument": {"uri": nb.uri}, "change": {}},
    ):
        client.notify("notebookDocument/didChange", params)
        client.notify(
            "notebookDocument/didOpen", {k: v for k, v in params.items() if k != "change"} | {"x": 1}
        )
    client.notify("notebookDocument/didClose", {"notebookDocument": {"uri": "file:///nowhere.ipynb"}})
    nb = Notebook(client, *CELLS, name=nb.path)
    assert nb.all() == [(1, "GS102", AT)]
    nb.close()


def test_an_empty_notebook_and_cells_of_other_languages(client: Client) -> None:
    nb = Notebook(client)
    nb.insert(0, *CELLS)
    assert nb.all() == [(1, "GS102", AT)]
    item = nb._item("select (") | {"languageId": "sql"}
    nb.cells.insert(1, item["uri"])
    array = {"start": 1, "deleteCount": 0, "cells": [{"kind": 2, "document": item["uri"]}]}
    nb.change(structure={"array": array, "didOpen": [item]})
    assert nb.actions(1) == []
    assert nb.all() == [(2, "GS102", AT)]
    nb.remove(2)
    nb.remove(1)
    nb.remove(0)
    nb.insert(0, *CELLS)
    assert nb.all() == [(1, "GS102", AT)]
    nb.close()


PIECES = [
    *CELLS,
    "f((",
    "x = '''",
    "",
    "%%bash\nls (",
    "def f(a):\n    return a.detach()",
    "h = f(prediction)\nh.sum().backward()",
    "import torch",
]


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]
)
def test_after_any_changes_it_is_as_if_opened_anew(client: Client, seed: int) -> None:
    rng = random.Random(seed)
    nb = Notebook(client, *rng.sample(PIECES, 4))
    for _ in range(25):
        what = rng.choice(["insert", "remove", "move", "type", "type", "write", "ask"])
        at = rng.randrange(len(nb.cells)) if nb.cells else 0
        if what == "insert" or not nb.cells:
            nb.insert(at, *rng.sample(PIECES, rng.randint(1, 2)))
        elif what == "remove" and len(nb.cells) > 1:
            nb.remove(at)
        elif what == "move":
            nb.move(at, rng.randrange(len(nb.cells)))
        elif what == "type":
            lines = nb.texts[nb.cells[at]].split("\n")
            row = rng.randrange(len(lines))
            column = rng.randint(0, len(lines[row]))
            nb.type(at, row, column, row, column, rng.choice(["(", ")", "\n", "%", "x", '"""', " "]))
        elif what == "write":
            nb.write(at, rng.choice(PIECES))
        elif what == "ask":
            nb.actions(at)
    found = nb.all()
    fresh = Notebook(client, *(nb.texts[uri] for uri in nb.cells))
    assert found == fresh.all()
    nb.close()
    fresh.close()


def test_what_the_editor_shows_is_what_the_command_line_says(client: Client, tmp_path: Path) -> None:
    texts = (*CELLS, "f((", "p = model(torch.ones(1, 3))\nfloat(p.sum())\np.round().sum().backward()")
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": "# T"}]
    cells += [{"cell_type": "code", "metadata": {}, "outputs": [], "source": text} for text in texts]
    (tmp_path / "nb.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    said = [
        (each["cell"] - 2, each["code"], each["location"]["row"] - 1, each["location"]["column"] - 1)
        for each in findings("nb.ipynb", cwd=tmp_path)
    ]
    nb = Notebook(client, *texts)
    assert said == [(at, code, *where["start"].values()) for at, code, where in nb.all()]
    assert len(said) > 2
    nb.close()


def test_a_client_without_notebooks_opens_cells_as_documents(tmp_path: Path) -> None:
    assert "notebookDocument" not in CAPABILITIES
    with Client(tmp_path) as client:
        uri = "vscode-notebook-cell:/nb.ipynb#W0"
        client.open(uri, LOST)
        assert [each["code"] for each in client.diagnostics(uri)] == ["GS102"]
        client.change(uri, {"text": KEPT})
        assert client.diagnostics(uri) == []
