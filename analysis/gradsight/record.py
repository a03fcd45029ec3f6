"""`dataclass`, `field` and `replace` of the standard library, as far as they are used, for a quick start.

A command line that checks one small file spends most of its time on loading itself, and a third of that went
into `dataclasses`, which loads `inspect` and compiles seven functions for each class. Here a class costs one.
Type checkers see the standard library's own. No inheritance, no class variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:
    from operator import attrgetter

    _MISSING = object()

    class _Field:
        __slots__ = ("compare", "default", "default_factory", "hash", "init", "repr")

        def __init__(self, default, default_factory, init, repr, compare, hash):
            self.default, self.default_factory = default, default_factory
            self.init, self.repr, self.compare = init, repr, compare
            self.hash = compare if hash is None else hash

    def field(*, default=_MISSING, default_factory=_MISSING, init=True, repr=True, compare=True, hash=None):
        return _Field(default, default_factory, init, repr, compare, hash)

    def dataclass(*, frozen=False, slots=False, eq=True):
        def decorate(cls):
            return _made(cls, frozen, slots, eq)

        return decorate

    def replace(record, /, **changes):
        """A copy with some fields changed."""
        for name, each in record.__record_fields__.items():
            if each.init and name not in changes:
                changes[name] = getattr(record, name)
        return type(record)(**changes)

    def _made(cls, frozen, slots, eq):
        fields = {}
        namespace = dict(cls.__dict__)
        for name in namespace.get("__annotations__") or cls.__annotations__:
            default = namespace.get(name, _MISSING)
            fields[name] = (
                default if isinstance(default, _Field) else _Field(default, _MISSING, True, True, True, None)
            )
        if slots:
            for name in fields:
                namespace.pop(name, None)
            namespace.pop("__dict__", None)
            namespace.pop("__weakref__", None)
            namespace["__slots__"] = tuple(fields)
            qualified = cls.__qualname__
            cls = type(cls)(cls.__name__, cls.__bases__, namespace)
            cls.__qualname__ = qualified
        else:
            for name, each in fields.items():
                if each.default is not _MISSING:
                    setattr(cls, name, each.default)
                elif isinstance(namespace.get(name), _Field):
                    delattr(cls, name)
        cls.__record_fields__ = fields
        cls.__match_args__ = tuple(name for name, each in fields.items() if each.init)
        cls.__init__ = init = _initialiser(fields, frozen, hasattr(cls, "__post_init__"))
        init.__qualname__ = f"{cls.__qualname__}.__init__"
        if "__repr__" not in namespace:
            cls.__repr__ = _shown
        if eq and "__eq__" not in namespace:
            compared = _getter([name for name, each in fields.items() if each.compare])

            def __eq__(self, other):
                return (
                    compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented
                )

            cls.__eq__ = __eq__
        if "__hash__" not in namespace or namespace["__hash__"] is None:
            if eq and frozen:
                hashed = _getter([name for name, each in fields.items() if each.hash])
                cls.__hash__ = lambda self: hash(hashed(self))
            elif eq:
                cls.__hash__ = None
        if frozen:
            cls.__setattr__ = _refuse
            cls.__delattr__ = _refuse
            if slots:
                cls.__getstate__ = _state
                cls.__setstate__ = _restore
        return cls

    def _getter(names):
        """The values of some fields as a tuple."""
        if len(names) > 1:
            return attrgetter(*names)
        return (lambda self: (getattr(self, names[0]),)) if names else (lambda self: ())

    def _initialiser(fields, frozen, post_init):
        parameters, body, known = [], [], {"_set": object.__setattr__, "_MISSING": _MISSING}
        for name, each in fields.items():
            value = name
            if each.default_factory is not _MISSING:
                known[f"_make_{name}"] = each.default_factory
                value = (
                    f"_make_{name}() if {name} is _MISSING else {name}" if each.init else f"_make_{name}()"
                )
            elif not each.init:
                known[f"_default_{name}"] = each.default
                value = f"_default_{name}"
            if each.init:
                has_default = each.default is not _MISSING or each.default_factory is not _MISSING
                if has_default:
                    known[f"_default_{name}"] = each.default
                parameters.append(f"{name}=_default_{name}" if has_default else name)
            body.append(f" _set(self,{name!r},{value})" if frozen else f" self.{name}={value}")
        if post_init:
            body.append(" self.__post_init__()")
        body = "\n".join(body) or " pass"
        exec(f"def __init__(self,{','.join(parameters)}):\n{body}", known)
        return known["__init__"]

    def _shown(self):
        shown = (
            f"{name}={getattr(self, name)!r}" for name, each in self.__record_fields__.items() if each.repr
        )
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _refuse(self, name, value=None):
        raise AttributeError(f"{type(self).__name__} is frozen: {name!r} cannot be changed")

    def _state(self):
        return [getattr(self, name) for name in self.__record_fields__]

    def _restore(self, state):
        for name, value in zip(self.__record_fields__, state, strict=True):
            object.__setattr__(self, name, value)


__all__ = ["dataclass", "field", "replace"]
