"""What learns, by the names under which the program reaches it, and the state of its gradients over time.

Invariants: reads the program's objects without calling the program's code (`vars`, never `getattr` on an
instance of a class of the program), and keeps the first and the last steps only.
"""

from __future__ import annotations

import collections
import math
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .makers import module_tensors
from .nodes import NoTorchFunction
from .record import Recorder

FIRST_STEPS = 100
LAST_STEPS = 100
DEPTH = 3
# Objects of these packages are not looked into.
OPAQUE = frozenset(
    [
        "torch",
        "numpy",
        "builtins",
        "argparse",
        "logging",
        "random",
        "collections",
        "itertools",
        "functools",
        "io",
    ]
)
PLAIN = (int, float, complex, str, bytes, bool, type(None), type, types.ModuleType, types.FunctionType)


def states_of(gradients: list[Any]) -> list[tuple[str, float | None]]:
    """`none|zero|nonzero|nonfinite` and the norm (None unless finite) of each; one read per device."""
    norms: list[Any] = [None] * len(gradients)
    with NoTorchFunction(), torch.no_grad():
        dense: list[Any] = []
        for gradient in gradients:
            if gradient is not None and gradient.layout != torch.strided:
                gradient = gradient.coalesce().values() if gradient.is_sparse else gradient.to_dense()
            dense.append(gradient)
        by_device: dict[Any, list[int]] = {}
        for index, gradient in enumerate(dense):
            if gradient is not None:
                by_device.setdefault(gradient.device, []).append(index)
        for indices in by_device.values():
            values = [torch.linalg.vector_norm(dense[index].detach()).float() for index in indices]
            for index, number in zip(indices, torch.stack(values).tolist()):  # noqa: B905 (Python 3.8)
                norms[index] = number
        result: list[tuple[str, float | None]] = []
        for gradient, norm in zip(dense, norms):  # noqa: B905
            if gradient is None:
                result.append(("none", None))
            elif norm == 0.0 and not bool(gradient.any()):
                result.append(("zero", 0.0))
            elif not math.isfinite(norm) and not bool(torch.isfinite(gradient).all()):
                result.append(("nonfinite", None))
            else:
                result.append(("nonzero", norm if math.isfinite(norm) else None))
    return result


class Steps:
    """Keeps the gradients' states after each backward, and what each optimizer saw at its last step."""

    def __init__(
        self, recorder: Recorder, namespace: dict[str, Any], file: str, tell: Callable[..., None]
    ) -> None:
        self._recorder = recorder
        self._namespace = namespace
        self._file = file
        self._tell = tell
        self._known: list[tuple[str, Any]] = []
        self._signature: Any = None
        self.count = 0
        self.first: list[dict[str, Any]] = []
        self.rest: collections.deque[dict[str, Any]] = collections.deque(maxlen=LAST_STEPS)
        self.loss: Any = None
        self.device: str | None = None
        self.seen: dict[int, tuple[str, float | None]] = {}  # by parameter: at the optimizer's last step
        self.after_backward: dict[int, tuple[str, float | None]] = {}
        self.asked_for: dict[
            int, tuple[str, float | None]
        ] = {}  # what autograd.grad gave, which fills no .grad
        self.optimizers: list[Any] = []

    def row_of(self, rows: list[tuple[str, int]]) -> int | None:
        own = [row for file, row in rows if file == self._file]
        return own[0] if own else rows[0][1] if rows else None

    def on_root(self, rows: list[tuple[str, int]], roots: list[Any]) -> None:
        if roots:
            root = roots[0]
            self.loss = root.detach() if root.numel() == 1 else None
            self.device = str(root.device)

    def on_backward(self, rows: list[tuple[str, int]]) -> None:
        self.count += 1
        known = self._parameters()
        states = states_of([tensor.grad if tensor.is_leaf else None for _, tensor in known])
        step: dict[str, Any] = {"row": self.row_of(rows), "parameters": []}
        self.after_backward = {}
        for (name, tensor), (state, norm) in zip(known, states):  # noqa: B905
            step["parameters"].append({"name": name, "gradient": state, "norm": norm})
            self.after_backward[id(tensor)] = (state, norm)
        if self.count <= FIRST_STEPS:
            self.first.append(step)
            self._tell("step", **step)
        else:
            self.rest.append(step)

    def on_grad(self, inputs: list[Any], gradients: list[Any]) -> None:
        leaves = [(tensor, gradient) for tensor, gradient in zip(inputs, gradients) if tensor.is_leaf]  # noqa: B905
        states = states_of([gradient for _, gradient in leaves])
        for (tensor, _), state in zip(leaves, states):  # noqa: B905
            self.asked_for[id(tensor)] = state

    def on_step(self, optimizer: Any) -> None:
        if not any(known is optimizer for known in self.optimizers):
            self.optimizers.append(optimizer)
        tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
        states = states_of([tensor.grad for tensor in tensors])
        for tensor, state in zip(tensors, states):  # noqa: B905
            self.seen[id(tensor)] = state

    def loss_value(self) -> float | None:
        if self.loss is None:
            return None
        with NoTorchFunction(), torch.no_grad():
            value = self.loss.item()
        return float(value) if not isinstance(value, complex) and math.isfinite(value) else None

    def parameters(self) -> list[dict[str, Any]]:
        """Each thing that learns, as the run left it."""
        self._signature, self._known = None, []
        known = self._parameters()
        holders = self._holders()
        states = states_of([tensor.grad if tensor.is_leaf else None for _, tensor in known])
        result = []
        for (name, tensor), (state, norm) in zip(known, states):  # noqa: B905
            key = id(tensor)
            shown = self.seen.get(key) or self.after_backward.get(key) or (state, norm)
            if shown[0] == "none" and key not in self.seen:
                shown = self.asked_for.get(key, shown)
            result.append(
                {
                    "name": name,
                    "gradient": state,
                    "at_last_step": shown[0],
                    "norm": shown[1],
                    "shape": list(tensor.shape),
                    "optimizer": holders.get(key),
                    "frozen": not tensor.requires_grad,
                    "made": [
                        {"filename": file, "row": row, "name": bound, "inner": inner}
                        for file, row, bound, inner in self._recorder.makers.places(tensor)
                    ],
                }
            )
        return result

    def devices(self) -> list[str]:
        return list(dict.fromkeys(str(tensor.device) for _, tensor in self._known))

    def _parameters(self) -> list[tuple[str, Any]]:
        objects = self._recorder.objects
        signature = (len(self._namespace), self._recorder.names_version, len(self.optimizers))
        if signature != self._signature:
            with NoTorchFunction():
                found = find_parameters(self._namespace, objects, self.optimizers)
            self._known, self._signature = found, signature
        return self._known

    def _holders(self) -> dict[int, str]:
        named: list[tuple[str, Any]] = []
        for name, value in _walk(self._namespace, "", 0, set()):
            if isinstance(value, torch.optim.Optimizer):
                named.append((name, value))
        for (_, name), refer in self._recorder.objects.items():
            value = refer()
            if isinstance(value, torch.optim.Optimizer):
                named.append((name, value))
        for value in self.optimizers:
            named.append((type(value).__name__, value))
        holders: dict[int, str] = {}
        for name, optimizer in named:
            for group in optimizer.param_groups:
                for tensor in group["params"]:
                    holders.setdefault(id(tensor), name)
        return holders


