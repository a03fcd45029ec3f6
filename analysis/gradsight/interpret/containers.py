"""Tuples, lists and dictionaries: displays, comprehensions, items, and what iterating them gives."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradsight import model
from gradsight.domain import Edge
from gradsight.graph import Node
from gradsight.interpret.activation import Activation, as_call
from gradsight.interpret.dtypes import kind_of, literal_of
from gradsight.interpret.shapes import ranked
from gradsight.interpret.zoos import ANY, is_library_model, part_named
from gradsight.memory import VIEW, WHOLE
from gradsight.model import kept
from gradsight.values import (
    MANY,
    NONE,
    NOWHERE,
    Array,
    Bound,
    Choice,
    Class,
    Const,
    Func,
    Lib,
    Number,
    Obj,
    Params,
    Ref,
    Seq,
    Shape,
    Tensor,
    Unknown,
    Value,
    is_plain,
)

MOST_TURNS = 8  # that are read one by one


class Containers(Activation):
    """Everything that holds other values."""

    def evaluate(self, node: ast.expr | None) -> Value:
        raise NotImplementedError

    def assign(self, target: ast.expr, value: Value, at: ast.AST) -> None:
        raise NotImplementedError

    def call(self, function: Value, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        raise NotImplementedError

    def changed_in_place(self, base: ast.expr, old: Value, new: Value, at: ast.AST) -> None:
        """A tensor was changed where it is: whatever else is that very tensor is another one, too."""
        before, self.putting_back = self.putting_back, True  # the write itself is known
        self.assign(base, new, at)
        self.putting_back = before
        self.replace_everywhere(old, new, at)

    def keeps_constants(self, op: str, operands: tuple[Value, ...], node: int) -> None:
        """An operation of two operands keeps the one without a gradient for that of the other."""
        for value, other in (operands, operands[::-1]):
            if isinstance(value, Tensor) and value.node == NOWHERE and isinstance(other, Tensor):
                if op in kept.OTHER or op in kept.DIVISION:
                    self.kept_constants.append((value, node, (other.node,)))

    def replace_everywhere(self, old: Value, new: Value, at: ast.AST) -> None:
        if not isinstance(old, Tensor) or old.origin in ("parameter", "leaf"):
            return
        for names in (self.state.env, *self.state.outer):
            for name, value in names.items():
                if value is old:
                    names[name] = new
        for oid, obj in self.state.heap.items():
            if any(value is old for value in obj.items) or any(value is old for _, value in obj.fields):
                fields = tuple((name, new if value is old else value) for name, value in obj.fields)
                items = tuple(new if value is old else value for value in obj.items)
                self.state.heap[oid] = Obj(obj.kind, obj.cls, fields, items, obj.many)
        view, base = self.views.get(id(old), (None, None))
        if view is old and base is not None and isinstance(new, Tensor) and base.node != new.node:
            parts = [(base.node, Edge.LIVE), (new.node, Edge.LIVE)]
            number = self.combine("torch.Tensor.__setitem__", parts, at, note=WHOLE, keep_off=True)
            self.replace_everywhere(base, Tensor(number, base.dtype, base.shape), at)

    def special(self, receiver: Value, name: str, args: list[Value], node: ast.AST) -> Value | None:
        """What a special method of the object's own class gives: `__getitem__`; None where it has none."""
        obj = self.obj(receiver)
        if obj is None or obj.kind != "instance" or not isinstance(obj.cls, Class):
            return None
        fid = self.world.find_method(obj.cls.cid, name)
        if fid is None:
            return None
        return self.call(Bound(receiver, Func(fid)), args, {}, as_call(node))

    def unknown_call(
        self, why: str, function: Value | None, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        raise NotImplementedError

    # -- displays

    def tuple_(self, node: ast.Tuple) -> Value:
        return Seq(tuple(self.elements(node.elts)))

    def elements(self, nodes: list[ast.expr]) -> list[Value]:
        out: list[Value] = []
        for item in nodes:
            if isinstance(item, ast.Starred):
                value = self.evaluate(item.value)
                known = self.items(value)
                out += known if known is not None else (self.element_of(value, item),)
            else:
                out.append(self.evaluate(item))
        return out

    def list_(self, node: ast.List) -> Value:
        many = any(
            isinstance(item, ast.Starred) and not isinstance(item.value, (ast.Tuple, ast.List))
            for item in node.elts
        )
        return self.allocate(Obj("list", None, items=tuple(self.elements(node.elts)), many=many))

    def set_(self, node: ast.Set) -> Value:
        return self.allocate(Obj("list", None, items=tuple(self.elements(node.elts))))

    def dictionary(self, node: ast.Dict) -> Value:
        fields: dict[str, Value] = {}
        rest: list[Value] = []
        for key, item in zip(node.keys, node.values, strict=True):
            value = self.evaluate(item)
            if key is None:
                obj = self.obj(value)
                if obj is not None and obj.kind == "dict":
                    fields.update(obj.fields)
                    rest += obj.items
                else:
                    rest.append(value)
                continue
            name = self.evaluate(key)
            if isinstance(name, Const):
                fields[repr(name.value)] = value
            else:
                rest.append(value)
        return self.allocate(Obj("dict", None, tuple(fields.items()), tuple(rest), bool(rest)))

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Value:
        before = dict(self.state.env)
        outer, context = self.graph.loops, self.context
        start = len(self.events)
        iterable = self.evaluate(node.generators[0].iter)
        parts = self.known_parts(node.generators, iterable, node.elt)
        size: int | None
        if parts is not None:
            items = tuple(self.evaluate(node.elt) for _ in self.turns(node.generators[0], parts))
            size = len(parts)
        else:
            size = self.generators(node.generators, iterable)
            value = self.evaluate(node.elt)
            items = (value,)
            if size is not None and 1 < size <= MOST_TURNS and self.has_objects(value):
                items = (value, *(self.evaluate(node.elt) for _ in range(size - 1)))  # a part for each turn
            elif size is not None and 0 < size <= 16 and not any(True for _ in self.nodes_in(value)):
                items = (value,) * size
        self.graph.loops, self.context = outer, context
        self.repeats(start, [node.elt], [one.target for one in node.generators])
        self.state.env = {**before}
        if self.state.module is not self.state.env and self.at_module_level:
            self.state.module = self.state.env
        if only_requiring(node) and isinstance(items[0], Tensor) and items[0].origin == "parameter":
            return Params((items[0].node,), False, False, False, True)
        return self.allocate(Obj("list", None, items=items, many=size is None or len(items) != size))

    def dictionary_comprehension(self, node: ast.DictComp) -> Value:
        before = dict(self.state.env)
        outer, context = self.graph.loops, self.context
        iterable = self.evaluate(node.generators[0].iter)
        parts = self.known_parts(node.generators, iterable, node.value)
        made = Obj("dict", None)
        if parts is not None:
            for _ in self.turns(node.generators[0], parts):
                key, value = self.evaluate(node.key), self.evaluate(node.value)
                if isinstance(key, Const):
                    made = made.with_field(repr(key.value), value)
                else:
                    made = Obj("dict", None, made.fields, (*made.items, value), many=True)
        else:
            self.generators(node.generators, iterable)
            self.evaluate(node.key)
            made = Obj("dict", None, items=(self.evaluate(node.value),), many=True)
        self.graph.loops, self.context = outer, context
        self.state.env = before
        if self.at_module_level:
            self.state.module = self.state.env
        return self.allocate(made)

    def known_parts(
        self, generators: list[ast.comprehension], iterable: Value, node: ast.expr
    ) -> tuple[Value, ...] | None:
        """A few known modules or constants that a comprehension runs over: each turn does something of its
        own."""
        items, obj = self.items(iterable), self.obj(iterable)
        if len(generators) > 1 or generators[0].ifs or items is None or not 1 < len(items) <= MOST_TURNS:
            return None
        if obj is not None and obj.many:
            return None
        own = any(map(self.has_objects, items)) or all(isinstance(item, Const) for item in items)
        named = all(isinstance(item, Seq) and isinstance(item.items[0], Const) for item in items)
        return items if own or named or (makes(node) and all(map(is_constant, items))) else None

    def turns(self, generator: ast.comprehension, items: tuple[Value, ...]) -> Iterator[None]:
        """Each turn of a comprehension, its target bound."""
        self.each()
        for item in items:
            self.assign(generator.target, item, generator.iter)
            yield

    def has_objects(self, value: Value) -> bool:
        """Whether it is a module, an object or an optimizer, or a tuple with one."""
        if isinstance(value, Seq):
            return any(self.has_objects(item) for item in value.items)
        obj = self.obj(value)
        return obj is not None and obj.kind in ("module", "instance", "optimizer")

    def generators(self, generators: list[ast.comprehension], first: Value) -> int | None:
        """Binds the targets; the number of turns, where it is known. The first one runs over `first`."""
        size: int | None = 1
        for generator in generators:
            iterable = first
            if generator is generators[0]:
                self.each()
            else:
                iterable = self.evaluate(generator.iter)
            known = self.items(iterable)
            obj = self.obj(iterable)
            if known is None or (obj is not None and obj.many) or generator.ifs or size is None:
                size = None
            else:
                size *= len(known)
            self.assign(generator.target, self.element_of(iterable, generator.iter), generator.iter)
            for test in generator.ifs:
                self.evaluate(test)
        return size

    def each(self) -> None:
        """What is made from here on is made once for each element, like the body of a loop."""
        number = self.number()
        self.graph.loops = (*self.graph.loops, number)
        self.context = (*self.context, ("l", number, 0))
        self.event("each")

    # -- what they hold

    def items(self, value: Value) -> tuple[Value, ...] | None:
        """The known items of a sequence."""
        if isinstance(value, Seq):
            return value.items
        obj = self.obj(value)
        if obj is not None and (obj.kind == "list" or is_container(obj)):
            return obj.items
        if obj is not None and obj.kind == "record":
            return tuple(item for _, item in obj.fields)
        if obj is not None and obj.kind == "instance" and isinstance(obj.cls, Class):
            if self.world.derives(obj.cls.cid, "typing.NamedTuple"):
                return tuple(item for _, item in obj.fields)
        return None

    def element_of(self, value: Value, at: ast.AST) -> Value:
        """What iterating a value gives, standing for every element."""
        if isinstance(value, Choice):
            return self.joiner.values([self.element_of(option, at) for option in value.options])
        if isinstance(value, Seq):
            return self.joiner.values(value.items) if value.items else Unknown("an element of nothing")
        if isinstance(value, Tensor):
            node = self.combine("torch.Tensor.unbind", [(value.node, Edge.LIVE)], at)
            known = ranked(value.shape)
            return Tensor(node, value.dtype, known[1:] if known else None, value.role, "", value.exact)
        if isinstance(value, Array):
            number = self.combine("numpy.item", [(value.node, Edge.LIVE)], at, keep_off=True)
            known = ranked(value.shape)
            return Array(number, value.dtype, "", known[1:] if known else None, value.exact)
        if isinstance(value, Params):
            node = self.combine("parameters", [(n, Edge.LIVE) for n in value.nodes], at, keep_off=True)
            parameter = Tensor(node, "float", None, "", "parameter")
            return Seq((Unknown("a parameter's name"), parameter)) if value.named else parameter
        obj = self.obj(value)
        if obj is not None:
            if obj.kind == "dict":
                return Unknown("a key")
            if obj.kind == "record":
                return self.joiner.values([item for _, item in obj.fields])
            if isinstance(value, Ref) and is_library_model(obj):
                return part_named(self, value, ANY, at)  # type: ignore[arg-type]
            if obj.kind == "list" or is_container(obj):
                if obj.items:
                    return self.joiner.values(obj.items)
                return Unknown("an element of an empty list")
            if obj.kind == "object" and isinstance(obj.cls, Lib):
                return self.data_element(obj)
            if obj.kind == "instance":
                return self.own_element(value, at)
        if isinstance(value, Unknown) and value.node != NOWHERE:
            # Iterating something unknown: data, unless something better is known. The loop decides later.
            loop = next((str(number) for kind, number, _ in reversed(self.context) if kind == "l"), "")
            node = self.graph.add(
                Node("source", "element", (value.node,), (Edge.LIVE,), place=self.here(at), note=loop)
            )
            return Unknown("an element of something unknown", node)
        return value if is_plain(value) else Unknown("an element of something unknown")

    def own_element(self, value: Value, at: ast.AST) -> Value:
        """What iterating an object of the program gives, by its own methods."""
        known = self.items(value)
        if known:
            return self.joiner.values(known)
        iterator = self.special(value, "__iter__", [], at)
        if iterator is not None and iterator != value:
            return self.element_of(iterator, at)
        args: list[Value] = [Number()] if iterator is None else []
        element = self.special(value, "__getitem__" if args else "__next__", args, at)
        return element if element is not None else Unknown("an element of an object of the program")

    def data_element(self, obj: Obj) -> Value:
        """What a data loader gives: batches that require no gradient."""
        dataset = self.obj(obj.get("dataset"))
        if dataset is None:
            return Unknown("a batch of data")
        sample = dataset.get("@sample")
        if sample is None and dataset.items:
            many = dataset.kind == "list"
            sample = self.collated(self.joiner.values(dataset.items)) if many else Seq(dataset.items)
        size = obj.get("batch_size") or Const(1)
        settings = ("batch_sampler", "collate_fn")
        if sample is None or size == NONE or any(obj.get(key) not in (None, NONE) for key in settings):
            return Unknown("a batch of data")
        return self.batch_of(sample, 1 if size == Const(1) else MANY)

    def collated(self, item: Value) -> Value:
        """A sample of a data set, its tensors as one row of what the loader stacks."""
        if isinstance(item, (Tensor, Array)):
            known = ranked(item.shape)
            shape = (1, *known) if known is not None else None
            return Tensor(NOWHERE, item.dtype, shape, item.role, "", item.exact)
        if (isinstance(item, Const) and isinstance(item.value, (int, float))) or isinstance(item, Number):
            exact = literal_of(item)  # collated as numpy would
            return Tensor(NOWHERE, kind_of(exact), (1,), "", "", exact)
        if isinstance(item, Seq):
            return Seq(tuple(map(self.collated, item.items)))
        obj = self.obj(item)
        if obj is not None and obj.kind == "list" and not obj.many:
            return Seq(tuple(map(self.collated, obj.items)))
        if obj is not None and obj.kind == "dict":
            fields = tuple((key, self.collated(value)) for key, value in obj.fields)
            return self.allocate(Obj("dict", None, fields, tuple(map(self.collated, obj.items)), obj.many))
        return Unknown("a sample")

    def batch_of(self, value: Value, batch: int) -> Value:
        """One batch of what a data set holds: the first dimension is the batch."""
        if isinstance(value, Tensor):
            known = ranked(value.shape)
            shape = (batch, *known[1:]) if known else None
            return Tensor(NOWHERE, value.dtype, shape, value.role, "torch.utils.data", value.exact)
        if isinstance(value, Seq):
            return Seq(tuple(self.batch_of(item, batch) for item in value.items))
        obj = self.obj(value)
        if obj is not None and obj.kind == "dict":
            fields = tuple((key, self.batch_of(item, batch)) for key, item in obj.fields)
            items = tuple(self.batch_of(item, batch) for item in obj.items)
            return self.allocate(Obj("dict", None, fields, items, obj.many))
        return Unknown("a batch of data")

    def all_modules(self, values: tuple[Value, ...]) -> bool:
        return bool(values) and all(
            self.all_modules(value.options)
            if isinstance(value, Choice)
            else (obj := self.obj(value)) is not None and obj.kind in ("module", "instance")
            for value in values
        )

    def subscript(self, node: ast.Subscript) -> Value:
        receiver = self.evaluate(node.value)
        index = self.evaluate(node.slice)
        value = self.item(receiver, index, node)
        if isinstance(receiver, Tensor) and isinstance(value, Tensor) and not isinstance(index, Tensor):
            self.views[id(value)] = value, receiver
        return value

    def item(self, receiver: Value, index: Value, node: ast.AST) -> Value:
        if receiver == Lib("torchvision.models.__dict__"):
            return Lib(model.SOME_MODEL)
        if isinstance(receiver, Choice):
            return self.joiner.values([self.item(option, index, node) for option in receiver.options])
        if isinstance(receiver, Tensor):
            chosen = [(n, Edge.CUT) for n in self.nodes_in(index)]
            number = self.combine(
                "torch.Tensor.__getitem__",
                [(receiver.node, Edge.LIVE), *chosen],
                node,
                "index" if chosen else "",
                note=VIEW if receiver.node != NOWHERE and gives_view(node, index) else "",
            )
            role = receiver.role
            if receiver.origin == "torch.eye" or receiver.role == "identity":
                role = "one-hot"
            if role in ("probability", "log-probability", "logit") and isinstance(node, ast.Subscript):
                role = role if keeps_classes(node.slice) else ""
            shape = self.indexed_shape(receiver.shape, node, index)
            return Tensor(number, receiver.dtype, shape, role, "", receiver.exact)
        if isinstance(receiver, Array):
            number = self.combine("numpy.item", [(receiver.node, Edge.LIVE)], node, keep_off=True)
            role = "one-hot" if receiver.role == "identity" else receiver.role
            shape = self.indexed_shape(receiver.shape, node, index)
            return Array(number, receiver.dtype, role, shape, receiver.exact)
        if isinstance(receiver, Seq):
            if isinstance(index, Const) and isinstance(index.value, int):
                if -len(receiver.items) <= index.value < len(receiver.items):
                    return receiver.items[index.value]
                return Unknown("an index outside the tuple")
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
                bounds = [
                    self.evaluate(part) if part else NONE for part in (node.slice.lower, node.slice.upper)
                ]
                if all(
                    isinstance(bound, Const) and isinstance(bound.value, (int, type(None)))
                    for bound in bounds
                ):
                    low, high = (bound.value if isinstance(bound, Const) else None for bound in bounds)
                    if isinstance(low, int | None) and isinstance(high, int | None):
                        return Seq(receiver.items[low:high])
                return Unknown("a part of a tuple")
            return self.joiner.values(receiver.items) if receiver.items else Unknown("an item of nothing")
        obj = self.obj(receiver)
        if obj is not None:
            if obj.kind == "dict":
                if isinstance(index, Const):
                    value = obj.get(repr(index.value))
                    if value is not None:
                        return value
                made = self.made_item(receiver, obj, index, node)
                if made is not None:
                    return made
                return (
                    self.joiner.values(obj.held)
                    if obj.items or obj.fields
                    else Unknown("a key that is not known")
                )
            if obj.kind == "instance":
                row = self.items(receiver)
                if row is not None:
                    return self.item(Seq(row), index, node)
                value = self.special(receiver, "__getitem__", [index], node)
                if value is not None:
                    return value
            if obj.kind == "record":
                return self.item(Seq(tuple(item for _, item in obj.fields)), index, node)
            if obj.kind == "list" or is_container(obj):
                known = obj.get(repr(index.value)) if isinstance(index, Const) else None
                if known is not None:
                    return known
                if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
                    part = None if obj.many else known_part(node.slice, *self.bounds(node.slice))
                    items = obj.items if part is None else obj.items[part]
                    return self.allocate(Obj("list", obj.cls, items=items, many=part is None))
                if (
                    isinstance(index, Const)
                    and isinstance(index.value, int)
                    and not obj.many
                    and -len(obj.items) <= index.value < len(obj.items)
                ):
                    return obj.items[index.value]
                return self.joiner.values(obj.items) if obj.items else Unknown("an item of an empty list")
            if isinstance(receiver, Ref) and is_library_model(obj):
                position = str(index.value) if isinstance(index, Const) else ANY
                return part_named(self, receiver, position, node)  # type: ignore[arg-type]
            held = [value for _, value in obj.fields if not isinstance(value, Ref)]
            return self.unknown_call("an item of an object", None, [*held, *obj.items], {}, node)
        nodes = [(n, Edge.LIVE) for n in self.nodes_in(receiver)]
        why = receiver.why if isinstance(receiver, Unknown) else "an item of something unknown"
        return Unknown(why, self.combine("item", nodes, node, keep_off=True))

    def made_item(self, receiver: Value, obj: Obj, index: Value, node: ast.AST) -> Value | None:
        """What a dictionary with a factory makes of a key that it does not hold yet."""
        if obj.cls is None or not isinstance(receiver, Ref) or (obj.items and not isinstance(index, Const)):
            return None
        made = self.call(obj.cls, [], {}, as_call(node))
        obj = self.state.heap[receiver.oid]
        if isinstance(index, Const):
            self.put(receiver, obj.with_field(repr(index.value), made))
        else:
            self.put(receiver, Obj(obj.kind, obj.cls, obj.fields, (*obj.items, made), True))
        return made

    def indexed_shape(self, shape: Shape, node: ast.AST, index: Value) -> Shape:
        """The shape of `x[...]`: integers take a dimension away, `None` adds one, slices keep theirs."""
        known = ranked(shape)
        if known is None or not isinstance(node, ast.Subscript):
            return None
        written = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        values = index.items if isinstance(node.slice, ast.Tuple) and isinstance(index, Seq) else (index,)
        if len(written) != len(values):
            return None
        taken = sum(1 for value in values if value not in (NONE, Const(...)))
        out: list[int | None] = []
        left = list(known)
        chosen = 0
        for part, value in zip(written, values, strict=True):
            if value == NONE:
                out.append(1)
                continue
            if value == Const(...):
                count = len(known) - taken
                if count < 0:
                    return None
                out += left[:count]
                left = left[count:]
                continue
            if not left:
                return None
            size = left.pop(0)
            if isinstance(part, ast.Slice):
                out.append(sliced(size, part, *self.bounds(part)))
            elif isinstance(value, (Tensor, Array)):
                rows = ranked(value.shape)
                chosen += 1
                if chosen > 1 or rows is None or value.dtype not in ("int", "bool"):
                    return None
                if value.dtype == "bool":
                    out.append(None)  # as many as are true
                    left = left[len(rows) - 1 :]
                else:
                    out += rows
            elif not isinstance(value, Number) and not (
                isinstance(value, Const) and isinstance(value.value, int)
            ):
                return None
        return (*out, *left)

    def bounds(self, node: ast.Slice) -> tuple[Value, Value]:
        """The two ends of a slice, which were evaluated before."""
        simple = (ast.Constant, ast.Name, ast.UnaryOp)
        lower = self.evaluate(node.lower) if isinstance(node.lower, simple) else None
        upper = self.evaluate(node.upper) if isinstance(node.upper, simple) else None
        return (
            lower if lower is not None else NONE if node.lower is None else Number(),
            upper if upper is not None else NONE if node.upper is None else Number(),
        )

    def slice_(self, node: ast.Slice) -> Value:
        for part in (node.lower, node.upper, node.step):
            if part is not None:
                self.evaluate(part)
        return Unknown("a slice")


def makes(node: ast.expr) -> bool:
    """Whether an expression may make an object: it calls something that is named as classes are."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call):
            name = getattr(inner.func, "attr", getattr(inner.func, "id", ""))
            if name[:1].isupper():
                return True
    return False


def is_constant(value: Value) -> bool:
    """A number or a word, or a tuple of them."""
    return isinstance(value, Const) or (isinstance(value, Seq) and all(map(is_constant, value.items)))


def gives_view(node: ast.AST, index: Value) -> bool:
    """Whether a subscript of a tensor surely gives a part in the same memory: numbers and slices."""
    if not isinstance(node, ast.Subscript):
        return False
    written = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    values = index.items if isinstance(index, Seq) else (index,)
    return len(written) == len(values) and all(
        isinstance(part, ast.Slice)
        or (isinstance(value, Const) and not isinstance(value.value, bool))
        or (isinstance(value, Number) and value.kind != "bool")
        for part, value in zip(written, values, strict=True)
    )


def only_requiring(node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> bool:
    """`[p for p in model.parameters() if p.requires_grad]`."""
    tests = [test for generator in node.generators for test in generator.ifs]
    return len(tests) == 1 and isinstance(tests[0], ast.Attribute) and tests[0].attr == "requires_grad"


def is_container(obj: Obj) -> bool:
    """nn.Sequential, ModuleList and ParameterList hold their items in order."""
    if obj.kind != "module" or not isinstance(obj.cls, Lib):
        return False
    stub = model.module(obj.cls.name)
    return stub is not None and stub.container


def keeps_classes(index: ast.expr) -> bool:
    """`p[mask]`, `p[0:4]`, `p[i]` keep the class dimension; `p[:, 1]` does not."""
    if isinstance(index, ast.Tuple):
        return all(
            isinstance(part, ast.Slice) or (isinstance(part, ast.Constant) and part.value is None)
            for part in index.elts
        )
    return True


def known_part(node: ast.Slice, lower: Value, upper: Value) -> slice | None:
    """`[1:]`, `[:-1]`: a part whose bounds are known."""
    ends = [one.value if isinstance(one, Const) else ... for one in (lower, upper)]
    if node.step is not None or not all(isinstance(end, int | None) for end in ends):
        return None
    return slice(*ends)


def sliced(size: int | None, node: ast.Slice, lower: Value, upper: Value) -> int | None:
    """The size of a dimension after `[lower:upper]`; of `[i : i + 32]` that it is a batch."""
    if node.step is not None:
        return None
    if lower == NONE and upper == NONE:
        return size
    begin, end = (one.value if isinstance(one, Const) else ... for one in (lower, upper))
    if isinstance(begin, int | None) and isinstance(end, int | None):
        if size is not None and size >= 0:
            return len(range(size)[slice(begin, end)])
        if begin is None and end is not None and end > 0:
            return None if size is None else 1 if end == 1 else MANY
        return None
    step = node.upper
    if (
        isinstance(step, ast.BinOp)
        and isinstance(step.op, ast.Add)
        and node.lower is not None
        and ast.dump(step.left) == ast.dump(node.lower)
        and size is not None
    ):
        return (
            MANY
            if not isinstance(step.right, ast.Constant)
            else step.right.value
            if isinstance(step.right.value, int)
            else None
        )
    return None
