"""Layers on analog tiles: against the exact layer, and what a chip keeps."""

import pytest
import torch
from torch import nn

from cimenv.core.errors import ConfigError, DataError, MappingError
from cimenv.crossbar import (
    Chips,
    CrossbarConfig,
    DeviceTable,
    Ideal,
    Pcm,
    Stuck,
    map_network,
    mvm,
    preset,
    programmed,
)
from cimenv.crossbar.layers import AnalogWeight, layer_forward, program_weight

FINE = {"device": {"kind": "ideal"}, "analog": True, "dac_bits": 16, "adc_bits": 16, "adc_bound": 40.0}
LAYERS = {
    "linear": (nn.Linear(40, 7), (3, 40)),
    "sequence": (nn.Linear(40, 7, bias=False), (3, 5, 40)),
    "conv": (nn.Conv2d(6, 8, 3, padding=1), (3, 6, 9, 9)),
    "strided": (nn.Conv2d(6, 8, (3, 2), stride=2, padding="valid", dilation=(1, 2)), (3, 6, 9, 9)),
    "grouped": (nn.Conv2d(6, 8, 3, groups=2, padding="same", padding_mode="reflect"), (3, 6, 9, 9)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6, bias=False), (3, 6, 9, 9)),
    "conv1d": (nn.Conv1d(6, 8, 3, padding=1, stride=2), (3, 6, 20)),
}


@pytest.mark.parametrize("max_inputs", [None, 16])
@pytest.mark.parametrize("name", LAYERS)
def test_fine_converters_give_the_exact_layer(name, max_inputs):
    """16 bits: an error of at most a few steps of 2 alpha / 65534 a weight."""
    layer, shape = LAYERS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    network = map_network(nn.Sequential(layer), CrossbarConfig(max_inputs=max_inputs, **FINE)).calibrated(x, 1.0)
    (site,) = network.sites
    weight = network.program_site(site, torch.Generator())
    assert isinstance(weight, AnalogWeight) and len(weight.arrays) == getattr(layer, "groups", 1)
    tiles = -(-site.fan_in // max_inputs) if max_inputs else 1
    assert weight.input_range.shape == (tiles,) and len(weight.arrays[0].tiles) == tiles
    exact, found = layer(x).detach(), layer_forward(layer, x, weight).detach()
    assert float((found - exact).abs().max()) < 5e-3 * float(exact.abs().max())
    protected = weight.protecting(torch.tensor([1, 4]), layer.weight)
    channel = -1 if isinstance(layer, nn.Linear) else 1
    kept = layer_forward(layer, x, protected).index_select(channel, torch.tensor([1, 4]))
    torch.testing.assert_close(kept.detach(), exact.index_select(channel, torch.tensor([1, 4])), atol=1e-6, rtol=1e-5)


def test_analog_weights_leave_no_trace_and_pass_gradients():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    x, before = torch.rand(5, 1, 8, 8), {k: v.clone() for k, v in model.state_dict().items()}
    network = map_network(model, CrossbarConfig(preset="rasch2023"), (1, 8, 8))
    with pytest.raises(ConfigError, match="calibrate"):
        network.program(torch.Generator())
    network = network.calibrated(x)
    plain = model(x)
    with programmed(model, network.program(torch.Generator().manual_seed(0))):
        noisy = model(x)
        noisy.square().sum().backward()
    assert not torch.equal(noisy, plain)
    torch.testing.assert_close(model(x), plain, rtol=0, atol=0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in model.parameters())


def test_the_same_chip_at_any_time():
    """One programming: without read noise and drift variation all devices are (t/t_0)^-nu of themselves."""
    model = nn.Sequential(nn.Linear(64, 32))
    device = Pcm(read_noise=0, drift_variation=0)
    network = map_network(model, CrossbarConfig(device=device, drift_compensation=False))
    chips = Chips(network, 0, "val")
    fresh, later, again = (chips.at(t).weights("0", 3) for t in (0.0, 86_400.0, 86_400.0))
    assert torch.equal(chips.at(3_600).weights("0", 0), chips.at(3_600.0).weights("0", 0))
    assert torch.equal(later, again) and not torch.equal(fresh, later)
    both = fresh.abs() > 0.3 * model[0].weight.abs().max()  # r above .3: nu is .049 for the larger device
    ratio = (later / fresh)[both]
    assert float((ratio - (86_420 / 20) ** -0.049).abs().max()) < 0.03  # the smaller device of a pair drifts faster
    compensated = Chips(map_network(model, CrossbarConfig(device=device)), 0, "val").at(86_400.0).weights("0", 3)
    assert float(compensated.abs().mean() / fresh.abs().mean()) == pytest.approx(1.0, abs=1e-5)


def test_reading_noise_is_new_at_every_time_and_devices_are_not():
    network = map_network(nn.Sequential(nn.Linear(64, 32)), CrossbarConfig(device=Pcm(drift=1e-9)))
    chips = Chips(network, 0, "val")
    first, second = (chips.at(t).weights("0", 0) - network.model[0].weight.detach() for t in (0.0, 1e-6))
    correlation = float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])
    assert 0.3 < correlation < 0.999  # programming errors are shared, readings are not


