"""Two Gaussian processes: over what blocks add, learned from tables, and over the placements of one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize
from scipy.spatial.distance import cdist

from cimenv.compensation.options import Placement
from cimenv.search.experience import FEATURES, Blocks, Lesson

Floats = npt.NDArray[np.float64]
JITTER = 1e-4  # of the variance of what is told apart
SMALLEST_SPREAD = 1e-6
STARTS = (0.6, 0.05, 0.15, 0.1, 0.6)  # four variances of `Process`, and its length
BOUNDS = (1e-4, 1e2)  # of all five
INTERACTION_MULTIPLES = (1.0, 4.0, 16.0, 64.0)  # of the variance that the tables' additive fits leave
LOG_DEVIATION_BOUNDS = (1e-3, 1e0)  # of what logs deviate by, in units of what variation took


class Process:
    """What blocks add, as a Gaussian process over their features, conditioned on the blocks of tables.

    The covariance of two blocks is `a exp(-|x - x'|^2 / 2 l^2)`, and within a task `b` more, at the same site `c` more,
    for the same block `d` more; marginal likelihood chooses all five (Rasmussen and Williams, Gaussian Processes for
    Machine Learning, 2006, sections 2.2 and 5.4). Features and values are standardised;
    a feature that is the same in all tables tells nothing. What the fit of a task's bank logged is an observation of
    each of its blocks, with the log's standard error and what the tables' logs deviate by beyond theirs.

    Args:
        lessons: of the tables, at least one.
    """

    def __init__(self, lessons: Sequence[Lesson]) -> None:
        features = np.concatenate([each.blocks.features for each in lessons])
        values = np.concatenate([each.added for each in lessons])
        spread = features.std(axis=0)
        self.center, self.spread = features.mean(axis=0), np.where(spread > SMALLEST_SPREAD, spread, np.inf)
        self.mean, self.scale = float(values.mean()), max(float(values.std()), SMALLEST_SPREAD)
        first = np.array([each.first_block_gain for each in lessons])
        self.first_block_gain = float(first.mean()), float(first.var()) + JITTER
        self.misfit = max(float(np.mean([each.misfit for each in lessons])) / self.scale**2, JITTER)
        self.known, self._values = self._standard(features), (values - self.mean) / self.scale
        tasks = np.repeat(np.arange(len(lessons)), [len(each.added) for each in lessons])
        sites = np.concatenate([each.blocks.sites for each in lessons])
        self._squares = cdist(self.known, self.known, "sqeuclidean")
        self._same_task = np.equal.outer(tasks, tasks)
        self._same_site = self._same_task & np.equal.outer(sites, sites)
        fits = optimize.minimize(self._negative_log_likelihood, np.log(STARTS), bounds=[np.log(BOUNDS)] * len(STARTS))
        self.parameters: tuple[float, ...] = tuple(np.exp(fits.x).tolist())
        self._factor = np.linalg.cholesky(self._covariance(self.parameters))
        self._weights = _solved(self._factor, self._values)
        self.log_deviation = _log_deviation(lessons)

    def prior(self, blocks: Blocks) -> tuple[Floats, Floats]:
        """Return mean `[blocks]` and covariance of what the blocks of a new task add, in units of accuracy."""
        near = self._cross_covariance(self._standard(blocks.features), self.known)
        mean = self.mean + self.scale * (near @ self._weights)
        covariance = self.scale**2 * (self._prior_covariance(blocks) - near @ _solved(self._factor, near.T))
        if blocks.logged is not None and self.log_deviation is not None:
            mean, covariance = _informed(mean, covariance, blocks.logged, self.log_deviation)
        return blocks.lost * mean, blocks.lost**2 * covariance

    def _standard(self, features: Floats) -> Floats:
        return np.asarray((features - self.center) / self.spread / np.sqrt(len(FEATURES)))

    def _cross_covariance(self, x: Floats, y: Floats) -> Floats:
        """Return the covariance of blocks of different tasks."""
        return self._kernel(cdist(x, y, "sqeuclidean"), self.parameters)

    def _prior_covariance(self, blocks: Blocks) -> Floats:
        """Return the covariance of the blocks of one task, before anything is known."""
        x = self._standard(blocks.features)
        _, task, site, block, _ = self.parameters
        same_site = np.equal.outer(blocks.sites, blocks.sites)
        return np.asarray(self._cross_covariance(x, x) + task + site * same_site + block * np.eye(len(x)))

    @staticmethod
    def _kernel(squares: Floats, parameters: Sequence[float]) -> Floats:
        return np.asarray(parameters[0] * np.exp(-squares / (2 * parameters[4] ** 2)))

    def _covariance(self, parameters: Sequence[float]) -> Floats:
        _, task, site, block, _ = parameters
        covariance = self._kernel(self._squares, parameters) + task * self._same_task + site * self._same_site
        return np.asarray(covariance + (block + JITTER) * np.eye(len(covariance)))

    def _negative_log_likelihood(self, logs: Floats) -> float:
        """Return the negative logarithm of the marginal likelihood, up to a constant."""
        factor = np.linalg.cholesky(self._covariance(np.exp(logs).tolist()))
        return float(0.5 * self._values @ _solved(factor, self._values) + np.log(np.diag(factor)).sum())


class Belief:
    """The posterior of a task's accuracies: what its blocks add, and an interaction by which they do not just add up.

    Any block at all adds a gain besides, as in the tables. The interaction has e times less covariance for every site
    that differs, and the variance that the tables' additive fits leave, times one of `INTERACTION_MULTIPLES`: the one
    that makes the task's own evaluations most likely.

    Args:
        process: learned from other tasks.
        blocks: of this task.
        accuracies: placement -> accuracy, of those evaluated; the empty one at least.
    """

    def __init__(self, process: Process, blocks: Blocks, accuracies: Mapping[Placement, float]) -> None:
        self.blocks = blocks
        added, covariance = process.prior(blocks)
        first, uncertain = process.first_block_gain
        self.added = np.concatenate([[blocks.lost * first], added])
        self.covariance = linalg.block_diag(blocks.lost**2 * uncertain, covariance)
        self.known = np.array(list(accuracies))
        self.base = accuracies[(0,) * self.known.shape[1]]
        self._chosen = self._placed(self.known)
        residual = np.array(list(accuracies.values())) - self.base - self._chosen @ self.added
        learned = process.misfit * (process.scale * blocks.lost) ** 2
        fits = [self._explained(residual, multiple * learned) for multiple in INTERACTION_MULTIPLES]
        _, self.interaction, self._factor, self._weights = min(fits, key=lambda each: each[0])

    def _explained(self, residual: Floats, interaction: float) -> tuple[float, float, Floats, Floats]:
        """Return the evaluations' negative log likelihood for an interaction's variance, and what predictions need."""
        held = self._shared(self._chosen, self.known, interaction) + JITTER * interaction * np.eye(len(self.known))
        factor = np.asarray(np.linalg.cholesky(held), dtype=np.float64)
        weights = _solved(factor, residual)
        return float(0.5 * residual @ weights + np.log(np.diag(factor)).sum()), interaction, factor, weights

    def _placed(self, placements: npt.ArrayLike) -> Floats:
        """Return whether placements have any block, and which, `[placements, 1 + blocks]`."""
        blocks = self.blocks.placed(placements)
        return np.concatenate([blocks.any(axis=1, keepdims=True), blocks], axis=1)

    def predict(self, placements: Sequence[Placement]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the accuracy of placements."""
        table = np.array(placements)
        chosen = self._placed(table)
        near = self._shared(chosen, table, self.interaction)
        own = ((chosen @ self.covariance) * chosen).sum(axis=1) + self.interaction
        left = own - (near * _solved(self._factor, near.T).T).sum(axis=1)
        return self.base + chosen @ self.added + near @ self._weights, np.sqrt(np.maximum(left, 0.0))

    def _shared(self, chosen: Floats, table: npt.NDArray[np.int64], interaction: float) -> Floats:
        """Return the covariance of placements with those that are known."""
        differing = (table[:, None] != self.known[None]).sum(axis=-1)
        return np.asarray(chosen @ self.covariance @ self._chosen.T + interaction * np.exp(-differing))


