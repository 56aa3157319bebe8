"""Statistics over few runs of many tasks (Agarwal et al., NeurIPS 2021). Scores are `[runs, tasks]`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

Scores = npt.NDArray[np.float64]
DRAWS, CONFIDENCE = 2_000, 0.95


def interquartile_mean(scores: Scores) -> float:
    """Return the mean of the middle half of all scores, over runs and tasks together."""
    return float(stats.trim_mean(scores, 0.25, axis=None))


def bootstrap_interval(
    scores: Scores, statistic: Callable[[Scores], float] = interquartile_mean, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic under stratified resampling: runs are drawn task by task."""
    generator = np.random.default_rng(seed)
    found = [statistic(_resampled(scores, generator)) for _ in range(draws)]
    return _middle(found)


def probability_of_improvement(ours: Scores, theirs: Scores) -> float:
    """Return P(a run of ours scores higher than one of theirs on the same task), mean over tasks; ties count half."""
    a, b = ours[:, None], theirs[None]
    return float(((a > b) + 0.5 * (a == b)).mean())


def improvement_interval(ours: Scores, theirs: Scores, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the probability of improvement: both sides are resampled task by task."""
    generator = np.random.default_rng(seed)
    found = [
        probability_of_improvement(_resampled(ours, generator), _resampled(theirs, generator)) for _ in range(draws)
    ]
    return _middle(found)


def _resampled(scores: Scores, generator: np.random.Generator) -> Scores:
    chosen = generator.integers(len(scores), size=scores.shape)
    return np.take_along_axis(scores, chosen, axis=0)


def _middle(found: list[float]) -> tuple[float, float]:
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