@pytest.mark.parametrize(("fate", "expected"), [("at_zero", -0.05), ("at_max", -0.05), ("at_random", -0.05)])
def test_stuck_devices(fate, expected):
    """10 % of both devices of a half-full weight: .1 (0 - .5); .1 (1 - .5) - .1 (1 - 0); .1 (.5 - .5) - .1 (.5 - 0)."""
    w = torch.full((400, 400), 0.5)
    w[0, 0] = 1.0
    device = Stuck(device=Ideal(), **{fate: 0.1})
    found = device.program(w, torch.Generator().manual_seed(0)) - w
    assert float(found.mean()) == pytest.approx(expected, abs=5 * 0.4 / 400)
    held = (found + w)[1:]  # which weights there are: the largest, its negative, or any between
    extremes = {"at_zero": (0.0, 0.5), "at_max": (-0.5, 1.0), "at_random": (-1.0, 1.0)}[fate]
    assert (float(held.min()), float(held.max())) == pytest.approx(extremes, abs=0.05)
    assert (len(held.unique()) < 6) == (fate != "at_random")
    changed = float((found != 0).float().mean())
    assert changed == pytest.approx({"at_zero": 0.1}.get(fate, 1 - 0.9**2), abs=0.01)


def test_a_users_table_is_interpolated_and_read_once(tmp_path):
    path = tmp_path / "devices.csv"
    path.write_text("r,mean,std\n0,0.1,0\n0.5,0.5,0.02\n1,0.9,0.1\n")
    device = DeviceTable(path=str(path))
    path.unlink()
    draws = torch.Generator().manual_seed(0)
    g = device.conductances(torch.full((100_000,), 0.75 * 25.0), draws, 0.0, draws)
    assert float(g.mean()) == pytest.approx(0.7 * 25, rel=2e-3) and float(g.std()) == pytest.approx(0.06 * 25, rel=0.02)
    assert DeviceTable(**device.model_dump()) == device
    for rows, message in (([(0, 0, 0)], "at least two"), ([(0, 0, 0), (1, 1, -1)], "negative")):
        with pytest.raises(ConfigError, match=message):
            DeviceTable(rows=rows)
    with pytest.raises(ConfigError, match="give a CSV file"):
        DeviceTable(path=str(path))


