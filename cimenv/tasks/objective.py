"""The objective J of a placement: score minus weighted cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cimenv.compensation.fit_log import Gains
from cimenv.compensation.options import Placement
from cimenv.data.splits import Split
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.evaluators.base import Evaluator
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SMALLEST_GAP = 0.05
SCORE_RANGE = (-20.0, 20.0)


@dataclass(frozen=True)
class Objective:
    """`J = score - cost_weight * cost`, `score = (acc - acc_none) / max(acc_ref - acc_none, 0.05)`.

    Attributes:
        task: statistic, cost weight.
        space: costs.
        acc_none: the task's statistic without blocks.
        acc_ref: clean accuracy of the `standard` recipe on the same images.
        gains: what every block added to accuracy while the bank was fitted, if anybody kept it.
    """

    task: Task
    space: PlacementSpace
    acc_none: float
    acc_ref: float
    gains: Gains | None = None

    @staticmethod
    def of(evaluator: Evaluator, split: Split = "val", chips: int | range | None = None) -> Objective:
        """Return the objective of an evaluator's task; evaluates the empty placement."""
        space = evaluator.space
        none = evaluator.evaluate(space.empty(), split, chips=chips)
        accuracy = none.value(evaluator.task.statistic, evaluator.task.percentile)
        return Objective(evaluator.task, space, accuracy, evaluator.reference_accuracy(split), evaluator.gains)

    def accuracy(self, evaluation: Evaluation) -> float:
        """Return the task's statistic over chips."""
        return evaluation.value(self.task.statistic, self.task.percentile)

    def score(self, evaluation: Evaluation) -> float:
        """Return the share of what variation took that came back: 0 without blocks, 1 at acc_ref."""
        return (self.accuracy(evaluation) - self.acc_none) / self.gap

    @property
    def gap(self) -> float:
        """Return the accuracy that a score of 1 stands for: max(acc_ref - acc_none, 0.05)."""
        return max(self.acc_ref - self.acc_none, SMALLEST_GAP)

    def of_accuracy(self, accuracy: float, placement: Placement) -> float:
        """Return J of a placement that reaches an accuracy."""
        return (accuracy - self.acc_none) / self.gap - self.task.cost_weight * self.cost(placement)

    def rank(self, placement: Placement, value: float) -> tuple[float, float]:
        """Return the key by which placements are ordered: J, and among equals fewer added weights."""
        return value, -self.space.shares(placement)["weights"]

    def cost(self, placement: Placement) -> float:
        """Return the scalar cost."""
        return self.space.scalar_cost(placement)

    def logged(self, sites: Ints, options: Ints) -> tuple[Floats, Floats] | None:
        """Return what blocks added to J by the log of the bank's fit, their cost counted, and its standard error.

        None where nobody kept one. `options[k]` (1 is the first) is the block at `sites[k]`.
        """
        if self.gains is None:
            return None
        added, error = self.gains.of(sites, options)
        price = self.task.cost_weight * self.space.scalar_costs[sites, options]
        return added / self.gap - price, error / self.gap

    def value(self, evaluation: Evaluation) -> float:
        """Return J."""
        return self.of_accuracy(self.accuracy(evaluation), evaluation.placement)
