"""The searches by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import InstanceOf, create_model

from cimenv.core.config import Frozen
from cimenv.core.errors import ConfigError, brief, known_name
from cimenv.search.annealing import Annealing
from cimenv.search.base import Search
from cimenv.search.exhaustive import Exhaustive
from cimenv.search.genetic import Genetic
from cimenv.search.greedy import Backward, Greedy, Swap
from cimenv.search.knapsack import Knapsack, LoggedKnapsack
from cimenv.search.policy_gradient import PolicyGradient
from cimenv.search.random_search import RandomSearch
from cimenv.search.rules import Order, Rule, by_error, by_error_per_cost, first_sites, last_sites
from cimenv.search.samplers import Sampler, sampler_settings
from cimenv.search.surrogate import Surrogate
from cimenv.search.transfer import Transfer
from cimenv.tasks.objective import Objective

Factory = Callable[..., Search]


def _without_draws(kind: Callable[[Objective], Search]) -> Factory:
    def made(objective: Objective, _generator: np.random.Generator) -> Search:
        return kind(objective)

    return made


def _rule(order: Order, **settings: Any) -> Factory:
    return _without_draws(partial(Rule, order=order, **settings))


SAMPLERS: dict[str, Literal["tpe", "nsga2"]] = {"tpe": "tpe", "nsga2": "nsga2"}
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
    "fit_log": _without_draws(LoggedKnapsack),
    "annealing": Annealing,
    "genetic": Genetic,
    **{name: partial(Sampler, kind=kind) for name, kind in SAMPLERS.items()},
    "surrogate": Surrogate,
    "transfer": Transfer,
    "lstm_controller": partial(PolicyGradient, kind="lstm"),
    "one_step": partial(PolicyGradient, kind="one_step", learning_rate=0.1),
    "exhaustive": _without_draws(Exhaustive),
}
RACING, LADDER = "racing", "ladder"  # choose chips and images as well as placements, so they do not propose
NAMES = (*METHODS, RACING, LADDER)
FIXED = ("kind", "order", "only_all")  # what makes one method of a class
ENDLESS = (
    "random",
    "annealing",
    "genetic",
    "tpe",
    "nsga2",
    "surrogate",
    "transfer",
    "lstm_controller",
    "one_step",
)  # end with their budget


def made(method: str, objective: Objective, seed: int, settings: dict[str, Any]) -> Search:
    """Return a search that proposes."""
    return METHODS[method](objective, np.random.default_rng(seed), **settings)


def checked_settings(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, once it is known that a method takes them and that what it needs is installed.

    Raises:
        ConfigError: it does not, or a package is missing.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"settings: got {brief(settings)}; give a mapping of arguments of {method}.")
    if method not in METHODS:
        fields: dict[str, Any] = {}
    elif method in SAMPLERS:
        fields = dict.fromkeys(sampler_settings(SAMPLERS[method]), (InstanceOf[object], None))
    else:
        known = inspect.signature(METHODS[method], eval_str=True).parameters.values()
        fields = {p.name: (p.annotation, p.default) for p in known if p.kind is p.KEYWORD_ONLY and p.name not in FIXED}
    model = create_model(f"settings of {method}", __base__=Frozen, **fields)
    return model.model_validate(settings).model_dump(exclude_unset=True)


def check_name(method: str) -> None:
    """Check that there is such a method.

    Raises:
        UnknownNameError: there is none.
    """
    known_name("search method", method, NAMES)
