"""Rules of thumb: one option everywhere, or at the first, the last, or the worst k sites."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import Evaluation
from cimenv.search.moves import with_option
from cimenv.tasks.objective import Objective
from cimenv.tasks.space import PlacementSpace

Order = Callable[[PlacementSpace, Evaluation], Sequence[int]]
SMALLEST_COST = 1e-3  # an option that costs nothing is worth its error times a thousand


class Rule:
    """Evaluates, for every option, the placements with it at the first k sites of an order, k = 1 ... all.

    Args:
        objective: of the task.
        order: from the space and the evaluation without blocks, sites.
        only_all: k = all sites only.
    """

    def __init__(self, objective: Objective, order: Order, *, only_all: bool = False) -> None:
        self.space, self.order, self.only_all = objective.space, order, only_all
        self.left: list[Placement] = []

    def propose(self) -> list[Placement]:
        """Return all placements of the rule, once."""
        proposed, self.left = self.left, []
        return proposed

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Find the order from the evaluation without blocks."""
        del value
        if any(evaluation.placement):
            return
        sites = self.order(self.space, evaluation)
        for option in range(1, self.space.terms.shape[1]):
            nested = self._nested(sites, option)
            self.left += nested[-1:] if self.only_all else nested

    def _nested(self, sites: Sequence[int], option: int) -> list[Placement]:
        placed, found = self.space.empty(), []
        for site in sites:
            if self.space.affordable_at(placed, site)[option]:
                placed = with_option(placed, int(site), option)
                found.append(placed)
        return found


def first_sites(space: PlacementSpace, none: Evaluation) -> Sequence[int]:
    """Return sites from the input on."""
    del none
    return range(len(space.sites))


def last_sites(space: PlacementSpace, none: Evaluation) -> Sequence[int]:
    """Return sites from the output back."""
    del none
    return range(len(space.sites))[::-1]


def by_error(space: PlacementSpace, none: Evaluation) -> Sequence[int]:
    """Return sites by their feature error without blocks, largest first."""
    del space
    return [int(s) for s in np.argsort(-_errors(none), kind="stable")]


def by_error_per_cost(space: PlacementSpace, none: Evaluation) -> Sequence[int]:
    """Return sites by feature error over the cost of the cheapest block there, largest first."""
    cost = np.where(space.candidates, space.scalar_costs, np.inf)[:, 1:].min(axis=1, initial=np.inf)
    return [int(s) for s in np.argsort(-_errors(none) / np.maximum(cost, SMALLEST_COST), kind="stable")]


def _errors(none: Evaluation) -> npt.NDArray[np.float64]:
    """Return the relative feature error of every site, the mean over chips."""
    return np.asarray(none.site_errors[..., 0], dtype=np.float64)
