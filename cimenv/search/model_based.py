"""What searches that predict accuracy share: what they observed, who leads, the acquisition value of a placement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import Search
from cimenv.search.moves import random_placement
from cimenv.tasks.objective import Objective

Floats = npt.NDArray[np.float64]
POOL = 200  # random placements a round, beside the neighbours of the best
LEADERS = 3


class Predicts(Protocol):
    """A model of accuracy over placements."""

    def predict(self, placements: Sequence[Placement]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the accuracy of placements."""


class ModelBased(Search):
    """A search that remembers what it observed, for a model to predict from.

    Args:
        objective: of the task.
        generator: draws.
        batch: placements a round.
        exploration: standard deviations added to a prediction.
    """

    draws = endless = True

    def __init__(self, objective: Objective, generator: np.random.Generator, batch: int, exploration: float) -> None:
        super().__init__(objective, generator)
        self.batch, self.exploration = batch, exploration
        self.values: dict[Placement, float] = {}
        self.accuracies: dict[Placement, float] = {}

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Take note of a value."""
        self.values[evaluation.placement] = value
        self.accuracies[evaluation.placement] = self.objective.accuracy(evaluation)

    def leaders(self) -> list[Placement]:
        """Return the best placements so far."""
        return sorted(self.values, key=lambda p: self.objective.rank(p, self.values[p]), reverse=True)[:LEADERS]

    def drawn(self, count: int = POOL) -> list[Placement]:
        """Return random placements."""
        return [random_placement(self.space, self.generator) for _ in range(count)]

    def acquisition(self, model: Predicts, placements: Sequence[Placement], exploration: float) -> Floats:
        """Return J of placements if their accuracy is some standard deviations above what is predicted."""
        mean, deviation = model.predict(placements)
        pairs = zip(mean + exploration * deviation, placements, strict=True)
        return np.array([self.objective.of_accuracy(accuracy, placement) for accuracy, placement in pairs])
