"""Fix and probe: what a fix did is seen by running the program, in the editor and on the command line.

Programs run under the real torch, in the probe's own process; the server is a real one over its pipes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import KEPT, LOST, run
from gradsight_server.comparison import compare
from gradsight_server.probe import ProbeResult
from harness.client import Client, Failed, edit
from test_server_features import actions, applied, only_edits

# `encoder` learns by no way: its numbers leave the graph in a helper. It trains, and nobody is told.
STARVED = """\
import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        features = torch.tanh(self.encoder(x)).detach()
        return self.head(features)


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def train(steps):
    for _ in range(steps):
        x, y = torch.randn(16, 4), torch.randn(16, 1)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()


train(2)
"""
MENDED = STARVED.replace(".detach()", "")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client(tmp_path_factory.mktemp("fix_and_probe"), options={"decorations": True}) as made:
        yield made


class Buffer:
    """A document as the editor holds it, which takes the server's edits as an editor does."""

    def __init__(self, client: Client, name: str, text: str) -> None:
        self.client, self.uri, self.text = client, client.uri(name), text
        client.open(self.uri, text)
        client.edits = self.take

    def take(self, change: Any) -> dict[str, Any]:
        (made,) = change["documentChanges"]
        assert made["textDocument"]["uri"] == self.uri
        if made["textDocument"]["version"] != self.client.versions[self.uri]:
            return {"applied": False, "failureReason": "another version"}
        self.text = applied(self.text, made["edits"], "utf-16")
        self.client.change(self.uri, {"text": self.text})
        return {"applied": True}

    def offered(self) -> list[Any]:
        where = self.client.diagnostics(self.uri)[0]["range"]
        return [each for each in actions(self.client, self.uri, where) if each["data"]["offer"] == "probe"]

    def command(self, **more: Any) -> dict[str, Any]:
        """The command of the one action, as a client sends it."""
        (action,) = self.offered()
        assert action["title"].startswith("Fix and probe: ")
        assert "edit" not in action
        command = {**action["command"]}
        command["arguments"] = [{**command["arguments"][0], "python": sys.executable, **more}]
        del command["title"]
        return command


@pytest.mark.slow  # imports torch
def test_a_fix_is_made_and_what_it_restored_is_said(client: Client) -> None:
    buffer = Buffer(client, "starved.py", STARVED)
    done = client.request("workspace/executeCommand", buffer.command())
    assert done["applied"] is True
    assert buffer.text == MENDED
    changes = {each["name"]: (each["before"], each["after"]) for each in done["restored"]}
    assert set(changes) == {"model.encoder.weight", "model.encoder.bias"}
    assert all(before == "none" and float(after) > 0 for before, after in changes.values())
    assert done["lost"] == []
    assert re.fullmatch(
        r"gradient restored: model\.encoder\.weight none → [\d.]+, model\.encoder\.bias none → [\d.]+",
        done["summary"],
    )
    # The probe of the mended text is what stands beside its lines now, and it is fresh.
    view = [each["params"] for each in client.received if each["method"] == "gradsight/probe"][-1]
    assert view["stale"] is False
    row = next(at for at, line in enumerate(MENDED.split("\n")) if "self.encoder = " in line)
    assert next(each["state"] for each in view["rows"] if each["range"]["start"]["line"] == row) == "live"
    assert client.diagnostics(buffer.uri) == []


@pytest.mark.slow  # imports torch
def test_without_an_action_the_finding_at_the_cursor_is_mended(client: Client) -> None:
    buffer = Buffer(client, "cursor.py", LOST)
    where = client.diagnostics(buffer.uri)[0]["range"]
    asked = {
        "uri": buffer.uri,
        "range": {"start": where["end"], "end": where["end"]},
        "python": sys.executable,
    }
    command = {"command": "gradsight.fixAndProbe", "arguments": [asked]}
    done = client.request("workspace/executeCommand", command)
    assert buffer.text == KEPT
    assert "no longer raises RuntimeError" in done["summary"]
    assert {each["name"] for each in done["restored"]} == {"model.weight", "model.bias"}
    client.diagnostics(buffer.uri)
    with pytest.raises(Failed, match="no finding with a fix"):
        client.request("workspace/executeCommand", command)


