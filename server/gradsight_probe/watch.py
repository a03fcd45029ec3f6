"""Watches torch while the program runs: cuts, backwards, optimizer steps, and the traps on the way.

One `TorchFunctionMode` sees every operation in Python and names the row at which a value lost its history.
Invariants: results and exceptions are torch's own; nothing is recorded inside `autograd.Function`, inside a
backward pass or inside torch's optimizers; gradients are read with tensor hooks only (module backward hooks
break in-place activations).
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .nodes import Cut
from .record import Recorder

TORCH = os.path.dirname(torch.__file__)
# What torch does here for itself is no cut of the program.
SKIPPED = tuple(
    os.path.join(TORCH, *part.split("/"))
    for part in [
        "optim",
        "nn/init.py",
        "nn/utils",
        "distributed",
        "amp",
        "_tensor_str.py",
        "testing",
        "utils/tensorboard",
    ]
)

ZERO_GRADIENT = {
    "RoundBackward0": "round",
    "RoundBackward1": "round",
    "FloorBackward0": "floor",
    "CeilBackward0": "ceil",
    "TruncBackward0": "trunc",
    "SignBackward0": "sign",
    "SgnBackward0": "sgn",
    "DivBackward2": "div with a rounding mode",
    "DivBackward3": "div with a rounding mode",
    "BernoulliBackward0": "bernoulli",
    "NormalBackward1": "torch.normal",
    "NormalBackward2": "torch.normal",
    "NormalBackward3": "torch.normal",
    "PoissonBackward0": "poisson",
    "ZeroBackward0": "zero_",
    "FillBackward1": "fill_",
    "FillBackward2": "fill_",
    "UniformBackward0": "uniform_",
}
LEAVES_TORCH = {
    "numpy": "an array of numpy",
    "__array__": "an array of numpy",
    "item": "a Python number",
    "tolist": "Python numbers",
    "__float__": "a Python number",
    "__int__": "a Python number",
    "__complex__": "a Python number",
    "__index__": "a Python number",
}
# Gives nothing that depends on the values of its input, or changes nothing about its history.
UNINTERESTING = frozenset(
    [
        "__bool__",
        "__len__",
        "__repr__",
        "__format__",
        "__str__",
        "__hash__",
        "size",
        "dim",
        "numel",
        "nelement",
        "ndimension",
        "stride",
        "is_floating_point",
        "is_complex",
        "is_contiguous",
        "is_nonzero",
        "is_inference",
        "is_same_size",
        "is_signed",
        "is_tensor",
        "register_hook",
        "retain_grad",
        "requires_grad_",
        "__deepcopy__",
        "__reduce_ex__",
        "__contains__",
        "__dir__",
        "data_ptr",
        "element_size",
        "untyped_storage",
        "storage",
        "get_device",
        "_set_grad_enabled",
        "register_post_accumulate_grad_hook",
        "zeros_like",
        "ones_like",
        "rand_like",
        "randn_like",
        "empty_like",
        "full_like",
        "randint_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "type_as",
        "has_names",
        "manual_seed",
    ]
)
OPERATORS = {
    **dict.fromkeys(("gt", "__gt__"), ">"),
    **dict.fromkeys(("lt", "__lt__"), "<"),
    **dict.fromkeys(("ge", "__ge__"), ">="),
    **dict.fromkeys(("le", "__le__"), "<="),
    **dict.fromkeys(("eq", "__eq__"), "=="),
    **dict.fromkeys(("ne", "__ne__"), "!="),
    "__and__": "&",
    "__or__": "|",
    "__xor__": "^",
    "__invert__": "~",
    **dict.fromkeys(("__floordiv__", "__rfloordiv__"), "//"),
    **dict.fromkeys(("__mod__", "__rmod__"), "%"),
    "__float__": "float()",
    "__int__": "int()",
    "__complex__": "complex()",
}
MOST_CUTS = 4
# Attributes whose value is a tensor; every other property is metadata.
TENSOR_PROPERTIES = frozenset(["data", "T", "mT", "H", "mH", "real", "imag"])
# A factor without history only weights what it is multiplied with.
WEIGHTING = frozenset(
    ["mul", "__mul__", "__rmul__", "mul_", "div", "__truediv__", "__div__", "masked_fill", "where"]
)
IN_PLACE = frozenset(["__setitem__", "copy_", "index_put_", "index_copy_", "masked_scatter_", "fill_"])


def _reason(name: str, result: Any) -> str:
    if name in ("detach", "detach_"):
        return f"`.{name}()` ends the graph here"
    if name == "data":
        return "`.data` ends the graph here"
    if torch.is_inference_mode_enabled():
        return "computed inside inference_mode: no graph is built"
    if not torch.is_grad_enabled():
        return "computed with the grad mode off (no_grad): no graph is built"
    if not (result.is_floating_point() or result.is_complex()):
        kind = str(result.dtype).replace("torch.", "")
        numbers = "truth values" if kind == "bool" else f"{kind} numbers"
        return f"`{_op_name(name)}` gives {numbers}, which have no gradient"
    if name in ("tensor", "new_tensor", "as_tensor"):
        return f"`torch.{name}` copies the numbers, not the graph"
    return f"`{name}` gives a value without gradient"


def _is_new_leaf(output: Any, operands: list[Any]) -> bool:
    try:
        return bool(output.is_leaf) and not any(output is operand for operand in operands)
    except RuntimeError:  # a view that was made with the grad mode off and written to with it on
        return False


def _op_name(name: str) -> str:
    """An operation as people write it."""
    if name in OPERATORS:
        return OPERATORS[name]
    if name in ("detach", "detach_", "data", "numpy", "item", "tolist", "cpu"):
        return ".data" if name == "data" else f".{name}()"
    return name


class Watch(TorchFunctionMode):
    """Sees each torch function that the program calls."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder = self.recorder
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(func.__self__, "__name__", "")
            if name not in TENSOR_PROPERTIES:
                return func(*args, **kwargs) if kwargs else func(*args)
        if recorder.paused or name in UNINTERESTING:
            return func(*args, **kwargs) if kwargs else func(*args)
        tensors = []
        lost: tuple[Cut, ...] = ()  # the cuts that an operand without history descends from
        for item in args:
            if isinstance(item, torch.Tensor):
                tensors.append(item)
            elif isinstance(item, (list, tuple)):
                for inner in item:
                    if isinstance(inner, torch.Tensor):
                        tensors.append(inner)
                    elif isinstance(inner, (list, tuple)):
                        tensors.extend(deep for deep in inner if isinstance(deep, torch.Tensor))
                    elif isinstance(inner, float):
                        lost = lost or recorder.cuts_of(inner)
            elif not isinstance(item, (int, str)):
                lost = lost or recorder.cuts_of(item)
        if kwargs:
            tensors.extend(item for item in kwargs.values() if isinstance(item, torch.Tensor))
        live = False
        counts = False
        facts = recorder.facts
        for tensor in tensors:
            cuts = recorder.cuts_of(tensor) if id(tensor) in facts else ()
            if cuts:
                lost = lost + tuple(cut for cut in cuts if cut not in lost) if lost else cuts
                counts = counts or tensor.is_floating_point() or tensor.is_complex()
            elif tensor.requires_grad:
                live = True
        try:
            result = func(*args, **kwargs) if kwargs else func(*args)
        except Exception:
            if live and name in LEAVES_TORCH:
                self._leaves(name, tensors, None, live, lost)  # numpy of a tensor with a history raises
            raise
        if live or lost:
            try:
                self._look(name, tensors, args, result, live, lost[:MOST_CUTS], counts)
            except Exception as error:
                recorder.fault(error)
        return result

    def _look(
        self,
        name: str,
        tensors: list[Any],
        args: Any,
        result: Any,
        live: bool,
        lost: tuple[Cut, ...],
        counts: bool,
    ) -> None:
        if name in LEAVES_TORCH:
            self._leaves(name, tensors, result, live, lost)
            return
        if isinstance(result, torch.Tensor):
            outputs = [result]
        elif isinstance(result, (tuple, list)):
            outputs = [item for item in result if isinstance(item, torch.Tensor)]
        else:
            outputs = []
        if name in IN_PLACE and args and isinstance(args[0], torch.Tensor):
            outputs = [args[0]]
        if not outputs:
            return
        recorder = self.recorder
        grad_off = not torch.is_grad_enabled()
        # A leaf that is none of the operands is new. (Indexing with the grad mode off makes such leaves too.)
        without = [output for output in outputs if not output.requires_grad or _is_new_leaf(output, tensors)]
        if len(without) < len(outputs):
            if lost:
                file_row = recorder.place(SKIPPED, False)
                if file_row is not None:
                    recorder.absorb(file_row, lost, counts, name in WEIGHTING)
            if live:
                self._look_for_zero(name, tensors, next(output for output in outputs if output.requires_grad))
        if not without:
            return
        if not live:
            for output in without:
                recorder.taint(output, lost)
            return
        explicit = name in ("detach", "detach_", "data")
        file_row = recorder.place(SKIPPED, grad_off and not explicit)
        if file_row is None:
            return
        output = without[0]
        cut = self._cut(file_row, name, _reason(name, output), tensors)
        cut.integer = not (output.is_floating_point() or output.is_complex())
        cut.counts = output.requires_grad and not grad_off
        cut.shape = tuple(output.shape)
        cut.dtype = str(output.dtype).replace("torch.", "")
        recorder.event(cut)
        for output in without:
            recorder.taint(output, (cut, *lost)[:MOST_CUTS])

    def _leaves(self, name: str, tensors: list[Any], result: Any, live: bool, lost: tuple[Cut, ...]) -> None:
        """A value became numbers of Python or an array: what is computed from it is followed by name."""
        file_row = self.recorder.place(SKIPPED, False)
        if file_row is None:
            return
        if live:
            what = "the conversion" if name == "__array__" else f"`{_op_name(name)}`"
            reason = f"{what} gives {LEAVES_TORCH[name]}: autograd does not see what is computed from it"
            cut = self._cut(file_row, name, reason, tensors)
            cut.integer = isinstance(result, int)
            cut.counts = not cut.integer
            self.recorder.event(cut)
            lost = (cut, *lost)[:MOST_CUTS]
        else:
            # The numbers are not found by identity in every case: tell the statement too.
            kept = self.recorder.events.setdefault(file_row, [])
            kept.extend(cut for cut in lost if cut not in kept)
            for cut in lost:
                if not cut.integer:
                    cut.counts = True
        self.recorder.taint(result, lost)

    def _look_for_zero(self, name: str, tensors: list[Any], output: Any) -> None:
        function = output.grad_fn
        zero = ZERO_GRADIENT.get(type(function).__name__) if function is not None else None
        if zero is None:
            return
        file_row = self.recorder.place(SKIPPED, False)
        if file_row is None:
            return
        reason = f"the gradient of `{zero}` is zero everywhere: nothing before it learns"
        cut = self._cut(file_row, name, reason, [], zero=True)
        cut.shape = tuple(output.shape)
        cut.dtype = str(output.dtype).replace("torch.", "")
        self.recorder.event(cut)

    def _cut(
        self, place: tuple[str, int], name: str, reason: str, tensors: list[Any], zero: bool = False
    ) -> Cut:
        parents = self.recorder.parents_of(item for item in tensors if item.requires_grad)
        return Cut(place[0], place[1], _op_name(name), reason, parents, zero)


