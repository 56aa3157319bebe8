"""The observation: fixed transforms with fixed bounds, no running statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.cost.hardware import COST_TERMS
from cimenv.crossbar.sites import SITE_TYPES
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.objective import Objective
from cimenv.tasks.space import PlacementSpace

BOUND = 5.0
TENTH = 0.1
STATISTIC_ONE_HOT = ("mean", "mean_minus_std", "percentile", "worst_case")

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """What an observation is made of.

    Attributes:
        evaluation: of the blocks placed so far (or of none, with `feedback="reset"`).
        objective: accuracies without blocks and of the reference, costs.
        placement: the blocks placed so far.
        mask: allowed options, `[sites, 1 + options]`.
        steps_left: share of the step limit that is left.
        current: number of the site that Walk decides on, else None.
    """

    evaluation: Evaluation
    objective: Objective
    placement: Placement
    mask: npt.NDArray[np.bool_]
    steps_left: float
    current: int | None = None


class ObservationLayout:
    """Names and order of the numbers in an observation.

    Per site: valid; type one-hot; depth in [0, 1]; log10 of weights, MACs and fan-in, halved; ln of the relative
    feature error's mean, spread and maximum over chips; SNR / 20 dB; cosine to the clean feature; growth ln(e_next /
    e); share of the worst-case damage (0 unless the statistic is worst case); placed option one-hot; scalar cost of
    each option (5 where it does not exist); whether each option is allowed now; whether the site is current (Walk).
    Global: acc_none, acc_ref, score / 4, scalar cost, cost weight, weight of every cost term, budget of every term
    and what is left of it (5 = no limit), share of steps left, statistic one-hot, log10 of the last time in seconds (at
    least 1), halved, and the variation strength. Everything is clipped to [-5, 5]; padding sites are all zero.

    Args:
        max_sites: sites the observation has room for.
        options: options per site.
        fit_log: whether it tells what every block added to J while the bank was fitted, its cost counted, in tenths (0
            where nobody kept a log or the block does not exist), and the mean standard error, in tenths.
    """

    ARGUMENTS = ("max_sites", "options", "fit_log")

    def __init__(self, max_sites: int, options: int, fit_log: bool = False) -> None:
        numbers = range(1, options + 1)
        self.max_sites, self.options, self.fit_log = max_sites, options, fit_log
        self.site_fields = (
            "valid",
            *(f"type_{kind}" for kind in SITE_TYPES),
            *("depth", "log_weights", "log_macs", "log_fan_in"),
            *("error_mean", "error_spread", "error_max", "snr", "cosine", "growth", "worst_share"),
            *(f"placed_{o}" for o in numbers),
            *(f"cost_{o}" for o in numbers),
            *(f"allowed_{o}" for o in numbers),
            "current",
            *(f"logged_{o}" for o in numbers if fit_log),
        )
        self.global_fields = (
            *("acc_none", "acc_ref", "score", "cost", "cost_weight"),
            *(f"weight_{term}" for term in COST_TERMS),
            *(f"budget_{term}" for term in COST_TERMS),
            *(f"left_{term}" for term in COST_TERMS),
            "steps_left",
            *(f"statistic_{name}" for name in STATISTIC_ONE_HOT),
            *("log_time", "variation"),
            *(("logged_error",) if fit_log else ()),
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make this layout again."""
        return {name: getattr(self, name) for name in self.ARGUMENTS}

    def __str__(self) -> str:
        log = "with" if self.fit_log else "without"
        return f"{self.max_sites} sites x {self.options} options {log} the fit's log"

    @property
    def size(self) -> int:
        """Return the length of an observation."""
        return self.max_sites * len(self.site_fields) + len(self.global_fields)

    @property
    def names(self) -> list[str]:
        """Return the name of every number, such as `site2.error_mean`."""
        per_site = [f"site{s}.{name}" for s in range(self.max_sites) for name in self.site_fields]
        return per_site + list(self.global_fields)

    def observe(self, view: View) -> Vector:
        """Return the observation, a fresh float32 array `[size]` within [-5, 5]."""
        space = view.objective.space
        sites = np.zeros((self.max_sites, len(self.site_fields)))
        columns = [_shape_columns(space), _error_columns(view.evaluation), self._option_columns(view)]
        found = [_global_values(view)]
        if self.fit_log:
            logged, error = self._logged(view.objective)
            columns.append(logged)
            found.append(np.array([error]))
        sites[: len(space.sites)] = np.concatenate(columns, axis=1)
        values = np.concatenate([sites.reshape(-1), *found])
        return np.nan_to_num(values, nan=0.0).clip(-BOUND, BOUND).astype(np.float32)

    def _logged(self, objective: Objective) -> tuple[npt.NDArray[np.float64], float]:
        """Return what every block added by the log `[sites, options]`, and the mean standard error, in tenths of J."""
        found = np.zeros((len(objective.space.sites), self.options))
        sites, options = np.argwhere(np.isfinite(objective.space.terms[:, 1:, 0])).T
        logged = objective.logged(sites, options + 1)
        if logged is None:
            return found, BOUND
        found[sites, options] = logged[0] / TENTH
        return found, float(logged[1].mean()) / TENTH

    def _option_columns(self, view: View) -> npt.NDArray[np.float64]:
        count, width = len(view.placement), self.options
        space = view.objective.space
        placed, costs = np.zeros((count, width)), np.full((count, width), BOUND)
        allowed, current = np.zeros((count, width)), np.zeros((count, 1))
        here = space.options.count
        costs[:, :here] = np.minimum(space.scalar_costs[:, 1:], BOUND)
        allowed[:, :here] = view.mask[:, 1:]
        for s, option in enumerate(view.placement):
            if option:
                placed[s, option - 1] = 1.0
        if view.current is not None and view.current < count:
            current[view.current] = 1.0
        return np.concatenate([placed, costs, allowed, current], axis=1)


