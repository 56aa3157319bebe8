"""What one job measures: an agent that is trained, beside the optimum of all placements."""

from __future__ import annotations

from pathlib import Path

from agents.environment import task_of
from agents.train import train
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator, Objective
from cimenv.tasks.problem import default_store
from experiments.agents_seeds.plan import Job, Plan
from experiments.lab.rows import Row


def measure(plan: Plan, job: Job, folder: Path) -> list[Row]:
    """Run one job; `folder` keeps what is trained."""
    del plan
    config = job.config
    evaluator = MonteCarloEvaluator(task_of(config), default_store(folder / "store"), threads=1)
    optimum = run_search(evaluator, "exhaustive").objective
    agent = train(config, folder / f"{config.name}-{config.seed}", evaluator)
    objective = Objective.of(evaluator)
    return [
        {
            "algorithm": config.name,
            "seed": config.seed,
            "final": list(agent.final),
            "final_objective": objective.value(evaluator.evaluate(agent.final)),
            "best": list(agent.best),
            "best_objective": objective.value(evaluator.evaluate(agent.best)),
            "evaluations": agent.evaluations,
            "optimum": optimum,
        }
    ]
