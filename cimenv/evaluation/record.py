"""The record of one placement: what every chip is worth, per-site errors, what the blocks cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError
from cimenv.core.store import Record
from cimenv.evaluation.engine import Tally
from cimenv.evaluation.statistics import statistic_named

ERROR_COLUMNS = ("error_mean", "error_std", "error_max", "snr_db", "cosine")

LARGEST_ERROR = math.exp(5.0)  # relative to the clean feature; beyond it nothing is told apart

Floats = npt.NDArray[np.float64]
OverTimes = Literal["mean", "worst"]


@dataclass(frozen=True)
class Damage:
    """What the worst deviation found within th_g leaves of a network.

    Attributes:
        bound: th_g.
        correct: images that stay correct.
        images: images attacked.
        member: the attack that found it.
        shares: share of the damage of every site, `[sites]`.
    """

    bound: float
    correct: int
    images: int
    member: str
    shares: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Return the worst accuracy found."""
        return self.correct / self.images


@dataclass(frozen=True)
class Evaluation:
    """What is known of one placement on one split at one fidelity.

    Attributes:
        key: text of everything the numbers depend on.
        placement: one option index per site.
        split: `val` or `test`.
        fidelity: `bank` (shared blocks) or `tuned` (this placement's blocks fitted longer).
        values: what every chip is worth by the task's metric, `[times, chips]`.
        images: images per chip.
        site_errors: `[sites, 5]`, columns `ERROR_COLUMNS`: relative feature error e = ||Y' - Y||_F / ||Y||_F (mean,
            standard deviation and maximum over chips), -20 log10 of the mean error, mean cosine to the clean feature.
        correct: images that count, such as correctly classified ones, `[times, chips]`; None where the metric is no
            share of the images.
        first_chip: number of the first chip.
        damage: the worst case, for tasks whose statistic it is.
        over_times: whether a chip counts with its mean over times, or at the time that is worst on average.
        cost: what the blocks add, by term, as shares of the backbone's.
    """

    key: str
    placement: Placement
    split: str
    fidelity: str
    values: Floats
    images: int
    site_errors: Floats
    correct: npt.NDArray[np.int64] | None = None
    first_chip: int = 0
    damage: Damage | None = None
    over_times: OverTimes = "mean"
    cost: Mapping[str, float] = field(default_factory=dict)

    @property
    def chips(self) -> int:
        """Return the number of chips."""
        return int(self.values.shape[-1])

    @property
    def accuracy(self) -> Floats:
        """Return what every chip is worth, `[chips]`: averaged over times, or at the worst of them."""
        if self.correct is None:
            return self._over_times(self.values)
        per_chip: Floats = self._over_times(self.correct) / self.images  # means of counts are exact
        return per_chip

    def counts(self) -> list[list[int]]:
        """Return how many images count, by time and chip.

        Raises:
            ConfigError: the metric is no share of the images.
        """
        if self.correct is None:
            raise ConfigError("metric: this one is no share of the images, so that none are counted; take accuracy.")
        nested: list[list[int]] = self.correct.tolist()
        return nested

    def _over_times(self, at_times: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.over_times == "worst":
            worst: npt.NDArray[Any] = at_times[at_times.mean(axis=1).argmin()]
            return worst
        return np.asarray(at_times.mean(axis=0))

    def and_chips_of(self, other: Evaluation) -> Evaluation:
        """Return the evaluation with another one's chips after its own."""
        values = np.concatenate([self.values, other.values], axis=1)
        if self.correct is None or other.correct is None:
            return replace(self, values=values)
        return replace(self, values=values, correct=np.concatenate([self.correct, other.correct], axis=1))

    def value(self, statistic: str = "mean", quantile: float = 0.05) -> float:
        """Return a statistic over chips, or the worst case.

        Raises:
            UnknownNameError: there is no such statistic.
            ConfigError: the worst case was not measured.
        """
        chosen = statistic_named(statistic)
        if chosen.of_chips:
            return chosen.value(self.accuracy, quantile)
        if self.damage is None:
            raise ConfigError(
                f"placement {self.placement} has no measured worst case; evaluate it in a task whose statistic is "
                f"{statistic}."
            )
        return self.damage.accuracy

    def interval(self, statistic: str = "mean", quantile: float = 0.05) -> tuple[float, float] | None:
        """Return the 95 % interval of a statistic: of the mean by Student, of the percentile by order statistics.

        Returns None for a percentile with too few chips (`intervals.percentile_interval` gives the reason) and for
        statistics without an interval.

        Raises:
            UnknownNameError: there is no such statistic.
        """
        chosen = statistic_named(statistic)
        ends = chosen.interval(self.accuracy, quantile) if chosen.of_chips else None
        if ends is None or self.correct is None:
            return ends
        return max(0.0, ends[0]), min(1.0, ends[1])  # few chips tell little, but an accuracy is a share

    def to_record(self) -> Record:
        """Return the evaluation as JSON and arrays."""
        meta: dict[str, Any] = {
            "placement": list(self.placement),
            "split": self.split,
            "fidelity": self.fidelity,
            "images": self.images,
            "first_chip": self.first_chip,
        }
        if self.damage is not None:
            meta["damage"] = dataclasses.asdict(self.damage)
        counts = {} if self.correct is None else {"correct": self.correct}
        return Record(meta, {"values": self.values, **counts, "site_errors": self.site_errors})

    @staticmethod
    def from_record(
        key: str, record: Record, over_times: OverTimes = "mean", cost: Mapping[str, float] | None = None
    ) -> Evaluation:
        """Return the evaluation that `to_record` described; how times count, and what blocks cost, the task says."""
        meta = record.meta
        return Evaluation(
            key=key,
            placement=tuple(meta["placement"]),
            split=meta["split"],
            fidelity=meta["fidelity"],
            values=record.arrays["values"],
            images=meta["images"],
            site_errors=record.arrays["site_errors"],
            correct=record.arrays.get("correct"),
            first_chip=meta["first_chip"],
            over_times=over_times,
            cost=cost or {},
            damage=Damage(**{**damage, "shares": tuple(damage["shares"])}) if (damage := meta.get("damage")) else None,
        )


def site_errors(tally: Tally, placement: int) -> Floats:
    """Return the feature-error statistics `[sites, 5]` of one placement of a tally.

    Errors are at most e^5: also where the clean feature is all zero, or the noisy one overflows. Features that are all
    zero on both sides are equal: error 0, cosine 1; one that is zero alone points nowhere: cosine 0.
    """
    clean = tally.clean_squares[:, None]
    distance, norm = tally.squares[placement, :, :, 0], tally.squares[placement, :, :, 1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        error = np.sqrt(np.where(distance == 0, 0.0, distance / clean))
        inner = (norm + clean - distance) / 2  # <Y', Y> from ||Y' - Y||^2
        lengths = np.sqrt(norm * clean)
        cosine = np.where(lengths > 0, inner / lengths, (distance == 0) & (clean == 0))
        cosine = np.nan_to_num(cosine, nan=0.0, posinf=0.0, neginf=0.0)
    error = np.nan_to_num(error, nan=LARGEST_ERROR).clip(max=LARGEST_ERROR)
    mean = error.mean(axis=1)
    snr = -20 * np.log10(np.maximum(mean, 1 / LARGEST_ERROR))
    return np.stack([mean, error.std(axis=1), error.max(axis=1), snr, cosine.mean(axis=1)], axis=1)
