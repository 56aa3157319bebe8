"""What a bank's fit tells: gains by regression, where they are kept, and what they are worth."""

import numpy as np
import pytest
import torch

from cimenv.compensation import CompensationBank
from cimenv.compensation.fit_log import FitLog
from cimenv.core.errors import ConfigError
from cimenv.core.progress import silent
from cimenv.core.store import Store
from cimenv.search import run_search
from cimenv.search.experience import lesson
from cimenv.tasks import Ledger, MonteCarloEvaluator, Objective, Problem, load_task
from cimenv.tasks.evaluators.table import TableEvaluator, shipped_tables
from cimenv.tasks.problem import SHIPPED
from cimenv.training import BankRecipe, fit_bank

OPTIONS = (2, 3, 1)
PLANTED = np.array([0.05, 0.1, 0.02, -0.04, 0.0, 0.08])


def drawn(steps: int, seed: int) -> FitLog:
    """A log of binomial counts whose accuracy is .6 and what blocks add."""
    rng = np.random.default_rng(seed)
    placements = np.stack([rng.integers(0, count + 1, steps) for count in OPTIONS], axis=1).astype(np.uint8)
    blocks = [(s, o) for s, count in enumerate(OPTIONS) for o in range(1, count + 1)]
    share = 0.6 + sum(gain * (placements[:, s] == o) for gain, (s, o) in zip(PLANTED, blocks, strict=True))
    return FitLog(placements, rng.binomial(128, share), 128)


def test_gains_are_what_was_planted_within_their_error():
    """Of 200 logs, 95 % of the intervals of 1.96 errors hold the truth (binomial spread of 1,200: .6 %)."""
    held, means = [], []
    for seed in range(200):
        gains = drawn(4_000, seed).gains(OPTIONS)
        mean = np.array([value for row in gains.mean for value in row])
        error = np.array([value for row in gains.error for value in row])
        held.append(np.abs(mean - PLANTED) <= 1.96 * error)
        means.append(mean)
        assert [len(row) for row in gains.mean] == [len(row) for row in gains.error] == list(OPTIONS)
    assert 0.93 <= np.mean(held) <= 0.97
    assert np.abs(np.mean(means, axis=0) - PLANTED).max() <= 5e-4  # ridge 1 of 3,000 batches shrinks by less


def test_gains_of_some_blocks_are_read_by_site_and_option():
    gains = drawn(4_000, 0).gains(OPTIONS)
    mean, error = gains.of(np.array([2, 0]), np.array([1, 2]))
    assert mean.tolist() == [gains.mean[2][0], gains.mean[0][1]]
    assert error.tolist() == [gains.error[2][0], gains.error[0][1]]


def test_a_short_log_tells_nothing():
    """Four batches a coefficient, of the last three quarters: 38 for seven."""
    assert drawn(36, 0).gains(OPTIONS) is None and drawn(40, 0).gains(OPTIONS) is not None


def test_a_log_travels_among_the_tensors_of_its_bank():
    log = drawn(50, 1)
    arrays = {"weight": torch.ones(2), **log.arrays()}
    again = FitLog.taken_from(arrays)
    assert list(arrays) == ["weight"] and FitLog.taken_from(arrays) is None
    assert np.array_equal(again.placements, log.placements) and np.array_equal(again.correct, log.correct)
    assert again.images == 128


def test_the_fit_logs_every_batch(toy):
    problem = toy.problem
    bank = CompensationBank(problem.options)
    generator = torch.Generator().manual_seed(0)
    log = fit_bank(problem.network, bank, problem.data.train, BankRecipe(steps=25), generator, silent)
    assert log.placements.shape == (25, len(problem.options.sites)) and log.images == 128
    assert all(problem.options.checked(tuple(map(int, placement))) for placement in log.placements)
    assert (log.correct >= 0).all() and (log.correct <= 128).all() and len(set(log.correct.tolist())) > 1


def test_the_store_keeps_it_and_everyone_who_evaluates_tells_it(toy):
    kept = toy.problem.gains
    assert kept is not None and [len(row) for row in kept.mean] == [len(o) for o in toy.problem.options.per_site]
    assert MonteCarloEvaluator(toy.task, toy.store).gains == kept
    assert Ledger(toy).gains == kept and Objective.of(toy).gains == kept


def test_nothing_fitted_nothing_logged(toy):
    digital = toy.task.with_changes(options={"conv": [{"kind": "digital"}], "dense": [{"kind": "digital"}]})
    evaluator = MonteCarloEvaluator(digital, toy.store)
    assert evaluator.gains is None
    with pytest.raises(ConfigError, match=r"fit_log: the blocks of .* were fitted without a log"):
        run_search(evaluator, "fit_log")


@pytest.mark.parametrize("table", shipped_tables())
def test_every_table_that_ships_tells_it(table):
    evaluator = TableEvaluator(table)
    assert [len(row) for row in evaluator.gains.mean] == [len(o) for o in evaluator.space.options.per_site]
    assert np.isfinite([value for row in evaluator.gains.error for value in row]).all()


def test_gains_on_training_images_tell_those_on_validation():
    """Over the blocks of all shipped tables: correlation with what blocks add there .86, deviation .7 % of accuracy."""
    logged, added = [], []
    for name in shipped_tables():
        taught = lesson(name)
        logged += (taught.blocks.logged[0] * taught.blocks.lost).tolist()
        added += (taught.added * taught.blocks.lost).tolist()
    assert np.corrcoef(logged, added)[0, 1] >= 0.8
    assert np.sqrt(np.mean(np.square(np.subtract(logged, added)))) <= 0.009


def test_the_knapsack_of_logged_gains_is_the_best_sum():
    """Checked against every placement of the table, with and without a budget; one evaluation beside the empty one."""
    for changes in ({}, {"budget": {"weights": 0.05}}, {"cost_weight": 1.0}):
        table = TableEvaluator("lenet5-fashion-a_trice", changes)
        objective, space = table.objective, table.space
        found = run_search(table, "fit_log")
        assert found.steps[0].placement == space.empty() and found.evaluations == 2

        def expected(placement, objective=objective, space=space):
            placed = [(s, o) for s, o in enumerate(placement) if o]
            gains = sum(objective.gains.mean[s][o - 1] for s, o in placed) / objective.gap
            return gains - objective.task.cost_weight * sum(space.scalar_costs[s, o] for s, o in placed)

        best = max(map(expected, space.all_placements()))
        assert expected(found.steps[1].placement) == pytest.approx(best, abs=2e-3 if changes.get("budget") else 1e-9)


def test_the_shipped_bank_and_its_table_tell_the_same(tmp_path):
    problem = Problem.build(load_task("lenet5-fashion-mini"), Store(tmp_path, layers=(SHIPPED,)))
    assert problem.fit_log.placements.shape == (4_000, 5)
    assert problem.gains == TableEvaluator("lenet5-fashion-mini").gains
