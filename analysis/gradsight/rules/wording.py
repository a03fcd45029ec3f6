"""What the rules on lost gradients say, in one voice: the sink, what it costs, and the place that costs it.

Messages use the user's own names and say what happens at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gradsight.domain import DEPENDING, Edge
from gradsight.finding import Applicability, Finding
from gradsight.graph import Place
from gradsight.interpret.state import Event
from gradsight.queries import Lost, Queries
from gradsight.rule import Report, Rule

E0 = "element 0 of tensors does not require grad"


def reports(
    rule: Rule, queries: Queries, unless: Callable[[Lost], bool] = lambda lost: False
) -> Iterator[Report]:
    """One report for each lost way that carries the rule's code."""
    for lost in queries.lost(rule.code):
        if unless(lost):
            continue
        yield rule.report(
            lost.severity,
            message(queries, lost),
            lost.where,
            path(queries, lost),
            places(queries, lost),
            (
                ("kind", lost.kind),
                ("cause", queries.graph[lost.cause].cause),
                ("parallel", "yes" if lost.parallel else ""),
                ("chain", " ".join(queries.graph[n].cause for n in lost.chain)),
                ("collected", "yes" if collected(queries, lost) else ""),
                ("shared", "yes" if shared(queries, lost) else ""),
            ),
        )


def message(queries: Queries, lost: Lost) -> str:
    """One sentence on what happens and why."""
    what = phrase(queries, lost)
    sink = queries.sink_text(lost.sink)
    names = queries.names(lost.sources)
    several = " and " in names
    if lost.kind == "dead":
        returned = lost.sink is not None and lost.sink.kind == "return"
        if lost.sink is not None and lost.sink.fact("kind") in ("number", "array"):
            return f"{sink} is no tensor any more: {what}; it has no `backward`"
        if returned and queries.program.lone:
            return f"this loss gives {names} no gradient: {what}"
        if lost.severity.rank > 0:
            hidden = [queries.text(number) for number in laundering(queries, lost)]
            if hidden:
                what = f"{what}; `{hidden[-1]}` only keeps `backward` from raising"
            return f"nothing learns from {sink}: {what}"
        if queries.graph[lost.cause].cause == "backward":
            return f"nothing behind {sink} gets a gradient: {what}; nothing is raised"
        if vanishes(queries, lost):
            return f"every gradient behind {sink} is exactly 0: {what}; nothing is raised, and nothing learns"
        if queries.graph[lost.cause].cause in ("argmax", "integer", "comparison"):
            return f"{sink} has no gradient to give: {what}; the program raises, in `backward` or before"
        return f'{sink} has no gradient to give: {what}; `backward` raises "{E0}"'
    learn = "learn" if several else "learns"
    if lost.kind == "term":
        return f"this term of {sink} is only a constant: {what}, so {names} {learn} nothing from it"
    if lost.kind == "part":
        part = receiver(queries, lost)
        rest = f"while the rest of {names} is still in the graph"
        return f"{sink} gives no gradient through `{part}`: {what}, {rest}"
    if lost.kind == "frozen":
        get, it, means = ("get", "them", "they are") if several else ("gets", "it", "it is")
        return (
            f"{names} {get} no gradient from {sink} although the optimizer holds {it}: {what}; "
            f"fine if {means} meant to stay frozen"
        )
    if queries.program.lone == "forward":
        return f"{names} never {learn}: {what}, so no loss can reach {'them' if several else 'it'}"
    return f"{names} never {learn}: {what}, so no gradient from {sink} reaches {'them' if several else 'it'}"


def collected(queries: Queries, lost: Lost) -> bool:
    """Whether the way leads through what is wrapped inside a loop: a list there may hold older values."""
    return any(queries.graph[n].cause == "rewrap" and queries.graph[n].loops for n in lost.chain)


def shared(queries: Queries, lost: Lost) -> bool:
    """Whether two backward passes depend on what is cut: once mended, each would free what lies before it."""
    passes = [sink for sink in queries.all("backward") if not sink.fact("retain")]
    tops = [top for sink in passes for top in queries.roots(sink)]
    return len(passes) > 1 and sum(lost.cause in queries.graph.feeding(top, DEPENDING) for top in tops) > 1


