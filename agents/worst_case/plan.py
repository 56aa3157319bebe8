"""What the study measures: its configuration, its jobs, the tasks behind them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cimenv.core.config import Frozen, canonical, digest
from cimenv.tasks import Task, load_task

DIGITAL = [{"kind": "digital"}]  # no blocks to train


class Stronger(Frozen):
    """Recipes that are trained and judged for a larger bound."""

    bound: float
    recipes: dict[str, dict[str, Any]]


class BlockPlan(Frozen):
    """Which placements are compared on which networks."""

    recipes: tuple[str, ...]
    seeds: tuple[int, ...]
    physics: str = Field(description="devices that the bank is trained for, and of mean and percentile")
    metrics: tuple[str, ...] = Field(description="what placements are searched for")


class Plan(Frozen):
    """The study's configuration."""

    data: tuple[str, ...]
    seeds: tuple[int, ...] = Field(description="training seeds")
    bounds: tuple[float, ...] = Field(description="th_g of the attacks, the most telling first")
    epochs: int = Field(description="of every recipe against the worst case")
    recipes: dict[str, dict[str, Any]]
    judged_for: float = Field(description="th_g that the recipes are trained and judged for")
    judge: str = Field(description="physics of the percentile that an epoch is judged by")
    stronger: Stronger
    physics: dict[str, dict[str, Any]] = Field(description="devices of mean and percentiles")
    attack_images: int = Field(description="test images attacked, evenly spaced")
    chips: int = Field(description="test chips of mean and percentiles")
    chip_images: int = Field(description="test images of every chip, evenly spaced")
    certificate_bounds: tuple[float, ...]
    certificate_images: int
    blocks: BlockPlan

    def recipe(self, label: str) -> dict[str, Any]:
        """Return a recipe with the study's epochs and bound."""
        fields = {**self.recipes, **self.stronger.recipes}[label]
        if fields["name"] in ("standard", "lipschitz"):
            return fields
        judged = {"bound": self.judged_for, "judge": self.physics[self.judge], "select": "worst_case"}
        return {"epochs": self.epochs, **judged, **fields}

    def task(self, job: Job, **changes: Any) -> Task:
        """Return the task of a job, without blocks unless `changes` names options."""
        fields: dict[str, Any] = {
            "extends": f"lenet5-{job.data}",
            "name": f"lenet5-{job.data}-{job.recipe}",
            "recipe": self.recipe(job.recipe),
            "training_seed": job.seed,
            "training_threads": 1,
            "options": {"conv": DIGITAL, "dense": DIGITAL},
            "report_images": self.attack_images,
            "report_chips": self.chips,
        }
        return load_task({**fields, **changes})

    def measured(self) -> dict[str, Any]:
        """Return the fields that change a job's numbers, not those that say which jobs there are."""
        return self.model_dump(mode="json", exclude={"data", "seeds", "recipes", "stronger", "blocks", "epochs"})

    def stages(self) -> list[list[Job]]:
        """Return the jobs: one data set after the other, the first seed of all recipes first."""
        stages = []
        for data in self.data:
            stages += [[self.job("net", data, recipe, seed) for recipe in self.recipes] for seed in self.seeds]
            stages.append(
                [self.job("net", data, recipe, seed) for seed in self.seeds for recipe in self.stronger.recipes]
            )
            placed = self.blocks
            stages.append([self.job("blocks", data, recipe, s) for s in placed.seeds for recipe in placed.recipes])
        return stages

    def job(self, kind: Literal["net", "blocks"], data: str, recipe: str, seed: int) -> Job:
        """Return a job; its digest changes with the settings behind its label."""
        settings = [self.recipe(recipe), [self.blocks.physics, self.blocks.metrics] if kind == "blocks" else None]
        return Job(kind=kind, data=data, recipe=recipe, seed=seed, settings=digest(canonical(settings))[:8])


class Job(Frozen):
    """A piece of work that one process does: a network attacked and certified, or placements compared on one."""

    kind: Literal["net", "blocks"]
    data: str
    recipe: str
    seed: int
    settings: str = Field(description="digest of what the recipe's label stands for")

    @property
    def name(self) -> str:
        """Return the job's name in the journal."""
        return f"{self.kind}-{self.data}-{self.recipe}-{self.seed}-{self.settings}"
