"""cimenv.place: a placement for a network of the user's own, in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError
from cimenv.core.progress import Progress, bar
from cimenv.core.store import Store
from cimenv.cost.hardware import Cost
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.explicit import explicit
from cimenv.crossbar.mapping import SITE_TYPES
from cimenv.data import DataSplits, load_data
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import SearchResult
from cimenv.search.run import run_search
from cimenv.tasks.evaluators import MonteCarloEvaluator
from cimenv.tasks.problem import UserObjects
from cimenv.tasks.space import describe
from cimenv.tasks.task import Task, load_task


@dataclass(frozen=True)
class PlacementResult:
    """A placement and what it buys and costs.

    Attributes:
        placement: one option index per site.
        blocks: site name -> block, only where one is placed.
        none: test evaluation without blocks.
        tuned: test evaluation with the blocks fitted for this placement, on chips the search never saw.
        clean_accuracy: test accuracy of the network without variation.
        cost: what the blocks add.
        shares: each cost term as a share of the backbone's.
        search: every distinct evaluation of the search.
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

    @contextmanager
    def inserted(self, model: nn.Module) -> Iterator[nn.Module]:
        """Yield `model` with the fitted blocks behind its layers; leaves no trace.

        Where the model has LSTM, GRU or attention modules, it is a copy in which these are written out as matrices.
        """
        with self.evaluator.problem.tuned_bank(self.placement).inserted(explicit(model), self.placement) as network:
            yield network

    def __str__(self) -> str:
        low, high = self.cost.energy_pj.low, self.cost.energy_pj.high
        interval = self.tuned.interval("mean")
        assert interval is not None
        lines = [f"  {site}: {block}" for site, block in self.blocks.items()] or ["  no block pays for itself"]
        return "\n".join(
            [
                f"placement {self.placement} ({self.search.method}, {self.search.evaluations} evaluations)",
                *lines,
                f"accuracy on {self.tuned.correct.shape[-1]} fresh chips x {self.tuned.images} test images: "
                f"{self.tuned.value('mean'):.3f} (95 % interval {interval[0]:.3f} to {interval[1]:.3f}), "
                f"5 % percentile {self.tuned.value('percentile'):.3f}; "
                f"without blocks {self.none.value('mean'):.3f}, clean {self.clean_accuracy:.3f}",
                f"cost: +{self.shares['weights']:.2%} weights, +{self.shares['macs']:.2%} MACs, "
                f"{low / 1e3:.3g} to {high / 1e3:.3g} nJ, +{self.shares['energy']:.2%} energy",
            ]
        )


def place(
    model: nn.Module,
    data: DataSplits | str,
    crossbar: CrossbarConfig | None = None,
    *,
    budget: Mapping[str, float] | None = None,
    method: str = "greedy",
    evaluations: int | None = None,
    seed: int = 0,
    store: Store | None = None,
    progress: Progress = bar,
    **task_fields: Any,
) -> PlacementResult:
    """Find where to put compensation blocks in a trained network.

    Fits the one-shot bank, searches on validation images, fits the blocks of the placement found and reports on the
    test split with fresh chips. Trained things are kept in the store.

    Args:
        model: a trained classifier; it is not changed.
        data: the splits, or the name of a data set.
        crossbar: device model and array; default log-normal, sigma 0.5.
        budget: caps such as `{"weights": 0.05, "macs": 0.1}`, shares of the backbone.
        method: a name in `cimenv.search.methods.NAMES`, such as `greedy`, `knapsack`, `surrogate` or `exhaustive`.
        evaluations: largest number of distinct evaluations.
        seed: of the search.
        store: where trained weights and evaluations are kept.
        progress: opens bars.
        task_fields: any other field of `Task`, such as `options` (default those of `lenet5-fashion-mini`, a dense
            layer's for every layer that is no convolution) or `chips`.

    Raises:
        MappingError: the model has no layer with a matrix.
        DataError: the data does not fit the model.
        UnknownNameError: unknown method.
        ConfigError: another argument is unknown or holds what is not allowed, a term of the budget for example.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: got a {type(model).__name__}; give a trained torch.nn.Module.")
    splits = load_data(data) if isinstance(data, str) else data
    options = load_task("lenet5-fashion-mini").options
    fields: dict[str, Any] = {
        "options": {site: options["conv" if site == "conv" else "dense"] for site in SITE_TYPES},
        "name": type(model).__name__,
        "crossbar": (crossbar or CrossbarConfig()).model_dump(mode="json"),
        "budget": dict(budget or {}),
        **task_fields,
    }
    task = Task(**fields)
    evaluator = MonteCarloEvaluator(task, store, progress=progress, objects=UserObjects(model, splits))
    found = run_search(evaluator, method, evaluations, seed)
    return report(evaluator, found)


def report(evaluator: MonteCarloEvaluator, found: SearchResult) -> PlacementResult:
    """Evaluate a search's best placement on the test split with fresh chips and fitted blocks."""
    space = evaluator.space
    return PlacementResult(
        placement=found.best,
        blocks=describe(found.best, space.options),
        none=evaluator.evaluate(space.empty(), "test"),
        tuned=evaluator.evaluate(found.best, "test", "tuned"),
        clean_accuracy=evaluator.clean_accuracy("test"),
        cost=space.cost(found.best),
        shares=space.shares(found.best),
        search=found,
        evaluator=evaluator,
    )
