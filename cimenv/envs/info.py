"""What `reset` and `step` tell beside the observation: plain values, made anew at every call."""

from __future__ import annotations

from typing import Any

import numpy as np

from cimenv.envs.actions import Actions
from cimenv.envs.episode import Episode
from cimenv.evaluation.record import Evaluation

SUCCESS_SHARE = 0.95

Info = dict[str, Any]


def episode_info(episode: Episode, shown: Evaluation, actions: Actions, invalid: bool) -> Info:
    """Return the infos of an episode.

    Args:
        episode: under way or ended.
        shown: the evaluation that they tell of.
        actions: of the environment.
        invalid: whether the last action was masked.
    """
    scenario, objective = episode.scenario, episode.scenario.objective
    accuracy = objective.accuracy(shown)
    placement = np.full(actions.max_sites, -1, dtype=np.int8)
    placement[: len(episode.placement)] = episode.placement
    return {
        "action_mask": actions.mask(episode).astype(np.int8),
        "placement": placement,
        "accuracy": accuracy,
        "accuracy_std": shown.value("std"),
        "percentile_accuracy": shown.value("percentile", scenario.task.percentile),
        "clean_accuracy": scenario.evaluator.clean_accuracy(),
        "reference_accuracy": objective.acc_ref,
        "objective": objective.value(shown),
        "evaluated": shown.placement == episode.placement,
        "cost": _costs(episode),
        "evaluations": len(episode.evaluations),
        "is_success": bool(accuracy >= SUCCESS_SHARE * objective.acc_ref),
        "invalid_action": bool(invalid),
        "task_key": scenario.key,
    }


def _costs(episode: Episode) -> dict[str, float]:
    """Return shares of the cost terms, the scalar cost, and both ends of what is known as a range."""
    objective, placement = episode.scenario.objective, episode.placement
    cost = objective.space.cost(placement)
    ends = {f"{name}_{end}": getattr(one, end) for name, one in cost.ranges.items() for end in ("low", "high")}
    return {**objective.space.shares(placement), "scalar": objective.cost(placement), **ends}
