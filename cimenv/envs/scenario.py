"""The tasks of episodes, each with what evaluates its placements; a few are held, for reset hooks change them."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

from cimenv.core.errors import ConfigError, brief
from cimenv.core.progress import bar, silent
from cimenv.core.store import Store
from cimenv.core.threads import in_worker_process
from cimenv.tasks.evaluators.base import Evaluator
from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator
from cimenv.tasks.objective import Objective
from cimenv.tasks.problem import default_store
from cimenv.tasks.task import Task

KEPT = 4  # trained problems that are held when hooks change the recipe


@dataclass(frozen=True)
class Scenario:
    """The task of an episode.

    Attributes:
        task: which reset hooks may have changed.
        key: its digest.
        evaluator: of its placements.
    """

    task: Task
    key: str
    evaluator: Evaluator

    @cached_property
    def objective(self) -> Objective:
        """Return the objective; the empty placement is evaluated for it once."""
        return Objective.of(self.evaluator)


class ScenarioPool:
    """Makes scenarios and holds the last few by task key; environments that were copied share it.

    Args:
        base_task: the task without reset hooks.
        given: an evaluator of the user's own, which serves the task that it is for.
        store: for the evaluators made here; a folder or a Store.

    Raises:
        ConfigError: `given` evaluates nothing, or `store` is none.
    """

    def __init__(self, base_task: Task, given: Evaluator | None = None, store: str | Store | None = None) -> None:
        if store is not None and not isinstance(store, str | os.PathLike | Store):
            raise ConfigError(f"store: got {brief(store)}; give the path of a folder, or a Store.")
        self.base_task, self._store = base_task, store
        self._given = Scenario(given.task, given.task.key, given) if given is not None else None
        self._made: OrderedDict[str, Scenario] = OrderedDict()

    @property
    def base(self) -> Scenario:
        """Return the scenario of the task without reset hooks."""
        return self.of(self.base_task)

    def of(self, task: Task) -> Scenario:
        """Return the scenario of a task; nothing is trained or evaluated yet."""
        key = task.key
        if self._given is not None and key == self._given.key:
            return self._given
        if key not in self._made:
            store = self._store if isinstance(self._store, Store) else default_store(self._store)
            shown = silent if in_worker_process() else bar
            self._made[key] = Scenario(task, key, MonteCarloEvaluator(task, store, progress=shown))
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]

    def histories(self) -> dict[str, list[dict[str, float]]]:
        """Return the course of every training behind the scenarios held: recipe -> one mapping an epoch."""
        histories: dict[str, list[dict[str, float]]] = {}
        for scenario in (*self._made.values(), self._given):
            if scenario is not None and isinstance(scenario.evaluator, MonteCarloEvaluator):
                histories.update(scenario.evaluator.problem.histories)
        return histories
