"""Torch's thread count: a setting of the whole process, changed only here and always restored."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def in_worker_process() -> bool:
    """Return whether this process was started by another one: OpenMP may not survive the fork that made it."""
    return multiprocessing.parent_process() is not None


def allowed_threads(count: int) -> int:
    """Return `count`, or one in a worker process."""
    return 1 if in_worker_process() else count


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch with `count` threads (one in a worker process) and restore the number.

    Overlapping uses from several Python threads share the first one's setting; the last one restores it.
    """
    with _LOCK:
        if not _OPEN:
            _OPEN.append(torch.get_num_threads())
            torch.set_num_threads(allowed_threads(count))
        else:
            _OPEN.append(0)
    try:
        yield
    finally:
        with _LOCK:
            if len(_OPEN) == 1:
                torch.set_num_threads(_OPEN[0])
                _OPEN.clear()
            else:
                _OPEN.pop()


_LOCK = threading.Lock()
_OPEN: list[int] = []  # the number to restore, then one entry for every further use
