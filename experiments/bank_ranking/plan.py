"""What is ranked: a task, and random placements of it."""

from __future__ import annotations

from pydantic import Field

from cimenv.compensation.options import Placement
from cimenv.tasks.space import PlacementSpace
from experiments.lab.placements import random_placements
from experiments.lab.plan import NOTHING, Done, ExperimentJob, ExperimentPlan
from experiments.lab.tasks import ChangedTask


class Plan(ChangedTask, ExperimentPlan):
    """The experiment's configuration."""

    SELECTING = ("placements",)

    placements: int = Field(ge=6, description="random placements")
    stand_alone: bool = Field(description="whether blocks are also fitted from scratch for every placement by itself")

    def stages(self, done: Done = NOTHING) -> list[list[Job]]:
        """Return the jobs: the first trains what all others need."""
        drawn = random_placements(PlacementSpace(self.made()), self.placements)
        first, *rest = [Job(placement=placement) for placement in drawn]
        return [[first], rest]


class Job(ExperimentJob):
    """One placement, with the bank's blocks and with blocks fitted for it."""

    placement: Placement

    @property
    def name(self) -> str:
        """Return the job's name in the journal."""
        return "-".join(map(str, self.placement))
