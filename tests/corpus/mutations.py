"""The mistakes that people make, each put into a good script at every place where it fits, one at a time.

A place fits by what the script did there when it ran (`sites.py`), not by names. Mutants are edits of
ranges of the text: nothing is formatted anew. A mutant quotes where a finding belongs; whether one is
wanted there torch decides (`verdicts.py`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from corpus.sites import Script, Site

# Around the place of the finding, while a mutant is put together.
OPEN, CLOSE = "\ue000", "\ue001"

Pieces = list[tuple[int, int, str]]  # replace from, to, by


@dataclass(frozen=True)
class Mutant:
    """A script with one mistake."""

    program: str  # file name
    rule: str
    style: str  # how the mistake is written: detach, data, item, ...
    text: str
    start: int  # of the place of the finding, in `text`
    end: int
    term: bool = False  # an additive term of the loss becomes a constant
    frozen: int = 0  # so many parameters belong to modules called here only: looks like freezing on purpose
    place: tuple[int, int] = (0, 0)  # what the mistake was made of, in the script
    at_raise: bool = False  # the finding belongs to the `backward` call that raises, wherever that is
    others: tuple[tuple[int, int], ...] = ()  # more places at which the finding may stand
    also: frozenset[str] = frozenset()  # codes that say the same
    good: str = ""  # the right program, where that is not the script but has been given a clip, a scaler
    edits: tuple[tuple[int, int, str], ...] = ()  # of the script's text: from, to, what is there now
    severity: str = ""  # the least that the policy says of it, where a rule speaks in several
    in_package: bool = False  # all of these are in the text of a public package

    @property
    def row(self) -> int:
        """1-based."""
        return self.text.count("\n", 0, self.start) + 1

    @property
    def quote(self) -> str:
        """The text at the place of the finding."""
        return self.text[self.start : self.end]


def mutants(script: Script) -> list[Mutant]:
    """All mutants of a script, without doubles.

    Cuts are put into a package's text alone: its driver is like all other drivers.
    """
    from corpus import (
        catalogue_mutations,
        custom_mutations,
        in_place_mutations,
        loss_mutations,
        mode_mutations,
        protocol_mutations,
        registration_mutations,
        term_mutations,
    )

    found: dict[str, Mutant] = {}
    rooms = (
        protocol_mutations,
        loss_mutations,
        catalogue_mutations,
        registration_mutations,
        mode_mutations,
        term_mutations,
        custom_mutations,
        in_place_mutations,
    )
    for mutator in (*MUTATORS, *(each for room in rooms for each in room.MUTATORS)):
        for each in mutator(script):
            in_driver = script.program.package and not each.in_package
            if each.text != script.text and not (mutator in CUTS and in_driver):
                found.setdefault(each.text, each)
    return list(found.values())


# The rules' mistakes.


def detach(script: Script) -> Iterator[Mutant]:
    """GS102: `.detach()` or `.data` on what is on the way."""
    for site in _on_the_way(script):
        inner = _bracketed(script, site)
        frozen = _frozen_call(script, site)
        yield _mutant(script, "GS102", "detach", site, f"{OPEN}{inner}.detach(){CLOSE}", frozen=frozen)
        if _role(script, site) in ("argument", "value") or "leaf" in site.flags:
            yield _mutant(script, "GS102", "data", site, f"{OPEN}{inner}.data{CLOSE}", frozen=frozen)


def numpy_detour(script: Script) -> Iterator[Mutant]:
    """GS101: a value or an operation goes through numpy."""
    for site in _on_the_way(script):
        inner = _bracketed(script, site)
        if _role(script, site) == "value" and "0d" not in site.flags:
            text = f"torch.from_numpy({OPEN}{inner}.detach(){CLOSE}.cpu().numpy())"
            frozen = _frozen_call(script, site)
            yield _mutant(script, "GS101", "round trip", site, text, frozen=frozen)
    for site in script.sites:
        if "gradient" not in site.flags or not isinstance(site.node, ast.Call):
            continue
        match = _numpy_operation(script, site.node)
        if match is None:
            continue
        name, operand, axis = match
        where = script.site(operand)
        if where is None or "gradient" not in where.flags:
            continue
        inner = _bracketed(script, where)
        wrap = "torch.tensor" if "0d" in site.flags else "torch.from_numpy"
        detour = f"{wrap}(np.{name}({OPEN}{inner}.detach(){CLOSE}.numpy(){axis}))"
        numpy = _import_numpy(script)
        frozen = _frozen_call(script, where)
        yield _mutant(script, "GS101", "operation", site, detour, frozen=frozen, extra=numpy)
        if not axis:
            bare = f"{OPEN}np.{name}({script.source(operand)}){CLOSE}"
            yield _mutant(script, "GS101", "bare operation", site, bare, extra=numpy)


def scalar(script: Script) -> Iterator[Mutant]:
    """GS103: a loss or a term becomes a Python number."""
    for site in _on_the_way(script):
        if "0d" in site.flags:
            inner = _bracketed(script, site)
            yield _mutant(script, "GS103", "item", site, f"{OPEN}{inner}.item(){CLOSE}")
            yield _mutant(script, "GS103", "float", site, f"{OPEN}float({script.source(site.node)}){CLOSE}")


def rewrap(script: Script) -> Iterator[Mutant]:
    """GS104: computed tensors go through `torch.tensor`."""
    for site in _on_the_way(script):
        source = script.source(site.node)
        role = _role(script, site)
        if "0d" in site.flags and role in ("value", "operand"):
            yield _mutant(script, "GS104", "tensor", site, f"{OPEN}torch.tensor({source}){CLOSE}")
        if "0d" in site.flags and role == "value" and isinstance(site.node, ast.BinOp):
            terms = _terms(site.node)
            if len(terms) > 1 and all(sign > 0 for sign, _ in terms):
                listed = ", ".join(script.source(term) for _, term in terms)
                yield _mutant(
                    script, "GS104", "sum of a list", site, f"{OPEN}torch.tensor([{listed}]){CLOSE}.sum()"
                )
        if isinstance(site.node, ast.Call) and isinstance(site.node.func, ast.Attribute):
            if site.node.func.attr == "stack" and len(site.node.args) == 1:
                listed = script.source(site.node.args[0])
                yield _mutant(script, "GS104", "stack", site, f"{OPEN}torch.tensor({listed}){CLOSE}")


def no_grad(script: Script) -> Iterator[Mutant]:
    """GS105: a statement under `torch.no_grad()`, or the decorator on a whole function."""
    gradient = {site.node: site for site in script.sites if site.flags & {"gradient", "holds gradient"}}
    lines = script.text.splitlines(keepends=True)
    for statement in ast.walk(script.tree):
        if isinstance(statement, (ast.Assign, ast.AugAssign, ast.Return)) or (
            isinstance(statement, ast.Expr) and _is_append(statement.value)
        ):
            inside = [gradient[node] for node in ast.walk(statement) if node in gradient]
            if not inside or any(isinstance(node, ast.ListComp) for node in ast.walk(statement)):
                continue
            first = statement.lineno - 1
            indent = lines[first][: statement.col_offset]
            if indent.strip():
                continue  # behind a colon or a semicolon
            start, end = script.offset(first + 1, 0), script.span(statement)[1]
            body = "".join(
                "    " + line if line.strip() else line
                for line in script.text[start:end].splitlines(keepends=True)
            )
            block = f"{indent}with torch.no_grad():\n{OPEN}{body}{CLOSE}"
            value = script.site(statement.value)  # type: ignore[arg-type]
            yield compose(
                script,
                "GS105",
                "block",
                [(start, end, block)],
                term="term" in value.flags if value else any("term" in each.flags for each in inside),
                frozen=_frozen_block(script, inside),
            )
        elif isinstance(statement, ast.FunctionDef):
            returned = [
                script.site(node.value)
                for node in ast.walk(statement)
                if isinstance(node, ast.Return) and node.value is not None
            ]
            if any(site is not None and site.node in gradient for site in returned):
                head = min([statement.lineno, *(each.lineno for each in statement.decorator_list)])
                line = script.offset(head, 0)
                indent = " " * statement.col_offset
                begin, end = script.span(statement.body[0])[0], script.span(statement)[1]
                pieces = [
                    (line, line, f"{indent}@torch.no_grad()\n"),
                    (begin, begin, OPEN),
                    (end, end, CLOSE),
                ]
                term = any(site is not None and "term" in site.flags for site in returned)
                yield compose(script, "GS105", "decorator", pieces, term=term)


def not_differentiable(script: Script) -> Iterator[Mutant]:
    """GS107: rounding, thresholds, integers and argmax on predictions and activations."""
    criteria = {
        id(site.node.args[0])
        for site in script.sites
        if _is_criterion(site) and isinstance(site.node, ast.Call)
    }
    for site in _on_the_way(script):
        role, inner, source = _role(script, site), _bracketed(script, site), script.source(site.node)
        if "0d" in site.flags or role not in ("value", "argument") or "leaf" in site.flags:
            continue
        if role == "value":
            yield _mutant(script, "GS107", "round", site, f"{OPEN}torch.round({source}){CLOSE}")
        else:
            yield _mutant(script, "GS107", "round", site, f"{OPEN}{inner}.round(){CLOSE}")
            yield _mutant(script, "GS107", "threshold", site, f"({OPEN}{inner} > 0.5{CLOSE}).float()")
            yield _mutant(script, "GS107", "long", site, f"{OPEN}{inner}.long(){CLOSE}.float()")
        if id(site.node) in criteria:
            yield _mutant(script, "GS107", "argmax", site, f"{OPEN}{inner}.argmax(dim=1){CLOSE}.float()")


def second_backward(script: Script) -> Iterator[Mutant]:
    """GS201: backward twice, or once for each term."""
    for call, statement in backwards(script):
        start, end = script.span(statement)
        indent = "\n" + " " * statement.col_offset
        source = script.source(call)
        again = [(end, end, f"{indent}{OPEN}{source}{CLOSE}")]
        yield compose(script, "GS201", "twice", again, at_raise=True)
        assert isinstance(call.func, ast.Attribute)
        for assigned in last_assignments(script, call.func.value, statement):
            terms = _terms(assigned.value)
            live = [
                term
                for _, term in terms
                if (site := script.site(term)) is not None and "gradient" in site.flags
            ]
            if (
                len(live) < 2
                or len(live) < len(terms)
                or any("0d" not in _flags(script, term) for term in live)
            ):
                continue
            calls = [f"{_signed(script, sign, term)}.backward()" for sign, term in terms]
            calls[1] = f"{OPEN}{calls[1]}{CLOSE}"
            yield compose(script, "GS201", "split", [(start, end, indent.join(calls))], at_raise=True)


def not_scalar(script: Script) -> Iterator[Mutant]:
    """GS202: the reduction is gone."""
    for site in script.sites:
        call = site.node
        if not isinstance(call, ast.Call):
            continue
        start, end = site.start, site.end
        if site.flags & {"loss module", "reduces"}:
            keyword = next((each for each in call.keywords if each.arg == "reduction"), None)
            if keyword is not None:
                pieces = [(*script.span(keyword.value), '"none"')]
            else:
                comma = ", " if call.args or call.keywords else ""
                pieces = [(end - 1, end - 1, f'{comma}reduction="none"')]
            yield compose(script, "GS202", "reduction", [*pieces, (0, 0, OPEN + CLOSE)], at_raise=True)
        elif {"gradient", "0d"} <= site.flags and isinstance(call.func, ast.Attribute):
            if call.func.attr in ("mean", "sum"):
                whole = (
                    call.args[0]
                    if isinstance(call.func.value, ast.Name) and call.func.value.id == "torch"
                    else None
                )
                kept = script.source(whole if whole is not None else call.func.value)
                if whole is not None:
                    kept = f"({kept})" if isinstance(whole, ast.BinOp) else kept
                else:
                    kept = script.text[
                        start : script.text.rindex(".", start, script.span(call.func)[1])
                    ].rstrip()
                yield compose(
                    script, "GS202", call.func.attr, [(start, end, kept), (0, 0, OPEN + CLOSE)], at_raise=True
                )


def one_hot(script: Script) -> Iterator[Mutant]:
    """GS301: one-hot targets where class indices belong."""
    for site in script.sites:
        if _is_criterion(site) and "indices" in site.flags and isinstance(site.node, ast.Call):
            target = site.node.args[1]
            text = f"{OPEN}{_functional(script)}.one_hot({script.source(target)}){CLOSE}"
            yield compose(script, "GS301", "one_hot", [(*script.span(target), text)])


def softmax(script: Script) -> Iterator[Mutant]:
    """GS302: softmax before a cross entropy: at the call, in a return, as the last of a Sequential."""
    criteria = [
        site for site in script.sites if "cross entropy" in site.flags and isinstance(site.node, ast.Call)
    ]
    for criterion in criteria:
        assert isinstance(criterion.node, ast.Call)
        logits = criterion.node.args[0]
        start, end = script.span(logits)
        dim = _class_dim(script, logits)
        text = f"{OPEN}{_functional(script)}.softmax({script.source(logits)}, dim={dim}){CLOSE}"
        yield compose(script, "GS302", "at the call", [(start, end, text)])
        for site in script.sites:
            if site.number not in criterion.arrived:
                continue
            source = script.source(site.node)
            if _role(script, site) == "value" and isinstance(_statement(script, site.node), ast.Return):
                new = f"{_functional(script)}.softmax({source}, dim={_class_dim(script, site.node)})"
                pieces = [(site.start, site.end, new), (start, start, OPEN), (end, end, CLOSE)]
                yield compose(script, "GS302", "returned", pieces)
            if isinstance(site.node, ast.Call) and script.source(site.node.func).endswith("Sequential"):
                prefix = script.source(site.node.func).removesuffix("Sequential")
                last = script.span(site.node.args[-1])[1]
                pieces = [(last, last, f", {prefix}Softmax(dim=-1)"), (start, start, OPEN), (end, end, CLOSE)]
                yield compose(script, "GS302", "layer", pieces)


def no_log(script: Script) -> Iterator[Mutant]:
    """GS303: the log-softmax before a negative log likelihood is dropped, or is a softmax."""
    for criterion in script.sites:
        if "nll" not in criterion.flags or not isinstance(criterion.node, ast.Call):
            continue
        start, end = script.span(criterion.node.args[0])
        for site in script.sites:
            if site.number in criterion.arrived and isinstance(site.node, ast.Call):
                name = script.source(site.node.func)
                if name.endswith("log_softmax") and site.node.args:
                    marks = [(start, start, OPEN), (end, end, CLOSE)]
                    func = script.span(site.node.func)
                    renamed = name.removesuffix("log_softmax") + "softmax"
                    yield compose(script, "GS303", "softmax", [(*func, renamed), *marks])
                    dropped = (site.start, site.end, script.source(site.node.args[0]))
                    yield compose(script, "GS303", "dropped", [dropped, *marks])


def plain_weight(script: Script) -> Iterator[Mutant]:
    """GS401: a parameter is a plain tensor: one of random numbers, or one that says `requires_grad=True`.

    One of zeros or ones is a buffer to everybody who reads it, and nobody can speak of it.
    """
    for site in script.sites:
        if (
            isinstance(site.node, ast.Call)
            and "gradient" in site.flags
            and _makes_parameter(script, site.node)
        ):
            if len(site.node.args) != 1 or site.node.keywords:
                continue
            value = site.node.args[0]
            source = script.source(value)
            if "rand" in source or "normal" in source:
                yield _mutant(script, "GS401", "plain", site, f"{OPEN}{source}{CLOSE}")
            if isinstance(value, ast.Call) and not any(
                each.arg == "requires_grad" for each in value.keywords
            ):
                if source.startswith("torch.") and source.count(")") == source.count("(") == 1:
                    leaf = f"{OPEN}{source[:-1]}, requires_grad=True){CLOSE}"
                    yield _mutant(script, "GS401", "leaf", site, leaf)


def laundered(script: Script) -> Iterator[Mutant]:
    """A cut, and then `requires_grad` by force, so that backward runs and nothing learns."""
    for call, statement in backwards(script):
        assert isinstance(call.func, ast.Attribute)
        if not isinstance(call.func.value, ast.Name):
            continue
        loss = call.func.value.id
        begin = script.span(statement)[0]
        indent = "\n" + " " * statement.col_offset
        rewrapped = f"{loss} = {OPEN}torch.autograd.Variable({loss}, requires_grad=True){CLOSE}{indent}"
        yield compose(script, "GS104", "laundered by Variable", [(begin, begin, rewrapped)])
        rewrapped = f"{loss} = {OPEN}torch.tensor({loss}, requires_grad=True){CLOSE}{indent}"
        yield compose(script, "GS104", "laundered by tensor", [(begin, begin, rewrapped)])
        rewrapped = f"{loss} = torch.tensor({OPEN}{loss}.item(){CLOSE}, requires_grad=True){indent}"
        yield compose(script, "GS103", "laundered item", [(begin, begin, rewrapped)])
        for assigned in last_assignments(script, call.func.value, statement):
            if not isinstance(assigned.value, ast.Call):
                continue
            value = script.span(assigned.value)
            source = script.source(assigned.value)
            for number, argument in enumerate(assigned.value.args):
                site = script.site(argument)
                if site is None or "gradient" not in site.flags:
                    continue
                inner = _bracketed(script, site)
                cut = (site.start, site.end, f"{OPEN}{inner}.{'data' if number else 'detach()'}{CLOSE}")
                forced = (begin, begin, f"{loss}.requires_grad_(True){indent}")
                yield compose(script, "GS102", "laundered detach", [cut, forced])
            forced = (begin, begin, f"{loss}.requires_grad = True{indent}")
            yield compose(
                script, "GS102", "laundered loss", [(*value, f"{OPEN}{source}.detach(){CLOSE}"), forced]
            )


Mutator = Callable[[Script], Iterator[Mutant]]

CUTS: tuple[Mutator, ...] = (detach, numpy_detour, scalar, rewrap, no_grad, not_differentiable, laundered)

MUTATORS: tuple[Mutator, ...] = (
    *CUTS,
    second_backward,
    not_scalar,
    one_hot,
    softmax,
    no_log,
    plain_weight,
)

# Where things stand.


def _on_the_way(script: Script) -> Iterator[Site]:
    """Expressions behind which a person would put `.detach()`, and whose value required gradient."""
    for site in script.sites:
        if "gradient" in site.flags and _role(script, site) and not _makes_parameter(script, site.node):
            yield site


def _makes_parameter(script: Script, node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and script.source(node.func).endswith("Parameter")


def _role(script: Script, site: Site) -> str:
    """value (of an assignment or return, or in what is returned), argument, operand, receiver, element."""
    node = site.node
    parent = script.parents[node]
    if isinstance(parent, (ast.Assign, ast.AugAssign, ast.Return)):
        return "value"
    if isinstance(parent, (ast.Tuple, ast.Dict)) and isinstance(script.parents[parent], ast.Return):
        return "value"
    if isinstance(parent, ast.keyword):
        return "argument"
    if isinstance(parent, ast.Call) and node in parent.args:
        return "argument" if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) else ""
    if isinstance(parent, (ast.BinOp, ast.UnaryOp)):
        return "operand"
    if isinstance(parent, (ast.List, ast.Tuple)):
        return "element"
    if isinstance(parent, ast.Attribute) and isinstance(node, (ast.Name, ast.Attribute)):
        outer = script.parents[parent]
        if (
            isinstance(outer, ast.Call)
            and outer.func is parent
            and parent.attr not in _NOBODY_WRITES_IT_BEFORE
        ):
            return "receiver"
    return ""


_NOBODY_WRITES_IT_BEFORE = {"backward", "item", "detach", "size", "dim", "numel", "requires_grad_"}


def _bracketed(script: Script, site: Site) -> str:
    """The text of an expression as the receiver of a method."""
    source = script.source(site.node)
    return f"({source})" if isinstance(site.node, (ast.BinOp, ast.UnaryOp)) else source


def _flags(script: Script, node: ast.expr) -> frozenset[str]:
    site = script.site(node)
    return site.flags if site else frozenset()


def _statement(script: Script, node: ast.AST) -> ast.AST:
    while not isinstance(node, ast.stmt):
        node = script.parents[node]
    return node


def _terms(node: ast.expr, sign: int = 1) -> list[tuple[int, ast.expr]]:
    """The operands of a sum, with their signs."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        return _terms(node.left, sign) + _terms(node.right, sign if isinstance(node.op, ast.Add) else -sign)
    return [(sign, node)]


