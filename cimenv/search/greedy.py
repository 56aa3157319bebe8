"""Greedy searches: forward by gain per cost, with swaps, and backward."""

from __future__ import annotations

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import Search
from cimenv.search.moves import moved_blocks, single_changes, with_option
from cimenv.tasks.objective import Objective

SMALLEST_COST = 1e-3  # an option that costs nothing is worth its gain times a thousand


class Greedy(Search):
    """Adds the block with the best score gain per cost while it raises the objective; then tries larger options.

    Every round evaluates all single changes of the present placement: blocks at empty sites and other options at
    filled ones. Among changes that raise J, the one with the largest gain of score per added cost wins. Ends at a
    placement that no single change improves.
    """

    name = "greedy"

    def __init__(self, objective: Objective, generator: np.random.Generator) -> None:
        super().__init__(objective, generator)
        self.present = self.space.empty()
        self.values: dict[Placement, float] = {}

    def propose(self) -> list[Placement]:
        """Return all single changes of the present placement, moving on while one of them is better."""
        while True:
            changes = single_changes(self.space, self.present)
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

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Take note of a value."""
        self.values[evaluation.placement] = value

    def _rank(self, placement: Placement) -> tuple[float, float]:
        return self.objective.rank(placement, self.values[placement])

    def _worth(self, change: Placement) -> float:
        cost = self.objective.cost(change) - self.objective.cost(self.present)
        gain = self.values[change] - self.values[self.present] + self.objective.task.cost_weight * cost
        return gain / max(cost, SMALLEST_COST)


class Swap(Greedy):
    """Greedy forward search; where it ends, blocks are moved to empty sites, and it goes on from what is better."""

    name = "swap"

    def propose(self) -> list[Placement]:
        """Return the greedy search's changes, then all moves of one block."""
        changes = super().propose()
        return changes or [p for p in moved_blocks(self.space, self.present) if p not in self.values]


class Backward(Search):
    """Starts with as many of the largest blocks as the budget allows and drops or shrinks blocks while J rises.

    Every round evaluates all changes to a cheaper option at one site; the one with the largest J wins.
    """

    name = "backward"

    def __init__(self, objective: Objective, generator: np.random.Generator) -> None:
        super().__init__(objective, generator)
        self.present: Placement = self.space.empty()
        for site, option in enumerate(self.space.largest()):
            fits = self.space.affordable_at(self.present, site)
            cheaper = sorted(range(len(fits)), key=lambda o: -self.space.terms[site, o, 0] if fits[o] else 1.0)
            self.present = with_option(self.present, site, option if fits[option] else cheaper[0])
        self.values: dict[Placement, float] = {}

    def propose(self) -> list[Placement]:
        """Return the start, then all cheaper changes of the present placement."""
        while True:
            if self.present not in self.values:
                return [self.present]
            cost = self.objective.cost(self.present)
            changes = [p for p in single_changes(self.space, self.present) if self.objective.cost(p) < cost]
            if any(change not in self.values for change in changes):
                return changes
            best = max(changes, key=lambda p: self.values[p], default=self.present)
            if self.values[best] <= self.values[self.present]:
                return []
            self.present = best

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Take note of a value."""
        self.values[evaluation.placement] = value
