"""A learned surrogate: ridge regression of J on which block is where, and what pairs of blocks add."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.evaluation.intervals import rank_correlation
from cimenv.search.base import Count, NotNegative
from cimenv.search.model_based import ModelBased
from cimenv.search.moves import neighbours
from cimenv.tasks.objective import Objective
from cimenv.tasks.space import PlacementSpace

Floats = npt.NDArray[np.float64]
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
PAIR = 0.5  # prior size of what two blocks add together, in units of what one adds


class Ridge:
    """Bayesian ridge regression of accuracy over placements; leave-one-out errors choose the penalty.

    Args:
        space: of the placements.
        values: placement -> accuracy; at least two.
    """

    def __init__(self, space: PlacementSpace, values: dict[Placement, float]) -> None:
        self.columns = [(int(s), int(o)) for s, o in np.argwhere(space.candidates) if o]
        self.pairs = list(combinations(sorted({site for site, _ in self.columns}), 2))
        x, y = self.features(list(values)), np.array(list(values.values()))
        self.mean = float(y.mean())
        fits = [self._left_out(x, y - self.mean, penalty) for penalty in PENALTIES]
        best = min(range(len(fits)), key=lambda k: float(np.square(fits[k] - y + self.mean).mean()))
        self.left_out = fits[best] + self.mean
        self.noise = float(np.square(self.left_out - y).mean()) + 1e-12
        self.known, penalty = x, PENALTIES[best]
        self.inverse = np.linalg.inv(x @ x.T + penalty * np.eye(len(x)))
        self.dual = self.inverse @ (y - self.mean)
        self.penalty = penalty
        self.rank_correlation = rank_correlation(self.left_out, y)

    def features(self, placements: Sequence[Placement]) -> Floats:
        """Return a constant, every block's indicator, and every pair of filled sites."""
        table = np.array(placements)
        one = [(table[:, site] == option).astype(float) for site, option in self.columns]
        two = [PAIR * ((table[:, a] > 0) & (table[:, b] > 0)) for a, b in self.pairs]
        return np.stack([np.ones(len(table)), *one, *two], axis=1)

    def predict(self, placements: Sequence[Placement]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the accuracy of placements."""
        x = self.features(placements)
        near = x @ self.known.T
        left = np.square(x).sum(axis=1) - np.einsum("pk,kl,pl->p", near, self.inverse, near)
        scale = self.noise / self.penalty
        return self.mean + near @ self.dual, np.sqrt(np.maximum(left, 0.0) * scale)

    @staticmethod
    def _left_out(x: Floats, y: Floats, penalty: float) -> Floats:
        """Return the prediction of every value from all others (closed form of kernel ridge)."""
        inverse = np.linalg.inv(x @ x.T + penalty * np.eye(len(x)))
        return y - (inverse @ y) / np.diag(inverse)


class Surrogate(ModelBased):
    """Draws a few random placements, then evaluates what the regression thinks may be best.

    Args:
        objective: of the task.
        generator: draws.
        first: random placements before the first fit; default twice the sites.
        batch: placements a round.
        exploration: standard deviations added to a prediction.
    """

    name = "surrogate"

    def __init__(
        self,
        objective: Objective,
        generator: np.random.Generator,
        *,
        first: Count | None = None,
        batch: Count = 4,
        exploration: NotNegative = 1.0,
    ) -> None:
        super().__init__(objective, generator, batch, exploration)
        self.first = first or 2 * len(self.space.sites)

    def propose(self) -> list[Placement]:
        """Return random placements, then the most promising ones."""
        if len(self.values) < self.first:
            return self.drawn(self.first)
        near = [p for leader in self.leaders() for p in neighbours(self.space, leader)]
        pool = [p for p in dict.fromkeys(near + self.drawn()) if p not in self.values]
        if not pool:
            return []
        acquisition = self.acquisition(Ridge(self.space, self.accuracies), pool, self.exploration)
        return [pool[k] for k in np.argsort(acquisition)[::-1][: self.batch]]
