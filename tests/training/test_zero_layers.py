"""Recipes on a network one layer of which is all zero: it trains, or is refused by name; nothing is NaN."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimenv.core.errors import MappingError
from cimenv.core.progress import silent
from cimenv.crossbar import CrossbarConfig, preset
from cimenv.data import DataSplits, ImageSet
from cimenv.training import recipe_named

RECIPES = [
    ("standard", {}),
    ("noise", {}),
    ("lipschitz", {"form": "spectral"}),
    ("lipschitz", {"form": "orthogonal"}),
    ("hwa", {}),
    ("trice", {}),
    ("sam", {}),
]
ATTACKED = ("trice", "sam")  # judged by their worst case, which a layer without a largest weight has not


class Branch(nn.Module):
    """A dense layer and, beside it, one that is zero and stays so."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.main, self.zero = nn.Linear(8, 3), nn.Linear(8, 3, bias=False)
        self.zero.weight.requires_grad_(False).zero_()

    def forward(self, x):
        return self.main(x) + self.zero(x)


def splits():
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 3
    images = F.one_hot(labels, 8).float() * 3 + torch.randn(24, 8, generator=draws)
    part = ImageSet(images, labels)
    return DataSplits("tiny", part, part, part, classes=3)


@pytest.mark.parametrize(("name", "fields"), RECIPES)
def test_a_layer_of_zeros_stays_zero_or_is_refused(name, fields):
    recipe = recipe_named(name).model_copy(update={"epochs": 1, "batch_size": 8, "drop_connect": 0.0, **fields})
    model, crossbar = Branch(), preset("rasch2023") if name == "hwa" else CrossbarConfig()
    if name in ATTACKED:
        with pytest.raises(MappingError, match="Layer zero is all zeros"):
            recipe.fit(model, splits(), torch.Generator().manual_seed(0), silent, crossbar)
        return
    trained = recipe.fit(model, splits(), torch.Generator().manual_seed(0), silent, crossbar)
    assert torch.equal(model.zero.weight, torch.zeros(3, 8))
    assert all(value.isfinite().all() for value in (*trained.state.values(), *trained.input_ranges.values()))
    assert not torch.equal(model.main.weight, Branch().main.weight)
