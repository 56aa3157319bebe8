"""What every stage is given, and the surroundings in which one trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from cimenv.core.progress import Progress, silent
from cimenv.core.seeding import torch_generator
from cimenv.core.store import Record, Store
from cimenv.core.threads import torch_threads
from cimenv.data import DataSplits
from cimenv.tasks.stages.keys import trained_once
from cimenv.tasks.task import Task


@dataclass(frozen=True)
class Workspace:
    """A task with its data, and the store that keeps what is trained.

    Attributes:
        task: the description.
        data: the three splits.
        store: where trained things are kept.
        progress: opens bars.
    """

    task: Task
    data: DataSplits
    store: Store
    progress: Progress = silent

    def trained(self, key: dict[str, Any], compute: Callable[[], Record], what: str) -> Record:
        """Return the record that the store holds under a key; train it where there is none."""
        return trained_once(self.store, self.task, key, compute, what)

    @contextmanager
    def seeded(self, key: Mapping[str, Any]) -> Iterator[torch.Generator]:
        """Give the generator of a training, with the task's threads and torch's own generator seeded meanwhile."""
        generator = torch_generator(key)
        with torch_threads(self.task.training_threads), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            yield generator
