"""The VSIX works alone: unpacked, on a Python without site-packages, for each Python that it is made for."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from queue import Queue
from types import ModuleType
from typing import Any

import pytest
from command_line import ROOT

CLIENT = ROOT / "client"
PROGRAM = """\
import torch
from torch import nn

model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
prediction = model(torch.randn(8, 4)).detach()
loss = (prediction - 1).pow(2).mean()
loss.backward()
optimizer.step()
"""
CUT = "model(torch.randn(8, 4)).detach()"
needs_node = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None, reason="the VSIX is built with node and npm"
)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def vsix() -> Path:
    made = subprocess.run(
        [sys.executable, CLIENT / "package.py"], capture_output=True, text=True, check=False, timeout=280
    )
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.strip())


@pytest.fixture(scope="session")
def extension(vsix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vsix")
    with zipfile.ZipFile(vsix) as archive:
        archive.extractall(folder)
    return folder / "extension"


class Client:
    """The least that talks to a server: requests are answered in order, notifications are kept."""

    def __init__(self, command: list[str], folder: Path) -> None:
        environment = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment,
        )
        self._received: Queue[dict[str, Any] | None] = Queue()
        self._errors: list[str] = []
        self._number = 0
        self._earlier: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        while header := stream.readline():
            length = int(header.partition(b":")[2])
            assert stream.readline() == b"\r\n"
            self._received.put(json.loads(stream.read(length)))
        self._received.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._errors.append(line.decode(errors="replace"))

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        message = self._received.get(timeout=60)
        assert message is not None, "the server has ended:\n" + "".join(self._errors)
        if "method" in message and "id" in message:
            self.send({"id": message["id"], "result": None})
        return message

    def request(self, method: str, params: Any) -> Any:
        self._number += 1
        self.send({"id": self._number, "method": method, "params": params})
        while "method" in (message := self.receive()) or message.get("id") != self._number:
            self._earlier.append(message)
        assert "error" not in message, message
        return message["result"]

    def notification(self, method: str) -> Any:
        while True:
            for index, message in enumerate(self._earlier):
                if message.get("method") == method:
                    return self._earlier.pop(index)["params"]
            self._earlier.append(self.receive())


def session(python: str, extension: Path, folder: Path) -> dict[str, Any]:
    """What the server in the VSIX answers about PROGRAM: its findings, and the text after the first's fix."""
    start = extension / "bundled" / "start.py"
    flags = ["-I", "-S", "-X", "utf8"]
    client = Client([python, *flags, str(start), "--storage", str(folder / "storage"), "--stdio"], folder)
    try:
        resolve = {"properties": ["edit"]}
        client.request(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": folder.as_uri(),
                "capabilities": {
                    "workspace": {"workspaceEdit": {"documentChanges": True}},
                    "textDocument": {
                        "codeAction": {
                            "codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["quickfix"]}},
                            "resolveSupport": resolve,
                            "dataSupport": True,
                        }
                    },
                },
            },
        )
        client.send({"method": "initialized", "params": {}})
        uri = (folder / "train.py").as_uri()
        document = {"uri": uri, "languageId": "python", "version": 1, "text": PROGRAM}
        client.send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        diagnostics = client.notification("textDocument/publishDiagnostics")["diagnostics"]
        fixed = None
        if diagnostics:
            actions = client.request(
                "textDocument/codeAction",
                {
                    "textDocument": {"uri": uri},
                    "range": diagnostics[0]["range"],
                    "context": {"diagnostics": diagnostics[:1], "only": ["quickfix"]},
                },
            )
            preferred = [each for each in actions or () if each.get("isPreferred")]
            if preferred:
                action = preferred[0]
                if "edit" not in action:
                    action = client.request("codeAction/resolve", action)
                (change,) = action["edit"]["documentChanges"]
                fixed = edited(PROGRAM, change["edits"])
        client.request("shutdown", None)
        client.send({"method": "exit"})
        assert client.process.wait(timeout=30) == 0
        return {"diagnostics": diagnostics, "fixed": fixed}
    finally:
        client.process.kill()
        client.process.wait()


