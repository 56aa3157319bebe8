"""The real data sets through torchvision: MNIST, FashionMNIST, CIFAR10, CIFAR100."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cimenv.core.errors import DataError
from cimenv.core.files import RECORD, checked_file, checked_path
from cimenv.data.faults import file_names, what_is_wrong
from cimenv.data.splits import DataSplits, ImageSet

DATA_VARIABLE = "CIMENV_DATA"
VALIDATION_IMAGES = 5_000  # the last of the official training images; a tenth of a smaller set


@dataclass(frozen=True)
class VisionSet:
    """A torchvision data set: its class, classes, per-channel statistics of the training images, image shape.

    `crop` and `flip` say how its training images are augmented (4 and true are He et al.'s choice for CIFAR).
    """

    torchvision_name: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_shape: tuple[int, int, int]
    crop: int = 0
    flip: bool = False


VISION_SETS = {
    "mnist": VisionSet("MNIST", 10, (0.1307,), (0.3081,), (1, 28, 28)),
    "fashion": VisionSet("FashionMNIST", 10, (0.2860,), (0.3530,), (1, 28, 28)),
    "cifar10": VisionSet("CIFAR10", 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), (3, 32, 32), 4, True),
    "cifar100": VisionSet("CIFAR100", 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), (3, 32, 32), 4, True),
}


def data_root(root: str | Path | None = None) -> Path:
    """Return `root`, else the folder named by `CIMENV_DATA`, else `./data`."""
    return checked_path("root", root if root is not None else os.environ.get(DATA_VARIABLE, "data")).expanduser()


def load_vision(name: str, root: str | Path | None = None, download: bool = False) -> DataSplits:
    """Load a torchvision data set; the last 5,000 training images are the validation split.

    Args:
        name: key of `VISION_SETS`.
        root: folder in torchvision's layout; default the environment variable `CIMENV_DATA`, else `./data`.
        download: fetch the data set if it is missing.

    Raises:
        DataError: the data set is missing or damaged.
    """
    import torchvision.datasets

    described = VISION_SETS[name]
    folder = data_root(root)
    factory = getattr(torchvision.datasets, described.torchvision_name)
    try:
        for path in map(folder.joinpath, file_names(factory)):
            if path.exists():
                checked_file(path, RECORD, DataError)
        parts = [factory(str(folder), train=train, download=download) for train in (True, False)]
        (images, labels), (test_images, test_labels) = (_tensors(part) for part in parts)
        for pixels in (images, test_images):
            if tuple(pixels.shape[1:]) != described.image_shape:
                raise ValueError(f"images are {tuple(pixels.shape[1:])}")
    except DataError:
        raise
    except Exception as error:  # whatever a reader of damaged files does
        fetch = f"import cimenv.data as d; d.load_data('{name}', root='{folder}', download=True)"
        wrong = what_is_wrong(factory, folder, error)
        raise DataError(f'{described.torchvision_name} {wrong}; fetch it with: python -c "{fetch}"') from None
    held_out = min(VALIDATION_IMAGES, max(1, len(labels) // 10))
    statistics = (described.mean, described.std)
    return DataSplits(
        name,
        ImageSet(images[:-held_out], labels[:-held_out], *statistics, described.crop, described.flip),
        ImageSet(images[-held_out:], labels[-held_out:], *statistics),
        ImageSet(test_images, test_labels, *statistics),
        described.classes,
    )


def _tensors(dataset: object) -> tuple[Tensor, Tensor]:
    images = torch.as_tensor(np.asarray(dataset.data))  # type: ignore[attr-defined]
    labels = torch.as_tensor(np.asarray(dataset.targets), dtype=torch.int64)  # type: ignore[attr-defined]
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    return images, labels
