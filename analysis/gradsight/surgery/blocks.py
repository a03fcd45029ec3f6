"""Moves and joins whole statements: out of `no_grad`, two backwards into one, ignore comments.

Lines inside strings are never re-indented; comments move with the statement that they stand before.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import libcst as cst

from gradsight.finding import Edit, apply
from gradsight.surgery.imports import spelling
from gradsight.surgery.piece import Layout, Piece, dotted, layout, merged, newline, parse, parses, trim
from gradsight.surgery.refusal import Refusal
from gradsight.surgery.reopen import remove_statement
from gradsight.text import Source, Span

_NO_GRAD = re.compile(r"\b(?:no_grad|inference_mode|set_grad_enabled)\b")


def move_out_of_no_grad(
    source: Source, where: Span, live: Sequence[Span] = (), *, follow: bool = False
) -> tuple[Edit, ...] | Refusal:
    """The statements at `live` move out of the `with torch.no_grad():` at `where`, in their order.

    Without `live` all of them do; with `follow` also the later ones that read a name which these bind.
    What stays keeps a block of its own. A decorator `@torch.no_grad()` or
    a statement `torch.set_grad_enabled(False)` at `where` is removed.
    """
    plan = layout(source.text)
    index = plan.index(where.start)
    line = plan.lines[index]
    code = plan.masked[line.first : line.end].rstrip()
    if code.startswith("@"):
        if not _NO_GRAD.search(code):
            return Refusal("the decorator does not switch gradients off")
        return (Edit(source.file, Span(line.start, line.end), ""),)
    if not re.match(r"(?:async\s+)?with\b", code):
        if _NO_GRAD.search(code) and "=" not in code:
            return remove_statement(source, Span(line.first, line.first + len(code)))
        return Refusal("no block that switches gradients off stands there")
    last = plan.end_of_block(index)
    piece = parse(source, line.first, line.first + len(code), after=" pass" if code.endswith(":") else "")
    if isinstance(piece, Refusal):
        return piece
    statement = next(piece.nodes(cst.With), None)
    if statement is None:
        return Refusal("no block that switches gradients off stands there")
    others = [item for item in statement.items if not _NO_GRAD.search(piece.text(item.item))]
    if len(others) == len(statement.items):
        return Refusal("no block that switches gradients off stands there")
    if not code.endswith(":") and isinstance(statement.body, cst.SimpleStatementSuite):
        body = statement.body.body
        if others or (
            live and not all(any(_holds(span, piece.span(part)) for span in live) for part in body)
        ):
            return Refusal("the block is one line that also does something else")
        start = piece.span(body[0]).start
        return (Edit(source.file, Span(line.first, start), ""),)
    runs = _runs(source, plan, index, last, live, follow)
    if isinstance(runs, Refusal):
        return runs
    if not any(run.live for run in runs):
        return Refusal("none of the statements stands directly in the block")
    if others:
        if any(not run.live for run in runs):
            return Refusal("the block's header opens something else too")
        return _drop_items(source, piece, statement)
    edits = _split(source, plan, index, runs)
    return _checked(source, edits, line.start, plan.lines[last - 1].end)


def in_no_grad_block(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """`torch.set_grad_enabled(False)` becomes `with torch.no_grad():` around the rest of its block, and
    `guard.__enter__()` a `with guard:`.

    Refuses where the rest asks for a gradient or switches again, or nothing follows.
    """
    plan, text = layout(source.text), source.text
    index = plan.index(where.start)
    line = plan.lines[index]
    if plan.masked[line.first : line.end].strip() != plan.masked[where.start : where.end].strip():
        return Refusal("the switch does not stand alone on its line")
    width = len(line.indent.expandtabs())
    last = index + 1
    for at in range(index + 1, len(plan.lines)):
        if not plan.lines[at].blank:
            if len(plan.lines[at].indent.expandtabs()) < width:
                break
            last = at + 1
    rest = plan.masked[line.end : plan.lines[last - 1].end]
    if not rest.strip():
        return Refusal("nothing follows the switch")
    if re.search(r"\bbackward\b|\.step\(|set_grad_enabled|__exit__|enable_grad|\bgrad\(|\byield\b", rest):
        return Refusal("what follows asks for a gradient")
    spelled = spelling(source, "torch.no_grad")
    if isinstance(spelled, Refusal):
        return spelled
    entered = source.slice(where).removesuffix(".__enter__()")
    opening = f"with {entered}:" if entered != source.slice(where) else f"with {spelled.name}():"
    edits = [Edit(source.file, where, opening), *(spelled.edits if "no_grad()" in opening else ())]
    step = "\t" if "\t" in line.indent else "    "
    starts = re.finditer(r"(?:^|(?<=\n)|(?<=\r)(?!\n))(?=[ \t]*[^\s])", text[: plan.lines[last - 1].end])
    for at in (match.start() for match in starts):
        if at < line.end:
            continue
        continued = text[at] in " \t" and plan.masked[at] != '"'  # and in no string of several lines
        if continued or plan.line(at).start == at:
            edits.append(Edit(source.file, Span(at, at), step))
    return tuple(edits)


def out_of_branch(source: Source, where: Span) -> tuple[Edit, ...] | Refusal:
    """The one statement of an `if` runs always: the header goes. Refuses where it is not the only one."""
    plan = layout(source.text)
    index = plan.index(where.start)
    header = index - 1
    while header >= 0 and plan.lines[header].blank:
        header -= 1
    if header < 0 or not re.match(r"if\b", plan.masked[plan.lines[header].first :]):
        return Refusal("the statement does not stand alone under an `if`")
    last = plan.end_of_block(header)
    own = [at for at in range(header + 1, last) if not plan.lines[at].blank]
    other = next((line for line in plan.lines[last:] if not line.blank), None)
    line = plan.lines[header]
    if own != [index] or (
        other is not None
        and len(other.indent) == len(line.indent)
        and re.match(r"(?:elif|else)\b", plan.masked[other.first :])
    ):
        return Refusal("the statement does not stand alone under an `if`")
    width = len(plan.lines[index].indent) - len(line.indent)
    return (
        Edit(source.file, Span(line.start, line.end), ""),
        *_dedented(source, plan, _Run(header + 1, last, True), width),
    )


def sum_then_backward(
    source: Source, backwards: Sequence[Span], *, keep_retain_graph: bool = False
) -> tuple[Edit, ...] | Refusal:
    """`l1.backward(retain_graph=True)` and `l2.backward()` become one `(l1 + l2).backward()` at the last.

    Also `scaler.scale(l).backward()` and `accelerator.backward(l)`. A loss whose name is bound again
    before the last call is kept under a new name. A single call in a loop becomes one behind the loop:
    `sum(losses).backward()`, or of a total that the loop adds up.
    """
    if len(backwards) == 1:
        return _sum_over_loop(source, backwards[0])
    ordered = sorted(backwards, key=lambda span: span.start)
    plan = layout(source.text)
    first, last = plan.index(ordered[0].start), plan.index(ordered[-1].start)
    start = plan.lines[first].start
    masked = plan.masked[start : plan.lines[last].end]
    piece = parse(source, start, start + len(masked), before="if 1:\n" if plan.lines[first].indent else "")
    if isinstance(piece, Refusal):
        return Refusal("the backward calls stand in different blocks")
    calls: list[_Backward] = []
    for where in ordered:
        call = _backward_at(piece, where)
        if isinstance(call, Refusal):
            return call
        calls.append(call)
    block = piece.parent(piece.parent(calls[0].statement) or piece.module)
    for call in calls:
        line = piece.parent(call.statement)
        if line is None or piece.parent(line) is not block:
            return Refusal("the backward calls stand in different blocks")
    if len({(call.opening, call.closing) for call in calls}) > 1:
        return Refusal("the backward calls are made in different ways")
    own = {call.statement for call in calls}
    refusal = _between(piece, calls, own)
    if refusal is not None:
        return refusal
    edits: list[Edit] = []
    terms: list[str] = []
    for i, call in enumerate(calls[:-1]):
        names = {name.value for name in piece.nodes(cst.Name, call.loss)}
        statement = piece.span(call.statement)
        if names & _bound(piece, statement.end, piece.span(calls[-1].statement).start):
            kept = _fresh_name(plan.masked, piece.text(call.loss), i + 1)
            edits.append(Edit(source.file, statement, f"{kept} = {piece.text(call.loss)}"))
            terms.append(kept)
        else:
            edits += remove_statement(source, statement)
            terms.append(_term(piece, call.loss))
    terms.append(_term(piece, calls[-1].loss))
    final = calls[-1]
    joined = " + ".join(terms)
    loss = piece.whole(final.loss)
    if final.opening.endswith("("):
        edits.append(Edit(source.file, loss, joined))
    else:
        edits.append(Edit(source.file, loss, f"({joined})"))
    if not keep_retain_graph:
        edits += _without_retain_graph(piece, final)
    return _checked(source, merged(edits), start, plan.lines[last].end)


def _sum_over_loop(source: Source, backward: Span) -> tuple[Edit, ...] | Refusal:
    """A backward in each round of a loop becomes one behind it."""
    plan, text = layout(source.text), source.text
    index = plan.index(backward.start)
    indent = plan.lines[index].indent
    width = len(indent.expandtabs())
    header = index
    while header >= 0 and (plan.lines[header].blank or len(plan.lines[header].indent.expandtabs()) >= width):
        header -= 1
    if header < 0 or not re.match(r"(?:for|while)\b", plan.masked[plan.lines[header].first :]):
        return Refusal("there is only one backward call, and it stands in no loop")
    last = plan.end_of_block(header)
    line = plan.lines[header]
    start, end = line.start, plan.lines[last - 1].end
    piece = parse(source, start, end, before="if 1:\n" if line.indent else "")
    if isinstance(piece, Refusal):
        return piece
    call = _backward_at(piece, backward)
    if isinstance(call, Refusal):
        return call
    statement = piece.span(call.statement)
    for pattern, reason in _BREAKS:
        if pattern.search(plan.masked, line.first, statement.start) or pattern.search(
            plan.masked, statement.end, end
        ):
            return Refusal(f"in the loop: {reason}")
    loop = next(piece.nodes(cst.For), None)
    closing = f".backward(){newline(text)}" if call.closing != ")" else f"){newline(text)}"
    body = [i for i in range(header + 1, last) if not plan.lines[i].blank]
    loss = piece.text(call.loss)
    if loop is not None and len(body) == 1 and piece.text(loop.target) == loss:
        terms = piece.text(loop.iter)
        bare = isinstance(loop.iter, cst.Tuple) and not loop.iter.lpar
        total = f"sum(({terms}))" if bare else f"sum({terms})"
        written = f"{call.opening}{total}{call.closing}" + ("()" if call.closing != ")" else "")
        inner = len(plan.lines[body[0]].indent) - len(line.indent)
        return merged(
            (Edit(source.file, Span(line.start, line.end), ""), Edit(source.file, statement, written)),
            _dedented(source, plan, _Run(header + 1, last, True), inner),
        )
    name = "total_loss"
    if re.search(rf"\b{name}\b", plan.masked):
        name = _fresh_name(plan.masked, name, 1)
    after = f"{line.indent}{call.opening}{name}"
    if call.closing != ")":
        after += call.closing.removesuffix(".backward")
    lead = "" if text[end - 1 : end] in {"\n", "\r"} else newline(text)
    edits = (
        Edit(source.file, Span(line.start, line.start), f"{line.indent}{name} = 0{newline(text)}"),
        Edit(source.file, statement, f"{name} = {name} + {_term(piece, call.loss)}"),
        Edit(source.file, Span(end, end), lead + after + closing),
    )
    return _checked(source, edits, start, end)


def insert_ignore(source: Source, where: Span, code: str) -> tuple[Edit, ...] | Refusal:
    """Adds `# gradsight: ignore[CODE]` to the line on which `where` begins, or the code to one there."""
    plan = layout(source.text)
    text = source.text
    end = where.start
    while end < len(text) and text[end] not in "\r\n":
        end += 1
    begin = max(text.rfind("\n", 0, where.start), text.rfind("\r", 0, where.start)) + 1
    tail = re.search(r"#[^\r\n]*$", text[begin:end])
    comment = None
    if tail is not None and not plan.masked[begin + tail.start() : end].strip():
        comment = re.search(r"gradsight:\s*ignore(?:\[([^\]]*)\])?", text[begin:end])
    if comment is not None:
        if comment.group(1) is None or code in re.split(r"[\s,]+", comment.group(1)):
            return Refusal("the line is ignored already")
        at = begin + comment.end() - 1
        return (Edit(source.file, Span(at, at), f", {code}"),)
    if '"' in plan.masked[end : end + 1] or plan.masked[begin:end].rstrip().endswith("\\"):
        return Refusal("no comment can stand on this line")
    quoted = plan.masked[max(end - 1, 0) : end] == '"' and text[max(end - 1, 0) : end] not in {'"', "'"}
    if quoted:
        return Refusal("no comment can stand on this line")
    start = begin + len(text[begin:end].rstrip())
    return (Edit(source.file, Span(start, end), f"  # gradsight: ignore[{code}]"),)


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring statements of a block that all move or all stay: logical lines [first, last)."""

    first: int
    last: int
    live: bool


