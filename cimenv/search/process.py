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
RESTS = (1.0, 4.0, 16.0, 64.0)  # multiples of what the tables' blocks leave unexplained
ASTRAY = (1e-3, 1e0)  # of what logs deviate by, in units of what variation took


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
        jumps = np.array([each.jump for each in lessons])
        self.jump = float(jumps.mean()), float(jumps.var()) + JITTER
        self.misfit = max(float(np.mean([each.misfit for each in lessons])) / self.scale**2, JITTER)
        self.known, self._values = self._standard(features), (values - self.mean) / self.scale
        tasks = np.repeat(np.arange(len(lessons)), [len(each.added) for each in lessons])
        sites = np.concatenate([each.blocks.sites for each in lessons])
        self._squares = cdist(self.known, self.known, "sqeuclidean")
        self._same_task = np.equal.outer(tasks, tasks)
        self._same_site = self._same_task & np.equal.outer(sites, sites)
        found = optimize.minimize(self._unlikely, np.log(STARTS), bounds=[np.log(BOUNDS)] * len(STARTS))
        self.parameters: tuple[float, ...] = tuple(np.exp(found.x).tolist())
        self._factor = np.linalg.cholesky(self._covariance(self.parameters))
        self._weights = _solved(self._factor, self._values)
        self.astray = _astray(lessons)

    def prior(self, blocks: Blocks) -> tuple[Floats, Floats]:
        """Return mean `[blocks]` and covariance of what the blocks of a new task add, in units of accuracy."""
        near = self._near(self._standard(blocks.features), self.known)
        mean = self.mean + self.scale * (near @ self._weights)
        covariance = self.scale**2 * (self._own(blocks) - near @ _solved(self._factor, near.T))
        if blocks.logged is not None and self.astray is not None:
            mean, covariance = _informed(mean, covariance, blocks.logged, self.astray)
        return blocks.lost * mean, blocks.lost**2 * covariance

    def _standard(self, features: Floats) -> Floats:
        return np.asarray((features - self.center) / self.spread / np.sqrt(len(FEATURES)))

    def _near(self, x: Floats, y: Floats) -> Floats:
        """Return the covariance of blocks of different tasks."""
        return self._alike(cdist(x, y, "sqeuclidean"), self.parameters)

    def _own(self, blocks: Blocks) -> Floats:
        """Return the covariance of the blocks of one task, before anything is known."""
        x = self._standard(blocks.features)
        _, task, site, block, _ = self.parameters
        same_site = np.equal.outer(blocks.sites, blocks.sites)
        return np.asarray(self._near(x, x) + task + site * same_site + block * np.eye(len(x)))

    @staticmethod
    def _alike(squares: Floats, parameters: Sequence[float]) -> Floats:
        return np.asarray(parameters[0] * np.exp(-squares / (2 * parameters[4] ** 2)))

    def _covariance(self, parameters: Sequence[float]) -> Floats:
        _, task, site, block, _ = parameters
        found = self._alike(self._squares, parameters) + task * self._same_task + site * self._same_site
        return np.asarray(found + (block + JITTER) * np.eye(len(found)))

    def _unlikely(self, logs: Floats) -> float:
        """Return the negative logarithm of the marginal likelihood, up to a constant."""
        factor = np.linalg.cholesky(self._covariance(np.exp(logs).tolist()))
        return float(0.5 * self._values @ _solved(factor, self._values) + np.log(np.diag(factor)).sum())


class Belief:
    """What is believed of a task's placements: what their blocks add, and a rest by which blocks do not just add up.

    Any block at all adds a jump besides, as in the tables. The rest has e times less covariance for every site that
    differs, and the variance that the tables' additive fits leave, or one of its `RESTS` multiples: the one that makes
    the task's own evaluations most likely.

    Args:
        process: learned from other tasks.
        blocks: of this task.
        accuracies: placement -> accuracy, of those evaluated; the empty one at least.
    """

    def __init__(self, process: Process, blocks: Blocks, accuracies: Mapping[Placement, float]) -> None:
        self.blocks = blocks
        added, covariance = process.prior(blocks)
        jump, uncertain = process.jump
        self.added = np.concatenate([[blocks.lost * jump], added])
        self.covariance = linalg.block_diag(blocks.lost**2 * uncertain, covariance)
        self.known = np.array(list(accuracies))
        self.base = accuracies[(0,) * self.known.shape[1]]
        self._chosen = self._placed(self.known)
        surprise = np.array(list(accuracies.values())) - self.base - self._chosen @ self.added
        learned = process.misfit * (process.scale * blocks.lost) ** 2
        found = [self._explained(surprise, multiple * learned) for multiple in RESTS]
        _, self.rest, self._factor, self._weights = min(found, key=lambda each: each[0])

    def _explained(self, surprise: Floats, rest: float) -> tuple[float, float, Floats, Floats]:
        """Return how unlikely the evaluations are with a rest of this variance, and what predictions need."""
        held = self._shared(self._chosen, self.known, rest) + JITTER * rest * np.eye(len(self.known))
        factor = np.asarray(np.linalg.cholesky(held), dtype=np.float64)
        weights = _solved(factor, surprise)
        return float(0.5 * surprise @ weights + np.log(np.diag(factor)).sum()), rest, factor, weights

    def _placed(self, placements: npt.ArrayLike) -> Floats:
        """Return whether placements have any block, and which, `[placements, 1 + blocks]`."""
        blocks = self.blocks.placed(placements)
        return np.concatenate([blocks.any(axis=1, keepdims=True), blocks], axis=1)

    def predict(self, placements: Sequence[Placement]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the accuracy of placements."""
        table = np.array(placements)
        chosen = self._placed(table)
        near = self._shared(chosen, table, self.rest)
        own = ((chosen @ self.covariance) * chosen).sum(axis=1) + self.rest
        left = own - (near * _solved(self._factor, near.T).T).sum(axis=1)
        return self.base + chosen @ self.added + near @ self._weights, np.sqrt(np.maximum(left, 0.0))

    def _shared(self, chosen: Floats, table: npt.NDArray[np.int64], rest: float) -> Floats:
        """Return the covariance of placements with those that are known."""
        differing = (table[:, None] != self.known[None]).sum(axis=-1)
        return np.asarray(chosen @ self.covariance @ self._chosen.T + rest * np.exp(-differing))


def _astray(lessons: Sequence[Lesson]) -> float | None:
    """Return the standard deviation, beyond their errors, of logs from what blocks add; None where no table has one."""
    pairs = [(each.added, *each.blocks.logged) for each in lessons if each.blocks.logged is not None]
    if not pairs:
        return None
    added, logged, error = (np.concatenate(column) for column in zip(*pairs, strict=True))

    def unlikely(log: float) -> float:
        variance = error**2 + np.exp(2 * log)
        return float(np.sum((added - logged) ** 2 / variance + np.log(variance)))

    return float(np.exp(optimize.minimize_scalar(unlikely, bounds=np.log(ASTRAY), method="bounded").x))


def _informed(mean: Floats, covariance: Floats, logged: Floats, astray: float) -> tuple[Floats, Floats]:
    """Return mean and covariance given what was logged, all in units of what variation took."""
    value, error = logged
    factor = np.linalg.cholesky(covariance + np.diag(error**2 + astray**2))
    mean = mean + covariance @ _solved(factor, value - mean)
    return mean, covariance - covariance @ _solved(factor, covariance)


def _solved(factor: npt.NDArray[np.floating], values: Floats) -> Floats:
    """Return what a matrix, given by its Cholesky factor, makes the values of."""
    return np.asarray(linalg.cho_solve((factor, True), values))
