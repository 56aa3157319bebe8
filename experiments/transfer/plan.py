"""What is trained on what, and what is held out: the configuration and the jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field, model_validator

from cimenv.core.config import Frozen
from experiments.lab.plan import NOTHING, Done, ExperimentJob, ExperimentPlan, settings_digest
from experiments.lab.table_files import tables_digest

Kind = Literal["rivals", "experience", "errors_only", "policy", "committee"]
TRAINED = ("max_sites", "copies", "prices")
MEASURED_BY: Mapping[Kind, tuple[str, ...]] = {  # fields of the plan that change the numbers of a kind of job
    "rivals": ("searches", "front_evaluations"),
    "experience": (),
    "errors_only": ("errors_only", *TRAINED),
    "policy": ("policy", *TRAINED),
    "committee": ("policy", *TRAINED),
}


class Training(Frozen):
    """How a kind of policy is trained."""

    fit_log: bool = Field(False, description="whether it sees what the fit of a task's bank logged")
    steps: int = Field(ge=1, description="environment steps")
    hyper_parameters: dict[str, Any]


class Plan(ExperimentPlan):
    """The experiment's configuration."""

    tables: tuple[str, ...]
    variants: tuple[dict[str, Any], ...] = Field(min_length=1, description="budgets and prices of every table")
    held_out: dict[str, tuple[str, ...]] = Field(description="name patterns of the tables that a policy never sees")
    seeds: int = Field(ge=1)
    committees: int = Field(ge=1, description="into which the policies of all seeds are divided")
    max_sites: int
    copies: int = Field(ge=1, description="environments of every table and variant")
    policy: Training
    errors_only: Training
    evaluations: int = Field(ge=2, description="of the few-shot comparison, the empty placement included")
    prices: tuple[float, ...] = Field(min_length=2, description="cost weights that fronts are swept over")
    front_evaluations: tuple[int, ...] = Field(description="of NSGA-II, whose fronts are compared with")
    searches: dict[str, dict[str, Any]] = Field(description="that the policy is compared with, and their settings")

    @model_validator(mode="after")
    def _check(self) -> Plan:
        for name in self.held_out:
            seen, unseen = self.split(name)
            if not seen or not unseen:
                raise ValueError(
                    f"held_out.{name} matches {len(unseen)} of {len(self.tables)} tables; leave some on either side"
                )
        return self

    def split(self, held_out: str) -> tuple[list[str], list[str]]:
        """Return the tables that a policy is trained on, and those that are held out."""
        patterns = self.held_out[held_out]
        unseen = [table for table in self.tables if any(fnmatchcase(table, pattern) for pattern in patterns)]
        return [table for table in self.tables if table not in unseen], unseen

    def measured(self) -> dict[str, Any]:
        """Return nothing: every job's name holds what changes its numbers."""
        return {}

    def stages(self, done: Done = NOTHING) -> Iterator[list[Job]]:
        """Yield jobs: what is compared with, the search that learns from tables, policies, committees of them."""
        yield [self.job("rivals", held_out) for held_out in self.held_out]
        yield [self.job("experience", held_out) for held_out in self.held_out]
        for kind in ("policy", "errors_only"):
            yield [self.job(kind, held_out, seed) for seed in range(self.seeds) for held_out in self.held_out]
        yield [self.job("committee", held_out, k) for k in range(self.committees) for held_out in self.held_out]

    def training(self, job: Job) -> Training:
        """Return how the policies of a job were trained."""
        return self.errors_only if job.kind == "errors_only" else self.policy

    def members(self, job: Job) -> list[Job]:
        """Return the jobs whose policies a job uses: its own, or those of its committee."""
        if job.kind != "committee":
            return [job]
        return [self.job("policy", job.held_out, seed) for seed in range(job.seed, self.seeds, self.committees)]

    def job(self, kind: Kind, held_out: str, seed: int = 0) -> Job:
        """Return a job; its digest changes with what stands behind its label."""
        settings = self.model_dump(mode="json", include={"variants", "evaluations", *MEASURED_BY[kind]})
        drawn = {"rivals": self.seeds, "experience": self.seeds, "committee": [self.seeds, self.committees]}
        more = [self.split(held_out), drawn.get(kind), tables_digest(self.tables)]
        return Job(kind=kind, held_out=held_out, seed=seed, digest=settings_digest(settings, more))


class Job(ExperimentJob):
    """A piece of work that one process does.

    A policy trained and used, several used together, their rivals, or the search `transfer`, which learns from the same
    tables.
    """

    kind: Kind
    held_out: str
    seed: int
    digest: str
