"""Offer a fix for every bug of which the right program is known, apply it, and ask torch what came of it.

    python tests/corpus/fixing.py [--sample N] [--seed N] [--generated N] [--rules GS2,GS304] [--log]
                                  [--again mutants.jsonl ...] [--out fixes.jsonl]

The bugs: every finding that the programs of fixtures/rules want, `--sample` mutants of each good program
(`measure.py`), the cuts of `--generated` drawn programs. `--again`: mutants from files that
`measure.py --out` wrote, instead of new ones, and of each rule so many. `--log`: the table goes into
tests/corpus/FIXES.md.

- *offerable*: found by the analysis, and the page of the rule does not say why nothing mends it
- *offered*: there is a fix
- *applied*: it needs nobody to complete it, and with it the file parses, the finding is gone, none is new,
  and nothing raises that did not
- *proved*: under torch each step of each optimizer sees the gradients of the right program and every
  parameter ends as it does there, to 1e-4; for a safe fix the first loss is that of the right program, to
  1e-5. Of a fixture no right program is known: what it says itself is true of its fixed form, and a safe
  fix keeps the first loss.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests")]

from generated import grammar  # noqa: E402
from gradsight.engine import Engine  # noqa: E402
from gradsight.finding import Applicability, Finding, Fix, apply  # noqa: E402
from gradsight.rules import RULES  # noqa: E402
from gradsight.text import Source  # noqa: E402
from harness import analysis, markers, truth  # noqa: E402
from harness.fixing import fixed  # noqa: E402

from corpus import measure, recall, sites  # noqa: E402

LOG = Path(__file__).with_name("FIXES.md")
RTOL, LOSS = 1e-4, 1e-5
ROUNDS = 4  # one mistake may be several findings
# Mistakes without a right fix, by rule and style, and the words of the rule's page that say why.
_DECISION = "What should stand there instead of an index or of true and false is a decision"
NO_FIX = {("GS107", style): _DECISION for style in ("argmax", "threshold", "comparison")}


@dataclass(frozen=True)
class Bug:
    """A program with one mistake, and what the analysis says of it."""

    origin: str  # "fixture", "mutant", "generated"
    program: str
    rule: str  # whose row it is counted in
    style: str
    text: str
    found: tuple[Finding, ...]  # what says it
    known: Counter[str]  # the codes of all findings
    right: str = ""  # the right program; nothing for a fixture
    facts: tuple[truth.Fact, ...] = ()  # true of the fixed program


@dataclass
class Proof:
    """What became of a bug. `wrong` says why it is not applied or not proved; nothing where it is."""

    bug: Bug
    title: str = ""
    text: str = ""
    safe: bool = False
    offered: int = 0
    complete: bool = False
    wrong: str = ""
    proved: bool = False
    number: int = 1  # of findings: a fixture may hold several

    @property
    def applied(self) -> bool:
        return self.complete and not self.wrong.startswith("!")

    def __str__(self) -> str:
        bug = self.bug
        what = "no fix" if not self.offered else "incomplete" if not self.complete else self.wrong
        return f"{bug.rule} {bug.origin} {bug.program} ({bug.style}): {what} | {self.title}"


def pages() -> dict[str, str]:
    """The page of every rule, on one line."""
    return {rule.code: " ".join(rule.doc.split()) for rule in RULES}


def fixtures(rules: tuple[str, ...] = ("",)) -> Iterator[Proof]:
    """Each flagged program, with all that is offered for it applied together."""
    for path in sorted((ROOT / "fixtures" / "rules").glob("*/flagged_*.py")):
        rule = path.parent.name[:5]
        if not rule.startswith(rules):
            continue
        said = markers.read(path)
        source = analysis.source(path)
        found, _ = analysis.findings_of(source)
        own = [each for each in found if each.code == rule]
        if not own:
            continue  # known not to be found
        offered = [analysis.fixes(source, each) for each in own]
        if said.no_fix and not all(offered):
            own = [each for each, some in zip(own, offered, strict=True) if some]
            offered = [some for some in offered if some]
            if not own:
                continue
        complete = [
            [each for each in some if each.applicability is not Applicability.DISPLAY] for some in offered
        ]
        known = Counter(each.code for each in found)
        facts = tuple(said.facts(fixed=True))
        bug = Bug("fixture", path.stem, rule, "", source.text, tuple(own), known, facts=facts)
        proof = Proof(bug, offered=sum(map(bool, offered)), number=len(own))
        if any(complete):
            result = fixed(source)
            left = Counter(each.code for each in result.left)
            proof.complete, proof.text = True, result.text
            proof.title = next(some[0].title for some in complete if some)
            proof.safe = all(how is Applicability.SAFE for _, how in result.applied)
            if left - known:
                proof.wrong = f"! new: {dict(left - known)}"
            elif left.total() >= known.total():
                proof.wrong = "! the finding is not gone"
        yield proof


def bugs_of(seen: Iterable[recall.Seen], right: dict[str, str]) -> Iterator[Bug]:
    """The mutants that are found. `right`: of each text the right program."""
    for each in seen:
        mutant = each.verdict.mutant
        if each.there and each.verdict.kind == "wanted":
            known = Counter(one.code for one in (*each.there, *each.elsewhere))
            of_right = Engine().analyze(Source("program.py", right[mutant.text])).findings
            known |= Counter(one.code for one in of_right)
            yield Bug(
                "mutant",
                mutant.program,
                mutant.rule,
                mutant.style,
                mutant.text,
                each.there,
                known,
                right[mutant.text],
            )


def mutants(number: int | None, seed: int, rules: tuple[str, ...], only: str = "") -> Iterator[Bug]:
    """Of each good program some mistakes."""
    programs = [each for each in (*measure.own(), *measure.public()[0]) if only in each.name]
    yield from mutants_in(programs, number, seed, rules)


def mutants_in(
    programs: Sequence[sites.Program], number: int | None, seed: int, rules: tuple[str, ...] = ("",)
) -> Iterator[Bug]:
    """Of each of these some mistakes."""
    for script, judged, seen in measure.measure(programs, number, seed, rules):
        right = {each.mutant.text: each.mutant.good or script.text for each in judged}
        yield from bugs_of(seen, right)


def mutants_of(paths: Sequence[Path], number: int | None, rules: tuple[str, ...]) -> Iterator[Bug]:
    """Those of former runs; of each rule at most so many, spread over the files."""
    records: dict[str, list[dict[str, Any]]] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["verdict"] == "wanted" and record["rule"].startswith(rules):
                records.setdefault(record["rule"], []).append(record)
    for rule in sorted(records):
        some = records[rule][:: max(1, len(records[rule]) // number) if number else 1]
        right = {each["after"]: each["before"] for each in some}
        _, seen = measure.looked_at(some)
        yield from bugs_of(seen, right)


def drawn(number: int, rules: tuple[str, ...]) -> Iterator[Bug]:
    """Drawn programs with one cut, and the same programs without it."""
    for seed in range(number):
        program = grammar.program(seed)
        if program.cuts != 1:
            continue
        (style,) = (name.removeprefix("cut: ") for name in program.emitted if name.startswith("cut: "))
        found, _ = analysis.findings(program.text)
        own = tuple(each for each in found if each.code.startswith("GS10"))
        if own and own[0].code.startswith(rules):
            known = Counter(each.code for each in found)
            right = grammar.program(seed, whole=True).text
            yield Bug("generated", f"seed {seed}", own[0].code, style, program.text, own, known, right)


def why_not(bug: Bug) -> str:
    """Why the rule's page says that nothing mends it."""
    return NO_FIX.get((bug.rule, bug.style), "")


