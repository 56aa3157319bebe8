"""What is measured: its configuration, its jobs, the tasks behind them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cimenv.core.config import Frozen, merged, read_yaml
from cimenv.tasks import Task, load_task
from cimenv.tasks.loading import task_fields
from experiments.lab.plan import NOTHING, Done, ExperimentJob, ExperimentPlan, settings_digest


class DeepProblem(Frozen):
    """A network, its data and its variation, and the recipes that train it."""

    task: dict[str, Any]
    recipes: dict[str, dict[str, Any]]
    blocks: tuple[str, ...] = Field(description="recipes on whose networks blocks are placed")


class Plan(ExperimentPlan):
    """The experiment's configuration."""

    SELECTING = ("problems",)

    problems: dict[str, DeepProblem]
    seed: int
    sigmas: tuple[float, ...] = Field(description="of the curves without blocks")
    curve_chips: int
    statistics: tuple[Literal["none", "shared", "per_chip"], ...] = Field(description="batch-norm statistics")
    search: dict[str, Any] = Field(description="fields of the task in which blocks are searched and fitted")
    chips: int = Field(description="test chips of every row")
    images: int = Field(description="test images of every chip, evenly spaced")
    agent: str = Field(description="YAML file of the agent")
    agent_evaluations: int
    agent_steps: int

    def task(self, job: Job, **changes: Any) -> Task:
        """Return the task of a job."""
        problem = self.problems[job.problem]
        fields: dict[str, Any] = {
            "name": f"{job.problem}-{job.recipe}",
            "recipe": problem.recipes[job.recipe],
            "training_seed": self.seed,
            "training_threads": 1,
            "report_chips": self.chips,
            "report_images": self.images,
        }
        return load_task(merged(merged(merged(problem.task, fields), self.search), changes))

    def stages(self, done: Done = NOTHING) -> list[list[Job]]:
        """Return the jobs: the curves of all problems, which train, then blocks."""
        curves = [(name, recipe) for name, problem in self.problems.items() for recipe in problem.recipes]
        placed = [(name, recipe) for name, problem in self.problems.items() for recipe in problem.blocks]
        return [[self.job("curve", *names) for names in curves], [self.job("blocks", *names) for names in placed]]

    def job(self, kind: Literal["curve", "blocks"], problem: str, recipe: str) -> Job:
        """Return a job; its digest changes with the settings behind its labels."""
        behind = self.problems[problem]
        task = {name: value for name, value in task_fields(behind.task).items() if name not in ("name", "description")}
        settings = [task, behind.recipes[recipe]]
        if kind == "blocks":
            settings.append(read_yaml(self.agent))
        return Job(kind=kind, problem=problem, recipe=recipe, settings=settings_digest(*settings))


class Job(ExperimentJob):
    """A piece of work that one process does.

    `curve`: a network without blocks at every sigma and with every kind of batch-norm statistics; `blocks`: placements
    on it at the problem's sigma.
    """

    kind: Literal["curve", "blocks"]
    problem: str
    recipe: str
    settings: str = Field(description="digest of what the labels stand for")
