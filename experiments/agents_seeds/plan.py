"""Which agents are trained with how many seeds."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from agents.config import AgentConfig, load_config
from cimenv.core.config import read_yaml
from experiments.lab.plan import NOTHING, Done, ExperimentJob, ExperimentPlan, settings_digest


class Plan(ExperimentPlan):
    """The experiment's configuration."""

    agents: tuple[str, ...] = Field(min_length=1, description="YAML files, all of one task")
    seeds: int = Field(ge=1, description="seeds 0 to N - 1 of every agent")

    def measured(self) -> dict[str, Any]:
        """Return nothing: every job's name holds what changes its numbers."""
        return {}

    def stages(self, done: Done = NOTHING) -> list[list[Job]]:
        """Return the jobs: the first enumerates all placements, which all others look up."""
        digests = {agent: settings_digest(read_yaml(agent)) for agent in self.agents}
        first, *rest = [
            Job(agent=agent, seed=seed, settings=settings)
            for agent, settings in digests.items()
            for seed in range(self.seeds)
        ]
        return [[first], rest]


class Job(ExperimentJob):
    """One agent, trained with one seed."""

    agent: str = Field(description="its YAML file")
    seed: int
    settings: str = Field(description="digest of what that file says")

    @property
    def config(self) -> AgentConfig:
        """Return the configuration of its training."""
        return load_config(self.agent, [f"seed={self.seed}"])

    @property
    def name(self) -> str:
        """Return the job's name in the journal."""
        return f"{self.config.name}-{self.seed}-{self.settings}"