@pytest.mark.slow  # imports torch
def test_a_text_that_changed_meanwhile_is_left_alone(client: Client) -> None:
    slow = STARVED.replace("torch.manual_seed(0)", "import time\nprint('on', flush=True)\ntime.sleep(1)")
    buffer = Buffer(client, "meanwhile.py", slow)
    command = buffer.command()
    asked = client.ask("workspace/executeCommand", command)
    client.notification("gradsight/status", lambda status: status["probe"] == "running")
    client.change(buffer.uri, edit(0, 0, 0, 0, "# mine\n"))
    with pytest.raises(Failed, match="changed meanwhile"):
        client.answer(asked)
    assert buffer.text == slow
    # What was offered for the version before is not made of this one.
    client.diagnostics(buffer.uri)
    with pytest.raises(Failed, match="changed meanwhile") as error:
        client.request("workspace/executeCommand", command)
    assert error.value.code == -32801


@pytest.mark.slow  # imports torch
def test_an_editor_that_refuses_the_edit_has_its_text(client: Client) -> None:
    buffer = Buffer(client, "refused.py", LOST)
    command = buffer.command()
    client.edits = lambda change: {"applied": False, "failureReason": "read-only"}
    with pytest.raises(Failed, match="did not make the edit: read-only"):
        client.request("workspace/executeCommand", command)
    assert buffer.text == LOST


@pytest.mark.slow  # imports torch
def test_a_program_that_raises_only_with_the_fix_is_left_alone(client: Client) -> None:
    # It looks at what is wrong with it: without the mistake it stops.
    text = STARVED + "assert model.encoder.weight.grad is None, 'the encoder learns'\n"
    buffer = Buffer(client, "worse.py", text)
    done = client.request("workspace/executeCommand", buffer.command())
    assert done["applied"] is False
    assert buffer.text == text
    assert done["summary"].startswith("The fix was not made: with the fix it raises AssertionError in line ")
    assert "the encoder learns" in done["summary"]


def test_a_probe_that_cannot_run_changes_nothing(client: Client) -> None:
    buffer = Buffer(client, "cannot.py", LOST)
    with pytest.raises(Failed, match="no interpreter `no-such-python`"):
        client.request("workspace/executeCommand", buffer.command(python="no-such-python"))
    assert buffer.text == LOST
    before = client.diagnostics(buffer.uri)
    fix = next(each for each in actions(client, buffer.uri, before[0]["range"]) if each.get("isPreferred"))
    only_edits(client.request("codeAction/resolve", fix), buffer.uri, 1)


def test_nothing_runs_in_a_workspace_that_is_not_trusted(tmp_path: Path) -> None:
    text = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n" + LOST
    with Client(tmp_path, options={"trusted": False}) as client:
        buffer = Buffer(client, "a.py", text)
        assert buffer.offered() == []
        found = client.diagnostics(buffer.uri)
        asked = {"uri": buffer.uri, "token": found[0]["data"]["token"], "python": sys.executable}
        for arguments in ([asked], [{"uri": buffer.uri}]):
            with pytest.raises(Failed, match="not trusted"):
                client.request(
                    "workspace/executeCommand", {"command": "gradsight.fixAndProbe", "arguments": arguments}
                )
        assert buffer.text == text
    assert not (tmp_path / "ran").exists()


def test_an_editor_that_makes_no_edits_is_offered_none(tmp_path: Path) -> None:
    with Client(tmp_path, capabilities={}) as client:
        buffer = Buffer(client, "a.py", LOST)
        assert buffer.offered() == []


# -- the command line


