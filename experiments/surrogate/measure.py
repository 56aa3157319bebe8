"""What is measured of one table: how a regression on a few placements ranks all others."""

from __future__ import annotations

from typing import NamedTuple

from scipy import stats

from cimenv.compensation.options import Placement
from cimenv.core.seeding import numpy_generator
from cimenv.search.moves import random_placement
from cimenv.search.surrogate import Ridge
from cimenv.tasks.evaluators.table import TableEvaluator

KNOWN = (12, 25, 50, 100)
DRAWS = 20
UNSEEN = 30  # fewer placements than that are no ranking


class Ranking(NamedTuple):
    """How one regression ranks the placements that it has not seen."""

    table: str
    placements: int
    known: int
    draw: int
    tau: float
    """Kendall's tau of predicted and enumerated accuracy over all unseen placements"""
    left_out: float
    """the same over the known ones, each predicted from the others: what a search can state"""
    regret: float
    """of the placement whose predicted objective is best, among all"""


def rankings(table: str) -> list[Ranking]:
    """Return the rankings of one table, for every number of known placements and every draw."""
    evaluator = TableEvaluator(table)
    objective = evaluator.objective
    rows = [evaluator.evaluate(row.placement) for row in evaluator.enumeration.rows]
    accuracies = {row.placement: objective.accuracy(row) for row in rows}
    ranked = []
    for known in (count for count in KNOWN if count + UNSEEN <= len(accuracies)):
        for draw in range(DRAWS):
            drawn = some(evaluator, known, draw)
            fit = Ridge(evaluator.space, {placement: accuracies[placement] for placement in drawn})
            unseen = [placement for placement in accuracies if placement not in drawn]
            predicted = dict(zip(unseen, fit.predict(unseen)[0], strict=True))
            tau = stats.kendalltau([accuracies[p] for p in unseen], list(predicted.values())).statistic
            believed = accuracies | predicted
            best = max(accuracies, key=lambda p: objective.of_accuracy(believed[p], p))
            regret = evaluator.regret(objective.of_accuracy(accuracies[best], best))
            ranked.append(Ranking(table, len(accuracies), known, draw, float(tau), fit.rank_correlation, regret))
    return ranked


def some(evaluator: TableEvaluator, count: int, draw: int) -> list[Placement]:
    """Return distinct random feasible placements."""
    generator = numpy_generator("surrogate-ranking", count, draw)
    drawn: dict[Placement, None] = {}
    while len(drawn) < count:
        drawn[random_placement(evaluator.space, generator)] = None
    return list(drawn)
