"""What an evaluation holds at a time: chips, activations of every thread, kept prefixes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor

from cimenv.core.errors import ConfigError

MIB, GIB = 2**20, 2**30
LIVE = 5.0  # tensors of a site's output size that a walk holds a level: clean, input, output, after, a shortcut's
DRAWS = 4.0  # of the largest layer, while a chip is programmed: noise in double precision, and the weight
KEPT = 0.25  # of the limit: the most that prefixes take which are kept between runs
SLACK = 32 * MIB  # labels, logits, workspaces of convolutions


@dataclass(frozen=True)
class Room:
    """How an evaluation keeps within a limit.

    Attributes:
        chips: whose weights are held at a time.
        threads: that walk at a time.
    """

    chips: int
    threads: int


def room(
    limit: int, *, chip: int, largest: int, walk: int, threads: int, chips: int, always: int = 0, kept: int = 0
) -> Room:
    """Return how many chips and threads fit into a limit; fewer chips first, since they cost no time.

    Args:
        limit: bytes.
        chip: bytes of one chip's weights.
        largest: bytes of its largest layer.
        walk: bytes that one thread needs for one block of images.
        threads: wanted at most.
        chips: wanted at most.
        always: bytes that are held besides: counts.
        kept: bytes of kept prefixes, at most `KEPT` of the limit, with which they grow.

    Raises:
        ConfigError: not even one chip in one thread fits.
    """
    fixed = SLACK + always + DRAWS * largest
    for fewer in range(threads, 0, -1):
        fitting = int((limit - fixed - kept - fewer * walk) // max(chip, 1))
        if fitting >= 1:
            return Room(min(chips, fitting), fewer)
    bare = (fixed + walk + chip) / GIB
    needed = bare / (1 - KEPT) if kept and kept >= int(KEPT * limit) else bare + kept / GIB
    raise ConfigError(
        f"memory_limit: got {limit / GIB:.3g} GiB, and one chip of this network in one thread needs {needed:.3g}; "
        f"give at least {1.01 * needed:.3g}, or a smaller network."
    )


def tensor_bytes(held: Any) -> int:
    """Return the bytes of all tensors in (nested) dataclasses, mappings and tuples."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(held))


def _tensors(held: Any) -> Iterator[Tensor]:
    if isinstance(held, Tensor):
        yield held
        return
    parts: Iterable[Any] = ()
    if isinstance(held, dict):
        parts = held.values()
    elif isinstance(held, list | tuple):
        parts = held
    elif is_dataclass(held):
        parts = (getattr(held, field.name) for field in fields(held))
    for part in parts:
        yield from _tensors(part)
