"""Two digits side by side: a problem of 100 classes made from MNIST, without a download."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from cimenv.core.seeding import torch_generator
from cimenv.data.data_set import DataSet
from cimenv.data.splits import DataSplits, ImageSet, Split
from cimenv.data.vision import MNIST

NAME, SEED = "two-digit-mnist", 0
SIDE = 32
MEAN, STD = (0.1308,), (0.2754,)  # of the training pairs
BLOCK = 5_000


def two_digit_mnist(root: str | Path | None = None, download: bool = False) -> DataSplits:
    """Return pairs of MNIST digits: 28 x 56 pixels resized to 32 x 32, label 10 * left + right.

    Pairs are drawn with replacement from one split of MNIST each (55,000 / 5,000 / 10,000 digits), by a fixed seed.

    Args:
        root: folder of MNIST; default the environment variable `CIMENV_DATA`.
        download: fetch MNIST if it is missing.

    Raises:
        DataError: MNIST is missing or damaged.
    """
    digits = MNIST.load(root, download)
    counts: dict[Split, int] = {"train": 60_000, "val": 5_000, "test": 10_000}
    made = {}
    for split, count in counts.items():
        part = digits[split]
        chosen = torch.randint(len(part), (2, count), generator=torch_generator(NAME, SEED, split))
        left, right = part.labels[chosen]
        made[split] = ImageSet(_pairs(part.images, chosen), 10 * left + right, MEAN, STD)
    return DataSplits(NAME, made["train"], made["val"], made["test"], 100)


def _pairs(images: Tensor, chosen: Tensor) -> Tensor:
    """Return `[n, 1, SIDE, SIDE]`, uint8, of digits `[k, 1, 28, 28]` and their numbers `[2, n]`."""
    made = []
    for left, right in zip(*(numbers.split(BLOCK) for numbers in chosen), strict=True):
        wide = torch.cat([images[left], images[right]], -1).float()
        small = F.interpolate(wide, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        made.append(small.round_().clamp_(0, 255).to(torch.uint8))
    return torch.cat(made)


class TwoDigit(DataSet):
    """Two digits side by side."""

    def load(self, root: str | Path | None = None, download: bool = False) -> DataSplits:
        """Return its splits; see `DataSet.load`."""
        return two_digit_mnist(root, download)


TWO_DIGIT = TwoDigit(NAME, (1, SIDE, SIDE), "Pairs of MNIST digits, 100 classes (LeCun et al., 1998).")
