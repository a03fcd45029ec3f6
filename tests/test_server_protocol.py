"""The server's manners, over a real process: what is answered, when it ends, and what it survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import KEPT, LOST, environment, run
from harness.client import CAPABILITIES, Client, Failed, edit

INVALID_PARAMS, INVALID_REQUEST, NOT_INITIALIZED, PARSE_ERROR = -32602, -32600, -32002, -32700


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client(tmp_path_factory.mktemp("manners")) as made:
        yield made


def is_well(client: Client, name: str) -> None:
    """The server still finds what there is to find."""
    uri = client.uri(name)
    client.open(uri, LOST)
    assert [each["code"] for each in client.diagnostics(uri)] == ["GS102"]
    client.change(uri, {"text": KEPT})
    assert client.diagnostics(uri) == []
    client.shut(uri)


def at(uri: str, line: int, character: int) -> dict[str, Any]:
    return {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}


def everywhere(uri: str) -> dict[str, Any]:
    end = {"line": 9999, "character": 9999}
    return {"textDocument": {"uri": uri}, "range": {"start": {"line": 0, "character": 0}, "end": end}}


REQUESTS: dict[str, Any] = {
    "textDocument/hover": lambda uri: at(uri, 5, 12),
    "textDocument/documentHighlight": lambda uri: at(uri, 5, 0),
    "textDocument/codeLens": lambda uri: {"textDocument": {"uri": uri}},
    "textDocument/codeAction": lambda uri: {**everywhere(uri), "context": {"diagnostics": []}},
    "textDocument/inlayHint": everywhere,
}


@pytest.mark.parametrize("method", REQUESTS)
def test_unknown_and_closed_documents_have_nothing(client: Client, method: str) -> None:
    assert client.request(method, REQUESTS[method]("file:///nowhere/at/all.py")) in (None, [])
    uri = client.uri(f"closed-{method.rpartition('/')[2]}.py")
    client.open(uri, LOST)
    client.diagnostics(uri)
    client.shut(uri)
    assert client.request(method, REQUESTS[method](uri)) in (None, [])
    client.wait(lambda: client.published[uri][-1]["diagnostics"] == [] or None, "the end of diagnostics")


def test_changes_and_closes_of_unknown_documents_do_nothing(client: Client) -> None:
    uri = client.uri("unknown.py")
    client.versions[uri] = 1
    client.change(uri, edit(0, 0, 0, 0, "x"))
    client.shut(uri)
    is_well(client, "after-unknown.py")
    assert uri not in client.published


def test_versions_may_jump_and_stand_still(client: Client) -> None:
    uri = client.uri("jumping.py")
    client.open(uri, KEPT, version=7)
    assert client.diagnostics(uri) == []
    for version, text, count in ((100, LOST, 1), (3, KEPT, 0), (3, LOST, 1)):
        client.published[uri].clear()
        client.versions[uri] = version - 1
        client.change(uri, {"text": text})
        assert len(client.diagnostics(uri)) == count
    client.open(uri, KEPT, version=1)  # opened twice: the last one counts
    assert client.diagnostics(uri) == []


@pytest.mark.parametrize("method", REQUESTS)
def test_positions_outside_the_text_are_answered(client: Client, method: str) -> None:
    uri = client.uri("short.py")
    client.open(uri, "x = 1")
    params = REQUESTS[method](uri)
    if "position" in params:
        params["position"] = {"line": 10**6, "character": 10**6}
    assert client.request(method, params) in (None, [])


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("textDocument/hover", {"textDocument": {"uri": 3}}),
        ("textDocument/hover", None),
        ("textDocument/codeAction", {"textDocument": {"uri": "file:///a"}, "range": "everything"}),
        ("textDocument/codeLens", []),
        ("workspace/executeCommand", {"arguments": []}),
        ("codeAction/resolve", {"kind": "quickfix"}),
    ],
)
def test_malformed_parameters_are_answered_with_an_error(client: Client, method: str, params: Any) -> None:
    with pytest.raises(Failed) as error:
        client.request(method, params)
    assert error.value.code == INVALID_PARAMS
    assert method in error.value.message


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("gradsight.runProbe", [{}], "no `uri`"),
        ("gradsight.runProbe", [{"uri": "file:///nowhere.py"}], "not open"),
        ("gradsight.runProbe", [{"uri": 5}], "must be a text"),
        ("gradsight.runProbe", [{"uri": "file:///a.py", "range": [1, 2]}], "must be an object"),
        ("gradsight.runProbe", None, "no `uri`"),
        ("gradsight.fixAndProbe", [{}], "no `uri`"),
        ("gradsight.fixAndProbe", [{"uri": "file:///nowhere.py"}], "not open"),
        ("gradsight.noSuch", [], "no command"),
    ],
)
def test_commands_that_cannot_be_meant_say_why(
    client: Client, command: str, arguments: Any, words: str
) -> None:
    before = client.log
    with pytest.raises(Failed) as error:
        client.request("workspace/executeCommand", {"command": command, "arguments": arguments})
    assert words in error.value.message
    assert "Traceback" not in client.log.removeprefix(before)


def test_notifications_that_cannot_be_meant_are_passed_over(client: Client) -> None:
    for method in ("textDocument/didOpen", "textDocument/didChange", "textDocument/didClose"):
        for params in (None, {}, [], {"textDocument": None}, {"textDocument": {"uri": {}}}):
            client.notify(method, params)
    client.notify("gradsight/trusted", {"trusted": "perhaps"})
    client.notify("workspace/didChangeWatchedFiles", {"changes": 3})
    client.notify("$/setTrace", {"value": "loud"})
    client.notify("no/such", {"a": 1})
    client.notify("$/cancelRequest", {"id": 123456789})
    client.send({"jsonrpc": "2.0", "method": "textDocument/didOpen"})
    uri = client.uri("half.py")
    client.open(uri, LOST)
    client.notify(
        "textDocument/didChange",
        {"textDocument": {"uri": uri, "version": 2}, "contentChanges": [{"range": {"start": 1}, "text": ""}]},
    )
    client.versions[uri] = 2
    client.change(uri, edit(0, 0, 0, 0, "# half\n"))
    assert client.diagnostics(uri)[0]["range"]["start"]["line"] == 6
    is_well(client, "after-notifications.py")
    assert not [each for each in client.received if each["method"].startswith("window/show")]


def test_what_is_no_message_is_answered_and_survived(client: Client) -> None:
    for body, code in (
        (b"{", PARSE_ERROR),
        (b"\xff\xfe", PARSE_ERROR),
        (b"[]", INVALID_REQUEST),
        (b"17", INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","id":1,"method":"shutdown"}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":null,"method":"textDocument/hover"}', INVALID_REQUEST),
    ):
        client.send_body(body)
        with pytest.raises(Failed) as error:
            client.answer(None)
        assert error.value.code == code
    assert client.process.stdin is not None
    client.process.stdin.write(b"X-Other: 1\r\n\r\n")
    client.send({"jsonrpc": "2.0", "id": "no such response", "result": 1})
    client.send({"jsonrpc": "2.0", "id": 99, "error": {"code": 1, "message": "?"}})
    is_well(client, "after-nonsense.py")


def test_unknown_requests_and_late_edits(client: Client) -> None:
    with pytest.raises(Failed) as error:
        client.request("textDocument/noSuchThing", {})
    assert error.value.code == -32601
    with pytest.raises(Failed) as error:
        client.request("textDocument/didOpen", {})
    with pytest.raises(Failed) as error:
        client.request("codeAction/resolve", {"title": "Remove", "data": {"uri": "file:///gone.py"}})
    assert error.value.code == -32801
    with pytest.raises(Failed) as error:
        client.request("codeAction/resolve", {"title": "Somebody else's"})
    assert "none of Gradsight's" in error.value.message


def test_before_initialize_and_after_shutdown_requests_are_refused(tmp_path: Path) -> None:
    client = Client(tmp_path, initialize=False)
    with pytest.raises(Failed) as error:
        client.request("textDocument/hover", at("file:///a.py", 0, 0))
    assert error.value.code == NOT_INITIALIZED
    client.notify("textDocument/didOpen", {"textDocument": {"uri": "file:///a.py", "text": "", "version": 1}})
    client.request("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
    with pytest.raises(Failed) as error:
        client.request("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
    assert error.value.code == INVALID_REQUEST
    client.notify("initialized", {})
    is_well(client, "a.py")
    assert client.request("shutdown", None) is None
    with pytest.raises(Failed) as error:
        client.request("textDocument/hover", at("file:///a.py", 0, 0))
    assert error.value.code == INVALID_REQUEST
    client.notify("exit", None)
    assert client.process.wait(10) == 0
    client.close()


def test_a_client_that_just_leaves(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.notify("exit", None)
    assert client.process.wait(10) == 1
    client.close()
    client = Client(tmp_path)
    client.open(client.uri("a.py"), LOST)
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.process.wait(10) == 1
    client.close()


@pytest.mark.skipif(os.name == "nt", reason="the editor is killed by a signal")
def test_the_server_ends_with_its_editor_though_its_pipes_are_open(tmp_path: Path) -> None:
    editor = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    client = Client(tmp_path, process_id=editor.pid)
    is_well(client, "a.py")
    editor.send_signal(signal.SIGKILL)
    editor.wait()
    assert client.process.wait(20) == 1
    client.close()


@pytest.mark.slow
def test_a_client_in_another_container_is_not_missed(tmp_path: Path) -> None:
    with Client(tmp_path, process_id=2**22 + 12345) as client:
        time.sleep(4)  # longer than the server takes to look
        is_well(client, "a.py")


def test_words_of_the_command_line(tmp_path: Path) -> None:
    assert b"usage: gradsight server" in run("server", "--help", cwd=tmp_path).stdout
    done = run("server", "--port", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert b"`--port`" in done.stderr


def test_only_messages_are_written_to_the_client(tmp_path: Path) -> None:
    """Neither what is printed in the process, nor what its children print."""
    program = (
        "import os\n"
        "from gradsight_server import app\n"
        "old = app.Server._ready\n"
        "def ready(self):\n"
        "    print('noise', flush=True); os.write(1, b'noise'); os.system('echo noise; cat')\n"
        "    old(self)\n"
        "app.Server._ready = ready\n"
        "raise SystemExit(app.main(['--stdio']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**environment(), "XDG_CACHE_HOME": str(tmp_path)},
    )
    uri = (tmp_path / "a.py").as_uri()
    item = {"uri": uri, "languageId": "python", "version": 1, "text": LOST}
    messages = [
        {"id": 1, "method": "initialize", "params": {"processId": None, "rootUri": None, "capabilities": {}}},
        {"method": "initialized", "params": {}},
        {"method": "textDocument/didOpen", "params": {"textDocument": item}},
        {
            "id": 2,
            "method": "textDocument/codeAction",
            "params": {**everywhere(uri), "context": {"diagnostics": []}},
        },
    ]
    assert process.stdin is not None
    assert process.stdout is not None
    for message in messages:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    process.stdin.flush()
    seen = []
    while not any(each.get("id") == 2 for each in seen):
        header = process.stdout.readline()
        assert header.startswith(b"Content-Length: "), header
        process.stdout.readline()
        seen.append(json.loads(process.stdout.read(int(header.split()[1]))))
    _, errors = process.communicate(timeout=20)
    assert b"noise" in errors


def test_what_the_server_can_do(client: Client) -> None:
    can = client.capabilities
    assert can["positionEncoding"] == "utf-16"
    assert can["textDocumentSync"]["openClose"] is True
    assert can["textDocumentSync"]["change"] == 2
    assert can["codeActionProvider"] == {
        "codeActionKinds": ["quickfix", "source.fixAll.gradsight"],
        "resolveProvider": True,
    }
    assert sorted(can["executeCommandProvider"]["commands"]) == [
        "gradsight.clearProbe",
        "gradsight.fixAndProbe",
        "gradsight.runProbe",
    ]
    for provider in ("hoverProvider", "documentHighlightProvider", "codeLensProvider", "inlayHintProvider"):
        assert can[provider]


def test_the_encoding_is_the_first_that_the_client_names(tmp_path: Path) -> None:
    for named, chosen in ((("utf-8", "utf-16"), "utf-8"), (("utf-32",), "utf-32"), (("utf-7",), "utf-16")):
        with Client(tmp_path, encodings=named, capabilities=CAPABILITIES) as client:
            assert client.capabilities["positionEncoding"] == chosen