def find_parameters(
    namespace: dict[str, Any], objects: dict[tuple[str, str], Callable[[], Any]], optimizers: list[Any]
) -> list[tuple[str, Any]]:
    """Parameters and leaves with the shortest way by which the program reaches each: names first, then what
    they contain, then names inside functions, then what only an optimizer holds."""
    found: list[tuple[str, Any]] = []
    seen: set[int] = set()
    names: set[str] = set()

    def add(name: str, tensor: Any, scope: str = "") -> None:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            if name in names and scope:
                name = f"{scope}.{name}"
            names.add(name)
            found.append((name, tensor))

    def add_any(name: str, value: Any, scope: str = "") -> None:
        if isinstance(value, torch.Tensor):
            if value.is_leaf and (value.requires_grad or isinstance(value, torch.nn.Parameter)):
                add(name, value, scope)
        elif isinstance(value, torch.nn.Module):
            for inner, tensor in module_tensors(value):
                add(f"{name}.{inner}", tensor, scope)

    for name, value in list(namespace.items()):
        if not name.startswith("__"):
            add_any(name, value)
    for name, value in _walk(namespace, "", 0, set()):
        add_any(name, value)
    inside = [(scope, name, refer()) for (scope, name), refer in objects.items()]
    parts = {
        id(part)
        for _, _, value in inside
        if isinstance(value, torch.nn.Module)
        for part in value.modules()
        if part is not value
    }
    # `model` before `self.model`, and a layer's own `self.fc` last.
    inside.sort(key=lambda item: (id(item[2]) in parts, item[1].startswith("self.")))
    for scope, name, value in inside:
        add_any(name, value, scope)
    for optimizer in optimizers:
        for number, group in enumerate(optimizer.param_groups):
            for index, tensor in enumerate(group["params"]):
                name = f"{type(optimizer).__name__}.param_groups[{number}]['params'][{index}]"
                add(name, tensor)
    return found


def _walk(namespace: dict[str, Any], prefix: str, depth: int, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """What plain objects, lists and dicts of the program hold, to a small depth."""
    for name, value in list(namespace.items()):
        if not name.startswith("__"):
            yield from _walk_value(prefix + name, value, depth, seen)


def _walk_value(name: str, value: Any, depth: int, seen: set[int]) -> Iterator[tuple[str, Any]]:
    yield name, value
    if depth >= DEPTH or isinstance(value, (*PLAIN, torch.Tensor, torch.nn.Module, torch.optim.Optimizer)):
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, dict):
        for key, item in list(value.items())[:64]:
            yield from _walk_value(f"{name}[{key!r}]", item, depth + 1, seen)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value[:64]):
            yield from _walk_value(f"{name}[{index}]", item, depth + 1, seen)
    elif type(value).__module__.partition(".")[0] not in OPAQUE and isinstance(
        getattr(value, "__dict__", None), dict
    ):
        for key, item in list(vars(value).items()):
            yield from _walk_value(f"{name}.{key}", item, depth + 1, seen)
