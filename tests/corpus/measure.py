"""Put every mistake into every good program, ask torch and the analysis about it, and write it down.

    python tests/corpus/measure.py [--sample N] [--seed N] [--out mutants.jsonl] [--log] [--only TEXT]
                                   [--rules GS2,GS304] [--whole] [--again mutants.jsonl ...]

`--sample N`: of each program N mutants by chance, else all (half an hour). `--whole`: besides, all those in
the text of public packages. `--only`: programs whose name
contains it. `--rules`: of these rules alone, by the beginnings of their codes. `--log`: the figures go into
tests/corpus/RESULTS.md. `--again`: nothing is run; the analysis is asked anew about the mutants in such
files, of which torch has said what they are. `--out`: one JSON object a line:

- `program`: the file's name in fixtures/corpus, or a package's file and what of it is driven
- `package`: "timm 1.0.19", or null; `in_package`: whether the mistake is in that package's text
- `rule`: the code that is expected, "GS102"; `also`: further codes that say the same
- `style`: how the mistake is written there ("detach", "data", "zero_grad not called", ...)
- `edits`: list of [from, to, text]: what was replaced in the program, in code points
- `before`: the right program (the program itself, or with a clip or a scaler that the mistake needs);
  `after`: the mutant
- `places`: list of [row, start, end, quote] in `after`: where the finding may stand; rows are 1-based,
  start and end count code points
- `verdict`: torch's. "wanted": confirmed, and the policy speaks; "memory": only memory or another device
  shows it; "not wanted": confirmed, but the policy is silent about it; "not confirmed": nothing changed;
  "misfit": raises for another reason than a gradient
- `said`: what torch did; `severity`: the least that is wanted, null where nothing is
- `findings`: list of [code, severity, row, quote, message] of the analysis; `found`: whether one of them is
  the expected one, at the place and loud enough; `unknown`: why the analysis knows no more

Text that public packages have written is in `before` and `after`: such a file is not for this repository.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests")]

from gradsight.engine import Engine  # noqa: E402
from gradsight.finding import Finding  # noqa: E402
from gradsight.text import Source  # noqa: E402

from corpus import mutations, packages, recall, sites, verdicts  # noqa: E402
from corpus.mutations import Mutant  # noqa: E402

RESULTS = Path(__file__).with_name("RESULTS.md")


def own() -> list[sites.Program]:
    """The good programs of this repository."""
    return [sites.Program.of(path) for path in sorted((ROOT / "fixtures" / "corpus").glob("*.py"))]


def public() -> tuple[list[sites.Program], str]:
    """Those of the public packages, and why there are none."""
    try:
        return packages.fetch().programs(), ""
    except packages.Unavailable as why:
        return [], str(why)


def chosen(
    mutants: Sequence[Mutant], number: int | None, random_: random.Random, whole: bool = False
) -> list[Mutant]:
    """Some mutants by chance, in their order; each rule has the same chance, however many it has.

    `whole`: and besides all that are in the text of a public package.
    """
    kept = {at for at, each in enumerate(mutants) if whole and each.in_package}
    if number is None or len(mutants) - len(kept) <= number:
        return list(mutants)
    many = Counter(each.rule for each in mutants)
    left = [at for at in range(len(mutants)) if at not in kept]
    order = sorted(left, key=lambda at: random_.random() ** (many[mutants[at].rule]))
    return [mutants[at] for at in sorted(kept.union(order[-number:]))]


def measure(
    programs: Sequence[sites.Program],
    number: int | None,
    seed: int,
    rules: tuple[str, ...] = ("",),
    whole: bool = False,
) -> Iterator[tuple[sites.Script, list[verdicts.Verdict], list[recall.Seen]]]:
    """Each program's mutants, what torch says of them, and what the analysis says of those it should find."""
    random_ = random.Random(seed)
    for program in programs:
        scripts, refused = sites.read_those_that_can([program])
        for name, why in refused.items():
            print(f"{name} is left out: {why[:300]}", file=sys.stderr)
        for script in scripts:
            mutants = [each for each in mutations.mutants(script) if each.rule.startswith(rules)]
            judged = verdicts.judge(script, chosen(mutants, number, random_, whole))
            yield (
                script,
                judged,
                list(recall.look(each for each in judged if each.kind in ("wanted", "memory"))),
            )


def again(paths: Sequence[Path]) -> tuple[list[verdicts.Verdict], list[recall.Seen]]:
    """What torch said of the mutants in some files, each once, and what the analysis says now."""
    return looked_at(
        json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()
    )


def looked_at(records: Iterable[dict[str, Any]]) -> tuple[list[verdicts.Verdict], list[recall.Seen]]:
    """The same of lines of such files."""
    known: dict[str, verdicts.Verdict] = {}
    for record in records:
        (first, *others) = [(start, end) for _, start, end, _ in record["places"]]
        mutant = Mutant(
            record["program"],
            record["rule"],
            record["style"],
            record["after"],
            *first,
            others=tuple(others),
            also=frozenset(record["also"]),
            in_package=record["in_package"],
        )
        verdict = verdicts.Verdict(mutant, record["verdict"], record["severity"], record["said"])
        known.setdefault(mutant.text, verdict)
    judged = list(known.values())
    return judged, list(recall.look(each for each in judged if each.kind in ("wanted", "memory")))


