"""A genetic algorithm: tournaments, uniform crossover, mutation by site; what breaks the budget is repaired."""

from __future__ import annotations

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import Count, NotNegative, Search
from cimenv.search.moves import random_placement, repaired
from cimenv.tasks.objective import Objective


class Genetic(Search):
    """Keeps the best placements seen as its population.

    Args:
        objective: of the task.
        generator: draws.
        population: placements kept; the first are random.
        children: placements of a generation.
        tournament: placements drawn for each parent, the best of which wins.
        mutations: expected number of sites that change in a child.
    """

    name = "genetic"
    draws = endless = True

    def __init__(
        self,
        objective: Objective,
        generator: np.random.Generator,
        *,
        population: Count = 16,
        children: Count = 8,
        tournament: Count = 3,
        mutations: NotNegative = 1.0,
    ) -> None:
        super().__init__(objective, generator)
        self.size, self.children, self.tournament = population, children, tournament
        self.sites = np.flatnonzero(self.space.candidates[:, 1:].any(axis=1))
        self.mutation = min(1.0, mutations / max(len(self.sites), 1))
        self.values: dict[Placement, float] = {}

    def propose(self) -> list[Placement]:
        """Return random placements, then a generation of children."""
        if len(self.values) < self.size:
            first = [random_placement(self.space, self.generator) for _ in range(self.size - len(self.values))]
            if any(placement not in self.values for placement in first):
                return first
        ranked = sorted(self.values, key=lambda p: self.objective.rank(p, self.values[p]), reverse=True)
        return [self._child(ranked[: self.size]) for _ in range(self.children)]

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Take note of a value."""
        self.values[evaluation.placement] = value

    def _child(self, population: list[Placement]) -> Placement:
        one, other = (
            population[int(self.generator.integers(len(population), size=self.tournament).min())] for _ in "ab"
        )
        child = [a if self.generator.random() < 0.5 else b for a, b in zip(one, other, strict=True)]
        for site in self.sites[self.generator.random(len(self.sites)) < self.mutation]:
            others = [o for o in np.flatnonzero(self.space.candidates[site]) if o != child[site]]
            child[site] = int(self.generator.choice(others))
        return repaired(self.space, tuple(child), self.generator)
