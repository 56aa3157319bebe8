"""Knapsack: blocks' gains are taken as additive, and the best sum within the budget is found."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import Search
from cimenv.tasks.objective import Objective
from cimenv.tasks.space import PlacementSpace

Floats = npt.NDArray[np.float64]
GRID = 2_000  # steps into which a budget is divided


class Knapsack(Search):
    """Evaluates every option alone, and then the solution: sites * options + 1 evaluations."""

    name = "knapsack"

    def __init__(self, objective: Objective, generator: np.random.Generator) -> None:
        super().__init__(objective, generator)
        self.values: dict[Placement, float] = {}
        self.proposals = 0

    def propose(self) -> list[Placement]:
        """Return all single-block placements, then the solution."""
        self.proposals += 1
        if self.proposals == 1:
            return list(self._singles().values())
        return [self._solution()] if self.proposals == 2 else []

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Take note of a value."""
        self.values[evaluation.placement] = value

    def _singles(self) -> dict[tuple[int, int], Placement]:
        """Return the placements of one block by site and option."""
        empty = self.space.empty()
        allowed = [(int(s), int(o) + 1) for s, o in np.argwhere(self.space.affordable(empty)[:, 1:])]
        return {(s, o): (*empty[:s], o, *empty[s + 1 :]) for s, o in allowed}

    def _solution(self) -> Placement:
        gains = nothing(self.space)
        for (s, o), single in self._singles().items():
            if single in self.values:
                gains[s, o] = self.values[single] - self.values[self.space.empty()]
        return best_sum(self.space, gains)


class LoggedKnapsack(Search):
    """Solves with the gains that the bank's fit logged: one placement beside the empty one.

    Raises:
        ConfigError: nobody kept such a log.
    """

    name = "fit_log"

    def __init__(self, objective: Objective, generator: np.random.Generator) -> None:
        super().__init__(objective, generator)
        sites, options = np.argwhere(objective.space.affordable(objective.space.empty())[:, 1:]).T
        self.left: list[Placement] = []
        if not len(sites):
            return
        logged = objective.logged(sites, options + 1)
        if logged is None:
            raise ConfigError(
                f"fit_log: the blocks of {objective.task.name} were fitted without a log, or too briefly for one to "
                "tell; fit them again (an empty CIMENV_CACHE), or take `knapsack`."
            )
        gains = nothing(objective.space)
        gains[sites, options + 1], _ = logged
        self.left = [best_sum(objective.space, gains)]

    def propose(self) -> list[Placement]:
        """Return the solution, once."""
        proposed, self.left = self.left, []
        return proposed


def nothing(space: PlacementSpace) -> Floats:
    """Return the gains of no block, `[sites, 1 + options]`: 0, and minus infinity for every option."""
    gains = np.full(space.candidates.shape, -np.inf)
    gains[:, 0] = 0.0
    return gains


def best_sum(space: PlacementSpace, gains: Floats) -> Placement:
    """Return the placement with the largest sum of gains within the budget.

    Without a budget the best option of every site wins by itself. With one budget term a dynamic programme over a grid
    of 2,000 steps (costs rounded up) is solved; with several, the terms are joined by their largest relative use. The
    grid's capacity is tightened until the solution keeps the budget: energy ranges do not quite add up.

    Args:
        space: costs, budget.
        gains: `[sites, 1 + options]` in J; minus infinity where an option may not be placed.
    """
    for capacity in range(GRID, -1, -GRID // 100):
        placement = _within(space, gains, capacity)
        if space.feasible(placement):
            return placement
    return space.empty()


def _within(space: PlacementSpace, gains: Floats, capacity: int) -> Placement:
    best: dict[int, tuple[float, Placement]] = {0: (0.0, ())}
    for s, row in enumerate(gains):
        here = {int(o): float(row[o]) for o in np.flatnonzero(np.isfinite(row))}
        reached: dict[int, tuple[float, Placement]] = {}
        for (used, (value, placed)), (o, gain) in product(best.items(), here.items()):
            total = used + _grid_cost(space, s, o)
            if total <= capacity and (total not in reached or value + gain > reached[total][0]):
                reached[total] = (value + gain, (*placed, o))
        best = reached
    return max(best.values())[1]


def _grid_cost(space: PlacementSpace, site: int, option: int) -> int:
    limits = space.task.budget
    if not limits or option == 0:
        return 0
    terms = dict(zip(space.term_names, space.terms[site, option], strict=True))
    used = {name: terms[name] for name in limits if terms[name] > 0}  # a limit of 0 allows what adds nothing
    use = max((term / limits[name] if limits[name] else math.inf for name, term in used.items()), default=0.0)
    return int(np.ceil(use * GRID - 1e-9)) if np.isfinite(use) else GRID + 1
