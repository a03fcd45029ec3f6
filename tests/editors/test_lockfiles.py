"""What npm installs is locked, and by no address of a registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKFILES = [ROOT / "client" / "package-lock.json", ROOT / "tests" / "editors" / "package-lock.json"]


@pytest.mark.parametrize("path", LOCKFILES, ids=lambda path: path.parent.name)
def test_versions_and_hashes_and_no_addresses(path: Path) -> None:
    packages = json.loads(path.read_text(encoding="utf-8"))["packages"]
    direct = json.loads(path.with_name("package.json").read_text(encoding="utf-8"))
    wanted = {**direct.get("dependencies", {}), **direct.get("devDependencies", {})}
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version, f"{name} is not pinned exactly"
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert not name or package.get("inBundle") or package["integrity"].startswith("sha512-"), name