def mended(bug: Bug) -> Proof:
    """The bug with the first complete fix of each of its findings, one after the other."""
    proof = Proof(bug, text=bug.text, safe=True)
    finding, known = bug.found[0], bug.known
    for _ in range(ROUNDS):
        engine, source = Engine(), Source("program.py", proof.text)
        engine.analyze(source)
        fixes = engine.fixes(source, finding)
        proof.offered = proof.offered or int(bool(fixes))
        chosen = next((each for each in fixes if each.applicability is not Applicability.DISPLAY), None)
        if chosen is None:
            break
        engine = Engine()
        proof.complete = True
        proof.title = proof.title or chosen.title
        proof.safe = proof.safe and chosen.applicability is Applicability.SAFE
        proof.text, proof.wrong, left = _applied(proof.text, finding, chosen, known)
        known = Counter(each.code for each in left)
        again = [each for each in left if each.code == finding.code]
        if proof.wrong or not again or bug.known[finding.code] <= 1:
            break
        finding = again[0]
    return proof


def _applied(
    text: str, finding: Finding, fix: Fix, known: Counter[str]
) -> tuple[str, str, tuple[Finding, ...]]:
    text = apply(text, fix.edits)
    try:
        ast.parse(text)
    except SyntaxError as error:
        return text, f"! does not parse: {error}", ()
    left = Engine().analyze(Source("program.py", text)).findings
    codes = Counter(each.code for each in left)
    if codes - known:
        return text, f"! new: {dict(codes - known)}", left
    gone = codes[finding.code] < known[finding.code]
    return text, "" if gone else "! the finding is not gone", left


