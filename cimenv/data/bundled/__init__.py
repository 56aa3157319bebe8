"""The Fashion-MNIST subset that ships with the package."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from cimenv.data.data_set import DataSet
from cimenv.data.splits import DataSplits, ImageSet

FASHION_MEAN, FASHION_STD = (0.2860,), (0.3530,)


@lru_cache(maxsize=1)  # decompressing it takes longer than a search step
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


class Bundled(DataSet):
    """A data set that ships with the package."""

    def load(self, root: str | Path | None = None, download: bool = False) -> DataSplits:
        """Return its splits; see `DataSet.load`."""
        del root, download
        return fashion_mini()


FASHION_MINI = Bundled("fashion-mini", (1, 28, 28), "A class-balanced subset of Fashion-MNIST (Xiao et al., 2017).")
