"""What converters cut off, against counts known beforehand."""

import pytest
import torch
from torch import nn

from cimenv.core.errors import ConfigError
from cimenv.crossbar import CrossbarConfig, Ideal, map_network, saturation

ANALOG = {"device": Ideal(), "analog": True}


def drawn(network):
    return network.program(torch.Generator().manual_seed(0))


def test_clipped_inputs_are_the_share_beyond_the_quantile():
    """Ranges at the 90 % quantile of the very inputs: a tenth of them is beyond (50,000 values, sampled quantile)."""
    images = torch.rand(500, 100)
    network = map_network(nn.Linear(100, 3), CrossbarConfig(**ANALOG), (100,)).calibrated(images, 0.9)
    found = saturation(network, images, drawn(network))
    assert found[""].clipped_inputs == pytest.approx(0.1, abs=0.01)


def test_outputs_at_the_bound_are_counted_and_weights_stay():
    """Rows of equal weights give a sum of 100 inputs of 1, far beyond the bound of 10; alternating ones give 0."""
    layer = nn.Linear(100, 2, bias=False)
    sign = torch.ones(100)
    sign[::2] = -1
    layer.weight.data = torch.stack([torch.ones(100), sign])
    network = map_network(nn.Sequential(layer), CrossbarConfig(**ANALOG), (100,)).calibrated(torch.ones(4, 100))
    found = saturation(network, torch.ones(300, 100), drawn(network))
    assert found["0"].saturated_outputs == 0.5
    assert found["0"].clipped_inputs == 0.0
    assert "forward" not in vars(layer)


def test_convolutions_in_tiles_count_every_channel_once():
    model = nn.Sequential(nn.Conv2d(4, 2, 3, padding=1))
    config = CrossbarConfig(**ANALOG, max_inputs=18)
    network = map_network(model, config, (4, 6, 6)).calibrated(torch.ones(2, 4, 6, 6))
    images = torch.ones(5, 4, 6, 6)
    images[:, 0] = 2.0  # one channel of four is beyond the range
    assert saturation(network, images, drawn(network))["0"].clipped_inputs == 0.25


def test_a_crossbar_without_converters_is_refused():
    network = map_network(nn.Linear(4, 2), CrossbarConfig(device=Ideal()), (4,))
    with pytest.raises(ConfigError, match="analog: got False"):
        saturation(network, torch.rand(3, 4), drawn(network))
