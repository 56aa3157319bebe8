"""Statistics over few runs of many tasks (Agarwal et al., NeurIPS 2021). Scores are `[runs, tasks]`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

Scores = npt.NDArray[np.float64]
DRAWS, CONFIDENCE = 2_000, 0.95


def interquartile_mean(scores: Scores) -> float:
    """Return the mean of the middle half of all scores, over runs and tasks together."""
    return float(_interquartile_means(scores[None])[0])


def bootstrap_interval(scores: Scores, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the interquartile mean under stratified resampling.

    Runs are drawn task by task.
    """
    return _middle(_interquartile_means(_resampled(scores, draws, np.random.default_rng(seed))))


def probability_of_improvement(ours: Scores, theirs: Scores) -> float:
    """Return P(a first run scores higher than a second one on the same task), mean over tasks; ties count half."""
    return float(_improvements(ours[None], theirs[None])[0])


def improvement_interval(ours: Scores, theirs: Scores, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the probability of improvement: both sides are resampled task by task."""
    generator = np.random.default_rng(seed)
    return _middle(_improvements(*(_resampled(scores, draws, generator) for scores in (ours, theirs))))


def _interquartile_means(scores: Scores) -> npt.NDArray[np.float64]:
    """Return the interquartile means of scores `[draws, runs, tasks]`, `[draws]`."""
    return np.asarray(stats.trim_mean(scores.reshape(len(scores), -1), 0.25, axis=1))


def _improvements(ours: Scores, theirs: Scores) -> npt.NDArray[np.float64]:
    """Return the probabilities of improvement of `[draws, runs, tasks]`, `[draws]`."""
    by_run = [((run > theirs) + 0.5 * (run == theirs)).mean(axis=(1, 2)) for run in np.moveaxis(ours, 1, 0)[:, :, None]]
    return np.asarray(np.mean(by_run, axis=0))


def _resampled(scores: Scores, draws: int, generator: np.random.Generator) -> Scores:
    """Return `[draws, runs, tasks]`: runs drawn with replacement, independently for every task."""
    chosen = generator.integers(len(scores), size=(draws, *scores.shape))
    return np.take_along_axis(scores[None], chosen, axis=1)


def _middle(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
