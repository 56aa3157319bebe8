"""Which tables there are: configs/experiments/tables.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cimenv.core.config import read_yaml
from cimenv.tasks.evaluators.table import SHIPPED_TABLES
from experiments.lab.folders import config_of
from experiments.lab.table_files import LARGE_TABLES
from experiments.lab.tasks import ChangedTask


class TablePlan(ChangedTask):
    """What one table enumerates."""

    ships: bool = Field(True, description="whether it belongs to the package")

    @property
    def folder(self) -> Path:
        """Return where the table belongs."""
        return SHIPPED_TABLES if self.ships else LARGE_TABLES


def plans() -> dict[str, TablePlan]:
    """Return the tables by name."""
    return {name: TablePlan(**fields) for name, fields in read_yaml(config_of("tables")).items()}