def _signed(script: Script, sign: int, term: ast.expr) -> str:
    source = ("-" if sign < 0 else "") + script.source(term)
    return f"({source})" if sign < 0 or isinstance(term, (ast.BinOp, ast.UnaryOp)) else source


def _is_criterion(site: Site) -> bool:
    return bool(site.flags & {"cross entropy", "nll"})


def _is_append(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "append"
    )


def _frozen_call(script: Script, site: Site) -> int:
    """How many tensors learn in the module that is called here and nowhere else."""
    if "module" not in site.flags or "shared" in site.flags:
        return 0
    return sum(int(flag.split()[0]) for flag in site.flags if flag.endswith(" parameters"))


def _frozen_block(script: Script, inside: list[Site]) -> int:
    """The same of the modules called in a statement."""
    return sum(_frozen_call(script, site) for site in inside if isinstance(site.node, ast.Call))


def backwards(script: Script) -> Iterator[tuple[ast.Call, ast.Expr]]:
    for node in ast.walk(script.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            func = node.value.func
            if isinstance(func, ast.Attribute) and func.attr == "backward":
                yield node.value, node


def last_assignments(script: Script, name: ast.expr, before: ast.stmt) -> Iterator[ast.Assign]:
    """The last assignment to a plain name that stands in the same block before a statement, if any."""
    parent = script.parents[before]
    for block in ("body", "orelse"):
        statements = getattr(parent, block, [])
        if isinstance(name, ast.Name) and isinstance(statements, list) and before in statements:
            for statement in reversed(statements[: statements.index(before)]):
                if isinstance(statement, ast.AugAssign) and script.source(statement.target) == name.id:
                    return
                if isinstance(statement, ast.Assign) and script.source(statement.targets[0]) == name.id:
                    yield statement
                    return


_NUMPY = ("exp", "log", "sqrt", "abs", "tanh", "square", "sum", "mean", "squeeze", "std")


def _numpy_operation(script: Script, call: ast.Call) -> tuple[str, ast.expr, str] | None:
    """The function of numpy, the operand and further arguments that stand for a call of torch."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in _NUMPY:
        return None
    if isinstance(call.func.value, ast.Name) and call.func.value.id in ("torch", "F"):
        if len(call.args) != 1 or call.keywords:
            return None
        return call.func.attr, call.args[0], ""
    if call.keywords and [each.arg for each in call.keywords] != ["dim"]:
        return None
    arguments = [script.source(each) for each in call.args] + [
        script.source(each.value) for each in call.keywords
    ]
    if len(arguments) > 1:
        return None
    return call.func.attr, call.func.value, f", axis={arguments[0]}" if arguments else ""


def _import_numpy(script: Script) -> Pieces:
    if any(
        isinstance(node, ast.Import) and any(each.asname == "np" for each in node.names)
        for node in script.tree.body
    ):
        return []
    first = next(
        node
        for node in script.tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and getattr(node, "module", "") != "__future__"
    )
    start = script.span(first)[0]
    return [(start, start, "import numpy as np\n")]


def _functional(script: Script) -> str:
    """How the script calls torch.nn.functional."""
    for node in script.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for each in node.names:
                if each.asname == "F":
                    return "F"
    return "torch.nn.functional"


def _class_dim(script: Script, node: ast.expr) -> int:
    return 1 if _flags(script, node) & {"2d", "4d"} else -1


# How mutants are put together.


def _mutant(
    script: Script,
    rule: str,
    style: str,
    site: Site,
    text: str,
    *,
    frozen: int = 0,
    extra: Pieces | None = None,
) -> Mutant:
    term = "term" in site.flags
    parent = script.site(script.parents[site.node])
    if "leaf" in site.flags and parent is not None and "term" in parent.flags:
        fed = [
            each
            for each in ast.walk(parent.node)
            if each is not parent.node and "gradient" in _flags(script, each)
        ]  # type: ignore[arg-type]
        term = term or len(fed) == 1
    pieces = [(site.start, site.end, text), *(extra or [])]
    return compose(script, rule, style, pieces, term=term, frozen=frozen, place=(site.start, site.end))


def compose(
    script: Script,
    rule: str,
    style: str,
    pieces: Pieces,
    *,
    term: bool = False,
    frozen: int = 0,
    at_raise: bool = False,
    place: tuple[int, int] = (0, 0),
    also: tuple[str, ...] = (),
    good: Pieces | None = None,
    severity: str = "",
) -> Mutant:
    """The mutant in which `pieces` are replaced. The first place in them that is marked is the finding's."""
    marked = edited(script.text, pieces)
    parts = re.split(f"([{OPEN}{CLOSE}])", marked)
    text, places = "", []
    opened: list[int] = []
    for part in parts:
        if part == OPEN:
            opened.append(len(text))
        elif part == CLOSE:
            places.append((opened.pop(), len(text)))
        else:
            text += part
    places.sort()
    driver = script.program.driver
    return Mutant(
        script.program.name,
        rule,
        style,
        text,
        *places[0],
        term,
        frozen,
        place,
        at_raise,
        tuple(places[1:]),
        frozenset(also),
        edited(script.text, good) if good is not None else "",
        tuple((start, end, re.sub(f"[{OPEN}{CLOSE}]", "", new)) for start, end, new in pieces),
        severity,
        bool(driver) and all(end <= driver for start, end, new in pieces if new not in (OPEN, CLOSE)),
    )


def edited(text: str, pieces: Pieces) -> str:
    """A text with ranges of it replaced; of two insertions at one offset the first comes first."""
    out, position = [], 0
    for start, end, new in sorted(pieces, key=lambda piece: piece[:2]):
        assert start >= position, f"edits overlap at {start}"
        out += (text[position:start], new)
        position = end
    return "".join((*out, text[position:]))
