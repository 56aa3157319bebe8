"""Every feasible placement, depth first."""

from __future__ import annotations

from itertools import islice

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.objective import Objective

BATCH = 4_096  # placements per call: one depth-first walk shares all their prefixes


class Exhaustive:
    """Enumerates; the evaluator walks each batch depth first and shares prefix activations."""

    def __init__(self, objective: Objective) -> None:
        self.left = objective.space.all_placements()

    def propose(self) -> list[Placement]:
        """Return the next batch."""
        return list(islice(self.left, BATCH))

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Nothing to learn."""
