"""What stands between input and loss: each stage is one construct of the language around what learns."""

from __future__ import annotations

from collections.abc import Callable

from generated.writing import WIDTH, Body

Stage = Callable[[Body, str], str]


def plain(b: Body, h: str) -> str:
    act = b.writer.random.choice(("torch.tanh", "torch.sigmoid", "F.gelu", "F.softplus", "F.silu"))
    b.writer.need("import torch.nn.functional as F")
    return b.bind(f"{act}({b.part()}({b.maybe_cut(h)}))")


def loop_carried(b: Body, h: str) -> str:
    b.writer.emit("loop with carried value")
    layer = b.part("linear")
    state = b.bind(
        b.writer.random.choice((f"torch.zeros_like({h})", f"torch.zeros({h}.size(0), {WIDTH})", h))
    )
    with b.block(
        f"for {b.writer.random.choice(('_', 'step', 'i'))} in range({b.writer.random.randint(2, 4)}):"
    ):
        b.line(f"{state} = torch.tanh({layer}({b.maybe_cut(h)}) + {state})")
    return state


def while_loop(b: Body, h: str) -> str:
    b.writer.emit("while loop")
    layer, count, value = b.part(), b.writer.name("depth"), b.bind(f"{h} * 1.0")
    b.line(f"{count} = 0")
    with b.block(f"while {count} < 2:"):
        b.line(f"{value} = {value} + torch.tanh({layer}({b.maybe_cut(value)}))", f"{count} += 1")
    return value


def break_and_continue(b: Body, h: str) -> str:
    b.writer.emit("break and continue")
    layer, value = b.part(), b.bind(f"{h} + 0.0")
    with b.block("for attempt in range(5):"):
        with b.block("if attempt == 1:"):
            b.line("continue")
        b.line(f"{value} = {value} + torch.sigmoid({layer}({b.maybe_cut(h)}))")
        with b.block("if attempt >= 3:"):
            b.line("break")
    return value


def recurrent_cell(b: Body, h: str) -> str:
    b.writer.emit("loop with carried value", "list filled in a loop")
    cell, state, steps = b.part("cell"), b.bind(f"torch.zeros_like({h})"), b.writer.name("steps")
    b.line(f"{steps} = []")
    with b.block("for t in range(3):"):
        b.line(f"{state} = {cell}({b.maybe_cut(h)}, {state})", f"{steps}.append({state})")
    return b.bind(f"torch.stack({steps}, dim=1).mean(dim=1)")


def branches(b: Body, h: str) -> str:
    b.writer.emit("if, elif and else")
    layer, value = b.part(), b.writer.value()
    with b.block(f"if {h}.size(0) > 64:"):
        b.line(f"{value} = torch.tanh({layer}({h}))")
    with b.block(f"elif {h}.dim() == 2:"):
        b.line(f"{value} = {layer}({b.maybe_cut(h)})")
    with b.block("else:"):
        b.line(f"{value} = {layer}({h}) * 0.5")
    return value


def early_return(b: Body, h: str) -> str:
    b.writer.emit("branch that returns")
    layer = b.writer.part()

    def write(inner: Body) -> str:
        part = inner.ref(layer)
        with inner.block("if x.size(0) == 0:"):
            inner.line("return x")
        return f"return x + {part}({inner.maybe_cut('x')})"

    return b.bind(f"{b.helper('residual', 'x', write)}({h})")


def list_comprehension(b: Body, h: str) -> str:
    b.writer.emit("list comprehension")
    layers = b.part("list")
    outs = b.bind(f"[layer({b.maybe_cut(h)}) for layer in {layers}]")
    return b.bind(b.writer.random.choice((f"torch.stack({outs}).mean(dim=0)", f"sum({outs}) / len({outs})")))


def dict_comprehension(b: Body, h: str) -> str:
    b.writer.emit("dict comprehension")
    heads = b.part("dict")
    outs = b.bind(f"{{name: head({b.maybe_cut(h)}) for name, head in {heads}.items()}}")
    return b.bind(f'{outs}["left"] + {outs}["right"]')


def generator_expression(b: Body, h: str) -> str:
    b.writer.emit("generator expression")
    return b.bind(f"sum(torch.tanh(layer({b.maybe_cut(h)})) for layer in {b.part('list')})")


