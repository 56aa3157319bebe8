"""Floor 5: tasks, the problem they describe, and everything that evaluates placements."""

from cimenv.tasks.bare import NetworkEvaluation, evaluate
from cimenv.tasks.evaluators import Evaluator, MonteCarloEvaluator
from cimenv.tasks.jobs import run_job
from cimenv.tasks.ledger import Ledger
from cimenv.tasks.named import named_tasks
from cimenv.tasks.objective import Objective
from cimenv.tasks.problem import Problem, UserObjects, default_store
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.table import TableEvaluator, shipped_tables
from cimenv.tasks.task import Task, load_task

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