def _log_deviation(lessons: Sequence[Lesson]) -> float | None:
    """Return the standard deviation of logs from what blocks add beyond their errors, or None if no table has a log."""
    pairs = [(each.added, *each.blocks.logged) for each in lessons if each.blocks.logged is not None]
    if not pairs:
        return None
    added, logged, error = (np.concatenate(column) for column in zip(*pairs, strict=True))

    def negative_log_likelihood(log: float) -> float:
        variance = error**2 + np.exp(2 * log)
        return float(np.sum((added - logged) ** 2 / variance + np.log(variance)))

    bounds = np.log(LOG_DEVIATION_BOUNDS)
    return float(np.exp(optimize.minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded").x))


def _informed(mean: Floats, covariance: Floats, logged: Floats, deviation: float) -> tuple[Floats, Floats]:
    """Return mean and covariance given what was logged, all in units of what variation took."""
    value, error = logged
    factor = np.linalg.cholesky(covariance + np.diag(error**2 + deviation**2))
    mean = mean + covariance @ _solved(factor, value - mean)
    return mean, covariance - covariance @ _solved(factor, covariance)


def _solved(factor: npt.NDArray[np.floating], values: Floats) -> Floats:
    """Return the solution of a linear system whose matrix is given by its Cholesky factor."""
    return np.asarray(linalg.cho_solve((factor, True), values))