_ASSIGNED = re.compile(r"^[ \t]*([A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)\s*(?:[-+*/@]=|=(?!=))", re.MULTILINE)


def _holds(outer: Span, inner: Span) -> bool:
    return outer.start < inner.end and inner.start < outer.end


def _runs(
    source: Source, plan: Layout, header: int, last: int, live: Sequence[Span], follow: bool
) -> list[_Run] | Refusal:
    lines = plan.lines
    body = [i for i in range(header + 1, last) if not lines[i].blank]
    if not body:
        return Refusal("the block is empty")
    indent = lines[body[0]].indent
    tops = [i for i in body if lines[i].indent == indent]
    continued = re.compile(r"(?:elif|else|except|finally)\b")
    tops = [i for i in tops if not continued.match(plan.masked, lines[i].first)]
    # A decorator and the definition below it are one statement.
    tops = [i for n, i in enumerate(tops) if n == 0 or plan.masked[lines[tops[n - 1]].first] != "@"]
    bounds: list[int] = []
    for n, top in enumerate(tops):
        begin = top
        floor = header + 1 if n == 0 else tops[n - 1] + 1
        while (
            begin > floor
            and lines[begin - 1].blank
            and "#" in source.text[lines[begin - 1].start : lines[begin - 1].end]
        ):
            begin -= 1
        bounds.append(header + 1 if n == 0 else begin)
    bounds.append(last)
    runs: list[_Run] = []
    bound: set[str] = set()
    for begin, end in itertools.pairwise(bounds):
        span = Span(lines[begin].start, lines[end - 1].end)
        moves = not live or any(_holds(part, span) for part in live)
        code = plan.masked[span.start : span.end]
        moves |= any(re.search(rf"(?<![\w.]){name}\b(?!\s*=[^=])", code) for name in bound)
        if moves and follow:
            bound |= {
                name for match in _ASSIGNED.finditer(code) for name in re.findall(r"\w+", match.group(1))
            }
        if runs and runs[-1].live == moves:
            runs[-1] = _Run(runs[-1].first, end, moves)
        else:
            runs.append(_Run(begin, end, moves))
    return runs


