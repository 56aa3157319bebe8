"""Hardware-aware training: what it learns, its switches, and its ranges by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimenv.core.errors import ConfigError, MappingError
from cimenv.core.progress import silent
from cimenv.crossbar import Chips, CrossbarConfig, DeviceTable, LogNormal, Pcm, Stuck, map_network, programmed
from cimenv.crossbar.converters import in_learned_range
from cimenv.crossbar.device import DEVICES, DeviceModel
from cimenv.crossbar.devices import Ideal
from cimenv.data import DataSplits, ImageSet
from cimenv.training import recipe_named
from cimenv.training.hwa import HardwareAware, _clip

CROSSBAR = CrossbarConfig(preset="rasch2023", device={"kind": "pcm", "programming_noise": 4.0})


def images(count, seed):
    """Three classes of 4 x 4 images: row k is bright in class k, under noise."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randn(count, 1, 4, 4, generator=draw) * 0.7
    pixels[torch.arange(count), 0, labels] += 1.0
    return ImageSet(pixels, labels)


@pytest.fixture(scope="module")
def data():
    return DataSplits("synthetic", images(1_500, 0), images(600, 1), images(3, 2), 3)


@pytest.fixture(scope="module")
def start(data):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    recipe_named("standard", epochs=4).fit(model, data, torch.Generator().manual_seed(0), silent)
    return model


def chip_accuracy(model, data, ranges, t_s=3_600.0, chips=30):
    """Return the mean accuracy over chips on validation."""
    network = map_network(model.eval(), CROSSBAR, (1, 4, 4)).calibrated(data.train.inputs(slice(500)))
    if ranges:
        network = type(network)(network.model, network.config, network.sites, ranges)
    found = []
    with torch.no_grad():
        for k in range(chips):
            with programmed(model, Chips(network, 7, "val").at(t_s).all_weights(k)):
                found.append(float((model(data.val.inputs(slice(None))).argmax(-1) == data.val.labels).float().mean()))
    return np.array(found)


def test_training_for_the_crossbar_beats_direct_mapping_on_the_same_chips(data, start):
    """Paired over 30 chips: the gain is above three standard errors."""
    direct = chip_accuracy(copy.deepcopy(start), data, None)
    model = copy.deepcopy(start)
    recipe = HardwareAware(epochs=4, noise_scale=1.5, learning_rate=4e-3)
    trained = recipe.fit(model, data, torch.Generator().manual_seed(1), silent, CROSSBAR)
    gain = chip_accuracy(model, data, trained.input_ranges) - direct
    assert gain.mean() > 3 * gain.std(ddof=1) / len(gain) ** 0.5
    assert set(trained.input_ranges) == {"0", "3"} and all(float(v) > 0 for v in trained.input_ranges.values())
    assert len(trained.history) == 4 and all(0 <= epoch["val_accuracy"] <= 1 for epoch in trained.history)
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.fixture(scope="module")
def default(data, start):
    model = copy.deepcopy(start)
    return HardwareAware(epochs=1).fit(model, data, torch.Generator().manual_seed(1), silent, CROSSBAR)


@pytest.mark.parametrize(
    "changes",
    [
        {"chain": False},
        {"learn_ranges": False},
        {"drop_connect": 0, "clip_sigma": None},
        {"t_max_s": 0, "noise_scale": 0},
    ],
)
def test_every_ingredient_is_a_switch(data, start, default, changes):
    model = copy.deepcopy(start)
    trained = HardwareAware(epochs=1, **changes).fit(model, data, torch.Generator().manual_seed(1), silent, CROSSBAR)
    assert all(torch.isfinite(value).all() for value in trained.state.values())
    assert not torch.equal(trained.state["3.weight"], default.state["3.weight"])
    assert bool(trained.input_ranges) == (changes.get("chain", True) and changes.get("learn_ranges", True))
    if changes.get("clip_sigma", 2.5):
        for layer in (model[0], model[3]):
            weight = layer.weight.detach()
            assert float(weight.abs().max()) < 3.2 * float(weight.std())


def test_it_is_a_pure_function_of_its_generator(data, start):
    runs = []
    for _ in range(2):
        torch.manual_seed(len(runs))
        model = copy.deepcopy(start)
        runs.append(HardwareAware(epochs=1).fit(model, data, torch.Generator().manual_seed(3), silent, CROSSBAR))
    for name, value in runs[0].state.items():
        assert torch.equal(value, runs[1].state[name])
    for name, value in runs[0].input_ranges.items():
        assert torch.equal(value, runs[1].input_ranges[name])


