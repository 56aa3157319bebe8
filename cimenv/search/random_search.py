"""Random search over feasible placements."""

from __future__ import annotations

from cimenv.compensation.options import Placement
from cimenv.search.base import Search
from cimenv.search.moves import random_placement


class RandomSearch(Search):
    """Draws feasible placements: sites in random order, a random allowed option (or none) at each."""

    name = "random"
    draws = endless = True

    def propose(self) -> list[Placement]:
        """Return one placement."""
        return [random_placement(self.space, self.generator)]
