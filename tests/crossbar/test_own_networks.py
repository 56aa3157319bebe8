"""The definition: a chip is the user's own `model(x)` with each mapped weight replaced, as `functional_call` would."""

import threading

import pytest
import torch
from own_networks import (
    BEYOND,
    CONFIG,
    DERIVED,
    FINE,
    IMAGES,
    PLAIN,
    WRAPPED,
    Autoencoder,
    Raw,
    Renormed,
    Tied,
    Transposed,
)
from torch import nn
from torch.nn import functional as F

from cimenv.core.errors import DataError, MappingError
from cimenv.crossbar import CrossbarConfig, explicit, map_network, observed, preset, programmed


def made(make):
    torch.manual_seed(0)
    model = nn.Sequential(make()).eval()
    image = isinstance(model[0], nn.Conv2d)
    x = torch.randn(5, 2, 6, 6) if image else torch.randn(5, 6)
    return model, x


def replaced(model, sites, chip):
    """Return parameters by name in which the chip's weights stand."""
    values = {name: p.detach().clone() for name, p in model.named_parameters()}
    for site in sites:
        site.matrix(values[site.parameter]).copy_(chip[site.name])
    return values


@pytest.mark.parametrize("name", [*PLAIN, *BEYOND, *DERIVED, *IMAGES])
def test_a_chip_is_the_users_own_forward_with_other_weights(name):
    model, x = made({**PLAIN, **BEYOND, **DERIVED, **IMAGES}[name])
    before, clean = {k: v.clone() for k, v in model.state_dict().items()}, model(x)
    network = map_network(model, CONFIG, tuple(x.shape[1:]))
    chip = network.program(torch.Generator().manual_seed(1))
    with torch.no_grad(), network.programmed(chip) as running:
        noisy = running(x)
    values = replaced(model, network.sites, chip)
    layer = model[0]
    if "forward" in vars(layer):  # its closure holds the layer: replace by hand
        expected = 2 * F.linear(x, chip["0"], layer.bias)
    else:
        expected = torch.func.functional_call(model, values, (x,))
    torch.testing.assert_close(noisy, expected.detach(), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(noisy, clean, rtol=1e-2)
    assert torch.equal(model(x), clean) and all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", [*PLAIN, "same"])
def test_products_of_a_users_own_run_on_arrays(name):
    """Converters of 16 bits: what the exact product gives, within a few steps of 2 x 100 / 65534 a weight."""
    model, x = made({**PLAIN, **IMAGES}[name])
    network = map_network(model, FINE, tuple(x.shape[1:])).calibrated(x, 1.0)
    with torch.no_grad(), network.programmed(network.program(torch.Generator())) as running:
        found = running(x)
    exact = model(x).detach()
    assert float((found - exact).abs().max()) < 2e-2 * float(exact.abs().max())
    assert not torch.equal(found, exact)


@pytest.mark.parametrize("name", [*DERIVED, "standardised"])
def test_functions_of_a_weight_are_refused_on_arrays_by_name(name):
    model, x = made({**DERIVED, **IMAGES}[name])
    with pytest.raises(MappingError, match=r"^Layer 0 computes with its weight in a way of its own"):
        map_network(model, preset("rasch2023"), tuple(x.shape[1:]))


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_layers_are_programmed_with_their_effective_weight(name):
    model, x = made(WRAPPED[name])
    layer = model[0]._orig_mod if name == "compiled" else model[0]
    effective = layer.weight.detach().clone()
    network = map_network(model, CONFIG, (6,))
    (site,) = network.sites
    assert site.name == "0"
    torch.testing.assert_close(network.weights()["0"], effective)
    chip = network.program(torch.Generator().manual_seed(1))
    with torch.no_grad(), network.programmed(chip) as running:
        torch.testing.assert_close(running(x), F.linear(x, chip["0"], layer.bias).detach())
    torch.testing.assert_close(layer.weight, effective)  # the wrapper still works
    torch.testing.assert_close(network.model(x), layer(x))


def test_sites_of_raw_matrices_have_the_names_of_their_parameters():
    network = map_network(nn.Sequential(Raw()), CONFIG, (6,))
    assert [site.name for site in network.sites] == [
        "0.left",
        "0.right",
        "0.summed",
        "0.qkv[0]",
        "0.qkv[1]",
        "0.qkv[2]",
    ]
    assert [site.weight_shape for site in network.sites] == [(5, 6), (3, 5), (4, 3), (2, 4), (2, 4), (2, 4)]
    assert sum(site.weights for site in network.sites) == 30 + 15 + 12 + 24
    assert network.report.weight_share == network.report.mac_share == 1.0


def test_one_array_serves_layers_that_share_a_weight():
    network = map_network(Tied(), CONFIG, (6,))
    (site,) = network.sites
    assert (site.name, site.calls, site.positions) == ("first", 2, 2)
    assert network.report.notes == ("first.weight is also second.weight: one array serves all.",)


def test_a_weight_used_both_ways_is_one_array():
    torch.manual_seed(0)
    model, x = Autoencoder(), torch.randn(5, 6)
    network = map_network(model, CONFIG, (6,))
    assert [site.name for site in network.sites] == ["encoder"]
    chip = network.program(torch.Generator().manual_seed(0))["encoder"].detach()
    with torch.no_grad(), network.programmed({"encoder": chip}) as running:
        torch.testing.assert_close(running(x), F.linear(F.linear(x, chip).relu(), chip.T))
    with pytest.raises(MappingError, match="encoder"):
        map_network(model, preset("rasch2023"), (6,))


def test_a_weight_that_is_bounded_in_place_stays_the_users():
    """Row norms of the chip's weight are cut at 1; those of the model itself, too, but by itself."""
    torch.manual_seed(0)
    model, x = Renormed(6, 4), torch.randn(5, 6)
    model(x)
    before = model.weight.detach().clone()
    network = map_network(model, CONFIG, (6,))
    (site,) = network.sites
    chip = 3 * network.weights()[site.name]
    with torch.no_grad(), network.programmed({site.name: chip}) as running:
        torch.testing.assert_close(running(x), F.linear(x, torch.renorm(chip, 2, 0, 1.0), model.bias))
    assert torch.equal(model.weight, before)


def test_blocks_stand_behind_the_product_of_a_derived_weight():
    """y' = y + 1 at the product: a layer of signs adds its bias within the product."""
    model, x = made(DERIVED["binary"])
    network, clean = map_network(model, CONFIG, (6,)), model(x)
    with torch.no_grad(), observed(network.model, network.sites, lambda call: call.outputs() + 1) as running:
        torch.testing.assert_close(running(x), clean.detach() + 1)


def test_gradients_reach_a_transposed_weight():
    model, x = made(Transposed)
    network = map_network(model, CONFIG, (6,))
    weight = network.weights()["0"].clone().requires_grad_()
    with network.programmed({"0": weight}):
        model(x).sum().backward()
    assert torch.allclose(weight.grad, x.sum(0).expand(4, 6), atol=1e-6)


def test_threads_program_one_model_at_once():
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)).requires_grad_(False)
    network, x = map_network(model, CONFIG, (16,)), torch.rand(4, 16)
    chips = [network.program(torch.Generator().manual_seed(seed)) for seed in range(3)]
    alone = []
    for chip in chips:
        with programmed(model, chip):
            alone.append(model(x))
    wrong, before = [], model[0].weight.clone()

    def run(chip, expected):
        for _ in range(50):
            with programmed(model, chip):
                if not torch.equal(model(x), expected):
                    wrong.append(1)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(chips, alone, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and torch.equal(before, model[0].weight)


def test_what_stays_digital_is_named_with_its_share():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(6, 4)
            self.experts = nn.Parameter(torch.randn(3, 4, 5))

        def forward(self, x):
            return torch.bmm(self.stem(x).expand(3, -1, -1), self.experts).sum(0)

    with pytest.warns(UserWarning, match=r"Only 28.6% of the multiply-accumulates .* digital stay experts"):
        network = map_network(Experts(), CONFIG, (6,))
    part = network.unmapped[0]
    assert (part.name, part.weights, part.macs, part.reason) == ("experts", 60, 60, "a batch of products")
    assert network.report.mac_share == pytest.approx(24 / 84) and "experts (60 weights, 60 MACs)" in str(network)


def test_products_with_tensors_that_are_no_parameters_are_reported():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("transform", torch.randn(6, 6))
            self.head = nn.Linear(6, 4)

        def forward(self, x):
            return self.head(x @ self.transform)

    with pytest.warns(UserWarning, match=r"Only 40.0% .* digital stay tensors that are no parameters"):
        network = map_network(Fixed(), CONFIG, (6,))
    assert network.unmapped[0].macs == 36 and network.report.macs == 24


def test_parts_that_overlap_are_refused_by_name():
    class Slim(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(6, 6))

        def forward(self, x):
            return F.linear(x, self.w[:4]) + F.linear(x, self.w[2:])

    with pytest.raises(MappingError, match="Parameter w is used in parts that overlap"):
        map_network(Slim(), CONFIG, (6,))


def test_a_change_of_a_part_of_a_weight_is_refused_by_name():
    class Masked(nn.Linear):
        def forward(self, x):
            self.weight.data[0] = 0
            return super().forward(x)

    model = nn.Sequential(Masked(6, 4))
    network = map_network(model, CONFIG, (6,))
    before = model[0].weight.detach().clone()
    with (
        network.programmed(network.program(torch.Generator())),
        pytest.raises(MappingError, match="Layer 0 changes a part"),
    ):
        model(torch.randn(5, 6))
    assert torch.equal(model[0].weight, before)


def test_products_of_two_activations_are_counted_apart():
    """Attention over 3 tokens of width 4: 2 products of 3 x 3 x 4; four projections of 16 weights for 3 tokens."""
    attention = nn.MultiheadAttention(4, 1, batch_first=True)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    network = map_network(Net(), CONFIG, (3, 4))
    assert network.report.macs == 3 * 4 * 16 and network.report.between_activations == 2 * 3 * 3 * 4


def test_digital_patterns_name_parameters_too():
    with pytest.warns(UserWarning, match="33.3%"):
        network = map_network(nn.Sequential(Raw()), CrossbarConfig(digital=("0.qkv", "0.le*")), (6,))
    assert [site.name for site in network.sites] == ["0.right", "0.summed"]
    assert {part.name: part.reason for part in network.unmapped} == dict.fromkeys(
        ("0.left", "0.qkv"), "named by crossbar.digital"
    )


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 3)

    def forward(self, x, y):
        return self.a(x + y)


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (lambda: torch.jit.script(nn.Sequential(nn.Linear(8, 4))), MappingError, "scripted"),
        (lambda: torch.jit.trace(nn.Sequential(nn.Linear(8, 4)), torch.rand(1, 8)), MappingError, "scripted"),
        (lambda: nn.Sequential(torch.jit.script(nn.Linear(8, 4))), MappingError, "layer 0 is scripted"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), MappingError, "layer 0 is lazy"),
        (lambda: torch.export.export(nn.Linear(8, 4), (torch.rand(1, 8),)).module(), MappingError, "exported"),
        (Two, DataError, "missing 1 required positional argument"),
        (lambda: "model.pt", MappingError, "got a str"),
        (lambda: nn.Linear, MappingError, "got a type"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_networks_that_cannot_be_served_are_named_in_one_sentence(model, error, words):
    with pytest.raises(error, match=words) as caught:
        map_network(model(), CONFIG, (8,))
    assert "\n" not in str(caught.value)


def test_modules_that_cannot_be_copied_are_named():
    model = nn.Sequential(nn.LSTM(4, 4, batch_first=True))
    model.lock = threading.Lock()
    with pytest.raises(MappingError, match=r"Sequential cannot be copied \(TypeError"):
        explicit(model)


def test_a_subclass_with_a_forward_of_its_own_is_not_written_out():
    class Half(nn.LSTM):
        def forward(self, x, hx=None):
            return super().forward(x / 2, hx)

    with pytest.raises(MappingError, match="Layer 0 is a Half, which cannot be mapped"):
        map_network(nn.Sequential(Half(4, 4)), CONFIG, (3, 4))
