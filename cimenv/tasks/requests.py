"""Requests for evaluations, and the resources with which they are computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch

from cimenv.compensation.options import Placement
from cimenv.core.config import checked_int
from cimenv.core.device import checked_device
from cimenv.core.errors import ConfigError, brief
from cimenv.core.progress import Progress, silent
from cimenv.core.threads import allowed_threads
from cimenv.data.splits import Split, checked_split
from cimenv.tasks.task import MOST_CHIPS, Task

MOST_THREADS = 1_024

Fidelity = Literal["bank", "tuned"]
Conditions = tuple[Split, Fidelity, range, tuple[float, ...]]


@dataclass(frozen=True)
class Request:
    """One placement, and under which conditions it is evaluated.

    Attributes:
        placement: one option index per site.
        split: whose images and chips: `val` or `test`.
        fidelity: `bank` (shared blocks) or `tuned` (blocks fitted for this placement).
        chips: numbers of the chips.
        times: seconds after programming.
    """

    placement: Placement
    split: Split
    fidelity: Fidelity
    chips: range
    times: tuple[float, ...]

    @staticmethod
    def of(
        task: Task,
        placement: Placement,
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
    ) -> Request:
        """Return the request for a task's placement; chips and times are the task's by default."""
        return Request(placement, split, fidelity, chip_numbers(task, split, fidelity, chips), task.times_s)

    @property
    def conditions(self) -> Conditions:
        """Return everything but the placement."""
        return self.split, self.fidelity, self.chips, self.times


@dataclass(frozen=True)
class Compute:
    """Where evaluations are computed; counts do not depend on it, but for rounding on a GPU.

    Attributes:
        threads: worker threads; None is torch's number, one in a worker process.
        device: `cpu` or `cuda`.
        progress: opens bars.

    Raises:
        ConfigError: when made with what is not allowed.
    """

    threads: int | None = None
    device: str = "cpu"
    progress: Progress = field(default=silent, compare=False)

    def __post_init__(self) -> None:
        if self.threads is not None:
            checked_int("threads", self.threads, 1, MOST_THREADS)
        checked_device(self.device, here=False)
        if not callable(self.progress):
            raise ConfigError(f"progress: got {brief(self.progress)}; give cimenv.core.progress.bar or silent.")

    @property
    def workers(self) -> int:
        """Return the number of worker threads."""
        return self.threads if self.threads is not None else allowed_threads(torch.get_num_threads())


def chip_numbers(task: Task, split: Split, fidelity: Fidelity, chips: int | range | None = None) -> range:
    """Return the numbers of the chips of an evaluation; by default `chips` of the task on val, `report_chips` on test.

    Raises:
        ConfigError: unknown split or fidelity, or fewer than one chip.
    """
    checked_split(split)
    if fidelity not in ("bank", "tuned"):
        raise ConfigError(f"fidelity: got {brief(fidelity)}; use 'bank' or 'tuned'.")
    if isinstance(chips, range):
        if not chips or chips.step != 1 or chips.start < 0:
            raise ConfigError(f"chips: got {chips}; give a range of at least one chip, in steps of 1.")
        checked_int("chips", chips.stop - chips.start, 1, MOST_CHIPS)
        checked_int("chips", chips.stop, 1)
        return chips
    count = chips if chips is not None else task.chips if split == "val" else task.report_chips
    return range(checked_int("chips", count, 1, MOST_CHIPS))


def alike(requests: Iterable[Request]) -> list[list[Request]]:
    """Return requests in groups of equal conditions, in their order."""
    groups: dict[Conditions, list[Request]] = {}
    for request in requests:
        groups.setdefault(request.conditions, []).append(request)
    return list(groups.values())