def generator_function(b: Body, h: str) -> str:
    b.writer.emit("generator function")
    layers = b.writer.part("list")

    def write(inner: Body) -> str:
        with inner.block(f"for layer in {inner.ref(layers)}:"):
            inner.line(f"yield torch.tanh(layer({inner.maybe_cut('x')}))")
        return ""

    call = b.helper("pieces", "x", write)
    if b.writer.chance(0.5):
        return b.bind(f"sum({call}({h}))")
    value = b.bind(f"{h} * 0.1")
    with b.block(f"for piece in {call}({h}):"):
        b.line(f"{value} = {value} + piece")
    return value


def module_list_loop(b: Body, h: str) -> str:
    b.writer.emit("loop over modules")
    value = b.bind(f"{h} * 1.0")
    with b.block(f"for {b.writer.random.choice(('layer', 'index, layer'))} in LAYERS:"):
        b.line(f"{value} = torch.tanh(layer({b.maybe_cut(value)}))")
    layers = b.part("list")
    at = next(i for i in range(len(b.lines) - 1, -1, -1) if "in LAYERS:" in b.lines[i])
    wrapped = f"enumerate({layers})" if "index, layer" in b.lines[at] else layers
    b.lines[at] = b.lines[at].replace("LAYERS", wrapped)
    return value


def list_filled(b: Body, h: str) -> str:
    b.writer.emit("list filled in a loop")
    layer, kept = b.part(), b.writer.name("collected")
    b.line(f"{kept} = []")
    with b.block("for scale in (0.5, 1.0, 2.0):"):
        b.line(f"{kept}.append({b.maybe_cut(f'{layer}({h} * scale)')})")
    return b.bind(f"torch.cat({kept}, dim=0).view(3, -1, {WIDTH}).mean(dim=0)")


def ternary(b: Body, h: str) -> str:
    b.writer.emit("ternary")
    layer = b.part()
    return b.bind(f"{layer}({h}) if {h}.size(0) > 2 else {layer}({b.maybe_cut(h)}) * 2.0")


def walrus(b: Body, h: str) -> str:
    b.writer.emit("walrus")
    name, value = b.writer.value(), b.writer.value()
    with b.block(f"if ({name} := {b.maybe_cut(f'{b.part()}({h})')}).dim() == 2:"):
        b.line(f"{value} = {name} + 1.0")
    with b.block("else:"):
        b.line(f"{value} = {name}")
    return value


def match_statement(b: Body, h: str) -> str:
    b.writer.emit("match")
    layer, value, mode = b.part(), b.writer.value(), b.writer.name("mode")
    b.line(f'{mode} = "{b.writer.random.choice(("sum", "tanh", "plain"))}"')
    with b.block(f"match {mode}:"):
        with b.block('case "sum":'):
            b.line(f"{value} = {layer}({b.maybe_cut(h)}) + {h}")
        with b.block('case "tanh":'):
            b.line(f"{value} = torch.tanh({layer}({h}))")
        with b.block("case _:"):
            b.line(f"{value} = {layer}({h})")
    return value


def match_sequence(b: Body, h: str) -> str:
    b.writer.emit("match")
    layer, value = b.part(), b.writer.value()
    with b.block(f"match ({layer}({b.maybe_cut(h)}), 0.5):"):
        with b.block("case (first, float() as weight):"):
            b.line(f"{value} = first * weight")
        with b.block("case _:"):
            b.line('raise ValueError("a pair is expected")')
    return value


def with_block(b: Body, h: str) -> str:
    b.writer.emit("with")
    value = b.writer.value()
    header = b.writer.random.choice(
        ("torch.enable_grad()", "contextlib.nullcontext()", "torch.set_grad_enabled(True)")
    )
    if "contextlib" in header:
        b.writer.need("import contextlib")
    with b.block(f"with {header}:"):
        b.line(f"{value} = torch.tanh({b.part()}({b.maybe_cut(h)}))")
    return value


