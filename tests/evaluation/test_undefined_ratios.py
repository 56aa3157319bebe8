"""Statistics of nothing: no variance, no quantile, no norm, a network at chance."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cimenv.core.errors import ConfigError, MappingError
from cimenv.core.progress import silent
from cimenv.crossbar import CrossbarConfig, map_network
from cimenv.evaluation import intervals
from cimenv.evaluation.engine import Tally
from cimenv.evaluation.record import LARGEST_ERROR, site_errors
from cimenv.evaluation.statistics import Percentile
from cimenv.evaluation.worst_case import AttackTarget, WorstCaseSearch, worst_case

HUNDRED = np.arange(1, 101) / 100


@pytest.mark.parametrize(
    ("quantile", "index"), [(0.07, 7), (0.14, 14), (0.29, 29), (0.57, 57), (1e-6, 1), (0.999999, 100)]
)
def test_the_quantile_is_the_order_statistic_that_its_definition_names(quantile, index):
    # ceil(q n): .07 * 100 is 7.000000000000001 in binary, and yet the seventh smallest.
    assert Percentile().value(HUNDRED, quantile) == HUNDRED[index - 1]


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.1, 1.1, 1e-300, math.nan, math.inf])
def test_quantiles_that_no_chips_can_tell_are_refused(quantile):
    for ask in (
        lambda: Percentile().value(HUNDRED, quantile),
        lambda: intervals.percentile_interval(HUNDRED, quantile),
        lambda: intervals.smallest_chips(quantile),
    ):
        with pytest.raises(ConfigError, match="quantile: got"):
            ask()


def test_chips_for_a_small_quantile_are_counted_exactly():
    # (1 - q)^n <= .05: n = ln .05 / ln(1 - q)
    assert intervals.smallest_chips(0.05) == 59 and intervals.smallest_chips(0.01) == 299
    assert intervals.smallest_chips(1e-6) == 2_995_731
    interval, reason = intervals.percentile_interval(HUNDRED, 1e-6)
    assert interval is None and "take at least 3688878" in reason  # ln .025 / ln(1 - 1e-6)


def test_a_network_at_chance_has_no_normalised_accuracy():
    for reference in (0.1, 0.05):
        with pytest.raises(ConfigError, match="train it first"):
            intervals.normalised_accuracy(0.1, reference, 10)
    with pytest.raises(ConfigError, match="train it first"):
        intervals.normalised_accuracy(1.0, 1.0, 1)  # of one class


def test_ranks_without_variance_rank_nothing():
    rising, flat = np.arange(5.0), np.ones(5)
    assert intervals.rank_correlation(rising, rising) == pytest.approx(1.0)
    assert intervals.rank_correlation(rising, -rising) == pytest.approx(-1.0)
    assert intervals.rank_correlation(rising, flat) == intervals.rank_correlation(flat, flat) == 0.0
    assert math.isnan(intervals.rank_correlation(rising, np.array([0, 1, math.nan, 2, 3])))


def test_features_that_are_zero():
    # [placement, site, chip, (distance, norm)]: equal zeros; noise on zeros; a feature that noise took away; tiny ones.
    squares = np.array([[[[0.0, 0.0]], [[4.0, 4.0]], [[9.0, 0.0]], [[0.0, 1e-40]]]])
    found = site_errors(Tally(np.zeros((1, 1), dtype=np.int64), squares, np.array([0.0, 0.0, 9.0, 1e-40]), 1), 0)
    assert found[:, 0].tolist() == [0.0, LARGEST_ERROR, 1.0, 0.0]
    assert found[:, 3] == pytest.approx([100 / math.log(10), -100 / math.log(10), 0.0, 100 / math.log(10)])
    assert found[:, 4] == pytest.approx([1.0, 0.0, 0.0, 1.0])


class Unit(nn.Module):
    """Divides features by their norm, whose derivative at zero is 0 / 0."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)

    def forward(self, x):
        h = self.a(x)
        return self.b(h / (h.norm(dim=1, keepdim=True) + 1e-6))


def test_an_attack_through_a_norm_at_zero_stays_inside_the_numbers():
    torch.manual_seed(0)
    model = Unit().requires_grad_(False)
    images, labels = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
    with torch.no_grad():
        model.b.bias.copy_(torch.tensor([1.0, 0.0]))
    target = AttackTarget(map_network(model, CrossbarConfig(), (2,)), images, labels)
    found = worst_case(target, WorstCaseSearch(bound=0.03).quick(), torch.Generator().manual_seed(0), progress=silent)
    assert found.accuracy == 1.0  # the images are zero: only the bias decides, and it is exact
    assert all(value.isfinite().all() for value in found.deviation.values())


def test_an_attack_on_a_layer_without_weights_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).requires_grad_(False)
    model[1].weight.zero_()
    with pytest.raises(MappingError, match="Layer 1 is all zeros"):
        AttackTarget(map_network(model, CrossbarConfig(), (2,)), torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
