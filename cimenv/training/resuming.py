"""Checkpoints of a fit, so that a killed one resumes and ends with the same weights, bit for bit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cimenv.compensation.fit_log import FitLog
from cimenv.compensation.options import Placement
from cimenv.core.errors import StoreError
from cimenv.core.store import Record, Store
from cimenv.data.splits import ImageSet
from cimenv.training.training_run import shuffled_batches

EVERY_S = 20.0  # of work that a kill may cost


class Batches:
    """Endless shuffled batches, epoch by epoch, whose position can be kept."""

    def __init__(
        self, train: ImageSet, batch_size: int, generator: torch.Generator, layout: torch.memory_format
    ) -> None:
        self.train, self.batch_size, self.generator, self.layout = train, batch_size, generator, layout
        self._begin()

    def _begin(self) -> None:
        self.start, self.taken = self.generator.get_state(), 0
        self._epoch: Iterator[tuple[Tensor, Tensor]] = shuffled_batches(
            self.train, self.batch_size, self.generator, self.layout
        )

    def __next__(self) -> tuple[Tensor, Tensor]:
        if self.taken == 0:
            self.start = self.generator.get_state()  # the order of images is drawn now, not when the epoch was made
        try:
            batch = next(self._epoch)
        except StopIteration:
            self._begin()
            batch = next(self._epoch)
        self.taken += 1
        return batch

    def restore(self, start: Tensor, taken: int) -> None:
        """Go to a position: where the generator stood when the epoch began, and batches taken since."""
        self.generator.set_state(start)
        self._begin()
        for _ in range(taken):
            next(self)


@dataclass
class Kept:
    """Where a fit is kept on its way.

    Attributes:
        store: keeps it.
        key: of the entry; names everything that the fit depends on.
        every_s: seconds between two entries.
    """

    store: Store
    key: str
    every_s: float = EVERY_S
    written: bool = False
    _last: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        """Whether it is time for another entry."""
        return time.monotonic() - self._last >= self.every_s

    def save(self, steps: int, state: FitState) -> None:
        """Write where a fit is after so many steps; what cannot be written costs no more than the time after a kill."""
        with contextlib.suppress(StoreError):
            self.store.put(self.key, state.to_record(steps))
            self.written = True
        self._last = time.monotonic()

    def load(self, state: FitState) -> int:
        """Restore a fit to the last checkpoint of a killed one; return the number of finished steps."""
        record = self.store.get(self.key)
        if record is None or not record.arrays:
            return 0
        self.written = True
        return state.restore(record)

    def done(self) -> None:
        """Empty the entry of a fit that is over."""
        if not self.written:
            return
        with contextlib.suppress(StoreError):
            self.store.put(self.key, Record())


@dataclass(frozen=True)
class Met:
    """The placement that every batch of a fit met, and how many of its images were correct.

    Attributes:
        placements: `[steps, sites]`.
        correct: `[steps]`, where the fit runs, which is not waited for.
    """

    placements: Tensor
    correct: Tensor

    @staticmethod
    def of(steps: int, sites: int, device: torch.device) -> Met:
        """Return an empty one."""
        return Met(torch.zeros(steps, sites, dtype=torch.uint8), torch.zeros(steps, dtype=torch.int64, device=device))

    def add(self, step: int, placement: Placement, correct: Tensor) -> None:
        """Note a batch."""
        self.placements[step] = torch.tensor(placement, dtype=torch.uint8)
        self.correct[step] = correct

    def log(self, steps: int, images: int) -> FitLog:
        """Return the first steps, of batches of so many images, as a log."""
        return FitLog(_array(self.placements[:steps]), _array(self.correct[:steps]), images)

    def arrays(self, steps: int) -> dict[str, Any]:
        """Return the first steps as arrays."""
        return {"met/placements": _array(self.placements[:steps]), "met/correct": _array(self.correct[:steps])}

    def restore(self, record: Record) -> None:
        """Take the first steps from a record."""
        for name, mine in (("placements", self.placements), ("correct", self.correct)):
            if (kept := record.arrays.get(f"met/{name}")) is not None:  # older versions kept none
                mine[: len(kept)] = _tensor(kept)


@dataclass(frozen=True)
class FitState:
    """Everything that a step of a fit changes."""

    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    batches: Batches
    met: Met

    def to_record(self, steps: int) -> Record:
        """Return the state as arrays and JSON."""
        arrays = {f"parameter/{k}": _array(value.detach()) for k, value in enumerate(self.parameters)}
        for k, moments in self.optimizer.state_dict()["state"].items():
            arrays |= {f"optimizer/{k}/{name}": _array(value) for name, value in moments.items()}
        arrays |= self.met.arrays(steps)
        arrays |= {"generator": _array(self.generator.get_state()), "epoch": _array(self.batches.start)}
        return Record({"steps": steps, "taken": self.batches.taken, "schedule": self._schedule()}, arrays)

    def restore(self, record: Record) -> int:
        """Take it from a record; return the steps done."""
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in record.arrays.items():
            kind, *rest = name.split("/")
            if kind == "parameter":
                self.parameters[int(rest[0])].data.copy_(_tensor(value))
            elif kind == "optimizer":
                moments.setdefault(int(rest[0]), {})[rest[1]] = _tensor(value)
        groups = self.optimizer.state_dict()["param_groups"]
        schedule = record.meta["schedule"]
        for group, rate in zip(groups, schedule["_last_lr"], strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.schedule.load_state_dict(schedule)
        self.met.restore(record)
        self.batches.restore(_tensor(record.arrays["epoch"]), record.meta["taken"])
        self.generator.set_state(_tensor(record.arrays["generator"]))
        return int(record.meta["steps"])

    def _schedule(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in self.schedule.state_dict().items()
            if isinstance(value, bool | int | float | list)
        }


def _array(value: Tensor) -> np.ndarray[Any, Any]:
    return np.array(value.cpu().numpy())


def _tensor(value: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.array(value))
