"""What is ranked: a task, and random placements of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from cimenv.compensation.options import Placement
from cimenv.core.config import Frozen
from cimenv.tasks.space import PlacementSpace
from experiments.lab.placements import random_placements
from experiments.lab.rows import Row
from experiments.lab.tasks import ChangedTask


class Plan(ChangedTask):
    """The experiment's configuration."""

    data: tuple[str, ...] = Field((), description="what must be there before it begins")
    placements: int = Field(ge=6, description="random placements")
    stand_alone: bool = Field(description="whether blocks are also fitted from scratch for every placement by itself")

    def measured(self) -> dict[str, Any]:
        """Return the fields that change a job's numbers, not those that say which jobs there are."""
        return self.model_dump(mode="json", exclude={"data", "placements"})

    def stages(self, _rows: Mapping[str, list[Row]] | None = None) -> list[list[Job]]:
        """Return the jobs: the first trains what all others need."""
        drawn = random_placements(PlacementSpace(self.made()), self.placements)
        first, *rest = [Job(placement=placement) for placement in drawn]
        return [[first], rest]


class Job(Frozen):
    """One placement, with the bank's blocks and with blocks fitted for it."""

    placement: Placement

    @property
    def name(self) -> str:
        """Return the job's name in the journal."""
        return "-".join(map(str, self.placement))
