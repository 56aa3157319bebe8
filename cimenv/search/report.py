"""What a search's placement is worth: compared on held-out validation, then reported on the test split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from cimenv.compensation.options import Placement
from cimenv.core.errors import MappingError
from cimenv.cost.hardware import Cost, explained
from cimenv.crossbar.explicit import explicit
from cimenv.crossbar.sites import has_site
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import SearchResult
from cimenv.search.comparison import AFFINE, Comparison, affine_everywhere, compare
from cimenv.search.course import stages
from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator
from cimenv.tasks.space import describe


@dataclass(frozen=True)
class PlacementResult:
    """A placement and what it buys and costs.

    Attributes:
        placement: one option index per site: what the search found, or what `comparison` puts above it.
        blocks: site name -> block, only where one is placed.
        none: test evaluation without blocks.
        tuned: test evaluation with the blocks fitted for this placement, on chips the search never saw.
        clean_accuracy: test accuracy of the network without variation.
        cost: what the blocks add.
        shares: each cost term as a share of the backbone's.
        search: every distinct evaluation of the search.
        comparison: of what the search found, no blocks and affine ones everywhere, on held-out validation.
        affine: test evaluation with `affine` everywhere, fitted; None where it is no option.
    """

    placement: Placement
    blocks: Mapping[str, str]
    none: Evaluation
    tuned: Evaluation
    clean_accuracy: float
    cost: Cost
    shares: Mapping[str, float]
    search: SearchResult
    evaluator: MonteCarloEvaluator
    comparison: Comparison
    affine: Evaluation | None = None

    @property
    def fell_back(self) -> bool:
        """Whether the placement is not what the search found, but what was better than it on held-out validation."""
        return self.placement != self.search.best

    @contextmanager
    def inserted(self, model: nn.Module) -> Iterator[nn.Module]:
        """Yield `model` with the fitted blocks behind its layers; leaves no trace.

        It runs with its own, clean weights. Where the model has LSTM, GRU or attention modules, what is yielded is a
        copy in which these are written out as matrices.

        Raises:
            MappingError: it is another network.
        """
        network = explicit(model, self.evaluator.problem.network.config.digital)
        for site in self.evaluator.space.options.sites:
            if not has_site(network, site):
                raise MappingError(
                    f"inserted: the model has no layer {site.name}; give the one that blocks were placed in."
                )
        origins = dict(model.named_parameters())
        with self.evaluator.problem.tuned_bank(self.placement).inserted(network, self.placement, origins):
            yield network

    def _why_none(self) -> str:
        """Return why there is no block."""
        space = self.evaluator.space
        if not space.affordable(space.empty())[:, 1:].any():
            return "no block is allowed: loosen the budget, or give options and candidates"
        if len(self.search.steps) == 1:
            return "no placement of blocks was seen: allow more evaluations"
        return "no block pays for itself"

    def __str__(self) -> str:
        lines = [f"  {site}: {block}" for site, block in self.blocks.items()] or [f"  {self._why_none()}"]
        verdict = str(self.comparison)
        if self.comparison.best is not self.comparison.found:
            kept = f"{self.comparison.best.name} returned" if self.fell_back else "what was found is kept, as asked"
            lines = [f"{verdict[0].upper()}{verdict[1:]}; {kept}.", self._headline(), *lines]
        else:
            lines = [self._headline(), *lines, f"held out: {verdict}"]
        if self.search.notice:
            lines.append(self.search.notice)
        return "\n".join([*lines, self._accuracies(), *self._costs()])

    def _headline(self) -> str:
        spent, best = self.search.evaluations, self.search.best
        by = f"{self.search.method}, {spent} evaluation{'s' * (spent > 1)}"
        if self.fell_back:
            return f"placement {self.placement} in the place of {best} ({by})"
        return f"placement {self.placement} ({by})"

    def _accuracies(self) -> str:
        interval = self.tuned.interval("mean")
        assert interval is not None
        affine = f"{AFFINE} {self.affine.value('mean'):.3f}, " if self.affine else ""
        return (
            f"accuracy on {self.tuned.chips} fresh chips x {self.tuned.images} test images: "
            f"{self.tuned.value('mean'):.3f} (95 % interval {interval[0]:.3f} to {interval[1]:.3f}), "
            f"5 % percentile {self.tuned.value('percentile'):.3f}; "
            f"without blocks {self.none.value('mean'):.3f}, {affine}clean {self.clean_accuracy:.3f}"
        )

    def _costs(self) -> list[str]:
        low, high = self.cost.energy_pj.low, self.cost.energy_pj.high
        note = explained(self.shares)
        return [
            f"cost: +{self.shares['weights']:.2%} weights, +{self.shares['macs']:.2%} MACs, "
            f"{low / 1e3:.3g} to {high / 1e3:.3g} nJ, +{self.shares['energy']:.2%} energy, "
            f"+{self.shares['area']:.2%} area",
            *([note] if note else []),
        ]


def report(evaluator: MonteCarloEvaluator, result: SearchResult, fallback: bool = True) -> PlacementResult:
    """Compare what a search found with no blocks and affine ones, and evaluate all three on the test split, once.

    Args:
        evaluator: of the search.
        found: by the search.
        fallback: return what the comparison finds better, where it does.
    """
    space, task = evaluator.space, evaluator.task
    tuning = 3.0 * task.tuned.steps * task.tuned.batch_size  # forward and backward
    val = float(len(task.times_s) * task.chips * evaluator.problem.images("val"))
    test = float(len(task.times_s) * task.report_chips * evaluator.problem.images("test"))
    with stages(evaluator, "fitting the blocks, comparing, reporting", 2 * tuning + 3 * val + 3 * test) as work:
        spent, ahead = f"{result.evaluations} evaluation{'s' * (result.evaluations > 1)}", "its blocks are fitted now"
        work.say(
            f"placement found: {' '.join(map(str, result.best))} (J {result.objective:.3f}, {spent}); "
            f"{ahead if any(result.best) else 'it is compared now'}"
        )
        for placement in (result.best, affine_everywhere(space)):
            if placement is not None and any(placement):
                with work.piece(tuning):
                    evaluator.problem.tuned_bank(placement, evaluator.compute.progress)
        with work.piece(3 * val, 3 * len(task.times_s)):
            comparison = compare(evaluator, result.best)
        chosen = comparison.best.placement if fallback else result.best
        with work.piece(3 * test, 3 * len(task.times_s)):
            none = evaluator.evaluate(space.empty(), "test")
            wanted = [chosen, *([comparison.affine.placement] if comparison.affine else [])]
            tuned, *affine = evaluator.evaluate_many(wanted, "test", "tuned")
    return PlacementResult(
        placement=chosen,
        blocks=describe(chosen, space.options),
        none=none,
        tuned=tuned,
        clean_accuracy=evaluator.clean_accuracy("test"),
        cost=space.cost(chosen),
        shares=space.shares(chosen),
        search=result,
        evaluator=evaluator,
        comparison=comparison,
        affine=affine[0] if affine else None,
    )
