"""One row of the model: an operation, and how a row's text is read.

A row is `params | field value | field value`; missing fields are: other live, kind tensor, dtype
same, shape unknown, and nothing for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradsight.domain import Edge


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """What one function, method or attribute does to the gradient of each of its arguments.

    `edges` and `other`: by parameter name, and for every other argument; tensors inside a list or tuple count
    as that argument. Masks, conditions and indices are `NONE`: a value chosen by a mask depends on the mask,
    but no gradient was ever to be had there.
    `kind`: what comes back: "tensor", "number", "array" (numpy), "numbers" (nested lists of them), "tensors"
    (a tuple or list), "same" (the kind of the first argument), "none", "unknown".
    `dtype`: "float", "int", "bool", "same" (promoted from the arguments), "argument" (a dtype argument
    decides, without one it is that of the first argument), "unknown".
    `cause`: why an edge is CUT ("detach", "data", "numpy", "number", "rewrap", "integer", "comparison",
    "argmax", "random") or ZERO ("round", "random").
    `saves`: what backward needs: names of parameters, "result", or "buffer" for anything else (indices,
    masks, statistics). Empty: backward may run twice without retain_graph.
    `shape`: "same" (broadcast of the tensor arguments), "scalar", "reduce" (scalar without dim, else without
    that dimension), "view", "matmul", "stack", "cat", "linear", "unknown".
    `role`: "", "keep" (that of the argument), "logit", "probability", "log-probability", "log" (makes a
    log-probability of a probability), "index", "one-hot".
    `in_place`: writes its first argument and returns it.
    `results`: names of what comes back, where that is a pair: ("values", "indices") of sort and topk. What is
    called "indices", "lengths" or "exponent" is an integer tensor without gradient.
    `results_when`: "" (always a pair), "dim" (only where a dim is given: `x.max(1)` and `x.max(dim=1)` are
    pairs, `x.max()` and `x.max(other_tensor)` one tensor), "return_indices" (where that flag is true).
    `zero_when`: the name of an argument that makes every live edge ZERO if it is given and not None: the
    `rounding_mode` of div.
    """

    name: str
    params: tuple[str, ...]
    edges: Mapping[str, Edge]
    other: Edge
    kind: str
    dtype: str
    cause: str
    saves: frozenset[str]
    shape: str
    role: str
    in_place: bool
    raises: str
    results: tuple[str, ...]
    results_when: str
    zero_when: str

    def edge(self, param: str) -> Edge:
        """The edge of the argument bound to `param` (the name of a varargs parameter without its star)."""
        return self.edges.get(param, self.other)


EDGES = {edge.value: edge for edge in Edge}


def decode(name: str, *rows: str) -> Operation:
    """The operation that these rows describe; a later row wins field by field, its edges add to the earlier
    ones."""
    params: tuple[str, ...] = ()
    fields: dict[str, str] = {}
    edges: dict[str, Edge] = {}
    for row in rows:
        head, *parts = row.split("|")
        params = tuple(head.split()) or params
        for part in parts:
            field, _, value = part.strip().partition(" ")
            if field == "edges":
                edges.update(
                    (pair.partition(":")[0], EDGES[pair.partition(":")[2]]) for pair in value.split()
                )
            else:
                fields[field] = value
    return Operation(
        name,
        params,
        edges,
        EDGES[fields.get("other", "live")],
        fields.get("kind", "tensor"),
        fields.get("dtype", "same"),
        fields.get("cause", ""),
        frozenset(fields.get("saves", "").split()),
        fields.get("shape", "unknown"),
        fields.get("role", ""),
        "in_place" in fields,
        fields.get("raises", ""),
        tuple(fields.get("results", "").split()),
        fields.get("results_when", ""),
        fields.get("zero_when", ""),
    )
