"""What the server does at the same time: long analyses, bursts of edits, probes, and requests beside them."""

from __future__ import annotations

import os
import queue
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import KEPT, LOST, ROOT
from gradsight.text import Source
from gradsight_server.analyses import Analyses, Analysis
from gradsight_server.convert import Encoding
from gradsight_server.documents import Document
from harness.client import CAPABILITIES, Client, Failed, edit

CORPUS = sorted((ROOT / "fixtures" / "corpus").glob("*.py"))


def long_program() -> str:
    """Every program of the corpus behind each other."""
    lines = [line for path in CORPUS for line in path.read_text("utf-8").split("\n")]
    return "\n".join(line for line in lines if "__future__" not in line)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client(tmp_path_factory.mktemp("work")) as made:
        yield made


def document(uri: str, **more: Any) -> dict[str, Any]:
    return {"textDocument": {"uri": uri}, **more}


def test_requests_are_answered_while_a_long_analysis_runs(client: Client) -> None:
    small, large = client.uri("small.py"), client.uri("large.py")
    client.open(small, LOST)
    where = client.diagnostics(small)[0]["range"]
    client.open(large, long_program())
    hover = client.request("textDocument/hover", document(small, position=where["start"]))
    assert "GS102" in hover["contents"]["value"]
    assert client.request("textDocument/codeLens", document(small))
    asked = client.ask("textDocument/hover", document(large, position={"line": 1, "character": 5}))
    client.notify("$/cancelRequest", {"id": asked})
    assert large not in client.published, "the analysis was too short to show anything"
    with pytest.raises(Failed) as error:
        client.answer(asked)
    assert error.value.code == -32800
    assert large not in client.published
    client.diagnostics(large)


def test_of_a_burst_of_edits_the_last_one_is_answered(client: Client) -> None:
    uri = client.uri("burst.py")
    client.open(uri, long_program())
    client.diagnostics(uri)
    client.published[uri].clear()
    line = "x = 1\n" * 3
    for number in range(200):
        client.change(uri, edit(1, 0, 1, 0, line) if number % 2 == 0 else edit(1, 0, 4, 0, ""))
    client.change(uri, {"text": LOST})
    assert [each["code"] for each in client.diagnostics(uri)] == ["GS102"]
    versions = [each["version"] for each in client.published[uri]]
    assert versions == sorted(versions)
    assert versions[-1] == client.versions[uri]
    assert len(versions) < 200


def test_every_version_that_somebody_waits_for_is_published(client: Client) -> None:
    uri = client.uri("patient.py")
    client.open(uri, KEPT)
    for number in range(20):
        client.change(uri, edit(1, 0, 1, 0, "#") if number % 2 else edit(8, 0, 8, 0, "\n"))
        assert client.diagnostics(uri) == []


def test_a_document_that_is_closed_while_it_is_analysed_stays_silent(client: Client) -> None:
    for number in range(10):
        uri = client.uri(f"closing{number}.py")
        client.open(uri, LOST)
        client.shut(uri)
    uri = client.uri("last.py")
    client.open(uri, LOST)
    client.diagnostics(uri)
    for number in range(10):
        said = client.published[client.uri(f"closing{number}.py")]
        assert said[-1]["diagnostics"] == []
        assert "version" not in said[-1]


def test_a_document_that_is_opened_twice_answers_who_asked_before(client: Client) -> None:
    uri = client.uri("twice.py")
    client.open(uri, "".join(LOST.replace("prediction", f"prediction{number}") for number in range(300)))
    where = {"line": 5, "character": 8}
    asked = [client.ask("textDocument/hover", document(uri, position=where)) for _ in range(3)]
    hints(client, uri)  # so that those were taken
    client.open(uri, KEPT, 2)
    assert client.diagnostics(uri) == []
    for number in asked:
        client.answer(number)


def test_a_bug_in_publishing_leaves_nobody_waiting() -> None:
    said: queue.SimpleQueue[Analysis] = queue.SimpleQueue()

    def done(analysis: Analysis, outdated: bool) -> None:
        if analysis.findings.findings:
            raise RuntimeError("a bug")
        said.put(analysis)

    class Nothing:
        state = None

        def read(self, file: str) -> Source | None:
            return None

    analyses = Analyses(done, lambda: None, lambda uri: True, Nothing(), lambda files: ())
    analyses.start()
    try:
        opened = Document("file:///a.py", 1, LOST, Encoding.UTF16)
        analyses.want(opened.uri, opened.later(), edited=False)
        assert said.get(timeout=60).snapshot.edition == opened.edition
        opened.change(2, [{"text": KEPT}])  # the thread lives
        analyses.want(opened.uri, opened.later(), edited=True)
        assert said.get(timeout=60).snapshot.edition == opened.edition
    finally:
        analyses.close()


