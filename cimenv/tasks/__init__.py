"""Floor 5: tasks, the problem they describe, and everything that evaluates placements.

Each name is imported when it is first used: to list the named tasks needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimenv.core.lazy import lazily

if TYPE_CHECKING:
    from cimenv.tasks.bare import NetworkEvaluation, evaluate
    from cimenv.tasks.evaluators.base import Evaluator
    from cimenv.tasks.evaluators.ledger import Ledger
    from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator
    from cimenv.tasks.evaluators.table import TableEvaluator, shipped_tables
    from cimenv.tasks.jobs import run_job
    from cimenv.tasks.loading import load_task
    from cimenv.tasks.named import named_tasks
    from cimenv.tasks.objective import Objective
    from cimenv.tasks.problem import Problem, UserObjects, default_store
    from cimenv.tasks.space import PlacementSpace
    from cimenv.tasks.task import Task

_HOMES = {
    "Evaluator": "cimenv.tasks.evaluators.base",
    "Ledger": "cimenv.tasks.evaluators.ledger",
    "MonteCarloEvaluator": "cimenv.tasks.evaluators.monte_carlo",
    "NetworkEvaluation": "cimenv.tasks.bare",
    "Objective": "cimenv.tasks.objective",
    "PlacementSpace": "cimenv.tasks.space",
    "Problem": "cimenv.tasks.problem",
    "TableEvaluator": "cimenv.tasks.evaluators.table",
    "Task": "cimenv.tasks.task",
    "UserObjects": "cimenv.tasks.problem",
    "default_store": "cimenv.tasks.problem",
    "evaluate": "cimenv.tasks.bare",
    "load_task": "cimenv.tasks.loading",
    "named_tasks": "cimenv.tasks.named",
    "run_job": "cimenv.tasks.jobs",
    "shipped_tables": "cimenv.tasks.evaluators.table",
}
__all__ = [
    "Evaluator",
    "Ledger",
    "MonteCarloEvaluator",
    "NetworkEvaluation",
    "Objective",
    "PlacementSpace",
    "Problem",
    "TableEvaluator",
    "Task",
    "UserObjects",
    "default_store",
    "evaluate",
    "load_task",
    "named_tasks",
    "run_job",
    "shipped_tables",
]
__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
