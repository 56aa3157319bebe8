"""What is kept between two evaluations, so that a block at a late site costs little more than what follows it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

Sums = list[tuple[float, float]]  # per call so far: ||Y' - Y||^2, ||Y'||^2
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
            found = self._entries.get(key)
            if found is None:
                return None
            self._entries.move_to_end(key)
            return found[0], found[1]

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


def state_bytes(state: Kept) -> int:
    """Return the bytes of the tensors in a state."""
    tensors = (value for value in state.values() if isinstance(value, Tensor))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
