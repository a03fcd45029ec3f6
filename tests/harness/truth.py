"""What torch does with a program: facts about it, and snapshots by which two programs are compared.

One warm process per test session (`truth_worker.py`) forks a child for each program, two at once, so that
hundreds of programs take seconds. A program runs as `__main__`, in a folder of its own, under its own file
name, and is ended with all it started after `SECONDS`.
"""

from __future__ import annotations

import atexit
import itertools
import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias

from harness.markers import Raises

SECONDS = 10.0

Fact: TypeAlias = "str | Raises"


@dataclass(frozen=True, slots=True)
class Failure:
    """What ended a program; `TimeoutError` if it was ended, `ProcessLookupError` if it vanished."""

    type: str
    text: str
    row: int | None  # of the program, 1-based: the innermost
    kinds: tuple[str, ...] = ()  # the type and its bases

    def __str__(self) -> str:
        return f"{self.type}: {self.text.splitlines()[0] if self.text else ''} (row {self.row})"


@dataclass(frozen=True, slots=True)
class Checked:
    """A fact, whether it holds, and what was seen."""

    fact: Fact
    holds: bool
    shown: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A program that ran."""

    facts: tuple[Checked, ...]
    error: Failure | None
    output: str  # the end of what it printed
    seconds: float

    @property
    def false(self) -> list[str]:
        """What is wrong, in words; empty if every fact holds and nothing was raised that is not wanted."""
        wrong = [f"{each.fact}: {each.shown}" for each in self.facts if not each.holds]
        if self.error and not any(isinstance(each.fact, Raises) for each in self.facts):
            wrong.append(f"raised {self.error}")
        return wrong


@dataclass(frozen=True, slots=True)
class Run:
    """A program to run."""

    text: str
    facts: tuple[Fact, ...] = ()
    file: str = "program.py"
    locals_of: tuple[str, ...] = ()  # facts also see the locals with which these (`f`, `Class.method`) ended

    @classmethod
    def of(cls, program: Path | str, facts: Iterable[Fact] = (), **more: Any) -> Run:
        """A program by its path or its text."""
        if isinstance(program, Path):
            return cls(program.read_text(encoding="utf-8"), tuple(facts), str(program), **more)
        return cls(program, tuple(facts), **more)


@dataclass(frozen=True, slots=True)
class Values:
    """A tensor's values in float64; for more than 10,000 elements, 16 fixed projections of them."""

    shape: tuple[int, ...]
    norm: float
    values: tuple[float, ...] = field(repr=False)

    @property
    def state(self) -> str:
        """zero, nonzero or nonfinite."""
        return ("nonzero" if self.norm else "zero") if math.isfinite(self.norm) else "nonfinite"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a program left behind, by the names under which it reaches things: `model.fc.weight`.

    Leaves that live in a function only, but were stepped by an optimizer, are called `<stepped 0>` and so on.
    """

    gradients: dict[str, Values | None]  # `.grad` at the end, of every leaf that requires grad
    parameters: dict[str, Values]  # the same leaves themselves
    losses: tuple[float, ...]  # what backward was called on, in order (the sum of it if it is not a scalar)
    steps: tuple[dict[str, Values | None], ...]  # `.grad` as each optimizer step saw it: shapes and norms
    numbers: dict[str, float]  # floats and one-element floating tensors of the namespace
    error: Failure | None

    def learnt(self) -> dict[str, str]:
        """Of each stepped leaf the best state that any step saw: none, zero, nonfinite, nonzero."""
        order = ["none", "zero", "nonfinite", "nonzero"]
        best: dict[str, str] = {}
        for step in self.steps:
            for name, gradient in step.items():
                state = gradient.state if gradient else "none"
                best[name] = max(best.get(name, "none"), state, key=order.index)
        return best


def run_truth(program: Path | str, facts: Iterable[Fact] = ()) -> Outcome:
    """Run a program, given by its path or its text, and evaluate facts in the namespace it leaves.

    `torch` and `np` are always there for the facts.
    """
    return run_many([Run.of(program, facts)])[0]


def run_many(runs: Sequence[Run]) -> list[Outcome]:
    """Run programs, two at once; the outcomes in the runs' order."""
    return [_to_outcome(run, answer) for run, answer in zip(runs, _ask(runs, snapshot=False), strict=True)]


def snapshot(program: Path | str) -> Snapshot:
    """Run a program and take down its gradients, losses and parameters."""
    return snapshots([Run.of(program)])[0]


def snapshots(runs: Sequence[Run]) -> list[Snapshot]:
    """The snapshots of programs, two run at once."""
    return [_to_snapshot(answer) for answer in _ask(runs, snapshot=True)]