def test_many_documents_are_all_answered_and_edited_ones_again(client: Client) -> None:
    uris = [client.uri(f"many{number}.py") for number in range(60)]
    for number, uri in enumerate(uris):
        client.open(uri, (LOST if number % 2 else KEPT).replace("prediction", f"prediction{number}"))
    for number, uri in enumerate(uris):
        assert len(client.diagnostics(uri)) == number % 2
    for number, uri in enumerate(uris):
        client.change(uri, edit(0, 0, 0, 0, "# 😀\n"))
        found = client.diagnostics(uri)
        assert [each["range"]["start"]["line"] for each in found] == [6] * (number % 2)
        if found:
            hover = document(uri, position=found[0]["range"]["start"])
            assert "GS102" in client.request("textDocument/hover", hover)["contents"]["value"]


# -- probes


def probe(client: Client, uri: str, **more: Any) -> int:
    arguments = [{"uri": uri, "python": sys.executable, **more}]
    return client.ask("workspace/executeCommand", {"command": "gradsight.runProbe", "arguments": arguments})


def hints(client: Client, uri: str) -> list[Any]:
    end = {"line": 999, "character": 0}
    where = {"start": {"line": 0, "character": 0}, "end": end}
    found: list[Any] = client.request("textDocument/inlayHint", document(uri, range=where))
    return found


def test_a_probe_is_shown_by_hints_that_go_stale_and_fresh_again(client: Client) -> None:
    uri = client.uri("probed.py")
    (client.folder / "probed.py").write_text(KEPT)
    client.open(uri, KEPT)
    assert hints(client, uri) == []
    view = client.answer(probe(client, uri))
    assert (view["uri"], view["version"], view["stale"], view["device"]) == (uri, 1, False, "cpu")
    rows = {row["range"]["start"]["line"]: row for row in view["rows"]}
    assert rows[4]["state"] == "live"
    shown = hints(client, uri)
    assert [each["label"] for each in shown] == [row["label"] for row in view["rows"]]
    assert all(each["position"] == row["range"]["end"] for each, row in zip(shown, view["rows"], strict=True))
    client.notification("workspace/inlayHint/refresh")
    client.change(uri, edit(5, 0, 5, 0, "x = 1\n"))
    client.diagnostics(uri)
    assert all(each["label"].startswith("(stale) ") for each in hints(client, uri))
    client.change(uri, edit(5, 0, 6, 0, ""))
    client.diagnostics(uri)
    assert hints(client, uri) == shown
    client.request(
        "workspace/executeCommand", {"command": "gradsight.clearProbe", "arguments": [{"uri": uri}]}
    )
    assert hints(client, uri) == []


@pytest.mark.slow
def test_a_client_that_decorates_is_told_and_gets_no_hints(tmp_path: Path) -> None:
    with Client(tmp_path, options={"decorations": True}) as client:
        uri = client.uri("a.py")
        client.open(uri, LOST)
        client.diagnostics(uri)
        view = client.answer(probe(client, uri, range=None))
        assert view["error"]["row"] == 7
        told = client.notification("gradsight/probe")
        assert told == view
        assert hints(client, uri) == []
        client.change(uri, edit(0, 0, 0, 0, "y = 1\n"))
        assert client.notification("gradsight/probe")["stale"] is True
        client.change(uri, edit(0, 0, 1, 0, ""))
        assert client.notification("gradsight/probe")["stale"] is False
        client.request("workspace/executeCommand", {"command": "gradsight.clearProbe", "arguments": []})
        assert client.notification("gradsight/probe")["rows"] == []
        assert (
            client.notification("gradsight/status", lambda status: status["device"] == "cpu")["phase"]
            == "ready"
        )


