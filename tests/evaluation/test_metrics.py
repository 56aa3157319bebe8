"""Statistics against known values."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cimenv.core.errors import ConfigError, UnknownNameError
from cimenv.evaluation import intervals
from cimenv.evaluation.record import Evaluation
from cimenv.evaluation.statistics import statistic_named

TEN = np.arange(1, 11) / 10


def test_values():
    assert statistic_named("mean").value(TEN) == pytest.approx(0.55)
    assert statistic_named("std").value(TEN) == pytest.approx(np.sqrt(55 / 6) / 10)  # sum of squares 8.25 over 9
    assert statistic_named("mean_minus_std").value(TEN) == pytest.approx(0.55 - np.sqrt(55 / 6) / 10)
    assert statistic_named("percentile").value(TEN, 0.2) == 0.2  # ceil(.2 * 10) = 2nd smallest
    assert statistic_named("percentile").value(TEN, 0.05) == 0.1


@pytest.mark.parametrize("name", ["median", "worst_case", "Mean", "", None, 3, ["mean"]])
def test_an_unknown_statistic_is_no_percentile(name):
    found = Evaluation("", (0,), "val", "bank", np.array([[0.5, 0.6]]), 10, np.zeros((1, 5)))
    if name == "worst_case":
        with pytest.raises(ConfigError, match="no measured worst case"):
            found.value(name)
    else:
        for ask in (statistic_named, found.value, found.interval):
            with pytest.raises(UnknownNameError, match="known: mean, mean_minus_std, percentile, std, worst_case"):
                ask(name)


def test_mean_interval_is_students():
    low, high = intervals.mean_interval(TEN)
    half = 2.262157 * np.sqrt(55 / 6) / 10 / np.sqrt(10)  # t quantile with 9 degrees of freedom
    assert (low, high) == pytest.approx((0.55 - half, 0.55 + half), abs=1e-6)


def test_percentile_interval_covers_the_quantile():
    rng, quantile, n = np.random.default_rng(0), 0.05, 200
    truth, hits, runs = stats.norm.ppf(quantile), 0, 2000
    for _ in range(runs):
        interval, reason = intervals.percentile_interval(rng.standard_normal(n), quantile)
        assert interval is not None and reason == ""
        hits += interval[0] <= truth <= interval[1]
    assert hits / runs >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / runs)  # distribution-free: at least 95 %


def test_too_few_chips_give_a_reason():
    interval, reason = intervals.percentile_interval(TEN, 0.05)
    assert interval is None
    assert "10 chips are too few" in reason and "72" in reason  # .95^72 < .025 < .95^71
    assert intervals.percentile_interval(np.linspace(0, 1, 72), 0.05)[0] is not None
    assert intervals.percentile_interval(np.linspace(0, 1, 71), 0.05)[0] is None


def test_normalised_accuracy():
    assert intervals.normalised_accuracy(0.9, 0.9, 10) == 1.0
    assert intervals.normalised_accuracy(0.1, 0.9, 10) == 0.0
    assert intervals.normalised_accuracy(0.5, 0.9, 10) == pytest.approx(0.5)


def test_evaluation_round_trip():
    counts = np.array([[5, 7, 9]])
    evaluation = Evaluation("k", (0, 1), "val", "bank", counts / 10, 10, np.ones((2, 5)), counts)
    again = Evaluation.from_record("k", evaluation.to_record(), cost={"weights": 0.1})
    assert again.placement == (0, 1) and again.counts() == [[5, 7, 9]] and again.cost == {"weights": 0.1}
    assert (again.values == evaluation.values).all() and again.chips == 3
    assert again.value("mean") == pytest.approx(0.7)
    assert again.interval("percentile") is None
    assert again.interval("mean")[0] < 0.7 < again.interval("mean")[1]


def test_a_metric_that_is_no_share_has_no_counts_and_no_bounds():
    found = Evaluation("k", (0,), "val", "bank", np.array([[-2.0, -1.0], [-4.0, -1.0]]), 10, np.ones((1, 5)))
    assert found.accuracy.tolist() == [-3.0, -1.0] and found.value("mean") == -2.0
    assert replace(found, over_times="worst").accuracy.tolist() == [-4.0, -1.0]
    assert found.interval("mean")[0] < -3.0
    both = found.and_chips_of(found)
    assert both.chips == 4 and both.correct is None
    with pytest.raises(ConfigError, match="no share of the images"):
        found.counts()


def test_chips_of_two_evaluations_are_one_set():
    counts = np.array([[5, 7]])
    one = Evaluation("k", (0,), "val", "bank", counts / 10, 10, np.ones((1, 5)), counts)
    both = one.and_chips_of(one)
    assert both.counts() == [[5, 7, 5, 7]] and both.accuracy.tolist() == [0.5, 0.7, 0.5, 0.7]