def vanishes(queries: Queries, lost: Lost) -> bool:
    """Whether the graph stays whole and every gradient in it is zero."""
    nodes = [queries.graph[n] for n in (lost.cause, *lost.chain)]
    return all(Edge.CUT not in node.edges for node in nodes)


def switch(queries: Queries, number: int) -> str:
    """What switched gradients off for a node, in the user's words."""
    block = queries.block(number)
    text = queries.text_of(block) if block is not None else ""
    return next(
        (name for name in ("inference_mode", "set_grad_enabled", "no_grad") if name in text), "no_grad"
    )


def phrase(queries: Queries, lost: Lost) -> str:
    """Why the graph ends there, in the words of the operation that ends it."""
    return ending(queries, lost.cause, lost.chain)


def ending(queries: Queries, number: int, chain: tuple[int, ...] = ()) -> str:
    """Why the graph ends at a node; `chain` are the cuts that follow."""
    graph = queries.graph
    node = graph[number]
    text = queries.text(number)
    causes = [node.cause, *(graph[n].cause for n in chain)]
    if node.cause == "no_grad" and queries.is_switch(number):
        block = queries.block(number)
        words = queries.text_of(block) if block is not None else "set_grad_enabled(False)"
        return f"`{text}` is computed behind `{words}`, which leaves gradients switched off"
    if node.cause == "no_grad":
        return f"`{text}` is computed where gradients are switched off (`{switch(queries, number)}`)"
    if "numpy" in causes:
        return f"`{text}` takes it out of torch, and numpy records no graph"
    if node.cause == "number":
        return f"`{text}` is a plain Python number"
    if queries.launders(number):
        leaf = node.kind == "source" or any(graph[i].op == "laundered" for i in node.inputs)
        ends = "the gradient ends there" if leaf else "the graph ends there"
        return f"`{text}` makes a new {'leaf' if leaf else 'tensor'} of its numbers, and {ends}"
    if node.cause == "rewrap":
        return f"`{text}` copies the numbers and leaves the graph behind"
    if node.cause == "argmax":
        return f"`{text}` gives indices, which have no derivative"
    if node.cause == "comparison":
        return f"`{text}` gives true or false, which has no derivative"
    if node.cause == "integer":
        return f"`{text}` gives integers, which have no gradient"
    if node.cause in ("round", "random"):
        return f"the derivative of `{text}` is 0 everywhere"
    if node.cause == "draw":
        return f"`{text}` draws without a graph (`rsample` keeps it)"
    if node.cause == "backward":
        return f"`{text}` is all that `backward` gives for it"
    if node.cause == "grad":
        called = text.partition("(")[0]
        return f"`{called}(…)` gives gradients without a graph of their own (`create_graph=True` makes one)"
    if node.cause == "data":
        return f"`{text}` leaves the graph behind"
    return f"`{text}` is detached"


def receiver(queries: Queries, lost: Lost) -> str:
    """What the cut was called on."""
    text = queries.text(lost.cause)
    return text.removesuffix(".detach()").removesuffix(".data")


def path(queries: Queries, lost: Lost) -> tuple[tuple[str, Place], ...]:
    """The way from what should learn to the sink: source, cut, what follows on it, sink."""
    graph = queries.graph
    steps: list[tuple[str, Place]] = []
    source = lost.sources[0]
    made = graph[source].place
    if made is not None:
        verb = {"parameter": "should learn", "leaf": "requires a gradient", "argument": "comes in here"}.get(
            graph[source].op, "comes from here"
        )
        steps.append((f"{queries.names(lost.sources)} {verb}", made))
    block = queries.block(lost.cause) if graph[lost.cause].cause == "no_grad" else None
    if block is not None:
        steps.append(("gradients are switched off here", block))
    end_of = "the gradient ends" if vanishes(queries, lost) else "the graph ends"
    # A switch is where a finding stands, and no operation.
    at = graph[lost.cause].place if lost.code == "GS109" else None
    steps.append((f"{end_of}: {phrase(queries, lost)}", at or lost.where))
    for number in lost.chain[:3]:
        place = graph[number].place
        if place is not None and queries.text(number) != queries.text(lost.cause):
            again = graph[number].op.startswith("torch.") and not graph[number].op.startswith("torch.Tensor.")
            words = {
                "numpy": "it becomes a tensor again, without its history" if again else "it leaves torch",
                "number": "it becomes a Python number",
                "rewrap": "it is wrapped again, without its history",
            }
            if graph[number].cause in words:
                steps.append((words[graph[number].cause], place))
    for number in laundering(queries, lost):
        leaf = graph[number].place
        if leaf is not None:
            steps.append(("a new leaf hides it: `backward` runs, and the gradient ends here", leaf))
    return (*steps, *end(queries, lost.sink))


