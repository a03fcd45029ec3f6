"""A program while it is written: its parts, its functions, the body that grows, and where something is cut.

Every tensor that flows is WIDTH wide and has a batch before, so that any stage fits behind any other.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

WIDTH = 6
PART_NAMES = (
    "encoder", "projection", "mixer", "gate", "adapter", "refine", "bottleneck", "attend", "decoder",
    "stem", "lift", "blend", "shortcut", "tower", "trunk", "warp", "fuse", "query", "key", "value_head",
)  # fmt: skip
VALUE_NAMES = (
    "features", "hidden", "z", "out", "context", "latent", "mixed", "scores", "state", "rep", "emb",
    "signal", "acts", "summary", "code",
)  # fmt: skip


@dataclass
class Writer:
    """All of one program but the body that is being written."""

    random: random.Random
    cut_rate: float  # at each place where something can be cut
    most_cuts: int
    whole: bool = False  # the same draws, but what would be cut there is not
    emitted: Counter[str] = field(default_factory=Counter)
    imports: dict[str, None] = field(default_factory=dict)
    top: list[str] = field(default_factory=list)  # functions and classes before the model
    init: list[str] = field(
        default_factory=list
    )  # statements that make parts, their target without its owner
    methods: list[str] = field(default_factory=list)  # of the model
    parts: list[str] = field(default_factory=list)
    cuts: int = 0
    taken: set[str] = field(default_factory=set)

    def emit(self, *constructs: str) -> None:
        self.emitted.update(constructs)

    def name(self, of: tuple[str, ...] | str) -> str:
        """A name that the program does not have yet."""
        base = of if isinstance(of, str) else self.random.choice(of)
        name, count = base, 2
        while name in self.taken:
            name, count = f"{base}{count}", count + 1
        self.taken.add(name)
        return name

    def value(self) -> str:
        return self.name(VALUE_NAMES)

    def need(self, statement: str) -> None:
        self.imports[statement] = None

    def part(self, kind: str = "") -> str:
        """A new part that learns, WIDTH to WIDTH; its name without its owner."""
        name = self.name(PART_NAMES)
        kind = kind or self.random.choice(("linear", "linear", "linear", "sequential", "norm"))
        layer = f"nn.Linear({WIDTH}, {WIDTH})"
        made = {
            "linear": layer,
            "sequential": f"nn.Sequential(nn.Linear({WIDTH}, 8), nn.Tanh(), nn.Linear(8, {WIDTH}))",
            "norm": f"nn.Sequential(nn.LayerNorm({WIDTH}), nn.Linear({WIDTH}, {WIDTH}))",
            "list": f"nn.ModuleList([{layer} for _ in range({self.random.randint(2, 3)})])",
            "dict": f'nn.ModuleDict({{"left": {layer}, "right": {layer}}})',
            "parameter": f"nn.Parameter(torch.randn({WIDTH}, {WIDTH}) * 0.3)",
            "cell": f"nn.GRUCell({WIDTH}, {WIDTH})",
        }[kind]
        self.init.append(f"{name} = {made}")
        self.parts.append(name)
        return name

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def wants_cut(self) -> bool:
        """Whether something is cut here."""
        if self.cuts >= self.most_cuts or not self.chance(self.cut_rate):
            return False
        self.cuts += 1
        return True


class Body:
    """The statements of one function, or of the module.

    `owner` is what the parts belong to here: `self`, `model`, or nothing where they are names of the module.
    """

    def __init__(self, writer: Writer, owner: str) -> None:
        self.writer, self.owner = writer, owner
        self.lines: list[str] = []
        self._depth = 0

    def line(self, *texts: str) -> None:
        self.lines += ["    " * self._depth + text for text in texts]

    @contextlib.contextmanager
    def block(self, header: str) -> Iterator[None]:
        self.line(header)
        self._depth += 1
        yield
        self._depth -= 1

    def ref(self, name: str) -> str:
        """A part as it is reached here."""
        return f"{self.owner}.{name}" if self.owner else name

    def part(self, kind: str = "") -> str:
        return self.ref(self.writer.part(kind))

    def bind(self, expression: str) -> str:
        """A new name for a value."""
        name = self.writer.value()
        self.line(f"{name} = {expression}")
        return name

    def helper(self, base: str, parameters: str, write: Callable[[Body], str], *, plain: bool = False) -> str:
        """A method of the model, or a function where there is none (or `plain`); how it is called here."""
        writer = self.writer
        name = writer.name(base)
        method = bool(self.owner) and not plain
        inner = Body(writer, "self" if method else "")
        inner._depth = 1
        result = write(inner)
        if result:
            inner.line(result)
        head = f"def {name}({', '.join(filter(None, ('self' if method else '', parameters)))}):"
        (writer.methods if method else writer.top).append("\n".join((head, *inner.lines)))
        return self.ref(name) if method else name

    def maybe_cut(self, expression: str, *, number: bool = False) -> str:
        """The expression, or what cuts it; `number` says that it is a loss or a term of it."""
        if not self.writer.wants_cut():
            return expression
        return cut(self, expression, NUMBER_CUTS if number else VALUE_CUTS)


def cut(body: Body, e: str, kinds: tuple[str, ...]) -> str:
    """Something that loses the gradient of an expression, in one of the ways in which people write it."""
    writer = body.writer
    kind = writer.random.choice(kinds)
    writer.emit(f"cut: {kind}")
    if not writer.whole:
        return CUTS[kind](body, e)
    lines, top = len(body.lines), len(writer.top)
    made = CUTS[kind](body, e)  # draws what the cut draws, so that all behind it is the same
    del body.lines[lines:], writer.top[top:]
    value = WHOLE.get(kind, "{a}.clone()").format(e=e, a=_atom(e))
    if not made.isidentifier():
        return value
    body.line(f"{made} = {value}")
    return made


def _atom(e: str) -> str:
    simple = all(c.isalnum() or c in "_." for c in e)
    called = e.endswith(")") and not any(op in e for op in (" + ", " - ", " * ", " / ", " @ ", " if "))
    return e if simple or called else f"({e})"


def _expression(form: str, *needs: str) -> Callable[[Body, str], str]:
    def made(body: Body, e: str) -> str:
        for each in needs:
            body.writer.need(each)
        return form.format(e=e, a=_atom(e))

    return made


def _no_grad(body: Body, e: str) -> str:
    name = body.writer.value()
    with body.block("with torch.no_grad():"):
        body.line(f"{name} = {e}")
    return name


def _set_grad_enabled(body: Body, e: str) -> str:
    name = body.writer.value()
    with body.block("with torch.set_grad_enabled(False):"):
        body.line(f"{name} = {e}")
    return name


def _detach_in_place(body: Body, e: str) -> str:
    name = body.bind(f"{_atom(e)}.clone()")
    body.line(f"{name}.detach_()")
    return name


def _data_written(body: Body, e: str) -> str:
    name = body.bind(f"torch.zeros_like({e})")
    body.line(f"{name}.data = {_atom(e)}.data")
    return name


def _filled(body: Body, e: str) -> str:
    name = body.bind(f"torch.zeros({_atom(e)}.shape)")
    body.line(f"{name}[:] = {_atom(e)}.detach()")
    return name


def _decorated(body: Body, e: str) -> str:
    name = body.writer.name("frozen_copy")
    body.writer.top.append(f"@torch.no_grad()\ndef {name}(value):\n    return value * 1.0")
    return f"{name}({e})"


def _helper(body: Body, e: str) -> str:
    name = body.writer.name("to_constant")
    body.writer.top.append(f"def {name}(value):\n    kept = value.detach()\n    return kept")
    return f"{name}({e})"


NUMPY = "import numpy as np"
FUNCTIONAL = "import torch.nn.functional as F"
CUTS: dict[str, Callable[[Body, str], str]] = {
    "detach": _expression("{a}.detach()"),
    "detached clone": _expression("{a}.detach().clone()"),
    "data": _expression("{a}.data"),
    "tensor of list": _expression("torch.tensor({a}.tolist())"),
    "tensor of tensor": _expression("torch.tensor({e})"),
    "from_numpy": _expression("torch.from_numpy({a}.detach().numpy())"),
    "as_tensor of numpy": _expression("torch.as_tensor(np.tanh({a}.detach().cpu().numpy()))", NUMPY),
    "numbers": _expression("torch.tensor([[v.item() for v in row] for row in {e}])"),
    "round": _expression("torch.round({e})"),
    "sign": _expression("torch.sign({e})"),
    "argmax": _expression(f"F.one_hot({{a}}.argmax(dim=1), {WIDTH}).float()", FUNCTIONAL),
    "comparison": _expression("({a} > 0).float()"),
    "integers": _expression("{a}.long().float()"),
    "no_grad": _no_grad,
    "set_grad_enabled": _set_grad_enabled,
    "detach_": _detach_in_place,
    "written data": _data_written,
    "filled": _filled,
    "decorated helper": _decorated,
    "helper": _helper,
    "tensor of number": _expression("torch.tensor({a}.mean().item())"),
    "laundered": _expression("{a}.detach().requires_grad_()"),
}
# The same value with its gradient, where it is not just what would have been cut.
WHOLE = {
    "as_tensor of numpy": "torch.tanh({e})",
    "tensor of number": "{a}.mean()",
    "decorated helper": "{a} * 1.0",
}
NUMBER_CUTS = (
    "detach", "detached clone", "data", "tensor of tensor", "no_grad", "set_grad_enabled", "detach_",
    "helper", "tensor of number", "laundered",
)  # fmt: skip
VALUE_CUTS = tuple(kind for kind in CUTS if kind != "tensor of number")
