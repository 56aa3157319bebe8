"""Simulated annealing over single changes and moves of blocks."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import Positive, Search, Share
from cimenv.search.moves import moved_blocks, single_changes
from cimenv.tasks.objective import Objective


class Annealing(Search):
    """Walks from the empty placement; a worse neighbour is taken with probability exp(change of J / temperature).

    Args:
        objective: of the task.
        generator: draws neighbours.
        temperature: the first, in units of J.
        cooling: factor of the temperature after every new evaluation.
        moves: share of steps that move a block to another site instead of changing one site.
    """

    name = "annealing"
    draws = endless = True

    def __init__(
        self,
        objective: Objective,
        generator: np.random.Generator,
        *,
        temperature: Positive = 0.1,
        cooling: Annotated[float, Field(gt=0, le=1)] = 0.97,
        moves: Share = 0.3,
    ) -> None:
        super().__init__(objective, generator)
        self.temperature, self.cooling, self.moves = temperature, cooling, moves
        self.present, self.value = self.space.empty(), -math.inf
        self.seen: set[Placement] = set()

    def propose(self) -> list[Placement]:
        """Return a random neighbour of the present placement."""
        near = moved_blocks(self.space, self.present) if self.generator.random() < self.moves else []
        near = near or single_changes(self.space, self.present)
        return [near[int(self.generator.integers(len(near)))]] if near else []

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Go there, or stay."""
        change = value - self.value
        if change >= 0 or self.generator.random() < math.exp(change / self.temperature):
            self.present, self.value = evaluation.placement, value
        if evaluation.placement not in self.seen:
            self.seen.add(evaluation.placement)
            self.temperature *= self.cooling
