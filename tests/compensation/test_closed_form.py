"""Corrections of a chip against reference values, and against what must hold of them."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cimenv.compensation.closed_form import RowSums, affine, linear, linear_on_input, matched, tiles

GOLDEN = Path(__file__).parent / "golden/calibration.npz"  # float64, made without this package


@pytest.fixture(scope="module")
def site():
    with np.load(GOLDEN) as arrays:
        names = [name for name in arrays if name.startswith("site.")]
        return {name.removeprefix("site."): torch.as_tensor(arrays[name]) for name in names}


def moments(x, t, blocks=3):
    """Gather moments from rows in unequal blocks."""
    sums = RowSums()
    for part, target in zip(x.tensor_split(blocks), t.tensor_split(blocks), strict=True):
        sums.add(part, target)
    return sums.moments()


def on_input(site, ridge=0.01, rank=None, t=None):
    y, x = site["Y"], site["X"]
    t = site["T"] if t is None else t
    xy = moments(x, y).xt
    return linear_on_input(moments(y, t), moments(x, t), xy, ridge, rank)


def equal(value, expected, tolerance=1e-9):
    assert float((value - expected).abs().max()) <= tolerance * float(expected.abs().max())


def test_reference_values_of_one_site(site):
    """Tolerance 1e-9 of the largest value, as the reference states."""
    y, new, rank = moments(site["Y"], site["T"]), site["y"], int(site["rank"])
    equal(affine(y).scale, site["affine_a"])
    equal(affine(y).shift, site["affine_b"])
    equal(affine(y)(new), site["affine"])
    equal(matched(y)(new), site["moments"])
    equal(linear(y)(new), site["linear"])
    equal(linear(y, rank=rank)(new), site["low_rank_output"])
    equal(on_input(site, rank=rank)(new, site["x"]), site["low_rank_input"])
    equal(on_input(site, rank=12)(new, site["x"]), site["full_input"])
    equal(tiles(site["P"], site["T"])(site["p"]), site["tile"])


def test_the_full_rank_is_the_linear_correction_and_a_large_ridge_the_affine_one(site):
    y = moments(site["Y"], site["T"])
    equal(linear(y, rank=12)(site["y"]), linear(y)(site["y"]), 1e-12)
    equal(linear(y, ridge=1e9)(site["y"]), affine(y)(site["y"]), 1e-6)
    down, up = linear(y, rank=3).factors()
    assert down.shape == (12, 3) and up.shape == (3, 12)
    equal(down @ up, linear(y, rank=3).matrix, 1e-12)


def test_gains_and_offsets_of_a_chip_change_nothing(site):
    gains = torch.linspace(-1, 1, 12, dtype=torch.float64).mul(3).exp()
    offsets = torch.linspace(-5, 5, 12, dtype=torch.float64)
    y, other = moments(site["Y"], site["T"]), moments(site["Y"] * gains + offsets, site["T"])
    for fit in (affine, matched, linear, lambda m: linear(m, rank=3)):
        equal(fit(other)(site["y"] * gains + offsets), fit(y)(site["y"]), 1e-6)


def test_the_full_rank_on_the_input_without_a_ridge_recovers_clean_outputs(site):
    """A site's deviation is linear in its inputs, so that more rows than inputs determine it."""
    torch.manual_seed(0)
    w, chip = torch.randn(2, 27, 12, dtype=torch.float64)
    noisy = {**site, "Y": site["X"] @ chip, "T": site["X"] @ w}
    equal(on_input(noisy, ridge=0.0)(site["x"] @ chip, site["x"]), site["x"] @ w, 1e-6)


@pytest.mark.parametrize("fit", [affine, matched])
def test_the_scale_under_log_normal_variation(fit):
    """For independent inputs of mean zero, exp(-1.5 s^2) by least squares and exp(-s^2) by moments: .687 and .779."""
    torch.manual_seed(0)
    sigma, columns = 0.5, 400
    w = torch.randn(4000, columns, dtype=torch.float64)
    chip = w * torch.randn_like(w).mul(sigma).exp()
    # Exact second moments of such inputs: cov(Y, T) = sum w w', var = sum w^2, so no inputs need be drawn.
    sums = RowSums()
    sums.add(torch.cat([chip, -chip]), torch.cat([w, -w]))
    scale = fit(sums.moments()).scale.mean()
    assert float(scale) == pytest.approx(math.exp(-(1.5 if fit is affine else 1.0) * sigma**2), abs=0.006)


def test_fewer_rows_than_channels_and_dead_channels_stay_finite(site):
    few = site["Y"][:5].clone(), site["T"][:5]
    few[0][:, 3] = 1.25  # always the same
    y = moments(*few, blocks=1)
    for fit in (affine, matched, linear, lambda m: linear(m, ridge=0.0), lambda m: linear(m, rank=2)):
        assert fit(y)(site["y"]).isfinite().all()
    equal(affine(y)(site["y"])[:, 3], few[1][:, 3].mean().expand(50))
    parts = site["P"].clone()
    parts[:, 4] = 0.0
    assert tiles(parts[:5], site["T"][:5])(site["p"]).isfinite().all()


def test_chips_side_by_side_equal_chips_one_by_one(site):
    both = torch.stack([site["Y"], site["Y"].roll(1, 0)])
    together = linear(moments_of_chips(both, site["T"]), rank=3)
    for k in range(2):
        equal(together(site["y"])[k], linear(moments(both[k], site["T"], 1), rank=3)(site["y"]), 1e-9)


def moments_of_chips(y, t):
    sums = RowSums()
    sums.add(y, t.expand(y.shape[:-1] + t.shape[-1:]))
    return sums.moments()
