"""Backbones of the registry: sites, shapes, and exact products where the crossbar is ideal."""

import sys

import pytest
import torch

from cimenv.core.errors import ConfigError
from cimenv.crossbar import CrossbarConfig, map_network, programmed
from cimenv.evaluation import SegmentedNetwork
from cimenv.networks import build_backbone, without_weights
from cimenv.networks.registry import BACKBONES
from cimenv.tasks import load_task

FACTS = {  # sites by type, parameters, MACs of one image
    "lenet5": ({"conv": 2, "dense": 3}, 61_706, 416_520),
    "toy_cnn": ({"conv": 2, "dense": 2}, None, None),
    # 9 c_in c_out a position and layer; VGG at 32 x 32, the others at 28 x 28
    "vgg16": ({"conv": 13, "dense": 3}, 15_248_202, 312_546_304),
    "resnet18": ({"conv": 20, "dense": 1}, 11_172_810, 455_800_832),
    "resnet20": ({"conv": 21, "dense": 1}, 272_186, 31_021_952),
    "resnet8": ({"conv": 9, "dense": 1}, 77_754, 9_345_920),  # 77,072 weights, 672 of batch norm, 10 biases
    "mlp4": ({"dense": 4}, 119_722, 119_424),  # 784 x 128 + 128 x 96 + 96 x 64 + 64 x 10, and 298 biases
    "lstm_rows": ({"lstm": 2, "dense": 1}, 81_674, 2_172_160),
    "vit": ({"conv": 1, "attention": 16, "dense": 9}, 138_890, 6_473_344),
}
SHAPES = {"vgg16": (1, 32, 32)}


def shape_of(name):
    return SHAPES.get(name, (1, 28, 28))


def test_every_backbone_has_its_facts():
    assert set(FACTS) == set(BACKBONES)


@pytest.mark.parametrize("name", FACTS)
def test_sites_parameters_and_macs(name):
    by_type, parameters, macs = FACTS[name]
    model = build_backbone(name)
    network = map_network(model, CrossbarConfig(), shape_of(name))
    assert {site.type: sum(s.type == site.type for s in network.sites) for site in network.sites} == by_type
    assert parameters in (None, sum(parameter.numel() for parameter in model.parameters()))
    assert macs in (None, sum(site.macs for site in network.sites))
    assert not SegmentedNetwork(model, network.sites).opaque  # placements share what lies before a site


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("analog", [False, True])
def test_an_ideal_crossbar_gives_the_digital_network(name, analog):
    """1e-5; an analog crossbar with its converters switched off only scales inputs and clamps them at their range."""
    torch.manual_seed(0)
    model, x = build_backbone(name).eval(), torch.rand(4, *shape_of(name))
    fields = {"analog": True, "dac_bits": 0, "adc_bits": 0} if analog else {}
    network = map_network(model, CrossbarConfig(device={"kind": "ideal"}, **fields), shape_of(name))
    network = network.calibrated(x, 1.0)
    with torch.no_grad():
        digital = model(x)
        with programmed(model, network.program(torch.Generator())):
            mapped = model(x)
    torch.testing.assert_close(mapped, digital, atol=1e-5, rtol=0)


def test_widths_that_leave_no_channels_are_refused():
    for name, arguments in (("vgg16", {"width": 0.01}), ("resnet18", {"width": 0})):
        with pytest.raises(ConfigError, match=r"width: got .*, which leaves no channels"):
            build_backbone(name, arguments)


def test_vgg_without_batch_norm_carries_its_signal():
    """He's draws keep the spread of activations within a factor of 3 over 13 convolutions; torch's would lose 10^4."""
    torch.manual_seed(0)
    model = build_backbone("vgg16", {"width": 0.25, "batch_norm": False, "padding": 2})
    x = torch.randn(64, 1, 28, 28)
    with torch.no_grad():
        assert 1 / 3 < float(model.features[:-1](x).square().mean().sqrt() / 2**-0.5) < 3


OWN = """
import torch

SCALE = torch.tensor([0.5])  # made when the module is imported


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.shift = torch.nn.Linear(784, 10), torch.tensor(2.0)  # neither parameter nor buffer

    def forward(self, x):
        return self.layer(x.flatten(1)) * SCALE + self.shift


def network(width=1):
    return Scaled()


def broken():
    raise FileNotFoundError("no weights here")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "of_a_user.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "of_a_user"
    sys.modules.pop("of_a_user", None)


def test_a_users_tensors_keep_their_values(own):
    """Sites are counted, and weights loaded, without building a network twice; a user's is built as it is."""
    task = load_task("toy-4site", [f"backbone={own}:network", "backbone_args={}", "candidates=null"])
    before = torch.random.get_rng_state()
    assert [site.name for site in task.sites()] == ["layer"]
    model = without_weights(f"{own}:network")
    assert sys.modules[own].SCALE.item() == 0.5 and float(model.shift) == 2.0
    assert torch.equal(torch.random.get_rng_state(), before)
    assert next(without_weights("lenet5").parameters()).is_meta


def test_what_a_users_function_does_is_one_sentence(own):
    with pytest.raises(ConfigError, match=r"'of_a_user:broken' fails: FileNotFoundError: no weights here \(of_a"):
        build_backbone(f"{own}:broken")
    with pytest.raises(ConfigError, match=r"backbone_args: 'of_a_user:network' refuses them \(.*'depth'\)"):
        build_backbone(f"{own}:network", {"depth": 3})
