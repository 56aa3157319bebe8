"""The ladder of fidelities: many placements on few chips and images, fewer on more, the last with fitted blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cimenv.compensation.options import Placement
from cimenv.core.progress import Progress, silent
from cimenv.evaluation.metrics import smallest_chips
from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator
from cimenv.tasks.objective import Objective
from cimenv.tasks.requests import Fidelity

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

    Chips and images shrink alike, but never below what the metric or a comparison needs.
    """
    task = evaluator.task
    if share >= 1:
        return evaluator
    fewest = smallest_chips(task.percentile) if task.metric == "percentile" else FEWEST_CHIPS
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
            found = evaluator.evaluate_many(left[:tuned], "val", "tuned")
            values = {e.placement: objective.value(e) for e in found}
            rungs.append(Rung("tuned", evaluator.task.chips, evaluator.problem.images("val"), values))
            advance()
    return rungs
