"""What is measured: its configuration, its jobs, the tasks behind them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cimenv.tasks import Task, load_task
from experiments.lab.plan import NOTHING, Done, ExperimentJob, ExperimentPlan


class Plan(ExperimentPlan):
    """The experiment's configuration."""

    SELECTING = ("accurate", "seeds", "block_recipes", "block_sigmas", "block_seeds", "percentile_seeds")

    seeds: tuple[int, ...] = Field(description="training seeds")
    sigmas: tuple[float, ...] = Field(description="strengths of the log-normal variation without blocks")
    recipes: dict[str, dict[str, Any]]
    block_recipes: tuple[str, ...] = Field(description="recipes on whose backbones blocks are placed")
    block_sigmas: tuple[float, ...]
    block_seeds: tuple[tuple[int, ...], ...] = Field(description="training seeds at each of block_sigmas")
    budget: dict[str, float]
    search_chips: int
    search_images: int
    tuned_steps: int = Field(description="steps that fit the blocks of every reported placement")
    accurate: dict[str, tuple[str, ...]] = Field(description="jobs that take the most accurate placement in the budget")
    accurate_steps: dict[str, int] = Field(description="steps that fit its blocks, by recipe")
    chips: int = Field(description="test chips of mean and standard deviation")
    images: int = Field(description="test images, evenly spaced over the official test split")
    percentile_chips: int
    percentile_images: int
    percentile_seeds: tuple[int, ...]
    first_varied_seeds: tuple[int, ...] = Field(description="seeds for which layers are exempt from variation in turn")
    agent: str = Field(description="YAML file of the agent")

    def task(self, job: Job, sigma: float, **changes: Any) -> Task:
        """Return the task of a job at one strength of variation."""
        fields: dict[str, Any] = {
            "extends": f"lenet5-{job.data}",
            "name": f"lenet5-{job.data}-{job.recipe}",
            "recipe": self.recipes[job.recipe],
            "crossbar": {"device": {"kind": "log_normal", "sigma": sigma}},
            "training_seed": job.seed,
            "training_threads": 1,
            "chips": self.search_chips,
            "images": self.search_images,
            "report_chips": self.chips,
            "report_images": self.images,
            "tuned": {"steps": self.tuned_steps},
            "budget": self.budget,
        }
        return load_task({**fields, **changes})

    def stages(self, done: Done = NOTHING) -> list[list[Job]]:
        """Return the jobs, the most telling first; those of one stage need only the stages before it."""
        first, *rest = [
            self._each("blocks", self.block_recipes, seeds, sigma)
            for sigma, seeds in zip(self.block_sigmas, self.block_seeds, strict=True)
        ]
        bare = self._each("bare", tuple(self.recipes), self.seeds, 0.0)
        accurate = [
            job.following("accurate")
            for job in first
            if job.data in self.accurate["data"] and job.recipe in self.accurate["recipes"]
        ]
        tails = [
            [job.following("tail") for job in jobs if job.seed in self.percentile_seeds]
            for jobs in (first, bare, *rest)
        ]
        return [first, accurate, bare, tails[0], *rest, *tails[1:]]

    def _each(self, kind: str, recipes: tuple[str, ...], seeds: tuple[int, ...], sigma: float) -> list[Job]:
        """Return a job for every seed, recipe and data set: one whole seed after the other."""
        return [Job(kind, d, recipe, seed, sigma) for seed in seeds for recipe in recipes for d in self.data]


class Job(ExperimentJob):
    """A piece of work that one process does.

    `bare`: one backbone without blocks at every sigma. `blocks`: searches, an agent and baselines on one backbone at
    one sigma. What follows another job (`of`): `accurate`, the most accurate placement in the budget, cost aside, with
    blocks fitted for longer; `tail`, the percentile over many chips for the job's rows.
    """

    kind: str
    data: str
    recipe: str
    seed: int
    sigma: float
    of: str = ""

    def __init__(self, *values: Any, **fields: Any) -> None:
        super().__init__(**dict(zip(type(self).model_fields, values, strict=False)), **fields)

    @property
    def name(self) -> str:
        """Return the job's file name."""
        sigma = "" if "bare" in (self.kind, self.of) else f"-{self.sigma:g}"
        return "-".join(filter(None, [self.kind, self.of, self.data, self.recipe, str(self.seed)])) + sigma

    def following(self, kind: str) -> Job:
        """Return the job of another kind that goes on with this one."""
        return Job(kind, self.data, self.recipe, self.seed, self.sigma, self.kind)

    @property
    def parent(self) -> str:
        """Return the name of the job that this one follows."""
        return Job(self.of, self.data, self.recipe, self.seed, self.sigma).name
