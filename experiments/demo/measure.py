"""What is placed, by whom, and what it is worth."""

from __future__ import annotations

from typing import Any

from agents.train import TrainedAgent
from cimenv.compensation.options import Placement
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator, Objective


def placements(evaluator: MonteCarloEvaluator, agent: TrainedAgent) -> dict[str, tuple[Placement, int]]:
    """Return the placements that are compared, with the evaluations that each took."""
    space = evaluator.space
    searches = {method: run_search(evaluator, method) for method in ("greedy", "knapsack", "exhaustive")}
    return {
        "none": (space.empty(), 1),
        "affine": (space.uniform("affine"), 1),
        "agent": (agent.final, agent.evaluations),
        "agent_best": (agent.best, agent.evaluations),
        "greedy": (searches["greedy"].best, searches["greedy"].evaluations),
        "knapsack": (searches["knapsack"].best, searches["knapsack"].evaluations),
        "optimum": (searches["exhaustive"].best, searches["exhaustive"].evaluations),
        "all": (space.largest(), 1),
    }


def summarise(evaluator: MonteCarloEvaluator, rows: dict[str, tuple[Placement, int]]) -> dict[str, Any]:
    """Return every row: objective on validation at search fidelity, accuracies on test at `tuned` fidelity."""
    objective, space = Objective.of(evaluator), evaluator.space
    acc_ref = evaluator.reference_accuracy("test")
    summary: dict[str, Any] = {
        "acc_ref": acc_ref,
        "clean_accuracy": evaluator.clean_accuracy("test"),
        "task": evaluator.task.name,
        "search": f"val, bank, {evaluator.task.chips} chips x {evaluator.problem.images('val')} images",
        "report": f"test, tuned, {evaluator.task.report_chips} chips x {evaluator.problem.images('test')} images",
    }
    for name, (placement, evaluations) in rows.items():
        searched = evaluator.evaluate(placement)
        tested = evaluator.evaluate(placement, "test", "tuned")
        part, cost = space.shares(placement), space.cost(placement)
        summary[name] = {
            "placement": placement,
            "objective": objective.value(searched),
            "mean": tested.value("mean"),
            "mean_interval": tested.interval("mean"),
            "p05": tested.value("percentile", 0.05),
            "recovered": tested.value("mean") / acc_ref,
            "weights_added": part["weights"],
            "macs_added": part["macs"],
            "energy_pj": [cost.energy_pj.low, cost.energy_pj.high],
            "evaluations": evaluations,
        }
    return summary