def laundering(queries: Queries, lost: Lost) -> list[int]:
    """The new leaves behind a cut, through which the sink runs all the same."""
    tops = queries.roots(lost.sink) if lost.sink is not None else ()
    if lost.sink is None or queries.launders(lost.cause):
        return []
    return sorted(s for top in tops for s in queries.laundered(top, lost.sink) if s > lost.cause)


def end(queries: Queries, sink: Event | None) -> tuple[tuple[str, Place], ...]:
    """The last step of a way."""
    place = (sink.place("call") or sink.place("root")) if sink is not None else None
    if sink is None or place is None:
        return ()
    if sink.kind != "return":
        return ((f"here the gradient of {queries.sink_text(sink)} is asked for", place),)
    words = "here it is returned" if queries.program.lone == "forward" else "here it is returned as the loss"
    return ((words, sink.place("root") or place),)


def places(queries: Queries, lost: Lost) -> tuple[tuple[str, Place], ...]:
    """Where the fix looks: each lossy operation by its cause, and the sink."""
    out: list[tuple[str, Place]] = []
    block = queries.block(lost.cause) if queries.graph[lost.cause].cause == "no_grad" else None
    if block is not None:
        out.append(("block", block))
    for number in (lost.cause, *lost.chain):
        node = queries.graph[number]
        if node.place is not None:
            place = queries.call_off(node.place) or node.place if node.cause == "no_grad" else node.place
            same = node.cause != "no_grad" or node.block == queries.graph[lost.cause].block
            out.append((node.cause if same else "other block", place))
    if lost.sink is not None:
        for name in ("root", "call"):
            end = lost.sink.place(name)
            if end is not None:
                out.append((f"sink.{name}", end))
    return tuple(out)


def applicability(finding: Finding) -> Applicability:
    """How freely the fix of a lost way may be applied.

    Safe where the way is dead and nothing else can be meant: a cut beside another one, a part that may be
    frozen on purpose, and values that a list carries between turns are for people to decide.
    """
    careful = (
        finding.fact("kind") in ("part", "frozen")
        or finding.fact("parallel")
        or finding.fact("collected")
        or finding.fact("shared")
    )
    return Applicability.UNSAFE if careful else Applicability.SAFE


def by_mode(kinds: list[str], mode: str) -> str:
    """What layers of these kinds do in a mode where the other one was meant: `Dropout` drops nothing."""
    said: dict[str, None] = {}
    for kind in kinds:
        if "BatchNorm" in kind or "InstanceNorm" in kind:
            does = "no longer learns its statistics" if mode == "eval" else "normalizes by each batch alone"
        elif kind in BY_CHANCE:
            does = "drops nothing" if mode == "eval" else "still drops values at random"
        else:
            does = "does what is meant for " + ("evaluation" if mode == "eval" else "training")
        said[f"`{kind}` {does}"] = None
    words = list(said)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# Modules that drop values at random while they are trained.
BY_CHANCE = frozenset({
    "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", "LSTM", "GRU",
    "RNN", "MultiheadAttention", "Transformer", "TransformerEncoder", "TransformerDecoder",
    "TransformerEncoderLayer", "TransformerDecoderLayer",
})  # fmt: skip
