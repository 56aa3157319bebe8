"""Recurrent and attention modules from single matrices: equal to torch's own to 1e-5."""

import pytest
import torch
import torchvision
from torch import nn

from cimenv.core.errors import MappingError
from cimenv.crossbar import CrossbarConfig, explicit, map_network
from cimenv.crossbar.explicit import Attention, Recurrent


def close(ours, theirs):
    for one, two in zip(ours, theirs, strict=True):
        if isinstance(one, tuple):
            close(one, two)
        else:
            torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"batch_first": True},
        {"num_layers": 2, "bidirectional": True},
        {"bias": False, "num_layers": 3, "dropout": 0.5},
    ],
)
def test_recurrent_modules(kind, fields):
    source = kind(5, 7, **fields).eval()
    ours = Recurrent(source).eval()
    x = torch.randn(4, 6, 5)
    close(ours(x), source(x))
    shape = (
        fields.get("num_layers", 1) * (2 if fields.get("bidirectional") else 1),
        6 if not fields.get("batch_first") else 4,
        7,
    )
    state = (torch.randn(shape), torch.randn(shape)) if kind is nn.LSTM else torch.randn(shape)
    close(ours(x, state), source(x, state))
    close(ours(x[0] if fields.get("batch_first") else x[:, 0]), source(x[0] if fields.get("batch_first") else x[:, 0]))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_lstm_with_a_projection():
    source = nn.LSTM(5, 7, proj_size=3, num_layers=2).eval()
    x = torch.randn(4, 6, 5)
    close(explicit(source)(x), source(x))


@pytest.mark.parametrize("fields", [{}, {"batch_first": True}, {"kdim": 6, "vdim": 5}, {"bias": False}])
def test_attention(fields):
    source = nn.MultiheadAttention(8, 2, **fields).eval()
    ours = Attention(source).eval()
    q, k, v = torch.randn(3, 4, 8), torch.randn(3, 4, fields.get("kdim", 8)), torch.randn(3, 4, fields.get("vdim", 8))
    length, batch = (4, 3) if fields.get("batch_first") else (3, 4)
    close(ours(q, k, v), source(q, k, v))
    mask = torch.ones(length, length, dtype=torch.bool).triu(1)
    padding = torch.zeros(batch, length, dtype=torch.bool)
    padding[1, 1:] = True
    named = {"attn_mask": mask, "key_padding_mask": padding, "average_attn_weights": False}
    close(ours(q, k, v, **named), source(q, k, v, **named))
    assert ours(q, k, v, need_weights=False)[1] is None


def test_what_users_ask_of_a_recurrent_module():
    class Aliased(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.LSTM(5, 7, num_layers=2, bidirectional=True)
            self.b = self.a

        def forward(self, x):
            self.b.flatten_parameters()
            state = torch.zeros(self.b.num_layers * (2 if self.b.bidirectional else 1), x.shape[1], self.b.hidden_size)
            return self.a(input=x, hx=(state, state))[0] + self.b(x)[0]

    model, x = Aliased().eval(), torch.randn(4, 6, 5)
    ours = explicit(model)
    assert ours.a is ours.b and isinstance(ours.b, Recurrent) and isinstance(model.b, nn.LSTM)
    close([ours(x)], [model(x)])
    with pytest.raises(MappingError, match="PackedSequence"):
        ours.a(nn.utils.rnn.pack_padded_sequence(x, [4] * 6))


def test_attention_that_is_not_mapped_says_so():
    with pytest.raises(MappingError, match="add_bias_kv or add_zero_attn"):
        map_network(nn.Sequential(nn.MultiheadAttention(8, 2, add_zero_attn=True)), CrossbarConfig())


class Rows(nn.Module):
    """An LSTM over the rows of an image, with an embedding that stays digital."""

    def __init__(self):
        super().__init__()
        self.position = nn.Embedding(8, 8)
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, images):
        rows = images.squeeze(1) + self.position(torch.arange(8))
        return self.head(self.lstm(rows)[0][:, -1])


def test_a_users_network_stays_as_it_is_and_its_matrices_are_sites():
    model = Rows().eval()
    network = map_network(model, CrossbarConfig(device={"kind": "ideal"}), (1, 8, 8))
    assert isinstance(model.lstm, nn.LSTM)
    found = [(site.name, site.type, site.weight_shape, site.calls, site.positions) for site in network.sites]
    assert found == [
        ("lstm.ih_l0", "lstm", (24, 8), 1, 8),
        ("lstm.hh_l0", "lstm", (24, 6), 8, 8),
        ("head", "dense", (3, 6), 1, 1),
    ]
    x = torch.randn(5, 1, 8, 8)
    close([network.model(x)], [model(x)])


@pytest.mark.parametrize(
    ("factory", "sites"),
    [
        (lambda: torchvision.models.resnet18(num_classes=10), {"conv": 20, "dense": 1}),
        (
            lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10),
            {"conv": 1, "dense": 5, "attention": 8},
        ),
        (
            lambda: nn.Sequential(
                nn.Flatten(2), nn.TransformerEncoder(nn.TransformerEncoderLayer(1024, 4, 64, batch_first=True), 2)
            ),
            {"attention": 8, "dense": 4},
        ),
    ],
)
def test_networks_of_torchvision_and_torch_keep_their_outputs(factory, sites):
    torch.manual_seed(0)
    model, x = factory().eval(), torch.randn(2, 3, 32, 32)
    network = map_network(model, CrossbarConfig(device={"kind": "ideal"}), (3, 32, 32))
    counted = {kind: sum(site.type == kind for site in network.sites) for kind in sites}
    assert counted == sites
    with torch.no_grad():
        close([network.model(x)], [model(x)])
