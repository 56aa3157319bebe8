"""Every feasible placement, depth first."""

from __future__ import annotations

from itertools import islice

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.search.base import Search
from cimenv.tasks.objective import Objective

BATCH = 4_096  # placements per call: one depth-first walk shares all their prefixes


class Exhaustive(Search):
    """Enumerates; the evaluator walks each batch depth first and shares prefix activations."""

    name = "exhaustive"

    def __init__(self, objective: Objective, generator: np.random.Generator) -> None:
        super().__init__(objective, generator)
        self.left = objective.space.all_placements()

    def propose(self) -> list[Placement]:
        """Return the next batch."""
        return list(islice(self.left, BATCH))
