"""Random conversations with the language server, and what the documents must hold after them.

A conversation is a list of messages that follows from a seed. The texts are kept here once more, by code that
shares nothing with the server: positions count UTF-16 units, and lines end at `\\n`, `\\r\\n` and `\\r`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Message = dict[str, Any]
FIXTURES = Path(__file__).parent.parent / "fixtures"
PIECES = (
    "(", ")", "[", "]", "{", '"', "'", '"""', "\n", "\n\n", "\r\n", "\r", "\\\n", ":", ",", ".", "=", "#",
    " ", "    ", "\t", "\x0c", "\u2028", "é", "😀", "\ufeff", "\x00", "x", "0", ".detach()", ".item()",
    ".mean()", ".backward()", "float(", "\n    return x", "\nimport torch\n", "torch.tensor(",
    "  # gradsight: ignore", "  # gradsight: ignore[GS102]", "def f(x):\n    return x.detach()\n", "else:\n",
)  # fmt: skip
ANSWERED = (
    "hover", "documentHighlight", "codeAction", "codeLens", "inlayHint", "definition", "completion",
    "documentSymbol", "diagnostic", "semanticTokens/full", "foldingRange",
)  # fmt: skip
# What is no parameter of anything.
NONSENSE: tuple[object, ...] = (
    None, [], {}, 3, "text", [[]], {"textDocument": None}, {"textDocument": {"uri": 7}}, {"textDocument": {}},
    {"textDocument": {"uri": "file:///x.py"}, "position": {"line": "one", "character": 0}},
    {"textDocument": {"uri": "no uri at all \ud800"}, "position": {"line": 0, "character": 0}, "range": []},
    {"command": None}, {"command": "gradsight.runProbe", "arguments": [None]}, {"settings": 3},
)  # fmt: skip
# Changes that cannot be made: the text stays as it was.
IMPOSSIBLE: tuple[object, ...] = (
    None, 3, [3], [None], [{}], [{"text": None}], [{"range": {}, "text": "x"}],
    [{"range": {"start": {"line": 0, "character": 0}}, "text": "x"}],
    [{"range": {"start": {"line": "0", "character": 0}, "end": {"line": 0, "character": 1}}, "text": ""}],
)  # fmt: skip
SETTINGS: tuple[object, ...] = (
    {}, {"gradsight": {"ignore": []}}, {"gradsight": {"ignore": 3}}, {"gradsight": None}, {"gradsight": []},
    {"gradsight": {"severity": {"GS102": "loud"}}}, {"gradsight": {"probe": {"timeout": "soon"}}}, None, 3,
)  # fmt: skip
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")


def texts() -> list[str]:
    """Short programs with findings, and some that are none."""
    paths = sorted((FIXTURES / "rules").glob("*/*.py"))[::9] + sorted((FIXTURES / "corpus").glob("*.py"))[:4]
    programs = [path.read_text("utf-8") for path in paths]
    return [
        *programs,
        "",
        "\n",
        "x = 1",
        "import torch\nx = (",
        'import torch\ns = """',
        "\ufeffimport torch\n",
    ]


def changed(text: str, change: Message) -> str:
    """The text after one change, as the protocol defines it."""
    if "range" not in change:
        return str(change["text"])
    start, end = (offset(text, change["range"][key]) for key in ("start", "end"))
    return text[:start] + str(change["text"]) + text[max(start, end) :]


def offset(text: str, position: Message) -> int:
    """Where a position is; behind a line's end it means the end, behind the last line that of the text."""
    lines = _LINE.findall(text)
    if not text or text[-1] in "\r\n":
        lines.append("")
    row, units = position["line"], position["character"]
    if row >= len(lines):
        return len(text)
    before, line = sum(map(len, lines[:row])), lines[row].rstrip("\r\n")
    for column, each in enumerate(line):
        units -= 1 + (each > "\uffff")
        if units < 0:
            return before + column
    return before + len(line)


