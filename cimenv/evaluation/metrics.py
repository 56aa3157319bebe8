"""Metrics: what one chip is worth, one class each: a function of its outputs and the targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cimenv.core.registry import Registry
from cimenv.evaluation.labels import count_correct

Floats = npt.NDArray[np.float64]


class Metric(ABC):
    """What one chip is worth, from numbers that add up over images; larger is better.

    A metric of your own is used by `metric: mine.py:Mine`, or by its name after `cimenv.register(Mine)`.

    Attributes:
        kind: its name.
        version: bumped when its numbers change.
        share: whether it is a share of the images; then `update` counts, and counts are kept.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    share: ClassVar[bool] = False

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the sums."""
        return torch.int64 if self.share else torch.float64

    @abstractmethod
    def update(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return what a block of images adds, a number on their device.

        Args:
            outputs: `[n, classes]`.
            targets: `[n]`.
        """

    def compute(self, sums: npt.NDArray[np.int64 | np.float64], images: int) -> Floats:
        """Return the metric, from the sums over so many images, of the same shape; default the mean over images."""
        values: Floats = sums / images
        return values


class Accuracy(Metric):
    """The share of images that are classified correctly."""

    kind = "accuracy"
    share = True

    def update(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many images are classified correctly."""
        return count_correct(outputs, targets)


METRICS: Registry[type[Metric]] = Registry(
    "metric",
    Metric,
    {Accuracy.kind: Accuracy},
)


def metric_named(name: str) -> Metric:
    """Return a metric by its name, or the user's own by where it is.

    Raises:
        UnknownNameError: there is none of this name.
    """
    return METRICS.find(name)()
