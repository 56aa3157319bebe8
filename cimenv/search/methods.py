"""The searches by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimenv.core.registry import Registry

if TYPE_CHECKING:
    from cimenv.search.base import Search

METHODS: Registry[type[Search]] = Registry(
    "search method",
    "cimenv.search.base:Search",
    {
        "greedy": "cimenv.search.greedy:Greedy",
        "swap": "cimenv.search.greedy:Swap",
        "backward": "cimenv.search.greedy:Backward",
        "knapsack": "cimenv.search.knapsack:Knapsack",
        "fit_log": "cimenv.search.knapsack:LoggedKnapsack",
        "transfer": "cimenv.search.transfer:Transfer",
        "surrogate": "cimenv.search.surrogate:Surrogate",
        "annealing": "cimenv.search.annealing:Annealing",
        "genetic": "cimenv.search.genetic:Genetic",
        "tpe": "cimenv.search.samplers:Tpe",
        "nsga2": "cimenv.search.samplers:Nsga2",
        "random": "cimenv.search.random_search:RandomSearch",
        "lstm_controller": "cimenv.search.policy_gradient:LstmSearch",
        "one_step": "cimenv.search.policy_gradient:OneStepSearch",
        "racing": "cimenv.search.racing:Racing",
        "ladder": "cimenv.search.ladder:Ladder",
        "exhaustive": "cimenv.search.exhaustive:Exhaustive",
        "uniform": "cimenv.search.rules:Uniform",
        "first": "cimenv.search.rules:First",
        "last": "cimenv.search.rules:Last",
        "error": "cimenv.search.rules:ByError",
        "error_per_cost": "cimenv.search.rules:ByErrorPerCost",
    },
    tag="name",
)
