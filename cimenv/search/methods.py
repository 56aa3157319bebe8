"""The searches by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from cimenv.core.errors import ConfigError, UnknownNameError
from cimenv.search.annealing import Annealing
from cimenv.search.base import Search
from cimenv.search.exhaustive import Exhaustive
from cimenv.search.genetic import Genetic
from cimenv.search.greedy import Backward, Greedy, Swap
from cimenv.search.knapsack import Knapsack
from cimenv.search.random_search import RandomSearch
from cimenv.search.rules import Order, Rule, by_error, by_error_per_cost, first_sites, last_sites
from cimenv.search.samplers import Sampler
from cimenv.search.surrogate import Surrogate
from cimenv.tasks.objective import Objective

Factory = Callable[..., Search]


def _without_draws(kind: Callable[[Objective], Search]) -> Factory:
    def made(objective: Objective, _generator: np.random.Generator) -> Search:
        return kind(objective)

    return made


def _rule(order: Order, **settings: Any) -> Factory:
    return _without_draws(partial(Rule, order=order, **settings))


METHODS: dict[str, Factory] = {
    "uniform": _rule(first_sites, only_all=True),
    "first": _rule(first_sites),
    "last": _rule(last_sites),
    "error": _rule(by_error),
    "error_per_cost": _rule(by_error_per_cost),
    "random": RandomSearch,
    "greedy": _without_draws(Greedy),
    "swap": _without_draws(Swap),
    "backward": _without_draws(Backward),
    "knapsack": _without_draws(Knapsack),
    "annealing": Annealing,
    "genetic": Genetic,
    "tpe": partial(Sampler, kind="tpe"),
    "nsga2": partial(Sampler, kind="nsga2"),
    "surrogate": Surrogate,
    "exhaustive": _without_draws(Exhaustive),
}
RACING, LADDER = "racing", "ladder"  # choose chips and images as well as placements, so they do not propose
NAMES = (*METHODS, RACING, LADDER)
ENDLESS = ("random", "annealing", "genetic", "tpe", "nsga2", "surrogate")  # end with their budget


def made(method: str, objective: Objective, seed: int, settings: dict[str, Any]) -> Search:
    """Return a search that proposes.

    Raises:
        ConfigError: a setting that the method does not know, or an optional package is missing.
    """
    kind, generator = METHODS[method], np.random.default_rng(seed)
    try:
        inspect.signature(kind).bind(objective, generator, **settings)
    except TypeError as error:
        raise ConfigError(f"settings of {method}: {settings} do not fit ({error}); leave out what it lacks.") from None
    return kind(objective, generator, **settings)


def check_name(method: str) -> None:
    """Check that there is such a method.

    Raises:
        UnknownNameError: there is none.
    """
    if method not in NAMES:
        raise UnknownNameError("search method", method, NAMES)
