"""Make the enumerated tables: `python -m experiments.tables [NAME ...] [--into FOLDER] [--device cuda]`.

configs/experiments/tables.yaml says which, and which of them ship with the package; without names all of those that are
missing or do not fit are made. Every table is what `cimenv enumerate` writes, in runs/tables/ (a killed run goes on
there), compressed by xz into cimenv/tasks/tables/, or results/agents/tables/ where it does not ship. The networks and
blocks behind it go into cimenv/tasks/shipped/ under the task's own keys, without thread count and torch version, so
that every machine finds them; those that are there are not trained again.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

from pydantic import Field

from cimenv.analysis.enumeration import enumerate_placements
from cimenv.core.config import Frozen, canonical, read_yaml
from cimenv.core.errors import CimenvError, ConfigError, UnknownNameError
from cimenv.core.progress import bar
from cimenv.core.store import INDEX, Store, kind_of
from cimenv.tasks import Task, load_task
from cimenv.tasks.evaluators.table import SHIPPED_TABLES, SUFFIX, load_table
from cimenv.tasks.problem import SHIPPED
from cimenv.tasks.requests import Compute
from cimenv.tasks.stages.keys import training_environment
from experiments.lab.folders import ROOT
from experiments.lab.table_files import LARGE_TABLES

YAML, WORK = ROOT / "configs/experiments/tables.yaml", ROOT / "runs/tables"


class TablePlan(Frozen):
    """What one table enumerates."""

    task: str
    set: dict[str, Any] = Field({}, description="fields of the task that are changed")
    ships: bool = Field(True, description="whether it belongs to the package")

    @property
    def folder(self) -> Path:
        """Return where the table belongs."""
        return SHIPPED_TABLES if self.ships else LARGE_TABLES

    def made(self) -> Task:
        """Return the task."""
        return load_task(self.task).with_changes(**self.set)


def plans(path: Path = YAML) -> dict[str, TablePlan]:
    """Return the tables by name."""
    return {name: TablePlan(**fields) for name, fields in read_yaml(path).items()}


def fits(path: Path, task: Task) -> bool:
    """Return whether a table is there, is whole, and holds this task."""
    try:
        return path.exists() and load_table(str(path)).header.task.key == task.key
    except ConfigError:
        return False


def make(name: str, task: Task, into: Path, store: Store, work: Path = WORK, device: str = "cpu") -> Path:
    """Enumerate a task and compress what that wrote; return the table.

    Raises:
        ConfigError: an unfinished enumeration of something else is in the way.
        DataError: the task's data are missing.
    """
    work.mkdir(parents=True, exist_ok=True)
    into.mkdir(parents=True, exist_ok=True)
    plain, table = work / f"{name}.csv", into / f"{name}{SUFFIX}"
    enumerate_placements(task, plain, store=store, compute=Compute(None, device, bar))
    temporary = table.with_name(f"{table.name}.tmp")
    temporary.write_bytes(lzma.compress(plain.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
    os.replace(temporary, table)
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


def main(arguments: list[str] | None = None) -> int:
    """Make what is asked for."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if any(argument in ("-h", "--help") for argument in arguments):
        print(__doc__)
        return 0
    into, device = _option(arguments, "--into"), _option(arguments, "--device") or "cpu"
    known = plans()
    try:
        for name in arguments or [name for name, plan in known.items() if plan.ships]:
            if name not in known:
                raise UnknownNameError("table", name, known)
            task, folder = known[name].made(), Path(into) if into else known[name].folder
            if not arguments and fits(folder / f"{name}{SUFFIX}", task):
                continue
            trained = Store(WORK / name, layers=(SHIPPED,))
            table = make(name, task, folder, trained, device=device)
            ship(task, trained)
            print(f"{table}: {table.stat().st_size / 2**10:.0f} KiB")
    except CimenvError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _option(arguments: list[str], name: str) -> str | None:
    """Take an option and its value out of the arguments."""
    if name not in arguments[:-1]:
        return None
    at = arguments.index(name)
    _, value = arguments[at : at + 2]
    del arguments[at : at + 2]
    return value


if __name__ == "__main__":
    raise SystemExit(main())
