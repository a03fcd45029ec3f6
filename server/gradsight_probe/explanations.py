"""What torch's errors about gradients mean, and what to do: data, matched loosely, for wording moves.

Each row: a pattern searched in "TYPE: MESSAGE" (case ignored), and the explanation. The first match counts,
so the particular stands before the general. Invariant: an explanation says what to change, in words that hold
wherever the message appears.
"""

from __future__ import annotations

import re

EXPLANATIONS: tuple[tuple[str, str], ...] = (
    # -- no graph, or no longer
    (
        r"element 0 of tensors does not require grad",
        "The value that backward() was called on has no way to anything that requires grad: the graph "
        "ended before it, or everything before it is frozen.",
    ),
    (
        r"backward through the graph a second time",
        "Two backward calls go through one graph, and the first has freed it. Sum the losses and call "
        "backward once; compute the shared part anew; or detach what is carried over from an earlier step "
        "(a hidden state).",
    ),
    (
        r"'(float|int|numpy\.\w+|ndarray)' object has no attribute 'backward'",
        "The loss has left torch (.item(), float(), math or numpy): keep it a tensor until after backward().",
    ),
    (
        r"(can only be|be) implicitly created only for scalar outputs",
        "backward() needs one number: reduce the loss with .mean() or .sum(), or pass a gradient of its "
        "shape.",
    ),
    (
        r"has been modified by an inplace operation",
        "A value that backward still needs was overwritten: by an in-place operation (x += 1, relu_(), "
        "x[i] = ...), or by optimizer.step() before a backward through the old weights. Write to a new "
        "tensor, or step after the last backward.",
    ),
    (
        r"a view of a leaf variable that requires grad is being used in an in-?place",
        "Part of a leaf that requires grad was written to in place: do it under torch.no_grad(), or write "
        "to a .clone() of it.",
    ),
    (
        r"a leaf variable that requires grad is being used in an in-?place",
        "A leaf that requires grad was changed in place: do it under torch.no_grad() (as an update), or "
        "write x = x + 1 (as a computation).",
    ),
    (
        r"can't call numpy\(\) on tensor that requires grad",
        "A tensor with a history was given to numpy. In a loss use the torch operation of the same "
        "meaning; for logging or plotting give numpy x.detach().cpu().",
    ),
    (
        r"only tensors created explicitly by the user .*deepcopy",
        "copy.deepcopy met a tensor with a history, often an activation that was stored on the module: "
        "store x.detach() there, or copy before the forward pass.",
    ),
    # -- what may require a gradient
    (
        r"only tensors of floating point (and complex )?dtype can require gradients",
        "Integers have no gradient: make the tensor of floats (1.0, dtype=torch.float32). The result of "
        "argmax or .long() cannot require grad either: it has left the differentiable part.",
    ),
    (
        r"you can only change requires_grad flags of leaf variables",
        "requires_grad can be changed on leaves only: use x.detach() to stop the gradient of a computed "
        "tensor.",
    ),
    (
        r"setting requires_grad=true on inference tensor",
        "A tensor made under inference_mode cannot require grad later: .clone() it outside, or use no_grad.",
    ),
    (
        r"inference tensors cannot be saved for backward",
        "A tensor made under inference_mode meets one that learns: make it under torch.no_grad(), or "
        ".clone() it outside of the block.",
    ),
    (
        r"inplace update to inference tensor",
        "A tensor made under inference_mode is changed outside of it: .clone() it first, or use "
        "torch.no_grad().",
    ),
    (
        r"can't retain_grad on tensor that has requires_grad=false",
        "retain_grad() asks for a gradient that will not be made: this tensor does not depend on anything "
        "that requires grad. Look for the cut before it.",
    ),
    (
        r"cannot register a hook on a tensor that doesn't require gradient",
        "A hook waits for a gradient that will not come: this tensor does not depend on anything that "
        "requires grad. Look for the cut before it.",
    ),
    (
        r"hook .* has changed the size of value",
        "The hook returned a gradient of another shape: return one of the shape it was given, or None.",
    ),
    (
        r"hook .* has changed the (type|dtype|device)",
        "The hook returned another kind of value: return a tensor like the one it was given, or None.",
    ),
    (
        r"cannot resize variables that require grad",
        "resize_() is not differentiable: use .reshape() or slicing, which are.",
    ),
    # -- modules
    (
        r"cannot assign parameters before module\.__init__\(\) call",
        "super().__init__() is missing, or stands after the first nn.Parameter: call it first in __init__.",
    ),
    (
        r"cannot assign module before module\.__init__\(\) call",
        "super().__init__() is missing, or stands after the first layer: call it first in __init__.",
    ),
    (
        r"cannot assign .* as parameter",
        "The name belongs to a parameter: write to it with `with torch.no_grad(): m.weight.copy_(t)`, or "
        "wrap the tensor in nn.Parameter.",
    ),
    (
        r"cannot assign .* object to parameter",
        "A parameter must be an nn.Parameter made of a leaf: wrap the values with nn.Parameter(x.detach()).",
    ),
    # -- optimizers
    (
        r"optimizer got an empty parameter list",
        "The module owns no parameter. Weights must be nn.Parameter attributes (plain tensors are not "
        "found), layers must be attributes or in a ModuleList.",
    ),
    (
        r"can't optimize a non-leaf tensor",
        "The optimizer was given a computed tensor: give it the leaf that was computed from. "
        "nn.Parameter(...).to(device) and nn.Parameter(...) * k are computed; put the operation inside.",
    ),
    (
        r"params argument given to the optimizer should be an iterable",
        "The optimizer takes a list: write [x] instead of x, or model.parameters().",
    ),
    (
        r"optimizer can only optimize tensors",
        "The optimizer was given names instead of tensors: pass model.parameters(), not state_dict() or "
        "named_parameters().",
    ),
    (
        r"float\(\) argument must be .*not '?nonetype",
        "If this happened in optimizer.step(closure): the closure must return the loss.",
    ),
    # -- autograd.grad, backward's arguments
    (
        r"differentiated tensors? .*not have been used in the graph",
        "autograd.grad was asked for something that the output does not depend on. Either the way is cut, "
        "or it is meant: allow_unused=True then gives None.",
    ),
    (
        r"one of the differentiated tensors does not require grad",
        "autograd.grad was asked for a tensor that does not require grad: set requires_grad=True on it "
        "before the forward pass.",
    ),
    (
        r"mismatch in shape: grad_output",
        "The gradient given to backward() must have the shape of the tensor it is called on.",
    ),
    (
        r"derivative for .* is not implemented",
        "This operation has no derivative: use a differentiable one in the loss, or take its input out "
        "with .detach() if nothing should learn through it.",
    ),
    # -- views and in-place
    (
        r"BackwardHookFunction is a view and is being modified inplace",
        "A module with a full backward hook is followed by an in-place operation: set inplace=False "
        "there, or hook the tensor (x.register_hook) instead of the module.",
    ),
    (
        r"output \d+ of \w+ is a view and is being modified inplace",
        "One of several views of a tensor (unbind, split, chunk, ...) was changed in place: use the out- "
        "of-place form (a = a + 1), or .clone() it first.",
    ),
    (
        r"more than one element of the written-to tensor refers to a single memory location",
        "An expanded tensor shares its memory: .clone() it before writing to it.",
    ),
    (
        r"can't detach views in-?place",
        "detach_() does not work on a view: use .detach().",
    ),
    # -- custom functions
    (
        r"returned an incorrect number of gradients",
        "backward of a custom autograd.Function must return one gradient for each argument of forward, "
        "None for those that need none.",
    ),
    (
        r"returned an invalid gradient at index",
        "backward of a custom autograd.Function must return gradients of the shapes of forward's "
        "arguments: sum over what was broadcast.",
    ),
    (
        r"legacy autograd function with non-static forward",
        "Old style: make forward and backward static methods with ctx first, and call MyFunction.apply(x).",
    ),
    (
        r"returned nan values in its \d+th output",
        "Anomaly detection found the first NaN in a gradient. Usual causes: sqrt or a norm at 0, log(0), "
        "0/0, or torch.where over such a value. Clamp the input, or add a small number before, not after.",
    ),
    # -- mixed precision and clipping
    (
        r"unscale_\(\) has already been called",
        "unscale_ was called twice between two updates: once before clipping is enough; call "
        "scaler.update() after each scaler.step().",
    ),
    (
        r"unscale_\(\) is being called after step",
        "Call scaler.unscale_(optimizer) before scaler.step(optimizer).",
    ),
    (
        r"no inf checks were recorded",
        "The optimizer's parameters have no gradient: backward was not called on the scaled loss, or the "
        "way from it to them is cut.",
    ),
    (
        r"attempting to unscale fp16 gradients",
        "The parameters themselves are half: keep them float32 (no model.half()) and use autocast.",
    ),
    (
        r"total norm .* non-finite",
        "A gradient holds NaN or infinity: look for the first row whose state is nonfinite.",
    ),
    (
        r"attempting to assign a gradient of size",
        "A gradient must have the shape of its tensor.",
    ),
    (
        r"attempting to assign a gradient with dtype|assigned grad has data of a different type",
        "A gradient must have the dtype of its tensor: convert it with .to(w.dtype).",
    ),
    # -- losses
    (
        r"expected floating point type for target with class probabilities",
        "The target looks like a one-hot of integers. Pass the class indices, which is the same loss.",
    ),
    (
        r"expected target dtype to be long|expected scalar type long but found"
        r"|expected .*long.* but got .*float"
        r"|nll_loss.*not implemented for 'float'",
        "Class indices must be integers: give the loss target.long().",
    ),
    (
        r"multi-target not supported",
        "The target has one dimension too many: pass indices of shape (N,), by target.argmax(dim=1) for a "
        "one-hot, by target.squeeze(1) for a column.",
    ),
    (
        r"elements of input should be between 0 and 1",
        "BCELoss takes probabilities: use BCEWithLogitsLoss on the raw output, or a sigmoid before.",
    ),
    (
        r"found dtype (long|double|int|bool) but expected (float|double|half)",
        "Input and target have different types: give the loss target.to(prediction.dtype).",
    ),
    (
        r"can't be cast to the desired output type",
        "The target has integers where floats are wanted: give the loss target.to(prediction.dtype).",
    ),
    (
        r"could not infer output dtype|mean\(\): .*(long|bool)|input dtype should be either floating point",
        "The mean of integers: what it is taken of has already left the differentiable part (argmax, "
        ".long(), a comparison). A .float() hides this error but brings no gradient back.",
    ),
    (
        r"boolean value of tensor with more than one value is ambiguous",
        "An `if` or `and` needs one truth: say .any() or .all(), or use torch.where for a choice per "
        "element.",
    ),
    (
        r"got unsupported scalartype bfloat16",
        "numpy has no bfloat16: x.float() before .numpy(). In a loss stay in torch.",
    ),
    (
        r"using a target size .* that is different to the input size",
        "Prediction and target have different shapes and are broadcast against each other: (N,1) against "
        "(N) compares all pairs. Use .squeeze(1) or .view_as().",
    ),
    (
        r"\.grad attribute of a tensor that is not a leaf",
        "Only leaves keep .grad: call x.retain_grad() before backward(), or look at the leaf.",
    ),
    (
        r"to copy construct from a tensor",
        "torch.tensor(x) copies the numbers without the history: use x itself, x.clone() or torch.stack.",
    ),
    (
        r"converting a tensor with requires_grad=true to a scalar",
        "A number made of a tensor has no history: fine for logging (x.item()), a cut in a loss.",
    ),
    (
        r"none of the inputs have requires_grad=true\. gradients will be none",
        "Reentrant checkpointing needs an input that requires grad: pass use_reentrant=False.",
    ),
    (
        r"implement a custom autograd\.function .*backward|you must implement .*backward",
        "A custom autograd.Function needs a backward to be differentiated.",
    ),
    # -- devices and memory
    (
        r"expected all tensors to be on the same device",
        "Model and data are on different devices: move both with .to(device).",
    ),
    (
        r"out of memory",
        "The device's memory is full: smaller batches, and look for losses kept with their graph (total "
        "+= loss instead of loss.item()).",
    ),
    # -- what the probe does not give
    (
        r"EOFError: EOF when reading a line",
        "The program asks for input and the probe has no keyboard: give the value a default, or read it "
        "from the command line.",
    ),
    (
        r"^Stopped: .*start a process",
        "The probe does not let the program start processes, for they could write anywhere.",
    ),
    (
        r"^Stopped: ",
        "The probe keeps the program from changing files, so that a trial run leaves no trace. What was "
        "seen up to this row is reported.",
    ),
    (
        r"^TimeLimit: ",
        "The time limit was reached: what was seen until then is reported. Raise it with --timeout, or "
        "select fewer rows.",
    ),
    (
        r"^os\._exit: ",
        "The program ended itself before its last row: what was seen until then is reported. sys.exit() "
        "would let it end properly.",
    ),
    (
        r"^ModuleNotFoundError: No module named",
        "The interpreter that runs the probe lacks this package: install it there, or name another "
        "interpreter with --python.",
    ),
)

_COMPILED = [(re.compile(pattern, re.IGNORECASE | re.DOTALL), text) for pattern, text in EXPLANATIONS]


def explain(kind: str, message: str) -> str | None:
    """What an error or a warning of this type and text means, or None."""
    full = f"{kind}: {message}"
    for pattern, text in _COMPILED:
        if pattern.search(full):
            return text
    return None
