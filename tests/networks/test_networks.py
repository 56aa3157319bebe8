"""Backbones of the registry: sites, shapes, and exact products where the crossbar is ideal."""

import pytest
import torch

from cimenv.crossbar import CrossbarConfig, map_network, programmed
from cimenv.evaluation import SegmentedNetwork
from cimenv.networks import build_backbone
from cimenv.networks.registry import BACKBONES

FACTS = {  # sites by type, parameters, MACs of one 28 x 28 image
    "lenet5": ({"conv": 2, "dense": 3}, 61_706, 416_520),
    "toy_cnn": ({"conv": 2, "dense": 2}, None, None),
    "resnet20": ({"conv": 21, "dense": 1}, 272_186, 31_021_952),
    "lstm_rows": ({"lstm": 2, "dense": 1}, 81_674, 2_172_160),
    "vit": ({"conv": 1, "attention": 16, "dense": 9}, 138_890, 6_473_344),
}


def test_every_backbone_has_its_facts():
    assert set(FACTS) == set(BACKBONES)


@pytest.mark.parametrize("name", FACTS)
def test_sites_parameters_and_macs(name):
    by_type, parameters, macs = FACTS[name]
    model = build_backbone(name)
    network = map_network(model, CrossbarConfig(), (1, 28, 28))
    assert {site.type: sum(s.type == site.type for s in network.sites) for site in network.sites} == by_type
    assert parameters in (None, sum(parameter.numel() for parameter in model.parameters()))
    assert macs in (None, sum(site.macs for site in network.sites))
    assert not SegmentedNetwork(model, network.sites).opaque  # placements share what lies before a site


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("analog", [False, True])
def test_an_ideal_crossbar_gives_the_digital_network(name, analog):
    """1e-5; an analog crossbar with its converters switched off only scales inputs and clamps them at their range."""
    torch.manual_seed(0)
    model, x = build_backbone(name).eval(), torch.rand(4, 1, 28, 28)
    fields = {"analog": True, "dac_bits": 0, "adc_bits": 0} if analog else {}
    network = map_network(model, CrossbarConfig(device={"kind": "ideal"}, **fields), (1, 28, 28))
    network = network.calibrated(x, 1.0)
    with torch.no_grad():
        digital = model(x)
        with programmed(model, network.program(torch.Generator())):
            mapped = model(x)
    torch.testing.assert_close(mapped, digital, atol=1e-5, rtol=0)
