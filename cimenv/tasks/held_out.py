"""Validation images that a search does not see."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from cimenv.compensation.bank import CompensationBank
from cimenv.compensation.options import Placement
from cimenv.core.progress import Progress, silent
from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator
from cimenv.tasks.problem import Problem


@dataclass(frozen=True)
class HeldOutProblem(Problem):
    """A problem whose validation images are those beyond the first `task.images`; network and blocks are the same.

    Attributes:
        searched: the problem that searches see.
    """

    searched: Problem = field(kw_only=True)

    @staticmethod
    def of(problem: Problem) -> HeldOutProblem:
        """Return the chips and images that a problem's searches do not see; there must be such images."""
        same = {part.name: getattr(problem, part.name) for part in fields(problem)}
        data = problem.data.after_val(problem.images("val"))
        return HeldOutProblem(**{**same, "data": data}, searched=problem)

    def tuned_bank(self, placement: Placement, progress: Progress = silent) -> CompensationBank:
        """Return the blocks that are fitted for the searched problem."""
        return self.searched.tuned_bank(placement, progress)


def held_out(evaluator: MonteCarloEvaluator) -> MonteCarloEvaluator | None:
    """Return an evaluator on the validation images that searches do not see, or None where they see all."""
    problem = evaluator.problem
    if problem.images("val") >= len(problem.data.val):
        return None
    return evaluator.serving(HeldOutProblem.of(problem))
