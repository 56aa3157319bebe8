"""Placements that experiments compare: random ones, digital channels as the rivals of blocks, the most accurate one."""

from __future__ import annotations

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.core.seeding import numpy_generator
from cimenv.core.store import Store
from cimenv.tasks import MonteCarloEvaluator, Task
from cimenv.tasks.space import PlacementSpace

DIGITAL = [{"kind": "digital", "size": size} for size in (0.25, 0.5, 1.0)]


def random_placements(space: PlacementSpace, count: int, seed: int = 0) -> list[Placement]:
    """Return distinct random non-empty placements of allowed options."""
    generator = numpy_generator("bank-ranking", seed)
    choices = [np.flatnonzero(row) for row in space.candidates]
    drawn: dict[Placement, None] = {}
    while len(drawn) < count:
        placement = tuple(int(generator.choice(row)) for row in choices)
        if any(placement) and space.feasible(placement):
            drawn[placement] = None
    return list(drawn)


def digital_evaluator(task: Task, store: Store) -> MonteCarloEvaluator:
    """Return an evaluator of the same backbone whose only options keep layers off the crossbar: it needs no bank."""
    options = {site.type: DIGITAL for site in task.sites()}
    return MonteCarloEvaluator(task.model_copy(update={"options": {}}).with_changes(options=options), store, threads=1)


def most_accurate(evaluator: MonteCarloEvaluator) -> tuple[Placement, int]:
    """Return the placement that validates best within the budget, cost aside, and how many were evaluated."""
    everything = evaluator.evaluate_many(list(evaluator.space.all_placements()))
    best = max(everything, key=lambda e: (e.value("mean"), -evaluator.space.shares(e.placement)["weights"]))
    return best.placement, len(everything)