def edited(text: str, edits: list[dict[str, Any]]) -> str:
    """The text after the edits; it is ASCII, so that characters are what the protocol counts."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def offset(place: dict[str, int]) -> int:
        return starts[place["line"]] + place["character"]

    for edit in sorted(edits, key=lambda each: offset(each["range"]["start"]), reverse=True):
        begin, end = offset(edit["range"]["start"]), offset(edit["range"]["end"])
        text = text[:begin] + edit["newText"] + text[end:]
    return text


def pythons() -> list[str]:
    """Interpreters here that the server runs on: this one, and what pyenv or the system has."""
    found = {sys.version_info[:2]: sys.executable}
    places = [
        *sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3")),
        *(Path(each) for minor in range(10, 16) if (each := shutil.which(f"python3.{minor}"))),
    ]
    for place in places:
        asked = subprocess.run(
            [place, "-I", "-S", "-c", "import sys; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0:
            version = tuple(map(int, asked.stdout.split()))
            if version >= (3, 10):
                found.setdefault(version, str(place))
    return [python for _, python in sorted(found.items())]


@needs_node
@pytest.mark.slow
@pytest.mark.parametrize("python", pythons())
def test_finding_and_fix_without_site_packages(python: str, extension: Path, tmp_path: Path) -> None:
    before = set(extension.rglob("*"))
    answer = session(python, extension, tmp_path)
    (finding,) = answer["diagnostics"]
    assert finding["code"] == "GS102"
    assert finding["range"]["start"] == {"line": 5, "character": PROGRAM.splitlines()[5].index(CUT)}
    assert answer["fixed"] == PROGRAM.replace(".detach()", "")
    # It writes caches of bytecode there, and nothing else.
    left = {path for path in set(extension.rglob("*")) - before if "__pycache__" not in path.parts}
    assert left == set()


@needs_node
@pytest.mark.slow
def test_findings_without_wheels_for_this_python(extension: Path, tmp_path: Path) -> None:
    """As on a Python that is newer than the wheels: findings work, and one command is named."""
    other = tmp_path / "extension"
    shutil.copytree(extension, other, ignore=shutil.ignore_patterns("__pycache__"))
    own = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    for wheel in (other / "bundled" / "wheels").glob(f"*-{own}-*"):
        wheel.unlink()
    answer = checked(sys.executable, other, tmp_path / "storage")
    assert answer["fixes"] is not None
    assert answer["fixes"]["reason"].startswith("Fixes need libcst")
    target = re.search(r'^"(.+)" -m pip install --target "(.+)" libcst$', answer["fixes"]["command"])
    assert target is not None
    assert target[1] == sys.executable
    assert Path(target[2]).is_relative_to(tmp_path / "storage")
    (finding,) = session(sys.executable, other, tmp_path)["diagnostics"]
    assert finding["code"] == "GS102"

    # What the command does, without a network: it is installed from the wheels that were taken out.
    wheels = str(extension / "bundled" / "wheels")
    offline = ["--quiet", "--disable-pip-version-check", "--no-index", "--find-links", wheels]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, "--target", target[2], "libcst"], check=True
    )
    assert checked(sys.executable, other, tmp_path / "storage")["fixes"] is None
    assert session(sys.executable, other, tmp_path)["fixed"] == PROGRAM.replace(".detach()", "")


def checked(python: str, extension: Path, storage: Path) -> dict[str, Any]:
    asked = subprocess.run(
        [python, "-I", "-S", extension / "bundled" / "start.py", "--check", "--storage", storage],
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(asked.stdout)
    return answer


@needs_node
@pytest.mark.slow
def test_wheels_are_unpacked_whole_by_many_at_once(extension: Path, tmp_path: Path) -> None:
    start = extension / "bundled" / "start.py"
    command = [sys.executable, "-I", "-S", start, "--check", "--storage", tmp_path]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    answers = [json.loads(each.communicate()[0]) for each in running]
    assert [each["fixes"] for each in answers] == [None] * 6
    (made,) = tmp_path.iterdir()
    assert (made / "libcst" / "__init__.py").is_file()
    assert (made / "yaml" / "__init__.py").is_file()


@needs_node
@pytest.mark.slow
def test_a_storage_that_cannot_be_written_costs_the_fixes_only(extension: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "storage"
    blocked.write_text("a file where a folder should be")
    answer = checked(sys.executable, extension, blocked / "below")
    assert answer["fixes"] is not None
    assert str(blocked) in answer["fixes"]["reason"]


@needs_node
@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_dependencies_are_complete_for_each_python(version: str, extension: Path, tmp_path: Path) -> None:
    """The wheels suffice for pip without an index. What is pure Python is bundled unpacked: pip has nothing
    to resolve there, so its requirements are compared with what is bundled."""
    wheels = extension / "bundled" / "wheels"
    platforms = load(CLIENT / "package.py").TARGETS[load(CLIENT / "package.py").this_machine()]
    resolved = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--find-links", str(wheels)]
        + ["--only-binary=:all:", "--python-version", version, "--target", str(tmp_path), "libcst"]
        + [word for tag in platforms for word in ("--platform", tag)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert resolved.returncode == 0, resolved.stderr
    assert re.search(r"Would install .*libcst-", resolved.stdout)

    from importlib.metadata import PathDistribution

    from packaging.requirements import Requirement

    bundled = {
        PathDistribution(path).name.replace("_", "-").lower(): PathDistribution(path)
        for path in (extension / "bundled" / "libs").glob("*.dist-info")
    }
    environment = {"python_version": version, "python_full_version": f"{version}.0", "extra": ""}
    for distribution in bundled.values():
        assert f"{version}.0" in Requirement(f"python{distribution.metadata['Requires-Python']}").specifier
        for line in distribution.requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate(environment):
                name = wanted.name.replace("_", "-").lower()
                assert name in bundled, f"{distribution.name} needs {line}"
                assert bundled[name].version in wanted.specifier


def test_what_is_bundled_is_what_the_project_needs() -> None:
    """The pins satisfy the project's own requirements; rich paints the command line and stays at home."""
    from packaging.requirements import Requirement

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {
        requirement.name: next(iter(requirement.specifier)).version
        for name in ("requirements.txt", "requirements-compiled.txt")
        for line in (CLIENT / "bundled" / name).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
        for requirement in [Requirement(line)]
    }
    for line in project["dependencies"]:
        wanted = Requirement(line)
        if wanted.name != "rich":
            assert pins[wanted.name] in wanted.specifier