@pytest.mark.slow
def test_nothing_runs_in_a_workspace_that_is_not_trusted(tmp_path: Path) -> None:
    with Client(tmp_path, options={"trusted": False, "decorations": True}) as client:
        uri = client.uri("a.py")
        client.open(uri, f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        with pytest.raises(Failed) as error:
            client.answer(probe(client, uri, python=str(tmp_path / "python")))
        assert "not trusted" in error.value.message
        assert [each for each in client.received if each["method"] == "gradsight/probe"] == []
        client.open(uri, KEPT)
        client.notify("gradsight/trusted", {"trusted": True})
        assert client.answer(probe(client, uri))["rows"]
        client.notify("gradsight/trusted", {"trusted": False})
        with pytest.raises(Failed):
            client.answer(probe(client, uri))
    assert not (tmp_path / "ran").exists()


def test_options_that_cannot_be_meant_give_no_trust(tmp_path: Path) -> None:
    with Client(tmp_path, options={"trusted": False, "decorations": "yes"}) as client:
        uri = client.uri("a.py")
        client.open(uri, KEPT)
        with pytest.raises(Failed, match="not trusted"):
            client.answer(probe(client, uri))


@pytest.mark.slow
@pytest.mark.parametrize("by", ["request", "progress", "closing"])
def test_a_probe_is_stopped_and_leaves_no_process(client: Client, by: str) -> None:
    client.received.clear()
    uri = client.uri(f"endless-{by}.py")
    program = "import os, time\nprint('PID', os.getpid(), flush=True)\nwhile True: time.sleep(0.1)\n"
    client.open(uri, program)
    asked = probe(client, uri)
    begun = client.notification("$/progress", lambda each: each["value"]["kind"] == "begin")
    assert begun["value"]["cancellable"] is True
    said = client.notification("$/progress", lambda each: "PID" in each["value"].get("message", ""))
    process = int(said["value"]["message"].split("PID ")[1])
    assert alive(process)
    assert client.request("textDocument/codeLens", document(uri)) == []  # beside it
    if by == "request":
        client.notify("$/cancelRequest", {"id": asked})
    elif by == "progress":
        client.notify("window/workDoneProgress/cancel", {"token": begun["token"]})
    else:
        other = client.uri("other.py")
        client.open(other, KEPT)
        assert client.answer(probe(client, other))["rows"]  # a new probe takes the old one's place
    with pytest.raises(Failed):
        client.answer(asked)
    client.wait(lambda: not alive(process) or None, "the end of the process")
    client.notification("$/progress", lambda each: each["value"]["kind"] == "end")


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:
        return ") Z" not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return not Path("/proc").is_dir()


@pytest.mark.slow
def test_a_server_that_ends_takes_its_probes_along(tmp_path: Path) -> None:
    client = Client(tmp_path)
    uri = client.uri("a.py")
    client.open(uri, "import os, time\nprint('PID', os.getpid(), flush=True)\ntime.sleep(600)\n")
    probe(client, uri)
    said = client.notification("$/progress", lambda each: "PID" in each["value"].get("message", ""))
    process = int(said["value"]["message"].split("PID ")[1])
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.process.wait(20) == 1
    deadline = time.monotonic() + 20
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process)
    client.close()


@pytest.mark.slow
def test_what_cannot_be_probed_is_a_sentence(client: Client) -> None:
    uri = client.uri("broken.py")
    client.open(uri, "import torch\nx = (\n")
    where = {"start": {"line": 0, "character": 0}, "end": {"line": 1, "character": 3}}
    with pytest.raises(Failed) as error:
        client.answer(probe(client, uri, range=where))
    assert "does not parse" in error.value.message
    client.change(uri, {"text": KEPT})
    with pytest.raises(Failed) as error:
        client.answer(probe(client, uri, python="/no/such/python"))
    assert "/no/such/python" in error.value.message
    assert "--" not in error.value.message
    assert client.answer(probe(client, uri))["rows"]


@pytest.mark.slow
def test_progress_is_shown_only_where_the_client_shows_it(tmp_path: Path) -> None:
    silent = {**CAPABILITIES, "window": {"workDoneProgress": False}}
    with Client(tmp_path, capabilities=silent) as client:
        uri = client.uri("a.py")
        client.open(uri, "x = 1\n")
        client.answer(probe(client, uri))
        assert not [each for each in client.received if "rogress" in each["method"]]
        arguments = {
            "command": "gradsight.runProbe",
            "arguments": [{"uri": uri, "python": sys.executable}],
            "workDoneToken": "mine",
        }
        client.request("workspace/executeCommand", arguments)
        kinds = [
            each["params"]["value"]["kind"] for each in client.received if each["method"] == "$/progress"
        ]
        assert (kinds[0], kinds[-1]) == ("begin", "end")
        assert {each["params"]["token"] for each in client.received if each["method"] == "$/progress"} == {
            "mine"
        }
