"""A network whose one layer is hurt by variation in a way that affine blocks undo; data small enough for a moment."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cimenv.core.progress import silent
from cimenv.data import DataSplits, ImageSet

OFFSET = 2.0
PROTOTYPES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(7))
PROTOTYPES *= torch.tensor([0.2, 0.6, 1.0, 1.4]).view(4, 1, 1, 1)


def part(seed: int, n: int = 120) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=generator)
    return ImageSet(PROTOTYPES[labels] + OFFSET + torch.randn(n, 1, 8, 8, generator=generator) / 2, labels)


@pytest.fixture(scope="session")
def prototypes() -> DataSplits:
    return DataSplits("prototypes", part(0), part(1), part(2), classes=4)


@pytest.fixture
def nearest() -> nn.Module:
    """The class whose prototype is nearest; log-normal weights are larger on average, the biases are not."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with torch.no_grad():
        weight = PROTOTYPES.flatten(1)
        model[1].weight.copy_(weight / 10)
        model[1].bias.copy_(-(weight.square() / 2 + OFFSET * weight).sum(1) / 10)
    return model


@pytest.fixture
def quick(tmp_path) -> dict[str, object]:
    """Arguments of `cimenv.place` that take a moment."""
    return {
        "crossbar": {"device": {"kind": "log_normal", "sigma": 0.5}},
        "bank": {"steps": 20, "learning_rate": 0.05},
        "tuned": {"steps": 60, "learning_rate": 0.05},
        "chips": 12,
        "images": 50,
        "report_chips": 12,
        "store": tmp_path,
        "progress": silent,
    }
