import math

import numpy as np
import pytest
import torch
from torch import nn

from cimenv.core.errors import ConfigError, DataError
from cimenv.crossbar import map_network, preset


def network():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).requires_grad_(False)
    return map_network(model, preset("rasch2023"), (1, 8, 8))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 1, 8, 8)), "images: got a ndarray; give a tensor"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "images: got torch.uint8; give normalised"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.complex64), "images: got torch.complex64"),
        (torch.zeros(0, 1, 8, 8), "images: got none"),
        (torch.full((2, 1, 8, 8), math.nan), "images hold NaN"),
        (torch.full((2, 1, 8, 8), math.inf), "images hold NaN or infinity"),
        (torch.rand(2, 3, 8, 8), r"shape \(3, 8, 8\) do not pass through Sequential"),
        (torch.rand(2, 1, 9, 9), r"shape \(1, 9, 9\) do not pass through Sequential"),
        (torch.rand(2, 64), r"shape \(64,\) do not pass through Sequential"),
    ],
)
def test_images_that_cannot_calibrate_are_refused_and_leave_nothing(images, words):
    mapped = network()
    with pytest.raises(DataError, match=words):
        mapped.calibrated(images)
    assert not any(module._forward_pre_hooks for module in mapped.model.modules())


@pytest.mark.parametrize("quantile", [0.0, -0.5, 1.1, math.nan])
def test_quantiles_of_inputs_lie_between_0_and_1(quantile):
    with pytest.raises(ConfigError, match="quantile: got"):
        network().calibrated(torch.rand(2, 1, 8, 8), quantile)


def test_the_range_is_the_quantile_of_the_inputs():
    images = torch.arange(128.0).reshape(2, 1, 8, 8) / 128
    ranges = network().calibrated(images, 1.0).input_ranges
    assert ranges["0"].tolist() == [pytest.approx(127 / 128)]