def test_overrides_by_name_and_presets():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    config = CrossbarConfig(
        preset="rasch2023", adc_bits=7, overrides={"2": {"analog": False, "device": {"kind": "ideal"}}}
    )
    assert config.at("0").adc_bits == 7 and config.at("0").ir_drop == 1.0 and not config.at("2").analog
    network = map_network(model, config).calibrated(torch.rand(10, 4))
    chip = network.program(torch.Generator().manual_seed(0))
    assert isinstance(chip["0"], AnalogWeight) and torch.equal(chip["2"], model[2].weight)
    with pytest.raises(MappingError, match="'conv\\*' matches no layer; known: 0, 2"):
        map_network(model, CrossbarConfig(overrides={"conv*": {"adc_bits": 7}}))
    with pytest.raises(ConfigError, match="Did you mean 'rasch2023'"):
        CrossbarConfig(preset="rasch2024")
    with pytest.raises(ConfigError, match="adc_bits is 1"):
        CrossbarConfig(adc_bits=1)


def test_a_bad_override_is_named_with_its_pattern():
    with pytest.raises(ConfigError, match=r"^CrossbarConfig\.overrides\.fc\*\.adc_bit: unknown key"):
        CrossbarConfig(overrides={"fc*": {"adc_bit": 7}})


def test_overrides_that_hold_for_the_whole_network_are_refused():
    for field, value in (("preset", "ideal"), ("batch_norm", "shared"), ("input_quantile", 0.9)):
        with pytest.raises(ConfigError, match=f"{field} holds for the whole network"):
            CrossbarConfig(overrides={"fc": {field: value}})


def test_a_users_own_forward_runs_on_the_arrays():
    layer = nn.Linear(4, 2)
    layer.forward = lambda input: 3 - nn.functional.linear(input, layer.weight)
    model, x = nn.Sequential(layer), torch.rand(3, 4)
    network = map_network(model, CrossbarConfig(**FINE), (4,))
    weight = program_weight(2 * layer.weight, network.config, torch.Generator(), input_range=torch.ones(1))
    twice = 3 - 2 * x @ layer.weight.T
    with programmed(model, {"0": weight}):
        torch.testing.assert_close(model(x), twice, atol=3e-3, rtol=0)  # a step of the converter
    assert torch.equal(model(x), 3 - x @ layer.weight.T)


def test_noise_of_inputs_is_new_for_every_patch():
    """Neighbouring products share pixels, but not their noise; the padding has some too."""
    layer = nn.Conv2d(4, 1, 3, padding=1, bias=False)
    nn.init.ones_(layer.weight)
    config = CrossbarConfig(device=Ideal(), analog=True, dac_bits=0, adc_bits=0, input_noise=0.1)
    weight = program_weight(layer.weight, config, torch.Generator().manual_seed(0), input_range=torch.ones(1))
    y = layer_forward(layer, torch.zeros(4_000, 4, 6, 6), weight).detach()
    deviation = y.flatten(1).std(0)
    assert float((deviation / (0.1 * 36**0.5) - 1).abs().max()) < 0.06  # 5 standard errors of 4,000 draws
    assert abs(float(torch.corrcoef(torch.stack([y[:, 0, 2, 2], y[:, 0, 2, 3]]))[0, 1])) < 0.08


def test_layers_that_are_never_called_are_named():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            return self.used(input=x)

    with pytest.raises(MappingError, match="unused is never called"):
        map_network(Half(), CrossbarConfig(**FINE)).calibrated(torch.rand(3, 4))
    network = map_network(Half(), CrossbarConfig(**FINE), (4,)).calibrated(torch.rand(3, 4))
    with programmed(network.model, network.program(torch.Generator())) as model:
        assert model(torch.rand(3, 4)).shape == (3, 2)


