"""Puts the source roots on the path where the project is not installed; the option that rewrites goldens."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

for name, root in (("gradsight", "analysis"), ("gradsight_server", "server")):
    if importlib.util.find_spec(name) is None:
        sys.path.insert(0, str(ROOT / root))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the .fixed files anew instead of comparing",
    )


@pytest.fixture(scope="session")
def update_golden(pytestconfig: pytest.Config) -> bool:
    """Whether golden files are written anew."""
    return bool(pytestconfig.getoption("--update-golden"))
