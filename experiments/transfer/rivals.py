"""What needs no evaluation either: rules of thumb, the best of which is chosen on the training tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.search.moves import with_option
from cimenv.search.rules import Order, by_error, by_error_per_cost, first_sites, last_sites
from cimenv.tasks.evaluators.table import TableEvaluator

ORDERS: Mapping[str, Order] = {
    "first": first_sites,
    "last": last_sites,
    "error": by_error,
    "error_per_cost": by_error_per_cost,
}
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the sites
OPTIONS = 3
NONE = "none"


def rules() -> list[str]:
    """Return the names of all rules: ORDER SHARE OPTION, and none."""
    return [
        NONE,
        *(f"{order} {share:g} {option + 1}" for order, share, option in product(ORDERS, SHARES, range(OPTIONS))),
    ]


def placed(rule: str, evaluator: TableEvaluator) -> Placement:
    """Return the placement of a rule, which looks at the errors of the empty placement only.

    Shares are of the candidate sites; where an option is not allowed, the next smaller one is taken.
    """
    space = evaluator.space
    placement = space.empty()
    if rule == NONE:
        return placement
    order, share, option = rule.split()
    wanted = ORDERS[order](space, evaluator.evaluate(placement))
    sites = [int(site) for site in wanted if space.candidates[site, 1:].any()]
    for site in sites[: math.ceil(float(share) * len(sites))]:
        allowed = np.flatnonzero(space.affordable_at(placement, site))
        placement = with_option(placement, site, int(allowed[allowed <= int(option)].max()))  # it, or the next smaller
    return placement


def best_rule(evaluators: list[TableEvaluator]) -> str:
    """Return the rule with the least mean regret on some tables."""
    return min(rules(), key=lambda rule: float(np.mean([regret(placed(rule, each), each) for each in evaluators])))


def regret(placement: Placement, evaluator: TableEvaluator) -> float:
    """Return a placement's regret."""
    return evaluator.regret(evaluator.objective.value(evaluator.evaluate(placement)))