def _split(source: Source, plan: Layout, header: int, runs: list[_Run]) -> tuple[Edit, ...]:
    text, file = source.text, source.file
    line = plan.lines[header]
    inner = next(plan.lines[i].indent for i in range(header + 1, len(plan.lines)) if not plan.lines[i].blank)
    code = plan.masked[line.first : line.end].rstrip()
    opening = text[line.first : line.first + len(code)]
    edits: list[Edit] = []
    if runs[0].live:
        rest = text[line.first + len(code) : line.end]
        comment = rest.lstrip() if "#" in rest else ""
        start = line.first if comment else line.start
        edits.append(Edit(file, Span(start, line.end), comment))
    for n, run in enumerate(runs):
        begin = plan.lines[run.first]
        if run.live:
            edits += _dedented(source, plan, run, len(inner) - len(line.indent))
        elif n > 0:
            edits.append(Edit(file, Span(begin.start, begin.start), f"{line.indent}{opening}{newline(text)}"))
    return merged(edits)


def _dedented(source: Source, plan: Layout, run: _Run, width: int) -> list[Edit]:
    """The edits that take `width` characters of indentation from each physical line of a run."""
    text = source.text
    start, end = plan.lines[run.first].start, plan.lines[run.last - 1].end
    edits: list[Edit] = []
    for match in re.finditer(r"(?:^|(?<=\n)|(?<=\r)(?!\n))([ \t]+)(?=[^\s])", text[start:end]):
        at = start + match.start()
        if at > 0 and plan.masked[at] == '"':
            continue  # within a string
        edits.append(Edit(source.file, Span(at, at + min(width, len(match.group(1)))), ""))
    return edits


