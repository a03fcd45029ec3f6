"""What an editor gets from the server, compared with what the command line says of the same text."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from command_line import KEPT, LOST, ROOT, findings, run
from harness.client import Client, Failed, edit

RULES = sorted((ROOT / "fixtures" / "rules").iterdir())
PROGRAMS = [sorted(folder.glob("flagged_*.py"))[0] for folder in RULES]
WIDTHS = {
    "utf-8": lambda text: len(text.encode()),
    "utf-16": lambda text: len(text.encode("utf-16-le")) // 2,
    "utf-32": len,
}
# Before the mistake of LOST, on its own line, all that columns can stumble over.
AWKWARD = "\ufeff" + LOST.replace("loss =", 'note = "é😀\u2028\x85"; loss =').replace(
    "import torch\n", "import torch  # 😀\n\f\n"
).replace("\n", "\r\n")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client(tmp_path_factory.mktemp("features")) as made:
        yield made


def read(path: Path) -> str:
    return path.read_bytes().decode("utf-8")


def lines(text: str) -> list[str]:
    """As an editor cuts it."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def place(text: str, location: Any, encoding: str) -> dict[str, int]:
    """A place of the command line (from 1, in code points, no byte order mark) as an editor names it."""
    row = location["row"] - 1
    mark = int(row == 0 and text.startswith("\ufeff"))
    before = lines(text)[row][: location["column"] - 1 + mark]
    return {"line": row, "character": WIDTHS[encoding](before)}


def applied(text: str, edits: list[Any], encoding: str) -> str:
    """A text after an editor's edits, which all count from before."""
    starts, rest = [0], text
    for line in lines(text)[:-1]:
        rest = text[starts[-1] + len(line) :]
        starts.append(starts[-1] + len(line) + (2 if rest.startswith("\r\n") else 1))

    def offset(where: Any) -> int:
        line = lines(text)[where["line"]] if where["line"] < len(starts) else ""
        column = next(
            (at for at in range(len(line) + 1) if WIDTHS[encoding](line[:at]) >= where["character"]),
            len(line),
        )
        return starts[where["line"]] + column

    for each in sorted(edits, key=lambda each: offset(each["range"]["start"]), reverse=True):
        start, end = offset(each["range"]["start"]), offset(each["range"]["end"])
        text = text[:start] + each["newText"] + text[end:]
    return text


def only_edits(action: Any, uri: str, version: int) -> list[Any]:
    """The edits of an action, which are for one version of one document."""
    (change,) = action["edit"]["documentChanges"]
    assert change["textDocument"] == {"uri": uri, "version": version}
    edits: list[Any] = change["edits"]
    return edits


def actions(client: Client, uri: str, where: Any, **context: Any) -> list[Any]:
    params = {
        "textDocument": {"uri": uri},
        "range": where,
        "context": {"diagnostics": client.diagnostics(uri), **context},
    }
    found: list[Any] = client.request("textDocument/codeAction", params)
    return found


def programs() -> list[tuple[str, str]]:
    return [*((path.name, read(path)) for path in PROGRAMS), ("awkward.py", AWKWARD)]


@pytest.mark.parametrize(
    "encoding",
    [pytest.param("utf-8", marks=pytest.mark.slow), "utf-16", pytest.param("utf-32", marks=pytest.mark.slow)],
)
def test_diagnostics_say_what_the_command_line_says(encoding: str, tmp_path: Path) -> None:
    with Client(tmp_path, encodings=(encoding,)) as client:
        for name, text in programs():
            (tmp_path / name).write_bytes(text.encode())
            client.open(client.uri(name), text)
        said = findings(*(name for name, _ in programs()), cwd=tmp_path)
        for name, text in programs():
            uri = client.uri(name)
            wanted = [
                {
                    "code": each["code"],
                    "message": each["message"],
                    "severity": ["error", "warning", "information", "hint"].index(each["severity"]) + 1,
                    "range": {
                        "start": place(text, each["location"], encoding),
                        "end": place(text, each["end_location"], encoding),
                    },
                    "source": "gradsight",
                    "path": [
                        (
                            step["message"],
                            uri,
                            place(text, step["location"], encoding),
                            place(text, step["end_location"], encoding),
                        )
                        for step in each["path"]
                    ],
                }
                for each in said
                if each["filename"] == name
            ]
            assert wanted, name
            got = []
            for each in client.diagnostics(uri):
                kept = {key: each[key] for key in ("code", "message", "severity", "range", "source")}
                kept["path"] = [
                    (
                        step["message"],
                        step["location"]["uri"],
                        step["location"]["range"]["start"],
                        step["location"]["range"]["end"],
                    )
                    for step in each.get("relatedInformation", [])
                ]
                got.append(kept)
            assert got == wanted, name


