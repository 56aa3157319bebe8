"""A search's placement against no blocks and affine ones everywhere, on what the search did not see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.evaluation import intervals
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator
from cimenv.tasks.held_out import held_out
from cimenv.tasks.objective import Objective
from cimenv.tasks.space import PlacementSpace

Floats = npt.NDArray[np.float64]

FOUND, NONE, AFFINE = "the placement found", "no blocks", "affine everywhere"


@dataclass(frozen=True)
class Contender:
    """One placement in the comparison.

    Attributes:
        name: `FOUND`, `NONE` or `AFFINE`.
        evaluation: with blocks fitted for it, on held-out validation chips.
        objective: its J there.
        chip_objectives: J of every chip, `[chips]`; their mean is J where the statistic is the mean.
    """

    name: str
    evaluation: Evaluation
    objective: float
    chip_objectives: Floats

    @property
    def placement(self) -> Placement:
        """Return its option index per site."""
        return self.evaluation.placement


@dataclass(frozen=True)
class Comparison:
    """Paired on the same chips: those of `val` numbered beyond the search's, and images beyond its where there are any.

    Attributes:
        found: the search's placement.
        none: no blocks.
        affine: `affine` at every site that may have blocks; None where one does not offer it, or beyond the budget.
        fresh_images: whether the search saw none of the images.
        statistic: of the task.
    """

    found: Contender
    none: Contender
    affine: Contender | None
    fresh_images: bool
    statistic: str = "mean"

    @property
    def best(self) -> Contender:
        """Return the one with the largest J; the search's where none is larger."""
        rivals = [self.found, self.none, *([self.affine] if self.affine else [])]
        return max(rivals, key=lambda one: one.objective)  # the first of equals

    def lead(self, one: Contender, other: Contender) -> tuple[float, tuple[float, float] | None]:
        """Return by how much J of one lies above the other's, and the 95 % interval of the paired difference.

        No interval where the statistic is not the mean over chips.
        """
        lead = one.objective - other.objective
        if self.statistic != "mean":
            return lead, None
        return lead, intervals.mean_interval(one.chip_objectives - other.chip_objectives)

    def __str__(self) -> str:
        """Say whether the search's placement is worth its blocks, in one line."""
        found, rivals = self.found, [self.none, *([self.affine] if self.affine else [])]
        others = [one for one in rivals if one.placement != found.placement]
        if not others:
            return f"{found.name} is {NONE}, and {AFFINE} is no option: there is nothing to compare"
        other = max(others, key=lambda one: one.objective)
        one, than = (other, found) if other.objective > found.objective else (found, other)
        lead, interval = self.lead(one, than)
        told = "" if interval is None else f", 95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
        images = f"{found.evaluation.images} {'held-out' if self.fresh_images else 'validation'} images"
        compared = "better than" if lead > 0 else "as good as"
        return (
            f"{one.name} {'are' if one.name == NONE else 'is'} {compared} {than.name}: J {one.objective:.3f} against "
            f"{than.objective:.3f} (by {lead:.3f}{told}) on {len(found.chip_objectives)} held-out chips x {images}"
        )


def affine_everywhere(space: PlacementSpace) -> Placement | None:
    """Return `affine` at every site that may have blocks, or None where one does not offer it, or beyond the budget."""
    placement = space.uniform("affine")
    may_have = space.candidates[:, 1:].any(axis=1)
    if not may_have.any() or not all(np.array(placement)[may_have]) or not space.feasible(placement):
        return None
    return placement


def compare(evaluator: MonteCarloEvaluator, placement: Placement) -> Comparison:
    """Compare a placement with no blocks and with affine ones everywhere, each with blocks fitted for it.

    Args:
        evaluator: of the search; as many chips as it used are drawn anew.
        found: the search's placement.
    """
    fresh = held_out(evaluator)
    judge, task = fresh or evaluator, evaluator.task
    chips = range(task.chips, 2 * task.chips)
    objective = Objective.of(judge, "val", chips)
    empty, affine = judge.space.empty(), affine_everywhere(judge.space)
    wanted = [p for p in dict.fromkeys([placement, *([affine] if affine else [])]) if p != empty]
    seen = {e.placement: e for e in judge.evaluate_many(wanted, "val", "tuned", chips)}
    seen[empty] = judge.evaluate(empty, "val", chips=chips)

    def contender(name: str, placement: Placement) -> Contender:
        evaluation = seen[placement]
        of_chips = np.array([objective.of_accuracy(accuracy, placement) for accuracy in evaluation.accuracy.tolist()])
        return Contender(name, evaluation, objective.value(evaluation), of_chips)

    return Comparison(
        contender(FOUND, placement),
        contender(NONE, empty),
        contender(AFFINE, affine) if affine else None,
        fresh is not None,
        task.statistic,
    )