def own_context(b: Body, h: str) -> str:
    b.writer.emit("with", "generator function", "decorator")
    b.writer.need("import contextlib")
    name = b.writer.name("timed")
    b.writer.top.append(
        f"@contextlib.contextmanager\ndef {name}(label, log):\n    log.append(label)\n    yield log\n"
        "    log.append(label + ' done')"
    )
    value = b.writer.value()
    with b.block(f"with {name}('stage', []) as log:"):
        b.line(f"{value} = {b.part()}({b.maybe_cut(h)})")
    return value


def try_block(b: Body, h: str) -> str:
    b.writer.emit("try")
    layer, value = b.part(), b.writer.value()
    with b.block("try:"):
        b.line(f"{value} = {layer}({b.maybe_cut(h)})")
    with b.block("except RuntimeError as error:"):
        b.line("raise ValueError('wrong shape') from error")
    if b.writer.chance(0.5):
        with b.block("else:"):
            b.line(f"{value} = {value} * 2.0")
    if b.writer.chance(0.5):
        with b.block("finally:"):
            b.line("pass")
    return value


def starred(b: Body, h: str) -> str:
    b.writer.emit("starred unpacking")
    first, rest = b.writer.name("first"), b.writer.name("rest")
    b.line(f"{first}, *{rest} = {b.maybe_cut(f'{b.part()}({h})')}.chunk(3, dim=1)")
    return b.bind(f"torch.cat([{first}, *{rest}], dim=1)")


def nested_unpacking(b: Body, h: str) -> str:
    b.writer.emit("nested unpacking")
    a, c, scale = b.writer.value(), b.writer.value(), b.writer.name("scale")
    b.line(f"({a}, {c}), {scale} = ({b.part()}({b.maybe_cut(h)}), {b.part()}({h})), 0.5")
    return b.bind(f"{a} * {scale} + {c}")


def starred_call(b: Body, h: str) -> str:
    b.writer.emit("starred arguments")
    name = b.writer.name("combine")
    b.writer.top.append(f"def {name}(*values, weight=1.0, **options):\n    return sum(values) * weight")
    pair = b.bind(f"({b.part()}({b.maybe_cut(h)}), {h})")
    options = b.writer.name("options")
    b.line(f"{options} = {{'weight': 0.5}}")
    return b.bind(f"{name}(*{pair}, **{options})")


def dict_field(b: Body, h: str) -> str:
    b.writer.emit("dict field")
    kept = b.writer.name("cache")
    b.line(f'{kept} = {{"raw": {h}}}', f'{kept}["mixed"] = {b.part()}({b.maybe_cut(h)})')
    return b.bind(f'torch.tanh({kept}["mixed"]) + {kept}["raw"] * 0.1')


def list_field(b: Body, h: str) -> str:
    b.writer.emit("list field")
    kept = b.writer.name("slots")
    b.line(f"{kept} = [None, {h}]", f"{kept}[0] = {b.part()}({b.maybe_cut(f'{h}')})")
    return b.bind(f"{kept}[0] + {kept}[-1]")


def dataclass_field(b: Body, h: str) -> str:
    b.writer.emit("dataclass field")
    b.writer.need("from dataclasses import dataclass")
    name = b.writer.name("Bundle")
    b.writer.top.append(f"@dataclass\nclass {name}:\n    main: torch.Tensor\n    scale: float = 1.0")
    made = b.bind(f"{name}(main={b.maybe_cut(f'{b.part()}({h})')}, scale=0.5)")
    return b.bind(f"{made}.main * {made}.scale")


def namedtuple_field(b: Body, h: str) -> str:
    b.writer.emit("namedtuple field")
    name = b.writer.name("Output")
    if b.writer.chance(0.5):
        b.writer.need("from collections import namedtuple")
        b.writer.top.append(f'{name} = namedtuple("{name}", ["main", "extra"])')
    else:
        b.writer.need("from typing import NamedTuple")
        b.writer.top.append(f"class {name}(NamedTuple):\n    main: torch.Tensor\n    extra: torch.Tensor")
    made = b.bind(f"{name}({b.part()}({b.maybe_cut(h)}), {h})")
    if b.writer.chance(0.5):
        return b.bind(f"{made}.main + {made}.extra")
    first, second = b.writer.value(), b.writer.value()
    b.line(f"{first}, {second} = {made}")
    return b.bind(f"{first} + {second}")


