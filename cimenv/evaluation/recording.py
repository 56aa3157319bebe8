"""A call whose kernels are recorded once and launched again: on a GPU, where small kernels cost their launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

R = TypeVar("R")


def recorded(call: Callable[[], R], device: torch.device) -> Callable[[], R]:
    """Return a function that repeats a call, with the values that the tensors it reads have by then.

    On a GPU that is a CUDA graph: the results lie at the same place every time, so copy them before the next call.
    Elsewhere it is the call itself.

    Raises:
        RuntimeError: the call does what cannot be recorded, such as reading a value on the host.
    """
    if device.type != "cuda":
        return call
    here, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    aside.wait_stream(here)
    with torch.cuda.stream(aside):  # once outside, so that libraries have loaded what they need
        call()
    here.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def again() -> R:
        graph.replay()
        return results

    return again
