"""What `gradsight rules` and RULES.md say of each rule is what is checked in."""

from __future__ import annotations

import catalogue
import pytest
from gradsight.rules import RULES
from gradsight_cli import pages


def test_what_is_shipped_is_so(update_golden: bool) -> None:
    known = catalogue.made()
    if update_golden:
        catalogue.SHIPPED.write_text(catalogue.to_json(known), encoding="utf-8")
        catalogue.PAGE.write_text(catalogue.to_page(known), encoding="utf-8")
    assert catalogue.SHIPPED.read_text("utf-8") == catalogue.to_json(known), "run tests/catalogue.py"
    assert catalogue.PAGE.read_text("utf-8") == catalogue.to_page(known), "run tests/catalogue.py"


def test_every_rule_is_known_by_its_programs() -> None:
    known = catalogue.made()
    assert known.keys() == {rule.code for rule in RULES}
    assert all(min(one.flagged, one.clean) >= 6 for one in known.values())
    # The log is read: most rules have mistakes in it, and none finds more than there are.
    assert sum(one.confirmed > 0 for one in known.values()) > len(known) // 2
    assert all(0 <= one.found <= one.confirmed for one in known.values())


def test_rules_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert pages.list_rules("never") == 0
    lines = capsys.readouterr().out.splitlines()
    known = catalogue.made()
    for rule in RULES:
        (line,) = [line for line in lines if line.startswith(f"{rule.code} {rule.name} ")]
        assert all(cell in line for cell in known[rule.code].cells())
