"""Files of enumerated tables: where they lie, and a digest of the numbers that they hold."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from cimenv.core.config import canonical, digest
from cimenv.core.errors import ConfigError
from cimenv.tasks.evaluators.table import SUFFIX, load_table, table_path
from experiments.lab.folders import ROOT

LARGE_TABLES = ROOT / "results/agents/tables"  # which the package has no room for
NUMBERS = {"split", "fidelity", "chips", "images", "reference_accuracy", "clean_accuracy", "gains"}


def located(table: str) -> str:
    """Return the file of a table that does not ship with the package; the name itself of one that does."""
    path = LARGE_TABLES / f"{table}{SUFFIX}"
    return str(path) if path.exists() else table


def tables_digest(tables: Iterable[str]) -> str:
    """Return a digest of what tables hold; an experiment's jobs are other ones when a table is made again.

    It knows their numbers, not how a file writes them or what digest its weights have.

    Raises:
        ConfigError: a file is missing.
    """
    digests = []
    for table in tables:
        path = table_path(located(table))
        if not path.exists():
            raise ConfigError(f"tables: there is no {path}; python -m experiments.tables makes it.")
        digests.append(_table_digest(path, path.stat().st_mtime_ns))
    return digest("".join(digests))


@lru_cache(maxsize=256)
def _table_digest(path: Path, changed_ns: int) -> str:
    del changed_ns  # it tells a file from what stood there before
    table = load_table(str(path))
    about = table.header.model_dump(mode="json", include=NUMBERS)
    return digest("\n".join([canonical(about), *(row.text() for row in table.rows)]))
