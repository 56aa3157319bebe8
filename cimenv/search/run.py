"""Run a search to its end or to its budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cimenv.core.config import checked_int
from cimenv.core.errors import ConfigError, brief
from cimenv.core.global_state import own_torch_state
from cimenv.search.base import SearchResult
from cimenv.search.methods import METHODS
from cimenv.tasks.evaluators.base import Evaluator
from cimenv.tasks.evaluators.ledger import Ledger
from cimenv.tasks.task import Task

BUDGET = 150  # of searches that end only with it


@own_torch_state()
def run_search(
    evaluator: Evaluator,
    method: str = "greedy",
    budget: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Run a search to its end or to its budget of distinct evaluations (the empty placement counts).

    Args:
        evaluator: evaluates; a ledger of its own counts this run.
        method: a name in `methods.METHODS`, or `package.module:Class` of a search of one's own.
        budget: largest number of distinct evaluations (`ladder`: as much work as this many at full fidelity); default
            150 for methods that end only with it, none for the others.
        seed: of searches that draw.
        settings: keyword arguments of the method.

    Raises:
        UnknownNameError: no such method.
        ConfigError: a budget under 1, a seed under 0, a setting that the method does not know, or a package that it
            needs is missing.
    """
    search = METHODS.find(method)  # before anything is trained
    if not isinstance(getattr(evaluator, "task", None), Task):
        raise ConfigError(f"evaluator: got {brief(evaluator)}; give one of cimenv.tasks.")
    checked_int("seed", seed, 0)
    ledger = Ledger(evaluator, BUDGET if budget is None and search.endless else budget)
    return search.run(ledger, seed, search.checked({} if settings is None else settings))