def typed_dict_field(b: Body, h: str) -> str:
    b.writer.emit("TypedDict field")
    b.writer.need("from typing import TypedDict")
    name = b.writer.name("Sample")
    b.writer.top.append(f"class {name}(TypedDict):\n    main: torch.Tensor\n    weight: float")
    made = b.bind(f"{name}(main={b.part()}({b.maybe_cut(h)}), weight=0.5)")
    return b.bind(f'{made}["main"] * {made}["weight"]')


def closure(b: Body, h: str) -> str:
    b.writer.emit("closure")
    layer, name = b.part(), b.writer.name("transform")
    with b.block(f"def {name}(x):"):
        b.line(f"return torch.tanh({layer}({b.maybe_cut('x')}) * 0.5)")
    return b.bind(f"{name}({h})")


def closure_that_writes(b: Body, h: str) -> str:
    b.writer.emit("closure", "list filled in a loop")
    layer, kept, name = b.part(), b.writer.name("trace"), b.writer.name("record")
    b.line(f"{kept} = []")
    with b.block(f"def {name}(x):"):
        b.line(f"{kept}.append({layer}({b.maybe_cut('x')}))")
    with b.block("for scale in (0.5, 1.5):"):
        b.line(f"{name}({h} * scale)")
    return b.bind(f"{kept}[0] + {kept}[1]")


def lambda_(b: Body, h: str) -> str:
    b.writer.emit("lambda")
    layer, name = b.part(), b.writer.name("activate")
    b.line(f"{name} = lambda x: torch.sigmoid({layer}({b.maybe_cut('x')}))")
    return b.bind(f"{name}({h})")


def mapped(b: Body, h: str) -> str:
    b.writer.emit("lambda")
    outs = b.bind(f"list(map(lambda layer: layer({b.maybe_cut(h)}), {b.part('list')}))")
    return b.bind(f"sum({outs})")


def decorator(b: Body, h: str) -> str:
    b.writer.emit("decorator")
    b.writer.need("import functools")
    name = b.writer.name("logged")
    b.writer.top.append(
        f"def {name}(function):\n    @functools.wraps(function)\n    def wrapper(*args, **kwargs):\n"
        "        return function(*args, **kwargs)\n\n    return wrapper"
    )
    layer = b.writer.part()
    call = b.helper("scaled", "x", lambda inner: f"return {inner.ref(layer)}({inner.maybe_cut('x')}) * 0.7")
    where = b.writer.methods if b.owner else b.writer.top
    where[-1] = f"@{name}\n{where[-1]}"
    return b.bind(f"{call}({h})")


def partial(b: Body, h: str) -> str:
    b.writer.emit("functools.partial")
    b.writer.need("from functools import partial")
    layer, bound = b.writer.part(), b.writer.name("scaled")
    call = b.helper(
        "scale_by", "x, factor", lambda inner: f"return {inner.ref(layer)}({inner.maybe_cut('x')}) * factor"
    )
    b.line(f"{bound} = partial({call}, factor=0.5)")
    return b.bind(f"{bound}({h})")


def property_(b: Body, h: str) -> str:
    if not b.owner:
        return plain(b, h)
    b.writer.emit("property")
    weight, name = b.writer.part("parameter"), b.writer.name("normalized_weight")
    inner = Body(b.writer, "self")
    value = inner.maybe_cut(f"self.{weight}")
    body = "".join(f"    {line}\n" for line in inner.lines)
    b.writer.methods.append(f"@property\ndef {name}(self):\n{body}    return {value} / 2.0")
    return b.bind(f"{h} @ {b.ref(name)}")


