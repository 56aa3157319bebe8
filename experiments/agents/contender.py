"""One run of a search or of an agent on a table: what it found with every distinct evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from stable_baselines3.common.callbacks import BaseCallback

from agents.algorithms import new_model
from agents.config import AgentConfig, Algorithm
from agents.environment import make_env
from cimenv.compensation.options import Placement
from cimenv.core.config import Frozen, merged
from cimenv.envs import EvaluationBudget
from cimenv.search import run_search
from cimenv.tasks.evaluators.table import TableEvaluator

Curve = npt.NDArray[np.float64]
STEPS_PER_EVALUATION = 60  # of an agent's episodes, after which it is said to have converged


class Contender(Frozen):
    """A search by name, or an agent by algorithm, with its fixed settings."""

    search: str | None = None
    agent: Algorithm | None = None
    env_arguments: dict[str, Any] = Field({}, description="of an agent's environment, such as feedback: reset")
    settings: dict[str, Any] = {}
    ranges: dict[str, dict[str, Any] | list[Any]] = {}

    @model_validator(mode="after")
    def _check(self) -> Contender:
        if (self.search is None) == (self.agent is None):
            raise ValueError("a contender is either a search or an agent; give one of them")
        return self


@dataclass(frozen=True)
class Run:
    """What a run found.

    Attributes:
        best_so_far: the largest J after 1, 2, ... distinct evaluations, `[evaluations]`; a run that ends early keeps
            its last.
        placement: where the best one was.
    """

    best_so_far: Curve
    placement: Placement

    @staticmethod
    def of(seen: Sequence[tuple[Placement, float]], evaluations: int) -> Run:
        """Return the run that saw these placements and their J, in order."""
        values = [value for _, value in seen[:evaluations]]
        best = np.maximum.accumulate(values)
        return Run(np.append(best, np.full(evaluations - len(best), best[-1])), seen[int(np.argmax(values))][0])


def run(contender: Contender, settings: Mapping[str, Any], table: TableEvaluator, evaluations: int, seed: int) -> Run:
    """Let a contender look for the best placement of a table.

    Args:
        contender: who.
        settings: laid over its own.
        table: the task.
        evaluations: budget of distinct placements, the empty one included.
        seed: of the run.
    """
    given = merged(contender.settings, settings)
    if contender.search is not None:
        steps = run_search(table, contender.search, evaluations, seed, given).steps
        return Run.of([(step.placement, step.objective) for step in steps], evaluations)
    return Run.of(_agent(contender, given, table, evaluations, seed), evaluations)


class _UntilSpent(BaseCallback):
    """Stops when the budget of distinct evaluations is spent."""

    def __init__(self, budget: EvaluationBudget) -> None:
        super().__init__()
        self.budget = budget

    def _on_step(self) -> bool:
        return self.budget.spent < self.budget.budget


def _agent(
    contender: Contender, settings: dict[str, Any], table: TableEvaluator, evaluations: int, seed: int
) -> list[tuple[Placement, float]]:
    """Train an agent until its budget is spent or its steps are; return what it paid for, in order."""
    assert contender.agent is not None
    steps = STEPS_PER_EVALUATION * evaluations
    config = AgentConfig(
        name="compared",
        algorithm=contender.agent,
        env_arguments=contender.env_arguments,
        seed=seed,
        evaluations=evaluations,
        steps=steps,
        hyper_parameters={"gamma": 1.0, **settings},
    )
    env = make_env(config, table)
    budget = env.env
    assert isinstance(budget, EvaluationBudget)
    torch.set_num_threads(1)
    new_model(config, env).learn(steps, callback=_UntilSpent(budget))
    return [(placement, value) for (_, placement), value in budget.known.items()]
