"""Statistics against values worked out by hand or known in closed form."""

import numpy as np
import pytest

from experiments.lab.statistics import (
    bootstrap_interval,
    improvement_interval,
    interquartile_mean,
    probability_of_improvement,
)


def test_interquartile_mean_leaves_out_a_quarter_at_either_end():
    assert interquartile_mean(np.array([[0.0, 100.0], [2.0, 4.0]])) == 3.0  # 0, 2, 4, 100
    assert interquartile_mean(np.arange(8.0).reshape(4, 2)) == 3.5


def test_probability_of_improvement_counts_pairs_and_halves_ties():
    ours, theirs = np.array([[1.0], [3.0]]), np.array([[2.0], [3.0]])
    assert probability_of_improvement(ours, theirs) == pytest.approx((0 + 0 + 1 + 0.5) / 4)
    assert probability_of_improvement(ours, ours) == pytest.approx(0.5)
    two = np.array([[1.0, 5.0], [1.0, 5.0]])
    assert probability_of_improvement(two, np.array([[0.0, 9.0], [0.0, 9.0]])) == pytest.approx(0.5)  # 1 and 0


def test_intervals_cover_a_normal_mean():
    """The mean of the middle half of normal runs has 1.091 times the error of their mean (its efficiency is .84)."""
    scores = np.random.default_rng(1).normal(size=(2_000, 1))
    low, high = bootstrap_interval(scores)
    half = 1.96 * 1.091 / np.sqrt(2_000)
    middle = interquartile_mean(scores)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=0.1 * half)


def test_resampling_is_stratified_by_task():
    """Every task is a constant, so runs drawn task by task change nothing; drawn over tasks they would."""
    scores = np.tile([0.0, 1.0, 2.0, 3.0], (10, 1))
    assert bootstrap_interval(scores) == (1.5, 1.5)
    assert improvement_interval(scores + 1, scores) == (1.0, 1.0)
