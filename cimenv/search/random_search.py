"""Random search over feasible placements."""

from __future__ import annotations

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import Evaluation
from cimenv.search.moves import random_placement
from cimenv.tasks.objective import Objective


class RandomSearch:
    """Draws feasible placements: sites in random order, a random allowed option (or none) at each."""

    def __init__(self, objective: Objective, generator: np.random.Generator) -> None:
        self.space, self.generator = objective.space, generator

    def propose(self) -> list[Placement]:
        """Return one placement."""
        return [random_placement(self.space, self.generator)]

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Nothing to learn."""
