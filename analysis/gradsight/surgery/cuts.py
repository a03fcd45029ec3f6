"""The shapes that cuts have in the text: what stands below them, what wraps them, what makes tensors anew.

Knows expressions alone and makes no edits.
"""

from __future__ import annotations

import libcst as cst

from gradsight.surgery.piece import Piece, dotted
from gradsight.surgery.refusal import Refusal, words
from gradsight.text import Source

# What a method that cuts returns is its receiver's value.
CUT_METHODS = frozenset({"detach", "detach_", "item", "tolist", "numpy"})
_CLIMBED_METHODS = frozenset({"detach", "item", "tolist", "numpy", "requires_grad_", "detach_"})
# What makes a tensor anew from data, and what the result's dtype becomes.
REWRAPS = {
    "tensor": "",
    "as_tensor": "",
    "asarray": "",
    "from_numpy": "",
    "new_tensor": "",
    "Variable": "",
    "Tensor": "",
    "FloatTensor": "",
    "DoubleTensor": ".double()",
    "HalfTensor": ".half()",
    "BFloat16Tensor": ".bfloat16()",
}
# Also made anew, but right where a module is built: only seen where the caller points at it.
POINTED_AT = frozenset({"Parameter"})
_INTEGER_TYPES = frozenset({"int", "long", "short", "bool", "uint8", "int8", "int16", "int32", "int64"})
INTEGER_TENSORS = frozenset(
    {"LongTensor", "IntTensor", "ShortTensor", "ByteTensor", "CharTensor", "BoolTensor"}
)
# math functions that torch has for tensors, with torch's name.
MATH = {
    **{
        name: name
        for name in words(
            "exp expm1 exp2 log log2 log10 log1p sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh "
            "atanh erf erfc lgamma pow"
        )
    },
    "fabs": "abs",
    "radians": "deg2rad",
    "degrees": "rad2deg",
    "gamma": "",
}


def rewraps(call: cst.Call) -> bool:
    """Whether the call is one that makes a tensor anew from data."""
    return last_name(call.func) in REWRAPS or last_name(call.func) in INTEGER_TENSORS


def last_name(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.Name):
        return node.value
    return node.attr.value if isinstance(node, cst.Attribute) else ""


def unwrapped(node: cst.BaseExpression) -> cst.BaseExpression | None:
    """What one cut was put around, else None."""
    if isinstance(node, cst.Attribute):
        return node.value if node.attr.value == "data" else None
    if not isinstance(node, cst.Call):
        return None
    name = last_name(node.func)
    plain = [argument.value for argument in node.args if argument.keyword is None and not argument.star]
    if isinstance(node.func, cst.Attribute) and name in CUT_METHODS:
        if not plain:
            return node.func.value
        return plain[0] if len(plain) == 1 else None  # torch.detach(x)
    if isinstance(node.func, cst.Name) and name == "float" and len(plain) == 1:
        return plain[0]
    if name == "Variable" and plain:
        return plain[0]
    return None


def innermost(node: cst.BaseExpression) -> cst.BaseExpression:
    """The value below every cut that is wrapped directly around it."""
    while True:
        inner = unwrapped(node)
        if inner is None:
            # x.detach().cpu().numpy(): the copy to the CPU goes only with a cut around it
            return node
        below = inner
        while (
            isinstance(below, cst.Call)
            and isinstance(below.func, cst.Attribute)
            and below.func.attr.value == "cpu"
            and unwrapped(below.func.value) is not None
        ):
            below = below.func.value
        node = below


def climbed(piece: Piece, node: cst.BaseExpression) -> cst.BaseExpression:
    """The outermost expression that only wraps `node` and cuts (again)."""
    top = node
    while True:
        parent = piece.parent(top)
        above = piece.parent(parent) if parent is not None else None
        if isinstance(parent, cst.Attribute) and parent.value is top:
            name = parent.attr.value
            if name == "data":
                top = parent
                continue
            if isinstance(above, cst.Call) and above.func is parent and name in _CLIMBED_METHODS:
                top = above
                continue
        if isinstance(parent, cst.Arg) and isinstance(above, cst.Call) and parent is above.args[0]:
            if last_name(above.func) == "Variable":
                top = above
                continue
            if isinstance(above.func, cst.Name) and above.func.value == "float":
                top = above
                continue
        return top


def data_of(source: Source, piece: Piece, call: cst.Call) -> tuple[cst.BaseExpression, str] | Refusal:
    """What a rewrapping call is given, and what must follow it to keep dtype and device."""
    name = last_name(call.func)
    if name in INTEGER_TENSORS:
        return Refusal(f"`{name}` holds integers, which have no gradient")
    if not call.args or call.args[0].star:
        return Refusal(f"what `{name}` is given is not plain to see")
    value: cst.BaseExpression | None = None
    dtype = device = ""
    for i, argument in enumerate(call.args):
        keyword = argument.keyword.value if argument.keyword is not None else ""
        if argument.star:
            return Refusal(f"what `{name}` is given is not plain to see")
        text = piece.text(argument.value)
        if keyword in {"requires_grad", "volatile", "copy"} or (name == "Variable" and i == 1):
            continue
        if keyword in {"data", "obj"} or (not keyword and i == 0):
            value = argument.value
        elif keyword == "dtype" or (not keyword and i == 1 and name in {"as_tensor", "new_tensor"}):
            dtype = text
        elif keyword == "device" or (not keyword and i == 2 and name in {"as_tensor", "new_tensor"}):
            device = text
        else:
            return Refusal(
                f"`{name}` is given `{source.text[piece.span(argument).start : piece.span(argument).end]}`"
            )
    if value is None:
        return Refusal(f"what `{name}` is given is not plain to see")
    if dtype.rpartition(".")[2] in _INTEGER_TYPES:
        return Refusal(f"`{dtype}` has no gradient")
    if dtype == "None":
        dtype = ""
    if device == "None":
        device = ""
    given = ", ".join(part for part in (device, dtype) if part)
    suffix = REWRAPS.get(name, "") + (f".to({given})" if given else "")
    if dotted(call.func).endswith("cuda." + name):
        suffix = ".cuda()" + suffix
    return value, suffix
