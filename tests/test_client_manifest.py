"""The extension's manifest says what the rules and the server's messages say."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from typing import Any

from command_line import ROOT
from gradsight.finding import Severity
from gradsight.pages import PAGES
from gradsight_server import messages

CLIENT = ROOT / "client"
MANIFEST = CLIENT / "package.json"


def derived_settings() -> dict[str, Any]:
    """The settings that follow from the rules, as VS Code's settings editor understands them."""
    groups = sorted({page.code[:3] for page in PAGES})
    selectors = {
        "ALL": "Every rule.",
        **{group: f"The rules whose codes begin with {group}." for group in groups},
        **{page.code: f"{page.name}: {page.summary}" for page in PAGES},
    }
    selectors = {key: selectors[key] for key in ["ALL", *sorted(selectors.keys() - {"ALL"})]}
    listed = {
        "type": "array",
        "default": [],
        "uniqueItems": True,
        "scope": "resource",
        "items": {
            "type": "string",
            "enum": list(selectors),
            "enumDescriptions": list(selectors.values()),
        },
    }
    loud = {"type": "string", "enum": [each.value for each in Severity]}
    over = "Where this is set, it is used instead of `{0}` in `[tool.gradsight]` of `pyproject.toml`."
    return {
        "gradsight.select": {
            "order": 6,
            "markdownDescription": f"The rules that speak. {over.format('select')}",
            **listed,
        },
        "gradsight.ignore": {
            "order": 7,
            "markdownDescription": f"The rules that are silent. {over.format('ignore')}",
            **listed,
        },
        "gradsight.severity": {
            "order": 8,
            "markdownDescription": f"How loud a rule is, whatever it says itself. {over.format('severity')}",
            "type": "object",
            "default": {},
            "scope": "resource",
            "additionalProperties": False,
            "properties": {
                key: {**loud, "description": what} for key, what in selectors.items() if key != "ALL"
            },
        },
    }


def test_settings_follow_from_the_rules(update_golden: bool) -> None:
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    properties = manifest["contributes"]["configuration"]["properties"]
    if update_golden:
        properties.update(derived_settings())
        MANIFEST.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    assert {key: properties.get(key) for key in derived_settings()} == derived_settings()


def test_the_server_knows_the_settings() -> None:
    """What the client sends has the names that the manifest offers."""
    properties = json.loads(MANIFEST.read_text(encoding="utf-8"))["contributes"]["configuration"][
        "properties"
    ]
    sent = (CLIENT / "src" / "settings.ts").read_text(encoding="utf-8")
    for name in properties:
        short = name.removeprefix("gradsight.")
        if short != "trace.server":
            assert f'"{short}"' in sent, f"{name} is offered and never sent"


def typescript_records(text: str) -> dict[str, set[str]]:
    """The field names of each exported interface."""
    found = re.findall(r"^export interface (\w+) \{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE)
    return {name: set(re.findall(r"^\s+readonly (\w+)\??:", body, re.MULTILINE)) for name, body in found}


def test_messages_are_mirrored() -> None:
    mirror = (CLIENT / "src" / "messages.ts").read_text(encoding="utf-8")
    ours = {
        name: {each.name for each in fields(kind)}
        for name, kind in vars(messages).items()
        if is_dataclass(kind) and isinstance(kind, type) and kind.__module__ == messages.__name__
    }
    assert ours
    assert typescript_records(mirror) == ours
    constants = dict(re.findall(r'^export const ([A-Z_]+) = "(.*)";$', mirror, re.MULTILINE))
    assert constants == {
        name: value for name, value in vars(messages).items() if name.isupper() and isinstance(value, str)
    }
    states = re.search(r"^export const STATES = (\[.*\]) as const;$", mirror, re.MULTILINE)
    assert states is not None
    assert tuple(json.loads(states[1])) == messages.STATES


def test_every_state_has_a_colour() -> None:
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    offered = {colour["id"] for colour in manifest["contributes"]["colors"]}
    view = (CLIENT / "src" / "probeView.ts").read_text(encoding="utf-8")
    used = dict(re.findall(r'^  "?([\w-]+)"?: "(gradsight\.\w+)",$', view, re.MULTILINE))
    assert set(used) == {*messages.STATES, "stale"}
    assert set(used.values()) == offered
    for colour in manifest["contributes"]["colors"]:
        assert set(colour["defaults"]) == {"light", "dark", "highContrast", "highContrastLight"}


def test_commands_and_menus_fit() -> None:
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))["contributes"]
    offered = {
        command["command"]: f"{command['category']}: {command['title']}" for command in manifest["commands"]
    }
    assert sorted(offered.values()) == [
        "Gradsight: Clear Probe Results",
        "Gradsight: Explain Finding",
        "Gradsight: Fix and Probe",
        "Gradsight: Restart Server",
        "Gradsight: Run Probe",
        "Gradsight: Show Output",
    ]
    # The language client registers the server's own; one of ours by such a name would keep it out.
    assert not {messages.RUN_PROBE, messages.CLEAR_PROBE, messages.FIX_AND_PROBE} & set(offered)
    for entries in manifest["menus"].values():
        assert {entry["command"] for entry in entries} <= set(offered)
    source = (CLIENT / "src" / "extension.ts").read_text(encoding="utf-8")
    assert set(re.findall(r'command\("(gradsight\.\w+)"', source)) == set(offered)
