"""Make the enumerated tables: `python -m experiments.tables [NAME ...] [--into FOLDER] [--device cuda]`.

configs/experiments/tables.yaml says which, and which of them ship with the package; without names all of those that are
missing or do not fit are made. Every table is what `cimenv enumerate` writes, in runs/tables/ (a killed run goes on
there), compressed by xz into cimenv/tasks/tables/, or results/agents/tables/ where it does not ship. The networks and
blocks behind it go into cimenv/tasks/shipped/ under the task's own keys, without thread count and torch version, so
that every machine finds them; those that are there are not trained again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cimenv.core.errors import CimenvError, UnknownNameError
from cimenv.core.store import Store
from cimenv.tasks.evaluators.table import SUFFIX
from cimenv.tasks.problem import SHIPPED
from experiments.lab.folders import runs_of
from experiments.tables.make import fits, make, ship
from experiments.tables.plan import plans

WORK = runs_of("tables")


def main(arguments: list[str]) -> int:
    """Make the named tables."""
    parser = argparse.ArgumentParser("experiments.tables", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a table of configs/experiments/tables.yaml")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="in the place of where the table belongs")
    parser.add_argument("--device", default="cpu", help="that evaluates, such as cuda")
    given = parser.parse_args(arguments)
    try:
        make_all(given.names, given.into, given.device)
    except CimenvError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def make_all(names: list[str], into: Path | None, device: str) -> None:
    """Make the tables that are named, or all that ship and are missing or do not fit.

    Raises:
        UnknownNameError: there is no such table.
    """
    known = plans()
    for name in names or [name for name, plan in known.items() if plan.ships]:
        if name not in known:
            raise UnknownNameError("table", name, known)
        task, folder = known[name].made(), into or known[name].folder
        if not names and fits(folder / f"{name}{SUFFIX}", task):
            continue
        trained = Store(WORK / name, layers=(SHIPPED,))
        table = make(name, task, folder, trained, WORK, device)
        ship(task, trained)
        print(f"{table}: {table.stat().st_size / 2**10:.0f} KiB")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
