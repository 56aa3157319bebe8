"""Intervals over chips, how many chips they need, and ratios that may be undefined."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy  # scipy.stats is loaded when it is first used: it takes half as long as torch

from cimenv.core.errors import ConfigError

CONFIDENCE = 0.95
SMALLEST_QUANTILE = 1e-6  # of whose chips three million are needed
ROUNDING = 1e-9  # of q n, which is a whole number for many a q that is none in binary

Floats = npt.NDArray[np.float64]


def mean_interval(accuracy: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Student's t interval of the mean over chips."""
    n = len(accuracy)
    if n < 2:
        return -math.inf, math.inf
    half = float(scipy.stats.t.ppf(0.5 + confidence / 2, n - 1)) * float(accuracy.std(ddof=1)) / math.sqrt(n)
    return float(accuracy.mean()) - half, float(accuracy.mean()) + half


def percentile_interval(
    accuracy: Floats, quantile: float, confidence: float = CONFIDENCE
) -> tuple[tuple[float, float] | None, str]:
    """Return a distribution-free interval of a quantile from order statistics, or None and the reason.

    The k-th smallest of n chips lies below the q-quantile with probability P(B >= k), B ~ Binomial(n, q). The interval
    takes the largest lower and the smallest upper order statistic that leave at most (1 - confidence)/2 outside on
    each side. The smallest n for q = 5 % is 72 at 95 % (two-sided); 59 chips give a one-sided lower bound.

    Raises:
        ConfigError: the quantile is not between 0 and 1.
    """
    checked_quantile(quantile)
    n, tail = len(accuracy), (1 - confidence) / 2
    ordered = np.sort(accuracy)
    low = int(scipy.stats.binom.ppf(tail, n, quantile))  # X_(low) is above the quantile with probability <= tail
    high = int(scipy.stats.binom.ppf(1 - tail, n, quantile)) + 1
    if low < 1 or high > n:
        need = smallest_chips(min(quantile, 1 - quantile), 1 - tail)
        return (
            None,
            f"{n} chips are too few for the {quantile:g}-quantile at {confidence:g}; take at least {need:.12g}.",
        )
    return (float(ordered[low - 1]), float(ordered[high - 1])), ""


def smallest_chips(quantile: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest chips whose smallest lies below the quantile with `confidence`: 59 for 5 %, 299 for 1 %.

    Raises:
        ConfigError: the quantile is not between 0 and 1.
    """
    return math.ceil(math.log(1 - confidence) / math.log1p(-checked_quantile(quantile)))


def normalised_accuracy(accuracy: float, reference: float, classes: int) -> float:
    """Return A* = 1 - (e - e_fp) / (e_chance - e_fp) (Rasch et al., 2023); 1 is the digital network, 0 is chance.

    Raises:
        ConfigError: the digital network is no better than chance, so that there is nothing to lose.
    """
    chance = 1.0 / classes
    if not reference > chance:
        raise ConfigError(
            f"reference: got an accuracy of {reference:.4g}, chance for {classes} classes being {chance:.4g}; A* "
            "needs a network that has learned something, so train it first."
        )
    return (accuracy - chance) / (reference - chance)


def rank_correlation(one: Floats, other: Floats) -> float:
    """Return Kendall's tau-b of paired values; 0 where all values of one side are equal, so that it ranks nothing.

    NaN where a value is.
    """
    if np.isnan(one).any() or np.isnan(other).any():
        return math.nan
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(scipy.stats.kendalltau(one, other).statistic)


def checked_quantile(quantile: float) -> float:
    """Return a quantile strictly between 0 and 1, since no number of chips determines the extremes.

    Raises:
        ConfigError: the quantile is not between 0 and 1.
    """
    if not SMALLEST_QUANTILE <= quantile <= 1 - SMALLEST_QUANTILE:
        raise ConfigError(
            f"quantile: got {quantile:g}; give a share of the chips between {SMALLEST_QUANTILE:g} and "
            f"1 - {SMALLEST_QUANTILE:g}, such as 0.05."
        )
    return quantile