def test_a_diagnostic_names_a_page_that_opens_without_a_network(client: Client) -> None:
    uri = client.uri("page.py")
    client.open(uri, LOST)
    (found,) = client.diagnostics(uri)
    parts = urlsplit(found["codeDescription"]["href"])
    assert parts.scheme == "file"
    page = Path(unquote(parts.path)).read_text("utf-8")
    assert page.startswith("# GS102 detach-in-loss\n")
    assert "## Use instead" in page


def test_without_a_cache_folder_there_is_no_page_and_nothing_else_is_lost(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Client(tmp_path, env={"XDG_CACHE_HOME": str(tmp_path / "file"), "LOCALAPPDATA": ""}) as client:
        uri = client.uri("a.py")
        client.open(uri, LOST)
        (found,) = client.diagnostics(uri)
        assert "codeDescription" not in found


@pytest.mark.parametrize("encoding", [pytest.param("utf-8", marks=pytest.mark.slow), "utf-16"])
def test_quick_fixes_do_what_the_command_line_would_do(encoding: str, tmp_path: Path) -> None:
    with Client(tmp_path, encodings=(encoding,)) as client:
        for name, text in programs():
            (tmp_path / name).write_bytes(text.encode())
            client.open(client.uri(name), text)
        said = findings("--fixes", *(name for name, _ in programs()), cwd=tmp_path)
        preferred = 0
        for name, text in programs():
            uri = client.uri(name)
            wanted = [each for each in said if each["filename"] == name]
            for finding, diagnostic in zip(wanted, client.diagnostics(uri), strict=True):
                token = diagnostic["data"]["token"]
                offered = [
                    each
                    for each in actions(client, uri, diagnostic["range"], only=["quickfix"])
                    if each["data"].get("token") == token
                ]
                assert all("edit" not in each and each["kind"] == "quickfix" for each in offered)
                assert all(each["diagnostics"] == [diagnostic] for each in offered)
                fixes = [each for each in offered if each["data"]["offer"].startswith("fix")]
                assert len(fixes) == len(finding["fixes"])
                safe = [each["applicability"] == "safe" for each in finding["fixes"]]
                first = safe.index(True) if True in safe else None
                for number, (fix, action) in enumerate(zip(finding["fixes"], fixes, strict=True)):
                    mark = {"safe": "", "unsafe": " (unsafe)", "display": " (to complete)"}
                    assert action["title"] == fix["title"] + mark[fix["applicability"]]
                    assert action.get("isPreferred", False) == (number == first)
                    preferred += number == first
                    edits = only_edits(client.request("codeAction/resolve", action), uri, 1)
                    expected = [
                        {
                            "range": {
                                "start": place(text, each["location"], encoding),
                                "end": place(text, each["end_location"], encoding),
                            },
                            "newText": each["content"],
                        }
                        for each in fix["edits"]
                    ]
                    assert _normal(edits) == _normal(expected), name
        assert preferred > len(PROGRAMS) // 4


def _normal(edits: list[Any]) -> list[Any]:
    return sorted(
        (tuple(each["range"]["start"].values()), tuple(each["range"]["end"].values()), lines(each["newText"]))
        for each in edits
    )


def test_ignore_here_silences_that_one_finding(client: Client) -> None:
    uri = client.uri("ignored.py")
    client.open(uri, AWKWARD)
    (found,) = client.diagnostics(uri)
    ignore = [each for each in actions(client, uri, found["range"]) if each["title"] == "Ignore GS102 here"]
    edits = only_edits(client.request("codeAction/resolve", ignore[0]), uri, 1)
    text = applied(AWKWARD, edits, "utf-16")
    assert "# gradsight: ignore[GS102]" in text
    client.change(uri, {"text": text})
    assert client.diagnostics(uri) == []


def test_what_is_intended_is_silent_and_says_why(client: Client) -> None:
    for name, before, after in (
        ("plain.py", "", "# gradsight: ignore[GS102] intended: "),
        ("noted.py", "  # gradsight: ignore[GS309] a metric", "[GS309, GS102] a metric; intended: "),
        ("other.py", "  # gradsight: ignore[GS309]  # noqa", "# gradsight: ignore[GS309, GS102] intended: "),
    ):
        text = TWICE.replace(
            "a = second(hidden).detach().mean()", f"a = second(hidden).detach().mean(){before}"
        )
        uri = client.uri(name)
        client.open(uri, text)
        found = next(each for each in client.diagnostics(uri) if each["code"] == "GS102")
        offered = actions(client, uri, found["range"])
        (intended,) = [each for each in offered if each["data"]["offer"] == "intended"]
        edits = only_edits(client.request("codeAction/resolve", intended), uri, 1)
        changed = applied(text, edits, "utf-16")
        assert after in changed
        assert ("  # noqa\n" in changed) == ("noqa" in before)
        client.change(uri, {"text": changed})
        assert sum(each["code"] == "GS102" for each in client.diagnostics(uri)) == 1


def test_what_raises_is_nobodys_intention(client: Client) -> None:
    uri = client.uri("raises.py")
    client.open(uri, LOST)
    raised = [each for each in client.diagnostics(uri) if each["severity"] == 1]
    assert raised
    offered = {each["data"]["offer"] for each in actions(client, uri, raised[0]["range"])}
    assert "ignore" in offered
    assert "intended" not in offered


TWICE = """\
import torch
from torch import nn

first, second, third = nn.Linear(4, 2), nn.Linear(2, 2), nn.Linear(2, 1)
optimizer = torch.optim.SGD([*first.parameters(), *second.parameters(), *third.parameters()], lr=0.1)
loss_fn = nn.CrossEntropyLoss()
for _ in range(2):
    optimizer.zero_grad()
    hidden = first(torch.randn(8, 4))
    a = second(hidden).detach().mean()
    b = third(hidden).detach().mean()
    logits = torch.softmax(first(torch.randn(8, 4)), dim=1)
    loss = loss_fn(logits, torch.randint(0, 2, (8,))) + hidden.mean() + a + b
    loss.backward()
    optimizer.step()
"""


def test_fix_all_of_a_kind_is_what_the_command_line_writes_and_shows(client: Client, tmp_path: Path) -> None:
    uri = client.uri("twice.py")
    client.open(uri, TWICE)
    _, second = [each for each in client.diagnostics(uri) if each["code"] == "GS102"]
    for ends in ("\n", "\r\n"):
        text = TWICE.replace("\n", ends)
        client.change(uri, {"text": text})
        (action,) = [
            each for each in actions(client, uri, second["range"]) if each["data"]["offer"] == "kind"
        ]
        assert action["title"] == "Fix all GS102 in this file"
        resolved = client.request("codeAction/resolve", action)
        edited = applied(text, only_edits(resolved, uri, client.versions[uri]), "utf-16")
        assert edited == text.replace(".detach()", "")
        path = tmp_path / "twice.py"
        path.write_bytes(text.encode())
        diff = run("fix", "--diff", "--only", "GS102", "twice.py", cwd=tmp_path).stdout
        run("fix", "--write", "--only", "GS102", "twice.py", cwd=tmp_path)
        assert path.read_bytes() == edited.encode()
        assert patched(text, diff) == edited
    assert run("fix", "--only", "GS9", "twice.py", cwd=tmp_path).returncode == 2


def test_one_alone_is_no_kind(client: Client) -> None:
    uri = client.uri("alone.py")
    client.open(uri, LOST)
    offered = actions(client, uri, client.diagnostics(uri)[0]["range"])
    assert "kind" not in {each["data"]["offer"] for each in offered}


def patched(text: str, diff: bytes) -> str:
    """A text after a unified diff of it, as `patch` would make it."""
    rows, out, at = text.encode().split(b"\n"), [], 0
    for line in diff.split(b"\n")[2:-1]:
        if line.startswith(b"@@"):
            begins = int(line.split()[1][1:].split(b",")[0]) - 1
            out += rows[at:begins]
            at = begins
            continue
        if line[:1] in b" -":
            assert rows[at] == line[1:]
            at += 1
        if line[:1] in b" +":
            out.append(line[1:])
    return b"\n".join([*out, *rows[at:]]).decode()


def test_fix_all_is_what_the_command_line_writes(client: Client, tmp_path: Path) -> None:
    corpus = [(path.name, read(path)) for path in sorted((ROOT / "fixtures" / "seeds").glob("*.py"))[:6]]
    several = LOST + LOST.replace("import torch\n", "").replace("detach()", "detach().numpy()")
    changed = 0
    every = {
        tmp_path / f"{number}" / name: text
        for number, (name, text) in enumerate([*programs(), *corpus, ("several.py", several)])
    }
    for path, text in every.items():
        path.parent.mkdir()
        path.write_bytes(text.encode())
    run("fix", "--write", *every, cwd=tmp_path)
    for path, text in every.items():
        uri = client.uri(f"all/{path.parent.name}/{path.name}")
        client.open(uri, text)
        start = {"line": 0, "character": 0}
        found = actions(client, uri, {"start": start, "end": start}, only=["source.fixAll"])
        if not client.diagnostics(uri):
            assert found == []
            continue
        (action,) = found
        assert action["kind"] == "source.fixAll.gradsight"
        made = client.request("codeAction/resolve", action)["edit"]["documentChanges"]
        fixed = applied(text, made[0]["edits"], "utf-16") if made else text
        assert fixed.encode() == path.read_bytes(), path.name
        changed += fixed != text
        if fixed != text:
            client.change(uri, {"text": fixed})
            assert not [each for each in client.diagnostics(uri) if each["code"] == "GS001"]
    assert changed > len(PROGRAMS) // 3  # not every rule has a safe fix


def test_only_the_kinds_that_are_asked_for(client: Client) -> None:
    uri = client.uri("kinds.py")
    client.open(uri, LOST)
    where = client.diagnostics(uri)[0]["range"]

    def kinds(*only: str) -> set[str]:
        return {each["kind"] for each in actions(client, uri, where, only=list(only))}

    everything = {"quickfix", "source.fixAll.gradsight"}
    assert kinds("quickfix") == {"quickfix"}
    assert kinds("source") == kinds("source.fixAll") == {"source.fixAll.gradsight"}
    assert kinds("refactor") == kinds("source.fixAll.other") == kinds("quick") == set()
    assert kinds() == kinds("") == everything


def test_an_editor_that_resolves_nothing_gets_the_edits_at_once(tmp_path: Path) -> None:
    bare = {
        "textDocument": {"codeAction": {"codeActionLiteralSupport": {"codeActionKind": {"valueSet": []}}}}
    }
    with Client(tmp_path, capabilities=bare) as client:
        uri = client.uri("a.py")
        client.open(uri, LOST)
        found = actions(client, uri, client.diagnostics(uri)[0]["range"])
        fix = next(each for each in found if each.get("isPreferred"))
        assert applied(LOST, fix["edit"]["changes"][uri], "utf-16") == KEPT
        every = next(each for each in found if each["kind"] == "source.fixAll.gradsight")
        assert applied(LOST, every["edit"]["changes"][uri], "utf-16") == KEPT


def test_a_fix_of_a_text_that_changed_is_for_the_text_as_it_is_or_none(client: Client) -> None:
    uri = client.uri("late.py")
    client.open(uri, LOST)
    where = client.diagnostics(uri)[0]["range"]
    fix = next(each for each in actions(client, uri, where) if each.get("isPreferred"))
    client.change(uri, edit(8, 0, 8, 0, "# below\n"))
    edits = only_edits(client.request("codeAction/resolve", fix), uri, 2)
    assert applied(LOST, edits, "utf-16") == KEPT
    client.change(uri, {"text": "\n" + LOST})
    with pytest.raises(Failed) as error:
        client.request("codeAction/resolve", fix)
    assert error.value.code == -32801
    client.shut(uri)
    with pytest.raises(Failed) as error:
        client.request("codeAction/resolve", fix)
    assert error.value.code == -32801


def test_a_text_that_is_opened_again_gets_its_own_fixes(client: Client) -> None:
    """The finding stands where it stood and the version begins anew, but its line is longer."""
    uri = client.uri("reopened.py")
    longer = LOST.replace(".mean()", ".mean()  # of all")
    places = []
    for version, text in enumerate((LOST, longer), 1):
        client.open(uri, text, version)
        places.append(client.diagnostics(uri)[0]["range"])
        silencing = next(each for each in actions(client, uri, places[-1]) if "Ignore" in each["title"])
        edits = only_edits(client.request("codeAction/resolve", silencing), uri, version)
        before, after = text.split("\n")[5], applied(text, edits, "utf-16").split("\n")[5]
        assert after.startswith(before)
        assert "gradsight: ignore[GS102]" in after[len(before) :]
        client.shut(uri)
    assert places[0] == places[1]


def hover(client: Client, uri: str, line: int, character: int) -> Any:
    position = {"line": line, "character": character}
    return client.request("textDocument/hover", {"textDocument": {"uri": uri}, "position": position})


def test_hover_explains_a_finding_and_names(client: Client) -> None:
    uri = client.uri("hover.py")
    client.open(uri, LOST)
    (found,) = client.diagnostics(uri)
    said = hover(client, uri, 5, 10)
    assert said["range"] == found["range"]
    text = said["contents"]["value"]
    assert found["message"] in text
    for number, step in enumerate(found["relatedInformation"], 1):
        line = step["location"]["range"]["start"]["line"] + 1
        assert f"{number}. line {line}: {step['message']}" in text
    assert f"({found['codeDescription']['href']})" in text
    name = hover(client, uri, 4, 3)
    assert name["range"] == {"start": {"line": 4, "character": 0}, "end": {"line": 4, "character": 10}}
    assert "`model`" in name["contents"]["value"]
    assert hover(client, uri, 1, 0) is None


def test_hover_without_markdown(tmp_path: Path) -> None:
    plain = {"textDocument": {"hover": {"contentFormat": ["plaintext"]}}}
    with Client(tmp_path, capabilities=plain) as client:
        uri = client.uri("a.py")
        client.open(uri, LOST)
        said = hover(client, uri, 5, 10)["contents"]
        assert said["kind"] == "plaintext"
        assert "**" not in said["value"]


def test_a_loss_lights_what_feeds_it(client: Client) -> None:
    uri = client.uri("lit.py")
    client.open(uri, KEPT)
    position = {"line": 5, "character": 1}
    lit = client.request(
        "textDocument/documentHighlight", {"textDocument": {"uri": uri}, "position": position}
    )
    rows = {each["range"]["start"]["line"] for each in lit}
    assert {2, 4, 5} <= rows
    assert 0 not in rows
    assert lit[0]["range"]["start"] == {"line": 5, "character": 0}


def test_lenses_stand_over_what_can_be_probed(client: Client) -> None:
    uri = client.uri("lens.py")
    client.open(uri, KEPT)
    (lens,) = client.request("textDocument/codeLens", {"textDocument": {"uri": uri}})
    assert lens["command"]["title"] == "Run probe"
    assert lens["command"]["command"] == "gradsight.runProbe"
    assert lens["command"]["arguments"][0]["uri"] == uri
    assert lens["range"]["start"]["line"] == KEPT.split("\n").index("loss.backward()")
    client.change(uri, {"text": "x = 1\n"})
    assert client.request("textDocument/codeLens", {"textDocument": {"uri": uri}}) == []


def test_the_whole_files_syntax_is_looked_at_when_nobody_types(client: Client) -> None:
    uri = client.uri("whole.py")
    client.open(uri, LOST)
    client.diagnostics(uri)
    version = client.change(uri, edit(8, 0, 8, 0, "else:\n    pass\n"))

    def both() -> bool | None:
        last = client.published[uri][-1]
        found = {each["code"] for each in last["diagnostics"]}
        return True if last["version"] == version and found == {"GS001", "GS102"} else None

    client.wait(both, "the syntax of the whole file")


def test_unsaved_documents(client: Client) -> None:
    uri = "untitled:Untitled-1"
    client.open(uri, LOST)
    assert [each["code"] for each in client.diagnostics(uri)] == ["GS102"]
    assert "line 8" in hover(client, uri, 5, 10)["contents"]["value"]


# -- settings


def codes(client: Client, uri: str, wanted: set[str]) -> None:
    """Wait until the last diagnostics of a document have these codes."""

    def look() -> bool | None:
        published = client.published.get(uri, [])
        return (
            True if published and {each["code"] for each in published[-1]["diagnostics"]} == wanted else None
        )

    client.wait(look, f"{wanted} in {uri}")


def test_settings_are_live_and_win_over_the_project(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.gradsight]\nignore = ["GS102"]\n[tool.gradsight.severity]\nGS302 = "hint"\n')
    with Client(tmp_path, settings={}) as client:
        uri = client.uri("a.py")
        client.open(uri, LOST)
        assert client.diagnostics(uri) == []
        watched = client.notification("client/registerCapability")
        assert "**/pyproject.toml" in str(watched)

        project.write_text('[tool.gradsight]\nseverity = {GS102 = "hint"}\n')
        client.notify("workspace/didChangeWatchedFiles", {"changes": [{"uri": project.as_uri(), "type": 2}]})
        codes(client, uri, {"GS102"})
        assert client.published[uri][-1]["diagnostics"][0]["severity"] == 4

        client.settings = {"severity": {"GS1": "information"}, "select": None}
        client.notify("workspace/didChangeConfiguration", {"settings": None})
        client.wait(
            lambda: client.published[uri][-1]["diagnostics"][0]["severity"] == 3 or None, "the severity"
        )
        client.settings = {"ignore": ["GS1"]}
        client.notify("workspace/didChangeConfiguration", {"settings": None})
        codes(client, uri, set())
        client.settings = {"ignore": [], "lens": {"enable": False}, "hover": {"enable": False}}
        client.notify("workspace/didChangeConfiguration", {"settings": None})
        codes(client, uri, {"GS102"})
        assert hover(client, uri, 5, 10) is None
        assert client.request("textDocument/codeLens", {"textDocument": {"uri": uri}}) == []


def test_settings_of_a_client_that_cannot_be_asked(tmp_path: Path) -> None:
    given = {"settings": {"ignore": ["GS102"]}}
    with Client(tmp_path, capabilities={}, options=given) as client:
        uri = client.uri("a.py")
        client.open(uri, LOST)
        assert client.diagnostics(uri) == []
        client.notify("workspace/didChangeConfiguration", {"settings": {"gradsight": {"ignore": []}}})
        codes(client, uri, {"GS102"})


def test_malformed_settings_cost_themselves_alone_and_are_told_once(tmp_path: Path) -> None:
    wrong = {"ignore": "GS102", "select": ["GS9"], "probe": {"device": "tpu", "timeout": -1}, "severity": 3}
    with Client(tmp_path, settings=wrong) as client:
        uri = client.uri("a.py")
        client.open(uri, LOST)
        codes(client, uri, {"GS102"})
        for _ in range(2):
            client.notify("workspace/didChangeConfiguration", {"settings": None})
        (tmp_path / "pyproject.toml").write_text("[tool.gradsight\n")
        client.notify(
            "workspace/didChangeWatchedFiles", {"changes": [{"uri": client.uri("pyproject.toml"), "type": 1}]}
        )
        client.wait(lambda: "TOML" in str(client.received) or None, "a word about the project")
        client.settings = {"probe.device": "cpu", "ignore": ["GS102"]}
        client.notify("workspace/didChangeConfiguration", {"settings": None})
        codes(client, uri, set())
        told = [each["params"] for each in client.received if each["method"] == "window/showMessage"]
        assert all(each["type"] == 2 for each in told)
        for word in ("ignore", "select", "probe.device", "probe.timeout", "severity", "TOML"):
            assert sum(word in each["message"].split("must")[0] for each in told) == 1, word
        assert len(told) == 6


def test_an_excluded_document_is_silent(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.gradsight]\nexclude = ["legacy/"]\n')
    (tmp_path / "legacy").mkdir()
    with Client(tmp_path) as client:
        for name, count in (("legacy/a.py", 0), ("a.py", 1)):
            client.open(client.uri(name), LOST)
            assert len(client.diagnostics(client.uri(name))) == count


def test_a_workspace_folder_that_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[tool.gradsight]\nignore = ["GS1"]\n')
    with Client(tmp_path) as client:
        uri = client.uri("project/a.py")
        client.open(uri, LOST)
        assert client.diagnostics(uri) == []
        shutil.rmtree(folder)
        removed = {"event": {"added": [], "removed": [{"uri": folder.as_uri(), "name": "project"}]}}
        client.notify("workspace/didChangeWorkspaceFolders", removed)
        codes(client, uri, {"GS102"})
        client.notify(
            "workspace/didChangeWorkspaceFolders",
            {"event": {"added": [], "removed": [{"uri": "file:///never/there", "name": "x"}]}},
        )
        client.change(uri, {"text": KEPT})
        assert client.diagnostics(uri) == []


@pytest.mark.skipif(os.name == "nt", reason="paths")
def test_the_library_of_fixes_is_loaded_only_when_one_is_asked_for(tmp_path: Path) -> None:
    with Client(tmp_path) as client:
        uri = client.uri("a.py")
        client.open(uri, LOST)
        found = client.diagnostics(uri)
        hover(client, uri, 5, 10)
        maps = Path(f"/proc/{client.process.pid}/maps")
        if not maps.exists():
            pytest.skip("the process's loaded libraries can be seen on Linux only")
        assert "libcst" not in maps.read_text()
        assert actions(client, uri, found[0]["range"])
        assert "libcst" in maps.read_text()
        assert "torch" not in maps.read_text()
