"""Functions of `torch.compile` run as they were written while a network is watched: compiled, they hide their calls."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def eagerly() -> Iterator[None]:
    """Let the whole process run compiled functions eagerly until the last overlapping use ends."""
    with _LOCK:
        if not _USES.changed and "torch._dynamo" in sys.modules:  # nothing is compiled without it, and it loads slowly
            _USES.stack.enter_context(torch.compiler.set_stance("force_eager"))
            _USES.changed = True
        _USES.count += 1
    try:
        yield
    finally:
        with _LOCK:
            _USES.count -= 1
            if not _USES.count:
                _USES.stack.close()
                _USES.changed = False


class _Uses:
    """How many uses are open, and what puts the user's setting back."""

    count = 0
    changed = False
    stack = ExitStack()


_USES = _Uses()
_LOCK = threading.Lock()
