"""The numerical check of one autograd.Function: what its backward gives, against differences of its forward.

While the program runs, the inputs that it gives to `.apply` are kept; afterwards `torch.autograd.gradcheck`
compares, in double precision, for the inputs that required a gradient in the program.

Invariants: nothing is made up, all values are the program's own, or parts of them; "differ" is said only if
the comparison fails at the program's values and a little beside them (a function need not have a derivative
where it bends), and only if the numerical derivative does not hang on the size of its step.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch

from .watch import Patches

MOST_CALLS = 4  # with different kinds of inputs, that are kept and checked
SMALL = 512  # elements of all inputs together, up to which each one is moved by itself
STEPS = (1e-6, 1e-4)
SAMPLED = 24  # elements of one input among which the worst is looked for
MESSAGE_LIMIT = 300
UNSTABLE = "the numerical gradient hangs on the size of its step, as where it computes in a lower precision"


class Enough(BaseException):
    """All that was to be seen of the program has been seen."""


class Calls:
    """The calls of the class `name` that `module` defines."""

    def __init__(self, name: str, module: str, recorder: Any) -> None:
        self.name, self._module, self._recorder = name, module, recorder
        self.function: Any = None
        self.kept: list[tuple[Any, ...]] = []
        self.count = 0
        self._kinds: set[Any] = set()
        self._sinks: int | None = None  # backward passes before the first call that is of use
        self._over = False

    def install(self, patches: Patches) -> None:
        original = torch.autograd.Function.__dict__["apply"]

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._over and cls.__name__ == self.name and cls.__module__ == self._module:
                self._see(cls, args)
            return original.__get__(None, cls)(*args, **kwargs)

        patches.set(torch.autograd.Function, "apply", classmethod(apply))

    def _see(self, cls: Any, args: tuple[Any, ...]) -> None:
        self.function = cls
        self.count += 1
        if self._sinks is not None and self._recorder.sinks > self._sinks:
            self._over = True  # a whole step has been seen: a training that goes on would show the same
            raise Enough
        differentiated = [item for item in args if _is_floating(item) and item.requires_grad]
        if not differentiated:
            return
        if self._sinks is None:
            self._sinks = self._recorder.sinks
        kind = tuple(_kind(item) for item in args)
        if kind not in self._kinds and len(self.kept) < MOST_CALLS:
            self._kinds.add(kind)
            self._recorder.paused += 1
            try:
                with torch.no_grad():
                    self.kept.append(tuple(_copied(item) for item in args))
            finally:
                self._recorder.paused -= 1

    def check(self) -> dict[str, Any]:
        """What came of it: `state` is "agree", "differ" or "unknown", `reason` why it is unknown or what
        torch says; `worst` is the place where the two are furthest apart; `inputs` were compared."""
        self._over = True
        if not self.kept:
            return self.unfinished() if not self.count else self.outcome("no gradient")
        outcome = self.outcome()
        torch.set_num_threads(1)  # of many small steps most would be waiting
        names = _names(self.function)
        compared: dict[int, str] = {}
        for args in self.kept:
            verdict = Comparison(self.function, args, names).verdict()
            compared.update((one, _name(names, one)) for one in _differentiated(args))
            outcome.update(verdict)
            if verdict["state"] != "agree":
                break
        outcome["inputs"] = [{"index": one, "name": compared[one]} for one in sorted(compared)]
        return outcome

    def unfinished(self) -> dict[str, Any]:
        """The program came to its end, or to its time limit, before anything could be compared."""
        return self.outcome("time" if self.count else "no call")

    def outcome(self, reason: str | None = None) -> dict[str, Any]:
        """Nothing is known, for this reason."""
        return {"name": self.name, "state": "unknown", "reason": reason, "worst": None, "inputs": []}


def _kind(item: Any) -> Any:
    if isinstance(item, torch.Tensor):
        return tuple(item.shape), str(item.dtype), item.requires_grad
    return repr(item)[:200] if isinstance(item, (bool, int, float, str, type(None))) else type(item)


def _copied(item: Any) -> Any:
    if not isinstance(item, torch.Tensor):
        return item
    return item.detach().clone().requires_grad_(_is_floating(item) and item.requires_grad)


def _is_floating(item: Any) -> bool:
    return isinstance(item, torch.Tensor) and (item.is_floating_point() or item.is_complex())


def _differentiated(args: tuple[Any, ...]) -> list[int]:
    return [at for at, item in enumerate(args) if _is_floating(item) and item.requires_grad]


def _names(function: Any) -> list[str]:
    """What forward calls its inputs, the context left out."""
    try:
        names = list(inspect.signature(function.forward).parameters)
    except (TypeError, ValueError):
        return []
    own = getattr(function, "setup_context", None)  # since torch 2.0: then forward has no context
    return names if own is not getattr(torch.autograd.Function, "setup_context", None) else names[1:]


def _name(names: list[str], at: int) -> str:
    return names[at] if at < len(names) else ""


class Comparison:
    """One call of a function, compared."""

    def __init__(self, function: Any, args: tuple[Any, ...], names: list[str]) -> None:
        self._function, self._args, self._names = function, args, names

    def verdict(self) -> dict[str, Any]:
        """`state`, `reason` and `worst`, as `Calls.check` has them."""
        whole = _in_double(self._args)
        if sum(item.numel() for item in whole if isinstance(item, torch.Tensor)) <= SMALL:
            return self._fails(whole) or self._compare(whole, self._gradcheck)
        small = _in_double(_smaller(self._args))
        if self._fails(small) is None and self._gradcheck(small) is None:
            return _outcome("agree")
        # A part may not be what the function is made for, and the whole is too much to move each element.
        return self._fails(whole) or self._compare(whole, self._sampled)

    def _run(self, args: Any) -> list[Any]:
        """The outputs that can be differentiated; what is random is the same each time."""
        torch.manual_seed(0)
        # Copies, for a function may write over what it is given, which no leaf allows.
        given = [item.clone() if isinstance(item, torch.Tensor) else item for item in args]
        out = self._function.apply(*given)
        outputs = out if isinstance(out, (tuple, list)) else (out,)
        return [item for item in outputs if _is_floating(item) and item.requires_grad]

    def _fails(self, args: tuple[Any, ...]) -> dict[str, Any] | None:
        """Why these inputs cannot be compared."""
        try:
            outputs = self._run(args)
        except Exception as error:
            return _outcome("unknown", "forward in double precision: " + _said(error))
        if not outputs:
            return _outcome("unknown", "no output of it requires a gradient")
        if any(item.dtype not in (torch.float64, torch.complex128) for item in outputs):
            kind = str(outputs[0].dtype).replace("torch.", "")
            return _outcome("unknown", f"it gives {kind} for float64, which is too coarse to compare")
        inputs = [args[one] for one in _differentiated(args)]
        try:
            total = sum(item.abs().sum() if item.is_complex() else item.sum() for item in outputs)
            torch.autograd.grad(total, inputs, allow_unused=True)
        except Exception as error:
            return _outcome("differ", "backward raises " + _said(error))
        return None

    def _compare(self, args: tuple[Any, ...], check: Callable[[Any], str | None]) -> dict[str, Any]:
        said = check(args)
        if said is None:
            return _outcome("agree")
        worst = self._worst(args)
        if worst is not None and worst.pop("unstable"):
            return _outcome("unknown", UNSTABLE)
        beside = _beside(args)
        if self._fails(beside) is None and self._is_finite(beside) and check(beside) is None:
            return _outcome("agree")
        return _outcome("differ", None if worst is not None else said, worst)

    def _gradcheck(self, args: tuple[Any, ...]) -> str | None:
        """None if it passes, else what torch says."""

        def function(*given: Any) -> Any:
            return tuple(self._run(given))

        try:
            torch.autograd.gradcheck(
                function, args, eps=1e-6, atol=1e-5, rtol=1e-3, nondet_tol=1e-5, check_undefined_grad=False
            )
        except Exception as error:
            return _said(error)
        return None

    def _sampled(self, args: tuple[Any, ...]) -> str | None:
        """The same at some elements of each input."""
        return None if self._worst(args) is None else "some elements differ"

    def _is_finite(self, args: tuple[Any, ...]) -> bool:
        return all(bool(torch.isfinite(item.detach()).all()) for item in self._run(args))

    def _worst(self, args: tuple[Any, ...]) -> dict[str, Any] | None:
        """Where analytic and numeric gradients of the outputs' sum are furthest apart; of a weighted sum, if
        the plain one shows nothing."""
        for weighted in (False, True):
            worst = self._worst_of(args, weighted)
            if worst is not None:
                return worst
        return None

    def _worst_of(self, args: tuple[Any, ...], weighted: bool) -> dict[str, Any] | None:
        outputs = self._run(args)
        inputs = _differentiated(args)
        if any(item.is_complex() for item in (*outputs, *(args[one] for one in inputs))):
            return None
        generator = torch.Generator().manual_seed(0)
        weights = [
            (torch.rand(item.shape, generator=generator, dtype=torch.float64) + 0.5).to(item.device)
            if weighted
            else torch.ones_like(item)
            for item in outputs
        ]
        total = sum((item * weights[at]).sum() for at, item in enumerate(outputs))
        gradients = torch.autograd.grad(total, [args[one] for one in inputs], allow_unused=True)
        found: list[tuple[float, int, int, float, float, float, bool]] = []
        for number, at in enumerate(inputs):
            gradient = gradients[number]
            some = torch.randperm(args[at].numel(), generator=generator)[:SAMPLED]
            for flat in some.tolist():
                analytic = 0.0 if gradient is None else float(gradient.reshape(-1)[flat])
                numeric, coarse = (self._difference(weights, args, at, flat, step) for step in STEPS)
                apart = abs(analytic - numeric)
                found.append((apart, at, flat, analytic, numeric, coarse, gradient is None))
        scale = max((max(abs(each[3]), abs(each[4])) for each in found), default=0.0)
        differ = [each for each in found if not each[0] <= 1e-8 + 1e-3 * max(abs(each[4]), 0.1 * scale)]
        if not differ:
            return None
        worst = max(differ, key=lambda each: each[0] if math.isfinite(each[0]) else math.inf)
        far, at, flat, analytic, numeric, coarse, none = worst
        return {
            "input": at, "name": _name(self._names, at), "element": _element(flat, args[at].shape),
            "analytic": analytic if math.isfinite(analytic) else None,
            "numeric": numeric if math.isfinite(numeric) else None,
            "none": none, "weighted": weighted,
            "unstable": abs(numeric - coarse) > 0.1 * far,
        }  # fmt: skip

    def _difference(
        self, weights: list[Any], args: tuple[Any, ...], at: int, flat: int, step: float
    ) -> float:
        """The central difference of the outputs' weighted sum for one element of one input."""
        values = []
        for sign in (1, -1):
            moved = args[at].detach().clone(memory_format=torch.contiguous_format)
            moved.view(-1)[flat] += sign * step
            values.append(self._run((*args[:at], moved.requires_grad_(), *args[at + 1 :])))
        # Differences first: a sum of many would swallow them.
        parts = [(values[0][at] - values[1][at]) * weight for at, weight in enumerate(weights)]
        return float(sum(part.detach().sum() for part in parts)) / (2 * step)