def _shape_columns(space: PlacementSpace) -> npt.NDArray[np.float64]:
    last = max(len(space.sites) - 1, 1)
    rows = [
        [1.0]
        + [float(site.type == kind) for kind in SITE_TYPES]
        + [s / last]
        + [math.log10(max(value, 1)) / 2 for value in (site.weights, site.macs, site.fan_in)]
        for s, site in enumerate(space.sites)
    ]
    return np.array(rows)


def _error_columns(evaluation: Evaluation) -> npt.NDArray[np.float64]:
    mean, spread, largest, snr, cosine = evaluation.site_errors.T
    logs = [_log(column) for column in (mean, spread, largest)]
    growth = np.append(np.diff(logs[0]), 0.0)
    shares = np.zeros_like(mean) if evaluation.damage is None else np.array(evaluation.damage.shares)
    return np.stack([*logs, snr / 20, cosine, growth, shares], axis=1)


def _log(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.log(np.maximum(values, math.exp(-BOUND)))


def _global_values(view: View) -> npt.NDArray[np.float64]:
    objective = view.objective
    task, space = objective.task, objective.space
    used = space.shares(view.placement)
    budgets = [task.budget.get(term, BOUND) for term in COST_TERMS]
    left = [task.budget[term] - used[term] if term in task.budget else BOUND for term in COST_TERMS]
    head = [
        objective.acc_none,
        objective.acc_ref,
        objective.score(view.evaluation) / 4,
        objective.cost(view.placement),
        task.cost_weight,
    ]
    weights = [task.cost_weights.get(term, 0.0) for term in COST_TERMS]
    one_hot = [float(task.statistic == name) for name in STATISTIC_ONE_HOT]
    strength = task.crossbar.device.relative_strength
    parts: Sequence[Sequence[float]] = (
        head,
        weights,
        budgets,
        left,
        [view.steps_left],
        one_hot,
        [math.log10(max(1.0, *task.times_s)) / 2, strength],
    )
    return np.array([value for part in parts for value in part])
