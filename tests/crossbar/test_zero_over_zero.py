"""Layers, tiles and inputs that are all zero, and times without end: a number from a closed form, or a refusal."""

import math

import pytest
import torch
from torch import nn

from cimenv.core.errors import ConfigError
from cimenv.crossbar import CrossbarConfig, map_network, mvm, preset, programmed
from cimenv.crossbar.array import program_array
from cimenv.crossbar.conductance import DeviceTable, Pcm, Reram
from cimenv.crossbar.device import LONGEST_S, drift_gain
from cimenv.crossbar.devices import BitSlicedGaussian, Gaussian, LogNormal, Stuck
from cimenv.crossbar.layers import program_weight
from cimenv.crossbar.operations import Dense
from cimenv.crossbar.variation import censored_moments

SILENT = {"programming_noise": 0.0, "read_noise": 0.0}
DEVICES = {
    "log_normal": LogNormal(),
    "gaussian": Gaussian(),
    "bit_sliced": BitSlicedGaussian(),
    "verified": BitSlicedGaussian(write_verify=0.03),
    "mid_range": BitSlicedGaussian(mid_range_factor=2.0),
    "pcm": Pcm(**SILENT),
    "reram": Reram(noise=0.0),
    "table": DeviceTable(rows=((0, 0, 0), (1, 1, 0))),
    "stuck": Stuck(device=Pcm(**SILENT), at_zero=0.1, at_max=0.1),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("analog", [False, True])
@pytest.mark.parametrize("t_s", [0.0, 86_400.0])
def test_an_all_zero_matrix_stays_zero_on_devices_without_noise(name, analog, t_s):
    device = DEVICES[name]
    config = CrossbarConfig(device=device, analog=analog)
    weight = program_weight(torch.zeros(3, 4), config, generator(), t_s=t_s, input_range=torch.ones(1))
    if analog:
        assert torch.equal(weight.product(Dense(), torch.rand(5, 4), None), torch.zeros(5, 3))
    else:
        assert torch.equal(weight, torch.zeros(3, 4))


def test_devices_that_are_all_stuck_at_zero_hold_nothing_at_any_time():
    config = CrossbarConfig(device=Stuck(device=Pcm(), at_zero=1.0))
    assert torch.equal(program_weight(torch.ones(3, 4), config, generator(), t_s=3600.0), torch.zeros(3, 4))


def test_one_weight_without_spread_is_compensated_exactly():
    # One conductance with the drift exponent .049 of r = 1: what drift takes, its compensation gives back.
    device = Pcm(**SILENT, drift_variation=0.0)
    aged = program_weight(
        torch.ones(1, 1), CrossbarConfig(device=device, drift_compensation=False), generator(), t_s=3600.0
    )
    assert aged.item() == pytest.approx((3620 / 20) ** -0.049, rel=1e-5)
    compensated = program_weight(torch.ones(1, 1), CrossbarConfig(device=device), generator(), t_s=3600.0)
    assert compensated.item() == pytest.approx(1.0, rel=1e-6)


def test_the_gain_where_nothing_is_left():
    zero, some = torch.zeros(2, 2), torch.tensor([[1.0, -3.0]])
    assert drift_gain(zero, zero) == 1.0
    assert drift_gain(some, zero) == 1.0
    assert drift_gain(zero, some) == 0.0
    assert drift_gain(some, some / 4) == 4.0


@pytest.mark.parametrize("t_s", [math.inf, 1e300, -1.0, math.nan, 2 * LONGEST_S])
def test_times_that_no_fit_knows_are_refused(t_s):
    config = CrossbarConfig(device=Pcm())
    for attempt in (program_weight, program_array):
        with pytest.raises(ConfigError, match=r"^t_s: got"):
            attempt(torch.ones(2, 2), config, generator(), t_s=t_s)


def test_the_longest_time_is_finite():
    config = preset("rasch2023")
    array = program_array(torch.eye(8), config, generator(), t_s=LONGEST_S)
    assert array.mvm(torch.rand(4, 8), 1.0, generator()).isfinite().all()
    bare = program_weight(torch.eye(8), CrossbarConfig(device=Pcm()), generator(), t_s=LONGEST_S)
    assert bare.isfinite().all()


@pytest.mark.parametrize("alpha", [math.inf, 1e300, math.nan, 0.0, -1.0, torch.tensor([1.0, math.inf])])
def test_input_ranges_that_are_none_are_refused(alpha):
    array = program_array(torch.ones(2, 256), CrossbarConfig(device={"kind": "ideal"}))
    with pytest.raises(ConfigError, match=r"^input_range: got"):
        array.mvm(torch.rand(4, 256), alpha)


def test_a_range_far_beyond_the_inputs_rounds_them_to_zero():
    config = CrossbarConfig(device={"kind": "ideal"})
    assert torch.equal(mvm(torch.rand(4, 8), torch.ones(2, 8), config, input_range=1e30), torch.zeros(4, 2))


def test_zero_inputs_have_a_range_and_give_zero():
    model = nn.Linear(4, 2, bias=False).requires_grad_(False)
    network = map_network(model, preset("rasch2023", output_noise=0.0), (4,)).calibrated(torch.zeros(8, 4))
    assert network.input_ranges[""].tolist() == [1.0]
    with programmed(model, network.program(generator())) as chip:
        assert torch.equal(chip(torch.zeros(3, 4)), torch.zeros(3, 2))


@pytest.mark.parametrize(
    "fields",
    [
        {"t_0_s": 1e-320},
        {"t_read_s": 1e-320},
        {"t_read_s": 100.0},  # longer than t_0_s: the logarithm of the 1/f noise would be negative
        {"g_max_us": 1e-300},
        {"g_max_us": 1e300},
        {"read_noise": 1e300},
    ],
)
def test_devices_beyond_single_precision_are_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Pcm(**fields)


@pytest.mark.parametrize("field", ["adc_bound", "output_noise", "ir_drop", "s_shape"])
def test_a_periphery_beyond_single_precision_is_refused(field):
    with pytest.raises(ConfigError, match=field):
        CrossbarConfig(**{field: 1e300})


def test_moments_of_noise_that_is_hardly_censored():
    # min(Z, t) is Z itself: mean 0, standard deviation 1.
    for threshold in (40.0, 1e200):
        assert censored_moments(threshold) == pytest.approx((0.0, 1.0), abs=1e-12)
