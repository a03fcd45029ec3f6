"""Files that import each other, in an editor: the open text counts, and readers hear of a change."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT
from harness.client import Client

FIXTURES = ROOT / "fixtures" / "projects"
OUTSIDE = "def cut(x):\n    return x.detach()\n"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    workspace = tmp_path / "workspace"
    shutil.copytree(FIXTURES / "softmax_head", workspace)
    (tmp_path / "outside.py").write_text(OUTSIDE, encoding="utf-8")
    with Client(workspace) as made:
        yield made


def text(name: str) -> str:
    return (FIXTURES / "softmax_head" / name).read_text(encoding="utf-8")


def codes(found: list[dict[str, Any]]) -> list[str]:
    return [each["code"] for each in found]


def test_a_finding_through_a_file_on_disk(client: Client) -> None:
    train = client.uri("train.py")
    client.open(train, text("train.py"))
    (one,) = client.diagnostics(train, 1)
    assert one["code"] == "GS302"
    first = one["relatedInformation"][0]["location"]
    assert first["uri"] == client.uri("model.py")
    row = next(at for at, line in enumerate(text("model.py").splitlines()) if "softmax" in line)
    assert first["range"]["start"]["line"] == row


def test_unsaved_text_counts(client: Client) -> None:
    train, model = client.uri("train.py"), client.uri("model.py")
    client.open(train, text("train.py"))
    assert codes(client.diagnostics(train, 1)) == ["GS302"]
    client.open(model, text("model.py"))
    mended = text("model.py").replace(
        "F.softmax(self.head(self.block(x)), dim=1)", "self.head(self.block(x))"
    )
    client.change(model, {"text": mended})
    client.wait(lambda: client.diagnostics(train, 1) == [] or None, "no finding once the model gives logits")
    client.shut(model)
    client.wait(
        lambda: codes(client.diagnostics(train, 1)) == ["GS302"] or None, "the finding of what is on disk"
    )


def test_a_file_that_appears(client: Client) -> None:
    train = client.uri("train.py")
    client.open(train, text("train.py").replace("from model import", "from newer import"))
    assert client.diagnostics(train, 1) == []
    path = Path(client.uri("newer.py").removeprefix("file://"))
    path.write_text(text("model.py"), encoding="utf-8")
    client.notify(
        "workspace/didChangeWatchedFiles", {"changes": [{"uri": client.uri("newer.py"), "type": 1}]}
    )
    client.wait(
        lambda: codes(client.diagnostics(train, 1)) == ["GS302"] or None, "the finding through the new file"
    )


def test_nothing_outside_the_workspace_is_read(client: Client) -> None:
    uri = client.uri("other.py")
    script = (
        "import torch\nfrom {} import cut\nw = torch.ones(2, requires_grad=True)\ncut(w).sum().backward()\n"
    )
    client.open(uri, script.format("outside"))
    assert client.diagnostics(uri, 1) == []
    inside = client.uri("inside.py")
    client.open(inside, OUTSIDE)
    client.change(uri, {"text": script.format("inside")})
    (one,) = client.diagnostics(uri, 2)
    assert one["code"] == "GS102"
    assert "(inside.py, line 2)" in one["message"]
    assert one["range"]["start"]["line"] == 3
