"""A file seen once more, with an eye on one of its nodes: what hover and highlights are made of.

The functions that lead to the node are interpreted anew, with an event `seen` wherever the node is evaluated,
and beside the memo, so that nothing that was asked this way can change what is found. All other functions
are taken from the memo.
"""

from __future__ import annotations

from gradsight.interpret.codec import Key
from gradsight.interpret.memo import Entry
from gradsight.interpret.world import MOST_DEPTH, Watch, World


class Watching(World):
    """A world that has been analysed already, watched."""

    def __init__(self, world: World, watch: Watch) -> None:
        # The same version of the same file: what was settled there is settled here.
        self.__dict__.update(world.__dict__)
        self._stack, self._active, self._traces = [], set(), []
        self.watch = watch
        self._watched: dict[Key, Entry] = {}

    def _settled(self, key: Key) -> Entry:
        assert self.watch is not None
        depth = len(self._stack)
        kept = self._watched.get(key)
        if kept is not None and kept.record.fits(self._active, depth, MOST_DEPTH):
            return kept
        entry = super()._settled(key)
        if self.watch.fid not in entry.record.functions:
            return entry
        count = len(self.memo.analysed)
        entry = self._watched[key] = self._computed(key, self.regions[key.fid])
        del self.memo.analysed[count:]  # it counts what edits cost
        return entry
