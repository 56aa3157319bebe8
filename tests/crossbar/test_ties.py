"""What shares a parameter, or its memory, is one array: also where torch fuses it, or hides it behind two names."""

from contextlib import nullcontext

import pytest
import torch
from own_networks import CONFIG
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from cimenv.core.errors import MappingError
from cimenv.crossbar import CrossbarConfig, map_network
from cimenv.crossbar.prepared import copied


def on_chip(model, network, x, given):
    """Return outputs on a chip, and those of the network whose parameters hold what `given` makes of its weights."""
    chip = {name: w.detach() for name, w in network.program(torch.Generator().manual_seed(1)).items()}
    with torch.no_grad(), network.programmed(chip) as running:
        found = running(x)
    return found, functional_call(model, given(chip), (x,), tie_weights=True).detach()


def check(model, x, sites, given):
    torch.manual_seed(0)
    network = map_network(model.eval(), CONFIG, tuple(x.shape[1:]))
    assert [site.name for site in network.sites] == sites
    with torch.no_grad():
        torch.testing.assert_close(network.model(x), model(x), rtol=1e-5, atol=1e-5)
    found, expected = on_chip(model, network, x, given)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, model(x), rtol=1e-2)
    return network


class Attentions(nn.Module):
    """Two attentions with one matrix for queries, keys and values."""

    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.two.in_proj_weight, self.two.in_proj_bias = self.one.in_proj_weight, self.one.in_proj_bias

    def forward(self, x):
        x = x + self.one(x, x, x, need_weights=False)[0]
        return self.two(x, x, x, need_weights=False)[0]