def unmutated(programs: Sequence[sites.Program]) -> list[tuple[sites.Program, Finding]]:
    """What is said of the good programs."""
    return [
        (each, finding)
        for each in programs
        for finding in Engine().analyze(Source("program.py", each.text)).findings
    ]


def to_record(script: sites.Script, verdict: verdicts.Verdict, seen: recall.Seen | None) -> dict[str, object]:
    """A line of the file."""
    mutant = verdict.mutant
    places = ((mutant.start, mutant.end), *mutant.others)
    found = [*seen.there, *seen.elsewhere] if seen else []
    source = Source("program.py", mutant.text)
    return {
        "program": mutant.program,
        "package": script.program.package or None,
        "in_package": mutant.in_package,
        "rule": mutant.rule,
        "also": sorted(mutant.also),
        "style": mutant.style,
        "edits": mutant.edits,
        "before": mutant.good or script.text,
        "after": mutant.text,
        "places": [
            (mutant.text.count("\n", 0, start) + 1, start, end, mutant.text[start:end])
            for start, end in places
        ],
        "verdict": verdict.kind,
        "said": verdict.said,
        "severity": verdict.severity,
        "findings": [
            (
                each.code,
                each.severity.value,
                source.row_column(each.where.start)[0] + 1,
                source.slice(each.where),
                each.message,
            )
            for each in found
        ],
        "found": seen.found if seen else None,
        "unknown": list(seen.unknown) if seen else [],
    }


def reasons(seen: Sequence[recall.Seen]) -> list[tuple[str, int]]:
    """The misses by rule, style and the first reason of the analysis, most first."""
    return Counter(
        f"{each.verdict.mutant.rule} {each.verdict.mutant.style}: "
        + (
            "too quiet"
            if each.there
            else "elsewhere: " + ", ".join(sorted({other.code for other in each.elsewhere}))
            if each.elsewhere
            else (each.unknown or ("silent, without a reason",))[0]
        )
        for each in seen
        if not each.found
    ).most_common()


def main() -> None:
    """Measure, print, and write down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--rules", default="")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--again", nargs="*", type=Path, default=[])
    parser.add_argument("--out")
    parser.add_argument("--log", action="store_true")
    asked = parser.parse_args()
    began = time.monotonic()
    others, why = public()
    programs = [each for each in [*own(), *others] if asked.only in each.name]
    if why:
        print(f"no public packages: {why}", file=sys.stderr)
    judged: list[verdicts.Verdict] = []
    seen: list[recall.Seen] = []
    with ExitStack() as stack:
        out: IO[str] | None = None
        if asked.out:
            out = stack.enter_context(open(asked.out, "w", encoding="utf-8"))
        rules = tuple(asked.rules.split(","))
        run = () if asked.again else programs
        for script, verdicts_, seen_ in measure(run, asked.sample, asked.seed, rules, asked.whole):
            looked = {id(each.verdict): each for each in seen_}
            for verdict in verdicts_ if out else ():
                assert out
                record = to_record(script, verdict, looked.get(id(verdict)))
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
            judged += verdicts_
            seen += seen_
            print(
                f"{script.program.name}: {len(verdicts_)} mutants, "
                f"{sum(each.found for each in seen_)} found of {len(seen_)}",
                flush=True,
            )
    if asked.again:
        judged, seen = again(asked.again)
    said = unmutated(programs)
    text = report(programs, judged, seen, said)
    print(text)
    for reason, number in reasons(seen)[:60]:
        print(f"{number:6} {reason}")
    for program, finding in said:
        print(f"unmutated: {program.name} {finding.code} {finding.severity.value} {finding.message}")
    if asked.log:
        _write(text, asked, time.monotonic() - began, why)


def report(
    programs: Sequence[sites.Program],
    judged: list[verdicts.Verdict],
    seen: list[recall.Seen],
    said: list[tuple[sites.Program, Finding]],
) -> str:
    """The figures."""
    loud = sum(finding.severity.value in ("error", "warning") for _, finding in said)
    return (
        f"{len(programs)} programs, {sum(bool(each.package) for each in programs)} of them from public "
        f"packages; on the unmutated ones {loud} warnings or errors and {len(said) - loud} others.\n\n"
        + recall.table(judged, seen)
    )


def _write(text: str, asked: argparse.Namespace, seconds: float, why: str) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    of = f"{asked.sample} mutants of each program by chance" if asked.sample else "all mutants"
    of += " and all in public packages" if asked.sample and asked.whole else ""
    if asked.again:
        of = "asked anew about mutants of former runs"
    head = (
        "# Mistakes put into good programs, and what is found of them\n\n"
        "Written by `python tests/corpus/measure.py --log`. *confirmed* by torch: a gradient, a loss or a\n"
        "parameter after its steps differs by more than 1e-3, or it raises; *found*: by a code that says\n"
        "it, on the line of the mistake, at the policy's severity or above. GS208 is confirmed by memory\n"
        "alone, GS406 needs a second device: both are in no sum. *public*: mistakes in the text of public\n"
        "packages.\n\n"
        f"Commit {commit}, seed {asked.seed}, {of}, {seconds / 60:.0f} minutes"
        f"{f', without public packages: {why}' if why else ''}.\n\n"
    )
    first, _, figures = text.partition("\n\n")
    RESULTS.write_text(f"{head}{first}\n\n```\n{figures}\n```\n", encoding="utf-8")


if __name__ == "__main__":
    main()
