"""Knapsack on single-site gains: sites * options + 1 evaluations."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.cost.hardware import COST_TERMS
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.objective import Objective

GRID = 2_000  # steps into which a budget is divided


class Knapsack:
    """Evaluates every option alone, takes the gains as additive, and solves for the best sum within the budget.

    Without a budget the best option of every site wins by itself. With one budget term a dynamic programme over a grid
    of 2,000 steps (costs rounded up) is solved; with several, the terms are joined by their largest relative use.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, self.space = objective, objective.space
        self.values: dict[Placement, float] = {}
        self.proposals = 0

    def propose(self) -> list[Placement]:
        """Return all single-block placements, then the solution."""
        self.proposals += 1
        if self.proposals == 1:
            return self._singles()
        return [self._feasible_solution()] if self.proposals == 2 else []

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Take note of a value."""
        self.values[evaluation.placement] = value

    def _singles(self) -> list[Placement]:
        empty = self.space.empty()
        allowed = np.argwhere(self.space.affordable(empty)[:, 1:])
        return [(*empty[:s], int(o) + 1, *empty[s + 1 :]) for s, o in allowed]

    def _feasible_solution(self) -> Placement:
        """Tighten the grid's capacity until the solution keeps the budget: energy ranges do not quite add up."""
        for capacity in range(GRID, -1, -GRID // 100):
            found = self._solution(capacity)
            if self.space.feasible(found):
                return found
        return self.space.empty()

    def _solution(self, capacity: int) -> Placement:
        empty = self.space.empty()
        base = self.values[empty]
        best: dict[int, tuple[float, Placement]] = {0: (0.0, ())}
        for s in range(len(empty)):
            gains = {0: 0.0}
            for o in range(1, self.space.terms.shape[1]):
                single = (*empty[:s], o, *empty[s + 1 :])
                if single in self.values:
                    gains[o] = self.values[single] - base
            reached: dict[int, tuple[float, Placement]] = {}
            for (used, (value, placed)), (o, gain) in product(best.items(), gains.items()):
                total = used + self._grid_cost(s, o)
                if total <= capacity and (total not in reached or value + gain > reached[total][0]):
                    reached[total] = (value + gain, (*placed, o))
            best = reached
        return max(best.values())[1]

    def _grid_cost(self, site: int, option: int) -> int:
        limits = self.space.task.budget
        if not limits or option == 0:
            return 0
        terms = dict(zip(COST_TERMS, self.space.terms[site, option], strict=True))
        used = {name: terms[name] for name in limits if terms[name] > 0}  # a limit of 0 allows what adds nothing
        use = max((term / limits[name] if limits[name] else math.inf for name, term in used.items()), default=0.0)
        return int(np.ceil(use * GRID - 1e-9)) if np.isfinite(use) else GRID + 1