def compare(a: Snapshot, b: Snapshot, rtol: float = 1e-4, names: Iterable[str] | None = None) -> list[str]:
    """How two programs differ, in words; empty if error type, losses, gradients and parameters agree.

    A tensor agrees if the norm of the difference is at most `rtol` of the larger norm (or 1e-12).
    Only `names` of the leaves are compared, where given.
    """
    differences: list[str] = []
    if (a.error and a.error.type) != (b.error and b.error.type):
        differences.append(f"error: {a.error} | {b.error}")
    if len(a.losses) != len(b.losses):
        differences.append(f"backward called {len(a.losses)} | {len(b.losses)} times")
    elif not all(_close(x, y, rtol) for x, y in zip(a.losses, b.losses, strict=True)):
        differences.append(f"losses: {a.losses} | {b.losses}")
    chosen = set(names) if names is not None else None
    for what, left, right in (
        ("gradient", a.gradients, b.gradients),
        ("parameter", a.parameters, b.parameters),
    ):
        for name in sorted({*left, *right}):
            if chosen is not None and name not in chosen:
                continue
            if (name in left) != (name in right):
                differences.append(f"{what} {name}: only in the {'first' if name in left else 'second'}")
            elif not _agree(left[name], right[name], rtol):
                differences.append(f"{what} {name}: {left[name]} | {right[name]}")
    return differences


def _agree(a: Values | None, b: Values | None, rtol: float) -> bool:
    if a is None or b is None:
        return a is b
    if a.shape != b.shape:
        return False
    if not (math.isfinite(a.norm) and math.isfinite(b.norm)):
        return all(_close(x, y, rtol) for x, y in zip(a.values, b.values, strict=True))
    return math.dist(a.values, b.values) <= max(rtol * max(a.norm, b.norm), 1e-12)


def _close(a: float, b: float, rtol: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=rtol, abs_tol=1e-12)


def _to_outcome(run: Run, answer: dict[str, Any]) -> Outcome:
    error = _to_failure(answer["error"])
    evaluated = iter(answer.get("facts") or [])
    facts: list[Checked] = []
    for fact in run.facts:
        if isinstance(fact, Raises):
            holds = (
                error is not None and fact.type.rpartition(".")[2] in error.kinds and fact.text in error.text
            )
            facts.append(Checked(fact, holds, f"raised {error}" if error else "nothing raised"))
        else:
            seen = next(evaluated, {"holds": False, "shown": f"not evaluated: {error}"})
            facts.append(Checked(fact, seen["holds"], seen["shown"]))
    return Outcome(tuple(facts), error, answer.get("output", ""), answer["seconds"])


def _to_snapshot(answer: dict[str, Any]) -> Snapshot:
    taken = answer.get("snapshot") or {
        "gradients": {},
        "parameters": {},
        "losses": [],
        "steps": [],
        "numbers": {},
    }
    return Snapshot(
        {name: _to_values(each) for name, each in taken["gradients"].items()},
        {name: values for name, each in taken["parameters"].items() if (values := _to_values(each))},
        tuple(taken["losses"]),
        tuple({name: _to_values(each) for name, each in step.items()} for step in taken["steps"]),
        taken["numbers"],
        _to_failure(answer["error"]),
    )


def _to_values(record: dict[str, Any] | None) -> Values | None:
    return Values(tuple(record["shape"]), record["norm"], tuple(record["values"])) if record else None


def _to_failure(record: dict[str, Any] | None) -> Failure | None:
    if record is None:
        return None
    return Failure(
        record["type"], record["text"], record["row"], tuple(record.get("kinds", (record["type"],)))
    )


class _Worker:
    """The warm process, started when first asked."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("truth_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.numbers = itertools.count()
        atexit.register(self.end)

    def ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert self.process.stdin
        assert self.process.stdout
        for request in requests:
            request["id"] = next(self.numbers)
        # From a thread of its own: both pipes may be full at the same time.
        sender = threading.Thread(target=self._send, args=(self.process.stdin, requests))
        sender.start()
        answers: dict[int, dict[str, Any]] = {}
        while len(answers) < len(requests):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the warm process ended with {self.process.wait()}")
            answer = json.loads(line)
            if "bug" in answer:
                self.process.kill()  # with the answers that are still to come
                raise RuntimeError(f"the child failed outside the program:\n{answer['bug']}")
            answers[answer["id"]] = answer
        sender.join()
        return [answers[request["id"]] for request in requests]

    @staticmethod
    def _send(pipe: IO[str], requests: list[dict[str, Any]]) -> None:
        for request in requests:
            pipe.write(json.dumps(request) + "\n")
        pipe.flush()

    def end(self) -> None:
        if self.process.poll() is None and self.process.stdin:
            self.process.stdin.close()
            self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()


_worker: _Worker | None = None


def _ask(runs: Sequence[Run], *, snapshot: bool) -> list[dict[str, Any]]:
    global _worker
    if _worker is None or _worker.process.poll() is not None:
        _worker = _Worker()
    return _worker.ask(
        [
            {
                "file": run.file,
                "text": run.text,
                "facts": [fact for fact in run.facts if isinstance(fact, str)],
                "locals_of": run.locals_of,
                "snapshot": snapshot,
                "seconds": SECONDS,
            }
            for run in runs
        ]
    )
