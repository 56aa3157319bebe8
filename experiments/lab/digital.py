"""The rival of compensation blocks: layers that are kept digital, whole or some of their channels."""

from __future__ import annotations

from cimenv.compensation.options import Placement
from cimenv.core.store import Store
from cimenv.tasks import MonteCarloEvaluator, Task

DIGITAL = [{"kind": "digital", "size": size} for size in (0.25, 0.5, 1.0)]


def digital_evaluator(task: Task, store: Store) -> MonteCarloEvaluator:
    """Return an evaluator of the same backbone whose only options keep layers off the crossbar: it needs no bank."""
    options = {site.type: DIGITAL for site in task.sites()}
    return MonteCarloEvaluator(task.model_copy(update={"options": {}}).with_changes(options=options), store, threads=1)


def most_accurate(evaluator: MonteCarloEvaluator) -> tuple[Placement, int]:
    """Return the placement that validates best within the budget, cost aside, and how many were evaluated."""
    everything = evaluator.evaluate_many(list(evaluator.space.all_placements()))
    best = max(everything, key=lambda e: (e.value("mean"), -evaluator.space.shares(e.placement)["weights"]))
    return best.placement, len(everything)
