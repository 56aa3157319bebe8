"""A row of results: a placement on the test split with fitted blocks, its cost, and its objective on validation."""

from __future__ import annotations

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.tasks import MonteCarloEvaluator, Objective
from experiments.lab.rows import Row


def report(evaluator: MonteCarloEvaluator, method: str, placement: Placement, evaluations: int = 0) -> Row:
    """Measure one placement on the test split with fitted blocks, and its objective on validation."""
    space = evaluator.space
    tested = evaluator.evaluate(placement, "test", "tuned")
    part, cost = space.shares(placement), space.cost(placement)
    device = evaluator.task.crossbar.device
    return {
        "sigma": getattr(device, "sigma", 0.0),
        "method": method,
        "placement": list(placement),
        "evaluations": evaluations,
        "objective": Objective.of(evaluator).value(evaluator.evaluate(placement)),
        "mean": tested.value("mean"),
        "std": tested.value("std"),
        "chips": tested.chips,
        "images": tested.images,
        "clean": evaluator.clean_accuracy("test"),
        "standard_clean": evaluator.reference_accuracy("test"),
        "weights": part["weights"],
        "macs": part["macs"],
        "energy": part["energy"],
        "scalar_cost": space.scalar_cost(placement),
        "energy_low_pj": cost.energy_pj.low,
        "energy_high_pj": cost.energy_pj.high,
        "site_error": np.round(tested.site_errors[:, 0], 6).tolist(),
        "correct": tested.counts()[0],
    }
