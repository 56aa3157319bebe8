"""Random search over feasible placements."""

from __future__ import annotations

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.tasks.objective import Objective

TRIES = 1_000


class RandomSearch:
    """Draws feasible placements, each once: random order of sites, a random allowed option (or none) at each."""

    def __init__(self, objective: Objective, generator: np.random.Generator) -> None:
        self.space, self.generator = objective.space, generator
        self.seen: set[Placement] = set()

    def propose(self) -> list[Placement]:
        """Return one placement that was not seen yet; none when a thousand draws bring nothing new."""
        for _ in range(TRIES):
            drawn = self._draw()
            if drawn not in self.seen:
                return [drawn]
        return []

    def observe(self, placement: Placement, value: float) -> None:
        """Remember that the placement was seen."""
        del value
        self.seen.add(placement)

    def _draw(self) -> Placement:
        placed = self.space.empty()
        for site in self.generator.permutation(len(placed)):
            allowed = np.flatnonzero(self.space.affordable(placed)[site])
            option = int(self.generator.choice(allowed))
            placed = (*placed[:site], option, *placed[site + 1 :])
        return placed
