"""What is measured: its configuration, its jobs, the tasks behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from cimenv.core.config import Frozen
from cimenv.tasks import Task, load_task
from cimenv.tasks.stages.keys import STAGE_VERSIONS
from experiments.lab.plan import NOTHING, Done, ExperimentJob, ExperimentPlan, settings_digest

DIGITAL = [{"kind": "digital"}]  # no blocks to train
Kind = Literal["try", "judge", "net", "blocks", "fidelity", "budget"]


class Contest(Frozen):
    """Families of recipes that are trained, judged and chosen for one purpose; every family has a few tries."""

    judged: dict[str, Any] = Field(description="fields of every try: th_g and the statistic that selects")
    families: dict[str, dict[str, dict[str, Any]]]

    @property
    def against_worst_case(self) -> bool:
        """Return whether tries compete in the worst case; else in the statistic that selects their epochs."""
        return bool(self.judged["select"] == "worst_case")

    @property
    def tries(self) -> dict[str, dict[str, Any]]:
        """Return the tries of all families by label."""
        return {label: fields for tries in self.families.values() for label, fields in tries.items()}


class BlockPlan(Frozen):
    """Which placements are compared on which networks."""

    families: tuple[str, ...] = Field(description="a baseline, or a family of the first contest")
    seeds: tuple[int, ...]
    physics: str = Field(description="devices that the bank is trained for, and of mean and percentile")
    statistics: tuple[str, ...] = Field(description="what placements are searched for")


class FidelityPlan(Frozen):
    """How many random placements are attacked quickly and by the ensemble, in how many jobs."""

    data: tuple[str, ...]
    families: tuple[str, ...]
    placements: int
    parts: int


class BudgetPlan(Frozen):
    """Ensembles of growing budgets: steps of every descent, with restarts."""

    families: tuple[str, ...]
    steps: dict[int, int]
    images: int


class Plan(ExperimentPlan):
    """The experiment's configuration."""

    SELECTING = ("seeds", "baselines", "contests", "blocks", "fidelity", "budgets", "epochs")

    seeds: tuple[int, ...] = Field(description="training seeds; tries are trained with the first")
    bounds: dict[float, int] = Field(description="th_g of the attacks, the most telling first: test images attacked")
    epochs: int = Field(description="of every recipe against the worst case")
    baselines: dict[str, dict[str, Any]] = Field(description="measured with all seeds, whatever wins")
    contests: dict[str, Contest]
    judge: str = Field(description="physics of the percentile that an epoch is judged by")
    physics: dict[str, dict[str, Any]] = Field(description="devices of mean and percentiles")
    chips: int = Field(description="test chips of mean and percentiles")
    chip_images: int = Field(description="test images of every chip, evenly spaced")
    certificate_bounds: tuple[float, ...]
    certificate_images: int
    blocks: BlockPlan
    fidelity: FidelityPlan
    budgets: BudgetPlan

    @property
    def first_bound(self) -> float:
        """Return the most telling th_g."""
        return next(iter(self.bounds))

    def contest_of(self, label: str) -> Contest | None:
        """Return the contest of a try, or None for a baseline without one."""
        return next((contest for contest in self.contests.values() if label in contest.tries), None)

    def recipe(self, label: str) -> dict[str, Any]:
        """Return a recipe with the experiment's epochs and what its contest judges by."""
        contest = self.contest_of(label)
        if contest is None:
            return self.baselines[label]
        judged = {"judge": self.physics[self.judge], **contest.judged}
        return {"epochs": self.epochs, **judged, **contest.tries[label]}

    def task(self, job: Job, **changes: Any) -> Task:
        """Return the task of a job, without blocks unless `changes` names options."""
        fields: dict[str, Any] = {
            "extends": f"lenet5-{job.data}",
            "name": f"lenet5-{job.data}-{job.recipe}",
            "recipe": self.recipe(job.recipe),
            "training_seed": job.seed,
            "training_threads": 1,
            "options": {"conv": DIGITAL, "dense": DIGITAL},
            "report_images": self.bounds[self.first_bound],
            "report_chips": self.chips,
        }
        return load_task({**fields, **changes})

    def winner(self, data: str, contest: str, family: str, rows: Done) -> str | None:
        """Return the try of a family that VALIDATION prefers, or None before all of its tries are judged.

        In the worst case the judge is the whole ensemble: a network that was trained against the losses of the quick
        attack, which chooses its epochs, hides from just these.
        """
        if contest not in self.contests or family not in self.contests[contest].families:
            return None  # a smaller plan
        tries = self.contests[contest].families[family]
        kind: Kind = "judge" if self.contests[contest].against_worst_case else "try"
        scores = {label: rows.get(self.job(kind, data, label, self.seeds[0]).name) for label in tries}
        known = {label: row[0]["val_accuracy"] for label, row in scores.items() if row}
        return max(known, key=lambda label: known[label]) if len(known) == len(tries) else None

    def chosen(self, data: str, rows: Done) -> list[str]:
        """Return the labels that are measured with all seeds: baselines, and every family's winner."""
        pairs = [(name, family) for name, contest in self.contests.items() for family in contest.families]
        winners = [self.winner(data, contest, family, rows) for contest, family in pairs]
        return list(dict.fromkeys([*self.baselines, *(label for label in winners if label)]))

    def stages(self, done: Done = NOTHING) -> Iterator[list[Job]]:
        """Yield jobs: one data set after the other; what is chosen follows from the rows of the jobs before."""
        first = self.seeds[0]
        for data in self.data:
            tries = [label for contest in self.contests.values() for label in contest.tries]
            yield [self.job("try", data, label, first) for label in tries]
            judged = [
                label for contest in self.contests.values() if contest.against_worst_case for label in contest.tries
            ]
            yield [self.job("judge", data, label, first) for label in judged]
            for seed in self.seeds:
                yield [self.job("net", data, label, seed) for label in self.chosen(data, done)]
            placed = self.blocks
            yield [
                self.job("blocks", data, label, seed)
                for seed in placed.seeds
                for family in placed.families
                for label in self.labels(data, family, done)
            ]
            yield [
                self.job("fidelity", data, label, first, part)
                for family in (self.fidelity.families if data in self.fidelity.data else ())
                for label in self.labels(data, family, done)
                for part in range(self.fidelity.parts)
            ]
            yield [
                self.job("budget", data, label, first)
                for family in self.budgets.families
                for label in self.labels(data, family, done)
            ]

    def labels(self, data: str, family: str, rows: Done) -> list[str]:
        """Return the label behind a baseline's or a family's name, if it is known."""
        contest = next(iter(self.contests))
        label = family if family in self.baselines else self.winner(data, contest, family, rows)
        return [label] if label else []

    def job(self, kind: Kind, data: str, recipe: str, seed: int, part: int | None = None) -> Job:
        """Return a job; its digest changes with the settings behind its label."""
        more = {
            "judge": ["reference", STAGE_VERSIONS["attack"]],
            "blocks": [self.blocks.physics, self.blocks.statistics],
            "budget": self.budgets.model_dump(mode="json", exclude={"families"}),
            "fidelity": [
                self.blocks.physics,
                self.fidelity.placements,
                self.fidelity.parts,
                part,
                STAGE_VERSIONS["attack"],
            ],
        }
        settings = settings_digest(self.recipe(recipe), more.get(kind))
        return Job(kind=kind, data=data, recipe=recipe, seed=seed, settings=settings, part=part)


class Job(ExperimentJob):
    """A piece of work that one process does.

    `try`: a network trained, its epochs judged on validation; `judge`: attacked there by the ensemble; `net`: attacked,
    certified and its chips measured on test; `blocks`: placements compared on it; `fidelity`: some random placements
    attacked quickly and by the ensemble; `budget`: attacked by ensembles of growing budgets.
    """

    kind: Kind
    data: str
    recipe: str
    seed: int
    settings: str = Field(description="digest of what the recipe's label stands for")
    part: int | None = Field(None, description="which of the parts of a job that is cut")

    @property
    def name(self) -> str:
        """Return the job's name in the journal."""
        return f"{self.kind}-{self.data}-{self.recipe}-{self.seed}-{self.settings}"