def subclass(b: Body, h: str) -> str:
    b.writer.emit("class hierarchy", "super()")
    base, child = b.writer.name("Block"), b.writer.name("GatedBlock")
    inner, outer = Body(b.writer, "self"), Body(b.writer, "self")
    inner_value, outer_value = inner.maybe_cut("x"), outer.maybe_cut("inner")
    before = "".join(f"        {line}\n" for line in inner.lines)
    after = "".join(f"        {line}\n" for line in outer.lines)
    b.writer.top.append(
        f"class {base}(nn.Module):\n    def __init__(self, width):\n        super().__init__()\n"
        f"        self.fc = nn.Linear(width, width)\n\n    def forward(self, x):\n{before}"
        f"        return torch.tanh(self.fc({inner_value}))"
    )
    b.writer.top.append(
        f"class {child}({base}):\n    def __init__(self, width):\n        super().__init__(width)\n"
        f"        self.gate = nn.Linear(width, width)\n\n    def forward(self, x):\n"
        f"        inner = super().forward(x)\n{after}"
        f"        return {outer_value} * torch.sigmoid(self.gate(x))"
    )
    name = b.writer.name("block")
    b.writer.init.append(f"{name} = {child}({WIDTH})")
    b.writer.parts.append(name)
    return b.bind(f"{b.ref(name)}({h})")


def template_method(b: Body, h: str) -> str:
    b.writer.emit("class hierarchy")
    base, child = b.writer.name("Layer"), b.writer.name("TanhLayer")
    inner = Body(b.writer, "self")
    value = inner.maybe_cut("self.fc(x)")
    before = "".join(f"        {line}\n" for line in inner.lines)
    b.writer.top.append(
        f"class {base}(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        f"        self.fc = nn.Linear({WIDTH}, {WIDTH})\n\n    def activate(self, x):\n"
        f"        raise NotImplementedError\n\n    def forward(self, x):\n{before}"
        f"        return self.activate({value})"
    )
    b.writer.top.append(f"class {child}({base}):\n    def activate(self, x):\n        return torch.tanh(x)")
    name = b.writer.name("layer")
    b.writer.init.append(f"{name} = {child}()")
    b.writer.parts.append(name)
    return b.bind(f"{b.ref(name)}({h})")


def recursion(b: Body, h: str) -> str:
    b.writer.emit("recursion")
    name, layer = b.writer.name("apply_times"), b.part("linear")
    b.writer.top.append(
        f"def {name}(layer, x, times):\n    if times == 0:\n        return x\n"
        "    return torch.tanh(layer(" + f"{name}(layer, x, times - 1)" + "))"
    )
    return b.bind(f"{name}({layer}, {b.maybe_cut(h)}, 2)")


def helper_function(b: Body, h: str) -> str:
    b.writer.emit("helper function")
    name = b.writer.name("mix")
    inner = Body(b.writer, "")
    value = inner.maybe_cut("left")
    before = "".join(f"    {line}\n" for line in inner.lines)
    b.writer.top.append(
        f"def {name}(left, right, weight=0.5):\n{before}    return weight * {value} + (1 - weight) * right"
    )
    return b.bind(f"{name}({b.part()}({h}), right={h})")


def stored_attribute(b: Body, h: str) -> str:
    if not b.owner:
        return plain(b, h)
    b.writer.emit("self.x across methods")
    layer, field = b.writer.part(), b.writer.name("last_features")

    def store(inner: Body) -> str:
        inner.line(f"self.{field} = {inner.maybe_cut(f'{inner.ref(layer)}(x)')}")
        return ""

    call = b.helper("remember", "x", store)
    use = b.helper("recall", "", lambda inner: f"return torch.tanh(self.{field}) * 0.5")
    b.line(f"{call}({h})")
    return b.bind(f"{use}() + {h}")


def strong_update(b: Body, h: str) -> str:
    if not b.owner:
        return plain(b, h)
    b.writer.emit("strong update of an attribute")
    field = b.ref(b.writer.name("current"))
    b.line(f"{field} = {h}.detach()", f"{field} = {b.part()}({b.maybe_cut(h)})")
    return b.bind(f"torch.tanh({field})")


def alias(b: Body, h: str) -> str:
    b.writer.emit("alias")
    layer, kept = b.part(), b.writer.name("bag")
    other = b.writer.name("same_bag")
    b.line(f"{kept} = {{}}", f"{other} = {kept}", f'{other}["x"] = {b.maybe_cut(f"{layer}({h})")}')
    return b.bind(f'{kept}["x"] * 1.5')


