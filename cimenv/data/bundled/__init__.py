"""The Fashion-MNIST subset that ships with the package."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch

from cimenv.data.splits import DataSplits, ImageSet

FASHION_MEAN, FASHION_STD = (0.2860,), (0.3530,)


def fashion_mini() -> DataSplits:
    """Return 10,000 / 2,000 / 2,000 class-balanced Fashion-MNIST images (train / val / test).

    Train and validation come from the official training images, test from the official test images. Made by
    `python -m experiments.lab.fashion_mini`; MIT licence, Zalando Research.
    """
    path = files(__package__).joinpath("fashion_mini.npz")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        parts = {
            split: ImageSet(
                torch.from_numpy(arrays[f"{split}_images"]).unsqueeze(1),
                torch.from_numpy(arrays[f"{split}_labels"].astype(np.int64)),
                FASHION_MEAN,
                FASHION_STD,
            )
            for split in ("train", "val", "test")
        }
    return DataSplits("fashion-mini", parts["train"], parts["val"], parts["test"], classes=10)