def _drop_items(source: Source, piece: Piece, statement: cst.With) -> tuple[Edit, ...]:
    """The header keeps its other items."""
    kept = [item for item in statement.items if not _NO_GRAD.search(piece.text(item.item))]
    texts = []
    for item in kept:
        start = piece.whole(item.item).start
        end = piece.span(item.asname).end if item.asname is not None else piece.whole(item.item).end
        texts.append(source.text[start:end])
    first = piece.whole(statement.items[0].item).start
    tail = statement.items[-1]
    end = piece.span(tail.asname).end if tail.asname is not None else piece.whole(tail.item).end
    return (Edit(source.file, Span(first, end), ", ".join(texts)),)


def _checked(source: Source, edits: tuple[Edit, ...], start: int, end: int) -> tuple[Edit, ...] | Refusal:
    """The edits, unless the lines that they touch do not parse afterwards."""
    moved = tuple(
        Edit(edit.file, Span(edit.where.start - start, edit.where.end - start), edit.text) for edit in edits
    )
    text = apply(source.text[start:end], moved)
    lines = text.lstrip("\r\n")
    if lines.strip() and not parses(lines):
        return Refusal("what comes out does not parse")
    return edits


@dataclass(frozen=True, slots=True)
class _Backward:
    """A backward statement: `opening` + loss + `closing` is how its call is written."""

    statement: cst.Expr
    call: cst.Call
    loss: cst.BaseExpression
    opening: str
    closing: str


