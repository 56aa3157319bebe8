"""How a table is made, and how what is behind it comes into the package."""

from __future__ import annotations

import json
import lzma
import shutil
import sqlite3
from pathlib import Path

from cimenv.analysis.enumeration import enumerate_placements
from cimenv.core.config import canonical
from cimenv.core.errors import ConfigError
from cimenv.core.progress import bar
from cimenv.core.store import INDEX, Store, kind_of
from cimenv.core.writing import whole
from cimenv.tasks import Task
from cimenv.tasks.evaluators.table import SUFFIX, load_table
from cimenv.tasks.problem import SHIPPED
from cimenv.tasks.requests import Compute
from cimenv.tasks.stages.keys import training_environment


def fits(path: Path, task: Task) -> bool:
    """Return whether a table is there, is whole, and holds this task."""
    try:
        return path.exists() and load_table(str(path)).header.task.key == task.key
    except ConfigError:
        return False


def make(name: str, task: Task, into: Path, store: Store, work: Path, device: str = "cpu") -> Path:
    """Enumerate a task and compress what that wrote; return the table.

    Raises:
        ConfigError: an unfinished enumeration of something else is in the way.
        DataError: the task's data are missing.
    """
    work.mkdir(parents=True, exist_ok=True)
    into.mkdir(parents=True, exist_ok=True)
    plain, table = work / f"{name}.csv", into / f"{name}{SUFFIX}"
    enumerate_placements(task, plain, store=store, compute=Compute(None, device, bar))
    with whole(table) as part:
        part.write_bytes(lzma.compress(plain.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
    return table


def ship(task: Task, trained: Store, layer: Path = SHIPPED) -> None:
    """Add the networks and banks in a store, all of one task, to the read-only layer that ships."""
    environment = training_environment(task)
    shipped = Store(layer)
    kept = [key for key in trained.keys() if kind_of(key) in ("backbone", "bank")]  # noqa: SIM118 a store is no mapping
    for key in kept:
        if (record := trained.get(key)) is not None:
            own = {name: value for name, value in json.loads(key).items() if name not in environment}
            shipped.put(canonical(own), record)
    shipped.close()
    with sqlite3.connect(layer / INDEX) as index:  # readable from a folder that cannot be written
        index.execute("PRAGMA journal_mode=DELETE")
    shutil.rmtree(layer / "locks", ignore_errors=True)
