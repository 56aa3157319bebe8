"""What every evaluator answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cimenv.compensation.fit_log import Gains
from cimenv.compensation.options import Placement
from cimenv.data.splits import Split
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.jobs import Fidelity
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task


class Evaluator(Protocol):
    """What environments and searches ask."""

    @property
    def task(self) -> Task:
        """Return the task."""

    @property
    def space(self) -> PlacementSpace:
        """Return the placements, costs and masks."""

    @property
    def gains(self) -> Gains | None:
        """Return what every block added to accuracy while the bank was fitted; None where nobody kept it."""

    def evaluate(
        self,
        placement: Placement,
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
    ) -> Evaluation:
        """Return the evaluation of one placement."""

    def evaluate_many(
        self,
        placements: Sequence[Placement],
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
    ) -> list[Evaluation]:
        """Return the evaluations of many placements, in their order."""

    def reference_accuracy(self, split: Split = "val") -> float:
        """Return acc_ref: clean accuracy of the `standard` recipe."""

    def clean_accuracy(self, split: Split = "val") -> float:
        """Return the clean accuracy of the backbone."""
