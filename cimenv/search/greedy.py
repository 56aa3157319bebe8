"""Greedy forward search by gain per cost."""

from __future__ import annotations

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.tasks.objective import Objective

SMALLEST_COST = 1e-3  # an option that costs nothing is worth its gain times a thousand


class Greedy:
    """Adds the block with the best score gain per cost while it raises the objective; then tries larger options.

    Every round evaluates all single changes of the present placement: blocks at empty sites and other options at
    filled ones. Among changes that raise J, the one with the largest gain of score per added cost wins. Ends at a
    placement that no single change improves.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, self.space = objective, objective.space
        self.present = self.space.empty()
        self.values: dict[Placement, float] = {}

    def propose(self) -> list[Placement]:
        """Return all single changes of the present placement, moving on while one of them is better."""
        while True:
            changes = self._changes()
            if not changes or any(change not in self.values for change in changes):
                return changes
            better = [c for c in changes if self.values[c] > self.values[self.present] + 1e-12]
            if better:
                self.present = max(better, key=self._worth)
                continue
            best = max(self.values, key=self._rank)
            if self._rank(best) <= self._rank(self.present):
                return []
            self.present = best  # passed by on the way: a larger gain at a higher cost

    def observe(self, placement: Placement, value: float) -> None:
        """Take note of a value."""
        self.values[placement] = value

    def _changes(self) -> list[Placement]:
        found = []
        for s, here in enumerate(self.present):
            without = (*self.present[:s], 0, *self.present[s + 1 :])
            allowed = np.flatnonzero(self.space.affordable(without)[s])
            found += [(*without[:s], int(o), *without[s + 1 :]) for o in allowed if o != here]
        return found

    def _rank(self, placement: Placement) -> tuple[float, float]:
        return self.objective.rank(placement, self.values[placement])

    def _worth(self, change: Placement) -> float:
        cost = self.objective.cost(change) - self.objective.cost(self.present)
        gain = self.values[change] - self.values[self.present] + self.objective.task.cost_weight * cost
        return gain / max(cost, SMALLEST_COST)
