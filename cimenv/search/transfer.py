"""A search that begins with what enumerated tables of other tasks teach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import Count, NotNegative
from cimenv.search.experience import Blocks, Lesson, lesson
from cimenv.search.model_based import Floats, ModelBased
from cimenv.search.moves import neighbours
from cimenv.search.process import Belief, Process
from cimenv.tasks.evaluators.table import shipped_tables
from cimenv.tasks.objective import Objective
from cimenv.tasks.task import Task


class Transfer(ModelBased):
    """Evaluates what experience with other tasks thinks best, then what it may still be wrong about.

    The first round holds the favourites before any block was evaluated, by what the tables teach and what the fit of
    the task's bank logged; every evaluation corrects what is believed.
    What is known of a block is whether it is `affine`, and its size; a `digital` layer is first taken for a block.

    Args:
        objective: of the task.
        generator: draws.
        tables: names or files of enumerated tables to learn from; default `others` of the task.
        batch: placements a round.
        exploration: standard deviations added to a prediction.
    """

    name = "transfer"

    def __init__(
        self,
        objective: Objective,
        generator: np.random.Generator,
        *,
        tables: Sequence[str] | None = None,
        batch: Count = 1,
        exploration: NotNegative = 1.0,
    ) -> None:
        super().__init__(objective, generator, batch, exploration)
        self.process = learned(tables if tables is not None else others(objective.task))
        self.blocks: Blocks | None = None

    def propose(self) -> list[Placement]:
        """Return the favourite, then placements that may be best."""
        assert self.blocks is not None
        belief = Belief(self.process, self.blocks, self.accuracies)
        exploration = self.exploration if len(self.values) > 1 else 0.0

        def acquisition(placements: Sequence[Placement]) -> Floats:
            return self.acquisition(belief, placements, exploration)

        pool = [p for p in self._pool(acquisition) if p not in self.values]
        return [pool[k] for k in np.argsort(-acquisition(pool), kind="stable")[: self.batch]] if pool else []

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Take note of a value; from the evaluation without blocks comes what is known of the task."""
        super().observe(evaluation, value)
        if not any(evaluation.placement):
            self.blocks = Blocks.of(self.objective, evaluation)

    def _pool(self, acquisition: Callable[[Sequence[Placement]], Floats]) -> list[Placement]:
        """Return random placements, and the neighbours of the best up to where no change promises more."""
        pool = dict.fromkeys(self.drawn())
        for leader in self.leaders():
            here, best = leader, -np.inf
            while near := neighbours(self.space, here):
                pool |= dict.fromkeys(near)
                values = acquisition(near)
                if values.max() <= best:
                    break
                here, best = near[int(values.argmax())], float(values.max())
        return list(pool)


def others(task: Task) -> tuple[str, ...]:
    """Return the tables that ship, but for those of a task's own network on the same crossbar: they are its answer."""
    return tuple(name for name in shipped_tables() if not lesson(name).answers(task))


def learned(tables: Sequence[str]) -> Process:
    """Return the joint lesson of several tables.

    Raises:
        UnknownNameError: no such table.
        ConfigError: no table, or a file is missing, damaged, unfinished, or of another version.
    """
    if not tables:
        raise ConfigError("tables: got none; name at least one enumerated table to learn from.")
    return _learned(tuple(lesson(table) for table in tables))


@lru_cache(maxsize=16)
def _learned(lessons: tuple[Lesson, ...]) -> Process:
    return Process(lessons)
