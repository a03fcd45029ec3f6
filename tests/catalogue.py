"""What is known of each rule: its programs, its recall, what it finds in public code.

    python tests/catalogue.py

Writes `analysis/gradsight_cli/catalogue.json`, which `gradsight rules` prints, and `RULES.md`, from what is
checked in: the programs in fixtures/rules, the log of the mistakes that were put into good programs
(tests/corpus/RESULTS.md), and the judged findings in public packages (tests/real_code/findings.json).
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "analysis")]

from gradsight.pages import PAGES  # noqa: E402
from gradsight.rules import RULES  # noqa: E402
from gradsight_cli.pages import Known  # noqa: E402

SHIPPED = ROOT / "analysis" / "gradsight_cli" / "catalogue.json"
PAGE = ROOT / "RULES.md"
RECALL = ROOT / "tests" / "corpus" / "RESULTS.md"
FINDINGS = ROOT / "tests" / "real_code" / "findings.json"
# A row of the log: rule, mutants, confirmed, programs, found.
_ROW = re.compile(r"^(GS\d{3}) +\d+ +(\d+) +\d+ +(\d+) ", re.MULTILINE)

_HEAD = """\
# The rules, and what is known of them

Written by `python tests/catalogue.py`; `gradsight rules` prints the same.

- *programs*: small complete scripts in fixtures/rules that must be found + look-alikes that must not, all run
  under torch.
- *recall*: how many of the mistakes that were put into good programs, and that torch confirmed, are found at
  the right place; how that is measured stands in [RESULTS.md](tests/corpus/RESULTS.md).
- *public code*: findings in the pinned public packages, each judged by reading the code; in brackets those
  that are false or that somebody may have meant ([RESULTS.md](tests/real_code/RESULTS.md)).

| code | name | what it is about | programs | recall | public code |
|---|---|---|---|---|---|
"""


def made() -> dict[str, Known]:
    """What is known of each rule, by its code."""
    recall = {code: (int(found), int(put)) for code, put, found in _ROW.findall(RECALL.read_text("utf-8"))}
    judged = json.loads(FINDINGS.read_text("utf-8"))
    public = Counter(one["code"] for one in judged)
    wrong = Counter(one["code"] for one in judged if one["verdict"] != "true")
    return {
        rule.code: Known(
            programs(rule.code, "flagged"),
            programs(rule.code, "clean"),
            *recall.get(rule.code, (0, 0)),
            public[rule.code],
            wrong[rule.code],
        )
        for rule in RULES
    }


def programs(code: str, kind: str) -> int:
    """How many programs of a rule must be found ("flagged"), or must not ("clean")."""
    return len(list((ROOT / "fixtures" / "rules").glob(f"{code}_*/{kind}_*.py")))


def to_json(known: dict[str, Known]) -> str:
    """What is shipped."""
    return json.dumps({code: one._asdict() for code, one in known.items()}, indent=1) + "\n"


def to_page(known: dict[str, Known]) -> str:
    """What is shown."""
    rows = (
        f"| {page.code} | {page.name} | {page.summary} | {' | '.join(known[page.code].cells())} |"
        for page in PAGES
        if page.code in known
    )
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    SHIPPED.write_text(to_json(made()), encoding="utf-8")
    PAGE.write_text(to_page(made()), encoding="utf-8")
