import copy

import pytest
import torch
from torch import nn

from cimenv.core.errors import ConfigError, DataError, MappingError
from cimenv.crossbar import CrossbarConfig, LogNormal, map_network, programmed
from cimenv.networks import build_backbone

CONFIG = CrossbarConfig()


class Residual(nn.Module):
    """Defined head first; the 3x3 convolution runs twice around a skip; `spare` never runs."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.spare = nn.Linear(7, 7)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.stem = nn.Conv2d(2, 4, 3, stride=2, padding=1)

    def forward(self, x):
        x = self.stem(x).relu()
        for _ in range(2):
            x = (x + self.body(x)).relu()
        return self.head(x.mean((2, 3)))


def picture(model):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    state = {name: (value.data_ptr(), value.clone()) for name, value in model.state_dict().items()}
    return state, hooks, [m.training for m in model.modules()], [set(m.__dict__) for m in model.modules()]


def assert_unchanged(model, before):
    state, hooks, training, attributes = picture(model)
    assert list(state) == list(before[0])  # the order of parameters as well: optimizers go by it
    for name, (place, value) in state.items():
        assert place == before[0][name][0]
        assert torch.equal(value, before[0][name][1])
    assert (hooks, training, attributes) == before[1:]


def test_residual_network_in_call_order():
    sites = map_network(Residual(), CONFIG, (2, 8, 8)).sites
    assert [site.name for site in sites] == ["stem", "body.0", "head"]
    stem, body, head = sites
    assert [site.type for site in sites] == ["conv", "conv", "dense"]
    assert (body.calls, body.positions, body.macs) == (2, 2 * 16, 2 * 16 * 4 * 4 * 9)
    assert (stem.calls, stem.positions, stem.macs) == (1, 16, 16 * 4 * 2 * 9)
    assert (head.calls, head.positions, head.macs) == (1, 1, 12)
    assert [site.bias for site in sites] == [True, False, True]
    assert body.weight_shape == (4, 4, 3, 3)
    assert (stem.in_channels, stem.out_channels, stem.fan_in, stem.weights) == (2, 4, 18, 72)


def test_without_input_shape_every_layer_in_order_of_definition():
    sites = map_network(Residual(), CONFIG).sites
    assert [site.name for site in sites] == ["head", "spare", "body.0", "stem"]
    assert [(site.calls, site.positions) for site in sites] == [(0, 0)] * 4


def test_lenet5_numbers():
    sites = map_network(build_backbone("lenet5"), CONFIG, (1, 28, 28)).sites
    assert [site.name for site in sites] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert [site.weights for site in sites] == [150, 2400, 48000, 10080, 840]
    assert sum(site.weights for site in sites) == 61_470
    assert [site.macs for site in sites] == [117_600, 240_000, 48_000, 10_080, 840]
    assert sum(site.macs for site in sites) == 416_520


def test_grouped_convolution():
    (site,) = map_network(nn.Conv2d(4, 8, 3, groups=2), CONFIG, (4, 5, 5)).sites
    assert (site.groups, site.fan_in, site.weights, site.macs) == (2, 18, 144, 144 * 9)
    assert site.weight_shape == (8, 2, 3, 3)


def test_dense_layer_on_sequences_counts_every_vector():
    (site,) = map_network(nn.Sequential(nn.Linear(6, 5)), CONFIG, (7, 6)).sites
    assert (site.positions, site.macs) == (7, 7 * 30)


@pytest.mark.parametrize(
    ("model", "shape"),
    [(nn.Sequential(nn.ReLU()), None), (nn.Sequential(nn.ReLU()), (1, 2, 2)), (nn.Sequential(), (1,))],
)
def test_nothing_to_map(model, shape):
    with pytest.raises(MappingError, match="no layer with a matrix; give a model that has at least one"):
        map_network(model, CONFIG, shape)


def test_layers_that_never_run():
    class Bypass(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return x

    with pytest.raises(MappingError, match="never calls one of its"):
        map_network(Bypass(), CONFIG, (3,))


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 32, 31), (1,)])
def test_images_that_do_not_fit(shape):
    with pytest.raises(DataError, match=r"does not pass through Sequential.*give data or a backbone") as caught:
        map_network(build_backbone("lenet5"), CONFIG, shape)
    assert "\n" not in str(caught.value)


def test_image_without_channels_before_batch_norm():
    with pytest.raises(DataError, match=r"shape \(8, 8\) does not pass"):
        map_network(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), CONFIG, (8, 8))


@pytest.mark.parametrize("training", [True, False])
def test_mapping_leaves_the_model_alone(training):
    model = Residual().train(training)
    before = picture(model)
    network = map_network(model, CONFIG, (2, 8, 8))
    network.program(torch.Generator().manual_seed(0))
    network.weights()
    assert_unchanged(model, before)
    with pytest.raises(DataError):
        map_network(model, CONFIG, (5, 8, 8))
    assert_unchanged(model, before)


def test_programmed_runs_the_other_weights_at_every_call_and_restores():
    model = Residual().eval()
    network = map_network(model, CONFIG, (2, 8, 8))
    other = copy.deepcopy(model)
    weights = network.program(torch.Generator().manual_seed(1))
    weights = {name: value.detach() for name, value in weights.items()}
    for name, value in weights.items():
        other.get_submodule(name).weight.data.copy_(value)
    x = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    before = picture(model)
    clean = model(x)
    with programmed(model, weights) as running:
        assert torch.equal(running(x), other(x))
    assert_unchanged(model, before)
    assert torch.equal(model(x), clean)
    assert isinstance(model.stem.weight, nn.Parameter)


def test_programmed_restores_after_an_exception():
    model = build_backbone("toy_cnn")
    before = picture(model)
    weights = map_network(model, CONFIG).program(torch.Generator().manual_seed(0))
    with pytest.raises(ZeroDivisionError), programmed(model, weights):
        _ = 1 / 0
    assert_unchanged(model, before)
    with pytest.raises(RuntimeError), programmed(model, weights):
        model(torch.zeros(1, 3, 28, 28))
    assert_unchanged(model, before)


def test_gradients_flow_into_programmed_weights_and_through_the_noise():
    model = nn.Sequential(nn.Linear(4, 3))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(3, 4, requires_grad=True)
    with programmed(model, {"0": weight}):
        model(x).sum().backward()
    assert torch.allclose(weight.grad, x.sum(0).expand(3, 4))  # d(sum xW^T)/dW
    assert model[0].weight.grad is None

    network = map_network(model, CrossbarConfig(device=LogNormal(sigma=0.5)))
    chip = network.program(torch.Generator().manual_seed(1))
    with programmed(model, chip):
        model(x).sum().backward()
    factor = (chip["0"] / model[0].weight).detach()
    assert torch.allclose(model[0].weight.grad, x.sum(0).expand(3, 4) * factor, rtol=1e-4)


def test_layers_that_cannot_be_mapped_are_named_and_may_stay_digital():
    model = nn.Sequential(nn.Linear(4, 9), nn.Unflatten(1, (1, 3, 3)), nn.ConvTranspose2d(1, 2, 3), nn.Flatten())
    with pytest.raises(MappingError, match=r"Layer 2 is a ConvTranspose2d.*crossbar.digital: \['2'\]"):
        map_network(model, CrossbarConfig(), (4,))
    with pytest.warns(UserWarning, match=r"Only 18\.2% of the multiply-accumulates.*digital stay 2"):
        network = map_network(model, CrossbarConfig(digital=("2",)), (4,))
    assert [site.name for site in network.sites] == ["0"]
    with pytest.raises(MappingError, match=r"crossbar\.digital: 'fc' matches no layer; known: 0, 2"):
        map_network(model, CrossbarConfig(digital=("fc", "2")), (4,))
    with pytest.raises(MappingError, match="no layer with a matrix"):
        map_network(model, CrossbarConfig(digital=("*",)), (4,))


def test_a_recurrent_cell_is_refused():
    with pytest.raises(MappingError, match="Layer 0 is a LSTMCell"):
        map_network(nn.Sequential(nn.LSTMCell(3, 4)), CrossbarConfig())


def test_weights_that_are_not_numbers_are_refused():
    model = nn.Sequential(nn.Linear(3, 2))
    model[0].weight.data[1, 1] = float("nan")
    with pytest.raises(MappingError, match="Layer 0 has weights that are NaN"):
        map_network(model, CrossbarConfig())


def test_a_time_before_programming_is_refused():
    network = map_network(nn.Sequential(nn.Linear(3, 2)), CrossbarConfig(preset="pcm"))
    with pytest.raises(ConfigError, match=r"t_s: got -1.0; give a time of at least 0 seconds"):
        network.program(torch.Generator(), t_s=-1.0)


@pytest.mark.parametrize(("flatten", "gains"), [(lambda x: x.flatten(1), True), (lambda x: x.view(len(x), -1), False)])
def test_networks_that_view_feature_maps_stay_channels_first(flatten, gains):
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.body, self.head = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3), nn.Linear(32 * 16, 10)

        def forward(self, x):
            return self.head(flatten(self.body(self.stem(x))))

    network = map_network(Wide(), CrossbarConfig(), (1, 8, 8))
    assert network.gains_by_channels_last == gains
    image = torch.zeros(2, 1, 8, 8).to(memory_format=network.layout)  # one channel: `contiguous` would do nothing
    assert network.model.stem(image).is_contiguous(memory_format=network.layout)
    assert network.model(image).shape == (2, 10)


@pytest.mark.parametrize(
    "shape", ["nan", 3, (), (1, -8, 8), (0,), (1.0, 8), (True, 8), (10**12,), (2**20, 2**20), (1,) * 9]
)
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(ConfigError, match=r"^input_shape"):
        map_network(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), CrossbarConfig(), shape)


@pytest.mark.parametrize("config", [None, "pcm", {"device": {"kind": "pcm"}}, 3])
def test_a_crossbar_that_is_none_is_refused(config):
    with pytest.raises(ConfigError, match=r"config: got .*; give a CrossbarConfig"):
        map_network(nn.Linear(64, 4), config)