def _backward_at(piece: Piece, where: Span) -> _Backward | Refusal:
    start, _ = trim(piece.source.text, where)
    for statement in piece.nodes(cst.Expr):
        span = piece.span(statement)
        if not span.start <= start < span.end:
            continue
        call = statement.value
        if not (isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute)):
            break
        given: list[cst.Arg] = []
        for argument in call.args:
            keyword = argument.keyword.value if argument.keyword is not None else ""
            if keyword == "retain_graph":
                continue
            if keyword or argument.star:
                return Refusal(f"backward is given `{keyword or argument.star}`")
            given.append(argument)
        receiver = call.func.value
        if len(given) == 1:  # accelerator.backward(loss)
            if not re.search(r"(?i)accelerator|fabric|self|trainer|engine|strategy", piece.text(receiver)):
                return Refusal("backward is given a gradient")
            return _Backward(statement, call, given[0].value, piece.text(call.func) + "(", ")")
        if given:
            return Refusal("backward is given more than retain_graph")
        if isinstance(receiver, cst.Call) and dotted(receiver.func).endswith(".scale"):
            if len(receiver.args) != 1:
                break
            opening = piece.text(receiver.func) + "("
            return _Backward(statement, call, receiver.args[0].value, opening, ").backward")
        return _Backward(statement, call, receiver, "", ".backward")
    return Refusal("a backward call is no statement of its own")


