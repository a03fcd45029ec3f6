"""numpy code on a tensor's values becomes tensor code, over the statements of one function.

The function is interpreted with values that only know whether they are arrays, tensors or numbers, and
each expression is written anew as it is met. What meets a tensor must become one too, so the set of
converted expressions grows until nothing is added. The file's other functions are never looked at, and
whatever has no faithful equal makes the whole change a `Refusal`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace

from gradsight.finding import Edit, apply
from gradsight.surgery.array_statements import Statements
from gradsight.surgery.imports import imports, spelling
from gradsight.surgery.numpy_calls import NoEqual, NoGradient
from gradsight.surgery.piece import Layout, layout, merged, parse, parses
from gradsight.surgery.refusal import Refusal
from gradsight.surgery.reopen import alone_in_block, remove_statement
from gradsight.text import Source, Span

_ROUNDS = 12


def tensors_for_numpy(
    source: Source, where: Span, function_span: Span | None = None, *, numbers: bool = False
) -> tuple[Edit, ...] | Refusal:
    """From the conversion at `where` to where a tensor is made again, numpy becomes torch.

    Args:
        where: what leaves torch (`pred.detach()` of `pred.detach().cpu().numpy()`, `np.exp(x)`, ...).
        function_span: the function around it; without one it is looked for, else the module's own lines.
        numbers: what stands at `where` makes Python numbers (`.item()`), so what they met were no arrays.
    """
    plan = layout(source.text)
    first, last = _lines_of(plan, where, function_span)
    start, end = plan.lines[first].start, plan.lines[last - 1].end
    piece = parse(source, start, end, before="if 1:\n" if plan.lines[first].indent else "")
    if isinstance(piece, Refusal):
        return piece
    torch = spelling(source, "torch")
    if isinstance(torch, Refusal):
        return torch
    rewrite = _Rewrite(piece, where, torch.name, numbers)
    try:
        edits = rewrite.edits()
    except NoEqual as error:
        return Refusal(f"{error} {error.reason}")
    except ValueError:
        return Refusal("the changes of this function overlap")
    if not edits:
        return Refusal("no conversion to numpy stands there")
    if not parses(_applied(source, edits, start, end)):
        return Refusal("what comes out does not parse")
    uses_torch = any(f"{torch.name}." in text for text in rewrite.texts.values())
    needed = torch.edits if uses_torch else ()
    return merged(edits, needed, _unused_numpy(source, edits))


def _applied(source: Source, edits: Sequence[Edit], start: int, end: int) -> str:
    """The text from `start` to `end` after edits that all lie inside."""
    inside = [replace(e, where=Span(e.where.start - start, e.where.end - start)) for e in edits]
    return apply(source.text[start:end], tuple(inside))


def _lines_of(plan: Layout, where: Span, function: Span | None) -> tuple[int, int]:
    """The logical lines [first, last) of the function around `where`."""
    index = plan.index(where.start)
    if function is not None:
        begin = plan.index(function.start)
        return begin, max(plan.index(max(function.end - 1, function.start)) + 1, plan.end_of_block(begin))
    around = plan.function(index)
    if around is not None:
        return around, plan.end_of_block(around)
    return 0, len(plan.lines)


class _Rewrite(Statements):
    """One function on its way from numpy to torch."""

    def edits(self) -> tuple[Edit, ...]:
        body = self.piece.module.body
        for _ in range(_ROUNDS):
            self.grown = False
            sunk = self.sunk
            self.texts.clear()
            self.dead.clear()
            self.removed.clear()
            self.block(body, {})
            if not self.grown and self.sunk == sunk:
                break
        else:
            raise NoEqual("this web of arrays")
        if self.dead:
            raise NoGradient(self.dead[0])
        edits: list[Edit] = []
        for node, text in self.texts.items():
            edits += _difference(self.source, self.piece.whole(node), text)
        for node in self.removed:
            edits += remove_statement(self.source, self.piece.span(node))
        return merged(edits) if self.converted else ()


def _unused_numpy(source: Source, edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """The import of numpy goes if nothing uses it after the edits."""
    after = apply(source.text, tuple(edits))
    plan = layout(after)
    gone: list[Edit] = []
    for item in imports(source.text):
        if item.target != "numpy" or not item.alone:
            continue
        word = re.compile(rf"\b{re.escape(item.bound)}\b")
        used = sum(len(word.findall(plan.masked[line.start : line.end])) for line in plan.lines)
        in_strings = re.search(rf"[fF][\"'][^\n]*\{{[^\n]*\b{re.escape(item.bound)}\.", after)
        own = len(word.findall(layout(source.text).masked[item.line.start : item.line.end]))
        if used > own or in_strings or re.search(rf"__all__.*{item.bound}", after):
            continue
        index = layout(source.text).index(item.line.start)
        if alone_in_block(source, index, index + 1):
            continue
        gone += remove_statement(source, Span(item.line.first, _code_end(source, item.line.start)))
    return tuple(gone)


def _code_end(source: Source, offset: int) -> int:
    plan = layout(source.text)
    line = plan.line(offset)
    return line.start + len(plan.masked[line.start : line.end].rstrip())


_TOKENS = re.compile(r"\w+|\s+|[^\w\s]")


def _difference(source: Source, where: Span, text: str) -> tuple[Edit, ...]:
    """The smallest runs of tokens whose replacement makes `text` of what stands at `where`."""
    old = _TOKENS.findall(source.text[where.start : where.end])
    new = _TOKENS.findall(text)
    edits: list[Edit] = []
    offsets = [where.start]
    for token in old:
        offsets.append(offsets[-1] + len(token))
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            edits.append(Edit(source.file, Span(offsets[a], offsets[b]), "".join(new[c:d])))
    return tuple(edits)
