"""The ledger of a run: distinct requested placements, whatever the store already knew."""

from __future__ import annotations

from collections.abc import Sequence

from cimenv.compensation.fit_log import Gains
from cimenv.compensation.options import Placement
from cimenv.core.config import checked_int
from cimenv.core.errors import BudgetError
from cimenv.data.splits import Split
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.evaluators.base import Evaluator
from cimenv.tasks.requests import Request
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task


class Ledger(Evaluator):
    """An evaluator that counts the distinct placements of one run.

    Args:
        evaluator: does the work.
        budget: largest number of distinct placements; None for no limit.
    """

    def __init__(self, evaluator: Evaluator, budget: int | None = None) -> None:
        if budget is not None:
            checked_int("budget", budget, 1)
        self.evaluator, self.budget = evaluator, budget
        self.requested: dict[Placement, Evaluation] = {}

    def copy(self) -> Ledger:
        """Return a ledger with the same entries and an account of its own."""
        twin = Ledger(self.evaluator, self.budget)
        twin.requested = dict(self.requested)
        return twin

    @property
    def task(self) -> Task:
        """Return the task."""
        return self.evaluator.task

    @property
    def space(self) -> PlacementSpace:
        """Return the placements, costs and masks."""
        return self.evaluator.space

    @property
    def gains(self) -> Gains | None:
        """Return what every block added to accuracy while the bank was fitted."""
        return self.evaluator.gains

    @property
    def spent(self) -> int:
        """Return how many distinct placements were requested."""
        return len(self.requested)

    @property
    def exhausted(self) -> bool:
        """Return whether nothing new may be requested."""
        return self.budget is not None and self.spent >= self.budget

    def answers(self, requests: Sequence[Request]) -> list[Evaluation]:
        """Return the evaluations of requests; all or none are charged.

        Raises:
            BudgetError: these would be too many distinct placements.
        """
        new = {request.placement for request in requests} - self.requested.keys()
        if self.budget is not None and self.spent + len(new) > self.budget:
            raise BudgetError(
                f"{self.spent} of {self.budget} evaluations are spent and {len(new)} more were requested; "
                "raise the budget or stop the search."
            )
        evaluations = self.evaluator.answers(requests)
        for evaluation in evaluations:
            self.requested.setdefault(evaluation.placement, evaluation)
        return evaluations

    def reference_accuracy(self, split: Split = "val") -> float:
        """Return acc_ref."""
        return self.evaluator.reference_accuracy(split)

    def clean_accuracy(self, split: Split = "val") -> float:
        """Return the backbone's clean accuracy."""
        return self.evaluator.clean_accuracy(split)
