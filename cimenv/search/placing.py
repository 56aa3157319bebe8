"""cimenv.place: a placement for a network of the user's own, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cimenv.core.config import checked_int
from cimenv.core.errors import ConfigError, brief
from cimenv.core.global_state import own_torch_state
from cimenv.core.progress import Progress, bar
from cimenv.core.store import Store
from cimenv.data import DataSplits
from cimenv.search.report import PlacementResult, report
from cimenv.search.run import run_search
from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator
from cimenv.tasks.own import AnyCrossbar, own_task
from cimenv.tasks.problem import default_store


@own_torch_state()
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
    fallback: bool = True,
    store: Store | str | Path | None = None,
    device: str = "cpu",
    progress: Progress = bar,
    **task_fields: Any,
) -> PlacementResult:
    """Find where to put compensation blocks in a trained network.

    Fits the one-shot bank, searches on validation images and fits the blocks of the placement found. That is compared
    with no blocks and with affine ones everywhere, on validation chips and images that the search did not see, and all
    three are reported on the test split with fresh chips. What is trained or evaluated is kept in the store: after a
    kill, the same call goes on from there.

    Args:
        model: a trained classifier; it is not changed.
        data: the splits, or the name of a data set.
        crossbar: device model and array, the device alone, or what a task's YAML says; default log-normal, sigma 0.5.
        budget: caps such as `{"weights": 0.05, "macs": 0.1}`, shares of the backbone.
        method: a name in `cimenv.search.METHODS`, such as `greedy`, `knapsack`, `transfer` or `exhaustive`, or
            `package.module:Class` of one of your own.
        evaluations: largest number of distinct evaluations.
        seed: of the search.
        settings: of the search, such as `{"tables": ["mine.csv"]}` for `transfer`.
        fallback: return the best of the three, where that is not what the search found (the first line says so).
        store: where trained weights and evaluations are kept, or its folder.
        device: where chips are evaluated, `cpu` or `cuda`.
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
        raise ConfigError(f"budget: got {brief(budget)}; give caps by term, such as {{'weights': 0.05}}.")
    fields = {"budget": dict(budget or {}), **task_fields}
    task, objects = own_task("place", model, data, crossbar, fields)
    kept = store if isinstance(store, Store) else default_store(store)
    evaluator = MonteCarloEvaluator(task, kept, device=device, progress=progress, objects=objects)
    result = run_search(evaluator, method, evaluations, seed, settings)
    return report(evaluator, result, fallback)
