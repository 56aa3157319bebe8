"""The interface of every search: propose placements, observe their evaluations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Protocol

import numpy as np
from pydantic import Field

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import Evaluation

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Search(Protocol):
    """A search method.

    `propose` returns placements to evaluate next, an empty list when the search is over; `observe` is told each result.
    """

    def propose(self) -> list[Placement]:
        """Return placements to evaluate next; empty when the search is over."""

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Take note of an evaluation and its objective; the first is that of the empty placement."""


@dataclass(frozen=True)
class Step:
    """One distinct evaluation of a search."""

    placement: Placement
    objective: float
    accuracy: float


@dataclass
class SearchResult:
    """What a search found.

    Attributes:
        method: name of the search.
        best: the best placement by the objective.
        objective: its J on validation.
        evaluation: its evaluation at search fidelity.
        evaluations: distinct placements requested.
        steps: every distinct evaluation in order; of `ladder`, those at full fidelity with shared blocks.
        passes: chips x images, all placements together (racing and ladder: fewer than placements x the task's).
        notice: one sentence where the evaluations allowed were too few for the method's first round, else empty.
    """

    method: str
    best: Placement
    objective: float
    evaluation: Evaluation
    evaluations: int
    steps: list[Step] = field(default_factory=list)
    passes: int = 0
    notice: str = ""

    @property
    def best_so_far(self) -> list[float]:
        """Return the best objective after every distinct evaluation."""
        return np.maximum.accumulate([step.objective for step in self.steps]).tolist()
