"""What a run told: bindings, where the graph was cut between them, and the gradient that reached each.

A `Node` is one execution of one binding, a `Cut` one execution of an operation after which autograd no longer
knows its input. They point at what they were computed from, so that a call of `backward` can mark everything
that feeds it. Invariants: no tensor is kept alive (facts are keyed by identity and hold weak references), a
node's parents are dropped once it was marked, and results are kept per place of the program, not per
execution; so the memory taken does not grow with the length of a loop. Nothing here raises into the program.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch

from .makers import Makers
from .nodes import Cut, Fact, Gradient, Node, NoTorchFunction
from .rewrite import Site

BORING = (int, str, bytes, bool, type(None), type, range, slice)
DEPTH_LIMIT = 5000  # parents of a longer chain of bindings are forgotten
RECENT_NUMBERS = 1024
SHOWN_ELEMENTS = 4


class Recorder:
    """Takes what the rewritten program and the function mode tell, and keeps what a report needs."""

    def __init__(self, sites: list[Site]) -> None:
        self.sites = sites
        self.user_files: set[str] = set()
        self.paused = 0
        self.names: dict[Any, Node] = {}
        self.facts: dict[int, Fact] = {}
        self.numbers: collections.OrderedDict[int, tuple[Any, tuple[Cut, ...], Node | None]] = (
            collections.OrderedDict()
        )
        self.events: dict[tuple[str, int], list[Cut]] = {}
        self.last: dict[tuple[str, int, str], Node] = {}
        self.confirmed: dict[tuple[str, int, str], Node] = {}
        self.cuts: dict[tuple[str, int, str], Cut] = {}  # those that feed a root, by place
        self.seen_cuts: dict[tuple[str, int, str], Cut] = {}  # all
        self.named: dict[int, Any] = {}  # what was named before
        self.names_version = 0
        self.reached: list[Gradient] = []
        # Modules, optimizers and leaves by the function and the name they were bound to, behind a call.
        self.objects: dict[tuple[str, str], Callable[[], Any]] = {}
        self.makers = Makers()
        self.sinks = 0
        self.arrivals = 0
        self.pass_has_nonfinite = False
        self.culprits: list[Node] = []
        self.faults: list[str] = []
        self.grad_off: list[Any] = []  # frames that switched the grad mode off, innermost last
        self.pid = os.getpid()

    # -- told by the rewritten program ----------------------------------------------------------------

    def bind(self, index: int, value: Any) -> Any:
        if not self.paused:
            try:
                site = self.sites[index]
                self._bind(site, value, self._take_events(site) if self.events else ())
            except Exception as error:
                self.fault(error)
        return value

    def bind_all(self, indices: tuple[int, ...], values: tuple[Any, ...]) -> None:
        if self.paused:
            return
        try:
            events = self._take_events(self.sites[indices[0]]) if self.events else ()
            for position, index in enumerate(indices):
                self._bind(self.sites[index], values[position], events)
        except Exception as error:
            self.fault(error)

    def sink(self, index: int) -> None:
        """A gradient is about to be asked for: mark what the names there were computed from."""
        if self.paused:
            return
        try:
            self.sinks += 1
            site = self.sites[index]
            self._take_events(site)
            self.feed(self._named(site.deps))
        except Exception as error:
            self.fault(error)

    def fault(self, error: BaseException) -> None:
        """A mistake of ours: it must not disturb the program, and a test must be able to see it."""
        if os.environ.get("GRADSIGHT_PROBE_STRICT"):
            import traceback

            traceback.print_exc()
        if len(self.faults) < 20:
            self.faults.append(f"{type(error).__name__}: {error}")

    # -- bindings -------------------------------------------------------------------------------------

    def _take_events(self, site: Site) -> tuple[Cut, ...]:
        found: list[Cut] = []
        for row in range(site.first_row, site.end_row + 1):
            found += self.events.pop((site.file, row), ())
        return tuple(found)

    def _named(self, deps: Iterable[Any]) -> list[Node]:
        found = []
        for candidates in deps:
            for key in candidates:
                node = self.names.get(key)
                if node is not None:
                    found.append(node)
                    break
        return found

    def fact_of(self, value: Any) -> Fact | None:
        fact = self.facts.get(id(value))
        return fact if fact is not None and fact.ref() is value else None

    def make_fact(self, value: Any) -> Fact:
        fact = self.fact_of(value)
        if fact is None:
            key = id(value)
            facts = self.facts

            def forget(ref: Any, key: int = key) -> None:
                known = facts.get(key)
                if known is not None and known.ref is ref:
                    del facts[key]

            fact = facts[key] = Fact(weakref.ref(value, forget))
        return fact

    def cuts_of(self, value: Any) -> tuple[Cut, ...]:
        """The cuts that an object is known to descend from, by its identity."""
        fact = self.facts.get(id(value))
        if fact is not None and fact.ref() is value:
            return fact.cuts
        number = self.numbers.get(id(value))
        if number is not None and number[0] is value:
            return number[1]
        return ()

    def taint(self, value: Any, cuts: tuple[Cut, ...], node: Node | None = None) -> None:
        """Remembers that an object (a tensor, an array, a number) descends from `cuts`."""
        if isinstance(value, torch.Tensor) or type(value).__name__ == "ndarray":
            fact = self.make_fact(value)
            fact.cuts = cuts
            fact.node = node or fact.node
        elif isinstance(value, list):
            for item in value[:64]:
                self.taint(item, cuts, node)
        elif not isinstance(value, BORING):
            self.numbers[id(value)] = (value, cuts, node)
            if len(self.numbers) > RECENT_NUMBERS:
                self.numbers.popitem(last=False)

    def _bind(self, site: Site, value: Any, events: tuple[Cut, ...]) -> None:
        kind = type(value)
        if kind in BORING:
            if site.key is not None and site.kind != "update":
                self.names.pop(site.key, None)
            return
        if isinstance(value, torch.Tensor):
            with NoTorchFunction():
                node = self._bind_tensor(site, site.name, value, events)
        elif kind.__module__ == "numpy" or kind is float or kind is complex:
            node = self._bind_number(site, site.name, value, events)
        elif isinstance(value, (tuple, list, dict)):
            node = self._bind_container(site, value, events)
        elif isinstance(value, (torch.nn.Module, torch.optim.Optimizer)):
            self._name_object(site, site.name, value)
            return
        else:
            if site.kind == "bind" and kind.__module__ == "__main__":
                self._name_parts(site, value)
            node = self._start(site, site.name, value, events)
            if not node.parents and not node.seen_events:
                return
        if site.key is not None:
            self.names[site.key] = node

    def _name_parts(self, site: Site, value: Any) -> None:
        """What an object of the program holds is reached by the object's name: `gan.generator`."""
        for name, part in list(getattr(value, "__dict__", {}).items()):
            if isinstance(part, (torch.nn.Module, torch.optim.Optimizer)):
                self._name_object(site, f"{site.name}.{name}", part)

    def _name_object(self, site: Site, name: str, value: Any) -> None:
        """Keeps a module, an optimizer or a leaf by its name; an argument as long as the program does."""
        self.makers.bound(site, name, value)
        if site.kind == "return":
            return
        known = self.named.get(id(value))
        if known is None or known() is not value:
            self.named[id(value)] = weakref.ref(value)
            self.names_version += 1  # who reads `objects` looks again
            if len(self.named) > 10000:
                self.named.clear()
        key = (".".join(part for part in site.scope if part), name)
        self.objects[key] = weakref.ref(value) if site.kind == "argument" else lambda: value

    def _start(self, site: Site, name: str, value: Any, events: tuple[Cut, ...]) -> Node:
        """A node with what it was computed from."""
        node = Node(site, name)
        parents: dict[Any, Node] = {}
        seen = events
        for parent in self._named(site.deps):
            if parent.site is site and parent.name == name:
                # A value carried round a loop: what it came from instead of itself, newest of each place.
                for older in parent.parents:
                    parents.setdefault((older.site, older.name), older)
                seen += tuple(c for c in parent.seen_events + parent.cuts if c not in seen)[:8]
            else:
                parents[(parent.site, parent.name)] = parent
        node.parents = tuple(parents.values())
        node.depth = 1 + max([parent.depth for parent in node.parents] or [0])
        if node.depth > DEPTH_LIMIT:
            node.parents, node.depth = (), 0
        node.seen_events = seen
        for event in events:
            event.parents = event.parents or node.parents  # what stood on the row, if its operand had no name
        return node

    def _store(self, node: Node) -> None:
        node.shown = True
        key = (node.site.file, node.site.row, node.name)
        self.last[key] = node

    def _bind_tensor(self, site: Site, name: str, value: Any, events: tuple[Cut, ...]) -> Node:
        fact = self.fact_of(value)
        if fact is not None and fact.node is not None and site.kind != "update":
            # The very object is known already: what else stands on this row did not make it.
            node = Node(site, name)
            node.parents = (fact.node,)
            node.depth = fact.node.depth + 1
        else:
            node = self._start(site, name, value, events)
            if fact is not None and fact.node is not None:
                node.parents += (fact.node,)
        node.tensor = True
        node.requires_grad = value.requires_grad
        node.leaf = value.is_leaf
        node.floating = value.is_floating_point() or value.is_complex()
        node.shape = tuple(value.shape)
        node.dtype = str(value.dtype).replace("torch.", "")
        new = fact is None or fact.gradient is None
        if not node.requires_grad or (node.leaf and new):
            node.cuts = self._lost(site, node, fact, events)
        if fact is None:
            fact = self.make_fact(value)
        if node.requires_grad:
            for cut in node.cuts:
                cut.counts = True
            self._hook(node, fact, value)
            if node.leaf:
                self._name_object(site, name, value)
        elif node.cuts:
            fact.cuts = node.cuts
        fact.node = node
        self._store(node)
        return node

    def _lost(self, site: Site, node: Node, fact: Fact | None, events: tuple[Cut, ...]) -> tuple[Cut, ...]:
        """The cuts that a tensor without history descends from."""
        if fact is not None and fact.cuts:
            return fact.cuts
        left = tuple(event for event in events if not event.zero and event.shape is None)
        if left:
            return left[:4]
        # Numbers and arrays are followed by name; tensors are not, for the mode has seen what they went into.
        carried = [parent for parent in node.parents if not parent.tensor and parent.cuts]
        rewrapped = self._named(site.rewraps)
        for parent in rewrapped:
            if parent.cuts:
                carried.append(parent)
            elif parent.requires_grad:
                made = Cut(
                    site.file,
                    site.row,
                    "a new tensor",
                    "makes a new tensor from the numbers: the history is not taken along",
                    (parent,),
                )
                self._note(made)
                return (made,)
        cuts: dict[int, Cut] = {}
        for parent in carried:
            for cut in parent.cuts:
                cuts.setdefault(id(cut), cut)
        return tuple(cuts.values())[:4]

    def _bind_number(self, site: Site, name: str, value: Any, events: tuple[Cut, ...]) -> Node:
        node = self._start(site, name, value, events)
        cuts = self.cuts_of(value)
        if not cuts:
            left = [event for event in events if not event.zero]
            for parent in node.parents:
                left += parent.cuts
            cuts = tuple({id(cut): cut for cut in left}.values())[:4]
        known = self.numbers.get(id(value))
        if known is not None and known[0] is value and known[2] is not None and known[2] is not node:
            node.parents += (known[2],)
        node.cuts = cuts
        kind = type(value)
        node.dtype = str(getattr(value, "dtype", kind.__name__))
        node.shape = tuple(getattr(value, "shape", ()))
        node.floating = node.dtype.startswith(("float", "complex"))
        if cuts:
            self.taint(value, cuts, node)
            self._store(node)
        return node

    def _bind_container(self, site: Site, value: Any, events: tuple[Cut, ...]) -> Node:
        node = self._start(site, site.name, value, events)
        items: list[tuple[str, Any]]
        if isinstance(value, dict):
            items = [(f"{site.name}[{key!r}]", value[key]) for key in list(value)[:64]]
        elif site.kind == "update":
            items = [(site.name, item) for item in value[-2:]]  # what was there before is known by name
        else:
            items = [(f"{site.name}[{index}]", item) for index, item in enumerate(value[:64])]
        tensors = [(label, item) for label, item in items if isinstance(item, torch.Tensor)]
        expand = len(tensors) <= SHOWN_ELEMENTS and site.kind != "update"
        children: list[Node] = []
        for label, item in items:
            if isinstance(item, torch.Tensor):
                if expand:
                    with NoTorchFunction():
                        children.append(self._bind_tensor(site, label, item, events))
                    continue
                fact = self.fact_of(item)
                if fact is not None:
                    if fact.node is not None:
                        children.append(fact.node)
                    node.cuts += tuple(cut for cut in fact.cuts if cut not in node.cuts)
                if site.kind == "bind":
                    with NoTorchFunction():
                        if item.is_leaf and item.requires_grad:
                            self._name_object(site, label, item)
            elif isinstance(item, (torch.nn.Module, torch.optim.Optimizer)):
                self._name_object(site, label, item)
            else:
                node.cuts += tuple(cut for cut in self.cuts_of(item) if cut not in node.cuts)
        if not children and not node.cuts:
            node.cuts = tuple(event for event in events if not event.zero and event.shape is None)[:4]
        node.cuts = node.cuts[:4]
        node.parents += tuple(child for child in children if child not in node.parents)
        return node

    # -- gradients ------------------------------------------------------------------------------------

    def _hook(self, node: Node, fact: Fact, value: Any) -> None:
        gradient = fact.gradient
        if gradient is None or (gradient.version != value._version and not gradient.leaf):
            gradient = fact.gradient = Gradient(value._version, node.leaf, node)
            if node.leaf and value.grad is not None and value.grad.layout == torch.strided:
                # Seen after its backward: `for name, parameter in model.named_parameters()`.
                gradient.norm = torch.linalg.vector_norm(value.grad.detach())
            if (
                value.layout == torch.strided
                and not value.is_inference()
                and torch._C._functorch.maybe_current_level() is None
            ):
                with contextlib.suppress(RuntimeError):  # some views may not be hooked
                    value.register_hook(self._hook_of(gradient))
        node.gradient = gradient
        if len(gradient.nodes) > 32:
            del gradient.nodes[:-16]
        gradient.nodes.append(node)

    def _hook_of(self, gradient: Gradient) -> Callable[[Any], None]:
        def on_gradient(incoming: Any) -> None:
            if incoming is None:
                return  # a custom function gave none
            try:
                with NoTorchFunction(), torch.no_grad():
                    norm = torch.linalg.vector_norm(incoming)
                    if incoming.device.type == "cpu":
                        number = norm.item()
                        if number == 0.0:
                            gradient.zero = not bool(incoming.any())
                        else:
                            gradient.zero = False
                            if not math.isfinite(number) and bool(torch.isfinite(incoming).all()):
                                number = torch.linalg.vector_norm(incoming, dtype=torch.float64).item()
                        gradient.norm = number
                        if not math.isfinite(number) and not self.pass_has_nonfinite:
                            self.pass_has_nonfinite = True
                            self.culprits = list(gradient.nodes)
                    else:
                        gradient.norm = norm.detach()  # read when the run has ended: no synchronisation here
                self.arrivals += 1
                gradient.order = self.arrivals
                self.reached.append(gradient)
            except Exception as error:
                self.fault(error)

        return on_gradient

    def before_backward(self, roots: Iterable[Any], frame_rows: Iterable[tuple[str, int]]) -> None:
        """A gradient is asked for: marks what the roots were computed from."""
        self.sinks += 1
        self.pass_has_nonfinite = False
        starts: list[Node] = []
        cuts: list[Cut] = []
        for root in roots:
            fact = self.fact_of(root)
            if fact is not None:
                for cut in fact.cuts:
                    cut.counts = True
                cuts += fact.cuts
                if fact.node is not None:
                    starts.append(fact.node)
        for place in frame_rows:
            cuts += self.events.pop(place, ())
        self.feed(starts, cuts)

    def after_backward(self) -> None:
        reached, self.reached = self.reached, []
        nodes = [node for gradient in reached for node in gradient.nodes]
        self.feed(nodes)
        for gradient in reached:
            if gradient.leaf:
                for node in gradient.nodes:
                    if node is not gradient.creator:
                        node.gradient = own = Gradient(gradient.version, True, None)
                        own.norm, own.zero = gradient.norm, gradient.zero
                gradient.nodes = []
            else:
                gradient.nodes = gradient.nodes[-1:]

    def feed(self, starts: Iterable[Node], cuts: Iterable[Cut] = ()) -> None:
        """Marks everything that `starts` and `cuts` were computed from; each node once."""
        waiting: list[tuple[Cut, Any]] = [(cut, None) for cut in cuts]
        stack: list[tuple[Node, Cut | None, Cut | None, Node | None]] = [
            (node, None, None, None) for node in starts
        ]
        while stack or waiting:
            if not stack:
                cut, _ = waiting.pop()
                if cut.fed:
                    continue
                cut.fed = True
                self.count(cut)
                stack += [(parent, cut, None, None) for parent in cut.parents]
                cut.parents = ()
                continue
            node, behind, zero, consumer = stack.pop()
            if consumer is not None and len(node.consumers) < 8:
                node.consumers.append(consumer)
            if node.fed:
                if zero is not None and behind is None:
                    node.behind_zero = zero
                continue
            node.fed = True
            node.behind, node.behind_zero = behind, zero
            if node.shown:
                self.confirmed[(node.site.file, node.site.row, node.name)] = node
            for event in node.seen_events + node.cuts:
                if event.zero:
                    if behind is None:
                        event.fed = True
                        self.cuts[(event.file, event.row, event.op)] = event
                        zero = event
                else:
                    waiting.append((event, None))
            if node.cuts and behind is None:
                behind = next((cut for cut in node.cuts if not cut.zero), None)
            stack += [(parent, behind, zero, node) for parent in node.parents]
            node.parents = ()
            node.seen_events = tuple(event for event in node.seen_events if event.zero)

    def count(self, cut: Cut) -> None:
        """Keeps one cut of each place that feeds a root, one that counts before one that does not."""
        key = (cut.file, cut.row, cut.op)
        known = self.cuts.get(key)
        if known is None or not known.counts:
            self.cuts[key] = cut

    # -- cuts -----------------------------------------------------------------------------------------

    def _note(self, cut: Cut) -> None:
        self.seen_cuts.setdefault((cut.file, cut.row, cut.op), cut)

    def event(self, cut: Cut) -> None:
        """An operation cut the graph (or gave it a zero) at a row of the program."""
        self._note(cut)
        self.events.setdefault((cut.file, cut.row), []).append(cut)
        if len(self.events) > 10000 or len(self.events[(cut.file, cut.row)]) > 64:
            del self.events[(cut.file, cut.row)][:-16]
            if len(self.events) > 10000:
                self.events.clear()

    def absorb(self, place: tuple[str, int], cuts: tuple[Cut, ...], floating: bool, weighting: bool) -> None:
        """A value without history went into one that has one, at this place: as a number, or as an index."""
        kept = self.events.setdefault(place, [])
        for cut in cuts:
            if floating and not (weighting and cut.integer):
                cut.counts = True
            if cut not in kept and len(kept) < 64:
                kept.append(cut)

    def parents_of(self, values: Iterable[Any]) -> tuple[Node, ...]:
        found = []
        for value in values:
            fact = self.fact_of(value)
            if fact is not None and fact.node is not None:
                found.append(fact.node)
        return tuple(found)

    def user_rows(self, frame: Any) -> list[tuple[str, int]]:
        """The places of the program on the stack, innermost first."""
        rows = []
        while frame is not None:
            if frame.f_code.co_filename in self.user_files:
                rows.append((frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back
        return rows

    def place(self, skipped: tuple[str, ...], grad_off: bool) -> tuple[str, int] | None:
        """Where in the program the running operation was asked for; None in what torch does for itself."""
        frame: Any = sys._getframe(2)
        owner = None
        if grad_off:
            owner = next((item for item in reversed(self.grad_off) if item is not None), None)
        inner: tuple[str, int] | None = None
        latest: tuple[str, int] | None = None
        while frame is not None:
            file = frame.f_code.co_filename
            if file in self.user_files:
                latest = (file, frame.f_lineno)
                if inner is None:
                    inner = latest
                    if owner is None:
                        return inner
            elif inner is None and file.startswith(skipped):
                return None
            if frame is owner:
                return latest
            frame = frame.f_back
        return inner
