"""What the rules on loss inputs share: one call of a criterion, with what is known of both sides of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gradsight.domain import DEPENDING, Edge
from gradsight.graph import Place
from gradsight.interpret.dtypes import kind_of
from gradsight.interpret.shapes import read
from gradsight.interpret.state import Event
from gradsight.queries import KEEPING, Queries
from gradsight.values import MANY, NOWHERE

Sizes = tuple[int | None, ...]

RAW = ("linear", "bilinear", "conv1d", "conv2d", "conv3d", "addmm", "baddbmm")
CHOOSING = {
    "torch.Tensor.__getitem__",
    "torch.Tensor.select",
    "torch.cat",
    "torch.stack",
    "torch.nn.Identity",
}
DROPPING = frozenset({
    "torch.nn.Dropout", "torch.nn.Dropout1d", "torch.nn.Dropout2d", "torch.nn.functional.dropout",
    "torch.dropout",
})  # fmt: skip
CLAMPING = frozenset({"torch.clamp", "torch.Tensor.clamp", "torch.clip", "torch.Tensor.clip"})
TURNING = {
    "torch.Tensor.permute",
    "torch.Tensor.transpose",
    "torch.permute",
    "torch.transpose",
    "torch.movedim",
    "torch.Tensor.movedim",
    "torch.swapaxes",
    "torch.Tensor.swapaxes",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a criterion. `criterion`: its short name, of the class or of the function."""

    event: Event
    criterion: str
    input: Place | None
    target: Place | None
    shape: Sizes | None
    target_shape: Sizes | None
    exact: str
    target_exact: str
    made: Place | None  # where the criterion itself was made, None for a function

    @property
    def wants(self) -> str:
        return self.event.fact("wants")

    @property
    def target_wants(self) -> str:
        return self.event.fact("target_wants")

    @property
    def silent(self) -> bool:
        """Measured only: nothing learns from it."""
        return bool(self.event.fact("off"))


def calls(q: Queries) -> Iterator[Call]:
    """All calls of criteria, in program order."""
    for event in q.all("criterion"):
        made = event.nodes[2] if len(event.nodes) > 2 else NOWHERE
        yield Call(
            event,
            event.fact("criterion").rpartition(".")[2],
            event.place("input"),
            event.place("target"),
            read(event.fact("shape")),
            read(event.fact("target_shape")),
            event.fact("exact"),
            event.fact("target_exact"),
            q.graph[made].place if made >= 0 and q.graph[made].op == "made" else None,
        )


def making(q: Queries, number: int, passing: frozenset[str] = frozenset()) -> int:
    """The operation that made the numbers of a value, looked for through what only moves or chooses them, and
    through `passing`."""
    while number >= 0:
        node = q.graph[number]
        if node.op not in KEEPING and node.op not in CHOOSING and node.op not in ("module", *passing):
            return number
        if not node.inputs or node.edges[0] is not Edge.LIVE:
            return NOWHERE
        number = node.inputs[0]
    return NOWHERE


def squashing(q: Queries, number: int) -> int:
    """The sigmoid or softmax that made the numbers, else NOWHERE."""
    made = making(q, number, CLAMPING)
    last = q.graph[made].op.rpartition(".")[2].lower() if made >= 0 else ""
    return made if last in ("sigmoid", "softmax", "hardsigmoid", "softmax2d", "expit") else NOWHERE


def is_raw(q: Queries, number: int) -> bool:
    """Whether the numbers are what a linear or convolutional layer gives."""
    made = making(q, number, DROPPING)
    return made >= 0 and q.graph[made].op.rpartition(".")[2].lower() in RAW


def turned(q: Queries, number: int) -> bool:
    """Whether dimensions were exchanged between a value and the operation that made it."""
    while number >= 0:
        node = q.graph[number]
        if node.op in TURNING or node.op.endswith((".view", ".reshape", ".flatten", ".unflatten")):
            return True
        if node.op not in KEEPING and node.op not in CHOOSING and node.op != "module":
            return False
        if not node.inputs:
            return False
        number = node.inputs[0]
    return True


def learns(q: Queries, number: int) -> bool:
    """Whether a value surely requires a gradient."""
    return number != NOWHERE and q.requires_gradient(number)


def is_data(q: Queries, number: int, edges: tuple[Edge, ...] = DEPENDING) -> bool:
    """Whether a value was computed from nothing but data: no model and no parameter had a part in it; with
    the live ones alone, none that could learn through it.
    """
    if number == NOWHERE:
        return True
    for n in q.feeding(number, edges):
        node = q.graph[n]
        if node.kind == "input":
            return False
        if node.kind == "source" and node.op != "made" and not any(q.is_data(n, sink) for sink in q.sinks):
            return False
    return True


def same_criterion(one: Call, other: Call) -> bool:
    """Whether two calls are of one criterion: of one object, or at one place of a function."""
    if one.made is None or other.made is None:
        return one.made is other.made and one.event.place("call") is other.event.place("call")
    return one.event.nodes[2] == other.event.nodes[2]


def swapped(q: Queries, call: Call) -> bool:
    """Whether the target stands where the prediction belongs, and the prediction where the target does.

    Only for losses that take the two differently, and only where the first is data and the second learns. A
    divergence between two models is asked by its roles alone: either side may be the one that learns.
    """
    if len(call.event.nodes) < 2 or not call.target_wants or call.target_wants in ("same", "sign"):
        return False
    first, second = call.event.nodes[:2]
    role, other = call.event.fact("input"), call.event.fact("target")
    if call.wants == "log-probability" and call.target_wants == "probability":
        return role == "probability" and other == "log-probability" and not call.event.fact("log_target")
    if not is_data(q, first) or not learns(q, second) or role in ("logit", "log-probability"):
        return False
    if "index" not in call.target_wants:
        return True
    return kind_of(call.exact) in ("int", "bool") or other in ("logit", "log-probability")


def one_column(q: Queries, call: Call) -> bool:
    """Whether cross entropy is given a single class."""
    if call.criterion not in ("CrossEntropyLoss", "cross_entropy", "NLLLoss", "nll_loss"):
        return False
    if call.shape is not None:
        return len(call.shape) > 1 and call.shape[1] == 1
    # Of an input that is not seen the rank is not known, but a linear layer with one output is.
    number = call.event.nodes[0]
    return call.event.fact("last") == "1" and is_raw(q, number) and not turned(q, number)


def dropped(q: Queries, place: Place, names: frozenset[str]) -> bool:
    """Whether a method that would mend it is called on the value, and nobody takes the result."""
    text = q.text_of(place)
    return any(one.fact("of") == text and one.fact("name") in names for one in q.all("dropped"))


def differentiated(q: Queries, number: int) -> bool:
    """Whether a gradient is asked for through a value."""
    return any(
        number in q.feeding(root, (Edge.LIVE,))
        for sink in q.all("backward", "grad")
        for root in q.roots(sink)
    )


def sized(shape: Sizes) -> str:
    """A shape for people: `(N, 1)`."""
    words = ["N" if dim == MANY else "?" if dim is None else str(dim) for dim in shape]
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"


def torch_name(exact: str) -> str:
    """A dtype as torch's errors call it: `Long`."""
    return {
        "float32": "Float",
        "float64": "Double",
        "float16": "Half",
        "bfloat16": "BFloat16",
        "int64": "Long",
        "int32": "Int",
        "int16": "Short",
        "int8": "Char",
        "uint8": "Byte",
        "bool": "Bool",
    }.get(exact, exact)
