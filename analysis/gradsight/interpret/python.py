"""Functions of Python's own library that work on attributes, names and containers."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from gradsight.values import (
    NONE,
    Class,
    Const,
    Func,
    Lib,
    Obj,
    Params,
    Ref,
    Seq,
    Tensor,
    Unknown,
    Value,
)

if TYPE_CHECKING:
    from gradsight.interpret.statements import Statements


def _setattr(it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """`setattr(x, "name", value)`; with a name that is not known whatever `x` holds may be another one."""
    if len(args) < 3 or len(node.args) < 3:
        return NONE
    receiver, field, value = args
    if isinstance(field, Const) and isinstance(field.value, str):
        target = ast.copy_location(ast.Attribute(node.args[0], field.value, ast.Store()), node)
        it.set_attribute(target, value, node.args[2])
    elif isinstance(receiver, Ref) and (obj := it.obj(receiver)) is not None:
        unknown = Unknown("setattr with a computed name")
        fields = tuple((key, item if is_kept(item) else unknown) for key, item in obj.fields)
        more = (value,) if it.registers(value) else ()
        it.put(receiver, Obj(obj.kind, obj.cls, fields, (*obj.items, *more), obj.many or bool(more)))
    else:
        return it.unknown_call("`setattr` of something unknown", None, args, kwargs, node)
    return NONE


def is_kept(value: Value) -> bool:
    """Whether an attribute is a part that is hardly replaced under a name that is put together."""
    return isinstance(value, (Ref, Func, Params)) or (
        isinstance(value, Tensor) and value.origin == "parameter"
    )


def _exec(it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """Code that is not seen: any name of the module may be bound anew."""
    unknown = Unknown("`exec` may have bound it")
    for key, value in it.state.module.items():
        if not isinstance(value, (Lib, Class)) and value != Func(key):
            it.state.module[key] = unknown
    return NONE


def _reduce(it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """functools.reduce: the function over the items, one after the other; of many, once more than begun."""
    if len(args) < 2:
        return Unknown("reduce")
    items = it.items(args[1])
    items = items if items is not None and 0 < len(items) <= 8 else (it.element_of(args[1], node),)
    total, rest = (args[2], items) if len(args) > 2 else (items[0], items[1:] or items)
    for item in rest:
        total = it.call(args[0], [total, item], {}, node)
    return total


def _gather(it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """asyncio.gather: what each of its awaitables gives."""
    return Seq(tuple(args))


def _queue(it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """collections.deque, which a bound keeps from holding all that it is given."""
    items = it.items(args[0]) if args else ()
    obj = it.obj(args[0]) if args else None
    if items is None:
        items = (it.element_of(args[0], node),)
    many = (obj is not None and obj.many) or len(args) > 1 or "maxlen" in kwargs
    return it.allocate(Obj("list", None, items=items, many=many))


def _defaultdict(
    it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    """A dictionary that makes what it does not hold; the factory is kept beside its items."""
    made: Value = it.call_library("builtins.dict", args[1:], kwargs, node)
    obj = it.obj(made)
    if isinstance(made, Ref) and obj is not None and args and isinstance(args[0], (Lib, Func, Class)):
        it.put(made, Obj("dict", args[0], obj.fields, obj.items, obj.many))
    return made


def _namespace(
    it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    return it.allocate(Obj("object", Lib(name), tuple(kwargs.items())))


def _replace(it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """dataclasses.replace: a copy with other fields."""
    obj = it.obj(args[0]) if args else None
    if obj is None:
        return it.unknown_call("`dataclasses.replace` of something unknown", None, args, kwargs, node)
    for key, value in kwargs.items():
        obj = obj.with_field(key, value)
    return it.allocate(obj)


def _as_dict(it: Statements, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """dataclasses.asdict copies its tensors, vars gives them."""
    obj = it.obj(args[0]) if args else None
    if obj is None or obj.kind not in ("instance", "record", "object"):
        return Unknown("the attributes of something unknown")
    return it.allocate(Obj("dict", None, tuple((repr(key), value) for key, value in obj.fields)))


PYTHON = {
    "builtins.setattr": _setattr,
    "builtins.exec": _exec,
    "functools.reduce": _reduce,
    "asyncio.gather": _gather,
    "collections.deque": _queue,
    "collections.defaultdict": _defaultdict,
    "types.SimpleNamespace": _namespace,
    "argparse.Namespace": _namespace,
    "dataclasses.replace": _replace,
    "dataclasses.asdict": _as_dict,
    "contextlib.ExitStack": _namespace,
    "contextlib.AsyncExitStack": _namespace,
}
