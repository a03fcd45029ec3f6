"""Write all mutants and what torch said of them to a file, one JSON object a line.

    python tests/corpus/list_mutants.py mutants.jsonl

Takes some minutes. The fields:

- `program`: the file's name in fixtures/corpus
- `rule`: "GS102"; `style`: how the mistake is written there ("detach", "data", "laundered item", ...)
- `row` (1-based), `start`, `end` (code points), `quote`: the place of the finding in the mutated text
- `kind`: "wanted", "not wanted" (a gradient is lost, but the policy is silent about it), "not confirmed"
  (nothing changed), "misfit" (raises for another reason than a gradient)
- `severity`: the least that is wanted, null where nothing is
- `said`: what torch did
- `text`: the whole mutated program
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from corpus import mutations, sites, verdicts  # noqa: E402


def main(out: str) -> None:
    """Write the list to a file."""
    scripts = sites.read(sorted((ROOT / "fixtures" / "corpus").glob("*.py")))
    judged = verdicts.judge(scripts, [each for script in scripts for each in mutations.mutants(script)])
    with open(out, "w", encoding="utf-8") as file:
        for verdict in judged:
            file.write(json.dumps(to_record(verdict), ensure_ascii=False) + "\n")
    print(f"{len(judged)} mutants, {sum(each.kind == 'wanted' for each in judged)} wanted: {out}")


def to_record(verdict: verdicts.Verdict) -> dict[str, object]:
    """A line of the file."""
    mutant = verdict.mutant
    return {
        "program": mutant.program,
        "rule": mutant.rule,
        "style": mutant.style,
        "row": mutant.row,
        "start": mutant.start,
        "end": mutant.end,
        "quote": mutant.quote,
        "kind": verdict.kind,
        "severity": verdict.severity,
        "said": verdict.said,
        "text": mutant.text,
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/corpus/list_mutants.py FILE")
    main(sys.argv[1])
