"""The measurement of memory over steps, and that what is remembered has an end."""

import numpy as np
import pytest

from cimenv.core.store import Store
from cimenv.tasks import load_task, space
from cimenv.tasks.problem import SHIPPED
from experiments.bench.memory import growth, held_mib, memory_over_steps


def test_growth_is_the_slope_after_the_warm_up():
    steps = np.arange(0, 20_001, 100.0)
    rows = np.stack([steps, np.where(steps < 10_000, steps, 10_000 + (steps - 10_000) * 3e-4), steps], axis=1)
    assert growth(rows)[0] == pytest.approx(3.0)
    rows[150:, 1] += np.where(np.arange(51) == 7, 500.0, 0.0)  # one outlier does not move it
    assert growth(rows)[0] == pytest.approx(3.0, rel=0.02)


def test_steps_evaluate_new_placements(tmp_path):
    rows = memory_over_steps(Store(tmp_path, layers=(SHIPPED,)), 201)
    assert rows[:, 0].tolist() == [0, 100, 200] and 80 < rows[-1, 2] <= 201
    assert (rows[:, 1] > 10).all() and held_mib() > 10


def test_remembered_costs_have_an_end(monkeypatch):
    monkeypatch.setattr(space, "REMEMBERED", 10)
    few = space.PlacementSpace(load_task("toy-4site"))
    for placement in few.all_placements():
        few.shares(placement)
    assert len(few._known_shares) <= 10
