"""What is kept between two evaluations, so that a block at a late site costs little more than what follows it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from cimenv.compensation.options import Placement
from cimenv.evaluation.memory import tensor_bytes
from cimenv.evaluation.segments import State

Sums = list[Tensor]  # per call so far, `[2]`: ||Y' - Y||^2, ||Y'||^2
Key = tuple[Any, ...]
Kept = Mapping[Any, Any]  # tensors by whatever names them: a state, weights, outputs


class PrefixCache:
    """Least recently used tensors, above all the states in front of site calls, within `limit_bytes`."""

    def __init__(self, limit_bytes: int = 256 * 2**20) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self._entries: OrderedDict[Key, tuple[dict[Any, Any], Sums, int]] = OrderedDict()
        self._mutex = threading.Lock()

    def get(self, key: Key) -> tuple[dict[Any, Any], Sums] | None:
        """Return state and error sums, or None."""
        with self._mutex:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0], entry[1]

    def put(self, key: Key, state: Kept, sums: Sums) -> None:
        """Keep a state; the least recently used ones make room."""
        size = state_bytes(state)
        with self._mutex:
            if size > self.limit_bytes or key in self._entries:
                return
            self._entries[key] = (dict(state), list(sums), size)
            self.bytes += size
            while self.bytes > self.limit_bytes:
                _, (_, _, freed) = self._entries.popitem(last=False)
                self.bytes -= freed

    def clear(self) -> None:
        """Forget everything."""
        with self._mutex:
            self._entries.clear()
            self.bytes = 0


class Keeper:
    """Finds and keeps what the next run of a single placement may need again.

    That is the states of this placement (late sites are small, early ones may not be worth their memory), the clean
    network's outputs, and the chips' weights.
    """

    def __init__(
        self,
        cache: PrefixCache,
        placement: Placement,
        calls: tuple[int, ...],
        blocks: range,
        chips: Sequence[int],
        t_s: float,
    ) -> None:
        self.cache, self.blocks, self.chips, self.t_s = cache, len(blocks), len(chips), t_s
        decided = [sorted(set(calls[:call])) for call in range(len(calls))]
        self.prefixes = [tuple((s, placement[s]) for s in sites) for sites in decided]
        for block in blocks:  # used now, so that what this run adds takes the place of what it does not need
            self.cache.get(("clean", block))
            for chip in chips:
                self.latest(chip, block)

    def latest(self, chip: int, block: int) -> tuple[int, State, Sums] | None:
        """Return the state in front of the latest possible call."""
        for call in range(len(self.prefixes) - 1, 0, -1):
            entry = self.cache.get((chip, self.t_s, block, call, self.prefixes[call]))
            if entry is not None:
                return call, *entry
        return None

    def keep_state(self, chip: int, block: int, call: int, state: State, sums: Sums) -> None:
        """Keep the state in front of a call."""
        if call < len(self.prefixes):
            key = (chip, self.t_s, block, call, self.prefixes[call])
            self.keep(key, state, sums, self.blocks * self.chips)

    def keep(self, key: Key, state: Kept, sums: Sums, units: int) -> None:
        """Keep one of `units` parts, if all of them take at most a quarter of the memory."""
        if state_bytes(state) * units <= self.cache.limit_bytes / 4:
            self.cache.put(key, state, sums)


def state_bytes(state: Kept) -> int:
    """Return the bytes of the tensors in a state."""
    return tensor_bytes(dict(state))
