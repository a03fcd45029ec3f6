"""Whole training programs, drawn at random from a seed: data, a model, a loss, one of several ways to train.

The protocol of training is always right; what is wrong, if anything, is what was cut on the way to the loss.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from generated.stages import STAGES
from generated.writing import FUNCTIONAL, WIDTH, Body, Writer

STEPS = 2
CONSTRUCTS = (
    "loop with carried value", "while loop", "break and continue", "if, elif and else", "branch that returns",
    "list comprehension", "dict comprehension", "generator expression", "generator function",
    "loop over modules", "list filled in a loop", "ternary", "walrus", "match", "with", "try",
    "starred unpacking", "nested unpacking", "starred arguments", "dict field", "list field",
    "dataclass field", "namedtuple field", "TypedDict field", "closure", "lambda", "decorator",
    "functools.partial", "property", "super()", "class hierarchy", "recursion", "helper function", "async",
    "module-level script", "if __name__",
    "self.x across methods", "strong update of an attribute", "alias", "view", "in-place operation",
    "requires_grad_", "getattr with a computed name", "getattr with a known name",
    "setattr with a computed name", "exec", "tuple returned", "dict returned", "loss of two terms",
    "value that is logged", "trainer class", "parameters gathered by hand", "gradient accumulation",
    "scheduler", "gradients clipped", "two optimizers", "optimizer's closure",
)  # fmt: skip


@dataclass(frozen=True)
class Generated:
    """A program, and how often each construct stands in it."""

    seed: int
    text: str
    emitted: Counter[str]
    cuts: int


def program(seed: int, *, whole: bool = False) -> Generated:
    """The program of a seed. The same seed gives the same program; `whole`: without its cuts."""
    draw = random.Random(seed)
    cutting = draw.random() >= 0.3
    writer = Writer(
        draw,
        cut_rate=draw.choice((0.15, 0.3)) if cutting else 0.0,
        most_cuts=draw.choice((1, 1, 2)),
        whole=whole,
    )
    writer.taken |= {
        "model",
        "x",
        "y",
        "loss",
        "optimizer",
        "epoch",
        "step",
        "batch",
        "data",
        "main",
        "train",
    }
    task = draw.choice(TASKS)
    style = draw.choice(STYLES)
    text = style(writer, task)
    return Generated(seed, text, writer.emitted, writer.cuts)


# -- losses


@dataclass(frozen=True)
class Task:
    """What the program learns: how targets are made, and the loss of `out` and `y`."""

    target: str
    criteria: tuple[
        tuple[str, str], ...
    ]  # the loss as a function's call, and the criterion that is made for it


TASKS = (
    Task(
        f"torch.randn(8, {WIDTH})",
        (
            ("F.mse_loss({out}, {y})", ""),
            ("criterion({out}, {y})", "nn.MSELoss()"),
            ("criterion({out}, {y})", "nn.SmoothL1Loss()"),
            ("(({out} - {y}) ** 2).mean()", ""),
            ("({out} - {y}).abs().mean()", ""),
            ("torch.sqrt((({out} - {y}) ** 2).sum() + 1e-6)", ""),
        ),
    ),
    Task(
        f"torch.randint(0, {WIDTH}, (8,))",
        (
            ("F.cross_entropy({out}, {y})", ""),
            ("criterion({out}, {y})", "nn.CrossEntropyLoss()"),
            ("F.nll_loss(F.log_softmax({out}, dim=1), {y})", ""),
        ),
    ),
    Task(
        f"torch.randint(0, 2, (8, {WIDTH})).float()",
        (
            ("F.binary_cross_entropy_with_logits({out}, {y})", ""),
            ("criterion({out}, {y})", "nn.BCEWithLogitsLoss()"),
        ),
    ),
)


def stages(body: Body, value: str, most: int) -> str:
    """A few stages behind each other."""
    for _ in range(body.writer.random.randint(1, most)):
        value = body.writer.random.choice(STAGES)(body, value)
        if body.writer.chance(0.5):
            value = _noted(body, value)
    return value


def _noted(body: Body, value: str) -> str:
    """Sometimes a value is cut between two stages, sometimes it is only looked at, and that cuts nothing."""
    if body.writer.chance(0.3):
        kept = body.writer.name("norm_seen")
        body.line(f"{kept} = {value}.detach().norm().item()")
        body.writer.emit("value that is logged")
    made = body.maybe_cut(value)
    return made if made == value or made.isidentifier() else body.bind(made)


def loss(body: Body, task: Task, out: str, y: str, extra: str) -> tuple[str, str]:
    """The statements of a loss; its name, and the criterion that has to be made before."""
    writer = body.writer
    form, criterion = writer.random.choice(task.criteria)
    if "F." in form:
        writer.need(FUNCTIONAL)
    body.line(f"loss = {body.maybe_cut(form.format(out=out, y=y), number=True)}")
    if extra:
        writer.emit("loss of two terms")
        if writer.chance(0.5) or "sqrt" in form:
            body.line(f"loss = loss + 0.1 * {body.maybe_cut(extra, number=True)}")
        else:
            name = writer.name("penalty")
            body.line(f"{name} = {body.maybe_cut(extra, number=True)}", f"loss += 0.1 * {name}")
    return "loss", criterion


# -- what is trained


def model_class(writer: Writer, name: str) -> tuple[list[str], str]:
    """A model's class; what its forward gives: `tensor`, `tuple` or `dict`."""
    body = Body(writer, "self")
    value = stages(body, "x", 3)
    gives = writer.random.choice(("tensor", "tensor", "tuple", "dict"))
    if gives == "tensor":
        body.line(f"return {value}")
    elif gives == "tuple":
        second = stages(body, value, 1)
        body.line(f"return {second}, {value}")
        writer.emit("tuple returned")
    else:
        second = stages(body, value, 1)
        body.line(f'return {{"out": {second}, "features": {value}}}')
        writer.emit("dict returned")
    lines = [f"class {name}(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    lines += [f"        self.{line}" for line in writer.init] or []
    for method in writer.methods:
        lines += ["", *("    " + line for line in method.split("\n"))]
    lines += ["", "    def forward(self, x):", *("        " + line for line in body.lines)]
    writer.init, writer.methods = [], []
    writer.emit("super()")
    return lines, gives


def called(body: Body, model: str, x: str, gives: str) -> tuple[str, str]:
    """The model's call, taken apart: the prediction, and something else that a penalty may be made of."""
    out = body.writer.value()
    if gives == "tensor":
        body.line(f"{out} = {model}({x})")
        return out, ""
    if gives == "tuple":
        features = body.writer.value()
        body.line(f"{out}, {features} = {model}({x})")
        return out, f"{features}.pow(2).mean()"
    body.line(f"{out} = {model}({x})")
    return f'{out}["out"]', f'{out}["features"].abs().mean()'


def optimizer(writer: Writer, model: str) -> str:
    kind = writer.random.choice(
        ("torch.optim.SGD({}, lr=0.05)", "torch.optim.Adam({}, lr=1e-2)", "torch.optim.AdamW({})")
    )
    given = writer.random.choice(
        (f"{model}.parameters()", f"{model}.parameters()", f"list({model}.parameters())",
         f"[p for p in {model}.parameters() if p.requires_grad]",
         f'[{{"params": {model}.parameters(), "lr": 1e-2}}]')
    )  # fmt: skip
    return kind.format(given)


def update(body: Body, optimizer_: str) -> None:
    """zero_grad, backward and step, with what may stand around them."""
    writer = body.writer
    body.line(
        f"{optimizer_}.zero_grad({'set_to_none=True' if writer.chance(0.3) else ''})", "loss.backward()"
    )
    if writer.chance(0.25):
        writer.emit("gradients clipped")
        held = f"[p for g in {optimizer_}.param_groups for p in g['params']]"
        body.line(f"torch.nn.utils.clip_grad_norm_({held}, 1.0)")
    body.line(f"{optimizer_}.step()")


def logged(body: Body, history: str) -> None:
    writer = body.writer
    if writer.chance(0.5):
        body.line(f"{history}.append(loss.item())")
    else:
        body.line(f"{history}.append(float(loss.detach()))")


def data(writer: Writer, task: Task) -> list[str]:
    """Where batches come from: a list, a generator, or a loader; all are called `batches()` or `loader`."""
    kind = writer.random.choice(("list", "generator", "loader"))
    if kind == "list":
        return [f"loader = [(torch.randn(8, {WIDTH}), {task.target}) for _ in range({STEPS})]"]
    if kind == "generator":
        writer.emit("generator function")
        return [
            f"def batches(count={STEPS}):",
            "    for _ in range(count):",
            f"        yield torch.randn(8, {WIDTH}), {task.target}",
            "",
            "",
            "loader = list(batches())" if writer.chance(0.5) else "loader = batches()",
        ]
    writer.need("from torch.utils.data import DataLoader, TensorDataset")
    many = task.target.replace("(8,)", f"({8 * STEPS},)").replace("8, ", f"{8 * STEPS}, ")
    return [f"loader = DataLoader(TensorDataset(torch.randn({8 * STEPS}, {WIDTH}), {many}), batch_size=8)"]


def assembled(writer: Writer, *sections: list[str]) -> str:
    """Imports, the functions and classes that stages brought, and the sections, as one text."""
    head = ["import torch", "from torch import nn", *writer.imports]
    plain = sorted(one for one in head if one.startswith("import "))
    blocks = ["\n".join([*plain, *sorted(one for one in head if not one.startswith("import "))])]
    blocks += ["torch.manual_seed(0)", *writer.top]
    return "\n\n\n".join([*blocks, *("\n".join(section) for section in sections if section)]) + "\n"


# -- ways to train


def script(writer: Writer, task: Task) -> str:
    """Everything at the module's level, a class for the model."""
    writer.emit("module-level script")
    model, gives = model_class(writer, "Net")
    body = Body(writer, "model")
    rows = data(writer, task)
    epochs = 1 if "loader = batches()" in rows else 2
    with body.block(f"for epoch in range({epochs}):"), body.block("for x, y in loader:"):
        out, extra = called(body, "model", "x", gives)
        _, criterion = loss(body, task, out, "y", extra)
        update(body, "optimizer")
        logged(body, "history")
    setup = ["model = Net()", f"optimizer = {optimizer(writer, 'model')}", "history = []"]
    if criterion:
        setup.append(f"criterion = {criterion}")
    return assembled(writer, model, rows, [*setup, *body.lines])


def bare_layers(writer: Writer, task: Task) -> str:
    """No class: layers are names of the module, and a function computes the prediction."""
    writer.emit("module-level script", "parameters gathered by hand")
    inner = Body(writer, "")
    value = stages(inner, "x", 3)
    predict = ["def predict(x):", *("    " + line for line in inner.lines), f"    return {value}"]
    made = writer.init
    body = Body(writer, "")
    rows = data(writer, task)
    with body.block("for step, (x, y) in enumerate(loader):"):
        body.line("pred = predict(x)")
        _, criterion = loss(body, task, "pred", "y", "")
        update(body, "optimizer")
    bare = [name for name in writer.parts if any(line.startswith(f"{name} = nn.Parameter") for line in made)]
    layers = [name for name in writer.parts if name not in bare]
    groups = [f"*{name}.parameters()" for name in layers] + bare
    given = f"[{', '.join(groups)}]"
    if not bare and writer.chance(0.4):
        writer.need("import itertools")
        given = f"itertools.chain({', '.join(group[1:] for group in groups)})"
    setup = [*made, f"optimizer = torch.optim.Adam({given}, lr=1e-2)"]
    if criterion:
        setup.append(f"criterion = {criterion}")
    return assembled(writer, setup, predict, rows, body.lines)


def train_function(writer: Writer, task: Task) -> str:
    """A function `train`, called under the main guard."""
    writer.emit("if __name__", "helper function")
    model, gives = model_class(writer, "Model")
    inner = Body(writer, "model")
    rows = data(writer, task)
    with inner.block("for x, y in loader:"):
        out, extra = called(inner, "model", "x", gives)
        _, criterion = loss(inner, task, out, "y", extra)
        update(inner, "optimizer")
        logged(inner, "history")
    head = (
        "def train(model, loader, optimizer, criterion):"
        if criterion
        else "def train(model, loader, optimizer):"
    )
    train = [
        head,
        "    model.train()",
        "    history = []",
        *("    " + line for line in inner.lines),
        "    return history",
    ]
    main = [
        'if __name__ == "__main__":',
        "    model = Model()",
        f"    optimizer = {optimizer(writer, 'model')}",
    ]
    call = f"train(model, loader, optimizer, {criterion})" if criterion else "train(model, loader, optimizer)"
    return assembled(writer, model, train, rows, [*main, f"    history = {call}", "    print(history)"])


def trainer_class(writer: Writer, task: Task) -> str:
    """A trainer whose methods share the loss by an attribute."""
    writer.emit("self.x across methods", "trainer class")
    model, gives = model_class(writer, "Backbone")
    step, end = Body(writer, "self.model"), Body(writer, "self.model")
    out, extra = called(step, "self.model", "x", gives)
    form, criterion = writer.random.choice(task.criteria)
    if "F." in form:
        writer.need(FUNCTIONAL)
    written = form.format(out=out, y="y").replace("criterion(", "self.criterion(")
    step.line(f"self.loss = {step.maybe_cut(written, number=True)}")
    if extra:
        step.line(f"self.loss = self.loss + 0.1 * {step.maybe_cut(extra, number=True)}")
    end.line("self.optimizer.zero_grad()", "self.loss.backward()", "self.optimizer.step()")
    lines = ["class Trainer:", "    def __init__(self, model):", "        self.model = model"]
    lines.append(f"        self.optimizer = {optimizer(writer, 'model')}")
    if criterion:
        lines.append(f"        self.criterion = {criterion}")
    lines += ["", "    def compute(self, x, y):", *("        " + line for line in step.lines)]
    lines += ["", "    def backward_and_step(self):", *("        " + line for line in end.lines)]
    lines += ["", "    def fit(self, loader):", "        for x, y in loader:"]
    lines += ["            self.compute(x, y)", "            self.backward_and_step()"]
    return assembled(
        writer, model, lines, data(writer, task), ["trainer = Trainer(Backbone())", "trainer.fit(loader)"]
    )


def asynchronous(writer: Writer, task: Task) -> str:
    """Training in coroutines."""
    writer.emit("async")
    writer.need("import asyncio")
    model, gives = model_class(writer, "Net")
    inner = Body(writer, "model")
    rows = data(writer, task)
    inner.line("await asyncio.sleep(0)")
    out, extra = called(inner, "model", "x", gives)
    _, criterion = loss(inner, task, out, "y", extra)
    inner.line("return loss")
    compute = ["async def compute_loss(model, x, y):", *("    " + line for line in inner.lines)]
    body = Body(writer, "")
    body._depth = 1
    body.line("model = Net()", f"optimizer = {optimizer(writer, 'model')}")
    with body.block("for x, y in loader:"):
        body.line("loss = await compute_loss(model, x, y)")
        update(body, "optimizer")
    made = [f"criterion = {criterion}"] if criterion else []
    return assembled(
        writer, model, [*made, *rows], compute, ["async def main():", *body.lines], ["asyncio.run(main())"]
    )


def accumulated(writer: Writer, task: Task) -> str:
    """Gradients of several batches before a step, under a scheduler."""
    writer.emit("gradient accumulation", "scheduler")
    model, gives = model_class(writer, "Net")
    body = Body(writer, "model")
    rows = data(writer, task)
    body.line("optimizer.zero_grad()")
    with body.block("for i, (x, y) in enumerate(loader):"):
        out, extra = called(body, "model", "x", gives)
        _, criterion = loss(body, task, out, "y", extra)
        body.line(f"(loss / {STEPS}).backward()")
        with body.block(f"if (i + 1) % {STEPS} == 0:"):
            body.line("optimizer.step()", "scheduler.step()", "optimizer.zero_grad()")
    setup = ["model = Net()", f"optimizer = {optimizer(writer, 'model')}",
             "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)"]  # fmt: skip
    if criterion:
        setup.append(f"criterion = {criterion}")
    return assembled(writer, model, rows, [*setup, *body.lines])


def line_search(writer: Writer, task: Task) -> str:
    """An optimizer that calls a closure."""
    writer.emit("optimizer's closure", "closure")
    model, gives = model_class(writer, "Net")
    body = Body(writer, "model")
    rows = data(writer, task)
    with body.block("for x, y in loader:"):
        with body.block("def closure():"):
            body.line("optimizer.zero_grad()")
            out, extra = called(body, "model", "x", gives)
            _, criterion = loss(body, task, out, "y", extra)
            body.line("loss.backward()", "return loss")
        body.line("optimizer.step(closure)")
    setup = ["model = Net()", "optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)"]
    if criterion:
        setup.append(f"criterion = {criterion}")
    return assembled(writer, model, rows, [*setup, *body.lines])


def two_optimizers(writer: Writer, task: Task) -> str:
    """Two models behind each other, each with an optimizer of its own."""
    writer.emit("two optimizers")
    first, gives = model_class(writer, "Encoder")
    second, more = model_class(writer, "Head")
    body = Body(writer, "")
    rows = data(writer, task)
    with body.block("for x, y in loader:"):
        inner, _ = called(body, "encoder_net", "x", gives)
        out, extra = called(body, "head_net", body.maybe_cut(inner), more)
        _, criterion = loss(body, task, out, "y", extra)
        body.line("encoder_optimizer.zero_grad()", "head_optimizer.zero_grad()", "loss.backward()",
                  "encoder_optimizer.step()", "head_optimizer.step()")  # fmt: skip
    setup = ["encoder_net, head_net = Encoder(), Head()"]
    setup.append(f"encoder_optimizer = {optimizer(writer, 'encoder_net')}")
    setup.append(f"head_optimizer = {optimizer(writer, 'head_net')}")
    if criterion:
        setup.append(f"criterion = {criterion}")
    return assembled(writer, first, second, rows, [*setup, *body.lines])


Style = Callable[[Writer, Task], str]
STYLES: tuple[Style, ...] = (
    script, bare_layers, train_function, trainer_class, asynchronous, accumulated, line_search,
    two_optimizers,
)  # fmt: skip
