"""Run a search to its end or to its budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.core.config import checked_int
from cimenv.core.errors import ConfigError, brief
from cimenv.core.global_state import own_torch_state
from cimenv.search.base import Search, SearchResult, Step
from cimenv.search.course import Course, shown
from cimenv.search.ladder import SHARES, climb, coarser
from cimenv.search.methods import ENDLESS, LADDER, RACING, check_name, checked_settings, made
from cimenv.search.racing import race
from cimenv.tasks.evaluators.base import Evaluator
from cimenv.tasks.evaluators.ledger import Ledger
from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator
from cimenv.tasks.objective import Objective
from cimenv.tasks.task import Task

BUDGET = 150  # of searches that end only with it
LOWEST = 1 / 4  # of the ladder's work on each of its two lower rungs
STALE = 1_000  # rounds without a new placement after which a search is over


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
        method: a name in `methods.NAMES`.
        budget: largest number of distinct evaluations (`ladder`: as much work as this many at full fidelity); default
            150 for methods that end only with it, none for the others.
        seed: of searches that draw.
        settings: keyword arguments of the method.

    Raises:
        UnknownNameError: no such method.
        ConfigError: a budget under 1, a seed under 0, a setting that the method does not know, or a package that it
            needs is missing.
    """
    check_name(method)  # before anything is trained
    if not isinstance(getattr(evaluator, "task", None), Task):
        raise ConfigError(f"evaluator: got {brief(evaluator)}; give one of cimenv.tasks.")
    checked_int("seed", seed, 0)
    if budget is None and method in (*ENDLESS, LADDER):
        budget = BUDGET
    ledger = Ledger(evaluator, budget)
    given = checked_settings(method, {} if settings is None else settings)
    if method == RACING:
        return _raced(ledger, np.random.default_rng(seed))
    if method == LADDER:
        return _climbed(evaluator, budget or BUDGET, seed)
    with shown(evaluator, method, budget) as course:
        return _proposed(ledger, method, seed, given, course)


def _proposed(ledger: Ledger, method: str, seed: int, given: dict[str, Any], course: Course) -> SearchResult:
    """Run a search that proposes."""
    course.begin(1)
    objective = Objective.of(ledger)
    search = made(method, objective, seed, given)
    steps: dict[Placement, Step] = {}
    images = _note(ledger, objective, search, [objective.space.empty()], steps)
    course.end(0.0)
    stale, notice = 0, ""
    while not ledger.exhausted and stale < STALE:
        proposed = search.propose()
        if not proposed:
            break
        new = [p for p in dict.fromkeys(proposed) if p not in steps]
        stale = 0 if new else stale + 1
        room = len(new) if ledger.budget is None else ledger.budget - ledger.spent
        if room < len(new) and len(steps) == 1 and method not in ENDLESS:
            notice = _too_few(method, 1 + len(new), ledger)
            course.say(notice)
        chosen = set(new[:room])
        course.begin(len(chosen))
        _note(ledger, objective, search, [p for p in proposed if p in steps or p in chosen], steps)
        course.end(max(step.objective for step in steps.values()))
    best = max(steps.values(), key=lambda step: objective.rank(step.placement, step.objective))
    return SearchResult(
        method,
        best.placement,
        best.objective,
        ledger.evaluate(best.placement),
        ledger.spent,
        list(steps.values()),
        ledger.spent * ledger.task.chips * images,
        notice,
    )


def _too_few(method: str, needed: int, ledger: Ledger) -> str:
    """Return what would fit where a method's first round does not."""
    logged = "fit_log, which needs 2, or " if ledger.gains is not None else ""
    return (
        f"Method {method} needs {needed} evaluations for its first round, which is cut short at {ledger.budget}; allow "
        f"{needed} or more, or take {logged}random or surrogate, which use any number."
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
    passes = (result.spent + more) * evaluation.images
    return SearchResult(RACING, best, objective.value(evaluation), evaluation, ledger.spent, steps, passes)


def _climbed(evaluator: Evaluator, budget: int, seed: int) -> SearchResult:
    """Let the surrogate draw on the lowest rung, and its best climb the others; steps are those at full fidelity."""
    if not isinstance(evaluator, MonteCarloEvaluator):
        raise ConfigError("method: ladder needs an evaluator that simulates chips; use another search on a table.")
    objective = Objective.of(evaluator)
    empty = evaluator.evaluate(objective.space.empty())
    one, coarse = evaluator.task.chips * empty.images, coarser(evaluator, SHARES[0])
    share = coarse.task.chips * coarse.problem.images("val") / one
    low = run_search(coarse, "surrogate", max(1, int(LOWEST * budget / share)), seed)
    ranked = sorted(low.steps, key=lambda step: step.objective, reverse=True)
    middle = coarser(evaluator, SHARES[1])
    share = middle.task.chips * middle.problem.images("val") / one
    rungs = climb(evaluator, [s.placement for s in ranked[: max(1, int(LOWEST * budget / share))]], shares=SHARES[1:])
    reached = [objective.space.empty(), *rungs[-2].objectives]
    full = evaluator.evaluate_many(list(dict.fromkeys(reached)))
    steps = [Step(e.placement, objective.value(e), objective.accuracy(e)) for e in full]
    best = evaluator.evaluate(rungs[-1].ranked[0], "val", "tuned")
    empties = one + middle.task.chips * middle.problem.images("val")  # J is measured from the empty placement
    passes = low.passes + empties + sum(rung.passes for rung in rungs)
    return SearchResult(LADDER, best.placement, objective.value(best), best, low.evaluations, steps, passes)


def _note(
    ledger: Ledger,
    objective: Objective,
    search: Search,
    placements: list[Placement],
    steps: dict[Placement, Step],
) -> int:
    """Evaluate placements and tell the search; return the images of a chip."""
    images = 0
    for evaluation in ledger.evaluate_many(placements):
        value = objective.value(evaluation)
        steps.setdefault(evaluation.placement, Step(evaluation.placement, value, objective.accuracy(evaluation)))
        search.observe(evaluation, value)
        images = evaluation.images
    return images