def view_written(b: Body, h: str) -> str:
    b.writer.emit("view", "in-place operation")
    value, part = b.bind(f"{b.part('linear')}({b.maybe_cut(h)})"), b.writer.name("head_part")
    b.line(f"{part} = {value}[:, :2]", f"{part}.mul_(2.0)")
    return b.bind(f"torch.tanh({value})")


def in_place(b: Body, h: str) -> str:
    b.writer.emit("in-place operation")
    value = b.bind(f"{b.part('linear')}({b.maybe_cut(h)})")
    b.line(
        b.writer.random.choice(
            (f"{value}.add_({h})", f"{value} += {h}", f"{value}.mul_(0.5)", f"{value}[:, 0] = 0.0")
        )
    )
    return value


def filled_tensor(b: Body, h: str) -> str:
    b.writer.emit("in-place operation")
    value = b.bind(f"torch.zeros({h}.size(0), {WIDTH})")
    layer = b.part("linear")
    with b.block("for column in range(2):"):
        b.line(f"{value}[:, column] = {b.maybe_cut(f'{layer}({h})')}[:, column]")
    return b.bind(f"{value} + {h} * 0.1")


def leaf(b: Body, h: str) -> str:
    b.writer.emit("requires_grad_")
    noise = b.bind(f"torch.zeros_like({h}).requires_grad_()")
    return b.bind(f"{b.part()}({b.maybe_cut(h)}) + {noise}")


def getattr_computed(b: Body, h: str) -> str:
    if not b.owner:
        return plain(b, h)
    b.writer.emit("getattr with a computed name")
    base = b.writer.name("branch")
    for number in range(2):
        b.writer.init.append(f"{base}_{number} = nn.Linear({WIDTH}, {WIDTH})")
    value = b.bind(f"{h} * 1.0")
    with b.block("for number in range(2):"):
        b.line(f'{value} = {value} + getattr({b.owner}, f"{base}_{{number}}")({b.maybe_cut(h)})')
    return value


def setattr_computed(b: Body, h: str) -> str:
    if not b.owner:
        return plain(b, h)
    b.writer.emit("setattr with a computed name")
    base, layer = b.writer.name("kept"), b.part()
    with b.block("for number in range(2):"):
        b.line(f'setattr({b.owner}, f"{base}_{{number}}", {b.maybe_cut(f"{layer}({h})")} * number)')
    return b.bind(f"{b.owner}.{base}_1 + {h} * 0.1")


def getattr_known(b: Body, h: str) -> str:
    if not b.owner:
        return plain(b, h)
    b.writer.emit("getattr with a known name")
    layer = b.writer.part()
    return b.bind(f'getattr({b.owner}, "{layer}")({b.maybe_cut(h)})')


def executed(b: Body, h: str) -> str:
    b.writer.emit("exec")
    names = b.writer.name("settings")
    b.line(f"{names} = {{}}", f'exec("factor = 0.5", {names})')
    return b.bind(f'{b.part()}({b.maybe_cut(h)}) * {names}["factor"]')


def einsum(b: Body, h: str) -> str:
    weight = b.part("parameter")
    return b.bind(f'torch.einsum("bi,ij->bj", {h}, {b.maybe_cut(weight)})')


def attention(b: Body, h: str) -> str:
    q, k = b.bind(f"{b.part()}({h})"), b.bind(f"{b.part()}({b.maybe_cut(h)})")
    weights = b.bind(f"torch.softmax({q} @ {k}.t() / {WIDTH} ** 0.5, dim=-1)")
    return b.bind(f"{weights} @ {h}")


STAGES: tuple[Stage, ...] = (
    plain, loop_carried, while_loop, break_and_continue, recurrent_cell, branches, early_return,
    list_comprehension, dict_comprehension, generator_expression, generator_function, module_list_loop,
    list_filled, ternary, walrus, match_statement, match_sequence, with_block, own_context,
    try_block, starred, nested_unpacking, starred_call, dict_field, list_field, dataclass_field,
    namedtuple_field,
    typed_dict_field, closure, closure_that_writes, lambda_, mapped, decorator, partial, property_,
    subclass, template_method, recursion, helper_function, stored_attribute, strong_update, alias,
    view_written, in_place, filled_tensor, leaf, getattr_computed, setattr_computed, getattr_known,
    executed, einsum, attention,
)  # fmt: skip