@needs_node
@pytest.mark.slow
def test_the_vsix_holds_what_it_should(vsix: Path) -> None:
    with zipfile.ZipFile(vsix) as archive:
        names = archive.namelist()
        texts = {name: archive.read(name) for name in names if name.endswith((".json", ".js", ".py", ".md"))}
    tops = {name.split("/")[1] for name in names if name.startswith("extension/")}
    assert tops == {
        *("bundled", "dist", "media", "pages", "package.json"),
        *("readme.md", "changelog.md", "LICENSE.txt", "NOTICES.txt"),
    }
    assert not [name for name in names if re.search(r"/(tests?|node_modules|src|__pycache__)/", name)]
    for package in ("gradsight", "gradsight_cli", "gradsight_server", "gradsight_probe"):
        assert f"extension/bundled/libs/{package}/__init__.py" in names
    for name, text in texts.items():
        assert str(ROOT).encode() not in text, f"{name} names a path of the machine that built it"
    manifest = json.loads(texts["extension/package.json"])
    for path in (manifest["icon"], manifest["main"]):
        assert f"extension/{path.removeprefix('./')}" in names
    from gradsight.pages import PAGES

    assert {f"extension/pages/{page.code}.md" for page in PAGES} <= set(names)


@needs_node
@pytest.mark.slow
def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    made = [tmp_path / "one.vsix", tmp_path / "two.vsix"]
    for each in made:
        subprocess.run(
            [sys.executable, CLIENT / "package.py", "--out", each], check=True, capture_output=True
        )
    one, two = (
        {entry.filename: (entry.CRC, entry.date_time, entry.external_attr) for entry in archive.infolist()}
        for archive in map(zipfile.ZipFile, made)
    )
    assert one == two
    assert made[0].read_bytes() == made[1].read_bytes()


def test_no_registry_and_no_machine_in_what_is_committed() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "client"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    assert "client/package-lock.json" in tracked
    for name in filter(None, tracked):
        path = ROOT / name
        if path.suffix in (".png", ".gif") or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        assert '"resolved"' not in text, f"{name} holds addresses of a registry"
        assert not re.search(r"registry\.npmjs|pypi\.org|files\.pythonhosted|/root/|/home/\w", text), name
    options = (CLIENT / ".npmrc").read_text(encoding="utf-8").split()
    assert "omit-lockfile-registry-resolved=true" in options
