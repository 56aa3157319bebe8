"""What is measured: its configuration, its jobs, the tasks behind them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cimenv.core.config import merged
from cimenv.tasks import Task, load_task
from experiments.lab.plan import NOTHING, Done, ExperimentJob, ExperimentPlan, settings_digest


class Plan(ExperimentPlan):
    """The experiment's configuration."""

    SELECTING = ("seeds", "recipes", "physics")

    seeds: tuple[int, ...] = Field(description="training seeds")
    recipes: dict[str, dict[str, Any]]
    physics: dict[str, dict[str, Any]] = Field(description="fields of the task that say what the chips are like")
    trained_for: dict[str, Any] = Field(description="crossbar of recipes that fine-tune for one")
    search: dict[str, Any] = Field(description="fields of the task in which blocks are searched and fitted")
    chips: int = Field(description="test chips of every point")
    images: int = Field(description="test images of every chip, evenly spaced")

    def task(self, job: Job) -> Task:
        """Return the task of a job."""
        fields: dict[str, Any] = {
            "extends": f"lenet5-{job.data}",
            "name": f"lenet5-{job.data}-{job.recipe}-{job.physics}",
            "recipe": self.recipes[job.recipe],
            "trained_for": self.trained_for,
            "training_seed": job.seed,
            "training_threads": 1,
            "report_chips": self.chips,
            "report_images": self.images,
        }
        return load_task(merged(merged(fields, self.physics[job.physics]), self.search))

    def stages(self, done: Done = NOTHING) -> list[list[Job]]:
        """Return the jobs, one whole seed after the other; every network is trained by its first job."""
        return [
            [self.job(data, recipe, physics, seed) for physics in self.physics for recipe in self.recipes]
            for seed in self.seeds
            for data in self.data
        ]

    def job(self, data: str, recipe: str, physics: str, seed: int) -> Job:
        """Return a job; its digest changes with the settings behind its labels."""
        settings = settings_digest(self.recipes[recipe], self.physics[physics])
        return Job(data=data, recipe=recipe, physics=physics, seed=seed, settings=settings)


class Job(ExperimentJob):
    """A network, trained by one recipe, on the chips of one physics."""

    data: str
    recipe: str
    physics: str
    seed: int
    settings: str = Field(description="digest of what the labels stand for")
