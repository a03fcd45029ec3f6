"""Which lines of the program made what learns: for each parameter the binding that had it first, then those
that held it.

Invariants: no parameter is kept alive, and what is kept does not grow with the length of a loop.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch

from .nodes import NoTorchFunction
from .rewrite import Site

MOST_TENSORS = 20000
MOST_PLACES = 6


class Makers:
    """Told of each binding of a module or a leaf; asked for `places` when the run has ended."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[Any, list[tuple[str, int, str, str]]]] = {}
        self._looked: dict[int, tuple[Any, dict[int, int]]] = {}  # by module: at which sites, how often

    def bound(self, site: Site, name: str, value: Any) -> None:
        """`value`, a module or a leaf, was bound to `name`, returned, passed, or changed under that name."""
        if isinstance(value, torch.Tensor):
            self._add(site, name, "", value)
        elif isinstance(value, torch.nn.Module) and self._is_new(site, value):
            with NoTorchFunction():
                for inner, tensor in module_tensors(value):
                    self._add(site, name, inner, tensor)

    def places(self, tensor: Any) -> list[tuple[str, int, str, str]]:
        """File, row, the name that is bound there and the parameter's name within; its maker comes first."""
        known = self._places.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else []

    def _is_new(self, site: Site, module: Any) -> bool:
        """Whether this module was not seen here yet; one that grows (`append`) is looked at again."""
        known = self._looked.get(id(module))
        if known is None or known[0]() is not module:
            if len(self._looked) > MOST_TENSORS:
                self._looked.clear()
            known = self._looked[id(module)] = (weakref.ref(module), {})
        times = known[1].get(id(site), 0)
        if times > (64 if site.kind == "update" else 0) or len(known[1]) > MOST_PLACES:
            return False
        known[1][id(site)] = times + 1
        return True

    def _add(self, site: Site, name: str, inner: str, tensor: Any) -> None:
        known = self._places.get(id(tensor))
        if known is None or known[0]() is not tensor:
            if len(self._places) > MOST_TENSORS:
                return
            known = self._places[id(tensor)] = (weakref.ref(tensor), [])
        places = known[1]
        if places and site.kind == "argument":
            return  # only of what was made where it is passed is a function the first to know
        known_here = any((file, row) == (site.file, site.row) for file, row, _, _ in places)
        if len(places) < MOST_PLACES and not known_here:
            places.append((site.file, site.row, "" if site.kind == "return" else name, inner))


def module_tensors(module: Any) -> Iterator[tuple[str, Any]]:
    """A module's parameters, then what it holds without having registered it: plain tensors that require a
    gradient, and modules or parameters in plain lists and dicts."""
    yield from module.named_parameters()
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if name.startswith("_") and name in ("_parameters", "_buffers", "_modules"):
                continue
            path = f"{prefix}.{name}" if prefix else name
            if isinstance(value, torch.Tensor):
                if value.is_leaf and value.requires_grad:
                    yield path, value
            elif isinstance(value, (list, tuple, dict)):
                items = value.items() if isinstance(value, dict) else enumerate(value)
                for key, item in list(items)[:64]:
                    label = f"{path}[{key!r}]"
                    if isinstance(item, torch.nn.Module):
                        for inner, tensor in item.named_parameters():
                            yield f"{label}.{inner}", tensor
                    elif isinstance(item, torch.Tensor) and item.is_leaf and item.requires_grad:
                        yield label, item
