"""Racing over chips: the winner of the full count at a fraction of its chips."""

import numpy as np
import pytest

from cimenv.core.errors import ConfigError
from cimenv.search import race, run_search
from cimenv.search.racing import _Field
from cimenv.tasks import MonteCarloEvaluator, load_task


@pytest.fixture(scope="module")
def many(cache, toy):
    return MonteCarloEvaluator(load_task("toy-4site", ["chips=64"]))


@pytest.mark.slow
def test_race_finds_a_winner_that_the_full_count_cannot_tell_from_the_best(many):
    full = run_search(many, "exhaustive")
    result = race(many)
    objective = {step.placement: step.objective for step in full.steps}
    assert full.best in result.survivors
    assert objective[result.best] == pytest.approx(full.objective, abs=0.02)
    assert result.full == 81 * 64 and result.spent < 0.7 * result.full  # seen: 0.605
    assert result.chips[result.best] == 64 or len(result.survivors) == 1
    for placement, chips in result.chips.items():  # same chips: the objective of a finisher is that of the full count
        if chips == 64:
            assert result.objectives[placement] == pytest.approx(objective[placement], abs=1e-12)


def test_no_survivor_of_the_full_count_is_dropped_wrongly(many):
    # Bonferroni at 95 %: what was dropped is worse than the winner on all chips too.
    result = race(many)
    full = {step.placement: step.objective for step in run_search(many, "exhaustive").steps}
    dropped = set(full) - set(result.survivors)
    assert dropped and max(full[p] for p in dropped) < full[result.best]


def test_race_for_a_percentile_starts_with_enough_chips(toy):
    task = load_task("toy-4site", ["chips=400", "images=250", "statistic=percentile", "percentile=0.05"])
    evaluator = MonteCarloEvaluator(task)
    few = [(0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (0, 0, 2, 0)]
    result = race(evaluator, few)
    assert min(result.chips.values()) >= 118  # the fewest with a two-sided interval at 95 %, shared by 32 comparisons
    assert result.best in few and set(result.objectives) == set(few)
    accuracy = np.sort(evaluator.evaluate(result.best).accuracy)
    if result.chips[result.best] == 400:
        assert evaluator.evaluate(result.best).value("percentile", 0.05) == accuracy[19]


def test_racing_is_a_search_method_with_a_budget(many):
    found = run_search(many, "racing", budget=20, seed=3)
    assert found.evaluations <= 20 and found.method == "racing"
    assert found.passes < 20 * 64 * found.evaluation.images
    assert found.best == max(found.steps, key=lambda step: step.placement == found.best).placement
    assert found.evaluation.correct.shape == (1, 64)


@pytest.mark.slow
def test_the_worst_time_is_that_of_all_chips(many):
    """Not that of every round's chips: a race that runs to the end sees what one evaluation sees."""
    times = many.task.with_changes(
        crossbar={"device": {"kind": "pcm"}}, times_s=[1.0, 3.15e7], over_times="worst", chips=16, images=100
    )
    evaluator = MonteCarloEvaluator(times, many.store)
    few = [(0, 0, 0, 0), (1, 1, 1, 1)]
    whole = {found.placement: found.accuracy for found in evaluator.evaluate_many(few)}
    field = _Field(evaluator, 0.95, 8, 16)
    for chips in (range(8), range(8, 16)):
        field.run(few, chips)
    assert all((field.accuracy[placement] == whole[placement]).all() for placement in few)


@pytest.mark.parametrize(
    ("overrides", "settings", "named"),
    [
        ([], {"placements": []}, "placements: got none"),
        (["statistic=mean_minus_std"], {}, "statistic: 'mean_minus_std' cannot be raced"),
        (["statistic=percentile", "chips=59"], {"chips": 30}, "chips: got 30; .* needs at least"),
    ],
)
def test_bad_races_are_refused(overrides, settings, named):
    with pytest.raises(ConfigError, match=named):
        race(MonteCarloEvaluator(load_task("toy-4site", overrides)), **settings)


def test_one_chip_separates_nothing(toy):
    result = race(toy, list(toy.space.all_placements())[:4], chips=1)
    assert len(result.survivors) == 4 and result.spent == 4 + result.reference
