"""The ladder of fidelities: many placements on few chips and images, fewer on more, the last with fitted blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError
from cimenv.core.progress import Progress, silent
from cimenv.evaluation.statistics import statistic_named
from cimenv.search.base import Search, SearchResult, Step
from cimenv.search.surrogate import Surrogate
from cimenv.tasks.evaluators.ledger import Ledger
from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator
from cimenv.tasks.objective import Objective
from cimenv.tasks.requests import Fidelity

LOWEST = 1 / 4  # of the ladder's work on each of its two lower rungs
SHARES = (1 / 16, 1 / 4, 1)  # of chips x images
KEPT = 1 / 4  # of the placements of a rung
TUNED = 3  # placements whose blocks are fitted
FEWEST_CHIPS, FEWEST_IMAGES = 4, 100


@dataclass(frozen=True)
class Rung:
    """What was measured on one rung.

    Attributes:
        fidelity: `bank` or `tuned`.
        chips: of every placement.
        images: of every chip.
        objectives: J of every placement on this rung.
    """

    fidelity: Fidelity
    chips: int
    images: int
    objectives: dict[Placement, float]

    @property
    def passes(self) -> int:
        """Return chips x images of all placements together."""
        return self.chips * self.images * len(self.objectives)

    @property
    def ranked(self) -> list[Placement]:
        """Return placements, best first."""
        return sorted(self.objectives, key=lambda p: self.objectives[p], reverse=True)


def coarser(evaluator: MonteCarloEvaluator, share: float) -> MonteCarloEvaluator:
    """Return an evaluator of the same network and blocks with a share of its chips x images.

    Chips and images shrink alike, but never below what the statistic or a comparison needs.
    """
    task = evaluator.task
    if share >= 1:
        return evaluator
    needed = statistic_named(task.statistic).fewest_chips(task.percentile)
    fewest = needed if needed > 1 else FEWEST_CHIPS
    chips = max(min(fewest, task.chips), round(task.chips * share**0.5))
    images = max(min(FEWEST_IMAGES, task.images), round(task.images * share * task.chips / chips))
    return evaluator.with_task(task.with_changes(chips=chips, images=images))


def climb(
    evaluator: MonteCarloEvaluator,
    placements: Sequence[Placement],
    *,
    shares: Sequence[float] = SHARES,
    kept: float = KEPT,
    tuned: int = TUNED,
    progress: Progress = silent,
) -> list[Rung]:
    """Evaluate placements on rungs of rising fidelity, on validation; only the best of a rung reach the next.

    Args:
        evaluator: of the task at full fidelity.
        placements: who starts.
        shares: of chips x images, rung by rung.
        kept: share of the placements that go on; at least `tuned`.
        tuned: placements that are evaluated with blocks of their own last; 0 leaves that rung out.
        progress: opens a bar.
    """
    rungs: list[Rung] = []
    left = list(dict.fromkeys(placements))
    with progress("climbing the ladder", len(shares) + bool(tuned)) as advance:
        for share in shares:
            here = coarser(evaluator, share)
            objective = Objective.of(here)
            values = {e.placement: objective.value(e) for e in here.evaluate_many(left)}
            rungs.append(Rung("bank", here.task.chips, here.problem.images("val"), values))
            left = rungs[-1].ranked[: max(tuned, 1, round(kept * len(left)))]
            advance()
        if tuned:
            objective = Objective.of(evaluator)
            evaluations = evaluator.evaluate_many(left[:tuned], "val", "tuned")
            values = {e.placement: objective.value(e) for e in evaluations}
            rungs.append(Rung("tuned", evaluator.task.chips, evaluator.problem.images("val"), values))
            advance()
    return rungs


class Ladder(Search):
    """Lets `surrogate` draw on few chips and images, and its best climb to more; the last have blocks of their own.

    Its budget is work: that of so many evaluations at full fidelity.
    """

    name = "ladder"
    draws = endless = chooses_chips = True

    @classmethod
    def run(cls, ledger: Ledger, seed: int, settings: Mapping[str, Any]) -> SearchResult:
        """Climb; the steps are those at full fidelity with shared blocks; see `Search.run`."""
        del settings
        evaluator, budget = ledger.evaluator, ledger.budget
        if not isinstance(evaluator, MonteCarloEvaluator):
            raise ConfigError("method: ladder needs an evaluator that simulates chips; use another search on a table.")
        assert budget is not None
        objective = Objective.of(evaluator)
        empty = evaluator.evaluate(objective.space.empty())
        one, coarse = evaluator.task.chips * empty.images, coarser(evaluator, SHARES[0])
        share = coarse.task.chips * coarse.problem.images("val") / one
        low = Surrogate.run(Ledger(coarse, max(1, int(LOWEST * budget / share))), seed, {})
        ranked = sorted(low.steps, key=lambda step: step.objective, reverse=True)
        middle = coarser(evaluator, SHARES[1])
        share = middle.task.chips * middle.problem.images("val") / one
        best_low = [step.placement for step in ranked[: max(1, int(LOWEST * budget / share))]]
        rungs = climb(evaluator, best_low, shares=SHARES[1:])
        reached = [objective.space.empty(), *rungs[-2].objectives]
        full = evaluator.evaluate_many(list(dict.fromkeys(reached)))
        steps = [Step(e.placement, objective.value(e), objective.accuracy(e)) for e in full]
        best = evaluator.evaluate(rungs[-1].ranked[0], "val", "tuned")
        empties = one + middle.task.chips * middle.problem.images("val")  # J is measured from the empty placement
        passes = low.passes + empties + sum(rung.passes for rung in rungs)
        return SearchResult(cls.name, best.placement, objective.value(best), best, low.evaluations, steps, passes)
