"""
Gradients that are switched off and not switched on again.

## What it does
Flags `torch.set_grad_enabled(False)` and `torch.no_grad().__enter__()` where training goes on behind them: in
the lines below, behind the helper that calls them, or in the next turn of the loop. Also
`torch.set_grad_enabled(phase == "val")` around the pass whose `backward()` runs in the other phase.

## Why is this bad?
Such a call is no block: it holds until somebody calls it again, also behind the end of the function. Nothing
is recorded from there on, and the next `backward()` raises "element 0 of tensors does not require grad", or,
where some layers were computed before, these alone go on learning.

## Use instead
A block, which gives back what it found:

```python
def validate(model, loader):
    with torch.no_grad():
        return sum(loss_of(model, batch).item() for batch in loader)
```

## When it is right
In programs that only evaluate, and where the mode is set back before anything trains. Not flagged.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from gradsight import surgery
from gradsight.finding import Applicability, Edit, Finding, Fix
from gradsight.interpret.state import Event
from gradsight.policy import SEVERITY
from gradsight.protocol import branches, entry, loops
from gradsight.queries import Queries
from gradsight.rule import Report, Rule
from gradsight.rules import wording
from gradsight.text import Source


def check(q: Queries) -> Iterator[Report]:
    yield from wording.reports(RULE, q)
    modes = q.numbered("grad mode")
    if not modes:
        return
    said = {lost.where for lost in q.lost(RULE.code)}
    for found in (*later_turns(q, modes), *in_a_branch(q, modes)):
        where = found.where
        if where not in said:
            said.add(where)
            yield found
    yield from wrong_way_round(q, modes)


Modes = Sequence[tuple[int, Event]]  # switches of the mode, with their positions among the events
NEGATED = {ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not", ast.IsNot: "is"}


def later_turns(q: Queries, modes: Modes) -> Iterator[Report]:
    """What the first turn of a loop computes with gradients, and every later one without: a turn ends with
    them switched off, and nothing in it switches them on."""
    for end in q.all("left off"):
        loop = loops(end)
        if not loop:
            continue
        inside = [(at, event) for at, event in modes if loop[-1] in loops(event)]
        if any(event.fact("grad") != "off" for _, event in inside):
            continue
        for sink in q.sinks:
            if loop[-1] not in loops(sink) or not learns(q, sink):
                continue
            switch = next((event for _, event in inside if entry(event) == entry(sink)), None)
            if switch is None or not all(loop[-1] in q.graph[top].loops for top in q.roots(sink)):
                continue
            mine, other = branches(switch, loop[-1]), branches(sink, loop[-1])
            if mine and not other <= mine and not varies(end, switch, sink):
                continue  # one turn may never do both
            yield report(q, switch, sink, "from the second turn on", not mine)
            break


def varies(end: Event, *events: Event) -> bool:
    """Whether what is asked before one of the events differs from turn to turn."""
    names = set(end.fact("binds").split())
    tests = [test for event in events for test in event.fact("when").split("\n")]
    return any(not names.isdisjoint(re.findall(r"\w+", test.split("\t")[0])) for test in tests)


def in_a_branch(q: Queries, modes: Modes) -> Iterator[Report]:
    """What is computed behind a branch that switches gradients off."""
    for sink in q.sinks:
        if sink.fact("mode") != "may" or not learns(q, sink):
            continue
        at = q.events.index(sink)
        before = [event for position, event in modes if position < at]
        if not before or before[-1].fact("grad") != "off":
            continue
        switch = before[-1]
        if entry(switch) != entry(sink) or not branches(sink) <= branches(switch):
            continue
        if all(top > switch.node for top in q.roots(sink)):
            yield report(q, switch, sink, "once this line has run", False)


def wrong_way_round(q: Queries, modes: Modes) -> Iterator[Report]:
    """A switch by a condition that is false wherever the loss is differentiated."""
    for sink in q.sinks:
        at = q.events.index(sink)
        for position, switch in modes:
            asked = switch.fact("if")
            end = next((other.node for place, other in modes if place > position), len(q.graph))
            if not asked or position > at or not all(switch.node < top < end for top in q.roots(sink)):
                continue
            met = next((one for one in sink.fact("when").split("\n") if one and excludes(one, asked)), None)
            where = switch.place("call")
            if met is None or where is None or not learns(q, sink):
                continue
            yield RULE.report(
                SEVERITY["dead"],
                f"{q.sink_text(sink)} has no gradient to give: `{q.text_of(where)}` switches gradients off "
                f'wherever this `backward` runs; it raises "{wording.E0}"',
                where,
                (("gradients are switched by this condition", where), *wording.end(q, sink)),
                (("block", where),),
                (("kind", "condition"),),
            )


def excludes(met: str, asked: str) -> bool:
    """Whether one condition, where it is met, makes the other false."""
    text, constants, holds = met.split("\t")
    other, wanted, yes = asked.split("\t")
    if text != other or "?" in (constants, wanted):
        return False
    here, there = set(constants.split("|")), set(wanted.split("|"))
    if holds and yes:
        return bool(constants and wanted) and here.isdisjoint(there)
    if holds:
        return here <= there
    return bool(yes) and there <= here


def learns(q: Queries, sink: Event) -> bool:
    """Whether a pass gives a gradient where gradients are on."""
    return not sink.fact("off") and any(q.is_live(top, sink) for top in q.roots(sink))


def report(q: Queries, switch: Event, sink: Event, when: str, surely: bool) -> Report:
    where = switch.place("call")
    assert where is not None
    return RULE.report(
        SEVERITY["dead" if surely else "wrong"],
        f"{q.sink_text(sink)} has no gradient to give {when}: `{q.text_of(where)}` holds until gradients are "
        f'switched on again; `backward` raises "{wording.E0}"',
        where,
        (("gradients are switched off here", where), *wording.end(q, sink)),
        (("block", where),),
        (("kind", "later"),),
    )


def fix(source: Source, finding: Finding) -> Iterator[Fix]:
    block = finding.place("block")
    if block is None:
        return
    written = source.slice(block)
    call = ast.parse(written, mode="eval").body
    if not isinstance(call, ast.Call):
        return
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    if given and not isinstance(given[0], ast.Constant):
        turned = negated(given[0], written)
        if turned is not None:
            text = f"{ast.get_source_segment(written, call.func)}({turned})"
            title = f"Switch gradients on where `{turned}`"
            yield Fix(title, Applicability.UNSAFE, (Edit(source.file, block, text),))
        return
    within = surgery.in_no_grad_block(source, block)
    if not isinstance(within, surgery.Refusal):
        end = source.offset(source.row_column(block.end)[0] + 1, 0)
        last = max(edit.where.start for edit in within)
        last = source.offset(source.row_column(last)[0], 1 << 30)
        if not any(end <= step.where.start < last and step.file == source.file for step in finding.path):
            title = "Switch gradients off for these lines alone: `with torch.no_grad():`"
            yield Fix(title, wording.applicability(finding), within)
            return
    edits = surgery.remove_statement(source, block)
    if not isinstance(edits, surgery.Refusal):
        yield Fix("Leave gradients on", wording.applicability(finding), edits)


def negated(test: ast.expr, written: str) -> str | None:
    """The condition that is true where this one is false, as people write it."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return ast.get_source_segment(written, test.operand)
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        word = NEGATED.get(type(test.ops[0]))
        left, right = (ast.get_source_segment(written, part) for part in (test.left, test.comparators[0]))
        return f"{left} {word} {right}" if word is not None else None
    if isinstance(test, (ast.Name, ast.Attribute)):
        return f"not {ast.get_source_segment(written, test)}"
    return None


RULE = Rule("GS109", "grad-mode-left-off", check, fix)
