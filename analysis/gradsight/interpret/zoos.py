"""Models of libraries as objects of the heap: made, taken apart, written into, called.

Such a model is one module with one source for all of its parameters. A part of it, `model.layer4`, is an
object of its own that stands for some of that source, nobody knows which: what freezes a part is noted to
freeze some. What a program puts into a part is kept by the whole model, under the part's path.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from gradsight import model
from gradsight.domain import Edge
from gradsight.interpret.shapes import ranked
from gradsight.model import HEADS, LibraryModel
from gradsight.values import (
    NOWHERE,
    Choice,
    Const,
    Lib,
    Obj,
    Ref,
    Shape,
    Tensor,
    Unknown,
    Value,
    node_of,
)

if TYPE_CHECKING:
    from gradsight.interpret.modules import Modules

PART = "gradsight.part"
ANY = "?"  # an item of a part, nobody knows which
FIELDS = "transformers.ModelOutput"  # the operation of a node that has `loss` and `logits`


def make_library_model(
    it: Modules, made: LibraryModel, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST
) -> Value:
    """A model as its library makes it."""
    mode, output = made.mode, made.output
    asked = args[0] if args else kwargs.get("model_name", kwargs.get("name"))
    if name in model.GETTERS:
        known = isinstance(asked, Const) and isinstance(asked.value, str)
        mode = model.mode_by_name(str(asked.value)) if known and isinstance(asked, Const) else ""
        if kwargs.get("features_only") is not None:
            output = "any"
    if name.startswith("segmentation_models_pytorch."):
        output = "any" if "aux_params" in kwargs else activated(kwargs.get("activation"), output)
    if "**" in kwargs:
        output = "any"
    own = Tensor(it.source("parameter", name, node), "float", None, "", "parameter")
    fields: dict[str, Value] = {"*": own, "@output": Const(output), "@mode": Const(mode)}
    reference = it.allocate(Obj("module", Lib(name), tuple(fields.items())))
    if not made.trains:
        it.event("mode", oids=(reference.oid,), facts={"to": "unknown"}, call=it.here(node))
    if it.in_method:
        it.event("made", oids=(reference.oid,), call=it.here(node))
    return reference


def activated(given: Value | None, output: str) -> str:
    """What an `activation=` makes of the output."""
    if given is None or given == Const(None):
        return output
    known = given.value if isinstance(given, Const) else None
    return "probability" if known in ("sigmoid", "softmax", "softmax2d") else "tensor"


def is_library_model(obj: Obj | None) -> bool:
    """Whether an object is a library's model, or a part of one."""
    if obj is None or obj.kind != "module" or not isinstance(obj.cls, Lib):
        return False
    return obj.cls.name == PART or model.library_model(obj.cls.name) is not None


def whole(it: Modules, reference: Ref) -> tuple[Ref, str]:
    """The model that an object is a part of, and the part's path in it; of a whole model itself and ""."""
    obj = it.state.heap[reference.oid]
    of, path = obj.get("@of"), obj.get("@path")
    if isinstance(of, Ref) and of.oid in it.state.heap and isinstance(path, Const):
        return of, str(path.value)
    return reference, ""


def part_named(it: Modules, reference: Ref, name: str, node: ast.AST) -> Value:
    """An attribute or an item of a library's model: what the program has put there, or a part."""
    if name in model.PLAIN_ATTRIBUTES:
        return Unknown("a setting")
    owner, before = whole(it, reference)
    path = f"{before}.{name}" if before else name
    obj = it.state.heap[owner.oid]
    put = obj.get(path)
    if put is not None:
        return put
    return it.allocate(part_of(it, owner, obj, path, node))


def part_of(it: Modules, owner: Ref, obj: Obj, path: str, node: ast.AST) -> Obj:
    number = it.combine("part", [(node_of(obj.get("*")), Edge.LIVE)], node, keep_off=True)
    own = Tensor(number, "float", None, "", "parameter")
    return Obj("module", Lib(PART), (("*", own), ("@of", owner), ("@path", Const(path))))


def put_into(it: Modules, reference: Ref, name: str, value: Value, target: ast.AST) -> None:
    """Something is stored as an attribute or an item of a library's model, or of a part of one."""
    owner, before = whole(it, reference)
    path = f"{before}.{name}" if before else name
    obj = it.state.heap[owner.oid]
    nodes = it.parameters_of(value)[0]
    if obj.get(path) is None and nodes:
        # What stood there before was a part of the model's one source.
        oids = (value.oid,) if isinstance(value, Ref) else ()
        facts = {"name": path, "part": "yes"}
        it.event("replaced", nodes=nodes, oids=oids, facts=facts, call=it.here(target))
    if it.registers(value) or isinstance(value, Unknown):
        it.state.heap[owner.oid] = obj.with_field(path, value)


def call_library_model(
    it: Modules, reference: Ref, obj: Obj, args: list[Value], kwargs: dict[str, Value], node: ast.AST
) -> Value:
    """The call of a library's model, or of a part of one."""
    assert isinstance(obj.cls, Lib)
    output, mode = obj.get("@output"), obj.get("@mode")
    kind = str(output.value) if isinstance(output, Const) else "tensor"
    if isinstance(mode, Const) and mode.value:
        it.event("layer", oids=(reference.oid,))
    head = last_part(it, obj) if kind in ("logit", "tensor") else None
    learning = it.parameters_of(reference)[0]
    own = [n for n in learning if head is None or n not in it.parameters_of(head)[0]]
    given = [n for value in (*args, *kwargs.values()) for n in it.nodes_in(value)]
    parts = [(n, Edge.LIVE) for n in dict.fromkeys((*given, *own))]
    name = FIELDS if kind == "fields" else obj.cls.name
    number = it.combine(name, parts, node, saves=True, note="module")
    if kind == "any" or kind == "fields":
        return Unknown("what a model of a library gives", number)
    role = kind if kind == "probability" else "logit" if kind in ("logit", "segmentation") else ""
    if kind == "segmentation":
        result = Tensor(number, "float", None, role)
        return it.allocate(Obj("dict", None, (("'out'", result), ("'aux'", result))))
    shape: Shape = None
    if kind == "logit" and obj.cls.name.startswith("torchvision."):
        images = ranked(it.shape_of(args[0])) if args else None
        shape = (images[0] if images else None, None)
    if head is None:
        return Tensor(number, "float", shape, role)
    value = it.call(head, [Tensor(number, "float", shape)], {}, node)  # type: ignore[arg-type]
    if isinstance(value, Tensor) and value.node != NOWHERE:
        return Tensor(value.node, value.dtype, value.shape, value.role, "", value.exact)
    return value


def last_part(it: Modules, obj: Obj) -> Value | None:
    """What the program has put where the model's last layer stood, if that is what it has replaced."""
    found = [(name, value) for name, value in obj.fields if name.partition(".")[0] in HEADS]
    if len(found) != 1:
        return None
    value = found[0][1]
    if isinstance(value, (Ref, Choice)) and it.all_modules((value,)) and not is_convolution(it, value):
        return value
    return None


def is_convolution(it: Modules, value: Value) -> bool:
    """Such a head is pooled behind: what comes out has another shape."""
    layer = it.obj(value)
    return layer is not None and isinstance(layer.cls, Lib) and "Conv" in layer.cls.name