def prove(proofs: Sequence[Proof]) -> None:
    """Run what was applied, and say what is wrong with it."""
    applied = [each for each in proofs if each.applied]
    of_right = [each for each in applied if each.bug.right]
    rights = list(dict.fromkeys(each.bug.right for each in of_right))
    shots = truth.snapshots([truth.Run(text) for text in (*rights, *(each.text for each in of_right))])
    right = dict(zip(rights, shots, strict=False))
    for each, shot in zip(of_right, shots[len(rights) :], strict=True):
        good = right[each.bug.right]
        if shot.error and not good.error:
            each.wrong = f"! raises {shot.error}"
            continue
        different = differences(good, shot)
        if each.safe and not _same_loss(good, shot):
            different.append(f"it is safe, and the loss is {good.losses[:1]} | {shot.losses[:1]}")
        each.wrong = "; ".join(different[:2])
        each.proved = not different
    own = [each for each in applied if not each.bug.right]
    outcomes = truth.run_many([truth.Run(each.text, each.bug.facts) for each in own])
    before = truth.snapshots([truth.Run(each.bug.text) for each in own if each.safe])
    after = iter(truth.snapshots([truth.Run(each.text) for each in own if each.safe]))
    unfixed = iter(before)
    for each, outcome in zip(own, outcomes, strict=True):
        each.wrong = "; ".join(outcome.false)
        if outcome.error and each.wrong:
            each.wrong = f"! {each.wrong}"
        elif not each.bug.facts:
            each.wrong = "it says of its fixed form nothing that is true"
        if each.safe:
            old, new = next(unfixed), next(after)
            if not old.error and old.losses and not _same_loss(old, new):
                each.wrong = each.wrong or f"it is safe, and the loss is {old.losses[:1]} | {new.losses[:1]}"
        each.proved = not each.wrong


def differences(right: truth.Snapshot, mended: truth.Snapshot) -> list[str]:
    """What each step saw and where each parameter ended, in words; empty if that is the same.

    What a step saw counts, not what `.grad` holds when the program ends: gradients may be cleared before the
    backward pass or behind the step. Where nothing steps, `.grad` is compared. A layer in a container is
    known by another name: what only one program has is compared in its order.
    """
    names = _renamed(right, mended)
    out: list[str] = []
    if len(right.steps) != len(mended.steps):
        out.append(f"{len(right.steps)} | {len(mended.steps)} steps")
    for number, (one, other) in enumerate(zip(right.steps, mended.steps, strict=False)):
        seen = {names.get(name, name): each for name, each in other.items()}
        for name, gradient in one.items():
            norm = gradient.norm if gradient else None
            theirs = seen.get(name)
            if (norm is None) != (theirs is None) or (
                norm is not None
                and theirs is not None
                and not math.isclose(norm, theirs.norm, rel_tol=RTOL, abs_tol=1e-7)
            ):
                out.append(f"step {number} saw of {name}: {gradient} | {theirs}")
    renamed = truth.Snapshot(
        {names.get(name, name): each for name, each in mended.gradients.items()},
        {names.get(name, name): each for name, each in mended.parameters.items()},
        right.losses,
        (),
        {},
        mended.error,
    )
    compared = truth.compare(right, renamed, RTOL, right.parameters)
    return out + [each for each in compared if not (right.steps and each.startswith("gradient"))]


def _renamed(right: truth.Snapshot, mended: truth.Snapshot) -> dict[str, str]:
    ours = [name for name in right.parameters if name not in mended.parameters]
    theirs = [name for name in mended.parameters if name not in right.parameters]
    fits = len(ours) == len(theirs) and all(
        right.parameters[one].shape == mended.parameters[other].shape
        for one, other in zip(ours, theirs, strict=False)
    )
    return dict(zip(theirs, ours, strict=True)) if fits else {}


def _same_loss(one: truth.Snapshot, other: truth.Snapshot) -> bool:
    if not one.losses:
        return True
    return bool(other.losses) and math.isclose(one.losses[0], other.losses[0], rel_tol=LOSS, abs_tol=1e-7)