@pytest.mark.slow  # imports torch
@pytest.mark.parametrize("write", [False, True])
def test_the_command_line_says_the_same(tmp_path: Path, write: bool) -> None:
    path = tmp_path / "a.py"
    path.write_text(STARVED)
    more = ["--write"] if write else []
    done = run("fix", "--probe", *more, "--python", sys.executable, "--device", "cpu", "a.py", cwd=tmp_path)
    assert done.returncode == (0 if write else 1), done.stderr.decode()
    assert path.read_text() == (MENDED if write else STARVED)
    said = [line for line in done.stdout.decode().splitlines() if line.startswith("a.py: gradient restored")]
    assert re.fullmatch(r"a\.py: gradient restored: model\.encoder\.weight none → [\d.]+, .*", *said)


@pytest.mark.slow  # imports torch
def test_the_command_line_leaves_alone_what_raises_with_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    text = STARVED + "assert model.encoder.weight.grad is None\n"
    path.write_text(text)
    done = run("fix", "--probe", "--write", "--python", sys.executable, "a.py", cwd=tmp_path)
    assert done.returncode == 2
    assert path.read_text() == text
    assert "not changed: with the fix it raises AssertionError" in done.stderr.decode()


def test_the_command_line_changes_nothing_where_it_cannot_probe(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(LOST)
    done = run("fix", "--probe", "--write", "--python", "no-such-python", "a.py", cwd=tmp_path)
    assert done.returncode == 2
    assert path.read_text() == LOST
    assert "no interpreter `no-such-python`" in done.stderr.decode()
    assert run("fix", "--python", "python3", "a.py", cwd=tmp_path).returncode == 2


# -- the words


def result(error: Any = None, **gradients: float | str) -> ProbeResult:
    parameters = tuple(
        {
            "name": name,
            "gradient": value if isinstance(value, str) else "nonzero",
            "at_last_step": None,
            "norm": value if isinstance(value, float) else None,
            "frozen": False,
        }
        for name, value in gradients.items()
    )
    return ProbeResult(0 if error is None else 1, parameters=parameters, asked=1, error=error)


def raised(kind: str, row: int | None, message: str) -> dict[str, Any]:
    return {"type": kind, "row": row, "message": message}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (result(w="none"), result(w=0.314), "gradient restored: w none → 0.31"),
        (result(w="zero"), result(w=2e-9), "gradient restored: w 0 → 2e-9"),
        (result(w="nonfinite"), result(w=12.0), "gradient restored: w not finite → 12"),
        (result(w=0.5, b="none"), result(w=0.5, b=1.0), "gradient restored: b none → 1"),
        (
            result(a="none", b="none", c="none", d="none", e="none"),
            result(a=1.0, b=1.0, c=1.0, d=1.0, e=1.0),
            "gradient restored: a none → 1, b none → 1, c none → 1 and 2 more",
        ),
        (result(w=0.5, v=1.0), result(w="none", v=1.0), "gradient lost: w 0.5 → none"),
        (result(w=0.5), result(), "gradient lost: w 0.5 → gone"),
        (result(), result(w=0.5), "gradient restored: w none → 0.5"),
        (
            result(w=1.0, v=1.0),
            result(w=2.0, v=1.0),
            "no gradient came or went: all 2 parameters get gradients",
        ),
        (result(), result(), "nothing here learns"),
        (
            result(raised("RuntimeError", 3, "x"), w="none"),
            result(w=1.0),
            "it no longer raises RuntimeError; gradient restored: w none → 1",
        ),
        (
            result(w=1.0),
            result(raised("ValueError", 3, "no\nmore"), w=1.0),
            "with the fix it raises ValueError in line 3: no; "
            "no gradient came or went: the parameter gets a gradient",
        ),
        (
            result(raised("TimeLimit", None, ""), w="none"),
            result(raised("TimeLimit", None, ""), w=1.0),
            "it still raises TimeLimit; gradient restored: w none → 1",
        ),
    ],
)
def test_the_sentence(before: ProbeResult, after: ProbeResult, said: str) -> None:
    made = compare(before, after)
    assert made.summary == said
    assert made.is_worse == (after.error is not None and before.error is None)