class Patches:
    """Replaces functions of torch while the program runs, and puts them back."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        before = owner.__dict__[name]
        self._undo.append(lambda: setattr(owner, name, before))
        setattr(owner, name, value)

    def on_undo(self, undo: Callable[[], Any]) -> None:
        self._undo.append(undo)

    def undo(self) -> None:
        while self._undo:
            self._undo.pop()()


def install(recorder: Recorder, steps: Any, patches: Patches) -> None:
    """Puts everything but the mode in place."""
    _watch_backward(recorder, steps, patches)
    _watch_steps(recorder, steps, patches)
    _leave_optimizers_alone(patches)
    _ignore_custom_functions(recorder, patches)
    _watch_grad_mode(recorder, patches)
    _load_data_here(patches)


def _tensors_in(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [value]
    return (
        [item for item in value if isinstance(item, torch.Tensor)] if isinstance(value, (list, tuple)) else []
    )


def _watch_backward(recorder: Recorder, steps: Any, patches: Patches) -> None:
    original_backward = torch.autograd.backward
    original_grad = torch.autograd.grad

    def asked(original: Callable[..., Any], is_backward: bool) -> Callable[..., Any]:
        @functools.wraps(original)
        def ask(*args: Any, **kwargs: Any) -> Any:
            if recorder.paused:
                return original(*args, **kwargs)
            roots = _tensors_in(args[0] if args else kwargs.get("tensors", kwargs.get("outputs")))
            rows: list[tuple[str, int]] = []
            with torch._C.DisableTorchFunction():
                try:
                    rows = recorder.user_rows(sys._getframe(1))
                    recorder.before_backward(roots, rows[:1])
                    if is_backward:
                        steps.on_root(rows, roots)
                except Exception as error:
                    recorder.fault(error)
            recorder.paused += 1
            try:
                result = original(*args, **kwargs)
            finally:
                recorder.paused -= 1
                try:
                    recorder.after_backward()
                except Exception as error:
                    recorder.fault(error)
            with torch._C.DisableTorchFunction():
                try:
                    if is_backward:
                        steps.on_backward(rows)
                    else:
                        inputs = _tensors_in(args[1] if len(args) > 1 else kwargs.get("inputs"))
                        steps.on_grad(inputs, list(result))
                except Exception as error:
                    recorder.fault(error)
            return result

        return ask

    patches.set(torch.autograd, "backward", asked(original_backward, True))
    patches.set(torch.autograd, "grad", asked(original_grad, False))


def _watch_steps(recorder: Recorder, steps: Any, patches: Patches) -> None:
    try:
        from torch.optim.optimizer import (
            register_optimizer_step_post_hook,
            register_optimizer_step_pre_hook,
        )
    except ImportError:  # before torch 2.0: what the optimizer saw is then what the last backward left
        return

    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        try:
            with torch._C.DisableTorchFunction():
                steps.on_step(optimizer)
        except Exception as error:
            recorder.fault(error)

    def after(optimizer: Any, args: Any, kwargs: Any) -> None:
        # With a closure the gradients are made inside the step.
        if args[1:] if args and args[0] is optimizer else args or kwargs.get("closure") is not None:
            before(optimizer, args, kwargs)

    patches.on_undo(register_optimizer_step_pre_hook(before).remove)
    patches.on_undo(register_optimizer_step_post_hook(after).remove)


def _leave_optimizers_alone(patches: Patches) -> None:
    """Optimizers work without the mode, which has nothing to learn there and would cost most there."""
    optimizer_class = torch.optim.Optimizer
    original_zero = optimizer_class.zero_grad
    plain: dict[int, Any] = {}

    def is_plain(optimizer: Any) -> bool:
        """Whether no parameter is of a subclass, which may need its own torch functions."""
        known = plain.get(id(optimizer))
        count = sum(len(group["params"]) for group in optimizer.param_groups)
        if known is None or known[0]() is not optimizer or known[1] != count:
            kinds = {type(tensor) for group in optimizer.param_groups for tensor in group["params"]}
            known = (weakref.ref(optimizer), count, kinds <= {torch.Tensor, torch.nn.Parameter})
            plain[id(optimizer)] = known
        return bool(known[2])

    @functools.wraps(original_zero)
    def zero_grad(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_plain(self):
            return original_zero(self, *args, **kwargs)
        with torch._C.DisableTorchFunction():
            return original_zero(self, *args, **kwargs)

    patches.set(optimizer_class, "zero_grad", zero_grad)
    raw = optimizer_class.__dict__.get("profile_hook_step")
    if not isinstance(raw, staticmethod):
        return  # another torch: slower, not wrong
    original_hook = optimizer_class.profile_hook_step

    def profile_hook_step(step: Any) -> Any:
        hooked = original_hook(step)

        @functools.wraps(step)
        def alone(*args: Any, **kwargs: Any) -> Any:
            if len(args) != 1 or kwargs or not is_plain(args[0]):
                return hooked(*args, **kwargs)  # a closure is the program's own code
            with torch._C.DisableTorchFunction():
                return hooked(*args, **kwargs)

        return alone

    patches.set(optimizer_class, "profile_hook_step", staticmethod(profile_hook_step))


def _ignore_custom_functions(recorder: Recorder, patches: Patches) -> None:
    """What a custom function computes in its `forward` has no graph on purpose."""
    original = torch.autograd.Function.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        lost = tuple(cut for item in args for cut in recorder.cuts_of(item))
        if lost and not recorder.paused:
            place = recorder.place((), False)
            if place is not None:
                recorder.absorb(place, lost, True, False)
        recorder.paused += 1
        try:
            return original.__get__(None, cls)(*args, **kwargs)
        finally:
            recorder.paused -= 1

    patches.set(torch.autograd.Function, "apply", classmethod(apply))


def _watch_grad_mode(recorder: Recorder, patches: Patches) -> None:
    """Keeps the frame that switched the grad mode off: the graph ends there, not deep in a layer."""

    def frame_of(frame: Any) -> Any:
        while frame is not None:
            if frame.f_code.co_filename in recorder.user_files:
                return frame
            if frame.f_code.co_name == "decorate_context":
                return frame
            frame = frame.f_back
        return None

    def wrap(context: Any, switches_on_entry: bool) -> None:
        enter, leave = context.__enter__, context.__exit__

        @functools.wraps(enter)
        def on_enter(self: Any) -> Any:
            before = torch.is_grad_enabled() if switches_on_entry else bool(getattr(self, "prev", True))
            result = enter(self)
            switched_off = before and not torch.is_grad_enabled()
            recorder.grad_off.append(frame_of(sys._getframe(1)) if switched_off else None)
            return result

        @functools.wraps(leave)
        def on_exit(self: Any, *details: Any) -> Any:
            if recorder.grad_off:
                recorder.grad_off.pop()
            return leave(self, *details)

        patches.set(context, "__enter__", on_enter)
        patches.set(context, "__exit__", on_exit)

    wrap(torch.no_grad, True)
    wrap(torch.inference_mode, True)
    wrap(torch.set_grad_enabled, False)


def _load_data_here(patches: Patches) -> None:
    """Data loaders load in this process: worker processes would be refused, and are not watched."""
    from torch.utils.data import DataLoader

    original = DataLoader.__init__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        if bound.arguments.get("num_workers"):
            bound.arguments["num_workers"] = 0
            for name in ("prefetch_factor", "persistent_workers", "multiprocessing_context", "timeout"):
                bound.arguments.pop(name, None)
        original(*bound.args, **bound.kwargs)

    patches.set(DataLoader, "__init__", init)