def table(proofs: Sequence[Proof]) -> str:
    """The figures for each rule, and of each origin in all."""
    lines = [
        f"{'rule':11}{'offerable':>10}{'offered':>9}{'':>8}{'complete':>10}{'applied':>9}{'proved':>8}{'':>8}"
    ]
    rows = [(rule, [each for each in proofs if each.bug.rule == rule]) for rule in sorted(_rules(proofs))]
    for origin in ("fixture", "mutant", "generated", ""):
        some = [each for each in proofs if origin in ("", each.bug.origin)]
        rows.append((f"{origin}s" if origin in ("fixture", "mutant") else origin or "all", some))
    for name, some in rows:
        offerable, offered, complete, applied, proved = counted(some)
        lines.append(
            f"{name:11}{offerable:10}{offered:9}{offered / max(1, offerable):8.1%}{complete:10}"
            f"{applied:9}{proved:8}{proved / max(1, complete):8.1%}"
        )
    return "\n".join(lines)


def counted(proofs: Iterable[Proof]) -> tuple[int, int, int, int, int]:
    """Offerable, offered, of these complete, applied and proved."""
    numbers = [0] * 5
    for each in proofs:
        complete = each.offered if each.complete else 0
        row = (
            each.number,
            each.offered,
            complete,
            complete if each.applied else 0,
            complete if each.proved else 0,
        )
        numbers = [a + b for a, b in zip(numbers, row, strict=True)]
    return (numbers[0], numbers[1], numbers[2], numbers[3], numbers[4])


def _rules(proofs: Sequence[Proof]) -> set[str]:
    return {each.bug.rule for each in proofs}


def main() -> None:
    """Apply, run, print, and write down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--generated", type=int, default=0)
    parser.add_argument("--rules", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--again", nargs="*", type=Path, default=[])
    parser.add_argument("--no-mutants", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--log", action="store_true")
    asked = parser.parse_args()
    began = time.monotonic()
    rules = tuple(asked.rules.split(","))
    proofs = list(fixtures(rules))
    bugs: list[Bug] = list(drawn(asked.generated, rules))
    if asked.again:
        bugs += mutants_of(asked.again, asked.sample, rules)
    elif not asked.no_mutants:
        bugs += mutants(asked.sample, asked.seed, rules, asked.only)
    proofs += [mended(bug) for bug in bugs if not why_not(bug)]
    prove(proofs)
    text = table(proofs)
    failed = [each for each in proofs if not each.proved]
    for each in sorted(failed, key=str):
        print(each)
    print(text)
    if asked.out:
        with asked.out.open("w", encoding="utf-8") as out:
            for each in failed:
                bug = each.bug
                record = {
                    "what": str(each),
                    "program": bug.program,
                    "right": bug.right,
                    "text": bug.text,
                    "fixed": each.text,
                }
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
    if asked.log:
        _write(text, failed, asked, time.monotonic() - began)


def _write(text: str, failed: Sequence[Proof], asked: argparse.Namespace, seconds: float) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    of = f"{asked.sample} mutants of each {'rule' if asked.again else 'program'}" if asked.sample else "all"
    head = (
        "# Fixes, offered and proved\n\n"
        "Written by `python tests/corpus/fixing.py --log`. *offerable*: a finding of a bug for which the\n"
        "rule's page does not say that nothing mends it; *offered*: there is a fix; *complete*: nobody has\n"
        "to finish it; *applied*: the file parses, the finding is gone, none is new, nothing raises that\n"
        "did not; *proved*: under torch each optimizer's step sees the gradients of the unmutated program\n"
        "and its parameters end as they do there (1e-4), and a safe fix keeps the loss (1e-5). Fixtures\n"
        "have no unmutated program: what they say of their fixed form is true.\n\n"
        f"Commit {commit}, seed {asked.seed}, {of}, {asked.generated} drawn programs, "
        f"{seconds / 60:.0f} minutes.\n\n"
    )
    kinds = Counter(
        f"{each.bug.rule} {each.bug.origin} {each.bug.style}: "
        + ("no fix" if not each.offered else "incomplete" if not each.complete else each.wrong[:90])
        for each in failed
        if each.bug.origin != "mutant" or each.bug.style
    )
    rest = "\n".join(f"{number:5} {kind}" for kind, number in sorted(kinds.items()))
    LOG.write_text(f"{head}```\n{text}\n```\n\n## What is not proved\n\n```\n{rest}\n```\n", encoding="utf-8")


if __name__ == "__main__":
    main()
