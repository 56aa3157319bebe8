"""What is observed of the placement as a whole: accuracies, costs, budgets, the task."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from cimenv.envs.features.base import BOUND, Feature, View

TERMS = ("weights", "macs", "energy", "area", "latency")  # of -v0; a cost term of one's own is a feature of its own
STATISTICS = ("mean", "mean_minus_std", "percentile", "worst_case")

_whole: Callable[..., Feature] = partial(Feature, of="placement")


def _budget(view: View) -> list[float]:
    return [view.objective.task.budget.get(term, BOUND) for term in TERMS]


def _left(view: View) -> list[float]:
    used, budget = view.space.shares(view.placement), view.objective.task.budget
    return [budget[term] - used[term] if term in budget else BOUND for term in TERMS]


def _statistic(view: View) -> list[float]:
    return [float(view.objective.task.statistic == name) for name in STATISTICS]


def _weight(view: View) -> list[Any]:
    return [view.objective.task.cost_weights.get(term, 0.0) for term in TERMS]


def _log_time(view: View) -> float:
    return math.log10(max(1.0, *view.objective.task.times_s)) / 2


WHOLE = (
    _whole("acc_none", lambda view: view.objective.acc_none, "Accuracy without blocks."),
    _whole("acc_ref", lambda view: view.objective.acc_ref, "Accuracy of the reference."),
    _whole("score", lambda view: view.objective.score(view.evaluation) / 4, "Score, divided by 4."),
    _whole("cost", lambda view: view.objective.cost(view.placement), "Scalar cost of all blocks placed."),
    _whole("cost_weight", lambda view: view.objective.task.cost_weight, "Weight of the cost in the objective."),
    _whole("weight", _weight, "Weights of the cost terms in the scalar cost.", labels=TERMS),
    _whole("budget", _budget, "Budgets of the cost terms; 5 for no limit.", labels=TERMS),
    _whole("left", _left, "What is left of the budgets; 5 for no limit.", labels=TERMS),
    _whole("steps_left", lambda view: view.steps_left, "Share of the step limit that is left."),
    _whole("statistic", _statistic, "Statistic over chips, one-hot.", labels=STATISTICS),
    _whole("log_time", _log_time, "log10 of the last time in seconds (at least 1), halved."),
    _whole(
        "variation",
        lambda view: view.objective.task.crossbar.device.relative_strength,
        "Relative strength of the device's variation.",
    ),
)
