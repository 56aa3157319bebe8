"""What every evaluator answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from cimenv.compensation.fit_log import Gains
from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError, brief
from cimenv.data.splits import Split
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.requests import Fidelity, Request, chip_numbers
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task


class Evaluator(ABC):
    """The evaluator of environments and searches; an own one has `task`, `space`, `answers` and two accuracies."""

    @property
    @abstractmethod
    def task(self) -> Task:
        """Return the task."""

    @property
    @abstractmethod
    def space(self) -> PlacementSpace:
        """Return the placements, costs and masks."""

    @property
    def gains(self) -> Gains | None:
        """Return what every block added to accuracy while the bank was fitted, or None where the fit was not logged."""
        return None

    @abstractmethod
    def answers(self, requests: Sequence[Request]) -> list[Evaluation]:
        """Return the evaluations of checked requests, in their order."""

    @abstractmethod
    def reference_accuracy(self, split: Split = "val") -> float:
        """Return acc_ref: clean accuracy of the `standard` recipe on the images of an evaluation."""

    @abstractmethod
    def clean_accuracy(self, split: Split = "val") -> float:
        """Return the clean accuracy of the backbone on the images of an evaluation."""

    def evaluate(
        self,
        placement: Placement,
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
    ) -> Evaluation:
        """Return the evaluation of one placement.

        Args:
            placement: one option index per site.
            split: `val` or `test`.
            fidelity: `bank` or `tuned`.
            chips: number of chips, or the range of their numbers; default the task's `chips` on val, `report_chips`
                on test.

        Raises:
            PlacementError: wrong length or an option out of range.
            ConfigError: unknown split or fidelity, or the evaluator cannot answer.
            BudgetError: of a ledger: it would be one distinct placement too many.
        """
        return self.answers(self.requests([placement], split, fidelity, chips))[0]

    def evaluate_many(
        self,
        placements: Sequence[Placement],
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
    ) -> list[Evaluation]:
        """Return the evaluations of many placements, in their order; see `evaluate`."""
        return self.answers(self.requests(placements, split, fidelity, chips))

    def requests(
        self,
        placements: Iterable[Placement],
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
    ) -> list[Request]:
        """Return the checked requests for some placements; see `evaluate`."""
        numbers, times = chip_numbers(self.task, split, fidelity, chips), self.task.times_s
        given: Any = placements
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise ConfigError(f"placements: got {brief(given)}; give a list of placements.")
        checked = self.space.options.checked
        return [Request(checked(placement), split, fidelity, numbers, times) for placement in given]
