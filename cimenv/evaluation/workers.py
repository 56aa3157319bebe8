"""Blocks of images, and threads that take them in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar, cast

import torch

from cimenv.core.threads import torch_threads

T = TypeVar("T")
IMAGE_BLOCK = 125  # LeNet-5's activations of one block stay in a 1 MiB L2 cache
WIDE_IMAGE_BLOCK = 64  # so do those of a stage of quarter-width VGG-16 or ResNet-20
DEVICE_IMAGE_BLOCK = 2_000  # fills a GPU


class Map(Protocol):
    """The builtin `map`, perhaps over threads; results come in order."""

    def __call__(self, call: Callable[..., T], /, *items: Iterable[object]) -> Iterator[T]:
        """Return the results of `call` on the items."""


def image_block(layout: torch.memory_format) -> int:
    """Return how many images a processor computes at a time, from the network's layout (wide convolutions or not)."""
    return WIDE_IMAGE_BLOCK if layout == torch.channels_last else IMAGE_BLOCK


@contextmanager
def workers(threads: int) -> Iterator[Map]:
    """Give a map over threads; each runs torch on one thread, so that results do not depend on their number."""
    with torch_threads(1):
        if threads == 1:
            yield cast(Map, map)
        else:
            # In every thread: torch tells OpenMP only at its first convolution there, and a dot product may come first.
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield cast(Map, pool.map)
