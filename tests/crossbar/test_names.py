"""Patterns of `crossbar.digital` name parts of a network as its author sees them."""

import pytest
import torch
from torch import nn

from cimenv.core.errors import MappingError
from cimenv.crossbar import CrossbarConfig, explicit, map_network
from cimenv.crossbar.written_out import Attention, Recurrent


class Net(nn.Module):
    def __init__(self, **fields):
        super().__init__()
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True, **fields)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.encoder(self.lstm(x)[0])
        return self.head(self.attn(x, x, x, need_weights=False)[0][:, -1])


ALL = [
    "lstm.ih_l0",
    "lstm.hh_l0",
    *(f"encoder.layers.{k}.{m}" for k in (0, 1) for m in (*(f"self_attn.{p}_proj" for p in ("q", "k", "v", "out")),
      "linear1", "linear2")),
    *(f"attn.{p}_proj" for p in ("q", "k", "v", "out")),
    "head",
]  # fmt: skip


def sites_without(*patterns, model=None, shape=(5, 8)):
    torch.manual_seed(0)
    model, x = (model or Net()).eval(), torch.randn(2, 5, 8)
    network = map_network(model, CrossbarConfig(digital=patterns), shape)
    with torch.no_grad():
        torch.testing.assert_close(network.model(x), model(x), rtol=1e-5, atol=1e-5)
    return network, [name for name in ALL if name not in {site.name for site in network.sites}]


@pytest.mark.filterwarnings("ignore:Only")
@pytest.mark.parametrize("shape", [None, (5, 8)])
@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize(
    ("pattern", "start"),
    [
        ("lstm", "lstm"),
        ("lstm*", "lstm"),
        ("attn", "attn"),
        ("encoder.layers.1.self_attn*", "encoder.layers.1.self_attn"),
        ("encoder.layers.1", "encoder.layers.1"),
        ("encoder", "encoder"),
        ("*.layers.0", "encoder.layers.0"),
    ],
)
def test_modules_are_kept_digital_by_their_name(pattern, start, written_out, shape):
    model = explicit(Net()) if written_out else Net()
    network, digital = sites_without(pattern, model=model, shape=shape)
    assert digital == [name for name in ALL if name.startswith(start)]
    if not written_out and start in ("lstm", "attn"):
        assert not isinstance(network.model.get_submodule(start), Recurrent | Attention)


@pytest.mark.filterwarnings("ignore:Only")
@pytest.mark.parametrize(
    ("pattern", "digital"),
    [
        ("lstm.weight_ih_l0", ["lstm.ih_l0"]),
        ("lstm.ih_l0", ["lstm.ih_l0"]),
        ("lstm.hh_l0.weight", ["lstm.hh_l0"]),
        ("attn.in_proj_weight", ["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
        ("attn.out_proj.weight", ["attn.out_proj"]),
        ("attn.q_proj", ["attn.q_proj"]),
        ("head", ["head"]),
    ],
)
def test_matrices_are_kept_digital_by_the_name_of_their_parameter(pattern, digital):
    network, found = sites_without(pattern)
    assert found == digital
    assert {part.name for part in network.unmapped if part.reason == "named by crossbar.digital"} == set(digital)


def test_a_pattern_of_layers_does_not_reach_for_modules_too():
    """`*.0` names the first layer of a block, and not all of block 0."""
    model = nn.Sequential(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 8)))
    assert [site.name for site in map_network(model, CrossbarConfig(digital=("*.0",))).sites] == ["0.1"]


def test_a_pattern_of_nothing_is_refused():
    with pytest.raises(MappingError, match=r"crossbar.digital: 'lstn\*' matches no layer; known: lstm, "):
        map_network(Net(), CrossbarConfig(digital=("lstn*",)), (5, 8))


@pytest.mark.filterwarnings("ignore:Only")
def test_an_attention_that_is_not_mapped_can_stay_digital():
    with pytest.raises(MappingError, match=r"^Layer attn is a MultiheadAttention with add_bias_kv.*\['attn'\]"):
        sites_without(model=Net(add_bias_kv=True))
    _, digital = sites_without("attn", model=Net(add_bias_kv=True))
    assert digital == [name for name in ALL if name.startswith("attn")]
