"""Statistics: what a set of chips is worth, one class each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cimenv.core.registry import Registry
from cimenv.evaluation.intervals import ROUNDING, checked_quantile, mean_interval, percentile_interval, smallest_chips

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]


class Statistic(ABC):
    """What a set of chips is worth, from what each is worth; larger is better.

    Attributes:
        kind: its name.
        judges: whether a task may judge placements by it.
        of_chips: whether it follows from values of drawn chips; else it is the worst chip that attacks find.
    """

    kind: ClassVar[str]
    judges: ClassVar[bool] = True
    of_chips: ClassVar[bool] = True

    @abstractmethod
    def value(self, values: Floats, quantile: float = 0.05) -> float:
        """Return the statistic of what every chip is worth, `[chips]`.

        Raises:
            ConfigError: it needs a quantile, and that is not between 0 and 1.
        """

    def interval(self, values: Floats, quantile: float = 0.05) -> Interval | None:
        """Return the 95 % interval, or None where the statistic has none, or the chips are too few."""
        del values, quantile
        return None

    def fewest_chips(self, quantile: float = 0.05) -> int:
        """Return how many chips an evaluation needs at least."""
        del quantile
        return 1


class Mean(Statistic):
    """The mean over chips, with Student's interval."""

    kind = "mean"

    def value(self, values: Floats, quantile: float = 0.05) -> float:
        """Return the mean."""
        return float(values.mean())

    def interval(self, values: Floats, quantile: float = 0.05) -> Interval | None:
        """Return Student's t interval of the mean."""
        return mean_interval(values)


class Std(Statistic):
    """The standard deviation over chips; it describes, and judges nothing."""

    kind = "std"
    judges = False

    def value(self, values: Floats, quantile: float = 0.05) -> float:
        """Return the standard deviation, 0 of one chip."""
        return float(values.std(ddof=1)) if len(values) > 1 else 0.0


class MeanMinusStd(Statistic):
    """The mean over chips less their standard deviation."""

    kind = "mean_minus_std"

    def value(self, values: Floats, quantile: float = 0.05) -> float:
        """Return the mean less the standard deviation."""
        return Mean().value(values) - Std().value(values)


class Percentile(Statistic):
    """The quantile over chips, as the order statistic ceil(q n), with a distribution-free interval."""

    kind = "percentile"

    def value(self, values: Floats, quantile: float = 0.05) -> float:
        """Return the order statistic ceil(q n)."""
        n = len(values)
        return float(np.sort(values)[max(0, math.ceil(checked_quantile(quantile) * n - ROUNDING * n) - 1)])

    def interval(self, values: Floats, quantile: float = 0.05) -> Interval | None:
        """Return the interval by order statistics; `percentile_interval` says why there is none."""
        return percentile_interval(values, quantile)[0]

    def fewest_chips(self, quantile: float = 0.05) -> int:
        """Return 59 for 5 %, 299 for 1 %."""
        return smallest_chips(quantile)


class WorstCase(Statistic):
    """The worst chip within a bound that an ensemble of attacks finds."""

    kind = "worst_case"
    of_chips = False

    def value(self, values: Floats, quantile: float = 0.05) -> float:
        """Return the worst of the values: those that the attacks found."""
        return float(values.min())


STATISTICS: Registry[type[Statistic]] = Registry(
    "statistic",
    Statistic,
    {each.kind: each for each in (Mean, Std, MeanMinusStd, Percentile, WorstCase)},
)


def statistic_named(name: str) -> Statistic:
    """Return a statistic by its name, or the user's own by where it is.

    Raises:
        UnknownNameError: there is none of this name.
    """
    return STATISTICS.find(name)()