class SharedQueriesAndKeys(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.MultiheadAttention(8, 2, kdim=8, vdim=4, batch_first=True)
        self.one.k_proj_weight = self.one.q_proj_weight

    def forward(self, x):
        return self.one(x, x, x[..., :4], need_weights=False)[0]


class Recurrents(nn.Module):
    """Two LSTMs and a dense layer with one matrix, and a matrix that two layers of one LSTM share."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.LSTM(6, 6, 2, batch_first=True), nn.LSTM(6, 6, batch_first=True)
        self.one.weight_hh_l1 = self.one.weight_hh_l0
        self.two.weight_ih_l0 = self.one.weight_ih_l0
        self.head = nn.Linear(6, 24)
        self.head.weight = self.one.weight_ih_l0

    def forward(self, x):
        return self.head(self.two(self.one(x)[0])[0][:, -1])


def test_attentions_share_an_array():
    sites = ["one.q_proj", "one.k_proj", "one.v_proj", "one.out_proj", "two.out_proj"]
    network = check(
        Attentions(),
        torch.randn(3, 5, 8),
        sites,
        lambda chip: {
            "one.in_proj_weight": torch.cat([chip[f"one.{part}_proj"] for part in "qkv"]),
            "one.out_proj.weight": chip["one.out_proj"],
            "two.out_proj.weight": chip["two.out_proj"],
        },
    )
    assert "one.q_proj.weight is also two.q_proj.weight: one array serves all." in network.report.notes
    assert network.sites[0].calls == 2


def test_parts_of_one_attention_share_an_array():
    check(
        SharedQueriesAndKeys(),
        torch.randn(3, 5, 8),
        ["one.q_proj", "one.v_proj", "one.out_proj"],
        lambda chip: {
            "one.q_proj_weight": chip["one.q_proj"],
            "one.v_proj_weight": chip["one.v_proj"],
            "one.out_proj.weight": chip["one.out_proj"],
        },
    )


def test_recurrent_layers_share_an_array():
    network = check(
        Recurrents(),
        torch.randn(3, 5, 6),
        ["one.ih_l0", "one.hh_l0", "one.ih_l1", "two.hh_l0"],
        lambda chip: {
            "one.weight_ih_l0": chip["one.ih_l0"],
            "one.weight_hh_l0": chip["one.hh_l0"],
            "one.weight_ih_l1": chip["one.ih_l1"],
            "two.weight_hh_l0": chip["two.hh_l0"],
        },
    )
    assert network.report.notes == (
        "one.ih_l0.weight is also two.ih_l0.weight, head.weight: one array serves all.",
        "one.hh_l0.weight is also one.hh_l1.weight: one array serves all.",
    )


def test_a_matrix_of_three_that_is_a_whole_elsewhere_is_refused():
    class Net(Attentions):
        def __init__(self):
            super().__init__()
            self.fused = nn.Linear(8, 24)
            self.fused.weight = self.one.in_proj_weight

    with pytest.raises(MappingError, match=r"^Parameter fused.weight is also the in_proj of an attention"):
        map_network(Net(), CONFIG, (5, 8))


def of_one_memory():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[2].weight.data = model[0].weight.data
    return model


@pytest.mark.parametrize("way", ["given", "copied"])
def test_parameters_of_one_memory_are_one_array(way):
    model = of_one_memory()
    model = copied(model) if way == "copied" else model
    network = check(
        model, torch.randn(3, 6), ["0"], lambda chip: {"0.weight": chip["0"], "2.weight": chip["0"]} if way == "given"
        else {"0.weight": chip["0"]}
    )  # fmt: skip
    assert network.report.notes == ("0.weight is also 2.weight: one array serves all.",)


def test_parameters_that_overlap_are_refused():
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 6))
    model[1].weight.data = model[0].weight.data.T
    with pytest.raises(MappingError, match=r"^Parameters 0.weight and 1.weight share numbers in memory"):
        map_network(model, CONFIG, (6,))


def test_parameters_side_by_side_in_one_memory_are_apart():
    """As in flattened networks; and columns of one matrix, whose memory interleaves."""
    both = torch.randn(4, 12)
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 6))
    model[0].weight.data, model[2].weight.data = both[:, :6], both[:, 6:]
    flat = torch.randn(48)
    model[1].weight.data, model[3].weight.data = flat[:24].view(6, 4), flat[24:].view(6, 4)
    check(model, torch.randn(3, 6), ["0", "1", "2", "3"], lambda chip: {f"{k}.weight": w for k, w in chip.items()})


def test_a_parameter_with_gaps_in_its_memory_used_transposed():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(6, 12)[:, 3:7])

        def forward(self, x):
            return x @ self.w

    check(Net(), torch.randn(3, 6), ["w"], lambda chip: {"w": chip["w"].T})


def closed(model, forward):
    """Return a network that runs as this one does, by a function that holds it."""
    outer = nn.Sequential(model, nn.LSTM(4, 4, batch_first=True))
    model.forward = forward
    return outer


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("use", ["product", "rows", "transposed", "part"])
def test_closures_that_hold_a_weight_within_a_larger_memory(gaps, use):
    """The copy whose LSTM is written out has memory of its own; the closure still reads the original's."""
    torch.manual_seed(0)
    big = torch.randn(9, 11)
    layer = nn.Linear(6, 4, bias=False)
    layer.weight.data = big[2:6, 3:9] if gaps else big.flatten()[7:31].view(4, 6)
    uses = {
        "product": lambda x, w: F.linear(x, w),
        "rows": lambda x, w: F.linear(x, torch.cat([w[2:], w[:2]])),
        "transposed": lambda x, w: x @ (2 * w.T),
        "part": lambda x, w: F.linear(x, w) + x[..., :1] * w[1, :4],
    }
    model, x = closed(layer, lambda x: uses[use](x, layer.weight)), torch.randn(3, 5, 6)
    network = map_network(nn.Sequential(model, Last()).eval(), CONFIG, (5, 6))
    (site,) = [site for site in network.sites if site.type == "dense"]
    chip = {site.name: 3 * network.weights()[site.name]}
    with torch.no_grad(), network.programmed(chip) as running:
        found = running(x)
    y = uses[use](x, 3 * layer.weight)
    torch.testing.assert_close(found, model[1](y)[0][:, -1], rtol=1e-5, atol=1e-5)


class Last(nn.Module):
    def forward(self, out):
        return out[0][:, -1]


def test_without_a_forward_pass_ties_are_seen_too():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    network = map_network(model, CONFIG)
    assert [site.name for site in network.sites] == ["0"]
    assert network.report.notes == ("0.weight is also 1.weight: one array serves all.",)


def test_what_is_tied_to_a_digital_layer_is_digital():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    for shape in (None, (6,)):
        with pytest.warns(UserWarning, match="digital stay 0") if shape else nullcontext():
            network = map_network(model, CrossbarConfig(digital=("2",)), shape)
        assert [site.name for site in network.sites] == ["1"]