_BREAKS = (
    (re.compile(r"\.\s*step\s*\("), "an optimizer step stands between the backward calls"),
    (re.compile(r"\bzero_grad\s*\("), "`zero_grad` stands between the backward calls"),
    (re.compile(r"\bclip_grad\w*\s*\(|\bunscale_\s*\("), "gradients are clipped between the backward calls"),
    (re.compile(r"\.\s*grad\b"), "a gradient is read or written between the backward calls"),
    (re.compile(r"\bbackward\s*\("), "another backward call stands between"),
    (re.compile(r"\bdel\b"), "something is deleted between the backward calls"),
    (
        re.compile(r"\b(?:return|break|continue|raise|yield|await|exit)\b"),
        "the way may end between the calls",
    ),
    (re.compile(r"\.\s*[A-Za-z]\w*_\s*\(|\.\s*data\b"), "a tensor is changed in place between the calls"),
)


def _between(piece: Piece, calls: list[_Backward], own: set[cst.Expr]) -> Refusal | None:
    masked = layout(piece.source.text).masked
    start = piece.span(calls[0].statement).end
    for call in calls[1:]:
        stop = piece.span(call.statement).start
        for pattern, reason in _BREAKS:
            if pattern.search(masked, start, stop):
                return Refusal(reason)
        start = piece.span(call.statement).end
    return None


def _bound(piece: Piece, start: int, stop: int) -> set[str]:
    """The names that are bound or changed between two offsets."""
    bound: set[str] = set()
    targets = [
        *(node.target for node in piece.nodes(cst.AssignTarget)),
        *(node.target for node in piece.nodes(cst.AugAssign)),
        *(node.target for node in piece.nodes(cst.AnnAssign)),
    ]
    for target in targets:
        if start <= piece.span(target).start < stop:
            bound |= {name.value for name in piece.nodes(cst.Name, target)}
    for loop in piece.nodes(cst.For):
        if start <= piece.span(loop.target).start < stop:
            bound |= {name.value for name in piece.nodes(cst.Name, loop.target)}
    for item in piece.nodes(cst.NamedExpr):
        if start <= piece.span(item).start < stop and isinstance(item.target, cst.Name):
            bound.add(item.target.value)
    return bound


def _fresh_name(masked: str, loss: str, number: int) -> str:
    stem = re.sub(r"\W+", "_", loss).strip("_")
    if not re.fullmatch(r"[A-Za-z_]\w{0,20}", stem):
        stem = "loss"
    while re.search(rf"\b{stem}_{number}\b", masked):
        number += 1
    return f"{stem}_{number}"


def _term(piece: Piece, node: cst.BaseExpression) -> str:
    text = piece.text(node)
    tight = not isinstance(
        node, cst.IfExp | cst.Lambda | cst.BooleanOperation | cst.Comparison | cst.NamedExpr
    )
    if isinstance(node, cst.BinaryOperation):
        tight = isinstance(
            node.operator,
            cst.Add | cst.Subtract | cst.Multiply | cst.Divide | cst.MatrixMultiply | cst.Power | cst.Modulo,
        )
    if node.lpar or (tight and "\n" not in text):
        return text
    return f"({text})"


def _without_retain_graph(piece: Piece, call: _Backward) -> list[Edit]:
    arguments = call.call.args
    for i, argument in enumerate(arguments):
        if argument.keyword is None or argument.keyword.value != "retain_graph":
            continue
        if len(arguments) == 1:
            span = piece.span(argument)
            return [Edit(piece.source.file, Span(span.start, piece.whole(argument.value).end), "")]
        if i > 0:
            previous = piece.whole(arguments[i - 1].value).end
            return [Edit(piece.source.file, Span(previous, piece.whole(argument.value).end), "")]
        following = piece.span(arguments[1]).start
        return [Edit(piece.source.file, Span(piece.span(argument).start, following), "")]
    return []
