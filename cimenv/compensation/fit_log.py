"""The log of a bank's fit: how much every block added to the accuracy of its batches, at no extra evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cimenv.core.config import Frozen

Floats = npt.NDArray[np.float64]
LOG = "log/"  # before the names of a log's arrays, beside a bank's
COUNTED = 0.75  # of the steps, the last ones: before, blocks are still those they began as
LEAST = 4  # batches a coefficient
RIDGE = 1.0


class Gains(Frozen):
    """What blocks add to accuracy, on average over what else is placed, from a log.

    Attributes:
        mean: `[sites][options]`.
        error: its standard error, `[sites][options]`.
    """

    mean: tuple[tuple[float, ...], ...]
    error: tuple[tuple[float, ...], ...]

    def of(self, sites: npt.NDArray[np.int64], options: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Return mean and standard error of blocks: `options[k]` (1 is the first) at `sites[k]`."""
        pairs = list(zip(sites.tolist(), (options - 1).tolist(), strict=True))
        return np.array([self.mean[s][o] for s, o in pairs]), np.array([self.error[s][o] for s, o in pairs])


@dataclass(frozen=True, eq=False)
class FitLog:
    """Every batch of a bank's fit: the random placement and the fresh chip it met, training images all.

    Attributes:
        placements: uint8 `[steps, sites]`.
        correct: correct images of every batch, `[steps]`.
        images: of a batch.
    """

    placements: npt.NDArray[np.uint8]
    correct: npt.NDArray[np.int64]
    images: int

    def gains(self, options: tuple[int, ...]) -> Gains | None:
        """Return what every block added, by ridge regression of accuracy on which blocks were placed.

        None where there are too few batches to tell.

        Args:
            options: their number at every site.
        """
        first = int(len(self.correct) * (1 - COUNTED))
        if len(self.correct) - first < LEAST * (1 + sum(options)):
            return None
        placed, accuracy = self.placements[first:], self.correct[first:] / self.images
        blocks = [(s, o) for s, count in enumerate(options) for o in range(1, count + 1)]
        x = np.stack([np.ones(len(placed)), *(placed[:, s] == o for s, o in blocks)], axis=1).astype(np.float64)
        inverse = np.linalg.inv(x.T @ x + RIDGE * np.diag([0.0, *np.ones(len(blocks))]))
        fit = inverse @ (x.T @ accuracy)
        rest = np.square(accuracy - x @ fit).sum() / (len(x) - len(fit))
        error = np.sqrt(np.diag(inverse) * rest)
        return Gains(mean=_by_site(fit[1:], options), error=_by_site(error[1:], options))

    def arrays(self) -> dict[str, Tensor]:
        """Return the log as named tensors."""
        values = {"placements": self.placements, "correct": self.correct, "images": np.array([self.images])}
        return {f"{LOG}{name}": torch.from_numpy(value) for name, value in values.items()}

    @staticmethod
    def taken_from(arrays: dict[str, Tensor]) -> FitLog | None:
        """Take a log out of the tensors it is among, or None where there is none."""
        own: Mapping[str, Tensor] = {name: arrays.pop(name) for name in list(arrays) if name.startswith(LOG)}
        if not own:
            return None
        placements, correct, images = (own[f"{LOG}{name}"].numpy() for name in ("placements", "correct", "images"))
        return FitLog(placements, correct, int(images[0]))


def _by_site(values: Floats, options: tuple[int, ...]) -> tuple[tuple[float, ...], ...]:
    """Return one number per block as `[sites][options]`, to six digits."""
    parts = np.split(values, np.cumsum(options)[:-1])
    return tuple(tuple(float(f"{value:.6g}") for value in part) for part in parts)
