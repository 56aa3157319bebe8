"""The interface of every search: propose placements, observe their evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.core.errors import UnknownNameError
from cimenv.evaluation.record import Evaluation
from cimenv.search.exhaustive import Exhaustive
from cimenv.search.greedy import Greedy
from cimenv.search.knapsack import Knapsack
from cimenv.search.racing import race
from cimenv.search.random_search import RandomSearch
from cimenv.tasks.evaluators import Evaluator
from cimenv.tasks.ledger import Ledger
from cimenv.tasks.objective import Objective


class Search(Protocol):
    """A search method.

    `propose` returns placements to evaluate next, an empty list when the search is over; `observe` is told each result.
    """

    def propose(self) -> list[Placement]:
        """Return placements to evaluate next; empty when the search is over."""

    def observe(self, placement: Placement, value: float) -> None:
        """Take note of the objective of a placement."""


@dataclass(frozen=True)
class Step:
    """One distinct evaluation of a search."""

    placement: Placement
    objective: float
    accuracy: float


@dataclass
class SearchResult:
    """What a search found.

    Attributes:
        method: name of the search.
        best: the best placement by the objective.
        objective: its J on validation.
        evaluation: its evaluation at search fidelity.
        evaluations: distinct placements requested.
        steps: every distinct evaluation in order.
        chips: chips evaluated, all placements together (racing: fewer than placements times the task's chips).
    """

    method: str
    best: Placement
    objective: float
    evaluation: Evaluation
    evaluations: int
    steps: list[Step] = field(default_factory=list)
    chips: int = 0

    @property
    def best_so_far(self) -> list[float]:
        """Return the best objective after every distinct evaluation."""
        return np.maximum.accumulate([step.objective for step in self.steps]).tolist()


Factory = Callable[[Objective, np.random.Generator], Search]
METHODS: dict[str, Factory] = {
    "random": RandomSearch,
    "greedy": lambda objective, _: Greedy(objective),
    "knapsack": lambda objective, _: Knapsack(objective),
    "exhaustive": lambda objective, _: Exhaustive(objective),
}
RACING = "racing"  # chooses chips as well as placements, so it does not propose and observe: see `_raced`


def run_search(evaluator: Evaluator, method: str = "greedy", budget: int | None = None, seed: int = 0) -> SearchResult:
    """Run a search to its end or to its budget of distinct evaluations (the empty placement counts).

    Args:
        evaluator: evaluates; a ledger of its own counts this run.
        method: a name in `METHODS`, or `racing`.
        budget: largest number of distinct evaluations; default 150 for `random`, none for the others.
        seed: of searches that draw.

    Raises:
        UnknownNameError: no such method.
        ConfigError: a budget under 1.
    """
    if budget is None and method == "random":
        budget = 150
    ledger = Ledger(evaluator, budget)
    if method == RACING:
        return _raced(ledger, np.random.default_rng(seed))
    if method not in METHODS:  # before anything is trained
        raise UnknownNameError("search method", method, (*METHODS, RACING))
    objective = Objective.of(ledger)
    search = METHODS[method](objective, np.random.default_rng(seed))
    steps: dict[Placement, Step] = {}
    _note(ledger, objective, search, [objective.space.empty()], steps)
    while not ledger.exhausted:
        proposed = search.propose()
        if not proposed:
            break
        new = [p for p in dict.fromkeys(proposed) if p not in steps]
        room = len(new) if budget is None else budget - ledger.spent
        chosen = set(new[:room])
        _note(ledger, objective, search, [p for p in proposed if p in steps or p in chosen], steps)
    best = max(steps.values(), key=lambda step: objective.rank(step.placement, step.objective))
    return SearchResult(
        method,
        best.placement,
        best.objective,
        ledger.evaluate(best.placement),
        ledger.spent,
        list(steps.values()),
        ledger.spent * evaluator.task.chips,
    )


def _raced(ledger: Ledger, generator: np.random.Generator) -> SearchResult:
    """Race all feasible placements, or as many random ones as the budget allows; see `racing.race`."""
    space = ledger.space
    runners = list(space.all_placements())
    room = len(runners) if ledger.budget is None else ledger.budget - 1
    if room < len(runners):
        runners = [runners[k] for k in sorted(generator.choice(len(runners), room, replace=False))]
    result = race(ledger, [space.empty(), *runners])
    objective = Objective.of(ledger)
    steps = [Step(p, value, result.accuracies[p]) for p, value in result.objectives.items()]
    best = result.best
    evaluation = ledger.evaluate(best)
    more = ledger.task.chips - result.chips[best]  # the winner's evaluation is on all chips
    return SearchResult(RACING, best, objective.value(evaluation), evaluation, ledger.spent, steps, result.spent + more)


def _note(
    ledger: Ledger,
    objective: Objective,
    search: Search,
    placements: list[Placement],
    steps: dict[Placement, Step],
) -> None:
    for evaluation in ledger.evaluate_many(placements):
        value = objective.value(evaluation)
        steps.setdefault(evaluation.placement, Step(evaluation.placement, value, objective.accuracy(evaluation)))
        search.observe(evaluation.placement, value)
