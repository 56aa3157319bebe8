"""An episode as plain data: its task, its placement, and the evaluation of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.envs.scenario import Scenario, ScenarioPool
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.task import Task


@dataclass(frozen=True)
class Episode:
    """An episode under way, or a finished one; a step makes a new one, so that copies may share it.

    Attributes:
        scenario: the task, what evaluates its placements, and its objective.
        placement: the blocks placed so far.
        evaluations: of the distinct placements that were requested, in their order; the empty one is the first.
        evaluated: the placement that was evaluated last.
        steps: taken so far.
        invalid_actions: masked actions among them.
        ended: whether it is over.
    """

    scenario: Scenario
    placement: Placement
    evaluations: Mapping[Placement, Evaluation] = field(repr=False)
    evaluated: Placement
    steps: int = 0
    invalid_actions: int = 0
    ended: bool = False

    @staticmethod
    def begun(scenario: Scenario) -> Episode:
        """Return an episode without blocks, which are evaluated."""
        empty = scenario.evaluator.space.empty()
        return Episode(scenario, empty, {}, empty).evaluate()

    @property
    def none(self) -> Evaluation:
        """Return the evaluation of the empty placement."""
        return self.evaluations[(0,) * len(self.placement)]

    @property
    def evaluation(self) -> Evaluation:
        """Return the last evaluation."""
        return self.evaluations[self.evaluated]

    @property
    def value(self) -> float:
        """Return J of the last evaluation."""
        return self.scenario.objective.value(self.evaluation)

    @cached_property
    def affordable(self) -> npt.NDArray[np.bool_]:
        """Return which options may be placed beside the present blocks, `[sites, 1 + options]`; none always may."""
        return self.scenario.evaluator.space.affordable(self.placement)

    def moved(self, placement: Placement, invalid: bool = False) -> Episode:
        """Return the episode one step later."""
        invalid_actions = self.invalid_actions + invalid
        return replace(self, placement=placement, steps=self.steps + 1, invalid_actions=invalid_actions)

    def evaluate(self) -> Episode:
        """Return the episode with its present placement evaluated."""
        known = self.evaluations
        if self.placement not in known:
            known = {**known, self.placement: self.scenario.evaluator.evaluate_many([self.placement])[0]}
        return replace(self, evaluations=known, evaluated=self.placement)

    def state(self) -> dict[str, Any]:
        """Return the episode as JSON values; evaluations are named by their placements."""
        return {
            "task": self.scenario.task.model_dump(mode="json"),
            "placement": list(self.placement),
            "steps": self.steps,
            "invalid_actions": self.invalid_actions,
            "ended": self.ended,
            "requested": [list(placement) for placement in self.evaluations],
            "evaluated": list(self.evaluated),
        }

    @staticmethod
    def restored(state: Mapping[str, Any], pool: ScenarioPool) -> Episode:
        """Return the episode that `state()` described; its evaluations come from the evaluator again."""
        same = state["task"] == pool.base_task.model_dump(mode="json")
        scenario = pool.of(pool.base_task if same else Task(**state["task"]))
        requested = [tuple(placement) for placement in state["requested"]]
        return Episode(
            scenario=scenario,
            placement=tuple(state["placement"]),
            evaluations=dict(zip(requested, scenario.evaluator.evaluate_many(requested), strict=True)),
            evaluated=tuple(state["evaluated"]),
            steps=state["steps"],
            invalid_actions=state["invalid_actions"],
            ended=state["ended"],
        )