def test_gradients_are_those_of_the_exact_product_where_the_adc_does_not_saturate():
    """The chain's small terms are straight-through; y = u W^T, so dL/dW = g^T u with g cut where |y| beyond the ADC."""
    w, x = torch.randn(3, 40, requires_grad=True), (torch.rand(50, 40) * 2 - 1).requires_grad_()
    config = CrossbarConfig(
        device=Ideal(), analog=True, ir_drop=1.0, read_noise=0.1, output_noise=0.2, voltage_offset=0.1, s_shape=0.5,
        row_scaling=False, dac_bits=0, adc_bits=0, adc_bound=1.0,
    )  # fmt: skip
    weight = program_weight(w, config, torch.Generator().manual_seed(0), input_range=torch.ones(1))
    y = layer_forward(nn.Linear(40, 3, bias=False), x, weight, torch.Generator().manual_seed(1))
    scale = float(w.detach().abs().max())
    kept = (y.detach().abs() < scale - 1e-4).float()
    assert 0.02 < 1 - kept.mean() < 0.9
    y.sum().backward()
    assert torch.allclose(w.grad, kept.T @ x.detach(), atol=1e-4)
    assert torch.allclose(x.grad, kept @ w.detach(), atol=1e-4)


def test_voltage_offset_and_saturation_are_fixed_per_chip():
    w, x = torch.randn(6, 10), torch.rand(50, 10)
    config = CrossbarConfig(
        device=Ideal(), analog=True, voltage_offset=0.1, s_shape=0.5, s_shape_spread=0.2, dac_bits=0, adc_bits=0
    )
    weights = [
        program_weight(w, config, torch.Generator().manual_seed(k), input_range=torch.ones(1)) for k in (0, 0, 1)
    ]
    layer = nn.Linear(10, 6, bias=False)
    first, same, other = (layer_forward(layer, x, weight) for weight in weights)
    assert torch.equal(first, same) and not torch.allclose(first, other)
    (tile,) = weights[0].arrays[0].tiles
    targets = w / tile.row_scale[:, None]
    y = x @ targets.T - tile.offsets * targets.sum(1)
    torch.testing.assert_close(first, y / (1 + (tile.slopes * y).abs()) * tile.row_scale, atol=1e-5, rtol=1e-5)


def analog_layer(layer, shape):
    model = nn.Sequential(layer).requires_grad_(False)
    return map_network(model, preset("rasch2023"), shape).calibrated(torch.rand(4, *shape))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_inputs_that_are_no_floats_are_refused(dtype):
    network = analog_layer(nn.Linear(4, 2), (4,))
    chip = network.program(torch.Generator().manual_seed(0))
    with programmed(network.model, chip) as model, pytest.raises(DataError, match=str(dtype)):
        model(torch.ones(3, 4, dtype=dtype))
    with pytest.raises(DataError, match=str(dtype)):
        mvm(torch.ones(3, 4, dtype=dtype), torch.ones(2, 4), CrossbarConfig(device=Ideal()), input_range=1.0)
    with pytest.raises(DataError, match=str(dtype)):
        mvm(torch.ones(3, 4), torch.ones(2, 4, dtype=dtype), CrossbarConfig(device=Ideal()), input_range=1.0)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6, 8])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_wrong_number_of_channels_is_refused(groups, channels, dimensions):
    layer = (nn.Conv1d, nn.Conv2d)[dimensions - 1](4, 4, 3, groups=groups)
    network = analog_layer(layer, (4, *[8] * dimensions))
    chip = network.program(torch.Generator().manual_seed(0))
    with programmed(network.model, chip) as model, pytest.raises(DataError, match="takes 4 channels"):
        model(torch.rand(4, channels, *[8] * dimensions))


@pytest.mark.parametrize("groups", [1, 2])
def test_one_image_without_a_batch_is_one_image(groups):
    network = analog_layer(nn.Conv2d(4, 4, 3, groups=groups), (4, 8, 8))
    x = torch.rand(4, 8, 8)
    weights = [network.program(torch.Generator().manual_seed(0)) for _ in range(2)]  # each draws its read noise anew
    with programmed(network.model, weights[0]) as model:
        alone = model(x)
    with programmed(network.model, weights[1]) as model:
        assert torch.equal(alone, model(x[None])[0])
