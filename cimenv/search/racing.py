"""Racing: few chips for every placement, more only for those that are not yet separated from the leader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # scipy.stats is loaded when it is first used: it takes half as long as torch

from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError
from cimenv.core.progress import Progress, silent
from cimenv.evaluation.intervals import percentile_interval, smallest_chips
from cimenv.evaluation.record import Evaluation
from cimenv.evaluation.statistics import statistic_named
from cimenv.search.base import Search, SearchResult, Step
from cimenv.tasks.evaluators.base import Evaluator
from cimenv.tasks.evaluators.ledger import Ledger
from cimenv.tasks.objective import Objective

FIRST_CHIPS = 8
ROUNDS = 8  # comparisons are shared among this many: 8 chips, doubled, are 1,024 in the last
CONFIDENCE = 0.95

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RaceResult:
    """Who won, and what it cost.

    Attributes:
        best: the leader at the end.
        survivors: placements that were never separated from the leader, the leader first.
        accuracies: the task's statistic of every placement on the chips that it ran on.
        objectives: J of it.
        chips: chips that every placement ran on.
        reference: chips on which the empty placement was evaluated, since J is measured from there.
        full: chips of all placements together without the race.
    """

    best: Placement
    survivors: tuple[Placement, ...]
    accuracies: dict[Placement, float]
    objectives: dict[Placement, float]
    chips: dict[Placement, int]
    reference: int
    full: int

    @property
    def spent(self) -> int:
        """Return the chips of all placements together."""
        return sum(self.chips.values()) + self.reference


def race(
    evaluator: Evaluator,
    placements: Sequence[Placement] | None = None,
    *,
    chips: int | None = None,
    confidence: float = CONFIDENCE,
    progress: Progress = silent,
) -> RaceResult:
    """Find the placement with the best objective on validation chips, dropping losers early.

    All placements run on the same first chips; every round doubles the number of chips for those whose objective is
    not yet separated from the leader's. The mean is compared chip by chip (Student's interval of the paired
    difference), a percentile by distribution-free intervals that must not overlap; the error is shared among all
    comparisons (Bonferroni). For selection only: reports use the full count.

    Args:
        evaluator: evaluates on validation.
        placements: who runs; default all feasible ones.
        chips: chips of the last round; default the task's.
        confidence: that no placement better than the winner's interval was dropped.
        progress: opens a bar.

    Raises:
        ConfigError: no placement, a statistic that is not one over chips, or too few chips for the quantile.
    """
    task = evaluator.task
    runners = list(dict.fromkeys(placements if placements is not None else evaluator.space.all_placements()))
    if not runners:
        raise ConfigError("placements: got none; give at least one placement to race.")
    last = chips or task.chips
    comparisons = len(runners) * ROUNDS
    first = FIRST_CHIPS
    if task.statistic == "percentile":  # fewer chips have no interval at the shared confidence
        first = smallest_chips(min(task.percentile, 1 - task.percentile), 1 - (1 - confidence) / comparisons / 2)
    if task.statistic not in ("mean", "percentile"):
        raise ConfigError(f"statistic: '{task.statistic}' cannot be raced over chips; use mean or percentile.")
    if task.statistic == "percentile" and last < first:
        raise ConfigError(f"chips: got {last}; a race for the {task.percentile:g}-quantile needs at least {first}.")
    field = _Field(evaluator, confidence, comparisons, last)
    ends = [min(last, first * 2**k) for k in range(max(1, math.ceil(math.log2(last / first)) + 1))]
    left = runners
    with progress("racing placements", len(ends)) as advance:
        for start, end in zip([0, *ends], ends, strict=False):
            field.run(left, range(start, end))
            left = field.not_separated(left)
            advance()
            if len(left) == 1:
                break
    ordered = sorted(left, key=lambda p: field.objective.rank(p, field.value(p)), reverse=True)
    ran = {p: len(field.accuracy[p]) for p in runners}
    accuracies, values = ({p: of(p) for p in runners} for of in (field.statistic, field.value))
    return RaceResult(ordered[0], tuple(ordered), accuracies, values, ran, last, last * len(runners))


class Racing(Search):
    """Races all feasible placements, or as many random ones as the budget allows, on few chips first; see `race`."""

    name = "racing"
    draws = chooses_chips = True

    @classmethod
    def run(cls, ledger: Ledger, seed: int, settings: Mapping[str, Any]) -> SearchResult:
        """Race; see `Search.run`."""
        del settings
        space, generator = ledger.space, np.random.default_rng(seed)
        runners = list(space.all_placements())
        room = len(runners) if ledger.budget is None else ledger.budget - 1
        if room < len(runners):
            runners = [runners[k] for k in sorted(generator.choice(len(runners), room, replace=False))]
        result = race(ledger, [space.empty(), *runners])
        objective = Objective.of(ledger)
        steps = [Step(p, value, result.accuracies[p]) for p, value in result.objectives.items()]
        best = result.best
        evaluation = ledger.evaluate(best)
        more = ledger.task.chips - result.chips[best]  # the winner's evaluation is on all chips
        passes = (result.spent + more) * evaluation.images
        return SearchResult(cls.name, best, objective.value(evaluation), evaluation, ledger.spent, steps, passes)


class _Field:
    """Accuracies of every runner on the chips so far, and the comparisons between them."""

    def __init__(self, evaluator: Evaluator, confidence: float, comparisons: int, chips: int) -> None:
        self.evaluator, self.task = evaluator, evaluator.task
        self.objective = Objective.of(evaluator, chips=chips)
        self.confidence = 1 - (1 - confidence) / comparisons
        self.known: dict[Placement, Evaluation] = {}
        self.accuracy: dict[Placement, Floats] = {}

    def run(self, placements: list[Placement], chips: range) -> None:
        """Evaluate some placements on more chips."""
        if not chips:
            return
        for evaluation in self.evaluator.evaluate_many(placements, chips=chips):
            before = self.known.get(evaluation.placement)
            whole = before.and_chips_of(evaluation) if before else evaluation
            self.known[evaluation.placement] = whole
            self.accuracy[evaluation.placement] = whole.accuracy  # at the worst time of all chips

    def statistic(self, placement: Placement) -> float:
        """Return the task's statistic on the chips so far."""
        return statistic_named(self.task.statistic).value(self.accuracy[placement], self.task.percentile)

    def value(self, placement: Placement) -> float:
        """Return J on the chips so far."""
        return self.objective.of_accuracy(self.statistic(placement), placement)

    def not_separated(self, placements: list[Placement]) -> list[Placement]:
        """Return the leader and all that may still be better."""
        leader = max(placements, key=lambda p: self.objective.rank(p, self.value(p)))
        return [p for p in placements if p == leader or not self._worse(p, leader)]

    def _worse(self, placement: Placement, leader: Placement) -> bool:
        cheaper = self.objective.of_accuracy(0.0, placement) - self.objective.of_accuracy(0.0, leader)
        gap = self.objective.gap
        ours, theirs = self.accuracy[placement], self.accuracy[leader]
        if self.task.statistic == "percentile":
            (mine, _), (best, _) = (
                percentile_interval(a, self.task.percentile, self.confidence) for a in (ours, theirs)
            )
            return mine is not None and best is not None and mine[1] / gap + cheaper < best[0] / gap
        if len(ours) < 2:  # one chip has no standard error
            return False
        difference = (ours - theirs) / gap + cheaper
        error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
        return bool(difference.mean() + float(scipy.stats.t.ppf(self.confidence, len(difference) - 1)) * error < 0)