class Conversation:
    """Makes the messages of one conversation after another, and knows what the documents hold."""

    def __init__(self, seed: str, root: Path) -> None:
        self.rng = random.Random(seed)
        self.root = root
        self.texts: dict[str, str] = {}  # of each open document
        self.versions: dict[str, int] = {}
        self.requests = 0
        self._programs = texts()
        self._uris = [(root / f"file {number}.py").as_uri() for number in range(4)]
        self._acts: dict[Callable[[], Message], int] = {
            self._open: 4,
            self._change: 12,
            self._change_unknown: 1,
            self._change_impossibly: 1,
            self._close: 2,
            self._save: 1,
            self._ask: 6,
            self._ask_nonsense: 2,
            self._act_on_findings: 2,
            self._resolve: 1,
            self._command: 2,
            self._cancel: 2,
            self._configure: 1,
            self._tell_nonsense: 2,
        }

    def messages(self) -> list[Message]:
        """Five to thirty of them."""
        acts, weights = list(self._acts), list(self._acts.values())
        return [act() for act in self.rng.choices(acts, weights, k=self.rng.randint(5, 30))]

    # -- documents

    def _uri(self) -> str:
        if self.texts and self.rng.random() < 0.9:
            return self.rng.choice(list(self.texts))
        return self.rng.choice((*self._uris, "untitled:Untitled-1", "file:///nowhere/at%20all.py"))

    def _open(self) -> Message:
        uri = self.rng.choice(self._uris)
        text, version = self.rng.choice(self._programs), self.rng.choice((0, 1, 1, 1, 900))
        self.texts[uri], self.versions[uri] = text, version
        item = {"uri": uri, "languageId": "python", "version": version, "text": text}
        return _note("textDocument/didOpen", {"textDocument": item})

    def _change(self) -> Message:
        if not self.texts:
            return self._open()
        uri = self.rng.choice(list(self.texts))
        changes: list[Message] = []
        for _ in range(self.rng.choice((1, 1, 1, 1, 2, 3))):
            change = self._edit(self.texts[uri])
            self.texts[uri] = changed(self.texts[uri], change)
            changes.append(change)
        self.versions[uri] += self.rng.choice((1, 1, 1, 1, 1, 1, 50, 0, -3))
        document = {"uri": uri, "version": self.versions[uri]}
        return _note("textDocument/didChange", {"textDocument": document, "contentChanges": changes})

    def _edit(self, text: str) -> Message:
        if self.rng.random() < 0.05:
            return {"text": self.rng.choice(self._programs)}
        start = self._position(text)
        end = dict(start)
        new = "".join(self.rng.choices(PIECES, k=self.rng.choice((0, 1, 1, 1, 2))))
        if not new or self.rng.random() < 0.3:
            kind = self.rng.random()
            if kind < 0.6:
                end["character"] += self.rng.randint(1, 9)
            elif kind < 0.9:
                end = {"line": start["line"] + self.rng.randint(1, 4), "character": self.rng.randint(0, 20)}
            else:
                end = {"line": 1_000_000, "character": 7}
        return {"range": {"start": start, "end": end}, "text": new}

    def _position(self, text: str) -> Message:
        if self.rng.random() < 0.05:
            return {"line": self.rng.choice((0, 10_000, 2**31 - 1)), "character": 2**31 - 1}
        lines = text.count("\n") + 1
        return {"line": self.rng.randint(0, lines), "character": self.rng.randint(0, 40)}

    def _change_unknown(self) -> Message:
        document = {"uri": "file:///nowhere/at%20all.py", "version": 3}
        changes = [{"range": _range(0, 0, 0, 1), "text": "x"}]
        return _note("textDocument/didChange", {"textDocument": document, "contentChanges": changes})

    def _change_impossibly(self) -> Message:
        uri = self._uri()
        params: Message = {"contentChanges": self.rng.choice(IMPOSSIBLE)}
        if self.rng.random() < 0.8:
            params["textDocument"] = {"uri": uri, "version": self.versions.get(uri, 0)}
        return _note("textDocument/didChange", params)

    def _close(self) -> Message:
        uri = self._uri()
        self.texts.pop(uri, None)
        self.versions.pop(uri, None)
        return _note("textDocument/didClose", {"textDocument": {"uri": uri}})

    def _save(self) -> Message:
        return _note("textDocument/didSave", {"textDocument": {"uri": self._uri()}})

    # -- questions

    def _request(self, method: str, params: object) -> Message:
        self.requests += 1
        return {"jsonrpc": "2.0", "id": self.requests, "method": method, "params": params}

    def _ask(self) -> Message:
        uri = self._uri()
        at = self._position(self.texts.get(uri, ""))
        params: Message = {"textDocument": {"uri": uri}, "position": at}
        params["range"] = {"start": at, "end": self._position(self.texts.get(uri, ""))}
        params["context"] = {"diagnostics": []}
        return self._request(f"textDocument/{self.rng.choice(ANSWERED)}", params)

    def _ask_nonsense(self) -> Message:
        methods = [f"textDocument/{name}" for name in ANSWERED]
        methods += ["codeAction/resolve", "workspace/executeCommand", "nothing/known", "workspace/symbol"]
        return self._request(self.rng.choice(methods), self.rng.choice(NONSENSE))

    def _act_on_findings(self) -> Message:
        params: Message = {"textDocument": {"uri": self._uri()}, "range": _range(0, 0, 10_000, 0)}
        only = self.rng.choice((["source.fixAll"], ["source.fixAll.gradsight"], ["quickfix"], ["refactor"]))
        params["context"] = {"diagnostics": []} | ({"only": only} if self.rng.random() < 0.7 else {})
        return self._request("textDocument/codeAction", params)

    def _resolve(self) -> Message:
        datas = (None, 3, {}, {"token": "GS102@0:0-0:1"}, {"uri": self._uri(), "token": "nothing"})
        action = {"title": "Fix", "kind": "quickfix", "data": self.rng.choice(datas)}
        return self._request("codeAction/resolve", action)

    def _command(self) -> Message:
        commands = (
            ("gradsight.clearProbe", []),
            ("gradsight.clearProbe", [{"uri": self._uri()}]),
            ("gradsight.clearProbe", [7]),
            ("gradsight.runProbe", [{"uri": "file:///nowhere/at%20all.py"}]),
            ("gradsight.runProbe", [{"uri": 3}]),
            ("gradsight.runProbe", None),
            ("nothing.known", []),
        )
        command, arguments = self.rng.choice(commands)
        return self._request("workspace/executeCommand", {"command": command, "arguments": arguments})

    def _cancel(self) -> Message:
        known = max(1, self.requests - self.rng.randint(0, 3))
        return _note("$/cancelRequest", {"id": self.rng.choice((known, known, 10**6, "x"))})

    # -- what is told

    def _configure(self) -> Message:
        return _note("workspace/didChangeConfiguration", {"settings": self.rng.choice(SETTINGS)})

    def _tell_nonsense(self) -> Message:
        methods = (
            "textDocument/didOpen", "textDocument/didClose", "textDocument/didSave", "$/cancelRequest",
            "$/nothing", "nothing/known", "workspace/didChangeWatchedFiles", "$/setTrace",
            "workspace/didChangeWorkspaceFolders", "gradsight/trusted", "window/workDoneProgress/cancel",
            "notebookDocument/didOpen", "notebookDocument/didChange", "notebookDocument/didClose",
        )  # fmt: skip
        return _note(self.rng.choice(methods), self.rng.choice(NONSENSE))


def _note(method: str, params: object) -> Message:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def _range(row0: int, column0: int, row1: int, column1: int) -> Message:
    return {"start": {"line": row0, "character": column0}, "end": {"line": row1, "character": column1}}
