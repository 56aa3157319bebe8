"""Rules of thumb: one option everywhere, or at the first, the last, or the worst k sites."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import Search
from cimenv.search.moves import with_option
from cimenv.tasks.objective import Objective
from cimenv.tasks.space import PlacementSpace

Order = Callable[[PlacementSpace, Evaluation], Sequence[int]]
SMALLEST_COST = 1e-3  # an option that costs nothing is worth its error times a thousand


class Rule(Search):
    """Evaluates, for every option, the placements with it at the first k sites of an order, k = 1 ... all."""

    only_all: ClassVar[bool] = False  # k = all sites only

    def __init__(self, objective: Objective, generator: np.random.Generator) -> None:
        super().__init__(objective, generator)
        self.left: list[Placement] = []

    def order(self, none: Evaluation) -> Sequence[int]:
        """Return sites in order, given the evaluation without blocks."""
        raise NotImplementedError

    def propose(self) -> list[Placement]:
        """Return all placements of the rule, once."""
        proposed, self.left = self.left, []
        return proposed

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Find the order from the evaluation without blocks."""
        del value
        if any(evaluation.placement):
            return
        sites = self.order(evaluation)
        for option in range(1, self.space.terms.shape[1]):
            nested = self._nested(sites, option)
            self.left += nested[-1:] if self.only_all else nested

    def _nested(self, sites: Sequence[int], option: int) -> list[Placement]:
        placed, chain = self.space.empty(), []
        for site in sites:
            if self.space.affordable_at(placed, site)[option]:
                placed = with_option(placed, int(site), option)
                chain.append(placed)
        return chain


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


class Uniform(Rule):
    """Evaluates every option at all sites that it fits at."""

    name = "uniform"
    only_all = True

    def order(self, none: Evaluation) -> Sequence[int]:
        """Return all sites."""
        return first_sites(self.space, none)


class First(Rule):
    """Evaluates every option at the first k sites."""

    name = "first"

    def order(self, none: Evaluation) -> Sequence[int]:
        """Return sites in order; see `first_sites`."""
        return first_sites(self.space, none)


class Last(Rule):
    """Evaluates every option at the last k sites."""

    name = "last"

    def order(self, none: Evaluation) -> Sequence[int]:
        """Return sites in order; see `last_sites`."""
        return last_sites(self.space, none)


class ByError(Rule):
    """Evaluates every option at the k sites with the largest feature error."""

    name = "error"

    def order(self, none: Evaluation) -> Sequence[int]:
        """Return sites in order; see `by_error`."""
        return by_error(self.space, none)


class ByErrorPerCost(Rule):
    """Evaluates every option at the k sites with the largest feature error per cost of a block."""

    name = "error_per_cost"

    def order(self, none: Evaluation) -> Sequence[int]:
        """Return sites in order; see `by_error_per_cost`."""
        return by_error_per_cost(self.space, none)
