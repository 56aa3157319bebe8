"""cimenv.place: a placement for a network of the user's own, in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from cimenv.compensation.options import Placement
from cimenv.core.config import checked_int
from cimenv.core.errors import ConfigError, MappingError
from cimenv.core.progress import Progress, bar
from cimenv.core.store import Store
from cimenv.cost.hardware import Cost
from cimenv.crossbar.explicit import explicit
from cimenv.data import DataSplits
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import SearchResult
from cimenv.search.run import run_search
from cimenv.tasks.evaluators import MonteCarloEvaluator
from cimenv.tasks.own import AnyCrossbar, own_task
from cimenv.tasks.problem import default_store
from cimenv.tasks.space import describe


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

        It runs with its own, clean weights. Where the model has LSTM, GRU or attention modules, what is yielded is a
        copy in which these are written out as matrices.

        Raises:
            MappingError: it is another network.
        """
        network = explicit(model)
        modules = dict(network.named_modules())
        if missing := [site.name for site in self.evaluator.space.options.sites if site.name not in modules]:
            raise MappingError(
                f"inserted: the model has no layer {missing[0]}; give the one that blocks were placed in."
            )
        with self.evaluator.problem.tuned_bank(self.placement).inserted(network, self.placement):
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
        low, high = self.cost.energy_pj.low, self.cost.energy_pj.high
        interval = self.tuned.interval("mean")
        assert interval is not None
        lines = [f"  {site}: {block}" for site, block in self.blocks.items()] or [f"  {self._why_none()}"]
        spent = self.search.evaluations
        return "\n".join(
            [
                f"placement {self.placement} ({self.search.method}, {spent} evaluation{'s' * (spent > 1)})",
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
    crossbar: AnyCrossbar = None,
    *,
    budget: Mapping[str, float] | None = None,
    method: str = "greedy",
    evaluations: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    store: Store | str | Path | None = None,
    progress: Progress = bar,
    **task_fields: Any,
) -> PlacementResult:
    """Find where to put compensation blocks in a trained network.

    Fits the one-shot bank, searches on validation images, fits the blocks of the placement found and reports on the
    test split with fresh chips. Trained things are kept in the store.

    Args:
        model: a trained classifier; it is not changed.
        data: the splits, or the name of a data set.
        crossbar: device model and array, the device alone, or what a task's YAML says; default log-normal, sigma 0.5.
        budget: caps such as `{"weights": 0.05, "macs": 0.1}`, shares of the backbone.
        method: a name in `cimenv.search.methods.NAMES`, such as `greedy`, `knapsack`, `transfer` or `exhaustive`.
        evaluations: largest number of distinct evaluations.
        seed: of the search.
        settings: of the search, such as `{"tables": ["mine.csv"]}` for `transfer`.
        store: where trained weights and evaluations are kept, or its folder.
        progress: opens bars.
        task_fields: any other field of `Task`, such as `options` (default those of `lenet5-fashion-mini`, a dense
            layer's for every layer that is no convolution) or `chips`.

    Raises:
        MappingError: the model has no layer with a matrix.
        DataError: the data does not fit the model.
        UnknownNameError: unknown method.
        ConfigError: another argument is unknown or holds what is not allowed, a term of the budget for example.
    """
    if evaluations is not None:
        checked_int("evaluations", evaluations, 1)
    if budget is not None and not isinstance(budget, Mapping):
        raise ConfigError(f"budget: got {budget!r}; give caps by term, such as {{'weights': 0.05}}.")
    fields = {"budget": dict(budget or {}), **task_fields}
    task, objects = own_task("place", model, data, crossbar, fields)
    kept = store if isinstance(store, Store) else default_store(store)
    evaluator = MonteCarloEvaluator(task, kept, progress=progress, objects=objects)
    found = run_search(evaluator, method, evaluations, seed, settings)
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