def test_the_gradient_of_a_range_is_the_published_one():
    """alpha * (sum_{x >= alpha} min(d, 0) - sum_{x <= -alpha} max(d, 0)), and inputs beyond it get none."""
    x = torch.tensor([-3.0, -1.0, 0.5, 2.0, 2.5], requires_grad=True)
    alpha, d = torch.tensor([2.0], requires_grad=True), torch.tensor([0.7, 1.0, -1.0, -0.5, 0.25])
    y = in_learned_range(x, alpha)
    assert y.tolist() == [-2.0, -1.0, 0.5, 2.0, 2.0]
    y.backward(d)
    assert alpha.grad.tolist() == pytest.approx([2.0 * (-0.5 - 0.7)])
    assert x.grad.tolist() == [0.0, 1.0, -1.0, 0.0, 0.0]


def test_ranges_follow_three_standard_deviations_first(data, start):
    model = copy.deepcopy(start)
    steps = len(data.train) // 128
    recipe = HardwareAware(epochs=1, range_steps=steps, range_rate=1e-9, noise_scale=0, learning_rate=1e-9)
    trained = recipe.fit(model, data, torch.Generator().manual_seed(1), silent, CROSSBAR)
    expected = 3 * float(data.train.inputs(slice(None)).std())
    assert float(trained.input_ranges["0"]) == pytest.approx(expected, rel=0.02)


def test_noise_is_scaled_and_the_mean_drift_stays():
    assert Pcm().scaled(3.0) == Pcm(programming_noise=3.0, drift_variation=3.0, read_noise=3.0)
    assert LogNormal(sigma=0.1).scaled(3.0).sigma == pytest.approx(0.3)
    assert Stuck(device=LogNormal(sigma=0.1), at_zero=0.1).scaled(2.0).device.sigma == pytest.approx(0.2)
    with pytest.raises(ConfigError, match="noise_scale"):
        HardwareAware(noise_scale=-1)


@pytest.mark.parametrize("device", [device for kind, device in DEVICES.items() if kind not in ("ideal", "stuck")])
def test_every_device_is_scaled(device):
    made = device(**({"rows": ((0, 0, 0.01), (1, 1, 0.02))} if device is DeviceTable else {}))
    before, after = made.model_dump(), made.scaled(2.0).model_dump()
    changed = {name for name in before if before[name] != after[name]}
    assert changed in ({"sigma"}, {"noise"}, {"rows"}, {"programming_noise", "drift_variation", "read_noise"})
    assert changed == {"rows"} or all(after[name] == 2 * before[name] for name in changed)


def test_a_device_that_nobody_knows_is_refused_not_left():
    class Mine(DeviceModel):
        kind: str = "mine"
        strength: float = 0.1

    assert Ideal().scaled(2.0) == Ideal() and Mine().scaled(1.0) == Mine()
    with pytest.raises(ConfigError, match="noise_scale 2 cannot scale the noise of device 'mine'; set noise_scale=1"):
        Mine().scaled(2.0)


def test_devices_that_know_a_few_times_only(data, start):
    crossbar = CrossbarConfig(preset="reram_wan2022")
    recipe = HardwareAware(epochs=1, score_s=3_600.0)
    trained = recipe.fit(copy.deepcopy(start), data, torch.Generator().manual_seed(1), silent, crossbar)
    assert 0.3 < trained.history[0]["val_accuracy"] <= 1 and trained.input_ranges == {}
    louder = DeviceTable(rows=((0, 0, 0.01), (1, 1, 0.02))).scaled(3.0)
    np.testing.assert_allclose(louder.rows, [(0, 0, 0.03), (1, 1, 0.06)])


def test_hidden_matrices_are_not_trained_in_silence(data):
    model = nn.Sequential(nn.Flatten(1, 2), nn.LSTM(4, 3))
    with pytest.raises(MappingError, match="explicit"):
        recipe_named("standard", epochs=1).fit(model, data, torch.Generator(), silent)


def test_gradients_reach_the_clean_weights(data, start):
    network = map_network(copy.deepcopy(start), CROSSBAR, (1, 4, 4)).calibrated(data.train.inputs(slice(100)))
    x, y = data.train.inputs(slice(64)), data.train.labels[:64]
    with programmed(network.model, network.program(torch.Generator().manual_seed(0))) as model:
        F.cross_entropy(model(x), y).backward()
    noisy = network.model[3].weight.grad.clone()
    network.model.zero_grad()
    F.cross_entropy(network.model(x), y).backward()
    clean = network.model[3].weight.grad
    assert float(F.cosine_similarity(noisy.flatten(), clean.flatten(), dim=0)) > 0.5


def test_weights_without_spread_are_not_clipped():
    """A layer of equal weights, or of one, has a standard deviation of 0, or of none: it has no outliers."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 3), nn.Linear(3, 3)).requires_grad_(False)
    for layer, value in zip(model, (0.7, 0.5, 0.0), strict=True):
        layer.weight.fill_(value)
    _clip(map_network(model, CrossbarConfig(), (1,)), 2.5)
    assert [layer.weight.unique().tolist() for layer in model] == [[pytest.approx(0.7)], [0.5], [0.0]]
