"""Puts the source roots on the path where the project is not installed; who runs what where there are several
workers; the option that rewrites goldens.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

for name, root in (("gradsight", "analysis"), ("gradsight_server", "server")):
    if importlib.util.find_spec(name) is None:
        sys.path.insert(0, str(ROOT / root))


# Hundreds of processes are started here: none need compile what another has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the .fixed files anew instead of comparing",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        import distribution

        distribution.order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    import distribution

    return distribution.Files(config, log)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Figures for whoever reads the summary, from a worker too."""
    return lambda text: request.node.user_properties.append(("figures", text))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.getreports(kind)]
    told = [
        (report.nodeid, text)
        for report in reports
        for name, text in report.user_properties
        if name == "figures"
    ]
    if told:
        terminalreporter.section("figures")
        for nodeid, text in told:
            terminalreporter.line(f"{nodeid}: {text}")


@pytest.fixture(scope="session")
def update_golden(pytestconfig: pytest.Config) -> bool:
    """Whether golden files are written anew."""
    return bool(pytestconfig.getoption("--update-golden"))
