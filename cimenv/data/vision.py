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
from cimenv.data.data_set import DataSet
from cimenv.data.faults import file_names, what_is_wrong
from cimenv.data.splits import DataSplits, ImageSet

DATA_VARIABLE = "CIMENV_DATA"
VALIDATION_IMAGES = 5_000  # the last of the official training images; a tenth of a smaller set


def data_root(root: str | Path | None = None) -> Path:
    """Return `root`, else the folder named by `CIMENV_DATA`, else `./data`."""
    return checked_path("root", root if root is not None else os.environ.get(DATA_VARIABLE, "data")).expanduser()


@dataclass(frozen=True)
class VisionSet(DataSet):
    """A data set that torchvision reads; its last 5,000 training images are the validation split.

    Attributes:
        torchvision_name: of its class.
        classes: their number.
        mean: of the scaled training images, per channel.
        std: of the scaled training images, per channel.
        crop: pixels by which a training image is shifted at most (4 is He et al.'s choice for CIFAR).
        flip: whether a training image is mirrored with probability one half (as He et al. do).
    """

    torchvision_name: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: int = 0
    flip: bool = False

    def load(self, root: str | Path | None = None, download: bool = False) -> DataSplits:
        """Return its splits; see `DataSet.load`."""
        import torchvision.datasets

        folder = data_root(root)
        factory = getattr(torchvision.datasets, self.torchvision_name)
        try:
            for path in map(folder.joinpath, file_names(factory)):
                if path.exists():
                    checked_file(path, RECORD, DataError)
            parts = [factory(str(folder), train=train, download=download) for train in (True, False)]
            (images, labels), (test_images, test_labels) = (_tensors(part) for part in parts)
            for pixels in (images, test_images):
                if tuple(pixels.shape[1:]) != self.image_shape:
                    raise ValueError(f"images are {tuple(pixels.shape[1:])}")
        except DataError:
            raise
        except Exception as error:  # whatever a reader of damaged files does
            fetch = f"import cimenv.data as d; d.load_data('{self.name}', root='{folder}', download=True)"
            wrong = what_is_wrong(factory, folder, error)
            raise DataError(f'{self.torchvision_name} {wrong}; fetch it with: python -c "{fetch}"') from None
        held_out = min(VALIDATION_IMAGES, max(1, len(labels) // 10))
        statistics = (self.mean, self.std)
        return DataSplits(
            self.name,
            ImageSet(images[:-held_out], labels[:-held_out], *statistics, self.crop, self.flip),
            ImageSet(images[-held_out:], labels[-held_out:], *statistics),
            ImageSet(test_images, test_labels, *statistics),
            self.classes,
        )


def _tensors(dataset: object) -> tuple[Tensor, Tensor]:
    images = torch.as_tensor(np.asarray(dataset.data))  # type: ignore[attr-defined]
    labels = torch.as_tensor(np.asarray(dataset.targets), dtype=torch.int64)  # type: ignore[attr-defined]
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    return images, labels


MNIST = VisionSet(
    "mnist", (1, 28, 28), "MNIST through torchvision (LeCun et al., 1998).", "MNIST", 10, (0.1307,), (0.3081,)
)
FASHION = VisionSet(
    "fashion",
    (1, 28, 28),
    "Fashion-MNIST through torchvision (Xiao et al., 2017).",
    "FashionMNIST",
    10,
    (0.2860,),
    (0.3530,),
)
CIFAR10 = VisionSet(
    "cifar10",
    (3, 32, 32),
    "CIFAR-10 through torchvision (Krizhevsky, 2009).",
    "CIFAR10",
    10,
    (0.4914, 0.4822, 0.4465),
    (0.2470, 0.2435, 0.2616),
    crop=4,
    flip=True,
)
CIFAR100 = VisionSet(
    "cifar100",
    (3, 32, 32),
    "CIFAR-100 through torchvision (Krizhevsky, 2009).",
    "CIFAR100",
    100,
    (0.5071, 0.4865, 0.4409),
    (0.2673, 0.2564, 0.2762),
    crop=4,
    flip=True,
)