def _outcome(state: str, reason: str | None = None, worst: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"state": state, "reason": reason, "worst": worst}


def _said(error: Exception) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    text = text if len(text) <= MESSAGE_LIMIT else text[:MESSAGE_LIMIT].rstrip() + "…"
    return f"{type(error).__name__}: {text}"


def _in_double(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_doubled(item) if _is_floating(item) else item for item in args)


def _doubled(item: Any) -> Any:
    wide = torch.complex128 if item.is_complex() else torch.float64
    kept = item.detach().cpu() if item.device.type == "mps" else item.detach()
    return kept.to(wide).clone().requires_grad_(item.requires_grad)


def _smaller(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The first rows, columns, ... of each tensor; sizes that are equal stay equal, others stay different."""
    sizes = sorted(
        {size for item in args if isinstance(item, torch.Tensor) for size in item.shape if size > 1}
    )
    new = {size: min(size, 2 + rank) for rank, size in enumerate(sizes)}
    return tuple(
        item.detach()[tuple(slice(new.get(size, size)) for size in item.shape)].requires_grad_(
            item.requires_grad
        )
        if isinstance(item, torch.Tensor)
        else item
        for item in args
    )


def _beside(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inputs a little beside these ones."""
    generator = torch.Generator().manual_seed(0)

    def moved(item: Any) -> Any:
        kept = item.detach()
        noise = torch.randn(kept.shape, generator=generator, dtype=torch.float64).to(kept.device)
        return (kept + 1e-3 * (1 + kept.abs()) * noise).requires_grad_()

    return tuple(moved(item) if _is_floating(item) and item.requires_grad else item for item in args)


def _element(flat: int, shape: Any) -> list[int]:
    element: list[int] = []
    for size in reversed(shape):
        flat, at = divmod(flat, size)
        element.insert(0, at)
    return element
