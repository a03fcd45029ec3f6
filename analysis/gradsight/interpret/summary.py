"""What a function does, seen from outside: its graph pruned to what leaves it, its effects, its events.

Equality is that of `structure`, which leaves places out: a function whose lines only moved has an equal
summary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gradsight.graph import Graph
from gradsight.interpret.state import Event
from gradsight.values import Obj, Value


@dataclass(slots=True, eq=False)
class Summary:
    """Node numbers are those of `graph`, whose first `inputs` nodes stand for what the caller gives."""

    inputs: int
    graph: Graph
    returned: Value
    created: tuple[int, ...]  # objects made here that leave
    heap: tuple[tuple[int, Obj], ...]  # objects given or made here, as they are left
    module: tuple[tuple[str, Value], ...]  # names of the module that were rebound
    events: tuple[Event, ...]
    grad: str  # the gradient mode that it leaves, where that is another than it found; else ""
    counter: int  # how many loops and branches the events' contexts number
    structure: tuple[Any, ...] = field(default=())

    def __post_init__(self) -> None:
        self.structure = (
            self.inputs,
            tuple(node.structure() for node in self.graph.nodes),
            self.returned,
            self.created,
            self.heap,
            self.module,
            tuple(event.structure() for event in self.events),
            self.grad,
        )
