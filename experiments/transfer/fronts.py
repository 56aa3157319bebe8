"""Fronts of score against cost: from one policy asked at many prices, from NSGA-II, and exactly."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cimenv.analysis.pareto import pareto_front
from cimenv.compensation.options import Placement
from cimenv.search import run_search
from cimenv.tasks.evaluators.table import TableEvaluator
from experiments.lab.rows import Row
from experiments.transfer.plan import Plan
from experiments.transfer.policy import Models, first_choice, tabular


def policy_front(plan: Plan, models: Models, table: str, fit_log: bool = True) -> Row:
    """Ask a policy at every price; return the share of the exact hypervolume that its placements reach."""
    chosen: set[Placement] = set()
    for price in plan.prices:
        env = tabular(plan, table, {"cost_weight": price}, fit_log)
        chosen |= {env.table.space.empty(), first_choice(models, env)}
    return {"evaluations": len(chosen), "hypervolume": share_of_exact(chosen, TableEvaluator(table))}


def nsga2_front(table: str, evaluations: int, seed: int) -> Row:
    """Return the front that NSGA-II finds, and its hypervolume."""
    evaluator = TableEvaluator(table)
    population = {"population_size": max(4, min(16, evaluations // 4))}  # several generations
    evaluated = {step.placement for step in run_search(evaluator, "nsga2", evaluations, seed, population).steps}
    return {"budget": evaluations, "evaluations": len(evaluated), "hypervolume": share_of_exact(evaluated, evaluator)}


def share_of_exact(placements: Iterable[Placement], evaluator: TableEvaluator) -> float:
    """Return the hypervolume of some placements over that of all: score above 0, up to the exact front's last cost."""
    exact = points(evaluator.space.all_placements(), evaluator)
    front = exact[pareto_front(exact[:, 0], exact[:, 1])]
    last = float(front[:, 0].max())
    whole = hypervolume(front, last)
    return hypervolume(points(placements, evaluator), last) / whole if whole else 1.0  # nothing is worth its cost


def points(placements: Iterable[Placement], evaluator: TableEvaluator) -> np.ndarray:
    """Return (scalar cost, score) of placements, `[n, 2]`."""
    objective = evaluator.objective
    return np.array([(objective.cost(p), objective.score(evaluator.evaluate(p))) for p in placements])


def hypervolume(front: np.ndarray, last: float) -> float:
    """Return the area under the best score at or below a cost, for costs 0 ... `last` and scores above 0."""
    within = front[front[:, 0] <= last]
    within = within[np.argsort(within[:, 0], kind="stable")]
    best = np.maximum.accumulate(np.maximum(within[:, 1], 0.0))
    return float((best * np.diff(np.append(within[:, 0], last))).sum())
